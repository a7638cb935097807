"""Trees at the edges: weights at the ends of the range, values next to each other, everything missing."""

import numpy as np
import pytest
from trees import both_dtypes, check, draw, ensemble, every_criterion

from fastml.boosting import Learner, encode

FAMILIES = ("tree",)


@every_criterion
@both_dtypes
def test_weights_of_any_size(cell, criterion, dtype):
    for kind in ("continuous", "missing", "integers"):
        problem = draw(400, 3, 3, kind=kind, criterion=criterion, dtype=dtype, depth=3)
        for unit in (1e300, 1e-300):
            check(problem.having(weight=problem.weight * unit).grow(), problem.having(weight=problem.weight * unit))


@every_criterion
@both_dtypes
def test_weights_of_many_sizes(cell, criterion, dtype):
    """From 1e-300 to 1: a row of almost no weight is a row, and the split beside it is no 0 / 0."""
    for seed in range(6):
        problem = draw(
            200, 3, 3, kind=("continuous", "missing", "integers")[seed % 3], criterion=criterion, dtype=dtype,
            depth=1 + seed % 3, seed=seed,
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        light = problem.having(weight=10.0 ** rng.uniform(-300, 0, 200))
        check(light.grow(), light)
        two = problem.having(weight=np.where(rng.random(200) < 0.5, 1e-300, rng.random(200)))
        check(two.grow(), two)
        edge = problem.X[:, 0].argsort()  # no weight at both ends of the first feature
        weight = np.ones(200)
        weight[edge[:20]] = weight[edge[-20:]] = 1e-200
        check(problem.having(weight=weight).grow(), problem.having(weight=weight))


@every_criterion
def test_denormal_weights(cell, criterion):
    """They are weights, or count as 0: one or the other for all of them."""
    problem = draw(200, 2, 2, criterion=criterion, depth=2)
    weight = problem.weight.copy()
    weight[::3] = 1e-310
    flushed = problem.having(weight=np.where(weight < 1e-307, 0, weight))
    grown = problem.having(weight=weight).grow()
    check(grown, flushed if grown.count[0] == flushed.used.sum() else problem.having(weight=weight))


@both_dtypes
def test_values_next_to_each_other(cell, dtype):
    """A threshold separates its neighbours even where there is nothing between them, in float64 as well."""
    one = np.dtype(dtype).type(1e6)
    steps = [one]
    for _ in range(40):
        steps.append(np.nextafter(steps[-1], np.dtype(dtype).type(np.inf)))
    for n, criterion in ((20, "gini"), (7, "entropy"), (33, "error")):
        X = np.array(steps)[:, None]
        y = (np.arange(41) >= n).astype(int)
        problem = draw(41, 1, 2, criterion=criterion, depth=1).having(X=X, y=y, weight=np.ones(41))
        grown = problem.grow()
        if np.spacing(one) > 1e-7:
            assert not grown.incorrect.any() and X[n - 1, 0] <= grown.threshold[0] < X[n, 0]
        else:
            assert grown.feature[0] == -1  # all within a tie of each other, one after the other
        check(grown, problem)


@both_dtypes
def test_huge_and_tiny_values(cell, dtype):
    top = float(np.finfo(dtype).max)
    rng = np.random.default_rng(0)
    for values in ([-top, -1, 0, 1, top], [-top, -top / 2, top / 2, top], [-1e-5, -1e-30, 1e-30, 1e-5]):
        X = rng.choice(values, (300, 2)).astype(dtype)
        y = (X[:, 0] > 0).astype(int)
        order = y.argsort(kind="stable")
        problem = draw(300, 2, 2, depth=2).having(X=X[order], y=y[order])
        grown = problem.grow()
        check(grown, problem)
        assert np.isfinite(grown.threshold[grown.feature >= 0]).all()


@every_criterion
@both_dtypes
def test_all_is_missing(cell, criterion, dtype):
    for columns in (slice(None), slice(1, None)):
        problem = draw(60, 3, 2, criterion=criterion, dtype=dtype, depth=2)
        X = problem.X.copy()
        X[:, columns] = np.nan
        problem = problem.having(X=X)
        grown = problem.grow()
        check(grown, problem)
        assert (grown.feature[grown.feature >= 0] == 0).all()
        if columns == slice(None):
            assert (grown.feature == -1).all()


@every_criterion
def test_missing_or_not_is_all_that_is_known(cell, criterion):
    """Values on one side, NaN on the other: the threshold is infinite."""
    rng = np.random.default_rng(0)
    known = rng.random(300) < 0.6
    X = np.where(known, 1.0, np.nan)[:, None]
    y = known.astype(int)
    order = y.argsort(kind="stable")
    problem = draw(300, 1, 2, criterion=criterion, depth=1)
    problem = problem.having(X=X[order], y=y[order] if problem.K else y[order] + 0.5)
    grown = problem.grow()
    check(grown, problem)
    assert grown.feature[0] == 0 and grown.threshold[0] == np.inf and not grown.missing_left[0]
    assert grown.count.tolist()[1:] == [known.sum(), 300 - known.sum()]


def test_missing_values_unseen_in_training(cell):
    """Go to the side of more rows; of as many, to the right."""
    X = np.array([0.0, 1, 2, 3, 4, 5])[:, None]
    for n, left in ((2, False), (3, False), (4, True)):
        grown = Learner(encode(X, (np.arange(6) >= n).astype(int), 2)).grow(np.ones(6))
        assert grown.threshold[0] == n - 0.5 and grown.missing_left[0] == left


@both_dtypes
def test_heavy_ties_across_bins(cell, dtype):
    """One value has most of the rows, or each bin one value and a half: bins never cut through equal values."""
    rng = np.random.default_rng(0)
    for X in (
        np.where(rng.random((3000, 2)) < 0.9, 5, rng.standard_normal((3000, 2)) * 10),
        np.floor(rng.random((3000, 2)) * 384),
        np.floor(rng.random((3000, 2)) * 257),
    ):
        codes = encode(X.astype(dtype)).codes
        for d in range(2):
            for b in range(1, codes.bins[d]):
                start = codes.starts[d, b]
                assert codes.values[d, start] > codes.values[d, start - 1]
        for criterion in ("gini", "squared_error"):
            problem = draw(3000, 2, 3, criterion=criterion, depth=3, dtype=dtype)
            problem = problem.having(X=X.astype(dtype))
            check(problem.grow(), problem)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_pure_nodes_do_not_split(cell, K):
    for criterion in ("gini", "entropy", "error"):
        problem = draw(100, 2, K, criterion=criterion, depth=3)
        problem = problem.having(y=np.full(100, K - 1))
        grown = problem.grow()
        check(grown, problem)
        assert (grown.feature == -1).all() and not grown.leaf.any() and not grown.incorrect.any()
        assert grown.count.tolist() == [100, 100, 0, 100, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0]


def test_values_nobody_may_split(cell):
    """Steps of less than a tie, a hundred of them: far apart in the end, and still one bin."""
    X = (np.arange(200) * 0.9e-7)[:, None]
    assert encode(X).codes.bins[0] == 1
    problem = draw(200, 1, 2, depth=2).having(X=X)
    grown = problem.grow()
    check(grown, problem)
    assert (grown.feature == -1).all()
    sparse = problem.having(rows=np.arange(0, 200, 3, dtype=np.int32))  # without the rows between, they may be split
    grown = sparse.grow()
    check(grown, sparse)
    assert grown.feature[0] == 0


def test_chains_within_a_node(cell):
    """What nobody may split among all rows may be split where some of them are gone."""
    for seed in range(4):
        for criterion in ("gini", "squared_error"):
            problem = draw(2000, 2, 3, kind="close", criterion=criterion, depth=5, seed=seed, part=True)
            check(problem.grow(), problem)


@pytest.mark.parametrize("call", ["encode", "apply"])
def test_denormals_are_numbers_after_a_long_call(call, threads):
    """One that asked about Ctrl-C on its way, which is done in the caller's mode."""
    threads(1)
    X = np.random.default_rng(0).standard_normal((600_000, 8))
    if call == "apply":
        trees, *_ = ensemble(100, 5, 8, 1, columns=True, X=X[:1000])
        trees.apply(X)
    else:
        encode(X)
    small = np.full(4, 1e-310)
    assert (small * 1.0).tobytes() == small.tobytes()  # to ==, what is flushed is equal
