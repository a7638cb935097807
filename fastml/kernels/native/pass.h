/* One pass of one layer in one direction, as every rung sees it, and what its workers share. No vectors in here. */
#ifndef FM_PASS_H
#define FM_PASS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getcpu */
#endif
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "isa.h"

#define FM_CPU_WORDS 16

typedef struct fm_pass {
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
    int (*poll)(void *);     /* asks Python about Ctrl-C; non-zero: give up; NULL: nobody asks */
    void *poller;
    int64_t polled;          /* when, in ns */
    double work;             /* since the clock was read */
    uint64_t mode;           /* the calling thread's own floating-point mode */
    void (*resume)(void);    /* amx: configures the tiles again, which a signal handler may have used */
    int stop;                /* give up: sticky, breaks every barrier */
    int arrived, generation; /* the barrier's */
    int64_t absent;          /* ns that workers, all together, have been without a core */
    intptr_t alone;          /* worker 0 goes on alone from the end of this chunk on, counted from 1; 0: never */
    uint64_t cpus[FM_CPU_WORDS]; /* that workers run on */
} fm_pass;

/* Worker `worker` of `workers` does its share. With p->scratch NULL: returns the bytes wanted for `workers`, only. */
typedef size_t (*fm_kernel)(fm_pass *p, intptr_t worker, intptr_t workers);

static inline int fm_stopped(fm_pass *p) { return __atomic_load_n(&p->stop, __ATOMIC_RELAXED); }
static inline void fm_stop(fm_pass *p) { __atomic_store_n(&p->stop, 1, __ATOMIC_RELAXED); }

static inline int64_t fm_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t fm_now(void) { return fm_clock(CLOCK_MONOTONIC); }

/* All workers meet; the spin is bounded and then yields, so that a worker without a core holds nobody's core for long. */
static inline void fm_meet(fm_pass *p, intptr_t workers) {
    if (workers == 1) return;
    int generation = __atomic_load_n(&p->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&p->arrived, 1, __ATOMIC_ACQ_REL) == workers) {
        __atomic_store_n(&p->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&p->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; spins < 4000; spins++) {
        if (__atomic_load_n(&p->generation, __ATOMIC_ACQUIRE) != generation || fm_stopped(p)) return;
#if FM_X86
        _mm_pause();
#else
        __asm__ volatile("yield");
#endif
    }
    while (__atomic_load_n(&p->generation, __ATOMIC_ACQUIRE) == generation && !fm_stopped(p)) sched_yield();
}

/* Nanoseconds, less than a process that takes a core keeps it, more than what interrupts it now and then. */
#define FM_SLICE 1500000

/* A worker's presence: the time and its CPU time when it began, and the absence that it has reported so far. That it began
 * late does not count: a core that slept is slow to wake. */
typedef struct fm_presence {
    int64_t began, cpu, reported;
} fm_presence;

/* A worker that was woken on a CPU where another one runs moves to a free one, if this process may use any: the scheduler
 * itself took up to 8 ms to notice, on a machine that had been idle (LSTM (1000,1,256,256) forward: 20 ms instead of 5). */
static inline void fm_spread(fm_pass *p) {
#if defined(__linux__)
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= 64 * FM_CPU_WORDS) return;
    uint64_t bit = (uint64_t)1 << cpu % 64;
    if (!(__atomic_fetch_or(&p->cpus[cpu / 64], bit, __ATOMIC_RELAXED) & bit)) return;
    cpu_set_t may, free;
    if (sched_getaffinity(0, sizeof may, &may)) return;
    free = may;
    for (int i = 0; i < 64 * FM_CPU_WORDS && i < CPU_SETSIZE; i++)
        if (__atomic_load_n(&p->cpus[i / 64], __ATOMIC_RELAXED) >> i % 64 & 1) CPU_CLR(i, &free);
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free)) return;
    cpu = sched_getcpu();
    if (cpu >= 0 && cpu < 64 * FM_CPU_WORDS)
        __atomic_fetch_or(&p->cpus[cpu / 64], (uint64_t)1 << cpu % 64, __ATOMIC_RELAXED);
    sched_setaffinity(0, sizeof may, &may);
#endif
}

static inline fm_presence fm_begin(fm_pass *p, intptr_t workers) {
    fm_presence mine = {0, 0, 0};
    if (workers == 1) return mine;
    fm_spread(p);
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
    fm_meet(p, workers);
    return __atomic_load_n(&p->alone, __ATOMIC_RELAXED) == chunk;
}

/* Denormals count as zero inside a kernel (flush-to-zero, denormals-are-zero); returns what fm_restore wants back. */
static inline uint64_t fm_flush_denormals(void) {
#if FM_X86
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);
    return mode;
#else
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | 1 << 24) : "memory");
    return mode;
#endif
}

static inline void fm_restore(uint64_t mode) {
#if FM_X86
    _mm_setcsr((unsigned)mode);
#else
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
#endif
}

/* Called by every worker after each piece of work, of so many operations; non-zero: give up, what is computed is worthless.
 * Only worker 0, on Python's main thread, asks Python, at most every 50 ms, and looks at the clock every 20 MFLOP: 4 ms of a
 * slow core, and of weights that come from memory. */
static inline int fm_poll(fm_pass *p, intptr_t worker, double work) {
    if (worker == 0 && p->poll && (p->work += work) > 2e7) {
        p->work = 0;
        int64_t ns = fm_now();
        if (p->polled == 0) p->polled = ns;
        if (ns - p->polled > 50000000) {
            p->polled = ns;
            fm_restore(p->mode); /* signal handlers are the user's code: they run in the user's mode */
            if (p->poll(p->poller)) fm_stop(p);
            fm_flush_denormals();
            if (p->resume) p->resume();
        }
    }
    return fm_stopped(p);
}

/* Cuts scratch into pieces of whole cache lines; with base NULL it only adds up. */
typedef struct fm_arena {
    char *base;
    size_t used;
} fm_arena;

static inline void *fm_take(fm_arena *arena, size_t bytes) {
    char *piece = arena->base ? arena->base + arena->used : 0;
    arena->used += (bytes + 63) & ~(size_t)63;
    return piece;
}

/* [begin, end) of worker `worker` when `n` things are shared out. */
static inline intptr_t fm_share(intptr_t n, intptr_t worker, intptr_t workers) { return n * worker / workers; }

#endif
