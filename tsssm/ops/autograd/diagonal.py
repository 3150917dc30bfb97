"""The diagonal scan as a PyTorch operator: one node for autograd, ``compile`` and ``export``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.autograd.layout import like
from tsssm.ops.operands import backend


@torch.library.custom_op("tsssm::diagonal_scan", mutates_args=())
def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states, and the states that the adjoint starts from."""
    scan = backend("diagonal", u.device).diagonal_scan
    return scan(u, u_prev, A, B, C, D, step, dt, bound, x0, rule, alpha, reverse, save)


@diagonal_scan.register_fake
def _(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    directions, readouts, channels, modes = C.shape
    batch, length, _ = u.shape
    y = u.new_empty(readouts, batch, length, channels).transpose(0, 1)
    saved_shape = backend("diagonal", u.device).saved_shape
    saved = u.new_empty(saved_shape(directions, batch, length, channels, modes, u.dtype, save))
    return y, A.new_empty(batch, channels, modes), saved


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
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    rule: str,
    alpha: float,
    reverse: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return backend("diagonal", u.device).diagonal_scan_adjoint(
        gy, gx, saved, u, u_prev, A, B, C, D, step, dt, bound, rule, alpha, reverse, at_rest
    )


@_diagonal_scan_adjoint.register_fake
def _(
    gy: Tensor, gx: Tensor, saved: Tensor, u: Tensor, u_prev: Tensor | None, *system: Any
) -> tuple[Tensor, ...]:
    A, B, C, D, step, _, bound = system[:7]
    gv = u.new_empty(0, 0, 0, 0) if u_prev is None else like(u_prev)
    gD = u.new_empty(0, 0) if D is None else like(D)
    g_bound = u.new_empty(0, 0) if bound is None else like(bound)
    return like(u), gv, like(A), like(B), like(C), gD, like(step), g_bound, like(gx)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, x0, rule, alpha, reverse, save = inputs
    if not save:
        raise RuntimeError("The scan was run without keeping states, so it has no gradient.")
    ctx.options = rule, alpha, reverse, x0 is None
    ctx.save_for_backward(output[2], *tensors)


def _scan_gradients(ctx: Any, adjoint: Callable[..., tuple[Tensor, ...]], gy: Tensor, gx: Tensor) -> tuple:
    saved, u, u_prev, A, B, C, D, step, dt, bound = ctx.saved_tensors
    gu, gv, gA, gB, gC, gD, gstep, g_bound, gx0 = adjoint(
        gy, gx, saved, u, u_prev, A, B, C, D, step, dt, bound, *ctx.options
    )
    return (
        gu,
        None if u_prev is None else gv,
        gA,
        gB,
        gC,
        None if D is None else gD,
        gstep,
        None,
        None if bound is None else g_bound,
        None if ctx.options[-1] else gx0,
        *[None] * 4,
    )


def _scan_backward(ctx: Any, gy: Tensor, gx: Tensor, _: Tensor) -> tuple:
    return _scan_gradients(ctx, _diagonal_scan_adjoint, gy, gx)


diagonal_scan.register_autograd(_scan_backward, setup_context=_keep_scan)


class EagerDiagonalScan(torch.autograd.Function):
    """The same node without the operator's bookkeeping, which on small data costs as much as the scan."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        y, x, saved = backend("diagonal", inputs[0].device).diagonal_scan(*inputs)
        if inputs[-1]:
            _keep_scan(ctx, inputs, (y, x, saved))
        return y, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor, gx: Tensor) -> tuple:
        return _scan_gradients(ctx, backend("diagonal", gy.device).diagonal_scan_adjoint, gy, gx)
