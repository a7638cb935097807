/* Discrete boosting; the steps' numbers are reference/samme.py's.
 *
 * A byte for each row says which of two numbers it takes, and its expansion to a lane's mask is what limits: every rung
 * has its own.
 */

#include "vec.h"

#include "wide.h"

#undef RIGHT
#undef only
#undef choose
#undef SETS
#undef AHEAD

#define SETS 4 /* of accumulators: additions take 3 or 4 cycles */

/* Bytes of weights between what is computed and what is asked for. Measured (Zen 4, 10,000,000 weights of float64, one
 * thread; an in-place scale by NumPy is 1): update with the next error 1.7 without, 1.8 at 512 bytes, 1.4 at 2048, 1.27 at
 * 5120, 1.32 at 8192. All is bound by reading: the weights alone take 0.88, and the bytes are an eighth more.
 * Tried: two halves of a chunk at once, the error 1.4 in place of 1.1; vectors that begin at whole vectors' addresses, with
 * chains of sums that do not depend on the address, error and update 2.4 in place of 2.2. */
#define AHEAD 5120

/* RIGHT: the lanes whose byte is 0; only(right, w): the weights of those lanes, the others 0; choose: of two numbers. */
#if FM_RUNG == FM_AVX512

#if FM_DTYPE == 32
#define RIGHT __mmask16
#define choose(right, yes, no) _mm512_mask_blend_ps(right, no, yes)
INLINE RIGHT FN(right)(const uint8_t *p) {
    return _mm_testn_epi8_mask(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(-1));
}
#else
#define RIGHT __mmask8
#define choose(right, yes, no) _mm512_mask_blend_pd(right, no, yes)
INLINE RIGHT FN(right)(const uint8_t *p) {
    return (__mmask8)_mm_testn_epi8_mask(_mm_loadl_epi64((const __m128i *)p), _mm_set1_epi8(-1));
}
#endif

#else

#define RIGHT INT
#define only(right, v) ((V)((INT)(v) & (right)))
#if FM_RUNG == FM_AVX2
#if FM_DTYPE == 32
#define choose(right, yes, no) _mm256_blendv_ps(no, yes, (__m256)(right))
INLINE RIGHT FN(right)(const uint8_t *p) {
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return (INT)_mm256_cmpeq_epi32(bytes, _mm256_setzero_si256());
}
#else
#define choose(right, yes, no) _mm256_blendv_pd(no, yes, (__m256d)(right))
INLINE RIGHT FN(right)(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return (INT)_mm256_cmpeq_epi64(_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four)), _mm256_setzero_si256());
}
#endif

#else
#define choose(right, yes, no) ((V)(((INT)(yes) & (right)) | ((INT)(no) & ~(right))))
#if FM_RUNG == FM_BASELINE
#if FM_DTYPE == 32
typedef uint32_t FN(bytes);
#else
typedef uint16_t FN(bytes);
#endif
INLINE RIGHT FN(right)(const uint8_t *p) { /* each byte repeated over its lane */
    FN(bytes) some;
    memcpy(&some, p, L);
    __m128i bytes = _mm_cvtsi32_si128((int)some);
    bytes = _mm_unpacklo_epi8(bytes, bytes);
    bytes = _mm_unpacklo_epi16(bytes, bytes);
    if (L == 2) bytes = _mm_unpacklo_epi32(bytes, bytes);
    return (INT)_mm_cmpeq_epi8(bytes, _mm_setzero_si128());
}
#else
INLINE RIGHT FN(right)(const uint8_t *p) {
    INT bytes;
    UNROLL for (int l = 0; l < L; l++) bytes[l] = p[l];
    return (INT)(bytes == 0);
}
#endif
#endif
#endif

typedef struct FN(masses) {
    WIDE right[SETS], wrong[SETS];
    V least[SETS];
} FN(masses);

INLINE void FN(count)(FN(masses) * m, int set, V w, RIGHT right) {
    UNROLL for (int h = 0; h < HALVES; h++) {
#if FM_RUNG == FM_AVX512
        const __m512d v = widened(w, h);
        const __mmask8 lanes = (__mmask8)(right >> 8 * h);
        m->right[set] = _mm512_mask_add_pd(m->right[set], lanes, m->right[set], v);
        m->wrong[set] = _mm512_mask_add_pd(m->wrong[set], (__mmask8)~lanes, m->wrong[set], v);
#else
        m->right[set] += widened(only(right, w), h);
        m->wrong[set] += widened(only(~right, w), h);
#endif
    }
    m->least[set] = vmin(m->least[set], w);
}

INLINE void FN(add_up)(const FN(masses) * m, double *sums) {
    V least = vmin(vmin(m->least[0], m->least[1]), vmin(m->least[2], m->least[3]));
    sums[0] = FN(sum_of)((m->right[0] + m->right[1]) + (m->right[2] + m->right[3]));
    sums[1] = FN(sum_of)((m->wrong[0] + m->wrong[1]) + (m->wrong[2] + m->wrong[3]));
    sums[2] = 0;
    for (int l = 0; l < L; l++)
        if ((double)least[l] < sums[2]) sums[2] = (double)least[l];
}

/* 1, or 2 and 3, of L rows. */
INLINE void FN(error_of)(const REAL *w, const uint8_t *missed, FN(masses) * m, int set) {
    V weights = vload(w);
#if defined(__GNUC__) && !defined(__clang__) && FM_X86
    __asm__("" : "+v"(weights)); /* or gcc loads it for each use: 1.6 times as long */
#endif
    FN(count)(m, set, weights, FN(right)(missed));
}

INLINE void FN(update_of)(const REAL *w, const uint8_t *missed, V if_right, V if_wrong, const uint8_t *next, REAL *to,
                          FN(masses) * m, int set) {
    V scaled = vload(w) * choose(FN(right)(missed), if_right, if_wrong); /* 2 */
    vstore(to, scaled);
    if (next) FN(count)(m, set, scaled, FN(right)(next)); /* 3 */
}

/* The last rows, filled up with weights of 0. */
INLINE void FN(fill)(const REAL *w, const uint8_t *missed, intptr_t n, REAL *weights, uint8_t *marks) {
    for (intptr_t l = 0; l < L; l++) {
        weights[l] = l < n ? w[l] : 0;
        marks[l] = l < n ? missed[l] : 0;
    }
}

static void FN(error)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    const REAL *w = p->sample_weight;
    FN(masses) m = {0};
    intptr_t i = start;
    for (; i + SETS * L <= end; i += SETS * L)
        UNROLL for (int set = 0; set < SETS; set++) {
            const intptr_t at = i + set * L;
            __builtin_prefetch((const char *)(w + at) + AHEAD);
            if (set == 0) __builtin_prefetch(p->incorrect + at + AHEAD / 8);
            FN(error_of)(w + at, p->incorrect + at, &m, set);
        }
    for (; i < end; i += L) {
        REAL weights[L];
        uint8_t marks[L];
        FN(fill)(w + i, p->incorrect + i, end - i, weights, marks);
        FN(error_of)(weights, marks, &m, 0);
    }
    FN(add_up)(&m, sums);
}

INLINE void FN(update_chunk)(const fm_weights *p, const uint8_t *next, intptr_t start, intptr_t end, double *sums) {
    const REAL *w = p->sample_weight;
    const uint8_t *missed = p->incorrect;
    REAL *to = p->scaled;
    const V if_right = vset1((REAL)p->if_right), if_wrong = vset1((REAL)p->if_wrong);
    FN(masses) m = {0};
    intptr_t i = start;
    for (; i + SETS * L <= end; i += SETS * L)
        UNROLL for (int set = 0; set < SETS; set++) {
            const intptr_t at = i + set * L;
            __builtin_prefetch((const char *)(w + at) + AHEAD);
            if (set == 0) __builtin_prefetch(missed + at + AHEAD / 8);
            if (set == 0 && next) __builtin_prefetch(next + at + AHEAD / 8);
            FN(update_of)(w + at, missed + at, if_right, if_wrong, next ? next + at : 0, to + at, &m, set);
        }
    for (; i < end; i += L) {
        REAL weights[L];
        uint8_t marks[L], marks_next[L];
        const intptr_t n = end - i < L ? end - i : L;
        FN(fill)(w + i, missed + i, n, weights, marks);
        if (next) FN(fill)(w + i, next + i, n, weights, marks_next);
        FN(update_of)(weights, marks, if_right, if_wrong, next ? marks_next : 0, weights, &m, 0);
        memcpy(to + i, weights, n * sizeof(REAL));
    }
    if (next) FN(add_up)(&m, sums);
}

static void FN(update)(const fm_weights *p, intptr_t start, intptr_t end, double *sums) {
    if (p->next_incorrect) FN(update_chunk)(p, p->next_incorrect, start, end, sums);
    else FN(update_chunk)(p, 0, start, end, sums);
}
