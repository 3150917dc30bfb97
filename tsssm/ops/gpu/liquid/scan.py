"""`tsssm.ops.reference.liquid_scan` and its adjoint on CUDA tensors, for one launch after the other."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tsssm.ops.gpu import lanes
from tsssm.ops.gpu.calls import Grid, system_by_mode
from tsssm.ops.gpu.chunks import adjoint_chunks
from tsssm.ops.gpu.lanes import LANES, WARPS, by_channel, by_mode
from tsssm.ops.gpu.liquid.backward import gradients
from tsssm.ops.gpu.liquid.forms import EXACT, KB, PB
from tsssm.ops.gpu.liquid.forward import scan_chunks
from tsssm.ops.gpu.liquid.past import add_past, previous_samples

_KERNELS = {"exact": EXACT.value, "kb": KB.value, "pb": PB.value}
# Samples of which all loads are issued before the first is needed; on the way back also those whose states a
# thread holds in registers, half as many for orders above the limit: the code for all of them is unrolled.
_GROUP = 4
_LOW_ORDER = 4
# Slots of all modes that a thread holds in registers, for one readout.
_FORWARD_SLOTS = 16
_BACKWARD_SLOTS = {"regular": 4, "irregular": 2}


def saved_shape(
    directions: int,
    batch: int,
    length: int,
    channels: int,
    modes: int,
    order: int,
    dtype: torch.dtype,
    save: bool,
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before every few samples, or none; always float32."""
    return (directions if save else 0, order, batch, lanes.checkpoints(length), 2, modes, channels)


class _Call:
    """What both passes take: the grid, and which input is how far behind the first one of each chunk."""

    def __init__(
        self,
        u: Tensor,
        C: Tensor,
        dt: Tensor | None,
        kernel: str,
        order: int,
        rule: str,
        alpha: float,
        reverse: bool,
    ) -> None:
        self.slots = order if kernel == "exact" else 1
        self.past = order - self.slots
        self.order = order
        self.grid = Grid(u, C, dt, rule, alpha, self.slots)
        self.forms = {"KERNEL": _KERNELS[kernel], "ORDER": order, "SLOTS": self.slots}
        #: Of each direction, whether it runs backwards.
        self.backwards = [reverse, not reverse][: self.grid.directions]
        #: Numbers (direction, series, chunk, past input), see `past.earlier`; none on a regular grid.
        self.origin: Tensor | None = None
        if dt is not None and self.past:
            self.origin = previous_samples(dt, self.backwards, self.grid.chunk, self.past)

    def looks_back(self, device: torch.device) -> Tensor:
        """Numbers (series or 1, chunk, past input) of all chunks that may look behind the first sample."""
        if self.origin is not None:
            return self.origin[0]
        first = torch.arange(0, max(1, self.past), self.grid.chunk, device=device)[: self.grid.chunks]
        return (first[:, None] - 1 - torch.arange(self.past, device=device))[None]

    def modes(self, slots: int) -> dict[str, int]:
        """Modes that a thread holds at a time, and how many times that is."""
        return self.grid.modes(max(1, slots // triton.next_power_of_2(self.order)))


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
    """Outputs (batch, M, L, H), final states (order, batch, H, N) and, if ``save``, what the adjoint needs.

    C (K, M, H, N) and dt (K, batch, L) are those of each of K directions, of which the second runs opposite
    to the first and from rest. float32; u may have half the precision.
    """
    batch, length, channels = u.shape
    _, readouts, _, modes = C.shape

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    y = empty(readouts, batch, length, channels)
    x = empty(order, batch, 2, modes, channels)
    saved = empty(*saved_shape(C.shape[0], batch, length, channels, modes, order, u.dtype, save))
    if batch == 0:
        return y.transpose(0, 1), by_channel(x), saved
    call = _Call(u, C, dt, kernel, order, rule, alpha, reverse)
    grid = call.grid
    u = u.resolve_neg().contiguous()
    system, readout = system_by_mode(A, B, C)
    limits = u if bound is None else bound.T.contiguous()
    initial = None if start is None else by_mode(start)
    with torch.cuda.device_of(u):
        for k, backwards in enumerate(call.backwards):
            # A pointer that a kernel does not use may be any.
            operands: list[Any] = [
                u,
                system,
                readout[k],
                u if D is None else D.contiguous(),
                step.contiguous(),
                u if dt is None else dt[k].contiguous(),
                limits,
                u if call.origin is None else call.origin[k],
            ]
            from_state = initial if k == 0 else None
            past = u if from_state is None else from_state[call.slots :]
            options = grid.options | call.forms | call.modes(_FORWARD_SLOTS) | {"REVERSE": backwards}
            options |= {"REMEMBERED": from_state is not None, "SAMPLES": lanes.SAMPLES, "GROUP": _GROUP}
            options |= {"FEEDTHROUGH": D is not None and k == 0, "ADD": k == 1}
            begin = from_state
            if grid.chunks > 1:
                end = empty(*grid.state_shape)
                product = torch.empty_like(end)
                scan_chunks[grid.lanes](
                    *operands,
                    *(u, past, u, end, product, u, u),
                    *grid.sizes,
                    **options,
                    OUTPUTS=False,
                    STARTED=False,
                    SAVE=False,
                    FINAL=False,
                )
                begin = grid.join(from_state, end, product, adjoint=False)
            scan_chunks[grid.lanes](
                *operands,
                *(u if begin is None else begin, past, y, u, u, saved[k] if save else u, x),
                *grid.sizes,
                **options,
                OUTPUTS=True,
                STARTED=begin is not None,
                SAVE=save,
                FINAL=k == 0,
            )
    return y.transpose(0, 1), by_channel(x), saved


def liquid_scan_adjoint(
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
    """Gradients of u, A, B, C, D, step, bound and start from those of the outputs and of the final states.

    Those of an absent D or bound are empty. No atomic additions: the same call gives the same bits.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    order = gx.shape[0]
    chain = bound is not None

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    gu = empty(*u.shape)
    gstart = empty(order, batch, 2, modes, channels)
    if batch == 0:
        gD = empty(0, 0) if D is None else torch.zeros_like(D)
        g_bound = empty(0, 0) if bound is None else torch.zeros_like(bound)
        gA, gB, gC, gstep = (torch.zeros_like(t) for t in (A, B, C, step))
        return gu, gA, gB, gC, gD, gstep, g_bound, by_channel(gstart)
    call = _Call(u, C, dt, kernel, order, rule, alpha, reverse)
    grid = call.grid
    rows = batch * grid.chunks
    of_modes = empty(directions, rows, 2 + readouts, 2, modes, channels)
    of_bounds = empty(directions if chain else 0, rows, modes, channels)
    of_channels = empty(directions, rows, 1 + readouts, channels)
    of_past = empty(batch, grid.chunks, call.past, channels)
    gpast = empty(call.past, batch, grid.chunks, 2, modes, channels)
    u = u.resolve_neg().contiguous()
    gy = gy.resolve_neg().transpose(0, 1).contiguous()
    system, readout = system_by_mode(A, B, C)
    limits = u if bound is None else bound.T.contiguous()
    final = by_mode(gx)
    with torch.cuda.device_of(u):
        for k, backwards in enumerate(call.backwards):
            coefficients = (system, readout[k])
            steps = (step.contiguous(), u if dt is None else dt[k].contiguous(), limits)
            origin = u if call.origin is None else call.origin[k]
            options = grid.options | {"REVERSE": backwards, "SLOTS": call.slots}
            if grid.chunks > 1:
                end, product = empty(*grid.state_shape), empty(*grid.state_shape)
                adjoint_chunks[grid.lanes](
                    *(gy, u, *coefficients, *steps, end, product),
                    *grid.sizes,
                    **options,
                    **call.modes(_FORWARD_SLOTS),
                    LIQUID=False,
                    GROUP=_GROUP,
                )
                end = grid.join(final[: call.slots] if k == 0 else None, end, product, adjoint=True)
            else:
                end = final if k == 0 else torch.zeros(grid.state_shape, device=u.device)
            gradients[grid.lanes](
                *(gy, u, *coefficients, u if D is None else D.contiguous(), *steps, origin),
                *(saved[k], end, final, gu, of_modes[k], of_bounds[k] if chain else u),
                *(of_channels[k], of_past, gstart, gpast),
                *grid.sizes,
                **options | call.forms,
                **call.modes(_BACKWARD_SLOTS["regular" if dt is None else "irregular"]),
                SAMPLES=lanes.SAMPLES,
                GROUP=_GROUP if order <= _LOW_ORDER else _GROUP // 2,
                FEEDTHROUGH=D is not None and k == 0,
                ADD=k == 1,
                FINAL=k == 0,
                INITIAL=k == 0,
            )
            if call.past and grid.chunks > 1:
                add_past[(triton.cdiv(batch * channels, LANES),)](
                    *(of_past, origin, gu, batch, length, channels, grid.chunk, grid.chunks),
                    REGULAR=dt is None,
                    REVERSE=backwards,
                    PAST=call.past,
                    LANES=LANES,
                    num_warps=WARPS,
                )
    numbers = call.looks_back(u.device)
    for i in range(call.past):
        # What every chunk that looks back so far sends to this one of the inputs before the first sample.
        far = (numbers == -1 - i).permute(2, 0, 1)[..., None, None, None]
        gstart[1 + i] = torch.where(far, gpast[:, :, : far.shape[2]], 0.0).sum((0, 2))
    of_system = by_channel(of_modes.sum(1))
    of_channel = of_channels.sum(1)
    # Results of an operator may not share memory.
    gA, gB = of_system[:, 0].sum(0), of_system[:, 1].sum(0)
    gD = empty(0, 0) if D is None else of_channel[0, 1:].clone()
    g_bound = of_bounds.sum((0, 1)).T.contiguous() if chain else empty(0, 0)
    gC, gstep = of_system[:, 2:].contiguous(), of_channel[:, 0].sum(0)
    return gu, gA, gB, gC, gD, gstep, g_bound, by_channel(gstart)
