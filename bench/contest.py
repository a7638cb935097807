"""Contenders of a benchmark as processes of their own, which take turns while the others sleep.

Each is pinned to the same CPUs, with as many threads. Variables that hold a library back are not passed on.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench_peers import Failed, Gone, environment, pinned

from fastml.saving import replaced


def serve(make: Callable[[str, int], Any], pipe: Connection, name: str, threads: int) -> None:
    """In the contender's process: answer requests with the methods of `make(name, threads)` until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends them all
    contender = make(name, threads)
    while True:
        try:
            do, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            reply = "done", getattr(contender, do)(*arguments)
        except NotImplementedError as reason:
            reply = "without", str(reason)
        except Exception as error:
            reply = "failed", f"{type(error).__name__}: {error}"
        pipe.send(reply)


class Without(Exception):
    """A contender has nothing of the kind."""


class Process:
    """A contender's process; `ask` sends a request and waits for the reply."""

    def __init__(self, target: Callable[..., None], name: str, threads: int, timeout: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.timeout, cpus = timeout, pinned(threads)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, name, threads), daemon=True)
        with surroundings(environment(name, threads, None)):
            self.process.start()
        if cpus:
            os.sched_setaffinity(self.process.pid, cpus)  # long before it has imported a library that counts CPUs
        theirs.close()

    def ask(self, do: str, *arguments: Any) -> Any:
        try:
            self.pipe.send((do, *arguments))
            if not self.pipe.poll(self.timeout):
                self.close()
                raise Gone(f"no reply to {do} within {self.timeout:g} s")
            kind, reply = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(1)
            raise Gone(f"exit status {self.process.exitcode}") from None
        if kind != "done":
            raise (Without if kind == "without" else Failed)(reply)
        return reply

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def surroundings(variables: dict[str, str]) -> Iterator[None]:
    """A block in which these are the environment, for the processes that it starts."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def started(target: Callable[..., None], name: str, threads: int, timeout: float) -> Iterator[Process]:
    """A contender's process for a block. `target(pipe, name, threads)` is what runs in it."""
    process = Process(target, name, threads, timeout)
    try:
        yield process
    finally:
        process.close()


def introduce(
    names: list[str], machine: dict[str, Any], start: Callable[[str], AbstractContextManager[Process]]
) -> None:
    """What the contenders say of themselves: their environment is not this process's."""
    for name in names:
        with start(name) as process:
            try:
                reply = process.ask("hello")
            except Failed as reason:
                print(f"{name}: {reason}", file=sys.stderr)
                continue
        machine["versions"] = machine["versions"] | reply["versions"]
        machine |= {key: reply[key] for key in ("blas", "environment")}


def save(path: Path | None, report: dict[str, Any]) -> None:
    if path:
        with replaced(path) as new:
            new.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def show(markdown: str) -> None:
    """A table, on the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False)
    console.width = max(console.width, 160)
    console.print(Markdown(markdown))
