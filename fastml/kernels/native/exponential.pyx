"""The multiclass exponential loss: unwrap the arrays, pick rung and dtype, release the GIL, call."""

from libc.math cimport INFINITY, exp

include "weights.pxi"

cdef extern from "exponential.h":
    const fm_weights_kernel fm_exponential_exponent[5][2]
    const fm_weights_kernel fm_exponential_sum[5][2]
    const fm_weights_kernel fm_exponential_update[5][2]
    const fm_weights_kernel fm_exponential_gradient[5][2]

cdef enum:
    EXP_WORK = 25  # operations of an exponential


cdef class Exponential(Weights):
    cdef given(self, exponent, sample_weight):
        self.c.exponent, self.c.sample_weight = data(exponent), data(sample_weight)

    cdef add_up(self, most, total, weight, least):
        """The chunks' sums, in their order, the totals brought to the largest exponent of all."""
        cdef double m = -INFINITY, t = 0, w = 0, l = 0
        cdef double *sums
        cdef intptr_t c
        for c in range(self.chunks):
            m = max(m, self.c.sums[c * FM_SUMS])
        for c in range(self.chunks):
            sums = self.c.sums + c * FM_SUMS
            if sums[1] != 0:  # NaN, too
                t += sums[1] * exp(sums[0] - m)
            w += sums[2]
            l = min(l, sums[3])
        most[0], total[0], weight[0], least[0] = m, t, w, l


def exponential_exponent(scores, y, exponent, *, isa):
    cdef Exponential job = Exponential(scores, y, exponent)
    job.c.scores, job.c.y, job.c.scaled = data(scores), <const intptr_t *>data(y), data(exponent)
    job.c.K = scores.shape[1]
    job.execute(&fm_exponential_exponent[0][0], isa, scores.dtype, len(scores), 4.0 * job.c.K)


def exponential_sum(exponent, sample_weight, most, total, weight, least, *, isa):
    cdef Exponential job = Exponential(exponent, sample_weight)
    job.given(exponent, sample_weight)
    job.execute(&fm_exponential_sum[0][0], isa, exponent.dtype, len(exponent), EXP_WORK)
    job.add_up(most, total, weight, least)


def exponential_update(exponent, sample_weight, shift, factor, scaled, *, isa):
    cdef Exponential job = Exponential(exponent, sample_weight, scaled)
    job.given(exponent, sample_weight)
    job.c.shift, job.c.factor, job.c.scaled = shift, factor, data(scaled)
    job.execute(&fm_exponential_update[0][0], isa, exponent.dtype, len(exponent), EXP_WORK)


def exponential_gradient(exponent, sample_weight, y, shift, gradient, hessian, *, isa):
    cdef Exponential job = Exponential(exponent, sample_weight, y, gradient, hessian)
    job.given(exponent, sample_weight)
    job.c.y, job.c.shift = <const intptr_t *>data(y), shift
    job.c.gradient, job.c.hessian = data(gradient), data(hessian)
    job.c.K = (hessian if gradient is None else gradient).shape[1]
    job.execute(&fm_exponential_gradient[0][0], isa, exponent.dtype, len(exponent), EXP_WORK + 4.0 * job.c.K)
