"""The order of steps, shared by the recurrent kernels of this back end."""

from collections.abc import Iterator

import numpy as np


def processed(a: np.ndarray, lengths: np.ndarray, reverse: bool) -> np.ndarray:
    """(T, B, N) in the order of time → the order of processing, with zeros at padding. Its own inverse.

    Returns `a` itself where the two orders are the same and nothing is padding.
    """
    T, B = a.shape[:2]
    if (lengths == T).all():
        return np.ascontiguousarray(a[::-1]) if reverse else a
    s = np.arange(T)[:, None]
    t = np.where(s < lengths, lengths - 1 - s if reverse else s, 0)
    return np.where((s < lengths)[..., None], a[t, np.arange(B)], a.dtype.type(0))


def _inputs(x: np.ndarray, lengths: np.ndarray, reverse: bool) -> np.ndarray:
    """x in the order of processing: (T·B, I), or indices (T·B,)."""
    if x.ndim == 2:
        return processed(x[..., None], lengths, reverse).reshape(x.size)
    return processed(x, lengths, reverse).reshape(-1, x.shape[2])


def project(x, w_ih, bias, lengths, reverse) -> np.ndarray:
    """x_s @ w_ih.T + bias, (T, B, G·H); of indices, the columns of w_ih that they name."""
    xs = _inputs(x, lengths, reverse)
    product = w_ih.T[xs] if x.ndim == 2 else xs @ w_ih.T
    return (product + bias).reshape(*x.shape[:2], len(w_ih))


def project_back(x, w_ih, da, lengths, reverse, dx, dw_ih) -> None:
    """dx and dw_ih from the gradient of what `project` gave, 0 at padding."""
    xs, flat = _inputs(x, lengths, reverse), da.reshape(-1, len(w_ih))
    if x.ndim == 2:
        dw_ih[...] = 0
        np.add.at(dw_ih.T, xs, flat)
    else:
        dx[...] = processed((flat @ w_ih).reshape(x.shape), lengths, reverse)
        dw_ih[...] = flat.T @ xs


def active(lengths: np.ndarray, T: int) -> Iterator[slice | np.ndarray]:
    """For each step, the rows of the batch whose sequences have not ended."""
    shortest = lengths.min(initial=T)
    for s in range(T):
        yield slice(None) if s < shortest else np.flatnonzero(lengths > s)


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a)), as (1 + tanh(a / 2)) / 2: no overflow, and NumPy has tanh in SIMD."""
    half = a.dtype.type(0.5)
    return half * np.tanh(half * a) + half
