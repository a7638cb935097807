"""Packed layers and streams: the layer's own results, bit for bit in `native`, step by step and chunk by chunk."""

import copy
import importlib
import pickle
import re

import numpy as np
import pytest
from cells import on
from test_layers import KINDS, OPTIONS, parts, random_state, same

import fastml


def equal(got, want, exactly):
    if exactly:
        np.testing.assert_array_equal(got, want)
    same({"a": np.asarray(got)}, {"a": want}, 1e-12 if want.dtype == "float64" else 1e-5)


@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_a_packed_layer_is_the_layer(cell, kind, own):
    for options in (
        {"num_layers": 2},
        {"bidirectional": True, "bias": False},
        {"batch_first": True, "dtype": "float64"},
    ):
        layer = KINDS[kind](3, 5, seed=0, **options, **own)
        rng = np.random.default_rng(0)
        B = 7 if layer.batch_first else 4
        x, state = rng.standard_normal((7, 4, 3)).astype(layer.dtype), random_state(layer, B, rng)
        packed = layer.packed()
        assert repr(packed) == f"PackedLayer({layer!r} by {cell[0]})"
        for given in ((x, state), (x,), (x[0],)):
            want = layer(*given)
            with on(("reference", None)):  # it stays where it was packed
                got = packed(*given)
            for a, b in zip((got[0], *parts(got[1])), (want[0], *parts(want[1])), strict=True):
                np.testing.assert_array_equal(a, b)
        lengths = np.arange(B) % 4
        np.testing.assert_array_equal(packed(x, lengths=lengths)[0], layer(x, lengths=lengths)[0])


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda made: pickle.loads(pickle.dumps(made))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_a_copy_of_a_packed_layer(column, kind, own, copied):
    layer = KINDS[kind](3, 21, 2, seed=0, **own)
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype("f4")
    packed, kept = layer.packed(), []
    want = packed(x)[0]
    layer.weights["weight_hh_l0"] += 1  # the copy is one of the snapshot
    for size in range(1, 10):
        kept += [copied(packed), np.zeros(16 * size, "u1")]
        np.testing.assert_array_equal(kept[-2](x)[0], want)


@pytest.mark.parametrize("copied", [*COPIES.values(), copy.copy], ids=[*COPIES, "copy"])
@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_a_copy_of_a_stream(column, kind, own, copied):
    """It goes on by itself from where the other one was, which does not see it."""
    layer = KINDS[kind](3, 21, 2, seed=0, **own)
    x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype("f4")
    stream, twin = layer.stream(2), layer.stream(2)
    for x_t in x[:3]:
        stream.step(x_t), twin.step(x_t)
    other = copied(stream)
    for x_t in x[3:]:
        other.step(-x_t)
    for x_t in x[3:]:
        np.testing.assert_array_equal(stream.step(x_t), twin.step(x_t))
    last = copied(twin)
    np.testing.assert_array_equal(last.step(x[0]), twin.step(x[0]))
    assert last._y is not twin._y


def test_a_snapshot(column):
    layer = fastml.LSTM(3, 5, 2, seed=0)
    x = np.ones((4, 2, 3), "f4")
    packed, stream, want = layer.packed(), layer.stream(2), layer(x)[0]
    for weight in layer.weights.values():
        weight *= 2
    np.testing.assert_array_equal(packed(x)[0], want)
    equal([stream.step(x_t).copy() for x_t in x], want, exactly=column[0] == "native")
    assert (layer(x)[0] != want).any()


@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_a_stream_is_the_layer(cell, kind, own):
    for L, B, dtype in ((1, 1, "float32"), (3, 4, "float64")):
        layer = KINDS[kind](3, 17, L, dtype=dtype, seed=0, **own)
        rng = np.random.default_rng(0)
        x, state = rng.standard_normal((9, B, 3)).astype(dtype), random_state(layer, B, rng)
        y, last = layer(x, state)
        stream = layer.stream(B, state)
        with on(("reference", None)):
            got = [stream.step(x_t).copy() for x_t in x[:4]]
            got += list(stream.steps(x[4:7]))
            got += [stream.step(x_t.tolist()).copy() for x_t in x[7:]]
        equal(got, y, exactly=cell[0] == "native")
        for a, b in zip(parts(stream.state), parts(last), strict=True):
            equal(a, b, exactly=cell[0] == "native")
        stream.reset()
        equal(stream.step(x[0]), layer(x[:1])[0][0], exactly=cell[0] == "native")
        stream.reset(state)
        equal(stream.step(x[0]), y[0], exactly=cell[0] == "native")


def test_what_a_step_returns(column):
    layer = fastml.GRU(3, 5, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype("f4")
    stream = layer.stream(2)
    assert repr(stream) == f"Stream({layer!r} by {column[0]}, B=2)"
    first = stream.step(x[0])
    before = first.copy()
    assert stream.step(x[1]) is first and (first != before).any()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    out = np.empty((2, 10), "f4")[:, ::2]
    kept = stream.state
    assert stream.step(x[2], out=out) is out
    np.testing.assert_array_equal(out, first)
    assert (stream.state != kept).any() and kept.flags.owndata
    kept[...] = 7  # a copy
    assert (stream.state != 7).all()
    given = np.zeros((2, 2, 5), "f4")
    stream.reset(given)
    given[...] = 9
    np.testing.assert_array_equal(stream.state, np.zeros((2, 2, 5)))
    strided = np.asfortranarray(x[3])
    want = stream.step(x[3]).copy()
    stream.reset()
    np.testing.assert_array_equal(stream.step(strided), want)


def test_out_may_be_x(column):
    layer = fastml.GRU(5, 5, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 5)).astype("f4")
    want = layer.stream(2).step(x).copy()
    assert layer.stream(2).step(x, out=x) is x
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_one_hot_steps(cell, kind, own):
    """Alone, in turn with arrays, and as many steps at a time."""
    for L, B, I in ((1, 1, 6), (3, 4, 300)):
        layer = KINDS[kind](I, 17, L, dtype="float64", seed=0, **own)
        indices = np.random.default_rng(0).integers(0, I, (9, B))
        dense = np.eye(I)[indices]
        y, last = layer(fastml.OneHot(indices))
        stream = layer.stream(B)
        got = [stream.step(fastml.OneHot(i)).copy() for i in indices[:5]]
        got += [stream.step(x_t).copy() for x_t in dense[5:7]]
        got.append(stream.step(fastml.OneHot(indices[7].astype("u1" if I < 256 else "i4")), out=np.empty((B, 17))))
        got += list(stream.steps(fastml.OneHot(indices[8:])))
        equal(got, y, exactly=cell[0] == "native")
        for a, b in zip(parts(stream.state), parts(last), strict=True):
            equal(a, b, exactly=cell[0] == "native")


def test_large_steps_are_shared_out():
    """And hear Ctrl-C, as `threads.run` does: a prepared step is the calling thread's alone, and deaf."""
    if fastml.available()["lstm_forward"]["native"]:
        pytest.skip("the native back end is not built")
    native = importlib.import_module("fastml.kernels.native.lstm")
    jobs, real = [], native.run

    def run(job, most):
        jobs.append(most)
        real(job, most)

    with fastml.use("native"):
        for H, B, steps in ((32, 1, 0), (512, 16, 2)):
            layer = fastml.LSTM(H, H, seed=0)
            x = np.random.default_rng(0).standard_normal((2, B, H)).astype("f4")
            y = layer(x)[0]
            stream = layer.stream(B)
            native.run = run
            try:
                got = [stream.step(x_t).copy() for x_t in x]
            finally:
                native.run = real
            np.testing.assert_array_equal(got, y)
            assert len(jobs) == steps


@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_large_steps(column, kind, own, monkeypatch):
    """What is not prepared computes the same, of indices too."""
    layer = KINDS[kind](6, 9, 2, seed=0, **own)
    indices = np.random.default_rng(0).integers(0, 6, (5, 3))
    want, last = layer(fastml.OneHot(indices))
    monkeypatch.setattr("fastml.stream.PREPARED", 0)
    stream = layer.stream(3)
    got = [stream.step(fastml.OneHot(i) if t % 2 else np.eye(6, dtype="f4")[i]).copy() for t, i in enumerate(indices)]
    equal(got, want, exactly=column[0] == "native")
    for a, b in zip(parts(stream.state), parts(last), strict=True):
        equal(a, b, exactly=column[0] == "native")


def test_chunks(column):
    for batch_first in (False, True):
        layer = fastml.LSTM(3, 5, 2, batch_first=batch_first, dtype="float64", seed=0)
        x = np.random.default_rng(0).standard_normal((2, 8, 3) if batch_first else (8, 2, 3))
        y, last = layer(x)
        stream = layer.stream(2)
        time = 1 if batch_first else 0
        got = np.concatenate([stream.steps(a) for a in np.split(x, [0, 3], time)], axis=time)
        equal(got, y, exactly=column[0] == "native")
        for a, b in zip(stream.state, last, strict=True):
            equal(a, b, exactly=column[0] == "native")
    one = layer.stream()
    equal(one.steps(x[0]), layer(x[0])[0], exactly=True)


def test_a_step_that_fails_changes_nothing(monkeypatch):
    layer = fastml.LSTM(3, 5, 3, seed=0)
    x = np.ones((2, 1, 3), "f4")
    stream, calls = layer.stream(), []
    stream.step(x[0])
    before, real = stream.state, stream._cells[stream._now][2]

    def once():
        if not calls:
            calls.append(1)
            raise KeyboardInterrupt
        real()

    stream._cells[stream._now][2] = once
    with pytest.raises(KeyboardInterrupt):
        stream.step(x[1])
    for a, b in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(stream.step(x[1]), layer(x)[0][1], rtol=1e-5)


def test_an_out_that_fails_changes_nothing():
    layer = fastml.GRU(3, 5, seed=0)
    x = np.ones((1, 3), "f4")
    stream, want = layer.stream(), layer.stream().step(x).copy()

    class Refuses(np.ndarray):
        def __setitem__(self, *given):
            raise OSError("on the way")

    read_only = np.zeros((1, 5), "f4")
    read_only.flags.writeable = False
    for bad, error, message in (
        (read_only, ValueError, "^out: expected a writeable array$"),
        (np.zeros((1, 5), "f4").view(Refuses), OSError, "on the way"),
    ):
        with pytest.raises(error, match=message):
            stream.step(x, out=bad)
        assert not stream.state.any()
    np.testing.assert_array_equal(stream.step(x), want)


def test_errors():
    with pytest.raises(ValueError, match=r"^bidirectional: expected False for a stream, as "):
        fastml.LSTM(3, 5, bidirectional=True).stream()
    layer = fastml.LSTM(3, 5)
    for bad, error in ((0, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match=rf"^batch: expected an integer of at least 1, got {bad}$"):
            layer.stream(bad)
    with pytest.raises(TypeError, match=r"^state: expected a pair \(h, c\), got ndarray$"):
        layer.stream(2, np.zeros((1, 2, 5), "f4"))
    with pytest.raises(
        ValueError, match=r"^state\[0\]: expected shape \(L, B, H\) with B = 2 \(from batch\), got \(1, 3, 5\)$"
    ):
        layer.stream(2, (np.zeros((1, 3, 5), "f4"), None))
    stream = layer.stream(2)
    for bad, error, message in (
        (None, TypeError, "x: expected an array, got None"),
        (np.zeros((2, 3)), TypeError, "x: expected float32 as the layer, got float64"),
        (np.zeros((1, 2, 3), "f4"), ValueError, "x: expected shape (B, I), got (1, 2, 3), which has 3 axes"),
        (np.zeros((3, 3), "f4"), ValueError, "x: expected shape (B, I) with B = 2 (from batch), got (3, 3)"),
        (np.zeros((2, 4), "f4"), ValueError, "x: expected shape (B, I) with I = 3 (from input_size), got (2, 4)"),
    ):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            stream.step(bad)
    for bad, error in ((np.zeros((2, 5)), TypeError), (np.zeros((2, 4), "f4"), ValueError), ([], TypeError)):
        with pytest.raises(error, match=r"^out: expected .*, got "):
            stream.step(np.zeros((2, 3), "f4"), out=bad)
    for bad, message in (
        ([0, 3], "x: expected 0 ≤ index < I = 3 (from input_size), got 3 at step 0 of sequence 1"),
        ([-1, 0], "x: expected 0 ≤ index < I = 3 (from input_size), got -1 at step 0 of sequence 0"),
        ([0], "x: expected shape (B,) with B = 2 (from batch), got (1,)"),
        ([[0, 1]], "x: expected shape (B,), got (1, 2), which has 2 axes"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            stream.step(fastml.OneHot(bad))
    with pytest.raises(ValueError, match=r"^x: expected B = 2 \(from batch\), got 3$"):
        stream.steps(np.zeros((4, 3, 3), "f4"))
    assert not stream.state[0].any()
