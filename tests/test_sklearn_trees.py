"""Our trees beside scikit-learn's, where no other split is as good as the best: the same features and thresholds."""

import numpy as np
import pytest
from trees import check, draw

from fastml.boosting import Trees

tree = pytest.importorskip("sklearn.tree")

FAMILIES = ("tree",)
LEAD = 1e-9


def theirs(problem):
    common = {"max_depth": problem.depth, "random_state": 0}
    if problem.K:
        return tree.DecisionTreeClassifier(criterion=problem.criterion, **common)
    return tree.DecisionTreeRegressor(**common)


def walk(ours, theirs, i, node, depth):
    """Assert that our node i is their `node`, and so on below."""
    inner = theirs.children_left[node] >= 0
    assert ours.count[i] == theirs.n_node_samples[node]
    if i >= len(ours.feature):
        assert not inner
        return 1
    if not inner:  # a leaf of theirs: pure, or of a single row
        assert ours.feature[i] == -1
        return 1
    assert ours.feature[i] == theirs.feature[node]
    np.testing.assert_allclose(ours.threshold[i], theirs.threshold[node], rtol=1e-12, atol=1e-12)
    assert ours.missing_left[i] == bool(theirs.missing_go_to_left[node])
    children = (theirs.children_left[node], theirs.children_right[node])
    return 1 + sum(walk(ours, theirs, 2 * i + 1 + side, child, depth) for side, child in enumerate(children))


@pytest.mark.parametrize("criterion", ["gini", "entropy", "squared_error"])
@pytest.mark.parametrize("depth", [1, 3])
def test_same_trees(cell, criterion, depth):
    """float32, which scikit-learn casts to; weights random, some 0; values missing or not."""
    compared = 0
    for seed in range(8):
        problem = draw(
            700 + 100 * seed, 2 + seed % 4, 2 + seed % 5, kind=("continuous", "missing")[seed % 2], criterion=criterion,
            depth=depth, dtype="float32", seed=seed, weighted=("random", "zeros")[seed // 2 % 2],
        )  # fmt: skip
        grown = problem.grow()
        if check(grown, problem) < LEAD:
            continue
        used = problem.used  # scikit-learn counts rows of weight 0
        model = theirs(problem).fit(problem.X[used], problem.y[used], sample_weight=problem.weight[used])
        assert walk(grown, model.tree_, 0, 0, depth) == model.tree_.node_count
        trees = Trees.stacked([grown], criterion, problem.X.shape[1])
        np.testing.assert_allclose(trees.importances()[0], model.feature_importances_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(trees.impurity()[0, 0], model.tree_.impurity[0], rtol=1e-9)
        np.testing.assert_allclose(trees.weight()[0, 0], model.tree_.weighted_n_node_samples[0], rtol=1e-12)
        if problem.K:
            wrong = model.predict(problem.X) != problem.y
            np.testing.assert_array_equal(grown.incorrect, wrong)
        else:
            leaves = trees.leaves[0][grown.leaf]
            np.testing.assert_allclose(leaves[:, 1] / leaves[:, 0], model.predict(problem.X), rtol=1e-9)
        compared += 1
    assert compared >= 4


def test_equal_values_are_told_apart_alike(cell):
    """Integers, and values within a tie of each other: the same thresholds where one split is best."""
    compared = 0
    for seed in range(12):
        problem = draw(900, 2, 3, kind=("integers", "close", "repeats")[seed % 3], depth=2, dtype="float32", seed=seed)
        grown = problem.grow()
        if check(grown, problem) < LEAD:
            continue
        model = theirs(problem).fit(problem.X, problem.y, sample_weight=problem.weight)
        walk(grown, model.tree_, 0, 0, 2)
        compared += 1
    assert compared >= 6
