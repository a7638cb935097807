"""The functions on Gaussian mixtures: what they answer, whatever they are given, and worked problem 4 in full."""

import math
from itertools import combinations

import numpy as np
import pytest
from cells import on
from compare import close
from mixtures import both_dtypes, draw, every_type
from problems import bitwise

from fastml import mixture
from fastml.kernels.table import KERNELS, TILE
from fastml.mixture.gaussian import Gaussians, factors_of

FAMILIES = ("gaussian",)
TOLERANCE = KERNELS["gaussian_statistics"].tolerance


def matrices(problem):
    """Every component's covariance as a matrix, float64 (K, D, D)."""
    covariances, (K, D) = problem.covariances.astype("float64"), problem.means.shape
    return {
        "full": lambda: covariances,
        "tied": lambda: np.stack([covariances] * K),
        "diag": lambda: covariances[:, :, None] * np.eye(D),
        "spherical": lambda: covariances[:, None, None] * np.eye(D),
    }[problem.covariance_type]()


def log_densities(X, means, matrices):
    """By inverses and determinants, (N, K)."""
    d = X[:, None].astype("float64") - means
    distances = np.einsum("nki,kij,nkj->nk", d, np.linalg.inv(matrices), d)
    return -0.5 * (distances + np.linalg.slogdet(matrices)[1] + X.shape[1] * math.log(2 * math.pi))


def by_hand(problem):
    """Log-densities without weights, responsibilities and log-likelihoods."""
    l = log_densities(problem.X, problem.means.astype("float64"), matrices(problem))
    p = np.exp(l) * problem.weights.astype("float64")
    return l, p / p.sum(axis=1, keepdims=True), np.log(p.sum(axis=1))


def m_step_by_hand(X, w, covariance_type):
    """The parameters from w = sample_weight · responsibilities (N, K)."""
    X = X.astype("float64")
    n = w.sum(axis=0)
    means = w.T @ X / n[:, None]
    d = X[:, None] - means
    full = np.einsum("nk,nki,nkj->kij", w, d, d)
    covariances = {
        "full": full / n[:, None, None],
        "tied": full.sum(axis=0) / n.sum(),
        "diag": np.einsum("kii->ki", full) / n[:, None],
        "spherical": np.einsum("kii->k", full) / n / X.shape[1],
    }[covariance_type]
    return n / n.sum(), means, covariances


def all_close(got, want, dtype, tolerance=None, names=("weights", "means", "covariances")):
    for name, a, b in zip(names, got, want, strict=True):
        close(a, b, tolerance=tolerance or TOLERANCE[dtype], dtype=dtype, name=name)


# --------------------------------------------------------------------------------- worked problem 4: the E and M steps


@every_type
@both_dtypes
def test_e_step(column, covariance_type, dtype):
    problem = draw(covariance_type, N=60, D=4, K=3, dtype=dtype)
    l, resp, log_likelihood = by_hand(problem)
    got = mixture.responsibilities(problem.X, *problem.theta, covariance_type)
    all_close(got, (resp, log_likelihood), dtype, names=("resp", "log_likelihood"))
    got = mixture.log_density(problem.X, *problem.theta[1:], covariance_type)
    close(got, l, tolerance=TOLERANCE[dtype], dtype=dtype)


@every_type
@both_dtypes
@pytest.mark.parametrize("weighted", ["", "random", "zeros"])
def test_m_step(column, covariance_type, dtype, weighted):
    problem = draw(covariance_type, N=90, D=4, K=3, dtype=dtype, weighted=weighted, apart=2)
    _, resp, log_likelihood = by_hand(problem)
    w = np.ones(90) if not weighted else problem.sample_weight.astype("float64")
    want = m_step_by_hand(problem.X, w[:, None] * resp, covariance_type)
    step = {"sample_weight": problem.sample_weight}
    *got, mean = mixture.em_step(problem.X, *problem.theta, covariance_type, **step, reg_covar=0)
    all_close(got, want, dtype)
    assert isinstance(mean, float) and math.isclose(
        mean, np.average(log_likelihood, weights=w), rel_tol=TOLERANCE[dtype]
    )
    found = mixture.statistics(problem.X, *problem.theta, covariance_type, **step)
    bitwise(dict(enumerate(mixture.update(found, reg_covar=0))), dict(enumerate(got)))
    assert found.log_likelihood / found.weight == mean


@every_type
def test_reg_covar_is_added_to_the_variances(column, covariance_type):
    problem = draw(covariance_type, N=50)
    found = mixture.statistics(problem.X, *problem.theta, covariance_type)
    (*_, without), (*_, with_it) = mixture.update(found, reg_covar=0), mixture.update(found, reg_covar=0.25)
    added = 0.25 * np.eye(5) if covariance_type in ("full", "tied") else 0.25
    close(with_it, without + added, tolerance=1e-15, dtype="float64")
    (*_, usual), (*_, default) = mixture.update(found, reg_covar=1e-6), mixture.update(found)
    assert np.array_equal(usual, default)


def changed(parameters, covariance_type, step):
    """The parameters with each of their numbers in turn moved by `step` either way: (what, parameters)."""
    weights, means, covariances = parameters
    for h in (step, -step):
        for i, j in combinations(range(len(weights)), 2):
            other = weights.copy()
            other[[i, j]] += h, -h
            yield f"weights {i} {j}", (other, means, covariances)
        for where in np.ndindex(means.shape):
            other = means.copy()
            other[where] += h
            yield f"means {where}", (weights, other, covariances)
        for where in np.ndindex(covariances.shape):
            other = covariances.copy()
            other[where] += h
            if covariance_type in ("full", "tied") and where[-1] != where[-2]:
                other[(*where[:-2], where[-1], where[-2])] += h
            yield f"covariances {where}", (weights, means, other)


@every_type
@pytest.mark.parametrize("weighted", ["", "random"])
def test_q_is_maximal_at_the_m_step(column, covariance_type, weighted):
    """Each parameter, moved either way, lowers it; by as little as a second derivative does."""
    problem = draw(covariance_type, N=80, D=3, K=3, weighted=weighted)
    given = {"covariance_type": covariance_type, "sample_weight": problem.sample_weight}
    best = mixture.em_step(problem.X, *problem.theta, **given, reg_covar=0)[:3]
    most = mixture.q_function(problem.X, best, problem.theta, **given)
    assert most > mixture.q_function(problem.X, problem.theta, problem.theta, **given)
    for what, other in changed(best, covariance_type, 1e-3):
        fall = most - mixture.q_function(problem.X, other, problem.theta, **given)
        assert 1e-8 < fall < 0.1, f"{what}: {fall}"


@every_type
def test_q_by_hand(column, covariance_type):
    """For parameters other than those of the responsibilities."""
    problem = draw(covariance_type, N=40, D=3, K=4, weighted="random")
    new = draw(covariance_type, N=40, D=3, K=4, seed=5)
    _, resp, _ = by_hand(problem)
    joint = log_densities(problem.X, new.means, matrices(new)) + np.log(new.weights)
    want = (problem.sample_weight[:, None] * resp * joint).sum()
    got = mixture.q_function(problem.X, new.theta, problem.theta, covariance_type, sample_weight=problem.sample_weight)
    assert math.isclose(got, want, rel_tol=1e-11)
    got = mixture.q_function(problem.X, list(new.theta), list(problem.theta), covariance_type)
    assert math.isclose(got, (resp * joint).sum(), rel_tol=1e-11)


@every_type
def test_q_and_entropy_are_the_log_likelihood(column, covariance_type):
    """At the same parameters; at others they stay below it."""
    problem = draw(covariance_type, N=70, D=3, K=4)
    resp, log_likelihood = mixture.responsibilities(problem.X, *problem.theta, covariance_type)
    entropy = mixture.entropy(resp).sum()
    q = mixture.q_function(problem.X, problem.theta, problem.theta, covariance_type)
    assert math.isclose(q + entropy, log_likelihood.sum(), rel_tol=1e-11)
    for seed in range(1, 6):
        other = draw(covariance_type, N=70, D=3, K=4, seed=seed).theta
        bound = mixture.q_function(problem.X, other, problem.theta, covariance_type) + entropy
        assert bound < mixture.responsibilities(problem.X, *other, covariance_type)[1].sum()


@every_type
def test_the_likelihood_never_falls(column, covariance_type):
    for seed in range(6):
        problem = draw(covariance_type, N=300, D=3, K=4, seed=seed, apart=3, weighted="random" if seed % 2 else "")
        theta, found = draw(covariance_type, N=300, D=3, K=4, seed=seed + 10).theta, []
        for _ in range(40):
            *theta, mean = mixture.em_step(
                problem.X, *theta, covariance_type, sample_weight=problem.sample_weight, reg_covar=0
            )
            found.append(mean)
        assert (np.diff(found) >= -1e-9 * np.abs(found[:-1])).all(), np.diff(found).min()
        assert found[-1] > found[0] + 0.01  # there was something to climb


def test_q_of_a_weight_of_zero(column):
    """-inf for a component that has rows; nothing for one that has none."""
    problem = draw("diag", N=20, D=2, K=3)
    (_, *rest), without = problem.theta, np.array([0.0, 0.5, 0.5])
    assert mixture.q_function(problem.X, (without, *rest), problem.theta, "diag") == -np.inf
    assert np.isfinite(mixture.q_function(problem.X, (without, *rest), (without, *rest), "diag"))


# -------------------------------------------------------------------------------------------------------- statistics


def as_dict(statistics):
    arrays = {name: getattr(statistics, name) for name in ("n", "first", "second")}
    return {**arrays, "log_likelihood": np.array(statistics.log_likelihood), "weight": np.array(statistics.weight)}


def statistics_close(got, want, tolerance=1e-11):
    got, want = as_dict(got), as_dict(want)
    for name in want:
        close(got[name], want[name], tolerance=tolerance, dtype="float64", name=name)


@every_type
@both_dtypes
def test_statistics(column, covariance_type, dtype):
    problem = draw(covariance_type, N=TILE + 30, D=3, K=4, dtype=dtype, weighted="random")
    found = mixture.statistics(problem.X, *problem.theta, covariance_type, sample_weight=problem.sample_weight)
    _, resp, log_likelihood = by_hand(problem)
    w = problem.sample_weight.astype("float64")
    r, d = w[:, None] * resp, problem.X[:, None].astype("float64") - problem.means.astype("float64")
    full = np.einsum("nk,nki,nkj->kij", r, d, d)
    second = {
        "full": full,
        "tied": full.sum(axis=0),
        "diag": np.einsum("kii->ki", full),
        "spherical": np.einsum("kii->k", full),
    }[covariance_type]
    want = (r.sum(axis=0), np.einsum("nk,nki->ki", r, d), second, w @ log_likelihood, w.sum())
    for (name, got), expected in zip(as_dict(found).items(), want, strict=True):
        close(got, expected, tolerance=TOLERANCE[dtype], dtype="float64", name=name)
    assert (found.covariance_type, found.dtype, found.n.shape) == (covariance_type, dtype, (4,))
    assert found.second.shape == problem.covariances.shape and found.means.dtype == "float64"


@every_type
@both_dtypes
def test_statistics_of_parts_add_up(column, covariance_type, dtype):
    problem = draw(covariance_type, N=TILE + 130, D=5, K=3, dtype=dtype, weighted="random")

    def of(rows):
        part = problem.rows(rows)
        return mixture.statistics(part.X, *part.theta, covariance_type, sample_weight=part.sample_weight)

    whole = of(slice(None))
    for cut in (0, 1, 777, TILE, TILE + 130):
        before = of(slice(cut))
        kept = {name: array.copy() for name, array in as_dict(before).items()}
        statistics_close(before + of(slice(cut, None)), whole, TOLERANCE[dtype])
        bitwise(as_dict(before), kept)  # neither is changed
    statistics_close(0.25 * whole + whole * 0.75, whole)


@every_type
def test_statistics_about_other_points(column, covariance_type):
    problem = draw(covariance_type, N=90, D=4, K=3, weighted="random")
    found = mixture.statistics(problem.X, *problem.theta, covariance_type, sample_weight=problem.sample_weight)
    assert found.about(found.means) is found
    points = np.random.default_rng(3).normal(size=(3, 4))
    moved = found.about(points)
    r = problem.sample_weight[:, None] * by_hand(problem)[1]
    close(moved.first, np.einsum("nk,nki->ki", r, problem.X[:, None] - points), tolerance=1e-11, dtype="float64")
    assert np.array_equal(moved.means, points) and moved.n is found.n
    statistics_close(moved.about(found.means), found)
    all_close(mixture.update(moved), mixture.update(found), "float64")
    d = problem.X[:, None] - points
    full = np.einsum("nk,nki,nkj->kij", r, d, d)
    second = {
        "full": full, "tied": full.sum(axis=0),
        "diag": np.einsum("kii->ki", full), "spherical": np.einsum("kii->k", full),
    }[covariance_type]  # fmt: skip
    close(moved.second, second, tolerance=1e-11, dtype="float64")


@every_type
def test_statistics_about_different_points_add_up(column, covariance_type):
    """As those of chunks under parameters that moved on in between: about the first one's points."""
    one, two = draw(covariance_type, seed=1), draw(covariance_type, seed=2)
    a, b = (mixture.statistics(p.X, *p.theta, covariance_type) for p in (one, two))
    total = a + b
    assert np.array_equal(total.means, a.means)
    statistics_close(total, a + b.about(a.means))
    statistics_close((b + a).about(a.means), total)
    all_close(mixture.update(b + a), mixture.update(total), "float64")


def test_statistics_that_do_not_add(column):
    def of(covariance_type="diag", **sizes):
        problem = draw(covariance_type, **sizes)
        return mixture.statistics(problem.X, *problem.theta, covariance_type)

    for other, message in (
        (of("spherical"), "^other: expected statistics of covariance_type diag, got spherical"),
        (of(dtype="float32"), "^other: expected statistics of dtype float64, got float32"),
        (of(K=2), r"^other: expected \(K, D\) = \(3, 5\), got \(2, 5\)"),
        (of(D=4), r"^other: expected \(K, D\) = \(3, 5\), got \(3, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            of() + other
    for other in (1, None, np.ones(3)):
        with pytest.raises(TypeError):
            of() + other


# -------------------------------------------------------------------------------------------- rows that do not count


@every_type
@both_dtypes
def test_no_rows(column, covariance_type, dtype):
    problem = draw(covariance_type, N=0, dtype=dtype)
    resp, log_likelihood = mixture.responsibilities(problem.X, *problem.theta, covariance_type)
    assert (resp.shape, log_likelihood.shape) == ((0, 3), (0,)) and resp.dtype == log_likelihood.dtype == dtype
    assert mixture.log_density(problem.X, *problem.theta[1:], covariance_type).shape == (0, 3)
    assert mixture.entropy(resp).shape == (0,)
    found = mixture.statistics(problem.X, *problem.theta, covariance_type)
    assert not any(array.any() for array in as_dict(found).values())
    assert mixture.q_function(problem.X, problem.theta, problem.theta, covariance_type) == 0
    with pytest.raises(ValueError, match=r"^X: expected rows of a weight above 0, got none"):
        mixture.em_step(problem.X, *problem.theta, covariance_type)


@every_type
def test_rows_of_weight_zero(column, covariance_type):
    """They are as good as not there."""
    problem = draw(covariance_type, N=90, D=3, K=3, weighted="zeros")
    kept = problem.sample_weight > 0
    assert not kept.all()
    part = problem.rows(kept)
    got, want = (
        mixture.em_step(p.X, *p.theta, covariance_type, sample_weight=p.sample_weight) for p in (problem, part)
    )
    all_close(got[:3], want[:3], "float64")
    assert math.isclose(got[3], want[3], rel_tol=1e-12)
    with pytest.raises(ValueError, match=r"^sample_weight: expected rows of a weight above 0, got none"):
        mixture.em_step(problem.X, *problem.theta, covariance_type, sample_weight=np.zeros(90))


@every_type
@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@np.errstate(invalid="ignore")  # the reference is NumPy, which warns where infinities meet
def test_rows_that_are_not_finite(column, covariance_type, dtype, poison):
    """NaN in the responsibilities of their own rows; statistics refuse them."""
    problem = draw(covariance_type, N=20, dtype=dtype)
    X = problem.X.copy()
    X[7, 2] = poison
    resp, log_likelihood = mixture.responsibilities(X, *problem.theta, covariance_type)
    clean, _ = mixture.responsibilities(problem.X, *problem.theta, covariance_type)
    assert np.isnan(resp[7]).all() and np.isnan(log_likelihood[7]) and np.isnan(log_likelihood).sum() == 1
    assert np.array_equal(np.delete(resp, 7, axis=0), np.delete(clean, 7, axis=0))
    for function in (mixture.statistics, mixture.em_step):
        with pytest.raises(ValueError, match=r"^X: expected finite numbers, got NaN, an infinity"):
            function(X, *problem.theta, covariance_type)


@np.errstate(over="ignore", invalid="ignore")
def test_rows_beyond_the_range_of_the_densities(column):
    for dtype, huge in (("float32", 1e30), ("float64", 1e200)):
        problem = draw("diag", dtype=dtype)
        with pytest.raises(ValueError, match=r"^X: .*one beyond the range of the densities"):
            mixture.em_step(problem.X * np.array(huge, dtype), *problem.theta, "diag")


# ----------------------------------------------------------------------------------------------- float32, degenerate


@every_type
def test_float32_far_from_the_origin(column, covariance_type):
    """Against float64 arithmetic on the same numbers."""
    for D in (1, 5):
        problem = draw(covariance_type, N=2 * TILE + 9, D=D, K=3, dtype="float32", centre=1e4, apart=4)
        exact = problem.as_float64()
        got = mixture.em_step(problem.X, *problem.theta, covariance_type)
        weights = exact.weights / exact.weights.sum()
        with on(("reference", None)):
            want = mixture.em_step(exact.X, weights, *exact.theta[1:], covariance_type)
        for a, b, relative in zip(got[:3], want[:3], (1e-4, 1e-6, 1e-3), strict=True):
            assert a.dtype == "float32"
            assert np.abs(a - b).max() <= relative * np.abs(b).max()
        assert math.isclose(got[3], want[3], rel_tol=1e-5)


@every_type
@both_dtypes
def test_no_negative_variance(column, covariance_type, dtype):
    """Rows far from the origin, without any spread within their component."""
    X = np.array([[9999.0], [9999.0], [0.0], [0.0]], dtype)
    covariances = {
        "full": np.ones((2, 1, 1)),
        "tied": np.ones((1, 1)),
        "diag": np.ones((2, 1)),
        "spherical": np.ones(2),
    }
    theta = np.full(2, 0.5, dtype), np.array([[9000], [1]], dtype), covariances[covariance_type].astype(dtype) * 100
    for _ in range(4):
        *theta, mean = mixture.em_step(X, *theta, covariance_type)
        assert (theta[2] >= 1e-6 * (1 - 1e-3)).all() and np.isfinite(mean)
    close(theta[1], [[9999], [0]], tolerance=1e-6, dtype=dtype)


@every_type
@both_dtypes
def test_the_m_step_is_scikit_learns(column, covariance_type, dtype):
    """Also where a component has lost all its rows, or K = 1."""
    peer = pytest.importorskip("sklearn.mixture._gaussian_mixture")
    for sizes in ({"K": 3}, {"K": 1}, {"K": 3, "empty": True}, {"N": 9, "D": 1, "K": 2}):
        problem = draw(covariance_type, **{"N": 50, "D": 4, **sizes}, apart=3, dtype=dtype)
        resp, _ = mixture.responsibilities(problem.X, *problem.theta, covariance_type)
        n, means, covariances = peer._estimate_gaussian_parameters(problem.X, resp, 1e-6, covariance_type)
        got = mixture.em_step(problem.X, *problem.theta, covariance_type)[:3]
        all_close(got, (n / n.sum(), means, covariances), dtype, tolerance={"float32": 2e-5, "float64": 1e-10}[dtype])


# ------------------------------------------------------------------------------------------------------- factors


def test_factors():
    """Upper triangular, U Uᵀ Σ = 1; D on both sides of the blocks that they are made of."""
    rng = np.random.default_rng(4)
    for D in (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100):
        a = rng.normal(size=(3, D, D))
        covariances = a @ a.swapaxes(1, 2) / D + 0.1 * np.eye(D)
        for covariance_type, given in (("full", covariances), ("tied", covariances[0])):
            factors = factors_of(given, covariance_type)
            assert np.array_equal(factors, np.triu(factors)) and factors.shape == given.shape
            identity = factors @ np.swapaxes(factors, -1, -2) @ given
            close(identity, np.broadcast_to(np.eye(D), given.shape), tolerance=1e-11, dtype="float64")
    assert np.array_equal(factors_of([[4.0, 0.25]], "diag"), [[0.5, 2.0]])
    assert np.array_equal(factors_of([4.0, 0.25], "spherical"), [0.5, 2.0])


# ------------------------------------------------------------------------------------------------ entropy, sample


def test_entropy():
    r = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.25, 0.25]])
    close(mixture.entropy(r), [0, math.log(3), 1.5 * math.log(2)], tolerance=1e-15, dtype="float64")
    assert mixture.entropy(r.astype("float32")).dtype == "float32"
    assert not np.signbit(mixture.entropy(r[:1]))
    assert np.isnan(mixture.entropy([[np.nan, 1.0], [1.0, 0.0]])).tolist() == [True, False]
    for wrong, error, message in (
        (r[0], ValueError, r"^responsibilities: expected shape \(N, K\), got \(3,\), which has 1 axes"),
        (-r, ValueError, "^responsibilities: expected numbers of at least 0"),
        (r.astype(complex), TypeError, "^responsibilities: expected float32 or float64, got complex128"),
    ):
        with pytest.raises(error, match=message):
            mixture.entropy(wrong)


@every_type
@both_dtypes
def test_sample(covariance_type, dtype):
    """Moments of each component, to five standard errors; shares likewise."""
    problem = draw(covariance_type, D=3, K=3, dtype=dtype, apart=3)
    N = 60_000
    X, labels = mixture.sample(N, *problem.theta, covariance_type, seed=7)
    assert X.shape == (N, 3) and X.dtype == dtype and labels.shape == (N,) and labels.dtype.kind == "i"
    for k, (share, mean, matrix) in enumerate(zip(*problem.theta[:2], matrices(problem), strict=True)):
        rows = X[labels == k].astype("float64")
        n = len(rows)
        assert abs(n / N - share) < 5 * (share * (1 - share) / N) ** 0.5
        assert (np.abs(rows.mean(axis=0) - mean) < 5 * (np.diag(matrix) / n) ** 0.5).all()
        error = np.sqrt((np.outer(np.diag(matrix), np.diag(matrix)) + matrix**2) / n)
        assert (np.abs(np.cov(rows.T) - matrix) < 5 * error).all()


def test_sample_seeds_and_sizes():
    problem = draw("full")
    (a, la), (b, lb) = (mixture.sample(9, *problem.theta, seed=s) for s in (3, np.random.default_rng(3)))
    assert np.array_equal(a, b) and np.array_equal(la, lb)
    assert not np.array_equal(mixture.sample(9, *problem.theta)[0], mixture.sample(9, *problem.theta)[0])
    X, labels = mixture.sample(0, *problem.theta)
    assert X.shape == (0, 5) and labels.shape == (0,)
    empty = draw("full", empty=True)
    assert 0 not in mixture.sample(500, *empty.theta, seed=0)[1]
    for wrong, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)):
        with pytest.raises(error, match=r"^n_samples: expected an integer of at least 0"):
            mixture.sample(wrong, *problem.theta)


# ---------------------------------------------------------------------------------------- marginals and conditionals


def test_a_marginal_is_an_integral(column):
    """Over the other coordinate, by the trapezoidal rule."""
    problem = draw("full", D=2, K=3, apart=3)
    grid = np.linspace(-30, 30, 6001)
    points = np.array([-1.0, 0.3, 2.0])
    for kept in (0, 1):
        X = np.empty((len(points), len(grid), 2))
        X[..., kept], X[..., 1 - kept] = points[:, None], grid
        log_likelihood = mixture.responsibilities(X.reshape(-1, 2), *problem.theta)[1].reshape(len(points), -1)
        want = np.exp(log_likelihood).sum(axis=1) * (grid[1] - grid[0])
        part = mixture.marginal(*problem.theta, [kept])
        close(np.exp(mixture.responsibilities(points[:, None], *part)[1]), want, tolerance=1e-10, dtype="float64")


@every_type
@both_dtypes
def test_marginal(covariance_type, dtype):
    problem = draw(covariance_type, D=5, K=3, dtype=dtype)
    for features in ([2], [3, 0], [0, 1, 2, 3, 4], [-1, 1], np.array([4, 2], "uint8")):
        weights, means, covariances = mixture.marginal(*problem.theta, features, covariance_type)
        assert np.array_equal(weights, problem.weights) and np.array_equal(means, problem.means[:, features])
        part = problem.having(means=means, covariances=covariances)
        whole = np.array(features, int)
        assert np.array_equal(matrices(part), matrices(problem)[:, whole[:, None], whole])
        assert means.dtype == covariances.dtype == dtype


@every_type
@pytest.mark.parametrize("given", [[1], [3, 0], [0, 2, 4], [-1, 1]])
def test_conditional_by_precisions(column, covariance_type, given):
    """Another way to it: Σ_a|b = Λ_aa⁻¹, μ_a|b = μ_a - Λ_aa⁻¹ Λ_ab (x_b - μ_b)."""
    problem = draw(covariance_type, D=5, K=3, apart=2)
    b = np.array(given) % 5
    a = np.setdiff1d(np.arange(5), b)
    values = np.random.default_rng(5).normal(size=(7, len(b)))
    precisions, mu = np.linalg.inv(matrices(problem)), problem.means
    covariance = np.linalg.inv(precisions[:, a[:, None], a])
    shift = np.einsum("kij,kjl,mkl->mki", covariance, precisions[:, a[:, None], b], values[:, None] - mu[:, b])
    densities = log_densities(values, mu[:, b], matrices(problem)[:, b[:, None], b])
    shares = np.exp(densities) * problem.weights
    shares /= shares.sum(axis=1, keepdims=True)

    weights, means, covariances = mixture.conditional(*problem.theta, given, values, covariance_type)
    close(weights, shares, tolerance=1e-11, dtype="float64")
    close(means, mu[:, a] - shift, tolerance=1e-11, dtype="float64")
    part = problem.having(means=means[0], covariances=covariances)
    close(matrices(part), covariance, tolerance=1e-11, dtype="float64")
    for m in range(7):
        one = mixture.conditional(*problem.theta, given, values[m], covariance_type)
        assert [array.shape for array in one] == [(3,), (3, len(a)), covariances.shape]
        all_close(one, (weights[m], means[m], covariances), "float64", tolerance=1e-14)


@every_type
@both_dtypes
def test_joint_is_marginal_times_conditional(column, covariance_type, dtype):
    """p(a, b) = p(b) p(a | b), row by row."""
    problem = draw(covariance_type, N=11, D=4, K=3, dtype=dtype, apart=2)
    given, rest = [2, 0], [1, 3]
    _, joint = mixture.responsibilities(problem.X, *problem.theta, covariance_type)
    part = mixture.marginal(*problem.theta, given, covariance_type)
    _, of_given = mixture.responsibilities(problem.X[:, given], *part, covariance_type)
    weights, means, covariances = mixture.conditional(*problem.theta, given, problem.X[:, given], covariance_type)
    of_rest = [
        mixture.responsibilities(problem.X[n : n + 1, rest], weights[n], means[n], covariances, covariance_type)[1][0]
        for n in range(11)
    ]
    close(of_given + np.array(of_rest), joint, tolerance=TOLERANCE[dtype], dtype=dtype)


# -------------------------------------------------------------------------------------------------------- any layout


def every_answer(X, sample_weight, weights, means, covariances, covariance_type):
    """Of all functions that take these, by name."""
    theta = weights, means, covariances
    resp, log_likelihood = mixture.responsibilities(X, *theta, covariance_type)
    *stepped, mean = mixture.em_step(X, *theta, covariance_type, sample_weight=sample_weight)
    q = mixture.q_function(X, theta, theta, covariance_type, sample_weight=sample_weight)
    found = mixture.statistics(X, *theta, covariance_type, sample_weight=sample_weight)
    conditional = mixture.conditional(*theta, [1], [0.5], covariance_type)
    marginal = mixture.marginal(*theta, [1, 0], covariance_type)
    sampled, _ = mixture.sample(5, *theta, covariance_type, seed=1)
    return {
        "resp": resp,
        "log_likelihood": log_likelihood,
        "log_density": mixture.log_density(X, means, covariances, covariance_type),
        "mean": np.array(mean),
        "q": np.array(q),
        "sampled": sampled,
        **as_dict(found),
        **{f"step {k}": array for k, array in enumerate(stepped)},
        **{f"conditional {k}": array for k, array in enumerate(conditional)},
        **{f"marginal {k}": array for k, array in enumerate(marginal)},
    }


def arrays_of(problem):
    return problem.X, problem.sample_weight, *problem.theta


@every_type
def test_any_layout(column, covariance_type):
    """Strided, Fortran-ordered, byte-swapped, read-only arrays and lists are the same numbers."""

    def strided(array):
        return np.repeat(array, 2, axis=-1)[..., ::2]

    def backwards(array):
        return array[::-1].copy()[::-1]

    def read_only(array):
        array = array.copy()
        array.flags.writeable = False
        return array

    problem = draw(covariance_type, weighted="random")
    arrays = arrays_of(problem)
    before = [array.copy() for array in arrays]
    want = every_answer(*arrays, covariance_type)
    layouts = strided, backwards, np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a.astype("<f8"), read_only
    for layout in (*layouts, np.ndarray.tolist):
        bitwise(every_answer(*map(layout, arrays), covariance_type), want, layout.__name__)
    assert all(map(np.array_equal, arrays, before))


@every_type
def test_integers_are_cast(column, covariance_type):
    """To the dtype of the others; to float64 where there is none."""
    for dtype in ("float32", "float64"):
        problem = draw(covariance_type, dtype=dtype, weighted="random")
        X = np.rint(problem.X)
        want = every_answer(X, np.ones(23, dtype), *problem.theta, covariance_type)
        for same in (X.astype("int8"), X.astype(int).tolist()):
            bitwise(every_answer(same, [1] * 23, *problem.theta, covariance_type), want)
    resp, _ = mixture.responsibilities([[0], [3]], [1], [[1]], [[[2]]])
    assert resp.dtype == "float64" and (resp == 1).all()


@pytest.mark.parametrize("wrong", ["float16", "complex64", "complex128", "longdouble", "U3", "O"])
def test_other_dtypes_are_refused(wrong):
    if np.dtype(wrong) == "float64":
        pytest.skip("longdouble is float64 on this machine")
    problem = draw("diag", weighted="random")
    names = ("X", "sample_weight", "weights", "means", "covariances")
    for k, name in enumerate(names):
        arrays = list(arrays_of(problem))
        arrays[k] = arrays[k].astype(wrong)
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            mixture.statistics(arrays[0], *arrays[2:], "diag", sample_weight=arrays[1])


# ------------------------------------------------------------------------------------------------------------ errors


def refused(error, message, function, *arguments, **named):
    with pytest.raises(error, match=message):
        function(*arguments, **named)


def calls(problem):
    """Every function that takes these arguments, as a function of them by name."""
    covariance_type = problem.covariance_type
    arrays = dict(zip(("X", "sample_weight", "weights", "means", "covariances"), arrays_of(problem), strict=True))

    def theta(a):
        return a["weights"], a["means"], a["covariances"]

    def call(function, of_rows=True, weighted=False, after=()):
        def run(**changes):
            a = {**arrays, **changes}
            rows = (a["X"],) if of_rows else ()
            named = {"sample_weight": a["sample_weight"]} if weighted else {}
            return function(*rows, *theta(a), *after, a.get("covariance_type", covariance_type), **named)

        return run

    def q(**changes):
        a = {**arrays, **changes}
        return mixture.q_function(
            a["X"], theta(a), theta(arrays), a.get("covariance_type", covariance_type), sample_weight=a["sample_weight"]
        )

    def log_density(**changes):
        a = {**arrays, **changes}
        return mixture.log_density(a["X"], a["means"], a["covariances"], a.get("covariance_type", covariance_type))

    return {
        "responsibilities": call(mixture.responsibilities),
        "log_density": log_density,
        "statistics": call(mixture.statistics, weighted=True),
        "em_step": call(mixture.em_step, weighted=True),
        "q_function": q,
        "sample": call(lambda *a: mixture.sample(3, *a), of_rows=False),
        "marginal": call(mixture.marginal, of_rows=False, after=([0],)),
        "conditional": call(mixture.conditional, of_rows=False, after=([0], [0.5])),
    }


ROWS = ("responsibilities", "log_density", "statistics", "em_step", "q_function")
WEIGHTED = ("statistics", "em_step", "q_function")
PARTS = ("sample", "marginal", "conditional")
NO_WEIGHTS = "log_density"


@every_type
@both_dtypes
def test_wrong_arguments(covariance_type, dtype):
    """The name of the argument, the letters of its shape, and what set the size that disagrees."""
    problem = draw(covariance_type, N=23, D=5, K=3, dtype=dtype, weighted="random")
    X, sample_weight, weights, means, covariances = arrays_of(problem)
    shape = {"full": "K, D, D", "tied": "D, D", "diag": "K, D", "spherical": "K,"}[covariance_type]
    other = {"float32": "float64", "float64": "float32"}[dtype]
    negative = sample_weight.copy()
    negative[4] = -1
    endless = sample_weight.copy()
    endless[5] = np.inf
    nan_mean = means.copy()
    nan_mean[1, 1] = np.nan

    everywhere = (*ROWS, *PARTS)
    with_weights = tuple(name for name in everywhere if name != NO_WEIGHTS)
    cases = [
        (ROWS, TypeError, "^X: expected an array, got None", {"X": None}),
        (everywhere, TypeError, "^means: expected an array, got None", {"means": None}),
        (everywhere, TypeError, "^covariances: expected an array, got None", {"covariances": None}),
        (ROWS, TypeError, f"expected {other} as X, got {dtype}", {"X": X.astype(other)}),
        (WEIGHTED, TypeError, f"^sample_weight: expected {dtype} as X, got {other}",
         {"sample_weight": sample_weight.astype(other)}),
        (ROWS, TypeError, "^X: expected an array of float32 or float64, got a masked array",
         {"X": np.ma.masked_array(X)}),
        (ROWS, ValueError, r"^X: expected shape \(N, D\), got \(5,\), which has 1 axes", {"X": X[0]}),
        (ROWS, ValueError, r"^means: expected shape \(K, D\) with D = 4 \(from X\), got \(3, 5\)", {"X": X[:, :4]}),
        (everywhere, ValueError, r"^means: expected shape \(K, D\), got \(5,\), which has 1 axes", {"means": means[0]}),
        (everywhere, ValueError, rf"^covariances: expected shape \({shape}\), got \(1, .*axes",
         {"covariances": covariances[None]}),
        (everywhere, ValueError, "^means: expected K of at least 1, got 0",
         {"means": means[:0], "weights": weights[:0],
          "covariances": covariances if covariance_type == "tied" else covariances[:0]}),
        (everywhere, ValueError, "^means: expected finite numbers", {"means": nan_mean}),
        (with_weights, ValueError, r"^weights: expected shape \(K,\) with K = 3 \(from means\), got \(2,\)",
         {"weights": weights[:2]}),
        (with_weights, ValueError, r"^weights: expected numbers .* that sum to 1, got a sum of 1\.[78]",
         {"weights": weights * np.array(1.8, dtype)}),
        (with_weights, ValueError, "^weights: expected numbers of at least 0 that sum to 1",
         {"weights": np.array([-0.5, 0.5, 1.0], dtype)}),
        (with_weights, ValueError, "^weights: expected numbers of at least 0 that sum to 1",
         {"weights": np.array([np.nan, 0.5, 0.5], dtype)}),
        (WEIGHTED, ValueError, r"^sample_weight: expected shape \(N,\) with N = 23 \(from X\), got \(22,\)",
         {"sample_weight": sample_weight[1:]}),
        (WEIGHTED, ValueError, r"^sample_weight: expected finite numbers of at least 0, got -1\.0 at index 4",
         {"sample_weight": negative}),
        (WEIGHTED, ValueError, "^sample_weight: expected finite numbers of at least 0, got inf at index 5",
         {"sample_weight": endless}),
        (everywhere, ValueError, "^covariance_type: expected one of 'full', 'tied', 'diag', 'spherical', got 'round'",
         {"covariance_type": "round"}),
        (everywhere, ValueError, "^covariances: expected ", {"covariances": -covariances}),
        (everywhere, ValueError, "^covariances: expected ", {"covariances": np.zeros_like(covariances)}),
        (everywhere, ValueError, "^covariances: expected ", {"covariances": np.full_like(covariances, np.nan)}),
        (everywhere, ValueError, "^covariances: expected ", {"covariances": np.full_like(covariances, np.inf)}),
    ]  # fmt: skip
    for functions, error, message, changes in cases:
        for name in functions:
            if name == "marginal" and message == "^covariances: expected ":
                continue  # it takes any that are symmetric
            refused(error, message, calls(problem)[name], **changes)


def test_covariances_that_are_none():
    X, weights, means = np.zeros((2, 2)), [1.0], np.zeros((1, 2))
    refused(
        ValueError, "^covariances: expected symmetric matrices",
        mixture.responsibilities, X, weights, means, [[[1.0, 0.5], [0.0, 1.0]]],
    )  # fmt: skip
    refused(
        ValueError, "^covariances: expected positive definite matrices, got one that is not",
        mixture.responsibilities, X, weights, means, [[[1.0, 2.0], [2.0, 1.0]]],
    )  # fmt: skip
    for covariance_type, covariances in (("diag", [[1.0, -2.0]]), ("spherical", [-2.0])):
        refused(
            ValueError, r"^covariances: expected positive variances, got -2\.0",
            mixture.responsibilities, X, weights, means, covariances, covariance_type,
        )  # fmt: skip


def test_wrong_reg_covar():
    problem = draw("full")
    found = mixture.statistics(problem.X, *problem.theta)
    for wrong, error in ((-1e-6, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("0", TypeError),
                         (True, TypeError), (None, TypeError)):  # fmt: skip
        refused(error, "^reg_covar: expected a number of at least 0, got", mixture.update, found, reg_covar=wrong)
        refused(
            error, "^reg_covar: expected a number of at least 0, got",
            mixture.em_step, problem.X, *problem.theta, reg_covar=wrong,
        )  # fmt: skip
    refused(TypeError, "^statistics: expected Statistics, got tuple", mixture.update, problem.theta)


def test_wrong_parameters_of_q():
    problem, other = draw("full"), draw("full", K=2)
    for new, old, name in ((problem.theta[:2], problem.theta, "new"), (problem.theta, None, "old"), (3, 4, "new")):
        refused(
            TypeError,
            rf"^{name}: expected \(weights, means, covariances\), got",
            mixture.q_function,
            problem.X,
            new,
            old,
        )
    refused(
        ValueError, r"^old: expected \(K, D\) = \(3, 5\) \(from new\), got \(2, 5\)",
        mixture.q_function, problem.X, problem.theta, other.theta,
    )  # fmt: skip


def test_wrong_features():
    problem = draw("full", D=3, K=2)
    for function, after in ((mixture.marginal, ()), (mixture.conditional, ([0.0],))):
        for features, error, message in (
            ([], ValueError, r"expected at least one feature, in one axis, got shape \(0,\)"),
            ([[0]], ValueError, r"expected at least one feature, in one axis, got shape \(1, 1\)"),
            (1, ValueError, r"expected at least one feature, in one axis, got shape \(\)"),
            ([0, 3], ValueError, "expected features below D = 3, got 3"),
            ([-4], ValueError, "expected features below D = 3, got -4"),
            ([0, 0], ValueError, r"expected each feature once, got \[0, 0\]"),
            ([0, -3], ValueError, r"expected each feature once, got \[0, -3\]"),
            ([0.5], TypeError, "expected integers, got float64"),
            ([True], TypeError, "expected integers, got bool"),
            (None, TypeError, "expected integers, got object"),
        ):
            refused(error, f"^features: {message}", function, *problem.theta, features, *after)


def test_wrong_values():
    problem = draw("full", D=3, K=2)
    for features, values, error, message in (
        ([0, 1, 2], [0.0] * 3, ValueError, "^features: expected fewer than D = 3, got 3"),
        ([0], None, TypeError, "^values: expected an array, got None"),
        ([0], [1.0, 2.0], ValueError, r"^values: expected shape .* with G = 1 \(from features\), got \(2,\)"),
        ([0, 1], 1.0, ValueError, r"^values: expected shape .*, got \(\)"),
        ([0, 1], np.zeros((1, 1, 2)), ValueError, r"^values: expected shape .*, got \(1, 1, 2\)"),
        ([0], [np.nan], ValueError, "^values: expected finite numbers"),
        ([0], [np.inf], ValueError, "^values: expected finite numbers"),
        ([0], np.zeros(1, "float32"), TypeError, "^values: expected float64 as means, got float32"),
    ):  # fmt: skip
        refused(error, message, mixture.conditional, *problem.theta, features, values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_add_up_bit_for_bit(dtype):
    """Over rows given in several calls, as all statistics do."""
    X, weight = np.random.default_rng(0).uniform(0, 1, (2, 9000)).astype(dtype)
    one = Gaussians(np.ones(1), np.zeros((1, 1)), np.ones(1), "spherical", np.dtype(dtype))
    whole = one.add(one.statistics(), X[:, None], weight)
    parts = one.statistics()
    for rows in (slice(0, TILE), slice(TILE, 3 * TILE), slice(3 * TILE, None)):
        parts = one.add(parts, X[rows, None], weight[rows])
    assert parts.weight == whole.weight and parts.log_likelihood == whole.log_likelihood


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_variances_whose_inverse_is_out_of_range(column, covariance_type):
    """1/σ² of 1e38 is denormal in float32; 1/σ is not."""
    X = np.array([[1e19], [3e18]], "float32")
    variances = np.full((1, 1) if covariance_type == "diag" else 1, 1e38, "float32")
    got = mixture.log_density(X, np.zeros((1, 1), "float32"), variances, covariance_type)
    want = -0.5 * (X.astype("float64") / 1e19) ** 2 - 0.5 * np.log(2 * np.pi * 1e38)
    close(got, want, tolerance=2e-6, dtype="float32")


def test_results_are_not_the_arguments():
    weights, means, covariances = np.ones(1), np.zeros((1, 2)), np.ones(1)
    for got in mixture.marginal(weights, means, covariances, [0, 1], "spherical"):
        assert not any(np.shares_memory(got, given) for given in (weights, means, covariances))


def test_q_function_names_the_old_parameters():
    theta = [1.0], [[0.0]], [1.0]
    for old, error in ((([0.5], *theta[1:]), ValueError), ((theta[0], theta[1], None), TypeError)):
        with pytest.raises(error, match=r"^old: (weights|covariances): expected "):
            mixture.q_function([[0.0]], theta, old, "spherical")


def test_statistics_of_no_rows_have_no_update():
    none = mixture.statistics(np.zeros((0, 1)), [1.0], [[0.0]], [1.0], "spherical")
    with pytest.raises(ValueError, match=r"^statistics: expected those of rows of a weight above 0"):
        mixture.update(none)


@every_type
def test_rows_too_far_for_any_density(column, covariance_type):
    """Finite rows whose every density underflows: -inf; an infinite one: NaN."""
    problem = draw(covariance_type, N=4)
    X = problem.X.copy()
    X[1], X[2, 0] = 1e200, np.inf
    _, likelihood = mixture.responsibilities(X, *problem.theta, covariance_type)
    assert np.isfinite(likelihood[[0, 3]]).all() and likelihood[1] == -np.inf and np.isnan(likelihood[2])


@pytest.mark.parametrize("far", [300.0, 1e3, 1e4])
def test_tied_covariance_of_clusters_far_apart_in_float32(column, far):
    """Its covariance is a difference of sums that grow with the square of the distance."""
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(at, 1, (3000, 1)) for at in (0, far, far + 3)]).astype("float32")
    theta = np.full(3, 1 / 3, "float32"), np.array([[0], [far], [far + 3]], "float32"), np.ones((1, 1), "float32")
    got = mixture.em_step(X, *theta, "tied")[2]
    exact = [a.astype("float64") for a in theta]
    close(got, mixture.em_step(X.astype("float64"), *exact, "tied")[2], tolerance=1e-3, dtype="float32")


@pytest.mark.parametrize("variance", [1.0, 1e5, 1e8])
def test_spherical_statistics_do_not_depend_on_the_variance(column, variance):
    X = np.random.default_rng(0).normal(size=(2000, 2)).astype("float32")
    arrays = np.ones(1, "float32"), np.zeros((1, 2), "float32"), np.array([variance], "float32")
    got = mixture.statistics(X, *arrays, "spherical").second
    close(got, [np.square(X.astype("float64")).sum()], tolerance=1e-5, dtype="float64")


def test_light_rows_are_not_outweighed():
    """Ten units of float32's precision, which N_k carries, would be a tenth of weights that sum to 1e-5."""
    X = 1e4 + np.random.default_rng(0).normal(size=(2000, 1)).astype("float32")
    theta = np.ones(1, "float32"), np.full((1, 1), 1e4, "float32"), np.ones(1, "float32")
    _, means, variances, _ = mixture.em_step(X, *theta, "spherical", sample_weight=np.full(2000, 5e-9, "float32"))
    _, same, as_well, _ = mixture.em_step(X, *theta, "spherical")
    close(means, same, tolerance=1e-6, dtype="float32")
    close(variances, as_well, tolerance=1e-3, dtype="float32")


def test_misaligned_arrays_are_copied():
    X = np.random.default_rng(0).normal(size=(9, 3)).astype("float32")
    raw = np.zeros(X.nbytes + 1, "uint8")
    shifted = raw[1:].view("float32").reshape(X.shape)
    shifted[...] = X
    assert not shifted.flags.aligned
    arrays = np.ones(1, "float32"), np.zeros((1, 3), "float32"), np.ones(1, "float32")
    got, want = (mixture.log_density(x, *arrays[1:], "spherical") for x in (shifted, X))
    assert np.array_equal(got, want)
