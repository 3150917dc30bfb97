"""`tsssm.ops.reference.diagonal_scan` and its adjoint on CPU tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.layout import as_array, block_count, for_each, lane_count, ranges
from tsssm.ops.cpu.passes import backward_pass, forward_pass
from tsssm.ops.cpu.recurrence import CHUNK
from tsssm.ops.cpu.rows import FOH, GBT, ZOH

# Rows of distinct gaps are shared while they fit the second-level cache: N modes x gaps x 2.3 KiB.
_MAX_SHARED_ROWS = 512
_KINDS = {"gbt": GBT, "zoh": ZOH, "foh": FOH}


def saved_shape(
    batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    blocks = block_count(channels, dtype)
    return (batch if save else 0, blocks, -(-length // CHUNK), modes, 2, lane_count(dtype))


def _gaps(u: Tensor, dt: Tensor | None, modes: int) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[Any]]:
    """Distinct gaps, which one each sample has, and all gaps; the first is empty if sharing does not pay."""
    no_index = np.empty((0, 0), np.int32)
    if dt is None:
        one = np.ones((1, 1), np.float32 if u.dtype == torch.float32 else np.float64)
        return one[0], no_index, one
    each = as_array(dt)
    limit = max(1, min(_MAX_SHARED_ROWS // modes, each.size // 4))
    # A look at the beginning spares most irregular batches the full sort.
    if np.unique(each.reshape(-1)[: 8 * limit]).size <= limit:
        gaps, inverse = np.unique(each, return_inverse=True)
        if gaps.size <= limit:
            return gaps, inverse.reshape(each.shape).astype(np.int32), each
    return each[0, :0], no_index, each


def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    liquid: bool,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, the states the adjoint needs."""
    batch, length, channels = u.shape
    readouts, _, modes = C.shape
    y = u.new_empty(readouts, batch, length, channels)
    x = A.new_zeros(batch, channels, modes) if x0 is None else x0.clone(memory_format=torch.contiguous_format)
    saved = u.new_empty(saved_shape(batch, length, channels, modes, u.dtype, save))
    inputs = [as_array(t) for t in (u, u if u_prev is None else u_prev, A, B, C, step)]
    gaps = _gaps(u, dt, modes)
    states, *outputs = (as_array(t) for t in (x, y, saved))

    def task(part: int, *block_and_series: int) -> None:
        rule_and_range = (_KINDS[rule], alpha, liquid, reverse, *block_and_series)
        forward_pass(*inputs, *gaps, states, *rule_and_range, *outputs)

    for_each(ranges(u, _work(u, modes)), task)
    return y.transpose(0, 1), x, saved


def _work(u: Tensor, modes: int) -> int:
    return 8 * u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype) * modes


def diagonal_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    rule: str,
    alpha: float,
    liquid: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, u_prev, A, B, C, step and x0 from those of the outputs and of the final states."""
    modes = C.shape[2]
    cut = ranges(u, 3 * _work(u, modes))
    gx = gx.clone(memory_format=torch.contiguous_format)
    gu = torch.empty_like(u, memory_format=torch.contiguous_format)
    gv = u.new_empty((0, 0, 0)) if u_prev is None else torch.empty_like(gu)
    # One entry for each range of series, so that no two tasks write to the same place.
    system = [t.new_empty((len(cut.series), *t.shape)) for t in (A, B, C, step)]
    inputs = [as_array(t) for t in (u, u if u_prev is None else u_prev, A, B, C, step)]
    gaps = _gaps(u, dt, modes)
    upstream = [as_array(t) for t in (saved, gy.transpose(0, 1), gx)]
    outputs = [as_array(t) for t in (gu, gv)]
    by_part = [as_array(t) for t in system]

    def task(part: int, *block_and_series: int) -> None:
        rule_and_range = (_KINDS[rule], alpha, liquid, reverse, *block_and_series)
        gradients = (array[part] for array in by_part)
        backward_pass(*inputs, *gaps, *upstream, *rule_and_range, *outputs, *gradients)

    for_each(cut, task)
    gA, gB, gC, gstep = (t.sum(0) for t in system)
    return gu, gv, gA, gB, gC, gstep, gx
