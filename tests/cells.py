"""The columns of the grid that the tests walk: every back end, and every ISA rung that `native` may have here."""

import os
import platform
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import fastml
from fastml.kernels.table import KERNELS

RUNGS = ("neon",) if platform.machine().lower() in ("arm64", "aarch64") else ("baseline", "avx2", "avx512", "amx")
CELLS = (("reference", None), ("jit", None), *(("native", rung) for rung in RUNGS))
COLUMNS = (("reference", None), ("jit", None), ("native", None))
RECURRENT = ("rnn", "gru", "lstm")


def required(cell):
    """Whether FASTML_REQUIRE (as in "native,jit,avx2") says that this cell must run here."""
    backend, rung = cell
    wanted = os.environ.get("FASTML_REQUIRE", "").split(",")
    return rung in wanted or (backend in wanted and rung in (None, RUNGS[0]))  # higher rungs are the CPU's


def why_not(cell, families=RECURRENT):
    """Why this cell cannot run the kernels of these families here; None where it can."""
    backend, rung = cell
    grid = fastml.available()
    for row in KERNELS:
        if row.family in families and grid[row.name][backend]:
            return f"{row.name}: {grid[row.name][backend]}"
    return None if rung is None or rung in fastml.backend.rungs() else f"this CPU does not run {rung}"


@contextmanager
def on(cell):
    """This thread's block on one cell of the grid."""
    backend, rung = cell
    with ExitStack() as blocks:
        blocks.enter_context(fastml.use(backend))
        if rung:
            blocks.enter_context(fastml.backend.isa(rung))
        yield


def python(code, *arguments, timeout=120, **environment):
    """Run `code` in another Python that imports the fastml and the test modules of this one."""
    paths = (str(Path(fastml.__file__).parents[1]), str(Path(__file__).parent))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FASTML_")}
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env={**clean, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,  # only so that a hang ends
    )
