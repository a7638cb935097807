"""Trees on coded rows: the weak learner of boosting.

Rows are coded once (`encode`): each feature is sorted and cut into up to 256 bins of about as many rows. A `Learner`
then grows trees on them under ever new weights: sums over bins give the best border between two bins, the convexity
of the criterion bounds what a split inside a bin can reach, and only bins that can win are looked at row by row. The
splits are those of the exact search.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check
from ..backend import find
from ..kernels.table import BINS, CRITERIA, Codes

__all__ = ["DEPTH", "Coded", "Grown", "Learner", "Trees", "encode"]

Array = NDArray[Any]

DEPTH = 8
"""Levels of splits that a tree may have: the number of a leaf fits a byte."""


# ------------------------------------------------------------------------------------------------------------- codes


@dataclass(frozen=True, eq=False)
class Coded:
    """Rows, coded once for any number of trees; made by `encode`.

    Row i of it is row `rows[i]` of X: with classes, rows are in the order of their classes.

    Attributes
    ----------
    codes : fastml.kernels.table.Codes
    rows : array of shape (N,), intp
    classes : array of shape (K+1,), intp, or None
        Where the rows of each class begin, and N.
    missing : bool
        Some value is NaN.
    N, D, K : int
        K is 0 without classes.

    Examples
    --------
    >>> from fastml.boosting import encode
    >>> coded = encode([[0.5], [0.1], [0.7]], [0, 1, 0])
    >>> coded.N, coded.D, coded.K, coded.classes.tolist(), coded.missing
    (3, 1, 2, [0, 2, 3], False)
    """

    codes: Codes
    rows: Array
    classes: Array | None
    missing: bool

    @property
    def N(self) -> int:
        """Rows."""
        return self.codes.values.shape[1]

    @property
    def D(self) -> int:
        """Features."""
        return self.codes.values.shape[0]

    @property
    def K(self) -> int:
        """Classes; 0 without."""
        return 0 if self.classes is None else len(self.classes) - 1


def encode(X: ArrayLike, y: ArrayLike | None = None, n_classes: int | None = None, *, missing: str = "learn") -> Coded:
    """Sort and code the rows of X, a feature at a time, for the trees of a whole ensemble.

    Parameters
    ----------
    X : array of shape (N, D)
        Finite numbers, or NaN where a value is missing. Values of a feature are told apart where they differ by more
        than 1e-7, in their own dtype. 1 ≤ N < 2^31, D ≥ 1.
    y : array of shape (N,), integers, optional
        Classes from 0 on. Without them, trees need a target.
    n_classes : int, optional
        K; by default one more than the largest of y.
    missing : {"learn", "error"}
        Whether NaN is taken: it then goes to the side of a split that lowers the criterion.

    Returns
    -------
    Coded

    Raises
    ------
    TypeError
        X is neither float32 nor float64 (lists and integer arrays are cast), y or n_classes not of integers.
    ValueError
        A shape does not fit, X has an infinity (or NaN, with "error"), y is not in 0 … K - 1, n_classes below 1.

    Notes
    -----
    Cost: a sort of each feature. Memory: 13 bytes for each number of X (17 in float64); and while it sorts, in `native`
    80 bytes for each row and worker (96 in float64).

    References
    ----------
    Mehta, Agrawal and Rissanen, SLIQ: a fast scalable classifier for data mining, EDBT (1996): features sorted once.

    Examples
    --------
    >>> from fastml.boosting import encode
    >>> encode([[0.5], [0.1], [0.7]], [0, 1, 0]).rows.tolist()
    [0, 2, 1]
    """
    if missing not in ("learn", "error"):
        raise ValueError(f"missing: expected 'learn' or 'error', got {missing!r}")
    X = checked_rows(X)
    N, D = X.shape
    if not 1 <= N < 2**31:
        raise ValueError(f"X: expected 1 ≤ N < 2^31 rows, got {N}")
    rows, classes = np.arange(N), None
    if y is not None:
        if n_classes is not None:
            n_classes = check.integer("n_classes", n_classes, 1)
        y = check_classes(y, N, n_classes)
        K = int(y.max()) + 1 if n_classes is None else n_classes
        rows = y.argsort(kind="stable")
        classes = np.append(0, np.bincount(y, minlength=K).cumsum())
    codes = Codes(
        np.empty((D, N), X.dtype), *(np.empty((D, N), dtype) for dtype in (np.int32, np.int32, np.uint8)),
        np.empty((D, BINS + 1), np.int32), np.empty(D, np.intp),
    )  # fmt: skip
    find("tree_encode").function(X, rows, *codes)
    ends = np.stack([codes.values[:, 0], codes.values[:, -1]])  # NaN is last, and an infinity first or before it
    found = codes.starts[np.arange(D), codes.bins]
    last = codes.values[np.arange(D), np.maximum(found, 1) - 1]
    if np.isinf(ends[0]).any() or np.isinf(last).any():
        raise ValueError(f"X: expected finite numbers{' or NaN' if missing == 'learn' else ''}, got an infinity")
    has = bool(np.isnan(ends[1]).any())
    if has and missing == "error":
        raise ValueError("X: expected finite numbers, got NaN; missing='learn' takes it")
    return Coded(codes, rows, classes, has)


def checked_rows(X: ArrayLike, D: int | None = None) -> Array:
    """(N, D) of float32 or float64."""
    if X is None:
        raise TypeError("X: expected an array, got None")
    found = check.arrays(X=X)["X"]
    sizes = {} if D is None else {"D": (D, "the trees")}
    check.shape("X", found, "N D", sizes)
    if found.shape[1] < 1:
        raise ValueError("X: expected D of at least 1, got 0")
    return found


def check_classes(y: ArrayLike, N: int, n_classes: int | None = None) -> Array:
    """(N,) intp, from 0 to n_classes - 1."""
    found = check.integers("y", y)
    if found.shape != (N,):
        raise ValueError(f"y: expected shape (N,) = ({N},), got {found.shape}")
    wrong = (found < 0) | (found >= (found.max(initial=0) + 1 if n_classes is None else n_classes))
    if wrong.any():
        most = "" if n_classes is None else f" below K = {n_classes}"
        raise ValueError(f"y: expected classes from 0 on{most}, got {found[wrong][0]}")
    return found.astype(np.intp)


# ----------------------------------------------------------------------------------------------------------- growing


class Grown(NamedTuple):
    """One tree, complete, in heap order (P = 2^depth - 1 nodes that may split, Q = 2P + 1); see `Trees`.

    `leaf` and `incorrect` are of the coded rows, in their order; the next tree of the same `Learner` overwrites them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.boosting import Learner, encode
    >>> grown = Learner(encode([[0.0], [1.0], [2.0], [3.0]], [0, 0, 0, 1])).grow(np.ones(4))
    >>> grown.leaf.tolist(), grown.value.tolist()
    ([0, 0, 0, 1], [[3.0, 1.0], [3.0, 0.0], [0.0, 1.0]])
    """

    feature: Array  # (P,), intp
    threshold: Array  # (P,), float64
    missing_left: Array  # (P,), bool
    value: Array  # (Q, C), float64
    count: Array  # (Q,), intp
    leaf: Array  # (N,), uint8
    incorrect: Array | None  # (N,), bool


class Learner:
    """Grows trees on coded rows.

    Parameters
    ----------
    coded : Coded
    criterion : {"gini", "entropy", "error", "squared_error"}
        What a split lowers: impurity of the classes, the weight of the rows that are not of their leaf's class, or the
        squared distance of a target from its mean in the leaf.
    max_depth : int
        Levels of splits, from 1 (a stump) to 8.

    Raises
    ------
    TypeError, ValueError
        `criterion` or `max_depth` does not fit, or rows are coded with classes where there is to be a target, or
        without where there is to be none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.boosting import Learner, encode
    >>> learner = Learner(encode([[0.0], [1.0], [2.0], [3.0]], [0, 0, 0, 1]))
    >>> tree = learner.grow(np.ones(4))
    >>> tree.feature.tolist(), tree.threshold.tolist(), tree.incorrect.tolist()
    ([0], [2.5], [False, False, False, False])
    """

    def __init__(self, coded: Coded, criterion: str = "gini", max_depth: int = 1) -> None:
        if criterion not in CRITERIA:
            raise ValueError(f"criterion: expected one of {', '.join(map(repr, CRITERIA))}, got {criterion!r}")
        if (criterion == "squared_error") != (coded.classes is None):
            needs = "a target, and no classes" if criterion == "squared_error" else "classes"
            raise ValueError(f"criterion: {criterion!r} needs rows coded with {needs}")
        self.coded, self.criterion = coded, criterion
        self.max_depth = check.integer("max_depth", max_depth, 1, DEPTH)
        self._leaf = np.empty(coded.N, np.uint8)
        self._incorrect = None if coded.classes is None else np.empty(coded.N, np.bool_)

    def grow(self, sample_weight: Array, target: Array | None = None, rows: Array | None = None) -> Grown:
        """A tree.

        Parameters
        ----------
        sample_weight : array of shape (N,), float64
            Finite and at least 0, which is not checked. In the order of the coded rows, not of X, like the others.
        target : array of shape (N,), float64, or None
            Finite, which is not checked; None with classes.
        rows : array of integers, int32, or None
            The rows that grow the tree, rising; None for all.

        Returns
        -------
        Grown

        Raises
        ------
        TypeError, ValueError
            An array is of another dtype, shape or layout, there where it should not be or not where it should; `rows`
            are not rising, or not from 0 to N - 1.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.boosting import Learner, encode
        >>> learner = Learner(encode([[0.0], [1.0], [2.0]]), "squared_error")
        >>> learner.grow(np.ones(3), np.array([0.0, 0.0, 6.0])).threshold.tolist()
        [1.5]
        """
        N = self.coded.N
        check.ready("sample_weight", sample_weight, "float64", N, "the coded rows")
        if self.coded.classes is None:
            check.ready("target", target, "float64", N, "the coded rows")
        elif target is not None:
            raise TypeError("target: expected None beside rows coded with classes, got an array")
        if rows is not None:
            check.ready("rows", rows, "int32", None, "")
            if len(rows) and not (rows[0] >= 0 and rows[-1] < N and (rows[1:] > rows[:-1]).all()):
                raise ValueError(f"rows: expected rising numbers from 0 to N - 1 = {N - 1}")
        P = 2**self.max_depth - 1
        grown = Grown(
            np.empty(P, np.intp), np.empty(P), np.empty(P, np.bool_),
            np.empty((2 * P + 1, self.coded.K or 3)), np.empty(2 * P + 1, np.intp), self._leaf, self._incorrect,
        )  # fmt: skip
        find("tree_grow").function(
            self.coded.codes, self.coded.classes, sample_weight, target, rows, self.criterion, *grown
        )
        return grown


# ------------------------------------------------------------------------------------------------------------- trees


@dataclass(frozen=True, eq=False)
class Trees:
    """E trees of one depth, complete and in heap order: the children of node i are 2i + 1 and 2i + 2.

    A node that does not split has feature -1 and threshold inf: its rows go left, down to the deepest level.

    Attributes
    ----------
    feature : array of shape (E, P), intp
        P = 2^depth - 1. -1 where a node does not split.
    threshold : array of shape (E, P), float64
        x goes left where x ≤ threshold.
    missing_left : array of shape (E, P), bool
        NaN goes left.
    value : array of shape (E, Q, C), float64
        Q = 2P + 1. Weights of the classes in each node; or of a target y, Σw, Σwy and Σwy².
    count : array of shape (E, Q), intp
        Rows of each node.
    criterion : str
    n_features : int

    Examples
    --------
    >>> from fastml.boosting import fit_stumps
    >>> trees = fit_stumps([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], 1).trees
    >>> len(trees), trees.depth, trees.feature.tolist(), trees.threshold.tolist()
    (1, 1, [[0]], [[1.5]])
    """

    feature: Array
    threshold: Array
    missing_left: Array
    value: Array
    count: Array
    criterion: str
    n_features: int

    @classmethod
    def stacked(cls, trees: Sequence[Grown], criterion: str, n_features: int) -> "Trees":
        """Of at least one tree.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.boosting import Learner, Trees, encode
        >>> learner = Learner(encode([[0.0], [1.0], [2.0]]), "squared_error")
        >>> grown = [learner.grow(np.ones(3), np.array(target)) for target in ([0.0, 0.0, 6.0], [0.0, 6.0, 6.0])]
        >>> Trees.stacked(grown, learner.criterion, n_features=1).threshold.tolist()
        [[1.5], [0.5]]
        """
        return cls(*(np.stack(part) for part in list(zip(*trees, strict=True))[:5]), criterion, n_features)

    def __len__(self) -> int:
        return len(self.feature)

    def __getitem__(self, which: slice) -> "Trees":
        parts = (self.feature, self.threshold, self.missing_left, self.value, self.count)
        return Trees(*(part[which] for part in parts), self.criterion, self.n_features)

    @property
    def depth(self) -> int:
        """Levels of splits."""
        return self.feature.shape[1].bit_length()

    @property
    def leaves(self) -> Array:
        """The values of the deepest nodes, (E, L, C)."""
        return self.value[:, self.feature.shape[1] :]

    def before_rounding(self) -> "Trees":
        """Trees for float64 X in which each row goes where these would send it rounded to float32.

        A float64 rounds to t or less if it is below the middle between t and the next float32, or is that middle and t
        is even. Thresholds lie between float32 values; the one below is t.

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> trees = fit_stumps([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], 1).trees  # x ≤ 1.5
        >>> trees.apply([[1.5 + 1e-9]]).tolist(), trees.before_rounding().apply([[1.5 + 1e-9]]).tolist()
        ([[1]], [[0]])
        """
        with np.errstate(over="ignore"):  # beyond float32, and of no consequence: rows are within it
            low = self.threshold.astype(np.float32)
            low = np.where(low > self.threshold, np.nextafter(low, np.float32(-np.inf)), low)
            high = np.nextafter(low, np.float32(np.inf))
        middle = low.astype("float64") / 2 + high.astype("float64") / 2
        even = low.view(np.int32) & 1 == 0
        return replace(self, threshold=np.where(even, middle, np.nextafter(middle, -np.inf)))

    def apply(self, X: ArrayLike) -> Array:
        """The leaf of each row in each tree, (E, N), uint8. TypeError or ValueError where X is no array (N, D).

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> fit_stumps([[0.0], [1.0], [2.0]], [0, 0, 1], 1).trees.apply([[0.0], [5.0]]).tolist()
        [[0, 1]]
        """
        X = checked_rows(X, self.n_features)
        leaf = np.empty((len(self), len(X)), np.uint8)
        find("tree_apply").function(X, self.feature, self.threshold, self.missing_left, leaf)
        return leaf

    def scores(
        self,
        X: ArrayLike,
        leaf_value: Array,
        n_columns: int,
        column: Array | None = None,
        *,
        labels: Array | None = None,
    ) -> Array:
        """Sums over the trees of what their leaves say, (N, n_columns), in one pass over the rows.

        leaf_value is (E, L, n_columns); or, with `column` (E, L), the number (E, L) that a leaf adds to that column.
        `labels` (N,) intp is filled with the columns of the largest sums, the first of equal ones. TypeError or
        ValueError where an array has another shape, or a column is not from 0 to n_columns - 1.

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> trees = fit_stumps([[0.0], [1.0], [2.0]], [0, 0, 1], 1).trees
        >>> trees.scores([[0.0], [5.0]], [[2.0, 3.0]], 2, column=[[0, 1]]).tolist()
        [[2.0, 0.0], [0.0, 3.0]]
        """
        X = checked_rows(X, self.n_features)
        values = self._of_leaves("leaf_value", leaf_value, "E L M" if column is None else "E L", n_columns)
        if column is not None:
            column = self._of_leaves("column", column, "E L", n_columns, np.intp)
            wrong = column[(column < 0) | (column >= n_columns)]
            if wrong.size:
                raise ValueError(f"column: expected numbers from 0 to {n_columns - 1}, got {wrong[0]}")
            values = values[:, :, None]
        if labels is not None:
            check.ready("labels", labels, "intp", len(X), "X")
        scores = np.zeros((len(X), n_columns))
        find("tree_scores").function(X, self.feature, self.threshold, self.missing_left, column, values, scores, labels)
        return scores

    def quantile(self, X: ArrayLike, leaf_value: Array, weights: Array, q: float = 0.5) -> Array:
        """Of each row the weighted quantile of what the trees say, (N,); see `boosting.weighted_quantile`.

        leaf_value is (E, L), weights (E,), finite and at least 0; q from 0 to 1. ValueError where they are not, or
        there are no trees.

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> trees = fit_stumps([[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1], 3).trees
        >>> trees.quantile([[0.0], [5.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [1.0, 1.0, 1.0]).tolist()
        [3.0, 4.0]
        """
        X = checked_rows(X, self.n_features)
        leaf_value = self._of_leaves("leaf_value", leaf_value, "E L")
        weights = np.asarray(weights, "float64")
        check.shape("weights", weights, "E", {"E": (len(self), "the trees")})
        if not (len(self) and ((weights >= 0) & (weights < np.inf)).all()):
            raise ValueError("weights: expected finite numbers of at least 0, one at least")
        q = check.number("q", q, 0, 1)
        order = leaf_value.ravel().argsort(kind="stable")
        place = np.empty(leaf_value.shape, np.intp)
        place.flat[order] = np.arange(place.size)
        sorted_by_value = (np.repeat(weights, leaf_value.shape[1])[order], leaf_value.ravel()[order])
        weight, value = (np.ascontiguousarray(part, "float64") for part in sorted_by_value)
        quantile = np.empty(len(X))
        find("tree_quantile").function(
            X, self.feature, self.threshold, self.missing_left, place, value, weight, q, quantile
        )
        return quantile

    def _of_leaves(self, name: str, value: Array, axes: str, M: int = 0, dtype: Any = "float64") -> Array:
        """A number of each leaf, or M of them, as the kernels take them."""
        found = np.ascontiguousarray(value, dtype)
        E, L = len(self), self.feature.shape[1] + 1
        check.shape(name, found, axes, {"E": (E, "the trees"), "L": (L, "the trees"), "M": (M, "n_columns")})
        return found

    def impurity(self) -> Array:
        """The criterion in each node, (E, Q): of "error" the share of weight that is not the largest class's; 0 where a
        node is empty. Entropy is in bits.

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> fit_stumps([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], 1).trees.impurity().tolist()
        [[0.5, 0.0, 0.0]]
        """
        W, value = self.weight(), self.value
        p = np.divide(value, W[..., None], out=np.zeros_like(value), where=W[..., None] > 0)
        if self.criterion == "gini":
            found = 1 - (p**2).sum(axis=-1)
        elif self.criterion == "entropy":
            found = -(p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=-1)
        elif self.criterion == "error":
            found = 1 - p.max(axis=-1)
        else:
            found = p[..., 2] - p[..., 1] ** 2
        return np.where(W > 0, np.maximum(found, 0), 0)

    def weight(self) -> Array:
        """Of the rows in each node, (E, Q).

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> fit_stumps([[0.0], [1.0], [2.0], [3.0]], [0, 0, 0, 1], 1).trees.weight().tolist()
        [[1.0, 0.75, 0.25]]
        """
        return self.value[..., 0] if self.criterion == "squared_error" else self.value.sum(axis=-1)

    def importances(self) -> Array:
        """What each feature's splits lowered the criterion by, weighed by the rows' weight; (E, D), each row of sum 1
        (of 0 where a tree does not split or no split helped), as scikit-learn has them.

        Examples
        --------
        >>> from fastml.boosting import fit_stumps
        >>> fit_stumps([[7.0, 0.0], [7.0, 1.0]], [0, 1], 1).trees.importances().tolist()
        [[0.0, 1.0]]
        """
        P = self.feature.shape[1]
        lost = self.weight() * self.impurity()
        gain = np.where(self.feature >= 0, lost[:, :P] - lost[:, 1::2] - lost[:, 2::2], 0)
        found = np.zeros((len(self), self.n_features))
        tree, node = np.nonzero(self.feature >= 0)
        np.add.at(found, (tree, self.feature[tree, node]), gain[tree, node])
        total = found.sum(axis=1, keepdims=True)
        return np.divide(found, total, out=np.zeros_like(found), where=total > 0)
