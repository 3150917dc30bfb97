"""Discretised coefficients of one mode for one step, and the way their gradients go back to the system.

A *row* is what the recurrence needs at one sample, for W channels at once. Rows that many samples share
(a regular grid, few distinct gaps) are computed once a call; otherwise they are computed where they are
used. Fields of a row, each a complex register::

    A      Abar, the transition                        x_k = A x_{k-1} + B u_k + Q u_{k-1}
    B, Q   Bbar of the current and the previous input
    P, R   B and Q before the multiplication with the input vector
    D, F   derivatives of P and R by the eigenvalue
    E      derivative of Abar by z = step * eigenvalue
    S      derivative of P by the step
"""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np

from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.elementary import exp_expm1, sin_cos_cosm1
from tsssm.ops.cpu.simd import constant, load, splat, store, where

A, B, Q, P, R, D, F, E, S = range(9)
N_FIELDS = 9
GBT, ZOH, FOH = range(3)

# Taylor coefficients of phi3(z) = sum z^k / (k+3)! and of phi1'(z) = sum (k+1) z^k / (k+2)!
_PHI3 = np.array([1 / factorial(k + 3) for k in range(18)])
_PHI1_SLOPE = np.array([(k + 1) / factorial(k + 2) for k in range(13)])


@inline
def get(rows: Any, plane: int, field: int, at: int) -> Any:
    """Real and imaginary part of a field of the row at flat position ``at``."""
    return load(rows, 2 * field * plane + at), load(rows, (2 * field + 1) * plane + at)


@inline
def put(rows: Any, plane: int, field: int, at: int, re: Any, im: Any) -> None:
    """Write a field of the row at flat position ``at``."""
    store(rows, 2 * field * plane + at, re)
    store(rows, (2 * field + 1) * plane + at, im)


@inline
def accumulate(rows: Any, plane: int, field: int, at: int, re: Any, im: Any) -> None:
    """Add to a field of the row at flat position ``at``."""
    sr, si = get(rows, plane, field, at)
    put(rows, plane, field, at, sr + re, si + im)


@inline
def times(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """a b"""
    return ar * br - ai * bi, ar * bi + ai * br


@inline
def conj_times(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """conj(a) b"""
    return ar * br + ai * bi, ar * bi - ai * br


@inline
def inverse(ar: Any, ai: Any) -> Any:
    """1 / a"""
    scale = constant(ar, "one") / (ar * ar + ai * ai)
    return ar * scale, -(ai * scale)


@inline
def _taylor(coefficients: Any, count: int, zr: Any, zi: Any) -> Any:
    vr, vi = splat(coefficients[count - 1], zr), splat(0.0, zr)
    for k in range(count - 2, -1, -1):
        vr, vi = times(vr, vi, zr, zi)
        vr = vr + splat(coefficients[k], zr)
    return vr, vi


@inline
def fill(
    rows: Any, plane: int, at: int, width: int, kind: int, alpha: float, gradient: bool, mode: Any, s: Any
) -> None:
    """Compute the row at ``at`` for the steps ``s`` of W channels; ``mode`` is (A, B) as four registers."""
    lr, li, br, bi = mode
    one = constant(s, "one")
    zr, zi = s * lr, s * li
    if kind == GBT:
        a = splat(alpha, s)
        ir, ii = inverse(one - a * zr, -(a * zi))
        ar, ai = times(one + (one - a) * zr, (one - a) * zi, ir, ii)
        pr, pi = s * ir, s * ii
        if gradient:
            er, ei = times(ir, ii, ir, ii)
            put(rows, plane, E, at, er, ei)
            put(rows, plane, S, at, er, ei)
            put(rows, plane, D, at, a * s * s * er, a * s * s * ei)
    else:
        e, m = exp_expm1(zr)
        sin, cos, cosm1 = sin_cos_cosm1(zi)
        ar, ai = e * cos, e * sin
        ivr, ivi = inverse(lr, li)
        pr, pi = times(m * cos + cosm1, e * sin, ivr, ivi)
        if gradient:
            put(rows, plane, E, at, ar, ai)
            put(rows, plane, S, at, ar, ai)
        if kind == FOH:
            pr, pi = _first_order(rows, plane, at, width, gradient, mode, s, zr, zi, ar, ai)
        elif gradient:
            # phi1' = (exp(z) - phi1(z)) / z cancels for small z.
            dr, di = times(s * ar - pr, s * ai - pi, ivr, ivi)
            tr, ti = _taylor(_PHI1_SLOPE, 5 if width == 16 else 13, zr, zi)
            small = zr * zr + zi * zi < splat(0.01, s)
            put(rows, plane, D, at, where(small, s * s * tr, dr), where(small, s * s * ti, di))
    put(rows, plane, A, at, ar, ai)
    put(rows, plane, P, at, pr, pi)
    br, bi = times(pr, pi, br, bi)
    put(rows, plane, B, at, br, bi)


@inline
def _first_order(
    rows: Any,
    plane: int,
    at: int,
    width: int,
    gradient: bool,
    mode: Any,
    s: Any,
    zr: Any,
    zi: Any,
    er: Any,
    ei: Any,
) -> Any:
    """Fields that first-order hold adds; returns s * phi2(z), the coefficient of the current input.

    phi_j(z) = (phi_{j-1}(z) - 1/(j-1)!) / z cancels for small z, so there the chain is climbed from the
    Taylor series of phi3 instead: phi2 = 1/2 + z phi3, phi1 = 1 + z phi2.
    """
    one, half = constant(s, "one"), splat(0.5, s)
    square = zr * zr + zi * zi
    small = square < one
    # Division by z only where it is safe.
    ivr, ivi = inverse(where(small, one, zr), where(small, one, zi))
    f1r, f1i = times(er - one, ei, ivr, ivi)
    f2r, f2i = times(f1r - one, f1i, ivr, ivi)
    f3r, f3i = times(f2r - half, f2i, ivr, ivi)
    t3r, t3i = _taylor(_PHI3, 10 if width == 16 else 18, zr, zi)
    f3r, f3i = where(small, t3r, f3r), where(small, t3i, f3i)
    t2r, t2i = times(f3r, f3i, zr, zi)
    f2r, f2i = where(small, half + t2r, f2r), where(small, t2i, f2i)
    t1r, t1i = times(f2r, f2i, zr, zi)
    f1r, f1i = where(small, one + t1r, f1r), where(small, t1i, f1i)

    rr, ri = s * (f1r - f2r), s * (f1i - f2i)
    qr, qi = times(rr, ri, mode[2], mode[3])
    put(rows, plane, Q, at, qr, qi)
    if gradient:
        put(rows, plane, R, at, rr, ri)
        put(rows, plane, S, at, f1r - f2r, f1i - f2i)
        # phi1' = phi1 - phi2, phi2' = phi2 - 2 phi3
        two = one + one
        dr, di = f2r - two * f3r, f2i - two * f3i
        put(rows, plane, D, at, s * s * dr, s * s * di)
        put(rows, plane, F, at, s * s * (f1r - f2r - dr), s * s * (f1i - f2i - di))
    return s * f2r, s * f2i


@inline
def pull_back(rows: Any, grads: Any, plane: int, at: int, kind: int, mode: Any, s: Any) -> Any:
    """Gradients of the system from those of one row, which are cleared.

    Returns the gradients of the eigenvalue (2 registers), of the input vector (2) and of the step (1).
    A gradient of a complex number is d/dRe + i d/dIm, as in PyTorch.
    """
    lr, li, br, bi = mode
    zero = splat(0.0, s)
    gr, gi = get(grads, plane, A, at)
    er, ei = get(rows, plane, E, at)
    hr, hi = conj_times(er, ei, gr, gi)
    glr, gli = s * hr, s * hi
    gs = lr * hr + li * hi
    put(grads, plane, A, at, zero, zero)

    vr, vi = get(grads, plane, B, at)
    pr, pi = get(rows, plane, P, at)
    gbr, gbi = conj_times(pr, pi, vr, vi)
    vr, vi = conj_times(br, bi, vr, vi)
    hr, hi = get(rows, plane, D, at)
    hr, hi = conj_times(hr, hi, vr, vi)
    glr, gli = glr + hr, gli + hi
    sr, si = get(rows, plane, S, at)
    gs = gs + sr * vr + si * vi
    put(grads, plane, B, at, zero, zero)

    if kind == FOH:
        vr, vi = get(grads, plane, Q, at)
        pr, pi = get(rows, plane, R, at)
        hr, hi = conj_times(pr, pi, vr, vi)
        gbr, gbi = gbr + hr, gbi + hi
        vr, vi = conj_times(br, bi, vr, vi)
        hr, hi = get(rows, plane, F, at)
        hr, hi = conj_times(hr, hi, vr, vi)
        glr, gli = glr + hr, gli + hi
        # The two input coefficients add up to s phi1(z), whose derivative by s is exp(z).
        gs = gs + (er - sr) * vr + (ei - si) * vi
        put(grads, plane, Q, at, zero, zero)
    return glr, gli, gbr, gbi, gs
