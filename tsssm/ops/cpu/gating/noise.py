"""Random bits for dropout, several times as fast as PyTorch's serial generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty
from tsssm.ops.cpu.compiling import kernel
from tsssm.ops.cpu.layout import as_array


@kernel
def fill(words: Any, seed: int) -> None:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): word i is a hash of seed + (i + 1) gamma.

    No word depends on the one before, so that the loop fills registers.
    """
    for i in range(words.size):
        v = np.uint64(seed) + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
        v = (v ^ (v >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        v = (v ^ (v >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words[i] = v ^ (v >> np.uint64(31))


def noise(shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """int16 tensor of random bits that follow from 63 bits of the generator."""
    seed = torch.randint(2**63 - 1, (), generator=generator)
    words = empty((-(-shape.numel() // 4),), torch.int64)
    fill(as_array(words).view(np.uint64), int(seed))
    return words.view(torch.int16)[: shape.numel()].view(shape)
