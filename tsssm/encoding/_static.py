"""Channels that say something of a series as a whole, such as the age of a patient.

Symbols and shapes: n series, d channels, s of them static, K knots.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsssm.encoding._channels import static_channels, static_values
from tsssm.encoding._scores import quantiles, scores_of
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_FEW_CATEGORIES = 10


class StaticScores:
    """Numbers of series from the values of their static channels.

    Of each channel there are its normal score, 0 where it is missing, and, if it has three to ten different
    values, all whole numbers, an indicator of each: categories are no numbers.

    Attributes
    ----------
    channels : array (s,)
        Which channels of a panel are static.
    knots : array (s, K)
        Quantiles of their values, as of `NormalScores`.
    categories : list of s arrays
        The values of each that have an indicator.
    n_outputs : int
    """

    channels: IntArray
    knots: FloatArray
    categories: list[FloatArray]
    n_outputs: int

    def fit(self, panel: Panel) -> StaticScores:
        """Find the static channels of a training panel, and what their values are like; returns self."""
        self.channels = np.flatnonzero(static_channels(panel))
        values = static_values(panel, self.channels)
        self.knots = (
            np.stack([quantiles(column[~np.isnan(column)]) for column in values.T], axis=0)
            if len(self.channels)
            else np.zeros((0, len(quantiles(np.zeros(1)))))
        )
        self.categories = [_categories(column) for column in values.T]
        self.n_outputs = len(self.channels) + sum(map(len, self.categories))
        return self

    def transform(self, panel: Panel) -> FloatArray:
        """Return the numbers (n, n_outputs) of the series of a panel."""
        return self.of_values(static_values(panel, self.channels))

    def of_values(self, values: FloatArray) -> FloatArray:
        """Return the numbers (n, n_outputs) that values (n, s), NaN where missing, stand for."""
        scores = [scores_of(column, knots) for column, knots in zip(values.T, self.knots, strict=True)]
        parts = [np.nan_to_num(np.stack(scores, axis=1)) if scores else np.zeros((len(values), 0))]
        parts += [column[:, None] == of for column, of in zip(values.T, self.categories, strict=True)]
        return np.concatenate(parts, axis=1, dtype=np.float64)

    def names(self, channels: list[str]) -> list[str]:
        """Return a name for each number, with those of the channels of a panel."""
        own = [channels[j] for j in self.channels]
        kinds = [
            f"{name}_is_{value:g}" for name, of in zip(own, self.categories, strict=True) for value in of
        ]
        return [f"{name}_value" for name in own] + kinds


def _categories(values: FloatArray) -> FloatArray:
    """Values of a static channel that are categories: three to ten different whole numbers, else none."""
    found = np.unique(values[~np.isnan(values)])
    whole = bool((found == np.rint(found)).all())
    return found if whole and 3 <= len(found) <= _FEW_CATEGORIES else found[:0]
