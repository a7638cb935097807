"""`fastml lm`: what it prints, writes and refuses, and that it can be stopped anywhere."""

import errno
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastml
from fastml import bench, cli, saving
from fastml.language import RecurrentLM, Trainer, command

TEXT = b"".join(b"%d and %d make %d.\n" % (a, b, a + b) for a in range(12) for b in range(12))
TINY = ["--hidden", "8", "--embedding", "4", "--seq-len", "20", "--batch", "4"]
MATPLOTLIB = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a text, to be in; and the thread count put back."""
    before = fastml.get_num_threads()
    (tmp_path / "text.txt").write_bytes(TEXT)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    fastml.set_num_threads(before)


def lm(*argv):
    return cli.main(["lm", *map(str, argv)])


def train(*argv):
    return lm("train", "text.txt", "--out", "lm.safetensors", *argv)


def refused(capsys, *argv):
    """The message of a command that must end with status 2, having changed nothing."""
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    with pytest.raises(SystemExit) as caught:
        lm(*argv)
    assert caught.value.code == 2
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before
    out, err = capsys.readouterr()
    assert not out
    *_, last = err.strip().splitlines()
    return last


@pytest.fixture
def trained(capsys):
    assert train(*TINY, "--steps", 3, "--seed", 5) == 0
    capsys.readouterr()
    return Path("lm.safetensors")


def weights(path="lm.safetensors"):
    return {name: array for name, array in load_file(path).items() if name != "training.curve"}


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        if name == "training.validations":
            array, other[name] = array[:, [0, 2]], other[name][:, [0, 2]]
        np.testing.assert_array_equal(other[name], array, err_msg=name)


# ---------------------------------------------------------------------------------------------------------------- train


def test_train(capsys):
    assert train(*TINY, "--steps", 6, "--seed", 3, "--threads", 1, "--valid", 0.1, "--lr", 0.01, "--cell", "gru") == 0
    out, err = capsys.readouterr()
    assert not out and fastml.get_num_threads() == 1
    *_, last = err.splitlines()
    number = r"\d+\.\d{3}"
    assert re.fullmatch(
        rf"saved lm\.safetensors after step 6: {number} bits per character, validation {number}, [\d,]+ characters/s",
        last,
    )
    assert sorted(map(str, Path().iterdir())) == ["lm.safetensors", "text.txt"]
    found = Trainer.load("lm.safetensors", TEXT)
    assert repr(found.model) == "RecurrentLM(256, embedding=4, hidden=8, cell='gru')"
    assert found.settings == {"batch": 4, "seq_len": 20, "valid": 0.1, "seed": 3, "lr": 0.01, "clip": 1.0}
    assert found.steps == 6 and found.validation_curve[-1, 0] == found.characters == 480
    by_hand = Trainer(RecurrentLM(256, 4, 8, cell="gru", seed=3), TEXT, batch=4, seq_len=20, valid=0.1, seed=3, lr=0.01)
    for _ in range(6):
        by_hand.step()
    for name, weight in by_hand.model.weights.items():
        np.testing.assert_array_equal(found.model.weights[name], weight)


def test_train_on_pythons_own_sources(monkeypatch):
    asked = []
    text = np.frombuffer(TEXT, np.uint8)
    monkeypatch.setattr(command, "stdlib_text", lambda limit: (asked.append(limit), text)[1])
    assert lm("train", "--out", "lm.safetensors", *TINY, "--steps", 1) == 0
    assert asked == [None] and Trainer.load("lm.safetensors", text).steps == 1
    whole, part = bench.stdlib_text(limit=None), bench.stdlib_text()
    assert len(whole) > len(part) and (whole[: len(part)] == part).all() and (whole > 0).all()


def test_folders_and_patterns(folder):
    (folder / "more").mkdir()
    (folder / "more" / "a.xyz").write_bytes(TEXT)
    (folder / "more" / "b.c").write_bytes(b"\0")
    assert lm("train", "more", "--glob", "*.xyz", "--glob", "*.none", "--out", "lm", *TINY, "--steps", 1) == 0
    assert Trainer.load("lm", TEXT).steps == 1


def test_minutes_end_the_run(monkeypatch):
    Clock(monkeypatch, validation=0)
    assert train(*TINY, "--minutes", 0.5) == 0
    assert Trainer.load("lm.safetensors", TEXT).steps == 30
    assert train("--resume", "--minutes", 0.25) == 0
    assert Trainer.load("lm.safetensors", TEXT).steps == 45


class Clock:
    """A clock by which a step takes a second and a validation five; what of that, and saves, there has been."""

    def __init__(self, monkeypatch, validation=5):
        self.now, self.validations, self.saves = 0.0, 0, []
        step, validate, save = Trainer.step, Trainer.validate, Trainer.save

        def timed_step(trainer):
            self.now += 1
            return step(trainer)

        def timed_validate(trainer):
            self.now += validation
            self.validations += 1
            return validate(trainer)

        def noted_save(trainer, path):
            self.saves.append((self.now, trainer.steps))
            save(trainer, path)

        monkeypatch.setattr(command, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Trainer, "step", timed_step)
        monkeypatch.setattr(Trainer, "validate", timed_validate)
        monkeypatch.setattr(Trainer, "save", noted_save)


def test_validation_takes_its_share_and_checkpoints_come_in_time(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    assert train(*TINY, "--steps", 400, "--checkpoint", 7) == 0
    curve = Trainer.load("lm.safetensors", TEXT).validation_curve
    assert 3 <= clock.validations <= 1 + 0.05 * clock.now / 5 + 1
    assert curve[-1, 0] == 400 * 80 and (np.diff(curve[1:-1, 0]) >= 100 * 80).all()
    times = [time for time, _ in clock.saves]
    assert times[0] == 0 and max(np.diff(times)) <= 7 + 5 + 1 and len(times) > 400 / 13
    lines = capsys.readouterr().err.splitlines()
    assert 400 / 15 - 1 < len(lines) - 1 < 400 / 10 + 5
    assert re.search(r"^step \d+: .*, validation .* characters/s, \d+:\d\d left$", lines[-2])


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", "150")
    assert train(*TINY, "--steps", 3) == 0
    err = capsys.readouterr().err
    assert "step 2: " in err and "left" in err and "bits per character" in err and "saved lm.safetensors" in err


@pytest.mark.parametrize("options", [[], ["--cell", "gru", "--layers", 2, "--dropout", 0.2], ["--tied", "--hidden", 4]])
def test_resumed_is_uninterrupted(options):
    every = [*TINY, *options, "--seed", 1]
    assert train(*every, "--steps", 9) == 0
    want = weights()
    assert train(*every, "--steps", 4, "--overwrite") == 0
    assert train("--steps", 9, "--resume") == 0  # with nothing said but this
    got = weights()
    del want["training.validations"], got["training.validations"]  # one more, at step 4
    same(want, got)
    assert train(*every, "--steps", 9, "--resume", "--threads", 1) == 0  # with all said again, and done
    same(got, {name: array for name, array in weights().items() if name in got})


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_after_the_step(monkeypatch, capsys, request, name, status):
    step, number = Trainer.step, getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} here")
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))  # nohup ignores SIGHUP

    def interrupted(trainer):
        if trainer.steps == 2:
            signal.raise_signal(number)
        return step(trainer)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Trainer, "step", interrupted)
    assert train(*TINY, "--steps", 9) == status
    assert "saved lm.safetensors after step 3: " in capsys.readouterr().err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    got = weights()
    monkeypatch.setattr(Trainer, "step", step)
    assert train(*TINY, "--steps", 3, "--overwrite", "--valid", 0.05) == 0
    want = weights()
    del want["training.validations"], got["training.validations"]  # only the run that ended has one
    same(want, got)


def test_a_second_signal_leaves_what_was_saved(monkeypatch, capsys):
    step = Trainer.step

    def interrupted(trainer):
        if trainer.steps == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert train(*TINY, "--steps", 9) == 130
    assert capsys.readouterr().err.endswith("stopped at once; lm.safetensors is as it was saved last\n")
    assert Trainer.load("lm.safetensors", TEXT).steps == 0
    assert len(list(Path().iterdir())) == 2


def test_a_gradient_that_is_not_finite(monkeypatch, capsys):
    step = Trainer.step

    def spoilt(trainer):
        if trainer.steps == 2:
            trainer.model.weights["embedding"][:] = np.nan
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", spoilt)
    assert train(*TINY, "--steps", 9) == 1
    message = r"fastml lm train: step 3: gradients: expected finite .*; lm\.safetensors is as it was saved last\n$"
    assert re.search(message, capsys.readouterr().err)
    assert Trainer.load("lm.safetensors", TEXT).steps == 0


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up(monkeypatch, capsys):
    """While it trains: what was saved stays. Then at the start of the next run, before anything is trained."""

    class Full(io.FileIO):
        write = full

    assert train(*TINY, "--steps", 3) == 0
    want = weights()
    saves, save = [], Trainer.save

    def later(trainer, path):
        saves.append(trainer.steps)
        with monkeypatch.context() as patch:
            if len(saves) > 1:
                patch.setattr(saving, "open", lambda path, mode: Full(path, "x"), raising=False)
            save(trainer, path)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", later)
        assert train("--steps", 6, "--resume") == 1
    assert saves == [3, 6]
    err = capsys.readouterr().err
    assert err.endswith("cannot save: No space left on device; lm.safetensors is as it was saved last\n")
    same(want, weights())
    with monkeypatch.context() as patch:
        patch.setattr(saving, "open", lambda path, mode: Full(path, "x"), raising=False)
        with pytest.raises(SystemExit) as caught:
            train("--steps", 6, "--resume")
    assert caught.value.code == 2
    assert "--out: cannot write lm.safetensors: No space left on device\n" in capsys.readouterr().err
    same(want, weights())
    assert len(list(Path().iterdir())) == 2


def test_what_a_killed_run_left_is_removed(trained, folder):
    left = folder / ".lm-0123456789abcdef.safetensors"
    others = [".lm-0123456789abcdef.txt", ".lm-0123456789abcdeg.safetensors", ".lmx-0123456789abcdef.safetensors"]
    for name in (left.name, *others):
        (folder / name).write_bytes(b"half")
    young = folder / ".lm-123456789abcdef0.safetensors"
    young.write_bytes(b"half")
    for name in (left.name, *others):
        os.utime(folder / name, (0, 0))
    assert train("--steps", 4, "--resume") == 0
    assert not left.exists() and young.exists() and all((folder / name).exists() for name in others)


KILLED = """
import os, sys
from fastml import cli
from fastml.language import Trainer
save = Trainer.save
def logged(trainer, path):
    save(trainer, path)
    os.write(log, f"{trainer.steps}\\n".encode())
log = os.open("saves.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
Trainer.save = logged
sys.exit(cli.main(["lm", "train", "text.txt", "--out", "lm.safetensors", *sys.argv[1:]]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_any_moment(folder):
    """The file can always be loaded and gone on with, and loses no step that it had; saves come while it trains."""
    random, steps = np.random.default_rng(), 0
    path = os.pathsep.join([str(Path(fastml.__file__).parents[1]), *sys.path])
    for n in range(3):
        log = folder / "saves.log"
        log.unlink(missing_ok=True)
        begin = ["--resume"] if n else [*TINY, "--seed", "7"]
        argv = [sys.executable, "-P", "-c", KILLED, *begin, "--steps", "1000000", "--checkpoint", "0.02"]
        child = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)
        end = time.monotonic() + 60
        while (
            not (log.exists() and log.read_text().count("\n") > 3) and child.poll() is None and time.monotonic() < end
        ):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.1))
        child.kill()
        _, err = child.communicate()
        assert child.returncode == -signal.SIGKILL, err
        saved = [int(line) for line in log.read_text().splitlines()]
        found = Trainer.load("lm.safetensors", TEXT)
        assert len(saved) > 3 and saved[0] == steps and saved == sorted(set(saved))
        assert found.steps >= saved[-1]
        steps = found.steps
    with suppress(SystemExit):
        assert train("--resume", "--steps", steps + 3) == 0
    got = weights()
    assert train(*TINY, "--seed", 7, "--steps", steps + 3, "--overwrite") == 0
    want = weights()
    for name, array in want.items():
        if name != "training.validations":
            np.testing.assert_array_equal(got[name], array, err_msg=name)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "argv, message",
    [
        (["text.txt", "--steps", 0], "--steps: expected at least 1, got 0"),
        (["text.txt", "--minutes", 0], "--minutes: expected a number above 0, got 0"),
        (["text.txt", "--minutes", "nan"], "--minutes: expected a number above 0, got nan"),
        (["text.txt", "--minutes", "many"], "argument --minutes: invalid float value: 'many'"),
        (["text.txt", "--minutes", 1, "--steps", 1], "argument --steps: not allowed with argument --minutes"),
        (["text.txt"], "one of the arguments --minutes --steps is required"),
        (["text.txt", "--steps", 1, "--checkpoint", 0], "--checkpoint: expected a number above 0, got 0"),
        (["text.txt", "--steps", 1, "--threads", 0], "--threads: expected at least 1, got 0"),
        (["nowhere", "--steps", 1], "path: there is no nowhere"),
        (["", "--steps", 1], "path: expected a file or a folder, got ''"),
        (["empty", "--steps", 1], "path: expected files that match *.txt or *.md or *.py or *.rst, empty holds none"),
        (["empty.txt", "--steps", 1], "path: expected text, got not a byte in empty.txt"),
        (["text.txt", "x.bin", "--steps", 1], "path: expected text, x.bin is binary (a NUL byte at 2): leave"),
        (["empty", "--steps", 1, "--glob", "*.c"], "path: expected files that match *.c, empty holds none"),
        (["text.txt", "--steps", 1, "--seq-len", 5000], "seq_len: expected at most 144, a stream's share of the text"),
        (["text.txt", "--steps", 1, "--hidden", 0], "hidden: expected an integer of at least 1, got 0"),
        (["text.txt", "--steps", 1, "--tied"], "tied: expected embedding = hidden, got embedding=64, hidden=256"),
        (["text.txt", "--steps", 1, "--valid", 1], "valid: expected a number from 0 to"),
        (["text.txt", "--steps", 1, "--cell", "cnn"], "argument --cell: invalid choice: 'cnn'"),
        (["text.txt", "--steps", 1, "--resume"], "--resume: there is no lm.safetensors"),
        (["text.txt", "--steps", 1, "--resume", "--overwrite"], "--overwrite: not allowed with argument --resume"),
        (["text.txt", "--steps", 1, "--out", "empty"], "--out: expected a file, empty is a folder"),
        (["text.txt", "--steps", 1, "--out", "no/such/lm", *TINY], "--out: cannot write no/such/lm: No such file"),
        (["text.txt", "--steps", 1, "--out", "/dev/full", "--overwrite", *TINY], "--out: cannot write /dev/full: "),
    ],
    ids=lambda value: "",
)  # fmt: skip
def test_wrong_arguments(capsys, folder, argv, message):
    (folder / "empty").mkdir()
    (folder / "empty.txt").write_bytes(b"")
    (folder / "x.bin").write_bytes(b"ab\0")
    assert message in refused(capsys, "train", "--out", "lm.safetensors", *argv)


def test_what_is_read_is_not_written(trained, capsys, folder):
    message = "--out: text.txt is one of the texts"
    assert message in refused(capsys, "train", ".", "--out", "text.txt", "--steps", 1, "--overwrite")
    trained.rename("model.png")
    assert "--out: model.png is the model" in refused(capsys, "plot", "model.png")


def test_what_is_there_is_not_overwritten_in_silence(trained, capsys):
    message = "--out: lm.safetensors exists: --resume goes on with it, --overwrite begins anew"
    assert message in refused(capsys, "train", "text.txt", "--out", trained, "--steps", 1)


@pytest.mark.parametrize(
    "option, message",
    [
        (["--hidden", 9], "--hidden: lm.safetensors was begun with 8, got 9; leave it out"),
        (["--cell", "gru"], "--cell: lm.safetensors was begun with lstm, got gru; leave it out"),
        (["--layers", 2], "--layers: lm.safetensors was begun with 1, got 2; leave it out"),
        (["--tied"], "--tied: lm.safetensors was begun with False, got True; leave it out"),
        (["--seq-len", 10], "--seq-len: lm.safetensors was begun with 20, got 10; leave it out"),
        (["--lr", 1], "--lr: lm.safetensors was begun with 0.002, got 1.0; leave it out"),
        (["--seed", 6], "--seed: lm.safetensors was begun with 5, got 6; leave it out"),
    ],
    ids=lambda value: "",
)
def test_arguments_that_contradict_the_run(trained, capsys, option, message):
    assert message in refused(capsys, "train", "text.txt", "--out", trained, "--steps", 9, "--resume", *option)


def test_another_text(trained, capsys, folder):
    (folder / "text.txt").write_bytes(TEXT.replace(b"make", b"mark"))
    message = f"text: expected the one that lm.safetensors was trained on, of {len(TEXT)} symbols, got another one, of"
    assert message in refused(capsys, "train", "text.txt", "--out", trained, "--steps", 9, "--resume")


def test_what_is_no_model_of_bytes(trained, capsys, folder):
    RecurrentLM(5, 2, 2).save("numbers")
    RecurrentLM("abc", 2, 2).save("abc")
    RecurrentLM(256, 2, 2).save("untrained")
    fastml.GRU(2, 3).save("gru")
    about = {**RecurrentLM(256, 4, 8)._about(), "format": 0, "version": "0.0.1"}
    save_file(load_file(trained), "old", metadata={"fastml": json.dumps(about), "crc32": "0"})
    (folder / "cut").write_bytes(trained.read_bytes()[:-1])
    for name, message in {
        "numbers": "numbers: expected a model of bytes, got RecurrentLM(5, ",
        "abc": "abc: expected a model of bytes, got RecurrentLM(<3 symbols>, ",
        "gru": "gru: not a RecurrentLM saved by fastml, or damaged: it holds a layer of kind GRU",
        "old": "old: a RecurrentLM of format 0, written by fastml 0.0.1; this fastml reads format 1",
        "cut": "cut: not a RecurrentLM saved by fastml, or damaged: ",
        "text.txt": "text.txt: not a RecurrentLM saved by fastml, or damaged: ",
        "nowhere": "nowhere",
    }.items():
        assert message in refused(capsys, "sample", name)
        assert message in refused(capsys, "eval", name, "text.txt")
    for name in ("gru", "old", "cut", "nowhere"):
        resume = ["text.txt", "--out", name, "--steps", 1, "--resume"]
        assert f"{name}" in refused(capsys, "train", *resume)
        if importlib.util.find_spec("matplotlib"):
            assert f"{name}" in refused(capsys, "plot", name)
    message = "untrained: a model without its training: RecurrentLM.load reads it, but it cannot go on"
    assert message in refused(capsys, "train", "text.txt", "--out", "untrained", "--steps", 1, "--resume")


# ------------------------------------------------------------------------------------------------ sample, eval and plot


def test_sample(trained, capsys):
    model = RecurrentLM.load(trained)
    assert lm("sample", trained, "--prompt", "5 é", "--length", 40, "--seed", 3, "--temperature", 0.8) == 0
    want = model.generate("5 é".encode(), 40, 0.8, seed=3)
    assert capsys.readouterr().out == "5 é" + want.decode(errors="replace") + "\n"
    assert lm("sample", trained, "--length", 30, "--temperature", 0) == 0
    assert capsys.readouterr().out == model.generate(b"\n", 30, 0).decode(errors="replace") + "\n"


def test_sample_refuses(trained, capsys):
    for argv, message in (
        (["--prompt", ""], "--prompt: expected at least one character, got none"),
        (["--length", -1], "--length: expected at least 0, got -1"),
        (["--temperature", -1], "temperature: expected a number from 0.0 to inf, got -1.0"),
        (["--seed", -1], "seed: expected an integer of at least 0, got -1"),
        (["--threads", 0], "--threads: expected at least 1, got 0"),
    ):
        assert message in refused(capsys, "sample", trained, *argv)


def test_sample_into_a_pipe_that_closes(trained):
    code = f"{sys.executable} -P -m fastml.cli lm sample lm.safetensors --length 100000000 | head -c 10"
    path = os.pathsep.join([str(Path(fastml.__file__).parents[1]), *sys.path])
    done = subprocess.run(["sh", "-c", code], capture_output=True, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert len(done.stdout) == 10 and not done.stderr


def test_eval(trained, capsys, folder):
    (folder / "one.txt").write_bytes(b"1")
    (folder / "two.txt").write_bytes(b"1 and 2 make 3")
    model = RecurrentLM.load(trained)
    want = {name: model.bits_per_character(Path(name).read_bytes()) for name in ("text.txt", "two.txt")}
    predicted = {"text.txt": len(TEXT) - 1, "two.txt": 13}
    total = sum(want[name] * n for name, n in predicted.items()) / sum(predicted.values())
    assert lm("eval", trained, ".") == 0
    assert capsys.readouterr().out.splitlines() == [
        "one.txt          -",
        f"text.txt  {want['text.txt']:8.4f}",
        f"two.txt   {want['two.txt']:8.4f}",
        f"all       {total:8.4f}",
    ]
    assert lm("eval", trained, ".", "--glob", "t*.txt", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bits_per_character"] == pytest.approx(total, rel=1e-6)
    assert [(f["path"], f["characters"]) for f in found["files"]] == [("text.txt", len(TEXT)), ("two.txt", 14)]
    assert [f["bits_per_character"] for f in found["files"]] == pytest.approx(list(want.values()), rel=1e-6)
    assert lm("eval", trained, "two.txt") == 0
    assert capsys.readouterr().out == f"two.txt  {want['two.txt']:8.4f}\n"
    message = "PATH: expected a file of at least two bytes, got none"
    assert message in refused(capsys, "eval", trained, "one.txt")


@MATPLOTLIB
def test_plot(trained, capsys, folder):
    assert lm("plot", trained) == 0
    assert capsys.readouterr().out == "lm.png\n"
    assert Path("lm.png").read_bytes()[:4] == b"\x89PNG"
    assert lm("plot", trained, "--out", "curve.svg") == 0
    assert capsys.readouterr().out == "curve.svg\n" and Path("curve.svg").exists()
    assert "expected a name that ends in .png, .pdf or .svg, got 'c.txt'" in refused(
        capsys, "plot", trained, "--out", "c.txt"
    )
    Trainer(RecurrentLM(256, 2, 2), TEXT, seq_len=9).save("new")
    assert "new: no step has been trained yet" in refused(capsys, "plot", "new")
    assert "--out: cannot write no/x.png: No such file or directory" in refused(
        capsys, "plot", trained, "--out", "no/x.png"
    )


def test_plot_without_matplotlib(trained, capsys, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert "plot needs matplotlib: pip install fastml[plot]" in refused(capsys, "plot", trained)


def test_help_and_no_command(capsys):
    for argv, word in ((["--help"], "{train,sample,eval,plot}"), (["train", "--help"], "--checkpoint SECONDS")):
        with pytest.raises(SystemExit) as caught:
            lm(*argv)
        assert caught.value.code == 0 and word in capsys.readouterr().out
    assert "required: command" in refused(capsys)


def test_the_command_is_imported_when_it_is_used():
    code = "import sys, fastml.cli; print([name for name in sys.modules if name.startswith('fastml.language')])"
    path = os.pathsep.join([str(Path(fastml.__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout == "[]\n", done.stderr
