"""What model files hold of forecasters: records of numbers, and the time indices that forecasts need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sktime.datatypes._dtypekind import DtypeKind
from sktime.forecasting.base import ForecastingHorizon

from tsssm.estimators._forecaster_base import Target
from tsssm.estimators._forecaster_covariates import Effect
from tsssm.estimators._forecaster_panel import PanelGrid
from tsssm.estimators._forecaster_series import Histories, History
from tsssm.estimators._forecaster_time import Clock
from tsssm.forecasting import Candidate, Errors, ForecastModel, Part
from tsssm.persistence import register

_RECORDS: tuple[Any, ...] = (
    Candidate,
    Part,
    Errors,
    ForecastModel,
    Effect,
    Target,
    Clock,
    History,
    Histories,
    PanelGrid,
)


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


def _register_record(record: Any) -> None:
    register(f"forecasting.{record.__name__}", record, record._asdict, lambda state: record(**state))


for _record in _RECORDS:
    _register_record(_record)
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
