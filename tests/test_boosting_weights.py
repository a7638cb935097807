"""Weights of rows from round to round: SAMME's closed form, real-valued rules, R2, and decisions by weights."""

import math
from itertools import pairwise

import numpy as np
import oracle
import pytest
from compare import close

from fastml import boosting

FAMILIES = ("samme", "exponential")
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
FIGURES = (  # K, error, SAMME's alpha, the alpha of the exponential loss
    (2, 0.3, 0.8472978603872037, 0.42364893019360184),
    (3, 0.4, 1.0986122886681096, 0.7324081924454063),
    (5, 0.5, 1.3862943611198906, 1.1090354888959124),
)

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draw(N=50, dtype="float64", error=0.3, seed=0):
    """Weights of sum 1, and marks of about that error."""
    rng = np.random.default_rng([seed, N])
    w = rng.uniform(0.1, 2, N)
    return (w / w.sum()).astype(dtype), rng.random(N) < error


# ----------------------------------------------------------------------------------------------------- the closed form


@pytest.mark.parametrize("K, error, alpha, _", FIGURES)
def test_figures(column, K, error, alpha, _):
    wrong = np.arange(10) < 10 * error
    w = np.full(10, 0.1)
    new, found, e = boosting.samme_update(w, wrong, K)
    assert found == pytest.approx(alpha, rel=1e-14) and e == pytest.approx(error, rel=1e-15)
    np.testing.assert_allclose(new[~wrong], 0.1 / ((1 - error) * K), rtol=1e-14)
    np.testing.assert_allclose(new[wrong], 0.1 * (K - 1) / (error * K), rtol=1e-14)


@pytest.mark.parametrize("K, error, samme, alpha", FIGURES)
def test_alpha_minimises_the_exponential_loss(K, error, samme, alpha):
    """L(α), the loss of scores with α votes added, is flat at α_t = (K-1)/K SAMME's alpha, and bends upwards; the new
    weights are its terms.
    """
    rng = np.random.default_rng(K)
    N, y = 200, rng.integers(K, size=200)
    before = rng.normal(size=(N, K))
    u = np.array([math.exp(oracle.exponent(g, k)) for g, k in zip(before.tolist(), y.tolist(), strict=True)])
    wrong = rng.random(N) < error
    u[wrong] *= error / (1 - error) * u[~wrong].sum() / u[wrong].sum()  # the u-weighted error, exactly
    before += (np.log(u) - [oracle.exponent(g, k) for g, k in zip(before, y, strict=True)])[:, None] * (
        np.where(np.arange(K) == y[:, None], -1, 1 / (K - 1)) * (K - 1) / K
    )
    votes = np.where(wrong, (y + 1) % K, y)[:, None] == np.arange(K)

    def loss(a):
        return boosting.exponential_loss(before + a * votes, y)

    h = 1e-3
    slope = (loss(alpha - 2 * h) - 8 * loss(alpha - h) + 8 * loss(alpha + h) - loss(alpha + 2 * h)) / (12 * h)
    assert abs(slope) < 1e-9 * loss(alpha)
    assert loss(alpha - h) > loss(alpha) < loss(alpha + h)
    new, found, e = boosting.samme_update(u, wrong, K)
    assert e == pytest.approx(error, rel=1e-12) and found == pytest.approx(samme, rel=1e-11)
    assert found * (K - 1) / K == pytest.approx(alpha, rel=1e-11)
    terms = np.array(
        [math.exp(oracle.exponent(g, k)) for g, k in zip((before + alpha * votes).tolist(), y, strict=True)]
    )
    np.testing.assert_allclose(new, terms / terms.sum(), rtol=1e-11)


@both_dtypes
@pytest.mark.parametrize("learning_rate", [1e-6, 0.1, 0.5, 1, 1.5, 3, 23])
def test_oracle(column, dtype, learning_rate):
    for K, N in ((2, 5), (3, 33), (10, 200)):
        w, wrong = draw(N, dtype)
        wrong[0], wrong[1] = True, False
        w[2] = 0
        w *= 7
        w[wrong] *= 0.3
        want, alpha, error = oracle.samme(w.tolist(), wrong.tolist(), K, learning_rate)
        new, found, e = boosting.samme_update(w, wrong, K, learning_rate)
        assert found == pytest.approx(alpha, rel=1e-12) and e == pytest.approx(error, rel=1e-14)
        assert type(found) is type(e) is float
        close(new, want, tolerance=TOLERANCE[dtype], dtype=dtype)
        assert new[2] == 0 and w[2] == 0
        assert boosting.samme_error(w, wrong) == e


@both_dtypes
@pytest.mark.parametrize("learning_rate", [0.3, 1, 2])
def test_update_with_the_next_error(column, dtype, learning_rate):
    """Fused or not, measured or known: the same weights, alphas and errors."""
    w, _ = draw(3000, dtype)
    marks = [np.random.default_rng(n).random(3000) < 0.3 + 0.02 * n for n in range(6)]
    known, apart = w.copy(), w.copy()
    error = None
    for now, after in pairwise(marks):
        apart, alpha, e = boosting.samme_update(apart, now, 3, learning_rate)
        measured = boosting.samme_update_next(known, now, after, 3, learning_rate)
        known, *found, error = boosting.samme_update_next(known, now, after, 3, learning_rate, error=error)
        for new, others in ((measured[0], measured[1:]), (known, (*found, error))):
            close(new, apart, tolerance=20 * TOLERANCE[dtype], dtype=dtype)
            want = [alpha, e, boosting.samme_error(apart, after)]
            np.testing.assert_allclose(others, want, rtol=20 * TOLERANCE[dtype])


@both_dtypes
def test_out(column, dtype):
    w, wrong = draw(100, dtype)
    w[5] = 0
    want = boosting.samme_update(w, wrong, 3)[0]
    given = w.copy()
    for out in (np.empty_like(w), given):
        start = given.copy()
        assert boosting.samme_update(given, wrong, 3, out=out)[0] is out
        assert out.tobytes() == want.tobytes()
        assert out is given or (given == start).all()
    for call in (
        lambda out: boosting.samme_update_next(out, wrong, ~wrong, 3, out=out)[0],
        lambda out: boosting.samme_r_update(out, np.full((100, 3), 1 / 3, dtype), np.zeros(100, int), out=out),
        lambda out: boosting.gentle_update(out, np.ones(100, dtype), np.ones(100, int), out=out),
        lambda out: boosting.r2_update(out, np.linspace(0, 1, 100).astype(dtype) ** 2, out=out)[0],
    ):
        out = w.copy()
        assert call(out) is out and out[5] == 0 and out.sum(dtype="float64") == pytest.approx(1, rel=1e-6)


def test_arrays_of_any_layout(column):
    w, wrong = draw(64)
    want = boosting.samme_update(w, wrong, 3)[0]
    wide, marks = np.zeros((64, 2)), np.zeros((64, 3), bool)
    wide[:, 1], marks[:, 2] = w, wrong
    frozen = w.copy()
    frozen.flags.writeable = False
    for weights in (wide[:, 1], frozen, w.astype(">f8"), w[::-1].copy()[::-1], w.tolist()):
        for given in (
            marks[:, 2],
            wrong.tolist(),
            wrong.astype("uint8") * 200,
            wrong.astype("int64") * 256,
            -1 * wrong,
        ):
            assert boosting.samme_update(weights, given, 3)[0].tobytes() == want.tobytes()


# ------------------------------------------------------------------------------------------------------------ extremes


@both_dtypes
def test_without_errors(column, dtype):
    w, wrong = draw(77, dtype)
    wrong[:] = False
    w[3] = 0
    w /= w.sum(dtype="float64")
    for K, rate in ((2, 1), (5, 0.3)):
        for out in (None, w.copy()):
            new, alpha, error = boosting.samme_update(w, wrong, K, rate, out=out)
            assert (alpha, error) == (math.inf, 0) and new.tobytes() == w.tobytes() and new is not w
        new, alpha, error, after = boosting.samme_update_next(w, wrong, ~wrong, K, rate)
        assert (alpha, error) == (math.inf, 0) and after == pytest.approx(1, rel=1e-6)
        new, alpha, _ = boosting.samme_update(w * 8, wrong, K, rate)
        assert alpha == math.inf
        close(new, w, tolerance=TOLERANCE[dtype], dtype=dtype)
    w[:] = 0
    w[:4], wrong[10:] = 0.25, True  # misclassified rows of weight 0
    assert boosting.samme_update(w, wrong, 3)[1:] == (math.inf, 0)


@pytest.mark.parametrize("K", [2, 3, 4, 7, 1000])
def test_no_better_than_chance(column, K):
    w = np.full(K, 1 / K)
    wrong = np.arange(K) > 0  # 1 - 1/K exactly
    out = w.copy()
    for call in (
        lambda marks: boosting.samme_update(out, marks, K, out=out),
        lambda marks: boosting.samme_update_next(out, marks, marks, K, out=out),
        lambda marks: boosting.samme_update_next(out, marks, marks, K, error=float(marks.mean()), out=out),
    ):
        for marks in (wrong, np.ones(K, bool)):
            with pytest.raises(ValueError, match=r"^incorrect: expected a weighted error below 1 - 1/K = .*, got "):
                call(marks)
    assert (out == w).all()
    if K > 2:
        assert boosting.samme_update(w, np.arange(K) > 1, K)[1] > 0


@both_dtypes
@pytest.mark.parametrize("learning_rate", [23, 1e6, 1e300, 1e-300])
def test_any_learning_rate_is_finite(column, dtype, learning_rate):
    w, wrong = draw(60, dtype, 0.2)
    for _ in range(3):
        new, alpha, error = boosting.samme_update(w, wrong, 4, learning_rate)
        assert np.isfinite(new).all() and math.isfinite(alpha) and 0 < error < 1
        assert new.sum(dtype="float64") == pytest.approx(1, rel=1e-6)
        if learning_rate >= 23:
            assert new[~wrong].sum() < 1e-8
        after = boosting.samme_update_next(w, wrong, ~wrong, 4, learning_rate)
        assert after[0].tobytes() == new.tobytes() and after[3] == pytest.approx(1 - new[wrong].sum(), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-250, 1e-160, 1e160, 1e250, 1e300, 1.7e308, 5e-324 * 2**30])
def test_weights_of_any_size(column, scale):
    w, wrong = draw(40)
    w = np.minimum(w / w.max() * scale, 1.7e308)
    want = boosting.samme_update(w / scale, wrong, 3)
    for next_error in (False, True):
        found = boosting.samme_update_next(w, wrong, ~wrong, 3) if next_error else boosting.samme_update(w, wrong, 3)
        tolerance = 1e-12 if scale > 1e-307 else 1e-6  # the subnormal numbers were rounded when they were made
        close(found[0], want[0], tolerance=tolerance, dtype="float64")
        assert found[1:3] == pytest.approx(want[1:], rel=tolerance)


def test_weights_of_all_sizes_at_once(column):
    """Each kind by its own power of two: right 1e300, wrong 1e-300, and the other way round."""
    w = np.array([1e300, 3e300, 1e-300, 3e-300])
    new, alpha, error = boosting.samme_update(w, [False, False, True, True], 3)
    np.testing.assert_allclose(new, [1 / 12, 3 / 12, 2 / 12, 6 / 12], rtol=1e-12)
    assert alpha == pytest.approx(600 * math.log(10) + math.log(2), rel=1e-14) and error == 0
    with pytest.raises(ValueError, match=r"^incorrect: .*, got 1: no better"):
        boosting.samme_update(w, [True, True, False, False], 3)
    new, alpha, _ = boosting.samme_update(np.array([1e30, 1e-30], "float32"), [False, True], 2)
    assert new.tolist() == [0.5, 0.5] and alpha == pytest.approx(60 * math.log(10), rel=1e-6)


def test_ten_thousand_rounds(column):
    """Noisy marks: the sum stays 1 within 1e-12, whether the error is measured or carried on; no warning."""
    rng = np.random.default_rng(0)
    N = 200
    marks = rng.random((64, N)) < rng.uniform(0.2, 0.45, (64, 1))
    for fused in (False, True):
        w, error, worst, after = np.full(N, 1 / N), None, 0.0, marks[0]
        w[::17] = 0
        for _ in range(10_000 if fused or column[0] == "native" else 500):
            now, after = after, marks[rng.integers(64)]
            try:
                if fused:
                    w, _, _, error = boosting.samme_update_next(w, now, after, 5, 0.9, error=error, out=w)
                else:
                    boosting.samme_update(w, now, 5, 0.9, out=w)
            except ValueError:  # no better than chance, in this round
                error = boosting.samme_error(w, after)
            worst = max(worst, abs(math.fsum(w) - 1))
        assert worst < 1e-12 and np.isfinite(w).all() and not w[::17].any() and w.min() >= 0


# ------------------------------------------------------------------------------------------------ real-valued updates


@both_dtypes
@pytest.mark.parametrize("K", [2, 3, 6])
def test_samme_r(column, dtype, K):
    """The rule as scikit-learn 1.5 had it, with probabilities of 0."""
    rng = np.random.default_rng(K)
    N = 60
    w, y = draw(N, dtype)[0] * 3, rng.integers(K, size=N)
    p = rng.dirichlet(np.full(K, 0.3), N)
    p[:9] = np.eye(K)[rng.integers(K, size=9)]
    p, w[4] = p.astype(dtype), 0
    for rate in (1.0, 0.4):
        logs = np.log(np.clip(p.astype("float64"), np.finfo(dtype).eps, None))
        code = np.where(np.arange(K) == y[:, None], 1, -1 / (K - 1))
        want = w * np.exp(-rate * (K - 1) / K * (code * logs).sum(axis=1))
        found = boosting.samme_r_update(w, p, y, rate)
        close(found, want / want.sum(), tolerance=50 * TOLERANCE[dtype], dtype=dtype)
        assert found[4] == 0


@both_dtypes
def test_gentle(column, dtype):
    rng = np.random.default_rng(0)
    w, y = draw(70, dtype)[0], rng.choice([-1, 1], 70)
    f = rng.normal(size=70).astype(dtype)
    want = w * np.exp(-y * f.astype("float64"))
    found = boosting.gentle_update(w, f, y)
    close(found, want / want.sum(), tolerance=20 * TOLERANCE[dtype], dtype=dtype)
    two = np.stack([-f, f], axis=1) / 2  # (K-1)/K of a score either way is the same exponent
    close(boosting.gentle_update(w, two, (y > 0) * 1), found, tolerance=20 * TOLERANCE[dtype], dtype=dtype)
    scores, y = rng.normal(size=(70, 4)).astype(dtype), rng.integers(4, size=70)
    want = w * np.exp([oracle.exponent(g, k) for g, k in zip(scores.tolist(), y, strict=True)])
    close(boosting.gentle_update(w, scores, y), want / want.sum(), tolerance=20 * TOLERANCE[dtype], dtype=dtype)


@pytest.mark.parametrize("weights, f, want", [
    ([0.5, 0.5], [-1e308, 1.0], [1, 0]),
    ([0.5, 0.5], [1e308, -1e308], [0, 1]),
    ([0.5, 0.5], [-np.inf, 3.0], [1, 0]),
    ([1.0, 3.0, 1.0], [-np.inf, -np.inf, 0.0], [0.25, 0.75, 0]),
    ([1.0, 3.0, 1.0], [np.inf, np.inf, np.inf], [0.2, 0.6, 0.2]),
    ([1.0, 0.0, 1.0], [0.0, -np.inf, 0.0], [0.5, 0, 0.5]),
    ([1.0, 0.0, 1.0], [0.0, np.nan, 0.0], [0.5, 0, 0.5]),
    ([1e-300, 1e300], [0.0, 1381.551055796427], [0.5, 0.5]),  # 600 ln 10: only together are they of one size
    ([1e300, 1.5e308], [0.0, math.log(1.5e8)], [0.5, 0.5]),
    ([5e-324, 1e-322], [0.0, 0.0], [1 / 21, 20 / 21]),
])  # fmt: skip
def test_exponents_without_a_limit(column, weights, f, want):
    new = boosting.gentle_update(weights, f, np.ones(len(f), int))
    np.testing.assert_allclose(new, want, rtol=1e-12)


@both_dtypes
@pytest.mark.parametrize("K", [2, 5])
def test_logit(dtype, K):
    rng = np.random.default_rng(K)
    F, y = 3 * rng.normal(size=(40, K)).astype(dtype), rng.integers(K, size=40)
    p = np.exp(F.astype("float64"))
    p /= p.sum(axis=1, keepdims=True)
    z, w = boosting.logit_update(F, y, z_max=3)
    want = p * (1 - p)
    close(w, np.maximum(want, 2 * np.finfo(dtype).eps), tolerance=10 * TOLERANCE[dtype], dtype=dtype)
    code = (np.arange(K) == y[:, None]) * 1.0
    close(z, np.clip((code - p) / want, -3, 3), tolerance=10 * TOLERANCE[dtype], dtype=dtype)


def test_logit_of_certainty():
    z, w = boosting.logit_update([[1e308, -1e308], [0.0, 40.0], [37.0, 0.0]], [1, 1, 0])
    eps = np.finfo("float64").eps
    assert np.isfinite(z).all() and z[0].tolist() == [-4, 4] and z[1, 1] == 1
    assert (w[0] == 2 * eps).all()
    assert w[2] == pytest.approx(2 * [max(2 * eps, math.exp(-37) / (1 + math.exp(-37)) ** 2)], rel=1e-12)


@both_dtypes
@pytest.mark.parametrize("loss", ["linear", "square", "exponential"])
def test_r2(column, dtype, loss):
    """scikit-learn's round, on weights of sum 1."""
    rng = np.random.default_rng(1)
    w = draw(80, dtype)[0]
    error = (rng.exponential(size=80) * rng.choice([-1, 1], 80)).astype(dtype)
    w[7], error[7] = 0, 1e6
    w /= w.sum(dtype="float64")
    mask, rate = w > 0, 0.7
    share = np.abs(error[mask].astype("float64"))
    share /= share.max()
    share = {"linear": share, "square": share**2, "exponential": 1 - np.exp(-share)}[loss]
    average = (w[mask].astype("float64") * share).sum()
    beta = average / (1 - average)
    want = w.astype("float64")
    want[mask] *= np.power(beta, (1 - share) * rate)
    new, estimator_weight, found = boosting.r2_update(w * 3, error, loss, rate)
    close(new, want / want.sum(), tolerance=50 * TOLERANCE[dtype], dtype=dtype)
    assert found == pytest.approx(average, rel=1e-6 if dtype == "float32" else 1e-13)
    assert estimator_weight == pytest.approx(rate * math.log(1 / beta), rel=2e-6 if dtype == "float32" else 1e-12)


def test_r2_without_errors():
    w = draw(20)[0]
    new, estimator_weight, average = boosting.r2_update(w, np.zeros(20))
    assert new.tobytes() == w.tobytes() and (estimator_weight, average) == (math.inf, 0)
    new, estimator_weight, _ = boosting.r2_update(w * 1e300, np.zeros(20))
    assert estimator_weight == math.inf
    np.testing.assert_allclose(new, w, rtol=1e-13)
    with pytest.raises(ValueError, match=r"^error: expected an average loss below 0.5, got 0.5"):
        boosting.r2_update([1.0, 1.0], [0.0, 1.0])


# --------------------------------------------------------------------------------------------- decisions by weights


@both_dtypes
def test_trim_keeps_the_fewest_rows(dtype):
    rng = np.random.default_rng(0)
    for N in (*range(1, 30), 1000):
        for high in (2, 9, 2**20):  # whole numbers: sums are exact, and many are equal
            w = rng.integers(0, high, N).astype(dtype)
            w[rng.integers(N)] = high
            for keep in (0.01, 0.25, 0.5, 0.95, 1):
                order = np.argsort(-w, kind="stable")
                cumulated = np.cumsum(w[order].astype("float64"))
                fewest = order[: np.searchsorted(cumulated, keep * cumulated[-1]) + 1]
                assert boosting.trim(w, keep).tolist() == sorted(fewest.tolist())


def test_trim_of_any_size():
    w = np.array([0.0, 3e307, 1e308, 1e308, 1e308, 0.0, 1e-300])
    assert boosting.trim(w, 0.9).tolist() == [2, 3, 4]
    assert boosting.trim(w, 0.99).tolist() == [1, 2, 3, 4]
    assert boosting.trim(w, 1).tolist() == [1, 2, 3, 4, 6]
    assert boosting.trim([5e-324, 0.0], 0.5).tolist() == [0]


@both_dtypes
def test_quantile_is_where_the_weight_reaches_it(dtype):
    rng = np.random.default_rng(0)
    for M in (1, 2, 7, 30):
        values = rng.integers(0, 5, (50, M)).astype(dtype)
        weights = rng.integers(0, 4, M).astype(dtype)
        weights[rng.integers(M)] = 3
        for q in (0, 0.1, 0.5, 0.9, 1):
            want = []
            for row in values:
                pairs = sorted((v, w) for v, w in zip(row, weights, strict=True) if w)
                cumulated = np.cumsum([w for _, w in pairs])
                want.append(next(v for (v, _), c in zip(pairs, cumulated, strict=True) if c >= q * cumulated[-1]))
            found = boosting.weighted_quantile(values, weights, q)
            assert found.dtype == dtype and found.tolist() == want
            assert boosting.weighted_quantile(values[0], weights, q) == want[0]


def test_median_is_scikit_learns():
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    predictions, weights = rng.normal(size=(5000, 21)), rng.exponential(size=21)

    class Column:
        def __init__(self, m):
            self.m = m

        def predict(self, X):
            return predictions[:, self.m]

    peer = ensemble.AdaBoostRegressor()
    peer.estimators_, peer.estimator_weights_ = [Column(m) for m in range(21)], weights
    want = peer._get_median_predict(np.zeros((5000, 1)), 21)
    assert (boosting.weighted_median(predictions, weights) == want).all()


# -------------------------------------------------------------------------------------------------------------- errors

W, WRONG = np.full(4, 0.25), np.array([True, False, False, False])
NOTHING = "sample_weight: expected rows of a weight above 0, got none"
FINITE = "sample_weight: expected finite numbers of at least 0, got "
OVERLAP = "out: expected sample_weight or an array that overlaps no argument, got one of "


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"sample_weight": None}, TypeError, "sample_weight: expected an array, got None"),
        ({"sample_weight": W.astype("float16")}, TypeError, "sample_weight: expected float32 or float64, got float16"),
        ({"sample_weight": np.ones((4, 1))}, ValueError, r"sample_weight: expected shape \(N,\), got \(4, 1\)"),
        ({"sample_weight": np.zeros(4)}, ValueError, NOTHING),
        ({"sample_weight": np.zeros(0), "incorrect": []}, ValueError, NOTHING),
        ({"sample_weight": np.array([1, np.nan, 1, 1])}, ValueError, FINITE + "nan at index 1"),
        ({"sample_weight": np.array([1, 1, np.inf, 1])}, ValueError, FINITE + "inf at index 2"),
        ({"sample_weight": np.array([1, 1, 1, -1e-9])}, ValueError, FINITE + "-1e-09 at index 3"),
        ({"incorrect": WRONG * 1.0}, TypeError, "incorrect: expected True or False for each row, got float64"),
        ({"incorrect": None}, TypeError, "incorrect: expected True or False for each row, got object"),
        ({"incorrect": np.ma.array(WRONG)}, TypeError, "incorrect: expected .* got a masked array"),
        ({"incorrect": WRONG[:3]}, ValueError, r"incorrect: .* N = 4 \(from sample_weight\), got \(3,\)"),
        ({"incorrect": [[True], [False, True]]}, TypeError, "incorrect: expected True or False for each row"),
        ({"n_classes": 1}, ValueError, "n_classes: expected an integer of at least 2, got 1"),
        ({"n_classes": 2.0}, TypeError, "n_classes: expected an integer of at least 2, got 2.0"),
        ({"learning_rate": 0}, ValueError, "learning_rate: expected a positive number, got 0"),
        ({"learning_rate": np.inf}, ValueError, "learning_rate: expected a positive number, got inf"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate: expected a positive number, got nan"),
        ({"learning_rate": "1"}, TypeError, "learning_rate: expected a positive number, got '1'"),
        ({"learning_rate": True}, TypeError, "learning_rate: expected a positive number, got True"),
        ({"learning_rate": None}, TypeError, "learning_rate: expected a positive number, got None"),
        ({"out": [0.0] * 4}, TypeError, "out: expected an array of float64, got list"),
        ({"out": np.ones(4, "float32")}, TypeError, "out: expected float64 as sample_weight, got float32"),
        ({"out": np.ones(5)}, ValueError, r"out: expected shape \(N,\) = \(4,\), got \(5,\)"),
        ({"out": np.ones(8)[::2]}, ValueError, "out: expected a C-contiguous, aligned, writeable array"),
    ],
)
def test_errors(changes, error, message):
    arguments = {"sample_weight": W, "incorrect": WRONG, "n_classes": 3, **changes}
    with pytest.raises(error, match=f"^{message}"):
        boosting.samme_update(**arguments)
    rows = 0 if message == NOTHING and len(changes) == 2 else 4
    with pytest.raises(error, match=f"^{message}"):
        boosting.samme_update_next(**arguments, next_incorrect=WRONG[:rows])


def test_a_failed_call_leaves_out_alone():
    for weights in ([1, np.nan, 1, 1], [1, -1, 1, 1], [0, 0, 0, 0], [np.inf, 1, 1, 1]):
        w = np.array(weights, "float64")
        start = w.copy()
        with pytest.raises(ValueError, match=r"^sample_weight: "):
            boosting.samme_update(w, WRONG, 3, out=w)
        np.testing.assert_array_equal(w, start)
    buffer = np.full(6, 0.25)
    with pytest.raises(ValueError, match=f"^{OVERLAP}sample_weight"):
        boosting.samme_update(buffer[:4], WRONG, 3, out=buffer[1:5])
    with pytest.raises(ValueError, match=f"^{OVERLAP}sample_weight"):
        boosting.samme_update(buffer[:4][::-1], WRONG, 3, out=buffer[:4])
    marks = np.zeros(4).view("uint8")[:4]
    with pytest.raises(ValueError, match=f"^{OVERLAP}incorrect"):
        boosting.samme_update(W, marks, 3, out=marks.base)
    with pytest.raises(ValueError, match=f"^{OVERLAP}next_incorrect"):
        boosting.samme_update_next(W, WRONG, marks, 3, out=marks.base)


def test_an_error_of_other_weights():
    for error in (0.1, 0.3):
        with pytest.raises(ValueError, match=r"^error: expected that of sample_weight, of sum 1, got 0\..*a sum of "):
            boosting.samme_update_next(W, WRONG, WRONG, 3, error=error)
    with pytest.raises(ValueError, match=f"^{FINITE}nan"):
        boosting.samme_update_next([0.25, np.nan, 0.25, 0.25], WRONG, WRONG, 3, error=0.25)
    for error in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"^error: expected a number from 0 to 1, got"):
            boosting.samme_update_next(W, WRONG, WRONG, 3, error=error)


P, Y = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: boosting.samme_r_update(W, P.astype("float32"), Y), TypeError, "probabilities: expected float64"),
        (lambda: boosting.samme_r_update(W, P[:, :1], Y), ValueError, "probabilities: expected K of at least 2, got 1"),
        (lambda: boosting.samme_r_update(W, P[:3], Y), ValueError, r"probabilities: expected shape \(N, K\) with N"),
        (lambda: boosting.samme_r_update(W, -P, Y), ValueError, "probabilities: .* from 0 to 1, got -0.5"),
        (lambda: boosting.samme_r_update(W, P * np.nan, Y), ValueError, "probabilities: .* from 0 to 1, got nan"),
        (lambda: boosting.samme_r_update(W, P * 3, Y), ValueError, "probabilities: .* from 0 to 1, got 1.5"),
        (lambda: boosting.samme_r_update(W, P, Y * 2), ValueError, r"y: expected 0 ≤ class < K = 2 \(from probabil"),
        (lambda: boosting.samme_r_update(W, P, Y - 1), ValueError, "y: expected 0 ≤ class < K = 2 .* got -1 at"),
        (lambda: boosting.samme_r_update(W, P, Y * 1.0), TypeError, "y: expected integers, got float64"),
        (lambda: boosting.samme_r_update(W, P, Y[:2]), ValueError, r"y: expected shape \(N,\) with N = 4 .* got \(2,"),
        (lambda: boosting.samme_r_update(W * 0, P, Y), ValueError, NOTHING),
        (lambda: boosting.samme_r_update(W[:0], P[:0], Y[:0]), ValueError, NOTHING),
        (lambda: boosting.samme_r_update(-W, P, Y), ValueError, FINITE),
        (lambda: boosting.samme_r_update(W * np.inf, P, Y), ValueError, FINITE),
        (lambda: boosting.samme_r_update(W * np.nan, P, Y), ValueError, FINITE),
        (lambda: boosting.samme_r_update(W, P, Y, -1), ValueError, "learning_rate: expected a positive number"),
        (lambda: boosting.samme_r_update(P[:, 0].copy(), P, Y, out=P.ravel()[:4]), ValueError, OVERLAP + "probab"),
        (lambda: boosting.gentle_update(W, None, Y), TypeError, "scores: expected an array, got None"),
        (lambda: boosting.gentle_update(W, W, Y), ValueError, r"y: expected -1 or 1 beside scores \(N,\), got 0"),
        (lambda: boosting.gentle_update(W, W, Y[:3]), ValueError, r"y: expected shape \(N,\) with N = 4"),
        (lambda: boosting.gentle_update(W, W * np.nan, Y * 2 - 1), ValueError, "scores: expected numbers, got nan at"),
        (lambda: boosting.gentle_update(W, P[..., None], Y), ValueError, r"scores: expected shape \(N,\), got"),
        (lambda: boosting.logit_update(None, Y), TypeError, "scores: expected an array, got None"),
        (lambda: boosting.logit_update(W, Y), ValueError, r"scores: expected shape \(N, K\), got \(4,\)"),
        (lambda: boosting.logit_update(P * np.inf, Y), ValueError, "scores: expected finite numbers, got inf"),
        (lambda: boosting.logit_update(P, Y, z_max=0), ValueError, "z_max: expected a positive number, got 0"),
        (lambda: boosting.r2_update(W, W[:2]), ValueError, r"error: expected shape \(N,\) with N = 4"),
        (lambda: boosting.r2_update(W, W, "huber"), ValueError, "loss: expected one of 'linear', 'square', "),
        (lambda: boosting.r2_update(W, W * np.nan), ValueError, "error: expected finite numbers, got nan"),
        (lambda: boosting.r2_update(W, W / 0), ValueError, "error: expected finite numbers, got inf"),
        (lambda: boosting.r2_update(W * 0, W), ValueError, NOTHING),
        (lambda: boosting.r2_update(-W, W), ValueError, FINITE),
        (lambda: boosting.r2_update(W, W), ValueError, "error: expected an average loss below 0.5, got 1"),
        (lambda: boosting.trim(W * 0), ValueError, NOTHING),
        (lambda: boosting.trim(-W), ValueError, FINITE),
        (lambda: boosting.trim(W, 0), ValueError, "keep: expected a positive number of at most 1, got 0"),
        (lambda: boosting.trim(W, 1.5), ValueError, "keep: expected a positive number of at most 1, got 1.5"),
        (lambda: boosting.weighted_quantile(P, None, 0.5), TypeError, "weights: expected an array, got None"),
        (lambda: boosting.weighted_quantile(P, W, 0.5), ValueError, r"weights: expected shape \(M,\) with M = 2"),
        (lambda: boosting.weighted_quantile(W, -W, 0.5), ValueError, "weights: expected finite numbers of at least 0"),
        (lambda: boosting.weighted_quantile(W, W * 0, 0.5), ValueError, "weights: expected a weight above 0, got none"),
        (lambda: boosting.weighted_quantile(W, W, 2), ValueError, "q: expected a number from 0 to 1, got 2"),
    ],
)  # fmt: skip
def test_errors_of_the_others(call, error, message):
    with np.errstate(all="ignore"), pytest.raises(error, match=f"^{message}"):
        call()
