"""What AdaBoost's two estimators share: how rounds are run and stopped, warm starts, and trees made when asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import _fit_context, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite, check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import _raise_for_unsupported_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from ..boosting.trees import Trees
from ..threads import num_threads, usable_cpus
from .decision_trees import Grower, covered
from .progress import progress_bar

__all__ = ["Boosting", "BoostingIteration", "Rows", "Step", "seed_of"]

Array = NDArray[Any]

EPSILON = float(np.finfo("float64").eps)
SAFE = 3e38
"""Numbers up to this are in the range of float32."""


class BoostingIteration(NamedTuple):
    """What a callback is told after a round of a fit.

    Attributes
    ----------
    n_iter : int
        The round, from 1.
    weight : float
        Of its estimator: what `estimator_weights_` has.
    error : float
        What `estimator_errors_` has.
    loss : float
        What `train_loss_` has.
    validation_score : float or None
        With `early_stopping`, what `validation_scores_` has.

    Examples
    --------
    >>> from fastml.sklearn import AdaBoostClassifier
    >>> X, y, told = [[0.0], [1.0], [2.0], [3.0], [4.0]], ["a", "a", "b", "b", "a"], []
    >>> boost = AdaBoostClassifier(n_estimators=2, callback=told.append).fit(X, y)
    >>> [(each.n_iter, round(each.error, 6), each.validation_score) for each in told]
    [(1, 0.2, None), (2, 0.25, None)]
    """

    n_iter: int
    weight: float
    error: float
    loss: float
    validation_score: float | None


class Step(NamedTuple):
    """A round as a fit goes on: `part` is what will be kept of it."""

    weight: float
    error: float
    loss: float
    part: Any


class Rows(NamedTuple):
    """Of one fit, or held out of it."""

    X: Any
    y: Array
    sample_weight: Array


def seed_of(random_state: np.random.RandomState) -> int:
    """The `random_state` of the next estimator, drawn as scikit-learn draws it."""
    return random_state.randint(np.iinfo(np.int32).max)


class Boosting:
    """Of a subclass of one of scikit-learn's AdaBoost estimators.

    A fit leaves either `_grown`, what the fast path made, or a list of estimators. Of the former, `estimators_` are
    made when they are first asked for; a list that was then changed serves predictions itself.
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_jobs": [Integral, None],
        "missing": [StrOptions({"error", "learn"})],
        "warm_start": ["boolean"],
        "callback": [callable, None],
        "progress": ["boolean"],
    }

    # --------------------------------------------------------------------------------------------------------- fitting

    @_fit_context(prefer_skip_nested_validation=False)  # as in scikit-learn: the base estimator validates its own
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Boost the base estimator, as scikit-learn's `fit` does.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D)
        y : array-like of shape (N,)
            Classes, or numbers.
        sample_weight : array-like of shape (N,) or None
            At least 0; None for equal ones.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            scikit-learn's. After an error the estimator is as it was before.

        Warns
        -----
        UserWarning
            Weights became infinite, by a large `learning_rate`; rounds end there.

        Examples
        --------
        >>> from fastml.sklearn import AdaBoostClassifier
        >>> boost = AdaBoostClassifier(n_estimators=2).fit([[0.0], [1.0], [2.0]], [0, 1, 0], sample_weight=[2, 1, 1])
        >>> boost.estimator_errors_.round(6).tolist()
        [0.25, 0.166667]
        """
        _raise_for_unsupported_routing(self, "fit", sample_weight=sample_weight)
        with self._unchanged_by_failure(), _threads(self.n_jobs):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> None:
        anew = not (self.warm_start and hasattr(self, "estimator_weights_"))
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], ensure_2d=True, allow_nd=True, dtype=None,
            y_numeric=not is_classifier(self), ensure_all_finite=self._finite(), reset=anew,
        )  # fmt: skip
        sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, copy=True, ensure_non_negative=True)
        sample_weight /= sample_weight.max()  # or the sum might overflow
        rows = Rows(X, y, sample_weight / sample_weight.sum())
        self._validate_estimator()
        grower = None
        if not sparse.issparse(X) and X.shape[0] < 2**31 and is_classifier(self.estimator_) == is_classifier(self):
            grower = covered(self.estimator_)
        n_old = 0 if anew else len(self)
        if n_old > self.n_estimators:
            raise ValueError(
                f"n_estimators={self.n_estimators} must be larger or equal to len(estimators_)={n_old} when "
                "warm_start==True"
            )
        if not anew and (grower is None) != (self._fast() is None):
            raise ValueError("warm_start: expected the same kind of estimator as in the fit before")

        held = None
        if self.early_stopping:
            if is_classifier(self):
                check_classification_targets(y)
            parts = train_test_split(
                *rows, test_size=self.validation_fraction, random_state=self.random_state,
                stratify=y if is_classifier(self) else None,
            )  # fmt: skip
            held, rows = Rows(*parts[1::2]), Rows(*parts[::2])
            rows = rows._replace(sample_weight=rows.sample_weight / rows.sample_weight.sum())
        random_state = check_random_state(self.random_state)
        # A generator that goes on from the fit before has drawn what its rounds needed.
        replay = isinstance(self.random_state, Integral)
        self._boost_all(rows, held, grower, random_state, n_old, replay)

    def _boost_all(
        self,
        rows: Rows,
        held: Rows | None,
        grower: Grower | None,
        random_state: np.random.RandomState,
        n_old: int,
        replay: bool,
    ) -> None:
        """Fit all rounds, the first `n_old` of which are there already; what they drew is drawn again if `replay`."""
        raise NotImplementedError

    def _run(self, steps: Iterator[Step], n_old: int, score: Callable[[Step], float] | None) -> list[Any]:
        """The parts of the rounds to keep: all, or those up to the best score."""
        weights = np.zeros(self.n_estimators)
        errors = np.ones(self.n_estimators)
        parts, losses, scores = [], [], []
        best, n_best = -np.inf, 1
        with progress_bar(self.progress, self.n_estimators) as advance:
            for n, step in enumerate(steps, 1):
                weights[n - 1], errors[n - 1] = step.weight, step.error
                parts.append(step.part)
                losses.append(step.loss)
                stop = n == self.n_estimators
                if score is not None:
                    scores.append(score(step))
                    if scores[-1] > best + self.tol:
                        best, n_best = scores[-1], n
                    stop |= n - n_best >= self.n_iter_no_change
                if n > n_old:
                    told = BoostingIteration(n, step.weight, step.error, step.loss, scores[-1] if scores else None)
                    advance(n, f"round {n}, error {step.error:.4f}, loss {step.loss:.6g}")
                    stop |= self.callback is not None and bool(self.callback(told))
                if stop:  # before the generator updates the weights once more
                    break
        kept = len(parts) if score is None else n_best
        weights[kept:], errors[kept:] = 0, 1
        self.estimator_weights_, self.estimator_errors_ = weights, errors
        self.train_loss_ = np.array(losses)
        if score is not None:
            self.validation_scores_ = np.array(scores)
        elif hasattr(self, "validation_scores_"):
            del self.validation_scores_
        return parts[:kept]

    @contextmanager
    def _unchanged_by_failure(self) -> Iterator[None]:
        """The estimator as it was, if what is in the block fails."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _finite(self) -> bool | str:
        return "allow-nan" if self.missing == "learn" else True

    def _as_float32(self, X: Array) -> Array:
        """X as scikit-learn's trees take it, with their errors."""
        found = check_array(X, dtype=np.float32, ensure_all_finite=False, estimator=self.estimator_)
        if found.dtype != X.dtype:  # what was finite may be too large
            allow_nan, name = self.missing == "learn", type(self.estimator_).__name__
            assert_all_finite(found, allow_nan=allow_nan, estimator_name=name, input_name="X")
        return found

    def _check_X(self, X: ArrayLike) -> Any:
        return validate_data(
            self, X, accept_sparse=["csr", "csc"], ensure_2d=True, allow_nd=True, dtype=None,
            ensure_all_finite=self._finite(), reset=False,
        )  # fmt: skip

    def _rows_for(self, X: ArrayLike, trees: Trees) -> tuple[Array, Trees]:
        """Checked rows, and trees for them: of float64 rows, which keep their dtype, such as send each where it would
        go rounded to float32. Rounding them first took as long as 100 stumps.
        """
        X = self._check_X(X)
        X = X.toarray() if sparse.issparse(X) else X
        if X.dtype == np.float64 and X.ndim == 2 and X.flags.c_contiguous and X.size:
            flat = X.ravel()
            with np.errstate(over="ignore", invalid="ignore"):
                squares = np.einsum("i,i", flat, flat)  # not BLAS's, whose threads would spin where ours are to run
            if squares < SAFE**2 or max(X.max(), -X.min()) < SAFE:  # NaN is not below anything
                return X, trees.before_rounding()
        return self._as_float32(X), trees

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "learn"
        return tags

    # ------------------------------------------------------------------------------------------------------ estimators

    _grown: Any = None
    _made: tuple[Any, ...] | None = None

    @property
    def estimators_(self) -> list[Any]:
        """The fitted base estimators; on the fast path made when first asked for."""
        if "_estimators" not in vars(self):
            if self._grown is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute 'estimators_'")
            self._estimators = self._make_estimators()
            self._made = tuple(self._estimators)
        return self._estimators

    @estimators_.setter
    def estimators_(self, estimators: list[Any]) -> None:
        self._estimators, self._grown, self._made = estimators, None, None

    def _keep_grown(self, grown: Any, seeds: list[int]) -> None:
        self._grown, self._seeds, self._made = grown, seeds, None
        vars(self).pop("_estimators", None)

    def _make_estimators(self) -> list[Any]:
        raise NotImplementedError

    def _fast(self) -> Any:
        """What the fast path made, or None: there is none, or the list of estimators is no longer as it made it."""
        if self._made is not None:
            changed = len(self._made) != len(self._estimators)
            if changed or any(a is not b for a, b in zip(self._made, self._estimators, strict=True)):
                return None
        return self._grown

    def __len__(self) -> int:
        """The number of rounds."""
        grown = self._fast()
        return len(self.estimators_) if grown is None else len(grown)

    # ----------------------------------------------------------------------------------------------------- importances

    def _grown_trees(self) -> tuple[Trees, int] | None:
        """The trees of the fast path, and how many of them a round has."""
        raise NotImplementedError

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """What each feature's splits lowered the criterion by: of each tree as shares of 1, then the trees' mean, by
        `estimator_weights_`. (D,), as in scikit-learn; of stumps it is no more than a count of their features.
        """
        found = self._grown_trees()
        if found is None:
            return super().feature_importances_
        trees, T = found
        return self._by_round(trees.importances(), T) / self.estimator_weights_.sum()

    @property
    def gain_importances_(self) -> NDArray[np.float64]:
        """What each feature's splits lowered the criterion by, as shares of 1 in all: each tree counts by what it
        gained under its round's weights, times its weight. (D,). Only on the fast path.
        """
        found = self._grown_trees()
        if found is None:
            raise AttributeError("gain_importances_: expected trees of the fast path, got other estimators")
        trees, T = found
        lost = trees.weight() * trees.impurity()
        gain = np.maximum(lost[:, 0] - lost[:, trees.feature.shape[1] :].sum(axis=1), 0)
        share = gain / np.where(trees.weight()[:, 0] > 0, trees.weight()[:, 0], 1)
        found = self._by_round(trees.importances() * share[:, None], T)
        total = found.sum()
        return found / total if total > 0 else found

    def _by_round(self, found: NDArray[np.float64], T: int) -> NDArray[np.float64]:
        """The sum (D,) of what each tree has (E·T, D), by its round's weight."""
        E = len(found) // T
        return np.einsum("e,etd->d", self.estimator_weights_[:E], found.reshape(E, T, -1)) / T


@contextmanager
def _threads(n_jobs: int | None) -> Iterator[None]:
    """As many threads for fastml as joblib would take, or as are set."""
    if n_jobs is None:
        yield
        return
    if n_jobs == 0 or isinstance(n_jobs, bool):
        raise ValueError(f"n_jobs: expected an integer other than 0, or None, got {n_jobs}")
    with num_threads(n_jobs if n_jobs > 0 else max(1, usable_cpus() + 1 + n_jobs)):
        yield
