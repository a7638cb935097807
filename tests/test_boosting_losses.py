"""The multiclass exponential loss, its derivatives, and the objective that libraries of gradient boosting take."""

import math
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from compare import close

from fastml import boosting

FAMILIES = ("exponential",)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draw(N=30, K=4, dtype="float64", size=1.0, seed=0):
    rng = np.random.default_rng([seed, N, K])
    return size * rng.normal(size=(N, K)).astype(dtype), rng.integers(K, size=N), rng.uniform(0.1, 2, N).astype(dtype)


@both_dtypes
@pytest.mark.parametrize("K", [2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_oracle(column, dtype, K, weighted):
    for N in (0, 1, 40):
        g, y, w = draw(N, K, dtype)
        if N > 1:
            w[3] = 0
        given = {"sample_weight": w} if weighted else {}
        weights = w.tolist() if weighted else [1.0] * N
        most, total, gradient, hessian = oracle.exponential(g.tolist(), y.tolist(), weights)
        loss = math.exp(most) * total if N else 0.0
        assert boosting.exponential_loss(g, y, **given) == pytest.approx(loss, rel=TOLERANCE[dtype])
        log = boosting.log_exponential_loss(g, y, **given)
        assert log == (pytest.approx(most + math.log(total), abs=TOLERANCE[dtype]) if N else -math.inf)
        for function, want in ((boosting.exponential_gradient, gradient), (boosting.exponential_hessian, hessian)):
            want = np.reshape(want, (N, K))
            close(function(g, y, **given), want, tolerance=TOLERANCE[dtype], dtype=dtype)
            scale = 1 if not N else math.exp(most)
            close(function(g, y, **given, normalised=True), want / scale, tolerance=TOLERANCE[dtype], dtype=dtype)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_derivatives_by_central_differences(column, K):
    """Fourth-order, of the loss for the gradient, and of the gradient for the Hessian."""
    (g, y, w), h = draw(5, K), 1e-3
    gradient = boosting.exponential_gradient(g, y, sample_weight=w)
    hessian = boosting.exponential_hessian(g, y, sample_weight=w)

    def difference(function, i, k):
        def at(steps):
            moved = g.copy()
            moved[i, k] += steps * h
            return function(moved)

        return (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * h)

    for i in range(5):
        for k in range(K):
            slope = difference(lambda g: boosting.exponential_loss(g, y, sample_weight=w), i, k)
            assert gradient[i, k] == pytest.approx(slope, abs=1e-8 * abs(gradient).max())
            bend = difference(lambda g, i=i, k=k: boosting.exponential_gradient(g, y, sample_weight=w)[i, k], i, k)
            assert hessian[i, k] == pytest.approx(bend, abs=1e-8 * hessian.max())


def test_two_classes_are_the_binary_loss(column):
    f, y = np.random.default_rng(0).normal(size=50), np.arange(50) % 2
    want = np.exp(-(2 * y - 1) * f).sum()
    assert boosting.exponential_loss(np.stack([-f, f], axis=1) / 2, y) == pytest.approx(want, rel=1e-14)


@both_dtypes
def test_scores_that_overflow(column, dtype):
    """The loss is inf, its logarithm is not; normalised steps of Newton are those of the plain derivatives."""
    size = {"float32": 200, "float64": 2000}[dtype]
    g, y = np.array([[size, -size, 0], [0, size, 0], [1, 2, 3]], dtype), np.array([1, 1, 0])
    assert boosting.exponential_loss(g, y) == (math.inf if dtype == "float64" else pytest.approx(math.exp(300)))
    assert boosting.log_exponential_loss(g, y) == 1.5 * size
    gradient = boosting.exponential_gradient(g, y, normalised=True)
    assert gradient[0].tolist() == [0.5, -1, 0.5] and not gradient[1:].any()
    assert boosting.exponential_hessian(g, y, normalised=True)[0].tolist() == [0.25, 1, 0.25]
    assert np.isinf(boosting.exponential_gradient(g, y)[0]).all()
    assert not boosting.exponential_gradient(g, y)[1].any()
    most = np.finfo(dtype).max / 2
    extreme = np.array([[-most, most, most, most, most]], dtype)
    assert boosting.log_exponential_loss(extreme, [0]) == pytest.approx(2 * most, rel=1e-6)
    assert boosting.log_exponential_loss(-extreme, [0]) == pytest.approx(-2 * most, rel=1e-6)
    assert boosting.exponential_loss(-extreme, [0]) == 0

    g, y, w = draw(30, 3, dtype)
    plain = boosting.exponential_gradient(g, y, sample_weight=w) / boosting.exponential_hessian(g, y, sample_weight=w)
    steps = boosting.exponential_gradient(g, y, sample_weight=w, normalised=True)
    steps /= boosting.exponential_hessian(g, y, sample_weight=w, normalised=True)
    np.testing.assert_allclose(steps, plain, rtol=1e-5 if dtype == "float32" else 1e-14)


def test_losses_that_only_a_small_weight_keeps_finite(column):
    assert boosting.exponential_loss([[-720.0, 0.0]], [0], sample_weight=[1e-300]) == pytest.approx(
        math.exp(720 - 300 * math.log(10)), rel=1e-11
    )


def test_rows_of_weight_0_do_not_count(column):
    g, y, w = draw(20, 3)
    want = boosting.log_exponential_loss(g[1:], y[1:], sample_weight=w[1:])
    for value in (np.inf, -np.inf, np.nan, 1e308):
        g[0], w[0] = 0, 0
        g[0, y[0]] = value
        assert boosting.log_exponential_loss(g, y, sample_weight=w) == pytest.approx(want, rel=1e-13)
        for normalised in (False, True):
            gradient = boosting.exponential_gradient(g, y, sample_weight=w, normalised=normalised)
            assert not gradient[0].any() and np.isfinite(gradient).all()


def test_nan_stays_in_its_row(column):
    g, y, _ = draw(20, 3)
    want = boosting.exponential_gradient(g, y)
    g[7, 1] = np.nan
    assert math.isnan(boosting.exponential_loss(g, y)) and math.isnan(boosting.log_exponential_loss(g, y))
    found = boosting.exponential_gradient(g, y)
    assert np.isnan(found[7]).all()
    assert np.delete(found, 7, axis=0).tobytes() == np.delete(want, 7, axis=0).tobytes()


def test_arrays_of_any_layout(column):
    g, y, w = draw(12, 3)
    want = boosting.exponential_gradient(g, y, sample_weight=w)
    frozen = g.copy()
    frozen.flags.writeable = False
    for scores in (np.asfortranarray(g), frozen, g.astype(">f8"), np.repeat(g, 2, axis=0)[::2], g.tolist()):
        for labels in (y.astype("uint8"), y.tolist(), np.repeat(y, 2)[::2]):
            assert boosting.exponential_gradient(scores, labels, sample_weight=w).tobytes() == want.tobytes()


G, Y = np.zeros((4, 3)), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"scores": None}, TypeError, "scores: expected an array, got None"),
        ({"scores": G.astype("float16")}, TypeError, "scores: expected float32 or float64, got float16"),
        ({"scores": G[0]}, ValueError, r"scores: expected shape \(N, K\), got \(3,\)"),
        ({"scores": G[:, :1]}, ValueError, "scores: expected K of at least 2, got 1"),
        ({"y": Y[:3]}, ValueError, r"y: expected shape \(N,\) with N = 4 \(from scores\), got \(3,\)"),
        ({"y": Y + 1}, ValueError, r"y: expected 0 ≤ class < K = 3 \(from scores\), got 3 at index 2"),
        ({"y": Y - 1}, ValueError, r"y: expected 0 ≤ class < K = 3 \(from scores\), got -1 at index 0"),
        ({"y": Y * 1.0}, TypeError, "y: expected integers, got float64"),
        ({"y": None}, TypeError, "y: expected integers, got object"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight: expected shape \(N,\) with N = 4 \(from scores\)"),
        ({"sample_weight": -np.ones(4)}, ValueError, "sample_weight: expected finite numbers of at least 0, got -1.0"),
        ({"sample_weight": np.ones(4, "float32")}, TypeError, "sample_weight: expected float64 as scores, got float32"),
    ],
)
def test_errors(changes, error, message):
    for function in (
        boosting.exponential_loss,
        boosting.log_exponential_loss,
        boosting.exponential_gradient,
        boosting.exponential_hessian,
    ):
        with pytest.raises(error, match=f"^{message}"):
            function(**{"scores": G, "y": Y, **changes})
    with pytest.raises(TypeError, match=r"^normalised: expected True or False, got 1"):
        boosting.exponential_gradient(G, Y, normalised=1)


# -------------------------------------------------------------------------------------------------- a custom objective


def rows(y, weight=None):
    return SimpleNamespace(get_label=lambda: y, get_weight=lambda: weight)


@pytest.mark.parametrize("K", [2, 4])
def test_objective_is_the_logarithm_of_the_loss(column, K):
    (g, y, w), h = draw(6, K), 1e-3
    gradient, hessian = boosting.custom_objective(K)(g, rows(y.astype("float32"), w.astype("float32")))
    w = w.astype("float32").astype("float64")
    loss = boosting.exponential_loss(g, y, sample_weight=w)
    np.testing.assert_allclose(hessian, 6 / loss * boosting.exponential_hessian(g, y, sample_weight=w), rtol=1e-13)
    for i in range(6):
        for k in range(K):

            def at(steps, i=i, k=k):
                moved = g.copy()
                moved[i, k] += steps * h
                return 6 * boosting.log_exponential_loss(moved, y, sample_weight=w)

            slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * h)
            assert gradient[i, k] == pytest.approx(slope, abs=1e-8 * abs(gradient).max())


def test_objective_of_any_scores():
    objective = boosting.custom_objective(3)
    for size in (1e-30, 1, 1e4, 1e30):
        g, y, _ = draw(50, 3, "float32", size)
        gradient, hessian = objective(g, rows(y))
        assert gradient.dtype == hessian.dtype == "float32"
        assert np.isfinite(gradient).all() and np.isfinite(hessian).all()
        assert -gradient[np.arange(50), y].sum() == pytest.approx(50, rel=1e-5)  # of each row, its share of the loss


def test_errors_of_the_objective():
    with pytest.raises(ValueError, match=r"^n_classes: expected an integer of at least 2, got 1"):
        boosting.custom_objective(1)
    objective = boosting.custom_objective(3)
    for scores in (np.zeros(12), np.zeros((4, 2))):
        with pytest.raises(ValueError, match=r"^scores: expected shape \(N, K\) with K = 3 \(from n_classes\), got"):
            objective(scores, rows(Y))
    with pytest.raises(ValueError, match=r"^y: expected classes 0 to 2, got 0.5"):
        objective(G, rows(Y + 0.5))
    with pytest.raises(ValueError, match=r"^y: expected 0 ≤ class < K = 3"):
        objective(G, rows(Y + 1.0))


def digits(name):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order].astype("float32"), y[order]
    test = len(y) // 4
    return (X[test:], y[test:]), (X[:test], y[:test])


def by_xgboost(K, train, rounds):
    xgboost = pytest.importorskip("xgboost")
    booster = xgboost.train(
        {"num_class": K, "max_depth": 4, "eta": 0.2, "nthread": 1, "disable_default_eval_metric": 1, "base_score": 0.0},
        xgboost.DMatrix(*train),
        rounds,
        obj=boosting.custom_objective(K),
    )
    return lambda X, n: booster.predict(xgboost.DMatrix(X), output_margin=True, iteration_range=(0, n))


def by_lightgbm(K, train, rounds):
    lightgbm = pytest.importorskip("lightgbm")
    booster = lightgbm.train(
        {"objective": boosting.custom_objective(K), "num_class": K, "max_depth": 4, "learning_rate": 0.2,
         "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5},
        lightgbm.Dataset(*train),
        rounds,
    )  # fmt: skip
    return lambda X, n: booster.predict(X, raw_score=True, num_iteration=n)


@pytest.mark.filterwarnings("ignore")  # of the libraries' own
@pytest.mark.parametrize("library", [by_xgboost, by_lightgbm])
@pytest.mark.parametrize("name, K, least", [("digits", 10, 0.9), ("wine", 3, 0.9), ("breast_cancer", 2, 0.93)])
def test_libraries_learn_by_it(library, name, K, least):
    train, (X, y) = digits(name)
    scores = library(K, train, 20)
    losses = [boosting.log_exponential_loss(scores(train[0], n).astype("float64"), train[1]) for n in (1, 5, 10, 20)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 1
    assert (scores(X, 20).argmax(axis=1) == y).mean() >= least
