"""What the mixtures' estimators share: runs of expectation-maximisation from several starts, and how they end."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import sklearn.mixture
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

from .. import check
from ..threads import blas_limit
from .progress import progress_bar
from .source import Source

__all__ = ["ExpectationMaximisation", "check_rows", "check_weight", "checked_weights"]

NOT_CONVERGED = (
    "Best performing initialization did not converge. "
    "Try different init parameters, or increase max_iter, "
    "tol, or check for degenerate data."
)


class _Run(NamedTuple):
    """What became of one initialisation."""

    model: Any
    bounds: list[float]
    converged: bool
    stopped: bool

    @property
    def bound(self) -> float:
        return self.bounds[-1] if self.bounds else -np.inf


class ExpectationMaximisation:
    """Of an estimator with scikit-learn's parameters of mixtures, and those below.

    `_iteration` is the type of what a callback is told, which ends with a model's `parameters`.
    """

    _iteration: type

    _parameter_constraints: dict = {  # noqa: RUF012
        "tol_kind": [StrOptions({"absolute", "relative"})],
        "decay": [Interval(Real, 0.5, 1.0, closed="right")],
        "callback": [callable, None],
        "progress": ["boolean"],
    }

    # What `verbose` prints is scikit-learn's.
    _print_verbose_msg_init_beg = sklearn.mixture.GaussianMixture._print_verbose_msg_init_beg
    _print_verbose_msg_iter_end = sklearn.mixture.GaussianMixture._print_verbose_msg_iter_end
    _print_verbose_msg_init_end = sklearn.mixture.GaussianMixture._print_verbose_msg_init_end

    def score(self, X: ArrayLike, y: None = None, sample_weight: ArrayLike | None = None) -> float:
        """The mean log-likelihood of a row.

        Parameters
        ----------
        X
            As in `score_samples`.
        y : None
            Ignored.
        sample_weight : array-like of shape (N,) or None
            Of the mean, at least 0.

        Returns
        -------
        float
            In nats.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As in `predict`; or `sample_weight` is negative, or 0 everywhere.

        Examples
        --------
        >>> from fastml.sklearn import GaussianMixture
        >>> mixture = GaussianMixture().fit([[-1.0], [1.0]])
        >>> round(mixture.score([[0.0], [1.0]]), 3), round(mixture.score([[0.0], [1.0]], sample_weight=[0, 1]), 3)
        (-1.169, -1.419)
        """
        found = self.score_samples(X)
        if sample_weight is None:
            return float(np.mean(found))
        found = found.astype("float64")
        weights = checked_weights(sample_weight, found)
        some = weights > 0  # a row of weight 0 may be impossible
        check_weight(np.count_nonzero(some))
        return float(found[some] @ weights[some] / weights.sum())

    def _starts_anew(self) -> bool:
        return not (self.warm_start and hasattr(self, "converged_"))

    def _fit_from(self, start: Callable[[], Any], step: Callable[[Any], tuple[Any, float, bool]]) -> Any:
        """The model with the largest lower bound of `n_init` runs, or of one that goes on from the fit before.

        start : () → the model that a run begins with.
        step : model → the next one, the lower bound before, and whether components were replaced or dropped.
        """
        anew = self._starts_anew()
        n_init = self.n_init if anew else 1
        best = None
        with progress_bar(self.progress, self.max_iter) as advance:

            def show(iteration: Any) -> None:
                text = f"start {iteration.init + 1} of {n_init}, lower bound {iteration.lower_bound:.6g}"
                advance(iteration.n_iter, text)

            for init in range(n_init):
                self._print_verbose_msg_init_beg(init)
                run = self._run(start(), -np.inf if anew else self.lower_bound_, step, init, show)
                if self.max_iter:
                    self._print_verbose_msg_init_end(run.bound, run.converged)
                if best is None or run.bound > best.bound or best.bound == -np.inf:
                    best = run
                if run.stopped:
                    break
        if self.max_iter and not best.converged and not run.stopped:
            warnings.warn(NOT_CONVERGED, ConvergenceWarning)
        self.converged_, self.n_iter_ = best.converged, len(best.bounds)
        self.lower_bound_, self.lower_bounds_ = best.bound, best.bounds
        return best.model

    def _run(
        self,
        model: Any,
        bound: float,
        step: Callable[[Any], tuple[Any, float, bool]],
        init: int,
        show: Callable[[Any], None],
    ) -> _Run:
        """Iterate until the lower bound, which was `bound`, no longer changes."""
        bounds: list[float] = []
        for n_iter in range(1, self.max_iter + 1):
            before = bound
            model, bound, repaired = step(model)
            bounds.append(bound)
            change = bound - before
            self._print_verbose_msg_iter_end(n_iter, change)
            iteration = self._iteration(init, n_iter, bound, change, *map(_read_only, model.parameters))
            show(iteration)
            stopped = self.callback is not None and bool(self.callback(iteration))
            small = self.tol if self.tol_kind == "absolute" else self.tol * abs(bound)
            converged = bool(abs(change) < small and not repaired)
            if converged or stopped:
                return _Run(model, bounds, converged, stopped)
        return _Run(model, bounds, False, False)

    @contextmanager
    def _unchanged_by_failure(self) -> Iterator[None]:
        """The estimator as it was, if what is in the block fails. BLAS and LAPACK, whose bits differ with their number
        of threads, have one there.
        """
        before = dict(vars(self))
        try:
            # Left to itself OpenBLAS, on 2 busy CPUs, makes a fit on one thread up to 9 times as long (D = 250).
            with blas_limit(1):
                yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


# ------------------------------------------------------------------------------------------------------------ checking


def checked_weights(sample_weight: ArrayLike, X: NDArray[Any]) -> NDArray[Any]:
    """In the dtype of X, at least 0. That all of them are 0 is for the caller to see: a block's may be."""
    zeros = "allow_all_zero_weights"
    zeros = {zeros: True} if zeros in signature(_check_sample_weight).parameters else {}
    if not X.shape[0]:  # scikit-learn wants one weight at least
        found = np.asarray(sample_weight, X.dtype)
        check.shape("sample_weight", found, "N", {"N": (0, "X")})
        return found
    return _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True, **zeros)


def check_weight(counted: int) -> None:
    """counted : rows of a weight above 0."""
    if not counted:
        raise ValueError("Sample weights must contain at least one non-zero number.")


def check_rows(source: Source, n_components: int) -> None:
    """As many rows, of a weight above 0, as components."""
    check_weight(source.counted)
    if source.counted < n_components:
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, n_samples = {source.counted}"
        )
