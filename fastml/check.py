"""Validation, before a kernel sees anything. Messages name the argument, and the axis letter that disagrees."""

import sys
from collections.abc import Collection, Iterable
from functools import cache
from operator import index
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = [
    "arrays",
    "differences",
    "dtype_of",
    "flag",
    "indices_of",
    "integer",
    "integers",
    "labels_of",
    "lengths_of",
    "marks_of",
    "names",
    "number",
    "output",
    "positive",
    "ready",
    "recurrent",
    "recurrent_upstream",
    "shape",
    "weights",
]

DTYPES = (np.dtype("float32"), np.dtype("float64"))


def dtype_of(dtype: Any, argument: str = "dtype") -> np.dtype:
    """float32 or float64, from whatever NumPy takes for a dtype."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if dtype is None or found is None or found not in DTYPES:  # to NumPy, None is another name of float64
        raise TypeError(f"{argument}: expected float32 or float64, got {dtype!r}")
    return found


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    expected = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        value = index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {expected}, got {value!r}") from None
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return value


def _float(name: str, value: Any, expected: str) -> float:
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        return float(value)
    except OverflowError:  # an integer, perhaps of a file, of hundreds of digits
        raise ValueError(f"{name}: expected {expected}, got an integer beyond all floats") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {expected}, got {value!r}") from None


def positive(name: str, value: Any, most: float | None = None) -> float:
    """A finite number above 0, up to `most` if that is given."""
    expected = "a positive number" if most is None else f"a positive number of at most {most}"
    found = _float(name, value, expected)
    if not (0 < found < float("inf") and (most is None or found <= most)):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return found


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number from `least` to `most`."""
    found = _float(name, value, f"a number from {least} to {most}")
    if not least <= found <= most:
        raise ValueError(f"{name}: expected a number from {least} to {most}, got {value!r}")
    return found


def names(argument: str, found: Iterable[str], expected: Iterable[str]) -> None:
    """The names of a mapping are those expected, in any order."""
    found, expected = list(found), list(expected)
    if wrong := differences(found, expected):
        raise ValueError(f"{argument}: {'; '.join(wrong)}")


def differences(found: Collection[str], expected: Collection[str]) -> list[str]:
    """What is missing, and what is unknown."""
    kinds = {"missing": [name for name in expected if name not in found]}
    kinds["unknown"] = [str(name) for name in found if name not in expected]
    return [f"{kind} {', '.join(some)}" for kind, some in kinds.items() if some]


def arrays(dtype: np.dtype | None = None, source: str = "", /, **named: Any) -> dict[str, np.ndarray | None]:
    """C-contiguous arrays of one dtype in native byte order, copied only where they are not that already.

    float32 and float64 arrays are taken as they are and must agree with each other, and with `dtype`, where `source`
    sets one. Python numbers and lists, and integer and boolean arrays, are cast to that dtype, float64 where nothing
    sets it. None stays None.
    """
    found: dict[str, np.ndarray | None] = {}
    for name, value in named.items():
        if value is None:
            found[name] = None
            continue
        if "numpy.ma" in sys.modules and np.ma.isMaskedArray(value):  # its mask would be dropped in silence
            raise TypeError(f"{name}: expected an array of float32 or float64, got a masked array")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{name}: expected an array of float32 or float64, got {type(value).__name__} ({error})"
            ) from None
        kind = array.dtype.newbyteorder("=")
        if kind in DTYPES and not isinstance(value, (list, tuple, float)):
            if dtype is None:
                dtype, source = kind, name
            elif kind != dtype:
                raise TypeError(f"{name}: expected {dtype} as {source}, got {kind}")
        elif kind not in DTYPES and array.dtype.kind not in "iub":
            raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
        found[name] = array
    dtype = dtype or np.dtype("float64")
    return {
        name: None if array is None else np.require(array, dtype, ["C", "A"]).reshape(array.shape)
        for name, array in found.items()
    }


@cache
def _axes(axes: str) -> tuple[list[tuple[int, str]], str]:
    """ "4H I" → [(4, "H"), (1, "I")] and "(4H, I)"."""
    parts = axes.split()
    return [(int(part[:-1] or 1), part[-1]) for part in parts], f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def shape(name: str, array: np.ndarray, axes: str, sizes: dict[str, tuple[int, str]]) -> None:
    """Check `array` against axes such as "T B I" or "4H I"; letters met for the first time are remembered in `sizes`
    with the argument that set them.
    """
    factors, text = _axes(axes)
    if array.ndim != len(factors):
        raise ValueError(f"{name}: expected shape {text}, got {array.shape}, which has {array.ndim} axes")
    for (factor, letter), size in zip(factors, array.shape, strict=True):
        if letter not in sizes:
            if size % factor:
                raise ValueError(f"{name}: expected shape {text}, got {array.shape}: {size} is no multiple of {factor}")
            sizes[letter] = (size // factor, name)
        wanted, source = sizes[letter]
        if size != factor * wanted:
            raise ValueError(
                f"{name}: expected shape {text} with {letter} = {wanted} (from {source}), got {array.shape}"
            )


def ready(name: str, array: Any, dtype: str, N: int | None, source: str) -> np.ndarray:
    """An array (N,) that a kernel takes as it is: of that dtype and length (None for any), C-contiguous, aligned."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name}: expected an array of {dtype}, got {got}")
    shape(name, array, "N", {} if N is None else {"N": (N, source)})
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name}: expected a C-contiguous, aligned array")
    return array


def integers(name: str, value: Any) -> np.ndarray:
    """An array of integers, as it is; of an empty list, which NumPy takes for numbers, an empty one."""
    if "numpy.ma" in sys.modules and np.ma.isMaskedArray(value):
        raise TypeError(f"{name}: expected integers, got a masked array")
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or a tensor that cannot be an array
        raise TypeError(f"{name}: expected integers, got {value!r} ({error})") from None
    if found.size == 0 and isinstance(value, (list, tuple)):
        return found.astype(np.intp)
    if found.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {found.dtype}")
    return found


def lengths_of(lengths: Any, T: int, B: int) -> np.ndarray:
    """(B,) intp: the given lengths, checked, or T for every sequence."""
    if lengths is None:
        return np.full(B, T, dtype=np.intp)
    found = integers("lengths", lengths)
    if found.shape != (B,):
        raise ValueError(f"lengths: expected shape (B,) = ({B},), got {found.shape}")
    for b in np.flatnonzero((found < 0) | (found > T))[:1]:
        raise ValueError(f"lengths: expected 0 ≤ length ≤ T = {T}, got {found[b]} at index {b}")
    return np.array(found, dtype=np.intp)  # a copy: kernels trust it, and the tape keeps it


def labels_of(y: Any, N: int, K: int, source: str) -> np.ndarray:
    """(N,) intp: classes 0 … K-1; N and K are those of `source`."""
    found = integers("y", y)
    if found.shape != (N,):
        raise ValueError(f"y: expected shape (N,) with N = {N} (from {source}), got {found.shape}")
    for n in np.flatnonzero((found < 0) | (found >= K))[:1]:
        raise ValueError(f"y: expected 0 ≤ class < K = {K} (from {source}), got {found[n]} at index {n}")
    return np.ascontiguousarray(found, dtype=np.intp)


def marks_of(name: str, value: Any, N: int, source: str) -> np.ndarray:
    """(N,) uint8, any but 0 for True, of booleans or integers; a view where the array allows it."""
    if "numpy.ma" in sys.modules and np.ma.isMaskedArray(value):
        raise TypeError(f"{name}: expected True or False for each row, got a masked array")
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected True or False for each row, got {value!r} ({error})") from None
    if found.size == 0 and isinstance(value, (list, tuple)):
        found = found.astype(bool)
    if found.dtype.kind not in "biu":
        raise TypeError(f"{name}: expected True or False for each row, got {found.dtype}")
    if found.shape != (N,):
        raise ValueError(f"{name}: expected shape (N,) with N = {N} (from {source}), got {found.shape}")
    return np.ascontiguousarray(found if found.dtype.itemsize == 1 else found != 0).view(np.uint8)


def indices_of(found: np.ndarray, I: int, lengths: np.ndarray, source: str = "w_ih") -> np.ndarray:
    """(T, B) intp: the indices of a `OneHot`, checked where they count; elsewhere they may be anything."""
    wrong = (found < 0) | (found >= I)
    if wrong.any():
        wrong &= np.arange(len(found))[:, None] < lengths
    for t, b in np.argwhere(wrong)[:1]:
        raise ValueError(
            f"x: expected 0 ≤ index < I = {I} (from {source}), got {found[t, b]} at step {t} of sequence {b}"
        )
    return np.ascontiguousarray(found, dtype=np.intp)


GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def recurrent(
    family: str, x: Any, states: dict[str, Any], w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, lengths: Any
) -> SimpleNamespace:
    """The checked arguments of one layer in one direction: arrays by name, of a `OneHot` its indices, absent states and
    biases as zeros, sizes as T, B, I, H, the dtype, `packed` (w_ih, if that is what it is), `given`, the names of the
    optional arguments that were there, and `sources`, the arguments as they were given.
    """
    from .tape import Packed

    if x is None:
        raise TypeError("x: expected an array, got None")
    if not isinstance(w_ih, Packed):
        a = weights(family, w_ih, w_hh, b_ih, b_hh, x=x, **states)
        a.packed = None
    elif w_ih.kernel != f"{family}_forward":
        raise TypeError(f"w_ih: expected an array or what {family}_pack made, got {w_ih!r}")
    else:
        for name, value in {"w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}.items():
            if value is not None:
                raise TypeError(f"{name}: expected None beside packed weights, which have it, got an array")
        a = weights(family, *(w_ih.arrays[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")), x=x, **states)
        a.packed = w_ih
        a.given = w_ih.given | {name for name in states if states[name] is not None}
    a.T, a.B = a.x.shape[:2]
    for name in states:
        if states[name] is None:
            setattr(a, name, np.zeros((a.B, a.H), a.dtype))
    a.lengths = lengths_of(lengths, a.T, a.B)
    if a.x.ndim == 2:
        a.x = indices_of(a.x, a.I, a.lengths)
    a.sources = {"x": x, **states, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "lengths": lengths}
    return a


def weights(family: str, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, **others: Any) -> SimpleNamespace:
    """The checked weights of one layer in one direction, absent biases as zeros; `others` are x and states. Of a
    `OneHot`, x is the indices as they are, whose range is yet to be checked.
    """
    from .onehot import OneHot

    for name, value in {"w_ih": w_ih, "w_hh": w_hh}.items():
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
    x = others.pop("x", None)
    sparse = isinstance(x, OneHot)
    found = arrays(x=None if sparse else x, w_ih=w_ih, w_hh=w_hh, **others, b_ih=b_ih, b_hh=b_hh)
    if sparse:
        found["x"] = x.indices
    sizes: dict[str, tuple[int, str]] = {}
    gates = GATES[family]
    G = gates if gates > 1 else ""
    if x is not None:
        shape("x", found["x"], "T B" if sparse else "T B I", sizes)
    shape("w_hh", found["w_hh"], f"{G}H H", sizes)
    shape("w_ih", found["w_ih"], f"{G}H I", sizes)
    I, H = sizes["I"][0], sizes["H"][0]
    for letter, size in (("I", I), ("H", H)):
        if size < 1:
            source = sizes[letter][1]
            raise ValueError(f"{source}: expected {letter} of at least 1, got 0")
    given = [name for name in (*others, "b_ih", "b_hh") if found[name] is not None]
    for name in given:  # in the order of the arguments, which a set has not
        shape(name, found[name], f"{G}H" if name.startswith("b_") else "B H", sizes)
    dtype = found["w_ih"].dtype
    for name in ("b_ih", "b_hh"):
        if found[name] is None:
            found[name] = np.zeros(gates * H, dtype)
    return SimpleNamespace(**found, I=I, H=H, dtype=dtype, given=frozenset(given))


def output(out: Any, a: SimpleNamespace) -> np.ndarray | None:
    """`out=`, the caller's array for y: written in place, so that it must be exactly what a new one would be."""
    if out is None:
        return None
    wanted = (a.T, a.B, a.H)
    if not isinstance(out, np.ndarray) or ("numpy.ma" in sys.modules and np.ma.isMaskedArray(out)):
        raise TypeError(f"out: expected an array of {a.dtype}, got {type(out).__name__}")
    if out.dtype != a.dtype:
        raise TypeError(f"out: expected {a.dtype} as w_ih, got {out.dtype}")
    if out.shape != wanted:
        raise ValueError(f"out: expected shape (T, B, H) = {wanted}, got {out.shape}")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError("out: expected a C-contiguous, aligned, writeable array")
    # Of a strided argument, a is a copy: what must not be written is the argument itself, all that its bounds enclose.
    for name, array in [*vars(a).items(), *a.sources.items()]:
        if hasattr(array, "__array__") and np.may_share_memory(out, array):
            raise ValueError(f"out: expected an array that overlaps no other argument, got one that overlaps {name}")
    return out


def recurrent_upstream(tape: Any, kernel: str, dy: Any, states: dict[str, Any]) -> dict[str, np.ndarray]:
    """The checked upstream gradients of one layer in one direction: zeros for what is None."""
    from .tape import Tape

    if not isinstance(tape, Tape) or tape.kernel != kernel:
        raise TypeError(f"tape: expected the tape of {kernel} with keep=True, got {tape!r}")
    y = tape.arrays["y"]
    found = arrays(y.dtype, "the forward pass", dy=dy, **states)
    T, B, H = y.shape
    sizes = {letter: (size, "the forward pass") for letter, size in zip("TBH", y.shape, strict=True)}
    for name, array in found.items():
        axes, empty = ("T B H", (T, B, H)) if name == "dy" else ("B H", (B, H))
        if array is None:
            found[name] = np.zeros(empty, y.dtype)
        else:
            shape(name, array, axes, sizes)
    return found
