"""scikit-learn's GaussianMixture on fastml's kernels: one pass over the rows for each step, no N × K array."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import sklearn.mixture
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import check
from ..kernels.table import FACTORS, TILE, shape_of
from ..mixture.gaussian import Gaussians, Statistics, factors_of, updated, within
from .expectation_maximisation import ExpectationMaximisation, check_rows, check_weight, checked_weights
from .source import Array, Chunks, Reservoir, Source

__all__ = ["GaussianMixture", "Iteration"]

BOTH = [np.float64, np.float32]

FEW_ROWS = 1.5
"""A component with less than this of the rows has lost them: it sits on one of them, or on none."""


class Iteration(NamedTuple):
    """What a callback is told after an iteration of a fit.

    Attributes
    ----------
    init : int
        The initialisation, from 0.
    n_iter : int
        Its iteration, from 1.
    lower_bound : float
        The mean log-likelihood of a row, in nats, before the iteration's M-step.
    change : float
        From the lower bound of the iteration before; inf in the first.
    weights, means, covariances : array
        The parameters after it, in float64, read-only.

    Examples
    --------
    >>> from fastml.sklearn import GaussianMixture
    >>> told = []
    >>> mixture = GaussianMixture(2, random_state=0, callback=told.append).fit([[0.0], [1.0], [10.0], [11.0]])
    >>> len(told) == mixture.n_iter_, told[0].n_iter, told[0].means.shape
    (True, 1, (2, 1))
    """

    init: int
    n_iter: int
    lower_bound: float
    change: float
    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]


class _Model(NamedTuple):
    """Parameters in float64, and the covariances' factors."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    factors: NDArray[np.float64]

    @property
    def parameters(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        return self[:3]


class GaussianMixture(ExpectationMaximisation, sklearn.mixture.GaussianMixture):
    """Gaussian mixture, by expectation-maximisation: scikit-learn's estimator, faster and in less memory.

    .. math:: p(x) = \\sum_k π_k \\, N(x; μ_k, Σ_k)

    A subclass of `sklearn.mixture.GaussianMixture`: its parameters, attributes, methods, errors and warnings, and from
    the same `random_state` the same start. What comes after `verbose_interval` is beyond it.

    Parameters
    ----------
    n_components, covariance_type, tol, reg_covar, max_iter, n_init, init_params, weights_init, means_init, \
precisions_init, random_state, warm_start, verbose, verbose_interval
        As in scikit-learn.
    tol_kind : {"absolute", "relative"}, default="absolute"
        Whether a fit has converged when the lower bound changes by less than `tol`, or than `tol` times its size.
    on_empty : {"error", "split", "drop"}, default="error"
        What becomes of a component that has less than 1.5 rows' worth of the responsibilities, or whose covariance is
        not positive definite (but for "tied", whose covariance is everyone's). "error": nothing and a ValueError, as in
        scikit-learn. "split": it is replaced by one half of the component with the largest π_k times its largest
        variance, which is cut across its principal axis, so that the two halves keep its mean and variances together
        ("tied" keeps its covariance; "spherical", which has no axis, is cut across the diagonal). "drop": the fit goes
        on without it: the arrays have fewer rows than `n_components`, with a ConvergenceWarning.
    decay : float, default=0.6
        Of `partial_fit`, in (0.5, 1]: how fast the weight of a new block falls. Small forgets faster.
    callback : callable or None, default=None
        Called with an `Iteration` after each one of a fit. If it returns True, the fit ends there, without a warning.
    progress : bool, default=False
        Show a progress bar of the iterations on stderr, where that is a terminal.

    Attributes
    ----------
    weights_ : array of shape (K,)
    means_ : array of shape (K, D)
    covariances_, precisions_, precisions_cholesky_ : array
        full (K, D, D), tied (D, D), diag (K, D), spherical (K,). In the dtype of X, as all parameters.
    converged_ : bool
    n_iter_ : int
        Iterations of the best initialisation; and one for each block of `partial_fit`.
    lower_bound_ : float
        The mean log-likelihood of a row, in nats, before the last M-step.
    lower_bounds_ : list of float
        That of each iteration, and of each block of `partial_fit`.
    n_features_in_ : int
    feature_names_in_ : array of shape (D,)
        Only where X has names.

    Notes
    -----
    Sums are float64, taken about the last means, and parameters are float64 until they are published: float32 data far
    from the origin give no negative variances. Results are bitwise the same for any number of threads (`native`), for
    an array in memory and mapped into it, and for `fit_chunks`.

    Cost of an iteration: 2·N·K·D² operations (full), 8·N·K·D (diag). Memory: none that grows with N·K; K·D² numbers for
    each thread, and for `init_params="kmeans"` what `sklearn.cluster.KMeans` takes, a copy of X.

    An error or Ctrl-C leaves the estimator as it was before the call.

    References
    ----------
    Dempster, Laird and Rubin, Journal of the Royal Statistical Society B 39 (1977). Bishop, Pattern Recognition and
    Machine Learning (2006), 9.2. Cappé and Moulines, On-line expectation-maximization algorithm for latent data models,
    Journal of the Royal Statistical Society B 71 (2009).

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.sklearn import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X, sample_weight=[1, 1, 1, 2, 2, 2])
    >>> mixture.means_.round(6).tolist(), mixture.weights_.round(6).tolist()
    ([[10.0, 2.0], [1.0, 2.0]], [0.666667, 0.333333])
    >>> mixture.predict([[0, 0], [12, 3]]).tolist()
    [1, 0]
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **sklearn.mixture.GaussianMixture._parameter_constraints,
        **ExpectationMaximisation._parameter_constraints,
        "on_empty": [StrOptions({"error", "split", "drop"})],
    }
    _iteration = Iteration

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        tol_kind: str = "absolute",
        on_empty: str = "error",
        decay: float = 0.6,
        callback: Callable[[Iteration], Any] | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            n_components,
            covariance_type=covariance_type,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            weights_init=weights_init,
            means_init=means_init,
            precisions_init=precisions_init,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            verbose_interval=verbose_interval,
        )
        self.tol_kind = tol_kind
        self.on_empty = on_empty
        self.decay = decay
        self.callback = callback
        self.progress = progress

    # --------------------------------------------------------------------------------------------------------- fitting

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the mixture, as scikit-learn's `fit` does.

        Parameters
        ----------
        X : array-like of shape (N, D)
            float32 and float64 are kept. A `numpy.memmap` is read in order, block by block, and never copied
            (with `init_params` "random" or "random_from_data", or all of `*_init`: k-means copies its rows).
        y : None
            Ignored.
        sample_weight : array-like of shape (N,) or None
            How many times each row counts, at least 0; None for once.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            scikit-learn's: X is not finite, has fewer rows (of a weight above 0) than components, a parameter does not
            fit, or a covariance is not positive definite.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            The best initialisation did not converge, or lost components with `on_empty="drop"`.

        Examples
        --------
        >>> from fastml.sklearn import GaussianMixture
        >>> GaussianMixture().fit([[0.0], [1.0]], sample_weight=[3, 1]).means_.round(6).tolist()
        [[0.25]]
        """
        with self._unchanged_by_failure():
            self._fit(Array(*self._validated(X, sample_weight)), check_random_state(self.random_state))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_predict(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> NDArray[np.intp]:
        """`fit`, then `predict` of the same rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        array of shape (N,)
            Bitwise what `fit(X).predict(X)` gives.

        Raises
        ------
        TypeError, ValueError
            As in `fit`.

        Examples
        --------
        >>> from fastml.sklearn import GaussianMixture
        >>> labels = GaussianMixture(2, random_state=0).fit_predict([[0.0], [1.0], [10.0], [11.0]])
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
        """
        with self._unchanged_by_failure():
            X, sample_weight = self._validated(X, sample_weight)
            self._fit(Array(X, sample_weight), check_random_state(self.random_state))
            return self._posterior(X, "labels")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_chunks(self, make_iterator: Callable[[], Iterable[Any]], *, reservoir_size: int = 65_536) -> Self:
        """`fit` to data larger than memory.

        Parameters
        ----------
        make_iterator : callable
            `make_iterator()` returns a fresh iterator of blocks of the same rows in the same order: arrays (n, D), n as
            you like, all of one dtype, or tuples (X, sample_weight). It is called once to count the rows, once or twice
            for the initialisation, and once for each iteration.
        reservoir_size : int
            Rows of the uniform sample that "kmeans" and "k-means++" start from, at least 2 and `n_components`. The
            other ways of `init_params` use all rows.

        Returns
        -------
        self
            Bitwise what `fit` gives for the concatenated blocks; with a k-means start if they fit the reservoir.

        Raises
        ------
        TypeError, ValueError
            As in `fit`; or blocks differ in dtype, or a pass gives another number of rows than the first one.

        Notes
        -----
        Memory: two blocks, or 64 MiB where they are smaller, the reservoir, and a number for each row while
        "random_from_data" draws.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.sklearn import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(9000, 2))
        >>> whole = GaussianMixture(2, random_state=0).fit(X)
        >>> parts = GaussianMixture(2, random_state=0).fit_chunks(lambda: np.array_split(X, 7))
        >>> bool((whole.means_ == parts.means_).all())
        True
        """
        reservoir_size = check.integer("reservoir_size", reservoir_size, max(2, self.n_components))
        random_state = check_random_state(self.random_state)
        sampled = self.init_params in ("kmeans", "k-means++") and self._starts_anew() and not self._start_is_given()
        reservoir = Reservoir(reservoir_size, random_state) if sampled else None

        with self._unchanged_by_failure():
            source = Chunks(make_iterator, partial(self._validated, least=0), reservoir)
            if source.N < 2:
                raise ValueError(
                    f"Found array with {source.N} sample(s) (shape=({source.N}, {source.D})) while a minimum of 2 is "
                    f"required by {type(self).__name__}."
                )
            self._fit(source, random_state)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> Self:
        """One step of online expectation-maximisation, with a block of rows.

        .. math:: s ← (1 - γ_t) \\, s + γ_t \\, \\bar s(X), \\quad γ_t = (t + 1)^{-decay}

        s are the sufficient statistics of a row, \\bar s(X) their mean over the block's rows, and t is `n_iter_` before
        the call.

        Parameters
        ----------
        X : array-like of shape (n, D)
            The first block initialises the mixture, as `fit` would, and needs at least as many rows as there are
            components. A mixture that was fitted goes on from there.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,) or None
            Within the block.

        Returns
        -------
        self
            All attributes are those after this block; `converged_` is False.

        Raises
        ------
        TypeError, ValueError
            As in `fit`.

        Notes
        -----
        The attributes are the whole state: s follows from them, and copies and pickles go on the same way. Where they
        are float32 they are rounded after each block. Later blocks are cast to the dtype of the first.

        References
        ----------
        Cappé and Moulines (2009), 2.2.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.sklearn import GaussianMixture
        >>> mixture = GaussianMixture(decay=1.0).partial_fit([[0.0], [2.0]]).partial_fit([[4.0], [6.0]])
        >>> mixture.means_.round(6).tolist(), mixture.n_iter_
        ([[3.0]], 2)
        """
        first = not hasattr(self, "converged_")
        with self._unchanged_by_failure():
            dtype = BOTH if first else self.means_.dtype
            source = Array(*self._validated(X, sample_weight, least=1 + first, first=first, dtype=dtype))
            scatter = _scatter(source) if self.covariance_type == "tied" else None
            if first:
                self._check_start(source)
                model, t = self._start(source, check_random_state(self.random_state), scatter), 0
            else:
                check_weight(source.counted)
                model, t = self._fitted(source.D), self.n_iter_
            rate = (t + 1) ** -self.decay
            found = self._expected(model, source, scatter)
            bound = found.log_likelihood / found.weight
            # Of float64, so that `updated` adds to N_k, here a share of one row, a unit of float64's precision.
            found = replace(found, dtype=np.dtype("float64"), rows=found.weight) * (rate / found.weight)
            if t:
                found = found + self._mean_statistics(model) * (1 - rate)
            limit = FEW_ROWS * rate / source.counted
            model, _ = self._maximised(updated(found, self.reg_covar), source.dtype, limit)
            self._publish(model, source.dtype)
            self.converged_, self.n_iter_, self.lower_bound_ = False, t + 1, bound
            self.lower_bounds_ = [*getattr(self, "lower_bounds_", []), bound]
        return self

    def _mean_statistics(self, model: _Model) -> Statistics:
        """Those of a row, which `updated` makes the model of."""
        weights, means, covariances, _ = model
        D = means.shape[1]
        if self.covariance_type in ("full", "tied"):
            second = covariances - self.reg_covar * np.eye(D)
            second = second if self.covariance_type == "tied" else weights[:, None, None] * second
        elif self.covariance_type == "diag":
            second = weights[:, None] * (covariances - self.reg_covar)
        else:
            second = D * weights * (covariances - self.reg_covar)
        first = np.zeros_like(means)
        return Statistics(self.covariance_type, np.dtype("float64"), means, weights, first, second, 0.0, 1.0, 1.0)

    def _fit(self, source: Source, random_state: np.random.RandomState) -> None:
        self._check_start(source)
        scatter = _scatter(source) if self.covariance_type == "tied" else None
        K = self.n_components if self._starts_anew() else len(self.weights_)

        def start() -> _Model:
            return self._start(source, random_state, scatter) if self._starts_anew() else self._fitted(source.D)

        def step(model: _Model) -> tuple[_Model, float, bool]:
            found = self._expected(model, source, scatter)
            parameters = updated(found, self.reg_covar)
            model, repaired = self._maximised(parameters, source.dtype, FEW_ROWS / source.counted)
            return model, found.log_likelihood / found.weight, repaired

        model = self._fit_from(start, step)
        dropped = K - len(model.weights)
        if dropped:
            warnings.warn(f"{dropped} of {K} components lost their rows and were dropped.", ConvergenceWarning)
        self._publish(model, source.dtype)

    def _expected(self, model: _Model, source: Source, scatter: Statistics | None) -> Statistics:
        """The E-step."""
        mixture = Gaussians(model.weights, model.means, model.factors, self.covariance_type, source.dtype)
        found = mixture.statistics()
        for X, sample_weight in source:
            found = mixture.add(found, X, sample_weight)
        found = replace(found, weight=source.weight)
        return found if scatter is None else within(found, scatter)

    def _maximised(
        self, parameters: tuple[NDArray, NDArray, NDArray], dtype: np.dtype, limit: float
    ) -> tuple[_Model, bool]:
        """The parameters with their factors, and whether components had to be replaced or dropped.

        limit : the least weight of a component.
        """
        repaired = False
        if self.on_empty != "error":
            weights, means, covariances = parameters
            lost = (weights < limit) | ~_definite(covariances, self.covariance_type, len(weights))
            repaired = bool(lost.any() and not lost.all())
            if repaired:
                mend = _without if self.on_empty == "drop" else _split
                parameters = mend(weights, means, covariances, self.covariance_type, lost)
        return _Model(*parameters, _factors(parameters[2], self.covariance_type, dtype)), repaired

    # -------------------------------------------------------------------------------------------------- initialisation

    def _start_is_given(self) -> bool:
        return not any(given is None for given in (self.weights_init, self.means_init, self.precisions_init))

    def _check_start(self, source: Source) -> None:
        check_rows(source, self.n_components)
        namespace = {"xp": np} if "xp" in signature(self._check_parameters).parameters else {}
        self._check_parameters(np.empty((0, source.D), source.dtype), **namespace)

    def _start(self, source: Source, random_state: np.random.RandomState, scatter: Statistics | None) -> _Model:
        """What `init_params` and the given parameters say, with scikit-learn's draws."""
        weights, means, precisions = (
            given if given is None else np.array(given, "float64")
            for given in (self.weights_init, self.means_init, self.precisions_init)
        )
        if not self._start_is_given():
            found = self._start_statistics(source, random_state, scatter)
            parameters = updated(found, self.reg_covar)
            shares = (found.n + found.addend) / found.weight  # rows that no component has leave their sum below 1
            if weights is None and means is None and precisions is None:
                return self._maximised((shares, *parameters[1:]), source.dtype, 0.0)[0]
            weights = shares if weights is None else weights
            means = parameters[1] if means is None else means
            if precisions is None:
                factors = _factors(parameters[2], self.covariance_type, source.dtype)
                return _Model(weights, means, parameters[2], factors)
        covariances = np.linalg.inv(precisions) if self.covariance_type in ("full", "tied") else 1 / precisions
        return _Model(weights, means, covariances, _factors_of_precisions(precisions, self.covariance_type))

    def _start_statistics(
        self, source: Source, random_state: np.random.RandomState, scatter: Statistics | None
    ) -> Statistics:
        K = self.n_components
        if self.init_params == "kmeans":
            sample = source.sample
            kmeans = KMeans(n_clusters=K, n_init=1, random_state=random_state)
            labels = kmeans.fit(sample.X, sample_weight=sample.sample_weight).labels_
            return _assigned(sample, _one_hot(labels, K), _one_hot(labels, K), K, self.covariance_type)
        if self.init_params == "random":
            again = deepcopy(random_state)
            draws = (_uniform(source, state, K) for state in (random_state, again))
            return _assigned(source, *draws, K, self.covariance_type)
        if self.init_params == "k-means++":
            sample = source.sample
            _, indices = kmeans_plusplus(sample.X, K, sample_weight=sample.sample_weight, random_state=random_state)
        else:
            sample = source
            p = None
            if source.weighted:
                p = np.concatenate([sample_weight.astype("float64") for _, sample_weight in source])
                p = None if (p == p[0]).all() else p / p.sum()
            indices = random_state.choice(source.N, size=K, replace=False, p=p)
        rows, n = sample.take(indices)
        means, n = rows.astype("float64"), n.astype("float64")
        second = np.zeros(shape_of(FACTORS[self.covariance_type], {"K": K, "D": source.D}))
        first = np.zeros_like(means)
        found = Statistics(self.covariance_type, source.dtype, means, n, first, second, 0.0, sample.weight, sample.N)
        if scatter is None:
            return found
        # Of "tied" scikit-learn subtracts the K rows' moments from those of all rows, about the origin.
        whole = scatter if sample is source else _scatter(sample)
        return within(found, whole.about(np.zeros((1, source.D))))

    def _fitted(self, D: int) -> _Model:
        """The attributes, checked: they may have been set by hand."""
        weights, means, covariances = (
            np.asarray(array, "float64") for array in (self.weights_, self.means_, self.covariances_)
        )
        factors = self._checked_factors(D)
        check.shape("covariances_", covariances, FACTORS[self.covariance_type], self._sizes(D))
        return _Model(weights, means, covariances, factors)

    # ------------------------------------------------------------------------------------------------------ prediction

    def predict(self, X: ArrayLike) -> NDArray[np.intp]:
        """The most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        array of shape (N,)
            The components' numbers; the first of equally probable ones.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        ValueError
            X is not finite or not of D features, or parameters that were set by hand do not fit each other.

        Examples
        --------
        >>> from fastml.sklearn import GaussianMixture
        >>> mixture = GaussianMixture(2, means_init=[[0.0], [10.0]]).fit([[0.0], [1.0], [10.0], [11.0]])
        >>> mixture.predict([[2.0], [9.0]]).tolist()
        [0, 1]
        """
        return self._posterior(self._given(X), "labels")

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Each row's probabilities of having come from each component.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        array of shape (N, K)
            In the dtype of X. Rows sum to 1.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As in `predict`.

        Examples
        --------
        >>> from fastml.sklearn import GaussianMixture
        >>> mixture = GaussianMixture(2, means_init=[[0.0], [10.0]]).fit([[0.0], [1.0], [10.0], [11.0]])
        >>> mixture.predict_proba([[2.0], [9.0]]).round(6).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        return self._posterior(self._given(X), "resp")

    def score_samples(self, X: ArrayLike) -> NDArray[Any]:
        """The log-likelihood of each row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        array of shape (N,)
            In nats, in the dtype of X.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As in `predict`.

        Examples
        --------
        >>> from fastml.sklearn import GaussianMixture
        >>> GaussianMixture().fit([[-1.0], [1.0]]).score_samples([[0.0], [1.0]]).round(3).tolist()
        [-0.919, -1.419]
        """
        return self._posterior(self._given(X), "log_likelihood")

    def _given(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return validate_data(self, X, dtype=BOTH, reset=False)

    def _posterior(self, X: NDArray[Any], wanted: str) -> NDArray[Any]:
        """In the wider one of X's and the parameters' dtypes; what is real comes in X's."""
        means = np.asarray(self.means_)
        dtype = np.result_type(X, means)
        mixture = Gaussians(self.weights_, means, self._checked_factors(X.shape[1]), self.covariance_type, dtype)
        found = mixture.posterior(np.require(X, dtype, ["C", "A"]), wanted)[0]
        return found if wanted == "labels" else found.astype(X.dtype, copy=False)

    def _sizes(self, D: int) -> dict[str, tuple[int, str]]:
        return {"K": (len(self.means_), "means_"), "D": (D, "X")}

    def _checked_factors(self, D: int) -> NDArray[np.float64]:
        """`precisions_cholesky_`, checked with the others: kernels trust shapes, and read upper triangles alone."""
        sizes = self._sizes(D)
        factors = np.asarray(self.precisions_cholesky_, "float64")
        check.shape("means_", np.asarray(self.means_), "K D", sizes)
        check.shape("weights_", np.asarray(self.weights_), "K", sizes)
        check.shape("precisions_cholesky_", factors, FACTORS[self.covariance_type], sizes)
        if self.covariance_type in ("full", "tied") and np.tril(factors, -1).any():
            factors = _factors_of_precisions(factors @ np.swapaxes(factors, -1, -2), self.covariance_type)
        return factors

    # ------------------------------------------------------------------------------------------------- the estimator

    def _validated(
        self,
        X: Any,
        sample_weight: ArrayLike | None,
        *,
        least: int = 2,
        first: bool = True,
        dtype: Any = BOTH,
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        X = validate_data(self, X, dtype=dtype, ensure_min_samples=least, reset=first)
        return X, None if sample_weight is None else checked_weights(sample_weight, X)

    def _publish(self, model: _Model, dtype: np.dtype) -> None:
        factors = model.factors
        matrices = self.covariance_type in ("full", "tied")
        with np.errstate(over="ignore"):
            precisions = factors @ np.swapaxes(factors, -1, -2) if matrices else factors**2
            published = [np.array(array, dtype, order="C") for array in (*model, precisions)]
        if not all(np.isfinite(array).all() for array in published):  # float32 ends at 3e38: 2e19 squared
            _ill_defined(dtype)
        self.weights_, self.means_, self.covariances_, self.precisions_cholesky_, self.precisions_ = published

    def _n_parameters(self) -> int:
        """Those of the components that there are: `on_empty="drop"` may have left fewer than `n_components`."""
        K, D = self.means_.shape
        covariances = {"full": K * D * (D + 1) // 2, "tied": D * (D + 1) // 2, "diag": K * D, "spherical": K}
        return covariances[self.covariance_type] + K * D + K - 1

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        return tags


# --------------------------------------------------------------------------------------------------------- covariances


def _factors(covariances: NDArray, covariance_type: str, dtype: np.dtype) -> NDArray:
    with suppress(ValueError):
        return factors_of(covariances, covariance_type)
    _ill_defined(dtype)


def _ill_defined(dtype: np.dtype) -> NoReturn:
    """The installed scikit-learn's error of a covariance that is not positive definite."""
    _compute_precision_cholesky(np.zeros(1, dtype), "spherical")


def _factors_of_precisions(precisions: NDArray, covariance_type: str) -> NDArray:
    """U upper triangular, U Uᵀ = Σ⁻¹: with rows and columns reversed, Cholesky's lower triangle."""
    if covariance_type in ("diag", "spherical"):
        return np.sqrt(precisions)
    return np.linalg.cholesky(precisions[..., ::-1, ::-1])[..., ::-1, ::-1]


def _definite(covariances: NDArray, covariance_type: str, K: int) -> NDArray[np.bool_]:
    """Which components have a positive definite covariance; of "tied" all, as there is no other to take rows from."""
    definite = np.ones(K, bool)
    if covariance_type != "tied":
        for k in range(K):
            try:
                factors_of(covariances[k : k + 1], covariance_type)
            except ValueError:
                definite[k] = False
    return definite


def _half_axis(covariance: NDArray, covariance_type: str, D: int) -> NDArray:
    """(D,), along the principal axis, of the length at which two halves have half the variance left along it."""
    if covariance_type in ("full", "tied"):
        variances, axes = np.linalg.eigh(covariance)
        return np.sqrt(variances[-1] / 2) * axes[:, -1]
    if covariance_type == "diag":
        axis = np.zeros(D)
        axis[covariance.argmax()] = np.sqrt(covariance.max() / 2)
        return axis
    return np.full(D, np.sqrt(covariance / 2 / D))


def _without(
    weights: NDArray, means: NDArray, covariances: NDArray, covariance_type: str, lost: NDArray[np.bool_]
) -> tuple[NDArray, NDArray, NDArray]:
    kept = weights[~lost]
    return (
        kept * (weights.sum() / kept.sum()),
        means[~lost],
        covariances if covariance_type == "tied" else covariances[~lost],
    )


def _split(
    weights: NDArray, means: NDArray, covariances: NDArray, covariance_type: str, lost: NDArray[np.bool_]
) -> tuple[NDArray, NDArray, NDArray]:
    K, D = means.shape
    tied = covariance_type == "tied"
    living = weights[~lost].sum()
    weights, means, covariances = weights * (weights.sum() / living), means.copy(), covariances.copy()
    halves = np.zeros((K, D))
    for k in np.flatnonzero(~lost):
        halves[k] = _half_axis(covariances if tied else covariances[k], covariance_type, D)
    for k in np.flatnonzero(lost):
        spread = weights * np.sum(halves**2, axis=1)
        widest = int(np.where(lost, -np.inf, spread).argmax())
        half = halves[widest]
        weights[[widest, k]] = weights[widest] / 2
        means[k] = means[widest] + half
        means[widest] -= half
        if not tied:
            less = {"full": np.outer(half, half), "diag": half**2, "spherical": half @ half / D}[covariance_type]
            covariances[[widest, k]] = covariances[widest] - less
        halves[[widest, k]] = _half_axis(covariances if tied else covariances[k], covariance_type, D)
        lost[k] = False
    return weights, means, covariances


# ---------------------------------------------------------------------------------------------------------- statistics


def _scatter(source: Source) -> Statistics:
    """Of all rows about one point near them, which does not change from step to step."""
    at = Gaussians(None, source.middle()[None], np.eye(source.D), "tied", source.dtype)
    found = None
    for X, sample_weight in source:
        found = at.scatter(X, sample_weight, found)
    return found


def _one_hot(labels: NDArray[np.integer], K: int) -> Iterator[NDArray]:
    return (np.eye(K)[labels[start : start + TILE]] for start in range(0, len(labels), TILE))


def _uniform(source: Source, random_state: np.random.RandomState, K: int) -> Iterator[NDArray]:
    """scikit-learn's random responsibilities: the draws of one call, a tile at a time, normalised in the dtype of X."""
    for start in range(0, source.N, TILE):
        resp = random_state.uniform(size=(min(TILE, source.N - start), K)).astype(source.dtype)
        resp /= resp.sum(axis=1, keepdims=True)
        yield resp.astype("float64")


def _assigned(
    source: Source, resp: Iterator[NDArray], again: Iterator[NDArray], K: int, covariance_type: str
) -> Statistics:
    """Statistics under given responsibilities, tiles (n, K), which come twice: for the means, and about them."""
    D, middle = source.D, source.middle()
    n, first = np.zeros(K), np.zeros((K, D))
    for (X, sample_weight), r in zip(source.tiles(), resp, strict=True):
        r = r if sample_weight is None else r * sample_weight[:, None]
        n += r.sum(axis=0)
        first += r.T @ (X - middle)
    means = middle + first / np.where(n > 0, n, 1)[:, None]
    first = np.zeros((K, D))
    matrices = covariance_type in ("full", "tied")
    second = np.zeros((K, D, D) if matrices else (K, D))
    for (X, sample_weight), r in zip(source.tiles(), again, strict=True):
        r = r if sample_weight is None else r * sample_weight[:, None]
        for k in range(K):
            some = r[:, k] > 0
            d = X[some] - means[k]
            weighted = r[some, k, None] * d
            first[k] += weighted.sum(axis=0)
            second[k] += weighted.T @ d if matrices else (weighted * d).sum(axis=0)
    if covariance_type == "tied":
        second = second.sum(axis=0)
    elif covariance_type == "spherical":
        second = second.sum(axis=1)
    return Statistics(covariance_type, source.dtype, means, n, first, second, 0.0, source.weight, source.N)
