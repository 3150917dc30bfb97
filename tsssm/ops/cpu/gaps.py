"""The gaps of a call as the passes take them: which are distinct, and how long they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.compiling import kernel
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
    # By their bits, which can be hashed in an instant.
    bits = each.reshape(-1).view(f"u{each.itemsize}")
    distinct, index = np.empty(limit, bits.dtype), np.empty(each.shape, np.int32)
    count = _number(bits, distinct, index.reshape(-1))
    if count < 0:
        return each[0, 0, :0], _NO_INDEX, each
    return distinct[:count].view(each.dtype), index, each


def own_gaps(u: Tensor, dt: Tensor | None) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[Any] | None]:
    """The same for scans that share no gaps, unless all are 1."""
    one = _REGULAR[u.dtype][0, 0]
    return (one, _NO_INDEX, None) if dt is None else (one[:0], _NO_INDEX, as_array(dt))


@kernel
def _number(values: Any, distinct: Any, index: Any) -> int:
    """Find the distinct ones of ``values``, by order of appearance, and write which one each of them is.

    Returns how many there are, or -1 as soon as ``distinct`` has no room for one more. To sort them instead
    would take a tenth of a training step.
    """
    digits = 2
    while 2**digits < 4 * distinct.size:
        digits += 1
    slots = np.full(2**digits, -1, np.int32)
    count = 0
    for k in range(values.size):
        value = values[k]
        # The leading digits of a product with 2^64 over the golden ratio, which scatters neighbours.
        at = (np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - digits)
        while slots[at] >= 0 and distinct[slots[at]] != value:
            at = (at + np.uint64(1)) & np.uint64(2**digits - 1)
        if slots[at] < 0:
            if count == distinct.size:
                return -1
            slots[at] = count
            distinct[count] = value
            count += 1
        index[k] = slots[at]
    return count


def extent(u: Tensor, dt: Tensor | None, gaps: NDArray[Any], hold: bool) -> tuple[float, float]:
    """How far a table of nodes goes, infinite if none pays; and the mean gap, weighted by the gaps."""
    if dt is None:
        return math.inf, 1.0
    typical = float(dt.square().sum() / dt.sum().clamp(min=torch.finfo(dt.dtype).tiny))
    many = u.shape[0] * u.shape[1] >= FEWEST_FOR_NODES
    by_nodes = many and hold and gaps.size == 0 and dt.dtype == torch.float32
    return min(float(dt.max()), _REACH * float(dt.mean())) if by_nodes else math.inf, typical


def mean_duration(u: Tensor, dt: Tensor | None) -> float:
    """How long the series of a call (batch, L, H) last on average, given their gaps (K, batch, L)."""
    if dt is None:
        return float(u.shape[1])
    return float(dt.sum()) / max(1, dt.shape[0] * dt.shape[1])
