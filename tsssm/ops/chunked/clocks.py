"""Scalar systems over runs of measurements, in chunks of all runs, one behind the other."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.chunked.linear import NUMBERS, chunk_length, over_chunks, states


def clock_scan(values: Tensor, gaps: Tensor, offsets: Tensor, rates: Tensor) -> Tensor:
    """`tsssm.ops.reference.clock_scan`; the transition to the first measurement of a run is zero."""
    features, systems = values.shape[1], rates.shape[1]
    if len(values) == 0:
        return values.new_zeros(0, systems, features)
    run = torch.repeat_interleave(torch.arange(len(rates), device=rates.device), offsets.diff())
    going = torch.ones(len(values), dtype=torch.bool, device=values.device)
    going[offsets[:-1]] = False

    def chunk(x: Tensor, values: Tensor, gaps: Tensor, run: Tensor, going: Tensor) -> tuple[Tensor, Tensor]:
        decay = torch.exp(-rates[run] * torch.where(going, gaps, 0)[..., None])
        transition = torch.where(going[..., None], decay, 0)[..., None]
        drive = values[..., None, :].expand(*values.shape[:2], systems, features)
        xs = states(NUMBERS, transition, drive, x)
        return xs, xs[:, -1]

    samples = (values[None], gaps[None], run[None], going[None])
    start = values.new_zeros(1, systems, features)
    outputs, _ = over_chunks(chunk, samples, start, chunk_length(systems, features))
    return torch.cat(outputs, dim=1)[0]
