"""Boosting: weights, losses, and trees as the weak learner."""

from .trees import Coded, Grown, Learner, Trees, encode

__all__ = ["Coded", "Grown", "Learner", "Trees", "encode"]
