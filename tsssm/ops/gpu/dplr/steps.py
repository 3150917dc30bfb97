r"""A step of a diagonal plus low-rank system, forwards and back.

With :math:`z = s \Lambda` and :math:`e = 1 / (1 - \alpha z)` the stage of a step and the state after it are

.. math::
    g = e\,(x + \alpha w), \qquad x' = x + e\,(z x + w), \qquad
    w = s\,(B u - P v), \qquad v = \mathrm{Re}\,Q^* g,

and v solves :math:`(I + \alpha s\,\mathrm{Re}\,Q^* e P)\,v = \mathrm{Re}\,Q^* e\,(x + \alpha s B u)`, one or
two equations. Back comes, from the gradient :math:`\lambda` of x', with M the matrix above,

.. math::
    M^\top c = -s\,\mathrm{Re}\,P^* \bar e \lambda, \qquad \eta = Q c, \qquad
    \kappa = s\,\bar e\,(\lambda + \alpha \eta), \qquad
    \lambda \leftarrow \lambda + \overline{z e}\,\lambda + \bar e\,\eta,

and the gradients of Lambda, B, P, Q and u are :math:`\bar g \kappa, u \kappa, -\kappa v^\top, g c^\top` and
:math:`\mathrm{Re}\,B^* \kappa`.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product, multiply, multiply_conjugate
from tsssm.ops.gpu.lanes import load_pair


@triton.jit
def load_rows(pointer: tl.tensor, at: tl.tensor, size: tl.tensor, mask: tl.tensor, ROWS: tl.constexpr) -> Any:
    """Real and imaginary parts of the rows of an array (row, part, channel, mode)."""
    real = ()
    imaginary = ()
    for r in tl.static_range(ROWS):
        xr, xi = load_pair(pointer, 2 * r * size + at, size, mask)
        real = real + (xr,)
        imaginary = imaginary + (xi,)
    return real, imaginary


@triton.jit
def coefficients(Lr: tl.tensor, Li: tl.tensor, s: tl.tensor, alpha: tl.tensor) -> Any:
    """e and z e of the step s."""
    zr = Lr * s
    zi = Li * s
    far = 1.0 - alpha * zr
    height = alpha * zi
    factor = 1.0 / (far * far + height * height)
    er = far * factor
    ei = height * factor
    tr, ti = multiply(zr, zi, er, ei)
    return er, ei, tr, ti


@triton.jit
def matrix_of(
    er: tl.tensor,
    ei: tl.tensor,
    s: tl.tensor,
    alpha: tl.tensor,
    Pr: tl.tuple,
    Pi: tl.tuple,
    Qr: tl.tuple,
    Qi: tl.tuple,
    RANK: tl.constexpr,
) -> Any:
    """I + alpha s Re(Q^* e P), row after row; s (lanes,)."""
    m = ()
    for q in tl.static_range(RANK):
        hr, hi = multiply_conjugate(Qr[q], Qi[q], er, ei)
        for r in tl.static_range(RANK):
            own = alpha * s * tl.sum(hr * Pr[r] - hi * Pi[r], axis=1)
            if q == r:
                own += 1.0
            m = m + (own,)
    return m


@triton.jit
def solved(m: tl.tuple, c: tl.tuple, TRANSPOSED: tl.constexpr, RANK: tl.constexpr) -> Any:
    """The solution of one or two equations."""
    v = (c[0] / m[0],)
    if RANK == 2:
        above = m[2] if TRANSPOSED else m[1]
        below = m[1] if TRANSPOSED else m[2]
        factor = 1.0 / (m[0] * m[3] - above * below)
        v = ((m[3] * c[0] - above * c[1]) * factor, (m[0] * c[1] - below * c[0]) * factor)
    return v


@triton.jit
def real_parts(ar: tl.tuple, ai: tl.tuple, br: tl.tensor, bi: tl.tensor, ROWS: tl.constexpr) -> Any:
    """Re(a^* b) of each row a, summed over the modes."""
    sums = ()
    for r in tl.static_range(ROWS):
        sums = sums + (tl.sum(ar[r] * br + ai[r] * bi, axis=1),)
    return sums


@triton.jit
def combined(ar: tl.tuple, ai: tl.tuple, v: tl.tuple, ROWS: tl.constexpr) -> Any:
    """The sum of rows times numbers of the lanes."""
    cr = ar[0] * v[0][:, None]
    ci = ai[0] * v[0][:, None]
    for r in tl.static_range(ROWS - 1):
        cr += ar[r + 1] * v[r + 1][:, None]
        ci += ai[r + 1] * v[r + 1][:, None]
    return cr, ci


@triton.jit
def drive(
    v: tl.tuple,
    u: tl.tensor,
    s: tl.tensor,
    Br: tl.tensor,
    Bi: tl.tensor,
    Pr: tl.tuple,
    Pi: tl.tuple,
    RANK: tl.constexpr,
) -> Any:
    """w = s (B u - P v), of u and s (lanes,)."""
    pr, pi = combined(Pr, Pi, v, RANK)
    return s[:, None] * (Br * u[:, None] - pr), s[:, None] * (Bi * u[:, None] - pi)


@triton.jit
def advance(
    xr: tl.tensor,
    xi: tl.tensor,
    u: tl.tensor,
    s: tl.tensor,
    alpha: tl.tensor,
    Lr: tl.tensor,
    Li: tl.tensor,
    Br: tl.tensor,
    Bi: tl.tensor,
    Pr: tl.tuple,
    Pi: tl.tuple,
    Qr: tl.tuple,
    Qi: tl.tuple,
    RANK: tl.constexpr,
) -> Any:
    """The state after a sample u at the end of a step s, and v; u and s (lanes,)."""
    er, ei, tr, ti = coefficients(Lr, Li, s[:, None], alpha)
    m = matrix_of(er, ei, s, alpha, Pr, Pi, Qr, Qi, RANK)
    forced = (alpha * s * u)[:, None]
    hr, hi = multiply(er, ei, xr + forced * Br, xi + forced * Bi)
    v = solved(m, real_parts(Qr, Qi, hr, hi, RANK), False, RANK)
    wr, wi = drive(v, u, s, Br, Bi, Pr, Pi, RANK)
    yr, yi = add_product(xr, xi, tr, ti, xr, xi)
    yr, yi = add_product(yr, yi, er, ei, wr, wi)
    return yr, yi, v
