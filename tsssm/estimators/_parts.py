"""What model files say of the parts of estimators: networks, encoders and features."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from tsssm.backbone import BACKBONES, NORMS, POOLINGS, Backbone
from tsssm.encoding import SCALES, PanelEncoder
from tsssm.estimators._categories import categories_from, encoder_to_state
from tsssm.estimators._chart_parts import limits_of, register_chart_parts
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

# What the default of ``discretization`` was while files did not name the rule of a network.
_FIRST_RULES = {"s4": "bilinear", "lssl": "bilinear", "lssl-fixed": "bilinear"}


Net = TypeVar("Net", bound=Backbone)


def network_to_state(net: Backbone) -> dict[str, Any]:
    """What a file holds of a network: its arguments and its weights."""
    return {"config": net.config, "weights": dict(net.state_dict())}


def network_from_state(kind: type[Net], state: dict[str, Any]) -> Net:
    """Return a network of a class; its arguments are checked against the shapes of its weights."""
    owner = kind.__name__
    fields = Fields(owner, state)
    config, weights = fields.mapping("config"), fields.mapping("weights").rest()
    fields.end()
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
    others = config.rest()
    if others.get("discretization") is None:
        others["discretization"] = _FIRST_RULES.get(options["backbone"])
    with isolated_rng(0):
        net = kind(**options, **others).float()
    for name, own in net.state_dict().items():
        if name.endswith(".layer.scale"):  # which the first files do without: it was 1
            weights.setdefault(name, torch.ones_like(own))
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


def _committee_from_state(state: dict[str, Any]) -> Committee:
    fields = Fields("Committee", state)
    members = fields.take("members")
    fields.end()
    if type(members) is not list or len(members) < 2 or any(type(one) is not Backbone for one in members):
        raise fields.refuse("members", "a list of two networks or more", members)
    if any(one.config != members[0].config for one in members):
        raise fields.refuse("members", "of one shape", members)
    return Committee(members).eval()


def _closed_form_from_state(state: dict[str, Any]) -> ClosedForm:
    fields = Fields("ClosedForm", state)
    features: Any = fields.instance("features", StateSpaceFeatures, ChartFeatures)
    coef = fields.array("coef", (features.n_features_out, None), "float64")
    intercept = fields.array("intercept", (coef.shape[1],), "float64")
    dense = ramps = None
    # The first model files know of no dense networks, those after them of no ramps.
    if fields.has("dense") and not fields.is_none("dense"):
        dense = fields.instance("dense", DenseCommittee)
        if fields.has("ramps") and not fields.is_none("ramps"):
            ramps = fields.instance("ramps", Ramps)
            if ramps.feature.max() >= len(coef):
                raise fields.refuse("ramps", f"of {len(coef)} features", ramps.feature)
        read = len(coef) if ramps is None else len(ramps.feature)
        sizes = dense.n_inputs, dense.weights["c"].shape[2]
        if not isinstance(features, ChartFeatures) or sizes != (read, coef.shape[1]):
            raise fields.refuse("dense", "for the features of charts and the outputs beside them", sizes)
    fields.ignore("dense", "ramps")
    fields.end()
    return ClosedForm(features, coef, intercept, dense, ramps)


def _dense_from_state(state: dict[str, Any]) -> DenseCommittee:
    fields = Fields("DenseCommittee", state)
    weights, unit = fields.mapping("weights"), fields.positive("unit")
    fields.end()
    W = weights.tensor("W", (None, None, None), torch.float32, _LARGEST)
    members, size, units = W.shape
    c = weights.tensor("c", (members, 1, None), torch.float32, _LARGEST)
    outputs = c.shape[2]
    shapes = {"b": (members, 1, units), "V": (members, units, outputs), "S": (members, size, outputs)}
    others = {name: weights.tensor(name, shape, torch.float32, _LARGEST) for name, shape in shapes.items()}
    weights.end()
    return DenseCommittee({"W": W, "c": c, **others}, unit)


def _encoder_from_state(state: dict[str, Any]) -> PanelEncoder:
    fields = Fields("PanelEncoder", state)
    # The first model files name no scale.
    scale = fields.choice("scale", SCALES) if fields.has("scale") else "auto"
    encoder = PanelEncoder(fields.take("time_scale"), scale)
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
    encoder.set_categories(categories_from(fields, channels))
    encoder.categorical = encoder.categories.channels
    encoder.missing = fields.flag("missing")
    inputs = len(encoder.numeric) * (3 if encoder.missing else 1) + encoder.categories.size
    encoder.n_inputs = fields.exactly("n_inputs", inputs)
    if given:
        encoder.time_scale_ = fields.exactly("time_scale_", float(encoder.time_scale))
    elif timed:
        encoder.time_scale_ = fields.positive("time_scale_")
    else:
        encoder.time_scale_ = fields.exactly("time_scale_", 1.0)
    encoder.step = fields.positive("step") if timed else fields.exactly("step", 1.0)
    fields.end()
    return encoder


def _timeline_from_state(state: dict[str, Any]) -> Timeline:
    fields = Fields("Timeline", state)
    normalize = fields.choice("normalize", ("series", "global", None))
    timeline = Timeline(normalize, fields.choice("normalize_slopes", ("series", "global")))
    encoder = timeline.encoder = fields.instance("encoder", PanelEncoder)
    shape = (encoder.n_channels,)
    timeline._mean = fields.array("_mean", shape, "float64", *_RANGE)
    timeline._std = fields.scales("_std", shape)
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
    fields.end()
    return timeline


def _features_from_state(state: dict[str, Any]) -> StateSpaceFeatures:
    fields = Fields("StateSpaceFeatures", state)
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
    systems, outputs = fields.mapping("_systems"), fields.mapping("_readouts")
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
    features._thresholds = fields.tensor("_thresholds", (groups, 2, readouts), torch.float32)
    fields.end()
    return features


def register_parts() -> None:
    """Let model files hold what estimators are made of."""
    register("Backbone", Backbone, network_to_state, lambda state: network_from_state(Backbone, state))
    register("PanelEncoder", PanelEncoder, encoder_to_state, _encoder_from_state)
    register("Committee", Committee, lambda net: {"members": list(net.members)}, _committee_from_state)
    register("ClosedForm", ClosedForm, vars, _closed_form_from_state)
    register("DenseCommittee", DenseCommittee, vars, _dense_from_state)
    register("Timeline", Timeline, vars, _timeline_from_state)
    register("StateSpaceFeatures", StateSpaceFeatures, vars, _features_from_state)
    register_chart_parts()
