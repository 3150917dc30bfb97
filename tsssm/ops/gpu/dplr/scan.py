"""`tsssm.ops.reference.dplr_scan` and its adjoint on CUDA tensors, in units of the channel's timescale."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.gpu import whole
from tsssm.ops.gpu.dplr.backward import gradients
from tsssm.ops.gpu.dplr.forward import scan_series
from tsssm.ops.gpu.whole import joined, parts, programs, tile

Shape = tuple[int, ...]


def saved_shapes(
    u: Tensor, P: Tensor, C: Tensor, dt: Tensor | None, alpha: float, save: bool
) -> tuple[Shape, Shape, Shape]:
    """Shapes of the states that are kept for the adjoint, before every few samples, and of nothing else."""
    batch, length, channels = u.shape
    directions = C.shape[0] if save else 0
    return (directions, batch, whole.checkpoints(length), 2, channels, C.shape[3]), (0,), (0,)


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
    """Outputs (batch, M, L, H), final states (batch, H, N), and what the adjoint needs."""
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    shapes = saved_shapes(u, P, C, dt, alpha, save)
    saved, v, inverses = (torch.empty(shape, dtype=torch.float32, device=u.device) for shape in shapes)
    y = torch.empty(readouts, batch, length, channels, dtype=torch.float32, device=u.device)
    x = torch.empty(batch, 2, channels, modes, dtype=torch.float32, device=u.device)
    if batch == 0:
        return y.transpose(0, 1), joined(x), saved, v, inverses
    u = u.resolve_neg().contiguous()
    sizes = tile(modes)
    with torch.cuda.device_of(u):
        for k in range(directions):
            scan_series[programs(batch, channels, sizes["LANES"])](
                # A pointer that a kernel does not use may be any.
                *(u, parts(Lambda), parts(P), parts(Q), parts(B), parts(C[k])),
                u if D is None else D.contiguous(),
                u if dt is None else dt[k].contiguous(),
                u if x0 is None else parts(x0),
                *(y, saved[k] if save else u, x),
                *(batch, length, channels, modes, alpha),
                RANK=len(P),
                READOUTS=readouts,
                REGULAR=dt is None,
                REVERSE=reverse != (k == 1),
                STARTED=x0 is not None and k == 0,
                FEEDTHROUGH=D is not None and k == 0,
                ADD=k == 1,
                SAVE=save,
                FINAL=k == 0,
                **sizes,
            )
    return y.transpose(0, 1), joined(x), saved, v, inverses


def dplr_scan_adjoint(
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
    """Gradients of u, Lambda, P, Q, B, C, D and x0; the same call gives the same bits."""
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    rank = len(P)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=u.device)

    gu, gx0 = zeros(*u.shape), zeros(batch, 2, channels, modes)
    by_mode = zeros(directions, batch, 2 + 2 * rank + readouts, 2, channels, modes)
    gD = zeros(directions, batch, readouts, channels)
    if batch > 0:
        u = u.resolve_neg().contiguous()
        gy = gy.resolve_neg().transpose(0, 1).contiguous()
        sizes = tile(modes)
        with torch.cuda.device_of(u):
            for k in range(directions):
                gradients[programs(batch, channels, sizes["LANES"])](
                    *(gy, u, parts(Lambda), parts(P), parts(Q), parts(B), parts(C[k])),
                    u if D is None else D.contiguous(),
                    u if dt is None else dt[k].contiguous(),
                    *(saved[k], parts(gx), gu, by_mode[k], gD[k], gx0),
                    *(batch, length, channels, modes, alpha),
                    RANK=rank,
                    READOUTS=readouts,
                    REGULAR=dt is None,
                    REVERSE=reverse != (k == 1),
                    ENDED=k == 0,
                    FEEDTHROUGH=D is not None and k == 0,
                    ADD=k == 1,
                    INITIAL=k == 0,
                    **sizes,
                )
    rows = joined(by_mode.sum(1))
    # Results of an operator may not share memory.
    gLambda, gB = rows[:, 0].sum(0), rows[:, 1].sum(0)
    gP, gQ = rows[:, 2 : 2 + rank].sum(0), rows[:, 2 + rank : 2 + 2 * rank].sum(0)
    of_D = torch.empty(0, 0, device=u.device) if D is None else gD[0].sum(0)
    return gu, gLambda, gP, gQ, gB, rows[:, 2 + 2 * rank :].contiguous(), of_D, joined(gx0)
