"""The ragged container: values (total, channels), offsets (n + 1,), optional times (total,)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel import _display, _exports
from tsssm.panel._checks import (
    LARGEST_TIME,
    UNITS,
    OffsetArray,
    Parts,
    TimeArray,
    checked_unit,
    validate,
)
from tsssm.panel._constructors import Constructors
from tsssm.panel._numbers import FloatArray, plain
from tsssm.panel._rows import joined, observed_samples, row_numbers, run_of_series, take_series
from tsssm.panel._selections import Selections


class Panel(Constructors, Selections):
    """n time series with the same channels: unequal lengths, irregular times, missing values.

    Rows are series: ``len(panel)``, ``panel[3]``, ``panel[:10]``, ``panel[mask]`` and ``panel[[4, 2, 2]]``,
    so that scikit-learn's splitters, cross-validation and searches take a panel as X. Every selection is a
    panel, also that of a single series, because times must not be lost on the way to ``predict``.

    Parameters
    ----------
    values : array of shape (total, channels)
        Samples of all series, one series after another; real numbers, NaN where missing. Kept as float32,
        but for values of 131,072 (2^17) and more that float32 would change: then all are in float64, the
        smaller ones rounded to float32 as ever.
    offsets : integer array of shape (n + 1,)
        Series i is ``values[offsets[i]:offsets[i + 1]]``; starts at 0, ends at total, strictly increasing.
    times : array of shape (total,), optional
        Time of each sample in any unit, between -1e200 and 1e200, not decreasing within a series; equal times
        are allowed. Only differences within a series matter. Without times samples are one step apart.
    channel_names : sequence of str, optional
        One name per channel.
    ids : sequence of n labels, optional
        One label per series, such as a patient number. They follow the series through every selection, so
        that ``labels.loc[panel.ids]`` aligns a pandas object with the panel; models do not look at them.
    time_unit : {"ns", "us", "ms", "s", "min", "h", "D", "W"}, optional
        Unit of the times. Estimators convert a panel in another unit than the one they were fitted with.

    Raises
    ------
    TypeError
        If values are strings, dates or objects, or times are not numbers.
    ValueError
        If there is no series, no channel or a series of length 0; if values contain infinity (or overflow in
        float32) or complex numbers; if another argument breaks the rules above. The message says where.

    Notes
    -----
    A panel does not change: its arrays are read-only views. It shares memory with what it was made from where
    no conversion is needed (float32, C-contiguous; memory-mapped arrays stay on disk), and with the panel it
    was sliced from where the selected series lie next to each other.

    Selecting no series gives an empty panel, as in NumPy; the estimators refuse it.

    Examples
    --------
    >>> import numpy as np
    >>> panel = Panel(np.arange(5.0).reshape(5, 1), offsets=[0, 2, 5], times=[0.0, 0.5, 0.0, 1.0, 4.0])
    >>> panel
    Panel(2 series, 1 channel, length 2-2.5-3 (min-median-max), 0 % missing, times 0 to 4)
    >>> panel[1].values.ravel()
    array([2., 3., 4.], dtype=float32)
    >>> panel.gaps()
    array([nan, 0.5, nan, 1. , 3. ])
    """

    def __init__(
        self,
        values: npt.ArrayLike,
        offsets: npt.ArrayLike,
        times: npt.ArrayLike | None = None,
        channel_names: Sequence[str] | None = None,
        *,
        ids: Sequence[Any] | npt.NDArray[Any] | pd.Index | None = None,
        time_unit: str | None = None,
    ) -> None:
        values = plain(values, "values")
        if np.asarray(values).dtype.kind == "O":
            raise TypeError("values must hold real numbers, got an object array.")
        parts = Parts._make((values, offsets, times, channel_names, ids, time_unit))
        self._parts = _read_only(validate(parts, "Panel"))

    @classmethod
    def _from_parts(cls, parts: Parts, name: str) -> Panel:
        return _restore(validate(parts, name))

    def _restored(self, parts: Parts) -> Panel:
        return _restore(parts)

    @property
    def values(self) -> FloatArray:
        """Samples of all series, float32 or float64 (total, channels), read-only."""
        return self._parts.values

    @property
    def offsets(self) -> OffsetArray:
        """First row of each series and the total, int64 (n + 1,), read-only."""
        return self._parts.offsets

    @property
    def times(self) -> TimeArray | None:
        """Time of each sample, float64 (total,), read-only; None on a regular grid."""
        return self._parts.times

    @property
    def channel_names(self) -> tuple[str, ...] | None:
        """Names of the channels, or None."""
        return self._parts.channel_names

    @property
    def ids(self) -> pd.Index | None:
        """Labels of the series (n,), or None."""
        return self._parts.ids

    @property
    def time_unit(self) -> str | None:
        """Unit of the times, None where it is not known."""
        return self._parts.time_unit

    @property
    def shape(self) -> tuple[int, int]:
        """(n, channels): what scikit-learn reads as samples and features."""
        return len(self), self.n_channels

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.values.shape[1]

    @property
    def lengths(self) -> OffsetArray:
        """Number of samples of each series, int64 (n,)."""
        return np.diff(self.offsets)

    @property
    def max_length(self) -> int:
        """Length of the longest series; 0 in an empty panel."""
        return int(self.lengths.max(initial=0))

    @property
    def has_times(self) -> bool:
        """Whether the samples carry times."""
        return self.times is not None

    @property
    def missing_share(self) -> float:
        """Share of values that are NaN, between 0 and 1."""
        return float(np.count_nonzero(np.isnan(self.values))) / max(self.values.size, 1)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Panel]:
        """Yield each series as a panel of one."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Panel:
        """Select series by integer, slice, integers or mask; ``panel[key, ...]`` is ``panel[key]``."""
        if isinstance(key, tuple):
            if len(key) != 2 or key[1] is not Ellipsis:
                raise IndexError(
                    f"a Panel is indexed by series only, got {key!r}; panel.select takes channels."
                )
            key = key[0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return _restore(run_of_series(self._parts, start, max(start, stop)))
            return _restore(take_series(self._parts, np.arange(start, stop, step)))
        rows = row_numbers(key, len(self))
        if rows.size and (np.diff(rows) == 1).all():
            return _restore(run_of_series(self._parts, int(rows[0]), int(rows[-1]) + 1))
        return _restore(take_series(self._parts, rows))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        # Without this NumPy would walk down panel[0][0][0]... for ever.
        raise TypeError(
            "a Panel is ragged and does not convert to one array; use panel.values (total, channels) with "
            "panel.offsets, or iterate over its series."
        )

    def gaps(self) -> TimeArray:
        """Return the time since the previous sample of the same series, float64 (total,).

        NaN at the first sample of each series; 1.0 elsewhere where the panel has no times.
        """
        gaps = np.ones(len(self.values))
        if self.times is not None:
            gaps[1:] = np.diff(self.times)
        gaps[self.offsets[:-1]] = np.nan
        return gaps

    def drop_missing_rows(self) -> Panel:
        """Return the panel without the samples that are missing in every channel.

        The time between the samples that stay does not change: without times, the sample numbers 0, 1, 2, ...
        of the full series become the times. A series with no value at all keeps its first sample, so that the
        number of series stays. Returns the panel itself where nothing is to be dropped.
        """
        if len(self) == 0:
            return self
        parts = observed_samples(self._parts)
        return self if parts is self._parts else _restore(parts)

    def convert_times(self, unit: str) -> Panel:
        """Return the panel with its times in another unit.

        Raises
        ------
        ValueError
            For an unknown unit, if the panel has no times or does not know their unit, and if times become
            larger than 1e200.
        """
        checked_unit(unit)
        if self.times is None or self.time_unit is None:
            what = "unit of its times" if self.has_times else "times"
            raise ValueError(f"the panel has no {what}; pass time_unit when the panel is made.")
        if unit == self.time_unit:
            return self
        times = self.times * (UNITS[self.time_unit] / UNITS[unit])
        if times.size and np.abs(times).max() > LARGEST_TIME:
            raise ValueError(
                f"times must be {LARGEST_TIME:g} at most; in {unit!r} they reach {np.abs(times).max():g}."
            )
        return _restore(self._parts._replace(times=times, time_unit=unit))

    @classmethod
    def concatenate(cls, panels: Sequence[Panel]) -> Panel:
        """Join panels, series after series.

        Parameters
        ----------
        panels : sequence of Panel
            With the same channel names in the same order, all with times or all without. Times in another
            unit are converted to that of the first panel. Ids are kept if every panel has them.

        Raises
        ------
        TypeError
            If one is not a Panel.
        ValueError
            If there is none, or they differ in channels or in having times or a known unit.
        """
        panels = list(panels)
        if not panels:
            raise ValueError("panels must hold at least one panel, got none.")
        for i, panel in enumerate(panels):
            if not isinstance(panel, Panel):
                raise TypeError(f"panels[{i}] must be a Panel, got {type(panel).__name__}.")
            _check_joinable(panels[0], panel, i)
        unit = panels[0].time_unit
        return _restore(joined([p._parts if unit is None else p.convert_times(unit)._parts for p in panels]))

    def to_numpy(self) -> FloatArray:
        """Return the values as an array (n, channels, max_length), NaN beyond the end of a series.

        Times are not part of it; :meth:`from_numpy` takes them beside the array.
        """
        return _exports.padded_array(self._parts)

    def to_dataframes(self) -> list[pd.DataFrame]:
        """Return one frame (length_i, channels) a series, sktime's ``df-list``.

        The index holds the times: time differences, to the nanosecond, where the unit is known, else numbers
        (sktime accepts them where all are whole), and 0, 1, 2, ... without times. :meth:`from_dataframes`
        reads it.
        """
        return _exports.frames(self._parts)

    def to_multiindex(self) -> pd.DataFrame:
        """Return one frame (total, channels) with the index (id, time), sktime's ``pd-multiindex``.

        The first level holds the ids, or 0, 1, 2, ..., the second the times as in :meth:`to_dataframes`;
        :meth:`from_multiindex` reads it.

        Raises
        ------
        ValueError
            If ids occur more than once.
        """
        return _exports.multiindex_frame(self._parts)

    def to_long(self) -> pd.DataFrame:
        """Return a table with one row per value that is not missing; :meth:`from_long` reads it.

        Its columns are "id", "time" (as in :meth:`to_dataframes`), "variable" and "value".
        """
        return _exports.long_frame(self._parts)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same series, times, unit, channel names and ids; NaN equals NaN."""
        if not isinstance(other, Panel):
            return NotImplemented
        if self.channel_names != other.channel_names or self.has_times != other.has_times:
            return False
        if self.time_unit != other.time_unit or (self.ids is None) != (other.ids is None):
            return False
        return (self.ids is None or self.ids.equals(other.ids)) and (
            np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.values, other.values, equal_nan=True)
            and (self.times is None or other.times is None or np.array_equal(self.times, other.times))
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._parts,)

    def __repr__(self) -> str:
        return _display.text(self._parts)

    def _repr_html_(self) -> str:
        return _display.html(self._parts)


def panel_like(panel: Panel, values: FloatArray, channel_names: Sequence[str] | None = None) -> Panel:
    """Return a panel of other values (total, channels) at the samples of a panel; it may name them anew."""
    names = panel.channel_names if channel_names is None else channel_names
    return Panel(values, panel.offsets, panel.times, names, ids=panel.ids, time_unit=panel.time_unit)


def _check_joinable(first: Panel, panel: Panel, i: int) -> None:
    """Check that a panel has the channels of the first, and times where that has them."""
    if panel.n_channels != first.n_channels or panel.channel_names != first.channel_names:
        channels = [p.channel_names or f"{p.n_channels} without names" for p in (first, panel)]
        raise ValueError(
            f"panels must have the same channels: panels[0] has {channels[0]}, panels[{i}] {channels[1]}."
        )
    if (panel.has_times, panel.time_unit is None) != (first.has_times, first.time_unit is None):
        times = [f"times in {p.time_unit}" if p.time_unit else "times without a unit" for p in (first, panel)]
        times = [t if p.has_times else "no times" for p, t in zip((first, panel), times, strict=True)]
        raise ValueError(
            f"panels must all have times, with or without a unit, or none: panels[0] has {times[0]}, "
            f"panels[{i}] {times[1]}."
        )


def _restore(parts: Parts) -> Panel:
    """Make a panel from parts that are known to be valid."""
    panel = Panel.__new__(Panel)
    panel._parts = _read_only(parts)
    return panel


def _read_only(parts: Parts) -> Parts:
    values, offsets = parts.values.view(), parts.offsets.view()
    times = None if parts.times is None else parts.times.view()
    for view in (values, offsets, times):
        if view is not None:
            view.flags.writeable = False
    return parts._replace(values=values, offsets=offsets, times=times)
