"""exp, expm1, sin and cos of a register of channels, without a branch and without the C library.

The argument is reduced by a multiple of ln 2 or of pi/2 split in parts whose products are exact
(Cody and Waite), and a Taylor polynomial does the rest. Largest errors, in units in the last place (ulp):
2 for exp(x) and exp(x) - 1 with x <= 0, 3 for x > 0; for |x| <= 1e4, 2 ulp of 1 for sin, cos and cos - 1,
and 2 ulp of the result for sin and cos - 1 of |x| < pi/4.
"""

from __future__ import annotations

from math import factorial
from typing import Any

from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.lanewise import (
    CONSTANTS,
    POLYNOMIALS,
    constant,
    has_bit,
    polynomial,
    power_of_two,
    round_to_even,
)
from tsssm.ops.cpu.simd import where


def _both(single: float, double: float) -> dict[str, float]:
    return {"float32": single, "float64": double}


CONSTANTS |= {
    "log2(e)": _both(1.4426950408889634, 1.4426950408889634),
    "2/pi": _both(0.6366197723675814, 0.6366197723675814),
    "ln2, high": _both(0.693359375, 6.93145751953125e-1),
    "ln2, low": _both(-2.12194440054690583e-4, 1.42860682030941723212e-6),
    "pi/2, high": _both(1.5703125, 1.57079625129699707031),
    "pi/2, middle": _both(4.837512969970703125e-4, 7.54978941586159635335e-8),
    "pi/2, low": _both(7.54978995489188216e-8, 5.39030285815811905290e-15),
    # exp stays a normal number, so that its scale can be written as an exponent.
    "lowest exponent": _both(-87.0, -708.0),
    "highest exponent": _both(88.0, 709.0),
    "largest angle, squared": _both(1e12, 1e28),
    # A square above this may have overflowed.
    "large square": _both(1e37, 1e300),
}


def _series(terms: dict[str, int], coefficient: Any) -> dict[str, list[float]]:
    return {dtype: [coefficient(k) for k in range(count)] for dtype, count in terms.items()}


POLYNOMIALS |= {
    # (exp(r) - 1) / r for |r| <= ln(2)/2
    "expm1": _series({"float32": 7, "float64": 13}, lambda k: 1 / factorial(k + 1)),
    # sin(r) / r and (cos(r) - 1) / r^2 as polynomials in r^2, for |r| <= pi/4
    "sin": _series({"float32": 5, "float64": 9}, lambda k: (-1) ** k / factorial(2 * k + 1)),
    "cosm1": _series({"float32": 5, "float64": 9}, lambda k: (-1) ** (k + 1) / factorial(2 * k + 2)),
}


@inline
def exp_expm1(x: Any) -> Any:
    """exp(x) and exp(x) - 1, both to their own precision."""
    low, high = constant(x, "lowest exponent"), constant(x, "highest exponent")
    x = where(x < low, low, where(high < x, high, x))
    n = round_to_even(x * constant(x, "log2(e)"))
    r = x - n * constant(x, "ln2, high") - n * constant(x, "ln2, low")
    scale = power_of_two(n)
    p = scale * (r * polynomial(r, "expm1"))
    return p + scale, p + (scale - constant(x, "one"))


@inline
def sin_cos_cosm1(y: Any) -> Any:
    """sin(y), cos(y) and cos(y) - 1, the last without cancellation near multiples of 2 pi.

    An angle too large to be reduced (1e6 in float32, 1e14 in float64) counts as 0, so that the results
    stay in [-1, 1]: rounding leaves such an angle uncertain by a hundredth of a radian and more.
    """
    y = where(constant(y, "largest angle, squared") < y * y, constant(y, "zero"), y)
    q = round_to_even(y * constant(y, "2/pi"))
    r = y - q * constant(y, "pi/2, high") - q * constant(y, "pi/2, middle") - q * constant(y, "pi/2, low")
    square = r * r
    s = r * polynomial(square, "sin")
    c1 = square * polynomial(square, "cosm1")
    c = c1 + constant(y, "one")
    odd, half_turn = has_bit(q, 1), has_bit(q, 2)
    sin, cos = where(odd, c, s), where(odd, s, c)
    sin = where(half_turn, -sin, sin)
    cos = where(has_bit(q + constant(y, "one"), 2), -cos, cos)
    drop = cos - constant(y, "one")
    return sin, cos, where(odd, drop, where(half_turn, drop, c1))
