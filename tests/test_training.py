"""`fastml.language.Trainer`: what it reads, that it resumes bit for bit, what it refuses; and texts from files."""

import math
import re

import numpy as np
import pytest
from cells import RECURRENT
from compare import error

from fastml import saving
from fastml.language import RecurrentLM, Trainer, find_files, read_text
from fastml.optim import Adam

FAMILIES = (*RECURRENT, "softmax", "adam")
TEXT = np.frombuffer(b"".join(b"%d, a%d; " % (i, i * i % 97) for i in range(60)), np.uint8)
VARIANTS = {
    "lstm": {},
    "gru": {"cell": "gru", "num_layers": 2, "dropout": 0.3},
    "rnn": {"cell": "rnn", "tied": True, "embedding": 8, "dropout": 0.2, "bias": False},
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def trainer(text=TEXT, model=None, **options):
    model = RecurrentLM(256, **{"embedding": 5, "hidden": 8, "seed": 1, **(model or {})})
    return Trainer(model, text, **{"batch": 3, "seq_len": 25, "lr": 0.01, "valid": 0.1, "seed": 2, **options})


def same(one, other):
    """All that a later step depends on, bitwise."""
    assert one.steps == other.steps and one.settings == other.settings
    for name, weight in one.model.weights.items():
        for got, want in (
            (other.model.weights[name], weight),
            (other.adam.first[name], one.adam.first[name]),
            (other.adam.second[name], one.adam.second[name]),
        ):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want, err_msg=name)
    np.testing.assert_array_equal(np.array(other.state), np.array(one.state))
    np.testing.assert_array_equal(other.training_curve[:, [0, 2]], one.training_curve[:, [0, 2]])
    np.testing.assert_array_equal(other.validation_curve[:, [0, 2]], one.validation_curve[:, [0, 2]])


# -------------------------------------------------------------------------------------------------------------- reading


def test_an_epoch_reads_the_ring_once():
    model = RecurrentLM(600, 2, 2, seed=0)
    t = Trainer(model, np.arange(600), batch=4, seq_len=10, valid=0.0)
    assert t.chunks == 15
    cuts = []
    for epoch in range(3):
        chunks = [t.chunk(epoch * 15 + k) for k in range(15)]
        x = np.concatenate([x for x, _ in chunks])
        assert sorted(x.ravel().tolist()) == list(range(600))
        for _, target in chunks:
            assert target.shape == (10, 4)
        target = np.concatenate([target for _, target in chunks])
        np.testing.assert_array_equal(target, (x.astype(int) + 1) % 600)
        np.testing.assert_array_equal(np.diff(x.astype(int), axis=0) % 600, 1)
        cuts.append(int(x[0, 0]))
    assert len(set(cuts)) == 3
    same_seed, other = (Trainer(model, np.arange(600), batch=4, seq_len=10, valid=0.0, seed=s) for s in (0, 1))
    np.testing.assert_array_equal(same_seed.chunk(31)[0], t.chunk(31)[0])
    assert (other.chunk(31)[0] != t.chunk(31)[0]).any()


def test_the_held_out_tail_is_never_read():
    text = np.repeat(np.array([1, 2], np.uint8), [450, 50])
    t = trainer(text)
    assert all((np.array(t.chunk(k)) == 1).all() for k in range(3 * t.chunks))


def test_steps_are_those_taken_by_hand(column, variant):
    """Three epochs: the state carried within each, zeros at its start."""
    t = trainer(model={**variant, "dropout": 0.0})
    model = RecurrentLM(256, **{"embedding": 5, "hidden": 8, "seed": 1, **variant, "dropout": 0.0})
    adam, state = Adam(model.weights, 0.01, clip=1.0), None
    for k in range(2 * t.chunks + 2):
        x, target = t.chunk(k)
        loss, state, tape = model.forward(x, target, None if k % t.chunks == 0 else state)
        adam.step(model.backward(tape))
        assert t.step() == loss / math.log(2)
        assert t.training_curve[-1, [0, 2]].tolist() == [(k + 1) * 75, loss / math.log(2)]
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(t.model.weights[name], weight)
    assert t.characters == t.steps * 75 and (np.diff(t.training_curve[:, 1]) > 0).all()


def test_validation_reads_all_that_is_held_out(column, variant):
    t = trainer(model={**variant, "dtype": "float64"}, batch=4, seq_len=20)
    t.step()
    before = t.model.state_dict()
    got = t.validate()
    held = TEXT[len(TEXT) - int(len(TEXT) * 0.1) :]
    length, nats = -(-(len(held) - 1) // 4), 0.0
    for start in range(0, len(held) - 1, length):
        x, target = held[:-1][start : start + length], held[1:][start : start + length]
        nats += t.model.loss(x, target)[0] * len(x)
    assert error(got, nats / (len(held) - 1) / math.log(2)) < 1e-12
    assert t.validation_curve.tolist() == [[80.0, t.seconds, got]]
    for name, weight in before.items():
        np.testing.assert_array_equal(t.model.weights[name], weight)
    with pytest.raises(ValueError, match=r"^valid: expected a share to be held out, got 0$"):
        trainer(valid=0.0).validate()


def test_it_learns(column):
    t = trainer(lr=0.03)
    bits = [t.step() for _ in range(50)]
    assert bits[-1] < bits[0] / 2 and t.validate() < bits[0] / 2


# ------------------------------------------------------------------------------------------------------------- resuming


def test_interrupted_is_uninterrupted(column, variant, tmp_path, threads):
    """At the start, within an epoch, at its end; whatever the number of threads."""
    path = tmp_path / "lm.safetensors"
    want, t = trainer(model=variant), trainer(model=variant)
    if column[0] != "reference":
        threads(2)
    for _ in range(13):
        want.step()
    want.validate()
    if column[0] != "reference":
        threads(1)
    for stop in (0, 4, 5, 11):
        while t.steps < stop:
            t.step()
        t.save(path)
        t = Trainer.load(path, TEXT)
    while t.steps < 13:
        t.step()
    t.validate()
    same(want, t)
    t.save(path)
    same(Trainer.load(path, TEXT), t)
    for got, curve in zip(Trainer.curves(path), (t.training_curve, t.validation_curve), strict=True):
        np.testing.assert_array_equal(got, curve)
    assert list(tmp_path.iterdir()) == [path]


def test_one_file_is_the_model_too(tmp_path, variant):
    t = trainer(model=variant)
    t.step()
    t.save(tmp_path / "lm")
    model = RecurrentLM.load(tmp_path / "lm")
    assert repr(model) == repr(t.model) and list(model.weights) == list(t.model.weights)
    for name, weight in t.model.weights.items():
        np.testing.assert_array_equal(model.weights[name], weight)


def test_rates_that_were_changed_are_kept(tmp_path):
    t = trainer()
    t.adam.lr, t.adam.clip = 0.5, None
    t.save(tmp_path / "lm")
    found = Trainer.load(tmp_path / "lm", TEXT).adam
    assert (found.lr, found.clip) == (0.5, None)


def test_texts_of_other_kinds(tmp_path):
    words = ["the", "cat", "sat", "on", "the", "mat", "and"] * 30
    t = Trainer(RecurrentLM(dict.fromkeys(words), 3, 4, seed=0), words, batch=2, seq_len=9)
    t.step()
    t.save(tmp_path / "lm")
    assert Trainer.load(tmp_path / "lm", iter(words)).step() == t.step()


def test_what_cannot_be_resumed(tmp_path):
    path = tmp_path / "lm"
    t = trainer()
    t.save(path)
    for other in (TEXT[:-1], TEXT[::-1], np.roll(TEXT, 1)):
        message = f"text: expected the one that {path} was trained on, of {len(TEXT)} symbols, got another one, of "
        with pytest.raises(ValueError, match=f"^{re.escape(message)}{len(other)}$"):
            Trainer.load(path, other)
    t.model.save(path)
    for call in (lambda: Trainer.load(path, TEXT), lambda: Trainer.curves(path)):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: a model without its training: "):
            call()
    with pytest.raises(FileNotFoundError):
        Trainer.load(tmp_path / "none", TEXT)


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "lm"
    t = trainer()
    t.step()
    t.save(path)
    data = path.read_bytes()
    for place in [*range(0, len(data), len(data) // 40), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        for load in (RecurrentLM.load, lambda path: Trainer.load(path, TEXT)):
            with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
                load(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda about, _: about.update(training={}), "training: missing settings, adam, steps, text"),
        (lambda about, _: about.update(training="none"), "training: missing settings, adam, steps, text; unknown n, o"),
        (lambda about, _: about["training"].update(settings=[]), "training.settings: missing batch, seq_len, valid"),
        (lambda about, _: about["training"].update(steps=1.5), "steps: expected an integer of at least 0, got 1.5"),
        (lambda about, _: about["training"].update(text=3), "'int' object is not iterable"),
        (lambda about, _: about["training"]["settings"].update(batch=0), "batch: expected an integer of at least 1"),
        (lambda about, _: about["training"]["settings"].update(lr=10**400), "lr: expected a positive number, got an"),
        (lambda about, _: about["training"]["settings"].update(clip="x"), "clip: expected a positive number, got 'x'"),
        (lambda _, arrays: arrays.pop("training.curve"), "training: missing training.curve"),
        (lambda _, arrays: arrays.update({"training.validations": np.zeros(3)}), r"float64 of shape \(3, 3\), got"),
        (lambda _, arrays: arrays.update({"training.state.0": np.zeros((1, 2, 8), "float32")}), r"\(1, 3, 8\), got"),
        (
            lambda _, arrays: arrays.update({"training.first.embedding": np.zeros((256, 5))}),
            "expected float32 of shape",
        ),
    ],
    ids=lambda value: "",
)
def test_what_no_trainer_writes_is_no_training(tmp_path, change, message):
    """Though its checksum is right."""
    path, t = tmp_path / "lm", trainer()
    t.step()
    t.save(path)
    with saving.opened(path, "RecurrentLM", 1) as file:
        model, arrays = RecurrentLM._from(file)
    change(file.about, arrays)
    saving.save(path, file.about, model.weights | arrays)
    for load in (Trainer.curves, lambda path: Trainer.load(path, TEXT)):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not a RecurrentLM saved .*{message}"):
            load(path)


def test_a_gradient_that_is_not_finite_changes_nothing(column, tmp_path):
    t, want = trainer(), trainer()
    for _ in range(2):
        t.step()
        want.step()
    t.model.weights["readout.bias"][3] = want.model.weights["readout.bias"][3] = np.nan
    with pytest.raises(
        FloatingPointError, match=r"^step 3: gradients: expected finite numbers.*; a smaller lr or clip"
    ):
        t.step()
    same(want, t)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"batch": 0}, ValueError, "batch: expected an integer of at least 1, got 0"),
        ({"seq_len": 0}, ValueError, "seq_len: expected an integer of at least 1, got 0"),
        ({"lr": 0}, ValueError, "lr: expected"),
        ({"clip": -1}, ValueError, "clip: expected"),
        ({"valid": 1}, ValueError, "valid: expected a number from 0 to 0.9999999999999999, got 1"),
        (
            {"valid": 0.001},
            ValueError,
            f"valid: expected 0, or a share of at least 2 of {len(TEXT)} symbols, got 0.001",
        ),
        ({"seed": -1}, ValueError, "seed: expected an integer of at least 0, got -1"),
        (
            {"seq_len": 200},
            ValueError,
            f"seq_len: expected at most {(len(TEXT) - len(TEXT) // 10) // 3}, a stream's share of the text "
            f"({len(TEXT)} symbols, {len(TEXT) // 10} of them held out, in 3 streams), got 200",
        ),
    ],
    ids=lambda value: "",
)
def test_errors(options, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        trainer(**options)


def test_errors_of_model_and_text():
    with pytest.raises(TypeError, match=r"^model: expected a RecurrentLM, got NoneType$"):
        Trainer(None, TEXT)
    with pytest.raises(TypeError, match=r"^text: expected integers, or bytes: encode it, got a str$"):
        trainer("abc")
    with pytest.raises(ValueError, match=r"^seq_len: expected at most 0, a stream's share of the text \(0 symbols"):
        trainer(b"")


# ---------------------------------------------------------------------------------------------------------------- files


def test_files_of_folders(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name, data in {"z.txt": b"z", "b/a.md": b"a", "b/deep/c.py": b"c", "b/x.bin": b"\0", "b/e.rst": b""}.items():
        (tmp_path / name).write_bytes(data)
    names = lambda *given: [str(path.relative_to(tmp_path)) for path in find_files(*given)]
    assert names([tmp_path]) == ["b/a.md", "b/deep/c.py", "b/e.rst", "z.txt"]
    assert names([tmp_path], ["*.py", "*.txt"]) == ["b/deep/c.py", "z.txt"]
    assert names([tmp_path / "z.txt", tmp_path / "b", tmp_path / "z.txt", tmp_path]) == [
        "z.txt", "b/a.md", "b/deep/c.py", "b/e.rst",
    ]  # fmt: skip
    assert names([tmp_path / "b" / "x.bin"]) == ["b/x.bin"]
    assert read_text([tmp_path]).tobytes() == b"acz" == read_text([str(tmp_path)]).tobytes()


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"ab\0c")
    (tmp_path / "empty.txt").write_bytes(b"")
    for paths, patterns, kind, message in (
        (["none"], ["*"], FileNotFoundError, "path: there is no none"),
        ([""], ["*"], ValueError, "path: expected a file or a folder, got ''"),
        (
            [tmp_path],
            ["*.md", "*.c"],
            ValueError,
            f"path: expected files that match *.md or *.c, {tmp_path} holds none",
        ),
        ([tmp_path], ["*"], ValueError, f"path: expected text, {tmp_path / 'x.bin'} is binary (a NUL byte at 2)"),
        ([tmp_path], ["*.txt"], ValueError, f"path: expected text, got not a byte in {tmp_path}"),
        ([], ["*"], ValueError, "path: expected text, got not a byte in "),
    ):
        with pytest.raises(kind, match=f"^{re.escape(message)}"):
            read_text(paths, patterns)


def test_all_of_adam_is_kept(tmp_path):
    t = trainer()
    t.adam.betas, t.adam.eps, t.adam.lr, t.adam.clip = (0.5, 0.75), 1e-6, 0.5, None
    t.step()
    t.save(tmp_path / "lm")
    same = Trainer.load(tmp_path / "lm", TEXT)
    assert [getattr(same.adam, name) for name in ("betas", "eps", "lr", "clip")] == [(0.5, 0.75), 1e-6, 0.5, None]
    t.step(), same.step()
    assert all((t.model.weights[name] == weight).all() for name, weight in same.model.weights.items())


def test_one_path_and_hidden_folders(tmp_path):
    for folder in (".hidden", "seen"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_bytes(folder.encode())
    assert find_files(str(tmp_path)) == find_files(tmp_path) == [tmp_path / "seen" / "a.txt"]
    assert bytes(read_text(tmp_path)) == b"seen"
    assert bytes(read_text(str(tmp_path / ".hidden"))) == b".hidden"
