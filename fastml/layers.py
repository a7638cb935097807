"""RNN, GRU and LSTM as layers: stacked, in both directions, with dropout between them, and weights in and out.

What the three share is in `_Layer`; a class adds its cell (`rnn.py`, `gru.py`, `lstm.py`) and that cell's options.
"""

import math
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from itertools import islice
from numbers import Real
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import check, saving
from .gru import gru_backward, gru_forward, gru_pack
from .lstm import lstm_backward, lstm_forward, lstm_pack
from .memory import Memory
from .onehot import OneHot
from .rnn import rnn_backward, rnn_forward, rnn_pack
from .stack import Checkpoints, Dropout, Stack, Strand, as_given, contiguous, steps_of, time_first
from .stream import PackedLayer, Stream
from .tape import Gradients, Packed, Tape

__all__ = ["GRU", "LSTM", "RNN", "LayerTape"]

Array = NDArray[Any]
State = TypeVar("State")  # an array, or LSTM's pair of them

PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class LayerTape:
    """What one `forward` of a layer leaves for `backward`. Read-only, and may be used any number of times.

    It refers to x, the states, y and the weights without copying them: change them after the backward pass, not before
    (this cannot be checked for free). It remembers the back end and rung that made it, for the backward pass and for
    what checkpoints make that run again.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> y, h_n, tape = fastml.GRU(3, 4, num_layers=2, seed=0).forward(np.ones((5, 2, 3), "float32"))
    >>> len(tape.passes), tape.shape, tape.dropout_seed
    (2, (5, 2), None)
    """

    layer: "_Layer"
    stack: Stack
    parts: list[list[Any]]  # of each level of the stack, by strands: Kept, or Checkpoints
    shape: tuple[int, int]  # T and B
    axes: str  # of x as it was given: "T B I", "B T I" or "T I"
    dropout: float
    dropout_seed: int | None  # None where nothing was dropped
    checkpoint: int | None  # steps from one checkpoint to the next; None without checkpoints

    @property
    def passes(self) -> tuple[Tape, ...]:
        """The tapes of the passes that were kept whole, layer by layer, its directions side by side."""
        kept = [part for level in self.parts for part in level if not isinstance(part, Checkpoints)]
        return tuple(tape for part in kept for cell in part.tapes for tape in cell)

    def __repr__(self) -> str:
        first = self.parts[0][0]
        made = first.strand.weights[0][0] if isinstance(first, Checkpoints) else first.tapes[0][0]
        every = f", checkpoint={self.checkpoint}" if self.checkpoint else ""
        return f"LayerTape({self.layer!r} by {made.cell.backend}, T={self.shape[0]}, B={self.shape[1]}{every})"


class _Layer(Generic[State]):
    _gates: ClassVar[int]
    _states: ClassVar[tuple[str, ...]] = ("h0",)  # as the cell's gradients name them
    _options: ClassVar[dict[str, Any]] = {}  # the cell's own arguments, with their defaults
    _shared: ClassVar[dict[str, Any]] = {
        "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "dtype": "float32",
    }  # fmt: skip
    _cell_forward: ClassVar[Callable[..., Any]]
    _cell_backward: ClassVar[Callable[..., Gradients]]
    _cell_pack: ClassVar[Callable[..., Packed]]

    weights: dict[str, Array]

    def __init__(self, seed: int | None, **arguments: Any) -> None:
        self._configure(**arguments)
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout: it acts between layers, so that {self.dropout} does nothing with num_layers=1",
                stacklevel=3,
            )
        if seed is not None:
            seed = check.integer("seed", seed, 0)
        draw = np.random.default_rng(seed).uniform
        bound = 1 / math.sqrt(self.hidden_size)
        # Drawn in float64, so that one seed gives the same weights in both dtypes.
        self.weights = {name: draw(-bound, bound, shape).astype(self.dtype) for name, shape in self._shapes()}

    def _configure(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: DTypeLike,
    ) -> None:
        self.input_size = check.integer("input_size", input_size, 1)
        self.hidden_size = check.integer("hidden_size", hidden_size, 1)
        self.num_layers = check.integer("num_layers", num_layers, 1)
        self.bias = check.flag("bias", bias)
        self.batch_first = check.flag("batch_first", batch_first)
        if isinstance(dropout, (bool, np.bool_)) or not isinstance(dropout, Real):
            raise TypeError(f"dropout: expected a number between 0 and 1, got {dropout!r}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout: expected a number between 0 and 1, got {dropout!r}")
        self.dropout = float(dropout)
        self.bidirectional = check.flag("bidirectional", bidirectional)
        self.dtype = check.dtype_of(dtype)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights, in PyTorch's order."""
        D, H, G = self._directions, self.hidden_size, self._gates
        for layer in range(self.num_layers):
            I = D * H if layer else self.input_size
            shapes = ((G * H, I), (G * H, H), (G * H,), (G * H,))
            for direction in range(D):
                yield from islice(zip(_names(layer, direction), shapes, strict=True), 4 if self.bias else 2)

    def _reading(self, w_ih: Array) -> Self:
        """A layer of one direction whose lowest input weights are `w_ih`, as many inputs as that has columns; it shares
        all others with this one.
        """
        other = copy(self)
        other.input_size, other.weights = w_ih.shape[1], {**self.weights, "weight_ih_l0": w_ih}
        return other

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the seed, as JSON can hold them."""
        names = ("input_size", "hidden_size", *self._shared, *self._options)
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

    def __repr__(self) -> str:
        defaults = {**self._shared, **self._options}
        shown = [f"{n}={v!r}" for n, v in self._arguments().items() if n in defaults and v != defaults[n]]
        return f"{type(self).__name__}({', '.join([str(self.input_size), str(self.hidden_size), *shown])})"

    # ------------------------------------------------------------------------------------------------------- passes

    def __call__(self, x: ArrayLike, state: Any = None, lengths: ArrayLike | None = None) -> tuple[Array, State]:
        """Run the layer for its outputs alone: keeps nothing for a backward pass, and drops nothing.

        Parameters
        ----------
        x : array of shape (T, B, I), or (B, T, I) with batch_first, or (T, I) for one sequence; or OneHot
            The inputs, of the layer's dtype, T and B may be 0; or the indices of one-hot inputs, without the last axis.
        state : array of shape (num_layers·directions, B, H), for LSTM a pair (h, c) of them, or None
            The initial states, never transposed; without the B axis for one sequence. None, also in the pair, is zeros.
        lengths : integers of shape (B,) or None
            How many steps of each sequence count, 0 ≤ length ≤ T, in any order; None for all T. What lies beyond is
            never read; the backward direction of a sequence starts at its own last step.

        Returns
        -------
        y : array of shape (T, B, directions·H), or as x has its axes
            The last layer's hidden states, directions side by side; 0 at padding. With `batch_first` it is a
            transposed view.
        state : like the argument
            The states after each sequence's own last step (its first, for the reverse direction).

        Raises
        ------
        TypeError
            x or state is an array of floating-point numbers of another dtype than the layer's, or of complex numbers or
            objects. Lists and integer arrays are cast to it.
        ValueError
            A shape or a length does not fit; the message names the argument and the axis.
        NotImplementedError
            The back end chosen with `fastml.use` does not have this cell.

        Notes
        -----
        Memory: x is copied where it is not C-contiguous, as with `batch_first`; besides, no more than two layers'
        activations are held at a time, whatever num_layers.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> gru = fastml.GRU(3, 4, bidirectional=True, seed=0)
        >>> y, h_n = gru(np.ones((5, 2, 3), "float32"), lengths=[5, 2])
        >>> y.shape, h_n.shape, bool((y[2:, 1] == 0).all())
        ((5, 2, 8), (2, 2, 4), True)
        """
        return self._call(self._stack(), x, state, lengths)

    def forward(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        *,
        training: bool = True,
        dropout_seed: int | None = None,
        checkpoint: int | Literal["auto"] | None = None,
        max_memory: int | None = None,
    ) -> tuple[Array, State, LayerTape]:
        """Run the layer and keep what `backward` needs.

        Parameters
        ----------
        x, state, lengths
            As for a call of the layer.
        training : bool
            False drops nothing; there is a tape all the same.
        dropout_seed : int or None
            What the dropout mask is a hash of, beside layer, t, b and unit: 0 ≤ dropout_seed < 2**64. An element's mask
            is the same for any number of threads, back end, batch size and T. None draws a new one; the tape has it
            as ``tape.dropout_seed``.
        checkpoint : int, "auto" or None
            Keep the states at every so many steps instead of all that `backward` needs; it then runs the segments
            between them again, one at a time. "auto" takes the number of steps at which states and segment together
            are smallest, about √T of them, but no fewer than pay for what a segment costs. None keeps all.
        max_memory : int or None
            Bytes that the two passes may take beyond x, y and the gradients, in `native`: by the estimate of `memory`
            and a tenth more (`jit` may take three times as much, `reference` more). The longest segments that fit are
            taken, and no checkpoints at all where everything fits, also with checkpoint="auto"; None as `checkpoint`
            says.

        Returns
        -------
        y, state
            As for a call of the layer.
        tape : LayerTape
            For `backward`; any number of them may be pending. It refers to x, the states, y and the weights without
            copying them: change them after `backward`, not before.

        Raises
        ------
        TypeError, ValueError, NotImplementedError
            As for a call of the layer, and for the other arguments; also where nothing fits into `max_memory`, which
            the message then says the least of.

        Notes
        -----
        Memory, beside x and y: what the cell keeps for each layer and direction (T·B·H numbers, times 1 for RNN, 5 for
        GRU, 6 for LSTM), and T·B·H more per direction for the input of each layer but the first, if there are two
        directions or dropout. The dropout mask is not kept: it is hashed again. `memory` says how much that is.

        With checkpoints every k steps: the states (H numbers, for LSTM 2H) for each layer, direction, sequence and k
        steps; what is said above for k steps instead of T; of two directions also the input of each layer but the
        first; and two copies of the weights, with which the segments are run again. That costs a third forward pass.
        y is bitwise the same with checkpoints, and so are the gradients of x and of the states, where the cell promises
        that for a sequence cut and carried on (`native`); those of the weights to rounding, as they are sums.

        References
        ----------
        Chen, Xu, Zhang and Guestrin, arXiv:1604.06174; Gruslys et al., Memory-Efficient Backpropagation Through Time,
        NIPS 2016.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> lstm = fastml.LSTM(3, 4, num_layers=2, dropout=0.5, seed=0)
        >>> y, (h_n, c_n), tape = lstm.forward(np.ones((5, 2, 3), "float32"), dropout_seed=7)
        >>> y.shape, c_n.shape, tape.dropout_seed
        ((5, 2, 4), (2, 2, 4), 7)
        """
        dropout_seed = self._drawn(training, dropout_seed)
        x, states, lengths, axes = self._checked(x, state, lengths)
        memory = self._memory(steps_of(x), len(lengths), dropout_seed is not None, isinstance(x, OneHot))
        return self._forward(x, states, lengths, axes, dropout_seed, self._steps(memory, checkpoint, max_memory))

    def backward(self, tape: LayerTape, dy: ArrayLike | None = None, dstate: Any = None) -> Gradients:
        """Backpropagate through `forward`: the exact gradient of every input and weight.

        Parameters
        ----------
        tape : LayerTape
            From this layer's `forward`; it may be used again.
        dy : array of the shape of y, or None
            Gradient of the loss with respect to y; None for zeros. Never read at padding.
        dstate : like state, or None
            Gradient with respect to the final states; None, also in LSTM's pair, for zeros.

        Returns
        -------
        Gradients
            ``.x`` as x, 0 at padding, None for a `OneHot`; ``.state`` with the structure of the states, also where the
            initial states were None; ``.weights``, a dict with the names of `weights`. All are new arrays.

        Raises
        ------
        TypeError
            `tape` is not a layer's tape, or dy or dstate are of another dtype than the layer's.
        ValueError
            `tape` is another layer's, or a shape does not fit.

        Notes
        -----
        Runs on the back end and the ISA rung that made the tape, and costs two forward passes.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> rnn = fastml.RNN(3, 4, seed=0)
        >>> y, h_n, tape = rnn.forward(np.ones((5, 2, 3), "float32"))
        >>> grads = rnn.backward(tape, dy=np.ones_like(y))
        >>> for name, weight in rnn.weights.items():
        ...     weight -= 0.01 * grads.weights[name]
        >>> grads.x.shape, grads.state.shape, list(grads.weights)
        ((5, 2, 3), (1, 2, 4), ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0'])
        """
        if not isinstance(tape, LayerTape):
            raise TypeError(f"tape: expected the tape of this layer's forward, got {type(tape).__name__}")
        if tape.layer is not self:
            raise ValueError(f"tape: expected the tape of this {self!r}, got that of another layer, a {tape.layer!r}")
        T, B = tape.shape
        D, L, H = self._directions, self.num_layers, self.hidden_size
        sizes = {"T": (T, "the forward pass"), "B": (B, "the forward pass"), "H": (H, "hidden_size")}
        if dy is not None:
            dy = check.arrays(self.dtype, "the layer", dy=dy)["dy"]
            check.shape("dy", dy, tape.axes.replace("I", _times(D, "H")), sizes)
            dy = time_first(dy, tape.axes, copy=tape.checkpoint is None)
        dstates = self._unpack("dstate", dstate, tape.axes, sizes)
        by_cell = [tuple(d if d is None else d[k] for d in dstates) for k in range(L * D)]
        dx, dinitial, sums = tape.stack.run_back(tape.parts, dy, by_cell)
        x = None if dx is None else as_given(dx, tape.axes)
        return Gradients(x=x, state=self._pack(dinitial, tape.axes), weights=self._named(sums))

    def memory(self, T: int, B: int, *, training: bool = True, checkpoint: int | Literal["auto"] | None = None) -> int:
        """Bytes that the passes over T steps of B sequences take at a time, beyond x, dy and the weights.

        Parameters
        ----------
        T, B : int
            Steps and sequences, at least 0.
        training : bool
            True: of `forward` and then `backward`: y, states, tape, the gradients of x, states and weights, scratch.
            False: of a call of the layer: y, states, the activations between layers, and scratch.
        checkpoint : int, "auto" or None
            As for `forward`.

        Returns
        -------
        int
            The peak, to within about a tenth: of `native` with the number of threads and the rung that are set. `jit`
            takes up to three times as much; `reference`, which holds the products of all steps, several times.

        Raises
        ------
        TypeError, ValueError
            An argument is of the wrong type or out of its range; the message names it.

        Notes
        -----
        x counts as C-contiguous and time-first, as otherwise it is copied, and as numbers: a `OneHot` takes less.
        States count as not given.

        Examples
        --------
        >>> import fastml
        >>> lstm = fastml.LSTM(256, 256, seed=0)
        >>> lstm.memory(100_000, 1) > 3 * lstm.memory(100_000, 1, checkpoint="auto")
        True
        """
        T, B = check.integer("T", T, 0), check.integer("B", B, 0)
        training = check.flag("training", training)
        memory = self._memory(T, B, self.dropout > 0)
        steps = self._steps(memory, checkpoint, None)
        return memory.training(steps) if training else memory.inference()

    def packed(self) -> PackedLayer:
        """The layer for inference, with its weights packed once for many calls: a snapshot.

        Returns
        -------
        PackedLayer
            Called like the layer; short sequences gain most, as packing costs about what ten steps of one sequence do.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> y, h_n = fastml.GRU(3, 4, seed=0).packed()(np.ones((5, 2, 3), "float32"))
        >>> y.shape, h_n.shape
        ((5, 2, 4), (1, 2, 4))
        """
        return PackedLayer(self)

    def stream(self, batch: int = 1, state: Any = None) -> Stream:
        """Read sequences one step at a time, the state being carried: for input that arrives as time goes by.

        Parameters
        ----------
        batch : int
            B, how many sequences run side by side; at least 1.
        state : array of shape (num_layers, B, H), for LSTM a pair (h, c) of them, or None
            What they start from; None for zeros.

        Returns
        -------
        Stream
            ``stream.step(x)`` with x (B, I) is y (B, H). Its weights are a snapshot.

        Raises
        ------
        ValueError
            The layer is bidirectional, or an argument does not fit.
        TypeError
            An argument is of the wrong type.

        Examples
        --------
        >>> import numpy as np, fastml
        >>> stream = fastml.GRU(3, 4, num_layers=2, seed=0).stream()
        >>> for x in np.ones((5, 1, 3), "float32"):
        ...     y = stream.step(x)
        >>> y.shape, stream.state.shape
        ((1, 4), (2, 1, 4))
        """
        return self.packed().stream(batch, state)

    # ----------------------------------------------------------------------------------------------- how the passes run

    def _stack(self, dropout_seed: int | None = None) -> Stack:
        """The layer's weights as they are, in the form that they run in."""
        D, family = self._directions, self._kind().lower()
        options = {name: getattr(self, name) for name in self._options}
        dropout = None if dropout_seed is None else Dropout(self.dropout, dropout_seed)
        weights = [
            [tuple(self.weights.get(name) for name in _names(layer, d)) for d in range(D)]
            for layer in range(self.num_layers)
        ]

        def strand(first: int, d: int, cells: list[tuple[Any, ...]]) -> Strand:
            functions = (self._cell_forward, self._cell_backward, self._cell_pack)
            return Strand(f"{family}_forward", first, d == 1, *functions, tuple(cells), options, dropout)

        if D == 1:
            return Stack(((strand(0, 0, [cell for (cell,) in weights]),),), dropout)
        return Stack(
            tuple(tuple(strand(k, d, [level[d]]) for d in range(2)) for k, level in enumerate(weights)), dropout
        )

    def _checked(self, x: Any, state: Any, lengths: Any) -> tuple[Any, list[tuple[Array, ...]], Array, str]:
        """x with time first, the states of each cell, lengths, and the axes of x."""
        D, L, H = self._directions, self.num_layers, self.hidden_size
        sizes = {"I": (self.input_size, "input_size"), "H": (H, "hidden_size")}
        if x is None:
            raise TypeError("x: expected an array, got None")
        one_hot = isinstance(x, OneHot)
        given = x.indices if one_hot else check.arrays(self.dtype, "the layer", x=x)["x"]
        if given.ndim + one_hot not in (2, 3):
            raise ValueError(
                f"x: expected {3 - one_hot} axes, or {2 - one_hot} for one sequence, got shape {given.shape}"
            )
        axes = "T I" if given.ndim + one_hot == 2 else "B T I" if self.batch_first else "T B I"
        check.shape("x", given, axes.removesuffix(" I") if one_hot else axes, sizes)
        if axes == "T I" and lengths is not None:
            raise ValueError(f"lengths: expected None for one sequence (x with {given.ndim} axes)")
        found = time_first(given, axes, copy=False)
        T, B = found.shape[:2]
        lengths = check.lengths_of(lengths, T, B)
        if one_hot:  # here, where it is the whole of x: in segments, those before a wrong index would be run
            check.indices_of(found, self.input_size, lengths, "input_size")
        # Zeros rather than None: a cell gives no gradient of a state that it was not given.
        states = [
            np.zeros((L * D, B, H), self.dtype) if part is None else part
            for part in self._unpack("state", state, axes, sizes)
        ]
        return OneHot(found) if one_hot else found, list(zip(*states, strict=True)), lengths, axes

    def _call(self, stack: Stack, x: Any, state: Any, lengths: Any) -> tuple[Array, Any]:
        x, states, lengths, axes = self._checked(x, state, lengths)
        y, finals, _ = stack.run(contiguous(x), states, lengths)
        return as_given(y, axes), self._pack(finals, axes)

    def _forward(
        self, x: Any, states: Any, lengths: Array, axes: str, dropout_seed: int | None, steps: int | None
    ) -> tuple[Array, Any, LayerTape]:
        stack = self._stack(dropout_seed)
        if steps is None:
            x = contiguous(x)  # one copy, for both directions; segments make their own
        y, finals, parts = stack.run(x, states, lengths, keep=True, steps=steps)
        tape = LayerTape(self, stack, parts, y.shape[:2], axes, self.dropout, dropout_seed, steps)
        return as_given(y, axes), self._pack(finals, axes), tape

    def _drawn(self, training: bool, dropout_seed: int | None) -> int | None:
        """The seed of a pass's dropout: the one given, or a new one; None where nothing is dropped."""
        training = check.flag("training", training)
        if dropout_seed is not None:
            dropout_seed = check.integer("dropout_seed", dropout_seed, 0, 2**64 - 1)
        if not (training and self.dropout > 0 and self.num_layers > 1):
            return None
        return secrets.randbits(64) if dropout_seed is None else dropout_seed

    def _memory(self, T: int, B: int, dropout: bool, one_hot: bool = False) -> Memory:
        return Memory(
            self._kind().lower(), self.input_size, self.hidden_size, self.num_layers, self._directions, T, B,
            self.dtype.itemsize, dropout, one_hot, self.batch_first,
        )  # fmt: skip

    def _steps(self, memory: Memory, checkpoint: Any, max_memory: Any) -> int | None:
        """From one checkpoint to the next; None without them."""
        auto = isinstance(checkpoint, str)
        if auto and checkpoint != "auto":
            raise ValueError(f"checkpoint: expected a number of steps, 'auto' or None, got {checkpoint!r}")
        if checkpoint is not None and not auto:
            checkpoint = check.integer("checkpoint", checkpoint, 1)
        if max_memory is not None:
            max_memory = check.integer("max_memory", max_memory, 0)
            if isinstance(checkpoint, int):
                raise ValueError(f"max_memory: expected None beside a number of steps, checkpoint={checkpoint}")
            return memory.within(max_memory)
        return memory.auto() if auto else checkpoint

    def _unpack(self, name: str, state: Any, axes: str, sizes: dict[str, tuple[int, str]]) -> list[Array | None]:
        """The state as (num_layers·directions, B, H) arrays, one for each of the cell's; None stays None."""
        n = len(self._states)
        if state is None:
            return [None] * n
        if n > 1 and (not isinstance(state, (tuple, list)) or len(state) != n):
            got = f"{len(state)} of them" if isinstance(state, (tuple, list)) else type(state).__name__
            raise TypeError(f"{name}: expected a pair (h, c), got {got}")
        parts = {f"{name}[{i}]": part for i, part in enumerate(state)} if n > 1 else {name: state}
        found = check.arrays(self.dtype, "the layer", **parts)
        expected = f"{_times(self._directions, 'L')} {'B ' if 'B' in axes else ''}H"
        for part, array in found.items():
            if array is not None:
                check.shape(part, array, expected, {**sizes, "L": (self.num_layers, "num_layers")})
        return [array[:, None] if array is not None and "B" not in axes else array for array in found.values()]

    def _named(self, cells: Sequence[Sequence[Array | None]]) -> dict[str, Array]:
        """What belongs to the weights of each cell, by their names."""
        D = self._directions
        names = [name for layer in range(self.num_layers) for d in range(D) for name in _names(layer, d)]
        found = dict(zip(names, (part for cell in cells for part in cell), strict=True))
        return {name: found[name] for name, _ in self._shapes()}

    def _pack(self, cells: list[tuple[Array, ...]], axes: str) -> Any:
        """The states of each cell in PyTorch's structure."""
        states = (parts[0][None] if len(parts) == 1 else np.stack(parts) for parts in zip(*cells, strict=True))
        found = tuple(state if "B" in axes else state[:, 0] for state in states)
        return found if len(found) > 1 else found[0]

    # ------------------------------------------------------------------------------------------ weights in and out

    def state_dict(self) -> dict[str, Array]:
        """Copies of the weights, by PyTorch's names and in PyTorch's order.

        Returns
        -------
        dict of str to array

        Examples
        --------
        >>> import fastml
        >>> {name: weight.shape for name, weight in fastml.RNN(3, 4, bias=False).state_dict().items()}
        {'weight_ih_l0': (4, 3), 'weight_hh_l0': (4, 4)}
        """
        return {name: weight.copy() for name, weight in self.weights.items()}

    def load_state_dict(self, mapping: Mapping[str, ArrayLike]) -> None:
        """Copy weights into the layer's arrays, in place: who refers to an array of `weights` sees the new values.

        Parameters
        ----------
        mapping : mapping of str to array
            One array for each name of `weights`, of any real dtype, cast to the layer's: another layer's `state_dict`,
            that of a torch.nn module, what `numpy.load` gives for an npz file.

        Raises
        ------
        TypeError
            `mapping` is no mapping, or a value is no array of real numbers; a torch tensor that requires a gradient is
            none (detach it).
        ValueError
            Names are missing, unknown, or have another shape; the message lists all of them. Whatever is raised, no
            weight has changed.

        Examples
        --------
        >>> import fastml
        >>> a, b = fastml.RNN(3, 4, seed=0), fastml.RNN(3, 4, seed=1)
        >>> b.load_state_dict(a.state_dict())
        >>> bool((a.weights["bias_hh_l0"] == b.weights["bias_hh_l0"]).all())
        True
        """
        saving.load_state(self.weights, mapping)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the layer to a safetensors file, with the constructor's arguments in its metadata.

        Parameters
        ----------
        path : path-like
            Where to. A file that is there is replaced once the new one is complete: after an error, a full disk say,
            it is as it was, and nothing else is left.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            `path` is there and is no file.

        Notes
        -----
        Memory: one copy of the weights. PyTorch and others read the file with their own safetensors functions; names
        and shapes are those of torch.nn. The metadata holds a CRC-32 besides, as safetensors itself has no checksum.

        Examples
        --------
        >>> import tempfile, os, fastml
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fastml.GRU(3, 4, num_layers=2).save(os.path.join(folder, "gru.safetensors"))
        ...     fastml.GRU.load(os.path.join(folder, "gru.safetensors"))
        GRU(3, 4, num_layers=2)
        """
        saving.save(path, {"layer": self._kind(), "arguments": self._arguments()}, self.weights)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Make a layer from a file that `save` wrote.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        layer
            With the arguments and weights of the one that was saved.

        Raises
        ------
        FileNotFoundError, OSError
            There is no file, or it cannot be read.
        ValueError
            It is not one that `save` wrote, is damaged or cut short, holds another kind of layer, or its weights do not
            fit its arguments or its checksum; the message names the file and what is wrong.

        Notes
        -----
        Executes nothing that the file contains (no pickle), and allocates no more than the file holds.

        Examples
        --------
        >>> import tempfile, os, fastml
        >>> gru = fastml.GRU(3, 4, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     gru.save(os.path.join(folder, "gru.safetensors"))
        ...     same = fastml.GRU.load(os.path.join(folder, "gru.safetensors"))
        >>> bool((same.weights["weight_hh_l0"] == gru.weights["weight_hh_l0"]).all())
        True
        """
        layer = cls.__new__(cls)
        with saving.opened(path, cls._kind()) as file:
            layer._configure(**file.arguments)
            layer.weights = file.arrays(layer._shapes(), layer.dtype)
        return layer

    @classmethod
    def _kind(cls) -> str:
        return next(base.__name__ for base in cls.__mro__ if "_gates" in vars(base))


@cache
def _names(layer: int, direction: int) -> tuple[str, ...]:
    return tuple(f"{part}_l{layer}{'_reverse' if direction else ''}" for part in PARTS)


def _times(n: int, letter: str) -> str:
    return letter if n == 1 else f"{n}{letter}"


# ---------------------------------------------------------------------------------------------------------- the layers


def _rnn_pack(*weights: Array | None, nonlinearity: str) -> Packed:
    return rnn_pack(*weights)  # which serve every nonlinearity


class RNN(_Layer[Array]):
    """Elman's recurrent network: layers stacked, in one direction or both.

    .. math:: h_t = φ(W x_t + b + R h_{t-1} + b'), \\quad φ = \\tanh \\text{ or } \\max(·, 0)

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    num_layers : int
        L; each layer reads the hidden states of the one below.
    nonlinearity : {"tanh", "relu"}
        φ.
    bias : bool
        False leaves out b and b'.
    batch_first : bool
        x, y and their gradients are (B, T, ·) instead of (T, B, ·). States never are.
    dropout : float
        Probability with which `forward` zeroes an output of every layer but the last, scaling the others by
        1 / (1 - dropout).
    bidirectional : bool
        Each layer also runs from every sequence's end to its start; outputs lie side by side, and states are
        ordered layer by layer, forward before reverse.
    dtype : dtype
        float32 or float64.
    seed : int or None
        Of the initial weights, drawn from U(-1/√H, 1/√H); None draws anew each time.

    Attributes
    ----------
    weights : dict of str to array
        The live parameters, C-contiguous, named, ordered and shaped as in torch.nn.RNN: ``weight_ih_l0`` (H, I),
        ``weight_hh_l0`` (H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (H,); then ``…_l0_reverse``, ``…_l1`` and so on,
        where the input size is directions·H. An optimiser updates them in place:
        ``layer.weights[name] -= rate * grads.weights[name]``, after `backward`.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of its range; the message names it.

    Warns
    -----
    UserWarning
        `dropout` with one layer, where it does nothing.

    Notes
    -----
    A layer holds nothing but its parameters, so that threads may share it and several passes be pending. Cost of a
    call: 2·T·B·H·(I + H) floating-point operations for each layer and direction; `backward` twice that. Accuracy and
    bitwise promises are those of `fastml.rnn_forward`.

    References
    ----------
    Elman, Cognitive Science 14 (1990); the form of torch.nn.RNN.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> rnn = fastml.RNN(8, 16, nonlinearity="relu", seed=0)
    >>> y, h_n = rnn(np.ones((20, 3, 8), "float32"))
    >>> y.shape, h_n.shape
    ((20, 3, 16), (1, 3, 16))
    """

    _gates, _options = 1, {"nonlinearity": "tanh"}
    _cell_forward, _cell_backward = staticmethod(rnn_forward), staticmethod(rnn_backward)
    _cell_pack = staticmethod(_rnn_pack)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        super().__init__(
            seed, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, nonlinearity=nonlinearity,
            bias=bias, batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, dtype=dtype,
        )  # fmt: skip

    def _configure(self, *, nonlinearity: str, **shared: Any) -> None:
        super()._configure(**shared)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity


class GRU(_Layer[Array]):
    """Gated recurrent units: layers stacked, in one direction or both.

    .. math::
        r_t, z_t &= σ(W x_t + b + R h_{t-1} + b') \\\\
        n_t &= \\tanh(W_n x_t + b_n + r_t ⊙ (R_n h_{t-1} + b'_n)) \\\\
        h_t &= (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    num_layers : int
        L; each layer reads the hidden states of the one below.
    bias : bool
        False leaves out b and b'.
    batch_first : bool
        x, y and their gradients are (B, T, ·) instead of (T, B, ·). States never are.
    dropout : float
        Probability with which `forward` zeroes an output of every layer but the last, scaling the others by
        1 / (1 - dropout).
    bidirectional : bool
        Each layer also runs from every sequence's end to its start; outputs lie side by side, and states are
        ordered layer by layer, forward before reverse.
    reset_after : bool
        True: the equations above, PyTorch's and cuDNN's. False: the paper's, with R_n (r ⊙ h) + b'_n in n.
    dtype : dtype
        float32 or float64.
    seed : int or None
        Of the initial weights, drawn from U(-1/√H, 1/√H); None draws anew each time.

    Attributes
    ----------
    weights : dict of str to array
        The live parameters, C-contiguous, named, ordered and shaped as in torch.nn.GRU: ``weight_ih_l0`` (3H, I),
        ``weight_hh_l0`` (3H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (3H,), gates r, z, n; then ``…_l0_reverse``,
        ``…_l1`` and so on, where the input size is directions·H. An optimiser updates them in place:
        ``layer.weights[name] -= rate * grads.weights[name]``, after `backward`.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of its range; the message names it.

    Warns
    -----
    UserWarning
        `dropout` with one layer, where it does nothing.

    Notes
    -----
    A layer holds nothing but its parameters, so that threads may share it and several passes be pending. Cost of a
    call: 6·T·B·H·(I + H) floating-point operations for each layer and direction; `backward` twice that. Accuracy and
    bitwise promises are those of `fastml.gru_forward`.

    References
    ----------
    Cho et al., arXiv:1406.1078; the form of torch.nn.GRU.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> gru = fastml.GRU(8, 16, num_layers=2, batch_first=True, seed=0)
    >>> y, h_n = gru(np.ones((3, 20, 8), "float32"))
    >>> y.shape, h_n.shape
    ((3, 20, 16), (2, 3, 16))
    """

    _gates, _options = 3, {"reset_after": True}
    _cell_forward, _cell_backward = staticmethod(gru_forward), staticmethod(gru_backward)
    _cell_pack = staticmethod(gru_pack)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        super().__init__(
            seed, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, reset_after=reset_after, dtype=dtype,
        )  # fmt: skip

    def _configure(self, *, reset_after: bool, **shared: Any) -> None:
        super()._configure(**shared)
        self.reset_after = check.flag("reset_after", reset_after)


class LSTM(_Layer[tuple[Array, Array]]):
    """Long short-term memory: layers stacked, in one direction or both.

    .. math::
        i_t, f_t, o_t &= σ(W x_t + b + R h_{t-1} + b') \\quad g_t = \\tanh(W x_t + b + R h_{t-1} + b') \\\\
        c_t &= f_t ⊙ c_{t-1} + i_t ⊙ g_t \\qquad h_t = o_t ⊙ \\tanh(c_t)

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    num_layers : int
        L; each layer reads the hidden states of the one below.
    bias : bool
        False leaves out b and b'.
    batch_first : bool
        x, y and their gradients are (B, T, ·) instead of (T, B, ·). States never are.
    dropout : float
        Probability with which `forward` zeroes an output of every layer but the last, scaling the others by
        1 / (1 - dropout).
    bidirectional : bool
        Each layer also runs from every sequence's end to its start; outputs lie side by side, and states are
        ordered layer by layer, forward before reverse.
    proj_size : int
        Only 0 for now: no projection of h.
    dtype : dtype
        float32 or float64.
    seed : int or None
        Of the initial weights, drawn from U(-1/√H, 1/√H); None draws anew each time.

    Attributes
    ----------
    weights : dict of str to array
        The live parameters, C-contiguous, named, ordered and shaped as in torch.nn.LSTM: ``weight_ih_l0`` (4H, I),
        ``weight_hh_l0`` (4H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (4H,), gates i, f, g, o; then ``…_l0_reverse``,
        ``…_l1`` and so on, where the input size is directions·H. An optimiser updates them in place:
        ``layer.weights[name] -= rate * grads.weights[name]``, after `backward`.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of its range; the message names it.
    NotImplementedError
        `proj_size` is not 0.

    Warns
    -----
    UserWarning
        `dropout` with one layer, where it does nothing.

    Notes
    -----
    A layer holds nothing but its parameters, so that threads may share it and several passes be pending. Cost of a
    call: 8·T·B·H·(I + H) floating-point operations for each layer and direction; `backward` twice that. Accuracy and
    bitwise promises are those of `fastml.lstm_forward`.

    References
    ----------
    Hochreiter and Schmidhuber, Neural Computation 9 (1997); the form of torch.nn.LSTM.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> lstm = fastml.LSTM(8, 16, num_layers=2, bidirectional=True, seed=0)
    >>> lstm
    LSTM(8, 16, num_layers=2, bidirectional=True)
    >>> y, (h_n, c_n) = lstm(np.ones((20, 3, 8), "float32"))
    >>> y.shape, h_n.shape
    ((20, 3, 32), (4, 3, 16))
    """

    _gates, _states = 4, ("h0", "c0")
    _cell_forward, _cell_backward = staticmethod(lstm_forward), staticmethod(lstm_backward)
    _cell_pack = staticmethod(lstm_pack)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        if check.integer("proj_size", proj_size, 0):
            raise NotImplementedError(f"proj_size: expected 0, as there are no projections yet, got {proj_size!r}")
        super().__init__(
            seed, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, bias=bias,
            batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, dtype=dtype,
        )  # fmt: skip
