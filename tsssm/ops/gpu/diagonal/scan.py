"""`tsssm.ops.reference.diagonal_scan` and its adjoint on CUDA tensors, for one launch after the other."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tsssm.ops.gpu import lanes
from tsssm.ops.gpu.diagonal.adjoint import adjoint_chunks
from tsssm.ops.gpu.diagonal.backward import gradients
from tsssm.ops.gpu.diagonal.forward import join_chunks, scan_chunks
from tsssm.ops.gpu.lanes import LANES, WARPS, by_channel, by_mode, chunk_length
from tsssm.ops.gpu.rules import FOH, GBT, ZOH

_RULES = {"gbt": GBT.value, "zoh": ZOH.value, "foh": FOH.value}
# Samples, or chunks, of which all loads are issued before the first is needed.
_GROUP = 4
_JOIN_GROUP = 8
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


class _Grid:
    """How a call is cut: sizes and options that the kernels take, and their launch grids."""

    def __init__(
        self, u: Tensor, C: Tensor, dt: Tensor | None, rule: str, alpha: float, liquid: bool
    ) -> None:
        batch, length, channels = u.shape
        self.directions, readouts, _, modes = C.shape
        self.batch = batch
        chunk = chunk_length(batch, length, channels, modes)
        self.chunks = -(-length // chunk)
        self.sizes = (batch, length, channels, modes, readouts, chunk, self.chunks, alpha)
        self.options = {
            "RULE": _RULES[rule],
            "REGULAR": dt is None,
            "LIQUID": liquid,
            "UNEVEN": length % chunk != 0,
            "READOUTS": triton.next_power_of_2(readouts),
            "LANES": LANES,
            "num_warps": WARPS,
        }
        self.lanes = (triton.cdiv(batch * self.chunks * channels, LANES),)
        # The series first: only that axis of a launch may be longer than 65,535.
        self.series = (batch, triton.cdiv(modes * channels, LANES))
        #: Of an array (row, part, mode, channel), with one row for each chunk of each series.
        self.state_shape = (batch, self.chunks, 2, modes, channels)

    def modes(self, at_most: int) -> dict[str, int]:
        """Modes that a thread holds at a time, and how many times that is."""
        modes = self.sizes[3]
        held = min(triton.next_power_of_2(modes), max(1, at_most // self.options["READOUTS"]))
        return {"MODES": held, "BLOCKS": triton.cdiv(modes, held)}

    def join(self, initial: Tensor | None, end: Tensor, product: Tensor, adjoint: bool) -> Tensor:
        """The states that the chunks start from, written over ``end``."""
        _, _, channels, modes, *_ = self.sizes
        join_chunks[self.series](
            end if initial is None else initial,
            end,
            product,
            end,
            self.chunks,
            modes,
            channels,
            ADJOINT=adjoint,
            INITIAL=initial is not None,
            LANES=LANES,
            GROUP=_JOIN_GROUP,
            num_warps=WARPS,
        )
        return end


def _system(A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """A and B (2, part, mode, channel), and C (direction, readout, part, mode, channel)."""
    directions, readouts = C.shape[:2]
    together = by_mode(torch.cat([A[None], B[None], C.flatten(0, 1)]))
    return together[:2], together[2:].unflatten(0, (directions, readouts))


def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    liquid: bool,
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
    grid = _Grid(u, C, dt, rule, alpha, liquid)
    blocks = grid.modes(_FORWARD_MODES)
    u = u.resolve_neg().contiguous()
    system, readout = _system(A, B, C)
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
            ]
            options = grid.options | blocks | {"REVERSE": reverse != (k == 1), "SAMPLES": lanes.SAMPLES}
            options |= {"GROUP": _GROUP, "FEEDTHROUGH": D is not None and k == 0, "ADD": k == 1}
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
    rule: str,
    alpha: float,
    liquid: bool,
    reverse: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, u_prev, A, B, C, D, step and x0 from those of the outputs and of the final states.

    ``at_rest`` says that there was no x0, so that its gradient is of no use. Gradients of absent tensors
    are empty. No atomic additions: the same call gives the same bits.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    gu = empty(*u.shape)
    gv = empty(0, 0, 0, 0) if u_prev is None else empty(*u_prev.shape)
    gx0 = empty(batch, 2, modes, channels)
    if batch == 0:
        gD = empty(0, 0) if D is None else torch.zeros_like(D)
        gA, gB, gC, gstep = (torch.zeros_like(t) for t in (A, B, C, step))
        return gu, gv, gA, gB, gC, gD, gstep, by_channel(gx0)
    grid = _Grid(u, C, dt, rule, alpha, liquid)
    rows = batch * grid.chunks
    of_modes = empty(directions, rows, 2 + readouts, 2, modes, channels)
    of_channels = empty(directions, rows, 1 + readouts, channels)
    u = u.resolve_neg().contiguous()
    gy = gy.resolve_neg().transpose(0, 1).contiguous()
    system, readout = _system(A, B, C)
    blocks = grid.modes(_BACKWARD_MODES["regular" if dt is None else "irregular"])
    weight = "heavy" if dt is not None and (liquid or rule == "foh") else "light"
    with torch.cuda.device_of(u):
        for k in range(directions):
            coefficients = (system, readout[k])
            steps = (step.contiguous(), u if dt is None else dt[k].contiguous())
            options = grid.options | {"REVERSE": reverse != (k == 1)}
            final = by_mode(gx) if k == 0 else None
            if grid.chunks > 1:
                end, product = empty(*grid.state_shape), empty(*grid.state_shape)
                adjoint_chunks[grid.lanes](
                    *(gy, u, *coefficients, *steps, end, product),
                    *grid.sizes,
                    **options,
                    **grid.modes(_FORWARD_MODES),
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
                *(gu, u if u_prev is None else gv[k], of_modes[k], of_channels[k], gx0),
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
    gD = empty(0, 0) if D is None else of_channel[0, 1:].clone()
    return gu, gv, gA, gB, of_system[:, 2:].contiguous(), gD, of_channel[:, 0].sum(0), by_channel(gx0)
