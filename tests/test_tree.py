"""Trees: codes, growing, leaves and scores, against the oracle and the reference."""

import numpy as np
import oracle
import pytest
from cells import on
from compare import close
from trees import (
    CLASSES,
    FEATURES,
    NEAR,
    WEIGHTS,
    both_dtypes,
    check,
    draw,
    ensemble,
    every_criterion,
    features,
    kernel,
    same,
)

from fastml.boosting import Learner, encode, weighted_quantile
from fastml.kernels.table import BINS, TIE

FAMILIES = ("tree",)
REFERENCE = ("reference", None)

# --------------------------------------------------------------------------------------------------------------- codes


def tie_of(dtype):
    return float(np.dtype(dtype).type(TIE))


@both_dtypes
@pytest.mark.parametrize("kind", FEATURES)
def test_codes_against_the_oracle(kind, dtype):
    with on(REFERENCE):
        for N in (1, 2, 3, 40, 300, 700):
            X = features(kind, N, 2, np.random.default_rng(N)).astype(dtype)
            codes = encode(X).codes
            for d in range(2):
                column = X[:, d]
                # The oracle adds in float64: what may be split is decided in the dtype of X.
                if dtype == "float32" and kind in ("close", "far", "offset"):
                    continue
                missing = np.isnan(column).any()
                want = oracle.tree_codes(column.tolist(), tie_of(dtype), BINS - bool(missing))
                bins = codes.bins[d]
                for got, right in zip(
                    (codes.values[d], codes.order[d], codes.rank[d], codes.codes[d], codes.starts[d, : bins + 1]),
                    want, strict=True,
                ):  # fmt: skip
                    np.testing.assert_array_equal(got, right, err_msg=f"{kind} N={N}")


SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 511, 513, 1025, 3000)


@both_dtypes
@pytest.mark.parametrize("kind", FEATURES)
def test_codes(cell, kind, dtype):
    """The contract of codes, and every number as the reference has it."""
    for n, N in enumerate(SIZES):
        rng = np.random.default_rng(N)
        X = features(kind, N, 1 + n % 4, rng).astype(dtype)
        y = rng.integers(0, 3, N) if n % 2 else None
        coded = encode(X, y, 3 if n % 2 else None)
        with on(REFERENCE):
            want = encode(X, y, 3 if n % 2 else None)
        for name, got, right in zip(coded.codes._fields, coded.codes, want.codes, strict=True):
            assert got.dtype == right.dtype, name
            np.testing.assert_array_equal(got, right, err_msg=f"{kind} N={N} {name}")
        assert coded.missing == bool(np.isnan(X).any())
        check_codes(coded, X)


def check_codes(coded, X):
    values, order, rank, codes, starts, bins = coded.codes
    X = X[coded.rows]
    N = len(X)
    for d in range(X.shape[1]):
        n = N - np.isnan(X[:, d]).sum()
        assert (np.sort(order[d]) == np.arange(N)).all() and (order[d, rank[d]] == np.arange(N)).all()
        np.testing.assert_array_equal(values[d], X[order[d], d])
        assert (values[d, 1:n] >= values[d, : max(n, 1) - 1]).all() and np.isnan(values[d, n:]).all()
        equal = values[d, 1:n] == values[d, : max(n, 1) - 1]
        assert (np.diff(order[d, :n])[equal] > 0).all() and (np.diff(order[d, n:]) > 0).all()
        assert starts[d, 0] == 0 and starts[d, bins[d]] == n and (np.diff(starts[d, : bins[d] + 1]) > 0).all()
        assert bins[d] + (n < N) <= BINS
        inner = starts[d, 1 : max(bins[d], 1)]
        assert (values[d, inner] > values[d, inner - 1] + values.dtype.type(TIE)).all()
        np.testing.assert_array_equal(
            codes[d, order[d]], np.searchsorted(starts[d, 1 : bins[d] + 1], np.arange(N), "right")
        )


@both_dtypes
def test_bins_are_about_equal(cell, dtype):
    """Without ties none has more than twice its share; with no more than 256 values each has its own."""
    for N in (100, 256, 257, 1000, 5000):
        X = np.random.default_rng(N).permutation(N)[:, None].astype(dtype)
        codes = encode(X).codes
        assert np.diff(codes.starts[0, : codes.bins[0] + 1]).max() <= max(1, 2 * N / BINS + 1)
        assert codes.bins[0] == min(N, BINS)
    few = encode(np.random.default_rng(0).integers(0, 200, (5000, 1)).astype(dtype)).codes
    assert few.bins[0] == 200


@both_dtypes
def test_codes_of_what_the_interface_refuses(cell, dtype):
    """The kernel sorts infinities too: they are found in what it writes."""
    for x in ([np.inf, 1, -np.inf, 2], [np.inf] * 3, [-np.inf, np.nan, 0], [np.nan] * 4, [np.inf, np.nan, -np.inf]):
        for value in (x, x * 400):
            with pytest.raises(ValueError, match="infinity") if np.isinf(x).any() else on(REFERENCE):
                encode(np.array(value, dtype)[:, None])


# ------------------------------------------------------------------------------------------------------------- growing


def small_problems(criterion, dtype):
    for seed, kind in enumerate(FEATURES):
        if dtype == "float32" and kind in ("close", "far", "offset"):
            continue  # the oracle adds TIE in float64
        for weighted in WEIGHTS:
            for n, N in enumerate((1, 2, 3, 5, 12, 17)):
                yield draw(
                    N, 1 + n % 3, 1 + (seed + n) % 3, kind=kind, weighted=weighted, criterion=criterion,
                    depth=1 + n % 3, dtype=dtype, seed=seed, part=n % 2 == 1,
                    classes=("even", "one", "empty")[(seed + n) % 3],
                )  # fmt: skip


@every_criterion
@both_dtypes
def test_reference_against_the_oracle(criterion, dtype):
    with on(REFERENCE):
        for problem in small_problems(criterion, dtype):
            grown = problem.grow()
            got = [None if array is None else array.tolist() for array in grown]
            right = oracle.tree(
                problem.X.tolist(), problem.y.tolist(), problem.weight.tolist(), problem.K, criterion, problem.depth,
                set(np.flatnonzero(problem.used).tolist()), tie_of(dtype), NEAR, list(zip(*got[:3], strict=True)),
            )  # fmt: skip
            for name, one, other in zip(grown._fields, got, right, strict=True):
                if name == "value":
                    close(np.array(one), np.array(other), tolerance=NEAR, dtype="float64", name=f"{problem}: value")
                elif not (name == "incorrect" and criterion != "squared_error" and tied(grown.value)):
                    assert one == other, f"{problem}: {name}"
            check(grown, problem)


def tied(value):
    """Whether two classes of a node have the same weight but for rounding: the first of them is then anyone's."""
    if value.shape[1] == 1:
        return False
    ranked = np.sort(value, axis=1)
    return ((ranked[:, -1] - ranked[:, -2] <= NEAR * ranked[:, -1]) & (ranked[:, -1] > 0)).any()


def test_reference_leaves_and_scores_against_the_oracle():
    with on(REFERENCE):
        X = features("missing", 30, 3, np.random.default_rng(0))
        for depth in (1, 2, 3):
            trees, leaf_value, column = ensemble(4, depth, 3, 5, columns=True, X=X)
            leaf = trees.apply(X)
            parts = (trees.feature.tolist(), trees.threshold.tolist(), trees.missing_left.tolist())
            want = [[oracle.tree_leaf(x, *tree) for x in X.tolist()] for tree in zip(*parts, strict=True)]
            np.testing.assert_array_equal(leaf, want)
            scores = np.zeros((30, 5))
            for i in range(30):
                for e in range(4):
                    scores[i, column[e, want[e][i]]] += leaf_value[e, want[e][i]]
            np.testing.assert_array_equal(trees.scores(X, leaf_value, 5, column), scores)


def grid(criterion, dtype):
    """N straddles vectors, blocks and bins; everything else in turn, at unequal steps."""
    D, K, depths = (1, 2, 3, 4, 5, 8, 9), (1, 2, 3, 5, 8, 9, 12), (1, 2, 3, 4, 5, 6, 7, 8)
    n = 0
    for N in SIZES:
        for _ in range(4 if N < 500 else 2):
            yield draw(
                N, D[n % 7], K[n * 3 % 7], kind=FEATURES[n % 10], weighted=WEIGHTS[n // 2 % 4], criterion=criterion,
                depth=depths[(n * 3 + n // 8) % 8] if N < 1000 else 1 + n % 4, dtype=dtype, seed=n, part=n % 3 == 2,
                signal=(1, 0, 100)[n // 3 % 3], classes=("even", "one", "empty")[n // 5 % 3],
            )  # fmt: skip
            n += 1


@every_criterion
@both_dtypes
def test_grow(cell, criterion, dtype):
    for problem in grid(criterion, dtype):
        check(problem.grow(), problem)


@every_criterion
@both_dtypes
@pytest.mark.parametrize("kind", FEATURES)
def test_kinds_of_features(cell, kind, criterion, dtype):
    for n, weighted in enumerate(WEIGHTS):
        problem = draw(
            600, 3, (2, 4, 9)[n % 3], kind=kind, weighted=weighted, criterion=criterion, depth=1 + n, dtype=dtype,
            seed=7 + n, part=n == 1,
        )  # fmt: skip
        check(problem.grow(), problem)


@every_criterion
@both_dtypes
def test_unequal_splits_leave_no_choice(cell, criterion, dtype):
    """Where the best split leads by more than rounding, the tree is the reference's."""
    alike = 0
    for seed in range(12):
        problem = draw(
            500 + 300 * (seed % 3), 2 + seed % 4, 2 + seed % 5, criterion=criterion, dtype=dtype, depth=1 + seed % 2,
            seed=seed, kind=("continuous", "missing", "offset")[seed % 3], part=seed % 4 == 3,
            weighted=("random", "zeros", "skewed")[seed // 2 % 3],
        )  # fmt: skip
        grown = problem.grow()
        if check(grown, problem) > 1e-9:
            with on(REFERENCE):
                same(grown, problem.grow(problem.coded), str(problem))
            alike += 1
    assert alike >= (8 if criterion != "error" else 4)  # many splits leave the same weight wrong


@pytest.mark.parametrize("criterion", CLASSES)
def test_many_classes(cell, criterion):
    for K in (16, 17, 40, 100):
        problem = draw(700, 2, K, criterion=criterion, depth=2, dtype="float32")
        check(problem.grow(), problem)


@both_dtypes
def test_what_can_be_separated_is(cell, dtype):
    """One split of a feature among others that know nothing, two classes; then two splits, three classes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 5)).astype(dtype)
    for criterion in CLASSES:
        for K, depth in ((2, 1), (3, 2)):
            y = np.searchsorted([-0.3, 0.6][: K - 1], X[:, 3])
            order = y.argsort(kind="stable")
            problem = draw(400, 5, K, criterion=criterion, depth=depth).having(X=X[order], y=y[order])
            grown = problem.grow()
            check(grown, problem)
            if criterion != "error":  # two of three classes are worth as much to it wherever the third goes
                assert grown.feature[0] == 3 and not grown.incorrect.any()


def test_of_equal_splits_the_first(cell):
    """A feature that is there twice splits in the first place. So does one that is mirrored, and the lower of two
    thresholds, where weights are 1 and all sums exact.
    """
    for criterion in ("gini", "entropy", "error", "squared_error"):
        problem = draw(300, 3, 3, criterion=criterion, depth=2, weighted="equal")
        twice = problem.having(X=np.ascontiguousarray(np.concatenate([problem.X, problem.X], axis=1)))
        assert (twice.grow().feature < 3).all()
    for criterion in ("gini", "error"):
        problem = draw(300, 3, 3, criterion=criterion, depth=1).having(weight=np.ones(300))
        twice = problem.having(X=np.ascontiguousarray(np.concatenate([problem.X, -problem.X], axis=1)))
        assert (twice.grow().feature < 3).all()
    for n in (1, 5, 100):  # rows of the first class at either end
        x = np.arange(300.0)
        y = ((x >= n) & (x < 300 - n)).astype(int)
        order = y.argsort(kind="stable")
        ends = draw(300, 1, 2, depth=1).having(X=x[order, None], y=y[order], weight=np.ones(300))
        assert ends.grow().threshold[0] == n - 0.5


# -------------------------------------------------------------------------------------------------- leaves and scores


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_classes_that_weigh_the_same_the_first(cell, order):
    """However their weights are added up: here the same numbers, in another order."""
    orders = np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.2, 0.1])
    assert np.add.accumulate(orders[0])[-1] != np.add.accumulate(orders[1])[-1]  # not to the last digit
    weight = np.concatenate([orders[k] for k in order])
    X, y = np.concatenate([np.zeros(6), np.ones(8)])[:, None], np.repeat([0, 1, 2], [3, 3, 8])
    for depth in (1, 3):
        grown = Learner(encode(X, y), "gini", depth).grow(np.concatenate([weight, np.ones(8)]))
        assert grown.value[1, 0] == grown.value[1, 1] == pytest.approx(0.6, rel=1e-12)
        assert not grown.incorrect[:3].any() and grown.incorrect[3:6].all()


@both_dtypes
def test_leaves(cell, dtype):
    for n, N in enumerate((1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 257, 1025)):
        for depth in (1, 2, 3, 5, 8):
            D, E = 1 + n % 9, (1, 2, 3, 8, 17)[n % 5]
            X = features(("continuous", "missing", "integers")[n % 3], N, D, np.random.default_rng(n)).astype(dtype)
            trees, *_ = ensemble(E, depth, D, 1, columns=True, X=X, seed=n)
            leaf = trees.apply(X)
            with on(REFERENCE):
                np.testing.assert_array_equal(leaf, trees.apply(X), err_msg=f"N={N} depth={depth}")


@both_dtypes
@pytest.mark.parametrize("columns", [True, False], ids=["column", "row"])
def test_scores(cell, columns, dtype):
    """To the bit: values are added one tree after the other."""
    for n, N in enumerate((1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 257, 1025)):
        for depth in (1, 2, 3, 8):
            D, E, M = 1 + n % 9, (1, 2, 3, 8, 17)[n % 5], (1, 2, 3, 5, 8, 9, 12)[n % 7]
            X = features(("continuous", "missing", "integers")[n % 3], N, D, np.random.default_rng(n)).astype(dtype)
            trees, leaf_value, column = ensemble(E, depth, D, M, columns=columns, X=X, seed=n)
            got = trees.scores(X, leaf_value, M, column)
            with on(REFERENCE):
                want = trees.scores(X, leaf_value, M, column)
            assert got.tobytes() == want.tobytes(), f"N={N} depth={depth}"


@both_dtypes
def test_scores_are_added(cell, dtype):
    X = features("continuous", 50, 3, np.random.default_rng(0)).astype(dtype)
    for columns in (True, False):
        trees, leaf_value, column = ensemble(20, 2, 3, 4, columns=columns, X=X)
        want = trees.scores(X, leaf_value, 4, column)
        scores = np.zeros((50, 4))
        values = leaf_value[:, :, None] if columns else leaf_value
        for part in (slice(0, 7), slice(7, 8), slice(8, 20)):
            some = trees[part]
            kernel(
                "tree_scores", X, some.feature, some.threshold, some.missing_left, column[part] if columns else None,
                values[part], scores, None,
            )  # fmt: skip
        assert scores.tobytes() == want.tobytes()


@both_dtypes
def test_labels(cell, dtype):
    """Of the largest score, the first of equal ones."""
    X = features("integers", 400, 3, np.random.default_rng(0)).astype(dtype)
    trees, leaf_value, column = ensemble(9, 2, 3, 5, columns=True, X=X)
    for value in (leaf_value, np.ones_like(leaf_value)):
        labels = np.full(400, 99, np.intp)
        scores = trees.scores(X, value, 5, column, labels=labels)
        np.testing.assert_array_equal(labels, scores.argmax(axis=1))
    best = np.sort(scores, axis=1)
    assert (best[:, -1] == best[:, -2]).any()


@both_dtypes
def test_quantiles(cell, dtype):
    """To the bit: those of `weighted_quantile`, which sorts the values of each row; some are equal, some weights 0."""
    for n, N in enumerate((1, 2, 3, 7, 8, 9, 33, 255, 256, 257, 1025)):
        for depth, E in ((1, 1), (1, 64), (3, 17), (8, 5)):
            rng = np.random.default_rng([n, depth])
            X = features(("continuous", "missing")[n % 2], N, 3, rng).astype(dtype)
            trees, leaf_value, _ = ensemble(E, depth, 3, 2, columns=True, X=X, seed=n)
            leaf_value = np.round(leaf_value * 4) / 4
            weights = rng.integers(0, 5, E) / 4 + (n % 3 == 0)
            weights[0] = 1
            said = leaf_value[np.arange(E), trees.apply(X).T]
            for q in (0.25, 0.5, 1):
                got = trees.quantile(X, leaf_value, weights, q)
                np.testing.assert_array_equal(got, weighted_quantile(said, weights, q), err_msg=f"N={N} E={E} q={q}")


def test_quantiles_of_trees_without_weight(cell):
    """The smallest value, as scikit-learn has it."""
    X = np.arange(5.0)[:, None]
    trees, leaf_value, _ = ensemble(3, 1, 1, 2, columns=True, X=X)
    said = leaf_value[np.arange(3), trees.apply(X).T]
    np.testing.assert_array_equal(trees.quantile(X, leaf_value, np.zeros(3)), said.min(axis=1))


@both_dtypes
def test_no_rows(cell, dtype):
    """None to apply to; none that grows a tree, of weight 0 or left out."""
    X = np.empty((0, 3), dtype)
    trees, leaf_value, column = ensemble(4, 2, 3, 2, columns=True, X=np.ones((1, 3)))
    assert trees.apply(X).shape == (4, 0) and trees.scores(X, leaf_value, 2, column).shape == (0, 2)
    for criterion in ("gini", "squared_error"):
        problem = draw(20, 2, 3, criterion=criterion, depth=3, dtype=dtype)
        for changes in ({"weight": np.zeros(20)}, {"rows": np.empty(0, np.int32)}):
            nothing = problem.having(**changes)
            grown = nothing.grow()
            check(grown, nothing)
            assert not grown.leaf.any() and not grown.value.any()


@pytest.mark.parametrize("criterion", CLASSES)
def test_few_rows_before_a_bin(cell, criterion):
    """The best split is inside a bin that begins with the rows of the rare class, and little weight is on its left; a
    border of another feature comes near. A bound that takes the left side for as heavy as after the bin misses it.
    """
    y = np.zeros(2560, int)
    y[10:15] = 1
    other = np.ones(2560)
    other[10:15] = 0
    for m in (11, 12, 13, 14):
        other[100 : 100 + m] = 0
        for columns in ([0, 1], [1, 0]):
            X = np.stack([np.arange(2560.0), other], axis=1)[:, columns]
            order = y.argsort(kind="stable")
            problem = draw(2560, 2, 2, criterion=criterion, depth=1).having(
                X=np.ascontiguousarray(X[order]), y=y[order], weight=np.ones(2560)
            )
            check(problem.grow(), problem)
