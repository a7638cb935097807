"""The kernels of boosting weights and of the exponential loss: oracle → reference → every cell of the grid."""

from functools import cache

import numpy as np
import oracle
import pytest
from cells import on
from compare import close, error

import fastml
from fastml.kernels.table import CHUNK, KERNELS, shape_of

FAMILIES = ("samme", "exponential")
ROWS = [row for row in KERNELS if row.family in FAMILIES]
WIDTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)  # both sides of SIMD widths
CHUNKS = (CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5)

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@cache
def draw(name, N, K=3, dtype="float64", weighted="random", seed=0):
    """Random inputs of a kernel, by name. `weighted`: "random", "zeros" for every third 0, or "" for no weights."""
    rng = np.random.default_rng([seed, N, K])
    weights = rng.uniform(0.1, 2, N)
    if weighted == "zeros":
        weights[::3] = 0
    values = {
        "sample_weight": weights.astype(dtype) if weighted else None,
        "incorrect": (rng.random(N) < 0.3) * rng.integers(1, 256, N).astype("uint8"),
        "next_incorrect": (rng.random(N) < 0.4).view("uint8"),
        "if_right": 0.37,
        "if_wrong": 1.9,
        "scores": rng.normal(size=(N, K)).astype(dtype),
        "exponent": (3 * rng.normal(size=N)).astype(dtype),
        "y": rng.integers(K, size=N),
        "shift": 1.25,
        "factor": 0.0375,
    }
    return {given: values[given] for given in KERNELS[name].inputs}


def run(row, inputs, K=3, **given):
    """All outputs of a kernel by name; `given` instead of new arrays, None for what is not wanted."""
    arrays = [array for array in inputs.values() if isinstance(array, np.ndarray)]
    sizes = {"N": len(arrays[0]), "K": K}
    dtype = next(array.dtype for array in arrays if array.dtype.kind == "f")
    outputs = {}
    for name, shape in row.outputs.items():
        wide = shape.startswith("float64 ")
        outputs[name] = given.get(
            name, np.full(1 if wide else shape_of(shape, sizes), np.nan, "float64" if wide else dtype)
        )
    fastml.backend.find(row.name).function(*inputs.values(), *outputs.values())
    return {name: array for name, array in outputs.items() if array is not None}


def answer(row, inputs, K=3, **given):
    """By the reference in float64 from the same numbers."""
    with on(("reference", None)):
        return run(
            row,
            {
                name: array.astype("float64") if isinstance(array, np.ndarray) and array.dtype == "float32" else array
                for name, array in inputs.items()
            },
            K,
            **given,
        )


def check(got, want, row, dtype, name=""):
    for output, array in got.items():
        own = "float64" if row.outputs[output].startswith("float64 ") else dtype
        close(array, want[output], tolerance=row.tolerance[dtype], dtype=own, name=f"{row.name} {name}: {output}")


# ------------------------------------------------------------------------------------------- the oracle, and the grid


def oracle_of(row, inputs, K):
    """The outputs by the oracle."""
    a = {name: array.tolist() if isinstance(array, np.ndarray) else array for name, array in inputs.items()}
    weights = a.get("sample_weight") or [1.0] * len(a.get("exponent", []))
    if row.name.startswith("samme"):
        found = {}
        if "if_right" in a:
            weights = [
                w * (a["if_wrong"] if i else a["if_right"]) for w, i in zip(weights, a["incorrect"], strict=True)
            ]
            found["scaled"] = weights
        sums = oracle.masses(weights, a.get("next_incorrect", a["incorrect"]))
        return {**found, **{name: [s] for name, s in zip(("right", "wrong", "least"), sums, strict=True)}}
    if row.name == "exponential_exponent":
        return {"exponent": [oracle.exponent(g, y) for g, y in zip(a["scores"], a["y"], strict=True)]}
    shift = a.get("shift", 0.0)
    scores = [
        [0.0] * y + [shift - e] + [0.0] * (K - 1 - y)
        for e, y in zip(a["exponent"], a.get("y", [0] * len(a["exponent"])), strict=True)
    ]
    y = a.get("y", [0] * len(scores))
    most, total, gradient, hessian = oracle.exponential(scores, y, weights)
    return {
        "exponential_sum": {"most": [most], "total": [total], "weight": [sum(weights)], "least": [0.0]},
        "exponential_update": {"scaled": [a.get("factor", 1) * h[k] for h, k in zip(hessian, y, strict=True)]},
        "exponential_gradient": {"gradient": np.reshape(gradient, (-1, K)), "hessian": np.reshape(hessian, (-1, K))},
    }[row.name]


@every_row
@both_dtypes
def test_oracle(cell, row, dtype):
    for N, K, weighted in ((0, 3, "random"), (1, 2, "random"), (17, 2, "zeros"), (29, 5, "random"), (11, 3, "")):
        if not weighted and row.name != "exponential_sum":
            weighted = "random"
        inputs = draw(row.name, N, K, dtype, weighted)
        check(run(row, inputs, K), oracle_of(row, inputs, K), row, dtype, f"N={N} K={K} {weighted}")


@every_row
@both_dtypes
def test_every_cell_agrees_with_the_reference(cell, row, dtype):
    for n, N in enumerate((*WIDTHS, *CHUNKS)):
        K = (3, 2, 7)[n % 3]
        inputs = draw(row.name, N, K, dtype, ("random", "zeros", "")[n % 3 if row.family == "exponential" else n % 2])
        check(run(row, inputs, K), answer(row, inputs, K), row, dtype, f"N={N} K={K}")
    if "K" in row.inputs.values() or row.name == "exponential_gradient":
        for K in (*WIDTHS[2:], 100):
            inputs = draw(row.name, 11, K, dtype)
            check(run(row, inputs, K), answer(row, inputs, K), row, dtype, f"N=11 K={K}")


@every_row
@both_dtypes
def test_bits_do_not_depend_on_threads(cell, row, dtype, threads, monkeypatch):
    if cell[0] == "jit":
        monkeypatch.setattr("fastml.kernels.jit.sequence.THREAD_WORK", 1)
    N = 40 * CHUNK + 3  # enough for a second worker
    inputs = draw(row.name, N, 3, dtype)
    found = []
    for n in (1, 2, 3):
        threads(n)
        found.append(run(row, inputs))
    for other in found[1:]:
        for name, array in found[0].items():
            assert array.tobytes() == other[name].tobytes(), name


@both_dtypes
def test_outputs_that_are_not_wanted(cell, dtype):
    row = KERNELS["samme_update"]
    inputs = draw(row.name, 1000, 3, dtype)
    whole = run(row, inputs)
    alone = run(row, {**inputs, "next_incorrect": None}, right=None, wrong=None, least=None)
    assert set(alone) == {"scaled"} and alone["scaled"].tobytes() == whole["scaled"].tobytes()
    row = KERNELS["exponential_gradient"]
    inputs = draw(row.name, 1000, 3, dtype)
    whole = run(row, inputs)
    for name in ("gradient", "hessian"):
        other = {"gradient": "hessian", "hessian": "gradient"}[name]
        assert run(row, inputs, **{other: None})[name].tobytes() == whole[name].tobytes()


@both_dtypes
def test_weights_may_be_scaled_in_place(cell, dtype):
    for name in ("samme_update", "exponential_update"):
        row = KERNELS[name]
        for N in (1, 33, 3 * CHUNK + 5):
            inputs = draw(name, N, 3, dtype)
            want = run(row, inputs)
            weights = inputs["sample_weight"].copy()
            got = run(row, {**inputs, "sample_weight": weights}, scaled=weights)
            assert all(got[output].tobytes() == want[output].tobytes() for output in got)


# ------------------------------------------------------------------------------------------------------------ extremes


@both_dtypes
def test_unfit_weights_are_seen(cell, dtype):
    """Wherever they are: NaN and infinities in the sums, negative ones in `least`."""
    row = KERNELS["samme_error"]
    for N in (1, 9, 100, CHUNK + 3):
        inputs = draw(row.name, N, 3, dtype)
        for place in {0, N // 2, N - 1}:
            for value in (np.nan, np.inf, -1e-3, -np.inf):
                weights = inputs["sample_weight"].copy()
                weights[place] = value
                found = run(row, {**inputs, "sample_weight": weights})
                sound = np.isfinite(found["right"] + found["wrong"]) and found["least"] == 0
                assert not sound, (N, place, value)
                if value == -1e-3:
                    assert found["least"] == np.dtype(dtype).type(value)


@both_dtypes
def test_exponents_without_a_limit(cell, dtype):
    for N in (40, CHUNK + 9):
        exponent = np.linspace(-30, 30, N).astype(dtype)
        weights = np.ones(N, dtype)
        exponent[5], exponent[7], weights[7] = -np.inf, 1e30, 0  # a weight of 0 has no say
        found = run(KERNELS["exponential_sum"], {"exponent": exponent, "sample_weight": weights})
        assert found["most"] == np.dtype(dtype).type(30) and found["weight"] == N - 1
        scaled = run(
            KERNELS["exponential_update"],
            {"exponent": exponent, "sample_weight": weights, "shift": 30.0, "factor": 0.5},
        )["scaled"]
        assert scaled[5] == scaled[7] == 0 and scaled[-1] == 0.5
        for value in (np.nan, np.inf):
            exponent[11] = value
            assert np.isnan(run(KERNELS["exponential_sum"], {"exponent": exponent, "sample_weight": weights})["total"])
    none = {"exponent": np.full(20, -np.inf, dtype), "sample_weight": np.ones(20, dtype)}
    found = run(KERNELS["exponential_sum"], none)
    assert found["most"] == -np.inf and found["total"] == 0
    none["exponent"][3] = np.nan
    assert np.isnan(run(KERNELS["exponential_sum"], none)["total"])


@both_dtypes
def test_gradient_overflows_to_infinity_and_underflows_to_zero(cell, dtype):
    limits = np.finfo(dtype)
    x = np.array([np.log(limits.max) * t for t in (-3, -1.2, -0.9, 0, 0.99, 1.01, 2)]).astype(dtype)
    x = np.concatenate([x, [np.inf, -np.inf, np.nan]]).astype(dtype)
    inputs = {"exponent": x, "sample_weight": None, "y": np.zeros(len(x), np.intp), "shift": 0.0}
    found = -run(KERNELS["exponential_gradient"], inputs)["gradient"][:, 0]
    assert found[0] == found[1] == found[8] == 0 and found[3] == 1
    assert np.isinf(found[[5, 6, 7]]).all() and np.isnan(found[9])
    want = np.exp(x[[2, 4]].astype("float64"))
    np.testing.assert_allclose(found[[2, 4]], want, rtol=200 * limits.eps)


# --------------------------------------------------------------------------------------------------------------- teeth


@every_row
@both_dtypes
def test_damage_is_rejected(row, dtype):
    N, K = 100, 3
    inputs = draw(row.name, N, K, dtype)
    right = answer(row, inputs)
    tolerance = row.tolerance[dtype]
    with on(("reference", None)):
        check(run(row, inputs), right, row, dtype)

    def off(array, place, by):
        array = array.copy()
        array.flat[place] += by
        return array

    for name, array in right.items():
        if name == "least":
            damages = {"one": array - 1}
        else:
            size = np.abs(array).max()
            damages = {
                "zero": np.zeros_like(array),
                "scaled": array * (1 + 10 * tolerance),
                "first off": off(array, 0, 10 * tolerance * size),
                "last off": off(array, -1, 10 * tolerance * size),
                "NaN": off(array, -1, np.nan),
                "the sign": -array,
            }
            if len(array) > 1:
                damages |= {"one late": np.roll(array, 1, axis=0), "last row zero": np.r_[array[:-1], 0 * array[-1:]]}
        for damage, wrong in damages.items():
            assert error(wrong, array) > tolerance, f"{row.name}: not rejected: {damage} ({name})"
    flipped = {
        "samme_error": {"incorrect": (inputs.get("incorrect", 0) == 0) * np.uint8(1)},
        "samme_update": {"if_right": inputs.get("if_wrong"), "if_wrong": inputs.get("if_right")},
        "exponential_exponent": {"y": (inputs.get("y", 0) + 1) % K},
        "exponential_sum": {"sample_weight": None},
        "exponential_update": {"shift": 0.0},
        "exponential_gradient": {"y": (inputs.get("y", 0) + 1) % K},
    }[row.name]
    wrong = answer(row, {**inputs, **flipped})
    changed = [name for name in right if name not in ("least", "most")]
    assert all(error(wrong[name], right[name]) > tolerance for name in changed)
