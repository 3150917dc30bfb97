"""Features of series that go on: brought up to date with every sample.

A series moves on from instant to instant. What later samples can still change is *pending*: the values of a
channel after its latest value, which it keeps until the next one, and to which it then turns out to have run;
where it is bent between samples, those on the way to its latest value, too; and, where there are times, the
latest sample, with which one of the same time is averaged. The features are those of the *settled* part of
the series and of the pending one after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tsssm.features._features import StateSpaceFeatures, finished
from tsssm.features._timeline import LONGEST_TICKS, Course

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
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
        Up to the latest settled sample; up to the latest sample. The same object where nothing is pending.
    start : float or None
        Time of the first sample, or of the one after the latest gap that is too long to be distinguished from
        others.
    base : int
        Ticks of that sample.
    latest : float
        Time of the latest sample.
    ticks, sums, counts : list of int, of array (d,), of array (d,)
        Ticks of the samples that are kept, which are those that are pending and the settled ones that their
        course depends on, and sum and number of the values of each channel at each of them.
    done : int
        How many of these are settled.
    """

    settled: Pooled
    current: Pooled
    start: float | None = None
    base: int = 0
    latest: float = 0.0
    ticks: list[int] = field(default_factory=list)
    sums: list[FloatArray] = field(default_factory=list)
    counts: list[IntArray] = field(default_factory=list)
    done: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it is made, but for the samples that are pending."""
        return *self.settled.x.shape, *self.settled.total.shape

    def copy(self) -> Running:
        """The same, sharing no memory that changes."""
        settled = self.settled.copy()
        current = settled if self.current is self.settled else self.current.copy()
        lists = (list(self.ticks), list(self.sums), list(self.counts))
        return Running(settled, current, self.start, self.base, self.latest, *lists, self.done)


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
    values, it is all samples since the last time up to which every channel is known; where they are bent and
    gaps are long, it is up to two samples more.
    """

    def __init__(self, features: StateSpaceFeatures) -> None:
        from tsssm.ops.cpu.features import ResumedScan  # Numba is imported at the first call

        timeline = self._timeline = features.timeline
        self.n_channels = timeline.encoder.n_channels
        self.n_features_out = features.n_features_out
        slopes_count = bool(features._systems["mix_held"].any())
        if timeline.normalize == "series" or (timeline.normalize_slopes == "series" and slopes_count):
            auto = " where there is one channel" if features.normalize == "auto" else ""
            raise ValueError(
                f"the features were fitted with normalize={features.normalize!r}, which divides by the scale "
                f"of the whole series{auto}. A stream does not know that scale: fit with normalize='global'."
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
            series.start = series.latest = time
        if self._timeline.is_long(time - series.latest):
            series.start, series.base = time, series.ticks[-1] + LONGEST_TICKS
        series.latest = time
        tick = series.base + self._timeline.tick(time - series.start)
        value = np.where(seen, values, 0.0).astype(np.float64)
        if series.ticks and tick == series.ticks[-1]:
            series.sums[-1] = series.sums[-1] + value
            series.counts[-1] = series.counts[-1] + seen
        else:
            if series.done < len(series.ticks):
                # The latest sample was pending for no other reason, perhaps, than that of its time.
                kept, ticks = _kept_samples(series)
                if self._timeline.settled(kept, ticks) == len(ticks):
                    series.settled = series.current
                    self._settle(series, kept, len(ticks))
            series.ticks.append(tick)
            series.sums.append(value)
            series.counts.append(seen.astype(np.int64))
        self._bring_up_to_date(series, timed)

    def features(self, series: Running) -> SingleArray:
        """Return the features (n_features_out,) of a series."""
        pooled = series.current
        if pooled.instants == 0:
            pooled = pooled.copy()
            nothing = np.full((self.n_channels, 1), np.nan)
            self._move(pooled, self._timeline.course(nothing, np.zeros(1, np.int64)), 0, 1)
        kept = pooled.latest.copy()
        if pooled.instants > 1:
            # The time after the latest instant counts as if the step before it were repeated.
            mean = (pooled.total + pooled.step * pooled.latest) / (pooled.time + pooled.step)
            kept = mean.astype(np.float32)
        return finished(kept, self._competition).reshape(-1)

    def _bring_up_to_date(self, series: Running, timed: bool) -> None:
        values, ticks = _kept_samples(series)
        # With times, the latest sample may still be averaged with another one.
        final = len(ticks) - 1 if timed else len(ticks)
        count = max(series.done, self._timeline.settled(values[:, :final], ticks[:final]))
        course = self._timeline.course(values, ticks)
        if count > series.done:
            self._move(series.settled, course, series.done, count)
            self._settle(series, values, count)
        series.current = series.settled
        if count < len(ticks):
            series.current = series.settled.copy()
            self._move(series.current, course, count, len(ticks))

    def _settle(self, series: Running, values: FloatArray, count: int) -> None:
        """Keep what is still needed of the samples (d, n) of which the first ``count`` are settled."""
        keep = np.ones(len(series.ticks), dtype=bool)
        keep[:count] = self._timeline.around(values[:, :count])
        rows = np.flatnonzero(keep).tolist()
        series.ticks = [series.ticks[i] for i in rows]
        series.sums = [series.sums[i] for i in rows]
        series.counts = [series.counts[i] for i in rows]
        series.done = int(keep[:count].sum())

    def _move(self, pooled: Pooled, course: Course, done: int, count: int) -> None:
        """Move on from the last of the first ``done`` samples, or from rest, to the last of ``count``."""
        values, slopes, steps, samples = course
        piece = slice(samples[max(done - 1, 0)], samples[count - 1] + 1)
        course = Course(values[:, piece], slopes[:, piece], steps[piece], samples)
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


def _kept_samples(series: Running) -> tuple[FloatArray, IntArray]:
    """Values (d, n), NaN where there is none, and ticks of the samples that are kept."""
    count = np.array(series.counts)
    values = np.where(count > 0, np.array(series.sums) / np.maximum(count, 1), np.nan).T
    return values, np.array(series.ticks)
