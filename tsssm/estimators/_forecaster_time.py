"""From the index of a series to places on a regular grid, and back to an index where forecasts are due."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]

# Samples per season that calendars make likely, by the seconds between samples.
_SEASONS = (
    (1.0, (60, 3600)),
    (60.0, (1440, 60)),
    (600.0, (144,)),
    (900.0, (96,)),
    (1800.0, (48,)),
    (3600.0, (24, 168)),
    (86400.0, (7,)),
    (7 * 86400.0, (52,)),
    (30.4 * 86400.0, (12,)),
    (91.3 * 86400.0, (4,)),
)
_MOST_CELLS = 50
_MOST_MISSING = 5.0  # half of the gaps may be so many steps long
_ON_THE_GRID = 1e-3
_LOCAL_DAY = 22 * 3600 * 10**9


class Clock(NamedTuple):
    """How an index becomes a place: a number of grid steps since ``origin``.

    Attributes
    ----------
    kind : {"integer", "period", "datetime", "timedelta"}
    freq : str or None
        Of periods, and of dates on a calendar; None where steps have a fixed length.
    origin : int
        Of integers and periods a number, of dates nanoseconds since 1970 (in UTC where there is a zone).
    step : float
        Length of a grid step, in integers, or in nanoseconds; about that where ``freq`` is given.
    wall : bool
        Whether dates with a time zone are read as the clock on the wall shows them, as days and longer steps
        are; shorter steps are the time that passed.
    """

    kind: str
    freq: str | None
    origin: int
    step: float
    wall: bool

    @classmethod
    def of(cls, index: pd.Index, freq: str | None) -> Clock:
        """Read a clock off the index of the longest series; ``freq`` is that of its dates, if known."""
        kind = kind_of(index)
        numbers = _numbers(index)
        if kind == "period":
            return cls(kind, index.freqstr, int(numbers[0]), 1.0, False)
        wall = bool(kind == "datetime" and grid_step(numbers) >= _LOCAL_DAY)
        numbers = _numbers(index, wall)
        step = grid_step(numbers)
        if kind == "datetime" and freq is not None and not _has_fixed_length(freq):
            return cls(kind, freq, int(numbers[0]), step, wall)
        return cls(kind, None, int(numbers[0]), step, wall)

    def places(self, index: pd.Index) -> FloatArray:
        """Places of stamps, in grid steps since the origin; whole on the grid."""
        if kind_of(index) != self.kind:
            raise TypeError(
                f"The time index must be of the kind that it was in fit, {self.kind}; got {kind_of(index)}."
            )
        numbers = _numbers(index, self.wall)
        if self.freq is None or self.kind == "period":
            return (numbers - self.origin) / self.step
        return self._on_calendar(numbers)

    def _on_calendar(self, numbers: npt.NDArray[np.int64]) -> FloatArray:
        """Places of dates on a calendar of unequal steps, in between by the share of the step."""
        offset = pd.tseries.frequencies.to_offset(self.freq)
        first, last = min(int(numbers.min()), self.origin), max(int(numbers.max()), self.origin)
        start, end = pd.Timestamp(first), pd.Timestamp(last)
        ticks = _numbers(pd.date_range(start - 2 * offset, end + 2 * offset, freq=offset))
        where = np.interp(numbers, ticks, np.arange(len(ticks)))
        return where - np.interp(self.origin, ticks, np.arange(len(ticks)))

    def ahead(self, relative: pd.Index) -> FloatArray:
        """Grid steps of relative stamps: numbers of them, or time differences."""
        if isinstance(relative, pd.TimedeltaIndex):
            return _numbers(relative) / self.step
        steps = np.asarray(relative, dtype=np.float64)
        return steps / self.step if self.kind == "integer" else steps

    def seasons(self) -> tuple[int, ...]:
        """Samples per season that a calendar makes likely."""
        if self.kind in ("integer", "timedelta"):
            return ()
        if self.kind == "period":
            span = pd.period_range("2001-01-01", periods=13, freq=self.freq)
            seconds = float((span[-1].start_time - span[0].start_time).total_seconds()) / 12
        else:
            seconds = self.step / 1e9
        return next((found for unit, found in _SEASONS if abs(seconds / unit - 1) < 0.06), ())


def kind_of(index: pd.Index) -> str:
    """Name of the kind of an index of times."""
    if isinstance(index, pd.PeriodIndex):
        return "period"
    if isinstance(index, pd.DatetimeIndex):
        return "datetime"
    if isinstance(index, pd.TimedeltaIndex):
        return "timedelta"
    if pd.api.types.is_integer_dtype(index.dtype):
        return "integer"
    raise TypeError(
        f"The index must hold integers, dates, periods or time differences; got dtype {index.dtype}."
    )


def _has_fixed_length(freq: str) -> bool:
    """Whether steps are a fixed time, unlike months, quarters and working days."""
    offset = pd.tseries.frequencies.to_offset(freq)
    return isinstance(offset, (pd.offsets.Tick, pd.offsets.Day, pd.offsets.Week))


def _numbers(index: pd.Index, wall: bool = False) -> npt.NDArray[np.int64]:
    if isinstance(index, pd.PeriodIndex):
        # Ordinals count in units of the base frequency, a multiple of which is one step.
        return np.asarray(index.asi8 // index.freq.n, dtype=np.int64)
    if wall and isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        index = index.tz_localize(None)
    if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        return np.asarray(index.as_unit("ns").asi8, dtype=np.int64)
    return np.asarray(index, dtype=np.int64)


def grid_step(numbers: npt.NDArray[Any]) -> float:
    """Length of a grid step: what all gaps are multiples of, or the median gap if most cells were empty."""
    gaps = np.diff(np.asarray(numbers, dtype=np.float64))
    gaps = gaps[gaps > 0]
    if len(gaps) == 0:
        return 1.0
    shortest, usual = float(gaps.min()), float(np.median(gaps))
    ratio = gaps / shortest
    if np.abs(ratio - np.round(ratio)).max() < 0.02 and usual <= _MOST_MISSING * shortest:
        return shortest
    whole = np.round(gaps).astype(np.int64)
    common = math.gcd(*whole.tolist()) if np.allclose(gaps, whole) else 0
    if common and usual <= _MOST_MISSING * common:
        return float(common)
    return usual


def to_grid(places: FloatArray, values: FloatArray, name: str) -> tuple[int, FloatArray, FloatArray]:
    """Return the number of the first cell, the values (T, channels) of all cells, and shifts (T,).

    A sample belongs to the nearest cell; several in one are averaged; a cell without is NaN. The shift of a
    cell is how long after it its samples are, on average, in grid steps.

    Raises
    ------
    ValueError
        If nearly all cells would be empty.
    """
    cells = np.round(places - places[-1]).astype(np.int64)
    first = int(np.floor(places[-1] + 0.5)) + int(cells[0])
    length = int(-cells[0]) + 1
    if length > _MOST_CELLS * len(cells) + 1000:
        raise ValueError(
            f"{name} has {len(cells)} samples on a grid of {length} steps, because its gaps differ too much "
            "for one grid; leave out what lies far from the rest, or aggregate it to a regular grid."
        )
    rows = cells - cells[0]
    late = places - (first + rows)
    late[np.abs(late) < _ON_THE_GRID] = 0.0
    if length == len(rows) and (np.diff(rows) == 1).all():
        return first, values, late
    known = np.isfinite(values)
    total, count = np.zeros((length, values.shape[1])), np.zeros((length, values.shape[1]))
    np.add.at(total, rows, np.where(known, values, 0.0))
    np.add.at(count, rows, known)
    samples = np.bincount(rows, minlength=length)
    shift = np.bincount(rows, weights=late, minlength=length) / np.maximum(samples, 1)
    with np.errstate(invalid="ignore"):
        return first, np.where(count > 0, total / np.maximum(count, 1), np.nan), shift
