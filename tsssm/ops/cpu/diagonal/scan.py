"""`tsssm.ops.reference.diagonal_scan` and its adjoint on CPU tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.diagonal.backward import backward_pass
from tsssm.ops.cpu.diagonal.forward import forward_pass
from tsssm.ops.cpu.diagonal.recurrence import CHUNK
from tsssm.ops.cpu.layout import as_array, block_count, for_each, lane_count, ranges
from tsssm.ops.cpu.rows import FOH, GBT, ZOH

# Rows of distinct gaps are shared while they fit the second-level cache: N modes x gaps x 2.3 KiB.
_MAX_SHARED_ROWS = 512
# Samples for which it is worth while to fill a table of nodes.
_FEWEST_FOR_NODES = 256
_KINDS = {"gbt": GBT, "zoh": ZOH, "foh": FOH}
# What stands for the gaps of a regular grid.
_REGULAR: dict[torch.dtype, NDArray[Any]] = {
    torch.float32: np.ones((1, 1, 1), np.float32),
    torch.float64: np.ones((1, 1, 1), np.float64),
}
_NO_INDEX = np.empty((0, 0, 0), np.int32)


def saved_shape(
    directions: int, batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    blocks, chunks = block_count(channels, dtype), -(-length // CHUNK)
    return (directions if save else 0, batch, blocks, chunks, modes, 2, lane_count(dtype))


def _gaps(u: Tensor, dt: Tensor | None, modes: int) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[Any]]:
    """Distinct gaps, which one each sample has, and all gaps; the first is empty if sharing does not pay."""
    if dt is None:
        one = _REGULAR[u.dtype]
        return one[0, 0], _NO_INDEX, one
    each = as_array(dt)
    limit = max(1, min(_MAX_SHARED_ROWS // modes, each.size // 4))
    # A look at the beginning spares most irregular batches the full sort.
    if np.unique(each.reshape(-1)[: 8 * limit]).size <= limit:
        gaps, inverse = np.unique(each, return_inverse=True)
        if gaps.size <= limit:
            return gaps, inverse.reshape(each.shape).astype(np.int32), each
    return each[0, 0, :0], _NO_INDEX, each


def _extent(u: Tensor, dt: Tensor | None, gaps: NDArray[Any], rule: str) -> tuple[float, float]:
    """The longest gap if a table of nodes pays, else infinity; and the mean gap, weighted by the gaps."""
    if dt is None:
        return math.inf, 1.0
    typical = float(dt.square().sum() / dt.sum().clamp(min=torch.finfo(dt.dtype).tiny))
    many = u.shape[0] * u.shape[1] >= _FEWEST_FOR_NODES
    return (
        float(dt.max())
        if many and rule == "zoh" and gaps.size == 0 and dt.dtype == torch.float32
        else math.inf
    ), typical


def _work(u: Tensor, C: Tensor) -> int:
    directions, readouts, _, modes = C.shape
    samples = u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype)
    return directions * (6 + 2 * readouts) * samples * modes


def _inputs(u: Tensor, v: Tensor | None, *system: Tensor | None) -> list[NDArray[Any]]:
    """Arrays of u, v, A, B, C, D and step; absent ones are empty."""
    v = u.new_empty((0, 0, 0, 0)) if v is None else v
    return [as_array(u.new_empty((0, 0)) if t is None else t) for t in (u, v, *system)]


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
    the second runs opposite to the first and from rest.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    y = u.new_empty(readouts, batch, length, channels)
    x = A.new_zeros(batch, channels, modes) if x0 is None else x0.clone(memory_format=torch.contiguous_format)
    saved = u.new_empty(saved_shape(directions, batch, length, channels, modes, u.dtype, save))
    gaps = _gaps(u, dt, modes)
    longest, _ = _extent(u, dt, gaps[0], rule)
    inputs = (*_inputs(u, u_prev, A, B, C, D, step), *gaps, longest, as_array(x))
    options = (x0 is None, _KINDS[rule], alpha, liquid, reverse)
    outputs = (as_array(y), as_array(saved))

    def task(part: int, *block_and_series: int) -> None:
        forward_pass(*inputs, *options, *block_and_series, *outputs)

    for_each(ranges(u, _work(u, C)), task)
    return y.transpose(0, 1), x, saved


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
    are empty.
    """
    cut = ranges(u, 3 * _work(u, C))
    gx = gx.clone(memory_format=torch.contiguous_format)
    gu = torch.empty_like(u, memory_format=torch.contiguous_format)
    gv = u.new_empty((0, 0, 0, 0) if u_prev is None else u_prev.shape)
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = len(cut.series)
    no_D = u.new_empty((0, 0))
    system = [t.new_empty((parts, *t.shape)) for t in (A, B, C, no_D if D is None else D, step)]
    gaps = _gaps(u, dt, C.shape[3])
    inputs = (*_inputs(u, u_prev, A, B, C, D, step), *gaps, *_extent(u, dt, gaps[0], rule))
    upstream = [as_array(t) for t in (saved, gy.transpose(0, 1), gx)]
    options = (at_rest, _KINDS[rule], alpha, liquid, reverse)
    outputs = (as_array(gu), as_array(gv))
    by_part = [as_array(t) for t in system]

    def task(part: int, *block_and_series: int) -> None:
        gradients = (array[part] for array in by_part)
        backward_pass(*inputs, *upstream, *options, *block_and_series, *outputs, *gradients)

    for_each(cut, task)
    gA, gB, gC, gD, gstep = (t[0] if parts == 1 else t.sum(0) for t in system)
    return gu, gv, gA, gB, gC, gD, gstep, gx
