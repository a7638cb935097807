"""`fastml lm`: train a byte-level language model on text files, draw from it, measure it, draw its curves."""

import argparse
import codecs
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, time
from types import FrameType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import backend
from ..bench import stdlib_text
from ..saving import leftovers, replaced
from ..threads import get_num_threads, set_num_threads
from .recurrent import CELLS, RecurrentLM
from .text import PATTERNS, find_files, read_bytes, read_text
from .training import Trainer

__all__ = ["main"]

Error = Callable[[str], NoReturn]

MODEL = {"cell": "lstm", "embedding": 64, "hidden": 256, "layers": 1, "dropout": 0.0, "tied": False}
TRAINING = {"seq_len": 1000, "batch": 16, "lr": 2e-3, "clip": 1.0, "valid": 0.05, "seed": 0}
"""Defaults, which the parser does not have: what is not given is the saved run's with --resume."""

VALIDATION = 0.05  # share of the time that validation may take
TOGETHER = 16  # files that are read side by side, those of like length
OLD = 3600.0  # seconds, of a half-written file that nobody writes any more
LINE = 10.0  # seconds from one line of progress to the next, where there is no terminal

TRAIN = """\
Train a byte-level recurrent language model on text files and folders, without any on the sources of Python's own
standard library. Ctrl-C saves and ends; --resume goes on, to bitwise the weights of a run that was not interrupted."""


def main(argv: Sequence[str]) -> int:
    """Run `fastml lm`; returns the exit status: 0, 1 (training or writing failed), 2 (wrong arguments), 130 (Ctrl-C),
    143 (terminated) or 129 (hung up).
    """
    parser, parsers = _parsers()
    arguments = parser.parse_args(argv)
    error = parsers[arguments.command].error
    try:
        with _refusing(error):
            get_num_threads(), backend.active_isa(), backend.active()  # what the environment may have wrong
            if getattr(arguments, "threads", None) is not None:
                set_num_threads(_at_least("--threads", arguments.threads, 1))
        return arguments.run(arguments, error)
    except BrokenPipeError:  # who read it has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser("fastml lm", description="Recurrent language models of text, byte by byte.")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a model on text", description=TRAIN)
    train.set_defaults(run=_train)
    train.add_argument("path", nargs="*", metavar="PATH", help="text files, or folders of them")
    train.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the model goes")
    train.add_argument("--glob", action="append", metavar="PATTERN", help=f"files of folders ({' '.join(PATTERNS)})")
    end = train.add_mutually_exclusive_group(required=True)
    end.add_argument("--minutes", type=float, metavar="M", help="how long to train, with --resume how much longer")
    end.add_argument("--steps", type=int, metavar="N", help="how many steps, with --resume in all")
    for name, kind in {"embedding": int, "hidden": int, "layers": int, "dropout": float}.items():
        train.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "P", help=f"({MODEL[name]})")
    train.add_argument("--cell", choices=CELLS, help=f"({MODEL['cell']})")
    train.add_argument("--tied", action="store_true", default=None, help="the readout is the embedding")
    train.add_argument("--seq-len", type=int, metavar="N", help=f"steps the gradient goes back ({TRAINING['seq_len']})")
    train.add_argument("--batch", type=int, metavar="N", help=f"streams side by side ({TRAINING['batch']})")
    train.add_argument("--lr", type=float, metavar="R", help=f"Adam's rate ({TRAINING['lr']})")
    train.add_argument("--clip", type=float, metavar="C", help=f"largest norm of the gradient ({TRAINING['clip']})")
    train.add_argument("--valid", type=float, metavar="P", help=f"share of text held out ({TRAINING['valid']})")
    train.add_argument("--seed", type=int, metavar="S", help=f"of weights, order and dropout ({TRAINING['seed']})")
    train.add_argument("--threads", type=int, metavar="N", help="(all)")
    train.add_argument("--checkpoint", type=float, default=60.0, metavar="SECONDS", help="from save to save (60)")
    there = train.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with the model at --out")
    there.add_argument("--overwrite", action="store_true", help="begin anew where --out exists")

    sample = commands.add_parser("sample", help="draw text from a model")
    sample.set_defaults(run=_sample)
    sample.add_argument("model", type=Path, metavar="MODEL")
    sample.add_argument("--prompt", metavar="TEXT", help="what to go on from (a line feed)")
    sample.add_argument("--length", type=int, default=1000, metavar="N", help="bytes to draw (1000)")
    sample.add_argument("--temperature", type=float, default=1.0, metavar="T", help="(1.0); 0: always the likeliest")
    sample.add_argument("--seed", type=int, metavar="S")
    sample.add_argument("--threads", type=int, metavar="N", help="(all)")

    evaluate = commands.add_parser("eval", help="bits per character of text files")
    evaluate.set_defaults(run=_eval)
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    evaluate.add_argument("path", nargs="+", metavar="PATH", help="text files, or folders of them")
    evaluate.add_argument("--glob", action="append", metavar="PATTERN", help=f"files of folders ({' '.join(PATTERNS)})")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.add_argument("--threads", type=int, metavar="N", help="(all)")

    plot = commands.add_parser("plot", help="draw how training went")
    plot.set_defaults(run=_plot)
    plot.add_argument("model", type=Path, metavar="MODEL")
    plot.add_argument("--out", type=Path, metavar="FILE.png", help="(MODEL's name with .png)")
    return parser, {"train": train, "sample": sample, "eval": evaluate, "plot": plot}


@contextmanager
def _refusing(error: Error) -> Iterator[None]:
    """What is wrong with the input ends the command with one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (FloatingPointError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as wrong:
        at = f"{wrong.filename}: " if isinstance(wrong, OSError) and wrong.strerror and wrong.filename else ""
        error(at + _said(wrong))


def _said(wrong: Exception) -> str:
    return " ".join(str(getattr(wrong, "strerror", None) or wrong).split())


def _at_least(option: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{option}: expected at least {least}, got {value}")
    return value


def _above_zero(option: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{option}: expected a number above 0, got {value:g}")
    return value


# ------------------------------------------------------------------------------------------------------ fastml lm train


def _train(arguments: argparse.Namespace, error: Error) -> int:
    out = arguments.out
    with _refusing(error):
        if arguments.steps is not None:
            _at_least("--steps", arguments.steps, 1)
        else:
            _above_zero("--minutes", arguments.minutes)
        _above_zero("--checkpoint", arguments.checkpoint)
        if out.is_dir():
            raise ValueError(f"--out: expected a file, {out} is a folder")
        if out.exists() and not (arguments.resume or arguments.overwrite):
            raise ValueError(f"--out: {out} exists: --resume goes on with it, --overwrite begins anew")
        if arguments.resume and not out.exists():
            raise ValueError(f"--resume: there is no {out}")
        trainer = _trainer(arguments, _text(arguments))
    try:
        for file in leftovers(out):  # of a run that was killed while it saved; a younger one may be at work on it
            with suppress(FileNotFoundError):
                if time() - file.stat().st_mtime > OLD:
                    file.unlink()
        trainer.save(out)  # now rather than after an hour
    except (OSError, ValueError) as reason:
        error(f"--out: cannot write {out}: {_said(reason)}")
    return _Run(trainer, arguments).go()


def _text(arguments: argparse.Namespace) -> NDArray[np.uint8]:
    if not arguments.path:
        return stdlib_text(limit=None)
    files = find_files(arguments.path, arguments.glob or PATTERNS)
    if arguments.out.exists() and any(file.samefile(arguments.out) for file in files):
        raise ValueError(f"--out: {arguments.out} is one of the texts")
    return read_text(files)


def _trainer(arguments: argparse.Namespace, text: NDArray[np.uint8]) -> Trainer:
    given = {name: getattr(arguments, name) for name in (*MODEL, *TRAINING)}
    given = {name: value for name, value in given.items() if value is not None}
    if not arguments.resume:
        wanted = {**MODEL, **TRAINING, **given}
        own = {name: wanted[name] for name in MODEL if name != "layers"}
        model = RecurrentLM(256, num_layers=wanted["layers"], seed=wanted["seed"], **own)
        return Trainer(model, text, **{name: wanted[name] for name in TRAINING})
    trainer = Trainer.load(arguments.out, text)
    was = {**trainer.model._arguments(), **trainer.settings, "layers": trainer.model.num_layers}
    for name, value in given.items():
        if value != was[name]:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: {arguments.out} was begun with {was[name]}, got {value}; leave it out")
    return trainer


class _NotSavedError(Exception):
    """Why."""


def _tell(line: str) -> None:
    """On stderr, if that can be written: who read it may be gone, and the run goes on."""
    with suppress(OSError):
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)


class _Run:
    """A run of training with its clock: when to validate, save, tell and end."""

    def __init__(self, trainer: Trainer, arguments: argparse.Namespace) -> None:
        self.trainer, self.out, self.every = trainer, arguments.out, arguments.checkpoint
        self.total = arguments.steps
        self.limit = math.inf if arguments.minutes is None else 60 * arguments.minutes
        self.begun, self.first = perf_counter(), trainer.steps
        self.saved = self.validated = 0.0  # when, in seconds of this run
        self.cost: float | None = None  # seconds of a validation
        self.signal: int | None = None

    @property
    def elapsed(self) -> float:
        return perf_counter() - self.begun

    def go(self) -> int:
        trainer = self.trainer
        try:
            with self._listening(), _progress(self) as tell:
                while self.signal is None and not self._done():
                    trainer.step()
                    if self.elapsed - self.saved >= self.every:
                        self._save()
                    if self.signal is None and self._validation_due():
                        self._validate()
                    tell()
                if self.signal is None and trainer.valid and self._not_validated():
                    self._validate()
                    tell()
                self._save()
        except FloatingPointError as wrong:  # diverging: what was saved before may be the better one
            _tell(f"fastml lm train: {wrong}; {self.out} is as it was saved last")
            return 1
        except _NotSavedError as wrong:
            _tell(f"fastml lm train: cannot save: {wrong}; {self.out} is as it was saved last")
            return 1
        except KeyboardInterrupt:
            _tell(f"stopped at once; {self.out} is as it was saved last")
            return 128 + (self.signal or signal.SIGINT)
        _tell(f"saved {self.out} after step {trainer.steps}: {self.summary()}")
        return 0 if self.signal is None else 128 + self.signal

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """The first Ctrl-C, SIGTERM or hang-up ends the run after its step; the next one at once, as saved last."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number

        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _done(self) -> bool:
        return self.elapsed >= self.limit or (self.total is not None and self.trainer.steps >= self.total)

    def _validation_due(self) -> bool:
        if not self.trainer.valid:
            return False
        cost = self.cost
        if cost is None:  # a forward pass is a third of a step
            cost = self.elapsed / (self.trainer.steps - self.first) / 3
            cost *= len(self.trainer._held) / (self.trainer.batch * self.trainer.seq_len)
        return self.elapsed - self.validated >= cost / VALIDATION

    def _not_validated(self) -> bool:
        curve = self.trainer.validation_curve
        return not len(curve) or curve[-1, 0] < self.trainer.characters

    def _validate(self) -> None:
        start = perf_counter()
        self.trainer.validate()
        self.cost, self.validated = perf_counter() - start, self.elapsed

    def _save(self) -> None:
        try:
            self.trainer.save(self.out)
        except OSError as reason:
            raise _NotSavedError(_said(reason)) from None
        self.saved = self.elapsed

    def speed(self) -> float:
        """Characters per second of this run, validation and all."""
        trainer = self.trainer
        return (trainer.steps - self.first) * trainer.batch * trainer.seq_len / max(self.elapsed, 1e-9)

    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        if self.total is None:
            return min(1.0, self.elapsed / self.limit)
        return min(1.0, (self.trainer.steps - self.first) / max(1, self.total - self.first))

    def left(self) -> str:
        share = self.share()
        seconds = self.elapsed * (1 / share - 1) if share else math.nan
        return "-" if math.isnan(seconds) else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"

    def summary(self) -> str:
        trainer = self.trainer
        bits, curve = [b for _, b in trainer._training[-20:]], trainer.validation_curve
        parts = [f"{sum(bits) / len(bits):.3f} bits per character"] if bits else []
        parts += [f"validation {curve[-1, 2]:.3f}"] if len(curve) else []
        return ", ".join([*parts, f"{self.speed():,.0f} characters/s"])


@contextmanager
def _progress(run: _Run) -> Iterator[Callable[[], None]]:
    """What tells how far a run is: a bar on a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        told = [run.elapsed]

        def line() -> None:
            if run.elapsed - told[0] >= LINE:
                told[0] = run.elapsed
                _tell(f"step {run.trainer.steps}: {run.summary()}, {run.left()}")

        yield line
        return
    # No auto-refresh: its thread would take its share of the processor that trains.
    columns = BarColumn(20), TextColumn("step {task.fields[step]}: {task.description}")
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=1.0, step=run.trainer.steps)

        def update() -> None:
            text = f"{run.summary()}, {run.left()}"
            with suppress(OSError):
                bar.update(task, completed=run.share(), description=text, step=run.trainer.steps, refresh=True)

        update()
        yield update


# --------------------------------------------------------------------------------------------- sample, eval and plot


def _load(path: Path) -> RecurrentLM:
    model = RecurrentLM.load(path)
    if model.size != 256 or not isinstance(model.vocabulary, int):
        raise ValueError(f"{path}: expected a model of bytes, got {model!r}")
    return model


def _sample(arguments: argparse.Namespace, error: Error) -> int:
    with _refusing(error):
        _at_least("--length", arguments.length, 0)
        prompt = b"\n" if arguments.prompt is None else os.fsencode(arguments.prompt)  # as given, if it is no UTF-8
        if not prompt:
            raise ValueError("--prompt: expected at least one character, got none")
        symbols = _load(arguments.model).continued(prompt, arguments.temperature, arguments.seed)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        if arguments.prompt is not None:
            sys.stdout.write(decoder.decode(prompt))
        for n, symbol in zip(range(1, arguments.length + 1), symbols, strict=False):
            sys.stdout.write(decoder.decode(bytes([symbol])))
            if n % 16 == 0:
                sys.stdout.flush()
        sys.stdout.write(decoder.decode(b"", final=True) + "\n")
        sys.stdout.flush()
    return 0


def _eval(arguments: argparse.Namespace, error: Error) -> int:
    with _refusing(error):
        model = _load(arguments.model)
        texts = {path: read_bytes(path) for path in find_files(arguments.path, arguments.glob or PATTERNS)}
        if not any(len(text) > 1 for text in texts.values()):
            raise ValueError("PATH: expected a file of at least two bytes, got none")
    order = sorted((path for path in texts if len(texts[path]) > 1), key=lambda path: len(texts[path]))
    nats: dict[Path, float] = {}
    for start in range(0, len(order), TOGETHER):
        some = order[start : start + TOGETHER]
        nats |= zip(some, model._nats([model.encode(texts[path]) for path in some]).tolist(), strict=True)
    bits = lambda paths: sum(nats[p] for p in paths) / sum(len(texts[p]) - 1 for p in paths) / math.log(2)
    if not math.isfinite(bits(order)):
        error(f"{arguments.model}: its losses are not finite")
    found = {path: bits([path]) if path in nats else None for path in texts}
    if arguments.json:
        rows = [
            {"path": str(path), "characters": len(texts[path]), "bits_per_character": own}
            for path, own in found.items()
        ]
        print(json.dumps({"files": rows, "bits_per_character": bits(order)}, indent=1))
        return 0
    wide = max(len(str(path)) for path in texts)
    for path, own in found.items():
        print(f"{path!s:{wide}}  {'-' if own is None else f'{own:.4f}':>8}")
    if len(found) > 1:
        print(f"{'all':{wide}}  {bits(order):8.4f}")
    return 0


def _plot(arguments: argparse.Namespace, error: Error) -> int:
    with _refusing(error):
        if find_spec("matplotlib") is None:
            raise RuntimeError("plot needs matplotlib: pip install fastml[plot]")
        out = arguments.out or arguments.model.with_suffix(".png")
        if out.suffix not in (".png", ".pdf", ".svg"):
            raise ValueError(f"--out: expected a name that ends in .png, .pdf or .svg, got {str(out)!r}")
        if out.exists() and out.samefile(arguments.model):
            raise ValueError(f"--out: {out} is the model")
        training, validation = Trainer.curves(arguments.model)
        if not len(training):
            raise ValueError(f"{arguments.model}: no step has been trained yet")
        from matplotlib.figure import Figure

        from ..plot import training_curve

        figure = Figure(figsize=(10, 4), layout="constrained")
        for ax, against in zip(figure.subplots(1, 2, sharey=True), ("characters", "minutes"), strict=True):
            training_curve(training, validation, against=against, ax=ax)
        try:
            with replaced(out) as new:
                figure.savefig(new, dpi=150)
        except OSError as reason:
            raise ValueError(f"--out: cannot write {out}: {_said(reason)}") from None
    print(out)
    return 0
