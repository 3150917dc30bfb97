"""Scales that survive charts: values as normal scores of their ranks among the training values.

Symbols and shapes: d channels, K knots::

    knots  (d, K)   quantiles of the training values of each channel, increasing; zeros without any
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from tsssm.encoding._measurements import Measurements

FloatArray = npt.NDArray[np.float64]

_KNOTS = 513
#: No score is larger: what is beyond the training values, or among the most extreme, is clipped.
LARGEST_SCORE = 3.0


class NormalScores:
    """Replaces values by normal scores of their ranks among the training values of their channel.

    A skewed laboratory value or an error of charting then needs no rule of its own. The score is the standard
    normal quantile of the share of training values below, of values between two of them by linear
    interpolation, clipped to -3 and 3; equal values have the middle of their shares.

    Attributes
    ----------
    knots : array (d, K)
        Quantiles of each channel.
    """

    knots: FloatArray

    def fit(self, measured: Measurements) -> NormalScores:
        """Learn the quantiles of each channel; returns self."""
        self.knots = np.stack([quantiles(values) for values in measured.by_channel()])
        return self

    def transform(self, measured: Measurements) -> FloatArray:
        """Return the scores (m,) of m measurements; 0 in a channel that training never saw."""
        scores = np.zeros(len(measured.value))
        for knots, rows in zip(self.knots, measured.rows_of_channels(), strict=True):
            scores[rows] = scores_of(measured.value[rows], knots)
        return scores


def quantiles(values: FloatArray) -> FloatArray:
    """Quantiles (K,) of values (m,); of no values, zeros."""
    if len(values) == 0:
        return np.zeros(_KNOTS)
    # Between equal values interpolation can fall by a rounding; knots have to rise.
    return np.maximum.accumulate(np.quantile(values, np.linspace(0.0, 1.0, _KNOTS)))


def scores_of(values: FloatArray, knots: FloatArray) -> FloatArray:
    """Normal scores of values (m,) by the quantiles (K,) of a channel; 0 where all of those are equal."""
    if knots[0] == knots[-1]:
        return np.zeros(len(values))
    levels = np.linspace(0.0, 1.0, len(knots))
    # From both sides: of equal knots one finds the first and the other the last.
    share = (np.interp(values, knots, levels) - np.interp(-values, -knots[::-1], -levels[::-1])) / 2
    return np.clip(ndtri(share), -LARGEST_SCORE, LARGEST_SCORE)
