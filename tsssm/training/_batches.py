"""Which series go together in a step, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsssm.encoding import Encoded, EncodedOnDemand, moved

# Ragged data is sorted by length within this many batches: little padding, and still a fresh mix every epoch.
_BUCKET_BATCHES = 16
# Where that would still fill an epoch with so many times the samples, series only meet those of their length.
_MOST_PADDED = 2.0


class LabelledBatch(NamedTuple):
    """Inputs u (batch, L, d_in) and dt (batch, L), targets (batch, ...) and weights (batch,) of a step.

    And the fold (batch,) that a series is in, if there are folds. With ``at``, the series and samples (m,)
    that labels belong to, targets and weights are those of labels, (m, ...) and (m,).
    """

    u: Tensor
    dt: Tensor | None
    target: Tensor
    weight: Tensor | None
    fold: Tensor | None = None
    at: tuple[Tensor, Tensor] | None = None

    @property
    def inputs(self) -> tuple[Any, ...]:
        """Arguments of a network."""
        return (self.u, self.dt) if self.at is None else (self.u, self.dt, self.at)


class Batches:
    """The batches of an epoch, by indexing into tensors held in memory; every ``iter`` is a new epoch.

    All batches of an epoch have the same number of series, or one less, so that none is left over with a
    single series, whose statistics would upset batch normalisation. Where lengths differ so much that padding
    would take more room than the samples, the series are batched by classes of length, each of at most twice
    the shortest in it. A class may then be a single long series; its loss counts as that of one.

    Parameters
    ----------
    data : Encoded or EncodedOnDemand
        n series.
    target : Tensor (n, ...)
    weight : Tensor (n,), optional
        Weight of each series in the loss.
    batch_size : int
        Most series in a batch (one more for an odd number of series and a batch size of 2).
    generator : torch.Generator, optional
        Shuffles; without it the batches are the same every epoch, sorted by length.
    fold : Tensor (n,), optional
        Number of the member of a committee that leaves a series out, -1 where none does.
    """

    def __init__(
        self,
        data: Encoded | EncodedOnDemand,
        target: Tensor,
        weight: Tensor | None = None,
        *,
        batch_size: int,
        generator: torch.Generator | None = None,
        fold: Tensor | None = None,
    ) -> None:
        self.data = data
        self.target = target
        self.weight = weight
        self.fold = fold
        self.generator = generator
        self._batch_size = batch_size
        self._ragged = bool((data.lengths != data.lengths[0]).any())
        everything = torch.arange(len(data))
        self._classes = [everything]
        if self._ragged and self._padded(everything) > _MOST_PADDED * int(data.lengths.sum()):
            self._classes = _classes_of(data.lengths)
        self._count = sum(map(self._count_of, self._classes))
        #: Samples of a batch, if all series were as long as the longest.
        self.samples = -(-len(data) // self._count) * int(data.lengths.max())

    def __len__(self) -> int:
        return self._count

    def _count_of(self, rows: Tensor) -> int:
        """Number of batches that these series make."""
        count = -(-len(rows) // self._batch_size)
        return count if self._batch_size == 1 else min(count, max(1, len(rows) // 2))

    def _padded(self, rows: Tensor) -> int:
        """Samples of the batches of these series with their padding, in one epoch like any other."""
        generator = None if self.generator is None else torch.Generator().manual_seed(0)
        lengths = self.data.lengths
        return sum(len(batch) * int(lengths[batch].max()) for batch in self._mixed(rows, generator))

    def __iter__(self) -> Iterator[LabelledBatch]:
        # A generator: Lightning asks for iterators that it never uses, and those must not shuffle.
        for rows in self.rows():
            yield self.batch(rows)

    def batch(self, rows: Tensor) -> LabelledBatch:
        """Return these series as a batch."""
        u, dt = self.data.batch(rows)
        fold = None if self.fold is None else self.fold[rows]
        rows = moved(rows, self.target.device)
        weight = None if self.weight is None else self.weight[rows]
        if len(self._classes) > 1:
            # The loss is a mean over the batch: without this a series alone would count as much as a batch.
            size = len(rows) * self._count / len(self.data)
            weight = torch.full((len(rows),), size, device=rows.device) if weight is None else weight * size
        return LabelledBatch(u, dt, self.target[rows], weight, fold)

    def rows(self) -> list[Tensor]:
        """Return the row numbers of each batch of the next epoch."""
        batches = [batch for rows in self._classes for batch in self._mixed(rows, self.generator)]
        if self.generator is None or not self._ragged:
            return batches
        return [batches[i] for i in torch.randperm(self._count, generator=self.generator)]

    def _mixed(self, rows: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        lengths = self.data.lengths[rows]
        return [rows[batch] for batch in mixed(lengths, self._count_of(rows), self._ragged, generator)]

    def size(self, rows: Tensor) -> int:
        """Return how many losses a batch of these series has."""
        return len(rows)

    def tensors(self) -> Iterator[Tensor | None]:
        """Yield everything that the batches are made of."""
        for piece in self.data.pieces():
            yield from (piece.u, piece.dt, piece.offsets, piece.codes)
        yield from (self.target, self.weight, self.fold)


def mixed(lengths: Tensor, count: int, ragged: bool, generator: torch.Generator | None) -> list[Tensor]:
    """Batches of sequences of these lengths: sorted, or in a random order with little padding."""
    if generator is None:
        return list(lengths.argsort(stable=True).tensor_split(count))
    order = torch.randperm(len(lengths), generator=generator)
    if ragged:
        buckets = order.tensor_split(-(-count // _BUCKET_BATCHES))
        order = torch.cat([bucket[lengths[bucket].argsort(stable=True)] for bucket in buckets])
    return list(order.tensor_split(count))


def _classes_of(lengths: Tensor) -> list[Tensor]:
    """Rows of series whose lengths are between two powers of two; a series alone joins the next longer."""
    powers = lengths.double().log2().floor().long()
    found: list[Tensor] = []
    left = torch.zeros(0, dtype=torch.int64)
    for power in powers.unique().tolist():
        rows = torch.cat([left, torch.nonzero(powers == power)[:, 0]])
        left = rows if len(rows) == 1 else rows[:0]
        if len(rows) > 1:
            found.append(rows)
    return [*found, left] if len(left) else found


class BatchShares:
    """The share of every batch that falls to one of several processes, which all draw the same batches.

    Gradients are averaged over the processes. For this to be the gradient of the whole batch, the losses of a
    share are weighted by its size, as shares differ by one series.

    Parameters
    ----------
    batches : Batches
    place : callable
        Returns the number of this process and the number of processes.
    """

    def __init__(self, batches: Batches, place: Callable[[], tuple[int, int]]) -> None:
        self._batches = batches
        self._place = place

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[LabelledBatch]:
        rank, count = self._place()
        for rows in self._batches.rows():
            if len(rows) < count:
                raise ValueError(
                    f"A batch of {len(rows)} series cannot be shared by {count} processes; use a larger "
                    "batch_size, more series or fewer devices."
                )
            share = rows[rank::count]
            batch = self._batches.batch(share)
            size = self._batches.size(share) * count / self._batches.size(rows)
            target = batch.target
            weight = torch.ones(len(target), device=target.device) if batch.weight is None else batch.weight
            yield batch._replace(weight=weight * size)
