"""`tsssm.ops.reference.diagonal_scan` and its adjoint on CPU tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.diagonal.backward import backward_pass
from tsssm.ops.cpu.diagonal.forward import forward_pass
from tsssm.ops.cpu.diagonal.plain import any_slow
from tsssm.ops.cpu.gaps import MAX_SHARED_MOVES, distinct_gaps, extent, mean_duration
from tsssm.ops.cpu.layout import as_array, block_count, for_each, lane_count, ranges
from tsssm.ops.cpu.rows import FOH, GBT, ZOH

_KINDS = {"gbt": GBT, "zoh": ZOH, "foh": FOH}


def saved_shape(
    directions: int, batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    blocks, chunks = block_count(channels, dtype), -(-length // CHUNK)
    return (directions if save else 0, batch, blocks, chunks, modes, 2, lane_count(dtype))


def _work(u: Tensor, C: Tensor) -> int:
    directions, readouts, _, modes = C.shape
    samples = u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype)
    return directions * (6 + 2 * readouts) * samples * modes


def _operands(
    u: Tensor, v: Tensor | None, system: Sequence[Tensor | None], dt: Tensor | None, rule: str, at_rest: bool
) -> tuple[list[Any], bool | None]:
    """Operands of `backward_pass` up to the duration, and what both passes take for ``at_rest``.

    ``system`` is A, B, C, D, step and bound. `forward_pass` does without the mean gap, the last but one.
    """
    v = u.new_empty((0, 0, 0, 0)) if v is None else v
    arrays: list[Any] = [None if t is None else as_array(t) for t in (u, v, *system)]
    _, _, A, _, C, _, step, bound = arrays
    liquid = bound is not None
    # A sample needs no more than its move, of which more can be shared.
    simple = at_rest and C.shape[1] == 1 and (rule == "zoh" if liquid else rule != "foh")
    gaps, index, each = distinct_gaps(u, dt, C.shape[3], MAX_SHARED_MOVES if simple else None)
    own = each if gaps.size == 0 else None
    duration = mean_duration(u, dt)
    by_rows = liquid or not simple or any_slow(A, step, duration)
    operands = [*arrays, gaps, index, own, *extent(u, dt, gaps, rule), duration]
    return operands, at_rest if by_rows else None


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
    the second runs opposite to the first and from rest.
    """
    batch, length, channels = u.shape
    directions, readouts, _, modes = C.shape
    y = empty((readouts, batch, length, channels), u.dtype)
    x = A.new_zeros(batch, channels, modes) if x0 is None else x0.clone(memory_format=torch.contiguous_format)
    saved = empty(saved_shape(directions, batch, length, channels, modes, u.dtype, save), u.dtype)
    D = u.new_empty((0, 0)) if D is None else D
    system = A, B, C, D, step, bound
    (*operands, _, duration), at_rest = _operands(u, u_prev, system, dt, rule, x0 is None)
    inputs = (*operands, duration, as_array(x))
    options = (at_rest, _KINDS[rule], alpha, reverse)
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
    bound: Tensor | None,
    rule: str,
    alpha: float,
    reverse: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, u_prev, A, B, C, D, step, bound and x0 from those of outputs and final states.

    ``at_rest`` says that there was no x0, so that its gradient is of no use. Gradients of absent tensors
    are empty.
    """
    cut = ranges(u, 3 * _work(u, C))
    gx = gx.clone(memory_format=torch.contiguous_format)
    gu = empty_like(u)
    gv = empty((0, 0, 0, 0) if u_prev is None else tuple(u_prev.shape), u.dtype)
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = len(cut.series)
    nothing = u.new_empty((0, 0))
    D = nothing if D is None else D
    trained = (A, B, C, D, step, nothing if bound is None else bound)
    system = [t.new_empty((parts, *t.shape)) for t in trained]
    inputs, rest = _operands(u, u_prev, (A, B, C, D, step, bound), dt, rule, at_rest)
    upstream = [as_array(t) for t in (saved, gy.transpose(0, 1), gx)]
    options = (rest, _KINDS[rule], alpha, reverse)
    outputs = (as_array(gu), as_array(gv))
    by_part = [as_array(t) for t in system]

    def task(part: int, *block_and_series: int) -> None:
        gradients = (array[part] for array in by_part)
        backward_pass(*inputs, *upstream, *options, *block_and_series, *outputs, *gradients)

    for_each(cut, task)
    gA, gB, gC, gD, gstep, g_bound = (t[0] if parts == 1 else t.sum(0) for t in system)
    return gu, gv, gA, gB, gC, gD, gstep, g_bound, gx
