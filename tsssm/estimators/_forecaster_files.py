"""What model files hold of forecasters: records of numbers, and the time indices that forecasts need.

A file may come from anybody: every record reads its fields by name, each against the others, so that its
parts fit together. Records of several records check those in a field against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sktime.datatypes import MTYPE_REGISTER
from sktime.datatypes._dtypekind import DtypeKind
from sktime.forecasting.base import ForecastingHorizon

from tsssm.estimators._forecaster_covariates import Effect, Target
from tsssm.estimators._forecaster_panel import PanelGrid
from tsssm.estimators._forecaster_series import Histories, History
from tsssm.estimators._forecaster_time import Clock
from tsssm.forecasting import (
    CLOSED_LOSSES,
    LONGEST_SEASON,
    SCALINGS,
    TRANSFORMS,
    Candidate,
    Errors,
    ForecastModel,
    Inputs,
    Part,
)
from tsssm.panel._checks import UNITS
from tsssm.persistence import Fields, register

_KINDS = ("integer", "period", "datetime", "timedelta")


# Forecasters


def restore(forecaster: Any, fields: Fields, pretrained: Sequence[str]) -> None:
    """Set what a fit set, or a pretraining, after checking it; ``forecaster`` has its parameters.

    ``pretrained`` are the names of what a pretraining sets.
    """
    state = fields.choice("_state", ("fitted", "pretrained"))
    found: dict[str, Any] = {"_state": state}
    for name in ("_X", "_y"):
        found[name] = fields.exactly(name, None)
    if fields.has("_is_fitted"):  # of sktime before 1.0
        found["_is_fitted"] = fields.exactly("_is_fitted", state == "fitted")
    if fields.has("_pretrained_attrs"):
        found["_pretrained_attrs"] = fields.exactly("_pretrained_attrs", sorted(pretrained))
    if state == "pretrained" or fields.has("pretrained_targets_"):
        found["pretrained_clock_"] = fields.instance("pretrained_clock_", Clock)
        found["pretrained_targets_"] = fields.tuple_of("pretrained_targets_", Target)
    if fields.has("_panel_grid") and not fields.is_none("_panel_grid"):
        grid = found["_panel_grid"] = fields.instance("_panel_grid", PanelGrid)
        found["channels_"] = channels = fields.tuple_of("channels_", ForecastModel)
        if len(channels) != grid.n_channels:
            raise fields.refuse("channels_", f"{grid.n_channels} models, one for each channel", channels)
    else:
        found["_panel_grid"] = None
    if fields.has("_histories"):
        histories = found["_histories"] = fields.instance("_histories", Histories)
        found["targets_"] = targets = fields.tuple_of("targets_", Target)
        width = len(histories.variables)
        if len(targets) != len(histories.targets) or any(
            width and target.effect is not None and len(target.effect.coef) != width for target in targets
        ):
            raise fields.refuse("targets_", f"a model for each target, of {width} variables", targets)
        cutoff = found["_cutoff"] = fields.take("_cutoff")
        if not isinstance(cutoff, pd.Index) or len(cutoff) != 1:
            raise fields.refuse("_cutoff", "an index of one stamp", cutoff)
        histories.clock.places(cutoff)
    elif state == "fitted" and found["_panel_grid"] is None:
        fields.take("_histories", "there")
    else:
        found["_cutoff"] = fields.exactly("_cutoff", None)
    found["_fh"] = None if fields.is_none("_fh") else fields.instance("_fh", ForecastingHorizon)
    vars(forecaster).update(found | _containers(fields, found.get("_histories")))


def _containers(fields: Fields, histories: Histories | None) -> dict[str, Any]:
    """What sktime knows of the container of y, which it gives forecasts back in."""
    found: dict[str, Any] = {}
    if histories is None:
        fields.ignore("_y_metadata", "_y_mtype_last_seen", "_converter_store_y", "_is_vectorized")
        return found
    known = fields.mapping("_y_metadata")
    scitypes = ("Panel", "Hierarchical") if histories.levels else ("Series",)
    scitype = known.choice("scitype", scitypes)
    mtype = known.choice("mtype", [name for name, kind, *_ in MTYPE_REGISTER if kind == scitype])
    count = known.exactly("n_features", len(histories.targets))
    names = known.exactly("feature_names", list(histories.targets))
    kinds = known.take("feature_kind")
    if type(kinds) is not list or len(kinds) != count or any(type(kind) is not DtypeKind for kind in kinds):
        raise known.refuse("feature_kind", f"{count} kinds of numbers", kinds)
    known.end()
    found["_y_metadata"] = {
        "n_features": count,
        "feature_names": names,
        "feature_kind": kinds,
        "mtype": mtype,
        "scitype": scitype,
    }
    found["_y_mtype_last_seen"] = fields.exactly("_y_mtype_last_seen", mtype)
    found["_converter_store_y"] = fields.mapping("_converter_store_y").rest()
    found["_is_vectorized"] = fields.exactly("_is_vectorized", False)
    return found


# Records


def _candidate(fields: Fields) -> Candidate:
    return Candidate(
        fields.choice("transform", TRANSFORMS),
        fields.choice("base", ("smooth", "season", *SCALINGS)),
        fields.count("lags"),
        fields.number("overlap", 1.0),
    )


def _part(fields: Fields) -> Part:
    return Part(
        fields.choice("transform", TRANSFORMS),
        fields.number("weight", 0.0, 1.0 + 1e-6),
        fields.number("smooth", 0.0, 1.0 + 1e-6),
        fields.number("last", -1e-6, 1.0),
        fields.array("coef", (None, None), np.float64),
    )


def _errors(fields: Fields) -> Errors:
    growth = fields.array("growth", (None,), np.float64, 0.0)
    pooled = fields.array("pooled", (None,), np.float64)
    if (np.diff(pooled) < 0).any():
        raise fields.refuse("pooled", "sorted", pooled)
    # The first files do without.
    errors = Errors(growth, pooled)
    return errors._replace(power=fields.number("power", 0.0, 1.0)) if fields.has("power") else errors


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
    # The first files do without.
    loss = fields.choice("loss", CLOSED_LOSSES) if fields.has("loss") else CLOSED_LOSSES[0]
    return ForecastModel(horizon, season, lags, parts, errors, candidates, weights, loss)


def _effect(fields: Fields) -> Effect:
    centre = fields.array("centre", (None,), np.float64)
    return Effect(centre, fields.array("coef", centre.shape, np.float64))


def _target(fields: Fields) -> Target:
    alone = fields.instance("alone", ForecastModel)
    if fields.is_none("effect"):
        return Target(alone, None, fields.exactly("beside", None))
    return Target(alone, fields.instance("effect", Effect), fields.instance("beside", ForecastModel))


def _clock(fields: Fields) -> Clock:
    kind = fields.choice("kind", _KINDS)
    freq = None
    if kind == "period" or not fields.is_none("freq"):
        freq = str(fields.instance("freq", str))
        # Which of the two is asked decides what a frequency may be called.
        pd.Period(ordinal=0, freq=freq) if kind == "period" else pd.tseries.frequencies.to_offset(freq)
    origin = fields.count("origin", -(2**63), 2**63 - 1)
    return Clock(kind, freq, origin, fields.positive("step"), fields.flag("wall"))


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
    # The first files do without: every sample was taken to be at its cell.
    shift = fields.array("shift", (len(y),), np.float64, -1.0, 1.0) if fields.has("shift") else None
    return History(key, first, y, X, end, np.zeros(len(y)) if shift is None else shift)


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


def register_record(record: Any, read: Callable[[Fields], Any]) -> None:
    """Let model files hold a record, a named tuple, which ``read`` reads field by field."""

    def from_state(state: dict[str, Any]) -> Any:
        fields = Fields(record.__name__, state)
        found = read(fields)
        fields.end()
        return found

    register(f"forecasting.{record.__name__}", record, record._asdict, from_state)


for _record, _read in {
    Candidate: _candidate,
    Part: _part,
    Errors: _errors,
    ForecastModel: _model,
    Effect: _effect,
    Target: _target,
    Clock: _clock,
    History: _history,
    Histories: _histories,
    PanelGrid: _panel_grid,
}.items():
    register_record(_record, _read)


# Indices of time, whose constructors refuse what makes no sense


def _dates_to_state(index: pd.DatetimeIndex) -> dict[str, Any]:
    zone = None if index.tz is None else str(index.tz)
    return {"number": index.asi8, "unit": index.unit, "zone": zone, "freq": index.freqstr, "name": index.name}


def _dates_from_state(state: dict[str, Any]) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(state["number"].view(f"datetime64[{state['unit']}]"), name=state["name"])
    if state["zone"] is not None:
        index = index.tz_localize("UTC").tz_convert(state["zone"])
    if state["freq"] is not None:
        index.freq = state["freq"]
    return index


def _periods_to_state(index: pd.PeriodIndex) -> dict[str, Any]:
    return {"number": index.asi8, "freq": index.freqstr, "name": index.name}


def _periods_from_state(state: dict[str, Any]) -> pd.PeriodIndex:
    index = pd.PeriodIndex.from_ordinals(state["number"], freq=state["freq"])
    return index.rename(state["name"])


def _differences_to_state(index: pd.TimedeltaIndex) -> dict[str, Any]:
    return {"number": index.asi8, "unit": index.unit, "name": index.name}


def _differences_from_state(state: dict[str, Any]) -> pd.TimedeltaIndex:
    return pd.TimedeltaIndex(state["number"].view(f"timedelta64[{state['unit']}]"), name=state["name"])


def _horizon_to_state(fh: ForecastingHorizon) -> dict[str, Any]:
    freq = fh.freq
    return {
        "values": fh.to_pandas(),
        "relative": bool(fh.is_relative),
        "freq": None if freq is None else str(freq),
    }


def _horizon_from_state(state: dict[str, Any]) -> ForecastingHorizon:
    return ForecastingHorizon(state["values"], is_relative=state["relative"], freq=state["freq"])


register("DatetimeIndex", pd.DatetimeIndex, _dates_to_state, _dates_from_state)
register("PeriodIndex", pd.PeriodIndex, _periods_to_state, _periods_from_state)
register("TimedeltaIndex", pd.TimedeltaIndex, _differences_to_state, _differences_from_state)
register("ForecastingHorizon", ForecastingHorizon, _horizon_to_state, _horizon_from_state)
register(
    "DtypeKind",
    DtypeKind,
    lambda kind: {"value": np.int64(kind.value)},
    lambda state: DtypeKind(int(state["value"])),
)
