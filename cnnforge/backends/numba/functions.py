"""Functions of vectors, for kernels.

``x``, ``u``: Lanes. Each reduces its argument to a short interval, where a polynomial takes over. The coefficients are
our own: least squares in Chebyshev's basis at Chebyshev's points of the interval, weighted by the wanted relative error
and reweighted until the error is even (Lawson, 1961), in float64, then rounded to float32; below 4e-8 by themselves.
Measured against float64, in units of 2^-24 of the result: exp 1.4, expm1 1.3, log1p 2.7, softplus 3, sigmoid 2, tanh
2.5, the normal share 10 at -5, where the square's own rounding shows, and fewer above.
What is nan stays nan, infinities give limits.
"""

from __future__ import annotations

from typing import Any

from cnnforge.backends.numba.signature import part
from cnnforge.backends.numba.vectors import (
    bits,
    fma,
    from_bits,
    larger,
    magnitude,
    smaller,
    splat,
    splat_int,
    where,
)

_LOG2_E = 1.4426950408889634
#: ln 2 in two parts: the first has few digits, so that its product with a small whole number is exact.
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723e-6
#: Adding it leaves a number's whole part in the low bits.
_ROUND, _ROUND_BITS = 12582912.0, 0x4B400000


@part
def _reduced(x: Any) -> tuple[Any, Any]:
    """(e^r - 1, n) with x = n ln 2 + r, |r| <= ln 2 / 2. |x| < 2^20."""
    shifted = fma(x, splat(_LOG2_E), splat(_ROUND))
    whole = shifted - splat(_ROUND)
    r = fma(whole, splat(-_LN2_LOW), fma(whole, splat(-_LN2_HIGH), x))
    q = fma(splat(0.00138825073), r, splat(0.00836658012))
    q = fma(fma(fma(q, r, splat(0.0416672006)), r, splat(0.166665435)), r, splat(0.49999997))
    return fma(r * r, q, r), bits(shifted) - splat_int(_ROUND_BITS)


@part
def _power_of_two(n: Any) -> Any:
    """2^n, -126 <= n <= 127."""
    return from_bits((n + splat_int(127)) << splat_int(23))


@part
def exp(x: Any) -> Any:
    """e^x, inf above 88.7, 0 below -104."""
    p, n = _reduced(smaller(splat(89), larger(splat(-105), x)))
    half = n >> splat_int(1)
    return (p + splat(1)) * _power_of_two(half) * _power_of_two(n - half)


@part
def expm1_below(x: Any) -> Any:
    """e^x - 1 of x <= 0, with all digits near 0."""
    p, n = _reduced(larger(splat(-20), x))
    power = _power_of_two(n)
    return fma(p, power, power - splat(1))


@part
def log1p_of_share(u: Any) -> Any:
    """log(1 + u) of 0 <= u <= 1: 2 atanh(s), s = u / (2 + u)."""
    s = u / (u + splat(2))
    square = s * s
    q = fma(fma(splat(0.140122324), square, splat(0.139995694)), square, splat(0.200108498))
    double = s + s
    return fma(double * square, fma(q, square, splat(0.333332062)), double)


@part
def softplus(x: Any) -> Any:
    """log(1 + e^x)."""
    return larger(splat(0), x) + log1p_of_share(exp(-magnitude(x)))


@part
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return splat(1) / (splat(1) + exp(-x))


@part
def tanh(x: Any) -> Any:
    """With e = e^(-2 |x|) - 1: -e / (2 + e), and the sign of x."""
    e = expm1_below(splat(-2) * magnitude(x))
    t = e / (e + splat(2))
    return where(x < splat(0), t, -t)


@part
def normal_share(x: Any) -> tuple[Any, Any]:
    """(the share of a standard normal below x, e^(-x^2 / 2)).

    The share beyond |x| is the second times t P(t), t = 1 / (1 + 0.35 |x|): small shares keep their digits.
    """
    t = splat(1) / fma(magnitude(x), splat(0.35), splat(1))
    p = fma(splat(-0.0291580297), t, splat(0.144031614))
    p = fma(fma(p, t, splat(-0.255840391)), t, splat(0.159321249))
    p = fma(fma(p, t, splat(-0.023213394)), t, splat(0.105552927))
    p = fma(fma(fma(p, t, splat(0.119821183)), t, splat(0.139863536)), t, splat(0.139621302))
    density = exp(splat(-0.5) * x * x)
    beyond = density * t * p
    return where(x > splat(0), splat(1) - beyond, beyond), density
