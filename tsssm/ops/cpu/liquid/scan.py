"""`tsssm.ops.reference.liquid_scan` and its adjoint on CPU tensors."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.gaps import distinct_gaps, extent
from tsssm.ops.cpu.layout import as_array, block_count, for_each, lane_count, ranges
from tsssm.ops.cpu.liquid.backward import backward_pass
from tsssm.ops.cpu.liquid.chunk import EXACT, KB, PB
from tsssm.ops.cpu.liquid.forward import forward_pass
from tsssm.ops.cpu.rows import GBT, ZOH

_KERNELS = {"exact": EXACT, "kb": KB, "pb": PB}
_RULES = {"gbt": GBT, "zoh": ZOH}


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
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    blocks, chunks = block_count(channels, dtype), -(-length // CHUNK)
    return (directions if save else 0, batch, blocks, chunks, order, modes, 2, lane_count(dtype))


def _work(u: Tensor, C: Tensor, order: int) -> int:
    directions, readouts, _, modes = C.shape
    samples = u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype)
    return directions * (12 + 2 * readouts + 8 * order) * samples * modes


def _inputs(u: Tensor, *system: Tensor | None) -> list[NDArray[Any]]:
    """Arrays of u, A, B, C, D, step and bound; an absent one is empty."""
    return [as_array(u.new_empty((0, 0)) if t is None else t) for t in (u, *system)]


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
    to the first and from rest.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    y = empty((readouts, batch, length, channels), u.dtype)
    if start is None:
        x = A.new_zeros(order, batch, channels, modes)
    else:
        x = start.clone(memory_format=torch.contiguous_format)
    saved = empty(saved_shape(directions, batch, length, channels, modes, order, u.dtype, save), u.dtype)
    gaps = distinct_gaps(u, dt, modes)
    reach, _ = extent(u, dt, gaps[0], rule)
    inputs = (*_inputs(u, A, B, C, D, step, bound), *gaps, reach, as_array(x))
    options = (_KERNELS[kernel], _RULES[rule], alpha, reverse)
    outputs = (as_array(y), as_array(saved))

    def task(part: int, *block_and_series: int) -> None:
        forward_pass(*inputs, *options, *block_and_series, *outputs)

    for_each(ranges(u, _work(u, C, order)), task)
    return y.transpose(0, 1), x, saved


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

    That of an absent D or bound is empty. Those of A and B leave out the way through the bound.
    """
    cut = ranges(u, 3 * _work(u, C, gx.shape[0]))
    gx = gx.clone(memory_format=torch.contiguous_format)
    gu = empty_like(u)
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = len(cut.series)
    absent = u.new_empty((0, 0))
    trained = (A, B, C, absent if D is None else D, step, absent if bound is None else bound)
    system = [t.new_empty((parts, *t.shape)) for t in trained]
    gaps = distinct_gaps(u, dt, C.shape[3])
    inputs = (*_inputs(u, A, B, C, D, step, bound), *gaps, *extent(u, dt, gaps[0], rule))
    upstream = [as_array(t) for t in (saved, gy.transpose(0, 1), gx)]
    options = (_KERNELS[kernel], _RULES[rule], alpha, reverse)
    by_part = [as_array(t) for t in system]
    gu_array = as_array(gu)

    def task(part: int, *block_and_series: int) -> None:
        gradients = (array[part] for array in by_part)
        backward_pass(*inputs, *upstream, *options, *block_and_series, gu_array, *gradients)

    for_each(cut, task)
    gA, gB, gC, gD, gstep, g_bound = (t[0] if parts == 1 else t.sum(0) for t in system)
    return gu, gA, gB, gC, gD, gstep, g_bound, gx
