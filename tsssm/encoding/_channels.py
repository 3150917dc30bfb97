"""What kind of panel a panel is: which channels are static, and whether it is a chart.

Symbols and shapes: n series, d channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A chart misses at least so many of the values that its samples have room for, and half of its channels have
# fewer values a series than this: more tell the course of a channel between its measurements.
_MISSING, _FEW_VALUES = 0.5, 16
# Of two or three channels, what tells is how they go together, which sums over each of them do not know.
_LEAST_CHANNELS = 4


def static_channels(panel: Panel) -> npt.NDArray[np.bool_]:
    """Which channels (d,) say something of a series as a whole: in each they are constant or missing.

    Where every series is a single sample, nothing tells that.
    """
    starts, lengths = panel.offsets[:-1], panel.lengths
    seen = ~np.isnan(panel.values)
    count = np.add.reduceat(seen, starts, axis=0, dtype=np.int64)
    low = np.fmin.reduceat(panel.values, starts, axis=0)
    high = np.fmax.reduceat(panel.values, starts, axis=0)
    whole = (count == lengths[:, None]) & (low == high)
    return ((count == 0) | whole).all(axis=0) & (whole & (lengths > 1)[:, None]).any(axis=0)


def static_values(panel: Panel, channels: IntArray) -> FloatArray:
    """First value (n, s) in each series of some channels, NaN without any."""
    values = panel.values[:, channels]
    seen = ~np.isnan(values)
    starts = panel.offsets[:-1]
    rows = np.where(seen, np.arange(len(values))[:, None], len(values))
    first = np.minimum.reduceat(rows, starts, axis=0)
    known = first < len(values)
    found = np.take_along_axis(values, np.where(known, first, 0), axis=0).astype(np.float64)
    return np.where(known, found, np.nan)


def is_chart(panel: Panel) -> bool:
    """Whether the channels of a panel are measured rarely, each at times of its own.

    That is so if at least four channels are not static, at least half of their values are missing, in samples
    that are not missing altogether, and half of these channels have fewer than 16 values per series.
    """
    if panel.n_channels < _LEAST_CHANNELS or not np.isnan(panel.values).any():
        return False
    panel = panel.drop_missing_rows()
    varying = ~static_channels(panel)
    if np.count_nonzero(varying) < _LEAST_CHANNELS:
        return False
    counts = np.count_nonzero(~np.isnan(panel.values[:, varying]), axis=0)
    missing = 1.0 - counts.sum() / (len(panel.values) * len(counts))
    few = np.sort(counts)[(len(counts) - 1) // 2] < _FEW_VALUES * len(panel)
    return bool(missing >= _MISSING and few)
