"""LSTM: unwrap the arrays, pick rung and dtype, release the GIL, call."""

include "recurrent.pxi"

cdef extern from "lstm.h":
    const fm_kernel fm_lstm_forward[5][2]
    const fm_kernel fm_lstm_backward[5][2]
    const fm_kernel fm_lstm_pack[5][2]


def lstm_forward(x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, y, h_n, c_n, gates, cells, *, isa, packed=None):
    cdef Pass job = Pass(isa, x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, y, h_n, c_n, gates, cells)
    job.fill(x, h0, w_ih, w_hh, lengths, reverse, 0)
    job.c.c0, job.c.b_ih, job.c.b_hh = data(c0), data(b_ih), data(b_hh)
    job.c.y, job.c.h_n, job.c.c_n, job.c.gates, job.c.cells = data(y), data(h_n), data(c_n), data(gates), data(cells)
    job.execute(&fm_lstm_forward[0][0], w_ih, w_hh, True, packed)


def lstm_backward(
    x, h0, c0, w_ih, w_hh, lengths, reverse, y, gates, cells, dy, dh_n, dc_n,
    dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh, *, isa,
):
    cdef Pass job = Pass(
        isa, x, h0, c0, w_ih, w_hh, lengths, y, gates, cells, dy, dh_n, dc_n, dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh
    )
    job.fill(x, h0, w_ih, w_hh, lengths, reverse, 0)
    job.c.c0, job.c.y, job.c.gates, job.c.cells = data(c0), data(y), data(gates), data(cells)
    job.c.dy, job.c.dh_n, job.c.dc_n = data(dy), data(dh_n), data(dc_n)
    job.c.dx, job.c.dh0, job.c.dc0 = data(dx), data(dh0), data(dc0)
    job.c.dw_ih, job.c.dw_hh, job.c.db_ih, job.c.db_hh = data(dw_ih), data(dw_hh), data(db_ih), data(db_hh)
    job.execute(&fm_lstm_backward[0][0], w_ih, w_hh, False)


def lstm_pack(w_ih, w_hh, b_ih, b_hh, *, isa):
    cdef Pass job = Pass(isa, w_ih, w_hh, b_ih, b_hh)
    return job.pack(&fm_lstm_pack[0][0], w_ih, w_hh, b_ih, b_hh, 0)


def lstm_stream(x, h0, c0, w_ih, w_hh, b_ih, b_hh, y, h_n, c_n, *, isa, packed):
    """One step, prepared: each call of what this returns reads x (1, B, I) and the states, and writes y (1, B, H) and the
    states after it, in arrays that stay where they are."""
    lengths = np.ones(x.shape[1], np.intp)
    cdef Pass job = Pass(isa, x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, y, h_n, c_n)
    job.fill(x, h0, w_ih, w_hh, lengths, False, 0)
    job.c.b_ih, job.c.b_hh, job.c.y, job.c.h_n = data(b_ih), data(b_hh), data(y), data(h_n)
    job.c.c0, job.c.c_n = data(c0), data(c_n)
    return job.stream(&fm_lstm_forward[0][0], w_hh, packed)
