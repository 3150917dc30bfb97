"""What the models of the PhysioNet 2012 experiment see of a chart: transformers of its panel.

A chart is a panel as `tsssm.datasets.fetch_physionet2012` gives it, with 41 channels: age, gender, height and
type of unit, which are constant, then 37 variables, NaN where they were not measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import QuantileTransformer

from tsssm import Panel

N_STATIC, UNIT_TYPE, UNIT_TYPES = 4, 3, (1, 2, 3, 4)
N_DESCRIPTORS = N_STATIC - 1 + len(UNIT_TYPES)
HOURS = 48
_LARGEST_SCORE = 3.0

Array = npt.NDArray[Any]


def with_values(panel: Panel, values: Array) -> Panel:
    """The panel with other channels at the same times."""
    return Panel(values, panel.offsets, panel.times, ids=panel.ids, time_unit=panel.time_unit)


class _PerStay(TransformerMixin, BaseEstimator):
    """A transformer that learns nothing."""

    def fit(self, X: Panel, y: Any = None) -> _PerStay:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class NormalScores(TransformerMixin, BaseEstimator):
    """Replace values by normal scores of their ranks among the training values, and the unit by indicators.

    Skewed laboratory values and errors of charting then need no rules of their own. The descriptors are 7
    channels in place of 4.
    """

    def fit(self, X: Panel, y: Any = None) -> NormalScores:
        quantiles = min(1000, len(X.values))
        ranks = QuantileTransformer(n_quantiles=quantiles, output_distribution="normal", subsample=None)
        self.ranks_ = ranks.fit(X.values)
        return self

    def transform(self, X: Panel) -> Panel:
        scores = np.clip(self.ranks_.transform(X.values), -_LARGEST_SCORE, _LARGEST_SCORE)
        unit = X.values[:, [UNIT_TYPE]] == UNIT_TYPES
        return with_values(X, np.hstack([scores[:, :UNIT_TYPE], unit, scores[:, N_STATIC:]]))


class Binned(_PerStay):
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


class Carried(_PerStay):
    """Carry the last score of each variable on, 0 (the median) before the first, and add what was measured.

    7 descriptors, 37 scores, and 37 channels that are 1 where the variable was measured.
    """

    def transform(self, X: Panel) -> Panel:
        scores = X.values[:, N_DESCRIPTORS:]
        seen, rows = ~np.isnan(scores), np.arange(len(scores))[:, None]
        latest = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)
        known = latest >= np.repeat(X.offsets[:-1], X.lengths)[:, None]
        carried = np.where(known, np.take_along_axis(scores, np.maximum(latest, 0), axis=0), 0.0)
        return with_values(X, np.hstack([np.nan_to_num(X.values[:, :N_DESCRIPTORS]), carried, seen]))


class States(_PerStay):
    r"""States of fixed scalar systems that read the measurements of each variable, at the end of the chart.

    .. math:: \dot x = -x / \tau + \sum_k \delta(t - t_k)\, f(z_k), \qquad
        x(T) = \sum_k e^{-(T - t_k) / \tau} f(z_k),

    the diagonal system of S4D with one real mode, in closed form at the times of the measurements t_k, for
    some time constants and some functions f of the score z. The features are the state for f = 1, which says
    how much was measured, and for the others its ratio to that: recent mean and standard deviation, soft
    extremes (the logarithm of the state for :math:`e^{\pm 8 z}`), the share of scores beyond four levels,
    and how far each recent mean is from that of the whole stay. With an infinite time constant they are plain
    statistics of the stay.

    NaN where a variable was never measured.
    """

    constants = (6.0, 24.0, np.inf)  # hours
    levels = (-1.7, -1.0, 1.0, 1.7)
    sharpness = (-8.0, 8.0)

    def transform(self, X: Panel) -> Array:
        assert X.times is not None
        starts, scores = X.offsets[:-1], X.values[:, N_DESCRIPTORS:].astype(np.float64)
        seen = ~np.isnan(scores)
        z = np.where(seen, scores, 0.0)
        features, means = [X.values[starts, :N_DESCRIPTORS].astype(np.float64)], []
        measured = np.maximum.reduceat(seen, starts)
        for constant in self.constants:
            memory = np.exp((X.times - HOURS) / constant)[:, None] * seen

            def state(f: Array, memory: Array = memory) -> Array:
                return np.where(measured, np.add.reduceat(memory * f, starts), np.nan)

            count = state(np.ones_like(z))
            mean = state(z) / count
            variance = state(z**2) / count - mean**2
            means.append(mean)
            features += [np.log(np.nan_to_num(count) + 0.01), mean, np.sqrt(np.maximum(variance, 0.0))]
            features += [state(z > level) / count for level in self.levels]
            features += [np.log(state(np.exp(sharp * z))) / sharp for sharp in self.sharpness]
        features += [mean - means[-1] for mean in means[:-1]]
        return np.hstack(features)


class Summaries(TransformerMixin, BaseEstimator):
    """The usual table: statistics of the measurements of each variable, beside the descriptors.

    Mean, smallest, largest, first and last value, count, standard deviation, and slope over time; NaN where
    there are none. Values are clipped to the 0.1 and 99.9 % quantiles of the training stays.
    """

    statistics = ("mean", "min", "max", "first", "last", "count", "std")

    def fit(self, X: Panel, y: Any = None) -> Summaries:
        self.limits_ = np.nanpercentile(X.values, [0.1, 99.9], axis=0)
        return self

    def transform(self, X: Panel) -> Array:
        assert X.times is not None
        values = np.clip(X.values.astype(np.float64), *self.limits_)
        row, variable = np.nonzero(~np.isnan(values[:, N_STATIC:]))
        value, time = values[row, variable + N_STATIC], X.times[row]
        stay = np.repeat(np.arange(len(X)), X.lengths)[row]
        table = pd.DataFrame({"value": value, "t": time, "tt": time**2, "tv": time * value})
        groups = table.groupby([stay, variable])
        summary = groups["value"].agg(list(self.statistics))
        mean = groups.mean()
        variance = mean["tt"] - mean["t"] ** 2
        covariance = mean["tv"] - mean["t"] * mean["value"]
        summary["slope"] = (covariance / variance).where(variance > 1e-9)
        every = pd.MultiIndex.from_product([range(len(X)), range(X.n_channels - N_STATIC)])
        summary = summary.reindex(every)
        summary["count"] = summary["count"].fillna(0)
        return np.hstack([values[X.offsets[:-1], :N_STATIC], summary.to_numpy().reshape(len(X), -1)])
