"""What `fastml bench` measures: shapes, answers, rounds, the training step. No test asserts a time."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import fastml
from fastml import backend, bench
from fastml.kernels.table import FACTORS, KERNELS, shape_of

TINY = {"T": 12, "B": 2, "I": 5, "H": 7}
ALL = TINY | {"N": 300, "D": 3, "K": 2, "V": 4, "E": 5, "depth": 2}
NODES = {"P": 3, "Q": 7, "L": 4, "C": 2, "M": 2}  # of trees of that depth, and what they have a number for
ROOT = Path(__file__).parent.parent
ROWS = pytest.mark.parametrize("row", KERNELS, ids=KERNELS.names())
RECURRENT = [row for row in KERNELS if row.family in ("rnn", "gru", "lstm")]
RECURRENT_ROWS = pytest.mark.parametrize("row", RECURRENT, ids=[row.name for row in RECURRENT])


def tiny(row):
    return {letter: ALL[letter] for letter in bench.sizes_of(row)}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(bench, "SETTLE", 0)


@pytest.fixture
def text():
    return np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 40, np.uint8)


def test_shape_of_reads_the_table():
    sizes = {"T": 5, "B": 2, "I": 4, "H": 3}
    assert shape_of("T B I", sizes) == (5, 2, 4)
    assert shape_of("T+1 B H", sizes) == (6, 2, 3)
    assert shape_of("4H", sizes) == (12,)
    assert shape_of("float64 1", sizes) == (1,)


@RECURRENT_ROWS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_problem_has_every_argument_of_the_public_functions(row, dtype):
    arrays = bench.problem(row, TINY, dtype)
    assert arrays["x"].shape == (12, 2, 5)
    assert all(np.abs(arrays[name]).max() <= 7**-0.5 for name in arrays if name.startswith(("w_", "b_")))
    assert ("dy" in arrays) == row.name.endswith("_backward")
    assert not {"y", "gates", "cells", "lengths"} & set(arrays)


@ROWS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_problem_is_seeded_and_of_one_dtype(row, dtype):
    arrays = bench.problem(row, tiny(row), dtype)
    assert {a.dtype for a in arrays.values()} == {np.dtype(dtype)}
    again = bench.problem(row, tiny(row), dtype)
    other = bench.problem(row, tiny(row), dtype, seed=1)
    assert all((again[name] == a).all() for name, a in arrays.items())
    assert all((other[name] != a).any() for name, a in arrays.items() if a.ndim)  # the others are sizes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["gaussian_statistics", "multinomial_statistics"])
def test_shares_sum_to_one_in_each_dtype(name, dtype):
    arrays = bench.problem(KERNELS[name], "small", dtype)
    for shares in (arrays["weights"], arrays.get("probabilities", arrays["weights"])):
        assert (shares > 0).all()
        assert (shares.astype("float64").sum(axis=-1) == 1).all()


@RECURRENT_ROWS
def test_problem_takes_the_tables_own_sizes(row):
    for size, sizes in row.sizes.items():
        assert bench.problem(row, size)["x"].shape == tuple(sizes[letter] for letter in "TBI")


@pytest.mark.parametrize("D, K", [(1, 1), (4, 8), (64, 16)])
def test_clusters_overlap_unless_they_are_to_be_separated(D, K):
    for separation, least in ((0, min(2, K)), (3, 1)):
        arrays = bench.clusters(3000, D, K, np.random.default_rng(0), separation)
        assert arrays["weights"].sum() == pytest.approx(1)
        resp, _ = fastml.mixture.responsibilities(**arrays)
        assert (resp > 0.01).sum(axis=1).mean() >= least
        assert separation or (resp > np.exp(-60)).mean() > 0.99
        assert not separation or D < 64 or (resp > np.exp(-60)).sum(axis=1).mean() < 1.01


@ROWS
def test_answers_are_the_outputs_of_the_row_without_what_is_saved(row):
    arrays = bench.problem(row, tiny(row))
    found = bench.answers(row, bench.prepare(row, arrays)())
    assert set(found) == set(row.outputs) - {"gates", "cells", "labels"}
    for name, a in found.items():
        assert a.shape == shape_of(row.outputs[name].replace("factors", FACTORS["full"]), ALL | NODES)


def test_difference_is_relative_to_each_array_and_keeps_nan():
    right = {"a": np.array([100.0, 1.0]), "b": np.array([1e-3]), "empty": np.empty(0)}
    assert bench.difference(right, right) == 0
    assert bench.difference({**right, "a": np.array([100.0, 2.0])}, right) == pytest.approx(0.01)
    assert bench.difference({**right, "b": np.array([2e-3])}, right) == pytest.approx(1)
    assert np.isnan(bench.difference({**right, "a": np.array([np.nan, 1.0])}, right))


def test_rounds():
    assert list(bench.rounds(3, 9, seconds=0)) == [0, 1, 2]
    assert list(bench.rounds(3, 5, seconds=1e9)) == [0, 1, 2, 3, 4]


def test_interleave_takes_turns(monkeypatch):
    monkeypatch.setattr(bench, "SAMPLE", 0)
    turns = []
    times = bench.interleave({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, fewest=3, seconds=0)
    assert "".join(turns) == "ab" + "ababab"  # the warm-up, then three rounds
    assert [len(t) for t in times.values()] == [3, 3]


def test_contenders_start_with_the_reference_and_are_what_runs_here():
    grid = fastml.available()
    runs = {name for name in backend.BACKENDS if any(cells[name] is None for cells in grid.values())}
    found = bench.contenders()
    assert found[0] == ("reference", None)
    assert {runner.backend for runner in found} == runs
    assert bench.contenders(["reference"]) == found[:1]
    rungs = [runner.isa for runner in bench.contenders(every_rung=True) if runner.backend == "native"]
    assert rungs == (list(backend.rungs()) if "native" in runs else [])


def test_a_bound_call_keeps_its_back_end():
    served = [runner.bind(lambda: (fastml.active(), backend.active_isa())) for runner in bench.contenders()]
    for runner, call in zip(bench.contenders(), served, strict=True):
        assert call()[0] == runner.backend
        assert runner.isa in (None, call()[1])


@ROWS
def test_measure(row):
    sizes = tiny(row)
    found = bench.measure(row, sizes, "float32", bench.contenders(), fewest=3, most=3, seconds=0)
    assert found[0].backend == "reference"
    assert found[0].ratio == 1
    grid = fastml.available()[row.name]
    assert {c.backend for c in found} == {r.backend for r in bench.contenders() if grid[r.backend] is None}
    for c in found:
        assert (c.kernel, c.sizes, len(c.times)) == (row.name, sizes, 3)
        assert min(c.seconds, c.first_call, c.ratio, *c.times) > 0
        assert (c.gflops is None) if row.family == "tree" else c.gflops > 0
        assert c.error <= c.tolerance
        # of float32, but sums are float64, and trees of the same values the same
        assert c.error > 0 or row.family == "tree" or row.name in ("samme_error", "exponential_sum", "adam_squares")


def test_a_back_end_that_lacks_a_row_is_left_out_of_it_alone(monkeypatch):
    def missing(name, kernel, found=backend._missing):
        return "not written" if name != "reference" and kernel == "rnn_forward" else found(name, kernel)

    runners = bench.contenders()
    monkeypatch.setattr(backend, "_missing", missing)
    assert bench.contenders() == runners
    assert all("rnn_forward" in bench.missing()[r.backend]["not written"] for r in runners[1:])
    row = KERNELS["rnn_forward"]
    assert [c.backend for c in bench.measure(row, TINY, "float32", runners, seconds=0)] == ["reference"]


def test_measure_finds_a_wrong_answer(monkeypatch):
    right = bench.exact
    monkeypatch.setattr(bench, "exact", lambda *a: {name: array * 1.01 for name, array in right(*a).items()})
    (found,) = bench.measure(KERNELS["rnn_forward"], TINY, "float64", bench.contenders(["reference"]), seconds=0)
    assert found.error == pytest.approx(0.01 / 1.01)
    assert found.error > found.tolerance


def test_the_texts_are_pythons_sources():
    text = bench.stdlib_text(limit=10_000)
    assert text.dtype == np.uint8
    assert len(text) == 10_000
    assert (text == bench.stdlib_text(limit=10_000)).all()
    assert b"import" in text.tobytes()


def test_no_sources_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.py files"):
        bench.stdlib_text(tmp_path)


def test_training_falls_and_is_the_same_in_every_back_end(text):
    found = bench.train(text, bench.contenders(), TINY, fewest=20, most=20)
    assert [t.backend for t in found] == [runner.backend for runner in bench.contenders()]
    for t in found:
        assert t.bits[0] == pytest.approx(8, abs=0.3)  # 256 equally likely bytes
        assert t.bits[-1] < t.bits[0] - 1
        assert t.bits == pytest.approx(found[0].bits, rel=1e-3)
        assert t.gradient_difference < 1e-4
        assert (len(t.bits), len(t.times), len(t.lstm_times)) == (21, 20, 20)
        assert 0 < t.lstm_share < 1


def test_training_step_gives_the_gradient_of_its_loss():
    random = np.random.default_rng(3)
    T, B, I, H = 3, 2, 4, 3
    shapes = {"w_ih": (4 * H, I), "w_hh": (4 * H, H), "b_ih": 4 * H, "b_hh": 4 * H, "w_out": (256, H), "b_out": 256}
    weights = {name: random.uniform(-0.5, 0.5, shape) for name, shape in shapes.items()}
    x, targets = random.standard_normal((T, B, I)), random.integers(0, 256, (T, B)).astype("uint8")

    def loss() -> float:
        return bench.training_step(weights, x, targets, (None, None))[0]

    _, gradients, (h, c), _ = bench.training_step(weights, x, targets, (None, None))
    assert h.shape == c.shape == (B, H)
    for name, weight in weights.items():
        index = np.unravel_index(np.abs(gradients[name]).argmax(), weight.shape)
        kept, step = weight[index], 1e-4
        losses = []
        for k in (-2, -1, 1, 2):
            weight[index] = kept + k * step
            losses.append(loss())
        weight[index] = kept
        slope = np.log(2) * (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * step)  # nats
        assert gradients[name][index] == pytest.approx(slope, rel=1e-8)


def test_machine_says_what_the_figures_belong_to():
    found = bench.machine()
    assert found["threads"] == fastml.get_num_threads()
    assert found["versions"]["fastml"] == fastml.__version__
    assert all(found[key] for key in ("cpu", "architecture", "system", "blas"))


def test_machine_states_a_held_back_blas(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert bench.machine()["environment"]["OPENBLAS_CORETYPE"] == "Haswell"


def test_peaks_are_positive():
    assert bench.gemm_peak(n=64, rounds=1) > 0
    assert bench.copy_peak(mebibytes=1, rounds=1) > 0


def test_steps_fill_the_report(text, monkeypatch):
    monkeypatch.setattr(bench, "gemm_peak", lambda dtype: 100.0)
    monkeypatch.setattr(bench, "copy_peak", lambda: 10.0)
    rows = [KERNELS["rnn_forward"], KERNELS["lstm_backward"]]
    runners = bench.contenders(["reference"])
    plan = bench.Plan(rows, runners, text, dtypes=("float32", "float64"), sizes=TINY, seconds=0, cell=0)
    report = bench.Report("fastml bench", "now", bench.machine(), bench.missing())
    steps = bench.steps(plan, report)
    assert [label for label, _ in steps] == [
        "the machine's peaks",
        "rnn_forward float32",
        "lstm_backward float32",
        "rnn_forward float64",
        "lstm_backward float64",
        "training step on real text",
    ]
    for _, step in steps:
        step()
    assert [(c.kernel, c.dtype) for c in report.cells] == [(row.name, d) for d in plan.dtypes for row in rows]
    assert report.gemm == {"float32": 100.0, "float64": 100.0}
    assert len(report.training) == 1
    assert json.loads(json.dumps(asdict(report)))["cells"][0]["times"] == report.cells[0].times


def test_each_kernel_takes_its_letters_of_the_given_sizes(monkeypatch):
    rows = [KERNELS["rnn_forward"], KERNELS["gaussian_statistics"]]
    plan = bench.Plan(rows, bench.contenders(["reference"]), None, sizes=ALL, seconds=0, cell=0)
    report = bench.Report("fastml bench", "now", bench.machine(), bench.missing())
    for _, step in bench.steps(plan, report)[1:]:
        step()
    assert [c.sizes for c in report.cells] == [TINY, {"N": 300, "D": 3, "K": 2}]


# ------------------------------------------------------------------------------------------------------ bench/


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kernel_is_under_pytest_benchmark():
    command = [sys.executable, "-P", "-m", "pytest", "bench", "-p", "no:cacheprovider", "-k", "reference and small"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * len(KERNELS)} passed" in done.stdout or "." * 2 * len(KERNELS) in done.stdout


def test_first_calls(capsys):
    assert script("bench_first_call").main(["--rounds", "1", "--backend", "reference"]) == 0
    out = capsys.readouterr().out
    assert "it imports neither Numba nor rich" in out
    assert all(name in out for name in KERNELS.names())
