"""Features of series that go on: brought up to date with every sample.

A series moves on from instant to instant. What later samples can still change is *pending*: the values of a
channel between its latest value, which it keeps until the next one, and that one, to which it turns out to
have run in a straight line; and, where there are times, the latest sample, with which one of the same time
is averaged. The features are those of the *settled* part of the series and of the pending one after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tsssm.features._features import StateSpaceFeatures, finished
from tsssm.features._timeline import Course

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]


@dataclass
class Pooled:
    """What is kept of a series up to an instant.

    Attributes
    ----------
    x : array
        State of the systems.
    total : array (G, kinds, R)
        What is kept, summed over the steps so far, half of each step with the instants at its ends; doubled.
        The first step counts once more with its beginning.
    latest : array (G, kinds, R)
        What there is to keep of the instant itself.
    time : float
        Time that ``total`` stands for, doubled.
    step : float
        Latest step; that before the first instant does not count.
    instants : int
        0, 1, or 2 for more.
    """

    x: SingleArray
    total: FloatArray
    latest: SingleArray
    time: float = 0.0
    step: float = 0.0
    instants: int = 0

    def copy(self) -> Pooled:
        """The same, sharing no memory."""
        x, total, latest = self.x.copy(), self.total.copy(), self.latest.copy()
        return Pooled(x, total, latest, self.time, self.step, self.instants)


@dataclass
class Running:
    """Where a series stands.

    Attributes
    ----------
    settled, current : Pooled
        Up to the anchor; up to the latest sample. The same object where nothing is pending.
    start : float or None
        Time of the first sample.
    anchor : array (d,) or None
        Values at the last instant that is settled, and its tick.
    ticks, sums, counts : list of int, of array (d,), of array (d,)
        Ticks of the pending samples, and sum and number of the values of each channel at each of them.
    """

    settled: Pooled
    current: Pooled
    start: float | None = None
    anchor: FloatArray | None = None
    anchor_tick: int = 0
    ticks: list[int] = field(default_factory=list)
    sums: list[FloatArray] = field(default_factory=list)
    counts: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def copy(self) -> Running:
        """The same, sharing no memory that changes."""
        settled = self.settled.copy()
        current = settled if self.current is self.settled else self.current.copy()
        lists = (list(self.ticks), list(self.sums), list(self.counts))
        return Running(settled, current, self.start, self.anchor, self.anchor_tick, *lists)


class RunningFeatures:
    """The features of series after each of their samples.

    Parameters
    ----------
    features : StateSpaceFeatures
        Fitted.

    Raises
    ------
    ValueError
        If values, or slopes that count, are normalised series by series.

    Notes
    -----
    With each sample, what is pending is gone through: as a rule that is the sample alone. Where channels miss
    values, it is all samples since the last time up to which every channel is known.
    """

    def __init__(self, features: StateSpaceFeatures) -> None:
        from tsssm.ops.cpu.features import ResumedScan  # Numba is imported at the first call

        timeline = self._timeline = features.timeline
        self.n_channels = timeline.encoder.n_channels
        self.n_features_out = features.n_features_out
        slopes_count = bool(features._systems["mix_held"].any())
        if timeline.normalize == "series" or (timeline.normalize_slopes == "series" and slopes_count):
            auto = (
                ", as 'auto' does with the slopes of a single channel" if features.normalize == "auto" else ""
            )
            raise ValueError(
                f"the features were fitted with normalize={features.normalize!r}. What is divided by the "
                f"scale of its own series{auto}, changes from the first sample on with every later one, and "
                "cannot be brought up to date: fit with normalize='global' to stream."
            )
        parts = {**features._systems, **features._readouts, "thresholds": features._thresholds}
        self._competition = "competition" in features.pooling
        self._scan = ResumedScan(**parts, shares="ppv" in features.pooling, competition=self._competition)

    def start(self) -> Running:
        """A series before its first sample: its features are those of a series without values."""
        nothing = np.zeros(self._scan.shape, np.float32)
        pooled = Pooled(self._scan.initial_state(), nothing.astype(np.float64), nothing)
        return Running(pooled, pooled)

    def take(self, series: Running, values: npt.NDArray[np.floating], time: float, timed: bool) -> None:
        """Take the next sample (d,) of a series in, NaN where missing.

        ``time`` is in the unit of the training panel, and does not go back; if not ``timed`` it is the number
        of the sample.
        """
        seen = ~np.isnan(values)
        if not seen.any():
            return
        if series.start is None:
            series.start = time
        tick = self._timeline.tick(time - series.start)
        value = np.where(seen, values, 0.0).astype(np.float64)
        if series.ticks and tick == series.ticks[-1]:
            series.sums[-1] = series.sums[-1] + value
            series.counts[-1] = series.counts[-1] + seen
        else:
            if series.ticks and series.counts[-1].all():
                # Nothing but another sample at the same time could have changed what is pending.
                series.settled = series.current
                self._anchor(series, len(series.ticks), _means(series)[:, -1])
            series.ticks.append(tick)
            series.sums.append(value)
            series.counts.append(seen.astype(np.int64))
        self._bring_up_to_date(series, timed)

    def features(self, series: Running) -> SingleArray:
        """Return the features (n_features_out,) of a series."""
        pooled = series.current
        if pooled.instants == 0:
            pooled = pooled.copy()
            self._move(pooled, np.full((self.n_channels, 1), np.nan), np.zeros(1, np.int64))
        kept = pooled.latest.copy()
        if pooled.instants > 1:
            # The time after the latest instant counts as if the step before it were repeated.
            mean = (pooled.total + pooled.step * pooled.latest) / (pooled.time + pooled.step)
            kept = mean.astype(np.float32)
        return finished(kept, self._competition).reshape(-1)

    def _bring_up_to_date(self, series: Running, timed: bool) -> None:
        values = _means(series)
        seen = ~np.isnan(values)
        # With times, the latest sample may still be averaged with another one.
        final = seen[:, :-1] if timed else seen
        numbers = np.arange(1, final.shape[1] + 1)
        count = int(np.where(final, numbers, 0).max(axis=1, initial=0).min())
        ticks = np.array(series.ticks)
        if count:
            complete = self._completed(series, values, ticks, count)
            self._move(series.settled, *_after_anchor(series, complete, ticks[:count]))
            self._anchor(series, count, complete[:, -1])
        series.current = series.settled
        if series.ticks:
            series.current = series.settled.copy()
            self._move(series.current, *_after_anchor(series, values[:, count:], ticks[count:]))

    def _completed(
        self, series: Running, values: FloatArray, ticks: npt.NDArray[np.int64], count: int
    ) -> FloatArray:
        """The first pending samples with the values that are missing between two of a channel."""
        values, ticks = _after_anchor(series, values, ticks)
        first = values.shape[1] - len(series.ticks)
        complete = [np.interp(ticks, ticks[~np.isnan(row)], row[~np.isnan(row)]) for row in values]
        return np.stack(complete)[:, first : first + count]

    def _anchor(self, series: Running, count: int, values: FloatArray) -> None:
        """Settle the first pending samples, the last of which has complete values (d,)."""
        series.anchor, series.anchor_tick = values, series.ticks[count - 1]
        del series.ticks[:count], series.sums[:count], series.counts[:count]

    def _move(self, pooled: Pooled, values: FloatArray, ticks: npt.NDArray[np.int64]) -> None:
        """Move on from the first of some samples to the last; from before the first one at the start."""
        course = self._timeline.course(values, ticks)
        last = len(course.steps) - 1
        if pooled.instants == 0:
            pooled.latest = self._kept(pooled, course, 0, 0, np.ones(1), at_rest=True)
            pooled.instants = 1
        if last == 0:
            return
        steps = course.steps[1:]
        # The time before the first instant counts as if the step after it were repeated.
        repeats = 2 if pooled.instants == 1 else 1
        pooled.total += repeats * steps[0] * pooled.latest
        pooled.time += 2 * steps.sum() + (repeats - 1) * steps[0]
        if last > 1:
            pooled.total += self._kept(pooled, course, 1, last - 1, steps[:-1] + steps[1:])
        pooled.latest = self._kept(pooled, course, last, last, np.ones(1))
        pooled.step = float(steps[-1])
        pooled.total += pooled.step * pooled.latest
        pooled.instants = 2

    def _kept(
        self,
        pooled: Pooled,
        course: Course,
        first: int,
        last: int,
        weight: FloatArray,
        at_rest: bool = False,
    ) -> SingleArray:
        """What is kept of the instants from the first to the last, through which the systems go."""
        kept = np.zeros(self._scan.shape, np.float32)
        before = [] if at_rest else [0.0]
        part = slice(first - len(before), last + 1)
        values, slopes = (np.ascontiguousarray(each[:, part]) for each in course[:2])
        weights = np.append(before, weight).astype(np.float32)
        self._scan.advance(pooled.x, values, slopes, course.steps[part], weights, kept, at_rest)
        return kept


def _means(series: Running) -> FloatArray:
    """Values (d, n) of the pending samples, NaN where there is none."""
    count = np.array(series.counts)
    return np.where(count > 0, np.array(series.sums) / np.maximum(count, 1), np.nan).T


def _after_anchor(
    series: Running, values: FloatArray, ticks: npt.NDArray[np.int64]
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Values (d, n) and ticks of samples, and of the anchor before them."""
    if series.anchor is None:
        return values, ticks
    return np.column_stack([series.anchor, values]), np.append(series.anchor_tick, ticks)
