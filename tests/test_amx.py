"""The AMX rung: float32 products as three bfloat16 parts in tiles.

On a CPU without AMX the last test builds the back end with emulated tile instructions (native/amx.h) and runs there
what could not run here: these tests, and the walk over the grid of sizes, the bitwise promises and the extremes.
"""

import importlib.util
import os
import re
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
from problems import WEIGHTS, answer, bitwise, check, draw, pack, packed
from test_long import peak

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


def without_dx(problem):
    """Outputs and gradients of a problem whose x is one-hot."""
    got = problem.run()
    assert got.pop("dx") is None
    return got


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


@pytest.mark.parametrize("B", [15, 16, 33])
def test_one_pack_for_any_batch(amx, variant, B):
    """AVX-512's weights and its own lie in one pack; look-ups read the former's."""
    I, H = 70, 40
    weights = pack(draw(variant, B=1, I=I, H=H, dtype="float32"))
    for T in (1, 6):
        x = np.random.default_rng(T).integers(0, I, (T, B))
        for given in (None, fastml.OneHot(x)):
            problem = draw(variant, T=T, B=B, I=I, H=H, dtype="float32", lengths=True)
            problem = problem.having(**{name: weights.arrays[name] for name in WEIGHTS})
            problem = problem.having(x=given) if given else problem
            bitwise(packed(problem, weights).forward()[0], problem.forward()[0], f"T={T}, one-hot: {bool(given)}")


def test_look_ups(amx, variant, threads):
    """Of columns of w_ih as it is, of its columns beside each other, and of a pack's: the same numbers."""
    for I in (5, 2000):
        problem = draw(variant, T=9, B=17, I=I, H=49, dtype="float32", lengths=True)
        indices = np.random.default_rng(I).integers(0, I, (9, 17))
        dense = problem.having(x=np.eye(I, dtype="float32")[indices])
        problem = problem.having(x=fastml.OneHot(indices))
        threads(1)
        want = without_dx(problem)
        check(want, dense)
        bitwise(without_dx(packed(problem)), want, f"I={I}, packed")
        for n in (2, 3):
            threads(n)
            bitwise(without_dx(problem), want, f"I={I}, {n} threads")


@pytest.mark.parametrize("B", [16, 40, 200])
def test_step_by_step(amx, variant, B, threads):
    """Steps that are a pass each, with and without a pack: the bits of all of them in one."""
    T, I, H = 3, 21, 130
    problem = draw(variant, T=T, B=B, I=I, H=H, dtype="float32")
    want, x = problem.forward()[0], problem.inputs["x"]
    for n in (1, 3):
        threads(n)
        for same in (problem, packed(problem)) if B < 200 else (problem,):
            states = {name: array for name, array in same.inputs.items() if name in ("h0", "c0")}
            for t in range(T):
                outputs = same.having(x=x[t : t + 1], **states).forward(keep=False)[0]
                bitwise({"y": outputs["y"][0]}, {"y": want["y"][t]}, f"step {t}, {n} threads")
                states = {name: outputs[f"{name[0]}_n"] for name in states}


@pytest.mark.parametrize("B", [15, 16, 33])
@pytest.mark.parametrize("kind, options", [("RNN", {}), ("GRU", {}), ("GRU", {"reset_after": False}), ("LSTM", {})])
def test_stream(amx, kind, options, B):
    layer = getattr(fastml, kind)(21, 70, 2, **options, seed=0)
    x = np.random.default_rng(0).normal(size=(5, B, 21)).astype("float32")
    want, stream = layer(x)[0], layer.stream(B)
    got = np.stack([stream.step(x_t).copy() for x_t in x])
    bitwise({"y": got}, {"y": want})


@pytest.mark.parametrize("sizes", [{"B": 16, "H": 130}, {"B": 17, "H": 200}], ids=str)
def test_team(amx, variant, threads, monkeypatch, sizes):
    """Workers that share out the hidden units: more threads than sequences."""
    problem = draw(variant, T=9, I=19, **sizes, dtype="float32", lengths=True)
    native = importlib.import_module(f"fastml.kernels.native.{problem.family}")
    indices = np.random.default_rng(0).integers(0, 19, (9, sizes["B"]))
    one_hot = problem.having(x=fastml.OneHot(indices))
    threads(1)
    want, want_one_hot = problem.run(), without_dx(one_hot)
    threads(20)
    monkeypatch.setattr(fastml.threads, "TEAM", 0)
    monkeypatch.setattr(native, "REST", (-1.0, -1.0))  # a team that gave up is tried again at once
    bitwise(problem.run(), want, str(problem))
    bitwise(without_dx(packed(one_hot)), want_one_hot, str(problem))


@pytest.mark.parametrize("B", [15, 20])
def test_memory(amx, threads, B):
    """Of inference almost to the byte, of training within a tenth of what NumPy is asked for."""
    for layer, T in ((fastml.LSTM(40, 48), 300), (fastml.GRU(70, 33, 2), 200)):
        x, dy = np.zeros((T, B, layer.input_size), "f4"), np.zeros((T, B, layer.hidden_size), "f4")

        def training(layer=layer, x=x, dy=dy):
            y, last, tape = layer.forward(x)
            return y, last, layer.backward(tape, dy)

        for n in (1, 2):
            threads(n)
            inference = peak(lambda layer=layer, x=x: layer(x))[0]
            assert layer.memory(T, B, training=False) == pytest.approx(inference, rel=0.02)
            assert layer.memory(T, B) == pytest.approx(peak(training)[0], rel=0.1)


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
    for pattern, new in {
        '"-O3"': '"-O1", "-DFM_AMX_EMULATED"',
        "(?m)^FAMILIES = .*$": 'FAMILIES = ("isa", "rnn", "gru", "lstm")',  # the rung is the recurrent families'
    }.items():
        setup, found = re.subn(pattern, new, setup)
        assert found == 1
    (tmp_path / "setup.py").write_text(setup)

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
    tests = [f"tests/test_{name}.py" for name in ("amx", "backends", "invariants", "extremes", "packed", "onehot")]
    python("-m", "pytest", *tests, "-n", "0", "-k", "(amx or native-amx) and not in_emulation", cwd=SOURCE)
