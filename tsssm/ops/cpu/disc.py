"""The bound of the liquid terms: a complex register shortened to the closed unit disc, and the adjoint."""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.simd import any_of, constant, square_root, where


@inline
def to_disc(fr: Any, fi: Any) -> Any:
    """f / max(1, |f|) as two registers, and the factor used: 1 / |f| where |f| is above one, else 0."""
    one, zero = constant(fr, "one"), constant(fr, "zero")
    square = fr * fr + fi * fi
    outside = one < square
    if any_of(constant(fr, "large square") < square):
        # Scaled by its larger part, so that no square overflows, whatever the input.
        scale = _larger(one, _larger(_larger(fr, -fr), _larger(fi, -fi)))
        sr, si = fr / scale, fi / scale
        modulus = square_root(sr * sr + si * si)
        pr, pi, factor = sr / modulus, si / modulus, one / scale / modulus
    else:
        factor = one / square_root(square)
        pr, pi = fr * factor, fi * factor
    return where(outside, pr, fr), where(outside, pi, fi), where(outside, factor, zero)


@inline
def is_outside(factor: Any) -> Any:
    """Where `to_disc`, whose third result is ``factor``, has shortened its argument."""
    return constant(factor, "zero") < factor


@inline
def to_disc_adjoint(pr: Any, pi: Any, factor: Any, gr: Any, gi: Any) -> Any:
    """Gradient of f from that of `to_disc`, whose results are the first arguments."""
    outside = is_outside(factor)
    radial = pr * gr + pi * gi
    return (
        where(outside, (gr - pr * radial) * factor, gr),
        where(outside, (gi - pi * radial) * factor, gi),
    )


@inline
def _larger(a: Any, b: Any) -> Any:
    return where(a < b, b, a)
