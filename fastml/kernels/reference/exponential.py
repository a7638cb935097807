"""The multiclass exponential loss Σ w exp E, its derivatives, and weights that follow exponents.

1  E_i = Σ_{k≠y} g_k / (K-1) - g_y
2  most = max E over the rows with w > 0,   total = Σ w exp(E - most)
3  e_i = w exp(E - shift)
4  gradient_ik = e_i / (K-1), or -e_i where k = y;   hessian_ik = e_i / (K-1)², or e_i
"""

import numpy as np


def exponential_exponent(scores, y, exponent):
    N, K = scores.shape
    code = np.full((N, K), 1 / (K - 1), scores.dtype)
    code[np.arange(N), y] = -1
    np.sum(code * scores, axis=1, out=exponent)  # 1


@np.errstate(over="ignore", invalid="ignore")
def _weighted(exponent, sample_weight, shift):
    """3; where the weight is 0, 0."""
    e = np.exp(exponent - exponent.dtype.type(shift))
    return e if sample_weight is None else np.where(sample_weight == 0, 0, sample_weight * e)


def exponential_sum(exponent, sample_weight, most, total, weight, least):
    counted = exponent if sample_weight is None else exponent[sample_weight > 0]
    most[0] = counted.max(initial=-np.inf)
    total[0] = 0 if most[0] == -np.inf else _weighted(exponent, sample_weight, most[0]).sum(dtype="float64")  # 2
    weight[0] = len(exponent) if sample_weight is None else sample_weight.sum(dtype="float64")
    least[0] = 0 if sample_weight is None else sample_weight.min(initial=0)


def exponential_update(exponent, sample_weight, shift, factor, scaled):
    np.multiply(_weighted(exponent, sample_weight, shift), scaled.dtype.type(factor), out=scaled)


def exponential_gradient(exponent, sample_weight, y, shift, gradient, hessian):
    e = _weighted(exponent, sample_weight, shift)
    for array, of_others, of_y in ((gradient, 1, -1), (hessian, 2, 1)):
        if array is not None:
            array[...] = (e / (array.shape[1] - 1) ** of_others)[:, None]  # 4
            array[np.arange(len(e)), y] = of_y * e
