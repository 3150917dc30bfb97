"""The tridiagonal scan and its adjoint on CPU tensors.

The system is A = V T^{-1}, with T and V (3, H, N) tridiagonal, and the gaps are its steps. C (K, M, H, N) and
dt (K, batch, L) are those of each of K directions, of which the second runs opposite to the first and from
rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.calls import contiguous, place, renewed, run_backward, run_forward, signals
from tsssm.ops.cpu.gaps import distinct_gaps
from tsssm.ops.cpu.layout import block_count, lane_count, ranges, samples
from tsssm.ops.cpu.tridiagonal.bands import Operands
from tsssm.ops.cpu.tridiagonal.passes import Gaps, backward_pass, forward_pass

# Factors of distinct gaps are shared while they fit the second-level cache: N modes x gaps x 192 bytes.
_MAX_SHARED_FACTORS = 1024


def saved_shape(
    directions: int, batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    blocks, chunks = block_count(channels, dtype), -(-length // CHUNK)
    return (directions if save else 0, batch, blocks, chunks, modes, lane_count(dtype))


def _work(u: Tensor, C: Tensor) -> int:
    directions, readouts, _, modes = C.shape
    return directions * (10 + readouts) * samples(u) * modes


def _inputs(u: Tensor, system: Any, dt: Tensor | None) -> tuple[Operands, Gaps]:
    modes = system[-1].shape[3]
    return Operands(*(place(t, 0) for t in system)), Gaps(*distinct_gaps(u, dt, modes, _MAX_SHARED_FACTORS))


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
    u, *system = map(contiguous, (u, T, V, B, C))
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    y = empty((readouts, *u.shape), u.dtype)
    x = B.new_zeros(batch, channels, modes) if x0 is None else renewed(x0)
    saved = empty(saved_shape(directions, batch, length, channels, modes, u.dtype, save), u.dtype)
    inputs = (signals(u, y, saved, None), *_inputs(u, system, dt), place(x, 3), alpha, reverse)
    run_forward(forward_pass, u.dtype, inputs, ranges(u, _work(u, C)))
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
) -> tuple[Tensor, ...]:
    """Gradients of u, T, V, B, C and x0 from those of the outputs and of the final states."""
    u, gy, saved, *system = map(contiguous, (u, gy.transpose(0, 1), saved, T, V, B, C))
    gx, gu = renewed(gx), empty_like(u)
    operands, gaps = _inputs(u, system, dt)
    inputs = (signals(u, gy, saved, None, gu), operands, gaps, place(gx, 3), alpha, reverse)
    cut = ranges(u, 3 * _work(u, C))
    gradients = run_backward(backward_pass, u.dtype, inputs, operands, u.dtype, cut)
    return gu, *gradients, gx
