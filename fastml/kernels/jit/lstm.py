"""LSTM, one layer, one direction; the steps are numbered as in the reference.

    1  a = x_s @ w_ih.T + b_ih + h_{s-1} @ w_hh.T + b_hh          (4H: i, f, g, o)
    2  i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)
    3  c_s = f * c_{s-1} + i * g
    4  h_s = o * tanh(c_s)

A row of the buffer `a` is one (step, sequence): its gates side by side, each padded to `pitch` columns; the backward
turns them into the gradients of step 1's sums in place.
"""

from functools import partial

from .arithmetic import sigmoid, tanh
from .compiling import compiled
from .inputs import inputs_of
from .product import backward_weights, buffers, columns, forward_weights, product, scratch, skewed, units, unpack
from .sequence import Order, backward, chunk_rows, share, sums
from .simd import flush_denormals, fma, load, restore_denormals, step, store


def lstm_forward(x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, y, h_n, c_n, gates, cells):
    (_, B, H), dtype = y.shape, y.dtype
    pitch = units(H, dtype)
    xs = inputs_of(x, w_ih, lengths, 4, pitch)
    work = 8.0 * H * (xs.multiplied + H)
    order = Order(lengths, reverse, chunk_rows(4 * pitch, work, dtype))
    xs.prepare(b_ih + b_hh)
    w_h = forward_weights(w_hh, 4, pitch)
    order.clear_padding(y)
    if cells is not None:
        cells[0] = c0

    def pieces(worker, workers):
        for span in order.spans(worker, workers):
            part = order.part(*span)
            a, hs, cs = buffers(part.height, 4 * pitch, pitch, pitch, dtype=dtype)
            inputs, h, c = xs.buffer(part.height), part.states(h0, pitch), part.states(c0, pitch)
            for chunk in part.chunks:
                xs.project(part, chunk, inputs, a)  # 1
                _forward(part.starts, *chunk, w_h, a, h, c, hs, cs)
                part.scatter(hs, chunk, y)
                if gates is not None:
                    part.scatter(a, chunk, gates, blocks=4, pitch=pitch, saved=True)
                    part.scatter(cs, chunk, cells[1:], saved=True)
                yield
            h_n[part.rows], c_n[part.rows] = h[:, :H], c[:, :H]

    share(pieces, work * lengths.sum(), B)


@compiled
def _forward(starts, start, end, w_h, a, h, c, hs, cs):
    control = flush_denormals()
    pitch = h.shape[1]
    for s in range(start, end):
        row, n = starts[s] - starts[start], starts[s + 1] - starts[s]
        product(a, row, 0, h, 0, 0, n, w_h, s % 2)  # 1
        for b in range(n):
            r = row + b
            for j in range(0, pitch, step(h)):
                i = sigmoid(load(a, r, j))  # 2
                f = sigmoid(load(a, r, pitch + j))
                g = tanh(load(a, r, 2 * pitch + j))
                o = sigmoid(load(a, r, 3 * pitch + j))
                c_s = fma(f, load(c, b, j), i * g)  # 3
                h_s = o * tanh(c_s)  # 4
                store(a, r, j, i)
                store(a, r, pitch + j, f)
                store(a, r, 2 * pitch + j, g)
                store(a, r, 3 * pitch + j, o)
                store(c, b, j, c_s)
                store(cs, r, j, c_s)
                store(h, b, j, h_s)
                store(hs, r, j, h_s)
    restore_denormals(control)


def lstm_backward(
    x, h0, c0, w_ih, w_hh, lengths, reverse, y, gates, cells, dy, dh_n, dc_n,
    dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh,
):  # fmt: skip
    H, dtype = w_hh.shape[1], y.dtype
    pitch = units(H, dtype)
    xs = inputs_of(x, w_ih, lengths, 4, pitch)
    work = 16.0 * H * (xs.multiplied + H)
    order = Order(lengths, reverse, chunk_rows(4 * pitch, work, dtype))
    xs.prepare_back(order, dx)
    w_h = backward_weights(w_hh, 4, pitch)
    widths = 1 + H, skewed(4 * pitch, dtype), pitch, pitch, pitch
    sets = [(xs.buffer(order.height), *buffers(order.height, *widths, dtype=dtype)) for _ in range(2)]
    dh, dc = order.states(dh_n, columns(H, dtype)), order.states(dc_n, pitch)
    dw_h = scratch(1 + H, 4 * pitch, dtype=dtype)
    for _, hs, *_ in sets:
        hs[:, 0] = 1

    def recurrence(chunk, turn, worker, workers):
        inputs, hs, a, cs, before, dys = sets[turn]
        for span in order.spans(worker, workers):
            gather = partial(order.gather, chunk=chunk, span=span)
            xs.gather(order, chunk, inputs, span)
            order.gather_before(y, h0, chunk, hs, span=span, column=1)
            gather(gates, target=a, blocks=4, pitch=pitch, saved=True)
            gather(cells[1:], target=cs, pitch=pitch, saved=True)
            gather(cells, target=before, pitch=pitch, saved=True)
            gather(dy, target=dys, pitch=pitch)
            _backward(order.starts, *chunk, *span, w_h, a, cs, before, dys, dh, dc)
            yield

    def gradients(chunk, turn, worker, workers):
        inputs, hs, a, *_ = sets[turn]
        yield from xs.walk_back(order, chunk, inputs, a, worker, workers)
        yield from sums(order.count(chunk), a, [(dw_h, hs, 0)], worker, workers)

    backward(order, recurrence, gradients, work)
    dh0[order.rows], dc0[order.rows] = dh[:, :H], dc[:, :H]
    xs.finish(db_ih, dw_ih)
    unpack(dw_h, 4, pitch, db_hh, dw_hh)


@compiled
def _backward(starts, start, end, first, last, w_h, a, cs, before, dys, dh, dc):
    control = flush_denormals()
    pitch = cs.shape[1]
    for s in range(end - 1, start - 1, -1):
        row, n = starts[s] - starts[start], max(0, min(last, starts[s + 1] - starts[s]) - first)
        for b in range(first, first + n):
            r = row + b
            for j in range(0, pitch, step(cs)):
                i, f = load(a, r, j), load(a, r, pitch + j)
                g, o = load(a, r, 2 * pitch + j), load(a, r, 3 * pitch + j)
                tanh_c = tanh(load(cs, r, j))
                dh_s = load(dh, b, j) + load(dys, r, j)
                dc_s = fma(dh_s * o, 1.0 - tanh_c * tanh_c, load(dc, b, j))  # 4
                store(a, r, j, dc_s * g * i * (1.0 - i))  # 3, 2
                store(a, r, pitch + j, dc_s * load(before, r, j) * f * (1.0 - f))
                store(a, r, 2 * pitch + j, dc_s * i * (1.0 - g * g))
                store(a, r, 3 * pitch + j, dh_s * tanh_c * o * (1.0 - o))
                store(dc, b, j, dc_s * f)
                store(dh, b, j, 0.0)
        product(dh, first, 0, a, row + first, 0, n, w_h, s % 2)  # 1
    restore_denormals(control)
