"""Batch normalisation over time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_norm(
    h: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    keep: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """PyTorch's, of the samples that count; the others become 0."""
    samples = h.flatten(0, 1) if keep is None else h[keep]
    out = F.batch_norm(samples, running_mean, running_var, weight, bias, True, momentum, eps)
    return out.view_as(h) if keep is None else torch.zeros_like(h).index_put((keep,), out)
