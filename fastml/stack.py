"""How a stack of layers runs: level by level, strand by strand, segment of time by segment of time.

    strand      cells that run in one direction, each on the hidden states of the one below: all of a layer that runs
                forwards only; one layer in one direction of a bidirectional one
    level       strands side by side: one, or the two directions of a layer
    segment     steps [t0, t1) of a strand's time. The states are carried from one to the next in the strand's
                direction, and their gradients back; a sequence that does not reach a segment passes through it
    block       a part of a segment that its cells take in turn: cell i may be at one block while cell i - 1 is at the
                next (a wavefront)

With checkpoints, a forward pass keeps the states that each segment starts from; the backward pass runs the segments
again, the last one first, and goes back through each before it runs the next. Segments and blocks depend on shapes
alone: no result depends on the number of threads.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import threads
from .backend import find
from .dropout import drop
from .onehot import OneHot
from .tape import Gradients, Packed, Tape

__all__ = [
    "Checkpoints",
    "Dropout",
    "Kept",
    "Stack",
    "Strand",
    "as_given",
    "at_once",
    "contiguous",
    "steps_of",
    "time_first",
    "wave",
]

Array = NDArray[Any]
States = tuple[Array | None, ...]  # of one cell: (h,) or (h, c), each (B, H); None only among upstream gradients
Sums = list[Array | None]  # gradients of a cell's weights: w_ih, w_hh, b_ih, b_hh
Span = tuple[int, int]

WORTH = 4e6  # floating-point operations of a task: a few times what it costs to hand it to a worker
WAVE_BATCH = 4  # beyond it the batch has work for the threads
WAVE_STEPS = 128  # at least, for a block of a wavefront: what packs and sums the weights for it is 2 % of it
WAVE_WORK = 1e8  # at least, for a cell's block: a millisecond, of which its call is some 4 %
WAVE_BLOCKS = (4, 32)  # at least, or the wave's two ends are most of it; at most, as more would not shorten these


@dataclass(frozen=True, slots=True)
class Dropout:
    rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment of a strand, with all that its backward pass needs."""

    strand: "Strand"
    spans: tuple[Span, ...]  # of its blocks
    tapes: tuple[tuple[Tape, ...], ...]  # of each cell, by blocks

    @property
    def shape(self) -> tuple[int, int]:
        """T and B."""
        return self.spans[-1][1], self.tapes[0][0].arrays["y"].shape[1]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """A strand that is run again for its backward pass."""

    strand: "Strand"  # with its weights packed, which also remembers back end and rung
    x: Any
    lengths: Array
    start: int
    spans: tuple[Span, ...]  # of its segments, in the order in which they were run
    states: tuple[tuple[States, ...], ...]  # that each of these started from

    @property
    def shape(self) -> tuple[int, int]:
        """T and B."""
        return steps_of(self.x), len(self.lengths)


@dataclass(frozen=True, slots=True)
class Strand:
    """Cells that run in one direction, each on the hidden states of the one below."""

    kernel: str  # of its forward pass
    first: int  # the layer of the lowest cell
    reverse: bool
    forward: Callable[..., Any]  # lstm_forward and so on
    backward: Callable[..., Gradients]
    pack: Callable[..., Packed]
    weights: tuple[tuple[Any, ...], ...]  # of each cell: w_ih, w_hh, b_ih, b_hh; or what `pack` made of them, alone
    options: dict[str, Any]
    dropout: Dropout | None = None  # between them

    def packed(self) -> "Strand":
        """The same with its weights packed, for many runs: a snapshot."""
        packs = tuple(w if len(w) == 1 else (self.pack(*w, **self.options),) for w in self.weights)
        return replace(self, weights=packs)

    def matrices(self) -> list[tuple[Array, Array]]:
        """w_ih and w_hh of each cell."""
        return [(w[0].arrays["w_ih"], w[0].arrays["w_hh"]) if len(w) == 1 else w[:2] for w in self.weights]

    def work(self) -> float:
        """Floating-point operations of one step of one sequence."""
        return sum(2.0 * (w_ih.size + w_hh.size) for w_ih, w_hh in self.matrices())

    # --------------------------------------------------------------------------------------------------- one segment

    def run(
        self, x: Any, states: Sequence[States], lengths: Array, *, keep: bool, start: int = 0, out: Array | None = None
    ) -> tuple[Array, list[States], Kept | None]:
        """y (T, B, H) and the final states of each cell; with `keep` also what `run_back` needs.

        start : the time of x's first step, for dropout.
        out : where y goes, C-contiguous; None for a new array.
        """
        n, T, B = len(self.weights), steps_of(x), len(lengths)
        spans = self._blocks(T, B, keep)
        if len(spans) > 1:
            self = self.packed()
            if out is None:
                out = np.empty((T, B, states[0][0].shape[1]), states[0][0].dtype)
        inputs = {(0, s): part(x, span) for s, span in enumerate(spans)}
        del x  # a stack that keeps nothing holds no more than two cells' activations
        carried = list(states)
        tapes: list[list[Any]] = [[None] * len(spans) for _ in range(n)]

        def task(i: int, s: int) -> None:
            t0, t1 = spans[s]
            y, *final, tapes[i][s] = self.forward(
                inputs.pop((i, s)), *carried[i], *self.weights[i], lengths=within(lengths, spans[s], T),
                reverse=self.reverse, keep=keep, out=out[t0:t1] if out is not None and i == n - 1 else None,
                **self.options,
            )  # fmt: skip
            carried[i] = tuple(final)
            if i < n - 1 and self.dropout is not None:
                y = self._drop(y, i, start + t0, out=None if keep else y)  # on a tape y must stay as it is
            inputs[i + 1, s] = y

        self._wave(task, range(n), range(len(spans)), B)
        return (
            inputs[n, 0] if out is None else out,
            carried,
            Kept(self, spans, tuple(map(tuple, tapes))) if keep else None,
        )

    @staticmethod
    def run_back(
        kept: Kept, dy: Array | None, dstates: Sequence[States], sums: Sequence[Sums], start: int = 0
    ) -> tuple[Array | None, list[States]]:
        """dx, and the gradients of each cell's initial states; those of its weights are added to its `sums`."""
        self, spans, n = kept.strand, kept.spans, len(kept.tapes)
        upstream = {(n - 1, s): dy if dy is None else dy[slice(*span)] for s, span in enumerate(spans)}
        carried = list(dstates)
        names = ("h0", "c0")[: len(carried[0])]
        first = kept.tapes[0][0].arrays["x"]
        dx = None if len(spans) == 1 or first.ndim == 2 else np.empty((spans[-1][1], *first.shape[1:]), first.dtype)

        def task(i: int, s: int) -> None:
            grads = self.backward(kept.tapes[i][s], upstream.pop((i, s)), *carried[i])
            carried[i] = tuple(getattr(grads, name) for name in names)
            _add(sums[i], [grads.w_ih, grads.w_hh, grads.b_ih, grads.b_hh])
            if i and self.dropout is not None:
                self._drop(grads.x, i - 1, start + spans[s][0], out=grads.x)
            if i or len(spans) == 1 or grads.x is None:
                upstream[i - 1, s] = grads.x
            else:
                dx[slice(*spans[s])] = grads.x

        self._wave(task, range(n)[::-1], range(len(spans))[::-1], kept.shape[1])
        return dx if len(spans) > 1 else upstream[-1, 0], carried

    def _blocks(self, T: int, B: int, keep: bool) -> tuple[Span, ...]:
        """One block, or those of a wavefront; not where native's workers share out the units of each cell, which on two
        threads was faster (4 layers of LSTM, T = 1000, B = 1, H = 256, training: 48 ms, 70 as a wavefront).
        """
        served = self.backend()
        w_hh = self.matrices()[0][1]
        H = w_hh.shape[1]
        if served == "reference" or (served == "native" and threads.team(H, w_hh.nbytes, H) > 1):
            return ((0, T),)
        # Only sums of weights' gradients depend on the blocks.
        if not keep and self.at_once(len(self.weights), B) == 1:
            return ((0, T),)
        return cut(T, wave(T, B, len(self.weights), self.work()))

    def backend(self) -> str:
        """That serves it now."""
        weights = self.weights[0]
        return (weights[0].cell if len(weights) == 1 else find(self.kernel)).backend

    def at_once(self, side: int, B: int) -> int:
        """How many of `side` such strands, or of its cells, run at a time."""
        w_hh = self.matrices()[0][1]
        return at_once(side, B, w_hh.shape[1], w_hh.nbytes if self.backend() == "native" else 0)

    def _wave(self, task: Callable[[int, int], None], cells: range, blocks: range, B: int) -> None:
        """`task(i, s)` for all cells i and blocks s, after (the cell before i, s) and (i, the block before s).

        Also after (the cell behind i, two blocks before s): no more than two blocks wait between cells.
        """
        if len(blocks) == 1:
            for i in cells:
                task(i, 0)
            return
        pairs = [(i, s) for s in blocks for i in cells]
        number = {pair: k for k, pair in enumerate(pairs)}
        di, ds = cells.step, blocks.step
        before = [((i - di, s), (i, s - ds), (i + di, s - 2 * ds)) for i, s in pairs]
        threads.together(
            [lambda pair=pair: task(*pair) for pair in pairs],
            [[number[pair] for pair in those if pair in number] for those in before],
            self.at_once(len(cells), B),
        )

    def _drop(self, x: Array, cell: int, start: int, *, out: Array | None) -> Array:
        return drop(x, self.dropout.rate, self.dropout.seed, self.first + cell, start=start, out=out)

    # ------------------------------------------------------------------------------------------------- many segments

    def run_segments(
        self, x: Any, states: Sequence[States], lengths: Array, steps: int, out: Array, *, start: int = 0
    ) -> tuple[list[States], Checkpoints]:
        """Run `steps` at a time, writing y into `out`, which may be strided; keep where each segment started."""
        self, T = self.packed(), len(out)
        spans = cut(T, steps)[:: -1 if self.reverse else 1]
        begun = []
        carried = list(states)
        for t0, t1 in spans:
            begun.append(tuple(carried))
            whole = out[t0:t1] if out.flags.c_contiguous else None
            lengths_here = within(lengths, (t0, t1), T)
            y, carried, _ = self.run(part(x, (t0, t1)), carried, lengths_here, keep=False, start=start + t0, out=whole)
            if whole is None:
                out[t0:t1] = y
        return carried, Checkpoints(self, x, lengths, start, spans, tuple(begun))

    @staticmethod
    def segments_back(
        c: Checkpoints,
        dy: Array | None,
        dstates: Sequence[States],
        sums: Sequence[Sums],
        dx: Array | None,
        guard: AbstractContextManager[Any] | None,
    ) -> list[States]:
        """As `run_back`, but writes the gradient of x to `dx`; or adds it, where directions share that by `guard`."""
        T, carried = c.shape[0], list(dstates)
        for (t0, t1), states in zip(reversed(c.spans), reversed(c.states), strict=True):
            here = slice(t0, t1)
            lengths = within(c.lengths, (t0, t1), T)
            kept = c.strand.run(part(c.x, (t0, t1)), states, lengths, keep=True, start=c.start + t0)[2]
            found, carried = Strand.run_back(kept, dy if dy is None else dy[here], carried, sums, c.start + t0)
            if dx is not None and guard is None:
                dx[here] = found
            elif dx is not None:
                with guard:
                    dx[here] += found
            del kept, found  # before the next segment is run: one at a time
        return carried


@dataclass(frozen=True, slots=True)
class Stack:
    """Levels of strands, each level on the outputs of the one below."""

    levels: tuple[tuple[Strand, ...], ...]
    dropout: Dropout | None = None  # between levels

    def packed(self) -> "Stack":
        return replace(self, levels=tuple(tuple(strand.packed() for strand in level) for level in self.levels))

    def run(
        self,
        x: Any,
        states: Sequence[States],
        lengths: Array,
        *,
        keep: bool = False,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[Array, list[States], list[list[Any]]]:
        """y (T, B, D·H), and the final states of each cell, level by level, its directions side by side.

        keep : return what `run_back` needs: of each level, by strands, `Kept`; or `Checkpoints` every `steps`.
        """
        T, B, H = steps_of(x), len(lengths), states[0][0].shape[1]
        dtype = states[0][0].dtype
        carried = iter(states)
        finals: list[States] = []
        tapes: list[list[Any]] = []
        for number, level in enumerate(self.levels):
            own = [list(islice(carried, len(strand.weights))) for strand in level]
            whole = np.empty((T, B, len(level) * H), dtype) if keep and steps else None
            results: list[Any] = [None] * len(level)

            def task(d: int, level=level, own=own, whole=whole, results=results, x=x) -> None:
                if whole is None:
                    results[d] = level[d].run(x, own[d], lengths, keep=keep, start=start)
                else:
                    out = whole if len(level) == 1 else whole[..., d * H : (d + 1) * H]
                    results[d] = (out, *level[d].run_segments(x, own[d], lengths, steps, out, start=start))

            _side_by_side(task, level, T, B)
            del x, task
            ys = [result[0] for result in results]
            finals += [final for result in results for final in result[1]]
            tapes.append([result[2] for result in results])
            del results
            x = whole if whole is not None else ys[0] if len(ys) == 1 else np.concatenate(ys, axis=2)
            if self.dropout is not None and number < len(self.levels) - 1:
                drop(x, self.dropout.rate, self.dropout.seed, number, start=start, out=x)
            del ys, whole
        return x, finals, tapes

    def run_back(
        self, tapes: Sequence[Sequence[Any]], dy: Array | None, dstates: Sequence[States], start: int = 0
    ) -> tuple[Array | None, list[States], list[Sums]]:
        """dx, and the gradients of each cell's initial states and of its weights, in the order of `run`."""
        carried = iter(dstates)
        own = [[list(islice(carried, len(strand.weights))) for strand in level] for level in self.levels]
        dinitial: list[Any] = [[None] * len(level) for level in self.levels]
        sums: list[Any] = [[[[None] * 4 for _ in strand.weights] for strand in level] for level in self.levels]
        for number in reversed(range(len(self.levels))):
            level, kept = self.levels[number], tapes[number]
            dys = [dy] if dy is None or len(level) == 1 else np.split(dy, len(level), axis=2)
            dxs: list[Any] = [None] * len(level)
            guard = Lock() if len(level) > 1 else None
            shared = _dx(kept[0], guard is not None) if isinstance(kept[0], Checkpoints) else None
            del dy  # of what is carried down, no more is held than the two sides of a level

            def task(d: int, n=number, kept=kept, dys=dys, dxs=dxs, guard=guard, shared=shared) -> None:
                dy, up, down = dys[d % len(dys)], own[n][d], sums[n][d]
                if isinstance(kept[d], Kept):
                    dxs[d], dinitial[n][d] = Strand.run_back(kept[d], dy, up, down, start)
                else:
                    dinitial[n][d] = Strand.segments_back(kept[d], dy, up, down, shared, guard)

            _side_by_side(task, level, *kept[0].shape)
            dy = shared if dxs[0] is None else dxs[0] if len(dxs) == 1 else np.add(*dxs, out=dxs[0])
            del task, dys, dxs, shared
            if number and self.dropout is not None:
                drop(dy, self.dropout.rate, self.dropout.seed, number - 1, start=start, out=dy)
        in_order = lambda parts: [cell for level in parts for strand in level for cell in strand]
        return dy, in_order(dinitial), in_order(sums)


def _side_by_side(task: Callable[[int], None], level: Sequence[Strand], T: int, B: int) -> None:
    """`task(d)` for the level's strands, at the same time where that pays."""
    if len(level) == 1:
        task(0)
        return
    pays = T * B * level[0].work() >= WORTH and level[0].backend() != "reference"  # whose BLAS has threads of its own
    most = level[0].at_once(len(level), B) if pays else 1
    threads.together([lambda d=d: task(d) for d in range(len(level))], [[]] * len(level), most)


def _dx(c: Checkpoints, zero: bool) -> Array | None:
    """Where the gradient of `c.x` goes."""
    if isinstance(c.x, OneHot):
        return None
    return (np.zeros if zero else np.empty)(c.x.shape, c.x.dtype)


def _add(sums: Sums, parts: Sequence[Array | None]) -> None:
    if sums[0] is None:
        sums[:] = parts
        return
    for total, found in zip(sums, parts, strict=True):
        if total is not None:
            total += found


def at_once(side: int, B: int, H: int, nbytes: int) -> int:
    """How many of `side` passes run at a time, each by one worker: all that there are threads for, if these are more
    threads than each pass by itself has sequences for, and no fewer than `native`'s team would have for its H units and
    `nbytes` of recurrent weights (0 for other back ends); or else 1.
    """
    n = threads.get_num_threads()
    most = min(n, side)
    return most if most > min(n, B) and most >= threads.team(H, nbytes, n) else 1


def wave(T: int, B: int, cells: int, work: float) -> int:
    """Steps of a block of a strand whose cells take `work` for a step of one sequence; T where one behind the other is
    better: where the batch has work for every thread, or there is too little of it.
    """
    least, most = WAVE_BLOCKS
    if cells > 1 and 0 < B <= WAVE_BATCH:
        steps = max(WAVE_STEPS, -(-T // most), int(WAVE_WORK * cells / (B * work)))
        if steps * least <= T:
            return steps
    return max(1, T)


def cut(T: int, steps: int) -> tuple[Span, ...]:
    """[0, T) in pieces of `steps`; one empty piece of nothing."""
    return tuple((t, min(t + steps, T)) for t in range(0, T, steps)) or ((0, 0),)


def steps_of(x: Any) -> int:
    return len(x.indices if isinstance(x, OneHot) else x)


def part(x: Any, span: Span) -> Any:
    """Steps [t0, t1) of x."""
    if span == (0, steps_of(x)):
        return x
    return OneHot(x.indices[slice(*span)]) if isinstance(x, OneHot) else x[slice(*span)]


def within(lengths: Array, span: Span, T: int) -> Array:
    """How many steps of each sequence lie in [t0, t1)."""
    return lengths if span == (0, T) else np.clip(lengths - span[0], 0, span[1] - span[0])


def as_given(array: Array, axes: str) -> Array:
    """`array` (T, B, ·) with the axes that x came with."""
    if axes == "T I":
        return array[:, 0]
    return array.swapaxes(0, 1) if axes == "B T I" else array


def time_first(array: Array, axes: str, *, copy: bool = True) -> Array:
    """(T, B, ·), contiguous where all of it is read at once, so that both directions share one copy."""
    if axes == "T I":
        return array[:, None]
    if axes == "T B I":
        return array
    return np.ascontiguousarray(array.swapaxes(0, 1)) if copy else array.swapaxes(0, 1)


def contiguous(x: Any) -> Any:
    return x if isinstance(x, OneHot) else np.ascontiguousarray(x)
