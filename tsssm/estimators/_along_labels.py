"""What is given along time: labels, targets and weights of samples, or of times of their own.

Symbols: n series, m values along time in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.estimators._alignment import aligned
from tsssm.estimators._checks import FloatArray, IntArray
from tsssm.panel import Panel, plain
from tsssm.panel._checks import UNITS
from tsssm.panel._times import stamps

Values = npt.NDArray[Any]

_FORMS = (
    "an array (n, length), a list of one array per series, a list of pairs (times, values), a Panel, or a "
    "frame with a time index"
)


@dataclass(frozen=True)
class AlongTime:
    """Values along time, one series after another.

    Attributes
    ----------
    values : array (m,) or (m, k)
        k columns where the container has an axis for them.
    offsets : array (n + 1,)
        Those of series i are ``values[offsets[i]:offsets[i + 1]]``.
    times : array (m,) or None
        In the unit of the times of the panel, or numbers of samples; None for one value per sample.
    columns : list or None
        Names of several columns, if they have some.
    """

    values: Values
    offsets: IntArray
    times: FloatArray | None
    columns: list[Any] | None = None

    @property
    def series(self) -> IntArray:
        """Number of the series of each value, (m,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def read_along(y: Any, X: Any, panel: Panel, name: str) -> AlongTime:
    """Return what is given along the time of the series of a panel.

    Parameters
    ----------
    y : anything
        As ``fit`` of the estimators says.
    X : anything
        What the panel was made of; dates count from the first one of its series.
    panel : Panel
    name : str
        What error messages call the values.

    Raises
    ------
    TypeError
        For something that holds no values along time.
    ValueError
        For another number of series or of samples, times that fall back or cannot be compared with those of
        X, and names of series that X does not have.
    """
    y = plain(y, name)
    if isinstance(y, Panel):
        return _of_panel(y, panel, name)
    if isinstance(y, (pd.Series, pd.DataFrame)):
        if y.index.nlevels == 2:
            return _of_rows(y, X, panel, name)
        y = aligned(y, panel, X, name)
        if isinstance(y, pd.DataFrame):
            y = y.to_numpy()
        else:
            y = list(y) if y.dtype == object else y.to_numpy()
    if isinstance(y, (str, bytes, dict, set)) or not hasattr(y, "__len__"):
        raise TypeError(f"{name} must be {_FORMS}; got {type(y).__name__}.")
    if isinstance(y, (list, tuple)) or (y.dtype == object and y.ndim == 1):
        return _of_items(list(y), X, panel, name)
    return _of_array(np.asarray(y), panel, name)


def _one_each(count: int, panel: Panel, name: str) -> None:
    if count != len(panel):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {len(panel)} series, {name} "
            f"has {count}."
        )


def _of_panel(y: Panel, panel: Panel, name: str) -> AlongTime:
    _one_each(len(y), panel, name)
    if y.ids is not None and panel.ids is not None and not y.ids.equals(panel.ids):
        if not (y.ids.is_unique and panel.ids.isin(y.ids).all()):
            raise ValueError(f"The ids of {name} must be those of X, once each.")
        y = y[y.ids.get_indexer(panel.ids)]
    columns = None if y.channel_names is None or y.n_channels == 1 else list(y.channel_names)
    values = y.values if y.n_channels > 1 else y.values[:, 0]
    times = y.times
    if times is None:
        _check_lengths(y.lengths, panel, name)
    elif y.time_unit is not None:
        times = times * _in_unit_of(y.time_unit, panel, name)
    return AlongTime(values, y.offsets, times, columns)


def _in_unit_of(unit: str, panel: Panel, name: str) -> float:
    """How many units of the times of a panel a unit of time has."""
    if panel.time_unit is None:
        what = "times without a unit" if panel.has_times else "no times"
        raise ValueError(f"{name} has times in {unit!r}, but X has {what}: they cannot be compared.")
    return UNITS[unit] / UNITS[panel.time_unit]


def _of_array(y: Values, panel: Panel, name: str) -> AlongTime:
    if y.ndim < 2:
        one = "one entry per series, which is for SSMClassifier and SSMRegressor; it must be "
        raise ValueError(
            f"{name} has shape {y.shape}, {one if len(y) == len(panel) else 'and must be '}{_FORMS}."
        )
    if y.ndim > 3:
        raise ValueError(f"{name} must have shape (n, length) or (n, n_targets, length); got {y.shape}.")
    _one_each(len(y), panel, name)
    _check_lengths(np.full(len(y), y.shape[-1]), panel, name)
    values = y.reshape(-1) if y.ndim == 2 else y.transpose(0, 2, 1).reshape(-1, y.shape[1])
    return AlongTime(values, panel.offsets, None)


def _check_lengths(lengths: IntArray, panel: Panel, name: str) -> None:
    other = np.flatnonzero(lengths != panel.lengths)
    if other.size:
        i = int(other[0])
        raise ValueError(
            f"{name} must have one value for each sample, or times of its own: series {i} of X has "
            f"{panel.lengths[i]} samples, that of {name} has {lengths[i]}."
        )


def _of_items(items: list[Any], X: Any, panel: Panel, name: str) -> AlongTime:
    """Values of a list with one entry per series."""
    if items and all(_is_one(item) for item in items):
        return _of_array(np.asarray(items, dtype=object), panel, name)
    _one_each(len(items), panel, name)
    origins: list[Any] | None = None
    values: list[Values] = []
    times: list[FloatArray] = []
    columns: list[Any] | None = None
    for i, item in enumerate(items):
        what = f"series {i} of {name}"
        own: Any = None
        if isinstance(item, tuple) and len(item) == 2:
            own, item = item
            item = _array(item, what)
        elif isinstance(item, (pd.Series, pd.DataFrame)):
            if isinstance(item, pd.DataFrame):
                columns = list(item.columns) if item.shape[1] > 1 else None
            counting = isinstance(item.index, pd.RangeIndex) and item.index.equals(
                pd.RangeIndex(panel.lengths[i])
            )
            own = None if counting else item.index
            item = item.to_numpy().T
            item = item[0] if item.ndim == 2 and len(item) == 1 else item
        else:
            item = _array(item, what)
        if item.ndim not in (1, 2):
            raise ValueError(f"{what} must have shape (length,) or (n_targets, length); got {item.shape}.")
        if own is None:
            if item.shape[-1] != panel.lengths[i]:
                raise ValueError(
                    f"{name} must have one value for each sample, or times of its own: series {i} of X has "
                    f"{panel.lengths[i]} samples, that of {name} has {item.shape[-1]}."
                )
            times.append(_sample_times(panel, i))
        else:
            origins = _origins(X, len(panel)) if origins is None else origins
            times.append(_numbers(own, origins[i], panel, f"the times of {what}"))
            if len(times[-1]) != item.shape[-1]:
                raise ValueError(f"{what} has {item.shape[-1]} values at {len(times[-1])} times.")
            _check_rising(times[-1], i, name)
        if values and values[0].shape[1:] != item.T.shape[1:]:
            raise ValueError(f"every series of {name} must have the same columns; series {i} has others.")
        values.append(item.T)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in values])])
    return AlongTime(_joined(values), offsets, np.concatenate(times), columns)


def _is_one(item: Any) -> bool:
    """Whether this is a single value, and no container."""
    return (
        isinstance(item, (str, bytes)) or getattr(item, "shape", None) == () or not hasattr(item, "__len__")
    )


def _array(item: Any, what: str) -> Values:
    item = plain(item, what)
    if not hasattr(item, "dtype"):
        try:
            item = np.asarray(item, dtype=object)  # next to strings NumPy would turn NaN into "nan"
        except ValueError as error:
            raise ValueError(f"{what} is a nested sequence of unequal lengths: {error}") from error
    return np.asarray(item)


def _joined(values: list[Values]) -> Values:
    """Values of all series, in one type; strings and numbers together as objects."""
    strings = {part.dtype.kind in "US" for part in values if part.dtype.kind != "O"}
    if len(strings) == 2:
        values = [part.astype(object) for part in values]
    return np.concatenate(values)


def _sample_times(panel: Panel, i: int) -> FloatArray:
    start, stop = panel.offsets[i], panel.offsets[i + 1]
    return np.arange(stop - start, dtype=np.float64) if panel.times is None else panel.times[start:stop]


def _of_rows(y: pd.Series | pd.DataFrame, X: Any, panel: Panel, name: str) -> AlongTime:
    """Values of a frame with an index (series, time)."""
    frame = y.to_frame() if isinstance(y, pd.Series) else y
    columns = list(frame.columns) if frame.shape[1] > 1 else None
    values = frame.to_numpy() if columns else frame.iloc[:, 0].to_numpy()
    if isinstance(X, pd.DataFrame) and X.index.equals(y.index):
        return AlongTime(values, panel.offsets, None, columns)
    labels = y.index.get_level_values(0)
    if panel.ids is not None:
        if not panel.ids.is_unique:
            raise ValueError(
                f"ids of X must be unique to match {name} by its index; got several series of one id."
            )
        series = panel.ids.get_indexer(labels)
        if (series < 0).any():
            unknown = labels[series < 0].tolist()[0]
            raise ValueError(f"The index of {name} has the series {unknown!r}, which X does not have.")
    else:
        series, found = pd.factorize(labels)
        _one_each(len(found), panel, name)
    order = np.argsort(series, kind="stable")
    offsets = np.searchsorted(series[order], np.arange(len(panel) + 1))
    level = y.index.get_level_values(1)[order]
    origins, times = _origins(X, len(panel)), []
    for i, (start, stop) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        times.append(_numbers(level[start:stop], origins[i], panel, f"the times of series {i} of {name}"))
        _check_rising(times[-1], i, name)
    return AlongTime(values[order], offsets, np.concatenate(times), columns)


def read_times(times: Any, X: Any, panel: Panel) -> tuple[FloatArray, IntArray, bool]:
    """Return times (m,) to answer at, their offsets (n + 1,), and whether they are those of all series.

    Raises
    ------
    TypeError, ValueError
        For times that are neither one array nor one per series, or cannot be compared with those of X.
    """
    times = plain(times, "times")
    origins = _origins(X, len(panel))
    objects = isinstance(times, np.ndarray) and times.dtype == object
    several = objects or (isinstance(times, (list, tuple)) and len(times) > 0 and not _is_one(times[0]))
    if _is_one(times):
        raise TypeError(
            f"times must be an array, or a list of one array per series; got {type(times).__name__}."
        )
    if not several and getattr(times, "ndim", 1) != 2:
        pieces = [_numbers(times, origins[i], panel, "times") for i in range(len(panel))]
        alike = True
    else:
        _one_each(len(times), panel, "times")
        pieces = [_numbers(own, origins[i], panel, f"times of series {i}") for i, own in enumerate(times)]
        alike = not several
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return np.concatenate(pieces), offsets, alike


def _check_rising(times: FloatArray, i: int, name: str) -> None:
    back = np.flatnonzero(np.diff(times) < 0)
    if back.size:
        k = int(back[0])
        raise ValueError(
            f"the times of series {i} of {name} must not decrease; got {times[k + 1]:g} after {times[k]:g}, "
            f"at position {k + 1}."
        )


def _numbers(times: Any, origin: Any, panel: Panel, where: str) -> FloatArray:
    """Times (m,) as numbers in the unit of the times of a panel."""
    times = plain(times, where)
    index = times if isinstance(times, pd.Index) else pd.Index(np.asarray(times))
    if index.nlevels != 1 or np.ndim(index) != 1:
        raise ValueError(f"{where} must have one dimension; got {np.shape(times)}.")
    found: Any = np.empty(0) if len(index) == 0 else stamps(index, where)
    if found.dtype.kind == "M":
        if origin is None:
            raise ValueError(
                f"{where} are dates, but X has none: give them as time differences from the first sample."
            )
        found = found - origin
    if found.dtype.kind == "m":
        return found / np.timedelta64(1, "ns") * (1e-9 * _in_unit_of("s", panel, where))
    if not np.isfinite(found).all():
        raise ValueError(f"{where} must be finite; {int((~np.isfinite(found)).sum())} are not.")
    return found.astype(np.float64)


def _origins(X: Any, n: int) -> list[Any]:
    """The first stamp of each series, where X has dates, else None."""
    first: list[Any] = []
    if isinstance(X, pd.DataFrame) and X.index.nlevels == 2:
        codes = np.asarray(X.index.codes[0])
        level = X.index.get_level_values(1)
        first = [level[[start]] for start in np.flatnonzero(np.diff(codes, prepend=-1))]
    elif isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.dtype == object):
        first = [item.index[:1] for item in X if isinstance(item, (pd.Series, pd.DataFrame))]
    elif isinstance(X, pd.DataFrame) and len(X) and isinstance(X.iat[0, 0], pd.Series):
        first = [cell.index[:1] for cell in X.iloc[:, 0]]
    if len(first) != n or not isinstance(first[0], (pd.DatetimeIndex, pd.PeriodIndex)):
        return [None] * n
    return [stamps(index, "the index of X")[0] for index in first]
