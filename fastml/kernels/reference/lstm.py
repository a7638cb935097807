"""LSTM, one layer, one direction.

    1  a = x_s @ w_ih.T + b_ih + h_{s-1} @ w_hh.T + b_hh          (4H: i, f, g, o)
    2  i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)
    3  c_s = f * c_{s-1} + i * g
    4  h_s = o * tanh(c_s)

The backward walks the same numbers back.
"""

import numpy as np

from .sequence import active, processed, project, project_back, sigmoid


def lstm_forward(x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, y, h_n, c_n, gates, cells):
    H = w_hh.shape[1]
    projected = project(x, w_ih, b_ih + b_hh, lengths, reverse)  # 1
    ys = np.zeros_like(y)
    h, c = h0.copy(), c0.copy()
    if cells is not None:
        cells[0] = c0
    for s, rows in enumerate(active(lengths, len(x))):
        a = projected[s, rows] + h[rows] @ w_hh.T  # 1
        a[:, : 2 * H] = sigmoid(a[:, : 2 * H])  # 2
        a[:, 2 * H : 3 * H] = np.tanh(a[:, 2 * H : 3 * H])
        a[:, 3 * H :] = sigmoid(a[:, 3 * H :])
        i, f, g, o = np.split(a, 4, axis=1)
        c[rows] = f * c[rows] + i * g  # 3
        h[rows] = ys[s, rows] = o * np.tanh(c[rows])  # 4
        if gates is not None:
            gates[s, rows] = a
            cells[s + 1] = c
    y[...] = processed(ys, lengths, reverse)
    h_n[...], c_n[...] = h, c


def lstm_backward(
    x, h0, c0, w_ih, w_hh, lengths, reverse, y, gates, cells, dy, dh_n, dc_n,
    dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh,
):  # fmt: skip
    T, B, H = y.shape
    hs = np.concatenate([h0[None], processed(y, lengths, reverse)])
    dys = processed(dy, lengths, reverse)
    da = np.zeros_like(gates)
    dh, dc = dh_n.copy(), dc_n.copy()
    for s, rows in reversed(list(enumerate(active(lengths, T)))):
        i, f, g, o = np.split(gates[s, rows], 4, axis=1)
        tanh_c = np.tanh(cells[s + 1, rows])
        dh_s = dh[rows] + dys[s, rows]
        do = dh_s * tanh_c  # 4
        dc_s = dc[rows] + dh_s * o * (1 - tanh_c * tanh_c)
        di, df, dg = dc_s * g, dc_s * cells[s, rows], dc_s * i  # 3
        dc[rows] = dc_s * f
        da[s, rows] = np.concatenate(  # 2
            [di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)], axis=1
        )
        dh[rows] = da[s, rows] @ w_hh  # 1
    project_back(x, w_ih, da, lengths, reverse, dx, dw_ih)
    flat = da.reshape(T * B, 4 * H)
    dw_hh[...] = flat.T @ hs[:-1].reshape(T * B, H)
    db_ih[...] = db_hh[...] = flat.sum(axis=0)
    dh0[...], dc0[...] = dh, dc
