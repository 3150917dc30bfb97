"""The scan of a diagonal plus low-rank system in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    r"""Run the system A x = Lambda x - sum_r P_r Re(Q_r^* x) over a sequence, in one direction or in both.

    ``Lambda`` and ``B`` (H or 1, N), ``P`` and ``Q`` (rank, H or 1, N), ``C`` (K, M, H, N), ``dt`` (K, B, L)
    as in `diagonal_scan`. Each step is

    .. math::
        (I - \alpha s A)\,x_k = (I + (1 - \alpha) s A)\,x_{k-1} + s B u_k, \qquad s = \Delta\,\delta_k,

    solved by the Woodbury identity (S4, arXiv 2111.00396, appendix C.2) for a coupling through real numbers:
    with :math:`E = (I - \alpha s \Lambda)^{-1}` and the rank numbers :math:`w = \mathrm{Re}(Q^* x_k)`,

    .. math::
        x_k = E\,(r - \alpha s P w), \qquad (I + \alpha s\,\mathrm{Re}(Q^* E P))\,w = \mathrm{Re}(Q^* E r)

    where r is the right-hand side above.
    """
    y = u.new_zeros(()) if D is None else D[:, None] * u[:, None]
    states = []
    for k in range(C.shape[0]):
        dt_k, start = None if dt is None else dt[k], x0 if k == 0 else None
        output, x = _one_direction(u, Lambda, P, Q, B, C[k], step, dt_k, start, alpha, reverse != (k == 1))
        y = y + output
        states.append(x)
    return y, states[0]


def _one_direction(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    rank, _, modes = P.shape
    x = u.new_zeros(batch, channels, modes, dtype=Lambda.dtype) if x0 is None else x0
    identity = torch.eye(rank, dtype=u.dtype, device=u.device)
    ys = [u] * length
    for k in reversed(range(length)) if reverse else range(length):
        s = (step if dt is None else dt[:, k, None] * step)[..., None]
        E = 1 / (1 - alpha * s * Lambda)
        A_x = Lambda * x - torch.einsum("rhn,bhr->bhn", P, _coupling(Q, x).to(P.dtype))
        right = E * (x + (1 - alpha) * s * A_x + s * B * u[:, k, :, None])
        middle = torch.einsum("rhn,...hn,qhn->...hrq", Q.conj(), E, P).real
        middle = identity + alpha * s[..., None] * middle
        inner = _coupling(Q, right)
        w = torch.linalg.solve(middle.expand(*inner.shape, rank), inner)
        x = right - alpha * s * E * torch.einsum("rhn,bhr->bhn", P, w.to(P.dtype))
        ys[k] = torch.einsum("mhn,bhn->bmh", C, x).real
    return torch.stack(ys, dim=2), x


def _coupling(Q: Tensor, x: Tensor) -> Tensor:
    """Re(Q^* x), (batch, H, rank)."""
    return torch.einsum("rhn,bhn->bhr", Q.conj(), x).real
