"""Tables whose series, times and variables are columns: long (a row per value) and wide (a row per sample).

Symbols and shapes: n series, d channels, r rows of the table::

    series   (r,)  number of the series of each row, 0 to n - 1 in order of appearance
    clock    (r,)  time of each row: datetime64, timedelta64 or float64
    channel  (r,)  number of the channel of each row, -1 for variables that were not asked for
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import OffsetArray, Parts, checked_unit
from tsssm.panel._numbers import to_floats
from tsssm.panel._sources import channel_names, frame_values
from tsssm.panel._times import column_stamps, elapsed
from tsssm.panel._warnings import warn_of_data

IntArray = npt.NDArray[np.int64]

DUPLICATES = ("mean", "first", "last", "raise")


class _Cells(NamedTuple):
    """Values with their place, sorted by series, time and channel; (k,) each."""

    series: IntArray
    clock: npt.NDArray[Any]
    channel: IntArray
    value: npt.NDArray[np.float64]

    def at(self, rows: npt.NDArray[Any]) -> _Cells:
        """The cells of these numbers, or where a mask is true."""
        return _Cells(self.series[rows], self.clock[rows], self.channel[rows], self.value[rows])


def parts_from_long(
    df: pd.DataFrame,
    columns: Mapping[str, Hashable],
    variables: Sequence[Hashable] | None,
    static: Sequence[Hashable],
    unit: str | None,
    duplicates: str,
    name: str,
) -> Parts:
    """Parts of a table with one row per value; ``columns`` names those of id, time, variable and value.

    Parameters and errors as in :meth:`~tsssm.panel.Panel.from_long`.
    """
    unit = checked_unit(unit)
    if duplicates not in DUPLICATES:
        raise ValueError(f"duplicates must be one of {', '.join(map(repr, DUPLICATES))}; got {duplicates!r}.")
    column = _checked_columns(df, columns, name)
    series, ids = _codes(column["id"], f"column {columns['id']!r} (id) of {name}")
    clock = column_stamps(column["time"], f"column {columns['time']!r} (time) of {name}")
    found, names = _codes(column["variable"], f"column {columns['variable']!r} (variable) of {name}")
    channels, is_static = _channels(names, variables, static)
    _tell_of_absent(channels, names.astype(object), name)
    channel = channels.get_indexer(names.astype(object))[found]
    rows = np.flatnonzero(channel >= 0)
    value = frame_values(column["value"].iloc[rows].to_frame(), name)[:, 0].astype(np.float64)
    seen = ~np.isnan(value)
    rows = rows[seen]
    given = _Cells(series[rows], clock[rows], channel[rows], value[seen])
    constant = is_static[given.channel]
    moving = _with_every_series(given.at(~constant), series, clock, len(ids))
    cells = _merged(moving, duplicates, ids, channels, name)
    first = _starts(cells.series, cells.clock)
    offsets = _offsets(cells.series[first], len(ids))
    floats = to_floats(cells.value)
    values = np.full((len(first), len(channels)), np.nan, dtype=floats.dtype)
    sample = np.repeat(np.arange(len(first)), np.diff(first, append=len(cells.series)))
    values[sample, cells.channel] = floats
    if is_static.any():
        at = _merged(given.at(constant), duplicates, ids, channels, name)
        floats = to_floats(at.value[::-1])
        earliest = np.full((len(ids), len(channels)), np.nan, dtype=floats.dtype)
        # Backwards in time, so that the first of a series is what stays.
        earliest[at.series[::-1], at.channel[::-1]] = floats
        values = values.astype(np.result_type(values, floats), copy=False)
        values[:, is_static] = np.repeat(earliest[:, is_static], np.diff(offsets), axis=0)
    times, unit = elapsed(cells.clock[first], offsets, unit)
    return Parts(values, offsets, times, channel_names(channels), ids, unit)


def parts_from_wide(
    df: pd.DataFrame,
    columns: Mapping[str, Hashable],
    channels: Sequence[Hashable] | None,
    unit: str | None,
    name: str,
) -> Parts:
    """Parts of a table with one row per sample; ``columns`` names those of id and perhaps time.

    Parameters and errors as in :meth:`~tsssm.panel.Panel.from_wide`.
    """
    unit = checked_unit(unit)
    column = _checked_columns(df, columns, name)
    if channels is None:
        channels = [label for label in df.columns if label not in set(columns.values())]
    channels = _checked_list(channels, "channels")
    _checked_columns(df, {f"channels[{j}]": label for j, label in enumerate(channels)}, name)
    series, ids = _codes(column["id"], f"column {columns['id']!r} (id) of {name}")
    clock = None
    if "time" in column:
        clock = column_stamps(column["time"], f"column {columns['time']!r} (time) of {name}")
    order = np.argsort(series, kind="stable") if clock is None else np.lexsort((clock, series))
    offsets = _offsets(series, len(ids))
    values = to_floats(frame_values(df[list(channels)], name))[order]
    times = None
    if clock is not None:
        times, unit = elapsed(clock[order], offsets, unit)
    return Parts(values, offsets, times, channel_names(pd.Index(channels)), ids, unit)


def _tell_of_absent(channels: pd.Index, names: pd.Index, name: str) -> None:
    """Warn of wanted variables that a table lacks, where it may have them by another name.

    A table with nothing but wanted variables is that of a few more series: it need not have all of them.
    """
    absent, others = channels[~channels.isin(names)], names[~names.isin(channels)]
    if not len(absent) or not len(others):
        return
    labels = [str(label) for label in others.tolist()]
    near = difflib.get_close_matches(str(absent[0]), labels, n=1, cutoff=0.5)
    some = f"{labels[:5]!r}{' and more' * (len(labels) > 5)}"
    more = f", nor {len(absent) - 1} other(s) of those asked for" if len(absent) > 1 else ""
    found = f"The most similar other name is {near[0]!r}" if near else f"Other variables are {some}"
    warn_of_data(f"{name} has no variable {absent[0]!r}{more}; all values of its channel are NaN. {found}.")


def _checked_columns(df: pd.DataFrame, columns: Mapping[str, Hashable], name: str) -> dict[str, pd.Series]:
    """Columns of a table by their role; each has to be there once and to play one role."""
    if not isinstance(df, pd.DataFrame):
        raise TypeError(
            f"{name} must be a DataFrame with one row for each value or sample, got {type(df).__name__}."
        )
    if len(df) == 0:
        raise ValueError(
            f"Found {name} with 0 sample(s) (shape={df.shape}) while a minimum of 1 is required."
        )
    chosen = {}
    for role, label in columns.items():
        if label not in df.columns:
            levels = " reset_index() turns index levels into columns." if label in df.index.names else ""
            raise ValueError(
                f"{role}={label!r} is not a column of {name}, which has {list(df.columns)}.{levels}"
            )
        chosen[role] = df[label]
        if not isinstance(chosen[role], pd.Series):
            raise ValueError(f"{role}={label!r} names {chosen[role].shape[1]} columns of {name}.")
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"each column of {name} can have one role only, got {dict(columns)}.")
    return chosen


def _checked_list(labels: Any, argument: str) -> list[Hashable]:
    if isinstance(labels, (str, bytes)) or not isinstance(labels, (Sequence, pd.Index, np.ndarray)):
        raise TypeError(f"{argument} must be a sequence of labels, got {labels!r}.")
    labels = list(labels)
    if len(set(labels)) < len(labels):
        twice = sorted({str(label) for label in labels if labels.count(label) > 1})
        raise ValueError(f"{argument} must not repeat a label; got {', '.join(twice)} more than once.")
    return labels


def _codes(column: pd.Series, where: str) -> tuple[IntArray, pd.Index]:
    """Number of each row's label in order of appearance (r,), and the labels; none may be missing."""
    codes, labels = pd.factorize(column)
    if (codes < 0).any():
        raise ValueError(
            f"{where} has {int((codes < 0).sum())} missing labels, the first in row {int(np.argmin(codes))}."
        )
    return codes.astype(np.int64), pd.Index(labels, name=column.name)


def _channels(
    found: pd.Index, variables: Sequence[Hashable] | None, static: Sequence[Hashable]
) -> tuple[pd.Index, npt.NDArray[np.bool_]]:
    """Labels of the channels in their order, and which of them are static; (d,) each."""
    static = _checked_list(static, "static")
    chosen = _sorted(found) if variables is None else _checked_list(variables, "variables")
    labels = pd.Index([*chosen, *(label for label in static if label not in chosen)], dtype=object)
    if len(labels) == 0:
        raise ValueError("variables must name at least one variable, got none.")
    return labels, labels.isin(static)


def _sorted(labels: pd.Index) -> list[Hashable]:
    try:
        return sorted(labels)
    except TypeError:  # numbers and strings, say
        return sorted(labels, key=str)


def _with_every_series(cells: _Cells, series: IntArray, clock: npt.NDArray[Any], n: int) -> _Cells:
    """Add one missing value, at its first time, for each series of the table that has no value."""
    rows = np.flatnonzero((np.bincount(cells.series, minlength=n) == 0)[series])
    rows = rows[np.lexsort((clock[rows], series[rows]))]
    rows = rows[_starts(series[rows])]
    return _Cells(
        np.concatenate([cells.series, series[rows]]),
        np.concatenate([cells.clock, clock[rows]]),
        np.concatenate([cells.channel, np.zeros(len(rows), dtype=np.int64)]),
        np.concatenate([cells.value, np.full(len(rows), np.nan)]),
    )


def _merged(cells: _Cells, duplicates: str, ids: pd.Index, channels: pd.Index, name: str) -> _Cells:
    """Sort, and leave one value for a channel at one time of a series."""
    cells = cells.at(np.lexsort((cells.channel, cells.clock, cells.series)))
    first = _starts(cells.series, cells.clock, cells.channel)
    counts = np.diff(first, append=len(cells.series))
    if (counts == 1).all():
        return cells
    if duplicates == "raise":
        row = first[np.argmax(counts > 1)]
        label, when = ids[cells.series[[row]]].tolist()[0], pd.Index(cells.clock[[row]])[0]
        raise ValueError(
            f"{name} has {int((counts > 1).sum())} times at which a variable has several values, the first "
            f"is {channels[cells.channel[row]]!r} of series {label!r} at {when}."
        )
    if duplicates == "mean":
        return cells.at(first)._replace(value=np.add.reduceat(cells.value, first) / counts)
    return cells.at(first if duplicates == "first" else first + counts - 1)


def _starts(*keys: npt.NDArray[Any]) -> IntArray:
    """Rows at which one of the sorted keys (k,) changes, the first row among them."""
    change = np.ones(len(keys[0]), dtype=bool)
    if len(change):
        change[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(change)


def _offsets(series: IntArray, n: int) -> OffsetArray:
    return np.concatenate([[0], np.cumsum(np.bincount(series, minlength=n))])
