"""How the rows of the weights' kernels are shared out."""

from collections.abc import Callable

import numpy as np

from ..table import CHUNK
from .sequence import share

SUMS = 4  # of a chunk, at most


def chunks(N: int, work: float, piece: Callable[[int, int, np.ndarray], None]) -> np.ndarray:
    """Call `piece(start, end, sums)` for each chunk of N rows, each of `work` operations; all sums, (chunks, SUMS)."""
    count = -(-N // CHUNK)
    sums = np.zeros((count, SUMS))

    def pieces(worker, workers):
        for c in range(count * worker // workers, count * (worker + 1) // workers):
            piece(c * CHUNK, min(N, (c + 1) * CHUNK), sums[c])
            yield

    share(pieces, work * N, count)
    return sums
