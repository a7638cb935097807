# What the recurrent families' modules share: an fm_pass filled from arrays, run by the pool.

from time import monotonic

from fastml.threads import team

from libc.string cimport memset

include "job.pxi"

cdef extern from "pass.h":
    ctypedef struct fm_pass:
        fm_call call
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
        intptr_t alone
    ctypedef size_t (*fm_kernel)(fm_pass *, intptr_t, intptr_t) noexcept nogil


# Sequences up to which a single step uses its weights where they are: of more it would transpose them for every panel.
cdef enum:
    SINGLE = 96

# A team that had to give up, a core being taken, rests for so many seconds, from REST[0] on twice as long each time, up to
# REST[1]: finding out costs some 20 ms. The first rest is short, as a core may just have been slow to wake.
REST = 0.02, 1.0
cdef double resting = 0
cdef double rested = 0


cdef class Pass(Job):
    """One pass as a job for the pool."""

    cdef fm_pass c
    cdef fm_kernel kernel
    cdef int rung
    cdef object order, starts

    def __cinit__(self, isa, *arrays):
        memset(&self.c, 0, sizeof(fm_pass))
        self.call = &self.c.call
        self.rung = RUNG[isa]
        self.arrays = arrays

    def work(self, worker, workers):
        cdef intptr_t w = worker, n = workers
        with nogil:
            self.kernel(&self.c, w, n)
        if w == 0:
            self.raised()

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
        scratch = self.take(wanted)
        self.c.scratch = aligned(scratch)
        run(self, most)
        if self.c.alone:
            resting = min(max(2 * resting, REST[0]), REST[1])
            rested = monotonic() + resting
        elif self.c.team:
            resting = 0
        give(scratch)

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
