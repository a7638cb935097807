"""fastml's back ends against PyTorch and against NumPy: one layer, one direction, float32, over a grid of shapes.

    python bench/bench_peers.py [--threads 1] [--rounds 7] [--cell lstm] [--shape 1000,8,128,128] [--backend native]
                                [--isa avx2] [--against torch] [--json FILE]

training: forward (keeping the tape) and backward with every gradient, dx included; PyTorch's module forward, then
``y.backward(dy)`` with x requiring its gradient, after ``zero_grad(set_to_none=True)``. inference: ``keep=False``
against ``torch.no_grad()``. Before anything is timed, y and every gradient are compared with PyTorch's (5e-5 and 5e-4
of the largest value of each); a shape that differs is reported and not timed.

All take turns in one process (A B A B …) with the same number of threads. A ratio is the peer's median over fastml's:
above 1 fastml is faster. The NumPy reference is too slow to wait for: it takes turns with fastml in rounds of its own,
at least 3 and as many as `--seconds` allows.

Left out: several layers, two directions, dropout, unequal lengths, float64, a GPU, torch.compile. With more than one
thread PyTorch's OpenMP workers go on spinning for a while after its call and hold back whoever is next, fastml here;
one thread for both (the default) is the comparison to trust. The peers are those that are installed: fastml[peers].
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastml
from fastml import backend, bench
from fastml.cli import seconds, short, three
from fastml.kernels.table import KERNELS

try:
    import torch
except ImportError:
    torch = None

SHAPES = (
    (1000, 1, 64, 64), (1000, 1, 128, 128), (1000, 1, 256, 256), (1000, 8, 128, 128),
    (1000, 32, 128, 128), (1000, 32, 256, 256), (4000, 4, 32, 32), (200, 64, 512, 512),
)  # fmt: skip

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}  # family → torch.nn's name

WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")  # in the order of a module's parameters

Answers = dict[str, np.ndarray]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", action="append", choices=CELLS, help="may be repeated; default: all")
    parser.add_argument("--shape", action="append", type=shape, metavar="T,B,I,H", help="may be repeated")
    parser.add_argument("--backend", action="append", choices=backend.BACKENDS, help="may be repeated; default: all")
    parser.add_argument("--isa", help="an ISA rung for native instead of the fastest")
    parser.add_argument("--against", choices=("torch", "reference"), help="one peer alone; default: both")
    parser.add_argument("--threads", type=int, default=1, help="for every side (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken (default: 7)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the reference's rounds of one problem")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time")
    arguments = parser.parse_args(argv)
    if torch is None and arguments.against == "torch":
        parser.error("PyTorch is not installed: pip install fastml[peers]")
    peers = [arguments.against] if arguments.against else ["torch"] * (torch is not None) + ["reference"]
    runners = [
        bench.Contender(name, isa=arguments.isa if name == "native" and arguments.isa else isa)
        for name, isa in bench.contenders(arguments.backend or ())
        if name != "reference" or "reference" in (arguments.backend or ())
    ]
    if not runners:
        parser.error("no back end but the reference runs here; --backend reference compares that with PyTorch")
    try:
        for runner in runners:
            with runner.chosen():
                pass
        fastml.set_num_threads(arguments.threads)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    if torch is not None:
        torch.set_num_threads(arguments.threads)

    machine = bench.machine() | {"torch": torch.__version__ if torch else None}
    print(f"{machine['cpu']}, isa {machine['isa']}, {arguments.threads} thread(s), load {machine['load']}")
    print(", ".join(f"{k} {v}" for k, v in machine["versions"].items()) + f", torch {machine['torch']}")
    results = []
    for cell in arguments.cell or CELLS:
        rows = []
        for sizes in arguments.shape or SHAPES:
            print(f"{cell} {sizes}", file=sys.stderr)
            rows += compare(cell, dict(zip("TBIH", sizes, strict=True)), runners, peers, arguments)
        for mode in ("training", "inference"):
            show(cell, [row for row in rows if row["mode"] == mode], runners, peers)
        results += rows
    if arguments.json:
        report = {"command": " ".join(sys.argv), "machine": machine, "results": results}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row["wrong"] for row in results) else 0


def shape(text: str) -> tuple[int, ...]:
    sizes = tuple(map(int, text.split(",")))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected T,B,I,H such as 1000,8,128,128, got {text!r}")
    return sizes


def compare(cell: str, sizes: dict[str, int], runners: list, peers: list, arguments: argparse.Namespace) -> list[dict]:
    """One problem, training and inference: each a row of times by contender, or of what is wrong."""
    arrays = bench.problem(KERNELS[f"{cell}_backward"], sizes)
    arrays = {name: a for name, a in arrays.items() if name in ("x", "dy", *WEIGHTS)}  # states 0, as in both APIs
    ours = {runner: fastml_calls(cell, arrays, runner) for runner in runners}
    reference = fastml_calls(cell, arrays, bench.Contender("reference"))
    torchs = torch_calls(cell, arrays) if torch is not None else reference
    right = torchs["answers"]()
    errors, wrong = {}, []
    for runner in runners:
        found = ours[runner]["answers"]()
        errors[runner.label] = {name: bench.difference({name: found[name]}, {name: a}) for name, a in right.items()}
        for name, error in errors[runner.label].items():
            if not error <= (5e-5 if name == "y" else 5e-4):
                wrong.append(f"{runner.label}: {name} is off by {short(error)}")
    rows = []
    for mode in ("training", "inference"):
        row = {"cell": cell, "mode": mode, "sizes": sizes, "errors": errors, "wrong": wrong, "times": {}}
        calls = {runner.label: ours[runner][mode] for runner in runners}
        if not wrong and "torch" in peers:
            turns = {"torch": torchs[mode], **calls}
            row["times"]["torch"] = bench.interleave(turns, fewest=arguments.rounds, most=arguments.rounds)
        if not wrong and "reference" in peers:
            turns = {"reference": reference[mode], **calls}
            row["times"]["reference"] = bench.interleave(
                turns, fewest=3, most=arguments.rounds, seconds=arguments.seconds
            )
        rows.append(row)
    return rows


def fastml_calls(cell: str, arrays: Answers, runner: bench.Contender) -> dict[str, Callable[[], Any]]:
    forward, backward = getattr(fastml, f"{cell}_forward"), getattr(fastml, f"{cell}_backward")
    x, dy, weights = arrays["x"], arrays["dy"], [arrays[name] for name in WEIGHTS]
    states = (None,) * (2 if cell == "lstm" else 1)

    def training():
        y, *_, tape = forward(x, *states, *weights)
        return y, backward(tape, dy)

    def inference():
        return forward(x, *states, *weights, keep=False)

    def answers() -> Answers:
        y, grads = training()
        return {"y": y, "dx": grads.x, **{f"d{name}": getattr(grads, name) for name in WEIGHTS}}

    return {call.__name__: runner.bind(call) for call in (training, inference, answers)}


def torch_calls(cell: str, arrays: Answers) -> dict[str, Callable[[], Any]]:
    I, H = arrays["w_ih"].shape[1], arrays["w_hh"].shape[1]
    module = getattr(torch.nn, CELLS[cell])(I, H)
    for parameter, name in zip(module.parameters(), WEIGHTS, strict=True):
        parameter.data = torch.from_numpy(arrays[name])
    x, dy = torch.from_numpy(arrays["x"]).requires_grad_(), torch.from_numpy(arrays["dy"])

    def training():
        module.zero_grad(set_to_none=True)
        x.grad = None
        y, _ = module(x)
        y.backward(dy)
        return y

    def inference():
        with torch.no_grad():
            return module(x)

    def answers() -> Answers:
        y = training()
        gradients = {f"d{name}": p.grad for p, name in zip(module.parameters(), WEIGHTS, strict=True)}
        return {name: a.detach().numpy().copy() for name, a in {"y": y, "dx": x.grad, **gradients}.items()}

    return {call.__name__: call for call in (training, inference, answers)}


def show(cell: str, rows: list[dict], runners: list[bench.Contender], peers: list[str]) -> None:
    """Print one table: shapes down, a ratio for each back end and peer across, the geometric means at the bottom."""
    groups = {runner.label: [peer for peer in peers if peer != runner.backend] for runner in runners}
    print(f"\n{cell} {rows[0]['mode']}: how many times as fast as the peer (below 1: slower)")
    print(" " * (17 + 11 * len(peers)) + "".join(f"{label:>{11 * len(group)}}" for label, group in groups.items()))
    heads = [*peers, *(f"/{peer}" for group in groups.values() for peer in group)]
    print(f"{'T,B,I,H':<17}" + "".join(f"{head:>11}" for head in heads) + "   error")
    ratios: dict[tuple[str, str], list[float]] = {(label, peer): [] for label in groups for peer in groups[label]}
    for row in rows:
        print(f"{','.join(map(str, row['sizes'].values())):<17}", end="")
        if row["wrong"]:
            print("not timed: " + "; ".join(row["wrong"]))
            continue
        medians = {p: {who: statistics.median(t) for who, t in turn.items()} for p, turn in row["times"].items()}
        print("".join(f"{seconds(medians[peer][peer]):>11}" for peer in peers), end="")
        for (label, peer), found in ratios.items():
            found.append(medians[peer][peer] / medians[peer][label])
            print(f"{three(found[-1]):>11}", end="")
        print(f"{short(max(error for found in row['errors'].values() for error in found.values())):>8}")
    for name, over in (("geometric mean", statistics.geometric_mean), ("least", min)):
        means = "".join(f"{three(over(found)) if found else '-':>11}" for found in ratios.values())
        print(f"{name:<17}" + " " * 11 * len(peers) + means)
    if "reference" in peers:
        turns = [len(row["times"]["reference"]["reference"]) for row in rows if not row["wrong"]]
        print(f"(rounds with the reference: {min(turns, default=0)} to {max(turns, default=0)})")


if __name__ == "__main__":
    sys.exit(main())
