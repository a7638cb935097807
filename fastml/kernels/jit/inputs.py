"""The inputs on their way through a pass: numbers, for a product with w_ih, or indices of its columns.

Both make the buffer that a chunk's inputs are gathered into, project a chunk, and walk that back.
"""

from collections.abc import Iterator

import numpy as np

from .compiling import compiled
from .product import backward_weights, columns, forward_weights, inner, outer, scratch, unpack
from .sequence import Chunk, Order, blocks, sums
from .simd import flush_denormals, lanes, load, restore_denormals, step, store

COLUMNS = 1024  # of w_ih, copied between two looks at Ctrl-C


def inputs_of(x: np.ndarray, w_ih: np.ndarray, lengths: np.ndarray, gates: int, pitch: int) -> "Numbers | Indices":
    """What the contract calls x, for a product whose gates are padded to `pitch` columns each."""
    return Indices(x, w_ih, lengths, gates, pitch) if x.ndim == 2 else Numbers(x, w_ih, gates, pitch)


class Numbers:
    """x (T, B, I). `multiplied`: the columns of w_ih that a row costs a product with."""

    def __init__(self, x: np.ndarray, w_ih: np.ndarray, gates: int, pitch: int):
        self.x, self.w_ih, self.gates, self.pitch = x, w_ih, gates, pitch
        self.multiplied = w_ih.shape[1]

    def buffer(self, rows: int) -> np.ndarray:
        """Of rows (1, x_s): the bias is the weight of the 1."""
        inputs = scratch(rows, 1 + self.multiplied, dtype=self.x.dtype)
        inputs[:, 0] = 1
        return inputs

    def gather(self, order: Order, chunk: Chunk, inputs: np.ndarray, span=None) -> None:
        order.gather(self.x, chunk, inputs, span=span, column=1)

    def prepare(self, bias: np.ndarray) -> None:
        """Pack what `project` needs."""
        self.w_x = forward_weights(self.w_ih, self.gates, self.pitch, bias)

    def project(self, part: Order, chunk: Chunk, inputs: np.ndarray, a: np.ndarray) -> None:
        """a = x_s @ w_ih.T + bias, in the first gates * pitch columns, and 0 in the others."""
        self.gather(part, chunk, inputs)
        inner(a, 0, part.count(chunk), inputs, 0, self.w_x)

    def prepare_back(self, order: Order, dx: np.ndarray) -> None:
        """Pack and allocate what `walk_back` needs."""
        self.dx, self.w_back = dx, backward_weights(self.w_ih, self.gates, self.pitch)
        self.dxs = scratch(order.height, columns(self.multiplied, dx.dtype), dtype=dx.dtype)
        self.dw = scratch(1 + self.multiplied, self.gates * self.pitch, dtype=dx.dtype)
        order.clear_padding(dx)

    def walk_back(self, order: Order, chunk: Chunk, inputs, da, worker: int, workers: int) -> Iterator[None]:
        """A worker's share of dx of a chunk, and of the chunk's part of dw_ih and db_ih."""
        dxs = self.dxs
        for i, n in blocks(order.count(chunk), worker, workers, 2.0 * da.shape[1] * dxs.shape[1]):
            inner(dxs, i, n, da, 0, self.w_back)
            order.scatter(dxs, chunk, self.dx, rows=(i, i + n), pitch=dxs.shape[1])
            yield
        yield from sums(order.count(chunk), da, [(self.dw, inputs, 0)], worker, workers)

    def finish(self, db_ih: np.ndarray, dw_ih: np.ndarray) -> None:
        unpack(self.dw, self.gates, self.pitch, db_ih, dw_ih)


class Indices:
    """x (T, B), indices of columns of w_ih. Only the columns that occur are copied, and have sums in the backward."""

    multiplied = 0

    def __init__(self, x: np.ndarray, w_ih: np.ndarray, lengths: np.ndarray, gates: int, pitch: int):
        self.w_ih, self.gates, self.pitch = w_ih, gates, pitch
        counts = np.arange(len(x))[:, None] < lengths
        indices = x[counts]
        seen = np.zeros(w_ih.shape[1], bool)
        seen[indices] = True
        self.used = np.flatnonzero(seen)
        place = np.empty(len(seen), np.intp)
        place[self.used] = np.arange(len(self.used))
        self.places = np.zeros((*x.shape, 1), np.intp)
        self.places[counts, 0] = place[indices]

    def buffer(self, rows: int) -> np.ndarray:
        return scratch(rows, 1, dtype=np.intp)

    def gather(self, order: Order, chunk: Chunk, places: np.ndarray, span=None) -> None:
        order.gather(self.places, chunk, places, span=span)

    def prepare(self, bias: np.ndarray) -> None:
        H = len(bias) // self.gates
        self.table = scratch(1 + len(self.used), self.gates * self.pitch, dtype=bias.dtype)  # the bias, then columns
        wide = self.table.reshape(-1, self.gates, self.pitch)[..., :H]
        wide[0] = bias.reshape(self.gates, H)
        for i in range(0, len(self.used), COLUMNS):
            some = self.used[i : i + COLUMNS]
            wide[1 + i : 1 + i + len(some)] = self.w_ih[:, some].T.reshape(-1, self.gates, H)

    def project(self, part: Order, chunk: Chunk, places: np.ndarray, a: np.ndarray) -> None:
        self.gather(part, chunk, places)
        _look_up(a, part.count(chunk), places, self.table)

    def prepare_back(self, order: Order, dx: None) -> None:
        self.dw = scratch(1 + len(self.used), self.gates * self.pitch, dtype=self.w_ih.dtype)
        self.ones = scratch(order.height, 1, dtype=self.w_ih.dtype)
        self.ones[...] = 1

    def walk_back(self, order: Order, chunk: Chunk, places, da, worker: int, workers: int) -> Iterator[None]:
        """Split by columns, so that the sums are the same for any number of workers."""
        rows, width = order.count(chunk), lanes(da.dtype)
        first, last = (self.dw.shape[1] // width * w // workers * width for w in (worker, worker + 1))
        _add(self.dw, first, last, places, da, rows)
        yield
        if worker == workers - 1:
            outer(self.dw, 0, 1, self.ones, da, 0, rows)  # summed as the dense input's
            yield

    def finish(self, db_ih: np.ndarray, dw_ih: np.ndarray) -> None:
        dw = np.empty((len(dw_ih), len(self.used)), dw_ih.dtype)
        unpack(self.dw, self.gates, self.pitch, db_ih, dw)
        dw_ih[...] = 0
        dw_ih[:, self.used] = dw


@compiled
def _look_up(a, rows, places, table):
    """a's rows = the table's at 1 + places, + its first; 0 in the columns that the table lacks."""
    before = flush_denormals()
    width = table.shape[1]
    for r in range(rows):
        row = 1 + places[r, 0]
        for j in range(0, width, step(a)):
            store(a, r, j, load(table, row, j) + load(table, 0, j))
        for j in range(width, a.shape[1]):
            a[r, j] = 0
    restore_denormals(before)


@compiled
def _add(dw, first, last, places, da, rows):
    """dw's rows at 1 + places += da's, in columns first … last."""
    before = flush_denormals()
    for r in range(rows):
        row = 1 + places[r, 0]
        for j in range(first, last, step(dw)):
            store(dw, row, j, load(dw, row, j) + load(da, r, j))
    restore_denormals(before)
