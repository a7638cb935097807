"""How this back end compiles: without the GIL, into Numba's cache where one can be written."""

import hashlib
from functools import partial
from operator import attrgetter
from pathlib import Path

import numba

_files = sorted(Path(__file__).parent.glob("*.py"))
SOURCES = hashlib.sha256(b"".join(file.read_bytes() for file in _files)).hexdigest()


def compiled(function):
    """`numba.njit` for what Python calls; cached beside the source, or user-wide where the install is read-only."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
        # Numba stamps its cache with the function's own file and would miss a change in the files that it calls.
        file = dispatcher._cache._cache_file
        file._source_stamp = SOURCES
        file.save = partial(_save, *attrgetter("_data_name", "_save_data", "_load_index", "_save_index")(file))
    except (RuntimeError, AttributeError, OSError):  # no place to write one; or a Numba that stamps in another way
        return numba.njit(**options)(function)
    return dispatcher


def _save(data_name, save_data, load_index, save_index, key, data):
    """Numba's own numbers its data files, and indexes a number before it writes the file: of two processes that compile
    two signatures at once, one would load the other's code. Here, at worst, an entry is lost and compiled again.
    """
    name = data_name(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little"))
    save_data(name, data)
    save_index(load_index() | {key: name})


def inlined(function):
    """`numba.njit` for what only compiled functions call: part of its callers, so it needs no cache of its own."""
    return numba.njit(forceinline=True, error_model="numpy")(function)


def frozen(array):
    """A view that nothing can write to: compiled functions then have one signature for arrays of either kind."""
    view = array.view()
    view.flags.writeable = False
    return view
