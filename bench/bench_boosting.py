"""AdaBoost: fastml against scikit-learn, whole fits, further rounds and predictions, the same estimators on both sides.

    python bench/bench_boosting.py [--case 100000,20,5,1] [--threads 1] [--rounds 7] [--backend native]
                                   [--against sklearn] [--json FILE] [--tiny]

A case is N,D,K,DEPTH; K = 0 is AdaBoostRegressor. Rows are K Gaussians of unit variance, their means N(0, 1/4) in each
of the D coordinates. With ",noise" behind it the classes have nothing to do with the features; with ",cover" they are
as unequal, and the features as mixed, as in the data set of forest cover types: ten of them continuous, the others two
groups of which one in each is 1.

fit: of 50 rounds of stumps, or of 10 rounds of deeper trees or of more than 200,000 rows, everything included: checks,
coding, the attributes.
round: what a further round costs, (fit of all rounds - fit of a fifth of them) / those between.
predict: of all rows, by the whole ensemble.

Every contender is a process of its own (contest.py), they take turns, and a ratio is scikit-learn's median over the
turns divided by fastml's. Before anything is timed, the error of each round and the predictions are compared with
scikit-learn's: who differs by more than `LIMIT` is reported and not timed. scikit-learn's trees have one thread,
whatever --threads says.
"""

import argparse
import statistics
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
from bench_peers import SETTLE, Failed, pinned
from contest import Process
from report import BOOSTING_MODES, BOOSTING_PEERS, boosting

import fastml
from fastml import backend, bench
from fastml.cli import seconds, writable

CASES = (
    (100_000, 20, 5, 1, ""), (20_000, 20, 3, 1, ""), (100_000, 20, 5, 1, "noise"), (20_000, 20, 3, 1, "noise"),
    (500_000, 54, 7, 1, "cover"), (100_000, 20, 5, 3, ""), (20_000, 20, 3, 3, ""), (20_000, 20, 0, 3, ""),
)  # fmt: skip
TINY = ((600, 5, 3, 1, ""), (600, 5, 2, 3, "noise"), (2000, 20, 7, 1, "cover"), (600, 5, 0, 1, ""))
KINDS = ("noise", "cover")

LIMIT = 1e-9  # of the errors of rounds, and of the share of rows that are predicted otherwise

LEAST = 0.3  # seconds of a turn

Arrays = dict[str, np.ndarray]


def n_rounds(sizes: dict[str, int]) -> int:
    return 50 if sizes["depth"] == 1 and sizes["N"] <= 200_000 else 10


def draw(problem: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """X and y; the same in every process."""
    N, D, K, _ = problem["sizes"].values()
    random = np.random.default_rng(0)
    shares = 0.5 ** np.arange(max(K, 2)) if problem["kind"] == "cover" else np.ones(max(K, 2))
    labels = random.choice(max(K, 2), N, p=shares / shares.sum())
    X = random.standard_normal((N, D)) + 0.5 * random.standard_normal((max(K, 2), D))[labels]
    if K == 0:
        return X, X[:, 0] + np.sin(3 * X[:, 1]) + 0.5 * random.standard_normal(N)
    if problem["kind"] == "cover":
        for group in np.array_split(np.arange(10, D), 2):
            X[:, group] = np.arange(len(group)) == X[:, group].argmax(axis=1)[:, None]
    return X, random.integers(0, K, N) if problem["kind"] == "noise" else labels


# ------------------------------------------------------------------------------------------------------ contenders


def estimator(name: str, problem: dict[str, Any], rounds: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if name == "sklearn":
        from sklearn import ensemble as library
    else:
        from fastml import sklearn as library
    K, depth = problem["sizes"]["K"], problem["sizes"]["depth"]
    tree = (DecisionTreeClassifier if K else DecisionTreeRegressor)(max_depth=depth)
    kind = library.AdaBoostClassifier if K else library.AdaBoostRegressor
    return kind(tree, n_estimators=rounds, random_state=0)


def clock(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


class Contender:
    """In its own process: what `Process.ask` asks for."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        fastml.set_num_threads(threads)
        if name != "sklearn":
            fastml.use(name)

    def hello(self) -> dict[str, Any]:
        machine = bench.machine()
        return {
            "versions": {"scikit-learn": version("scikit-learn")},
            "blas": machine["blas"],
            "environment": machine["environment"],
        }

    def prepare(self, problem: dict[str, Any]) -> Arrays:
        """The errors of the rounds and the predictions, of a whole fit."""
        self.problem, (self.X, self.y) = problem, draw(problem)
        self.rounds = n_rounds(problem["sizes"])
        self.model = self.fit(self.rounds)
        return {"errors": self.model.estimator_errors_, "predictions": self.model.predict(self.X)}

    def fit(self, rounds: int) -> Any:
        return estimator(self.name, self.problem, rounds).fit(self.X, self.y)

    def turn(self, least: float) -> dict[str, float]:
        """Seconds of each mode; of short calls the median of as many as take `least` seconds."""
        few, samples, start = self.rounds // 5, [], perf_counter()
        while not samples or perf_counter() - start < least:
            part, whole = (clock(lambda n=n: self.fit(n)) for n in (few, self.rounds))
            predict = clock(lambda: self.model.predict(self.X))
            samples.append((whole, (whole - part) / (self.rounds - few), predict))
        return dict(zip(BOOSTING_MODES, map(statistics.median, zip(*samples, strict=True)), strict=True))


def serve(pipe: Connection, name: str, threads: int) -> None:
    contest.serve(Contender, pipe, name, threads)


def started(name: str, arguments: argparse.Namespace) -> AbstractContextManager[Process]:
    return contest.started(serve, name, arguments.threads, arguments.timeout)


# ------------------------------------------------------------------------------------------------------ a run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", type=case, metavar="N,D,K,DEPTH[,KIND]", help="default: eight of them")
    parser.add_argument("--backend", nargs="+", choices=backend.BACKENDS, help="default: native, or what there is")
    parser.add_argument("--against", nargs="*", choices=BOOSTING_PEERS, default=list(BOOSTING_PEERS))
    parser.add_argument("--threads", type=int, default=1, help="for everyone (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of which the median is taken (default: 7)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for one reply (default: 600)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--tiny", action="store_true", help="small cases instead: a test of this script")
    arguments = parser.parse_args(argv)
    if min(arguments.threads, arguments.rounds) < 1:
        parser.error("--threads, --rounds: expected at least 1")
    if not find_spec("sklearn"):
        parser.error("scikit-learn is not installed: it is the judge, and the estimators' interface")
    lacking = fastml.available()["tree_grow"]
    for name in arguments.backend or ():
        if lacking[name]:
            parser.error(f"--backend: {name} has no tree_grow: {lacking[name]}")
    ours = arguments.backend or [next(name for name in backend.BACKENDS if not lacking[name])]
    if arguments.json:
        writable("--json", arguments.json, parser.error)

    machine = bench.machine() | {"cpus_pinned": pinned(arguments.threads), "threads": arguments.threads}
    command = " ".join(["bench/bench_boosting.py", *(sys.argv[1:] if argv is None else argv)])
    report: dict[str, Any] = {"command": command, "complete": False, "machine": machine, "missing": []}
    report |= {"threads": arguments.threads, "ours": ours, "boosting": []}
    names = list(dict.fromkeys([*ours, *arguments.against]))
    contest.introduce(names, machine, lambda name: started(name, arguments))
    with ExitStack() as stack:
        processes: dict[str, Process] = {}

        def of(name: str) -> Process:
            """The contender's process; a new one where there is none, or where it ended."""
            if name not in processes or not processes[name].process.is_alive():
                processes[name] = stack.enter_context(started(name, arguments))
            return processes[name]

        for *sizes, kind in arguments.case or (TINY if arguments.tiny else CASES):
            problem = {"sizes": dict(zip(("N", "D", "K", "depth"), sizes, strict=True)), "kind": kind}
            row = contend(problem, {name: of(name) for name in names}, of("sklearn"), arguments)
            report["boosting"].append(row)
            print(f"{','.join(map(str, sizes))} {kind}: {said(row)}", file=sys.stderr, flush=True)
            contest.save(arguments.json, report)
    report["complete"] = True
    contest.save(arguments.json, report)
    contest.show(boosting(report))
    found = (c for row in report["boosting"] for c in row["contenders"].values())
    return 1 if any("wrong" in c or "gone" in c for c in found) else 0


def case(text: str) -> tuple[int, int, int, int, str]:
    *sizes, kind = text.split(",")
    try:
        N, D, K, depth = map(int, sizes if kind in KINDS else [*sizes, kind])
        kind = kind if kind in KINDS else ""
        least = 12 if kind == "cover" else 2
        if min(N, depth) < 1 or depth > 8 or least > D or K < 0 or K == 1 or (kind and not K):
            raise ValueError
    except ValueError:
        kinds = " or ".join(f",{kind}" for kind in KINDS)
        message = f"expected N,D,K,DEPTH such as 100000,20,5,1, perhaps with {kinds}, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return N, D, K, depth, kind


def contend(
    problem: dict[str, Any], processes: dict[str, Process], judge: Process, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Judge and time one problem: by contender its times and errors, or why there are none."""
    truth = judge.ask("prepare", problem)
    found = {name: judged(process, problem, truth) for name, process in processes.items()}
    for _ in range(arguments.rounds):
        for name, c in found.items():
            if "times" in c and "gone" not in c:
                sleep(SETTLE)
                try:
                    for mode, time in processes[name].ask("turn", 0 if arguments.tiny else LEAST).items():
                        c["times"][mode].append(time)
                except Failed as reason:
                    c["gone"] = str(reason)
    return {**problem, "contenders": found}


def judged(process: Process, problem: dict[str, Any], truth: Arrays) -> dict[str, Any]:
    try:
        found = process.ask("prepare", problem)
    except Failed as reason:
        return {"gone": str(reason)}
    errors = {"errors": float(np.abs(found["errors"] - truth["errors"]).max())}
    errors["predictions"] = float(np.mean(~np.isclose(found["predictions"], truth["predictions"], rtol=1e-9)))
    wrong = [f"{name} differ by {e:.1e}" for name, e in errors.items() if not e <= LIMIT]
    return {"errors": errors} | ({"wrong": ", ".join(wrong)} if wrong else {"times": {m: [] for m in BOOSTING_MODES}})


def said(row: dict[str, Any]) -> str:
    def one(c: dict[str, Any]) -> str:
        reason = c.get("gone") or c.get("wrong")
        return reason or " ".join(seconds(statistics.median(times)) for times in c["times"].values())

    return ", ".join(f"{name} {one(c)}" for name, c in row["contenders"].items())


if __name__ == "__main__":
    sys.exit(main())
