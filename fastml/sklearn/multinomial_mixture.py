"""A mixture of multinomials as scikit-learn would have it: of counts, dense or in compressed rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from .. import check
from ..mixture.multinomial import (
    Counts,
    Multinomials,
    MultinomialStatistics,
    check_distributions,
    coefficients,
    counts_of,
    smoothing,
    summed,
    updated,
)
from .expectation_maximisation import ExpectationMaximisation, check_rows, check_weight, checked_weights
from .source import Array, Chunks, Source

__all__ = ["MultinomialIteration", "MultinomialMixture"]

SHARED = 0.1
"""Of each component's first probabilities, the part that is the frequencies of all rows: no word starts impossible."""


class MultinomialIteration(NamedTuple):
    """What a callback is told after an iteration of a fit.

    Attributes
    ----------
    init : int
        The initialisation, from 0.
    n_iter : int
        Its iteration, from 1.
    lower_bound : float
        As `lower_bound_`, before the iteration's M-step.
    change : float
        From the lower bound of the iteration before; inf in the first.
    weights, probabilities : array
        The parameters after it, in float64, read-only.

    Examples
    --------
    >>> from fastml.sklearn import MultinomialMixture
    >>> told = []
    >>> mixture = MultinomialMixture(2, random_state=0, callback=told.append).fit([[9, 1], [8, 2], [1, 9]])
    >>> len(told) == mixture.n_iter_, told[0].n_iter, told[0].probabilities.shape
    (True, 1, (2, 2))
    """

    init: int
    n_iter: int
    lower_bound: float
    change: float
    weights: NDArray[np.float64]
    probabilities: NDArray[np.float64]


class _Model(NamedTuple):
    """Parameters in float64, and the statistics that they were made of, if they were."""

    weights: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    statistics: MultinomialStatistics | None = None

    @property
    def parameters(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self[:2]


class _Rows:
    """Rows that a fit reads several times, as counts for the kernels, and what one pass tells of all of them."""

    def __init__(self, source: Source) -> None:
        check_weight(source.counted)
        self.source = source
        self._held = [*self._prepared()] if isinstance(source, Array) else None
        one = Multinomials(None, np.full((1, source.D), 1 / source.D), source.dtype)
        self.together, self.coefficient = one.statistics(), 0.0
        for counts, sample_weight in self:
            self.together = one.add(self.together, counts, sample_weight)
            each = coefficients(counts)
            self.coefficient = summed(each if sample_weight is None else each * sample_weight, self.coefficient)

    def _prepared(self) -> Iterator[tuple[Counts, NDArray[Any] | None]]:
        for X, sample_weight in self.source:
            yield counts_of(X, X.data if sparse.issparse(X) else X), sample_weight

    def __iter__(self) -> Iterator[tuple[Counts, NDArray[Any] | None]]:
        return iter(self._held) if self._held is not None else self._prepared()

    def drawn(self, size: int, random_state: np.random.RandomState) -> tuple[Any, NDArray[Any] | None]:
        """At most `size` of the rows with a weight above 0, in their order, and their weights."""
        N = self.source.N
        weight = None
        if self.source.counted < N:
            weight = np.concatenate([sample_weight for _, sample_weight in self.source])
        rows = np.arange(N) if weight is None else np.flatnonzero(weight)
        if size < len(rows):
            rows = np.sort(random_state.choice(rows, size, replace=False))
        parts, weights, start = [], [], 0
        for X, sample_weight in self.source:
            here = rows[(rows >= start) & (rows < start + X.shape[0])] - start
            parts.append(X[here])
            weights.append(None if sample_weight is None else sample_weight[here])
            start += X.shape[0]
        if sparse.issparse(parts[0]):
            X = sparse.vstack(parts, format="csr")  # a copy, as its parts are
            X.sum_duplicates()
        else:
            X = np.concatenate(parts)
        return X, None if weights[0] is None else np.concatenate(weights)


class MultinomialMixture(ExpectationMaximisation, DensityMixin, BaseEstimator):
    """Mixture of multinomials, by expectation-maximisation: of documents by their words, baskets by their goods.

    .. math:: P(x) = \\sum_k π_k \\, \\frac{|x|!}{\\prod_v x_v!} \\prod_v θ_{kv}^{x_v}, \\quad |x| = \\sum_v x_v

    Parameters
    ----------
    n_components : int, default=1
        K.
    alpha : float or array of shape (V,), default=1.0
        At least 0: added to the counts of each word in each component. 1 is Laplace's rule, 0 gives the largest
        likelihood, in which what a component has never seen is impossible to it.
    tol : float, default=1e-3
        A fit has converged when the lower bound changes by less than this.
    max_iter : int, default=100
    n_init : int, default=1
        Initialisations, of which the one with the largest lower bound is kept.
    init_params : {"kmeans", "k-means++", "random_from_data", "random"}, default="kmeans"
        What the first probabilities are made of. "kmeans": the centres of k-means on rows of Euclidean length 1;
        "k-means++": rows that its seeding picks; "random_from_data": rows; "random": the frequencies of all rows times
        exponential random numbers. A tenth is always the frequencies of all rows. The first weights are equal.
    init_size : int, default=4096
        The rows, drawn at random, that the two k-means work on; all, where there are no more.
    weights_init : array of shape (K,) or None, default=None
    probabilities_init : array of shape (K, V) or None, default=None
        Parameters to start from; None for those of `init_params`.
    random_state : int, RandomState instance or None, default=None
    warm_start : bool, default=False
        Whether `fit` goes on from the parameters of the fit before.
    verbose : int, default=0
    verbose_interval : int, default=10
        As in `sklearn.mixture.GaussianMixture`.
    tol_kind : {"absolute", "relative"}, default="absolute"
        Whether `tol` is compared with the change of the lower bound, or with its ratio to the lower bound.
    decay : float, default=0.6
        Of `partial_fit`, in (0.5, 1]: how fast the weight of a new block falls. Small forgets faster; with 1 all blocks
        count as much.
    callback : callable or None, default=None
        Called with a `MultinomialIteration` after each one of a fit. If it returns True, the fit ends there, without a
        warning.
    progress : bool, default=False
        Show a progress bar of the iterations on stderr, where that is a terminal.

    Attributes
    ----------
    weights_ : array of shape (K,)
        π.
    probabilities_ : array of shape (K, V)
        θ; rows sum to 1. In the dtype of X, as `weights_`.
    converged_ : bool
    n_iter_ : int
        Iterations of the best initialisation; and one for each block of `partial_fit`.
    lower_bound_ : float
        The mean log-likelihood of a row, in nats, multinomial coefficient included, and Σ_kv α_v ln θ_kv divided by the
        number of rows, before the last M-step: what an iteration never lowers, rounding apart. With `alpha` 0, the
        likelihood alone.
    lower_bounds_ : list of float
        That of each iteration, and of each block of `partial_fit`.
    n_features_in_ : int
        V.
    feature_names_in_ : array of shape (V,)
        Only where X has names.

    Notes
    -----
    Counts are floats or integers, of at least 0, whole numbers or not (tf-idf, say: the gamma function stands for
    factorials); dense, or any format of scipy.sparse, which is read as compressed rows. What no component can produce
    has log-likelihood -inf, without a warning, and belongs to those that find the fewest of its words impossible.

    Cost of an iteration: 4·N·K·V operations, of sparse counts 4·K for each count. Memory: none that grows with N·K; of
    sparse counts a copy of the indices. Results are bitwise the same for any number of threads (`native`), and for
    `fit_chunks`. An error or Ctrl-C leaves the estimator as it was before the call.

    References
    ----------
    Nigam, McCallum, Thrun and Mitchell, Text classification from labeled and unlabeled documents using EM, Machine
    Learning 39 (2000). Cappé and Moulines, On-line expectation-maximization algorithm for latent data models, Journal
    of the Royal Statistical Society B 71 (2009).

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.sklearn import MultinomialMixture
    >>> X = np.array([[3, 1, 0, 0], [5, 2, 0, 0], [0, 0, 4, 2], [0, 1, 7, 3]])
    >>> mixture = MultinomialMixture(2, alpha=0.1, random_state=0).fit(X)
    >>> labels = mixture.predict(X)
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0.0, None, closed="left"), "array-like"],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({"kmeans", "k-means++", "random_from_data", "random"})],
        "init_size": [Interval(Integral, 1, None, closed="left")],
        "weights_init": ["array-like", None],
        "probabilities_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        **ExpectationMaximisation._parameter_constraints,
    }
    _iteration = MultinomialIteration

    def __init__(
        self,
        n_components: int = 1,
        *,
        alpha: float | ArrayLike = 1.0,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        init_size: int = 4096,
        weights_init: ArrayLike | None = None,
        probabilities_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        tol_kind: str = "absolute",
        decay: float = 0.6,
        callback: Callable[[MultinomialIteration], Any] | None = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.init_size = init_size
        self.weights_init = weights_init
        self.probabilities_init = probabilities_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.tol_kind = tol_kind
        self.decay = decay
        self.callback = callback
        self.progress = progress

    # --------------------------------------------------------------------------------------------------------- fitting

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the mixture.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, V)
            Counts of at least 0. float32 and float64 are kept.
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
            X is negative or not finite, has fewer rows (of a weight above 0) than components, or a parameter does not
            fit.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            The best initialisation did not converge.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> MultinomialMixture(alpha=0).fit([[1, 0], [0, 1]], sample_weight=[3, 1]).probabilities_.round(6).tolist()
        [[0.75, 0.25]]
        """
        with self._unchanged_by_failure():
            self._fit(_Rows(Array(*self._validated(X, sample_weight))))
        return self

    def fit_predict(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> NDArray[np.intp]:
        """`fit`, then `predict` of the same rows, (N,).

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> labels = MultinomialMixture(2, random_state=0).fit_predict([[9, 1], [8, 2], [1, 9], [2, 8]])
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
        """
        return self.fit(X, sample_weight=sample_weight).predict(X)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_chunks(self, make_iterator: Callable[[], Iterable[Any]]) -> Self:
        """`fit` to data larger than memory.

        Parameters
        ----------
        make_iterator : callable
            `make_iterator()` returns a fresh iterator of blocks of the same rows in the same order: arrays or sparse
            matrices (n, V), n as you like, all of one dtype, or tuples (X, sample_weight). It is called twice to count,
            once or twice for each initialisation, and once for each iteration.

        Returns
        -------
        self
            Bitwise what `fit` gives for the blocks put together.

        Raises
        ------
        TypeError, ValueError
            As in `fit`; or blocks differ in dtype, some are dense and some sparse, or a pass gives another number of
            rows than the first one.

        Notes
        -----
        Memory: two blocks, or 64 MiB where they are smaller, `init_size` rows, and a number for each row while they are
        drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.sklearn import MultinomialMixture
        >>> X = np.random.default_rng(0).poisson(1, size=(5000, 6))
        >>> whole = MultinomialMixture(2, random_state=0, tol=0.1).fit(X)
        >>> parts = MultinomialMixture(2, random_state=0, tol=0.1).fit_chunks(lambda: np.array_split(X, 7))
        >>> bool((whole.probabilities_ == parts.probabilities_).all())
        True
        """
        with self._unchanged_by_failure():
            self._fit(_Rows(Chunks(make_iterator, partial(self._validated, least=0))))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> Self:
        """One step of online expectation-maximisation, with a block of rows.

        .. math:: s ← (1 - γ_t) \\, s + γ_t \\, \\bar s(X), \\quad γ_t = (t + 1)^{-decay}

        s are the sufficient statistics of a row, \\bar s(X) those of the block's mean row, and t is `n_iter_` before
        the call. `alpha` counts once for all rows seen so far.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, V)
            The first block initialises the mixture, as `fit` would, and needs at least as many rows as there are
            components. A mixture that was fitted goes on from there.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,) or None
            Within the block.

        Returns
        -------
        self
            All attributes are those after this block; `converged_` is False, `lower_bound_` the block's.

        Raises
        ------
        TypeError, ValueError
            As in `fit`.

        References
        ----------
        Cappé and Moulines (2009), 2.2.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> mixture = MultinomialMixture(alpha=0, decay=1.0).partial_fit([[3, 1]]).partial_fit([[1, 3]])
        >>> mixture.probabilities_.round(6).tolist(), mixture.n_iter_
        ([[0.5, 0.5]], 2)
        """
        with self._unchanged_by_failure():
            first = not hasattr(self, "converged_")
            dtype = (np.float64, np.float32) if first else self.probabilities_.dtype
            rows = _Rows(Array(*self._validated(X, sample_weight, first=first, dtype=dtype)))
            alpha = smoothing(self.alpha, rows.source.D)
            if first:
                self._check_start(rows.source)
                model, t = self._start(rows, check_random_state(self.random_state), alpha), 0
            else:
                model, t = self._fitted(rows.source.D), self.n_iter_
            found, bound = self._expected(model, rows, alpha)
            running, seen = found * (1 / found.weight), found.weight
            if t:
                rate = (t + 1) ** -self.decay
                running, seen = self._statistics * (1 - rate) + running * rate, self._seen + seen
            self._publish(updated(running * seen, alpha), running, seen, rows.source.dtype)
            self.converged_, self.n_iter_, self.lower_bound_ = False, t + 1, bound
            self.lower_bounds_ = [*getattr(self, "lower_bounds_", []), bound]
        return self

    def _fit(self, rows: _Rows) -> None:
        alpha = smoothing(self.alpha, rows.source.D)
        self._check_start(rows.source)
        random_state = check_random_state(self.random_state)

        def start() -> _Model:
            return self._start(rows, random_state, alpha) if self._starts_anew() else self._fitted(rows.source.D)

        def step(model: _Model) -> tuple[_Model, float, bool]:
            found, bound = self._expected(model, rows, alpha)
            return _Model(*updated(found, alpha), found), bound, False

        model, weight = self._fit_from(start, step), rows.source.weight
        self._publish(model.parameters, model.statistics and model.statistics * (1 / weight), weight, rows.source.dtype)

    def _expected(self, model: _Model, rows: _Rows, alpha: float | NDArray) -> tuple[MultinomialStatistics, float]:
        """The E-step, and the lower bound."""
        mixture = Multinomials(*model.parameters, rows.source.dtype)
        found = mixture.statistics()
        for counts, sample_weight in rows:
            found = mixture.add(found, counts, sample_weight)
        likelihood = found.log_likelihood + rows.coefficient
        found = replace(found, log_likelihood=likelihood, log_coefficient=rows.coefficient)
        return found, (likelihood + mixture.log_prior(alpha)) / found.weight

    # -------------------------------------------------------------------------------------------------- initialisation

    def _check_start(self, source: Source) -> None:
        check_rows(source, self.n_components)
        sizes = {"K": (self.n_components, "n_components"), "V": (source.D, "X")}
        for name, axes in {"weights_init": "K", "probabilities_init": "K V"}.items():
            given = check.arrays(**{name: getattr(self, name)})[name]
            if given is not None:
                check.shape(name, given, axes, sizes)
                check_distributions(name, given)

    def _start(self, rows: _Rows, random_state: np.random.RandomState, alpha: float | NDArray) -> _Model:
        K = self.n_components
        weights = np.full(K, 1 / K) if self.weights_init is None else np.array(self.weights_init, "float64")
        if self.probabilities_init is not None:
            return _Model(weights, np.array(self.probabilities_init, "float64"))
        shared = updated(rows.together, alpha)[1]
        seeds = self._seeds(rows, random_state, shared)
        total = seeds.sum(axis=1, keepdims=True)
        seeds = np.where(total > 0, seeds / np.where(total > 0, total, 1), shared)
        return _Model(weights, SHARED * shared + (1 - SHARED) * seeds)

    def _seeds(self, rows: _Rows, random_state: np.random.RandomState, shared: NDArray[np.float64]) -> NDArray[Any]:
        """Of each component what its probabilities are to be like, (K, V)."""
        K = self.n_components
        if self.init_params == "random":
            return shared * random_state.standard_exponential((K, rows.source.D))
        if self.init_params == "random_from_data":
            seeds, _ = rows.drawn(K, random_state)
        else:
            X, sample_weight = rows.drawn(max(self.init_size, K), random_state)
            X = normalize(X)
            if self.init_params == "kmeans":
                kmeans = KMeans(K, n_init=1, random_state=random_state)
                return kmeans.fit(X, sample_weight=sample_weight).cluster_centers_.astype("float64")
            seeds, _ = kmeans_plusplus(X, K, sample_weight=sample_weight, random_state=random_state)
        return (seeds.toarray() if sparse.issparse(seeds) else seeds).astype("float64")

    def _fitted(self, V: int) -> _Model:
        """The attributes, checked: they may have been set by hand."""
        weights, probabilities = (np.asarray(p, "float64") for p in (self.weights_, self.probabilities_))
        sizes = {"V": (V, "X")}
        check.shape("probabilities_", probabilities, "K V", sizes)
        check.shape("weights_", weights, "K", sizes)
        return _Model(weights, probabilities)

    # ------------------------------------------------------------------------------------------------------ prediction

    def predict(self, X: ArrayLike) -> NDArray[np.intp]:
        """The number of the most probable component of each row, (N,); the first of equal ones.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> mixture = MultinomialMixture(2, probabilities_init=[[0.9, 0.1], [0.1, 0.9]]).fit([[9, 1], [1, 9]])
        >>> mixture.predict([[5, 0], [1, 4]]).tolist()
        [0, 1]
        """
        return self._posterior(self._counts(X), "labels")

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Each row's probabilities of having come from each component, (N, K).

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> mixture = MultinomialMixture(2, probabilities_init=[[0.9, 0.1], [0.1, 0.9]]).fit([[9, 1], [1, 9]])
        >>> mixture.predict_proba([[9, 0], [0, 0]]).round(3).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
        """
        return self._posterior(self._counts(X), "resp")

    def score_samples(self, X: ArrayLike) -> NDArray[Any]:
        """The log-likelihood of each row, (N,), in nats, multinomial coefficient included.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> MultinomialMixture(alpha=0).fit([[1, 1]]).score_samples([[1, 1], [2, 0]]).round(6).tolist()
        [-0.693147, -1.386294]
        """
        counts = self._counts(X)
        likelihood = self._posterior(counts, "log_likelihood")
        return (likelihood + coefficients(counts)).astype(likelihood.dtype)

    def perplexity(self, X: ArrayLike) -> float:
        """Per word: exp(-Σ ln P / words), P without multinomial coefficients: of a row's words in any one order.

        V for a model that finds all words equally probable, 1 for one that is always certain; inf where no component
        can produce a row. ValueError where X has no words.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> round(MultinomialMixture(alpha=0).fit([[1, 1, 1, 1]]).perplexity([[3, 0, 1, 0]]), 6)
        4.0
        """
        counts = self._counts(X)
        words = float(counts.total.sum())
        if words == 0:
            raise ValueError("X: expected at least one word, got none")
        with np.errstate(over="ignore"):
            return float(np.exp(-self._posterior(counts, "log_likelihood").sum(dtype="float64") / words))

    def bic(self, X: ArrayLike) -> float:
        """Bayesian information criterion: the lower the better. Parameters: K - 1 weights, K (V - 1) probabilities.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> round(MultinomialMixture(alpha=0).fit([[1, 1]]).bic([[1, 1], [1, 1]]), 6)
        3.465736
        """
        found = self.score_samples(X)
        return -2 * float(found.sum(dtype="float64")) + self._n_parameters() * float(np.log(len(found)))

    def aic(self, X: ArrayLike) -> float:
        """Akaike information criterion: the lower the better.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> round(MultinomialMixture(alpha=0).fit([[1, 1]]).aic([[1, 1], [1, 1]]), 6)
        4.772589
        """
        return -2 * float(self.score_samples(X).sum(dtype="float64")) + 2 * self._n_parameters()

    def sample(self, n_samples: int = 1, length: int | ArrayLike = 100) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw rows.

        Parameters
        ----------
        n_samples : int
            At least 1.
        length : int, or integers of shape (n_samples,)
            The words of each row, at least 0.

        Returns
        -------
        X : array of shape (n_samples, V), int64
        labels : array of shape (n_samples,), int64
            The component of each row, in rising order, as in scikit-learn.

        Raises
        ------
        TypeError, ValueError
            `n_samples` or `length` is not an integer, too small, or of the wrong shape.

        Examples
        --------
        >>> from fastml.sklearn import MultinomialMixture
        >>> X, labels = MultinomialMixture(random_state=0).fit([[1, 1]]).sample(3, length=10)
        >>> X.shape, X.sum(axis=1).tolist(), labels.tolist()
        ((3, 2), [10, 10, 10], [0, 0, 0])
        """
        check_is_fitted(self)
        n_samples = check.integer("n_samples", n_samples, 1)
        lengths = check.integers("length", length)
        if lengths.shape not in ((), (n_samples,)):
            raise ValueError(
                f"length: expected an integer, or shape (n_samples,) = ({n_samples},), got {lengths.shape}"
            )
        if (lengths < 0).any():
            raise ValueError(f"length: expected integers of at least 0, got {lengths.min()}")
        random_state = check_random_state(self.random_state)
        weights, probabilities = (
            p / p.sum(axis=-1, keepdims=True) for p in self._fitted(self.n_features_in_).parameters
        )
        labels = np.repeat(np.arange(len(weights)), random_state.multinomial(n_samples, weights))
        rows = [
            random_state.multinomial(n, probabilities[k])
            for n, k in zip(np.broadcast_to(lengths, n_samples), labels, strict=True)
        ]
        return np.array(rows, "int64"), labels

    def _counts(self, X: ArrayLike) -> Counts:
        check_is_fitted(self)
        X, _ = self._validated(X, None, first=False)
        return counts_of(X, X.data if sparse.issparse(X) else X)

    def _posterior(self, counts: Counts, wanted: str) -> NDArray[Any]:
        return Multinomials(*self._fitted(counts.V).parameters, counts.dtype).posterior(counts, wanted)[0]

    # ------------------------------------------------------------------------------------------------- the estimator

    def _validated(
        self,
        X: Any,
        sample_weight: ArrayLike | None,
        *,
        least: int = 1,
        first: bool = True,
        dtype: Any = (np.float64, np.float32),
    ) -> tuple[Any, NDArray[Any] | None]:
        X = validate_data(self, X, reset=first, accept_sparse="csr", dtype=dtype, order="C", ensure_min_samples=least)
        if X.shape[0]:  # of no rows scikit-learn finds no smallest count
            check_non_negative(X, f"X in {type(self).__name__}")
        return X, None if sample_weight is None else checked_weights(sample_weight, X)

    def _publish(
        self,
        parameters: tuple[NDArray, NDArray],
        statistics: MultinomialStatistics | None,
        seen: float,
        dtype: np.dtype,
    ) -> None:
        """The attributes; and for `partial_fit` the statistics of a row, and the weight of all rows."""
        self.weights_, self.probabilities_ = (p.astype(dtype) for p in parameters)
        self._statistics, self._seen = statistics, seen

    def _n_parameters(self) -> int:
        K, V = self.probabilities_.shape
        return K - 1 + K * (V - 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags
