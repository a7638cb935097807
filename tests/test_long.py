"""Long sequences: checkpoints, what passes take of memory, truncated backpropagation, segments side by side.

What runs in segments is compared with what runs whole: y bit for bit in `native`, gradients of inputs and states too.
"""

import copy
import importlib
import re
import signal
import threading
import tracemalloc
from functools import partial

import numpy as np
import pytest
from cells import on
from compare import close
from test_layers import KINDS, OPTIONS, parts, random_problem, run

import fastml
from fastml import threads as pool

tbptt = importlib.import_module("fastml.tbptt")  # as fastml.tbptt is the function

TOLERANCE = {"float64": 1e-12, "float32": 5e-5}


def same(got, want, exactly=False):
    """Bit for bit but for the gradients of weights, or all to rounding."""
    assert got.keys() == want.keys()
    for name, array in want.items():
        if exactly and not name.startswith(("weight", "bias")):
            np.testing.assert_array_equal(got[name], array, err_msg=name)
        close(got[name], array, tolerance=TOLERANCE[array.dtype.name], dtype=array.dtype, name=name)


def problem(layer, T, B, ragged=False, seed=0):
    """Arguments of `run`; padding is NaN, which nothing may read."""
    rng = np.random.default_rng(seed)
    x, state, dy, dstate = random_problem(layer, T, B, rng)
    lengths = rng.permutation(np.linspace(0, T, B).astype(int)) if ragged else None
    if ragged:
        padding = np.arange(T)[:, None] >= lengths
        x[padding], dy[padding] = np.nan, np.nan
    if layer.batch_first:
        x, dy = (a.swapaxes(0, 1).copy() for a in (x, dy))
    return {"x": x, "state": state, "lengths": lengths, "dy": dy, "dstate": dstate}


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_checkpoints_change_nothing(cell, kind, own, bidirectional):
    """Layers, directions, dropout, lengths; segments of 1 step, of a few, of all and more."""
    for L, dropout, ragged, batch_first in ((1, 0.0, True, False), (3, 0.4, True, True), (2, 0.4, False, False)):
        options = {"bidirectional": bidirectional, "batch_first": batch_first, "dtype": "float64", **own}
        layer = KINDS[kind](3, 5, L, dropout=dropout, seed=1, **options)
        given = problem(layer, 11, 4, ragged)
        want = run(layer, **given, dropout_seed=5)
        for steps in (1, 3, 4, 11, 20) if L == 3 else (4,):
            same(run(layer, **given, dropout_seed=5, checkpoint=steps), want, exactly=cell[0] == "native")


def test_checkpoints_of_one_sequence_in_float32(cell):
    """No state, no upstream gradient of states; x without a batch axis."""
    layer = fastml.LSTM(3, 17, 2, bidirectional=True, seed=0)
    x, dy = (np.random.default_rng(0).standard_normal((50, n)).astype("f4") for n in (3, 34))
    same(run(layer, x, dy=dy, checkpoint=7), run(layer, x, dy=dy), exactly=cell[0] == "native")
    same(run(layer, x, checkpoint=7), run(layer, x), exactly=cell[0] == "native")  # no upstream gradient at all


@pytest.mark.parametrize("T, B", [(0, 2), (3, 0), (0, 0), (1, 1)])
def test_checkpoints_of_nothing(column, T, B):
    for bidirectional in (False, True):
        layer = fastml.GRU(3, 5, 2, bidirectional=bidirectional, dtype="float64", seed=0)
        given = problem(layer, T, B)
        for checkpoint in (1, 7, "auto"):
            same(run(layer, **given, checkpoint=checkpoint), run(layer, **given))


def test_the_tape_of_checkpoints(cell):
    """Reusable, read-only, of the back end and rung that made it."""
    layer = fastml.LSTM(3, 5, 2, dropout=0.5, dtype="float64", seed=0)
    given = problem(layer, 11, 3)
    y, _, tape = layer.forward(given["x"], given["state"], checkpoint=4)
    assert repr(tape) == f"LayerTape({layer!r} by {cell[0]}, T=11, B=3, checkpoint=4)"
    assert isinstance(tape, fastml.LayerTape) and tape.checkpoint == 4 and tape.passes == ()
    before = y.copy()
    want = layer.backward(tape, given["dy"], given["dstate"])
    with on(("reference", None)):
        again = layer.backward(tape, given["dy"], given["dstate"])
    np.testing.assert_array_equal(again.x, want.x)
    for name, gradient in want.weights.items():
        np.testing.assert_array_equal(again.weights[name], gradient)
    np.testing.assert_array_equal(y, before)
    with pytest.raises(AttributeError):
        tape.checkpoint = 3
    other, kept = copy.deepcopy((layer, tape))  # with its packed weights
    np.testing.assert_array_equal(other.backward(kept, given["dy"], given["dstate"]).x, want.x)


def test_one_hot_inputs(column):
    for bidirectional in (False, True):
        layer = fastml.GRU(6, 5, 2, bidirectional=bidirectional, batch_first=True, dtype="float64", seed=0)
        indices = np.random.default_rng(0).integers(0, 6, (3, 11))
        dy = np.random.default_rng(1).standard_normal((3, 11, 5 * (1 + bidirectional)))
        want = run(layer, np.eye(6)[indices], dy=dy)
        del want["dx"]
        for checkpoint in (None, 4):
            got = run(layer, fastml.OneHot(indices), dy=dy, checkpoint=checkpoint)
            assert got.pop("dx") is None
            same(got, want)
        y, _ = layer(fastml.OneHot(indices[0]))
        close(y, want["y"][0], tolerance=1e-12, dtype="float64")


def damaged(monkeypatch, method, change):
    from fastml.stack import Strand

    real = getattr(Strand, method)
    monkeypatch.setattr(Strand, method, change(real))


DAMAGES = {
    "the state is not carried on": (
        "run",
        lambda real: (
            lambda self, x, states, *rest, **options: real(
                self, x, [tuple(np.zeros_like(s) for s in cell) for cell in states], *rest, **options
            )
        ),
    ),
    "the gradient of the state is not carried back": (
        "run_back",
        lambda real: staticmethod(
            lambda kept, dy, d, *rest: real(kept, dy, [tuple(np.zeros_like(s) for s in c) for c in d], *rest)
        ),
    ),
    "every segment starts the dropout anew": (
        "run",
        lambda real: lambda self, *given, start=0, **options: real(self, *given, **options),
    ),
    "the lengths are the whole sequence's": (
        "run",
        lambda real: (
            lambda self, x, states, lengths, **options: real(self, x, states, np.full_like(lengths, len(x)), **options)
        ),
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_seen(name, monkeypatch):
    layer = fastml.LSTM(3, 5, 2, dropout=0.5, dtype="float64", seed=0)
    given = problem(layer, 12, 3, ragged=True)
    given = {**given, "x": np.nan_to_num(given["x"]), "dy": np.nan_to_num(given["dy"])}
    want = run(layer, **given, dropout_seed=1)
    damaged(monkeypatch, *DAMAGES[name])
    with pytest.raises(AssertionError):
        same(run(layer, **given, dropout_seed=1, checkpoint=4), want)


# --------------------------------------------------------------------------------------------------------------- memory


def peak(work):
    for module in ("lstm", "gru", "rnn"):  # native's scratch of the last pass
        importlib.import_module(f"fastml.kernels.native.{module}").spare.clear()
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


SIZES = [
    ("LSTM", {}, 4000, 2, None),
    ("LSTM", {}, 4000, 2, "auto"),
    ("RNN", {"num_layers": 3}, 16000, 1, None),
    ("GRU", {"num_layers": 3, "dropout": 0.5}, 800, 20, None),
    ("GRU", {"num_layers": 3, "dropout": 0.5}, 1000, 20, 100),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "dropout": 0.5}, 500, 9, None),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "dropout": 0.5}, 2000, 1, None),
    ("GRU", {"num_layers": 2, "bidirectional": True}, 3000, 3, "auto"),
    ("GRU", {"reset_after": False}, 600, 9, None),
]


@pytest.mark.parametrize("kind, options, T, B, checkpoint", SIZES, ids=str)
def test_memory(kind, options, T, B, checkpoint, threads):
    """Within a tenth of what NumPy is asked for."""
    if fastml.available()["lstm_forward"]["native"]:
        pytest.skip("the native back end is not built")
    layer = KINDS[kind](96, 160, seed=0, **options)
    x = np.zeros((T, B, 96), "f4")
    dy = np.zeros((T, B, 160 * (1 + layer.bidirectional)), "f4")

    def training():
        y, last, tape = layer.forward(x, checkpoint=checkpoint)
        return y, last, layer.backward(tape, dy)

    for n in (1, 2):
        threads(n)
        with fastml.use("native"):
            assert layer.memory(T, B, checkpoint=checkpoint) == pytest.approx(peak(training)[0], rel=0.1)
            assert layer.memory(T, B, training=False) == pytest.approx(peak(lambda: layer(x))[0], rel=0.1)


def test_auto_is_about_the_least(kind="LSTM"):
    for options in ({}, {"num_layers": 3}, {"num_layers": 2, "bidirectional": True}):
        layer = KINDS[kind](64, 64, **options)
        auto = layer.memory(100_000, 4, checkpoint="auto")
        assert auto <= 1.02 * min(layer.memory(100_000, 4, checkpoint=2**k) for k in range(4, 17))
    assert layer.forward(np.zeros((5000, 1, 64), "f4"), checkpoint="auto")[2].checkpoint >= 1024


def test_max_memory():
    layer = fastml.LSTM(8, 16, 2, dtype="float64", seed=0)
    given = problem(layer, 2000, 3)
    want = run(layer, **given)
    results = want["y"].nbytes + want["dx"].nbytes + sum(g.nbytes for n, g in want.items() if n in layer.weights)
    results += want["dstate[0]"].nbytes * 2
    with pytest.raises(ValueError, match=r"^max_memory: expected at least \d+ bytes for T = 2000, B = 3, got 0$") as no:
        layer.forward(given["x"], max_memory=0)
    least = int(re.search(r"\d+", str(no.value)).group())
    steps = {}
    for most in (least, 2 * least, 4 * least, 10**9):
        tape = layer.forward(given["x"], max_memory=most)[2]
        steps[most] = tape.checkpoint
        assert layer.memory(2000, 3, checkpoint=tape.checkpoint) - results <= most
        if tape.checkpoint:
            assert 1.3 * (layer.memory(2000, 3, checkpoint=tape.checkpoint + 2) - results) > most or most == least
    assert steps[least] < steps[2 * least] < steps[4 * least] and steps[10**9] is None
    with pytest.raises(ValueError, match="max_memory"):
        layer.forward(given["x"], max_memory=least - 1)
    same(run(layer, **given, max_memory=2 * least, checkpoint="auto"), want)


LIMITED = [  # where there is more than the arrays of the model: objects, copies, dropout's blocks, look-ups
    ("LSTM", (500, 16), {"bidirectional": True}, 4000, 8),
    ("LSTM", (256, 64), {"batch_first": True}, 2000, 8),
    ("GRU", (3, 64, 2), {"dropout": 0.5}, 4000, 8),
    ("GRU", (20000, 32), {"bidirectional": True}, 1000, 8),
    ("RNN", (33, 65, 3), {}, 1000, 4),
]


@pytest.mark.parametrize("kind, sizes, options, T, B", LIMITED, ids=str)
def test_max_memory_is_kept(kind, sizes, options, T, B, threads):
    if fastml.available()["lstm_forward"]["native"]:
        pytest.skip("the native back end is not built")
    layer = KINDS[kind](*sizes, **options, seed=0)
    x = fastml.OneHot(np.zeros((T, B), int)) if sizes[0] > 1000 else np.zeros((T, B, sizes[0]), "f4")
    if layer.batch_first:
        x = x.swapaxes(0, 1).copy()

    def training(most):
        y, _, tape = layer.forward(x, max_memory=most)
        return tape.checkpoint, y, layer.backward(tape, dy)

    for n in (1, 2):
        threads(n)
        with fastml.use("native"):
            dy = np.ones_like(layer(x)[0])
            with pytest.raises(ValueError, match="max_memory") as no:
                layer.forward(x, max_memory=0)
            least = int(re.search(r"at least (\d+)", str(no.value)).group(1))
            for most in (least, 2 * least):
                used, (_, y, grads) = peak(lambda most=most: training(most))
                results = [y, *grads.weights.values()] + ([] if grads.x is None else [grads.x])
                assert used - sum(a.nbytes for a in results) <= most


def test_errors():
    layer, x = fastml.LSTM(3, 5), np.zeros((4, 2, 3), "f4")
    for bad, kind, message in (
        (0, ValueError, "checkpoint: expected an integer of at least 1, got 0"),
        (1.5, TypeError, "checkpoint: expected an integer of at least 1, got 1.5"),
        (True, TypeError, "checkpoint: expected an integer of at least 1, got True"),
        ("sqrt", ValueError, "checkpoint: expected a number of steps, 'auto' or None, got 'sqrt'"),
    ):
        for call in (
            lambda bad=bad: layer.forward(x, checkpoint=bad),
            lambda bad=bad: layer.memory(4, 2, checkpoint=bad),
        ):
            with pytest.raises(kind, match=f"^{re.escape(message)}$"):
                call()
    with pytest.raises(ValueError, match=r"^max_memory: expected None beside a number of steps, checkpoint=2$"):
        layer.forward(x, checkpoint=2, max_memory=10**6)
    with pytest.raises(TypeError, match=r"^max_memory: expected an integer of at least 0, got 0.5$"):
        layer.forward(x, max_memory=0.5)
    with pytest.raises(ValueError, match=r"^T: expected an integer of at least 0, got -1$"):
        layer.memory(-1, 2)
    with pytest.raises(TypeError, match=r"^B: expected an integer of at least 0, got 2.0$"):
        layer.memory(1, 2.0)


# ------------------------------------------------------------------------------------------------- kernels side by side


WAVE = {"num_layers": 3, "dropout": 0.5}
BOTH = {"num_layers": 2, "dropout": 0.5, "bidirectional": True}


@pytest.fixture
def short_blocks(monkeypatch):
    """Waves and directions at once in problems that are small."""
    from fastml import stack

    monkeypatch.setattr(stack, "WORTH", 1.0)
    monkeypatch.setattr(stack, "WAVE_WORK", 1.0)
    monkeypatch.setattr(stack, "WAVE_STEPS", 8)


@pytest.mark.parametrize("options", [WAVE, BOTH], ids=["wave", "both directions"])
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("checkpoint", [None, 45])
def test_any_number_of_threads(cell, options, B, checkpoint, threads, short_blocks):
    """Gradients of weights too are the same bits; and what is not cut gives the rest of them."""
    for kind in KINDS:
        layer = KINDS[kind](3, 9, seed=0, dtype="float64", **options)
        given = problem(layer, 130, B, ragged=B > 1)
        results = []
        for n in (1, 2, 4):
            threads(n)
            results.append(run(layer, **given, dropout_seed=1, checkpoint=checkpoint))
            y, last = layer(given["x"], given["state"], given["lengths"])
            results[-1] |= {"inference": y, **{f"last[{i}]": a for i, a in enumerate(parts(last))}}
        for got in results[1:]:
            for name, want in results[0].items():
                if cell[0] == "reference":  # BLAS
                    close(got[name], want, tolerance=1e-12, dtype="float64", name=name)
                else:
                    np.testing.assert_array_equal(got[name], want, err_msg=f"{kind} {name}")


def test_a_wave_is_the_whole(cell, monkeypatch, threads):
    """In blocks or not: y and the gradients of inputs bit for bit in native."""
    from fastml import stack

    threads(2)
    for kind, own in OPTIONS:
        layer = KINDS[kind](3, 9, 3, dropout=0.5, dtype="float64", seed=0, **own)
        given = problem(layer, 130, 2, ragged=True)
        monkeypatch.setattr(stack, "WAVE_STEPS", 10**6)
        want = run(layer, **given, dropout_seed=1)
        monkeypatch.setattr(stack, "WAVE_STEPS", 8)
        monkeypatch.setattr(stack, "WAVE_WORK", 1.0)
        same(run(layer, **given, dropout_seed=1), want, exactly=cell[0] == "native")


def test_blocks_come_from_the_shape_alone(threads):
    layer = fastml.GRU(64, 64, 2, seed=0)
    x = np.zeros((8000, 2, 64), "f4")
    blocks = []
    for n in (1, 2, 5):
        threads(n)
        blocks.append(layer.forward(x)[2].parts[0][0].spans)
    assert len(blocks[0]) >= 4 and blocks[0] == blocks[1] == blocks[2]
    assert len(layer.forward(x[:, :1].repeat(9, 1))[2].parts[0][0].spans) == 1  # the batch fills the threads
    assert len(layer.forward(x[:100])[2].parts[0][0].spans) == 1
    assert len(fastml.GRU(64, 64).forward(x)[2].parts[0][0].spans) == 1
    if not fastml.available()["gru_forward"]["native"]:  # large weights: native shares out the units of each cell
        with fastml.use("native"):
            assert len(fastml.GRU(64, 128, 2).forward(x)[2].parts[0][0].spans) == 1
            narrow = fastml.LSTM(64, 120, 2, dtype="float64")  # for a team of two: the wave has them
            assert narrow.weights["weight_hh_l0"].nbytes > pool.TEAM
            assert len(narrow.forward(x.astype("f8"))[2].parts[0][0].spans) > 1


@pytest.mark.parametrize(
    "n, side, B, H, nbytes, most",
    [
        (1, 2, 1, 64, 0, 1),
        (2, 2, 1, 64, 0, 2),
        (2, 2, 2, 64, 0, 1),  # the batch fills the threads
        (4, 3, 2, 64, 0, 3),
        (4, 3, 3, 64, 0, 1),
        (16, 2, 8, 64, 0, 1),  # the batch has work for eight
        (16, 2, 0, 64, 0, 2),
        (2, 2, 1, 256, 10**6, 2),  # two directions without a barrier at each step, rather than a team of two
        (8, 2, 1, 256, 10**6, 1),  # a team of four
        (8, 2, 1, 256, 100_000, 2),  # no team
        (8, 2, 1, 128, 10**6, 2),
    ],
)
def test_what_runs_side_by_side(n, side, B, H, nbytes, most, threads):
    from fastml.stack import at_once

    threads(n)
    assert at_once(side, B, H, nbytes) == most


def test_a_team():
    for H, nbytes, most, workers in (
        (512, pool.TEAM, 3, 3), (512, pool.TEAM, 100, 8), (512, pool.TEAM - 1, 100, 1),
        (127, 10**6, 8, 1), (128, 10**6, 8, 2), (20, 10**6, 8, 1), (512, 10**6, 1, 1),
    ):  # fmt: skip
        assert pool.team(H, nbytes, most) == workers


def test_directions_leave_the_batch_its_workers(threads, monkeypatch):
    """Memory too counts what is there at a time."""
    if fastml.available()["gru_forward"]["native"]:
        pytest.skip("the native back end is not built")
    asked = []
    real = pool.together
    monkeypatch.setattr(pool, "together", lambda tasks, after, most: (asked.append(most), real(tasks, after, 1)))
    threads(16)
    with fastml.use("native"):
        for B, H, most in ((8, 64, 1), (1, 64, 2), (1, 512, 1)):
            layer, asked[:] = fastml.GRU(8, H, bidirectional=True), ()
            x = np.zeros((400, B, 8), "f4")
            y, _, tape = layer.forward(x)
            layer.backward(tape, y)
            assert asked == [most, most]
            assert layer._memory(400, B, False)._at_once(2) == most


def test_a_bad_index_is_found_before_anything_runs(column, monkeypatch):
    layer = fastml.GRU(6, 5, 2, seed=0)
    indices = np.zeros((20, 2), int)
    indices[17, 1] = 6
    calls = []
    monkeypatch.setattr(layer, "_cell_forward", lambda *given, **options: calls.append(1), raising=False)
    message = "x: expected 0 ≤ index < I = 6 (from input_size), got 6 at step 17 of sequence 1"
    none = lambda y, t0, t1: calls.append(1)
    for call in (
        lambda x: layer(x),
        lambda x: layer.forward(x, checkpoint=4),
        lambda x: fastml.tbptt(layer, x, none, 3),
        lambda x: layer.stream(2).steps(x),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call(fastml.OneHot(indices))
    assert not calls


@pytest.mark.parametrize("options", [WAVE, BOTH], ids=["wave", "both directions"])
def test_the_pool_is_taken(column, options, threads, short_blocks):
    """By a call that waits: this one then does all of its tasks alone, with the same bits."""
    layer = fastml.LSTM(3, 9, seed=0, **options)
    given = problem(layer, 130, 2)
    threads(3)
    want = run(layer, **given, dropout_seed=1)
    began, go = threading.Event(), threading.Event()

    class Waits:
        def work(self, worker, workers):
            began.set()
            assert go.wait(60)

        def stop(self):
            go.set()

    other = threading.Thread(target=lambda: pool.run(Waits(), 3))
    other.start()
    try:
        assert began.wait(60)
        same(run(layer, **given, dropout_seed=1), want, exactly=True)
    finally:
        go.set()
        other.join()


def test_tasks_keep_their_order(threads):
    for n in (1, 2, 4):
        threads(n)
        done, after = [], [[], [0], [0], [1, 2], [3]]
        pool.together([partial(done.append, k) for k in range(5)], after, 3)
        assert sorted(done) == list(range(5)) and done[0] == 0 and done[-2:] == [3, 4]
    pool.together([], [], 2)


def test_tasks_run_at_the_same_time(threads):
    threads(2)
    meet = threading.Barrier(2, timeout=60)
    pool.together([meet.wait, meet.wait], [[], []], 2)


def test_tasks_run_in_the_callers_context(threads):
    threads(3)
    found = []
    meet = threading.Barrier(3, timeout=60)

    def task():
        meet.wait()
        found.append((fastml.active(), np.geterr()["over"], pool.get_num_threads()))

    with fastml.use("reference"), np.errstate(over="ignore"):
        pool.together([task] * 3, [[]] * 3, 3)
    assert found == [("reference", "ignore", 3)] * 3


def test_an_exception_in_a_task(threads):
    """Is raised, once the kernels of the others were stopped; tasks behind it are not begun."""
    stopped = threading.Event()

    class Kernel:
        def work(self, worker, workers):
            at_work.wait()
            assert workers == 1 and stopped.wait(60)

        def stop(self):
            stopped.set()

    for n in (1, 2):
        threads(n)
        begun, stopped = [], threading.Event()
        at_work = threading.Barrier(2, timeout=60)

        def long(n=n, begun=begun):
            begun.append("long")
            if n == 2:
                pool.run(Kernel(), 5)

        def fails(n=n, at_work=at_work):
            if n == 2:
                at_work.wait()
            raise ZeroDivisionError("of a task")

        with pytest.raises(ZeroDivisionError, match="of a task"):
            pool.together([long, fails, lambda begun=begun: begun.append("behind")], [[], [], [1]], 2)
        assert begun == ["long"] and stopped.is_set() == (n == 2)
    pool.together([lambda: None] * 3, [[], [], []], 3)  # the pool is free again


def test_a_stopped_task_begins_no_other_kernel(threads):
    """The kernel at work is stopped, its task ends where it asks for the next; what is raised is the first error."""
    threads(2)
    began, told, ended = threading.Event(), threading.Event(), []

    class Kernel:
        def work(self, worker, workers):
            began.set()
            assert told.wait(60)

        def stop(self):
            told.set()

    def long():
        pool.run(Kernel(), 1)
        ended.append("first")
        pool.run(Kernel(), 1)
        ended.append("second")

    def fails():
        assert began.wait(60)
        raise ZeroDivisionError("of a task")

    for tasks in ([long, fails], [fails, long]):
        began.clear(), told.clear(), ended.clear()
        with pytest.raises(ZeroDivisionError, match="of a task"):
            pool.together(tasks, [[], []], 2)
        assert ended == ["first"]
    done = []
    pool.together([partial(done.append, 1)] * 3, [[], [], []], 3)  # the pool is free again
    assert done == [1, 1, 1]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no POSIX signals")
def test_ctrl_c_stops_all_tasks(threads):
    """It is raised here, once the kernels that were running have been stopped."""
    threads(2)
    at_work, stopped = threading.Barrier(3, timeout=60), []

    class Kernel:
        def __init__(self):
            self.told = threading.Event()

        def work(self, worker, workers):
            at_work.wait()
            assert self.told.wait(60)

        def stop(self):
            stopped.append(self)
            self.told.set()

    def interrupt():
        at_work.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    kernels = [Kernel(), Kernel()]
    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        pool.together([partial(pool.run, kernel, 1) for kernel in kernels], [[], []], 2)
    other.join()
    assert set(stopped) == set(kernels)


def test_a_wave_without_memory(column, threads, short_blocks, monkeypatch):
    """An error in the middle of a wave leaves nothing behind, and the next call is right."""
    layer = fastml.LSTM(3, 9, 3, seed=0)
    given = problem(layer, 130, 2)
    threads(2)
    want = run(layer, **given)
    real, calls = layer._cell_forward, []

    def fails(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return real(*arguments, **options)

    monkeypatch.setattr(layer, "_cell_forward", fails, raising=False)
    with pytest.raises(MemoryError):
        layer.forward(given["x"])
    same(run(layer, **given), want, exactly=True)


# ----------------------------------------------------------------------------------------------------------- truncation


def chunk_by_chunk(layer, given, k1, k2):
    """The definition: of each window a forward and a backward pass, from a state that is a number."""
    x, state, lengths, dy = given["x"], given["state"], given["lengths"], given["dy"]
    T = len(x)
    total = {"dx": np.zeros_like(x), **{name: np.zeros_like(w) for name, w in layer.weights.items()}}
    total |= {f"dstate[{i}]": np.zeros_like(a) for i, a in enumerate(parts(state))}
    own = lambda a, b: None if lengths is None else np.clip(lengths - a, 0, b - a)
    for t0 in range(0, T, k1):
        t1 = min(t0 + k1, T)
        w = max(0, t1 - k2)
        before = layer(x[:w], state, own(0, w))[1]
        _, _, tape = layer.forward(x[w:t1], before, own(w, t1))
        only = dy[w:t1].copy()
        only[: t0 - w] = 0
        grads = layer.backward(tape, only)
        total["dx"][w:t1] += grads.x
        for name, gradient in grads.weights.items():
            total[name] += gradient
        for i, gradient in enumerate(parts(grads.state)) if w == 0 else ():
            total[f"dstate[{i}]"] += gradient
    return total


def truncated(layer, given, k1, k2, **options):
    dy = given["dy"]
    part = (lambda t0, t1: dy[:, t0:t1]) if layer.batch_first else (lambda t0, t1: dy[t0:t1])
    seen = []

    def dy_fn(y, t0, t1):
        seen.append((y.copy(), t0, t1))
        y[...] = np.nan  # its own
        return float(t0), part(t0, t1)

    found = fastml.tbptt(
        layer, given["x"], dy_fn, k1, k2, state=given["state"], lengths=given["lengths"], x_gradient=True, **options
    )
    grads = {"dx": found.grads.x, **found.grads.weights}
    return found, seen, grads | {f"dstate[{i}]": a for i, a in enumerate(parts(found.grads.state))}


@pytest.mark.parametrize("kind, own", OPTIONS, ids=str)
def test_tbptt_is_its_definition(cell, kind, own):
    for L, ragged in ((1, False), (2, True)):
        layer = KINDS[kind](3, 5, L, dtype="float64", seed=0, **own)
        given = problem(layer, 11, 3, ragged)
        y, last = layer(given["x"], given["state"], given["lengths"])
        for k1, k2 in ((3, None), (1, 4), (2, 5), (4, 4), (3, 9), (5, 100), (11, 11), (20, None)):
            found, seen, got = truncated(layer, given, k1, k2)
            same(got, chunk_by_chunk(layer, given, k1, k2 or k1))
            assert [(t0, t1) for _, t0, t1 in seen] == [(t, min(t + k1, 11)) for t in range(0, 11, k1)]
            assert found.loss == sum(range(0, 11, k1))
            same({"y": np.concatenate([y for y, _, _ in seen])}, {"y": y}, exactly=cell[0] == "native")
            for a, b in zip(parts(found.state), parts(last), strict=True):
                close(a, b, tolerance=1e-12, dtype="float64")


def test_tbptt_of_one_chunk_is_the_gradient(column):
    layer = fastml.LSTM(3, 5, 3, dropout=0.5, batch_first=True, dtype="float64", seed=0)
    given = problem(layer, 11, 3, ragged=True)
    want = run(layer, **{**given, "dstate": None}, dropout_seed=3)
    for k1, k2 in ((11, None), (4, 11)):
        _, seen, got = truncated(layer, given, k1, k2, dropout_seed=3)
        same(got, {name: want[name] for name in got})
        np.testing.assert_allclose(np.concatenate([y for y, _, _ in seen], axis=1), want["y"], rtol=1e-12)
    _, _, got = truncated(layer, given, 4, 8, dropout_seed=3)
    assert np.abs(got["weight_hh_l0"] - want["weight_hh_l0"]).max() > 1e-6  # truncation is seen


def test_tbptt_by_hand():
    """h_t = w h_{t-1} + x_t: the derivative by w within a window is the sum of w^(t-s) h_{s-1} over its steps s ≤ t."""
    T, w = 7, 0.7
    layer = fastml.RNN(1, 1, nonlinearity="relu", bias=False, dtype="float64")
    layer.load_state_dict({"weight_ih_l0": [[1.0]], "weight_hh_l0": [[w]]})
    x = np.arange(1.0, T + 1)
    h = [0.0]
    for t in range(T):
        h.append(w * h[-1] + x[t])
    for k1, k2 in ((1, 1), (1, 3), (2, 3), (3, 5)):
        want = 0.0
        for t in range(1, T + 1):
            t1 = min(-(-t // k1) * k1, T)
            want += sum(w ** (t - s) * h[s - 1] for s in range(max(0, t1 - k2) + 1, t + 1))
        grads = fastml.tbptt(layer, x[:, None], lambda y, t0, t1: np.ones_like(y), k1, k2).grads
        assert grads.weights["weight_hh_l0"][0, 0] == pytest.approx(want, rel=1e-12) and grads.x is None


def test_tbptt_updates(column, monkeypatch):
    """Each chunk with the weights as they are then, each window from the state that was carried to it."""
    layer, twin = (fastml.GRU(3, 5, dtype="float64", seed=0) for _ in range(2))
    given = problem(layer, 11, 2)
    x, dy = given["x"], given["dy"]
    terms = []

    def update(grads):
        terms.append(grads)
        for name, weight in layer.weights.items():
            weight -= 0.1 * grads.weights[name]

    with monkeypatch.context() as patched:  # no totals, which nobody asks for
        made, real = [], tbptt._Sums
        patched.setattr(tbptt, "_Sums", lambda *given: made.append(given[2]) or real(*given))
        found = fastml.tbptt(layer, x, lambda y, t0, t1: dy[t0:t1], 3, 5, state=given["state"], update=update)
    assert made == [(0, 3), (1, 6), (4, 9), (6, 11)]
    assert found.grads is None and found.loss is None
    state, w = given["state"], 0
    for k, (t0, t1, after) in enumerate(((0, 3, 1), (3, 6, 4), (6, 9, 6), (9, 11, 11))):
        _, last, tape = twin.forward(x[w:t1], state)
        only = dy[w:t1].copy()
        only[: t0 - w] = 0
        grads = twin.backward(tape, only)
        same({"dx": terms[k].x, "state": terms[k].state}, {"dx": grads.x, "state": grads.state})
        same(terms[k].weights, grads.weights)
        state, w = twin(x[w:after], state)[1] if after < t1 else last, after
        for name, weight in twin.weights.items():
            weight -= 0.1 * grads.weights[name]
    close(found.state, last, tolerance=1e-12, dtype="float64")


def test_tbptt_holds_k2_steps():
    layer = fastml.LSTM(8, 32, seed=0)
    x, dy = np.zeros((20_000, 1, 8), "f4"), np.zeros((200, 1, 32), "f4")
    call = lambda: fastml.tbptt(layer, x, lambda y, t0, t1: dy, 200, 400)
    with fastml.use(None):
        assert peak(call)[0] < 2 * layer.memory(400, 1)


@pytest.mark.parametrize("T, B", [(0, 2), (3, 0)])
def test_tbptt_of_nothing(column, T, B):
    layer = fastml.LSTM(3, 5, seed=0)
    found = fastml.tbptt(layer, np.zeros((T, B, 3), "f4"), lambda y, t0, t1: None, 2, x_gradient=True)
    assert found.grads.x.shape == (T, B, 3) and not any(g.any() for g in found.grads.weights.values())
    assert found.state[0].shape == (1, B, 5) and found.loss is None


def test_tbptt_errors():
    layer, x = fastml.LSTM(3, 5), np.zeros((4, 2, 3), "f4")
    none = lambda y, t0, t1: None
    for k1, k2, kind, message in (
        (0, None, ValueError, "k1: expected an integer of at least 1, got 0"),
        (1.0, None, TypeError, "k1: expected an integer of at least 1, got 1.0"),
        (2, 1, ValueError, "k2: expected at least k1 = 2, got 1"),
        (2, "3", TypeError, "k2: expected an integer of at least 1, got '3'"),
    ):
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            fastml.tbptt(layer, x, none, k1, k2)
    with pytest.raises(ValueError, match=r"^layer: expected one direction, "):
        fastml.tbptt(fastml.LSTM(3, 5, bidirectional=True), x, none, 2)
    with pytest.raises(TypeError, match=r"^layer: expected an RNN, GRU or LSTM, got function$"):
        fastml.tbptt(none, x, none, 2)
    with pytest.raises(TypeError, match=r"^dy_fn: expected a function, got ndarray$"):
        fastml.tbptt(layer, x, x, 2)
    with pytest.raises(ValueError, match=r"^x_gradient: expected False beside update, "):
        fastml.tbptt(layer, x, none, 2, update=print, x_gradient=True)
    with pytest.raises(TypeError, match=r"^dy_fn's dy: expected float32 as the layer, got float64$"):
        fastml.tbptt(layer, x, lambda y, t0, t1: y.astype("f8"), 2)
    message = "dy_fn's dy: expected shape (T, B, H) with T = 2 (from the chunk), got (1, 2, 5)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fastml.tbptt(layer, x, lambda y, t0, t1: y[1:], 2)

    def fails(y, t0, t1):
        if t0:
            raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user"):
        fastml.tbptt(layer, x, fails, 2)
