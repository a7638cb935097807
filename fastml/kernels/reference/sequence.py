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


def active(lengths: np.ndarray, T: int) -> Iterator[slice | np.ndarray]:
    """For each step, the rows of the batch whose sequences have not ended."""
    shortest = lengths.min(initial=T)
    for s in range(T):
        yield slice(None) if s < shortest else np.flatnonzero(lengths > s)


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-a)), as (1 + tanh(a / 2)) / 2: no overflow, and NumPy has tanh in SIMD."""
    half = a.dtype.type(0.5)
    return half * np.tanh(half * a) + half
