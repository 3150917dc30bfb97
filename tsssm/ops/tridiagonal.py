"""The public scan of tridiagonal systems: arguments are checked and the backend is chosen here."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops import operands
from tsssm.ops.operands import Expected, check, check_alpha, check_input, check_readouts, stacked_gaps


def tridiagonal_scan(
    u: Tensor,
    T: Tensor,
    shift: Tensor,
    scale: Tensor,
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
    r"""State-space model with a matrix of low recurrence width, by the generalised bilinear transform.

    .. math::
        \dot x = F\,(\mathrm{shift} + T^{-1})\,x + B u, \qquad y = C x

    with T tridiagonal, and F the diagonal matrix of the ``scale``. The class P (D + T^{-1}) Q of LSSL
    (arXiv 2110.13985, section 4.2) is brought to this form by z = Q x and F = P Q.

    Parameters
    ----------
    u : Tensor (batch, L, H), real
        Computed at the precision of ``T`` and returned in its own dtype.
    T : Tensor (3, H, N) or (3, 1, N), float32 or float64
        Diagonals of T below, on and above the main one, each entry in its row: T[0, :, 0] and T[2, :, -1]
        are not used.
    shift, scale, B : Tensor (H, N) or (1, N), real
        One system for each channel, or one for all.
    C : Tensor (M, H, N) or (K, M, H, N), real
        Readouts; with K = 2 the second ones read the same system run from rest in the other direction, and
        the outputs add up.
    step, dt, D, alpha, reverse
        As in `dplr_scan`.
    x0 : Tensor (batch, H, N), real, optional
        State to start from; zero by default.

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
    The systems are solved without pivoting. That is stable for the HiPPO matrices; for others the caller has
    to keep the pivots away from zero.

    Compiled on a CPU, and on a CUDA device in float32, where Triton is installed, for at most 128 modes and 8
    readouts; elsewhere, and for a gradient of ``dt``, PyTorch's operations over chunks of 64 samples or
    more, by dense matrices.
    """
    alpha = check_alpha(alpha)
    batch, length, channels = check_input(u)
    if T.dtype not in (torch.float32, torch.float64) or T.ndim != 3 or T.shape[0] != 3 or T.shape[2] == 0:
        raise ValueError(
            f"T must be float32 or float64 (3, H, N) with N >= 1; got {T.dtype} {tuple(T.shape)}."
        )
    check_readouts(C)
    real, modes = T.dtype, T.shape[2]
    shared = 1 if T.shape[1] == 1 else channels
    expected: Expected = {
        "T": (T, (3, shared, modes), real),
        "shift": (shift, (shared, modes), real),
        "scale": (scale, (shared, modes), real),
        "B": (B, (shared, modes), real),
        "C": (C, (*C.shape[:-2], channels, modes), real),
        "step": (step, (channels,), real),
    }
    if dt is not None:
        expected["dt"] = (dt, (batch, length), dt.dtype)
    if x0 is not None:
        expected["x0"] = (x0, (batch, channels, modes), real)
    if D is not None:
        expected["D"] = (D, (C.shape[-3], channels), real)
    check(u, expected)
    readouts = C[None] if C.ndim == 3 else C
    dt = stacked_gaps(dt, len(readouts), reverse, real)
    system = (T, shift, scale, B, readouts, D, step, dt, x0)
    inputs = u.to(real)
    if operands.runs_compiled(inputs, dt, operands.fits_a_warp(modes, C.shape[-3])):
        from tsssm.ops.autograd import tridiagonal as compiled

        y, x = compiled.scan(inputs, *system, alpha, reverse)
    else:
        y, x = operands.plain().tridiagonal_scan(inputs, *system, alpha, reverse)
    return y.to(u.dtype), x
