"""How `bench/bench_mixture.py` compares mixtures with their peers. No test asserts a time."""

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest

import fastml
from fastml import mixture

BENCH = Path(__file__).parent.parent / "bench"
LIBRARIES = [name for name in ("sklearn", "daal4py") if importlib.util.find_spec(name)]
PROBLEM = {"sizes": {"N": 300, "D": 3, "K": 2}, "type": "full", "dtype": "float64", "separated": False}

# Stands for the script in its contenders' processes; DAMAGE is done before every answer of the reference.
SPOILT = """
import os, time
import bench_mixture
def prepare(arrays, *rest, right=bench_mixture.PREPARE["reference"]):
    sample, answers = right(arrays, *rest)
    def spoilt():
        {damage}
        return answers()
    return sample, spoilt
def serve(*arguments):
    bench_mixture.PREPARE["reference"] = prepare
    bench_mixture.serve(*arguments)
"""


@pytest.fixture
def script(monkeypatch, threads):
    """bench_mixture, without pauses; the number of threads is put back afterwards."""
    threads(1)
    monkeypatch.syspath_prepend(BENCH)
    found = importlib.import_module("bench_mixture")
    monkeypatch.setattr(found, "SETTLE", 0)
    return found


@pytest.fixture
def report(script):
    return importlib.import_module("report")


@pytest.fixture
def spoil(script, monkeypatch, tmp_path):
    def spoil(damage):
        (tmp_path / "spoilt_mixture.py").write_text(SPOILT.format(damage=damage))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "spoilt_mixture", raising=False)
        monkeypatch.setattr(script, "serve", importlib.import_module("spoilt_mixture").serve)

    return spoil


def run(script, tmp_path, *argv):
    path = tmp_path / "mixture-1.json"
    status = script.main(["--rounds", "2", "--json", str(path), *argv])
    return status, json.loads(path.read_text())


def written(report, path, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- {path.stem} -->\n<!-- /{path.stem} -->\n")
    assert report.main([str(path), "--readme", str(readme)]) == 0
    assert report.main([str(path), "--readme", str(readme), "--check"]) == 0
    return readme.read_text()


@pytest.fixture
def kept(script, monkeypatch):
    """One process for each name, where the script starts one for each problem too: importing libraries takes long."""
    with ExitStack() as stack:
        process = cache(lambda name: stack.enter_context(script.contest.started(script.serve, name, 1, 600)))
        monkeypatch.setattr(script, "started", lambda name, arguments: nullcontext(process(name)))
        yield


def test_everyone_agrees_on_every_covariance_type(kept, script, report, tmp_path, capsys):
    status, found = run(script, tmp_path, "--tiny", "--dtype", "float32")
    out, err = capsys.readouterr()
    assert status == 0, out + err
    assert found["complete"]
    assert found["missing"] == [name for name in ("sklearn", "daal4py") if name not in LIBRARIES]
    types = dict.fromkeys(c[-1] for c in script.TINY)
    problems = [(row["type"], row["mode"]) for row in found["mixtures"]]
    assert problems == [(t, mode) for t in types for mode in script.MIXTURE_MODES]
    for row in found["mixtures"]:
        assert set(row["contenders"]) == {*found["ours"], *LIBRARIES, "reference"}
        assert len(row["gemm"]) == 2 * ((row["mode"], row["type"]) == ("em", "full"))
        wanted = {"weights", "means", "covariances"} if row["mode"] == "em" else {row["mode"]}
        for name, c in row["contenders"].items():
            if "without" in c:
                assert name == "daal4py" or c["without"] == "too short to be timed"
                assert name != "daal4py" or (row["mode"], row["type"]) != ("em", "full")
            else:
                assert set(c["errors"]) == wanted
                assert 0 < max(c["errors"].values()) < 1e-4
                assert len(c["times"]) == 2
    text = written(report, tmp_path / "mixture-1.json", tmp_path)
    assert all(f"| float32 | {t} | 2000,4,3 |" in text for t in types)
    assert "| **float32** | geometric mean |" in text
    assert "nan" not in text
    assert "geometric" in out


def test_the_numbers_are_the_same_in_every_process_and_of_every_type(script):
    for covariance_type in mixture.COVARIANCE_TYPES:
        a, b = (script.draw(PROBLEM | {"type": covariance_type, "dtype": dtype}) for dtype in ("float64", "float32"))
        assert {x.dtype for x in b.values()} == {np.dtype("float32")}
        assert all((x.astype("float32") == b[name]).all() for name, x in a.items())
        mixture.responsibilities(**a, covariance_type=covariance_type)  # shapes, weights and covariances are checked


def test_rows_have_several_components_or_one(script):
    contender = script.Contender("reference", 1)
    problem = PROBLEM | {"sizes": {"N": 3000, "D": 16, "K": 8}}
    above, several = contender.components(problem)
    assert above > 7.9
    assert several > 2
    above, several = contender.components(problem | {"separated": True})
    assert above < 2
    assert several < 1.01


@pytest.mark.skipif("sklearn" not in LIBRARIES, reason="needs scikit-learn")
@pytest.mark.parametrize("covariance_type", mixture.COVARIANCE_TYPES)
def test_an_iteration_of_scikit_learn_is_a_fifth_of_five(script, monkeypatch, covariance_type):
    monkeypatch.setattr(script, "clock", lambda call: float(call().n_iter_))
    problem = PROBLEM | {"type": covariance_type}
    sample, _ = script.by_sklearn(script.draw(problem), covariance_type, "em", 1)
    assert sample() == 1


@pytest.mark.skipif("daal4py" not in LIBRARIES, reason="needs daal4py")
def test_an_iteration_of_onedal_is_a_fifth_of_five():
    code = f"""
import sys; sys.path.insert(0, {str(BENCH)!r})
import bench_mixture
bench_mixture.clock = lambda call: float(call().nIterations[0, 0])
print(bench_mixture.by_daal4py(bench_mixture.draw({PROBLEM}), "full", "em", 1)[0]())
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "1.0\n", done.stderr


def test_a_contenders_environment_holds_nothing_back(script, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    before = dict(os.environ)
    process = script.Process(script.serve, "reference", 1, 60)
    try:
        assert dict(os.environ) == before
        assert process.ask("hello")["environment"] == {"NUMBA_DISABLE_JIT": "0"}
        assert process.ask("gemm", "float32", 32) > 0
        with pytest.raises(script.Failed, match="AttributeError"):
            process.ask("turn")  # nothing is prepared
        assert process.process.is_alive()
    finally:
        process.close()


REFERENCE = ("--case", "300,3,2,full", "--dtype", "float64", "--mode", "em", "--tiny", "--backend", "reference")


def test_a_wrong_answer_is_not_timed(spoil, script, report, tmp_path, capsys):
    spoil("arrays['X'] += 0.01")
    status, found = run(script, tmp_path, *REFERENCE, "--against", "reference")
    assert status == 1
    (row,) = found["mixtures"]
    assert "means is off by" in row["contenders"]["reference"]["wrong"]
    assert "times" not in row["contenders"]["reference"]
    assert "means is off by" in written(report, tmp_path / "mixture-1.json", tmp_path)


@pytest.mark.parametrize(
    "damage, reason",
    [
        ("os._exit(7)", "exit status 7"),
        ("raise MemoryError('too large')", "MemoryError: too large"),
        ("time.sleep(60)", "no reply to prepare within 8 s"),
    ],
    ids=["dies", "raises", "hangs"],
)
def test_who_fails_is_left_out(spoil, script, tmp_path, capsys, damage, reason):
    spoil(damage)
    start = monotonic()
    status, found = run(script, tmp_path, *REFERENCE, "--against", "reference", "--timeout", "8")
    assert monotonic() - start < 50
    assert status == 1
    assert found["mixtures"][0]["contenders"]["reference"]["gone"] == reason
    assert reason in capsys.readouterr().out


def test_an_interrupted_run_leaves_a_whole_file_that_is_refused(script, report, monkeypatch, tmp_path, capsys):
    def contend(problem, names, arguments):
        yield {**problem, "mode": "em", "components": [2.0, 2.0], "gemm": [], "contenders": {}}
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "contend", contend)
    path = tmp_path / "mixture-1.json"
    with pytest.raises(KeyboardInterrupt):
        script.main(["--tiny", "--json", str(path)])
    found = json.loads(path.read_text())
    assert not found["complete"]
    assert len(found["mixtures"]) == 1
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SystemExit):
        report.main([str(path)])
    assert "interrupted run" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_every_process(spoil, tmp_path):
    pid = tmp_path / "pid"
    spoil(f"open({str(pid)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(60)")
    code = f"""
import sys; sys.path[:0] = [{str(BENCH)!r}, {str(tmp_path)!r}]
import bench_mixture, spoilt_mixture
bench_mixture.serve = spoilt_mixture.serve
bench_mixture.main({[*REFERENCE, "--against", "reference"]})
"""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        end = monotonic() + 60
        while not (pid.exists() and pid.read_text().endswith("\n")) and monotonic() < end:
            sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in running.communicate(timeout=20)[1]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_tables_figures(report):
    times = {"native": [1e-3, 2e-3, 3e-3], "sklearn": [8e-3, 4e-3, 3e-3], "daal4py": [1e-3, 1e-3, 1e-3]}
    contenders = {name: {"times": t, "errors": {"means": 2e-7}} for name, t in times.items()}
    machine = {"versions": {}, "environment": {}, "cpu": "", "architecture": "", "isa": None, "threads": 1, "blas": ""}
    row = {
        "sizes": {"N": 10**6, "D": 10, "K": 1}, "type": "full", "dtype": "float32", "mode": "em",
        "components": [2, 1.5], "gemm": [400.0, 500.0, 100.0], "contenders": contenders,
    }  # fmt: skip
    found = {"command": "", "machine": machine, "missing": [], "separated": False, "n": 64, "ours": ["native"]}
    text = report.mixtures(found | {"mixtures": [row]})
    share = 2e-9 * 10**6 * 10 * 10 / 2e-3 / 400
    cells = f"2.00 ms ({share:.0%}) | **2.00** (1.00 to 8.00) | 0.50 (0.33 to 1.00) | 2e-7, 2e-7, 2e-7 |"
    assert f"| float32 | full | 1000000,10,1 | {cells}" in text
    assert "| **float32** | least |  |  | **2.00** | 0.50 |  |" in text
    assert "NumPy's matrix product of n = 64, float32 400 GFLOP/s" in text


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--case", "3,4,5"], "expected N,D,K,TYPE such as 100000,16,16,full with TYPE of full, tied, diag, spherical"),
        (["--case", "0,4,5,full"], "got '0,4,5,full'"),
        (["--case", "10,4,5,round"], "got '10,4,5,round'"),
        (["--rounds", "0"], "expected at least 1"),
        (["--json", "no/such/folder/m.json"], "--json: cannot write no/such/folder/m.json"),
    ],
)
def test_mistakes_are_errors(script, capsys, argv, message):
    with pytest.raises(SystemExit):
        script.main(argv)
    assert message in capsys.readouterr().err


def test_a_back_end_without_the_kernel_is_refused_with_its_reason(script, capsys, monkeypatch):
    grid = {"gaussian_statistics": {"native": None, "jit": "not written", "reference": None}}
    monkeypatch.setattr(fastml, "available", lambda: grid)
    with pytest.raises(SystemExit):
        script.main(["--backend", "jit"])
    assert "--backend: jit has no gaussian_statistics: not written" in capsys.readouterr().err
