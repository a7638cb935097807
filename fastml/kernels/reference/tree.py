"""Trees on coded rows, a node at a time.

1  L, R = the channels' sums on both sides of a split: w of each class, or w, wy, wy² of a target
2  gini            score = Σ L_k² / Σ L_k + Σ R_k² / Σ R_k
   entropy         score = Σ φ(L_k) - φ(Σ L_k) + Σ φ(R_k) - φ(Σ R_k),   φ(x) = x ln x
   error           score = max L_k + max R_k
   squared_error   score = L_wy² / L_w + R_wy² / R_w,   y about the node's mean
3  the split of the highest score
"""

import numpy as np

from ..table import BINS, LEVEL, TIE, TILE

EPSILON = np.finfo("float64").eps


def shared_out(ends, n, most):
    """Of the places where sorted values may be split, those where bins end. Values that four bins' worth of rows have
    are bins of their own; the others share out the rest, as many rows in each as values allow.
    """
    edges = np.concatenate([[0], ends, [n]])
    sizes = np.diff(edges)
    heavy = sizes * most >= 4 * n
    shares, light = most - 2 * np.count_nonzero(heavy), n - sizes[heavy].sum()
    seen = np.where(heavy, 0, sizes).cumsum()[:-1]
    even = np.searchsorted(seen, np.arange(1, shares) * light // shares)
    found = np.concatenate([ends[np.minimum(even, len(ends) - 1)], edges[:-1][heavy], edges[1:][heavy]])
    return np.unique(found[(found > 0) & (found < n)])


def tree_encode(X, rows, values, order, rank, codes, starts, bins):
    for d in range(X.shape[1]):
        x = X[rows, d]
        order[d] = x.argsort(kind="stable")  # NaN is last
        v = values[d] = x[order[d]]
        n = len(v) - np.count_nonzero(np.isnan(v))
        rank[d, order[d]] = np.arange(len(v))
        ends = 1 + np.flatnonzero(v[1:n] > v[: max(n, 1) - 1] + v.dtype.type(TIE))
        most = BINS - (n < len(v))
        if len(ends) >= most:
            ends = shared_out(ends, n, most)
        ends = np.append(ends, n) if n else ends
        bins[d], starts[d] = len(ends), n
        starts[d, : len(ends)] = np.append(0, ends[:-1])[: len(ends)]
        codes[d, order[d]] = np.searchsorted(ends, np.arange(len(v)), side="right")


def _impurity(T, criterion):
    """Of nodes with channels T (…, C); 0 where a node is empty."""
    W = T[..., 0] if criterion == "squared_error" else T.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = T / W[..., None]
        if criterion == "gini":
            found = 1 - (p**2).sum(axis=-1)
        elif criterion == "entropy":
            found = -_xlogx(p).sum(axis=-1) / np.log(2)
        elif criterion == "error":
            found = 1 - p.max(axis=-1)
        else:
            found = p[..., 2] - p[..., 1] ** 2
    return np.where(W > 0, found, 0.0)


def _xlogx(x):
    return np.where(x > 0, x * np.log(np.where(x > 0, x, 1)), 0)


def _score(L, R, criterion):
    """2: L and R (…, C), neither side empty."""
    sides = (L, R)
    if criterion == "gini":
        return sum(_over((S**2).sum(axis=-1), S.sum(axis=-1)) for S in sides)
    if criterion == "entropy":
        return sum(_xlogx(S).sum(axis=-1) - _xlogx(S.sum(axis=-1)) for S in sides)
    if criterion == "error":
        return sum(S.max(axis=-1) for S in sides)
    return sum(_over(S[..., 1] ** 2, S[..., 0]) for S in sides)


def _over(a, b):
    """a / b; 0 of a side whose weight, beside the node's, is none."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _midway(a, b):
    a, b = np.float64(a), np.float64(b)  # a Python float would be rounded to the float32 that it is compared with
    threshold = a / 2 + b / 2
    return threshold if threshold < b else a


def _splits(values, channels, missing, criterion):
    """(score, threshold, missing_left) of one feature's splits, the best first; `missing` (C,) is None for none."""
    n, place = len(values), 1 + np.flatnonzero(values[1:] > values[:-1] + values.dtype.type(TIE))
    none = np.zeros((1, channels.shape[1]))
    # From both ends: what is left of a difference is rounding where one side has little of the weight.
    before = np.concatenate([none, channels.cumsum(axis=0)])
    after = np.concatenate([channels[::-1].cumsum(axis=0)[::-1], none])
    found = []
    for left in (False,) if missing is None else (False, True):
        at = place if left or missing is None else np.append(place, n)
        if len(at):
            sides = [before[at], after[at]]
            if missing is not None:
                sides[not left] = sides[not left] + missing
            score = _score(*sides, criterion)
            best = score.argmax()
            i = at[best]
            found.append((score[best], np.inf if i == n else _midway(values[i - 1], values[i]), left))
    return sorted(found, key=lambda split: -split[0])[:1]


def _split(codes, rows, channels, criterion):
    """3: (feature, threshold, missing_left) of the node that has these rows, or None."""
    best, found = -np.inf, None
    for d, bins in enumerate(codes.bins):
        rank = codes.rank[d, rows]
        by_value = rank.argsort()
        rank, here = rank[by_value], channels[by_value]
        n = np.searchsorted(rank, codes.starts[d, bins])
        if n == 0:
            continue
        missing = here[n:].sum(axis=0) if n < len(rank) else None
        for score, threshold, left in _splits(codes.values[d, rank[:n]], here[:n], missing, criterion):
            if score > best:
                if missing is None:
                    left = 2 * np.count_nonzero(codes.values[d, rank] <= threshold) > len(rank)
                best, found = score, (d, threshold, left)
    return found


def tree_grow(
    codes, classes, sample_weight, target, rows, criterion,
    feature, threshold, missing_left, value, count, leaf, incorrect,
):  # fmt: skip
    N = codes.values.shape[1]
    rows = np.arange(N) if rows is None else rows
    rows = rows[sample_weight[rows] > 0]
    if classes is None:
        channels = sample_weight[:, None] * np.stack([np.ones(N), target, target**2], axis=1)
    else:
        channels = np.zeros((N, len(classes) - 1))
        of = np.repeat(np.arange(len(classes) - 1), np.diff(classes))
        channels[np.arange(N), of] = sample_weight
    feature[:], threshold[:], missing_left[:] = -1, np.inf, True
    node = np.zeros(N, np.intp)
    for i in range(len(count)):
        here = rows[node[rows] == i]
        value[i], count[i] = channels[here].sum(axis=0), len(here)
        if classes is not None:
            value[i, value[i] >= value[i].max() - LEVEL * value[i].sum()] = value[i].max()
        if i >= len(feature):
            continue
        if len(here) > 1 and _impurity(value[i], criterion) > EPSILON:
            shifted = channels[here]
            if classes is None:
                y = target[here] - value[i, 1] / value[i, 0]
                shifted = sample_weight[here, None] * np.stack([np.ones(len(y)), y, y * y], axis=1)
            unit = np.frexp(value[i, 0] if classes is None else value[i].sum())[1]
            split = _split(codes, here, np.ldexp(shifted, -unit), criterion)  # squares of 1e±300 are out of range
            if split is not None:
                feature[i], threshold[i], missing_left[i] = split
        inside = node == i
        x = codes.values[feature[i], codes.rank[feature[i], inside]] if feature[i] >= 0 else np.zeros(inside.sum())
        node[inside] = 2 * i + 2 - _left(x, threshold[i], missing_left[i])
    leaf[:] = node - len(feature)
    if incorrect is not None:
        incorrect[:] = value[node].argmax(axis=1) != of


def _left(x, threshold, missing_left):
    return (x <= threshold) | (np.isnan(x) & missing_left)


def tree_apply(X, feature, threshold, missing_left, leaf):
    rows = np.arange(len(X))
    for e in range(len(feature)):
        node = np.zeros(len(X), np.intp)
        for _ in range(feature.shape[1].bit_length()):
            at = feature[e, node]
            x = np.where(at < 0, 0, X[rows, at])
            node = 2 * node + 2 - _left(x, threshold[e, node], missing_left[e, node])
        leaf[e] = node - feature.shape[1]


def tree_scores(X, feature, threshold, missing_left, column, leaf_value, scores, labels):
    leaf, rows = np.empty((1, len(X)), np.uint8), np.arange(len(X))
    for e in range(len(feature)):
        tree_apply(X, feature[e : e + 1], threshold[e : e + 1], missing_left[e : e + 1], leaf)
        if column is None:
            scores += leaf_value[e, leaf[0]]
        else:
            scores[rows, column[e, leaf[0]]] += leaf_value[e, leaf[0], 0]
    if labels is not None:
        labels[:] = scores.argmax(axis=1)


def tree_quantile(X, feature, threshold, missing_left, place, value, weight, q, quantile):
    for start in range(0, len(X), TILE):
        x = X[start : start + TILE]
        leaf = np.empty((len(feature), len(x)), np.uint8)
        tree_apply(x, feature, threshold, missing_left, leaf)
        at = np.sort(place[np.arange(len(place)), leaf.T], axis=1)
        sums = weight[at].cumsum(axis=1)
        reached = (sums >= q * sums[:, -1:]).argmax(axis=1)
        quantile[start : start + TILE] = value[at[np.arange(len(x)), reached]]
