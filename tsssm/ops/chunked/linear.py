r"""Linear recurrences :math:`x_k = M_k x_{k-1} + b_k` over a chunk of time by folding neighbours in pairs.

Two steps are one step of half the sequence, :math:`M_{k+1} M_k` and :math:`M_{k+1} b_k + b_{k+1}`; its states
are every second one, and one step from each gives the others. All products are those of transitions in their
order, so that what the recurrence keeps bounded stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

#: Fewest samples of a chunk.
SAMPLES = 64
# Numbers in a tensor of one chunk: 32 MiB in complex64.
_ENTRIES = 2**22


class Maps(NamedTuple):
    """How transitions are written: their product, later one first, and what one makes of a state."""

    compose: Callable[[Tensor, Tensor], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


def truncated_product(p: Tensor, x: Tensor) -> Tensor:
    """Product of polynomials whose coefficients lie along the third axis from the end, lowest power first."""
    slots = x.shape[-3]
    rows = [
        sum(
            (p[..., i, :, :] * x[..., q - i, :, :] for i in range(1, q + 1)),
            p[..., 0, :, :] * x[..., q, :, :],
        )
        for q in range(slots)
    ]
    return torch.stack(rows, dim=-3)


#: Numbers, polynomials in the shift from one order to the next, and matrices.
NUMBERS = Maps(torch.mul, torch.mul)
POLYNOMIALS = Maps(truncated_product, truncated_product)
MATRICES = Maps(torch.matmul, lambda M, x: (M @ x[..., None])[..., 0])


def states(maps: Maps, M: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """All states (batch, T, ...) from the transitions (batch or 1, T, ...), the drive and the state before.

    Parameters
    ----------
    maps : Maps
        What M holds.
    M, b : Tensor (batch or 1, T, ...) and (batch, T, ...)
    x : Tensor (batch, ...)
    """
    first = b[:, :1] + maps.apply(M[:, :1], x[:, None])
    return _fold(maps, M, torch.cat([first, b[:, 1:]], dim=1))


def _fold(maps: Maps, M: Tensor, b: Tensor) -> Tensor:
    length = b.shape[1]
    if length == 1:
        return b
    half = length // 2
    even, odd = slice(0, 2 * half, 2), slice(1, None, 2)
    second = _fold(maps, maps.compose(M[:, odd], M[:, even]), maps.apply(M[:, odd], b[:, even]) + b[:, odd])
    later = slice(2, None, 2)
    known = second[:, : (length - 1) // 2]
    first = torch.cat([b[:, :1], maps.apply(M[:, later], known) + b[:, later]], dim=1)
    pairs = torch.stack([first[:, :half], second], dim=2).flatten(1, 2)
    return pairs if length % 2 == 0 else torch.cat([pairs, first[:, half:]], dim=1)


def chunk_length(*sizes: int) -> int:
    """Samples of a chunk whose tensors have so many numbers a sample, the product of ``sizes``."""
    entries = 1
    for size in sizes:
        entries *= max(1, size)
    return max(SAMPLES, _ENTRIES // entries)


def over_chunks(
    chunk: Callable[..., tuple[Tensor, Any]], samples: tuple[Tensor | None, ...], x: Any, length: int
) -> tuple[list[Tensor], Any]:
    """What ``chunk(x, *samples)`` returns of each chunk of samples (batch, L, ...), and the last state."""
    total = next(t.shape[1] for t in samples if t is not None)
    outputs = []
    for start in range(0, total, length):
        part = [None if t is None else t[:, start : start + length] for t in samples]
        y, x = run_chunk(chunk, x, *part)
        outputs.append(y)
    return outputs, x


def run_chunk(chunk: Callable[..., tuple[Tensor, Any]], *arguments: Any) -> tuple[Tensor, Any]:
    """A call whose intermediate results are computed again for the gradient, and not kept."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return chunk(*arguments)
    return checkpoint(chunk, *arguments, use_reentrant=False, preserve_rng_state=False)


def over_directions(
    chunk: Callable[..., tuple[Tensor, Any]],
    samples: tuple[Tensor, ...],
    by_direction: tuple[Tensor | None, ...],
    C: Tensor,
    D: Tensor | None,
    start: Tensor,
    reverse: bool,
    length: int,
) -> tuple[Tensor, Tensor]:
    """Outputs (batch, M, L, H) and final state of a scan in one direction or in both.

    Parameters
    ----------
    chunk : callable
        Of the state, the readouts, and a chunk of ``samples`` and ``by_direction``: outputs
        (batch, M, T, H) and the state after it.
    samples : tuple of Tensor (batch, L, ...)
        The first one is the input.
    by_direction : tuple of Tensor (K, batch, L, ...) or None
    C, D, reverse
        As in the reference.
    start : Tensor
        State of the first direction; the second one is opposite and starts from rest.
    length : int
        Samples of a chunk.
    """
    u = samples[0]
    y = u.new_zeros(()) if D is None else D[:, None] * u[:, None]
    ends = []
    for k in range(C.shape[0]):
        backwards = reverse != (k == 1)
        given = [*samples, *(None if t is None else t[k] for t in by_direction)]
        if backwards:
            given = [None if t is None else t.flip(1) for t in given]
        x = start if k == 0 else torch.zeros_like(start)

        def one(x: Tensor, *part: Tensor | None, readouts: Tensor = C[k]) -> tuple[Tensor, Tensor]:
            return chunk(x, readouts, *part)

        # Autocast would round products of matrices to half precision, which only inputs and outputs may have.
        with torch.autocast(u.device.type, enabled=False):
            outputs, x = over_chunks(one, tuple(given), x, length)
        output = torch.cat(outputs, dim=2)
        y = y + (output.flip(2) if backwards else output)
        ends.append(x)
    return y, ends[0]


def read(C: Tensor, x: Tensor) -> Tensor:
    """Outputs (batch, M, T, H), Re C x of states (batch, T, H, N)."""
    y = torch.einsum("mhn,bthn->bmth", C, x)
    return y.real if y.is_complex() else y
