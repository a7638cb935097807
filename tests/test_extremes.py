"""Saturation, infinities, NaN, denormals and nothing at all: defined answers, and never a neighbour's business."""

import threading

import numpy as np
import pytest
from problems import BATCHED, PER_SEQUENCE, bitwise, check, draw

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_order = pytest.mark.parametrize("lengths, reverse", [(False, False), (True, True)])


def of_others(results, b):
    """Outputs and dx, dh0, dc0 without sequence b."""
    return {name: np.delete(array, b, axis=-2) for name, array in results.items() if name in PER_SEQUENCE}


# ----------------------------------------------------------------------------------------------------- large values


@both_dtypes
def test_saturated_gates(cell, variant, dtype):
    """Every other unit has weights of 1e4."""
    if variant == "rnn-relu":
        pytest.skip("relu does not saturate")
    problem = draw(variant, T=9, B=4, I=3, H=6, dtype=dtype, lengths=True, seed=1)
    large = np.where(np.arange(len(problem.inputs["w_ih"])) % 2, 1e4, 1).astype(dtype)[:, None]
    problem = problem.having(**{name: problem.inputs[name] * large for name in ("w_ih", "w_hh")})
    check(problem.run(), problem)


@both_dtypes
def test_weights_near_the_ends_of_the_range(cell, variant, dtype):
    if variant == "rnn-relu":
        pytest.skip("relu does not saturate")
    huge = {"float32": 1e30, "float64": 1e300}[dtype]
    for scale in (huge, 1 / huge):
        problem = draw(variant, dtype=dtype)
        problem = problem.having(**{name: problem.inputs[name] * scale for name in ("w_ih", "w_hh")})
        check(problem.forward()[0], problem)
        assert all(np.isfinite(array).all() for array in problem.run().values())


@both_dtypes
def test_ranges(cell, variant, dtype):
    """Gates lie in [0, 1] and bounded states stay bounded, exactly."""
    if variant == "rnn-relu":
        pytest.skip("relu is unbounded")
    for scale in (0.1, 1, 10, 1e4):
        problem = draw(variant, T=30, B=7, I=3, H=17, dtype=dtype)
        problem = problem.having(x=problem.inputs["x"] * scale)
        outputs, tape = problem.forward()
        if variant == "lstm":
            i, f, g, o = np.split(tape.arrays["gates"], 4, axis=-1)
            gates = np.concatenate([i, f, o], axis=-1)
            assert (np.abs(g) <= 1).all()
        else:
            gates = tape.arrays["gates"][..., : 2 * 17] if variant.startswith("gru") else np.zeros(1)
        assert (gates >= 0).all() and (gates <= 1).all()
        assert (np.abs(outputs["y"]) <= 1).all(), f"{problem}: {np.abs(outputs['y']).max()!r}"


# --------------------------------------------------------------------------------------------------- NaN, infinities


@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@np.errstate(invalid="ignore")  # the reference is NumPy, which warns where infinities meet
def test_one_poisoned_sequence(cell, variant, dtype, poison):
    """The others do not notice, to the last bit; it answers with NaN and infinities where the reference does."""
    b, t = 4, 3
    problem = draw(variant, T=8, B=21, I=3, H=9, dtype=dtype)
    clean = problem.run()
    for name in ("x", "h0", "c0", "dy", "dh_n"):
        array = problem.arrays().get(name)
        if array is None:
            continue
        array = array.copy()
        array[(t, b, 1) if array.ndim == 3 else (b, 1)] = poison
        poisoned = problem.having(**{name: array})
        got = poisoned.run()
        bitwise(of_others(got, b), of_others(clean, b), f"{poisoned}, {poison} in {name}")
        if np.isinf(poison):  # a shut gate may be 0 or 1e-38: times infinity that is NaN, or infinite
            if name in ("h0", "c0"):
                continue
            del got["dw_ih"]
        check(got, poisoned)
        if name == "x" and np.isnan(poison):
            assert np.isnan(got["y"][t:, b]).all() and np.isfinite(got["y"][:t, b]).all()


@both_dtypes
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_is_not_read(cell, variant, dtype, reverse):
    problem = draw(variant, T=9, B=21, I=3, H=9, dtype=dtype, lengths=True, reverse=reverse)
    padding = np.arange(9)[:, None] >= problem.options["lengths"]

    def padded_with(value):
        arrays = {"x": problem.inputs["x"].copy(), "dy": problem.upstream["dy"].copy()}
        for array in arrays.values():
            array[padding] = value
        return problem.having(**arrays).run()

    want = padded_with(0)
    for value in (np.nan, np.inf, 1e30):
        bitwise(padded_with(value), want, f"{problem}, {value} in the padding")


# --------------------------------------------------------------------------------------------------------- denormals


@both_dtypes
def test_denormals_count_as_zero(cell, variant, dtype):
    """Products of a denormal and the largest weights are near 0.1: they would be seen."""
    if cell[0] == "reference":
        pytest.skip("NumPy computes with denormals")
    info = np.finfo(dtype)
    problem = draw(variant, T=1, B=5, dtype=dtype)
    problem = problem.having(**{name: np.full_like(problem.inputs[name], info.max / 100) for name in ("w_ih", "w_hh")})

    def filled_with(value):
        arrays = problem.arrays()
        return problem.having(**{name: np.full_like(arrays[name], value) for name in BATCHED if name in arrays})

    bitwise(filled_with(info.tiny / 4).run(), filled_with(0).run(), str(problem))


@both_dtypes
def test_the_callers_floating_point_mode(cell, variant, dtype, threads):
    """A call leaves denormals as they were, in the thread that made it and in the others."""
    tiny = np.finfo(dtype).smallest_subnormal
    seen = []

    def look():
        seen.append(tiny * 1 != 0 and np.full(64, tiny).sum() != 0)

    threads(3)
    draw(variant, T=50, B=70, I=20, H=33, dtype=dtype).run()
    look()
    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert seen == [True, True]


# --------------------------------------------------------------------------------------------------- nothing to do


@both_dtypes
@pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0}, {"T": 0, "B": 0}])
@every_order
def test_no_steps_or_no_sequences(cell, variant, dtype, sizes, lengths, reverse):
    problem = draw(variant, **sizes, dtype=dtype, lengths=lengths, reverse=reverse)
    unchanged(problem)


@both_dtypes
def test_every_length_zero(cell, variant, dtype):
    problem = draw(variant, dtype=dtype)
    for reverse in (False, True):
        unchanged(problem.having(lengths=np.zeros(3, int), reverse=reverse))


def unchanged(problem):
    """No step is taken: states and their gradients go through, all else is 0."""
    got = problem.run()
    for state in problem.inputs.keys() & {"h0", "c0"}:
        final = f"{state[0]}_n"
        bitwise({state: got.pop(final)}, {state: problem.inputs[state]})
        bitwise({state: got.pop(f"d{state}")}, {state: problem.upstream[f"d{final}"]})
    assert got["y"].shape == problem.upstream["dy"].shape and got["dx"].shape == problem.inputs["x"].shape
    assert not any(array.any() for array in got.values())


# ---------------------------------------------------------------------------------------------------------- arrays


@every_order
@pytest.mark.parametrize("T", [0, 5])
def test_inputs_are_left_alone(cell, variant, T, lengths, reverse):
    """Not written to, not returned."""
    problem = draw(variant, T=T, lengths=lengths, reverse=reverse)
    arrays = {**problem.inputs, **problem.upstream, **({"lengths": problem.options["lengths"]} if lengths else {})}
    before = {name: array.copy() for name, array in arrays.items()}
    outputs, tape = problem.forward()
    saved = {name: array.copy() for name, array in tape.arrays.items() if isinstance(array, np.ndarray)}
    grads = problem.backward(tape)
    bitwise(arrays, before)
    bitwise({name: tape.arrays[name] for name in saved}, saved)
    results = list({**outputs, **grads}.items())
    for k, (name, result) in enumerate(results):
        assert result.flags.c_contiguous and result.flags.writeable
        for other, array in [*arrays.items(), *results[:k]]:
            assert not np.shares_memory(result, array), f"{problem}: {name} shares memory with {other}"
