"""Adam: its kernels, oracle → reference → every cell of the grid, and the optimiser over them."""

from functools import cache

import numpy as np
import oracle
import pytest
from cells import on
from compare import close, error

import fastml
from fastml.kernels.table import CHUNK, KERNELS
from fastml.optim import Adam, global_norm

FAMILIES = ("adam",)
SQUARES, UPDATE = KERNELS["adam_squares"], KERNELS["adam_update"]
WIDTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)  # both sides of SIMD widths
CHUNKS = (CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5)
NUMBERS = {"scale": 0.7, "rate": 0.3, "beta1": 0.9, "beta2": 0.99, "eps": 0.01}

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@cache
def draw(N, dtype="float64", seed=0):
    """Random inputs of `adam_update`, its numbers included; every seventh number has had no gradient yet."""
    rng = np.random.default_rng([seed, N])
    weight, gradient, first = rng.normal(size=(3, N))
    second = rng.uniform(0.1, 2, N)
    for array in (gradient, first, second):
        array[3::7] = 0
    arrays = {"weight": weight, "gradient": gradient, "first": 0.3 * first, "second": second}
    return {name: array.astype(dtype) for name, array in arrays.items()}


def update(inputs, outputs=None, **numbers):
    """The outputs of `adam_update` by name, in new arrays unless they are given."""
    weight = inputs["weight"]
    outputs = outputs or [np.full(weight.shape, np.nan, weight.dtype) for _ in UPDATE.outputs]
    function = fastml.backend.find("adam_update").function
    function(*inputs.values(), *{**NUMBERS, **numbers}.values(), *outputs)
    return dict(zip(UPDATE.outputs, outputs, strict=True))


def squares(gradient):
    total = np.full(1, np.nan)
    fastml.backend.find("adam_squares").function(gradient, total)
    return total


def answer(inputs, **numbers):
    """By the reference in float64 from the same numbers."""
    with on(("reference", None)):
        return update({name: array.astype("float64") for name, array in inputs.items()}, **numbers)


def check(got, want, dtype, name=""):
    for output, array in got.items():
        tolerance = UPDATE.tolerance[dtype]
        close(array, want[output], tolerance=tolerance, dtype=dtype, name=f"adam_update {name}: {output}")


# ---------------------------------------------------------------------------------------------------------- the kernels


@both_dtypes
def test_oracle(cell, dtype):
    """With the roots of bias correction moved out of the kernel, the numbers are those of the algorithm."""
    t, lr, eps = 3, 0.1, 1e-3
    beta1, beta2, scale = (NUMBERS[name] for name in ("beta1", "beta2", "scale"))
    root = np.sqrt(1 - beta2**t)
    for N in (0, 1, 29):
        inputs = draw(N, dtype)
        rows = zip(*(array.tolist() for array in inputs.values()), strict=True)
        rows = [oracle.adam(w, scale * g, m, v, t, lr, beta1, beta2, eps) for w, g, m, v in rows]
        want = dict(zip(UPDATE.outputs, np.reshape(rows, (N, 3)).T, strict=True))
        check(update(inputs, rate=root * lr / (1 - beta1**t), eps=root * eps), want, dtype, f"N={N}")
        want = oracle.norm([inputs["gradient"].tolist()]) ** 2
        close(squares(inputs["gradient"]), [want], tolerance=SQUARES.tolerance[dtype], dtype="float64", name=f"N={N}")


@both_dtypes
def test_every_cell_agrees_with_the_reference(cell, dtype):
    for N in (*WIDTHS, *CHUNKS):
        inputs = draw(N, dtype)
        check(update(inputs), answer(inputs), dtype, f"N={N}")
        want = np.square(inputs["gradient"], dtype="float64").sum(keepdims=True)
        close(squares(inputs["gradient"]), want, tolerance=SQUARES.tolerance["float64"], dtype="float64", name=f"N={N}")


@both_dtypes
def test_bits_do_not_depend_on_threads(cell, dtype, threads, monkeypatch):
    if cell[0] == "jit":
        monkeypatch.setattr("fastml.kernels.jit.sequence.THREAD_WORK", 1)
    inputs = draw(70 * CHUNK + 3, dtype)  # enough for a second worker, of sums too
    found = []
    for n in (1, 2, 3):
        threads(n)
        found.append([*update(inputs).values(), squares(inputs["gradient"])])
    for other in found[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found[0], other, strict=True))


@both_dtypes
def test_outputs_may_be_the_inputs(cell, dtype):
    for N in (1, 33, 3 * CHUNK + 5):
        inputs = draw(N, dtype)
        want = update(inputs)
        own = {name: array.copy() for name, array in inputs.items()}
        got = update(own, [own[name] for name in ("weight", "first", "second")])
        assert all(got[name].tobytes() == want[name].tobytes() for name in want)
        assert own["gradient"].tobytes() == inputs["gradient"].tobytes()


@both_dtypes
def test_nothing_outside_is_touched(cell, dtype):
    """Arrays between NaN, at any alignment: what is around them is neither used nor written."""
    for N in WIDTHS:
        inputs = draw(N, dtype)
        want, sum_of = update(inputs), squares(inputs["gradient"])
        for before in (1, 2, 5):
            around = {name: np.full(before + N + 3, np.nan, dtype) for name in (*inputs, *want)}
            inside = {name: array[before : before + N] for name, array in around.items()}
            for name, array in inputs.items():
                inside[name][:] = array
            got = update({name: inside[name] for name in inputs}, [inside[name] for name in want])
            assert all(got[name].tobytes() == want[name].tobytes() for name in want)
            assert squares(inside["gradient"]).tobytes() == sum_of.tobytes()
            assert all(np.isnan(np.delete(array, np.s_[before : before + N])).all() for array in around.values())


@both_dtypes
def test_nan_stays_in_its_place(cell, dtype):
    for N in (5, 40):
        for place in (0, N // 2, N - 1):
            for name in ("weight", "gradient", "first", "second"):
                inputs = {key: array.copy() for key, array in draw(N, dtype).items()}
                inputs[name][place] = np.nan
                got, want = update(inputs), update(draw(N, dtype))
                assert np.isnan(got["new_weight"][place])
                for output in want:
                    others = np.arange(N) != place
                    assert got[output][others].tobytes() == want[output][others].tobytes()
            for value in (np.nan, np.inf, -np.inf):
                gradient = draw(N, dtype)["gradient"].copy()
                gradient[place] = value
                assert not np.isfinite(squares(gradient)[0])


@both_dtypes
def test_without_gradients_nothing_moves(cell, dtype):
    """0 / (0 + ε), not NaN, for the smallest ε that `Adam` allows; -0.0 keeps its sign."""
    least = np.sqrt(np.finfo(dtype).tiny / (1 - 0.999)) * np.sqrt(1 - 0.999)
    for N in (1, 20):
        weight, zeros = np.where(np.arange(N) % 2, 1.5, -0.0).astype(dtype), np.zeros(N, dtype)
        inputs = {"weight": weight, "gradient": zeros, "first": zeros, "second": zeros}
        got = update(inputs, eps=least)
        assert got["new_weight"].tobytes() == weight.tobytes()
        assert not got["new_first"].any() and not got["new_second"].any()


@both_dtypes
def test_small_and_large_gradients(cell, dtype):
    """From where v underflows to where it overflows, each magnitude alone, so that none hides behind another."""
    limits = np.finfo(dtype)
    least = np.sqrt(float(limits.tiny) / (1 - NUMBERS["beta2"]))
    exact = least / np.sqrt(limits.eps)  # from here on what is flushed is less than a rounding
    for magnitude in (1e-3 * least, least, 3 * least, exact, 1e-6, 1e6, 0.1 / least):
        base = draw(37, dtype)
        inputs = {
            "weight": base["weight"] / 64,
            "gradient": base["gradient"] * dtype_of(magnitude, dtype),
            "first": base["first"] * dtype_of(magnitude, dtype),
            "second": base["second"] * dtype_of(magnitude, dtype) ** 2,
        }
        for eps in (least, 1e-8):
            want = answer(inputs, eps=eps)
            got = update(inputs, eps=eps)
            if magnitude >= exact:
                check(got, want, dtype, f"gradients of {magnitude:.0e}, ε = {eps:.0e}")
            # where v underflows, a step is still no longer than about the rate
            assert np.abs(got["new_weight"] - inputs["weight"]).max() < 20 * NUMBERS["rate"]
            assert np.abs(want["new_weight"] - got["new_weight"]).max() < 20 * NUMBERS["rate"]

    inputs = {**draw(37, dtype), "gradient": np.full(37, 0.99 * float(limits.max), dtype)}
    got = update(inputs, scale=1.0)
    assert np.isinf(got["new_second"]).all() and np.array_equal(got["new_weight"], inputs["weight"])


def dtype_of(number, dtype):
    return np.dtype(dtype).type(number)


@both_dtypes
def test_moments_decay_to_zero(cell, dtype):
    """Through denormals: never NaN, and 0 where they are flushed."""
    tiny = np.finfo(dtype).tiny
    weight = np.ones(19, dtype)
    arrays = {"weight": weight, "gradient": 0 * weight, "first": 4 * tiny * weight, "second": 1000 * tiny * weight}
    for _ in range(800):
        update(arrays, [arrays[name] for name in ("weight", "first", "second")])
    assert np.array_equal(arrays["weight"], weight)
    if cell[0] == "reference":
        assert (np.abs(arrays["first"]) < tiny).all()
    else:
        assert not arrays["first"].any() and not arrays["second"].any()


# --------------------------------------------------------------------------------------------------------------- teeth


@both_dtypes
def test_damage_is_rejected(dtype):
    inputs = draw(100, dtype)
    right, tolerance = answer(inputs), UPDATE.tolerance[dtype]
    with on(("reference", None)):
        check(update(inputs), right, dtype)
    for name, array in right.items():
        size = np.abs(array).max()
        first, last = np.arange(100) == 0, np.arange(100) == 99
        damages = {
            "zero": 0 * array,
            "scaled": array * (1 + 10 * tolerance),
            "first off": array + 10 * tolerance * size * first,
            "last off": array + 10 * tolerance * size * last,
            "last kept": np.where(last, inputs[name.removeprefix("new_")], array),
            "all kept": inputs[name.removeprefix("new_")],
            "NaN": np.where(last, np.nan, array),
            "one late": np.roll(array, 1),
        }
        for damage, wrong in damages.items():
            assert error(wrong, array) > tolerance, f"not rejected: {damage} ({name})"
    moved = {
        "scale ignored": answer(inputs, scale=1.0),
        "uphill": answer(inputs, rate=-NUMBERS["rate"]),
        "betas swapped": answer(inputs, beta1=NUMBERS["beta2"], beta2=NUMBERS["beta1"]),
        "moments swapped": answer({**inputs, "first": inputs["second"], "second": np.abs(inputs["first"])}),
        "ε under the root": answer(inputs, eps=np.sqrt(NUMBERS["eps"])),
        "the old v": {**right, "new_weight": answer({**inputs, "gradient": 0 * inputs["gradient"]})["new_weight"]},
    }
    for damage, wrong in moved.items():
        assert error(wrong["new_weight"], right["new_weight"]) > tolerance, f"not rejected: {damage}"


# ------------------------------------------------------------------------------------------------------- the optimiser


SHAPES = {"weight": (3, 5), "bias": (4,), "one": (), "none": (0, 2), "cube": (2, 3, 2)}


def weights_of(dtype, seed=1):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in SHAPES.items()}


def gradients_of(dtype, step):
    """Of norms from about 1 to 30; now and then an array has none."""
    rng = np.random.default_rng([2, step])
    size = 10 ** rng.uniform(-0.7, 0.7)
    return {
        name: np.asarray(size * (rng.random() < 0.8) * rng.normal(size=shape), dtype) for name, shape in SHAPES.items()
    }


def taken(adam, dtype, start, end):
    return [adam.step(gradients_of(dtype, step)) for step in range(start, end)]


def bits(adam):
    return [*(array.tobytes() for array in (*adam.weights.values(), *adam.state_dict().values()) if np.ndim(array))]


@both_dtypes
@pytest.mark.parametrize("clip", [None, 5.0])
def test_hundred_steps_by_the_oracle(cell, dtype, clip):
    lr, betas, eps = 0.02, (0.9, 0.99), 1e-6
    weights = weights_of(dtype)
    rows = {name: [(w, 0.0, 0.0) for w in array.ravel().tolist()] for name, array in weights.items()}
    adam = Adam(weights, lr, betas, eps, clip=clip)
    for step in range(100):
        gradients = gradients_of(dtype, step)
        lists = {name: array.ravel().tolist() for name, array in gradients.items()}
        norm = oracle.norm(lists.values())
        assert adam.step(gradients) == pytest.approx(norm, rel=1e-13)
        scale = 1.0 if clip is None else min(1.0, clip / norm)
        for name, list_ in lists.items():
            rows[name] = [
                oracle.adam(w, scale * g, m, v, step + 1, lr, *betas, eps)
                for (w, m, v), g in zip(rows[name], list_, strict=True)
            ]
    tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype]
    for name, array in weights.items():
        want = np.reshape([w for w, _, _ in rows[name]], array.shape)
        close(array, want, tolerance=tolerance, dtype=dtype, name=name)


@both_dtypes
def test_clipping_keeps_the_direction_and_bounds_the_norm(column, dtype):
    """Seen in the first moment of the first step, (1 - β₁) g."""
    gradients = {name: 100 * array for name, array in gradients_of(dtype, 3).items()}
    norm = global_norm(gradients)
    assert norm == pytest.approx(oracle.norm(a.ravel().tolist() for a in gradients.values()), rel=1e-13)
    tolerance = UPDATE.tolerance[dtype]
    for clip in (1e-3, 2.0, norm / 2):
        adam = Adam(weights_of(dtype), clip=clip)
        assert adam.step(gradients) == norm
        clipped = {name: first.astype("float64") / 0.1 for name, first in adam.first.items()}
        assert global_norm(clipped) == pytest.approx(clip, rel=tolerance)
        for name, gradient in gradients.items():
            close(clipped[name], gradient * (clip / norm), tolerance=tolerance, dtype="float64", name=name)
    alike = [Adam(weights_of(dtype), clip=clip) for clip in (None, norm, 2 * norm)]
    for adam in alike:
        adam.step(gradients)
    assert bits(alike[0]) == bits(alike[1]) == bits(alike[2])


@both_dtypes
def test_interrupted_is_uninterrupted(column, dtype, tmp_path):
    """Bit for bit, through copies and through a file."""
    whole = Adam(weights_of(dtype), 0.01, clip=3.0)
    norms = taken(whole, dtype, 0, 10)
    first = Adam(weights_of(dtype), 0.01, clip=3.0)
    assert taken(first, dtype, 0, 4) == norms[:4]
    state = first.state_dict()
    np.savez(tmp_path / "adam.npz", **state)
    kept = {name: array.copy() for name, array in first.weights.items()}
    taken(first, dtype, 4, 6)  # what was given is a copy
    for found in (state, dict(np.load(tmp_path / "adam.npz"))):
        second = Adam({name: array.copy() for name, array in kept.items()}, 0.01, clip=3.0)
        second.load_state_dict(found)
        assert second.steps == 4 and taken(second, dtype, 4, 10) == norms[4:]
        assert second.steps == 10 and bits(second) == bits(whole)


def test_numbers_may_change_between_steps():
    one, other = Adam(weights_of("float64"), 0.1), Adam(weights_of("float64"), 0.01)
    taken(one, "float64", 0, 2)
    taken(other, "float64", 0, 1)
    other.lr, other.clip = 0.1, 1e-3
    taken(other, "float64", 1, 2)
    assert bits(one) != bits(other)
    before = bits(other)
    for name, value in (("lr", 0), ("betas", (0.9, 1.0)), ("eps", -1.0), ("clip", 0.0)):
        kept = getattr(other, name)
        setattr(other, name, value)
        with pytest.raises(ValueError, match=f"^{name}: "):
            other.step(gradients_of("float64", 2))
        setattr(other, name, kept)
    assert bits(other) == before and other.steps == 2


@both_dtypes
def test_gradients_of_any_layout(column, dtype):
    want = Adam(weights_of(dtype))
    want.step(gradients_of(dtype, 0))

    def strided(array):
        wide = np.zeros((*array.shape, 2), dtype)
        wide[..., 1] = array
        return wide[..., 1]

    def frozen(array):
        array = array.copy()
        array.flags.writeable = False
        return array

    layouts = (lambda a: a.copy("F"), strided, frozen, lambda a: a.astype(a.dtype.newbyteorder()), np.ndarray.tolist)
    for layout in layouts:
        gradients = {name: layout(array) for name, array in gradients_of(dtype, 0).items() if name != "none"}
        gradients["none"] = np.zeros(SHAPES["none"], dtype)
        before = [np.array(gradient) for gradient in gradients.values()]
        adam = Adam(weights_of(dtype))
        adam.step(gradients)
        assert bits(adam) == bits(want)
        assert all(np.array_equal(a, b) for a, b in zip(before, gradients.values(), strict=True))


def test_arrays_of_both_dtypes():
    """Each its own."""
    mixed = {**weights_of("float64"), "single": np.ones(3, "float32")}
    adam = Adam(mixed)
    adam.step({**gradients_of("float64", 0), "single": np.ones(3, "float32")})
    assert adam.first["single"].dtype == "float32" and adam.first["bias"].dtype == "float64"
    assert Adam({}).step({}) == 0.0 and global_norm({}) == 0.0


# -------------------------------------------------------------------------------------------------------------- errors


def test_weights_that_cannot_be_updated():
    good = np.ones((4, 6))
    frozen = good.copy()
    frozen.flags.writeable = False
    shifted = np.zeros(33, np.uint8)[1:].view("float64")
    for error_, message, wrong in (
        (TypeError, r"expected an array, got list", [1.0]),
        (TypeError, r"expected an array, got MaskedArray", np.ma.array(good)),
        (TypeError, r"expected float32 or float64, got dtype\('float16'\)", good.astype("float16")),
        (TypeError, r"expected float32 or float64, got dtype\('int64'\)", good.astype("int64")),
        (TypeError, r"expected float32 or float64, got dtype\('>f8'\)", good.astype(">f8")),
        (ValueError, r"expected a C-contiguous, aligned, writeable array", good.T),
        (ValueError, r"expected a C-contiguous, aligned, writeable array", good[:, ::2]),
        (ValueError, r"expected a C-contiguous, aligned, writeable array", frozen),
        (ValueError, r"expected a C-contiguous, aligned, writeable array", shifted),
        (ValueError, r"expected an array of its own, got one that overlaps weights\['good'\]", good),
        (ValueError, r"expected an array of its own, got one that overlaps weights\['good'\]", good[1:]),
    ):
        with pytest.raises(error_, match=rf"^weights\['wrong'\]: {message}$"):
            Adam({"good": good, "wrong": wrong})
    with pytest.raises(TypeError, match=r"^weights: expected names and arrays, got ndarray$"):
        Adam(good)
    Adam({"above": good[:2], "below": good[2:]})  # neighbours are no overlap


@pytest.mark.parametrize(
    "error_, message, numbers",
    [
        (ValueError, "lr: expected a positive number, got 0", {"lr": 0}),
        (ValueError, "lr: expected a positive number, got nan", {"lr": np.nan}),
        (TypeError, "lr: expected a positive number, got 'fast'", {"lr": "fast"}),
        (TypeError, "betas: expected a pair of numbers, got 0.9", {"betas": 0.9}),
        (TypeError, r"betas: expected a pair of numbers, got \(0.9,\)", {"betas": (0.9,)}),
        (ValueError, "betas: expected a number from 0 to 0.9999999999999999, got 1.0", {"betas": (0.9, 1.0)}),
        (ValueError, "betas: expected a number from 0 to 0.9999999999999999, got -0.1", {"betas": (-0.1, 0.9)}),
        (ValueError, "eps: expected a positive number, got 0.0", {"eps": 0.0}),
        (ValueError, "eps: expected at least 3.4e-18 for float32, got 1e-18", {"eps": 1e-18}),
        (ValueError, "eps: expected at least 1.1e-18 for float32, got 1e-18", {"eps": 1e-18, "betas": (0.9, 0.99)}),
        (ValueError, "clip: expected a positive number, got 0", {"clip": 0}),
        (ValueError, "clip: expected a positive number, got inf", {"clip": np.inf}),
        (TypeError, "clip: expected a positive number, got True", {"clip": True}),
    ],
)
def test_numbers_out_of_range(error_, message, numbers):
    with pytest.raises(error_, match=f"^{message}$"):
        Adam(weights_of("float32"), **numbers)


def test_gradients_that_do_not_fit(column):
    adam = Adam(weights_of("float64"))
    taken(adam, "float64", 0, 1)
    before = bits(adam)
    good = gradients_of("float64", 1)
    without = {name: array for name, array in good.items() if name != "one"}
    for error_, message, wrong in (
        (TypeError, "gradients: expected names and arrays, got list", [good]),
        (ValueError, "gradients: missing one", without),
        (ValueError, "gradients: missing one; unknown two", {**without, "two": good["one"]}),
        (ValueError, r"gradients\['bias'\]: expected shape \(4,\), got \(3,\)", {**good, "bias": np.zeros(3)}),
        (ValueError, r"gradients\['bias'\]: expected shape \(4,\), got \(4, 1\)", {**good, "bias": np.zeros((4, 1))}),
        (TypeError, r"gradients\['bias'\]: expected an array, got None", {**good, "bias": None}),
        (
            TypeError,
            r"gradients\['bias'\]: expected float64 as the weights, got float32",
            {**good, "bias": good["bias"].astype("float32")},
        ),
        (
            TypeError,
            r"gradients\['bias'\]: expected float32 or float64, got complex128",
            {**good, "bias": good["bias"] * 1j},
        ),
    ):
        with pytest.raises(error_, match=f"^{message}$"):
            adam.step(wrong)
    for value, norm in ((np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf"), (1e200, "inf")):
        cube = good["cube"].copy()
        cube[-1, -1, -1] = value
        with pytest.raises(FloatingPointError, match=f"^gradients: expected finite numbers, got a norm of {norm}$"):
            adam.step({**good, "cube": cube})
    assert bits(adam) == before and adam.steps == 1
    with pytest.raises(TypeError, match=r"^gradients\['a'\]: expected an array, got None$"):
        global_norm({"a": None})
    with pytest.raises(TypeError, match=r"^gradients: expected names and arrays, got float$"):
        global_norm(1.0)


def test_states_that_do_not_fit():
    adam = Adam(weights_of("float64"))
    taken(adam, "float64", 0, 3)
    before, state = bits(adam), adam.state_dict()
    for error_, message, wrong in (
        (TypeError, "mapping: expected names and arrays, got int", 3),
        (ValueError, "mapping: missing steps", {name: state[name] for name in state if name != "steps"}),
        (ValueError, "mapping: unknown third.bias", {**state, "third.bias": 0}),
        (ValueError, r"mapping\['steps'\]: expected an integer of at least 0, got -1", {**state, "steps": -1}),
        (TypeError, r"mapping\['steps'\]: expected an integer of at least 0, got 1.5", {**state, "steps": 1.5}),
        (
            ValueError,
            r"mapping\['second.cube'\]: expected shape \(2, 3, 2\), got \(2,\)",
            {**state, "steps": 9, "first.bias": np.ones(4), "second.cube": np.ones(2)},
        ),
        (TypeError, r"mapping\['second.cube'\]: expected an array, got None", {**state, "second.cube": None}),
        (
            TypeError,
            r"mapping\['first.bias'\]: expected float64 as the weights, got float32",
            {**state, "first.bias": np.ones(4, "float32")},
        ),
    ):
        with pytest.raises(error_, match=f"^{message}$"):
            adam.load_state_dict(wrong)
    assert bits(adam) == before and adam.steps == 3


def test_a_back_end_without_the_update_changes_nothing(monkeypatch):
    def missing(name, kernel, found=fastml.backend._missing):
        return "not written" if kernel == "adam_update" else found(name, kernel)

    adam = Adam(weights_of("float64"))
    before = bits(adam)
    with monkeypatch.context() as patch, fastml.use("reference"):
        patch.setattr(fastml.backend, "_missing", missing)
        with pytest.raises(NotImplementedError, match="adam_update"):
            adam.step(gradients_of("float64", 0))
    assert bits(adam) == before and adam.steps == 0


@pytest.mark.parametrize("part", ["weights", "first", "second"])
@pytest.mark.parametrize(
    "other", [np.zeros(1), np.zeros((3, 4), "float32"), np.zeros((4, 3)).T, np.broadcast_to(1.0, (3, 4)), None]
)
def test_arrays_that_were_replaced_by_others_are_refused(part, other):
    adam = Adam({"w": np.ones((3, 4))})
    getattr(adam, part)["w"] = other
    with pytest.raises(ValueError, match=rf"^{part}\['w'\]: expected a C-contiguous, writeable array of float64 and"):
        adam.step({"w": np.ones((3, 4))})
    assert adam.steps == 0
