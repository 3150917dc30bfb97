"""The bound of the liquid terms: a complex register shortened to the closed unit disc, and the adjoint."""

from __future__ import annotations

from typing import Any

from numba import njit

from tsssm.ops.cpu.simd import constant, square_root, where


@njit(forceinline=True)
def to_disc(fr: Any, fi: Any) -> Any:
    """f / max(1, |f|) as two registers, 1 / max(1, |f|), and where |f| is above one."""
    one = constant(fr, "one")
    # Scaled by its larger part, so that no square overflows, whatever the input.
    inverse_scale = one / _larger(one, _larger(_larger(fr, -fr), _larger(fi, -fi)))
    sr, si = fr * inverse_scale, fi * inverse_scale
    modulus = square_root(sr * sr + si * si)
    outside = inverse_scale < modulus
    # Inside, the modulus may be 0.
    inverse = one / where(outside, modulus, one)
    return (
        where(outside, sr * inverse, fr),
        where(outside, si * inverse, fi),
        where(outside, inverse_scale * inverse, one),
        outside,
    )


@njit(forceinline=True)
def to_disc_adjoint(pr: Any, pi: Any, factor: Any, outside: Any, gr: Any, gi: Any) -> Any:
    """Gradient of f from that of `to_disc`, whose results are the first arguments."""
    radial = pr * gr + pi * gi
    return (
        where(outside, (gr - pr * radial) * factor, gr),
        where(outside, (gi - pi * radial) * factor, gi),
    )


@njit(forceinline=True)
def _larger(a: Any, b: Any) -> Any:
    return where(a < b, b, a)
