"""What a model has seen of the size of values and gaps, and which of later data lie far from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.encoding._encoded import pieces
from tsssm.encoding._errors import beyond, error_limits
from tsssm.panel import Panel, warn_of_data
from tsssm.panel._checks import UNITS
from tsssm.persistence import Fields, register

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A value is far from those of training if it lies this many times their range beyond it, and a gap if it is
# this many times as long as the longest, or if all are this many times shorter than is usual. A temperature
# in degrees Fahrenheit lies ten ranges above those of patients in Celsius; a new patient, or another rate of
# sampling, does not come near.
_RANGES = 5.0
_GAPS = 20.0
# So few values, or gaps, say nothing about what is usual.
_LEAST_VALUES, _LEAST_GAPS = 20, 10
# An array (n, channels, length) with so many channels for so few samples has most likely been given as
# (n, length, channels).
_MOST_SAMPLES = 16
_CHANNELS_A_SAMPLE = 4


class Sizes(NamedTuple):
    """Number of values of each channel, the least and the largest (NaN without any), (d,); positive gaps."""

    seen: IntArray
    low: FloatArray
    high: FloatArray
    gaps: FloatArray


@dataclass(frozen=True)
class Familiar:
    """Sizes of the values and gaps of training series.

    Parameters
    ----------
    count : array (d,), int64
        Number of values of each channel.
    low, high : array (d,)
        Least and largest of them; 0 if there are none.
    usual, longest : float
        Median and longest of the positive gaps; 0 without times, or without such a gap.
    unit : str or None
        Unit of the gaps.
    """

    count: IntArray
    low: FloatArray
    high: FloatArray
    usual: float
    longest: float
    unit: str | None

    @classmethod
    def of(cls, panel: Panel) -> Familiar:
        """Learn what a panel shows, without the values that no measurement has (`PanelEncoder`)."""
        count, low, high, gaps = _sizes(panel)
        limits = error_limits(panel, np.stack([low, high]))
        if beyond(np.stack([low, high]), limits).any():
            count, low, high, gaps = _sizes(panel, limits)
        usual, longest = (float(np.median(gaps)), float(gaps.max())) if len(gaps) else (0.0, 0.0)
        return cls(
            count,
            np.where(count > 0, low, 0.0),
            np.where(count > 0, high, 0.0),
            usual,
            longest,
            panel.time_unit,
        )

    def with_more(self, panel: Panel) -> Familiar:
        """Return what this and another panel show together; the usual gap stays that of the first."""
        count, low, high, gaps = self._sizes_of(panel)
        low = np.fmin(np.where(self.count > 0, self.low, np.nan), low)
        high = np.fmax(np.where(self.count > 0, self.high, np.nan), high)
        longest = max(self.longest, gaps.max(initial=0.0)) if self.longest else 0.0
        count = count + self.count
        low, high = np.where(count > 0, low, 0.0), np.where(count > 0, high, 0.0)
        return Familiar(count, low, high, self.usual, float(longest), self.unit)

    def compare(self, panel: Panel) -> None:
        """Warn of values and gaps that are far from these."""
        seen, low, high, gaps = self._sizes_of(panel)
        self._compare_values(panel, seen, low, high)
        if self.longest:
            self._compare_gaps(gaps)

    def _sizes_of(self, panel: Panel) -> Sizes:
        """Sizes of another panel, with gaps in this unit; no gaps if they cannot be compared."""
        if panel.time_unit is not None and self.unit is not None:
            panel = panel.convert_times(self.unit)
        sizes = _sizes(panel)
        return sizes if panel.time_unit == self.unit else sizes._replace(gaps=sizes.gaps[:0])

    def _compare_values(self, panel: Panel, seen: IntArray, low: FloatArray, high: FloatArray) -> None:
        width = self.high - self.low
        width = np.where(width > 0, width, np.maximum(np.abs(self.high), 1.0))
        width = np.where(self.count >= _LEAST_VALUES, width, np.nan)
        least, most = self.low - _RANGES * width, self.high + _RANGES * width
        far = (low < least) | (high > most)
        if not far.any():
            return
        factor = np.where(far, np.fmax(self.low - low, high - self.high) / width, 0.0)
        j = int(np.argmax(factor))
        beyond = sum(
            int(np.count_nonzero((piece.values[:, j] < least[j]) | (piece.values[:, j] > most[j])))
            for piece in pieces(panel)
        )
        channel = j if panel.channel_names is None else panel.channel_names[j]
        others = np.count_nonzero(far) - 1
        which = f"channel {channel!r}{f', and some of {others} other(s),' if others else ''}"
        warn_of_data(
            f"X has values far from those of training: {beyond} of the {seen[j]} of {which} lie outside "
            f"{self.low[j]:.6g} to {self.high[j]:.6g}, by up to {factor[j]:.3g} times this range. Are they "
            "in the same unit?"
        )

    def _compare_gaps(self, gaps: FloatArray) -> None:
        if not len(gaps):
            return
        unit, largest = "" if self.unit is None else f" {self.unit}", gaps.max()
        long = np.count_nonzero(gaps > _GAPS * self.longest)
        if long:
            times = f"up to {largest / self.longest:.3g} times as long as the longest gap in training"
            told = f"{long} of {len(gaps)} are {times}, {self.longest:.6g}{unit}"
        elif len(gaps) >= _LEAST_GAPS and largest * _GAPS < self.usual:
            times = f"less than {1 / _GAPS:g} times the median gap in training"
            told = f"all {len(gaps)} are {times}, {self.usual:.6g}{unit}"
        else:
            return
        warn_of_data(
            f"X has gaps between samples far from those of training: {told}. Are its times in the same unit?"
        )


def tell_of_training(panel: Panel, X: Any, familiar: Familiar) -> None:
    """Warn of a training panel that may not be what was meant."""
    empty = np.flatnonzero(familiar.count == 0).tolist()
    if empty and len(empty) < panel.n_channels:
        names = empty if panel.channel_names is None else [panel.channel_names[j] for j in empty]
        many = f"{len(names)} channels without any value: {names[:5]!r}{' and more' * (len(names) > 5)}"
        one = f"no value in channel {names[0]!r}"
        warn_of_data(f"X has {one if len(names) == 1 else many}; nothing can be learned from such a channel.")
    d, longest = panel.n_channels, panel.max_length
    cube = not isinstance(X, Panel) and getattr(X, "ndim", 0) == 3
    if cube and longest <= _MOST_SAMPLES and d >= _CHANNELS_A_SAMPLE * longest:
        warn_of_data(
            f"X has shape {tuple(X.shape)}: {d} channels of {longest} sample(s) each. Its axes are (series, "
            "channels, samples); if it is (series, samples, channels), pass X.transpose(0, 2, 1). If the "
            "order is right, pass Panel.from_numpy(X)."
        )


def _sizes(panel: Panel, limits: FloatArray | None = None) -> Sizes:
    """Sizes of what lies within limits, in one pass: a memory-mapped panel is read from its file."""
    d = panel.n_channels
    count, low, high = np.zeros(d, dtype=np.int64), np.full(d, np.nan), np.full(d, np.nan)
    gaps = [np.empty(0)]
    for piece in pieces(panel):
        values = piece.values
        if limits is not None:
            values = np.where(beyond(values, limits), np.nan, values)
        if len(values):
            count += len(values) - np.count_nonzero(np.isnan(values), axis=0)
            low = np.fmin(low, np.fmin.reduce(values, axis=0))
            high = np.fmax(high, np.fmax.reduce(values, axis=0))
        if panel.has_times:
            between = piece.gaps()
            gaps.append(between[between > 0])
    return Sizes(count, low, high, np.concatenate(gaps))


@register(
    "Familiar",
    Familiar,
    {
        "count": "array (d,) of int64: number of values of each channel in training",
        "low": "array (d,): the least of them, 0 without any",
        "high": "array (d,): the largest",
        "usual": "median of the positive gaps between samples, 0 without times",
        "longest": "the longest of them",
        "unit": "unit of the gaps, or null",
    },
)
def _familiar(fields: Fields) -> Familiar:
    count = fields.array("count", (None,), "int64", 0)
    familiar = Familiar(
        count,
        fields.array("low", count.shape, "float64"),
        fields.array("high", count.shape, "float64"),
        fields.number("usual", 0.0),
        fields.number("longest", 0.0),
        fields.choice("unit", (None, *UNITS)),
    )
    if (familiar.low > familiar.high).any() or familiar.usual > familiar.longest:
        raise fields.refuse("low", "no larger than high, and usual no larger than longest", familiar.low)
    return familiar
