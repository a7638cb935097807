"""The activations that the gates go through, against forty digits, in units of the last place."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

import fastml

ULPS = 4.0  # measured: 2.5 (sigmoid) and 3.5 (tanh) with fused multiply-add; NumPy's tanh 1
EDGE = {"float32": 87, "float64": 708}  # exp's range: beyond it sigmoid(-x) is at most exp(-EDGE)


def points(dtype):
    """Both signs, every magnitude, and a dense stretch where the functions bend."""
    magnitudes = np.concatenate([np.geomspace(1e-30, 1e3, 700), np.linspace(0, 25, 800), np.linspace(25, 720, 100)])
    return np.unique(np.concatenate([-magnitudes, magnitudes]).astype(dtype))


def exact(function, x):
    """(value in longdouble) of sigmoid or tanh of each x."""
    with localcontext(prec=45):
        values = []
        for v in map(Decimal, x.astype("float64").tolist()):
            if function == "sigmoid":
                values.append(1 / (1 + (-v).exp()))
            elif abs(v) < Decimal("1e-12"):  # the next term of tanh's series is below 1e-24 of the first
                values.append(v)
            else:
                e = (2 * v).exp()
                values.append((e - 1) / (e + 1))
        return values


def ulps(got, want, absolute=False):
    """Errors in units of the last place of the exact values (of 1 if `absolute`)."""
    info = np.finfo(got.dtype)
    with localcontext(prec=45):
        place = [Decimal(1) if absolute else max(abs(w), Decimal(float(info.tiny))) for w in want]
        exponents = [Decimal(2) ** int(np.floor(np.log2(float(p)))) for p in place]
        eps = Decimal(float(info.eps))
        return np.array(
            [float((Decimal(g) - w) / (e * eps)) for g, w, e in zip(got.tolist(), want, exponents, strict=True)]
        )


def gates_of(x):
    """sigmoid and tanh of each x: the gates i and g of an LSTM of one unit that sees x alone."""
    one, zero = np.ones((4, 1), x.dtype), np.zeros((4, 1), x.dtype)
    tape = fastml.lstm_forward(x[None, :, None], None, None, one, zero)[-1]
    i, f, g, o = tape.arrays["gates"][0].T
    assert (i == f).all() and (i == o).all()
    return i, g


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_last_places(cell, dtype):
    x = points(dtype)
    i, g = gates_of(x)
    assert (np.abs(g) <= 1).all() and (i >= 0).all() and (i <= 1).all()

    error = np.abs(ulps(g, exact("tanh", x)))
    assert error.max() <= ULPS, f"tanh: {error.max():.2f} ulp at {x[error.argmax()]}"

    # (1 + tanh(x / 2)) / 2 cancels for negative x; without fused multiply-add exp(x) is |x| / 2 units off
    absolute = cell in (("reference", None), ("native", "baseline"))
    inside = x >= -EDGE[dtype]
    error = np.abs(ulps(i[inside], exact("sigmoid", x[inside]), absolute))
    assert error.max() <= ULPS, f"sigmoid: {error.max():.2f} ulp at {x[inside][error.argmax()]}"
    assert (i[~inside] <= 2 * np.exp(-float(EDGE[dtype]))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh_of_the_other_cells(cell, dtype):
    """The RNN's and the GRU's are the LSTM's."""
    x = points(dtype)
    want = gates_of(x)
    y, *_ = fastml.rnn_forward(x[None, :, None], None, np.ones((1, 1), dtype), np.zeros((1, 1), dtype))
    assert np.array_equal(y[0, :, 0], want[1])
    tape = fastml.gru_forward(x[None, :, None], None, np.ones((3, 1), dtype), np.zeros((3, 1), dtype))[-1]
    r, z, n, _ = tape.arrays["gates"][0].T
    assert np.array_equal(r, want[0]) and np.array_equal(z, want[0]) and np.array_equal(n, want[1])
