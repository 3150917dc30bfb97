"""What model files say of the parts of estimators: networks, encoders and features."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from tsssm.backbone import BACKBONES, NORMS, POOLINGS, Backbone
from tsssm.encoding import SCALES, Categories, PanelEncoder
from tsssm.estimators._chart_parts import ENCODER, encoder_to_state, limits_of
from tsssm.estimators._closed_form import ClosedForm
from tsssm.features import BASES, ChartFeatures, Ramps, StateSpaceFeatures, Timeline
from tsssm.features import POOLINGS as KEPT
from tsssm.panel._checks import UNITS
from tsssm.persistence import Fields, ModelFileError, register
from tsssm.training import Committee, DenseCommittee, isolated_rng

# To make a layer takes time that grows with the cube of its states: that of one with so many, seconds, is
# granted to every network, and more to those that hold many numbers.
_STATES, _WORK_A_NUMBER = 512, 2**13
# Logarithms of steps and of decay: what is beyond overflows in float32, or vanishes.
_LARGEST_LOGARITHM = 60.0
# Weights, and coefficients of systems and readouts.
_LARGEST = 1e12
_LARGEST_MEAN = 1e18
# Values of a panel are float32.
_RANGE = (float(torch.finfo(torch.float32).min), float(torch.finfo(torch.float32).max))

#: What a file holds of a network.
NETWORK = {
    "config": "dict: the arguments that the network was made with, by their names",
    "weights": "dict of tensors: its parameters and buffers, by the names of state_dict",
}

Net = TypeVar("Net", bound=Backbone)


def network_to_state(net: Backbone) -> dict[str, Any]:
    """What a file holds of a network: its arguments and its weights."""
    return {"config": net.config, "weights": dict(net.state_dict())}


def network_of(kind: type[Net], fields: Fields) -> Net:
    """Return a network of a class; its arguments are checked against the shapes of its weights."""
    owner = kind.__name__
    config, weights = fields.mapping("config"), fields.mapping("weights").rest()
    options: dict[str, Any] = {
        **_sizes(config, weights, owner),
        "backbone": config.choice("backbone", BACKBONES),
        "norm": config.choice("norm", NORMS),
        "bidirectional": config.flag("bidirectional"),
        "dropout": config.number("dropout", 0.0, 1.0),
    }
    if kind is Backbone:
        options["pooling"] = config.choice("pooling", POOLINGS)
    # The network itself checks the others.
    with isolated_rng(0):
        net = kind(**options, **config.rest()).float()
    found = Fields(owner, {"weights": weights}).tensors("weights", net.state_dict(), _LARGEST)
    for name, weight in found.items():
        if name.endswith("running_var") and bool((weight < 0).any()):
            raise ModelFileError(f"its {owner} has a negative variance in {name!r}.")
        if name.endswith(".layer.scale") and bool((weight <= 0).any()):
            raise ModelFileError(f"its {owner} has a scale in {name!r} that is not positive.")
        if name.endswith(("log_dt", "A_real")) and bool((weight.abs() > _LARGEST_LOGARITHM).any()):
            raise ModelFileError(f"its {owner} has logarithms beyond {_LARGEST_LOGARITHM:g} in {name!r}.")
    net.load_state_dict(found)
    return net.eval()


@register("Backbone", Backbone, NETWORK, to_state=network_to_state)
def _backbone(fields: Fields) -> Backbone:
    return network_of(Backbone, fields)


def _sizes(config: Fields, weights: dict[str, Any], owner: str) -> dict[str, int]:
    """Sizes of a network, which have to be those of its weights before anything is made of them."""
    encoder, head = weights.get("encoder.weight"), weights.get("head.weight")
    if any(not isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise ModelFileError(f"its {owner} has weights that are no tensors.")
    if encoder is None or head is None or encoder.ndim != 2 or head.ndim != 2 or 0 in encoder.shape:
        raise ModelFileError(f"its {owner} has no weights of an encoder and a head.")
    numbers = sum(weight.numel() for weight in weights.values())
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    d_model = encoder.shape[0]
    # Each layer has at least one number for each state of each channel.
    layers = max(1, len(blocks))
    work = _STATES**3 + _WORK_A_NUMBER * numbers
    states = int(min(numbers / (layers * d_model), (work / layers) ** (1 / 3)))
    outputs = {"n_outputs": config.exactly("n_outputs", head.shape[0])} if owner == "Backbone" else {}
    return {
        **outputs,
        "d_in": config.exactly("d_in", encoder.shape[1]),
        "d_model": config.exactly("d_model", d_model),
        "n_layers": config.exactly("n_layers", len(blocks)),
        "d_state": config.count("d_state", 1, states),
    }


@register(
    "Committee",
    Committee,
    {"members": "list of two Backbone or more, of one shape, whose outputs are averaged"},
    to_state=lambda net: {"members": list(net.members)},
)
def _committee(fields: Fields) -> Committee:
    members = fields.take("members")
    if type(members) is not list or len(members) < 2 or any(type(one) is not Backbone for one in members):
        raise fields.refuse("members", "a list of two networks or more", members)
    if any(one.config != members[0].config for one in members):
        raise fields.refuse("members", "of one shape", members)
    return Committee(members).eval()


@register(
    "ClosedForm",
    ClosedForm,
    {
        "features": "StateSpaceFeatures or ChartFeatures: F features of a series",
        "coef": "array (F, m): outputs are features @ coef + intercept",
        "intercept": "array (m,)",
        "dense": "DenseCommittee or null: networks on features of charts, averaged with the linear outputs",
        "ramps": "Ramps or null: what these networks read of the features; null is the features themselves",
    },
)
def _closed_form(fields: Fields) -> ClosedForm:
    features: Any = fields.instance("features", StateSpaceFeatures, ChartFeatures)
    coef = fields.array("coef", (features.n_features_out, None), "float64")
    intercept = fields.array("intercept", (coef.shape[1],), "float64")
    dense, ramps = fields.maybe("dense", DenseCommittee), fields.maybe("ramps", Ramps)
    if ramps is not None and ramps.feature.max() >= len(coef):
        raise fields.refuse("ramps", f"of {len(coef)} features", ramps.feature)
    if dense is not None:
        read = len(coef) if ramps is None else len(ramps.feature)
        sizes = dense.n_inputs, dense.weights["c"].shape[2]
        if not isinstance(features, ChartFeatures) or sizes != (read, coef.shape[1]):
            raise fields.refuse("dense", "for the features of charts and the outputs beside them", sizes)
    return ClosedForm(features, coef, intercept, dense, ramps)


@register(
    "DenseCommittee",
    DenseCommittee,
    {
        "weights": "dict of tensors: W (K, F, h), b (K, 1, h), V (K, h, m), S (K, F, m), c (K, 1, m) of K "
        "members with h units; of features x they make x S + c + max(x W + b, 0) V, and the mean counts",
        "unit": "number that features are divided by",
    },
)
def _dense(fields: Fields) -> DenseCommittee:
    weights, unit = fields.mapping("weights"), fields.positive("unit")
    W = weights.tensor("W", (None, None, None), torch.float32, _LARGEST)
    members, size, units = W.shape
    c = weights.tensor("c", (members, 1, None), torch.float32, _LARGEST)
    outputs = c.shape[2]
    shapes = {"b": (members, 1, units), "V": (members, units, outputs), "S": (members, size, outputs)}
    others = {name: weights.tensor(name, shape, torch.float32, _LARGEST) for name, shape in shapes.items()}
    weights.end()
    return DenseCommittee({"W": W, "c": c, **others}, unit)


@register(
    "PanelEncoder",
    PanelEncoder,
    {
        **ENCODER,
        "scale": "'auto', 'standard' or 'robust': which scale std is",
        "categories": "Categories: the values of the channels whose numbers are codes",
    },
    to_state=encoder_to_state,
)
def _encoder(fields: Fields) -> PanelEncoder:
    encoder = PanelEncoder(fields.take("time_scale"), fields.choice("scale", SCALES))
    given = not isinstance(encoder.time_scale, str)
    timed = encoder.has_times = fields.flag("has_times")
    encoder.time_unit = fields.choice("time_unit", (None, *UNITS) if timed else (None,))
    channels = encoder.n_channels = fields.count("n_channels", 1)
    encoder.mean = fields.array("mean", (channels,), "float64", *_RANGE)
    encoder.std = fields.scales("std", (channels,))
    # Numbers that differ do so by more than their rounding; those of a constant channel have the scale 1.
    if bool(((np.abs(encoder.mean) > _LARGEST_MEAN * encoder.std) & (encoder.std != 1.0)).any()):
        raise fields.refuse("mean", f"no more than {_LARGEST_MEAN:g} times std", encoder.mean)
    encoder.limits = limits_of(fields, channels)
    categories = fields.instance("categories", Categories)
    if not set(categories.channels) <= set(range(channels)):
        raise fields.refuse("categories", f"of some of the {channels} channels", categories.channels)
    encoder.set_categories(categories)
    encoder.categorical = categories.channels
    encoder.missing = fields.flag("missing")
    inputs = len(encoder.numeric) * (3 if encoder.missing else 1) + categories.size
    encoder.n_inputs = fields.exactly("n_inputs", inputs)
    if given:
        encoder.time_scale_ = fields.exactly("time_scale_", float(encoder.time_scale))
    elif timed:
        encoder.time_scale_ = fields.positive("time_scale_")
    else:
        encoder.time_scale_ = fields.exactly("time_scale_", 1.0)
    encoder.step = fields.positive("step") if timed else fields.exactly("step", 1.0)
    return encoder


@register(
    "Timeline",
    Timeline,
    {
        "encoder": "PanelEncoder: what is known of the training series",
        "normalize": "'series' (every series has mean 0 and variance 1), 'global' (mean and std) or null",
        "normalize_slopes": "'series' or 'global' (slope_scale): what slopes are divided by",
        "mean": "array (d,): what is taken off the values of each channel",
        "std": "array (d,): what they are divided by",
        "unit": "unit of time, in that of the training series; 1 without times",
        "resolution": "mean time between training samples, in units",
        "duration": "median duration of training series, in units",
        "bend": "array (d,): how far channels are bent from straight lines between samples, 0 to 1",
        "slope_scale": "array (d,): root mean square of the slopes of the training series",
    },
)
def _timeline(fields: Fields) -> Timeline:
    normalize = fields.choice("normalize", ("series", "global", None))
    timeline = Timeline(normalize, fields.choice("normalize_slopes", ("series", "global")))
    encoder = timeline.encoder = fields.instance("encoder", PanelEncoder)
    shape = (encoder.n_channels,)
    timeline._mean = fields.array("mean", shape, "float64", *_RANGE)
    timeline._std = fields.scales("std", shape)
    if encoder.has_times:
        # The unit is at least an eighth of the mean gap, and that at least half of the median.
        timeline.unit = fields.number("unit", encoder.time_scale_ / 17, 1e300)
        timeline.resolution = fields.number("resolution", 1.0, 9.0)
    else:
        timeline.unit = fields.exactly("unit", 1.0)
        timeline.resolution = fields.number("resolution", 1.0, _RANGE[1])
    timeline.duration = fields.number("duration", 1.0, _RANGE[1])
    timeline.bend = fields.array("bend", shape, "float64", 0.0, 1.0)
    timeline.slope_scale = fields.scales("slope_scale", shape)
    return timeline


@register(
    "StateSpaceFeatures",
    StateSpaceFeatures,
    {
        "n_features": "number of features that was asked for",
        "basis": "'diagonal', 'legt' or 'legs': kind of the systems",
        "n_scales": "number of timescales",
        "pooling": "tuple of 'ppv', 'competition' or both: what is kept of a readout",
        "normalize": "'auto', 'series', 'global' or null, as it was asked for",
        "seed": "of the random numbers",
        "kinds": "features of a readout: 2 for each of pooling",
        "n_groups": "number g of systems",
        "n_readouts": "number r of readouts of a system, in competition by eights",
        "n_features_out": "g r kinds",
        "timeline": "Timeline: how series become functions of time",
        "systems": "dict of tensors: x' = A x + B u, A (g, N) complex or (g, N, N), B (g, N), and "
        "u = mix_u values + mix_held slopes, both (g, d)",
        "readouts": "dict of tensors: y = C x + D u, C (g, r, N), D (g, r)",
        "thresholds": "tensor (g, 2, r) that the time above is counted of",
    },
)
def _features(fields: Fields) -> StateSpaceFeatures:
    pooling = fields.take("pooling")
    if (
        type(pooling) is not tuple
        or not pooling
        or len(set(pooling)) < len(pooling)
        or set(pooling) - set(KEPT)
    ):
        raise fields.refuse("pooling", f"a tuple of some of {KEPT}", pooling)
    features = StateSpaceFeatures(
        fields.count("n_features", 1),
        fields.choice("basis", BASES),
        fields.count("n_scales", 1),
        pooling,
        fields.choice("normalize", ("auto", "series", "global", None)),
        fields.count("seed"),
    )
    timeline = features.timeline = fields.instance("timeline", Timeline)
    channels = timeline.encoder.n_channels
    expected = features.normalizations(channels)
    if (timeline.normalize, timeline.normalize_slopes) != expected:
        raise fields.refuse("timeline", f"normalised by {expected}", timeline)
    fields.exactly("kinds", 2 * len(pooling))
    groups = features.n_groups = fields.count("n_groups", 1)
    readouts = features.n_readouts = fields.count("n_readouts", 8)
    if readouts % 8:
        raise fields.refuse("n_readouts", "a multiple of 8", readouts)
    features.n_features_out = fields.exactly("n_features_out", groups * readouts * features.kinds)
    diagonal = features.basis == "diagonal"
    systems, outputs = fields.mapping("systems"), fields.mapping("readouts")
    dtype = torch.complex128 if diagonal else torch.float64
    A = systems.tensor("A", (groups, None) if diagonal else (groups, None, None), dtype)
    shape = (groups, A.shape[-1])
    if not diagonal and A.shape[1] != A.shape[2]:
        raise systems.refuse("A", "square", A)
    rates = A.real if diagonal else torch.linalg.eigvals(A).real
    # Those of a dense matrix have an error in proportion to it.
    if bool((rates > (0.0 if diagonal else 1e-6 * float(A.abs().max()))).any()):
        raise systems.refuse("A", "stable, with no rate of growth", A)
    # The proportions of an input are those of a unit vector.
    features._systems = {
        "A": A,
        "B": systems.tensor("B", shape, dtype, _LARGEST),
        "mix_u": systems.tensor("mix_u", (groups, channels), torch.float32, 1.001),
        "mix_held": systems.tensor("mix_held", (groups, channels), torch.float32, 1.001),
    }
    systems.end()
    features._readouts = {
        "C": outputs.tensor("C", (groups, readouts, A.shape[-1]), dtype, _LARGEST),
        "D": outputs.tensor("D", (groups, readouts), torch.float32, _LARGEST),
    }
    outputs.end()
    features._thresholds = fields.tensor("thresholds", (groups, 2, readouts), torch.float32)
    return features
