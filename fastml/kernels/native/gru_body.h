/* GRU: one step of a slice of rows, forward and backward; the steps' numbers are reference/gru.py's.
 *
 * Reset after the product: one product with all three gates; the candidate's sum of x (na) and of h (met) meet only in
 * the cell. Reset before: two products per step, the second over r * h, and likewise two in the backward.
 */

#include "vec.h"

#include "act.h"

#undef FM_GATES
#undef FM_SPLIT
#undef FM_CARRY
#define FM_GATES 3
#define FM_SPLIT 1
#define FM_CARRY 1

#include "product.h"

#include "recurrent.h"

static void FN(weights)(FN(run) * f, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    const intptr_t H = p->H;
    const REAL *w_hh = p->w_hh, *b_hh = p->b_hh;
    FN(pack_inputs)(f, worker, workers);
    if (f->w_hh) {
        FN(pack_gates)(f->p, p->option ? 3 : 2, w_hh, H, H, f->w_hh, worker, workers);
        if (!p->option) FN(pack_gates)(f->p, 1, w_hh + 2 * H * H, H, H, f->w_n, worker, workers);
    }
    if (worker > 0) return;
    FN(pack_bias)(3, p->b_ih, b_hh, H, f->bias);
    FN(pack_bias)(1, b_hh + 2 * H, 0, H, f->b_n);
    if (p->option) /* b_hn belongs to met */
        for (intptr_t unit = 0; unit < H; unit++)
            f->bias[(unit / L * 3 + 2) * L + unit % L] = ((const REAL *)p->b_ih)[2 * H + unit];
}

/* h = (1 - z) n + z h_before, and everything that is written once n is known. */
INLINE void FN(new_state)(const FN(run) * f, const FN(at) * at, intptr_t r, intptr_t unit, V R, V z, V n, V met) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H, left = H - unit;
    V h = vfma(z, vload(at->h_in + r * f->ldh + unit) - n, n); /* 3 */
    vstore(at->h_out + r * f->ldh + unit, h);
    FN(store_tail)((REAL *)p->y + at->time_rows[r] * H + unit, h, left);
    if (p->gates) {
        REAL *saved = (REAL *)p->gates + at->saved_rows[r] * 4 * H + unit;
        FN(store_tail)(saved, R, left);
        FN(store_tail)(saved + H, z, left);
        FN(store_tail)(saved + 2 * H, n, left);
        FN(store_tail)(saved + 3 * H, met, left);
    }
}

/* Reset after: from the sums of the gates to the new state: row r, block j. */
INLINE void FN(after_cell)(const FN(run) * f, const FN(at) * at, const V *a, intptr_t j, intptr_t r) {
    const V met = a[2];
    V R = FN(sigmoid)(a[0]), z = FN(sigmoid)(a[1]); /* 1 */
    V n = FN(tanh)(vfma(R, met, vload(at->projected + r * f->ldp + (j * 3 + 2) * L))); /* 2 */
    FN(new_state)(f, at, r, j * L, R, z, n, met);
}

/* Reset before, after the first product: r, z, and the reset state for the second. */
INLINE void FN(reset_cell)(const FN(run) * f, const FN(at) * at, const V *a, intptr_t j, intptr_t r) {
    intptr_t unit = j * L, place = r * f->ldh + unit;
    V R = FN(sigmoid)(a[0]); /* 1 */
    vstore(f->rh + place, R * vload(at->h_in + place));
    vstore(f->z + place, FN(sigmoid)(a[1]));
    if (f->p->gates) FN(store_tail)((REAL *)f->p->gates + at->saved_rows[r] * 4 * f->H + unit, R, f->H - unit);
}

/* Reset before, after the second product: the candidate and the new state. */
INLINE void FN(candidate_cell)(const FN(run) * f, const FN(at) * at, V a, intptr_t j, intptr_t r) {
    const REAL *gates = f->p->gates;
    intptr_t unit = j * L, place = r * f->ldh + unit;
    V R = gates ? FN(load_tail)(gates + at->saved_rows[r] * 4 * f->H + unit, f->H - unit) : vset1(0);
    FN(new_state)(f, at, r, unit, R, vload(f->z + place), FN(tanh)(a), vload(at->h_in + place)); /* 2 */
}

static void FN(step)(const FN(run) * f, const FN(at) * at) {
    const intptr_t H = f->H, gates = f->p->option ? 3 : 2, group = FM_PACKED(H) * gates * L;
    const FN(left) h = FN(split)(f->parts, at->h_in, f->ldh, at->n, H);
    FN(sums) start, sums;
    for (intptr_t i = f->own.from, nb; i < f->own.to; i += nb) {
        nb = at->n == 1 && f->own.to - i > 1 ? 2 : 1;
        intptr_t j = at->backwards ? f->own.from + f->own.to - i - nb : i;
        const REAL *w = FN(columns)(f, gates, f->w_hh, f->p->w_hh, H, j * gates, gates, nb);
        FM_EACH_TILE(0, at->n, ROWS_MAX(gates), r, m) {
            V *to = start.v;
            for (intptr_t row = r; row < r + m; row++)
                for (intptr_t b = j; b < j + nb; b++) { /* the sums of x, but for the candidate, which x meets after h */
                    const REAL *x = at->projected + row * f->ldp + b * 3 * L;
                    *to++ = vload(x);
                    *to++ = vload(x + L);
                    if (gates == 3) *to++ = vload(f->b_n + b * L);
                }
            FN(tile) *tile = nb == 2 ? FN(pairs)[gates] : FN(tiles)[gates][m];
            tile((REAL *)start.v, gates * L, h.a + r * h.ld, h.ld, 1, w, group, gates * L, H, (REAL *)sums.v,
                 gates * L); /* 1 */
            const V *sum = sums.v;
            for (intptr_t row = r; row < r + m; row++)
                for (intptr_t b = j; b < j + nb; b++, sum += gates) {
                    if (gates == 3) FN(after_cell)(f, at, sum, b, row);
                    else FN(reset_cell)(f, at, sum, b, row);
                }
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * at->n * H * nb * gates * L)) return;
    }
    if (f->p->option) return;
    fm_meet(&f->p->call, f->team);
    const FN(left) rh = FN(split)(f->parts, f->rh, f->ldh, at->n, H);
    FM_EACH_GROUP(f->own.from, f->own.to, at->backwards, j, nv) {
        const REAL *w = FN(columns)(f, 1, f->w_n, (const REAL *)f->p->w_hh + 2 * H * H, H, j, nv, 1);
        FM_EACH_TILE(0, at->n, ROWS_MAX(nv), r, m) {
            V *to = start.v;
            for (intptr_t row = r; row < r + m; row++)
                for (intptr_t b = j; b < j + nv; b++) *to++ = vload(at->projected + row * f->ldp + (b * 3 + 2) * L);
            FN(tiles)[nv][m]((REAL *)start.v, nv * L, rh.a + r * rh.ld, rh.ld, 1, w, 0, nv * L, H, (REAL *)sums.v,
                             nv * L);
            const V *sum = sums.v;
            for (intptr_t row = r; row < r + m; row++)
                for (intptr_t b = j; b < j + nv; b++) FN(candidate_cell)(f, at, *sum++, b, row);
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * at->n * H * nv * L)) return;
    }
}

static void FN(back_weights)(FN(back) * f) {
    const fm_pass *p = f->p;
    const intptr_t worker = f->worker, workers = f->workers;
    const intptr_t H = p->H;
    if (f->w_ih) FN(pack_columns)(f->p, 3, p->w_ih, H, p->I, f->w_ih, worker, workers);
    if (p->option) {
        FN(pack_columns)(f->p, 3, p->w_hh, H, H, f->w_hh, worker, workers);
    } else {
        FN(pack_columns)(f->p, 2, p->w_hh, H, H, f->w_hh, worker, workers);
        FN(pack_columns)(f->p, 1, (const REAL *)p->w_hh + 2 * H * H, H, H, f->w_n, worker, workers);
    }
}

/* Everything that follows from dh alone; with the reset after the product, that is all. Rank r of the panel, block j. */
INLINE void FN(back_cell)(const FN(back) * f, const FN(back_at) * at, V sum, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const FN(chunk) *chunk = at->chunk;
    const intptr_t H = f->H, unit = j * L, left = H - unit, row = at->first + r;
    const REAL *saved = (const REAL *)p->gates + chunk->saved_rows[row] * 4 * H + unit;
    V dh = sum + FN(load_tail)((const REAL *)p->dy + chunk->time_rows[row] * H + unit, left);
    V R = FN(load_tail)(saved, left), z = FN(load_tail)(saved + H, left), n = FN(load_tail)(saved + 2 * H, left);
    V one = vset1(1);
    V dz = (dh * (vload(chunk->hs + row * f->ldh + unit) - n)) * (z * (one - z)); /* 3 */
    V dn = (dh * (one - z)) * (one - n * n);                                      /* 2 */
    REAL *da = chunk->da + row * f->ldd + j * 3 * L;
    vstore(f->carry + r * f->ldh + unit, dh * z);
    vstore(da + L, dz);
    vstore(da + 2 * L, dn);
    if (p->option) {
        V dr = (dn * FN(load_tail)(saved + 3 * H, left)) * (R * (one - R)); /* 1 */
        REAL *dah = chunk->dah + row * f->ldd + j * 3 * L;
        vstore(da, dr);
        vstore(dah, dr);
        vstore(dah + L, dz);
        vstore(dah + 2 * L, dn * R);
    } else {
        vstore(chunk->dah + row * f->ldd + (j * 2 + 1) * L, dz);
        vstore(chunk->dn + row * f->ldh + unit, dn);
    }
}

/* Reset before: what reaches r * h through the candidate's product goes on to the reset gate and the state. */
INLINE void FN(through_cell)(const FN(back) * f, const FN(back_at) * at, V through, intptr_t j, intptr_t r) {
    const FN(chunk) *chunk = at->chunk;
    const intptr_t H = f->H, unit = j * L, row = at->first + r;
    V R = FN(load_tail)((const REAL *)f->p->gates + chunk->saved_rows[row] * 4 * H + unit, H - unit);
    V h = vload(chunk->hs + row * f->ldh + unit);
    V dr = (through * h) * (R * (vset1(1) - R)); /* 1 */
    REAL *carry = f->carry + r * f->ldh + unit;
    vstore(carry, vfma(through, R, vload(carry)));
    vstore(chunk->da + row * f->ldd + j * 3 * L, dr);
    vstore(chunk->dah + row * f->ldd + j * 2 * L, dr);
    vstore(chunk->rh + row * f->ldh + unit, R * h);
}

static void FN(back_step)(const FN(back) * f, const FN(back_at) * at, intptr_t from, intptr_t to) {
    const intptr_t K = f->blocks * L;
    const FN(left) dah = FN(split_dah)(f, at, from, to);
    FN(sums) sums;
    FM_EACH_GROUP(f->own.from, f->own.to, at->backwards, j, nv) {
        FM_EACH_TILE(from, to, ROWS_MAX(nv), i, m) {
            intptr_t r = at->rank + i * at->stride;
            FN(dh_sums)(&sums, f, f->carry, dah, i - from, j, nv, r, m, at->stride);
            const V *sum = sums.v;
            for (intptr_t rank = r; rank < r + m * at->stride; rank += at->stride)
                for (intptr_t b = j; b < j + nv; b++) FN(back_cell)(f, at, *sum++, b, rank);
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * (to - from) * f->hvectors * L * nv * L)) return;
    }
    if (f->p->option) return;
    fm_meet(&f->p->call, f->team);
    const FN(left) dn = FN(split)(f->parts, at->chunk->dn + (at->first + at->rank + from * at->stride) * f->ldh,
                                  at->stride * f->ldh, to - from, K);
    FM_EACH_GROUP(f->own.from, f->own.to, at->backwards, j, nv) {
        FM_EACH_TILE(from, to, ROWS_MAX(nv), i, m) {
            intptr_t r = at->rank + i * at->stride;
            FN(tiles)[nv][m](0, 0, dn.a + (i - from) * dn.ld, dn.ld, 1, f->w_n + j * FM_PACKED(K) * L, 0, nv * L, K,
                             (REAL *)sums.v, nv * L); /* 2 */
            const V *sum = sums.v;
            for (intptr_t rank = r; rank < r + m * at->stride; rank += at->stride)
                for (intptr_t b = j; b < j + nv; b++) FN(through_cell)(f, at, *sum++, b, rank);
        }
        if (fm_poll(&f->p->call, f->worker, 2.0 * (to - from) * K * nv * L)) return;
    }
}
