"""Random problems for the recurrent kernels, through the functional API, and the reference's answers in float64."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from cells import on
from compare import close, error

import fastml
from fastml.kernels.table import KERNELS

VARIANTS = {
    "rnn-tanh": {"nonlinearity": "tanh"},
    "rnn-relu": {"nonlinearity": "relu"},
    "gru-after": {"reset_after": True},
    "gru-before": {"reset_after": False},
    "lstm": {},
}
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
BATCHED = ("x", "h0", "c0", "dy", "dh_n", "dc_n")  # the arguments that belong to sequences: the last axis but one is B
PER_SEQUENCE = ("y", "h_n", "c_n", "dx", "dh0", "dc0")  # and the results


@dataclass(frozen=True, eq=False)
class Problem:
    """One call of a layer and of its backward pass."""

    family: str
    inputs: dict[str, np.ndarray]  # x, h0, (c0,) w_ih, w_hh, b_ih, b_hh
    upstream: dict[str, np.ndarray]  # dy, dh_n, (dc_n)
    options: dict[str, Any]  # lengths, reverse, and the family's own

    def __str__(self):
        (T, B, I), H = self.inputs["x"].shape, self.inputs["w_hh"].shape[1]
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.family} T={T} B={B} I={I} H={H} {self.dtype} {options}"

    @property
    def dtype(self):
        return self.inputs["x"].dtype.name

    def arrays(self):
        """All that is floating point."""
        return {**self.inputs, **self.upstream}

    def having(self, **changes):
        """The same problem with some arrays or options replaced."""
        return replace(
            self,
            **{
                part: {name: changes.get(name, value) for name, value in getattr(self, part).items()}
                for part in ("inputs", "upstream", "options")
            },
        )

    def map(self, change):
        """The same problem with `change` made to every floating-point array."""
        return self.having(**{name: change(array) for name, array in self.arrays().items()})

    def forward(self, keep=True):
        """({y, h_n, (c_n)}, tape)"""
        *outputs, tape = getattr(fastml, f"{self.family}_forward")(**self.inputs, **self.options, keep=keep)
        return dict(zip(("y", "h_n", "c_n"), outputs, strict=False)), tape

    def backward(self, tape):
        """{dx, dh0, …}"""
        grads = getattr(fastml, f"{self.family}_backward")(tape, **self.upstream)
        return {f"d{name}": gradient for name, gradient in vars(grads).items()}

    def run(self):
        """Outputs and gradients in one dict."""
        outputs, tape = self.forward()
        return {**outputs, **self.backward(tape)}

    def tolerance(self, output):
        """The table's, for one of `run`'s names."""
        kernel = f"{self.family}_{'backward' if output.startswith('d') else 'forward'}"
        return KERNELS[kernel].tolerance[self.dtype]


def ragged(T, B, rng):
    """Lengths in no order, T and 0 among them where B allows."""
    lengths = rng.integers(0, T + 1, B)
    lengths[B // 2 : B // 2 + 1] = T
    if B > 2:
        lengths[-1] = 0
    return lengths


@cache
def draw(variant, T=5, B=3, I=2, H=7, dtype="float64", lengths=False, reverse=False, seed=0):
    """A random problem: every array non-zero, weights of a size that keeps the steps coupled; ragged if `lengths`."""
    family = variant.partition("-")[0]
    G = GATES[family]
    rng = np.random.default_rng([seed, T, B, I, H])

    def uniform(bound, *shape):
        return rng.uniform(-bound, bound, shape).astype(dtype)

    states = ("h0", "c0") if family == "lstm" else ("h0",)
    return Problem(
        family,
        inputs={
            "x": rng.normal(size=(T, B, I)).astype(dtype),
            **{name: uniform(1, B, H) for name in states},
            "w_ih": uniform(1 / I**0.5, G * H, I),
            "w_hh": uniform(1 / H**0.5, G * H, H),
            "b_ih": uniform(0.5, G * H),
            "b_hh": uniform(0.5, G * H),
        },
        upstream={
            "dy": rng.normal(size=(T, B, H)).astype(dtype),
            **{f"d{name[0]}_n": uniform(1, B, H) for name in states},
        },
        options={"lengths": ragged(T, B, rng) if lengths else None, "reverse": reverse, **VARIANTS[variant]},
    )


def pack(problem, **changes):
    """`lstm_pack` and its like, of the problem's weights."""
    option = {name: problem.options[name] for name in ("reset_after",) if name in problem.options}
    arguments = {**{name: problem.inputs[name] for name in WEIGHTS}, **option, **changes}
    return getattr(fastml, f"{problem.family}_pack")(**arguments)


def packed(problem, weights=None):
    """The same problem with its weights packed."""
    return problem.having(w_ih=weights or pack(problem), w_hh=None, b_ih=None, b_hh=None)


@cache
def answer(problem):
    """By the reference, in float64 (float32 problems are cast, which is exact)."""
    with on(("reference", None)), np.errstate(invalid="ignore"):
        return problem.map(lambda array: array.astype("float64")).run()


def check(got, problem, want=None):
    """Assert that the outputs or gradients `got` answer `problem`; `want` in place of the float64 reference's."""
    want = want or answer(problem)

    def own(name):
        with on(("reference", None)):
            return error(problem.run()[name], want[name])

    for name, array in got.items():
        close(
            array,
            want[name],
            tolerance=problem.tolerance(name),
            dtype=problem.dtype,
            name=f"{problem}: {name}",
            own=lambda name=name: own(name),
        )


def bitwise(got, want, what=""):
    """Assert that two dicts of arrays hold the same bits (and NaN in the same places)."""
    assert got.keys() == want.keys()
    for name in got:
        a, b = got[name], want[name]
        assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {name}"
        differ = np.argwhere((a != b) & ~(np.isnan(a) & np.isnan(b)))
        assert not len(differ), f"{what}: {name} differs at {len(differ)} of {a.size} places, first {differ[0]}"
