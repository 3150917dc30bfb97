"""The public diagonal scan: arguments are checked and the backend is chosen here."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import gbt_alpha
from tsssm.ops import operands
from tsssm.ops.bounds import liquid_bound
from tsssm.ops.operands import (
    Expected,
    check,
    check_eigenvalues,
    check_input,
    check_readouts,
    needs_gradient,
    stacked_gaps,
)
from tsssm.ops.sequence import ScanState, final_input, previous_inputs


def diagonal_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None = None,
    state: ScanState | None = None,
    *,
    D: Tensor | None = None,
    method: str | float = "zoh",
    liquid: bool = False,
    reverse: bool = False,
) -> tuple[Tensor, ScanState]:
    r"""Diagonal state-space model over a sequence, with a step of its own for every sample.

    .. math::
        x_k = \bar A_k x_{k-1} + \bar B_k u_k, \qquad y_k = \mathrm{Re}(C x_k),

    discretised with the step :math:`\Delta_h\,\delta_k`. A sample with :math:`\delta_k = 0` (padding)
    leaves the state as it is.

    Parameters
    ----------
    u : Tensor (batch, L, H), real
        Input. It is computed at the precision of ``A`` and returned in its own dtype.
    A, B : Tensor (H, N), complex64 or complex128
        Continuous-time diagonal system, Re A <= 0, and input vector.
    C : Tensor (M, H, N) or (K, M, H, N), complex
        Readouts. For a real system stored as conjugate pairs pass twice the half that is stored. With K = 2
        the second ones read the same system run from rest in the other direction, and the outputs add up.
    step : Tensor (H,), real
        Timescale Delta of each channel.
    dt : Tensor (batch, L), real, optional
        Elapsed time delta since the previous sample, not negative; None is a regular grid of step 1.
        With ``reverse`` these are still the gaps in natural order.
    state : ScanState, optional
        State to start from; zero by default.
    D : Tensor (M, H), real, optional
        Feedthrough: D u is added to the output.
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation; a number is the alpha of the generalised bilinear transform.
    liquid : bool
        The transition of Liquid-S4, :math:`\bar A_k + \bar B_k \tilde u_k`, which depends on the input. It
        is bounded, so that the output is finite for every finite input: :math:`\tilde u` is u clipped, mode
        by mode, to :math:`\pm(-\mathrm{Re} A) / |B|`, which takes away all decay of the mode. By zero-order
        hold no transition leaves the closed unit disc then; by a transform it is projected there.
    reverse : bool
        Scan from the last sample to the first.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    state : ScanState

    Raises
    ------
    ValueError
        If shapes or dtypes disagree, ``method`` is unknown, or ``liquid`` is combined with first-order hold.

    Notes
    -----
    Compiled on a CPU, and on a CUDA device in float32, where Triton is installed; elsewhere, and for a
    gradient of ``dt``, PyTorch's operations over chunks of at least 64 samples.
    """
    alpha = gbt_alpha(method)
    if liquid and method == "foh":
        raise ValueError("liquid needs one input coefficient a step: use another method than 'foh'.")
    batch, length, channels = check_input(u)
    real, modes = check_eigenvalues("A", A)
    check_readouts(C)
    expected: Expected = {
        "A": (A, (channels, modes), A.dtype),
        "B": (B, (channels, modes), A.dtype),
        "C": (C, (*C.shape[:-2], channels, modes), A.dtype),
        "step": (step, (channels,), real),
    }
    if dt is not None:
        expected["dt"] = (dt, (batch, length), dt.dtype)
    if state is not None:
        expected["state.x"] = (state.x, (batch, channels, modes), A.dtype)
        expected["state.u"] = (state.u, (batch, channels), real)
    if D is not None:
        expected["D"] = (D, (C.shape[-3], channels), real)
    check(u, expected)
    inputs = u.to(real)
    u0 = inputs.new_zeros(batch, channels) if state is None else state.u
    x0 = None if state is None else state.x
    # From here on, readouts, gaps and previous inputs have a leading axis of one or two directions.
    readouts = C[None] if C.ndim == 3 else C
    orders = (reverse, not reverse)[: len(readouts)]
    dt = stacked_gaps(dt, len(readouts), reverse, real)
    u_prev = _previous_inputs(inputs, u0, dt, orders) if method == "foh" else None
    bound = liquid_bound(A, B) if liquid else None
    arguments = (inputs, u_prev, A, B, readouts, D, step, dt, bound, x0)
    if operands.runs_compiled(inputs, dt, True):
        from tsssm.ops.autograd import diagonal as compiled

        scan = compiled.diagonal_scan if torch.compiler.is_compiling() else compiled.EagerDiagonalScan.apply
        options = ("gbt" if alpha is not None else method, alpha or 0.0, reverse)
        y, x, *_ = scan(*arguments, *options, needs_gradient(*arguments))
    else:
        y, x = operands.plain().diagonal_scan(*arguments, method, reverse)
    return y.to(u.dtype), ScanState(x, final_input(inputs, u0, None if dt is None else dt[0], reverse))


def _previous_inputs(u: Tensor, u0: Tensor, dt: Tensor | None, orders: tuple[bool, ...]) -> Tensor:
    """Input before each sample in each direction, (K, batch, L, H); the second direction starts from 0."""
    return torch.stack(
        [
            previous_inputs(u, torch.zeros_like(u0) if k else u0, None if dt is None else dt[k], backwards)
            for k, backwards in enumerate(orders)
        ]
    )
