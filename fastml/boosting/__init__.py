"""Boosting: weights, losses, trees as the weak learner, and ensembles of them."""

from .ensemble import Ensemble, Round, decision, fit_stumps, fit_trees, rounds, staged_decision
from .trees import Coded, Grown, Learner, Trees, encode

__all__ = [
    "Coded",
    "Ensemble",
    "Grown",
    "Learner",
    "Round",
    "Trees",
    "decision",
    "encode",
    "fit_stumps",
    "fit_trees",
    "rounds",
    "staged_decision",
]
