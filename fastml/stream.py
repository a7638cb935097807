"""Layers whose weights are packed once: for many calls, or for one step at a time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import backend, check
from .onehot import OneHot
from .stack import Strand, as_given
from .tape import Packed

if TYPE_CHECKING:
    from .layers import _Layer

__all__ = ["PackedLayer", "Stream"]

Array = NDArray[Any]

PREPARED = 2e7  # floating-point operations of a cell's step, at most: more are for the pool, and ask about Ctrl-C


class PackedLayer:
    """A layer for inference, with its weights packed once for all calls. Made by `layer.packed()`.

    A snapshot: later changes of the layer's weights do not reach it. It runs on the back end and rung that were set
    when it was made; a copy, or what pickle makes elsewhere, on those that are set there. Threads may share it.

    Notes
    -----
    Memory: two copies of the weights, beside the layer, which it keeps. Results are bitwise those of the layer.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> gru = fastml.GRU(3, 4, seed=0)
    >>> packed = gru.packed()
    >>> x = np.ones((5, 2, 3), "float32")
    >>> bool((packed(x)[0] == gru(x)[0]).all())
    True
    """

    def __init__(self, layer: "_Layer[Any]") -> None:
        self._layer, self._stack = layer, layer._stack().packed()

    def __call__(self, x: Any, state: Any = None, lengths: ArrayLike | None = None) -> tuple[Array, Any]:
        """What the layer's call returns for these arguments, with the weights that were packed."""
        return self._layer._call(self._stack, x, state, lengths)

    def stream(self, batch: int = 1, state: Any = None) -> "Stream":
        """As the layer's `stream`, sharing the packed weights.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> packed = fastml.GRU(3, 4, seed=0).packed()
        >>> packed.stream(batch=2).step(np.ones((2, 3), "float32")).shape
        (2, 4)
        """
        return Stream(self._layer, self._stack, batch, state)

    def __repr__(self) -> str:
        cell = self._stack.levels[0][0].weights[0][0].cell
        return f"PackedLayer({self._layer!r} by {cell.backend})"


class Stream:
    """A layer that reads one step at a time and carries its state. Made by `layer.stream()`.

    Notes
    -----
    y and state are bitwise those of the layer on the whole sequence, where the cell promises that for a sequence cut
    and carried on (`native`); elsewhere to rounding. A step that fails, or that Ctrl-C leaves, changes no state. A
    stream belongs to one thread at a time; a copy, or what pickle makes elsewhere, goes on from the same state by
    itself.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> lstm = fastml.LSTM(3, 4, num_layers=2, seed=0)
    >>> x = np.ones((5, 2, 3), "float32")
    >>> stream = lstm.stream(batch=2)
    >>> y = np.stack([stream.step(x_t).copy() for x_t in x])
    >>> bool(np.allclose(y, lstm(x)[0])), stream.state[1].shape
    (True, (2, 2, 4))
    """

    def __init__(self, layer: "_Layer[Any]", stack: Any, batch: int, state: Any) -> None:
        if layer.bidirectional:
            raise ValueError("bidirectional: expected False for a stream, as the reverse direction starts at the end")
        self._layer, self._stack, (self._strand,) = layer, stack, stack.levels[0]
        B, L, H = check.integer("batch", batch, 1), layer.num_layers, layer.hidden_size
        self._x = np.zeros((1, B, layer.input_size), layer.dtype)
        ys = [np.zeros((1, B, H), layer.dtype) for _ in range(L)]
        # A step reads one of these and writes the other; they change places once all of it is done.
        self._states = [[np.zeros((L, B, H), layer.dtype) for _ in layer._states] for _ in range(2)]
        self._now = 0
        # _cells[now] takes the step from _states[now] to the other.
        self._cells = [
            [self._prepared(i, self._x if i == 0 else ys[i - 1], ys[i], now) for i in range(L)] for now in range(2)
        ]
        # The same for the lowest cell where it reads indices; made for the first that come.
        self._indices = np.zeros((1, B), np.intp)
        self._looking_up: list[Callable[[], None]] = []
        self._lowest_y = ys[0]
        self._shape, self._dtype = self._x.shape[1:], layer.dtype
        self._y = ys[-1][0]
        self._shown = self._y.view()
        self._shown.flags.writeable = False
        self.reset(state)

    def _of_cell(self, i: int, now: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        before, after = self._states[now], self._states[1 - now]
        return tuple(s[i] for s in before), tuple(s[i] for s in after)

    def _prepared(self, i: int, x: Array, y: Array, now: int) -> Callable[[], None]:
        return prepared(self._strand, i, x, *self._of_cell(i, now), y)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its cells hold the addresses of its arrays: a copy makes its own.
        return Stream, (self._layer, self._stack, self._shape[0], self.state)

    def step(self, x: ArrayLike | OneHot, *, out: Array | None = None) -> Array:
        """Read the next step of each sequence.

        Parameters
        ----------
        x : array of shape (B, I), or OneHot of shape (B,)
            Of the layer's dtype; lists and integer arrays are cast to it. Or the indices of one-hot inputs.
        out : array of shape (B, H) or None
            Where y is written, of the layer's dtype; it may be strided, and it may be x.

        Returns
        -------
        y : array of shape (B, H)
            `out`; or, without it, a read-only array that belongs to the stream and is overwritten by the next step:
            copy it to keep it.

        Raises
        ------
        TypeError, ValueError
            x or out are of another dtype or shape, an index is out of its range, or out is read-only.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> stream = fastml.GRU(64, 4, seed=0).stream(batch=2)
        >>> stream.step(fastml.OneHot([5, 63])).shape
        (2, 4)
        """
        cells = self._cells[self._now]
        if isinstance(x, OneHot):
            self._indices[0] = self._checked_indices(x)
            cells = self._cells_by_index()
        else:
            if type(x) is not np.ndarray or x.dtype != self._dtype or x.shape != self._shape:
                x = self._checked(x)
            self._x[0] = x
        if out is not None:
            self._check_out(out)
        for cell in cells:
            cell()
        if out is not None:
            out[...] = self._y
        self._now = 1 - self._now  # the last thing that can fail lies behind
        return self._shown if out is None else out

    def _cells_by_index(self) -> list[Callable[[], None]]:
        if not self._looking_up:
            self._looking_up = [self._prepared(0, self._indices, self._lowest_y, now) for now in range(2)]
        return [self._looking_up[self._now], *self._cells[self._now][1:]]

    def steps(self, x: ArrayLike) -> Array:
        """Read the next T steps of each sequence.

        Parameters
        ----------
        x : array of shape (T, B, I), or (B, T, I) with batch_first; or OneHot

        Returns
        -------
        y : array of shape (T, B, H), or (B, T, H) with batch_first
            A new array.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> stream = fastml.GRU(3, 4, seed=0).stream(batch=2)
        >>> stream.steps(np.ones((5, 2, 3), "float32")).shape
        (5, 2, 4)
        """
        x, _, lengths, axes = self._layer._checked(x, None, None)
        if len(lengths) != self._shape[0]:
            raise ValueError(f"x: expected B = {self._shape[0]} (from batch), got {len(lengths)}")
        before = [self._of_cell(i, self._now)[0] for i in range(len(self._states[0][0]))]
        y, finals, _ = self._strand.run(x, before, lengths, keep=False)
        for i, final in enumerate(finals):
            for whole, part in zip(self._states[1 - self._now], final, strict=True):
                whole[i] = part
        self._now = 1 - self._now
        return as_given(y, axes)

    @property
    def state(self) -> Any:
        """A copy of the states, with the structure of the layer's: (num_layers, B, H), for LSTM a pair (h, c)."""
        found = tuple(s.copy() for s in self._states[self._now])
        return found if len(found) > 1 else found[0]

    def reset(self, state: Any = None) -> None:
        """Start new sequences, from `state` as for a call of the layer; None for zeros.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> stream, x = fastml.GRU(3, 4, seed=0).stream(), np.ones((5, 1, 3), "float32")
        >>> y = stream.steps(x)
        >>> stream.reset()
        >>> bool((stream.steps(x) == y).all())
        True
        """
        B, H = self._y.shape
        sizes = {"B": (B, "batch"), "H": (H, "hidden_size")}
        given = self._layer._unpack("state", state, "T B I", sizes)
        for whole, part in zip(self._states[self._now], given, strict=True):
            whole[...] = 0 if part is None else part

    def _checked(self, x: ArrayLike) -> Array:
        if x is None:
            raise TypeError("x: expected an array, got None")
        found = check.arrays(self._dtype, "the layer", x=x)["x"]
        B, I = self._shape
        check.shape("x", found, "B I", {"B": (B, "batch"), "I": (I, "input_size")})
        return found

    def _checked_indices(self, x: OneHot) -> Array:
        B, I = self._shape
        check.shape("x", x.indices, "B", {"B": (B, "batch")})
        return check.indices_of(x.indices[None], I, np.ones(B, np.intp), "input_size")[0]

    def _check_out(self, out: Any) -> None:
        shape = self._y.shape
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out: expected an array of {self._dtype}, got {type(out).__name__}")
        if out.dtype != self._dtype:
            raise TypeError(f"out: expected {self._dtype} as the layer, got {out.dtype}")
        if out.shape != shape:
            raise ValueError(f"out: expected shape (B, H) = {shape}, got {out.shape}")
        if not out.flags.writeable:
            raise ValueError("out: expected a writeable array")

    def __repr__(self) -> str:
        return f"Stream({self._layer!r} by {self._strand.weights[0][0].cell.backend}, B={self._shape[0]})"


def prepared(
    strand: Strand, i: int, x: Array, before: tuple[Array, ...], after: tuple[Array, ...], y: Array
) -> Callable[[], None]:
    """One step of cell `i`, as a call without arguments: from x (1, B, I), or indices (1, B), and the states (B, H)
    `before` it, to y (1, B, H) and the states `after` it. The arrays are the same for every call.
    """
    (packed,) = strand.weights[i]
    arrays = _arrays(packed)
    options = [value == "relu" if name == "nonlinearity" else value for name, value in strand.options.items()]
    if 2.0 * x.shape[1] * (arrays[0].size + arrays[1].size) <= PREPARED:
        step = backend.stream(packed.cell, packed.kernel, x, *before, *arrays, *options, y, *after)
        if step is not None:
            return step
    lengths = np.ones(x.shape[1], np.intp)

    def step() -> None:
        given = OneHot(x) if x.ndim == 2 else x
        _, *final, _ = strand.forward(given, *before, packed, lengths=lengths, keep=False, out=y, **strand.options)
        for to, state in zip(after, final, strict=True):
            to[...] = state

    return step


def _arrays(packed: Packed) -> list[Array]:
    return [packed.arrays[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
