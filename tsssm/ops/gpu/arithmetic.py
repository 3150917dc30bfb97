"""Complex arithmetic, exponentials and the projection to the disc, in float32 and without a branch.

Triton's own exp, sin and cos are approximations of the hardware, whose absolute error is too large for the
small arguments of slow modes. These are Chebyshev interpolants after a reduction of the argument by multiples
of ln 2 or pi split in two parts, with errors below 2 units in the last place of the modulus.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def multiply(ar: tl.tensor, ai: tl.tensor, br: tl.tensor, bi: tl.tensor) -> Any:
    """The product a b."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def multiply_conjugate(ar: tl.tensor, ai: tl.tensor, br: tl.tensor, bi: tl.tensor) -> Any:
    """The product conj(a) b."""
    return ar * br + ai * bi, ar * bi - ai * br


@triton.jit
def add_product(
    cr: tl.tensor, ci: tl.tensor, ar: tl.tensor, ai: tl.tensor, br: tl.tensor, bi: tl.tensor
) -> Any:
    """c + a b, in the order that takes four fused operations."""
    return cr + ar * br - ai * bi, ci + ar * bi + ai * br


@triton.jit
def add_product_conjugate(
    cr: tl.tensor, ci: tl.tensor, ar: tl.tensor, ai: tl.tensor, br: tl.tensor, bi: tl.tensor
) -> Any:
    """c + conj(a) b."""
    return cr + ar * br + ai * bi, ci + ar * bi - ai * br


@triton.jit
def round_to_even(x: tl.tensor) -> Any:
    """The nearest integer to |x| < 2^22; adding 1.5 * 2^23 leaves no bits behind the point."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def expm1(x: tl.tensor) -> Any:
    """exp(x) - 1 of a real number."""
    x = tl.minimum(tl.maximum(x, -87.0), 88.0)
    # As in `round_to_even`, whose sum has n in its lowest bits.
    sum = x * 1.4426950408889634 + 12582912.0
    n = sum - 12582912.0
    r = x - n * 0.693359375 + n * 2.12194440054690583e-4
    p = 1.3933643e-3
    p = p * r + 8.3691496e-3
    p = p * r + 4.1666464e-2
    p = p * r + 1.6666505e-1
    p = p * r + 0.5
    p = p * r + 1.0
    scale = ((sum.to(tl.int32, bitcast=True) + 127) << 23).to(tl.float32, bitcast=True)
    return scale * (p * r) + (scale - 1.0)


@triton.jit
def sin_cosm1(y: tl.tensor) -> Any:
    """sin(y) and cos(y) - 1, the latter without cancellation.

    Taken at half of the angle: 2 sin cos and -2 sin^2 do not depend on the multiple of pi that is removed. An
    angle too large to be reduced counts as 0, so that the results stay within [-1, 1].
    """
    half = tl.where(tl.abs(y) < 1e6, 0.5 * y, 0.0)
    n = round_to_even(half * 0.3183098861837907)
    r = half - n * 3.140625
    r = r - n * 9.67502593994140625e-4
    r = r - n * 1.5099579897537e-7
    q = r * r
    s = 2.60510764e-6
    s = s * q - 1.98090174e-4
    s = s * q + 8.33305017e-3
    s = s * q - 1.66666579e-1
    s = s * q + 1.0
    s = s * r
    c = -2.60506575e-7
    c = c * q + 2.47601097e-5
    c = c * q - 1.38883603e-3
    c = c * q + 4.16666362e-2
    c = c * q - 0.5
    c = c * q + 1.0
    twice = s + s
    return twice * c, -twice * s


@triton.jit
def complex_expm1(zr: tl.tensor, zi: tl.tensor) -> Any:
    """exp(z) - 1."""
    growth = expm1(zr)
    sin, cosm1 = sin_cosm1(zi)
    return growth * cosm1 + (growth + cosm1), growth * sin + sin


@triton.jit
def reciprocal(zr: tl.tensor, zi: tl.tensor) -> Any:
    """1 / z for a modulus whose square neither overflows nor vanishes."""
    factor = 1.0 / (zr * zr + zi * zi)
    return zr * factor, -zi * factor


@triton.jit
def shrink(fr: tl.tensor, fi: tl.tensor, outside: tl.tensor) -> Any:
    """f / |f| where it is outside of the disc, else f; |f|, right outside alone; and 1 / |f| outside, else 0.

    Scaled by its larger part, so that no square overflows, whatever the input.
    """
    scale = tl.maximum(1.0, tl.maximum(tl.abs(fr), tl.abs(fi)))
    sr = fr / scale
    si = fi / scale
    root = tl.where(outside, tl.sqrt(sr * sr + si * si), 1.0)
    return (
        tl.where(outside, sr / root, fr),
        tl.where(outside, si / root, fi),
        scale * root,
        tl.where(outside, 1.0 / scale / root, 0.0),
    )


@triton.jit
def bounded(fr: tl.tensor, fi: tl.tensor) -> Any:
    """f / max(1, |f|), and the factor used: 1 / |f| outside, else 0."""
    pr, pi, _, factor = shrink(fr, fi, fr * fr + fi * fi > 1.0)
    return pr, pi, factor


@triton.jit
def to_disc(tr: tl.tensor, ti: tl.tensor) -> Any:
    """f / max(1, |f|) of f = 1 + t, less one and as it is, and the factor used: 1 / |f| outside, else 0.

    |f|^2 - 1 is formed from t, so that a small step is on the right side of the circle.
    """
    excess = tr * (2.0 + tr) + ti * ti
    outside = excess > 0.0
    pr, pi, modulus, factor = shrink(1.0 + tr, ti, outside)
    near = (tr - excess / (1.0 + modulus)) / modulus
    dr = tl.where(outside, tl.where(excess < 1e30, near, pr - 1.0), tr)
    return dr, pi, pr, pi, factor


@triton.jit
def to_disc_adjoint(pr: tl.tensor, pi: tl.tensor, factor: tl.tensor, gr: tl.tensor, gi: tl.tensor) -> Any:
    """Gradient of f from that of `to_disc` or `bounded`, whose results are the first arguments."""
    radial = pr * gr + pi * gi
    outside = factor > 0.0
    return (
        tl.where(outside, (gr - pr * radial) * factor, gr),
        tl.where(outside, (gi - pi * radial) * factor, gi),
    )
