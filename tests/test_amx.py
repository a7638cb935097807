"""The AMX rung: float32 products as three bfloat16 parts in tiles.

On a CPU without AMX the last test builds the back end with emulated tile instructions (native/amx.h) and runs there
what could not run here: these tests, and the walk over the grid of sizes, the bitwise promises and the extremes.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from cells import on, required, why_not
from compare import error
from problems import answer, bitwise, check, draw

import fastml

AMX, AVX512 = ("native", "amx"), ("native", "avx512")
SOURCE = Path(__file__).parents[1]

# Each problem at another place of both lists: every batch with every number of units.
BATCHES = (16, 17, 31, 32, 33, 48)
UNITS = (1, 15, 16, 17, 33, 64, 65)


@pytest.fixture
def amx():
    """A block on the rung; skips, or fails where it is required, with the reason."""
    reason = why_not(AMX)
    if reason:
        (pytest.fail if required(AMX) else pytest.skip)(reason)
    with on(AMX):
        yield


def problems(variant):
    for k in range(len(BATCHES) * len(UNITS)):
        B, H, I = BATCHES[k % len(BATCHES)], UNITS[k % len(UNITS)], UNITS[(k // len(UNITS) + k) % len(UNITS)]
        yield draw(variant, T=7, B=B, I=I, H=H, dtype="float32", lengths=k % 2 == 0, reverse=k % 3 == 0)


def test_no_less_accurate_than_avx512(amx, variant):
    """Mean and largest error over the problems, of each output and gradient."""
    errors = {AMX: [], AVX512: []}
    for problem in problems(variant):
        for rung, found in errors.items():
            with on(rung):
                got = problem.run()
            check(got, problem)
            found.append([error(got[name], want) for name, want in answer(problem).items()])
    for of, most in ((np.mean, 1.5), (np.max, 2)):
        ours, theirs = (of(found, axis=0) for found in errors.values())
        assert (ours <= most * theirs).all(), f"{variant}: {ours} is more than {most} times {theirs}"


def test_bits(amx, variant, threads):
    """Its own from 16 sequences on, for any number of threads; those of AVX-512 below, and in float64."""
    for B, dtype, own in ((15, "float32", False), (16, "float32", True), (33, "float32", True), (33, "float64", False)):
        problem = draw(variant, T=20, B=B, I=17, H=65, dtype=dtype, lengths=True)
        threads(1)
        got = problem.run()
        for n in (2, 3):
            threads(n)
            bitwise(problem.run(), got, f"{problem}, {n} threads")
        with on(AVX512):
            other = problem.run()
        if own:
            assert all((got[name] != other[name]).any() for name in ("y", "dx", "dh0", "dw_ih", "dw_hh"))
        else:
            bitwise(got, other, str(problem))


def test_what_is_not_finite(amx, variant):
    """As on AVX-512, in the sequence it belongs to; the last 0.3 % of the range count as infinite."""
    clean = draw(variant, T=4, B=20, I=5, H=19, dtype="float32")
    others = np.arange(20) != 3
    want = clean.run()
    for value, like in ((np.nan, np.nan), (np.inf, np.inf), (-np.inf, -np.inf), (3.4e38, np.inf), (3e38, 3e38)):
        x, as_avx512 = clean.inputs["x"].copy(), clean.inputs["x"].copy()
        x[1, 3, 2], as_avx512[1, 3, 2] = value, like
        got = clean.having(x=x).run()
        for name in ("y", "dx"):
            bitwise({name: got[name][:, others]}, {name: want[name][:, others]}, f"{value} in x")
        with on(AVX512):
            other = clean.having(x=as_avx512).run()
        assert error(got["y"], other["y"]) < 1e-5, f"{value} in x"
        assert np.isfinite(got["dw_ih"]).all() == np.isfinite(other["dw_ih"]).all()


def test_denormals_count_as_zero(amx, variant):
    """With weights at which they would be seen."""
    tiny, large = np.finfo("float32").tiny / 4, np.finfo("float32").max / 100
    problem = draw(variant, T=1, B=18, dtype="float32")
    problem = problem.having(**{name: np.full_like(problem.inputs[name], large) for name in ("w_ih", "w_hh")})
    x = problem.inputs["x"]
    got, want = (problem.having(x=np.full_like(x, value)).run() for value in (tiny, 0))
    bitwise(got, want)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_a_signal_handler_may_use_the_tiles(amx, threads):
    """A pass goes on with its own after the handler's pass has released them."""
    threads(1)
    small = draw("lstm", T=2, B=16, I=3, H=5, dtype="float32")  # emulated tiles are a family's own
    layer, x = fastml.LSTM(96, 96, seed=0), np.ones((400, 32, 96), "float32")
    want, handled = layer(x)[0], []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(small.run()))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        end = time.monotonic() + 10
        while len(handled) < 5 and time.monotonic() < end:
            bitwise({"y": layer(x)[0]}, {"y": want})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) >= 5


# ------------------------------------------------------------------------------------------------------ in emulation


def cannot_emulate():
    """Why the emulation cannot be built or run here; None where it can."""
    if fastml.available()["lstm_forward"]["native"]:
        return fastml.available()["lstm_forward"]["native"]
    if not sys.platform.startswith("linux") or "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        return "the rung's vector side takes Linux and AVX512_BF16"
    if not (SOURCE / "setup.py").exists():
        return "no source tree"
    for module in ("Cython", "setuptools"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    return None if shutil.which(compiler) else f"no C compiler {compiler!r}"


def test_in_emulation(tmp_path):
    if "amx" in fastml.backend.rungs():
        pytest.skip("this CPU has AMX: its own tiles are tested")
    reason = cannot_emulate()
    if reason:
        pytest.skip(reason)
    skip = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(SOURCE / "fastml", tmp_path / "fastml", ignore=skip)
    setup = (SOURCE / "setup.py").read_text()
    assert '"-O3"' in setup
    (tmp_path / "setup.py").write_text(setup.replace('"-O3"', '"-O1", "-DFM_AMX_EMULATED"'))

    def python(*arguments, cwd, **environment):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FASTML_REQUIRE": "amx", **environment}
        for name in ("FASTML_ISA", "FASTML_BACKEND", "FASTML_NUM_THREADS"):
            environment.pop(name, None)
        command = [sys.executable, "-P", *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

    python("setup.py", "-q", "build_ext", "--inplace", cwd=tmp_path)
    where = "import fastml; assert 'amx' in fastml.backend.rungs(); assert fastml.backend.active_isa() == 'avx512'"
    python("-c", where, cwd=tmp_path)
    tests = [f"tests/test_{name}.py" for name in ("amx", "backends", "invariants", "extremes")]
    python("-m", "pytest", *tests, "-k", "(amx or native-amx) and not in_emulation", cwd=SOURCE)
