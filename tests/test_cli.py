"""The command line: what it prints, writes and refuses. Tiny sizes, and no clocks."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastml
from fastml import backend, bench, cli, saving
from fastml.kernels.table import KERNELS

TINY = "T=9,B=2,I=5,H=7"
ALL = TINY + ",N=300,D=3,K=2,V=4,E=5,depth=2"
ROOT = Path(__file__).parent.parent
MATPLOTLIB = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small arrays for the peaks, little text, no pauses; and the thread count put back."""
    gemm, copy, text, threads = bench.gemm_peak, bench.copy_peak, bench.stdlib_text, fastml.get_num_threads()
    monkeypatch.setattr(bench, "gemm_peak", lambda dtype: gemm(dtype, n=64, rounds=1))
    monkeypatch.setattr(bench, "copy_peak", lambda: copy(1, rounds=1))
    monkeypatch.setattr(bench, "stdlib_text", lambda: text(limit=2_000))
    monkeypatch.setattr(bench, "SETTLE", 0)
    yield
    fastml.set_num_threads(threads)


def refused(capsys, *argv: str) -> str:
    """The message of a command that must end with status 2 before it measures anything."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *argv])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    return err


def other() -> str:
    """A back end to time beside the reference, the quickest to start; the reference where nothing else runs."""
    return ([runner.backend for runner in bench.contenders()] + ["reference"])[1]


def test_show(capsys):
    assert cli.main(["show"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in KERNELS.names())


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastml {fastml.__version__}\n"


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "{show,bench,lm}" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-P", "-m", "fastml.cli", "show"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "lstm_backward" in done.stdout


def test_whole_run(capsys, tmp_path):
    path = tmp_path / "r.json"
    assert cli.main(["bench", "--size", ALL, "--threads", "1", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    for name in (*KERNELS.names(), "characters/s", "reference (NumPy)", "threads 1"):
        assert name in out
    for sizes in ("T=9 B=2 I=5 H=7", "N=300 D=3 K=2", "N=300 K=2 V=4"):
        assert sizes in out
    assert max(map(len, out.splitlines())) <= cli.WIDTH
    assert "…" not in out
    count = len(KERNELS) + 2
    assert [line.split("]")[0].strip("[ ") for line in err.splitlines()] == [
        f"{n}/{count}" for n in range(1, count + 1)
    ]

    report = json.loads(path.read_text())
    runners = [runner.backend for runner in bench.contenders()]
    assert report["complete"] is True
    assert report["command"] == f"fastml bench --size {ALL} --threads 1 --json {path}"
    assert report["machine"]["threads"] == 1
    assert set(report["machine"]) >= {"cpu", "cpus", "isa", "rungs", "blas", "versions", "environment", "load"}
    served = [(kernel, name) for kernel, grid in fastml.available().items() for name in runners if not grid[name]]
    assert [(c["kernel"], c["backend"]) for c in report["cells"]] == served
    assert all(len(c["times"]) >= 3 and c["error"] <= c["tolerance"] for c in report["cells"])
    assert all(t["bits"][-1] < t["bits"][0] for t in report["training"])
    assert not list(tmp_path.glob(".*"))


def test_kernel_and_backend_choose(capsys, tmp_path):
    path = tmp_path / "r.json"
    argv = ["--kernel", "rnn", "--kernel", "lstm_forward", "--backend", "reference", "--size", TINY]
    assert cli.main(["bench", *argv, "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [c["kernel"] for c in report["cells"]] == ["rnn_forward", "rnn_backward", "lstm_forward"]
    assert {c["backend"] for c in report["cells"]} == {"reference"}
    assert report["training"] == []
    assert "characters/s" not in capsys.readouterr().out


def test_a_size_is_of_the_kernels_that_it_fits(tmp_path):
    path = tmp_path / "r.json"
    for size, families in (
        (TINY, {"rnn", "gru", "lstm"}),
        ("N=300,D=3,K=2", {"gaussian", "samme", "exponential", "adam"}),
        ("N=300", {"samme", "adam"}),
    ):
        assert cli.main(["bench", "--backend", "reference", "--size", size, "--json", str(path)]) == 0
        report = json.loads(path.read_text())
        assert {KERNELS[c["kernel"]].family for c in report["cells"]} == families
        assert bool(report["training"]) == (size == TINY)


def test_full_has_both_dtypes_and_seven_rounds(tmp_path):
    path = tmp_path / "r.json"
    argv = ["--full", "--kernel", "rnn_forward", "--backend", "reference", "--size", TINY]
    assert cli.main(["bench", *argv, "--json", str(path)]) == 0
    assert [(c["dtype"], len(c["times"]) >= 7) for c in json.loads(path.read_text())["cells"]] == [
        ("float32", True),
        ("float64", True),
    ]


def test_training_alone(capsys):
    assert cli.main(["bench", "--kernel", "training", "--backend", "reference", "--size", TINY]) == 0
    out = capsys.readouterr().out
    assert "characters/s" in out
    assert "\nrnn_forward " not in out


def test_a_back_end_that_cannot_run_is_stated_with_its_reason(capsys):
    cli.main(["bench", "--kernel", "rnn_forward", "--size", TINY])
    out = " ".join(capsys.readouterr().out.split())
    for name, reasons in bench.missing().items():
        assert f"{name} serves no" in out
        assert all(reason in out for reason in reasons)


def test_asking_for_a_back_end_that_cannot_run_is_an_error(capsys, monkeypatch):
    monkeypatch.setattr(bench, "missing", lambda: {"jit": {"numba is not installed": list(KERNELS.names())}})
    assert "--backend: jit cannot run here: numba is not installed" in refused(capsys, "--backend", "jit")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--kernel", "lstm_sideways"], "--kernel: expected one of rnn_forward, "),
        (["--kernel", "lstm_sideways"], "training, got 'lstm_sideways'"),
        (["--backend", "cuda"], f"--backend: expected one of {', '.join(backend.BACKENDS)}, got 'cuda'"),
        (["--threads", "0"], "--threads: expected at least 1, got 0"),
        (["--threads", "two"], "invalid int value: 'two'"),
        (
            ["--size", "T=9"],
            "a size of at least 1 for each of B, H, I, T or D, K, N or K, N, V or N or K, N or D, E, K, N, depth "
            "or H, N, V, got 'T=9'",
        ),
        (["--kernel", "lstm", "--size", "T=9"], "expected a size of at least 1 for each of B, H, I, T, got 'T=9'"),
        (["--kernel", "lstm", "--kernel", "gaussian", "--size", TINY], "each of B, H, I, T and D, K, N, got 'T=9,"),
        (["--size", TINY + ",X=1"], "--size: expected a size of at least 1 for each of"),
        (["--size", "T=9,B=2,I=5,H=0"], "--size: expected a size of at least 1"),
        (["--size", "9x2"], "--size: expected sizes such as T=1000"),
        (["--json", "no/such/folder/r.json"], "--json: cannot write no/such/folder/r.json: No such file or directory"),
        (["--json", "."], "--json: cannot write .: . is no file"),
    ],
)
def test_wrong_arguments_are_refused_before_measuring(capsys, argv, message):
    assert message in refused(capsys, *argv)


@pytest.mark.parametrize("command", ["show", "bench"])
@pytest.mark.parametrize(
    ("name", "value"), [("FASTML_NUM_THREADS", "many"), ("FASTML_ISA", "mmx"), ("FASTML_BACKEND", "cuda")]
)
def test_a_wrong_environment_is_an_error_not_a_traceback(command, name, value):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fastml.cli", command, *["--kernel", "rnn"][: 2 * (command == "bench")]],
        env={**os.environ, name: value}, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"error: {name}" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_sources_is_an_error_that_names_the_way_out(capsys, monkeypatch):
    def nothing():
        raise FileNotFoundError("no *.py files")

    monkeypatch.setattr(bench, "stdlib_text", nothing)
    assert "no *.py files; choose kernels with --kernel to leave it out" in refused(capsys)


def test_interrupted_prints_and_writes_what_there_is(capsys, monkeypatch, tmp_path):
    measure = bench.measure

    def stopped(row, *rest, **options):
        if row.name == "gru_forward":
            raise KeyboardInterrupt
        return measure(row, *rest, **options)

    monkeypatch.setattr(bench, "measure", stopped)
    path = tmp_path / "r.json"
    assert cli.main(["bench", "--backend", "reference", "--size", TINY, "--json", str(path)]) == 130
    out, err = capsys.readouterr()
    assert "rnn_backward" in out
    assert "\ngru_forward " not in out
    assert "interrupted" in err
    report = json.loads(path.read_text())
    assert report["complete"] is False
    assert [c["kernel"] for c in report["cells"]] == ["rnn_forward", "rnn_backward"]


def test_interrupted_at_once(capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "gemm_peak", stopped)
    assert cli.main(["bench", "--backend", "reference", "--size", TINY]) == 130
    assert "threads" in capsys.readouterr().out


def test_a_wrong_answer_is_marked_and_fails(capsys, monkeypatch):
    monkeypatch.setattr(bench, "difference", lambda *_: float("nan"))
    assert cli.main(["bench", "--kernel", "rnn_forward", "--backend", "reference", "--size", TINY]) == 1
    out = capsys.readouterr().out
    assert "nan!" in out
    assert "reference is off by nan" in out


def test_a_share_above_the_peak_is_explained(capsys, monkeypatch):
    monkeypatch.setattr(bench, "gemm_peak", lambda dtype: 1e-9)
    cli.main(["bench", "--kernel", "rnn_forward", "--backend", "reference", "--size", TINY])
    out = capsys.readouterr().out
    assert "A share above 100% is possible" in out


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), saving.replaced(path) as new:
        new.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_plot_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert "--plot needs matplotlib: pip install fastml[plot]" in refused(capsys, "--plot", "p.png")


@MATPLOTLIB
def test_plot_refuses_what_it_cannot_draw(capsys):
    assert "expected a name that ends in .png, .pdf or .svg, got 'p.txt'" in refused(capsys, "--plot", "p.txt")
    assert "no ratio to plot" in refused(capsys, "--plot", "p.png", "--backend", "reference")


@MATPLOTLIB
@pytest.mark.skipif(other() == "reference", reason="needs a second back end")
def test_plot_is_written(tmp_path):
    path = tmp_path / "p.png"
    argv = ["--kernel", "lstm_forward", "--kernel", "training", "--backend", other(), "--size", TINY]
    assert cli.main(["bench", *argv, "--plot", str(path)]) == 0
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.iterdir()) == [path]


@MATPLOTLIB
def test_figure_shows_gains_and_losses():
    cell = {
        "kernel": "lstm_forward", "size": "small", "sizes": {}, "dtype": "float32", "isa": None, "error": 0.0,
        "tolerance": 1.0, "first_call": 1.0, "times": [1.0], "seconds": 1.0, "gflops": 1.0,
    }  # fmt: skip
    ratios = {"reference": 1.0, "native": 20.0, "jit": 0.5}
    cells = [bench.Measurement(backend=name, ratio=ratio, **cell) for name, ratio in ratios.items()]
    (axes,) = cli._figure(bench.Report("", "", bench.machine(), {}, cells=cells)).axes
    assert axes.get_xscale() == "log"
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches] == [(1, 20), (1, 0.5)]
    assert [label.get_text() for label in axes.texts] == ["20.0", "0.50"]


# ------------------------------------------------------------------------------------------------------ bench/report.py


@pytest.fixture
def results(tmp_path, capsys):
    path = tmp_path / "r.json"
    cli.main(["bench", "--kernel", "lstm", "--kernel", "training", "--size", TINY, "--json", str(path)])
    capsys.readouterr()
    return path


@pytest.fixture
def report():
    spec = importlib.util.spec_from_file_location("report", ROOT / "bench" / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_report_writes_the_table_and_check_finds_a_stale_one(results, report, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    argv = [str(results), "--readme", str(readme)]
    assert report.main([*argv, "--check"]) == 1
    assert "old" in readme.read_text()
    assert report.main(argv) == 0
    assert report.main([*argv, "--check"]) == 0
    text = readme.read_text()
    assert re.fullmatch(r"before\n<!-- bench -->\n.*\n<!-- /bench -->\nafter\n", text, re.DOTALL)
    assert "old" not in text
    for wanted in (
        "`lstm_forward`",
        "`lstm_backward`",
        "training step",
        "T=9 B=2 I=5 H=7",
        "fastml bench --kernel lstm",
    ):
        assert wanted in text
    readme.write_text(text.replace("GFLOP/s", "TFLOP/s"))
    capsys.readouterr()
    assert report.main([*argv, "--check"]) == 1
    assert "a table is not that of" in capsys.readouterr().err


def test_report_prints_losses(results, report):
    data = json.loads(results.read_text())
    data["cells"] += [
        {**data["cells"][0], "backend": "slow", "ratio": 0.5},
        {**data["cells"][0], "backend": "fast", "ratio": 2.0},
    ]
    table = report.table(data)
    assert "| 0.50x," in table
    assert "| **2.00x**," in table


def test_report_refuses_an_interrupted_run_and_a_readme_without_markers(results, report, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(SystemExit):
        report.main([str(results), "--readme", str(readme)])
    assert "needs one <!-- bench -->" in capsys.readouterr().err
    results.write_text(json.dumps({**json.loads(results.read_text()), "complete": False}))
    with pytest.raises(SystemExit):
        report.main([str(results), "--readme", str(readme)])
    assert "interrupted run" in capsys.readouterr().err
    assert readme.read_text() == "nothing"


def test_a_pipe_is_refused_and_a_link_stays_a_link(capsys, tmp_path):
    pipe, target, link = tmp_path / "pipe", tmp_path / "target.json", tmp_path / "link.json"
    os.mkfifo(pipe)
    assert f"--json: cannot write {pipe}: {pipe} is no file" in refused(capsys, "--json", str(pipe))
    target.touch()
    link.symlink_to(target)
    assert cli.main(["bench", "--kernel", "rnn_forward", "--size", TINY, "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["complete"]


def test_measurements_are_kept_where_nothing_can_be_printed(monkeypatch, tmp_path):
    def full(report):
        raise OSError("no space left on device")

    monkeypatch.setattr(cli, "_print", full)
    path = tmp_path / "r.json"
    with pytest.raises(OSError, match="no space"):
        cli.main(["bench", "--kernel", "rnn_forward", "--size", TINY, "--json", str(path)])
    assert json.loads(path.read_text())["complete"]
