r"""States of one or several slots: those of the chain of Liquid-S4 truncated at an order.

Its step :math:`x^{(q)} \leftarrow \bar A x^{(q)} + G x^{(q-1)}` multiplies the polynomial
:math:`\sum_q x^{(q)} S^{q-1}` by :math:`\bar A + G S`, powers from S^SLOTS on left out. So a chunk of samples
multiplies by a polynomial too, and every pass over chunks is that of the diagonal scan, of one slot, with
polynomials for numbers. Here a polynomial is a tuple of real and one of imaginary parts, lowest power first.

In memory slots come first: (slot, series, ...), ``stride`` rows from one to the next.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product, add_product_conjugate
from tsssm.ops.gpu.lanes import load_pair, state_index, store_pair
from tsssm.ops.gpu.rules import GBT, liquid_transition


@triton.jit
def load_slots(
    pointer: tl.tensor,
    row: tl.tensor,
    stride: tl.tensor,
    n: tl.tensor,
    h: tl.tensor,
    modes: tl.tensor,
    channels: tl.tensor,
    mask: tl.tensor,
    SLOTS: tl.constexpr,
) -> Any:
    """The slots of a row of an array (slot, row, part, mode, channel)."""
    xr = ()
    xi = ()
    for q in tl.static_range(SLOTS):
        at = state_index(row + q * stride, n, h, modes, channels)
        real, imaginary = load_pair(pointer, at, modes * channels, mask)
        xr = xr + (real,)
        xi = xi + (imaginary,)
    return xr, xi


@triton.jit
def store_slots(
    pointer: tl.tensor,
    row: tl.tensor,
    stride: tl.tensor,
    n: tl.tensor,
    h: tl.tensor,
    modes: tl.tensor,
    channels: tl.tensor,
    xr: tl.tuple,
    xi: tl.tuple,
    mask: tl.tensor,
    SLOTS: tl.constexpr,
) -> None:
    """The opposite of `load_slots`."""
    for q in tl.static_range(SLOTS):
        at = state_index(row + q * stride, n, h, modes, channels)
        store_pair(pointer, at, modes * channels, xr[q], xi[q], mask)


@triton.jit
def constant(first: tl.tensor, SLOTS: tl.constexpr) -> Any:
    """A number, and zero for every other slot."""
    x = (first,)
    for _ in tl.static_range(SLOTS - 1):
        x = x + (tl.zeros_like(first),)
    return x


@triton.jit
def coupling(er: tl.tensor, ei: tl.tensor, vr: tl.tensor, vi: tl.tensor, RULE: tl.constexpr) -> Any:
    """What a liquid term v adds to the transition 1 + e: v, or what the projection leaves of it.

    The other results are those of `liquid_transition`, for the adjoint.
    """
    dr, di, pr, pi, factor = liquid_transition(er, ei, vr, vi, RULE)
    gr = vr
    gi = vi
    if RULE == GBT:
        outside = factor > 0.0
        gr = tl.where(outside, dr - er, vr)
        gi = tl.where(outside, di - ei, vi)
    return gr, gi, pr, pi, factor


@triton.jit
def through(
    xr: tl.tuple,
    xi: tl.tuple,
    er: tl.tensor,
    ei: tl.tensor,
    gr: tl.tensor,
    gi: tl.tensor,
    SLOTS: tl.constexpr,
) -> Any:
    """The product with 1 + e + g S; g is ignored for one slot."""
    yr = ()
    yi = ()
    for q in tl.static_range(SLOTS):
        nr, ni = add_product(xr[q], xi[q], er, ei, xr[q], xi[q])
        if q > 0:
            nr, ni = add_product(nr, ni, gr, gi, xr[q - 1], xi[q - 1])
        yr = yr + (nr,)
        yi = yi + (ni,)
    return yr, yi


@triton.jit
def through_adjoint(
    lr: tl.tuple,
    li: tl.tuple,
    er: tl.tensor,
    ei: tl.tensor,
    gr: tl.tensor,
    gi: tl.tensor,
    SLOTS: tl.constexpr,
) -> Any:
    """What `through` sends back."""
    yr = ()
    yi = ()
    for q in tl.static_range(SLOTS):
        nr, ni = add_product_conjugate(lr[q], li[q], er, ei, lr[q], li[q])
        if q + 1 < SLOTS:
            nr, ni = add_product_conjugate(nr, ni, gr, gi, lr[q + 1], li[q + 1])
        yr = yr + (nr,)
        yi = yi + (ni,)
    return yr, yi


@triton.jit
def add_to_each(xr: tl.tuple, xi: tl.tuple, ar: tl.tensor, ai: tl.tensor, SLOTS: tl.constexpr) -> Any:
    """The slots with a added to each."""
    yr = ()
    yi = ()
    for q in tl.static_range(SLOTS):
        yr = yr + (xr[q] + ar,)
        yi = yi + (xi[q] + ai,)
    return yr, yi


@triton.jit
def add_to_first(xr: tl.tuple, xi: tl.tuple, ar: tl.tensor, ai: tl.tensor, SLOTS: tl.constexpr) -> Any:
    """The slots with a added to the first."""
    yr = (xr[0] + ar,)
    yi = (xi[0] + ai,)
    for q in tl.static_range(SLOTS - 1):
        yr = yr + (xr[q + 1],)
        yi = yi + (xi[q + 1],)
    return yr, yi
