"""Optimisers: they update arrays in place, by name. Adam, and the norm of gradients that clipping bounds.

>>> import numpy as np, fastml
>>> from fastml.optim import Adam
>>> gru = fastml.GRU(3, 4, seed=0)
>>> adam = Adam(gru.weights, lr=1e-2, clip=1.0)
>>> y, h_n, tape = gru.forward(np.ones((5, 2, 3), "float32"))
>>> norm = adam.step(gru.backward(tape, dy=y).weights)
>>> adam.steps
1
"""

import math
import sys
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check
from .backend import find

__all__ = ["Adam", "global_norm"]

Array = NDArray[Any]


def global_norm(gradients: Mapping[str, ArrayLike]) -> float:
    """The Euclidean norm of all numbers of all arrays.

    Parameters
    ----------
    gradients : mapping of str to array
        float32 or float64, of any shapes.

    Returns
    -------
    float
        Summed in float64. NaN or inf where a number is, or where the sum of squares overflows.

    Raises
    ------
    TypeError
        `gradients` is no mapping, or holds no such arrays.
    NotImplementedError
        The back end chosen with `fastml.use` does not have this kernel.

    Notes
    -----
    Cost: one pass over the arrays. The bits do not depend on the number of threads.

    Examples
    --------
    >>> from fastml.optim import global_norm
    >>> global_norm({"w": [[3.0, 0.0]], "b": [4.0]})
    5.0
    """
    _check_mapping("gradients", gradients)
    return math.sqrt(sum(_squares(_array("gradients", name, g)) for name, g in gradients.items()))


def _squares(gradient: Array) -> float:
    total = np.empty(1)
    find("adam_squares").function(gradient.reshape(-1), total)
    return float(total[0])


class Adam:
    """Adam, with clipping by the global norm.

    .. math::
        g &← g \\min(1, \\text{clip} / ‖g‖) \\\\
        m &← β_1 m + (1 - β_1) g, \\quad v ← β_2 v + (1 - β_2) g^2 \\\\
        w &← w - α \\frac{m / (1 - β_1^t)}{\\sqrt{v / (1 - β_2^t)} + ε}

    Parameters
    ----------
    weights : mapping of str to array
        The live parameters, float32 or float64, C-contiguous and writeable, none overlapping another:
        ``layer.weights``. `step` updates them in place.
    lr : float
        α, above 0.
    betas : pair of float
        β₁ and β₂, each at least 0 and below 1.
    eps : float
        ε, at least √(s / (1 - β₂)), s the smallest normal number: 3.4e-18 in float32, 4.7e-153 in float64 with this β₂.
    clip : float or None
        The largest norm, above 0, of all gradients together; larger ones are scaled down to it, their direction kept.
        None leaves them as they are.

    Attributes
    ----------
    lr, betas, eps, clip
        As given; may be changed between steps.
    steps : int
        t, how many steps were taken.
    first, second : dict of str to array
        m and v, zeros before the first step.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message names it.

    Notes
    -----
    Equal to torch.optim.Adam and torch.nn.utils.clip_grad_norm_ but for rounding (and for the 1e-6 that the latter adds
    to the norm). Cost: two passes over the gradients and one over w, m and v. The bits do not depend on the number of
    threads. Ctrl-C in a long step may leave some numbers updated and others not.

    In float32, v is 0 where gradients stay below 3e-18, and the step is m / ε there, below 1e-9 α with an ε of 1e-8; v
    is inf, and the weight rests for good, where a gradient exceeds 5e20; a norm beyond 8e37 clip makes all gradients 0.
    Denormal moments, as of rows of an embedding that are no longer used, count as 0 in `native` and `jit`.

    References
    ----------
    Kingma and Ba, Adam: A Method for Stochastic Optimization, arXiv:1412.6980, algorithm 1; Pascanu, Mikolov and
    Bengio, On the difficulty of training recurrent neural networks, arXiv:1211.5063, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastml.optim import Adam
    >>> w = np.array([1.0, -2.0])
    >>> adam = Adam({"w": w}, lr=0.5, clip=1.0)
    >>> adam.step({"w": np.array([3.0, 4.0])}), w.round(6).tolist()
    (5.0, [0.5, -2.5])
    """

    def __init__(
        self,
        weights: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        clip: float | None = None,
    ) -> None:
        _check_mapping("weights", weights)
        self.weights = dict(weights)
        for name, weight in self.weights.items():
            if not isinstance(weight, np.ndarray) or ("numpy.ma" in sys.modules and np.ma.isMaskedArray(weight)):
                raise TypeError(f"weights[{name!r}]: expected an array, got {type(weight).__name__}")
            check.dtype_of(weight.dtype, f"weights[{name!r}]")
            if not (weight.flags.c_contiguous and weight.flags.writeable and weight.flags.aligned):
                raise ValueError(f"weights[{name!r}]: expected a C-contiguous, aligned, writeable array")
        for (one, weight), (name, other) in combinations(self.weights.items(), 2):
            if np.may_share_memory(weight, other):  # it would be updated twice
                raise ValueError(
                    f"weights[{name!r}]: expected an array of its own, got one that overlaps weights[{one!r}]"
                )
        self.lr, self.betas, self.eps, self.clip = lr, betas, eps, clip
        self._numbers()
        self.steps = 0
        self._kinds = {name: (weight.dtype, weight.shape) for name, weight in self.weights.items()}
        self.first = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        self.second = {name: np.zeros_like(weight) for name, weight in self.weights.items()}

    def __repr__(self) -> str:
        return f"Adam({len(self.weights)} arrays, lr={self.lr}, betas={self.betas}, eps={self.eps}, clip={self.clip})"

    def _numbers(self) -> tuple[float, float, float, float, float]:
        """lr, β₁, β₂, ε and clip, checked: they may have been changed."""
        lr, eps = check.positive("lr", self.lr), check.positive("eps", self.eps)
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise TypeError(f"betas: expected a pair of numbers, got {self.betas!r}")
        below = math.nextafter(1, 0)
        beta1, beta2 = (check.number("betas", beta, 0, below) for beta in self.betas)
        for dtype in {weight.dtype for weight in self.weights.values()}:
            least = math.sqrt(np.finfo(dtype).tiny / (1 - beta2))  # gradients up to this leave v at 0: steps up to α
            if eps < least:
                raise ValueError(f"eps: expected at least {least:.2g} for {dtype}, got {self.eps!r}")
        return lr, beta1, beta2, eps, math.inf if self.clip is None else check.positive("clip", self.clip)

    def step(self, gradients: Mapping[str, ArrayLike]) -> float:
        """Take one step.

        Parameters
        ----------
        gradients : mapping of str to array
            One for each of the weights, of its shape and dtype. Not modified.

        Returns
        -------
        float
            The global norm of the gradients, before clipping.

        Raises
        ------
        TypeError, ValueError
            Names, shapes or dtypes are not those of the weights.
        FloatingPointError
            The norm is not finite. After any of these nothing has changed.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.optim import Adam
        >>> Adam({"w": np.zeros(2)}).step({"w": np.array([0.6, 0.8])})
        1.0
        """
        self._check_arrays()
        lr, beta1, beta2, eps, clip = self._numbers()
        _check_mapping("gradients", gradients)
        check.names("gradients", gradients, self.weights)
        found = {name: _array("gradients", name, gradients[name], weight) for name, weight in self.weights.items()}
        norm = math.sqrt(sum(map(_squares, found.values())))
        if not math.isfinite(norm):
            raise FloatingPointError(f"gradients: expected finite numbers, got a norm of {norm}")
        update = find("adam_update").function
        self.steps += 1
        root = math.sqrt(1 - beta2**self.steps)
        scale, rate = clip / norm if norm > clip else 1.0, root * lr / (1 - beta1**self.steps)
        for name, gradient in found.items():
            w, m, v = (a.reshape(-1) for a in (self.weights[name], self.first[name], self.second[name]))
            update(w, gradient.reshape(-1), m, v, scale, rate, beta1, beta2, root * eps, w, m, v)
        return norm

    def _check_arrays(self) -> None:
        """They are public, and a kernel that writes to them trusts what is checked here."""
        parts = {"weights": self.weights, "first": self.first, "second": self.second}
        for name, (dtype, shape) in self._kinds.items():
            for part, arrays in parts.items():
                array = arrays.get(name)
                fits = isinstance(array, np.ndarray) and (array.dtype, array.shape) == (dtype, shape)
                if not (fits and array.flags.carray):
                    expected = f"a C-contiguous, writeable array of {dtype} and shape {shape}"
                    raise ValueError(f"{part}[{name!r}]: expected {expected}, as it was at first")

    def state_dict(self) -> dict[str, Any]:
        """Copies of what steps change: "steps", and "first.NAME" and "second.NAME" of each array.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.optim import Adam
        >>> list(Adam({"w": np.zeros(2)}).state_dict())
        ['steps', 'first.w', 'second.w']
        """
        parts = {"first": self.first, "second": self.second}
        arrays = {f"{part}.{name}": a.copy() for part, named in parts.items() for name, a in named.items()}
        return {"steps": self.steps, **arrays}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; all or nothing.

        Parameters
        ----------
        mapping : mapping of str to int or array

        Raises
        ------
        TypeError, ValueError
            Names, shapes or dtypes are not those of the weights. Nothing has changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastml.optim import Adam
        >>> one, other = Adam({"w": np.zeros(2)}), Adam({"w": np.zeros(2)})
        >>> one.step({"w": np.array([0.6, 0.8])})
        1.0
        >>> other.load_state_dict(one.state_dict())
        >>> other.steps, bool((other.first["w"] == one.first["w"]).all())
        (1, True)
        """
        _check_mapping("mapping", mapping)
        own = self.state_dict()
        check.names("mapping", mapping, own)
        steps = check.integer("mapping['steps']", mapping["steps"], 0)
        arrays = {name: _array("mapping", name, mapping[name], own[name]) for name in own if name != "steps"}
        self.steps = steps
        for name, array in arrays.items():
            part, _, weight = name.partition(".")
            getattr(self, part)[weight][...] = array


def _check_mapping(argument: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}: expected names and arrays, got {type(value).__name__}")


def _array(argument: str, name: str, value: Any, like: Array | None = None) -> Array:
    """A mapping's array of this name, of the dtype and shape of `like`."""
    label = f"{argument}[{name!r}]"
    array = check.arrays(*(() if like is None else (like.dtype, "the weights")), **{label: value})[label]
    if array is None:
        raise TypeError(f"{label}: expected an array, got None")
    if like is not None and array.shape != like.shape:
        raise ValueError(f"{label}: expected shape {like.shape}, got {array.shape}")
    return array
