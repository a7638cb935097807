"""Boosting of trees: rounds of an ensemble, for two classes or more.

    SAMME    g^k(x) = Σ_t α_t [f_t(x) = k],   α = ln((1 - e) / e) + ln(K - 1),   w ← w e^α where f_t is wrong
    SAMME.R  F_k += (K - 1) (ln p_k - mean_j ln p_j) of a leaf's class weights,   w ← w exp(-y·F_t / K)
    gentle   F_k += (K - 1) E_w[y_k | x],   w = exp(-y·F / K)
    logit    F_k += (K - 1)/K (f_k - mean_j f_j),   f_k = E_w[z_k | x],   w = p(1 - p),   z = (y* - p) / w

y is coded 1 for a row's class and -1/(K - 1) for each other, y* 1 and 0. All but SAMME are additive models F, and with
K = 2, where F_0 = -F_1, they grow one tree a round.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check
from ..backend import find
from .trees import Coded, Grown, Learner, Trees, check_classes, checked_rows, encode
from .weights import ROUNDING, check_weights

__all__ = [
    "ALGORITHMS", "Ensemble", "Reweighed", "Round", "WorseThanRandom", "decision", "exponential", "fit_stumps",
    "fit_trees", "regrown", "rounds", "samme_log_loss", "staged_decision",
]  # fmt: skip

Array = NDArray[Any]

ALGORITHMS = ("SAMME", "SAMME.R", "gentle", "logit")

EPSILON = float(np.finfo("float64").eps)
CLIP = 4.0
"""Largest working response of LogitBoost; Friedman, Hastie and Tibshirani find 2 to 4 to work well."""
BLOCK = 64
"""Trees that rows are run through at a time where their leaves are wanted: N bytes each."""


class WorseThanRandom(ValueError):
    """The first tree is wrong as often as a guess is: there is nothing to boost."""


class Round(NamedTuple):
    """One round of boosting, of T trees with L leaves each.

    The trees' `leaf` and `incorrect` are overwritten in the next round.
    """

    trees: tuple[Grown, ...]
    error: float  # weighted; of SAMME and SAMME.R the tree's under the round's weights, else the ensemble's so far
    alpha: float  # of SAMME the tree's weight; else 1
    loss: float  # the mean over rows, by their first weights, of the loss that the algorithm minimises, after the round
    leaf_value: Array  # (T, L) or, without `column`, (T, L, K); see Trees.scores
    column: Array | None  # (T, L)


Grow = Callable[..., Grown]


# ------------------------------------------------------------------------------------------------------------- rounds


def rounds(
    learner: Learner,
    y: Array,
    sample_weight: Array,
    n_classes: int,
    algorithm: str = "SAMME",
    learning_rate: float = 1.0,
    *,
    floor: float = 0.0,
    trim: float | None = None,
    begin: Iterable[Grown] = (),
) -> Iterator[Round]:
    """Boost, a round each time that the iterator is asked for one; it ends where no further round can help.

    Nothing is checked.

    Parameters
    ----------
    learner : Learner
        On rows coded with classes, or, for "gentle" and "logit", without, and the criterion "squared_error".
    y : array of shape (N,), intp
        Classes.
    sample_weight : array of shape (N,), float64
        At least 0, some of them above. In the order of y: that of X, not of the coded rows.
    n_classes : int
        K.
    algorithm : {"SAMME", "SAMME.R", "gentle", "logit"}
    learning_rate : float
        What each round's alpha, or step, is multiplied by.
    floor : float
        Of SAMME and SAMME.R: weights below it are raised to it before a tree is grown, those of rows of weight 0 too.
    trim : float, optional
        Rows of the smallest weights that hold at most 1 - trim of it are left out when a tree is grown.
    begin : iterable of Grown, optional
        The first trees, as they were grown before; `leaf` and `incorrect` of the coded rows.

    Returns
    -------
    iterator of Round

    Raises
    ------
    WorseThanRandom
        SAMME's first tree has a weighted error of at least 1 - 1/K.

    Notes
    -----
    SAMME passes a few times over N numbers, without an exponential of a row: the weights of a round are the last ones
    times one of two numbers. They are updated when the next round is asked for, so that the last update is not made.
    Its loss is that of the scores (K - 1)/K g, and follows from the errors.

    A tree without errors ends SAMME and SAMME.R. SAMME's alpha would be infinite; it is 1 plus the sum of all before,
    so that the tree outvotes them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.boosting import Learner, encode
    >>> from fastml.boosting.ensemble import rounds
    >>> X, y = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 1, 0, 1])
    >>> first = next(rounds(Learner(encode(X, y)), y, np.ones(4), 2))
    >>> first.error, round(first.alpha, 6)
    (0.25, 1.098612)
    """
    rows, begin = learner.coded.rows, iter(begin)
    w = sample_weight[rows] / sample_weight.max()
    w /= w.sum()

    def grow(weight: Array, target: Array | None = None) -> Grown:
        grown = next(begin, None)
        return learner.grow(weight, target, _kept(weight, trim)) if grown is None else grown

    y = y[rows]
    if algorithm == "SAMME":
        return _samme(grow, w, n_classes, learning_rate, floor)
    if algorithm == "SAMME.R":
        return _samme_r(grow, w, learner.coded.classes, learning_rate, floor)
    return _additive(grow, w, y, n_classes, learning_rate, algorithm == "logit")


def _samme(grow: Grow, w: Array, K: int, learning_rate: float, floor: float) -> Iterator[Round]:
    past, log_loss = 0.0, 0.0
    weights = Reweighed(w)
    while True:
        weights.raise_to(floor)
        tree = grow(w)
        error = weights.error(tree.incorrect)
        leaves = _leaves(tree)
        column = leaves.argmax(axis=1)[None]
        if error == 0:
            alpha = 1 + past
            log_loss += samme_log_loss(error, alpha, K)
            yield Round((tree,), error, alpha, exponential(log_loss), np.full(column.shape, alpha), column)
            return
        if error >= 1 - 1 / K - ROUNDING:
            if not past:
                raise WorseThanRandom(
                    f"X: expected trees with a weighted error below 1 - 1/K = {1 - 1 / K:g}, got {error:g} in the first"
                )
            return
        alpha = learning_rate * (math.log((1 - error) / error) + math.log(K - 1))
        past += alpha
        log_loss += samme_log_loss(error, alpha, K)
        yield Round((tree,), error, alpha, exponential(log_loss), np.full(column.shape, alpha), column)
        weights.update(alpha)


def samme_log_loss(error: float, alpha: float, K: int) -> float:
    """What a round adds to the logarithm of the exponential loss, whose scores grow by (K - 1)/K α."""
    step = alpha * (K - 1) / K
    if error == 0:
        return -step
    return float(np.logaddexp(np.log1p(-error) - step, np.log(error) + step / (K - 1)))


class Reweighed:
    """Weights w of rows, float64, and SAMME's work on them: the weighted error, and the update by two multipliers.

    A pass each over N numbers and as many bytes. What `boosting.samme_update` does in one call comes in two here, as a
    tree that is no better than chance ends a fit before the weights are touched.
    """

    def __init__(self, w: Array) -> None:
        self.w = w
        self._right, self._wrong, self._negative = np.empty((3, 1))
        self._least = 0.0  # none is below

    def raise_to(self, floor: float) -> None:
        """w ← max(w, floor), in place."""
        if self._least < floor:
            np.maximum(self.w, floor, out=self.w)
            self._least = self.w.min()

    def error(self, incorrect: Array) -> float:
        """The weighted share of the rows that are incorrect, booleans."""
        self._marks = incorrect.view(np.uint8)
        find("samme_error").function(self.w, self._marks, self._right, self._wrong, self._negative)
        return float(self._wrong[0] / (self._right[0] + self._wrong[0]))

    def update(self, alpha: float) -> None:
        """w ← w e^α where `error` was told of a mistake, in place and of sum 1."""
        less = math.exp(-alpha)
        wrong = 1 / float(self._right[0] * less + self._wrong[0])
        right = less * wrong
        find("samme_update").function(self.w, self._marks, right, wrong, None, self.w, None, None, None)
        self._least *= right


def _samme_r(grow: Grow, w: Array, classes: Array, learning_rate: float, floor: float) -> Iterator[Round]:
    K = len(classes) - 1
    log_loss = 0.0
    weights = Reweighed(w)
    while True:
        if floor:
            np.maximum(w, floor, out=w)
        tree = grow(w)
        error = weights.error(tree.incorrect)
        leaves = _leaves(tree)
        W = leaves.sum(axis=1, keepdims=True)
        p = np.divide(leaves, W, out=np.full(leaves.shape, 1 / K), where=W > 0)
        log_p = np.log(np.maximum(p, EPSILON))
        value = learning_rate * (K - 1) * (log_p - log_p.mean(axis=1, keepdims=True))
        exponent = -value / max(K - 1, 1)  # -y·F / K, as the F_k of a leaf add up to 0
        most = exponent[leaves > 0].max()  # a class that a leaf has not may have any
        table = np.exp(np.minimum(exponent - most, 600))
        for k, (start, stop) in enumerate(pairwise(classes)):
            w[start:stop] *= table[:, k][tree.leaf[start:stop]]
        total = w.sum()
        log_loss += most + np.log(total)
        w /= total
        yield Round((tree,), error, 1.0, exponential(log_loss), value[None], None)
        if error == 0:
            return


def _additive(grow: Grow, first: Array, y: Array, K: int, learning_rate: float, logit: bool) -> Iterator[Round]:
    """GentleBoost and LogitBoost; F is (1, N) of two classes, of more (K, N)."""
    N = len(y)
    classes = range(K) if K > 2 else (1,)
    F = np.zeros((len(classes), N))
    own = np.array([y == k for k in classes])
    codes = np.where(own, 1.0, -1 / (K - 1))
    present = first > 0
    margin = np.zeros(N)
    while True:
        if logit:
            p = _probabilities(F)
            weights = first * np.maximum(p * (1 - p), 2 * EPSILON)
            targets = np.where(own, 1 / np.maximum(p, 1 / CLIP), -1 / np.maximum(1 - p, 1 / CLIP))
        else:
            w = first * np.exp(np.minimum(margin[present].min() - margin, 0))
            weights, targets = [w / w.sum()] * len(F), codes
        trees, values, steps = [], [], np.empty_like(F)
        for k in range(len(F)):
            tree = grow(weights[k], targets[k])
            W, S, _ = _leaves(tree).T
            mean = learning_rate * np.divide(S, W, out=np.zeros_like(S), where=W > 0)
            mean *= (0.5 if K == 2 else (K - 1) / K) if logit else K - 1
            steps[k] = mean[tree.leaf]
            trees.append(tree)
            values.append(mean)
        F += steps
        if logit and K > 2:
            F -= steps.mean(axis=0)
        own_score = np.where(own[0], F[0], -F[0]) if K == 2 else F[y, np.arange(N)]
        found = F[0] > 0 if K == 2 else F.argmax(axis=0)
        error = float((first * (found != y)).sum())
        if logit:
            loss = float((first * (_log_sum(F) - own_score)).sum())
        else:
            margin = own_score if K == 2 else (own_score - (F.sum(axis=0) - own_score) / (K - 1)) / K
            least = margin[present].min()
            loss = exponential(np.log((first * np.exp(np.minimum(least - margin, 0))).sum()) - least)
        yield Round(tuple(trees), error, 1.0, loss, *_columns(np.array(values), K, logit))


def _columns(values: Array, K: int, logit: bool) -> tuple[Array, Array | None]:
    """What leaves (T, L) add to the scores: the `leaf_value` and `column` of a `Round`."""
    if K == 2:
        return values[..., None] * [-1.0, 1.0], None
    if logit:
        return values[..., None] * (np.eye(K)[:, None] - 1 / K), None
    return values, np.broadcast_to(np.arange(K)[:, None], values.shape)


def _probabilities(F: Array) -> Array:
    """Of each class (of two, the second)."""
    if len(F) == 1:
        return np.exp(-np.logaddexp(0, -2 * F))
    e = np.exp(F - F.max(axis=0))
    return e / e.sum(axis=0)


def _log_sum(F: Array) -> Array:
    """ln Σ_k e^{F_k}; of two classes with F_0 = -F_1."""
    if len(F) == 1:
        return np.logaddexp(F[0], -F[0])
    most = F.max(axis=0)
    return most + np.log(np.exp(F - most).sum(axis=0))


def _leaves(tree: Grown) -> Array:
    return tree.value[len(tree.feature) :]


def exponential(x: float) -> float:
    """e^x, inf where that overflows."""
    return math.exp(x) if x < 709.7 else math.inf


def _kept(w: Array, trim: float | None) -> Array | None:
    """Rows, int32, without those of the smallest weights that hold at most 1 - trim of the sum.

    Weights are told apart by their exponent and 8 bits of their mantissa, where a sort would take as long as a tree.
    """
    if trim is None or trim == 1:
        return None
    key = w.view(np.int64) >> 44
    least = key.min()
    key -= least
    mass = np.bincount(key, w).cumsum()
    left_out = np.searchsorted(mass, (1 - trim) * mass[-1], side="right")
    return np.flatnonzero(key >= left_out).astype(np.int32)


def regrown(trees: Trees, coded: Coded, X: Array, y: Array) -> Iterator[Grown]:
    """Trees as their learner left them, on the rows X and classes y that were coded: what `rounds` may begin with."""
    X, y = X[coded.rows], y[coded.rows]
    for start in range(0, len(trees), BLOCK):
        for e, leaf in enumerate(trees[start : start + BLOCK].apply(X), start):
            parts = (trees.feature[e], trees.threshold[e], trees.missing_left[e], trees.value[e], trees.count[e])
            incorrect = None if coded.classes is None else trees.leaves[e].argmax(axis=1)[leaf] != y
            yield Grown(*parts, leaf, incorrect)


# ----------------------------------------------------------------------------------------------------------- ensemble


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Rounds of boosting, as `fit_stumps` and `fit_trees` make them. `len` counts rounds, a slice takes some of them.

    Attributes
    ----------
    trees : Trees
        T = 1 of each round, or, of "gentle" and "logit" with K > 2, K.
    leaf_value : array of shape (E·T, L) or (E·T, L, K)
        What a leaf adds to the scores.
    column : array of shape (E·T, L), intp, or None
        The class whose score that is; None where it is all.
    alpha : array of shape (E,)
        SAMME's weight of each round; of the other algorithms 1.
    errors : array of shape (E,)
        Weighted errors: of SAMME and SAMME.R those of each tree, else those of all trees so far.
    losses : array of shape (E,)
        Mean over the rows, by their weight, of the loss after each round: exponential, or in nats for "logit".
    n_classes : int
    algorithm : str

    Examples
    --------
    >>> from fastml.boosting import fit_stumps
    >>> ensemble = fit_stumps([[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1], 3)
    >>> len(ensemble), ensemble.trees_per_round, ensemble[:1].errors.tolist()
    (3, 1, [0.25])
    """

    trees: Trees
    leaf_value: Array
    column: Array | None
    alpha: Array
    errors: Array
    losses: Array
    n_classes: int
    algorithm: str

    @classmethod
    def of(cls, found: Sequence[Round], learner: Learner, n_classes: int, algorithm: str) -> "Ensemble":
        """Of at least one round.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.boosting import Ensemble, Learner, encode
        >>> from fastml.boosting.ensemble import rounds
        >>> X, y = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 1, 0, 1])
        >>> learner = Learner(encode(X, y))
        >>> first = next(rounds(learner, y, np.ones(4), 2))
        >>> Ensemble.of([first], learner, 2, "SAMME").errors.tolist()
        [0.25]
        """
        trees, errors, alpha, losses, values, columns = zip(*found, strict=True)
        return cls(
            Trees.stacked([tree for each in trees for tree in each], learner.criterion, learner.coded.D),
            np.concatenate(values), None if columns[0] is None else np.concatenate(columns),
            np.array(alpha), np.array(errors), np.array(losses), n_classes, algorithm,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.alpha)

    def __getitem__(self, which: slice) -> "Ensemble":
        if not isinstance(which, slice):
            raise TypeError(f"which: expected a slice of rounds, got {which!r}")
        T = self.trees_per_round
        tree = (np.arange(len(self))[which, None] * T + np.arange(T)).ravel()
        return replace(
            self, trees=self.trees[tree], leaf_value=self.leaf_value[tree],
            column=None if self.column is None else self.column[tree],
            alpha=self.alpha[which], errors=self.errors[which], losses=self.losses[which],
        )  # fmt: skip

    @property
    def trees_per_round(self) -> int:
        """1, or, of "gentle" and "logit" with K > 2, K."""
        return len(self.trees) // max(len(self), 1)


def fit_stumps(
    X: ArrayLike | Coded,
    y: ArrayLike,
    n_rounds: int,
    *,
    sample_weight: ArrayLike | None = None,
    criterion: str = "gini",
    learning_rate: float = 1.0,
    algorithm: str = "SAMME",
    weight_trim: float | None = None,
    missing: str = "error",
) -> Ensemble:
    """Boost stumps: trees of one split.

    .. math:: g^k(x) = \\sum_t α_t [f_t(x) = k], \\quad α = \\ln\\frac{1 - e}{e} + \\ln(K - 1)

    Parameters
    ----------
    X, y, n_rounds, sample_weight, criterion, learning_rate, algorithm, weight_trim, missing
        As in `fit_trees`.

    Returns
    -------
    Ensemble

    Raises
    ------
    TypeError, ValueError
        As in `fit_trees`.

    Notes
    -----
    Cost of a round: one pass over codes of a byte, N·D of them, and over the rows of the few bins that can win.

    References
    ----------
    Zhu, Zou, Rosset and Hastie, Multi-class AdaBoost, Statistics and Its Interface 2 (2009), algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.boosting import decision, fit_stumps
    >>> X, y = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 1, 0, 1])
    >>> stumps = fit_stumps(X, y, 10)
    >>> decision(X, stumps).argmax(axis=1).tolist()
    [0, 1, 0, 1]
    """
    return fit_trees(
        X, y, n_rounds, 1, sample_weight=sample_weight, criterion=criterion, learning_rate=learning_rate,
        algorithm=algorithm, weight_trim=weight_trim, missing=missing,
    )  # fmt: skip


def fit_trees(
    X: ArrayLike | Coded,
    y: ArrayLike,
    n_rounds: int,
    max_depth: int,
    *,
    sample_weight: ArrayLike | None = None,
    criterion: str = "gini",
    learning_rate: float = 1.0,
    algorithm: str = "SAMME",
    weight_trim: float | None = None,
    missing: str = "error",
) -> Ensemble:
    """Boost trees of a given depth.

    .. math:: g^k(x) = \\sum_t α_t [f_t(x) = k], \\quad α = \\ln\\frac{1 - e}{e} + \\ln(K - 1)

    Parameters
    ----------
    X : array of shape (N, D), or Coded
        Finite numbers, or what `encode` made of them: with the classes y, or, for "gentle" and "logit", without.
    y : array of shape (N,), integers
        Classes from 0 on; K is one more than the largest.
    n_rounds : int
        At least 1. SAMME ends before where a tree is wrong as often as a guess; SAMME and SAMME.R where one is never
        wrong, whose alpha is then 1 plus the sum of all before.
    max_depth : int
        Levels of splits, from 1 to 8.
    sample_weight : array of shape (N,), optional
        At least 0; by default all the same.
    criterion : {"gini", "entropy", "error"}
        What a split lowers. The trees of "gentle" and "logit" lower the squared error instead.
    learning_rate : float
        Above 0. What alpha, or the step of the additive model, is multiplied by.
    algorithm : {"SAMME", "SAMME.R", "gentle", "logit"}
        AdaBoost for K classes by votes, or by the leaves' log-probabilities; GentleBoost, on regression trees;
        LogitBoost, whose working responses are clipped at 4.
    weight_trim : float, optional
        In (0, 1]. Rows of the smallest weights that hold at most 1 - weight_trim of their sum are left out of a
        round's search; 0.95 to 0.99 are usual.
    missing : {"error", "learn"}
        Whether NaN is taken: it goes to the side of a split that lowers the criterion.

    Returns
    -------
    Ensemble
        Of at most n_rounds rounds.

    Raises
    ------
    TypeError
        An array has another dtype or an option another type.
    ValueError
        A shape or a value does not fit; or the first tree is wrong as often as a guess.

    Notes
    -----
    Weights have a sum of 1 to 1e-12 after any number of rounds, and are finite with any learning rate; those that fall
    below 1e-308 are 0 from then on.

    With K > 2, "gentle" multiplies a tree's step by K - 1: no row's exponent then changes by more than 1, as with two
    classes, and as e^-s ≤ 1 - s + (e - 2) s² there, each round lowers the exponential loss.

    References
    ----------
    Zhu, Zou, Rosset and Hastie, Multi-class AdaBoost, Statistics and Its Interface 2 (2009), algorithms 2 and 4.
    Friedman, Hastie and Tibshirani, Additive logistic regression, Annals of Statistics 28 (2000), algorithms 3, 4 and
    6, and section 9 (trimming).

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.boosting import decision, fit_trees
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> trees = fit_trees(X, [0, 1, 1, 0], 3, 2, algorithm="logit")
    >>> decision(X, trees).argmax(axis=1).tolist()
    [0, 1, 1, 0]
    """
    n_rounds = check.integer("n_rounds", n_rounds, 1)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {', '.join(map(repr, ALGORITHMS))}, got {algorithm!r}")
    learning_rate = check.positive("learning_rate", learning_rate)
    if weight_trim is not None:
        weight_trim = check.positive("weight_trim", weight_trim, 1)
    regression = algorithm in ("gentle", "logit")
    coded, y, K = _coded(X, y, regression, missing)
    sample_weight = np.ones(coded.N) if sample_weight is None else _checked_weight(sample_weight, coded.N)
    learner = Learner(coded, "squared_error" if regression else criterion, max_depth)
    found = rounds(learner, y, sample_weight, K, algorithm, learning_rate, trim=weight_trim)
    return Ensemble.of(list(islice(found, n_rounds)), learner, K, algorithm)


def decision(X: ArrayLike, ensemble: Ensemble) -> Array:
    """The scores of an ensemble, in one pass over the rows.

    .. math:: g^k(x) = \\sum_t α_t [f_t(x) = k]

    Parameters
    ----------
    X : array of shape (N, D)
        float32 or float64, whichever the trees were grown on. NaN goes where each tree learnt to send it.
    ensemble : Ensemble

    Returns
    -------
    array of shape (N, K), float64
        Of SAMME g, else the additive model F. The largest is the class.

    Raises
    ------
    TypeError, ValueError
        X is no array of D columns.

    Examples
    --------
    >>> from fastml.boosting import decision, fit_stumps
    >>> X = [[1.0], [2.0], [3.0]]
    >>> decision(X, fit_stumps(X, [0, 0, 1], 1)).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return ensemble.trees.scores(X, ensemble.leaf_value, ensemble.n_classes, ensemble.column)


def staged_decision(X: ArrayLike, ensemble: Ensemble) -> Iterator[Array]:
    """`decision` after each round, each tree being applied once.

    Parameters
    ----------
    X : array of shape (N, D)
    ensemble : Ensemble

    Returns
    -------
    iterator of arrays of shape (N, K), float64
        One for each round.

    Raises
    ------
    TypeError, ValueError
        As in `decision`, when the first is asked for.

    Examples
    --------
    >>> from fastml.boosting import fit_stumps, staged_decision
    >>> X, y = [[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1]
    >>> [scores.argmax(axis=1).tolist() for scores in staged_decision(X, fit_stumps(X, y, 3))]
    [[0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]]
    """
    trees, T = ensemble.trees, ensemble.trees_per_round
    X = checked_rows(X, trees.n_features)
    scores = np.zeros((len(X), ensemble.n_classes))
    column = None if ensemble.column is None else np.ascontiguousarray(ensemble.column, np.intp)
    value = ensemble.leaf_value if column is None else ensemble.leaf_value[..., None]
    value = np.ascontiguousarray(value, "float64")
    kernel = find("tree_scores").function
    for start in range(0, len(trees), max(T, 1)):  # the kernel adds: 2 to 3 times as fast as to add what leaves say
        part = slice(start, start + T)
        kernel(
            X, trees.feature[part], trees.threshold[part], trees.missing_left[part],
            None if column is None else column[part], value[part], scores, None,
        )  # fmt: skip
        yield scores.copy()


# ----------------------------------------------------------------------------------------------------------- checking


def _checked_weight(sample_weight: ArrayLike, N: int) -> Array:
    found = check.arrays(sample_weight=sample_weight)["sample_weight"].astype("float64")
    check.shape("sample_weight", found, "N", {"N": (N, "X")})
    check_weights(found)
    return found


def _coded(X: ArrayLike | Coded, y: ArrayLike, regression: bool, missing: str) -> tuple[Coded, Array, int]:
    if y is None:
        raise TypeError("y: expected an array, got None")
    if not isinstance(X, Coded):
        X = checked_rows(X)
        y = check_classes(y, len(X))
        coded = encode(X, None if regression else y, missing=missing)
    else:
        coded = X
        y = check_classes(y, coded.N, coded.K or None)
        if regression != (coded.classes is None):
            raise ValueError(f"X: expected rows coded {'without' if regression else 'with'} classes")
        if not regression and (y[coded.rows] != np.repeat(np.arange(coded.K), np.diff(coded.classes))).any():
            raise ValueError("y: expected the classes that X was coded with")
        if missing == "error" and coded.missing:
            raise ValueError("X: expected finite numbers, got NaN; missing='learn' takes it")
    K = coded.K or int(y.max()) + 1
    if regression and K < 2:
        raise ValueError("y: expected at least two classes, got one")
    return coded, y, K
