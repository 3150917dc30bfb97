"""A chart as a list of measurements: each variable an irregular series with times of its own.

Symbols and shapes: n series, d channels, m measurements, r runs, a run being the measurements of one channel
in one series::

    row, series, channel, time, value  (m,)   ordered by series, channel and time
    starts                             (r,)   first measurement of each run
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measurements:
    """The values of some channels of a panel that are not missing.

    Attributes
    ----------
    n_series, n_channels : int
    row : array (m,)
        Sample of the panel, counted over all series, that each measurement is of.
    series, channel, time, value : array (m,)
        In order of series, channel, and time.
    begin, end : array (n,)
        Time of the first and of the last sample of each series that has a value in any channel.
    starts : array (r,)
        First measurement of each run.
    """

    n_series: int
    n_channels: int
    row: IntArray
    series: IntArray
    channel: IntArray
    time: FloatArray
    value: FloatArray
    begin: FloatArray
    end: FloatArray
    starts: IntArray

    @classmethod
    def of(cls, panel: Panel, channels: IntArray, step: float = 1.0) -> Measurements:
        """The measurements of some channels of a panel.

        Without times, samples are ``step`` apart. Samples without any value do not count.
        """
        times = _times(panel, step)
        of_series = np.repeat(np.arange(len(panel)), panel.lengths)
        seen: npt.NDArray[np.bool_] = ~np.isnan(panel.values)
        begin, end = _extent(times, np.asarray(seen.any(axis=1)), panel.offsets)
        row, column = np.nonzero(seen[:, channels])
        # Stable: measurements at one time stay in the order of their samples.
        order = np.argsort(of_series[row] * len(channels) + column, kind="stable")
        row, column = row[order], column[order]
        series = of_series[row]
        key = series * len(channels) + column
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        value = panel.values[row, channels[column]].astype(np.float64)
        return cls(len(panel), len(channels), row, series, column, times[row], value, begin, end, starts)

    def rows_of_channels(self) -> list[IntArray]:
        """Which measurements are of each channel."""
        order = np.argsort(self.channel, kind="stable")
        return np.split(order, np.searchsorted(self.channel[order], np.arange(1, self.n_channels)))

    def by_channel(self) -> list[FloatArray]:
        """Values of each channel."""
        return [self.value[rows] for rows in self.rows_of_channels()]

    def table(self, of_runs: FloatArray, missing: float = np.nan) -> FloatArray:
        """Numbers (r,) of the runs as a table (n, d), with ``missing`` where there are no measurements."""
        table = np.full((self.n_series, self.n_channels), missing)
        table[self.series[self.starts], self.channel[self.starts]] = of_runs
        return table


def _times(panel: Panel, step: float) -> FloatArray:
    """Times (total,) of the samples, those on a grid from 0 on in each series."""
    if panel.times is not None:
        return panel.times
    first = np.repeat(panel.offsets[:-1], panel.lengths)
    return (np.arange(len(panel.values)) - first).astype(np.float64) * step


def _extent(times: FloatArray, counts: npt.NDArray[np.bool_], offsets: IntArray) -> tuple[FloatArray, ...]:
    """First and last time (n,) of the samples that count, of all samples of a series where none does."""
    starts = offsets[:-1]
    none = ~np.logical_or.reduceat(counts, starts)
    counts = counts | np.repeat(none, np.diff(offsets))
    begin = np.minimum.reduceat(np.where(counts, times, np.inf), starts)
    return begin, np.maximum.reduceat(np.where(counts, times, -np.inf), starts)
