"""Scans in which a program runs a channel of a series from end to end, with its modes side by side.

A tile is (lanes, modes) again, but the modes of a lane lie in neighbouring threads of one warp, because their
sums are taken in every step: those take shuffles, and no thread has to hold a whole system. Systems are
(part, channel, mode) in memory, states (series, part, channel, mode).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Samples between the states that are kept for the adjoint.
SAMPLES = 4
# Entries of a tile: two for each thread of a warp.
_TILE = 64


def tile(modes: int) -> dict[str, int]:
    """Sizes of the tile of a program, as the kernels take them."""
    held = triton.next_power_of_2(modes)
    return {"MODES": held, "LANES": max(1, _TILE // held), "num_warps": 1, "SAMPLES": SAMPLES}


def programs(batch: int, channels: int, lanes: int) -> tuple[int]:
    """The launch grid."""
    return (triton.cdiv(batch * channels, lanes),)


def checkpoints(length: int) -> int:
    """Number of states that are kept of a series."""
    return -(-length // SAMPLES)


def parts(tensor: Tensor) -> Tensor:
    """A complex tensor (..., channel, mode) as a real one (..., part, channel, mode)."""
    return torch.view_as_real(tensor.resolve_conj()).movedim(-1, -3).contiguous()


def joined(tensor: Tensor) -> Tensor:
    """The opposite of `parts`."""
    return torch.view_as_complex(tensor.movedim(-3, -1).clone(memory_format=torch.contiguous_format))


@triton.jit
def place(
    batch: tl.tensor, channels: tl.tensor, modes: tl.tensor, LANES: tl.constexpr, MODES: tl.constexpr
) -> Any:
    """Which lanes have work, their series and channels, and which entries exist and where in a system."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    active = lane < batch * channels
    b = lane // channels
    h = lane - b * channels
    n = tl.arange(0, MODES)[None, :]
    return active, b.to(tl.int64), h, active[:, None] & (n < modes), h[:, None] * modes + n


@triton.jit
def sample_at(t: tl.tensor, length: tl.tensor, REVERSE: tl.constexpr) -> Any:
    """Where the t-th sample of a direction stands in the series."""
    return length - 1 - t if REVERSE else t


@triton.jit
def load_samples(
    u_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    first: tl.tensor,
    b: tl.tensor,
    h: tl.tensor,
    active: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> Any:
    """Inputs and steps of the samples from ``first`` on: all loads are under way before one is needed."""
    us = ()
    dts = ()
    for j in tl.static_range(SAMPLES):
        there = active & (first + j < length)
        time = b * length + sample_at(first + j, length, REVERSE)
        us = us + (tl.load(u_ptr + time * channels + h, there, other=0.0).to(tl.float32),)
        dts = dts + (dt_at(dt_ptr, time, there, REGULAR),)
    return us, dts


@triton.jit
def load_outputs(
    gy_ptr: tl.tensor,
    first: tl.tensor,
    b: tl.tensor,
    h: tl.tensor,
    active: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    READOUTS: tl.constexpr,
    REVERSE: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> Any:
    """Gradients of the readouts of the samples from ``first`` on, readout after readout of each sample."""
    gys = ()
    for j in tl.static_range(SAMPLES):
        there = active & (first + j < length)
        sample = (b * length + sample_at(first + j, length, REVERSE)) * channels + h
        for m in tl.static_range(READOUTS):
            output = gy_ptr + m * batch.to(tl.int64) * length * channels + sample
            gys = gys + (tl.load(output, there, other=0.0).to(tl.float32),)
    return gys


@triton.jit
def dt_at(pointer: tl.tensor, time: tl.tensor, there: tl.tensor, REGULAR: tl.constexpr) -> Any:
    """The step that leads to a sample; one of zero where there is none leaves the state as it is."""
    if REGULAR:
        dt = tl.where(there, 1.0, 0.0)
    else:
        dt = tl.load(pointer + time, there, other=0.0)
    return dt
