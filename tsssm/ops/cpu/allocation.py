"""Memory for large results."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# From this size on NumPy asks Linux for large pages. PyTorch does not, and each of 512 times as many small
# pages that have to be mapped and cleared for a new tensor costs as much as some thousand multiplications.
_LARGE = 2**22
_LINE = 64


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Contiguous tensor of undefined numbers that starts at a line of the cache."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return torch.empty(shape, dtype=dtype)
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return torch.from_numpy(memory[start : start + size]).view(dtype).view(shape)


def empty_like(tensor: Tensor) -> Tensor:
    """The same of the shape and dtype of ``tensor``, whatever its strides."""
    return empty(tuple(tensor.shape), tensor.dtype)
