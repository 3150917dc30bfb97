"""Series into windows: sums over all of them, and the few that are kept to choose by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.forecasting._inputs import Inputs, Rows, Window, states
from tsssm.forecasting._prepare import step_size
from tsssm.forecasting._ridge import Sums
from tsssm.forecasting._smoothing import Smoothed, smooth_all

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MAX_WINDOWS = 100_000
_MAX_KEPT = 200_000  # windows times horizons
_NUMBERS = 200_000  # in the inputs of windows that are looked at together
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


def collect(series: Sequence[Series], scales: Sequence[Scale], inputs: Inputs, plan: Plan) -> Collected:
    """Go over all windows of all series once."""
    plain, around = ([Sums.zero(inputs.width, plan.horizon) for _ in range(2)] for _ in range(2))
    kept: list[Kept] = []
    rows = max(1, _NUMBERS // inputs.width)
    for numbers in blocks([len(s.y) for s in series], len(inputs.systems.gain)):
        block = _Block([series[i] for i in numbers], [scales[i] for i in numbers], inputs, plan)
        fine = block.is_origin & (block.to_spare % plan.stride == 0)
        coarse = block.is_origin & (block.every(_SMOOTHED) | block.is_held_out)
        found, number = block.smoothed(coarse), np.cumsum(coarse).reshape(coarse.shape) - 1
        # The last target decides on which side of the boundary a window is.
        for k, side in enumerate((~block.is_late, block.is_late)):
            which, places = np.nonzero((fine | coarse) & side)
            for begin in range(0, len(which), rows):
                at = which[begin : begin + rows], places[begin : begin + rows]
                window, targets, known = block.windows(*at)
                paths = found.of(number[at])
                plain[k] = _added(plain[k], fine[at], window, targets - window.last[:, None], known)
                around[k] = _added(around[k], coarse[at], window, targets - paths.paths, known)
                chosen = coarse[at] & block.is_held_out[at[1]]
                if chosen.any():
                    kept.append(block.kept(*at, chosen, window, paths, known, numbers))
    if not kept:
        kept.append(_nothing(inputs.width, plan.horizon))
    return Collected((plain[0], plain[1]), (around[0], around[1]), Kept.join(kept))


def _added(
    sums: Sums, chosen: npt.NDArray[np.bool_], window: Window, rest: FloatArray, known: npt.NDArray[np.bool_]
) -> Sums:
    """Sums with the chosen ones of some windows, whose targets deviate by ``rest`` (N, H)."""
    F, Y = window.inputs, rest / window.size[:, None]
    if not chosen.all():
        F, Y, known = F[chosen], Y[chosen], known[chosen]
    # Windows whose targets were mostly filled in count for little; a leap does not rule over all others.
    weight = known.mean(axis=1)
    weight = weight * np.minimum(1.0, _LARGEST / np.maximum(np.sqrt((Y**2).mean(axis=1)), 1e-9))
    if (weight < 1).any():
        F, Y = F * weight[:, None], Y * weight[:, None]
    return sums.add(F, Y)


def _nothing(width: int, horizon: int) -> Kept:
    rows, paths = np.zeros(0), np.zeros((0, horizon))
    numbers = rows.astype(np.int64)
    return Kept(np.zeros((0, width)), rows, rows, paths, rows, paths, paths.astype(bool), numbers)


class _Block:
    """Windows of some series, in rows that end together."""

    def __init__(self, series: Sequence[Series], scales: Sequence[Scale], inputs: Inputs, plan: Plan) -> None:
        self.series, self.inputs, self.plan = series, inputs, plan
        self.rows = Rows.of([scale.forward(s.y) for s, scale in zip(series, scales, strict=True)])
        self.readouts = states(self.rows.z, self.rows.start, inputs.systems)
        self.phases = np.array([s.phase for s in series])
        n, length = self.rows.z.shape
        self.y, self.known = np.zeros((n, length)), np.zeros((n, length), dtype=bool)
        for i, (s, start) in enumerate(zip(series, self.rows.start, strict=True)):
            self.y[i, start:], self.known[i, start:] = s.y, s.known
        columns = np.arange(length)
        # Samples behind the last target of a window that ends in a column.
        self.to_spare = length - 1 - plan.horizon - columns
        self.is_held_out = np.isin(length - 1 - columns, plan.held_out)
        self.boundary = length - 1 - int(plan.held_out.max())
        self.is_late = columns + plan.horizon > self.boundary
        # A window needs a past: the shortest window, or a third of a short series. A gap is filled up to the
        # value behind it: only from a value can one look ahead honestly.
        least = np.maximum(np.minimum(inputs.lags[0], (length - self.rows.start) // 3), 1)
        enough = columns >= (self.rows.start + least)[:, None]
        self.is_origin = enough & (self.to_spare >= 0) & self.known

    def every(self, most: int) -> npt.NDArray[np.bool_]:
        """Columns (n, T) of about so many windows of each series, counted back from the last."""
        lengths = self.rows.z.shape[1] - self.rows.start
        return self.to_spare % np.maximum(lengths // most, 1)[:, None] == 0

    def smoothed(self, wanted: npt.NDArray[np.bool_]) -> Smoothed:
        """The bank's forecasts from the wanted columns (n, T) of all rows, in order."""
        starts = self.rows.start
        started = [z[start:] for z, start in zip(self.rows.z, starts, strict=True)]
        origins = [np.flatnonzero(own[start:]) for own, start in zip(wanted, starts, strict=True)]
        known = np.maximum(self.boundary - starts + 1, 1)
        return smooth_all(started, self.inputs.season, self.plan.horizon, origins, known)

    def windows(self, which: IntArray, places: IntArray) -> tuple[Window, FloatArray, npt.NDArray[np.bool_]]:
        """Inputs, the targets (N, H) in units of the series, and which of them were there."""
        window = self.inputs.at(self.rows, self.readouts[which, places], self.phases, which, places)
        return window, self.ahead(self.rows.z, which, places), self.ahead(self.known, which, places)

    def ahead(self, table: npt.NDArray[Any], which: IntArray, places: IntArray) -> npt.NDArray[Any]:
        """What a table (n, T) has in the columns (N, H) after the origins."""
        found = np.lib.stride_tricks.sliding_window_view(table, self.plan.horizon, axis=1)
        return found[which, places + 1]

    def kept(
        self,
        which: IntArray,
        places: IntArray,
        chosen: npt.NDArray[np.bool_],
        window: Window,
        paths: Smoothed,
        known: npt.NDArray[np.bool_],
        numbers: IntArray,
    ) -> Kept:
        """The chosen windows, to choose by; targets in the units of y."""
        F, last, size = (part[chosen] for part in window)
        targets = self.ahead(self.y, which[chosen], places[chosen])
        return Kept(F, last, size, *paths.of(chosen), targets, known[chosen], numbers[which[chosen]])
