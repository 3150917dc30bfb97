"""Features of charts that go on: brought up to date with every sample."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tsssm.encoding import scores_of
from tsssm.features._charts import (
    CONSTANTS,
    LONGEST,
    N_MOMENTS,
    ChartFeatures,
    Facts,
    duration_of,
    features_of,
    functions_of,
)

FloatArray = npt.NDArray[np.float64]


@dataclass
class RunningChart:
    """Where a series stands, its channels with times of their own.

    Attributes
    ----------
    moments : array (c, K, 9)
        States of the systems of each channel at its last measurement.
    first, last, low, high : array (c,)
        Scores.
    time : array (c,)
        Of the last measurement, in typical durations since the series began.
    sums : array (c, 4)
        As in `Facts`.
    measured : array (c,)
        Whether a channel was.
    static : array (s,)
        Values of the static channels, NaN as long as they are not known.
    span : array (2,)
        Time of the first and of the latest sample that has a value; NaN before.
    """

    moments: FloatArray
    first: FloatArray
    last: FloatArray
    low: FloatArray
    high: FloatArray
    time: FloatArray
    sums: FloatArray
    measured: npt.NDArray[np.bool_]
    static: FloatArray
    span: FloatArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it is made."""
        return *self.moments.shape, *self.static.shape

    def copy(self) -> RunningChart:
        """The same, sharing no memory."""
        return RunningChart(*(getattr(self, field.name).copy() for field in fields(self)))


class RunningCharts:
    """The features of charts after each of their samples.

    Parameters
    ----------
    features : ChartFeatures
        Fitted.
    """

    def __init__(self, features: ChartFeatures) -> None:
        self._features = features
        self.n_channels = features.encoder.n_channels
        self.n_features_out = features.n_features_out

    def start(self) -> RunningChart:
        """A series before its first sample: its features are those of a series without values."""
        c, s = len(self._features.channels), len(self._features.static.channels)
        first, last, low, high, time = np.zeros((5, c))
        return RunningChart(
            np.zeros((c, len(CONSTANTS), N_MOMENTS)),
            first,
            last,
            low,
            high,
            time,
            np.zeros((c, 4)),
            np.zeros(c, dtype=bool),
            np.full(s, np.nan),
            np.full(2, np.nan),
        )

    def take(self, series: RunningChart, values: npt.NDArray[np.floating], time: float, timed: bool) -> None:
        """Take the next sample (d,) of a series in, NaN where missing; as of `RunningFeatures`."""
        seen = ~np.isnan(values)
        if not seen.any():
            return
        features = self._features
        now = time if timed else time * features.grid
        if np.isnan(series.span[0]):
            series.span[0] = now
        series.span[1] = now
        static = values[features.static.channels].astype(np.float64)
        series.static = np.where(np.isnan(series.static), static, series.static)
        rows = np.flatnonzero(seen[features.channels])
        if len(rows) == 0:
            return
        own = values[features.channels[rows]].astype(np.float64)
        knots = features.scores.knots[rows]
        z = np.array([scores_of(one, row)[0] for one, row in zip(own[:, None], knots, strict=True)])
        t = self._since_start(series)
        decay = np.exp(-(t - series.time[rows])[:, None] / np.array(CONSTANTS))
        series.moments[rows] = series.moments[rows] * decay[..., None] + functions_of(z)[:, None]
        new = rows[~series.measured[rows]]
        series.last[rows] = z
        series.first[new], series.low[new], series.high[new] = (series.last[new] for _ in range(3))
        series.low[rows] = np.minimum(series.low[rows], z)
        series.high[rows] = np.maximum(series.high[rows], z)
        series.time[rows] = t
        series.sums[rows] += np.stack([np.full_like(z, t), np.full_like(z, t**2), z, t * z], axis=1)
        series.measured[rows] = True

    def features(self, series: RunningChart) -> npt.NDArray[np.float32]:
        """Return the features (n_features_out,) of a series."""
        known = series.measured
        table = np.tile(self._features.missing_features(), (len(known), 1))
        if known.any():
            parts = (getattr(series, name)[known] for name in Facts._fields)
            end = np.full(np.count_nonzero(known), self._since_start(series))
            table[known] = features_of(Facts(*parts), end)
        static = self._features.static.of_values(series.static[None])[0]
        begun = not np.isnan(series.span[0])
        duration = duration_of(np.array([self._since_start(series) if begun else 0.0]))[0]
        return self._features.standardised(np.concatenate([table.reshape(-1), static, duration])[None])[0]

    def _since_start(self, series: RunningChart) -> float:
        begin, latest = series.span
        return float(min((latest - begin) / self._features.duration, LONGEST))
