"""What only the jit back end has: chunks of time and parts of the batch, a cache of its own, vectors of any width."""

import os
import subprocess
import sys

import numpy as np
import pytest
from problems import check, draw

import fastml

pytest.importorskip("numba")

from fastml.kernels.jit import compiling, sequence


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reverse", [False, True])
def test_many_chunks_and_parts(variant, dtype, reverse, monkeypatch, threads):
    """Small problems cut as finely as large ones: right, and the same bits for any number of threads."""
    for name, value in {"CHUNK_BYTES": 1, "CHUNK_ROWS": 5, "PART": 3, "THREAD_WORK": 1}.items():
        monkeypatch.setattr(sequence, name, value)
    problem = draw(variant, T=13, B=11, I=5, H=17, dtype=dtype, lengths=True, reverse=reverse)
    with fastml.use("jit"):
        threads(1)
        one = problem.run()
        check(one, problem)
        for n in (2, 3, 5):
            threads(n)
            for name, array in problem.run().items():
                assert array.tobytes() == one[name].tobytes(), f"{name}, {n} threads"


def test_shares_of_equal_lengths():
    order = sequence.Order(np.full(8, 10), False, 100)
    assert [list(order.spans(w, 4)) for w in range(4)] == [[(0, 2)], [(2, 4)], [(4, 6)], [(6, 8)]]


def test_stops_between_pieces():
    seen = []
    job = sequence._Job(lambda worker, workers: (seen.append(i) for i in range(1000)))
    job.stop()
    job.work(0, 1)
    assert seen == [0]


def test_without_a_place_for_the_cache(monkeypatch):
    njit = compiling.numba.njit

    def unwritable(*function, **options):
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function")
        return njit(*function, **options)

    monkeypatch.setattr(compiling.numba, "njit", unwritable)
    assert compiling.compiled(lambda x: x + 1)(1) == 2


def test_the_cache_knows_every_file():
    """Numba's own stamp misses a change in what a function calls. A Numba that stamps in another way shows here."""
    cache = sequence._gather._cache
    assert not hasattr(cache, "_cache_file") or cache._cache_file._source_stamp == compiling.SOURCES


def test_processes_that_compile_at_once(tmp_path, monkeypatch):
    """Both read the cache's index before either wrote to it: none loads the code of the other's signature."""
    caching = pytest.importorskip("numba.core.caching")
    monkeypatch.setattr(compiling.numba.config, "CACHE_DIR", str(tmp_path))
    writes = []

    def half(x):
        return x * 0.5

    with monkeypatch.context() as patch:
        write = caching.IndexDataCacheFile._save_data
        patch.setattr(caching.IndexDataCacheFile, "_save_data", lambda *call: writes.append(lambda: write(*call)))
        patch.setattr(caching.IndexDataCacheFile, "_load_index", lambda file: {})
        for x in (3, 1.5):
            assert compiling.compiled(half)(x) == x / 2
    for late in reversed(writes):
        late()
    later = compiling.compiled(half)
    assert len(writes) == 2 and later(1.5) == 0.75 and sum(later.stats.cache_hits.values()) == 1


NARROW = """
from problems import check, draw
import fastml
from fastml.kernels.jit import simd
assert simd.BYTES == 16 and not simd.FMA or simd.ARM
fastml.use("jit")
for dtype in ("float32", "float64"):
    problem = draw("lstm", T=5, B=6, I=3, H=9, dtype=dtype, lengths=True)
    check(problem.run(), problem)
"""


def test_a_cpu_without_avx(tmp_path):
    """Short vectors, few registers, no fused multiply-add."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
    subprocess.run([sys.executable, "-P", "-c", NARROW], env=environment, check=True)
