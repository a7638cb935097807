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
    const REAL *w_hh = p->w_hh, *b_hh = p->b_hh, *candidate = w_hh + 2 * H * H;
    FN(pack_gates)(3, p->w_ih, H, p->I, f->w_ih, worker, workers);
    if (p->option) {
        FN(pack_gates)(3, w_hh, H, H, f->w_hh, worker, workers);
    } else {
        FN(pack_gates)(2, w_hh, H, H, f->w_hh, worker, workers);
        FN(pack_gates)(1, candidate, H, H, f->w_n, worker, workers);
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

/* Reset after. MR rows from r on, NB blocks of L hidden units from block j on. */
INLINE void FN(after_tile)(const int MR, const int NB, const FN(run) * f, const FN(at) * at, intptr_t j, intptr_t r) {
    const intptr_t H = f->H;
    V acc[MR * NB * 3];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int b = 0; b < NB; b++) {
        const REAL *x = at->projected + (r + m) * f->ldp + (j + b) * 3 * L;
        V *a = acc + (m * NB + b) * 3;
        a[0] = vload(x), a[1] = vload(x + L), a[2] = vload(f->b_n + (j + b) * L);
    }
    FN(accumulate)(acc, MR, NB, 3, at->h_in + r * f->ldh, f->ldh, 1, f->w_hh + j * H * 3 * L, H * 3 * L, 3 * L, H); /* 1 */
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int b = 0; b < NB; b++) {
        const V *a = acc + (m * NB + b) * 3;
        V R = FN(sigmoid)(a[0]), z = FN(sigmoid)(a[1]);
        V n = FN(tanh)(vfma(R, a[2], vload(at->projected + (r + m) * f->ldp + ((j + b) * 3 + 2) * L))); /* 2 */
        FN(new_state)(f, at, r + m, (j + b) * L, R, z, n, a[2]);
    }
}

/* Reset before, first product: r and z, and the reset state for the second. */
INLINE void FN(reset_tile)(const int MR, const int NB, const FN(run) * f, const FN(at) * at, intptr_t j, intptr_t r) {
    const intptr_t H = f->H;
    V acc[MR * NB * 2];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int b = 0; b < NB; b++) UNROLL for (int g = 0; g < 2; g++)
        acc[(m * NB + b) * 2 + g] = vload(at->projected + (r + m) * f->ldp + ((j + b) * 3 + g) * L);
    FN(accumulate)(acc, MR, NB, 2, at->h_in + r * f->ldh, f->ldh, 1, f->w_hh + j * H * 2 * L, H * 2 * L, 2 * L, H); /* 1 */
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int b = 0; b < NB; b++) {
        const V *a = acc + (m * NB + b) * 2;
        intptr_t place = (r + m) * f->ldh + (j + b) * L;
        V R = FN(sigmoid)(a[0]);
        vstore(f->rh + place, R * vload(at->h_in + place));
        vstore(f->z + place, FN(sigmoid)(a[1]));
        if (f->p->gates)
            FN(store_tail)((REAL *)f->p->gates + at->saved_rows[r + m] * 4 * H + (j + b) * L, R, H - (j + b) * L);
    }
}

/* Reset before, second product: the candidate and the new state. */
INLINE void FN(candidate_tile)(const int MR, const int NV, const FN(run) * f, const FN(at) * at, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H;
    V acc[MR * NV];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++)
        acc[m * NV + v] = vload(at->projected + (r + m) * f->ldp + ((j + v) * 3 + 2) * L);
    FN(accumulate)(acc, MR, 1, NV, f->rh + r * f->ldh, f->ldh, 1, f->w_n + j * H * L, 0, NV * L, H);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        intptr_t unit = (j + v) * L, place = (r + m) * f->ldh + unit;
        V R = FN(zero)();
        if (p->gates) R = FN(load_tail)((const REAL *)p->gates + at->saved_rows[r + m] * 4 * H + unit, H - unit);
        FN(new_state)(f, at, r + m, unit, R, vload(f->z + place), FN(tanh)(acc[m * NV + v]), vload(at->h_in + place)); /* 2 */
    }
}

static void FN(step)(const FN(run) * f, const FN(at) * at) {
    const int after = f->p->option;
    for (intptr_t i = 0, nb; i < f->blocks; i += nb) {
        nb = at->n <= 2 && f->blocks - i > 1 ? 2 : 1; /* one or two rows: two blocks hide the latency of the chains */
        intptr_t j = at->backwards ? f->blocks - i - nb : i;
#define AFTER(MR, NV) FN(after_tile)(MR, 1, f, at, j, r)
#define BEFORE(MR, NV) FN(reset_tile)(MR, 1, f, at, j, r)
        if (nb == 2) {
            if (after && at->n == 1) FN(after_tile)(1, 2, f, at, j, 0);
            else if (after) FN(after_tile)(2, 2, f, at, j, 0);
            else if (at->n == 1) FN(reset_tile)(1, 2, f, at, j, 0);
            else FN(reset_tile)(2, 2, f, at, j, 0);
        } else if (after) {
            FM_EACH_TILE(0, at->n, ROWS_MAX(3), r, m) { FM_ROWS(m, 3, AFTER) }
        } else {
            FM_EACH_TILE(0, at->n, ROWS_MAX(2), r, m) { FM_ROWS(m, 2, BEFORE) }
        }
#undef AFTER
#undef BEFORE
    }
    if (after) return;
    for (intptr_t j = 0, nv; j < f->blocks; j += nv) {
        nv = GROUP(f->blocks - j);
        FM_EACH_TILE(0, at->n, ROWS_MAX(nv), r, m) {
#define CALL(MR, NV) FN(candidate_tile)(MR, NV, f, at, j, r)
            FM_TILE(m, nv, CALL)
#undef CALL
        }
    }
}

static void FN(back_weights)(FN(back) * f, intptr_t worker, intptr_t workers) {
    const fm_pass *p = f->p;
    const intptr_t H = p->H;
    FN(pack_columns)(3, p->w_ih, H, p->I, f->w_ih, worker, workers);
    if (p->option) {
        FN(pack_columns)(3, p->w_hh, H, H, f->w_hh, worker, workers);
    } else {
        FN(pack_columns)(2, p->w_hh, H, H, f->w_hh, worker, workers);
        FN(pack_columns)(1, (const REAL *)p->w_hh + 2 * H * H, H, H, f->w_n, worker, workers);
    }
}

/* Everything that follows from dh alone; with the reset after the product, that is all. */
INLINE void FN(back_tile)(const int MR, const int NV, const FN(back) * f, const FN(back_at) * at, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H;
    const FN(chunk) *chunk = at->chunk;
    V acc[MR * NV];
    FN(dh_sums)(acc, MR, NV, f, f->carry, at->dah_next, j, r, at->step);
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        intptr_t unit = (j + v) * L, left = H - unit, row = at->first + r + m * at->step;
        const REAL *saved = (const REAL *)p->gates + chunk->saved_rows[row] * 4 * H + unit;
        V dh = acc[m * NV + v] + FN(load_tail)((const REAL *)p->dy + chunk->time_rows[row] * H + unit, left);
        V R = FN(load_tail)(saved, left), z = FN(load_tail)(saved + H, left), n = FN(load_tail)(saved + 2 * H, left);
        V one = vset1(1);
        V dz = (dh * (vload(chunk->hs + row * f->ldh + unit) - n)) * (z * (one - z)); /* 3 */
        V dn = (dh * (one - z)) * (one - n * n);                                      /* 2 */
        REAL *da = chunk->da + row * f->ldd + (j + v) * 3 * L;
        vstore(f->carry + (r + m * at->step) * f->ldh + unit, dh * z);
        vstore(da + L, dz);
        vstore(da + 2 * L, dn);
        if (p->option) {
            V dr = (dn * FN(load_tail)(saved + 3 * H, left)) * (R * (one - R)); /* 1 */
            REAL *dah = chunk->dah + row * f->ldd + (j + v) * 3 * L;
            vstore(da, dr);
            vstore(dah, dr);
            vstore(dah + L, dz);
            vstore(dah + 2 * L, dn * R);
        } else {
            vstore(chunk->dah + row * f->ldd + ((j + v) * 2 + 1) * L, dz);
            vstore(chunk->dn + row * f->ldh + unit, dn);
        }
    }
}

/* Reset before: the candidate's gradient goes through its own product to the reset gate and the state. */
INLINE void FN(through_tile)(const int MR, const int NV, const FN(back) * f, const FN(back_at) * at, intptr_t j, intptr_t r) {
    const fm_pass *p = f->p;
    const intptr_t H = f->H, K = f->blocks * L;
    const FN(chunk) *chunk = at->chunk;
    V acc[MR * NV];
    UNROLL for (int i = 0; i < MR * NV; i++) acc[i] = FN(zero)();
    FN(accumulate)(acc, MR, 1, NV, chunk->dn + (at->first + r) * f->ldh, at->step * f->ldh, 1, f->w_n + j * K * L, 0, NV * L, K); /* 2 */
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int v = 0; v < NV; v++) {
        intptr_t unit = (j + v) * L, row = at->first + r + m * at->step;
        V R = FN(load_tail)((const REAL *)p->gates + chunk->saved_rows[row] * 4 * H + unit, H - unit);
        V h = vload(chunk->hs + row * f->ldh + unit), through = acc[m * NV + v];
        V dr = (through * h) * (R * (vset1(1) - R)); /* 1 */
        REAL *carry = f->carry + (r + m * at->step) * f->ldh + unit;
        vstore(carry, vfma(through, R, vload(carry)));
        vstore(chunk->da + row * f->ldd + (j + v) * 3 * L, dr);
        vstore(chunk->dah + row * f->ldd + (j + v) * 2 * L, dr);
        vstore(chunk->rh + row * f->ldh + unit, R * h);
    }
}

static void FN(back_step)(const FN(back) * f, const FN(back_at) * at, intptr_t worker, intptr_t from, intptr_t to) {
#define BACK(MR, NV) FN(back_tile)(MR, NV, f, at, j, worker + i * at->step)
#define THROUGH(MR, NV) FN(through_tile)(MR, NV, f, at, j, worker + i * at->step)
    for (intptr_t j = 0, nv; j < f->blocks; j += nv) {
        nv = GROUP(f->blocks - j);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), i, m) { FM_TILE(m, nv, BACK) }
    }
    if (f->p->option) return;
    for (intptr_t j = 0, nv; j < f->blocks; j += nv) {
        nv = GROUP(f->blocks - j);
        FM_EACH_TILE(from, to, ROWS_MAX(nv), i, m) { FM_TILE(m, nv, THROUGH) }
    }
#undef BACK
#undef THROUGH
}
