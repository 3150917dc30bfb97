"""Batch normalisation as a node of autograd. Compilers see the plain one, which they fuse themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.cpu import normalization as cpu


class BatchNorm(torch.autograd.Function):
    """`tsssm.ops.batch_norm` of ``count`` samples."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        keep: Tensor,
        count: int,
        momentum: float,
        eps: float,
    ) -> Tensor:
        out, mean, scale = cpu.batch_norm(
            h, running_mean, running_var, weight, bias, keep, count, momentum, eps
        )
        ctx.save_for_backward(h, weight, keep, mean, scale)
        ctx.count = count
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, keep, mean, scale = ctx.saved_tensors
        gh, gweight, gbias = cpu.batch_norm_adjoint(g, h, weight, keep, mean, scale, ctx.count)
        return gh, None, None, gweight, gbias, None, None, None, None
