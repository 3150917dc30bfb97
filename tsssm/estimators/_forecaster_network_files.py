"""What model files hold of the network of a forecaster. Each part is checked against the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.estimators._forecaster_records import record
from tsssm.estimators._parts import NETWORK, network_of, network_to_state
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


#: What a model file holds of a forecaster with a network, besides what it does of any.
HOLDS = {
    "network_": "forecasting.Correction, or null where series were too short to train one",
    "pretrained_network_": "the same, of a pretraining",
}


def restore_network(forecaster: Any, fields: Fields) -> None:
    """Set ``network_`` and ``pretrained_network_``, as far as a file has them."""
    for name in ("network_", "pretrained_network_"):
        if fields.has(name):
            setattr(forecaster, name, fields.maybe(name, Correction))


@record(
    View,
    {
        "look_back": "samples that the network reads",
        "horizon": "steps ahead that it was trained for",
        "season": "samples per season, 1 without",
        "scaling": "what a window is centred at: 'last', 'mean', 'robust' or 'none'",
        "level": "array (n_targets,): mean of each target in training",
        "spread": "array (n_targets,): its standard deviation",
        "centre": "array (k,): mean of each variable",
        "unit": "array (k,): its scale",
        "static": "array (k,) of 0 or 1: which variables do not change within a series",
        "n_ahead": "how many variables, the first ones, may be known ahead",
    },
)
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


@record(
    Correction,
    {
        "net": "ForecastNetwork",
        "view": "forecasting.View: what it sees of a series",
        "loss": "the loss that it was trained with",
        "levels": "tuple of the levels of its quantiles",
        "weight": "number in (0, 1] that its corrections are multiplied by",
        "shares": "array (n_targets,): and these, for each target",
        "widths": "array (n_targets,): by how much distances from the middle are multiplied",
        "errors": "forecasting.Errors of the middle on held-out windows",
        "loss_curve": "tuple: mean training loss of each epoch",
        "validation_scores": "tuple: minus the loss on held-out windows after each epoch",
    },
)
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


@register("ForecastNetwork", ForecastNetwork, NETWORK, to_state=network_to_state)
def _network(fields: Fields) -> ForecastNetwork:
    return network_of(ForecastNetwork, fields)
