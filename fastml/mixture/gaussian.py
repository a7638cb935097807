"""Gaussian mixtures: densities, responsibilities, and the steps of expectation-maximisation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check
from ..backend import find
from ..kernels.table import FACTORS, shape_of
from .rows import block_rows, check_distributions, check_sample_weight, summed

__all__ = [
    "COVARIANCE_TYPES",
    "Gaussians",
    "Statistics",
    "conditional",
    "em_step",
    "entropy",
    "factors_of",
    "log_density",
    "marginal",
    "q_function",
    "responsibilities",
    "sample",
    "statistics",
    "update",
]

COVARIANCE_TYPES = tuple(FACTORS)
"""full (K, D, D): each component its own; tied (D, D): one for all; diag (K, D): variances; spherical (K,)."""

Array = NDArray[Any]
Parameters = tuple[Array, Array, Array]

LEAF = 8  # rows of the blocks that `_inverse` hands to LAPACK


# ------------------------------------------------------------------------------------------------------- covariances


def factors_of(covariances: Array, covariance_type: str) -> Array:
    """U with U Uᵀ = Σ⁻¹, upper triangular, in float64; of variances 1/σ. ValueError unless Σ is positive definite."""
    covariances = np.asarray(covariances, "float64")
    if covariance_type in ("diag", "spherical"):
        wrong = ~((covariances > 0) & (covariances < np.inf))
        if wrong.any():
            raise ValueError(f"covariances: expected positive variances, got {covariances[wrong][0]}")
        return 1 / np.sqrt(covariances)
    try:
        lower = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        raise ValueError("covariances: expected positive definite matrices, got one that is not") from None
    if not np.isfinite(lower).all():
        raise ValueError("covariances: expected positive definite matrices, got one that is not finite")
    return np.swapaxes(_inverse(lower), -1, -2)


def _inverse(lower: Array) -> Array:
    """Of triangular matrices (…, D, D): that of blocks on the diagonal, then of blocks twice as large, and so on.

    [A 0; B C]⁻¹ = [A⁻¹ 0; -C⁻¹ B A⁻¹ C⁻¹]. Half the time of np.linalg.inv at K = 16, D = 64.
    """
    *batch, D, _ = lower.shape
    size = D if D <= LEAF else LEAF
    n = size
    while n < D:
        n *= 2
    a = np.zeros((*batch, n, n))
    a[..., range(D, n), range(D, n)] = 1
    a[..., :D, :D] = lower

    def blocks(offset: int) -> Array:  # (…, block, size, size) on the diagonal, or beside it, as a view
        step = 2 * size if offset else size
        rows, columns = a.strides[-2:]
        start = a[..., offset:, :]
        return np.lib.stride_tricks.as_strided(
            start, (*batch, n // step, size, size), (*a.strides[:-2], step * (rows + columns), rows, columns)
        )

    diagonal = blocks(0)
    diagonal[...] = np.tril(np.linalg.inv(diagonal))
    while size < n:
        diagonal, below = blocks(0), blocks(size)
        below[...] = -(diagonal[..., 1::2, :, :] @ below @ diagonal[..., ::2, :, :])
        size *= 2
    return np.ascontiguousarray(a[..., :D, :D])


def _log_determinants(factors: Array, covariance_type: str, D: int) -> Array:
    """ln |U| of each component, or of the one that all share."""
    if covariance_type in ("full", "tied"):
        return np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.log(factors).sum(axis=-1) if covariance_type == "diag" else D * np.log(factors)


# ------------------------------------------------------------------------------------------------------- the mixture


class Gaussians:
    """A mixture, prepared for the kernels in one dtype. Nothing is checked; weights None are ones."""

    def __init__(
        self, weights: Array | None, means: Array, factors: Array, covariance_type: str, dtype: np.dtype
    ) -> None:
        self.K, self.D = means.shape
        self.covariance_type, self.dtype = covariance_type, dtype
        self.means = np.ascontiguousarray(means, dtype)
        self.factors = np.ascontiguousarray(factors, dtype)
        with np.errstate(divide="ignore"):
            log_weights = 0.0 if weights is None else np.log(np.asarray(weights, "float64"))
        constants = log_weights + _log_determinants(factors, covariance_type, self.D) - self.D / 2 * np.log(2 * np.pi)
        self.constants = np.broadcast_to(constants, self.K).astype(dtype)

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.means, self.factors, self.constants, self.covariance_type

    def log_density(self, X: Array) -> Array:
        """ln of each component's density, with its weight: (N, K)."""
        out = np.empty((len(X), self.K), self.dtype)
        find("gaussian_log_density").function(X, *self.arguments, out)
        return out

    def posterior(self, X: Array, *wanted: str) -> list[Array]:
        """What is wanted of "resp" (N, K), "log_likelihood" (N,) and "labels" (N,)."""
        outputs = {
            "resp": ((len(X), self.K), self.dtype),
            "log_likelihood": ((len(X),), self.dtype),
            "labels": ((len(X),), np.intp),
        }
        arrays = {name: np.empty(*outputs[name]) if name in wanted else None for name in outputs}
        find("gaussian_responsibilities").function(X, *self.arguments, *arrays.values())
        likelihood = arrays["log_likelihood"]
        if likelihood is not None and np.isnan(likelihood).any():  # no density is above 0, or X is not finite
            far = np.isnan(likelihood)
            likelihood[far] = np.where(np.isfinite(X[far]).all(axis=1), -np.inf, np.nan)
        return [arrays[name] for name in wanted]

    def statistics(self) -> "Statistics":
        """Of no rows yet."""
        D, K = self.D, self.K
        second = np.zeros(shape_of(FACTORS[self.covariance_type], {"D": D, "K": K}))
        means = self.means.astype("float64")
        return Statistics(self.covariance_type, self.dtype, means, np.zeros(K), np.zeros((K, D)), second, 0.0, 0.0)

    def scatter(self, X: Array, sample_weight: Array | None, into: "Statistics | None" = None) -> "Statistics":
        """The statistics of one component at the middle of the means, of all rows: what "tied" needs besides.

        In float64 whatever the dtype of X: the scatter within components is a small difference of these. It does not
        change from step to step while the middle stays.
        """
        into = into or _single(self.means.mean(axis=0, dtype="float64"))
        one = Gaussians(None, into.means, np.eye(self.D)[None], "full", np.dtype("float64"))
        size = block_rows(8 * self.D)
        for start in range(0, len(X), size):
            rows = slice(start, start + size)
            weight = None if sample_weight is None else sample_weight[rows].astype("float64", copy=False)
            into = one.add(into, X[rows].astype("float64", copy=False), weight)
        return into

    def add(self, statistics: "Statistics", X: Array, sample_weight: Array | None) -> "Statistics":
        """The statistics with those of more rows, summed in the same arrays: of "full" the upper triangles of `second`,
        of "tied" nothing of it.
        """
        likelihood = np.array([statistics.log_likelihood])
        tied = self.covariance_type == "tied"
        find("gaussian_statistics").function(
            X, sample_weight, *self.arguments,
            statistics.n, statistics.first, None if tied else statistics.second, likelihood,
        )  # fmt: skip
        weight = statistics.weight + len(X) if sample_weight is None else summed(sample_weight, statistics.weight)
        rows = statistics.rows + len(X)
        return replace(statistics, log_likelihood=float(likelihood[0]), weight=float(weight), rows=rows)


def _single(mean: Array) -> "Statistics":
    """Of no rows yet, one component, full."""
    D = len(mean)
    zeros = np.zeros(1), np.zeros((1, D)), np.zeros((1, D, D))
    return Statistics("full", np.dtype("float64"), mean[None].copy(), *zeros, 0.0, 0.0)


# -------------------------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True, eq=False)
class Statistics:
    """The sufficient statistics of a Gaussian mixture: sums over rows, about the means that they were taken with.

    Those of two parts of the data add up, with `+`, to those of the whole; a factor (`*`) weighs them. All float64.

    Attributes
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}
    dtype : numpy.dtype
        Of the data.
    means : array of shape (K, D)
        The points that `first` and `second` are about.
    n : array of shape (K,)
        Σ r, each component's share of the rows.
    first : array of shape (K, D)
        Σ r (x - μ).
    second : array of the shape of the covariances
        Σ r (x - μ)(x - μ)ᵀ; its diagonal for "diag", summed over components for "tied"; Σ r |x - μ|² for "spherical".
    log_likelihood : float
        Of all rows.
    weight : float
        The number of rows, or the sum of their weights.
    rows : float
        The number of rows.

    Examples
    --------
    >>> from fastml import mixture
    >>> model = [1.0], [[2.0]], [1.0], "spherical"
    >>> both = mixture.statistics([[0.0], [1.0]], *model) + mixture.statistics([[5.0]], *model)
    >>> both.n.tolist(), both.rows, mixture.update(both)[1].round(6).tolist()
    ([3.0], 3.0, [[2.0]])
    """

    covariance_type: str
    dtype: np.dtype
    means: Array
    n: Array
    first: Array
    second: Array
    log_likelihood: float
    weight: float
    rows: float = 0.0

    @property
    def addend(self) -> float:
        """What N_k is above n_k: 10 units of the data's precision, as in scikit-learn, so that a component that lost
        all its rows ends as there; where rows weigh less than 1 on average, so much less.
        """
        light = min(1.0, self.weight / self.rows) if self.rows else 1.0
        return 10 * float(np.finfo(self.dtype).eps) * light

    def about(self, means: Array) -> "Statistics":
        """The same, about other points (K, D).

        Examples
        --------
        >>> import numpy as np
        >>> from fastml import mixture
        >>> found = mixture.statistics([[0.0], [4.0]], [1.0], [[0.0]], [1.0], "spherical")
        >>> found.first.tolist(), found.about(np.array([[2.0]])).first.tolist()
        ([[4.0]], [[0.0]])
        """
        if np.array_equal(means, self.means):
            return self
        d = means - self.means
        first = self.first - self.n[:, None] * d
        if self.covariance_type in ("full", "tied"):
            cross = self.first[:, :, None] * d[:, None, :]
            change = self.n[:, None, None] * (d[:, :, None] * d[:, None, :]) - cross - cross.swapaxes(1, 2)
            second = self.second + (change if self.covariance_type == "full" else change.sum(axis=0))
        else:
            change = self.n[:, None] * d * d - 2 * self.first * d
            second = self.second + (change if self.covariance_type == "diag" else change.sum(axis=1))
        return replace(self, means=means, first=first, second=second)

    def __add__(self, other: "Statistics") -> "Statistics":
        if not isinstance(other, Statistics):
            return NotImplemented
        for name in ("covariance_type", "dtype"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(
                    f"other: expected statistics of {name} {getattr(self, name)}, got {getattr(other, name)}"
                )
        if self.means.shape != other.means.shape:
            raise ValueError(f"other: expected (K, D) = {self.means.shape}, got {other.means.shape}")
        other = other.about(self.means)
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return replace(self, **sums)

    def __mul__(self, factor: float) -> "Statistics":
        return replace(self, **{name: getattr(self, name) * factor for name in SUMS})

    __rmul__ = __mul__


SUMS = ("n", "first", "second", "log_likelihood", "weight", "rows")


def symmetric(second: Array) -> Array:
    """Of (K, D, D), of which kernels give the upper triangles."""
    return np.triu(second) + np.swapaxes(np.triu(second, 1), 1, 2)


def within(statistics: Statistics, scatter: Statistics) -> Statistics:
    """Of "tied": with `second`, from the scatter of all rows about one point."""
    d = statistics.means - scatter.means
    cross = statistics.first.T @ d
    second = symmetric(scatter.second)[0] - cross - cross.T - (statistics.n[:, None] * d).T @ d
    return replace(statistics, second=second)


def updated(statistics: Statistics, reg_covar: float) -> Parameters:
    """`update` in float64.

    N_k is n_k and the addend: a component that lost all its rows ends at the origin, its covariance `reg_covar` alone.
    """
    tiny = statistics.addend
    covariance_type, n = statistics.covariance_type, statistics.n + tiny
    means = statistics.means + (statistics.first - tiny * statistics.means) / n[:, None]
    second = statistics.about(means).second
    # scikit-learn subtracts N_k μμᵀ from the sum of squares, not Σ r μμᵀ. With float64's unit whatever the dtype: that
    # of float32 would add 0.06 to the variances of 2000 rows at 10⁴.
    lost = tiny * float(np.finfo("float64").eps / np.finfo(statistics.dtype).eps)
    if covariance_type == "full":
        covariances = symmetric(second) / n[:, None, None]
        diagonal = np.einsum("kdd->kd", covariances)
    elif covariance_type == "tied":
        covariances = (second + lost * means.T @ means) / n.sum()
        diagonal = np.einsum("dd->d", covariances)
    elif covariance_type == "diag":
        covariances = diagonal = (second + lost * means * means) / n[:, None]
    else:
        covariances = diagonal = (second + lost * np.sum(means * means, axis=1)) / n / means.shape[1]
    diagonal += reg_covar
    return n / n.sum(), means, covariances


# --------------------------------------------------------------------------------------------------------- functions


def _checked(
    covariance_type: str,
    weights: ArrayLike | None,
    means: ArrayLike,
    covariances: ArrayLike,
    **others: ArrayLike | None,
) -> SimpleNamespace:
    """The checked arguments, arrays by name, with K, D, dtype and, of others, N."""
    if not isinstance(covariance_type, str) or covariance_type not in FACTORS:
        raise ValueError(
            f"covariance_type: expected one of {', '.join(map(repr, COVARIANCE_TYPES))}, got {covariance_type!r}"
        )
    needed = {"means": means, "covariances": covariances, "weights": weights if weights is not None else 0}
    for name, value in {**needed, **{name: others[name] for name in ("X",) if name in others}}.items():
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
    found = check.arrays(**others, weights=weights, means=means, covariances=covariances)
    sizes: dict[str, tuple[int, str]] = {}
    if "X" in others:
        check.shape("X", found["X"], "N D", sizes)
    check.shape("means", found["means"], "K D", sizes)
    check.shape("covariances", found["covariances"], FACTORS[covariance_type], sizes)
    for letter in "KD":
        if sizes[letter][0] < 1:
            raise ValueError(f"means: expected {letter} of at least 1, got 0")
    if not np.isfinite(found["means"]).all():
        raise ValueError("means: expected finite numbers")
    if weights is not None:
        check.shape("weights", found["weights"], "K", sizes)
        check_distributions("weights", found["weights"])
    if covariance_type in ("full", "tied"):
        c = found["covariances"]
        if not np.isfinite(c).all():
            raise ValueError("covariances: expected finite numbers")
        if not np.allclose(c, np.swapaxes(c, -1, -2), rtol=1e-5, atol=1e-8 * np.abs(c).max(initial=0.0)):
            raise ValueError("covariances: expected symmetric matrices")
    if found.get("sample_weight") is not None:
        check.shape("sample_weight", found["sample_weight"], "N", sizes)
        check_sample_weight(found["sample_weight"])
    dtype = found["means"].dtype
    return SimpleNamespace(**found, K=sizes["K"][0], D=sizes["D"][0], dtype=dtype, covariance_type=covariance_type)


def _prepared(a: SimpleNamespace) -> Gaussians:
    return Gaussians(a.weights, a.means, factors_of(a.covariances, a.covariance_type), a.covariance_type, a.dtype)


def log_density(X: ArrayLike, means: ArrayLike, covariances: ArrayLike, covariance_type: str = "full") -> Array:
    """Logarithms of the components' densities, without weights.

    .. math:: \\ln N(x; μ_k, Σ_k) = -\\tfrac12 (D \\ln 2π + \\ln |Σ_k| + (x - μ_k)^T Σ_k^{-1} (x - μ_k))

    Parameters
    ----------
    X : array of shape (N, D)
        N may be 0.
    means : array of shape (K, D)
    covariances : array
        full (K, D, D), tied (D, D), diag (K, D) or spherical (K,), as `covariance_type` says; in X's unit squared.
    covariance_type : {"full", "tied", "diag", "spherical"}

    Returns
    -------
    array of shape (N, K)
        In nats. NaN in the rows of X that are not finite, or -inf where they have infinities.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64, or two of them differ. Lists and integer arrays are cast.
    ValueError
        A shape or `covariance_type` does not fit, or a covariance is not positive definite.

    Notes
    -----
    Accuracy: distances from X to a mean are taken before they are multiplied, so that data far from the origin lose
    nothing ("tied": distances from the middle of the means, so that means far from each other lose something).
    Cost: N·K·D² operations (full), N·D² + 3·N·K·D (tied), 4·N·K·D (diag), 3·N·K·D (spherical).

    References
    ----------
    Bishop, Pattern Recognition and Machine Learning (2006), 2.43.

    Examples
    --------
    >>> from fastml import mixture
    >>> mixture.log_density([[0.0], [1.0]], [[0.0]], [1.0], "spherical").round(6).tolist()
    [[-0.918939], [-1.418939]]
    """
    a = _checked(covariance_type, None, means, covariances, X=X)
    return _prepared(a).log_density(a.X)


def responsibilities(
    X: ArrayLike, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, covariance_type: str = "full"
) -> tuple[Array, Array]:
    """Each row's probabilities of having come from each component: the E-step.

    .. math:: r_{nk} = π_k N(x_n; μ_k, Σ_k) \\,/\\, \\sum_j π_j N(x_n; μ_j, Σ_j)

    Parameters
    ----------
    X : array of shape (N, D)
        N may be 0.
    weights : array of shape (K,)
        π: at least 0, and of sum 1.
    means, covariances, covariance_type
        As in `log_density`.

    Returns
    -------
    resp : array of shape (N, K)
        Rows sum to 1. NaN in rows of X that are not finite, or too far from all means for any density to be above 0.
    log_likelihood : array of shape (N,)
        ln Σ_k π_k N(x_n; μ_k, Σ_k), in nats; -inf too far from all means, NaN where X is not finite.

    Raises
    ------
    TypeError, ValueError
        As in `log_density`; or `weights` are negative, or do not sum to 1.

    Notes
    -----
    Cost: as `log_density`, and N·K exponentials. Bitwise the same for any number of threads, and for a row alone or
    among others (`native`).

    References
    ----------
    Bishop (2006), 9.23.

    Examples
    --------
    >>> from fastml import mixture
    >>> means, variances = [[0.0], [1.0]], [1.0, 1.0]
    >>> resp, log_likelihood = mixture.responsibilities([[0.0], [1.0]], [0.5, 0.5], means, variances, "spherical")
    >>> resp.round(6).tolist()
    [[0.622459, 0.377541], [0.377541, 0.622459]]
    """
    a = _checked(covariance_type, weights, means, covariances, X=X)
    resp, log_likelihood = _prepared(a).posterior(a.X, "resp", "log_likelihood")
    return resp, log_likelihood


def entropy(responsibilities: ArrayLike) -> Array:
    """Of each row of responsibilities, -Σ_k r ln r, in nats: 0 where one component has it all, ln K where all share it.

    Parameters
    ----------
    responsibilities : array of shape (N, K)

    Returns
    -------
    array of shape (N,)

    Raises
    ------
    TypeError, ValueError
        Not an array of floats with two axes, or a negative number in it.

    Notes
    -----
    Summed over rows it is the log-likelihood less `q_function` at the same parameters.

    Examples
    --------
    >>> from fastml import mixture
    >>> mixture.entropy([[0.5, 0.5], [1.0, 0.0]]).round(6).tolist()
    [0.693147, 0.0]
    """
    r = check.arrays(responsibilities=responsibilities)["responsibilities"]
    check.shape("responsibilities", r, "N K", {})
    if (r < 0).any():
        raise ValueError("responsibilities: expected numbers of at least 0")
    return -np.einsum("nk,nk->n", r, np.log(np.where(r > 0, r, 1))) + 0.0


def statistics(
    X: ArrayLike,
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    covariance_type: str = "full",
    *,
    sample_weight: ArrayLike | None = None,
) -> Statistics:
    """The sufficient statistics of X under a mixture: the E-step, and the sums that the M-step needs.

    Parameters
    ----------
    X, weights, means, covariances, covariance_type
        As in `responsibilities`.
    sample_weight : array of shape (N,) or None
        How many times each row counts, at least 0; None for once. A row of weight 0 must be finite all the same.

    Returns
    -------
    Statistics
        Those of two parts of the data add up to those of the whole.

    Raises
    ------
    TypeError, ValueError
        As in `responsibilities`; or X is not finite, or `sample_weight` is negative or not finite.

    Notes
    -----
    X is read once, in tiles; no N × K array exists. Memory: K·D² numbers (K·D for diag) for each thread. Bitwise the
    same for any number of threads. "tied" also takes the scatter of all rows, N·D² operations.

    References
    ----------
    Bishop (2006), 9.24 to 9.27.

    Examples
    --------
    >>> from fastml import mixture
    >>> found = mixture.statistics([[0.0], [1.0], [5.0]], [1.0], [[2.0]], [1.0], "spherical")
    >>> found.n.tolist(), found.first.tolist(), found.second.tolist()
    ([3.0], [[0.0]], [14.0])
    """
    a = _checked(covariance_type, weights, means, covariances, X=X, sample_weight=sample_weight)
    return _statistics(a)


def _statistics(a: SimpleNamespace) -> Statistics:
    model = _prepared(a)
    found = model.add(model.statistics(), a.X, a.sample_weight)
    if np.isnan(found.log_likelihood):
        raise ValueError("X: expected finite numbers, got NaN, an infinity, or one beyond the range of the densities")
    if a.covariance_type == "tied":
        return within(found, model.scatter(a.X, a.sample_weight))
    return replace(found, second=symmetric(found.second)) if a.covariance_type == "full" else found


def update(statistics: Statistics, *, reg_covar: float = 1e-6) -> Parameters:
    """The parameters of the largest likelihood, given statistics: the M-step.

    .. math:: π_k = N_k / N, \\quad μ_k = \\sum r x / N_k, \\quad Σ_k = \\sum r (x - μ_k)(x - μ_k)^T / N_k + ε I

    Parameters
    ----------
    statistics : Statistics
    reg_covar : float
        ε, at least 0: added to the variances.

    Returns
    -------
    weights (K,), means (K, D), covariances
        In the dtype of the data.

    Raises
    ------
    TypeError, ValueError
        `statistics` are none, or of no rows, or `reg_covar` is negative or not finite.

    Notes
    -----
    Covariances are centred on the new means. N_k is Σ r and 10 units of the dtype's precision, as in scikit-learn.

    References
    ----------
    Bishop (2006), 9.24 to 9.26.

    Examples
    --------
    >>> from fastml import mixture
    >>> found = mixture.statistics([[0.0], [1.0], [5.0]], [1.0], [[0.0]], [1.0], "spherical")
    >>> weights, means, covariances = mixture.update(found, reg_covar=0)
    >>> means.round(6).tolist(), covariances.round(6).tolist()
    ([[2.0]], [4.666667])
    """
    if not isinstance(statistics, Statistics):
        raise TypeError(f"statistics: expected Statistics, got {type(statistics).__name__}")
    if not statistics.weight > 0:
        raise ValueError("statistics: expected those of rows of a weight above 0, got none")
    weights, means, covariances = updated(statistics, _regularisation(reg_covar))
    return tuple(array.astype(statistics.dtype) for array in (weights, means, covariances))


def _regularisation(reg_covar: float) -> float:
    if isinstance(reg_covar, bool) or not isinstance(reg_covar, (int, float, np.integer, np.floating)):
        raise TypeError(f"reg_covar: expected a number of at least 0, got {reg_covar!r}")
    if not 0 <= reg_covar < np.inf:
        raise ValueError(f"reg_covar: expected a number of at least 0, got {reg_covar!r}")
    return float(reg_covar)


def em_step(
    X: ArrayLike,
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    covariance_type: str = "full",
    *,
    sample_weight: ArrayLike | None = None,
    reg_covar: float = 1e-6,
) -> tuple[Array, Array, Array, float]:
    """One step of expectation-maximisation: `statistics`, then `update`.

    Parameters
    ----------
    X, weights, means, covariances, covariance_type, sample_weight
        As in `statistics`.
    reg_covar : float
        As in `update`.

    Returns
    -------
    weights (K,), means (K, D), covariances
        The new parameters, in the dtype of X.
    mean_log_likelihood : float
        Of a row, in nats, before the step. With `reg_covar` 0 no step lowers it.

    Raises
    ------
    TypeError, ValueError
        As in `statistics` and `update`; or all weights of the rows are 0, or N is 0.

    Notes
    -----
    Cost: 2·N·K·D² operations (full), 8·N·K·D (diag); see `statistics` for memory.

    References
    ----------
    Dempster, Laird and Rubin, Journal of the Royal Statistical Society B 39 (1977).

    Examples
    --------
    >>> from fastml import mixture
    >>> step = mixture.em_step([[0.0], [1.0], [8.0], [9.0]], [0.5, 0.5], [[0.0], [9.0]], [1.0, 1.0], "spherical")
    >>> step[1].round(6).tolist(), step[2].round(6).tolist()
    ([[0.5], [8.5]], [0.250001, 0.250001])
    """
    a = _checked(covariance_type, weights, means, covariances, X=X, sample_weight=sample_weight)
    reg_covar = _regularisation(reg_covar)
    found = _statistics(a)
    if not found.weight > 0:
        raise ValueError(f"{'X' if len(a.X) == 0 else 'sample_weight'}: expected rows of a weight above 0, got none")
    return *update(found, reg_covar=reg_covar), found.log_likelihood / found.weight


def q_function(
    X: ArrayLike,
    new: Sequence[ArrayLike],
    old: Sequence[ArrayLike],
    covariance_type: str = "full",
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Q(θ | θ_t), the expected log-likelihood of rows and components, that the M-step maximises over θ.

    .. math:: Q(θ | θ_t) = \\sum_{nk} r_{nk}(θ_t) \\, (\\ln π_k + \\ln N(x_n; μ_k, Σ_k))

    Parameters
    ----------
    X : array of shape (N, D)
    new, old : (weights, means, covariances)
        θ and θ_t, shaped as in `responsibilities`.
    covariance_type : {"full", "tied", "diag", "spherical"}
    sample_weight : array of shape (N,) or None

    Returns
    -------
    float
        In nats. -inf where θ gives weight 0 to a component that has rows.

    Raises
    ------
    TypeError, ValueError
        As in `statistics`.

    Notes
    -----
    From the sufficient statistics, without an N × K array. Q(θ_t | θ_t) and the entropy of the responsibilities add up
    to the log-likelihood; at other θ they stay below it.

    References
    ----------
    Bishop (2006), 9.40; Dempster, Laird and Rubin (1977).

    Examples
    --------
    >>> from fastml import mixture
    >>> theta = ([1.0], [[0.0]], [1.0])
    >>> round(mixture.q_function([[0.0], [1.0]], theta, theta, "spherical"), 6)
    -2.337877
    """
    for name, theta in {"new": new, "old": old}.items():
        if not isinstance(theta, (tuple, list)) or len(theta) != 3:
            raise TypeError(f"{name}: expected (weights, means, covariances), got {type(theta).__name__}")
    a = _checked(covariance_type, *new, X=X, sample_weight=sample_weight)
    try:
        found = statistics(X, *old, covariance_type, sample_weight=sample_weight)
    except (TypeError, ValueError) as error:
        raise type(error)(f"old: {error}") from None
    if found.means.shape != (a.K, a.D):
        raise ValueError(f"old: expected (K, D) = {(a.K, a.D)} (from new), got {found.means.shape}")
    found = found.about(a.means.astype("float64"))
    factors = factors_of(a.covariances, covariance_type)
    weights = a.weights.astype("float64")
    with np.errstate(divide="ignore"):
        logs = np.where(found.n > 0, np.log(weights), 0.0)
    logs = logs + _log_determinants(factors, covariance_type, a.D) - a.D / 2 * np.log(2 * np.pi)
    if covariance_type in ("full", "tied"):
        distance = np.sum((found.second @ factors) * factors)
    else:
        distance = np.sum(found.second * factors**2)
    return float(found.n @ logs - distance / 2)


def sample(
    n_samples: int,
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    covariance_type: str = "full",
    *,
    seed: int | np.random.Generator | None = None,
) -> tuple[Array, Array]:
    """Draw rows from a mixture.

    Parameters
    ----------
    n_samples : int
        At least 0.
    weights, means, covariances, covariance_type
        As in `responsibilities`.
    seed : int, numpy.random.Generator or None

    Returns
    -------
    X : array of shape (n_samples, D)
    labels : array of shape (n_samples,)
        The component that each row came from.

    Raises
    ------
    TypeError, ValueError
        As in `responsibilities`.

    Examples
    --------
    >>> from fastml import mixture
    >>> X, labels = mixture.sample(5, [0.5, 0.5], [[0.0], [100.0]], [1.0, 1.0], "spherical", seed=0)
    >>> X.shape, bool(((X[:, 0] > 50) == labels).all())
    ((5, 1), True)
    """
    a = _checked(covariance_type, weights, means, covariances)
    n_samples = check.integer("n_samples", n_samples, 0)
    factors_of(a.covariances, covariance_type)  # positive definite, or an error
    random = np.random.default_rng(seed)
    shares = a.weights.astype("float64")
    labels = random.choice(a.K, n_samples, p=shares / shares.sum())
    z = random.standard_normal((n_samples, a.D))
    covariances64 = a.covariances.astype("float64")
    if covariance_type in ("full", "tied"):
        lower = np.broadcast_to(np.linalg.cholesky(covariances64), (a.K, a.D, a.D))
        for k in range(a.K):
            z[labels == k] = z[labels == k] @ lower[k].T
    else:
        deviations = np.sqrt(covariances64)
        z *= (deviations if covariance_type == "diag" else deviations[:, None])[labels]
    return (a.means[labels] + z).astype(a.dtype), labels


def _features(name: str, features: Sequence[int], D: int) -> Array:
    found = check.integers(name, features)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"{name}: expected at least one feature, in one axis, got shape {found.shape}")
    wrong = (found < -D) | (found >= D)
    if wrong.any():
        raise ValueError(f"{name}: expected features below D = {D}, got {found[wrong][0]}")
    found = found % D
    if len(np.unique(found)) != len(found):
        raise ValueError(f"{name}: expected each feature once, got {list(features)}")
    return found


def marginal(
    weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, features: Sequence[int], covariance_type: str = "full"
) -> Parameters:
    """The mixture of some coordinates alone.

    Parameters
    ----------
    weights, means, covariances, covariance_type
        As in `responsibilities`.
    features : integers of shape (G,)
        The coordinates to keep, in the order wanted.

    Returns
    -------
    weights (K,), means (K, G), covariances
        Of the same covariance type.

    Raises
    ------
    TypeError, ValueError
        As in `responsibilities`; or a feature is out of range, or named twice.

    Examples
    --------
    >>> from fastml import mixture
    >>> mixture.marginal([1.0], [[1.0, 2.0]], [[[4.0, 1.0], [1.0, 9.0]]], [1])[2].tolist()
    [[[9.0]]]
    """
    a = _checked(covariance_type, weights, means, covariances)
    kept = _features("features", features, a.D)
    return a.weights.copy(), a.means[:, kept], _part(a.covariances, covariance_type, kept, kept).copy()


def _part(covariances: Array, covariance_type: str, rows: Array, columns: Array) -> Array:
    if covariance_type in ("full", "tied"):
        return covariances[..., rows[:, None], columns]
    return covariances[:, rows] if covariance_type == "diag" else covariances


def conditional(
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    features: Sequence[int],
    values: ArrayLike,
    covariance_type: str = "full",
) -> Parameters:
    """The mixture of the other coordinates, given the values of some.

    .. math:: μ_{a|b} = μ_a + Σ_{ab} Σ_{bb}^{-1} (x_b - μ_b), \\quad Σ_{a|b} = Σ_{aa} - Σ_{ab} Σ_{bb}^{-1} Σ_{ba},
        \\quad π_{k|b} ∝ π_k N(x_b; μ_b, Σ_{bb})

    Parameters
    ----------
    weights, means, covariances, covariance_type
        As in `responsibilities`.
    features : integers of shape (G,)
        The coordinates that are given: fewer than D.
    values : array of shape (G,) or (M, G)
        Their values; or those of M rows.

    Returns
    -------
    weights : array of shape (K,) or (M, K)
    means : array of shape (K, D-G) or (M, K, D-G)
        Of the other coordinates, in their order. Their mean given the values, Σ_k π_k μ_k, is the regression on them.
    covariances : array
        Of the same covariance type; the same for all M rows.

    Raises
    ------
    TypeError, ValueError
        As in `marginal`; or nothing is left, or `values` are not finite or of the wrong shape.

    References
    ----------
    Bishop (2006), 2.81 and 2.82.

    Examples
    --------
    >>> from fastml import mixture
    >>> weights, means, covariances = mixture.conditional([1.0], [[0.0, 0.0]], [[[1.0, 0.8], [0.8, 1.0]]], [0], [2.0])
    >>> means.round(6).tolist(), covariances.round(6).tolist()
    ([[1.6]], [[[0.36]]])
    """
    a = _checked(covariance_type, weights, means, covariances)
    given = _features("features", features, a.D)
    rest = np.setdiff1d(np.arange(a.D), given)
    if not len(rest):
        raise ValueError(f"features: expected fewer than D = {a.D}, got {len(given)}")
    if values is None:
        raise TypeError("values: expected an array, got None")
    x = check.arrays(a.dtype, "means", values=values)["values"]
    if x.ndim not in (1, 2) or x.shape[-1] != len(given):
        raise ValueError(f"values: expected shape (G,) or (M, G) with G = {len(given)} (from features), got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("values: expected finite numbers")
    rows = np.atleast_2d(x)
    part = _part(a.covariances, covariance_type, given, given)
    factors = factors_of(part, covariance_type)
    resp, _ = Gaussians(a.weights, a.means[:, given], factors, covariance_type, a.dtype).posterior(
        rows, "resp", "log_likelihood"
    )
    centres = np.broadcast_to(a.means[:, rest].astype("float64"), (len(rows), a.K, len(rest)))
    left = _part(a.covariances, covariance_type, rest, rest).astype("float64")
    if covariance_type in ("full", "tied"):
        across = np.swapaxes(factors, -1, -2) @ _part(a.covariances, covariance_type, given, rest)  # Lᵀ of Σ_bb⁻¹ Σ_ba
        whitened = (rows[:, None, None, :] - a.means[:, None, given]) @ factors
        centres = centres + (whitened @ across)[:, :, 0]
        left = left - np.swapaxes(across, -1, -2) @ across
    if x.ndim == 1:
        resp, centres = resp[0], centres[0]
    return resp, np.array(centres, a.dtype), left.astype(a.dtype)
