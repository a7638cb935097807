"""One-hot inputs given by their indices: what the one-hot array gives, without it."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from problems import bitwise, check, draw, ragged

import fastml

SIZES = (
    {},
    {"T": 0},
    {"B": 0},
    {"T": 1, "B": 1, "I": 1, "H": 1},
    {"T": 11, "B": 9, "I": 31, "H": 17},
    {"T": 7, "B": 2, "I": 500, "H": 33},  # most columns occur never
    {"T": 40, "B": 13, "I": 2, "H": 8},  # and each of these in hundreds of rows
)
GARBAGE = np.array([-1, 10**6, 2**62, -(2**63)])


def pair(variant, seed=0, **sizes):
    """A problem whose x is one-hot, the same with the array's indices, and these."""
    problem = draw(variant, **sizes)
    T, B, I = problem.inputs["x"].shape
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, I, (T, B))
    dense = problem.having(x=np.eye(I, dtype=problem.dtype)[indices])
    lengths = problem.options["lengths"]
    if lengths is not None:
        padding = np.arange(T)[:, None] >= lengths
        indices[padding] = rng.choice(GARBAGE, padding.sum())
    return dense, problem.having(x=fastml.OneHot(indices)), indices


def run(problem):
    """Outputs and gradients, but that of x, which there is none of."""
    got = problem.run()
    assert got.pop("dx") is None
    return got


def same(got, want, problem, exactly):
    """`problem` is the dense one: its tolerances."""
    if exactly:
        bitwise(got, want, str(problem))
    else:
        check(got, problem, want)


def outputs_of(results):
    return {name: array for name, array in results.items() if not name.startswith("d")}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_is_the_one_hot_array(cell, variant, dtype, lengths, reverse):
    """Outputs bit for bit where the back end's products promise anything bit for bit; gradients to rounding."""
    for sizes in SIZES:
        dense, sparse, _ = pair(variant, **sizes, dtype=dtype, lengths=lengths, reverse=reverse)
        got, want = run(sparse), dense.run()
        check(got, dense)
        same(outputs_of(got), outputs_of(want), dense, exactly=cell[0] != "reference")
        bitwise(sparse.forward(keep=False)[0], outputs_of(got), str(dense))


def test_a_tape_serves_again(cell, variant):
    _, sparse, _ = pair(variant, lengths=True)
    tape = sparse.forward()[1]
    first, second = sparse.backward(tape), sparse.backward(tape)
    assert first.pop("dx") is None and second.pop("dx") is None
    bitwise(second, first)


def test_without_biases_and_states(cell, variant):
    dense, sparse, _ = pair(variant, T=6, B=5, I=9)
    names = sparse.inputs.keys() - {"x", "w_ih", "w_hh"}
    got = run(sparse.having(**dict.fromkeys(names)))
    assert all(got.pop(f"d{name}") is None for name in names)
    want = dense.having(**{name: np.zeros_like(dense.inputs[name]) for name in names}).run()
    check(got, dense, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads(cell, variant, dtype, threads):
    dense, sparse, _ = pair(variant, T=60, B=70, I=23, H=48, dtype=dtype, lengths=True)
    threads(1)
    want = run(sparse)
    check(want, dense)
    for n in (2, 3) if cell[0] != "reference" else (2,):
        threads(n)
        same(run(sparse), want, dense, exactly=cell[0] != "reference")


def test_any_batch(cell, variant):
    """A sequence alone, whatever others look up."""
    _, sparse, indices = pair(variant, T=20, B=17, I=40, H=19)
    whole = sparse.forward()[0]
    for b in ([3], [16, 0, 5]):
        states = {name: sparse.inputs[name][b] for name in ("h0", "c0") if name in sparse.inputs}
        part = sparse.having(x=fastml.OneHot(indices[:, b]), **states).forward()[0]
        want = {name: array[..., b, :] for name, array in whole.items()}
        same(part, want, draw(variant), exactly=cell[0] == "native" and cell[1] != "amx")  # B < 16: another rung's


@pytest.mark.parametrize("reverse", [False, True])
def test_many_chunks_and_parts(variant, reverse, monkeypatch, threads):
    """jit with small problems cut as finely as large ones."""
    pytest.importorskip("numba")
    from fastml.kernels.jit import inputs, sequence

    for name, value in {"CHUNK_BYTES": 1, "CHUNK_ROWS": 5, "PART": 3, "THREAD_WORK": 1}.items():
        monkeypatch.setattr(sequence, name, value)
    monkeypatch.setattr(inputs, "COLUMNS", 4)
    dense, sparse, _ = pair(variant, T=13, B=11, I=15, H=17, lengths=True, reverse=reverse)
    with fastml.use("jit"):
        threads(1)
        one = run(sparse)
        check(one, dense)
        bitwise(outputs_of(one), outputs_of(dense.run()))
        for n in (2, 3, 5):
            threads(n)
            bitwise(run(sparse), one, f"{n} threads")


def test_the_array_is_never_made(column, variant):
    T, B, I, H = 40, 4, 100_000, 2
    problem = draw(variant, T=1, B=B, I=1, H=H)
    G = len(problem.inputs["w_hh"]) // H
    indices = np.random.default_rng(0).integers(0, I, (T, B))
    big = problem.having(x=fastml.OneHot(indices), w_ih=np.full((G * H, I), 0.1), dy=np.ones((T, B, H)))
    big.run()  # what is compiled or imported on first use does not count
    tracemalloc.start()
    try:
        big.run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < T * B * I * 8 / 2


def test_a_weight_counts_where_it_is_looked_up(cell, variant):
    _, sparse, indices = pair(variant, T=6, B=4, I=9)
    indices[:] = np.arange(4)  # each sequence its own column
    sparse = sparse.having(x=fastml.OneHot(indices))
    want = sparse.forward()[0]
    w_ih = sparse.inputs["w_ih"].copy()
    w_ih[:, 5:], w_ih[:, 2] = np.inf, np.nan  # 5 and more never occur
    got = sparse.having(w_ih=w_ih).forward()[0]
    others = [0, 1, 3]
    bitwise({n: a[..., others, :] for n, a in got.items()}, {n: a[..., others, :] for n, a in want.items()})
    assert np.isnan(got["y"][:, 2]).all()


def test_denormal_weights(cell, variant):
    """Zero in `jit` and `native`, as in the dense product."""
    dense, sparse, _ = pair(variant, T=4, B=3, I=5, dtype="float32")
    w_ih = np.where(np.arange(5) % 2, dense.inputs["w_ih"], np.float32(1e-40))
    zero = np.zeros_like(dense.inputs["b_ih"])
    arrays = {"w_ih": w_ih, "b_ih": zero, "b_hh": zero}
    got, want = (problem.having(**arrays).forward()[0] for problem in (sparse, dense))
    same(got, want, dense, exactly=cell[0] != "reference")


@pytest.mark.parametrize("sizes", [{"T": 6, "B": 5, "I": 9}, {"T": 2, "B": 2, "I": 300, "H": 33}, {"T": 1, "B": 1}])
def test_packed_and_out(cell, variant, sizes):
    _, sparse, _ = pair(variant, **sizes, lengths=True)
    want = run(sparse)
    weights = {name: sparse.inputs[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")}
    option = {name: sparse.options[name] for name in ("reset_after",) if name in sparse.options}
    packed = getattr(fastml, f"{sparse.family}_pack")(**weights, **option)
    bitwise(run(sparse.having(w_ih=packed, w_hh=None, b_ih=None, b_hh=None)), want)
    out = np.full_like(want["y"], np.nan)
    problem = dataclasses.replace(sparse, options={**sparse.options, "out": out})
    y = problem.forward()[0]["y"]
    assert y is out
    bitwise({"y": out}, {"y": want["y"]})


# ---------------------------------------------------------------------------------------------------------- indices


def test_any_integers_in_any_layout(cell, variant):
    _, sparse, indices = pair(variant, T=6, B=5, I=9)
    want = run(sparse)
    wide = np.zeros((6, 10), int)
    wide[:, ::2] = indices
    read_only = indices.copy()
    read_only.flags.writeable = False
    same = (
        indices.tolist(),
        wide[:, ::2],
        np.asfortranarray(indices),
        read_only,
        *(indices.astype(dtype) for dtype in ("int8", "uint8", "int32", "uint64", ">i4", ">i8")),
    )
    for given in same:
        bitwise(run(sparse.having(x=fastml.OneHot(given))), want)


def test_is_a_snapshot(column, variant):
    """Neither the caller's array nor the copy can be changed between the check and the backward pass."""
    _, sparse, indices = pair(variant, T=6, B=5, I=9)
    x = fastml.OneHot(indices)
    problem = sparse.having(x=x)
    want, tape = run(problem), problem.forward()[1]
    indices[:] = 10**9
    got = {**problem.forward()[0], **problem.backward(tape)}
    assert got.pop("dx") is None
    bitwise(got, want)
    with pytest.raises(ValueError, match="read-only"):
        x.indices[:] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        x.indices = indices


def test_dtype_is_the_weights(cell, variant):
    for dtype in ("float32", "float64"):
        _, sparse, _ = pair(variant, dtype=dtype)
        assert {array.dtype.name for array in run(sparse).values()} == {dtype}
    _, sparse, _ = pair(variant)
    lists = {name: array.tolist() for name, array in sparse.inputs.items() if name != "x"}
    bitwise(run(sparse.having(**lists)), run(sparse))


def test_shown():
    x = fastml.OneHot(np.zeros((5, 2), "uint8"))
    assert repr(x) == "OneHot(uint8 of shape (5, 2))"
    *_, tape = fastml.rnn_forward(x, None, np.ones((4, 3)), np.ones((4, 4)))
    assert repr(tape).startswith("Tape(rnn_forward by ") and repr(tape).endswith(", T=5, B=2, I=3, H=4)")


# ----------------------------------------------------------------------------------------------------------- errors


def test_what_are_no_integers():
    for wrong, got in (
        (np.ones((5, 3)), "float64"),
        ([[1.0, 2.0]], "float64"),
        (np.ones((5, 3), bool), "bool"),
        (np.ones((5, 3), "complex64"), "complex64"),
        ([["1"]], "<U1"),
        (None, "object"),
        ([[1, 2], [3]], r"\[\[1, 2\], \[3\]\]"),
        (np.ma.masked_array(np.ones((5, 3), int)), "a masked array"),
        (fastml.OneHot([[1]]), "object"),
    ):
        with pytest.raises(TypeError, match=f"^indices: expected integers, got {got}"):
            fastml.OneHot(wrong)
    assert fastml.OneHot([]).indices.dtype == np.intp


def refused(error, message, problem, **changes):
    with pytest.raises(error, match=message):
        problem.having(**changes).forward()


def test_wrong_shapes(variant):
    _, sparse, indices = pair(variant)  # T, B, I, H = 5, 3, 2, 7
    for wrong in (indices[0], indices[None], indices[..., None]):
        message = rf"^x: expected shape \(T, B\), got .*, which has {wrong.ndim} axes"
        refused(ValueError, message, sparse, x=fastml.OneHot(wrong))
    refused(ValueError, r"^h0: .*B = 4 \(from x\)", sparse, x=fastml.OneHot(np.zeros((5, 4), int)))
    refused(ValueError, r"^lengths: expected shape \(B,\) = \(3,\)", sparse, lengths=[1, 2])


def test_out_of_range(variant):
    """Only what counts is looked at; the message has the argument, the value, its place, and I."""
    _, sparse, _ = pair(variant)
    for wrong in (-1, 2, 7):
        x = np.zeros((5, 3), int)
        x[3, 1] = wrong
        message = rf"^x: expected 0 ≤ index < I = 2 \(from w_ih\), got {wrong} at step 3 of sequence 1$"
        refused(ValueError, message, sparse, x=fastml.OneHot(x))
        refused(ValueError, message, sparse, x=fastml.OneHot(x), lengths=[5, 4, 5])
        sparse.having(x=fastml.OneHot(x), lengths=[5, 3, 5]).forward()
        sparse.having(x=fastml.OneHot(x), lengths=[5, 3, 5], reverse=True).forward()
    large = np.zeros((5, 3), "uint64")
    large[0, 2] = 2**64 - 1
    refused(ValueError, f"got {2**64 - 1} at step 0 of sequence 2", sparse, x=fastml.OneHot(large))
    refused(ValueError, r"I = 300 .*got -128", sparse.having(w_ih=np.ones((len(sparse.inputs["w_ih"]), 300))),
            x=fastml.OneHot(np.full((5, 3), -128, "int8")))  # fmt: skip


def test_beside_and_in_the_place_of_arrays(variant):
    dense, sparse, indices = pair(variant)
    x = sparse.inputs["x"]
    for mixed in ([x, dense.inputs["x"]], [x, x], np.array(x)):
        refused(TypeError, r"^x: expected", sparse, x=mixed)
    refused(ValueError, r"^x: expected shape \(T, B, I\), got \(5, 3\)", sparse, x=indices)
    for name in sparse.inputs.keys() - {"x"}:
        refused(TypeError, rf"^{name}: expected .*got object", sparse, **{name: x})
    refused(TypeError, r"^lengths: expected integers, got object", sparse, lengths=x)
    tape = sparse.forward()[1]
    with pytest.raises(TypeError, match=r"^dy: expected .*got object"):
        sparse.having(dy=x).backward(tape)
    refused(TypeError, "expected float32 as w_ih, got float64", sparse,
            w_ih=sparse.inputs["w_ih"].astype("float32"))  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- layers

KINDS = {"RNN": fastml.RNN, "GRU": fastml.GRU, "LSTM": fastml.LSTM}


def leaves(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers(column, kind, bidirectional):
    T, B, I = 9, 4, 6
    rng = np.random.default_rng(0)
    indices, lengths = rng.integers(0, I, (T, B)), ragged(T, B, rng)
    dense = np.eye(I)[indices]
    indices[np.arange(T)[:, None] >= lengths] = 10**9
    layer = KINDS[kind](I, 5, 2, bidirectional=bidirectional, dropout=0.3, dtype="float64", seed=0)
    first = KINDS[kind](I, 5, 2, bidirectional=bidirectional, batch_first=True, dtype="float64")
    first.load_state_dict(layer.weights)

    y, state, tape = layer.forward(fastml.OneHot(indices), lengths=lengths, dropout_seed=1)
    y_dense, state_dense, tape_dense = layer.forward(dense, lengths=lengths, dropout_seed=1)
    dy = rng.normal(size=y.shape)
    grads, want = layer.backward(tape, dy), layer.backward(tape_dense, dy)
    np.testing.assert_allclose(y, y_dense, rtol=1e-12, atol=1e-14)
    assert grads.x is None and want.x is not None
    for got, wanted in zip(leaves(state) + leaves(grads.state), leaves(state_dense) + leaves(want.state), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-13)
    for name in layer.weights:
        np.testing.assert_allclose(grads.weights[name], want.weights[name], rtol=1e-10, atol=1e-13)

    y, _ = layer(fastml.OneHot(indices), lengths=lengths)
    y_first, _ = first(fastml.OneHot(indices.T), lengths=lengths)
    bitwise({"y": np.ascontiguousarray(y_first.swapaxes(0, 1))}, {"y": y})
    assert y_first.shape[:2] == (B, T)
    one = int(np.argmax(lengths))
    alone, _ = first(fastml.OneHot(indices[:, one]))
    assert alone.shape == y[:, one].shape
    np.testing.assert_allclose(alone, y[:, one], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_refuse(kind):
    layer = KINDS[kind](6, 5, seed=0)
    first = KINDS[kind](6, 5, batch_first=True, seed=0)
    for wrong in (np.zeros((), int), np.zeros((3, 2, 6), int)):
        with pytest.raises(ValueError, match=r"^x: expected .*axes"):
            layer(fastml.OneHot(wrong))
    indices = np.zeros((3, 2), int)
    indices[2, 1] = 6
    for given, to in ((indices, layer), (indices.T, first)):
        with pytest.raises(ValueError, match=r"^x: expected 0 ≤ index < I = 6 .*got 6 at step 2 of sequence 1"):
            to(fastml.OneHot(given))
    with pytest.raises(ValueError, match=r"^lengths: expected None for one sequence"):
        layer(fastml.OneHot([0, 1]), lengths=[2])
