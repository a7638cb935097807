"""The command line: `fastml show`, `fastml bench`, and `fastml lm`, which is in `language/command.py`."""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from . import backend, bench
from .kernels.table import KERNELS, Kernel, Sizes
from .saving import replaced
from .threads import get_num_threads, set_num_threads
from .version import __version__

__all__ = ["main"]

WIDTH = 112  # columns that the tables are laid out for; a narrower terminal wraps them

DESCRIPTION = """\
Time every kernel at a small and a large size in every back end that runs here, against the NumPy reference, and a
training step of a byte-level LSTM on real text (the source of Python's own standard library). Back ends take turns
within one process; medians of at least 3 rounds, within a time box for each cell; under two minutes in all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 (wrong answers), 2 (wrong arguments) or 130 (Ctrl-C)."""
    parser = argparse.ArgumentParser("fastml", description="A fast CPU backend for recurrent networks.")
    parser.add_argument("--version", action="version", version=f"fastml {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{show,bench,lm}")
    show = commands.add_parser("show", help="print which back end serves which kernel, and why")
    run = commands.add_parser("bench", help="time every kernel on this machine", description=DESCRIPTION)
    run.add_argument(
        "--kernel", action="append", metavar="NAME", help="a kernel, a family or training; may be repeated"
    )
    run.add_argument("--backend", action="append", metavar="NAME", help="time this one (and the reference); repeatable")
    run.add_argument("--threads", type=int, metavar="N", help="threads for fastml and for NumPy's BLAS (default: all)")
    run.add_argument(
        "--size", metavar="T=1000,B=1,...", help="instead of the small and the large one; of all kernels those it fits"
    )
    run.add_argument("--full", action="store_true", help="medians of at least 7, float64 too, no limit to the whole")
    run.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    run.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the ratios (needs matplotlib)")
    commands.add_parser("lm", help="train a language model on text, draw from it, measure it", add_help=False)
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["lm"]:
        from .language import command

        return command.main(argv[1:])
    arguments = parser.parse_args(argv)
    error = (run if arguments.command == "bench" else show).error
    try:
        get_num_threads(), backend.active_isa(), backend.active()  # what the environment may have wrong
    except (RuntimeError, ValueError) as wrong:
        error(str(wrong))
    if arguments.command == "show":
        backend.show()
        return 0
    return _bench(arguments, "fastml " + shlex.join(argv), error)


# ------------------------------------------------------------------------------------------------------ fastml bench


def _bench(arguments: argparse.Namespace, command: str, error: Callable[[str], NoReturn]) -> int:
    if arguments.threads is not None:
        if arguments.threads < 1:
            error(f"--threads: expected at least 1, got {arguments.threads}")
        set_num_threads(arguments.threads)
    kernels, training = _kernels(arguments.kernel, error)
    sizes = _sizes(arguments.size, error)
    if sizes:
        kernels, training = _fitting(sizes, kernels, training, bool(arguments.kernel), error)
    runners = _runners(arguments.backend or [], error)
    try:
        text = bench.stdlib_text() if training else None
    except FileNotFoundError as none:
        error(f"{none}; choose kernels with --kernel to leave it out")
    plan = bench.Plan(
        kernels=kernels,
        runners=runners,
        text=text,
        dtypes=("float32", "float64") if arguments.full else ("float32",),
        sizes=sizes,
        fewest=7 if arguments.full else 3,
        seconds=600.0 if arguments.full else 45.0,
    )
    if arguments.json:
        writable("--json", arguments.json, error)
    if arguments.plot:
        _plottable(arguments.plot, runners, error)

    started = datetime.now(UTC).isoformat(timespec="seconds")
    report = bench.Report(command, started, bench.machine(), bench.missing())
    try:
        for step in _progress(bench.steps(plan, report)):
            step()
        report.complete = True
    except KeyboardInterrupt:
        print("interrupted: what was measured so far", file=sys.stderr)
    if arguments.json:
        with replaced(arguments.json) as path:
            path.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if arguments.plot and _ratios(report):
        with replaced(arguments.plot) as path:
            _figure(report).savefig(path, dpi=150)
    _print(report)  # last: what is measured is kept even where nothing can be printed
    if not report.complete:
        return 130
    return 1 if _wrong(report) else 0


def _kernels(names: list[str] | None, error: Callable[[str], NoReturn]) -> tuple[list[Kernel], bool]:
    """The rows to time, and whether to time the training step."""
    families = dict.fromkeys(row.family for row in KERNELS)
    for name in names or ():
        if name not in {*KERNELS.names(), *families, "training"}:
            valid = ", ".join((*KERNELS.names(), *families, "training"))
            error(f"--kernel: expected one of {valid}, got {name!r}")
    rows = [row for row in KERNELS if not names or row.name in names or row.family in names]
    return rows, not names or "training" in names


def _runners(names: list[str], error: Callable[[str], NoReturn]) -> list[bench.Contender]:
    lacking = bench.missing()
    for name in names:
        if name not in backend.BACKENDS:
            error(f"--backend: expected one of {', '.join(backend.BACKENDS)}, got {name!r}")
        reasons = lacking.get(name, {})
        if sum(map(len, reasons.values())) == len(KERNELS):
            error(f"--backend: {name} cannot run here: {', '.join(reasons)}")
    return bench.contenders(names)


def _sizes(text: str | None, error: Callable[[str], NoReturn]) -> Sizes | None:
    if text is None:
        return None
    try:
        sizes = {letter.strip(): int(number) for letter, number in (part.split("=") for part in text.split(","))}
    except ValueError:
        error(f"--size: expected sizes such as T=1000,B=1,I=64,H=64, got {text!r}")
    return sizes


def _fitting(
    sizes: Sizes, kernels: list[Kernel], training: bool, asked: bool, error: Callable[[str], NoReturn]
) -> tuple[list[Kernel], bool]:
    """The rows that have these sizes, and whether the training step has; all must that were asked for by name."""
    needed = [(row, bench.sizes_of(row)) for row in kernels] + [(None, set(bench.TRAINING))] * training
    fitting = [(row, letters) for row, letters in needed if letters <= set(sizes)]
    used = set().union(*(letters for _, letters in fitting))
    if used != set(sizes) or min(sizes.values()) < 1 or (asked and len(fitting) < len(needed)):
        choices = dict.fromkeys(", ".join(sorted(letters)) for _, letters in needed)
        words = (" and " if asked else " or ").join(choices)
        got = ",".join(f"{letter}={size}" for letter, size in sizes.items())
        error(f"--size: expected a size of at least 1 for each of {words}, got {got!r}")
    return [row for row, _ in fitting if row], any(row is None for row, _ in fitting)


def writable(option: str, path: Path, error: Callable[[str], NoReturn]) -> None:
    """An error now rather than after two minutes."""
    try:
        if path.exists() and not path.is_file():  # a folder; or a device, which a file would replace
            raise OSError(f"{path} is no file")
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as reason:
        error(f"{option}: cannot write {path}: {reason.strerror or reason}")


def _plottable(path: Path, runners: Sequence[bench.Contender], error: Callable[[str], NoReturn]) -> None:
    if find_spec("matplotlib") is None:
        error("--plot needs matplotlib: pip install fastml[plot]")
    if path.suffix not in (".png", ".pdf", ".svg"):
        error(f"--plot: expected a name that ends in .png, .pdf or .svg, got {str(path)!r}")
    if len(runners) == 1:
        error("--plot: only the reference back end is timed, there is no ratio to plot")
    writable("--plot", path, error)


def _progress(steps: Sequence[tuple[str, Callable[[], None]]]) -> Iterator[Callable[[], None]]:
    """The steps one after another, announced on stderr: a bar on a terminal, else a line each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        for n, (label, step) in enumerate(steps, 1):
            print(f"[{n:{len(str(len(steps)))}}/{len(steps)}] {label}", file=sys.stderr, flush=True)
            yield step
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # No auto-refresh: its thread would take its share of the processor that is being measured.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=len(steps))
        for label, step in steps:
            bar.update(task, description=label, refresh=True)
            yield step
            bar.advance(task)


# ------------------------------------------------------------------------------------------------------ tables


def _print(report: bench.Report) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    for line in _heading(report):
        console.print(line, markup=False, soft_wrap=True)
    for dtype in dict.fromkeys(cell.dtype for cell in report.cells):
        console.print(f"\n{dtype}", style="bold")
        console.print(_kernel_table(report, dtype))
    if report.training:
        sizes = letters(report.training[0].sizes)
        console.print(f"\nTraining step of a byte-level LSTM on Python's own sources, float32, {sizes}", style="bold")
        console.print(_training_table(report))
    console.print()
    for note in _notes(report):
        console.print(note, style="dim", markup=False)


def _heading(report: bench.Report) -> Iterator[str]:
    m = report.machine
    yield " · ".join(f"{name} {version}" for name, version in m["versions"].items())
    yield f"{m['cpu']} ({m['cpus']} usable) · {m['system']} {m['architecture']}"
    runs = f" (of {', '.join(m['rungs'])})" if m["rungs"] else ""
    peaks = [f"{'s' if dtype == 'float32' else 'd'}gemm {gflops:.0f} GFLOP/s" for dtype, gflops in report.gemm.items()]
    peaks += [f"copy {report.copy:.0f} GB/s"] if report.copy else []
    yield " · ".join([f"isa {m['isa'] or '-'}{runs}", f"threads {m['threads']}", *peaks])
    held = [f"{name}={value}" for name, value in m["environment"].items()]
    yield " · ".join([f"NumPy's BLAS: {m['blas']}", *held])


def _table() -> Any:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def _kernel_table(report: bench.Report, dtype: str) -> Any:
    from rich.text import Text

    cells = {(c.kernel, c.size, c.backend, c.isa): c for c in report.cells if c.dtype == dtype}
    runners = list(dict.fromkeys((c.backend, c.isa) for c in cells.values()))
    table = _table()
    table.add_column("\nkernel", no_wrap=True)
    table.add_column("\nsize", no_wrap=True)
    for runner in runners:
        head = "reference (NumPy)" if runner[0] == "reference" else f"{'':2}{bench.Contender(*runner).label}"
        first = "    time" if runner[0] == "reference" else " ratio"
        table.add_column(f"{head}\n{first}  GF/s peak error", no_wrap=True)
    family = None
    for kernel, size in dict.fromkeys(key[:2] for key in cells):
        if family not in (None, KERNELS[kernel].family):
            table.add_section()
        family = KERNELS[kernel].family
        row = [kernel, size]
        for runner in runners:
            c = cells.get((kernel, size, *runner))
            if c is None:
                row.append(Text("     -", "dim"))
                continue
            first = f"{seconds(c.seconds):>8}" if c.backend == "reference" else f"{three(c.ratio):>6}"
            rate = " " * 11 if c.gflops is None else f"{three(c.gflops):>6}{c.gflops / report.gemm[dtype]:>5.0%}"
            wrong = not c.error <= c.tolerance
            error = (f"{short(c.error):>6}" + "!" * wrong, "bold red" if wrong else "")
            row.append(Text.assemble((first, _colour(c)), rate, error))
        table.add_row(*row)
    return table


def _training_table(report: bench.Report) -> Any:
    from rich.text import Text

    table = _table()
    table.add_column("back end", no_wrap=True)
    for head in ("characters/s", "ratio", "in the LSTM", "bits before", "bits after", "gradient error"):
        table.add_column(head, justify="right")
    for t in report.training:
        reference = t.backend == "reference"
        table.add_row(
            bench.Contender(t.backend, t.isa).label,
            f"{t.characters_per_second:,.0f}",
            Text(three(t.ratio), _colour(t)),
            f"{t.lstm_share:.0%}",
            f"{t.bits[0]:.2f}",
            f"{t.bits[-1]:.2f}",
            "-" if reference else short(t.gradient_difference),
        )
    return table


def _colour(measured: bench.Measurement | bench.Training) -> str:
    return "" if measured.backend == "reference" else "bold red" if measured.ratio < 1 else "bold green"


def _notes(report: bench.Report) -> Iterator[str]:
    m = report.machine
    sizes = dict.fromkeys((c.size, letters(c.sizes)) for c in report.cells)
    if sizes:
        counts = sorted(len(c.times) for c in report.cells)
        rounds = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else counts[0]
        yield "Sizes: " + " · ".join(f"{name} {letters}" for name, letters in sizes) + "."
        yield (
            f"Medians of {rounds} rounds, back ends in turn; whole public calls; forward passes "
            "keep what training needs. ratio: the reference's median over this one's, same run. GF/s: GFLOP/s of the "
            "matrix products alone; peak: their share of the gemm above. error: largest difference from the reference "
            "in float64, relative to the largest value of each output."
        )
    if report.training:
        yield (
            f"Training: {len(report.training[0].times)} steps after a warm-up, each on new text; bits per character; "
            "only the LSTM's two calls differ, the readout and SGD are NumPy for all. gradient error: the first step's "
            "difference from the reference in float32."
        )
    for name in dict.fromkeys(c.backend for c in report.cells if c.backend != "reference"):
        longer = sum(c.first_call - c.seconds for c in report.cells if c.backend == name)
        if longer > 0.5:
            yield f"First calls of {name}: {longer:.1f} s more (compiling, or loading a cache), in no figure here."
    if any((c.gflops or 0) > report.gemm[c.dtype] for c in report.cells):
        yield (
            f"A share above 100% is possible: the peak is what NumPy's BLAS ({m['blas']}) reached here, not what the "
            "processor can do. A BLAS may not know the processor, or be held back (OPENBLAS_CORETYPE)."
        )
    if m["load"] and m["load"] > m["cpus"] / 4:
        yield f"Other programs were running (load {m['load']:.1f} before the start): read small differences as noise."
    for name, reasons in report.missing.items():
        for reason, kernels in reasons.items():
            what = "nothing" if len(kernels) == len(KERNELS) else "no " + ", no ".join(kernels)
            yield f"{name} serves {what}: {reason}."
    for c in _wrong(report):
        yield f"! {c.kernel} {c.size} {c.dtype}: {c.backend} is off by {c.error:.0e}, tolerance {c.tolerance:.0e}."


def _wrong(report: bench.Report) -> list[bench.Measurement]:
    return [c for c in report.cells if not c.error <= c.tolerance]


def letters(sizes: Sizes) -> str:
    """Sizes in one line.

    >>> letters({"T": 200, "B": 1})
    'T=200 B=1'
    """
    return " ".join(f"{letter}={size}" for letter, size in sizes.items())


def short(error: float) -> str:
    """One digit and the exponent.

    >>> short(2.3e-7)
    '2e-7'
    """
    return f"{error:.0e}".replace("e-0", "e-")


def three(number: float) -> str:
    """Three digits.

    >>> three(1.234), three(12.34), three(1234)
    ('1.23', '12.3', '1234')
    """
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def seconds(s: float) -> str:
    """A duration in three digits and its unit.

    >>> seconds(0.01234)
    '12.3 ms'
    """
    unit, factor = ("s", 1) if s >= 0.9995 else ("ms", 1e3) if s >= 0.9995e-3 else ("µs", 1e6)
    return f"{three(s * factor)} {unit}"


# ------------------------------------------------------------------------------------------------------ plot


def _ratios(report: bench.Report) -> dict[str, dict[str, float]]:
    """Problem → back end → ratio to NumPy."""
    found: dict[str, dict[str, float]] = {}
    for c in report.cells:
        if c.backend != "reference":
            found.setdefault(f"{c.kernel} {c.size} {c.dtype}", {})[bench.Contender(c.backend, c.isa).label] = c.ratio
    for t in report.training:
        if t.backend != "reference":
            found.setdefault("training step float32", {})[bench.Contender(t.backend, t.isa).label] = t.ratio
    return found


def _figure(report: bench.Report) -> Any:
    """Bars from 1, to the right where fastml is faster than NumPy and to the left where it is slower."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    ratios = _ratios(report)
    runners = list(dict.fromkeys(label for row in ratios.values() for label in row))
    dtypes = {key.split()[-1] for key in ratios}
    high = 0.8 / len(runners)
    figure = Figure(figsize=(9, 1.4 + 0.22 * len(ratios) * (len(runners) + 0.6)), layout="constrained")
    axes = figure.subplots()
    for n, runner in enumerate(runners):
        at = {y - 0.4 + high * (n + 0.5): row[runner] for y, row in enumerate(ratios.values()) if runner in row}
        axes.barh(list(at), [ratio - 1 for ratio in at.values()], high, left=1, color=f"C{n}", label=runner)
        for y, ratio in at.items():
            shift, side, colour = (4, "left", "black") if ratio >= 1 else (-4, "right", "tab:red")
            style = {"ha": side, "va": "center", "fontsize": 8, "color": colour}
            axes.annotate(three(ratio), (ratio, y), (shift, 0), textcoords="offset points", **style)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    values = [ratio for row in ratios.values() for ratio in row.values()]
    axes.set_xlim(0.6 * min(1, *values), 1.8 * max(1, *values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "25" else ""))
    axes.set_yticks(range(len(ratios)), [key.rsplit(" ", 1)[0] if len(dtypes) == 1 else key for key in ratios])
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as NumPy, same run (log scale; left of 1 is slower)")
    m = report.machine
    title = f"{m['cpu']}, {m['isa'] or m['architecture']}, threads {m['threads']}, {', '.join(sorted(dtypes))}"
    axes.set_title(f"fastml {m['versions']['fastml']} on {title}", fontsize=10)
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=len(runners), frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
