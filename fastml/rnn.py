"""RNN (Elman): one layer, one direction. `fastml.RNN` stacks these."""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from . import check
from .onehot import OneHot
from .tape import Gradients, Packed, Tape, backward, forward, pack

__all__ = ["rnn_backward", "rnn_forward", "rnn_pack"]


def rnn_forward(
    x: ArrayLike | OneHot,
    h0: ArrayLike | None,
    w_ih: ArrayLike | Packed,
    w_hh: ArrayLike | None = None,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
    keep: bool = True,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], Tape | None]:
    """Run an Elman RNN over a batch of sequences.

    .. math:: h_t = φ(W x_t + b + R h_{t-1} + b'), \\quad φ = \\tanh \\text{ or } \\max(·, 0)

    Parameters
    ----------
    x : array of shape (T, B, I), or OneHot
        The inputs, T and B may be 0; or the indices of one-hot inputs, (T, B).
    h0 : array of shape (B, H) or None
        The initial state; None for zeros.
    w_ih : array of shape (H, I), or Packed
        Input weights W; or what `rnn_pack` made of all the weights, the other three
        then being left out.
    w_hh : array of shape (H, H)
        Recurrent weights R.
    b_ih, b_hh : array of shape (H,) or None
        Biases b and b'; None for zeros.
    lengths : integers of shape (B,) or None
        How many steps of each sequence count, 0 ≤ length ≤ T, in any order; None for all T. What lies beyond is never
        read, and a shorter sequence costs what its length costs.
    reverse : bool
        Run each sequence from its own last step to its first.
    nonlinearity : {"tanh", "relu"}
        φ.
    keep : bool
        Keep what `rnn_backward` needs; False keeps nothing but the outputs.
    out : array of shape (T, B, H) or None
        Where y is written, C-contiguous and of the same dtype; it overlaps no other argument. With `keep` the tape
        refers to it; a call that fails on the way leaves it half-written. None for a new array.

    Returns
    -------
    y : array of shape (T, B, H)
        The state after every step, at that step's place in time; 0 at padding.
    h_n : array of shape (B, H)
        The state after each sequence's own last step; the initial one where the length is 0.
    tape : Tape or None
        For `rnn_backward`; None unless `keep`.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ. Lists and integer arrays are cast to the dtype
        of the others (float64 if there are none).
    ValueError
        A shape, a length, an index or `nonlinearity` does not fit, or `out` overlaps an input; the message names the
        argument and the axis.
    NotImplementedError
        The back end chosen with `fastml.use` does not have this kernel.

    Notes
    -----
    Accuracy: a few units in the last place per step. Cost: 2·T·B·H·(I + H) floating-point operations. Memory: the
    outputs; the tape needs no more. Bitwise promises as for `lstm_forward`.

    References
    ----------
    Elman, Cognitive Science 14 (1990); the form of torch.nn.RNN.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> x, w_ih, w_hh = np.ones((5, 2, 3)), np.full((4, 3), 0.1), np.full((4, 4), 0.1)
    >>> y, h_n, tape = fastml.rnn_forward(x, None, w_ih, w_hh)
    >>> y.shape, bool((h_n == y[-1]).all()), round(float(y[0, 0, 0]), 6)
    ((5, 2, 4), True, 0.291313)
    """
    a = check.recurrent("rnn", x, {"h0": h0}, w_ih, w_hh, b_ih, b_hh, lengths)
    a.reverse, keep = check.flag("reverse", reverse), check.flag("keep", keep)
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    a.relu = nonlinearity == "relu"
    outputs, tape = forward("rnn_forward", a, keep, check.output(out, a))
    return outputs["y"], outputs["h_n"], tape


def rnn_backward(tape: Tape, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None) -> Gradients:
    """Backpropagate through `rnn_forward`: the exact gradient of every input.

    Parameters
    ----------
    tape : Tape
        From `rnn_forward` with ``keep=True``; it may be used again.
    dy : array of shape (T, B, H) or None
        Gradient of the loss with respect to y; None for zeros. Never read at padding.
    dh_n : array of shape (B, H) or None
        Gradient with respect to the final state; None for zeros.

    Returns
    -------
    Gradients
        ``.x .h0 .w_ih .w_hh .b_ih .b_hh`` in the shapes of the inputs; None for what was not given, and
        for a `OneHot`. ``.x`` is 0 at padding.

    Raises
    ------
    TypeError, ValueError
        As `rnn_forward`; also for a tape of another kind.

    Notes
    -----
    Runs on the back end and the ISA rung that made the tape. The gradient of relu at 0 is 0. Cost: 4·T·B·H·(I + H)
    floating-point operations. Memory and bitwise promises as for `lstm_backward`.

    References
    ----------
    Werbos, Proc. IEEE 78 (1990).

    Examples
    --------
    >>> import numpy as np, fastml
    >>> x, w_ih, w_hh = np.ones((5, 2, 3)), np.full((4, 3), 0.1), np.full((4, 4), 0.1)
    >>> y, h_n, tape = fastml.rnn_forward(x, None, w_ih, w_hh)
    >>> grads = fastml.rnn_backward(tape, dh_n=np.ones_like(h_n))
    >>> grads.x.shape, grads.w_hh.shape, grads.h0
    ((5, 2, 3), (4, 4), None)
    """
    up = check.recurrent_upstream(tape, "rnn_forward", dy, {"dh_n": dh_n})
    return backward(tape, "rnn_backward", up)


def rnn_pack(
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
) -> Packed:
    """Pack the weights once, for many calls of `rnn_forward`.

    Parameters
    ----------
    w_ih, w_hh, b_ih, b_hh : arrays
        As for `rnn_forward`.

    Returns
    -------
    Packed
        A snapshot, to be given to `rnn_forward` in the place of w_ih.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `rnn_forward`.

    Notes
    -----
    `native` packs the weights into the order that its products read them in; without this, each call does. The other
    back ends keep a copy. Memory: two copies of the weights. Results are bitwise those of the weights themselves.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> packed = fastml.rnn_pack(np.full((4, 3), 0.1), np.full((4, 4), 0.1))
    >>> y, h_n, _ = fastml.rnn_forward(np.ones((5, 2, 3)), None, packed, keep=False)
    >>> y.shape
    (5, 2, 4)
    """
    a = check.weights("rnn", w_ih, w_hh, b_ih, b_hh)
    return pack("rnn_forward", a)
