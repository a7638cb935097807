"""Truncated backpropagation through time: a sequence of any length, with memory for k2 steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check
from .onehot import OneHot
from .stack import Span, as_given, part, steps_of, time_first, within
from .tape import Gradients

if TYPE_CHECKING:
    from .layers import _Layer

__all__ = ["Truncated", "tbptt"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Truncated:
    """What `tbptt` gives.

    Attributes
    ----------
    loss : float or None
        The sum of what `dy_fn` called the losses; None if it named none.
    state : array, or a pair
        The final states, as `forward` gives them.
    grads : Gradients or None
        The sum over the chunks of the gradients of the weights and of the initial states; ``.x`` if that was wanted,
        else None. None with `update`, which was given them chunk by chunk.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> gru, x = fastml.GRU(3, 4, seed=0), np.ones((100, 2, 3), "float32")
    >>> found = fastml.tbptt(gru, x, lambda y, t0, t1: (float((y**2).sum()) / 2, y), k1=50)
    >>> found.loss > 0, found.state.shape, found.grads.weights["weight_hh_l0"].shape, found.grads.x
    (True, (1, 2, 4), (12, 4), None)
    """

    loss: float | None
    state: Any
    grads: Gradients | None


def tbptt(
    layer: "_Layer[Any]",
    x: Any,
    dy_fn: Callable[[Array, int, int], Any],
    k1: int,
    k2: int | None = None,
    *,
    state: Any = None,
    lengths: ArrayLike | None = None,
    update: Callable[[Gradients], Any] | None = None,
    training: bool = True,
    dropout_seed: int | None = None,
    x_gradient: bool = False,
) -> Truncated:
    """Truncated backpropagation through time: every `k1` steps, back through the last `k2`.

    The sequence is cut into chunks of k1 steps, [t0, t1), the last one shorter. To the loss :math:`L_{t_0}` of a chunk
    belongs the window of k2 steps that ends with it and starts at :math:`w = \\max(0, t_1 - k_2)`. What is computed is

    .. math:: \\sum_{t_0} \\frac{∂}{∂θ} L_{t_0}(y_{t_0}, …, y_{t_1 - 1}), \\quad y = \\text{layer}_θ(x_w, …; s_w),

    where the state :math:`s_w` before the window counts as a constant, unless w = 0, where it is the initial one.

    Parameters
    ----------
    layer : RNN, GRU or LSTM
        Of one direction.
    x, state, lengths, training, dropout_seed : see the layer's `forward`
        They mean what they do there.
    dy_fn : callable
        ``dy_fn(y, t0, t1)`` with y the layer's outputs of steps t0 to t1 - 1, with x's axes, gives the gradient of that
        chunk's loss with respect to y, or a pair (loss, gradient), or None for zeros. Called once for each chunk, in
        order. y is its own to keep or change.
    k1 : int
        Steps from one backward pass to the next, at least 1.
    k2 : int or None
        Steps that each goes back, at least k1; None for k1.
    update : callable or None
        ``update(grads)`` is called after each chunk and may change the weights in place: an optimiser's step.
        ``grads.weights`` are that chunk's term of the sum above, ``grads.x`` has the steps of its window, and
        ``grads.state`` belongs to the state before the window. None adds all of them up.
    x_gradient : bool
        Give the gradient of x as well; it is as large as x. Not beside `update`, whose ``grads`` have it anyway.

    Returns
    -------
    Truncated
        ``.loss``, ``.state`` and ``.grads``.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As the layer's `forward`; also for k1, k2, what `dy_fn` gives, and a bidirectional layer, whose reverse
        direction carries nothing from one chunk to the next. What `dy_fn` or `update` raise goes through.

    Notes
    -----
    With k1 = k2 = T this is `forward` and `backward`. The usual form has k1 = k2: every step is run once and gone back
    through once, and its error reaches between 0 and k1 - 1 steps back. With k2 > k1 it reaches at least k2 - k1 steps
    back; each window is run with the weights as they are then, so that after an `update` nothing is stale. Cost:
    k2 / k1 forward and backward passes. Memory, beside x: what the layer's passes take for k2 steps.

    References
    ----------
    Williams and Peng, Neural Computation 2 (1990): BPTT(h; h') with h = k2 and h' = k1.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> gru, x = fastml.GRU(3, 4, seed=0), np.ones((1000, 2, 3), "float32")
    >>> def squares(y, t0, t1):
    ...     return float((y**2).sum()) / 2, y
    >>> def descend(grads):
    ...     for name, weight in gru.weights.items():
    ...         weight -= 0.001 * grads.weights[name]
    >>> before = fastml.tbptt(gru, x, squares, k1=50, k2=100, update=descend).loss
    >>> fastml.tbptt(gru, x, squares, k1=50).loss < before
    True
    """
    from .layers import _Layer

    if not isinstance(layer, _Layer):
        raise TypeError(f"layer: expected an RNN, GRU or LSTM, got {type(layer).__name__}")
    if not callable(dy_fn):
        raise TypeError(f"dy_fn: expected a function, got {type(dy_fn).__name__}")
    if update is not None and not callable(update):
        raise TypeError(f"update: expected a function or None, got {type(update).__name__}")
    if layer.bidirectional:
        raise ValueError("layer: expected one direction, as the other one starts at the end; got bidirectional=True")
    k1 = check.integer("k1", k1, 1)
    k2 = k1 if k2 is None else check.integer("k2", k2, 1)
    if k2 < k1:
        raise ValueError(f"k2: expected at least k1 = {k1}, got {k2}")
    x_gradient = check.flag("x_gradient", x_gradient)
    if x_gradient and update is not None:
        raise ValueError("x_gradient: expected False beside update, which is given .x chunk by chunk")
    dropout_seed = layer._drawn(training, dropout_seed)
    x, states, lengths, axes = layer._checked(x, state, lengths)
    T, loss = steps_of(x), None
    total = _Sums(layer, x, (0, T), states, x_gradient) if update is None else None
    start = 0  # of the window; `states` are those before it
    for t0 in range(0, T, k1):
        t1 = min(t0 + k1, T)
        following = (
            t1 if t1 == T else max(0, min(t1 + k1, T) - k2)
        )  # the next window's start, where it needs the states
        cuts = [start, following, t1] if start < following < t1 else [start, t1]
        stack, at, runs = layer._stack(dropout_seed), {start: states}, []
        for span in pairwise(cuts):
            own = within(lengths, span, T)
            y, at[span[1]], tape = stack.run(part(x, span), at[span[0]], own, keep=True, start=span[0])
            runs.append((span, y, tape))

        y = np.concatenate([y for _, y, _ in runs])[t0 - start :]
        dy = np.zeros((t1 - start, *y.shape[1:]), y.dtype)
        found, dy_chunk = _answer(dy_fn(as_given(y, axes), t0, t1), layer, y.shape, axes)
        if found is not None:
            loss = found if loss is None else loss + found
        if dy_chunk is not None:
            dy[t0 - start :] = dy_chunk

        chunk = total or _Sums(layer, x, (start, t1), states, True)
        upstream = [(None,) * len(cell) for cell in states]
        while runs:
            span, _, tape = runs.pop()
            dx, upstream, sums = stack.run_back(tape, dy[span[0] - start : span[1] - start], upstream, span[0])
            chunk.add(span, dx, sums)
        if update is not None or start == 0:
            chunk.add_initial(upstream)
        if update is not None:
            update(chunk.gradients(axes))
        start, states = following, at[following]
    final = [tuple(part.copy() for part in cell) for cell in states]  # of no steps, they are the caller's own
    return Truncated(loss, layer._pack(final, axes), total and total.gradients(axes))


class _Sums:
    """The gradients of the steps `span` of x, of the weights, and of the states before them."""

    def __init__(
        self, layer: "_Layer[Any]", x: Any, span: Span, states: Sequence[tuple[Array, ...]], x_gradient: bool
    ) -> None:
        self.layer, self.start = layer, span[0]
        wanted = x_gradient and not isinstance(x, OneHot)
        self.dx = np.zeros((span[1] - span[0], *x.shape[1:]), x.dtype) if wanted else None
        self.initial = [tuple(np.zeros_like(state) for state in cell) for cell in states]
        self.weights = {name: np.zeros_like(weight) for name, weight in layer.weights.items()}

    def add(self, span: Span, dx: Array | None, sums: Sequence[Sequence[Array | None]]) -> None:
        if self.dx is not None:
            self.dx[span[0] - self.start : span[1] - self.start] += dx
        for name, gradient in self.layer._named(sums).items():
            self.weights[name] += gradient

    def add_initial(self, found: Sequence[tuple[Array, ...]]) -> None:
        for totals, parts in zip(self.initial, found, strict=True):
            for total, gradient in zip(totals, parts, strict=True):
                total += gradient

    def gradients(self, axes: str) -> Gradients:
        dx = self.dx if self.dx is None else as_given(self.dx, axes)
        return Gradients(x=dx, state=self.layer._pack(self.initial, axes), weights=self.weights)


def _answer(answer: Any, layer: "_Layer[Any]", shape: tuple[int, ...], axes: str) -> tuple[float | None, Array | None]:
    """The loss and the gradient that `dy_fn` gave, the latter with time first."""
    loss, dy = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, answer)
    if dy is None:
        return loss, None
    dy = check.arrays(layer.dtype, "the layer", **{"dy_fn's dy": dy})["dy_fn's dy"]
    sizes = {letter: (size, "the chunk") for letter, size in zip("TBH", shape, strict=True)}
    check.shape("dy_fn's dy", dy, axes.replace("I", "H"), sizes)
    return loss, time_first(dy, axes, copy=False)
