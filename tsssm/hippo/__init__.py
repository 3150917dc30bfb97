r"""HiPPO systems and the initial values that follow from them, in float64 and complex128 (NumPy only).

A HiPPO system :math:`\dot x = A x + B u` keeps in its N states the coefficients of the past input in an
orthogonal basis. Its matrix is normal up to a correction of low rank, so a *unitary* change of basis gives

    A = V (diag(Lambda) - sum_r P_r P_r^*) V^*,        V^* V = I.

It is also of low recurrence width: in an orthonormal real basis, which for the polynomial measures is the one
they come in, A = P (D + T^{-1}) Q with P, D and Q diagonal and T tridiagonal.

=========== ============ ==========================================================================
symbol      shape        meaning
=========== ============ ==========================================================================
``A``       (N, N)       state matrix, real
``B``       (N,)         input vector: real, or complex in the basis of V
``Lambda``  (N,)         eigenvalues of the normal part, in 1 / (unit of time)
``P``       (rank, N)    low-rank factor in the basis of V, one row per rank
``V``       (N, N)       unitary, columns are the eigenvectors of the normal part
=========== ============ ==========================================================================

The bases of all measures are *orthonormal*, which gives every state the same scale. The HiPPO paper
states LegT also in the scaling of the Legendre memory unit and LagT with other tilts. The first differs from
the LegT here by a diagonal change of basis with the entries :math:`(-1)^n \sqrt{2n+1}`, which spoils the low
rank of the symmetric part, so that no unitary V exists; the second adds a multiple of the identity to A.

===========  ============================================  ================================================
measure      impulse response of state n, at the time s    what it remembers
===========  ============================================  ================================================
``legs``     :math:`e^{-s} \sqrt{2n+1} P_n(2e^{-s} - 1)`   the whole past, exponentially warped
``legt``     :math:`\sqrt{2n+1} P_n(1 - 2s)` as N grows    the last unit of time, evenly (0 for s > 1)
``lagt``     :math:`e^{-s/2} L_n(s)`                       the whole past, fading exponentially
``fourier``  see below, as N grows                         the last unit of time, evenly (0 for s > 1)
===========  ============================================  ================================================

with the Legendre polynomials P_n and the Laguerre polynomials L_n. LegS with its right-hand side divided by
the time since the start remembers the whole past evenly instead (HiPPO, Theorem 2).

The states of ``fourier`` come in pairs with the impulse responses :math:`c_m = \sqrt 2 \cos(2 \pi m s)` and
:math:`s_m = \sqrt 2 \sin(2 \pi m s)`, in the order c_0, s_0, c_1, s_1, ...; c_0 = 1, and the state s_0, whose
basis function is zero, stays zero: it is there because published code has it, which allots states in pairs.
With an odd number of states it is left out: c_0, c_1, s_1, ...

References
----------
HiPPO: Gu, Dao, Ermon, Rudra, Ré, 2020, arXiv 2008.07669. LSSL: Gu, Johnson, Goel, Saab, Dao, Rudra, Ré, 2021,
arXiv 2110.13985. S4: Gu, Goel, Ré, 2022, arXiv 2111.00396. S4D: Gu, Gupta, Goel, Ré, 2022, arXiv 2206.11893.
How to train your HiPPO: Gu, Johnson, Timalsina, Rudra, Ré, 2023, arXiv 2206.12037.
"""

from tsssm.hippo._diagonal import DIAGONAL_INITS, diagonal
from tsssm.hippo._low_recurrence import LowRecurrence, low_recurrence
from tsssm.hippo._systems import MEASURES, NPLR, conjugate_half, nplr, transition

__all__ = [
    "DIAGONAL_INITS",
    "MEASURES",
    "NPLR",
    "LowRecurrence",
    "conjugate_half",
    "diagonal",
    "low_recurrence",
    "nplr",
    "transition",
]
