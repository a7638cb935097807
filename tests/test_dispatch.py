"""Which back end serves, who decides it, and how it shares the machine: threads, processes, Ctrl-C."""

import gc
import multiprocessing
import os
import sys
import threading
import warnings
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from cells import CELLS, on, python, why_not
from problems import bitwise, check, draw

import fastml
from fastml.kernels.table import KERNELS

OTHERS = [cell for cell in CELLS if not why_not(cell)]


@pytest.fixture(autouse=True)
def nothing_chosen():
    """Every test here starts and ends with no choice for the process."""
    fastml.use(None)
    yield
    fastml.use(None)


# ------------------------------------------------------------------------------------------------------- who decides


def test_first_that_has_it_serves():
    assert fastml.active() is None
    for kernel, cells in fastml.available().items():
        first = next(backend for backend in ("native", "jit", "reference") if cells[backend] is None)
        assert fastml.backend.find(kernel).backend == first


def test_call_block_and_nesting():
    usable = [backend for backend, rung in OTHERS if rung is None]
    for backend in usable:
        fastml.use(backend)
        assert fastml.active() == backend
        for inner in usable:
            with fastml.use(inner):
                assert fastml.active() == inner == fastml.backend.find("lstm_forward").backend
                with fastml.use("reference"):
                    assert fastml.active() == "reference"
                assert fastml.active() == inner
            assert fastml.active() == backend
    with fastml.use(None):
        assert fastml.active() is None
    fastml.use(None)
    assert fastml.active() is None


def test_a_call_inside_a_block_waits_for_its_end():
    with fastml.use("reference"):
        fastml.use(OTHERS[-1][0])
        assert fastml.active() == "reference"
    assert fastml.active() == OTHERS[-1][0]


def test_an_exception_ends_the_block():
    with pytest.raises(KeyError), fastml.use("reference"):
        raise KeyError
    assert fastml.active() is None


def test_a_block_is_this_threads():
    seen = []
    with fastml.use("reference"):
        other = threading.Thread(target=lambda: seen.append(fastml.active()))
        other.start()
        other.join()
    assert seen == [None]


def test_blocks_in_many_threads_leave_the_process_alone():
    def blocks(_):
        with fastml.use("reference"):
            return fastml.active()

    fastml.use(OTHERS[-1][0])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(blocks, range(5000))) == {"reference"}
    finally:
        sys.setswitchinterval(interval)
    assert fastml.active() == OTHERS[-1][0]


def test_environment_is_last():
    code = """
import fastml
print(fastml.active())
with fastml.use(None):
    print(fastml.active())
fastml.use("reference")
print(fastml.active())
"""
    assert python(code, FASTML_BACKEND="reference").stdout.split()[0] == "reference"
    assert python(code).stdout.split() == ["None", "None", "reference"]


def test_rungs():
    """The innermost block, then FASTML_ISA, then the fastest but never amx; only for this thread."""
    rungs = fastml.backend.rungs()
    fastest = next((rung for rung in reversed(rungs) if rung != "amx"), None)
    assert fastml.backend.active_isa() == fastest
    seen = []
    for rung in rungs:
        with fastml.backend.isa(rung):
            assert fastml.backend.active_isa() == rung
            with fastml.backend.isa(rungs[0]):
                assert fastml.backend.active_isa() == rungs[0]
            assert fastml.backend.active_isa() == rung
            other = threading.Thread(target=lambda: seen.append(fastml.backend.active_isa()))
            other.start()
            other.join()
        found = python("import fastml; print(fastml.backend.active_isa())", FASTML_ISA=rung)
        assert found.stdout.strip() == rung
    assert seen == [fastest] * len(rungs)


def test_tape_remembers_where_it_was_made(cell, variant):
    problem = draw(variant, T=30, I=5, H=19, dtype="float32")
    tape = problem.forward()[1]
    want = problem.backward(tape)
    assert (tape.cell.backend, tape.cell.isa) == cell and f"by {cell[0]}" in repr(tape)
    for other in OTHERS:
        with on(other):
            bitwise(problem.backward(tape), want, f"{problem}, backward inside {other}")


# ---------------------------------------------------------------------------------------------------- what is known


def test_available():
    grid = fastml.available()
    assert list(grid) == [row.name for row in KERNELS]
    assert all(list(cells) == ["native", "jit", "reference"] for cells in grid.values())
    assert all(reason is None or reason for cells in grid.values() for reason in cells.values())
    assert not any(cells["reference"] for cells in grid.values())


def test_what_is_required_exists():
    """FASTML_REQUIRE names back ends and rungs of this machine: a slip of the pen would require nothing."""
    wanted = set(filter(None, os.environ.get("FASTML_REQUIRE", "").split(",")))
    assert wanted <= {name for cell in CELLS for name in cell}


def test_show(capsys, threads):
    threads(3)
    fastml.show()
    shown = capsys.readouterr().out
    for word in (fastml.__version__, np.__version__, "threads 3", *fastml.backend.rungs()):
        assert word in shown
    rows = {
        line.split()[0]: line.split()
        for line in shown.splitlines()
        if line.split() and line.split()[0] in KERNELS.names()
    }
    for kernel, cells in fastml.available().items():
        assert rows[kernel][1:4] == ["-" if reason else "yes" for reason in cells.values()]
        assert rows[kernel][4] == fastml.backend.find(kernel).backend
        assert all(reason in shown for reason in cells.values() if reason)


def test_import_is_light():
    heavy = {"numba", "rich", "threadpoolctl", "safetensors", "torch", "sklearn", "matplotlib"}
    loaded = python("import fastml, sys; print(*sys.modules)").stdout.split()
    assert "fastml" in loaded and not heavy & set(loaded)


def test_number_of_threads():
    ask = "import fastml; print(fastml.get_num_threads())"
    assert python(ask, FASTML_NUM_THREADS="7").stdout.strip() == "7"
    assert 1 <= int(python(ask).stdout) <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_default_threads_are_the_cpus_this_process_may_use():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import fastml
print(fastml.get_num_threads())
"""
    assert python(code).stdout.strip() == "1"


# ------------------------------------------------------------------------------------- many callers, many processes


def test_calls_from_many_threads(column, variant, threads):
    """Each gets its own answer, whoever has the pool."""
    threads(2)
    problems = [draw(variant, T=30 + k, B=40 + k, I=5, H=33, lengths=k % 2 == 0) for k in range(4)]
    want = [problem.run() for problem in problems]

    def call(k):
        with on(column):
            return problems[k % 4].run()

    with ThreadPoolExecutor(8) as pool:
        for k, got in enumerate(pool.map(call, range(32))):
            if column[0] == "reference":  # BLAS
                check(got, problems[k % 4], want[k % 4])
            else:
                bitwise(got, want[k % 4], str(problems[k % 4]))


def test_threads_are_used_and_kept(column):
    """A large problem uses as many threads as are set, and many calls from many threads no more than that."""
    if column[0] == "reference":
        pytest.skip("BLAS has threads of its own")
    code = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import fastml
from problems import draw

problem = draw("lstm", T=60, B=130, I=20, H=64)
def call(_):
    with fastml.use(sys.argv[1]):
        problem.run()
    return sum(thread.name == "fastml" for thread in threading.enumerate())
print(call(0))
with ThreadPoolExecutor(6) as pool:
    print(max(pool.map(call, range(12))))
"""
    pools = python(code, column[0], FASTML_NUM_THREADS="3").stdout.split()
    assert pools == ["2", "2"]


def in_another_process(column, threads):
    """What a worker process computes: the sum of every output and gradient."""
    fastml.set_num_threads(threads)
    with on(column):
        return {name: array.sum() for name, array in draw("gru-after", T=20, B=70, I=20, H=64).run().items()}


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
def test_process_pool(column, method, threads):
    """As under joblib: the parent has used its pool, its children make their own."""
    want = in_another_process(column, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: "use of fork() may lead to deadlocks"
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            for got in pool.map(in_another_process, [column] * 3, [2] * 3, timeout=120):
                assert got.keys() == want.keys()
                assert all(np.isclose(got[name], want[name], rtol=1e-9, atol=1e-9) for name in want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_the_pool_works(column):
    """A child that is forked in the middle of another thread's call computes too."""
    code = """
import os, sys, threading, warnings
import fastml
from problems import bitwise, draw

warnings.simplefilter("ignore", DeprecationWarning)
problem = draw("lstm", T=60, B=130, I=20, H=64)
def call():
    with fastml.use(sys.argv[1]):
        return problem.run()
want = call()
busy = threading.Event()
def keep_busy():
    while not busy.is_set():
        call()
other = threading.Thread(target=keep_busy)
other.start()
try:
    for _ in range(5):
        child = os.fork()
        if not child:
            bitwise(call(), want)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
finally:
    busy.set()
    other.join()
print("done")
"""
    if column[0] == "reference":
        pytest.skip("a fork inside BLAS is BLAS's business")
    done = python(code, column[0], FASTML_NUM_THREADS="2")
    assert done.stdout == "done\n", done.stderr


# ------------------------------------------------------------------------------------------------------------ Ctrl-C


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c(column, threads):
    """It ends a long call in the middle: what comes last is not yet written. Afterwards everything works as before."""
    code = """
import os, signal, sys, threading
import numpy as np
import fastml
from problems import bitwise, draw

def interrupted(kernel, *arguments):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        fastml.backend.find(kernel).function(*arguments)
    except KeyboardInterrupt:
        return True

T, B, I, H = int(sys.argv[2]), 8, 1, 512
f = np.float32
x, y, dx, none = np.ones((T, B, I), f), np.zeros((T, B, H), f), np.zeros((T, B, I), f), np.zeros((T, B, H), f)
w_ih, w_hh, b, state = np.ones((H, I), f), np.eye(H, dtype=f), np.zeros(H, f), np.zeros((B, H), f)
order = np.full(B, T), False, False
with fastml.use(sys.argv[1]):
    want = draw("rnn-tanh", T=60, B=130, I=20, H=64).run()
    # With no state and the identity as weights, a gradient of ones reaches the first step as it is.
    grads = dx, *(array.copy() for array in (state, w_ih, w_hh, b, b))
    for _ in range(6):  # wherever it strikes
        assert interrupted("rnn_backward", x, state, w_ih, w_hh, *order, none, none, state + 1, *grads)
        assert not dx[0].any()
    assert interrupted("rnn_forward", x, state, w_ih, w_hh, b, b, *order, y, state.copy()) and not y[-1].any()
    assert np.finfo(float).smallest_subnormal * 1 != 0
    bitwise(draw("rnn-tanh", T=60, B=130, I=20, H=64).run(), want)
print("done")
"""
    T = "10_000" if column[0] == "reference" else "60_000"  # seconds
    ended = python(code, column[0], T, FASTML_NUM_THREADS=threads)
    assert ended.stdout == "done\n", ended.stderr


RAISED_MEANWHILE = """
import numpy as np, fastml
from fastml.kernels.native import lstm
real = lstm.run

def run(job, most):
    fastml.set_num_threads(16)  # what another thread may do between the sizing of the scratch and the start
    real(job, most)

lstm.run = run
layer, x = fastml.LSTM(64, 64, seed=0), np.ones((20, 64, 64), "float32")
for _ in range(10):
    fastml.set_num_threads(1)
    layer(x)
"""


def test_threads_raised_while_a_call_starts():
    if fastml.available()["lstm_forward"]["native"]:
        pytest.skip(fastml.available()["lstm_forward"]["native"])
    assert python(RAISED_MEANWHILE).returncode == 0


def test_a_failed_job_is_let_go_and_the_pool_is_free():
    class Job:
        def work(self, worker, workers):
            raise ValueError(f"{worker} of {workers}")

        def stop(self):
            pass

    fastml.set_num_threads(2)
    gc.disable()
    try:
        for _ in range(3):
            job = Job()
            gone = weakref.ref(job)
            with pytest.raises(ValueError, match="of 2"):  # all workers each time: the pool was given back
                fastml.threads.run(job, 2)
            del job
            pool_has_let_go(gone)
            assert gone() is None
    finally:
        gc.enable()


def pool_has_let_go(gone):
    """A worker drops its job just after it has rung the bell."""
    for _ in range(100):
        if gone() is None:
            return
        fastml.threads.run(Nothing(), 2)


class Nothing:
    def work(self, worker, workers):
        pass

    def stop(self):
        pass


def test_overlapping_references_give_blas_back(threads):
    blas = fastml.threads.blas_limit
    threads(2)
    with blas():
        held = [pool.num_threads for pool in fastml.threads._blas.lib_controllers]
    first, second = blas(), blas()
    first.__enter__()
    fastml.set_num_threads(1)
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    fastml.set_num_threads(2)
    with blas():
        assert [pool.num_threads for pool in fastml.threads._blas.lib_controllers] == held
