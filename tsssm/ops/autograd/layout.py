"""What the operators promise about the layout of their results."""

from __future__ import annotations

import torch
from torch import Tensor


def like(tensor: Tensor) -> Tensor:
    """An empty gradient: they are contiguous, whatever the strides of what they belong to."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
