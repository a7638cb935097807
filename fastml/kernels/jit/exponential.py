"""The multiclass exponential loss and weights that follow exponents; the steps are numbered as in the reference.

    1  E_i = Σ_{k≠y} g_k / (K-1) - g_y
    2  most = max E over the rows with w > 0,   total = Σ w exp(E - most)
    3  e_i = w exp(E - shift)
    4  gradient_ik = e_i / (K-1), or -e_i where k = y;   hessian_ik = e_i / (K-1)², or e_i

Each chunk has a `most` of its own, and its total is brought to the largest before it is added.
"""

import math

import numpy as np

from .arithmetic import exp
from .compiling import compiled, inlined
from .product import scratch
from .simd import at_most, flush_denormals, load, restore_denormals, step, store
from .weights import chunks

EXP_WORK = 25.0  # operations of an exponential
BLOCK = 1024  # rows whose exponentials are in a buffer at a time


def exponential_exponent(scores, y, exponent):
    N, K = scores.shape
    chunks(N, 2.0 * K, lambda start, end, sums: _exponent(scores, y, exponent, start, end))


def exponential_sum(exponent, sample_weight, most, total, weight, least):
    N, weights = len(exponent), _given(sample_weight, exponent.dtype)
    sums = chunks(N, EXP_WORK, lambda start, end, to: _sum(exponent, weights, _buffer(exponent), start, end, to))
    top = float(sums[:, 0].max(initial=-math.inf))
    most[0], total[0], weight[0], least[0] = top, 0, N if sample_weight is None else 0, 0
    for m, t, w, l in sums.tolist():
        if t != 0:  # NaN, too
            total[0] += t * math.exp(m - top)
        weight[0] += w
        least[0] = min(least[0], l)


def exponential_update(exponent, sample_weight, shift, factor, scaled):
    weights = _given(sample_weight, exponent.dtype)

    def piece(start, end, sums):
        _update(exponent, weights, shift, factor, _buffer(exponent), scaled, start, end)

    chunks(len(exponent), EXP_WORK, piece)


def exponential_gradient(exponent, sample_weight, y, shift, gradient, hessian):
    N, K = len(exponent), (hessian if gradient is None else gradient).shape[1]
    none = np.zeros((0, K), exponent.dtype)
    weights = _given(sample_weight, exponent.dtype)
    arrays = [none if array is None else array for array in (gradient, hessian)]

    def piece(start, end, sums):
        _gradient(exponent, weights, y, shift, _buffer(exponent), *arrays, start, end)

    chunks(N, EXP_WORK + 2 * K, piece)


def _given(sample_weight, dtype):
    """The weights, none of them for ones."""
    return np.zeros(0, dtype) if sample_weight is None else sample_weight


def _buffer(exponent):
    return scratch(1, BLOCK, dtype=exponent.dtype)


# ---------------------------------------------------------------------------------------------------------- compiled


@compiled
def _exponent(scores, y, exponent, start, end):
    control = flush_denormals()
    K = scores.shape[1]
    of_others = 1 / (K - 1)
    for i in range(start, end):
        e = 0.0
        for k in range(K):
            e += -scores[i, k] if k == y[i] else of_others * scores[i, k]  # 1
        exponent[i] = e
    restore_denormals(control)


@inlined
def _weighted(exponent, weights, start, end, shift, e):
    """3 of rows [start, end), at most BLOCK of them, in e (1, BLOCK); where the weight is 0, 0."""
    count = end - start
    limit = 87.0 if e.itemsize == 4 else 708.0  # twice as far, the exponential is 0 or infinite
    for l in range(count):
        e[0, l] = exponent[start + l] - shift
    for j in range(0, count, step(e)):
        root = exp(at_most(load(e, 0, j) * 0.5, limit), -limit)
        store(e, 0, j, root * root)  # exp takes no x that overflows, and half of it does not where exp x does not
    if len(weights):
        for l in range(count):
            w = weights[start + l]
            e[0, l] = w * e[0, l] if w != 0 else w


@compiled
def _sum(exponent, weights, e, start, end, sums):
    control = flush_denormals()
    most, total, weight, least = -np.inf, 0.0, 0.0, 0.0
    for i in range(start, end):
        if len(weights) == 0 or weights[i] > 0:
            most = max(most, np.float64(exponent[i]))
        if len(weights):
            weight += weights[i]
            least = min(least, np.float64(weights[i]))
    shift = most if most != -np.inf else 0.0
    for block in range(start, end, BLOCK):
        last = min(block + BLOCK, end)
        _weighted(exponent, weights, block, last, shift, e)
        for l in range(last - block):
            total += e[0, l]  # 2
    sums[0], sums[1], sums[2], sums[3] = most, total, weight, least
    restore_denormals(control)


@compiled
def _update(exponent, weights, shift, factor, e, scaled, start, end):
    control = flush_denormals()
    for block in range(start, end, BLOCK):
        last = min(block + BLOCK, end)
        _weighted(exponent, weights, block, last, shift, e)
        for l in range(last - block):
            scaled[block + l] = e[0, l] * factor
    restore_denormals(control)


@compiled
def _gradient(exponent, weights, y, shift, e, gradient, hessian, start, end):
    control = flush_denormals()
    K = gradient.shape[1]
    one = 1 / (K - 1)
    for block in range(start, end, BLOCK):
        last = min(block + BLOCK, end)
        _weighted(exponent, weights, block, last, shift, e)
        for i in range(block, last):
            own = e[0, i - block]
            if len(gradient):
                for k in range(K):
                    gradient[i, k] = own * one  # 4
                gradient[i, y[i]] = -own
            if len(hessian):
                for k in range(K):
                    hessian[i, k] = own * one * one
                hessian[i, y[i]] = own
    restore_denormals(control)
