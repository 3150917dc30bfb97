"""The containers that a panel turns into; each is read back by the constructor of its name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tsssm.panel._checks import Parts
from tsssm.panel._numbers import FloatArray
from tsssm.panel._times import time_index


def padded_array(parts: Parts) -> FloatArray:
    """Values (n, channels, length of the longest series), NaN beyond the end of a series."""
    lengths = np.diff(parts.offsets)
    n, longest = len(lengths), int(lengths.max(initial=0))
    array = np.full((n, longest, parts.values.shape[1]), np.nan, dtype=parts.values.dtype)
    array[np.arange(longest) < lengths[:, None]] = parts.values
    return np.ascontiguousarray(array.transpose(0, 2, 1))


def frames(parts: Parts) -> list[pd.DataFrame]:
    """One frame (length_i, channels) a series, its times as index."""
    index = time_index(parts.times, parts.time_unit, parts.offsets)
    bounds = zip(parts.offsets[:-1].tolist(), parts.offsets[1:].tolist(), strict=True)
    return [
        pd.DataFrame(parts.values[start:stop], index=index[start:stop], columns=_columns(parts))
        for start, stop in bounds
    ]


def multiindex_frame(parts: Parts) -> pd.DataFrame:
    """One frame (total, channels) with the index (id, time)."""
    ids, name = labels(parts), "id"
    if not ids.is_unique:
        raise ValueError(
            f"ids must be unique to become the first level of an index; {ids[ids.duplicated()][0]!r} occurs "
            "more than once."
        )
    if parts.ids is not None and isinstance(parts.ids.name, str):
        name = parts.ids.name
    time = time_index(parts.times, parts.time_unit, parts.offsets)
    index = pd.MultiIndex.from_arrays([ids.repeat(np.diff(parts.offsets)), time], names=[name, "time"])
    return pd.DataFrame(parts.values, index=index, columns=_columns(parts))


def long_frame(parts: Parts) -> pd.DataFrame:
    """One row per value that is not missing, with the columns id, time, variable and value."""
    sample, channel = np.nonzero(~np.isnan(parts.values))
    series = np.repeat(np.arange(len(parts.offsets) - 1), np.diff(parts.offsets))[sample]
    columns = _columns(parts)
    names = pd.Index(range(parts.values.shape[1]) if columns is None else columns)
    time = time_index(parts.times, parts.time_unit, parts.offsets)
    return pd.DataFrame(
        {
            "id": labels(parts)[series],
            "time": time[sample],
            "variable": names[channel],
            "value": parts.values[sample, channel],
        }
    )


def labels(parts: Parts) -> pd.Index:
    """The ids of the series, or their numbers; (n,)."""
    return pd.RangeIndex(len(parts.offsets) - 1) if parts.ids is None else parts.ids


def _columns(parts: Parts) -> list[str] | None:
    return None if parts.channel_names is None else list(parts.channel_names)
