"""The ISA rungs of this build, and which of them this CPU runs."""

cdef extern from "isa.h":
    int fm_supported(int rung) nogil

NAMES = ("baseline", "avx2", "avx512", "neon")


def supported() -> tuple[str, ...]:
    """The rungs that this CPU runs, slowest first."""
    return tuple(name for rung, name in enumerate(NAMES) if fm_supported(rung))
