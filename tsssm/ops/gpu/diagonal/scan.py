"""`tsssm.ops.reference.diagonal_scan` and its adjoint on CUDA tensors, for one launch after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsssm.ops.gpu import lanes
from tsssm.ops.gpu.calls import Grid, system_by_mode
from tsssm.ops.gpu.chunks import adjoint_chunks
from tsssm.ops.gpu.diagonal.backward import gradients
from tsssm.ops.gpu.diagonal.forward import scan_chunks
from tsssm.ops.gpu.lanes import by_channel, by_mode

# Samples of which all loads are issued before the first is needed.
_GROUP = 4
# Samples whose states a thread holds in registers on the way back: fewer where each takes more instructions,
# because the code for all of them is unrolled, and compiled once for each combination of options.
_BACKWARD_GROUP = {"light": 8, "heavy": 4}
# Modes that a thread holds in registers, for one readout.
_FORWARD_MODES = 16
_BACKWARD_MODES = {"regular": 4, "irregular": 2}


def saved_shape(
    directions: int, batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before every few samples, or none; always float32."""
    return (directions if save else 0, batch, lanes.checkpoints(length), 2, modes, channels)


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
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, the states the adjoint needs.

    C (K, M, H, N), dt (K, batch, L) and u_prev (K, batch, L, H) are those of each of K directions, of which
    the second runs opposite to the first and from rest. float32; u may have half the precision.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    y = torch.empty(readouts, batch, length, channels, dtype=torch.float32, device=u.device)
    x = torch.empty(batch, 2, modes, channels, dtype=torch.float32, device=u.device)
    saved = torch.empty(
        saved_shape(directions, batch, length, channels, modes, u.dtype, save),
        dtype=torch.float32,
        device=u.device,
    )
    if batch == 0:
        return y.transpose(0, 1), by_channel(x), saved
    grid = Grid(u, C, dt, rule, alpha)
    blocks = grid.modes(_FORWARD_MODES)
    u = u.resolve_neg().contiguous()
    system, readout = system_by_mode(A, B, C)
    limits = u if bound is None else bound.T.contiguous()
    initial = None if x0 is None else by_mode(x0)
    with torch.cuda.device_of(u):
        for k in range(directions):
            # A pointer that a kernel does not use may be any.
            operands: list[Any] = [
                u,
                u if u_prev is None else u_prev[k].contiguous(),
                system,
                readout[k],
                u if D is None else D.contiguous(),
                step.contiguous(),
                u if dt is None else dt[k].contiguous(),
                limits,
            ]
            options = grid.options | blocks | {"LIQUID": bound is not None, "REVERSE": reverse != (k == 1)}
            options |= {
                "SAMPLES": lanes.SAMPLES,
                "GROUP": _GROUP,
                "FEEDTHROUGH": D is not None and k == 0,
                "ADD": k == 1,
            }
            from_state = initial if k == 0 else None
            start = None
            if grid.chunks > 1:
                end = torch.empty(grid.state_shape, dtype=torch.float32, device=u.device)
                product = torch.empty_like(end)
                scan_chunks[grid.lanes](
                    *operands,
                    *(u, u, end, product, u, u),
                    *grid.sizes,
                    **options,
                    OUTPUTS=False,
                    STARTED=False,
                    SAVE=False,
                    FINAL=False,
                )
                start = grid.join(from_state, end, product, adjoint=False)
            elif from_state is not None:
                start = from_state
            scan_chunks[grid.lanes](
                *operands,
                u if start is None else start,
                *(y, u, u, saved[k] if save else u, x),
                *grid.sizes,
                **options,
                OUTPUTS=True,
                STARTED=start is not None,
                SAVE=save,
                FINAL=k == 0,
            )
    return y.transpose(0, 1), by_channel(x), saved


def diagonal_scan_adjoint(
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
    """Gradients of u, u_prev, A, B, C, D, step, bound and x0 from those of the outputs and the final states.

    ``at_rest`` says that there was no x0, so that its gradient is of no use. Gradients of absent tensors
    are empty. No atomic additions: the same call gives the same bits.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    liquid = bound is not None

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    gu = empty(*u.shape)
    gv = empty(0, 0, 0, 0) if u_prev is None else empty(*u_prev.shape)
    gx0 = empty(batch, 2, modes, channels)
    if batch == 0:
        gD = empty(0, 0) if D is None else torch.zeros_like(D)
        g_bound = empty(0, 0) if bound is None else torch.zeros_like(bound)
        gA, gB, gC, gstep = (torch.zeros_like(t) for t in (A, B, C, step))
        return gu, gv, gA, gB, gC, gD, gstep, g_bound, by_channel(gx0)
    grid = Grid(u, C, dt, rule, alpha)
    rows = batch * grid.chunks
    of_modes = empty(directions, rows, 2 + readouts, 2, modes, channels)
    of_bounds = empty(directions if liquid else 0, rows, modes, channels)
    of_channels = empty(directions, rows, 1 + readouts, channels)
    u = u.resolve_neg().contiguous()
    gy = gy.resolve_neg().transpose(0, 1).contiguous()
    system, readout = system_by_mode(A, B, C)
    limits = u if bound is None else bound.T.contiguous()
    blocks = grid.modes(_BACKWARD_MODES["regular" if dt is None else "irregular"])
    weight = "heavy" if dt is not None and (liquid or rule == "foh") else "light"
    with torch.cuda.device_of(u):
        for k in range(directions):
            coefficients = (system, readout[k])
            steps = (step.contiguous(), u if dt is None else dt[k].contiguous(), limits)
            options = grid.options | {"LIQUID": liquid, "REVERSE": reverse != (k == 1)}
            final = by_mode(gx) if k == 0 else None
            if grid.chunks > 1:
                end, product = empty(*grid.state_shape), empty(*grid.state_shape)
                adjoint_chunks[grid.lanes](
                    *(gy, u, *coefficients, *steps, end, product),
                    *grid.sizes,
                    **options,
                    **grid.modes(_FORWARD_MODES),
                    SLOTS=1,
                    GROUP=_GROUP,
                )
                end = grid.join(final, end, product, adjoint=True)
            elif final is not None:
                end = final
            else:
                end = torch.zeros(grid.state_shape, device=u.device)
            gradients[grid.lanes](
                *(gy, u, u if u_prev is None else u_prev[k].contiguous(), *coefficients),
                *(u if D is None else D.contiguous(), *steps, saved[k], end),
                *(gu, u if u_prev is None else gv[k], of_modes[k]),
                *(of_bounds[k] if liquid else u, of_channels[k], gx0),
                *grid.sizes,
                **options,
                **blocks,
                SAMPLES=lanes.SAMPLES,
                GROUP=_BACKWARD_GROUP[weight],
                FEEDTHROUGH=D is not None and k == 0,
                ADD=k == 1,
                INITIAL=k == 0 and not at_rest,
            )
    of_system = by_channel(of_modes.sum(1))
    of_channel = of_channels.sum(1)
    # Results of an operator may not share memory.
    gA, gB = of_system[:, 0].sum(0), of_system[:, 1].sum(0)
    gC, gstep = of_system[:, 2:].contiguous(), of_channel[:, 0].sum(0)
    gD = empty(0, 0) if D is None else of_channel[0, 1:].clone()
    g_bound = of_bounds.sum((0, 1)).T.contiguous() if liquid else empty(0, 0)
    return gu, gv, gA, gB, gC, gD, gstep, g_bound, by_channel(gx0)
