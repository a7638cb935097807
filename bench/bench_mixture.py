"""Gaussian mixtures: fastml against scikit-learn, oneDAL (daal4py) and NumPy, one EM iteration and what predicts.

    python bench/bench_mixture.py [--case 200000,4,8,full] [--dtype float64] [--mode em] [--threads 1] [--rounds 7]
                                  [--separated] [--backend native] [--against sklearn daal4py] [--json FILE] [--tiny]

em: one iteration, all from the same start: the time of a fit less that of a shorter one, (fit(max_iter=6) -
fit(max_iter=1)) / 5 of GaussianMixture, scikit-learn's and fastml's, and (7 iterations - 2) / 5 of oneDAL's em_gmm,
with no tolerance, so that what a fit does once cancels (oneDAL stops where the likelihood moves no more: what it ran
counts). predict_proba and score_samples: the methods of a fitted GaussianMixture. oneDAL has neither, and is compared
on full covariances alone.

The rows are those of `fastml.bench.clusters`: K Gaussians whose means are some two nats apart, whatever D is, so that
most rows have several components, and all responsibilities count. With --separated the means are 3 standard deviations
apart in every coordinate. Everyone starts from the parameters that the rows were drawn from, the means 0.1 off.

Every contender is a process of its own, with as many threads and pinned to the same CPUs: fastml's workers, the pools
of BLAS and OpenMP (threadpoolctl) and TBB's (daalinit). They take turns, A B C A B C …, while the others sleep; the
figure of a turn is the median of its calls, a ratio the peer's median over the turns divided by fastml's. Variables
that hold a library back, such as OPENBLAS_CORETYPE, are not passed on; those of `fastml.bench.ENVIRONMENT` that are,
are stated.

Before anything is timed the answers (em: weights, means and covariances after one iteration) are compared with those of
the NumPy reference in float64 on the same numbers: the error is the largest difference relative to the largest value of
each array. Who is off by more than `LIMITS` is reported and not timed. Nothing is added to covariances.

share: of what NumPy's n × n product (n = 2048) reached, in a process of its own that took its turn in the same rounds;
2·N·K·D² operations are counted, half of what two dense products per component take, for full covariances alone.
"""

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep
from types import ModuleType
from typing import Any

import contest
import numpy as np
from bench_peers import SETTLE, Failed, pinned
from contest import Process, Without
from report import MIXTURE_MODES, MIXTURE_PEERS, mixtures, timed, why

import fastml
from fastml import backend, bench, mixture
from fastml.cli import seconds, short, writable
from fastml.mixture.gaussian import factors_of

CASES = (
    (200_000, 4, 8, "full"), (100_000, 16, 16, "full"), (50_000, 64, 16, "full"), (100_000, 16, 64, "full"),
    (200_000, 16, 16, "diag"), (200_000, 64, 64, "diag"), (200_000, 16, 16, "spherical"), (200_000, 16, 16, "tied"),
)  # fmt: skip
TINY = tuple((2000, 4, 3, covariance_type) for covariance_type in mixture.COVARIANCE_TYPES)

LIMITS = {"float32": 2e-3, "float64": 1e-9}

LEAST, MOST = 0.06, 0.4  # seconds of a turn's calls: at least three of them, unless they take MOST

Arrays = dict[str, np.ndarray]
Prepared = tuple[Callable[[], float], Callable[[], Arrays]]  # seconds of one iteration or call; the answers


# ------------------------------------------------------------------------------------------------------ contenders


def draw(problem: dict[str, Any]) -> Arrays:
    """X and the parameters to start from, in the problem's dtype; the same in every process."""
    separation = 3.0 if problem["separated"] else 0.0
    arrays = bench.clusters(**problem["sizes"], random=np.random.default_rng(0), separation=separation)
    full = arrays["covariances"]
    variances = np.einsum("kdd->kd", full)
    types = {"full": full, "tied": full.mean(axis=0), "diag": variances, "spherical": variances.mean(axis=1)}
    arrays["covariances"] = types[problem["type"]]
    return {name: np.ascontiguousarray(array, problem["dtype"]) for name, array in arrays.items()}


def estimator(kind: type, arrays: Arrays, covariance_type: str, mode: str) -> Prepared:
    """Of scikit-learn's GaussianMixture or fastml's, which take the same arguments."""
    warnings.simplefilter("ignore")  # no fit converges
    X, K = arrays["X"], len(arrays["weights"])
    covariances = arrays["covariances"].astype("float64")
    inverse = np.linalg.inv(covariances) if covariance_type in ("full", "tied") else 1 / covariances
    start = {"weights_init": arrays["weights"], "means_init": arrays["means"], "precisions_init": inverse}
    options = {"covariance_type": covariance_type, "tol": 0, "reg_covar": 0}
    options |= {name: array.astype(X.dtype) for name, array in start.items()}

    def fit(iterations: int) -> Any:
        return kind(K, max_iter=iterations, **options).fit(X)

    def answers() -> Arrays:
        model = fit(1)
        return {name: getattr(model, f"{name}_") for name in ("weights", "means", "covariances")}

    if mode == "em":
        return lambda: (clock(lambda: fit(6)) - clock(lambda: fit(1))) / 5, answers
    model = kind(K, covariance_type=covariance_type)
    for name in ("weights", "means", "covariances"):
        setattr(model, f"{name}_", arrays[name])
    model.precisions_cholesky_ = factors_of(covariances, covariance_type).astype(X.dtype)
    call = getattr(model, mode)
    return lambda: clock(lambda: call(X)), lambda: {mode: call(X)}


def by_fastml(name: str) -> Callable[..., Prepared]:
    def prepare(arrays: Arrays, covariance_type: str, mode: str, threads: int) -> Prepared:
        from fastml.sklearn import GaussianMixture

        fastml.set_num_threads(threads)
        sample, answers = estimator(GaussianMixture, arrays, covariance_type, mode)
        chosen = bench.Contender(name)
        return chosen.bind(sample), chosen.bind(answers)

    return prepare


def by_sklearn(arrays: Arrays, covariance_type: str, mode: str, threads: int) -> Prepared:
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    return estimator(GaussianMixture, arrays, covariance_type, mode)


def by_daal4py(arrays: Arrays, covariance_type: str, mode: str, threads: int) -> Prepared:
    if mode != "em" or covariance_type != "full":
        raise NotImplementedError("not compared")
    daal4py = import_daal4py()
    daal4py.daalinit(nthreads=threads)
    weights, means, covariances = arrays["weights"], arrays["means"], arrays["covariances"]
    options = {
        "nComponents": len(weights),
        "accuracyThreshold": 0,
        "covarianceStorage": "full",
        "fptype": {"float32": "float", "float64": "double"}[means.dtype.name],
    }

    def fit(iterations: int) -> Any:
        fitted = daal4py.em_gmm(maxIterations=iterations, **options)
        return fitted.compute(arrays["X"], weights[None], means, list(covariances))

    def answers() -> Arrays:
        found = fit(1)
        return {"weights": found.weights[0], "means": found.means, "covariances": np.stack(found.covariances)}

    more = int(fit(7).nIterations[0, 0] - fit(2).nIterations[0, 0])  # fewer than 5 where the likelihood no longer moves
    if more < 1:
        raise NotImplementedError("it stops too soon to be timed")
    return lambda: (clock(lambda: fit(7)) - clock(lambda: fit(2))) / more, answers


def import_daal4py() -> ModuleType:
    """Its own algorithms, without its patches of scikit-learn, which scikit-learn 1.9 breaks in daal4py 2024.7."""
    sys.modules.setdefault("daal4py.sklearn", ModuleType("daal4py.sklearn"))
    import daal4py

    return daal4py


PREPARE = {name: by_fastml(name) for name in backend.BACKENDS} | {"sklearn": by_sklearn, "daal4py": by_daal4py}


def clock(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


class Contender:
    """In its own process: what `Process.ask` asks for."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.problem: dict[str, Any] | None = None

    def hello(self) -> dict[str, Any]:
        versions = {"sklearn": "scikit-learn", "daal4py": "daal4py"}
        found = {versions[self.name]: version(versions[self.name])} if self.name in versions else {}
        machine = bench.machine()
        return {"versions": found, "blas": machine["blas"], "environment": machine["environment"]}

    def prepare(self, problem: dict[str, Any], mode: str) -> Arrays:
        """What one iteration or call gives."""
        if problem != self.problem:
            self.problem, self.arrays = problem, draw(problem)
        self.sample, answers = PREPARE[self.name](self.arrays, problem["type"], mode, self.threads)
        return answers()

    def turn(self) -> float:
        """Seconds of one iteration or call: the median of a few."""
        samples: list[float] = []
        start, passed = perf_counter(), 0.0
        while not samples or (passed < MOST and (passed < LEAST or len(samples) < 3)):
            samples.append(self.sample())
            passed = perf_counter() - start
        return statistics.median(samples)

    def truth(self, problem: dict[str, Any], mode: str) -> Arrays:
        """What is right: the reference's answers in float64 to the same numbers."""
        arrays = {name: array.astype("float64") for name, array in draw(problem).items()}
        fastml.set_num_threads(self.threads)
        parameters = arrays["weights"], arrays["means"], arrays["covariances"], problem["type"]
        with fastml.use("reference"):
            if mode == "em":
                found = mixture.em_step(arrays["X"], *parameters, reg_covar=0)
                return dict(zip(("weights", "means", "covariances"), found, strict=False))
            return {mode: mixture.responsibilities(arrays["X"], *parameters)[mode == "score_samples"]}

    def components(self, problem: dict[str, Any]) -> list[float]:
        """How many components a row has on average: of responsibilities above e^-60, and above 1 %."""
        (resp,) = self.truth(problem, "predict_proba").values()
        return [float((resp > least).sum() / len(resp)) for least in (np.exp(-60), 0.01)]

    def gemm(self, dtype: str, n: int) -> float:
        """GFLOP/s of NumPy's product."""
        fastml.set_num_threads(self.threads)
        return bench.gemm_peak(dtype, n, rounds=3)


def serve(pipe: Connection, name: str, threads: int) -> None:
    contest.serve(Contender, pipe, name, threads)


def started(name: str, arguments: argparse.Namespace) -> AbstractContextManager[Process]:
    return contest.started(serve, name, arguments.threads, arguments.timeout)


# ------------------------------------------------------------------------------------------------------ a run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", type=case, metavar="N,D,K,TYPE", help="default: eight of them")
    parser.add_argument("--dtype", nargs="+", choices=("float32", "float64"), default=["float64", "float32"])
    parser.add_argument("--mode", nargs="+", choices=MIXTURE_MODES, default=list(MIXTURE_MODES))
    parser.add_argument("--separated", action="store_true", help="rows of one component each")
    parser.add_argument("--backend", nargs="+", choices=backend.BACKENDS, help="default: native and jit")
    parser.add_argument("--against", nargs="+", choices=MIXTURE_PEERS, default=list(MIXTURE_PEERS))
    parser.add_argument("--threads", type=int, default=1, help="for everyone (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken (default: 7)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for one reply (default: 600)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--tiny", action="store_true", help="a small case of each type instead: a test of this script")
    arguments = parser.parse_args(argv)
    if min(arguments.threads, arguments.rounds) < 1:
        parser.error("--threads, --rounds: expected at least 1")
    arguments.case = arguments.case or (TINY if arguments.tiny else CASES)
    arguments.n = 64 if arguments.tiny else 2048
    lacking = fastml.available()["gaussian_statistics"]
    for name in arguments.backend or ():
        if lacking[name]:
            parser.error(f"--backend: {name} has no gaussian_statistics: {lacking[name]}")
    there = [name for name in backend.BACKENDS if not lacking[name]]
    ours = arguments.backend or [name for name in there if name != "reference"] or ["reference"]
    missing = [name for name in arguments.against if name != "reference" and not find_spec(name)]
    names = list(dict.fromkeys([*ours, *(name for name in arguments.against if name not in missing)]))
    if arguments.json:
        writable("--json", arguments.json, parser.error)
    fastml.set_num_threads(arguments.threads)

    machine = bench.machine() | {"cpus_pinned": pinned(arguments.threads)}
    command = " ".join(["bench/bench_mixture.py", *(sys.argv[1:] if argv is None else argv)])
    report: dict[str, Any] = {"command": command, "complete": False, "machine": machine, "missing": missing}
    report |= {key: getattr(arguments, key) for key in ("threads", "separated", "n")}
    report |= {"ours": ours, "mixtures": []}
    contest.introduce(names, machine, lambda name: started(name, arguments))
    for N, D, K, covariance_type in arguments.case:
        for dtype in arguments.dtype:
            problem = {"sizes": {"N": N, "D": D, "K": K}, "type": covariance_type, "dtype": dtype}
            problem["separated"] = arguments.separated
            for row in contend(problem, names, arguments):
                report["mixtures"].append(row)
                print(f"{row['mode']} {N},{D},{K} {covariance_type} {dtype}: {said(row)}", file=sys.stderr, flush=True)
                contest.save(arguments.json, report)
    report["complete"] = True
    contest.save(arguments.json, report)
    contest.show(mixtures(report))
    found = (c for row in report["mixtures"] for c in row["contenders"].values())
    return 1 if any("wrong" in c or "gone" in c for c in found) else 0


def case(text: str) -> tuple[int, int, int, str]:
    try:
        *sizes, covariance_type = text.split(",")
        N, D, K = map(int, sizes)
        if min(N, D, K) < 1 or covariance_type not in mixture.COVARIANCE_TYPES:
            raise ValueError
    except ValueError:
        types = ", ".join(mixture.COVARIANCE_TYPES)
        message = f"expected N,D,K,TYPE such as 100000,16,16,full with TYPE of {types}, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return N, D, K, covariance_type


def contend(problem: dict[str, Any], names: list[str], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Judge and time one problem, a row for each mode: by contender its times and errors, or why there are none."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(started(name, arguments)) for name in names}
        judge = stack.enter_context(started("reference", arguments))
        components = judge.ask("components", problem)
        for mode in arguments.mode:
            truth = judge.ask("truth", problem, mode)
            found = {name: judged(process, problem, mode, truth) for name, process in processes.items()}
            product: list[float] = []
            for _ in range(arguments.rounds):
                if (mode, problem["type"]) == ("em", "full"):
                    sleep(SETTLE)
                    product.append(judge.ask("gemm", problem["dtype"], arguments.n))
                for name, c in found.items():
                    if "times" in c and "gone" not in c:
                        sleep(SETTLE)
                        try:
                            c["times"].append(processes[name].ask("turn"))
                        except Failed as reason:
                            c["gone"] = str(reason)
            for c in found.values():
                if c.get("times") and statistics.median(c["times"]) <= 0:  # two fits differ by less than the noise
                    c["times"], c["without"] = [], "too short to be timed"
            yield {**problem, "mode": mode, "components": components, "gemm": product, "contenders": found}


def judged(process: Process, problem: dict[str, Any], mode: str, truth: Arrays) -> dict[str, Any]:
    try:
        found = process.ask("prepare", problem, mode)
    except Without as reason:
        return {"without": str(reason)}
    except Failed as reason:
        return {"gone": str(reason)}
    errors = {name: bench.difference({name: found[name]}, {name: right}) for name, right in truth.items()}
    wrong = [f"{name} is off by {short(e)}" for name, e in errors.items() if not e <= LIMITS[problem["dtype"]]]
    return {"errors": errors} | ({"wrong": ", ".join(wrong)} if wrong else {"times": []})


def said(row: dict[str, Any]) -> str:
    medians = timed(row)
    return ", ".join(f"{n} {seconds(medians[n]) if n in medians else why(row, n)}" for n in row["contenders"])


if __name__ == "__main__":
    sys.exit(main())
