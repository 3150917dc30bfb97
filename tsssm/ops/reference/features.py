"""Readouts of many fixed systems, and what is kept of them over time: the specification.

Symbols and shapes: G groups, H and H' channels, N states, R readouts, K distinct steps::

    u, held      (H, total), (H', total)   linear between the samples; constant over a step
    offsets      (n + 1,)                  first sample of each series
    steps, index (K,), (total,)            distinct steps, and which one leads to each sample
    A, B         (G, N[, N]), (G, N)       systems in continuous time
    mix_u, ...   (G, H), (G, H')           proportions of the channels in the input of each group
    C, D         (G, R, N), (G, R)         readouts
    y            (G, R, total)
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import discretize_dense, discretize_diagonal


def readout_scan(
    u: Tensor,
    held: Tensor,
    offsets: Tensor,
    steps: Tensor,
    index: Tensor,
    A: Tensor,
    B: Tensor,
    mix_u: Tensor,
    mix_held: Tensor,
    C: Tensor,
    D: Tensor,
) -> Tensor:
    """`tsssm.ops.readout_scan` with checked operands."""
    A_bar, B_bar, B_prev = recurrence(A, B, steps)
    now, before = held_inputs(u, held, offsets, mix_u, mix_held)
    y = []
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        x = torch.zeros_like(B)
        for k in range(first, last):
            i = index[k]
            driven = B_prev[i] * before[:, k, None] + B_bar[i] * now[:, k, None]
            if A.ndim == 2:
                x = A_bar[i] * x + driven
            else:
                x = torch.einsum("gnm,gm->gn", A_bar[i], x) + driven
            y.append(torch.einsum("grn,gn->gr", C, x).real.to(u.dtype) + D * now[:, k, None])
    return torch.stack(y, dim=2)


def recurrence(A: Tensor, B: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A_bar (K, G, N[, N]), B_bar and B_prev (K, G, N) of the distinct steps, by first-order hold."""
    step = steps.to(B.real.dtype)
    if A.ndim == 2:
        A_bar, B_bar, B_prev = discretize_diagonal(A, B, step[:, None, None], "foh")
    else:
        A_bar, B_bar, B_prev = discretize_dense(A, B, step[:, None], "foh")
    assert B_prev is not None
    return A_bar, B_bar, B_prev


def held_inputs(
    u: Tensor, held: Tensor, offsets: Tensor, mix_u: Tensor, mix_held: Tensor
) -> tuple[Tensor, Tensor]:
    """Inputs (G, total) at the end and at the start of the step that leads to each sample.

    That to the first sample of a series is taken with the input of that sample.
    """
    value, constant = mix_u @ u, mix_held @ held
    earlier = torch.arange(-1, u.shape[1] - 1, device=u.device)
    earlier[offsets[:-1]] += 1
    return value + constant, value[:, earlier] + constant


def pooled_scan(
    u: Tensor,
    held: Tensor,
    offsets: Tensor,
    steps: Tensor,
    index: Tensor,
    weight: Tensor,
    A: Tensor,
    B: Tensor,
    mix_u: Tensor,
    mix_held: Tensor,
    C: Tensor,
    D: Tensor,
    thresholds: Tensor,
    competitors: int,
    shares: bool,
    competition: bool,
) -> Tensor:
    """`tsssm.ops.pooled_scan` with checked operands; ``competitors`` neighbouring readouts make a block."""
    y = readout_scan(u, held, offsets, steps, index, A, B, mix_u, mix_held, C, D)
    return pool(y, offsets, weight, thresholds, competitors, shares, competition)


def pool(
    y: Tensor,
    offsets: Tensor,
    weight: Tensor,
    thresholds: Tensor,
    competitors: int,
    shares: bool,
    competition: bool,
) -> Tensor:
    """What `pooled_scan` keeps of readouts y (G, R, total)."""
    kept = []
    if shares:
        kept += [y > thresholds[:, 0, :, None], y > thresholds[:, 1, :, None]]
    if competition:
        block = y.unflatten(1, (-1, competitors))
        best, worst = block.amax(2, keepdim=True), block.amin(2, keepdim=True)
        kept += [((block == best) * best).flatten(1, 2), (block == worst).flatten(1, 2)]
    weighted = torch.stack([part.to(y.dtype) for part in kept], dim=1) * weight
    return torch.stack([part.sum(-1) for part in weighted.split(offsets.diff().tolist(), dim=-1)])
