"""Estimators with scikit-learn's names, parameters and attributes, on fastml's kernels. Needs scikit-learn.

>>> import numpy as np
>>> from fastml.sklearn import GaussianMixture
>>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
>>> GaussianMixture(2, random_state=0).fit(X).means_.round(6).tolist()
[[10.5], [0.5]]
"""

from .adaboost import AdaBoostClassifier, AdaBoostRegressor
from .boosting import BoostingIteration
from .gaussian_mixture import GaussianMixture, Iteration
from .multinomial_mixture import MultinomialIteration, MultinomialMixture

__all__ = [
    "AdaBoostClassifier",
    "AdaBoostRegressor",
    "BoostingIteration",
    "GaussianMixture",
    "Iteration",
    "MultinomialIteration",
    "MultinomialMixture",
]
