"""What the peers of the PhysioNet 2012 experiment see of a chart: transformers of its panel.

A chart is a panel as `tsssm.datasets.fetch_physionet2012` gives it, with 41 channels: age, gender, height and
type of unit, which are constant, then 37 variables, NaN where they were not measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from tsssm import Panel

N_STATIC = 4
HOURS = 48

Array = npt.NDArray[Any]


class Binned:
    """Means of each variable over spans of so many hours; spans without a measurement are left out.

    Parameters
    ----------
    hours : float
        Length of a span.
    """

    def __init__(self, hours: float = 1.0) -> None:
        self.hours = hours

    def transform(self, X: Panel) -> Panel:
        assert X.times is not None
        spans = int(np.ceil(HOURS / self.hours))
        # Both ends of the 48 hours are in them.
        span = np.minimum((X.times / self.hours).astype(np.int64), spans - 1)
        row = np.repeat(np.arange(len(X)), X.lengths) * spans + span
        filled, starts = np.unique(row, return_index=True)
        seen = ~np.isnan(X.values)
        counts = np.add.reduceat(seen, starts, axis=0, dtype=np.int64)
        sums = np.add.reduceat(np.where(seen, X.values, 0.0), starts, axis=0)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        offsets = np.searchsorted(filled // spans, np.arange(len(X) + 1))
        times = filled % spans * self.hours
        return Panel(means, offsets, times, ids=X.ids, time_unit=X.time_unit)


class Summaries(TransformerMixin, BaseEstimator):
    """The usual table: statistics of the measurements of each variable, beside the descriptors.

    Mean, smallest, largest, first and last value, count, standard deviation, and slope over time; NaN where
    there are none. Values are clipped to the 0.1 and 99.9 % quantiles of the training stays.

    Parameters
    ----------
    n_static : int
        Channels at the beginning that are constant.
    """

    def __init__(self, n_static: int = N_STATIC) -> None:
        self.n_static = n_static

    statistics = ("mean", "min", "max", "first", "last", "count", "std")

    def fit(self, X: Panel, y: Any = None) -> Summaries:
        self.limits_ = np.nanpercentile(X.values, [0.1, 99.9], axis=0)
        return self

    def transform(self, X: Panel) -> Array:
        assert X.times is not None
        values = np.clip(X.values.astype(np.float64), *self.limits_)
        row, variable = np.nonzero(~np.isnan(values[:, self.n_static :]))
        value, time = values[row, variable + self.n_static], X.times[row]
        stay = np.repeat(np.arange(len(X)), X.lengths)[row]
        table = pd.DataFrame({"value": value, "t": time, "tt": time**2, "tv": time * value})
        groups = table.groupby([stay, variable])
        summary = groups["value"].agg(list(self.statistics))
        mean = groups.mean()
        variance = mean["tt"] - mean["t"] ** 2
        covariance = mean["tv"] - mean["t"] * mean["value"]
        summary["slope"] = (covariance / variance).where(variance > 1e-9)
        every = pd.MultiIndex.from_product([range(len(X)), range(X.n_channels - self.n_static)])
        summary = summary.reindex(every)
        summary["count"] = summary["count"].fillna(0)
        return np.hstack([values[X.offsets[:-1], : self.n_static], summary.to_numpy().reshape(len(X), -1)])
