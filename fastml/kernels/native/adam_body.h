/* Adam; the steps' numbers are reference/adam.py's. Four arrays are read once and three written. */

#include "vec.h"

#include "wide.h"

#undef SETS

#define SETS 4 /* of accumulators: additions take 3 or 4 cycles */

INLINE void FN(add_squares)(V g, WIDE *sum) {
    UNROLL for (int h = 0; h < HALVES; h++) {
        const WIDE wide = widened(g, h);
        *sum += wide * wide;
    }
}

static void FN(squares)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    const REAL *g = p->gradient;
    WIDE sum[SETS] = {0};
    intptr_t i = start;
    for (; i + SETS * L <= end; i += SETS * L)
        UNROLL for (int set = 0; set < SETS; set++) FN(add_squares)(vload(g + i + set * L), &sum[set]);
    for (; i < end; i += L) FN(add_squares)(FN(load_tail)(g + i, end - i), &sum[0]);
    sums[0] = FN(sum_of)((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* Of L numbers, or the last n of them. */
INLINE void FN(update_of)(const fm_weights *p, intptr_t i, intptr_t n) {
    const V g = vset1((REAL)p->scale) * FN(load_tail)((const REAL *)p->gradient + i, n); /* 1 */
    const V m = vfma(vset1((REAL)p->beta1), FN(load_tail)((const REAL *)p->first + i, n),
                     vset1((REAL)(1 - p->beta1)) * g); /* 2 */
    const V v = vfma(vset1((REAL)p->beta2), FN(load_tail)((const REAL *)p->second + i, n),
                     vset1((REAL)(1 - p->beta2)) * g * g); /* 3 */
    const V w = FN(load_tail)((const REAL *)p->weight + i, n);
    FN(store_tail)((REAL *)p->new_first + i, m, n);
    FN(store_tail)((REAL *)p->new_second + i, v, n);
    FN(store_tail)((REAL *)p->new_weight + i, w - vset1((REAL)p->rate) * m / (vsqrt(v) + vset1((REAL)p->eps)), n); /* 4 */
}

static void FN(update)(const fm_weights *given, intptr_t start, intptr_t end, double *sums) {
    const fm_weights own = *given, *p = &own; /* which no store can change, so that its numbers stay in registers */
    intptr_t i = start;
    for (; i + L <= end; i += L) FN(update_of)(p, i, L);
    if (i < end) FN(update_of)(p, i, end - i);
}
