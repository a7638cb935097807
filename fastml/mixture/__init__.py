"""Mixtures by expectation-maximisation: Gaussian (full, tied, diagonal, spherical) and multinomial.

Functions of arrays; the estimators, with scikit-learn's interface, are in `fastml.sklearn`.

>>> import numpy as np
>>> from fastml import mixture
>>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
>>> weights, means, covariances = np.array([0.5, 0.5]), np.array([[0.0], [9.0]]), np.ones((2, 1, 1))
>>> weights, means, covariances, mean_log_likelihood = mixture.em_step(X, weights, means, covariances)
>>> means.round(6).tolist()
[[0.5], [10.5]]
"""

from .gaussian import (
    COVARIANCE_TYPES,
    Statistics,
    conditional,
    em_step,
    entropy,
    log_density,
    marginal,
    q_function,
    responsibilities,
    sample,
    statistics,
    update,
)
from .multinomial import (
    MultinomialStatistics,
    multinomial_em_step,
    multinomial_log_density,
    multinomial_responsibilities,
    multinomial_statistics,
    multinomial_update,
)

__all__ = [
    "COVARIANCE_TYPES",
    "MultinomialStatistics",
    "Statistics",
    "conditional",
    "em_step",
    "entropy",
    "log_density",
    "marginal",
    "multinomial_em_step",
    "multinomial_log_density",
    "multinomial_responsibilities",
    "multinomial_statistics",
    "multinomial_update",
    "q_function",
    "responsibilities",
    "sample",
    "statistics",
    "update",
]
