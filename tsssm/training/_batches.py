"""Which series go together in a step, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tsssm.encoding import Encoded

# Ragged data is sorted by length within this many batches: little padding, and still a fresh mix every epoch.
_BUCKET_BATCHES = 16


class LabelledBatch(NamedTuple):
    """Inputs u (batch, L, d_in) and dt (batch, L), targets (batch, ...) and weights (batch,) of a step."""

    u: Tensor
    dt: Tensor | None
    target: Tensor
    weight: Tensor | None


class Batches:
    """The batches of an epoch, by indexing into tensors held in memory; every ``iter`` is a new epoch.

    All batches of an epoch have the same number of series, or one less, so that none is left over with a
    single series, whose statistics would upset batch normalisation.

    Parameters
    ----------
    data : Encoded
        n series.
    target : Tensor (n, ...)
    weight : Tensor (n,), optional
        Weight of each series in the loss.
    batch_size : int
        Most series in a batch (one more for an odd number of series and a batch size of 2).
    generator : torch.Generator, optional
        Shuffles; without it the batches are the same every epoch, sorted by length.
    """

    def __init__(
        self,
        data: Encoded,
        target: Tensor,
        weight: Tensor | None = None,
        *,
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        self.data = data
        self.target = target
        self.weight = weight
        self.generator = generator
        count = -(-len(data) // batch_size)
        self._count = count if batch_size == 1 else min(count, max(1, len(data) // 2))
        self._ragged = bool((data.lengths != data.lengths[0]).any())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[LabelledBatch]:
        for rows in self.rows():
            u, dt = self.data.batch(rows)
            yield LabelledBatch(u, dt, self.target[rows], None if self.weight is None else self.weight[rows])

    def rows(self) -> list[Tensor]:
        """Return the row numbers of each batch of the next epoch."""
        if self.generator is None:
            return list(self.data.lengths.argsort(stable=True).tensor_split(self._count))
        order = torch.randperm(len(self.data), generator=self.generator)
        if not self._ragged:
            return list(order.tensor_split(self._count))
        lengths = self.data.lengths
        buckets = order.tensor_split(-(-self._count // _BUCKET_BATCHES))
        order = torch.cat([bucket[lengths[bucket].argsort(stable=True)] for bucket in buckets])
        batches = order.tensor_split(self._count)
        return [batches[i] for i in torch.randperm(self._count, generator=self.generator)]
