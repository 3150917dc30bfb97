r"""Features cut into ramps: where a value lies between the quantiles of the training values.

Symbols and shapes: n series, F features, G ramps, each of one feature x and from one quantile to the next::

    ramp = min(max((x - low) / width, 0), 1)

(piecewise-linear encoding: Gorishniy, Rubachev, Babenko, *On embeddings for numerical features in tabular
deep learning*, arXiv 2203.05556). A network then needs one weight to see that a risk begins at some level, or
two that it is high at both ends, for which trees need splits and a linear model has no means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Ramps of a feature; and series that must have it.
_RAMPS, _LEAST = 8, 20
# Series at a time, so that what is in between takes some tens of megabytes.
_ROWS = 1024


class Ramps(NamedTuple):
    """Ramps of the features of charts, standardised, and 0 where a feature is missing.

    Attributes
    ----------
    feature : array (G,)
        The feature of each ramp, increasing.
    low, width : array (G,)
    mean, factor : array (G,)
        A ramp is standardised by that of its feature's ramps together, and multiplied by the square root of
        the share of the training series that have the feature.
    """

    feature: IntArray
    low: FloatArray
    width: FloatArray
    mean: FloatArray
    factor: FloatArray

    @classmethod
    def fit(cls, values: Floats, among: IntArray) -> Ramps:
        """Learn the ramps of some features from the values (n, F) of the training series, 0 where missing."""
        found: list[tuple[FloatArray, ...]] = []
        for j in among:
            x = values[values[:, j] != 0, j].astype(np.float64)
            knots = np.unique(np.quantile(x, np.linspace(0.0, 1.0, _RAMPS + 1))) if len(x) else x
            if len(x) < _LEAST or len(knots) < 2:
                continue
            low, width = knots[:-1], np.diff(knots)
            ramps = np.clip((x[:, None] - low) / width, 0.0, 1.0)
            factor = np.sqrt(len(x) / len(values)) / ramps.std()
            found.append((np.full(len(low), j), low, width, ramps.mean(axis=0), np.full(len(low), factor)))
        parts = list(zip(*found, strict=True)) or [(np.zeros(0),)] * 5
        feature, *others = map(np.concatenate, parts)
        return cls(feature.astype(np.int64), *others)

    def transform(self, values: Floats) -> Floats:
        """Return the ramps (n, G) of the features (n, F) of n series."""
        ramps = np.empty((len(values), len(self.feature)), np.float32)
        for start in range(0, len(values), _ROWS):
            rows = slice(start, start + _ROWS)
            x = values[rows, self.feature]
            own = (np.clip((x - self.low) / self.width, 0.0, 1.0) - self.mean) * self.factor
            ramps[rows] = np.where(x != 0, own, 0.0)
        return ramps
