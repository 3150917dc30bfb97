"""Which channels, series, stretches and windows a caller means, and how they are cut out of a panel."""

from __future__ import annotations

import difflib
from collections.abc import Hashable
from datetime import timedelta
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import UNITS, OffsetArray, Parts, TimeArray
from tsssm.panel._rows import take_runs

_INCLUSIVE = {"both": (True, True), "left": (True, False), "right": (False, True), "neither": (False, False)}


def duration(value: Any, parts: Parts, name: str, *, positive: bool = False) -> float:
    """A time, or a time difference, as a number in the unit of the panel."""
    if isinstance(value, (str, timedelta, np.timedelta64)):
        if parts.time_unit is None:
            has = "times without a unit" if parts.times is not None else "no times"
            raise ValueError(
                f"{name}={value!r} is a time difference, but the panel has {has}: pass a number, or "
                "time_unit when the panel is made."
            )
        try:
            number = pd.Timedelta(value) / pd.Timedelta(1, "s") / UNITS[parts.time_unit]
        except ValueError as error:
            raise ValueError(f"{name} must be a number or a time difference; got {value!r}.") from error
    elif isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
    else:
        raise TypeError(f"{name} must be a number or a time difference; got {value!r}.")
    if not np.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{name} must be {'positive' if positive else 'finite'}; got {value!r}.")
    return number


def times_or_numbers(parts: Parts) -> TimeArray:
    """Times (total,), or the numbers of the samples in their series where there are none."""
    if parts.times is not None:
        return parts.times
    starts = np.repeat(parts.offsets[:-1], np.diff(parts.offsets))
    return (np.arange(len(starts)) - starts).astype(np.float64)


def rounding(times: TimeArray, length: float) -> float:
    """How far apart two times may be by rounding alone where lengths of ``length`` are added up."""
    return 1e-9 * length + 4 * float(np.spacing(np.abs(times).max(initial=0.0)))


def channel_numbers(channels: Any, parts: Parts) -> list[int]:
    """Positions of channels that are given by name or position."""
    single = isinstance(channels, (str, Integral))
    wanted: list[Hashable] = [channels] if single else list(channels)
    numbers = [_channel_number(channel, parts) for channel in wanted]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"channels must name one or more channels, each once; got {wanted!r}.")
    return numbers


def _channel_number(channel: Any, parts: Parts) -> int:
    names, n = parts.channel_names, parts.values.shape[1]
    if isinstance(channel, str):
        if names is None:
            raise ValueError(
                f"channels={channel!r} is a name, but the {n} channels have none: give positions."
            )
        if channel not in names:
            folded = {name.casefold(): name for name in names}
            close = difflib.get_close_matches(channel.casefold(), folded, n=1)
            hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
            raise KeyError(f"the panel has no channel {channel!r}; it has {', '.join(names)}.{hint}")
        if names.count(channel) > 1:
            raise KeyError(f"{names.count(channel)} channels are called {channel!r}: give positions.")
        return names.index(channel)
    if not isinstance(channel, Integral) or isinstance(channel, bool):
        raise ValueError(f"channels must be names or positions; got {channel!r}.")
    if not -n <= int(channel) < n:
        raise IndexError(f"channels={channel} is out of range for {n} channels.")
    return int(channel) % n


def rows_of_ids(ids: Any, parts: Parts) -> npt.NDArray[np.intp]:
    """Numbers of the series that have these ids, in the order asked for."""
    if parts.ids is None:
        raise ValueError("the panel has no ids; pass ids when the panel is made, or select by position.")
    wanted = pd.Index([ids] if isinstance(ids, (str, tuple)) or np.ndim(ids) == 0 else ids)
    rows, missing = parts.ids.get_indexer_non_unique(wanted)
    if len(missing):
        raise KeyError(
            f"no series has the id {wanted[missing[0]]!r}; {len(missing)} of {len(wanted)} not found"
        )
    return rows


def between(parts: Parts, start: Any, stop: Any, inclusive: str) -> Parts:
    """Samples from ``start`` to ``stop``; series without one keep a missing sample."""
    if inclusive not in _INCLUSIVE:
        raise ValueError(f"inclusive must be one of {', '.join(map(repr, _INCLUSIVE))}; got {inclusive!r}.")
    low = -np.inf if start is None else duration(start, parts, "start")
    high = np.inf if stop is None else duration(stop, parts, "stop")
    if high < low:
        raise ValueError(f"stop must not be before start; got start={start!r} and stop={stop!r}.")
    if len(parts.offsets) == 1:
        return parts
    times = times_or_numbers(parts)
    with_low, with_high = _INCLUSIVE[inclusive]
    inside = (times >= low if with_low else times > low) & (times <= high if with_high else times < high)
    starts = parts.offsets[:-1]
    empty = starts[np.add.reduceat(inside, starts, dtype=np.int64) == 0]
    values, moved = parts.values, parts.times
    if len(empty):
        values = values.copy()
        values[empty] = np.nan
        if moved is not None:
            moved = moved.copy()
            moved[empty] = np.clip(moved[empty], low, high)
        inside[empty] = True
    offsets = np.concatenate([[0], np.cumsum(np.add.reduceat(inside, starts, dtype=np.int64))])
    return parts._replace(
        values=values[inside], offsets=offsets, times=None if moved is None else moved[inside]
    )


def windows(parts: Parts, length: Any, stride: Any, partial: bool) -> Parts:
    """Windows of every series, as series whose ids are those they were cut from."""
    span = duration(length, parts, "length", positive=True)
    step = span if stride is None else duration(stride, parts, "stride", positive=True)
    times, ends = times_or_numbers(parts), parts.offsets[1:]
    slack = rounding(times, span)
    found = [
        _windows_of_series(times[first:last] - times[first], span, step, slack, partial)
        for first, last in zip(parts.offsets[:-1], ends, strict=True)
    ]
    counts = np.array([len(starts) for starts, _ in found], dtype=np.int64)
    if not counts.sum():
        longest = (times[ends - 1] - times[parts.offsets[:-1]]).max(initial=0)
        raise ValueError(
            f"no series fills a window of length={length!r}: the longest spans {longest:g}. Take a shorter "
            "window, or partial=True."
        )
    starts = np.concatenate([starts for starts, _ in found]) + np.repeat(parts.offsets[:-1], counts)
    lengths = np.concatenate([lengths for _, lengths in found])
    ids = pd.RangeIndex(len(counts)) if parts.ids is None else parts.ids
    return take_runs(parts, starts, lengths)._replace(ids=ids[np.repeat(np.arange(len(counts)), counts)])


def _windows_of_series(
    times: TimeArray, span: float, step: float, slack: float, partial: bool
) -> tuple[OffsetArray, OffsetArray]:
    """First sample and number of samples of the windows of a series whose times begin at 0."""
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    latest = times[-1] if partial else times[-1] + gap - span
    begin = step * np.arange(max(0, int(np.floor((latest + slack) / step)) + 1))
    first, last = (np.searchsorted(times, begin + more - slack) for more in (0.0, span))
    held = last > first
    return first[held], (last - first)[held]
