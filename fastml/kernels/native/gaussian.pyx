"""Gaussian mixtures: unwrap the arrays, pick rung and dtype, release the GIL, call."""

from fastml.kernels.table import FACTORS, TILE

include "mixture.pxi"

cdef extern from "gaussian.h":
    const fm_mixture_kernel fm_gaussian_prepare[5][2]
    const fm_mixture_kernel fm_gaussian_walk[5][2]

TYPES = tuple(FACTORS)


cdef class Gaussian(Mixture):
    cdef fill(self, X, means, factors, constants, covariance_type):
        self.c.N, self.c.D = X.shape
        self.c.K = len(means)
        self.c.type = TYPES.index(covariance_type)
        self.c.X, self.c.means, self.c.factors, self.c.constants = data(X), data(means), data(factors), data(constants)

    cdef walk(self, X):
        cdef double each = self.c.D * (self.c.D if self.c.type == 0 else 4) + 30
        self.execute(&fm_gaussian_prepare[0][0], &fm_gaussian_walk[0][0], X.dtype, 2.0 * self.c.N * self.c.K * each)


def gaussian_log_density(X, means, factors, constants, covariance_type, log_density, *, isa):
    cdef Gaussian job = Gaussian(isa, X, means, factors, constants, log_density)
    job.fill(X, means, factors, constants, covariance_type)
    job.c.log_density = data(log_density)
    job.walk(X)


def gaussian_responsibilities(
    X, means, factors, constants, covariance_type, resp, log_likelihood, labels, *, isa
):
    cdef Gaussian job = Gaussian(isa, X, means, factors, constants, resp, log_likelihood, labels)
    job.fill(X, means, factors, constants, covariance_type)
    job.posterior(resp, log_likelihood, labels)
    job.walk(X)


def gaussian_statistics(
    X, sample_weight, means, factors, constants, covariance_type,
    n, first, second, log_likelihood, *, isa,
):
    cdef Gaussian job = Gaussian(
        isa, X, sample_weight, means, factors, constants, n, first, second, log_likelihood
    )
    job.fill(X, means, factors, constants, covariance_type)
    job.c.sample_weight = data(sample_weight)
    job.c.n, job.c.first = <double *>data(n), <double *>data(first)
    job.c.second, job.c.total = <double *>data(second), <double *>data(log_likelihood)
    job.walk(X)
