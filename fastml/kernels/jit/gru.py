"""GRU, one layer, one direction; the steps are numbered as in the reference.

    1  r, z = sigmoid(x_s @ w_ih.T + b_ih + h_{s-1} @ w_hh.T + b_hh)                         (their 2H of 3H: r, z, n)
    2  n = tanh(x_s @ w_in.T + b_in + r * (h_{s-1} @ w_hn.T + b_hn))                         reset after the product
       n = tanh(x_s @ w_in.T + b_in + (r * h_{s-1}) @ w_hn.T + b_hn)                         reset before it
    3  h_s = (1 - z) * n + z * h_{s-1}

A row of the buffer `a` is one (step, sequence): r, z, n and what r meets, as in `gates`, each padded to `pitch`
columns; the backward turns them into the gradients of their sums in place.
"""

from .arithmetic import sigmoid, tanh
from .compiling import compiled
from .inputs import inputs_of
from .product import backward_weights, buffers, columns, forward_weights, product, scratch, skewed, unpack
from .sequence import Order, backward, chunk_rows, share, sums
from .simd import flush_denormals, fma, load, restore_denormals, step, store


def gru_forward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, reset_after, y, h_n, gates):
    (_, B, H), dtype = y.shape, y.dtype
    pitch = columns(H, dtype)
    xs = inputs_of(x, w_ih, lengths, 3, pitch)
    work = 6.0 * H * (xs.multiplied + H)
    order = Order(lengths, reverse, chunk_rows(4 * pitch, work, dtype))
    bias, b_met = b_ih + b_hh, scratch(1, pitch, dtype=dtype)
    if reset_after:
        bias[2 * H :], b_met[0, :H] = b_ih[2 * H :], b_hh[2 * H :]
    xs.prepare(bias)
    w_rz, w_n = forward_weights(w_hh[: 2 * H], 2, pitch), forward_weights(w_hh[2 * H :], 1, pitch)
    order.clear_padding(y)

    def pieces(worker, workers):
        for span in order.spans(worker, workers):
            part = order.part(*span)
            a, hs = buffers(part.height, 4 * pitch, pitch, dtype=dtype)
            inputs, h, rh = xs.buffer(part.height), part.states(h0, pitch), scratch(len(part.rows), pitch, dtype=dtype)
            for chunk in part.chunks:
                xs.project(part, chunk, inputs, a)  # 1, 2
                _forward(part.starts, *chunk, reset_after, w_rz, w_n, b_met, a, h, rh, hs)
                part.scatter(hs, chunk, y)
                if gates is not None:
                    part.scatter(a, chunk, gates, blocks=4, pitch=pitch, saved=True)
                yield
            h_n[part.rows] = h[:, :H]

    share(pieces, work * lengths.sum(), B)


@compiled
def _forward(starts, start, end, reset_after, w_rz, w_n, b_met, a, h, rh, hs):
    control = flush_denormals()
    pitch = h.shape[1]
    for s in range(start, end):
        first, count = starts[s] - starts[start], starts[s + 1] - starts[s]
        product(a, first, 0, h, 0, 0, count, w_rz, s % 2)
        if reset_after:
            product(a, first, 3 * pitch, h, 0, 0, count, w_n, s % 2)
        else:
            for b in range(count):
                for j in range(0, pitch, step(h)):
                    store(rh, b, j, sigmoid(load(a, first + b, j)) * load(h, b, j))
            product(a, first, 2 * pitch, rh, 0, 0, count, w_n, s % 2)
        for b in range(count):
            row = first + b
            for j in range(0, pitch, step(h)):
                r, z = sigmoid(load(a, row, j)), sigmoid(load(a, row, pitch + j))
                met = before = load(h, b, j)
                n = load(a, row, 2 * pitch + j)
                if reset_after:
                    met = load(a, row, 3 * pitch + j) + load(b_met, 0, j)
                    n = fma(r, met, n)
                n = tanh(n)
                h_s = fma(z, before - n, n)  # 3
                store(a, row, j, r)
                store(a, row, pitch + j, z)
                store(a, row, 2 * pitch + j, n)
                store(a, row, 3 * pitch + j, met)
                store(h, b, j, h_s)
                store(hs, row, j, h_s)
    restore_denormals(control)


def gru_backward(
    x, h0, w_ih, w_hh, lengths, reverse, reset_after, y, gates, dy, dh_n,
    dx, dh0, dw_ih, dw_hh, db_ih, db_hh,
):  # fmt: skip
    (_, B, H), dtype = y.shape, y.dtype
    pitch = columns(H, dtype)
    xs = inputs_of(x, w_ih, lengths, 3, pitch)
    work = 12.0 * H * (xs.multiplied + H)
    order = Order(lengths, reverse, chunk_rows(4 * pitch, work, dtype))
    xs.prepare_back(order, dx)
    w_rz, w_n = backward_weights(w_hh[: 2 * H], 2, pitch), backward_weights(w_hh[2 * H :], 1, pitch)
    widths = 1 + pitch, 1 + pitch, skewed(4 * pitch, dtype), pitch
    sets = [(xs.buffer(order.height), *buffers(order.height, *widths, dtype=dtype)) for _ in range(2)]
    dh, drh = order.states(dh_n, pitch), scratch(B, pitch, dtype=dtype)
    dw_rz, dw_n = buffers(1 + H, 2 * pitch, pitch, dtype=dtype)
    for _, hs, rhs, *_ in sets:
        hs[:, 0] = rhs[:, 0] = 1

    def recurrence(chunk, turn, worker, workers):
        inputs, hs, rhs, a, dys = sets[turn]
        for span in order.spans(worker, workers):
            xs.gather(order, chunk, inputs, span)
            order.gather_before(y, h0, chunk, hs, span=span, column=1, pitch=pitch)
            order.gather(gates, chunk, a, span=span, blocks=4, pitch=pitch, saved=True)
            order.gather(dy, chunk, dys, span=span, pitch=pitch)
            _backward(order.starts, *chunk, *span, reset_after, w_rz, w_n, a, hs, rhs, dys, dh, drh)
            yield

    def gradients(chunk, turn, worker, workers):
        inputs, hs, rhs, a, _ = sets[turn]
        # what w_hn was multiplied with, and the columns of `a` that hold the gradient of the product
        last = (hs, 3 * pitch) if reset_after else (rhs, 2 * pitch)
        yield from xs.walk_back(order, chunk, inputs, a, worker, workers)
        yield from sums(order.count(chunk), a, [(dw_rz, hs, 0), (dw_n, *last)], worker, workers)

    backward(order, recurrence, gradients, work)
    dh0[order.rows] = dh[:, :H]
    xs.finish(db_ih, dw_ih)
    unpack(dw_rz, 2, pitch, db_hh[: 2 * H], dw_hh[: 2 * H])
    unpack(dw_n, 1, pitch, db_hh[2 * H :], dw_hh[2 * H :])


@compiled
def _backward(starts, start, end, first, last, reset_after, w_rz, w_n, a, hs, rhs, dys, dh, drh):
    control = flush_denormals()
    pitch = dys.shape[1]
    for s in range(end - 1, start - 1, -1):
        top = starts[s] - starts[start]
        count = max(0, min(last, starts[s + 1] - starts[s]) - first)
        for b in range(first, first + count):
            row = top + b
            for j in range(0, pitch, step(a)):
                r, z = load(a, row, j), load(a, row, pitch + j)
                n, h = load(a, row, 2 * pitch + j), load(hs, row, 1 + j)
                dh_s = load(dh, b, j) + load(dys, row, j)
                dn = dh_s * (1.0 - z) * (1.0 - n * n)  # 3, 2
                if reset_after:
                    store(a, row, j, dn * load(a, row, 3 * pitch + j) * r * (1.0 - r))  # 1
                    store(a, row, 3 * pitch + j, dn * r)
                else:
                    store(rhs, row, 1 + j, r * h)
                    store(drh, b, j, 0.0)
                store(a, row, pitch + j, dh_s * (h - n) * z * (1.0 - z))
                store(a, row, 2 * pitch + j, dn)
                store(dh, b, j, dh_s * z)
        if reset_after:
            product(dh, first, 0, a, top + first, 3 * pitch, count, w_n, s % 2)
        else:
            product(drh, first, 0, a, top + first, 2 * pitch, count, w_n, s % 2)
            for b in range(first, first + count):
                row = top + b
                for j in range(0, pitch, step(a)):
                    r, d = load(a, row, j), load(drh, b, j)
                    store(a, row, j, d * load(hs, row, 1 + j) * r * (1.0 - r))
                    store(dh, b, j, fma(d, r, load(dh, b, j)))
        product(dh, first, 0, a, top + first, 0, count, w_rz, s % 2)
    restore_denormals(control)
