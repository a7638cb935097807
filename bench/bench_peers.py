"""fastml against PyTorch, ONNX Runtime, OpenVINO, JAX and NumPy: one layer, one direction, over a grid of shapes.

    python bench/bench_peers.py [--threads 1] [--rounds 7] [--cell lstm] [--mode inference] [--shape 1000,8,128,128]
                                [--dtype float64] [--isa avx2] [--lengths 100,1000] [--backend native]
                                [--against torch onnxruntime] [--json FILE]

training: forward and backward with every gradient, dx included, into fresh arrays. inference: the forward pass alone.
`native` and `jit` are fastml's functional API, which packs the weights in every call; `native packed` is a layer's
``packed()``, with the weights packed once, as ONNX Runtime and OpenVINO have them. Peers are used as who knows them
would: `contender.py` has each one's calls.

Every contender is a process of its own, with as many threads and pinned to the same CPUs. They take turns, A B C A B C
…, while the others sleep; before each turn a pause, in which workers that still spin after the last call give up
(OpenMP's and OpenBLAS's do for some 20 ms), and untimed calls, after which clock and caches are the turn's own. The
figure of a turn is the median of its calls, a ratio the peer's median over the turns divided by fastml's: above 1
fastml is faster. In brackets the least and the greatest ratio of one round. "first" is what comes before: packing,
compiling, the first call. Variables that hold a library back, such as OPENBLAS_CORETYPE, are not passed on.

Before anything is timed, y and every gradient are compared with PyTorch's (without PyTorch: NumPy's) in float64 on the
same numbers: the error is the largest difference relative to the largest value of each array. Who is off by more than
5e-5 in y or 5e-4 in a gradient (1e-10 and 1e-9 in float64) is reported and not timed. Who crashes, or is silent for
`--timeout` seconds, is reported and left out; after the second time, for good.

share: GFLOP/s of the matrix products (training: three times those of the forward pass) over what an n × n product
(n = 2048) reached in this run by NumPy or PyTorch, whichever is faster. With --lengths the lengths of the sequences are
drawn uniformly, only their steps count, and `native full` runs every step: the price of a step that counts is then
compared with the price at full length.

Left out: several layers, two directions, a GPU, torch.compile. The peers are those that are installed: fastml[peers].
"""

import argparse
import json
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from report import CELLS, LIBRARIES, MODES, PEERS, fastest, per_step, rate, ratio, timed

import fastml
from fastml import backend, bench
from fastml.cli import seconds, short, three

CONTENDER = Path(__file__).with_name("contender.py")

SHAPES = (
    (1000, 1, 64, 64), (1000, 1, 128, 128), (1000, 1, 256, 256), (1000, 8, 128, 128),
    (1000, 32, 128, 128), (1000, 32, 256, 256), (4000, 4, 32, 32), (200, 64, 512, 512),
)  # fmt: skip

N = 2048  # of the matrix product that everything is a share of

SETTLE = 0.04  # seconds before a turn. OpenBLAS's workers spin for 2^26 cycles, GNU OpenMP's for less

# Variables of the caller's that hold a library back: everyone is to run as fast as it can here.
HOLDS = (
    "OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES", "XLA_FLAGS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
)  # fmt: skip

# What holds a library to an ISA. ONNX Runtime and OpenVINO have nothing of the kind.
HELD = {
    "avx2": {
        "torch": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        "jax": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
        "jit": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
        "reference": {"OPENBLAS_CORETYPE": "Haswell"},
    },
}


# ------------------------------------------------------------------------------------------------------ processes


class Failed(Exception):
    """A contender raised."""


class Gone(Failed):
    """A contender crashed, or was silent for too long."""


class Process:
    """A contender's process; `ask` sends a request and waits for the reply."""

    def __init__(self, name: str, threads: int, *, isa: str | None = None, timeout: float = 300.0) -> None:
        self.timeout, self.stderr, self.received = timeout, tempfile.TemporaryFile(), b""  # noqa: SIM115 (closed with the process)
        cpus = pinned(threads)
        command = [sys.executable, "-P", str(CONTENDER), name, "--threads", str(threads)]
        command += ["--cpus", ",".join(map(str, cpus))] if cpus else []
        command += ["--isa", isa] if isa in HELD or (isa and name.startswith("native")) else []
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=environment(name, threads, isa),
            start_new_session=True,  # Ctrl-C is the parent's, which then ends them all
        )
        try:
            self.version = self.ask(do="hello")["version"]
        except Failed:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        try:
            self.popen.stdin.write(json.dumps(request).encode() + b"\n")
            self.popen.stdin.flush()
            reply = json.loads(self._line())
        except TimeoutError:
            self.close()
            raise Gone(f"no reply to {request['do']} within {self.timeout:g} s") from None
        except (OSError, EOFError):
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(1)
            self.popen.kill()
            words = f"exit status {self.popen.wait()}: {self._last_words()}"
            self.close()
            raise Gone(words) from None
        except BaseException:
            self.close()
            raise
        if "failed" in reply:
            raise Failed(reply["failed"])
        return reply

    def _line(self) -> bytes:
        end = perf_counter() + self.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.popen.stdout, selectors.EVENT_READ)
            while b"\n" not in self.received:
                if not selector.select(end - perf_counter()):
                    raise TimeoutError
                part = os.read(self.popen.stdout.fileno(), 1 << 16)
                if not part:
                    raise EOFError
                self.received += part
        line, _, self.received = self.received.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        with suppress(BrokenPipeError):
            self.popen.stdin.close()
        self.popen.stdout.close()
        self.stderr.close()


def pinned(threads: int) -> list[int]:
    """The last CPUs of those that this process may use: the first serves most interrupts."""
    return sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else []


def environment(name: str, threads: int, isa: str | None) -> dict[str, str]:
    held = HELD.get(isa, {}).get(name, {})
    xla = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "FASTML_NUM_THREADS")
    flags = {"XLA_FLAGS": f"{xla} {held.get('XLA_FLAGS', '')}".strip(), "JAX_PLATFORMS": "cpu"}
    return {k: v for k, v in os.environ.items() if k not in HOLDS} | held | flags | dict.fromkeys(counts, str(threads))


def installed(name: str) -> bool:
    return all(find_spec(module) for module in ([name, "onnx"] if name in ("onnxruntime", "openvino") else [name]))


class Field:
    """The processes of a run: each starts when it is first asked for, again after it has gone, but not a third time."""

    def __init__(self, threads: int, isa: str | None, timeout: float) -> None:
        self.threads, self.isa, self.timeout = threads, isa, timeout
        self.processes: dict[str, Process] = {}
        self.strikes: dict[str, int] = {}

    def __enter__(self) -> "Field":
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self.processes.values():
            process.close()

    def ask(self, name: str, **request: Any) -> dict[str, Any]:
        if self.strikes.get(name, 0) > 1:
            raise Gone("it failed twice before")
        try:
            if name not in self.processes or not self.processes[name].alive:
                self.processes[name] = Process(name, self.threads, isa=self.isa, timeout=self.timeout)
            return self.processes[name].ask(**request)
        except Gone:
            self.strikes[name] = self.strikes.get(name, 0) + 1
            raise


# ------------------------------------------------------------------------------------------------------ a run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--shape", nargs="+", type=shape, metavar="T,B,I,H", default=SHAPES)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--lengths", type=bounds, metavar="LOW,HIGH", help="sequences of these lengths, at most T")
    parser.add_argument("--backend", nargs="+", choices=("native", "jit"), help="default: both")
    parser.add_argument("--isa", help="an ISA rung for native instead of the fastest; peers are held to avx2 too")
    parser.add_argument("--against", nargs="+", choices=PEERS, default=list(PEERS), help="default: all")
    parser.add_argument("--threads", type=int, default=1, help="for everyone (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken (default: 7)")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="for one reply (default: 300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    arguments = parser.parse_args(argv)
    if min(arguments.threads, arguments.rounds) < 1:
        parser.error("--threads, --rounds: expected at least 1")
    if arguments.lengths and arguments.lengths[0] > min(T for T, *_ in arguments.shape):
        parser.error("--lengths: LOW is more than the T of a shape")
    ours = [runner.backend for runner in bench.contenders(arguments.backend or ()) if runner.backend != "reference"]
    if not ours:
        parser.error("neither native nor jit runs here")
    try:
        fastml.set_num_threads(arguments.threads)
        if arguments.isa:
            with backend.isa(arguments.isa):
                pass
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    if "native" in ours:
        more = ["native packed"] + ["native full"] * bool(arguments.lengths)
        after = ours.index("native") + 1
        ours[after:after] = more
    missing = [name for name in arguments.against if name != "reference" and not installed(name)]
    names = [*ours, *(name for name in arguments.against if name not in missing)]

    machine = bench.machine() | {"cpus_pinned": pinned(arguments.threads)}
    machine["isa"] = arguments.isa or machine["isa"]
    machine["environment"] = {k: v for k, v in machine["environment"].items() if k not in HOLDS}
    report: dict[str, Any] = {"command": " ".join(["bench/bench_peers.py", *(sys.argv[1:] if argv is None else argv)])}
    report |= {"complete": False, "machine": machine, "missing": missing, "results": []}
    report |= {key: getattr(arguments, key) for key in ("threads", "dtype", "lengths", "isa")}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        field = stack.enter_context(Field(arguments.threads, arguments.isa, arguments.timeout))
        # Judged by one that is held to no ISA, and that is no contender's process: a truth takes memory.
        judges = stack.enter_context(Field(arguments.threads, None, arguments.timeout))
        judge = "torch" if installed("torch") else "reference"
        report["peak"] = peaks(arguments, machine)
        machine["versions"] = machine["versions"] | dict(versions(names, field))
        for line in heading(report):
            print(line)
        for cell in arguments.cell:
            for sizes in arguments.shape:
                sizes = dict(zip("TBIH", sizes, strict=True))
                lengths = draw_lengths(arguments.lengths, sizes)
                problem = {"cell": cell, "sizes": sizes, "lengths": lengths, "dtype": arguments.dtype}
                truth = folder / "truth.npz"
                judged = problem | {"mode": arguments.mode[0], "dtype": "float64", "answers": str(truth)}
                if "training" in arguments.mode:
                    judged["mode"] = "training"
                try:
                    judges.ask(judge, do="prepare", **judged)
                except Failed as reason:
                    print(f"{judge} in float64: {reason}; NumPy judges from here on", file=sys.stderr)
                    judge = "reference"
                    judges.ask(judge, do="prepare", **judged)
                judges.ask(judge, do="release")
                for mode in arguments.mode:
                    row = {**problem, "mode": mode, "steps": sum(lengths) if lengths else sizes["T"] * sizes["B"]}
                    row["contenders"] = contend(problem | {"mode": mode}, names, field, truth, folder, arguments)
                    report["results"].append(row)
                    show(row, report)
                    save(arguments.json, report)
    report["complete"] = True
    save(arguments.json, report)
    for cell in arguments.cell:
        for mode in arguments.mode:
            summary(cell, mode, report)
    return 1 if any("wrong" in c or "gone" in c for row in report["results"] for c in row["contenders"].values()) else 0


def shape(text: str) -> tuple[int, ...]:
    sizes = integers(text)
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected T,B,I,H such as 1000,8,128,128, got {text!r}")
    return sizes


def bounds(text: str) -> tuple[int, ...]:
    found = integers(text)
    if len(found) != 2 or not 1 <= found[0] <= found[1]:
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH such as 100,1000, got {text!r}")
    return found


def integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected integers, got {text!r}") from None


def draw_lengths(limits: tuple[int, int] | None, sizes: dict[str, int]) -> list[int] | None:
    if limits is None:
        return None
    low, high = limits
    return np.random.default_rng(1).integers(low, min(high, sizes["T"]), sizes["B"], endpoint=True).tolist()


def versions(names: Sequence[str], field: Field) -> Iterator[tuple[str, str]]:
    for name in names:
        if name in LIBRARIES:
            try:
                field.ask(name, do="release")
                yield name, field.processes[name].version
            except Failed as reason:
                print(f"{name}: {reason}", file=sys.stderr)


def peaks(arguments: argparse.Namespace, machine: dict[str, Any]) -> dict[str, float]:
    """GFLOP/s of a large matrix product by library, each in a process that is over before anything is timed."""
    found = {}
    for name in ("reference", "torch"):
        if name == "reference" or installed(name):
            with Field(arguments.threads, arguments.isa, arguments.timeout) as field:
                try:
                    reply = field.ask(name, do="gemm", n=N, dtype=arguments.dtype)
                    found[name] = reply["gflops"]
                    machine["blas"] = reply.get("blas", machine["blas"])
                except Failed as reason:
                    print(f"{name}'s matrix product: {reason}", file=sys.stderr)
    return found


def contend(
    problem: dict, names: Sequence[str], field: Field, truth: Path, folder: Path, arguments: argparse.Namespace
) -> dict[str, dict]:
    """Prepare, judge and time one problem: by contender its times, errors and memory, or why there are none."""
    found: dict[str, dict] = {}
    with np.load(truth) as file:
        right = dict(file)
    for name in names:
        path = folder / "answers.npz"
        try:
            reply = field.ask(name, do="prepare", **problem, answers=str(path))
            if "without" not in reply:
                reply |= judged(path, right, arguments.dtype) | {"times": [], "calls": 0}
            if "wrong" in reply:
                field.ask(name, do="release")
        except Failed as reason:
            reply = {"gone": str(reason)}
        found[name] = reply
    del right
    for _ in range(arguments.rounds):
        for name, reply in found.items():
            if "times" in reply and "wrong" not in reply and "gone" not in reply:
                sleep(SETTLE)
                try:
                    times = field.ask(name, do="turn")["seconds"]
                    reply["times"].append(statistics.median(times))
                    reply["calls"] += len(times)
                except Failed as reason:
                    reply["gone"] = str(reason)
    for name, reply in found.items():
        if "times" in reply and "gone" not in reply:
            field.ask(name, do="release")
    return found


def judged(path: Path, right: bench.Arrays, dtype: str) -> dict[str, Any]:
    with np.load(path) as file:
        errors = {name: bench.difference({name: file[name]}, {name: right[name]}) for name in file}
    path.unlink()
    limits = {"float32": (5e-5, 5e-4), "float64": (1e-10, 1e-9)}[dtype]
    wrong = [f"{name} is off by {short(e)}" for name, e in errors.items() if not e <= limits[name != "y"]]
    return {"errors": errors} | ({"wrong": ", ".join(wrong)} if wrong else {})


# ------------------------------------------------------------------------------------------------------ figures


def save(path: Path | None, report: dict) -> None:
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ tables


def heading(report: dict) -> Iterator[str]:
    m = report["machine"]
    cpus = f" on CPU {', '.join(map(str, m['cpus_pinned']))}" if m["cpus_pinned"] else ""
    yield f"{m['cpu']}, isa {m['isa']}, {report['threads']} thread(s){cpus}, {report['dtype']}, load {m['load']}"
    yield ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    found = (f"{name.replace('reference', 'NumPy')} {three(g)}" for name, g in report["peak"].items())
    yield f"matrix product, n = {N}, GFLOP/s: {', '.join(found)}; NumPy's BLAS {m['blas']}"
    for name in report["missing"]:
        yield f"{name} is left out: it is not installed (pip install fastml[peers])"


def show(row: dict, report: dict) -> None:
    """One problem: a line for each contender."""
    sizes = ",".join(map(str, row["sizes"].values()))
    lengths = f", lengths {min(row['lengths'])} to {max(row['lengths'])}" if row["lengths"] else ""
    print(f"\n{row['cell']} {row['mode']}, T,B,I,H = {sizes}{lengths}")
    medians = timed(row)
    own = next((name for name in ("native", "jit") if name in medians), None)
    over = f"   {own} is … times as fast" if own else ""
    print(f"  {'':<14}{'time':>9}{'GFLOP/s':>9}{'share':>7}{'error':>7}{'first':>9}{over}")
    for name, c in row["contenders"].items():
        if name not in medians:
            print(f"  {name:<14}{c.get('gone') or c.get('wrong') or c.get('without')}")
            continue
        share = rate(row, name) / max(report["peak"].values(), default=float("nan"))
        print(f"  {name:<14}{seconds(medians[name]):>9}{three(rate(row, name)):>9}{share:>7.0%}", end="")
        print(f"{short(max(c['errors'].values())):>7}{seconds(c['first']):>9}", end="")
        if own not in (None, name):
            over, least, greatest = ratio(row, name, own)
            print(f"   {three(over):>5} ({three(least)} … {three(greatest)})", end="")
        print()
    if per_step(row):
        print(f"  a step that counts costs native {three(per_step(row))} times one at full length")
    sys.stdout.flush()


def summary(cell: str, mode: str, report: dict) -> None:
    """For each of fastml's: shapes down, peers across, geometric means and least ratios at the bottom."""
    rows = [row for row in report["results"] if (row["cell"], row["mode"]) == (cell, mode)]
    names = list(dict.fromkeys(name for row in rows for name in timed(row)))
    peers = [name for name in PEERS if name in names]
    ours = [name for name in names if name not in (*PEERS, "native full")]
    print(f"\n{cell} {mode}: how many times as fast as the peer (below 1: slower)")
    for own in ours:
        print(f"{own:<22}" + "".join(f"{peer:>12}" for peer in peers) + "     the fastest library")
        columns: dict[str, list[float]] = {peer: [] for peer in [*peers, "fastest"]}
        for row in rows:
            medians, best = timed(row), fastest(row)
            if own not in medians:
                continue
            line = f"{','.join(map(str, row['sizes'].values())):<22}"
            for peer in peers:
                if peer in medians:
                    columns[peer].append(medians[peer] / medians[own])
                line += f"{three(columns[peer][-1]) if peer in medians else '-':>12}"
            if best:
                columns["fastest"].append(medians[best] / medians[own])
                line += f"{three(columns['fastest'][-1]):>12} {best}"
            print(line)
        for name, over in (("geometric mean", statistics.geometric_mean), ("least", min)):
            print(f"{name:<22}" + "".join(f"{three(over(f)) if f else '-':>12}" for f in columns.values()))


if __name__ == "__main__":
    sys.exit(main())
