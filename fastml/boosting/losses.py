"""The multiclass exponential loss, its derivatives, and the loss as an objective of gradient boosting libraries.

K scores g of each row, y its class. With the code of y, 1 for it and -1/(K-1) for the others, -code·g is the exponent

    E_i = Σ_{k≠y_i} g_ik / (K-1) - g_iy_i

which K = 2 and scores (-f, f) make -2 y f of y = ±1. Everything here is a function of exponents, shifted by their
largest before they are exponentials.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check
from ..backend import find
from ..mixture.rows import check_sample_weight

__all__ = [
    "custom_objective",
    "exponential_gradient",
    "exponential_hessian",
    "exponential_loss",
    "exponents",
    "log_exponential_loss",
]

Array = NDArray[Any]


def check_scores(name: str, array: Array, sizes: dict[str, tuple[int, str]]) -> None:
    """(N, K) with at least two classes."""
    check.shape(name, array, "N K", sizes)
    if sizes["K"][0] < 2:
        raise ValueError(f"{name}: expected K of at least 2, got {sizes['K'][0]}")


def exponents(scores: Array, y: Array) -> Array:
    """E (N,) of checked scores (N, K) and classes."""
    found = np.empty(len(scores), scores.dtype)
    find("exponential_exponent").function(scores, y, found)
    return found


def _checked(scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> SimpleNamespace:
    """The checked arguments, and the exponents."""
    if scores is None:
        raise TypeError("scores: expected an array, got None")
    found = SimpleNamespace(**check.arrays(scores=scores, sample_weight=sample_weight))
    sizes: dict[str, tuple[int, str]] = {}
    check_scores("scores", found.scores, sizes)
    N, K = found.scores.shape
    found.y = check.labels_of(y, N, K, "scores")
    if found.sample_weight is not None:
        check.shape("sample_weight", found.sample_weight, "N", sizes)
        check_sample_weight(found.sample_weight)
    found.exponent = exponents(found.scores, found.y)
    return found


def _sum(a: SimpleNamespace) -> tuple[float, float]:
    """The largest exponent of a weight above 0, and Σ w exp(E - that)."""
    most, total, weight, least = (np.empty(1) for _ in range(4))
    find("exponential_sum").function(a.exponent, a.sample_weight, most, total, weight, least)
    return float(most[0]), float(total[0])


def exponential_loss(scores: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """The multiclass exponential loss, the sum over rows.

    .. math:: L = \\sum_i w_i \\exp(E_i), \\quad E_i = \\frac{1}{K-1} \\sum_{k ≠ y_i} g_{ik} - g_{i y_i}

    Parameters
    ----------
    scores : array of shape (N, K)
        g, of K classes, at least 2. N may be 0.
    y : array of shape (N,), integers
        The classes, from 0 to K-1.
    sample_weight : array of shape (N,) or None
        w, at least 0; None for ones. Rows of weight 0 do not count, whatever their scores.

    Returns
    -------
    float
        inf where it overflows (`log_exponential_loss` does not); NaN where a score is.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ; y is not of integers. Lists are cast.
    ValueError
        A shape does not fit, K is below 2, a class is not there, weights are negative or not finite.

    Notes
    -----
    The exponents have the dtype of the scores, whose rounding of E is the relative error of exp(E); their sum is
    float64. Bitwise the same for any number of threads.

    References
    ----------
    Zhu, Zou, Rosset and Hastie, Multi-class AdaBoost, Statistics and Its Interface 2 (2009), 2.1: there f = K g.

    Examples
    --------
    >>> from fastml import boosting
    >>> round(boosting.exponential_loss([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 1]), 6)
    2.648721
    """
    most, total = _sum(_checked(scores, y, sample_weight))
    if total == 0:
        return 0.0
    try:
        return math.exp(most) * total
    except OverflowError:  # total may be so small that the loss is none
        log = most + math.log(total)
        return math.exp(log) if log < 709 else math.inf


def log_exponential_loss(scores: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """The logarithm of the exponential loss, which does not overflow.

    .. math:: \\ln L = \\max_i E_i + \\ln \\sum_i w_i \\exp(E_i - \\max_j E_j)

    Parameters
    ----------
    scores, y, sample_weight
        As in `exponential_loss`.

    Returns
    -------
    float
        Finite for scores up to half of the largest number of their dtype. -inf without a row of a weight above 0.

    Raises
    ------
    TypeError, ValueError
        As in `exponential_loss`.

    References
    ----------
    Zhu et al. (2009), 2.1.

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.log_exponential_loss([[1000.0, -1000.0]], [1])
    2000.0
    """
    most, total = _sum(_checked(scores, y, sample_weight))
    return most + math.log(total) if total else -math.inf


def _derivative(order: int, scores: Any, y: Any, sample_weight: Any, normalised: bool) -> Array:
    a = _checked(scores, y, sample_weight)
    shift = _sum(a)[0] if check.flag("normalised", normalised) else 0.0
    found = np.empty_like(a.scores)
    arrays = (found, None) if order == 1 else (None, found)
    shift = shift if math.isfinite(shift) else 0.0
    find("exponential_gradient").function(a.exponent, a.sample_weight, a.y, shift, *arrays)
    return found


def exponential_gradient(
    scores: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, normalised: bool = False
) -> Array:
    """The gradient of the exponential loss by the scores.

    .. math::

        \\frac{∂L}{∂g_{iy_i}} = -w_i \\exp(E_i), \\quad \\frac{∂L}{∂g_{ik}} = \\frac{w_i \\exp(E_i)}{K-1}

    Parameters
    ----------
    scores, y, sample_weight
        As in `exponential_loss`.
    normalised : bool
        Divide by the largest exp(E_i) of a row whose weight is above 0: nothing overflows then, and steps of Newton,
        whose Hessian is divided by the same, do not change.

    Returns
    -------
    array of shape (N, K)
        Rows sum to 0. ±inf where exp(E_i) overflows and is not normalised.

    Raises
    ------
    TypeError, ValueError
        As in `exponential_loss`; or `normalised` is no bool.

    Notes
    -----
    Accuracy: a few units in the last place, and the rounding of E. Bitwise the same for any number of threads.

    References
    ----------
    Zhu et al. (2009), 2.1.

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.exponential_gradient([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [0, 1]).tolist()
    [[-1.0, 0.5, 0.5], [0.5, -1.0, 0.5]]
    """
    return _derivative(1, scores, y, sample_weight, normalised)


def exponential_hessian(
    scores: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, normalised: bool = False
) -> Array:
    """The diagonal of the Hessian of the exponential loss by the scores.

    .. math::

        \\frac{∂²L}{∂g_{iy_i}²} = w_i \\exp(E_i), \\quad \\frac{∂²L}{∂g_{ik}²} = \\frac{w_i \\exp(E_i)}{(K-1)²}

    Parameters
    ----------
    scores, y, sample_weight, normalised
        As in `exponential_gradient`, by the same divisor.

    Returns
    -------
    array of shape (N, K)
        At least 0; inf where exp(E_i) overflows and is not normalised.

    Raises
    ------
    TypeError, ValueError
        As in `exponential_gradient`.

    References
    ----------
    Zhu et al. (2009), 2.1.

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.exponential_hessian([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [0, 1]).tolist()
    [[1.0, 0.25, 0.25], [0.25, 1.0, 0.25]]
    """
    return _derivative(2, scores, y, sample_weight, normalised)


def custom_objective(n_classes: int) -> Callable[[Array, Any], tuple[Array, Array]]:
    """The multiclass exponential loss as a custom objective of XGBoost and LightGBM.

    .. math:: N \\ln L, \\quad \\text{gradient } \\frac{N}{L} \\frac{∂L}{∂g}, \\quad
        \\text{Hessian } \\frac{N}{L} \\frac{∂²L}{∂g²}

    Parameters
    ----------
    n_classes : int
        K, at least 2: what the library has as ``num_class``, for two classes too.

    Returns
    -------
    callable
        (scores (N, K), data) → (gradient (N, K), Hessian (N, K)), with ``data.get_label()`` the classes, 0 to K-1, and
        ``data.get_weight()`` the weights, if there are any: ``xgboost.train(…, obj=custom_objective(K))`` with a
        DMatrix, ``lightgbm.train({"objective": custom_objective(K), "num_class": K, …}, …)`` with a Dataset. Neither
        library is imported here.

    Raises
    ------
    TypeError, ValueError
        `n_classes` is no integer of at least 2. The callable: scores are not of shape (N, K), or labels are no classes.

    Notes
    -----
    What is minimised is N ln L, which has its minimum where L has it, and whose gradient is that of L divided by the
    mean loss. So nothing overflows (each row's part is its share of the loss, times N), and regularisation of leaves
    (``lambda``, ``min_child_weight``, ``min_sum_hessian_in_leaf``) means the same in the first round and in the last,
    when L itself is small and would fall under any of them. The Hessian leaves out what the logarithm subtracts, of
    rank one, and so is an upper bound. All in float64; the gradient of a library's float32 scores is float32.

    References
    ----------
    Zhu et al. (2009), 2.1; Friedman, Hastie and Tibshirani, Additive logistic regression, Annals of Statistics 28
    (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from fastml import boosting
    >>> data = SimpleNamespace(get_label=lambda: np.array([0.0, 2.0]), get_weight=lambda: None)
    >>> gradient, hessian = boosting.custom_objective(3)(np.zeros((2, 3)), data)
    >>> gradient.tolist()
    [[-1.0, 0.5, 0.5], [0.5, 0.5, -1.0]]
    """
    K = check.integer("n_classes", n_classes, 2)

    def objective(scores: Array, data: Any) -> tuple[Array, Array]:
        scores = np.asarray(scores)
        if scores.ndim != 2 or scores.shape[1] != K:
            raise ValueError(f"scores: expected shape (N, K) with K = {K} (from n_classes), got {scores.shape}")
        labels, weight = np.asarray(data.get_label()), data.get_weight()
        if (labels != np.floor(labels)).any():
            raise ValueError(f"y: expected classes 0 to {K - 1}, got {labels[labels != np.floor(labels)][0]}")
        sample_weight = None if weight is None or not len(weight) else np.asarray(weight, "float64")
        a = _checked(scores.astype("float64"), labels.astype(np.intp), sample_weight)
        most, total = _sum(a)
        gradient, hessian = np.empty_like(a.scores), np.empty_like(a.scores)
        share = (1.0 if a.sample_weight is None else a.sample_weight) * np.full(len(scores), len(scores) / (total or 1))
        find("exponential_gradient").function(a.exponent, share, a.y, most if total else 0.0, gradient, hessian)
        return gradient.astype(scores.dtype), hessian.astype(scores.dtype)

    return objective
