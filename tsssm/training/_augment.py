"""Other recordings that might have been made of the same thing: training series are changed at every step.

All of it acts on values and times, as an encoder gives them; what comes out of cuts and speeds is what the
encoder would give for the changed recording. Gains are those of values without their mean. Symbols and
shapes: u (batch, L, d_in) inputs, dt (batch, L) elapsed time since the previous sample, 1 at the first sample
and 0 on padding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tsssm.ops.sequence import reached_samples
from tsssm.training._batches import LabelledBatch


class Augmentation(NamedTuple):
    """Changes the series of a batch at random, each by itself, in the order of the attributes.

    Attributes
    ----------
    n_values : int
        The first inputs are values of so many channels.
    masked : bool
        Whether as many inputs say which were seen, and as many more log(1 + the time since then).
    origin : Tensor (m,) or None
        For targets that are rates: the standardised value of a rate of 0, with the sign turned.
    crop : float
        Share of the samples of a stretch, at a random place, that is left of each series; 1 is all.
    speed : tuple of float
        Each series is played at a speed between these two, drawn uniformly in the logarithm: time passes so
        much faster, and rates are as much higher. Regular series stay regular, and shorter at high speeds.
    drop_samples : float
        Of the samples, a share drawn from 0 to this one is left out, and gaps grow accordingly.
    gain : float
        Each channel is multiplied by the exponential of a normal number with this standard deviation.
    noise : float
        Standard deviation of what is added to each value, in standard deviations of the channel.
    drop_channels : float
        Probability that a channel is missing altogether.
    """

    n_values: int
    masked: bool = False
    origin: Tensor | None = None
    crop: float = 1.0
    speed: tuple[float, float] = (1.0, 1.0)
    drop_samples: float = 0.0
    gain: float = 0.0
    noise: float = 0.0
    drop_channels: float = 0.0

    def __call__(self, batch: LabelledBatch, generator: torch.Generator | None) -> LabelledBatch:
        """Return the batch with other series, and with other targets where those are rates."""
        u, dt, target = batch.u, batch.dt, batch.target
        if self.crop < 1 or self.speed != (1.0, 1.0):
            low, high = torch.tensor(self.speed, dtype=torch.float64).log().tolist()
            faster = (low + (high - low) * _uniform(u, generator)).exp()
            u, dt = self._played(u, dt, faster, generator)
            if self.origin is not None:
                faster = faster[:, None]
                target = faster * target + (faster - 1) * self.origin.to(target)
        if self.drop_samples:
            u, dt = self._thinned(u, dt, generator)
        return batch._replace(u=self._changed(u, dt, generator), dt=dt, target=target)

    def _played(
        self, u: Tensor, dt: Tensor | None, faster: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """A stretch of each series at another speed (batch,).

        A regular series stays one of the same step: it is read between its samples. Of others the samples
        stay, and come sooner.
        """
        size, lengths, steady = u.shape[1], _lengths(u, dt), _steady(u, dt)
        step = torch.where(steady, faster, 1.0).double()
        longest = (self.crop * lengths).ceil().clamp(min=1)
        kept = torch.minimum(longest, ((lengths - 1) / step).floor() + 1).long()
        if dt is None:  # one length for all, that of the fastest
            size = min(int(longest[0]), int((size - 1) / max(self.speed[1], 1.0)) + 1)
            kept = kept.clamp(max=size)
        room = lengths - 1 - (kept - 1) * step
        lot = _uniform(u, generator).double()
        whole = (lot * (room + 1)).floor().minimum(room)
        start = torch.where(step == 1, whole, lot * room)
        position = torch.arange(size, device=u.device)
        place = (start[:, None] + position * step[:, None]).clamp(max=u.shape[1] - 1)
        played = _read(u, place, 0 if self.masked else self.n_values)
        if dt is None:
            return played, None
        valid = position < kept[:, None]
        gaps = torch.take_along_dim(dt, place.round().long(), dim=1) / faster[:, None]
        gaps = torch.where(steady[:, None], 1.0, gaps)
        return played * valid[..., None], _from_first(gaps) * valid

    def _thinned(
        self, u: Tensor, dt: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        dt = _gaps(u, dt)
        lengths = _lengths(u, dt)
        share = 1 - self.drop_samples * _uniform(u, generator)
        kept = (share * lengths).round().clamp(min=1).long()[:, None]
        position = torch.arange(u.shape[1], device=u.device)
        lot = torch.where(position < lengths[:, None], _uniform(u, generator, len(position)), 2.0)
        rank = lot.argsort(dim=1).argsort(dim=1)
        samples = (rank >= kept).long().argsort(dim=1, stable=True)  # those that stay, in their order
        clock = torch.take_along_dim(dt.double().cumsum(dim=1), samples, dim=1)
        valid = position < kept
        gaps = _from_first(clock.diff(dim=1, prepend=clock[:, :1]).to(dt)) * valid
        return torch.take_along_dim(u, samples[..., None], dim=1) * valid[..., None], gaps

    def _changed(self, u: Tensor, dt: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Other values, and what is known of the times at which they were seen."""
        n = self.n_values
        values, rest = u[..., :n], u[..., n:]
        valid = None if dt is None else reached_samples(dt)[..., None]
        if self.gain:
            values = values * (self.gain * _normal(u, generator, 1, n)).exp()
        if self.noise:
            values = values + self.noise * _normal(u, generator, u.shape[1], n)
        there = rest[..., :n] if self.masked else None
        if self.drop_channels:
            stays = _uniform(u, generator, 1, n) >= self.drop_channels
            values = values * stays
            there = None if there is None else there * stays
        if there is not None:
            since = _time_since_seen(there > 0, _gaps(u, dt))
            values, rest = values * there, torch.cat([there, since.log1p().to(u), rest[..., 2 * n :]], dim=-1)
        u = torch.cat([values, rest], dim=-1)
        return u if valid is None else u * valid


def _uniform(u: Tensor, generator: torch.Generator | None, *more: int) -> Tensor:
    """Random numbers in [0, 1), (batch, *more), in the dtype of u and not in that of torch by default."""
    return torch.rand(len(u), *more, dtype=u.dtype, device=u.device, generator=generator)


def _normal(u: Tensor, generator: torch.Generator | None, *more: int) -> Tensor:
    """As `_uniform`, from a standard normal distribution."""
    return torch.randn(len(u), *more, dtype=u.dtype, device=u.device, generator=generator)


def _gaps(u: Tensor, dt: Tensor | None) -> Tensor:
    return u.new_ones(u.shape[:2]) if dt is None else dt


def _lengths(u: Tensor, dt: Tensor | None) -> Tensor:
    """Samples of each series, (batch,)."""
    if dt is None:
        return torch.full((len(u),), u.shape[1], device=u.device)
    return reached_samples(dt).sum(dim=1)


def _steady(u: Tensor, dt: Tensor | None) -> Tensor:
    """Whether all gaps of a series are 1, (batch,)."""
    if dt is None:
        return torch.ones(len(u), dtype=torch.bool, device=u.device)
    return ((dt == 1) | ~reached_samples(dt)).all(dim=1)


def _read(u: Tensor, place: Tensor, n_straight: int) -> Tensor:
    """Inputs at places between samples: the first on straight lines, the others as the nearest sample has."""
    nearest = torch.take_along_dim(u, place.round().long()[..., None], dim=1)
    if n_straight == 0:
        return nearest
    before = place.floor().long()
    after = (before + 1).clamp(max=u.shape[1] - 1)
    own = u[..., :n_straight]
    left, right = (torch.take_along_dim(own, side[..., None], dim=1) for side in (before, after))
    straight = torch.lerp(left, right, (place - before).to(u)[..., None])
    return torch.cat([straight, nearest[..., n_straight:]], dim=-1)


def _from_first(dt: Tensor) -> Tensor:
    """The gaps, with a first sample that has none before it."""
    return torch.cat([torch.ones_like(dt[:, :1]), dt[:, 1:]], dim=1)


def _time_since_seen(seen: Tensor, dt: Tensor) -> Tensor:
    """Time (batch, L, d) since an earlier sample saw a channel, or since the first sample."""
    clock = dt.double().cumsum(dim=1)[..., None]
    sighted = torch.where(seen, clock, clock[:, :1])
    latest = sighted.cummax(dim=1).values
    return clock - torch.cat([clock[:, :1].expand_as(latest[:, :1]), latest[:, :-1]], dim=1)
