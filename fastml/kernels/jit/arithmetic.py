"""sigmoid and tanh on vectors, from e**x - 1 = 2**n * (e**f - 1) + (2**n - 1) with n = round(x / ln 2), f = x - n ln 2.

exp is from the same; log from ln (2**n m) = n ln 2 + 2 atanh s with s = (m - 1) / (m + 1).

NaN in, NaN out; infinities give the limits.
"""

import math

from numba.extending import intrinsic

from .compiling import inlined
from .simd import at_least, at_most, constant, exponent, fma, fused, power_of_two, unless_below

# (e**f - 1 - f) / f**2 on |f| ≤ ln(2) / 2, lowest power first, with the least largest error relative to e**f - 1
# (1.3e-8 and 2.6e-19): weighted least squares on 400 Chebyshev nodes, reweighted until the error is level (Lawson),
# with 60 digits.
POLYNOMIAL = {
    32: (0.49999998149517109728, 0.16666543422810705535, 0.041667200748953054042, 0.0083665472705582710161,
         0.001388251390591119379),
    64: (0.50000000000000000085, 0.16666666666666676547, 0.041666666666666508142, 0.0083333333333216539905,
         0.001388888888896260889, 1.9841269886073875048e-4, 2.4801587172224130544e-5, 2.755724425379088663e-6,
         2.7557402779716625636e-7, 2.5109024594393681057e-8, 2.087532786194697901e-9),
}  # fmt: skip

# (2 atanh s - 2 s) / s**3 in powers of s**2, from m = sqrt(1/2) to sqrt(2), in the same way, relative to 2 s (8.1e-10
# and 1.2e-18).
ATANH = {
    32: (0.66666776385500647961, 0.39977541199776867744, 0.2987173625374023642),
    64: (0.66666666666667344158, 0.39999999999414659972, 0.28571428742391058215, 0.22222198572876338679,
         0.18183564340485856177, 0.15314050216476030508, 0.14795952807529352827),
}  # fmt: skip


@intrinsic
def _polynomial(typingctx, f):
    def generate(context, builder, sig, args):
        *lower, q = (constant(f.register, c) for c in POLYNOMIAL[f.bits])
        for c in reversed(lower):
            q = fused(builder, q, args[0], c)
        return q

    return f(f), generate


@intrinsic
def _atanh(typingctx, z):
    def generate(context, builder, sig, args):
        *lower, q = (constant(z.register, c) for c in ATANH[z.bits])
        for c in reversed(lower):
            q = fused(builder, q, args[0], c)
        return q

    return z(z), generate


@intrinsic
def _by_dtype(typingctx, x, single, double):
    """`single` where x is of float32, `double` where it is of float64."""
    return x(x, x, x), lambda context, builder, sig, args: args[1 if x.bits == 32 else 2]


@inlined
def _exponential(x):
    """2**n and e**f - 1."""
    magic = _by_dtype(x, 1.5 * 2.0**23, 1.5 * 2.0**52)  # adding it rounds to an integer, left in the sum's last bits
    z = fma(x, 1 / math.log(2), magic)
    n = z - magic
    # ln 2 in two parts, the first of so few bits that n times it is exact without FMA too
    f = fma(n, _by_dtype(x, -0.693359375, -0.693145751953125), x)
    f = fma(n, _by_dtype(x, 2.1219444005469058277e-4, -1.4286068203094172321e-6), f)
    return power_of_two(z), fma(f * f, _polynomial(f), f)


@inlined
def sigmoid(a):
    """1 / (1 + e**-a), within 2.5 ulp; 0 where that would be denormal."""
    limit = _by_dtype(a, 88.0, 709.0)  # e**limit is finite and its reciprocal denormal
    scale, e = _exponential(at_most(at_least(0.0 - a, 0.0 - limit), limit))
    return 1.0 / (1.0 + fma(scale, e, scale))


@inlined
def tanh(a):
    """(e**2a - 1) / (e**2a + 1), within 2.6 ulp, near 0 too."""
    scale, e = _exponential(at_most(at_least(a + a, -40.0), 40.0))  # 1 in either dtype from there on
    e = fma(scale, e, scale - 1.0)
    return e / (e + 2.0)


@inlined
def exp(x, low):
    """e**x, within 1.2 ulp, and 0 where x < low; low ≥ -87 (float32) or -708 (float64), x ≤ 88 or 709."""
    scale, e = _exponential(at_least(x, low))
    return unless_below(x, low, fma(scale, e, scale))


@inlined
def log(x):
    """ln x, within 2.1 ulp, of finite x ≥ 1."""
    n = exponent(x)
    m = x * power_of_two(_by_dtype(x, 1.5 * 2.0**23, 1.5 * 2.0**52) - n)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    # ln 2 in two parts, the first of so few bits that n times it is exact
    low = fma(n, _by_dtype(x, -2.1219444005469058277e-4, 1.4286068203094172321e-6), s * z * _atanh(z))
    return fma(n, _by_dtype(x, 0.693359375, 0.693145751953125), fma(s, 2.0, low))
