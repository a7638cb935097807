"""Adam: steps in proportion to the mean of a gradient over the root of the mean of its square.

1  g = scale gradient
2  m ← β₁ m + (1 - β₁) g
3  v ← β₂ v + (1 - β₂) g²
4  w ← w - rate m / (√v + eps)      with r = √(1 - β₂ᵗ), rate = r α / (1 - β₁ᵗ), eps = r ε in step t
"""

import numpy as np


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def adam_squares(gradient, total):
    total[0] = np.square(gradient, dtype="float64").sum()


@np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
def adam_update(weight, gradient, first, second, scale, rate, beta1, beta2, eps, new_weight, new_first, new_second):
    number = weight.dtype.type
    g = number(scale) * gradient  # 1
    new_first[:] = number(beta1) * first + number(1 - beta1) * g  # 2
    new_second[:] = number(beta2) * second + number(1 - beta2) * g * g  # 3
    new_weight[:] = weight - number(rate) * new_first / (np.sqrt(new_second) + number(eps))  # 4
