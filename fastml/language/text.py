"""Text from files and folders, as bytes."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["PATTERNS", "find_files", "read_bytes", "read_text"]

PATTERNS = ("*.txt", "*.md", "*.py", "*.rst")


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def find_files(paths: Paths, patterns: Sequence[str] = PATTERNS) -> list[Path]:
    """The files of a list of files and folders, in its order.

    Parameters
    ----------
    paths : path-like, or iterable of them
        A file stands for itself, whatever its name; a folder for all files in it and in its folders that match one of
        the patterns, sorted by path; but for those in hidden ones (.git, .venv).
    patterns : sequence of str
        Of file names, as pathlib has them.

    Returns
    -------
    list of Path
        Each once.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    ValueError
        A path is empty, or a folder holds no file that matches.

    Examples
    --------
    >>> import fastml
    >>> from fastml.language.text import find_files
    >>> [path.name for path in find_files(fastml.language.__path__, ["t*.py"])]
    ['text.py', 'training.py']
    """
    found: dict[Path, None] = {}
    for given in _each(paths):
        if not os.fspath(given):
            raise ValueError("path: expected a file or a folder, got ''")
        path = Path(given)
        if not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"path: there is no {path}")
            found[path] = None
            continue
        inside = sorted({file for p in patterns for file in path.rglob(p) if _is_seen(file, path) and file.is_file()})
        if not inside:
            raise ValueError(f"path: expected files that match {' or '.join(patterns)}, {path} holds none")
        found |= dict.fromkeys(inside)
    return list(found)


def _each(paths: Paths) -> list[str | os.PathLike[str]]:
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def _is_seen(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts[:-1])


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a text file.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no text: it has NUL bytes.

    Examples
    --------
    >>> import fastml
    >>> from fastml.language.text import read_bytes
    >>> read_bytes(fastml.version.__file__)[:11]
    b'__version__'
    """
    data = Path(path).read_bytes()
    at = data.find(0)
    if at >= 0:
        raise ValueError(f"path: expected text, {path} is binary (a NUL byte at {at}): leave it out, or convert it")
    return data


def read_text(paths: Paths, patterns: Sequence[str] = PATTERNS) -> NDArray[np.uint8]:
    """The bytes of all files of `find_files`, one after another.

    Parameters
    ----------
    paths, patterns : see `find_files`

    Returns
    -------
    array of shape (N,), uint8

    Raises
    ------
    OSError, ValueError
        As in `find_files` and `read_bytes`; or there is not a byte.

    Examples
    --------
    >>> import fastml
    >>> from fastml.language import read_text
    >>> bytes(read_text(fastml.language.__path__, ["text.py"])[:18])
    b'\"\"\"Text from files'
    """
    paths = _each(paths)
    data = b"".join(read_bytes(path) for path in find_files(paths, patterns))
    if not data:
        raise ValueError(f"path: expected text, got not a byte in {', '.join(map(str, paths))}")
    return np.frombuffer(data, np.uint8)
