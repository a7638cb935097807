"""The reference against the oracle: the definition of every kernel is right."""

import numpy as np
import oracle
import pytest
from cells import on
from problems import check, draw

SIZES = (
    {},
    {"T": 1, "B": 4, "I": 3, "H": 2},
    {"T": 7, "B": 1, "I": 1, "H": 3},
    {"T": 3, "B": 5, "I": 4, "H": 1},
    {"T": 0},
    {"B": 0},
)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward(variant, dtype, lengths, reverse):
    for sizes in SIZES:
        problem = draw(variant, **sizes, dtype=dtype, lengths=lengths, reverse=reverse)
        T, B, _ = problem.inputs["x"].shape
        options = {
            **problem.options,
            "lengths": [T] * B if problem.options["lengths"] is None else problem.options["lengths"],
        }
        inputs = {name: array.tolist() for name, array in problem.inputs.items()}
        want = getattr(oracle, problem.family)(**inputs, **options)
        with on(("reference", None)):
            got, _ = problem.forward()
        check(got, problem, {name: np.reshape(array, got[name].shape) for name, array in zip(got, want, strict=True)})


def test_options_differ():
    """Each option changes the answer, so that a test which passes for both has seen both."""
    for a, b in (("rnn-tanh", "rnn-relu"), ("gru-after", "gru-before")):
        one, other = (draw(variant).forward()[0]["y"] for variant in (a, b))
        assert np.abs(one - other).max() > 0.01
