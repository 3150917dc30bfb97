"""Series of one target as forecasters learn from them, and closed-form forecasts of them at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tsssm.estimators._forecaster_covariates import Target
from tsssm.estimators._forecaster_series import Histories
from tsssm.estimators._forecaster_time import FloatArray
from tsssm.forecasting import Track

# Each round continues from the forecasts of the round before.
_MOST_ROUNDS = 1000


def tracks_of(histories: Histories, column: int, together: bool) -> list[Track]:
    """The series of one column, with what all columns were before if they are read ``together``."""
    return [
        Track(column, h.y[:, column], h.first, h.shift, h.X, h.y if together else None)
        for h in histories.each
    ]


def closed_forecasts(
    target: Target,
    tracks: Sequence[Track],
    steps: Sequence[FloatArray],
    future: Sequence[FloatArray] | None,
    levels: Sequence[float] | None,
) -> list[FloatArray]:
    """Forecasts (k_i, levels or 1) at steps (k_i,) after the last cell, with variables (k_i, m) if known.

    A variable that is missing at all times ahead is taken to stay as it was last: it is known of the past
    alone.
    """
    effect = target.effect if future is not None else None
    phases = [track.phase for track in tracks]
    series = [track.y for track in tracks]
    if effect is None or future is None:
        return at_steps(target.alone, series, phases, steps, levels)
    rest = [track.y - effect.of(track.X) for track in tracks]
    paths = at_steps(target.beside, rest, phases, steps, levels)
    known = [_held(own, track.X) for own, track in zip(future, tracks, strict=True)]
    return [path + effect.of(X)[:, None] for path, X in zip(paths, known, strict=True)]


def _held(future: FloatArray, past: FloatArray) -> FloatArray:
    found = future.copy()
    for column in np.flatnonzero(np.isnan(future).all(axis=0)):
        there = np.flatnonzero(np.isfinite(past[:, column]))
        if len(there):
            found[:, column] = past[there[-1], column]
    return found


def at_steps(
    model: Any,
    series: Sequence[FloatArray],
    phases: Sequence[int],
    steps: Sequence[FloatArray],
    levels: Sequence[float] | None,
) -> list[FloatArray]:
    """Forecasts (k_i, levels or 1) of series at steps (k_i,), straight lines between those of the grid.

    The line to the first step starts at the last value; errors before it are taken to be as large as at it.

    Raises
    ------
    ValueError
        For steps that are too many times as far ahead as the model was fitted for.
    FloatingPointError
        If a forecast is not finite.
    """
    farthest = max(1, math.ceil(max(float(s.max()) for s in steps) - 1e-6))
    if farthest > _MOST_ROUNDS * model.horizon:
        raise ValueError(
            f"fh reaches {farthest:,} steps ahead, but the forecaster was fitted for {model.horizon} and "
            f"forecasts at most {_MOST_ROUNDS} times as many; pass nearer times, or name them in fit."
        )
    forecast = model.forecast(series, phases, farthest)
    grid = forecast.values[:, :, None] if levels is None else model.quantiles(forecast, levels)
    found = []
    for y, path, middle, places in zip(series, grid, forecast.values, steps, strict=True):
        known = np.flatnonzero(np.isfinite(y))
        whole = np.concatenate([y[known[-1]] + path[:1] - middle[0], path])
        below = np.clip(np.floor(places + 1e-6).astype(np.int64), 0, len(whole) - 1)
        above = np.minimum(below + 1, len(whole) - 1)
        share = np.clip(places - below, 0.0, 1.0)[:, None]
        share = np.where(share < 1e-6, 0.0, share)
        found.append((1 - share) * whole[below] + share * whole[above])
        if not np.isfinite(found[-1]).all():
            raise FloatingPointError(
                f"The forecasts are not finite; the series holds values up to {np.nanmax(np.abs(y)):.3g}, "
                "which may overflow when squared. Use a larger unit."
            )
    return found
