"""The public scans of Liquid-S4 by orders of input correlation: checks and choice of the backend.

The full recurrence over a diagonal system is `diagonal_scan` with ``liquid=True``.
"""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from tsssm.discretize import gbt_alpha
from tsssm.ops import operands, reference
from tsssm.ops.bounds import liquid_bound
from tsssm.ops.operands import (
    Expected,
    check,
    check_alpha,
    check_eigenvalues,
    check_input,
    check_rank,
    check_readouts,
    needs_gradient,
    stacked_gaps,
)

#: Ways to sum the orders of input correlation.
LIQUID_KERNELS = ("exact", "kb", "pb")


class LiquidState(NamedTuple):
    r"""What a liquid scan carries over a cut of the sequence.

    Attributes
    ----------
    x : Tensor (batch, Q, H, N)
        States after the last sample. For ``kernel="exact"`` truncated at ``order``, the Q = ``order`` states
        of the chain, lowest order first; otherwise Q = 1.
    history : Tensor (batch, R, H, N)
        For the kernels "kb" and "pb", the bounded inputs :math:`\pi(\bar B_k u_k)` of the last
        R = ``order`` - 1 samples, newest first; zero before the first sample. R = 0 for "exact".
    """

    x: Tensor
    history: Tensor


def liquid_state_shape(kernel: str, order: int | None) -> tuple[int, int]:
    """Q and R of the `LiquidState` of a kernel; ``order`` is None for the full recurrence."""
    if kernel == "exact":
        return order or 1, 0
    assert order is not None
    return 1, order - 1


def check_liquid_kernel(kernel: str, order: int | None, *, full: bool) -> None:
    """Raise ValueError unless the kernel is known and the order is one it can have.

    ``full`` says whether an order of None, the full recurrence, is available with the kernel "exact".
    """
    if kernel not in LIQUID_KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(map(repr, LIQUID_KERNELS))}; got {kernel!r}.")
    if order is None and full and kernel == "exact":
        return
    if isinstance(order, bool) or not isinstance(order, Integral) or order < 2:
        alternative = " or None, the full recurrence," if full and kernel == "exact" else ""
        raise ValueError(
            f"order must be an int of at least 2{alternative} for kernel {kernel!r}; got {order!r}."
        )


def liquid_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None = None,
    state: LiquidState | None = None,
    *,
    kernel: str,
    order: int,
    D: Tensor | None = None,
    method: str | float = "zoh",
    reverse: bool = False,
) -> tuple[Tensor, LiquidState]:
    r"""Liquid-S4 over a diagonal system, with input correlations up to ``order`` (p below).

    With :math:`w_k = \bar B_k u_k` for each mode, discretised with the step :math:`\Delta_h\,\delta_k`,
    :math:`\pi(w) = w / \max(1, |w|)`, :math:`\Pi` the same for transitions and :math:`\tilde u` the clipped
    input of `diagonal_scan`:

    - "exact", the full recurrence truncated at order p, with
      :math:`G_k = \Pi(\bar A_k + \bar B_k \tilde u_k) - \bar A_k`,
      :math:`x^{(1)}_k = \bar A_k x^{(1)}_{k-1} + w_k` and

      .. math::
          x^{(q)}_k = \bar A_k x^{(q)}_{k-1} + G_k x^{(q-1)}_{k-1}, \quad q = 2, \ldots, p, \qquad
          y_k = \mathrm{Re}\, C \textstyle\sum_q x^{(q)}_k.

      As p grows, y tends to that of `diagonal_scan` with ``liquid=True``, and equals it for p >= L from rest.
    - "kb", the kernel :math:`C \bar A^i \bar B^q` on the correlations :math:`u_k u_{k-1} \cdots u_{k-q+1}`,
      summed over q = 1, ..., p:

      .. math::
          x_k = \bar A_k x_{k-1} + w_k + z_k, \qquad y_k = \mathrm{Re}\, C x_k, \qquad
          z_k = w_k\,\pi(w_{k-1})\,(1 + \pi(w_{k-2})\,(1 + \cdots)) \text{ with } p - 1 \text{ past inputs.}
    - "pb", the kernel :math:`C \bar B^q` for the correlations of order 2 and above:
      :math:`x_k = \bar A_k x_{k-1} + w_k`, :math:`y_k = \mathrm{Re}\, C (x_k + z_k)`.

    A sample with :math:`\delta_k = 0` (padding) leaves the states and the history of inputs as they are; its
    output is Re C x of the state alone, because its w is 0.

    Parameters
    ----------
    u, A, B, C, step, dt, D, reverse
        As in `diagonal_scan`.
    state : LiquidState, optional
        State to start from, of the same kernel and order; zero by default, and no inputs before the first.
    kernel : {"exact", "kb", "pb"}
        How correlations are weighted; see above.
    order : int
        Highest order p of correlation, at least 2.
    method : {"zoh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    state : LiquidState

    Raises
    ------
    ValueError
        If shapes or dtypes disagree, ``kernel`` or ``method`` is unknown, ``method`` is "foh", or ``order``
        is below 2.

    Notes
    -----
    The kernels and correlations are those of arXiv 2209.12951, section 3. The bounds are ours: with them, and
    a transition that does not expand by itself, the output is linear in the largest input, and grows with the
    length like its p-th power for "exact", linearly for the others. Nothing is changed while :math:`|u|` and
    :math:`|\bar A_k + w_k|` are within theirs, respectively :math:`|w_k| \le 1`.

    Compiled on a CPU, and on a CUDA device in float32, where Triton is installed; elsewhere, and for a
    gradient of ``dt``, PyTorch's operations over chunks of at least 64 samples.
    """
    alpha = gbt_alpha(method)
    if method == "foh":
        raise ValueError("method must be a rule with one input coefficient for each step; got 'foh'.")
    check_liquid_kernel(kernel, order, full=False)
    batch, length, channels = check_input(u)
    real, modes = check_eigenvalues("A", A)
    check_readouts(C)
    expected: Expected = {
        "A": (A, (channels, modes), A.dtype),
        "B": (B, (channels, modes), A.dtype),
        "C": (C, (*C.shape[:-2], channels, modes), A.dtype),
        "step": (step, (channels,), real),
    }
    _expect_options(expected, (batch, length, channels, modes), dt, state, D, C, kernel, order, A.dtype)
    check(u, expected)
    readouts = C[None] if C.ndim == 3 else C
    dt = stacked_gaps(dt, len(readouts), reverse, real)
    inputs = u.to(real)
    bound = liquid_bound(A, B) if kernel == "exact" else None
    arguments = (inputs, A, B, readouts, D, step, dt, bound, _packed(state))
    if operands.runs_compiled(inputs, dt, True):
        from tsssm.ops.autograd import liquid as compiled

        scan = compiled.liquid_scan if torch.compiler.is_compiling() else compiled.EagerLiquidScan.apply
        options = (kernel, int(order), "zoh" if alpha is None else "gbt", alpha or 0.0, reverse)
        y, end, *_ = scan(*arguments, *options, needs_gradient(*arguments))
    else:
        y, end = operands.plain().liquid_scan(*arguments, kernel, order, method, reverse)
    return y.to(u.dtype), _unpacked(end, kernel, order)


def liquid_dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None = None,
    state: LiquidState | None = None,
    *,
    kernel: str,
    order: int | None = None,
    D: Tensor | None = None,
    alpha: float = 0.5,
    reverse: bool = False,
) -> tuple[Tensor, LiquidState]:
    r"""Liquid-S4 over a diagonal plus low-rank system, by the generalised bilinear transform.

    .. math::
        x_k = \bar A_k x_{k-1} + w_k \circ x_{k-1} + w_k, \qquad w_k = \bar B_k u_k,
        \qquad y_k = \mathrm{Re}(C x_k)

    with :math:`\bar A` and :math:`\bar B` of the system of `dplr_scan` and :math:`\circ` mode by mode. This
    is ``kernel="exact"`` with ``order`` None; the truncated chain and the kernels "kb" and "pb" are those of
    `liquid_scan` with the matrix :math:`\bar A`, and :math:`\pi(w_k)` as the coupling of the chain.

    Parameters
    ----------
    u, Lambda, P, Q, B, C, step, dt, D, alpha, reverse
        As in `dplr_scan`.
    state : LiquidState, optional
        State to start from, of the same kernel and order; zero by default.
    kernel : {"exact", "kb", "pb"}
        How correlations are weighted.
    order : int or None
        Highest order of correlation, at least 2; None is the full recurrence, of the kernel "exact" alone.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    state : LiquidState

    Raises
    ------
    ValueError
        If shapes or dtypes disagree, ``kernel`` is unknown, ``order`` is below 2, or alpha is outside [0, 1].

    Notes
    -----
    In the full recurrence :math:`v = \bar A_k x_{k-1} + w_k \circ x_{k-1}` is shortened to
    :math:`\lVert v \rVert \le \lVert x_{k-1} \rVert`, norms over the modes of a channel. So no input makes
    the state expand:
    :math:`\lVert x_k \rVert \le \lVert x_{k-1} \rVert + \lVert w_k \rVert`. For the other forms this needs
    a transition that does not expand by itself, as with alpha >= 1/2 and A + A^* negative.

    On a CPU a compiled kernel goes from state to state. Elsewhere PyTorch's operations run over chunks of at
    least 64 samples, and as the full recurrence is no linear one, Newton's method solves it for all samples
    of a chunk at once: that takes some sweeps more, the more samples reach the bound, and each is waited for.
    A gradient can be taken once. Under `torch.compile` and `torch.export` the full recurrence is a loop over
    samples.
    """
    alpha = check_alpha(alpha)
    check_liquid_kernel(kernel, order, full=True)
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
    _expect_options(expected, (batch, length, channels, modes), dt, state, D, C, kernel, order, Lambda.dtype)
    check(u, expected)
    readouts = C[None] if C.ndim == 3 else C
    dt = stacked_gaps(dt, len(readouts), reverse, real)
    system = (Lambda, P, Q, B, readouts, D, step, dt, _packed(state))
    arguments = (u.to(real), *system, kernel, order, alpha, reverse)
    # A traced graph can neither call a kernel here nor ask whether sweeps have settled.
    tracing = torch.compiler.is_compiling()
    if length == 1 or (tracing and kernel == "exact" and order is None):
        y, end = reference.liquid_dplr_scan(*arguments)
    elif operands.runs_compiled(u) and not tracing:
        from tsssm.ops.autograd.liquid_dplr import scan

        y, end = scan(*arguments)
    else:
        y, end = operands.plain().liquid_dplr_scan(*arguments)
    return y.to(u.dtype), _unpacked(end, kernel, order)


def _expect_options(
    expected: Expected,
    sizes: tuple[int, int, int, int],
    dt: Tensor | None,
    state: LiquidState | None,
    D: Tensor | None,
    C: Tensor,
    kernel: str,
    order: int | None,
    dtype: torch.dtype,
) -> None:
    """Add what both scans expect of the arguments that may be left out."""
    batch, length, channels, modes = sizes
    if dt is not None:
        expected["dt"] = (dt, (batch, length), dt.dtype)
    if state is not None:
        states, past = liquid_state_shape(kernel, order)
        expected["state.x"] = (state.x, (batch, states, channels, modes), dtype)
        expected["state.history"] = (state.history, (batch, past, channels, modes), dtype)
    if D is not None:
        expected["D"] = (D, (C.shape[-3], channels), operands.REAL[dtype])


def _packed(state: LiquidState | None) -> Tensor | None:
    """The state as the backends hold it, (Q + R, batch, H, N)."""
    return None if state is None else torch.cat(state, dim=1).transpose(0, 1)


def _unpacked(state: Tensor, kernel: str, order: int | None) -> LiquidState:
    states, _ = liquid_state_shape(kernel, order)
    by_series = state.transpose(0, 1)
    return LiquidState(by_series[:, :states], by_series[:, states:])
