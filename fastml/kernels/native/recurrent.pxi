# What the three families' modules share: an fm_pass filled from arrays, run by the pool. Included, not imported, so that
# each module stands alone and nothing but the C headers is shared between them.

from threading import get_ident, main_thread
from time import monotonic

import numpy as np

from fastml.kernels.native.isa import NAMES
from fastml.threads import get_num_threads, run, team

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport intptr_t, uintptr_t
from libc.string cimport memset

cdef extern from "pass.h":
    ctypedef struct fm_pass:
        intptr_t T, B, I, H
        const intptr_t *lengths
        const intptr_t *order
        int reverse, option, single, team
        const intptr_t *starts
        const intptr_t *ids
        const void *x
        const void *h0
        const void *c0
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh
        void *y
        void *h_n
        void *c_n
        void *gates
        void *cells
        const void *dy
        const void *dh_n
        const void *dc_n
        void *dx
        void *dh0
        void *dc0
        void *dw_ih
        void *dw_hh
        void *db_ih
        void *db_hh
        char *packed
        char *scratch
        int (*poll)(void *) noexcept nogil
        void *poller
        int stop
        intptr_t alone
    ctypedef size_t (*fm_kernel)(fm_pass *, intptr_t, intptr_t) noexcept nogil
    void fm_stop(fm_pass *) nogil


# The scratch of the last pass, for the next: fresh memory costs a page fault for every 4 KiB, a tenth of a short pass.
spare = []
KEPT = 8 << 20
cdef enum:
    ALIGNMENT = 64

# Sequences up to which a single step uses its weights where they are: of more it would transpose them for every panel.
cdef enum:
    SINGLE = 96

# A team that had to give up, a core being taken, rests for so many seconds, from REST[0] on twice as long each time, up to
# REST[1]: finding out costs some 20 ms. The first rest is short, as a core may just have been slow to wake.
REST = 0.02, 1.0
cdef double resting = 0
cdef double rested = 0


cdef void *data(object array) except? NULL:
    """Where the numbers of a C-contiguous array are; NULL for None. The caller keeps the array alive."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef void *found = view.buf
    PyBuffer_Release(&view)
    return found


cdef char *aligned(object array) except? NULL:
    return <char *>((<uintptr_t>data(array) + ALIGNMENT - 1) & ~<uintptr_t>(ALIGNMENT - 1))


cdef int poll(void *job) noexcept with gil:
    """Ctrl-C, asked for by the worker on the calling thread; the exception is raised when all workers have ended."""
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<Pass>job).error = error
        return 1
    return 0


cdef class Pass:
    """One pass as a job for the pool (fastml.threads.Job)."""

    cdef fm_pass c
    cdef fm_kernel kernel
    cdef int rung
    cdef object order, starts, error
    cdef tuple arrays  # the job owns what its pointers point to, should a call be left while a worker still runs

    def __cinit__(self, isa, *arrays):
        memset(&self.c, 0, sizeof(fm_pass))
        self.rung = NAMES.index(isa)
        self.arrays = arrays

    def work(self, worker, workers):
        cdef intptr_t w = worker, n = workers
        with nogil:
            self.kernel(&self.c, w, n)
        if w == 0 and self.error is not None:
            error, self.error = self.error, None  # or error, traceback and job keep each other
            raise error

    def stop(self):
        fm_stop(&self.c)

    cdef fill(self, x, h0, w_ih, w_hh, lengths, bint reverse, int option):
        """The arguments that all passes have."""
        self.c.T, self.c.B = x.shape[:2]
        self.c.I, self.c.H = w_ih.shape[1], w_hh.shape[1]
        ragged = len(lengths) > 1 and (lengths != lengths[0]).any()
        self.order = np.argsort(-lengths, kind="stable") if ragged else np.arange(len(lengths))
        if ragged:
            running = len(lengths) - np.cumsum(np.bincount(lengths, minlength=self.c.T + 1)[: self.c.T])
            self.starts = np.cumsum(running) - running
            self.c.starts = <const intptr_t *>data(self.starts)
        self.c.lengths = <const intptr_t *>data(lengths)
        self.c.order = <const intptr_t *>data(self.order)
        self.c.reverse, self.c.option = reverse, option
        if x.ndim == 2:
            self.c.ids = <const intptr_t *>data(x)
        else:
            self.c.x = data(x)
        self.c.h0, self.c.w_ih, self.c.w_hh = data(h0), data(w_ih), data(w_hh)

    cdef ask(self):
        """About Ctrl-C, which Python tells its main thread alone."""
        if get_ident() == main_thread().ident:
            self.c.poll, self.c.poller = poll, <void *>self

    cdef execute(self, const fm_kernel *table, w_ih, w_hh, bint forward, packed=None):
        """Run the kernel of `table` (rungs × dtypes) on as many workers as there are sequences to share out, or as a
        team that shares out the hidden units.

        Waking a worker costs about 20 µs: below about 2 MFLOP the calling thread does better alone.
        """
        self.kernel = table[2 * self.rung + (w_hh.dtype.itemsize == 8)]
        self.ask()
        if packed is not None:
            self.c.packed = aligned(packed)
            self.arrays += (packed,)
        flops = 2.0 * self.c.T * self.c.B * (w_ih.size + w_hh.size)
        # the count is read once: another thread may change it, and the scratch is for so many workers at most
        cdef intptr_t most = get_num_threads() if flops > 2e6 else 1
        cdef intptr_t members = team(self.c.H, w_hh.nbytes, most)
        global rested, resting
        self.c.single = forward and packed is None and self.c.T == 1 and self.c.B <= SINGLE
        self.c.team = self.c.single or (self.c.B < members and monotonic() > rested)
        most = max(1, members if self.c.team else min(self.c.B, most))
        cdef size_t wanted = self.kernel(&self.c, 0, most)
        scratch = spare.pop() if spare else np.empty(0, np.uint8)
        if scratch.size < wanted + ALIGNMENT:
            scratch = None  # or both live for a moment
            scratch = np.empty(wanted + ALIGNMENT, np.uint8)
        self.c.scratch = aligned(scratch)
        self.arrays += (scratch,)
        run(self, most)
        if self.c.alone:
            resting = min(max(2 * resting, REST[0]), REST[1])
            rested = monotonic() + resting
        elif self.c.team:
            resting = 0
        if scratch.size <= KEPT and not spare:
            spare.append(scratch)

    cdef stream(self, const fm_kernel *table, w_hh, packed):
        """Make this the pass of one step that may be called again and again, on arrays that stay where they are."""
        self.kernel = table[2 * self.rung + (w_hh.dtype.itemsize == 8)]
        self.c.packed = aligned(packed)
        scratch = np.empty(self.kernel(&self.c, 0, 1) + ALIGNMENT, np.uint8)
        self.c.scratch = aligned(scratch)
        self.arrays += (packed, scratch)
        return self

    def __call__(self):
        """Run on the calling thread, without asking about Ctrl-C: one step ends soon. Allocates nothing."""
        with nogil:
            self.kernel(&self.c, 0, 1)

    cdef pack(self, const fm_kernel *table, w_ih, w_hh, b_ih, b_hh, int option):
        """The forward's weights as `execute` takes them; the layout is known to their own rung and dtype alone."""
        self.kernel = table[2 * self.rung + (w_ih.dtype.itemsize == 8)]
        self.ask()
        self.c.I, self.c.H, self.c.option = w_ih.shape[1], w_hh.shape[1], option
        self.c.w_ih, self.c.w_hh, self.c.b_ih, self.c.b_hh = data(w_ih), data(w_hh), data(b_ih), data(b_hh)
        packed = np.empty(self.kernel(&self.c, 0, 1) + ALIGNMENT, np.uint8)
        self.c.scratch = aligned(packed)
        run(self, get_num_threads() if w_ih.size + w_hh.size > 1 << 20 else 1)
        return packed
