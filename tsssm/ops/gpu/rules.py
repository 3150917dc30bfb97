r"""Discretisation of one mode with one step, and its derivative with respect to the eigenvalue.

With :math:`z = s A`, the transition is :math:`1 + e`, and :math:`e` is computed without the cancellation
that :math:`\bar A - 1` has. For every rule but first-order hold :math:`\bar B = e w` with :math:`w = B / A`:

.. math::
    x_k = x_{k-1} + e_k\,(x_{k-1} + w u_k);

first-order hold adds :math:`b\,(u_k - u_{k-1})`, with :math:`b = s \varphi_2(z) B` and :math:`u_{k-1}` in the
place of :math:`u_k` above. An eigenvalue of almost zero is replaced by a small negative one, see `divisor`.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import (
    add_product_conjugate,
    complex_expm1,
    multiply,
    multiply_conjugate,
    reciprocal,
    to_disc,
)
from tsssm.ops.gpu.lanes import load_pair

#: Rules as the kernels know them: the generalised bilinear transform, zero- and first-order hold.
GBT = tl.constexpr(0)
ZOH = tl.constexpr(1)
FOH = tl.constexpr(2)


@triton.jit
def divisor(Ar: tl.tensor, Ai: tl.tensor) -> Any:
    """The eigenvalue, or -1e-12 for a smaller one: no step sees the difference, and 1 / A stays finite."""
    tiny = tl.abs(Ar) + tl.abs(Ai) < 1e-12
    return tl.where(tiny, -1e-12, Ar), tl.where(tiny, 0.0, Ai)


@triton.jit
def system_of(system: tl.tensor, index: tl.tensor, size: tl.tensor, mask: tl.tensor) -> Any:
    """Eigenvalues that may be divided by, w = B / A, and B; modes that do not exist rest at zero."""
    Ar, Ai = load_pair(system, index, size, mask)
    Br, Bi = load_pair(system, index + 2 * size, size, mask)
    Ar, Ai = divisor(Ar, Ai)
    factor = 1.0 / (Ar * Ar + Ai * Ai)
    return Ar, Ai, (Br * Ar + Bi * Ai) * factor, (Bi * Ar - Br * Ai) * factor, Br, Bi


@triton.jit
def transition(zr: tl.tensor, zi: tl.tensor, alpha: tl.tensor, RULE: tl.constexpr) -> Any:
    """e of z = s A: (1 + e) is the factor of the state."""
    if RULE == GBT:
        # z / (1 - alpha z)
        far = 1.0 - alpha * zr
        height = alpha * zi
        factor = 1.0 / (far * far + height * height)
        er = (zr * far - zi * height) * factor
        ei = zi * factor
    else:
        er, ei = complex_expm1(zr, zi)
    return er, ei


@triton.jit
def phi1_slope(zr: tl.tensor, zi: tl.tensor, er: tl.tensor, ei: tl.tensor) -> Any:
    """Derivative of phi1(z) = e / z with e = exp(z) - 1: (z e + z - e) / z^2, or its series for a small z."""
    near = zr * zr + zi * zi < 0.00390625
    hr, hi = multiply(zr, zi, er, ei)
    qr, qi = multiply(zr, zi, zr, zi)
    ir, ii = reciprocal(tl.where(near, 1.0, qr), tl.where(near, 0.0, qi))
    fr, fi = multiply(hr + (zr - er), hi + (zi - ei), ir, ii)
    # 1/2 + z/3 + z^2/8 + z^3/30 + z^4/144
    sr = zr * 6.9444444e-3 + 3.3333333e-2
    si = zi * 6.9444444e-3
    sr, si = multiply(sr, si, zr, zi)
    sr, si = multiply(sr + 0.125, si, zr, zi)
    sr, si = multiply(sr + 0.33333333, si, zr, zi)
    return tl.where(near, sr + 0.5, fr), tl.where(near, si, fi)


@triton.jit
def phi2(zr: tl.tensor, zi: tl.tensor, er: tl.tensor, ei: tl.tensor) -> Any:
    """phi2(z) = (e - z) / z^2 with e = exp(z) - 1, and its derivative."""
    near = zr * zr + zi * zi < 1.0
    # sum z^j / (j + 2)! and sum (j + 1) z^j / (j + 3)!, by the ratios of their terms.
    fr = tl.full(zr.shape, 1.0, tl.float32)
    fi = tl.zeros_like(fr)
    gr = fr
    gi = fi
    for k in tl.static_range(11):
        hr, hi = multiply(zr, zi, fr, fi)
        fr = hr * (1.0 / (13 - k)) + 1.0
        fi = hi * (1.0 / (13 - k))
        hr, hi = multiply(zr, zi, gr, gi)
        gr = hr * ((12 - k) / ((11 - k) * (14 - k))) + 1.0
        gi = hi * ((12 - k) / ((11 - k) * (14 - k)))
    ir, ii = reciprocal(tl.where(near, 1.0, zr), tl.where(near, 0.0, zi))
    pr, pi = multiply(er, ei, ir, ii)
    pr, pi = multiply(pr - 1.0, pi, ir, ii)
    # phi2' = (phi1' - phi2) / z
    dr, di = phi1_slope(zr, zi, er, ei)
    dr, di = multiply(dr - pr, di - pi, ir, ii)
    return (
        tl.where(near, 0.5 * fr, pr),
        tl.where(near, 0.5 * fi, pi),
        tl.where(near, gr * 0.16666667, dr),
        tl.where(near, gi * 0.16666667, di),
    )


@triton.jit
def coefficients(
    Ar: tl.tensor,
    Ai: tl.tensor,
    Br: tl.tensor,
    Bi: tl.tensor,
    s: tl.tensor,
    alpha: tl.tensor,
    RULE: tl.constexpr,
) -> Any:
    """e of a step s, and b of first-order hold, which is undefined for the other rules."""
    zr = Ar * s
    zi = Ai * s
    er, ei = transition(zr, zi, alpha, RULE)
    br = zr
    bi = zi
    if RULE == FOH:
        fr, fi, _, _ = phi2(zr, zi, er, ei)
        br, bi = multiply(fr * s, fi * s, Br, Bi)
    return er, ei, br, bi


@triton.jit
def input_of(er: tl.tensor, ei: tl.tensor, wr: tl.tensor, wi: tl.tensor, u: tl.tensor) -> Any:
    """B_bar u = e w u, for every rule but first-order hold."""
    return multiply(er, ei, wr * u, wi * u)


@triton.jit
def clipped(u: tl.tensor, bound: tl.tensor) -> Any:
    """The input as it acts on the transition of each mode: within its bound."""
    return tl.clamp(u, -bound, bound)


@triton.jit
def clipped_adjoint(u: tl.tensor, bound: tl.tensor, gradient: tl.tensor) -> Any:
    """Gradients of u and of the bound from that of `clipped`."""
    inside = tl.abs(u) <= bound
    of_bound = tl.where(u > 0.0, gradient, -gradient)
    return tl.where(inside, gradient, 0.0), tl.where(inside, 0.0, of_bound)


@triton.jit
def liquid_term(
    er: tl.tensor, ei: tl.tensor, wr: tl.tensor, wi: tl.tensor, u: tl.tensor, bound: tl.tensor
) -> Any:
    r"""What the clipped input adds to the transition, :math:`\bar B \tilde u`."""
    br, bi = multiply(er, ei, wr, wi)
    acting = clipped(u, bound)
    return br * acting, bi * acting


@triton.jit
def liquid_transition(er: tl.tensor, ei: tl.tensor, gr: tl.tensor, gi: tl.tensor, RULE: tl.constexpr) -> Any:
    """The factor of the state less one, with the liquid term g.

    By the transform it is projected to the disc, and what `to_disc` returned for its adjoint comes with it.
    By zero-order hold it is inside as it is, and the other results are no numbers.
    """
    tr = er + gr
    ti = ei + gi
    pr = tr
    pi = ti
    factor = tr
    if RULE == GBT:
        tr, ti, pr, pi, factor = to_disc(tr, ti)
    return tr, ti, pr, pi, factor


@triton.jit
def slopes(
    Ar: tl.tensor,
    Ai: tl.tensor,
    er: tl.tensor,
    ei: tl.tensor,
    s: tl.tensor,
    alpha: tl.tensor,
    RULE: tl.constexpr,
) -> Any:
    """Derivatives with respect to A of the transition and of B_bar / B, which for first-order hold is sphi1.

    The last four are s phi2 and its derivative for first-order hold, and no numbers for other rules.
    """
    zr = Ar * s
    zi = Ai * s
    fr = zr
    fi = zi
    gr = zr
    gi = zi
    if RULE == GBT:
        dr, di = multiply(1.0 + alpha * er, alpha * ei, 1.0 + alpha * er, alpha * ei)
        dr *= s
        di *= s
        qr = alpha * s * dr
        qi = alpha * s * di
    else:
        dr = s + s * er
        di = s * ei
        qr, qi = phi1_slope(zr, zi, er, ei)
        qr *= s * s
        qi *= s * s
        if RULE == FOH:
            fr, fi, gr, gi = phi2(zr, zi, er, ei)
            fr *= s
            fi *= s
            gr *= s * s
            gi *= s * s
    return dr, di, qr, qi, fr, fi, gr, gi


@triton.jit
def system_gradients(
    tr: tl.tensor,
    ti: tl.tensor,
    ar: tl.tensor,
    ai: tl.tensor,
    br: tl.tensor,
    bi: tl.tensor,
    Ar: tl.tensor,
    Ai: tl.tensor,
    er: tl.tensor,
    ei: tl.tensor,
    s: tl.tensor,
    alpha: tl.tensor,
    RULE: tl.constexpr,
) -> Any:
    """Gradients of A by way of the transition and of B_bar / B, and of B times A, of samples of one step s.

    ``t`` is the gradient of the transition, ``a`` that of B_bar / B (s phi1 for first-order hold) and ``b``
    that of s phi2, both for a B of one.
    """
    dr, di, qr, qi, fr, fi, gr, gi = slopes(Ar, Ai, er, ei, s, alpha, RULE)
    tr, ti = multiply_conjugate(dr, di, tr, ti)
    pr, pi = multiply_conjugate(qr, qi, ar, ai)
    wr, wi = multiply_conjugate(er, ei, ar, ai)
    if RULE == FOH:
        pr, pi = add_product_conjugate(pr, pi, gr, gi, br, bi)
        hr, hi = multiply_conjugate(fr, fi, br, bi)
        wr, wi = add_product_conjugate(wr, wi, Ar, Ai, hr, hi)
    return tr, ti, pr, pi, wr, wi


@triton.jit
def of_A_and_B(
    tr: tl.tensor,
    ti: tl.tensor,
    pr: tl.tensor,
    pi: tl.tensor,
    wr: tl.tensor,
    wi: tl.tensor,
    Ar: tl.tensor,
    Ai: tl.tensor,
    Br: tl.tensor,
    Bi: tl.tensor,
) -> Any:
    """Gradients of A and B from sums of the results of `system_gradients`."""
    hr, hi = multiply_conjugate(Br, Bi, pr, pi)
    factor = 1.0 / (Ar * Ar + Ai * Ai)
    gr, gi = multiply(wr, wi, Ar * factor, Ai * factor)
    return tr + hr, ti + hi, gr, gi
