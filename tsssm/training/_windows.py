"""Windows of histories with what came after them, drawn anew for every epoch.

Symbols and shapes: rows are cells of all series together; N windows, each ends at a row, its origin; L cells
of look-back; H horizons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tsssm.training._batches import Batches, LabelledBatch


class Windows(Batches):
    """The batches of an epoch of windows.

    Parameters
    ----------
    cut : callable
        Turns numbers (b,) of windows, and whether these are for training, into a `LabelledBatch`.
    count : int
        Windows N.
    an_epoch : int
        How many are drawn in an epoch: every window once before any is drawn again.
    samples : int
        Samples of one window, at most.
    batch_size : int
    parts : iterable of Tensor
        What the windows are made of, for the identity of a run.
    generator : torch.Generator, optional
        Draws; without it the windows are the same every epoch: at most so many, evenly spread.
    """

    def __init__(
        self,
        cut: Callable[[Tensor, torch.Generator | None], LabelledBatch],
        count: int,
        *,
        an_epoch: int,
        samples: int,
        batch_size: int,
        parts: tuple[Tensor, ...],
        generator: torch.Generator | None = None,
    ) -> None:
        self._cut, self._n, self._parts = cut, count, parts
        self._drawn = an_epoch if generator is not None else min(an_epoch, count)
        self.generator = generator
        self._count = -(-self._drawn // batch_size)
        self.samples = -(-self._drawn // self._count) * samples

    def rows(self) -> list[Tensor]:
        """Return the windows of each batch of the next epoch."""
        if self.generator is None:
            chosen = torch.linspace(0, self._n - 1, self._drawn, dtype=torch.float64).round().long()
        else:
            rounds = range(-(-self._drawn // self._n))
            order = [torch.randperm(self._n, generator=self.generator) for _ in rounds]
            chosen = torch.cat(order)[: self._drawn]
        return list(chosen.tensor_split(self._count))

    def batch(self, rows: Tensor) -> LabelledBatch:
        """Return these windows as a batch."""
        return self._cut(rows, self.generator)

    def tensors(self) -> Iterator[Tensor | None]:
        """As `Batches.tensors`."""
        yield from self._parts
