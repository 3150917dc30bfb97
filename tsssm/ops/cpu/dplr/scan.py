"""`tsssm.ops.reference.dplr_scan` and its adjoint on CPU tensors, in units of the channel's timescale."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.dplr.feedback import CHUNK
from tsssm.ops.cpu.dplr.passes import backward_pass, forward_pass
from tsssm.ops.cpu.layout import as_array, block_count, for_each, lane_count, ranges

# Below this alpha a mode on its own can be unstable, |E| > 1, where the coupled system is stable: what it
# would read uncoupled for a chunk is then no number to start from.
_LOWEST_ALPHA_BY_CHUNKS = 0.5

Shape = tuple[int, ...]


def saved_shapes(
    u: Tensor, P: Tensor, C: Tensor, dt: Tensor | None, alpha: float, save: bool
) -> tuple[Shape, Shape, Shape]:
    """Shapes of what is kept for the adjoint.

    States before each chunk, the coupling v of every sample and, on an irregular grid, the inverses of the
    systems that it was found by; nothing unless ``save``.
    """
    batch, length, channels = u.shape
    rank, directions = P.shape[0], C.shape[0] if save else 0
    blocks, chunks = block_count(channels, u.dtype), -(-length // CHUNK)
    inverses = directions if _sample_by_sample(dt, alpha) else 0
    return (
        (directions, batch, blocks, chunks, C.shape[3], 2, lane_count(u.dtype)),
        (directions, rank, batch, length, channels),
        (inverses, rank * rank, batch, length, channels),
    )


def _sample_by_sample(dt: Tensor | None, alpha: float) -> bool:
    return dt is not None or alpha < _LOWEST_ALPHA_BY_CHUNKS


def _work(u: Tensor, P: Tensor, C: Tensor) -> int:
    directions, readouts, _, modes = C.shape
    samples = u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype)
    return directions * (12 + 2 * readouts + 6 * P.shape[0]) * samples * modes


def _inputs(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    alpha: float,
) -> list[NDArray[Any]]:
    """Arrays of all these; absent ones are empty."""
    if dt is None:
        size = (C.shape[0], *u.shape[:2]) if _sample_by_sample(dt, alpha) else (0, 0, 0)
        dt = u.new_ones(size)
    D = u.new_empty((0, 0)) if D is None else D
    return [as_array(t) for t in (u, Lambda, P, Q, B, C, D, dt)]


def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, what the adjoint needs.

    Lambda and B (H, N) and P (R, H, N) are multiplied by the timescale; Q is (R, H, N). C (K, M, H, N) and dt
    (K, batch, L) are those of each of K directions, of which the second runs opposite to the first and from
    rest.
    """
    batch, length, channels = u.shape
    y = empty((C.shape[1], batch, length, channels), u.dtype)
    x = u.new_zeros(batch, channels, C.shape[3], dtype=C.dtype) if x0 is None else _copy(x0)
    kept = [empty(shape, u.dtype) for shape in saved_shapes(u, P, C, dt, alpha, save)]
    inputs = (*_inputs(u, Lambda, P, Q, B, C, D, dt, alpha), as_array(x))
    outputs = [as_array(t) for t in (y, *kept)]

    def task(part: int, *block_and_series: int) -> None:
        forward_pass(*inputs, x0 is None, alpha, reverse, *block_and_series, *outputs)

    for_each(ranges(u, _work(u, P, C)), task)
    saved, v, inverses = kept
    return y.transpose(0, 1), x, saved, v, inverses


def dplr_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    v: Tensor,
    inverses: Tensor,
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, Lambda, P, Q, B, C, D and x0 from those of the outputs and of the final states.

    That of an absent D is empty.
    """
    cut = ranges(u, 2 * _work(u, P, C))
    gx = _copy(gx)
    gu = empty_like(u)
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = len(cut.series)
    no_D = u.new_empty((0, 0))
    system = [t.new_empty((parts, *t.shape)) for t in (Lambda, P, Q, B, C, no_D if D is None else D)]
    inputs = _inputs(u, Lambda, P, Q, B, C, D, dt, alpha)
    upstream = [as_array(t) for t in (saved, v, inverses, gy.transpose(0, 1), gx)]
    gu_array, by_part = as_array(gu), [as_array(t) for t in system]

    def task(part: int, *block_and_series: int) -> None:
        gradients = (array[part] for array in by_part)
        backward_pass(*inputs, *upstream, alpha, reverse, *block_and_series, gu_array, *gradients)

    for_each(cut, task)
    gLambda, gP, gQ, gB, gC, gD = (t[0] if parts == 1 else t.sum(0) for t in system)
    return gu, gLambda, gP, gQ, gB, gC, gD, gx


def _copy(t: Tensor) -> Tensor:
    return t.clone(memory_format=torch.contiguous_format)
