"""The ISA rungs of this build, and which of them this CPU runs."""

cdef extern from "isa.h":
    int fm_supported(int rung) nogil

NAMES = ("baseline", "avx2", "avx512", "neon", "amx")
RUNG = {name: rung for rung, name in enumerate(NAMES)}


def supported() -> tuple[str, ...]:
    """The rungs that this CPU runs, slowest first; "amx", which asks the system for its registers, last."""
    return tuple(name for rung, name in enumerate(NAMES) if fm_supported(rung))


def fastest() -> str:
    """The rung to use where none is chosen; "amx", which promises less, is only for those who name it."""
    return [name for rung, name in enumerate(NAMES) if name != "amx" and fm_supported(rung)][-1]
