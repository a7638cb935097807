"""What one step of one sequence costs as T, B, H and the number of threads grow: fastml native, PyTorch where asked.

    python bench/bench_scaling.py [--axis T B H threads] [--axis T=100,1000] [--cell lstm] [--mode training] [--torch]
                                  [--threads 1] [--rounds 5] [--json FILE] [--plot FOLDER]
    python bench/bench_scaling.py --long [T] [--threads 2]

Each point of an axis is a process of its own, as in bench_peers.py, and the points take turns, so that a machine whose
speed drifts bends no curve; a figure is the median of the rounds. training: forward and backward with every gradient;
from T = 100,000 by ``layer.forward(..., checkpoint="auto")`` (marked *). inference: the
forward pass alone. "per step" is the time of a call over T·B. PyTorch is left out beyond T = 100,000.

--long: an LSTM of I = H = 256 on one sequence of a million steps, forward and backward, with checkpoints, against a
hundredth of the steps without: the time per step, and the memory at its peak above what the caller has anyway (x, dy
and the weights before the call, y, dx and the weights' gradients after it).
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from time import sleep
from typing import Any

from bench_peers import SETTLE, Failed, Process, installed
from report import CELLS, MODES, scaling

from fastml import bench
from fastml.cli import seconds, three
from fastml.threads import usable_cpus

# The points of each axis, and the sizes that stay as they are on it.
AXES: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "T": ((100, 1000, 10_000, 100_000, 1_000_000), {"B": 1, "H": 64}),
    "B": ((1, 2, 4, 8, 16, 32, 64, 128), {"T": 200, "H": 128}),
    "H": ((16, 32, 64, 128, 256, 512, 1024), {"T": 200, "B": 8}),
    "threads": (tuple(range(1, usable_cpus() + 1)), {"T": 1000, "B": 32, "H": 128}),
}

# Steps from which training is by checkpoints, as LSTM's tape is 24·T·B·H bytes: 6 GB for a million of 256. PyTorch runs
# no more of them: its GRU takes 140 µs for each.
LONG = 100_000


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axis", nargs="+", type=axis, metavar="AXIS[=N,N…]", help=f"of {', '.join(AXES)}")
    parser.add_argument("--cell", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--torch", action="store_true", help="PyTorch beside it")
    parser.add_argument("--threads", type=int, default=1, help="on every axis but threads (default: 1)")
    parser.add_argument("--rounds", type=int, help="of which the median is taken (default: 5; with --long 1)")
    parser.add_argument("--timeout", type=float, default=1200.0, metavar="S", help="for one reply (default: 1200)")
    parser.add_argument("--long", type=int, nargs="?", const=1_000_000, metavar="T", help="one long sequence instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write a PNG for each axis")
    arguments = parser.parse_args(argv)
    if arguments.torch and not installed("torch"):
        parser.error("PyTorch is not installed: pip install fastml[peers]")
    machine = bench.machine() | {"threads": arguments.threads}
    if arguments.torch:
        machine["versions"] = machine["versions"] | {"torch": version("torch")}
    command = " ".join(["bench/bench_scaling.py", *(sys.argv[1:] if argv is None else argv)])
    report: dict[str, Any] = {"command": command, "complete": False, "machine": machine, "scaling": []}
    print(f"{machine['cpu']}, isa {machine['isa']}, {arguments.threads} thread(s), load {machine['load']}")
    print(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    if arguments.long:
        report["scaling"] = long_sequence(arguments)
    else:
        contenders = ["native", *(["torch"] if arguments.torch else [])]
        for name, points in arguments.axis or [axis(name) for name in AXES]:
            for mode in arguments.mode:
                for cell in arguments.cell:
                    print(f"{cell} {mode} over {name}", file=sys.stderr)
                    found = [place(name, n, cell, mode, who, arguments.threads) for n in points for who in contenders]
                    found = [row for row in found if row["contender"] == "native" or row["sizes"]["T"] <= LONG]
                    report["scaling"] += measure(found, arguments.rounds or 5, arguments.timeout)
                    save(arguments.json, report)
                rows = [row for row in report["scaling"] if (row["axis"], row["mode"]) == (name, mode)]
                print("\n" + "\n".join(scaling(rows)), flush=True)
            if arguments.plot:
                arguments.plot.mkdir(parents=True, exist_ok=True)
                figure(name, report).savefig(arguments.plot / f"scaling-{name}.png", dpi=120)
    report["complete"] = True
    save(arguments.json, report)
    return 1 if any("gone" in row for row in report["scaling"]) else 0


def axis(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, points = text.partition("=")
    try:
        found = tuple(map(int, points.split(","))) if points else AXES[name][0]
    except (KeyError, ValueError):
        found = ()
    if name not in AXES or not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(AXES)} such as T or T=100,1000, got {text!r}")
    return name, found


def place(name: str, point: int, cell: str, mode: str, contender: str, threads: int) -> dict[str, Any]:
    """A point that is to be measured."""
    sizes = {**AXES[name][1], **({} if name == "threads" else {name: point})}
    sizes = {"T": sizes["T"], "B": sizes["B"], "I": sizes["H"], "H": sizes["H"]}
    by = "auto" if contender == "native" and mode == "training" and sizes["T"] >= LONG else None
    row = {"axis": name, "point": point, "cell": cell, "mode": mode, "contender": contender, "sizes": sizes}
    return row | {"threads": point if name == "threads" else threads, "checkpoint": by}


def measure(rows: Sequence[dict], rounds: int, timeout: float) -> list[dict]:
    """Prepare every point in a process of its own, and time them in turn."""
    with processes(rows, timeout) as running:
        for row, process in running:
            with lost(row):
                prepare(row, process)
        for _ in range(rounds):
            for row, process in running:
                if "gone" not in row:
                    sleep(SETTLE)
                    with lost(row):
                        row["times"].append(statistics.median(process.ask(do="turn")["seconds"]))
    return [finish(row) for row in rows]


@contextmanager
def processes(rows: Sequence[dict], timeout: float) -> Iterator[list[tuple[dict, Process]]]:
    with ExitStack() as stack:
        running = []
        for row in rows:
            with lost(row):
                process = Process(row["contender"], row["threads"], timeout=timeout)
                stack.callback(process.close)
                running.append((row, process))
        yield running


@contextmanager
def lost(row: dict) -> Iterator[None]:
    try:
        yield
    except Failed as reason:
        row["gone"] = str(reason)
        print(f"{row['contender']}, {row['cell']} {row['mode']}, {row['sizes']}: {reason}", file=sys.stderr)


def prepare(row: dict, process: Process) -> None:
    request = {key: row[key] for key in ("cell", "mode", "sizes", "checkpoint")}
    row |= process.ask(do="prepare", **request) | {"times": []}


def finish(row: dict) -> dict:
    s = row["sizes"]
    if row.get("times") and "gone" not in row:
        row["per_step"] = statistics.median(row["times"]) / (s["T"] * s["B"])
        work = 2e-9 * CELLS[row["cell"]] * s["H"] * (s["I"] + s["H"]) * MODES[row["mode"]]
        row["gflops"] = work / row["per_step"]
    if row.get("peak"):
        row["above"] = row["peak"] - row["rss"] - row["held"]
    return row


def long_sequence(arguments: argparse.Namespace) -> list[dict]:
    """The short one is timed before and after the long one, so that a drift of the machine shows."""
    sizes = {"T": arguments.long, "B": 1, "I": 256, "H": 256}
    short = sizes | {"T": max(1, arguments.long // 100)}
    row = {"axis": "long", "cell": "lstm", "mode": "training", "contender": "native", "threads": arguments.threads}
    rows = [row | {"point": s["T"], "sizes": s, "checkpoint": by} for s, by in ((short, None), (sizes, "auto"))]
    with processes(rows, arguments.timeout) as running:
        for row, process in running:
            with lost(row):
                # What the library loads on its first call is no part of the memory of this one.
                process.ask(do="prepare", cell="lstm", mode="training", sizes=sizes | {"T": 10}, checkpoint=None)
                prepare(row, process)
        for _ in range(arguments.rounds or 1):
            for row, process in [*running, *running[:1]]:
                if "gone" not in row:
                    sleep(SETTLE)
                    with lost(row):
                        row["times"].append(statistics.median(process.ask(do="turn")["seconds"]))
    rows = [finish(row) for row in rows]
    for row in rows:
        if "gone" in row:
            print(f"T = {row['point']:,}: {row['gone']}")
            continue
        by = 'checkpoint="auto"' if row["checkpoint"] else "no checkpoints"
        above = f"; memory at its peak {row['above'] / 1e6:,.0f} MB above the caller's" if "above" in row else ""
        print(f"T = {row['point']:,}, {by}: {seconds(row['per_step'])} per step, {three(row['gflops'])} GFLOP/s{above}")
    if all("per_step" in row for row in rows):
        tape = 24 * sizes["T"] * sizes["H"]
        print(f"a step of the long one costs {three(rows[1]['per_step'] / rows[0]['per_step'])} times as much", end="")
        print(f"; a whole tape of it would take {tape / 1e6:,.0f} MB")
    return rows


def save(path: Path | None, report: dict) -> None:
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def figure(name: str, report: dict) -> Any:
    """Time per step over one axis: training and inference side by side, a line for each cell and contender."""
    from matplotlib.figure import Figure

    rows = [row for row in report["scaling"] if row["axis"] == name and "per_step" in row]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    drawn = Figure(figsize=(5 * max(1, len(modes)), 4), layout="constrained")
    for n, mode in enumerate(modes, 1):
        axes = drawn.add_subplot(1, len(modes), n)
        lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for row in rows:
            if row["mode"] == mode:
                lines.setdefault((row["cell"], row["contender"]), []).append((row["point"], 1e6 * row["per_step"]))
        for (cell, contender), points in lines.items():
            style = {"color": f"C{list(CELLS).index(cell)}", "linestyle": "-" if contender == "native" else "--"}
            axes.plot(*zip(*points, strict=True), marker=".", label=f"{cell} {contender}", **style)
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="µs per step and sequence", title=mode)
        if name != "T":
            axes.set_xscale("log", base=2)
        axes.grid(which="both", alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    m, fixed = report["machine"], rows[0]["sizes"] if rows else {}
    sizes = ", ".join(
        f"{letter} = {n}" for letter, n in fixed.items() if letter != name and (name, letter) != ("H", "I")
    )
    threads = "" if name == "threads" else f", threads {m['threads']}"
    drawn.suptitle(f"fastml {m['versions']['fastml']} on {m['cpu']}, {m['isa']}{threads}; {sizes}", fontsize=9)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
