/* One vector type and its dozen operations, for the dtype and rung being included (ladder.h).
 *
 *   V, L            the vector and its lanes; + - * / and ?: are the compiler's own on vector types
 *   REAL, INT       the scalar, and the integer vector of the same lanes
 *   vfma(a, b, c)   a * b + c; fused wherever the rung has it, and never fused where it is not written so
 *   vsqrt(a)        rounded correctly on every rung
 *   vmin, vmax      NaN in the SECOND operand comes through (x86's own rule; NEON propagates both)
 *   vloadn, vstoren the first n lanes, 0 < n < L; loads fill with zeros, nothing beyond is touched
 *
 * vset1 from memory must become a broadcast on a load port: `x + (V){0}` is not an identity (x = -0.0) and makes gcc
 * add and shuffle on the ports of the multiply-adds, a third of the peak.
 */

#undef REAL
#undef L
#undef V
#undef INT
#undef LOG_MANTISSA
#undef EXPONENT_BIAS
#undef vload
#undef vstore
#undef vset1
#undef vfma
#undef vmin
#undef vmax
#undef vsqrt
#undef vloadn
#undef vstoren
#undef ROWS4
#undef ROWS3
#undef LANES

#if FM_DTYPE == 32
#define REAL float
#define LOG_MANTISSA 23
#define EXPONENT_BIAS 127
#else
#define REAL double
#define LOG_MANTISSA 52
#define EXPONENT_BIAS 1023
#endif

#define V FN(v)
#define INT FN(vi)

/* ROWS4, ROWS3: the rows of a register tile that is 4 or 3 vectors wide. Of 32 registers 24 accumulate and 4 hold
 * weights; of 16, 12 and 1. */

#if FM_RUNG == FM_AVX512 || FM_RUNG == FM_AMX

#define ROWS4 6
#define ROWS3 8
#if FM_DTYPE == 32
typedef __m512 V;
#define L 16
#define vload(p) _mm512_loadu_ps(p)
#define vstore(p, v) _mm512_storeu_ps(p, v)
#define vset1(x) _mm512_set1_ps(x)
#define vfma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vmin(a, b) _mm512_min_ps(a, b)
#define vmax(a, b) _mm512_max_ps(a, b)
#define vsqrt(a) _mm512_sqrt_ps(a)
#define vloadn(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define vstoren(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), v)
#else
typedef __m512d V;
#define L 8
#define vload(p) _mm512_loadu_pd(p)
#define vstore(p, v) _mm512_storeu_pd(p, v)
#define vset1(x) _mm512_set1_pd(x)
#define vfma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vmin(a, b) _mm512_min_pd(a, b)
#define vmax(a, b) _mm512_max_pd(a, b)
#define vsqrt(a) _mm512_sqrt_pd(a)
#define vloadn(p, n) _mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1), p)
#define vstoren(p, v, n) _mm512_mask_storeu_pd(p, (__mmask8)((1u << (n)) - 1), v)
#endif

#elif FM_RUNG == FM_AVX2

#define ROWS4 3
#define ROWS3 4
#if FM_DTYPE == 32
typedef __m256 V;
#define L 8
#define vload(p) _mm256_loadu_ps(p)
#define vstore(p, v) _mm256_storeu_ps(p, v)
#define vset1(x) _mm256_set1_ps(x)
#define vfma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vmin(a, b) _mm256_min_ps(a, b)
#define vmax(a, b) _mm256_max_ps(a, b)
#define vsqrt(a) _mm256_sqrt_ps(a)
#define LANES_BELOW(n) _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define vloadn(p, n) _mm256_maskload_ps(p, LANES_BELOW(n))
#define vstoren(p, v, n) _mm256_maskstore_ps(p, LANES_BELOW(n), v)
#else
typedef __m256d V;
#define L 4
#define vload(p) _mm256_loadu_pd(p)
#define vstore(p, v) _mm256_storeu_pd(p, v)
#define vset1(x) _mm256_set1_pd(x)
#define vfma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vmin(a, b) _mm256_min_pd(a, b)
#define vmax(a, b) _mm256_max_pd(a, b)
#define vsqrt(a) _mm256_sqrt_pd(a)
#undef LANES_BELOW
#define LANES_BELOW(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
#define vloadn(p, n) _mm256_maskload_pd(p, LANES_BELOW(n))
#define vstoren(p, v, n) _mm256_maskstore_pd(p, LANES_BELOW(n), v)
#endif

#elif FM_RUNG == FM_BASELINE

#define ROWS4 3
#define ROWS3 4
#if FM_DTYPE == 32
typedef __m128 V;
#define L 4
#define vload(p) _mm_loadu_ps(p)
#define vstore(p, v) _mm_storeu_ps(p, v)
#define vset1(x) _mm_set1_ps(x)
#define vmin(a, b) _mm_min_ps(a, b)
#define vmax(a, b) _mm_max_ps(a, b)
#define vsqrt(a) _mm_sqrt_ps(a)
#else
typedef __m128d V;
#define L 2
#define vload(p) _mm_loadu_pd(p)
#define vstore(p, v) _mm_storeu_pd(p, v)
#define vset1(x) _mm_set1_pd(x)
#define vmin(a, b) _mm_min_pd(a, b)
#define vmax(a, b) _mm_max_pd(a, b)
#define vsqrt(a) _mm_sqrt_pd(a)
#endif
#define vfma(a, b, c) ((a) * (b) + (c))

#else /* NEON */

#define ROWS4 6
#define ROWS3 8
#if FM_DTYPE == 32
typedef float32x4_t V;
#define L 4
#define vload(p) vld1q_f32(p)
#define vstore(p, v) vst1q_f32(p, v)
#define vset1(x) vdupq_n_f32(x)
#define vfma(a, b, c) vfmaq_f32(c, a, b)
#define vmin(a, b) vminq_f32(a, b)
#define vmax(a, b) vmaxq_f32(a, b)
#define vsqrt(a) vsqrtq_f32(a)
#else
typedef float64x2_t V;
#define L 2
#define vload(p) vld1q_f64(p)
#define vstore(p, v) vst1q_f64(p, v)
#define vset1(x) vdupq_n_f64(x)
#define vfma(a, b, c) vfmaq_f64(c, a, b)
#define vmin(a, b) vminq_f64(a, b)
#define vmax(a, b) vmaxq_f64(a, b)
#define vsqrt(a) vsqrtq_f64(a)
#endif

#endif

/* LANES(f): f(0), f(1), … f(L - 1). An INT written so is a constant; written lane by lane in a loop, gcc 12 put it together
 * anew wherever it was used, 111 broadcasts for the shuffles of one transposition. */
#define FM_LANES2(f) f(0), f(1)
#define FM_LANES4(f) FM_LANES2(f), f(2), f(3)
#define FM_LANES8(f) FM_LANES4(f), f(4), f(5), f(6), f(7)
#define FM_LANES16(f) FM_LANES8(f), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
#if L == 16
#define LANES(f) FM_LANES16(f)
#elif L == 8
#define LANES(f) FM_LANES8(f)
#elif L == 4
#define LANES(f) FM_LANES4(f)
#else
#define LANES(f) FM_LANES2(f)
#endif

#if FM_DTYPE == 32
typedef int32_t INT __attribute__((vector_size(4 * L)));
#else
typedef int64_t INT __attribute__((vector_size(8 * L)));
#endif

#ifndef vloadn /* no masks on this rung */
INLINE V FN(loadn)(const REAL *p, intptr_t n) {
    REAL lanes[L] = {0};
    for (intptr_t l = 0; l < n; l++) lanes[l] = p[l];
    return vload(lanes);
}
INLINE void FN(storen)(REAL *p, V v, intptr_t n) {
    REAL lanes[L];
    vstore(lanes, v);
    for (intptr_t l = 0; l < n; l++) p[l] = lanes[l];
}
#define vloadn(p, n) FN(loadn)(p, n)
#define vstoren(p, v, n) FN(storen)(p, v, n)
#endif

/* A vector that may be the last, cut one of a row: n is what is left of the row. */
INLINE V FN(load_tail)(const REAL *p, intptr_t n) { return n >= L ? vload(p) : vloadn(p, n); }
INLINE void FN(store_tail)(REAL *p, V v, intptr_t n) {
    if (n >= L) vstore(p, v);
    else vstoren(p, v, n);
}

/* Transposes L vectors of L lanes in registers, L log2(L) shuffles: at every stage, lanes whose number has the stage's bit
 * change places between vectors a stage apart. */
#if defined(__clang__)
INLINE void FN(transpose)(V *rows) {
    REAL from[L * L], to[L * L];
    for (int i = 0; i < L; i++) vstore(from + i * L, rows[i]);
    for (int i = 0; i < L * L; i++) to[i % L * L + i / L] = from[i];
    for (int i = 0; i < L; i++) rows[i] = vload(to + i * L);
}
#else
INLINE void FN(transpose)(V *rows) {
    UNROLL for (int stage = L / 2; stage > 0; stage /= 2) {
#define LOW(l) (l) & stage ? L + (l)-stage : (l)
#define HIGH(l) (l) & stage ? L + (l) : (l) + stage
        const INT low = {LANES(LOW)}, high = {LANES(HIGH)};
#undef LOW
#undef HIGH
        UNROLL for (int i = 0; i < L; i++) {
            if (i & stage) continue;
            V a = rows[i], b = rows[i + stage];
            rows[i] = __builtin_shuffle(a, b, low);
            rows[i + stage] = __builtin_shuffle(a, b, high);
        }
    }
}
#endif

/* Lane l of the answer is lane (l + d) % L. */
#if defined(__clang__)
INLINE V FN(rotate)(V x, int d) {
    REAL lanes[2 * L];
    vstore(lanes, x);
    vstore(lanes + L, x);
    return vload(lanes + d);
}
#else
INLINE V FN(rotate)(V x, int d) {
#define FROM(l) ((l) + d) % L
    return __builtin_shuffle(x, (INT){LANES(FROM)});
#undef FROM
}
#endif
