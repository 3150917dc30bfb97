"""The scan of a system with a tridiagonal matrix over chunks of time."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.chunked.linear import MATRICES, chunk_length, over_directions, read, states
from tsssm.ops.reference.tridiagonal import dense_tridiagonal


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
    """`tsssm.ops.reference.tridiagonal_scan`, by the dense matrices of its steps.

    A product of such steps has no form shorter than N x N numbers. Steps of one matrix commute, but only its
    eigenvectors would make them numbers, and those of HiPPO matrices are of no use in floating point.
    """
    dense = dense_tridiagonal(T)
    identity = torch.eye(T.shape[2], dtype=T.dtype, device=T.device)

    def chunk(x: Tensor, C: Tensor, u: Tensor, dt: Tensor | None) -> tuple[Tensor, Tensor]:
        s = (step[None, None] if dt is None else dt[..., None] * step)[..., None]
        matrix = (1 - alpha * s * scale * shift)[..., None] * dense - torch.diag_embed(alpha * s * scale)
        forcing = (s * B)[..., None]
        columns = torch.cat([identity.expand(matrix.shape), alpha * forcing], dim=-1)
        zeta = torch.linalg.solve(matrix, columns)
        stage = dense @ zeta
        moved = s[..., None] * scale[..., None] * (shift[..., None] * stage + zeta)
        moved = torch.cat([moved[..., :-1], moved[..., -1:] + forcing], dim=-1)
        if alpha > 0:
            # The same, because stage = x + alpha s (A stage + B u); over a long gap nothing cancels in it.
            unmoved = torch.cat([identity, identity.new_zeros(len(identity), 1)], dim=-1)
            far = s * scale.abs().amax(-1, keepdim=True) > 1
            moved = torch.where(far[..., None], (stage - unmoved) / alpha, moved)
        transition, B_bar = identity + moved[..., :-1], moved[..., -1]
        if dt is None:
            transition = transition.expand(1, u.shape[1], *transition.shape[2:])
        xs = states(MATRICES, transition, B_bar * u[..., None], x)
        return read(C, xs), xs[:, -1]

    batch, _, channels = u.shape
    start = u.new_zeros(batch, channels, T.shape[2]) if x0 is None else x0
    length = chunk_length(1 if dt is None else batch, channels, T.shape[2] ** 2)
    return over_directions(chunk, (u,), (dt,), C, D, start, reverse, length)
