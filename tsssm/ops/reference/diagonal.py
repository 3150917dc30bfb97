"""The diagonal scan in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import discretize_diagonal
from tsssm.ops.bounds import bounded_input


def project_to_disc(F: Tensor) -> Tensor:
    """Scale every entry of modulus above 1 back to the unit circle: F / max(1, |F|)."""
    modulus = F.abs()
    # On the circle itself the derivative is that from inside, as in the kernels.
    modulus = torch.where(modulus > 1, modulus, 1)
    # Part by part: a complex division would square the modulus and overflow.
    return torch.complex(F.real / modulus, F.imag / modulus)


def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    x0: Tensor | None,
    method: str | float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    r"""Run a diagonal state-space model over a sequence, in one direction or in both.

    C (K, M, H, N), dt (K, B, L) and u_prev (K, B, L, H) are those of each of K directions, whose outputs
    add up. The second runs opposite to the first, and from rest; the state returned is that of the first.
    """
    y = u.new_zeros(()) if D is None else D[:, None] * u[:, None]
    states = []
    for k in range(C.shape[0]):
        output, x = _one_direction(
            u,
            None if u_prev is None else u_prev[k],
            A,
            B,
            C[k],
            step,
            None if dt is None else dt[k],
            bound,
            x0 if k == 0 else None,
            method,
            reverse != (k == 1),
        )
        y = y + output
        states.append(x)
    return y, states[0]


def _one_direction(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    x0: Tensor | None,
    method: str | float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    r"""Run a diagonal state-space model over a sequence, one sample after the other.

    .. math::
        x_k = \bar A_k x_{k-1} + \bar B_k u_k + \bar B'_k u_{k-1}, \qquad y_k = \mathrm{Re}(C x_k)

    with the step :math:`\Delta\,\delta_k` of each sample; :math:`\bar B'` is zero except for first-order
    hold. With a ``bound`` (H, N) the transition is :math:`\Pi(\bar A_k + \bar B_k \tilde u_k)`, the input
    clipped to the bound and the sum projected to the unit disc, which by a hold it cannot leave (Liquid-S4,
    arXiv 2209.12951, eq. 6; the bounds are ours). With ``reverse`` time runs from the last sample to the
    first. ``u_prev`` (B, L, H) holds the previous input of every sample and is needed by first-order hold
    alone.
    """
    batch, length, _ = u.shape
    s = step if dt is None else dt[..., None] * step
    A_bar, B_bar, B_prev = discretize_diagonal(A, B, s[..., None], method)
    if dt is None:
        shape = (batch, length, *A.shape)
        A_bar, B_bar = A_bar.expand(shape), B_bar.expand(shape)
        B_prev = None if B_prev is None else B_prev.expand(shape)
    x = A.new_zeros(batch, *A.shape) if x0 is None else x0
    ys: list[Tensor] = [u] * length
    for k in reversed(range(length)) if reverse else range(length):
        u_k = u[:, k, :, None]
        transition = A_bar[:, k]
        if bound is not None:
            transition = transition + B_bar[:, k] * bounded_input(u_k, bound)
            if method != "zoh":
                transition = project_to_disc(transition)
        x = transition * x + B_bar[:, k] * u_k
        if B_prev is not None and u_prev is not None:
            x = x + B_prev[:, k] * u_prev[:, k, :, None]
        ys[k] = torch.einsum("mhn,bhn->bmh", C, x).real
    return torch.stack(ys, dim=2), x
