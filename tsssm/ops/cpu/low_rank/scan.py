"""`tsssm.ops.chunked.dplr.low_rank_states` on CPU tensors, and the same with a liquid term."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.cpu.layout import as_array
from tsssm.ops.cpu.low_rank.passes import states_pass


def low_rank_states(
    d: Tensor, rows: Tensor, columns: Tensor, drive: Tensor, x: Tensor, liquid: bool = False
) -> Tensor:
    """All states (batch, T, H, N); with ``liquid``, the drive moves the transition as well."""
    states = torch.empty_like(drive, memory_format=torch.contiguous_format)
    operands = [as_array(t) for t in (d, rows, columns, drive, x)]
    states_pass(*operands, liquid, as_array(states))
    return states
