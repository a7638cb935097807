"""RNN (Elman), one layer, one direction.

    1  a = x_s @ w_ih.T + b_ih + h_{s-1} @ w_hh.T + b_hh
    2  h_s = tanh(a), or relu: max(a, 0)

The backward walks the same numbers back.
"""

import numpy as np

from .sequence import active, processed, project, project_back


def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, relu, y, h_n):
    projected = project(x, w_ih, b_ih + b_hh, lengths, reverse)  # 1
    ys = np.zeros_like(y)
    h = h0.copy()
    for s, rows in enumerate(active(lengths, len(x))):
        a = projected[s, rows] + h[rows] @ w_hh.T  # 1
        h[rows] = ys[s, rows] = np.maximum(a, 0) if relu else np.tanh(a)  # 2
    y[...] = processed(ys, lengths, reverse)
    h_n[...] = h


def rnn_backward(
    x, h0, w_ih, w_hh, lengths, reverse, relu, y, dy, dh_n,
    dx, dh0, dw_ih, dw_hh, db_ih, db_hh,
):  # fmt: skip
    T, B, H = y.shape
    hs = np.concatenate([h0[None], processed(y, lengths, reverse)])
    dys = processed(dy, lengths, reverse)
    da = np.zeros_like(y)
    dh = dh_n.copy()
    for s, rows in reversed(list(enumerate(active(lengths, T)))):
        h_s = hs[s + 1, rows]
        dh_s = dh[rows] + dys[s, rows]
        da[s, rows] = dh_s * (h_s > 0) if relu else dh_s * (1 - h_s * h_s)  # 2
        dh[rows] = da[s, rows] @ w_hh  # 1
    project_back(x, w_ih, da, lengths, reverse, dx, dw_ih)
    flat = da.reshape(T * B, H)
    dw_hh[...] = flat.T @ hs[:-1].reshape(T * B, H)
    db_ih[...] = db_hh[...] = flat.sum(axis=0)
    dh0[...] = dh
