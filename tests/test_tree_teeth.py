"""The tests of the trees' tests: a damaged tree is rejected, one way and another, and the right one is not."""

import numpy as np
import pytest
from cells import on
from trees import CLASSES, both_dtypes, channels_of, check, draw, every_criterion, goes_left, splits

from fastml.boosting import Grown

REFERENCE = ("reference", None)


def follow(problem, chosen):
    """The tree of these splits, all else right."""
    N, P = len(problem.X), 2**problem.depth - 1
    node, used, value, count = np.zeros(N, int), problem.used, [], []
    for i in range(2 * P + 1):
        inside = np.flatnonzero(node == i)
        here = inside[used[inside]]
        value.append(channels_of(problem, here).sum(axis=0).astype("float64"))
        count.append(len(here))
        if i < P:
            node[inside] = 2 * i + 2 - goes_left(problem.X, inside, *chosen[i])
    feature, threshold, missing_left = zip(*chosen, strict=True)
    value = np.array(value)
    incorrect = value[node].argmax(axis=1) != problem.y if problem.K else None
    return Grown(
        np.array(feature, np.intp), np.array(threshold, "float64"), np.array(missing_left), value,
        np.array(count, np.intp), (node - P).astype(np.uint8), incorrect,
    )  # fmt: skip


def damaged(problem, right):
    """(what was done, the tree) for everything that a wrong kernel may do."""
    X, P = problem.X, len(right.feature)
    chosen = list(zip(right.feature.tolist(), right.threshold.tolist(), right.missing_left.tolist(), strict=True))
    whole = np.flatnonzero(problem.used)

    def other(root, **kept):
        """Another split of the root; below it, whatever."""
        return follow(problem, [root, *chosen[1:]])._replace(**kept)

    d, threshold, left = chosen[0]
    values = np.unique(X[whole, d])
    values = values[~np.isnan(values)].astype("float64")
    i = np.searchsorted(values, threshold)
    midway = values[1:] / 2 + values[:-1] / 2
    yield "a split one row too far", other((d, midway[i], left))
    yield "a split one row too early", other((d, midway[i - 2], left))
    yield "a threshold that is a value", other((d, values[i - 1], left))
    yield "a threshold between other rows", other((d, threshold + 1e-9 * (values[i] - threshold), left))
    if np.isnan(X[whole, d]).any():
        yield "NaN on the wrong side", other((d, threshold, not left))
    else:
        yield "NaN to the fewer rows", other((d, threshold, not left))
    criterion, features, thresholds, sides = splits(problem, whole, channels_of(problem, whole))
    for what, which in (("feature", features != d), ("split", criterion > criterion.min() + 1e-9)):
        best = np.flatnonzero(which)[criterion[which].argmin()]
        split = int(features[best]), float(thresholds[best]), bool(sides[best])
        yield f"the second best {what}", other(split)
    yield "no split", follow(problem, [(-1, np.inf, True)] * P)
    yield "a split of nothing", follow(problem, [(-1, np.inf, True), *chosen[1:]])
    yield "children swapped", right._replace(**{
        name: getattr(right, name)[[0, 2, 1, *range(3, len(getattr(right, name)))]] for name in ("value", "count")
    })  # fmt: skip
    yield "leaves swapped", right._replace(leaf=right.leaf ^ 1)
    one = right.leaf.copy()
    one[0] ^= 1
    yield "a row in another leaf", right._replace(leaf=one)
    yield "leaf numbers of nodes", right._replace(leaf=(right.leaf + P).astype(np.uint8))
    yield (
        "leaves of the rows that grew it alone",
        right._replace(leaf=np.where(problem.used, right.leaf, 255 % 7).astype(np.uint8)),
    )
    for name, array in (("count", right.count), ("value", right.value)):
        one = array.copy()
        one[0] += 1 if name == "count" else 1e-9 * np.abs(array[0])
        yield f"{name} of the root off", right._replace(**{name: one})
        one = array.copy()
        one[-1] = 0
        if array[-1].any():
            yield f"{name} of the last leaf not written", right._replace(**{name: one})
    yield (
        "values without weights",
        right._replace(value=follow(problem.having(weight=np.where(problem.weight > 0, 1.0, 0)), chosen).value),
    )
    yield (
        "values of all rows",
        right._replace(value=follow(problem.having(rows=None, weight=problem.weight + 1e-6), chosen).value),
    )
    yield (
        "counts of all rows",
        right._replace(count=follow(problem.having(rows=None, weight=problem.weight + 1), chosen).count),
    )
    yield "another dtype", right._replace(leaf=right.leaf.astype(np.intp))
    without = problem.having(weight=np.where(problem.weight > 0, 1.0, 0))
    with on(REFERENCE):
        yield "grown without weights", without.grow()
        yield "grown on all rows", problem.having(rows=None, weight=problem.weight + 1e-3).grow()
        if problem.K:
            wrong = CLASSES[CLASSES.index(problem.criterion) - 1]
            yield "another criterion", problem.having(criterion=wrong).grow()
    if problem.K:
        yield "the first class for argmax", right._replace(incorrect=problem.y != 0)
        yield "incorrect turned round", right._replace(incorrect=~right.incorrect)
        node = right.leaf.astype(int) + P
        yield "the last class for argmax", right._replace(incorrect=right.value[node].argmin(axis=1) != problem.y)
        yield (
            "the most rows for the most weight",
            right._replace(incorrect=follow(without, chosen).value[node].argmax(axis=1) != problem.y),
        )
    else:
        yield (
            "Σw y² about the mean",
            right._replace(
                value=right.value - [0, 0, 1] * (right.value[:, 1:2] ** 2 / np.maximum(right.value[:, :1], 1e-30))
            ),
        )


def cases(criterion, dtype):
    for kind in ("continuous", "missing"):
        problem = draw(
            350,
            3,
            3,
            kind=kind,
            criterion=criterion,
            dtype=dtype,
            depth=3,
            part=True,
            weighted="zeros",
            seed=5,
            signal=0.7,
        )
        weight = problem.weight**9 / (problem.weight**9).sum()  # a few rows outweigh the most
        yield problem.having(weight=weight, y=problem.y if problem.K else problem.y + 0.5)


@every_criterion
@both_dtypes
def test_damage_is_rejected(criterion, dtype):
    for problem in cases(criterion, dtype):
        with on(REFERENCE):
            right = problem.grow()
        check(right, problem)
        for what, wrong in damaged(problem, right):
            try:
                check(wrong, problem)
            except AssertionError:
                continue
            pytest.fail(f"{problem}: not rejected: {what}")


@every_criterion
def test_what_was_followed_is_accepted(criterion):
    """The damaged trees are rejected for what was done to them: without it they are right."""
    for problem in cases(criterion, "float64"):
        with on(REFERENCE):
            right = problem.grow()
        chosen = list(zip(right.feature.tolist(), right.threshold.tolist(), right.missing_left.tolist(), strict=True))
        check(follow(problem, chosen), problem)
