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
