"""Rows that an estimator reads several times: an array, or blocks that a function gives anew for each pass."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..kernels.table import TILE
from ..mixture.rows import BLOCK, BLOCK_BYTES, block_rows, summed

__all__ = ["Array", "Chunks", "Reservoir", "Source", "in_tiles"]

Block = tuple[Any, NDArray[Any] | None]


class Source:
    """Iterating gives (X, sample_weight or None) in the order of the rows: of one dtype, C-contiguous, of whole tiles
    but for the last, so that statistics have the same bits however the rows come.

    Attributes
    ----------
    N, D : int
    dtype : numpy.dtype
    weighted : bool
    weight : float
        The number of rows, or the sum of their weights.
    counted : int
        Rows of a weight above 0.
    sample : Array
        What an initialisation works on that needs its rows all at once.
    """

    N: int
    D: int
    dtype: np.dtype
    weighted: bool
    weight: float
    counted: int
    sample: "Array"

    def __iter__(self) -> Iterator[Block]:
        raise NotImplementedError

    def tiles(self) -> Iterator[Block]:
        """As iteration, `TILE` rows at a time and in float64."""
        for X, sample_weight in self:
            for start in range(0, X.shape[0], TILE):
                rows = slice(start, start + TILE)
                yield (
                    X[rows].astype("float64"),
                    None if sample_weight is None else sample_weight[rows].astype("float64"),
                )

    def middle(self) -> NDArray[np.float64]:
        """The mean of the first tile, (D,): a point near the data."""
        return next(self.tiles())[0].mean(axis=0)

    def take(self, indices: NDArray[np.intp]) -> Block:
        """The rows of these numbers, and their weights, in one pass."""
        rows = np.empty((len(indices), self.D), self.dtype)
        weights, start = np.ones(len(indices), self.dtype), 0
        for X, sample_weight in self:
            here = (indices >= start) & (indices < start + len(X))
            rows[here] = X[indices[here] - start]
            if sample_weight is not None:
                weights[here] = sample_weight[indices[here] - start]
            start += len(X)
        return rows, weights

    def _count(self, sample_weight: NDArray[Any] | None, rows: int) -> None:
        self.weight = self.weight + rows if sample_weight is None else summed(sample_weight, self.weight)
        self.counted += rows if sample_weight is None else int(np.count_nonzero(sample_weight))


class Array(Source):
    """An array in memory, or mapped into it; one that is not C-contiguous is copied block by block, not as a whole."""

    def __init__(self, X: Any, sample_weight: NDArray[Any] | None = None) -> None:
        self.X, self.sample_weight = X, sample_weight
        (self.N, self.D), self.dtype, self.weighted = X.shape, X.dtype, sample_weight is not None
        self.weight, self.counted, self.sample = 0.0, 0, self
        self._count(sample_weight, self.N)

    def __iter__(self) -> Iterator[Block]:
        if sparse.issparse(self.X) or (self.X.flags.c_contiguous and self.X.flags.aligned):
            yield self.X, self.sample_weight
            return
        size = block_rows(self.D * self.dtype.itemsize, BLOCK_BYTES)
        for start in range(0, self.N, size):
            rows = slice(start, start + size)
            yield np.array(self.X[rows], order="C"), None if self.sample_weight is None else self.sample_weight[rows]


class Chunks(Source):
    """Blocks of rows that `make_iterator()` gives anew for each pass: arrays (n, D), or tuples (X, sample_weight).

    One pass is made here, to count the rows and to fill the reservoir.

    validate : (X, sample_weight, first=whether it is the first block) → both, checked, X of float32 or float64.
    """

    def __init__(
        self,
        make_iterator: Callable[[], Iterable[Any]],
        validate: Callable[..., Block],
        reservoir: "Reservoir | None" = None,
    ) -> None:
        if not callable(make_iterator):
            raise TypeError(
                f"make_iterator: expected a callable that returns an iterator, got {type(make_iterator).__name__}"
            )
        self.make_iterator, self.validate = make_iterator, validate
        self._known = False
        self.N, self.weight, self.counted = 0, 0.0, 0
        for X, sample_weight in self:
            self.N += X.shape[0]
            self._count(sample_weight, X.shape[0])
            if reservoir is not None:
                reservoir.add(X, sample_weight)
        if self.N == 0:
            raise ValueError("make_iterator: expected at least one block of rows, got none")
        self._known = True
        if reservoir is not None:
            self.sample = Array(*reservoir.rows())

    def __iter__(self) -> Iterator[Block]:
        return in_tiles(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        N = 0
        first = not self._known
        made = self.make_iterator()
        if not hasattr(made, "__iter__"):
            kind = type(made).__name__
            raise TypeError(f"make_iterator: expected a callable that returns an iterator, got one that returns {kind}")
        for block in made:
            if isinstance(block, tuple) and len(block) != 2:
                raise ValueError(f"make_iterator: expected blocks X or (X, sample_weight), got {len(block)} items")
            X, sample_weight = block if isinstance(block, tuple) else (block, None)
            X, sample_weight = self.validate(X, sample_weight, first=first)
            if first:
                self.D, self.dtype, self.weighted = X.shape[1], X.dtype, sample_weight is not None
                self._layout, first = _layout(X), False
            if X.dtype != self.dtype:
                raise ValueError(f"make_iterator: expected blocks of {self.dtype} as the first one, got {X.dtype}")
            if _layout(X) != self._layout:
                raise ValueError(
                    f"make_iterator: expected {self._layout} blocks as the first one, got a {_layout(X)} one"
                )
            if self.weighted != (sample_weight is not None):
                raise ValueError("make_iterator: expected sample_weight with each block or with none")
            N += X.shape[0]
            if self._known and N > self.N:
                break
            yield X if sparse.issparse(X) else np.ascontiguousarray(X), sample_weight
        if self._known and N != self.N:
            raise ValueError(
                f"make_iterator: expected a fresh iterator of the same {self.N} rows for each pass, "
                f"got {'more' if N > self.N else N}"
            )


def in_tiles(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same rows in blocks of whole tiles, but for the last; small blocks are put together.

    A block that may still be needed when the next one is asked for is copied: its owner may use it again.
    """
    held: list[Block] = []
    rows = bytes_ = 0
    for X, sample_weight in blocks:
        held.append((X, sample_weight))
        rows, bytes_ = rows + X.shape[0], bytes_ + _bytes(X)
        if rows < TILE or (rows < BLOCK and bytes_ < BLOCK_BYTES):
            held[-1] = _copy(X, sample_weight)
            continue
        X, sample_weight = _joined(held)
        whole = rows - rows % TILE
        yield X[:whole], None if sample_weight is None else sample_weight[:whole]
        rows -= whole
        held = [_copy(X[whole:], None if sample_weight is None else sample_weight[whole:])] if rows else []
        bytes_ = sum(_bytes(X) for X, _ in held)
    if rows:
        yield _joined(held)


def _layout(X: Any) -> str:
    return "sparse" if sparse.issparse(X) else "dense"


def _bytes(X: Any) -> int:
    return X.data.nbytes + X.indices.nbytes if sparse.issparse(X) else X.nbytes


def _copy(X: Any, sample_weight: NDArray[Any] | None) -> Block:
    return X.copy(), None if sample_weight is None else sample_weight.copy()


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    X, weights = zip(*blocks, strict=True)
    together = sparse.vstack(X, format="csr") if sparse.issparse(X[0]) else np.concatenate(X)
    return together, None if weights[0] is None else np.concatenate(weights)


class Reservoir:
    """A uniform sample of rows that come in blocks: all of them, in order, as long as they are at most `size`.

    Nothing is drawn before there are more; the sample does not depend on how the rows are cut into blocks.

    References
    ----------
    Vitter, Random sampling with a reservoir, ACM Transactions on Mathematical Software 11 (1985), algorithm R.
    """

    def __init__(self, size: int, random_state: np.random.RandomState) -> None:
        self.size, self.random_state, self.seen = size, random_state, 0

    def add(self, X: NDArray[Any], sample_weight: NDArray[Any] | None) -> None:
        if not self.seen:
            self.X = np.empty((self.size, X.shape[1]), X.dtype)
            self.sample_weight = None if sample_weight is None else np.empty(self.size, sample_weight.dtype)
        number = np.arange(self.seen, self.seen + len(X))
        place = number.copy()
        late = number >= self.size
        place[late] = self.random_state.uniform(size=np.count_nonzero(late)) * (number[late] + 1)
        kept = place < self.size
        self.X[place[kept]] = X[kept]  # of equal places the last row stays
        if self.sample_weight is not None:
            self.sample_weight[place[kept]] = sample_weight[kept]
        self.seen += len(X)

    def rows(self) -> Block:
        filled = min(self.seen, self.size)
        return self.X[:filled], None if self.sample_weight is None else self.sample_weight[:filled]
