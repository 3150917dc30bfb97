"""HiPPO matrices by measure, and their normal-plus-low-rank form; the package says what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


class NPLR(NamedTuple):
    """Normal-plus-low-rank form of a real system: A = V (diag(Lambda) - P^T conj(P)) V^*, B_real = V B.

    Attributes
    ----------
    Lambda : ndarray of shape (N,), complex128
        Eigenvalues of the normal part. The first N // 2 have a positive imaginary part, ascending; the last
        N // 2 are their conjugates in the same order; for odd N the real one stands between them. The pair of
        c_0 and the unused state of "fourier" with even N comes first, with the eigenvalue 0 twice.
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


def lookup(name: str, value: str, table: Mapping[str, _Entry]) -> _Entry:
    """The entry of a table of options; ValueError unless there is one."""
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, table))}, got {value!r}")
    return table[value]


def check_size(d_state: int) -> int:
    """The number of states; ValueError unless it is a positive integer."""
    if isinstance(d_state, bool) or not isinstance(d_state, (int, np.integer)) or d_state < 1:
        raise ValueError(f"d_state must be an integer of at least 1, got {d_state!r}")
    return int(d_state)


def _degrees(d_state: int) -> RealArray:
    """The degrees 0, ..., d_state - 1 as float64."""
    return np.arange(check_size(d_state), dtype=np.float64)


class _Modes(NamedTuple):
    """Eigenvectors of a real skew-symmetric matrix, one of each conjugate pair."""

    omega: RealArray  # (N // 2,) ascending; the eigenvalues are i omega and their conjugates
    pairs: ComplexArray  # (N, N // 2)
    centre: ComplexArray  # (N, N % 2), real: the one of the eigenvalue 0 where N is odd


def _modes_by_eigh(skew: RealArray) -> _Modes:
    """Modes of a matrix with distinct eigenvalues, from the Hermitian -iS."""
    frequency, V = np.linalg.eigh(-1j * skew)
    # eigh sorts ascending. Of each pair only the vector with the positive frequency is used, so that
    # the pairs are exact.
    first = skew.shape[0] - skew.shape[0] // 2
    return _Modes(frequency[first:], V[:, first:], V[:, first - skew.shape[0] % 2 : first])


class _Measure(NamedTuple):
    """What defines a measure; each function takes the degrees n = 0, ..., N - 1 as float64 of shape (N,)."""

    transition: Callable[[RealArray], tuple[RealArray, RealArray]]  # n -> A (N, N), B (N,)
    low_rank: Callable[[RealArray], RealArray]  # n -> P (rank, N) with A + P^T P = decay * I + skew-symmetric
    decay: float  # the real part that all eigenvalues of the normal part share
    modes: Callable[[RealArray], _Modes] = _modes_by_eigh  # of the skew-symmetric matrix


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


def fourier_basis(size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Order m of the basis function of each state (N,), and whether it is a sine (N,)."""
    index = np.arange(size)
    if size % 2:
        index[1:] += 1  # leaves out the sine of order 0
    return index // 2, index % 2 == 1


def _fourier(n: RealArray) -> tuple[RealArray, RealArray]:
    """HiPPO-FouT for a window of one unit of time (How to train your HiPPO, S4-FouT).

    The states x_n = int_0^1 g_n(s) u(t - s) ds of basis functions g_n with g_n(0) = g_n(1) = b_n obey
    x_n' = b_n (u(t) - u(t - 1)) + int g_n'(s) u(t - s) ds. What leaves the window is taken from the Fourier
    series, which at the ends of the window is the mean of both: u(t - 1) = 2 sum_k b_k x_k - u(t).
    """
    order, sine = fourier_basis(n.size)
    b = _fourier_start(n)
    A = -2 * np.outer(b, b)
    cosines, sines = np.flatnonzero(~sine & (order > 0)), np.flatnonzero(sine & (order > 0))
    A[cosines, sines] -= 2 * np.pi * order[sines]
    A[sines, cosines] += 2 * np.pi * order[sines]
    return A, 2 * b


def _fourier_start(n: RealArray) -> RealArray:
    """The basis functions at the age 0."""
    order, sine = fourier_basis(n.size)
    return np.where(sine, 0.0, np.where(order == 0, 1.0, np.sqrt(2)))


def _fourier_low_rank(n: RealArray) -> RealArray:
    return np.sqrt(2) * _fourier_start(n)[None]


def _fourier_modes(skew: RealArray) -> _Modes:
    # In closed form, because the eigenvalue 0 is double where the unused state is there, and a solver would
    # return any two vectors for it: here c_0 and s_0 make a pair like every other.
    size = skew.shape[0]
    _, sine = fourier_basis(size)
    sines = np.flatnonzero(sine)
    pairs = np.zeros((size, sines.size), dtype=np.complex128)
    pairs[sines - 1, np.arange(sines.size)] = np.sqrt(0.5)
    pairs[sines, np.arange(sines.size)] = -1j * np.sqrt(0.5)
    return _Modes(skew[sines, sines - 1], pairs, np.eye(size, size % 2, dtype=np.complex128))


_MEASURES = {
    "legs": _Measure(_legs, _legs_low_rank, decay=-0.5),
    "legt": _Measure(_legt, _legt_low_rank, decay=0.0),
    "lagt": _Measure(_lagt, _lagt_low_rank, decay=0.0),
    "fourier": _Measure(_fourier, _fourier_low_rank, decay=0.0, modes=_fourier_modes),
}
#: Names that `transition`, `nplr` and `low_recurrence` accept.
MEASURES = tuple(_MEASURES)


def transition(measure: str, d_state: int) -> tuple[RealArray, RealArray]:
    """Return the state matrix and the input vector of a HiPPO system.

    Parameters
    ----------
    measure : {"legs", "legt", "lagt", "fourier"}
        How the past is weighted; the table at the top of the package gives the bases.
    d_state : int
        Number of real state dimensions N, at least 1.

    Returns
    -------
    A : ndarray of shape (N, N), float64
        State matrix, in 1 / (unit of time). All its eigenvalues have a negative real part, but for the
        eigenvalue 0 of the unused state of "fourier" with even N.
    B : ndarray of shape (N,), float64
        Input vector.

    Raises
    ------
    ValueError
        If `measure` is unknown or `d_state` is not a positive integer.

    References
    ----------
    HiPPO, arXiv 2008.07669, Theorems 1 and 2 and Appendix D; S4, arXiv 2111.00396, Appendix C.1; How to train
    your HiPPO, arXiv 2206.12037, S4-FouT (the truncated Fourier basis).
    """
    return lookup("measure", measure, _MEASURES).transition(_degrees(d_state))


def nplr(measure: str, d_state: int) -> NPLR:
    """Return a HiPPO system in normal-plus-low-rank form by a unitary change of basis.

    The normal part is a multiple of the identity plus a skew-symmetric matrix S, and -iS is Hermitian, so its
    eigenvectors are orthonormal to rounding; those of "fourier" are in closed form. A itself is never
    diagonalised: the condition number of the eigenvectors of LegS grows like 2^N.

    Parameters
    ----------
    measure : {"legs", "legt", "lagt", "fourier"}
        As in `transition`.
    d_state : int
        Number of real state dimensions N, at least 1.

    Returns
    -------
    NPLR
        ``Lambda (N,)``, ``P (rank, N)``, ``B (N,)`` and ``V (N, N)``, complex128. The rank is 2 for "legt"
        and 1 for the others.

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
    omega, pairs, centre = entry.modes((normal - normal.T) / 2)
    pairs = pairs * np.exp(1j * np.angle(pairs.conj().T @ B))
    centre = centre * np.exp(1j * np.angle(centre.conj().T @ B))
    V = np.concatenate([pairs, centre.real, pairs.conj()], axis=1)
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
        ``Lambda (N/2,)`` with Im >= 0 ascending, ``P (rank, N/2)``, ``B (N/2,)``, ``V (N, N/2)``.

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
