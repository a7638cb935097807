"""Random problems for the kernels of trees, and what makes a tree right.

Two splits may be equally good but for rounding, and back ends may then differ. So a tree is right if each of its splits
is the best of its node to within rounding, and all that it says of its nodes and rows follows from its own splits.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import pytest
from compare import close

import fastml
from fastml.boosting import Learner, Trees, encode
from fastml.kernels.table import CRITERIA, TIE

NEAR = 1e-12  # of a node's weight, or of the squares about its mean: what rounding may cost a split
EPSILON = 2.0**-52
CLASSES = tuple(name for name in CRITERIA if name != "squared_error")
OUTPUTS = ("feature", "threshold", "missing_left", "value", "count", "leaf", "incorrect")

every_criterion = pytest.mark.parametrize("criterion", CRITERIA)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def kernel(name, *arguments):
    fastml.backend.find(name).function(*arguments)


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows in the order of their classes, as the kernels take them."""

    X: np.ndarray
    y: np.ndarray  # classes, or a target
    K: int  # 0 with a target
    weight: np.ndarray
    rows: np.ndarray | None
    criterion: str
    depth: int
    name: str = ""

    def __str__(self):
        (N, D), part = self.X.shape, "" if self.rows is None else f" {len(self.rows)} rows"
        return f"{self.name} {self.criterion} N={N} D={D} K={self.K} depth={self.depth} {self.X.dtype.name}{part}"

    def having(self, **changes):
        return replace(self, **changes)

    @cached_property
    def coded(self):
        return encode(self.X, self.y, self.K) if self.K else encode(self.X)

    @cached_property
    def examined(self):
        """What `check` found out about trees, by their splits: back ends mostly agree about them."""
        return {}

    @property
    def used(self):
        """(N,) bool: the rows that grow the tree."""
        found = np.full(len(self.X), self.rows is None)
        if self.rows is not None:
            found[self.rows] = True
        return found & (self.weight > 0)

    def grow(self, coded=None):
        """A tree, whose arrays nothing else writes to."""
        learner = Learner(coded or self.coded, self.criterion, self.depth)
        return learner.grow(self.weight, None if self.K else self.y, self.rows)


# ------------------------------------------------------------------------------------------------------------ drawing


def features(kind, N, D, rng):
    """(N, D) float64 of one kind; see FEATURES."""
    X = rng.standard_normal((N, D))
    if kind == "integers":
        return np.floor(2 * X)
    if kind == "repeats":  # more than 256 values, most of them many times
        return np.floor(300 * np.abs(X)) ** 2 / 1e3
    if kind == "constant":
        X[:, ::2] = 3
    elif kind == "close":  # some further apart than a tie, some not, in chains
        return rng.integers(0, 1 + N // 2, (N, D)) * 0.6e-7 + rng.integers(0, 2, (N, D))
    elif kind == "far":
        return 1e6 + rng.integers(0, 40, (N, D)) * np.spacing(np.float32(1e6)).astype("float64")
    elif kind == "offset":
        return 1e6 * (1 + np.arange(D)) + X
    elif kind == "missing":
        X[rng.random((N, D)) < 0.2] = np.nan
    elif kind == "mostly missing":
        X = np.floor(4 * X)
        X[rng.random((N, D)) < 0.9] = np.nan
        X[:, 0] = np.nan
    elif kind == "signed zeros":
        X = np.where(X > 0.5, X, np.where(X > 0, 0.0, -0.0))
    return X


FEATURES = (
    "continuous", "integers", "repeats", "constant", "close", "far", "offset", "missing", "mostly missing",
    "signed zeros",
)  # fmt: skip
WEIGHTS = ("equal", "random", "zeros", "skewed")


def weights(kind, N, rng):
    """(N,), of sum 1 as in boosting."""
    found = np.ones(N) if kind == "equal" else rng.uniform(0.1, 2, N)
    if kind == "zeros":
        found[1::3] = 0
    if kind == "skewed":
        found = 10.0 ** rng.uniform(-12, 0, N)
    return found / found.sum() if found.any() else found


@cache
def draw(
    N=100, D=3, K=3, *, kind="continuous", weighted="random", criterion="gini", depth=2, dtype="float64", seed=0,
    part=False, signal=1.0, classes="even",
):  # fmt: skip
    """A random problem. `signal` is how much of y the features know, `part` gives it two thirds of the rows.

    classes : "even"; "one" for the last class having a single row; "empty" for a class without rows.
    """
    rng = np.random.default_rng([seed, N, D, K, FEATURES.index(kind)])
    X = features(kind, N, D, rng).astype(dtype)
    clear = np.nan_to_num(X.astype("float64"))
    score = signal * ((clear - clear.mean(axis=0)) / (clear.std(axis=0) + 1e-300)) @ rng.standard_normal(D)
    score += rng.standard_normal(N)
    if criterion == "squared_error":
        K, y = 0, score
    else:
        places = score.argsort().argsort()
        y = places * K // N
        if classes == "one":
            y = np.where(places == N - 1, K - 1, places * max(1, K - 1) // N % max(1, K - 1))
        elif classes == "empty":
            y[y == K // 2] = K - 1
        order = y.argsort(kind="stable")
        X, y = X[order], y[order]
    rows = np.flatnonzero(rng.random(N) < 0.67).astype(np.int32) if part else None
    name = f"{kind} {weighted} seed={seed}"
    return Problem(np.ascontiguousarray(X), y, K, weights(weighted, N, rng), rows, criterion, depth, name)


# ----------------------------------------------------------------------------------------------------------- checking


def channels_of(problem, rows, about=0.0):
    """(n, C): what a node's sums are over, in extended precision where the machine has it."""
    w, y = problem.weight[rows].astype(np.longdouble), problem.y[rows]
    if problem.K:
        return w[:, None] * (y[:, None] == np.arange(problem.K))
    y = y - about
    return w[:, None] * np.stack([np.ones(len(rows)), y, y * y], axis=1)


def impurity(sums, criterion):
    """Of channels' sums (…, C), times the weight; of "squared_error" but for Σwy², which all splits share."""
    W = sums[..., 0] if criterion == "squared_error" else sums.sum(axis=-1)
    safe = np.where(W > 0, W, 1)
    if criterion == "gini":
        return W - (sums * (sums / safe[..., None])).sum(axis=-1)
    if criterion == "entropy":
        p = sums / safe[..., None]
        return -(sums * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)
    if criterion == "error":
        return W - sums.max(axis=-1)
    return -sums[..., 1] * (sums[..., 1] / safe)


def splits(problem, rows, channels):
    """Every split of a node's rows: arrays (criterion, feature, threshold, missing_left)."""
    found = [(np.empty(0), np.empty(0, int), np.empty(0), np.empty(0, bool))]
    for d in range(problem.X.shape[1]):
        x = problem.X[rows, d]
        order = x.argsort(kind="stable")
        n = len(x) - np.isnan(x).sum()
        v, sums = x[order][:n], channels[order]
        missing = sums[n:].sum(axis=0)
        none = np.zeros((1, sums.shape[1]), sums.dtype)
        before = np.concatenate([none, sums[:n].cumsum(axis=0)])
        after = np.concatenate([sums[:n][::-1].cumsum(axis=0)[::-1], none])
        at = 1 + np.flatnonzero(v[1:] > v[:-1] + v.dtype.type(TIE))
        a, b = v[at - 1].astype("float64"), v[at].astype("float64")
        threshold = a / 2 + b / 2
        threshold = np.where(threshold < b, threshold, a)
        for left in (False, True) if n < len(x) else (False,):
            here, thresholds = at, threshold
            if n < len(x) and not left and n:
                here, thresholds = np.append(at, n), np.append(threshold, np.inf)
            L, R = before[here] + left * missing, after[here] + (not left) * missing
            sides = np.full(len(here), left) if n < len(x) else 2 * here > len(x)
            score = impurity(L, problem.criterion) + impurity(R, problem.criterion)
            found.append((score, np.full(len(here), d), thresholds, sides))
    return [np.concatenate(part) for part in zip(*found, strict=True)]


def goes_left(X, rows, feature, threshold, missing_left):
    x = X[rows, feature] if feature >= 0 else np.zeros(len(rows))
    return (x <= np.float64(threshold)) | (np.isnan(x) & missing_left)


def check(grown, problem):
    """Assert that a tree is right. Returns by how much its splits are better than the next best, relative, at least."""
    p, P, name = problem, 2**problem.depth - 1, str(problem)
    N, C = len(p.X), p.K or 3
    wanted = {
        "feature": ((P,), np.intp), "threshold": ((P,), np.float64), "missing_left": ((P,), np.bool_),
        "value": ((2 * P + 1, C), np.float64), "count": ((2 * P + 1,), np.intp), "leaf": ((N,), np.uint8),
    }  # fmt: skip
    for what, (shape, dtype) in wanted.items():
        array = getattr(grown, what)
        assert array.shape == shape and array.dtype == dtype, f"{name}: {what} {array.shape} {array.dtype}"
    chosen = tuple(zip(*(part.tolist() for part in grown[:3]), strict=True))
    if chosen not in p.examined:
        p.examined[chosen] = examine(p, chosen, name)
    node, count, sums, scale, margin = p.examined[chosen]
    np.testing.assert_array_equal(grown.count, count, err_msg=f"{name}: count")
    off = np.abs(grown.value - sums) > NEAR * scale
    assert not off.any() and not np.isnan(grown.value).any(), f"{name}: value {grown.value[off]}, not {sums[off]}"
    np.testing.assert_array_equal(grown.leaf, node - P, err_msg=f"{name}: leaf")
    if p.K:
        assert grown.incorrect.dtype == np.bool_
        np.testing.assert_array_equal(grown.incorrect, grown.value[node].argmax(axis=1) != p.y, err_msg=name)
    else:
        assert grown.incorrect is None
    return margin


def examine(p, chosen, name):
    """(node of each row, counts, values, their scale, margin) of the tree with these splits, all of which are right."""
    used, inside, margin = p.used, [np.arange(len(p.X))], np.inf
    P, node = len(chosen), np.zeros(len(p.X), int)
    count, sums, scale = [], [], []
    for i in range(2 * P + 1):
        here = inside[i][used[inside[i]]]
        channels = channels_of(p, here)
        count.append(len(here))
        sums.append(channels.sum(axis=0))
        scale.append(np.full(p.K, sums[-1].sum()) if p.K else np.abs(channels).sum(axis=0))
        if i >= P:
            node[inside[i]] = i
            continue
        margin = min(margin, check_split(p, here, sums[-1], chosen[i], f"{name}: node {i}"))
        left = goes_left(p.X, inside[i], *chosen[i])
        inside += [inside[i][left], inside[i][~left]]
    return node, np.array(count), np.array(sums), np.array(scale), margin


def check_split(p, here, sums, split, name):
    W = float(sums.sum() if p.K else sums[0])
    if len(here) < 2 or not W:
        assert split == (-1, np.inf, True), f"{name}: {len(here)} rows, split {split}"
        return np.inf
    mean = 0.0 if p.K else float(sums[1] / sums[0])
    channels = channels_of(p, here, mean) / W
    total = channels.sum(axis=0)
    whole = float(impurity(total, p.criterion)) if p.K else float(total[2])
    # What back ends compute of an impurity that is hardly there is rounding.
    doubt = 8 * EPSILON if p.K else NEAR * float(sums[2]) / W
    criterion, *found = splits(p, here, channels)
    if split[0] < 0:
        assert split == (-1, np.inf, True), f"{name}: split {split}"
        assert whole <= EPSILON + doubt or not len(criterion), f"{name}: no split at an impurity of {whole}"
        return np.inf
    assert whole > EPSILON - doubt, f"{name}: split {split} at an impurity of {whole}"
    is_it = np.logical_and.reduce([part == one for part, one in zip(found, split, strict=True)])
    assert is_it.any(), f"{name}: no such split: {split}"
    near = NEAR if p.K else NEAR * whole + 1e-26 * float(sums[2]) / W
    cost = float(criterion[is_it].min() - criterion.min())
    best = criterion.argmin()
    assert cost <= near, f"{name}: split {split} is {cost:.1e} worse than {[part[best] for part in found]}"
    return float(np.delete(criterion, best).min(initial=np.inf) - criterion[best]) / (1 if p.K else whole)


def same(got, want, name=""):
    """Assert that two trees are one, values to within the table's tolerance."""
    for what in OUTPUTS:
        a, b = getattr(got, what), getattr(want, what)
        if what == "value":
            close(a, b, tolerance=NEAR, dtype="float64", name=f"{name}: value")
        else:
            np.testing.assert_array_equal(a, b, err_msg=f"{name}: {what}")


def bitwise(got, want, name=""):
    for what in OUTPUTS:
        a, b = getattr(got, what), getattr(want, what)
        assert (a is None) == (b is None) and (a is None or a.tobytes() == b.tobytes()), f"{name}: {what}"


# ---------------------------------------------------------------------------------------------------------- ensembles


def ensemble(E, depth, D, M, *, columns, X, seed=0):
    """Random trees whose thresholds are values of X: (Trees, leaf_value, column), some nodes not splitting."""
    rng = np.random.default_rng([seed, E, depth, D, M])
    P = 2**depth - 1
    feature = rng.integers(-1, D, (E, P))
    threshold = np.full((E, P), np.inf)
    missing_left = rng.random((E, P)) < 0.5
    threshold[...] = X[rng.integers(len(X), size=(E, P)), np.maximum(feature, 0)]
    threshold[feature < 0], missing_left[feature < 0] = np.inf, True
    threshold[np.isnan(threshold)] = np.inf
    value, count = np.zeros((E, 2 * P + 1, M)), np.zeros((E, 2 * P + 1), np.intp)
    trees = Trees(feature.astype(np.intp), threshold, missing_left, value, count, "gini", D)
    if columns:
        return trees, rng.standard_normal((E, P + 1)), rng.integers(M, size=(E, P + 1)).astype(np.intp)
    return trees, rng.standard_normal((E, P + 1, M)), None
