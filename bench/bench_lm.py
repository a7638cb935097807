"""Training a byte-level language model: fastml against PyTorch, validation loss by minute, and characters per second.

    python bench/bench_lm.py [--cell lstm gru rnn] [--threads 1] [--minutes 5] [--slice 10] [--hidden 256]
                             [--embedding 64] [--layers 1] [--seq-len 1000] [--batch 16] [--lr 0.002] [--clip 1]
                             [--backend native] [--text FILE…] [--json FILE] [--plot FILE.png]

Embedding, recurrent stack, readout, softmax with cross-entropy; Adam, gradients clipped by their global norm; `batch`
streams of the text, read `seq-len` characters at a time, the state carried on. The text is the source of Python's own
standard library, of which the last twentieth is held out. Both sides start from the same weights and read the same
batches in the same order.

PyTorch is used as who knows it would: one nn.LSTM, GRU or RNN over the whole chunk (time first), F.cross_entropy, the
fused Adam, zero_grad(set_to_none), denormals flushed as fastml does.

Each is a process of its own, with as many threads and pinned to the same CPUs. They train in turn, a slice of
`--slice` seconds each, while the other sleeps; a clock runs while it trains, and stands while it validates. So minute m
of the curve is the m-th minute that this side has trained, and a machine that slows down for a while slows both down.
The first step, in which libraries and caches warm up, is not on the clock either; it is repeated from the start.

Before that, answers are compared: the loss, and every gradient, of the first batch; the losses of the first `AGREE`
steps; and the loss of the held-out text under the same weights. Who is off by more than `LIMITS` is not timed.

Left out: torch.compile, another allocator (jemalloc), larger vocabularies, a GPU.
"""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import contest
import numpy as np
from bench_peers import SETTLE, pinned
from report import language

import fastml
from fastml import backend, bench
from fastml.cli import writable
from fastml.language import RecurrentLM
from fastml.optim import Adam

LIMITS = {"loss": 1e-5, "gradient": 1e-4, "validation": 1e-5}
"""Largest differences: of losses, relative; of gradients, relative to the largest number of each array."""

AGREE = 3  # steps whose losses are compared: later ones differ by what rounding has grown to

HELD_OUT = 0.05
STREAMS = 64  # that the held-out text is read in
CHUNK = 1000  # characters of each that are read at a time

Arrays = dict[str, np.ndarray]
Problem = dict[str, Any]


# ------------------------------------------------------------------------------------------------------ the text


def text_of(problem: Problem) -> np.ndarray:
    if not problem["text"]:
        return bench.stdlib_text(limit=problem["limit"])
    whole = b"".join(Path(path).read_bytes() for path in problem["text"])
    return np.frombuffer(whole[: problem["limit"]], np.uint8)


def streams(text: np.ndarray, count: int) -> np.ndarray:
    """(steps, count): the text cut into as many streams, side by side."""
    return text[: len(text) // count * count].reshape(count, -1).T.astype("int64")


def chunk(rows: np.ndarray, n: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """The n-th T steps of all streams, from the start again behind the end, and the characters that follow."""
    found = rows.take(np.arange(n * T, (n + 1) * T + 1), axis=0, mode="wrap")
    return np.ascontiguousarray(found[:-1]), np.ascontiguousarray(found[1:])


# ------------------------------------------------------------------------------------------------------ contenders


class Fastml:
    """The model, trained by fastml's own functions."""

    def __init__(self, name: str, threads: int, problem: Problem) -> None:
        fastml.set_num_threads(threads)
        fastml.use(name)
        sizes = (problem[size] for size in ("embedding", "hidden", "layers", "cell"))
        self.model = RecurrentLM(256, *sizes, seed=0)
        self.adam = Adam(self.model.weights, problem["lr"], clip=problem["clip"])
        self.state = None

    def start(self, weights: Arrays) -> None:
        self.model.load_state_dict(weights)
        self.adam.load_state_dict({name: 0 * value for name, value in self.adam.state_dict().items()})
        self.state = None

    def gradients(self, x: np.ndarray, target: np.ndarray) -> tuple[float, Arrays]:
        loss, _, tape = self.model.forward(x, target)
        return loss, self.model.backward(tape)

    def step(self, x: np.ndarray, target: np.ndarray) -> float:
        loss, self.state, tape = self.model.forward(x, target, self.state)
        self.adam.step(self.model.backward(tape))
        return loss

    def evaluate(self, x: np.ndarray, target: np.ndarray, state: Any) -> tuple[float, Any]:
        return self.model.loss(x, target, state)


class PyTorch:
    """The same by PyTorch."""

    def __init__(self, name: str, threads: int, problem: Problem) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        cell = getattr(torch.nn, problem["cell"].upper())
        self.torch = torch
        self.modules = {
            "embedding": torch.nn.Embedding(256, problem["embedding"]),
            "recurrent": cell(problem["embedding"], problem["hidden"], problem["layers"]),
            "readout": torch.nn.Linear(problem["hidden"], 256),
        }
        self.named = {f"{part}.{name}": p for part, m in self.modules.items() for name, p in m.named_parameters()}
        self.named = {name.replace("embedding.weight", "embedding"): p for name, p in self.named.items()}
        self.lr, self.clip = problem["lr"], problem["clip"]

    def start(self, weights: Arrays) -> None:
        with self.torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(self.torch.from_numpy(weights[name]))
        self.adam = self.torch.optim.Adam(self.named.values(), self.lr, fused=True)
        self.state = None

    def _forward(self, x: np.ndarray, target: np.ndarray, state: Any) -> tuple[Any, Any]:
        y, state = self.modules["recurrent"](self.modules["embedding"](self.torch.from_numpy(x)), state)
        logits = self.modules["readout"](y).view(-1, 256)
        return self.torch.nn.functional.cross_entropy(logits, self.torch.from_numpy(target).view(-1)), state

    def gradients(self, x: np.ndarray, target: np.ndarray) -> tuple[float, Arrays]:
        self.adam.zero_grad(set_to_none=True)
        loss, _ = self._forward(x, target, None)
        loss.backward()
        return loss.item(), {name: parameter.grad.numpy().copy() for name, parameter in self.named.items()}

    def step(self, x: np.ndarray, target: np.ndarray) -> float:
        self.adam.zero_grad(set_to_none=True)
        loss, state = self._forward(x, target, self.state)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.named.values(), self.clip)
        self.adam.step()
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return loss.item()

    def evaluate(self, x: np.ndarray, target: np.ndarray, state: Any) -> tuple[float, Any]:
        with self.torch.inference_mode():
            loss, state = self._forward(x, target, state)
        return loss.item(), state


class Contender:
    """In its own process: what `Process.ask` asks for."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads

    def hello(self) -> dict[str, Any]:
        machine = bench.machine()
        versions = {"torch": version("torch")} if self.name == "torch" else {}
        return {"versions": versions, "blas": machine["blas"], "environment": machine["environment"]}

    def prepare(self, problem: Problem) -> Arrays:
        """Make the model; the weights that fastml draws."""
        text = text_of(problem)
        tail = int(HELD_OUT * len(text))
        self.rows, self.held_out = streams(text[:-tail], problem["batch"]), streams(text[-tail:], STREAMS)
        if min(len(self.rows) - problem["seq_len"], len(self.held_out)) < 2:
            raise ValueError(f"the text of {len(text)} characters is too short for these sizes")
        self.T = problem["seq_len"]
        self.side = (PyTorch if self.name == "torch" else Fastml)(self.name, self.threads, problem)
        return {} if self.name == "torch" else self.side.model.state_dict()

    def answers(self, weights: Arrays) -> dict[str, Any]:
        """Of the start: the first batch's loss and gradients, the first losses, the held-out text's loss."""
        self.side.start(weights)
        found = {"validation": self.validate()}
        found["loss"], found["gradients"] = self.side.gradients(*chunk(self.rows, 0, self.T))
        found["losses"] = [self.side.step(*chunk(self.rows, n, self.T)) for n in range(AGREE)]
        self.side.start(weights)
        self.steps = 0
        return found

    def train(self, seconds: float) -> dict[str, Any]:
        """Train for so long: the steps taken, the seconds they took, and the mean loss."""
        losses, spent = [], 0.0
        while spent < seconds:
            x, target = chunk(self.rows, self.steps, self.T)
            start = perf_counter()
            losses.append(self.side.step(x, target))
            spent += perf_counter() - start
            self.steps += 1
        return {"steps": len(losses), "seconds": spent, "loss": sum(losses) / len(losses)}

    def validate(self) -> float:
        """The loss of the held-out text, in nats per character; a state of zeros at the start of each stream."""
        total = count = 0.0
        state = None
        for n in range(0, len(self.held_out) - 1, CHUNK):
            part = np.ascontiguousarray(self.held_out[n : n + CHUNK + 1])
            loss, state = self.side.evaluate(part[:-1], part[1:], state)
            total += loss * (len(part) - 1)
            count += len(part) - 1
        return total / count


def serve(pipe: Connection, name: str, threads: int) -> None:
    contest.serve(Contender, pipe, name, threads)


def started(name: str, arguments: argparse.Namespace) -> AbstractContextManager[contest.Process]:
    return contest.started(serve, name, arguments.threads, arguments.timeout)


# ------------------------------------------------------------------------------------------------------ a run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", nargs="+", choices=("lstm", "gru", "rnn"), default=["lstm"])
    parser.add_argument("--threads", type=int, default=1, help="for everyone (default: 1)")
    parser.add_argument("--minutes", type=positive, default=5.0, help="of training, for each side (default: 5)")
    parser.add_argument("--slice", type=positive, default=10.0, metavar="S", help="seconds of a turn (default: 10)")
    for option, size in {"--embedding": 64, "--hidden": 256, "--layers": 1, "--seq-len": 1000, "--batch": 16}.items():
        parser.add_argument(option, type=int, default=size)
    parser.add_argument("--lr", type=positive, default=2e-3)
    parser.add_argument("--clip", type=positive, default=1.0)
    parser.add_argument("--backend", nargs="+", choices=backend.BACKENDS, default=["native"])
    parser.add_argument("--against", nargs="*", choices=["torch"], default=["torch"])
    parser.add_argument("--text", nargs="+", type=Path, metavar="FILE", help="instead of Python's standard library")
    parser.add_argument("--limit", type=int, default=20_000_000, help="characters of the text, at most")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for one reply (default: 600)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the curves (needs matplotlib)")
    arguments = parser.parse_args(argv)
    sizes = {name: getattr(arguments, name) for name in ("embedding", "hidden", "layers", "seq_len", "batch")}
    if min(arguments.threads, *sizes.values()) < 1:
        parser.error("sizes and --threads: expected at least 1")
    missing = [name for name in arguments.against if not find_spec(name)]
    names = [*arguments.backend, *(name for name in arguments.against if name not in missing)]
    for option in ("json", "plot"):
        if getattr(arguments, option):
            writable(f"--{option}", getattr(arguments, option), parser.error)

    machine = bench.machine() | {"cpus_pinned": pinned(arguments.threads), "threads": arguments.threads}
    command = " ".join(["bench/bench_lm.py", *(sys.argv[1:] if argv is None else argv)])
    report: dict[str, Any] = {"command": command, "complete": False, "machine": machine, "missing": missing}
    report |= {"threads": arguments.threads, "ours": arguments.backend, "language": []}
    contest.introduce(names, machine, lambda name: started(name, arguments))
    for cell in arguments.cell:
        problem = {"cell": cell, **sizes, "lr": arguments.lr, "clip": arguments.clip, "limit": arguments.limit}
        problem["text"] = [str(path.resolve()) for path in arguments.text or ()]
        row = {**problem, "contenders": {}}
        report["language"].append(row)
        contend(row, problem, names, arguments, lambda: contest.save(arguments.json, report))
    report["complete"] = True
    contest.save(arguments.json, report)
    if arguments.plot:
        with contest.replaced(arguments.plot) as path:
            figure(report).savefig(path, dpi=150)
    contest.show(language(report))
    found = (c for row in report["language"] for c in row["contenders"].values())
    return 1 if any("wrong" in c or "gone" in c for c in found) else 0


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def contend(
    row: dict[str, Any], problem: Problem, names: list[str], arguments: argparse.Namespace, save: Callable[[], None]
) -> None:
    """Judge the contenders, then let them train in turn; fills `row`."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(started(name, arguments)) for name in names}
        weights: Arrays = {}
        right: dict[str, Any] = {}
        for name, process in processes.items():
            c: dict[str, Any] = {"curve": []}
            row["contenders"][name] = c
            try:
                weights = process.ask("prepare", problem) or weights
                found = process.ask("answers", weights)
            except contest.Failed as reason:
                c["gone"] = str(reason)
                continue
            right = right or found  # the first is fastml's: the others are compared with it
            c["differences"] = differences(found, right)
            c["start"] = found["validation"]
            wrong = [what for what, limit in LIMITS.items() if not c["differences"][what] <= limit]
            if wrong:
                c["wrong"] = f"differs in {', '.join(wrong)}: {c['differences']}"
        left = [name for name, c in row["contenders"].items() if "gone" not in c and "wrong" not in c]
        spent = dict.fromkeys(left, 0.0)
        while any(seconds < 60 * arguments.minutes for seconds in spent.values()):
            left.reverse()  # nobody always comes first
            for name in [name for name in left if spent[name] < 60 * arguments.minutes]:
                c = row["contenders"][name]
                sleep(SETTLE)
                try:
                    point = processes[name].ask("train", min(arguments.slice, 60 * arguments.minutes - spent[name]))
                    point["validation"] = processes[name].ask("validate")
                except contest.Failed as reason:
                    c["gone"] = str(reason)
                    left.remove(name)
                    del spent[name]
                    break
                c["curve"].append(point)
                spent[name] += point["seconds"]
                speed = point["steps"] * problem["seq_len"] * problem["batch"] / point["seconds"]
                said = f"{speed:,.0f} characters/s, {point['validation'] / math.log(2):.3f} bits held out"
                print(f"{problem['cell']} {name} {spent[name]:.0f} s: {said}", file=sys.stderr, flush=True)
            save()


def differences(found: dict[str, Any], right: dict[str, Any]) -> dict[str, float]:
    losses = zip([found["loss"], *found["losses"]], [right["loss"], *right["losses"]], strict=True)
    return {
        "loss": max(abs(a - b) / abs(b) for a, b in losses),
        "gradient": bench.difference(found["gradients"], right["gradients"]),
        "validation": abs(found["validation"] - right["validation"]) / abs(right["validation"]),
    }


def figure(report: dict[str, Any]) -> Any:
    """The loss of the held-out text against the minutes of training, one picture for each cell."""
    from matplotlib.figure import Figure

    rows = report["language"]
    found = Figure(figsize=(4.5 * len(rows), 3.6), layout="constrained")
    for row, axes in zip(rows, found.subplots(1, len(rows), squeeze=False)[0], strict=True):
        for name, c in row["contenders"].items():
            points = c["curve"]
            minutes = np.cumsum([point["seconds"] for point in points]) / 60
            bits = np.array([point["validation"] for point in points]) / math.log(2)
            axes.plot(minutes, bits, marker="o", markersize=3, label={"torch": "PyTorch"}.get(name, f"fastml {name}"))
        axes.set(xlabel="minutes of training", ylabel="held-out bits per character", title=row["cell"].upper())
        axes.grid(alpha=0.25)
        axes.legend()
    return found


if __name__ == "__main__":
    sys.exit(main())
