"""Training of a recurrent language model on one long text, in a way that can stop anywhere and go on."""

import hashlib
import math
import os
from collections.abc import Mapping
from functools import cached_property
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import check, saving
from ..optim import Adam
from .recurrent import FORMAT, RecurrentLM

__all__ = ["Trainer"]

Array = NDArray[Any]

FLOAT64 = np.dtype("float64")


class Trainer:
    """Truncated backpropagation through a long text, by Adam, the states carried from one chunk to the next.

    The last part of the text is held out. The rest, N symbols as a ring, is cut into `batch` streams of N/batch symbols
    side by side, and each step reads the next `seq_len` symbols of all of them. At the streams' end a new epoch cuts
    the ring at another place, drawn at random, and starts from zero states.

    Parameters
    ----------
    model : RecurrentLM
        Trained in place.
    text : bytes, str, array of integers, or iterable of str
        As `model.encode` takes it; kept, with one, two or four bytes for a symbol.
    batch : int, default=16
        B, streams.
    seq_len : int, default=1000
        T, steps that the gradient goes back.
    lr : float, default=2e-3
        Adam's rate.
    clip : float or None, default=1.0
        The largest norm of all gradients together; None for no limit.
    valid : float, default=0.05
        The share of the text, 0 ≤ valid < 1, that is held out for `validate`.
    seed : int, default=0
        Of the epochs' cuts and of dropout.

    Attributes
    ----------
    model, batch, seq_len, valid, seed
        As given.
    adam : Adam
        Whose `lr` and `clip` may be changed between steps.
    steps : int
        How many were taken.
    chunks : int
        Steps in an epoch.
    characters : int
        Symbols read in all steps.
    state
        Of the model, that the next step starts from.
    training_curve : array of shape (steps, 3)
        Of each step: characters, seconds of training (those of `step` alone), bits per character before its update.
    validation_curve : array of shape (validations, 3)
        Of each `validate`: characters, seconds of training, bits per character.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, or the text is too short for a step; the message says how long it is.

    Notes
    -----
    What step n reads, and what it drops, is a function of the text, `seed` and n: a run that is saved, loaded and
    continued has bitwise the weights of one that was not, in `native` and `jit`, for any number of threads: on the same
    machine, rung and NumPy, whose generator cuts the epochs and whose BLAS makes three small products of a step.

    Ctrl-C inside `step` may leave the weights between two steps: go back to what was saved. `fastml lm train` lets a
    step end first.

    References
    ----------
    Williams and Peng, Neural Computation 2 (1990); Mikolov et al., Interspeech 2010.

    Examples
    --------
    >>> import tempfile, os
    >>> from fastml.language import RecurrentLM, Trainer
    >>> text = b"to be, or not to be, that is the question: " * 20
    >>> trainer = Trainer(RecurrentLM(256, hidden=16, seed=0), text, batch=4, seq_len=25, lr=0.02)
    >>> bits = [trainer.step() for _ in range(20)]
    >>> bits[-1] < bits[0] / 1.5, trainer.validate() < bits[0] / 1.5
    (True, True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer.save(os.path.join(folder, "lm.safetensors"))
    ...     same = Trainer.load(os.path.join(folder, "lm.safetensors"), text)
    >>> same.step() == trainer.step()
    True
    """

    def __init__(
        self,
        model: RecurrentLM,
        text: Any,
        *,
        batch: int = 16,
        seq_len: int = 1000,
        lr: float = 2e-3,
        clip: float | None = 1.0,
        valid: float = 0.05,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, RecurrentLM):
            raise TypeError(f"model: expected a RecurrentLM, got {type(model).__name__}")
        self.batch, self.seq_len = check.integer("batch", batch, 1), check.integer("seq_len", seq_len, 1)
        self.valid = check.number("valid", valid, 0, math.nextafter(1, 0))
        self.seed = check.integer("seed", seed, 0)
        self.model, self.adam = model, Adam(model.weights, lr, clip=clip)
        text = model.encode(text)
        held = int(len(text) * self.valid)
        self._ring, self._held = text[: len(text) - held], text[len(text) - held :]
        self._stream = len(self._ring) // self.batch
        self.chunks = self._stream // self.seq_len
        if not self.chunks:
            raise ValueError(
                f"seq_len: expected at most {self._stream}, a stream's share of the text ({len(text)} symbols, "
                f"{held} of them held out, in {self.batch} streams), got {self.seq_len}"
            )
        if self.valid and held < 2:
            raise ValueError(f"valid: expected 0, or a share of at least 2 of {len(text)} symbols, got {self.valid}")
        self.steps, self.state = 0, None
        self._training: list[tuple[float, float]] = []  # seconds and bits of each step
        self._validations: list[tuple[float, float, float]] = []

    def __repr__(self) -> str:
        return f"Trainer({self.model!r}, batch={self.batch}, seq_len={self.seq_len}, steps={self.steps})"

    @property
    def characters(self) -> int:
        """Symbols read in all steps."""
        return self.steps * self.batch * self.seq_len

    @property
    def seconds(self) -> float:
        """Of training."""
        return self._training[-1][0] if self._training else 0.0

    @property
    def training_curve(self) -> Array:
        """Of each step, (steps, 3): characters, seconds, and bits per character before its update."""
        return _curve(np.array(self._training).reshape(-1, 2), self.batch * self.seq_len)

    @property
    def validation_curve(self) -> Array:
        """Of each `validate`, (validations, 3): characters, seconds, bits per character."""
        return np.array(self._validations).reshape(-1, 3)

    # -------------------------------------------------------------------------------------------------------- training

    def chunk(self, step: int) -> tuple[Array, Array]:
        """What a step reads: x and target, (T, B); the states are zeros where ``step % chunks == 0``.

        Examples
        --------
        >>> from fastml.language import RecurrentLM, Trainer
        >>> trainer = Trainer(RecurrentLM(12, hidden=2), range(12), batch=2, seq_len=3, valid=0.0)
        >>> x, target = trainer.chunk(1)
        >>> x.shape, bool(((x + 1) % 12 == target).all()), bool((trainer.chunk(0)[1][-1] == x[0]).all())
        ((3, 2), True, True)
        """
        epoch, place = divmod(check.integer("step", step, 0), self.chunks)
        cut = int(np.random.default_rng([self.seed, epoch]).integers(len(self._ring)))
        first = cut + self._stream * np.arange(self.batch) + place * self.seq_len
        block = self._ring.take(first + np.arange(self.seq_len + 1)[:, None], mode="wrap")
        return block[:-1], block[1:]

    def step(self) -> float:
        """Read the next chunk, and update the weights.

        Returns
        -------
        float
            Bits per character, before the update.

        Raises
        ------
        FloatingPointError
            The gradient is not finite. The trainer and its model are as they were before.

        Examples
        --------
        >>> from fastml.language import RecurrentLM, Trainer
        >>> trainer = Trainer(RecurrentLM(256, hidden=8, seed=0), b"again and " * 30, batch=2, seq_len=20)
        >>> round(trainer.step()), trainer.steps, trainer.characters
        (8, 1, 40)
        """
        start, before = perf_counter(), self.seconds
        x, target = self.chunk(self.steps)
        state = self.state if self.steps % self.chunks else None
        # A seed of its own for each step; not seed + step, as then runs of neighbouring seeds would share masks.
        seed = int(np.random.SeedSequence([self.seed, self.steps]).generate_state(1, np.uint64)[0])
        loss, state, tape = self.model.forward(x, target, state, dropout_seed=seed)
        try:
            self.adam.step(self.model.backward(tape))
        except FloatingPointError as error:
            raise FloatingPointError(f"step {self.steps + 1}: {error}; a smaller lr or clip may help") from None
        self.state = state
        self.steps += 1
        self._training.append((before + perf_counter() - start, loss / math.log(2)))
        return loss / math.log(2)

    def validate(self) -> float:
        """Bits per character of what is held out, cut into `batch` streams that start from zero states.

        Returns
        -------
        float
            Also added to `validation_curve`.

        Raises
        ------
        ValueError
            Nothing is held out.

        Examples
        --------
        >>> from fastml.language import RecurrentLM, Trainer
        >>> trainer = Trainer(RecurrentLM(256, hidden=8, seed=0), b"again and " * 30, batch=2, seq_len=20)
        >>> round(trainer.validate()), trainer.validation_curve.shape
        (8, (1, 3))
        """
        held = self._held
        if not len(held):
            raise ValueError("valid: expected a share to be held out, got 0")
        length = -(-(len(held) - 1) // self.batch)
        streams = [held[start : start + length + 1] for start in range(0, len(held) - 1, length)]
        bits = float(self.model._nats(streams).sum()) / (len(held) - 1) / math.log(2)
        self._validations.append((float(self.characters), self.seconds, bits))
        return bits

    # --------------------------------------------------------------------------------------------------------- keeping

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and all that `load` needs to go on to one file, which `RecurrentLM.load` reads too.

        Parameters
        ----------
        path : path-like
            A file that is there is replaced once the new one is complete: after an error, a full disk say, or at a kill
            it is as it was.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            `path` is there and is no file.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import RecurrentLM, Trainer
        >>> trainer = Trainer(RecurrentLM(256, hidden=8), b"again and " * 30, batch=2, seq_len=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(os.path.join(folder, "lm.safetensors"))
        ...     RecurrentLM.load(os.path.join(folder, "lm.safetensors")).hidden
        8
        """
        moments = self.adam.state_dict()
        arrays = {f"training.{name}": array for name, array in moments.items() if name != "steps"}
        arrays |= {f"training.state.{i}": part for i, part in enumerate(_parts(self.state))}
        arrays["training.curve"] = np.array(self._training).reshape(-1, 2)
        arrays["training.validations"] = self.validation_curve
        adam = {"betas": [float(beta) for beta in self.adam.betas], "eps": float(self.adam.eps)}
        about = {"settings": self.settings, "adam": adam, "steps": self.steps, "text": self._text}
        saving.save(path, self.model._about(training=about), self.model.weights | arrays)

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments but model and text."""
        own = {name: getattr(self, name) for name in ("batch", "seq_len", "valid", "seed")}
        clip = self.adam.clip
        return {**own, "lr": float(self.adam.lr), "clip": None if clip is None else float(clip)}

    @cached_property
    def _text(self) -> dict[str, Any]:
        """What a text is known by."""
        digest = hashlib.sha256()
        for part in (self._ring, self._held):
            digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")))
        return {"length": len(self._ring) + len(self._held), "sha256": digest.hexdigest()}

    @classmethod
    def load(cls, path: str | os.PathLike[str], text: Any) -> Self:
        """Go on with what `save` wrote, on the same text.

        Parameters
        ----------
        path : path-like
        text : see `Trainer`

        Returns
        -------
        Trainer

        Raises
        ------
        OSError
            There is no file, or it cannot be read.
        ValueError
            The file is none that a Trainer's `save` wrote, or is damaged; or the text is another one.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import RecurrentLM, Trainer
        >>> text = b"again and " * 30
        >>> trainer = Trainer(RecurrentLM(256, hidden=8), text, batch=2, seq_len=20)
        >>> bits = trainer.step()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(os.path.join(folder, "lm.safetensors"))
        ...     Trainer.load(os.path.join(folder, "lm.safetensors"), text).steps
        1
        """
        model, arrays, about = _opened(path)
        trainer = cls(model, text, **about["settings"])
        found, was = trainer._text, about["text"]
        if found != was:
            raise ValueError(
                f"text: expected the one that {path} was trained on, of {was['length']} symbols, "
                f"got another one, of {found['length']}"
            )
        trainer.adam.betas, trainer.adam.eps = tuple(about["adam"]["betas"]), about["adam"]["eps"]
        trainer._restore(about["steps"], arrays)
        return trainer

    @staticmethod
    def curves(path: str | os.PathLike[str]) -> tuple[Array, Array]:
        """`training_curve` and `validation_curve` of what `save` wrote, without the text.

        Raises
        ------
        OSError, ValueError
            As in `load`.

        Examples
        --------
        >>> import tempfile, os
        >>> from fastml.language import RecurrentLM, Trainer
        >>> trainer = Trainer(RecurrentLM(256, hidden=8), b"again and " * 30, batch=2, seq_len=20)
        >>> bits = [trainer.step() for _ in range(3)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(os.path.join(folder, "lm.safetensors"))
        ...     training, validation = Trainer.curves(os.path.join(folder, "lm.safetensors"))
        >>> training[:, 0].tolist(), validation.shape
        ([40.0, 80.0, 120.0], (0, 3))
        """
        _, arrays, about = _opened(path)
        chunk = about["settings"]["batch"] * about["settings"]["seq_len"]
        return _curve(arrays["training.curve"], chunk), arrays["training.validations"]

    def _restore(self, steps: int, arrays: Mapping[str, Array]) -> None:
        own = {name.removeprefix("training."): array for name, array in arrays.items()}
        self.steps = steps
        self._training = [tuple(row) for row in own.pop("curve").tolist()]
        self._validations = [tuple(row) for row in own.pop("validations").tolist()]
        states = [own.pop(name) for name in sorted(own) if name.startswith("state.")]
        self.state = None if not states else states[0] if len(states) == 1 else tuple(states)
        self.adam.load_state_dict({"steps": steps, **own})


def _opened(path: str | os.PathLike[str]) -> tuple[RecurrentLM, dict[str, Array], dict[str, Any]]:
    """The model, what else there is of arrays, and of the rest."""
    with saving.opened(path, "RecurrentLM", FORMAT) as file:
        model, arrays = RecurrentLM._from(file)
        about = file.about.get("training")
        if about is not None:
            _check(model, about, arrays)
    if about is None:
        raise ValueError(f"{path}: a model without its training: RecurrentLM.load reads it, but it cannot go on")
    return model, arrays, about


def _check(model: RecurrentLM, about: dict[str, Any], arrays: dict[str, Array]) -> None:
    """What `save` writes beside a model: names, types, and the shapes that they and the model ask for."""
    check.names("training", about, ("settings", "adam", "steps", "text"))
    check.names("training.adam", about["adam"], ("betas", "eps"))
    beta1, beta2 = about["adam"]["betas"]
    check.number("betas", beta1, 0, 1), check.number("betas", beta2, 0, 1), check.positive("eps", about["adam"]["eps"])
    check.names("training.text", about["text"], ("length", "sha256"))
    settings = about["settings"]
    check.names("training.settings", settings, ("batch", "seq_len", "valid", "seed", "lr", "clip"))
    steps, B = check.integer("steps", about["steps"], 0), check.integer("batch", settings["batch"], 1)
    check.integer("seq_len", settings["seq_len"], 1, 2**62), check.integer("seed", settings["seed"], 0)
    check.number("valid", settings["valid"], 0, 1), check.positive("lr", settings["lr"])
    if settings["clip"] is not None:
        check.positive("clip", settings["clip"])
    shapes = {f"{part}.{name}": weight.shape for part in ("first", "second") for name, weight in model.weights.items()}
    parts = len(model.recurrent._states) if steps else 0
    shapes |= {f"state.{i}": (model.num_layers, B, model.hidden) for i in range(parts)}
    dtypes = dict.fromkeys(shapes, model.dtype) | {"curve": FLOAT64, "validations": FLOAT64}
    shapes |= {"curve": (steps, 2), "validations": (*arrays.get("training.validations", np.empty(0)).shape[:1], 3)}
    check.names("training", arrays, (f"training.{name}" for name in shapes))
    for name, shape in shapes.items():
        found = arrays[f"training.{name}"]
        if (found.shape, found.dtype) != (shape, dtypes[name]):
            raise ValueError(
                f"training.{name}: expected {dtypes[name]} of shape {shape}, got {found.dtype} of {found.shape}"
            )


def _curve(steps: Array, chunk: int) -> Array:
    """Seconds and bits of each step, with the characters before them."""
    return np.column_stack([np.arange(1.0, len(steps) + 1) * chunk, steps])


def _parts(state: Any) -> tuple[ArrayLike, ...]:
    return () if state is None else state if isinstance(state, tuple) else (state,)
