/* One call of a mixture's kernel, as every rung sees it, and what its workers share. No vectors in here. */
#ifndef FM_MIXTURE_H
#define FM_MIXTURE_H

#include "call.h"

enum { FM_FULL, FM_TIED, FM_DIAG, FM_SPHERICAL }; /* covariance types, as in table.FACTORS */

typedef struct fm_mixture {
    fm_call call;
    intptr_t N, D, K;
    intptr_t rows; /* of a tile: statistics are summed over it, then added to the total */
    int type;
    const void *X, *sample_weight, *means, *factors, *constants;

    /* multinomial: D words; counts X (N, D), or where that is NULL in compressed rows */
    const void *data;
    const intptr_t *indices, *indptr;
    double *counts; /* (K, D) */

    void *log_density, *resp, *log_likelihood; /* what is not wanted is NULL */
    intptr_t *labels;
    double *n, *first, *second, *total; /* statistics are wanted where n is not NULL; total: the log-likelihood */

    char *packed;         /* the parameters as tiles read them, 64-byte aligned; all workers' */
    char *scratch;        /* 64-byte aligned, as many bytes as the kernel asks for when scratch is NULL */
    intptr_t next;        /* tile, or block of rows, that no worker has taken */
    intptr_t merged;      /* tiles that are in the total */
    int merging;          /* a worker is adding tiles to the total */
} fm_mixture;

/* Worker `worker` of `workers` does its share. With p->scratch NULL: returns the bytes wanted for `workers`, only. */
typedef size_t (*fm_mixture_kernel)(fm_mixture *p, intptr_t worker, intptr_t workers);

/* Tiles are taken by whoever is free and added to the total in their order, by whoever finds the next one done: `slots` of
 * them may be waiting. `done[b % slots]` is b + 1 once tile b is. False: give up. */
static inline int fm_wait_for_slot(fm_mixture *p, intptr_t worker, intptr_t tile, intptr_t slots) {
    for (int spins = 0; tile - __atomic_load_n(&p->merged, __ATOMIC_ACQUIRE) >= slots; spins++) {
        if (fm_poll(&p->call, worker, spins < 4000 ? 0 : 1e5)) return 0;
        if (spins < 4000) fm_pause();
        else sched_yield();
    }
    return 1;
}

static inline void fm_merge(fm_mixture *p, intptr_t tile, double *sums, intptr_t size, intptr_t *done, intptr_t slots,
                            void (*add)(fm_mixture *, const double *)) {
    /* this store and the exchange, that store and the load after it: none may overtake the other, or a tile waits for good */
    __atomic_store_n(&done[tile % slots], tile + 1, __ATOMIC_SEQ_CST);
    for (;;) {
        if (__atomic_exchange_n(&p->merging, 1, __ATOMIC_SEQ_CST)) return; /* that worker looks again when it has ended */
        intptr_t b = p->merged;
        while (__atomic_load_n(&done[b % slots], __ATOMIC_ACQUIRE) == b + 1) {
            add(p, sums + b % slots * size);
            __atomic_store_n(&p->merged, ++b, __ATOMIC_RELEASE);
        }
        __atomic_store_n(&p->merging, 0, __ATOMIC_SEQ_CST);
        /* a tile that was done after the look above and before the flag fell would wait for the next one to be done */
        if (__atomic_load_n(&done[b % slots], __ATOMIC_SEQ_CST) != b + 1) return;
    }
}

#endif
