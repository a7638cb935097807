"""What changes nothing: the number of threads, the company that a sequence keeps, a cut in time.

`native` promises these bit for bit, `jit` the first of them; elsewhere they hold to within the kernels' tolerance.
The AMX rung leaves passes over fewer than 16 sequences to another rung: it promises the company among those and among
larger batches, not from one to the other.
"""

import importlib

import numpy as np
import pytest
from problems import BATCHED, PER_SEQUENCE, bitwise, check, draw

import fastml

# Batches on both sides of every tile, times across the chunks of the backward pass, one problem that is large enough
# for every worker to get a share.
SHAPES = (
    {"T": 300, "B": 1, "I": 3, "H": 64},
    {"T": 300, "B": 2, "I": 5, "H": 33},
    {"T": 131, "B": 5, "I": 2, "H": 16},
    {"T": 257, "B": 13, "I": 3, "H": 5},
    {"T": 20, "B": 70, "I": 66, "H": 33},
    {"T": 5, "B": 300, "I": 2, "H": 16},
    {"T": 97, "B": 130, "I": 7, "H": 64},
)
WEIGHTS = ("dw_ih", "dw_hh", "db_ih", "db_hh")

every_order = pytest.mark.parametrize("lengths, reverse", [(False, False), (True, False), (False, True), (True, True)])
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def shapes(cell):
    """All of them; two of few steps for the reference, which takes 50 µs for each and promises nothing bit for bit."""
    return SHAPES if cell[0] != "reference" else SHAPES[4:6]


def same(got, want, problem, exactly):
    if exactly:
        bitwise(got, want, str(problem))
    else:
        check(got, problem, want)


def of_sequences(results, b):
    """What belongs to sequences `b` of a batch."""
    return {name: a[..., b, :] for name, a in results.items() if name in PER_SEQUENCE}


@both_dtypes
def test_any_number_of_threads(cell, variant, dtype, threads):
    for k, sizes in enumerate(shapes(cell)):
        problem = draw(variant, **sizes, dtype=dtype, lengths=k % 2 == 0, reverse=k % 3 == 0)
        threads(1)
        want = problem.run()
        for n in (2, 3, 5) if cell[0] != "reference" else (2,):  # BLAS's threads spin when they outnumber the cores
            threads(n)
            same(problem.run(), want, problem, exactly=cell[0] != "reference")


TEAMS = (
    {"T": 300, "B": 1, "I": 3, "H": 64},
    {"T": 150, "B": 1, "I": 33, "H": 200},
    {"T": 40, "B": 3, "I": 9, "H": 257},
    {"T": 131, "B": 2, "I": 2, "H": 130},
)


@both_dtypes
def test_any_team(cell, variant, dtype, threads, monkeypatch):
    """Few sequences, shared out by hidden units. More workers than cores: some find that theirs is taken, and leave."""
    if cell[0] != "native":
        pytest.skip("native's own")
    family = importlib.import_module(f"fastml.kernels.native.{variant.partition('-')[0]}")
    for k, sizes in enumerate(TEAMS):
        problem = draw(variant, **sizes, dtype=dtype, lengths=k % 2 == 0, reverse=k % 3 == 0)
        threads(1)
        want = problem.run()
        monkeypatch.setattr(fastml.threads, "TEAM", 0)
        for n in (2, 3, 5):
            threads(n)
            monkeypatch.setattr(family, "REST", (-1.0, -1.0))  # a team that gave up is tried again at once
            same(problem.run(), want, problem, exactly=True)


@both_dtypes
def test_one_step_at_a_time(cell, variant, dtype, threads):
    """A single step packs no weights in native: its bits are those of the step in a sequence."""
    for sizes in ({"B": 1, "I": 1, "H": 1}, {"B": 2, "I": 17, "H": 33}, {"B": 7, "I": 64, "H": 130}):
        problem = draw(variant, T=3, **sizes, dtype=dtype)
        want = problem.forward()[0]
        for n in (1, 2):
            threads(n)
            states = {name: a for name, a in problem.inputs.items() if name in ("h0", "c0")}
            for t in range(3):
                got, _ = problem.having(x=problem.inputs["x"][t : t + 1], lengths=None, **states).forward()
                states = {f"{name[0]}0": a for name, a in got.items() if name != "y"}
                same({"y": got["y"][0]}, {"y": want["y"][t]}, problem, exactly=cell[0] == "native")


@both_dtypes
def test_any_batch(cell, variant, dtype):
    """A sequence alone, without its padding, and in any batch at any place."""
    rng = np.random.default_rng(0)
    for k, sizes in enumerate(shapes(cell)):
        problem = draw(variant, **sizes, dtype=dtype, lengths=k % 2 == 0, reverse=k % 3 == 0)
        T, B = problem.inputs["x"].shape[:2]
        whole = problem.run()
        lengths = problem.options["lengths"]
        for n in (1, 2, 5, 13, 70):
            b = rng.permutation(B)[:n]
            steps = T if lengths is None else lengths[b].max()
            arrays = {name: a[..., b, :] for name, a in problem.arrays().items() if name in BATCHED}
            arrays.update({name: arrays[name][:steps] for name in ("x", "dy")})
            part = problem.having(**arrays, lengths=None if lengths is None else lengths[b])
            want = of_sequences(whole, b)
            want.update({name: want[name][:steps] for name in ("y", "dx")})
            exactly = cell[0] == "native" and (cell[1] != "amx" or (len(b) < 16) == (B < 16))
            same(of_sequences(part.run(), slice(None)), want, part, exactly)


def cut(problem, t):
    """The two parts of a problem in the order of processing, without their states."""
    T = len(problem.inputs["x"])
    lengths = problem.options["lengths"]
    parts = [
        problem.having(
            x=problem.inputs["x"][begin:end],
            dy=problem.upstream["dy"][begin:end],
            lengths=None if lengths is None else np.clip(lengths - begin, 0, end - begin),
        )
        for begin, end in ((0, t), (t, T))
    ]
    return parts[::-1] if problem.options["reverse"] else parts


def cut_and_carried_on(problem, t):
    """`problem.run()` by way of two halves: states carried on, and the gradients of the states carried back."""
    first, second = cut(problem, t)
    outputs, tape = first.forward()
    carried = {f"{name[0]}0": state for name, state in outputs.items() if name != "y"}
    second = second.having(**carried)
    outputs_2, tape_2 = second.forward()
    grads_2 = second.backward(tape_2)
    grads = first.having(**{f"d{name[0]}_n": grads_2[f"d{name}"] for name in carried}).backward(tape)
    in_time = slice(None, None, -1 if problem.options["reverse"] else 1)
    return {
        "y": np.concatenate([outputs["y"], outputs_2["y"]][in_time]),
        **{name: outputs_2[name] for name in outputs_2 if name != "y"},
        "dx": np.concatenate([grads["dx"], grads_2["dx"]][in_time]),
        **{f"d{name}": grads[f"d{name}"] for name in carried},
        **{name: grads[name] + grads_2[name] for name in WEIGHTS},
    }


@every_order
@both_dtypes
def test_cut_and_carried_on(cell, variant, dtype, lengths, reverse):
    for sizes in shapes(cell)[:5]:
        problem = draw(variant, **sizes, dtype=dtype, lengths=lengths, reverse=reverse)
        T = sizes["T"]
        want = problem.run()
        for t in (1, T // 3, T):
            got = cut_and_carried_on(problem, t)
            sums = {name: got.pop(name) for name in WEIGHTS}
            check(sums, problem, want)
            same(got, {name: want[name] for name in got}, problem, exactly=cell[0] == "native")


def test_reverse_is_time_reversed(cell, variant):
    """Without padding, running backwards is running forwards on the reversed sequence."""
    problem = draw(variant, T=40, B=5, H=9)
    backwards = problem.having(reverse=True, x=problem.inputs["x"][::-1], dy=problem.upstream["dy"][::-1])
    got = backwards.run()
    got.update({name: got[name][::-1] for name in ("y", "dx")})
    same(got, problem.run(), problem, exactly=cell[0] == "native")


def test_full_lengths_are_no_lengths(cell, variant):
    problem = draw(variant, T=40, B=5, H=9)
    bitwise(problem.having(lengths=np.full(5, 40)).run(), problem.run(), str(problem))


def test_a_long_sequence(cell, variant):
    """T = 100 000 is 60 000 steps and then 40 000 (the reference, at 20 µs a step, walks a tenth of it)."""
    T = 100_000 if cell[0] != "reference" else 10_000
    problem = draw(variant, T=T, B=1, I=2, H=3)
    want = problem.run()
    assert want["y"][-1].any() and want["dx"][0].any() and all(np.isfinite(a).all() for a in want.values())
    got = cut_and_carried_on(problem, 6 * T // 10)
    check(got, problem, want)
