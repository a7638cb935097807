"""Softmax with cross-entropy: oracle → reference → every cell of the grid; what it promises; the public functions."""

import sys
from functools import cache

import numpy as np
import oracle
import pytest
from cells import on, python
from compare import close
from problems import bitwise

import fastml
from fastml.kernels.table import KERNELS, shape_of
from fastml.losses import LinearCrossEntropy, linear_cross_entropy, softmax_cross_entropy

FAMILIES = ("softmax",)
ROWS = [row for row in KERNELS if row.family in FAMILIES]
WIDTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)  # both sides of SIMD widths
MANY = 8_500  # rows that workers share out in parts, whose sums are added in the end
BLOCKS = (63, 64, 127, 129, 255, 257, 600)  # of rows, and of classes

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@cache
def draw(name, N=7, V=5, H=3, dtype="float64", ignored=0.0, seed=0):
    """Random inputs of a kernel, by name; about that part of the rows is ignored, and holds NaN."""
    rng = np.random.default_rng([seed, N, V, H])
    target = np.where(rng.random(N) < ignored, -1, rng.integers(V, size=N))
    values = {
        "logits": rng.normal(size=(N, V)),
        "x": rng.normal(size=(N, H)),
        "weight": rng.normal(size=(V, H)) / H**0.5,
        "bias": rng.normal(size=V),
    }
    for rows in (values["logits"], values["x"]):
        rows[target < 0] = np.nan
    values = {name: value.astype(dtype) for name, value in values.items()}
    return {given: (values | {"target": target, "scale": 0.37})[given] for given in KERNELS[name].inputs}


def run(row, inputs, gradients=True):
    """All outputs of a kernel by name; without gradients, the loss alone."""
    first, weight = inputs.get("logits", inputs.get("x")), inputs.get("weight", inputs.get("logits"))
    sizes = {"N": len(first), "V": len(weight) if "weight" in inputs else first.shape[1], "H": weight.shape[1]}
    outputs = {name: np.full(shape_of(axes, sizes), np.nan, first.dtype) for name, axes in row.outputs.items()}
    if not gradients:
        outputs |= dict.fromkeys(list(outputs)[1:])
    fastml.backend.find(row.name).function(*inputs.values(), *outputs.values())
    return {name: array for name, array in outputs.items() if array is not None}


def wide(inputs):
    return {name: a.astype("float64") if getattr(a, "dtype", None) == "float32" else a for name, a in inputs.items()}


def answer(row, inputs):
    """By the reference in float64 from the same numbers."""
    with on(("reference", None)):
        return run(row, wide(inputs))


def check(got, want, row, dtype, name=""):
    for output, array in got.items():
        close(array, want[output], tolerance=row.tolerance[dtype], dtype=dtype, name=f"{row.name} {name}: {output}")


def agree(row, dtype, **sizes):
    inputs = draw(row.name, **sizes, dtype=dtype)
    got = run(row, inputs)
    check(got, answer(row, inputs), row, dtype, str(sizes))
    check(run(row, inputs, gradients=False), got, row, dtype, f"{sizes}, the loss alone")


# ------------------------------------------------------------------------------------------- the oracle, and the grid


def oracle_of(row, inputs):
    a = {name: array.tolist() if isinstance(array, np.ndarray) else array for name, array in inputs.items()}
    if row.name == "softmax_linear":
        found = oracle.linear_cross_entropy(*a.values())
    else:
        rows = zip(a["logits"], a["target"], strict=True)
        found = zip(*(oracle.softmax_cross_entropy(l, t, a["scale"]) for l, t in rows), strict=True)
    return {name: np.array(array) for name, array in zip(row.outputs, found, strict=True)}


@every_row
@both_dtypes
def test_oracle(cell, row, dtype):
    for N, V, H, ignored in ((1, 1, 1, 0), (7, 5, 3, 0), (5, 2, 7, 0), (11, 17, 2, 0.4), (3, 4, 2, 1)):
        inputs = draw(row.name, N, V, H, dtype, ignored)
        check(run(row, inputs), oracle_of(row, inputs), row, dtype, f"{N} {V} {H}")


@every_row
@both_dtypes
def test_every_cell_agrees_with_the_reference(cell, row, dtype):
    for N in (*WIDTHS, *BLOCKS):
        agree(row, dtype, N=N)
        agree(row, dtype, N=N, ignored=0.3)
    for V in (*WIDTHS[1:], *BLOCKS, 5000):
        agree(row, dtype, V=V)
    if "H" in row.inputs.get("x", ""):
        for H in (*WIDTHS[1:], 130):
            agree(row, dtype, H=H)
        agree(row, dtype, N=300, V=270, H=67, ignored=0.1)
        agree(row, dtype, N=MANY, ignored=0.1)


# ------------------------------------------------------------------------------------------------------- promises


@every_row
@both_dtypes
def test_any_number_of_threads(cell, row, dtype, threads, monkeypatch):
    """The same bits, and the loss alone has those too."""
    if cell[0] != "reference":
        monkeypatch.setattr(f"fastml.kernels.{'jit.sequence' if cell[0] == 'jit' else 'native.softmax'}.THREAD_WORK", 1)
    for sizes in (
        {"N": 700, "V": 300, "H": 9},
        {"N": 301, "V": 66, "H": 37, "ignored": 0.2},
        {"N": 2, "V": 5000, "H": 40},
        {"N": MANY, "V": 37, "H": 5},
    ):
        inputs = draw(row.name, **sizes, dtype=dtype)
        threads(1)
        want = run(row, inputs)
        for n in (2, 3, 5):
            threads(n)
            if cell[0] == "reference":
                check(run(row, inputs), want, row, dtype)
            else:
                bitwise(run(row, inputs), want, f"{row.name} {sizes}, {n} threads")
                loss = run(row, inputs, gradients=False)
                bitwise(loss, {"loss": want["loss"]}, f"{row.name} {sizes}, {n} threads, the loss alone")


@every_row
@both_dtypes
def test_rows_alone_and_in_company(cell, row, dtype):
    """Loss and gradient of a row are its own, to the bit in `native`."""
    if cell[0] != "native":
        pytest.skip("native alone promises it")
    rows = "logits" if row.name == "softmax_cross_entropy" else "x"
    for sizes in ({"N": 300, "V": 261, "H": 5}, {"N": 37, "V": 19, "H": 33}):
        inputs = draw(row.name, **sizes, dtype=dtype)
        whole = run(row, inputs)
        for part in (slice(0, 1), slice(3, 20), slice(11, 36), slice(36, 37), slice(1, None, 7)):
            got = run(row, inputs | {name: inputs[name][part].copy() for name in (rows, "target")})
            for name in ("loss", f"d{rows}"):
                bitwise({name: got[name]}, {name: whole[name][part]}, f"{row.name} {sizes} {part}")


@every_row
@both_dtypes
def test_ignored_rows_are_never_read(cell, row, dtype):
    """Zeros, whatever they hold; and the others do not notice, weights included, to the last bit."""
    inputs = draw(row.name, N=90, V=21, H=17, dtype=dtype, ignored=0.3)
    rows = "logits" if "logits" in inputs else "x"
    ignored = inputs["target"] < 0
    assert np.isnan(inputs[rows][ignored]).all() and 0 < ignored.sum() < 90
    want = run(row, inputs)
    assert not want["loss"][ignored].any() and not want[f"d{rows}"][ignored].any()
    assert all(np.isfinite(array).all() for array in want.values())
    for value in (0, np.inf, 1e30):
        other = inputs[rows].copy()
        other[ignored] = value
        bitwise(run(row, inputs | {rows: other}), want)
    nothing = run(row, inputs | {"target": np.full(90, -1)})
    assert not any(array.any() for array in nothing.values())


@every_row
@both_dtypes
def test_inputs_are_not_modified(cell, row, dtype):
    inputs = draw(row.name, N=40, V=9, H=5, dtype=dtype, ignored=0.2)
    before = {name: array.copy() for name, array in inputs.items() if isinstance(array, np.ndarray)}
    run(row, inputs)
    bitwise({name: inputs[name] for name in before}, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c(column, threads):
    """It ends a long call in the middle; afterwards everything works as before."""
    code = """
import os, signal, sys, threading
import numpy as np
import fastml
from test_softmax import KERNELS, draw, run
from problems import bitwise

def interrupted(kernel, *arguments):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        fastml.backend.find(kernel).function(*arguments)
    except KeyboardInterrupt:
        return True

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell begins without
f, (N, V, H) = np.float32, map(int, sys.argv[2].split())
x, w, b, target = np.zeros((N, H), f), np.zeros((V, H), f), np.zeros(V, f), np.zeros(N, np.intp)
with fastml.use(sys.argv[1]):
    row = KERNELS["softmax_linear"]
    small = draw(row.name, N=600, V=257, H=40, dtype="float32")
    want = run(row, small)
    for _ in range(2):
        loss = np.zeros(N, f)
        assert interrupted(row.name, x, w, b, target, 1.0, loss, np.empty_like(x), np.empty_like(w), np.empty_like(b))
        assert not loss[-1]
    assert np.finfo(float).smallest_subnormal * 1 != 0
    bitwise(run(row, small), want)
print("done")
"""
    if column[0] == "reference":
        pytest.skip("NumPy notices between two calls")
    ended = python(code, column[0], "200000 500 1000", FASTML_NUM_THREADS=threads)
    assert ended.stdout == "done\n", ended.stderr


# ------------------------------------------------------------------------------------------------------- extremes


def logits_run(logits, target, dtype):
    row = KERNELS["softmax_cross_entropy"]
    return row, {"logits": np.array(logits, dtype), "target": np.array(target, np.intp), "scale": 0.5}


def linear_of(inputs):
    """The same logits by a linear layer: of the identity, which makes NaN of 0 · inf, so that they are the biases."""
    logits = inputs["logits"]
    zeros = np.zeros((1, 2), logits.dtype), np.zeros((logits.shape[1], 2), logits.dtype)
    for n, target in enumerate(inputs["target"]):
        yield n, dict(zip(KERNELS["softmax_linear"].inputs, (*zeros, logits[n], np.array([target]), 0.5), strict=True))


@both_dtypes
@pytest.mark.parametrize("V", [1, 3, 19, 70, 300])
@np.errstate(all="ignore")  # the reference is NumPy, which warns where infinities meet
def test_extreme_logits(cell, dtype, V):
    inf, nan = np.inf, np.nan
    logits = np.zeros((10, V), dtype)
    target = np.arange(10) % V
    logits[1] = np.linspace(-1e30, 1e30, V)
    logits[2, -1] = 1e30
    logits[3, -1] = -1e30
    logits[4, V // 2] = -inf
    logits[5] = -inf
    logits[6, V // 3] = nan
    logits[7, -1] = inf
    logits[8, 0] = -inf
    target[8] = 0
    row, inputs = logits_run(logits, target, dtype)
    got = run(row, inputs)
    check(got, answer(row, inputs), row, dtype)
    for n in (6, 7, 5):
        assert np.isnan(got["loss"][n]) and np.isnan(got["dlogits"][n]).all()
    if V > 1:
        assert got["loss"][8] == inf and got["dlogits"][8, 0] == -0.5
        assert got["dlogits"][4, V // 2] == (-0.5 if target[4] == V // 2 else 0)
    else:
        assert got["loss"][0] == 0 and got["dlogits"][0, 0] == 0
    linear = KERNELS["softmax_linear"]
    for n, one in linear_of(inputs):
        found = run(linear, one)
        check({"loss": found["loss"]}, {"loss": got["loss"][n : n + 1]}, linear, dtype, f"row {n}")
        check({"dbias": found["dbias"]}, {"dbias": got["dlogits"][n]}, linear, dtype, f"row {n}")


@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@np.errstate(all="ignore")
def test_one_poisoned_row(cell, dtype, poison):
    """NaN in its own loss and dx, and in the gradients of the weights; the others keep their bits."""
    row = KERNELS["softmax_linear"]
    for sizes in ({"N": 40, "V": 19, "H": 5}, {"N": 300, "V": 70, "H": 3}):
        inputs = draw(row.name, **sizes, dtype=dtype)
        clean = run(row, inputs)
        for n in (0, 17, sizes["N"] - 1):
            x = inputs["x"].copy()
            x[n, 1] = poison
            got = run(row, inputs | {"x": x})
            check(
                {name: got[name][[n]] for name in ("loss", "dx")},
                {"loss": [np.nan], "dx": np.full((1, sizes["H"]), np.nan)},
                row,
                dtype,
            )
            for name in ("loss", "dx"):
                bitwise({name: np.delete(got[name], n, 0)}, {name: np.delete(clean[name], n, 0)}, f"{sizes} {n}")
            assert np.isnan(got["dweight"]).all() and np.isnan(got["dbias"]).all()


@both_dtypes
def test_denormals_count_as_zero(cell, dtype):
    """Products of a denormal and the largest weights are near 0.1: they would be seen."""
    if cell[0] == "reference":
        pytest.skip("NumPy computes with denormals")
    info, row = np.finfo(dtype), KERNELS["softmax_linear"]
    inputs = draw(row.name, N=5, V=7, H=3, dtype=dtype)
    inputs = inputs | {"weight": np.sign(inputs["weight"]) * info.max / 100}
    tiny, none = (run(row, inputs | {"x": np.full_like(inputs["x"], value)}) for value in (info.tiny / 4, 0))
    bitwise({"loss": tiny["loss"]}, {"loss": none["loss"]})
    assert info.smallest_subnormal * 1 != 0


# ------------------------------------------------------------------------------------------- gradients by differences

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
STEP, DIFFERENCES = 1e-3, 1e-10  # as in test_gradients.py


def by_differences(loss, array):
    found = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        for places, weight in STENCIL:
            moved = array.copy()
            moved[index] += places * STEP
            found[index] += weight * loss(moved) / STEP
    return found


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients(reduction):
    given = draw("softmax_linear", N=6, V=5, H=3, ignored=0.3)
    inputs = {"x": np.nan_to_num(given["x"]).reshape(2, 3, 3), "weight": given["weight"], "bias": given["bias"]}
    target = given["target"].reshape(2, 3)
    options = {"target": target, "reduction": reduction, "ignore_index": -1}
    with on(("reference", None)):
        got = linear_cross_entropy(**inputs, **options)
        for name, array in inputs.items():
            want = by_differences(lambda a: linear_cross_entropy(**inputs | {name: a}, **options).loss, array)  # noqa: B023
            close(getattr(got, name), want, tolerance=DIFFERENCES, dtype="float64", name=name)
        logits = inputs["x"] @ inputs["weight"].T
        want = by_differences(lambda a: softmax_cross_entropy(a, **options)[0], logits)
        close(softmax_cross_entropy(logits, **options)[1], want, tolerance=DIFFERENCES, dtype="float64")


# ------------------------------------------------------------------------------------------------------------- teeth


def damaged(row, inputs, right):
    """(what was done, some outputs) for what a wrong kernel may do."""
    tolerance, rows = row.tolerance["float64"], "logits" if "logits" in inputs else "x"
    shift = inputs | {"target": np.roll(inputs["target"], 1)}
    for name, array in right.items():
        yield f"{name} scaled", {name: array * (1 + 10 * tolerance)}
        yield f"{name} without its last", {name: np.concatenate([array[:-1], np.zeros_like(array[:1])])}
        yield f"{name} without its first", {name: np.concatenate([np.zeros_like(array[:1]), array[1:]])}
        yield f"{name} of another order", {name: array[::-1]}
        yield f"{name} of other targets", {name: run(row, shift)[name]}
    counts = inputs["target"] >= 0
    yield "a loss without its maximum", {"loss": right["loss"] + counts * 1e-9}
    d = f"d{rows}"
    yield "an ignored row", {d: np.where(counts[:, None], right[d], 1e-9)}
    yield "probabilities for gradients", {d: run(row, inputs | {"scale": 1.0})[d]}
    if rows == "logits":
        hot = np.eye(inputs["logits"].shape[1])[inputs["target"]] * counts[:, None]
        yield "no target taken off", {d: right[d] + inputs["scale"] * hot}
    else:
        none = inputs | {"bias": np.zeros_like(inputs["bias"])}
        yield "the bias forgotten", {"loss": run(row, none)["loss"]}
        yield "weights added to their gradient", {"dweight": right["dweight"] + 1e-8 * inputs["weight"]}
        yield "a block of rows twice", {"dweight": right["dweight"] * 2, "dbias": right["dbias"] * 2}


@every_row
def test_damage_is_rejected(row):
    inputs = draw(row.name, N=9, V=5, H=4, ignored=0.3, seed=14)
    assert inputs["target"][0] >= 0 <= inputs["target"][-1] and (inputs["target"] < 0).any()
    with on(("reference", None)):
        right = run(row, inputs)
        check(right, right, row, "float64")
        for damage, arrays in damaged(row, inputs, right):
            for name, array in arrays.items():
                with pytest.raises(AssertionError):
                    check({name: array}, right, row, "float64", damage)
                    pytest.fail(f"{row.name}: not rejected: {damage} ({name})")


# ------------------------------------------------------------------------------------------------ the public functions


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 0), (2, 1, 3)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_shapes_and_reductions(column, shape, reduction):
    rng = np.random.default_rng(0)
    x, weight, bias, target = (
        rng.normal(size=(*shape, 5)),
        rng.normal(size=(7, 5)),
        rng.normal(size=7),
        rng.integers(7, size=shape),
    )
    logits = x @ weight.T + bias
    found = linear_cross_entropy(x, weight, bias, target, reduction=reduction)
    loss, dlogits = softmax_cross_entropy(logits, target, reduction=reduction)
    total = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, target[..., None], -1)[..., 0]
    want = {"none": total, "sum": total.sum(), "mean": total.mean() if total.size else np.nan}[reduction]
    for one in (loss, found.loss):
        assert isinstance(one, np.ndarray if reduction == "none" and shape else float)
        np.testing.assert_allclose(one, want, rtol=1e-12)
    assert dlogits.shape == logits.shape and found.x.shape == x.shape
    assert found.weight.shape == weight.shape and found.bias.shape == bias.shape
    d = dlogits.reshape(-1, 7)
    for got, by_chain in (
        (found.x, dlogits @ weight),
        (found.weight, d.T @ x.reshape(-1, 5)),
        (found.bias, d.sum(axis=0)),
    ):
        np.testing.assert_allclose(got, by_chain, atol=1e-13)
    without = linear_cross_entropy(x, weight, bias, target, reduction=reduction, gradient=False)
    assert isinstance(without, LinearCrossEntropy) and without.x is without.weight is without.bias is None
    np.testing.assert_array_equal(without.loss, found.loss)
    none = linear_cross_entropy(x, weight, None, target, reduction=reduction)
    zeros = linear_cross_entropy(x, weight, np.zeros(7), target, reduction=reduction)
    assert none.bias is None
    np.testing.assert_array_equal(none.weight, zeros.weight)


def test_ignored_rows_and_the_mean(column):
    """The mean is that of the rows that count, as in PyTorch; without any it is NaN, and gradients are 0."""
    x, weight = np.random.default_rng(0).normal(size=(2, 6, 4))
    target = np.array([1, -100, 5, 0, -100, 2])
    got, want = (linear_cross_entropy(x[rows], weight, None, target[rows]) for rows in (slice(None), target >= 0))
    np.testing.assert_allclose(got.loss, want.loss)
    np.testing.assert_allclose(got.weight, want.weight, atol=1e-15)
    other = linear_cross_entropy(x, weight, None, np.where(target < 0, 255, target).astype("uint8"), ignore_index=255)
    assert other.loss == got.loss
    loss, d = softmax_cross_entropy(x, np.full(6, 3), ignore_index=3)
    assert np.isnan(loss) and not d.any()


@both_dtypes
def test_arrays_of_any_layout(column, dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.normal(size=shape).astype(dtype) for shape in ((4, 3, 10), (14, 10), (7,)))
    target = rng.integers(7, size=(4, 6))
    read_only = x.copy()
    read_only.flags.writeable = False
    swapped = x.astype(x.dtype.newbyteorder())
    want = linear_cross_entropy(x, weight[::2].copy(), bias, target[:, ::2].copy())
    for other in (np.asfortranarray(x), read_only, swapped, np.repeat(x, 2, axis=1)[:, ::2]):
        got = linear_cross_entropy(other, np.asfortranarray(weight)[::2], bias[::-1][::-1], target[:, ::2])
        bitwise({"x": got.x, "weight": got.weight}, {"x": want.x, "weight": want.weight})
        bitwise(
            {"d": softmax_cross_entropy(other, target[:, ::2])[1]}, {"d": softmax_cross_entropy(x, target[:, ::2])[1]}
        )
    lists = linear_cross_entropy([[1, 2]], [[1, 0], [0, 1]], [0, 0], [1])
    assert lists.x.dtype == np.float64


X, W, B, T = np.ones((2, 3)), np.ones((4, 3)), np.ones(4), np.array([0, 3])


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"x": None}, TypeError, "x: expected an array, got None"),
        ({"weight": None}, TypeError, "weight: expected an array, got None"),
        ({"target": None}, TypeError, "target: expected "),
        ({"x": X.astype("float32")}, TypeError, "weight: "),
        ({"x": X * 1j}, TypeError, "x: expected float32 or float64, got complex128"),
        ({"weight": W.astype("float16")}, TypeError, "weight: expected float32 or float64, got float16"),
        ({"weight": np.ones(3)}, ValueError, "weight: "),
        ({"weight": np.ones((0, 3))}, ValueError, "weight: expected shape (V, H) with both at least 1, got (0, 3)"),
        ({"weight": np.ones((4, 0))}, ValueError, "weight: expected shape (V, H) with both at least 1, got (4, 0)"),
        ({"x": np.ones((2, 4))}, ValueError, "x: expected shape (..., H) with H = 3 (from weight), got (2, 4)"),
        ({"x": np.float64(1)}, ValueError, "x: expected shape (..., H) with H = 3 (from weight), got ()"),
        ({"bias": np.ones(3)}, ValueError, "bias: "),
        ({"target": T[:1]}, ValueError, "target: expected shape (2,) (from x), got (1,)"),
        ({"target": [0, 4]}, ValueError, "target: expected 0 ≤ class < V = 4 (from weight), got 4 at index 1"),
        ({"target": [-1, 0]}, ValueError, "target: expected 0 ≤ class < V = 4 (from weight), got -1 at index 0"),
        ({"target": [0.0, 1.0]}, TypeError, "target: expected "),
        ({"reduction": "max"}, ValueError, "reduction: expected one of 'mean', 'sum', 'none', got 'max'"),
        ({"ignore_index": 1.5}, TypeError, "ignore_index: expected an integer"),
        ({"gradient": 1}, TypeError, "gradient: expected True or False, got 1"),
    ],
)
def test_errors_of_linear_cross_entropy(changes, error, message):
    arguments = {"x": X, "weight": W, "bias": B, "target": T} | changes
    with pytest.raises(error) as raised:
        linear_cross_entropy(**arguments)
    assert str(raised.value).startswith(message), raised.value


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"logits": None}, TypeError, "logits: expected an array, got None"),
        ({"logits": X * 1j}, TypeError, "logits: expected float32 or float64, got complex128"),
        ({"logits": np.float64(1)}, ValueError, "logits: expected shape (..., V) with V of at least 1, got ()"),
        ({"logits": np.ones((2, 0))}, ValueError, "logits: expected shape (..., V) with V of at least 1, got (2, 0)"),
        ({"target": [[0, 1]]}, ValueError, "target: expected shape (2,) (from logits), got (1, 2)"),
        ({"target": [0, 3]}, ValueError, "target: expected 0 ≤ class < V = 3 (from logits), got 3 at index 1"),
        ({"logits": X[None], "target": [[0, 7]]}, ValueError,
         "target: expected 0 ≤ class < V = 3 (from logits), got 7 at index (0, 1)"),
        ({"logits": X[0], "target": 9}, ValueError, "target: expected 0 ≤ class < V = 3 (from logits), got 9"),
        ({"reduction": None}, ValueError, "reduction: expected one of 'mean', 'sum', 'none', got None"),
        ({"ignore_index": True}, TypeError, "ignore_index: expected an integer"),
    ],
)  # fmt: skip
def test_errors_of_softmax_cross_entropy(changes, error, message):
    with pytest.raises(error) as raised:
        softmax_cross_entropy(**{"logits": X, "target": [0, 1]} | changes)
    assert str(raised.value).startswith(message), raised.value


# -------------------------------------------------------------------------------------------------------------- peers


@both_dtypes
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_torch(cell, dtype, reduction):
    torch = pytest.importorskip("torch")
    inputs = draw("softmax_linear", N=40, V=23, H=17, dtype=dtype, ignored=0.2)
    inputs = inputs | {"x": np.nan_to_num(inputs["x"])}
    leaves = [torch.tensor(inputs[name], requires_grad=True) for name in ("x", "weight", "bias")]
    target = np.where(inputs["target"] < 0, -100, inputs["target"])
    logits = torch.nn.functional.linear(*leaves)
    logits.retain_grad()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction=reduction)
    loss.backward()
    row = KERNELS["softmax_linear"]
    found = linear_cross_entropy(*(inputs[name] for name in ("x", "weight", "bias")), target, reduction=reduction)
    got = {"loss": np.array([found.loss], dtype), "dx": found.x, "dweight": found.weight, "dbias": found.bias}
    want = [loss.detach()[None], *(leaf.grad for leaf in leaves)]
    check(got, {name: array.numpy() for name, array in zip(got, want, strict=True)}, row, dtype)
    loss, dlogits = softmax_cross_entropy(logits.detach().numpy(), target, reduction=reduction)
    check({"dx": dlogits}, {"dx": logits.grad.numpy()}, row, dtype)
    assert loss == pytest.approx(found.loss, rel=1e-5)
