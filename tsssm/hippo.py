r"""HiPPO systems and the initial values that follow from them, in float64 and complex128 (NumPy only).

A HiPPO system :math:`\dot x = A x + B u` keeps in its N states the coefficients of the past input in an
orthogonal basis. Its matrix is normal up to a correction of low rank, so a *unitary* change of basis gives

    A = V (diag(Lambda) - sum_r P_r P_r^*) V^*,        V^* V = I.

=========== ============ ==========================================================================
symbol      shape        meaning
=========== ============ ==========================================================================
``A``       (N, N)       state matrix, real
``B``       (N,)         input vector: real, or complex in the basis of V
``Lambda``  (N,)         eigenvalues of the normal part, in 1 / (unit of time)
``P``       (rank, N)    low-rank factor in the basis of V, one row a rank
``V``       (N, N)       unitary, columns are the eigenvectors of the normal part
=========== ============ ==========================================================================

The bases of all three measures are *orthonormal*, which gives every state the same scale. The HiPPO paper
states LegT also in the scaling of the Legendre memory unit and LagT with other tilts. The first differs from
the LegT here by a diagonal change of basis with the entries :math:`(-1)^n \sqrt{2n+1}`, which spoils the low
rank of the symmetric part, so that no unitary V exists; the second adds a multiple of the identity to A.

=========  ============================================  =================================================
measure    impulse response of state n, at the time s    what it remembers
=========  ============================================  =================================================
``legs``   :math:`e^{-s} \sqrt{2n+1} P_n(2e^{-s} - 1)`   the whole past, exponentially warped
``legt``   :math:`\sqrt{2n+1} P_n(1 - 2s)` as N grows    the last unit of time, evenly (0 for s > 1)
``lagt``   :math:`e^{-s/2} L_n(s)`                       the whole past, fading exponentially
=========  ============================================  =================================================

with the Legendre polynomials P_n and the Laguerre polynomials L_n. LegS with its right-hand side divided by
the time since the start remembers the whole past evenly instead (HiPPO, Theorem 2).

References
----------
HiPPO: Gu, Dao, Ermon, Rudra, Ré, 2020, arXiv 2008.07669. S4: Gu, Goel, Ré, 2022, arXiv 2111.00396.
S4D: Gu, Gupta, Goel, Ré, 2022, arXiv 2206.11893. How to train your HiPPO: Gu, Johnson, Timalsina, Rudra, Ré,
2023, arXiv 2206.12037.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIAGONAL_INITS", "MEASURES", "NPLR", "conjugate_half", "diagonal", "nplr", "transition"]

RealArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


class NPLR(NamedTuple):
    """Normal-plus-low-rank form of a real system: A = V (diag(Lambda) - P^T conj(P)) V^*, B_real = V B.

    Attributes
    ----------
    Lambda : ndarray of shape (N,), complex128
        Eigenvalues of the normal part. The first N // 2 have a positive imaginary part, ascending; the last
        N // 2 are their conjugates in the same order; for odd N the real one stands between them.
    P : ndarray of shape (rank, N), complex128
        Low-rank factor: row r is the vector P_r of A = V (diag(Lambda) - sum_r P_r P_r^*) V^*.
    B : ndarray of shape (N,), complex128
        Input vector V^* B_real. The phase of each eigenvector is chosen such that B is real and not negative,
        which makes the result independent of the linear-algebra library.
    V : ndarray of shape (N, N), complex128
        Unitary; its columns come in conjugate pairs in the order of `Lambda`.
    """

    Lambda: ComplexArray
    P: ComplexArray
    B: ComplexArray
    V: ComplexArray


_Entry = TypeVar("_Entry")


def _lookup(name: str, value: str, table: Mapping[str, _Entry]) -> _Entry:
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, table))}, got {value!r}")
    return table[value]


def _degrees(d_state: int) -> RealArray:
    """The degrees 0, ..., d_state - 1 as float64."""
    if isinstance(d_state, bool) or not isinstance(d_state, (int, np.integer)) or d_state < 1:
        raise ValueError(f"d_state must be an integer of at least 1, got {d_state!r}")
    return np.arange(d_state, dtype=np.float64)


class _Measure(NamedTuple):
    """What defines a measure; each function takes the degrees n = 0, ..., N - 1 as float64 of shape (N,)."""

    transition: Callable[[RealArray], tuple[RealArray, RealArray]]  # n -> A (N, N), B (N,)
    low_rank: Callable[[RealArray], RealArray]  # n -> P (rank, N) with A + P^T P = decay * I + skew-symmetric
    decay: float  # the real part that all eigenvalues of the normal part share


def _legs(n: RealArray) -> tuple[RealArray, RealArray]:
    """HiPPO-LegS (HiPPO, Theorem 2; S4, eq. 2)."""
    B = np.sqrt(2 * n + 1)
    return -np.tril(np.outer(B, B), -1) - np.diag(n + 1), B


def _legs_low_rank(n: RealArray) -> RealArray:
    return np.sqrt(n + 0.5)[None]


def _legt(n: RealArray) -> tuple[RealArray, RealArray]:
    """HiPPO-LegT for a window of one unit of time, orthonormal basis (HiPPO, Appendix D.1, lambda_n = 1)."""
    B = np.sqrt(2 * n + 1)
    row, column = n[:, None], n[None, :]
    return -np.outer(B, B) * np.where(row >= column, 1.0, (-1.0) ** (row - column)), B


def _legt_low_rank(n: RealArray) -> RealArray:
    # The symmetric part couples even degrees with even and odd with odd, hence one vector a parity.
    B = np.sqrt(2 * n + 1)
    return np.stack([np.where(n % 2 == parity, B, 0.0) for parity in (0, 1)])


def _lagt(n: RealArray) -> tuple[RealArray, RealArray]:
    """HiPPO-LagT, Laguerre functions (S4, Appendix C.1; HiPPO, Appendix D.2, alpha = beta = 0)."""
    return 0.5 * np.eye(n.size) - np.tril(np.ones((n.size, n.size))), np.ones(n.size)


def _lagt_low_rank(n: RealArray) -> RealArray:
    return np.full((1, n.size), np.sqrt(0.5))


_MEASURES = {
    "legs": _Measure(_legs, _legs_low_rank, decay=-0.5),
    "legt": _Measure(_legt, _legt_low_rank, decay=0.0),
    "lagt": _Measure(_lagt, _lagt_low_rank, decay=0.0),
}


def transition(measure: str, d_state: int) -> tuple[RealArray, RealArray]:
    """Return the state matrix and the input vector of a HiPPO system.

    Parameters
    ----------
    measure : {"legs", "legt", "lagt"}
        How the past is weighted; the table at the top of the module gives the bases.
    d_state : int
        Number of real state dimensions N, at least 1.

    Returns
    -------
    A : ndarray of shape (N, N), float64
        State matrix, in 1 / (unit of time): all its eigenvalues have a negative real part.
    B : ndarray of shape (N,), float64
        Input vector.

    Raises
    ------
    ValueError
        If `measure` is unknown or `d_state` is not a positive integer.

    References
    ----------
    HiPPO, arXiv 2008.07669, Theorems 1 and 2 and Appendix D; S4, arXiv 2111.00396, Appendix C.1.
    """
    return _lookup("measure", measure, _MEASURES).transition(_degrees(d_state))


def nplr(measure: str, d_state: int) -> NPLR:
    """Return a HiPPO system in normal-plus-low-rank form by a unitary change of basis.

    The normal part is a multiple of the identity plus a skew-symmetric matrix S, and -iS is Hermitian, so its
    eigenvectors are orthonormal to rounding. A itself is never diagonalised: the condition number of the
    eigenvectors of LegS grows like 2^N.

    Parameters
    ----------
    measure : {"legs", "legt", "lagt"}
        As in `transition`.
    d_state : int
        Number of real state dimensions N, at least 1.

    Returns
    -------
    NPLR
        ``Lambda (N,)``, ``P (rank, N)``, ``B (N,)`` and ``V (N, N)``, complex128. The rank is 1 for "legs"
        and "lagt", 2 for "legt".

    Raises
    ------
    ValueError
        If `measure` is unknown or `d_state` is not a positive integer.

    References
    ----------
    S4, arXiv 2111.00396, Theorem 1 and Appendix C.1.
    """
    A, B = transition(measure, d_state)
    entry = _MEASURES[measure]
    P = entry.low_rank(_degrees(d_state))
    normal = A + P.T @ P
    frequency, V = np.linalg.eigh(-0.5j * (normal - normal.T))
    V = V * np.exp(1j * np.angle(V.conj().T @ B))

    # eigh sorts ascending. Of each pair only the eigenvector with the positive frequency is used, and then
    # conjugated, so that the pairs are exact. The eigenvector between the pairs (odd N) is real.
    pairs = d_state // 2
    upper, centre = V[:, d_state - pairs :], V[:, pairs : d_state - pairs].real
    V = np.concatenate([upper, centre, upper.conj()], axis=1)
    omega = frequency[d_state - pairs :]
    Lambda = entry.decay + 1j * np.concatenate([omega, np.zeros(centre.shape[1]), -omega])
    # After the choice of phase V^* B is real and not negative but for rounding.
    return NPLR(Lambda, P @ V.conj(), np.abs(V.conj().T @ B).astype(np.complex128), V)


def conjugate_half(form: NPLR) -> NPLR:
    """Keep of each conjugate pair the half with a positive imaginary part.

    With the half state x_+ (N/2 complex numbers), the real state is 2 Re(V_+ x_+), and the system is

        x_+' = Lambda_+ x_+ - sum_r P_r+ 2 Re(P_r+^* x_+) + B_+ u,      y = 2 Re(C V_+ x_+).

    Parameters
    ----------
    form : NPLR
        The form with all N eigenvalues, as `nplr` returns it; N even.

    Returns
    -------
    NPLR
        ``Lambda (N/2,)`` with Im > 0 ascending, ``P (rank, N/2)``, ``B (N/2,)``, ``V (N, N/2)``.

    Raises
    ------
    ValueError
        If the number of eigenvalues is odd, or `form` has been halved before.
    """
    d_state, columns = form.V.shape
    if columns != d_state or d_state % 2:
        raise ValueError(
            "form must hold all of an even number of eigenvalues, as nplr returns it for even d_state; "
            f"got V of shape {form.V.shape}"
        )
    half = d_state // 2
    return NPLR(form.Lambda[:half], form.P[:, :half], form.B[:half], form.V[:, :half])


def _s4d_legs(d_state: int) -> tuple[ComplexArray, ComplexArray]:
    # Half of B, because without the low-rank term the response doubles as N grows (S4D, Theorem 3).
    half = conjugate_half(nplr("legs", d_state))
    return half.Lambda, half.B / 2


def _half_decay(omega: RealArray) -> tuple[ComplexArray, ComplexArray]:
    Lambda = np.empty(omega.size, dtype=np.complex128)
    Lambda.real, Lambda.imag = -0.5, omega
    return Lambda, np.ones_like(Lambda)


def _s4d_lin(d_state: int) -> tuple[ComplexArray, ComplexArray]:
    n = _degrees(d_state // 2)
    return _half_decay(np.pi * n)


def _s4d_inv(d_state: int) -> tuple[ComplexArray, ComplexArray]:
    n = _degrees(d_state // 2)[::-1]
    return _half_decay(d_state / np.pi * (d_state / (2 * n + 1) - 1))


_DIAGONAL_INITS: dict[str, Callable[[int], tuple[ComplexArray, ComplexArray]]] = {
    "legs": _s4d_legs,
    "lin": _s4d_lin,
    "inv": _s4d_inv,
}

#: Names that `transition` and `nplr` accept.
MEASURES = tuple(_MEASURES)
#: Names that `diagonal` accepts.
DIAGONAL_INITS = tuple(_DIAGONAL_INITS)


def diagonal(init: str, d_state: int) -> tuple[ComplexArray, ComplexArray]:
    r"""Return a diagonal system to start a diagonal state-space layer from, one of each conjugate pair.

    The real system has N = `d_state` dimensions and the output y = 2 Re(C x), with x of N/2 complex numbers.

    - "legs" (S4D-LegS): the normal part of LegS, Lambda as in `nplr`, B = V^* B_LegS / 2. As N grows, its
      response to a smooth input tends to that of LegS itself (S4D, Theorem 3).
    - "lin" (S4D-Lin): :math:`\Lambda_n = -1/2 + i \pi n`, B = 1: damped Fourier modes.
    - "inv" (S4D-Inv): :math:`\Lambda_n = -1/2 + i (N / \pi) (N / (2n + 1) - 1)`, B = 1: close to the
      eigenvalues of "legs" in closed form.

    Parameters
    ----------
    init : {"legs", "lin", "inv"}
        Name of the initialisation.
    d_state : int
        Number of real state dimensions N, even and at least 2.

    Returns
    -------
    Lambda : ndarray of shape (N/2,), complex128
        Eigenvalues in 1 / (unit of time), Im >= 0 ascending, Re = -1/2. Im > 0 but for the first of "lin".
    B : ndarray of shape (N/2,), complex128
        Input vector, real and positive.

    Raises
    ------
    ValueError
        If `init` is unknown or `d_state` is not an even integer of at least 2.

    References
    ----------
    S4D, arXiv 2206.11893, Section 4: the definitions that the paper names S4D-LegS, S4D-Lin and S4D-Inv.
    """
    build = _lookup("init", init, _DIAGONAL_INITS)
    _degrees(d_state)
    if d_state % 2:
        raise ValueError(
            "d_state must be even, because it counts real dimensions and a conjugate pair takes two of them; "
            f"got {d_state}"
        )
    return build(d_state)
