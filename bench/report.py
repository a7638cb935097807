"""Write the README's tables of measurements, losses included, from the files that the measuring commands wrote.

    fastml bench --json bench/results/bench.json
    python bench/bench_peers.py --json bench/results/peers-1.json
    python bench/bench_peers.py --threads 2 --json bench/results/peers-2.json
    python bench/bench_scaling.py --json bench/results/scaling.json
    python bench/bench_mixture.py --json bench/results/mixture-1.json
    python bench/bench_mixture.py --threads 2 --json bench/results/mixture-2.json
    python bench/bench_boosting.py --json bench/results/boosting-1.json
    python bench/bench_boosting.py --threads 2 --json bench/results/boosting-2.json
    python bench/bench_lm.py --json bench/results/lm-1.json
    python bench/bench_lm.py --threads 2 --json bench/results/lm-2.json
    python bench/report.py bench/results/*.json          writes them between <!-- bench --> and <!-- /bench -->, and
                                                         between markers by the names of the other files: <!-- peers-1
                                                         --> and <!-- /peers-1 -->, <!-- peers-2 --> and so on
    python bench/report.py bench/results/*.json --check    exit status 1 if the README says anything else

It measures nothing and leaves out nothing: each problem of a file is in its table, with the machine, the versions and
the command above it. A run that was interrupted is refused.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from fastml.cli import letters, seconds, short, three

CELLS = {"lstm": 4, "gru": 3, "rnn": 1}  # the number of gates
MODES = {"training": 3, "inference": 1}  # matrix products, in forward passes
LIBRARIES = ("torch", "onnxruntime", "openvino", "jax")
PEERS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "jax": "JAX", "reference": "NumPy"}
MIXTURE_MODES = {"em": "EM iteration", "predict_proba": "predict_proba", "score_samples": "score_samples"}
MIXTURE_PEERS = {"sklearn": "scikit-learn", "daal4py": "oneDAL", "reference": "NumPy"}
BOOSTING_MODES = {"fit": "fit", "round": "a further round", "predict": "predict"}
BOOSTING_PEERS = {"sklearn": "scikit-learn"}
LANGUAGE_PEERS = {"torch": "PyTorch"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="what the commands above wrote with --json")
    parser.add_argument("--readme", type=Path, default=Path(__file__).parent.parent / "README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a table is stale")
    arguments = parser.parse_args(argv)
    old = new = arguments.readme.read_text(encoding="utf-8")
    for path in arguments.results:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not report.get("complete", True):
            parser.error(f"{path} is an interrupted run")
        if "results" in report and "peak" not in report:
            parser.error(f"{path} is of an older bench_peers.py")
        if "scaling" in report:
            name, written = path.stem, "\n".join([f"{where(report)}.", "", *scaling(report["scaling"])])
        elif "mixtures" in report:
            name, written = path.stem, mixtures(report)
        elif "boosting" in report:
            name, written = path.stem, boosting(report)
        elif "language" in report:
            name, written = path.stem, language(report)
        else:
            name, written = (path.stem, peers(report)) if "results" in report else ("bench", table(report))
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


# ------------------------------------------------------------------------------------------------------ peers


def timed(row: dict) -> dict[str, float]:
    """Contender → seconds per call."""
    found = {name: c for name, c in row["contenders"].items() if c.get("times") and "gone" not in c}
    return {name: statistics.median(c["times"]) for name, c in found.items()}


def ratio(row: dict, peer: str, own: str) -> tuple[float, float, float]:
    """How many times as fast `own` is as `peer`: by the medians, and the least and greatest of one round."""
    a, b = (row["contenders"][name]["times"] for name in (peer, own))
    each = [one / other for one, other in zip(a, b, strict=True)]
    return statistics.median(a) / statistics.median(b), min(each), max(each)


def rate(row: dict, name: str) -> float:
    """GFLOP/s of the matrix products of the steps that count."""
    I, H = row["sizes"]["I"], row["sizes"]["H"]
    work = 2e-9 * row["steps"] * CELLS[row["cell"]] * H * (I + H) * MODES[row["mode"]]
    return work / timed(row)[name]


def fastest(row: dict) -> str | None:
    """The library that is the fastest peer here."""
    medians = {name: s for name, s in timed(row).items() if name in LIBRARIES}
    return min(medians, key=medians.__getitem__) if medians else None


def per_step(row: dict) -> float | None:
    """The price of a step that counts over that of a step at full length, native; None without lengths."""
    medians = timed(row)
    if not row["lengths"] or not {"native", "native full"} <= set(medians):
        return None
    steps = row["sizes"]["T"] * row["sizes"]["B"]
    return medians["native"] / row["steps"] / (medians["native full"] / steps)


Cell = Callable[[dict], tuple[str, float | None]]  # what a table shows of a row, and the ratio in it


def peers(report: dict) -> str:
    """Two tables: problems down, native beside PyTorch and the fastest peer; every pair's means."""
    problems: dict[tuple[str, str], dict[str, dict]] = {}
    for row in report["results"]:
        problems.setdefault((row["cell"], ",".join(map(str, row["sizes"].values()))), {})[row["mode"]] = row
    columns = list(peer_columns(report))
    g = {name.replace("reference", "NumPy").replace("torch", "PyTorch"): peak for name, peak in report["peak"].items()}
    drawn = f"; lengths drawn from {report['lengths'][0]} to {report['lengths'][1]}" if report["lengths"] else ""
    lines = [
        f"{where(report)}; {report['dtype']}{drawn}; matrix product of n = 2048: "
        f"{', '.join(f'{name} {three(peak)} GFLOP/s' for name, peak in g.items())}.",
        "",
        f"| cell | T,B,I,H | {' | '.join(head for head, _, _ in columns)} |",
        "|---|---|" + "---:|" * len(columns),
    ]
    lines += [*body(problems, columns), "", *pairs(report), "", NOTE, *failures(report, PEERS)]
    return "\n".join(lines)


def body(problems: dict[tuple[str, ...], dict[str, dict]], columns: Sequence[tuple[str, str, Cell]]) -> Iterator[str]:
    """Lines of a Markdown table: problems down; below those that begin alike their geometric means and least ratios."""
    for name, group in groupby(problems, key=lambda problem: problem[0]):
        found: list[list[float]] = [[] for _ in columns]
        for problem in group:
            shown = []
            for (_, mode, what), ratios in zip(columns, found, strict=True):
                row = problems[problem].get(mode)
                text, figure = what(row) if row else ("-", None)
                shown.append(text)
                ratios += [figure] if figure is not None else []
            yield f"| {' | '.join((*problem, *shown))} |"
        empty = [""] * (len(problem) - 2)
        for word, over in (("geometric mean", statistics.geometric_mean), ("least", min)):
            yield f"| {' | '.join((f'**{name}**', word, *empty, *(bold(over(r)) if r else '' for r in found)))} |"


NOTE = (
    "How many times as fast as the peer; below 1 is a loss. A process for each, the same threads and CPUs, medians in "
    "turn; in brackets the least and greatest ratio of one round. Errors against PyTorch in float64, relative to each "
    "array's largest value. share: of the faster matrix product above. `native` packs its weights in every call, "
    "`native packed` once, as ONNX Runtime and OpenVINO do."
)


def peer_columns(report: dict) -> Iterator[tuple[str, str, Cell]]:
    """Head, mode, and what a cell shows."""
    modes = list(dict.fromkeys(row["mode"] for row in report["results"]))
    names = {(row["mode"], n) for row in report["results"] for n, c in row["contenders"].items() if "without" not in c}
    peak = max(report["peak"].values(), default=float("nan"))
    for mode in modes:
        own = next((n for n in ("native", "jit") if (mode, n) in names), None)
        best = [n for n in ("native", "native packed") if (mode, n) in names and mode == "inference"] or [own]
        if own is None:
            continue
        yield f"{mode}: {own} (share)", mode, partial(absolute, name=own, peak=peak)
        if mode == "training" and (mode, "torch") in names:
            yield f"{own} / PyTorch", mode, partial(against, name=own, peer="torch")
        if mode == "inference":
            for name in best:
                yield f"{name} / fastest peer", mode, partial(against, name=name, peer=None)
        if report["lengths"]:
            yield "a step that counts / at full length", mode, lambda row: (three(per_step(row) or math.nan), None)
        yield "error, PyTorch's" if (mode, "torch") in names else "error", mode, partial(errors, names=(own, "torch"))


def absolute(row: dict, name: str, peak: float) -> tuple[str, None]:
    medians = timed(row)
    if name not in medians:
        return why(row, name), None
    return f"{seconds(medians[name])} ({rate(row, name) / peak:.0%})", None


def against(row: dict, name: str, peer: str | None) -> tuple[str, float | None]:
    """`peer` None is the fastest, which is then named."""
    medians, other = timed(row), peer or fastest(row)
    if name not in medians or other not in medians:
        return why(row, name if name not in medians else other), None
    over, least, greatest = ratio(row, other, name)
    return f"{bold(over)} ({three(least)} to {three(greatest)}){'' if peer else ' ' + other}", over


def errors(row: dict, names: Sequence[str]) -> tuple[str, None]:
    found = (row["contenders"].get(name, {}).get("errors") for name in names)
    return ", ".join(short(max(e.values())) for e in found if e), None


def why(row: dict, name: str | None) -> str:
    found = row["contenders"].get(name, {})
    return next((found[key] for key in ("gone", "wrong", "without") if key in found), "-")


def failures(report: dict, peers: dict[str, str]) -> Iterator[str]:
    """Who was not there, and every problem that a contender failed at."""
    if report["missing"]:
        yield f"Not installed: {', '.join(peers[name] for name in report['missing'])}."
    for row in report.get("results") or report["mixtures"]:
        sizes = ",".join(map(str, row["sizes"].values()))
        kind = row["cell"] if "cell" in row else f"{row['type']} {row['dtype']}"
        for name, c in row["contenders"].items():
            if "gone" in c or "wrong" in c:
                yield f"{name}, {kind} {row['mode']} {sizes}: {why(row, name)}."


def bold(figure: float) -> str:
    return f"**{three(figure)}**" if figure >= 1 else three(figure)


def pairs(report: dict) -> Iterator[str]:
    """A Markdown table of geometric means and, in brackets, least ratios: fastml's contenders down, peers across."""
    rows = report["results"]
    names = list(dict.fromkeys(name for row in rows for name in row["contenders"]))
    peers, ours = [n for n in PEERS if n in names], [n for n in names if n not in (*PEERS, "native full")]
    heads = [*(PEERS[peer] for peer in peers), "fastest library"]
    yield f"| geometric mean (least) | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    for cell, mode in dict.fromkeys((row["cell"], row["mode"]) for row in rows):
        for own in ours:
            found: list[list[float]] = [[] for _ in heads]
            for row in rows:
                medians = timed(row)
                if (row["cell"], row["mode"]) == (cell, mode) and own in medians:
                    for ratios, peer in zip(found, [*peers, fastest(row)], strict=True):
                        ratios += [medians[peer] / medians[own]] if peer in medians else []
            if any(found):
                means = (f"{bold(statistics.geometric_mean(r))} ({three(min(r))})" if r else "-" for r in found)
                yield f"| {cell} {mode}, {own} | {' | '.join(means)} |"


# ------------------------------------------------------------------------------------------------------ mixtures


def mixtures(report: dict) -> str:
    """A table for each of fastml's: problems down, an EM iteration beside the peers', then what predicts."""
    problems: dict[tuple[str, ...], dict[str, dict]] = {}
    for row in report["mixtures"]:
        key = row["dtype"], row["type"], ",".join(map(str, row["sizes"].values()))
        problems.setdefault(key, {})[row["mode"]] = row
    problems = dict(sorted(problems.items(), key=lambda item: item[0][0], reverse=True))  # by dtype, else as they came
    data = "well separated" if report["separated"] else "overlapping"
    counts = [row["components"] for row in report["mixtures"]]
    few, many = (f(c[1] for c in counts) for f in (min, max))
    gemm: dict[str, list[float]] = {}
    for row in report["mixtures"]:
        gemm.setdefault(row["dtype"], []).extend(row["gemm"])
    product = "".join(f", {dtype} {three(statistics.median(g))} GFLOP/s" for dtype, g in gemm.items() if g)
    lines = [
        f"{where(report)}; {data} data, {three(few)} to {three(many)} components of a row above 1 %; "
        f"NumPy's matrix product of n = {report['n']}{product}.",
        "",
    ]
    for own in report["ours"]:
        columns = list(mixture_columns(report, own))
        lines += [
            f"| dtype | type | N,D,K | {' | '.join(head for head, _, _ in columns)} |",
            "|---|---|---|" + "---:|" * len(columns),
            *body(problems, columns),
            "",
        ]
    return "\n".join([*lines, MIXTURE_NOTE, *failures(report, MIXTURE_PEERS)])


MIXTURE_NOTE = (
    "How many times as fast as the peer; below 1 is a loss. A process for each, the same threads and CPUs, medians in "
    "turn; in brackets the least and greatest ratio of one round. One EM iteration of scikit-learn and oneDAL is five "
    "more in a fit, by five. share: of NumPy's matrix product in the same rounds, counting 2·N·K·D² operations. "
    "Errors of an iteration's weights, means and covariances against NumPy in float64, relative to each "
    "array's largest value."
)


def boosting(report: dict) -> str:
    """A table: problems down; of each of fastml's its time and how many times as fast it is as scikit-learn."""
    heads = [f"{title}: {own} | {own} / scikit-learn" for own in report["ours"] for title in BOOSTING_MODES.values()]
    lines = [
        f"{where(report)}.",
        "",
        f"| N,D,K | depth | {' | '.join(heads)} | error |",
        "|---|---:|" + "---:|" * (2 * len(heads) + 1),
    ]
    for row in report["boosting"]:
        N, D, K, depth = row["sizes"].values()
        kind = f"{N},{D},{K} {row['kind']}".strip() if K else f"{N},{D}, regression"
        cells = [part for own in report["ours"] for mode in BOOSTING_MODES for part in boosted(row, own, mode)]
        errors = ", ".join(short(row["contenders"][own]["errors"]["errors"]) for own in report["ours"]
                           if "errors" in row["contenders"][own])  # fmt: skip
        lines.append(f"| {kind} | {depth} | {' | '.join(cells)} | {errors} |")
    return "\n".join([*lines, "", BOOSTING_NOTE, *boosting_failures(report)])


BOOSTING_NOTE = (
    "How many times as fast as scikit-learn's AdaBoost, which has one thread; below 1 is a loss. A process for each, "
    "the same CPUs, medians in turn; in brackets the least and greatest ratio of one turn. A fit is of 50 rounds at "
    "depth 1, of 10 at depth 3 and of 500,000 rows, coding included; noise: classes that have nothing to do with the "
    "features; cover: mixed features and unequal classes, as of forest cover types. error: the largest difference of a "
    "round's error from scikit-learn's. Predictions are the same for all rows."
)


def boosted(row: dict, own: str, mode: str) -> tuple[str, str]:
    """The time, and the ratio."""
    ours, theirs = (row["contenders"].get(name, {}) for name in (own, "sklearn"))
    if "times" not in ours or "gone" in ours:
        return why(row, own), "-"
    a = ours["times"][mode]
    if min(a) <= 0:  # two fits differ by less than the noise
        return "too short to be timed", "-"
    if "times" not in theirs or "gone" in theirs:
        return seconds(statistics.median(a)), "-"
    b = theirs["times"][mode]
    each = [y / x for x, y in zip(a, b, strict=True)]
    ratio = statistics.median(b) / statistics.median(a)
    return seconds(statistics.median(a)), f"{bold(ratio)} ({three(min(each))} to {three(max(each))})"


def boosting_failures(report: dict) -> Iterator[str]:
    for row in report["boosting"]:
        for name, c in row["contenders"].items():
            if "gone" in c or "wrong" in c:
                yield f"{name}, {','.join(map(str, row['sizes'].values()))}: {why(row, name)}."


def mixture_columns(report: dict, own: str) -> Iterator[tuple[str, str, Cell]]:
    """Head, mode, and what a cell shows."""
    rows = report["mixtures"]
    names = {(row["mode"], n) for row in rows for n, c in row["contenders"].items() if "without" not in c}
    for mode, title in MIXTURE_MODES.items():
        if (mode, own) not in names:
            continue
        peers = [n for n in MIXTURE_PEERS if (mode, n) in names and n not in report["ours"]]
        yield f"{title}: {own}{' (share)' if mode == 'em' else ''}", mode, partial(iteration, name=own)
        for peer in peers if mode == "em" else [n for n in peers if n == "sklearn"]:
            yield f"{own} / {MIXTURE_PEERS[peer]}", mode, partial(against, name=own, peer=peer)
        if mode == "em":
            beside = [n for n in peers if n != "reference"]
            whose = "".join(f", {MIXTURE_PEERS[n]}'s" for n in beside)
            yield f"error{whose}", mode, partial(errors, names=[own, *beside])


def iteration(row: dict, name: str) -> tuple[str, None]:
    medians = timed(row)
    if name not in medians:
        return why(row, name), None
    shown = seconds(medians[name])
    if row["gemm"]:
        N, D, K = row["sizes"].values()
        shown += f" ({2e-9 * N * K * D * D / medians[name] / statistics.median(row['gemm']):.0%})"
    return shown, None


# ------------------------------------------------------------------------------------------------------ scaling


def scaling(rows: Sequence[dict]) -> Iterator[str]:
    """A Markdown table for each axis: points down; cells, modes and contenders across; what a step costs."""
    for axis in dict.fromkeys(row["axis"] for row in rows):
        found = {(r["point"], r["cell"], r["mode"], r["contender"]): r for r in rows if r["axis"] == axis}
        columns = list(dict.fromkeys(key[1:] for key in found))
        sizes = next(iter(found.values()))["sizes"]
        moves = {"H": "IH", "long": "T"}.get(axis, axis)
        fixed = ", ".join(f"{letter} = {n}" for letter, n in sizes.items() if letter not in moves)
        yield f"| {axis} ({fixed}) | {' | '.join(map(' '.join, columns))} |"
        yield "|---:|" + "---:|" * len(columns)
        for point in dict.fromkeys(key[0] for key in found):
            yield f"| {point:,} | {' | '.join(per_point(found.get((point, *column))) for column in columns)} |"
        yield ""
    yield "Time per step and sequence, GFLOP/s of the matrix products; * with checkpoints."


def per_point(row: dict | None) -> str:
    if row is None or "per_step" not in row:
        return row["gone"] if row and "gone" in row else "-"
    return f"{1e9 * row['per_step']:,.0f} ns, {three(row['gflops'])}{'*' if row['checkpoint'] else ''}"


# ------------------------------------------------------------------------------------------------------ language models


def language(report: dict) -> str:
    """Cells down; characters per second, bits per character of the held-out text by minute of training, differences."""
    rows = report["language"]
    marks = minutes_of(rows)
    lines = [
        f"{where(report)}.",
        "",
        f"| cell | side | characters/s | ratio | {''.join(f'{m:g} min | ' for m in marks)}difference |",
        "|---|---|---:|---:|" + "---:|" * (len(marks) + 1),
    ]
    for row in rows:
        rates = {name: characters_per_second(row, c) for name, c in row["contenders"].items() if whole(c)}
        for name, c in row["contenders"].items():
            first = f"| {row['cell']} | {LANGUAGE_PEERS.get(name, name)} |"
            if name not in rates:
                lines.append(f"{first} {why(row, name)} |{' |' * (len(marks) + 2)}")
                continue
            peer = rates.get("torch") if name != "torch" else None
            bits = "".join(f"{held_out(c, 60 * m) / math.log(2):.3f} | " for m in marks)
            most = max(c["differences"].values())
            ratio = bold(rates[name] / peer) if peer else ""
            lines.append(f"{first} {rates[name]:,.0f} | {ratio} | {bits}{short(most) if most else ''} |")
    sizes = f"embedding {rows[0]['embedding']}, hidden {rows[0]['hidden']}, layers {rows[0]['layers']}"
    lines += [
        "",
        f"Byte-level model, {sizes}, {rows[0]['batch']} streams of {rows[0]['seq_len']} characters, Adam at "
        f"{rows[0]['lr']:g}, clipped; the same weights and batches for both, who train in turn. ratio: characters per "
        "second over PyTorch's. Then the bits per character of text held out, after so many minutes of a side's own "
        "training. difference: the largest one from fastml's first losses, gradients and held-out loss, relative.",
    ]
    if report["missing"]:
        lines.append(f"Not installed: {', '.join(LANGUAGE_PEERS[name] for name in report['missing'])}.")
    return "\n".join(lines)


def whole(c: dict) -> bool:
    return bool(c["curve"]) and "gone" not in c


def minutes_of(rows: Sequence[dict]) -> list[float]:
    """Whole minutes that everyone trained, or if that is none, how long; nothing if nobody did."""
    curves = [c["curve"] for row in rows for c in row["contenders"].values() if whole(c)]
    least = min((sum(point["seconds"] for point in curve) / 60 for curve in curves), default=0.0)
    return [float(m) for m in range(1, int(least + 1e-3) + 1)] or [round(least, 2)] * bool(least)


def characters_per_second(row: dict, c: dict) -> float:
    """The median of the turns."""
    characters = row["batch"] * row["seq_len"]
    return statistics.median(point["steps"] * characters / point["seconds"] for point in c["curve"])


def held_out(c: dict, seconds: float) -> float:
    """The loss of the held-out text after so many seconds of training: between two points, by a straight line."""
    spent, before, clock = 0.0, c["start"], 0.0
    for point in c["curve"]:
        clock = spent + point["seconds"]
        if clock >= seconds:
            return before + (point["validation"] - before) * (seconds - spent) / point["seconds"]
        spent, before = clock, point["validation"]
    return before


# ------------------------------------------------------------------------------------------------------ fastml bench


def table(report: dict) -> str:
    """The machine, and a Markdown table: problems down, back ends across."""
    gemm = ", ".join(f"{dtype} matrix product {gflops:.0f} GFLOP/s" for dtype, gflops in report["gemm"].items())
    lines = [f"{where(report)}: {gemm}, copy {report['copy']:.0f} GB/s.", ""]
    rows: dict[tuple, dict[tuple, str]] = {}
    for c in report["cells"]:
        key = f"`{c['kernel']}`", letters(c["sizes"]), c["dtype"]
        cell = short(c["error"])
        if c["gflops"] is not None:  # trees have no matrix product
            share = c["gflops"] / report["gemm"][c["dtype"]]
            cell = f"{three(c['gflops'])} GFLOP/s ({share:.0%}), {cell}"
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
