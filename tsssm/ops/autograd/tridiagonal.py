"""The tridiagonal scan as a PyTorch operator: one node for autograd, ``compile`` and ``export``.

The operator knows its system as A = V T^{-1}, with V = diag(scale) (diag(shift) T + I) tridiagonal, since no
step needs more than T, V and B; and only the products of the timescale with V and B matter. `scan` makes
them and leaves their gradients, those of operands that all channels share, and D, to autograd.
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
    T: Tensor,
    shift: Tensor,
    scale: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """`tsssm.ops.reference.tridiagonal_scan`, compiled; the gaps get no gradient."""
    steps = step[:, None]
    V = steps * scale * torch.stack([shift * T[0], shift * T[1] + 1, shift * T[2]])
    operands = (u, T.expand_as(V), V, steps * B, C, dt, x0)
    run = tridiagonal_scan if torch.compiler.is_compiling() else EagerTridiagonalScan.apply
    y, x, *_ = run(*operands, alpha, reverse, needs_gradient(*operands))
    return y if D is None else torch.addcmul(y, D[:, None], u[:, None]), x


@torch.library.custom_op("tsssm::tridiagonal_scan", mutates_args=())
def tridiagonal_scan(
    u: Tensor,
    T: Tensor,
    V: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states, and the states that the adjoint starts from."""
    return backend("tridiagonal", u.device).tridiagonal_scan(u, T, V, B, C, dt, x0, alpha, reverse, save)


@tridiagonal_scan.register_fake
def _(
    u: Tensor,
    T: Tensor,
    V: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    directions, readouts, channels, modes = C.shape
    batch, length, _ = u.shape
    y = u.new_empty(readouts, batch, length, channels).transpose(0, 1)
    saved_shape = backend("tridiagonal", u.device).saved_shape
    saved = u.new_empty(saved_shape(directions, batch, length, channels, modes, u.dtype, save))
    return y, B.new_empty(batch, channels, modes), saved


@torch.library.custom_op("tsssm::tridiagonal_scan_adjoint", mutates_args=())
def _tridiagonal_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    u: Tensor,
    T: Tensor,
    V: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    adjoint = backend("tridiagonal", u.device).tridiagonal_scan_adjoint
    return adjoint(gy, gx, saved, u, T, V, B, C, dt, alpha, reverse)


@_tridiagonal_scan_adjoint.register_fake
def _(
    gy: Tensor, gx: Tensor, saved: Tensor, u: Tensor, T: Tensor, V: Tensor, B: Tensor, C: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    return like(u), like(T), like(V), like(B), like(C), like(gx)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, x0, alpha, reverse, save = inputs
    if not save:
        raise RuntimeError("The scan was run without keeping states, so it has no gradient.")
    ctx.options, ctx.at_rest = (alpha, reverse), x0 is None
    ctx.save_for_backward(output[2], *tensors)


def _gradients(ctx: Any, adjoint: Callable[..., tuple[Tensor, ...]], gy: Tensor, gx: Tensor) -> tuple:
    *gradients, gx0 = adjoint(gy, gx, *ctx.saved_tensors, *ctx.options)
    return (*gradients, None, None if ctx.at_rest else gx0, None, None, None)


def _backward(ctx: Any, gy: Tensor, gx: Tensor, _: Tensor) -> tuple:
    return _gradients(ctx, _tridiagonal_scan_adjoint, gy, gx)


tridiagonal_scan.register_autograd(_backward, setup_context=_keep)


class EagerTridiagonalScan(torch.autograd.Function):
    """The same node without the operator's bookkeeping, which on small data costs as much as the scan."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        y, x, saved = backend("tridiagonal", inputs[0].device).tridiagonal_scan(*inputs)
        if inputs[-1]:
            _keep(ctx, inputs, (y, x, saved))
        return y, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor, gx: Tensor) -> tuple:
        return _gradients(ctx, backend("tridiagonal", gy.device).tridiagonal_scan_adjoint, gy, gx)
