"""Multinomial mixtures: unwrap the arrays, pick rung and dtype, release the GIL, call."""

from fastml.kernels.table import TILE, Rows

include "mixture.pxi"

cdef extern from "multinomial.h":
    const fm_mixture_kernel fm_multinomial_prepare[5][2]
    const fm_mixture_kernel fm_multinomial_walk[5][2]


cdef class Multinomial(Mixture):
    cdef walk(self, X, log_probabilities, constants):
        self.c.K, self.c.D = log_probabilities.shape
        self.c.factors, self.c.constants = data(log_probabilities), data(constants)
        cdef double counts
        if isinstance(X, Rows):
            self.arrays += tuple(X)
            self.c.N, counts = len(X.indptr) - 1, len(X.data)
            self.c.data = data(X.data)
            self.c.indices, self.c.indptr = <const intptr_t *>data(X.indices), <const intptr_t *>data(X.indptr)
        else:
            self.c.N, counts = len(X), X.size
            self.c.X = data(X)
        self.execute(
            &fm_multinomial_prepare[0][0], &fm_multinomial_walk[0][0], constants.dtype, 4 * counts * (self.c.K + 10)
        )


def multinomial_responsibilities(X, log_probabilities, constants, resp, log_likelihood, labels, *, isa):
    cdef Multinomial job = Multinomial(isa, X, log_probabilities, constants, resp, log_likelihood, labels)
    job.posterior(resp, log_likelihood, labels)
    job.walk(X, log_probabilities, constants)


def multinomial_statistics(X, sample_weight, log_probabilities, constants, n, counts, log_likelihood, *, isa):
    cdef Multinomial job = Multinomial(
        isa, X, sample_weight, log_probabilities, constants, n, counts, log_likelihood
    )
    job.c.sample_weight = data(sample_weight)
    job.c.n, job.c.counts, job.c.total = <double *>data(n), <double *>data(counts), <double *>data(log_likelihood)
    job.walk(X, log_probabilities, constants)
