"""How fast the kernels are from commit to commit: ratios to the NumPy reference of the same run, kept per machine.

    python bench/track.py run [--kernel NAME ...] [--backend native jit] [--dtype float32] [--threads 1]
                              [--repeat 5] [--seconds 0.2] [--out FOLDER]
    python bench/track.py compare [--against last | COMMIT] [--by 0.1] [--stored] [--slow KERNEL=1.25] [the same]
    python bench/track.py history [--kernel NAME ...] [--plot FILE.png] [--threads 1] [--out FOLDER]

run measures and adds to FOLDER/<machine>/<commit>.json. compare measures this tree (or with --stored takes its newest
stored run), and names every kernel that lost more than --by beyond both noise bands; it stores nothing. Exit status 0:
none; 1: some are named; 2: wrong arguments or an unreadable file; 3: there is nothing to compare with. history prints
and draws. `bench/results/track` is the FOLDER if none is given. `native` is what is built here: build it first.

What a figure means
-------------------
* A ratio is how many times as fast a back end is as the NumPy reference: never a time, which a shared machine does not
  repeat. It belongs to a machine (processor, architecture, ISA rung and threads) and to its NumPy, BLAS and Python:
  runs with others are not compared.
* A repeat is a fresh process: it draws the arrays and goes through all problems. In each, contenders take turns of
  `TURN` seconds (at least one call), and a turn's figure is its least time per call. Public calls, as `fastml bench`
  times them; answers are not checked here. With one thread the clock is the process's CPU time, else the wall's.
* The ratio of a repeat is that of the least times over its turns. The band of a cell is from the lower to the upper
  quartile of its repeats' ratios; `best` is the ratio of the least times over all repeats.
* A cell is fallen if the upper edge of its band is more than --by below the lower edge of the stored band, and its best
  as far below the stored best. Those whose middle is so far below the stored middle are suspects, which are measured
  again, `ATTEMPTS` times: whoever is fallen each time, by the new figures alone, is named. A kernel that takes 25 %
  more time loses 20 % of its ratio: the bands may take half of that.
* share: of the matrix product that NumPy's BLAS reached in the same run.
"""

# Measured on 2 shared CPUs on which 7 to 12 other processes ran, all 88 cells. The standard deviation of a repeat's
# ratio, at the median of the cells, on the wall clock: 9.7 % by least times as by lower quartiles, 10.3 % by medians,
# 10.4 % by the median of the turns' ratios. Least times in other repeats, there: 20 % on the wall clock, 3.8 % in CPU
# time. Comparisons drawn from those repeats, 3 a side, all of this file's rule: 3.2 cells named wrongly on the wall
# clock, 0.25 in CPU time; of the kernels that took 25 % more, 74 % and 95 % were named.
# Then a run and five comparisons as they are, 5 repeats, at a load of 1 to 5: bands of 5 % at the median, suspects each
# time, none named; with --slow lstm_forward=1.25 its four cells, and no others, were named, at 24 to 26 % less.

import argparse
import hashlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple, NoReturn

import contest
from bench_peers import Failed

import fastml
from fastml import backend, bench
from fastml.cli import three, writable
from fastml.kernels.table import KERNELS, Kernel
from fastml.saving import replaced

FORMAT = 1
ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "results" / "track"

TURN = 0.02  # seconds
GRAIN = 2e-4  # seconds; calls that are shorter are timed several at once, so that the clock is no part
ATTEMPTS = 2  # at confirming a suspect
PAUSE = 5.0  # seconds before each of them: a slow spell of the machine may pass
TIMEOUT = 600.0  # seconds for one problem, which may have to compile


class Refused(Exception):
    """What cannot be done, in words for the user, and the exit status."""

    def __init__(self, words: str, status: int = 2) -> None:
        super().__init__(words)
        self.status = status


def refuse(words: str) -> NoReturn:
    raise Refused(words)


# ------------------------------------------------------------------------------------------------------ statistics


class Band(NamedTuple):
    """The quartiles of a cell's ratios, one for each repeat, and the ratio of the least times over all repeats."""

    low: float
    middle: float
    high: float
    best: float


def band(ratios: Sequence[float], best: float) -> Band:
    """The noise band of a cell.

    >>> band([2.0, 2.2, 2.1, 1.2, 2.05], 2.1)
    Band(low=2.0, middle=2.05, high=2.1, best=2.1)
    """
    if len(ratios) == 1:
        return Band(ratios[0], ratios[0], ratios[0], best)
    return Band(*statistics.quantiles(ratios, n=4, method="inclusive"), best)


def lost(new: Band, old: Band) -> float:
    """The share of its ratio that a cell lost beyond both bands; negative if the bands overlap.

    >>> round(lost(Band(1.55, 1.6, 1.65, 1.6), Band(1.9, 2.0, 2.1, 2.0)), 3)
    0.132
    """
    return 1 - max(new.high / old.low, new.best / old.best)


def summary(repeats: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, Any]:
    """What is kept of a cell: from the least times of each turn, (the reference's, its own) for each repeat.

    >>> summary([([4.0, 5.0], [2.0, 2.0]), ([3.0], [2.0])])
    {'ratios': [2.0, 1.5], 'best': 1.5}
    """
    return {
        "ratios": [four(min(theirs) / min(own)) for theirs, own in repeats],
        "best": four(min(min(theirs) for theirs, _ in repeats) / min(min(own) for _, own in repeats)),
    }


def four(number: float) -> float:
    return float(f"{number:.4g}")


def pooled(cells: Sequence[dict[str, Any]]) -> Band:
    """The band of several runs' figures of one cell."""
    ratios = [ratio for cell in cells for ratio in cell["ratios"]]
    return band(ratios, statistics.median(cell["best"] for cell in cells))


def bands(runs: Sequence[dict[str, Any]]) -> dict[str, Band]:
    """Cell → its band over all runs that have it."""
    keys = dict.fromkeys(key for run in runs for key in run["cells"])
    return {key: pooled([run["cells"][key] for run in runs if key in run["cells"]]) for key in keys}


def fallen(new: dict[str, Band], old: dict[str, Band], by: float) -> list[str]:
    """The cells that lost more than `by` beyond their bands."""
    return [key for key in new if key in old and lost(new[key], old[key]) > by]


def suspected(new: dict[str, Band], old: dict[str, Band], by: float) -> list[str]:
    """The cells whose middle lost more than `by`, whatever their bands."""
    return [key for key in new if key in old and new[key].middle < (1 - by) * old[key].middle]


def confirmed(
    new: dict[str, Band], old: dict[str, Band], by: float, again: Callable[[Sequence[str]], dict[str, Any]]
) -> dict[str, Band]:
    """The suspects that are fallen in all that `again` measures of them, each time it adds to it; and their bands.

    What made a cell a suspect does not count: it was picked from a hundred for being low.
    """
    suspects = suspected(new, old, by)
    fresh: dict[str, list[dict[str, Any]]] = {key: [] for key in suspects}
    for _ in range(ATTEMPTS):
        cells = again(suspects) if suspects else {}
        for key in suspects:
            fresh[key].append(cells[key])
        new = {key: pooled(fresh[key]) for key in suspects}
        suspects = fallen(new, old, by)
    return {key: new[key] for key in suspects}


# ------------------------------------------------------------------------------------------------------ measuring


class Problem(NamedTuple):
    kernel: str
    size: str
    dtype: str

    def cell(self, name: str) -> str:
        return " ".join((*self, name))


def problem_of(cell: str) -> Problem:
    return Problem(*cell.split()[:3])


class Repeat:
    """In a process of its own: times one problem after another."""

    def __init__(self, _: str, threads: int) -> None:
        fastml.set_num_threads(threads)
        self.turn = TURN + (bench.SETTLE if threads > 1 else 0)  # until BLAS's workers sleep
        self.clock = (
            process_time if threads == 1 and os.name == "posix" else perf_counter
        )  # Windows counts ticks of 16 ms

    def hello(self, dtypes: Sequence[str]) -> dict[str, Any]:
        return bench.machine() | {
            "gemm": {dtype: bench.gemm_peak(dtype, rounds=3, clock=self.clock) for dtype in dtypes}
        }

    def time(self, problem: Problem, names: Sequence[str], slow: float, seconds: float) -> dict[str, Any]:
        """The least times of each turn by back end, the reference's first, and GFLOP of the matrix products."""
        row = KERNELS[problem.kernel]
        arrays = bench.problem(row, problem.size, problem.dtype)
        calls: dict[str, Callable[[], Any]] = {}
        for runner in bench.contenders(names):
            if backend.available()[row.name][runner.backend] is None:
                with runner.chosen():
                    call = runner.bind(bench.prepare(row, arrays))
                if runner.backend != "reference":
                    call()  # compiles, or loads a cache; the reference does neither, and takes up to seconds
                    call = partial(slowed, call, slow, self.clock) if slow > 1 else call
                calls[runner.backend] = call
        turns: dict[str, list[float]] = {name: [] for name in calls}
        for _ in bench.rounds(1, 1000, seconds):
            for name, call in calls.items():
                turns[name].append(least(call, self.turn, self.clock))
        return {"turns": turns, "gflop": bench.gflop(row, row.sizes[problem.size])}


def serve(pipe: Connection, name: str, threads: int) -> None:
    contest.serve(Repeat, pipe, name, threads)


def least(call: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> float:
    """The least time of a call by `clock`, of all during `seconds`, in which it is called at least once."""
    found, calls, end = inf, 1, perf_counter() + seconds
    while True:
        start = clock()
        for _ in range(calls):
            call()
        found = min(found, (clock() - start) / calls)
        if perf_counter() >= end:
            return found
        calls = max(1, int(GRAIN / found))


def slowed(call: Callable[[], Any], factor: float, clock: Callable[[], float]) -> Any:
    """A self-test of compare: the call, and then nothing until it took `factor` times its own time."""
    start = clock()
    result = call()
    end = start + factor * (clock() - start)
    while clock() < end:
        pass
    return result


def measure(problems: Sequence[Problem], options: argparse.Namespace, what: str) -> dict[str, Any]:
    """A run: `options.repeat` processes, one after another, each through all problems."""
    times: dict[str, list[tuple[list[float], list[float]]]] = {}
    gflop: dict[str, float | None] = {}
    run: dict[str, Any] = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "gemm": {}}
    began = perf_counter()
    for n in range(options.repeat):
        print(
            f"{what}: repeat {n + 1} of {options.repeat}, {perf_counter() - began:.0f} s", file=sys.stderr, flush=True
        )
        with contest.started(serve, "track", options.threads, TIMEOUT) as process:
            hello = process.ask("hello", list(dict.fromkeys(p.dtype for p in problems)))
            for dtype, peak in hello.pop("gemm").items():
                run["gemm"].setdefault(dtype, []).append(four(peak))
            run |= {"machine": hello, "load": [*run.get("load", ()), hello.pop("load")]}
            for problem in problems:
                try:
                    slow = options.slow.get(problem.kernel, 1.0)
                    reply = process.ask("time", problem, options.backend, slow, options.seconds)
                except Failed as reason:
                    raise Refused(f"{' '.join(problem)}: {reason}") from None
                theirs = reply["turns"].pop("reference")
                for name, own in reply["turns"].items():
                    times.setdefault(problem.cell(name), []).append((theirs, own))
                    gflop[problem.cell(name)] = reply["gflop"]
    run["cells"] = {}
    for key, repeats in times.items():
        rate = None if gflop[key] is None else gflop[key] / min(min(own) for _, own in repeats)
        share = None if rate is None else four(rate / max(run["gemm"][problem_of(key).dtype]))
        run["cells"][key] = summary(repeats) | {"share": share}
    return run


def machine(threads: int) -> dict[str, Any]:
    """`bench.machine()` of a process that measures: of its environment, not this one's."""
    with contest.started(serve, "track", threads, TIMEOUT) as process:
        return process.ask("hello", [])


def conditions(machine: dict[str, Any]) -> dict[str, str]:
    """What a ratio depends on besides fastml: runs that differ in it are not compared."""
    python = ".".join(machine["versions"]["python"].split(".")[:2])
    variables = " ".join(f"{name}={value}" for name, value in sorted(machine["environment"].items()))
    return {"NumPy": machine["versions"]["numpy"], "BLAS": machine["blas"], "Python": python, "variables": variables}


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In words, the conditions that are not the same."""
    a, b = conditions(then), conditions(now)
    return [f"{key} {a[key] or 'none'} → {b[key] or 'none'}" for key in a if a[key] != b[key]]


# ------------------------------------------------------------------------------------------------------ the store


def slug(machine: dict[str, Any]) -> str:
    """A folder's name for a machine: processor, architecture, ISA rung and threads.

    >>> slug({"cpu": "AMD EPYC (2nd)", "architecture": "x86_64", "isa": "avx2", "threads": 1})
    'amd-epyc-2nd-x86-64-avx2-threads-1'
    """
    parts = machine["cpu"], machine["architecture"], machine["isa"] or "", f"threads-{machine['threads']}"
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as reason:
        words = (getattr(reason, "stderr", None) or str(reason)).strip()
        raise Refused(f"track.py needs a git checkout of fastml: git {' '.join(arguments)}: {words}") from None
    return found.stdout.strip()


def commit() -> tuple[str, str]:
    """This tree's commit and its date; -dirty and a hash of the changes, if there are. What is stored here is none."""
    changes = git("diff", "HEAD", "--", ".", ":!bench/results")
    dirty = f"-dirty-{hashlib.sha1(changes.encode()).hexdigest()[:6]}" if changes else ""
    return git("rev-parse", "--short=12", "HEAD") + dirty, git("show", "-s", "--format=%cI", "HEAD")


def read(path: Path) -> dict[str, Any]:
    """A stored file.

    Raises
    ------
    Refused
        It is not one, or of another format, or no file at all.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise Refused(f"{path}: is of format {stored['format']}, this track.py reads {FORMAT}; move it away")
        for run in stored["runs"]:
            conditions(run["machine"]), bands([run])
        if not (stored["runs"] and stored["commit"] and datetime.fromisoformat(stored["date"])):
            raise ValueError("it holds no runs")
    except OSError as reason:
        raise Refused(f"{path}: {reason.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, statistics.StatisticsError) as reason:
        raise Refused(f"{path}: not a file that track.py wrote, or a damaged one; move it away ({reason!r})") from None
    return stored


def add(folder: Path, name: str, date: str, run: dict[str, Any]) -> Path:
    """Add a run to the file of its commit, whole or not at all."""
    path = folder / f"{name}.json"
    stored = read(path) if path.exists() else {"format": FORMAT, "commit": name, "date": date, "runs": []}
    stored["runs"].append(run)
    folder.mkdir(parents=True, exist_ok=True)
    contest.save(path, stored)
    return path


def history(folder: Path) -> list[dict[str, Any]]:
    """All files of a machine, by the dates of their commits, then of their newest runs."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda f: (datetime.fromisoformat(f["date"]).timestamp(), f["runs"][-1]["started"]))


def baseline(stored: Sequence[dict[str, Any]], against: str, now: dict[str, Any], where: Path) -> dict[str, Any]:
    """The stored file to compare with, and of its runs those under the same conditions.

    Raises
    ------
    Refused
        There is none, status 3.
    """
    if not stored:
        known = sorted({path.parent.name for path in where.parent.glob("*/*.json")})
        words = f"there are runs of {', '.join(known)}" if known else "there are none of others either"
        raise Refused(f"no stored run of this machine, {where}: {words}; `track.py run` stores one", 3)
    if against != "last":
        chosen = [f for f in stored if f["commit"].startswith(against)] or [
            f for f in stored if f["commit"] == resolved(against)
        ]
        if not chosen:
            raise Refused(f"--against: no stored run of {against} in {where}: {names(stored)}", 3)
        stored = chosen
    for file in reversed(stored):
        runs = [run for run in file["runs"] if not differences(run["machine"], now)]
        if runs:
            return file | {"runs": runs}
    differ = ", ".join(differences(stored[-1]["runs"][-1]["machine"], now))
    raise Refused(f"the stored run of {stored[-1]['commit']} does not compare: {differ}; store one anew", 3)


def names(stored: Iterable[dict[str, Any]]) -> str:
    return ", ".join(file["commit"] for file in stored) or "none"


def resolved(name: str) -> str | None:
    try:
        return git("rev-parse", "--short=12", "--verify", f"{name}^{{commit}}")
    except Refused:
        return None


# ------------------------------------------------------------------------------------------------------ commands


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser()
    options = arguments.parse_args(argv)
    check(options, arguments.error)
    command = " ".join(["bench/track.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        options.machine = machine(options.threads)
        folder = options.out / slug(options.machine)
        return {"run": store, "compare": compare, "history": show}[options.command](options, folder, command)
    except (Refused, Failed, OSError) as reason:
        print(f"track.py {options.command}: {reason}", file=sys.stderr)
        return getattr(reason, "status", 2)
    except KeyboardInterrupt:
        print("interrupted: nothing was stored", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="track.py", description=__doc__.splitlines()[0])
    commands = found.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--kernel", nargs="+", default=[], metavar="NAME", help="kernels or families (default: all)")
    common.add_argument("--threads", type=int, default=1, help="for fastml and for NumPy's BLAS (default: 1)")
    common.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="of stored runs")
    timing = argparse.ArgumentParser(add_help=False)
    own = [name for name in backend.BACKENDS if name != "reference"]
    timing.add_argument("--backend", nargs="+", choices=own, default=own, help="default: all")
    timing.add_argument("--dtype", nargs="+", choices=("float32", "float64"), default=["float32"])
    timing.add_argument("--repeat", type=int, default=5, metavar="R", help="processes (default: 5)")
    timing.add_argument("--seconds", type=float, default=0.2, metavar="S", help="for a problem in each (default: 0.2)")
    commands.add_parser("run", parents=[common, timing], help="measure and store").set_defaults(slow=[])
    new = commands.add_parser("compare", parents=[common, timing], help="name the kernels that became slower")
    new.add_argument("--against", default="last", metavar="COMMIT", help="with the stored run of this (default: last)")
    new.add_argument("--by", type=float, default=0.1, metavar="SHARE", help="lost beyond the bands (default: 0.1)")
    new.add_argument("--stored", action="store_true", help="compare this commit's stored runs; measure suspects alone")
    new.add_argument(
        "--slow", nargs="+", default=[], metavar="KERNEL=1.25", help="self-test: as if it took so much longer"
    )
    draw = commands.add_parser("history", parents=[common], help="print and draw the ratios from commit to commit")
    draw.add_argument("--plot", type=Path, metavar="FILE.png", help="draw them (needs matplotlib)")
    draw.add_argument("--last", type=int, default=8, metavar="N", help="commits that are printed (default: 8)")
    return found


def check(options: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    """Say at once what is wrong with the arguments, and read --slow."""
    families = dict.fromkeys(row.family for row in KERNELS)
    for name in options.kernel:
        if name not in {*KERNELS.names(), *families}:
            error(f"--kernel: expected one of {', '.join((*KERNELS.names(), *families))}, got {name!r}")
    for name, least in {"threads": 1, "repeat": 1, "last": 1, "seconds": 0}.items():
        if not getattr(options, name, least) >= least:
            error(f"--{name}: expected at least {least}, got {getattr(options, name)}")
    if not 0 <= getattr(options, "by", 0.0) < 1:
        error(f"--by: expected a share from 0 to 1, got {options.by}")
    slow = {}
    for text in getattr(options, "slow", ()):
        name, _, factor = text.partition("=")
        try:
            slow[name] = float(factor)
        except ValueError:
            slow[name] = 0.0
        if name not in {row.name for row in chosen(options.kernel)} or not 1 <= slow[name] < inf:
            error(f"--slow: expected a kernel that is measured and a factor of at least 1, got {text!r}")
    options.slow = slow
    if getattr(options, "plot", None):
        if options.plot.suffix not in (".png", ".pdf", ".svg"):
            error(f"--plot: expected a name that ends in .png, .pdf or .svg, got {str(options.plot)!r}")
        if find_spec("matplotlib") is None:
            error("--plot needs matplotlib: pip install fastml[plot]")
        writable("--plot", options.plot, error)
    try:
        runners = bench.contenders(getattr(options, "backend", ()))
    except (RuntimeError, ValueError) as wrong:  # what the environment may have wrong
        error(str(wrong))
    if options.command != "history" and (len(runners) == 1 or not problems(options)):
        error(f"--backend: {' and '.join(options.backend)} cannot run these kernels here")


def chosen(kernels: Sequence[str]) -> list[Kernel]:
    return [row for row in KERNELS if not kernels or row.name in kernels or row.family in kernels]


def problems(options: argparse.Namespace) -> list[Problem]:
    """Those of the chosen kernels that a chosen back end has."""
    grid = backend.available()
    rows = [row for row in chosen(options.kernel) if any(grid[row.name][name] is None for name in options.backend)]
    return [Problem(row.name, size, dtype) for dtype in options.dtype for row in rows for size in row.sizes]


def asked(cell: str, options: argparse.Namespace) -> bool:
    """Is the cell of the command's kernels, dtypes and back ends? Without kernels, also one that there is no more."""
    kernel, _, dtype, name = cell.split()
    kernels = {row.name for row in chosen(options.kernel)}
    return (not options.kernel or kernel in kernels) and dtype in options.dtype and name in options.backend


def store(options: argparse.Namespace, folder: Path, command: str) -> int:
    name, date = commit()
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    writable("--out", path, refuse)  # an error now rather than after two minutes
    if path.exists():
        read(path)
    warn_if_busy(options.machine)
    began = perf_counter()
    run = measure(problems(options), options, "run")
    if commit()[0] != name:
        raise Refused(f"the tree changed from {name} to {commit()[0]} meanwhile: nothing was stored")
    add(folder, name, date, {"command": command} | run)
    wide = statistics.median((b.high - b.low) / b.middle for b in bands([run]).values())
    print(f"{path}: {len(run['cells'])} cells, bands of {wide:.0%} at the median, {perf_counter() - began:.0f} s")
    return 0


def compare(options: argparse.Namespace, folder: Path, command: str) -> int:
    name, _ = commit()
    stored = history(folder)
    if options.stored:
        mine = [file for file in stored if file["commit"] == name]
        if not mine:
            raise Refused(f"--stored: no stored run of this tree, {name}, in {folder}: {names(stored)}", 3)
        now = mine[0]["runs"][-1]
        others = [file for file in stored if file["commit"] != name]
        file = baseline(others, options.against, now["machine"], folder)
        differ = differences(now["machine"], options.machine)
        if differ:
            raise Refused(
                f"--stored: suspects cannot be measured as they were in the stored run: {', '.join(differ)}", 3
            )
        new = bands([run for run in mine[0]["runs"] if not differences(run["machine"], now["machine"])])
    else:
        file = baseline(stored, options.against, options.machine, folder)
        warn_if_busy(options.machine)
        new = bands([measure(problems(options), options, "compare")])
    new, old = ({key: b for key, b in each.items() if asked(key, options)} for each in (new, bands(file["runs"])))
    common, gone = new.keys() & old.keys(), old.keys() - new.keys()
    if gone:
        print(f"not measured any more: {', '.join(sorted(gone))}", file=sys.stderr)
    if not common:
        raise Refused(f"the stored run of {file['commit']} has none of these cells", 3)
    against = f"{file['commit']} ({file['runs'][-1]['started'][:10]})"

    def again(suspects: Sequence[str]) -> dict[str, Any]:
        print(f"suspects, which are measured again: {', '.join(suspects)}", file=sys.stderr)
        sleep(PAUSE)
        return measure(list(dict.fromkeys(map(problem_of, suspects))), options, "again")["cells"]

    slower = confirmed(new, old, options.by, again)
    for key, now in slower.items():
        less = 1 - now.middle / old[key].middle
        print(f"{key}: {spread(old[key])} times as fast as NumPy at {against}, now {spread(now)}: {less:.0%} less")
    if slower:
        kernels = dict.fromkeys(problem_of(key).kernel for key in slower)
        print(f"slower than at {against}: {', '.join(kernels)}")
        return 1
    print(f"none of {len(common)} cells lost more than {options.by:.0%} beyond its noise since {against}")
    return 0


def spread(b: Band) -> str:
    """The middle, and the band.

    >>> spread(Band(1.96, 2.0, 2.05, 2.0))
    '2.00 (1.96 to 2.05)'
    """
    return f"{three(b.middle)} ({three(b.low)} to {three(b.high)})"


def warn_if_busy(machine: dict[str, Any]) -> None:
    if machine["load"] and machine["load"] > machine["cpus"] / 4:
        print(f"other programs are running (load {machine['load']:.1f}): bands will be wide", file=sys.stderr)


def show(options: argparse.Namespace, folder: Path, command: str) -> int:
    stored = history(folder)
    if not stored:
        raise Refused(f"no stored run of this machine, {folder}: `track.py run` stores one", 3)
    wanted = {row.name for row in chosen(options.kernel)}
    found = [{key: b for key, b in bands(file["runs"]).items() if problem_of(key).kernel in wanted} for file in stored]
    if options.plot:  # first: there may be nowhere to print
        with replaced(options.plot) as path:
            figure(stored, found, folder.name).savefig(path, dpi=120)
    print_history(stored[-options.last :], found[-options.last :])
    return 0


def print_history(stored: Sequence[dict[str, Any]], found: Sequence[dict[str, Band]]) -> None:
    """Cells down, commits across."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("times as fast as NumPy", no_wrap=True)
    for file in stored:
        table.add_column(f"{file['commit']}\n{file['date'][:10]}", no_wrap=True)
    for key in dict.fromkeys(key for each in found for key in each):
        table.add_row(key, *(spread(each[key]) if key in each else "-" for each in found))
    console = Console(highlight=False)
    console.width = max(console.width, 64 + 24 * len(stored))
    console.print(table)
    print("middle and quartiles of the repeats' ratios")
    for words in changes(stored):
        print(words)


def changes(stored: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Where the conditions are others than at the commit before."""
    for before, after in pairwise(stored):
        differ = differences(before["runs"][-1]["machine"], after["runs"][-1]["machine"])
        if differ:
            yield f"{after['commit']}: {', '.join(differ)}: its ratios do not compare with those before"


def figure(stored: Sequence[dict[str, Any]], found: Sequence[dict[str, Band]], machine: str) -> Any:
    """A panel for each kernel: a line for each cell over the commits, its band behind it."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    panels: dict[str, dict[str, None]] = {}
    for key in dict.fromkeys(key for each in found for key in each):
        panels.setdefault(problem_of(key).kernel, {})[key] = None
    columns = min(4, len(panels)) or 1
    rows = math.ceil(len(panels) / columns) or 1
    drawn = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.6), layout="constrained")
    axes = list(drawn.subplots(rows, columns, squeeze=False).flat)
    for panel, (kernel, keys) in zip(axes, panels.items(), strict=False):
        for n, key in enumerate(keys):
            at = [x for x, each in enumerate(found) if key in each]
            each = [found[x][key] for x in at]
            panel.plot(at, [b.middle for b in each], "o-", color=f"C{n}", markersize=3, label=key.split(" ", 1)[1])
            # as bars too: one commit has no area
            panel.vlines(at, [b.low for b in each], [b.high for b in each], color=f"C{n}", alpha=0.5)
            panel.fill_between(at, [b.low for b in each], [b.high for b in each], color=f"C{n}", alpha=0.2, linewidth=0)
        panel.set_title(kernel, fontsize=9)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        panel.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:g}" if f"{y:.0e}"[0] in "25" else ""))
        panel.tick_params(labelsize=7, which="both")
        short = [re.sub(r"^(.{7})\w*", r"\1", file["commit"]) for file in stored]
        panel.set_xticks(range(len(stored)), short, rotation=45, ha="right")
        panel.grid(axis="y", alpha=0.25)
        panel.legend(fontsize=6, frameon=False)
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    drawn.suptitle(f"times as fast as NumPy in the same run, and quartiles of the repeats; {machine}", fontsize=10)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
