"""One pass of one layer in one direction, from checked arguments to a kernel and back: what the cells share."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .backend import Cell, find, packed_cell
from .kernels.table import KERNELS, shape_of

__all__ = ["Gradients", "Packed", "Tape", "backward", "forward", "pack"]

SAVED = ("gates", "cells")  # outputs that are for the backward pass alone
UPSTREAM = ("dy", "dh_n", "dc_n")


@dataclass(frozen=True, slots=True, repr=False)
class Tape:
    """Everything that the backward pass of one forward pass needs. Read-only, and may be used any number of times.

    It refers to x, y and the weights without copying them: change them after the backward pass, not before (this
    cannot be checked for free). `cell` remembers which back end and rung made it; the same ones serve the backward. A
    copy, or what pickle makes elsewhere, remembers them too.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> y, h_n, tape = fastml.rnn_forward(np.ones((5, 2, 3)), None, np.ones((4, 3)), np.ones((4, 4)))
    >>> tape.kernel, fastml.rnn_backward(tape, dy=y).x.shape
    ('rnn_forward', (5, 2, 3))
    """

    kernel: str
    cell: Cell
    given: frozenset[str]  # the optional arguments that the forward pass was given
    arrays: dict[str, Any]  # the backward kernel's first arguments, in its order

    def __repr__(self) -> str:
        (T, B, H), I = self.arrays["y"].shape, self.arrays["w_ih"].shape[1]
        return f"Tape({self.kernel} by {self.cell.backend}, T={T}, B={B}, I={I}, H={H})"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Packed:
    """The weights of one layer in one direction, in the form that its back end's forward pass computes with.

    Made by `lstm_pack` and its like; takes the place of the weights in `lstm_forward` and its like, which then runs on
    the back end and rung that it was packed for. A snapshot: later changes of the weights do not reach it. A copy, or
    what pickle makes elsewhere, is packed anew for the back end and rung that are set there.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> packed = fastml.rnn_pack(np.ones((4, 3)), np.ones((4, 4)))
    >>> y, h_n, tape = fastml.rnn_forward(np.ones((5, 2, 3)), None, packed)
    >>> packed.kernel, y.shape
    ('rnn_forward', (5, 2, 4))
    """

    kernel: str
    cell: Cell  # its function has the packed weights bound
    arrays: dict[str, Any]  # weights, biases, and the cell's option
    given: frozenset[str]  # the biases that there were

    def __reduce__(self) -> tuple[Any, ...]:
        # What native packs is aligned by its address and laid out for one rung: as bytes it is good for nothing.
        return _packed, (self.kernel, self.arrays, self.given)

    def __repr__(self) -> str:
        I, H = self.arrays["w_ih"].shape[1], self.arrays["w_hh"].shape[1]
        return f"Packed({self.kernel} by {self.cell.backend}, I={I}, H={H})"


def pack(kernel: str, a: SimpleNamespace, **option: bool) -> Packed:
    """The checked weights `a` (`check.weights`), copied and packed for the forward pass `kernel`."""
    arrays = {name: getattr(a, name).copy() for name in ("w_ih", "w_hh", "b_ih", "b_hh")} | option
    return _packed(kernel, arrays, a.given)


def _packed(kernel: str, arrays: dict[str, Any], given: frozenset[str]) -> Packed:
    return Packed(kernel, packed_cell(kernel, *arrays.values()), arrays, given)


def forward(
    kernel: str, a: SimpleNamespace, keep: bool, out: np.ndarray | None
) -> tuple[dict[str, np.ndarray], Tape | None]:
    """Run `kernel` on the checked arguments `a`; outputs by name, those that are saved for the backward on the tape."""
    row = KERNELS[kernel]
    cell = a.packed.cell if a.packed else find(kernel)
    sizes = {letter: getattr(a, letter) for letter in "TBIH"}
    outputs = {}
    for name, axes in row.outputs.items():
        if name == "y" and out is not None:
            outputs[name] = out
        else:
            outputs[name] = np.empty(shape_of(axes, sizes), a.dtype) if keep or name not in SAVED else None
    cell.function(*(getattr(a, name) for name in row.inputs), *outputs.values())
    if not keep:
        return outputs, None
    after = KERNELS[kernel.replace("forward", "backward")].inputs
    arrays = {name: outputs[name] if name in outputs else getattr(a, name) for name in after if name not in UPSTREAM}
    return outputs, Tape(kernel, cell._replace(function=None), a.given, arrays)


class Gradients(SimpleNamespace):
    """Gradients by the names of the forward's arguments; None for one that was not given, or that was a `OneHot`.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> y, h_n, tape = fastml.rnn_forward(np.ones((5, 2, 3)), None, np.ones((4, 3)), np.ones((4, 4)))
    >>> grads = fastml.rnn_backward(tape, dy=np.ones_like(y))
    >>> grads.x.shape, grads.w_hh.shape, grads.b_ih
    ((5, 2, 3), (4, 4), None)
    """


def backward(tape: Tape, kernel: str, upstream: dict[str, np.ndarray]) -> Gradients:
    """Run `kernel` on the back end and rung of `tape`, into new arrays."""
    a = tape.arrays
    grads = {name: np.empty_like(a[name]) for name in ("x", "h0", "c0", "w_ih", "w_hh") if name in a}
    if a["x"].ndim == 2:  # indices
        grads["x"] = None
    grads["b_ih"], grads["b_hh"] = np.empty((2, len(a["w_ih"])), a["w_ih"].dtype)
    find(kernel, like=tape.cell).function(*a.values(), *upstream.values(), *grads.values())
    always = {"x", "w_ih", "w_hh"}
    return Gradients(**{name: g if name in always | tape.given else None for name, g in grads.items()})
