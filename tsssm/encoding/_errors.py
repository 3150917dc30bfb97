"""Values that no measurement has: how far from the others a value has to lie to be taken for a fault.

Symbols and shapes: d channels; limits and extents (2, d), the lowest and the highest value of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.encoding._encoded import pieces
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]

# Faults are no more than this share of the values at either end, and so many ranges of the others away.
_SHARE, _RANGES = 0.002, 100.0
# Fewer values do not tell what is ordinary; of so many, evenly spaced, the quantiles are those of all.
_FEWEST, _MOST = 100, 2**20
# Of the values beyond, in a channel where all count after all, so many have a neighbour that is, too.
_SIDE_BY_SIDE = 0.2
#: How values may be scaled, as `PanelEncoder` says.
SCALES = ("auto", "standard", "robust")
# Standard deviations of a normal distribution that are between its quartiles.
_QUARTILES = 1.3489795003921634
#: No limit at all.
UNLIMITED = float(np.finfo(np.float64).max)


def unlimited(n_channels: int) -> FloatArray:
    """Limits (2, d) within which every value lies."""
    return np.repeat([[-UNLIMITED], [UNLIMITED]], n_channels, axis=1)


def beyond(values: npt.NDArray[np.floating[Any]], limits: FloatArray) -> npt.NDArray[np.bool_]:
    """Which values (..., d) lie beyond the limits; none that is NaN."""
    return np.asarray((values < limits[0]) | (values > limits[1]))


def error_limits(panel: Panel, extent: FloatArray) -> FloatArray:
    """Limits (2, d) beyond which the values of each channel of a training panel are faults.

    That is so far from the 0.2 and 99.8 % quantiles as 100 times what is between these. What happens often is
    between them and no fault, however rare; nor is an event that lasts: where at least a fifth of the values
    beyond have one beside them, a channel has no limits.

    Parameters
    ----------
    panel : Panel
    extent : array (2, d)
        Smallest and largest value of each channel.
    """
    limits = unlimited(panel.n_channels)
    for channel, values in enumerate(_some_values(panel)):
        if len(values) < _FEWEST:
            continue
        # Inwards: a single value in a few hundred is not to be mixed into a quantile.
        low = np.quantile(values, _SHARE, method="higher")
        high = np.quantile(values, 1 - _SHARE, method="lower")
        reach = _RANGES * (high - low)
        if 0 < reach < np.inf:
            limits[:, channel] = low - reach, high + reach
    if beyond(extent, limits).any():
        limits[:, _lasting(panel, limits)] = unlimited(1)
    return limits


def middle(
    panel: Panel, limits: FloatArray, mean: FloatArray, std: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Median and scale (d,) by the middle half of the values within limits, mean and std where that is 0."""
    centre, spread = mean.copy(), std.copy()
    for channel, values in enumerate(_some_values(panel)):
        values = values[~beyond(values, limits[:, channel])]
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)) if len(values) else (0.0, 0.0, 0.0)
        if high > low:
            centre[channel], spread[channel] = median, (high - low) / _QUARTILES
    return centre, spread


def _some_values(panel: Panel) -> Iterator[FloatArray]:
    """Yield the values of each channel, of very many some."""
    stride = -(-len(panel.values) // _MOST)
    for channel in range(panel.n_channels):
        values = panel.values[::stride, channel]
        yield values[~np.isnan(values)].astype(np.float64)


def _lasting(panel: Panel, limits: FloatArray) -> npt.NDArray[np.bool_]:
    """In which channels (d,) values lie beyond the limits side by side."""
    count, beside = np.zeros((2, panel.n_channels))
    for piece in pieces(panel):
        wrong = beyond(piece.values, limits)
        before = np.zeros_like(wrong)
        before[1:] = wrong[:-1]
        before[piece.offsets[:-1]] = False
        after = np.zeros_like(wrong)
        after[:-1] = wrong[1:]
        after[piece.offsets[1:] - 1] = False
        count += wrong.sum(axis=0)
        beside += (wrong & (before | after)).sum(axis=0)
    return beside >= _SIDE_BY_SIDE * np.maximum(count, 1)
