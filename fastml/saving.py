"""Files of weights: safetensors that are replaced whole or not at all, say what they hold, and carry a checksum."""

import errno
import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import check

__all__ = ["Saved", "leftovers", "load_state", "opened", "replaced", "save"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]

NAMES = {"float32": "F32", "float64": "F64"}  # safetensors' names


@contextmanager
def replaced(path: PathLike) -> Iterator[Path]:
    """A new file beside `path`, for the block to write, which then takes its place; a link stays one.

    Whatever is raised, `path` is as it was and nothing else is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastml.saving import replaced
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replaced(Path(folder, "a.txt")) as new:
    ...         length = new.write_text("whole")
    ...     [(file.name, file.read_text()) for file in Path(folder).iterdir()]
    [('a.txt', 'whole')]
    """
    path = Path(os.path.realpath(os.fsdecode(path)))
    if path.exists() and not path.is_file():  # a device would be replaced by a file
        raise ValueError(f"path: expected a file, got {path}, which is none")
    # In the same folder, since a rename is atomic within one file system only; not by tempfile, which would make the
    # file unreadable for others whatever the umask. The ending stays: what writes may choose the format by it.
    new = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield new
        with open(new, "r+b") as file:
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(new, stat.S_IMODE(path.stat().st_mode))
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def leftovers(path: PathLike) -> list[Path]:
    """The files that `replaced` was killed before it could rename or remove; or is at work on, in another process.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastml.saving import leftovers
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, ".a-0123456789abcdef.txt").touch()
    ...     [file.name for file in leftovers(Path(folder, "a.txt"))]
    ['.a-0123456789abcdef.txt']
    """
    path = Path(os.path.realpath(os.fsdecode(path)))
    begun, end = f".{path.stem}-", path.suffix
    return [
        file
        for file in path.parent.iterdir()
        if file.name.startswith(begun)
        and file.name.endswith(end)
        and len(token := file.name[len(begun) : len(file.name) - len(end)]) == 16
        and set(token) <= set("0123456789abcdef")
    ]


def save(path: PathLike, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write arrays to a safetensors file, with `about`, of what JSON can hold, and a CRC-32 of all in its metadata."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(about)
    data = save(arrays, metadata={"fastml": text, "crc32": _checksum(text, arrays)})
    with replaced(path) as new, open(new, "xb") as file:
        file.write(data)


class OtherFormatError(ValueError):
    """What a fastml wrote that is older or newer."""


class Saved:
    """A file that `save` wrote, opened: `about`, and the arrays once they are asked for."""

    def __init__(self, file: Any, kind: str, version: int | None) -> None:
        self._file, self._metadata = file, file.metadata() or {}
        text = self._metadata.get("fastml")
        if text is None:
            raise ValueError("fastml wrote no arguments into its metadata")
        try:
            about = json.loads(text)
            what = "model" if "model" in about else "layer"
            found, self.arguments = about[what], dict(about["arguments"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"its metadata cannot be read ({error!r})") from None
        if found != kind:
            raise ValueError(f"it holds a {what} of kind {found}")
        if about.get("format") != version:
            raise OtherFormatError(
                f"a {kind} of format {about.get('format')}, written by fastml {about.get('version')}; "
                f"this fastml reads format {version}"
            )
        self.about = about

    def arrays(
        self, expected: Iterable[tuple[str, tuple[int, ...]]], dtype: np.dtype, beside: str | None = None
    ) -> dict[str, Array]:
        """All arrays of the file. They fit the checksum, and are those expected, by name and shape, and of `dtype`;
        besides there may be any whose names start with `beside`.
        """
        slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118 (it is no dict)
        own = {name: s for name, s in slices.items() if beside is None or not name.startswith(beside)}
        # One more than there are shows that some are missing, however many layers a damaged file claims.
        wanted = dict(islice(expected, len(own) + 1))
        wrong = _differences(wanted, {name: tuple(s.get_shape()) for name, s in own.items()})
        wrong += [
            f"{name}: expected {dtype}, got {s.get_dtype()}"
            for name, s in own.items()
            if s.get_dtype() != NAMES[dtype.name]
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        order = [*wanted, *(name for name in slices if name not in wanted)]
        arrays = {name: np.array(self._file.get_tensor(name)) for name in order}
        if _checksum(self._metadata["fastml"], arrays) != self._metadata.get("crc32"):
            raise ValueError("a weight or an argument does not fit the checksum")
        return arrays


@contextmanager
def opened(path: PathLike, kind: str, version: int | None = None) -> Iterator[Saved]:
    """A file of a `kind` and version of its format; what the block finds wrong with it is a ValueError that names it.

    Nothing that the file contains is executed (no pickle), and no more allocated than it holds.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fsdecode(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        with safe_open(path, framework="numpy") as file:
            yield Saved(file, kind, version)
    except OtherFormatError as error:
        raise ValueError(f"{path}: {error}") from None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a {kind} saved by fastml, or damaged: {error}") from None


def load_state(weights: Mapping[str, Array], mapping: Mapping[str, ArrayLike]) -> None:
    """Copy the arrays of `mapping` into those of `weights`: all of them, or none after an error."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: expected names and arrays, got {type(mapping).__name__}")
    found = {name: _real(name, mapping[name]) for name in weights if name in mapping}
    shapes = {name: found[name].shape if name in found else () for name in mapping}
    wrong = _differences({name: weight.shape for name, weight in weights.items()}, shapes)
    if wrong:
        raise ValueError(f"mapping: {'; '.join(wrong)}")
    cast = {name: array.astype(weights[name].dtype) for name, array in found.items()}
    for name, array in cast.items():
        weights[name][...] = array


def _real(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected an array of real numbers, got {type(value).__name__} ({error})") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of real numbers, got {array.dtype}")
    return array


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> list[str]:
    return [
        *check.differences(found, expected),
        *(
            f"{name}: expected shape {shape}, got {found[name]}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ),
    ]


def _checksum(about: str, arrays: dict[str, Array]) -> str:
    crc = zlib.crc32(about.encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False), crc)
    return f"{crc:08x}"
