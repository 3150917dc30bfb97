"""Passes over all entries of contiguous tensors: flat arrays in spans, which the threads share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu import threads
from tsssm.ops.cpu.layout import as_array


def flat(tensor: Tensor) -> NDArray[Any]:
    """The tensor's numbers as a contiguous array with one axis."""
    return as_array(tensor).reshape(-1)


def span_count(entries: int, least: int) -> int:
    """How many spans, one a thread, to cut so many entries into if each should have ``least``."""
    return max(1, min(torch.get_num_threads(), entries // least))


def for_each_span(parts: int, count: int, task: Callable[[int, int, int], object], unit: int = 1) -> None:
    """Call ``task(part, first, last)`` for each of the spans, cut at multiples of ``unit``, of ``count``."""
    edges = [count // unit * part // parts * unit for part in range(parts + 1)]
    threads.run([partial(task, part, *edges[part : part + 2]) for part in range(parts)], parts)
