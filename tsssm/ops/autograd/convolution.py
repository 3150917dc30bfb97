"""The causal convolution as a PyTorch operator: one node for autograd, ``compile`` and ``export``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsssm.ops.autograd.layout import like
from tsssm.ops.cpu import convolution as cpu


@torch.library.custom_op("tsssm::causal_conv", mutates_args=())
def causal_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """Outputs (batch, M, L, H)."""
    return cpu.causal_conv(u, kernel)


@causal_conv.register_fake
def _(u: Tensor, kernel: Tensor) -> Tensor:
    return u.new_empty(kernel.shape[0], *u.shape).transpose(0, 1)


@torch.library.custom_op("tsssm::causal_conv_adjoint", mutates_args=())
def _causal_conv_adjoint(gy: Tensor, u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    return cpu.causal_conv_adjoint(gy, u, kernel)


@_causal_conv_adjoint.register_fake
def _(gy: Tensor, u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    return like(u), like(kernel)


def _keep_conv(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _conv_backward(ctx: Any, gy: Tensor) -> tuple[Tensor, Tensor]:
    return _causal_conv_adjoint(gy, *ctx.saved_tensors)


causal_conv.register_autograd(_conv_backward, setup_context=_keep_conv)
