"""Discrete boosting, a chunk of rows at a time; the steps are numbered as in the reference.

1  right = Σ w of the rows that were classified rightly,   wrong = Σ w of the others,   least = min(0, min w)
2  w ← w if_right, or w if_wrong
3  1 of the new weights under next_incorrect
"""

import numpy as np

from .compiling import compiled, inlined
from .simd import flush_denormals, restore_denormals
from .weights import chunks

LANES = 16  # of a chunk's sums: rows i, i + LANES, i + 2 LANES, … are added in one chain
WORK = 4.0  # operations of a row


def samme_error(sample_weight, incorrect, right, wrong, least):
    sums = chunks(len(sample_weight), WORK, lambda start, end, to: _error(sample_weight, incorrect, start, end, to))
    _add_up(sums, right, wrong, least)


def samme_update(sample_weight, incorrect, if_right, if_wrong, next_incorrect, scaled, right, wrong, least):
    if_right, if_wrong = np.array([if_right, if_wrong]).astype(scaled.dtype)
    after = np.zeros(0, np.uint8) if next_incorrect is None else next_incorrect

    def piece(start, end, to):
        _update(sample_weight, incorrect, if_right, if_wrong, after, scaled, start, end, to)

    sums = chunks(len(sample_weight), WORK, piece)
    if next_incorrect is not None:
        _add_up(sums, right, wrong, least)


def _add_up(sums, right, wrong, least):
    right[0], wrong[0], least[0] = 0, 0, 0
    for r, w, l in sums[:, :3].tolist():
        right[0] += r
        wrong[0] += w
        least[0] = min(least[0], l)


# ---------------------------------------------------------------------------------------------------------- compiled


@inlined
def _count(weights, missed, start, end, sums):
    right, wrong, least = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    for i in range(start, end, LANES):
        for l in range(min(LANES, end - i)):
            w, lost = np.float64(weights[i + l]), missed[i + l] != 0
            right[l] += 0.0 if lost else w  # 1
            wrong[l] += w if lost else 0.0
            least[l] = w if w < least[l] else least[l]
    sums[0], sums[1], sums[2] = 0, 0, 0
    for l in range(LANES):
        sums[0] += right[l]
        sums[1] += wrong[l]
        sums[2] = min(sums[2], least[l])


@compiled
def _error(sample_weight, incorrect, start, end, sums):
    control = flush_denormals()
    _count(sample_weight, incorrect, start, end, sums)
    restore_denormals(control)


@compiled
def _update(sample_weight, incorrect, if_right, if_wrong, after, scaled, start, end, sums):
    control = flush_denormals()
    for i in range(start, end):
        scaled[i] = sample_weight[i] * (if_wrong if incorrect[i] != 0 else if_right)  # 2
    if len(after):
        _count(scaled, after, start, end, sums)  # 3
    restore_denormals(control)
