"""Boosting of trees: what the rounds are, against plain NumPy, and what holds after ten thousand of them."""

import warnings
from itertools import islice

import numpy as np
import pytest

from fastml.boosting import Ensemble, Learner, decision, encode, fit_stumps, fit_trees, staged_decision
from fastml.boosting.ensemble import ALGORITHMS, Reweighed, WorseThanRandom, _kept, regrown, rounds

FAMILIES = ("tree",)


def problem(K=3, N=300, D=3, seed=0, noise=0.2, dtype="float64"):
    """Continuous features, classes that stumps alone cannot tell apart, some of them wrong."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(N, D)).astype(dtype)
    score = X[:, 0] + X[:, 1] ** 2 - X[:, 0] * X[:, -1]
    y = np.searchsorted(np.quantile(score, np.linspace(0, 1, K + 1)[1:-1]), score)
    wrong = random.random(N) < noise
    y[wrong] = random.integers(0, K, wrong.sum())
    return X, y


def same(one, other):
    """Bitwise."""
    for name in ("leaf_value", "alpha", "errors", "losses"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("feature", "threshold", "missing_left", "value", "count"):
        assert np.array_equal(getattr(one.trees, name), getattr(other.trees, name)), name


def codes_of(y, K):
    return np.where(y[:, None] == np.arange(K), 1.0, -1 / (K - 1))


def exponential_loss(F, y):
    K = F.shape[1]
    return np.exp(-(F * codes_of(y, K)).sum(axis=1) / K)


# ------------------------------------------------------------------------------------------------------------- rounds


@pytest.mark.parametrize("K", [2, 3, 5])
@pytest.mark.parametrize("learning_rate", [1.0, 0.3])
def test_samme_by_its_equations(K, learning_rate):
    """Weights from the scores so far, not from round to round; errors and alpha from the trees' own predictions."""
    X, y = problem(K)
    ensemble = fit_trees(X, y, 20, 2, learning_rate=learning_rate)
    assert len(ensemble) == 20 and len(ensemble.trees) == 20
    leaf = ensemble.trees.apply(X)
    scores = np.zeros((len(X), K))
    for t in range(20):
        wrong_by = scores.sum(axis=1) - scores[np.arange(len(X)), y]
        w = np.exp(wrong_by - wrong_by.max())
        predicted = ensemble.column[t, leaf[t]]
        error = (w * (predicted != y)).sum() / w.sum()
        alpha = learning_rate * (np.log((1 - error) / error) + np.log(K - 1))
        assert ensemble.errors[t] == pytest.approx(error, rel=1e-11)
        assert ensemble.alpha[t] == pytest.approx(alpha, rel=1e-11)
        np.testing.assert_allclose(ensemble.trees.value[t, 0], np.bincount(y, w) / w.sum(), rtol=1e-11)
        scores[np.arange(len(X)), predicted] += alpha
        F = (K - 1) / K * scores
        margin = F[np.arange(len(X)), y] - (F.sum(axis=1) - F[np.arange(len(X)), y]) / (K - 1)
        assert ensemble.losses[t] == pytest.approx(np.exp(-margin).mean(), rel=1e-11)
    np.testing.assert_allclose(decision(X, ensemble), scores, rtol=1e-12)


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("max_depth", [1, 3])
def test_samme_r_by_its_equations(K, max_depth):
    X, y = problem(K)
    ensemble = fit_trees(X, y, 10, max_depth, algorithm="SAMME.R", learning_rate=0.5)
    leaf = ensemble.trees.apply(X)
    F = np.zeros((len(X), K))
    for t in range(10):
        w = exponential_loss(F, y)
        for here in np.unique(leaf[t]):
            p = np.array([w[(leaf[t] == here) & (y == k)].sum() for k in range(K)]) / w[leaf[t] == here].sum()
            log_p = np.log(np.maximum(p, np.finfo(float).eps))
            F[leaf[t] == here] += 0.5 * (K - 1) * (log_p - log_p.mean())
        assert ensemble.losses[t] == pytest.approx(exponential_loss(F, y).mean(), rel=1e-9)
    np.testing.assert_allclose(decision(X, ensemble), F, rtol=1e-9, atol=1e-9)


def regression(X, target, weight, max_depth):
    tree = pytest.importorskip("sklearn.tree").DecisionTreeRegressor(max_depth=max_depth, random_state=0)
    return tree.fit(X, target, sample_weight=weight).predict(X)


@pytest.mark.parametrize("K", [2, 3, 4])
@pytest.mark.parametrize("max_depth", [1, 2])
def test_gentle_by_its_equations(K, max_depth):
    """With scikit-learn's regression trees."""
    X, y = problem(K, dtype="float32")
    ensemble = fit_trees(X, y, 12, max_depth, algorithm="gentle", learning_rate=0.7)
    assert len(ensemble.trees) == 12 * (1 if K == 2 else K)
    codes = codes_of(y, K)
    F = np.zeros((len(X), K))
    for t in range(12):
        w = exponential_loss(F, y)
        step = np.stack([regression(X, codes[:, k], w, max_depth) for k in range(K)], axis=1)
        F += 0.7 * (K - 1) * step
        assert ensemble.losses[t] == pytest.approx(exponential_loss(F, y).mean(), rel=1e-9)
        assert ensemble.errors[t] == pytest.approx((F.argmax(axis=1) != y).mean())
    np.testing.assert_allclose(decision(X, ensemble), F, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("K", [2, 3, 4])
@pytest.mark.parametrize("max_depth", [1, 2])
def test_logit_by_its_equations(K, max_depth):
    """Friedman, Hastie and Tibshirani, algorithms 3 and 6, with scikit-learn's regression trees."""
    X, y = problem(K, dtype="float32")
    ensemble = fit_trees(X, y, 10, max_depth, algorithm="logit")
    own = y[:, None] == np.arange(K)
    F = np.zeros((len(X), K))
    for t in range(10):
        p = np.exp(F) / np.exp(F).sum(axis=1, keepdims=True)
        w = np.maximum(p * (1 - p), 2 * np.finfo(float).eps)
        z = np.clip((own - p) / w, -4, 4)
        if K == 2:
            f = regression(X, z[:, 1], w[:, 1], max_depth) / 2
            F += np.stack([-f, f], axis=1)
        else:
            f = np.stack([regression(X, z[:, k], w[:, k], max_depth) for k in range(K)], axis=1)
            F += (K - 1) / K * (f - f.mean(axis=1, keepdims=True))
        log_p = F - np.log(np.exp(F).sum(axis=1, keepdims=True))
        assert ensemble.losses[t] == pytest.approx(-log_p[own].mean(), rel=1e-9)
        assert ensemble.errors[t] == pytest.approx((F.argmax(axis=1) != y).mean())
    np.testing.assert_allclose(decision(X, ensemble), F, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_they_learn(algorithm, K):
    """The training loss falls, LogitBoost's but for the last digits, as its Newton steps may be too long; and rows
    that were not seen are told apart better than by the first tree.
    """
    X, y = problem(K, noise=0.05, N=400)
    ensemble = fit_trees(X, y, 30, 2, algorithm=algorithm)
    assert len(ensemble) == 30 and ensemble.losses[-1] < 0.8 * ensemble.losses[0]
    assert (np.diff(ensemble.losses) < (0.01 if algorithm == "logit" else 0)).all()
    unseen, classes = problem(K, seed=1, noise=0, N=400)
    accuracy = (decision(unseen, ensemble).argmax(axis=1) == classes).mean()
    first = (decision(unseen, ensemble[:1]).argmax(axis=1) == classes).mean()
    assert accuracy > first + 0.05 and accuracy > {2: 0.8, 4: 0.6}[K]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("K", [2, 3])
def test_a_weight_is_a_number_of_rows(algorithm, K):
    X, y = problem(K, N=150)
    times = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = fit_trees(X, y, 8, 2, sample_weight=times, algorithm=algorithm)
    repeated = fit_trees(X.repeat(times, axis=0), y.repeat(times), 8, 2, algorithm=algorithm)
    np.testing.assert_allclose(weighted.losses, repeated.losses, rtol=1e-9)
    np.testing.assert_allclose(weighted.errors, repeated.errors, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weights_of_any_size(algorithm, scale):
    X, y = problem(3, N=100)
    weight = np.random.default_rng(0).uniform(0.5, 2, 100)
    one = fit_stumps(X, y, 5, sample_weight=weight, algorithm=algorithm)
    other = fit_stumps(X, y, 5, sample_weight=weight * scale, algorithm=algorithm)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-9)


def test_a_zero_weight_stays_zero():
    X, y = problem(3)
    weight = np.arange(len(X)) % 3 * 1.0
    some = weight > 0
    with_zeros = fit_trees(X, y, 10, 2, sample_weight=weight)
    without = fit_trees(X[some], y[some], 10, 2, sample_weight=weight[some])
    np.testing.assert_allclose(with_zeros.alpha, without.alpha, rtol=1e-9)
    assert with_zeros.trees.count[:, 0].tolist() == [some.sum()] * 10


@pytest.mark.parametrize("learning_rate", [23.0, 1000.0])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_large_learning_rate(algorithm, learning_rate):
    """Finite scores, and no warning."""
    X, y = problem(3)
    ensemble = fit_stumps(X, y, 30, algorithm=algorithm, learning_rate=learning_rate)
    assert np.isfinite(decision(X, ensemble)).all() and np.isfinite(ensemble.errors).all()
    assert not np.isnan(ensemble.losses).any()


def test_ten_thousand_updates():
    """On noise, of all learning rates: no NaN, no warning, and a sum of 1."""
    random = np.random.default_rng(0)
    for learning_rate in (0.1, 1.0, 5.0):
        weights = Reweighed(np.full(200, 1 / 200))
        for _ in range(10_000):
            error = weights.error(random.random(200) < 0.45)
            assert 0 <= error <= 1
            weights.update(learning_rate * np.log((1 - error) / error) if 0 < error < 0.5 else 0.0)
            assert abs(weights.w.sum() - 1) < 1e-12
        assert np.isfinite(weights.w).all() and (weights.w >= 0).all()


def test_ten_thousand_rounds():
    X, y = problem(2, N=40, D=2, noise=0.5)
    learner = Learner(encode(X, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(islice(rounds(learner, y, np.ones(40), 2), 10_000))
    assert len(found) == 10_000
    assert np.isfinite([each.alpha for each in found]).all() and (np.diff([each.loss for each in found]) < 0).all()
    sums = np.array([each.trees[0].value[0].sum() for each in found])
    assert np.abs(sums - 1).max() < 1e-12


def test_floor():
    """Weights below are raised to it before a tree is grown."""
    X, y = problem(2, N=100, noise=0)
    learner = Learner(encode(X, y))
    found = list(islice(rounds(learner, y, np.ones(100), 2, floor=0.005), 20))
    plain = list(islice(rounds(learner, y, np.ones(100), 2), 20))
    least = np.array([each.trees[0].value[0].sum() for each in found])
    assert found[0].error == plain[0].error and (least >= 1 - 1e-12).all() and least.max() > 1.01


# --------------------------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("algorithm", ["SAMME", "SAMME.R"])
def test_a_tree_without_errors_ends_it(algorithm):
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1]
    ensemble = fit_stumps(X, y, 10, algorithm=algorithm)
    assert len(ensemble) == 1 and ensemble.errors.tolist() == [0] and ensemble.alpha.tolist() == [1]
    assert decision(X, ensemble).argmax(axis=1).tolist() == y


def test_a_late_tree_without_errors_outvotes_the_others():
    learner = Learner(encode(*problem(2)), max_depth=2)
    X, y = problem(2)
    begin = list(fit_trees(X, y, 3, 2).trees.feature)
    assert len(begin) == 3

    class Perfect:
        criterion, coded = learner.criterion, learner.coded
        rounds = 0

        def grow(self, *args):
            grown = learner.grow(*args)
            self.rounds += 1
            if self.rounds == 3:
                grown.incorrect[:] = False
            return grown

    found = list(rounds(Perfect(), y, np.ones(len(y)), 2))
    assert [each.error == 0 for each in found] == [False, False, True]
    assert found[2].alpha == pytest.approx(1 + found[0].alpha + found[1].alpha)


def test_worse_than_random():
    X = np.ones((6, 2))
    with pytest.raises(ValueError, match=r"X: expected trees with a weighted error below 1 - 1/K = 0\.5, got 0\.5"):
        fit_stumps(X, [0, 1] * 3, 5)
    with pytest.raises(WorseThanRandom):
        fit_stumps(X, [0, 1, 2] * 2, 5, sample_weight=[1, 1, 1, 1, 1, 1])
    ensemble = fit_stumps(X, [0, 1] * 3, 5, algorithm="logit")
    assert np.allclose(decision(X, ensemble), 0)


def test_it_stops_where_no_tree_helps():
    """Under the second weights both values are half of each class; rounding may make that a little less."""
    X, y = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]]), [0, 0, 1, 0, 1, 1]
    ensemble = fit_stumps(X, y, 100)
    assert ensemble.errors[0] == pytest.approx(1 / 3)
    assert len(ensemble) == 1 or ensemble.alpha[1:].max() < 1e-12


def test_one_class():
    assert decision([[1.0]], fit_stumps([[1.0], [2.0]], [0, 0], 5)).tolist() == [[1.0]]
    for algorithm in ("gentle", "logit"):
        with pytest.raises(ValueError, match="y: expected at least two classes, got one"):
            fit_stumps([[1.0], [2.0]], [0, 0], 5, algorithm=algorithm)


# ------------------------------------------------------------------------------------------------------------ trimming


def test_trimming_leaves_out_the_smallest():
    random = np.random.default_rng(0)
    w = random.exponential(size=1000) ** 4
    for trim in (0.5, 0.9, 0.99, 0.999):
        rows = _kept(w, trim)
        assert rows.dtype == np.int32 and (np.diff(rows) > 0).all()
        out = np.setdiff1d(np.arange(1000), rows)
        assert len(out) and w[out].sum() <= (1 - trim) * w.sum() and w[out].max() < w[rows].min()
        next_smallest = np.sort(w[rows])[: max(1, len(rows) // 50)].sum()
        assert w[out].sum() + next_smallest > (1 - trim) * w.sum() * 0.9
    assert _kept(w, None) is None and _kept(w, 1) is None
    assert len(_kept(np.full(10, 0.1), 0.5)) == 10  # of equal weights all stay
    assert _kept(np.array([0.0, 1.0, 0.0]), 0.9).tolist() == [1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trimming_still_learns(algorithm):
    X, y = problem(2, noise=0.02, N=400)
    whole = fit_trees(X, y, 30, 2, algorithm=algorithm)
    trimmed = fit_trees(X, y, 30, 2, algorithm=algorithm, weight_trim=0.9)
    counts = trimmed.trees.count[:, 0]
    assert counts[0] == 400 and counts.min() < 350
    unseen, classes = problem(2, seed=1, noise=0, N=400)
    accuracy = [(decision(unseen, each).argmax(axis=1) == classes).mean() for each in (whole, trimmed)]
    assert accuracy[1] > accuracy[0] - 0.04
    same(whole, fit_trees(X, y, 30, 2, algorithm=algorithm, weight_trim=1.0))


# ----------------------------------------------------------------------------------------------------------- ensembles


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stages_and_slices(algorithm, K):
    X, y = problem(K, N=120)
    ensemble = fit_trees(X, y, 70, 1, algorithm=algorithm)  # more than one block of trees
    stages = list(staged_decision(X, ensemble))
    assert len(stages) == len(ensemble)
    for n in (1, 2, len(ensemble) - 1, len(ensemble)):
        first = ensemble[:n]
        assert isinstance(first, Ensemble) and len(first) == n
        np.testing.assert_allclose(stages[n - 1], decision(X, first), rtol=1e-12, atol=1e-12)
        same(first, fit_trees(X, y, n, 1, algorithm=algorithm))
    with pytest.raises(TypeError, match="which: expected a slice of rounds, got 0"):
        ensemble[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rounds_go_on(algorithm):
    """From trees grown before: bit for bit."""
    X, y = problem(3)
    whole = fit_trees(X, y, 12, 2, algorithm=algorithm)
    regression = algorithm in ("gentle", "logit")
    coded = encode(X, None if regression else y)
    learner = Learner(coded, "squared_error" if regression else "gini", 2)
    T = whole.trees_per_round
    begin = regrown(whole.trees[: 5 * T], coded, X, y)
    found = list(islice(rounds(learner, y, np.ones(len(y)), 3, algorithm, begin=begin), 12))
    same(whole, Ensemble.of(found, learner, 3, algorithm))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_coded_rows_serve_several_fits(dtype):
    X, y = problem(3, dtype=dtype)
    coded = encode(X, y)
    for criterion in ("gini", "entropy", "error"):
        same(fit_stumps(coded, y, 5, criterion=criterion), fit_stumps(X, y, 5, criterion=criterion))
    same(fit_stumps(encode(X), y, 5, algorithm="logit"), fit_stumps(X, y, 5, algorithm="logit"))


def test_missing_values():
    X, y = problem(2, noise=0)
    X[np.arange(len(X)) % 5 == 0, 0] = np.nan
    with pytest.raises(ValueError, match="X: expected finite numbers, got NaN; missing='learn' takes it"):
        fit_stumps(X, y, 5)
    with pytest.raises(ValueError, match="X: expected finite numbers, got NaN; missing='learn' takes it"):
        fit_stumps(encode(X, y), y, 5)
    for algorithm in ALGORITHMS:
        ensemble = fit_trees(X, y, 30, 2, missing="learn", algorithm=algorithm)
        assert (decision(X, ensemble).argmax(axis=1) == y).mean() > 0.9
    # A feature whose absence is all that tells the classes apart.
    only = np.where(y[:, None] == 1, np.nan, np.random.default_rng(0).normal(size=(len(y), 1)))
    assert fit_stumps(only, y, 5, missing="learn").errors.tolist() == [0]


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": None}, TypeError, "X: expected an array, got None"),
        ({"X": [1.0, 2.0, 3.0]}, ValueError, "X: expected shape"),
        ({"X": [[1.0], [np.inf], [2.0]]}, ValueError, "X: expected finite numbers, got an infinity"),
        ({"y": None}, TypeError, "y: expected an array, got None"),
        ({"y": [0, 1]}, ValueError, r"y: expected shape \(N,\)"),
        ({"y": [0, -1, 1]}, ValueError, "y: expected classes from 0 on, got -1"),
        ({"y": [0.0, 1.0, 1.0]}, TypeError, "y: expected integers, got float64"),
        ({"n_rounds": 0}, ValueError, "n_rounds: expected an integer of at least 1, got 0"),
        ({"n_rounds": 1.0}, TypeError, "n_rounds: expected an integer of at least 1, got 1.0"),
        ({"max_depth": 9}, ValueError, "max_depth: expected an integer from 1 to 8, got 9"),
        ({"sample_weight": [1, 1]}, ValueError, r"sample_weight: expected shape \(N,\) with N = 3"),
        (
            {"sample_weight": [1, -1, 1]},
            ValueError,
            "sample_weight: expected finite numbers of at least 0, got -1.0 at index 1",
        ),
        (
            {"sample_weight": [1, np.nan, 1]},
            ValueError,
            "sample_weight: expected finite numbers of at least 0, got nan at index 1",
        ),
        ({"sample_weight": [0, 0, 0]}, ValueError, "sample_weight: expected rows of a weight above 0, got none"),
        ({"criterion": "squared_error"}, ValueError, "criterion: 'squared_error' needs rows coded with a target"),
        ({"criterion": "mse"}, ValueError, "criterion: expected one of"),
        ({"learning_rate": 0}, ValueError, "learning_rate: expected a positive number, got 0"),
        ({"learning_rate": np.inf}, ValueError, "learning_rate: expected a positive number, got inf"),
        ({"learning_rate": "1"}, TypeError, "learning_rate: expected a positive number, got '1'"),
        ({"algorithm": "SAMME.S"}, ValueError, "algorithm: expected one of 'SAMME', 'SAMME.R', 'gentle', 'logit'"),
        ({"weight_trim": 0.0}, ValueError, "weight_trim: expected a positive number of at most 1, got 0.0"),
        ({"weight_trim": 1.1}, ValueError, "weight_trim: expected a positive number of at most 1, got 1.1"),
        ({"missing": "drop"}, ValueError, "missing: expected 'learn' or 'error', got 'drop'"),
        ({"X": encode([[1.0], [2.0], [3.0]])}, ValueError, "X: expected rows coded with classes"),
        ({"X": encode([[1.0], [2.0], [3.0]], [0, 1, 1])}, ValueError, "y: expected the classes that X was coded with"),
        (
            {"X": encode([[1.0], [2.0], [3.0]], [0, 1, 0]), "algorithm": "logit"},
            ValueError,
            "X: expected rows coded without classes",
        ),
    ],
)
def test_errors(change, error, message):
    arguments = {"X": [[1.0], [2.0], [3.0]], "y": [0, 1, 0], "n_rounds": 3, "max_depth": 1} | change
    with pytest.raises(error, match=message):
        fit_trees(**arguments)


def test_errors_of_decision():
    ensemble = fit_stumps([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], [0, 1, 0], 3)
    with pytest.raises(ValueError, match=r"X: expected shape \(N, D\) with D = 2 \(from the trees\)"):
        decision([[1.0]], ensemble)
    with pytest.raises(ValueError, match="X: expected shape"):
        next(staged_decision([[1.0]], ensemble))
