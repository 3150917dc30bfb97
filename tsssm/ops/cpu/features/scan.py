"""`tsssm.ops.reference.pooled_scan` and ``readout_scan`` on CPU tensors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.discretize import discretize_dense, discretize_diagonal
from tsssm.ops.cpu import threads
from tsssm.ops.cpu.features.passes import Kept, Scanned, pooled_pass
from tsssm.ops.cpu.features.pooling import BLOCK
from tsssm.ops.cpu.layout import as_array, lane_count


def pooled_scan(
    u: Tensor,
    held: Tensor,
    offsets: Tensor,
    steps: Tensor,
    index: Tensor,
    weight: Tensor,
    A: Tensor,
    B: Tensor,
    mix_u: Tensor,
    mix_held: Tensor,
    C: Tensor,
    D: Tensor,
    thresholds: Tensor,
    competitors: int,
    shares: bool,
    competition: bool,
    n_threads: int,
) -> Tensor:
    """What the reference computes; ``competitors`` has to be 8."""
    if competitors != BLOCK:
        raise ValueError(f"competitors must be {BLOCK}; got {competitors}.")
    groups, readouts, _ = C.shape
    scanned = _scanned((u, held, steps, index), A, B, mix_u, mix_held, C, D)
    kept = Kept(as_array(weight), packed_thresholds(thresholds), shares, competition)
    shape = (len(offsets) - 1, groups, 2 * (shares + competition), readouts)
    out, edges = torch.zeros(shape, dtype=u.dtype), as_array(offsets)
    cut = _cut(edges, groups, n_threads)
    run = partial(pooled_pass, scanned, kept, edges)
    threads.run([partial(run, part, out.numpy(), _nothing(u, 3)) for part in cut], len(cut))
    return out


def readout_scan(
    u: Tensor,
    held: Tensor,
    offsets: Tensor,
    steps: Tensor,
    index: Tensor,
    A: Tensor,
    B: Tensor,
    mix_u: Tensor,
    mix_held: Tensor,
    C: Tensor,
    D: Tensor,
) -> Tensor:
    """What the reference computes, for a number of readouts that is a multiple of 8."""
    y = u.new_empty((*C.shape[:2], u.shape[1]))
    scanned = _scanned((u, held, steps, index), A, B, mix_u, mix_held, C, D)
    kept = Kept(_nothing(u, 1), _nothing(u, 4), False, False)
    whole = 0, len(offsets) - 1, 0, len(C)
    pooled_pass(scanned, kept, as_array(offsets), whole, _nothing(u, 4), y.numpy())
    return y


def _nothing(like: Tensor, axes: int) -> NDArray[Any]:
    """An array of no numbers, for what a call does not want."""
    return as_array(like.new_empty((0,) * axes))


def _scanned(
    signals: Any, A: Tensor, B: Tensor, mix_u: Tensor, mix_held: Tensor, C: Tensor, D: Tensor
) -> Scanned:
    """Signals (u, held, steps, index) and systems as the passes take them: arrays of the dtype of u."""
    u, held, steps, index = signals
    mixing, coefficients = packed_systems(mix_u, mix_held, C, D)
    table = as_array(step_table(A, B, steps, u.dtype))
    return Scanned(
        as_array(u), as_array(held), as_array(index.int()), mixing, table, A.ndim == 2, coefficients
    )


def packed_systems(mix_u: Tensor, mix_held: Tensor, C: Tensor, D: Tensor) -> tuple[Any, Any]:
    """Proportions (G, H + H') and coefficients of readouts (G, R / 8, states + 1, 8) in the dtype of D."""
    groups, readouts, _ = C.shape
    planes = [C.real, -C.imag, D[..., None]] if C.is_complex() else [C, D[..., None]]
    coefficients = torch.cat([plane.to(D.dtype) for plane in planes], dim=2)
    return (
        as_array(torch.cat([mix_u, mix_held], dim=1)),
        as_array(coefficients.view(groups, readouts // BLOCK, BLOCK, -1).transpose(2, 3)),
    )


def packed_thresholds(thresholds: Tensor) -> Any:
    """Thresholds (G, 2, R) as (G, R / 8, 2, 8)."""
    groups, _, readouts = thresholds.shape
    return as_array(thresholds.view(groups, 2, readouts // BLOCK, BLOCK).transpose(1, 2))


def step_table(A: Tensor, B: Tensor, steps: Tensor, dtype: torch.dtype) -> Tensor:
    """The discretised system of every distinct step, the modes last and padded to full registers."""
    step = steps.to(B.real.dtype)
    if A.ndim == 2:
        A_bar, B_bar, B_prev = discretize_diagonal(A, B, step[:, None, None], "foh")
        assert B_prev is not None
        parts = [part for value in (A_bar, B_prev, B_bar) for part in (value.real, value.imag)]
    else:
        A_bar, B_bar, B_prev = discretize_dense(A, B, step[:, None], "foh")
        assert B_prev is not None
        parts = [*A_bar.unbind(-1), B_prev, B_bar]
    table = torch.stack([part.to(dtype) for part in parts], dim=2)
    return torch.nn.functional.pad(table, (0, -table.shape[-1] % lane_count(dtype)))


def _cut(offsets: NDArray[np.int64], groups: int, n_threads: int) -> list[tuple[int, int, int, int]]:
    """Ranges of series, of about as many samples each, and of groups where the series are too few."""
    series = len(offsets) - 1
    by_series = min(series, n_threads)
    by_group = min(groups, n_threads // by_series)
    targets = offsets[-1] * np.arange(1, by_series) / by_series
    bounds = [0, *np.searchsorted(offsets, targets).tolist(), series]
    edges = [groups * i // by_group for i in range(by_group + 1)]
    return [
        (first, last, *edges[j : j + 2])
        for first, last in zip(bounds[:-1], bounds[1:], strict=True)
        if first < last
        for j in range(by_group)
    ]
