"""Multinomial mixtures, a tile of rows at a time.

1  l_k = constants_k + Σ_v x_v ln θ_kv       constants_k = ln π_k
2  log_likelihood = ln Σ_k exp l_k,   r_k = exp(l_k - log_likelihood)
3  n_k += w r_k,   counts_kv += w r_k x_v
"""

import numpy as np

from ..table import TILE, Rows
from .gaussian import _normalised


def _tiles(X):
    """(rows, their counts (rows, V) or as `Rows`, the row of each count), tile after tile."""
    N = len(X.indptr) - 1 if isinstance(X, Rows) else len(X)
    for start in range(0, N, TILE):
        rows = slice(start, min(start + TILE, N))
        if not isinstance(X, Rows):
            yield rows, X[rows], None
            continue
        indptr = X.indptr[rows.start : rows.stop + 1]
        part = slice(indptr[0], indptr[-1])
        yield rows, Rows(X.data[part], X.indices[part], indptr), np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def _densities(x, row, log_probabilities, constants):
    """1: l (N, K)."""
    if row is None:
        return constants + x @ log_probabilities.T
    l = np.tile(constants, (len(x.indptr) - 1, 1))
    np.add.at(l, row, x.data[:, None] * log_probabilities.T[x.indices])
    return l


def multinomial_responsibilities(X, log_probabilities, constants, resp, log_likelihood, labels):
    for rows, x, row in _tiles(X):
        l = _densities(x, row, log_probabilities, constants)
        if labels is not None:
            labels[rows] = l.argmax(axis=1)
        r, likelihood = _normalised(l)  # 2
        if resp is not None:
            resp[rows] = r
        if log_likelihood is not None:
            log_likelihood[rows] = likelihood


def multinomial_statistics(X, sample_weight, log_probabilities, constants, n, counts, log_likelihood):
    for rows, x, row in _tiles(X):
        r, likelihood = _normalised(_densities(x, row, log_probabilities, constants))
        if sample_weight is not None:
            r *= sample_weight[rows, None]
            likelihood *= sample_weight[rows]
        log_likelihood += likelihood.sum(dtype="float64")
        n += r.sum(axis=0)  # 3
        if row is None:
            counts += r.T @ x
        else:
            np.add.at(counts.T, x.indices, r[row] * x.data[:, None])
