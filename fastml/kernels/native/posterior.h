/* From logarithms of weighted densities to responsibilities, a block of rows with its lanes along the rows.
 *
 * l is (K, PITCH): component k of the block's row n at l[k * PITCH + n]. The exponential is act.h's.
 *
 * Accuracy, pinned by tests/test_posteriors.py: log within 2 units in the last place for normal positive numbers, exp
 * within 2 where it does not flush to 0 (without fused multiply-add its reduction loses up to |x| units more).
 */

#undef ROWS
#undef PITCH
#undef SQRT_HALF
#undef LN2_HI
#undef LN2_LO
#undef LOG_POLY
#undef NEGLIGIBLE
#undef vbits
#undef BITS

#define ROWS (16 * L)
#define PITCH (17 * L) /* from number to number: rows 1 KiB apart would share a quarter of the first-level cache's sets */
#define vbits(x) ((INT){0} + (BITS)(x))

#if FM_DTYPE == 32
#define BITS int32_t
#define SQRT_HALF 0x3f3504f3
#define LN2_HI 0.693359375f /* 12 bits: an exponent times it is exact */
#define LN2_LO -2.12194440e-4f
#define LOG_POLY {0.666666850396f, 0.39988780566f, 0.29579949392f}
#define NEGLIGIBLE -30.0f /* half the logarithm of a responsibility that counts as 0 in statistics */
#else
#define BITS int64_t
#define SQRT_HALF 0x3fe6a09e667f3bcdll
#define LN2_HI 0.693147180369123816490 /* 33 bits */
#define LN2_LO 1.90821492927058770002e-10
#define LOG_POLY                                                                                                       \
    {0.66666666666666696862, 0.3999999999989950449,  0.28571428625975484921, 0.22222211134795079855,                   \
     0.1818288912526172208,  0.15331721600556041269, 0.1461644968504340586}
#define NEGLIGIBLE -50.0
#endif

/* ln x = e ln 2 + ln(1 + f) with 1 + f in [sqrt(1/2), sqrt 2), ln(1 + f) = f - s (f - z P(z)), s = f / (2 + f), z = s s. P is
 * an interpolation at Chebyshev's points of (ln((1 + s) / (1 - s)) / s - 2) / z. NaN comes through; x is positive. */
INLINE V FN(log)(V x) {
    static const REAL P[] = LOG_POLY;
    INT bits = (INT)x - SQRT_HALF, e = bits >> LOG_MANTISSA;
    V m = (V)((INT)x - (e << LOG_MANTISSA)), f = m - vset1(1), n = __builtin_convertvector(e, V);
    V s = f / (vset1(2) + f), z = s * s, p = vset1(P[sizeof P / sizeof *P - 1]);
    UNROLL for (int i = (int)(sizeof P / sizeof *P) - 2; i >= 0; i--) p = vfma(p, z, vset1(P[i]));
    V tail = vfma(n, vset1((REAL)LN2_LO), -(s * (f - z * p)));
    V ln = vfma(n, vset1((REAL)LN2_HI), f + tail);
    return (V)(((INT)ln & (INT)(x == x)) | ((INT)x & (INT)(x != x)));
}

/* exp x for EXP_MAX >= -x >= 0, or NaN; 0 from about -87 (-708) on. */
INLINE V FN(exp_within)(V x) {
#if FM_RUNG == FM_AVX512
    static const REAL P[] = POLY;
    V n = vfma(x, vset1((REAL)LOG2E_HI), vset1((REAL)MAGIC)) - vset1((REAL)MAGIC);
    V f = vfma(x, vset1((REAL)LOG2E_LO), vfma(x, vset1((REAL)LOG2E_HI), -n));
    V p = vset1(P[sizeof P / sizeof *P - 1]);
    UNROLL for (int i = (int)(sizeof P / sizeof *P) - 2; i >= 0; i--) p = vfma(p, f, vset1(P[i]));
    p = vfma(p, f, vset1(1));
#if FM_DTYPE == 32
    return _mm512_scalef_ps(p, n);
#else
    return _mm512_scalef_pd(p, n);
#endif
#else
    V scale, q;
    FN(exp_parts)(x, &scale, &q);
    return vfma(scale, q, scale);
#endif
}

/* exp x for x <= 0. */
INLINE V FN(exp)(V x) { return FN(exp_within)(vmax(vset1((REAL)-EXP_MAX), x)); }

/* exp x for x <= 0, and exactly 0 from NEGLIGIBLE on: no subnormal products, and rows that statistics can leave out. */
INLINE V FN(half_posterior)(V x) {
    V e = FN(exp_within)(vmax(vset1((REAL)NEGLIGIBLE - 1), x));
#if FM_RUNG == FM_AVX512 && FM_DTYPE == 32
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, vset1((REAL)NEGLIGIBLE), _CMP_NLE_UQ), e);
#elif FM_RUNG == FM_AVX512
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, vset1((REAL)NEGLIGIBLE), _CMP_NLE_UQ), e);
#else
    return (V)((INT)e & ~(INT)(x <= vset1((REAL)NEGLIGIBLE)));
#endif
}

/* The largest of a row's l, and its place. NaN may hide here: it comes back with the sum of exponentials. */
INLINE V FN(largest)(const REAL *l, intptr_t K, INT *place) {
    V most = vload(l);
    INT at = vbits(0);
    for (intptr_t k = 1; k < K; k++) {
        V x = vload(l + k * PITCH);
        INT more = (INT)(x > most);
        at = (at & ~more) | (vbits(k) & more);
        most = vmax(x, most);
    }
    if (place) *place = at;
    return most;
}

/* h = exp((l - max) / 2), whose squares are proportional to responsibilities: for statistics, so that these are symmetric
 * products of one array with itself. root[n] = sqrt(weight / Σ h²) makes h * root the square root of weight times
 * responsibility. Adds weight times log-likelihood to *total, by lanes. h may be l. */
NOINLINE static void FN(roots)(const REAL *l, intptr_t K, const REAL *weight, REAL *h, REAL *root, V *total) {
    for (intptr_t t = 0; t < ROWS; t += L) {
        V most = FN(largest)(l + t, K, 0), half = vset1((REAL)0.5) * most, sum = vset1(0), w = vload(weight + t);
        for (intptr_t k = 0; k < K; k++) {
            V e = FN(half_posterior)(vfma(vload(l + k * PITCH + t), vset1((REAL)0.5), -half));
            sum = vfma(e, e, sum);
            vstore(h + k * PITCH + t, e);
        }
        vstore(root + t, vsqrt(w / sum));
        *total = vfma(w, most + FN(log)(sum), *total);
    }
}

/* l becomes responsibilities where those are wanted; log-likelihoods and labels of the first `rows` rows go where they
 * belong. */
NOINLINE static void FN(posterior)(REAL *l, intptr_t K, intptr_t rows, int resp, REAL *log_likelihood, intptr_t *labels) {
    for (intptr_t t = 0; t < ROWS; t += L) {
        const intptr_t left = rows - t;
        if (left <= 0) break;
        INT place;
        V most = FN(largest)(l + t, K, &place), sum = vset1(0);
        if (labels)
            for (intptr_t i = 0; i < L && i < left; i++) labels[t + i] = place[i];
        if (!resp && !log_likelihood) continue;
        for (intptr_t k = 0; k < K; k++) {
            V e = FN(exp)(vload(l + k * PITCH + t) - most);
            sum += e;
            if (resp) vstore(l + k * PITCH + t, e);
        }
        if (log_likelihood) FN(store_tail)(log_likelihood + t, most + FN(log)(sum), left);
        if (resp)
            for (intptr_t k = 0; k < K; k++) vstore(l + k * PITCH + t, vload(l + k * PITCH + t) / sum);
    }
}

/* to[n][k] = from[k][n] for the first `rows` rows. */
NOINLINE static void FN(rows_out)(const REAL *from, intptr_t K, intptr_t rows, REAL *to) {
    for (intptr_t t = 0; t < rows; t += L)
        for (intptr_t k = 0; k < K; k += L) {
            V block[L];
            for (intptr_t i = 0; i < L; i++) block[i] = k + i < K ? vload(from + (k + i) * PITCH + t) : vset1(0);
            FN(transpose)(block);
            for (intptr_t i = 0; i < L && t + i < rows; i++) FN(store_tail)(to + (t + i) * K + k, block[i], K - k);
        }
}

#if !defined(__clang__)
/* to[d][n] = from[n][d] for L rows of D numbers, D vectors one behind the other: each output is put together from all of
 * them. A transposition of L x L would waste most of its work. */
INLINE void FN(few_in)(const int D, const REAL *from, REAL *to) {
    V x[4];
    UNROLL for (int v = 0; v < D; v++) x[v] = vload(from + v * L);
    UNROLL for (int d = 0; d < D; d++) {
        V out = x[0];
        UNROLL for (int v = 1; v < D; v++) {
#define AT(l) ((l) * D + d)
#define PLACE(l) AT(l) / L == v ? L + AT(l) % L : v == 1 ? AT(l) % L : (l)
            out = __builtin_shuffle(out, x[v], (INT){LANES(PLACE)});
#undef AT
#undef PLACE
        }
        vstore(to + d * PITCH, out);
    }
}
#endif

/* to[d][n] = from[n][d] for the first `rows` rows, of D numbers; the rows after the last repeat it, so that they are as
 * finite as the others. The block after this one is asked for from memory meanwhile: without that, reading took 40 % of a
 * step at (200000,16,16,diag). */
NOINLINE static void FN(rows_in)(const REAL *from, intptr_t D, intptr_t rows, REAL *to) {
    for (intptr_t t = 0; t < ROWS; t += L) {
#if !defined(__clang__)
        if (D <= 4 && t + L <= rows) {
            __builtin_prefetch(from + (t + ROWS) * D);
            __builtin_prefetch(from + (t + ROWS) * D + 2 * L);
            switch (D) {
            case 1: FN(few_in)(1, from + t, to + t); break;
            case 2: FN(few_in)(2, from + t * 2, to + t); break;
            case 3: FN(few_in)(3, from + t * 3, to + t); break;
            default: FN(few_in)(4, from + t * 4, to + t);
            }
            continue;
        }
#endif
        for (intptr_t d = 0; d < D; d += L) {
            V block[L];
            for (intptr_t i = 0; i < L; i++) {
                const REAL *row = from + (t + i < rows ? t + i : rows - 1) * D + d;
                block[i] = FN(load_tail)(row, D - d);
                __builtin_prefetch(row + ROWS * D);
            }
            FN(transpose)(block);
            for (intptr_t i = 0; i < L && d + i < D; i++) vstore(to + (d + i) * PITCH + t, block[i]);
        }
    }
}

/* The weights of a block's rows: 1 where none are given, 0 beyond the last. */
INLINE void FN(row_weights)(const REAL *given, intptr_t rows, REAL *weight) {
    for (intptr_t n = 0; n < ROWS; n++) weight[n] = n < rows ? (given ? given[n] : 1) : 0;
}

/* The sum of a vector's lanes, in the order of the lanes. */
INLINE double FN(lanes)(V v) {
    double sum = 0;
    for (int l = 0; l < L; l++) sum += (double)v[l];
    return sum;
}

/* sums[i] = the sum over lanes of vectors[i], n of them. */
INLINE void FN(lane_sums)(const REAL *vectors, intptr_t n, double *sums) {
    for (intptr_t i = 0; i < n; i += L) {
        V block[L];
        REAL out[L];
        for (intptr_t j = 0; j < L; j++) block[j] = i + j < n ? vload(vectors + (i + j) * L) : vset1(0);
        FN(transpose)(block);
        V sum = block[0];
        for (int j = 1; j < L; j++) sum += block[j];
        vstore(out, sum);
        for (intptr_t j = 0; j < L && i + j < n; j++) sums[i + j] = (double)out[j];
    }
}
