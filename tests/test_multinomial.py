"""Multinomial mixtures: the oracle, the kernels on every cell of the grid, and the functions on arrays."""

import math
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from cells import on
from compare import close

import fastml
from fastml import mixture
from fastml.kernels.table import KERNELS, TILE, Rows
from fastml.mixture.multinomial import Multinomials, coefficients, counts_of

FAMILIES = ("multinomial",)
WIDTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)  # both sides of SIMD widths
TOLERANCE = KERNELS["multinomial_statistics"].tolerance

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
both_layouts = pytest.mark.parametrize("layout", ["dense", "sparse"])


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows under a mixture."""

    X: np.ndarray
    sample_weight: np.ndarray | None
    weights: np.ndarray
    probabilities: np.ndarray

    def __str__(self):
        (N, V), K = self.X.shape, len(self.weights)
        return f"N={N} V={V} K={K} {self.X.dtype}{'' if self.sample_weight is None else ' weighted'}"

    def counts(self, layout):
        return self.X if layout == "dense" else compressed(self.X)

    def run(self, layout="dense"):
        """All that the functions give, by name."""
        X, theta = self.counts(layout), (self.weights, self.probabilities)
        resp, log_likelihood = mixture.multinomial_responsibilities(X, *theta)
        found = mixture.multinomial_statistics(X, *theta, sample_weight=self.sample_weight)
        return {
            "log_density": mixture.multinomial_log_density(X, self.probabilities),
            "resp": resp,
            "log_likelihood": log_likelihood,
            "n": found.n,
            "counts": found.counts,
            "total": np.array(found.log_likelihood),
        }

    def oracle(self):
        """`run` by the oracle, in float64."""
        (N, V), K = self.X.shape, len(self.weights)
        sample_weight = np.ones(N) if self.sample_weight is None else self.sample_weight.astype("float64")
        arrays = (self.X, sample_weight, self.weights, self.probabilities)
        l, r, log_likelihood, n, counts = oracle.multinomial(*(array.astype("float64").tolist() for array in arrays))
        total = math.fsum(w * l for w, l in zip(sample_weight, log_likelihood, strict=True) if w)
        return {
            "log_density": np.reshape(l, (N, K)),
            "resp": np.reshape(r, (N, K)),
            "log_likelihood": np.array(log_likelihood, "float64"),
            "n": np.array(n),
            "counts": np.reshape(counts, (K, V)),
            "total": np.array(total),
        }

    def as_float64(self):
        return Problem(*(None if array is None else array.astype("float64") for array in vars(self).values()))


def compressed(X, **changes):
    """What a sparse matrix has, by hand; counts of each row in the order of the words."""
    row, word = np.nonzero(X)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(X)))])
    return SimpleNamespace(**{"indptr": indptr, "indices": word, "data": X[row, word], "shape": X.shape, **changes})


@cache
def draw(N=23, V=5, K=3, dtype="float64", *, words=12, weighted="", whole=True, impossible=False, empty=False, seed=0):
    """A random problem. `weighted`: "" for none, "random", or "zeros" for random weights and every third 0. Counts need
    not be `whole`. `impossible`: some probabilities are 0. `empty`: the first component's weight is 0.
    """
    rng = np.random.default_rng([seed, N, V, K])
    probabilities = rng.dirichlet(np.full(V, 0.5), K) + 1e-3
    if impossible:
        probabilities[rng.uniform(size=(K, V)) < 0.4] = 0
        probabilities[:, 0] += 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    shares = rng.uniform(0.5, 1, K)
    if empty:
        shares[0] = 0
    theta = rng.dirichlet(np.full(V, 0.5), K)
    X = np.array([rng.multinomial(n, theta[rng.integers(K)]) for n in rng.poisson(words, N)], "float64").reshape(N, V)
    if not whole:
        X *= rng.uniform(0.1, 2, V)
    sample_weight = rng.uniform(0.1, 2, N)
    if weighted == "zeros":
        sample_weight[::3] = 0
    arrays = (X, sample_weight, shares / shares.sum(), probabilities)
    X, sample_weight, *theta = (np.ascontiguousarray(array, dtype) for array in arrays)
    return Problem(X, sample_weight if weighted else None, *theta)


@cache
def answer(problem):
    """By the reference in float64 from the same numbers."""
    with on(("reference", None)):
        return problem.as_float64().run()


def agree(got, want, problem):
    dtype = problem.X.dtype.name
    for name, array in got.items():
        if not want[name].any():  # of one word, likelihoods are 0, and relative to that nothing is small
            assert abs(array).max(initial=0) <= TOLERANCE[dtype], f"{problem}: {name}"
            continue
        own = dtype if name in ("log_density", "resp", "log_likelihood") else "float64"
        close(array, want[name], tolerance=TOLERANCE[dtype], dtype=own, name=f"{problem}: {name}")


# -------------------------------------------------------------------------------------------- the oracle, and the grid


@both_dtypes
@both_layouts
def test_oracle(cell, dtype, layout):
    for k, sizes in enumerate(
        (
            {},
            {"N": 1},
            {"N": 0},
            {"K": 1},
            {"V": 1},
            {"N": 1, "V": 1, "K": 1},
            {"N": 31, "V": 9, "K": 7, "words": 2},
            {"whole": False},
            {"empty": True},
            {"impossible": True, "N": 60},
            {"impossible": True, "empty": True, "words": 3},
        )
    ):
        problem = draw(**sizes, dtype=dtype, weighted=("", "random", "zeros")[k % 3], seed=1)
        agree(problem.run(layout), problem.oracle(), problem)


@both_dtypes
@both_layouts
@pytest.mark.parametrize("letter", ["N", "V", "K"])
def test_sizes(cell, dtype, layout, letter):
    for size in WIDTHS:
        problem = draw(**{"N": 7, "V": 5, "K": 3, letter: size}, dtype=dtype, weighted="zeros")
        agree(problem.run(layout), answer(problem), problem)


@both_dtypes
@both_layouts
def test_tiles(cell, dtype, layout):
    for N in (TILE - 1, TILE, TILE + 1, 2 * TILE + 3):
        problem = draw(N=N, V=7, K=4, dtype=dtype, weighted="random")
        agree(problem.run(layout), answer(problem), problem)


@both_dtypes
@both_layouts
def test_many_words(cell, dtype, layout):
    problem = draw(N=90, V=3001, K=5, dtype=dtype, words=200)
    agree(problem.run(layout), answer(problem), problem)


def kernel(name, *arguments):
    fastml.backend.find(f"multinomial_{name}").function(*arguments)


@both_dtypes
def test_outputs_are_optional_and_statistics_are_added(cell, dtype):
    problem = draw(N=37, V=6, K=3, dtype=dtype)
    model = Multinomials(problem.weights, problem.probabilities, problem.X.dtype)
    arguments = problem.X, model.log_probabilities, model.constants
    resp, likelihood, labels = np.empty((37, 3), dtype), np.empty(37, dtype), np.empty(37, np.intp)
    kernel("responsibilities", *arguments, resp, likelihood, labels)
    assert np.array_equal(labels, resp.argmax(axis=1))
    for k in range(8):
        wanted = [np.empty_like(a) if k >> i & 1 else None for i, a in enumerate((resp, likelihood, labels))]
        kernel("responsibilities", *arguments, *wanted)
        for got, want in zip(wanted, (resp, likelihood, labels), strict=True):
            assert got is None or np.array_equal(got, want)
    start = np.full(3, 5.0), np.full((3, 6), 7.0), np.full(1, 9.0)
    found = [array.copy() for array in start]
    kernel("statistics", problem.X, None, *arguments[1:], *found)
    for got, before, want in zip(found, start, (resp.sum(axis=0), resp.T @ problem.X, likelihood.sum()), strict=True):
        close(got - before, np.reshape(want, got.shape), tolerance=TOLERANCE["float32"], dtype="float64")


@both_dtypes
@both_layouts
def test_nan_stays_in_its_row(cell, dtype, layout):
    """The functions refuse it; a kernel takes it as it comes."""
    problem = draw(N=70, V=6, K=3, dtype=dtype)
    model = Multinomials(problem.weights, problem.probabilities, problem.X.dtype)
    clean, poisoned = problem.X, problem.X.copy()
    poisoned[33, np.flatnonzero(clean[33])[0]] = np.nan
    found = []
    for X in (clean, poisoned):
        counts = X if layout == "dense" else Rows(X[clean > 0], *counted(compressed(clean)).X[1:])
        outputs = np.empty((70, 3), dtype), np.empty(70, dtype)
        kernel("responsibilities", counts, model.log_probabilities, model.constants, *outputs, None)
        found.append(np.column_stack(outputs))
        total = np.zeros(3), np.zeros((3, 6)), np.zeros(1)
        kernel("statistics", counts, None, model.log_probabilities, model.constants, *total)
    assert np.isnan(found[1][33]).all() and np.isnan(total[0]).all() and np.isnan(total[2]).all()
    others = np.arange(70) != 33
    close(found[1][others], found[0][others], tolerance=TOLERANCE[dtype], dtype=dtype)


@both_dtypes
def test_a_word_twice_in_a_row_of_a_kernel(cell, dtype):
    problem = draw(N=2, V=4, K=2, dtype=dtype)
    model = Multinomials(problem.weights, problem.probabilities, problem.X.dtype)
    rows = Rows(np.array([1, 2, 1, 3], dtype), np.array([3, 0, 3, 2], np.intp), np.array([0, 3, 4], np.intp))
    X = np.array([[2, 0, 0, 2], [0, 0, 3, 0]], dtype)
    got, want = ([np.zeros(2), np.zeros((2, 4)), np.zeros(1)] for _ in range(2))
    kernel("statistics", rows, None, model.log_probabilities, model.constants, *got)
    kernel("statistics", X, None, model.log_probabilities, model.constants, *want)
    for a, b in zip(got, want, strict=True):
        close(a, b, tolerance=TOLERANCE[dtype], dtype="float64")


@both_dtypes
@both_layouts
def test_threads_change_no_bit(column, dtype, layout, threads):
    problem = draw(N=4 * TILE + 5, V=11, K=5, dtype=dtype, weighted="random")
    threads(1)
    want = problem.run(layout)
    for n in (2, 3, 5):
        threads(n)
        if column[0] == "reference":  # whose BLAS may have other bits
            agree(problem.run(layout), want, problem)
        else:
            for name, array in problem.run(layout).items():
                assert array.tobytes() == want[name].tobytes(), name


@both_layouts
def test_a_cut_between_tiles_changes_no_bit(column, layout):
    problem = draw(N=3 * TILE + 5, V=11, K=5, weighted="random")
    model = Multinomials(problem.weights, problem.probabilities, problem.X.dtype)
    whole = model.add(model.statistics(), counted(problem.counts(layout)), problem.sample_weight)
    parts = model.statistics()
    for rows in (slice(0, 2 * TILE), slice(2 * TILE, 3 * TILE), slice(3 * TILE, None)):
        part = replace(problem, X=problem.X[rows], sample_weight=problem.sample_weight[rows])
        parts = model.add(parts, counted(part.counts(layout)), part.sample_weight)
    assert whole.counts.tobytes() == parts.counts.tobytes() and whole.n.tobytes() == parts.n.tobytes()
    assert (whole.log_likelihood, whole.weight) == (parts.log_likelihood, parts.weight)


def counted(X):
    return counts_of(X, X if isinstance(X, np.ndarray) else X.data)


DAMAGES = {
    "swaps two components": {"resp": lambda a: a[:, [1, 0, 2]], "counts": lambda a: a[[1, 0, 2]]},
    "forgets a row": {"n": lambda a: a - 0.01, "log_likelihood": lambda a: np.append(a[:-1], 0)},
    "shifts the words": {"counts": lambda a: np.roll(a, 1, axis=1)},
    "forgets the coefficient": {"log_likelihood": lambda a: a - 1e-2, "log_density": lambda a: a - 1e-2},
    "loses a nan": {"log_density": lambda a: np.where(a == a.max(), np.nan, a)},
    "is just beyond the tolerance": {
        name: lambda a: a * (1 + 10 * TOLERANCE["float64"])
        for name in ("resp", "log_likelihood", "log_density", "n", "counts", "total")
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_comparison_rejects_what(damage):
    problem = draw()
    want = problem.oracle()
    for name, change in DAMAGES[damage].items():
        agree({name: want[name]}, want, problem)
        with pytest.raises(AssertionError):
            agree({name: change(want[name])}, want, problem)


# ---------------------------------------------------------------------------------------------------------- what counts


def same(a, b, tolerance=1e-12):
    for name in a:
        close(a[name], b[name], tolerance=tolerance, dtype=a[name].dtype, name=name)


@pytest.mark.parametrize("format", ["csr_matrix", "csr_array", "csc_matrix", "coo_array", "lil_matrix"])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_formats_of_scipy(format, index):
    sparse = pytest.importorskip("scipy.sparse")
    problem = draw(weighted="random")
    X = getattr(sparse, format)(problem.X)
    if hasattr(X, "indptr"):
        X.indptr, X.indices = X.indptr.astype(index), X.indices.astype(index)
    same(replace(problem, X=X).run(), problem.run("dense"))


def test_arrays_of_any_kind():
    problem = draw()
    want = problem.run()
    strided, swapped = np.zeros((46, 10)), problem.X.astype(">f8")
    strided[::2, ::2] = problem.X
    read_only = problem.X.copy()
    read_only.flags.writeable = False
    for X in (strided[::2, ::2], np.asfortranarray(problem.X), swapped, read_only, problem.X.astype("int16")):
        same(replace(problem, X=X).run(), want)
    theta = problem.weights.tolist(), problem.probabilities.tolist()
    resp, _ = mixture.multinomial_responsibilities(problem.X.astype(int).tolist(), *theta)
    close(resp, want["resp"], tolerance=1e-12, dtype="float64")
    assert mixture.multinomial_log_density(problem.X.astype(int), problem.probabilities.astype("f4")).dtype == "float32"


def test_words_twice_and_out_of_order():
    """Those of a row are one count, in the multinomial coefficient, too."""
    X = np.array([[2.0, 0, 2, 1], [0, 0, 0, 0], [0, 3, 0, 0]])
    sparse = SimpleNamespace(
        indptr=np.array([0, 4, 4, 6]),
        indices=np.array([2, 3, 0, 2, 1, 1, 3]),
        data=np.array([1.5, 1, 2, 0.5, 1, 2, 100]),  # the last is beyond the last row
        shape=(3, 4),
    )
    problem = draw(V=4)
    same(replace(problem, X=sparse).run(), replace(problem, X=X).run())
    assert sparse.indices.tolist() == [2, 3, 0, 2, 1, 1, 3] and sparse.data[0] == 1.5


@both_dtypes
@both_layouts
def test_rows_without_words(cell, dtype, layout):
    problem = replace(draw(dtype=dtype), X=np.zeros((4, 5), dtype))
    found = problem.run(layout)
    close(found["resp"], np.tile(problem.weights, (4, 1)), tolerance=TOLERANCE[dtype], dtype=dtype)
    assert abs(found["log_likelihood"]).max() < 1e-6 and not found["log_density"].any() and not found["counts"].any()


def test_words_that_no_row_has():
    problem = draw(V=6)
    X = problem.X.copy()
    X[:, 2] = 0
    for alpha, want in ((0, 0.0), (1, 1 / (X.sum() + 6))):
        _, probabilities, _ = mixture.multinomial_em_step(X, [1.0], problem.probabilities[:1], alpha=alpha)
        assert probabilities[0, 2] == pytest.approx(want, abs=0)


@both_layouts
def test_coefficient(layout):
    X = np.array([[3.0, 0, 2], [0, 0, 0], [7, 1, 1]])
    exact = [math.factorial(5) / 12, 1, math.factorial(9) / math.factorial(7)]
    problem = Problem(X, None, np.ones(1), np.full((1, 3), 1 / 3))
    np.testing.assert_allclose(coefficients(counted(problem.counts(layout))), np.log(exact), rtol=1e-14, atol=1e-14)
    found = mixture.multinomial_statistics(
        problem.counts(layout), problem.weights, problem.probabilities, sample_weight=[2.0, 1, 3]
    )
    assert found.log_coefficient == pytest.approx(np.log(exact) @ [2, 1, 3], rel=1e-14)
    assert found.log_likelihood - found.log_coefficient == pytest.approx(-37 * np.log(3), rel=1e-14)


# -------------------------------------------------------------------------------------------------------- impossible


@both_dtypes
@both_layouts
def test_impossible_rows(cell, dtype, layout):
    probabilities = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], dtype)
    weights = np.array([0.2, 0.3, 0.5], dtype)
    X = np.array([[1, 1, 0], [1, 1, 1], [2, 1, 1], [3, 2, 2], [1e8, 1e8, 1e8], [1e-3, 1, 1], [0, 0, 0]], dtype)
    problem = Problem(X, None, weights, probabilities)
    found = problem.run(layout)
    assert found["log_likelihood"][1:6].tolist() == [-np.inf] * 5 and np.isfinite(found["log_likelihood"][[0, 6]]).all()
    third = 1 / 3
    close(
        found["resp"],
        np.array([[1, 0, 0], [third] * 3, [0.5, 0.5, 0], [0.5, 0.5, 0], [third] * 3, [0, 0, 1], weights], dtype),
        tolerance=TOLERANCE[dtype],
        dtype=dtype,
    )
    assert found["log_density"][0].tolist()[1:] == [-np.inf, -np.inf] and found["total"] == -np.inf
    some = replace(problem, sample_weight=np.array([1, 0, 0, 0, 0, 0, 1], dtype))
    assert np.isfinite(some.run(layout)["total"])


def test_impossible_rows_pull_their_words_in():
    """EM goes on from a row that nothing could produce."""
    X = np.array([[3.0, 1, 0], [0, 0, 2]])
    weights, probabilities, mean = mixture.multinomial_em_step(X, [1.0], [[0.5, 0.5, 0]], alpha=0)
    assert mean == -np.inf and probabilities.tolist() == [[0.5, 1 / 6, 1 / 3]]
    assert np.isfinite(mixture.multinomial_em_step(X, weights, probabilities, alpha=0)[2])


# -------------------------------------------------------------------------------------------------------- EM


@both_layouts
def test_statistics_of_halves_add(column, layout):
    problem = draw(N=40, weighted="zeros", impossible=True)
    theta = problem.weights, problem.probabilities

    def found(rows):
        part = replace(problem, X=problem.X[rows], sample_weight=problem.sample_weight[rows])
        return mixture.multinomial_statistics(part.counts(layout), *theta, sample_weight=part.sample_weight)

    whole, halves = found(slice(None)), found(slice(0, 17)) + found(slice(17, None))
    for name in ("n", "counts", "log_likelihood", "log_coefficient", "weight"):
        np.testing.assert_allclose(getattr(halves, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(getattr(3 * whole, name), 3 * np.array(getattr(whole, name)))
        np.testing.assert_array_equal(getattr(whole * 0.5, name), 0.5 * np.array(getattr(whole, name)))


def test_weights_are_repetitions():
    problem = draw(N=12)
    times = np.arange(12) % 4
    theta = problem.weights, problem.probabilities
    weighted = mixture.multinomial_statistics(problem.X, *theta, sample_weight=times)
    repeated = mixture.multinomial_statistics(problem.X.repeat(times, axis=0), *theta)
    for name in ("n", "counts", "log_likelihood", "log_coefficient", "weight"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-12)


def test_update():
    found = replace(
        mixture.multinomial_statistics([[1, 1]], [0.5, 0.5], [[0.5, 0.5]] * 2),
        n=np.array([3.0, 1.0]),
        counts=np.array([[6.0, 2.0], [0.0, 0.0]]),
    )
    for alpha, want in (
        (0, [[0.75, 0.25], [0.5, 0.5]]),  # without counts nothing is known
        (1, [[0.7, 0.3], [0.5, 0.5]]),
        ([0, 8], [[6 / 16, 10 / 16], [0, 1]]),
    ):
        weights, probabilities = mixture.multinomial_update(found, alpha=alpha)
        assert weights.tolist() == [0.75, 0.25]
        np.testing.assert_allclose(probabilities, want, rtol=1e-15)


@pytest.mark.parametrize("alpha", [0, 0.3, 2, [0, 0.1, 3, 0.5, 1]])
@both_layouts
def test_a_step_never_lowers_the_bound(column, alpha, layout):
    for seed in range(4):
        problem = draw(N=150, K=4, words=20, weighted="random", seed=seed)
        theta, last = (problem.weights, problem.probabilities), -np.inf
        weight = problem.sample_weight.sum()
        for _ in range(30):
            before = theta
            *theta, mean = mixture.multinomial_em_step(
                problem.counts(layout), *theta, sample_weight=problem.sample_weight, alpha=alpha
            )
            bound = mean * weight + Multinomials(*before, "float64").log_prior(np.array(alpha, float))
            assert bound >= last - 1e-9 * abs(bound)
            last = bound


def test_the_step_is_the_largest_of_its_bound():
    """Q and the prior fall in every direction along the simplex from the M-step's answer."""
    problem, alpha, rng = draw(N=50), 0.5, np.random.default_rng(0)
    found = mixture.multinomial_statistics(problem.X, problem.weights, problem.probabilities)
    weights, probabilities = mixture.multinomial_update(found, alpha=alpha)

    def q(weights, probabilities):
        return found.n @ np.log(weights) + np.sum((found.counts + alpha) * np.log(probabilities))

    best = q(weights, probabilities)
    for _ in range(50):
        step = rng.normal(size=probabilities.shape)
        other = probabilities + 1e-3 * probabilities.min() * (step - step.mean(axis=1, keepdims=True))
        step = rng.normal(size=weights.shape)
        assert q(weights, other) < best
        assert q(weights + 1e-3 * weights.min() * (step - step.mean()), probabilities) < best


@both_dtypes
def test_dtype_is_kept(dtype):
    problem = draw(dtype=dtype)
    weights, probabilities, mean = mixture.multinomial_em_step(problem.X, problem.weights, problem.probabilities)
    assert weights.dtype == probabilities.dtype == dtype and type(mean) is float


# -------------------------------------------------------------------------------------------------------- errors

X = np.ones((3, 2))
THETA = {"weights": np.array([0.5, 0.5]), "probabilities": np.full((2, 2), 0.5)}
CSR = compressed(X)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"X": None}, TypeError, "X: expected an array, got None"),
        ({"weights": None}, TypeError, "weights: expected an array, got None"),
        ({"probabilities": None}, TypeError, "probabilities: expected an array, got None"),
        ({"X": X.astype("float16")}, TypeError, "X: expected float32 or float64, got float16"),
        ({"X": X.astype("float32")}, TypeError, "weights: expected float32 as X, got float64"),
        ({"X": X.astype(complex)}, TypeError, "X: expected float32 or float64, got complex128"),
        ({"X": X[0]}, ValueError, r"X: expected shape \(N, V\), got \(2,\), which has 1 axes"),
        ({"X": -X}, ValueError, "X: expected finite counts of at least 0, got -1.0"),
        ({"X": X * np.nan}, ValueError, "X: expected finite counts of at least 0, got nan"),
        ({"X": X * np.inf}, ValueError, "X: expected finite counts of at least 0, got inf"),
        ({"X": X * 1e200}, ValueError, "X: expected at most .* words in a row of float64, got 2e"),
        ({"X": np.ones((3, 4))}, ValueError, r"probabilities: expected .* V = 4 \(from X\), got \(2, 2\)"),
        ({"X": X[:, :0], "probabilities": np.ones((2, 0))}, ValueError, "probabilities: expected V of at least 1"),
        ({"weights": np.ones(3) / 3}, ValueError, r"weights: expected shape \(K,\) with K = 2 \(from probabilities\)"),
        ({"weights": np.array([0.5, 0.6])}, ValueError, "weights: expected numbers .* got a sum of 1.1"),
        ({"weights": np.array([1.5, -0.5])}, ValueError, "weights: expected .* a least of -0.5"),
        ({"weights": np.array([np.nan, 1])}, ValueError, "weights: expected numbers of at least 0 that sum to 1"),
        (
            {"probabilities": np.array([[0.5, 0.5], [0.5, 0.4]])},
            ValueError,
            "probabilities: expected numbers of at least 0 that sum to 1 in each row, got a sum of 0.9 .*in row 1",
        ),
        ({"probabilities": np.array([[0.5, 0.5], [1.5, -0.5]])}, ValueError, "probabilities: .* least of -0.5 in row"),
        ({"sample_weight": np.array([1.0, -1, 1])}, ValueError, "sample_weight: expected finite numbers of at least 0"),
        ({"sample_weight": np.ones(4)}, ValueError, r"sample_weight: expected shape \(N,\) with N = 3 \(from X\)"),
        ({"sample_weight": np.zeros(3)}, ValueError, "sample_weight: expected rows of a weight above 0, got none"),
        ({"X": X[:0]}, ValueError, "X: expected rows of a weight above 0, got none"),
        ({"alpha": -1}, ValueError, "alpha: expected finite numbers of at least 0, got -1"),
        ({"alpha": np.nan}, ValueError, "alpha: expected finite numbers of at least 0, got nan"),
        ({"alpha": [1, 2, 3]}, ValueError, r"alpha: expected a number, or shape \(V,\) = \(2,\), got \(3,\)"),
        ({"alpha": None}, TypeError, "alpha: expected a number or an array of numbers, got None"),
        ({"X": compressed(X, data=-CSR.data)}, ValueError, "X: expected finite counts of at least 0, got -1.0"),
        ({"X": compressed(X, data=CSR.data * np.nan)}, ValueError, "X: expected finite counts of at least 0, got nan"),
        ({"X": compressed(X, indptr=CSR.indptr[:-1])}, ValueError, r"X: expected indptr of shape \(N\+1,\) = \(4,\)"),
        ({"X": compressed(X, indptr=CSR.indptr + 1)}, ValueError, "X: expected indptr that starts at 0, never falls"),
        ({"X": compressed(X, indptr=np.array([0, 4, 2, 6]))}, ValueError, "X: expected indptr that starts at 0"),
        ({"X": compressed(X, indptr=np.array([0, 2, 4, 7]))}, ValueError, "ends within indices and data"),
        ({"X": compressed(X, indices=CSR.indices + 1)}, ValueError, "X: expected 0 ≤ index < V = 2, got 2"),
        ({"X": compressed(X, indices=CSR.indices - 1)}, ValueError, "X: expected 0 ≤ index < V = 2, got -1"),
        ({"X": compressed(X, indices=CSR.indices * 1.0)}, TypeError, "X: expected integers, got float64"),
    ],
)  # fmt: skip
def test_errors(changes, error, message):
    arguments = {"X": X, **THETA, **changes}
    with pytest.raises(error, match=f"^{message}" if not message.startswith("ends") else message):
        mixture.multinomial_em_step(**arguments)


def test_errors_of_statistics():
    found = mixture.multinomial_statistics(X, **THETA)
    with pytest.raises(ValueError, match=r"^other: expected statistics of dtype float64, got float32"):
        found + replace(found, dtype=np.dtype("float32"))
    with pytest.raises(ValueError, match=r"^other: expected \(K, V\) = \(2, 2\), got \(2, 3\)"):
        found + replace(found, counts=np.ones((2, 3)))
    with pytest.raises(TypeError):
        found + 1
    with pytest.raises(TypeError, match=r"^statistics: expected MultinomialStatistics, got int"):
        mixture.multinomial_update(1)
    with pytest.raises(ValueError, match=r"^statistics: expected rows of a weight above 0, got none"):
        mixture.multinomial_update(0 * found)
