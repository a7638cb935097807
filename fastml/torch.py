"""`torch.nn`'s RNN, GRU and LSTM on fastml's kernels: the same parameters, outputs and gradients. Needs PyTorch.

>>> import torch
>>> from fastml.torch import accelerate
>>> model = torch.nn.Sequential(torch.nn.LSTM(3, 4, num_layers=2))
>>> type(accelerate(model)[0])
<class 'fastml.torch.LSTM'>

A call goes to fastml where it can: tensors on the CPU, all of float32 or all of float64. It goes to PyTorch's own
`forward`, in silence and with the same results, where

* a tensor is on another device, of another dtype or of a subclass, there are no elements, or `proj_size` is set;
* something other than plain autograd follows the operations: `torch.compile`, `torch.jit.script` and `trace`,
  `torch.export`, autocast, `torch.func`'s transforms, forward-mode differentiation, a `TorchDispatchMode`;
* an argument does not fit: the error is PyTorch's.

What remains is told apart from PyTorch by its speed, by its rounding, and by

* dropout: the masks are fastml's, from a seed that is drawn from PyTorch's generator, so that `torch.manual_seed`
  makes them reproducible, but others than PyTorch's;
* second derivatives: differentiating a gradient raises the error of `once_differentiable`;
* an input, state, weight or y that is changed in place before the backward pass: an error, y of two directions and
  packed ones aside, also in the cases where PyTorch's CPU code has no need of it;
* threads: fastml's own, `fastml.set_num_threads` or FASTML_NUM_THREADS; `torch.set_num_threads` says nothing to them;
* passes that look for the exact classes of `torch.nn`, as those of `torch.fx` and of quantisation do: `restore` first.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._C._dynamo.eval_frame import get_eval_frame_callback
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from . import layers
from .stack import Kept, Stack

__all__ = ["GRU", "LSTM", "RNN", "accelerate", "restore"]

Array = NDArray[Any]
AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
CELLS: dict[str, tuple[Any, dict[str, Any]]] = {  # by torch.nn's mode: fastml's layer, and its options
    "RNN_TANH": (layers.RNN, {"nonlinearity": "tanh"}),
    "RNN_RELU": (layers.RNN, {"nonlinearity": "relu"}),
    "GRU": (layers.GRU, {"reset_after": True}),
    "LSTM": (layers.LSTM, {}),
}


def accelerate(module: AnyModule) -> AnyModule:
    """Let every RNN, GRU and LSTM inside a module run on fastml, in place.

    Parameters
    ----------
    module : torch.nn.Module
        Any module; those inside it that are exactly `torch.nn.RNN`, `GRU` or `LSTM`, itself included, become this
        module's. Subclasses stay as they are.

    Returns
    -------
    torch.nn.Module
        The argument.

    Raises
    ------
    TypeError
        `module` is no module.

    Notes
    -----
    Only the class of these modules changes: they stay the same objects with the same parameters, hooks and attributes,
    so that optimisers, references and `state_dict` hold. Copies and pickles of them are fastml's too, and need it where
    they are loaded; `restore` makes them PyTorch's again.

    Examples
    --------
    >>> import torch
    >>> from fastml.torch import accelerate, restore
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 4), "head": torch.nn.Linear(4, 2)})
    >>> optimiser = torch.optim.Adam(model.parameters())
    >>> type(accelerate(model)["encoder"])
    <class 'fastml.torch.GRU'>
    >>> type(restore(model)["encoder"])
    <class 'torch.nn.modules.rnn.GRU'>
    """
    return _exchange(module, OURS)


def restore(module: AnyModule) -> AnyModule:
    """Undo `accelerate`, in place: every `fastml.torch` RNN, GRU and LSTM inside a module becomes PyTorch's.

    Parameters
    ----------
    module : torch.nn.Module
        Any module, also one that was built of `fastml.torch`'s classes.

    Returns
    -------
    torch.nn.Module
        The argument; pickled, it needs no fastml.

    Raises
    ------
    TypeError
        `module` is no module.

    Examples
    --------
    >>> import torch
    >>> from fastml.torch import LSTM, restore
    >>> type(restore(LSTM(3, 4)))
    <class 'torch.nn.modules.rnn.LSTM'>
    """
    return _exchange(module, {ours: theirs for theirs, ours in OURS.items()})


def _exchange(module: AnyModule, classes: dict[type, type]) -> AnyModule:
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    for each in module.modules():
        if type(each) in classes:
            each.__class__ = classes[type(each)]
    return module


# ------------------------------------------------------------------------------------------------------------- modules


class _OnFastml:
    """`forward` by fastml where it can, and by the class of torch.nn that comes next where it cannot."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer, as torch.nn's `forward` does.

        Parameters
        ----------
        input : Tensor of shape (T, B, I), (B, T, I) with batch_first, or (T, I); or PackedSequence
        hx : Tensor of shape (num_layers·directions, B, H), for LSTM a pair (h, c) of them, or None
            The initial states, without the B axis for an input of shape (T, I); None for zeros.

        Returns
        -------
        output : Tensor of shape (T, B, directions·H), or as the input has its axes; or PackedSequence
        hx : like the argument
            The final states.

        Raises
        ------
        ValueError, RuntimeError
            As torch.nn's.
        """
        found = None if _watched() else self._run(input, hx)
        return super().forward(input, hx) if found is None else found

    def _run(self, input: Any, hx: Any) -> Any:
        """What `forward` returns; None where that is for PyTorch to say."""
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        kind, options = CELLS[self.mode]
        n = len(kind._states)
        states = () if hx is None else tuple(hx) if n > 1 and isinstance(hx, (tuple, list)) else (hx,)
        self._update_flat_weights()
        weights = self._flat_weights
        if len(states) not in (0, n) or not _plain(x, *states, *weights) or self.proj_size or not x.numel():
            return None

        one = not packed and x.dim() == 2
        if x.dim() != (2 if packed or one else 3) or x.shape[-1] != self.input_size:
            return None
        padding = _Padding.of(input) if packed else None
        if packed and padding is None:
            return None
        B = () if one else (len(padding.lengths),) if packed else (x.shape[0 if self.batch_first else 1],)
        cells = self.num_layers * (2 if self.bidirectional else 1)
        if any(state.shape != (cells, *B, self.hidden_size) for state in states):
            return None

        layer = kind.__new__(kind)
        layer._configure(
            input_size=self.input_size, hidden_size=self.hidden_size, num_layers=self.num_layers, bias=bool(self.bias),
            batch_first=False, dropout=self.dropout, bidirectional=bool(self.bidirectional), dtype=DTYPES[x.dtype],
            **options,
        )  # fmt: skip
        shapes = dict(layer._shapes())
        if [tuple(weight.shape) for weight in weights] != list(shapes.values()):
            return None
        layer.weights = dict(zip(shapes, map(_array, weights), strict=True))
        drops = self.training and self.dropout > 0 and self.num_layers > 1
        seed = torch.randint(2**63 - 1, (), device="cpu").item() if drops else None

        if one:
            x, states = x.unsqueeze(1), [state.unsqueeze(1) for state in states]
        elif packed and input.sorted_indices is not None:
            states = [state.index_select(1, input.sorted_indices) for state in states]
        elif not packed and self.batch_first:
            x = x.transpose(0, 1)
        tensors = (x, *states, *weights)
        recurrence = _Recurrence(layer, layer._stack(seed), padding, len(states))
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            y, *states = _Pass.apply(recurrence, *tensors)
        else:
            y, *states = _Pass.forward(None, recurrence, *tensors)

        if one:
            y, states = y.squeeze(1), [state.squeeze(1) for state in states]
        elif packed:
            y = PackedSequence(y, *input[1:])
            if input.unsorted_indices is not None:
                states = [state.index_select(1, input.unsorted_indices) for state in states]
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, tuple(states) if n > 1 else states[0]

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """What torch.jit.script compiles, and puts into the modules around it: PyTorch's own, with these parameters."""
        return restore(copy(self))


class RNN(_OnFastml, torch.nn.RNN):
    """`torch.nn.RNN` on fastml's kernels.

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.RNN's.

    Notes
    -----
    Parameters, `state_dict`, outputs and gradients are those of torch.nn.RNN; the module's docstring says where they
    are not. Cost and accuracy are those of `fastml.RNN`.

    Examples
    --------
    >>> import torch
    >>> from fastml.torch import RNN
    >>> rnn = RNN(3, 4, nonlinearity="relu")
    >>> y, h_n = rnn(torch.ones(5, 2, 3))
    >>> y.square().mean().backward()
    >>> y.shape, h_n.shape, rnn.weight_hh_l0.grad.shape
    (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]), torch.Size([4, 4]))
    """


class GRU(_OnFastml, torch.nn.GRU):
    """`torch.nn.GRU` on fastml's kernels.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.GRU's.

    Notes
    -----
    Parameters, `state_dict`, outputs and gradients are those of torch.nn.GRU; the module's docstring says where they
    are not. Cost and accuracy are those of `fastml.GRU`.

    Examples
    --------
    >>> import torch
    >>> from fastml.torch import GRU
    >>> gru = GRU(3, 4, batch_first=True)
    >>> y, h_n = gru(torch.ones(2, 5, 3))
    >>> y.square().mean().backward()
    >>> y.shape, h_n.shape, gru.weight_hh_l0.grad.shape
    (torch.Size([2, 5, 4]), torch.Size([1, 2, 4]), torch.Size([12, 4]))
    """


class LSTM(_OnFastml, torch.nn.LSTM):
    """`torch.nn.LSTM` on fastml's kernels.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        As torch.nn.LSTM's; with projections PyTorch runs it.

    Notes
    -----
    Parameters, `state_dict`, outputs and gradients are those of torch.nn.LSTM; the module's docstring says where they
    are not. Cost and accuracy are those of `fastml.LSTM`.

    Examples
    --------
    >>> import torch
    >>> from fastml.torch import LSTM
    >>> lstm = LSTM(3, 4, num_layers=2, bidirectional=True)
    >>> lstm
    LSTM(3, 4, num_layers=2, bidirectional=True)
    >>> y, (h_n, c_n) = lstm(torch.ones(5, 2, 3))
    >>> y.square().mean().backward()
    >>> y.shape, c_n.shape, lstm.weight_hh_l0.grad.shape
    (torch.Size([5, 2, 8]), torch.Size([4, 2, 4]), torch.Size([16, 4]))
    """


OURS: dict[type, type] = {torch.nn.RNN: RNN, torch.nn.GRU: GRU, torch.nn.LSTM: LSTM}


def _watched() -> bool:
    """Whether something other than plain autograd follows the operations: it would not see those of fastml."""
    return (
        torch.compiler.is_compiling()
        or get_eval_frame_callback() is not None  # beside a graph that torch.compile has broken
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def _plain(*tensors: Any) -> bool:
    """Whether NumPy can see all of them as arrays of one dtype of fastml's."""
    dtype = getattr(tensors[0], "dtype", None)
    return dtype in DTYPES and all(
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.dtype is dtype
        and tensor.is_cpu
        and tensor.layout is torch.strided
        for tensor in tensors
    )


def _array(tensor: Tensor) -> Array:
    return tensor.numpy(force=True)  # a view; force is for what requires a gradient


# ------------------------------------------------------------------------------------------------------------ autograd


@dataclass(frozen=True, slots=True, eq=False)
class _Padding:
    """Where the rows of a PackedSequence lie among those of a padded batch with its sequences, longest first."""

    lengths: Array
    rows: Array  # of T·B
    T: int

    @classmethod
    def of(cls, packed: PackedSequence) -> Self | None:
        """None of batch sizes that pack nothing so."""
        sizes = _array(packed.batch_sizes)
        there = sizes[:, None] > np.arange(sizes.max(initial=0))
        rows = np.flatnonzero(there)
        if len(rows) != len(packed.data) or (np.diff(sizes) > 0).any():
            return None
        return cls(there.sum(0), rows, len(sizes))

    def pad(self, data: Array) -> Array:
        """(T, B, ·) of the packed rows."""
        padded = np.zeros((self.T * len(self.lengths), data.shape[1]), data.dtype)
        padded[self.rows] = data
        return padded.reshape(self.T, len(self.lengths), data.shape[1])

    def pack(self, padded: Array) -> Array:
        return padded.reshape(-1, padded.shape[2])[self.rows]


@dataclass(frozen=True, slots=True, eq=False)
class _Recurrence:
    """What a call runs on its tensors."""

    layer: Any
    stack: Stack
    padding: _Padding | None
    given: int  # initial states among the tensors

    @property
    def cells(self) -> int:
        return self.layer.num_layers * self.layer._directions

    def initial(self, states: Sequence[Tensor], B: int) -> list[tuple[Array, ...]]:
        """What each cell starts from, each (B, H)."""
        if states:
            return list(zip(*map(_array, states), strict=True))
        zeros = np.zeros((B, self.layer.hidden_size), self.layer.dtype)
        return [(zeros,) * len(self.layer._states)] * self.cells


class _Pass(torch.autograd.Function):
    """From x (T, B, I), or the rows of a PackedSequence, initial states and weights to y and the final states.

    The user's tensors and every array that the tapes refer to become saved tensors, one for what is the same memory.
    So PyTorch sees to it that none has changed in place, frees them with the graph, and hands them to the hooks of
    checkpoints and offloading; what is left of the tapes, on `ctx`, holds their names instead.
    """

    @staticmethod
    def forward(ctx: Any, recurrence: _Recurrence, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """With None for `ctx`: keeps nothing."""
        padding = recurrence.padding
        inputs = np.ascontiguousarray(_array(x)) if padding is None else padding.pad(_array(x))
        T, B = inputs.shape[:2]
        lengths = np.full(B, T, np.intp) if padding is None else padding.lengths
        initial = recurrence.initial(others[: recurrence.given], B)
        y, finals, parts = recurrence.stack.run(inputs, initial, lengths, keep=ctx is not None)
        del inputs
        outputs = [torch.from_numpy(y if padding is None else padding.pack(y))]
        outputs += [torch.from_numpy(np.stack(part)) for part in zip(*finals, strict=True)]
        if ctx is None:
            return tuple(outputs)

        saved = {_name(tensor): tensor for tensor in (x, *others)}
        if padding is None and recurrence.layer._directions == 1:  # else it is a copy
            saved[_name(outputs[0])] = outputs[0]

        def save(value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value
            tensor = torch.from_numpy(value)
            name = _name(tensor)
            saved.setdefault(name, tensor)
            return name

        ctx.recurrence, ctx.parts, ctx.names = recurrence, _each(parts, save), list(saved)
        ctx.save_for_backward(*saved.values())
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> Any:
        if torch.is_grad_enabled():  # create_graph: else once_differentiable lets constant upstreams pass in silence
            upstream = tuple(d if d is None else d.detach().requires_grad_() for d in upstream)
        return _backward(ctx, *upstream)


@once_differentiable
def _backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    recurrence, padding = ctx.recurrence, ctx.recurrence.padding
    saved = dict(zip(ctx.names, map(_array, ctx.saved_tensors), strict=True))
    parts = _each(ctx.parts, lambda value: saved.get(value, value))
    dy, *dstates = (d if d is None else _array(d) for d in upstream)
    if dy is not None and padding is not None:
        dy = padding.pad(dy)
    by_cell = [tuple(d if d is None else d[k] for d in dstates) for k in range(recurrence.cells)]
    dx, dinitial, sums = recurrence.stack.run_back(parts, dy, by_cell)
    found = [dx if padding is None else padding.pack(dx)]
    if recurrence.given:
        found += [np.stack(part) for part in zip(*dinitial, strict=True)]
    found += [d for cell in sums for d in cell if d is not None]
    return (None, *map(torch.from_numpy, found))


def _name(tensor: Tensor) -> tuple[Any, ...]:
    """The same for tensors that are the same memory, read in the same order."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _each(parts: Sequence[Sequence[Kept]], change: Callable[[Any], Any]) -> list[list[Kept]]:
    """`parts` of a stack's pass, with `change` made to everything that their tapes refer to."""

    def kept(part: Kept) -> Kept:
        tapes = (
            (replace(tape, arrays={name: change(value) for name, value in tape.arrays.items()}) for tape in cell)
            for cell in part.tapes
        )
        return replace(part, tapes=tuple(map(tuple, tapes)))

    return [[kept(part) for part in level] for level in parts]
