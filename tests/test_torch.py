"""fastml.torch: what torch.nn's own modules give, on fastml wherever it can be."""

import copy
import importlib
import pickle
import re
import warnings
import weakref
from contextlib import ExitStack, contextmanager
from io import BytesIO
from itertools import product
from unittest import mock

import numpy as np
import pytest
from compare import close

import fastml

torch = pytest.importorskip("torch")
ours = importlib.import_module("fastml.torch")
packing = torch.nn.utils.rnn

KINDS = {"RNN": {}, "RNN-relu": {"nonlinearity": "relu"}, "GRU": {}, "LSTM": {}}
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-10}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """PyTorch's would only spin beside those of other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def on_fastml():
    """A block in which PyTorch's own layers are out of order."""
    with ExitStack() as stack:
        for name in ("RNN", "GRU", "LSTM"):
            stack.enter_context(mock.patch.object(getattr(torch.nn, name), "forward", side_effect=AssertionError))
        yield


@contextmanager
def on_torch():
    """A block in which fastml's are."""
    with mock.patch.object(ours, "_Pass", None):
        yield


def pair(kind, *arguments, seed=0, **options):
    """PyTorch's module and ours, with the same weights."""
    torch.manual_seed(seed)
    name = kind.partition("-")[0]
    theirs = getattr(torch.nn, name)(*arguments, **KINDS[kind], **options)
    mine = getattr(ours, name)(*arguments, **KINDS[kind], **options)
    mine.load_state_dict(theirs.state_dict())
    return theirs, mine


def parts(state):
    return [] if state is None else list(state) if isinstance(state, tuple) else [state]


def drawn(module, *shape, grad=True):
    dtype = module.weight_ih_l0.dtype
    return torch.randn(*shape, dtype=dtype).requires_grad_(grad)


def state_of(module, *B):
    cells = module.num_layers * (1 + module.bidirectional)
    states = [drawn(module, cells, *B, module.hidden_size) for _ in range(1 + (module.mode == "LSTM"))]
    return tuple(states) if len(states) > 1 else states[0]


def results(module, input, hx=None):
    """Outputs and gradients by name, of a loss in which every output has weights of its own."""
    leaves = [input.data if isinstance(input, packing.PackedSequence) else input, *parts(hx), *module.parameters()]
    y, last = module(input, hx)
    found = {"y": y.data if isinstance(y, packing.PackedSequence) else y}
    found |= {f"state[{i}]": part for i, part in enumerate(parts(last))}
    generator = torch.Generator().manual_seed(1)
    weight = lambda a: torch.randn(a.shape, generator=generator, dtype=a.dtype)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    gradients = torch.autograd.grad(sum((a * weight(a)).sum() for a in found.values()), wanted)
    return {name: a.detach() for name, a in found.items()} | {f"gradient[{i}]": g for i, g in enumerate(gradients)}


def same(got, want, tolerance=None):
    assert got.keys() == want.keys()
    for name, a in want.items():
        limit = TOLERANCE[a.dtype] if tolerance is None else tolerance
        close(got[name].numpy(), a.numpy(), tolerance=limit, dtype=a.numpy().dtype, name=name)


# ------------------------------------------------------------------------------------------------------------- numbers


FORMS = ("time first", "batch first", "one", "sorted", "unsorted")


def problem(module, form):
    """An input of that form, and how many sequences it has; one has no B."""
    T, B, I = 7, 4, module.input_size
    if form == "one":
        return drawn(module, T, I), ()
    x = drawn(module, *((B, T) if module.batch_first else (T, B)), I)
    if "sorted" not in form:
        return x, (B,)
    lengths = torch.tensor([7, 5, 5, 1] if form == "sorted" else [3, 7, 1, 5])
    packed = packing.pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=form == "sorted")
    return packed._replace(data=packed.data.detach().requires_grad_()), (B,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_as_torch(kind, dtype):
    cases = product(FORMS, [(1, False), (2, True), (1, True), (2, False)])
    for case, (form, (layers, two)) in enumerate(cases):
        options = {"bias": case % 3 > 0, "batch_first": form == "batch first" or case % 7 == 0, "bidirectional": two}
        theirs, mine = pair(kind, 3, 5, layers, dtype=dtype, **options)
        input, B = problem(mine, form)
        hx = state_of(mine, *B) if case % 2 else None
        want = results(theirs, input, hx)
        with on_fastml():
            got = results(mine, input, hx)
            with torch.no_grad():
                y, last = mine(input, hx)
        same(got, want)
        if isinstance(y, packing.PackedSequence):
            for a, b in zip(y[1:], input[1:], strict=True):
                assert a is b
            y = y.data
        inference = {"y": y, **{f"state[{i}]": a for i, a in enumerate(parts(last))}}
        same(inference, {name: want[name] for name in inference})


def test_gradcheck(kind):
    """Against finite differences, each output alone as well; with dropout."""
    _, mine = pair(kind, 2, 3, 2, bidirectional=True, dropout=0.5, dtype=torch.float64)
    x, hx = drawn(mine, 3, 2, 2), state_of(mine, 2)
    names, weights = zip(*mine.named_parameters(), strict=True)

    def run(x, *tensors):
        torch.manual_seed(3)
        hx, weights = tensors[: -len(names)], tensors[-len(names) :]
        call = (x, hx if len(hx) > 1 else hx[0])
        y, last = torch.func.functional_call(mine, dict(zip(names, weights, strict=True)), call)
        return (y, *parts(last))

    with on_fastml():
        assert torch.autograd.gradcheck(run, (x, *parts(hx), *weights), fast_mode=True)


@pytest.mark.parametrize("frozen", ["x", "states", "input weights", "weights", "all but a bias"])
def test_what_requires_no_gradient(kind, frozen):
    theirs, mine = pair(kind, 3, 4, 2, dtype=torch.float64)
    x, hx = drawn(mine, 5, 2, 3), state_of(mine, 2)
    for module in (theirs, mine):
        for name, parameter in module.named_parameters():
            only_bias = frozen == "all but a bias" and name != "bias_hh_l0"
            if frozen == "weights" or only_bias or (frozen == "input weights" and "weight_ih" in name):
                parameter.requires_grad_(False)
    if frozen in ("x", "all but a bias"):
        x = x.detach()
    if frozen in ("states", "all but a bias"):
        hx = tuple(a.detach() for a in hx) if isinstance(hx, tuple) else hx.detach()
    want = results(theirs, x, hx)
    with on_fastml():
        same(results(mine, x, hx), want)


def test_back_end_of_the_forward_pass():
    """Serves the backward pass too."""
    theirs, mine = pair("GRU", 3, 4, dtype=torch.float64)
    x = drawn(mine, 5, 2, 3)
    want = torch.autograd.grad(theirs(x)[0].square().sum(), x)[0]
    with fastml.use("reference"):
        y, _ = mine(x)
    assert y.grad_fn.parts[0][0].tapes[0][0].cell.backend == "reference"
    same({"dx": torch.autograd.grad(y.square().sum(), x)[0]}, {"dx": want})


def test_wavefront():
    """Deep layers, one long sequence: the blocks of `fastml.stack`, whose tapes refer to pieces of x and y."""
    theirs, mine = pair("RNN", 2, 8, 3, dtype=torch.float64)
    x = drawn(mine, 1024, 1, 2)
    with mock.patch("fastml.stack.WAVE_WORK", 1), mock.patch("fastml.stack.at_once", lambda *_: 2):
        same(results(mine, x), results(theirs, x), 1e-9)
        y, _ = mine(x)
    assert len(y.grad_fn.parts[0][0].spans) > 1
    with torch.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


class Model(torch.nn.Module):
    """Modules that are nested, shared, in a list, and beside other parameters."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 6)
        self.encoder = torch.nn.GRU(6, 4, bidirectional=True, batch_first=True)
        self.tied = torch.nn.ModuleList([torch.nn.LSTM(8, 8, batch_first=True)] * 2)
        self.nested = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.RNN(8, 3, 2, dropout=0.2, batch_first=True))
        self.scales = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(3))])
        self.head = torch.nn.Linear(3, 11)

    def forward(self, tokens):
        x, _ = self.encoder(self.embedding(tokens))
        for lstm in self.tied:
            x, _ = lstm(x)
        x, _ = self.nested(x)
        return self.head(x * self.scales[0])


def trained(model, optimiser, steps=8):
    torch.manual_seed(5)
    losses = []
    for tokens in torch.randint(11, (steps, 3, 6)):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses


def new_model(dtype=torch.float64):
    torch.manual_seed(0)
    model = Model().to(dtype)
    model.nested[1].dropout = 0.0
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_training(dtype):
    """The same losses, step by step; an optimiser that was there before `accelerate` holds the same parameters."""
    theirs, mine = new_model(dtype), new_model(dtype)
    before, optimiser = dict(mine.named_parameters()), torch.optim.Adam(mine.parameters(), lr=0.05)
    assert ours.accelerate(mine) is mine
    with on_fastml():
        losses = trained(mine, optimiser)
    want = trained(theirs, torch.optim.Adam(theirs.parameters(), lr=0.05))
    assert want[-1] < want[0]
    assert losses == pytest.approx(want, rel=1e-9 if dtype == torch.float64 else 1e-4)
    assert all(parameter is before[name] for name, parameter in mine.named_parameters())


# ------------------------------------------------------------------------------------------------------------- dropout


def test_dropout_is_drawn_from_torchs_generator(kind):
    _, mine = pair(kind, 3, 4, 2, dropout=0.5, dtype=torch.float64)
    x = drawn(mine, 5, 2, 3)

    def seeded(seed):
        torch.manual_seed(seed)
        return results(mine, x)

    with on_fastml():
        first, again, other = seeded(0), seeded(0), seeded(1)
        same(again, first, 0)
        assert not torch.equal(first["y"], other["y"])
        torch.manual_seed(0)
        with torch.no_grad():  # training and gradients have nothing to do with each other
            assert torch.equal(mine(x)[0], first["y"])
        torch.manual_seed(0)
        assert not torch.equal(results(mine, x)["y"], results(mine, x)["y"])
        before = torch.get_rng_state()
        mine.eval()
        mine(x)
        assert torch.equal(torch.get_rng_state(), before)


def test_dropout_in_expectation():
    """A second layer without nonlinearity: relu of what is positive, its recurrence 0."""
    _, mine = pair("RNN-relu", 3, 16, 2, dropout=0.3)
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.abs_()
        mine.weight_hh_l1.zero_()
    x = torch.rand(4, 2000, 3)
    with torch.no_grad(), on_fastml():
        dropped = mine(x)[0]
        mine.eval()
        kept = mine(x)[0]
    assert not torch.allclose(dropped, kept)
    torch.testing.assert_close(dropped.mean(1), kept.mean(1), rtol=0.02, atol=0)


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_dropout_where_torch_has_no_choice(kind, rate):
    """Everything in training with a rate of 1, nothing in evaluation."""
    theirs, mine = pair(kind, 3, 4, 3, dropout=rate, bidirectional=True, dtype=torch.float64)
    x = drawn(mine, 5, 2, 3)
    if rate < 1:
        theirs.eval()
        mine.eval()
    with on_fastml():
        got = results(mine, x)
    same(got, results(theirs, x))


# ------------------------------------------------------------------------------------------------------------ autograd


@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept(kind, block):
    theirs, mine = pair(kind, 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 2, 3)
    with block():
        with on_fastml():
            y, last = mine(x)
        want, _ = theirs(x)
        assert y.is_inference() == want.is_inference()
    assert not any(a.requires_grad for a in (y, *parts(last)))
    torch.testing.assert_close(y, want)
    mine.requires_grad_(False)
    assert mine(x)[0].grad_fn is None


@pytest.mark.parametrize("what", ["x", "state", "weight", "y"])
def test_changed_in_place(kind, what):
    _, mine = pair(kind, 3, 4, 2)
    x, hx = drawn(mine, 5, 2, 3, grad=False), state_of(mine, 2)
    with on_fastml():
        y, _ = mine(x, hx)
    with torch.no_grad():
        {"x": x, "state": parts(hx)[-1], "weight": mine.weight_hh_l1, "y": y}[what].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_changed_in_place_where_nothing_refers_to_it():
    """Final states, and a y that is a copy."""
    theirs, mine = pair("LSTM", 3, 4, bidirectional=True, dtype=torch.float64)
    x = drawn(mine, 5, 2, 3)
    gradients = []
    for module in (theirs, mine):
        y, (h_n, c_n) = module(x)
        y *= 2
        h_n += c_n.detach()
        gradients += torch.autograd.grad(y.square().sum() + h_n.square().sum(), x)
    same({"dx": gradients[1]}, {"dx": gradients[0]})


def test_twice(kind):
    _, mine = pair(kind, 3, 4)
    x = drawn(mine, 5, 2, 3)
    loss = mine(x)[0].square().sum()
    first, second = (torch.autograd.grad(loss, x, retain_graph=retain)[0] for retain in (True, False))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("upstream", ["constant", "not constant"])
def test_second_derivatives_are_refused(kind, upstream):
    _, mine = pair(kind, 3, 4)
    x = drawn(mine, 5, 2, 3)
    y, _ = mine(x)
    loss = y.sum() if upstream == "constant" else y.square().sum()
    gradient = torch.autograd.grad(loss, x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        (loss + gradient.square().sum()).backward()


def test_what_is_kept_is_freed_by_the_backward_pass(kind):
    """While y lives: what the tapes refer to are saved tensors, the hooks' to keep, and nothing else."""
    _, mine = pair(kind, 3, 4, 2)
    x = drawn(mine, 50, 2, 3)
    held = []

    class Held:
        def __init__(self, tensor):
            self.array = tensor.detach().numpy().copy()
            held.append(weakref.ref(self))

    unpack = lambda h: torch.from_numpy(h.array)
    with torch.autograd.graph.saved_tensors_hooks(Held, unpack), on_fastml():
        y, _ = mine(x)
    numbers = {"RNN": 2, "GRU": 10, "LSTM": 12}[kind.partition("-")[0]] * 50 * 2 * 4
    assert sum(h().array.size for h in held) >= numbers
    gradient = torch.autograd.grad(y.square().sum(), x)[0]
    assert not any(h() for h in held)
    torch.testing.assert_close(gradient, torch.autograd.grad(mine(x)[0].square().sum(), x)[0])


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(kind, reentrant):
    """Dropout masks are the same when the forward pass is run again."""
    _, mine = pair(kind, 3, 4, 2, dropout=0.5)
    x = drawn(mine, 5, 2, 3)
    torch.manual_seed(2)
    want = torch.autograd.grad(mine(x)[0].square().sum(), [x, *mine.parameters()])
    torch.manual_seed(2)
    with on_fastml():
        y, _ = torch.utils.checkpoint.checkpoint(mine, x, use_reentrant=reentrant)
        x.grad = None
        y.square().sum().backward()
    for got, gradient in zip([x, *mine.parameters()], want, strict=True):
        assert torch.equal(got.grad, gradient)


# ------------------------------------------------------------------------------------------ where PyTorch has to run


class Named(torch.Tensor):
    pass


def under(block):
    """A way to call that enters `block` around it."""

    def call(module, x):
        with block():
            return module(x)

    return call


def traced(module, x):
    with torch.no_grad():
        return torch.jit.trace(module, (x,), check_trace=False)(x)


def forward_mode(module, x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        y, _ = module(dual)
        return torch.autograd.forward_ad.unpack_dual(y).tangent, None


class Watch(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


CALLS = {
    "a subclass": lambda module, x: module(x.as_subclass(Named)),
    "autocast": under(lambda: torch.autocast("cpu", torch.bfloat16)),
    "a dispatch mode": under(Watch),
    "trace": traced,
    "script": lambda module, x: torch.jit.script(torch.nn.Sequential(module))(x),
    "vmap": lambda module, x: torch.func.vmap(module, randomness="error")(torch.stack([x, 2 * x])),
    "jvp": lambda module, x: torch.func.jvp(module, (x,), (x,))[1],
    "jvp of a dual": forward_mode,
    "compile": lambda module, x: torch.compile(module, backend="eager")(x),
}


@pytest.mark.parametrize("call", CALLS)
def test_torch_runs(kind, call):
    """With the same results, or the same error, as it is itself that runs."""
    theirs, mine = pair(kind, 3, 4, 2, bidirectional=True, dtype=torch.float64 if "j" in call else torch.float32)
    x = drawn(mine, 5, 2, 3, grad=False)

    def outcome(module):
        try:
            y, last = CALLS[call](module.requires_grad_(False), x)
        except RuntimeError as error:  # of vmap
            return type(error), str(error)
        return [(type(a), a.dtype, a.tolist()) for a in (y, *parts(last))]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = outcome(theirs)
        with on_torch():
            assert outcome(mine) == want
    assert call == "vmap" or isinstance(want, list)


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"device": "meta"}, {"proj_size": 2}], ids=str)
def test_torch_runs_what_fastml_has_not(options):
    theirs, mine = pair("LSTM", 3, 4, **options)
    x = torch.randn(5, 2, 3).to(theirs.weight_ih_l0)
    with on_torch(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of PyTorch, where oneDNN has no projections
        got = mine(x)
    for a, b in zip((got[0], *got[1]), (theirs(x)[0], *theirs(x)[1]), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
        assert a.is_meta or torch.equal(a, b)


X = torch.zeros(5, 2, 3)
WRONG = {
    "features": lambda module: module(torch.zeros(5, 2, 4)),
    "dtype": lambda module: module(X.double()),
    "axes": lambda module: module(torch.zeros(5, 2, 3, 1)),
    "no steps": lambda module: module(torch.zeros(0, 2, 3)),
    "batch of the state": lambda module: module(X, state_of(module, 3)),
    "axes of the state": lambda module: module(X, state_of(module)),
    "state of one sequence": lambda module: module(X[:, 0], state_of(module, 1)),
    "dtype of the state": lambda module: module(X, state_of(copy.deepcopy(module).double(), 2)),
    "no tensor": lambda module: module(np.zeros((5, 2, 3), "float32")),
    "pair": lambda module: module(X, [X, X, X]),
    "batch sizes": lambda module: module(packing.PackedSequence(torch.zeros(5, 3), torch.tensor([2, 3]))),
    "weights": lambda module: setattr(module, "bias_hh_l0", torch.nn.Parameter(torch.zeros(7))) or module(X),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_are_torchs(kind, wrong):
    theirs, mine = pair(kind, 3, 4)
    with pytest.raises(Exception) as want:
        WRONG[wrong](theirs)
    with pytest.raises(want.type, match=f"^{re.escape(str(want.value))}$"):
        WRONG[wrong](mine)


# ------------------------------------------------------------------------------------------------------------- modules


def test_accelerate_and_restore():
    model = new_model()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    model.nested[1].note = "kept"
    model.nested.eval()
    before, shown = model.state_dict(keep_vars=True), repr(model)
    modules = dict(model.named_modules())
    assert ours.accelerate(model) is model and ours.accelerate(model) is model
    assert repr(model) == shown and dict(model.named_modules()) == modules
    assert (type(model.encoder), type(model.tied[0]), type(model.nested[1])) == (ours.GRU, ours.LSTM, ours.RNN)
    assert model.tied[0] is model.tied[1] and model.nested[1].note == "kept" and not model.nested[1].training
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)
    tokens = torch.randint(11, (2, 5))
    want = new_model()(tokens)
    with on_fastml():
        got = model(tokens)
        got.sum().backward()
    optimiser.step()
    torch.testing.assert_close(got, want)
    assert seen == [ours.GRU] and not torch.equal(model(tokens), got)
    assert ours.restore(model) is model
    assert {type(m).__module__ for m in model.modules()} <= {Model.__module__} | {
        type(m).__module__ for m in new_model().modules()
    }
    with on_torch():
        model(tokens)


def test_accelerate_itself_and_nothing_else(kind):
    theirs, _ = pair(kind, 3, 4)

    class Own(type(theirs)):
        pass

    own = Own(3, 4)
    assert type(ours.accelerate(own)) is Own
    assert type(ours.accelerate(theirs)) is getattr(ours, kind.partition("-")[0])
    for function in (ours.accelerate, ours.restore):
        with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got list"):
            function([theirs])


def test_copies(kind):
    theirs, mine = pair(kind, 3, 4, 2, bidirectional=True)
    file = BytesIO()
    torch.save(mine, file)
    file.seek(0)
    x = torch.randn(5, 2, 3)
    want = mine(x)[0]
    for twin in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), torch.load(file, weights_only=False)):
        assert type(twin) is type(mine)
        with on_fastml():
            assert torch.equal(twin(x)[0], want)
        with torch.no_grad():
            twin.weight_hh_l0.zero_()
        assert not torch.equal(twin(x)[0], want)
    assert torch.equal(mine(x)[0], want)
    assert b"fastml" not in pickle.dumps(ours.restore(copy.deepcopy(mine)))
    theirs.load_state_dict(mine.state_dict())
    assert repr(theirs) == repr(mine) and list(theirs.state_dict()) == list(mine.state_dict())


def reassigned(module):
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach() / 2)


def strided(module):
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach().t().contiguous().t())


CHANGES = {
    "reassigned": reassigned,
    "strided": strided,
    "double": lambda module: module.double(),
    "in place": lambda module: module.weight_hh_l0.data.mul_(2),
    "data": lambda module: setattr(module.weight_hh_l0, "data", module.weight_hh_l0.data * 2),
    "assign": lambda module: module.load_state_dict({n: p / 2 for n, p in module.state_dict().items()}, assign=True),
    "weight norm": lambda module: torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0"),
    "dropout": lambda module: setattr(module, "dropout", 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_are_never_stale(kind, change):
    """A change between two calls reaches the second."""
    both = pair(kind, 3, 4, 2)
    x = torch.randn(5, 2, 3)
    for module in both:
        module(x)
        CHANGES[change](module)
    x = x.to(both[0].weight_ih_l0)
    want = results(both[0], x)
    with on_fastml():
        same(results(both[1], x), want)


def test_weights_that_share_memory():
    """One is the other's transpose: the same address and shape."""
    theirs, mine = pair("RNN", 4, 4, dtype=torch.float64)
    for module in (theirs, mine):
        module.weight_ih_l0 = torch.nn.Parameter(module.weight_hh_l0.detach().t())
    x = drawn(mine, 5, 2, 4)
    same(results(mine, x), results(theirs, x))
    for module in (theirs, mine):
        module.weight_ih_l0, module.weight_hh_l0 = module.weight_hh_l0, module.weight_ih_l0
    same(results(mine, x), results(theirs, x))


def test_state_carried_on():
    """Truncated backpropagation: the states of one call start the next, detached or not."""
    theirs, mine = pair("LSTM", 3, 4, 2, dtype=torch.float64)
    x = drawn(mine, 12, 2, 3)
    found = []
    for module in (theirs, mine):
        state, loss = None, 0
        for t, piece in enumerate(x.split(4)):
            y, state = module(piece, state)
            loss = loss + y.square().sum()
            if t == 1:
                state = tuple(a.detach_() for a in state)
        found.append(torch.autograd.grad(loss, [x, *module.parameters()]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)
