"""What model files hold of the models of forecasters and of the series that they go on from.

A file may come from anybody: every record reads its fields by name, each against the others, so that its
parts fit together. Records of several records check those in a field against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.estimators._forecaster_covariates import Effect, Target
from tsssm.estimators._forecaster_panel import PanelGrid
from tsssm.estimators._forecaster_series import Histories, History
from tsssm.estimators._forecaster_time import Clock
from tsssm.forecasting import (
    CLOSED_LOSSES,
    LONGEST_SEASON,
    SCALINGS,
    SMOOTH,
    TRANSFORMS,
    Candidate,
    Errors,
    ForecastModel,
    Inputs,
    Part,
)
from tsssm.panel._checks import UNITS
from tsssm.persistence import Fields, Read, register

_KINDS = ("integer", "period", "datetime", "timedelta")


def record(cls: Any, holds: Mapping[str, str]) -> Callable[[Read], Read]:
    """Let model files hold a record, a named tuple, which the decorated function reads field by field."""
    return register(f"forecasting.{cls.__name__}", cls, holds)


@record(
    Candidate,
    {
        "transform": "'none' or 'log'",
        "base": "what it deviates from: 'smooth' (the bank), 'season', or a scaling",
        "lags": "samples that it reads, 0 for the base alone",
        "overlap": "windows that were counted as one",
    },
)
def _candidate(fields: Fields) -> Candidate:
    return Candidate(
        fields.choice("transform", TRANSFORMS),
        fields.choice("base", (SMOOTH, "season", *SCALINGS)),
        fields.count("lags"),
        fields.number("overlap", 1.0),
    )


@record(
    Part,
    {
        "transform": "'none' or 'log': of the values y",
        "weight": "of this part in the forecast",
        "smooth": "weight of the bank's forecast in it",
        "last": "weight of the last value",
        "coef": "array (F, H): what is added for F inputs, at H steps ahead",
    },
)
def _part(fields: Fields) -> Part:
    return Part(
        fields.choice("transform", TRANSFORMS),
        fields.number("weight", 0.0, 1.0 + 1e-6),
        fields.number("smooth", 0.0, 1.0 + 1e-6),
        fields.number("last", -1e-6, 1.0),
        fields.array("coef", (None, None), np.float64),
    )


@record(
    Errors,
    {
        "growth": "array (H,): mean size of errors at each step ahead, in units of the spread of a series",
        "pooled": "array: errors of all steps in these units, sorted",
        "power": "how far the spread follows earlier errors, 0 (not) to 1",
    },
)
def _errors(fields: Fields) -> Errors:
    growth = fields.array("growth", (None,), np.float64, 0.0)
    pooled = fields.array("pooled", (None,), np.float64)
    if (np.diff(pooled) < 0).any():
        raise fields.refuse("pooled", "sorted", pooled)
    return Errors(growth, pooled, fields.number("power", 0.0, 1.0))


@record(
    ForecastModel,
    {
        "horizon": "number H of steps ahead",
        "season": "samples per season, 1 without",
        "lags": "tuple of int: lengths of windows that were tried, increasing",
        "parts": "tuple of forecasting.Part, one for each transform",
        "errors": "forecasting.Errors: what intervals are made of",
        "candidates": "tuple of forecasting.Candidate: what was mixed",
        "weights": "array: weight of each of them",
        "loss": "'absolute_error' or 'squared_error': what the mixture minimises",
    },
)
def _model(fields: Fields) -> ForecastModel:
    horizon = fields.count("horizon", 1)
    season = fields.count("season", 1, LONGEST_SEASON)
    lags = fields.tuple_of("lags", int)
    if not lags or lags[0] < 2 or any(b <= a for a, b in zip(lags[:-1], lags[1:], strict=True)):
        raise fields.refuse("lags", "an increasing tuple of integers of at least 2", lags)
    parts = fields.tuple_of("parts", Part)
    transforms = [part.transform for part in parts]
    # Intervals are in units of the errors of the part without a transform.
    if "none" not in transforms or len(set(transforms)) < len(parts):
        raise fields.refuse("parts", "one for each of some transforms, with 'none' among them", transforms)
    if lags[-1] > len(parts[0].coef):
        raise fields.refuse("lags", "no more than there are inputs", lags)
    shape = (Inputs(lags, season).width, horizon)
    for part in parts:
        if part.coef.shape != shape:
            raise fields.refuse("parts", f"of coefficients {shape}", part.coef)
    errors = fields.instance("errors", Errors)
    if len(errors.growth) != horizon:
        raise fields.refuse("errors", f"of {horizon} horizons", errors.growth)
    candidates = fields.tuple_of("candidates", Candidate)
    weights = fields.array("weights", (len(candidates),), np.float64, 0.0, 1.0 + 1e-6)
    loss = fields.choice("loss", CLOSED_LOSSES)
    return ForecastModel(horizon, season, lags, parts, errors, candidates, weights, loss)


@record(
    Effect,
    {
        "centre": "array (k,): of the variables, also in place of missing values",
        "coef": "array (k,): their effect on the target is (X - centre) @ coef",
    },
)
def _effect(fields: Fields) -> Effect:
    centre = fields.array("centre", (None,), np.float64)
    return Effect(centre, fields.array("coef", centre.shape, np.float64))


@record(
    Target,
    {
        "alone": "forecasting.ForecastModel of the target by itself",
        "effect": "forecasting.Effect of variables, or null",
        "beside": "forecasting.ForecastModel of what they leave, or null",
    },
)
def _target(fields: Fields) -> Target:
    alone = fields.instance("alone", ForecastModel)
    if not fields.given("effect"):
        return Target(alone, None, fields.exactly("beside", None))
    return Target(alone, fields.instance("effect", Effect), fields.instance("beside", ForecastModel))


@record(
    Clock,
    {
        "kind": "'integer', 'period', 'datetime' or 'timedelta': of the index",
        "freq": "pandas' name of the frequency of periods, and of dates on a calendar; else null",
        "origin": "where places are counted from: an integer, number of a period, or nanoseconds since 1970",
        "step": "length of a grid step, in integers or nanoseconds",
        "wall": "whether dates with a time zone are read as the clock on the wall shows them",
    },
)
def _clock(fields: Fields) -> Clock:
    kind = fields.choice("kind", _KINDS)
    freq = None
    if kind == "period" or fields.given("freq"):
        freq = str(fields.instance("freq", str))
        # Which of the two is asked decides what a frequency may be called.
        pd.Period(ordinal=0, freq=freq) if kind == "period" else pd.tseries.frequencies.to_offset(freq)
    origin = fields.count("origin", -(2**63), 2**63 - 1)
    return Clock(kind, freq, origin, fields.positive("step"), fields.flag("wall"))


@record(
    History,
    {
        "key": "label of the series in a panel, a tuple in a hierarchy, null for a single series",
        "first": "number of its first grid cell",
        "y": "array (T, m): targets, NaN where missing",
        "X": "array (T, k): variables",
        "end": "index of its last stamp",
        "shift": "array (T,): how long after its cell each sample is, in grid steps",
    },
)
def _history(fields: Fields) -> History:
    key = fields.take("key")
    hash(key)
    first = fields.count("first", -(2**53))
    y, X = (_cells(fields, name) for name in ("y", "X"))
    if len(X) != len(y):
        raise fields.refuse("X", f"an array of {len(y)} rows", X)
    if not np.isfinite(y).any(axis=0).all():
        raise fields.refuse("y", "with a value in every column", y)
    end = fields.take("end")
    if not isinstance(end, pd.Index) or len(end) != 1:
        raise fields.refuse("end", "an index of one stamp", end)
    return History(key, first, y, X, end, fields.array("shift", (len(y),), np.float64, -1.0, 1.0))


@record(
    Histories,
    {
        "each": "tuple of forecasting.History",
        "clock": "forecasting.Clock: how stamps become places on the grid",
        "targets": "tuple: names of the m columns of y",
        "variables": "tuple: names of the k columns of X",
        "levels": "tuple: names of the levels of the index of a panel; empty for a single series",
    },
)
def _histories(fields: Fields) -> Histories:
    each = fields.tuple_of("each", History)
    clock = fields.instance("clock", Clock)
    targets, variables, levels = (fields.tuple_of(name) for name in ("targets", "variables", "levels"))
    keys = [history.key for history in each]
    lengths = {len(key) if isinstance(key, tuple) else 1 for key in keys}
    if not each or len(set(keys)) < len(each) or (levels and lengths != {len(levels) - 1}):
        raise fields.refuse("each", "series with a key each, of as many parts as there are levels", keys)
    if not levels and keys != [None]:
        raise fields.refuse("levels", "the names of the levels of a panel", levels)
    for history in each:
        if history.y.shape[1] != len(targets) or history.X.shape[1] != len(variables):
            raise fields.refuse("each", "of as many columns as there are targets and variables", history.y)
        clock.places(history.end)
    return Histories(each, clock, targets, variables, levels)


@record(
    PanelGrid,
    {
        "step": "length of a grid step, in the unit of the times",
        "unit": "that unit, or null",
        "has_times": "whether the panel had times",
        "n_channels": "number of channels",
        "names": "tuple of their names, or null",
    },
)
def _panel_grid(fields: Fields) -> PanelGrid:
    step = fields.positive("step")
    unit = fields.choice("unit", (None, *UNITS))
    has_times, n_channels = fields.flag("has_times"), fields.count("n_channels", 1)
    if unit is not None and not has_times:
        raise fields.refuse("unit", "None where there are no times", unit)
    return PanelGrid(step, unit, has_times, n_channels, fields.texts("names", n_channels))


def _cells(fields: Fields, name: str) -> npt.NDArray[np.float64]:
    """Values (T, columns), NaN where missing; there may be no columns."""
    value = fields.take(name, "an array of numbers")
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim != 2 or not len(value):
        raise fields.refuse(name, "an array (any, columns) of float64", value)
    if np.isinf(value).any():
        raise fields.refuse(name, "finite, NaN where missing", value)
    return value
