"""Weights of rows from one round of boosting to the next, and what is decided by weights.

Discrete rules (SAMME) know two kinds of rows and multiply by two numbers: no exponential of a row, and no pass to
normalise, as the sums of both kinds are known. Real-valued rules multiply by exp of an exponent that each row has.
"""

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check
from ..backend import find
from ..mixture.rows import check_sample_weight
from .losses import exponents

__all__ = [
    "gentle_update",
    "logit_update",
    "r2_update",
    "samme_error",
    "samme_r_update",
    "samme_update",
    "samme_update_next",
    "trim",
    "weighted_median",
    "weighted_quantile",
]

Array = NDArray[Any]

LN2 = math.log(2)

RANGE = {np.dtype("float32"): 40, np.dtype("float64"): 500}
"""Binary exponents that sums of weights may have, either way, before the weights are scaled by a power of two: both
multipliers are then numbers of the dtype, and ratios of sums of float64."""

ONE = {np.dtype("float32"): 1e-6, np.dtype("float64"): 1e-12}
"""How far a sum of weights may be from 1 and count as 1."""

MISTAKEN = 1e-4
"""How far rounding alone does not take the sum of new weights from 1."""

BLOCK = 4096
"""Rows whose values are sorted at a time."""


# ------------------------------------------------------------------------------------------------------------ checks


def _weights(sample_weight: ArrayLike, **others: Any) -> SimpleNamespace:
    """The checked weights (N,), and `others` of the same dtype."""
    for name, value in {"sample_weight": sample_weight, **others}.items():
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
    found = SimpleNamespace(**check.arrays(sample_weight=sample_weight, **others))
    found.sizes = {}
    check.shape("sample_weight", found.sample_weight, "N", found.sizes)
    found.N, found.dtype = len(found.sample_weight), found.sample_weight.dtype
    return found


def _new(out: Any, sample_weight: Any, a: SimpleNamespace, **others: Any) -> Array:
    """The array of the new weights: `out`, which is the array of the weights or overlaps no argument, or a new one."""
    if out is None:
        return np.empty_like(a.sample_weight)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected an array of {a.dtype}, got {type(out).__name__}")
    if out.dtype != a.dtype:
        raise TypeError(f"out: expected {a.dtype} as sample_weight, got {out.dtype}")
    if out.shape != (a.N,):
        raise ValueError(f"out: expected shape (N,) = ({a.N},), got {out.shape}")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError("out: expected a C-contiguous, aligned, writeable array")
    if out.ctypes.data != a.sample_weight.ctypes.data:
        others["sample_weight"] = sample_weight
    for name, array in others.items():
        if hasattr(array, "__array__") and np.may_share_memory(out, array):
            raise ValueError(f"out: expected sample_weight or an array that overlaps no argument, got one of {name}")
    return out


# ------------------------------------------------------------------------------------------------------------- SAMME


class _Masses(NamedTuple):
    """The sums of the weights of both kinds of rows."""

    right: float
    wrong: float
    log_ratio: float = 0.0  # of what the weights of right rows were divided by, to what those of the wrong ones were
    log_scale: float = 0.0  # of what those of right rows were divided by

    @property
    def log_odds(self) -> float:
        """ln (1 - error) / error."""
        if not self.right or not self.wrong:
            return math.inf if self.right else -math.inf
        return math.log(self.right / self.wrong) + self.log_ratio

    @property
    def error(self) -> float:
        return _logistic(-self.log_odds)[0] if self.log_ratio else self.wrong / (self.right + self.wrong)


def _logistic(z: float) -> tuple[float, float]:
    """1 / (1 + exp -z), and 1 less that."""
    small = math.exp(-abs(z))
    shares = 1 / (1 + small), small / (1 + small)
    return shares if z >= 0 else shares[::-1]


def _sums(weights: Array, marks: Array) -> _Masses:
    """The sums, of checked weights; infinite where they overflow."""
    right, wrong, least = np.empty(1), np.empty(1), np.empty(1)
    find("samme_error").function(weights, marks, right, wrong, least)
    found = _Masses(float(right[0]), float(wrong[0]))
    if least[0] < 0 or not math.isfinite(sum(found)):
        check_sample_weight(weights)
    return found


def _measured(weights: Array, marks: Array) -> tuple[Array, _Masses]:
    """The sums of both kinds, within `RANGE` or 0, and the weights that they are of: scaled by a power of two of each
    kind's own, where the given ones' sums are too large or too small.
    """
    found, limit = _sums(weights, marks), 2.0 ** RANGE[weights.dtype]
    if not (1 / limit <= found.right <= limit and 1 / limit <= found.wrong <= limit):
        missed = marks != 0
        right, wrong = (math.frexp(weights[rows].max(initial=0))[1] for rows in (~missed, missed))
        weights = np.ldexp(weights, np.where(missed, -wrong, -right))
        found = _Masses(*_sums(weights, marks)[:2], (right - wrong) * LN2, right * LN2)
    if not (found.right or found.wrong):
        raise ValueError("sample_weight: expected rows of a weight above 0, got none")
    return weights, found


def _step(masses: _Masses, K: int, learning_rate: float) -> tuple[float, float, float]:
    """alpha, and the multipliers of right and wrong rows, whose new weights sum to a share of each kind."""
    log_odds, prior = masses.log_odds, math.log(K - 1)
    if log_odds + prior <= 0 or (not masses.log_ratio and masses.wrong >= (K - 1) * masses.right):
        raise ValueError(
            f"incorrect: expected a weighted error below 1 - 1/K = {1 - 1 / K:.6g}, got {masses.error:.6g}: "
            "no better than chance"
        )
    alpha = learning_rate * (log_odds + prior)
    wrong, right = ((K - 1) / K, 1 / K) if learning_rate == 1 else _logistic(alpha - log_odds)
    return alpha, right / masses.right, wrong / masses.wrong


def _unchanged(given: Array, weights: Array, masses: _Masses, out: Array) -> None:
    """The weights of a round without errors: as they were, of sum 1."""
    if abs(math.log(masses.right) + masses.log_scale) <= ONE[given.dtype]:
        out[...] = given
    else:
        np.divide(weights, masses.right, out=out)


def samme_error(sample_weight: ArrayLike, incorrect: ArrayLike) -> float:
    """The weighted error of a classifier: the share of the weights that misclassified rows have.

    .. math:: e = \\sum_{i: f(x_i) ≠ y_i} w_i \\,/\\, \\sum_i w_i

    Parameters
    ----------
    sample_weight : array of shape (N,)
        At least 0, and not all 0; of any sum.
    incorrect : array of shape (N,), bool or uint8
        True, or not 0, for the rows that were misclassified. Other integers are compared with 0, in a copy.

    Returns
    -------
    float
        Summed in float64 whatever the dtype of the weights.

    Raises
    ------
    TypeError
        Weights are neither float32 nor float64, or `incorrect` is neither of booleans nor of integers. Lists are cast.
    ValueError
        A shape does not fit; weights are negative or not finite; none is above 0.

    Notes
    -----
    One pass at the speed of memory, which finds unfit weights too. Bitwise the same for any number of threads.

    References
    ----------
    Zhu, Zou, Rosset and Hastie, Multi-class AdaBoost, Statistics and Its Interface 2 (2009), algorithm 2 (2b).

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.samme_error([1.0, 1.0, 2.0], [False, False, True])
    0.5
    """
    a = _weights(sample_weight)
    return _measured(a.sample_weight, check.marks_of("incorrect", incorrect, a.N, "sample_weight"))[1].error


def samme_update(
    sample_weight: ArrayLike,
    incorrect: ArrayLike,
    n_classes: int,
    learning_rate: float = 1.0,
    *,
    out: Array | None = None,
) -> tuple[Array, float, float]:
    """One round of SAMME: the classifier's error and weight, and the weights of the rows for the next one.

    .. math::

        α = η \\Bigl(\\ln \\frac{1 - e}{e} + \\ln(K - 1)\\Bigr), \\quad
        w_i ← w_i \\exp(α [f(x_i) ≠ y_i]) \\,/\\, Z

    Parameters
    ----------
    sample_weight : array of shape (N,)
        w: at least 0, and not all 0; of any sum. From 1e-300 to 1e300, in one array too.
    incorrect : array of shape (N,), bool or uint8
        As in `samme_error`.
    n_classes : int
        K, at least 2.
    learning_rate : float
        η, above 0. Of large ones the misclassified rows have all of the weight, and the others may underflow to 0.
    out : array of shape (N,) or None
        Where the new weights go: an array of the dtype of the weights, C-contiguous, that may be `sample_weight` itself
        and otherwise overlaps no argument. A call that raises leaves it as it was.

    Returns
    -------
    sample_weight : array of shape (N,)
        The new weights, of sum 1. Those of 0 stay 0. Without an error (e = 0) they are the old ones, bit for bit if
        their sum is 1 to within 1e-12 (float32: 1e-6).
    alpha : float
        The weight of the classifier's vote; inf where e = 0.
    error : float
        e, the weighted error.

    Raises
    ------
    TypeError, ValueError
        As in `samme_error`; or `n_classes`, `learning_rate` or `out` does not fit, or the error is 1 - 1/K or more, so
        that the classifier is no better than chance.

    Notes
    -----
    No exponential of a row, and no pass to normalise: with s = e exp(α) / (1 - e + e exp(α)), rows are multiplied by
    s / Σ w of the wrong ones, or (1 - s) / Σ w of the others; s = (K-1)/K where η = 1. Two passes: one reads, one
    scales; `samme_update_next` has one. Sums that leave the range of the dtype cost a copy that is scaled by powers of
    two. Accuracy: a few units in the last place, and the sum within 1e-12 of 1 after any number of rounds (float32:
    1e-6). Weights below the smallest normal number of the dtype count as 0 beside others. Bitwise the same for any
    number of threads.

    References
    ----------
    Zhu et al. (2009), algorithm 2.

    Examples
    --------
    >>> from fastml import boosting
    >>> w, alpha, error = boosting.samme_update([0.25] * 4, [True, False, False, False], n_classes=2)
    >>> w.round(6).tolist(), round(alpha, 6), error
    ([0.5, 0.166667, 0.166667, 0.166667], 1.098612, 0.25)
    """
    a = _weights(sample_weight)
    marks = check.marks_of("incorrect", incorrect, a.N, "sample_weight")
    K, learning_rate = check.integer("n_classes", n_classes, 2), check.positive("learning_rate", learning_rate)
    new = _new(out, sample_weight, a, incorrect=incorrect)
    weights, masses = _measured(a.sample_weight, marks)
    if not masses.wrong:
        _unchanged(a.sample_weight, weights, masses, new)
        return new, math.inf, 0.0
    alpha, if_right, if_wrong = _step(masses, K, learning_rate)
    find("samme_update").function(weights, marks, if_right, if_wrong, None, new, None, None, None)
    return new, alpha, masses.error


def samme_update_next(
    sample_weight: ArrayLike,
    incorrect: ArrayLike,
    next_incorrect: ArrayLike,
    n_classes: int,
    learning_rate: float = 1.0,
    *,
    error: float | None = None,
    out: Array | None = None,
) -> tuple[Array, float, float, float]:
    """`samme_update`, and the error of another classifier under the new weights, in the same pass.

    Parameters
    ----------
    sample_weight, incorrect, n_classes, learning_rate, out
        As in `samme_update`.
    next_incorrect : array of shape (N,), bool or uint8
        The rows that the next classifier misclassifies.
    error : float or None
        The error of `incorrect`, if it is known: what the call before returned as `next_error`, for the weights that it
        returned. The weights are then read once, and only found out to be others when the new ones are written.

    Returns
    -------
    sample_weight, alpha, error
        As `samme_update` has them.
    next_error : float
        The weighted error of `next_incorrect` under the new weights.

    Raises
    ------
    TypeError, ValueError
        As in `samme_update`; or `error` is no number from 0 to 1, or not that of these weights, of sum 1: `out` may
        have been written to then, here alone.

    Notes
    -----
    For classifiers that are known before they are weighed, such as a pool of stumps. With `error`, one pass, at little
    more than the time of scaling an array in place. The sum stays within 1e-12 of 1 (float32: 1e-6): where rounding has
    taken it a tenth of that away, the weights are scaled once more.

    References
    ----------
    Zhu et al. (2009), algorithm 2.

    Examples
    --------
    >>> from fastml import boosting
    >>> first, second = [True, False, False, False], [False, True, False, False]
    >>> w, alpha, error, next_error = boosting.samme_update_next([0.25] * 4, first, second, n_classes=2)
    >>> error, round(next_error, 6)
    (0.25, 0.166667)
    >>> w, alpha, error, next_error = boosting.samme_update_next(w, second, first, n_classes=2, error=next_error)
    >>> w.round(6).tolist(), round(next_error, 6)
    ([0.3, 0.5, 0.1, 0.1], 0.3)
    """
    a = _weights(sample_weight)
    marks = check.marks_of("incorrect", incorrect, a.N, "sample_weight")
    marks_next = check.marks_of("next_incorrect", next_incorrect, a.N, "sample_weight")
    K, learning_rate = check.integer("n_classes", n_classes, 2), check.positive("learning_rate", learning_rate)
    if error is not None:
        error = check.number("error", error, 0, 1)
    new = _new(out, sample_weight, a, incorrect=incorrect, next_incorrect=next_incorrect)
    known = error is not None and error > 2.0 ** -RANGE[a.dtype]
    weights, masses = (a.sample_weight, _Masses(1 - error, error)) if known else _measured(a.sample_weight, marks)
    if not masses.wrong:
        _unchanged(a.sample_weight, weights, masses, new)
        return new, math.inf, 0.0, _measured(new, marks_next)[1].error
    alpha, if_right, if_wrong = _step(masses, K, learning_rate)
    right, wrong, least = np.empty(1), np.empty(1), np.empty(1)
    find("samme_update").function(weights, marks, if_right, if_wrong, marks_next, new, right, wrong, least)
    total = float(right[0] + wrong[0])
    if not (abs(total - 1) <= MISTAKEN and least[0] >= 0):
        check_sample_weight(new)
        raise ValueError(
            f"error: expected that of sample_weight, of sum 1, got {error}, which gives a sum of {total:.6g}"
        )
    if abs(total - 1) > ONE[a.dtype] / 10:
        find("samme_update").function(new, marks, 1 / total, 1 / total, None, new, None, None, None)
    return new, alpha, masses.error, float(wrong[0]) / total


# ------------------------------------------------------------------------------------------------ real-valued updates


def _follow(a: SimpleNamespace, exponent: Array, source: str, out: Array) -> Array:
    """w exp(exponent), of sum 1, in `out`; exponents come from `source`, and may be infinite."""
    most, total, weight, least = (np.empty(1) for _ in range(4))
    find("exponential_sum").function(exponent, a.sample_weight, most, total, weight, least)
    if least[0] < 0 or not math.isfinite(weight[0]):
        check_sample_weight(a.sample_weight)
    limit = 2.0 ** RANGE[a.dtype]
    if 1 / limit <= total[0] <= limit and weight[0] <= limit * total[0]:
        find("exponential_update").function(exponent, a.sample_weight, float(most[0]), 1 / float(total[0]), out)
        return out
    # Here w exp(exponent - most) may underflow in what counts, or most is infinite: in logarithms, then.
    rows = np.flatnonzero(a.sample_weight)
    if not len(rows):
        raise ValueError("sample_weight: expected rows of a weight above 0, got none")
    logs, x = np.log(a.sample_weight[rows], dtype="float64"), exponent[rows].astype("float64")
    if np.isnan(x).any():
        raise ValueError(f"{source}: expected numbers, got nan at index {rows[np.isnan(x).argmax()]}")
    if x.max() == np.inf:
        logs[x < np.inf] = -np.inf  # what is infinitely heavier shares everything
    elif x.max() > -np.inf:
        logs += x
    e = np.exp(logs - logs.max())
    out[...] = 0
    out[rows] = e / e.sum()
    return out
