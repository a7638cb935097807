"""Errors are part of the contract: their types, and messages that name the argument and what disagrees."""

import importlib
import re

import numpy as np
import pytest
from cells import RUNGS, on, python
from problems import bitwise, draw

import fastml
from fastml.kernels.table import KERNELS

T, B, I, H = 5, 3, 2, 7


def refused(error, message, problem, **changes):
    with pytest.raises(error, match=message):
        problem.having(**changes).forward()


# -------------------------------------------------------------------------------------------------------- arguments


def test_wrong_rank(variant):
    problem = draw(variant)
    axes = {
        "x": "T, B, I",
        "h0": "B, H",
        "c0": "B, H",
        "w_ih": ".*H, I",
        "w_hh": ".*H, H",
        "b_ih": ".*H,",
        "b_hh": ".*H,",
    }
    for name, array in problem.inputs.items():
        for wrong in (array[0], array[None]):
            refused(
                ValueError, rf"^{name}: expected shape \({axes[name]}\).*{wrong.ndim} axes", problem, **{name: wrong}
            )


def test_axis_sizes_that_disagree(variant):
    """The message gives the letter, its size and the argument that set it."""
    problem = draw(variant)
    G = len(problem.inputs["w_hh"]) // H
    for name, shape, where in (
        ("x", (T, B, I + 1), "I = 3 .from x"),
        ("w_ih", (G * H, I + 2), "I = 2 .from x"),
        ("w_ih", (G * (H + 1), I), "H = 7 .from w_hh"),
        ("w_hh", (G * H, H + G), "H = 7 .from w_hh|H = "),
        ("h0", (B + 1, H), "B = 3 .from x"),
        ("h0", (B, H + 1), "H = 7 .from w_hh"),
        ("c0", (B + 1, H), "B = 3 .from x"),
        ("c0", (B, H - 1), "H = 7 .from w_hh"),
        ("b_ih", (G * H + 1,), "H = 7 .from w_hh"),
        ("b_hh", (G * H - 1,), "H = 7 .from w_hh"),
    ):
        if name in problem.inputs:
            named = "w_ih" if name == "x" else name  # x comes first: w_ih is what disagrees with it
            refused(ValueError, rf"^{named}: .*({where})", problem, **{name: np.zeros(shape)})


def test_empty_features(variant):
    for size, name in (({"I": 0}, "I"), ({"H": 0}, "H")):
        problem = draw(variant)
        G = len(problem.inputs["w_hh"]) // H
        n_inputs, n_hidden = size.get("I", I), size.get("H", H)
        shapes = {"x": (T, B, n_inputs), "w_ih": (G * n_hidden, n_inputs), "w_hh": (G * n_hidden, n_hidden)}
        rest = dict.fromkeys(problem.inputs.keys() - shapes.keys())
        changes = {**rest, **{array: np.zeros(shape) for array, shape in shapes.items()}}
        refused(ValueError, f"expected {name} of at least 1, got 0", problem, **changes)


def test_dtypes(variant):
    problem = draw(variant)
    for name, array in problem.inputs.items():
        refused(TypeError, r"float(32|64) as (x|w_ih), got float(32|64)", problem, **{name: array.astype("float32")})
        wrong = [array.astype(dtype) for dtype in ("float16", "complex128", "object", "U8")]
        if np.longdouble(0).dtype != np.float64(0).dtype:
            wrong.append(array.astype("longdouble"))
        for other in wrong:
            refused(
                TypeError,
                rf"^{name}: expected float32 or float64, got {re.escape(str(other.dtype))}",
                problem,
                **{name: other},
            )
        refused(TypeError, rf"^{name}: expected", problem, **{name: "text"})
        refused(TypeError, rf"^{name}: expected", problem, **{name: [[1.0, 2.0], [3.0]]})
    for name in ("x", "w_ih", "w_hh"):
        refused(TypeError, rf"^{name}: expected an array, got None", problem, **{name: None})


def test_lengths(variant):
    problem = draw(variant)
    for lengths, error, message in (
        ([1.0, 2.0, 3.0], TypeError, "expected integers, got float64"),
        (np.ones(3, bool), TypeError, "expected integers, got bool"),
        (["1", "2", "3"], TypeError, "expected integers, got <U1"),
        ([1, 2], ValueError, r"expected shape \(B,\) = \(3,\), got \(2,\)"),
        ([[1, 2, 3]], ValueError, r"expected shape \(B,\) = \(3,\), got \(1, 3\)"),
        (3, ValueError, r"expected shape \(B,\) = \(3,\), got \(\)"),
        ([1, 2, 6], ValueError, "expected 0 ≤ length ≤ T = 5, got 6 at index 2"),
        ([1, -1, 2], ValueError, "expected 0 ≤ length ≤ T = 5, got -1 at index 1"),
        (np.array([2**64 - 1, 0, 0], "uint64"), ValueError, f".*got {2**64 - 1} at index 0"),
    ):
        refused(error, f"^lengths: {message}", problem, lengths=lengths)


def test_flags(variant):
    problem = draw(variant)
    for name in {"reverse", "reset_after"} & problem.options.keys():
        for wrong in (1, "no", None, np.ones(2, bool)):
            refused(TypeError, rf"^{name}: expected True or False, got", problem, **{name: wrong})
    with pytest.raises(TypeError, match=r"^keep: expected True or False, got 0"):
        problem.forward(keep=0)


def test_nonlinearity():
    for wrong in ("sigmoid", "TANH", None, ["tanh"]):
        refused(ValueError, r"^nonlinearity: expected 'tanh' or 'relu', got", draw("rnn-tanh"), nonlinearity=wrong)


def test_tapes(variant):
    problem = draw(variant)
    backward = getattr(fastml, f"{problem.family}_backward")
    other = draw("gru-after" if problem.family != "gru" else "lstm")
    for wrong in (None, problem.forward(keep=False)[1], other.forward()[1], {}, problem.forward()[0]["y"]):
        with pytest.raises(
            TypeError, match=f"^tape: expected the tape of {problem.family}_forward with keep=True, got"
        ):
            backward(wrong)


def test_upstream(variant):
    problem = draw(variant)
    tape = problem.forward()[1]
    for name, array in problem.upstream.items():
        for wrong in (array[:-1], array[..., :-1], array[None], array[0]):
            with pytest.raises(ValueError, match=rf"^{name}: expected shape"):
                problem.having(**{name: wrong}).backward(tape)
        for dtype in ("float32", "float16", "complex64", "object"):
            with pytest.raises(TypeError, match=rf"^{name}: expected .*got {dtype}"):
                problem.having(**{name: array.astype(dtype)}).backward(tape)


def test_a_failed_call_changes_nothing(cell, variant):
    problem = draw(variant, lengths=True)
    arrays = {**problem.inputs, **problem.upstream}
    before, want = {name: array.copy() for name, array in arrays.items()}, problem.run()
    refused(ValueError, r"^lengths", problem, lengths=[9, 9, 9])
    refused(TypeError, r"^reverse", problem, reverse=2)
    with pytest.raises(ValueError, match=r"^dy"):
        problem.having(dy=np.zeros((1, 1, 1))).backward(problem.forward()[1])
    bitwise(arrays, before)
    bitwise(problem.run(), want)


# --------------------------------------------------------------------------------------------------------- the grid


def test_unknown_back_end():
    before = fastml.active()
    for wrong in ("cuda", "Native", "", 3):
        with pytest.raises(ValueError, match=r"^name: expected one of 'native', 'jit', 'reference' or None, got"):
            fastml.use(wrong)
    assert fastml.active() == before


def test_back_end_that_cannot_run_here(monkeypatch):
    monkeypatch.setattr(fastml.backend, "_missing", lambda backend, kernel: "no such luck")
    before = fastml.active()
    for backend in ("native", "jit", "reference"):
        with pytest.raises(RuntimeError, match=f"^the {backend} back end cannot run here: no such luck"):
            fastml.use(backend)
    assert fastml.active() == before


def test_what_cannot_run_here_refuses():
    grid = fastml.available()
    for backend in fastml.backend.BACKENDS:
        if all(cells[backend] for cells in grid.values()):
            with pytest.raises(RuntimeError, match=f"^the {backend} back end cannot run here: "):
                fastml.use(backend)
    for rung in RUNGS:
        if rung not in fastml.backend.rungs():
            with (
                pytest.raises(RuntimeError, match=f"^name: the rung '{rung}' cannot run here"),
                fastml.backend.isa(rung),
            ):
                pass


@pytest.mark.parametrize("kernel", [row.name for row in KERNELS])
def test_kernel_missing_in_the_chosen_back_end(kernel, monkeypatch):
    module = importlib.import_module(f"fastml.kernels.reference.{KERNELS[kernel].family}")
    with on(("reference", None)):
        monkeypatch.delattr(module, kernel)
        for name in ("_lookup", "_missing"):
            monkeypatch.setattr(fastml.backend, name, getattr(fastml.backend, name).__wrapped__)
        with pytest.raises(NotImplementedError, match=f"^{kernel} is not in the reference back end: not written"):
            fastml.backend.find(kernel)
    assert fastml.available()[kernel]["reference"] == "not written"


def test_kernel_missing_everywhere(monkeypatch):
    monkeypatch.setattr(fastml.backend, "_missing", lambda backend, kernel: f"{backend} has no luck")
    with pytest.raises(NotImplementedError, match="lstm_forward") as caught:
        draw("lstm").forward()
    assert "None" not in str(caught.value)


def test_unknown_rung():
    for wrong in ("sse9", "AVX2", "native"):
        with pytest.raises(ValueError, match=r"^name: expected one of 'baseline', .*, got"), fastml.backend.isa(wrong):
            pass


def test_rung_of_another_machine():
    other = "neon" if "avx2" in RUNGS else "avx2"
    before = fastml.backend.active_isa()
    with (
        pytest.raises(
            RuntimeError, match=f"^name: the rung '{other}' cannot run here: (this CPU has|native is not built)"
        ),
        fastml.backend.isa(other),
    ):
        pass
    assert fastml.backend.active_isa() == before


# ---------------------------------------------------------------------------------------------- environment, threads

CALL = "import numpy as np, fastml; fastml.rnn_forward(np.ones((2, 2, 2)), None, np.ones((2, 2)), np.ones((2, 2)))"


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("FASTML_BACKEND", "cuda", "ValueError: FASTML_BACKEND: expected one of 'native', 'jit', 'reference'"),
        ("FASTML_NUM_THREADS", "0", "ValueError: FASTML_NUM_THREADS: expected an integer of at least 1, got '0'"),
        ("FASTML_NUM_THREADS", "two", "ValueError: FASTML_NUM_THREADS: expected an integer of at least 1, got 'two'"),
        ("FASTML_NUM_THREADS", "-1", "ValueError: FASTML_NUM_THREADS: expected an integer of at least 1, got '-1'"),
        ("FASTML_NUM_THREADS", "1.5", "ValueError: FASTML_NUM_THREADS: expected an integer of at least 1, got '1.5'"),
    ],
)
def test_environment(name, value, error):
    assert error in python(CALL, **{name: value}).stderr


def test_environment_isa():
    ask = "import fastml; fastml.backend.active_isa()"
    assert "ValueError: FASTML_ISA: expected one of 'baseline'" in python(ask, FASTML_ISA="sse9").stderr
    other = "neon" if "avx2" in RUNGS else "avx2"
    assert f"RuntimeError: FASTML_ISA: the rung '{other}' cannot run here" in python(ask, FASTML_ISA=other).stderr


def test_number_of_threads(threads):
    threads(3)
    for wrong, error in (
        (0, ValueError),
        (-2, ValueError),
        (1.0, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error, match=r"^n: expected an integer of at least 1, got"):
            threads(wrong)
    assert fastml.get_num_threads() == 3
    threads(np.int64(2))
    assert fastml.get_num_threads() == 2


def test_masks_and_ragged_lengths_are_refused():
    with pytest.raises(TypeError, match=r"^x: expected an array of float32 or float64, got a masked array$"):
        fastml.lstm_forward(np.ma.masked_array(np.ones((2, 3, 4))), None, None, np.ones((8, 4)), np.ones((8, 2)))
    with pytest.raises(TypeError, match=r"^lengths: expected integers, got \[\[1\], \[1, 2\]\]"):
        fastml.lstm_forward(np.ones((2, 2, 4)), None, None, np.ones((8, 4)), np.ones((8, 2)), lengths=[[1], [1, 2]])
