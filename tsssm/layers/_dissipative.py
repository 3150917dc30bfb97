r"""Keeps the trained matrix of LSSL dissipative, and its tridiagonal systems solvable without pivoting.

In the coordinates z = Q x the matrix A = P (D + T^{-1}) Q of LSSL (arXiv 2110.13985, section 4.2) is
F (D + T^{-1}) with F = P Q. With F > 0 no solution of z' = F (D + T^{-1}) z grows in the norm
:math:`z^\top F^{-1} z` if and only if :math:`D + T^{-1}` has a negative semidefinite symmetric part. Let
the *ceiling* c >= 0 be a bound of the entries of D. Then it is enough that

    T + T^T + 2 c T T^T <= 0,   that is:   c = 0:  the symmetric part of T is negative semidefinite;
                                           c > 0:  X = I + 2 c T is a contraction, ||X|| <= 1.

==================  ===  ==================================================================================
measure             c    sufficient bound on T, which the HiPPO matrix keeps
==================  ===  ==================================================================================
"legs", "lagt"      1/2  rows and columns of \|X\| add up to at most 1 (X is the shift by one)
"legt", "fourier"   0    main diagonal <= 0, off-diagonals skew-symmetric
==================  ===  ==================================================================================

Under these bounds elimination in (I - a s F D) T - a s F, the system of a step s > 0 by the generalised
bilinear transform with parameter a > 0, needs no exchange of rows. For c = 0 every pivot is a sum of terms of
one sign. For c > 0, with f = a s F_n and e = c - D_n, row n is -1 / (2 c) times that of p I - q X, where
p = 1 + f (c + e) and q = 1 - f (c - e): strictly dominant, because p - |q| = min(2 c f, 2 + 2 f e) > 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

#: The ceiling c of each measure.
CEILINGS = {"legs": 0.5, "lagt": 0.5, "legt": 0.0, "fourier": 0.0}


def dissipative(D: Tensor, T: Tensor, ceiling: float) -> tuple[Tensor, Tensor]:
    """D and T within the bounds of the module, which are those given wherever they keep the bounds already.

    What lies outside is mirrored at the bound and not cut off there, so that its gradient does not vanish:
    the HiPPO matrices lie on the bounds. On a bound itself the gradient is that of the inside.

    Parameters
    ----------
    D : Tensor (H, N), real
    T : Tensor (3, H, N), real
        Diagonals below, on and above the main one, each entry in its row.
    ceiling : float
        One of `CEILINGS`.

    Returns
    -------
    D, T : Tensor
        Of the shapes given.
    """
    D = _mirrored(D, ceiling)
    below, main, above = T[0, :, 1:], T[1], T[2, :, :-1]
    if ceiling == 0:
        skew = (above - below) / 2
        return D, torch.stack([pad(-skew, (1, 0)), _mirrored(main, 0.0), pad(skew, (0, 1))])
    factor = 2 * ceiling
    below, main, above = factor * below, 1 + factor * main, factor * above
    lower, centre, upper = below.abs(), main.abs(), above.abs()
    row = centre + pad(lower, (1, 0)) + pad(upper, (0, 1))
    column = centre + pad(lower, (0, 1)) + pad(upper, (1, 0))
    below = _shrunk(below, row[:, 1:], column[:, :-1])
    main = _shrunk(main, row, column) - 1
    above = _shrunk(above, row[:, :-1], column[:, 1:])
    return D, torch.stack([pad(below, (1, 0)), main, pad(above, (0, 1))]) / factor


def _mirrored(value: Tensor, ceiling: float) -> Tensor:
    """At most the ceiling: what exceeds it comes as far below."""
    return torch.where(value > ceiling, 2 * ceiling - value, value)


def _shrunk(entry: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Entries of a matrix, divided twice by the sum of their row or column where that exceeds 1.

    Once brings the sum to 1 at most, and twice mirrors at 1: a row that is too large by a factor becomes too
    small by the same one.
    """
    total = torch.maximum(row, column)
    return entry / torch.where(total > 1, total, 1.0).square()
