"""Batch normalisation and its adjoint on CPU tensors: ranges of rows spread over the threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tsssm.ops.cpu import threads
from tsssm.ops.cpu.allocation import empty_like
from tsssm.ops.cpu.layout import as_array, flat
from tsssm.ops.cpu.normalization import kernels

# Entries below which a second thread costs more than it brings.
_ENTRIES_PER_THREAD = 2**20


def _part_count(h: Tensor) -> int:
    """How many ranges, one a thread, to cut the rows of h into."""
    return max(1, min(torch.get_num_threads(), h.numel() // _ENTRIES_PER_THREAD))


def _for_each_part(parts: int, rows: int, task: Callable[[int, int, int], object]) -> None:
    """Call ``task(part, first, last)`` for each range of rows."""
    edges = [rows * part // parts for part in range(parts + 1)]
    threads.run([partial(task, part, *edges[part : part + 2]) for part in range(parts)], parts)


def batch_norm(
    h: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    keep: Tensor,
    count: int,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the mean and 1 / sqrt(variance + eps) of the ``count`` samples that count, (H,)."""
    parts, channels = _part_count(h), h.shape[-1]
    rows = (flat(h), flat(keep))
    means, squares = (np.zeros((parts, channels), np.float32) for _ in range(2))
    counts = np.zeros((parts, 1), np.float32)

    def measure(part: int, first: int, last: int) -> None:
        counts[part] = kernels.statistics(*rows, first, last, means[part], squares[part])

    _for_each_part(parts, h.numel() // channels, measure)
    mean = means[0] if parts == 1 else (means * counts).sum(0) / count
    square = squares[0] if parts == 1 else (squares + counts * (means - mean) ** 2).sum(0)
    for running, value in ((running_mean, mean), (running_var, square / (count - 1))):
        array = running.numpy()
        array += np.float32(momentum) * (value - array)
    scale = 1 / np.sqrt(square / count + np.float32(eps))
    out = empty_like(h)
    columns, target = (mean, scale * as_array(weight), as_array(bias)), flat(out)

    def normalise(part: int, first: int, last: int) -> None:
        kernels.normalised(*rows, *columns, first, last, target)

    _for_each_part(parts, h.numel() // channels, normalise)
    return out, torch.from_numpy(mean), torch.from_numpy(scale)


def batch_norm_adjoint(
    g: Tensor, h: Tensor, weight: Tensor, keep: Tensor, mean: Tensor, scale: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of h, weight and bias from that of the output."""
    parts, channels = _part_count(h), h.shape[-1]
    rows = (flat(g), flat(h), flat(keep))
    middle, spread = as_array(mean), as_array(scale)
    products, sums = (np.zeros((parts, channels), np.float32) for _ in range(2))

    def add_up(part: int, first: int, last: int) -> None:
        kernels.parameter_gradients(*rows, middle, first, last, products[part], sums[part])

    _for_each_part(parts, h.numel() // channels, add_up)
    gweight, gbias = products.sum(0) * spread, sums.sum(0)
    n = np.float32(count)
    columns = (middle, spread * as_array(weight), spread * gweight / n, gbias / n)
    gh = empty_like(h)
    target = flat(gh)

    def spread_out(part: int, first: int, last: int) -> None:
        kernels.input_gradient(*rows, *columns, first, last, target)

    _for_each_part(parts, h.numel() // channels, spread_out)
    return gh, torch.from_numpy(gweight), torch.from_numpy(gbias)
