"""`fastml.sklearn.MultinomialMixture`: an estimator among scikit-learn's, and what it does beyond them."""

import io
import pickle
import sysconfig
import tokenize
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastml
from fastml import mixture
from fastml.kernels.table import TILE
from fastml.mixture.multinomial import Multinomials
from fastml.sklearn import MultinomialIteration, MultinomialMixture

FAMILIES = ("multinomial",)
INITS = ("kmeans", "k-means++", "random_from_data", "random")
both_layouts = pytest.mark.parametrize("layout", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])

CLASSIFIER = "the check takes whatever has predict_proba for a classifier, and fails on the tags that it then lacks"


@parametrize_with_checks(
    [MultinomialMixture()],
    expected_failed_checks=lambda estimator: {
        "check_estimator_sparse_array": CLASSIFIER,
        "check_estimator_sparse_matrix": CLASSIFIER,
    },
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def topics(N=600, V=60, K=4, words=40, seed=0, concentration=0.1):
    """Rows of a known mixture: (X, its θ, the component of each row)."""
    rng = np.random.default_rng(seed)
    theta = rng.dirichlet(np.full(V, concentration), K)
    labels = rng.integers(K, size=N)
    lengths = rng.poisson(words, N)
    X = [rng.multinomial(n, theta[k]) for n, k in zip(lengths, labels, strict=True)]
    return np.array(X, float), theta, labels


def matched(theta, found):
    """The component of `found` nearest to each of `theta`."""
    return abs(theta[:, None] - found[None]).sum(axis=2).argmin(axis=1)


def equal(a, b):
    for name in ("weights_", "probabilities_"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    assert (a.lower_bounds_, a.lower_bound_, a.n_iter_, a.converged_) == (
        b.lower_bounds_, b.lower_bound_, b.n_iter_, b.converged_
    )  # fmt: skip


def log_prior(probabilities, alpha):
    return Multinomials(None, probabilities, "float64").log_prior(alpha)


# -------------------------------------------------------------------------------------------------------- what it finds


@both_layouts
def test_known_topics_are_found(column, layout):
    X, theta, labels = topics(2000)
    model = MultinomialMixture(4, alpha=0.1, n_init=3, random_state=0).fit(layout(X))
    order = matched(theta, model.probabilities_)
    assert sorted(order) == [0, 1, 2, 3] and model.converged_
    np.testing.assert_allclose(model.probabilities_[order], theta, atol=0.01)
    np.testing.assert_allclose(model.weights_[order], np.bincount(labels) / 2000, atol=0.01)
    assert (model.predict(layout(X)) == order[labels]).mean() > 0.99


@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("alpha", [0, 0.5, "each"])
@both_layouts
def test_the_bound_never_falls(init_params, alpha, layout):
    X, *_ = topics(300, concentration=1)
    alpha = np.linspace(0, 2, X.shape[1]) if alpha == "each" else alpha
    weight = np.random.default_rng(1).uniform(0, 2, len(X))
    model = MultinomialMixture(5, alpha=alpha, init_params=init_params, random_state=0, tol=1e-6, max_iter=500)
    model.fit(layout(X), sample_weight=weight)
    bounds = np.array(model.lower_bounds_)
    assert model.converged_ and len(bounds) == model.n_iter_ > 2 and model.lower_bound_ == bounds[-1]
    assert (np.diff(bounds) >= -1e-9 * abs(bounds[1:])).all()
    after = model.score(layout(X), sample_weight=weight) + log_prior(model.probabilities_, alpha) / weight.sum()
    assert bounds[-1] <= after + 1e-9 and after - bounds[-1] < 1e-5


def test_a_fit_is_a_chain_of_steps():
    X, *_ = topics()
    start = MultinomialMixture(3, max_iter=0, random_state=0).fit(X)
    model = MultinomialMixture(3, max_iter=4, tol=0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model.fit(X)
    theta = start.weights_, start.probabilities_
    for n in range(4):
        before = theta
        *theta, mean = mixture.multinomial_em_step(X, *theta)
        assert model.lower_bounds_[n] == pytest.approx(mean + log_prior(before[1], 1.0) / len(X), rel=1e-12)
    np.testing.assert_allclose(model.weights_, theta[0], rtol=1e-12)
    np.testing.assert_allclose(model.probabilities_, theta[1], rtol=1e-12)
    assert not model.converged_ and model.n_iter_ == 4 and start.n_iter_ == 0


def test_one_component_is_the_unigram_model():
    X, *_ = topics(50)
    for alpha in (0.0, 2.0):
        model = MultinomialMixture(alpha=alpha).fit(X)
        np.testing.assert_allclose(
            model.probabilities_[0], (X.sum(axis=0) + alpha) / (X.sum() + alpha * X.shape[1]), rtol=1e-12
        )
        assert model.weights_.tolist() == [1.0]


def test_starts_from_given_parameters():
    X, theta, _ = topics()
    given = {"weights_init": [0.1, 0.2, 0.3, 0.4], "probabilities_init": theta}
    model = MultinomialMixture(4, **given, max_iter=0).fit(X)
    assert model.weights_.tolist() == given["weights_init"] and np.array_equal(model.probabilities_, theta)
    model = MultinomialMixture(4, weights_init=given["weights_init"], max_iter=0, random_state=0).fit(X)
    assert model.weights_.tolist() == given["weights_init"] and (model.probabilities_ > 0).all()


def test_the_best_of_several_starts_is_kept():
    X, *_ = topics(300)
    state = np.random.RandomState(3)
    single = [MultinomialMixture(4, random_state=state, init_params="random_from_data").fit(X) for _ in range(4)]
    several = clone(single[0]).set_params(random_state=np.random.RandomState(3), n_init=4).fit(X)
    equal(several, max(single, key=lambda model: model.lower_bound_))


def test_warm_start():
    X, *_ = topics()
    model = MultinomialMixture(3, max_iter=2, tol=0, random_state=0, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        model.fit(X)
        first = list(model.lower_bounds_)
        model.fit(X)
    with pytest.warns(ConvergenceWarning):
        whole = MultinomialMixture(3, max_iter=4, tol=0, random_state=0).fit(X)
    np.testing.assert_allclose([*first, *model.lower_bounds_], whole.lower_bounds_, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^probabilities_: expected .* V = 3 \(from X\), got \(3, 60\)"):
        model.fit(X[:, :3])
    assert model.n_features_in_ == 60


def test_relative_tolerance():
    X, *_ = topics()
    absolute = MultinomialMixture(3, tol=1.0, random_state=0).fit(X)
    relative = MultinomialMixture(3, tol=1.0 / abs(absolute.lower_bound_), tol_kind="relative", random_state=0).fit(X)
    equal(absolute, relative)


def test_float32():
    X, *_ = topics(2000)
    model = MultinomialMixture(4, random_state=0).fit(X.astype("float32"))
    wide = MultinomialMixture(4, random_state=0).fit(X)
    assert {model.weights_.dtype, model.probabilities_.dtype, model.predict_proba(X[:3].astype("float32")).dtype} == {
        np.dtype("float32")
    }
    np.testing.assert_allclose(model.probabilities_, wide.probabilities_, atol=1e-5)
    assert abs(model.score(X) - wide.score(X)) < 1e-4


# ------------------------------------------------------------------------------------------------------ sample weights


@both_layouts
def test_weights_are_repetitions(layout):
    X, theta, _ = topics(100)
    times = np.arange(100) % 3
    given = {"probabilities_init": 0.9 * theta + 0.1 / 60, "tol": 1e-8, "max_iter": 500}
    weighted = MultinomialMixture(4, **given).fit(layout(X), sample_weight=times)
    repeated = MultinomialMixture(4, **given).fit(layout(X.repeat(times, axis=0)))
    np.testing.assert_allclose(weighted.probabilities_, repeated.probabilities_, rtol=1e-9, atol=1e-12)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-12)
    assert weighted.score(X, sample_weight=times) == pytest.approx(repeated.score(X.repeat(times, axis=0)), rel=1e-12)


@pytest.mark.parametrize("init_params", INITS)
def test_rows_of_no_weight_are_not_started_from(init_params):
    X, *_ = topics(60)
    X = np.vstack([X, np.full((40, 60), 7.0)])
    weight = np.repeat([1.0, 0.0], [60, 40])
    for seed in range(5):
        model = MultinomialMixture(20, alpha=0, init_params=init_params, max_iter=0, random_state=seed)
        model.fit(X, sample_weight=weight)
        unseen = X[:60].sum(axis=0) == 0
        assert unseen.any() and not model.probabilities_[:, unseen].any()


# ------------------------------------------------------------------------------------------ larger than memory, online


@pytest.mark.parametrize("init_params", INITS)
@both_layouts
def test_blocks_are_bitwise_the_whole(init_params, layout):
    X, *_ = topics(3 * TILE + 50, V=12, words=8)
    weight = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    settings = {"init_params": init_params, "init_size": 300, "random_state": 0, "tol": 0.01, "alpha": 0.3}
    X = layout(X)
    whole = MultinomialMixture(3, **settings).fit(X, sample_weight=weight)
    for cuts in ([0, TILE, 3 * TILE, 3 * TILE + 50], [0, 1000, 1001, 5000, 3 * TILE + 50]):
        blocks = [(X[a:b], weight[a:b]) for a, b in pairwise(cuts)]
        equal(whole, MultinomialMixture(3, **settings).fit_chunks(lambda blocks=blocks: iter(blocks)))


@both_layouts
def test_more_than_one_block_at_a_time(column, layout):
    X = layout(np.random.default_rng(0).poisson(2.0, (17 * TILE + 50, 4)).astype(float))
    settings = {"init_params": "random_from_data", "random_state": 0, "tol": 0.01}
    whole = MultinomialMixture(3, **settings).fit(X)
    cuts = range(0, X.shape[0] + 1000, 1000)
    parts = MultinomialMixture(3, **settings).fit_chunks(lambda: (X[a:b] for a, b in pairwise(cuts)))
    if column[0] == "reference":  # whose BLAS may have other bits
        np.testing.assert_allclose(parts.probabilities_, whole.probabilities_, rtol=1e-9)
    else:
        equal(whole, parts)


def test_blocks_that_change():
    X, *_ = topics(100)
    lengths = iter([100, 100, 100, 90])
    with pytest.raises(ValueError, match=r"^make_iterator: expected a fresh iterator of the same 100 rows"):
        MultinomialMixture(2, random_state=0).fit_chunks(lambda: [X[: next(lengths)]])
    with pytest.raises(ValueError, match=r"^make_iterator: expected at least one block of rows"):
        MultinomialMixture(2).fit_chunks(list)


@both_layouts
def test_blocks_without_rows(layout):
    X, *_ = topics(100)
    weight = np.linspace(0, 1, 100)
    cuts = (slice(0, 0), slice(0, 30), slice(0, 0), slice(30, None), slice(0, 0))
    X = layout(X)
    whole = MultinomialMixture(2, random_state=0).fit(X)
    equal(whole, clone(whole).fit_chunks(lambda: (X[rows] for rows in cuts)))
    whole.fit(X, sample_weight=weight)
    equal(whole, clone(whole).fit_chunks(lambda: ((X[rows], weight[rows]) for rows in cuts)))


def test_blocks_that_do_not_fit():
    X, *_ = topics(100)
    with pytest.raises(
        TypeError, match=r"^make_iterator: expected a callable that returns an iterator, got one that returns None"
    ):
        MultinomialMixture(2).fit_chunks(lambda: None)
    for first, second in (("dense", "sparse"), ("sparse", "dense")):
        blocks = {"dense": X, "sparse": sparse.csr_array(X)}
        with pytest.raises(
            ValueError, match=rf"^make_iterator: expected {first} blocks as the first one, got a {second}"
        ):
            MultinomialMixture(2).fit_chunks(lambda blocks=blocks, order=(first, second): [blocks[o] for o in order])
    with pytest.raises(ValueError, match=r"Negative values in data passed to .*MultinomialMixture"):
        MultinomialMixture(2).fit_chunks(lambda: [X[:0], -X])


def test_memory_does_not_grow_with_components_times_rows():
    N, K = 60 * TILE, 40
    X = np.random.default_rng(0).poisson(2, (N, 3)).astype(float)
    model = MultinomialMixture(K, init_params="random_from_data", max_iter=2, tol=1e9)
    with fastml.use("reference"):  # whose arrays tracemalloc sees
        tracemalloc.start()
        model.fit(X)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 0.25 * N * K * 8


@both_layouts
def test_partial_fit_comes_near_the_batch_answer(layout):
    X, theta, _ = topics(6000)
    start = {"probabilities_init": 0.5 * theta + 0.5 * theta.mean(axis=0)}
    batch = MultinomialMixture(4, alpha=0.1, **start).fit(layout(X))
    online = MultinomialMixture(4, alpha=0.1, **start)
    for rows in np.array_split(np.arange(6000), 60):
        online.partial_fit(layout(X[rows]))
    assert online.n_iter_ == len(online.lower_bounds_) == 60 and not online.converged_
    np.testing.assert_allclose(online.probabilities_, batch.probabilities_, atol=0.015)
    assert batch.score(layout(X)) - online.score(layout(X)) < 0.05


def test_partial_fit_with_decay_1_is_the_mean():
    """Of one component, all blocks count as much: counts are sums."""
    X, *_ = topics(90)
    online = MultinomialMixture(alpha=0.5, decay=1.0)
    for rows in np.split(X, 3):
        online.partial_fit(rows)
    np.testing.assert_allclose(online.probabilities_, MultinomialMixture(alpha=0.5).fit(X).probabilities_, rtol=1e-12)


def test_partial_fit_goes_on_from_a_fit_and_through_pickles():
    X, *_ = topics(400)
    model = MultinomialMixture(3, random_state=0).fit(X[:200])
    n_iter, again = model.n_iter_, pickle.loads(pickle.dumps(model))
    for one in (model, again):
        one.partial_fit(X[200:300]).partial_fit(X[300:])
    equal(model, again)
    assert model.n_iter_ == n_iter + 2
    narrow = MultinomialMixture(2, random_state=0).partial_fit(X.astype("float32")).partial_fit(X)
    assert narrow.probabilities_.dtype == "float32"
    with pytest.raises(ValueError, match=r"X has 3 features, but MultinomialMixture is expecting 60 features"):
        model.partial_fit(X[:, :3])
    with pytest.raises(ValueError, match=r"^Expected n_samples >= n_components .* = 9, n_samples = 4"):
        MultinomialMixture(9).partial_fit(X[:4])


# ------------------------------------------------------------------------------------------------- what it says of rows


@both_layouts
def test_predictions_are_the_functions(column, layout):
    X, *_ = topics()
    model = MultinomialMixture(3, alpha=0.2, random_state=0).fit(layout(X))
    rows = layout(X[:50])
    resp, likelihood = mixture.multinomial_responsibilities(X[:50], model.weights_, model.probabilities_)
    np.testing.assert_allclose(model.predict_proba(rows), resp, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.score_samples(rows), likelihood, rtol=1e-12)
    assert model.predict(rows).tolist() == resp.argmax(axis=1).tolist()
    assert model.score(rows) == pytest.approx(likelihood.mean(), rel=1e-12)
    parameters = 2 + 3 * 59
    assert model.bic(rows) == pytest.approx(-2 * likelihood.sum() + parameters * np.log(50), rel=1e-12)
    assert model.aic(rows) == pytest.approx(-2 * likelihood.sum() + parameters * 2, rel=1e-12)
    fresh = clone(model)
    assert fresh.fit_predict(layout(X)).tolist() == model.predict(layout(X)).tolist()


def test_perplexity():
    uniform = MultinomialMixture(alpha=0).fit(np.ones((3, 7)))
    assert uniform.perplexity([[5, 0, 0, 1, 0, 0, 0], [0] * 7]) == pytest.approx(7, rel=1e-12)
    skewed = MultinomialMixture(alpha=0).fit([[3, 1, 0]])
    assert skewed.perplexity([[3, 1, 0]]) == pytest.approx(np.exp(-(3 * np.log(0.75) + np.log(0.25)) / 4), rel=1e-12)
    assert skewed.perplexity([[0, 0, 1]]) == np.inf
    with pytest.raises(ValueError, match=r"^X: expected at least one word, got none"):
        skewed.perplexity([[0, 0, 0]])


def test_impossible_rows():
    model = MultinomialMixture(2, alpha=0, random_state=0).fit([[3, 0, 0], [0, 3, 0], [4, 0, 0]])
    X = [[1, 0, 1], [1, 0, 0]]
    assert model.score_samples(X)[0] == -np.inf == model.score(X) and np.isfinite(model.score_samples(X)[1])
    assert np.isfinite(model.predict_proba(X)).all() and model.aic(X) == np.inf
    assert np.isfinite(model.score(X, sample_weight=[0, 1]))


def test_rows_without_words():
    model = MultinomialMixture(2, random_state=0).fit([[0, 0], [0, 0], [1, 0], [0, 0]])
    np.testing.assert_allclose(model.predict_proba([[0, 0]])[0], model.weights_, rtol=1e-12)
    nothing = MultinomialMixture(2, alpha=0, init_params="random", random_state=0).fit(np.zeros((4, 3)))
    assert nothing.probabilities_.tolist() == [[1 / 3] * 3] * 2 and nothing.lower_bound_ == pytest.approx(0, abs=1e-12)


def test_sample():
    X, *_ = topics(2000)
    model = MultinomialMixture(4, random_state=0).fit(X)
    rows, labels = model.sample(3000, length=30)
    assert rows.shape == (3000, 60) and rows.dtype == np.int64 and (rows.sum(axis=1) == 30).all()
    assert (np.diff(labels) >= 0).all()
    np.testing.assert_allclose(np.bincount(labels) / 3000, model.weights_, atol=0.05)
    for k in range(4):
        np.testing.assert_allclose(rows[labels == k].mean(axis=0) / 30, model.probabilities_[k], atol=0.02)
    assert model.sample(3, length=[0, 1, 5])[0].sum(axis=1).tolist() == [0, 1, 5]
    np.testing.assert_array_equal(model.sample(5)[0], model.sample(5)[0])
    for arguments, message in (
        ({"n_samples": 0}, "n_samples: expected an integer of at least 1, got 0"),
        ({"n_samples": 2, "length": -1}, "length: expected integers of at least 0, got -1"),
        ({"n_samples": 2, "length": [1, 2, 3]}, "length: expected an integer, or shape"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            model.sample(**arguments)


# ------------------------------------------------------------------------------------------------------- the estimator


def test_sparse_formats():
    X, *_ = topics(100)
    want = MultinomialMixture(3, random_state=0).fit(sparse.csr_matrix(X))
    for kind in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_matrix):
        equal(MultinomialMixture(3, random_state=0).fit(kind(X)), want)
    wide = sparse.csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype("int64"), wide.indptr.astype("int64")
    equal(MultinomialMixture(3, random_state=0).fit(wide), want)


@pytest.mark.parametrize("init_params", INITS)
def test_words_twice_in_a_row(init_params):
    """A start sees their sum: normalised apart, they would make the row longer than 1."""
    X, *_ = topics(100)
    counts = sparse.csr_array(X)
    some, rest = np.ceil(counts.data / 3), counts.data - np.ceil(counts.data / 3)
    twice = sparse.csr_array(
        (np.stack([some, rest], 1).ravel(), np.repeat(counts.indices, 2), 2 * counts.indptr), counts.shape
    )
    before = twice.copy()
    settings = {"init_params": init_params, "random_state": 0}
    want = MultinomialMixture(3, max_iter=0, **settings).fit(counts)
    equal(MultinomialMixture(3, max_iter=0, **settings).fit(twice), want)
    equal(MultinomialMixture(3, max_iter=0, **settings).fit_chunks(lambda: [twice[:40], twice[40:]]), want)
    equal(MultinomialMixture(3, **settings).fit(twice), MultinomialMixture(3, **settings).fit(counts))
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(before, name))


def test_parameters_are_scikit_learns():
    model = MultinomialMixture(3, alpha=0.2, decay=0.7)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_components=2).n_components == 2
    X, *_ = topics(60)
    search = GridSearchCV(MultinomialMixture(random_state=0), {"n_components": [1, 4]}).fit(X)
    assert search.best_params_ == {"n_components": 4}
    texts = ["red red blue", "blue red red", "one two three", "three two two"]
    labels = make_pipeline(CountVectorizer(), MultinomialMixture(2, random_state=0)).fit_predict(texts)
    assert labels[0] == labels[1] != labels[2] == labels[3]
    with pytest.raises(NotFittedError):
        MultinomialMixture().predict(X)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_components": 0}, "The 'n_components' parameter of MultinomialMixture must be"),
        ({"alpha": -1.0}, "The 'alpha' parameter of MultinomialMixture must be"),
        ({"alpha": [1.0, -1.0, 1.0]}, "alpha: expected finite numbers of at least 0"),
        ({"alpha": [1.0, 1.0]}, r"alpha: expected a number, or shape \(V,\) = \(3,\), got \(2,\)"),
        ({"init_params": "best"}, "The 'init_params' parameter of MultinomialMixture must be"),
        ({"decay": 0.5}, "The 'decay' parameter of MultinomialMixture must be"),
        ({"callback": 3}, "The 'callback' parameter of MultinomialMixture must be"),
        ({"n_components": 5}, "Expected n_samples >= n_components but got n_components = 5, n_samples = 4"),
        ({"weights_init": [0.5, 0.5]}, r"weights_init: .* K = 1 \(from n_components\), got \(2,\)"),
        ({"weights_init": [0.5]}, "weights_init: expected numbers of at least 0 that sum to 1, got a sum of 0.5"),
        ({"probabilities_init": [[1.0]]}, r"probabilities_init: .* V = 3 \(from X\), got \(1, 1\)"),
        ({"probabilities_init": [[0.5, 0.6, -0.1]]}, "probabilities_init: .* a least of -0.1 in row 0"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        MultinomialMixture(**parameters).fit(np.ones((4, 3)))


@both_layouts
def test_rows_that_do_not_fit(layout):
    X, *_ = topics(50)
    model = MultinomialMixture(2, random_state=0).fit(layout(X))
    before = pickle.dumps(model)
    for wrong, message in (
        (np.where(X > 0, -1.0, 0), "Negative values in data passed to .*MultinomialMixture"),
        (np.where(X > 0, np.nan, 0), "Input X contains NaN"),
        (np.where(X > 0, np.inf, 0), "Input X contains infinity"),
        (X[:1], "Expected n_samples >= n_components but got n_components = 2, n_samples = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(layout(wrong))
    for weight, message in (
        (np.zeros(50), "at least one non-zero"),
        (np.full(50, -1.0), "Negative values in data passed to `sample_weight`"),
        (np.ones(49), "sample_weight.shape ==|inconsistent numbers of samples"),
        (np.eye(50)[0], "Expected n_samples >= n_components but got n_components = 2, n_samples = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(layout(X), sample_weight=weight)
    assert pickle.dumps(model) == before


def test_callback_sees_and_stops():
    X, *_ = topics(200)
    seen = []

    def callback(iteration):
        seen.append(iteration)
        return iteration.n_iter == 2

    model = MultinomialMixture(3, tol=0, n_init=3, random_state=0, callback=callback).fit(X)
    assert [(i.init, i.n_iter) for i in seen] == [(0, 1), (0, 2)] and not model.converged_
    assert isinstance(seen[0], MultinomialIteration) and seen[0].change == np.inf
    assert [i.lower_bound for i in seen] == model.lower_bounds_
    assert seen[1].change == model.lower_bounds_[1] - model.lower_bounds_[0]
    np.testing.assert_array_equal(seen[1].probabilities, model.probabilities_)
    np.testing.assert_array_equal(seen[1].weights, model.weights_)
    for array in (seen[1].weights, seen[1].probabilities):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_ctrl_c_leaves_the_estimator_as_it_was():
    X, *_ = topics(200)

    def interrupt(iteration):
        if iteration.n_iter == 2:
            raise KeyboardInterrupt

    model = MultinomialMixture(3, random_state=0).fit(X)
    before = pickle.dumps(clone(model).fit(X).__dict__)
    model.set_params(callback=interrupt, tol=0)
    for call in (lambda: model.fit(X[:, :7]), lambda: model.fit_chunks(lambda: [X[:, :7]])):
        with pytest.raises(KeyboardInterrupt):
            call()
    model.set_params(callback=None, tol=1e-3)
    assert pickle.dumps(model.__dict__) == before


def test_verbose_and_progress(capsys):
    X, *_ = topics(200)
    MultinomialMixture(3, verbose=1, verbose_interval=1, random_state=0).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Initialization 0", "  Iteration 1"] and lines[-1] == "Initialization converged."
    MultinomialMixture(3, verbose=2, verbose_interval=1, random_state=0).fit(X)
    out = capsys.readouterr().out
    assert "ll change" in out and "lower bound" in out
    MultinomialMixture(3, progress=True, random_state=0).fit(X)
    found = capsys.readouterr()
    assert found.out == "" and found.err.strip() == ""  # no terminal


def test_names_of_features():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[1, 0], [0, 2]], columns=["cat", "dog"])
    model = MultinomialMixture(2, random_state=0).fit(frame)
    assert model.feature_names_in_.tolist() == ["cat", "dog"] and model.n_features_in_ == 2


# ------------------------------------------------------------------------------------------------------------ real text


@pytest.fixture(scope="module")
def sources():
    """Words of the standard library's top-level sources: comments apart from names."""
    texts, kinds = [], []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]:
        found = {"comment": [], "name": []}
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(io.StringIO(file.read()).readline):
                if token.type == tokenize.COMMENT:
                    found["comment"] += token.string.lower().split()
                elif token.type == tokenize.NAME:
                    found["name"].append(token.string.lower())
        for kind, words in found.items():
            if len(words) >= 30:
                texts.append(words)
                kinds.append(kind)
    if len(texts) < 40:
        pytest.skip("no sources of the standard library here")
    return texts, np.array(kinds)


def test_comments_and_names_of_the_standard_library(column, sources):
    texts, kinds = sources
    X = CountVectorizer(analyzer=lambda words: words).fit_transform(texts)
    model = MultinomialMixture(2, alpha=0.1, n_init=3, random_state=0).fit(X)
    labels = model.predict(X)
    purity = sum(Counter(labels[kinds == kind]).most_common(1)[0][1] for kind in ("comment", "name")) / len(labels)
    assert purity > 0.9
    single = MultinomialMixture(alpha=0.1).fit(X)
    assert 1 < model.perplexity(X) < single.perplexity(X) < X.shape[1] and model.bic(X) < single.bic(X)
    np.testing.assert_allclose(model.score_samples(X), model.score_samples(X.toarray()), rtol=1e-9)
