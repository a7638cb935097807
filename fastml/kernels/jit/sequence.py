"""The order of steps, shared by the recurrent kernels of this back end.

Sequences are sorted by length, longest first, so that those still running at a step are the first ones. A chunk is a
range of steps; the rows of its buffers are the (step, sequence) pairs that exist, step after step. So padding costs
nothing and is never read, and a product over a chunk is one product.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from ...threads import run
from .compiling import compiled
from .product import outer, scratch
from .simd import at, copy

CHUNK_BYTES = 1 << 19  # of a chunk's widest buffer; half as much is 5 % faster in one thread, 20 % slower in two
CHUNK_ROWS = 64  # no fewer, so that weights larger than that cache are read once for many rows
CHUNK_WORK = 1 << 30  # floating-point operations between two looks at Ctrl-C, as far as one step of PART rows allows
THREAD_WORK = 1 << 23  # floating-point operations that repay waking another thread
PART = 64  # sequences that one worker runs at a time

Chunk = tuple[int, int]  # the first step and the one after the last
Pieces = Callable[[int, int], Iterator[None]]


class Order:
    """Some sequences of a batch, longest first.

    rows, ends : their places in the batch, and their lengths.
    starts : the row number at which each step begins, counted from step 0; then the number of all rows.
    chunks : the chunks of all steps, of at most `most` rows where a step allows it.
    height : rows of the largest chunk.
    """

    def __init__(self, lengths: np.ndarray, reverse: bool, most: int, rows: np.ndarray | None = None):
        self.lengths, self.reverse, self.most = lengths, reverse, most
        self.rows = np.argsort(-lengths, kind="stable") if rows is None else rows
        self.ends = lengths[self.rows]
        steps = np.arange(self.ends.max(initial=0))
        running = len(self.ends) - np.searchsorted(self.ends[::-1], steps, "right")
        self.starts = np.concatenate([[0], np.cumsum(running)]).astype(np.intp)
        cuts = [0]
        while cuts[-1] < len(steps):
            end = np.searchsorted(self.starts, self.starts[cuts[-1]] + most, "right") - 1
            cuts.append(max(cuts[-1] + 1, int(end)))
        self.chunks = [*pairwise(cuts)]
        self.height = max(map(self.count, self.chunks), default=0)

    def count(self, chunk: Chunk) -> int:
        """Rows of a chunk."""
        return int(self.starts[chunk[1]] - self.starts[chunk[0]])

    def spans(self, worker: int, workers: int) -> Iterator[tuple[int, int]]:
        """The sequences of one worker, PART at a time; every worker gets about the same number of steps."""
        cuts = np.searchsorted(np.cumsum(self.ends), self.ends.sum() * np.arange(1, workers) // workers, "right")
        first, last = [0, *cuts.tolist(), len(self.ends)][worker : worker + 2]
        for start in range(first, last, PART):
            yield start, min(start + PART, last)

    def part(self, first: int, last: int) -> "Order":
        """The sequences first … last alone."""
        return Order(self.lengths, self.reverse, self.most, self.rows[first:last])

    def states(self, initial: np.ndarray, width: int) -> np.ndarray:
        """(B, H) → these sequences' rows, padded to `width`."""
        out = scratch(len(self.rows), width, dtype=initial.dtype)
        out[:, : initial.shape[1]] = initial[self.rows]
        return out

    def gather(self, source, chunk, target, *, span=None, column=0, blocks=1, pitch=0, saved=False, back=0):
        """Rows of a chunk from (T, B, N): what each sequence of `span` had `back` steps before each step.

        Each of `blocks` equal parts of N goes to `pitch` columns, filled up with zeros, from `column` on. `saved`
        arrays are in the order of processing. Rows of steps that have nothing before them are left alone.
        """
        span = span or (0, len(self.rows))
        reverse = self.reverse and not saved
        _gather(source, self.rows, self.ends, reverse, self.starts, *chunk, *span, back, target, column, blocks, pitch)

    def gather_before(self, y, h0, chunk, target, *, span, column, pitch=0):
        """Rows of a chunk with the states before each step."""
        self.gather(y, chunk, target, span=span, column=column, pitch=pitch, back=1)
        if chunk[0] == 0:
            first, last = span[0], min(span[1], int(self.starts[1]))
            target[first:last, column : column + h0.shape[1]] = h0[self.rows[first:last]]

    def scatter(self, source, chunk, target, *, rows=None, blocks=1, pitch=0, saved=False):
        """The inverse of `gather`, for some rows of the chunk."""
        rows = rows or (0, self.count(chunk))
        reverse = self.reverse and not saved
        _scatter(source, self.rows, self.ends, reverse, self.starts, *chunk, *rows, target, blocks, pitch)

    def clear_padding(self, y: np.ndarray) -> None:
        """y = 0 where no sequence is."""
        for b in np.flatnonzero(self.ends < len(y)):
            y[self.ends[b] :, self.rows[b]] = 0


def chunk_rows(width: int, work: float, dtype) -> int:
    """Rows of a chunk whose widest buffer has `width` columns and each row of which costs `work` operations."""
    rows = max(CHUNK_ROWS, CHUNK_BYTES // (width * np.dtype(dtype).itemsize))
    return max(1, min(rows, int(CHUNK_WORK / work)))


@compiled
def _gather(source, rows, ends, reverse, starts, start, end, first, last, back, target, column, blocks, pitch):
    _, B, N = source.shape
    flat, size = source.reshape(-1, N), N // blocks
    for s in range(max(start, back), end):
        row = starts[s] - starts[start]
        for b in range(first, min(last, starts[s + 1] - starts[s])):
            t = ends[b] - 1 - (s - back) if reverse else s - back
            for block in range(blocks):
                j = column + block * pitch
                copy(at(target, row + b, j), at(flat, t * B + rows[b], block * size), size)
                for n in range(j + size, j + pitch):
                    target[row + b, n] = 0


@compiled
def _scatter(source, rows, ends, reverse, starts, start, end, first, last, target, blocks, pitch):
    _, B, N = target.shape
    flat, size = target.reshape(-1, N), N // blocks
    for s in range(start, end):
        row = starts[s] - starts[start]
        for b in range(max(0, first - row), min(last - row, starts[s + 1] - starts[s])):
            t = ends[b] - 1 - s if reverse else s
            for block in range(blocks):
                copy(at(flat, t * B + rows[b], block * size), at(source, row + b, block * pitch), size)


class _Job:
    """Work in pieces, with a look at the stop sign after each."""

    def __init__(self, pieces: Pieces):
        self.pieces, self.stopped = pieces, False

    def work(self, worker: int, workers: int) -> None:
        for _ in self.pieces(worker, workers):
            if self.stopped:
                return

    def stop(self) -> None:
        self.stopped = True


def share(pieces: Pieces, work: float, most: int) -> None:
    """Run the generator `pieces(worker, workers)`, which yields after each short piece of work, in some workers.

    work : floating-point operations of all of it.
    most : workers that could have a share.
    """
    run(_Job(pieces), max(1, min(most, int(work / THREAD_WORK))))


def blocks(n: int, worker: int, workers: int, work: float) -> Iterator[tuple[int, int]]:
    """The share of `worker` in n rows, in blocks (first, count); each row costs `work` operations."""
    first, last = (n * w // workers // 4 * 4 if w < workers else n for w in (worker, worker + 1))
    most = max(4, int(CHUNK_WORK / work) // 4 * 4)
    for i in range(first, last, most):
        yield i, min(most, last - i)


def sums(rows: int, da, terms, worker: int, workers: int) -> Iterator[None]:
    """A worker's share of a chunk's part of the weight gradients, sums over `rows` rows.

    terms : of (dw, left, column): dw += left.T @ da's columns from there on. The work is split by output, so that the
        sums are the same for any number of workers.
    """
    for dw, left, column in terms:
        for i, n in blocks(len(dw), worker, workers, 2.0 * rows * dw.shape[1]):
            outer(dw, i, n, left, da, column, rows)
            yield


def backward(order: Order, recurrence, gradients, work: float) -> None:
    """Run `recurrence(chunk, turn, worker, workers)` and then `gradients(…)` for each chunk, the last chunk first.

    The gradients of a chunk share their round of work with the recurrence of the next, on buffers that take turns
    (0, 1): one wait for the other workers instead of two in each round, and work for a second one at a batch of 1.
    work : floating-point operations of a row.
    """
    turns = [(chunk, turn % 2) for turn, chunk in enumerate(reversed(order.chunks))]
    for done, coming in pairwise([None, *turns, None] if turns else []):

        def pieces(worker, workers, done=done, coming=coming):
            if done:
                yield from gradients(*done, worker, workers)
            if coming:
                yield from recurrence(*coming, worker, workers)

        share(pieces, work * order.count((coming or done)[0]), order.height)
