"""Dropout between layers. The mask is a function of (seed, layer, t, b, unit) alone, so that no thread count, back end,
batch or length changes it, and the backward pass makes it again instead of keeping it.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["drop"]

BLOCK = 1 << 15  # elements at a time: two blocks of uint64 stay in a 1 MiB L2


def drop(
    x: NDArray[np.floating],
    rate: float,
    seed: int,
    layer: int,
    *,
    start: int = 0,
    out: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Inverted dropout of what leaves a layer, or of the gradient that comes back to it.

    .. math:: y_{tbu} = \\frac{m_{tbu}}{1 - p} x_{tbu}, \\quad m \\sim \\text{Bernoulli}(1 - p)

    Parameters
    ----------
    x : array of shape (T, B, W), C-contiguous, float32 or float64
    rate : float
        p, 0 ≤ p ≤ 1; 1 gives zeros.
    seed : int
        0 ≤ seed < 2**64.
    layer : int
        The layer whose output x is; each has a mask of its own.
    start : int
        The t of x's first row, where x is a part of a longer sequence.
    out : array like x or None
        Where the result goes, x itself included; None for a new array.

    Returns
    -------
    array of shape (T, B, W)
        NaN and inf that meet a zero of the mask give NaN, as in PyTorch.

    Notes
    -----
    Element (t, b, u) hangs on one 64-bit hash, a chain of SplitMix64 streams: the seed's stream has a key for each
    layer, the layer's one for each t, that one's one for each b, and that one's the hash of each u.

    References
    ----------
    Srivastava et al., JMLR 15 (2014); Zaremba et al., arXiv:1409.2329 (between layers only). SplitMix64: Steele, Lea
    and Flood, OOPSLA 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.dropout import drop
    >>> drop(np.ones((1, 2, 6)), rate=0.5, seed=0, layer=0)
    array([[[0., 0., 2., 2., 0., 2.],
            [2., 0., 2., 0., 2., 0.]]])
    """
    T, B, W = x.shape
    out = np.empty_like(x) if out is None else out
    key = _stream(np.array([seed], np.uint64), np.array([layer], np.uint64))
    units = np.arange(W, dtype=np.uint64)
    least = np.uint64(math.ceil(rate * 2**53))  # of the hash's upper 53 bits, so that no rate is rounded
    scale = x.dtype.type(1 / (1 - rate) if rate < 1 else 0)
    source, result = x.reshape(T * B, W), out.reshape(T * B, W)
    step = max(1, BLOCK // W)
    for first in range(0, T * B, step):
        t, b = np.divmod(np.arange(first, min(first + step, T * B), dtype=np.uint64), np.uint64(B))
        hashes = _stream(_stream(_stream(key, t + np.uint64(start)), b)[:, None], units)
        hashes >>= np.uint64(11)
        rows = result[first : first + step]
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(source[first : first + step], scale, out=rows)
            rows *= hashes >= least
    return out


def _stream(state: NDArray[np.uint64], index: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Number `index` of the SplitMix64 stream that starts at `state`."""
    z = state + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
