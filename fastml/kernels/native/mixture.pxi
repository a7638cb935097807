# What the mixtures' modules share: an fm_mixture filled from arrays, run by the pool.

from libc.string cimport memset

include "job.pxi"

cdef extern from "mixture.h":
    ctypedef struct fm_mixture:
        fm_call call
        intptr_t N, D, K, rows
        int type
        const void *X
        const void *sample_weight
        const void *means
        const void *factors
        const void *constants
        const void *data
        const intptr_t *indices
        const intptr_t *indptr
        double *counts
        void *log_density
        void *resp
        void *log_likelihood
        intptr_t *labels
        double *n
        double *first
        double *second
        double *total
        char *packed
        char *scratch
    ctypedef size_t (*fm_mixture_kernel)(fm_mixture *, intptr_t, intptr_t) noexcept nogil


cdef class Mixture(Job):
    """One call as a job for the pool."""

    cdef fm_mixture c
    cdef fm_mixture_kernel kernel
    cdef int rung

    def __cinit__(self, isa, *arrays):
        memset(&self.c, 0, sizeof(fm_mixture))
        self.call = &self.c.call
        self.rung = RUNG[isa]
        self.arrays = arrays
        self.c.rows = TILE

    def work(self, worker, workers):
        cdef intptr_t w = worker, n = workers
        with nogil:
            self.kernel(&self.c, w, n)
        if w == 0:
            self.raised()

    cdef posterior(self, resp, log_likelihood, labels):
        self.c.resp, self.c.log_likelihood = data(resp), data(log_likelihood)
        self.c.labels = <intptr_t *>data(labels)

    cdef execute(self, const fm_mixture_kernel *prepare, const fm_mixture_kernel *walk, dtype, double flops):
        """Run the kernel of `walk` (rungs × dtypes) on as many workers as there are tiles to share out, after that of
        `prepare` on this thread.

        Waking a worker costs about 20 µs: below about 2 MFLOP the calling thread does better alone.
        """
        cdef int at = 2 * self.rung + (dtype.itemsize == 8)
        cdef intptr_t tiles = (self.c.N + self.c.rows - 1) // self.c.rows
        cdef intptr_t most = max(1, min(get_num_threads(), tiles)) if flops > 2e6 else 1
        self.ask()
        packed = np.empty(prepare[at](&self.c, 0, most) + ALIGNMENT, np.uint8)
        self.c.packed = aligned(packed)
        prepare[at](&self.c, 0, most)
        self.arrays += (packed,)
        self.kernel = walk[at]
        scratch = self.take(self.kernel(&self.c, 0, most))
        self.c.scratch = aligned(scratch)
        run(self, most)
        give(scratch)
