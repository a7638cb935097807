"""Gaussian mixtures at the ends of the range: NaN, infinities, overflow, denormals. Never a neighbour's business."""

import threading

import numpy as np
import pytest
from mixtures import OF_ROWS, answer, both_dtypes, check, draw, every_type, outputs_of_rows, sums
from problems import bitwise

from fastml.kernels.table import TILE

FAMILIES = ("gaussian",)


def without(results, n):
    return {name: np.delete(results[name], n, axis=0) for name in OF_ROWS}


@every_type
@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@np.errstate(all="ignore")  # the reference is NumPy, which warns where infinities meet
def test_one_poisoned_row(cell, covariance_type, dtype, poison):
    """NaN in its own responsibilities and in all sums, and a label all the same; the others keep their bits."""
    for D, K in ((1, 3), (5, 3), (33, 9)):
        problem = draw(covariance_type, N=TILE + 41, D=D, K=K, dtype=dtype, weighted="random")
        clean = problem.run()
        for n in (0, 17, TILE - 1, TILE + 40):
            X = problem.X.copy()
            X[n, n % D] = poison
            got = problem.having(X=X).run()
            bitwise(without(got, n), without(clean, n), f"{problem}, {poison} in row {n}")
            assert np.isnan(got["resp"][n]).all() and np.isnan(got["log_likelihood"][n])
            assert not np.isfinite(got["log_density"][n]).any() and 0 <= got["labels"][n] < K
            assert np.isnan(got["log_density"][n]).all() or np.isinf(poison)
            for name in ("n", "total"):
                assert np.isnan(got[name]).all(), name


@every_type
@both_dtypes
@np.errstate(all="ignore")
def test_a_poisoned_row_of_weight_zero(cell, covariance_type, dtype):
    """0 · NaN is NaN: sums show it all the same."""
    problem = draw(covariance_type, N=50, dtype=dtype, weighted="zeros")
    assert problem.sample_weight[0] == 0
    problem = problem.having(X=problem.X.copy())
    problem.X[0] = np.nan
    assert np.isnan(problem.run()["total"]).all()


@every_type
@both_dtypes
@np.errstate(all="ignore")
def test_rows_beyond_the_range(cell, covariance_type, dtype):
    """Their densities are 0 under every component: no one can say whose they are. The others do not notice."""
    huge = {"float32": 1e30, "float64": 1e200}[dtype]
    problem = draw(covariance_type, N=70, D=5, K=4, dtype=dtype)
    clean = problem.run()
    X = problem.X.copy()
    X[[3, 40]] = [[huge] * 5, [-huge] * 5]
    got = problem.having(X=X).run()
    bitwise(without(got, [3, 40]), without(clean, [3, 40]), str(problem))
    assert np.isnan(got["resp"][[3, 40]]).all() and np.isnan(got["log_likelihood"][[3, 40]]).all()
    assert not np.isfinite(got["log_density"][[3, 40]]).any() and np.isnan(got["total"]).all()


@every_type
@both_dtypes
def test_far_from_every_mean(cell, covariance_type, dtype):
    """Within the range: log-sum-exp finds the nearest, however small its density."""
    far = {"float32": 1e4, "float64": 1e6}[dtype]
    problem = draw(covariance_type, N=40, D=3, K=4, dtype=dtype)
    problem = problem.having(X=np.sign(problem.X) * far + problem.X)
    got = problem.run()
    check({name: got[name] for name in ("log_density", "log_likelihood", "total")}, problem)
    assert (np.abs(got["resp"].sum(axis=1) - 1) < 1e-5).all() and np.isfinite(got["first"]).all()


@every_type
@both_dtypes
@np.errstate(over="ignore")
def test_wide_and_narrow_components(cell, covariance_type, dtype):
    """Variances from the smallest to the largest of the range in one mixture: densities of 0, but no NaN."""
    if covariance_type == "tied":
        pytest.skip("tied has one covariance")
    exponents = {"float32": (-30, 0, 30), "float64": (-300, 0, 300)}[dtype]
    problem = draw(covariance_type, N=60, D=3, K=3, dtype=dtype)
    scale = np.array([10.0**e for e in exponents]).reshape(3, *[1] * (problem.covariances.ndim - 1))
    deviations = np.sqrt(scale.ravel())[np.arange(60) % 3]
    shape = problem.covariances[0] if covariance_type != "spherical" else 1.0
    problem = problem.having(
        X=(problem.X * deviations[:, None]).astype(dtype),
        means=np.zeros((3, 3), dtype),
        covariances=(scale * shape).astype(dtype),
    )
    got = problem.run()
    want = dict(answer(problem))
    del got["log_density"]
    assert all(np.isfinite(array).all() for array in got.values())
    for results in (got, want):  # in units of each component's own
        results["first"] = results["first"] / np.sqrt(scale.reshape(3, 1))
        results["second"] = results["second"] / scale
    check(got, problem, want)


@every_type
@both_dtypes
def test_a_row_on_every_mean(cell, covariance_type, dtype):
    """Distances of exactly 0."""
    problem = draw(covariance_type, N=3, D=6, K=3, dtype=dtype, apart=100)
    problem = problem.having(X=problem.means.copy())
    got = problem.run()
    check({name: got[name] for name in (*OF_ROWS, "n", "total")}, problem)
    assert not got["first"].any() and ("second" not in got or not got["second"].any())


# --------------------------------------------------------------------------------------------------------- denormals


@every_type
@both_dtypes
def test_denormals_count_as_zero(cell, covariance_type, dtype):
    """Products of a denormal and the largest factors are near 1: they would be seen."""
    if cell[0] == "reference":
        pytest.skip("NumPy computes with denormals")
    info = np.finfo(dtype)
    D, K = 5, 3
    means = np.zeros((K, D), dtype)
    largest = dtype_array(info.max / 100, dtype)
    factors = {
        "full": np.stack([np.eye(D, dtype=dtype)] * K) * largest,
        "tied": np.eye(D, dtype=dtype) * largest,
        "diag": np.full((K, D), largest),
        "spherical": np.full(K, largest),
    }[covariance_type]
    arguments = means, factors, np.log(dtype_array([0.2, 0.3, 0.5], dtype)), covariance_type

    def filled_with(value):
        X = np.full((50, D), value, dtype)
        return {**outputs_of_rows(X, arguments), **sums(X, None, arguments)}

    bitwise(filled_with(info.tiny / 4), filled_with(0), covariance_type)


def dtype_array(value, dtype):
    return np.asarray(value, dtype)


@every_type
@both_dtypes
def test_the_callers_floating_point_mode(cell, covariance_type, dtype, threads):
    """A call leaves denormals as they were, in the thread that made it and in the others."""
    tiny = np.finfo(dtype).smallest_subnormal
    seen = []

    def look():
        seen.append(tiny * 1 != 0 and np.full(64, tiny).sum() != 0)

    threads(3)
    draw(covariance_type, N=3 * TILE, D=5, K=3, dtype=dtype).run()
    look()
    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert seen == [True, True]
