r"""One sample of the forms of Liquid-S4 by orders of input correlation, and its adjoint.

A state is a tuple of ORDER slots: for EXACT the chain :math:`x^{(1)}, \ldots, x^{(p)}`; for KB and PB the
state x and then the last p - 1 bounded inputs :math:`\pi(w)`, newest first, of which

.. math::
    m = \pi(w_{k-1})\,(1 + \pi(w_{k-2})\,(1 + \cdots))

makes :math:`z = w m` of the input :math:`w = \bar B u`. Samples of zero gap are none: a bounded input moves
into the state where ``counts`` says so.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import (
    add_product,
    add_product_conjugate,
    bounded,
    multiply,
    multiply_conjugate,
    to_disc_adjoint,
)
from tsssm.ops.gpu.rules import GBT, coefficients, input_of, liquid_term
from tsssm.ops.gpu.slots import add_to_each, add_to_first, coupling, through, through_adjoint

#: Kernels as the passes know them.
EXACT = tl.constexpr(0)
KB = tl.constexpr(1)
PB = tl.constexpr(2)


@triton.jit
def step_of(
    Ar: tl.tensor,
    Ai: tl.tensor,
    Br: tl.tensor,
    Bi: tl.tensor,
    s: tl.tensor,
    kr: tl.tensor,
    ki: tl.tensor,
    there: tl.tensor,
    alpha: tl.tensor,
    RULE: tl.constexpr,
    REGULAR: tl.constexpr,
    UNEVEN: tl.constexpr,
) -> Any:
    """e of a sample of step s, or k on a regular grid, and whether the sample counts."""
    if not REGULAR:
        er, ei, _, _ = coefficients(Ar, Ai, Br, Bi, s, alpha, RULE)
        counts = s > 0.0
    elif UNEVEN:
        er = tl.where(there, kr, 0.0)
        ei = tl.where(there, ki, 0.0)
        counts = there
    else:
        er = kr
        ei = ki
        counts = tl.full(there.shape, True, tl.int1)
    return er, ei, counts


@triton.jit
def inputs_of(
    er: tl.tensor,
    ei: tl.tensor,
    wr: tl.tensor,
    wi: tl.tensor,
    u: tl.tensor,
    bound: tl.tensor,
    KERNEL: tl.constexpr,
) -> Any:
    r"""The input :math:`\bar B u` of a mode, and the liquid term :math:`\bar B \tilde u`, of EXACT alone."""
    if KERNEL == EXACT:
        br, bi = multiply(er, ei, wr, wi)
        ar = br * u
        ai = bi * u
        vr, vi = liquid_term(er, ei, wr, wi, u, bound)
    else:
        ar, ai = input_of(er, ei, wr, wi, u)
        vr = ar
        vi = ai
    return ar, ai, vr, vi


@triton.jit
def advance(
    xr: tl.tuple,
    xi: tl.tuple,
    er: tl.tensor,
    ei: tl.tensor,
    wr: tl.tensor,
    wi: tl.tensor,
    vr: tl.tensor,
    vi: tl.tensor,
    counts: tl.tensor,
    KERNEL: tl.constexpr,
    ORDER: tl.constexpr,
    RULE: tl.constexpr,
) -> Any:
    """The state after a sample of input w and liquid term v, and what the readout sees."""
    if KERNEL == EXACT:
        gr, gi, _, _, _ = coupling(er, ei, vr, vi, RULE)
        yr, yi = through(xr, xi, er, ei, gr, gi, ORDER)
        yr, yi = add_to_first(yr, yi, wr, wi, ORDER)
        sr = yr[0]
        si = yi[0]
        for q in tl.static_range(ORDER - 1):
            sr += yr[q + 1]
            si += yi[q + 1]
    else:
        mr = xr[ORDER - 1]
        mi = xi[ORDER - 1]
        for q in tl.static_range(ORDER - 2):
            mr, mi = multiply(xr[ORDER - 2 - q], xi[ORDER - 2 - q], 1.0 + mr, mi)
        zr, zi = multiply(wr, wi, mr, mi)
        nr, ni = add_product(xr[0] + wr, xi[0] + wi, er, ei, xr[0], xi[0])
        sr = nr + zr
        si = ni + zi
        if KERNEL == KB:
            nr = sr
            ni = si
        pr, pi, _ = bounded(wr, wi)
        yr = (nr, tl.where(counts, pr, xr[1]))
        yi = (ni, tl.where(counts, pi, xi[1]))
        for q in tl.static_range(ORDER - 2):
            yr = yr + (tl.where(counts, xr[q + 1], xr[q + 2]),)
            yi = yi + (tl.where(counts, xi[q + 1], xi[q + 2]),)
    return yr, yi, sr, si


@triton.jit
def chain_adjoint(
    lr: tl.tuple,
    li: tl.tuple,
    xr: tl.tuple,
    xi: tl.tuple,
    er: tl.tensor,
    ei: tl.tensor,
    vr: tl.tensor,
    vi: tl.tensor,
    gr: tl.tensor,
    gi: tl.tensor,
    ORDER: tl.constexpr,
    RULE: tl.constexpr,
) -> Any:
    """Adjoint of `advance` for EXACT: gradients of the state before, of e, of w and of v.

    l is the gradient of the state after, x the state before, g the gradient of what the readout sees.
    """
    lr, li = add_to_each(lr, li, gr, gi, ORDER)
    tr, ti = multiply_conjugate(xr[0], xi[0], lr[0], li[0])
    ur = tl.zeros_like(tr)
    ui = tl.zeros_like(tr)
    for q in tl.static_range(ORDER - 1):
        tr, ti = add_product_conjugate(tr, ti, xr[q + 1], xi[q + 1], lr[q + 1], li[q + 1])
        ur, ui = add_product_conjugate(ur, ui, xr[q], xi[q], lr[q + 1], li[q + 1])
    cr, ci, pr, pi, factor = coupling(er, ei, vr, vi, RULE)
    br = ur
    bi = ui
    if RULE == GBT:
        # The coupling is Pi(1 + e + v) - (1 + e) outside the disc, and v inside.
        br, bi = to_disc_adjoint(pr, pi, factor, ur, ui)
        tr += br - ur
        ti += bi - ui
    ar = lr[0]
    ai = li[0]
    lr, li = through_adjoint(lr, li, er, ei, cr, ci, ORDER)
    return lr, li, tr, ti, ar, ai, br, bi


@triton.jit
def bounded_adjoint(wr: tl.tensor, wi: tl.tensor, gr: tl.tensor, gi: tl.tensor) -> Any:
    """Gradient of w from that of its bounded value."""
    pr, pi, factor = bounded(wr, wi)
    return to_disc_adjoint(pr, pi, factor, gr, gi)


@triton.jit
def correlation_adjoint(
    lr: tl.tuple,
    li: tl.tuple,
    xr: tl.tuple,
    xi: tl.tuple,
    er: tl.tensor,
    ei: tl.tensor,
    wr: tl.tensor,
    wi: tl.tensor,
    gr: tl.tensor,
    gi: tl.tensor,
    counts: tl.tensor,
    KERNEL: tl.constexpr,
    ORDER: tl.constexpr,
) -> Any:
    """Adjoint of `advance` for KB and PB, as `chain_adjoint` but for v: they have no liquid term."""
    hr = lr[0] + gr
    hi = li[0] + gi
    tr, ti = multiply_conjugate(xr[0], xi[0], hr, hi)
    # Gradient of w by way of the state alone, and of w (1 + m).
    ar = lr[0]
    ai = li[0]
    if KERNEL == KB:
        ar = tl.zeros_like(hr)
        ai = tl.zeros_like(hr)
        gr = hr
        gi = hi
    # 1 + p (1 + ...) of the past inputs from each on, and 1 behind the oldest; the oldest first.
    fr = (tl.full(hr.shape, 1.0, tl.float32),)
    fi = (tl.zeros_like(hr),)
    for q in tl.static_range(ORDER - 1):
        mr, mi = multiply(xr[ORDER - 1 - q], xi[ORDER - 1 - q], fr[q], fi[q])
        fr = fr + (1.0 + mr,)
        fi = fi + (mi,)
    ar, ai = add_product_conjugate(ar, ai, fr[ORDER - 1], fi[ORDER - 1], gr, gi)
    gr, gi = multiply_conjugate(wr, wi, gr, gi)
    kr, ki = add_product_conjugate(hr, hi, er, ei, hr, hi)
    yr = (kr,)
    yi = (ki,)
    for q in tl.static_range(ORDER - 1):
        # Gradient of this past input by way of later samples, before which this one has moved in, and of m.
        later_r = tl.where(counts, 0.0, lr[q + 1])
        later_i = tl.where(counts, 0.0, li[q + 1])
        if q < ORDER - 2:
            later_r = tl.where(counts, lr[q + 2], lr[q + 1])
            later_i = tl.where(counts, li[q + 2], li[q + 1])
        nr, ni = add_product_conjugate(later_r, later_i, fr[ORDER - 2 - q], fi[ORDER - 2 - q], gr, gi)
        yr = yr + (nr,)
        yi = yi + (ni,)
        gr, gi = multiply_conjugate(xr[q + 1], xi[q + 1], gr, gi)
    # Of a sample that does not count too: its step is zero, and no gradient gets past w.
    br, bi = bounded_adjoint(wr, wi, lr[1], li[1])
    ar += br
    ai += bi
    return yr, yi, tr, ti, ar, ai
