"""What the passes of a layer take, in bytes, from its sizes alone; and from that how far apart checkpoints are."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

from .backend import active_isa
from .check import GATES
from .dropout import BLOCK
from .stack import at_once, wave
from .threads import get_num_threads, team

__all__ = ["Memory"]

KEPT = {"rnn": 0, "gru": 4, "lstm": 5}  # numbers for each step and unit, beside y
PYTHON = 1 << 18  # bytes of what holds the arrays of some hundred passes
OBJECT = 400  # bytes of a small array, beside its numbers
ROWS = 1024  # of a segment at least, a row being one step of one sequence: of fewer, packing weights is over 2 %
VECTOR = {"amx": 64, "avx512": 64, "avx2": 32}  # bytes; 16 on other rungs


@dataclass(frozen=True, slots=True)
class Memory:
    """Of T steps and B sequences; `steps` from one checkpoint to the next."""

    family: str
    I: int
    H: int
    L: int  # layers
    D: int  # directions
    T: int
    B: int
    itemsize: int
    dropout: bool
    one_hot: bool = False  # x is indices: there is no dx
    copied: bool = False  # batch first: x is copied, by segments, and dy may be

    # --------------------------------------------------------------------------------------------------- whole passes

    def inference(self) -> int:
        """A call of the layer: two layers' activations at a time."""
        scratch = self._states(3) + self._beside(self._forward_scratch)
        return self._bytes(self._activations(self.T) + scratch)

    def training(self, steps: int | None) -> int:
        """`forward`, and `backward` of its tape."""
        return max(self._bytes(self._forward(steps)), self._bytes(self._backward(steps)))

    def beyond_results(self, steps: int | None) -> int:
        """`training`, less y and the gradients of x, states and weights."""
        results = self._rows() * (self.D * self.H + self._read(0)) + self._weights() + self._states(1)
        return self.training(steps) - self._bytes(results)

    def _forward(self, steps: int | None) -> int:
        scratch = self._states(3) + self._beside(self._forward_scratch)
        if steps is None:
            return self._tapes(self.T) + scratch
        if self.D == 1:
            return self._checkpoints(steps) + self._activations(steps) - self._rows(steps) * self.H + scratch
        return self._checkpoints(steps) + self._beside(lambda layer: 1) * self._rows(steps) * self.H + scratch

    def _activations(self, T: int) -> int:
        """Of a strand, or of two directions, that keeps nothing, y included."""
        if self.D == 2:
            return 4 * self._rows(T) * self.H
        block = self._block(T)
        if block < T and self._at_once(self.L) > 1:
            return self._rows(T) * self.H + 2 * (self.L - 1) * self._rows(block) * self.H + 2 * self._weights()
        return min(self.L, 2) * self._rows(T) * self.H

    def _backward(self, steps: int | None) -> int:
        held = self._tapes(self.T) if steps is None else self._checkpoints(steps)
        return held + self._states(4) + max(self._backward_at(layer, steps) for layer in range(self.L))

    def _backward_at(self, layer: int, steps: int | None) -> int:
        """While layer `layer` goes back: upstream gradients, its own, and the weights' so far."""
        T, at_once = self._rows(steps or self.T), self._beside(lambda layer: 1)
        sums = self._weights(layer)
        if self.D == 1:
            scratch = self._beside(self._backward_scratch, layer)
            d = T * ((self.H if layer < self.L - 1 else 0) + self._read(layer))
            block = self._block(steps or self.T)
            if block < min(steps or self.T, self.T):
                d, sums = (
                    T * self._read(0) + 2 * (self.L - 1) * self._rows(block) * self.H,
                    self._weights() + self._cell(layer),
                )
            if steps is None:
                return sums + d + scratch
            # Sums and the whole gradient of x are there from the start, and a segment's tapes beside them.
            return self._weights() + self._cell(layer) + self._rows() * self._read(0) + self._tapes(steps) + d + scratch
        scratch = self._beside(self._backward_scratch, layer)
        above = self._rows() * 2 * self.H if layer < self.L - 1 else 0
        if steps is None:
            return sums + above + T * (at_once * self.H + 2 * self._read(layer)) + scratch
        own = T * (self.H * (1 + KEPT[self.family] + 1) + self._read(layer))
        return sums + above + self._rows() * self._read(layer) + at_once * (own + self._cell(layer)) + scratch

    def _tapes(self, T: int) -> int:
        """All that the passes of `T` steps keep, y included."""
        kept = self.L * self.D * self.H * (1 + KEPT[self.family])
        joined = self.L * 2 * self.H if self.D == 2 else (self.L - 1) * self.H if self.dropout else 0
        packed = 2 * self._weights() if self._block(T) < min(T, self.T) else 0
        return self._rows(T) * (kept + joined) + packed

    def _checkpoints(self, steps: int) -> int:
        """y, the states that segments start from, what layers of two directions read, and the packed weights."""
        ys = self.H if self.D == 1 else self.L * 2 * self.H
        return self._rows() * ys + ceil(self.T / steps) * self._states(1) + 2 * self._weights()

    # --------------------------------------------------------------------------------------------------------- choices

    def auto(self) -> int:
        """Steps at which checkpoints and a segment together are smallest, but no fewer than pay."""
        return max(1, min(self.T, max(self._smallest(), ceil(ROWS / max(1, self.B)))))

    def within(self, most: int) -> int | None:
        """The most steps whose passes stay within `most` bytes beyond the results; None: no checkpoints are needed."""
        if self._at_most(None) <= most:
            return None
        steps, too_many = self._smallest(), self.T + 1
        least = self._at_most(steps)
        if least > most:
            raise ValueError(f"max_memory: expected at least {least} bytes for T = {self.T}, B = {self.B}, got {most}")
        while too_many - steps > 1:
            middle = (steps + too_many) // 2
            if self._at_most(middle) <= most:
                steps = middle
            else:
                too_many = middle
        return steps

    def _at_most(self, steps: int | None) -> int:
        """`beyond_results` with all that it leaves out, and a tenth more."""
        bytes_ = 1.1 * self.beyond_results(steps) + PYTHON
        if steps is not None:
            arrays = self.L * self.D * (2 if self.family == "lstm" else 1)
            bytes_ += ceil(self.T / steps) * arrays * OBJECT
        if self.dropout:
            bytes_ += 4 * 8 * BLOCK
        if self.copied:
            bytes_ += self._bytes(self._rows(steps) * self._read(0) + self._rows() * self.D * self.H)
        return ceil(bytes_)

    def _smallest(self) -> int:
        """Where a segment grows by what the checkpoints lose: a·T/k + b·k is least at k = √(a·T/b)."""
        far = max(2, self.T)
        growth = (self._segment(far) - self._segment(1)) / (far - 1)
        return max(1, min(self.T, round(sqrt(self._states(1) * self.T / growth)))) if growth else 1

    def _segment(self, steps: int) -> int:
        return max(self._backward_at(layer, steps) for layer in range(self.L))

    # ----------------------------------------------------------------------------------------------------------- parts

    def _bytes(self, numbers: float) -> int:
        return int(numbers) * self.itemsize

    def _rows(self, T: int | None = None) -> int:
        return (self.T if T is None else min(T, self.T)) * self.B

    def _block(self, T: int) -> int:
        """Steps of a wavefront's block; T where there is none."""
        T = min(T, self.T)
        if team(self.H, self._recurrent(), self.H) > 1:
            return max(1, T)
        work = 2.0 * sum(self._cell(layer) - 2 * GATES[self.family] * self.H for layer in range(self.L))
        return wave(T, self.B, self.L if self.D == 1 else 1, work)

    def _inputs(self, layer: int) -> int:
        return self.D * self.H if layer else self.I

    def _read(self, layer: int) -> int:
        """Of x for each step: none of a look-up."""
        return 0 if self.one_hot and layer == 0 else self._inputs(layer)

    def _states(self, n: int) -> int:
        return n * (2 if self.family == "lstm" else 1) * self.L * self.D * self.B * self.H

    def _cell(self, layer: int) -> int:
        return GATES[self.family] * self.H * (self._inputs(layer) + self.H + 2)

    def _weights(self, lowest: int = 0) -> int:
        return self.D * sum(self._cell(layer) for layer in range(lowest, self.L))

    def _beside(self, of_layer: Callable[[int], int], layer: int | None = None) -> int:
        """Of the directions, or the layers of a wavefront, that run at the same time; of the layer that takes most."""
        together = self._at_once(self.D if self.D == 2 else self.L if self._block(self.T) < self.T else 1)
        return together * (max(map(of_layer, range(self.L))) if layer is None else of_layer(layer))

    def _at_once(self, side: int) -> int:
        return at_once(side, self.B, self.H, self._recurrent())

    def _recurrent(self) -> int:
        return self._bytes(GATES[self.family] * self.H * self.H)

    def _lanes(self) -> int:
        return VECTOR.get(active_isa() or "", 16) // self.itemsize

    def _padded(self, n: int) -> int:
        L = self._lanes()
        return (n + L - 1) // L * L + L

    def _split(self, n: int) -> int:
        """A column or row of n numbers as products read it: on the AMX rung three bfloat16 each, in whole tiles."""
        return (n + 31) // 32 * 48 if self._amx() else n

    def _parts(self, rows: int, n: int) -> int:
        """On the AMX rung, rows split beside the rows themselves."""
        return (rows + 15) // 16 * 16 * self._split(n) if self._amx() else 0

    def _amx(self) -> bool:
        return active_isa() == "amx" and self.itemsize == 4 and self.B >= 16

    def _workers(self) -> int:
        return max(1, min(self.B, get_num_threads()))  # of one pass at a time, or one of several side by side

    def _chunk(self, layer: int, most: int) -> int:
        flops = 2.0 * GATES[self.family] * self.H * (self._inputs(layer) + self.H)
        return int(min(most, max(12, 2e9 * self._lanes() * self.itemsize / 64 / flops)))

    def _forward_scratch(self, layer: int) -> int:
        """Native's: packed weights, and a chunk's rows for each worker (kernels/native/recurrent.h)."""
        G, I, L, split = GATES[self.family], self._inputs(layer), self._lanes(), self.family == "gru"
        columns, read = (self.H + L - 1) // L * L, self._read(layer)
        few = not read and self._rows() < I // 4  # look-ups leave w_ih as it is
        packed = 0 if few else self._split(I)
        weights = columns * (G * (packed + self._split(self.H) + 1) + 1 + split * self._split(self.H))
        row = (3 + 2 * split) * self._padded(self.H) + (self._padded(I) if read else 0) + G * columns + L
        rows = self._chunk(layer, 96 if self.H < 256 else 192)
        return weights + self._workers() * (rows * row + self._parts(rows, max(I, self.H)))

    def _backward_scratch(self, layer: int) -> int:
        """Native's: packed weights, the sums of their gradients, and two chunks."""
        G, I, L, split = GATES[self.family], self._inputs(layer), self._lanes(), self.family == "gru"
        columns, h, i = (self.H + L - 1) // L * L, self._padded(self.H), self._padded(I) if self._read(layer) else 0
        weights = self._split(G * columns) * (i + h) + columns * (G * (I + self.H + 2) + split * self.H)
        weights += split * self._split(columns) * h
        row = 2 * h + 2 * ((1 + split) * (G * columns + L) + (1 + 2 * split) * h + i)
        rows = self._chunk(layer, 128)
        parts = max(self._parts(rows, G * columns), self._parts(max(I, self.H) + 4 * L, rows))
        return weights + rows * row + self._workers() * parts
