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


def tempered(error: npt.ArrayLike) -> Any:
    """The unit of errors, from the size of earlier errors, both in units of the mean step.

    It is the geometric mean of that size and the mean step. The former follows how volatile a series has
    become, but is small where a series is short, because the systems began with states that suit its start;
    the mean step is neither.
    """
    return np.sqrt(np.maximum(error, _LEAST_SPREAD))


class Errors(NamedTuple):
    """Size of the errors at each horizon (H,), in units of the spread, and pooled errors of both signs."""

    growth: FloatArray
    pooled: FloatArray

    @classmethod
    def of(cls, errors: FloatArray, known: npt.NDArray[np.bool_]) -> Errors:
        """Errors (N, H) in units of the spread, where known; a random walk's where there are too few."""
        horizon = errors.shape[1]
        walk = np.sqrt(np.arange(1, horizon + 1))
        if known.sum() < _FEW:
            normal = norm.ppf((np.arange(_GRID) + 0.5) / _GRID) * np.sqrt(np.pi / 2)
            return cls(1.25 * walk / walk.mean(), normal)
        count = known.sum(axis=0)
        size = np.where(known, np.abs(errors), 0.0).sum(axis=0)
        growth = _smoothed(size, count.astype(np.float64))
        # Held-out windows of one time err to one side together, and the next time may err to the other.
        pooled = (errors / growth)[known]
        pooled = np.sort(np.concatenate([pooled, -pooled]))
        if len(pooled) > _GRID:
            pooled = np.quantile(pooled, (np.arange(_GRID) + 0.5) / _GRID)
        return cls(growth, pooled)

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
