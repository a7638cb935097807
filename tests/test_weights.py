"""Weights in and out: initial values, state dictionaries, files, pickles."""

import copy
import errno
import io
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastml
from fastml import saving

KINDS = {"RNN": fastml.RNN, "GRU": fastml.GRU, "LSTM": fastml.LSTM}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OTHER = {"RNN": {"nonlinearity": "relu"}, "GRU": {"reset_after": False}, "LSTM": {}}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def layer(kind):
    """A layer with no argument at its default."""
    return KINDS[kind](
        2, 3, 2, bias=False, batch_first=True, dropout=0.25, bidirectional=True, dtype="float64", seed=0, **OTHER[kind]
    )


def same(got, want):
    assert type(got) is type(want) and repr(got) == repr(want)
    assert list(got.weights) == list(want.weights)
    for name, weight in want.weights.items():
        np.testing.assert_array_equal(got.weights[name], weight)
        assert got.weights[name].dtype == weight.dtype and got.weights[name].shape == weight.shape
        assert got.weights[name].flags.c_contiguous and got.weights[name].flags.writeable
        assert not np.shares_memory(got.weights[name], weight)


# ------------------------------------------------------------------------------------------------------- initial values


def test_names_and_shapes(kind):
    G = GATES[kind]
    weights = KINDS[kind](2, 5, 2, bidirectional=True).weights
    assert [(name, w.shape) for name, w in weights.items()] == [
        (f"{part}_l{layer}{direction}", shape)
        for layer, I in enumerate((2, 10))
        for direction in ("", "_reverse")
        for part, shape in (
            ("weight_ih", (G * 5, I)), ("weight_hh", (G * 5, 5)), ("bias_ih", (G * 5,)), ("bias_hh", (G * 5,)),
        )
    ]  # fmt: skip
    assert list(KINDS[kind](2, 5, bias=False).weights) == ["weight_ih_l0", "weight_hh_l0"]


def test_initial_values(kind):
    a, b, other = (KINDS[kind](20, 25, 2, seed=seed) for seed in (1, 1, 2))
    double = KINDS[kind](20, 25, 2, seed=1, dtype="float64")
    for name, weight in a.weights.items():
        assert weight.dtype == np.float32 and weight.flags.c_contiguous and weight.flags.writeable
        np.testing.assert_array_equal(weight, b.weights[name])
        np.testing.assert_array_equal(weight, double.weights[name].astype("float32"))
        assert (weight != other.weights[name]).any()
        assert 0.15 < np.abs(weight).max() <= np.float32(0.2)  # U(-1/√25, 1/√25)
    drawn = np.concatenate([weight.ravel() for weight in double.weights.values()])
    assert abs(drawn.mean()) < 5 * 0.2 / np.sqrt(3 * drawn.size)
    assert drawn.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    assert (KINDS[kind](20, 25).weights["weight_ih_l0"] != KINDS[kind](20, 25).weights["weight_ih_l0"]).any()


@pytest.mark.parametrize("dtype", [np.float64, "f8", np.dtype("float64"), float, "double"])
def test_any_name_of_a_dtype(kind, dtype):
    layer = KINDS[kind](2, 3, dtype=dtype)
    assert layer.dtype == np.float64 and layer.weights["weight_hh_l0"].dtype == np.float64


# --------------------------------------------------------------------------------------------------- state dictionaries


def test_state_dict_is_a_copy(layer):
    state = layer.state_dict()
    assert list(state) == list(layer.weights)
    for name, weight in layer.weights.items():
        np.testing.assert_array_equal(state[name], weight)
        assert not np.shares_memory(state[name], weight)


def test_load_state_dict_writes_in_place(kind, layer):
    live = dict(layer.weights)
    other = KINDS[kind](2, 3, 2, bias=False, bidirectional=True, seed=1)
    layer.load_state_dict(other.state_dict())
    for name, weight in layer.weights.items():
        assert weight is live[name] and weight.dtype == np.float64
        np.testing.assert_array_equal(weight, other.weights[name])


def test_anything_that_numpy_takes(kind, tmp_path):
    layer = KINDS[kind](1, 2, seed=0)
    want = {name: np.round(weight * 8) for name, weight in layer.weights.items()}
    np.savez(tmp_path / "weights.npz", **want)
    with np.load(tmp_path / "weights.npz") as archive:
        for mapping in (
            {name: w.tolist() for name, w in want.items()},
            {name: w.astype("int8") for name, w in want.items()},
            {name: w.astype(">f8") for name, w in want.items()},
            {name: w.astype("float16") for name, w in want.items()},
            {name: np.asfortranarray(w) for name, w in reversed(want.items())},
            archive,
        ):
            layer.load_state_dict({name: np.zeros_like(w) for name, w in want.items()})
            layer.load_state_dict(mapping)
            for name, weight in layer.weights.items():
                np.testing.assert_array_equal(weight, want[name])
                assert weight.dtype == np.float32


def test_own_arrays_exchanged(kind):
    """The mapping may hold the layer's own arrays, in other places."""
    layer = KINDS[kind](3, 3, seed=0)
    a, b = layer.state_dict()["weight_ih_l0"], layer.state_dict()["weight_hh_l0"]
    layer.load_state_dict(
        {**layer.weights, "weight_ih_l0": layer.weights["weight_hh_l0"], "weight_hh_l0": layer.weights["weight_ih_l0"]}
    )
    np.testing.assert_array_equal(layer.weights["weight_ih_l0"], b)
    np.testing.assert_array_equal(layer.weights["weight_hh_l0"], a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_there_and_back(kind, dtype):
    torch = pytest.importorskip("torch")
    peer = getattr(torch.nn, kind)(2, 3, 2, bidirectional=True)
    layer = KINDS[kind](2, 3, 2, bidirectional=True, dtype=dtype)
    layer.load_state_dict(peer.state_dict())
    for name, weight in peer.state_dict().items():
        np.testing.assert_array_equal(layer.weights[name], weight.numpy())
    layer.load_state_dict(KINDS[kind](2, 3, 2, bidirectional=True, seed=0).state_dict())
    peer.load_state_dict({name: torch.from_numpy(weight) for name, weight in layer.state_dict().items()})
    with pytest.raises(TypeError, match=r"^weight_ih_l0: expected an array of real numbers, got Parameter \("):
        layer.load_state_dict(dict(peer.named_parameters()))


def test_load_state_dict_is_all_or_nothing(kind):
    layer = KINDS[kind](2, 3, seed=0)
    G, before = 3 * GATES[kind], layer.state_dict()
    good = {name: np.zeros_like(weight) for name, weight in before.items()}
    without = {name: good[name] for name in ("weight_ih_l0", "bias_ih_l0")}
    message = (
        "mapping: missing weight_hh_l0, bias_hh_l0; unknown weight_ih_l1, bias; "
        f"weight_ih_l0: expected shape ({G}, 2), got (2, {G}); bias_ih_l0: expected shape ({G},), got ()"
    )
    bad = {**without, "weight_ih_l0": good["weight_ih_l0"].T, "weight_ih_l1": 0, "bias_ih_l0": 1.0, "bias": None}
    for mapping, error, text in (
        (bad, ValueError, message),
        ({}, ValueError, "mapping: missing weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0"),
        ({**good, 3: 0}, ValueError, "mapping: unknown 3"),
        (list(good.items()), TypeError, "mapping: expected names and arrays, got list"),
        (None, TypeError, "mapping: expected names and arrays, got NoneType"),
        ({**good, "bias_hh_l0": 1j}, TypeError, "bias_hh_l0: expected an array of real numbers, got complex128"),
        ({**good, "bias_hh_l0": "0"}, TypeError, "bias_hh_l0: expected an array of real numbers, got <U1"),
        ({**good, "bias_hh_l0": None}, TypeError, "bias_hh_l0: expected an array of real numbers, got object"),
    ):
        with pytest.raises(error, match=f"^{re.escape(text)}$"):
            layer.load_state_dict(mapping)
        for name, weight in layer.weights.items():
            np.testing.assert_array_equal(weight, before[name])
    with pytest.raises(TypeError, match=r"^bias_hh_l0: expected an array of real numbers, got list \("):
        layer.load_state_dict({**good, "bias_hh_l0": [[1], [2, 3]]})


# ---------------------------------------------------------------------------------------------------------------- files


def test_round_trip(layer, tmp_path):
    path = tmp_path / "layer.safetensors"
    layer.save(path)
    same(type(layer).load(path), layer)
    layer.weights["weight_ih_l0"] += 1
    layer.save(str(path))
    same(type(layer).load(str(path)), layer)
    assert os.listdir(tmp_path) == [path.name]


def test_round_trip_of_defaults(kind, tmp_path):
    layer = KINDS[kind](2, 3)
    layer.save(tmp_path / "layer")
    same(KINDS[kind].load(tmp_path / "layer"), layer)


def test_a_subclass(kind, tmp_path):
    mine = type("Mine", (KINDS[kind],), {"__init__": lambda self: KINDS[kind].__init__(self, 2, 3)})
    mine().save(tmp_path / "layer")
    assert type(mine.load(tmp_path / "layer")) is mine
    assert type(KINDS[kind].load(tmp_path / "layer")) is KINDS[kind]


def test_others_can_read_the_file(layer, tmp_path):
    layer.save(tmp_path / "layer")
    for name, weight in load_file(tmp_path / "layer").items():
        np.testing.assert_array_equal(weight, layer.weights[name])
    with safe_open(tmp_path / "layer", framework="numpy") as file:
        about = json.loads(file.metadata()["fastml"])
    assert about["layer"] == type(layer).__name__
    made = type(layer)(**about["arguments"])
    made.load_state_dict(load_file(tmp_path / "layer"))
    same(made, layer)


def test_permissions_follow_the_umask(tmp_path):
    if os.name == "nt":
        pytest.skip("Windows has no umask")
    before = os.umask(0o027)
    try:
        fastml.RNN(1, 1).save(tmp_path / "layer")
    finally:
        os.umask(before)
    assert (tmp_path / "layer").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "folder" / "layer")
    except OSError:
        pytest.skip("no symbolic links here")
    fastml.RNN(1, 1, seed=0).save(link)
    assert link.is_symlink() and os.listdir(tmp_path / "folder") == ["layer"]
    same(fastml.RNN.load(link), fastml.RNN(1, 1, seed=0))


def test_any_cut_is_noticed(layer, tmp_path):
    path = tmp_path / "layer"
    layer.save(path)
    data = path.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    for n in (0, 1, 7, 8, 9, head // 2, head - 1, head, head + 1, (head + len(data)) // 2, len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(
            ValueError, match=f"^{re.escape(str(path))}: not a {type(layer).__name__} saved by fastml, or damaged: "
        ):
            type(layer).load(path)
    path.write_bytes(data + b"more")
    with pytest.raises(ValueError, match="damaged"):
        type(layer).load(path)


def test_any_flipped_bit_is_noticed(layer, tmp_path):
    path = tmp_path / "layer"
    layer.save(path)
    data = path.read_bytes()
    for place in [*range(0, len(data), 5), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not a {type(layer).__name__} saved by fastml"):
            type(layer).load(path)


def arguments(**changes):
    """The metadata of a file with a GRU(2, 3) in it."""
    options = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
    return {"input_size": 2, "hidden_size": 3, **options, "dtype": "float32", "reset_after": True, **changes}


WRONG = [
    (None, "fastml wrote no arguments into its metadata"),
    ("{", "its metadata cannot be read (JSONDecodeError("),
    ("[" * 100_000, "its metadata cannot be read (RecursionError("),
    ("[]", "its metadata cannot be read (TypeError("),
    ({"arguments": {}}, "its metadata cannot be read (KeyError('layer'))"),
    ({"layer": "GRU", "arguments": 3}, "its metadata cannot be read (TypeError("),
    ({"layer": "LSTM", "arguments": arguments()}, "it holds a layer of kind LSTM"),
    ({"layer": "GRU", "arguments": {}}, "missing 1 required keyword-only argument: 'reset_after'"),
    ({"layer": "GRU", "arguments": arguments(zoneout=1)}, "got an unexpected keyword argument 'zoneout'"),
    ({"layer": "GRU", "arguments": arguments(hidden_size=0)}, "hidden_size: expected an integer of at least 1, got 0"),
    ({"layer": "GRU", "arguments": arguments(dropout="0")}, "dropout: expected a number between 0 and 1, got '0'"),
    ({"layer": "GRU", "arguments": arguments(input_size=4)}, "weight_ih_l0: expected shape (9, 4), got (9, 2)"),
    ({"layer": "GRU", "arguments": arguments(bias=False)}, "unknown bias_hh_l0, bias_ih_l0"),
    ({"layer": "GRU", "arguments": arguments(dtype="float64")}, "weight_hh_l0: expected float64, got F32"),
    ({"layer": "GRU", "arguments": arguments()}, "a weight or an argument does not fit the checksum"),
    ({"layer": "GRU", "arguments": arguments(num_layers=10**12)}, "missing weight_ih_l1"),
    ({"layer": "GRU", "arguments": arguments(hidden_size=10**12)}, "weight_ih_l0: expected shape (3000000000000, 2)"),
]  # fmt: skip


@pytest.mark.parametrize("about, message", WRONG, ids=lambda value: "")
def test_files_of_others(about, message, tmp_path):
    path = tmp_path / "file"
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(fastml.GRU(2, 3).state_dict(), path, metadata={"fastml": text} if about else {"format": "pt"})
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(path))}: not a GRU saved by fastml, or damaged: .*{re.escape(message)}"
    ):
        fastml.GRU.load(path)


def test_load_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fastml.GRU.load(tmp_path / "nowhere")
    with pytest.raises(OSError):
        fastml.GRU.load(tmp_path)
    (tmp_path / "pickle").write_bytes(pickle.dumps(fastml.GRU(2, 3)))
    with pytest.raises(ValueError, match=r"pickle: not a GRU saved by fastml, or damaged: "):
        fastml.GRU.load(tmp_path / "pickle")
    with pytest.raises(TypeError):
        fastml.GRU.load(3)


def damage(monkeypatch, how):
    """Let saving fail as a full disk makes it fail, at one of its steps."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if how == "write":

        class Full(io.FileIO):
            write = full

        monkeypatch.setattr(saving, "open", lambda path, mode: Full(path, mode.replace("b", "")), raising=False)
    elif how == "/dev/full":
        if not os.path.exists(how):
            pytest.skip("there is no /dev/full here")
        monkeypatch.setattr(saving, "open", lambda path, mode: io.FileIO(how, "w"), raising=False)
    else:
        monkeypatch.setattr(os, how, full)


@pytest.mark.parametrize("how", ["write", "/dev/full", "fsync", "replace"])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_what_was_there(kind, tmp_path, monkeypatch, how, there):
    path, old = tmp_path / "layer", KINDS[kind](2, 3, seed=0)
    if there:
        old.save(path)
    with monkeypatch.context() as patch:
        damage(patch, how)
        with pytest.raises(OSError) as caught:
            KINDS[kind](50, 60, seed=1).save(path)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == (["layer"] if there else [])
    if there:
        same(KINDS[kind].load(path), old)
    old.save(path)
    same(KINDS[kind].load(path), old)


def test_a_limit_of_the_system_leaves_what_was_there(tmp_path):
    """A write that truly fails, half way: the process may not write files longer than 4 KiB."""
    pytest.importorskip("resource")
    code = (
        "import resource, sys, fastml\n"
        "fastml.RNN(2, 3, seed=0).save(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: fastml.RNN(50, 60).save(sys.argv[1])\n"
        "except OSError: print('failed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "layer")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "failed\n", done.stderr
    assert os.listdir(tmp_path) == ["layer"]
    same(fastml.RNN.load(tmp_path / "layer"), fastml.RNN(2, 3, seed=0))


def test_save_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastml.RNN(1, 1).save(tmp_path / "nowhere" / "layer")
    for path in (str(tmp_path), "/dev/null"):
        if os.path.exists(path):
            with pytest.raises(
                ValueError, match=f"^path: expected a file, got {re.escape(os.path.realpath(path))}, which is none$"
            ):
                fastml.RNN(1, 1).save(path)
    assert os.listdir(tmp_path) == []


def test_importing_fastml_does_not_import_safetensors():
    code = "import sys, fastml; fastml.LSTM(2, 3); print({'safetensors', 'numba', 'torch'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "set()\n", done.stderr


# --------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["deepcopy", "pickle"]
)
def test_copies(layer, copied):
    same(copied(layer), layer)
    x = np.ones((2, 4, 2))
    y, _, tape = layer.forward(x, dropout_seed=1)
    other, _, _ = copied(layer).forward(x, dropout_seed=1)
    np.testing.assert_array_equal(y, other)
    with pytest.raises(ValueError, match="another layer"):
        copied(layer).backward(tape)
