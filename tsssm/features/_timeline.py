"""Series as piecewise linear functions of time, and the instants at which they are looked at.

Each channel runs through those samples that hold a value of it, from one to the next as ``_interpolation``
says, and is constant before the first and after the last, so that a value that is missing is a gap of its
channel and nothing else. The instants are the samples and, between samples that are more than a unit apart,
others no more than a unit apart: what is averaged over them with the time that they stand for changes little
with the sampling. Between instants, channels are linear.

Symbols and shapes: n series, d channels, ``total`` instants::

    values    (d, total)   normalised channels
    slopes    (d, total)   their slopes over the step that leads to an instant, normalised likewise
    steps     (K,)         distinct steps, in units
    which     (total,)     which of them leads to each instant
    weight    (total,)     share of the series' time that an instant stands for
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.encoding import LARGEST_VALUE, LONGEST_GAP, PanelEncoder, limited
from tsssm.features._interpolation import bend_of, interpolated, left_out
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Times are rounded to so many parts of a unit, which leaves few distinct steps; closer samples are averaged.
_TICKS = 64
# A gap is looked at no more often than this, however long it is.
_MOST_STEPS = 64
#: A longer gap counts as this one. With so many ticks a gap, all series of a part fit into 64 bits.
LONGEST_TICKS = int(LONGEST_GAP) * _TICKS
# The unit of irregular times: a short gap, but not so short that the instants are many times the samples.
_SHORT_GAP = 0.1
_MOST_INSTANTS = 8
# A shorter unit would overflow as a divisor of times, which are no larger than 1e200.
_LEAST_UNIT = 1e-100
# Series are worked on together that have so many instants, and fewer where there are more channels than this.
_INSTANTS = 2**18
_FEW_CHANNELS = 8
# Where values are not normalised: the largest mean in standard deviations, and the range of sizes that stay.
_LARGEST_OFFSET = 1e4
_SIZES = (1e-4, 1e12)
# So many samples, of series that are evenly spaced in the panel, tell how far channels are bent.
_BEND_SAMPLES = 2**20


class Sampled(NamedTuple):
    """Some series at their instants; shapes as above, ``offsets`` (n + 1,)."""

    values: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    offsets: IntArray
    steps: FloatArray
    which: IntArray


class Course(NamedTuple):
    """A piece of one series at its m instants: values and slopes (d, m), and the step (m,) to each of them.

    ``samples`` (n,) says which instants are the samples.
    """

    values: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float32]
    steps: FloatArray
    samples: IntArray


class Timeline:
    """Turns panels into functions of time, with units and scales learned from the training panel.

    Parameters
    ----------
    normalize : {"series", "global"} or None
        "series": every channel of every series has mean 0 and variance 1 over its time. "global": mean and
        scale of the training panel are removed. None leaves the values, except for a mean that is more than
        10^4 standard deviations, which is removed, and for a power of two where all channels are smaller than
        10^-4 or larger than 10^12: float32 could not hold them.
    normalize_slopes : {"series", "global"}
        Whether the slopes of every series, or those of the training panel together, have mean square 1.

    Attributes
    ----------
    unit : float
        The unit of time, in the unit of the training panel's times; samples if it had none.
    resolution : float
        Mean time between the samples of the training panel, in units: 1 on a regular grid.
    duration : float
        Median duration of the training series in units, the first sample counted as one.
    bend : array (d,)
        How far channels are bent from straight lines between samples, 0 to 1: as far as it helps to predict
        samples of the training panel from their neighbours.
    slope_scale : array (d,)
        Root mean square of the slopes of the training panel.
    """

    def __init__(self, normalize: str | None, normalize_slopes: str) -> None:
        self.normalize, self.normalize_slopes = normalize, normalize_slopes

    def fit(self, panel: Panel, scale: str = "auto") -> Timeline:
        """Learn units and scales from the training panel; returns self."""
        self.encoder = PanelEncoder(scale=scale).fit(panel)
        self._mean, self._std = self.encoder.mean, self.encoder.std
        if self.normalize is None:
            self._mean, self._std = _as_they_are(self._mean, self._std)
        gaps = panel.drop_missing_rows().gaps()
        gaps = gaps[gaps > 0]
        mean_gap = float(gaps.mean()) if gaps.size else 1.0
        self.unit = 1.0
        if panel.has_times and gaps.size:
            self.unit = max(float(np.quantile(gaps, _SHORT_GAP)), mean_gap / _MOST_INSTANTS, _LEAST_UNIT)
        self.resolution = max(1.0, mean_gap / self.unit)
        some = panel[:: -(-len(panel.values) // _BEND_SAMPLES)]
        told = [left_out(*self._samples(some[part])[:3]) for part in self.parts(some)]
        self.bend = bend_of(np.sum(told, axis=0))
        self.slope_scale = np.ones(panel.n_channels)
        durations, squares, time = [], np.zeros(panel.n_channels), 0.0
        for part in self.parts(panel):
            sampled = self.sample(panel[part])
            lasting = np.add.reduceat(sampled.steps[sampled.which], sampled.offsets[:-1])
            durations.append(lasting)
            spread = np.repeat(lasting, np.diff(sampled.offsets)) * sampled.weight
            squares += np.square(sampled.slopes, dtype=np.float64) @ spread
            time += lasting.sum()
        self.duration = float(np.median(np.concatenate(durations)))
        self.slope_scale = np.where(squares > 0, np.sqrt(squares / time), 1.0)
        return self

    def parts(self, panel: Panel) -> list[slice]:
        """Consecutive series of about `_INSTANTS` together, of fewer where there are many channels."""
        size = panel.lengths.astype(np.float64)
        panel = self.encoder.in_training_unit(panel)
        if panel.times is not None:
            lasting = panel.times[panel.offsets[1:] - 1] - panel.times[panel.offsets[:-1]]
            size = np.minimum(size * _MOST_STEPS, size + lasting / self.unit)
        before = np.cumsum(size) - size
        cut = np.flatnonzero(np.diff(before * max(panel.n_channels / _FEW_CHANNELS, 1.0) // _INSTANTS)) + 1
        bounds = [0, *cut.tolist(), len(panel)]
        return [slice(first, last) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]

    def sample(self, panel: Panel) -> Sampled:
        """Return the series of a panel at their instants.

        Raises
        ------
        ValueError
            If the units of the panel's times and of the training panel's cannot be compared.
        """
        values, ticks, offsets, step = self._samples(panel)
        if step is None:
            values, offsets, steps = _refined(values, ticks, offsets, self.bend)
        else:
            steps = np.full(len(ticks), step)
            if np.isnan(values).any():
                values = interpolated(values, ticks, offsets, ticks, offsets, self.bend)
        weight = _shares(steps, offsets)
        values = self._normalised(values, weight, offsets)
        climbs = _climbs(values, steps, offsets)
        if self.normalize_slopes == "series":
            scale = _or_one(np.sqrt(_sums(climbs**2 * weight, offsets)))
            climbs /= np.repeat(scale, np.diff(offsets), axis=1)
        else:
            climbs /= self.slope_scale[:, None]
        climbs = limited(climbs)
        distinct, which = np.unique(steps, return_inverse=True)
        return Sampled(_single(values), _single(climbs), _single(weight), offsets, distinct, which)

    def _samples(self, panel: Panel) -> tuple[FloatArray, IntArray, IntArray, float | None]:
        """Values (d, total), ticks and offsets of samples; without times their numbers, and the step."""
        panel = self.encoder.in_training_unit(panel)
        # A panel without times lies on the regular grid of the training panel.
        grid = 1.0 if panel.has_times else self.encoder.step * self.encoder.time_scale_
        per_time = grid / self.unit
        panel = self.encoder.without_errors(panel).drop_missing_rows()
        values, offsets = panel.values.T.astype(np.float64), panel.offsets
        if self.normalize != "series":
            centre, reach = self.encoder.mean[:, None], LARGEST_VALUE * self.encoder.std[:, None]
            values = limited(values, centre - reach, centre + reach)
        if panel.times is None:
            return values, np.arange(len(panel.values)), offsets, per_time
        return *_merged(values, _ticks_of(panel.times, offsets, per_time), offsets), None

    def tick(self, since: float) -> int:
        """Return a time, of no longer than `is_long` says, in the training panel's unit in ticks."""
        return int(_ticks(np.array(since), 1.0 / self.unit))

    def is_long(self, gap: float) -> bool:
        """Whether a gap, in the training panel's unit, is too long to be distinguished from longer ones."""
        return gap * (1.0 / self.unit * _TICKS) > LONGEST_TICKS

    def course(self, values: FloatArray, ticks: IntArray) -> Course:
        """Return a piece of one series at its instants, the first of which is its first sample.

        What is normalised by series in `sample` is by the training panel here, as nothing else is known.

        Parameters
        ----------
        values : array (d, n)
            Samples in the order of their ticks, NaN where missing.
        ticks : array (n,)
            Increasing.
        """
        values, offsets, steps = _refined(values, ticks, np.array([0, len(ticks)]), self.bend)
        values = self._standardised(values)
        climbs = limited(_climbs(values, steps, offsets) / self.slope_scale[:, None])
        # The step to the first of the instants is one unit.
        since_first = (np.cumsum(steps) - steps[0]) * _TICKS
        samples = np.searchsorted(since_first, ticks - ticks[0])
        return Course(_single(values), _single(climbs), steps, samples)

    def settled(self, values: FloatArray, ticks: IntArray) -> int:
        """Return how many samples of a series, as in `course`, later ones have no influence on.

        Neither on them nor on any instant before them, that is.
        """
        counts = []
        for row, bend in zip(values, self.bend, strict=True):
            seen = np.flatnonzero(~np.isnan(row))
            count = int(seen[-1]) + 1 if len(seen) else 0
            # The curve that leads to a sample depends on the next one.
            if bend > 0 and len(seen) > 1:
                before = int(seen[-2])
                if count - 1 - before > 1 or ticks[count - 1] - ticks[before] > _TICKS:
                    count = before + 1
            counts.append(count)
        return min(counts)

    def around(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which of some samples (d, n) the course after the last of them depends on, shape (n,)."""
        seen = ~np.isnan(values)
        later = np.cumsum(seen[:, ::-1], axis=1)[:, ::-1]
        needed = np.where(self.bend > 0, 2, 1)[:, None]
        last = np.arange(values.shape[1]) == values.shape[1] - 1
        return (seen & (later <= needed)).any(axis=0) | last

    def _normalised(self, values: FloatArray, weight: FloatArray, offsets: IntArray) -> FloatArray:
        """Normalise values (d, total); a channel without values in a series becomes zero."""
        if self.normalize != "series":
            return self._standardised(values)
        lengths = np.diff(offsets)
        values = np.nan_to_num(values)
        values = values - np.repeat(_sums(values * weight, offsets), lengths, axis=1)
        starts = offsets[:-1]
        varies = np.maximum.reduceat(values, starts, axis=1) > np.minimum.reduceat(values, starts, axis=1)
        std = np.where(varies, np.sqrt(_sums(values**2 * weight, offsets)), 0.0)
        return values / np.repeat(_or_one(std), lengths, axis=1)

    def _standardised(self, values: FloatArray) -> FloatArray:
        return np.nan_to_num((values - self._mean[:, None]) / self._std[:, None])


def _as_they_are(mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is taken from values that are not normalised, and what they are divided by; (d,) each.

    Zero and one, unless float32 would not hold them: a mean of many standard deviations is taken from its
    channel, and channels that are all very large or very small are divided by one power of two.
    """
    offset = np.where(np.abs(mean) > _LARGEST_OFFSET * std, mean, 0.0)
    size = float(np.sqrt((mean - offset) ** 2 + std**2).max())
    scale = 1.0 if _SIZES[0] <= size <= _SIZES[1] else 2.0 ** round(np.log2(size))
    return offset, np.full_like(std, scale)


def joined(parts: list[Sampled]) -> Sampled:
    """The series of all parts, one after another."""
    if len(parts) == 1:
        return parts[0]
    steps, which = np.unique(np.concatenate([one.steps[one.which] for one in parts]), return_inverse=True)
    starts = np.cumsum([0, *(one.offsets[-1] for one in parts)])
    ends = [one.offsets[1:] + start for one, start in zip(parts, starts[:-1], strict=True)]
    values, slopes = (np.concatenate([one[k] for one in parts], axis=1) for k in range(2))
    weight = np.concatenate([one.weight for one in parts])
    return Sampled(values, slopes, weight, np.concatenate([[0], *ends]), steps, which)


def _ticks(since: FloatArray, per_time: float) -> IntArray:
    return np.rint(since * (per_time * _TICKS)).astype(np.int64)


def _ticks_of(times: FloatArray, offsets: IntArray, per_time: float) -> IntArray:
    """Ticks (total,) of samples since the first one of their series; a gap has at most `LONGEST_TICKS`."""
    starts = offsets[:-1]
    long = np.diff(times, prepend=times[0]) * (per_time * _TICKS) > LONGEST_TICKS
    long[starts] = False
    begins = long.copy()
    begins[starts] = True
    rows = np.flatnonzero(begins)
    # Counted from the first sample, or from the one after the latest gap that is too long.
    ticks = _ticks(times - np.repeat(times[rows], np.diff(rows, append=len(times))), per_time)
    if not long.any():
        return ticks
    before = np.append(0, ticks[rows[1:] - 1] + LONGEST_TICKS)
    before[np.searchsorted(rows, starts)] = 0
    before = np.cumsum(before)
    of_series = before[np.searchsorted(rows, starts)]
    return (
        ticks + np.repeat(before, np.diff(rows, append=len(times))) - np.repeat(of_series, np.diff(offsets))
    )


def _climbs(values: FloatArray, steps: FloatArray, offsets: IntArray) -> FloatArray:
    """Slopes (d, total) over the step that leads to an instant, zero at the first one of a series."""
    climbs = np.diff(values, axis=1, prepend=0.0) / steps
    climbs[:, offsets[:-1]] = 0.0
    return climbs


def _merged(values: FloatArray, ticks: IntArray, offsets: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    """Average the samples of a series that have the same time."""
    starts = np.ones(len(ticks), dtype=bool)
    starts[1:] = np.diff(ticks) > 0
    starts[offsets[:-1]] = True
    if starts.all():
        return values, ticks, offsets
    rows = np.flatnonzero(starts)
    seen = ~np.isnan(values)
    count = np.add.reduceat(seen, rows, axis=1, dtype=np.int64)
    total = np.add.reduceat(np.where(seen, values, 0.0), rows, axis=1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean, ticks[rows], np.searchsorted(rows, offsets)


def _refined(
    values: FloatArray, ticks: IntArray, offsets: IntArray, bend: FloatArray
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Values at the samples and at instants between them, and the steps in units that lead to each."""
    gaps = np.diff(ticks, prepend=0)
    gaps[offsets[:-1]] = 0
    pieces = np.clip(-(-gaps // _TICKS), 1, _MOST_STEPS)
    ends = np.cumsum(pieces)
    sample = np.repeat(np.arange(len(ticks)), pieces)
    piece = np.arange(ends[-1]) - (ends - pieces)[sample] + 1
    instants = ticks[sample] - gaps[sample] + gaps[sample] * piece // pieces[sample]
    refined = np.concatenate([[0], ends[offsets[1:] - 1]])
    # Nothing is known of the time before the first sample: one unit, as on a regular grid.
    taken = np.diff(instants, prepend=0)
    taken[refined[:-1]] = _TICKS
    if len(instants) > len(ticks) or np.isnan(values).any():
        values = interpolated(values, ticks, offsets, instants, refined, bend)
    return values, refined, taken / _TICKS


def _shares(steps: FloatArray, offsets: IntArray) -> FloatArray:
    """Half of the steps on both sides of each instant, as a share of the series' time.

    The ends of a series count as if the last step next to them were repeated, so that on a regular grid all
    shares are equal.
    """
    starts, ends = offsets[:-1], offsets[1:] - 1
    several = ends > starts
    before = steps.copy()
    before[starts[several]] = steps[starts[several] + 1]
    after = np.append(steps[1:], 0.0)
    after[ends] = before[ends]
    time = before + after
    return time / np.repeat(np.add.reduceat(time, starts), np.diff(offsets))


def _sums(values: FloatArray, offsets: IntArray) -> FloatArray:
    """Sums (d, n) over each series."""
    return np.add.reduceat(values, offsets[:-1], axis=1)


def _single(values: FloatArray) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _or_one(scale: FloatArray) -> FloatArray:
    return np.where(scale > 0, scale, 1.0)
