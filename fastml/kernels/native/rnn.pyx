"""RNN: unwrap the arrays, pick rung and dtype, release the GIL, call."""

include "recurrent.pxi"

cdef extern from "rnn.h":
    const fm_kernel fm_rnn_forward[5][2]
    const fm_kernel fm_rnn_backward[5][2]
    const fm_kernel fm_rnn_pack[5][2]


def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, relu, y, h_n, *, isa, packed=None):
    cdef Pass job = Pass(isa, x, h0, w_ih, w_hh, b_ih, b_hh, lengths, y, h_n)
    job.fill(x, h0, w_ih, w_hh, lengths, reverse, relu)
    job.c.b_ih, job.c.b_hh = data(b_ih), data(b_hh)
    job.c.y, job.c.h_n = data(y), data(h_n)
    job.execute(&fm_rnn_forward[0][0], w_ih, w_hh, True, packed)


def rnn_backward(
    x, h0, w_ih, w_hh, lengths, reverse, relu, y, dy, dh_n,
    dx, dh0, dw_ih, dw_hh, db_ih, db_hh, *, isa,
):
    cdef Pass job = Pass(
        isa, x, h0, w_ih, w_hh, lengths, y, dy, dh_n, dx, dh0, dw_ih, dw_hh, db_ih, db_hh
    )
    job.fill(x, h0, w_ih, w_hh, lengths, reverse, relu)
    job.c.y, job.c.dy, job.c.dh_n = data(y), data(dy), data(dh_n)
    job.c.dx, job.c.dh0 = data(dx), data(dh0)
    job.c.dw_ih, job.c.dw_hh, job.c.db_ih, job.c.db_hh = data(dw_ih), data(dw_hh), data(db_ih), data(db_hh)
    job.execute(&fm_rnn_backward[0][0], w_ih, w_hh, False)


def rnn_pack(w_ih, w_hh, b_ih, b_hh, *, isa):
    cdef Pass job = Pass(isa, w_ih, w_hh, b_ih, b_hh)
    return job.pack(&fm_rnn_pack[0][0], w_ih, w_hh, b_ih, b_hh, 0)


def rnn_stream(x, h0, w_ih, w_hh, b_ih, b_hh, relu, y, h_n, *, isa, packed):
    """One step, prepared: each call of what this returns reads x (1, B, I) and the states, and writes y (1, B, H) and the
    states after it, in arrays that stay where they are."""
    lengths = np.ones(x.shape[1], np.intp)
    cdef Pass job = Pass(isa, x, h0, w_ih, w_hh, b_ih, b_hh, lengths, y, h_n)
    job.fill(x, h0, w_ih, w_hh, lengths, False, relu)
    job.c.b_ih, job.c.b_hh, job.c.y, job.c.h_n = data(b_ih), data(b_hh), data(y), data(h_n)
    return job.stream(&fm_rnn_forward[0][0], w_hh, packed)
