"""Validation, before a kernel sees anything. Messages name the argument, and the axis letter that disagrees."""

import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["arrays", "dtype_of", "flag", "lengths_of", "recurrent", "recurrent_upstream", "shape"]

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
        name: None if array is None else np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
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


def lengths_of(lengths: Any, T: int, B: int) -> np.ndarray:
    """(B,) intp: the given lengths, checked, or T for every sequence."""
    if lengths is None:
        return np.full(B, T, dtype=np.intp)
    try:
        found = np.asarray(lengths)
    except ValueError as error:  # ragged
        raise TypeError(f"lengths: expected integers, got {lengths!r} ({error})") from None
    if found.dtype.kind not in "iu" and not (found.size == 0 and isinstance(lengths, (list, tuple))):
        raise TypeError(f"lengths: expected integers, got {found.dtype}")
    if found.shape != (B,):
        raise ValueError(f"lengths: expected shape (B,) = ({B},), got {found.shape}")
    for b in np.flatnonzero((found < 0) | (found > T))[:1]:
        raise ValueError(f"lengths: expected 0 ≤ length ≤ T = {T}, got {found[b]} at index {b}")
    return np.array(found, dtype=np.intp)  # a copy: kernels trust it, and the tape keeps it


def recurrent(
    gates: int, x: Any, states: dict[str, Any], w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, lengths: Any
) -> SimpleNamespace:
    """The checked arguments of one layer in one direction: arrays by name, absent states and biases as zeros,
    sizes as T, B, I, H, the dtype, and `given`, the names of the optional arguments that were there.
    """
    optional = {**states, "b_ih": b_ih, "b_hh": b_hh}
    for name, value in {"x": x, "w_ih": w_ih, "w_hh": w_hh}.items():
        if value is None:
            raise TypeError(f"{name}: expected an array, got None")
    found = arrays(x=x, w_ih=w_ih, w_hh=w_hh, **optional)
    sizes: dict[str, tuple[int, str]] = {}
    G = gates if gates > 1 else ""
    shape("x", found["x"], "T B I", sizes)
    shape("w_hh", found["w_hh"], f"{G}H H", sizes)
    shape("w_ih", found["w_ih"], f"{G}H I", sizes)
    T, B, I, H = (sizes[letter][0] for letter in "TBIH")
    for letter, size in (("I", I), ("H", H)):
        if size < 1:
            raise ValueError(f"{'x' if letter == 'I' else 'w_hh'}: expected {letter} of at least 1, got 0")
    for name in optional:
        axes, empty = (f"{G}H", (gates * H,)) if name.startswith("b_") else ("B H", (B, H))
        if found[name] is None:
            found[name] = np.zeros(empty, found["x"].dtype)
        else:
            shape(name, found[name], axes, sizes)
    given = frozenset(name for name, value in optional.items() if value is not None)
    return SimpleNamespace(
        **found, lengths=lengths_of(lengths, T, B), T=T, B=B, I=I, H=H, dtype=found["x"].dtype, given=given
    )


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
