/* Vectors of float64, whatever the dtype: what sums are added up in.
 *
 *   WIDE            a register of float64
 *   HALVES          how many of them a V is
 *   widened(v, h)   half h of a V
 */

#undef WIDE
#undef HALVES
#undef widened

#if FM_RUNG == FM_AVX512
#define WIDE __m512d
#elif FM_RUNG == FM_AVX2
#define WIDE __m256d
#elif FM_RUNG == FM_BASELINE
#define WIDE __m128d
#else
#define WIDE float64x2_t
#endif

#if FM_DTYPE == 64
#define HALVES 1
#define widened(v, h) (v)
#else
#define HALVES 2
#if FM_RUNG == FM_AVX512
#define widened(v, h) _mm512_cvtps_pd((h) ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v))
#elif FM_RUNG == FM_AVX2
#define widened(v, h) _mm256_cvtps_pd((h) ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v))
#elif FM_RUNG == FM_BASELINE
#define widened(v, h) _mm_cvtps_pd((h) ? _mm_movehl_ps(v, v) : v)
#else
#define widened(v, h) vcvt_f64_f32((h) ? vget_high_f32(v) : vget_low_f32(v))
#endif
#endif

INLINE double FN(sum_of)(WIDE v) {
    double sum = 0;
    for (int l = 0; l < L / HALVES; l++) sum += v[l];
    return sum;
}
