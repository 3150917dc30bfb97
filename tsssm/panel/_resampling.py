"""A panel on a regular grid, and a table of what it holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel._checks import Parts, TimeArray
from tsssm.panel._cutting import rounding, times_or_numbers
from tsssm.panel._numbers import FloatArray

_SUMMARIES = ("mean", "median", "min", "max", "sum", "first", "last")
_READINGS = ("linear", "hold")
_MOST_VALUES = 2**31


def resampled(parts: Parts, step: float, how: str) -> Parts:
    """Values at, or between, the times 0, step, 2 step, ... after the first sample of each series."""
    if how not in (*_SUMMARIES, *_READINGS):
        allowed = ", ".join(map(repr, (*_SUMMARIES, *_READINGS)))
        raise ValueError(f"how must be one of {allowed}; got {how!r}.")
    if len(parts.offsets) == 1:
        return parts
    times, lengths = times_or_numbers(parts), np.diff(parts.offsets)
    first = np.repeat(times[parts.offsets[:-1]], lengths)
    slack = rounding(times, step)
    steps = np.floor((times - first + slack) / step)
    counts = steps[parts.offsets[1:] - 1] + 1
    if counts.sum() * parts.values.shape[1] > _MOST_VALUES:
        raise ValueError(
            f"step={step:g} would make {counts.sum():.3g} samples from {len(times)}, more than fit in "
            "memory; pass a longer step."
        )
    grid = np.concatenate([[0], np.cumsum(counts.astype(np.int64))])
    numbers = np.arange(grid[-1]) - np.repeat(grid[:-1], np.diff(grid))
    placed = np.repeat(times[parts.offsets[:-1]], np.diff(grid)) + step * numbers
    if how in _SUMMARIES:
        rows = np.repeat(grid[:-1], lengths) + steps.astype(np.int64)
        values = _summaries(parts.values, rows, grid[-1], how)
    else:
        bounds = zip(parts.offsets[:-1], parts.offsets[1:], grid[:-1], grid[1:], strict=True)
        pieces = [
            _readings(times[a:b], parts.values[a:b], _snapped(placed[c:d], times[a:b], slack), how)
            for a, b, c, d in bounds
        ]
        values = np.concatenate(pieces)
    return parts._replace(values=values, offsets=grid, times=placed)


def _summaries(values: FloatArray, rows: npt.NDArray[np.int64], total: int, how: str) -> FloatArray:
    grouped = pd.DataFrame(values).groupby(rows)
    table = grouped.sum(min_count=1) if how == "sum" else grouped.agg(how)
    return table.reindex(np.arange(total)).to_numpy(values.dtype)


def _snapped(grid: TimeArray, times: TimeArray, tolerance: float) -> TimeArray:
    """The grid, with the time of a sample in place of one that only rounding keeps apart from it."""
    after = np.searchsorted(times, grid).clip(1, max(len(times) - 1, 1))
    near = np.where(
        np.abs(times[after - 1] - grid) <= np.abs(times[after % len(times)] - grid),
        times[after - 1],
        times[after % len(times)],
    )
    return np.where(np.abs(near - grid) <= tolerance, near, grid)


def _readings(times: TimeArray, values: FloatArray, grid: TimeArray, how: str) -> FloatArray:
    """The channels of one series at the times of a grid."""
    out = np.full((len(grid), values.shape[1]), np.nan, values.dtype)
    for j, channel in enumerate(values.T):
        known = ~np.isnan(channel)
        if not known.any():
            continue
        if how == "linear":
            out[:, j] = np.interp(grid, times[known], channel[known], left=np.nan, right=np.nan)
        else:
            last = np.searchsorted(times[known], grid, side="right") - 1
            out[last >= 0, j] = channel[known][last[last >= 0]]
    return out


def described(parts: Parts) -> pd.DataFrame:
    """One row per channel: counts, moments, quartiles, missing share, series with values, median gap."""
    names = parts.channel_names or range(parts.values.shape[1])
    table = (
        pd.DataFrame(parts.values.astype(np.float64), columns=pd.Index(names, name="channel")).describe().T
    )
    series = np.repeat(np.arange(len(parts.offsets) - 1), np.diff(parts.offsets))
    known, times = ~np.isnan(parts.values), times_or_numbers(parts)
    table["missing"] = 1 - known.mean(axis=0) if len(known) else np.nan
    table["series"] = [len(np.unique(series[column])) for column in known.T]
    table["gap"] = [_median_gap(times[column], series[column]) for column in known.T]
    return table


def _median_gap(times: TimeArray, series: npt.NDArray[np.int64]) -> float:
    gaps = np.diff(times)[np.diff(series) == 0]
    return float(np.median(gaps)) if len(gaps) else np.nan
