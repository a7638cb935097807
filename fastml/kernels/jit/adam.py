"""Adam; the steps are numbered as in the reference.

1  g = scale gradient
2  m ← β₁ m + (1 - β₁) g
3  v ← β₂ v + (1 - β₂) g²
4  w ← w - rate m / (√v + eps)
"""

import numpy as np

from ..table import CHUNK
from .compiling import compiled, inlined
from .product import scratch
from .sequence import blocks, share
from .simd import flush_denormals, lanes, load, restore_denormals, square_root, step, store

LANES = 16  # of a chunk's sum: numbers i, i + LANES, i + 2 LANES, … are added in one chain
WORK = 14.0  # operations of a number's update


def adam_squares(gradient, total):
    N = len(gradient)
    sums = np.zeros(-(-N // CHUNK))

    def pieces(worker, workers):
        for first, count in blocks(len(sums), worker, workers, 2.0 * CHUNK):
            _squares(gradient, sums, first, first + count)
            yield

    share(pieces, 2.0 * N, len(sums))
    total[0] = sum(sums.tolist())  # in the order of the chunks


def adam_update(weight, gradient, first, second, scale, rate, beta1, beta2, eps, new_weight, new_first, new_second):
    arrays = [a.reshape(1, -1) for a in (weight, gradient, first, second, new_weight, new_first, new_second)]
    numbers = np.array([scale, rate, beta1, 1 - beta1, beta2, 1 - beta2, eps]).astype(weight.dtype)
    N = len(weight)

    def pieces(worker, workers):
        last = scratch(4, lanes(weight.dtype), dtype=weight.dtype)
        for start, count in blocks(N, worker, workers, WORK):
            _update(*arrays, numbers, last, start, start + count)
            yield

    share(pieces, WORK * N, N)


# ---------------------------------------------------------------------------------------------------------- compiled


@compiled
def _squares(gradient, sums, first, last):
    control = flush_denormals()
    total = np.zeros(LANES)
    for c in range(first, last):
        start, end = c * CHUNK, min((c + 1) * CHUNK, len(gradient))
        whole = end - (end - start) % LANES
        total[:] = 0
        for i in range(start, whole, LANES):
            for l in range(LANES):
                g = np.float64(gradient[i + l])
                total[l] += g * g
        for l in range(end - whole):
            g = np.float64(gradient[whole + l])
            total[l] += g * g
        sums[c] = 0
        for l in range(LANES):
            sums[c] += total[l]
    restore_denormals(control)


@inlined
def _moved(w, g, m, v, numbers):
    """The new w, m and v of a vector."""
    g = numbers[0] * g  # 1
    m = numbers[2] * m + numbers[3] * g  # 2
    v = numbers[4] * v + numbers[5] * g * g  # 3
    return w - numbers[1] * m / (square_root(v) + numbers[6]), m, v  # 4


@compiled
def _update(weight, gradient, first, second, new_weight, new_first, new_second, numbers, last, start, end):
    control = flush_denormals()
    lanes = step(weight)
    i = start
    while i + lanes <= end:
        w, m, v = _moved(load(weight, 0, i), load(gradient, 0, i), load(first, 0, i), load(second, 0, i), numbers)
        store(new_weight, 0, i, w)
        store(new_first, 0, i, m)
        store(new_second, 0, i, v)
        i += lanes
    for l in range(end - i):  # the last ones, in a vector of their own
        last[0, l], last[1, l] = weight[0, i + l], gradient[0, i + l]
        last[2, l], last[3, l] = first[0, i + l], second[0, i + l]
    w, m, v = _moved(load(last, 0, 0), load(last, 1, 0), load(last, 2, 0), load(last, 3, 0), numbers)
    store(last, 0, 0, w)
    store(last, 1, 0, m)
    store(last, 2, 0, v)
    for l in range(end - i):
        new_weight[0, i + l], new_first[0, i + l], new_second[0, i + l] = last[0, l], last[1, l], last[2, l]
    restore_denormals(control)
