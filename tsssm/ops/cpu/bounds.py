"""What keeps a liquid recurrence stable: the clipped input, and the closed unit disc for a transition."""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.lanewise import any_of, constant, square_root
from tsssm.ops.cpu.simd import complex_of, conj, imag, real, where


@inline
def clipped(u: Any, bound: Any) -> Any:
    """u within [-bound, bound]; NaN stays NaN."""
    # In this order the compiler finds its instructions for the larger and the smaller of two.
    low = -bound
    v = where(u < low, low, u)
    return where(bound < v, bound, v)


@inline
def clipped_adjoint(u: Any, v: Any, gv: Any) -> Any:
    """Gradients of u and of the bound from that of v, which is `clipped` u."""
    zero = constant(u, "zero")
    above, below = v < u, u < v
    return where(above, zero, where(below, zero, gv)), where(above, gv, where(below, -gv, zero))


@inline
def to_disc(f: Any) -> Any:
    """f / max(1, |f|), and the factor used: 1 / |f| where |f| is above one, else 0."""
    one, zero = constant(f, "one"), constant(f, "zero")
    fr, fi = real(f), imag(f)
    square = fr * fr + fi * fi
    outside = one < square
    if any_of(constant(f, "large square") < square):
        # Scaled by its larger part, so that no square overflows, whatever the input.
        scale = _larger(one, _larger(_larger(fr, -fr), _larger(fi, -fi)))
        sr, si = fr / scale, fi / scale
        modulus = square_root(sr * sr + si * si)
        p, factor = complex_of(sr / modulus, si / modulus), one / scale / modulus
    else:
        factor = one / square_root(square)
        p = f * factor
    return where(outside, p, f), where(outside, factor, zero)


@inline
def is_outside(factor: Any) -> Any:
    """Where `to_disc`, whose second result is ``factor``, has shortened its argument."""
    return constant(factor, "zero") < factor


@inline
def to_disc_adjoint(p: Any, factor: Any, g: Any) -> Any:
    """Gradient of f from that of `to_disc`, whose results are the first arguments."""
    radial = real(conj(p) * g)
    return where(is_outside(factor), (g - p * radial) * factor, g)


@inline
def _larger(a: Any, b: Any) -> Any:
    return where(a < b, b, a)
