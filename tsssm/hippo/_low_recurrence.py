"""HiPPO matrices in the class of LSSL: a diagonal matrix plus the inverse of a tridiagonal one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tsssm.hippo._systems import RealArray, check_size, fourier_basis, lookup, transition


class LowRecurrence(NamedTuple):
    """A HiPPO system in the class of low recurrence width: V^T A V = P (D + T^{-1}) Q.

    Attributes
    ----------
    P, D, Q : ndarray of shape (N,), float64
        Diagonals of the diagonal matrices.
    T : ndarray of shape (3, N), float64
        Diagonals of the tridiagonal matrix below, on and above the main one, each entry in its row: T[0, 0]
        and T[2, N - 1] lie outside of it and are zero.
    B : ndarray of shape (N,), float64
        Input vector V^T B of the class.
    V : ndarray of shape (N, N), float64
        Orthonormal basis, in columns; the identity for the polynomial measures.
    """

    P: RealArray
    D: RealArray
    Q: RealArray
    T: RealArray
    B: RealArray
    V: RealArray


class _Factors(NamedTuple):
    """The factors P = Q and D (N,), T (3, N) and V (N, N)."""

    scale: RealArray
    shift: RealArray
    T: RealArray
    V: RealArray


def _diagonals(below: RealArray, main: RealArray, above: RealArray) -> RealArray:
    """T (3, N) of its diagonals (N - 1,), (N,) and (N - 1,)."""
    return np.stack([np.append(0.0, below), main, np.append(above, 0.0)])


def _triangular(size: int) -> RealArray:
    """T whose inverse is minus the lower triangle of ones, the diagonal included."""
    return _diagonals(np.ones(size - 1), -np.ones(size), np.zeros(size - 1))


def _legs(size: int) -> _Factors:
    n = np.arange(size, dtype=np.float64)
    return _Factors(np.sqrt(2 * n + 1), n / (2 * n + 1), _triangular(size), np.eye(size))


def _lagt(size: int) -> _Factors:
    return _Factors(np.ones(size), np.full(size, 0.5), _triangular(size), np.eye(size))


def _legt(size: int) -> _Factors:
    # The inverse of A integrates, and the integral of P_n is a multiple of P_{n+1} - P_{n-1}. The entries on
    # the main diagonal come from where integration starts and from the truncation.
    half, main = np.full(size - 1, 0.5), np.zeros(size)
    main[0] -= 0.5
    main[-1] -= 0.5
    scale = np.sqrt(2 * np.arange(size) + 1)
    return _Factors(scale, np.zeros(size), _diagonals(half, main, -half), np.eye(size))


def _fourier(size: int) -> _Factors:
    # A + A^T = -4 b b^T makes A^{-1} = K - 2 a a^T with a skew K and a = A^{-1} b, which is -1/2 in c_0 and 0
    # elsewhere. Lanczos vectors of K from c_0 make K tridiagonal and leave a a^T in the corner.
    order, sine = fourier_basis(size)
    cosines, sines = np.flatnonzero(~sine & (order > 0)), np.flatnonzero(sine & (order > 0))
    omega = 2 * np.pi * order[sines]
    K = np.zeros((size, size))
    K[sines, 0] = np.sqrt(2) / omega
    K[cosines, sines] = 1 / omega
    K = K - K.T
    reached = 1 + 2 * sines.size
    V = np.zeros((size, size))
    V[0, 0] = 1
    below = np.zeros(size - 1)
    for j in range(1, reached):
        w = K @ V[:, j - 1]
        for _ in range(2):  # once is not orthogonal to rounding
            w -= V[:, :j] @ (V[:, :j].T @ w)
        below[j - 1] = np.linalg.norm(w)
        V[:, j] = w / below[j - 1]
    main, shift = np.zeros(size), np.zeros(size)
    main[0] = -0.5
    if reached < size:
        # The state s_0, that nothing reaches and whose derivative is zero: D + 1 / T = 1 - 1.
        V[1, -1], main[-1], shift[-1] = 1, -1, 1
    return _Factors(np.ones(size), shift, _diagonals(below, main, -below), V)


_FACTORS: dict[str, Callable[[int], _Factors]] = {
    "legs": _legs,
    "legt": _legt,
    "lagt": _lagt,
    "fourier": _fourier,
}


def low_recurrence(measure: str, d_state: int) -> LowRecurrence:
    r"""Return a HiPPO system in the class of matrices of low recurrence width that LSSL trains in.

    .. math:: V^T A V = P\,(D + T^{-1})\,Q, \qquad V^T V = I

    with P, D and Q diagonal and T tridiagonal. A step of the generalised bilinear transform then is the
    solution of a tridiagonal system with the matrix :math:`(I - \alpha s P D Q) T - \alpha s P Q`, in O(N).
    With the values returned all its pivots are negative, for every step s > 0 and :math:`\alpha` in [0, 1],
    and none is a difference of larger numbers, so that elimination needs no exchange of rows. The exception
    is "fourier" with :math:`\alpha = 0` (Euler), where the pivots fall exponentially with N and leave few
    digits or none from N = 32 on; Euler steps of this nearly undamped system are unstable in any case.

    Parameters
    ----------
    measure : {"legs", "legt", "lagt", "fourier"}
        As in `transition`.
    d_state : int
        Number of real state dimensions N, at least 1.

    Returns
    -------
    LowRecurrence
        ``P (N,)``, ``D (N,)``, ``Q (N,)``, ``T (3, N)``, ``B (N,)`` and ``V (N, N)``, float64. V is the
        identity but for "fourier", where the first state stays c_0 and, with even N, the last is the
        unused s_0.

    Raises
    ------
    ValueError
        If `measure` is unknown or `d_state` is not a positive integer.

    References
    ----------
    LSSL, arXiv 2110.13985, Section 4.2 and Appendix E.
    """
    build = lookup("measure", measure, _FACTORS)
    factors = build(check_size(d_state))
    B = factors.V.T @ transition(measure, d_state)[1]
    return LowRecurrence(factors.scale, factors.shift, factors.scale.copy(), factors.T, B, factors.V)
