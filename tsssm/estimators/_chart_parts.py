"""What model files say of charts: their features, and what a network reads of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.encoding import Categories, ChartEncoder, NormalScores, PanelEncoder, StaticScores, unlimited
from tsssm.estimators._categories import encoder_to_state
from tsssm.features import ChartFeatures, Ramps
from tsssm.panel._checks import UNITS
from tsssm.persistence import Fields, register

_FLOAT32 = float(np.finfo(np.float32).max)
# Of features before they are standardised, of which the largest are logarithms and slopes.
_LARGEST = 1e18
# Of a ramp, no more than the square root of the number of training series.
_LARGEST_FACTOR = 1e6


def _scores_from_state(state: dict[str, Any]) -> NormalScores:
    fields = Fields("NormalScores", state)
    scores = NormalScores()
    scores.knots = _knots(fields, None)
    fields.end()
    return scores


def _static_from_state(state: dict[str, Any]) -> StaticScores:
    fields = Fields("StaticScores", state)
    static = StaticScores()
    static.channels = _channels(fields)
    count = len(static.channels)
    static.knots = _knots(fields, count)
    static.categories = fields.take("categories", "a list of arrays")
    if type(static.categories) is not list or len(static.categories) != count:
        raise fields.refuse("categories", f"a list of {count} arrays", static.categories)
    for values in static.categories:
        if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.ndim != 1:
            raise fields.refuse("categories", "a list of arrays of float64", values)
        if not np.isfinite(values).all() or not (np.diff(values) > 0).all():
            raise fields.refuse("categories", "finite and increasing", values)
    static.n_outputs = fields.exactly("n_outputs", count + sum(map(len, static.categories)))
    fields.end()
    return static


def _charts_from_state(state: dict[str, Any]) -> ChartFeatures:
    fields = Fields("ChartFeatures", state)
    features = ChartFeatures()
    encoder = features.encoder = fields.instance("encoder", PanelEncoder)
    _take_channels(fields, features, encoder.n_channels)
    features.duration = fields.positive("duration")
    size = features.n_features_out = fields.exactly("n_features_out", features.count())
    features.mean = fields.array("mean", (size,), "float64", -_LARGEST, _LARGEST)
    features.scale = fields.scales("scale", (size,))
    features.share = fields.array("share", (size,), "float64", 0.0, 1.0)
    fields.end()
    return features


def _encoder_from_state(state: dict[str, Any]) -> ChartEncoder:
    fields = Fields("ChartEncoder", state)
    encoder = ChartEncoder(fields.take("time_scale"))
    fields.ignore("scale")  # which scores have none of
    given = not isinstance(encoder.time_scale, str)
    timed = encoder.has_times = fields.flag("has_times")
    encoder.time_unit = fields.choice("time_unit", (None, *UNITS) if timed else (None,))
    channels = encoder.n_channels = fields.count("n_channels", 1)
    encoder.mean = fields.array("mean", (channels,), "float64", -_FLOAT32, _FLOAT32)
    encoder.std = fields.scales("std", (channels,))
    encoder.limits = limits_of(fields, channels)
    encoder.missing = fields.flag("missing")
    encoder.categorical = ()
    encoder.set_categories(Categories((), ()))
    _take_channels(fields, encoder, channels)
    inputs = encoder.static.n_outputs + 3 * len(encoder.channels)
    encoder.n_inputs = fields.exactly("n_inputs", inputs)
    encoder.grid, encoder.span = fields.positive("grid"), fields.positive("span")
    if given:
        encoder.time_scale_ = fields.exactly("time_scale_", float(encoder.time_scale))
        encoder.step = fields.positive("step")
    else:
        encoder.time_scale_ = fields.exactly("time_scale_", encoder.span)
        encoder.step = fields.exactly("step", encoder.grid / encoder.span)
    fields.end()
    return encoder


def _ramps_from_state(state: dict[str, Any]) -> Ramps:
    fields = Fields("Ramps", state)
    feature = fields.array("feature", (None,), "int64", 0)
    if (np.diff(feature) < 0).any():
        raise fields.refuse("feature", "increasing", feature)
    size = feature.shape
    ramps = Ramps(
        feature,
        fields.array("low", size, "float64", -_LARGEST, _LARGEST),
        fields.scales("width", size),
        fields.array("mean", size, "float64", 0.0, 1.0),
        fields.array("factor", size, "float64", 0.0, _LARGEST_FACTOR),
    )
    fields.end()
    return ramps


def limits_of(fields: Fields, channels: int) -> Any:
    """Limits of values, of which the first model files know none."""
    if not fields.has("limits"):
        return unlimited(channels)
    limits = fields.array("limits", (2, channels), "float64")
    if not (limits[0] < limits[1]).all():
        raise fields.refuse("limits", "in order", limits)
    return limits


def _take_channels(fields: Fields, owner: ChartFeatures | ChartEncoder, n_channels: int) -> None:
    """Static and other channels, which together are those of the panel, and the scores of the latter."""
    owner.static = fields.instance("static", StaticScores)
    owner.scores = fields.instance("scores", NormalScores)
    owner.channels = _channels(fields)
    both = np.sort(np.concatenate([owner.static.channels, owner.channels]))
    if not np.array_equal(both, np.arange(n_channels)):
        raise fields.refuse("channels", "those of the panel that are not static", owner.channels)
    if len(owner.scores.knots) != len(owner.channels):
        raise fields.refuse("scores", f"of {len(owner.channels)} channels", owner.scores)


def _channels(fields: Fields) -> Any:
    """Numbers of channels, increasing; none is a number of them, too."""
    channels = fields.take("channels", "an array of int64")
    if not isinstance(channels, np.ndarray) or channels.dtype != np.int64 or channels.ndim != 1:
        raise fields.refuse("channels", "an array of int64", channels)
    if len(channels) and (channels[0] < 0 or not (np.diff(channels) > 0).all()):
        raise fields.refuse("channels", "increasing from 0 on", channels)
    return channels


def _knots(fields: Fields, rows: int | None) -> Any:
    """Quantiles of so many channels, which increase."""
    if rows == 0:
        knots = fields.take("knots", "an array")
        if not isinstance(knots, np.ndarray) or knots.shape[:1] != (0,) or knots.dtype != np.float64:
            raise fields.refuse("knots", "an array of no channel", knots)
        return knots
    knots = fields.array("knots", (rows, None), "float64", -_FLOAT32, _FLOAT32)
    if not (np.diff(knots, axis=1) >= 0).all():
        raise fields.refuse("knots", "increasing", knots)
    return knots


def register_chart_parts() -> None:
    """Let model files hold what charts need."""
    register("NormalScores", NormalScores, vars, _scores_from_state)
    register("StaticScores", StaticScores, vars, _static_from_state)
    register("ChartEncoder", ChartEncoder, encoder_to_state, _encoder_from_state)
    register("ChartFeatures", ChartFeatures, vars, _charts_from_state)
    register("Ramps", Ramps, Ramps._asdict, _ramps_from_state)
