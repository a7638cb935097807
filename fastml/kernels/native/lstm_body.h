/* LSTM: one step of a slice of rows, forward and backward; the steps' numbers are reference/lstm.py's. */

#include "vec.h"

#include "act.h"

#undef FM_GATES
#undef FM_SPLIT
#undef FM_CARRY
#define FM_GATES 4
#define FM_SPLIT 0
#define FM_CARRY 0

#include "product.h"

#include "recurrent.h"

static void FN(weights)(FN(run) * f, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    FN(pack_gates)(4, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
    FN(pack_gates)(4, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
    if (worker == 0) FN(pack_bias)(4, p->b_ih, p->b_hh, p->H, f->bias);
}

/* MR rows from r on, NB blocks of L hidden units from block j on. */
INLINE void FN(step_tile)(const int MR, const int NB, const FN(run) * f, const FN(at) * at, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H;
    V acc[MR * NB * 4];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int i = 0; i < NB * 4; i++)
        acc[m * NB * 4 + i] = vload(at->projected + (r + m) * f->ldp + (j * 4 + i) * L);
    FN(accumulate)(acc, MR, NB, 4, at->h_in + r * f->ldh, f->ldh, 1, f->w_hh + j * H * 4 * L, H * 4 * L, 4 * L, H); /* 1 */
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int b = 0; b < NB; b++) {
        const V *a = acc + (m * NB + b) * 4;
        intptr_t unit = (j + b) * L, left = H - unit;
        REAL *cell = f->c + (r + m) * f->ldh + unit;
        V i = FN(sigmoid)(a[0]), forget = FN(sigmoid)(a[1]), g = FN(tanh)(a[2]), o = FN(sigmoid)(a[3]); /* 2 */
        V c = vfma(forget, vload(cell), i * g);                                                          /* 3 */
        V h = o * FN(tanh)(c);                                                                           /* 4 */
        vstore(cell, c);
        vstore(at->h_out + (r + m) * f->ldh + unit, h);
        FN(store_tail)((REAL *)p->y + at->time_rows[r + m] * H + unit, h, left);
        if (p->gates) {
            REAL *saved = (REAL *)p->gates + at->saved_rows[r + m] * 4 * H + unit;
            FN(store_tail)(saved, i, left);
            FN(store_tail)(saved + H, forget, left);
            FN(store_tail)(saved + 2 * H, g, left);
            FN(store_tail)(saved + 3 * H, o, left);
            FN(store_tail)((REAL *)p->cells + (at->saved_rows[r + m] + p->B) * H + unit, c, left);
        }
    }
}

static void FN(step)(const FN(run) * f, const FN(at) * at) {
    for (intptr_t i = 0, nb; i < f->blocks; i += nb) {
        nb = at->n == 1 && f->blocks - i > 1 ? 2 : 1; /* one row alone: two blocks make the 8 chains that hide latency */
        intptr_t j = at->backwards ? f->blocks - i - nb : i;
        if (nb == 2) {
            FN(step_tile)(1, 2, f, at, j, 0);
            continue;
        }
        FM_EACH_TILE(0, at->n, ROWS_MAX(4), r, m) {
#define CALL(MR, NV) FN(step_tile)(MR, 1, f, at, j, r)
            FM_ROWS(m, 4, CALL)
#undef CALL
        }
    }
}

static void FN(back_weights)(FN(back) * f, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    FN(pack_columns)(4, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
    FN(pack_columns)(4, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
}

INLINE void FN(back_tile)(const int MR, const int NV, const FN(back) * f, const FN(back_at) * at, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H;
    V acc[MR * NV];
    FN(dh_sums)(acc, MR, NV, f, at->dah_next ? 0 : f->carry, at->dah_next, j, r, at->step);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        intptr_t unit = (j + v) * L, left = H - unit, row = at->first + r + m * at->step, saved_row = at->chunk->saved_rows[row];
        const REAL *saved = (const REAL *)p->gates + saved_row * 4 * H + unit;
        const REAL *cells = (const REAL *)p->cells + saved_row * H + unit;
        V dh = acc[m * NV + v] + FN(load_tail)((const REAL *)p->dy + at->chunk->time_rows[row] * H + unit, left);
        V i = FN(load_tail)(saved, left), forget = FN(load_tail)(saved + H, left);
        V g = FN(load_tail)(saved + 2 * H, left), o = FN(load_tail)(saved + 3 * H, left);
        V c_before = FN(load_tail)(cells, left), tanh_c = FN(tanh)(FN(load_tail)(cells + p->B * H, left));
        REAL *dcell = f->dc + (r + m * at->step) * f->ldh + unit;
        REAL *da = at->chunk->da + row * f->ldd + (j + v) * 4 * L;
        V one = vset1(1);
        V dc = vfma(dh * o, one - tanh_c * tanh_c, vload(dcell)); /* 4 */
        vstore(dcell, dc * forget);                               /* 3 */
        vstore(da, (dc * g) * (i * (one - i)));                   /* 2 */
        vstore(da + L, (dc * c_before) * (forget * (one - forget)));
        vstore(da + 2 * L, (dc * i) * (one - g * g));
        vstore(da + 3 * L, (dh * tanh_c) * (o * (one - o)));
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
