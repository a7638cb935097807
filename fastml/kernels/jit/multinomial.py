"""Multinomial mixtures, a block of rows at a time; the steps are numbered as in the reference.

    1  l_k = constants_k + Σ_v x_v ln θ_kv
    2  log_likelihood = ln Σ_k exp l_k,   r_k = exp(l_k - log_likelihood)
    3  n_k += w r_k,   counts_kv += w r_k x_v

Steps 1 and 3 have a component in each lane, so that x is read as it lies, dense or in compressed rows, and each count
meets one row of ln θ or counts, (V, K). Step 2 has a row in each lane, as in `gaussian`.
"""

import numpy as np

from ..table import Rows
from .compiling import compiled, inlined
from .gaussian import EXP_WORK, TALL, add_products, in_order, outputs_of, weigh, write
from .product import PANEL, scratch, skewed, units
from .sequence import blocks, share
from .simd import at, flush_denormals, fma, lanes, load, restore_denormals, step, store, zeros

WORDS = 64  # of step 1's sums in one chain: short ones, for float32's sake


def multinomial_responsibilities(X, log_probabilities, constants, resp, log_likelihood, labels):
    N, counts, per_row = _counts(X)
    K, dtype = len(log_probabilities), log_probabilities.dtype
    work = K * (2.0 * per_row + EXP_WORK)
    model = _model(log_probabilities, constants)
    outputs = outputs_of(K, dtype, resp, log_likelihood, labels)

    def pieces(worker, workers):
        buffers = _buffers(K, dtype)
        for first, count in blocks(N, worker, workers, work):
            _posteriors(*counts, first, first + count, *model, *buffers, *outputs)
            yield

    share(pieces, work * N, N)


def multinomial_statistics(X, sample_weight, log_probabilities, constants, n, counts, log_likelihood):
    N, x, per_row = _counts(X)
    (K, V), dtype = log_probabilities.shape, log_probabilities.dtype
    work = K * (4.0 * per_row + EXP_WORK)
    model = _model(log_probabilities, constants)
    weights = np.zeros(0, dtype) if sample_weight is None else sample_weight
    totals = n.copy(), counts.T.copy(), log_likelihood.copy()
    B = PANEL * lanes(dtype)

    def buffers():
        return *_buffers(K, dtype), scratch(1, B, dtype=dtype)

    def sums():
        wide = scratch(V, units(K, dtype), dtype=dtype)
        return scratch(K, lanes(dtype), dtype=dtype), wide, np.zeros(1), np.zeros(V, np.bool_)

    def piece(own, sums, base, start, end):
        _statistics(*x, weights, start, end, *model, *own, *sums)

    def add(sums, tiles):
        _add(*sums, *totals)

    in_order(N, work, B, 1, buffers, sums, piece, add)
    n[...], counts[...], log_likelihood[...] = totals[0], totals[1].T, totals[2]


def _counts(X):
    """The number of rows; X dense and in compressed rows, one of them empty; and the counts of a row."""
    if isinstance(X, Rows):
        N = len(X.indptr) - 1
        return N, (np.zeros((0, 0), X.data.dtype), *X), len(X.data) / max(1, N)
    none = np.zeros(0, np.intp)
    return len(X), (X, np.zeros(0, X.dtype), none, none), X.shape[1]


def _model(log_probabilities, constants):
    """ln θ as (V, K), its rows whole vectors, and the constants."""
    K, V = log_probabilities.shape
    wide = scratch(V, units(K, constants.dtype), dtype=constants.dtype)
    wide[:, :K] = log_probabilities.T
    return wide, constants.copy()


def _buffers(K, dtype):
    """l with a component in each lane, and with a row in each; a number per row."""
    B = PANEL * lanes(dtype)
    return (
        scratch(B, units(K, dtype), dtype=dtype), scratch(K, skewed(B, dtype), dtype=dtype), scratch(1, B, dtype=dtype),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- compiled


@inlined
def _densities(X, data, indices, indptr, start, count, log_theta, constants, wide, l):
    """l (K, count) of rows from `start` on; the lanes behind them repeat the last."""
    K, pitch = len(constants), wide.shape[1]
    wide[:] = 0
    if len(indptr):
        for r in range(count):
            for j in range(0, pitch, step(wide)):
                one, end = load(wide, r, j), indptr[start + r + 1]
                for first in range(indptr[start + r], end, WORDS):
                    part = zeros(wide)
                    for e in range(first, min(first + WORDS, end)):
                        part = fma(load(log_theta, indices[e], j), data[e], part)  # 1
                    one = one + part
                store(wide, r, j, one)
    else:
        V, r = X.shape[1], 0
        while r < count:  # a few rows at a time, each read from front to back
            rows = TALL if r + TALL <= count else 1
            for first in range(0, V, WORDS):
                a, b, words = at(X, start + r, first), at(log_theta, first, 0), min(WORDS, V - first)
                add_products(wide, r, a, V, 1, b, pitch, words, rows, 0, pitch)  # 1
            r += rows
    for r in range(wide.shape[0]):
        for k in range(K):
            l[k, r] = wide[min(r, count - 1), k] + constants[k]


@compiled
def _posteriors(
    X, data, indices, indptr, start, end, log_theta, constants, wide, l, likelihood,
    resp, log_likelihood, labels,
):  # fmt: skip
    control = flush_denormals()
    B = wide.shape[0]
    for block in range(start, end, B):
        count = min(B, end - block)
        _densities(X, data, indices, indptr, block, count, log_theta, constants, wide, l)
        write(l, block, count, likelihood, False, resp, log_likelihood, labels)
    restore_denormals(control)


@compiled
def _statistics(
    X, data, indices, indptr, weights, start, end, log_theta, constants, wide, l, likelihood, weight,
    n, sums, likelihoods, seen,
):  # fmt: skip
    control = flush_denormals()
    (V, pitch), (K, _), B = sums.shape, l.shape, wide.shape[0]
    for block in range(start, end, B):
        count = min(B, end - block)
        _densities(X, data, indices, indptr, block, count, log_theta, constants, wide, l)
        weigh(l, block, count, weights, weight, likelihood, n, 0, likelihoods)
        for r in range(count):
            for k in range(K):
                wide[r, k] = l[k, r] * l[k, r]
        if len(indptr):
            for r in range(count):
                for e in range(indptr[block + r], indptr[block + r + 1]):
                    v = indices[e]
                    seen[v] = True
                    for j in range(0, pitch, step(sums)):
                        store(sums, v, j, fma(load(wide, r, j), data[e], load(sums, v, j)))  # 3
        else:
            seen[:] = True
            v = 0
            while v < V:
                rows = TALL if v + TALL <= V else 1
                add_products(sums, v, at(X, block, v), 1, V, at(wide, 0, 0), pitch, count, rows, 0, pitch)  # 3
                v += rows
    restore_denormals(control)


@compiled
def _add(n, sums, likelihoods, seen, n_total, counts, log_likelihood):
    """A tile's sums to the totals, of the words that it has."""
    K = len(n_total)
    log_likelihood[0] += likelihoods[0]
    for k in range(K):
        for v in range(n.shape[1]):
            n_total[k] += n[k, v]
    for v in range(len(seen)):
        if seen[v]:
            for k in range(K):
                counts[v, k] += sums[v, k]
                sums[v, k] = 0
            seen[v] = False
    n[:], likelihoods[:] = 0, 0
