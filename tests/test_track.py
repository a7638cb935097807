"""`bench/track.py`: what is stored, and who is named. No test asserts a time; noise is drawn, not measured."""

import doctest
import importlib
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastml import bench

BENCH = Path(__file__).parent.parent / "bench"
CELLS = [f"kernel{n} {size} float32 native" for n in range(50) for size in ("small", "large")]
OURS = next((runner.backend for runner in bench.contenders() if runner.backend != "reference"), None)
DATE = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def track(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    found = importlib.import_module("track")
    monkeypatch.setattr(found, "PAUSE", 0)
    monkeypatch.setattr(found, "commit", lambda: ("0123456789ab", DATE))
    return found


@pytest.fixture
def here(track, monkeypatch, threads):
    """Processes of track.py are this one."""
    threads(1)

    @contextmanager
    def started(serve, name, n, timeout):
        class Process:
            repeat = track.Repeat(name, n)

            def ask(self, do, *arguments):
                return getattr(self.repeat, do)(*arguments)

        yield Process()

    monkeypatch.setattr(track.contest, "started", started)
    monkeypatch.setattr(track.bench, "gemm_peak", lambda dtype, rounds, clock: 100.0)


def machine(**others):
    versions = {"python": "3.11.7", "numpy": "2.4.6"} | others.pop("versions", {})
    found = {"cpu": "AMD EPYC", "architecture": "x86_64", "isa": "avx2", "threads": 1, "cpus": 2}
    return found | {"versions": versions, "blas": "openblas 0.3", "environment": {}} | others


def run(cells=None, **others):
    return {"started": DATE, "machine": machine(**others), "cells": cells or {CELLS[0]: cell([2.0, 2.1, 1.9])}}


def cell(ratios):
    return {"ratios": list(ratios), "best": float(np.median(ratios)), "share": None}


# ------------------------------------------------------------------------------------------------------ who is named


def drawn(track, random, slow=None, cells=CELLS, repeats=5):
    """The cells of a run: 3 % noise, one repeat in twenty of either side held back by up to 40 %; `slow` by 25 %."""
    found = {}
    for key in cells:
        held = 1 + 0.4 * random.random((2, repeats)) * (random.random((2, repeats)) < 0.05)
        theirs, own = held * (1 + np.abs(0.03 * random.standard_normal((2, repeats))))
        own = own * (1.25 if key.startswith(f"{slow} ") else 1)
        found[key] = track.summary([([2 * a], [b]) for a, b in zip(theirs, own, strict=True)])
    return found


def named(track, seed, slow=None):
    """The kernels."""
    random = np.random.default_rng(seed)
    old, new = (track.bands([{"cells": drawn(track, random, who)}]) for who in (None, slow))
    found = track.confirmed(new, old, 0.1, lambda suspects: drawn(track, random, slow, suspects))
    return {track.problem_of(key).kernel for key in found}


def test_noise_is_not_named(track):
    assert not any(named(track, seed) for seed in range(30))  # 3000 cells


def test_a_kernel_slower_by_a_quarter_is_named_alone(track):
    found = [named(track, seed, slow="kernel7") for seed in range(30)]
    assert all(kernels <= {"kernel7"} for kernels in found)
    assert found.count({"kernel7"}) >= 29


def test_a_slow_spell_is_cleared_by_measuring_again(track):
    fast, slow = ({CELLS[0]: cell([ratio] * 5)} for ratio in (2.0, 1.5))
    old, spell = (track.bands([{"cells": cells}]) for cells in (fast, slow))
    for answers, again in ([fast], 1), ([slow, fast], 2), ([slow, slow], 2):
        asked = []

        def measure(suspects, asked=asked, answers=answers):
            asked.append(suspects)
            return answers[len(asked) - 1]

        assert track.confirmed(spell, old, 0.1, measure) == (spell if answers[-1] is slow else {})
        assert asked == [[CELLS[0]]] * again


@pytest.mark.parametrize(
    "new, best, falls",
    [
        ([1.6] * 5, 1.6, True),
        ([1.85] * 5, 1.85, False),  # within --by
        ([1.4, 1.5, 1.6, 1.9, 1.9], 1.6, False),  # too wide a band
        ([1.6] * 5, 1.9, False),  # held back in each repeat, but its least time is as before
        ([2.5] * 5, 2.5, False),
    ],
)
def test_a_fall_is_beyond_the_band_and_the_best(track, new, best, falls):
    old = {"a": track.band([2.0, 2.0, 1.98, 2.02, 1.2], 2.0)}
    assert bool(track.fallen({"a": track.band(new, best), "new": track.band([1.0], 1.0)}, old, 0.1)) == falls


def test_examples(track):
    found = doctest.testmod(track)
    assert not found.failed and found.attempted >= 5


# ------------------------------------------------------------------------------------------------------ the store


def test_two_runs_of_a_commit_add_up(track, tmp_path):
    track.add(tmp_path / "m", "abc", DATE, run())
    path = track.add(tmp_path / "m", "abc", DATE, run({CELLS[0]: cell([1.7, 1.8])}))
    stored = track.read(path)
    assert [len(r["cells"][CELLS[0]]["ratios"]) for r in stored["runs"]] == [3, 2]
    assert track.bands(stored["runs"])[CELLS[0]] == track.band([2.0, 2.1, 1.9, 1.7, 1.8], 1.875)
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["abc.json"]


def test_a_failing_write_leaves_the_stored_runs(track, tmp_path, monkeypatch):
    path = track.add(tmp_path, "abc", DATE, run())
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        track.add(tmp_path, "abc", DATE, run())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"format": 1, "runs": [', "damaged"),
        ("[]", "not a file that track.py wrote"),
        ('{"cells": []}', "not a file that track.py wrote"),
        ('{"format": 7}', "format 7, this track.py reads 1"),
        (json.dumps({"format": 1, "commit": "abc", "date": DATE, "runs": []}), "no runs"),
        (json.dumps({"format": 1, "commit": "abc", "date": DATE, "runs": [{"machine": {}}]}), "not a file that track"),
        (json.dumps({"format": 1, "commit": "abc", "date": DATE, "runs": [run({"a": cell([1.0]) | {"ratios": []}})]}),
         "damaged"),
    ],
)  # fmt: skip
def test_foreign_and_damaged_files_are_refused(track, tmp_path, text, words):
    path = tmp_path / "abc.json"
    path.write_text(text)
    with pytest.raises(track.Refused, match=words) as refused:
        track.read(path)
    assert str(path) in str(refused.value) and refused.value.status == 2


def test_a_machine_has_one_name_from_run_to_run(track):
    assert (
        track.slug(machine())
        == track.slug(machine(load=3, versions={"numpy": "9"}))
        == ("amd-epyc-x86-64-avx2-threads-1")
    )
    others = [{"isa": "avx512"}, {"threads": 2}, {"cpu": "AMD EPYC 9"}, {"architecture": "arm64"}, {"isa": None}]
    assert len({track.slug(machine(**other)) for other in [{}, *others]}) == 6


@pytest.mark.parametrize(
    "stored, against, others, words",
    [
        ([], "last", {}, "no stored run of this machine, .*: there are runs of another"),
        (["abc"], "fed", {}, "--against: no stored run of fed .*: abc"),
        (["abc"], "last", {"versions": {"numpy": "2.5.0"}}, "abc does not compare: NumPy 2.4.6 → 2.5.0"),
        (["abc"], "abc", {"blas": "mkl 2026"}, "abc does not compare: BLAS openblas 0.3 → mkl 2026"),
        (["abc"], "last", {"environment": {"FASTML_ISA": "avx2"}}, "variables none → FASTML_ISA=avx2"),
    ],
)
def test_what_does_not_compare_is_refused_in_words(track, tmp_path, monkeypatch, stored, against, others, words):
    monkeypatch.setattr(track, "git", lambda *_: "9" * 12)
    track.add(tmp_path / "another", "def", DATE, run())
    for name in stored:
        track.add(tmp_path / "m", name, DATE, run())
    with pytest.raises(track.Refused, match=words) as refused:
        track.baseline(track.history(tmp_path / "m"), against, machine(**others), tmp_path / "m")
    assert refused.value.status == 3


def test_last_is_the_newest_commit_under_the_same_conditions(track, tmp_path):
    track.add(tmp_path, "fff", "2026-01-01T00:00:00+00:00", run())
    track.add(tmp_path, "aaa", "2026-01-02T00:00:00+00:00", run())
    track.add(tmp_path, "bbb", "2026-01-03T00:00:00+00:00", run(versions={"numpy": "2.5.0"}))
    track.add(tmp_path, "aaa", "2026-01-02T00:00:00+00:00", run(blas="mkl"))
    found = track.baseline(track.history(tmp_path), "last", machine(), tmp_path)
    assert found["commit"] == "aaa" and len(found["runs"]) == 1
    assert track.baseline(track.history(tmp_path), "ff", machine(), tmp_path)["commit"] == "fff"
    assert [words.partition(": its")[0] for words in track.changes(track.history(tmp_path))] == [
        "aaa: BLAS openblas 0.3 → mkl", "bbb: NumPy 2.4.6 → 2.5.0, BLAS mkl → openblas 0.3",
    ]  # fmt: skip


def test_a_changed_tree_is_another_commit(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    track = importlib.import_module("track")
    answers = {"diff": "", "rev-parse": "0123456789ab", "show": DATE}
    monkeypatch.setattr(track, "git", lambda *arguments: answers[arguments[0]])
    assert track.commit() == ("0123456789ab", DATE)
    names = set()
    for answers["diff"] in ("-x = 1", "-x = 2", "-x = 1"):
        names.add(track.commit()[0])
    assert len(names) == 2 and all(name.startswith("0123456789ab-dirty-") for name in names)


# ------------------------------------------------------------------------------------------------------ commands

QUICK = ["--kernel", "exponential_sum", "--backend", OURS, "--seconds", "0", "--out"]
needs_ours = pytest.mark.skipif(OURS is None, reason="no back end but the reference runs here")


@needs_ours
def test_run_measures_in_processes_of_its_own(track, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(track, "machine", lambda threads: bench.machine() | {"threads": threads})
    assert track.main(["run", "--repeat", "1", *QUICK, str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/0123456789ab.json")
    (stored,) = track.read(path)["runs"]
    assert set(stored["cells"]) == {f"exponential_sum {size} float32 {OURS}" for size in ("small", "large")}
    for kept in stored["cells"].values():
        assert kept["best"] == kept["ratios"][0] == pytest.approx(max(kept["ratios"])) and kept["share"] > 0
    assert stored["command"].startswith("bench/track.py run --repeat 1") and len(stored["gemm"]["float32"]) == 1
    assert "2 cells" in capsys.readouterr().out


@needs_ours
def test_a_slowed_kernel_is_named_and_an_unchanged_one_is_not(track, here, tmp_path, capsys):
    quick = ["--repeat", "2", *QUICK, str(tmp_path)]
    assert track.main(["compare", *quick]) == 3
    assert track.main(["run", *quick]) == 0
    assert "no stored run of this machine" in capsys.readouterr().err
    # Far from any noise: what is measured in a test is not quiet.
    assert track.main(["compare", "--by", "0.5", "--slow", "exponential_sum=20", *quick]) == 1
    out = capsys.readouterr().out
    assert f"exponential_sum small float32 {OURS}: " in out
    assert "\nslower than at 0123456789ab (" in out and out.endswith("): exponential_sum\n")
    assert track.main(["compare", "--by", "0.95", *quick]) == 0
    assert capsys.readouterr().out.startswith("none of 2 cells lost more than 95%")
    assert len(list(tmp_path.rglob("*.json"))) == 1 and len(track.read(next(tmp_path.rglob("*.json")))["runs"]) == 1


@needs_ours
def test_stored_runs_of_two_commits_are_compared(track, here, tmp_path, capsys, monkeypatch):
    quick = ["--repeat", "1", *QUICK, str(tmp_path)]
    assert track.main(["run", *quick]) == 0
    assert track.main(["compare", "--stored", *quick]) == 3  # there is no other
    monkeypatch.setattr(track, "commit", lambda: ("ba9876543210", "2026-01-03T03:04:05+00:00"))
    assert track.main(["compare", "--stored", *quick]) == 3
    assert "no stored run of this tree, ba9876543210" in capsys.readouterr().err
    assert track.main(["run", *quick]) == 0
    assert track.main(["compare", "--stored", "--by", "0.95", *quick]) == 0
    assert "since 0123456789ab" in capsys.readouterr().out
    path = next(tmp_path.glob("*/ba98*.json"))
    path.write_text(path.read_text().replace("exponential_sum large", "exponential_sum huge"))
    monkeypatch.setattr(track, "commit", lambda: ("f" * 12, "2026-01-04T03:04:05+00:00"))
    assert track.main(["compare", "--by", "0.95", *quick]) == 0
    assert f"not measured any more: exponential_sum huge float32 {OURS}\n" in capsys.readouterr().err

    pytest.importorskip("matplotlib")
    plot = tmp_path / "history.png"
    assert track.main(["history", "--plot", str(plot), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ba9876543210" in out and f"exponential_sum large float32 {OURS}" in out
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["run", "--kernel", "lsmt"], "--kernel: expected one of rnn_forward"),
        (["run", "--repeat", "0"], "--repeat: expected at least 1, got 0"),
        (["run", "--seconds", "nan"], "--seconds: expected at least 0, got nan"),
        (["run", "--threads", "0"], "--threads: expected at least 1, got 0"),
        (["run", "--slow", "lstm_forward=2"], "unrecognized arguments"),
        (["compare", "--by", "1"], "--by: expected a share from 0 to 1, got 1.0"),
        (["compare", "--slow", "lstm_forward"], "--slow: expected a kernel that is measured and a factor"),
        (["compare", "--kernel", "gru", "--slow", "lstm_forward=2"], "--slow: expected a kernel that is measured"),
        (["history", "--plot", "x.gif"], "--plot: expected a name that ends in .png"),
    ],
)
def test_wrong_arguments_are_refused_before_measuring(track, capsys, argv, words):
    with pytest.raises(SystemExit) as refused:
        track.main(argv)
    assert refused.value.code == 2 and words in capsys.readouterr().err
