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
from .losses import check_scores, exponents

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

ROUNDING = 1e-15
"""Of an error: what is less than this below chance is chance."""

MISTAKEN = 1e-4
"""How far rounding alone does not take the sum of new weights from 1."""

BLOCK = 4096
"""Rows whose values are sorted at a time."""


NO_WEIGHT = "sample_weight: expected rows of a weight above 0, got none"

# ------------------------------------------------------------------------------------------------------------ checks


def check_weights(weights: Array) -> float:
    """The largest of finite numbers of at least 0, some of them above."""
    check_sample_weight(weights)
    most = float(weights.max(initial=0))
    if most == 0:
        raise ValueError(NO_WEIGHT)
    return most


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
        weights = np.ldexp(weights, np.where(missed, -wrong, -right).astype(np.intc))
        found = _Masses(*_sums(weights, marks)[:2], (right - wrong) * LN2, right * LN2)
    if not (found.right or found.wrong):
        raise ValueError(NO_WEIGHT)
    return weights, found


def _step(masses: _Masses, K: int, learning_rate: float) -> tuple[float, float, float]:
    """alpha, and the multipliers of right and wrong rows, whose new weights sum to a share of each kind."""
    if masses.error >= 1 - 1 / K - ROUNDING:
        raise ValueError(
            f"incorrect: expected a weighted error below 1 - 1/K = {1 - 1 / K:.6g}, got {masses.error:.6g}: "
            "no better than chance"
        )
    log_odds = masses.log_odds
    alpha = learning_rate * (log_odds + math.log(K - 1))
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
    taken it half of that away, the weights are scaled once more.

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
    if abs(total - 1) > ONE[a.dtype] / 2:
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
        raise ValueError(NO_WEIGHT)
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


def samme_r_update(
    sample_weight: ArrayLike,
    probabilities: ArrayLike,
    y: ArrayLike,
    learning_rate: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """One round of SAMME.R, the real-valued rule: weights follow the classifier's probabilities.

    .. math::

        w_i ← \\frac{w_i}{Z} \\exp\\Bigl(
        -η \\frac{K-1}{K} \\Bigl(\\ln p_{iy_i} - \\frac{1}{K-1} \\sum_{k ≠ y_i} \\ln p_{ik}\\Bigr)\\Bigr)

    Parameters
    ----------
    sample_weight : array of shape (N,)
        w: at least 0, and not all 0; of any sum.
    probabilities : array of shape (N, K)
        p, from 0 to 1: the classifier's, of K classes, at least 2. Those below the spacing of numbers at 1
        (2.2e-16, float32: 1.2e-7) count as that.
    y : array of shape (N,), integers
        The classes, from 0 to K-1.
    learning_rate : float
        η, above 0.
    out : array of shape (N,) or None
        As in `samme_update`.

    Returns
    -------
    array of shape (N,)
        The new weights, of sum 1. Those of 0 stay 0.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ; y is not of integers. Lists are cast.
    ValueError
        A shape does not fit; weights are negative or not finite, or none is above 0; probabilities are below 0 or above
        1; a class is not there; `learning_rate` or `out` does not fit.

    Notes
    -----
    The rule of scikit-learn's AdaBoostClassifier(algorithm="SAMME.R") before 1.6. Exponents are shifted by their
    largest. Bitwise the same for any number of threads.

    References
    ----------
    Zhu et al. (2009), algorithm 4.

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.samme_r_update([0.5, 0.5], [[0.8, 0.2], [0.8, 0.2]], [0, 1]).round(6).tolist()
    [0.2, 0.8]
    """
    a = _weights(sample_weight, probabilities=probabilities)
    check_scores("probabilities", a.probabilities, a.sizes)
    K = a.probabilities.shape[1]
    y = check.labels_of(y, a.N, K, "probabilities")
    rate = check.positive("learning_rate", learning_rate) * (K - 1) / K
    new = _new(out, sample_weight, a, probabilities=probabilities, y=y)
    if not (a.probabilities.min(initial=0) >= 0 and a.probabilities.max(initial=0) <= 1 + ONE[a.dtype]):
        p = a.probabilities.ravel()
        wrong = p[~((p >= 0) & (p <= 1 + ONE[a.dtype]))][0]
        raise ValueError(f"probabilities: expected numbers from 0 to 1, got {wrong}")
    exponent = exponents(np.log(np.maximum(a.probabilities, np.finfo(a.dtype).eps)), y)
    with np.errstate(over="ignore"):
        exponent *= a.dtype.type(rate)
    return _follow(a, exponent, "probabilities", new)


def gentle_update(sample_weight: ArrayLike, scores: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """One round of Gentle AdaBoost: weights follow a regression function f of the classes' code.

    .. math:: w_i ← w_i \\exp(-y_i f(x_i)) \\,/\\, Z

    Parameters
    ----------
    sample_weight : array of shape (N,)
        w: at least 0, and not all 0; of any sum.
    scores : array of shape (N,) or (N, K)
        f(x): a number for two classes; or one for each of K classes, at least 2, and then y f is the product with the
        code of y, 1 for the class and -1/(K-1) for the others.
    y : array of shape (N,), integers
        -1 and 1 for scores (N,); else the classes, from 0 to K-1.
    out : array of shape (N,) or None
        As in `samme_update`.

    Returns
    -------
    array of shape (N,)
        The new weights, of sum 1. Those of 0 stay 0. Infinite scores have their limit.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ; y is not of integers. Lists are cast.
    ValueError
        A shape does not fit; weights are negative or not finite, or none is above 0; a score is NaN, or y no class;
        `out` does not fit.

    References
    ----------
    Friedman, Hastie and Tibshirani, Additive logistic regression, Annals of Statistics 28 (2000), algorithm 4.

    Examples
    --------
    >>> import math
    >>> from fastml import boosting
    >>> boosting.gentle_update([0.5, 0.5], [0.0, math.log(3)], [1, -1]).round(6).tolist()
    [0.25, 0.75]
    """
    a = _weights(sample_weight, scores=scores)
    if a.scores.ndim == 2:
        check_scores("scores", a.scores, a.sizes)
        y = check.labels_of(y, a.N, a.scores.shape[1], "scores")
        new = _new(out, sample_weight, a, scores=scores, y=y)
        return _follow(a, exponents(a.scores, y), "scores", new)
    check.shape("scores", a.scores, "N", a.sizes)
    y = check.integers("y", y)
    if y.shape != (a.N,):
        raise ValueError(f"y: expected shape (N,) with N = {a.N} (from sample_weight), got {y.shape}")
    if not np.isin(y, (-1, 1)).all():
        raise ValueError(f"y: expected -1 or 1 beside scores (N,), got {y[~np.isin(y, (-1, 1))][0]}")
    new = _new(out, sample_weight, a, scores=scores, y=y)
    return _follow(a, np.where(y > 0, -a.scores, a.scores), "scores", new)


def logit_update(scores: ArrayLike, y: ArrayLike, *, z_max: float = 4.0) -> tuple[Array, Array]:
    """One round of LogitBoost: what the next regressions are fitted to, and with which weights.

    .. math::

        p_{ik} = \\frac{\\exp F_{ik}}{\\sum_j \\exp F_{ij}}, \\quad w_{ik} = p_{ik} (1 - p_{ik}), \\quad
        z_{ik} = \\frac{[y_i = k] - p_{ik}}{w_{ik}}

    Parameters
    ----------
    scores : array of shape (N, K)
        F, of K classes, at least 2. N may be 0.
    y : array of shape (N,), integers
        The classes, from 0 to K-1.
    z_max : float
        Responses are cut off at ±z_max, above 0: from 2 to 4 by the paper.

    Returns
    -------
    z : array of shape (N, K)
        The working responses: 1/p for the row's class, -1/(1-p) for the others.
    w : array of shape (N, K)
        The weights, at least twice the spacing of numbers at 1 (4.4e-16, float32: 2.4e-7).

    Raises
    ------
    TypeError
        `scores` are neither float32 nor float64, or y is not of integers. Lists are cast.
    ValueError
        A shape does not fit, K is below 2, a class is not there, a score is NaN or infinite, or `z_max` is no positive
        number.

    Notes
    -----
    1 - p of the likeliest class is the sum of the others, not a difference. Scores are shifted by their row's largest.

    References
    ----------
    Friedman, Hastie and Tibshirani (2000), algorithms 3 and 6.

    Examples
    --------
    >>> from fastml import boosting
    >>> z, w = boosting.logit_update([[0.0, 0.0], [9.0, 0.0]], [0, 1])
    >>> z.round(4).tolist(), w.round(4).tolist()
    ([[2.0, -2.0], [-4.0, 4.0]], [[0.25, 0.25], [0.0001, 0.0001]])
    """
    if scores is None:
        raise TypeError("scores: expected an array, got None")
    scores = check.arrays(scores=scores)["scores"]
    check_scores("scores", scores, {})
    y, z_max = check.labels_of(y, *scores.shape, "scores"), check.positive("z_max", z_max)
    if not np.isfinite(scores).all():
        raise ValueError(f"scores: expected finite numbers, got {scores[~np.isfinite(scores)][0]}")
    rows = np.arange(len(scores))
    likeliest = scores.argmax(axis=1)
    with np.errstate(over="ignore", under="ignore"):
        p = np.exp(scores - scores[rows, likeliest, None])
        p[rows, likeliest] = 0
        rest = p.sum(axis=1)
        p[rows, likeliest] = 1
        total = 1 + rest[:, None]
        q = total - p
        q[rows, likeliest] = rest
        p, q = p / total, q / total
        z = -1 / np.maximum(q, 1 / z_max)
        z[rows, y] = 1 / np.maximum(p[rows, y], 1 / z_max)
        return z.astype(scores.dtype), np.maximum(p * q, 2 * np.finfo(scores.dtype).eps).astype(scores.dtype)


LOSSES = {
    "linear": lambda share: share,
    "square": np.square,
    "exponential": lambda share: -np.expm1(-share),
}


def r2_update(
    sample_weight: ArrayLike,
    error: ArrayLike,
    loss: str = "linear",
    learning_rate: float = 1.0,
    *,
    out: Array | None = None,
) -> tuple[Array, float, float]:
    """One round of AdaBoost.R2: weights follow a regressor's errors.

    .. math::

        L_i = ℓ\\Bigl(\\frac{|e_i|}{\\max_j |e_j|}\\Bigr), \\quad \\bar L = \\sum_i w_i L_i, \\quad
        β = \\frac{\\bar L}{1 - \\bar L}, \\quad w_i ← w_i β^{η (1 - L_i)} \\,/\\, Z

    Parameters
    ----------
    sample_weight : array of shape (N,)
        w: at least 0, and not all 0; of any sum, which is made 1 first.
    error : array of shape (N,)
        e: what the regressor is off by, of either sign. Of rows of weight 0 it does not matter.
    loss : {"linear", "square", "exponential"}
        ℓ(t): t, t² or 1 - exp(-t).
    learning_rate : float
        η, above 0.
    out : array of shape (N,) or None
        As in `samme_update`.

    Returns
    -------
    sample_weight : array of shape (N,)
        The new weights, of sum 1; the old ones where all errors are 0. Those of 0 stay 0.
    estimator_weight : float
        η ln(1/β), the weight of the regressor in the median; inf where all errors are 0.
    average_loss : float
        Below 0.5.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ. Lists are cast.
    ValueError
        A shape does not fit; weights are negative or not finite, or none is above 0; errors are NaN or infinite; the
        average loss is 0.5 or more; `loss` is none; `learning_rate` or `out` does not fit.

    References
    ----------
    Drucker, Improving Regressors using Boosting Techniques, Proc. 14th International Conference on Machine Learning
    (1997).

    Examples
    --------
    >>> from fastml import boosting
    >>> w, estimator_weight, average_loss = boosting.r2_update([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0])
    >>> w.round(6).tolist(), round(estimator_weight, 6), average_loss
    ([0.166667, 0.166667, 0.166667, 0.5], 1.098612, 0.25)
    """
    a = _weights(sample_weight, error=error)
    check.shape("error", a.error, "N", a.sizes)
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(map(repr, LOSSES))}, got {loss!r}")
    learning_rate = check.positive("learning_rate", learning_rate)
    new = _new(out, sample_weight, a, error=error)
    heaviest = check_weights(a.sample_weight)
    size = np.where(a.sample_weight > 0, np.abs(a.error), 0)
    most = size.max()
    if not most < np.inf:
        raise ValueError(f"error: expected finite numbers, got {a.error[~(size < np.inf)][0]}")
    share = LOSSES[loss](size / (most or 1)).astype(a.dtype, copy=False)
    scaled = np.ldexp(a.sample_weight, -math.frexp(heaviest)[1]).astype("float64")
    average = float((scaled * share).sum() / scaled.sum())
    if average >= 0.5:
        raise ValueError(f"error: expected an average loss below 0.5, got {average:.6g}")
    if average == 0:
        if abs(float(a.sample_weight.sum(dtype="float64")) - 1) <= ONE[a.dtype]:
            new[...] = a.sample_weight
        else:
            new[...] = scaled / scaled.sum()
        return new, math.inf, 0.0
    log_beta = math.log(average) - math.log1p(-average)
    with np.errstate(over="ignore"):
        exponent = (share - 1) * a.dtype.type(-learning_rate * log_beta)
    return _follow(a, exponent, "error", new), -learning_rate * log_beta, average


# --------------------------------------------------------------------------------------------- decisions by weights


def trim(sample_weight: ArrayLike, keep: float = 0.95) -> Array:
    """The fewest rows that have a share of the weight: those that the next round is fitted on.

    Parameters
    ----------
    sample_weight : array of shape (N,)
        At least 0, and not all 0; of any sum.
    keep : float
        The share, above 0 and up to 1. 1 keeps every row whose weight is above 0.

    Returns
    -------
    array of integers
        Their places, rising. Of rows of equal weight the first ones are kept.

    Raises
    ------
    TypeError
        Weights are neither float32 nor float64, or `keep` is no number. Lists are cast.
    ValueError
        Weights are negative or not finite, or none is above 0; `keep` is not above 0 and up to 1.

    Notes
    -----
    Halves the rows in question at each step (quickselect), so that the cost is O(N), without a sort.

    References
    ----------
    Friedman, Hastie and Tibshirani (2000), 9.

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.trim([0.05, 0.5, 0.05, 0.4], keep=0.9).tolist()
    [1, 3]
    """
    weights, keep = _weights(sample_weight).sample_weight, check.positive("keep", keep, 1)
    most = check_weights(weights)
    if keep == 1:
        return np.flatnonzero(weights)
    weights = np.ldexp(weights, -math.frexp(most)[1]).astype("float64")  # or the sum might overflow
    some, wanted = weights, keep * weights.sum()
    while True:
        pivot = np.partition(some, len(some) // 2)[len(some) // 2]
        above, equal = some[some > pivot], some[some == pivot]
        mass = above.sum()
        if mass >= wanted:
            some = above
        elif mass + pivot * len(equal) >= wanted or pivot <= some.min():
            break
        else:
            some, wanted = some[some < pivot], wanted - mass - pivot * len(equal)
    kept = weights > pivot
    ties = min(len(equal), math.ceil((wanted - mass) / pivot)) if pivot else 0
    kept[np.flatnonzero(weights == pivot)[:ties]] = True
    return np.flatnonzero(kept)


def weighted_quantile(values: ArrayLike, weights: ArrayLike, q: float) -> Array | float:
    """The values at which the cumulated weight first reaches a share of the total, in each row.

    Parameters
    ----------
    values : array of shape (N, M) or (M,)
        Of each row, one for each of M weights. NaN counts as the largest.
    weights : array of shape (M,)
        At least 0, and not all 0.
    q : float
        The share, from 0 to 1.

    Returns
    -------
    array of shape (N,), or float for values (M,)
        One of the row's values, none interpolated; never one of weight 0.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ. Lists are cast.
    ValueError
        A shape does not fit, weights are negative or not finite, none is above 0, or q is no number from 0 to 1.

    Notes
    -----
    With q = 0.5 this is how AdaBoost.R2 predicts, and `values` its regressors' predictions. Weights are cumulated in
    float64. Memory: that of 4096 rows besides the answer.

    References
    ----------
    Drucker (1997).

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.weighted_quantile([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [1.0, 1.0, 2.0], 0.5).tolist()
    [2.0, 2.0]
    """
    for name, value in {"values": values, "weights": weights}.items():
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
    a = SimpleNamespace(**check.arrays(values=values, weights=weights))
    sizes: dict[str, tuple[int, str]] = {}
    check.shape("values", a.values, "N M" if a.values.ndim == 2 else "M", sizes)
    check.shape("weights", a.weights, "M", sizes)
    q = check.number("q", q, 0, 1)
    if not ((a.weights >= 0) & (a.weights < np.inf)).all():
        raise ValueError("weights: expected finite numbers of at least 0")
    counted = np.flatnonzero(a.weights)
    if not len(counted):
        raise ValueError("weights: expected a weight above 0, got none")
    rows = np.atleast_2d(a.values)
    weights = a.weights[counted].astype("float64")
    weights = np.ldexp(weights, -int(math.frexp(weights.max())[1]))  # or the sum might overflow
    found = np.empty(len(rows), rows.dtype)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK, counted]
        order = np.argsort(block, axis=1, kind="stable")
        reached = np.cumsum(weights[order], axis=1)
        place = (reached >= q * reached[:, -1:]).argmax(axis=1)[:, None]
        found[start : start + BLOCK] = np.take_along_axis(block, np.take_along_axis(order, place, 1), 1)[:, 0]
    return found if a.values.ndim == 2 else float(found[0])


def weighted_median(values: ArrayLike, weights: ArrayLike) -> Array | float:
    """`weighted_quantile` at one half: the prediction of AdaBoost.R2.

    Parameters
    ----------
    values, weights
        As in `weighted_quantile`.

    Returns
    -------
    array of shape (N,), or float for values (M,)
        One of the row's values, at which the weight of the values up to it first reaches half of the total.

    Raises
    ------
    TypeError, ValueError
        As in `weighted_quantile`.

    References
    ----------
    Drucker (1997).

    Examples
    --------
    >>> from fastml import boosting
    >>> boosting.weighted_median([5.0, 1.0, 3.0], [1.0, 1.0, 1.0])
    3.0
    """
    return weighted_quantile(values, weights, 0.5)
