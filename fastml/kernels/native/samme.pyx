"""Discrete boosting: unwrap the arrays, pick rung and dtype, release the GIL, call."""

include "weights.pxi"

cdef extern from "samme.h":
    const fm_weights_kernel fm_samme_error[5][2]
    const fm_weights_kernel fm_samme_update[5][2]


cdef class Samme(Weights):
    cdef add_up(self, right, wrong, least):
        """The chunks' sums, in their order."""
        cdef double r = 0, w = 0, l = 0
        cdef double *sums
        cdef intptr_t c
        for c in range(self.chunks):
            sums = self.c.sums + c * FM_SUMS
            r += sums[0]
            w += sums[1]
            l = min(l, sums[2])
        right[0], wrong[0], least[0] = r, w, l


def samme_error(sample_weight, incorrect, right, wrong, least, *, isa):
    cdef Samme job = Samme(sample_weight, incorrect)
    job.c.sample_weight, job.c.incorrect = data(sample_weight), <const unsigned char *>data(incorrect)
    job.execute(&fm_samme_error[0][0], isa, sample_weight.dtype, len(sample_weight), 4)
    job.add_up(right, wrong, least)


def samme_update(
    sample_weight, incorrect, if_right, if_wrong, next_incorrect, scaled, right, wrong, least, *, isa
):
    cdef Samme job = Samme(sample_weight, incorrect, next_incorrect, scaled)
    job.c.sample_weight, job.c.incorrect = data(sample_weight), <const unsigned char *>data(incorrect)
    job.c.next_incorrect, job.c.scaled = <const unsigned char *>data(next_incorrect), data(scaled)
    job.c.if_right, job.c.if_wrong = if_right, if_wrong
    job.execute(&fm_samme_update[0][0], isa, sample_weight.dtype, len(sample_weight), 4)
    if next_incorrect is not None:
        job.add_up(right, wrong, least)
