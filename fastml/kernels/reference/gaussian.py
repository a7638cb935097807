"""Gaussian mixtures, a tile of rows at a time. A factor U of a covariance Σ has U Uᵀ = Σ⁻¹ and is upper triangular.

1  q_k = |(x - μ_k) U_k|²
2  l_k = constants_k - q_k / 2             constants_k = ln π_k + ln |U_k| - D/2 ln 2π
3  log_likelihood = ln Σ_k exp l_k,   r_k = exp(l_k - log_likelihood)
4  n_k += w r_k,   first_k += w r_k (x - μ_k),   second_k += w r_k (x - μ_k)(x - μ_k)ᵀ, or what of it the type needs
"""

import numpy as np

from ..table import TILE


def _tiles(N):
    return (slice(start, start + TILE) for start in range(0, N, TILE))


def _distances(X, means, factors, covariance_type):
    """1: q (N, K)."""
    K = len(means)
    if covariance_type in ("full", "tied"):
        triangles = np.broadcast_to(np.triu(factors), (K, *factors.shape[-2:]))
        return np.stack([np.square((X - means[k]) @ triangles[k]).sum(axis=1) for k in range(K)], axis=1)
    scales = factors if covariance_type == "diag" else factors[:, None]
    return np.stack([np.square((X - means[k]) * scales[k]).sum(axis=1) for k in range(K)], axis=1)


@np.errstate(over="ignore", invalid="ignore")  # a row may be too far for any density
def _densities(X, means, factors, constants, covariance_type):
    return constants - 0.5 * _distances(X, means, factors, covariance_type)  # 2


@np.errstate(invalid="ignore")
def _normalised(l):
    most = l.max(axis=1, keepdims=True)
    exp = np.exp(l - most)
    total = exp.sum(axis=1, keepdims=True)
    return exp / total, (most + np.log(total))[:, 0]  # 3


def gaussian_log_density(X, means, factors, constants, covariance_type, log_density):
    for rows in _tiles(len(X)):
        log_density[rows] = _densities(X[rows], means, factors, constants, covariance_type)


def gaussian_responsibilities(X, means, factors, constants, covariance_type, resp, log_likelihood, labels):
    for rows in _tiles(len(X)):
        l = _densities(X[rows], means, factors, constants, covariance_type)
        if labels is not None:
            labels[rows] = l.argmax(axis=1)
        if resp is not None or log_likelihood is not None:
            r, likelihood = _normalised(l)
            if resp is not None:
                resp[rows] = r
            if log_likelihood is not None:
                log_likelihood[rows] = likelihood


def gaussian_statistics(
    X, sample_weight, means, factors, constants, covariance_type,
    n, first, second, log_likelihood,
):  # fmt: skip
    for rows in _tiles(len(X)):
        x = X[rows]
        r, likelihood = _normalised(_densities(x, means, factors, constants, covariance_type))
        counted = r
        if covariance_type == "tied":
            # its covariance is a difference, which takes all of a row to be counted, and no more
            counted = r / r.sum(axis=1, keepdims=True, dtype="float64")
        if sample_weight is not None:
            r = r * sample_weight[rows, None]
            counted = counted * sample_weight[rows, None]
            likelihood *= sample_weight[rows]
        log_likelihood += likelihood.sum(dtype="float64")
        n += counted.sum(axis=0)  # 4
        for k, mean in enumerate(means):
            d = x - mean
            first[k] += r[:, k] @ d
            if covariance_type == "full":
                second[k] += (r[:, k, None] * d).T @ d
            elif covariance_type == "diag":
                second[k] += r[:, k] @ np.square(d)
            elif covariance_type == "spherical":
                second[k] += r[:, k] @ np.square(d).sum(axis=1)
