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
    FN(pack_inputs)(f, worker, workers);
    if (f->w_hh) FN(pack_gates)(f->p, 1, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
    if (worker == 0) FN(pack_bias)(1, p->b_ih, p->b_hh, p->H, f->bias);
}

static void FN(step)(const FN(run) * f, const FN(at) * at) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H, from = f->own.from, all = f->own.to - from, fours = all / 4 * 4;
    const FN(left) before = FN(split)(f->parts, at->h_in, f->ldh, at->n, H);
    FN(sums) sums;
    for (intptr_t i = 0, nv, nb; i < all; i += nb * nv) {
        nv = GROUP(all - i);
        nb = at->n == 1 && i + 8 <= fours ? 2 : 1;
        /* backwards, the fours change places; what is left over has one place only */
        intptr_t j = from + (at->backwards && i < fours ? fours - i - 4 * nb : i);
        const REAL *w = FN(columns)(f, 1, f->w_hh, f->p->w_hh, H, j, nv, nb);
        FM_EACH_TILE(0, at->n, ROWS_MAX(nv), r, m) {
            FN(tile) *tile = nb == 2 ? FN(pairs)[4] : FN(tiles)[nv][m];
            tile(at->projected + r * f->ldp + j * L, f->ldp, before.a + r * before.ld, before.ld, 1, w,
                 FM_PACKED(H) * 4 * L, nv * L, H, (REAL *)sums.v, nv * L); /* 1 */
            for (intptr_t row = r, c = 0; row < r + m; row++)
                for (intptr_t unit = j * L; unit < (j + nb * nv) * L; unit += L, c++) {
                    V h = sums.v[c];
                    if (p->option) h = vmax(vset1(0), h);
                    else h = FN(tanh)(h); /* 2 */
                    vstore(at->h_out + row * f->ldh + unit, h);
                    FN(store_tail)((REAL *)p->y + at->time_rows[row] * H + unit, h, H - unit);
                }
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * at->n * H * nb * nv * L)) return;
    }
}

static void FN(back_weights)(FN(back) * f) {
    const fm_pass *p = f->p;
    const intptr_t worker = f->worker, workers = f->workers;
    if (f->w_ih) FN(pack_columns)(f->p, 1, p->w_ih, p->H, p->I, f->w_ih, worker, workers);
    FN(pack_columns)(f->p, 1, p->w_hh, p->H, p->H, f->w_hh, worker, workers);
}

/* From the sum that reaches h to the gradient before the nonlinearity: rank r of the panel, block j. */
INLINE void FN(back_cell)(const FN(back) * f, const FN(back_at) * at, V sum, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t unit = j * L, left = f->H - unit, row = at->first + r, place = at->chunk->time_rows[row] * f->H + unit;
    V dh = sum + FN(load_tail)((const REAL *)p->dy + place, left);
    V h = FN(load_tail)((const REAL *)p->y + place, left);
    V slope = vset1(1) - h * h;
    if (p->option) slope = (V)((INT)vset1(1) & (INT)(h > vset1(0)));
    vstore(at->chunk->da + row * f->ldd + unit, dh * slope); /* 2 */
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
