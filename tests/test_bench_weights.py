"""`bench/bench_weights.py` runs, and times nothing whose answers differ. No test asserts a time."""

import importlib
import json
from pathlib import Path

import pytest

import fastml

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def script(monkeypatch, threads):
    threads(1)
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("bench_weights")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everyone_updates_the_same_weights(script, tmp_path, capsys, dtype):
    path = tmp_path / "weights.json"
    script.main(["--rows", "5000", "--rounds", "6", "--threads", "1", "2", "--dtype", dtype, "--json", str(path)])
    report = json.loads(path.read_text())
    assert [result["threads"] for result in report["results"]] == [1, 2]
    for result in report["results"]:
        assert set(result["medians"]) == {"scale", "update", "next", "numpy", "reference"}
        assert all(len(times) == 6 for times in result["seconds"].values())
        assert 0 < result["errors"]["numpy"] < script.LIMITS[dtype]
    assert capsys.readouterr().out.count("update") == 2


def test_wrong_weights_are_not_timed(script, monkeypatch):
    right = fastml.boosting.samme_update_next

    def damaged(*arguments, **options):
        new, *others = right(*arguments, **options)
        new[-1] *= 1.001
        return new, *others

    monkeypatch.setattr(script.boosting, "samme_update_next", damaged)
    with pytest.raises(SystemExit, match="answers differ"):
        script.main(["--rows", "1000", "--rounds", "2", "--threads", "1"])
