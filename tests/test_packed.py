"""Weights packed once for many calls, and y written into the caller's array: the same bits as without."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from cells import CELLS, RUNGS, on, why_not
from problems import WEIGHTS, bitwise, draw, pack, packed

import fastml

SIZES = (
    {},
    {"T": 0},
    {"B": 0},
    {"T": 1, "B": 1, "I": 1, "H": 1},
    {"T": 1, "B": 3, "I": 33, "H": 65},
    {"T": 9, "B": 1, "I": 5, "H": 130},
    {"T": 21, "B": 19, "I": 17, "H": 31},
)


def having_out(problem, out):
    return replace(problem, options={**problem.options, "out": out})


# ----------------------------------------------------------------------------------------------------------- packed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_is_the_weights(cell, variant, dtype):
    """Outputs and gradients, by a pack that serves many calls."""
    for k, sizes in enumerate(SIZES):
        problem = draw(variant, **sizes, dtype=dtype, lengths=k % 2 == 0, reverse=k % 3 == 0)
        want, again = problem.run(), packed(problem)
        for _ in range(2):
            bitwise(again.run(), want, str(problem))
        outputs = {name: array for name, array in want.items() if not name.startswith("d")}
        bitwise(again.forward(keep=False)[0], outputs, str(problem))


def test_serves_any_batch_and_length(cell, variant):
    weights = pack(draw(variant, I=5, H=33))
    for sizes in ({"T": 1, "B": 1}, {"T": 30, "B": 2}, {"T": 3, "B": 40}):
        problem = draw(variant, **sizes, I=5, H=33)
        same = problem.having(**{name: weights.arrays[name] for name in WEIGHTS})
        bitwise(packed(problem, weights).run(), same.run(), str(problem))


def test_any_number_of_threads(cell, variant, threads):
    problem = draw(variant, T=20, B=70, I=33, H=66, lengths=True)
    threads(1)
    weights = pack(problem)
    want = problem.forward()[0]
    if cell[0] == "reference":
        bitwise(packed(problem, weights).forward()[0], want)
        return
    for n in (1, 2, 3):
        threads(n)
        bitwise(packed(problem, weights).forward()[0], want, f"{n} threads")
        bitwise(packed(problem).forward()[0], want, f"{n} threads, packed by them")


def test_may_be_shared(column, variant):
    """Calls from several threads at once read one pack."""
    problem = packed(draw(variant, T=30, B=4, I=9, H=40))
    want = problem.run()

    def call(_):
        with on(column):
            return problem.run()

    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(call, range(8)):
            bitwise(got, want)


def test_without_biases(cell, variant):
    """They count as zeros, and have no gradient."""
    problem = draw(variant)
    bare = problem.having(b_ih=None, b_hh=None)
    got, want = packed(problem, pack(bare)).run(), bare.run()
    for name in ("db_ih", "db_hh"):
        assert got.pop(name) is None and want.pop(name) is None
    bitwise(got, want)
    got = packed(problem, pack(problem, b_hh=None)).run()
    assert got["db_hh"] is None and got["db_ih"] is not None
    got = packed(problem).having(h0=None).run()
    assert got["dh0"] is None and got["db_ih"] is not None


def test_is_a_snapshot(cell, variant):
    """Weights that change after packing change neither later passes nor the backward of earlier ones."""
    problem = draw(variant)
    mine = problem.map(np.copy)
    same = packed(mine)
    want, (_, tape) = problem.run(), same.forward()
    for name in WEIGHTS:
        mine.inputs[name][...] = np.nan
    bitwise(same.run(), want)
    grads = same.backward(tape)
    bitwise(grads, {name: want[name] for name in grads})


def test_runs_where_it_was_packed(cell, variant):
    """Forward and backward, whatever back end or rung is active."""
    problem = draw(variant, T=20, dtype="float32")
    want, same = problem.run(), packed(problem)
    for other in CELLS:
        if why_not(other):
            continue
        with on(other):
            outputs, tape = same.forward()
            assert tape.cell[:2] == cell
            bitwise({**outputs, **same.backward(tape)}, want, f"{problem}, on {other}")


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda made: pickle.loads(pickle.dumps(made))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies(cell, variant, copied):
    """Of weights and tapes, wherever in memory they come to lie."""
    problem = draw(variant, T=4, B=3, I=9, H=21, dtype="float32")
    weights, want, kept = pack(problem), problem.run(), []
    tape = packed(problem, weights).forward()[1]
    for size in range(1, 20):
        kept += [copied(weights), copied(tape), np.zeros(16 * size, "u1")]  # whose places in memory differ
        bitwise(packed(problem, kept[-3]).run(), want)
        assert kept[-2].cell[:2] == cell
        grads = problem.backward(kept[-2])
        bitwise(grads, {name: want[name] for name in grads})


def test_a_copy_is_packed_where_it_arrives(variant):
    weights = pack(draw(variant))
    for cell in CELLS:
        if not why_not(cell):
            with on(cell):
                assert copy.deepcopy(weights).cell[:2] == cell
    assert weights.cell[:2] != ("reference", None)


def test_a_tape_from_another_machine(monkeypatch):
    """Its rung may be one that cannot run here."""
    if why_not(("native", None)):
        pytest.skip("the native back end is not built")
    problem = draw("lstm")
    with fastml.use("native"):
        tape = problem.forward()[1]
    monkeypatch.setattr(fastml.backend, "rungs", lambda: ("none of them",))
    with pytest.raises(RuntimeError, match=f"^tape: the rung '{tape.cell.isa}' cannot run here: this CPU has none of"):
        problem.backward(tape)


def test_a_tape_holds_no_packed_weights(cell, variant):
    assert packed(draw(variant)).forward()[1].cell.function is None


def test_any_layout(cell, variant):
    problem = draw(variant)
    want = problem.run()
    for layout in (np.asfortranarray, np.ndarray.tolist, lambda a: a.astype(a.dtype.newbyteorder())):
        weights = pack(problem, **{name: layout(problem.inputs[name]) for name in WEIGHTS})
        bitwise(packed(problem, weights).run(), want)
    x = problem.inputs["x"].tolist()  # lists take the dtype of the packed weights
    single = draw(variant, dtype="float32")
    assert packed(single).having(x=x).forward()[0]["y"].dtype == "float32"


def test_shown(column, variant):
    problem = draw(variant)
    assert repr(pack(problem)) == f"Packed({problem.family}_forward by {column[0]}, I=2, H=7)"


# ----------------------------------------------------------------------------------------------------------- errors


def refused(error, message, problem, **changes):
    with pytest.raises(error, match=message):
        problem.having(**changes).forward()


def test_of_another_family(variant):
    problem = draw(variant)
    for other in ("rnn-tanh", "gru-after", "lstm"):
        weights = pack(draw(other))
        if draw(other).family != problem.family:
            message = rf"^w_ih: expected an array or what {problem.family}_pack made, got Packed\({draw(other).family}_"
            refused(TypeError, message, packed(problem, weights))


def test_beside_weights(variant):
    problem = draw(variant)
    same = packed(problem)
    for name in ("w_hh", "b_ih", "b_hh"):
        message = rf"^{name}: expected None beside packed weights"
        refused(TypeError, message, same, **{name: problem.inputs[name]})
    refused(TypeError, r"^w_hh: expected .*got object", problem, w_hh=same.inputs["w_ih"])
    refused(TypeError, r"^w_ih: expected an array, got None", same, w_ih=None)
    refused(TypeError, r"^x: expected an array, got None", same, x=None)


def test_other_inputs_than_packed_for(variant):
    problem = draw(variant)
    same = packed(problem)
    refused(ValueError, r"^w_ih: .*I = 3 \(from x\)", same, x=np.zeros((5, 3, 3)))
    refused(ValueError, r"^h0: .*H = 7 \(from w_hh\)", same, h0=np.zeros((3, 8)))
    refused(TypeError, "expected float32 as x, got float64", same, x=problem.inputs["x"].astype("float32"))


def test_reset_after_is_packed():
    for after in (True, False):
        problem = draw("gru-after" if after else "gru-before")
        message = f"^reset_after: expected {after}, as the weights were packed, got {not after}"
        refused(ValueError, message, packed(problem), reset_after=not after)
    with pytest.raises(TypeError, match=r"^reset_after: expected True or False, got 1"):
        pack(draw("gru-after"), reset_after=1)


def test_weights_that_cannot_be_packed(variant):
    problem = draw(variant)
    for name in WEIGHTS:
        array = problem.inputs[name]
        with pytest.raises(ValueError, match=rf"^{name}: expected shape .*axes"):
            pack(problem, **{name: array[None]})
        with pytest.raises(TypeError, match=rf"^{name}: expected float32 or float64, got complex128"):
            pack(problem, **{name: array.astype(complex)})
        with pytest.raises(TypeError, match=r"expected float(32|64) as w_ih, got float(32|64)"):
            pack(problem, **{name: array.astype("float32")})
    for name in ("w_ih", "w_hh"):
        with pytest.raises(TypeError, match=rf"^{name}: expected an array, got None"):
            pack(problem, **{name: None})
    with pytest.raises(ValueError, match=r"^w_ih: expected I of at least 1, got 0"):
        pack(problem, w_ih=problem.inputs["w_ih"][:, :0])


def test_the_message_is_the_first_argument_s(variant):
    """However the interpreter orders sets of names."""
    problem = draw(variant)
    wrong = dict.fromkeys(problem.inputs.keys() - {"x", "w_ih", "w_hh"}, np.zeros((1, 1, 1)))
    refused(ValueError, r"^h0: expected shape", problem, **wrong)


# -------------------------------------------------------------------------------------------------------------- out


@pytest.mark.parametrize("keep", [True, False])
def test_out_is_y(cell, variant, keep):
    for sizes in ({}, {"T": 0}, {"T": 13, "B": 9, "H": 33}):
        problem = draw(variant, **sizes, lengths=True)
        want = problem.forward()[0]
        for same in (problem, packed(problem)):
            out = np.full_like(want["y"], np.nan)  # padding, too, is written
            outputs, tape = having_out(same, out).forward(keep=keep)
            assert outputs["y"] is out
            bitwise(outputs, want, str(problem))
            if keep:
                assert tape.arrays["y"] is out
                grads = problem.backward(tape)
                bitwise(grads, {name: array for name, array in problem.run().items() if name in grads})


def test_out_may_be_part_of_an_array(cell, variant):
    problem = draw(variant, T=6, B=3)
    whole = np.full((10, 3, 7), 5.0)
    having_out(problem, whole[2:8]).forward()
    bitwise({"y": whole[2:8]}, {"y": problem.forward()[0]["y"]})
    assert (whole[:2] == 5).all() and (whole[8:] == 5).all()


def read_only(array):
    array.flags.writeable = False
    return array


def shifted(array):
    """Of the same shape, one byte off."""
    return np.zeros(array.nbytes + 1, "uint8")[1:].view(array.dtype).reshape(array.shape)


def test_wrong_out(variant):
    problem = draw(variant)  # T, B, I, H = 5, 3, 2, 7
    y = np.zeros((5, 3, 7))
    for wrong, error, message in (
        (y.tolist(), TypeError, "expected an array of float64, got list"),
        (np.ma.masked_array(y), TypeError, "expected an array of float64, got MaskedArray"),
        (y.astype("float32"), TypeError, "expected float64 as w_ih, got float32"),
        (y.astype(int), TypeError, "expected float64 as w_ih, got int"),
        (y.astype(y.dtype.newbyteorder()), TypeError, "expected float64 as w_ih, got [<>]f8"),
        (y[:4], ValueError, r"expected shape \(T, B, H\) = \(5, 3, 7\), got \(4, 3, 7\)"),
        (y[0], ValueError, r"expected shape .*, got \(3, 7\)"),
        (y.reshape(3, 5, 7), ValueError, r"expected shape .*, got \(3, 5, 7\)"),
        (np.zeros((5, 3, 14))[..., ::2], ValueError, "expected a C-contiguous, aligned, writeable array"),
        (np.asfortranarray(y), ValueError, "expected a C-contiguous, aligned, writeable array"),
        (y[::-1], ValueError, "expected a C-contiguous, aligned, writeable array"),
        (read_only(y.copy()), ValueError, "expected a C-contiguous, aligned, writeable array"),
        (shifted(y), ValueError, "expected a C-contiguous, aligned, writeable array"),
    ):
        for same in (problem, packed(problem)):
            refused(error, f"^out: {message}", having_out(same, wrong))


def test_out_that_overlaps(variant):
    """What the pass still reads would be overwritten; the array is as it was."""
    T, B, H = 4, 2, 7
    problem = draw(variant, T=T, B=B, I=H, H=H)
    for name, array in problem.inputs.items():
        memory = np.zeros(max(T * B * H, array.size) + 1)
        view = memory[: array.size].reshape(array.shape)
        view[...] = array
        before = memory.copy()
        for out in (memory[: T * B * H], memory[-T * B * H - 1 : -1]):
            if np.may_share_memory(out, view):
                message = f"^out: expected an array that overlaps no other argument, got one that overlaps {name}$"
                with pytest.raises(ValueError, match=message):
                    having_out(problem.having(**{name: view}), out.reshape(T, B, H)).forward()
                assert (memory == before).all()
    for name, array in problem.inputs.items():  # strided, so that the pass reads a copy
        memory = np.zeros(max(T * B * H, 2 * array.size))
        reverse = memory[: array.size].reshape(array.shape)[::-1]
        wide = memory[: 2 * array.size].reshape(*array.shape, 2)[..., 0]
        for view in (reverse, wide):
            view[...] = array
            before = memory.copy()
            message = f"^out: expected an array that overlaps no other argument, got one that overlaps {name}$"
            with pytest.raises(ValueError, match=message):
                having_out(problem.having(**{name: view}), memory[: T * B * H].reshape(T, B, H)).forward()
            assert (memory == before).all()
    memory = np.zeros(2 * T * B * H)  # beside each other they are welcome
    x, out = memory[: T * B * H].reshape(T, B, H), memory[T * B * H :].reshape(T, B, H)
    x[...] = problem.inputs["x"]
    having_out(problem.having(x=x), out).forward()
    bitwise({"y": out}, {"y": problem.forward()[0]["y"]})


def test_rungs_pack_for_themselves(variant):
    """A pack made on one rung and one made on another serve side by side."""
    problem = draw(variant, T=6, I=9, H=21, dtype="float32")
    cells = [("native", rung) for rung in RUNGS if not why_not(("native", rung))]
    made = []
    for cell in cells:
        with on(cell):
            made.append((packed(problem), problem.run()))
    for same, want in reversed(made):
        bitwise(same.run(), want)
