"""scikit-learn's decision trees and ours: which of theirs our learner covers, and theirs made of ours."""

from collections.abc import Sequence
from functools import cache
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from ..boosting.trees import DEPTH, Trees

__all__ = ["Grower", "covered", "estimators_of"]

CRITERIA = {
    DecisionTreeClassifier: {"gini": "gini", "entropy": "entropy", "log_loss": "entropy"},
    DecisionTreeRegressor: {"squared_error": "squared_error"},
}
"""scikit-learn's names, and ours."""


class Grower(NamedTuple):
    """How our learner grows the trees that a decision tree of scikit-learn's would be."""

    criterion: str
    max_depth: int


def covered(estimator: Any) -> Grower | None:
    """None where it is no tree, or one with other options than a depth of at most 8 and a criterion of `CRITERIA`."""
    kind = type(estimator)
    if kind not in CRITERIA:
        return None
    given, default = estimator.get_params(deep=False), kind().get_params(deep=False)
    max_depth, criterion = given["max_depth"], given["criterion"]
    others = given.keys() - {"max_depth", "criterion", "random_state"}
    if any(type(given[name]) is not type(default[name]) or given[name] != default[name] for name in others):
        return None
    if isinstance(max_depth, bool) or not isinstance(max_depth, Integral) or not 1 <= max_depth <= DEPTH:
        return None
    found = CRITERIA[kind].get(criterion) if isinstance(criterion, str) else None
    return None if found is None else Grower(found, int(max_depth))


def estimators_of(
    trees: Trees, estimator: Any, seeds: Sequence[int], classes: NDArray[Any] | None, *, bootstrapped: bool = False
) -> list[Any]:
    """Fitted copies of a decision tree of scikit-learn's, one for each of ours.

    seeds : the `random_state` of each.
    classes : of a classifier, (K,).
    bootstrapped : weights are how often a row was drawn, and each time counts as a row.
    """
    W = trees.weight()
    impurity = trees.impurity()
    safe = np.where(W > 0, W, 1)
    value = trees.value / safe[..., None] if classes is not None else (trees.value[..., 1] / safe)[..., None]
    count = np.rint(W).astype(np.int64) if bootstrapped else trees.count
    found = []
    for e, seed in enumerate(seeds):
        made = clone(estimator).set_params(random_state=seed)
        made.n_features_in_ = made.max_features_ = trees.n_features
        made.n_outputs_ = 1
        K = 1
        if classes is not None:
            K = len(classes)
            made.classes_, made.n_classes_ = classes, np.intp(K)
        made.tree_ = Tree(trees.n_features, np.array([K], np.intp), 1)
        made.tree_.__setstate__(_state(trees, e, value[e], impurity[e], count[e], W[e]))
        found.append(made)
    return found


def _state(trees: Trees, e: int, value: NDArray, impurity: NDArray, count: NDArray, weight: NDArray) -> dict[str, Any]:
    """What scikit-learn's Tree is unpickled from: the nodes that there are, depth first."""
    depth, P = trees.depth, trees.feature.shape[1]
    exists = np.zeros(2 * P + 1, np.bool_)
    splits = np.zeros(2 * P + 1, np.bool_)
    exists[0] = True
    for level in range(depth):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        splits[nodes] = exists[nodes] & (trees.feature[e, nodes] >= 0)
        exists[nodes.stop : 2 * nodes.stop + 1] = splits[nodes].repeat(2)
    order = _depth_first(depth)
    kept = order[exists[order]]
    number = np.zeros(2 * P + 1, np.int64)
    number[kept] = np.arange(len(kept))
    inner = splits[kept]
    at = np.where(inner, kept, 0)
    nodes = np.zeros(len(kept), NODE_DTYPE)
    nodes["left_child"] = np.where(inner, number[2 * at + 1], -1)
    nodes["right_child"] = np.where(inner, number[2 * at + 2], -1)
    nodes["feature"] = np.where(inner, trees.feature[e, at], -2)
    nodes["threshold"] = np.where(inner, trees.threshold[e, at], -2)
    nodes["missing_go_to_left"] = inner & trees.missing_left[e, at]
    nodes["impurity"], nodes["n_node_samples"] = impurity[kept], count[kept]
    nodes["weighted_n_node_samples"] = weight[kept]
    return {
        "max_depth": (int(kept.max()) + 1).bit_length() - 1,
        "node_count": len(kept),
        "nodes": nodes,
        "values": np.ascontiguousarray(value[kept][:, None]),
    }


@cache
def _depth_first(depth: int) -> NDArray[np.intp]:
    """The nodes of a complete tree, numbered level by level, in the order in which scikit-learn numbers them."""
    found, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if node < 2**depth - 1:
            waiting += [2 * node + 2, 2 * node + 1]
    return np.array(found)
