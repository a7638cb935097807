"""The multiclass exponential loss and weights that follow exponents; the steps are numbered as in the reference.

    1  E_i = Σ_{k≠y} g_k / (K-1) - g_y
    2  most = max E over the rows with w > 0,   total = Σ w exp(E - most)
    3  e_i = w exp(E - shift)
    4  gradient_ik = e_i / (K-1), or -e_i where k = y;   hessian_ik = e_i / (K-1)², or e_i

Each chunk has a `most` of its own, and its total is brought to the largest before it is added. All in float64.
"""

import math

import numpy as np

from .compiling import compiled, inlined
from .simd import flush_denormals, restore_denormals
from .weights import chunks

EXP_WORK = 40.0  # operations of an exponential


def exponential_exponent(scores, y, exponent):
    N, K = scores.shape
    chunks(N, 2.0 * K, lambda start, end, sums: _exponent(scores, y, exponent, start, end))


def exponential_sum(exponent, sample_weight, most, total, weight, least):
    N, weights = len(exponent), _given(sample_weight, exponent.dtype)
    sums = chunks(N, EXP_WORK, lambda start, end, to: _sum(exponent, weights, start, end, to))
    top = float(sums[:, 0].max(initial=-math.inf))
    most[0], total[0], weight[0], least[0] = top, 0, N if sample_weight is None else 0, 0
    for m, t, w, l in sums.tolist():
        if t != 0:  # NaN, too
            total[0] += t * math.exp(m - top)
        weight[0] += w
        least[0] = min(least[0], l)


def exponential_update(exponent, sample_weight, shift, factor, scaled):
    weights = _given(sample_weight, exponent.dtype)
    chunks(
        len(exponent), EXP_WORK, lambda start, end, sums: _update(exponent, weights, shift, factor, scaled, start, end)
    )


def exponential_gradient(exponent, sample_weight, y, shift, gradient, hessian):
    N, K = len(exponent), (hessian if gradient is None else gradient).shape[1]
    none = np.zeros((0, K), exponent.dtype)
    weights = _given(sample_weight, exponent.dtype)
    arrays = [none if array is None else array for array in (gradient, hessian)]
    chunks(N, EXP_WORK + 2 * K, lambda start, end, sums: _gradient(exponent, weights, y, shift, *arrays, start, end))


def _given(sample_weight, dtype):
    """The weights, none of them for ones."""
    return np.zeros(0, dtype) if sample_weight is None else sample_weight


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
def _weighted(exponent, weights, i, shift):
    """3; where the weight is 0, 0."""
    if len(weights) == 0:
        return math.exp(exponent[i] - shift)
    return weights[i] * math.exp(exponent[i] - shift) if weights[i] != 0 else 0.0


@compiled
def _sum(exponent, weights, start, end, sums):
    control = flush_denormals()
    most, total, weight, least = -np.inf, 0.0, 0.0, 0.0
    for i in range(start, end):
        if len(weights) == 0 or weights[i] > 0:
            most = max(most, np.float64(exponent[i]))
    shift = most if most != -np.inf else 0.0
    for i in range(start, end):
        if len(weights):
            weight += weights[i]
            least = min(least, np.float64(weights[i]))
        total += _weighted(exponent, weights, i, shift)  # 2
    sums[0], sums[1], sums[2], sums[3] = most, total, weight, least
    restore_denormals(control)


@compiled
def _update(exponent, weights, shift, factor, scaled, start, end):
    control = flush_denormals()
    for i in range(start, end):
        scaled[i] = _weighted(exponent, weights, i, shift) * factor
    restore_denormals(control)


@compiled
def _gradient(exponent, weights, y, shift, gradient, hessian, start, end):
    control = flush_denormals()
    K = gradient.shape[1]
    one = 1 / (K - 1)
    for i in range(start, end):
        e = _weighted(exponent, weights, i, shift)
        if len(gradient):
            for k in range(K):
                gradient[i, k] = -e if k == y[i] else e * one  # 4
        if len(hessian):
            for k in range(K):
                hessian[i, k] = e if k == y[i] else e * one * one
    restore_denormals(control)
