"""RNN (Elman), one layer, one direction; the steps are numbered as in the reference.

    1  a = x_s @ w_ih.T + b_ih + h_{s-1} @ w_hh.T + b_hh
    2  h_s = tanh(a), or relu: max(a, 0)

A row of the buffer `a` is one (step, sequence): step 1's sums, which step 2 overwrites; in the backward the states,
which become the gradients of the sums.
"""

from .arithmetic import tanh
from .compiling import compiled
from .inputs import inputs_of
from .product import backward_weights, buffers, columns, forward_weights, product, scratch, skewed, unpack
from .sequence import Order, backward, chunk_rows, share, sums
from .simd import at_least, flush_denormals, load, positive, restore_denormals, step, store


def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, relu, y, h_n):
    (_, B, H), dtype = y.shape, y.dtype
    pitch = columns(H, dtype)
    xs = inputs_of(x, w_ih, lengths, 1, pitch)
    work = 2.0 * H * (xs.multiplied + H)
    order = Order(lengths, reverse, chunk_rows(pitch, work, dtype))
    xs.prepare(b_ih + b_hh)
    w_h = forward_weights(w_hh, 1, pitch)
    order.clear_padding(y)

    def pieces(worker, workers):
        for span in order.spans(worker, workers):
            part = order.part(*span)
            inputs, a = xs.buffer(part.height), scratch(part.height, pitch, dtype=dtype)
            h = part.states(h0, pitch)
            for chunk in part.chunks:
                xs.project(part, chunk, inputs, a)  # 1
                _forward(part.starts, *chunk, relu, w_h, a, h)
                part.scatter(a, chunk, y)
                yield
            h_n[part.rows] = h[:, :H]

    share(pieces, work * lengths.sum(), B)


@compiled
def _forward(starts, start, end, relu, w_h, a, h):
    control = flush_denormals()
    pitch = h.shape[1]
    for s in range(start, end):
        row, n = starts[s] - starts[start], starts[s + 1] - starts[s]
        product(a, row, 0, h, 0, 0, n, w_h, s % 2)  # 1
        for b in range(n):
            for j in range(0, pitch, step(h)):
                a_s = load(a, row + b, j)
                h_s = at_least(a_s, 0.0) if relu else tanh(a_s)  # 2
                store(a, row + b, j, h_s)
                store(h, b, j, h_s)
    restore_denormals(control)


def rnn_backward(
    x, h0, w_ih, w_hh, lengths, reverse, relu, y, dy, dh_n,
    dx, dh0, dw_ih, dw_hh, db_ih, db_hh,
):  # fmt: skip
    H, dtype = w_hh.shape[1], y.dtype
    pitch = columns(H, dtype)
    xs = inputs_of(x, w_ih, lengths, 1, pitch)
    work = 4.0 * H * (xs.multiplied + H)
    order = Order(lengths, reverse, chunk_rows(pitch, work, dtype))
    xs.prepare_back(order, dx)
    w_h = backward_weights(w_hh, 1, pitch)
    widths = 1 + H, skewed(pitch, dtype), pitch
    sets = [(xs.buffer(order.height), *buffers(order.height, *widths, dtype=dtype)) for _ in range(2)]
    dh = order.states(dh_n, pitch)
    dw_h = scratch(1 + H, pitch, dtype=dtype)
    for _, hs, *_ in sets:
        hs[:, 0] = 1

    def recurrence(chunk, turn, worker, workers):
        inputs, hs, a, dys = sets[turn]
        for span in order.spans(worker, workers):
            xs.gather(order, chunk, inputs, span)
            order.gather_before(y, h0, chunk, hs, span=span, column=1)
            order.gather(y, chunk, a, span=span, pitch=pitch)
            order.gather(dy, chunk, dys, span=span, pitch=pitch)
            _backward(order.starts, *chunk, *span, relu, w_h, a, dys, dh)
            yield

    def gradients(chunk, turn, worker, workers):
        inputs, hs, a, _ = sets[turn]
        yield from xs.walk_back(order, chunk, inputs, a, worker, workers)
        yield from sums(order.count(chunk), a, [(dw_h, hs, 0)], worker, workers)

    backward(order, recurrence, gradients, work)
    dh0[order.rows] = dh[:, :H]
    xs.finish(db_ih, dw_ih)
    unpack(dw_h, 1, pitch, db_hh, dw_hh)


@compiled
def _backward(starts, start, end, first, last, relu, w_h, a, dys, dh):
    control = flush_denormals()
    pitch = dys.shape[1]
    for s in range(end - 1, start - 1, -1):
        row, n = starts[s] - starts[start], max(0, min(last, starts[s + 1] - starts[s]) - first)
        for b in range(first, first + n):
            for j in range(0, pitch, step(a)):
                h_s = load(a, row + b, j)
                dh_s = load(dh, b, j) + load(dys, row + b, j)
                store(a, row + b, j, dh_s * positive(h_s) if relu else dh_s * (1.0 - h_s * h_s))  # 2
                store(dh, b, j, 0.0)
        product(dh, first, 0, a, row + first, 0, n, w_h, s % 2)  # 1
    restore_denormals(control)
