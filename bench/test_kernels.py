"""Every kernel × size × dtype × back end under pytest-benchmark, one group for each problem, NumPy in every group.

    python -m pytest bench --benchmark-enable [--every-rung] [-k "lstm and large"] [--benchmark-json=FILE]

What is timed is the public call on random arrays, checks and allocation included; forward passes with ``keep=True``.
`extra_info` says what a figure belongs to: sizes, back end, ISA rung, threads, and how many GFLOP the matrix products
of one call are, GFLOP/s at the median, the largest error against the reference in float64, and the first call.

Left out: pytest-benchmark runs one contender after another, so the ratios within a group carry the drift of the
machine between them (`fastml bench` interleaves); no BLAS peak; no real data. The threads are FASTML_NUM_THREADS's.
Without --benchmark-enable (the tests' setting is --benchmark-disable) each case runs once, as a smoke test.
"""

from time import perf_counter

import pytest

import fastml
from fastml import bench
from fastml.kernels.table import KERNELS


def pytest_generate_tests(metafunc):
    runners = bench.contenders(every_rung=metafunc.config.getoption("--every-rung"))
    grid = fastml.available()
    metafunc.parametrize(
        "row, size, dtype, runner",
        [
            pytest.param(row, size, dtype, runner, id=f"{row.name}-{size}-{dtype}-{runner.label.replace(' ', '-')}")
            for row in KERNELS
            for size in row.sizes
            for dtype in row.tolerance
            for runner in runners
            if grid[row.name][runner.backend] is None
        ],
    )


def test_kernel(benchmark, row, size, dtype, runner):
    sizes = row.sizes[size]
    arrays = bench.problem(row, size, dtype)
    with runner.chosen():
        call = runner.bind(bench.prepare(row, arrays))
    start = perf_counter()
    result = call()
    first = perf_counter() - start
    error = bench.difference(bench.answers(row, result), bench.exact(row, arrays))
    assert error <= row.tolerance[dtype]

    gflop = bench.gflop(row, sizes)
    benchmark.group = f"{row.name} {size} {dtype}"
    benchmark.extra_info.update(
        sizes, backend=runner.backend, isa=runner.isa, threads=fastml.get_num_threads(),
        gflop=gflop, error=error, first_call=first,
    )  # fmt: skip
    benchmark(call)
    if benchmark.stats is not None and gflop is not None:
        benchmark.extra_info["gflops"] = gflop / benchmark.stats.stats.median
