"""GRU: one layer, one direction. `fastml.GRU` stacks these."""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from . import check
from .onehot import OneHot
from .tape import Gradients, Packed, Tape, backward, forward, pack

__all__ = ["gru_backward", "gru_forward", "gru_pack"]


def gru_forward(
    x: ArrayLike | OneHot,
    h0: ArrayLike | None,
    w_ih: ArrayLike | Packed,
    w_hh: ArrayLike | None = None,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    reset_after: bool = True,
    keep: bool = True,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], Tape | None]:
    """Run a GRU over a batch of sequences.

    .. math::
        r_t, z_t &= σ(W x_t + b + R h_{t-1} + b') \\\\
        n_t &= \\tanh(W_n x_t + b_n + r_t ⊙ (R_n h_{t-1} + b'_n)) \\quad \\text{(reset_after)} \\\\
        n_t &= \\tanh(W_n x_t + b_n + R_n (r_t ⊙ h_{t-1}) + b'_n) \\quad \\text{(otherwise)} \\\\
        h_t &= (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}

    Parameters
    ----------
    x : array of shape (T, B, I), or OneHot
        The inputs, T and B may be 0; or the indices of one-hot inputs, (T, B).
    h0 : array of shape (B, H) or None
        The initial state; None for zeros.
    w_ih : array of shape (3H, I), or Packed
        Input weights W, gates in PyTorch's order r, z, n; or what `gru_pack` made of all the weights, the other three
        then being left out.
    w_hh : array of shape (3H, H)
        Recurrent weights R.
    b_ih, b_hh : array of shape (3H,) or None
        Biases b and b'; None for zeros.
    lengths : integers of shape (B,) or None
        How many steps of each sequence count, 0 ≤ length ≤ T, in any order; None for all T. What lies beyond is never
        read, and a shorter sequence costs what its length costs.
    reverse : bool
        Run each sequence from its own last step to its first.
    reset_after : bool
        True: the reset gate acts on the product with R_n, as in PyTorch, cuDNN and ONNX's ``linear_before_reset=1``.
        False: on the state before that product, as in the original paper; slower, as its two products per step depend
        on each other.
    keep : bool
        Keep what `gru_backward` needs; False keeps nothing but the outputs.
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
        For `gru_backward`; None unless `keep`.

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
    Accuracy: a few units in the last place per step. Cost: 6·T·B·H·(I + H) floating-point operations. Memory: the
    outputs; with `keep` 4·T·B·H numbers more. Bitwise promises as for `lstm_forward`.

    References
    ----------
    Cho et al., arXiv:1406.1078, equations 5 to 8 (there z and 1 - z change places); the form of torch.nn.GRU.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> x, w_ih, w_hh = np.ones((5, 2, 3)), np.full((12, 3), 0.1), np.full((12, 4), 0.1)
    >>> y, h_n, tape = fastml.gru_forward(x, None, w_ih, w_hh)
    >>> y.shape, bool((h_n == y[-1]).all()), round(float(y[0, 0, 0]), 6)
    ((5, 2, 4), True, 0.12397)
    """
    a = check.recurrent("gru", x, {"h0": h0}, w_ih, w_hh, b_ih, b_hh, lengths)
    a.reverse, keep = check.flag("reverse", reverse), check.flag("keep", keep)
    a.reset_after = check.flag("reset_after", reset_after)
    if a.packed and a.reset_after != a.packed.arrays["reset_after"]:
        raise ValueError(f"reset_after: expected {not a.reset_after}, as the weights were packed, got {a.reset_after}")
    outputs, tape = forward("gru_forward", a, keep, check.output(out, a))
    return outputs["y"], outputs["h_n"], tape


def gru_backward(tape: Tape, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None) -> Gradients:
    """Backpropagate through `gru_forward`: the exact gradient of every input.

    Parameters
    ----------
    tape : Tape
        From `gru_forward` with ``keep=True``; it may be used again.
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
        As `gru_forward`; also for a tape of another kind.

    Notes
    -----
    Runs on the back end and the ISA rung that made the tape. Cost: 12·T·B·H·(I + H) floating-point operations. Memory
    and bitwise promises as for `lstm_backward`.

    References
    ----------
    Cho et al., arXiv:1406.1078; the form of torch.nn.GRU.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> x, w_ih, w_hh = np.ones((5, 2, 3)), np.full((12, 3), 0.1), np.full((12, 4), 0.1)
    >>> y, h_n, tape = fastml.gru_forward(x, np.zeros((2, 4)), w_ih, w_hh)
    >>> grads = fastml.gru_backward(tape, dy=np.ones_like(y))
    >>> grads.x.shape, grads.h0.shape, grads.b_ih
    ((5, 2, 3), (2, 4), None)
    """
    up = check.recurrent_upstream(tape, "gru_forward", dy, {"dh_n": dh_n})
    return backward(tape, "gru_backward", up)


def gru_pack(
    w_ih: ArrayLike,
    w_hh: ArrayLike,
    b_ih: ArrayLike | None = None,
    b_hh: ArrayLike | None = None,
    *,
    reset_after: bool = True,
) -> Packed:
    """Pack the weights once, for many calls of `gru_forward`.

    Parameters
    ----------
    w_ih, w_hh, b_ih, b_hh, reset_after : arrays and a bool
        As for `gru_forward`.

    Returns
    -------
    Packed
        A snapshot, to be given to `gru_forward` in the place of w_ih.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `gru_forward`.

    Notes
    -----
    `native` packs the weights into the order that its products read them in; without this, each call does. The other
    back ends keep a copy. Memory: two copies of the weights. Results are bitwise those of the weights themselves.

    Examples
    --------
    >>> import numpy as np, fastml
    >>> packed = fastml.gru_pack(np.full((12, 3), 0.1), np.full((12, 4), 0.1))
    >>> y, h_n, _ = fastml.gru_forward(np.ones((5, 2, 3)), None, packed, keep=False)
    >>> y.shape
    (5, 2, 4)
    """
    a = check.weights("gru", w_ih, w_hh, b_ih, b_hh)
    return pack("gru_forward", a, reset_after=check.flag("reset_after", reset_after))
