"""How `bench/bench_lm.py` trains by fastml and by PyTorch. No test asserts a time."""

import importlib
import json
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = Path(__file__).parent.parent / "bench"
TINY = [
    "--hidden",
    "8",
    "--embedding",
    "4",
    "--seq-len",
    "20",
    "--batch",
    "2",
    "--limit",
    "20000",
    "--minutes",
    "0.002",
    "--slice",
    "0.06",
]


@pytest.fixture
def script(monkeypatch, threads):
    threads(1)
    monkeypatch.syspath_prepend(BENCH)
    found = importlib.import_module("bench_lm")
    monkeypatch.setattr(found, "SETTLE", 0)
    return found


def run(script, tmp_path, *argv):
    path = tmp_path / "lm-1.json"
    status = script.main([*TINY, "--json", str(path), *argv])
    return status, json.loads(path.read_text()), path


@pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")
def test_both_sides_are_one_model(script, tmp_path, capsys):
    """Two layers: the same losses, gradients and held-out loss before anything is timed; then a table and curves."""
    pytest.importorskip("matplotlib")
    plot = tmp_path / "curves.png"
    status, report, path = run(script, tmp_path, "--cell", "gru", "--layers", "2", "--plot", str(plot))
    out, err = capsys.readouterr()
    assert status == 0, out + err
    (row,) = report["language"]
    assert report["complete"] and list(row["contenders"]) == ["native", "torch"]
    for name, c in row["contenders"].items():
        assert (max(c["differences"].values()) > 0) == (name == "torch")
        assert sum(point["seconds"] for point in c["curve"]) >= 0.12 and c["curve"][-1]["validation"] < c["start"]
    assert plot.stat().st_size > 1000

    reporting, readme = importlib.import_module("report"), tmp_path / "README.md"
    readme.write_text("<!-- lm-1 -->\n<!-- /lm-1 -->\n")
    assert reporting.main([str(path), "--readme", str(readme)]) == 0
    assert "| gru | PyTorch |" in readme.read_text() and "PyTorch" in out


class Side:
    """Stands for a contender's process."""

    def __init__(self, loss):
        point = {"steps": 1, "seconds": 1.0, "loss": loss}
        answers = {"validation": 1.0, "loss": 1.0, "gradients": {}, "losses": [loss]}
        self.replies = {"prepare": {}, "answers": answers, "train": point, "validate": 1.0}

    def ask(self, do, *arguments):
        return self.replies[do]


def test_who_computes_something_else_is_not_timed(script, monkeypatch):
    sides = {"native": Side(1.0), "torch": Side(1.0001)}
    monkeypatch.setattr(script, "started", lambda name, arguments: nullcontext(sides[name]))
    row, arguments = {"contenders": {}}, SimpleNamespace(minutes=2 / 60, slice=1.0)
    script.contend(row, {"cell": "lstm", "seq_len": 1, "batch": 1}, list(sides), arguments, lambda: None)
    native, torch = row["contenders"].values()
    assert len(native["curve"]) == 2 and not torch["curve"]
    assert torch["wrong"].startswith("differs in loss: ")


def test_held_out_loss_at_a_time_between_two_points(script):
    report = importlib.import_module("report")
    c = {"start": 5.0, "curve": [{"seconds": 10, "validation": 3.0}, {"seconds": 10, "validation": 2.0}]}
    assert [report.held_out(c, s) for s in (0, 5, 10, 15, 20)] == [5.0, 4.0, 3.0, 2.5, 2.0]
