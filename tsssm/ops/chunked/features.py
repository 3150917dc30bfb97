"""Readouts of many fixed systems over chunks of all series, one behind the other."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.chunked.linear import MATRICES, NUMBERS, chunk_length, over_chunks, states
from tsssm.ops.reference.features import held_inputs, pool, recurrence


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
    """`tsssm.ops.reference.readout_scan`; the transition to the first sample of a series is zero."""
    A_bar, B_bar, B_prev = recurrence(A, B, steps)
    now, before = held_inputs(u, held, offsets, mix_u, mix_held)
    going = torch.ones(u.shape[1], dtype=torch.bool, device=u.device)
    going[offsets[:-1]] = False
    maps = NUMBERS if A.ndim == 2 else MATRICES

    def chunk(x: Tensor, which: Tensor, now: Tensor, before: Tensor, going: Tensor) -> tuple[Tensor, Tensor]:
        keep = going.view(*going.shape, *(1,) * A.ndim)
        drive = B_prev[which] * before[..., None] + B_bar[which] * now[..., None]
        xs = states(maps, torch.where(keep, A_bar[which], 0), drive, x)
        y = torch.einsum("grn,btgn->grt", C, xs).real.to(u.dtype)
        return y + D[..., None] * now[0].T[:, None], xs[:, -1]

    samples = (index.long()[None], now.T[None], before.T[None], going[None])
    length = chunk_length(A.numel())
    outputs, _ = over_chunks(chunk, samples, torch.zeros_like(B)[None], length)
    return torch.cat(outputs, dim=2)


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
    """`tsssm.ops.reference.pooled_scan`; like it, it keeps every readout of every sample."""
    y = readout_scan(u, held, offsets, steps, index, A, B, mix_u, mix_held, C, D)
    return pool(y, offsets, weight, thresholds, competitors, shares, competition)
