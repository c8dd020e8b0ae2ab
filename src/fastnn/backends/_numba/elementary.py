"""exp, log, tanh and their kin of one number, by polynomial in explicit multiply-adds.

Without branches, so that LLVM makes vectors of the loops that call them. The same formulas and
coefficients as csrc/elementary.h; tools/polynomials.py prints them.
"""

from __future__ import annotations

from .intrinsics import (
    absolute,
    constant,
    exponent_of,
    fma,
    fraction_of,
    inlined,
    kernel,
    polynomial,
    power_of_two,
    round_to_whole,
    select,
)

zero, half, one, two, three = (constant(c) for c in (0.0, 0.5, 1.0, 2.0, 3.0))

_expm1_tail = polynomial(
    (5.00000001e-1, 1.66666667e-1, 4.1666465e-2, 8.33331093e-3, 1.39336427e-3, 1.98909827e-4),
    (
        5.0e-1,
        1.6666666666666671e-1,
        4.166666666666667e-2,
        8.3333333333261398e-3,
        1.3888888888883752e-3,
        1.9841269874804215e-4,
        2.4801587325536022e-5,
        2.7557255421023504e-6,
        2.7557273657975951e-7,
        2.5105208339987697e-8,
        2.0914680780540265e-9,
    ),
)
_atanh_tail = polynomial(
    (3.33333333e-1, 2.00000054e-1, 1.42851529e-1, 1.11323556e-1, 8.73235123e-2, 1.03938084e-1),
    (
        3.3333333333333333e-1,
        2.0e-1,
        1.4285714285714281e-1,
        1.1111111111112177e-1,
        9.0909090907813878e-2,
        7.6923077014543407e-2,
        6.6666662431060502e-2,
        5.8823662198762099e-2,
        5.2628688095692284e-2,
        4.7663160338659312e-2,
        4.3009546409725772e-2,
        4.3375605050182168e-2,
        2.1545430510052781e-2,
        7.3668523862634797e-2,
    ),
)
_normal_tail = polynomial(
    (
        4.860558e-1,
        -9.65267562e-2,
        -1.64326238e-2,
        4.51637693e-2,
        -2.27243568e-2,
        1.16224273e-3,
        2.98643326e-3,
        -3.61280544e-4,
        -4.73705649e-4,
        3.16846871e-5,
        5.95988422e-5,
        1.48133742e-6,
    ),
    (
        4.8605579342224869e-1,
        -9.6526757900535238e-2,
        -1.6432180656104546e-2,
        4.5163889896210123e-2,
        -2.2729586395930146e-2,
        1.1607918196002625e-3,
        3.0092685727325918e-3,
        -3.5468833597007449e-4,
        -5.1965961470195769e-4,
        1.7404600924062154e-5,
        1.0400551986306182e-4,
        1.7439740248507977e-5,
        -1.8203353965658393e-5,
        -9.2395985174110782e-6,
        1.2403706372985072e-6,
        2.7121111956581303e-6,
        7.8413896134795841e-7,
        -3.81405051405638e-7,
        -4.1413479195043104e-7,
        -7.8388893515311526e-8,
        1.0597797950701965e-7,
        6.2493644405761285e-8,
        -1.4328582579595302e-8,
        -1.6702353331341009e-8,
        6.8237065907886006e-10,
        1.8702143018049879e-9,
    ),
)
_exp_highest, _exp_lowest = constant(89.0, 710.0), constant(-104.0, -746.0)  # beyond: inf and 0
_ln2_high = constant(float.fromhex("0x1.62e400p-1"), float.fromhex("0x1.62e42fee00000p-1"))
_ln2_low = constant(float.fromhex("0x1.7f7d1cp-20"), float.fromhex("0x1.a39ef35793c76p-33"))
expm1_one = constant(20.0, 40.0)  # from here on e^-x is lost beside 1
least_normal = constant(2.0**-126, 2.0**-1022)
upscale, ln_upscale = (
    constant(2.0**24, 2.0**54),
    constant(24 * 0.6931471805599453, 54 * 0.6931471805599453),
)
greatest = constant(3.4028234663852886e38, 1.7976931348623157e308)
infinity = constant(float("inf"))
two_over_root_pi = constant(1.1283791670955126)
_log2_e, _sqrt_2 = constant(1.4426950408889634), constant(1.4142135623730951)


@inlined
def at_least(low, x):
    """max(low, x); NaN if x is."""
    return select(x < low, low, x)


@inlined
def at_most(high, x):
    """min(high, x); NaN if x is."""
    return select(x > high, high, x)


@inlined
def _expm1_reduced(x):
    """n and e^r - 1: x = n ln 2 + r with |r| <= ln(2) / 2, Cody and Waite's two-part ln 2."""
    n = round_to_whole(x * _log2_e(x))
    r = fma(-n, _ln2_high(x), x)
    r = fma(-n, _ln2_low(x), r)
    return n, fma(r * r, _expm1_tail(r), r)


@kernel
def exp(x):
    x = at_least(_exp_lowest(x), at_most(_exp_highest(x), x))
    n, p = _expm1_reduced(x)
    most = round_to_whole(n * half(x))  # 2^n alone may lie outside the normal numbers
    return (one(x) + p) * power_of_two(most) * power_of_two(n - most)


@kernel
def expm1(x):
    """e^x - 1 for x <= 2 expm1_one, without cancellation near 0."""
    n, p = _expm1_reduced(at_least(-expm1_one(x), x))
    power = power_of_two(n)
    return fma(power, p, power - one(x))


@inlined
def _twice_atanh(s):
    """2 atanh(s), |s| <= 1/3."""
    z = s * s
    return two(s) * fma(s * z, _atanh_tail(z), s)


@kernel
def log(x):
    """ln x for normal x > 0, NaN for infinity and NaN: x = m 2^e, m in [sqrt(1/2), sqrt(2))."""
    e, m = exponent_of(x), fraction_of(x)
    is_high = m > _sqrt_2(x)
    m = select(is_high, m * half(x), m)
    e = select(is_high, e + one(x), e)
    ln_m = _twice_atanh((m - one(x)) / (m + one(x)))
    return fma(e, _ln2_high(x), fma(e, _ln2_low(x), ln_m)) + (x - x)


@inlined
def log1p(x):
    """ln(1 + x), 0 <= x <= 1."""
    return _twice_atanh(x / (two(x) + x))


@kernel
def tanh(x):
    e = expm1(at_most(expm1_one(x), two(x) * absolute(x)))
    t = e / (e + two(x))
    return select(x < zero(x), -t, t)


@kernel
def sigmoid(x):
    """1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    e = exp(-absolute(x))
    return select(x < zero(x), e, one(x)) / (one(x) + e)


@kernel
def softplus(x):
    """ln(1 + e^x) = max(0, x) + ln(1 + e^-|x|)."""
    return at_least(zero(x), x) + log1p(exp(-absolute(x)))


@kernel
def normal_cdf(x):
    """The normal distribution function, and e^(-x^2/2).

    The upper tail is e^(-x^2/2) P(t) / (1 + x), t = (x - 3) / (x + 3), after Shepherd and
    Laframboise, Math. Comp. 36 (1981), for erfc.
    """
    y = at_most(-_exp_lowest(x), absolute(x))
    t = (y - three(x)) / (y + three(x))
    square = y * y
    rest = -fma(-y, y, square)  # the rounding error of y^2, which is put back
    e = exp(-half(x) * at_most(-two(x) * _exp_lowest(x), square))
    density = fma(-half(x) * rest, e, e)
    tail = density * _normal_tail(t) / (one(x) + y)
    return select(x < zero(x), tail, one(x) - tail), density
