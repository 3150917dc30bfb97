"""The public scan of diagonal plus low-rank systems: arguments are checked and the backend is chosen here."""

from __future__ import annotations

from torch import Tensor

from tsssm.ops import operands
from tsssm.ops.operands import (
    Expected,
    check,
    check_alpha,
    check_eigenvalues,
    check_input,
    check_rank,
    check_readouts,
    stacked_gaps,
)

# Equations that a step of the kernels of the GPU solves.
_RANKS_ON_GPU = 2


def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None = None,
    x0: Tensor | None = None,
    *,
    D: Tensor | None = None,
    alpha: float = 0.5,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""State-space model with a diagonal plus low-rank matrix, by the generalised bilinear transform.

    .. math::
        \dot x = \Lambda x - \sum_r P_r\,\mathrm{Re}(Q_r^* x) + B u, \qquad y = \mathrm{Re}(C x)

    This is a real system of normal plus low-rank form, A = V (Lambda - P P^*) V^*, of which one of each
    conjugate pair of eigenvalues is stored: then Q = 2 P for a pair and Q = P for a real eigenvalue.

    Parameters
    ----------
    u : Tensor (batch, L, H), real
        Computed at the precision of ``Lambda`` and returned in its own dtype.
    Lambda, B : Tensor (H, N) or (1, N), complex
        One system for each channel, or one for all.
    P, Q : Tensor (rank, H, N) or (rank, 1, N), complex
    C : Tensor (M, H, N) or (K, M, H, N), complex
        Readouts; with K = 2 the second ones read the same system run from rest in the other direction, and
        the outputs add up.
    step : Tensor (H,), real
        Timescale Delta of each channel.
    dt : Tensor (batch, L), real, optional
        Elapsed time since the previous sample; None is a regular grid of step 1, 0 is padding.
    x0 : Tensor (batch, H, N), complex, optional
        State to start from; zero by default.
    D : Tensor (M, H), real, optional
        Feedthrough: D u is added to the output.
    alpha : float
        0 is Euler, 1/2 bilinear, 1 backward Euler.
    reverse : bool
        Scan from the last sample to the first.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    x : Tensor (batch, H, N)

    Raises
    ------
    ValueError
        If shapes or dtypes disagree or alpha is outside [0, 1].

    Notes
    -----
    Compiled on a CPU, and on a CUDA device in float32, where Triton is installed, for at most rank 2, 64
    modes and 8 readouts; elsewhere, and for a gradient of ``dt``, PyTorch's operations over chunks of 64
    samples.
    """
    alpha = check_alpha(alpha)
    batch, length, channels = check_input(u)
    real, modes = check_eigenvalues("Lambda", Lambda)
    check_readouts(C)
    check_rank(P)
    shared = 1 if Lambda.shape[0] == 1 else channels
    rank = P.shape[:1]
    expected: Expected = {
        "Lambda": (Lambda, (shared, modes), Lambda.dtype),
        "P": (P, (*rank, shared, modes), Lambda.dtype),
        "Q": (Q, (*rank, shared, modes), Lambda.dtype),
        "B": (B, (shared, modes), Lambda.dtype),
        "C": (C, (*C.shape[:-2], channels, modes), Lambda.dtype),
        "step": (step, (channels,), real),
    }
    if dt is not None:
        expected["dt"] = (dt, (batch, length), dt.dtype)
    if x0 is not None:
        expected["x0"] = (x0, (batch, channels, modes), Lambda.dtype)
    if D is not None:
        expected["D"] = (D, (C.shape[-3], channels), real)
    check(u, expected)
    readouts = C[None] if C.ndim == 3 else C
    dt = stacked_gaps(dt, len(readouts), reverse, real)
    inputs = u.to(real)
    on_gpu = len(P) <= _RANKS_ON_GPU and operands.fits_a_warp(2 * modes, C.shape[-3])
    if operands.runs_compiled(inputs, dt, on_gpu):
        from tsssm.ops.autograd.dplr import scan
    else:
        scan = operands.plain().dplr_scan
    y, x = scan(inputs, Lambda, P, Q, B, readouts, D, step, dt, x0, alpha, reverse)
    return y.to(u.dtype), x
