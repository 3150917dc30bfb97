"""The scan of Liquid-S4 as a PyTorch operator: one node for autograd, ``compile`` and ``export``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.autograd.layout import like
from tsssm.ops.operands import backend


@torch.library.custom_op("tsssm::liquid_scan", mutates_args=())
def liquid_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    start: Tensor | None,
    kernel: str,
    order: int,
    rule: str,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states, and the states that the adjoint starts from."""
    scan = backend("liquid", u.device).liquid_scan
    return scan(u, A, B, C, D, step, dt, bound, start, kernel, order, rule, alpha, reverse, save)


@liquid_scan.register_fake
def _(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    start: Tensor | None,
    kernel: str,
    order: int,
    rule: str,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    directions, readouts, channels, modes = C.shape
    batch, length, _ = u.shape
    y = u.new_empty(readouts, batch, length, channels).transpose(0, 1)
    saved_shape = backend("liquid", u.device).saved_shape
    saved = u.new_empty(saved_shape(directions, batch, length, channels, modes, order, u.dtype, save))
    return y, A.new_empty(order, batch, channels, modes), saved


@torch.library.custom_op("tsssm::liquid_scan_adjoint", mutates_args=())
def _liquid_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    kernel: str,
    rule: str,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    adjoint = backend("liquid", u.device).liquid_scan_adjoint
    return adjoint(gy, gx, saved, u, A, B, C, D, step, dt, bound, kernel, rule, alpha, reverse)


@_liquid_scan_adjoint.register_fake
def _(gy: Tensor, gx: Tensor, saved: Tensor, u: Tensor, *system: Any) -> tuple[Tensor, ...]:
    A, B, C, D, step, _, bound = system[:7]
    gD = u.new_empty(0, 0) if D is None else like(D)
    g_bound = u.new_empty(0, 0) if bound is None else like(bound)
    return like(u), like(A), like(B), like(C), gD, like(step), g_bound, like(gx)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, start, kernel, _, rule, alpha, reverse, save = inputs
    if not save:
        raise RuntimeError("The scan was run without keeping states, so it has no gradient.")
    ctx.options = kernel, rule, alpha, reverse
    ctx.at_rest = start is None
    ctx.save_for_backward(output[2], *tensors)


def _gradients(ctx: Any, adjoint: Callable[..., tuple[Tensor, ...]], gy: Tensor, gx: Tensor) -> tuple:
    gu, gA, gB, gC, gD, gstep, g_bound, gstart = adjoint(gy, gx, *ctx.saved_tensors, *ctx.options)
    D, bound = ctx.saved_tensors[5], ctx.saved_tensors[8]
    return (
        gu,
        gA,
        gB,
        gC,
        None if D is None else gD,
        gstep,
        None,
        None if bound is None else g_bound,
        None if ctx.at_rest else gstart,
        *[None] * 6,
    )


def _backward(ctx: Any, gy: Tensor, gx: Tensor, _: Tensor) -> tuple:
    return _gradients(ctx, _liquid_scan_adjoint, gy, gx)


liquid_scan.register_autograd(_backward, setup_context=_keep)


class EagerLiquidScan(torch.autograd.Function):
    """The same node without the operator's bookkeeping, which on small data costs as much as the scan."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        y, x, saved = backend("liquid", inputs[0].device).liquid_scan(*inputs)
        if inputs[-1]:
            _keep(ctx, inputs, (y, x, saved))
        return y, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor, gx: Tensor) -> tuple:
        return _gradients(ctx, backend("liquid", gy.device).liquid_scan_adjoint, gy, gx)
