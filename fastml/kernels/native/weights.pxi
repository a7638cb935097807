# What the modules of weights share: an fm_weights filled from arrays, run by the pool.

from fastml.kernels.table import CHUNK

from libc.string cimport memset

include "job.pxi"

cdef extern from "weights.h":
    enum: FM_SUMS
    ctypedef struct fm_weights:
        fm_call call
        intptr_t N, K, rows
        const void *sample_weight
        const void *scores
        const void *exponent
        const intptr_t *y
        const unsigned char *incorrect
        const unsigned char *next_incorrect
        double if_right, if_wrong
        double shift, factor
        void *scaled
        void *gradient
        void *hessian
        const void *weight
        const void *first
        const void *second
        double scale, rate, beta1, beta2, eps
        void *new_weight
        void *new_first
        void *new_second
        double *sums
    ctypedef void (*fm_weights_kernel)(const fm_weights *, intptr_t, intptr_t, double *) noexcept nogil
    void fm_walk_chunks(fm_weights *, fm_weights_kernel, double, intptr_t, intptr_t) noexcept nogil


cdef class Weights(Job):
    """One call as a job for the pool; `c.sums` are those of its chunks, (chunks, FM_SUMS)."""

    cdef fm_weights c
    cdef fm_weights_kernel kernel
    cdef double flops
    cdef intptr_t chunks

    def __cinit__(self, *arrays):
        memset(&self.c, 0, sizeof(fm_weights))
        self.call = &self.c.call
        self.arrays = arrays
        self.c.rows = CHUNK

    def work(self, worker, workers):
        cdef intptr_t w = worker, n = workers
        with nogil:
            fm_walk_chunks(&self.c, self.kernel, self.flops, w, n)
        if w == 0:
            self.raised()

    cdef execute(self, const fm_weights_kernel *kernels, isa, dtype, intptr_t N, double flops):
        """Run the kernel of `kernels` (rungs × dtypes) over N rows of so many operations each.

        Waking a worker costs about 20 µs: below about 1 MFLOP the calling thread does better alone.
        """
        self.c.N, self.flops = N, flops
        self.chunks = (N + self.c.rows - 1) // self.c.rows
        self.kernel = kernels[2 * RUNG[isa] + (dtype.itemsize == 8)]
        sums = np.empty(self.chunks * FM_SUMS)
        self.arrays += (sums,)
        self.c.sums = <double *>data(sums)
        self.ask()
        run(self, max(1, min(get_num_threads(), self.chunks)) if flops * N > 1e6 else 1)
