"""Every back end and rung against the reference in float64, over sizes that straddle the widths of SIMD registers."""

import numpy as np
import pytest
from cells import on
from problems import bitwise, check, draw

GRID = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)  # on each axis in turn, the others at `draw`'s primes
SIZES = [{axis: size} for axis in "TBIH" for size in GRID if size or axis in "TB"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_size_grid(cell, variant, dtype, lengths, reverse):
    for sizes in SIZES:
        problem = draw(variant, **sizes, dtype=dtype, lengths=lengths, reverse=reverse)
        outputs, tape = problem.forward()
        grads = problem.backward(tape)
        check({**outputs, **grads}, problem)
        bitwise(problem.forward(keep=False)[0], outputs, f"{problem}, keep=False")
        bitwise(problem.backward(tape), grads, f"{problem}, the tape used again")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_tiles_at_once(cell, variant, dtype):
    """No axis small: remainders of every tile next to whole ones."""
    problem = draw(variant, T=67, B=37, I=41, H=83, dtype=dtype, lengths=True)
    check(problem.run(), problem)


def test_padding_is_zero(cell, variant):
    for reverse in (False, True):
        problem = draw(variant, T=9, B=20, lengths=True, reverse=reverse)
        padding = np.arange(9)[:, None] >= problem.options["lengths"]
        got = problem.run()
        assert padding.any() and not got["y"][padding].any() and not got["dx"][padding].any()
        assert got["y"][~padding].all() or variant == "rnn-relu"
        empty = problem.options["lengths"] == 0
        bitwise({"h_n": got["h_n"][empty]}, {"h_n": problem.inputs["h0"][empty]})


def test_optional_arguments(cell, variant):
    """What is not given counts as zeros, and has no gradient."""
    problem = draw(variant)
    names = problem.inputs.keys() - {"x", "w_ih", "w_hh"}
    zeros = problem.having(**{name: np.zeros_like(problem.inputs[name]) for name in names}).run()
    got = problem.having(**dict.fromkeys(names)).run()
    assert all(got.pop(f"d{name}") is None and zeros.pop(f"d{name}") is not None for name in names)
    bitwise(got, zeros)

    none = problem.having(**dict.fromkeys(problem.upstream)).run()
    assert not any(none[f"d{name}"].any() for name in problem.inputs)


def test_any_layout(cell, variant):
    """Strided, Fortran-ordered, byte-swapped, read-only arrays and lists are the same numbers."""

    def strided(array):
        return np.repeat(array, 2, axis=-1)[..., ::2]

    def read_only(array):
        array = array.copy()
        array.flags.writeable = False
        return array

    problem = draw(variant, lengths=True)
    want = problem.run()
    layouts = (strided, np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder()), read_only, np.ndarray.tolist)
    for layout in layouts:
        changed = problem.map(layout)
        outputs, tape = changed.forward()
        bitwise({**outputs, **changed.backward(tape)}, want, f"{problem}, {layout.__name__}")


def test_any_integers_as_lengths(cell, variant):
    problem = draw(variant, lengths=True)
    want = problem.forward()[0]
    lengths = problem.options["lengths"]
    for same in (lengths.tolist(), lengths.astype("uint8"), lengths.astype(">i4"), np.repeat(lengths, 2)[::2]):
        bitwise(problem.having(lengths=same).forward()[0], want)


def test_integers_are_cast(cell):
    """Integer arrays and lists take the dtype of the others; float64 where there is none."""
    problem = draw("lstm", dtype="float32")
    x = np.arange(problem.inputs["x"].size).reshape(problem.inputs["x"].shape) % 5
    want = problem.having(x=x.astype("float32")).forward()[0]
    for same in (x, x.tolist(), x.astype("uint8")):
        bitwise(problem.having(x=same).forward()[0], want)
    assert problem.map(lambda a: np.rint(a).astype(int)).forward()[0]["y"].dtype == "float64"


def test_tapes_do_not_meet(cell, variant):
    """Several passes may be pending; each backward answers its own."""
    problems = [draw(variant, seed=seed) for seed in (1, 2)]
    want = [problem.run() for problem in problems]
    tapes = [problem.forward()[1] for problem in problems]
    for k in (1, 0, 1):
        grads = problems[k].backward(tapes[k])
        bitwise(grads, {name: want[k][name] for name in grads})


def test_the_reference_is_another_column(cell, variant):
    """The cell that a test asks for is the one that answers: its bits differ from those of the reference somewhere."""
    if cell[0] == "reference":
        pytest.skip("the reference itself")
    problem = draw(variant, T=65, dtype="float32")
    got = problem.forward()
    with on(("reference", None)):
        reference = problem.forward()
    assert got[1].cell[:2] == cell and reference[1].cell[:2] == ("reference", None)
    assert any((got[0][name] != reference[0][name]).any() for name in got[0])
