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
        If shapes or dtypes disagree, ``method`` is unknown, or ``liquid`` is combined with first-order hold.
    """
    alpha = gbt_alpha(method)
    if liquid and method == "foh":
        raise ValueError("liquid needs one input coefficient a step: use another method than 'foh'.")
    batch, length, channels = _check_input(u)
    real, modes = _check_eigenvalues("A", A)
    if C.ndim not in (3, 4) or (C.ndim == 4 and C.shape[0] not in (1, 2)):
        raise ValueError(f"C must be (M, H, N) or (K, M, H, N) with K = 1 or 2; got {tuple(C.shape)}.")
    expected: _Expected = {
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
    _check(u, expected)
    inputs = u.to(real)
    dt = None if dt is None else dt.to(real)
    u0 = inputs.new_zeros(batch, channels) if state is None else state.u
    x0 = None if state is None else state.x
    # From here on, readouts, gaps and previous inputs have a leading axis of one or two directions.
    readouts = C[None] if C.ndim == 3 else C
    orders = (reverse, not reverse)[: len(readouts)]
    if dt is not None:
        dt = torch.stack([reversed_gaps(dt) if backwards else dt for backwards in orders])
    u_prev = _previous_inputs(inputs, u0, dt, orders) if method == "foh" else None
    operands = (inputs, u_prev, A, B, readouts, D, step, dt, x0)
    if _runs_compiled(inputs, dt):
        # Numba is imported, and its kernels are loaded, when the first CPU tensor arrives.
        from tsssm.ops import autograd

        scan = autograd.diagonal_scan if torch.compiler.is_compiling() else autograd.EagerDiagonalScan.apply
        options = ("gbt" if alpha is not None else method, alpha or 0.0, liquid, reverse)
        y, x, *_ = scan(*operands, *options, _needs_gradient(*operands))
    else:
        y, x = reference.diagonal_scan(*operands, method, liquid, reverse)
    return y.to(u.dtype), ScanState(x, final_input(inputs, u0, None if dt is None else dt[0], reverse))


def _previous_inputs(u: Tensor, u0: Tensor, dt: Tensor | None, orders: tuple[bool, ...]) -> Tensor:
    """Input before each sample in each direction, (K, batch, L, H); the second direction starts from 0."""
    return torch.stack(
        [
            previous_inputs(u, torch.zeros_like(u0) if k else u0, None if dt is None else dt[k], backwards)
            for k, backwards in enumerate(orders)
        ]
    )


def _needs_gradient(*operands: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in operands)


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
        Computed at the precision of ``Lambda`` and returned in its own dtype.
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
        If shapes or dtypes disagree or alpha is outside [0, 1].
    """
    gbt_alpha(alpha)
    batch, length, channels = _check_input(u)
    real, modes = _check_eigenvalues("Lambda", Lambda)
    shared = 1 if Lambda.shape[0] == 1 else channels
    expected: _Expected = {
        "Lambda": (Lambda, (shared, modes), Lambda.dtype),
        "P": (P, (*P.shape[:1], shared, modes), Lambda.dtype),
        "B": (B, (shared, modes), Lambda.dtype),
        "C": (C, (*C.shape[:1], channels, modes), Lambda.dtype),
        "step": (step, (channels,), real),
    }
    if dt is not None:
        expected["dt"] = (dt, (batch, length), dt.dtype)
    if x0 is not None:
        expected["x0"] = (x0, (batch, channels, modes), Lambda.dtype)
    _check(u, expected)
    gaps = None if dt is None else dt.to(real)
    y, x = reference.dplr_scan(u.to(real), Lambda, P, B, C, step, gaps, x0, alpha)
    return y.to(u.dtype), x


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
        If shapes disagree or an argument is not real floating point.
    """
    channels = _check_input(u)[2]
    if kernel.ndim != 3 or kernel.shape[2] != channels or not kernel.is_floating_point():
        raise ValueError(
            f"kernel must be real floating point (M, L', {channels}) for u {tuple(u.shape)}; "
            f"got {kernel.dtype} {tuple(kernel.shape)}."
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


# dtype.to_real is not known to torch.compile.
_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_Expected = dict[str, tuple[Tensor, tuple[int, ...], torch.dtype]]


def _check_input(u: Tensor) -> tuple[int, int, int]:
    if u.ndim != 3 or u.shape[1] == 0 or u.shape[2] == 0 or not u.is_floating_point():
        raise ValueError(
            f"u must be real floating point (batch, L, H) with L, H >= 1; got {u.dtype} {tuple(u.shape)}."
        )
    batch, length, channels = u.shape
    return batch, length, channels


def _check_eigenvalues(name: str, A: Tensor) -> tuple[torch.dtype, int]:
    """The real dtype that the operation computes in, and the number of modes."""
    if A.dtype not in _REAL or A.ndim != 2 or A.shape[1] == 0:
        raise ValueError(
            f"{name} must be complex64 or complex128 (H, N) with N >= 1; got {A.dtype} {tuple(A.shape)}."
        )
    return _REAL[A.dtype], A.shape[1]


def _check(u: Tensor, expected: _Expected) -> None:
    for name, (tensor, shape, dtype) in expected.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} must be {dtype} {shape} for u {tuple(u.shape)}; got {got}.")
