"""One thread policy for every back end.

A kernel hands `run` a job whose slices (batch rows, directions, features) may be taken by any number of workers with
the same bits. `run` decides how many: all that the user allows, or the calling thread alone where the pool is taken,
so that a job with barriers never waits for workers of another job, and calls from many threads never multiply
threads. The pool is plain Python threads that release the GIL in the kernels: no OpenMP, whose pools clash with other
runtimes' and hang after a fork.

`together` shares out whole kernels instead, on the same pool: two directions, or stacked layers one segment of time
behind each other.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from math import ceil
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

__all__ = [
    "TEAM", "Job", "blas_limit", "get_num_threads", "num_threads", "run", "set_num_threads", "team", "together",
    "usable_cpus",
]  # fmt: skip


TEAM = 140_000
"""Bytes of recurrent weights from which on `native` shares out the hidden units of a few sequences, its workers meeting
at every step. Measured at B = 1, one thread's time over two's: GRU of 128 units (196 kB) 1.66, RNN of 192 (147 kB) 1.3,
of 128 (65 kB) 0.5.
"""


def team(H: int, nbytes: int, most: int) -> int:
    """Of `most` workers, how many share out the `H` hidden units of a cell of `native`, its recurrent weights being of
    `nbytes`; each has at least 64 of them. 1 where that does not pay.
    """
    return max(1, min(most, H // 64)) if nbytes >= TEAM else 1


class Job(Protocol):
    """Work that any number of workers can share."""

    def work(self, worker: int, workers: int) -> None:
        """Do share `worker` of `workers`; called once for each, at the same time. May wait for the others."""

    def stop(self) -> None:
        """Ask every `work` in progress to return soon; its results are then worthless."""


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity mask, cut by the cgroup's quota (a container's CPU limit)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ceil(min(affinity, _cgroup_quota())))


def _cgroup_quota() -> float:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # version 2: "max 100000", "150000 100000"
    except (OSError, ValueError):
        try:
            quota, period = (
                Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{part}_us").read_text().strip() for part in ("quota", "period")
            )
        except OSError:
            return float("inf")
    return int(quota) / int(period) if quota not in ("max", "-1") else float("inf")


def _from_environment() -> int:
    text = os.environ.get("FASTML_NUM_THREADS", "")
    if not text:
        return usable_cpus()
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"FASTML_NUM_THREADS: expected an integer of at least 1, got {text!r}")
    return int(text)


_threads: int | None = None
_block: ContextVar[int | None] = ContextVar("fastml_threads", default=None)


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Let the calls of this thread's block use up to `n` threads, whatever the process is set to."""
    token = _block.set(n)
    try:
        yield
    finally:
        _block.reset(token)


def get_num_threads() -> int:
    """Threads that one call may use: `set_num_threads`, else FASTML_NUM_THREADS, else the CPUs this process may use.

    Examples
    --------
    >>> import fastml
    >>> fastml.get_num_threads() >= 1
    True
    """
    global _threads
    if (block := _block.get()) is not None:
        return block
    if _threads is None:
        _threads = _from_environment()
    return _threads


def set_num_threads(n: int) -> None:
    """Let one call use up to `n` threads from now on, in this process.

    Parameters
    ----------
    n : int
        At least 1; the calling thread is one of them. It also binds NumPy's BLAS while the `reference` back end runs.

    Raises
    ------
    TypeError, ValueError
        `n` is not an integer, or below 1.

    Examples
    --------
    >>> import fastml
    >>> before = fastml.get_num_threads()
    >>> fastml.set_num_threads(1)
    >>> fastml.get_num_threads()
    1
    >>> fastml.set_num_threads(before)
    """
    global _threads
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n: expected an integer of at least 1, got {n!r}")
    if n.__index__() < 1:
        raise ValueError(f"n: expected an integer of at least 1, got {n!r}")
    _threads = n.__index__()


class _Pool:
    """Threads that wait for work. `holder` is the lock of the call that has them, and is locked as long as it has."""

    def __init__(self) -> None:
        self.guard = threading.RLock()  # reentrant: a signal handler may run a kernel while this thread is in `take`
        self.holder: Any = None
        self.inboxes: list[SimpleQueue] = []

    def take(self, mine: Any) -> bool:
        """Have the threads for as long as the lock `mine` is held, if nobody has them."""
        with self.guard:
            if self.holder is None or not self.holder.locked():
                self.holder = mine
        return self.holder is mine

    def grow(self, n: int) -> int:
        """Have `n` threads, or as many as the system lets us start; returns that."""
        while len(self.inboxes) < n:
            inbox: SimpleQueue = SimpleQueue()
            try:
                threading.Thread(target=_serve, args=(inbox,), name="fastml", daemon=True).start()
            except RuntimeError:  # the system's limit of threads
                return len(self.inboxes)
            self.inboxes.append(inbox)
        return n


def _serve(inbox: SimpleQueue) -> None:
    while True:
        job, worker, workers, ended, bell = inbox.get()
        try:
            job.work(worker, workers)
        except BaseException as error:
            job.stop()
            ended.append(error)
        else:
            ended.append(None)
        bell.put(None)
        del job, ended, bell


_pool = _Pool()


def _after_fork() -> None:
    global _pool, _blas_guard, _blas_calls, _blas_held
    _pool = _Pool()  # the parent's threads, and its calls in progress, do not exist in the child
    _blas_guard, _blas_calls, _blas_held = threading.RLock(), 0, ExitStack()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(job: Job, most: int) -> None:
    """Let up to `most` workers do `job`, the calling thread among them; return when all have ended.

    An exception in any worker, or Ctrl-C here, stops the others and is raised once they have ended.
    """
    # Ctrl-C may raise between any two lines from here on. So the pool is freed by the lock's own __exit__, and what is
    # counted is counted by the one call in C that also does it: `sent` grows with each put, `ended` before each bell.
    tasks = _tasks.get()
    if tasks is not None:
        tasks.watch(job)
    workers = min(get_num_threads(), most)
    mine = threading.Lock()
    with mine:
        if workers > 1 and _pool.take(mine):
            _share(job, _pool, workers)
        else:
            job.work(0, 1)
    if tasks is not None:
        tasks.running.pop(threading.get_ident(), None)


def _share(job: Job, pool: _Pool, workers: int) -> None:
    sent: list[None] = []
    ended: list[BaseException | None] = []
    bell: SimpleQueue = SimpleQueue()
    error: BaseException | None = None
    try:
        workers = 1 + pool.grow(workers - 1)
        tasks = [(job, worker, workers, ended, bell) for worker in range(1, workers)]
        sent.extend(map(SimpleQueue.put, pool.inboxes, tasks))
        job.work(0, workers)
    except BaseException as caught:
        error = caught
        job.stop()
    while len(ended) < len(sent):
        try:
            bell.get()
        except BaseException as caught:
            job.stop()
            error = error or caught
    error = error or next(filter(None, ended), None)
    if error is not None:
        try:
            raise error
        finally:
            del error, ended  # or they keep this frame, and the job's arrays, until the garbage collector comes


# ------------------------------------------------------------------------------------------------- kernels side by side


def together(tasks: Sequence[Callable[[], None]], after: Sequence[Sequence[int]], most: int) -> None:
    """Do every task once, up to `most` of them at a time; return when all have ended.

    Where several workers share the tasks, the kernels in them run on their own worker alone; where the pool is taken,
    the tasks run one by one on the calling thread. Each runs in a copy of the caller's context (`fastml.use`, NumPy's
    errstate). An exception in any task, or Ctrl-C here, stops the kernels of the others, which then begin no other one,
    and is raised once they have ended.

    after : for each task the numbers of those that must have ended before it; all of them lower than its own.
    """
    if most > 1:
        run(_Tasks(tasks, after), most)
    else:
        for task in tasks:
            task()


class _Stopped(BaseException):
    """Ends a task whose results nobody wants any more."""


class _Tasks:
    """Tasks and their order, as a job."""

    def __init__(self, tasks: Sequence[Callable[[], None]], after: Sequence[Sequence[int]]) -> None:
        self.tasks, self.context, self.stopped = tasks, copy_context(), False
        self.running: dict[int, Job] = {}
        self.guard = threading.RLock()  # reentrant: a signal handler may come while this thread holds it
        self.waits = [len(before) for before in after]
        self.then: list[list[int]] = [[] for _ in tasks]
        for task, before in enumerate(after):
            for other in before:
                self.then[other].append(task)
        self.left = len(tasks)
        self.ready: SimpleQueue = SimpleQueue()  # None: there is nothing more to do
        for task in [task for task, n in enumerate(self.waits) if n == 0] or [None]:
            self.ready.put(task)

    def work(self, worker: int, workers: int) -> None:
        self.context.copy().run(self._work)

    def _work(self) -> None:
        _tasks.set(self)
        while (task := self.ready.get()) is not None and not self.stopped:
            try:
                self.tasks[task]()
            except _Stopped:
                break
            with self.guard:
                self.left -= 1
                for other in self.then[task]:
                    self.waits[other] -= 1
                    if not self.waits[other]:
                        self.ready.put(other)
                if not self.left:
                    self.ready.put(None)
        self.ready.put(None)  # for the next worker

    def watch(self, job: Job) -> None:
        """A worker begins a kernel, which `stop` shall reach; after `stop` it does not."""
        self.running[threading.get_ident()] = job
        if self.stopped:
            raise _Stopped

    def stop(self) -> None:
        self.stopped = True
        self.ready.put(None)
        for job in list(self.running.values()):
            job.stop()


_tasks: ContextVar[_Tasks | None] = ContextVar("fastml_tasks", default=None)

_blas: Any = None
_blas_guard = threading.RLock()
_blas_calls = 0
_blas_held = ExitStack()


@contextmanager
def blas_limit(most: int | None = None) -> Iterator[None]:
    """Bind NumPy's BLAS to `most` threads, or this module's thread count, for a `with` block.

    Of blocks that overlap, the first one binds it for all and the last one gives it back.
    """
    global _blas, _blas_calls
    with _blas_guard:
        if _blas is None:
            from threadpoolctl import ThreadpoolController

            _blas = ThreadpoolController().select(user_api="blas")
        wanted = min(most or get_num_threads(), 1 << 15)  # a C int
        if not _blas_calls and any(pool.num_threads != wanted for pool in _blas.lib_controllers):
            _blas_held.enter_context(_blas.limit(limits=wanted))  # setting it costs more than asking
        _blas_calls += 1
    try:
        yield
    finally:
        with _blas_guard:
            _blas_calls -= 1
            if not _blas_calls:
                _blas_held.close()
