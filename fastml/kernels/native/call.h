/* What every family's kernels share: the call they serve, the clock, the floating-point mode, scratch. No vectors in here. */
#ifndef FM_CALL_H
#define FM_CALL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getcpu */
#endif
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "isa.h"

#define FM_CPU_WORDS 16

/* What one call shares with the thread that made it: Ctrl-C, and the wish to give up. */
typedef struct fm_call {
    int (*poll)(void *);     /* asks Python about Ctrl-C; non-zero: give up; NULL: nobody asks */
    void *poller;
    int64_t polled;          /* when, in ns */
    double work;             /* since the clock was read */
    uint64_t mode;           /* the calling thread's own floating-point mode */
    void (*resume)(void);    /* amx: configures the tiles again, which a signal handler may have used */
    int stop;                /* give up: sticky, breaks every barrier */
    int arrived, generation; /* the barrier's */
    uint64_t cpus[FM_CPU_WORDS]; /* that workers run on */
} fm_call;

static inline int fm_stopped(fm_call *c) { return __atomic_load_n(&c->stop, __ATOMIC_RELAXED); }
static inline void fm_stop(fm_call *c) { __atomic_store_n(&c->stop, 1, __ATOMIC_RELAXED); }

static inline int64_t fm_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t fm_now(void) { return fm_clock(CLOCK_MONOTONIC); }

static inline void fm_pause(void) {
#if FM_X86
    _mm_pause();
#else
    __asm__ volatile("yield");
#endif
}

/* All workers meet; the spin is bounded and then yields, so that a worker without a core holds nobody's core for long. */
static inline void fm_meet(fm_call *c, intptr_t workers) {
    if (workers == 1) return;
    int generation = __atomic_load_n(&c->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&c->arrived, 1, __ATOMIC_ACQ_REL) == workers) {
        __atomic_store_n(&c->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&c->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; spins < 4000; spins++) {
        if (__atomic_load_n(&c->generation, __ATOMIC_ACQUIRE) != generation || fm_stopped(c)) return;
        fm_pause();
    }
    while (__atomic_load_n(&c->generation, __ATOMIC_ACQUIRE) == generation && !fm_stopped(c)) sched_yield();
}

/* A worker that was woken on a CPU where another one runs moves to a free one, if this process may use any: the scheduler
 * itself took up to 8 ms to notice, on a machine that had been idle (LSTM (1000,1,256,256) forward: 20 ms instead of 5). */
static inline void fm_spread(fm_call *c) {
#if defined(__linux__)
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= 64 * FM_CPU_WORDS) return;
    uint64_t bit = (uint64_t)1 << cpu % 64;
    if (!(__atomic_fetch_or(&c->cpus[cpu / 64], bit, __ATOMIC_RELAXED) & bit)) return;
    cpu_set_t may, free;
    if (sched_getaffinity(0, sizeof may, &may)) return;
    free = may;
    for (int i = 0; i < 64 * FM_CPU_WORDS && i < CPU_SETSIZE; i++)
        if (__atomic_load_n(&c->cpus[i / 64], __ATOMIC_RELAXED) >> i % 64 & 1) CPU_CLR(i, &free);
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free)) return;
    cpu = sched_getcpu();
    if (cpu >= 0 && cpu < 64 * FM_CPU_WORDS)
        __atomic_fetch_or(&c->cpus[cpu / 64], (uint64_t)1 << cpu % 64, __ATOMIC_RELAXED);
    sched_setaffinity(0, sizeof may, &may);
#endif
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

/* The present mode, for fm_restore after a poll by kernels that leave it as it is. */
static inline uint64_t fm_mode(void) {
    const uint64_t mode = fm_flush_denormals();
    fm_restore(mode);
    return mode;
}

/* Called by every worker after each piece of work, of so many operations; non-zero: give up, what is computed is worthless.
 * Only worker 0, on Python's main thread, asks Python, at most every 50 ms, and looks at the clock every 20 MFLOP: 4 ms of a
 * slow core, and of weights that come from memory. */
static inline int fm_poll(fm_call *c, intptr_t worker, double work) {
    if (worker == 0 && c->poll && (c->work += work) > 2e7) {
        c->work = 0;
        int64_t ns = fm_now();
        if (c->polled == 0) c->polled = ns;
        if (ns - c->polled > 50000000) {
            c->polled = ns;
            fm_restore(c->mode); /* signal handlers are the user's code: they run in the user's mode */
            if (c->poll(c->poller)) fm_stop(c);
            fm_flush_denormals();
            if (c->resume) c->resume();
        }
    }
    return fm_stopped(c);
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
