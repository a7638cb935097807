"""What the first seconds cost: importing fastml, and the first call of every kernel in each back end.

    python bench/bench_first_call.py [--rounds 5] [--backend native] [--json FILE]

Each figure is the median over fresh processes. Import: fastml's own time after NumPy is there. First call: the public
call of a kernel on a small float32 problem that the process has not run before, and the second one of the same for
comparison; `jit` twice, with an empty Numba cache (it compiles) and with the cache that this left (it loads). A kernel
is called after those above it, so what kernels share (Numba itself, loading the extension) is paid by the first.

Left out: installing, and the interpreter's and NumPy's own start; the disk's cache is warm after the first process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fastml import backend, bench
from fastml.cli import seconds
from fastml.kernels.table import KERNELS

IMPORT = """
import sys, numpy
from time import perf_counter
start = perf_counter()
import fastml
spent = perf_counter() - start
import json
heavy = [name for name in ("numba", "rich", "torch", "matplotlib") if name in sys.modules]
print(json.dumps({"seconds": spent, "heavy": heavy}))
"""

CALLS = """
import json, sys
from time import perf_counter
import fastml
from fastml import bench
from fastml.kernels.table import KERNELS
found = {}
with fastml.use(sys.argv[1]):
    for row in KERNELS:
        if fastml.available()[row.name][sys.argv[1]] is None:
            call = bench.prepare(row, bench.problem(row, "small"))
            times = []
            for _ in range(2):
                start = perf_counter()
                call()
                times.append(perf_counter() - start)
            found[row.name] = times
print(json.dumps(found))
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes for each figure")
    parser.add_argument("--backend", action="append", choices=backend.BACKENDS, help="may be repeated; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    arguments = parser.parse_args(argv)

    imports = [fresh(IMPORT) for _ in range(arguments.rounds)]
    print(f"import fastml, after numpy: {seconds(statistics.median(i['seconds'] for i in imports))}", end="")
    print(f"; it imports {', '.join(imports[0]['heavy']) or 'neither Numba nor rich'}\n")

    columns: dict[str, list[dict]] = {}
    for runner in bench.contenders(arguments.backend or ()):
        if runner.backend != "jit":
            columns[runner.backend] = [fresh(CALLS, runner.backend) for _ in range(arguments.rounds)]
            continue
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for state in ("jit, no cache", "jit, cached"):
                    columns.setdefault(state, []).append(fresh(CALLS, "jit", NUMBA_CACHE_DIR=cache))
    print(f"{'':<15}" + "".join(f"{head:^24}" for head in columns))
    print(f"{'kernel':<15}" + f"{'first':>12}{'second':>12}" * len(columns))
    for row in KERNELS:
        medians = [
            seconds(statistics.median(run[row.name][n] for run in runs)) if row.name in runs[0] else "-"
            for runs in columns.values()
            for n in (0, 1)
        ]
        print(f"{row.name:<15}" + "".join(f"{median:>12}" for median in medians))
    if arguments.json:
        report = {"machine": bench.machine(), "import": imports, "calls": columns}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def fresh(code: str, *argv: str, **environment: str) -> dict:
    """What `code` prints as JSON in a process of its own."""
    out = subprocess.check_output(
        [sys.executable, "-P", "-c", code, *argv], env={**os.environ, **environment}, text=True
    )
    return json.loads(out)


if __name__ == "__main__":
    sys.exit(main())
