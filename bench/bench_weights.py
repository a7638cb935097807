"""One round of boosting weights: fastml's updates against an in-place scale, and against NumPy as usually written.

    python bench/bench_weights.py [--rows 10000000] [--dtype float64] [--threads 1 2] [--rounds 9] [--json FILE]

    scale          np.multiply(w, s, out=w): one read and one write of the weights, the least that an update can do
    update         boosting.samme_update(w, incorrect, K, out=w), checks included: the error first, then the weights
    next           boosting.samme_update_next(w, incorrect, next_incorrect, K, error=error, out=w): in one pass
    numpy          average, log, exp, multiply and divide, of all rows, as scikit-learn's AdaBoostClassifier does it
    reference      samme_update of the NumPy reference

The contenders take turns, A B C A B C …, in this process; a figure is the median over the rounds, a ratio that of two
medians. scale, numpy and the reference run on one thread whatever --threads says. The misclassified rows, three in ten
of all, are others in each round, from a few sets that come again, and the weights are what the round before left; the
learning rate is 1/2, so that a set that comes again is still better than chance. At the end everybody's weights are
compared with the reference's; if they differ, nothing is printed.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import fastml
from fastml import bench, boosting

K, RATE = 5, 0.5
POOL = 4  # marks at hand
LIMITS = {"float32": 1e-4, "float64": 1e-11}  # of the weights after all rounds


def straightforward(w: np.ndarray, incorrect: np.ndarray) -> None:
    error = np.average(incorrect, weights=w)
    alpha = RATE * (np.log((1 - error) / error) + np.log(K - 1))
    w[:] = np.exp(np.log(w) + alpha * incorrect * (w > 0))
    w /= w.sum()


def contenders(rows: int, dtype: str) -> tuple[dict[str, Callable[[int], None]], dict[str, np.ndarray]]:
    """Name → a call of round n; name → the weights that it updates, its own."""
    rng = np.random.default_rng(0)
    marks = [rng.random(rows) < 0.3 for _ in range(POOL)]
    weights = {name: np.full(rows, 1 / rows, dtype) for name in ("scale", "update", "next", "numpy", "reference")}
    error: float | None = None

    def update(name: str, n: int) -> None:
        boosting.samme_update(weights[name], marks[n % POOL], K, RATE, out=weights[name])

    def update_next(n: int) -> None:
        nonlocal error
        now, after, w = marks[n % POOL], marks[(n + 1) % POOL], weights["next"]
        error = boosting.samme_update_next(w, now, after, K, RATE, error=error, out=w)[3]

    def reference(n: int) -> None:
        with fastml.use("reference"):
            update("reference", n)

    one = np.dtype(dtype).type(1)
    return {
        "scale": lambda n: np.multiply(weights["scale"], one, out=weights["scale"]),
        "update": lambda n: update("update", n),
        "next": update_next,
        "numpy": lambda n: straightforward(weights["numpy"], marks[n % POOL]),
        "reference": reference,
    }, weights


def measure(rows: int, dtype: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of every round after the first; and the errors of the weights then, relative to the largest."""
    calls, weights = contenders(rows, dtype)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for n in range(rounds + 1):
        for name, call in calls.items():
            start = perf_counter()
            call(n)
            times[name].append(perf_counter() - start)
    right = weights["reference"]
    errors = {name: float(np.abs(w - right).max() / right.max()) for name, w in weights.items() if name != "scale"}
    if max(errors.values()) > LIMITS[dtype]:
        raise SystemExit(f"answers differ: {errors}")
    return {name: found[1:] for name, found in times.items()}, errors


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    print(f"{options.rows} rows, {options.dtype}, K = {K}; medians of {options.rounds} rounds, in turn")
    for threads in options.threads:
        fastml.set_num_threads(threads)
        times, errors = measure(options.rows, options.dtype, options.rounds)
        medians = {name: statistics.median(found) for name, found in times.items()}
        print(f"\n{'threads ' + str(threads):<12}{'ms':>9}{'x scale':>10}{'numpy / it':>12}{'error':>10}")
        for name, median in medians.items():
            error = f"{errors[name]:>10.0e}" if name in errors else ""
            ratios = f"{median / medians['scale']:>10.2f}{medians['numpy'] / median:>12.1f}"
            print(f"{name:<12}{1e3 * median:>9.2f}{ratios}{error}")
        results.append({"threads": threads, "seconds": times, "medians": medians, "errors": errors})
    if options.json:
        report = {
            "rows": options.rows, "dtype": options.dtype, "classes": K, "machine": bench.machine(), "results": results,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
