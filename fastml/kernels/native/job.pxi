# What every family's module shares: a call as a job for the pool. Included, not imported, so that each module stands alone
# and nothing but the C headers is shared between them.

from threading import main_thread

import numpy as np

from fastml.kernels.native.isa import RUNG
from fastml.threads import get_num_threads, run

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport intptr_t, uintptr_t

cdef extern from "call.h":
    ctypedef struct fm_call:
        int (*poll)(void *) noexcept nogil
        void *poller
    void fm_stop(fm_call *) nogil


# The scratch of the last call, for the next: fresh memory costs a page fault for every 4 KiB, a tenth of a short call.
spare = []
cdef enum:
    KEPT = 8 << 20
    ALIGNMENT = 64


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
        (<Job>job).error = error
        return 1
    return 0


cdef class Job:
    """One call as a job for the pool (fastml.threads.Job): `work` is the family's own."""

    cdef fm_call *call
    cdef object error
    cdef tuple arrays  # the job owns what its pointers point to, should a call be left while a worker still runs

    def stop(self):
        fm_stop(self.call)

    cdef ask(self):
        """About Ctrl-C, which Python tells its main thread alone."""
        if PyThread_get_thread_ident() == <unsigned long>main_thread().ident:
            self.call.poll, self.call.poller = poll, <void *>self

    cdef int raised(self) except -1:
        """The exception that `poll` met."""
        if self.error is not None:
            error, self.error = self.error, None  # or error, traceback and job keep each other
            raise error
        return 0

    cdef take(self, size_t wanted):
        """An array that holds `wanted` bytes from its first aligned one on; `give` it back for the next call."""
        scratch = spare.pop() if spare else np.empty(0, np.uint8)
        if len(scratch) < wanted + ALIGNMENT:
            scratch = None  # or both live for a moment
            scratch = np.empty(wanted + ALIGNMENT, np.uint8)
        self.arrays += (scratch,)
        return scratch


cdef give(scratch):
    if len(scratch) <= KEPT and not spare:
        spare.append(scratch)
