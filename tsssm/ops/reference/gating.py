"""Activation, gate, dropout and residual sum between state-space layers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def gelu(y: Tensor, noise: Tensor | None, level: int) -> Tensor:
    """m y Phi(y), where m is 0 for the ``level`` lowest values of the noise."""
    return _dropped(F.gelu(y), noise, level)


def gated_sum(h: Tensor, z: Tensor, bias: Tensor, noise: Tensor | None, level: int) -> Tensor:
    """h + m (a sigmoid(b)), with (a, b) the halves of z + bias."""
    return h + _dropped(F.glu(z + bias, dim=-1), noise, level)


def _dropped(value: Tensor, noise: Tensor | None, level: int) -> Tensor:
    if noise is None or level == 0:
        return value
    kept = (noise >= level - 2**15).to(value.dtype)
    return value * kept.mul_(1 / (1 - level / 2**16))
