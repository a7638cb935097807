"""The interface to trees: what `encode` and `Learner` take and refuse, what `Trees` says."""

import numpy as np
import pytest
from cells import on
from trees import bitwise, draw, ensemble, every_criterion, features

from fastml.boosting import Coded, Learner, Trees, encode

FAMILIES = ("tree",)
X = np.array([[0.5, 2.0], [0.1, 1.0], [0.7, 3.0]])

# -------------------------------------------------------------------------------------------------------------- coding


def test_rows_are_in_the_order_of_their_classes():
    coded = encode(X, [2, 0, 2], 4)
    assert coded.rows.tolist() == [1, 0, 2] and coded.classes.tolist() == [0, 1, 1, 3, 3]
    assert (coded.N, coded.D, coded.K) == (3, 2, 4) and not coded.missing
    assert coded.codes.values.tolist() == [[0.1, 0.5, 0.7], [1, 2, 3]]
    assert coded.codes.order.tolist() == [[0, 1, 2]] * 2 and coded.codes.codes.tolist() == [[0, 1, 2]] * 2
    plain = encode(X)
    assert plain.rows.tolist() == [0, 1, 2] and plain.classes is None and plain.K == 0
    assert encode(X, [1, 1, 0]).K == 2 and isinstance(plain, Coded)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8", "<f4", ">f4", "int32", "uint8", "bool"])
def test_any_layout_and_dtype(column, dtype):
    """Lists and integers are float64; strides, byte order and what is read-only do not matter."""
    Y = np.floor(features("continuous", 40, 3, np.random.default_rng(0)) * 4)
    Y = (Y > 0).astype(dtype) if dtype == "bool" else np.abs(Y).astype(dtype)
    kept = {"f": Y.dtype.newbyteorder("=")}.get(Y.dtype.kind, np.dtype("float64"))
    want = encode(np.ascontiguousarray(Y, kept))
    wide = np.zeros((80, 9), dtype)
    wide[::2, ::3] = Y
    frozen = Y.copy()
    frozen.flags.writeable = False
    for array in (
        Y,
        wide[::2, ::3],
        np.asfortranarray(Y),
        frozen,
        Y[::-1][::-1],
        *([Y.tolist()] if kept == "f8" else []),
    ):
        got = encode(array)
        for one, other in zip(got.codes, want.codes, strict=True):
            assert one.dtype == other.dtype and np.array_equal(one, other)
    assert want.codes.values.dtype == kept


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"X": None}, TypeError, r"X: expected an array, got None"),
        ({"X": X.astype("float16")}, TypeError, r"X: expected float32 or float64, got float16"),
        ({"X": X.astype(complex)}, TypeError, r"X: expected float32 or float64, got complex128"),
        ({"X": X.astype(str)}, TypeError, r"X: expected float32 or float64, got <U32"),
        ({"X": np.ma.masked_array(X)}, TypeError, r"X: expected an array of float32 or float64, got a masked array"),
        ({"X": X[0]}, ValueError, r"X: expected shape \(N, D\), got \(2,\), which has 1 axes"),
        ({"X": X[:, :0]}, ValueError, r"X: expected D of at least 1, got 0"),
        ({"X": X[:0]}, ValueError, r"X: expected 1 ≤ N < 2\^31 rows, got 0"),
        ({"X": X * [1, np.inf]}, ValueError, r"X: expected finite numbers or NaN, got an infinity"),
        ({"X": X * [1, -np.inf]}, ValueError, r"X: expected finite numbers or NaN, got an infinity"),
        ({"X": X * [np.nan, np.inf]}, ValueError, r"X: expected finite numbers or NaN, got an infinity"),
        ({"X": X * [1, np.inf], "missing": "error"}, ValueError, r"X: expected finite numbers, got an infinity"),
        (
            {"X": X * [1, np.nan], "missing": "error"},
            ValueError,
            r"X: expected finite numbers, got NaN; missing='learn' takes it",
        ),
        ({"missing": "drop"}, ValueError, r"missing: expected 'learn' or 'error', got 'drop'"),
        ({"y": [0.0, 1, 2]}, TypeError, r"y: expected integers, got float64"),
        ({"y": [True, False, True]}, TypeError, r"y: expected integers, got bool"),
        ({"y": np.ma.masked_array([0, 1, 2])}, TypeError, r"y: expected integers, got a masked array"),
        ({"y": [0, 1]}, ValueError, r"y: expected shape \(N,\) = \(3,\), got \(2,\)"),
        ({"y": [[0], [1], [2]]}, ValueError, r"y: expected shape \(N,\) = \(3,\), got \(3, 1\)"),
        ({"y": [0, -1, 2]}, ValueError, r"y: expected classes from 0 on, got -1"),
        ({"y": [0, -1, 2], "n_classes": 3}, ValueError, r"y: expected classes from 0 on below K = 3, got -1"),
        ({"y": [0, 1, 2], "n_classes": 2}, ValueError, r"y: expected classes from 0 on below K = 2, got 2"),
        ({"y": [0, 1, 1], "n_classes": 0}, ValueError, r"n_classes: expected an integer of at least 1, got 0"),
        ({"y": [0, 1, 1], "n_classes": 2.0}, TypeError, r"n_classes: expected an integer of at least 1, got 2.0"),
        ({"y": [0, 1, 1], "n_classes": True}, TypeError, r"n_classes: expected an integer of at least 1, got True"),
    ],
)  # fmt: skip
def test_errors_of_encode(column, arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        encode(**{"X": X, **arguments})


def test_missing_is_taken_or_refused(column):
    holes = X.copy()
    holes[1, 1] = np.nan
    assert encode(holes).missing and not encode(X, missing="error").missing
    assert encode(np.full((3, 2), np.nan)).codes.bins.tolist() == [0, 0]


# ------------------------------------------------------------------------------------------------------------- growing


@pytest.mark.parametrize(
    "coded, arguments, error, message",
    [
        (encode(X, [0, 1, 0]), {"criterion": "log_loss"}, ValueError, "criterion: expected one of 'gini', .*"),
        (encode(X, [0, 1, 0]), {"criterion": None}, ValueError, "criterion: expected one of .*, got None"),
        (
            encode(X, [0, 1, 0]),
            {"criterion": "squared_error"},
            ValueError,
            "criterion: 'squared_error' needs rows coded with a target, and no classes",
        ),
        (encode(X), {"criterion": "gini"}, ValueError, "criterion: 'gini' needs rows coded with classes"),
        (encode(X, [0, 1, 0]), {"max_depth": 0}, ValueError, "max_depth: expected an integer from 1 to 8, got 0"),
        (encode(X, [0, 1, 0]), {"max_depth": 9}, ValueError, "max_depth: expected an integer from 1 to 8, got 9"),
        (encode(X, [0, 1, 0]), {"max_depth": 1.0}, TypeError, "max_depth: expected an integer from 1 to 8, got 1.0"),
        (encode(X, [0, 1, 0]), {"max_depth": None}, TypeError, "max_depth: expected an integer from 1 to 8, got None"),
        (encode(X, [0, 1, 0]), {"max_depth": True}, TypeError, "max_depth: expected an integer from 1 to 8, got True"),
    ],
)  # fmt: skip
def test_errors_of_learner(coded, arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        Learner(coded, **arguments)


@every_criterion
def test_a_learner_grows_many_trees(column, criterion):
    """Each as one of its own would; splits, values and counts stay, leaf and incorrect are the last tree's."""
    problem = draw(200, 3, 3, criterion=criterion, depth=2)
    learner = Learner(problem.coded, criterion, 2)
    target = None if problem.K else problem.y
    weights = [problem.weight, problem.weight[::-1].copy(), np.ones(200)]
    alone = [problem.having(weight=w).grow(problem.coded) for w in weights]
    grown = [learner.grow(w, target) for w in weights]
    for one, want in zip(grown, alone, strict=True):
        for name in ("feature", "threshold", "missing_left", "value", "count"):
            assert getattr(one, name).tobytes() == getattr(want, name).tobytes()
        assert one.leaf is grown[-1].leaf
    bitwise(grown[-1], alone[-1])


# --------------------------------------------------------------------------------------------------------------- trees


def grown_trees(problem, E):
    rng = np.random.default_rng(0)
    weights = [problem.weight * rng.uniform(0.2, 1, len(problem.X)) for _ in range(E)]
    trees = [problem.having(weight=w).grow(problem.coded) for w in weights]
    return Trees.stacked(trees, problem.criterion, problem.X.shape[1])


@every_criterion
def test_trees_are_stacked_and_cut(column, criterion):
    problem = draw(150, 3, 4, criterion=criterion, depth=3)
    trees = grown_trees(problem, 5)
    assert len(trees) == 5 and trees.depth == 3 and trees.n_features == 3 and trees.criterion == criterion
    assert trees.feature.shape == (5, 7) and trees.value.shape == (5, 15, problem.K or 3)
    np.testing.assert_array_equal(trees.leaves, trees.value[:, 7:])
    some = trees[1:3]
    for name in ("feature", "threshold", "missing_left", "value", "count"):
        np.testing.assert_array_equal(getattr(some, name), getattr(trees, name)[1:3])
    assert (some.criterion, some.n_features, len(trees[1:1])) == (criterion, 3, 0)
    leaf = trees.apply(problem.X)
    assert leaf.dtype == np.uint8 and leaf.shape == (5, 150)
    np.testing.assert_array_equal(trees[1:3].apply(problem.X), leaf[1:3])
    assert trees[1:1].apply(problem.X).shape == (0, 150)
    assert not trees[1:1].scores(problem.X, np.empty((0, 8, 2)), 2).any()


def test_impurity_and_weight_by_hand():
    """Two nodes of three: weights 1, 1, 2 of the classes, and a pure one; y of 1, 1, 3, 3."""
    parts = np.zeros((1, 1), np.intp), np.zeros((1, 1)), np.ones((1, 1), bool)
    count = np.array([[5, 4, 1]])
    value = np.array([[[1.0, 1, 5], [1, 1, 2], [0, 0, 3]]])
    for criterion, want in (("gini", 1 - (1 + 1 + 4) / 16), ("entropy", 1.5), ("error", 0.5)):
        trees = Trees(*parts, value, count, criterion, 1)
        np.testing.assert_allclose(trees.impurity()[0, 1:], [want, 0], rtol=1e-15)
        assert trees.weight().tolist() == [[7, 4, 3]]
    target = Trees(*parts, np.array([[[4.0, 8, 20], [2, 2, 2], [2, 6, 18]]]), count, "squared_error", 1)
    assert target.impurity().tolist() == [[1, 0, 0]] and target.weight().tolist() == [[4, 2, 2]]
    assert target.importances().tolist() == [[1]]
    empty = Trees(*parts, np.zeros((1, 3, 3)), np.zeros((1, 3), int), "gini", 2)
    assert not empty.impurity().any() and empty.importances().tolist() == [[0, 0]]


@every_criterion
def test_splits_never_raise_the_criterion(column, criterion):
    problem = draw(400, 4, 3, kind="missing", criterion=criterion, depth=4)
    trees = grown_trees(problem, 3)
    W, impurity = trees.weight(), trees.impurity()
    lost = W * impurity
    assert (lost[:, :15] - lost[:, 1::2] - lost[:, 2::2] >= -1e-12 * W[:, :1]).all()
    importances = trees.importances()
    assert importances.shape == (3, 4)
    np.testing.assert_allclose(importances.sum(axis=1), 1, rtol=1e-12)
    none = importances[~(trees.feature[:, :, None] == np.arange(4)).any(axis=1)]
    assert not none.any()


def test_scores_are_what_leaves_say(column):
    Y = features("missing", 60, 3, np.random.default_rng(0))
    for columns in (True, False):
        trees, leaf_value, column_of = ensemble(6, 2, 3, 4, columns=columns, X=Y)
        leaf, want = trees.apply(Y), np.zeros((60, 4))
        for e in range(6):
            if columns:
                want[np.arange(60), column_of[e, leaf[e]]] += leaf_value[e, leaf[e]]
            else:
                want += leaf_value[e, leaf[e]]
        assert trees.scores(Y, leaf_value, 4, column_of).tobytes() == want.tobytes()
        for array in (np.asfortranarray(Y), Y.repeat(2, axis=0)[::2], Y.astype(">f8")):
            assert trees.scores(array, leaf_value, 4, column_of).tobytes() == want.tobytes()


@pytest.mark.parametrize(
    "array, error, message",
    [
        (None, TypeError, "X: expected an array, got None"),
        (X[0], ValueError, r"X: expected shape \(N, D\), got \(2,\), which has 1 axes"),
        (X[:, :1], ValueError, r"X: expected shape \(N, D\) with D = 2 \(from the trees\), got \(3, 1\)"),
        (X.astype("float16"), TypeError, "X: expected float32 or float64, got float16"),
    ],
)
def test_errors_of_trees(array, error, message):
    with on(("reference", None)):
        trees = Trees.stacked([Learner(encode(X, [0, 1, 0])).grow(np.ones(3))], "gini", 2)
        for call in (trees.apply, lambda rows: trees.scores(rows, np.zeros((1, 2, 1)), 1)):
            with pytest.raises(error, match=f"^{message}$"):
                call(array)


CODED, PLAIN = encode(X, [0, 1, 0]), encode(X)
ONES = np.ones(3)


@pytest.mark.parametrize(
    "coded, arguments, error, message",
    [
        (CODED, ([1.0] * 3,), TypeError, "sample_weight: expected an array of float64, got list"),
        (CODED, (np.ones(3, "float32"),), TypeError, "sample_weight: expected an array of float64, got float32"),
        (CODED, (np.ones(2),), ValueError, r"sample_weight: .* with N = 3 \(from the coded rows\), got \(2,\)"),
        (CODED, (np.ones(6)[::2],), ValueError, "sample_weight: expected a C-contiguous, aligned array"),
        (CODED, (ONES, ONES), TypeError, "target: expected None beside rows coded with classes, got an array"),
        (PLAIN, (ONES,), TypeError, "target: expected an array of float64, got NoneType"),
        (PLAIN, (ONES, np.ones(4)), ValueError, r"target: .* with N = 3 \(from the coded rows\), got \(4,\)"),
        (CODED, (ONES, None, np.arange(3)), TypeError, "rows: expected an array of int32, got int64"),
        (CODED, (ONES, None, np.zeros((1, 1), "int32")), ValueError, r"rows: expected shape \(N,\), got \(1, 1\)"),
        *(
            (CODED, (ONES, None, np.array(rows, "int32")), ValueError, "rows: expected rising numbers from 0 to N - 1")
            for rows in ([-1, 2], [0, 3], [1, 0], [1, 1])
        ),
    ],
)  # fmt: skip
def test_errors_of_growing(coded, arguments, error, message):
    """Kernels read what they are told: what does not fit never reaches them."""
    learner = Learner(coded, "gini" if coded.K else "squared_error")
    with pytest.raises(error, match=f"^{message}"):
        learner.grow(*arguments)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda t: t.scores(X, np.ones((2, 2, 4)), 3), ValueError, r"leaf_value: .* with M = 3 \(from n_columns\)"),
        (lambda t: t.scores(X, np.ones((1, 2, 3)), 3), ValueError, r"leaf_value: .* with E = 2 \(from the trees\)"),
        (lambda t: t.scores(X, np.ones((2, 1)), 3, np.ones((2, 2), int)), ValueError, "leaf_value: .* with L = 2"),
        (lambda t: t.scores(X, np.ones((2, 2)), 3, np.ones((2, 3), int)), ValueError, "column: .* with L = 2"),
        (lambda t: t.scores(X, np.ones((2, 2)), 3, np.full((2, 2), 3)), ValueError, "column: .* 0 to 2, got 3"),
        (lambda t: t.scores(X, np.ones((2, 2)), 3, np.full((2, 2), -1)), ValueError, "column: .* 0 to 2, got -1"),
        (lambda t: t.scores(X, np.ones((2, 2, 3)), 3, labels=ONES), TypeError, "labels: .* of intp, got float64"),
        (lambda t: t.scores(X, np.ones((2, 2, 3)), 3, labels=np.ones(2, int)), ValueError, "labels: .* with N = 3"),
        (lambda t: t.quantile(X, np.ones((2, 3)), ONES[:2]), ValueError, "leaf_value: .* with L = 2"),
        (lambda t: t.quantile(X, np.ones((2, 2)), ONES), ValueError, "weights: .* with E = 2"),
        (lambda t: t.quantile(X, np.ones((2, 2)), -ONES[:2]), ValueError, "weights: expected finite numbers of at le"),
        (lambda t: t.quantile(X, np.ones((2, 2)), ONES[:2] * np.nan), ValueError, "weights: expected finite numbers"),
        (lambda t: t.quantile(X, np.ones((2, 2)), ONES[:2], 1.5), ValueError, "q: expected a number from 0 to 1, got"),
        (lambda t: t[2:].quantile(X, np.ones((0, 2)), ONES[:0]), ValueError, "weights: .* one at least"),
    ],
)  # fmt: skip
def test_errors_of_what_leaves_say(call, error, message):
    with on(("reference", None)):
        trees = Trees.stacked([Learner(CODED).grow(ONES) for _ in range(2)], "gini", 2)
    with pytest.raises(error, match=f"^{message}"):
        call(trees)
