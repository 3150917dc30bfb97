"""Buffers of registers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.compiling import maker


@maker
def zeros(shape: Any, like: Any) -> Any:
    """Zeros of the dtype of ``like`` that start at a line of the cache.

    NumPy's own may start amid one, and then every register takes two lines to load.
    """
    size = 1
    for length in shape:
        size *= length
    line = 64 // like.itemsize
    memory = np.zeros(size + line, like.dtype)
    start = (line - np.intp(memory.ctypes.data) // like.itemsize % line) % line
    return memory[start : start + size].reshape(shape)
