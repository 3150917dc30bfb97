"""Diagonal systems to start from: the normal part of LegS and its closed-form relatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tsssm.hippo._systems import ComplexArray, RealArray, check_size, conjugate_half, lookup, nplr


def _s4d_legs(d_state: int) -> tuple[ComplexArray, ComplexArray]:
    # Half of B, because without the low-rank term the response doubles as N grows (S4D, Theorem 3).
    half = conjugate_half(nplr("legs", d_state))
    return half.Lambda, half.B / 2


def _half_decay(omega: RealArray) -> tuple[ComplexArray, ComplexArray]:
    Lambda = np.empty(omega.size, dtype=np.complex128)
    Lambda.real, Lambda.imag = -0.5, omega
    return Lambda, np.ones_like(Lambda)


def _s4d_lin(d_state: int) -> tuple[ComplexArray, ComplexArray]:
    n = np.arange(d_state // 2, dtype=np.float64)
    return _half_decay(np.pi * n)


def _s4d_inv(d_state: int) -> tuple[ComplexArray, ComplexArray]:
    n = np.arange(d_state // 2, dtype=np.float64)[::-1]
    return _half_decay(d_state / np.pi * (d_state / (2 * n + 1) - 1))


_DIAGONAL_INITS: dict[str, Callable[[int], tuple[ComplexArray, ComplexArray]]] = {
    "legs": _s4d_legs,
    "lin": _s4d_lin,
    "inv": _s4d_inv,
}

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
    build = lookup("init", init, _DIAGONAL_INITS)
    check_size(d_state)
    if d_state % 2:
        raise ValueError(
            "d_state must be even, because it counts real dimensions and a conjugate pair takes two of them; "
            f"got {d_state}"
        )
    return build(d_state)
