"""What model files hold of the network of a forecaster. Each part is checked against the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.estimators._forecaster_files import register_record
from tsssm.estimators._parts import network_from_state, network_to_state
from tsssm.forecasting import (
    LONGEST_SEASON,
    LOSSES,
    SCALINGS,
    Correction,
    Errors,
    ForecastNetwork,
    View,
    n_answers,
)
from tsssm.persistence import Fields, register

_LONGEST = 10**7


def restore_network(forecaster: Any, fields: Fields) -> None:
    """Set ``network_`` and ``pretrained_network_``, as far as a file has them."""
    for name in ("network_", "pretrained_network_"):
        if fields.has(name):
            value = None if fields.is_none(name) else fields.instance(name, Correction)
            setattr(forecaster, name, value)


def _view(fields: Fields) -> View:
    look_back = fields.count("look_back", 1, _LONGEST)
    horizon = fields.count("horizon", 1, _LONGEST)
    season = fields.count("season", 1, LONGEST_SEASON)
    scaling = fields.choice("scaling", SCALINGS)
    level = fields.array("level", (None,), np.float64)
    spread = fields.scales("spread", level.shape)
    centre = _numbers(fields, "centre", None)
    unit = _numbers(fields, "unit", len(centre))
    static = _numbers(fields, "static", len(centre))
    if (unit <= 0).any() or not np.isin(static, (0.0, 1.0)).all():
        raise fields.refuse("unit", "positive, and static of 0 or 1", unit)
    n_ahead = fields.count("n_ahead", 0, len(centre))
    return View(look_back, horizon, season, scaling, level, spread, centre, unit, static, n_ahead)


def _numbers(fields: Fields, name: str, length: int | None) -> Any:
    """Finite numbers (length,); there may be none."""
    value = fields.take(name, "an array of numbers")
    if (
        not isinstance(value, np.ndarray)
        or value.dtype != np.float64
        or value.ndim != 1
        or not np.isfinite(value).all()
        or length not in (None, len(value))
    ):
        raise fields.refuse(name, f"an array ({length or 'any'},) of finite float64", value)
    return value


def _correction(fields: Fields) -> Correction:
    view = fields.instance("view", View)
    loss = fields.choice("loss", LOSSES)
    levels = fields.tuple_of("levels", float)
    if loss == "quantile" and (
        0.5 not in levels or list(levels) != sorted(set(levels)) or not 0 < levels[0] <= levels[-1] < 1
    ):
        raise fields.refuse("levels", "increasing numbers in (0, 1) with 0.5 among them", levels)
    net = fields.instance("net", ForecastNetwork)
    expected = {
        "d_in": view.d_in,
        "d_ahead": view.d_ahead,
        "n_answers": n_answers(loss, levels),
        "horizon": view.horizon,
        "season": view.season,
    }
    found = {name: net.config[name] for name in expected}
    if found != expected or net.config["bidirectional"]:
        raise fields.refuse("net", f"one for {expected}", found)
    weight = fields.number("weight", 0.0, 1.0)
    shape = view.level.shape
    shares = fields.array("shares", shape, np.float64, 0.0, 1.0)
    widths = fields.array("widths", shape, np.float64, 0.0, 100.0)
    errors = fields.instance("errors", Errors)
    if len(errors.growth) != view.horizon:
        raise fields.refuse("errors", f"of {view.horizon} horizons", errors.growth)
    curves = (fields.tuple_of(name, float) for name in ("loss_curve", "validation_scores"))
    return Correction(net, view, loss, levels, weight, shares, widths, errors, *curves)


register(
    "ForecastNetwork",
    ForecastNetwork,
    network_to_state,
    lambda state: network_from_state(ForecastNetwork, state),
)
register_record(View, _view)
register_record(Correction, _correction)
