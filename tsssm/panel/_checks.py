"""Validation of the arrays that make up a panel.

The wording of some messages ("Reshape your data", "0 feature(s) (shape=...)") is the one that scikit-learn's
``check_estimator`` looks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._numbers import FloatArray, numeric_array, plain, to_floats

TimeArray = npt.NDArray[np.float64]
OffsetArray = npt.NDArray[np.int64]

# Seconds in each unit that times may have; the names are those of pandas.
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "D": 86400.0, "W": 604800.0}


_LARGEST = float(np.finfo(np.float32).max)
#: Largest time in any unit: differences of times, and times in other units, do not overflow then.
LARGEST_TIME = 1e200


class Parts(NamedTuple):
    """The arrays of a panel before or after validation; shapes as in :class:`~tsssm.panel.Panel`."""

    values: FloatArray
    offsets: OffsetArray
    times: TimeArray | None
    channel_names: tuple[str, ...] | None
    ids: pd.Index | None = None
    time_unit: str | None = None


def offsets_from_lengths(lengths: Sequence[int] | npt.NDArray[Any], name: str) -> OffsetArray:
    """Return the offsets (n + 1,) of series with these lengths (n,); ValueError for n = 0 or a zero."""
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.size == 0:
        raise ValueError(f"Found {name} with 0 sample(s) while a minimum of 1 is required.")
    if (lengths == 0).any():
        first = int(np.argmin(lengths))
        raise ValueError(
            f"{name} has {int((lengths == 0).sum())} series of length 0, the first is series {first}; "
            "every series needs at least one sample."
        )
    return np.concatenate([[0], np.cumsum(lengths)])


def checked_unit(unit: Any) -> str | None:
    """Return the name of a unit of time; ValueError for a name that is not in `UNITS`."""
    if unit is not None and (not isinstance(unit, str) or unit not in UNITS):
        raise ValueError(f"time_unit must be None or one of {', '.join(map(repr, UNITS))}; got {unit!r}.")
    return unit


def validate(parts: Parts, name: str) -> Parts:
    """Check the arrays of a panel and return them in their final dtypes.

    Raises
    ------
    TypeError, ValueError
        As documented in :class:`~tsssm.panel.Panel`.
    """
    values = numeric_array(parts.values, name)
    if values.ndim != 2:
        raise ValueError(f"values of {name} must have shape (total, channels), got {values.shape}.")
    offsets = _checked_offsets(parts.offsets, values.shape[0], name)
    if values.shape[1] == 0:
        raise ValueError(
            f"Found {name} with 0 feature(s) (shape=({len(offsets) - 1}, 0)) while a minimum of 1 is "
            "required."
        )
    values = to_floats(values)
    _reject_infinity(values, offsets, name)
    times = None if parts.times is None else _checked_times(parts.times, offsets, name)
    if times is None and parts.time_unit is not None:
        raise ValueError(f"time_unit={parts.time_unit!r} of {name} needs times; got none.")
    return Parts(
        values,
        offsets,
        times,
        _checked_channel_names(parts.channel_names, values.shape[1], name),
        _checked_ids(parts.ids, len(offsets) - 1, name),
        checked_unit(parts.time_unit),
    )


def _checked_offsets(offsets: Any, total: int, name: str) -> OffsetArray:
    array = np.asarray(plain(offsets, f"offsets of {name}"))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"offsets of {name} must be integers of shape (n + 1,), got {array.dtype} of shape {array.shape}."
        )
    if array.size < 2:
        raise ValueError(f"Found {name} with 0 sample(s) while a minimum of 1 is required.")
    array = array.astype(np.int64)
    if array[0] != 0 or array[-1] != total:
        raise ValueError(
            f"offsets of {name} must run from 0 to the number of rows of values, {total}; "
            f"got {array[0]} to {array[-1]}."
        )
    lengths = np.diff(array)
    if (lengths < 0).any():
        first = int(np.argmax(lengths < 0))
        raise ValueError(
            f"offsets of {name} must increase, got {array[first]}, {array[first + 1]} at {first}."
        )
    return offsets_from_lengths(lengths, name)


def _reject_infinity(values: FloatArray, offsets: OffsetArray, name: str) -> None:
    # fmax and fmin skip NaN and need no temporary array, which matters for memory-mapped panels.
    if np.fmax.reduce(values, axis=None) > _LARGEST or np.fmin.reduce(values, axis=None) < -_LARGEST:
        rows, channels = np.nonzero(np.abs(values) > _LARGEST)
        series, position = _locate(rows[0], offsets)
        raise ValueError(
            f"{name} contains infinity or a value too large for float32: {len(rows)} value(s), the first in "
            f"series {series}, sample {position}, channel {channels[0]}. Mark missing values with NaN."
        )


def _checked_times(times: Any, offsets: OffsetArray, name: str) -> TimeArray:
    array = np.asarray(plain(times, f"times of {name}"))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"times of {name} must be real numbers (seconds, say), got dtype {array.dtype}.")
    if array.shape != (offsets[-1],):
        raise ValueError(f"times of {name} must have shape ({offsets[-1]},) like values, got {array.shape}.")
    array = np.ascontiguousarray(array, dtype=np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        series, position = _locate(int(np.argmin(finite)), offsets)
        raise ValueError(
            f"times of {name} must be finite: {int((~finite).sum())} NaN or infinity, "
            f"the first in series {series}, sample {position}."
        )
    if array.size and max(array.max(), -array.min()) > LARGEST_TIME:
        series, position = _locate(int(np.argmax(np.abs(array))), offsets)
        raise ValueError(
            f"times of {name} must be {LARGEST_TIME:g} at most; series {series}, sample {position} has "
            f"{array[offsets[series] + position]:g}."
        )
    backwards = np.diff(array) < 0
    backwards[offsets[1:-1] - 1] = False
    if backwards.any():
        row = int(np.argmax(backwards)) + 1
        series, position = _locate(row, offsets)
        raise ValueError(
            f"times of {name} must not decrease within a series: series {series}, sample {position} has "
            f"{array[row]:g} after {array[row - 1]:g}. Sort each series by time."
        )
    return array


def _checked_channel_names(names: Any, n_channels: int, name: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    names = (names,) if isinstance(names, str) else tuple(names)
    if len(names) != n_channels or not all(isinstance(channel, str) for channel in names):
        raise ValueError(f"channel_names of {name} must be {n_channels} strings, got {names!r}.")
    return names


def _checked_ids(ids: Any, n: int, name: str) -> pd.Index | None:
    if ids is None:
        return None
    index = ids if isinstance(ids, pd.Index) else pd.Index(ids)
    if index.nlevels > 1 or len(index) != n:
        got = f"{index.nlevels} levels" if index.nlevels > 1 else f"{len(index)} labels"
        raise ValueError(f"ids of {name} must be {n} labels, one per series; got {got}.")
    if index.hasnans:
        raise ValueError(f"ids of {name} must not be missing; got {int(index.isna().sum())} NaN or NaT.")
    return index


def _locate(row: int, offsets: OffsetArray) -> tuple[int, int]:
    """Return (series, sample within the series) of a row of values."""
    series = int(np.searchsorted(offsets, row, side="right")) - 1
    return series, int(row - offsets[series])
