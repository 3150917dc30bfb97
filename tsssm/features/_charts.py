r"""Closed-form features of charts: the states of fixed scalar systems that run for each variable at its own
times.

Symbols and shapes: n series, c channels that vary, r runs of measurements, one for each channel that a series
has values of, K time constants, S statistics::

    z        (m,)          normal scores of the measurements
    moments  (r, K, 9)     states of the systems at the last measurement of their channel
    facts    (r, S)        numbers of each run that the features are made of
    table    (n, c, F)     the features of the channels, NaN where a channel was never measured

A measurement :math:`z_k` of a channel at :math:`t_k` enters the scalar systems

.. math:: \dot x = -x / \tau + \sum_k \delta(t - t_k)\, f(z_k), \qquad
    x(T) = \sum_k e^{-(T - t_k) / \tau} f(z_k),

the diagonal system of S4D with one real mode, in closed form at the times of the measurements, for some time
constants and some functions f. Each moves by the gaps of its own channel; the work is in proportion to the
measurements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tsssm.encoding import Measurements, NormalScores, PanelEncoder, StaticScores, unlimited
from tsssm.ops import clock_scan
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]

#: Time constants, in durations of a typical series.
CONSTANTS = (0.125, 0.5, np.inf)
_LEVELS = np.array([-1.7, -1.0, 1.0, 1.7])
_SHARPNESS = np.array([-8.0, 8.0])
#: Functions f of a score: 1, z, its square, whether it is above levels, and exponentials for soft extremes.
N_MOMENTS = 3 + len(_LEVELS) + len(_SHARPNESS)
_EXTREMES = slice(3 + len(_LEVELS), None)
_FEATURES = (
    *(f"{name}{k}" for k in range(len(CONSTANTS)) for name in ("count", "mean", "std")),
    *(f"above{level}_{k}" for k in range(len(CONSTANTS)) for level in range(len(_LEVELS))),
    *(f"soft{end}_{k}" for k in range(len(CONSTANTS)) for end in ("min", "max")),
    *(f"change{k}" for k in range(len(CONSTANTS) - 1)),
    *("first", "last", "min", "max", "since", "slope"),
)
# Statistics of a channel that are cut into ramps for dense networks.
_IN_RAMPS = ("count2", "mean0", "mean2", "std2", "first", "last", "min", "max", "since", "slope")
# A count of less than this is none.
_LEAST_COUNT = 0.01
_LARGEST = 4.0
LONGEST = 1e6
_SLOPE_PULL = (2.0 / 48.0) ** 2
_CPU = torch.device("cpu")


class Facts(NamedTuple):
    """What is known of runs of measurements, times in typical durations since the series began.

    Attributes
    ----------
    moments : array (r, K, 9)
    first, last, low, high : array (r,)
        Scores.
    time : array (r,)
        Of the last measurement.
    sums : array (r, 4)
        Sums over the measurements of t, t^2, z and t z.
    """

    moments: FloatArray
    first: FloatArray
    last: FloatArray
    low: FloatArray
    high: FloatArray
    time: FloatArray
    sums: FloatArray


def functions_of(z: FloatArray) -> FloatArray:
    """The functions f of scores (m,), shape (m, 9)."""
    powers = np.stack([np.ones_like(z), z, z**2], axis=1)
    return np.concatenate([powers, z[:, None] > _LEVELS, np.exp(z[:, None] * _SHARPNESS)], axis=1)


def duration_of(end: FloatArray) -> FloatArray:
    """The feature (n, 1) of series that end at ``end`` (n,), in typical durations since they began."""
    return np.log1p(48.0 * end)[:, None]


def features_of(facts: Facts, end: FloatArray) -> FloatArray:
    """Features (r, F) of runs whose series ends at ``end`` (r,)."""
    age = np.maximum(end - facts.time, 0.0)[:, None]
    count = facts.moments[..., 0]
    # The states at the end; all of one time constant are smaller by the same factor.
    present = count * np.exp(-age / np.array(CONSTANTS))
    share = facts.moments / count[..., None]
    mean = share[..., 1]
    std = np.sqrt(np.maximum(share[..., 2] - mean**2, 0.0))
    soft = (np.log(facts.moments[..., _EXTREMES]) - (age / np.array(CONSTANTS))[..., None]) / _SHARPNESS
    t, tt, total, tz = facts.sums.T
    n = count[:, -1]
    spread = tt / n - (t / n) ** 2
    slope = (tz / n - t * total / n**2) / (np.maximum(spread, 0.0) + _SLOPE_PULL)
    rows = len(count)
    recent = np.stack([np.log(present + _LEAST_COUNT), mean, std], axis=2).reshape(rows, -1)
    shares = share[..., 3 : _EXTREMES.start].reshape(rows, -1)
    change = mean[:, :-1] - mean[:, -1:]
    rest = [facts.first, facts.last, facts.low, facts.high, np.log1p(48.0 * age[:, 0]), slope]
    return np.concatenate([recent, shares, soft.reshape(rows, -1), change, np.stack(rest, axis=1)], axis=1)


class ChartFeatures:
    """Features of charts: recent and overall statistics of each variable, how often and when it was measured.

    Of every channel that varies, in normal scores of the training values, and for three time constants (an
    eighth and half of the duration of a typical series, and an infinite one): how much was measured, mean and
    standard deviation, the share of values above four levels, and soft extremes. Besides how far the recent
    means are from that of the whole, the first and the last value, the smallest and the largest, the time
    since the last, and the slope over time. Of static channels there are the score and indicators of
    categories, and of the series its duration. All are standardised by the training panel, clipped at four
    standard deviations, and multiplied by the share of the training series that have them: a linear model
    with a penalty then relies less on features that are seldom known. Where a channel was never measured,
    they are zero, except for how much was measured.

    Nothing is drawn at random, and there are as many features as follow from the channels.

    Attributes
    ----------
    encoder : PanelEncoder
        What is known of the training panel.
    scores : NormalScores
    static : StaticScores
    channels : array (c,)
        Which channels vary.
    duration : float
        Of a typical series, in the unit of the training panel's times.
    mean, scale, share : array (n_features_out,)
    n_features_out : int

    References
    ----------
    S4D: arXiv 2206.11893. Recency-weighted statistics of clinical variables: Che et al., arXiv 1606.01865,
    carry values on that decay to the mean.
    """

    def fit(self, panel: Panel) -> ChartFeatures:
        """Learn scores, scales and the unit of time from a training panel; returns self."""
        self.encoder = PanelEncoder().fit(panel)
        # Scores have limits of their own.
        self.encoder.limits = unlimited(panel.n_channels)
        self.static = StaticScores().fit(panel)
        self.channels = np.setdiff1d(np.arange(panel.n_channels), self.static.channels)
        measured = self._measurements(panel)
        self.scores = NormalScores().fit(measured)
        lasting = measured.end - measured.begin
        self.duration = float(np.median(lasting)) or float(lasting.max()) or 1.0
        self.n_features_out = self.count()
        raw = self._raw(panel)
        count = np.count_nonzero(~np.isnan(raw), axis=0)
        self.share, known = count / len(raw), np.maximum(count, 1)
        self.mean = np.nansum(raw, axis=0) / known
        square = np.nansum((raw - self.mean) ** 2, axis=0) / known
        self.scale = np.where(square > 1e-12 * np.maximum(self.mean**2, 1e-12), np.sqrt(square), 1.0)
        return self

    def transform(
        self, panel: Panel, n_threads: int = 1, device: torch.device = _CPU
    ) -> npt.NDArray[np.float32]:
        """Return the features (n, n_features_out) of the series of a panel, float32.

        They do not depend on the other series. NumPy computes them, whatever the device.
        """
        return self.standardised(self._raw(panel))

    def standardised(self, raw: FloatArray) -> npt.NDArray[np.float32]:
        """Return features in the units of the training panel, 0 where there are none."""
        features = np.clip((raw - self.mean) / self.scale, -_LARGEST, _LARGEST)
        return np.nan_to_num(self.share * features).astype(np.float32)

    def variables(self) -> npt.NDArray[np.int64]:
        """Return the number of the channel that each feature is of, -1 for what holds of a series."""
        own = np.repeat(np.arange(len(self.channels)), len(_FEATURES))
        return np.concatenate([own, np.full(self.count() - len(own), -1)])

    def in_ramps(self) -> npt.NDArray[np.int64]:
        """Return which features networks read in ramps: some of each channel, and all of the others."""
        own = [_FEATURES.index(name) for name in _IN_RAMPS]
        kept = np.add.outer(len(_FEATURES) * np.arange(len(self.channels)), np.sort(own)).reshape(-1)
        rest = np.arange(len(_FEATURES) * len(self.channels), self.count())
        return np.concatenate([kept, rest])

    def names(self) -> list[str]:
        """Return a name for each feature."""
        channels = [f"channel{j}" for j in range(self.encoder.n_channels)]
        varying = [f"{channels[j]}_{name}" for j in self.channels for name in _FEATURES]
        return [*varying, *self.static.names(channels), "duration"]

    def origins(self) -> list[tuple[int | None, str]]:
        """Return the channel that each feature is of, None for the duration, and what it says of it."""
        varying = [(int(j), name) for j in self.channels for name in _FEATURES]
        static = [(int(j), "value") for j in self.static.channels]
        static += [
            (int(j), f"is_{value:g}")
            for j, found in zip(self.static.channels, self.static.categories, strict=True)
            for value in found
        ]
        return [*varying, *static, (None, "duration")]

    def count(self) -> int:
        """Number of features that follow from the channels."""
        return len(_FEATURES) * len(self.channels) + self.static.n_outputs + 1

    @property
    def grid(self) -> float:
        """Time between the samples of a panel without times, in the unit of the training panel's times."""
        return self.encoder.step * self.encoder.time_scale_

    def missing_features(self) -> FloatArray:
        """Features (F,) of a channel without measurements: it was measured 0 times."""
        none = np.full(len(_FEATURES), np.nan)
        none[[_FEATURES.index(f"count{k}") for k in range(len(CONSTANTS))]] = np.log(_LEAST_COUNT)
        return none

    def _measurements(self, panel: Panel) -> Measurements:
        panel = self.encoder.in_training_unit(panel)
        return Measurements.of(panel, self.channels, self.grid)

    def _raw(self, panel: Panel) -> FloatArray:
        """Features (n, n_features_out) before standardisation, NaN where there is nothing to tell."""
        measured = self._measurements(panel)
        z = self.scores.transform(measured)
        since = np.minimum((measured.time - measured.begin[measured.series]) / self.duration, LONGEST)
        last = np.minimum((measured.end - measured.begin) / self.duration, LONGEST)
        table = np.tile(self.missing_features(), (len(panel), len(self.channels), 1))
        if len(z):
            runs = measured.series[measured.starts], measured.channel[measured.starts]
            table[runs] = features_of(_facts(z, since, measured.starts), last[runs[0]])
        rest = [self.static.transform(panel), duration_of(last)]
        return np.concatenate([table.reshape(len(panel), -1), *rest], axis=1)


def _facts(z: FloatArray, t: FloatArray, starts: npt.NDArray[np.int64]) -> Facts:
    """Facts of the runs that begin at ``starts`` (r,), of scores and times (m,)."""
    ends = np.append(starts[1:], len(z)) - 1
    rates = torch.from_numpy(np.tile(1 / np.array(CONSTANTS), (len(starts), 1)))
    offsets = torch.from_numpy(np.append(starts, len(z)).astype(np.int64))
    inputs = torch.from_numpy(functions_of(z)), torch.from_numpy(np.diff(t, prepend=0.0))
    moments = clock_scan(*inputs, offsets, rates, last=True).numpy()
    sums = np.add.reduceat(np.stack([t, t**2, z, t * z], axis=1), starts, axis=0)
    low, high = np.minimum.reduceat(z, starts), np.maximum.reduceat(z, starts)
    return Facts(moments, z[starts], z[ends], low, high, t[ends], sums)
