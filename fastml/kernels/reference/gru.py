"""GRU, one layer, one direction.

    1  r, z = sigmoid(x_s @ w_ih.T + b_ih + h_{s-1} @ w_hh.T + b_hh)                         (their 2H of 3H: r, z, n)
    2  n = tanh(x_s @ w_in.T + b_in + r * (h_{s-1} @ w_hn.T + b_hn))                         reset after the product
       n = tanh(x_s @ w_in.T + b_in + (r * h_{s-1}) @ w_hn.T + b_hn)                         reset before it
    3  h_s = (1 - z) * n + z * h_{s-1}

`gates` keeps r, z, n and what r met in step 2: h_{s-1} @ w_hn.T + b_hn, or h_{s-1} itself.
The backward walks the same numbers back.
"""

import numpy as np

from .sequence import active, processed, project, project_back, sigmoid


def gru_forward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, reset_after, y, h_n, gates):
    H = w_hh.shape[1]
    w_rz, w_n = w_hh[: 2 * H], w_hh[2 * H :]
    bias = b_ih.copy()
    bias[: 2 * H] += b_hh[: 2 * H]
    projected = project(x, w_ih, bias, lengths, reverse)
    ys = np.zeros_like(y)
    h = h0.copy()
    for s, rows in enumerate(active(lengths, len(x))):
        p, h_s = projected[s, rows], h[rows]
        if reset_after:
            product = h_s @ w_hh.T
            rz = sigmoid(p[:, : 2 * H] + product[:, : 2 * H])  # 1
            met = product[:, 2 * H :] + b_hh[2 * H :]
            n = np.tanh(p[:, 2 * H :] + rz[:, :H] * met)  # 2
        else:
            rz = sigmoid(p[:, : 2 * H] + h_s @ w_rz.T)
            met = h_s
            n = np.tanh(p[:, 2 * H :] + (rz[:, :H] * h_s) @ w_n.T + b_hh[2 * H :])
        if gates is not None:
            gates[s, rows] = np.concatenate([rz, n, met], axis=1)
        h[rows] = ys[s, rows] = n + rz[:, H:] * (h_s - n)  # 3
    y[...] = processed(ys, lengths, reverse)
    h_n[...] = h


def gru_backward(
    x, h0, w_ih, w_hh, lengths, reverse, reset_after, y, gates, dy, dh_n,
    dx, dh0, dw_ih, dw_hh, db_ih, db_hh,
):  # fmt: skip
    T, B, H = y.shape
    w_rz, w_n = w_hh[: 2 * H], w_hh[2 * H :]
    hs = np.concatenate([h0[None], processed(y, lengths, reverse)])
    dys = processed(dy, lengths, reverse)
    da = np.zeros((T, B, 3 * H), y.dtype)  # of the input's product
    dmet = np.zeros((T, B, H), y.dtype)  # of the product with w_hn, before or after the reset
    met_by = hs[:-1] if reset_after else np.zeros_like(dmet)  # what w_hn was multiplied with
    dh = dh_n.copy()
    for s, rows in reversed(list(enumerate(active(lengths, T)))):
        r, z, n, met = np.split(gates[s, rows], 4, axis=1)
        h_s = hs[s, rows]
        dh_s = dh[rows] + dys[s, rows]
        dz = dh_s * (h_s - n) * z * (1 - z)  # 3
        dn = dh_s * (1 - z) * (1 - n * n)  # 2
        if reset_after:
            dr, back = dn * met, dn * r
            direct = 0
        else:
            back = dn
            through = dn @ w_n
            dr, direct = through * h_s, through * r
            met_by[s, rows] = r * h_s
        dr = dr * r * (1 - r)  # 1
        drz = np.concatenate([dr, dz], axis=1)
        da[s, rows] = np.concatenate([drz, dn], axis=1)
        dmet[s, rows] = back
        dh[rows] = dh_s * z + direct + drz @ w_rz + (back @ w_n if reset_after else 0)
    project_back(x, w_ih, da, lengths, reverse, dx, dw_ih)
    flat, flat_met = da.reshape(T * B, 3 * H), dmet.reshape(T * B, H)
    dw_hh[: 2 * H] = flat[:, : 2 * H].T @ hs[:-1].reshape(T * B, H)
    dw_hh[2 * H :] = flat_met.T @ met_by.reshape(T * B, H)
    db_ih[...] = flat.sum(axis=0)
    db_hh[: 2 * H], db_hh[2 * H :] = db_ih[: 2 * H], flat_met.sum(axis=0)
    dh0[...] = dh
