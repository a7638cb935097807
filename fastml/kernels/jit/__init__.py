"""Numba: compiled for this CPU on first use and cached; needs no C compiler."""
