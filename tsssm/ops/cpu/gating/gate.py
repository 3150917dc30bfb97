"""Activation and gate, and their adjoints, on CPU tensors: contiguous ranges spread over the threads."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.gating import kernels
from tsssm.ops.cpu.layout import as_array
from tsssm.ops.cpu.spans import flat, for_each_span, span_count

_NO_NOISE = np.empty(0, np.int16)
# Entries below which a second thread costs more than it brings.
_ENTRIES_PER_THREAD = 2**19


def _dropout(noise: Tensor | None, level: int) -> tuple[NDArray[np.int16], int, float]:
    """Noise, the least value of it that is kept, and the factor of what is kept."""
    if noise is None or level == 0:
        return _NO_NOISE, 0, 1.0
    return flat(noise), level - 2**15, 1 / (1 - level / 2**16)


def gelu(y: Tensor, noise: Tensor | None, level: int) -> Tensor:
    """m y Phi(y), where m is 0 for the ``level`` lowest values of the noise."""
    out = torch.empty_like(y, memory_format=torch.contiguous_format)
    inputs, target = (flat(y), *_dropout(noise, level)), flat(out)

    def task(part: int, first: int, last: int) -> None:
        kernels.gelu(*inputs, first, last, target)

    for_each_span(span_count(y.numel(), _ENTRIES_PER_THREAD), y.numel(), task, kernels.WIDTH)
    return out


def gelu_adjoint(g: Tensor, y: Tensor, noise: Tensor | None, level: int) -> Tensor:
    """The gradient of y from that of `gelu`."""
    gy = torch.empty_like(y, memory_format=torch.contiguous_format)
    inputs, target = (flat(g), flat(y), *_dropout(noise, level)), flat(gy)

    def task(part: int, first: int, last: int) -> None:
        kernels.gelu_adjoint(*inputs, first, last, target)

    for_each_span(span_count(y.numel(), _ENTRIES_PER_THREAD), y.numel(), task, kernels.WIDTH)
    return gy


def gated_sum(h: Tensor, z: Tensor, bias: Tensor, noise: Tensor | None, level: int) -> Tensor:
    """h + m (a sigmoid(b)), with (a, b) the halves of z + bias."""
    out = torch.empty_like(h, memory_format=torch.contiguous_format)
    inputs, target = (flat(h), flat(z), flat(bias), *_dropout(noise, level)), flat(out)

    def task(part: int, first: int, last: int) -> None:
        kernels.gated_sum(*inputs, first, last, target)

    for_each_span(span_count(z.numel(), _ENTRIES_PER_THREAD), h.numel() // h.shape[-1], task)
    return out


def gated_sum_adjoint(
    g: Tensor, z: Tensor, bias: Tensor, noise: Tensor | None, level: int
) -> tuple[Tensor, Tensor]:
    """Gradients of z and of the bias from that of `gated_sum`; that of h is g itself."""
    gz = torch.empty_like(z, memory_format=torch.contiguous_format)
    parts = span_count(z.numel(), _ENTRIES_PER_THREAD)
    # One row for each range, so that no two tasks write to the same place.
    gbias = bias.new_zeros(parts, len(bias))
    inputs = (flat(g), flat(z), flat(bias), *_dropout(noise, level))
    target, sums = flat(gz), as_array(gbias)

    def task(part: int, first: int, last: int) -> None:
        kernels.gated_sum_adjoint(*inputs, first, last, target, sums[part])

    for_each_span(parts, g.numel() // g.shape[-1], task)
    return gz, gbias.sum(0)
