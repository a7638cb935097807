"""Softmax with cross-entropy: of logits, and of the linear layer that makes them, which are then never all in memory.

l = x Wᵀ + b,   p = softmax(l),   loss = -ln p[target],   ∂loss/∂l = p - onehot(target)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check
from .backend import find

__all__ = ["LinearCrossEntropy", "linear_cross_entropy", "softmax_cross_entropy"]

Array = NDArray[Any]

REDUCTIONS = ("mean", "sum", "none")


def softmax_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, reduction: str = "mean", ignore_index: int = -100
) -> tuple[Any, Array]:
    """The cross-entropy of a softmax, and its gradient with respect to the logits.

    .. math:: L_n = \\ln \\sum_v e^{l_{nv}} - l_{n y_n}, \\quad
        \\frac{∂L_n}{∂l_{nv}} = \\frac{e^{l_{nv}}}{\\sum_u e^{l_{nu}}} - 1\\{v = y_n\\}

    Parameters
    ----------
    logits : array of shape (..., V)
        float32 or float64; any number of leading axes, also none.
    target : integers of shape (...)
        The right class of each row, 0 ≤ class < V, or `ignore_index`.
    reduction : {"mean", "sum", "none"}
        What becomes of the rows' losses: their mean, their sum, or nothing. The gradient is that of the mean, or else
        of the sum.
    ignore_index : int
        Rows of this target do not count: their loss and gradient are 0, the mean is that of the others (NaN without
        any, as in PyTorch), and their logits are never read.

    Returns
    -------
    loss : float, or array of shape (...) with reduction="none"
        In nats. A sum is made in float64.
    dlogits : array of shape (..., V)

    Raises
    ------
    TypeError
        An array is of another dtype.
    ValueError
        Shapes do not agree, a class is out of its range, V is 0, or `reduction` is none of the three.
    NotImplementedError
        The back end chosen with `fastml.use` does not have this kernel.

    Notes
    -----
    The largest logit of a row is subtracted first, so that nothing overflows: logits of 1e30 are fine, -inf has
    probability 0; NaN, and +inf, give NaN in their own row. Errors are a few roundings of the row's largest
    probability. Cost: one exponential for each logit. The bits do not depend on the number of threads, nor on the other
    rows.

    References
    ----------
    Bishop, Pattern Recognition and Machine Learning (2006), 4.3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.losses import softmax_cross_entropy
    >>> loss, dlogits = softmax_cross_entropy(np.log([[1.0, 3.0], [1.0, 1.0]]), [1, 0])
    >>> round(loss, 6), dlogits.round(3).tolist()
    (0.490415, [[0.125, -0.125], [-0.25, 0.25]])
    """
    if logits is None:
        raise TypeError("logits: expected an array, got None")
    logits = check.arrays(logits=logits)["logits"]
    if logits.ndim < 1 or not logits.shape[-1]:
        raise ValueError(f"logits: expected shape (..., V) with V of at least 1, got {logits.shape}")
    *leading, V = logits.shape
    rows = logits.reshape(-1, V)
    target, count = _targets(target, tuple(leading), V, ignore_index, "logits")
    losses, dlogits = np.empty(len(rows), rows.dtype), np.empty_like(rows)
    find("softmax_cross_entropy").function(rows, target, _scale(reduction, count), losses, dlogits)
    return _reduced(losses, reduction, count, tuple(leading)), dlogits.reshape(logits.shape)


@dataclass(frozen=True, slots=True)
class LinearCrossEntropy:
    """What `linear_cross_entropy` gives.

    Attributes
    ----------
    loss : float, or array of shape (...) with reduction="none"
        In nats.
    x, weight, bias : arrays of the shapes of the arguments, or None
        The gradients with respect to them; None with gradient=False, and of a bias that was not given.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.losses import linear_cross_entropy
    >>> found = linear_cross_entropy(np.ones((2, 3)), np.zeros((4, 3)), None, [0, 1], gradient=False)
    >>> round(found.loss, 6), found.x, found.bias
    (1.386294, None, None)
    """

    loss: Any
    x: Array | None
    weight: Array | None
    bias: Array | None


def linear_cross_entropy(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    target: ArrayLike,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
    gradient: bool = True,
) -> LinearCrossEntropy:
    """`softmax_cross_entropy` of x Wᵀ + b, and the gradients of x, W, b: a language model's readout, in one pass.

    Parameters
    ----------
    x : array of shape (..., H)
        float32 or float64; any number of leading axes.
    weight : array of shape (V, H)
        W, as torch.nn.Linear has it.
    bias : array of shape (V,) or None
        b; None for zeros.
    target : integers of shape (...)
        The right class of each row, 0 ≤ class < V, or `ignore_index`.
    reduction, ignore_index : see `softmax_cross_entropy`
    gradient : bool
        False computes the loss alone.

    Returns
    -------
    LinearCrossEntropy
        ``.loss``, and the gradients ``.x``, ``.weight``, ``.bias``.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As in `softmax_cross_entropy`.

    Notes
    -----
    Cost: 2·N·V·H floating-point operations for the logits, 4·N·V·H more for the gradients, N rows. `native` and `jit`
    hold the logits of a few hundred rows at a time: memory beside the gradients does not grow with N; `reference` holds
    all of them. The bits do not depend on the number of threads; those of ``.loss`` and ``.x`` not on the other rows
    either, in `native`.

    References
    ----------
    Bishop, Pattern Recognition and Machine Learning (2006), 4.3.4; Wijmans et al., Cut Your Losses in Large-Vocabulary
    Language Models, arXiv:2411.09009.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.losses import linear_cross_entropy
    >>> found = linear_cross_entropy(np.ones((5, 2, 3)), np.zeros((4, 3)), None, np.zeros((5, 2), int))
    >>> round(found.loss, 6), found.x.shape, found.weight[:, 0].round(6).tolist()
    (1.386294, (5, 2, 3), [-0.75, 0.25, 0.25, 0.25])
    """
    for name, value in {"x": x, "weight": weight}.items():
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
    gradient = check.flag("gradient", gradient)
    x, weight, bias = check.arrays(x=x, weight=weight, bias=bias).values()
    sizes: dict[str, tuple[int, str]] = {}
    check.shape("weight", weight, "V H", sizes)
    V, H = weight.shape
    if min(V, H) < 1:
        raise ValueError(f"weight: expected shape (V, H) with both at least 1, got {weight.shape}")
    if x.ndim < 1 or x.shape[-1] != H:
        raise ValueError(f"x: expected shape (..., H) with H = {H} (from weight), got {x.shape}")
    if bias is not None:
        check.shape("bias", bias, "V", sizes)
    leading, rows = x.shape[:-1], x.reshape(-1, H)
    target, count = _targets(target, leading, V, ignore_index, "weight", "x")
    losses = np.empty(len(rows), x.dtype)
    b = np.zeros(V, x.dtype) if bias is None else bias
    outputs = [np.empty_like(a) for a in (rows, weight, b)] if gradient else [None] * 3
    find("softmax_linear").function(rows, weight, b, target, _scale(reduction, count), losses, *outputs)
    dx, dweight, dbias = outputs
    return LinearCrossEntropy(
        _reduced(losses, reduction, count, leading),
        dx if dx is None else dx.reshape(x.shape),
        dweight,
        None if bias is None else dbias,
    )


def _targets(
    target: Any, leading: tuple[int, ...], V: int, ignore_index: Any, classes: str, rows: str | None = None
) -> tuple[Array, int]:
    """(N,) intp, -1 for rows that do not count; and how many do."""
    found = check.integers("target", target)
    if found.shape != leading:
        raise ValueError(f"target: expected shape {leading} (from {rows or classes}), got {found.shape}")
    ignore_index = check.integer("ignore_index", ignore_index, -(2**63), 2**63 - 1)
    ignored = found == ignore_index
    wrong = ((found < 0) | (found >= V)) & ~ignored
    for at in np.argwhere(wrong)[:1]:
        index = tuple(at.tolist())
        place = f" at index {index[0] if len(index) == 1 else index}" if index else ""
        raise ValueError(f"target: expected 0 ≤ class < V = {V} (from {classes}), got {found[index]}{place}")
    checked = np.where(ignored, -1, found.astype(np.intp)).reshape(-1)  # as it came, unsigned, -1 would wrap round
    return checked, checked.size - int(ignored.sum())


def _scale(reduction: Any, count: int) -> float:
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")
    return 1 / count if reduction == "mean" and count else 1.0


def _reduced(losses: Array, reduction: str, count: int, leading: tuple[int, ...]) -> Any:
    if reduction == "none":
        return losses.reshape(leading) if leading else float(losses[0])
    total = float(losses.sum(dtype="float64"))
    if reduction == "sum":
        return total
    return total / count if count else float("nan")
