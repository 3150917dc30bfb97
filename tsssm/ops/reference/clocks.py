"""Scalar systems over runs of measurements."""

from __future__ import annotations

import torch
from torch import Tensor


def clock_scan(values: Tensor, gaps: Tensor, offsets: Tensor, rates: Tensor) -> Tensor:
    """States (m, K, F) of x_j = exp(-rate gap_j) x_{j-1} + v_j, from rest at the first of each run."""
    starts, lengths = offsets[:-1], offsets.diff()
    x = values.new_zeros(len(lengths), rates.shape[1], values.shape[1])
    states, rows = [], []
    for position in range(int(lengths.max()) if len(lengths) else 0):
        going = torch.nonzero(lengths > position)[:, 0]
        row = starts[going] + position
        moved = values[row][:, None].expand(-1, rates.shape[1], -1)
        if position > 0:
            decay = torch.exp(-rates[going] * gaps[row][:, None])
            moved = decay[..., None] * x[going] + moved
        x = x.index_copy(0, going, moved)
        states.append(moved)
        rows.append(row)
    if not states:
        return values.new_zeros(0, rates.shape[1], values.shape[1])
    return torch.cat(states)[torch.cat(rows).argsort()]
