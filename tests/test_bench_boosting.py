"""How `bench/bench_boosting.py` compares AdaBoost with scikit-learn's. No test asserts a time."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import fastml

pytest.importorskip("sklearn", minversion="1.6")

BENCH = Path(__file__).parent.parent / "bench"

# Stands for the script in its contenders' processes: fastml's errors are damaged.
SPOILT = """
import os
import bench_boosting
class Contender(bench_boosting.Contender):
    def prepare(self, problem):
        found = super().prepare(problem)
        if self.name != "sklearn":
            {damage}
        return found
def serve(*arguments):
    bench_boosting.contest.serve(Contender, *arguments)
"""


@pytest.fixture
def script(monkeypatch, threads):
    """bench_boosting, without pauses; the number of threads is put back afterwards."""
    threads(1)
    monkeypatch.syspath_prepend(BENCH)
    found = importlib.import_module("bench_boosting")
    monkeypatch.setattr(found, "SETTLE", 0)
    return found


def run(script, tmp_path, *argv):
    path = tmp_path / "boosting-1.json"
    status = script.main(["--rounds", "2", "--json", str(path), *argv])
    return status, json.loads(path.read_text())


def written(path, tmp_path):
    report, readme = importlib.import_module("report"), tmp_path / "README.md"
    readme.write_text(f"<!-- {path.stem} -->\n<!-- /{path.stem} -->\n")
    assert report.main([str(path), "--readme", str(readme)]) == 0
    assert report.main([str(path), "--readme", str(readme), "--check"]) == 0
    return readme.read_text()


def test_everyone_agrees(script, tmp_path, capsys):
    status, found = run(script, tmp_path, "--tiny")
    out, err = capsys.readouterr()
    assert status == 0, out + err
    assert found["complete"] and [row["kind"] for row in found["boosting"]] == [case[-1] for case in script.TINY]
    for row in found["boosting"]:
        assert set(row["contenders"]) == {*found["ours"], "sklearn"}
        for c in row["contenders"].values():
            assert max(c["errors"].values()) <= script.LIMIT
            assert {len(times) for times in c["times"].values()} == {2} and len(c["times"]) == 3
    text = written(tmp_path / "boosting-1.json", tmp_path)
    assert "| 600,5,2 noise | 3 |" in text and "| 2000,20,7 cover | 1 |" in text and "| 600,5, regression | 1 |" in text
    assert "nan" not in text and "| fit" in text and "fit" in out


def test_problems(script):
    """The same in every process; classes as unequal as was said; of each group one feature is 1."""
    problem = {"sizes": {"N": 5000, "D": 20, "K": 4, "depth": 1}, "kind": "cover"}
    (X, y), (other, again) = script.draw(problem), script.draw(problem)
    np.testing.assert_array_equal(X, other)
    np.testing.assert_array_equal(y, again)
    counts = np.bincount(y)
    assert (counts[:-1] > 1.5 * counts[1:]).all()
    assert ((X[:, 10:15].sum(axis=1) == 1) & (X[:, 15:].sum(axis=1) == 1)).all()
    assert len(np.unique(X[:, 0])) == 5000
    assert script.n_rounds(problem["sizes"]) == 50 and script.n_rounds(problem["sizes"] | {"depth": 3}) == 10


@pytest.mark.parametrize(
    "damage, reason",
    [
        ("found['errors'][3] += 1e-6", "errors differ by 1.0e-06"),
        ("found['predictions'][7] += 1", "predictions differ by"),
        ("os._exit(7)", "exit status 7"),
    ],
)
def test_who_is_wrong_or_fails_is_not_timed(script, monkeypatch, tmp_path, capsys, damage, reason):
    (tmp_path / "spoilt_boosting.py").write_text(SPOILT.format(damage=damage))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.import_module("sys").modules, "spoilt_boosting", raising=False)
    monkeypatch.setattr(script, "serve", importlib.import_module("spoilt_boosting").serve)
    status, found = run(script, tmp_path, "--case", "300,4,2,1")
    assert status == 1
    (own,) = (c for name, c in found["boosting"][0]["contenders"].items() if name != "sklearn")
    assert reason in own.get("wrong", own.get("gone")) and "times" not in own
    assert reason in capsys.readouterr().out
    assert reason in written(tmp_path / "boosting-1.json", tmp_path)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--case", "3,4,5"], "expected N,D,K,DEPTH such as 100000,20,5,1, perhaps with ,noise or ,cover, got '3,4,5'"),
        (["--case", "100,4,1,1"], "got '100,4,1,1'"),
        (["--case", "100,4,0,1,noise"], "got '100,4,0,1,noise'"),
        (["--case", "100,11,3,1,cover"], "got '100,11,3,1,cover'"),
        (["--case", "100,4,3,9"], "got '100,4,3,9'"),
        (["--rounds", "0"], "expected at least 1"),
        (["--json", "no/such/folder/m.json"], "--json: cannot write no/such/folder/m.json"),
    ],
)
def test_mistakes_are_errors(script, capsys, argv, message):
    with pytest.raises(SystemExit):
        script.main(argv)
    assert message in capsys.readouterr().err


def test_a_back_end_without_the_kernel_is_refused_with_its_reason(script, capsys, monkeypatch):
    grid = {"tree_grow": {"native": None, "jit": "not written", "reference": None}}
    monkeypatch.setattr(fastml, "available", lambda: grid)
    with pytest.raises(SystemExit):
        script.main(["--backend", "jit"])
    assert "--backend: jit has no tree_grow: not written" in capsys.readouterr().err
