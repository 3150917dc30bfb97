"""The gaps of a call as the passes take them: which are distinct, and how long they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.layout import as_array

# Rows of distinct gaps are shared while they fit the second-level cache: N modes x gaps x 2.3 KiB; so are
# moves, of 128 bytes.
MAX_SHARED_ROWS = 512
MAX_SHARED_MOVES = 4096
# Samples for which it is worth while to fill a table of nodes.
FEWEST_FOR_NODES = 256
# How many times the mean gap a table of nodes reaches; longer gaps are few and do without.
_REACH = 4
# What stands for the gaps of a regular grid.
_REGULAR: dict[torch.dtype, NDArray[Any]] = {
    torch.float32: np.ones((1, 1, 1), np.float32),
    torch.float64: np.ones((1, 1, 1), np.float64),
}
_NO_INDEX = np.empty((0, 0, 0), np.int32)


def distinct_gaps(
    u: Tensor, dt: Tensor | None, modes: int, budget: int | None = None
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[Any]]:
    """Distinct gaps, which one each sample has, and all gaps; the first is empty if sharing does not pay.

    ``budget`` is the largest number of modes times gaps; by default that of whole rows.
    """
    if dt is None:
        one = _REGULAR[u.dtype]
        return one[0, 0], _NO_INDEX, one
    each = as_array(dt)
    most = MAX_SHARED_ROWS if budget is None else budget
    limit = max(1, min(most // modes, each.size // 4))
    # A look at the beginning spares most irregular batches the full sort.
    if np.unique(each.reshape(-1)[: 8 * limit]).size <= limit:
        gaps, inverse = np.unique(each, return_inverse=True)
        if gaps.size <= limit:
            return gaps, inverse.reshape(each.shape).astype(np.int32), each
    return each[0, 0, :0], _NO_INDEX, each


def extent(u: Tensor, dt: Tensor | None, gaps: NDArray[Any], rule: str) -> tuple[float, float]:
    """How far a table of nodes goes, infinite if none pays; and the mean gap, weighted by the gaps."""
    if dt is None:
        return math.inf, 1.0
    typical = float(dt.square().sum() / dt.sum().clamp(min=torch.finfo(dt.dtype).tiny))
    many = u.shape[0] * u.shape[1] >= FEWEST_FOR_NODES
    by_nodes = many and rule == "zoh" and gaps.size == 0 and dt.dtype == torch.float32
    return min(float(dt.max()), _REACH * float(dt.mean())) if by_nodes else math.inf, typical


def mean_duration(u: Tensor, dt: Tensor | None) -> float:
    """How long the series of a call (batch, L, H) last on average, given their gaps (K, batch, L)."""
    if dt is None:
        return float(u.shape[1])
    return float(dt.sum()) / max(1, dt.shape[0] * dt.shape[1])
