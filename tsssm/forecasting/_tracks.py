"""Series as a network sees them: windows in units of their own, and what is known of the times ahead.

Symbols and shapes: R cells of all series together, k variables, b windows, L samples of a window at most, K
times ahead::

    u      (b, L, d_in)     inputs, at samples that are there
    dt     (b, L)           elapsed time, in grid steps; None on the grid
    ahead  (b, K, d_ahead)  inputs of the times ahead
    base   (b, K)           what is forecast without a network
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.forecasting._prepare import step_size

FloatArray = npt.NDArray[np.float64]

_HARMONICS = 3
_LEAST_GAP = 1e-2
_LEAST_VALUE = 1e-300
_LARGEST = 20.0
_FLOOR = 0.1  # a window that hardly moves is in units of so much of a step of its series


class Track(NamedTuple):
    """One series.

    Attributes
    ----------
    target : int
        The number of its target.
    y : array (T,)
    phase : int
        Number of its first cell.
    shift : array (T,)
        How long after its cell each sample is.
    X : array (T, k)
        Variables that may be known ahead.
    others : array (T, m), optional
        What is known of the past alone.
    step : float, optional
        Mean step of the series, where y is only its end.
    """

    target: int
    y: FloatArray
    phase: int
    shift: FloatArray
    X: FloatArray
    others: FloatArray | None = None
    step: float | None = None

    @property
    def variables(self) -> FloatArray:
        """X and what is known of the past alone, (T, k + m)."""
        return self.X if self.others is None else np.concatenate([self.X, self.others], axis=1)

    def until(self, stop: int) -> Track:
        """The first samples."""
        others = None if self.others is None else self.others[:stop]
        return Track(self.target, self.y[:stop], self.phase, self.shift[:stop], self.X[:stop], others)


class View(NamedTuple):
    """How windows are scaled and encoded.

    Attributes
    ----------
    look_back, horizon, season : int
        In grid steps.
    scaling : {"last", "mean", "robust", "none"}
    level, spread : array (n_targets,)
        Mean and standard deviation of each target in training.
    centre, unit : array (k,)
        Of each variable.
    static : array (k,) of 0 or 1
        Which variables do not change within a series.
    n_ahead : int
        How many variables, the first ones, may be known ahead.
    """

    look_back: int
    horizon: int
    season: int
    scaling: str
    level: FloatArray
    spread: FloatArray
    centre: FloatArray
    unit: FloatArray
    static: FloatArray
    n_ahead: int

    @classmethod
    def of(cls, tracks: Sequence[Track], look_back: int, horizon: int, season: int, scaling: str) -> View:
        """Learn levels and units from the series of training."""
        count = 1 + max(track.target for track in tracks)
        level, spread = np.zeros(count), np.ones(count)
        for number in range(count):
            level[number], spread[number] = _moments([t.y for t in tracks if t.target == number])
        variables = [track.variables for track in tracks]
        width = variables[0].shape[1]
        columns = [[own[:, k] for own in variables] for k in range(width)]
        moments = np.array([_moments(column) for column in columns]).reshape(width, 2)
        several = len({id(track.X) for track in tracks}) > 1
        static = [several and all(_is_constant(own) for own in column) for column in columns]
        return cls(
            look_back,
            horizon,
            season,
            scaling,
            level,
            spread,
            moments[:, 0],
            moments[:, 1],
            np.array(static, dtype=np.float64),
            tracks[0].X.shape[1],
        )

    @property
    def harmonics(self) -> int:
        """Waves that tell the phase of the season."""
        return min(_HARMONICS, self.season // 2) if self.season > 1 else 0

    @property
    def d_in(self) -> int:
        """Inputs of a sample."""
        return 2 + self._d_both

    @property
    def d_ahead(self) -> int:
        """Inputs of a time ahead."""
        return 2 + self._d_both

    @property
    def _d_both(self) -> int:
        targets = len(self.level)
        return 2 * self.harmonics + 2 * len(self.centre) + (targets if targets > 1 else 0)


class Seen(NamedTuple):
    """Windows as a network sees them: u, dt; centre (b,) and scale (b,); time (b,) of the last sample."""

    u: Tensor
    dt: Tensor | None
    centre: Tensor
    scale: Tensor
    end: Tensor


class Tracks:
    """All series in a row.

    Parameters
    ----------
    tracks : sequence of Track
    view : View
    """

    def __init__(self, tracks: Sequence[Track], view: View) -> None:
        self.view = view
        lengths = np.array([len(track.y) for track in tracks])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.concatenate([track.y for track in tracks])
        X = (np.concatenate([track.variables for track in tracks]) - view.centre) / view.unit
        cell = np.concatenate([np.arange(n) for n in lengths])
        shift = np.concatenate([track.shift for track in tracks])
        self.offsets = torch.as_tensor(offsets)
        self.known = torch.as_tensor(np.isfinite(values))
        self.values = torch.as_tensor(np.nan_to_num(values))
        self.X_known = torch.as_tensor(np.isfinite(X))
        self.X = torch.as_tensor(np.clip(np.nan_to_num(X), -_LARGEST, _LARGEST)).float()
        self.there = self.known | self.X_known.any(dim=1)
        self.time = torch.as_tensor(cell + shift)
        self.shift = torch.as_tensor(shift)
        self.place = torch.as_tensor(cell + np.repeat([track.phase for track in tracks], lengths))
        self.owner = torch.as_tensor(np.repeat(np.arange(len(tracks)), lengths))
        self.target = torch.as_tensor([track.target for track in tracks])
        steps = [_step(track.y) if track.step is None else track.step for track in tracks]
        self.least = torch.as_tensor(_FLOOR * np.array(steps))

    def last_known(self) -> Tensor:
        """The row (n,) of the last value of each series."""
        rows = torch.where(self.known, torch.arange(len(self.known)), -1)
        ends = rows.cummax(dim=0).values
        return ends[self.offsets[1:] - 1]

    def seen(self, rows: Tensor) -> Seen:
        """Windows that end at rows (b,), at each of which there is a value."""
        view, owner = self.view, self.owner[rows]
        index = rows[:, None] + torch.arange(1 - view.look_back, 1)
        valid = index >= self.offsets[owner][:, None]
        index = index.clamp(min=0)
        valid &= self.there[index]
        # Samples that are there come first, in their order; what is padding follows.
        order = (~valid).to(torch.uint8).argsort(dim=1, stable=True)
        order = order[:, : int(valid.sum(dim=1).max())]
        index, valid = index.gather(1, order), valid.gather(1, order)
        known = self.known[index] & valid
        y = self.values[index]
        centre, scale = self._scales(y, known, owner)
        z = ((y - centre[:, None]) / scale[:, None]).clamp(-_LARGEST, _LARGEST)
        u = torch.cat([(z * known)[..., None].float(), known[..., None].float(), self._both(index)], dim=-1)
        time = self.time[index]
        dt = torch.ones_like(time)
        dt[:, 1:] = time.diff(dim=1).clamp(min=_LEAST_GAP)
        regular = bool(valid.all()) and bool((dt == 1).all())
        gaps = None if regular else (dt * valid).float()
        return Seen(u * valid[..., None], gaps, centre, scale, self.time[rows])

    def _scales(self, y: Tensor, known: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and scale (b,) of windows y (b, L)."""
        view = self.view
        count = known.sum(dim=1)
        if view.scaling == "none":
            number = self.target[owner]
            return torch.as_tensor(view.level)[number], torch.as_tensor(view.spread)[number]
        if view.scaling == "last":
            last = (known * torch.arange(1, y.shape[1] + 1)).argmax(dim=1)
            centre = y.gather(1, last[:, None])[:, 0]
        else:
            centre = (y * known).sum(dim=1) / count
        mean = (y * known).sum(dim=1) / count
        # In units of the largest value, whose square might overflow.
        largest = (y * known).abs().amax(dim=1).clamp(min=_LEAST_VALUE)
        deviation = (y - mean[:, None]) / largest[:, None] * known
        scale = largest * deviation.square().sum(dim=1).div(count).sqrt()
        if view.scaling == "robust":
            own = torch.where(known, y, torch.nan)
            centre = own.nanmedian(dim=1).values
            low, high = own.nanquantile(torch.tensor([0.25, 0.75], dtype=y.dtype), dim=1)
            scale = torch.where(high > low, (high - low) / 1.349, scale)
        return centre, torch.maximum(scale, self.least[owner])

    def _both(self, index: Tensor) -> Tensor:
        """Inputs (..., d) that samples and times ahead have in common, variables as they are known."""
        X = torch.cat([self.X[index], self.X_known[index].float()], dim=-1)
        return torch.cat([self.phases(self.place[index]), X, self._kinds(self.owner[index])], dim=-1)

    def phases(self, place: Tensor) -> Tensor:
        """Waves (..., 2 harmonics) of the season at places on the grid."""
        turns = torch.arange(1, self.view.harmonics + 1)
        angle = (place[..., None] % self.view.season) * (2 * torch.pi * turns / self.view.season)
        return torch.cat([angle.cos(), angle.sin()], dim=-1).float()

    def _kinds(self, owner: Tensor) -> Tensor:
        """Which target (..., n_targets) a series is of; nothing where there is but one."""
        count = len(self.view.level)
        if count == 1:
            return torch.zeros((*owner.shape, 0), dtype=torch.float32)
        return torch.nn.functional.one_hot(self.target[owner], count).float()

    def ahead(
        self, rows: Tensor, seen: Seen, tau: Tensor, base: Tensor, X: Tensor, X_known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Times (b, K) after the last sample, and their inputs (b, K, d_ahead).

        ``tau`` (b, K) are grid steps after the last sample, ``base`` (b, K) forecasts in the units of y, X
        and X_known (b, K, k) variables, standardised. Beyond the horizon a time is told as that of the same
        phase of the season within it.
        """
        view = self.view
        near = within(tau, view.horizon, view.season)
        z = ((base - seen.centre[:, None]) / seen.scale[:, None]).clamp(-_LARGEST, _LARGEST)
        late = (near.log1p() / np.log1p(view.horizon))[..., None]
        place = self.place[rows][:, None] + self.shift[rows][:, None] + tau
        kinds = self._kinds(self.owner[rows])[:, None].expand(-1, tau.shape[1], -1)
        parts = [z[..., None].float(), late.float(), self.phases(place), X, X_known.float(), kinds]
        return near.float(), torch.cat(parts, dim=-1)

    def statics(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised variables (b, k) that do not change, and whether they are known."""
        fixed = torch.as_tensor(self.view.static) > 0
        known = self.X_known[rows] & fixed
        return self.X[rows] * known, known


def within(tau: Tensor, horizon: int, season: int) -> Tensor:
    """Times beyond the horizon, whole seasons earlier, within it."""
    period = min(season, horizon)
    if period <= 1:
        return tau.clamp(max=float(horizon))
    return tau - period * ((tau - horizon) / period).ceil().clamp(min=0)


def _step(y: FloatArray) -> float:
    return step_size(y[np.isfinite(y)])


def _moments(columns: Sequence[FloatArray]) -> tuple[float, float]:
    values = np.concatenate(list(columns))
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return 0.0, 1.0
    largest = max(float(np.abs(values).max()), _LEAST_VALUE)
    spread = largest * float((values / largest).std())
    return float(values.mean()), spread if spread > 1e-12 * largest else 1.0


def _is_constant(values: FloatArray) -> bool:
    known = values[np.isfinite(values)]
    return len(known) == 0 or bool((known == known[0]).all())
