"""The public operations: arguments are checked and the backend is chosen here, and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import gbt_alpha
from tsssm.ops import reference
from tsssm.ops.sequence import ScanState, final_input, previous_inputs, reversed_gaps


def diagonal_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None = None,
    state: ScanState | None = None,
    *,
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
        Input. Half-precision input is computed in float32 and returned in its own dtype.
    A, B : Tensor (H, N), complex
        Continuous-time diagonal system, Re A <= 0, and input vector.
    C : Tensor (M, H, N), complex
        Readouts. For a real system stored as conjugate pairs pass twice the half that is stored.
    step : Tensor (H,), real
        Timescale Delta of each channel.
    dt : Tensor (batch, L), real, optional
        Elapsed time delta since the previous sample, not negative; None is a regular grid of step 1.
        With ``reverse`` these are still the gaps in natural order.
    state : ScanState, optional
        State to start from; zero by default.
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation; a number is the alpha of the generalised bilinear transform.
    liquid : bool
        Add the input-dependent transition of Liquid-S4, :math:`\bar A_k + \bar B_k u_k`, projected to
        the closed unit disc so that the output is finite for every finite input.
    reverse : bool
        Scan from the last sample to the first.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    state : ScanState

    Raises
    ------
    ValueError
        If shapes disagree, ``method`` is unknown, or ``liquid`` is combined with first-order hold.
    """
    alpha = gbt_alpha(method)
    if liquid and method == "foh":
        raise ValueError("liquid needs one input coefficient a step: use another method than 'foh'.")
    batch, length, channels = _check_input(u)
    modes = A.shape[-1]
    expected: _Expected = {
        "A": (A, (channels, modes)),
        "B": (B, (channels, modes)),
        "C": (C, (C.shape[0], channels, modes)),
        "step": (step, (channels,)),
    }
    if dt is not None:
        expected["dt"] = (dt, (batch, length))
    if state is not None:
        expected["state.x"] = (state.x, (batch, channels, modes))
        expected["state.u"] = (state.u, (batch, channels))
    _check_shapes(u, expected)
    real = torch.promote_types(A.real.dtype, torch.float32)
    inputs = u.to(real)
    if dt is not None:
        dt = dt.to(real)
        if reverse:
            dt = reversed_gaps(dt)
    u0 = inputs.new_zeros(batch, channels) if state is None else state.u
    u_prev = previous_inputs(inputs, u0, dt, reverse) if method == "foh" else None
    x0 = None if state is None else state.x
    operands = (inputs, u_prev, A, B, C, step, dt, x0)
    if _runs_compiled(inputs, dt):
        # Numba is imported, and its kernels are loaded, when the first CPU tensor arrives.
        from tsssm.ops import autograd

        rule = method if alpha is None else "gbt"
        save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in operands)
        y, x, _ = autograd.diagonal_scan(*operands, rule, alpha or 0.0, liquid, reverse, save)
    else:
        y, x = reference.diagonal_scan(*operands, method, liquid, reverse)
    return y.to(u.dtype), ScanState(x, final_input(inputs, u0, dt, reverse))


def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None = None,
    x0: Tensor | None = None,
    *,
    alpha: float = 0.5,
) -> tuple[Tensor, Tensor]:
    r"""State-space model with A = Lambda - P^T conj(P), by the generalised bilinear transform.

    Parameters
    ----------
    u : Tensor (batch, L, H), real
    Lambda, B : Tensor (H, N) or (1, N), complex
    P : Tensor (rank, H, N) or (rank, 1, N), complex
    C : Tensor (M, H, N), complex
    step, dt
        As in `diagonal_scan`.
    x0 : Tensor (batch, H, N), complex, optional
    alpha : float
        0 is Euler, 1/2 bilinear, 1 backward Euler.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    x : Tensor (batch, H, N)

    Raises
    ------
    ValueError
        If shapes disagree or alpha is outside [0, 1].
    """
    gbt_alpha(alpha)
    batch, length, channels = _check_input(u)
    modes = C.shape[-1]
    shared = 1 if Lambda.shape[0] == 1 else channels
    expected: _Expected = {
        "Lambda": (Lambda, (shared, modes)),
        "P": (P, (P.shape[0], shared, modes)),
        "B": (B, (shared, modes)),
        "C": (C, (C.shape[0], channels, modes)),
        "step": (step, (channels,)),
    }
    if dt is not None:
        expected["dt"] = (dt, (batch, length))
    if x0 is not None:
        expected["x0"] = (x0, (batch, channels, modes))
    _check_shapes(u, expected)
    return reference.dplr_scan(u, Lambda, P, B, C, step, dt, x0, alpha)


def causal_conv(u: Tensor, kernel: Tensor) -> Tensor:
    r"""Causal convolution of every channel with its own kernels.

    .. math:: y_{b,m,k,h} = \sum_{j=0}^{k} K_{m,j,h}\, u_{b,k-j,h}

    Parameters
    ----------
    u : Tensor (batch, L, H), real
    kernel : Tensor (M, L', H), real
        Only the first L lags are used.

    Returns
    -------
    y : Tensor (batch, M, L, H)

    Raises
    ------
    ValueError
        If shapes disagree.
    """
    if u.ndim != 3 or kernel.ndim != 3 or u.shape[2] != kernel.shape[2]:
        raise ValueError(
            f"u must be (batch, L, H) and kernel (M, L', H); got {tuple(u.shape)} and {tuple(kernel.shape)}."
        )
    kernel = kernel[:, : u.shape[1]]
    real = torch.promote_types(kernel.dtype, torch.float32)
    inputs, kernel = u.to(real), kernel.to(real)
    if _runs_compiled(inputs):
        from tsssm.ops import autograd

        return autograd.causal_conv(inputs, kernel).to(u.dtype)
    return reference.causal_conv(inputs, kernel).to(u.dtype)


def _runs_compiled(u: Tensor, dt: Tensor | None = None) -> bool:
    """Whether the compiled backend takes a call; it gives no gradient of the gaps."""
    return u.device.type == "cpu" and not (dt is not None and dt.requires_grad)


_Expected = dict[str, tuple[Tensor, tuple[int, ...]]]


def _check_input(u: Tensor) -> tuple[int, int, int]:
    if u.ndim != 3 or u.shape[1] == 0:
        raise ValueError(f"u must be (batch, L, H) with L >= 1; got {tuple(u.shape)}.")
    batch, length, channels = u.shape
    return batch, length, channels


def _check_shapes(u: Tensor, expected: _Expected) -> None:
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape} for u {tuple(u.shape)}; got {tuple(tensor.shape)}.")
