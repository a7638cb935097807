/* RNN: one step of a slice of rows, forward and backward; the steps' numbers are reference/rnn.py's. With one gate, a
 * tile is as wide as up to four blocks of hidden units. */

#include "vec.h"

#include "act.h"

#undef FM_GATES
#undef FM_SPLIT
#undef FM_CARRY
#define FM_GATES 1
#define FM_SPLIT 0
#define FM_CARRY 0

#include "product.h"

#include "recurrent.h"

static void FN(weights)(FN(run) * f, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    FN(pack_gates)(1, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
    FN(pack_gates)(1, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
    if (worker == 0) FN(pack_bias)(1, p->b_ih, p->b_hh, p->H, f->bias);
}

/* MR rows from r on, NB groups of NV blocks of L hidden units from block j on. */
INLINE void FN(step_tile)(const int MR, const int NB, const int NV, const FN(run) * f, const FN(at) * at, intptr_t j,
                          intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H;
    V acc[MR * NB * NV];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int i = 0; i < NB * NV; i++)
        acc[m * NB * NV + i] = vload(at->projected + (r + m) * f->ldp + (j + i) * L);
    FN(accumulate)(acc, MR, NB, NV, at->h_in + r * f->ldh, f->ldh, 1, f->w_hh + j * H * L, H * NV * L, NV * L, H); /* 1 */
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int i = 0; i < NB * NV; i++) {
        V a = acc[m * NB * NV + i];
        V h = p->option ? vmax(FN(zero)(), a) : FN(tanh)(a); /* 2 */
        intptr_t unit = (j + i) * L;
        vstore(at->h_out + (r + m) * f->ldh + unit, h);
        FN(store_tail)((REAL *)p->y + at->time_rows[r + m] * H + unit, h, H - unit);
    }
}

static void FN(step)(const FN(run) * f, const FN(at) * at) {
    intptr_t fours = f->blocks / 4 * 4; /* a block's place is the same in either direction: tails come where they lie */
    for (intptr_t i = 0, nv; i < f->blocks; i += nv) {
        nv = GROUP(f->blocks - i);
        intptr_t j = at->backwards && i < fours ? fours - i - 4 : i;
        if (at->n == 1 && nv == 4 && i + 8 <= fours) { /* one row alone: two groups hide the latency of the chains */
            nv = 8;
            j = at->backwards ? fours - i - 8 : i;
            FN(step_tile)(1, 2, 4, f, at, j, 0);
            continue;
        }
        FM_EACH_TILE(0, at->n, ROWS_MAX(nv), r, m) {
#define CALL(MR, NV) FN(step_tile)(MR, 1, NV, f, at, j, r)
            FM_TILE(m, nv, CALL)
#undef CALL
        }
    }
}

static void FN(back_weights)(FN(back) * f, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    FN(pack_columns)(1, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
    FN(pack_columns)(1, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
}

INLINE void FN(back_tile)(const int MR, const int NV, const FN(back) * f, const FN(back_at) * at, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H;
    V acc[MR * NV];
    FN(dh_sums)(acc, MR, NV, f, at->dah_next ? 0 : f->carry, at->dah_next, j, r, at->step);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        intptr_t unit = (j + v) * L, row = at->first + r + m * at->step, place = at->chunk->time_rows[row] * H + unit;
        V dh = acc[m * NV + v] + FN(load_tail)((const REAL *)p->dy + place, H - unit);
        V h = FN(load_tail)((const REAL *)p->y + place, H - unit);
        V slope = vset1(1) - h * h;
        if (p->option) slope = (V)((INT)vset1(1) & (INT)(h > FN(zero)()));
        vstore(at->chunk->da + row * f->ldd + unit, dh * slope); /* 2 */
    }
}

static void FN(back_step)(const FN(back) * f, const FN(back_at) * at, intptr_t worker, intptr_t from, intptr_t to) {
    for (intptr_t j = 0, nv; j < f->blocks; j += nv) {
        nv = GROUP(f->blocks - j);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), i, m) {
#define CALL(MR, NV) FN(back_tile)(MR, NV, f, at, j, worker + i * at->step)
            FM_TILE(m, nv, CALL)
#undef CALL
        }
    }
}
