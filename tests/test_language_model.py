"""`fastml.language.RecurrentLM`: its gradients, its two ways to embed, its texts, draws and files."""

import copy
import json
import math
import pickle
import re
from itertools import islice

import numpy as np
import pytest
from cells import RECURRENT, on
from compare import close, error
from safetensors.numpy import load_file, save_file
from test_gradients import STENCIL, STEP

import fastml
from fastml.language import RecurrentLM, UnigramLM, recurrent
from fastml.language.recurrent import IGNORED
from fastml.optim import Adam

FAMILIES = (*RECURRENT, "softmax", "adam")
DIFFERENCES = 1e-9  # a mean loss of 1.6 rounds to 4e-13 of a difference, and gradients are about 1e-2
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # of a whole pass, some hundred roundings

VARIANTS = {
    "lstm": {},
    "gru": {"cell": "gru", "bias": False},
    "rnn": {"cell": "rnn"},
    "tied": {"cell": "gru", "tied": True, "embedding": 4},
    "deep": {"num_layers": 2, "dropout": 0.4},
    "deep-tied": {"cell": "rnn", "num_layers": 2, "dropout": 0.3, "tied": True, "embedding": 4, "bias": False},
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


@pytest.fixture(params=["folded", "looked-up"])
def way(request, monkeypatch):
    """Both ways to embed."""
    if request.param == "looked-up":
        monkeypatch.setattr(recurrent, "FOLDED", 0)
    return request.param


def small(dtype="float64", **options):
    return RecurrentLM(5, **{"embedding": 3, "hidden": 4, "dtype": dtype, "seed": 3, **options})


def batch(T=6, B=3):
    """Symbols, of which one never occurs, targets, of which some do not count, and lengths."""
    rng = np.random.default_rng(0)
    x, target = rng.integers(0, 4, (T, B)), rng.integers(0, 5, (T, B))
    target[1, 2] = target[3, 0] = IGNORED
    return x, target, [T, T - 3, T - 1]


def states(model, B=3):
    rng = np.random.default_rng(1)
    h, c = rng.standard_normal((2, model.num_layers, B, model.hidden)).astype(model.dtype)
    return (h, c) if model.cell == "lstm" else h


def forward(model, **changes):
    x, target, lengths = batch()
    return model.forward(x, target, **{"state": states(model), "lengths": lengths, "dropout_seed": 7, **changes})


def parts(state):
    return state if isinstance(state, tuple) else (state,)


# --------------------------------------------------------------------------------------------------------------- passes


def test_gradients_are_differences_of_the_loss(variant, way):
    """Of every weight, up to eight of its entries."""
    model = small(**variant)
    with on(("reference", None)):
        grads = model.backward(forward(model)[2])
        assert list(grads) == list(model.weights)
        rng = np.random.default_rng(0)
        for name, weight in model.weights.items():
            places = [tuple(p) for p in rng.permutation(list(np.ndindex(weight.shape)))[:8]]
            want = []
            for place in places:
                was, total = weight[place], 0.0
                for steps, factor in STENCIL:
                    weight[place] = was + steps * STEP
                    total += factor * forward(model)[0]
                weight[place] = was
                want.append(total / STEP)
            close([grads[name][p] for p in places], want, tolerance=DIFFERENCES, dtype="float64", name=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_back_end_against_the_reference(column, variant, dtype):
    model, exact = small(dtype, **variant), small(**variant)
    loss, state, tape = forward(model)
    grads = model.backward(tape)
    with on(("reference", None)):
        want, states_wanted, tape = forward(exact)
        grads_wanted = exact.backward(tape)
    assert error(loss, want) <= TOLERANCE[dtype]
    for got, wanted in zip(parts(state), parts(states_wanted), strict=True):
        close(got, wanted, tolerance=TOLERANCE[dtype], dtype=dtype)
    for name, wanted in grads_wanted.items():
        close(grads[name], wanted, tolerance=TOLERANCE[dtype], dtype=dtype, name=name)


def test_both_ways_to_embed_are_the_same(column, variant, monkeypatch):
    model = small(**variant)
    (loss, _, tape), text = forward(model), np.random.default_rng(5).integers(0, 5, 50)
    grads, perplexity = model.backward(tape), model.perplexity(text)
    monkeypatch.setattr(recurrent, "FOLDED", 0)
    other, _, tape = forward(model)
    assert error(other, loss) <= 1e-13 and error(model.perplexity(text), perplexity) <= 1e-13
    for name, found in model.backward(tape).items():
        close(found, grads[name], tolerance=1e-12, dtype="float64", name=name)


def test_a_tape_may_be_used_again_and_no_input_changes(variant, way):
    model = small(**variant)
    before = model.state_dict()
    tape = forward(model)[2]
    first, second = model.backward(tape), model.backward(tape)
    for name, found in second.items():
        np.testing.assert_array_equal(found, first[name])
        np.testing.assert_array_equal(model.weights[name], before[name])


def test_what_does_not_count_is_never_read(variant, way):
    """Beyond a sequence's length x and target may be anything; a target that does not count has no gradient."""
    model = small(**variant)
    x, target, lengths = batch()
    want = model.backward(forward(model)[2])
    beyond = np.arange(len(x))[:, None] >= lengths
    x[beyond], target[beyond] = 10**6, -5
    loss, _, tape = model.forward(x, target, states(model), lengths, dropout_seed=7)
    assert loss == forward(model)[0]
    for name, found in model.backward(tape).items():
        np.testing.assert_array_equal(found, want[name])
    assert math.isnan(model.loss(x[:2], np.full((2, 3), IGNORED))[0])


def test_loss_is_the_forward_pass_without_dropout(variant):
    model = small(**variant)
    x, target, lengths = batch()
    loss, state = model.loss(x, target, states(model), lengths)
    want, want_state, _ = forward(model, training=False)
    assert loss == want
    for got, wanted in zip(parts(state), parts(want_state), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert (forward(model)[0] != want) == (model.dropout > 0)


def test_dropout_is_of_its_seed(column):
    """Every layer's output is dropped, of one layer too, by a mask that the seed alone decides."""
    model = small(dropout=0.5)
    assert forward(model)[0] == forward(model)[0] != forward(model, dropout_seed=8)[0]
    tape = forward(model, dropout_seed=None)[2]
    assert forward(model, dropout_seed=None)[2].dropout_seed != tape.dropout_seed
    again = model.backward(forward(model, dropout_seed=tape.dropout_seed)[2])
    for name, found in model.backward(tape).items():
        np.testing.assert_array_equal(again[name], found)
    assert forward(model, training=False)[2].dropout_seed is None
    everything = small(dropout=1.0)
    with np.errstate(all="raise"):
        readout = everything.weights["readout.bias"]
        x, target, _ = batch()
        want = np.log(np.exp(readout).sum()) - readout[target[target >= 0]].mean()
    assert error(everything.forward(x, target)[0], want) < 1e-12


def test_one_sequence_without_its_axis(variant, way):
    model = small(**variant)
    x, target, _ = batch()
    found = model.forward(x[:, 1], target[:, 1], dropout_seed=3)
    want = model.forward(x[:, 1:2], target[:, 1:2], dropout_seed=3)
    assert found[0] == want[0]
    for got, wanted in zip(parts(found[1]), parts(want[1]), strict=True):
        np.testing.assert_array_equal(got, wanted[:, 0])
    for name, got in model.backward(found[2]).items():
        np.testing.assert_array_equal(got, model.backward(want[2])[name])


def test_a_carried_state_is_one_long_pass(column, variant):
    model = small(**{**variant, "dropout": 0.0})
    x, target = np.random.default_rng(2).integers(0, 5, (2, 23, 3))
    want, state_wanted = model.loss(x, target)
    total, state = 0.0, None
    for t in range(0, 23, 5):
        loss, state = model.loss(x[t : t + 5], target[t : t + 5], state)
        total += loss * len(x[t : t + 5])
    assert error(total / 23, want) < 1e-13
    for got, wanted in zip(parts(state), parts(state_wanted), strict=True):
        close(got, wanted, tolerance=1e-13, dtype="float64")


def test_long_texts_are_read_in_parts(variant, monkeypatch):
    model, text = small(**variant), np.random.default_rng(3).integers(0, 5, 40)
    want = model.loss(text[:-1], text[1:])[0]
    for read in (1, 7, 39, 100):
        monkeypatch.setattr(recurrent, "READ", read)
        assert error(math.log(model.perplexity(text)), want) < 1e-12
        assert error(model.bits_per_character(text) * math.log(2), want) < 1e-12


@pytest.mark.parametrize("cell_kind", ["lstm", "gru", "rnn"])
def test_threads_change_no_bit(column, threads, way, cell_kind):
    if column[0] == "reference":
        pytest.skip("whose BLAS has threads of its own")
    model = RecurrentLM(70, embedding=24, hidden=48, num_layers=2, cell=cell_kind, dropout=0.2, seed=0)
    x, target = np.random.default_rng(0).integers(0, 70, (2, 40, 6))
    found = []
    for n in (1, 2, 3):
        threads(n)
        loss, _, tape = model.forward(x, target, dropout_seed=1)
        found.append({"loss": loss, **model.backward(tape)})
    for name, want in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], want, err_msg=name)


def test_scattered_sums():
    rng = np.random.default_rng(0)
    for V, N in ((7, 50), (100, 3), (3, 0)):
        x, dx = rng.integers(0, V, (N, 2)), rng.standard_normal((N, 2, 4))
        want = np.zeros((V, 4))
        np.add.at(want, x, dx)
        close(recurrent._scattered(x, dx, V), want, tolerance=1e-14, dtype="float64")


@pytest.mark.parametrize("options", [{}, {"cell": "gru", "tied": True, "embedding": 32}], ids=["lstm", "tied-gru"])
def test_it_learns_more_than_the_frequencies(column, options):
    text = np.frombuffer(b"she sells sea shells by the sea shore, " * 8, np.uint8)
    counts = np.bincount(text)[np.unique(text)] / len(text)
    entropy = -(counts * np.log(counts)).sum()
    streams = text.reshape(8, 39).T
    model = RecurrentLM(256, **{"embedding": 8, "hidden": 32, "seed": 0, **options})
    adam = Adam(model.weights, lr=0.03)
    for _ in range(30):
        loss, _, tape = model.forward(streams[:-1], streams[1:])
        adam.step(model.backward(tape))
    assert loss < entropy / 2
    words = UnigramLM(tokenizer=list).fit([text.tobytes().decode()])
    assert error(words.perplexity([text.tobytes().decode()]), np.exp(entropy)) < 1e-12


# -------------------------------------------------------------------------------------------------- constructor, counts


def test_weights_are_live_and_of_one_seed(variant):
    model = small(**variant)
    for name, weight in model.recurrent.weights.items():
        assert weight is model.weights[f"recurrent.{name}"]
    assert ("readout.weight" in model.weights) != model.tied and ("readout.bias" in model.weights) == model.bias
    other = small("float32", **variant)
    for name, weight in other.weights.items():
        assert weight.dtype == "float32" and weight.flags.c_contiguous
        np.testing.assert_array_equal(weight, model.weights[name].astype("float32"))
    assert any((w != model.weights[name]).any() for name, w in small(**{**variant, "seed": 4}).weights.items())
    assert sum(w.size for w in model.weights.values()) == model.count_parameters()["total"]


def test_counts_by_part():
    assert RecurrentLM(256).count_parameters() == {
        "embedding": 256 * 64, "input": 1024 * 64, "recurrent": 1024 * 256, "output": 256 * 256,
        "bias": 2048 + 256, "total": 411904,
    }  # fmt: skip
    tied = RecurrentLM(10, 4, 4, 2, "gru", tied=True).count_parameters()
    assert (tied["embedding"], tied["output"], tied["input"], tied["bias"]) == (40, 0, 96, 58)


CONSTRUCTOR = [
    ({"vocabulary": 0}, ValueError, "vocabulary: expected an integer from 1 to 2147483648, got 0"),
    ({"vocabulary": 2.5}, TypeError, "vocabulary: expected an integer from 1 to 2147483648, got 2.5"),
    ({"vocabulary": b"ab"}, TypeError, "vocabulary: expected an integer or strings, got bytes"),
    ({"vocabulary": [1, 2]}, TypeError, "vocabulary: expected an integer or strings, got list"),
    ({"vocabulary": "abca"}, ValueError, "vocabulary: expected at least one symbol, each once, got 'a' twice"),
    ({"vocabulary": []}, ValueError, "vocabulary: expected at least one symbol, each once, got none"),
    ({"embedding": 0}, ValueError, "embedding: expected an integer of at least 1, got 0"),
    ({"hidden": "4"}, TypeError, "hidden: expected an integer of at least 1, got '4'"),
    ({"num_layers": 0}, ValueError, "num_layers: expected an integer of at least 1, got 0"),
    ({"cell": "LSTM"}, ValueError, "cell: expected one of 'lstm', 'gru', 'rnn', got 'LSTM'"),
    ({"bias": 1}, TypeError, "bias: expected True or False, got 1"),
    ({"tied": True}, ValueError, "tied: expected embedding = hidden, got embedding=3, hidden=4"),
    ({"dropout": 1.5}, ValueError, "dropout: expected a number between 0 and 1, got 1.5"),
    ({"dtype": "f2"}, TypeError, "dtype: expected float32 or float64, got 'f2'"),
    ({"seed": -1}, ValueError, "seed: expected an integer of at least 0, got -1"),
]


@pytest.mark.parametrize("arguments, kind, message", CONSTRUCTOR, ids=lambda value: "")
def test_constructor_errors(arguments, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        RecurrentLM(**{"vocabulary": 5, "embedding": 3, "hidden": 4, **arguments})


ZEROS = np.zeros((4, 2), int)
PASSES = [
    ({"x": ZEROS.astype(float)}, TypeError, "x: expected integers, got float64"),
    ({"x": ZEROS[None]}, ValueError, "x: expected 2 axes, or 1 for one sequence, got shape (1, 4, 2)"),
    ({"x": ZEROS + 5}, ValueError, "x: expected 0 ≤ symbol < V = 5 (from vocabulary), got 5 at step 0 of sequence 0"),
    ({"target": ZEROS[1:]}, ValueError, "target: expected shape (4, 2) (from x), got (3, 2)"),
    ({"target": ZEROS - 1}, ValueError, "target: expected 0 ≤ class < V = 5"),
    ({"lengths": [5, 1]}, ValueError, "lengths: expected 0 ≤ length ≤ T = 4, got 5 at index 0"),
    ({"state": np.zeros((1, 2, 4))}, TypeError, "state: expected a pair (h, c), got ndarray"),
]


@pytest.mark.parametrize("arguments, kind, message", PASSES, ids=lambda value: "")
def test_errors_of_passes(arguments, kind, message, way):
    for call in (small().loss, small().forward):
        with pytest.raises(kind, match=f"^{re.escape(message)}"):
            call(**{"x": ZEROS, "target": ZEROS, **arguments})


def test_errors_of_forward_and_backward():
    model = small()
    with pytest.raises(TypeError, match=r"^training: expected True or False, got 1"):
        model.forward(ZEROS, ZEROS, training=1)
    with pytest.raises(ValueError, match=r"^dropout_seed: expected an integer from 0 to 18446744073709551615, got -1"):
        model.forward(ZEROS, ZEROS, dropout_seed=-1)
    with pytest.raises(TypeError, match=r"^tape: expected the tape of this model's forward, got NoneType"):
        model.backward(None)
    with pytest.raises(ValueError, match=r"^tape: expected the tape of this RecurrentLM.*, got that of another model"):
        model.backward(small().forward(ZEROS, ZEROS)[2])


def test_empty_axes(way):
    model = small()
    for shape in ((0, 2), (3, 0)):
        loss, (h, _), tape = model.forward(np.zeros(shape, int), np.zeros(shape, int))
        assert math.isnan(loss) and h.shape == (1, shape[1], 4)
        assert not any(grad.any() for grad in model.backward(tape).values())


# ------------------------------------------------------------------------------------------------------ texts and draws


KINDS = {
    "bytes": (256, b"ab", bytes),
    "numbers": (300, [3, 299], np.ndarray),
    "characters": ("abcé", "aé", str),
    "words": (("the", "cat", "sat"), ["the", "cat"], list),
}


@pytest.mark.parametrize("kind", KINDS)
def test_generate_is_stepping_by_hand(column, kind, variant):
    vocabulary, prompt, made = KINDS[kind]
    model = RecurrentLM(vocabulary, **{"embedding": 3, "hidden": 4, "seed": 1, "dtype": "float64", **variant})
    found = model.generate(prompt, 25, 0.7, seed=4)
    assert type(found) is made and len(found) == 25
    text, state, rng, drawn = model.encode(prompt), None, np.random.default_rng(4), []
    weight, bias = model._readout()
    for _ in range(25):
        y, state = model.recurrent(model.weights["embedding"][text][:, None], state)
        logits = y[-1, 0] @ weight.T + (0 if bias is None else bias)
        p = np.cumsum(np.exp((logits - logits.max()) / 0.7))
        drawn.append(int(np.searchsorted(p, rng.random() * p[-1], side="right")))
        text = np.array(drawn[-1:])
    np.testing.assert_array_equal(model.encode(found), drawn)
    assert list(islice(model.continued(prompt, 0.7, 4), 25)) == drawn
    close(model.encode(model.generate(prompt, 0)), [], tolerance=0, dtype=model.encode(prompt).dtype)


def test_temperature_and_seed():
    model = RecurrentLM(256, 8, 8, seed=0)
    model.weights["readout.bias"][:] = np.linspace(0, 3, 256)
    draws = lambda *given: model.generate(b"x", 60, *given)
    assert draws(1.0, 1) == draws(1.0, 1) != draws(1.0, 2)
    assert draws(1.0, np.random.default_rng(1)) == draws(1.0, 1)
    assert draws(0.0, 1) == draws(0, 2) == draws(1e-300, 3) == draws(1e-6, 4)
    assert set(draws(0.0)) <= set(range(240, 256)) and len(set(draws(float("inf"), 5))) > 40
    last = np.mean(list(draws(0.3, 1)))
    assert last > np.mean(list(draws(3.0, 1)))


def test_a_long_prompt_is_read_in_parts(column, monkeypatch):
    model, prompt = small("float32"), np.random.default_rng(0).integers(0, 5, 40)
    want = model.generate(prompt, 30, seed=0)
    for read in (1, 13, 39):
        monkeypatch.setattr(recurrent, "READ", read)
        np.testing.assert_array_equal(model.generate(prompt, 30, seed=0), want)


def test_what_makes_no_text():
    number, byte, word = small(), RecurrentLM(256, 2, 2, seed=0), RecurrentLM(["ab", "c"], 2, 2, seed=0)
    for model, text, kind, message in (
        (number, b"ab", TypeError, "text: expected integers, bytes only for a vocabulary of 256, got a bytes"),
        (number, "ab", TypeError, "text: expected integers, got a str"),
        (byte, "ab", TypeError, "text: expected integers, or bytes: encode it, got a str"),
        (number, [1, 7], ValueError, "text: expected 0 ≤ symbol < V = 5 (from vocabulary), got 7 at index 1"),
        (byte, [1, -1], ValueError, "text: expected 0 ≤ symbol < V = 256 (from vocabulary), got -1 at index 1"),
        (number, [[1]], ValueError, "text: expected one axis, got shape (1, 1)"),
        (number, [0.5], TypeError, "text: expected integers, got float64"),
        (word, b"c", TypeError, "text: expected a str or an iterable of str, got bytes"),
        (word, 3, TypeError, "text: expected a str or an iterable of str, got int"),
        (word, ["ab", 3], TypeError, "text: expected a str or an iterable of str, got 3 at index 1"),
        (word, ["ab", []], TypeError, "text: expected a str or an iterable of str, got [] at index 1"),
        (word, "ca", ValueError, "text: expected symbols of the vocabulary, got 'a' at index 1"),
    ):
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            model.encode(text)
    assert word.encode(w for w in ("c", "ab")).tolist() == [1, 0]
    assert byte.encode(memoryview(b"ab")).tolist() == byte.encode(bytearray(b"ab")).tolist() == [97, 98]
    assert number.encode([]).tolist() == []


def test_errors_of_draws_and_perplexity():
    model = small()
    with pytest.raises(ValueError, match=r"^prompt: expected at least one symbol, got none$"):
        model.continued([])
    with pytest.raises(ValueError, match=r"^prompt: expected 0 ≤ symbol < V = 5 \(from vocabulary\), got 9"):
        model.generate([9], 1)
    with pytest.raises(ValueError, match=r"^length: expected an integer of at least 0, got -1$"):
        model.generate([1], -1)
    for temperature in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=r"^temperature: expected a number from 0.0 to inf"):
            model.generate([1], 1, temperature)
    for text in ([], [1]):
        with pytest.raises(ValueError, match=f"^text: expected at least two symbols.*got {len(text)}$"):
            model.perplexity(text)
    model.weights["readout.bias"][2] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        model.generate([1], 1)
    model.weights["readout.bias"][2] = 1e300
    assert model.perplexity([1, 1]) == np.inf


# ---------------------------------------------------------------------------------------------------------------- files


def same(got, want):
    assert repr(got) == repr(want) and got.vocabulary == want.vocabulary
    assert list(got.weights) == list(want.weights)
    for name, weight in want.weights.items():
        assert got.weights[name].dtype == weight.dtype
        np.testing.assert_array_equal(got.weights[name], weight)


@pytest.mark.parametrize("vocabulary", [256, ("the", "cat", "\n", "é\0")], ids=["bytes", "words"])
def test_round_trip(tmp_path, variant, vocabulary):
    path = tmp_path / "lm.safetensors"
    model = RecurrentLM(vocabulary, **{"embedding": 3, "hidden": 4, "seed": 1, "dtype": "float64", **variant})
    model.save(path)
    found = RecurrentLM.load(path)
    same(found, model)
    assert found.recurrent.weights["weight_hh_l0"] is found.weights["recurrent.weight_hh_l0"]
    assert list(tmp_path.iterdir()) == [path] and set(load_file(path)) == set(model.weights)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(copied, model)
        copied.weights["recurrent.weight_hh_l0"][:] = 0
        assert not copied.recurrent.weights["weight_hh_l0"].any() and model.weights["recurrent.weight_hh_l0"].any()


def test_state_dicts():
    model, other = small(), small("float32", seed=9)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.weights["embedding"], model.weights["embedding"].astype("float32"))
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"^mapping: missing embedding$"):
        other.load_state_dict({name: w + 1 for name, w in before.items() if name != "embedding"})
    for name, weight in other.weights.items():
        np.testing.assert_array_equal(weight, before[name])


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "lm"
    small().save(path)
    data = path.read_bytes()
    for n in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not a RecurrentLM saved by fastml, or damaged"):
            RecurrentLM.load(path)
    for place in range(0, len(data), 11):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
            RecurrentLM.load(path)


def test_files_of_other_things(tmp_path):
    path = tmp_path / "file"
    fastml.LSTM(2, 3).save(path)
    with pytest.raises(
        ValueError, match=r"not a RecurrentLM saved by fastml, or damaged: it holds a layer of kind LSTM$"
    ):
        RecurrentLM.load(path)
    model = small()
    model.save(path)
    with pytest.raises(
        ValueError, match=r"not a GRU saved by fastml, or damaged: it holds a model of kind RecurrentLM$"
    ):
        fastml.GRU.load(path)
    about = {**model._about(), "format": 2, "version": "9.0"}
    save_file(model.weights, path, metadata={"fastml": json.dumps(about), "crc32": "0"})
    message = "a RecurrentLM of format 2, written by fastml 9.0; this fastml reads format 1"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {message}$"):
        RecurrentLM.load(path)
    with pytest.raises(FileNotFoundError):
        RecurrentLM.load(tmp_path / "none")


def test_an_array_that_was_replaced_counts(tmp_path):
    model = RecurrentLM(6, 2, 3, seed=0)
    before = model.loss([0, 1, 2], [1, 2, 3])[0]
    model.weights["recurrent.weight_hh_l0"] = 3 * model.weights["recurrent.weight_hh_l0"]
    model.save(tmp_path / "lm")
    assert (
        before != model.loss([0, 1, 2], [1, 2, 3])[0] == RecurrentLM.load(tmp_path / "lm").loss([0, 1, 2], [1, 2, 3])[0]
    )


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        RecurrentLM.load(tmp_path)
