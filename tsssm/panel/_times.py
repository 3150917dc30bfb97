"""Sample times as float64 numbers from a pandas index or an array of stamps.

Stamps (dates, time differences, periods) become seconds since the first stamp of their series, so that
float64 keeps nanoseconds apart; numbers stay as they are, in their own unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import OffsetArray, TimeArray

_SECOND = np.timedelta64(1, "s")


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


def elapsed(values: npt.NDArray[Any], offsets: OffsetArray) -> TimeArray:
    """Return times (total,) from stamps (total,): seconds since the first of the series, or the numbers."""
    if values.dtype.kind in "mM":
        return (values - np.repeat(values[offsets[:-1]], np.diff(offsets))) / _SECOND
    return values


def times_from_indices(indices: Sequence[pd.Index], offsets: OffsetArray, name: str) -> TimeArray | None:
    """Return the times (total,) of series with one index each; None if every index counts 0, 1, 2, ..."""
    pieces: list[TimeArray] = []
    kinds: set[bool] = set()
    for i, index in enumerate(indices):
        series_stamps = stamps(index, f"the index of series {i} of {name}")
        kinds.add(series_stamps.dtype.kind in "mM")
        if len(kinds) == 2:
            raise ValueError(
                f"{name} mixes stamps and numbers as time index: series 0 has a {type(indices[0]).__name__} "
                f"of dtype {indices[0].dtype}, series {i} a {type(index).__name__} of dtype {index.dtype}."
            )
        pieces.append(elapsed(series_stamps, np.array([0, len(index)])))
    times = np.concatenate(pieces)
    return times if kinds == {True} else _none_if_counting(times, offsets)


def times_from_level(index: pd.Index, offsets: OffsetArray, name: str) -> TimeArray | None:
    """Return the times (total,) of one index (total,) over all series; None if it counts 0, 1, 2, ..."""
    all_stamps = stamps(index, f"the time level of the index of {name}")
    times = elapsed(all_stamps, offsets)
    return times if all_stamps.dtype.kind in "mM" else _none_if_counting(times, offsets)


def times_from_argument(times: Any, where: str) -> TimeArray:
    """Return given times (..., length) as float64, stamps relative to the first of their row."""
    array = times if isinstance(times, np.ndarray) else np.asarray(times)
    if array.ndim == 1:
        array = stamps(pd.Index(times), where)
    if array.dtype.kind in "mM":
        if np.isnat(array).any():
            raise ValueError(f"{where} has {int(np.isnat(array).sum())} NaT; every sample needs a time.")
        return (array - array[..., :1]) / _SECOND
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{where} must hold numbers, dates or time differences, got dtype {array.dtype}.")
    return array.astype(np.float64)


def _none_if_counting(times: TimeArray, offsets: OffsetArray) -> TimeArray | None:
    counting = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    return None if np.array_equal(times, counting) else times
