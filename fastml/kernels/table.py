"""KERNELS: one row per kernel, plain data. Tests, benchmarks and `fastml.show()` are loops over it.

Letters: T steps, B batch, I inputs, H hidden; N samples, D features, K components, V words. Shapes are written as in
"T B 4H"; "intp B", "uint8 N", "bool" and "covariance_type" are the arguments that are not floating point, "factors"
those whose shape is `FACTORS[covariance_type]`, and "float64 K" is float64 whatever the dtype of the others is;
"float64" alone is a number. x may also be indices of one-hot inputs, "intp T B", and dx is None then; the counts of a
multinomial mixture may also be `Rows`.
Trees: D features, C channels of a node (the classes; or three sums), P nodes that may split (2^depth - 1), Q nodes
(2P + 1), L leaves (P + 1), E trees, S = E·L leaves of all trees, M columns of scores.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "BINS", "CHUNK", "CRITERIA", "FACTORS", "KERNELS", "LEVEL", "TIE", "TILE", "Codes", "Kernel", "Rows", "Table",
    "shape_of",
]  # fmt: skip

Sizes = dict[str, int]

TILE = 2048
"""Rows that a mixture's statistics are summed over before they are added to the total, in the order of the rows: the
unit of its bitwise promises."""

CHUNK = 8192
"""Rows whose weights are summed in a block before that is added to the total, in the order of the rows."""

FACTORS = {"full": "K D D", "tied": "D D", "diag": "K D", "spherical": "K"}
"""Covariance type → the shape of covariances and of their factors."""


class Rows(NamedTuple):
    """Counts in compressed rows: row i counts indices[j] data[j] times, for j from indptr[i] to indptr[i + 1]."""

    data: Any  # (number of counts,), of the kernel's dtype
    indices: Any  # intp
    indptr: Any  # (N+1,), intp


CRITERIA = ("gini", "entropy", "error", "squared_error")
"""What a split of a tree lowers; the last is for a target, the others for classes."""

BINS = 256
"""Codes of a feature: its values in order, in bins of about as many rows each, and one for missing values."""

TIE = 1e-7
"""Values that differ by no more than this, in their own dtype, are not split from each other; scikit-learn's."""

LEVEL = 2.0**-40
"""Classes whose weights in a node differ from the largest by less than this part of all weigh the same: sums of the
same numbers in another order do."""


class Codes(NamedTuple):
    """N rows as the trees' kernels read them, a feature at a time. Positions p are in the order of the values.

    Where there are classes, rows are in the order of their classes. Bins end where values may be split from each other.
    """

    values: Any  # (D, N), of X's dtype: rising, and NaN behind them
    order: Any  # (D, N), int32: the row at each position; of equal values, the lower row first
    rank: Any  # (D, N), int32: the position of each row
    codes: Any  # (D, N), uint8: the bin of each row; that of NaN is the one behind the last
    starts: Any  # (D, BINS+1), int32: bin b is positions starts[b] ≤ p < starts[b + 1], and NaN is behind them all
    bins: Any  # (D,), intp: bins of values


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel.

    name, family : the function's name, and the file (in each back end's folder) that defines it.
    inputs, outputs : argument name → shape, in the order of the call; outputs follow inputs.
    tolerance : dtype → largest error that the tests accept, relative to the largest value of each output array.
    work : sizes → floating-point operations of the matrix products (what GFLOP/s in the tables counts); of trees, which
        have none, rows times what looks at them.
    sizes : the problems that the benchmarks time, by name.
    source : where the equations come from.
    """

    name: str
    family: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    tolerance: dict[str, float]
    work: Callable[[Sizes], float]
    sizes: dict[str, Sizes]
    source: str


class Table(tuple[Kernel, ...]):
    """A tuple of rows that also finds a row by its name."""

    def __getitem__(self, key):
        return next(row for row in self if row.name == key) if isinstance(key, str) else super().__getitem__(key)

    def names(self) -> Iterator[str]:
        return (row.name for row in self)


def shape_of(axes: str, sizes: Sizes) -> tuple[int, ...]:
    """The shape that the table writes as `axes`.

    >>> shape_of("T+1 B 4H", {"T": 5, "B": 2, "H": 3})
    (6, 2, 12)
    >>> shape_of("int32 D 257", {"D": 4})
    (4, 257)
    """
    parts = re.findall(r"\b(\d*)([A-Z])(?:\+(\d+))?\b|\b(\d+)\b", axes)
    return tuple(
        int(n) if n else int(factor or 1) * sizes[letter] + int(more or 0) for factor, letter, more, n in parts
    )


SIZES = {"small": {"T": 200, "B": 1, "I": 32, "H": 32}, "large": {"T": 200, "B": 32, "I": 128, "H": 128}}

FORWARD = {"float32": 2e-5, "float64": 1e-12}
BACKWARD = {"float32": 2e-4, "float64": 1e-11}


def _products(gates: int, passes: int) -> Callable[[Sizes], float]:
    """x @ w_ih and h @ w_hh, once in the forward pass; the backward needs two products for each of them."""
    return lambda n: 2.0 * passes * gates * n["H"] * (n["I"] + n["H"]) * n["T"] * n["B"]


def _weights(G: str) -> dict[str, str]:
    return {"w_ih": f"{G}H I", "w_hh": f"{G}H H"}


def _biases(G: str) -> dict[str, str]:
    return {"b_ih": f"{G}H", "b_hh": f"{G}H"}


def _gradients(states: dict[str, str], G: str) -> dict[str, str]:
    arguments = {"x": "T B I", **states, **_weights(G), **_biases(G)}
    return {f"d{name}": shape for name, shape in arguments.items()}


X, Y, H0 = {"x": "T B I"}, {"y": "T B H"}, {"h0": "B H"}
ORDER = {"lengths": "intp B", "reverse": "bool"}

MIXTURE_SIZES = {"small": {"N": 20_000, "D": 4, "K": 8}, "large": {"N": 50_000, "D": 64, "K": 16}}
WORDS = {"small": {"N": 5_000, "V": 100, "K": 8}, "large": {"N": 5_000, "V": 5_000, "K": 16}}
TREES = {
    "small": {"N": 20_000, "D": 20, "K": 3, "E": 50, "depth": 1},
    "large": {"N": 100_000, "D": 20, "K": 5, "E": 50, "depth": 3},
}
GAUSSIANS = {"means": "K D", "factors": "factors", "constants": "K", "covariance_type": "covariance_type"}
POSTERIOR = {"resp": "N K", "log_likelihood": "N", "labels": "intp N"}

MARKED = {"sample_weight": "N", "incorrect": "uint8 N"}
MASSES = {"right": "float64 1", "wrong": "float64 1", "least": "float64 1"}
SAMME = {
    "tolerance": {"float32": 1e-6, "float64": 1e-13},
    "sizes": {"small": {"N": 20_000}, "large": {"N": 2_000_000}},
    "source": "Zhu, Zou, Rosset and Hastie, Multi-class AdaBoost, Statistics and Its Interface 2 (2009), algorithm 2",
}
EXPONENTS = {"exponent": "N", "sample_weight": "N"}
EXPONENTIAL = {
    "tolerance": {"float32": 2e-5, "float64": 1e-12},
    "sizes": {"small": {"N": 20_000, "K": 3}, "large": {"N": 500_000, "K": 5}},
    "source": "Zhu et al. (2009), 2.1; Friedman, Hastie and Tibshirani, Annals of Statistics 28 (2000)",
}

SOFTMAX = {
    "sizes": {"small": {"N": 200, "V": 64, "H": 32}, "large": {"N": 16_000, "V": 256, "H": 256}},
    "source": "Bridle, Neurocomputing NATO ASI F68 (1990); Bishop, Pattern Recognition and Machine Learning, 4.3.4",
}
ADAM = {
    "tolerance": {"float32": 2e-6, "float64": 1e-13},
    "sizes": {"small": {"N": 20_000}, "large": {"N": 2_000_000}},
    "source": "Kingma and Ba, Adam, ICLR 2015, arXiv:1412.6980, algorithm 1",
}
MOMENTS = {"first": "N", "second": "N"}

KERNELS = Table(
    (
        Kernel(
            name="rnn_forward",
            family="rnn",
            inputs={**X, **H0, **_weights(""), **_biases(""), **ORDER, "relu": "bool"},
            outputs={**Y, "h_n": "B H"},
            tolerance=FORWARD,
            work=_products(1, 1),
            sizes=SIZES,
            source="Elman, Finding structure in time, Cognitive Science 14 (1990); torch.nn.RNN",
        ),
        Kernel(
            name="rnn_backward",
            family="rnn",
            inputs={**X, **H0, **_weights(""), **ORDER, "relu": "bool", **Y, "dy": "T B H", "dh_n": "B H"},
            outputs=_gradients(H0, ""),
            tolerance=BACKWARD,
            work=_products(1, 2),
            sizes=SIZES,
            source="Werbos, Backpropagation through time, Proc. IEEE 78 (1990)",
        ),
        Kernel(
            name="gru_forward",
            family="gru",
            inputs={**X, **H0, **_weights("3"), **_biases("3"), **ORDER, "reset_after": "bool"},
            outputs={**Y, "h_n": "B H", "gates": "T B 4H"},
            tolerance=FORWARD,
            work=_products(3, 1),
            sizes=SIZES,
            source="Cho et al., arXiv:1406.1078 (reset before); torch.nn.GRU and cuDNN (reset after)",
        ),
        Kernel(
            name="gru_backward",
            family="gru",
            inputs={
                **X, **H0, **_weights("3"), **ORDER, "reset_after": "bool",
                **Y, "gates": "T B 4H", "dy": "T B H", "dh_n": "B H",
            },
            outputs=_gradients(H0, "3"),
            tolerance=BACKWARD,
            work=_products(3, 2),
            sizes=SIZES,
            source="Cho et al., arXiv:1406.1078 (reset before); torch.nn.GRU and cuDNN (reset after)",
        ),
        Kernel(
            name="lstm_forward",
            family="lstm",
            inputs={**X, **H0, "c0": "B H", **_weights("4"), **_biases("4"), **ORDER},
            outputs={**Y, "h_n": "B H", "c_n": "B H", "gates": "T B 4H", "cells": "T+1 B H"},
            tolerance=FORWARD,
            work=_products(4, 1),
            sizes=SIZES,
            source="Hochreiter and Schmidhuber, Neural Computation 9 (1997); Gers et al. (2000); torch.nn.LSTM",
        ),
        Kernel(
            name="lstm_backward",
            family="lstm",
            inputs={
                **X, **H0, "c0": "B H", **_weights("4"), **ORDER,
                **Y, "gates": "T B 4H", "cells": "T+1 B H", "dy": "T B H", "dh_n": "B H", "dc_n": "B H",
            },
            outputs=_gradients({**H0, "c0": "B H"}, "4"),
            tolerance=BACKWARD,
            work=_products(4, 2),
            sizes=SIZES,
            source="Graves and Schmidhuber, Neural Networks 18 (2005), full backpropagation through time",
        ),
        Kernel(
            name="gaussian_log_density",
            family="gaussian",
            inputs={"X": "N D", **GAUSSIANS},
            outputs={"log_density": "N K"},
            tolerance={"float32": 2e-5, "float64": 1e-12},
            work=lambda n: 1.0 * n["N"] * n["K"] * n["D"] * n["D"],
            sizes=MIXTURE_SIZES,
            source="Bishop, Pattern Recognition and Machine Learning (2006), 2.43",
        ),
        Kernel(
            name="gaussian_responsibilities",
            family="gaussian",
            inputs={"X": "N D", **GAUSSIANS},
            outputs=POSTERIOR,
            tolerance={"float32": 2e-4, "float64": 1e-11},
            work=lambda n: 1.0 * n["N"] * n["K"] * n["D"] * n["D"],
            sizes=MIXTURE_SIZES,
            source="Bishop (2006), 9.23",
        ),
        Kernel(
            name="gaussian_statistics",
            family="gaussian",
            inputs={"X": "N D", "sample_weight": "N", **GAUSSIANS},
            outputs={
                "n": "float64 K", "first": "float64 K D", "second": "float64 factors", "log_likelihood": "float64 1",
            },
            tolerance={"float32": 2e-4, "float64": 1e-11},
            work=lambda n: 2.0 * n["N"] * n["K"] * n["D"] * n["D"],
            sizes=MIXTURE_SIZES,
            source="Bishop (2006), 9.24-9.27; Dempster, Laird and Rubin, J. R. Stat. Soc. B 39 (1977)",
        ),
        Kernel(
            name="multinomial_responsibilities",
            family="multinomial",
            inputs={"X": "N V", "log_probabilities": "K V", "constants": "K"},
            outputs=POSTERIOR,
            tolerance={"float32": 2e-4, "float64": 1e-11},
            work=lambda n: 2.0 * n["N"] * n["K"] * n["V"],
            sizes=WORDS,
            source="Nigam, McCallum, Thrun and Mitchell, Machine Learning 39 (2000)",
        ),
        Kernel(
            name="multinomial_statistics",
            family="multinomial",
            inputs={"X": "N V", "sample_weight": "N", "log_probabilities": "K V", "constants": "K"},
            outputs={"n": "float64 K", "counts": "float64 K V", "log_likelihood": "float64 1"},
            tolerance={"float32": 2e-4, "float64": 1e-11},
            work=lambda n: 4.0 * n["N"] * n["K"] * n["V"],
            sizes=WORDS,
            source="Nigam, McCallum, Thrun and Mitchell, Machine Learning 39 (2000)",
        ),
        Kernel(
            name="samme_error",
            family="samme",
            inputs=MARKED,
            outputs=MASSES,
            work=lambda n: 2.0 * n["N"],
            **SAMME,
        ),
        Kernel(
            name="samme_update",
            family="samme",
            inputs={**MARKED, "if_right": "float64", "if_wrong": "float64", "next_incorrect": "uint8 N"},
            outputs={"scaled": "N", **MASSES},
            work=lambda n: 3.0 * n["N"],
            **SAMME,
        ),
        Kernel(
            name="exponential_exponent",
            family="exponential",
            inputs={"scores": "N K", "y": "intp N"},
            outputs={"exponent": "N"},
            work=lambda n: 2.0 * n["N"] * n["K"],
            **EXPONENTIAL,
        ),
        Kernel(
            name="exponential_sum",
            family="exponential",
            inputs=EXPONENTS,
            outputs={"most": "float64 1", "total": "float64 1", "weight": "float64 1", "least": "float64 1"},
            work=lambda n: 20.0 * n["N"],
            **EXPONENTIAL,
        ),
        Kernel(
            name="exponential_update",
            family="exponential",
            inputs={**EXPONENTS, "shift": "float64", "factor": "float64"},
            outputs={"scaled": "N"},
            work=lambda n: 20.0 * n["N"],
            **EXPONENTIAL,
        ),
        Kernel(
            name="exponential_gradient",
            family="exponential",
            inputs={**EXPONENTS, "y": "intp N", "shift": "float64"},
            outputs={"gradient": "N K", "hessian": "N K"},
            work=lambda n: n["N"] * (20.0 + 2 * n["K"]),
            **EXPONENTIAL,
        ),
        Kernel(
            name="tree_encode",
            family="tree",
            inputs={"X": "N D", "rows": "intp N"},
            outputs={
                "values": "D N", "order": "int32 D N", "rank": "int32 D N", "codes": "uint8 D N",
                "starts": "int32 D 257", "bins": "intp D",
            },
            tolerance={"float32": 0.0, "float64": 0.0},
            work=lambda n: 1.0 * n["N"] * n["D"],
            sizes=TREES,
            source="Mehta, Agrawal and Rissanen, SLIQ, EDBT (1996), 3; Ke et al., LightGBM, NeurIPS (2017)",
        ),
        Kernel(
            name="tree_grow",
            family="tree",
            inputs={
                "codes": "codes", "classes": "intp K+1", "sample_weight": "float64 N", "target": "float64 N",
                "rows": "int32 N", "criterion": "criterion",
            },
            outputs={
                "feature": "intp P", "threshold": "float64 P", "missing_left": "bool P",
                "value": "float64 Q C", "count": "intp Q", "leaf": "uint8 N", "incorrect": "bool N",
            },
            tolerance={"float32": 1e-12, "float64": 1e-12},
            work=lambda n: 1.0 * n["N"] * n["D"],
            sizes=TREES,
            source="Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984), 2.4 and 8.4",
        ),
        Kernel(
            name="tree_apply",
            family="tree",
            inputs={
                "X": "N D", "feature": "intp E P", "threshold": "float64 E P", "missing_left": "bool E P",
            },
            outputs={"leaf": "uint8 E N"},
            tolerance={"float32": 0.0, "float64": 0.0},
            work=lambda n: 1.0 * n["N"] * n["E"] * n["depth"],
            sizes=TREES,
            source="Breiman, Friedman, Olshen and Stone (1984), 2.4",
        ),
        Kernel(
            name="tree_scores",
            family="tree",
            inputs={
                "X": "N D", "feature": "intp E P", "threshold": "float64 E P", "missing_left": "bool E P",
                "column": "intp E L", "leaf_value": "float64 E L M",
            },
            outputs={"scores": "float64 N M", "labels": "intp N"},
            tolerance={"float32": 1e-12, "float64": 1e-12},
            work=lambda n: 1.0 * n["N"] * n["E"] * n["depth"],
            sizes=TREES,
            source="Zhu, Zou, Rosset and Hastie, Statistics and Its Interface 2 (2009), algorithm 2",
        ),
        Kernel(
            name="tree_quantile",
            family="tree",
            inputs={
                "X": "N D", "feature": "intp E P", "threshold": "float64 E P", "missing_left": "bool E P",
                "place": "intp E L", "value": "float64 S", "weight": "float64 S", "q": "float64",
            },
            outputs={"quantile": "float64 N"},
            tolerance={"float32": 0.0, "float64": 0.0},
            work=lambda n: 1.0 * n["N"] * n["E"] * n["depth"],
            sizes=TREES,
            source="Drucker, Improving regressors using boosting techniques, ICML (1997)",
        ),
        Kernel(
            name="softmax_cross_entropy",
            family="softmax",
            inputs={"logits": "N V", "target": "intp N", "scale": "float64"},
            outputs={"loss": "N", "dlogits": "N V"},
            tolerance={"float32": 2e-6, "float64": 1e-13},
            work=lambda n: 20.0 * n["N"] * n["V"],
            **SOFTMAX,
        ),
        Kernel(
            name="softmax_linear",
            family="softmax",
            inputs={"x": "N H", "weight": "V H", "bias": "V", "target": "intp N", "scale": "float64"},
            outputs={"loss": "N", "dx": "N H", "dweight": "V H", "dbias": "V"},
            tolerance={"float32": 2e-5, "float64": 1e-12},
            work=lambda n: 6.0 * n["N"] * n["V"] * n["H"],
            **SOFTMAX,
        ),
        Kernel(
            name="adam_squares",
            family="adam",
            inputs={"gradient": "N"},
            outputs={"total": "float64 1"},
            work=lambda n: 2.0 * n["N"],
            **ADAM,
        ),
        Kernel(
            name="adam_update",
            family="adam",
            inputs={
                "weight": "N", "gradient": "N", **MOMENTS,
                **dict.fromkeys(("scale", "rate", "beta1", "beta2", "eps"), "float64"),
            },
            outputs={"new_weight": "N", "new_first": "N", "new_second": "N"},
            work=lambda n: 14.0 * n["N"],
            **ADAM,
        ),
    )
)  # fmt: skip
