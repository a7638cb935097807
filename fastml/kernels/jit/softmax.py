"""Softmax with cross-entropy; the steps are numbered as in the reference.

Of a linear layer, a block of rows at a time: logits, losses, their gradient in place, dx; then the block's part of dW
and db, whose sums are (1 + H, classes), the bias being the weight of a leading 1. Classes are in the lanes.
"""

import math

import numpy as np

from .arithmetic import exp
from .compiling import compiled, frozen, inlined
from .product import backward_weights, buffers, columns, forward_weights, product, scratch, unpack
from .sequence import blocks, chunk_rows, share, sums
from .simd import at, at_least, copy, flush_denormals, lanes, load, restore_denormals, step, store, zeros

EXP_WORK = 40  # floating-point operations of steps 2 to 4 for a logit
CHAIN = 64  # vectors whose exponentials are one sum: short ones, for float32's sake


def softmax_cross_entropy(logits, target, scale, loss, dlogits):
    (N, V), dtype = logits.shape, logits.dtype
    out = np.zeros((0, V), dtype) if dlogits is None else dlogits
    scale, logits = dtype.type(scale), frozen(logits)

    def pieces(worker, workers):
        l, lane = buffers(1, columns(V, dtype), lanes(dtype), dtype=dtype)
        for first, count in blocks(N, worker, workers, EXP_WORK * V):
            _cross_entropy(logits, target, first, first + count, scale, l, lane, loss, out)
            yield

    share(pieces, EXP_WORK * V * N, N)


def softmax_linear(x, weight, bias, target, scale, loss, dx, dweight, dbias):
    rows = np.flatnonzero(target >= 0)
    (V, H), N, dtype = weight.shape, len(rows), x.dtype
    pitch, work = columns(V, dtype), (2.0 if dx is None else 4.0) * V * H + EXP_WORK * V
    forward = forward_weights(weight, 1, pitch, bias)
    backward = forward[:0] if dx is None else backward_weights(weight, 1, pitch)
    gradient = np.zeros((0, H), dtype) if dx is None else dx
    most = chunk_rows(max(pitch, H), 1, dtype)  # pieces of them are short enough
    xs, l, d = buffers(most, 1 + H, pitch, columns(H, dtype), dtype=dtype)
    dw = scratch(0 if dx is None else 1 + H, pitch, dtype=dtype)
    scale, x = dtype.type(scale), frozen(x)
    loss[target < 0] = 0
    gradient[target[: len(gradient)] < 0] = 0
    for start in range(0, N, most):
        size = min(most, N - start)

        def pieces(worker, workers, start=start, size=size):
            lane = scratch(1, lanes(dtype), dtype=dtype)
            for i, n in blocks(size, worker, workers, work):
                block = xs[i : i + n], l[i : i + n], d[i : i + n]
                own = rows[start + i : start + i + n]
                _rows(x, target, own, forward, backward, scale, V, *block, lane, loss, gradient)
                yield

        def gradients(worker, workers, size=size):
            yield from sums(size, l, [(dw, xs, 0)], worker, workers)

        share(pieces, work * size, size)
        if dx is not None:
            share(gradients, 2.0 * V * H * size, H)
    if dx is not None:
        unpack(dw, 1, pitch, dbias, dweight)


# ---------------------------------------------------------------------------------------------------------- compiled


@inlined
def _softmax(l, r, V, target, scale, lane, loss, n, gradient):
    """2 to 4 of row r of l, in place, whose classes from V on do not count."""
    low, L = -87.0 if l.itemsize == 4 else -708.0, step(l)
    width = (V + L - 1) // L * L
    for v in range(V, width):
        l[r, v] = -np.inf
    largest = load(l, r, 0)
    for v in range(L, width, L):
        largest = at_least(load(l, r, v), largest)
    store(lane, 0, 0, largest)
    most = lane[0, 0]
    for i in range(1, L):
        most = max(most, lane[0, i])
    chosen, total = l[r, target] - most, zeros(l)
    for first in range(0, width, CHAIN * L):
        part = zeros(l)
        for v in range(first, min(width, first + CHAIN * L), L):
            e = exp(load(l, r, v) - most, low)
            store(l, r, v, e)
            part = part + e
        total = total + part
    store(lane, 0, 0, total)
    whole = 0.0
    for i in range(L):
        whole += np.float64(lane[0, i])
    loss[n] = math.log(whole) - chosen  # 3
    if gradient:
        factor = scale / whole
        for v in range(0, width, L):
            store(l, r, v, load(l, r, v) * factor)
        l[r, target] -= scale  # 4


@compiled
def _cross_entropy(logits, target, start, end, scale, l, lane, loss, dlogits):
    control = flush_denormals()
    V, gradient = logits.shape[1], len(dlogits) > 0
    for n in range(start, end):
        if target[n] >= 0:
            copy(at(l, 0, 0), at(logits, n, 0), V)
            _softmax(l, 0, V, target[n], scale, lane, loss, n, gradient)
            if gradient:
                copy(at(dlogits, n, 0), at(l, 0, 0), V)
        else:
            loss[n] = 0
            if gradient:
                dlogits[n] = 0
    restore_denormals(control)


@compiled
def _rows(x, target, rows, forward, backward, scale, V, xs, l, d, lane, loss, dx):
    """Losses of some rows of x, and their dx; xs gets them, and l the gradients of their logits."""
    control = flush_denormals()
    H, count, gradient = x.shape[1], len(rows), len(dx) > 0
    for r in range(count):
        xs[r, 0] = 1
        copy(at(xs, r, 1), at(x, rows[r], 0), H)
    l[:] = 0
    product(l, 0, 0, xs, 0, 0, count, forward)  # 1
    for r in range(count):
        _softmax(l, r, V, target[rows[r]], scale, lane, loss, rows[r], gradient)
        for v in range(V, l.shape[1] if gradient else 0):
            l[r, v] = 0
    if gradient:
        d[:] = 0
        product(d, 0, 0, l, 0, 0, count, backward)  # 5
        for r in range(count):
            copy(at(dx, rows[r], 0), at(d, r, 0), H)
    restore_denormals(control)
