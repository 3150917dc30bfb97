"""The ways to make a panel: one class method a source."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import Parts
from tsssm.panel._sources import (
    parts_from_arrays,
    parts_from_dataframes,
    parts_from_multiindex,
    parts_from_nested,
    parts_from_numpy,
)
from tsssm.panel._tables import parts_from_long, parts_from_wide
from tsssm.panel._times import Reading

Made = TypeVar("Made", bound="Constructors")


class Constructors:
    """Class methods that read a container and make a panel.

    ``time_unit`` means the same in each: the unit of times that are numbers, and the unit that stamps are
    converted to. It is one of "ns", "us", "ms", "s", "min", "h", "D", "W", or None, which leaves numbers
    without a unit and converts stamps to seconds. Dates and periods (by their start) count from the first
    stamp of their series; time differences and clock times keep their origin.
    """

    @classmethod
    def _from_parts(cls: type[Made], parts: Parts, name: str) -> Made:
        raise NotImplementedError

    @classmethod
    def from_numpy(
        cls: type[Made],
        X: npt.ArrayLike,
        times: npt.ArrayLike | None = None,
        *,
        time_unit: str | None = None,
    ) -> Made:
        """Make a panel from a rectangular array.

        Parameters
        ----------
        X : array of shape (n, length) or (n, channels, length)
            Two dimensions mean one channel. NaN, also trailing NaN, is a missing sample.
        times : array of shape (length,) or (n, length), optional
            Times of all series or of each: numbers, dates or time differences.
        time_unit : str, optional
            Unit of the times, as in :class:`Panel`.

        Raises
        ------
        TypeError, ValueError
            As :class:`Panel`, and for arrays with another number of dimensions.
        """
        return cls._from_parts(parts_from_numpy(X, times, time_unit, "X"), "X")

    @classmethod
    def from_arrays(
        cls: type[Made],
        arrays: Sequence[npt.ArrayLike],
        times: Sequence[npt.ArrayLike] | None = None,
        *,
        time_unit: str | None = None,
    ) -> Made:
        """Make a panel from n arrays of unequal length.

        Parameters
        ----------
        arrays : sequence of n arrays of shape (channels, length_i)
            An array of shape (length_i,) is a series of one channel.
        times : sequence of n arrays of shape (length_i,), optional
            Numbers, dates or time differences.
        time_unit : str, optional
            Unit of the times, as in :class:`Panel`.

        Raises
        ------
        TypeError, ValueError
            As :class:`Panel`, and where channels or numbers of times do not agree.
        """
        return cls._from_parts(parts_from_arrays(list(arrays), times, time_unit, "arrays"), "arrays")

    @classmethod
    def from_dataframes(
        cls: type[Made], frames: Sequence[pd.DataFrame], *, time_unit: str | None = None
    ) -> Made:
        """Make a panel from n frames of shape (length_i, channels) with a time index.

        Columns are matched by name to those of the first frame. Where every index counts 0, 1, 2, ... the
        panel has no times, unless ``time_unit`` says that these are.

        Parameters
        ----------
        frames : sequence of n DataFrames
            With an index of numbers, dates, time differences or periods.
        time_unit : str, optional
            Unit of the times. Numbers are taken to be in it, stamps are converted to it; without it, numbers
            have no unit and stamps become seconds. Dates and periods (by their start) count from the first
            stamp of their series.

        Raises
        ------
        TypeError, ValueError
            As :class:`Panel`; for columns that differ, and for an index that holds NaT or is no time index.
        """
        return cls._from_parts(parts_from_dataframes(list(frames), Reading(time_unit), "frames"), "frames")

    @classmethod
    def from_multiindex(cls: type[Made], df: pd.DataFrame, *, time_unit: str | None = None) -> Made:
        """Make a panel from a frame (total, channels) with a two-level index (series, time).

        Series come in order of appearance and keep their labels as ``ids``; the rows of a series must be
        together and sorted by time. The time level is read as in :meth:`from_dataframes`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`from_dataframes`, and where the index has not two levels or a series is scattered.
        """
        return cls._from_parts(parts_from_multiindex(df, Reading(time_unit), "df"), "df")

    @classmethod
    def from_nested(cls: type[Made], df: pd.DataFrame, *, time_unit: str | None = None) -> Made:
        """Make a panel from a frame (n, channels) whose cells are pandas Series or 1-D arrays.

        The cells of a row share one length and one time index, which is read as in :meth:`from_dataframes`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`from_dataframes`, and where the cells of a row do not agree.
        """
        return cls._from_parts(parts_from_nested(df, Reading(time_unit), "df"), "df")

    @classmethod
    def from_long(
        cls: type[Made],
        df: pd.DataFrame,
        *,
        id: Hashable = "id",
        time: Hashable = "time",
        variable: Hashable = "variable",
        value: Hashable = "value",
        variables: Sequence[Hashable] | None = None,
        static: Sequence[Hashable] = (),
        duplicates: str = "mean",
        time_unit: str | None = None,
    ) -> Made:
        """Make a panel from a long table with one row per measured value, as clinical databases export them.

        A series has one sample at each time at which one of its variables has a value; what was not measured
        then is NaN. Rows may come in any order. Every id of the table becomes a series, in order of
        appearance: one without any value of the variables has a single sample, missing altogether, at its
        first time.

        Parameters
        ----------
        df : DataFrame
            Other columns than the four below are ignored.
        id, time, variable, value : column labels, default="id", "time", "variable", "value"
            Series, time, name of the variable, and number measured. Times are numbers, dates, time
            differences, periods, or text "HH:MM" or "HH:MM:SS" with hours beyond 23 where a series is longer
            than a day. A missing value counts as no value.
        variables : sequence of labels, optional
            The channels, in this order. Other variables are left out, and one that the table lacks is a
            channel of NaN, so that later tables, with few series, get the channels of the first. By default
            all variables of the table, sorted.
        static : sequence of labels, default=()
            Variables that describe the whole series, such as age. Each is a constant channel with its first
            value in time, and adds no sample. Those that ``variables`` does not name come after it.
        duplicates : {"mean", "first", "last", "raise"}, default="mean"
            What to do with several values of a variable at one time of a series: average them, take the first
            or last in the order of the table, or raise an error.
        time_unit : str, optional
            Unit of the times, as in :class:`Panel`.

        Returns
        -------
        Panel
            With ``ids``, so that ``labels.loc[panel.ids]`` aligns a Series or frame of labels.

        Raises
        ------
        TypeError
            For times that are not as above, and values that are not numbers.
        ValueError
            For columns that are not there, an empty table, missing ids, times or names of variables, infinite
            values, and duplicates with ``duplicates="raise"``.

        Examples
        --------
        >>> import pandas as pd
        >>> from tsssm import Panel
        >>> df = pd.DataFrame(
        ...     {
        ...         "patient": [7, 7, 7, 8],
        ...         "time": ["00:07", "00:07", "01:37", "02:00"],
        ...         "variable": ["HR", "T", "HR", "T"],
        ...         "value": [73, 35.1, 77, 36.4],
        ...     }
        ... )
        >>> panel = Panel.from_long(df, id="patient", time_unit="h")
        >>> panel
        Panel(2 series, 2 channels, length 1-1.5-2 (min-median-max), 33 % missing, times 0.116667 to 2 h)
        >>> panel.ids.tolist(), panel.channel_names
        ([7, 8], ('HR', 'T'))
        """
        columns = {"id": id, "time": time, "variable": variable, "value": value}
        parts = parts_from_long(df, columns, variables, static, time_unit, duplicates, "df")
        return cls._from_parts(parts, "df")

    @classmethod
    def from_wide(
        cls: type[Made],
        df: pd.DataFrame,
        *,
        id: Hashable = "id",
        time: Hashable | None = None,
        channels: Sequence[Hashable] | None = None,
        time_unit: str | None = None,
    ) -> Made:
        """Make a panel from a wide table with one row per sample and one column per channel.

        Parameters
        ----------
        df : DataFrame
            Rows may come in any order; they are sorted by time within each series.
        id : column label, default="id"
            Series; in order of appearance they become the series of the panel, and its ``ids``.
        time : column label, optional
            Times as in :meth:`from_long`. Without it the samples lie on a regular grid, in the order of the
            rows.
        channels : sequence of column labels, optional
            The channels, in this order; by default all columns but ``id`` and ``time``.
        time_unit : str, optional
            Unit of the times, as in :class:`Panel`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`from_long`. Rows with the same id and time are samples at equal times: no error.
        """
        columns: dict[str, Any] = {"id": id} if time is None else {"id": id, "time": time}
        return cls._from_parts(parts_from_wide(df, columns, channels, time_unit, "df"), "df")
