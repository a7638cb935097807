"""How `bench/` compares fastml with its peers: processes in turn, answers judged first. No test asserts a time."""

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest

from fastml import bench

BENCH = Path(__file__).parent.parent / "bench"
SIZES = {"T": 9, "B": 2, "I": 5, "H": 7}
SHAPE = "9,2,5,7"

OURS = next((runner.backend for runner in bench.contenders() if runner.backend != "reference"), None)
needs_ours = pytest.mark.skipif(OURS is None, reason="no back end but the reference runs here")

# A contender.py in which one contender is spoilt: DAMAGE is put where its prepared call is known.
SPOILT = """
import os, sys, time
sys.path.insert(0, {folder!r})
import contender
prepare = contender.PREPARE[{name!r}]
def spoilt(problem):
    call, answers = prepare(problem)
    calls = []
    def again():
        calls.append(1)
        {damage}
        return call()
    return again, answers
contender.PREPARE[{name!r}] = spoilt
contender.main()
"""


@pytest.fixture
def script(monkeypatch, threads):
    """Import a script of bench/, quick for these sizes; the number of threads is put back afterwards."""
    threads(1)
    monkeypatch.syspath_prepend(BENCH)
    peers = importlib.import_module("bench_peers")
    monkeypatch.setattr(peers, "SETTLE", 0)
    monkeypatch.setattr(peers, "peaks", lambda *_: {"reference": 100.0})
    return importlib.import_module


@pytest.fixture
def alone(script, monkeypatch):
    """bench_peers on a machine that has no other library: the reference judges."""
    peers = script("bench_peers")
    monkeypatch.setattr(peers, "installed", lambda name: False)
    return peers


@pytest.fixture
def spoil(alone, monkeypatch, tmp_path):
    def spoil(damage, name=OURS):
        path = tmp_path / "spoilt.py"
        path.write_text(SPOILT.format(folder=str(BENCH), name=name, damage=damage))
        monkeypatch.setattr(alone, "CONTENDER", path)
        return path

    return spoil


def run(peers, tmp_path, *more, cells=("lstm",)):
    path = tmp_path / "peers-1.json"
    argv = ["--shape", SHAPE, "--cell", *cells, "--rounds", "2", "--json", str(path)]
    status = peers.main([*argv, "--backend", OURS, *more])
    return status, json.loads(path.read_text())


def written(script, path, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- {path.stem} -->\n<!-- /{path.stem} -->\n")
    assert script("report").main([str(path), "--readme", str(readme)]) == 0
    assert script("report").main([str(path), "--readme", str(readme), "--check"]) == 0
    return readme.read_text()


def test_a_contender_prepares_answers_and_takes_turns(script, tmp_path):
    process = script("bench_peers").Process("reference", 1)
    try:
        problem = {"cell": "gru", "mode": "training", "sizes": SIZES, "answers": str(tmp_path / "a.npz")}
        reply = process.ask(do="prepare", **problem)
        assert reply["first"] > 0
        with np.load(tmp_path / "a.npz") as file:
            assert set(file) == {"y", "dx", "dw_ih", "dw_hh", "db_ih", "db_hh"}
            assert file["y"].shape == (9, 2, 7)
            assert sum(file[name].nbytes for name in file) == reply["held"]
        seconds = process.ask(do="turn", least=0, fewest=4)["seconds"]
        assert len(seconds) == 4
        assert min(seconds) > 0
        assert process.ask(do="release") == {}
        with pytest.raises(script("bench_peers").Failed, match="NoneType"):
            process.ask(do="turn")
        assert process.alive
    finally:
        process.close()
    assert not process.alive


@needs_ours
def test_every_installed_peer_agrees(script, tmp_path, capsys):
    peers = script("bench_peers")
    names = [name for name in peers.LIBRARIES if peers.installed(name)]
    if not names:
        pytest.skip("none of PyTorch, ONNX Runtime, OpenVINO and JAX is installed")
    cells = ("lstm", "gru", "rnn")
    status, report = run(peers, tmp_path, "--against", *names, cells=cells)
    out = capsys.readouterr().out
    assert status == 0, out
    assert report["complete"]
    assert [(row["cell"], row["mode"]) for row in report["results"]] == [(c, m) for c in cells for m in peers.MODES]
    for row in report["results"]:
        assert set(row["contenders"]) >= {OURS, *names}
        for name, c in row["contenders"].items():
            if "without" in c:
                assert name not in ("torch", "jax", OURS)
            else:
                assert len(c["times"]) == 2
                assert max(c["errors"].values()) < 1e-5
                assert len(c["errors"]) == {"training": 6, "inference": 1}[row["mode"]]
    assert "geometric mean" in out
    shown = written(script, tmp_path / "peers-1.json", tmp_path)
    assert all(f"| {cell} | {SHAPE} | " in shown and f"| **{cell}** | least | " in shown for cell in cells)
    assert "nan" not in shown


@needs_ours
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
def test_unequal_lengths_in_float64(script, tmp_path):
    status, report = run(
        script("bench_peers"),
        tmp_path,
        "--against",
        "torch",
        "--lengths",
        "2,20",
        "--dtype",
        "float64",
        "--threads",
        "2",
    )
    assert status == 0
    for row in report["results"]:
        assert all(2 <= length <= 9 for length in row["lengths"])
        assert row["steps"] == sum(row["lengths"]) < 18
        assert all(max(c["errors"].values()) < 1e-12 for c in row["contenders"].values() if "errors" in c)
    if OURS == "native":
        assert "a step that counts / at full length" in written(script, tmp_path / "peers-1.json", tmp_path)


@needs_ours
def test_a_wrong_answer_is_not_timed(spoil, alone, script, tmp_path, capsys):
    spoil("problem.arrays['w_hh'] *= 1.01")
    status, report = run(alone, tmp_path, "--against", "reference", "--mode", "inference")
    assert status == 1
    (row,) = report["results"]
    assert row["contenders"][OURS]["wrong"].startswith("y is off by ")
    assert row["contenders"][OURS]["times"] == []
    assert len(row["contenders"]["reference"]["times"]) == 2
    assert "y is off by" in capsys.readouterr().out
    assert "y is off by" in written(script, tmp_path / "peers-1.json", tmp_path)


@needs_ours
@pytest.mark.parametrize(
    "damage, reason",
    [
        ("os._exit(7)", "exit status 7: it said nothing"),
        ("if len(calls) > 1: os.kill(os.getpid(), 9)", "exit status -9: it said nothing"),
        ("raise MemoryError('too large')", "MemoryError: too large"),
        ("print('library noise'); time.sleep(60)", "no reply to prepare within 3 s"),
    ],
    ids=["dies", "is killed", "raises", "hangs"],
)
def test_who_fails_is_left_out(spoil, alone, tmp_path, capsys, damage, reason):
    spoil(damage)
    start = monotonic()
    status, report = run(alone, tmp_path, "--against", "reference", "--mode", "inference", "--timeout", "3")
    assert monotonic() - start < 30
    assert status == 1
    (row,) = report["results"]
    assert row["contenders"][OURS]["gone"] == reason
    assert len(row["contenders"]["reference"]["times"]) == 2
    assert reason in capsys.readouterr().out


def test_the_matrix_product_of_the_same_run(script):
    process = script("bench_peers").Process("reference", 1)
    try:
        reply = process.ask(do="gemm", n=32, dtype="float64")
    finally:
        process.close()
    assert reply["gflops"] > 0
    assert reply["blas"]


def test_a_field_gives_up_after_two_deaths(spoil, alone):
    spoil("os._exit(1)", "reference")
    problem = {"do": "prepare", "cell": "rnn", "mode": "inference", "sizes": SIZES}
    with alone.Field(1, None, 30) as field:
        for reason in ("exit status 1", "exit status 1", "it failed twice before"):
            with pytest.raises(alone.Failed, match=reason):
                field.ask("reference", **problem)


@needs_ours
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_every_process(spoil, tmp_path):
    pid = tmp_path / "pid"
    path = spoil(f"open({str(pid)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(60)")
    code = f"""
import sys; sys.path.insert(0, {str(BENCH)!r})
import bench_peers
from pathlib import Path
bench_peers.CONTENDER, bench_peers.installed = Path({str(path)!r}), lambda name: False
bench_peers.main(["--shape", {SHAPE!r}, "--cell", "rnn", "--backend", {OURS!r}, "--against", "reference"])
"""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        end = monotonic() + 30
        while not (pid.exists() and pid.read_text().endswith("\n")) and monotonic() < end:
            sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in running.communicate(timeout=20)[1]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_scaling(script, monkeypatch, tmp_path, capsys):
    if not any(runner.backend == "native" for runner in bench.contenders()):
        pytest.skip("native is not built")
    scaling = script("bench_scaling")
    monkeypatch.setattr(scaling, "SETTLE", 0)
    path = tmp_path / "scaling.json"
    argv = ["--axis", "T=4,8", "threads=2", "--cell", "rnn", "--rounds", "2", "--json", str(path)]
    argv += ["--plot", str(tmp_path)] if importlib.util.find_spec("matplotlib") else []
    assert scaling.main(argv) == 0
    assert "| T (B = 1, I = 64, H = 64) | rnn training native |" in capsys.readouterr().out
    rows = json.loads(path.read_text())["scaling"]
    assert [(r["axis"], r["point"], r["threads"]) for r in rows] == 2 * [("T", 4, 1), ("T", 8, 1)] + 2 * [
        ("threads", 2, 2)
    ]
    assert all(len(r["times"]) == 2 and r["per_step"] > 0 for r in rows)
    assert not importlib.util.find_spec("matplotlib") or (tmp_path / "scaling-T.png").stat().st_size > 1000
    assert "| 8 | " in written(script, path, tmp_path)


def test_a_long_sequence(script, capsys):
    scaling = script("bench_scaling")
    assert scaling.main(["--long", "400"]) == 0
    assert "a step of the long one costs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--shape", "3,4"], "expected T,B,I,H such as 1000,8,128,128, got '3,4'"),
        (["--lengths", "5,2"], "expected LOW,HIGH such as 100,1000, got '5,2'"),
        (["--shape", SHAPE, "--lengths", "10,20"], "LOW is more than the T of a shape"),
        (["--isa", "avx3"], "avx3"),
        (["--rounds", "0"], "expected at least 1"),
    ],
)
def test_mistakes_are_errors(script, capsys, argv, message):
    with pytest.raises(SystemExit):
        script("bench_peers").main(argv)
    assert message in capsys.readouterr().err


def test_an_older_file_is_refused(script, tmp_path, capsys):
    path = tmp_path / "peers.json"
    path.write_text('{"results": []}')
    with pytest.raises(SystemExit):
        script("report").main([str(path)])
    assert "older bench_peers.py" in capsys.readouterr().err
