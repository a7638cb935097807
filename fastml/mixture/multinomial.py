"""Multinomial mixtures of counts, such as words in documents: responsibilities, and steps of expectation-maximisation.

X holds counts: an array (N, V) of floats or integers, or compressed rows as scipy.sparse has them. They need not be
whole numbers: the gamma function stands for factorials.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check
from ..backend import find
from ..kernels.table import TILE, Rows
from .rows import check_distributions, check_sample_weight, summed

__all__ = [
    "Counts",
    "MultinomialStatistics",
    "Multinomials",
    "coefficients",
    "counts_of",
    "multinomial_em_step",
    "multinomial_log_density",
    "multinomial_responsibilities",
    "multinomial_statistics",
    "multinomial_update",
    "smoothing",
    "updated",
]

Array = NDArray[Any]
Parameters = tuple[Array, Array]


class _Impossible(NamedTuple):
    """Stands for ln 0, as kernels take finite logarithms alone.

    A power of 2, so that sums of whole counts times it are exact, and rows with as many impossible words tie; times the
    most words of a row it stays below the largest number of the dtype. Likelihoods below `threshold` are those of rows
    that no component can produce: counts of impossible words from 1e-7 (float32) or 1e-30 (float64) on give such.
    """

    logarithm: float
    threshold: float
    most: float  # words of a row


IMPOSSIBLE = {
    np.dtype("float32"): _Impossible(-(2.0**90), -1e20, 1e11),
    np.dtype("float64"): _Impossible(-(2.0**600), -1e150, 1e100),
}


# ------------------------------------------------------------------------------------------------------------ counts


class Counts(NamedTuple):
    """Checked counts, ready for the kernels: of rows, those of each word at most once in `Rows`."""

    X: Array | Rows
    N: int
    V: int
    total: Array  # (N,), float64: the words of each row

    @property
    def dtype(self) -> np.dtype:
        return self.X.data.dtype if isinstance(self.X, Rows) else self.X.dtype


def _compressed(X: Any) -> Any:
    """X in compressed rows where it is sparse, else None."""
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    return X if all(hasattr(X, name) for name in ("indptr", "indices", "data", "shape")) else None


def counts_of(X: Any, values: Array) -> Counts:
    """Check counts: an array, or what is sparse; `values` are its numbers, in the dtype of the computation."""
    sparse = _compressed(X)
    sizes: dict[str, tuple[int, str]] = {}
    check.shape("X", values if sparse is None else np.broadcast_to(0, sparse.shape), "N V", sizes)
    N, V = sizes["N"][0], sizes["V"][0]
    if sparse is None:
        counts, total = values, values.sum(axis=1, dtype="float64")
    else:
        counts = _rows(sparse, values, N, V)
        total = np.bincount(_row(counts), weights=counts.data, minlength=N)
        values = counts.data
    most = IMPOSSIBLE[values.dtype].most
    if not (values.min(initial=0) >= 0 and total.max(initial=0) <= most):  # NaN and infinities fail, too
        wrong = values[~((values >= 0) & (values < np.inf))]
        if wrong.size:
            raise ValueError(f"X: expected finite counts of at least 0, got {wrong[0]}")
        raise ValueError(f"X: expected at most {most:g} words in a row of {values.dtype}, got {total.max():g}")
    return Counts(counts, N, V, total)


def _rows(X: Any, values: Array, N: int, V: int) -> Rows:
    """Checked compressed rows. Words out of order are sorted, and those named twice in a row summed, in a copy."""
    indptr, indices = (check.integers("X", part).astype(np.intp, copy=False) for part in (X.indptr, X.indices))
    if indptr.shape != (N + 1,) or indices.ndim != 1 or values.ndim != 1:
        raise ValueError(
            f"X: expected indptr of shape (N+1,) = ({N + 1},), and indices and data of one axis, "
            f"got {indptr.shape}, {indices.shape} and {values.shape}"
        )
    if indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] > min(len(indices), len(values)):
        raise ValueError("X: expected indptr that starts at 0, never falls, and ends within indices and data")
    values, indices = values[: indptr[-1]], np.ascontiguousarray(indices[: indptr[-1]])
    wrong = (indices < 0) | (indices >= V)
    if wrong.any():
        raise ValueError(f"X: expected 0 ≤ index < V = {V}, got {indices[wrong][0]}")
    rows = Rows(values, indices, np.ascontiguousarray(indptr))
    place = _row(rows) * V + indices
    if (np.diff(place) > 0).all():
        return rows
    places, entry = np.unique(place, return_inverse=True)
    summed = np.bincount(entry, weights=values).astype(values.dtype)
    return Rows(summed, places % V, np.searchsorted(places, np.arange(N + 1) * V))


def _row(rows: Rows) -> Array:
    """Of each count, its row."""
    return np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))


def _entries(counts: Counts) -> Iterator[tuple[slice, Array, Array]]:
    """(rows, the row in it of each count that is not 0, those counts), tile after tile."""
    for start in range(0, counts.N, TILE):
        rows = slice(start, min(start + TILE, counts.N))
        if isinstance(counts.X, Rows):
            indptr = counts.X.indptr[start : rows.stop + 1]
            values = counts.X.data[indptr[0] : indptr[-1]]
            yield rows, np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), values
        else:
            row, word = np.nonzero(counts.X[rows])
            yield rows, row, counts.X[rows][row, word]


def _log_factorials(values: Array) -> Array:
    """ln Γ(c + 1), once for each value that occurs."""
    each, place = np.unique(values.astype("float64"), return_inverse=True)
    return np.array([math.lgamma(value + 1) for value in each.tolist()])[place]


def coefficients(counts: Counts) -> Array:
    """ln |d|! - Σ ln c! of each row: the part of its log-likelihood that no parameter changes. (N,), float64."""
    found = _log_factorials(counts.total)
    for rows, row, values in _entries(counts):
        found[rows] -= np.bincount(row, weights=_log_factorials(values), minlength=rows.stop - rows.start)
    return found


# ------------------------------------------------------------------------------------------------------- the mixture


class Multinomials:
    """A mixture, prepared for the kernels in one dtype. Nothing is checked; weights None are ones.

    Its likelihoods are without the multinomial coefficient, which `coefficients` gives.
    """

    def __init__(self, weights: Array | None, probabilities: Array, dtype: np.dtype) -> None:
        self.K, self.V = probabilities.shape
        self.dtype = np.dtype(dtype)
        self.impossible = IMPOSSIBLE[self.dtype]
        probabilities = np.asarray(probabilities, "float64")
        with np.errstate(divide="ignore"):
            self.logs = np.maximum(np.log(probabilities), self.impossible.logarithm)
            constants = np.zeros(self.K) if weights is None else np.log(np.asarray(weights, "float64"))
        self.log_probabilities = np.ascontiguousarray(self.logs, self.dtype)
        self.constants = constants.astype(self.dtype)

    def posterior(self, counts: Counts, *wanted: str) -> list[Array]:
        """What is wanted of "resp" (N, K), "log_likelihood" (N,) and "labels" (N,)."""
        outputs = {
            "resp": ((counts.N, self.K), self.dtype),
            "log_likelihood": ((counts.N,), self.dtype),
            "labels": ((counts.N,), np.intp),
        }
        arrays = {name: np.empty(*outputs[name]) if name in wanted else None for name in outputs}
        find("multinomial_responsibilities").function(
            counts.X, self.log_probabilities, self.constants, *arrays.values()
        )
        likelihood = arrays["log_likelihood"]
        if likelihood is not None:
            likelihood[likelihood < self.impossible.threshold] = -np.inf
        return [arrays[name] for name in wanted]

    def log_prior(self, alpha: float | Array) -> float:
        """Σ α ln θ over all components: what a step of EM increases together with the log-likelihood."""
        total = float(self.logs.sum(axis=0) @ np.broadcast_to(alpha, self.V))
        return total if total >= self.impossible.threshold else -math.inf

    def statistics(self) -> "MultinomialStatistics":
        """Of no rows yet."""
        return MultinomialStatistics(self.dtype, np.zeros(self.K), np.zeros((self.K, self.V)), 0.0, 0.0, 0.0)

    def add(
        self, statistics: "MultinomialStatistics", counts: Counts, sample_weight: Array | None
    ) -> "MultinomialStatistics":
        """The statistics with those of more rows, summed in the same arrays; likelihoods without coefficients."""
        likelihood = np.array([statistics.log_likelihood])
        find("multinomial_statistics").function(
            counts.X, sample_weight, self.log_probabilities, self.constants,
            statistics.n, statistics.counts, likelihood,
        )  # fmt: skip
        total = float(likelihood[0]) if likelihood[0] >= self.impossible.threshold else -math.inf
        if sample_weight is None:
            return replace(statistics, log_likelihood=total, weight=statistics.weight + counts.N)
        return replace(statistics, log_likelihood=total, weight=summed(sample_weight, statistics.weight))


@dataclass(frozen=True, eq=False)
class MultinomialStatistics:
    """The sufficient statistics of a multinomial mixture: sums over rows.

    Those of two parts of the data add up, with `+`, to those of the whole; a factor (`*`) weighs them. All float64.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the data.
    n : array of shape (K,)
        Σ r, each component's share of the rows.
    counts : array of shape (K, V)
        Σ r x, each component's share of the words. All of them together are the words of all rows.
    log_likelihood : float
        Of all rows, `log_coefficient` in it. -inf where no component can produce one of them.
    log_coefficient : float
        Σ (ln |d|! - Σ ln c!): the logarithms of the rows' multinomial coefficients.
    weight : float
        The number of rows, or the sum of their weights.

    Examples
    --------
    >>> from fastml import mixture
    >>> model = [1.0], [[0.5, 0.5]]
    >>> both = mixture.multinomial_statistics([[2, 1]], *model) + mixture.multinomial_statistics([[0, 3]], *model)
    >>> both.n.round(6).tolist(), both.counts.round(6).tolist(), both.weight
    ([2.0], [[2.0, 4.0]], 2.0)
    """

    dtype: np.dtype
    n: Array
    counts: Array
    log_likelihood: float
    log_coefficient: float
    weight: float

    def __add__(self, other: "MultinomialStatistics") -> "MultinomialStatistics":
        if not isinstance(other, MultinomialStatistics):
            return NotImplemented
        if self.dtype != other.dtype:
            raise ValueError(f"other: expected statistics of dtype {self.dtype}, got {other.dtype}")
        if self.counts.shape != other.counts.shape:
            raise ValueError(f"other: expected (K, V) = {self.counts.shape}, got {other.counts.shape}")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in SUMS})

    def __mul__(self, factor: float) -> "MultinomialStatistics":
        return replace(self, **{name: getattr(self, name) * factor for name in SUMS})

    __rmul__ = __mul__


SUMS = ("n", "counts", "log_likelihood", "log_coefficient", "weight")


def updated(statistics: MultinomialStatistics, alpha: float | Array) -> Parameters:
    """`multinomial_update` in float64."""
    smoothed = statistics.counts + alpha
    smoothed[smoothed.sum(axis=1) == 0] = 1
    return statistics.n / statistics.n.sum(), smoothed / smoothed.sum(axis=1, keepdims=True)


def smoothing(alpha: ArrayLike, V: int) -> float | Array:
    """A checked `alpha`: a number, or an array (V,), in float64."""
    found = np.asarray(alpha)
    if found.dtype.kind not in "iuf":
        raise TypeError(f"alpha: expected a number or an array of numbers, got {alpha!r}")
    found = found.astype("float64")
    if found.shape not in ((), (V,)):
        raise ValueError(f"alpha: expected a number, or shape (V,) = ({V},), got {found.shape}")
    if not ((found >= 0) & (found < np.inf)).all():
        raise ValueError(f"alpha: expected finite numbers of at least 0, got {alpha}")
    return found if found.ndim else float(found)


# --------------------------------------------------------------------------------------------------------- functions


def _checked(X: Any, probabilities: ArrayLike, **others: ArrayLike | None) -> SimpleNamespace:
    """The checked arguments: X as `Counts`, arrays by name, and the dtype. Others are weights and sample_weight."""
    for name, value in {"X": X, "probabilities": probabilities, **others}.items():
        if value is None and name != "sample_weight":
            raise TypeError(f"{name}: expected an array, got None")
    sparse = _compressed(X)
    values = X if sparse is None else sparse.data
    found = check.arrays(X=values, **others, probabilities=probabilities)
    counts = counts_of(X, found.pop("X"))
    sizes = {"N": (counts.N, "X"), "V": (counts.V, "X")}
    check.shape("probabilities", found["probabilities"], "K V", sizes)
    for letter in "VK":
        if sizes[letter][0] < 1:
            raise ValueError(f"probabilities: expected {letter} of at least 1, got 0")
    check_distributions("probabilities", found["probabilities"])
    if "weights" in found:
        check.shape("weights", found["weights"], "K", sizes)
        check_distributions("weights", found["weights"])
    if found.get("sample_weight") is not None:
        check.shape("sample_weight", found["sample_weight"], "N", sizes)
        check_sample_weight(found["sample_weight"])
    return SimpleNamespace(**found, counts=counts, dtype=found["probabilities"].dtype)


def multinomial_log_density(X: ArrayLike, probabilities: ArrayLike) -> Array:
    """Logarithms of the components' probabilities of each row, without weights.

    .. math:: \\ln P(x | θ_k) = \\ln |x|! - \\sum_v \\ln x_v! + \\sum_v x_v \\ln θ_{kv}, \\quad |x| = \\sum_v x_v

    Parameters
    ----------
    X : array of shape (N, V), or compressed rows
        Counts, at least 0: floats or integers, whole numbers or not. Sparse ones are those of scipy.sparse, or have
        `indptr`, `indices`, `data` and `shape` as its compressed rows do. N may be 0; a row may be empty.
    probabilities : array of shape (K, V)
        θ: at least 0, and each row of sum 1.

    Returns
    -------
    array of shape (N, K)
        In nats. -inf where a component gives probability 0 to a word of the row.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ. Lists and integer arrays are cast.
    ValueError
        A shape does not fit; counts are negative, not finite, or more than 1e11 (float32) or 1e100 (float64) in a row;
        probabilities are negative or do not sum to 1.

    Notes
    -----
    Accuracy: sums are of the dtype of X, but for multinomial coefficients, which are float64. Cost: 2·N·K·V operations,
    of sparse counts 2·K for each count; and a logarithm of the gamma function for each value of a count. Counts of
    impossible words below 1e-7 (float32) or 1e-30 (float64) do not give -inf but a number beyond all likelihoods.

    Examples
    --------
    >>> from fastml import mixture
    >>> mixture.multinomial_log_density([[1, 1], [2, 0]], [[0.5, 0.5], [1.0, 0.0]]).round(6).tolist()
    [[-0.693147, -inf], [-1.386294, 0.0]]
    """
    a = _checked(X, probabilities)
    found = np.empty((a.counts.N, len(a.probabilities)), a.dtype)
    coefficient = coefficients(a.counts)
    for k, row in enumerate(a.probabilities):
        found[:, k] = Multinomials(None, row[None], a.dtype).posterior(a.counts, "log_likelihood")[0] + coefficient
    return found


def multinomial_responsibilities(X: ArrayLike, weights: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array]:
    """Each row's probabilities of having come from each component: the E-step.

    .. math:: r_{nk} = π_k \\prod_v θ_{kv}^{x_{nv}} \\,/\\, \\sum_j π_j \\prod_v θ_{jv}^{x_{nv}}

    Parameters
    ----------
    X, probabilities
        As in `multinomial_log_density`.
    weights : array of shape (K,)
        π: at least 0, and of sum 1.

    Returns
    -------
    resp : array of shape (N, K)
        Rows sum to 1. A row that no component can produce belongs in equal shares to those that find the fewest of its
        words impossible; a row without words to all, as `weights` say.
    log_likelihood : array of shape (N,)
        ln Σ_k π_k P(x_n | θ_k), multinomial coefficient included, in nats; -inf where no component can produce the row.

    Raises
    ------
    TypeError, ValueError
        As in `multinomial_log_density`; or `weights` are negative, or do not sum to 1.

    Notes
    -----
    Cost: as `multinomial_log_density`, and N·K exponentials. Bitwise the same for any number of threads.

    References
    ----------
    Nigam, McCallum, Thrun and Mitchell, Text Classification from Labeled and Unlabeled Documents using EM, Machine
    Learning 39 (2000).

    Examples
    --------
    >>> from fastml import mixture
    >>> theta = [[0.75, 0.25], [0.25, 0.75]]
    >>> resp, log_likelihood = mixture.multinomial_responsibilities([[1, 0], [0, 2]], [0.5, 0.5], theta)
    >>> resp.round(6).tolist()
    [[0.75, 0.25], [0.1, 0.9]]
    """
    a = _checked(X, probabilities, weights=weights)
    model = Multinomials(a.weights, a.probabilities, a.dtype)
    resp, log_likelihood = model.posterior(a.counts, "resp", "log_likelihood")
    return resp, (log_likelihood + coefficients(a.counts)).astype(a.dtype)


def multinomial_statistics(
    X: ArrayLike, weights: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> MultinomialStatistics:
    """The sufficient statistics of X under a mixture: the E-step, and the sums that the M-step needs.

    Parameters
    ----------
    X, weights, probabilities
        As in `multinomial_responsibilities`.
    sample_weight : array of shape (N,) or None
        How many times each row counts, at least 0; None for once.

    Returns
    -------
    MultinomialStatistics
        Those of two parts of the data add up to those of the whole.

    Raises
    ------
    TypeError, ValueError
        As in `multinomial_responsibilities`; or `sample_weight` is negative or not finite.

    Notes
    -----
    X is read once, in tiles; no N × K array exists. Memory: K·V numbers for each thread. Bitwise the same for any
    number of threads.

    References
    ----------
    Nigam et al. (2000).

    Examples
    --------
    >>> from fastml import mixture
    >>> found = mixture.multinomial_statistics([[1, 0], [0, 2]], [0.5, 0.5], [[0.75, 0.25], [0.25, 0.75]])
    >>> found.n.round(6).tolist(), found.counts.round(6).tolist()
    ([0.85, 1.15], [[0.75, 0.2], [0.25, 1.8]])
    """
    return _statistics(_checked(X, probabilities, weights=weights, sample_weight=sample_weight))


def _statistics(a: SimpleNamespace) -> MultinomialStatistics:
    model = Multinomials(a.weights, a.probabilities, a.dtype)
    found = model.add(model.statistics(), a.counts, a.sample_weight)
    each = coefficients(a.counts)
    coefficient = summed(each if a.sample_weight is None else each * a.sample_weight)
    return replace(found, log_likelihood=found.log_likelihood + coefficient, log_coefficient=coefficient)


def multinomial_update(statistics: MultinomialStatistics, *, alpha: float | ArrayLike = 1.0) -> Parameters:
    """The most probable parameters, given statistics and a Dirichlet prior: the M-step.

    .. math:: π_k = N_k / N, \\quad θ_{kv} = (c_{kv} + α_v) \\,/\\, \\sum_u (c_{ku} + α_u)

    Parameters
    ----------
    statistics : MultinomialStatistics
    alpha : float, or array of shape (V,)
        α, at least 0: added to the counts of each word, as if it had been seen that often more. 0 gives the largest
        likelihood, 1 Laplace's rule. The prior of each θ_k is Dirichlet's with parameters α + 1.

    Returns
    -------
    weights (K,), probabilities (K, V)
        In the dtype of the data. Without counts and smoothing, a component's words are as probable as each other.

    Raises
    ------
    TypeError, ValueError
        `statistics` are none, or have no rows; `alpha` is negative, not finite or of the wrong shape.

    References
    ----------
    Nigam et al. (2000), 3 and 4, with α = 1.

    Examples
    --------
    >>> from fastml import mixture
    >>> found = mixture.multinomial_statistics([[3, 1]], [1.0], [[0.5, 0.5]])
    >>> mixture.multinomial_update(found, alpha=0)[1].tolist(), mixture.multinomial_update(found, alpha=2)[1].tolist()
    ([[0.75, 0.25]], [[0.625, 0.375]])
    """
    if not isinstance(statistics, MultinomialStatistics):
        raise TypeError(f"statistics: expected MultinomialStatistics, got {type(statistics).__name__}")
    alpha = smoothing(alpha, statistics.counts.shape[1])
    if not statistics.weight > 0:
        raise ValueError("statistics: expected rows of a weight above 0, got none")
    weights, probabilities = updated(statistics, alpha)
    return weights.astype(statistics.dtype), probabilities.astype(statistics.dtype)


def multinomial_em_step(
    X: ArrayLike,
    weights: ArrayLike,
    probabilities: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float | ArrayLike = 1.0,
) -> tuple[Array, Array, float]:
    """One step of expectation-maximisation: `multinomial_statistics`, then `multinomial_update`.

    Parameters
    ----------
    X, weights, probabilities, sample_weight
        As in `multinomial_statistics`.
    alpha : float, or array of shape (V,)
        As in `multinomial_update`.

    Returns
    -------
    weights (K,), probabilities (K, V)
        The new parameters, in the dtype of X.
    mean_log_likelihood : float
        Of a row, in nats, before the step. No step lowers its sum over rows and Σ_kv α_v ln θ_kv; with `alpha` 0, the
        likelihood itself.

    Raises
    ------
    TypeError, ValueError
        As in `multinomial_statistics` and `multinomial_update`; or all weights of the rows are 0, or N is 0.

    Notes
    -----
    Cost: 4·N·K·V operations, of sparse counts 4·K for each count; see `multinomial_statistics` for memory.

    References
    ----------
    Nigam et al. (2000).

    Examples
    --------
    >>> from fastml import mixture
    >>> X, theta = [[4, 0, 1], [0, 5, 0], [5, 0, 0]], [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]]
    >>> weights, theta, mean_log_likelihood = mixture.multinomial_em_step(X, [0.5, 0.5], theta, alpha=0)
    >>> theta.round(2).tolist()
    [[0.9, 0.0, 0.1], [0.01, 0.98, 0.0]]
    """
    a = _checked(X, probabilities, weights=weights, sample_weight=sample_weight)
    alpha = smoothing(alpha, a.counts.V)
    found = _statistics(a)
    if not found.weight > 0:
        raise ValueError(f"{'X' if a.counts.N == 0 else 'sample_weight'}: expected rows of a weight above 0, got none")
    return *multinomial_update(found, alpha=alpha), found.log_likelihood / found.weight
