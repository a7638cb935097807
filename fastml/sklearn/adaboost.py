"""scikit-learn's AdaBoostClassifier and AdaBoostRegressor, whose trees grow on rows that are sorted once."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from itertools import count
from numbers import Real
from typing import Any

import numpy as np
import sklearn.ensemble
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, r2_score
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ..boosting import ensemble as boosted
from ..boosting.ensemble import Ensemble, Reweighed
from ..boosting.trees import Grown, Learner, Trees, encode
from ..boosting.weights import weighted_median
from .boosting import EPSILON, Boosting, BoostingIteration, Rows, Step, seed_of
from .decision_trees import Grower, estimators_of

__all__ = ["AdaBoostClassifier", "AdaBoostRegressor"]

Array = NDArray[Any]

LARGEST = math.log(np.finfo("float64").max)

WORSE_THAN_RANDOM = "BaseClassifier in AdaBoostClassifier ensemble is worse than random, ensemble can not be fit."
INFINITE = (
    "Sample weights have reached infinite values, at iteration {}, causing overflow. Iterations stopped. Try lowering "
    "the learning rate."
)


class AdaBoostClassifier(Boosting, sklearn.ensemble.AdaBoostClassifier):
    """AdaBoost for two classes or more: scikit-learn's estimator, many times faster on stumps and small trees.

    .. math:: f(x) = \\arg\\max_k \\sum_t α_t [f_t(x) = k], \\quad α_t = η (\\ln\\frac{1 - e_t}{e_t} + \\ln(K - 1))

    A subclass of `sklearn.ensemble.AdaBoostClassifier`: its parameters, attributes, methods, errors and warnings. What
    comes after `random_state` is beyond it.

    Parameters
    ----------
    estimator, n_estimators, learning_rate, random_state
        As in scikit-learn.
    algorithm : {"SAMME", "SAMME.R", "gentle", "logit"}, default="SAMME"
        AdaBoost by votes; by log-probabilities, which takes any base estimator with `predict_proba`; GentleBoost and
        LogitBoost, on regression trees of the base estimator's depth, where the fast path is taken.
    early_stopping : bool, default=False
        Hold a share of the rows out (by `random_state`, the classes in proportion), score them after each round, and
        keep the rounds up to the best score.
    validation_fraction : float, default=0.1
        That share.
    n_iter_no_change : int, default=5
        Rounds after the best one at which the fit ends.
    tol : float, default=0.0
        What a score must exceed the best one by.
    n_jobs : int or None, default=None
        Threads of the fit, -1 for all CPUs; None for fastml's setting. It is the process's while the fit runs.
    weight_trim : float or None, default=None
        In (0, 1]: rows of the smallest weights that hold at most 1 - weight_trim of their sum are left out of a round's
        search. Only on the fast path.
    missing : {"error", "learn"}, default="error"
        Whether X may have NaN: it goes to the side of a split that lowers the criterion. Other base estimators than the
        fast path's must take it themselves.
    warm_start : bool, default=False
        Go on from the fit before, with more `n_estimators`: bit for bit as if it had been one fit, for an integer
        `random_state` or a generator that nothing else draws from.
    callback : callable or None, default=None
        Called with a `BoostingIteration` after each round of a fit. If it returns True, the fit ends there.
    progress : bool, default=False
        Show a progress bar of the rounds on stderr, where that is a terminal.

    Attributes
    ----------
    estimator_ : estimator
    estimators_ : list of estimators
        On the fast path made when first asked for: scikit-learn's trees, with a `tree_`. Of "gentle" and "logit"
        regression trees, of more than two classes a list of K for each round.
    classes_ : array of shape (K,)
    n_classes_ : int
    estimator_weights_, estimator_errors_ : array of shape (n_estimators,)
        0 and 1 for rounds that there were not. Weights are 1 but for "SAMME"; errors are the weighted ones of each
        estimator, of "gentle" and "logit" those of all so far.
    train_loss_ : array of shape (rounds,)
        The weighted mean of the loss that the algorithm minimises, over the rows of the fit, after each round:
        exponential, of "logit" in nats. Weights raised to eps count as they are then.
    validation_scores_ : array of shape (rounds,)
        Weighted accuracies on the rows held out. Only with `early_stopping`.
    feature_importances_ : array of shape (D,)
    gain_importances_ : array of shape (D,)
        By how much the splits lowered the criterion, not by how often a feature was taken. Only on the fast path.
    n_features_in_ : int
    feature_names_in_ : array of shape (D,)
        Only where X has names.

    Notes
    -----
    The fast path is taken for dense X of fewer than 2^31 rows where `estimator` is None or exactly a
    `DecisionTreeClassifier` with a `max_depth` of 1 to 8 and otherwise default options but for `criterion` and
    `random_state`. X is cast to float32 there, as scikit-learn's trees do. On data without ties its results are
    scikit-learn's, within rounding; of splits that are equally good it takes the first feature's, scikit-learn a random
    one's. Other estimators are boosted as scikit-learn does, but for an update of the weights without logarithms.

    Memory: 13 bytes for each number of X, beside its float32 copy; and 80 for each row and thread while features are
    sorted.

    An error or Ctrl-C leaves the estimator as it was before the call.

    References
    ----------
    Zhu, Zou, Rosset and Hastie, Multi-class AdaBoost, Statistics and Its Interface 2 (2009). Friedman, Hastie and
    Tibshirani, Additive logistic regression, Annals of Statistics 28 (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.sklearn import AdaBoostClassifier
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]), ["a", "a", "b", "b", "a"]
    >>> boost = AdaBoostClassifier(n_estimators=5).fit(X, y)
    >>> boost.predict([[0.5], [2.5]]).tolist(), boost.estimator_errors_[:2].round(6).tolist()
    (['a', 'b'], [0.2, 0.25])
    >>> boost.estimators_[0].tree_.threshold.tolist()
    [1.5, -2.0, -2.0]
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **sklearn.ensemble.AdaBoostClassifier._parameter_constraints,
        **Boosting._parameter_constraints,
        "algorithm": [StrOptions(set(boosted.ALGORITHMS))],
        "weight_trim": [Interval(Real, 0, 1, closed="right"), None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_estimators: int = 50,
        learning_rate: float = 1.0,
        random_state: int | np.random.RandomState | None = None,
        algorithm: str = "SAMME",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        tol: float = 0.0,
        n_jobs: int | None = None,
        weight_trim: float | None = None,
        missing: str = "error",
        warm_start: bool = False,
        callback: Callable[[BoostingIteration], Any] | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            estimator=estimator,
            n_estimators=n_estimators,
            learning_rate=learning_rate,
            random_state=random_state,
        )
        self.algorithm = algorithm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.n_jobs = n_jobs
        self.weight_trim = weight_trim
        self.missing = missing
        self.warm_start = warm_start
        self.callback = callback
        self.progress = progress

    # --------------------------------------------------------------------------------------------------------- fitting

    def _boost_all(
        self,
        rows: Rows,
        held: Rows | None,
        grower: Grower | None,
        random_state: np.random.RandomState,
        n_old: int,
        replay: bool,
    ) -> None:
        if n_old and self._algorithm != self.algorithm:
            raise ValueError(f"warm_start: expected the algorithm of the fit before, {self._algorithm!r}")
        if grower is None and self.algorithm in ("gentle", "logit"):
            raise ValueError(
                f"algorithm: {self.algorithm!r} needs dense X and a DecisionTreeClassifier with a max_depth from 1 to "
                f"8 and otherwise default options as the estimator, got {self.estimator_!r}"
            )
        if grower is None and self.algorithm == "SAMME.R" and not hasattr(self.estimator_, "predict_proba"):
            raise ValueError(f"algorithm: 'SAMME.R' needs an estimator with predict_proba, got {self.estimator_!r}")
        if grower is None and self.weight_trim is not None:
            raise ValueError(f"weight_trim: expected None with the estimator {self.estimator_!r}")
        self._algorithm = self.algorithm
        boost = self._boost_others if grower is None else self._boost_trees
        boost(rows, held, grower, random_state, n_old, replay)

    def _boost_trees(
        self,
        rows: Rows,
        held: Rows | None,
        grower: Grower,
        random_state: np.random.RandomState,
        n_old: int,
        replay: bool,
    ) -> None:
        X = self._as_float32(rows.X)
        check_classification_targets(rows.y)
        classes, y = np.unique(rows.y, return_inverse=True)
        K = len(classes)
        weight = rows.sample_weight
        if not weight.all():
            some = weight > 0
            X, y, weight = X[some], y[some], weight[some]
        votes = self.algorithm == "SAMME"
        regression = self.algorithm in ("gentle", "logit")
        if regression and K < 2:
            raise ValueError(f"y: expected at least two classes for the algorithm {self.algorithm!r}, got one")
        coded = encode(X, None if regression else y, None if regression else K)
        learner = Learner(coded, "squared_error" if regression else grower.criterion, grower.max_depth)
        seeds = list(self._seeds) if n_old and not replay else []
        begin: Any = ()
        if n_old:
            self._check_same(learner, classes)
            begin = boosted.regrown(self._grown.trees, coded, X, y)
        self.classes_, self.n_classes_ = classes, K
        found = boosted.rounds(
            learner, y, weight, K, self.algorithm, self.learning_rate,
            floor=EPSILON, trim=self.weight_trim, begin=begin,
        )  # fmt: skip

        def steps() -> Iterator[Step]:
            log_loss = 0.0
            for n in count():
                if n >= len(seeds):
                    seeds.append(seed_of(random_state))
                each = next(found, None)
                if each is None:
                    return
                trees = tuple(tree._replace(leaf=None, incorrect=None) for tree in each.trees)
                weight, loss = each.alpha, each.loss
                if votes:
                    weight = 1.0 if each.error == 0 else weight  # scikit-learn's
                    log_loss += boosted.samme_log_loss(each.error, weight, K)
                    loss = boosted.exponential(log_loss)
                yield Step(weight, each.error, loss, each._replace(trees=trees))

        score = None
        if held is not None:
            held_X = self._as_float32(held.X)
            scores = np.zeros((len(held_X), K))

            def score(step: Step) -> float:
                each = step.part
                trees = Trees.stacked(each.trees, learner.criterion, coded.D)
                value = np.full(each.column.shape, step.weight) if votes else each.leaf_value
                scores[:] += trees.scores(held_X, value, K, each.column)
                predicted = classes[scores.argmax(axis=1)]
                return accuracy_score(held.y, predicted, sample_weight=held.sample_weight)

        try:
            parts = self._run(_watched(steps(), self.n_estimators) if votes else steps(), n_old, score)
        except boosted.WorseThanRandom:
            raise ValueError(WORSE_THAN_RANDOM) from None
        grown = Ensemble.of(parts, learner, K, self.algorithm)
        if self.algorithm == "SAMME.R":  # its decision is the mean of the steps at a learning rate of 1
            grown = replace(grown, leaf_value=grown.leaf_value / self.learning_rate)
        self._keep_grown(grown, seeds[: len(grown)])

    def _check_same(self, learner: Learner, classes: Array) -> None:
        trees = self._grown.trees
        if (trees.criterion, trees.depth) != (learner.criterion, learner.max_depth):
            raise ValueError("warm_start: expected the criterion and max_depth of the fit before")
        if not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start: expected the classes of the fit before, {self.classes_}, got {classes}")

    def _boost_others(
        self,
        rows: Rows,
        held: Rows | None,
        grower: None,
        random_state: np.random.RandomState,
        n_old: int,
        replay: bool,
    ) -> None:
        old = list(self.estimators_) if n_old else []
        score = None
        if held is not None:
            scores = 0.0

            def score(step: Step) -> float:
                nonlocal scores
                if self.algorithm == "SAMME":
                    scores = scores + step.weight * (step.part.predict(held.X)[:, None] == self.classes_)
                else:
                    scores = scores + _log_odds(step.part, held.X)
                predicted = self.classes_[scores.argmax(axis=1)]
                return accuracy_score(held.y, predicted, sample_weight=held.sample_weight)

        found = self._steps(rows, random_state, old, replay)
        if self.algorithm == "SAMME":
            found = _watched(found, self.n_estimators)
        self.estimators_ = self._run(found, n_old, score)

    def _steps(self, rows: Rows, random_state: np.random.RandomState, old: list[Any], replay: bool) -> Iterator[Step]:
        """scikit-learn's loop over estimators of any kind."""
        X, y, w = rows
        absent = w == 0
        log_loss = 0.0
        for n in range(self.n_estimators):
            w = np.clip(w, EPSILON, None)
            w[absent] = 0
            if n >= len(old) or replay:
                estimator = self._make_estimator(append=False, random_state=random_state)
            if n < len(old):
                estimator = old[n]
            else:
                estimator.fit(X, y, sample_weight=w)
            if n == 0:
                self.classes_ = getattr(estimator, "classes_", None)
                self.n_classes_ = len(self.classes_)
            K = self.n_classes_
            weights = Reweighed(w.copy())  # the estimator may keep what it was given
            w = weights.w
            if self.algorithm == "SAMME.R":
                odds = _log_odds(estimator, X)
                error = weights.error(self.classes_[odds.argmax(axis=1)] != y)
                exponent = -self.learning_rate * odds[np.arange(len(w)), np.searchsorted(self.classes_, y)]
                exponent /= max(K - 1, 1)
                most = exponent[~absent].max()
                w *= np.exp(np.minimum(exponent - most, 0))
                total = w.sum()
                w /= total
                log_loss += most + math.log(total)
                yield Step(1.0, error, boosted.exponential(log_loss), estimator)
            else:
                incorrect = estimator.predict(X) != y
                weights.error(incorrect)
                error = float(np.average(incorrect, weights=w))  # scikit-learn's own rounding tells chance from better
                if error >= 1 - 1 / K and error > 0:
                    if n == 0:
                        raise ValueError(WORSE_THAN_RANDOM)
                    return
                weight = 1.0
                if error > 0:
                    weight = self.learning_rate * (math.log((1 - error) / error) + math.log(K - 1))
                log_loss += boosted.samme_log_loss(error, weight, K)
                yield Step(weight, error, boosted.exponential(log_loss), estimator)
                if error > 0:
                    weights.update(weight)
            if error == 0:
                return

    def _make_estimators(self) -> list[Any]:
        grown, seeds = self._grown, self._seeds
        if grown.algorithm in ("SAMME", "SAMME.R"):
            return estimators_of(grown.trees, self.estimator_, seeds, self.classes_)
        T = grown.trees_per_round
        tree = DecisionTreeRegressor(max_depth=grown.trees.depth)
        made = estimators_of(grown.trees, tree, np.repeat(seeds, T).tolist(), None)
        return made if T == 1 else [made[e * T : (e + 1) * T] for e in range(len(grown))]

    def _grown_trees(self) -> tuple[Trees, int] | None:
        grown = self._fast()
        return None if grown is None else (grown.trees, grown.trees_per_round)

    # ------------------------------------------------------------------------------------------------------ predicting

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """The scores of the classes, in one pass over the rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D)

        Returns
        -------
        array of shape (N,) or (N, K)
            Of "SAMME" and "SAMME.R" means over the rounds, as scikit-learn has them (the latter until 1.5); of "gentle"
            and "logit" the additive model. With two classes, the second's less the first's.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            scikit-learn's.

        Examples
        --------
        >>> from fastml.sklearn import AdaBoostClassifier
        >>> boost = AdaBoostClassifier().fit([[0.0], [1.0], [2.0]], ["a", "a", "b"])
        >>> (boost.decision_function([[0.0], [2.0]]) > 0).tolist()
        [False, True]
        """
        check_is_fitted(self)
        if self._fast() is None and self._algorithm == "SAMME":
            return super().decision_function(X)
        if self._fast() is None:
            X = self._check_X(X)
            return self._decision(sum(_log_odds(each, X) for each in self.estimators_), len(self))
        X, served = self._rows_for_ensemble(X)
        if self.n_classes_ == 1:
            return np.zeros((len(X), 1))
        return self._decision(boosted.decision(X, served), self.estimator_weights_.sum())

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of the largest score, in one pass over the rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D)

        Returns
        -------
        array of shape (N,)

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            scikit-learn's.

        Examples
        --------
        >>> from fastml.sklearn import AdaBoostClassifier
        >>> AdaBoostClassifier().fit([[0.0], [1.0], [2.0]], ["a", "a", "b"]).predict([[0.5], [5.0]]).tolist()
        ['a', 'b']
        """
        check_is_fitted(self)
        if self._fast() is None or self.n_classes_ <= 2:
            return super().predict(X)
        X, served = self._rows_for_ensemble(X)
        labels = np.empty(len(X), np.intp)
        served.trees.scores(X, served.leaf_value, self.n_classes_, served.column, labels=labels)
        return self.classes_.take(labels)

    def staged_decision_function(self, X: ArrayLike) -> Iterator[NDArray[np.float64]]:
        """`decision_function` after each round, each tree being applied once.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D)

        Yields
        ------
        array of shape (N,) or (N, K)

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As in `decision_function`, when the first is asked for.

        Examples
        --------
        >>> from fastml.sklearn import AdaBoostClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0], [4.0]], ["a", "a", "b", "b", "a"]
        >>> boost = AdaBoostClassifier(n_estimators=2).fit(X, y)
        >>> [decision.shape for decision in boost.staged_decision_function(X)]
        [(5,), (5,)]
        """
        check_is_fitted(self)
        if self._fast() is None and self._algorithm == "SAMME":
            yield from super().staged_decision_function(X)
        elif self._fast() is None:
            X = self._check_X(X)
            scores = 0.0
            for n, each in enumerate(self.estimators_, 1):
                scores = scores + _log_odds(each, X)
                yield self._decision(scores.copy(), n)
        else:
            X, served = self._rows_for_ensemble(X)
            if self.n_classes_ == 1:
                for _ in range(len(self)):
                    yield np.zeros((len(X), 1))
                return
            staged = boosted.staged_decision(X, served)
            for scores, weight in zip(staged, self.estimator_weights_.cumsum(), strict=False):
                yield self._decision(scores, weight)

    def _rows_for_ensemble(self, X: ArrayLike) -> tuple[Array, Ensemble]:
        served = self._served()
        X, trees = self._rows_for(X, served.trees)
        return X, replace(served, trees=trees)

    def _served(self) -> Ensemble:
        """What the fast path's scores are sums of; of SAMME with two classes, one signed number of each tree."""
        grown = self._grown
        if self._algorithm != "SAMME":
            return grown
        weights = self.estimator_weights_[: len(grown), None]
        if self.n_classes_ > 2:
            return replace(grown, leaf_value=np.broadcast_to(weights, grown.column.shape))
        signed = np.where(grown.column == 1, weights, -weights)[..., None]
        return replace(grown, leaf_value=signed, column=None, n_classes=1)

    def _decision(self, scores: Array, weight: float) -> Array:
        """Of the sums over rounds of that weight; overwrites them."""
        K = self.n_classes_
        if self._algorithm in ("SAMME", "SAMME.R"):
            scores /= weight
        if self._algorithm == "SAMME" and K > 2:
            scores *= K / (K - 1)
            scores -= 1 / (K - 1)
        if K > 2:
            return scores
        return 2 * scores[:, 0] if self._algorithm == "SAMME" else scores[:, 1] - scores[:, 0]

    def _compute_proba_from_decision(self, decision: Array, n_classes: int) -> Array:
        """Overwrites the decision."""
        if n_classes == 2:
            e = np.exp(-np.abs(decision))
            larger, smaller = 1 / (1 + e), e / (1 + e)
            first = decision < 0
            return np.stack([np.where(first, larger, smaller), np.where(first, smaller, larger)], axis=1)
        if self._algorithm != "logit":
            decision /= n_classes - 1
        # A column at a time: NumPy's reductions along short rows take four times as long.
        decision -= reduce(np.maximum, decision.T)[:, None]
        np.exp(decision, out=decision)
        decision /= reduce(np.add, decision.T)[:, None]
        return decision


def _watched(steps: Iterator[Step], n_estimators: int) -> Iterator[Step]:
    """The same rounds, up to the one after which scikit-learn's weights, not yet scaled, would be infinite."""
    for n, step in enumerate(steps):
        yield step
        if n < n_estimators - 1 and step.error > 0 and step.weight + math.log(step.error) > LARGEST:
            warnings.warn(INFINITE.format(n), stacklevel=2)
            return


def _log_odds(estimator: Any, X: Any) -> Array:
    """(K - 1) (ln p_k - mean_j ln p_j) by a classifier's probabilities, (N, K)."""
    log_p = np.log(np.maximum(estimator.predict_proba(X), EPSILON))
    return (log_p.shape[1] - 1) * (log_p - log_p.mean(axis=1, keepdims=True))


class AdaBoostRegressor(Boosting, sklearn.ensemble.AdaBoostRegressor):
    """AdaBoost.R2: scikit-learn's estimator, many times faster on small trees.

    .. math:: f(x) = \\text{median of } f_t(x) \\text{ weighted by } η \\ln\\frac{1 - \\bar L_t}{\\bar L_t}

    A subclass of `sklearn.ensemble.AdaBoostRegressor`: its parameters, attributes, methods, errors and warnings. What
    comes after `random_state` is beyond it.

    Parameters
    ----------
    estimator, n_estimators, learning_rate, loss, random_state
        As in scikit-learn.
    early_stopping, validation_fraction, n_iter_no_change, tol, n_jobs, missing, warm_start, callback, progress
        As in `AdaBoostClassifier`; the score is R².

    Attributes
    ----------
    estimator_ : estimator
    estimators_ : list of estimators
        On the fast path made when first asked for: scikit-learn's trees, with a `tree_`.
    estimator_weights_, estimator_errors_ : array of shape (n_estimators,)
        0 and 1 for rounds that there were not.
    train_loss_ : array of shape (rounds,)
        The weighted mean loss of each round's estimator, as a share of the largest: `estimator_errors_`.
    validation_scores_ : array of shape (rounds,)
        R² on the rows held out. Only with `early_stopping`.
    feature_importances_, gain_importances_ : array of shape (D,)
    n_features_in_ : int
    feature_names_in_ : array of shape (D,)
        Only where X has names.

    Notes
    -----
    The fast path is taken for dense X of fewer than 2^31 rows where `estimator` is None or exactly a
    `DecisionTreeRegressor` with the criterion "squared_error", a `max_depth` of 1 to 8 and otherwise default options. A
    bootstrap is scikit-learn's, by the same draws; a row that it has twice counts twice, and the sorted rows serve all.

    An error or Ctrl-C leaves the estimator as it was before the call.

    References
    ----------
    Drucker, Improving regressors using boosting techniques, ICML (1997).

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.sklearn import AdaBoostRegressor
    >>> X = np.arange(8.0)[:, None]
    >>> boost = AdaBoostRegressor(n_estimators=5, random_state=0).fit(X, [0, 0, 0, 0, 4, 4, 4, 4])
    >>> boost.predict([[1.0], [6.0]]).tolist()
    [0.0, 4.0]
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **sklearn.ensemble.AdaBoostRegressor._parameter_constraints,
        **Boosting._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_estimators: int = 50,
        learning_rate: float = 1.0,
        loss: str = "linear",
        random_state: int | np.random.RandomState | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        tol: float = 0.0,
        n_jobs: int | None = None,
        missing: str = "error",
        warm_start: bool = False,
        callback: Callable[[BoostingIteration], Any] | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            estimator=estimator,
            n_estimators=n_estimators,
            learning_rate=learning_rate,
            loss=loss,
            random_state=random_state,
        )
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.n_jobs = n_jobs
        self.missing = missing
        self.warm_start = warm_start
        self.callback = callback
        self.progress = progress

    # --------------------------------------------------------------------------------------------------------- fitting

    def _boost_all(
        self,
        rows: Rows,
        held: Rows | None,
        grower: Grower | None,
        random_state: np.random.RandomState,
        n_old: int,
        replay: bool,
    ) -> None:
        N = rows.X.shape[0]

        def bootstrap(weight: Array) -> Array:
            return random_state.choice(np.arange(N), size=N, replace=True, p=weight)

        def times_drawn(weight: Array) -> Array:
            """How often `bootstrap` would have drawn each row: sorted, its numbers are found in a third of the time."""
            ends = weight.cumsum()
            return np.diff(np.sort(random_state.random_sample(N)).searchsorted(ends / ends[-1]), prepend=0)

        if grower is None:
            old = list(self.estimators_) if n_old else []

            def weak(n: int, weight: Array) -> tuple[Any, Array]:
                if n >= n_old or replay:
                    estimator = self._make_estimator(append=False, random_state=random_state)
                    drawn = bootstrap(weight)
                if n < n_old:
                    estimator = old[n]
                else:
                    estimator.fit(_safe_indexing(rows.X, drawn), _safe_indexing(rows.y, drawn))
                return estimator, estimator.predict(rows.X)

            self.estimators_ = self._run(self._steps(rows, weak), n_old, self._score(held, None))
            return

        X, y = self._as_float32(rows.X), np.ascontiguousarray(rows.y, np.float64)
        learner = Learner(encode(X), grower.criterion, grower.max_depth)
        seeds = list(self._seeds) if n_old and not replay else []
        begin: Iterator[Grown] = iter(())
        if n_old:
            if self._grown.depth != grower.max_depth:
                raise ValueError("warm_start: expected the max_depth of the fit before")
            begin = boosted.regrown(self._grown, learner.coded, X, y)

        def weak(n: int, weight: Array) -> tuple[Any, Array]:
            if n >= len(seeds):
                seeds.append(seed_of(random_state))
                drawn = times_drawn(weight)
            tree = next(begin, None)
            if tree is None:
                tree = learner.grow(drawn.astype("float64"), y)
            predicted = _means(tree.value[len(tree.feature) :])[tree.leaf]
            return tree._replace(leaf=None, incorrect=None), predicted

        parts = self._run(self._steps(rows, weak), n_old, self._score(held, learner))
        trees = Trees.stacked(parts, grower.criterion, learner.coded.D)
        if not learner.coded.missing:  # NaN would go where more of the bootstrap's rows went, not of the distinct ones
            drawn = trees.value[..., 0]
            trees = replace(trees, missing_left=(trees.feature < 0) | (drawn[:, 1::2] > drawn[:, 2::2]))
        self._keep_grown(trees, seeds[: len(trees)])

    def _steps(self, rows: Rows, weak: Callable[[int, Array], tuple[Any, Array]]) -> Iterator[Step]:
        """scikit-learn's loop. weak : (round, weights) → what is kept of its estimator, and its predictions."""
        _, y, w = rows
        present = w > 0
        for n in range(self.n_estimators):
            w = np.clip(w, EPSILON, None)
            w[~present] = 0
            part, predicted = weak(n, w)
            loss = np.abs(predicted - y)[present]
            most = loss.max()
            if most != 0:
                loss /= most
            if self.loss == "square":
                loss **= 2
            elif self.loss == "exponential":
                loss = 1 - np.exp(-loss)
            error = (w[present] * loss).sum()
            if not np.isfinite(error):
                raise ValueError(f"y: expected numbers whose differences are finite, got a weighted loss of {error}")
            if error <= 0:
                yield Step(1.0, 0.0, 0.0, part)
                return
            if error >= 0.5:
                if n == 0:  # an ensemble has one estimator at least
                    yield Step(0.0, 1.0, float(error), part)
                return
            beta = error / (1 - error)
            yield Step(self.learning_rate * np.log(1 / beta), error, float(error), part)
            w[present] *= np.power(beta, (1 - loss) * self.learning_rate)
            total = w.sum()
            if total <= 0:
                return
            w /= total

    def _score(self, held: Rows | None, learner: Learner | None) -> Callable[[Step], float] | None:
        if held is None:
            return None
        X = held.X if learner is None else self._as_float32(held.X)
        predictions, weights = [], []

        def score(step: Step) -> float:
            if learner is None:
                predictions.append(step.part.predict(X))
            else:
                predictions.append(
                    _predictions(X, Trees.stacked([step.part], learner.criterion, learner.coded.D))[:, 0]
                )
            weights.append(step.weight)
            found = _median(np.stack(predictions, axis=1), np.array(weights))
            return r2_score(held.y, found, sample_weight=held.sample_weight)

        return score

    def _make_estimators(self) -> list[Any]:
        return estimators_of(self._grown, self.estimator_, self._seeds, None, bootstrapped=True)

    def _grown_trees(self) -> tuple[Trees, int] | None:
        grown = self._fast()
        return None if grown is None else (grown, 1)

    # ------------------------------------------------------------------------------------------------------ predicting

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The weighted median of the estimators' predictions.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D)

        Returns
        -------
        array of shape (N,)

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            scikit-learn's.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.sklearn import AdaBoostRegressor
        >>> X = np.arange(8.0)[:, None]
        >>> AdaBoostRegressor(random_state=0).fit(X, [0, 0, 0, 0, 4, 4, 4, 4]).predict([[1.0], [6.0]]).tolist()
        [0.0, 4.0]
        """
        check_is_fitted(self)
        grown = self._fast()
        if grown is None:
            return super().predict(X)
        X, grown = self._rows_for(X, grown)
        return grown.quantile(X, _means(grown.leaves), self.estimator_weights_[: len(grown)])

    def staged_predict(self, X: ArrayLike) -> Iterator[NDArray[np.float64]]:
        """`predict` after each round, each tree being applied once.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D)

        Yields
        ------
        array of shape (N,)

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As in `predict`, when the first is asked for.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.sklearn import AdaBoostRegressor
        >>> X = np.arange(8.0)[:, None]
        >>> boost = AdaBoostRegressor(n_estimators=3, random_state=0).fit(X, X[:, 0])
        >>> [predicted.shape for predicted in boost.staged_predict(X)]
        [(8,), (8,), (8,)]
        """
        check_is_fitted(self)
        grown = self._fast()
        if grown is None:
            yield from super().staged_predict(X)
            return
        found = _predictions(*self._rows_for(X, grown))
        for n in range(1, len(grown) + 1):
            yield _median(found[:, :n], self.estimator_weights_[:n])


def _means(leaves: Array) -> Array:
    """Of the target, from the sums of w, wy and wy² in each leaf; 0 where it is empty."""
    W = leaves[..., 0]
    return np.divide(leaves[..., 1], W, out=np.zeros_like(W), where=W > 0)


def _predictions(X: Array, trees: Trees) -> Array:
    """Of each tree, (N, E)."""
    return _means(trees.leaves)[np.arange(len(trees)), trees.apply(X).T]


def _median(values: Array, weights: Array) -> Array:
    """Of each row (N, E); where no weight is above 0, scikit-learn's choice."""
    values = values.astype(np.float64, copy=False)
    return weighted_median(values, weights) if weights.any() else values.min(axis=1)
