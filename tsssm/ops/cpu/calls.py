"""What all scans do with tensors before and after their kernels.

A call of a kernel costs as much as the scan of a few samples. So kernels get the places of tensors, and a key
that says of which types their operands are: the dtype, and whatever else a scan has options for.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsssm.ops.cpu.buffers import Place
from tsssm.ops.cpu.compiling import Kernel
from tsssm.ops.cpu.layout import Ranges, for_each
from tsssm.ops.cpu.passes import Cut, Signals


def contiguous(tensor: Tensor) -> Tensor:
    """The tensor, or a copy whose numbers stand in memory as they are; keep it as long as its `place`."""
    if tensor.is_contiguous() and not (tensor.is_neg() or tensor.is_conj()):
        return tensor
    return tensor.resolve_conj().resolve_neg().contiguous()


def place(tensor: Tensor | None, axes: int) -> Place:
    """Where the numbers of a contiguous tensor stand, and its shape; that of none is empty, of so many axes.

    A complex one gets a last axis of two.
    """
    if tensor is None:
        return 0, (0,) * axes
    return tensor.data_ptr(), (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)


def joined(tensor: Tensor | None, axes: int) -> Place:
    """`place` with the first axes joined, so that there are ``axes`` left."""
    address, shape = place(tensor, axes)
    first = len(shape) - axes + 1
    return address, (math.prod(shape[:first]), *shape[first:])


def signals(
    u: Tensor, y: Tensor, saved: Tensor, v: Tensor | None, gu: Tensor | None = None, gv: Tensor | None = None
) -> Signals:
    """Places of contiguous tensors as the passes take them."""
    kept = saved.data_ptr(), (math.prod(saved.shape[:4]), math.prod(saved.shape[4:]))
    return Signals(place(u, 3), joined(v, 3), joined(y, 3), kept, place(gu, 3), joined(gv, 3))


def run_forward(kernel: Kernel, key: Hashable, inputs: Sequence[Any], cut: Ranges) -> None:
    """Call a forward pass for each range of blocks and series."""
    run = kernel.by(key)

    def task(part: int, *ranges: int) -> None:
        run(*inputs, Cut(*ranges))

    for_each(cut, task)


def run_backward(
    kernel: Kernel, key: Hashable, inputs: Sequence[Any], operands: Any, dtype: torch.dtype, cut: Ranges
) -> list[Tensor]:
    """The same for a backward pass; gradients of ``operands``, a named tuple of places."""
    run, like = kernel.by(key), _NUMPY[dtype]
    # One entry for each range of series, so that no two tasks write to the same place.
    parts = [type(operands)(*(np.empty(shape, like) for _, shape in operands)) for _ in cut.series]

    def task(part: int, *ranges: int) -> None:
        run(*inputs, Cut(*ranges), parts[part])

    for_each(cut, task)
    sums = parts[0] if len(parts) == 1 else (np.sum(each, 0) for each in zip(*parts, strict=True))
    return [torch.from_numpy(array) for array in sums]


_NUMPY = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


def renewed(state: Tensor) -> Tensor:
    """A copy that a kernel may write to."""
    return state.clone(memory_format=torch.contiguous_format)
