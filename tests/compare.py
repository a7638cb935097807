"""The one comparison of this suite. `test_teeth.py` shows that it rejects damaged answers."""

import numpy as np


def error(got, want):
    """The largest difference, relative to the largest magnitude in `want`.

    Infinite where NaN or an infinity stands in one and not in the other, and where all of `want` is 0 and `got` is not.
    """
    got, want = np.asarray(got, "float64"), np.asarray(want, "float64")
    finite = np.isfinite(want)
    if not np.isfinite(got[finite]).all() or not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return np.inf
    difference = np.abs(got[finite] - want[finite]).max(initial=0.0)
    scale = np.abs(want[finite]).max(initial=0.0)
    return difference / scale if scale else np.inf if difference else 0.0


def close(got, want, *, tolerance, dtype, name="", own=None):
    """Assert that `got` is `want` to within `tolerance` (see `error`), with its shape, and of `dtype`.

    `own`, called only on failure, gives the reference's own error in that dtype, which then stands beside ours.
    """
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == dtype, f"{name}: {got.dtype}, not {dtype}"
    assert got.shape == want.shape, f"{name}: shape {got.shape}, not {want.shape}"
    found = error(got, want)
    if not found <= tolerance:
        beside = f"; the reference's own error is {own():.2e}" if own else ""
        raise AssertionError(f"{name}: error {found:.2e}, tolerance {tolerance:.0e}{beside}\ngot {got}\nwant {want}")
