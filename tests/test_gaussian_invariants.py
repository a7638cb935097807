"""What changes nothing in a Gaussian mixture: threads, the company of a row, a cut between tiles, the order of things.

`native` promises the first three bit for bit, `jit` all but the company of a row; elsewhere they hold to within the
kernels' tolerance.
"""

import numpy as np
from mixtures import (
    OF_ROWS,
    both_dtypes,
    check,
    draw,
    every_type,
    kernel,
    nothing_yet,
    outputs_of_rows,
    sums,
)
from problems import bitwise

from fastml.kernels.table import TILE

FAMILIES = ("gaussian",)
SHAPES = (
    {"N": 5 * TILE + 3, "D": 3, "K": 2},
    {"N": 2 * TILE + 65, "D": 7, "K": 9},
    {"N": 3 * TILE, "D": 17, "K": 3, "apart": 40},
    {"N": TILE + 1, "D": 66, "K": 5},
    {"N": 70, "D": 13, "K": 33},
    {"N": 40, "D": 130, "K": 4},
)


def same(got, want, problem, exactly):
    if exactly:
        bitwise(got, want, str(problem))
    else:
        check(got, problem, want)


@every_type
@both_dtypes
def test_any_number_of_threads(cell, covariance_type, dtype, threads):
    for k, sizes in enumerate(SHAPES):
        problem = draw(covariance_type, **sizes, dtype=dtype, weighted=("", "random", "zeros")[k % 3])
        threads(1)
        want = problem.run()
        for n in (2, 3, 5) if cell[0] != "reference" else (2,):
            threads(n)
            same(problem.run(), want, problem, exactly=cell[0] != "reference")


@every_type
@both_dtypes
def test_rows_in_several_calls(cell, covariance_type, dtype):
    """All parts but the last are multiples of a tile, and the sums have the bits of one call."""
    for sizes in SHAPES[:3]:
        problem = draw(covariance_type, **sizes, dtype=dtype, weighted="random")
        N = sizes["N"]
        want = sums(problem.X, problem.sample_weight, problem.arguments)
        for cuts in ([TILE], [2 * TILE], [0, TILE, 2 * TILE, N]):
            found = nothing_yet(covariance_type, sizes["K"], sizes["D"])
            for start, end in zip([0, *cuts], [*cuts, N], strict=True):
                part = problem.rows(slice(start, end))
                kernel("gaussian_statistics", part.X, part.sample_weight, *part.arguments, *found.values())
            if covariance_type == "full":
                found["second"] = np.triu(found["second"])
            found = {name: found[name] for name in want}
            same(found, want, problem, exactly=cell[0] != "reference")


@every_type
@both_dtypes
def test_any_company(cell, covariance_type, dtype, threads):
    """A row alone, among others, at any place."""
    rng = np.random.default_rng(0)
    for sizes in SHAPES:
        problem = draw(covariance_type, **sizes, dtype=dtype)
        whole = outputs_of_rows(problem.X, problem.arguments)
        for n in (1, 1, 2, 5, 13, 38):
            threads(1 + n % 2)
            which = rng.integers(sizes["N"], size=n)
            got = outputs_of_rows(problem.X[which], problem.arguments)
            same(got, {name: whole[name][which] for name in OF_ROWS}, problem.rows(which), exactly=cell[0] == "native")


@every_type
@both_dtypes
def test_responsibilities_sum_to_one(cell, covariance_type, dtype):
    """To within a few units in the last place, and none is negative or above 1."""
    for apart in (0.1, 1, 5, 30, 1000):
        for K in (1, 2, 7, 65):
            problem = draw(covariance_type, N=200, D=4, K=K, dtype=dtype, apart=apart)
            resp = problem.run()["resp"]
            assert (resp >= 0).all() and (resp <= 1).all()
            off = np.abs(resp.sum(axis=1, dtype="float64") - 1).max()
            assert off <= 8 * np.finfo(dtype).eps, f"{problem}: {off / np.finfo(dtype).eps} units"


@every_type
@both_dtypes
def test_labels_are_the_largest(cell, covariance_type, dtype):
    for apart in (0.01, 1, 30):
        problem = draw(covariance_type, N=TILE + 200, D=3, K=17, dtype=dtype, apart=apart)
        got = problem.run()
        rows = np.arange(len(problem.X))
        np.testing.assert_array_equal(got["resp"][rows, got["labels"]], got["resp"].max(axis=1))


@every_type
@both_dtypes
def test_outputs_agree_with_each_other(cell, covariance_type, dtype):
    """The log-likelihoods of rows and of all, the shares of rows and of components, are those of the densities."""
    problem = draw(covariance_type, N=TILE + 77, D=5, K=6, dtype=dtype, weighted="random", apart=3)
    got = problem.run()
    w = problem.sample_weight.astype("float64")
    l = got["log_density"].astype("float64")
    log_likelihood = np.logaddexp.reduce(l, axis=1)
    resp = np.exp(l - log_likelihood[:, None])
    check(
        {name: got[name] for name in ("log_likelihood", "resp", "total", "n")},
        problem,
        {"log_likelihood": log_likelihood, "resp": resp, "total": np.array([w @ log_likelihood]), "n": w @ resp},
    )


@every_type
@both_dtypes
def test_order_of_components(cell, covariance_type, dtype):
    """Components in another order are the answers in another order."""
    problem = draw(covariance_type, N=90, D=5, K=11, dtype=dtype, weighted="random", apart=3)
    order = np.random.default_rng(1).permutation(11)
    theta = {"weights": problem.weights[order], "means": problem.means[order]}
    if covariance_type != "tied":
        theta["covariances"] = problem.covariances[order]
    want = problem.run()
    swapped = {name: want[name][:, order] for name in ("log_density", "resp")}
    swapped |= {name: want[name][order] for name in ("n", "first", "second") if name in want}
    got = problem.having(**theta).run()
    check({name: got[name] for name in swapped}, problem, swapped)


@every_type
@both_dtypes
def test_weights_are_repetitions(cell, covariance_type, dtype):
    """A row of weight 2 is that row twice; one of weight 0 is none."""
    problem = draw(covariance_type, N=60, D=4, K=3, dtype=dtype)
    times = np.arange(60) % 3
    weighted = problem.having(sample_weight=times.astype(dtype))
    want = sums(np.repeat(problem.X, times, axis=0), None, problem.arguments)
    check(sums(weighted.X, weighted.sample_weight, weighted.arguments), weighted, want)
    bitwise(
        sums(problem.X, np.ones(60, dtype), problem.arguments), sums(problem.X, None, problem.arguments), str(problem)
    )


@every_type
@both_dtypes
def test_any_unit(cell, covariance_type, dtype):
    """Features in units of 2^e, each its own where the type allows: densities shift by a constant, sums scale."""
    problem = draw(covariance_type, N=90, D=5, K=3, dtype=dtype, weighted="random")
    means, factors, constants, _ = problem.arguments
    want = problem.run()
    far = {"float32": 40, "float64": 490}[dtype]  # variances from 2^-80 and 2^-980
    mixed = np.array([far, -far, 0, 7, -far // 2])
    for e in (np.full(5, far), np.full(5, -far), *([mixed] if covariance_type != "spherical" else [])):
        units = np.ldexp(np.ones(5, dtype), e)
        if covariance_type == "spherical":
            scaled = factors / units[0]
        else:
            scaled = factors / (units if covariance_type == "diag" else units[:, None])
        X, arguments = problem.X * units, (means * units, scaled, constants, covariance_type)
        got = {**outputs_of_rows(X, arguments), **sums(X, problem.sample_weight, arguments)}
        units = units.astype("float64")
        got["first"] /= units
        if covariance_type == "full":
            got["second"] /= units[:, None]  # one after the other: their product may be out of range
            got["second"] /= units
        elif covariance_type != "tied":
            for _ in range(2):
                got["second"] /= units if covariance_type == "diag" else units[0]
        check(got, problem, want)
