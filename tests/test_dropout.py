"""Dropout between layers: its mask against the definition in Python integers, its rate, its gradient."""

import math

import numpy as np
import pytest
from compare import close

import fastml
from fastml import dropout
from fastml.dropout import drop

KINDS = {"RNN": fastml.RNN, "GRU": fastml.GRU, "LSTM": fastml.LSTM}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def parts(state):
    return list(state) if isinstance(state, tuple) else [state]


# ------------------------------------------------------------------------------------------------------------- the mask


def stream(state, index):
    """Output `index` of SplitMix64 from `state` (Steele, Lea and Flood 2014), scalar."""
    z = (state + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def kept(rate, seed, layer, t, b, unit):
    for index in (layer, t, b, unit):
        seed = stream(seed, index)
    return (seed >> 11) / 2**53 >= rate


def test_the_definition():
    assert stream(1234567, 0) == 6457827717110365317  # the generator's published first output
    x = np.random.default_rng(0).standard_normal((5, 3, 7)).astype("float32")
    for seed, layer, rate in ((0, 0, 0.5), (2**64 - 1, 2, 0.1), (12345, 1, 0.9)):
        want = np.zeros_like(x)
        for t, b, u in np.ndindex(x.shape):
            if kept(rate, seed, layer, t, b, u):
                want[t, b, u] = x[t, b, u] * np.float32(1 / (1 - rate))
        np.testing.assert_array_equal(drop(x, rate, seed, layer), want)


def test_an_element_has_one_mask_whatever_the_batch(monkeypatch):
    whole = drop(np.ones((9, 6, 5)), 0.4, 7, 1)
    np.testing.assert_array_equal(drop(np.ones((4, 6, 5)), 0.4, 7, 1), whole[:4])
    np.testing.assert_array_equal(drop(np.ones((9, 2, 5)), 0.4, 7, 1), whole[:, :2])
    np.testing.assert_array_equal(drop(np.ones((9, 6, 3)), 0.4, 7, 1), whole[..., :3])
    for block in (1, 5, 20, 1 << 20):
        monkeypatch.setattr(dropout, "BLOCK", block)
        np.testing.assert_array_equal(drop(np.ones((9, 6, 5)), 0.4, 7, 1), whole)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8])
def test_rate(rate):
    """Within five standard deviations, over all and along every axis, and neighbours do not go together."""
    kept = drop(np.ones((60, 50, 40)), rate, 3, 0) != 0
    for axes in (None, (0, 1), (0, 2), (1, 2)):
        mean = kept.mean(axis=axes)
        n = kept.size / mean.size
        assert np.abs(mean - (1 - rate)).max() < 5 * math.sqrt(rate * (1 - rate) / n)
    signs = (kept - (1 - rate)) / math.sqrt(rate * (1 - rate))
    for axis in range(3):
        pair = np.take(signs, range(1, kept.shape[axis]), axis) * np.take(signs, range(kept.shape[axis] - 1), axis)
        assert abs(pair.mean()) < 5 / math.sqrt(pair.size)
    for other in (drop(np.ones(kept.shape), rate, 4, 0), drop(np.ones(kept.shape), rate, 3, 1)):
        pair = signs * ((other != 0) - (1 - rate)) / math.sqrt(rate * (1 - rate))
        assert abs(pair.mean()) < 5 / math.sqrt(pair.size)


def test_edges():
    x = np.array([[[1.0, np.nan, np.inf, -3.0]]])
    np.testing.assert_array_equal(drop(x, 0.0, 0, 0), x)
    np.testing.assert_array_equal(drop(x, 1.0, 0, 0), [[[0.0, np.nan, np.nan, 0.0]]])
    assert drop(x, 0.5, 0, 0, out=x) is x
    for shape in ((0, 2, 3), (2, 0, 3)):
        assert drop(np.empty(shape, "float32"), 0.5, 0, 0).shape == shape


# ----------------------------------------------------------------------------------------------------------- in a layer


@pytest.mark.parametrize("bidirectional", [False, True])
def test_between_layers_only(cell, kind, bidirectional):
    """Two layers by hand, with `drop` between them, are the stack."""
    options = {"bidirectional": bidirectional, "dtype": "float64"}
    stack = KINDS[kind](3, 4, 2, dropout=0.4, seed=0, **options)
    below, above = KINDS[kind](3, 4, **options), KINDS[kind](4 * (1 + bidirectional), 4, **options)
    for k, layer in enumerate((below, above)):
        layer.load_state_dict(
            {name.replace(f"_l{k}", "_l0"): w for name, w in stack.weights.items() if f"_l{k}" in name}
        )
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    y, _, tape = stack.forward(x, lengths=[5, 3], dropout_seed=9)
    between, _ = below(x, lengths=[5, 3])
    untouched = between.copy()
    close(y, above(drop(between, 0.4, 9, 0), lengths=[5, 3])[0], tolerance=1e-13, dtype="float64")
    if not bidirectional:
        close(tape.passes[0].arrays["y"], untouched, tolerance=1e-13, dtype="float64")


def test_seeds(cell, kind):
    layer = KINDS[kind](3, 4, 3, dropout=0.5, seed=0)
    x = np.ones((5, 2, 3), "float32")
    y, _, tape = layer.forward(x, dropout_seed=np.int64(5))
    assert tape.dropout_seed == 5 and tape.dropout == 0.5
    np.testing.assert_array_equal(layer.forward(x, dropout_seed=5)[0], y)
    assert (layer.forward(x, dropout_seed=6)[0] != y).any()
    first, second = layer.forward(x), layer.forward(x)
    assert first[2].dropout_seed != second[2].dropout_seed
    np.testing.assert_array_equal(layer.forward(x, dropout_seed=first[2].dropout_seed)[0], first[0])


def test_the_mask_is_the_same_for_any_number_of_threads(cell, kind, threads):
    layer = KINDS[kind](3, 4, 2, dropout=0.5, dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((20, 9, 3))
    results = []
    for n in (1, 2, 5):
        threads(n)
        y, _, tape = layer.forward(x, dropout_seed=1)
        results.append((y, layer.backward(tape, np.ones_like(y)).x))
    for y, dx in results[1:]:
        close(y, results[0][0], tolerance=1e-12, dtype="float64")
        close(dx, results[0][1], tolerance=1e-12, dtype="float64")


def test_neither_inference_nor_evaluation_drops(cell, kind):
    layer = KINDS[kind](3, 4, 2, dropout=0.9, seed=0)
    plain = KINDS[kind](3, 4, 2, seed=0)
    x = np.ones((5, 2, 3), "float32")
    y, _, want = plain.forward(x)
    np.testing.assert_array_equal(layer(x)[0], plain(x)[0])
    evaluated, _, tape = layer.forward(x, training=False, dropout_seed=3)
    np.testing.assert_array_equal(evaluated, y)
    assert tape.dropout_seed is None
    np.testing.assert_array_equal(layer.backward(tape, y).x, plain.backward(want, y).x)


def test_everything_dropped(cell, kind):
    layer = KINDS[kind](3, 4, 2, dropout=1.0, dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    y, _, tape = layer.forward(x)
    np.testing.assert_array_equal(y, layer.forward(np.zeros_like(x), dropout_seed=1)[0])
    grads = layer.backward(tape, np.ones_like(y))
    assert not grads.x.any() and not grads.weights["weight_hh_l0"].any() and grads.weights["bias_ih_l1"].any()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients(cell, kind, bidirectional):
    """Fourth-order central differences with one mask."""
    layer = KINDS[kind](2, 3, 3, dropout=0.4, bidirectional=bidirectional, dtype="float64", seed=1)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((4, 3, 2)), rng.standard_normal((4, 3, 3 * (1 + bidirectional)))
    forward = lambda: layer.forward(x, lengths=[4, 2, 3], dropout_seed=11)
    _, state, tape = forward()
    dstate = tuple(rng.standard_normal(a.shape) for a in parts(state))
    grads = layer.backward(tape, dy, dstate if len(dstate) > 1 else dstate[0])

    def loss():
        y, state, _ = forward()
        return (y * dy).sum() + sum((a * d).sum() for a, d in zip(parts(state), dstate, strict=True))

    for name, array, gradient in [("x", x, grads.x), *((n, w, grads.weights[n]) for n, w in layer.weights.items())]:
        for k in rng.permutation(array.size)[:4]:
            index = np.unravel_index(k, array.shape)
            value, step, total = array[index], 1e-3, 0.0
            for steps, factor in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                array[index] = value + steps * step
                total += factor * loss()
            array[index] = value
            assert gradient[index] == pytest.approx(total / (12 * step), rel=1e-7, abs=1e-8), f"{name}{index}"


def test_a_rate_changed_later_leaves_the_tape_alone(kind):
    layer = KINDS[kind](3, 4, 2, dropout=0.5, seed=0)
    x = np.ones((5, 2, 3), "float32")
    y, _, tape = layer.forward(x, dropout_seed=1)
    want = layer.backward(tape, y).x
    layer.dropout = 0.0
    np.testing.assert_array_equal(layer.backward(tape, y).x, want)


def test_one_layer_warns(kind):
    text = r"^dropout: it acts between layers, so that 0.5 does nothing with num_layers=1$"
    with pytest.warns(UserWarning, match=text) as caught:
        KINDS[kind](3, 4, dropout=0.5)
    assert caught[0].filename == __file__
