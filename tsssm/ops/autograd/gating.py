"""The gate's operations as nodes of autograd. Compilers see the plain ones, which they fuse themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.cpu import gating as cpu


class Gelu(torch.autograd.Function):
    """`tsssm.ops.gating.gelu`."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, noise: Tensor | None, level: int) -> Tensor:
        ctx.save_for_backward(y, noise)
        ctx.level = level
        return cpu.gelu(y, noise, level)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        y, noise = ctx.saved_tensors
        return cpu.gelu_adjoint(g, y, noise, ctx.level), None, None


class GatedSum(torch.autograd.Function):
    """`tsssm.ops.gating.gated_sum`."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, z: Tensor, bias: Tensor, noise: Tensor | None, level: int) -> Tensor:
        ctx.save_for_backward(z, bias, noise)
        ctx.level = level
        return cpu.gated_sum(h, z, bias, noise, level)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, bias, noise = ctx.saved_tensors
        gz, gbias = cpu.gated_sum_adjoint(g, z, bias, noise, ctx.level)
        return g, gz, gbias, None, None
