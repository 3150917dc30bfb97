"""The scan of a system whose matrix is diagonal plus the inverse of a tridiagonal one, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def tridiagonal_scan(
    u: Tensor,
    T: Tensor,
    shift: Tensor,
    scale: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    r"""Run the system A = diag(scale) (diag(shift) + T^{-1}) over a sequence, in one direction or in both.

    ``T`` (3, H or 1, N) holds the diagonals of T: below, on and above the main one, each entry in its row, so
    that T[0, :, 0] and T[2, :, -1] are not used. ``shift``, ``scale`` and ``B`` (H or 1, N), ``C``
    (K, M, H, N), ``dt`` (K, B, L) as in `diagonal_scan`; all real.

    The generalised bilinear transform is a Runge-Kutta step with one stage g (s is the step, F the scale):

    .. math::
        (I - \alpha s A)\,g = x_{k-1} + \alpha s B u_k, \qquad x_k = x_{k-1} + s\,(A g + B u_k).

    With :math:`g = T \zeta` no inverse is left: the stage is the solution of a tridiagonal system,
    :math:`((I - \alpha s F \cdot\mathrm{shift})\,T - \alpha s F)\,\zeta = x_{k-1} + \alpha s B u_k`, and
    :math:`A g = F\,(\mathrm{shift}\cdot g + \zeta)` (LSSL, arXiv 2110.13985, section 4.2 and appendix E).
    """
    y = u.new_zeros(()) if D is None else D[:, None] * u[:, None]
    states = []
    for k in range(C.shape[0]):
        dt_k, start = None if dt is None else dt[k], x0 if k == 0 else None
        output, x = _one_direction(u, T, shift, scale, B, C[k], step, dt_k, start, alpha, reverse != (k == 1))
        y = y + output
        states.append(x)
    return y, states[0]


def dense_tridiagonal(T: Tensor) -> Tensor:
    """The matrices (..., N, N) of diagonals T (3, ..., N), each entry in its row."""
    below, main, above = T[0, ..., 1:], T[1], T[2, ..., :-1]
    return torch.diag_embed(below, -1) + torch.diag_embed(main) + torch.diag_embed(above, 1)


def _one_direction(
    u: Tensor,
    T: Tensor,
    shift: Tensor,
    scale: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    modes = shift.shape[1]
    dense = dense_tridiagonal(T)
    x = u.new_zeros(batch, channels, modes) if x0 is None else x0
    ys = [u] * length
    for k in reversed(range(length)) if reverse else range(length):
        s = (step if dt is None else dt[:, k, None] * step)[..., None].expand(batch, channels, 1)
        forcing = B * u[:, k, :, None]
        matrix = (1 - alpha * s * scale * shift)[..., None] * dense - torch.diag_embed(alpha * s * scale)
        zeta = torch.linalg.solve(matrix, x + alpha * s * forcing)
        stage = torch.einsum("...ij,...j->...i", dense, zeta)
        x = x + s * (scale * (shift * stage + zeta) + forcing)
        ys[k] = torch.einsum("mhn,bhn->bmh", C, x)
    return torch.stack(ys, dim=2), x
