/* One call of a kernel of weights, as every rung sees it, and how its rows are shared out. No vectors in here. */
#ifndef FM_WEIGHTS_H
#define FM_WEIGHTS_H

#include "call.h"

#define FM_SUMS 4 /* of a chunk, at most */

typedef struct fm_weights {
    fm_call call;
    intptr_t N, K;
    intptr_t rows; /* of a chunk */
    const void *sample_weight, *scores, *exponent; /* what is not there, or not wanted, is NULL */
    const intptr_t *y;
    const uint8_t *incorrect, *next_incorrect;
    double if_right, if_wrong; /* multipliers */
    double shift, factor;
    void *scaled, *gradient, *hessian;
    const void *weight, *first, *second; /* Adam's, whose gradient is read alone */
    double scale, rate, beta1, beta2, eps;
    void *new_weight, *new_first, *new_second;
    double *sums; /* (chunks, FM_SUMS) */
} fm_weights;

/* Rows [start, end), at most a chunk; writes the chunk's sums, if it has any. */
typedef void (*fm_weights_kernel)(const fm_weights *p, intptr_t start, intptr_t end, double *sums);

/* Chunks are those of all N rows whoever works on them, so that their sums have the same bits for any number of workers.
 * Each worker has a run of them. (Tried: an update that begins with the chunks that the error pass left in the cache, and
 * ends with those that the next one begins with: 6.99 in place of 6.49 ms at N = 10,000,000; memory is read forwards.) */
static void fm_walk_chunks(fm_weights *p, fm_weights_kernel kernel, double work, intptr_t worker, intptr_t workers) {
    const intptr_t chunks = (p->N + p->rows - 1) / p->rows;
    uint64_t mode = fm_flush_denormals();
    if (worker == 0) p->call.mode = mode;
    if (workers > 1) fm_spread(&p->call);
    const intptr_t first = fm_share(chunks, worker, workers), last = fm_share(chunks, worker + 1, workers);
    for (intptr_t c = first; c < last; c++) {
        const intptr_t start = c * p->rows, end = p->N - start < p->rows ? p->N : start + p->rows;
        kernel(p, start, end, p->sums + c * FM_SUMS);
        if (fm_poll(&p->call, worker, work * (double)(end - start))) break;
    }
    fm_restore(mode);
}

#endif
