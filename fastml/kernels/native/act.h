/* sigmoid and tanh of a vector, from one polynomial.
 *
 * 2^t = 2^n 2^f with n = round(t), |f| <= 1/2, and 2^f - 1 = f P(f). P is a minimax fit (Remez, 60 digits) of
 * (2^f - 1) / f in relative error: degree 5 reaches 1.1e-8, degree 10 reaches 1.8e-17. Keeping 2^f - 1 and not 2^f
 * makes exp(x) - 1, and with it tanh, accurate to the last digits near 0 too, where exp-based tanh loses all.
 *
 *   sigmoid(x) = 1 / (1 + e),  e = exp(-x)               tanh(x) = m / (m + 2),  m = exp(2x) - 1
 *
 * Accuracy, pinned by tests/test_activations.py: a few units in the last place, everywhere, on rungs with fused
 * multiply-add; without it (baseline) the reduction loses |x| / 2 units of a small sigmoid. |tanh| <= 1 and sigmoid >= 0
 * hold by construction: m + 2 rounds to no less than |m|.
 * Tried: two gates by one division, 1 / (d e) and two multiplications, so that an LSTM's cell has 3 divisions in place of 5:
 * 0.96 to 1.00 of the speed over eight shapes (Zen 5), as the chain gets longer.
 * NaN comes through: it is the second operand of vmin / vmax, and 2^n multiplies (adding n to the exponent bits would
 * turn some NaN payloads into numbers).
 */

#undef POLY
#undef SPLIT_HI
#undef SPLIT_LO
#undef MAGIC
#undef LOG2E_HI
#undef LOG2E_LO
#undef EXP_MAX
#undef TANH_MAX

#if FM_DTYPE == 32
#define MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, which then lies in the low bits */
#define LOG2E_HI 1.44269502f
#define LOG2E_LO 1.92596303e-8f
#define EXP_MAX 88.0f /* 2^n is finite, and its sigmoid is denormal, so it counts as 0 */
#define TANH_MAX 9.1f /* tanh is 1 to the last bit from 9.02 on */
#define POLY                                                                                                           \
    {0.693147187927f, 0.240226497949f, 0.0555035743314f, 0.00961823747796f, 0.00133907357419f, 0.000154035196748f}
#else
#define MAGIC 6755399441055744.0
#define LOG2E_HI 1.4426950408889634
#define LOG2E_LO 2.0355273740931033e-17
#define EXP_MAX 709.4
#define TANH_MAX 19.5
#define POLY                                                                                                           \
    {0.6931471805599453112,      0.2402265069591009788,      0.055504108664821235878,   0.0096181291076070701976,      \
     0.0013333558146531890368,   0.0001540353044147431181,   0.000015252733700881565867, 1.3215442727527049294e-6,     \
     1.01781214665980257e-7,     7.0725611368952322607e-9,   4.445508730392994347e-10}
#endif

/* exp(x) = scale * (1 + q), with scale = 2^n; |x| <= EXP_MAX. */
INLINE void FN(exp_parts)(V x, V *scale, V *q) {
    static const REAL P[] = POLY;
    V z = vfma(x, vset1((REAL)LOG2E_HI), vset1((REAL)MAGIC));
    V n = z - vset1((REAL)MAGIC);
    V f = vfma(x, vset1((REAL)LOG2E_LO), vfma(x, vset1((REAL)LOG2E_HI), -n));
    V p = vset1(P[sizeof P / sizeof *P - 1]);
    UNROLL for (int i = (int)(sizeof P / sizeof *P) - 2; i >= 0; i--) p = vfma(p, f, vset1(P[i]));
    *q = p * f;
    *scale = (V)(((INT)z << LOG_MANTISSA) + ((INT){0} + ((int64_t)EXPONENT_BIAS << LOG_MANTISSA)));
}

INLINE V FN(sigmoid)(V x) {
    V scale, q;
    x = vmax(vset1((REAL)-EXP_MAX), vmin(vset1((REAL)EXP_MAX), x));
    FN(exp_parts)(-x, &scale, &q);
    return vset1(1) / (vset1(1) + vfma(scale, q, scale));
}

INLINE V FN(tanh)(V x) {
    V scale, q;
    x = vmax(vset1((REAL)-TANH_MAX), vmin(vset1((REAL)TANH_MAX), x));
    FN(exp_parts)(x + x, &scale, &q);
    V m = vfma(scale, q, scale - vset1(1));
    return m / (m + vset1(2));
}
