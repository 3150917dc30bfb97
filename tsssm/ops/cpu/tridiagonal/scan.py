"""The tridiagonal scan and its adjoint on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.gaps import distinct_gaps
from tsssm.ops.cpu.layout import as_array, block_count, for_each, lane_count, ranges
from tsssm.ops.cpu.tridiagonal.passes import backward_pass, forward_pass
from tsssm.ops.cpu.tridiagonal.recurrence import CHUNK

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
    samples = u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype)
    return directions * (10 + readouts) * samples * modes


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
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, the states the adjoint needs.

    The system is A = V T^{-1}, with T and V (3, H, N) tridiagonal, and the gaps are its steps. C (K, M, H, N)
    and dt (K, batch, L) are those of each of K directions, of which the second runs opposite to the first
    and from rest.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    y = empty((readouts, batch, length, channels), u.dtype)
    x = B.new_zeros(batch, channels, modes) if x0 is None else x0.clone(memory_format=torch.contiguous_format)
    saved = empty(saved_shape(directions, batch, length, channels, modes, u.dtype, save), u.dtype)
    system = [as_array(t) for t in (u, T, V, B, C)]
    inputs = (*system, *distinct_gaps(u, dt, modes, _MAX_SHARED_FACTORS), as_array(x), alpha, reverse)
    outputs = (as_array(y), as_array(saved))

    def task(part: int, *block_and_series: int) -> None:
        forward_pass(*inputs, *block_and_series, *outputs)

    for_each(ranges(u, _work(u, C)), task)
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
    """Gradients of u, T, V, B, C and x0 from those of the outputs and of the final states."""
    cut = ranges(u, 3 * _work(u, C))
    gx = gx.clone(memory_format=torch.contiguous_format)
    gu = empty_like(u)
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = len(cut.series)
    gradients = [t.new_empty((parts, *t.shape)) for t in (T, V, B, C)]
    system = [as_array(t) for t in (u, T, V, B, C)]
    upstream = [as_array(t) for t in (saved, gy.transpose(0, 1), gx)]
    inputs = (*system, *distinct_gaps(u, dt, C.shape[3], _MAX_SHARED_FACTORS), *upstream, alpha, reverse)
    gu_array = as_array(gu)
    by_part = [as_array(t) for t in gradients]

    def task(part: int, *block_and_series: int) -> None:
        backward_pass(*inputs, *block_and_series, gu_array, *(array[part] for array in by_part))

    for_each(cut, task)
    gT, gV, gB, gC = (t[0] if parts == 1 else t.sum(0) for t in gradients)
    return gu, gT, gV, gB, gC, gx
