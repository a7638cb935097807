"""The same numbers as PyTorch, weights and gradients as they are."""

import numpy as np
import pytest
from compare import close
from problems import check, draw

from fastml.optim import Adam

torch = pytest.importorskip("torch")

CASES = ("rnn-tanh", "rnn-relu", "gru-after", "lstm")  # PyTorch has no reset before the product


def by_torch(problem):
    """The outputs and gradients of torch.nn's layer of one direction, for packed sequences where there are lengths."""
    inputs = {name: torch.tensor(array, requires_grad=True) for name, array in problem.inputs.items()}
    T, _, I = inputs["x"].shape
    H = problem.inputs["w_hh"].shape[1]
    options = {"nonlinearity": problem.options["nonlinearity"]} if problem.family == "rnn" else {}
    layer = getattr(torch.nn, problem.family.upper())(I, H, dtype=inputs["x"].dtype, **options)
    weights = {f"{a}_{b}_l0": inputs[f"{a[0]}_{b}"] for a in ("weight", "bias") for b in ("ih", "hh")}
    states = [inputs[name][None] for name in ("h0", "c0") if name in inputs]
    lengths, x = problem.options["lengths"], inputs["x"]
    if problem.options["reverse"]:
        x = x.flip(0)
    if lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    y, finals = torch.func.functional_call(layer, weights, (x, tuple(states) if len(states) > 1 else states[0]))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    if problem.options["reverse"]:
        y = y.flip(0)
    finals = finals if isinstance(finals, tuple) else (finals,)
    outputs = [y, *(state[0] for state in finals)]
    loss = sum((torch.tensor(d) * out).sum() for d, out in zip(problem.upstream.values(), outputs, strict=True))
    loss.backward()
    return {
        **dict(zip(("y", "h_n", "c_n"), (out.detach().numpy() for out in outputs), strict=False)),
        **{f"d{name}": array.grad.numpy() for name, array in inputs.items()},
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", CASES)
@pytest.mark.parametrize("order", ["forward", "reverse", "ragged"])
def test_torch(cell, variant, order, dtype):
    problem = draw(variant, T=11, B=6, I=5, H=13, dtype=dtype, reverse=order == "reverse")
    if order == "ragged":
        problem = problem.having(lengths=np.array([3, 11, 1, 7, 11, 2]))
    check(problem.run(), problem, by_torch(problem))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [None, 2.0])
def test_adam(column, dtype, clip):
    """A hundred steps; torch's clipping adds 1e-6 to the norm, which the moments show and the steps hardly do."""
    rng = np.random.default_rng(12)
    ours = {name: rng.normal(size=shape).astype(dtype) for name, shape in {"w": (13, 7), "b": (13,), "s": ()}.items()}
    theirs = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in ours.items()}
    numbers = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6}
    adam, peer = Adam(ours, **numbers, clip=clip), torch.optim.Adam(theirs.values(), **numbers)
    for _ in range(100):
        size = 10 ** rng.uniform(-1.5, 0.5)
        gradients = {name: np.asarray(size * rng.normal(size=a.shape), dtype) for name, a in ours.items()}
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(gradients[name])
        norm = adam.step(gradients)
        if clip is not None:
            assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs.values(), clip)), rel=1e-6)
        peer.step()
    for name, array in ours.items():
        close(array, theirs[name].detach().numpy(), tolerance=1e-6, dtype=dtype, name=name)
    state = adam.state_dict()
    for part, key in (("first", "exp_avg"), ("second", "exp_avg_sq")):
        for name, parameter in theirs.items():
            want = peer.state[parameter][key].numpy()
            close(state[f"{part}.{name}"], want, tolerance=5e-6, dtype=dtype, name=f"{part}.{name}")
