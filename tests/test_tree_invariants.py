"""What changes nothing in a tree: threads, units of weight, the order of features and of rows, rows counted twice."""

import numpy as np
from trees import (
    WEIGHTS,
    bitwise,
    both_dtypes,
    check,
    draw,
    ensemble,
    every_criterion,
    features,
    kernel,
    same,
)

from fastml.boosting import encode

FAMILIES = ("tree",)
LEAD = 1e-9  # by which a split must be better than the next for all back ends to find the same


def led(criterion, dtype="float64", *, count=4, **sizes):
    """Problems whose splits no rounding may change."""
    found = []
    for seed in range(60):
        problem = draw(
            **{"N": 600 + seed, "D": 3, "K": 3, "depth": 2, **sizes}, criterion=criterion, dtype=dtype, seed=seed,
            kind=("continuous", "missing")[seed % 2],
        )  # fmt: skip
        if check(problem.grow(), problem) > LEAD:
            found.append(problem)
        if len(found) == count:
            return found
    raise AssertionError(f"too few problems: {len(found)}")


@every_criterion
@both_dtypes
def test_any_number_of_threads(cell, criterion, dtype, threads):
    shapes = ((20_000, 5, 4, 3), (9_000, 8, 2, 1), (3_000, 3, 9, 6), (50, 2, 3, 2))
    for n, (N, D, K, depth) in enumerate(shapes):
        problem = draw(
            N, D, K, criterion=criterion, dtype=dtype, depth=depth, kind=("continuous", "integers", "missing")[n % 3],
            weighted=WEIGHTS[n], part=n % 2 == 1,
        )  # fmt: skip
        threads(1)
        want, coded = problem.grow(), problem.coded
        for count in (2, 3, 5) if cell[0] != "reference" else (2,):
            threads(count)
            bitwise(problem.grow(), want, str(problem))
            if criterion == "gini":
                again = encode(problem.X, problem.y, problem.K).codes
                for one, other in zip(again, coded.codes, strict=True):
                    np.testing.assert_array_equal(one, other)


@both_dtypes
def test_leaves_and_scores_in_any_number_of_threads(cell, dtype, threads):
    for N, E, D, M, depth in ((20_000, 20, 5, 5, 3), (5_000, 50, 3, 1, 1), (3_001, 7, 2, 9, 8)):
        X = features("missing", N, D, np.random.default_rng(N)).astype(dtype)
        for columns in (True, False):
            trees, leaf_value, column = ensemble(E, depth, D, M, columns=columns, X=X)
            threads(1)
            leaf, scores = trees.apply(X), trees.scores(X, leaf_value, M, column)
            for count in (2, 3, 5) if cell[0] != "reference" else (2,):
                threads(count)
                assert trees.apply(X).tobytes() == leaf.tobytes()
                assert trees.scores(X, leaf_value, M, column).tobytes() == scores.tobytes()


@both_dtypes
def test_any_company(cell, dtype):
    """A row has the same leaves and scores, to the bit, alone and among others, wherever it stands."""
    rng = np.random.default_rng(0)
    X = features("missing", 700, 4, rng).astype(dtype)
    for columns in (True, False):
        for depth in (1, 3):
            trees, leaf_value, column = ensemble(30, depth, 4, 3, columns=columns, X=X)
            leaf, scores = trees.apply(X), trees.scores(X, leaf_value, 3, column)
            for n in (1, 1, 1, 2, 7, 33, 200):
                which = rng.integers(700, size=n)
                np.testing.assert_array_equal(trees.apply(X[which]), leaf[:, which])
                assert trees.scores(X[which], leaf_value, 3, column).tobytes() == scores[which].tobytes()


@every_criterion
@both_dtypes
def test_leaf_is_where_the_tree_puts_the_row(cell, criterion, dtype):
    """Every row, of whatever weight, those left out as well."""
    for n, kind in enumerate(("continuous", "close", "far", "missing", "mostly missing", "repeats", "integers")):
        problem = draw(
            800, 3, 3, kind=kind, criterion=criterion, dtype=dtype, depth=1 + n, weighted="zeros", part=n % 2 == 0
        )
        grown = problem.grow()
        leaf = np.empty((1, 800), np.uint8)
        parts = [part[None].copy() for part in (grown.feature, grown.threshold, grown.missing_left)]
        kernel("tree_apply", problem.X, *parts, leaf)
        np.testing.assert_array_equal(leaf[0], grown.leaf, err_msg=str(problem))


@every_criterion
@both_dtypes
def test_units_of_weight(cell, criterion, dtype):
    """Weights times a power of two change nothing but values, which they multiply."""
    for n, kind in enumerate(("continuous", "integers", "missing", "repeats")):
        problem = draw(500, 3, 3, kind=kind, criterion=criterion, dtype=dtype, depth=3, weighted=WEIGHTS[n])
        want = problem.grow()
        for e in (1, -1, 40, -40) if criterion == "squared_error" else (1, -1, 500, -500):
            unit = 2.0**e
            got = problem.having(weight=problem.weight * unit).grow(problem.coded)
            bitwise(got._replace(value=got.value / unit), want, f"{problem} 2^{e}")


@every_criterion
def test_order_of_features(cell, criterion):
    for problem in led(criterion, D=5):
        order = np.random.default_rng(0).permutation(5)
        got = problem.having(X=np.ascontiguousarray(problem.X[:, order])).grow()
        same(got._replace(feature=np.where(got.feature < 0, -1, order[got.feature])), problem.grow(), str(problem))


@every_criterion
def test_order_of_rows(cell, criterion):
    """Within their classes."""
    for problem in led(criterion):
        rng = np.random.default_rng(1)
        order = rng.permutation(len(problem.X))
        if problem.K:
            order = order[problem.y[order].argsort(kind="stable")]
        got = problem.having(X=problem.X[order], y=problem.y[order], weight=problem.weight[order]).grow()
        want = problem.grow()
        incorrect = None if want.incorrect is None else want.incorrect[order]
        same(got, want._replace(leaf=want.leaf[order], incorrect=incorrect), str(problem))


@every_criterion
def test_weights_are_repetitions(cell, criterion):
    """A row of weight 2 is that row twice, in all but counts; one of weight 0, or left out, is none."""
    for problem in led(criterion):
        N = len(problem.X)
        times = np.random.default_rng(2).integers(0, 4, N)
        single = problem.having(weight=times.astype(float))
        grown = single.grow()
        if check(grown, single) <= LEAD:
            continue
        several = problem.having(
            X=problem.X.repeat(times, axis=0), y=problem.y.repeat(times), weight=np.ones(times.sum())
        )
        got = several.grow()
        kept = {"count": grown.count, "missing_left": grown.missing_left}  # which depend on the numbers of rows
        if problem.name.startswith("missing"):
            del kept["missing_left"]
        right = grown._replace(leaf=grown.leaf.repeat(times), **{name: getattr(got, name) for name in kept})
        same(got, right._replace(incorrect=None if right.incorrect is None else right.incorrect.repeat(times)))
        alone = single.having(rows=np.flatnonzero(times).astype(np.int32), weight=np.maximum(times, 1.0))
        bitwise(alone.grow(single.coded), grown, str(problem))
        fewer = times > 0
        dropped = problem.having(X=problem.X[fewer], y=problem.y[fewer], weight=times[fewer].astype(float)).grow()
        incorrect = None if grown.incorrect is None else grown.incorrect[fewer]
        same(dropped, grown._replace(leaf=grown.leaf[fewer], incorrect=incorrect), str(problem))


@every_criterion
@both_dtypes
def test_deeper_trees_go_on_from_where_shallower_ones_end(cell, criterion, dtype):
    most = 4 if criterion != "error" else 2  # in deeper nodes two splits leave the same weight wrong
    for problem in led(criterion, dtype, count=2, depth=most, N=1500):
        deep = problem.grow()
        for depth in range(1, most):
            shallow, P = problem.having(depth=depth).grow(problem.coded), 2**depth - 1
            for name, n in (("feature", P), ("threshold", P), ("missing_left", P), ("count", 2 * P + 1)):
                np.testing.assert_array_equal(getattr(shallow, name), getattr(deep, name)[:n], err_msg=str(problem))
            np.testing.assert_array_equal(shallow.leaf, deep.leaf >> (most - depth))


def frozen(array):
    if isinstance(array, np.ndarray):
        array = array.copy()
        array.flags.writeable = False
    return array


@every_criterion
def test_inputs_are_read_and_outputs_written(cell, criterion):
    """Inputs may be read-only and keep their bits; whatever the outputs held is gone."""
    problem = draw(300, 3, 3, kind="missing", criterion=criterion, depth=3, part=True, weighted="zeros")
    X, N, P = frozen(problem.X), 300, 7
    want, codes = problem.grow(), problem.coded.codes
    rows = frozen(np.arange(N))
    found = type(codes)(*(np.full_like(part, 77) for part in codes))
    kernel("tree_encode", X, rows, *found)
    for name, got, right in zip(codes._fields, found, codes, strict=True):
        np.testing.assert_array_equal(got, right, err_msg=name)  # starts too: n behind the last
    inputs = type(codes)(*map(frozen, codes))
    classes, target = (frozen(problem.coded.classes), None) if problem.K else (None, frozen(problem.y))
    for garbage in (0, 77, np.nan):
        got = type(want)(
            *(None if part is None else np.full_like(part, np.nan_to_num(garbage, nan=255)) for part in want)
        )
        got.threshold[:], got.value[:] = garbage, garbage
        kernel("tree_grow", inputs, classes, frozen(problem.weight), target, frozen(problem.rows), criterion, *got)
        bitwise(got, want, str(problem))
    parts = [frozen(part[None]) for part in want[:3]]
    leaf = np.full((1, N), 99, np.uint8)
    kernel("tree_apply", X, *parts, leaf)
    np.testing.assert_array_equal(leaf[0], want.leaf)
    scores = np.zeros((N, 2))
    kernel("tree_scores", X, *parts, None, frozen(np.ones((1, P + 1, 2))), scores, None)
    kernel(
        "tree_scores", X, *parts, frozen(np.zeros((1, P + 1), np.intp)), frozen(np.ones((1, P + 1, 1))), scores, None
    )
    assert (scores == [2, 1]).all()
