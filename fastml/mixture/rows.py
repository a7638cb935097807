"""What both kinds of mixture share: blocks of rows, sums over them, and checks of what is not their own."""

import numpy as np
from numpy.typing import NDArray

from ..kernels.table import TILE

__all__ = ["BLOCK", "BLOCK_BYTES", "block_rows", "check_distributions", "check_sample_weight", "summed"]

Array = NDArray[np.floating]

BLOCK = 16 * TILE
"""Rows that are copied, or put together, at a time."""

BLOCK_BYTES = 32 << 20
"""That they may take, and then they are fewer; a tile at least."""

SUM = 1e-5
"""How far probabilities may sum from 1: what was normalised in float32 may come as float64."""


def block_rows(row_bytes: int, most: int = BLOCK_BYTES) -> int:
    """Rows of a block, a multiple of `TILE`, when each takes `row_bytes`."""
    return TILE * max(1, min(BLOCK, most // row_bytes) // TILE)


def summed(values: Array, start: float = 0.0) -> float:
    """The sum in float64, tile after tile, as kernels sum."""
    for n in range(0, len(values), TILE):
        start += float(values[n : n + TILE].sum(dtype="float64"))
    return start


def check_sample_weight(sample_weight: Array) -> None:
    """Finite numbers of at least 0."""
    wrong = ~((sample_weight >= 0) & (sample_weight < np.inf))
    if wrong.any():
        n = int(wrong.argmax())
        raise ValueError(f"sample_weight: expected finite numbers of at least 0, got {sample_weight[n]} at index {n}")


def check_distributions(name: str, p: Array) -> None:
    """Numbers of at least 0 that sum to 1: all of (K,), or each row of (K, V)."""
    total = p.sum(axis=-1, dtype="float64", keepdims=True)
    right = (p >= 0).all(axis=-1, keepdims=True) & (abs(total - 1) <= SUM)
    if not right.all():
        row = int(right.argmin())
        where, least = (f" in row {row}", p[row].min()) if p.ndim == 2 else ("", p.min())
        raise ValueError(
            f"{name}: expected numbers of at least 0 that sum to 1{' in each row' if where else ''}, "
            f"got a sum of {total.flat[row]} and a least of {least}{where}"
        )
