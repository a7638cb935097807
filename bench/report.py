"""Write the README's tables of measurements, losses included, from the files that the measuring commands wrote.

    fastml bench --json bench/results/bench.json
    python bench/bench_peers.py --json bench/results/peers.json
    python bench/report.py bench/results/*.json          writes them between <!-- bench --> and <!-- /bench -->, and
                                                        <!-- peers --> and <!-- /peers -->
    python bench/report.py bench/results/*.json --check    exit status 1 if the README says anything else

It measures nothing and leaves out nothing: each problem of a file is in its table, with the machine, the versions and
the command above it. A run that was interrupted is refused.
"""

import argparse
import json
import statistics
import sys
from itertools import groupby
from pathlib import Path

from fastml.cli import letters, seconds, short, three


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="what fastml bench or bench_peers.py wrote with --json")
    parser.add_argument("--readme", type=Path, default=Path(__file__).parent.parent / "README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a table is stale")
    arguments = parser.parse_args(argv)
    old = new = arguments.readme.read_text(encoding="utf-8")
    for path in arguments.results:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not report.get("complete", True):
            parser.error(f"{path} is an interrupted run")
        name, written = ("peers", peers(report)) if "results" in report else ("bench", table(report))
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if new.count(start) != 1 or new.count(end) != 1 or new.index(start) > new.index(end):
            parser.error(f"{arguments.readme} needs one {start} and one {end} after it")
        before, rest = new.split(start)
        new = f"{before}{start}\n{written}\n{end}{rest.split(end)[1]}"
    if not arguments.check:
        arguments.readme.write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{arguments.readme}: a table is not that of {', '.join(map(str, arguments.results))}", file=sys.stderr)
        return 1
    return 0


def where(report: dict) -> str:
    """The machine, what ran on it, and the command."""
    m = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    held = "".join(f", {name}={value}" for name, value in m["environment"].items())
    return (
        f"`{report['command']}`: {m['cpu']} ({m['architecture']}, isa {m['isa'] or '-'}), threads {m['threads']}; "
        f"{versions}; NumPy's BLAS {m['blas']}{held}"
    )


def peers(report: dict) -> str:
    """Problems down; back ends, training and inference, and the peers that they are compared with across."""
    columns: dict[tuple[str, str, str], dict[tuple[str, str], float]] = {}
    problems: dict[tuple[str, str], str] = {}
    for row in report["results"]:
        problem = row["cell"], ",".join(map(str, row["sizes"].values()))
        problems[problem] = "; ".join(row["wrong"])
        for peer, times in row["times"].items():
            medians = {who: statistics.median(found) for who, found in times.items()}
            for who in medians:
                if who != peer:
                    columns.setdefault((who, row["mode"], peer), {})[problem] = medians[peer] / medians[who]
    heads = [f"{who} {mode} / {peer.replace('reference', 'NumPy')}" for who, mode, peer in columns]
    lines = [
        f"{where(report)}; PyTorch {report['machine']['torch']}.",
        "",
        f"| cell | T,B,I,H | {' | '.join(heads)} |",
        "|---|---|" + "---:|" * len(heads),
    ]
    for cell, group in groupby(problems, key=lambda problem: problem[0]):
        names = list(group)
        for problem in names:
            shown = (three(c[problem]) if problem in c else problems[problem] or "-" for c in columns.values())
            lines.append(f"| {cell} | {problem[1]} | {' | '.join(shown)} |")
        found = ([c[problem] for problem in names if problem in c] for c in columns.values())
        means = (f"**{three(statistics.geometric_mean(ratios))}**" if ratios else "-" for ratios in found)
        lines.append(f"| **{cell}** | geometric mean | {' | '.join(means)} |")
    lines += ["", "How many times as fast as the peer, medians in turn in one process; below 1 is a loss."]
    return "\n".join(lines)


def table(report: dict) -> str:
    """The machine, and a Markdown table: problems down, back ends across."""
    gemm = ", ".join(f"{dtype} matrix product {gflops:.0f} GFLOP/s" for dtype, gflops in report["gemm"].items())
    lines = [f"{where(report)}: {gemm}, copy {report['copy']:.0f} GB/s.", ""]
    rows: dict[tuple, dict[tuple, str]] = {}
    for c in report["cells"]:
        key = f"`{c['kernel']}`", letters(c["sizes"]), c["dtype"]
        share = c["gflops"] / report["gemm"][c["dtype"]]
        cell = f"{three(c['gflops'])} GFLOP/s ({share:.0%}), {short(c['error'])}"
        rows.setdefault(key, {})[c["backend"], c["isa"]] = f"{speed(c, seconds(c['seconds']))}, {cell}"
    for t in report["training"]:
        key = "training step on text", letters(t["sizes"]), "float32"
        rate = f"{t['characters_per_second']:,.0f} characters/s"
        difference = "" if t["backend"] == "reference" else f", {short(t['gradient_difference'])}"
        rows.setdefault(key, {})[t["backend"], t["isa"]] = f"{speed(t, rate)}, {t['lstm_share']:.0%} LSTM{difference}"
    runners = list(dict.fromkeys(runner for row in rows.values() for runner in row))
    heads = ["NumPy" if name == "reference" else f"{name} {isa}" if isa else name for name, isa in runners]
    lines += [f"| kernel | sizes | dtype | {' | '.join(heads)} |", "|---|---|---|" + "---:|" * len(runners)]
    for key, row in rows.items():
        lines.append(f"| {' | '.join(key)} | {' | '.join(row.get(runner, '-') for runner in runners)} |")
    lines += [
        "",
        "Times as fast as NumPy (its median over this one's, back ends in turn in one run; below 1 is a loss), GFLOP/s "
        "of the matrix products (share of what NumPy's own product reaches with as many threads), largest error "
        "against the reference in float64, relative to each output's largest value. Training: the whole step, the "
        "share of it in the LSTM's kernels, the gradient's difference from NumPy's.",
    ]
    return "\n".join(lines)


def speed(measured: dict, absolute: str) -> str:
    if measured["backend"] == "reference":
        return absolute
    ratio = f"{three(measured['ratio'])}x"
    return f"**{ratio}**" if measured["ratio"] >= 1 else ratio


if __name__ == "__main__":
    sys.exit(main())
