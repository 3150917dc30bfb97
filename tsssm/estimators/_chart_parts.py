"""What model files say of charts: their features, and what a network reads of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.encoding import Categories, ChartEncoder, NormalScores, PanelEncoder, StaticScores
from tsssm.features import ChartFeatures, Ramps
from tsssm.panel._checks import UNITS
from tsssm.persistence import Fields, named, register

_FLOAT32 = float(np.finfo(np.float32).max)
# Of features before they are standardised, of which the largest are logarithms and slopes.
_LARGEST = 1e18
# Of a ramp, no more than the square root of the number of training series.
_LARGEST_FACTOR = 1e6


#: What a file holds of every encoder, of d channels.
ENCODER = {
    "time_scale": "'median' or a number: the unit of elapsed time that was asked for",
    "time_scale_": "that unit, in the unit of the training series' times",
    "step": "gap between samples without times, in units of time_scale_",
    "has_times": "whether the training series had times",
    "time_unit": "unit of their times, or null",
    "n_channels": "number d of channels",
    "n_inputs": "number of inputs of a network",
    "mean": "array (d,): mean of each channel in training, or what stands for it",
    "std": "array (d,): scale of each channel; inputs are (value - mean) / std",
    "limits": "array (2, d): values below the first or above the second count as missing",
    "missing": "whether values were missing in training: then each channel has a mask and a time since seen",
}
# How channels of charts are told apart.
_STATIC = "StaticScores: the channels that say something of a series as a whole"
_VARYING = "array (c,) of int64: the other channels"
_SCORES = "NormalScores: of these channels"


def encoder_to_state(encoder: PanelEncoder) -> dict[str, Any]:
    """What a file holds of an encoder: not what follows from the rest, nor what charts do without."""
    without = {"categorical", "numeric", *(("scale", "categories") if type(encoder) is ChartEncoder else ())}
    return {name: value for name, value in named(encoder).items() if name not in without}


@register(
    "Categories",
    Categories,
    {
        "channels": "tuple of int: the channels whose numbers are codes, increasing",
        "values": "tuple of arrays: values of each in training, increasing, each an input of 0 or 1",
    },
    to_state=lambda categories: {"channels": categories.channels, "values": categories.values},
)
def _categories(fields: Fields) -> Categories:
    channels, values = fields.tuple_of("channels", int), fields.tuple_of("values", np.ndarray)
    if len(channels) != len(values) or list(channels) != sorted({abs(number) for number in channels}):
        raise fields.refuse("channels", "increasing numbers, as many as there are values", channels)
    for known in values:
        if known.dtype != np.float64 or known.ndim != 1 or not len(known):
            raise fields.refuse("values", "arrays of float64", known)
        if not np.isfinite(known).all() or not (np.diff(known) > 0).all():
            raise fields.refuse("values", "arrays of increasing numbers", known)
    return Categories(channels, values)


@register(
    "NormalScores",
    NormalScores,
    {"knots": "array (c, K): quantiles of the training values of each channel, at even steps from 0 to 1"},
)
def _scores(fields: Fields) -> NormalScores:
    scores = NormalScores()
    scores.knots = _knots(fields, None)
    return scores


@register(
    "StaticScores",
    StaticScores,
    {
        "channels": "array (s,) of int64: which channels",
        "knots": "array (s, K): quantiles of their training values",
        "categories": "list of s arrays: the values of channels with few of them, each an input of 0 or 1",
        "n_outputs": "number of inputs: s and one for each category",
    },
)
def _static(fields: Fields) -> StaticScores:
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
    return static


@register(
    "ChartFeatures",
    ChartFeatures,
    {
        "encoder": "PanelEncoder: what is known of the training series",
        "static": _STATIC,
        "channels": _VARYING,
        "scores": _SCORES,
        "duration": "median duration of training series",
        "n_features_out": "number F of features",
        "mean": "array (F,): taken off each feature",
        "scale": "array (F,): what it is divided by",
        "share": "array (F,): of training series that have the feature; it is 0 in the others",
    },
)
def _charts(fields: Fields) -> ChartFeatures:
    features = ChartFeatures()
    encoder = features.encoder = fields.instance("encoder", PanelEncoder)
    _take_channels(fields, features, encoder.n_channels)
    features.duration = fields.positive("duration")
    size = features.n_features_out = fields.exactly("n_features_out", features.count())
    features.mean = fields.array("mean", (size,), "float64", -_LARGEST, _LARGEST)
    features.scale = fields.scales("scale", (size,))
    features.share = fields.array("share", (size,), "float64", 0.0, 1.0)
    return features


@register(
    "ChartEncoder",
    ChartEncoder,
    {
        **ENCODER,
        "static": _STATIC,
        "channels": _VARYING,
        "scores": _SCORES,
        "grid": "time between the samples of a chart without times, in the unit of the training series",
        "span": "length of the spans that a chart is read in, in that unit",
    },
    to_state=encoder_to_state,
)
def _encoder(fields: Fields) -> ChartEncoder:
    encoder = ChartEncoder(fields.take("time_scale"))
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
    return encoder


@register(
    "Ramps",
    Ramps,
    {
        "feature": "array (G,) of int64: the feature x of each ramp, increasing",
        "low": "array (G,): a ramp is (min(max((x - low) / width, 0), 1) - mean) factor, 0 where x is",
        "width": "array (G,)",
        "mean": "array (G,)",
        "factor": "array (G,)",
    },
)
def _ramps(fields: Fields) -> Ramps:
    feature = fields.array("feature", (None,), "int64", 0)
    if (np.diff(feature) < 0).any():
        raise fields.refuse("feature", "increasing", feature)
    size = feature.shape
    return Ramps(
        feature,
        fields.array("low", size, "float64", -_LARGEST, _LARGEST),
        fields.scales("width", size),
        fields.array("mean", size, "float64", 0.0, 1.0),
        fields.array("factor", size, "float64", 0.0, _LARGEST_FACTOR),
    )


def limits_of(fields: Fields, channels: int) -> Any:
    """Limits of values."""
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
