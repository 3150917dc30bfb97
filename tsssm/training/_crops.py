"""Pieces of recordings with labels along time, and which of them go together in a step.

Symbols: rows are samples of all series together, as in `tsssm.encoding.Encoded`; m labels, each is read at a
row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from tsssm.encoding import Encoded
from tsssm.training._batches import Batches, LabelledBatch, mixed


class Crops(Batches):
    """The batches of an epoch of labelled rows; every ``iter`` cuts the recordings anew.

    A series of at most ``length`` samples is one crop. A longer one is divided into stretches, from an offset
    that is drawn for every epoch, and the labels of a stretch are read in a crop that begins ``warm_up``
    samples before it, so that the states have forgotten that they began with zero; with ``both`` it also ends
    as much after it. In an epoch every label is thus read once. Stretches without a label are left out.

    With ``rare``, crops are drawn with replacement: that share of them for their classes, which then count as
    often as each other, and the others as they come. What a crop counts in the loss is divided by how often
    it is drawn, so that the expected loss is that of all labels, and probabilities stay those of the data.

    Parameters
    ----------
    data : Encoded
    rows : Tensor (m,), int64
        Rows at which labels are read, increasing.
    target : Tensor (m, ...)
    weight : Tensor (m,), optional
        Weight of each label in the loss.
    length, warm_up : int
        In samples; the warm-up, twice with ``both``, leaves at least one.
    both : bool
        Whether states also come from the end of a crop.
    generator : torch.Generator, optional
        Draws offsets and order; without it, batches are the same every epoch.
    classes : Tensor (m,), int64, optional
        The class of each label, for ``rare``.
    rare : float
        In [0, 1).
    """

    data: Encoded

    def __init__(
        self,
        data: Encoded,
        rows: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        *,
        length: int,
        warm_up: int,
        both: bool,
        generator: torch.Generator | None = None,
        classes: Tensor | None = None,
        rare: float = 0.0,
    ) -> None:
        self.data = data
        self.target, self.weight, self.fold = target, weight, None
        self.generator = generator
        self._rows = rows
        self._length, self._warm_up, self._both = length, warm_up, both
        self._stride = length - warm_up * (2 if both else 1)
        self._rare = rare
        self._by_class = [] if classes is None else [rows[classes == c] for c in torch.unique(classes)]
        crops = self._crops(torch.zeros(len(data), dtype=torch.float64))
        #: Crops of an epoch, whose number its offsets change a little, and samples of the longest.
        self.n_crops, self.longest = len(crops), int((crops[:, 3] - crops[:, 0]).max())
        self._divide(1)

    def _divide(self, batch_size: int) -> None:
        self._count = -(-self.n_crops // batch_size)
        self.samples = -(-self.n_crops // self._count) * self.longest

    def with_batches(self, batch_size: int) -> Crops:
        """The same crops in batches of at most this size, but for one or two; at first they have one each."""
        other = copy.copy(self)
        other._divide(batch_size)
        return other

    def _crops(self, phase: Tensor) -> Tensor:
        """Crops (c, 4): first row, the rows from and to which labels count, and the end."""
        begin, end = self.data.offsets[:-1], self.data.offsets[1:]
        whole = self.data.lengths <= self._length
        pieces = torch.where(whole, 1, -(-self.data.lengths // self._stride) + 1)
        series = torch.repeat_interleave(torch.arange(len(begin)), pieces)
        number = torch.arange(len(series)) - (pieces.cumsum(0) - pieces)[series]
        begin, end, whole = begin[series], end[series], whole[series]
        cut = begin + (phase[series] * self._stride).long() + (number - 1) * self._stride
        low = torch.where(whole, begin, cut.clamp(begin, end))
        high = torch.where(whole, end, (cut + self._stride).clamp(begin, end))
        counts = torch.searchsorted(self._rows, high) - torch.searchsorted(self._rows, low)
        start = (low - self._warm_up).clamp(min=begin)
        stop = (high + self._warm_up).clamp(max=end) if self._both else high
        crops = torch.stack(
            [torch.where(whole, begin, start), low, high, torch.where(whole, end, stop)], dim=1
        )
        return crops[counts > 0]

    def rows(self) -> list[Tensor]:
        """Return the crops of each batch of the next epoch: (b, 5), as `_crops`, and what each counts."""
        n = len(self.data)
        phase = torch.zeros(n, dtype=torch.float64)
        if self.generator is not None:
            phase = torch.rand(n, dtype=torch.float64, generator=self.generator)
        crops = self._crops(phase)
        factor = torch.ones(len(crops), dtype=torch.float64)
        if self.generator is not None and self._rare and len(self._by_class) > 1:
            share = self._shares(crops)
            chosen = torch.multinomial(share, len(crops), replacement=True, generator=self.generator)
            crops, factor = crops[chosen], 1 / (len(crops) * share[chosen])
        crops = torch.cat([crops.double(), factor[:, None]], dim=1)
        if len(crops) < self._count:  # for other offsets than those that were counted
            crops = crops.repeat(self._count, 1)[: self._count]
        batches = mixed(crops[:, 3] - crops[:, 0], self._count, True, self.generator)
        if self.generator is not None:
            batches = [batches[i] for i in torch.randperm(self._count, generator=self.generator)]
        return [crops[batch] for batch in batches]

    def _shares(self, crops: Tensor) -> Tensor:
        """How often each of the crops is drawn, (c,)."""
        low, high = crops[:, 1].contiguous(), crops[:, 2].contiguous()
        drawn = torch.zeros(len(crops), dtype=torch.float64)
        for rows in self._by_class:
            count = torch.searchsorted(rows, high) - torch.searchsorted(rows, low)
            drawn += count / max(1, int(count.sum())) / len(self._by_class)
        return (1 - self._rare) / len(crops) + self._rare * drawn

    def _labels(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (k,) of the labels that count in crops, and the crop of each."""
        first = torch.searchsorted(self._rows, crops[:, 1].long())
        counts = torch.searchsorted(self._rows, crops[:, 2].long()) - first
        crop = torch.repeat_interleave(torch.arange(len(crops)), counts)
        return torch.arange(len(crop)) + (first - (counts.cumsum(0) - counts))[crop], crop

    def size(self, rows: Tensor) -> int:
        """As `Batches.size`, of crops."""
        return len(self._labels(rows)[0])

    def batch(self, rows: Tensor) -> LabelledBatch:
        """Return crops as a batch."""
        start, stop = rows[:, 0].long(), rows[:, 3].long()
        lengths = stop - start
        position = torch.arange(int(lengths.max()))
        valid = position < lengths[:, None]
        samples = torch.where(valid, start[:, None] + position, 0)
        u, dt = self.data.inputs(samples), self.data.dt[samples]
        gaps: Tensor | None = dt * valid
        if bool(valid.all()):
            gaps = None if bool((dt == 1).all()) else dt
        else:
            u = u * valid[..., None]
        labels, crop = self._labels(rows)
        # The loss is a mean over the batch: in one with fewer labels each would count for more.
        weight = rows[crop, 4].float() * (len(labels) * self._count / len(self._rows))
        if self.weight is not None:
            weight = weight * self.weight[labels]
        at = crop, self._rows[labels] - start[crop]
        return LabelledBatch(u, gaps, self.target[labels], weight, at=at)

    def tensors(self) -> Iterator[Tensor | None]:
        """As `Batches.tensors`."""
        yield from super().tensors()
        yield self._rows
