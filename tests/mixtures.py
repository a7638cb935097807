"""Random problems for the Gaussian kernels, and the reference's answers in float64."""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import oracle
import pytest
from cells import on
from compare import close, error

import fastml
from fastml.kernels.table import FACTORS, KERNELS, shape_of
from fastml.mixture.gaussian import Gaussians, factors_of

COVARIANCE_TYPES = tuple(FACTORS)
KERNEL_OF = {
    "log_density": "gaussian_log_density",
    "resp": "gaussian_responsibilities",
    "log_likelihood": "gaussian_responsibilities",
    "labels": "gaussian_responsibilities",
    "n": "gaussian_statistics",
    "first": "gaussian_statistics",
    "second": "gaussian_statistics",
    "total": "gaussian_statistics",  # the log-likelihood of all rows
}
OF_ROWS = ("log_density", "resp", "log_likelihood", "labels")
SUMS = ("n", "first", "second", "total")
LEAD = 0.01  # by which a responsibility must be the largest, for labels of two precisions to agree

every_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def kernel(name, *arguments):
    fastml.backend.find(name).function(*arguments)


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows under a mixture."""

    covariance_type: str
    X: np.ndarray
    sample_weight: np.ndarray | None
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def __str__(self):
        (N, D), K = self.X.shape, len(self.means)
        weighted = "" if self.sample_weight is None else " weighted"
        return f"{self.covariance_type} N={N} D={D} K={K} {self.dtype}{weighted}"

    @property
    def dtype(self):
        return self.X.dtype.name

    @property
    def theta(self):
        return self.weights, self.means, self.covariances

    def having(self, **changes):
        return replace(self, **changes)

    def rows(self, which):
        """The same mixture with some of the rows."""
        return self.having(
            X=self.X[which].copy(),
            sample_weight=None if self.sample_weight is None else self.sample_weight[which].copy(),
        )

    def as_float64(self):
        """The same numbers in float64."""
        names = ("X", "sample_weight", "weights", "means", "covariances")
        arrays = {name: getattr(self, name) for name in names}
        return self.having(**{name: None if a is None else a.astype("float64") for name, a in arrays.items()})

    @cached_property
    def arguments(self):
        """What the kernels take after the rows: means, factors, constants, covariance_type."""
        factors = factors_of(self.covariances, self.covariance_type)
        return Gaussians(*self.theta[:2], factors, self.covariance_type, self.X.dtype).arguments

    def run(self, *, start=None):
        """All outputs of the three kernels by name."""
        return {**outputs_of_rows(self.X, self.arguments), **sums(self.X, self.sample_weight, self.arguments, start)}

    def oracle(self):
        """`run` by the oracle, in float64."""
        N, K = len(self.X), len(self.means)
        p = self.as_float64()
        sample_weight = [1.0] * N if p.sample_weight is None else p.sample_weight.tolist()
        l, r, log_likelihood, n, first, second = map(
            np.array,
            oracle.gaussian(
                p.X.tolist(), sample_weight, *(array.tolist() for array in p.theta), covariance_type=p.covariance_type
            ),
        )
        found = {
            "log_density": l.reshape(N, K),
            "resp": r.reshape(N, K),
            "log_likelihood": log_likelihood,
            "labels": r.reshape(N, K).argmax(axis=1),
            "n": n,
            "first": first,
            "second": np.triu(second) if self.covariance_type == "full" else second,
            "total": np.array([np.sum(log_likelihood * np.array(sample_weight))]),
        }
        if self.covariance_type == "tied":
            del found["second"]
        return found


def outputs_of_rows(X, arguments):
    """Of `gaussian_log_density` and `gaussian_responsibilities`, by name."""
    N, K = len(X), len(arguments[0])
    found = {
        "log_density": np.empty((N, K), X.dtype),
        "resp": np.empty((N, K), X.dtype),
        "log_likelihood": np.empty(N, X.dtype),
        "labels": np.empty(N, np.intp),
    }
    log_density, *posterior = found.values()
    kernel("gaussian_log_density", X, *arguments, log_density)
    kernel("gaussian_responsibilities", X, *arguments, *posterior)
    return found


def nothing_yet(covariance_type, K, D):
    """Statistics of no rows, NaN below the diagonal of `second`, which nobody may mind."""
    sizes = {"K": K, "D": D}
    second = np.zeros(shape_of(FACTORS[covariance_type], sizes))
    if covariance_type == "full":
        second += np.tril(np.full((D, D), np.nan), -1)
    return {
        "n": np.zeros(K),
        "first": np.zeros((K, D)),
        "second": None if covariance_type == "tied" else second,
        "total": np.zeros(1),
    }


def sums(X, sample_weight, arguments, start=None):
    """Of `gaussian_statistics`, by name, added to `start`; of `second` what it promises."""
    *_, covariance_type = arguments
    K, D = arguments[0].shape
    found = nothing_yet(covariance_type, K, D)
    for name, array in (start or {}).items():
        found[name] += array
    kernel("gaussian_statistics", X, sample_weight, *arguments, *found.values())
    if covariance_type == "full":
        found["second"] = np.triu(found["second"])
    if covariance_type == "tied":
        del found["second"]
    return found


@cache
def draw(covariance_type, N=23, D=5, K=3, dtype="float64", *, weighted="", apart=1.0, centre=0.0, seed=0, empty=False):
    """A random problem: means at a distance of about `apart` deviations from each other, around `centre`; X from the
    mixture. `weighted`: "" for none, "random", or "zeros" for random weights and every third 0. `empty`: the first
    component's weight is 0.
    """
    rng = np.random.default_rng([seed, N, D, K])
    means = centre + apart / (2 * D) ** 0.5 * rng.standard_normal((K, D))
    a = rng.standard_normal((K, D, D)) / D**0.5
    matrices = (a @ a.swapaxes(1, 2) + 0.5 * np.eye(D)) * rng.uniform(0.5, 2, (K, 1, 1))
    covariances = {
        "full": matrices,
        "tied": matrices[0],
        "diag": np.einsum("kdd->kd", matrices),
        "spherical": matrices[:, 0, 0],
    }[covariance_type]
    shares = rng.uniform(0.5, 1, K)
    if empty:
        shares[0] = 0
    X = means[rng.integers(K, size=N)] + rng.standard_normal((N, D)) * rng.uniform(0.7, 1.3, D)
    sample_weight = rng.uniform(0.1, 2, N)
    if weighted == "zeros":
        sample_weight[::3] = 0
    arrays = X, sample_weight, shares / shares.sum(), means, covariances
    X, sample_weight, *theta = (np.ascontiguousarray(array, dtype) for array in arrays)
    return Problem(covariance_type, X, sample_weight if weighted else None, *theta)


@cache
def answer(problem):
    """By the reference in float64 from the same arguments (float32 ones are cast, which is exact)."""
    means, factors, constants, covariance_type = problem.arguments
    arguments = *(array.astype("float64") for array in (means, factors, constants)), covariance_type
    weight = None if problem.sample_weight is None else problem.sample_weight.astype("float64")
    X = problem.X.astype("float64")
    with on(("reference", None)):
        return {**outputs_of_rows(X, arguments), **sums(X, weight, arguments)}


def check(got, problem, want=None):
    """Assert that the outputs `got` answer `problem`; `want` in place of the float64 reference's."""
    want = want or answer(problem)

    def own(name):
        with on(("reference", None)):
            return error(problem.run()[name], want[name])

    for name, array in got.items():
        if name == "labels":
            check_labels(array, want["resp"], str(problem))
            continue
        close(
            array,
            want[name],
            tolerance=KERNELS[KERNEL_OF[name]].tolerance[problem.dtype],
            dtype="float64" if name in SUMS else problem.dtype,
            name=f"{problem}: {name}",
            own=lambda name=name: own(name),
        )


def check_labels(labels, resp, name=""):
    """Assert that `labels` are the largest of `resp` wherever that one leads."""
    assert labels.dtype == np.intp and labels.shape == resp.shape[:1], name
    ranked = np.sort(resp, axis=1)
    leads = np.ones(len(resp), bool) if resp.shape[1] == 1 else ranked[:, -1] - ranked[:, -2] > LEAD
    np.testing.assert_array_equal(labels[leads], resp[leads].argmax(axis=1), err_msg=name)
