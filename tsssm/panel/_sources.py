"""One function a source: arrays and data frames in, the unvalidated parts of a panel out.

``name`` is how error messages call the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import OffsetArray, Parts, offsets_from_lengths
from tsssm.panel._numbers import FloatArray, numeric_array, to_floats
from tsssm.panel._times import (
    Reading,
    Times,
    times_from_argument,
    times_from_indices,
    times_from_level,
)


def parts_from_numpy(X: Any, times: Any, unit: str | None, name: str) -> Parts:
    """Parts of an array (n, length) or (n, channels, length) with times (length,), (n, length) or None."""
    array = numeric_array(X, name)
    if array.ndim < 2:
        got = "a scalar" if array.ndim == 0 else f"a 1D array of shape {array.shape}"
        raise ValueError(
            f"Expected 2D (n, length) or 3D (n, channels, length) {name}, got {got}. Reshape your data using "
            f"{name}.reshape(1, -1) if it is a single series."
        )
    if array.ndim > 3:
        raise ValueError(
            f"Expected 2D (n, length) or 3D (n, channels, length) {name}, got {array.ndim}D: {array.shape}."
        )
    if array.ndim == 3 and array.shape[2] == 0 and 0 not in array.shape[:2]:
        raise ValueError(
            f"{name} of shape {array.shape} has series of length 0; every series needs at least one sample."
        )
    if 0 in array.shape:
        what = "sample(s)" if array.shape[0] == 0 else "feature(s)"
        raise ValueError(
            f"Found {name} with 0 {what} (shape={array.shape}) while a minimum of 1 is required."
        )
    if array.ndim == 2:
        array = array[:, np.newaxis, :]
    n, n_channels, length = array.shape
    values = to_floats(array.transpose(0, 2, 1)).reshape(n * length, n_channels)
    offsets = np.arange(n + 1, dtype=np.int64) * length
    if times is not None:
        times, unit = times_from_argument(times, unit, f"times of {name}")
        if times.shape not in ((length,), (n, length)):
            raise ValueError(
                f"times of {name} must have shape ({length},) or ({n}, {length}), got {times.shape}."
            )
        times = np.broadcast_to(times, (n, length)).reshape(-1)
    return Parts(values, offsets, times, None, time_unit=unit)


def parts_from_arrays(
    arrays: Sequence[Any], times: Sequence[Any] | None, unit: str | None, name: str
) -> Parts:
    """Parts of n arrays (channels, length_i), or (length_i,) for one channel, with n times (length_i,)."""
    series: list[npt.NDArray[Any]] = []
    for i, item in enumerate(arrays):
        array = numeric_array(item, f"series {i} of {name}")
        if array.ndim not in (1, 2):
            raise ValueError(
                f"series {i} of {name} must be an array (channels, length) or (length,), got shape "
                f"{array.shape}."
            )
        array = np.atleast_2d(array)
        if series and array.shape[0] != series[0].shape[0]:
            raise ValueError(
                f"every series of {name} must have the same channels as rows, (channels, length): series 0 "
                f"has shape {series[0].shape}, series {i} has {array.shape}."
            )
        series.append(array)
    offsets = offsets_from_lengths([array.shape[1] for array in series], name)
    values = _stacked((array.T for array in series), offsets, series[0].shape[0])
    if times is None:
        return Parts(values, offsets, None, None, time_unit=unit)
    if len(times) != len(series):
        raise ValueError(f"times of {name} must be {len(series)} arrays, one per series; got {len(times)}.")
    pieces, units = [], []
    for i, (item, array) in enumerate(zip(times, series, strict=True)):
        piece, own_unit = times_from_argument(item, unit, f"times of series {i} of {name}")
        if piece.shape != (array.shape[1],):
            raise ValueError(
                f"times of series {i} of {name} must have shape ({array.shape[1]},), got {piece.shape}."
            )
        pieces.append(piece)
        units.append(own_unit)
        if own_unit != units[0]:
            raise ValueError(
                f"times of {name} mix stamps and numbers without a unit, in series 0 and {i}: name the unit "
                "of the numbers with time_unit."
            )
    return Parts(values, offsets, np.concatenate(pieces), None, time_unit=units[0])


def parts_from_dataframes(frames: Sequence[pd.DataFrame | pd.Series], reading: Reading, name: str) -> Parts:
    """Parts of n frames (length_i, channels) with a time index; a pandas Series is one channel."""
    checked: list[pd.DataFrame] = []
    for i, item in enumerate(frames):
        frame = item.to_frame(name=0) if isinstance(item, pd.Series) else item
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"series {i} of {name} must be a DataFrame, got {type(item).__name__}.")
        checked.append(_with_columns_of(checked[0], frame, i, name) if checked else frame)
    offsets = offsets_from_lengths([len(frame) for frame in checked], name)
    columns = checked[0].columns
    rows = (frame_values(frame, f"series {i} of {name}") for i, frame in enumerate(checked))
    values = _stacked(rows, offsets, len(columns))
    times = times_from_indices([frame.index for frame in checked], offsets, reading, name)
    return Parts(values, offsets, times.times, channel_names(columns), time_unit=times.unit)


def parts_from_multiindex(df: pd.DataFrame, reading: Reading, name: str) -> Parts:
    """Parts of a frame (total, channels) with index levels (series, time); series in order of appearance."""
    if not isinstance(df, pd.DataFrame) or df.index.nlevels != 2:
        levels = f" with {df.index.nlevels} index level(s)" if isinstance(df, pd.DataFrame) else ""
        raise TypeError(
            f"{name} must be a DataFrame with a two-level index (series, time), got "
            f"{type(df).__name__}{levels}."
        )
    codes = np.asarray(df.index.codes[0])
    if (codes < 0).any():
        raise ValueError(
            f"the series level of the index of {name} has {int((codes < 0).sum())} missing labels."
        )
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    labels, runs = np.unique(codes[starts], return_counts=True)
    if (runs > 1).any():
        label = df.index.levels[0].take([labels[np.argmax(runs > 1)]]).tolist()[0]
        raise ValueError(f"the rows of series {label!r} of {name} are not together: sort with sort_index().")
    offsets = offsets_from_lengths(np.diff(starts, append=len(codes)), name)
    times = times_from_level(df.index.get_level_values(1), offsets, reading, name)
    ids = df.index.levels[0].take(codes[starts])
    values = to_floats(frame_values(df, name))
    return Parts(values, offsets, times.times, channel_names(df.columns), ids, times.unit)


def parts_from_table(df: pd.DataFrame, name: str) -> Parts:
    """Parts of a frame (n, length) of numbers, one row per series of one channel."""
    return parts_from_numpy(frame_values(df, name), None, None, name)._replace(ids=_row_labels(df))


def parts_from_nested(df: pd.DataFrame, reading: Reading, name: str) -> Parts:
    """Parts of a frame (n, channels) whose cells are the series of one channel (pandas Series or arrays)."""
    if not isinstance(df, pd.DataFrame):
        raise TypeError(f"{name} must be a DataFrame whose cells are series, got {type(df).__name__}.")
    if 0 in df.shape:
        what = "sample(s)" if df.shape[0] == 0 else "feature(s)"
        raise ValueError(f"Found {name} with 0 {what} (shape={df.shape}) while a minimum of 1 is required.")
    cells = [df.iloc[:, j].tolist() for j in range(df.shape[1])]
    lengths = np.array(
        [
            [_cell_length(cell, i, df.columns[j], name) for i, cell in enumerate(column)]
            for j, column in enumerate(cells)
        ]
    )
    unequal = (lengths != lengths[0]).any(axis=0)
    if unequal.any():
        i = int(np.argmax(unequal))
        raise ValueError(
            f"the channels of series {i} of {name} must have the same length, got {lengths[:, i].tolist()}."
        )
    offsets = offsets_from_lengths(lengths[0], name)
    columns = []
    for j, column in enumerate(cells):
        arrays = [numeric_array(cell, f"column {df.columns[j]!r} of {name}") for cell in column]
        columns.append(to_floats(np.concatenate(arrays)))
    values = np.column_stack(columns)
    times = _nested_times(cells, offsets, reading, name)
    return Parts(values, offsets, times.times, channel_names(df.columns), _row_labels(df), times.unit)


def frame_values(frame: pd.DataFrame, name: str) -> npt.NDArray[Any]:
    """Return the cells of a frame as real numbers, pandas' nullable columns included."""
    array = frame.to_numpy()
    if array.dtype.kind in "fiub" or array.size == 0:
        return array if array.size else np.empty(array.shape, dtype=np.float32)
    # Mixed, nullable or textual columns arrive as objects: look at each column in its own dtype.
    columns = []
    for j, column in enumerate(frame.columns):
        cells = frame.iloc[:, j]
        if pd.api.types.is_any_real_numeric_dtype(cells.dtype) or pd.api.types.is_bool_dtype(cells.dtype):
            columns.append(cells.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            columns.append(numeric_array(cells.to_numpy(), f"column {column!r} of {name}"))
    return np.column_stack(columns)


def _stacked(rows: Any, offsets: OffsetArray, n_channels: int) -> FloatArray:
    """Copy series (length_i, channels) into values (total, channels)."""
    values: FloatArray = np.empty((offsets[-1], n_channels), dtype=np.float32)
    for start, stop, array in zip(offsets[:-1].tolist(), offsets[1:].tolist(), rows, strict=True):
        floats = to_floats(array)
        if floats.dtype.itemsize > values.dtype.itemsize:
            values = np.concatenate([values[:start], np.empty_like(values[start:], dtype=floats.dtype)])
        values[start:stop] = floats
    return values


def _with_columns_of(first: pd.DataFrame, frame: pd.DataFrame, i: int, name: str) -> pd.DataFrame:
    if frame.columns.equals(first.columns):
        return frame
    if first.columns.is_unique and frame.columns.is_unique and set(frame.columns) == set(first.columns):
        return frame[list(first.columns)]
    raise ValueError(
        f"every series of {name} must have the same columns: series 0 has {list(first.columns)}, "
        f"series {i} has {list(frame.columns)}."
    )


def channel_names(columns: pd.Index) -> tuple[str, ...] | None:
    """Names of the columns, None where they count 0, 1, 2, ..., as pandas does by default."""
    return None if list(columns) == list(range(len(columns))) else tuple(map(str, columns))


def _row_labels(df: pd.DataFrame) -> pd.Index | None:
    # Nobody asked for ids here: an index that cannot be one is no error.
    unnamed = df.index.equals(pd.RangeIndex(len(df))) or df.index.hasnans
    return None if unnamed else df.index


def _cell_length(cell: Any, i: int, column: Any, name: str) -> int:
    if np.ndim(cell) != 1:
        raise TypeError(
            f"every cell of {name} must be a pandas Series or a 1D array; row {i}, column {column!r} has a "
            f"{type(cell).__name__}."
        )
    return len(cell)


def _nested_times(cells: list[list[Any]], offsets: OffsetArray, reading: Reading, name: str) -> Times:
    if not any(isinstance(cell, pd.Series) for column in cells for cell in column):
        return Times(None, None)
    indices = []
    for i, row in enumerate(zip(*cells, strict=True)):
        own = [cell.index if isinstance(cell, pd.Series) else pd.RangeIndex(len(cell)) for cell in row]
        if not all(index.equals(own[0]) for index in own[1:]):
            raise ValueError(
                f"the channels of series {i} of {name} have different time indices; bring them to one with "
                "pandas.concat(channels, axis=1), which leaves NaN where a channel has no sample."
            )
        indices.append(own[0])
    return times_from_indices(indices, offsets, reading, name)
