"""The Gaussian kernels: the reference against the oracle, then every cell of the grid against the reference."""

from itertools import product

import numpy as np
import pytest
from cells import on
from mixtures import (
    OF_ROWS,
    SUMS,
    answer,
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
WIDTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)  # both sides of SIMD widths
BLOCKS = (5, 6, 7, 11, 12, 13, 63, 64, 66, 100, 129)  # and of the register blocks over features
WEIGHTED = ("", "random", "zeros")


# ------------------------------------------------------------------------------------------ the oracle, the reference


@every_type
@both_dtypes
def test_reference(covariance_type, dtype):
    for k, sizes in enumerate(
        (
            {},
            {"N": 1, "D": 3, "K": 2},
            {"N": 7, "D": 1, "K": 5},
            {"N": 5, "D": 4, "K": 1},
            {"N": 1, "D": 1, "K": 1},
            {"N": 11, "D": 2, "K": 3, "empty": True},
            {"N": 9, "D": 7, "K": 2, "apart": 60},
            {"N": 0},
        )
    ):
        for weighted in WEIGHTED[: 1 + 2 * (k % 2)]:
            problem = draw(covariance_type, **sizes, dtype=dtype, weighted=weighted, seed=1)
            with on(("reference", None)):
                check(problem.run(), problem, problem.oracle())


def test_reference_over_tiles():
    """The oracle, too, walks more than one tile."""
    problem = draw("full", N=TILE + 3, D=2, K=2, weighted="zeros")
    with on(("reference", None)):
        check(problem.run(), problem, problem.oracle())


def test_types_agree():
    """One and the same mixture, written as each of the types."""
    one = draw("spherical", N=40, D=3, K=4)
    variance = one.covariances[0]
    same = {
        "spherical": np.full(4, variance),
        "diag": np.full((4, 3), variance),
        "tied": variance * np.eye(3),
        "full": np.stack([variance * np.eye(3)] * 4),
    }
    want = answer(one.having(covariances=same["spherical"]))
    for covariance_type, covariances in same.items():
        problem = one.having(covariance_type=covariance_type, covariances=covariances)
        with on(("reference", None)):
            check({name: array for name, array in problem.run().items() if name != "second"}, problem, want)


# ------------------------------------------------------------------------------------------------------- every cell


def sizes_of_axis(axis):
    """`WIDTHS` on one axis, the others small and unequal."""
    others = {"N": 19, "D": 3, "K": 5}
    return [{**others, axis: size} for size in WIDTHS if size or axis == "N"]


@pytest.mark.parametrize("axis", ["N", "D", "K"])
@every_type
@both_dtypes
def test_widths(cell, covariance_type, dtype, axis):
    for k, sizes in enumerate(sizes_of_axis(axis)):
        problem = draw(covariance_type, **sizes, dtype=dtype, weighted=WEIGHTED[k % 3])
        check(problem.run(), problem)


@every_type
@both_dtypes
def test_blocks_of_features(cell, covariance_type, dtype):
    for k, D in enumerate(BLOCKS):
        for N, K in ((17, 2), (67, 3)):
            problem = draw(covariance_type, N=N, D=D, K=K, dtype=dtype, weighted=WEIGHTED[k % 3])
            check(problem.run(), problem)


@every_type
@both_dtypes
def test_tiles(cell, covariance_type, dtype):
    for N, weighted in product((TILE - 1, TILE, TILE + 1, 2 * TILE + 3), WEIGHTED):
        problem = draw(covariance_type, N=N, D=3, K=2, dtype=dtype, weighted=weighted)
        check(problem.run(), problem)


@every_type
@both_dtypes
def test_well_separated(cell, covariance_type, dtype):
    """Most responsibilities are exactly 0, in whole vectors and in some lanes of one."""
    for N, D, K in ((TILE + 5, 5, 9), (100, 17, 33), (40, 64, 3)):
        for apart in (20, 300):
            problem = draw(covariance_type, N=N, D=D, K=K, dtype=dtype, apart=apart, weighted="zeros")
            want = answer(problem)
            if apart == 300:
                assert (want["resp"] == 0).mean() > 0.6
            check(problem.run(), problem)


@every_type
@both_dtypes
def test_sorted_rows(cell, covariance_type, dtype):
    """Rows of one component after those of another: whole blocks that a component has no share in."""
    problem = draw(covariance_type, N=TILE + 70, D=6, K=5, dtype=dtype, apart=100, weighted="random")
    problem = problem.rows(np.argsort(answer(problem)["labels"], kind="stable"))
    check(problem.run(), problem)


@every_type
@both_dtypes
def test_a_component_of_weight_zero(cell, covariance_type, dtype):
    """Its constant is -inf: it has nothing, exactly."""
    problem = draw(covariance_type, N=50, D=4, K=3, dtype=dtype, weighted="random", empty=True)
    assert problem.arguments[2][0] == -np.inf
    got = problem.run()
    check(got, problem)
    assert (got["log_density"][:, 0] == -np.inf).all() and not got["resp"][:, 0].any()
    assert not any(got[name][0].any() for name in ("n", "first", "second") if name in got)


@every_type
def test_float32_far_from_the_origin(cell, covariance_type):
    """Unit variances around 1e4: sums of squares about 0 would have no digit left."""
    for D in (1, 7, 64):
        problem = draw(covariance_type, N=300, D=D, K=3, dtype="float32", centre=1e4, weighted="random")
        check(problem.run(), problem)


@every_type
@both_dtypes
def test_one_component(cell, covariance_type, dtype):
    problem = draw(covariance_type, N=70, D=9, K=1, dtype=dtype, weighted="zeros")
    got = problem.run()
    check(got, problem)
    assert (got["resp"] == 1).all() and not got["labels"].any()
    np.testing.assert_array_equal(got["log_likelihood"], got["log_density"][:, 0])


@every_type
@both_dtypes
def test_many_features(cell, covariance_type, dtype):
    problem = draw(covariance_type, N=37, D=500, K=2, dtype=dtype, weighted="random")
    check(problem.run(), problem)


@every_type
@both_dtypes
def test_seeds(cell, covariance_type, dtype):
    for seed in range(1, 9):
        problem = draw(covariance_type, N=41, D=6, K=4, dtype=dtype, apart=3, weighted=WEIGHTED[seed % 3], seed=seed)
        check(problem.run(), problem)


# ------------------------------------------------------------------------------------------------------ the contract


@every_type
@both_dtypes
def test_any_output_may_be_none(cell, covariance_type, dtype):
    problem = draw(covariance_type, N=TILE + 9, D=3, K=4, dtype=dtype)
    want = outputs_of_rows(problem.X, problem.arguments)
    for wanted in product((False, True), repeat=3):
        names = OF_ROWS[1:]
        asked = [np.empty_like(want[name]) if w else None for name, w in zip(names, wanted, strict=True)]
        kernel("gaussian_responsibilities", problem.X, *problem.arguments, *asked)
        got = {name: array for name, array in zip(names, asked, strict=True) if array is not None}
        bitwise(got, {name: want[name] for name in got}, f"{problem}, {list(got)}")


@every_type
@both_dtypes
def test_statistics_are_added(cell, covariance_type, dtype):
    """To whatever the arrays hold, here something of the size of the answer."""
    problem = draw(covariance_type, N=TILE + 9, D=5, K=3, dtype=dtype, weighted="random")
    want = {name: answer(problem)[name] for name in SUMS if name in answer(problem)}
    start = {name: np.full_like(array, array.flat[np.abs(array).argmax()]) for name, array in want.items()}
    got = sums(problem.X, problem.sample_weight, problem.arguments, start)
    if covariance_type == "full":
        start["second"] = np.triu(start["second"])
    check(got, problem, {name: want[name] + start[name] for name in want})


@every_type
@both_dtypes
def test_no_rows(cell, covariance_type, dtype):
    """Nothing is added, and what was there stays, to the bit."""
    problem = draw(covariance_type, N=0, dtype=dtype, weighted="random")
    start = {name: array + 0.1 for name, array in nothing_yet(covariance_type, 3, 5).items() if array is not None}
    got = sums(problem.X, problem.sample_weight, problem.arguments, start)
    if covariance_type == "full":
        start["second"] = np.triu(start["second"])
    bitwise(got, start)


@every_type
@both_dtypes
def test_equal_components_share(cell, covariance_type, dtype):
    """And the label is the first of them."""
    problem = draw(covariance_type, N=33, D=3, K=5, dtype=dtype)
    k = [2, 2, 2, 2, 2]
    theta = {"weights": np.full(5, 0.2, dtype), "means": problem.means[k]}
    if covariance_type != "tied":
        theta["covariances"] = problem.covariances[k]
    got = problem.having(**theta).run()
    assert not got["labels"].any() and (got["resp"] == got["resp"][:, :1]).all()
    np.testing.assert_allclose(got["resp"], 0.2, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@both_dtypes
def test_below_the_diagonal_of_a_factor(cell, covariance_type, dtype):
    """It is never read. D on both sides of the blocks."""
    if cell[0] == "reference":
        pytest.skip("NumPy multiplies whole matrices")
    for D in (3, 8, 13, 33):
        problem = draw(covariance_type, N=40, D=D, K=3, dtype=dtype)
        means, factors, *rest = problem.arguments
        filled = factors + np.tril(np.full_like(factors, np.nan), -1)
        arguments = means, filled, *rest
        got = {**outputs_of_rows(problem.X, arguments), **sums(problem.X, None, arguments)}
        bitwise(got, problem.run(), str(problem))


@every_type
@both_dtypes
def test_inputs_are_left_alone(cell, covariance_type, dtype):
    """Read-only arrays do, and nothing in them has changed."""
    problem = draw(covariance_type, N=50, D=9, K=3, dtype=dtype, weighted="random")
    arrays = [problem.X, problem.sample_weight, *problem.arguments[:3]]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    try:
        check(problem.run(), problem)
    finally:
        for array in arrays:
            array.flags.writeable = True
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
