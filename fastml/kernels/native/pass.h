/* One pass of one layer in one direction, as every rung sees it, and what its workers share. No vectors in here. */
#ifndef FM_PASS_H
#define FM_PASS_H

#include "call.h"

typedef struct fm_pass {
    fm_call call;
    intptr_t T, B, I, H;
    const intptr_t *lengths; /* (B) */
    const intptr_t *order;   /* (B) the batch by falling length: at every step the sequences still running come first */
    const intptr_t *starts;  /* (T) of unequal lengths: how many rows the steps before save; NULL: B for each */
    int reverse;
    int option; /* gru: reset after; rnn: relu */
    int single; /* one step of so few sequences that its weights are used where they are, not packed */
    int team;   /* workers share out the hidden units and meet at every step, not the sequences: for few, large ones */

    const intptr_t *ids; /* (T, B): x is one-hot and these are its places of 1; x and dx are NULL */
    const void *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh;
    void *y, *h_n, *c_n, *gates, *cells; /* the backward reads y, gates, cells */
    const void *dy, *dh_n, *dc_n;
    void *dx, *dh0, *dc0, *dw_ih, *dw_hh, *db_ih, *db_hh;

    char *packed;            /* the forward's weights, packed before (64-byte aligned), or NULL: this pass packs them */
    char *scratch;           /* 64-byte aligned, as many bytes as the kernel asks for when scratch is NULL */
    int64_t absent;          /* ns that workers, all together, have been without a core */
    intptr_t alone;          /* worker 0 goes on alone from the end of this chunk on, counted from 1; 0: never */
} fm_pass;

/* Worker `worker` of `workers` does its share. With p->scratch NULL: returns the bytes wanted for `workers`, only. */
typedef size_t (*fm_kernel)(fm_pass *p, intptr_t worker, intptr_t workers);

/* Nanoseconds, less than a process that takes a core keeps it, more than what interrupts it now and then. */
#define FM_SLICE 1500000

/* A worker's presence: the time and its CPU time when it began, and the absence that it has reported so far. That it began
 * late does not count: a core that slept is slow to wake. */
typedef struct fm_presence {
    int64_t began, cpu, reported;
} fm_presence;

static inline fm_presence fm_begin(fm_pass *p, intptr_t workers) {
    fm_presence mine = {0, 0, 0};
    if (workers == 1) return mine;
    fm_spread(&p->call);
    mine.began = fm_now();
    mine.cpu = fm_clock(CLOCK_THREAD_CPUTIME_ID);
    return mine;
}

/* At the end of chunk number `chunk` (from 1) all workers meet; true if worker 0 goes on alone from here. It decides so
 * where that is faster: while one worker is absent, its core taken by another process for a slice of some ms, all wait for
 * it. Measured with one core of two taken, LSTM (1000,1,512,512): a team that went on took 1.4 times as long as one thread,
 * and 3 at worst. The chunk's number tells a worker that is late to look from one that is asked to leave at the next. */
static inline int fm_meet_alone(fm_pass *p, intptr_t worker, intptr_t workers, intptr_t chunk, fm_presence *mine) {
    if (workers == 1) return 0;
    int64_t elapsed = fm_now() - mine->began;
    int64_t absent = elapsed - (fm_clock(CLOCK_THREAD_CPUTIME_ID) - mine->cpu);
    int64_t all = __atomic_add_fetch(&p->absent, absent - mine->reported, __ATOMIC_RELAXED);
    mine->reported = absent;
    if (worker == 0 && all > FM_SLICE && workers * (elapsed - all) < elapsed + elapsed / 5)
        __atomic_store_n(&p->alone, chunk, __ATOMIC_RELAXED);
    fm_meet(&p->call, workers);
    return __atomic_load_n(&p->alone, __ATOMIC_RELAXED) == chunk;
}

#endif
