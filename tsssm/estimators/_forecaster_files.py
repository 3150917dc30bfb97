"""What model files hold of forecasters, and of the time indices that forecasts need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from sktime.datatypes import MTYPE_REGISTER
from sktime.datatypes._dtypekind import DtypeKind
from sktime.forecasting.base import ForecastingHorizon

from tsssm.estimators._forecaster_covariates import Target
from tsssm.estimators._forecaster_panel import PanelGrid
from tsssm.estimators._forecaster_series import Histories
from tsssm.estimators._forecaster_time import Clock
from tsssm.forecasting import ForecastModel
from tsssm.persistence import Fields, register

#: What a model file holds of a forecaster.
HOLDS = {
    "state": "'fitted' or 'pretrained'",
    "targets_": "tuple of forecasting.Target: a model for each target of series",
    "histories": "forecasting.Histories: the series that forecasts go on from",
    "cutoff": "index of one stamp, the last of the series, or null",
    "fh": "ForecastingHorizon of the fit, or null",
    "y": "null: histories have the series, and no copy is kept",
    "X": "null, as y",
    "y_metadata": "dict: what sktime knows of the container of y, which forecasts come back in",
    "converter_store_y": "dict: what its conversion keeps of it",
    "panel_grid": "forecasting.PanelGrid: how panels are read, or null after a fit to series",
    "channels_": "tuple of forecasting.ForecastModel: one for each channel of a panel",
    "pretrained_targets_": "tuple of forecasting.Target, of a pretraining",
    "pretrained_clock_": "forecasting.Clock of that",
}
#: What follows from it.
IMPLIED = ("_is_fitted", "_pretrained_attrs", "_y_mtype_last_seen", "_is_vectorized")


def restore(forecaster: Any, fields: Fields, pretrained: Sequence[str]) -> None:
    """Set what a fit set, or a pretraining, after checking it; ``forecaster`` has its parameters.

    ``pretrained`` are the names of what a pretraining sets.
    """
    state = fields.choice("state", ("fitted", "pretrained"))
    found: dict[str, Any] = {"_state": state}
    for name in ("y", "X"):
        found[f"_{name}"] = fields.exactly(name, None)
    if state == "pretrained" or fields.has("pretrained_targets_"):
        found["pretrained_clock_"] = fields.instance("pretrained_clock_", Clock)
        found["pretrained_targets_"] = fields.tuple_of("pretrained_targets_", Target)
        found["_pretrained_attrs"] = sorted(pretrained)
    grid = found["_panel_grid"] = fields.maybe("panel_grid", PanelGrid)
    if grid is not None:
        found["channels_"] = channels = fields.tuple_of("channels_", ForecastModel)
        if len(channels) != grid.n_channels:
            raise fields.refuse("channels_", f"{grid.n_channels} models, one for each channel", channels)
    histories = fields.maybe("histories", Histories)
    if histories is not None:
        found["_histories"] = histories
        found["targets_"] = targets = fields.tuple_of("targets_", Target)
        width = len(histories.variables)
        if len(targets) != len(histories.targets) or any(
            width and target.effect is not None and len(target.effect.coef) != width for target in targets
        ):
            raise fields.refuse("targets_", f"a model for each target, of {width} variables", targets)
        cutoff = found["_cutoff"] = fields.take("cutoff")
        if not isinstance(cutoff, pd.Index) or len(cutoff) != 1:
            raise fields.refuse("cutoff", "an index of one stamp", cutoff)
        histories.clock.places(cutoff)
    elif state == "fitted" and grid is None:
        raise fields.refuse("histories", "there after a fit to series", None)
    else:
        found["_cutoff"] = fields.exactly("cutoff", None)
    found["_fh"] = fields.maybe("fh", ForecastingHorizon)
    vars(forecaster).update(found | _containers(fields, histories))
    if state == "fitted":
        forecaster._is_fitted = True


def _containers(fields: Fields, histories: Histories | None) -> dict[str, Any]:
    """What sktime knows of the container of y, which it gives forecasts back in."""
    if histories is None:  # there is nothing to give back
        for name in ("y_metadata", "converter_store_y"):
            if fields.given(name):
                fields.take(name)
        return {}
    found: dict[str, Any] = {"_converter_store_y": fields.mapping("converter_store_y").rest()}
    known = fields.mapping("y_metadata")
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
    return {**found, "_y_mtype_last_seen": mtype, "_is_vectorized": False}


# Indices of time, whose constructors refuse what makes no sense

_NUMBER = "array of int64: places of the stamps"
_NAME = "name of the index, or null"


def _dates_to_state(index: pd.DatetimeIndex) -> dict[str, Any]:
    zone = None if index.tz is None else str(index.tz)
    return {"number": index.asi8, "unit": index.unit, "zone": zone, "freq": index.freqstr, "name": index.name}


@register(
    "DatetimeIndex",
    pd.DatetimeIndex,
    {
        "number": f"{_NUMBER}, counted from 1970 in UTC",
        "unit": "'s', 'ms', 'us' or 'ns'",
        "zone": "name of the time zone, or null",
        "freq": "pandas' name of the frequency, or null",
        "name": _NAME,
    },
    to_state=_dates_to_state,
)
def _dates(fields: Fields) -> pd.DatetimeIndex:
    number = fields.take("number").view(f"datetime64[{fields.take('unit')}]")
    index = pd.DatetimeIndex(number, name=fields.take("name"))
    if fields.given("zone"):
        index = index.tz_localize("UTC").tz_convert(fields.take("zone"))
    if fields.given("freq"):
        index.freq = fields.take("freq")
    return index


@register(
    "PeriodIndex",
    pd.PeriodIndex,
    {"number": f"{_NUMBER}, in periods since 1970", "freq": "pandas' name of the frequency", "name": _NAME},
    to_state=lambda index: {"number": index.asi8, "freq": index.freqstr, "name": index.name},
)
def _periods(fields: Fields) -> pd.PeriodIndex:
    index = pd.PeriodIndex.from_ordinals(fields.take("number"), freq=fields.take("freq"))
    return index.rename(fields.take("name"))


@register(
    "TimedeltaIndex",
    pd.TimedeltaIndex,
    {"number": _NUMBER, "unit": "'s', 'ms', 'us' or 'ns'", "name": _NAME},
    to_state=lambda index: {"number": index.asi8, "unit": index.unit, "name": index.name},
)
def _differences(fields: Fields) -> pd.TimedeltaIndex:
    number = fields.take("number").view(f"timedelta64[{fields.take('unit')}]")
    return pd.TimedeltaIndex(number, name=fields.take("name"))


def _horizon_to_state(fh: ForecastingHorizon) -> dict[str, Any]:
    freq = fh.freq
    return {
        "values": fh.to_pandas(),
        "relative": bool(fh.is_relative),
        "freq": None if freq is None else str(freq),
    }


@register(
    "ForecastingHorizon",
    ForecastingHorizon,
    {
        "values": "index of the times",
        "relative": "whether they are counted from the end of y",
        "freq": "pandas' name of the frequency, or null",
    },
    to_state=_horizon_to_state,
)
def _horizon(fields: Fields) -> ForecastingHorizon:
    values, relative, freq = (fields.take(name) for name in ("values", "relative", "freq"))
    return ForecastingHorizon(values, is_relative=relative, freq=freq)


@register(
    "DtypeKind",
    DtypeKind,
    {"value": "number of sktime's kind of a column: 0 and 1 for integers, 2 for floats, 20 for booleans"},
    to_state=lambda kind: {"value": int(kind)},
)
def _dtype_kind(fields: Fields) -> DtypeKind:
    return DtypeKind(fields.count("value"))
