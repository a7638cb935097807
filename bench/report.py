"""Write the README's table of measurements, losses included, from what `fastml bench --json FILE` wrote.

    fastml bench --json bench/results/FILE.json
    python bench/report.py bench/results/FILE.json            writes between <!-- bench --> and <!-- /bench -->
    python bench/report.py bench/results/FILE.json --check    exit status 1 if the README says anything else

It measures nothing and leaves out nothing: each kernel, size and dtype of the file is a row, each back end a column,
with the machine, the versions and the command above them. A run that was interrupted is refused.
"""

import argparse
import json
import sys
from pathlib import Path

from fastml.cli import letters, seconds, short, three

START, END = "<!-- bench -->", "<!-- /bench -->"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="a file that fastml bench --json wrote")
    parser.add_argument("--readme", type=Path, default=Path(__file__).parent.parent / "README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the table is stale")
    arguments = parser.parse_args(argv)
    report = json.loads(arguments.results.read_text(encoding="utf-8"))
    if not report["complete"]:
        parser.error(f"{arguments.results} is an interrupted run")
    old = arguments.readme.read_text(encoding="utf-8")
    if old.count(START) != 1 or old.count(END) != 1 or old.index(START) > old.index(END):
        parser.error(f"{arguments.readme} needs one {START} and one {END} after it")
    before, rest = old.split(START)
    after = rest.split(END)[1]
    new = f"{before}{START}\n{table(report)}\n{END}{after}"
    if not arguments.check:
        arguments.readme.write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{arguments.readme}: the table is not that of {arguments.results}", file=sys.stderr)
        return 1
    return 0


def table(report: dict) -> str:
    """The machine, and a Markdown table: problems down, back ends across."""
    m = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    held = "".join(f", {name}={value}" for name, value in m["environment"].items())
    gemm = ", ".join(f"{dtype} matrix product {gflops:.0f} GFLOP/s" for dtype, gflops in report["gemm"].items())
    lines = [
        f"`{report['command']}`, {report['started'][:10]}: {m['cpu']} ({m['architecture']}, isa {m['isa'] or '-'}), "
        f"threads {m['threads']}; {versions}; NumPy's BLAS {m['blas']}{held}: {gemm}, copy {report['copy']:.0f} GB/s.",
        "",
    ]
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
