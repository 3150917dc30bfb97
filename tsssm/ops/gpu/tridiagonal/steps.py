r"""A step of the system :math:`A = V T^{-1}` with tridiagonal V and T, forwards and back.

With :math:`M = T - \alpha s V` the step s is

.. math:: M \zeta = x + \alpha s B u, \qquad x' = x + s\,(V \zeta + B u).

M is factored without pivoting. Its pivots :math:`p_i = m_i - l_i r_{i-1} / p_{i-1}` (l, m and r below, on and
above the diagonal) are ratios of the entries of products of matrices of 2 x 2, and with them both triangular
systems are recurrences :math:`y_i = f_i y_{i-1} + c_i`. Products of either kind are associative, so that a
warp takes them by folding in pairs; those of matrices are scaled to size one on the way.

Back comes, from the gradient :math:`\lambda` of x', with :math:`M^\top \rho = s V^\top \lambda` and
:math:`\kappa = s\,(\lambda + \alpha \rho)`: :math:`\lambda \leftarrow \lambda + \rho`, and the gradients of
B, u, and the three diagonals of V and T, :math:`u \kappa, B^\top \kappa`, and those of
:math:`\kappa \zeta^\top` and :math:`-\rho \zeta^\top`.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def load_diagonals(
    pointer: tl.tensor,
    at: tl.tensor,
    size: tl.tensor,
    n: tl.tensor,
    modes: tl.tensor,
    mask: tl.tensor,
    MAIN: tl.constexpr,
) -> Any:
    """Entries below, on and above the diagonal in each row, above it in the row before, below in the next.

    ``MAIN`` stands on the diagonal of rows that do not exist.
    """
    inner = mask & (n > 0)
    upper = mask & (n + 1 < modes)
    return (
        tl.load(pointer + at, inner, other=0.0),
        tl.load(pointer + size + at, mask, other=MAIN),
        tl.load(pointer + 2 * size + at, upper, other=0.0),
        tl.load(pointer + 2 * size + at - 1, inner, other=0.0),
        tl.load(pointer + at + 1, upper, other=0.0),
    )


@triton.jit
def difference(T: tl.tuple, V: tl.tuple, s: tl.tensor) -> Any:
    """T - s V, of what `load_diagonals` returned."""
    return (T[0] - s * V[0], T[1] - s * V[1], T[2] - s * V[2], T[3] - s * V[3], T[4] - s * V[4])


@triton.jit
def _fractions(
    a0: tl.tensor,
    b0: tl.tensor,
    c0: tl.tensor,
    d0: tl.tensor,
    a1: tl.tensor,
    b1: tl.tensor,
    c1: tl.tensor,
    d1: tl.tensor,
) -> Any:
    """The product of matrices [[a, b], [c, d]], the second one on the left, up to a positive factor."""
    a = a1 * a0 + b1 * c0
    b = a1 * b0 + b1 * d0
    c = c1 * a0 + d1 * c0
    d = c1 * b0 + d1 * d0
    factor = 1.0 / (tl.abs(a) + tl.abs(b) + tl.abs(c) + tl.abs(d))
    return a * factor, b * factor, c * factor, d * factor


@triton.jit
def _affine(f0: tl.tensor, y0: tl.tensor, f1: tl.tensor, y1: tl.tensor) -> Any:
    """y -> f y + c twice."""
    return f0 * f1, f1 * y0 + y1


@triton.jit
def before(x: tl.tensor, n: tl.tensor) -> Any:
    """The entry of the row before; in the first row no number that counts."""
    index = tl.broadcast_to(tl.maximum(n - 1, 0), x.shape).to(tl.int32)
    return tl.gather(x, index, axis=1)


@triton.jit
def behind(x: tl.tensor, n: tl.tensor, MODES: tl.constexpr) -> Any:
    """The entry of the row behind; in the last row no number that counts."""
    index = tl.broadcast_to(tl.minimum(n + 1, MODES - 1), x.shape).to(tl.int32)
    return tl.gather(x, index, axis=1)


@triton.jit
def pivots(M: tl.tuple, n: tl.tensor) -> Any:
    """1 / p of each row, and of the row before."""
    one = tl.full(M[1].shape, 1.0, tl.float32)
    zero = tl.zeros_like(one)
    a, _, c, _ = tl.associative_scan((M[1], -M[0] * M[3], one, zero), 1, _fractions)
    inverse = c / a
    return inverse, before(inverse, n)


@triton.jit
def solved(M: tl.tuple, inverse: tl.tensor, last: tl.tensor, r: tl.tensor) -> Any:
    """The solution of M zeta = r."""
    _, y = tl.associative_scan((-M[0] * last, r), 1, _affine)
    _, zeta = tl.associative_scan((-M[2] * inverse, y * inverse), 1, _affine, reverse=True)
    return zeta


@triton.jit
def solved_transposed(M: tl.tuple, inverse: tl.tensor, g: tl.tensor) -> Any:
    """The solution of M^T rho = g."""
    _, y = tl.associative_scan((-M[3] * inverse, g * inverse), 1, _affine)
    _, rho = tl.associative_scan((-M[4] * inverse, y), 1, _affine, reverse=True)
    return rho


@triton.jit
def times(V: tl.tuple, zeta: tl.tensor, n: tl.tensor, MODES: tl.constexpr) -> Any:
    """V zeta."""
    return V[0] * before(zeta, n) + V[1] * zeta + V[2] * behind(zeta, n, MODES)


@triton.jit
def times_transposed(V: tl.tuple, x: tl.tensor, n: tl.tensor, MODES: tl.constexpr) -> Any:
    """V^T x."""
    return V[3] * before(x, n) + V[1] * x + V[4] * behind(x, n, MODES)


@triton.jit
def advance(
    x: tl.tensor,
    u: tl.tensor,
    s: tl.tensor,
    alpha: tl.tensor,
    T: tl.tuple,
    V: tl.tuple,
    B: tl.tensor,
    n: tl.tensor,
    MODES: tl.constexpr,
) -> Any:
    """The state after a sample u at the end of a step s, zeta, and the inverse pivots; u and s (lanes, 1)."""
    M = difference(T, V, alpha * s)
    inverse, last = pivots(M, n)
    zeta = solved(M, inverse, last, x + alpha * s * u * B)
    return x + s * (times(V, zeta, n, MODES) + B * u), zeta, inverse
