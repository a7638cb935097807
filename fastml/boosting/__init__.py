"""Boosting: weights of rows from round to round, the exponential loss and its derivatives, trees and ensembles of them.

Functions of arrays; the estimators, with scikit-learn's interface, are in `fastml.sklearn`.

>>> from fastml import boosting
>>> w, alpha, error = boosting.samme_update([0.25] * 4, [True, False, False, False], n_classes=2)
>>> w.round(3).tolist(), error
([0.5, 0.167, 0.167, 0.167], 0.25)
"""

from .ensemble import Ensemble, decision, fit_stumps, fit_trees, staged_decision
from .losses import (
    custom_objective,
    exponential_gradient,
    exponential_hessian,
    exponential_loss,
    log_exponential_loss,
)
from .trees import Coded, Grown, Learner, Trees, encode
from .weights import (
    gentle_update,
    logit_update,
    r2_update,
    samme_error,
    samme_r_update,
    samme_update,
    samme_update_next,
    trim,
    weighted_median,
    weighted_quantile,
)

__all__ = [
    "Coded",
    "Ensemble",
    "Grown",
    "Learner",
    "Trees",
    "custom_objective",
    "decision",
    "encode",
    "exponential_gradient",
    "exponential_hessian",
    "exponential_loss",
    "fit_stumps",
    "fit_trees",
    "gentle_update",
    "log_exponential_loss",
    "logit_update",
    "r2_update",
    "samme_error",
    "samme_r_update",
    "samme_update",
    "samme_update_next",
    "staged_decision",
    "trim",
    "weighted_median",
    "weighted_quantile",
]
