"""The softmax of rows of logits, and what it costs to be told the right class.

1  l = x Wᵀ + b
2  p = exp(l - max l) / Σ exp(l - max l)
3  loss = max l + ln Σ exp(l - max l) - l[target]
4  dl = scale (p - onehot(target))
5  dx = dl W,   dW = dlᵀ x,   db = Σ dl

A row whose target is -1 does not count: its loss and its gradients are 0, and what it holds is never read.
"""

import numpy as np


@np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
def softmax_cross_entropy(logits, target, scale, loss, dlogits):
    counts = target >= 0
    rows, chosen = logits[counts], target[counts]
    most = rows.max(axis=1, keepdims=True)
    p = np.exp(rows - most)
    total = p.sum(axis=1, keepdims=True)
    right = np.arange(len(rows)), chosen
    loss[:] = 0
    loss[counts] = np.log(total[:, 0]) - (rows - most)[right]  # 3
    if dlogits is not None:
        p /= total  # 2
        p[right] -= 1
        dlogits[:] = 0
        dlogits[counts] = p * p.dtype.type(scale)  # 4


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def softmax_linear(x, weight, bias, target, scale, loss, dx, dweight, dbias):
    counts = target >= 0
    rows, chosen = x[counts], target[counts]
    logits = rows @ weight.T + bias  # 1
    dlogits = None if dx is None else np.empty_like(logits)
    losses = np.empty(len(rows), logits.dtype)
    softmax_cross_entropy(logits, chosen, scale, losses, dlogits)  # 2 to 4
    loss[:] = 0
    loss[counts] = losses
    if dx is not None:
        dx[:] = 0
        dx[counts] = dlogits @ weight  # 5
        dweight[:] = dlogits.T @ rows
        dbias[:] = dlogits.sum(axis=0)
