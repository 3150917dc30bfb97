"""The compiled operations as PyTorch operators: one node each for autograd, ``compile`` and ``export``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsssm.ops import cpu


@torch.library.custom_op("tsssm::diagonal_scan", mutates_args=())
def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    liquid: bool,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states, and the states that the adjoint starts from."""
    return cpu.diagonal_scan(u, u_prev, A, B, C, step, dt, x0, rule, alpha, liquid, reverse, save)


@diagonal_scan.register_fake
def _(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    liquid: bool,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, channels = u.shape
    y = u.new_empty(C.shape[0], batch, length, channels).transpose(0, 1)
    saved = u.new_empty(cpu.saved_shape(batch, length, channels, A.shape[1], u.dtype, save))
    return y, A.new_empty(batch, *A.shape), saved


@torch.library.custom_op("tsssm::diagonal_scan_adjoint", mutates_args=())
def _diagonal_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    rule: str,
    alpha: float,
    liquid: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return cpu.diagonal_scan_adjoint(
        gy, gx, saved, u, u_prev, A, B, C, step, dt, rule, alpha, liquid, reverse
    )


@_diagonal_scan_adjoint.register_fake
def _(
    gy: Tensor, gx: Tensor, saved: Tensor, u: Tensor, u_prev: Tensor | None, *system: Any
) -> tuple[Tensor, ...]:
    A, B, C, step = system[:4]
    like = torch.empty_like
    gv = u.new_empty(0, 0, 0) if u_prev is None else like(u_prev)
    return like(u), gv, like(A), like(B), like(C), like(step), like(gx)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    u, u_prev, A, B, C, step, dt, x0, *ctx.options, save = inputs
    if not save:
        raise RuntimeError("The scan was run without keeping states, so it has no gradient.")
    ctx.has_x0 = x0 is not None
    ctx.save_for_backward(output[2], u, u_prev, A, B, C, step, dt)
    ctx.set_materialize_grads(True)


def _scan_backward(ctx: Any, gy: Tensor, gx: Tensor, _: Tensor) -> tuple[Any, ...]:
    saved, u, u_prev, A, B, C, step, dt = ctx.saved_tensors
    gu, gv, gA, gB, gC, gstep, gx0 = _diagonal_scan_adjoint(
        gy, gx, saved, u, u_prev, A, B, C, step, dt, *ctx.options
    )
    return (
        gu,
        None if u_prev is None else gv,
        gA,
        gB,
        gC,
        gstep,
        None,
        gx0 if ctx.has_x0 else None,
        *[None] * 5,
    )


diagonal_scan.register_autograd(_scan_backward, setup_context=_keep_scan)


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
    return torch.empty_like(u), torch.empty_like(kernel)


def _keep_conv(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _conv_backward(ctx: Any, gy: Tensor) -> tuple[Tensor, Tensor]:
    return _causal_conv_adjoint(gy, *ctx.saved_tensors)


causal_conv.register_autograd(_conv_backward, setup_context=_keep_conv)
