"""One series made ready: gaps filled, put on a scale, its season found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: Below this share of correlation there is no season.
_LEAST_CORRELATION = 0.15
_LONGEST_SEASON = 800
_SMALL = 1e-12
_ROUNDS = 3


def fill(y: FloatArray, season: int) -> FloatArray:
    """Return y (T,) without gaps: the deviation from the mean season runs in straight lines across them.

    Before the first value and after the last the deviation is constant.
    """
    known = np.isfinite(y)
    if known.all():
        return y
    x = np.arange(len(y))
    line = np.interp(x, x[known], y[known])
    # Of few seasons the mean would tell what is still to come to the windows before it.
    if season == 1 or len(y) < 4 * season or known.sum() < 2 * season:
        return line
    phase = x % season
    whole = line
    # A moving average over one season is the level; better gaps give a better level.
    for _ in range(_ROUNDS):
        before, after = whole[:1].repeat(season // 2), whole[-1:].repeat(season - 1 - season // 2)
        level = np.convolve(np.concatenate([before, whole, after]), np.full(season, 1 / season), mode="valid")
        wave = _mean_season((y - level)[known], phase[known], season)[phase]
        whole = np.where(known, y, np.interp(x, x[known], (y - wave)[known]) + wave)
    return whole


def _mean_season(rest: FloatArray, phase: npt.NDArray[np.int64], season: int) -> FloatArray:
    """Mean deviations (season,) of deviations (n,) at phases (n,), each drawn to 0 by as much as it is noise.

    This is the empirical Bayes estimate of normal means: the variance of the noise is that within phases, and
    the variance of the season what the means vary more than noise explains.
    """
    count = np.bincount(phase, minlength=season)
    wave = np.bincount(phase, weights=rest, minlength=season) / np.maximum(count, 1)
    noise = float(((rest - wave[phase]) ** 2).sum()) / max(len(rest) - season, 1) / np.maximum(count, 0.5)
    wave -= wave.mean()
    real = max(float((wave**2).mean() - noise.mean()), 0.0)
    wave *= real / np.maximum(real + noise, 1e-300)
    return wave - wave.mean()


def step_size(z: FloatArray) -> float:
    """Mean absolute difference of neighbours: the unit that a series is measured in; 1 if it is constant."""
    way = float(np.abs(z[1:] - z[:-1]).sum())
    return unit_of(way / max(len(z) - 1, 1), max(float(z.max()), -float(z.min())))


def unit_of(step: float, largest: float) -> float:
    """The unit of a series from its mean step and its largest size."""
    return step if step > _SMALL * max(1.0, largest) else max(1.0, largest)


def find_season(series: Sequence[FloatArray], candidates: Sequence[int] = ()) -> int:
    """Return the number of samples per season of series (filled), 1 where there is none.

    It is the lag of the highest peak of the mean autocorrelation of the differences, or of ``candidates``
    that which has the highest, if any of those has more than the least that counts.
    """
    longest = max(map(len, series))
    reach = min(longest // 2 - 1, _LONGEST_SEASON)
    if reach < 2:
        return 1
    total, weight = np.zeros(reach + 2), 0.0
    for z in series[:500]:
        change = np.diff(z)
        change = change / max(float(np.abs(change).max(initial=0.0)), 1e-300)
        spread = float(change.std())
        if len(change) < 6 or spread < _SMALL:
            continue
        change = np.clip(change - np.median(change), -4 * spread, 4 * spread)
        correlation = _autocorrelation(change, reach + 2)
        total += len(change) * correlation
        weight += len(change)
    if weight == 0:
        return 1
    mean = total / weight
    least = max(_LEAST_CORRELATION, 2.5 / np.sqrt(weight))
    usable = [lag for lag in candidates if 2 <= lag <= reach]
    best = max(usable, key=lambda lag: mean[lag], default=0)
    # Where the calendar names it, a season need only be more than chance.
    if best and mean[best] > max(0.05, 3 / np.sqrt(weight)):
        return best
    # A slow wave has its highest correlation at once: a season shows after the first fall below nothing.
    fallen = np.flatnonzero(mean[1:] <= 0)
    lags = np.arange(max(2, int(fallen[0]) + 1 if len(fallen) else reach), reach + 1)
    peaks = lags[(mean[lags] > mean[lags - 1]) & (mean[lags] >= mean[lags + 1]) & (mean[lags] > least)]
    if len(peaks) == 0:
        return 1
    # A multiple of the season is as high up to noise; the shortest that comes near the best is the season.
    return int(peaks[mean[peaks] >= 0.85 * mean[peaks].max()][0])


def _autocorrelation(x: FloatArray, count: int) -> FloatArray:
    """Autocorrelation of centred x at lags 0 to count - 1, 0 beyond its length."""
    size = 1 << int(2 * len(x) - 1).bit_length()
    power = np.abs(np.fft.rfft(x - x.mean(), size)) ** 2
    found = np.fft.irfft(power, size)[: min(count, len(x))]
    # Each lag by the products that it has, so that a season of a third of the series is not put down.
    found = found / np.maximum(len(x) - np.arange(len(found)), 1)
    return np.pad(found / max(found[0], _SMALL), (0, count - len(found)))
