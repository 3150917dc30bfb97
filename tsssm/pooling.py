"""Summaries of features over time: of whole series, and of the samples so far, one piece after the other.

Symbols and shapes: h (batch, L, H) features, dt (batch, L) elapsed time since the previous sample, 0 on
padding. Samples with a positive gap count; a mean also sees those between two samples with one time stamp.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tsssm.ops import last_sample, reversed_gaps


class Pooling(Protocol):
    """A summary over time."""

    def __call__(self, h: Tensor, dt: Tensor | None) -> Tensor:
        """The summary (batch, H) of whole series; ``dt`` is None on a regular grid."""
        ...

    def start(self, features: Tensor) -> Any:
        """The state before the first sample of series, whose ``features`` (batch, H) are like these."""
        ...

    def advance(self, h: Tensor, dt: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Summaries (batch, L, H) up to each sample, from the state before them, and the state after them."""
        ...


class Last:
    """The last sample with a positive gap."""

    def __call__(self, h: Tensor, dt: Tensor | None) -> Tensor:
        return h[:, -1] if dt is None else h[torch.arange(h.shape[0], device=h.device), last_sample(dt)]

    def start(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features)

    def advance(self, h: Tensor, dt: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.arange(1, h.shape[1] + 1)
        latest = torch.where(dt > 0, positions, 0).cummax(dim=1).values
        history = torch.cat([state[:, None], h], dim=1)
        kept = history.gather(1, latest[..., None].expand_as(h))
        return kept, kept[:, -1]


class Maximum:
    """The maximum over the samples with a positive gap."""

    def __call__(self, h: Tensor, dt: Tensor | None) -> Tensor:
        return h.amax(dim=1) if dt is None else h.masked_fill((dt == 0)[..., None], -torch.inf).amax(dim=1)

    def start(self, features: Tensor) -> Tensor:
        return torch.full_like(features, -torch.inf)

    def advance(self, h: Tensor, dt: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        history = torch.cat([state[:, None], h.masked_fill((dt == 0)[..., None], -torch.inf)], dim=1)
        kept = history.cummax(dim=1).values[:, 1:]
        return kept, kept[:, -1]


class MeanState(NamedTuple):
    """What a mean over time has gathered.

    Attributes
    ----------
    sums : Tensor (batch, H), float64
        Features, each times the gaps around it, except for the gap after the last one.
    latest, kept : Tensor (batch, H)
        Features of the last sample, and of the last one with a positive gap.
    first, total : Tensor (batch,), float64
        The first gap, and the sum of all; 0 before there is one.
    """

    sums: Tensor
    latest: Tensor
    kept: Tensor
    first: Tensor
    total: Tensor


class Mean:
    r"""The mean over time.

    .. math:: \sum_k w_k h_k \big/ \sum_k w_k, \qquad w_k = (\delta_k + \delta_{k+1}) / 2,

    where the gap after the last sample is taken to be the first gap. A sample thus stands for half of the
    time to each of its neighbours: the result is the plain mean on a regular grid, does not change with
    padding (weight 0), and does not lean towards the stretches that happen to be sampled densely.
    """

    def __call__(self, h: Tensor, dt: Tensor | None) -> Tensor:
        if dt is None:
            return h.mean(dim=1)
        weight = dt + reversed_gaps(dt)
        weight = weight / weight.sum(dim=1, keepdim=True)
        return torch.einsum("bl,blh->bh", weight.to(h.dtype), h)

    def start(self, features: Tensor) -> MeanState:
        zeros, none = torch.zeros_like(features), features.new_zeros(len(features), dtype=torch.float64)
        return MeanState(zeros.double(), zeros, zeros.clone(), none, none.clone())

    def advance(self, h: Tensor, dt: Tensor, state: MeanState) -> tuple[Tensor, MeanState]:
        kept, last = POOLINGS["last"].advance(h, dt, state.kept)
        first = torch.where(state.total > 0, state.first, dt[:, 0].double())
        elapsed = state.total[:, None] + dt.double().cumsum(1)
        earlier = torch.cat([state.latest[:, None], h[:, :-1]], dim=1)
        terms = dt.double()[..., None] * (earlier.double() + h)
        sums = state.sums[:, None] + terms.cumsum(1)
        mean = ((sums + first[:, None, None] * kept) / (2 * elapsed)[..., None]).to(h.dtype)
        return mean, MeanState(sums[:, -1], h[:, -1], last, first, elapsed[:, -1])


#: Summaries of the features over time.
POOLINGS: dict[str, Pooling] = {"mean": Mean(), "max": Maximum(), "last": Last()}
