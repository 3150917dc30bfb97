"""`tsssm.ops.autograd.tridiagonal.tridiagonal_scan` and its adjoint on CUDA tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.gpu import whole
from tsssm.ops.gpu.tridiagonal.backward import gradients
from tsssm.ops.gpu.tridiagonal.forward import scan_series
from tsssm.ops.gpu.whole import programs, tile


def saved_shape(
    directions: int, batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint, those before every few samples, or nothing."""
    return (directions if save else 0, batch, whole.checkpoints(length), channels, modes)


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
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, the states the adjoint needs."""
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    shape = saved_shape(directions, batch, length, channels, modes, u.dtype, save)
    saved = torch.empty(shape, dtype=torch.float32, device=u.device)
    y = torch.empty(readouts, batch, length, channels, dtype=torch.float32, device=u.device)
    x = torch.empty(batch, channels, modes, dtype=torch.float32, device=u.device)
    if batch == 0:
        return y.transpose(0, 1), x, saved
    u = u.contiguous()
    sizes = tile(modes)
    with torch.cuda.device_of(u):
        for k in range(directions):
            scan_series[programs(batch, channels, sizes["LANES"])](
                # A pointer that a kernel does not use may be any.
                *(u, T.contiguous(), V.contiguous(), B.contiguous(), C[k].contiguous()),
                u if dt is None else dt[k].contiguous(),
                u if x0 is None else x0.contiguous(),
                *(y, saved[k] if save else u, x),
                *(batch, length, channels, modes, alpha),
                READOUTS=readouts,
                REGULAR=dt is None,
                REVERSE=reverse != (k == 1),
                STARTED=x0 is not None and k == 0,
                ADD=k == 1,
                SAVE=save,
                FINAL=k == 0,
                **sizes,
            )
    return y.transpose(0, 1), x, saved


def tridiagonal_scan_adjoint(
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
    """Gradients of u, T, V, B, C and x0; no atomic additions: the same call gives the same bits."""
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=u.device)

    gu, gx0 = zeros(*u.shape), zeros(batch, channels, modes)
    by_mode = zeros(directions, batch, 7 + readouts, channels, modes)
    if batch > 0:
        u = u.contiguous()
        gy = gy.transpose(0, 1).contiguous()
        sizes = tile(modes)
        with torch.cuda.device_of(u):
            for k in range(directions):
                gradients[programs(batch, channels, sizes["LANES"])](
                    *(gy, u, T.contiguous(), V.contiguous(), B.contiguous(), C[k].contiguous()),
                    u if dt is None else dt[k].contiguous(),
                    *(saved[k], gx.contiguous(), gu, by_mode[k], gx0),
                    *(batch, length, channels, modes, alpha),
                    READOUTS=readouts,
                    REGULAR=dt is None,
                    REVERSE=reverse != (k == 1),
                    ENDED=k == 0,
                    ADD=k == 1,
                    INITIAL=k == 0,
                    **sizes,
                )
    rows = by_mode.sum(1)
    # Results of an operator may not share memory.
    gT, gV, gB = rows[:, :3].sum(0), rows[:, 3:6].sum(0), rows[:, 6].sum(0)
    return gu, gT, gV, gB, rows[:, 7:].contiguous(), gx0
