"""The recurrent layers in scalar Python floats, from their equations: what the reference is tested against.

Nested lists in and out, `math` and nothing else. Gates in PyTorch's order: i, f, g, o and r, z, n. Each layer returns
(y, h_n), or (y, h_n, c_n); y is 0 at padding.
"""

import math


def sigmoid(a):
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def affine(w, v, b):
    """w v + b, every sum rounded once."""
    return [
        math.fsum([w_jk * v_k for w_jk, v_k in zip(w_j, v, strict=True)] + [b_j]) for w_j, b_j in zip(w, b, strict=True)
    ]


def unroll(step, x, states, lengths, reverse):
    """Run `step(x_t, *states) -> states` over each sequence, from its last element to its first if `reverse`."""
    H = len(states[0][0]) if states[0] else 0
    y = [[[0.0] * H for _ in x_t] for x_t in x]
    finals = []
    for b, length in enumerate(lengths):
        state = tuple(initial[b] for initial in states)
        for t in reversed(range(length)) if reverse else range(length):
            state = step(x[t][b], *state)
            y[t][b] = state[0]
        finals.append(state)
    return y, *([state[k] for state in finals] for k in range(len(states)))


def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, nonlinearity):
    phi = math.tanh if nonlinearity == "tanh" else lambda a: max(a, 0.0)

    def step(x, h):
        return ([phi(a + b) for a, b in zip(affine(w_ih, x, b_ih), affine(w_hh, h, b_hh), strict=True)],)

    return unroll(step, x, (h0,), lengths, reverse)


def gru(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, reset_after):
    H = len(w_hh[0])

    def step(x, h):
        a, m = affine(w_ih, x, b_ih), affine(w_hh, h, b_hh)
        r = [sigmoid(a[j] + m[j]) for j in range(H)]
        z = [sigmoid(a[H + j] + m[H + j]) for j in range(H)]
        if reset_after:
            n = [math.tanh(a[2 * H + j] + r[j] * m[2 * H + j]) for j in range(H)]
        else:
            m_n = affine(w_hh[2 * H :], [r[j] * h[j] for j in range(H)], b_hh[2 * H :])
            n = [math.tanh(a[2 * H + j] + m_n[j]) for j in range(H)]
        return ([(1 - z[j]) * n[j] + z[j] * h[j] for j in range(H)],)

    return unroll(step, x, (h0,), lengths, reverse)


def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, reverse):
    H = len(w_hh[0])

    def step(x, h, c):
        a = [p + m for p, m in zip(affine(w_ih, x, b_ih), affine(w_hh, h, b_hh), strict=True)]
        i, f, o = ([sigmoid(a[k * H + j]) for j in range(H)] for k in (0, 1, 3))
        g = [math.tanh(a[2 * H + j]) for j in range(H)]
        c = [f[j] * c[j] + i[j] * g[j] for j in range(H)]
        return [o[j] * math.tanh(c[j]) for j in range(H)], c

    return unroll(step, x, (h0, c0), lengths, reverse)


def eliminate(a, b):
    """a⁻¹ b and ln |a|, of a symmetric positive definite a, which needs no pivoting."""
    D = len(b)
    rows = [[*a_i, b_i] for a_i, b_i in zip(a, b, strict=True)]
    for i in range(D):
        for j in range(D):
            if j != i:
                f = rows[j][i] / rows[i][i]
                rows[j] = [p - f * q for p, q in zip(rows[j], rows[i], strict=True)]
    return [rows[i][D] / rows[i][i] for i in range(D)], math.fsum(math.log(rows[i][i]) for i in range(D))


def gaussian(X, sample_weight, weights, means, covariances, covariance_type):
    """A Gaussian mixture, every covariance as a whole matrix. Returns (l, r, log_likelihood, n, first, second).

    l (N, K) are the densities' logarithms with ln weights, first and second the sums about the means; second (D, D) is
    summed over components for "tied".
    """
    K, D = len(means), len(means[0])

    def matrix(k):
        if covariance_type in ("full", "tied"):
            return covariances[k] if covariance_type == "full" else covariances
        variances = covariances[k] if covariance_type == "diag" else [covariances[k]] * D
        return [[variances[i] if i == j else 0.0 for j in range(D)] for i in range(D)]

    def density(d, k):
        solution, log_determinant = eliminate(matrix(k), d)
        terms = [D * math.log(2 * math.pi), log_determinant, *(p * q for p, q in zip(d, solution, strict=True))]
        return (math.log(weights[k]) if weights[k] else -math.inf) - math.fsum(terms) / 2

    d = [[[x - m for x, m in zip(x_n, mean, strict=True)] for mean in means] for x_n in X]
    l = [[density(d_n[k], k) for k in range(K)] for d_n in d]
    log_likelihood = [max(l_n) + math.log(math.fsum(math.exp(l_nk - max(l_n)) for l_nk in l_n)) for l_n in l]
    r = [[math.exp(l_nk - most) for l_nk in l_n] for l_n, most in zip(l, log_likelihood, strict=True)]

    def total(k, *features):
        """Σ w r_k d_ki …"""
        return math.fsum(sample_weight[n] * r[n][k] * math.prod(d[n][k][i] for i in features) for n in range(len(X)))

    count = [total(k) for k in range(K)]
    first = [[total(k, i) for i in range(D)] for k in range(K)]
    second = [[[total(k, i, j) for j in range(D)] for i in range(D)] for k in range(K)]
    if covariance_type == "tied":
        second = [[math.fsum(second[k][i][j] for k in range(K)) for j in range(D)] for i in range(D)]
    if covariance_type in ("diag", "spherical"):
        second = [[second_k[i][i] for i in range(D)] for second_k in second]
    if covariance_type == "spherical":
        second = [math.fsum(variances) for variances in second]
    return l, r, log_likelihood, count, first, second


def multinomial(X, sample_weight, weights, probabilities):
    """A multinomial mixture. Returns (l, r, log_likelihood, n, counts).

    l (N, K) are the densities' logarithms without weights. A row that no component can produce belongs in equal shares
    to those, of a weight above 0, that find the fewest of its words impossible.
    """
    K, V = len(probabilities), len(probabilities[0])

    def log(p):
        return math.log(p) if p else -math.inf

    def density(x, theta):
        coefficient = [math.lgamma(math.fsum(x) + 1), *(-math.lgamma(c + 1) for c in x)]
        return math.fsum([*coefficient, *(c * log(p) for c, p in zip(x, theta, strict=True) if c)])

    def impossible(x, k):
        words = math.fsum(c for c, p in zip(x, probabilities[k], strict=True) if not p)
        return words if weights[k] else math.inf

    l = [[density(x, theta) for theta in probabilities] for x in X]
    log_likelihood, r = [], []
    for x, l_n in zip(X, l, strict=True):
        joint = [log(weights[k]) + l_n[k] for k in range(K)]
        most = max(joint)
        if most > -math.inf:
            log_likelihood.append(most + math.log(math.fsum(math.exp(l_k - most) for l_k in joint)))
            r.append([math.exp(l_k - log_likelihood[-1]) for l_k in joint])
        else:
            fewest = [impossible(x, k) for k in range(K)]
            log_likelihood.append(-math.inf)
            r.append([(words == min(fewest)) / fewest.count(min(fewest)) for words in fewest])
    rows = range(len(X))
    n = [math.fsum(sample_weight[i] * r[i][k] for i in rows) for k in range(K)]
    counts = [[math.fsum(sample_weight[i] * r[i][k] * X[i][v] for i in rows) for v in range(V)] for k in range(K)]
    return l, r, log_likelihood, n, counts


# --------------------------------------------------------------------------------------------------------------- trees


def tree_order(column, tie):
    """Rows in the order of their values, NaN last, and the places before which values may be split from each other."""
    rows = sorted(
        range(len(column)), key=lambda i: (math.isnan(column[i]), 0.0 if math.isnan(column[i]) else column[i])
    )
    values = [column[i] for i in rows if not math.isnan(column[i])]
    return rows, [p for p in range(1, len(values)) if values[p] > values[p - 1] + tie]


def tree_sums(rows, y, weight, K):
    """Weights of the classes among rows; or Σw, Σwy, Σwy² where K is 0."""
    if K:
        return [math.fsum(weight[i] for i in rows if y[i] == k) for k in range(K)]
    return [math.fsum(weight[i] * y[i] ** power for i in rows) for power in range(3)]


def tree_criterion(rows, y, weight, K, criterion):
    """The impurity of rows, times their weight."""
    sums = tree_sums(rows, y, weight, K)
    W = math.fsum(sums) if K else sums[0]
    if not W:
        return 0.0
    if criterion == "gini":
        return W - math.fsum(s * (s / W) for s in sums)
    if criterion == "entropy":
        return -math.fsum(s * math.log2(s / W) for s in sums if s)
    if criterion == "error":
        return W - max(sums)
    mean = sums[1] / W
    return math.fsum(weight[i] * (y[i] - mean) ** 2 for i in rows)


def tree_splits(X, rows, y, weight, K, criterion, tie):
    """Every split of rows: (criterion, feature, threshold, missing_left, rows that go left)."""
    for d in range(len(X[0])):
        column = [X[i][d] for i in rows]
        order, places = tree_order(column, tie)
        missing = [rows[p] for p in order if math.isnan(column[p])]
        known = [rows[p] for p in order if not math.isnan(column[p])]
        for left_missing in (False, True) if missing else (None,):
            for p in [*places, len(known)] if left_missing is False and known else places:
                left = known[:p] + (missing if left_missing else [])
                right = known[p:] + (missing if left_missing is False else [])
                threshold = math.inf
                if p < len(known):
                    below, above = X[known[p - 1]][d], X[known[p]][d]
                    threshold = below / 2 + above / 2
                    threshold = threshold if threshold < above else below
                side = left_missing if missing else len(left) > len(right)
                sides = (tree_criterion(part, y, weight, K, criterion) for part in (left, right))
                yield math.fsum(sides), d, threshold, side, left


def tree(X, y, weight, K, criterion, depth, used, tie, near, prefer):
    """A complete tree in heap order: (feature, threshold, missing_left, value, count, leaf, incorrect).

    K is 0 where y is a target. The rows in `used` of a weight above 0 grow it. Of the splits that are the best to
    within `near` of the node's criterion before it, for rounding, the one in `prefer` (a split for each node) is taken,
    otherwise the first.
    """
    P = 2**depth - 1
    node = [0] * len(X)
    found = [(-1, math.inf, True)] * P
    value, count = [], []
    for i in range(2 * P + 1):
        here = [n for n in range(len(X)) if node[n] == i and n in used and weight[n] > 0]
        value.append(tree_sums(here, y, weight, K))
        count.append(len(here))
        if i >= P:
            continue
        W = math.fsum(value[i]) if K else value[i][0]
        whole = tree_criterion(here, y, weight, K, criterion)
        if len(here) > 1 and whole > 2.0**-52 * W:
            splits = list(tree_splits(X, here, y, weight, K, criterion, tie))
            if splits:
                least = min(split[0] for split in splits)
                best = [split[1:4] for split in splits if split[0] <= least + near * (W if K else whole)]
                found[i] = prefer[i] if prefer[i] in best else best[0]
        feature, threshold, missing_left = found[i]
        for n in range(len(X)):
            if node[n] == i:
                x = 0.0 if feature < 0 else X[n][feature]
                node[n] = 2 * i + (1 if x <= threshold or (math.isnan(x) and missing_left) else 2)
    incorrect = [value[i].index(max(value[i])) != k for i, k in zip(node, y, strict=True)] if K else None
    return (*map(list, zip(*found, strict=True)), value, count, [i - P for i in node], incorrect)


def tree_codes(column, tie, most):
    """(values, order, rank, codes, starts) of one feature, its values in at most `most` bins; NaN has one more.

    Where values may be split in more places than that, a value of at least four equal shares of the rows is a bin of
    its own; of the other rows, a bin ends at the first place that has each of their equal shares before it.
    """
    order, ends = tree_order(column, tie)
    n = sum(not math.isnan(x) for x in column)
    if len(ends) >= most:
        groups = list(zip([0, *ends], [*ends, n], strict=True))
        heavy = [(start, end) for start, end in groups if (end - start) * most >= 4 * n]
        bins, light = most - 2 * len(heavy), n - sum(end - start for start, end in heavy)
        before = {end: end - sum(b - a for a, b in heavy if b <= end) for end in ends}
        shares = [j * light // bins for j in range(1, bins)]
        found = {next((end for end in ends if before[end] >= share), ends[-1]) for share in shares}
        ends = sorted(found | {place for group in heavy for place in group if 0 < place < n})
    starts = [0, *ends, n] if n else [0]
    bins = len(starts) - 1
    of_place = [next((b for b in range(bins) if p < starts[b + 1]), bins) for p in range(len(column))]
    rank = [0] * len(column)
    codes = [0] * len(column)
    for p, i in enumerate(order):
        rank[i], codes[i] = p, of_place[p]
    return [column[i] for i in order], order, rank, codes, starts


def tree_leaf(x, feature, threshold, missing_left):
    node = 0
    while node < len(feature):
        value = 0.0 if feature[node] < 0 else x[feature[node]]
        node = 2 * node + (1 if value <= threshold[node] or (math.isnan(value) and missing_left[node]) else 2)
    return node - len(feature)


def masses(weights, incorrect):
    """(the sum of the weights of right rows, of wrong rows, the least of 0 and the weights)."""
    pairs = list(zip(weights, incorrect, strict=True))
    return math.fsum(w for w, i in pairs if not i), math.fsum(w for w, i in pairs if i), min([0.0, *weights])


def samme(weights, incorrect, K, learning_rate=1.0):
    """(new weights of sum 1, alpha, error): every weight times an exponential, then divided by the sum of all."""
    right, wrong, _ = masses(weights, incorrect)
    error = wrong / (right + wrong)
    alpha = learning_rate * (math.log((1 - error) / error) + math.log(K - 1))
    new = [w * math.exp(alpha if i else 0) for w, i in zip(weights, incorrect, strict=True)]
    return [w / math.fsum(new) for w in new], alpha, error


def exponent(scores, y):
    """Of one row: the mean of the other classes' scores less that of its own."""
    others = [g for k, g in enumerate(scores) if k != y]
    return math.fsum(others) / len(others) - scores[y]


def exponential(scores, y, weights):
    """(the largest exponent of a weight above 0, Σ w exp(E - that), gradient, diagonal of the Hessian) of the loss."""
    E = [exponent(g, k) for g, k in zip(scores, y, strict=True)]
    most = max((e for e, w in zip(E, weights, strict=True) if w), default=-math.inf)
    total = math.fsum(w * math.exp(e - most) for e, w in zip(E, weights, strict=True) if w)
    gradient, hessian = [], []
    for g, k, e, w in zip(scores, y, E, weights, strict=True):
        of_row, others = w * math.exp(e), len(g) - 1
        gradient.append([-of_row if j == k else of_row / others for j in range(len(g))])
        hessian.append([of_row if j == k else of_row / others**2 for j in range(len(g))])
    return most, total, gradient, hessian


def softmax_cross_entropy(logits, target, scale=1.0):
    """(loss, gradient) of one row; zeros where the target is -1."""
    if target < 0:
        return 0.0, [0.0] * len(logits)
    most = max(logits)
    e = [math.exp(l - most) for l in logits]
    total = math.fsum(e)
    gradient = [scale * (e_v / total - (v == target)) for v, e_v in enumerate(e)]
    return math.log(total) - (logits[target] - most), gradient


def linear_cross_entropy(x, weight, bias, target, scale=1.0):
    """(losses, dx, dweight, dbias); a row whose target is -1 adds nothing."""
    rows = [
        (row, *softmax_cross_entropy(affine(weight, row, bias), t, scale)) for row, t in zip(x, target, strict=True)
    ]
    counts = [(row, d) for (row, _, d), t in zip(rows, target, strict=True) if t >= 0]
    dx = [[math.fsum(d[v] * w[h] for v, w in enumerate(weight)) for h in range(len(weight[0]))] for _, _, d in rows]
    dweight = [[math.fsum(d[v] * row[h] for row, d in counts) for h in range(len(w))] for v, w in enumerate(weight)]
    dbias = [math.fsum(d[v] for _, d in counts) for v in range(len(weight))]
    return [loss for _, loss, _ in rows], dx, dweight, dbias


def norm(arrays):
    """The root of the sum of the squares of all numbers."""
    return math.sqrt(math.fsum(g * g for array in arrays for g in array))


def adam(w, g, m, v, t, lr, beta1, beta2, eps):
    """(w, m, v) of one parameter after step t, the first being 1: algorithm 1 of Kingma and Ba as it stands there."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return w - lr * m_hat / (math.sqrt(v_hat) + eps), m, v
