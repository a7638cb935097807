"""exp and log, as posteriors use them, against forty digits, in units of the last place."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from test_activations import ulps

from fastml.backend import find

FAMILIES = ("multinomial",)
EXP_ULPS = 5.0  # of e / (1 + e): exp's 2, and a rounding each of 1 + e and the quotient
LOG_ULPS = 4.0  # of ln(3 + e): log's 2, and what half a unit of 3 + e, and of e, make of it
RANGE = {"float32": 80, "float64": 700}  # exp flushes to 0 soon after


def posterior(dtype, zeros, t):
    """Responsibilities and log-likelihoods where `zeros` components have log-density 0, and one has -t."""
    logs = np.array([[0.0]] * zeros + [[-1.0]], dtype)
    resp, likelihood = np.empty((len(t), zeros + 1), dtype), np.empty(len(t), dtype)
    find("multinomial_responsibilities").function(t[:, None], logs, np.zeros(zeros + 1, dtype), resp, likelihood, None)
    return resp, likelihood


def points(dtype):
    return np.concatenate([np.geomspace(1e-6, 1, 200), np.linspace(0, RANGE[dtype], 1500)]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp(cell, dtype):
    t = points(dtype)
    resp, _ = posterior(dtype, 1, t)
    with localcontext(prec=45):
        es = [(-Decimal(v)).exp() for v in t.astype("float64").tolist()]
        want = [e / (1 + e) for e in es]
    error = np.abs(ulps(resp[:, 1], want))
    if cell == ("native", "baseline"):
        error = np.maximum(0, error - t)  # without fused multiply-add the reduction loses up to |x| units more
    assert error.max() <= EXP_ULPS, f"{error.max():.2f} ulp at {t[error.argmax()]}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_ends_in_zero(cell, dtype):
    t = np.array([RANGE[dtype] * 1.3, RANGE[dtype] * 3, 1e6, 1e30], dtype)
    resp, likelihood = posterior(dtype, 1, t)
    assert (resp == [1, 0]).all() and (likelihood == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log(cell, dtype):
    t = points(dtype)
    _, likelihood = posterior(dtype, 3, t)
    with localcontext(prec=45):
        want = [(3 + (-Decimal(v)).exp()).ln() for v in t.astype("float64").tolist()]
    error = np.abs(ulps(likelihood, want))
    assert error.max() <= LOG_ULPS, f"{error.max():.2f} ulp at {t[error.argmax()]}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_of_whole_numbers(cell, dtype):
    """Every significand that a count of components has."""
    for K in (1, 2, 3, 5, 7, 11, 13, 31, 63, 64, 65, 127, 200):
        logs = np.zeros((K, 1), dtype)
        likelihood = np.empty(1, dtype)
        find("multinomial_responsibilities").function(
            np.zeros((1, 1), dtype), logs, np.zeros(K, dtype), None, likelihood, None
        )
        with localcontext(prec=45):
            error = np.abs(ulps(likelihood, [Decimal(K).ln()]))
        assert error[0] <= LOG_ULPS, f"{error[0]:.2f} ulp at {K}"
