"""Activation, gated linear map, dropout and residual sum between state-space layers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def gated_mix(
    h: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    noise_y: Tensor | None,
    noise_h: Tensor | None,
    level: int,
) -> Tensor:
    """h + m' glu(W (m gelu(y)) + bias), where m and m' are 0 for the ``level`` lowest values of the noise."""
    x = _dropped(F.gelu(y), noise_y, level)
    return h + _dropped(F.glu(F.linear(x, weight, bias), dim=-1), noise_h, level)


def _dropped(value: Tensor, noise: Tensor | None, level: int) -> Tensor:
    if noise is None or level == 0:
        return value
    kept = (noise >= level - 2**15).to(value.dtype)
    return value * kept.mul_(1 / (1 - level / 2**16))
