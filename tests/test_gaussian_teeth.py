"""The tests of the mixture tests: a damaged answer is rejected, one way and another, and the right one is not."""

import numpy as np
import pytest
from cells import on
from mixtures import (
    COVARIANCE_TYPES,
    KERNEL_OF,
    LEAD,
    SUMS,
    answer,
    both_dtypes,
    check,
    draw,
    every_type,
    outputs_of_rows,
    sums,
)

from fastml.kernels.table import KERNELS, TILE


def damaged(problem, right):
    """(what was done, {name: damaged array}) for everything that a wrong kernel may do."""
    means, factors, constants, covariance_type = problem.arguments
    X, w = problem.X, problem.sample_weight
    N, K = len(X), len(means)
    swapped = [1, 0, *range(2, K)]

    def run(X=X, w=w, means=means, factors=factors, constants=constants):
        arguments = means, factors, constants, covariance_type
        return {**outputs_of_rows(X, arguments), **sums(X, w, arguments)}

    def of_rows(change):
        """Damages to what the kernels that write to rows write there."""
        for name in ("log_density", "resp", "log_likelihood"):
            array = right[name].copy()
            change(array)
            yield name, array

    for what, change in {
        "the last row dropped": lambda a: a.__setitem__(-1, 0),
        "the first row zero": lambda a: a.__setitem__(0, 0),
        "one row late": lambda a: a.__setitem__(slice(None), np.roll(a, 1, axis=0)),
    }.items():
        yield what, dict(of_rows(change))
    for name, array in right.items():
        if name == "labels":
            yield (
                "one label too many",
                {name: np.where(np.arange(N) == np.argmax(right["resp"].max(axis=1)), -1, array)},
            )
            yield "labels of two components swapped", {name: np.array(swapped)[array]}
            continue
        tolerance = KERNELS[KERNEL_OF[name]].tolerance[problem.dtype]
        one = array.copy()
        one.flat[0] += 10 * tolerance * np.abs(array).max()
        nan = array.copy()
        nan.flat[0] = np.nan
        yield "zero", {name: np.zeros_like(array)}
        yield "scaled by 1 + 10 tolerances", {name: array * (1 + 10 * tolerance)}
        yield "one number off by 10 tolerances", {name: one}
        yield "one number NaN", {name: nan}
    for name in ("n", "first", "second"):
        if name in right:
            yield "two components swapped", {name: right[name][swapped]}
    for name in ("log_density", "resp"):
        yield "two components swapped", {name: right[name][:, swapped]}

    def only(results, *names):
        return {name: results[name] for name in names or results if name in right}

    yield "weights of rows forgotten", only(run(w=None), *SUMS)
    yield "weights of rows shifted", only(run(w=np.roll(w, 1)), *SUMS)
    yield "weights of rows squared", only(run(w=w * w), *SUMS)
    yield "the last row not summed", only(run(X=X[:-1], w=w[:-1]), *SUMS)
    yield "the last row summed twice", only(run(X=X[[*range(N), -1]], w=w[[*range(N), -1]]), *SUMS)
    yield (
        "weights of components forgotten",
        only(run(constants=constants - np.log(problem.weights)), "resp", "total", "n"),
    )
    yield "densities of another mean", only(run(means=means[swapped]), "log_density", "resp", "first")
    yield "half the exponent forgotten", only(run(factors=factors * np.sqrt(2).astype(X.dtype)), "log_density", "resp")
    if covariance_type in ("full", "tied"):
        lower = np.ascontiguousarray(np.swapaxes(factors, -1, -2))
        yield "lower for upper factors", only(run(factors=lower), "log_density", "resp", "log_likelihood", "n")
        diagonal = factors * np.eye(X.shape[1], dtype=X.dtype)
        yield "only the diagonal of a factor", only(run(factors=diagonal), "log_density", "resp", "n")
        last = factors.copy()
        last[..., :-1, -1] = 0
        yield "the last column of a factor cut off", only(run(factors=last), "log_density", "resp")
    if covariance_type != "tied":
        n, first, second = (right[name] for name in ("n", "first", "second"))
        mean = first / n[:, None]
        if covariance_type == "full":
            centred = np.triu(second - n[:, None, None] * mean[:, :, None] * mean[:, None])
            crossed = np.triu(second + second[swapped])
            yield "only the diagonal of the second moment", {"second": second * np.eye(X.shape[1])}
        else:
            change = mean**2 if covariance_type == "diag" else (mean**2).sum(axis=1)
            centred, crossed = (
                second - (n[:, None] if covariance_type == "diag" else n) * change,
                second + second[swapped],
            )
        yield "about the new mean", {"second": centred}
        yield "two components added up", {"second": crossed}
    origin = right["first"] + right["n"][:, None] * means
    yield "about the origin", {"first": origin}
    other = right["first"] + right["n"][:, None] * (means - means[swapped])
    yield "about another component's mean", {"first": other}
    yield (
        "the log-likelihood of rows without their weights",
        {"total": right["log_likelihood"].sum(keepdims=True).astype(float)},
    )
    yield "r² for r", {"n": (w[:, None] * right["resp"] ** 2).sum(axis=0, dtype="float64")}
    yield "no log-sum-exp but the largest", {"log_likelihood": right["log_density"].max(axis=1)}


def damaged_tile(problem, right):
    """What a wrong kernel may do from the second tile on."""
    X, w = problem.X, problem.sample_weight
    for name in ("log_density", "resp", "log_likelihood"):
        array = right[name].copy()
        array[TILE:] = 0
        yield "the second tile not written", {name: array}
    first, second = (sums(X[part], w[part], problem.arguments) for part in (slice(TILE), slice(TILE, None)))
    yield "only the first tile summed", first
    yield "only the second tile summed", second
    yield "the second tile summed twice", {name: first[name] + 2 * second[name] for name in first}


def cases(covariance_type, dtype):
    """Rows are few where one of them must be seen in a sum."""
    for N, damage in ((41, damaged), (TILE + 60, damaged_tile)):
        yield draw(covariance_type, N=N, D=4, K=3, dtype=dtype, weighted="random", apart=2, centre=1), damage


@every_type
@both_dtypes
def test_damage_is_rejected(covariance_type, dtype):
    for problem, damage in cases(covariance_type, dtype):
        with on(("reference", None)):
            right = problem.run()
            check(right, problem)
            for what, arrays in damage(problem, right):
                assert arrays, what
                for name, array in arrays.items():
                    try:
                        check({name: array}, problem)
                    except AssertionError:
                        continue
                    pytest.fail(f"{problem}: not rejected: {what} ({name})")


@every_type
def test_the_damage_would_fit(covariance_type):
    """The damages are rejected by their values: each has the shape and the dtype of the right answer."""
    for problem, damage in cases(covariance_type, "float64"):
        right = answer(problem)
        with on(("reference", None)):
            for what, arrays in damage(problem, right):
                for name, array in arrays.items():
                    assert (array.shape, array.dtype) == (right[name].shape, right[name].dtype), f"{what} ({name})"


def test_labels_that_nobody_leads_are_not_compared():
    """But those are few, or the comparison of labels would compare nothing."""
    for covariance_type in COVARIANCE_TYPES:
        for problem, _ in cases(covariance_type, "float64"):
            resp = np.sort(answer(problem)["resp"], axis=1)
            assert (resp[:, -1] - resp[:, -2] > LEAD).mean() > 0.95
