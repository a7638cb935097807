"""A language model of symbols (bytes, characters, words): embedding, recurrent layers, softmax.

>>> from fastml.language import RecurrentLM
>>> model = RecurrentLM("abc", embedding=4, hidden=8, seed=0)
>>> round(model.perplexity("abacab"), 1), model.generate("ab", 5, seed=1)
(3.0, 'bcaca')
"""

import math
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import check, saving
from ..dropout import drop
from ..layers import GRU, LSTM, RNN, LayerTape
from ..losses import linear_cross_entropy
from ..onehot import OneHot
from ..threads import blas_limit
from ..version import __version__

__all__ = ["LMTape", "RecurrentLM"]

Array = NDArray[Any]

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
FORMAT = 1  # of the files
FOLDED = 1024
"""Vocabularies up to which the embedding is multiplied into the input weights once per pass. That costs E·G·H·V, where
the projection of embedded symbols costs E·G·H·T·B and gathers: never more from T·B = V on."""
READ = 1 << 14  # symbols that are read at a time where nothing is kept: 16 MB of hidden states of 256 units
DRAWN = 16  # symbols that are drawn for one look at BLAS's threads, which takes as long as half a step
IGNORED = -100  # the target that does not count, PyTorch's


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class LMTape:
    """What one `forward` leaves for `backward`. Read-only, and may be used any number of times.

    It refers to the weights without copying them: change them after the backward pass, not before.

    Examples
    --------
    >>> from fastml.language import RecurrentLM
    >>> RecurrentLM(4, embedding=2, hidden=3).forward([0, 1, 2], [1, 2, 3])[2]
    LMTape(RecurrentLM(4, embedding=2, hidden=3, cell='lstm'), x of shape (3,))
    """

    model: "RecurrentLM"
    x: Array
    recurrent: LayerTape
    dy: Array  # the gradient of the loss with respect to the recurrent layers' outputs
    readout: dict[str, Array]  # and to the readout's weights
    dropout_seed: int | None  # None where nothing was dropped

    def __repr__(self) -> str:
        return f"LMTape({self.model!r}, x of shape {self.x.shape})"


class RecurrentLM:
    """A recurrent language model: each symbol's probability, given all before it.

    .. math::
        e_t = E[x_t], \\quad y_t = \\text{cell}(e_t, y_{t-1}), \\quad
        p(x_{t+1} | x_1 … x_t) = \\text{softmax}(W y_t + b)

    Parameters
    ----------
    vocabulary : int or iterable of str
        The V symbols. An int V: the numbers 0 … V-1, and with V = 256 bytes as well: a text is `bytes` or integers.
        Strings, each once: a text is a `str`, which is cut into characters, or an iterable of them.
    embedding : int, default=64
        E, at least 1.
    hidden : int, default=256
        H, the units of each layer, at least 1.
    num_layers : int, default=1
    cell : {"lstm", "gru", "rnn"}
    bias : bool, default=True
        False leaves out all biases, the readout's too.
    tied : bool, default=False
        The readout's weight W is the embedding E; needs embedding = hidden.
    dropout : float, default=0.0
        Probability with which `forward` zeroes an output of a recurrent layer, the last included, for what reads it
        above; not for the layer's own next step.
    dtype : dtype
        float32 or float64.
    seed : int or None
        Of the initial weights; None draws anew each time.

    Attributes
    ----------
    weights : dict of str to array
        The live parameters, which an optimiser updates in place: ``embedding`` (V, E); ``recurrent.weight_ih_l0`` and
        so on, those of `recurrent`; ``readout.weight`` (V, H), unless tied, and ``readout.bias`` (V,).
    recurrent : LSTM, GRU or RNN
        The layers.
    vocabulary : int or tuple of str
    size : int
        V.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of its range; the message names it.

    Notes
    -----
    The layers and the readout start as torch.nn's LSTM and Linear do, from U(-1/√H, 1/√H); the embedding from N(0, 1)
    as torch.nn.Embedding, or where it is tied, and so makes logits, from N(0, 1/H).

    Up to V = 1024 the lowest layer reads one-hot symbols through W_ih Eᵀ, a product made once per pass, which is the
    same function: no symbol is embedded and projected at each step. The gradients of W_ih and E come from that of the
    product.

    Losses and states do not depend on the number of threads in `native` and `jit`, nor do gradients. In float32 they
    are exact to a few roundings.

    References
    ----------
    Mikolov et al., Recurrent neural network based language model, Interspeech 2010; Zaremba, Sutskever and Vinyals,
    Recurrent Neural Network Regularization, arXiv:1409.2329 (dropout); Press and Wolf, Using the Output Embedding to
    Improve Language Models, arXiv:1608.05859 (tied).

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.language import RecurrentLM
    >>> from fastml.optim import Adam
    >>> model = RecurrentLM(256, embedding=8, hidden=16, cell="gru", seed=0)
    >>> text = np.frombuffer(b"the more the merrier " * 20, np.uint8)
    >>> adam = Adam(model.weights, lr=0.02)
    >>> for _ in range(30):
    ...     loss, state, tape = model.forward(text[:-1], text[1:])
    ...     norm = adam.step(model.backward(tape))
    >>> model.perplexity(b"the merrier the more ") < 20
    True
    """

    weights: dict[str, Array]

    def __init__(
        self,
        vocabulary: int | Iterable[str],
        embedding: int = 64,
        hidden: int = 256,
        num_layers: int = 1,
        cell: str = "lstm",
        bias: bool = True,
        tied: bool = False,
        dropout: float = 0.0,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self._configure(
            vocabulary=vocabulary, embedding=embedding, hidden=hidden, num_layers=num_layers, cell=cell, bias=bias,
            tied=tied, dropout=dropout, dtype=dtype,
        )  # fmt: skip
        random = np.random.default_rng(None if seed is None else check.integer("seed", seed, 0))
        shapes = dict(self._shapes())
        # Of σ = 0.1, 1 and 4, held-out bits after 300 steps of 16·100 characters of Python: 3.03, 2.66, 2.51; but after
        # 2000 steps σ = 1 was ahead of 4, 1.96 and 2.00.
        scale = 1 / math.sqrt(self.hidden) if self.tied else 1.0
        found = {"embedding": scale * random.standard_normal(shapes.pop("embedding"))}
        bound = 1 / math.sqrt(self.hidden)
        found |= {name: random.uniform(-bound, bound, shape) for name, shape in shapes.items()}
        # Drawn in float64, so that one seed gives the same ones in both dtypes.
        self.weights = {name: array.astype(self.dtype) for name, array in found.items()}
        self._layers()

    def _configure(
        self,
        *,
        vocabulary: Any,
        embedding: Any,
        hidden: Any,
        num_layers: Any,
        cell: Any,
        bias: Any,
        tied: Any,
        dropout: Any,
        dtype: Any,
    ) -> None:
        """All but the weights."""
        self.vocabulary = _vocabulary(vocabulary)
        self.size = self.vocabulary if isinstance(self.vocabulary, int) else len(self.vocabulary)
        self.embedding, self.hidden = check.integer("embedding", embedding, 1), check.integer("hidden", hidden, 1)
        if not isinstance(cell, str) or cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(map(repr, CELLS))}, got {cell!r}")
        self.cell, self.tied = cell, check.flag("tied", tied)
        if self.tied and self.embedding != self.hidden:
            raise ValueError(f"tied: expected embedding = hidden, got embedding={self.embedding}, hidden={self.hidden}")
        kind = CELLS[cell]
        self.recurrent = kind.__new__(kind)
        given = {"num_layers": num_layers, "bias": bias, "dropout": dropout, "dtype": dtype}
        self.recurrent._configure(
            **{**kind._shared, **kind._options, "input_size": self.embedding, "hidden_size": self.hidden, **given}
        )
        for name in given:
            setattr(self, name, getattr(self.recurrent, name))
        self._symbols = np.min_scalar_type(self.size - 1)
        if not isinstance(self.vocabulary, int):
            self._index = {symbol: i for i, symbol in enumerate(self.vocabulary)}

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights, in order."""
        yield "embedding", (self.size, self.embedding)
        yield from ((f"recurrent.{name}", shape) for name, shape in self.recurrent._shapes())
        if not self.tied:
            yield "readout.weight", (self.size, self.hidden)
        if self.bias:
            yield "readout.bias", (self.size,)

    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments but the seed, as JSON can hold them."""
        names = ("vocabulary", "embedding", "hidden", "num_layers", "cell", "bias", "tied", "dropout")
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

    def __repr__(self) -> str:
        first = self.vocabulary if isinstance(self.vocabulary, int) else f"<{self.size} symbols>"
        defaults = {"num_layers": 1, "bias": True, "tied": False, "dropout": 0.0, "dtype": "float32"}
        shown = [f"{n}={v!r}" for n, v in self._arguments().items() if n != "vocabulary" and v != defaults.get(n)]
        return f"RecurrentLM({', '.join([str(first), *shown])})"

    def count_parameters(self) -> dict[str, int]:
        """How many parameters there are, by part.

        Returns
        -------
        dict of str to int
            "embedding"; "input" and "recurrent", the weights of all layers; "output", the readout's weight (0 if it is
            the embedding); "bias", all of them; and their "total".

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> RecurrentLM(9, embedding=6, hidden=5, cell="rnn", bias=False).count_parameters()
        {'embedding': 54, 'input': 30, 'recurrent': 25, 'output': 45, 'bias': 0, 'total': 154}
        """
        parts = dict.fromkeys(("embedding", "input", "recurrent", "output", "bias"), 0)
        ways = {"embedding": "embedding", "weight_ih": "input", "weight_hh": "recurrent", "weight": "output"}
        for name, weight in self.weights.items():
            parts[ways.get(name.rpartition(".")[2].split("_l")[0], "bias")] += weight.size
        return parts | {"total": sum(parts.values())}

    # --------------------------------------------------------------------------------------------------------- passes

    def loss(
        self, x: ArrayLike, target: ArrayLike, state: Any = None, lengths: ArrayLike | None = None
    ) -> tuple[float, Any]:
        """The mean cross-entropy of the symbols that follow: keeps nothing, and drops nothing.

        Parameters
        ----------
        x : integers of shape (T, B), or (T,) for one sequence
            The symbols read, 0 ≤ symbol < V.
        target : integers of the shape of x
            The symbol that is right after each; -100 where none counts.
        state : array of shape (num_layers, B, H), for LSTM a pair of them, or None
            The states to start from, as of `recurrent`; None for zeros.
        lengths : integers of shape (B,) or None
            How many steps of each sequence count; None for all. What lies beyond is never read, the target neither.

        Returns
        -------
        loss : float
            In nats; NaN where no target counts.
        state : like the argument
            After each sequence's last step.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; the message names it.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.language import RecurrentLM
        >>> loss, state = RecurrentLM(4, embedding=2, hidden=3, cell="gru", seed=0).loss([[0], [1]], [[1], [2]])
        >>> round(loss, 1), state.shape
        (1.5, (1, 1, 3))
        """
        x, target = self._checked(x, target, lengths)
        y, state = self._lowest()(self._input(x), state, lengths)
        return linear_cross_entropy(y, *self._readout(), target, gradient=False).loss, state

    def forward(
        self,
        x: ArrayLike,
        target: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        *,
        training: bool = True,
        dropout_seed: int | None = None,
    ) -> tuple[float, Any, LMTape]:
        """`loss`, keeping what `backward` needs.

        Parameters
        ----------
        x, target, state, lengths : see `loss`
        training : bool
            False drops nothing; there is a tape all the same.
        dropout_seed : int or None
            What the dropout masks are a hash of, beside layer, step, sequence and unit: 0 ≤ dropout_seed < 2**64. None
            draws a new one, which the tape has.

        Returns
        -------
        loss, state : see `loss`
        tape : LMTape

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; the message names it.

        Notes
        -----
        The readout's gradients are made here, with its loss, since logits are not kept. Memory: the recurrent layers'
        tape, and T·B·H numbers.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> model = RecurrentLM(4, embedding=2, hidden=3, dropout=0.5, seed=0)
        >>> loss, state, tape = model.forward([0, 1, 2], [1, 2, 3], dropout_seed=7)
        >>> loss == model.forward([0, 1, 2], [1, 2, 3], dropout_seed=7)[0] != model.loss([0, 1, 2], [1, 2, 3])[0]
        True
        """
        training = check.flag("training", training)
        if dropout_seed is not None:
            dropout_seed = check.integer("dropout_seed", dropout_seed, 0, 2**64 - 1)
        dropped = training and self.dropout > 0
        seed = (secrets.randbits(64) if dropout_seed is None else dropout_seed) if dropped else None
        x, target = self._checked(x, target, lengths)
        y, state, tape = self._lowest().forward(self._input(x), state, lengths, training=dropped, dropout_seed=seed)
        found = linear_cross_entropy(self._drop(y, seed), *self._readout(), target)
        readout = {"readout.weight": found.weight}
        if self.bias:
            readout["readout.bias"] = found.bias
        return found.loss, state, LMTape(self, x, tape, self._drop(found.x, seed), readout, seed)

    def backward(self, tape: LMTape) -> dict[str, Array]:
        """The gradient of the loss with respect to every weight.

        Parameters
        ----------
        tape : LMTape
            From this model's `forward`; it may be used again.

        Returns
        -------
        dict of str to array
            By the names of `weights`; what `Adam.step` takes.

        Raises
        ------
        TypeError, ValueError
            `tape` is none, or another model's.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> model = RecurrentLM(4, embedding=2, hidden=3, cell="rnn", seed=0)
        >>> loss, state, tape = model.forward([0, 1, 2], [1, 2, 3])
        >>> grads = model.backward(tape)
        >>> list(grads) == list(model.weights), grads["embedding"].shape, bool(grads["embedding"][3].any())
        (True, (4, 2), False)
        """
        if not isinstance(tape, LMTape):
            raise TypeError(f"tape: expected the tape of this model's forward, got {type(tape).__name__}")
        if tape.model is not self:
            raise ValueError(f"tape: expected the tape of this {self!r}, got that of another model, a {tape.model!r}")
        grads = tape.recurrent.layer.backward(tape.recurrent, tape.dy)
        found = {f"recurrent.{name}": gradient for name, gradient in grads.weights.items()}
        if self._folds:
            folded, w_ih = found["recurrent.weight_ih_l0"], self.weights["recurrent.weight_ih_l0"]
            with blas_limit(1):  # whose bits would depend on the number of threads
                found["recurrent.weight_ih_l0"] = folded @ self.weights["embedding"]
                found["embedding"] = folded.T @ w_ih
        else:
            found["embedding"] = _scattered(tape.x, grads.x, self.size)
        if self.tied:
            found["embedding"] += tape.readout["readout.weight"]
        found = tape.readout | found
        return {name: found[name] for name in self.weights}

    @property
    def _folds(self) -> bool:
        return self.size <= FOLDED

    def _lowest(self) -> Any:
        """The recurrent layers, on what `_input` makes of symbols."""
        layers = self._layers()
        if not self._folds:
            return layers
        with blas_limit(1):
            return layers._reading(self.weights["recurrent.weight_ih_l0"] @ self.weights["embedding"].T)

    def _layers(self) -> Any:
        """The recurrent layers, with the arrays that `weights` holds now: an entry may have been replaced."""
        shapes = self.recurrent._shapes()
        self.recurrent.weights = {name: self.weights[f"recurrent.{name}"] for name, _ in shapes}
        return self.recurrent

    def _input(self, x: Array) -> Any:
        return OneHot(x) if self._folds else self.weights["embedding"][x]

    def _readout(self) -> tuple[Array, Array | None]:
        return self.weights["embedding" if self.tied else "readout.weight"], self.weights.get("readout.bias")

    def _drop(self, y: Array, seed: int | None) -> Array:
        """Dropout of what leaves the last layer, or of its gradient."""
        if seed is None:
            return y
        whole = y[:, None] if y.ndim == 2 else y
        return drop(whole, self.dropout, seed, self.num_layers - 1).reshape(y.shape)

    def _checked(self, x: Any, target: Any, lengths: Any) -> tuple[Array, Array]:
        """Both in the range of the vocabulary; at padding x is 0 and the target does not count."""
        x, target = check.integers("x", x), check.integers("target", target)
        if x.ndim not in (1, 2):
            raise ValueError(f"x: expected 2 axes, or 1 for one sequence, got shape {x.shape}")
        if target.shape != x.shape:
            raise ValueError(f"target: expected shape {x.shape} (from x), got {target.shape}")
        if lengths is not None and x.ndim == 2:
            beyond = np.arange(len(x))[:, None] >= check.lengths_of(lengths, *x.shape)
            x, target = np.where(beyond, 0, x), np.where(beyond, IGNORED, target)
        self._in_range("x", x)
        return x, target

    def _in_range(self, name: str, symbols: Array) -> None:
        wrong = (symbols < 0) | (symbols >= self.size)
        for at in np.argwhere(wrong)[:1].tolist():
            place = f"index {at[0]}" if len(at) == 1 else f"step {at[0]} of sequence {at[1]}"
            got = symbols[tuple(at)]
            raise ValueError(f"{name}: expected 0 ≤ symbol < V = {self.size} (from vocabulary), got {got} at {place}")

    # ----------------------------------------------------------------------------------------------------------- texts

    def encode(self, text: Any) -> Array:
        """The numbers of a text's symbols.

        Parameters
        ----------
        text : bytes, str, array of integers, or iterable of str
            As the vocabulary is; an array has one axis.

        Returns
        -------
        array of shape (N,)
            Of the smallest unsigned integers that hold V - 1; bytes, and what is of that dtype, are not copied.

        Raises
        ------
        TypeError, ValueError
            `text` is of another kind, or holds a symbol that is not in the vocabulary.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> RecurrentLM("abc", hidden=2).encode("cab"), RecurrentLM(256, hidden=2).encode(b"AB")
        (array([2, 0, 1], dtype=uint8), array([65, 66], dtype=uint8))
        """
        return self._encoded("text", text)

    def _encoded(self, name: str, text: Any) -> Array:
        if not isinstance(self.vocabulary, int):
            return self._of_strings(name, text)
        if isinstance(text, (bytes, bytearray, memoryview)):
            if self.size != 256:
                raise TypeError(f"{name}: expected integers, bytes only for a vocabulary of 256, got a {_kind(text)}")
            return np.frombuffer(text, np.uint8)
        if isinstance(text, str):
            also = ", or bytes: encode it" if self.size == 256 else ""
            raise TypeError(f"{name}: expected integers{also}, got a str")
        found = check.integers(name, text)
        if found.ndim != 1:
            raise ValueError(f"{name}: expected one axis, got shape {found.shape}")
        if found.dtype != self._symbols or self.size <= np.iinfo(self._symbols).max:
            self._in_range(name, found)
        return found.astype(self._symbols, copy=False)

    def _of_strings(self, name: str, text: Any) -> Array:
        expected = f"{name}: expected a str or an iterable of str"
        if isinstance(text, (bytes, bytearray, memoryview)) or not isinstance(text, Iterable):
            raise TypeError(f"{expected}, got {_kind(text)}")
        symbols = text if isinstance(text, (str, list, tuple)) else list(text)
        try:
            return np.fromiter(map(self._index.__getitem__, symbols), self._symbols, len(symbols))
        except (KeyError, TypeError):
            at, symbol = next((i, s) for i, s in enumerate(symbols) if not isinstance(s, str) or s not in self._index)
        if not isinstance(symbol, str):
            raise TypeError(f"{expected}, got {symbol!r} at index {at}")
        raise ValueError(f"{name}: expected symbols of the vocabulary, got {symbol!r} at index {at}")

    def _decoded(self, symbols: Iterable[int], like: Any) -> Any:
        """A text of the kind of `like`."""
        if not isinstance(self.vocabulary, int):
            found = [self.vocabulary[i] for i in symbols]
            return "".join(found) if isinstance(like, str) else found
        if isinstance(like, (bytes, bytearray, memoryview)):
            return bytes(symbols)
        return np.fromiter(symbols, np.intp)

    def bits_per_character(self, text: Any) -> float:
        """The cross-entropy in bits of a symbol, given all before it in the text.

        Parameters
        ----------
        text : see `encode`
            At least two symbols; the first one is given.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            `text` does not fit the vocabulary, or is too short.

        Notes
        -----
        Read once from the start to the end, the state carried, with memory for some thousand steps.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> round(RecurrentLM(256, hidden=8, seed=0).bits_per_character(b"eight bits, more or less"))
        8
        """
        nats, count = self._read_text(text)
        return nats / count / math.log(2)

    def perplexity(self, text: Any) -> float:
        """exp of the cross-entropy: how many equally probable symbols would be as hard to foretell.

        Parameters
        ----------
        text : see `bits_per_character`

        Returns
        -------
        float
            inf where it overflows.

        Raises
        ------
        TypeError, ValueError
            As in `bits_per_character`.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> 8 < RecurrentLM(10, hidden=8, seed=0).perplexity([3, 1, 4, 1, 5, 9, 2, 6]) < 12
        True
        """
        nats, count = self._read_text(text)
        with np.errstate(over="ignore"):
            return float(np.exp(nats / count))

    def _read_text(self, text: Any) -> tuple[float, int]:
        text = self.encode(text)
        if len(text) < 2:
            raise ValueError(f"text: expected at least two symbols, of which the second is foretold, got {len(text)}")
        return float(self._nats([text])[0]), len(text) - 1

    def _nats(self, texts: Sequence[Array]) -> Array:
        """The sum of the losses of all symbols but the first of each text; of all side by side, a part at a time."""
        lengths = np.array([len(text) - 1 for text in texts])
        layer, state, total = self._lowest().packed(), None, np.zeros(len(texts))
        steps = max(1, READ // len(texts))
        for t in range(0, lengths.max(), steps):
            here = np.clip(lengths - t, 0, steps)
            x = np.zeros((here.max(), len(texts)), self._symbols)
            target = np.full(x.shape, IGNORED)
            for b, (text, n) in enumerate(zip(texts, here, strict=True)):
                x[:n, b], target[:n, b] = text[t : t + n], text[t + 1 : t + n + 1]
            y, state = layer(self._input(x), state, here)
            total += linear_cross_entropy(y, *self._readout(), target, reduction="none", gradient=False).loss.sum(
                axis=0, dtype="float64"
            )
        return total

    def generate(
        self, prompt: Any, length: int, temperature: float = 1.0, seed: int | np.random.Generator | None = None
    ) -> Any:
        """Go on from a text, symbol by symbol, each drawn from what the model holds probable.

        Parameters
        ----------
        prompt : see `encode`
            At least one symbol.
        length : int
            How many symbols to draw, at least 0.
        temperature : float, default=1.0
            What logits are divided by, at least 0: below 1 probable symbols become more so. At 0 the most probable one
            is taken, the first of equal ones.
        seed : int, numpy.random.Generator or None
            A generator may be asked for up to 15 numbers more than are used.

        Returns
        -------
        bytes, str, list of str, or array of integers
            The symbols drawn, as the prompt is, which is not among them.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; the message names it.
        FloatingPointError
            A logit is NaN or infinite.

        Notes
        -----
        A stream's step and a product of W with one vector for each symbol; weights are packed once. `continued` gives
        the symbols one by one.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> model = RecurrentLM(256, hidden=8, seed=0)
        >>> len(model.generate(b"To be", 20, seed=0)), model.generate(b"a", 4, 0) == model.generate(b"a", 4, 0)
        (20, True)
        """
        length = check.integer("length", length, 0)
        return self._decoded(islice(self.continued(prompt, temperature, seed), length), prompt)

    def continued(
        self, prompt: Any, temperature: float = 1.0, seed: int | np.random.Generator | None = None
    ) -> Iterator[int]:
        """The symbols that `generate` draws, as numbers, one by one and without an end.

        Parameters
        ----------
        prompt, temperature, seed : see `generate`

        Returns
        -------
        iterator of int
            With a snapshot of the recurrent weights.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As in `generate`.

        Examples
        --------
        >>> from itertools import islice
        >>> from fastml.language import RecurrentLM
        >>> model = RecurrentLM(10, hidden=8, seed=0)
        >>> list(islice(model.continued([3, 1, 4], seed=0), 4)) == model.generate([3, 1, 4], 4, seed=0).tolist()
        True
        """
        read = self._encoded("prompt", prompt)
        if not len(read):
            raise ValueError("prompt: expected at least one symbol, got none")
        temperature = check.number("temperature", temperature, 0.0, math.inf)
        if seed is not None and not isinstance(seed, np.random.Generator):
            seed = check.integer("seed", seed, 0)
        return self._draws(read, temperature, np.random.default_rng(seed))

    def _draws(self, read: Array, temperature: float, random: np.random.Generator) -> Iterator[int]:
        embedding, (weight, bias) = self.weights["embedding"], self._readout()
        stream = self._layers().stream()
        for t in range(0, len(read) - 1, READ):
            stream.steps(embedding[read[t : min(t + READ, len(read) - 1)], None])
        symbol = int(read[-1])
        logits, p = np.empty(self.size, self.dtype), np.empty(self.size)
        while True:
            drawn = []
            with blas_limit(1), np.errstate(over="ignore", under="ignore"):
                for _ in range(DRAWN):
                    y = stream.step(embedding[symbol : symbol + 1])
                    np.dot(weight, y[0], out=logits)
                    if bias is not None:
                        np.add(logits, bias, out=logits)
                    symbol = int(logits.argmax())
                    if not math.isfinite(logits[symbol]):
                        raise FloatingPointError("the model's logits are not finite: were its weights in training?")
                    if temperature:
                        np.subtract(logits, logits[symbol], out=p)
                        np.divide(p, temperature, out=p)
                        np.exp(p, out=p)
                        np.cumsum(p, out=p)
                        symbol = int(p.searchsorted(random.random() * p[-1], side="right"))
                    drawn.append(symbol)
            yield from drawn

    # --------------------------------------------------------------------------------------------------------- keeping

    def state_dict(self) -> dict[str, Array]:
        """Copies of the weights, by name.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> list(RecurrentLM(4, hidden=2, cell="rnn", bias=False).state_dict())
        ['embedding', 'recurrent.weight_ih_l0', 'recurrent.weight_hh_l0', 'readout.weight']
        """
        return {name: weight.copy() for name, weight in self.weights.items()}

    def load_state_dict(self, mapping: Any) -> None:
        """Copy weights into the model's arrays, in place.

        Parameters
        ----------
        mapping : mapping of str to array
            One array for each name of `weights`, of any real dtype.

        Raises
        ------
        TypeError, ValueError
            Names or shapes are not those of the weights; none has changed then.

        Examples
        --------
        >>> from fastml.language import RecurrentLM
        >>> a, b = RecurrentLM(4, hidden=2, seed=0), RecurrentLM(4, hidden=2, seed=1)
        >>> b.load_state_dict(a.state_dict())
        >>> bool((a.weights["embedding"] == b.weights["embedding"]).all())
        True
        """
        saving.load_state(self.weights, mapping)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, with the constructor's arguments in its metadata.

        Parameters
        ----------
        path : path-like
            A file that is there is replaced once the new one is complete: after an error, a full disk say, it is as it
            was.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            `path` is there and is no file.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import RecurrentLM
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     RecurrentLM(256, hidden=8).save(os.path.join(folder, "lm.safetensors"))
        ...     RecurrentLM.load(os.path.join(folder, "lm.safetensors"))
        RecurrentLM(256, embedding=64, hidden=8, cell='lstm')
        """
        saving.save(path, self._about(), self.weights)

    def _about(self, **more: Any) -> dict[str, Any]:
        version = {"model": "RecurrentLM", "format": FORMAT, "version": __version__}
        return {**version, "arguments": self._arguments(), **more}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Make a model from a file that `save` wrote, or a `Trainer`'s `save`.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        RecurrentLM

        Raises
        ------
        OSError
            There is no file, or it cannot be read.
        ValueError
            It is none that `save` wrote, is damaged or cut short, of another format, or holds something else; the
            message names the file and what is wrong.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import RecurrentLM
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "lm.safetensors")
        ...     RecurrentLM("abc", hidden=8, seed=0).save(path)
        ...     RecurrentLM.load(path).vocabulary
        ('a', 'b', 'c')
        """
        with saving.opened(path, "RecurrentLM", FORMAT) as file:
            return cls._from(file)[0]

    @classmethod
    def _from(cls, file: saving.Saved) -> tuple[Self, dict[str, Array]]:
        """The model, and what else the file holds."""
        model = cls.__new__(cls)
        model._configure(**file.arguments)
        arrays = file.arrays(model._shapes(), model.dtype, beside="training.")
        model.weights = {name: arrays.pop(name) for name, _ in model._shapes()}
        model._layers()
        return model, arrays


def _vocabulary(given: Any) -> int | tuple[str, ...]:
    if not isinstance(given, Iterable):
        return check.integer("vocabulary", given, 1, 2**31)
    symbols = tuple(given)
    if isinstance(given, bytes) or not all(isinstance(symbol, str) for symbol in symbols):
        raise TypeError(f"vocabulary: expected an integer or strings, got {_kind(given)}")
    if not symbols or len(set(symbols)) < len(symbols):
        twice = next((symbol for symbol, times in Counter(symbols).items() if times > 1), None)
        got = "none" if twice is None else f"{twice!r} twice"
        raise ValueError(f"vocabulary: expected at least one symbol, each once, got {got}")
    return symbols


def _kind(value: Any) -> str:
    return type(value).__name__


def _scattered(x: Array, dx: Array, V: int) -> Array:
    """(V, E): the sums of the rows of dx (..., E) that belong to each symbol. In one order, whatever the threads."""
    flat, rows = x.reshape(-1), dx.reshape(-1, dx.shape[-1])
    found = np.zeros((V, rows.shape[1]), rows.dtype)
    order = flat.argsort(kind="stable")
    inorder = flat[order]
    starts = np.flatnonzero(np.diff(inorder, prepend=-1))
    if len(starts):  # reduceat: 1.5 times as fast as np.add.at for 16 000 rows of 64
        found[inorder[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return found
