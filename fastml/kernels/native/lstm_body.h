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
    FN(pack_inputs)(f, worker, workers);
    if (f->w_hh) FN(pack_gates)(f->p, 4, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
    if (worker == 0) FN(pack_bias)(4, p->b_ih, p->b_hh, p->H, f->bias);
}

/* From the sums of the gates to the new states: row r, block j. */
INLINE void FN(cell)(const FN(run) * f, const FN(at) * at, const V *a, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H, unit = j * L, left = H - unit;
    REAL *cell = f->c + r * f->ldh + unit;
    V i = FN(sigmoid)(a[0]), forget = FN(sigmoid)(a[1]), g = FN(tanh)(a[2]), o = FN(sigmoid)(a[3]); /* 2 */
    V c = vfma(forget, vload(cell), i * g);                                                          /* 3 */
    V h = o * FN(tanh)(c);                                                                           /* 4 */
    vstore(cell, c);
    vstore(at->h_out + r * f->ldh + unit, h);
    FN(store_tail)((REAL *)p->y + at->time_rows[r] * H + unit, h, left);
    if (p->gates) {
        REAL *saved = (REAL *)p->gates + at->saved_rows[r] * 4 * H + unit;
        FN(store_tail)(saved, i, left);
        FN(store_tail)(saved + H, forget, left);
        FN(store_tail)(saved + 2 * H, g, left);
        FN(store_tail)(saved + 3 * H, o, left);
        FN(store_tail)((REAL *)p->cells + (at->saved_rows[r] + p->B) * H + unit, c, left);
    }
}

static void FN(step)(const FN(run) * f, const FN(at) * at) {
    const intptr_t H = f->H, group = FM_PACKED(H) * 4 * L;
    const FN(left) h = FN(split)(f->parts, at->h_in, f->ldh, at->n, H);
    FN(sums) sums;
    for (intptr_t i = f->own.from, nb; i < f->own.to; i += nb) {
        nb = at->n == 1 && f->own.to - i > 1 ? 2 : 1;
        intptr_t j = at->backwards ? f->own.from + f->own.to - i - nb : i;
        const REAL *w = FN(columns)(f, 4, f->w_hh, f->p->w_hh, H, j * 4, 4, nb);
        FM_EACH_TILE(0, at->n, ROWS_MAX(4), r, m) {
            FN(tile) *tile = nb == 2 ? FN(pairs)[4] : FN(tiles)[4][m];
            tile(at->projected + r * f->ldp + j * 4 * L, f->ldp, h.a + r * h.ld, h.ld, 1, w, group, 4 * L, H, (REAL *)sums.v,
                 4 * L); /* 1 */
            const V *sum = sums.v;
            for (intptr_t row = r; row < r + m; row++)
                for (intptr_t b = j; b < j + nb; b++, sum += 4) FN(cell)(f, at, sum, b, row);
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * at->n * H * nb * 4 * L)) return;
    }
}

static void FN(back_weights)(FN(back) * f) {
    const fm_pass *p = f->p;
    const intptr_t worker = f->worker, workers = f->workers;
    if (f->w_ih) FN(pack_columns)(f->p, 4, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
    FN(pack_columns)(f->p, 4, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
}

/* From the sums that reach h to the gradient of the gates: rank r of the panel, block j. */
INLINE void FN(back_cell)(const FN(back) * f, const FN(back_at) * at, V sum, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H, unit = j * L, left = H - unit, row = at->first + r, saved_row = at->chunk->saved_rows[row];
    const REAL *saved = (const REAL *)p->gates + saved_row * 4 * H + unit;
    const REAL *cells = (const REAL *)p->cells + unit;
    V dh = sum + FN(load_tail)((const REAL *)p->dy + at->chunk->time_rows[row] * H + unit, left);
    V i = FN(load_tail)(saved, left), forget = FN(load_tail)(saved + H, left);
    V g = FN(load_tail)(saved + 2 * H, left), o = FN(load_tail)(saved + 3 * H, left);
    V c_before = FN(load_tail)(cells + at->chunk->cells_before[row] * H, left);
    V tanh_c = FN(tanh)(FN(load_tail)(cells + (p->B + saved_row) * H, left));
    REAL *dcell = f->dc + r * f->ldh + unit;
    REAL *da = at->chunk->da + row * f->ldd + j * 4 * L;
    V one = vset1(1);
    V dc = vfma(dh * o, one - tanh_c * tanh_c, vload(dcell)); /* 4 */
    vstore(dcell, dc * forget);                               /* 3 */
    vstore(da, (dc * g) * (i * (one - i)));                   /* 2 */
    vstore(da + L, (dc * c_before) * (forget * (one - forget)));
    vstore(da + 2 * L, (dc * i) * (one - g * g));
    vstore(da + 3 * L, (dh * tanh_c) * (o * (one - o)));
}

static void FN(back_step)(const FN(back) * f, const FN(back_at) * at, intptr_t from, intptr_t to) {
    const FN(left) dah = FN(split_dah)(f, at, from, to);
    FN(sums) sums;
    FM_EACH_GROUP(f->own.from, f->own.to, at->backwards, j, nv) {
        FM_EACH_TILE(from, to, ROWS_MAX(nv), i, m) {
            intptr_t r = at->rank + i * at->stride;
            FN(dh_sums)(&sums, f, at->dah_next ? 0 : f->carry, dah, i - from, j, nv, r, m, at->stride); /* 1 */
            const V *sum = sums.v;
            for (intptr_t rank = r; rank < r + m * at->stride; rank += at->stride)
                for (intptr_t b = j; b < j + nv; b++) FN(back_cell)(f, at, *sum++, b, rank);
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * (to - from) * f->hvectors * L * nv * L)) return;
    }
}
