/* The multiclass exponential loss, and weights that follow exponents, lanes along the rows; the steps' numbers are
 * reference/exponential.py's. Each chunk has a largest exponent of its own; its total is brought to the largest of all
 * when chunks are added.
 */

#include "vec.h"

#include "wide.h"

#include "act.h"

#undef when

#define when(mask, v) ((V)((INT)(v) & (INT)(mask)))

/* exp x of any x, of inf and -inf too: the square of exp (x / 2), which is in range wherever its square is. */
INLINE V FN(exp_of)(V x) {
    V scale, q;
    FN(exp_parts)(vmax(vset1((REAL)-EXP_MAX), vmin(vset1((REAL)EXP_MAX), vset1((REAL)0.5) * x)), &scale, &q);
    V root = vfma(scale, q, scale);
    return root * root;
}

/* The exponents and weights of L rows, or of the `n` that are left, filled up with what adds nothing. */
INLINE void FN(rows_at)(const fm_weights *p, intptr_t i, intptr_t n, V *x, V *w) {
    const REAL *exponent = (const REAL *)p->exponent + i, *weight = p->sample_weight ? (const REAL *)p->sample_weight + i : 0;
    if (n >= L) {
        *x = vload(exponent);
        *w = weight ? vload(weight) : vset1(1);
        return;
    }
    REAL exponents[L], weights[L];
    for (intptr_t l = 0; l < L; l++) {
        exponents[l] = l < n ? exponent[l] : (REAL)-__builtin_inf();
        weights[l] = l >= n ? 0 : weight ? weight[l] : 1;
    }
    *x = vload(exponents);
    *w = vload(weights);
}

/* 3; where the weight is 0, 0. */
INLINE V FN(weighted)(V x, V w, V shift) { return when(w != vset1(0), w * FN(exp_of)(x - shift)); }

/* 1: a row after the other, each in the order of its classes. The table in place of a choice keeps gcc from masks and from
 * vectors along so few classes: 1.7 in place of 3.2 ms at N = 500,000, K = 5 (float64, AVX-512). */
static void FN(exponent)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    const intptr_t K = p->K;
    const REAL *scores = p->scores, code[2] = {(REAL)(1.0 / (double)(K - 1)), -1};
    REAL *exponent = p->scaled;
    (void)sums;
    for (intptr_t i = start; i < end; i++) {
        const REAL *g = scores + i * K;
        const intptr_t y = p->y[i];
        REAL e = 0;
        for (intptr_t k = 0; k < K; k++) e += code[k == y] * g[k];
        exponent[i] = e;
    }
}

/* 2: sums are most, total, weight and least. */
static void FN(sum)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    const V lowest = vset1((REAL)-__builtin_inf());
    V most = lowest, least = vset1(0), x, w;
    for (intptr_t i = start; i < end; i += L) {
        FN(rows_at)(p, i, end - i, &x, &w);
        most = vmax(most, (V)(((INT)x & (INT)(w > vset1(0))) | ((INT)lowest & ~(INT)(w > vset1(0)))));
        least = vmin(least, w);
    }
    sums[0] = -__builtin_inf();
    sums[3] = 0;
    for (int l = 0; l < L; l++) {
        if ((double)most[l] > sums[0]) sums[0] = (double)most[l];
        if ((double)least[l] < sums[3]) sums[3] = (double)least[l];
    }
    const V shift = vset1(sums[0] > -__builtin_inf() ? (REAL)sums[0] : 0);
    WIDE total[HALVES], weight[HALVES];
    UNROLL for (int h = 0; h < HALVES; h++) total[h] = weight[h] = (WIDE){0};
    for (intptr_t i = start; i < end; i += L) {
        FN(rows_at)(p, i, end - i, &x, &w);
        V e = FN(weighted)(x, w, shift);
        UNROLL for (int h = 0; h < HALVES; h++) {
            total[h] += widened(e, h);
            weight[h] += widened(w, h);
        }
    }
    sums[1] = sums[2] = 0;
    UNROLL for (int h = 0; h < HALVES; h++) {
        sums[1] += FN(sum_of)(total[h]);
        sums[2] += FN(sum_of)(weight[h]);
    }
}

static void FN(update)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    const V shift = vset1((REAL)p->shift), factor = vset1((REAL)p->factor);
    (void)sums;
    V x, w;
    for (intptr_t i = start; i < end; i += L) {
        FN(rows_at)(p, i, end - i, &x, &w);
        FN(store_tail)((REAL *)p->scaled + i, FN(weighted)(x, w, shift) * factor, end - i);
    }
}

/* 4 */
static void FN(gradient)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    const intptr_t K = p->K;
    const REAL one = (REAL)(1.0 / (double)(K - 1)), two = (REAL)(1.0 / ((double)(K - 1) * (double)(K - 1)));
    REAL *gradient = p->gradient, *hessian = p->hessian;
    const V shift = vset1((REAL)p->shift);
    (void)sums;
    V x, w;
    for (intptr_t i = start; i < end; i += L) {
        REAL e[L];
        FN(rows_at)(p, i, end - i, &x, &w);
        vstore(e, FN(weighted)(x, w, shift));
        for (intptr_t l = 0; l < L && i + l < end; l++) {
            const intptr_t row = (i + l) * K, at = row + p->y[i + l];
            if (gradient) {
                for (intptr_t k = 0; k < K; k++) gradient[row + k] = e[l] * one;
                gradient[at] = -e[l];
            }
            if (hessian) {
                for (intptr_t k = 0; k < K; k++) hessian[row + k] = e[l] * two;
                hessian[at] = e[l];
            }
        }
    }
}
