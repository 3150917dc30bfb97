"""The diagonal plus low-rank scan as a PyTorch operator: one node for autograd, ``compile`` and ``export``.

The operator has no timescale: only its products with Lambda, B and P matter, so that `scan` multiplies them
before and leaves their gradients, and those of operands that all channels share, to autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.autograd.layout import like
from tsssm.ops.operands import backend, needs_gradient


def scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """`tsssm.ops.reference.dplr_scan`, compiled; the gaps get no gradient."""
    scale = step[:, None]
    per_channel = Q.expand(-1, len(step), -1)
    operands = (u, scale * Lambda, scale * P, per_channel, scale * B, C, D, dt, x0)
    run = dplr_scan if torch.compiler.is_compiling() else EagerDplrScan.apply
    y, x, *_ = run(*operands, alpha, reverse, needs_gradient(*operands))
    return y, x


@torch.library.custom_op("tsssm::dplr_scan", mutates_args=())
def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states, and what the adjoint needs."""
    return backend("dplr", u.device).dplr_scan(u, Lambda, P, Q, B, C, D, dt, x0, alpha, reverse, save)


@dplr_scan.register_fake
def _(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, length, channels = u.shape
    y = u.new_empty(C.shape[1], batch, length, channels).transpose(0, 1)
    shapes = backend("dplr", u.device).saved_shapes(u, P, C, dt, alpha, save)
    saved, v, inverses = (u.new_empty(shape) for shape in shapes)
    return y, C.new_empty(batch, channels, C.shape[3]), saved, v, inverses


@torch.library.custom_op("tsssm::dplr_scan_adjoint", mutates_args=())
def _dplr_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    v: Tensor,
    inverses: Tensor,
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    adjoint = backend("dplr", u.device).dplr_scan_adjoint
    return adjoint(gy, gx, saved, v, inverses, u, Lambda, P, Q, B, C, D, dt, alpha, reverse)


@_dplr_scan_adjoint.register_fake
def _(
    gy: Tensor, gx: Tensor, saved: Tensor, v: Tensor, inverses: Tensor, u: Tensor, *system: Any
) -> tuple[Tensor, ...]:
    *coefficients, D = system[:6]
    gD = u.new_empty(0, 0) if D is None else like(D)
    return like(u), *(like(t) for t in coefficients), gD, like(gx)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, x0, alpha, reverse, save = inputs
    if not save:
        raise RuntimeError("The scan was run without keeping states, so it has no gradient.")
    ctx.options, ctx.at_rest = (alpha, reverse), x0 is None
    ctx.save_for_backward(*output[2:], *tensors)


def _gradients(ctx: Any, adjoint: Callable[..., tuple[Tensor, ...]], gy: Tensor, gx: Tensor) -> tuple:
    saved, v, inverses, *operands = ctx.saved_tensors
    *gradients, gD, gx0 = adjoint(gy, gx, saved, v, inverses, *operands, *ctx.options)
    no_D = operands[6] is None
    return (*gradients, None if no_D else gD, None, None if ctx.at_rest else gx0, None, None, None)


def _backward(ctx: Any, gy: Tensor, gx: Tensor, *_: Tensor) -> tuple:
    return _gradients(ctx, _dplr_scan_adjoint, gy, gx)


dplr_scan.register_autograd(_backward, setup_context=_keep)


class EagerDplrScan(torch.autograd.Function):
    """The same node without the operator's bookkeeping, which on small data costs as much as the scan."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        y, x, *kept = backend("dplr", inputs[0].device).dplr_scan(*inputs)
        if inputs[-1]:
            _keep(ctx, inputs, (y, x, *kept))
        return y, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor, gx: Tensor) -> tuple:
        return _gradients(ctx, backend("dplr", gy.device).dplr_scan_adjoint, gy, gx)
