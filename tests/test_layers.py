"""fastml.RNN, GRU and LSTM: against torch.nn, against central differences, and every edge of their arguments."""

import itertools
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from cells import on
from compare import close

import fastml

KINDS = {"RNN": fastml.RNN, "GRU": fastml.GRU, "LSTM": fastml.LSTM}
FORWARD, BACKWARD = {"float64": 1e-10, "float32": 5e-5}, {"float64": 1e-10, "float32": 5e-4}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def parts(state):
    """The arrays of a state: one, or LSTM's two."""
    return list(state) if isinstance(state, tuple) else [state]


def whole(arrays):
    """The state that `parts` took apart."""
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def random_state(layer, B, rng):
    """An initial state, or the gradient of a final one."""
    shape = (layer.num_layers * (1 + layer.bidirectional), B, layer.hidden_size)
    n = 2 if isinstance(layer, fastml.LSTM) else 1
    return whole([rng.standard_normal(shape).astype(layer.dtype) for _ in range(n)])


def run(layer, x, state=None, lengths=None, dy=None, dstate=None, **options):
    """Outputs and gradients of one pass, by name."""
    y, last, tape = layer.forward(x, state, lengths, **options)
    grads = layer.backward(tape, dy, dstate)
    return {
        "y": y, "dx": grads.x, **grads.weights,
        **{f"state[{i}]": a for i, a in enumerate(parts(last))},
        **{f"dstate[{i}]": a for i, a in enumerate(parts(grads.state))},
    }  # fmt: skip


def same(got, want, tolerance=1e-12):
    assert got.keys() == want.keys()
    for name in want:
        close(got[name], want[name], tolerance=tolerance, dtype=want[name].dtype, name=name)


# -------------------------------------------------------------------------------------------------------- against torch


def draw(kind, dtype, case):
    """A random layer and a random problem for it."""
    rng = np.random.default_rng([list(KINDS).index(kind), case])
    flip = lambda: bool(rng.integers(2))
    T, B, I, H = (int(rng.integers(1, most)) for most in (13, 6, 9, 10))
    own = {"nonlinearity": "relu" if case % 2 else "tanh"} if kind == "RNN" else {}
    layer = KINDS[kind](
        I,
        H,
        num_layers=1 + case % 3,
        bias=flip(),
        batch_first=flip(),
        bidirectional=flip(),
        dtype=dtype,
        seed=case,
        **own,
    )
    problem = {
        "x": rng.standard_normal((T, B, I)),
        "state": random_state(layer, B, rng) if flip() else None,
        "lengths": rng.integers(1, T + 1, B) if flip() else None,
        "dy": rng.standard_normal((T, B, H * (1 + layer.bidirectional))),
        "dstate": random_state(layer, B, rng),
    }
    for name in ("x", "dy"):
        problem[name] = problem[name].astype(dtype)
        if layer.batch_first:
            problem[name] = problem[name].swapaxes(0, 1).copy()
    return layer, problem


@cache
def by_torch(kind, dtype, case):
    """What torch.nn makes of what is drawn, in float64."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    layer, problem = draw(kind, dtype, case)
    x, state, lengths, dy, dstate = problem.values()
    names = ("num_layers", "bias", "batch_first", "bidirectional", *(["nonlinearity"] if kind == "RNN" else []))
    peer = getattr(torch.nn, kind)(
        layer.input_size, layer.hidden_size, **{name: getattr(layer, name) for name in names}, dtype=torch.float64
    )
    peer.load_state_dict({name: torch.tensor(w) for name, w in layer.weights.items()})
    assert list(peer.state_dict()) == list(layer.weights)
    time, batch = (1, 0) if layer.batch_first else (0, 1)
    leaf = lambda a: torch.tensor(a, dtype=torch.float64, requires_grad=True)
    x, dy = leaf(x), torch.tensor(dy, dtype=torch.float64)
    first = [leaf(a) for a in parts(state)] if state is not None else None
    packed = x
    if lengths is not None:
        packed = pack_padded_sequence(x, torch.tensor(lengths), layer.batch_first, enforce_sorted=False)
    y, last = peer(packed, None if first is None else whole(first))
    if lengths is not None:
        y, _ = pad_packed_sequence(y, layer.batch_first, total_length=x.shape[time])
    assert y.shape[batch] == x.shape[batch]
    loss = (y * dy).sum() + sum((a * torch.tensor(d)).sum() for a, d in zip(parts(last), parts(dstate), strict=True))
    loss.backward()
    want = {"y": y, "dx": x.grad, **{name: p.grad for name, p in peer.named_parameters()}}
    want |= {f"state[{i}]": a for i, a in enumerate(parts(last))}
    want |= {f"dstate[{i}]": a.grad for i, a in enumerate(first or [])}
    return {name: a.detach().numpy() for name, a in want.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_against_torch(cell, kind, dtype):
    pytest.importorskip("torch")
    for case in range(18):
        layer, problem = draw(kind, dtype, case)
        want = by_torch(kind, dtype, case)
        if problem["lengths"] is not None:  # padding is never read
            T = problem["x"].shape[1 if layer.batch_first else 0]
            padding = np.arange(T)[:, None] >= problem["lengths"]
            for name in ("x", "dy"):
                problem[name][padding.T if layer.batch_first else padding] = np.nan
        got = run(layer, **problem)
        assert list(want) == [name for name in got if name in want]
        for name in want:
            tolerance = (FORWARD if name == "y" or name.startswith("state") else BACKWARD)[dtype]
            close(got[name], want[name], tolerance=tolerance, dtype=dtype, name=f"{layer} {name}")
        y, last = layer(problem["x"], problem["state"], problem["lengths"])
        inference = {"y": y, **{f"state[{i}]": a for i, a in enumerate(parts(last))}}
        same(inference, {name: got[name] for name in inference}, FORWARD[dtype])


# ------------------------------------------------------------------------------------------------------------ gradients


OPTIONS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("GRU", {"reset_after": False}), ("LSTM", {})]


@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_gradients(cell, kind, own):
    """Fourth-order central differences, two layers, both directions, sequences of unlike length; torch has no say."""
    T, B, I, H = 4, 3, 2, 3
    layer = KINDS[kind](I, H, 2, bidirectional=True, dtype="float64", seed=1, **own)
    rng = np.random.default_rng(2)
    x, lengths, dy = rng.standard_normal((T, B, I)), np.array([4, 0, 2]), rng.standard_normal((T, B, 2 * H))
    state, dstate = random_state(layer, B, rng), random_state(layer, B, rng)
    grads = layer.backward(layer.forward(x, state, lengths)[2], dy, dstate)

    def loss():
        y, last = layer(x, state, lengths)
        return (y * dy).sum() + sum((a * d).sum() for a, d in zip(parts(last), parts(dstate), strict=True))

    def difference(array, index):
        value, step = array[index], 1e-3
        terms = []
        for steps, factor in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            array[index] = value + steps * step
            terms.append(factor * loss())
        array[index] = value
        return sum(terms) / (12 * step)

    pairs = [("x", x, grads.x), *((name, w, grads.weights[name]) for name, w in layer.weights.items())]
    pairs += [(f"state[{i}]", *both) for i, both in enumerate(zip(parts(state), parts(grads.state), strict=True))]
    for name, array, gradient in pairs:
        for k in rng.permutation(array.size)[:10]:
            index = np.unravel_index(k, array.shape)
            assert gradient[index] == pytest.approx(difference(array, index), rel=1e-7, abs=1e-8), f"{name}{index}"


def test_gradients_of_one_output(cell, kind):
    """None as upstream gradient is zeros, each alone, also within LSTM's pair."""
    rng = np.random.default_rng(0)
    layer = KINDS[kind](2, 3, 2, bidirectional=True, dtype="float64", seed=0)
    x, dy, dstate = rng.standard_normal((4, 2, 2)), rng.standard_normal((4, 2, 6)), random_state(layer, 2, rng)
    zeros = [np.zeros_like(d) for d in parts(dstate)]
    alone = [(dy, None), *((None, whole([*zeros[:i], d, *zeros[i + 1 :]])) for i, d in enumerate(parts(dstate)))]
    total = run(layer, x, dy=dy, dstate=dstate)
    each = [run(layer, x, dy=a, dstate=b) for a, b in alone]
    for name in layer.weights:
        close(sum(e[name] for e in each), total[name], tolerance=1e-12, dtype="float64", name=name)
    if kind == "LSTM":
        same(run(layer, x, dstate=(dstate[0], None)), run(layer, x, dstate=(dstate[0], zeros[1])))
    assert not any(g.any() for g in layer.backward(layer.forward(x)[2]).weights.values())


def test_a_step_against_the_gradient_lowers_the_loss(cell, kind):
    layer = KINDS[kind](3, 8, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype("float32")
    live = dict(layer.weights)
    losses = []
    for _ in range(20):
        y, _, tape = layer.forward(x)
        losses.append(float(((y - 0.5) ** 2).sum()))
        grads = layer.backward(tape, dy=2 * (y - 0.5))
        for name, weight in layer.weights.items():
            weight -= 0.01 * grads.weights[name]
    assert losses[-1] < losses[0] / 2
    assert all(layer.weights[name] is live[name] for name in live)


# ----------------------------------------------------------------------------------------------------------------- axes


def random_problem(layer, T, B, rng):
    W = layer.hidden_size * (1 + layer.bidirectional)
    x, dy = (rng.standard_normal((T, B, n)).astype(layer.dtype) for n in (layer.input_size, W))
    return x, random_state(layer, B, rng), dy, random_state(layer, B, rng)


def twins(kind, **options):
    """Two layers with the same weights, the second with batch_first."""
    return [KINDS[kind](2, 3, 2, batch_first=b, bidirectional=True, seed=0, **options) for b in (False, True)]


def test_batch_first(cell, kind):
    layer, twin = twins(kind)
    x, state, dy, dstate = random_problem(layer, 4, 3, np.random.default_rng(0))
    want = run(layer, x, state, [4, 1, 3], dy, dstate)
    got = run(twin, x.swapaxes(0, 1), state, [4, 1, 3], dy.swapaxes(0, 1), dstate)
    same({**got, "y": got["y"].swapaxes(0, 1), "dx": got["dx"].swapaxes(0, 1)}, want)


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence(cell, kind, batch_first):
    layer = twins(kind)[batch_first]
    x, state, dy, dstate = random_problem(layer, 4, 1, np.random.default_rng(0))
    one = lambda s: whole([a[:, 0] for a in parts(s)])
    got = run(layer, x[:, 0], one(state), None, dy[:, 0], one(dstate))
    want = run(twins(kind)[0], x, state, None, dy, dstate)
    want = {name: a[:, 0] if name in ("y", "dx") or "state" in name else a for name, a in want.items()}
    same(got, want)
    assert parts(layer(x[:, 0])[1])[0].shape == (4, 3)


@pytest.mark.parametrize("T, B", [(0, 2), (3, 0), (0, 0)])
def test_empty(cell, kind, T, B):
    for layer in twins(kind):
        state = random_state(layer, B, np.random.default_rng(0))
        x = np.zeros((B, T, 2) if layer.batch_first else (T, B, 2), "float32")
        y, last, tape = layer.forward(x, state, np.zeros(B, int))
        assert y.shape == (*x.shape[:2], 6)
        for a, b in zip(parts(last), parts(state), strict=True):
            np.testing.assert_array_equal(a, b)
        grads = layer.backward(tape, np.zeros_like(y), state)
        assert grads.x.shape == x.shape and not any(g.any() for g in grads.weights.values())
        for a, b in zip(parts(grads.state), parts(state), strict=True):
            np.testing.assert_array_equal(a, b)
        y, last = layer(x)
        assert not any(a.any() for a in parts(last))


def test_state_carries_on(cell, kind):
    layer = KINDS[kind](2, 3, 2, dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((7, 2, 2))
    y, last = layer(x)
    first, state = layer(x[:3])
    second, state = layer(x[3:], state)
    close(np.concatenate([first, second]), y, tolerance=1e-13, dtype="float64")
    for a, b in zip(parts(state), parts(last), strict=True):
        close(a, b, tolerance=1e-13, dtype="float64")


def test_padding_is_zero(cell, kind):
    layer = KINDS[kind](2, 3, 3, bidirectional=True, seed=0)
    x, state, dy, dstate = random_problem(layer, 5, 3, np.random.default_rng(0))
    results = run(layer, x, state, [2, 5, 0], dy, dstate)
    for name in ("y", "dx"):
        assert not results[name][2:, 0].any() and not results[name][:, 2].any()


# --------------------------------------------------------------------------------------------------------------- arrays


def test_any_layout(cell, kind):
    layer = KINDS[kind](2, 3, dtype="float64", seed=0)
    x = np.random.default_rng(0).integers(-3, 3, (4, 5, 2)).astype("float64")
    readonly = x.copy()
    readonly.flags.writeable = False
    want = run(layer, x, dy=np.ones((4, 5, 3)))
    for other in (np.repeat(x, 2, axis=1)[:, ::2], np.asfortranarray(x), x.astype(">f8"), readonly):
        before = other.copy()
        same(run(layer, other, dy=np.ones((4, 5, 3))[::-1]), want)
        np.testing.assert_array_equal(other, before)
    for other in (x.tolist(), x.astype("int8"), x.astype(">i4")):
        same(run(layer, other, dy=np.ones((4, 5, 3), int).tolist()), want)


def test_state_and_gradients_are_cast(cell, kind):
    layer = KINDS[kind](2, 3, seed=0)
    x = np.ones((4, 2, 2), "float32")
    ones = whole([np.ones((1, 2, 3), int)] * (2 if kind == "LSTM" else 1))
    lists = whole([a.tolist() for a in parts(ones)])
    got = run(layer, x, ones, None, [[[1.0] * 3] * 2] * 4, lists)
    same(
        got,
        run(layer, x, whole([a.astype("float32") for a in parts(ones)]), None, np.ones((4, 2, 3)).astype("f4"), ones),
    )


def test_torch_tensors(cell, kind):
    torch = pytest.importorskip("torch")
    layer = KINDS[kind](2, 3, seed=0)
    x = torch.ones(4, 2, 2)
    same(run(layer, x, dy=torch.ones(4, 2, 3)), run(layer, x.numpy(), dy=np.ones((4, 2, 3), "f4")))


def test_nan_stays_in_its_sequence(cell, kind):
    layer = KINDS[kind](2, 3, 2, seed=0)
    x = np.ones((4, 3, 2), "float32")
    x[1, 1, 0] = np.nan
    y, _ = layer(x)
    assert np.isnan(y[1:, 1]).all() and np.isfinite(y[:, [0, 2]]).all() and np.isfinite(y[0]).all()


# ---------------------------------------------------------------------------------------------------------------- tapes


def test_tapes_are_reusable_and_independent(cell, kind):
    layer = KINDS[kind](2, 3, 2, dropout=0.5, bidirectional=True, seed=0)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((4, 2, 2)).astype("float32") for _ in range(2))
    want = run(layer, a, dy=np.ones((4, 2, 6), "f4"), dropout_seed=1)
    tape, other = layer.forward(a, dropout_seed=1)[2], layer.forward(b, dropout_seed=2)[2]
    layer.backward(other, np.ones((4, 2, 6), "f4"))
    for _ in range(2):
        np.testing.assert_array_equal(layer.backward(tape, np.ones((4, 2, 6), "f4")).x, want["dx"])
    with pytest.raises(AttributeError):
        tape.dropout_seed = 3


def test_a_tape_remembers_its_back_end(cell, kind):
    layer = KINDS[kind](2, 3, 2, dtype="float64", seed=0)
    x = np.ones((4, 2, 2))
    want = run(layer, x, dy=np.ones((4, 2, 3)))["dx"]
    tape = layer.forward(x)[2]
    assert f" by {cell[0]}, T=4, B=2)" in repr(tape) and repr(layer) in repr(tape)
    with on(("reference", None)):
        np.testing.assert_array_equal(layer.backward(tape, np.ones((4, 2, 3))).x, want)
    assert {(p.cell.backend, p.cell.isa) for p in tape.passes} == {cell}


def test_a_tape_refers_without_copying(kind):
    layer = KINDS[kind](2, 3, seed=0)
    x = np.ones((4, 2, 2), "float32")
    y, _, tape = layer.forward(x)
    held = tape.passes[0].arrays
    assert np.shares_memory(held["x"], x) and np.shares_memory(held["y"], y)
    assert np.shares_memory(held["w_hh"], layer.weights["weight_hh_l0"])


def test_threads_share_a_layer(cell, kind):
    layer = KINDS[kind](4, 8, 2, dropout=0.3, bidirectional=True, dtype="float64", seed=0)
    xs = np.random.default_rng(0).standard_normal((24, 20, 3, 4))
    dy = np.ones((20, 3, 16))

    def work(k):
        with on(cell):  # a block is its thread's
            return run(layer, xs[k], dy=dy, dropout_seed=k)

    want = [work(k) for k in range(len(xs))]
    with ThreadPoolExecutor(6) as pool:
        for got, expected in zip(pool.map(work, range(len(xs))), want, strict=True):
            same(got, expected)
    assert set(vars(layer)) == {
        "input_size", "hidden_size", "weights", "dtype", *(n for n in layer._shared | layer._options),
    }  # fmt: skip


def test_inference_holds_two_layers(kind):
    """Whatever the number of layers; the cell itself is left out, since its scratch depends on the back end."""
    T, B, H = 500, 20, 8

    class Hollow(KINDS[kind]):
        @staticmethod
        def _cell_forward(x, *arrays, **options):
            return np.zeros((T, B, H), x.dtype), *arrays[: len(Hollow._states)], None

    layer, x = Hollow(4, H, 6, bidirectional=True, seed=0), np.zeros((T, B, 4), "float32")
    layer(x)
    tracemalloc.start()
    try:
        layer(x)
        assert tracemalloc.get_traced_memory()[1] < 2.1 * T * B * 2 * H * x.itemsize
    finally:
        tracemalloc.stop()


# --------------------------------------------------------------------------------------------------------------- errors


CONSTRUCTOR = [
    ({"input_size": 0}, ValueError, "input_size: expected an integer of at least 1, got 0"),
    ({"input_size": 2.0}, TypeError, "input_size: expected an integer of at least 1, got 2.0"),
    ({"hidden_size": -1}, ValueError, "hidden_size: expected an integer of at least 1, got -1"),
    ({"hidden_size": True}, TypeError, "hidden_size: expected an integer of at least 1, got True"),
    ({"num_layers": 0}, ValueError, "num_layers: expected an integer of at least 1, got 0"),
    ({"num_layers": "2"}, TypeError, "num_layers: expected an integer of at least 1, got '2'"),
    ({"bias": 1}, TypeError, "bias: expected True or False, got 1"),
    ({"batch_first": None}, TypeError, "batch_first: expected True or False, got None"),
    ({"bidirectional": "yes"}, TypeError, "bidirectional: expected True or False, got 'yes'"),
    ({"dropout": 1.5}, ValueError, "dropout: expected a number between 0 and 1, got 1.5"),
    ({"dropout": -0.1}, ValueError, "dropout: expected a number between 0 and 1, got -0.1"),
    ({"dropout": float("nan")}, ValueError, "dropout: expected a number between 0 and 1, got nan"),
    ({"dropout": True}, TypeError, "dropout: expected a number between 0 and 1, got True"),
    ({"dropout": "0.5"}, TypeError, "dropout: expected a number between 0 and 1, got '0.5'"),
    ({"dtype": "float16"}, TypeError, "dtype: expected float32 or float64, got 'float16'"),
    ({"dtype": "no dtype"}, TypeError, "dtype: expected float32 or float64, got 'no dtype'"),
    ({"seed": -1}, ValueError, "seed: expected an integer of at least 0, got -1"),
    ({"seed": 0.5}, TypeError, "seed: expected an integer of at least 0, got 0.5"),
]


@pytest.mark.parametrize("arguments, error, message", CONSTRUCTOR, ids=lambda value: "")
def test_constructor_errors(kind, arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        KINDS[kind](**{"input_size": 2, "hidden_size": 3, **arguments})


def test_constructor_errors_of_one_kind():
    with pytest.raises(NotImplementedError, match=r"^proj_size: expected 0, as there are no projections yet, got 2$"):
        fastml.LSTM(2, 3, proj_size=2)
    with pytest.raises(ValueError, match=r"^nonlinearity: expected 'tanh' or 'relu', got 'elu'$"):
        fastml.RNN(2, 3, nonlinearity="elu")
    with pytest.raises(TypeError, match=r"^reset_after: expected True or False, got 0$"):
        fastml.GRU(2, 3, reset_after=0)


@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "dropout": 0.5, "bidirectional": True}, {"bias": False}])
def test_arguments_in_pytorchs_order(kind, arguments):
    """By position too; the defaults that repr hides are those of the signature."""
    given = (2, 3, 4, *(["relu"] if kind == "RNN" else []), False, True, 0.25, True)
    layer = KINDS[kind](*given, seed=np.int64(0))
    assert repr(layer).endswith(
        "num_layers=4, bias=False, batch_first=True, dropout=0.25, bidirectional=True"
        + (", nonlinearity='relu')" if kind == "RNN" else ")")
    )
    options = "".join(f", {name}={value}" for name, value in arguments.items())
    assert repr(KINDS[kind](2, 3, **arguments)) == f"{kind}(2, 3{options})"


def test_repr():
    assert (
        repr(fastml.LSTM(16, 32, num_layers=2, bidirectional=True)) == "LSTM(16, 32, num_layers=2, bidirectional=True)"
    )
    assert (
        repr(fastml.GRU(1, 2, reset_after=False, dtype=np.float64)) == "GRU(1, 2, dtype='float64', reset_after=False)"
    )
    assert repr(fastml.RNN(1, 2, nonlinearity="relu")) == "RNN(1, 2, nonlinearity='relu')"


X = np.zeros((4, 2, 5), "float32")
CALL = [
    ({"x": None}, TypeError, "x: expected an array, got None"),
    ({"x": X.astype("float64")}, TypeError, r"x: expected float32 as .*, got float64"),
    ({"x": X.astype("float16")}, TypeError, "x: expected float32 or float64, got float16"),
    ({"x": X.astype("complex64")}, TypeError, "x: expected float32 or float64, got complex64"),
    ({"x": [["a"]]}, TypeError, "x: expected float32 or float64, got <U1"),
    ({"x": X[0, 0]}, ValueError, r"x: expected 3 axes, or 2 for one sequence, got shape \(5,\)"),
    ({"x": X[None]}, ValueError, r"x: expected 3 axes, or 2 for one sequence, got shape \(1, 4, 2, 5\)"),
    ({"x": X[..., :4]}, ValueError, r"x: expected shape \(T, B, I\) with I = 5 \(from input_size\), got \(4, 2, 4\)"),
    ({"x": X[0, :, :4]}, ValueError, r"x: expected shape \(T, I\) with I = 5 \(from input_size\), got \(2, 4\)"),
    ({"x": X[0], "lengths": [4, 4]}, ValueError, r"lengths: expected None for one sequence \(x with 2 axes\)"),
    ({"lengths": [4]}, ValueError, r"lengths: expected shape \(B,\) = \(2,\), got \(1,\)"),
    ({"lengths": [4, 5]}, ValueError, "lengths: expected 0 ≤ length ≤ T = 4, got 5 at index 1"),
    ({"lengths": [4.0, 4.0]}, TypeError, "lengths: expected integers, got float64"),
]
LBH = r"expected shape \(2L, B, H\)"
STATES = [
    (np.zeros((2, 2, 6)), TypeError, r"expected float32 as .*, got float64"),
    (np.zeros((4, 2, 6), "f4"), ValueError, rf"{LBH} with L = 1 \(from num_layers\), got \(4, 2, 6\)"),
    (np.zeros((2, 3, 6), "f4"), ValueError, rf"{LBH} with B = 2 \(from .*\), got \(2, 3, 6\)"),
    (np.zeros((2, 2, 7), "f4"), ValueError, rf"{LBH} with H = 6 \(from hidden_size\), got \(2, 2, 7\)"),
    (np.zeros((2, 6), "f4"), ValueError, rf"{LBH}, got \(2, 6\), which has 2 axes"),
]


@pytest.mark.parametrize("arguments, error, message", CALL, ids=lambda value: "")
def test_call_errors(kind, arguments, error, message):
    layer = KINDS[kind](5, 6, bidirectional=True, seed=0)
    for call in (layer, layer.forward):
        with pytest.raises(error, match=f"^{message}$"):
            call(**{"x": X, **arguments})


@pytest.mark.parametrize("bad, error, message", STATES, ids=lambda value: "")
def test_state_errors(kind, bad, error, message):
    layer = KINDS[kind](5, 6, bidirectional=True, seed=0)
    tape = layer.forward(X)[2]
    for i, n in ((0, 2), (1, 2)) if kind == "LSTM" else ((0, 1),):
        state = whole([bad if i == k else np.zeros((2, 2, 6), "f4") for k in range(n)])
        place = rf"\[{i}\]" if kind == "LSTM" else ""
        with pytest.raises(error, match=f"^state{place}: {message}$"):
            layer(X, state)
        with pytest.raises(error, match=f"^dstate{place}: {message}$"):
            layer.backward(tape, dstate=state)


def test_lstm_wants_a_pair():
    layer, h = fastml.LSTM(5, 6, seed=0), np.zeros((1, 2, 6), "float32")
    tape = layer.forward(X)[2]
    for bad, got in ((h, "ndarray"), ((h,), "1 of them"), ([h, h, h], "3 of them"), ({"h": h, "c": h}, "dict")):
        with pytest.raises(TypeError, match=rf"^state: expected a pair \(h, c\), got {got}$"):
            layer(X, bad)
        with pytest.raises(TypeError, match=rf"^dstate: expected a pair \(h, c\), got {got}$"):
            layer.backward(tape, dstate=bad)
    y, _ = layer(X, [None, h])
    np.testing.assert_array_equal(y, layer(X)[0])


def test_forward_errors(kind):
    layer = KINDS[kind](5, 6, seed=0)
    with pytest.raises(TypeError, match=r"^training: expected True or False, got 1$"):
        layer.forward(X, training=1)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"^dropout_seed: expected an integer from 0 to {2**64 - 1}, got {seed}$"):
            layer.forward(X, dropout_seed=seed)
    with pytest.raises(TypeError, match=rf"^dropout_seed: expected an integer from 0 to {2**64 - 1}, got 0.5$"):
        layer.forward(X, dropout_seed=0.5)


def test_backward_errors(kind):
    layer = KINDS[kind](5, 6, bidirectional=True, seed=0)
    y, _, tape = layer.forward(X)
    with pytest.raises(TypeError, match=r"^tape: expected the tape of this layer's forward, got NoneType$"):
        layer.backward(None)
    with pytest.raises(TypeError, match=r"^tape: expected the tape of this layer's forward, got Tape$"):
        layer.backward(tape.passes[0])
    for other in (KINDS[kind](5, 6, bidirectional=True, seed=0), KINDS["GRU" if kind != "GRU" else "RNN"](5, 6)):
        text = f"tape: expected the tape of this {layer}, got that of another layer, a {other}"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            layer.backward(other.forward(X)[2])
    with pytest.raises(TypeError, match=r"^dy: expected float32 as .*, got float64$"):
        layer.backward(tape, y.astype("float64"))
    with pytest.raises(
        ValueError, match=r"^dy: expected shape \(T, B, 2H\) with T = 4 \(from the forward pass\), got \(3, 2, 12\)$"
    ):
        layer.backward(tape, y[1:])
    with pytest.raises(
        ValueError, match=r"^dy: expected shape \(T, B, 2H\) with H = 6 \(from hidden_size\), got \(4, 2, 6\)$"
    ):
        layer.backward(tape, y[..., :6])
    first = KINDS[kind](5, 6, batch_first=True, seed=0)
    with pytest.raises(
        ValueError, match=r"^dy: expected shape \(B, T, H\) with B = 4 \(from the forward pass\), got \(2, 4, 6\)$"
    ):
        first.backward(first.forward(X)[2], np.zeros((2, 4, 6), "f4"))
    one = first.forward(X[0])[2]
    with pytest.raises(ValueError, match=r"^dy: expected shape \(T, H\), got \(2, 1, 6\), which has 3 axes$"):
        first.backward(one, np.zeros((2, 1, 6), "f4"))


def test_all_options_together(cell, kind):
    """Every combination of the switches runs, and keeps its shapes."""
    for bias, batch_first, bidirectional, lengths in itertools.product([False, True], repeat=4):
        layer = KINDS[kind](2, 3, 2, bias=bias, batch_first=batch_first, bidirectional=bidirectional, dropout=0.5)
        x = np.ones((2, 4, 2) if batch_first else (4, 2, 2), "float32")
        y, state, tape = layer.forward(x, None, [3, 4] if lengths else None)
        grads = layer.backward(tape, y, state)
        assert grads.x.shape == x.shape and grads.x.dtype == y.dtype == np.float32
        assert {n: g.shape for n, g in grads.weights.items()} == {n: w.shape for n, w in layer.weights.items()}
        assert [a.shape for a in parts(grads.state)] == [a.shape for a in parts(state)]
