"""What all scans do with tensors before and after their kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.layout import Ranges, as_array, for_each
from tsssm.ops.cpu.passes import Cut, Signals

# What stands for absent arrays of so many axes.
_NOTHING: dict[torch.dtype, list[Any]] = {
    torch.float32: [np.empty((0,) * axes, np.float32) for axes in range(5)],
    torch.float64: [np.empty((0,) * axes, np.float64) for axes in range(5)],
}


def array_or_nothing(tensor: Tensor | None, dtype: torch.dtype, axes: int) -> NDArray[Any]:
    """The tensor's numbers; an empty array if there is no tensor."""
    return _NOTHING[dtype][axes] if tensor is None else as_array(tensor)


def signals(
    u: Tensor, y: Tensor, saved: Tensor, v: Tensor | None, gu: Tensor | None = None, gv: Tensor | None = None
) -> Signals:
    """Arrays of tensors as the passes take them; absent ones are empty."""
    before, g_before = (array_or_nothing(t, u.dtype, 4) for t in (v, gv))
    back = array_or_nothing(gu, u.dtype, 3)
    return Signals(as_array(u), before, as_array(y), as_array(saved), back, g_before)


def run_forward(kernel: Callable[..., None], inputs: Sequence[Any], cut: Ranges) -> None:
    """Call a forward pass for each range of blocks and series."""

    def task(part: int, *ranges: int) -> None:
        kernel(*inputs, Cut(*ranges))

    for_each(cut, task)


def run_backward(
    kernel: Callable[..., None], inputs: Sequence[Any], operands: Any, cut: Ranges
) -> list[Tensor]:
    """The same for a backward pass; gradients of the arrays of ``operands``, a named tuple."""
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = [type(operands)(*map(np.empty_like, operands)) for _ in cut.series]

    def task(part: int, *ranges: int) -> None:
        kernel(*inputs, Cut(*ranges), parts[part])

    for_each(cut, task)
    sums = parts[0] if len(parts) == 1 else (np.sum(each, 0) for each in zip(*parts, strict=True))
    return [torch.from_numpy(array) for array in sums]


def renewed(state: Tensor) -> Tensor:
    """A copy that a kernel may write to."""
    return state.clone(memory_format=torch.contiguous_format)
