"""fastml.sklearn.GaussianMixture: scikit-learn's answers, and what it has beyond them."""

import copy
import pickle
import re
import tracemalloc
import warnings
from inspect import signature

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import sklearn.mixture
from scipy import sparse
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import fastml
from fastml.kernels.table import TILE
from fastml.mixture import COVARIANCE_TYPES
from fastml.mixture import sample as drawn
from fastml.mixture.rows import BLOCK
from fastml.sklearn import GaussianMixture
from fastml.sklearn.source import Array, Reservoir, in_tiles

FAMILIES = ("gaussian",)
INITS = ("kmeans", "k-means++", "random", "random_from_data")
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def theirs(mixture):
    """scikit-learn's own estimator with the same parameters."""
    names = sklearn.mixture.GaussianMixture().get_params()
    return sklearn.mixture.GaussianMixture(**{name: mixture.get_params()[name] for name in names})


def alike(ours, other, tolerance):
    """Parameters, relative to the largest of each array."""
    for name in PARAMETERS:
        a, b = getattr(ours, name), getattr(other, name)
        assert a.shape == b.shape and a.dtype == b.dtype, name
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), name


def same(one, other):
    """Bitwise."""
    for name in (*PARAMETERS, "lower_bounds_", "lower_bound_", "n_iter_", "converged_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def start(X, K, covariance_type, rng):
    """All three *_init: rows of X as means, its variance in every direction."""
    D, precision = X.shape[1], 1 / X.var()
    precisions = {
        "full": np.tile(np.eye(D) * precision, (K, 1, 1)),
        "tied": np.eye(D) * precision,
        "diag": np.full((K, D), precision),
        "spherical": np.full(K, precision),
    }
    return {
        "n_components": K,
        "covariance_type": covariance_type,
        "weights_init": rng.dirichlet(np.full(K, 10.0)),
        "means_init": X[rng.choice(len(X), K, replace=False)],
        "precisions_init": precisions[covariance_type],
    }


def clusters(N=5000, D=3, K=4, apart=3.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = apart * rng.normal(size=(K, D))
    return centres[rng.integers(K, size=N)] + rng.normal(size=(N, D)) @ (np.eye(D) + 0.3 * rng.normal(size=(D, D)))


# ----------------------------------------------------------------------------------------------- scikit-learn's answers


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_fits_as_scikit_learn(covariance_type, seed):
    rng = np.random.default_rng([seed, COVARIANCE_TYPES.index(covariance_type)])
    D, K, N = int(rng.integers(1, 11)), 1 + seed % 8, int(rng.integers(200, 3000))
    X = clusters(N, D, K, apart=(0.7, 2.0, 5.0)[seed % 3], seed=seed)
    ours = GaussianMixture(max_iter=300, **start(X, K, covariance_type, rng))
    other = theirs(ours).fit(X)
    ours.fit(X)
    alike(ours, other, 1e-6)
    assert (ours.n_iter_, ours.converged_) == (other.n_iter_, other.converged_)
    np.testing.assert_allclose(ours.lower_bound_, other.lower_bound_, rtol=1e-6)
    if hasattr(other, "lower_bounds_"):  # from scikit-learn 1.7 on
        np.testing.assert_allclose(ours.lower_bounds_, other.lower_bounds_, rtol=1e-6)
    assert ours.lower_bound_ == ours.lower_bounds_[-1]
    assert np.mean(ours.predict(X) == other.predict(X)) > 1 - 2 / N  # but for ties within rounding
    np.testing.assert_allclose(ours.predict_proba(X), other.predict_proba(X), rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.score_samples(X), other.score_samples(X), rtol=1e-6, atol=1e-6)
    for score in ("score", "bic", "aic"):
        np.testing.assert_allclose(getattr(ours, score)(X), getattr(other, score)(X), rtol=1e-6)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_every_back_end_fits_alike(column, covariance_type):
    X = clusters(N=3000)
    given = start(X, 4, covariance_type, np.random.default_rng(0))
    ours = GaussianMixture(max_iter=20, **given)
    alike(ours.fit(X), theirs(ours).fit(X), 1e-9)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("init_params", INITS)
def test_starts_as_scikit_learn(init_params, covariance_type):
    X = clusters()
    states = [np.random.RandomState(3) for _ in range(2)]
    ours = GaussianMixture(4, covariance_type=covariance_type, init_params=init_params, max_iter=0)
    other = theirs(ours).set_params(random_state=states[1]).fit(X)
    ours.set_params(random_state=states[0]).fit(X)
    for name in ("weights_", "means_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(other, name), rtol=1e-12)
    # scikit-learn subtracts squares: what it loses is relative to them, not to the variances
    lost = 1e-15 * np.square(X).max() if covariance_type in ("diag", "spherical") else 0
    np.testing.assert_allclose(
        ours.covariances_, other.covariances_, rtol=1e-12, atol=lost + 1e-12 * np.abs(other.covariances_).max()
    )
    assert states[0].uniform() == states[1].uniform()  # as many draws
    assert (ours.n_iter_, ours.lower_bound_, ours.lower_bounds_, ours.converged_) == (0, -np.inf, [], False)


@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("given", ["weights", "means", "precisions", "weights means", "means precisions"])
def test_given_part_of_a_start(given, init_params):
    X = clusters()
    everything = start(X, 4, "full", np.random.default_rng(0))
    parts = {f"{name}_init": everything[f"{name}_init"] for name in given.split()}
    ours = GaussianMixture(4, init_params=init_params, max_iter=3, random_state=0, **parts)
    alike(ours.fit(X), theirs(ours).fit(X), 1e-9)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_precisions_alone_are_a_start(covariance_type):
    X = clusters()
    given = start(X, 4, covariance_type, np.random.default_rng(0))
    ours = GaussianMixture(max_iter=0, **given).fit(X)
    product = (
        ours.covariances_ @ given["precisions_init"]
        if covariance_type in ("full", "tied")
        else ours.covariances_ * given["precisions_init"]
    )
    unit = np.broadcast_to(np.eye(3) if covariance_type in ("full", "tied") else 1.0, product.shape)
    np.testing.assert_allclose(product, unit, atol=1e-12)
    assert ours.means_ is not given["means_init"] and np.array_equal(ours.means_, given["means_init"])


def test_restarts_and_warm_starts_as_scikit_learn():
    X = clusters(apart=1.0)
    ours = GaussianMixture(3, n_init=4, init_params="random_from_data", random_state=0, max_iter=30)
    other = theirs(ours).fit(X)
    alike(ours.fit(X), other, 1e-8)
    assert ours.n_iter_ == other.n_iter_
    ours = GaussianMixture(3, warm_start=True, max_iter=2, random_state=0)
    other = theirs(ours)
    for _ in range(4):
        alike(ours.fit(X), other.fit(X), 1e-9)
    with pytest.raises(ValueError, match="means_"):
        ours.fit(X[:, :2])


@pytest.mark.parametrize("name", ["iris", "wine", "digits"])
def test_real_data(name):
    X = getattr(datasets, f"load_{name}")().data
    X = PCA(8, random_state=0).fit_transform(X) if name == "digits" else StandardScaler().fit_transform(X)
    for covariance_type in COVARIANCE_TYPES:
        ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0)
        other = theirs(ours)
        assert np.array_equal(ours.fit_predict(X), other.fit_predict(X))
        alike(ours, other, 1e-6)
        assert ours.n_iter_ == other.n_iter_


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_likelihood_never_falls(covariance_type):
    X = clusters(N=2000, apart=1.0)
    bounds = GaussianMixture(5, covariance_type=covariance_type, reg_covar=0, tol=0, max_iter=60, random_state=0)
    bounds = np.array(bounds.fit(X).lower_bounds_)
    assert len(bounds) == 60
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[1:])).all()


# ----------------------------------------------------------------------------------------------- scikit-learn's manners


CHECKS = [
    check
    for estimator in (GaussianMixture(), GaussianMixture(covariance_type="diag", init_params="random"))
    for check in estimator_checks_generator(estimator)
]


@pytest.mark.parametrize(
    "estimator, check", CHECKS, ids=lambda part: getattr(getattr(part, "func", None), "__name__", "")
)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_parameters_are_scikit_learns_and_more():
    ours = list(signature(GaussianMixture).parameters.values())
    others = list(signature(sklearn.mixture.GaussianMixture).parameters.values())
    for mine, other in zip(ours, others, strict=False):
        assert (mine.name, mine.kind, mine.default) == (other.name, other.kind, other.default)
    assert [p.name for p in ours[len(others) :]] == ["tol_kind", "on_empty", "decay", "callback", "progress"]
    assert issubclass(GaussianMixture, sklearn.mixture.GaussianMixture)
    assert repr(GaussianMixture(2, decay=0.7)) == "GaussianMixture(decay=0.7, n_components=2)"
    assert clone(GaussianMixture(2, decay=0.7)).decay == 0.7


@pytest.mark.parametrize("verbose", [1, 2])
def test_prints_what_scikit_learn_prints(verbose, capsys):
    X = clusters(apart=1.0)
    ours = GaussianMixture(3, n_init=2, verbose=verbose, verbose_interval=2, random_state=0, init_params="random")
    printed = []
    for mixture in (ours, theirs(ours)):
        mixture.fit(X)
        printed.append(re.sub(r"lapse \d+\.\d{5}s", "lapse", capsys.readouterr().out))
    assert printed[0] == printed[1] and "Initialization 1" in printed[0]


def message(call):
    with pytest.raises(Exception) as caught:
        call()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "parameters, X",
    [
        ({}, [[np.nan], [1.0]]),
        ({}, [[np.inf], [1.0]]),
        ({}, [[1.0]]),
        ({}, [1.0, 2.0]),
        ({"n_components": 3}, [[1.0], [2.0]]),
        ({"n_components": 0}, [[1.0], [2.0]]),
        ({"tol": -1.0}, [[1.0], [2.0]]),
        ({"covariance_type": "round"}, [[1.0], [2.0]]),
        ({"init_params": "guess"}, [[1.0], [2.0]]),
        ({"weights_init": [0.5]}, [[1.0], [2.0]]),
        ({"weights_init": [2.0]}, [[1.0], [2.0]]),
        ({"n_components": 2, "weights_init": [1.0]}, [[1.0], [2.0]]),
        ({"means_init": [[1.0, 2.0]]}, [[1.0], [2.0]]),
        ({"precisions_init": [[[-1.0]]]}, [[1.0], [2.0]]),
        ({"precisions_init": [1.0]}, [[1.0], [2.0]]),
        ({"precisions_init": [-1.0], "covariance_type": "spherical"}, [[1.0], [2.0]]),
        ({"reg_covar": 0.0}, np.zeros((2, 2))),
        ({"reg_covar": 0.0, "covariance_type": "tied"}, [[1.0, 1.0], [1.0, 1.0]]),
        ({"reg_covar": 0.0, "covariance_type": "diag"}, np.zeros((2, 2), "float32")),
    ],
)
def test_errors_are_scikit_learns(parameters, X):
    ours = GaussianMixture(**parameters)
    expected = message(lambda: theirs(ours).fit(X))
    assert message(lambda: ours.fit(X)) == expected
    with pytest.raises(NotFittedError):
        ours.predict([[1.0]])


def test_errors_beyond_scikit_learns():
    X = clusters(100)
    for parameters, named in (
        ({"decay": 0.5}, "decay"),
        ({"on_empty": "weep"}, "on_empty"),
        ({"tol_kind": "loose"}, "tol_kind"),
        ({"callback": 3}, "callback"),
        ({"progress": "yes"}, "progress"),
    ):
        with pytest.raises(ValueError, match=named):
            GaussianMixture(**parameters).fit(X)
    mixture = GaussianMixture(2, random_state=0)
    with pytest.raises(ValueError, match="Negative values in data"):
        mixture.fit(X, sample_weight=-np.ones(100))
    with pytest.raises(ValueError, match=r"sample_weight\.shape == \(3,\), expected \(100,\)"):
        mixture.fit(X, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="at least one non-zero"):
        mixture.fit(X, sample_weight=np.zeros(100))
    with pytest.raises(ValueError, match="n_components = 2, n_samples = 1"):
        mixture.fit(X, sample_weight=np.eye(100)[0])


def test_warns_as_scikit_learn():
    with pytest.warns(ConvergenceWarning, match="Best performing initialization did not converge"):
        GaussianMixture(3, max_iter=1, random_state=0).fit(clusters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianMixture(3, max_iter=0, random_state=0).fit(clusters())


def test_pipelines_copies_pickles():
    X = clusters()
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(4, random_state=0)).fit(X)
    mixture = pipeline[-1]
    for twin in (pickle.loads(pickle.dumps(mixture)), copy.deepcopy(mixture)):
        same(twin, mixture)
        assert np.array_equal(twin.predict(StandardScaler().fit_transform(X)), pipeline.predict(X))
    assert not hasattr(clone(mixture), "means_")


def test_attributes_set_by_hand():
    rng = np.random.default_rng(0)
    A, means, X = rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 3)), rng.normal(size=(50, 3))
    found = []
    for kind in (GaussianMixture, sklearn.mixture.GaussianMixture):
        mixture = kind(2)
        mixture.weights_, mixture.means_, mixture.covariances_ = np.array([0.25, 0.75]), means, A @ A.swapaxes(1, 2)
        precisions = np.linalg.inv(mixture.covariances_)
        mixture.precisions_cholesky_ = np.linalg.cholesky(precisions)  # a lower triangle, as many write
        found.append(mixture.score_samples(X))
    np.testing.assert_allclose(*found, rtol=1e-10)
    mixture = GaussianMixture(2)
    mixture.weights_, mixture.means_, mixture.precisions_cholesky_ = (
        np.ones(2) / 2,
        np.zeros((2, 3)),
        np.ones((2, 2, 2)),
    )
    with pytest.raises(ValueError, match=r"precisions_cholesky_: expected shape \(K, D, D\)"):
        mixture.predict(X)


# -------------------------------------------------------------------------------------------------------------- float32


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("init_params", INITS)
def test_float32_of_far_apart_rows(init_params, covariance_type):
    X = np.array([[9999], [0]], "float32")
    mixture = GaussianMixture(2, covariance_type=covariance_type, init_params=init_params, random_state=0).fit(X)
    for name in PARAMETERS:
        assert getattr(mixture, name).dtype == "float32"
    assert (mixture.covariances_ > 0).all()
    assert mixture.predict_proba(X).dtype == mixture.score_samples(X).dtype == "float32"
    one = GaussianMixture(1, covariance_type=covariance_type, init_params=init_params, random_state=0).fit(X)
    np.testing.assert_allclose(np.ravel(one.covariances_), [(9999 / 2) ** 2], rtol=1e-5)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_float32_far_from_the_origin(covariance_type):
    rng = np.random.default_rng(0)
    X = (1e4 + rng.choice([-3.0, 3.0], size=(4000, 1)) + rng.normal(size=(4000, 3))).astype("float32")
    given = start(X, 2, covariance_type, rng) | {"precisions_init": None, "init_params": "kmeans", "random_state": 0}
    given["means_init"] = np.array([[9997.0] * 3, [10003.0] * 3])
    narrow = GaussianMixture(max_iter=30, tol=0, **given).fit(X)
    wide = GaussianMixture(max_iter=30, tol=0, **given).fit(X.astype("float64"))
    np.testing.assert_allclose(narrow.means_, wide.means_, rtol=1e-6)
    scale = np.abs(wide.covariances_).max()
    np.testing.assert_allclose(narrow.covariances_, wide.covariances_, rtol=0, atol=1e-3 * scale)
    np.testing.assert_allclose(narrow.lower_bound_, wide.lower_bound_, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_float32_cannot_hold_the_covariances(covariance_type, scale):
    X = clusters(200).astype("float32") * np.float32(scale)
    mixture = GaussianMixture(2, covariance_type=covariance_type, reg_covar=0, init_params="random", random_state=0)
    for call in (mixture.fit, mixture.partial_fit):
        with pytest.raises(ValueError, match="ill-defined empirical covariance"):
            call(X)
        assert not hasattr(mixture, "covariances_")
    wide = mixture.fit(X.astype("float64"))
    assert np.isfinite(wide.covariances_).all() and np.isfinite(wide.precisions_).all()


@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_float32_weights_that_sum_to_1(covariance_type, init_params):
    rng = np.random.default_rng(0)
    centres = 1e4 + 1e3 * rng.uniform(-1, 1, size=(50, 2))
    X = (centres[rng.integers(50, size=20_000)] + rng.normal(size=(20_000, 2))).astype("float32")
    mixture = GaussianMixture(50, covariance_type=covariance_type, init_params=init_params, random_state=0, max_iter=5)
    plain = clone(mixture).fit(X)
    halved = clone(mixture).fit(X, sample_weight=np.full(len(X), 2.0**-14))
    for name in PARAMETERS:
        assert np.array_equal(getattr(halved, name), getattr(plain, name)), name
    if init_params in ("kmeans", "random"):  # of the others' first steps, rounding settles ties
        small = clone(mixture).fit(X, sample_weight=np.full(len(X), 1 / len(X)))
        np.testing.assert_allclose(small.means_, plain.means_, rtol=1e-6)
        variances = [
            np.diagonal(m.covariances_, axis1=-2, axis2=-1) if covariance_type in ("full", "tied") else m.covariances_
            for m in (small, plain)
        ]
        np.testing.assert_allclose(*variances, rtol=1e-3)


def test_float32_rows_and_float64_parameters():
    X = (1e4 + clusters()).astype("float32")
    wide = GaussianMixture(4, random_state=0).fit(X.astype("float64"))
    np.testing.assert_allclose(wide.score_samples(X), wide.score_samples(X.astype("float64")), rtol=1e-6)
    assert wide.predict_proba(X).dtype == wide.score_samples(X).dtype == "float32"
    narrow = GaussianMixture(4, random_state=0).fit(X)
    assert narrow.predict_proba(X.astype("float64")).dtype == "float64"


# --------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("init_params", ["given", "random_from_data", "random"])
def test_no_array_of_rows_times_components(init_params, covariance_type):
    N, K = 100_000, 64
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 2))
    given = start(X, K, covariance_type, rng) if init_params == "given" else {"init_params": init_params}
    mixture = GaussianMixture(K, covariance_type=covariance_type, max_iter=1, random_state=0)
    mixture.set_params(**given).fit(X[:TILE])
    tracemalloc.start()
    mixture.fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6 < 8 * N * K  # a tile (TILE, K), a permutation (N,), and what they are made of


def test_mapped_arrays_are_not_copied(tmp_path):
    X = clusters(N=200_000, D=8)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    mixture = GaussianMixture(4, init_params="random_from_data", max_iter=3, random_state=0)
    whole = clone(mixture).fit(X)
    tracemalloc.start()
    mixture.fit(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    same(mixture, whole)
    assert peak < X.nbytes / 2
    same(mixture.fit(np.asfortranarray(X)), whole)


# --------------------------------------------------------------------------------------------------------------- chunks


def chunks(X, sizes, sample_weight=None):
    """A function that gives blocks of these sizes, over and over until the rows end, each time in the same array."""

    def make_iterator():
        start, i = 0, 0
        buffer = np.empty((max(sizes), X.shape[1]), X.dtype)
        while start < len(X):
            rows = slice(start, min(start + sizes[i % len(sizes)], len(X)))
            block = buffer[: rows.stop - rows.start]
            block[...] = X[rows]
            yield block if sample_weight is None else (block, sample_weight[rows])
            block[...] = np.nan  # the owner may write to it again
            start, i = rows.stop, i + 1

    return make_iterator


@pytest.mark.parametrize("sizes", [(TILE,), (3 * TILE, BLOCK + TILE), (1000,), (1, 5000, 777)])
@pytest.mark.parametrize("init_params", [*INITS, "given"])
def test_chunks_bitwise(init_params, sizes):
    for covariance_type in COVARIANCE_TYPES:
        X = clusters(N=10_000).astype("float32" if covariance_type == "diag" else "float64")
        weight = np.random.default_rng(1).uniform(0, 2, len(X)) if covariance_type in ("tied", "spherical") else None
        rng = np.random.default_rng(0)
        given = start(X, 3, covariance_type, rng) if init_params == "given" else {"init_params": init_params}
        mixture = GaussianMixture(3, covariance_type=covariance_type, max_iter=4, random_state=0, n_init=2)
        mixture.set_params(**given)
        whole = clone(mixture).fit(X, sample_weight=weight)
        same(mixture.fit_chunks(chunks(X, sizes, weight)), whole)


def test_chunks_larger_than_the_reservoir():
    X = clusters(N=20_000)
    for init_params in ("kmeans", "k-means++"):
        mixtures = [
            GaussianMixture(4, init_params=init_params, random_state=0, tol=1e-6, max_iter=500).fit_chunks(
                chunks(X, (size,)), reservoir_size=1000
            )
            for size in (TILE, 999)
        ]
        same(*mixtures)  # however the rows are cut
        whole = GaussianMixture(4, random_state=0, tol=1e-6, max_iter=500).fit(X)
        assert abs(mixtures[0].lower_bound_ - whole.lower_bound_) < 1e-3


def test_reservoir_is_a_uniform_sample():
    size, N, times = 20, 100, 2000
    counts = np.zeros(N)
    random_state = np.random.RandomState(0)
    for _ in range(times):
        reservoir = Reservoir(size, random_state)
        for block in np.array_split(np.arange(N)[:, None], 3):
            reservoir.add(block, None)
        rows = reservoir.rows()[0][:, 0]
        assert len(set(rows)) == size
        counts[rows] += 1
    expected = times * size / N
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected * (1 - size / N))  # 5 standard deviations


def test_blocks_are_put_together_in_tiles():
    X = np.arange(3.0 * BLOCK + 5)[:, None]
    for sizes in ((1, 2 * BLOCK), (BLOCK + 1,), (7,)):
        blocks = [x.copy() for x, _ in in_tiles((x, None) for x in chunks(X, sizes)())]
        assert np.array_equal(np.concatenate(blocks), X)
        assert all(len(block) % TILE == 0 for block in blocks[:-1])
    source = Array(X)
    assert np.array_equal(source.take(np.array([5, 2 * BLOCK, 0]))[0][:, 0], [5, 2 * BLOCK, 0])


@pytest.mark.parametrize(("tiles", "rows"), [(4, [4 * TILE, 4 * TILE, TILE + 5]), (0.1, [*[TILE] * 9, 5])])
def test_blocks_of_wide_rows(monkeypatch, tiles, rows):
    """A block takes no more than its bytes, or a tile: one of pieces put together, and one of an array copied."""
    X = np.arange(9.0 * TILE + 5)[:, None] + [1, 2]
    counts = sparse.csr_array(X)
    bytes_of_tile = TILE * 2 * X.itemsize, TILE * 2 * (X.itemsize + counts.indices.itemsize)
    for whole, each in zip((X, counts), bytes_of_tile, strict=True):
        monkeypatch.setattr("fastml.sklearn.source.BLOCK_BYTES", int(tiles * each))
        pieces = ((whole[start : start + TILE // 2], None) for start in range(0, len(X), TILE // 2))
        assert [x.shape[0] for x, _ in in_tiles(pieces)] == rows
    monkeypatch.setattr("fastml.sklearn.source.BLOCK_BYTES", int(tiles * bytes_of_tile[0]))
    blocks = [x for x, _ in Array(np.asfortranarray(X))]
    assert [len(x) for x in blocks] == rows and np.array_equal(np.concatenate(blocks), X)


def test_chunks_that_change():
    X = clusters(N=3000)
    mixture = GaussianMixture(2, random_state=0)
    iterator = iter([X[:2000], X[2000:]])
    with pytest.raises(ValueError, match="fresh iterator of the same 3000 rows for each pass, got 0"):
        mixture.fit_chunks(lambda: iterator)
    growing = [X[:2000]]

    def more():
        growing.append(X[:100])
        return growing

    with pytest.raises(ValueError, match="the same 2100 rows for each pass, got more"):
        mixture.fit_chunks(more)
    with pytest.raises(ValueError, match="expected blocks of float64 as the first one, got float32"):
        mixture.fit_chunks(lambda: [X, X.astype("float32")])
    with pytest.raises(ValueError, match="sample_weight with each block or with none"):
        mixture.fit_chunks(lambda: [X, (X, np.ones(3000))])
    with pytest.raises(ValueError, match="at least one block"):
        mixture.fit_chunks(list)
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        mixture.fit_chunks(lambda: [X, X[:, :2]])
    with pytest.raises(ValueError, match="contains NaN"):
        mixture.fit_chunks(lambda: [X, np.full((1, 3), np.nan)])
    with pytest.raises(ValueError, match="minimum of 2 is required by GaussianMixture"):
        mixture.fit_chunks(lambda: [X[:1]])
    with pytest.raises(TypeError, match="make_iterator: expected a callable"):
        mixture.fit_chunks([X])
    with pytest.raises(
        TypeError, match="make_iterator: expected a callable that returns an iterator, got one that returns None"
    ):
        mixture.fit_chunks(lambda: None)
    with pytest.raises(ValueError, match="reservoir_size: expected an integer of at least 2"):
        mixture.fit_chunks(lambda: [X], reservoir_size=1)
    assert not hasattr(mixture, "n_features_in_")


def test_blocks_without_rows():
    X, weight = clusters(N=3000), np.linspace(0, 1, 3000)
    cuts = (slice(0, 0), slice(0, 1000), slice(0, 0), slice(1000, None), slice(0, 0))
    blocks = [(X[rows], weight[rows]) for rows in cuts]
    for init_params in INITS:
        whole = GaussianMixture(2, init_params=init_params, random_state=0).fit(X, sample_weight=weight)
        same(clone(whole).fit_chunks(lambda: blocks), whole)


# -------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_integer_weights_are_repeated_rows(covariance_type):
    X = clusters(N=2000)
    rng = np.random.default_rng(0)
    times = rng.integers(0, 4, len(X))
    given = start(X, 3, covariance_type, rng)
    weighted = GaussianMixture(max_iter=50, **given).fit(X, sample_weight=times)
    repeated = GaussianMixture(max_iter=50, **given).fit(np.repeat(X, times, axis=0))
    alike(weighted, repeated, 1e-9)
    assert weighted.n_iter_ == repeated.n_iter_
    np.testing.assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, rtol=1e-12)
    np.testing.assert_allclose(weighted.score(X, sample_weight=times), repeated.score(np.repeat(X, times, axis=0)))
    assert np.array_equal(GaussianMixture(max_iter=50, **given).fit_predict(X, None, times), weighted.predict(X))


@pytest.mark.parametrize("init_params", INITS)
def test_weights(init_params):
    X = clusters(N=2000)
    weight = np.random.default_rng(0).uniform(size=len(X))
    weight[::3] = 0
    moved = np.where(weight[:, None] == 0, 1e3, X)
    mixture = GaussianMixture(3, init_params=init_params, random_state=0, max_iter=20)
    for covariance_type in COVARIANCE_TYPES:
        mixture.set_params(covariance_type=covariance_type)
        plain = clone(mixture).fit(X)
        alike(clone(mixture).fit(X, sample_weight=np.ones(len(X))), plain, 1e-12)
        weighted = clone(mixture).fit(X, sample_weight=weight)
        scaled = clone(mixture).fit(X, sample_weight=4 * weight)
        alike(scaled, weighted, 1e-9)
        assert np.abs(weighted.means_ - plain.means_).max() > 1e-3
        if init_params != "kmeans":  # whose own draws are among all rows
            alike(clone(mixture).fit(moved, sample_weight=weight), weighted, 1e-6)


# ---------------------------------------------------------------------------------------------------------- partial_fit


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_partial_fit_of_one_gaussian_is_exact(covariance_type):
    """With decay 1 the statistics are the mean over all blocks."""
    X = clusters(N=4000)
    online = GaussianMixture(1, covariance_type=covariance_type, decay=1.0)
    for block in np.array_split(X, 8):
        online.partial_fit(block)
    alike(online, GaussianMixture(1, covariance_type=covariance_type).fit(X), 1e-9)
    assert (online.n_iter_, len(online.lower_bounds_), online.converged_) == (8, 8, False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_partial_fit_comes_near_fit(covariance_type, dtype):
    X = clusters(N=40_000, apart=8.0).astype(dtype)
    batch = GaussianMixture(4, covariance_type=covariance_type, random_state=0, tol=1e-6, max_iter=500).fit(X)
    online = GaussianMixture(4, covariance_type=covariance_type, random_state=0)
    for block in np.array_split(X, 80):
        online.partial_fit(block)
    assert online.means_.dtype == dtype and online.n_features_in_ == 3
    assert online.score(X) > batch.score(X) - 0.01


def test_partial_fit_begins_with_a_step_and_goes_on_anywhere():
    X = clusters(N=4000)
    rng = np.random.default_rng(0)
    given = start(X, 3, "full", rng)
    one = GaussianMixture(**given).partial_fit(X)
    alike(one, GaussianMixture(max_iter=1, **given).fit(X), 1e-12)
    assert one.lower_bound_ == pytest.approx(GaussianMixture(max_iter=0, **given).fit(X).score(X))
    twin = pickle.loads(pickle.dumps(one))
    for mixture in (one, twin):
        mixture.partial_fit(X[:1], sample_weight=[2.0]).partial_fit(X[:500].astype("float32"))
    same(one, twin)
    assert one.means_.dtype == "float64" and one.n_iter_ == 3
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        one.partial_fit(X[:, :2])
    with pytest.raises(ValueError, match="at least one non-zero"):
        one.partial_fit(X, sample_weight=np.zeros(4000))
    same(one, twin)
    with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
        GaussianMixture(3).partial_fit(X[:2])


# ----------------------------------------------------------------------------------------------------- dying components


def with_an_outlier(covariance_type):
    """Three clusters, and a start that gives a component to one row alone."""
    rng = np.random.default_rng(0)
    centres = 6.0 * np.eye(3)
    X = np.concatenate([centres[rng.integers(3, size=900)] + rng.normal(size=(900, 3)), [[200.0] * 3]])
    given = start(X, 4, covariance_type, rng)
    given["means_init"] = np.concatenate([centres, X[-1:]])
    given["precisions_init"] = given["precisions_init"] * X.var()
    return X, given


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_component_of_one_row(covariance_type):
    X, given = with_an_outlier(covariance_type)
    mixture = GaussianMixture(max_iter=200, **given)
    kept = clone(mixture).fit(X)
    assert (kept.weights_ * len(X)).min() == pytest.approx(1)

    with pytest.warns(ConvergenceWarning, match="1 of 4 components lost their rows"):
        dropped = clone(mixture).set_params(on_empty="drop").fit(X)
    assert dropped.n_components == 4 and len(dropped.weights_) == len(dropped.means_) == 3
    assert dropped.weights_.sum() == pytest.approx(1)
    assert dropped.predict_proba(X).shape == (len(X), 3)
    three = sklearn.mixture.GaussianMixture(3, covariance_type=covariance_type).fit(X)
    assert dropped._n_parameters() == three._n_parameters()
    assert dropped.sample(10)[0].shape == (10, 3)

    split = clone(mixture).set_params(on_empty="split").fit(X)
    assert len(split.weights_) == 4
    assert (split.weights_ * len(X)).min() > 1.5 or split.n_iter_ == 200
    same(clone(split).fit(X), split)


@pytest.mark.parametrize("on_empty", ["error", "drop"])
def test_a_fit_that_goes_on_warns_of_what_it_drops_itself(on_empty):
    mixture = GaussianMixture(3, warm_start=True, on_empty=on_empty, max_iter=500, random_state=0).fit(clusters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture.set_params(n_components=5).fit(clusters())
    assert len(mixture.weights_) == 3
    X, given = with_an_outlier("full")
    mixture = GaussianMixture(warm_start=True, on_empty="drop", max_iter=200, **given)
    with pytest.warns(ConvergenceWarning, match="1 of 4 components lost their rows"):
        mixture.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture.fit(X)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_component_without_a_covariance(covariance_type):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(10.0, size=(200, 3)), rng.normal(-10.0, size=(200, 3)), np.zeros((100, 3))])
    mixture = GaussianMixture(3, covariance_type=covariance_type, reg_covar=0, random_state=0)
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        mixture.fit(X)
    assert len(clone(mixture).set_params(on_empty="drop").fit(X).weights_) == 2
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):  # nothing is left to split
        clone(mixture).set_params(on_empty="split").fit(np.zeros((10, 2)))


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_split_keeps_mean_and_variance(covariance_type):
    """A step whose component 1 has just lost its rows: the halves of component 0 have its moments."""
    X, _ = drawn(2000, [1.0], np.zeros((1, 2)), np.array([[[4.0, 1.0], [1.0, 1.0]]]), seed=0)
    far = {"full": np.tile(np.eye(2), (2, 1, 1)), "tied": np.eye(2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}
    given = {
        "weights_init": [0.5, 0.5],
        "means_init": [[0.0, 0.0], [1e3, 1e3]],
        "precisions_init": far[covariance_type],
    }
    mixture = GaussianMixture(2, covariance_type=covariance_type, on_empty="split", max_iter=1, **given).fit(X)
    one = GaussianMixture(1, covariance_type=covariance_type).fit(X)
    np.testing.assert_allclose(mixture.weights_, [0.5, 0.5])
    np.testing.assert_allclose(mixture.means_.mean(axis=0), one.means_[0], atol=1e-9)
    half = (mixture.means_[1] - mixture.means_[0]) / 2
    assert np.linalg.norm(half) > 0.5
    if covariance_type == "full":
        np.testing.assert_allclose(mixture.covariances_[0] + np.outer(half, half), one.covariances_[0], rtol=1e-9)
        axes = np.linalg.eigh(one.covariances_[0])[1]
        assert abs(axes[:, -1] @ half) == pytest.approx(np.linalg.norm(half))
    elif covariance_type == "diag":
        np.testing.assert_allclose(mixture.covariances_[0] + half**2, one.covariances_[0], rtol=1e-9)
    elif covariance_type == "spherical":
        np.testing.assert_allclose(mixture.covariances_[0] + half @ half / 2, one.covariances_[0], rtol=1e-9)
    assert not mixture.converged_


# --------------------------------------------------------------------------------------------------- while it is fitted


def test_relative_tolerance():
    X = 1e3 * clusters()  # log-likelihoods of about -20
    mixture = GaussianMixture(
        4, covariance_type="spherical", init_params="random", random_state=0, tol=1e-4, max_iter=500
    )
    loose = clone(mixture).set_params(tol_kind="relative").fit(X)
    bounds = np.array(clone(mixture).set_params(tol=1e-9).fit(X).lower_bounds_)
    small = np.abs(np.diff(bounds)) < 1e-4 * np.abs(bounds[1:])
    assert loose.converged_ and loose.n_iter_ == 2 + int(small.argmax()) < mixture.fit(X).n_iter_


def test_callback():
    X = clusters()
    seen = []
    mixture = GaussianMixture(3, n_init=2, random_state=0, callback=seen.append).fit(X)
    last = next(it for it in seen if it.lower_bound == mixture.lower_bound_)
    assert np.array_equal(last.means, mixture.means_) and last.n_iter == mixture.n_iter_
    for array in (last.weights, last.means, last.covariances):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert {it.init for it in seen} == {0, 1} and seen[0].change == np.inf
    assert seen[1].change == pytest.approx(seen[1].lower_bound - seen[0].lower_bound)
    same(GaussianMixture(3, n_init=2, random_state=0).fit(X), mixture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = GaussianMixture(3, n_init=5, tol=0, callback=lambda it: it.n_iter == 2, random_state=0).fit(X)
    assert (stopped.n_iter_, stopped.converged_) == (2, False)


def test_progress(capsys, monkeypatch):
    mixture = GaussianMixture(3, random_state=0, progress=True)
    mixture.fit(clusters())
    assert capsys.readouterr() == ("", "")  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    mixture.fit(clusters())
    shown = capsys.readouterr()
    assert shown.out == "" and "start 1 of 1, lower bound" in shown.err


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_failure_leaves_the_estimator_as_it_was(error):
    X = clusters()

    def fail(iteration):
        if iteration.n_iter == 2:
            raise error

    fresh = GaussianMixture(3, random_state=0, callback=fail)
    before = dict(vars(fresh))
    with pytest.raises(error):
        fresh.fit(X)
    assert vars(fresh) == before
    mixture = GaussianMixture(3, random_state=0).fit(X)
    twin = copy.deepcopy(mixture)
    mixture.set_params(callback=fail)
    for call in (mixture.fit, mixture.fit_predict, lambda X: mixture.fit_chunks(lambda: [X])):
        with pytest.raises(error):
            call(X[:, :2])
        same(mixture, twin)
        assert mixture.n_features_in_ == 3


def test_any_number_of_threads(threads):
    X = clusters(N=10_000)
    mixtures = []
    for n in (1, 2, 3):
        threads(n)
        mixtures.append(GaussianMixture(4, init_params="random_from_data", random_state=0).fit(X))
    if fastml.backend.find("gaussian_statistics").backend == "native":
        same(mixtures[0], mixtures[1])
        same(mixtures[0], mixtures[2])
    alike(mixtures[0], mixtures[2], 1e-9)


@pytest.mark.parametrize("init_params", ["random", "given"])
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_any_number_of_threads_of_wide_rows(threads, covariance_type, init_params):
    """Of so many features that NumPy's BLAS and LAPACK would share them out."""
    X = clusters(N=3000, D=128)
    given = start(X, 3, covariance_type, np.random.default_rng(0)) if init_params == "given" else {}
    mixture = GaussianMixture(3, covariance_type=covariance_type, max_iter=3, random_state=0).set_params(
        **given or {"init_params": "random"}
    )
    fits = (
        lambda: clone(mixture).fit(X),
        lambda: clone(mixture).fit_chunks(lambda: np.array_split(X, 4)),
        lambda: clone(mixture).partial_fit(X[:2000]).partial_fit(X[2000:]),
    )
    for fit in fits:
        found = []
        for n in (1, 2):
            threads(n)
            found.append(fit())
        if fastml.backend.find("gaussian_statistics").backend == "native":
            same(*found)
        alike(*found, 1e-9)
