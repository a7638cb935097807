"""The measuring behind `fastml bench`, as data. Nothing here prints; `cli.py` does.

What a figure means
-------------------
* A time is that of the public call (`fastml.lstm_forward`, `fastml.mixture.statistics`, …): checks and the allocation
  of outputs included. Forward passes are timed as in training, with ``keep=True``; a backward pass walks the tape of
  its own back end's forward. Gaussian mixtures are of covariance type "full"; trees are
  grown by "gini" on rows that the same back end has coded; losses come with their gradients.
* Back ends are timed in turn (A B C A B C …) in one process with one thread count, each after untimed calls of its
  own; a ratio is the median of the reference over the median of the other, from those same rounds. It survives a
  machine whose speed drifts; absolute times do not.
* The first call of a back end, which for `jit` compiles or loads a cache, is kept apart.
* An error is the largest difference from the reference in float64 on the same inputs, relative to the largest value of
  each output. The reference's own error is measured too: it is what rounding alone costs.
* A share is the fraction of the matrix product that NumPy's BLAS reached in the same run with as many threads.
"""

import os
import platform
import re
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from math import ceil, log
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastml

from . import backend, boosting, losses, mixture
from .kernels.table import KERNELS, Kernel, Sizes, shape_of
from .threads import blas_limit, get_num_threads, usable_cpus

__all__ = [
    "TRAINING",
    "Contender",
    "Family",
    "Measurement",
    "Plan",
    "Report",
    "Training",
    "answers",
    "classes",
    "clusters",
    "contenders",
    "copy_peak",
    "difference",
    "exact",
    "gemm_peak",
    "gflop",
    "interleave",
    "machine",
    "measure",
    "missing",
    "prepare",
    "problem",
    "rounds",
    "sizes_of",
    "stdlib_text",
    "steps",
    "train",
    "training_step",
]

Arrays = dict[str, NDArray[Any]]

TRAINING = {"T": 1000, "B": 16, "I": 64, "H": 128}
"""The sizes of the byte-level LSTM that the training step is timed on."""

RATE = 1.0  # of SGD. Measured at TRAINING: the loss falls at every step; at 2 it still falls, but not steadily

SAMPLE = 2e-3  # seconds; a call shorter than this is repeated within one sample, so that the clock's grain is no part

# Seconds that a contender runs untimed when its turn comes, if there is more than one thread: OpenBLAS's workers spin
# for 2^26 cycles after NumPy's last product, and held back whoever came next. Measured on 2 CPUs, lstm_forward large in
# native: 12.3 ms right after the reference, 6.0 ms alone, 6.3 ms with those workers put to sleep at once.
SETTLE = 0.04

ENVIRONMENT = ("FASTML_ISA", "OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "NUMBA_CPU_NAME", "NUMBA_DISABLE_JIT")
"""Variables that change what is measured; a report states those that are set."""


# ------------------------------------------------------------------------------------------------------ contenders


class Contender(NamedTuple):
    """What is timed: a back end, and for `native` the ISA rung."""

    backend: str
    isa: str | None = None

    @property
    def label(self) -> str:
        return f"{self.backend} {self.isa}" if self.isa else self.backend

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Serve every kernel with this contender, for a block of this thread."""
        with fastml.use(self.backend), backend.isa(self.isa) if self.isa else nullcontext():
            yield

    def bind(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """`call`, served by this contender wherever it is called; costs far less than entering `chosen` each time."""
        with self.chosen():
            return partial(copy_context().run, call)


def contenders(names: Sequence[str] = (), *, every_rung: bool = False) -> list[Contender]:
    """The back ends that can run here (those in `names`, if any are named), the reference always first.

    `every_rung` gives each ISA rung of `native` that this CPU runs instead of the fastest alone.
    """
    found = [Contender("reference")]
    for name in backend.BACKENDS:
        if name == "reference" or (names and name not in names):
            continue
        if all(cells[name] for cells in backend.available().values()):
            continue
        rungs = (backend.rungs() if every_rung else (backend.active_isa(),)) if name == "native" else (None,)
        found += [Contender(name, isa) for isa in rungs]
    return found


def missing() -> dict[str, dict[str, list[str]]]:
    """Back end → reason → the kernels that it cannot serve here."""
    found: dict[str, dict[str, list[str]]] = {}
    for kernel, cells in backend.available().items():
        for name, reason in cells.items():
            if reason:
                found.setdefault(name, {}).setdefault(reason, []).append(kernel)
    return found


# ------------------------------------------------------------------------------------------------------ problems


class Family(NamedTuple):
    """How the rows of a family are timed: random arguments of the public function, the call, and what it answered."""

    draw: Callable[[Kernel, Sizes, np.random.Generator], Arrays]
    prepare: Callable[[Kernel, Arrays], Callable[[], Any]]
    answers: Callable[[Kernel, Any], Arrays]


def problem(row: Kernel, size: str | Sizes, dtype: str = "float32", seed: int = 0) -> Arrays:
    """Random arguments, by name, for the public function of a row.

    Recurrent: those of the forward, and for a backward the upstream's. Weights and biases are PyTorch's U(-1/√H, 1/√H),
    all else is U(-1, 1). What a backward kernel takes from its forward is not here: `prepare` has it from a real pass.
    Mixtures: `clusters` and `documents`, which overlap. Trees: `classes`; class numbers and sizes are floats here.
    """
    sizes = row.sizes[size] if isinstance(size, str) else size
    arrays = FAMILIES[row.family].draw(row, sizes, np.random.default_rng(seed))
    return {name: array.astype(dtype, copy=False) for name, array in arrays.items()}


def prepare(row: Kernel, arrays: Arrays) -> Callable[[], Any]:
    """The public call that serves `row`, ready to be timed. A backward runs its forward now, on the chosen back end."""
    return FAMILIES[row.family].prepare(row, arrays)


def answers(row: Kernel, result: Any) -> Arrays:
    """The arrays in what a prepared call returned, by the names of the row's outputs."""
    return FAMILIES[row.family].answers(row, result)


def gflop(row: Kernel, sizes: Sizes) -> float | None:
    """GFLOP of the matrix products of one call; None of trees, which have none."""
    return None if row.family == "tree" else 1e-9 * row.work(sizes)


def sizes_of(row: Kernel) -> set[str]:
    """The letters that a size of this row's problems has."""
    return set().union(*row.sizes.values())


def _forward(row: Kernel) -> Kernel:
    return KERNELS[f"{row.family}_forward"]


def _draw_recurrent(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    forward = _forward(row)
    axes = {name: a for name, a in {**forward.inputs, **row.inputs}.items() if name not in forward.outputs}
    arrays: Arrays = {}
    for name, a in axes.items():
        if not a.startswith(("intp", "bool")):
            limit = sizes["H"] ** -0.5 if name.startswith(("w_", "b_")) else 1.0
            arrays[name] = random.uniform(-limit, limit, shape_of(a, sizes))
    return arrays


def _prepare_recurrent(row: Kernel, arrays: Arrays) -> Callable[[], Any]:
    if row.name.endswith("_forward"):
        return partial(getattr(fastml, row.name), **arrays)
    forward = _forward(row)
    given = {name: array for name, array in arrays.items() if name in forward.inputs}
    upstream = {name: array for name, array in arrays.items() if name not in given}
    tape = getattr(fastml, forward.name)(**given)[-1]
    return partial(getattr(fastml, row.name), tape, **upstream)


def _answers_recurrent(row: Kernel, result: Any) -> Arrays:
    if isinstance(result, fastml.Gradients):
        return {f"d{name}": gradient for name, gradient in vars(result).items() if gradient is not None}
    return dict(zip(row.outputs, result[:-1], strict=False))  # the last is the tape; the rows of it are not answers


def clusters(N: int, D: int, K: int, random: np.random.Generator, separation: float = 0.0) -> Arrays:
    """Rows of K Gaussians of full covariances, and parameters near theirs, as in the middle of a fit; in float64.

    Means are N(0, σ²) per coordinate, with D σ² = 4 whatever D is: some two nats from one component to another by their
    means, so that most rows have several components. A positive `separation` is σ itself. Factors of covariances are
    I + 0.3 G / √D, G standard normal; weights are U(1, 2), normalised. The means that are given are 0.1 standard normal
    off the ones that the rows are drawn from.
    """
    means = random.standard_normal((K, D)) * (separation or 2 / np.sqrt(D))
    factors = np.eye(D) + 0.3 / np.sqrt(D) * random.standard_normal((K, D, D))
    weights = _shares(random, K)
    labels = random.choice(K, N, p=weights)
    X = random.standard_normal((N, D))
    for k in range(K):
        X[labels == k] = X[labels == k] @ factors[k].T + means[k]
    means = means + 0.1 * random.standard_normal((K, D))
    return {"X": X, "weights": weights, "means": means, "covariances": factors @ factors.swapaxes(1, 2)}


def documents(N: int, V: int, K: int, random: np.random.Generator) -> Arrays:
    """Counts of V words in N documents of 100 words on average, and the parameters that they are drawn from.

    Probabilities are U(1, 2), normalised: documents are too short to tell the K components for certain.
    """
    weights, probabilities = _shares(random, K), _shares(random, K, V)
    labels = random.choice(K, N, p=weights)
    return {"X": random.poisson(100 * probabilities[labels]), "weights": weights, "probabilities": probabilities}


def _shares(random: np.random.Generator, *shape: int) -> NDArray[Any]:
    """U(1, 2), normalised and rounded to multiples of 2^-22: they sum to 1 in float32 as in float64."""
    shares = random.uniform(1, 2, shape)
    shares = np.floor(2**22 * shares / shares.sum(axis=-1, keepdims=True))
    shares[..., 0] += 2**22 - shares.sum(axis=-1)
    return shares / 2**22


def _draw_gaussian(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    arrays = clusters(**sizes, random=random)
    if row.name == "gaussian_log_density":
        del arrays["weights"]
    return arrays


def _draw_multinomial(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    return documents(**sizes, random=random)


def _prepare_mixture(row: Kernel, arrays: Arrays) -> Callable[[], Any]:
    return partial(getattr(mixture, row.name.removeprefix("gaussian_")), **arrays)


def _answers_mixture(row: Kernel, result: Any) -> Arrays:
    """An array, a tuple of them, or statistics."""
    if isinstance(result, np.ndarray):
        result = (result,)
    if not isinstance(result, tuple):
        result = [np.atleast_1d(getattr(result, name)) for name in row.outputs]
    return dict(zip(row.outputs, result, strict=False))  # labels are not returned


def _draw_boosting(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    """The kernel's own inputs: weights U(0.5, 1.5), three rows in ten misclassified, standard normal scores."""
    N, K = sizes["N"], sizes.get("K", 2)
    values = {
        "sample_weight": random.uniform(0.5, 1.5, N),
        "incorrect": random.random(N) < 0.3,
        "next_incorrect": random.random(N) < 0.3,
        "scores": random.standard_normal((N, K)),
        "exponent": random.standard_normal(N),
        "y": random.permutation(N) % K,
        **{name: random.uniform(0.5, 1.5, ()) for name in ("if_right", "if_wrong", "shift", "factor")},
    }
    return {name: values[name] for name in row.inputs}


def _prepare_kernel(row: Kernel, arrays: Arrays) -> Callable[[], Arrays]:
    """The kernel itself, into new arrays, and what it wrote there."""
    kinds = {"uint8 N": lambda a: (a != 0).view(np.uint8), "intp N": lambda a: a.astype(np.intp), "float64": float}
    inputs = {name: kinds.get(shape, np.asarray)(arrays[name]) for name, shape in row.inputs.items()}
    first = next(iter(inputs.values()))
    sizes = {"N": len(first), "K": int(inputs["y"].max()) + 1 if "y" in inputs else 0}
    function = backend.find(row.name).function

    def call() -> Arrays:
        outputs = {}
        for name, shape in row.outputs.items():
            wide = shape.startswith("float64 ")
            outputs[name] = np.empty(1) if wide else np.empty(shape_of(shape, sizes), first.dtype)
        function(*inputs.values(), *outputs.values())
        return outputs

    return call


def _draw_adam(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    """The kernel's own inputs: standard normal weights and gradients, moments as of many gradients like those."""
    N = sizes["N"]
    values = {
        "weight": random.standard_normal(N),
        "gradient": random.standard_normal(N),
        "first": 0.2 * random.standard_normal(N),
        "second": random.uniform(0.5, 1.5, N),
        **{
            name: np.array(x)
            for name, x in {"scale": 0.5, "rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}.items()
        },
    }
    return {name: values[name] for name in row.inputs}


def _answers_kernel(row: Kernel, result: Arrays) -> Arrays:
    return result


def classes(N: int, D: int, K: int, random: np.random.Generator) -> Arrays:
    """Rows of D standard normal features, and K classes of as many rows each, cut from a sum of all features and noise.

    X is in multiples of 2^-16: no value is so near to another that float32 and float64 differ about whether they tie.
    """
    X = _coarse(random.standard_normal((N, D)))
    score = X @ random.standard_normal(D) + random.standard_normal(N)
    return {"X": X, "y": score.argsort().argsort() * K // N, "sample_weight": random.uniform(0.5, 1.5, N) / N}


def _coarse(x: NDArray[Any]) -> NDArray[Any]:
    return np.round(x * 2**16) / 2**16


def _draw_tree(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    """`classes` where rows are coded or grow a tree; or random trees, each leaf with a number for one of K columns."""
    N, D, K, E, depth = (sizes[name] for name in ("N", "D", "K", "E", "depth"))
    arrays = classes(N, D, K, random)
    if row.name == "tree_encode":
        del arrays["sample_weight"]
    elif row.name == "tree_grow":
        arrays["max_depth"] = np.array(depth)
    else:
        P = 2**depth - 1
        feature, threshold = random.integers(D, size=(E, P)), _coarse(random.standard_normal((E, P)))
        arrays = {"X": arrays["X"], "feature": feature, "threshold": threshold}
        if row.name == "tree_scores":
            column, leaf_value = random.integers(K, size=(E, P + 1)), random.standard_normal((E, P + 1))
            arrays |= {"leaf_value": leaf_value, "column": column, "n_columns": np.array(K)}
        elif row.name == "tree_quantile":
            arrays |= {"leaf_value": _coarse(random.standard_normal((E, P + 1))), "weights": random.random(E)}
    return arrays


def _prepare_tree(row: Kernel, arrays: Arrays) -> Callable[[], Any]:
    X = arrays["X"]
    if "y" in arrays:
        y = arrays["y"].astype(np.intp)
        if row.name == "tree_encode":
            return partial(boosting.encode, X, y)
        coded = boosting.encode(X, y)
        weight = arrays["sample_weight"].astype("float64")[coded.rows]
        return partial(boosting.Learner(coded, "gini", int(arrays["max_depth"])).grow, weight)
    feature, threshold = arrays["feature"].astype(np.intp), arrays["threshold"].astype("float64")
    E, P = feature.shape
    nothing = np.zeros((E, 2 * P + 1, 1)), np.zeros((E, 2 * P + 1), np.intp)
    trees = boosting.Trees(feature, threshold, np.ones((E, P), np.bool_), *nothing, "gini", X.shape[1])
    if row.name == "tree_apply":
        return partial(trees.apply, X)
    leaf_value = arrays["leaf_value"].astype("float64")
    if row.name == "tree_quantile":
        return partial(trees.quantile, X, leaf_value, arrays["weights"].astype("float64"))
    column = arrays["column"].astype(np.intp)
    return partial(trees.scores, X, leaf_value, int(arrays["n_columns"]), column)


def _answers_tree(row: Kernel, result: Any) -> Arrays:
    """In float64: of a boolean array there is no difference. The threshold of a node that does not split is 0."""
    if isinstance(result, boosting.Coded):
        result = result.codes
    parts = result if isinstance(result, tuple) else (result,)
    arrays = {
        name: part.astype("float64") for name, part in zip(row.outputs, parts, strict=False)
    }  # labels are not asked for
    if "threshold" in arrays:
        arrays["threshold"][result.feature < 0] = 0
    return arrays


def _draw_softmax(row: Kernel, sizes: Sizes, random: np.random.Generator) -> Arrays:
    """Logits that are standard normal, or about so: of x that is, and weights N(0, 1/H). Class numbers are floats."""
    arrays = {
        name: random.standard_normal(shape_of(axes, sizes)) for name, axes in row.inputs.items() if "intp" not in axes
    }
    del arrays["scale"]
    if "weight" in arrays:
        arrays["weight"] /= sizes["H"] ** 0.5
    return arrays | {"target": random.integers(sizes["V"], size=sizes["N"])}


def _prepare_softmax(row: Kernel, arrays: Arrays) -> Callable[[], Any]:
    call = losses.linear_cross_entropy if row.name == "softmax_linear" else losses.softmax_cross_entropy
    return partial(call, **arrays | {"target": arrays["target"].astype(np.intp)}, reduction="none")


def _answers_softmax(row: Kernel, result: Any) -> Arrays:
    parts = result if isinstance(result, tuple) else (result.loss, result.x, result.weight, result.bias)
    return dict(zip(row.outputs, parts, strict=True))


RECURRENT = Family(_draw_recurrent, _prepare_recurrent, _answers_recurrent)
BOOSTING = Family(_draw_boosting, _prepare_kernel, _answers_kernel)

FAMILIES = {
    "rnn": RECURRENT,
    "gru": RECURRENT,
    "lstm": RECURRENT,
    "gaussian": Family(_draw_gaussian, _prepare_mixture, _answers_mixture),
    "multinomial": Family(_draw_multinomial, _prepare_mixture, _answers_mixture),
    "samme": BOOSTING,
    "exponential": BOOSTING,
    "tree": Family(_draw_tree, _prepare_tree, _answers_tree),
    "softmax": Family(_draw_softmax, _prepare_softmax, _answers_softmax),
    "adam": Family(_draw_adam, _prepare_kernel, _answers_kernel),
}


def exact(row: Kernel, arrays: Arrays) -> Arrays:
    """The answers of the reference in float64 on the same numbers."""
    with Contender("reference").chosen():
        return answers(row, prepare(row, {name: a.astype("float64") for name, a in arrays.items()})())


def difference(found: Arrays, right: Arrays) -> float:
    """The largest difference between arrays of the same names, relative to the largest value of each; NaN if any is."""
    relative = [np.abs(found[name] - a).max() / (np.abs(a).max() or 1.0) for name, a in right.items() if a.size]
    return float(np.max(relative, initial=0.0))


# ------------------------------------------------------------------------------------------------------ clocks


def rounds(fewest: int, most: int, seconds: float) -> Iterator[int]:
    """0, 1, 2, … until `seconds` have passed; at least `fewest` of them and at most `most`."""
    end = perf_counter() + seconds
    n = 0
    while n < fewest or (n < most and perf_counter() < end):
        yield n
        n += 1


def interleave(
    calls: dict[Any, Callable[[], Any]], *, fewest: int = 3, most: int = 25, seconds: float = 1.0
) -> dict[Any, list[float]]:
    """Time `calls` in turn, A B C A B C …, after one untimed turn; seconds per call, one figure for each round."""
    repeats = {key: max(1, min(1000, ceil(SAMPLE / max(_clock(call), 1e-9)))) for key, call in calls.items()}
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for _ in rounds(fewest, most, seconds):
        for key, call in calls.items():
            settled = perf_counter() + _settle()
            while perf_counter() < settled:
                call()
            times[key].append(_clock(call, repeats[key]))
    return times


def _settle() -> float:
    return SETTLE if get_num_threads() > 1 else 0.0


def _clock(call: Callable[[], Any], repeats: int = 1, clock: Callable[[], float] = perf_counter) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def gemm_peak(
    dtype: str = "float32", n: int = 2048, rounds: int = 5, clock: Callable[[], float] = perf_counter
) -> float:
    """GFLOP/s of NumPy's n × n matrix product, bound to the thread count; the best of `rounds`, by `clock`."""
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, n, n)).astype(dtype)
    out = np.empty_like(a)
    call = partial(np.matmul, a, b, out=out)
    with blas_limit():
        call()
        return 2e-9 * n**3 / min(_clock(call, clock=clock) for _ in range(rounds))


def copy_peak(mebibytes: int = 128, rounds: int = 5) -> float:
    """GB/s, read and written together, of one thread that copies an array; the best of `rounds`."""
    a = np.ones(mebibytes << 18, "float32")
    out = np.empty_like(a)
    call = partial(np.copyto, out, a)
    call()
    return 2e-9 * a.nbytes / min(_clock(call) for _ in range(rounds))


# ------------------------------------------------------------------------------------------------------ kernels


@dataclass(frozen=True, slots=True)
class Measurement:
    """One cell of the grid: a kernel at one size and dtype by one contender.

    first_call and times are in seconds per call (each figure of `times` the mean of `repeats` calls in a row where one
    is too short for the clock), ratio is to the reference of the same run, gflops counts the matrix products alone
    (None of trees, which have none).
    """

    kernel: str
    size: str
    sizes: Sizes
    dtype: str
    backend: str
    isa: str | None
    error: float
    tolerance: float
    first_call: float
    times: list[float]
    seconds: float
    ratio: float
    gflops: float | None


def measure(
    row: Kernel,
    size: str | Sizes,
    dtype: str,
    runners: Sequence[Contender],
    *,
    fewest: int = 3,
    most: int = 25,
    seconds: float = 1.0,
) -> list[Measurement]:
    """Time and check one kernel at one size by every contender that has it, the reference first."""
    sizes = row.sizes[size] if isinstance(size, str) else size
    grid = backend.available()[row.name]
    arrays = problem(row, sizes, dtype)
    right = exact(row, arrays)
    calls, first, errors = {}, {}, {}
    for runner in runners:
        if grid[runner.backend] is None:
            with runner.chosen():
                calls[runner] = runner.bind(prepare(row, arrays))
            start = perf_counter()
            result = calls[runner]()
            first[runner] = perf_counter() - start
            errors[runner] = difference(answers(row, result), right)
    times = interleave(calls, fewest=fewest, most=most, seconds=seconds)
    medians = {runner: statistics.median(t) for runner, t in times.items()}
    work = gflop(row, sizes)
    return [
        Measurement(
            kernel=row.name,
            size=size if isinstance(size, str) else "given",
            sizes=sizes,
            dtype=dtype,
            backend=runner.backend,
            isa=runner.isa,
            error=errors[runner],
            tolerance=row.tolerance[dtype],
            first_call=first[runner],
            times=times[runner],
            seconds=medians[runner],
            ratio=medians[runners[0]] / medians[runner],
            gflops=None if work is None else work / medians[runner],
        )
        for runner in calls
    ]


# ------------------------------------------------------------------------------------------------------ training


def stdlib_text(folder: str | Path | None = None, limit: int | None = 2_000_000) -> NDArray[np.uint8]:
    """The bytes of Python's own standard library: its top-level sources in the order of their names, up to `limit`.

    Raises
    ------
    FileNotFoundError
        There are no sources (some distributions ship compiled files alone).
    """
    folder = Path(folder or sysconfig.get_paths()["stdlib"])
    text = bytearray()
    for path in sorted(folder.glob("*.py")):
        text += path.read_bytes()
        if limit is not None and len(text) >= limit:
            break
    if not text:
        raise FileNotFoundError(f"expected the sources of Python's standard library, but {folder} holds no *.py files")
    return np.frombuffer(bytes(text[:limit]), np.uint8)


@dataclass(frozen=True, slots=True)
class Training:
    """Training steps of one contender. Seconds per step, of which `lstm_times` in the two kernels; bits per character
    of every step's batch before its update; gradient_difference of the first step from the reference's.
    """

    backend: str
    isa: str | None
    sizes: Sizes
    first_call: float
    times: list[float]
    lstm_times: list[float]
    bits: list[float]
    gradient_difference: float
    characters_per_second: float
    ratio: float
    lstm_share: float


def train(
    text: NDArray[np.uint8],
    runners: Sequence[Contender],
    sizes: Sizes = TRAINING,
    *,
    fewest: int = 3,
    most: int = 15,
    seconds: float = 10.0,
    seed: int = 0,
) -> list[Training]:
    """Train a byte-level LSTM on `text` by every contender in turn, from the same weights on the same batches.

    B streams of the text are read T characters at a time, the state carried on; characters are embedded by one fixed
    random table; what surrounds the LSTM (readout to 256 logits, softmax, cross-entropy and its gradient, plain SGD)
    is the same NumPy for everyone, so that only the two LSTM kernels differ. The first step is a warm-up.
    """
    grid = backend.available()
    runners = [r for r in runners if not (grid["lstm_forward"][r.backend] or grid["lstm_backward"][r.backend])]
    T, B, I, H = (sizes[letter] for letter in "TBIH")
    random = np.random.default_rng(seed)
    table = random.standard_normal((256, I)).astype("float32")
    shapes = {"w_ih": (4 * H, I), "w_hh": (4 * H, H), "b_ih": 4 * H, "b_hh": 4 * H, "w_out": (256, H), "b_out": 256}
    start = {name: random.uniform(-(H**-0.5), H**-0.5, shape).astype("float32") for name, shape in shapes.items()}
    weights = {r: {name: w.copy() for name, w in start.items()} for r in runners}
    states: dict[Contender, tuple[Any, Any]] = {r: (None, None) for r in runners}
    streams = text[: len(text) // B * B].reshape(B, -1).T
    total: dict[Contender, list[float]] = {r: [] for r in runners}
    inside: dict[Contender, list[float]] = {r: [] for r in runners}
    bits: dict[Contender, list[float]] = {r: [] for r in runners}
    gradients: dict[Contender, Arrays] = {}
    for n in rounds(fewest + 1, most + 1, seconds):
        batch = streams.take(np.arange(n * T, (n + 1) * T + 1), axis=0, mode="wrap")
        for runner in runners:
            sleep(_settle())
            with runner.chosen():
                clock = perf_counter()
                bit, grads, states[runner], spent = training_step(
                    weights[runner], table[batch[:-1]], batch[1:], states[runner]
                )
                for name, weight in weights[runner].items():
                    weight -= RATE * grads[name]
                total[runner].append(perf_counter() - clock)
            inside[runner].append(spent)
            bits[runner].append(bit)
            if n == 0:
                gradients[runner] = grads
    medians = {r: statistics.median(total[r][1:]) for r in runners}
    return [
        Training(
            backend=r.backend,
            isa=r.isa,
            sizes=sizes,
            first_call=total[r][0],
            times=total[r][1:],
            lstm_times=inside[r][1:],
            bits=bits[r],
            gradient_difference=difference(gradients[r], gradients[runners[0]]),
            characters_per_second=T * B / medians[r],
            ratio=medians[runners[0]] / medians[r],
            lstm_share=sum(inside[r][1:]) / sum(total[r][1:]),
        )
        for r in runners
    ]


def training_step(
    weights: Arrays, x: NDArray[Any], targets: NDArray[np.uint8], state: tuple[Any, Any]
) -> tuple[float, Arrays, tuple[NDArray[Any], NDArray[Any]], float]:
    """Forward, loss and backward of one batch: bits per character, the gradients of `weights`, the state carried on,
    and the seconds spent in the LSTM's two calls.
    """
    T, B, _ = x.shape
    lstm = [weights[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    start = perf_counter()
    y, h_n, c_n, tape = fastml.lstm_forward(x, *state, *lstm)
    spent = perf_counter() - start
    with blas_limit():
        flat, rows, wanted = y.reshape(T * B, -1), np.arange(T * B), targets.ravel()
        logits = flat @ weights["w_out"].T + weights["b_out"]
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[rows, wanted]
        d = np.exp(logits, out=logits)
        sums = d.sum(axis=1, keepdims=True)
        bits = float(np.mean(np.log(sums[:, 0]) - chosen, dtype="float64")) / log(2)
        d /= sums
        d[rows, wanted] -= 1
        d /= T * B
        dy = (d @ weights["w_out"]).reshape(y.shape)
        gradients = {"w_out": d.T @ flat, "b_out": d.sum(axis=0)}
    start = perf_counter()
    grads = fastml.lstm_backward(tape, dy)
    spent += perf_counter() - start
    gradients |= {name: getattr(grads, name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")}
    return bits, gradients, (h_n, c_n), spent


# ------------------------------------------------------------------------------------------------------ a whole run


def machine() -> dict[str, Any]:
    """What the figures of a run belong to: the processor, and what NumPy and fastml make of it."""
    return {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "cpus": usable_cpus(),
        "system": f"{platform.system()} {platform.release()}",
        "isa": backend.active_isa(),
        "rungs": list(backend.rungs()),
        "threads": get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "blas": _blas(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "versions": backend.versions(),
    }


def _cpu_name() -> str:
    try:
        if sys.platform == "darwin":
            return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except (OSError, subprocess.CalledProcessError):
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _blas() -> str:
    """Name, version and the architecture that NumPy's BLAS chose: an environment variable can hold it back."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if pools:
        return " ".join(str(pools[0][key]) for key in ("internal_api", "version", "architecture") if pools[0].get(key))
    return np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]  # one that threadpoolctl does not know


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to measure.

    `sizes` replaces the table's sizes (and the training step's) by one, of whose letters each takes its own; None keeps
    them. Each cell takes its share of `seconds`, `cell` at the most, and never less than `fewest` rounds.
    """

    kernels: Sequence[Kernel]
    runners: Sequence[Contender]
    text: NDArray[np.uint8] | None
    dtypes: Sequence[str] = ("float32",)
    sizes: Sizes | None = None
    fewest: int = 3
    seconds: float = 45.0
    cell: float = 2.0


@dataclass(slots=True)
class Report:
    """What a run has measured so far; `complete` once all of it is there. `gemm` is GFLOP/s by dtype, `copy` GB/s."""

    command: str
    started: str
    machine: dict[str, Any]
    missing: dict[str, dict[str, list[str]]]
    gemm: dict[str, float] = field(default_factory=dict)
    copy: float | None = None
    cells: list[Measurement] = field(default_factory=list)
    training: list[Training] = field(default_factory=list)
    complete: bool = False


def steps(plan: Plan, report: Report) -> list[tuple[str, Callable[[], None]]]:
    """The run in steps, each a label and a call that adds what it measures to `report`."""
    end = perf_counter() + plan.seconds

    def given(letters: Collection[str]) -> Sizes:
        return {letter: n for letter, n in plan.sizes.items() if letter in letters}

    cells = [
        (row, size, dtype)
        for dtype in plan.dtypes
        for row in plan.kernels
        for size in ([given(sizes_of(row))] if plan.sizes else row.sizes)
    ]

    def peaks() -> None:
        report.gemm = {dtype: gemm_peak(dtype) for dtype in plan.dtypes}
        report.copy = copy_peak()

    def cell(row: Kernel, size: str | Sizes, dtype: str, left: int) -> None:
        seconds = min(plan.cell, (end - perf_counter()) / left)
        report.cells += measure(row, size, dtype, plan.runners, fewest=plan.fewest, seconds=seconds)

    def training() -> None:
        sizes = given(TRAINING) if plan.sizes else TRAINING
        report.training = train(plan.text, plan.runners, sizes, fewest=plan.fewest, seconds=5 * plan.cell)

    found = [("the machine's peaks", peaks)]
    for n, (row, size, dtype) in enumerate(cells):
        label = f"{row.name} {'' if plan.sizes else size + ' '}{dtype}"
        found.append((label, partial(cell, row, size, dtype, len(cells) - n)))
    if plan.text is not None:
        found.append(("training step on real text", training))
    return found
