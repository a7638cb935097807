"""LSTM: one layer, one direction. `fastml.LSTM` stacks these."""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from . import check
from .onehot import OneHot
from .tape import Gradients, Packed, Tape, backward, forward, pack

__all__ = ["lstm_backward", "lstm_forward", "lstm_pack"]


def lstm_forward(
    x: ArrayLike | OneHot,
    h0: ArrayLike | None,
    c0: ArrayLike | None,
    w_ih: ArrayLike | Packed,
    w_hh: ArrayLike | None = None,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    keep: bool = True,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Tape | None]:
    """Run an LSTM over a batch of sequences.

    .. math::
        i_t, f_t, o_t &= σ(W x_t + b + R h_{t-1} + b') \\quad g_t = \\tanh(W x_t + b + R h_{t-1} + b') \\\\
        c_t &= f_t ⊙ c_{t-1} + i_t ⊙ g_t \\qquad h_t = o_t ⊙ \\tanh(c_t)

    Parameters
    ----------
    x : array of shape (T, B, I), or OneHot
        The inputs, T and B may be 0; or the indices of one-hot inputs, (T, B).
    h0, c0 : array of shape (B, H) or None
        The initial hidden and cell states; None for zeros.
    w_ih : array of shape (4H, I), or Packed
        Input weights W, gates in PyTorch's order i, f, g, o; or what `lstm_pack` made of all the weights, the other
        three then being left out.
    w_hh : array of shape (4H, H)
        Recurrent weights R.
    b_ih, b_hh : array of shape (4H,) or None
        Biases b and b'; None for zeros.
    lengths : integers of shape (B,) or None
        How many steps of each sequence count, 0 ≤ length ≤ T, in any order; None for all T. What lies beyond is never
        read, and a shorter sequence costs what its length costs.
    reverse : bool
        Run each sequence from its own last step to its first.
    keep : bool
        Keep what `lstm_backward` needs; False keeps nothing but the outputs.
    out : array of shape (T, B, H) or None
        Where y is written, C-contiguous and of the same dtype; it overlaps no other argument. With `keep` the tape
        refers to it; a call that fails on the way leaves it half-written. None for a new array.

    Returns
    -------
    y : array of shape (T, B, H)
        The hidden state after every step, at that step's place in time; 0 at padding.
    h_n, c_n : array of shape (B, H)
        The states after each sequence's own last step; the initial ones where the length is 0.
    tape : Tape or None
        For `lstm_backward`; None unless `keep`.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ. Lists and integer arrays are cast to the dtype
        of the others (float64 if there are none).
    ValueError
        A shape, a length or an index does not fit, or `out` overlaps an input; the message names the argument and
        the axis.
    NotImplementedError
        The back end chosen with `fastml.use` does not have this kernel.

    Notes
    -----
    Accuracy: a few units in the last place per step. Cost: 8·T·B·H·(I + H) floating-point operations. Memory: the
    outputs; with `keep` 5·T·B·H numbers more. With `native` and `jit`, y and the states are bitwise the same for any
    number of threads; with `native` also for a sequence alone or in any batch, and for one cut and carried on.

    References
    ----------
    Hochreiter and Schmidhuber, Neural Computation 9 (1997); the form of torch.nn.LSTM.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> x, w_ih, w_hh = np.ones((5, 2, 3)), np.full((16, 3), 0.1), np.full((16, 4), 0.1)
    >>> y, h_n, c_n, tape = fastml.lstm_forward(x, None, None, w_ih, w_hh)
    >>> y.shape, bool((h_n == y[-1]).all()), round(float(y[0, 0, 0]), 6)
    ((5, 2, 4), True, 0.095241)
    """
    a = check.recurrent("lstm", x, {"h0": h0, "c0": c0}, w_ih, w_hh, b_ih, b_hh, lengths)
    a.reverse, keep = check.flag("reverse", reverse), check.flag("keep", keep)
    outputs, tape = forward("lstm_forward", a, keep, check.output(out, a))
    return outputs["y"], outputs["h_n"], outputs["c_n"], tape


def lstm_backward(
    tape: Tape, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None, dc_n: ArrayLike | None = None
) -> Gradients:
    """Backpropagate through `lstm_forward`: the exact gradient of every input.

    Parameters
    ----------
    tape : Tape
        From `lstm_forward` with ``keep=True``; it may be used again.
    dy : array of shape (T, B, H) or None
        Gradient of the loss with respect to y; None for zeros. Never read at padding.
    dh_n, dc_n : array of shape (B, H) or None
        Gradient with respect to the final states; None for zeros.

    Returns
    -------
    Gradients
        ``.x .h0 .c0 .w_ih .w_hh .b_ih .b_hh`` in the shapes of the inputs; None for what was not given, and
        for a `OneHot`. ``.x`` is 0 at padding.

    Raises
    ------
    TypeError, ValueError
        As `lstm_forward`; also for a tape of another kind.

    Notes
    -----
    Runs on the back end and the ISA rung that made the tape. Cost: 16·T·B·H·(I + H) floating-point operations. Memory:
    the gradients, and in `native` a scratch that does not grow with T. Weight gradients are sums over T·B terms in the
    arrays' dtype, bitwise the same for any number of threads with `native` and `jit`.

    References
    ----------
    Graves and Schmidhuber, Neural Networks 18 (2005).

    Examples
    --------
    >>> import numpy as np, fastml
    >>> x, w_ih, w_hh = np.ones((5, 2, 3)), np.full((16, 3), 0.1), np.full((16, 4), 0.1)
    >>> y, h_n, c_n, tape = fastml.lstm_forward(x, None, None, w_ih, w_hh)
    >>> grads = fastml.lstm_backward(tape, dy=np.ones_like(y))
    >>> grads.x.shape, grads.w_hh.shape, grads.h0
    ((5, 2, 3), (16, 4), None)
    """
    up = check.recurrent_upstream(tape, "lstm_forward", dy, {"dh_n": dh_n, "dc_n": dc_n})
    return backward(tape, "lstm_backward", up)


def lstm_pack(
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
) -> Packed:
    """Pack the weights once, for many calls of `lstm_forward`.

    Parameters
    ----------
    w_ih, w_hh, b_ih, b_hh : arrays
        As for `lstm_forward`.

    Returns
    -------
    Packed
        A snapshot, to be given to `lstm_forward` in the place of w_ih.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `lstm_forward`.

    Notes
    -----
    `native` packs the weights into the order that its products read them in; without this, each call does. The other
    back ends keep a copy. Memory: two copies of the weights. Results are bitwise those of the weights themselves.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> packed = fastml.lstm_pack(np.full((16, 3), 0.1), np.full((16, 4), 0.1))
    >>> y, h_n, c_n, _ = fastml.lstm_forward(np.ones((5, 2, 3)), None, None, packed, keep=False)
    >>> y.shape
    (5, 2, 4)
    """
    a = check.weights("lstm", w_ih, w_hh, b_ih, b_hh)
    return pack("lstm_forward", a)
