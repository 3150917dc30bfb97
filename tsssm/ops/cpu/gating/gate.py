"""The gated linear map and its adjoint on CPU tensors, by blocks of rows that stay in the cache.

Of the arrays between the steps only the product with W is written to memory, and only for the adjoint: to
compute it again costs more, whereas the activation is computed again.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu import threads
from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.gating import kernels
from tsssm.ops.cpu.layout import flat

_NO_NOISE, _NO_SLOPE = np.empty(0, np.int16), np.empty(0, np.float32)
# Numbers of a block in y: few enough for the cache, and enough to hide what the calls for a block cost.
_BLOCK = 2**16
# Numbers in y below which a second thread costs more than it brings.
_ENTRIES_PER_THREAD = 2**16
# Buffers that nobody uses at the moment, one for each thread that ever worked here: to map their memory anew
# at each call takes longer than a small call. Arrays, because a tensor would belong to the mode of PyTorch in
# which it was made.
_free: list[NDArray[np.float32]] = []


class Dropout(NamedTuple):
    """Noise, the least value of it that is kept, and the factor of what is kept; without noise, all is."""

    noise: NDArray[np.int16] = _NO_NOISE
    least: int = 0
    scale: float = 1.0

    def of(self, block: slice) -> Dropout:
        """The part that belongs to a block."""
        return Dropout(self.noise[block], self.least, self.scale) if self.noise.size else self


def _dropout(noise: Tensor | None, level: int) -> Dropout:
    if noise is None or level == 0:
        return Dropout()
    return Dropout(flat(noise), level - 2**15, 1 / (1 - level / 2**16))


def _runs(y: Tensor) -> list[list[slice]]:
    """Blocks of whole rows of the flat y, a run of them for each thread; their edges do not depend on it."""
    entries, channels = y.numel(), y.shape[-1]
    length = max(1, _BLOCK // channels) * channels
    blocks = [slice(first, min(first + length, entries)) for first in range(0, entries, length)]
    count = max(1, min(torch.get_num_threads(), entries // _ENTRIES_PER_THREAD, len(blocks)))
    return [blocks[len(blocks) * i // count : len(blocks) * (i + 1) // count] for i in range(count)]


def _take(entries: int) -> NDArray[np.float32]:
    """A flat buffer of at least so many numbers."""
    buffer = _free.pop() if _free else None
    if buffer is None or len(buffer) < entries:
        return empty((entries,), torch.float32).numpy()
    return buffer


def _rows(memory: Tensor, first: int, entries: int, width: int) -> Tensor:
    """So many entries of flat memory from the first on, as rows."""
    return memory.as_strided((entries // width, width), (width, 1), first)


def gated_mix(
    h: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    noise_y: Tensor | None,
    noise_h: Tensor | None,
    level: int,
    save: bool,
) -> tuple[Tensor, Tensor]:
    """h + m' (a sigmoid(b)) with (a, b) = z + bias and z = W (m gelu(y)); and z, if ``save``.

    m and m' are 0 for the ``level`` lowest values of the noise.
    """
    out, channels = empty_like(h), h.shape[-1]
    saved = empty((2 * h.numel() if save else 0,), h.dtype)
    hs, ys, shift, zs, outs = flat(h), flat(y), flat(bias), flat(saved), flat(out)
    inner, outer = _dropout(noise_y, level), _dropout(noise_h, level)
    W = weight.detach().t()
    runs = _runs(y)

    def task(blocks: list[slice]) -> None:
        most = blocks[0].stop - blocks[0].start
        buffer = _take(3 * most)
        memory = torch.from_numpy(buffer)
        for block in blocks:
            n = block.stop - block.start
            kernels.gelu(ys[block], *inner.of(block), buffer, _NO_SLOPE)
            z, first = (saved, 2 * block.start) if save else (memory, most)
            torch.mm(_rows(memory, 0, n, channels), W, out=_rows(z, first, 2 * n, 2 * channels))
            pairs = (zs if save else buffer)[first : first + 2 * n]
            kernels.gated_sum(hs[block], pairs, shift, *outer.of(block), outs[block])
        _free.append(buffer)

    threads.run([partial(task, blocks) for blocks in runs], len(runs))
    return out, saved


def gated_mix_adjoint(
    g: Tensor,
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    noise_y: Tensor | None,
    noise_h: Tensor | None,
    level: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, W and the bias from that of `gated_mix`; that of h is g itself."""
    gy, channels = empty_like(y), y.shape[-1]
    gs, zs, ys, shift, target = flat(g), flat(z), flat(y), flat(bias), gy.view(-1)
    inner, outer = _dropout(noise_y, level), _dropout(noise_h, level)
    W = weight.detach()
    runs = _runs(y)
    # One for each run: no two tasks write to the same place.
    gW, gbias = weight.new_zeros(len(runs), *weight.shape), bias.new_zeros(len(runs), len(bias))

    def task(blocks: list[slice], gW: Tensor, gbias: Tensor) -> None:
        most = blocks[0].stop - blocks[0].start
        buffer = _take(5 * most)
        memory = torch.from_numpy(buffer)
        x, slope, gz = (buffer[k * most :] for k in (0, 1, 3))
        sums = gbias.numpy()
        for block in blocks:
            n = block.stop - block.start
            kernels.gelu(ys[block], *inner.of(block), x, slope)
            pairs = zs[2 * block.start : 2 * block.stop]
            kernels.gated_sum_adjoint(gs[block], pairs, shift, *outer.of(block), gz, sums)
            rows = _rows(memory, 3 * most, 2 * n, 2 * channels)
            gW.addmm_(rows.t(), _rows(memory, 0, n, channels))
            torch.mm(rows, W, out=_rows(memory, 2 * most, n, channels))
            gx, slopes = (memory[k * most : k * most + n] for k in (2, 1))
            torch.mul(gx, slopes, out=target[block])
        _free.append(buffer)

    threads.run([partial(task, *parts) for parts in zip(runs, gW, gbias, strict=True)], len(runs))
    return gy, gW.sum(0), gbias.sum(0)
