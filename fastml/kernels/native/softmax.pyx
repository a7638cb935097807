"""Softmax with cross-entropy: unwrap the arrays, pick rung and dtype, release the GIL, call."""

from libc.string cimport memset

include "job.pxi"

cdef extern from "softmax.h":
    ctypedef struct fm_softmax:
        fm_call call
        intptr_t N, classes, H
        const intptr_t *target
        const intptr_t *rows
        double scale
        const void *logits
        const void *x
        const void *weight
        const void *bias
        void *loss
        void *dlogits
        void *dx
        void *dweight
        void *dbias
        char *scratch
    ctypedef size_t (*fm_softmax_kernel)(fm_softmax *, intptr_t, intptr_t) noexcept nogil
    const fm_softmax_kernel fm_softmax_cross_entropy[5][2]
    const fm_softmax_kernel fm_softmax_linear[5][2]

# Floating-point operations that repay waking another thread, some 100 µs of one. softmax_linear at (200,64,32), 2.5e6, took
# 35 µs alone, and 280 by two workers that met on cores which others wanted.
THREAD_WORK = 1e7


cdef class Softmax(Job):
    """One call as a job for the pool."""

    cdef fm_softmax c
    cdef fm_softmax_kernel kernel

    def __cinit__(self, target, double scale, loss, *arrays):
        memset(&self.c, 0, sizeof(fm_softmax))
        self.call = &self.c.call
        self.arrays = (target, loss, *arrays)
        self.c.target, self.c.loss, self.c.scale = <const intptr_t *>data(target), data(loss), scale

    def work(self, worker, workers):
        cdef intptr_t w = worker, n = workers
        with nogil:
            self.kernel(&self.c, w, n)
        if w == 0:
            self.raised()

    cdef execute(self, const fm_softmax_kernel *table, isa, dtype, double flops):
        """Run the kernel of `table` (rungs × dtypes)."""
        self.kernel = table[2 * RUNG[isa] + (dtype.itemsize == 8)]
        self.ask()
        cdef intptr_t most = get_num_threads() if flops > THREAD_WORK else 1
        scratch = self.take(self.kernel(&self.c, 0, most))
        self.c.scratch = aligned(scratch)
        run(self, most)
        give(scratch)


def softmax_cross_entropy(logits, target, scale, loss, dlogits, *, isa):
    cdef Softmax job = Softmax(target, scale, loss, logits, dlogits)
    job.c.N, job.c.classes = logits.shape
    job.c.logits, job.c.dlogits = data(logits), data(dlogits)
    job.execute(&fm_softmax_cross_entropy[0][0], isa, logits.dtype, 20.0 * logits.size)


def softmax_linear(x, weight, bias, target, scale, loss, dx, dweight, dbias, *, isa):
    rows = np.flatnonzero(target >= 0)
    gradients = [] if dx is None else [dx, dweight, dbias]
    cdef Softmax job = Softmax(target, scale, loss, x, weight, bias, rows, *gradients)
    job.c.N, job.c.rows = len(rows), <const intptr_t *>data(rows)
    job.c.classes, job.c.H = weight.shape
    job.c.x, job.c.weight, job.c.bias = data(x), data(weight), data(bias)
    job.c.dx, job.c.dweight, job.c.dbias = data(dx), data(dweight), data(dbias)
    job.execute(&fm_softmax_linear[0][0], isa, x.dtype, (6.0 if gradients else 2.0) * len(rows) * weight.size)
    if len(rows) < len(target):
        for of_rows in (loss, dx) if gradients else (loss,):
            of_rows[target < 0] = 0
    if gradients and not len(rows):
        dweight.fill(0)
        dbias.fill(0)
