"""Sample times as float64 numbers from a pandas index, a column or an array of stamps.

Numbers stay as they are, in the unit that the caller names, or in one of their own. Stamps are converted to
the unit that the caller names, or to seconds: dates and periods count from the first stamp of their series,
so that float64 keeps nanoseconds apart; time differences and clock times such as "07:30" keep their origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import UNITS, OffsetArray, TimeArray, checked_unit
from tsssm.panel._numbers import plain

DEFAULT_UNIT = "s"

_CLOCK = re.compile(r"(-?)(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d{1,9})?))?")


class Reading(NamedTuple):
    """How numbers and stamps are read as times.

    Attributes
    ----------
    unit : str or None
        Unit of the numbers, and the unit that stamps are converted to; None leaves numbers without a unit
        and converts stamps to seconds.
    counting_is_time : bool
        Whether an index that counts 0, 1, 2, ... in every series holds times; by default it does not, because
        pandas writes it where no index was given. With a unit it does.
    """

    unit: str | None = None
    counting_is_time: bool = False


class Times(NamedTuple):
    """Times (total,) or None, and their unit or None."""

    times: TimeArray | None
    unit: str | None


def stamps(index: pd.Index, where: str) -> npt.NDArray[Any]:
    """Return the index (length,) as datetime64, timedelta64 or float64; ``where`` names it in errors."""
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp(how="start")
    if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        if index.hasnans:
            raise ValueError(f"{where} has {int(index.isna().sum())} NaT; every sample needs a time.")
        return index.values  # UTC where the index has a time zone
    if pd.api.types.is_any_real_numeric_dtype(index.dtype):
        return index.to_numpy(dtype=np.float64, na_value=np.nan)
    raise TypeError(
        f"{where} is a {type(index).__name__} of dtype {index.dtype}; give a DatetimeIndex, TimedeltaIndex, "
        "PeriodIndex or numbers, or call reset_index(drop=True) if the samples are on a regular grid."
    )


def column_stamps(column: pd.Series, where: str) -> npt.NDArray[Any]:
    """Return a column (rows,) of numbers, stamps or clock times as float64, datetime64 or timedelta64.

    Raises
    ------
    TypeError
        For text that is no clock time, and for anything else that is no time.
    ValueError
        For missing times.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{where} has {int(missing.sum())} missing times (NaN or NaT), the first in row "
            f"{int(np.argmax(missing))}; every sample needs a time."
        )
    if pd.api.types.is_string_dtype(column.dtype):
        return _clock_times(column, where)
    kinds = (pd.PeriodDtype, pd.DatetimeTZDtype)
    if isinstance(column.dtype, kinds) or getattr(column.dtype, "kind", "O") in "mM":
        return stamps(pd.Index(column), where)
    if not pd.api.types.is_any_real_numeric_dtype(column.dtype):
        raise TypeError(
            f"{where} must hold numbers, dates, time differences or clock times such as '07:30'; got dtype "
            f"{column.dtype}."
        )
    return column.to_numpy(dtype=np.float64)


def _clock_times(column: pd.Series, where: str) -> npt.NDArray[np.timedelta64]:
    """Hours, minutes and perhaps seconds as timedelta64[ns]; hours may go beyond 23."""
    codes, texts = pd.factorize(column)  # a table has few different clock times
    nanoseconds = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise TypeError(
                f"{where} holds the text {text!r}, which is not a time 'HH:MM' or 'HH:MM:SS'. Convert "
                "dates with pandas.to_datetime and time differences with pandas.to_timedelta first."
            )
        sign, hours, minutes, seconds = match.groups()
        whole = 3600 * int(hours) + 60 * int(minutes)
        count = whole * 10**9 + round(float(seconds or 0) * 1e9)
        if count >= 2**63:
            raise ValueError(
                f"{where} holds the text {text!r}, which is beyond the 292 years that pandas can count."
            )
        nanoseconds[i] = -count if sign else count
    return nanoseconds[codes].view("m8[ns]")


def elapsed(values: npt.NDArray[Any], offsets: OffsetArray, unit: str | None) -> tuple[TimeArray, str | None]:
    """Return times (total,) and their unit from stamps (total,) of series that begin at ``offsets``."""
    if values.dtype.kind not in "mM":
        return values, unit
    if values.dtype.kind == "M":
        values = values - np.repeat(values[offsets[:-1]], np.diff(offsets))
    unit = unit or DEFAULT_UNIT
    return values / _one(unit), unit


def _one(unit: str) -> np.timedelta64:
    code: Any = {"min": "m"}.get(unit, unit)
    return np.timedelta64(1, code)


def times_from_indices(
    indices: Sequence[pd.Index], offsets: OffsetArray, reading: Reading, name: str
) -> Times:
    """Return the times of series with one index each; none if every index counts 0, 1, 2, ..."""
    pieces: list[TimeArray] = []
    kinds: set[bool] = set()
    unit = checked_unit(reading.unit)
    for i, index in enumerate(indices):
        series_stamps = stamps(index, f"the index of series {i} of {name}")
        kinds.add(series_stamps.dtype.kind in "mM")
        if len(kinds) == 2:
            raise ValueError(
                f"{name} mixes stamps and numbers as time index: series 0 has a {type(indices[0]).__name__} "
                f"of dtype {indices[0].dtype}, series {i} a {type(index).__name__} of dtype {index.dtype}."
            )
        piece, own_unit = elapsed(series_stamps, np.array([0, len(index)]), unit)
        pieces.append(piece)
    times = Times(np.concatenate(pieces), own_unit)
    return times if kinds == {True} else _unless_counting(times, offsets, reading)


def times_from_level(index: pd.Index, offsets: OffsetArray, reading: Reading, name: str) -> Times:
    """Return the times of one index (total,) over all series; none if it counts 0, 1, 2, ..."""
    all_stamps = stamps(index, f"the time level of the index of {name}")
    times = Times(*elapsed(all_stamps, offsets, checked_unit(reading.unit)))
    return times if all_stamps.dtype.kind in "mM" else _unless_counting(times, offsets, reading)


def times_from_argument(times: Any, unit: str | None, where: str) -> tuple[TimeArray, str | None]:
    """Return given times (..., length), each row a series, in their shape, and their unit."""
    unit = checked_unit(unit)
    times = plain(times, where)
    if np.ma.is_masked(times):
        raise ValueError(
            f"{where} has {np.ma.count_masked(times)} masked entries; every sample needs a time."
        )
    try:
        array = np.asarray(times)
    except ValueError as error:
        raise ValueError(f"{where} is a nested sequence of unequal lengths, not an array: {error}") from error
    if array.ndim == 1:
        array = stamps(pd.Index(times), where)
    if array.dtype.kind in "mM":
        if np.isnat(array).any():
            raise ValueError(f"{where} has {int(np.isnat(array).sum())} NaT; every sample needs a time.")
        unit = unit or DEFAULT_UNIT
        return (array - array[..., :1] if array.dtype.kind == "M" else array) / _one(unit), unit
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{where} must hold numbers, dates or time differences, got dtype {array.dtype}.")
    return array.astype(np.float64), unit


def time_index(times: TimeArray | None, unit: str | None, offsets: OffsetArray) -> pd.Index:
    """Return the index (total,) that is read back as these times.

    A TimedeltaIndex, to the nanosecond, where the unit is known; else the numbers, as integers where all of
    them are whole, and 0, 1, 2, ... in each series without times.

    Raises
    ------
    ValueError
        If a time is beyond the 292 years that pandas can count in nanoseconds.
    """
    if times is None:
        return pd.Index(_counting(offsets))
    if unit is not None:
        nanoseconds = np.round(times * UNITS[unit] * 1e9)
        if (np.abs(nanoseconds) >= 2.0**63).any():
            raise ValueError(f"times of up to {np.abs(times).max():g} {unit} do not fit a TimedeltaIndex.")
        return pd.TimedeltaIndex(nanoseconds.astype(np.int64).view("m8[ns]"))
    whole = (times == np.round(times)).all() and (np.abs(times) < 2.0**53).all()
    return pd.Index(times.astype(np.int64) if whole else times)


def _unless_counting(times: Times, offsets: OffsetArray, reading: Reading) -> Times:
    if reading.counting_is_time or reading.unit is not None:
        return times
    counting = times.times is not None and np.array_equal(times.times, _counting(offsets))
    return Times(None, None) if counting else times


def _counting(offsets: OffsetArray) -> npt.NDArray[np.int64]:
    """0, 1, 2, ... in each series, (total,)."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
