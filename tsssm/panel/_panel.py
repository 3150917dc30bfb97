"""The ragged container: values (total, channels), offsets (n + 1,), optional times (total,)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import FloatArray, OffsetArray, Parts, TimeArray, validate
from tsssm.panel._rows import observed_samples, row_numbers, run_of_series, take_series
from tsssm.panel._sources import (
    parts_from_arrays,
    parts_from_dataframes,
    parts_from_multiindex,
    parts_from_nested,
    parts_from_numpy,
)


class Panel:
    """n time series with the same channels: unequal lengths, irregular times, missing values.

    Rows are series: ``len(panel)``, ``panel[3]``, ``panel[:10]``, ``panel[mask]`` and ``panel[[4, 2, 2]]``,
    so that scikit-learn's splitters, cross-validation and searches take a panel as X. Every selection is a
    panel, also that of a single series, because times must not be lost on the way to ``predict``.

    Parameters
    ----------
    values : array of shape (total, channels)
        Samples of all series, one series after another; real numbers, NaN where missing. Kept as float32.
    offsets : integer array of shape (n + 1,)
        Series i is ``values[offsets[i]:offsets[i + 1]]``; starts at 0, ends at total, strictly increasing.
    times : array of shape (total,), optional
        Time of each sample in any unit, finite, not decreasing within a series; equal times are allowed. Only
        differences within a series matter. Without times the samples are one step apart.
    channel_names : sequence of str, optional
        One name a channel.

    Raises
    ------
    TypeError
        If values are strings, dates or objects, or times are not numbers.
    ValueError
        If there is no series, no channel or a series of length 0; if values contain infinity (or overflow in
        float32) or complex numbers; if offsets or times break the rules above. The message says where.

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
    ) -> None:
        if np.asarray(values).dtype.kind == "O":
            raise TypeError("values must hold real numbers, got an object array.")
        parts = Parts(values, offsets, times, channel_names)  # type: ignore[arg-type]
        self._parts = _read_only(validate(parts, "Panel"))

    @classmethod
    def _from_parts(cls, parts: Parts, name: str) -> Panel:
        return _restore(validate(parts, name))

    @classmethod
    def from_numpy(cls, X: npt.ArrayLike, times: npt.ArrayLike | None = None) -> Panel:
        """Make a panel from a rectangular array.

        Parameters
        ----------
        X : array of shape (n, length) or (n, channels, length)
            Two dimensions mean one channel. NaN, also trailing NaN, is a missing sample.
        times : array of shape (length,) or (n, length), optional
            Times of all series or of each; numbers in any unit, or dates or time differences, which become
            seconds since the first of the series.

        Raises
        ------
        TypeError, ValueError
            As :class:`Panel`, and for arrays with another number of dimensions.
        """
        return cls._from_parts(parts_from_numpy(X, times, "X"), "X")

    @classmethod
    def from_arrays(
        cls, arrays: Sequence[npt.ArrayLike], times: Sequence[npt.ArrayLike] | None = None
    ) -> Panel:
        """Make a panel from n arrays of unequal length.

        Parameters
        ----------
        arrays : sequence of n arrays of shape (channels, length_i)
            An array of shape (length_i,) is a series of one channel.
        times : sequence of n arrays of shape (length_i,), optional
            Numbers in any unit, or dates or time differences, which become seconds since the first of the
            series.

        Raises
        ------
        TypeError, ValueError
            As :class:`Panel`, and where channels or numbers of times do not agree.
        """
        return cls._from_parts(parts_from_arrays(list(arrays), times, "arrays"), "arrays")

    @classmethod
    def from_dataframes(cls, frames: Sequence[pd.DataFrame]) -> Panel:
        """Make a panel from n frames of shape (length_i, channels) with a time index.

        Columns are matched by name to those of the first frame. A date, time-difference or period index gives
        times in seconds since the first stamp of the series (periods by their start), an index of numbers
        gives them in its own unit; where every index counts 0, 1, 2, ... the panel has no times.

        Raises
        ------
        TypeError, ValueError
            As :class:`Panel`; for columns that differ, and for an index that holds NaT or is no time index.
        """
        return cls._from_parts(parts_from_dataframes(list(frames), "frames"), "frames")

    @classmethod
    def from_multiindex(cls, df: pd.DataFrame) -> Panel:
        """Make a panel from a frame (total, channels) with a two-level index (series, time).

        Series come in order of appearance; the rows of a series must be together and sorted by time. The time
        level is read as in :meth:`from_dataframes`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`from_dataframes`, and where the index has not two levels or a series is scattered.
        """
        return cls._from_parts(parts_from_multiindex(df, "df"), "df")

    @classmethod
    def from_nested(cls, df: pd.DataFrame) -> Panel:
        """Make a panel from a frame (n, channels) whose cells are pandas Series or 1-D arrays.

        The cells of a row share one length and one time index, which is read as in :meth:`from_dataframes`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`from_dataframes`, and where the cells of a row do not agree.
        """
        return cls._from_parts(parts_from_nested(df, "df"), "df")

    @property
    def values(self) -> FloatArray:
        """Samples of all series, float32 (total, channels), read-only."""
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
                    f"a Panel is indexed by series only, got {key!r}; channels are in panel.values."
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

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same series, times and channel names; NaN equals NaN."""
        if not isinstance(other, Panel):
            return NotImplemented
        if self.channel_names != other.channel_names or self.has_times != other.has_times:
            return False
        return (
            np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.values, other.values, equal_nan=True)
            and (self.times is None or np.array_equal(self.times, other.times))  # type: ignore[arg-type]
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._parts,)

    def __repr__(self) -> str:
        facts = [f"{len(self)} series", f"{self.n_channels} channel{'s' if self.n_channels > 1 else ''}"]
        if len(self):
            lengths = self.lengths
            facts += [f"length {lengths.min()}-{np.median(lengths):g}-{lengths.max()} (min-median-max)"]
            facts += [f"{100 * self.missing_share:.2g} % missing"]
        if self.times is None:
            facts += ["no times"]
        elif len(self):
            facts += [f"times {self.times.min():g} to {self.times.max():g}"]
        return f"Panel({', '.join(facts)})"


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
    return Parts(values, offsets, times, parts.channel_names)
