"""The clipped input that acts on a liquid transition: registers of W channels, for one mode."""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, maker
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import constant, where


@maker
def gather_bounds(bound: Any, h0: int, width: int) -> Any:
    """Bounds (N, W) of a block from those (H, N) of all channels; zero where there is none."""
    out = zeros((bound.shape[1], width), bound)
    for w in range(min(width, bound.shape[0] - h0)):
        for n in range(bound.shape[1]):
            out[n, w] = bound[h0 + w, n]
    return out


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
