"""Trees: unwrap the arrays, pick rung and dtype, release the GIL, call."""

from fastml.kernels.table import CRITERIA

from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset

include "job.pxi"

cdef extern from "tree.h":
    ctypedef struct fm_tree:
        fm_call call
        intptr_t N, D, K, E, P, M
        int criterion
        void *values
        int32_t *order
        int32_t *rank
        int32_t *starts
        uint8_t *codes
        intptr_t *bins
        const void *X
        const intptr_t *rows
        const intptr_t *classes
        const double *weight
        const double *target
        const int32_t *chosen
        intptr_t many
        intptr_t *feature
        intptr_t *count
        double *threshold
        double *value
        uint8_t *missing_left
        uint8_t *leaf
        uint8_t *incorrect
        const intptr_t *column
        const double *leaf_value
        double *scores
        intptr_t *labels
        const intptr_t *place
        const double *sorted
        const double *heavy
        double q
        double *quantile
        char *scratch
    ctypedef size_t (*fm_tree_kernel)(fm_tree *, intptr_t, intptr_t) noexcept nogil
    const fm_tree_kernel fm_tree_encode[5][2]
    const fm_tree_kernel fm_tree_grow[5][2]
    const fm_tree_kernel fm_tree_traverse[5][2]


cdef double EACH = 0.05  # a row that one node is asked for, in rows and features of a tree that grows: 0.2 ns and 4


cdef class Tree(Job):
    """One call as a job for the pool."""

    cdef fm_tree c
    cdef fm_tree_kernel kernel

    def __cinit__(self, *arrays):
        memset(&self.c, 0, sizeof(fm_tree))
        self.call = &self.c.call
        self.arrays = arrays

    def work(self, worker, workers):
        cdef intptr_t w = worker, n = workers
        with nogil:
            self.kernel(&self.c, w, n)
        if w == 0:
            self.raised()

    cdef coded(self, arrays):
        values, order, rank, codes, starts, bins = arrays
        self.c.D, self.c.N = values.shape
        self.c.values = data(values)
        self.c.order, self.c.rank, self.c.starts = <int32_t *>data(order), <int32_t *>data(rank), <int32_t *>data(starts)
        self.c.codes, self.c.bins = <uint8_t *>data(codes), <intptr_t *>data(bins)

    cdef forest(self, X, feature, threshold, missing_left):
        self.c.N, self.c.D = X.shape
        self.c.E, self.c.P = feature.shape
        self.c.X = data(X)
        self.c.feature, self.c.threshold = <intptr_t *>data(feature), <double *>data(threshold)
        self.c.missing_left = <uint8_t *>data(missing_left)

    cdef execute(self, const fm_tree_kernel *kernels, isa, dtype, most, double work):
        """On up to `most` workers. Waking one costs about 20 µs: small problems stay on the calling thread."""
        self.kernel = kernels[2 * RUNG[isa] + (dtype.itemsize == 8)]
        cdef intptr_t workers = max(1, min(get_num_threads(), most)) if work > 2e5 else 1
        self.ask()
        scratch = self.take(self.kernel(&self.c, 0, workers))
        self.c.scratch = aligned(scratch)
        run(self, workers)
        give(scratch)


def tree_encode(X, rows, values, order, rank, codes, starts, bins, *, isa):
    cdef Tree job = Tree(X, rows, values, order, rank, codes, starts, bins)
    job.coded((values, order, rank, codes, starts, bins))
    job.c.X, job.c.rows = data(X), <const intptr_t *>data(rows)
    job.execute(&fm_tree_encode[0][0], isa, X.dtype, X.shape[1], 20.0 * X.size)


def tree_grow(
    codes, classes, sample_weight, target, rows, criterion,
    feature, threshold, missing_left, value, count, leaf, incorrect, *, isa,
):
    cdef Tree job = Tree(
        *codes, classes, sample_weight, target, rows, feature, threshold, missing_left, value, count, leaf, incorrect
    )
    job.coded(codes)
    job.c.K = 1 if classes is None else len(classes) - 1
    job.c.P = len(feature)
    job.c.criterion = CRITERIA.index(criterion)
    job.c.classes = <const intptr_t *>data(classes)
    job.c.weight, job.c.target = <const double *>data(sample_weight), <const double *>data(target)
    job.c.chosen, job.c.many = <const int32_t *>data(rows), 0 if rows is None else len(rows)
    job.c.feature, job.c.threshold = <intptr_t *>data(feature), <double *>data(threshold)
    job.c.missing_left, job.c.value = <uint8_t *>data(missing_left), <double *>data(value)
    job.c.count, job.c.leaf, job.c.incorrect = <intptr_t *>data(count), <uint8_t *>data(leaf), <uint8_t *>data(incorrect)
    job.execute(&fm_tree_grow[0][0], isa, codes.values.dtype, job.c.D, 1.0 * job.c.N * job.c.D)


def tree_apply(X, feature, threshold, missing_left, leaf, *, isa):
    cdef Tree job = Tree(X, feature, threshold, missing_left, leaf)
    job.forest(X, feature, threshold, missing_left)
    job.c.leaf = <uint8_t *>data(leaf)
    job.execute(&fm_tree_traverse[0][0], isa, X.dtype, 1 + job.c.N // 256, EACH * job.c.N * feature.size)


def tree_scores(X, feature, threshold, missing_left, column, leaf_value, scores, labels, *, isa):
    cdef Tree job = Tree(X, feature, threshold, missing_left, column, leaf_value, scores, labels)
    job.forest(X, feature, threshold, missing_left)
    job.c.column, job.c.leaf_value = <const intptr_t *>data(column), <const double *>data(leaf_value)
    job.c.scores, job.c.M, job.c.labels = <double *>data(scores), scores.shape[1], <intptr_t *>data(labels)
    job.execute(&fm_tree_traverse[0][0], isa, X.dtype, 1 + job.c.N // 256, EACH * job.c.N * feature.size)


def tree_quantile(X, feature, threshold, missing_left, place, value, weight, q, quantile, *, isa):
    cdef Tree job = Tree(X, feature, threshold, missing_left, place, value, weight, quantile)
    job.forest(X, feature, threshold, missing_left)
    job.c.place, job.c.q, job.c.quantile = <const intptr_t *>data(place), q, <double *>data(quantile)
    job.c.sorted, job.c.heavy = <const double *>data(value), <const double *>data(weight)
    job.execute(&fm_tree_traverse[0][0], isa, X.dtype, 1 + job.c.N // 256, EACH * job.c.N * feature.size)
