"""Discrete boosting: a row's weight is multiplied by one of two numbers.

1  right = Σ w of the rows that were classified rightly,   wrong = Σ w of the others,   least = min(0, min w)
2  w ← w if_right, or w if_wrong
3  1 of the new weights under next_incorrect
"""

import numpy as np


@np.errstate(over="ignore", invalid="ignore")  # sums of weights that are too large, or infinite
def samme_error(sample_weight, incorrect, right, wrong, least):
    missed = incorrect != 0
    right[0] = sample_weight[~missed].sum(dtype="float64")  # 1
    wrong[0] = sample_weight[missed].sum(dtype="float64")
    least[0] = sample_weight.min(initial=0)


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def samme_update(sample_weight, incorrect, if_right, if_wrong, next_incorrect, scaled, right, wrong, least):
    multipliers = np.array([if_right, if_wrong]).astype(scaled.dtype)
    np.multiply(sample_weight, multipliers[(incorrect != 0).view("uint8")], out=scaled)  # 2
    if next_incorrect is not None:
        samme_error(scaled, next_incorrect, right, wrong, least)  # 3
