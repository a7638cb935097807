"""Gaussian kernels and the machine: many callers, many processes, Ctrl-C."""

import multiprocessing
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from cells import on, python
from mixtures import COVARIANCE_TYPES, check, draw
from problems import bitwise

import fastml
from fastml.kernels.table import TILE

FAMILIES = ("gaussian",)


def test_calls_from_many_threads(column, threads):
    """Each gets its own answer, whoever has the pool."""
    threads(2)
    problems = [draw(t, N=2 * TILE + 5, D=7, K=5, weighted="random", dtype="float32") for t in COVARIANCE_TYPES]
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


def in_another_process(column, threads):
    fastml.set_num_threads(threads)
    with on(column):
        return draw("full", N=3 * TILE, D=5, K=3).run()


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
def test_process_pool(column, method, threads):
    """The parent has used its pool, its children make their own."""
    problem = draw("full", N=3 * TILE, D=5, K=3)
    want = in_another_process(column, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: "use of fork() may lead to deadlocks"
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            for got in pool.map(in_another_process, [column] * 3, [2] * 3, timeout=120):
                check(got, problem, want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_the_pool_works(column):
    """A child that is forked in the middle of another thread's call computes too."""
    if column[0] == "reference":
        pytest.skip("a fork inside BLAS is BLAS's business")
    code = """
import os, sys, threading, warnings
import fastml
from mixtures import draw
from problems import bitwise

warnings.simplefilter("ignore", DeprecationWarning)
problem = draw("full", N=20_000, D=16, K=8)
def call():
    with fastml.use(sys.argv[1]):
        return problem.run()
want = call()
done = threading.Event()
def keep_busy():
    while not done.is_set():
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
    done.set()
    other.join()
print("done")
"""
    ended = python(code, column[0], FASTML_NUM_THREADS="2")
    assert ended.stdout == "done\n", ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c(column, threads):
    """It ends a long call in the middle: not all rows are counted. Afterwards everything works as before."""
    code = """
import os, signal, sys, threading
import numpy as np
import fastml
from mixtures import draw, kernel, nothing_yet, outputs_of_rows
from problems import bitwise

def interrupted(*arguments):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        kernel(*arguments)
    except KeyboardInterrupt:
        return True

N, D, K = 40_000, 64, 1000  # seconds
X = np.zeros((N, D), "float32")
means, constants = np.zeros((K, D), "float32"), np.zeros(K, "float32")
factors = np.stack([np.eye(D, dtype="float32")] * K)
small = draw("full", N=5000, D=5, K=3, dtype="float32")
with fastml.use(sys.argv[1]):
    want = small.run()
    for _ in range(3):  # wherever it strikes
        sums = nothing_yet("full", K, D)
        assert interrupted("gaussian_statistics", X, None, means, factors, constants, "full", *sums.values())
        assert sums["n"].sum() < 0.99 * N
    log_likelihood = np.zeros(N, "float32")
    rest = X, means, factors, constants, "full"
    assert interrupted("gaussian_responsibilities", *rest, None, log_likelihood, None) and not log_likelihood[-1]
    assert np.finfo(float).smallest_subnormal * 1 != 0
    bitwise(small.run(), want)
print("done")
"""
    ended = python(code, column[0], FASTML_NUM_THREADS=threads)
    assert ended.stdout == "done\n", ended.stderr
