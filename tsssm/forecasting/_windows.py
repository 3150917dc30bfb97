"""Series into windows: sums over all of them, and the few that are kept to choose by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.forecasting._inputs import Inputs, Window, states
from tsssm.forecasting._prepare import step_size
from tsssm.forecasting._ridge import Adding, Sums
from tsssm.forecasting._smoothing import smooth

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MAX_WINDOWS = 100_000
_MAX_KEPT = 200_000  # windows times horizons
_ROWS = 4096
_SMOOTHED = 150  # windows of a series whose targets are taken relative to the bank
_BLOCK = 800_000  # numbers in the states of a block of series
_LARGEST = 30.0


class Series(NamedTuple):
    """One series without gaps, which of its values were there, and the number of its first sample."""

    y: FloatArray
    known: npt.NDArray[np.bool_]
    phase: int


class Scale(NamedTuple):
    """y = unit * z, or log y = unit * z; the largest z that a forecast may reach."""

    unit: float
    log: bool
    limit: float

    @classmethod
    def of(cls, y: FloatArray, log: bool, even: bool = False) -> Scale:
        """Scale of a series; the logarithm only where every value is positive.

        The unit is the mean step, or the standard deviation where windows are ``even``.
        """
        log = bool(log and y.min() > 0)
        z = np.log(y) if log else y
        deviation = None
        if even:
            largest = max(float(np.abs(z).max()), 1e-300)  # whose square might overflow
            deviation = largest * float((z / largest).std())
        return cls.of_parts(step_size(z), deviation, float(z.max()), log)

    @classmethod
    def of_parts(cls, step: float, deviation: float | None, top: float, log: bool) -> Scale:
        """Scale from the mean step of z, its standard deviation where that is the unit, and its largest."""
        unit = step if deviation is None else max(deviation, 0.1 * step)
        # A forecast of a logarithm may rise to some thirty times the largest value, and no further.
        return cls(unit, log, (top + 3.4) / unit if log else np.inf)

    def forward(self, y: FloatArray) -> FloatArray:
        """From values to z."""
        return (np.log(y) if self.log else y) / self.unit

    def back(self, z: FloatArray) -> FloatArray:
        """From z to values, exactly."""
        return np.exp(self.unit * np.minimum(z, self.limit)) if self.log else self.unit * z


class Plan(NamedTuple):
    """Where windows start: every ``stride``-th origin; those to choose by, counted back from the end."""

    horizon: int
    stride: int
    held_out: IntArray

    @classmethod
    def of(cls, lengths: Sequence[int], horizon: int, season: int = 1) -> Plan:
        """Plan for series of these lengths: about a fifth at their ends is held out to choose by.

        Two seasons should lie before it, which a season is first read off.
        """
        windows = sum(max(length - horizon, 0) for length in lengths)
        stride = max(1, -(-windows // _MAX_WINDOWS))
        median = int(np.median(lengths))
        reach = max(median - 2 * horizon, 0) // 4
        if season > 1:
            reach = min(reach, max(median - horizon - 2 * season, horizon))
        count = int(np.clip(_MAX_KEPT // (len(lengths) * horizon), 1, 400))
        count = min(count, reach + 1)
        # With few of them, a little apart from each other.
        back = np.unique(np.linspace(0, reach, max(count, 1)).round().astype(np.int64))
        return cls(horizon, stride, horizon + back)


class Kept(NamedTuple):
    """Windows to choose by: inputs, the bank's forecast, targets and which were measured, one row each."""

    inputs: FloatArray
    last: FloatArray
    size: FloatArray
    path: FloatArray
    spread: FloatArray
    targets: FloatArray
    known: npt.NDArray[np.bool_]
    owner: IntArray  # number of the series

    @classmethod
    def join(cls, parts: Sequence[Kept]) -> Kept:
        """All rows, one part after another."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Collected(NamedTuple):
    """Sums over windows before and after the held-out part begins, and the windows held out.

    ``plain`` has targets relative to the last value, ``smooth`` relative to the bank's forecast.
    """

    plain: tuple[Sums, Sums]
    smooth: tuple[Sums, Sums]
    kept: Kept


def blocks(lengths: Sequence[int], width: int) -> Iterator[IntArray]:
    """Numbers of series of about equal length, as many at a time as memory should hold."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * int(lengths[order[stop]]) * width <= _BLOCK:
            stop += 1
        yield order[start:stop]
        start = stop


def aligned(series: Sequence[FloatArray]) -> tuple[FloatArray, IntArray]:
    """Series (n, T) that end together, NaN before the start (n,) of each."""
    length = max(map(len, series))
    z = np.full((len(series), length), np.nan)
    for row, values in zip(z, series, strict=True):
        row[length - len(values) :] = values
    return z, np.array([length - len(values) for values in series])


def collect(series: Sequence[Series], scales: Sequence[Scale], inputs: Inputs, plan: Plan) -> Collected:
    """Go over all windows of all series once."""
    H, width = plan.horizon, inputs.width
    plain, around = ([Adding(width, H), Adding(width, H)] for _ in range(2))
    kept: list[Kept] = []
    lengths = [len(s.y) for s in series]
    for numbers in blocks(lengths, len(inputs.systems.gain)):
        z, start = aligned([scales[i].forward(series[i].y) for i in numbers])
        length = z.shape[1]
        readouts = states(z, start, inputs.systems)
        for row, number in enumerate(numbers):
            own = _Own(series[number], z[row, start[row] :], readouts[row, start[row] :], inputs, H)
            held_out = np.sort(own.length - 1 - plan.held_out)
            least, boundary = own.least(length - start[row]), int(held_out[0])
            fine = np.arange(own.length - 1 - H, least - 1, -plan.stride)[::-1]
            # A gap is filled up to the value behind it: only from a value can one look ahead honestly.
            fine = fine[own.series.known[fine]]
            for part in np.split(fine, np.arange(_ROWS, len(fine), _ROWS)):
                own.add(plain, part, None, boundary)
            coarse = np.arange(own.length - 1 - H, -1, -max(1, own.length // _SMOOTHED))[::-1]
            places = np.union1d(coarse, held_out[held_out >= 0])
            places = places[own.is_origin(places, least)]
            if not len(places):
                continue
            found = smooth(own.z, inputs.season, H, places, max(boundary + 1, 1))
            own.add(around, places, found.paths, boundary)
            chosen = np.isin(places, held_out)
            kept.append(own.kept(places[chosen], found.paths[chosen], found.spreads[chosen], int(number)))
    if not kept:
        kept.append(_nothing(width, H))
    plain_sums, around_sums = ((early.sums(), late.sums()) for early, late in (plain, around))
    return Collected(plain_sums, around_sums, Kept.join(kept))


def _nothing(width: int, horizon: int) -> Kept:
    rows, paths = np.zeros(0), np.zeros((0, horizon))
    return Kept(
        np.zeros((0, width)), rows, rows, paths, rows, paths, paths.astype(bool), rows.astype(np.int64)
    )


class _Own:
    """Windows of one series."""

    def __init__(
        self, series: Series, z: FloatArray, readouts: FloatArray, inputs: Inputs, horizon: int
    ) -> None:
        self.series, self.z, self.readouts, self.inputs = series, z, readouts, inputs
        self.horizon, self.length = horizon, len(z)

    def least(self, length: int) -> int:
        """First origin with enough past: the shortest window, or a third of a short series."""
        return max(1, min(self.inputs.lags[0], length // 3))

    def is_origin(self, places: IntArray, least: int) -> npt.NDArray[np.bool_]:
        """Whether windows may end here: with enough before and behind them, and a value of their own."""
        return (least <= places) & (places < self.length - self.horizon) & self.series.known[places]

    def window(self, origins: IntArray) -> tuple[Window, IntArray]:
        """Inputs, and the places (N, H) of the targets."""
        found = self.inputs.at(self.z, self.readouts[origins], self.series.phase, origins)
        return found, origins[:, None] + np.arange(1, self.horizon + 1)

    def add(self, sums: list[Adding], origins: IntArray, paths: FloatArray | None, boundary: int) -> None:
        """Add windows to the sums before (0) and after (1) the boundary, where the last target decides."""
        if len(origins) == 0:
            return
        window, places = self.window(origins)
        base = window.last[:, None] if paths is None else paths
        Y = (self.z[places] - base) / window.size[:, None]
        # Windows whose targets were mostly filled in count for little; a leap does not rule over all others.
        weight = self.series.known[places].mean(axis=1)
        weight = weight * np.minimum(1.0, _LARGEST / np.maximum(np.sqrt((Y**2).mean(axis=1)), 1e-9))
        F, Y = window.inputs * weight[:, None], Y * weight[:, None]
        late = origins + self.horizon > boundary
        for k, which in enumerate((~late, late)):
            if which.any():
                sums[k].add(F[which], Y[which])

    def kept(self, origins: IntArray, paths: FloatArray, spread: FloatArray, number: int) -> Kept:
        """Windows to choose by, targets in the units of y."""
        window, places = self.window(origins)
        owner = np.full(len(origins), number, dtype=np.int64)
        known, targets = self.series.known[places], self.series.y[places]
        return Kept(window.inputs, window.last, window.size, paths, spread, targets, known, owner)
