"""Inputs of which one is 1 and the others 0, given by its index."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import check

__all__ = ["OneHot"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class OneHot:
    """One-hot inputs x, of which only the indices are kept: what an embedding or a character model reads.

    Takes the place of x in `lstm_forward` and its like, and in a layer's calls. The product of x and the input weights
    is then a look-up of their columns, and x has no gradient.

    Parameters
    ----------
    indices : integers of shape (T, B)
        Which input is 1, 0 ≤ index < I, at each step; in a layer also (B, T) with batch_first, or (T,) for one
        sequence. Copied. What lies beyond a sequence's length is never read.

    Attributes
    ----------
    indices : array of integers
        The copy, read-only.

    Raises
    ------
    TypeError
        `indices` are no integers. Shape and range are checked where the inputs are used, as weights and lengths are
        known there.

    Notes
    -----
    Cost: 2·I·G·H floating-point operations less for each step of each sequence in the forward pass and 4·I·G·H less in
    the backward pass than with the one-hot array. Memory: that of the indices, and a copy of columns of the input
    weights: in `jit` of those that occur, in `native` of all, or of none where T·B < I/4. The backward pass takes one
    array more of the size of w_ih's gradient. Results are those of the one-hot array: y and the states bitwise in
    `native` (the AMX rung apart) and `jit`, the gradients to rounding; but an infinite or NaN weight counts in its own
    column alone.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> w_ih, w_hh = np.arange(12.0).reshape(4, 3) / 10, np.zeros((4, 4))
    >>> y, h_n, tape = fastml.rnn_forward(fastml.OneHot([[2], [0]]), None, w_ih, w_hh)
    >>> bool((y == fastml.rnn_forward(np.eye(3)[[[2], [0]]], None, w_ih, w_hh)[0]).all())
    True
    >>> grads = fastml.rnn_backward(tape, dy=np.ones_like(y))
    >>> grads.w_ih[0].round(4).tolist(), grads.x
    ([1.0, 0.0, 0.961], None)
    """

    indices: np.ndarray[Any, np.dtype[np.integer]]

    def __post_init__(self) -> None:
        # A copy that nobody writes to: kernels trust what was checked, and the tape keeps it for the backward pass.
        indices = np.array(check.integers("indices", self.indices), order="C")
        indices.flags.writeable = False
        object.__setattr__(self, "indices", indices)

    def __repr__(self) -> str:
        return f"OneHot({self.indices.dtype} of shape {self.indices.shape})"
