"""Intervals from the errors of forecasts of windows that the model was not fitted to.

Errors are divided by a spread of their series and by the mean size at their horizon; what is left is pooled,
and its quantiles, in these units, are those of every forecast (split conformal prediction with a normalised
score: Lei et al., JASA 2018, section 5.2). Exchangeable errors are covered at least at the nominal level.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

FloatArray = npt.NDArray[np.float64]

_GRID = 1001
_FEW = 10
_LEAST_SPREAD = 1e-3
#: The geometric mean of the mean step and earlier errors.
POWER = 0.5
_POWERS = (POWER, 0.0, 0.25, 0.75, 1.0)
_FEWEST, _NOTHING = 20, 1e-2


def tempered(error: npt.ArrayLike, power: float) -> Any:
    """The unit of errors, from the size of earlier errors, both in units of the mean step.

    It lies between that size (power 1) and the mean step (0). The former follows how volatile a series has
    become, but is small where a series is short, because the systems began with states that suit its start;
    the mean step is neither.
    """
    return np.maximum(error, _LEAST_SPREAD) ** power


def evenest(size: FloatArray, error: FloatArray, owner: npt.NDArray[np.int64]) -> float:
    """The power with which errors of mean size (N,) vary least in units that earlier errors (N,) give.

    It is that of the smallest standard deviation of the logarithm, in which errors next to nothing count as
    a hundredth of the median; the geometric mean where there are few series, whose numbers are ``owner``
    (N,), because windows of one are nearly the same.
    """
    there = size > 0
    if len(np.unique(owner[there])) < _FEWEST:
        return POWER
    spreads = []
    for power in _POWERS:
        scaled = size[there] / tempered(error[there], power)
        spreads.append(float(np.log(np.maximum(scaled, _NOTHING * np.median(scaled))).std()))
    return _POWERS[int(np.argmin(spreads))]


class Errors(NamedTuple):
    """Size of the errors at each horizon (H,), in units of the spread, and pooled errors of both signs.

    ``power`` says how the spread follows earlier errors.
    """

    growth: FloatArray
    pooled: FloatArray
    power: float = POWER

    @classmethod
    def of(cls, errors: FloatArray, known: npt.NDArray[np.bool_], power: float = POWER) -> Errors:
        """Errors (N, H) in units of the spread, where known; a random walk's where there are too few."""
        horizon = errors.shape[1]
        walk = np.sqrt(np.arange(1, horizon + 1))
        if known.sum() < _FEW:
            normal = norm.ppf((np.arange(_GRID) + 0.5) / _GRID) * np.sqrt(np.pi / 2)
            return cls(1.25 * walk / walk.mean(), normal, power)
        count = known.sum(axis=0)
        size = np.where(known, np.abs(errors), 0.0).sum(axis=0)
        growth = _smoothed(size, count.astype(np.float64))
        # Held-out windows of one time err to one side together, and the next time may err to the other.
        pooled = (errors / growth)[known]
        pooled = np.sort(np.concatenate([pooled, -pooled]))
        if len(pooled) > _GRID:
            pooled = np.quantile(pooled, (np.arange(_GRID) + 0.5) / _GRID)
        return cls(growth, pooled, power)

    def quantiles(self, levels: FloatArray, horizon: int) -> FloatArray:
        """Quantiles (horizon, Q) of an error, in units of the spread."""
        n = len(self.pooled)
        # The rank of a new error among n is uniform over n + 1 places: quantiles move outwards by that, up to
        # the largest and smallest error seen.
        place = np.clip(levels * (n + 1) - 1, 0, n - 1)
        found = np.interp(place, np.arange(n), self.pooled)
        size = self.growth
        if horizon > len(size):
            later = np.arange(len(size) + 1, horizon + 1) / len(size)
            size = np.concatenate([size, size[-1] * np.sqrt(later)])
        return size[:horizon, None] * found


def _smoothed(size: FloatArray, count: FloatArray) -> FloatArray:
    """Mean sizes that do not fall with the horizon by more than a moving average of them does."""
    width = max(1, len(size) // 8)
    window = np.ones(2 * width + 1)
    total, number = (np.convolve(x, window, mode="full")[width:-width] for x in (size, count))
    overall = size.sum() / max(count.sum(), 1.0)
    mean = np.where(number > 0, total / np.maximum(number, 1.0), overall)
    return np.maximum(mean, 1e-9 + 0.02 * overall)
