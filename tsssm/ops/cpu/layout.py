"""How a call is cut into tasks: blocks of W channels times ranges of series, spread over the threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu import threads
from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.simd import BYTES

# Fused multiply-adds of whole registers, about 0.3 ms, below which a second thread costs more than it brings.
_MIN_WORK_PER_THREAD = 1_000_000


class Ranges(NamedTuple):
    """Ranges of blocks and of series; a task is a pair of them."""

    blocks: list[tuple[int, int]]
    series: list[tuple[int, int]]
    threads: int


def lane_count(dtype: torch.dtype) -> int:
    """Channels that one register holds."""
    return BYTES // dtype.itemsize


def block_count(channels: int, dtype: torch.dtype) -> int:
    """Registers that it takes to hold all channels."""
    return -(-channels // lane_count(dtype))


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's numbers as a contiguous array; a complex one gets a last axis of two."""
    array = np.ascontiguousarray(tensor.numpy(force=True))
    return array[..., None].view(array.real.dtype) if array.dtype.kind == "c" else array


def flat(tensor: Tensor) -> NDArray[Any]:
    """The tensor's numbers as a contiguous array with one axis."""
    return as_array(tensor).reshape(-1)


def samples(u: Tensor) -> int:
    """Registers that it takes to hold an input (batch, L, H)."""
    return u.shape[0] * u.shape[1] * block_count(u.shape[2], u.dtype)


def saved_states(u: Tensor, directions: int, slots: int, modes: int) -> tuple[int, ...]:
    """Shape of complex states before each chunk of an input (batch, L, H); so many directions keep some."""
    blocks, chunks = block_count(u.shape[2], u.dtype), -(-u.shape[1] // CHUNK)
    return (directions, u.shape[0], blocks, chunks, slots, modes, 2, lane_count(u.dtype))


def ranges(u: Tensor, work: int) -> Ranges:
    """Ranges for an input (batch, L, H) that takes ``work`` register operations, a few to a task."""
    batch, _, channels = u.shape
    blocks = block_count(channels, u.dtype)
    count = max(1, min(torch.get_num_threads(), work // _MIN_WORK_PER_THREAD))
    by_block = min(count, blocks)
    by_series = max(1, min(count // by_block, batch))
    return Ranges(_split(blocks, by_block), _split(batch, by_series), count)


def _split(total: int, parts: int) -> list[tuple[int, int]]:
    return [(total * i // parts, total * (i + 1) // parts) for i in range(parts)]


def for_each(cut: Ranges, task: Callable[[int, int, int, int, int], object]) -> None:
    """Call ``task(part, first block, last block, first series, last series)`` for every pair of ranges.

    A task works on arrays alone: no mode of PyTorch's matters to it.
    """
    tasks = [
        partial(task, part, *blocks, *series)
        for blocks in cut.blocks
        for part, series in enumerate(cut.series)
    ]
    if len(tasks) == 1:
        tasks[0]()
    else:
        threads.run(tasks, cut.threads)
