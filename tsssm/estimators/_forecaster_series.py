"""sktime's containers of one series, panels and hierarchies as histories on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype
from sktime.forecasting.base import ForecastingHorizon

from tsssm.estimators._forecaster_time import Clock, FloatArray, to_grid

# Sums of a series beyond might be infinite.
_LARGEST = 1e300


class History(NamedTuple):
    """One series on the grid: its key, first cell, values (T, m), variables (T, k) and last stamp.

    ``shift`` (T,) says how long after its cell each sample is, in grid steps.
    """

    key: Any
    first: int
    y: FloatArray
    X: FloatArray
    end: pd.Index
    shift: FloatArray


class Histories(NamedTuple):
    """Histories of all series, and what their columns and levels are called."""

    each: tuple[History, ...]
    clock: Clock
    targets: tuple[Any, ...]
    variables: tuple[Any, ...]
    levels: tuple[Any, ...]

    def due(self, fh: ForecastingHorizon) -> list[tuple[FloatArray, pd.Index]]:
        """For each series the grid steps from its end to the times of fh, and their stamps."""
        # Series that end together have them in common.
        known: dict[Any, tuple[FloatArray, pd.Index]] = {}
        found = []
        for history in self.each:
            key = history.end[0], history.end.dtype, getattr(history.end, "freq", None)
            if key not in known:
                known[key] = self._due(history, fh)
            found.append(known[key])
        return found

    def _due(self, history: History, fh: ForecastingHorizon) -> tuple[FloatArray, pd.Index]:
        if fh.is_relative and self.clock.kind == "integer" and is_integer_dtype(fh.to_pandas().dtype):
            stamps = pd.Index(history.end[0] + fh.to_numpy())
        elif fh.is_relative:
            try:
                stamps = pd.Index(fh.to_absolute_index(history.end))
            except (TypeError, ValueError):
                # Dates without a frequency, and differences: a step is that of the grid.
                ahead = self.clock.ahead(fh.to_pandas())
                gap = pd.to_timedelta(np.round(ahead * self.clock.step), unit="ns")
                return ahead, pd.Index(history.end[-1] + gap)
        else:
            stamps = pd.Index(fh.to_pandas())
            if (getattr(stamps, "tz", None) is None) != (getattr(history.end, "tz", None) is None):
                raise TypeError(
                    f"fh and y must both have a time zone, or neither; y ends at {history.end[-1]}, and "
                    f"fh has {stamps[0]}."
                )
        places = self.clock.places(stamps) - self.clock.places(history.end)[-1]
        if places.min() <= 1e-9:
            raise NotImplementedError(
                f"fh must lie after the end of y: the series{_named(history)} ends at "
                f"{history.end[-1]}, and fh has {stamps[int(places.argmin())]}."
            )
        return places, stamps

    def index_of(self, stamps: Sequence[pd.Index]) -> pd.Index:
        """Index of forecasts for these stamps of each series."""
        if not self.levels:
            return stamps[0]
        keys = [h.key if isinstance(h.key, tuple) else (h.key,) for h in self.each]
        counts = [len(own) for own in stamps]
        outer = [pd.Index(list(level)).repeat(counts) for level in zip(*keys, strict=True)]
        times = stamps[0].append(list(stamps[1:]))
        return pd.MultiIndex.from_arrays([*outer, times], names=list(self.levels))

    def future(self, X: pd.DataFrame, stamps: Sequence[pd.Index]) -> list[FloatArray]:
        """Variables (k_i, columns) at the stamps of each series; NaN in columns that X does not have.

        Raises
        ------
        ValueError
            For other columns than in ``fit``, infinite values, and where rows are lacking.
        """
        if not self.variables:
            raise ValueError("X must be None in predict, because fit had none.")
        columns = _places_of(X.columns, self.variables)
        _check_finite(X, "X")
        frames = dict(_instances(X))
        found = []
        for history, wanted in zip(self.each, stamps, strict=True):
            rows = frames.get(history.key)
            if rows is None:
                raise ValueError(f"X has no rows of the series{_named(history)}.")
            known, due = self.clock.places(rows.index), self.clock.places(wanted)
            order = np.argsort(known, kind="stable")
            nearest = np.clip(np.searchsorted(known[order], due - 1e-6), 0, len(order) - 1)
            lacking = np.abs(known[order][nearest] - due) > 1e-3
            if lacking.any():
                stamp = wanted[int(lacking.argmax())]
                raise ValueError(
                    f"X has to have a row for every time of fh; there is none at {stamp}{_named(history)} "
                    f"(X runs from {rows.index[0]} to {rows.index[-1]})."
                )
            own = np.full((len(due), len(self.variables)), np.nan)
            own[:, columns] = rows.values[order][nearest]
            found.append(own)
        return found

    def extended(self, later: Histories) -> Histories:
        """Histories that go on; where both have a cell, the later value counts.

        Raises
        ------
        ValueError
            For other columns or other series.
        """
        if len(later.targets) != len(self.targets):
            raise ValueError(
                f"y must have the columns of fit, {list(self.targets)}; got {list(later.targets)}."
            )
        if later.variables and later.variables != self.variables:
            raise ValueError(f"X must have the columns of fit, {list(self.variables)}.")
        known = {history.key: history for history in self.each}
        for new in later.each:
            old = known.get(new.key)
            known[new.key] = new if old is None else _joined(old, new, len(self.variables))
        return self._replace(each=tuple(known.values()))


def read_histories(y: pd.DataFrame, X: pd.DataFrame | None, clock: Clock | None) -> Histories:
    """Read frames as histories on a grid: that of ``clock``, or one read off the longest series.

    Raises
    ------
    TypeError, ValueError
        For values that are not numbers or infinite, a series without any value, X that does not cover y, and
        indices that do not fit on a grid.
    """
    _check_finite(y, "y")
    series = list(_instances(y))
    if clock is None:
        longest = max((rows.index for _, rows in series), key=len)
        clock = Clock.of(longest, _frequency(longest))
    variables: dict[Any, _Rows] = {}
    if X is not None:
        _check_finite(X, "X")
        variables = dict(_instances(X))
    each: list[History] = []
    before: pd.Index | None = None
    for key, (index, values) in series:
        named = f"y{'' if key is None else f' of series {key!r}'}"
        empty = ~np.isfinite(values).any(axis=0)
        if empty.any():
            raise ValueError(f"{named} has no value in column {y.columns[int(empty.argmax())]!r}.")
        # The series of a panel often have their times in common.
        if before is None or not index.equals(before):
            before, places, end = index, clock.places(index), _end(index)
        first, cells, shift = to_grid(places, values, named)
        columns = np.zeros((len(cells), 0))
        if X is not None:
            if key not in variables:
                raise ValueError(f"X has no rows of series {key!r}.")
            columns = _aligned(variables[key], clock, first, len(cells), named)
        each.append(History(key, first, cells, columns, end, shift))
    levels = tuple(y.index.names) if y.index.nlevels > 1 else ()
    named_variables = () if X is None else tuple(X.columns)
    return Histories(tuple(each), clock, tuple(y.columns), named_variables, levels)


def _places_of(given: pd.Index, columns: Sequence[Any]) -> list[int]:
    """Which columns of fit these are: all, or those that are known in the future."""
    unknown = [name for name in given if name not in columns]
    if unknown or not given.is_unique or not len(given):
        raise ValueError(
            f"X in predict must have the columns that it had in fit, {list(columns)}, or those of them that "
            f"are known in the future; got {list(given)}."
        )
    return [columns.index(name) for name in given]


class _Rows(NamedTuple):
    """Times and values (T, columns) of one series."""

    index: pd.Index
    values: FloatArray


def _instances(frame: pd.DataFrame) -> Iterator[tuple[Any, _Rows]]:
    """Key and rows of each series; the key of a single series is None."""
    values = frame.to_numpy(dtype=np.float64)
    if frame.index.nlevels == 1:
        yield None, _Rows(frame.index, values)
        return
    times = frame.index.get_level_values(-1)
    owner, keys = frame.index.droplevel(-1).factorize()
    if (np.diff(owner) < 0).any():
        order = np.argsort(owner, kind="stable")
        times, values, owner = times[order], values[order], owner[order]
    bounds = np.searchsorted(owner, np.arange(len(keys) + 1))
    for key, start, stop in zip(keys, bounds[:-1], bounds[1:], strict=True):
        yield key, _Rows(times[start:stop], values[start:stop])


def _end(index: pd.Index) -> pd.Index:
    """The last stamp, with a frequency where it is known."""
    end = index[[-1]]
    if isinstance(index, pd.DatetimeIndex):
        return _with_frequency(end, _frequency(index))
    return end


def _frequency(index: pd.Index) -> str | None:
    """Frequency of dates as pandas spells it, None where there is none."""
    if not isinstance(index, pd.DatetimeIndex):
        return None
    if index.freq is not None:
        return index.freqstr
    try:
        return pd.infer_freq(index)
    except (TypeError, ValueError):
        return None


def _with_frequency(end: pd.DatetimeIndex, freq: str | None) -> pd.DatetimeIndex:
    if freq is None:
        return end
    try:
        return pd.DatetimeIndex(end, freq=freq)
    except ValueError:
        return end


def _aligned(X: _Rows, clock: Clock, first: int, length: int, named: str) -> FloatArray:
    """Variables (length, k) in the cells of a series; NaN where X has none, but not everywhere."""
    cells = np.round(clock.places(X.index)).astype(np.int64) - first
    inside = (cells >= 0) & (cells < length)
    if not inside.any():
        raise ValueError(f"X has no time in common with {named}.")
    found = np.full((length, X.values.shape[1]), np.nan)
    found[cells[inside]] = X.values[inside]
    return found


def _joined(old: History, new: History, width: int) -> History:
    first = min(old.first, new.first)
    stop = max(old.first + len(old.y), new.first + len(new.y))
    y = np.full((stop - first, old.y.shape[1]), np.nan)
    X = np.full((stop - first, width), np.nan)
    shift = np.zeros(stop - first)
    for part in (old, new):
        at = slice(part.first - first, part.first - first + len(part.y))
        known = np.isfinite(part.y)
        y[at] = np.where(known, part.y, y[at])
        shift[at] = np.where(known.any(axis=1), part.shift, shift[at])
        if part.X.shape[1] == width:
            X[at] = np.where(np.isfinite(part.X), part.X, X[at])
    later = new if new.first + len(new.y) >= old.first + len(old.y) else old
    return History(old.key, first, y, X, later.end, shift)


def _check_finite(frame: pd.DataFrame, name: str) -> None:
    values = frame.to_numpy()
    if values.dtype.kind not in "fiub":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(
                f"{name} must hold numbers; got dtypes {sorted(set(map(str, frame.dtypes)))}."
            ) from None
    values = values.astype(np.float64)
    infinite = np.isinf(values)
    if np.nanmax(np.abs(values[~infinite]), initial=0.0) > _LARGEST:
        raise ValueError(f"{name} must hold numbers of magnitude up to {_LARGEST:g}; use a larger unit.")
    if infinite.any():
        row, column = (int(place) for place in np.argwhere(infinite)[0])
        raise ValueError(
            f"{name} must be finite, NaN where missing; got infinity in column {frame.columns[column]!r} at "
            f"{frame.index[row]!r}."
        )


def _named(history: History) -> str:
    return "" if history.key is None else f" {history.key!r}"
