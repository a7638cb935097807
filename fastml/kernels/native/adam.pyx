"""Adam: unwrap the arrays, pick rung and dtype, release the GIL, call."""

include "weights.pxi"

cdef extern from "adam.h":
    const fm_weights_kernel fm_adam_squares[5][2]
    const fm_weights_kernel fm_adam_update[5][2]


def adam_squares(gradient, total, *, isa):
    cdef Weights job = Weights(gradient)
    cdef double sum = 0
    cdef intptr_t c
    job.c.gradient = data(gradient)
    job.execute(&fm_adam_squares[0][0], isa, gradient.dtype, len(gradient), 2)
    for c in range(job.chunks):  # in their order
        sum += job.c.sums[c * FM_SUMS]
    total[0] = sum


def adam_update(
    weight, gradient, first, second, scale, rate, beta1, beta2, eps, new_weight, new_first, new_second, *, isa
):
    cdef Weights job = Weights(weight, gradient, first, second, new_weight, new_first, new_second)
    job.c.weight, job.c.gradient, job.c.first, job.c.second = data(weight), data(gradient), data(first), data(second)
    job.c.new_weight, job.c.new_first, job.c.new_second = data(new_weight), data(new_first), data(new_second)
    job.c.scale, job.c.rate, job.c.beta1, job.c.beta2, job.c.eps = scale, rate, beta1, beta2, eps
    job.execute(&fm_adam_update[0][0], isa, weight.dtype, len(weight), 14)
