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
