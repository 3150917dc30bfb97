"""The gated linear map as a node of autograd. Compilers see the plain one, which they fuse themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.cpu import gating as cpu


class GatedMix(torch.autograd.Function):
    """`tsssm.ops.gating.gated_mix`."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        y: Tensor,
        weight: Tensor,
        bias: Tensor,
        noise_y: Tensor | None,
        noise_h: Tensor | None,
        level: int,
    ) -> Tensor:
        out, z = cpu.gated_mix(h, y, weight, bias, noise_y, noise_h, level, any(ctx.needs_input_grad[1:4]))
        ctx.save_for_backward(z, y, weight, bias, noise_y, noise_h)
        ctx.level = level
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, y, weight, bias, noise_y, noise_h = ctx.saved_tensors
        gradients = cpu.gated_mix_adjoint(g, z, y, weight, bias, noise_y, noise_h, ctx.level)
        return g, *gradients, None, None, None
