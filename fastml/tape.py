"""What a forward pass leaves for its backward pass, and what the backward pass gives back."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .backend import Cell, find

__all__ = ["Gradients", "Tape", "backward"]


@dataclass(frozen=True, slots=True, repr=False)
class Tape:
    """Everything that the backward pass of one forward pass needs. Read-only, and may be used any number of times.

    It refers to x, y and the weights without copying them: change them after the backward pass, not before (this
    cannot be checked for free). `cell` remembers which back end and rung made it; the same ones serve the backward.
    """

    kernel: str
    cell: Cell
    given: frozenset[str]  # the optional arguments that the forward pass was given
    arrays: dict[str, Any]  # the backward kernel's first arguments, in its order

    def __repr__(self) -> str:
        T, B, I = self.arrays["x"].shape
        return f"Tape({self.kernel} by {self.cell.backend}, T={T}, B={B}, I={I}, H={self.arrays['w_hh'].shape[1]})"


class Gradients(SimpleNamespace):
    """Gradients by the names of the forward's arguments; None for an argument that was not given."""


def backward(tape: Tape, kernel: str, upstream: dict[str, np.ndarray]) -> Gradients:
    """Run `kernel` on the back end and rung of `tape`, into new arrays."""
    a = tape.arrays
    grads = {name: np.empty_like(a[name]) for name in ("x", "h0", "c0", "w_ih", "w_hh") if name in a}
    grads["b_ih"], grads["b_hh"] = np.empty((2, len(a["w_ih"])), a["x"].dtype)
    find(kernel, like=tape.cell).function(*a.values(), *upstream.values(), *grads.values())
    always = {"x", "w_ih", "w_hh"}
    return Gradients(**{name: g if name in always | tape.given else None for name, g in grads.items()})
