"""The only dispatch: which back end, and which ISA rung of `native`, serves a kernel.

With nothing chosen each kernel is served by the first of `native`, `jit`, `reference` that has it. A chosen back end
serves or refuses, with the reason; nothing falls back in silence.
"""

import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import cache, partial
from types import TracebackType
from typing import Any, NamedTuple

from .kernels.table import KERNELS
from .threads import blas_limit, get_num_threads
from .version import __version__

__all__ = ["BACKENDS", "Cell", "active", "active_isa", "available", "find", "isa", "rungs", "show", "use", "versions"]

BACKENDS = ("native", "jit", "reference")
"""In the order in which they are asked when none is chosen."""


class Cell(NamedTuple):
    """One cell of the grid, ready to call: which back end (and, for `native`, which rung) serves which function."""

    backend: str
    isa: str | None
    function: Callable[..., None] | None  # None on a tape, which only remembers where it was made


# ------------------------------------------------------------------------------------------------------ back ends


class use:
    """Choose the back end: ``fastml.use(name)`` for the process, ``with fastml.use(name):`` for this thread's block.

    The innermost block wins, then the last call, then the environment's FASTML_BACKEND; with none of them each kernel
    is served by the first back end that has it.

    Parameters
    ----------
    name : {"native", "jit", "reference"} or None
        None chooses nothing: each kernel is served by the first back end that has it.

    Raises
    ------
    ValueError
        `name` is no back end.
    RuntimeError
        It cannot run here; the message says why.

    Examples
    --------
    >>> import fastml
    >>> with fastml.use("reference"):
    ...     fastml.active()
    'reference'
    """

    def __init__(self, name: str | None) -> None:
        self.name = _checked(name, "name")
        self._tokens: list[Token] = []
        _calls.append(self)

    def __enter__(self) -> "use":
        if self in _calls:  # it was a block, not a call: the process keeps what it had
            _calls.remove(self)
        self._tokens.append(_block.set(self.name))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _block.reset(self._tokens.pop())


# The last is the process's choice. A block is in it from its construction to its __enter__, a moment in which other
# threads see it: one name cannot be both call and block without that. Bounded: older entries are never looked at.
_calls: deque[use] = deque(maxlen=1024)
_block: ContextVar[str | None] = ContextVar("fastml_backend")


def _checked(name: str | None, argument: str) -> str | None:
    if name is None:
        return None
    if name not in BACKENDS:
        raise ValueError(f"{argument}: expected one of {', '.join(map(repr, BACKENDS))} or None, got {name!r}")
    reasons = [_missing(name, row.name) for row in KERNELS]
    if all(reasons):
        raise RuntimeError(f"the {name} back end cannot run here: {reasons[0]}")
    return name


def active() -> str | None:
    """The chosen back end, or None where each kernel is served by the first that has it.

    Examples
    --------
    >>> import fastml
    >>> with fastml.use(None):
    ...     print(fastml.active())
    None
    """
    try:
        return _block.get()
    except LookupError:
        pass
    return _calls[-1].name if _calls else _checked(os.environ.get("FASTML_BACKEND") or None, "FASTML_BACKEND")


@cache
def _lookup(backend: str, name: str, family: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(f"fastml.kernels.{backend}.{family}"), name)


@cache  # an import that failed would be tried again at each call, and a fork during one leaves the child its lock
def _missing(backend: str, kernel: str) -> str | None:
    """Why `backend` does not have `kernel`; None where it has."""
    try:
        _lookup(backend, kernel, KERNELS[kernel].family)
    except ModuleNotFoundError as error:
        if error.name in ("numba", "llvmlite"):
            return f"{error.name} is not installed"
        if backend == "native":
            if sys.platform == "win32":
                return "not built: it needs GCC's or clang's vector extensions, which MSVC lacks"
            return "not built: no C compiler could build it when fastml was installed; install again where one can"
        return "not written"
    except AttributeError:
        return "not written"
    except ImportError as error:
        return f"it does not load ({error})"
    return None


def find(kernel: str, like: Cell | None = None) -> Cell:
    """The cell of the grid that serves `kernel` now, or the one beside `like` (the backward of a forward).

    Raises
    ------
    NotImplementedError
        The chosen back end does not have it; names the kernel and the reason.
    RuntimeError
        `like` comes from another machine, and its rung cannot run here.
    """
    chosen = like.backend if like else active()
    for backend in (chosen,) if chosen else BACKENDS:
        reason = _missing(backend, kernel)
        if reason is None:
            function = _lookup(backend, kernel, KERNELS[kernel].family)
            if backend == "reference":
                return Cell(backend, None, partial(_with_blas_limit, function))
            if backend == "jit":
                return Cell(backend, None, function)
            rung = _checked_isa(like.isa, "tape") if like else active_isa()
            return Cell(backend, rung, partial(function, isa=rung))
    where = f"the {chosen} back end" if chosen else "any back end"
    raise NotImplementedError(f"{kernel} is not in {where}: {reason}")


def packed_cell(kernel: str, *weights: Any) -> Cell:
    """`find`, with the weights packed for its function, where its back end can do that once for many calls."""
    cell = find(kernel)
    if cell.backend != "native":
        return cell
    pack = _lookup("native", kernel.replace("forward", "pack"), KERNELS[kernel].family)
    return cell._replace(function=partial(cell.function, packed=pack(*weights, isa=cell.isa)))


def stream(cell: Cell, kernel: str, *arguments: Any) -> Callable[[], None] | None:
    """One step of a cell that `packed_cell` made, prepared for many calls on the same arrays: inputs less lengths and
    reverse, then outputs less what is saved. None where its back end prepares nothing.
    """
    if cell.backend != "native":
        return None
    prepare = _lookup("native", kernel.replace("forward", "stream"), KERNELS[kernel].family)
    return prepare(*arguments, **cell.function.keywords)


def _with_blas_limit(function: Callable[..., None], *arguments: Any) -> None:
    with blas_limit():  # the reference is the one back end that calls BLAS
        function(*arguments)


# ------------------------------------------------------------------------------------------------------ ISA rungs

_isa_block: ContextVar[str | None] = ContextVar("fastml_isa", default=None)


@cache
def rungs() -> tuple[str, ...]:
    """The ISA rungs of `native` that this CPU can run, slowest first, "amx" last; empty where `native` is not built."""
    try:
        from .kernels.native.isa import supported
    except ImportError:
        return ()
    return supported()


@cache
def _fastest() -> str | None:
    """Without asking for "amx", which is the system's to allow: it is for those who name it."""
    try:
        from .kernels.native.isa import fastest
    except ImportError:
        return None
    return fastest()


def active_isa() -> str | None:
    """The rung that `native` uses: the innermost `isa` block, else FASTML_ISA, else the fastest; None without any.

    "amx" only where it is chosen by name.
    """
    chosen = _isa_block.get() or _checked_isa(os.environ.get("FASTML_ISA") or None, "FASTML_ISA")
    return chosen or _fastest()


def _checked_isa(name: str | None, argument: str) -> str | None:
    known = ("baseline", "avx2", "avx512", "amx", "neon")
    if name is None or name in rungs():
        return name
    if name not in known:
        raise ValueError(f"{argument}: expected one of {', '.join(map(repr, known))}, got {name!r}")
    can = ", ".join(rungs())
    reason = f"this CPU has {can}" if can else "native is not built"
    if can and name == "amx":
        reason += "; it takes AMX-BF16, Linux 5.16 or later, and a build by GCC 11 or clang 12 or later"
    raise RuntimeError(f"{argument}: the rung {name!r} cannot run here: {reason}")


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Force an ISA rung of `native` for this thread's block: ``with fastml.backend.isa("avx2"): …``.

    "amx" computes float32 products of passes over at least 16 sequences in AMX tiles, each number as three bfloat16, to
    the accuracy of float32; it is never chosen by itself.

    Raises
    ------
    ValueError
        `name` is no rung.
    RuntimeError
        This CPU or this build does not have it.
    """
    if name is None:
        raise ValueError("name: expected an ISA rung, got None")
    token = _isa_block.set(_checked_isa(name, "name"))
    try:
        yield
    finally:
        _isa_block.reset(token)


# ------------------------------------------------------------------------------------------------------ the grid


def available() -> dict[str, dict[str, str | None]]:
    """The grid as data: ``available()[kernel][back end]`` is None where it can run, else the reason why not.

    Examples
    --------
    >>> import fastml
    >>> fastml.available()["lstm_forward"]["reference"] is None
    True
    """
    return {row.name: {backend: _missing(backend, row.name) for backend in BACKENDS} for row in KERNELS}


def versions() -> dict[str, str]:
    """Of fastml, Python and the packages whose versions matter to a result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"fastml": __version__, "python": sys.version.split()[0]}
    for package in ("numpy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def show() -> None:
    """Print versions, ISA, threads and the grid: which back ends have which kernel, which serves it, and why not.

    Examples
    --------
    >>> import fastml
    >>> fastml.show()  # doctest: +ELLIPSIS
    fastml ... · python ...
    isa ... · threads ...
    chosen back end: ...
    kernel native jit reference served by
    ...
    """
    grid = available()
    print(" · ".join(f"{name} {version}" for name, version in versions().items()))
    runs = ", ".join(rungs()) or "no native rung"
    print(f"isa {active_isa() or '-'} (this CPU runs: {runs}) · threads {get_num_threads()}")
    chosen = active()
    print(
        f"chosen back end: {chosen}"
        if chosen
        else "chosen back end: none, each kernel is served by the first that has it"
    )
    print()
    width = max(map(len, grid)) + 2
    print(f"{'kernel':<{width}}" + "".join(f"{backend:<12}" for backend in BACKENDS) + "served by")
    for kernel, cells in grid.items():
        marks = "".join(f"{'-' if cells[backend] else 'yes':<12}" for backend in BACKENDS)
        served = next((backend for backend in ((chosen,) if chosen else BACKENDS) if not cells[backend]), "nothing")
        print(f"{kernel:<{width}}{marks}{served}")
    for backend in BACKENDS:
        for reason in sorted({cells[backend] for cells in grid.values() if cells[backend]}):
            print(f"\n{backend}: {reason}")
