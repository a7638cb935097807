"""Trees by exact search: each feature's values are walked in their order, a node at a time.

    1  L, R = the channels' sums on both sides of a split
    2  score: gini Σ L_k² / Σ L_k + …, entropy, error or squared_error as in the reference
    3  the split of the highest score

A walk goes from either end to the middle of the node's weight, so that the sums of the lighter side are sums and those
of the heavier one differences, whose rounding is small beside them. Each row costs O(1) whatever the number of classes:

    Σ L_k² grows by w (2 L_k + w),   Σ R_k² = Σ T_k² - 2 Σ T_k L_k + Σ L_k²,   T = L + R

Without classes there is one, which sums w (y - mean) for w. Ctrl-C is noticed between two features.

The root's rows are the positions of a feature, one after the other; below it each node has a list of them for each
feature, which its split cuts in two, in their order.
"""

from itertools import pairwise

import numpy as np

from ..reference.tree import shared_out
from ..table import BINS, CRITERIA, LEVEL, TIE
from .compiling import compiled, frozen, inlined
from .sequence import blocks, share

GINI, ENTROPY, ERROR, SQUARED_ERROR = range(len(CRITERIA))

EPSILON = np.finfo("float64").eps
TINY = np.finfo("float64").tiny
VISIT = 64.0  # floating-point operations that take as long as a row of one feature, or of one tree
DIGIT = 11  # bits that a pass of the sort looks at
CHUNK = 1 << 23  # rows of features between two looks at Ctrl-C, as far as there are features: 40 ms
BLOCK = 256  # rows that all trees look at before the next ones; or whose splits are scored together: a branch for each
# score that is a new best cost more than the scores, where they rise


def tree_encode(X, rows, values, order, rank, codes, starts, bins):
    N, D = X.shape

    def pieces(worker, workers):
        for d in range(worker, D, workers):
            _encode(X[rows, d], *(part[d] for part in (values, order, rank, codes, starts)), bins[d : d + 1])
            yield

    share(pieces, 16 * VISIT * N * D, D)


def _encode(x, values, order, rank, codes, starts, bins):
    """One feature; as the reference, but for the sort: NumPy's stable one took 10 ms at N = 100,000, this 1 to 2."""
    N, missing = len(x), np.isnan(x)
    n = N - np.count_nonzero(missing)
    bits = (x + x.dtype.type(0)).view(f"u{x.itemsize}")  # -0.0 is 0.0 then
    sign = bits.dtype.type(1 << (8 * x.itemsize - 1))
    keys = np.where(bits < sign, bits | sign, ~bits).astype(np.uint64)  # in the order of the numbers
    keys[missing] = np.iinfo(bits.dtype).max
    order[:] = _sort(keys, -(-8 * x.itemsize // DIGIT))
    values[:] = x[order]
    ends = 1 + np.flatnonzero(values[1:n] > values[: max(n, 1) - 1] + values.dtype.type(TIE))
    most = BINS - (n < N)
    if len(ends) >= most:
        ends = shared_out(ends, n, most)
    ends = np.append(ends, n) if n else ends
    bins[0], starts[:], starts[0] = len(ends), n, 0
    starts[1 : len(ends) + 1] = ends
    rank[order] = np.arange(N, dtype=np.int32)
    sizes = np.diff(ends, prepend=0, append=N)
    codes[order] = np.repeat(np.arange(len(sizes)).astype(np.uint8), sizes)


def tree_grow(
    codes, classes, sample_weight, target, rows, criterion,
    feature, threshold, missing_left, value, count, leaf, incorrect,
):  # fmt: skip
    values, order, rank = map(frozen, (codes.values, codes.order, codes.rank))
    (D, N), (P, kind) = values.shape, (len(feature), CRITERIA.index(criterion))
    depth, known = P.bit_length(), codes.starts[np.arange(D), codes.bins].astype(np.intp)
    weight = sample_weight.copy()
    if rows is not None:
        weight[:] = 0
        weight[rows] = sample_weight[rows]
    y = np.empty(0) if target is None else target.copy()
    bounds = np.array([0, N]) if classes is None else classes.astype(np.intp)
    heavy, tie = np.empty(N), values.dtype.type(TIE)
    amount = heavy if target is None else np.empty(N)
    C = 1 if classes is None else value.shape[1]
    class_of = np.zeros(N, "uint16" if C < 1 << 16 else "uint32")
    places = np.empty((D if depth > 1 else 0, N), np.int32)  # never touched, it costs nothing
    splits = feature, threshold, missing_left
    search, most = _SEARCH[kind in (GINI, SQUARED_ERROR)], max(1, CHUNK // N)

    def best_splits(level, counts, totals, weights, wanted):
        """(score, threshold, missing_left) by feature and node."""
        cuts, sizes = np.append(0, counts.cumsum()), (D, len(counts))
        found = np.full(sizes, -np.inf), np.empty(sizes), np.empty(sizes, np.bool_)

        def pieces(worker, workers):
            buffer = np.empty(N if level else 0, np.int32)
            first, last = D * worker // workers, D * (worker + 1) // workers
            for d in range(first, last, most):
                search(
                    values, order, known, heavy, amount, class_of, leaf, level, places, buffer, cuts, totals,
                    weights, wanted, kind, tie, d, min(d + most, last), *found,
                )  # fmt: skip
                yield

        if wanted.any():  # or no node will be, further down
            share(pieces, VISIT * N * D, D)
        return found

    leaf[:] = 0
    for level in range(depth + 1):
        nodes, before = 1 << level, (1 << level) - 1
        totals, weights, wanted = np.empty((nodes, C)), np.empty(nodes), np.empty(nodes, np.bool_)
        _rows(
            values, rank, weight, y, bounds, level, kind, *splits, leaf, value[before : before + nodes],
            count[before : before + nodes], level < depth, heavy, amount, class_of, totals, weights, wanted,
        )  # fmt: skip
        if level == depth:
            break
        found = best_splits(level, count[before : before + nodes], totals, weights, wanted)
        _choose(*found, *(part[before : before + nodes] for part in splits))
    if incorrect is not None:
        _compare(value[P:].argmax(axis=1), leaf, bounds, incorrect)


def _choose(score, threshold, left, feature, thresholds, missing_left):
    """3, over the features."""
    best, nodes = score.argmax(axis=0), np.arange(score.shape[1])
    splits = score[best, nodes] > -np.inf
    feature[:] = np.where(splits, best, -1)
    thresholds[:] = np.where(splits, threshold[best, nodes], np.inf)
    missing_left[:] = ~splits | left[best, nodes]


def _compare(label, leaf, classes, incorrect):
    for k, (first, last) in enumerate(pairwise(classes)):
        incorrect[first:last] = (label != k)[leaf[first:last]]


def tree_apply(X, feature, threshold, missing_left, leaf):
    trees = np.maximum(feature, 0), threshold.copy(), missing_left.copy()  # what does not split sends any x left
    X, E, depth = frozen(X), len(feature), feature.shape[1].bit_length()
    work = VISIT / 8 * max(E, 1) * depth

    def pieces(worker, workers):
        for first, rows in blocks(len(X), worker, workers, work):
            _apply(X, *trees, depth, first, first + rows, leaf)
            yield

    share(pieces, work * len(X), len(X))


def tree_scores(X, feature, threshold, missing_left, column, leaf_value, scores, labels):
    trees = np.maximum(feature, 0), threshold.copy(), missing_left.copy()
    columns = np.empty((0, 0), np.intp) if column is None else column.copy()
    X, E, depth, leaf_value = frozen(X), len(feature), feature.shape[1].bit_length(), leaf_value.copy()
    work = VISIT / 8 * max(E, 1) * (depth + leaf_value.shape[2])

    def pieces(worker, workers):
        for first, rows in blocks(len(X), worker, workers, work):
            _scores(X, *trees, depth, columns, leaf_value, first, first + rows, scores)
            if labels is not None:
                labels[first : first + rows] = scores[first : first + rows].argmax(axis=1)
            yield

    share(pieces, work * len(X), len(X))


def tree_quantile(X, feature, threshold, missing_left, place, value, weight, q, quantile):
    trees = np.maximum(feature, 0), threshold.copy(), missing_left.copy()
    leaves = place.copy(), value.copy(), weight.copy()
    X, E, depth = frozen(X), len(feature), feature.shape[1].bit_length()
    work = VISIT / 8 * E * (depth + E / 4)

    def pieces(worker, workers):
        for first, rows in blocks(len(X), worker, workers, work):
            _quantile(X, *trees, depth, *leaves, q, first, first + rows, quantile)
            yield

    share(pieces, work * len(X), len(X))


# ------------------------------------------------------------------------------------------------------------ compiled


@compiled
def _sort(keys, digits):
    """The rows in the order of their keys, of equal ones the lower first: digit after digit, the last first."""
    N = len(keys)
    order, spare = np.arange(N).astype(np.int32), np.empty(N, np.int32)
    mask = np.uint64((1 << DIGIT) - 1)
    for digit in range(digits):
        shift, starts = np.uint64(DIGIT * digit), np.zeros((1 << DIGIT) + 1, np.intp)
        for row in range(N):
            starts[1 + np.intp((keys[row] >> shift) & mask)] += 1
        if starts.max() == N:
            continue
        for k in range(1 << DIGIT):
            starts[k + 1] += starts[k]
        for i in range(N):
            row = order[i]
            k = np.intp((keys[row] >> shift) & mask)
            spare[starts[k]] = row
            starts[k] += 1
        order, spare = spare, order
    return order


@compiled
def _rows(
    values, rank, weight, y, classes, level, kind, feature, threshold, missing_left, leaf,
    value, count, searched, heavy, amount, class_of, totals, weights, wanted,
):  # fmt: skip
    """Send all rows to this level's nodes; the nodes' sums, and what the search takes of them and of rows: the weight,
    in a unit that makes the node's about 1; what is summed in each class: the weight; or that of a single class, the
    weight times the target about the node's mean.
    """
    above = (1 << (level - 1)) - 1 if level else 0
    value[:], count[:], totals[:] = 0, 0, 0
    for k in range(len(classes) - 1):
        for row in range(classes[k], classes[k + 1]):
            node = leaf[row]
            if level:
                i = above + node
                d, right = feature[i], 0
                if d >= 0:
                    x = values[d, rank[d, row]]
                    right = 0 if x <= threshold[i] or (np.isnan(x) and missing_left[i]) else 1
                node = 2 * node + right
                leaf[row] = node
            w = weight[row]
            if w > 0:
                count[node] += 1
                if kind == SQUARED_ERROR:
                    value[node, 0] += w
                    value[node, 1] += w * y[row]
                    value[node, 2] += w * y[row] * y[row]
                else:
                    value[node, k] += w
    if kind != SQUARED_ERROR:
        for node in range(len(count)):
            most = value[node].max()
            least = most - LEVEL * value[node].sum()
            for k in range(value.shape[1]):
                if value[node, k] >= least:
                    value[node, k] = most
    if not searched:
        return
    units = np.empty(len(count))
    for node in range(len(count)):
        W = value[node, 0] if kind == SQUARED_ERROR else value[node].sum()
        wanted[node] = count[node] > 1 and _impurity(value[node], W, kind) > EPSILON
        weights[node] = 0
        units[node] = 2.0 ** -min(max(np.floor(np.log2(max(W, TINY))), -1000), 1000)
    for k in range(len(classes) - 1):
        for row in range(classes[k], classes[k + 1]):
            w, node = weight[row], leaf[row]
            # A row of no weight is none. One whose weight is none beside the node's is one.
            w = max(w * units[node], TINY) if w > 0 else 0.0
            heavy[row] = w
            weights[node] += w
            if kind == SQUARED_ERROR:
                amount[row] = w * (y[row] - value[node, 1] / value[node, 0]) if w > 0 else 0.0
            else:
                class_of[row] = k
            totals[node, class_of[row]] += amount[row]


@inlined
def _impurity(T, W, kind):
    if not W > 0:
        return 0.0
    if kind == SQUARED_ERROR:
        return T[2] / W - (T[1] / W) * (T[1] / W)
    gini, entropy, most = 1.0, 0.0, 0.0
    for k in range(len(T)):
        p = T[k] / W
        gini -= p * p
        entropy -= _xlogx(p)
        most = max(most, p)
    return gini if kind == GINI else entropy / np.log(2.0) if kind == ENTROPY else 1 - most


@inlined
def _xlogx(x):
    return x * np.log(x) if x > 0 else 0.0


@inlined
def _cut(order, heavy, leaf, level, start, end, places, buffer):
    """The rows of a node, in their order, that go left, and behind them those that go right."""
    to, aside = start, 0
    for q in range(start, end):
        p = q if level == 1 else places[q]
        row = np.uint32(order[p])
        right = leaf[row] & 1
        places[to], buffer[aside] = p, p  # what is not to stay is written over: a branch would be anyone's guess
        if level > 1 or heavy[row] > 0:
            to += 1 - right
            aside += right
    for q in range(aside):
        places[to + q] = buffer[q]


@inlined
def _walk(
    values, order, known, heavy, amount, class_of, level, places, start, end, T, W, count, quadratic, kind,
    tie, infinite, sums, scratch, at,
):  # fmt: skip
    """The best split of a node by one feature: (score, threshold, missing_left).

    Turns: from the least value up, from the largest down, NaN right; then both, NaN left.
    """
    C, deep = len(T), level > 0
    side, missing, phi, phi_other = sums[0], sums[1], sums[2], sums[3]
    weights, ones, others = scratch[0], scratch[1], scratch[2]
    missing[:], missing_weight = 0, 0.0
    rows = count  # that have a value
    while end > start:
        p = places[end - 1] if deep else end - 1
        if p < known:
            break
        end -= 1
        row = np.uint32(order[p])
        if heavy[row] > 0:
            rows -= 1
            missing[class_of[row]] += amount[row]
            missing_weight += heavy[row]
    squares = 0.0
    for k in range(C):
        squares += T[k] * T[k]
    best, above, sends_left, stop = -np.inf, end, False, end
    if rows == 0:
        return best, np.inf, False
    for turn in range(4 if rows < count else 2):
        down, with_left = turn % 2 == 1, turn >= 2
        with_missing = rows < count and down != with_left
        # Sums of the side that is walked, its weight, and by criterion:
        # gini and squared_error Σ side², Σ T side; entropy Σ φ of both sides; error the largest of both
        weight, one, other = missing_weight if with_missing else 0.0, 0.0, 0.0
        for k in range(C):
            side[k] = missing[k] if with_missing else 0.0
            if quadratic:
                one += side[k] * side[k]
                other += T[k] * side[k]
            elif kind == ENTROPY:
                phi[k], phi_other[k] = _xlogx(side[k]), _xlogx(T[k] - side[k])
                one += phi[k]
                other += phi_other[k]
            else:
                one, other = max(one, side[k]), max(other, T[k] - side[k])
        top, place = -np.inf, end
        if with_missing and down:  # all values on one side
            top = _score(quadratic, kind, W, squares, weight, one, other)
        step, q, half, floor = (-1, end - 1, np.inf, stop) if down else (1, start, W / 2, -1)
        last, x_last, going = end, -infinite if down else infinite, True
        while going and start <= q < end:
            m = 0  # splits between the rows of this block
            for _ in range(min(BLOCK, end - q if not down else q - start + 1)):
                p = places[q] if deep else q
                row = np.uint32(order[p])
                w = heavy[row]
                if w > 0:
                    if weight > half or last < floor:
                        going = False
                        break
                    x = values[p]
                    lower, upper = (x, x_last) if down else (x_last, x)
                    weights[m], ones[m], others[m], at[m] = weight, one, other, last if down else q
                    m += 1 if upper > lower + tie else 0
                    last, x_last = q, x
                    weight += w
                    k, a = class_of[row], amount[row]
                    was = side[k]
                    now = was + a
                    side[k] = now
                    if quadratic:
                        one += a * (was + now)
                        other += a * T[k]
                    elif kind == ENTROPY:
                        one -= phi[k]
                        other -= phi_other[k]
                        phi[k], phi_other[k] = _xlogx(now), _xlogx(T[k] - now)
                        one += phi[k]
                        other += phi_other[k]
                    else:
                        one = max(one, now)
                        if T[k] - was >= other:  # it was the largest, and is less
                            other = 0.0
                            for j in range(C):
                                other = max(other, T[j] - side[j])
                q += step
            for j in range(m):
                weights[j] = _score(quadratic, kind, W, squares, weights[j], ones[j], others[j])
            most = -np.inf
            for j in range(m):
                most = max(most, weights[j])
            if most > top or (down and most == top):
                top = most
                for j in range(m):  # of equal ones the lowest: the first on the way up, the last on the way down
                    if weights[m - 1 - j if not down else j] == most:
                        place = at[m - 1 - j if not down else j]
        if not down:
            stop = q  # the row above the first split that is left to the walk down
        if top > best:
            best, above, sends_left = top, place, with_left
    if best == -np.inf:
        return best, np.inf, False
    if rows == count:  # no value is missing: later ones go with the more rows
        lower_rows = above - start
        if rows < end - start:
            for q in range(start, above):
                lower_rows -= 0 if heavy[order[q]] > 0 else 1
        sends_left = 2 * lower_rows > count
    if above == end:
        return best, np.inf, sends_left
    below = above - 1
    while not deep and not heavy[order[below]] > 0:
        below -= 1
    low = np.float64(values[places[below] if deep else below])
    high = np.float64(values[places[above] if deep else above])
    middle = low / 2 + high / 2
    return best, middle if middle < high else low, sends_left


@inlined
def _score(quadratic, kind, W, squares, weight, one, other):
    """2, of the side that was walked and the other one."""
    rest = W - weight
    if quadratic:
        return one / weight + (squares - 2 * other + one) / rest
    if kind == ENTROPY:
        return one - _xlogx(weight) + other - _xlogx(rest)
    return one + other


def _search_by(quadratic):
    """Compiled for two of the criteria and for the other two, which takes 2 s each and is a third faster than one
    function for all.
    """

    @compiled
    def search(
        values, order, known, heavy, amount, class_of, leaf, level, places, buffer, cuts, totals,
        weights, wanted, kind, tie, first, last, score, threshold, left,
    ):  # fmt: skip
        """Of features first … last: cut the lists of the level above in two, and find each node's best split."""
        N, C = len(heavy), totals.shape[1]
        sums, scratch, at = np.empty((4, C)), np.empty((3, BLOCK + 1)), np.empty(BLOCK + 1, np.int32)
        infinite = tie / (tie - tie)  # in the dtype of values
        for d in range(first, last):
            if level:
                for parent in range(0, len(wanted), 2):
                    start, end = (cuts[parent], cuts[parent + 2]) if level > 1 else (0, N)
                    _cut(order[d], heavy, leaf, level, start, end, places[d], buffer)
            for node in range(len(wanted)):
                if wanted[node]:
                    start, end = (cuts[node], cuts[node + 1]) if level else (0, N)
                    best = _walk(
                        values[d], order[d], known[d], heavy, amount, class_of, level, places[d] if level else buffer,
                        start, end, totals[node], weights[node], cuts[node + 1] - cuts[node], quadratic, kind, tie,
                        infinite, sums, scratch, at,
                    )  # fmt: skip
                    score[d, node], threshold[d, node], left[d, node] = best

    return search


_SEARCH = _search_by(False), _search_by(True)


@inlined
def _side(x, threshold, missing_left):
    """0 for left, 1 for right."""
    return 0 if x <= threshold or (np.isnan(x) and missing_left) else 1


@inlined
def _leaf(X, row, feature, threshold, missing_left, e, depth):
    node = 0
    for _ in range(depth):
        node = 2 * node + 1 + _side(X[row, feature[e, node]], threshold[e, node], missing_left[e, node])
    return node - feature.shape[1]


@compiled
def _apply(X, feature, threshold, missing_left, depth, first, last, leaf):
    for start in range(first, last, BLOCK):
        for e in range(len(feature)):
            for row in range(start, min(start + BLOCK, last)):
                leaf[e, row] = _leaf(X, row, feature, threshold, missing_left, e, depth)


@compiled
def _scores(X, feature, threshold, missing_left, depth, column, leaf_value, first, last, scores):
    M = leaf_value.shape[2]
    for start in range(first, last, BLOCK):
        for e in range(len(feature)):
            f, t, left = feature[e, 0], threshold[e, 0], missing_left[e, 0]
            for row in range(start, min(start + BLOCK, last)):
                if depth == 1:  # a third of the time
                    leaf = _side(X[row, f], t, left)
                else:
                    leaf = _leaf(X, row, feature, threshold, missing_left, e, depth)
                if len(column):
                    scores[row, column[e, leaf]] += leaf_value[e, leaf, 0]
                else:
                    for m in range(M):
                        scores[row, m] += leaf_value[e, leaf, m]


@compiled
def _quantile(X, feature, threshold, missing_left, depth, place, value, weight, q, first, last, quantile):
    E = len(feature)
    at = np.empty(E, np.intp)
    for row in range(first, last):
        for e in range(E):  # sorted as they come: trees are few
            new, i = place[e, _leaf(X, row, feature, threshold, missing_left, e, depth)], e
            while i and at[i - 1] > new:
                at[i] = at[i - 1]
                i -= 1
            at[i] = new
        total = reached = 0.0
        for i in range(E):
            total += weight[at[i]]
        i = 0
        reached = weight[at[0]]
        while reached < q * total and i < E - 1:
            i += 1
            reached += weight[at[i]]
        quantile[row] = value[at[i]]
