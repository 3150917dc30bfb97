"""What a lane of a program is: one channel over one chunk of time of one series, with its modes in registers.

Lanes of neighbouring channels lie next to each other, as they do in memory (batch, L, H), so that loads and
stores coalesce. States that pass from one kernel to another are (series, chunk, part, mode, channel), with
the part real or imaginary.

Tiles are (lanes, modes), of which a thread holds a row, so that sums over modes stay in its registers. Triton
lays them out so if it takes an index into memory to be contiguous along the lanes. It is, but where a lane is
the first of a row; so indices are marked with ``tl.max_contiguous``, from which nothing more may follow: see
`place`. The mark must stand where an index is computed, not in a function that it is passed to.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

#: Lanes of a program, one for each of its threads.
LANES = 64
WARPS = LANES // 32
#: Samples between the states that are kept for the adjoint. A chunk is a multiple of them.
SAMPLES = 16
#: Sizes that change from call to call. Triton would compile a kernel anew where one is 1 or a multiple of 16,
#: knowing which makes no load wider.
VARYING = ("batch", "length", "chunk", "chunks")
# Lanes that fill a large GPU: 132 multiprocessors with 1,024 threads each.
_ENOUGH_LANES = 2**17


def chunk_length(batch: int, length: int, channels: int, modes: int) -> int:
    """Samples of a chunk: a multiple of `SAMPLES`, short enough for the lanes to fill the device.

    It is not below twice the modes either, so that the states of chunks take no more memory than the series.
    """
    most = -(-length // max(SAMPLES, 2 * modes))
    chunks = max(1, min(most, _ENOUGH_LANES // max(1, batch * channels)))
    return SAMPLES * -(-length // (chunks * SAMPLES))


def checkpoints(length: int) -> int:
    """Number of states that are kept of a series."""
    return -(-length // SAMPLES)


def by_mode(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor (..., channel, mode) as a real one (..., part, mode, channel)."""
    real = torch.view_as_real(tensor.resolve_conj())
    return real.transpose(-3, -1).contiguous()


def by_channel(tensor: torch.Tensor) -> torch.Tensor:
    """The opposite of `by_mode`."""
    # An empty tensor counts as contiguous with any strides, which no complex one may have.
    return torch.view_as_complex(tensor.transpose(-3, -1).clone(memory_format=torch.contiguous_format))


@triton.jit
def place(batch: tl.tensor, chunks: tl.tensor, channels: tl.tensor, LANES: tl.constexpr) -> Any:
    """Whether a lane has work, and its series, chunk and channel."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    row = lane // channels
    series = row // chunks
    # The second coordinate is 0, which the compiler does not know: it finds no alignment in the channel,
    # and gives no thread two lanes to load at once.
    channel = lane - row * channels + tl.program_id(1)
    return lane < batch * chunks * channels, series, row - series * chunks, channel


@triton.jit
def state_index(row: tl.tensor, n: tl.tensor, h: tl.tensor, modes: tl.tensor, channels: tl.tensor) -> Any:
    """Index of the real part in an array (row, part, mode, channel); the other is modes * channels on."""
    return tl.max_contiguous((row.to(tl.int64)[:, None] * (2 * modes) + n) * channels + h[:, None], [2, 1])


@triton.jit
def load_pair(pointer: tl.tensor, index: tl.tensor, size: tl.tensor, mask: tl.tensor) -> Any:
    """Real and imaginary parts, which are ``size`` apart; zero where there is nothing."""
    return tl.load(pointer + index, mask, other=0.0), tl.load(pointer + index + size, mask, other=0.0)


@triton.jit
def store_pair(
    pointer: tl.tensor,
    index: tl.tensor,
    size: tl.tensor,
    real: tl.tensor,
    imaginary: tl.tensor,
    mask: tl.tensor,
) -> None:
    """The opposite of `load_pair`."""
    tl.store(pointer + index, real, mask)
    tl.store(pointer + index + size, imaginary, mask)


@triton.jit
def store_by_mode(
    pointer: tl.tensor,
    row: tl.tensor,
    n: tl.tensor,
    h: tl.tensor,
    m: tl.tensor,
    modes: tl.tensor,
    channels: tl.tensor,
    readouts: tl.tensor,
    gAr: tl.tensor,
    gAi: tl.tensor,
    gBr: tl.tensor,
    gBi: tl.tensor,
    gCr: tl.tensor,
    gCi: tl.tensor,
    mask: tl.tensor,
    C_mask: tl.tensor,
) -> None:
    """Gradients of A, B and the readouts of a chunk, in an array (row, 2 + readouts, part, mode, channel)."""
    size = modes * channels
    index = ((row.to(tl.int64) * (2 + readouts) * 2)[:, None] * modes + n) * channels + h[:, None]
    index = tl.max_contiguous(index, [2, 1])
    store_pair(pointer, index, size, gAr, gAi, mask)
    store_pair(pointer, index + 2 * size, size, gBr, gBi, mask)
    of_C = index[:, :, None] + ((4 + 2 * m) * size)[:, None, :]
    store_pair(pointer, of_C, size, gCr, gCi, C_mask)
