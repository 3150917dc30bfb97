"""Networks and the closed form beside them: how many, which series each leaves out, how they are weighted."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand
from tsssm.estimators._checks import FloatArray, IntArray
from tsssm.estimators._classes import NetworkClasses
from tsssm.estimators._closed_form import (
    DENSE_MEMBERS,
    ClosedForm,
    DenseOptions,
    Fitted,
    fit_closed_form,
    pull_of,
)
from tsssm.estimators._numbers import NetworkNumbers
from tsssm.estimators._splits import Labelled, folds, split_rows
from tsssm.persistence import Fields
from tsssm.training import Committee, members_of, resolve_device

# With more series than the first, one network learns from them what several members give, and leaves out a
# tenth, by which it is weighed. With more than the second, it also learns what the closed form gives.
_FEW, _MANY, _LEFT_OUT, _MOST_LEFT_OUT = 2000, 5000, 0.1, 0.25
_MEMBERS, _MEMBERS_OF_CHARTS, _FEATURES = 4, 6, 12288

NetworkTargets = NetworkClasses | NetworkNumbers


def sizes_of(
    parameters: Any,
    data: Encoded | EncodedOnDemand,
    net: Backbone | Committee | None = None,
    *,
    incremental: bool = False,
    charts: bool = False,
) -> tuple[int, int]:
    """Members, and features of the closed form, for some series; ``net`` is what a fit goes on with."""
    # What is encoded on demand may not fit into the memory.
    whole = isinstance(data, Encoded) and bool(parameters.bidirectional)
    # Members and closed form of charts cost little, and tell much of each other's errors.
    few = (charts or (whole and len(data) <= _FEW)) and not incremental
    many = whole and len(data) <= _MANY and not incremental
    members, features = parameters.n_members, parameters.n_features
    if net is not None and parameters.closed_form_ is None:
        # A network that has seen all series cannot tell by them what a closed form beside it is worth.
        many = False
    if isinstance(members, str):
        members = (_MEMBERS_OF_CHARTS if charts else _MEMBERS) if few else 1
        if net is not None:
            members = len(members_of(net))
    if isinstance(features, str):
        features = _FEATURES if (few or many) and not parameters.categorical else 0
    if features and parameters.categorical:
        raise ValueError(f"n_features must be 'auto' or 0 with categorical channels; got {features}.")
    return members, 0 if incremental else features


def folds_of(targets: NetworkTargets, data: Labelled, count: int, seed: int) -> IntArray | None:
    """Return which of so many members leaves each series out; None if all see all of them."""
    if count == 1:
        return None
    return folds(data, targets.strata(data.y), count, seed, classes=targets.are_classes)


def tenth_of(targets: NetworkTargets, data: Labelled, seed: int) -> IntArray | None:
    """Return a fold (n,) of 0 for the series that one network leaves out, to be weighed by, and else -1.

    None where series are few, or groups so large that the network would miss more than a quarter of them.
    """
    if len(data) <= _FEW:
        return None
    classes = targets.are_classes and data.y.ndim == 1
    try:
        kept, left_out = split_rows(data, targets.strata(data.y), _LEFT_OUT, seed, classes=classes)
    except ValueError:  # each group has all series of some class
        return None
    if len(left_out) > _MOST_LEFT_OUT * len(data):
        return None
    fold = np.zeros(len(data), dtype=np.int64)
    fold[kept] = -1
    return fold


def fit_beside(
    parameters: Any,
    targets: NetworkTargets,
    data: Labelled,
    n_features: int,
    fold: IntArray | None,
    seed: int,
) -> Fitted:
    """Fit a closed form to the series."""
    whole, dense = bool(parameters.bidirectional), None
    # What streams is answered sample by sample, which many networks would take too long for.
    if whole:
        dense = DenseOptions(folds_of(targets, data, DENSE_MEMBERS, seed), parameters.max_steps)
    return fit_closed_form(
        data.panel,
        targets.ridge(data.y),
        data.weight,
        # One of a group says much of the others.
        None if data.groups is None else fold,
        n_features=n_features,
        normalize="auto" if whole else "global",
        seed=seed,
        device=resolve_device(parameters.accelerator),
        classes=targets.are_classes,
        scale=parameters.scale,
        dense=dense,
    )


def weigh(
    targets: NetworkTargets, data: Labelled, outputs: FloatArray, beside: Fitted | None
) -> FloatArray | None:
    """Return the weights (n_columns, 2) of a closed form and of networks, and let targets judge both.

    By what they say of series that they have not seen: ``outputs`` (n, n_outputs) of the networks, NaN where
    all have seen a series. None where nothing is known, and without a closed form.
    """
    known = np.isfinite(outputs).all(axis=1)
    if beside is not None:
        known &= np.isfinite(beside.left_out).all(axis=1)
    if not known.any():
        return None
    y, outputs, blend = data.y[known], outputs[known], None
    if beside is not None:
        left_out, weight = beside.left_out[known], data.weight[known]
        blend = targets.weigh(left_out, outputs, y, weight, *pull_of(beside.closed_form))
        outputs = targets.blended(left_out, outputs, blend)
    targets.judge(outputs, y, None if data.groups is None else data.groups[known])
    return blend


def restore_blend(
    estimator: Any, targets: NetworkTargets, fields: Fields
) -> tuple[ClosedForm | None, FloatArray | None]:
    """Return the closed form and the weights that a file holds, checked against the network."""
    closed_form = fields.maybe("closed_form_", ClosedForm)
    if closed_form is None:
        fields.exactly("blend_", None)
        return None, None
    own, known = estimator.encoder_, closed_form.features.encoder
    asked = own.n_channels, own.has_times, own.time_unit, targets.n_ridge
    if (known.n_channels, known.has_times, known.time_unit, closed_form.coef.shape[1]) != asked:
        raise fields.refuse("closed_form_", "for the panels and targets of the network", closed_form)
    if targets.single or not targets.calibrated:
        raise fields.refuse("closed_form_", "None for targets without slopes", closed_form)
    return closed_form, fields.array("blend_", (targets.n_columns, 2), np.float64, 0.0)
