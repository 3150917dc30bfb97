"""Model files of earlier versions, brought to the names and contents of today; nothing else knows of them.

Those of version 0.1.0, of format 1, do not say the versions of what they hold. They call it as attributes
were called, private ones with an underscore; what a fit has set is in ``fitted``, with what is known of y
among it, and some of it twice. The earliest of them lack what came later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tsssm.encoding import unlimited
from tsssm.estimators._model_state import is_own
from tsssm.persistence import Fields, Kind, kinds, public

State = dict[str, Any]

#: What estimators of 0.1.0 knew of y by themselves, files and pickles alike, and what targets call it.
_OF_TARGETS = {
    "_y_columns": "columns",
    "_slopes": "slopes",
    "_y_mean": "mean",
    "_y_std": "std",
    "_y_ndim": "ndim",
    "_n_targets": "n_columns",
}


def upgrade(kind: Kind, version: int, state: Any) -> State:
    """Return what a kind holds today, made of what it held earlier; what makes no sense may raise."""
    fields = Fields(kind.cls.__name__, state).rest()
    if "fitted" in fields:
        return _estimator(kind, fields)
    fields = {public(name): value for name, value in fields.items()}
    return _CHANGED.get(kind.name, lambda same: same)(fields)


def targets_among(state: State) -> State:
    """Take out of what an estimator of 0.1.0 held what targets know."""
    found = {name: state.pop(old) for old, name in _OF_TARGETS.items() if old in state}
    if "classes_" in state:
        classes = state["classes_"]
        found["listed"] = classes if isinstance(classes, list) and len(classes) > 1 else [classes]
    scores, share = state.pop("_scores", None), state.pop("_score_share", None)
    if scores is not None:
        found["errors"] = kinds["LeftOut"].made_of({"scores": scores, "share": share})
    return found


def _estimator(kind: Kind, state: State) -> State:
    cls: Any = kind.cls
    fields = Fields(cls.__name__, state)
    fitted, found = fields.mapping("fitted").rest(), fields.rest()
    targets = getattr(cls, "_kind_of_targets", None)
    if targets is not None:
        found["targets"] = kinds[targets.__name__].made_of(targets_among(fitted))
        if fitted.get("net_", ...) is None:  # of a single class nothing is learned
            for name in ("_optimizer_state", "closed_form_", "blend_"):
                fitted.pop(name, None)
    for name in cls._not_saved:
        fitted.pop(name, None)
    if "closed_form_" in kind.holds and fitted.setdefault("closed_form_", None) is None:
        fitted["blend_"] = None
    held = {name for name in fitted if public(name) in kind.holds or is_own(cls)}
    found |= {public(name): fitted.pop(name) for name in held}
    return {**found, "others": fitted} if fitted else found


def _network(state: State) -> State:
    """Without a rule of discretisation, and without the scale of the liquid term, which was 1."""
    config, weights = dict(state["config"]), dict(state["weights"])
    if config.get("discretization") is None:
        bilinear = config["backbone"] in ("s4", "lssl", "lssl-fixed")
        config["discretization"] = "bilinear" if bilinear else None
    for name in [*weights]:
        layer, _, parameter = name.rpartition(".")
        if parameter == "A_imag" and str(config["backbone"]).startswith("liquid"):
            weights.setdefault(f"{layer}.scale", torch.ones(weights[name].shape[-1]))
    return {"config": config, "weights": weights}


def _encoder(state: State) -> State:
    """Without a scale, and without limits; with categorical channels, if any, in two lists."""
    known = {"channels": tuple(state.pop("categorical", ())), "values": tuple(state.pop("categories", ()))}
    made = kinds["Categories"].made_of(known)
    return {"scale": "auto", "limits": unlimited(len(state["mean"])), **state, "categories": made}


def _charts(state: State) -> State:
    """With a scale, which charts have none of."""
    state.pop("scale", None)
    return {"limits": unlimited(len(state["mean"])), **state}


_CHANGED: dict[str, Callable[[State], State]] = {
    "Backbone": _network,
    "ForecastNetwork": _network,
    "PanelEncoder": _encoder,
    "ChartEncoder": _charts,
    # The geometric mean of what was, and all samples at their cells.
    "forecasting.Errors": lambda state: {"power": 0.5, **state},
    "forecasting.ForecastModel": lambda state: {"loss": "absolute_error", **state},
    "forecasting.History": lambda state: {"shift": np.zeros(len(state["y"])), **state},
}
