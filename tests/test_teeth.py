"""The tests of the tests: a damaged answer is rejected, one way and another, and the right one is not."""

import numpy as np
import pytest
from cells import on
from compare import close
from problems import answer, check, draw

GRADIENTS = ("dw_ih", "dw_hh", "db_ih", "db_hh")


def damaged(problem, right):
    """(what was done, {name: damaged array}) for everything that a wrong kernel was ever seen to do, and more."""
    lengths, family = problem.options["lengths"], problem.family
    H = problem.inputs["w_hh"].shape[1]
    G = len(problem.inputs["w_hh"]) // H
    last = int(np.argmax(lengths))  # a sequence without padding

    def changed(name, where, value):
        array = right[name].copy()
        array[where] = value
        return {name: array}

    def blocks(array):
        return array.reshape(G, H, -1)

    for name in ("y", "dx"):
        yield "the first step dropped", changed(name, 0, 0)
        yield "the last step zero", changed(name, (-1, last), 0)
        yield "one sequence zero", changed(name, (slice(None), last), 0)
        yield "all but the first sequence zero", changed(name, (slice(None), slice(1, None)), 0)
        yield "one step late", {name: np.roll(right[name], 1, axis=0)}
        yield "two sequences swapped", {name: np.roll(right[name], 1, axis=1)}
        yield "padding left", changed(name, np.arange(len(right[name]))[:, None] >= lengths, 0.01)
    for name in right:
        yield "zero", {name: np.zeros_like(right[name])}
        yield "scaled by 1 + 10 tolerances", {name: right[name] * (1 + 10 * problem.tolerance(name))}
        yield (
            "one number off by 10 tolerances",
            changed(
                name,
                (0,) * right[name].ndim,
                right[name].flat[0] + 10 * problem.tolerance(name) * np.abs(right[name]).max(),
            ),
        )
        yield "one number NaN", changed(name, (0,) * right[name].ndim, np.nan)
    for name in GRADIENTS:
        yield "the weights added to their gradient", {name: right[name] + problem.inputs[name[1:]]}
        if G > 1:
            yield (
                "two gates swapped",
                {name: right[name].reshape(G, -1)[[1, 0, *range(2, G)]].reshape(right[name].shape)},
            )
    yield "the gradient of h_n forgotten", {"dh0": problem.having(dh_n=None).run()["dh0"]}
    yield "square weights' gradient transposed", {"dw_hh": blocks(right["dw_hh"]).swapaxes(1, 2).reshape(G * H, H)}
    yield (
        "square weights transposed",
        problem.having(w_hh=blocks(problem.inputs["w_hh"]).swapaxes(1, 2).reshape(G * H, H)).run(),
    )
    yield "lengths ignored", problem.having(lengths=None).run()
    yield "order forgotten", problem.having(reverse=not problem.options["reverse"]).run()
    yield "h_s for h_{s-1} in the gradient of w_hh", {"dw_hh": with_the_next_state(problem, right)}
    if family == "gru":
        yield "the reset on the other side", problem.having(reset_after=not problem.options["reset_after"]).run()
    if family == "lstm":
        yield "h_n and c_n swapped", {"h_n": right["c_n"], "c_n": right["h_n"]}


def with_the_next_state(problem, right):
    """The gradient of w_hh (its rows that belong to r and z, for the GRU), summed over da_sᵀ h_s."""
    rows = len(problem.inputs["w_ih"]) * 2 // 3 if problem.family == "gru" else None
    a = problem.inputs["x"] @ problem.inputs["w_ih"].T  # as inputs of an identity, their gradient is da
    da = problem.having(x=a, w_ih=np.eye(a.shape[-1], dtype=a.dtype)).run()["dx"]
    wrong = right["dw_hh"].copy()
    wrong[:rows] = np.einsum("tbg,tbh->gh", da, right["y"])[:rows]
    return wrong


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reverse", [False, True])
def test_damage_is_rejected(variant, dtype, reverse):
    problem = draw(variant, T=5, B=4, I=3, H=6, dtype=dtype, lengths=True, reverse=reverse)
    with on(("reference", None)):
        right = problem.run()
        check(right, problem)
        for damage, arrays in damaged(problem, right):
            for name, array in arrays.items():
                try:
                    check({name: array}, problem)
                except AssertionError:
                    continue
                pytest.fail(f"{problem}: not rejected: {damage} ({name})")


def test_the_damage_would_fit():
    """`close` rejects the damages by their values: each has the shape and the dtype of the right answer."""
    problem = draw("lstm", T=5, B=4, I=3, H=6, lengths=True)
    right = answer(problem)
    for damage, arrays in damaged(problem, right):
        for name, array in arrays.items():
            assert (array.shape, array.dtype) == (right[name].shape, right[name].dtype), damage


@pytest.mark.parametrize(
    "got",
    [
        np.array([1, np.nan, 3]),
        np.array([1, np.inf, 3]),
        np.array([1, 2, 3], "float32"),
        np.array([1, 2, 3]),
        np.array([[1.0, 2.0, 3.0]]),
        np.array([1.0, 2.0]),
        np.array(1.0),
        np.array([1.0, 2.0, 3.0 + 4e-6]),
        np.array([]),
    ],
)
def test_close_rejects(got):
    with pytest.raises(AssertionError):
        close(got, np.array([1.0, 2.0, 3.0]), tolerance=1e-6, dtype="float64")


def test_close_where_there_is_no_scale():
    """NaN and infinities are themselves only, and what should be 0 is 0."""
    odd = np.array([np.nan, np.inf, -np.inf, 1.0])
    close(odd, odd, tolerance=0, dtype="float64")
    close(np.zeros(3), np.zeros(3), tolerance=0, dtype="float64")
    close(np.zeros((0, 2)), np.zeros((0, 2)), tolerance=0, dtype="float64")
    for got, want in ((odd[[1, 0, 2, 3]], odd), (-odd, odd), (odd[[3] * 4], odd), (np.full(3, 1e-300), np.zeros(3))):
        with pytest.raises(AssertionError):
            close(got, want, tolerance=1.0, dtype="float64")


def test_tolerances_are_small():
    """The table cannot be bent to let a wrong kernel through."""
    from fastml.kernels.table import KERNELS

    for row in KERNELS:
        assert 0 <= row.tolerance["float32"] <= 1e-3 and 0 <= row.tolerance["float64"] <= 1e-10  # 0: to the bit


def test_the_failure_stands_beside_the_references_own_error():
    problem = draw("lstm", dtype="float32")
    got = {**answer(problem), "y": answer(problem)["y"].astype("float32") * 2}
    with pytest.raises(AssertionError, match=r"y: error 1.00e\+00, tolerance 2e-05; the reference's own error is \d"):
        check({"y": got["y"]}, problem)
