"""A fit of a network to the parameters of an estimator: its course, the network, and what a file holds of it.

The estimators with one prediction per series and those with answers along time share these functions. An
estimator has ``_targets``, and reads its series in ``_labelled``, splits them in ``_split``, and learns from
them in ``_train``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tsssm.backbone import BACKBONES, Backbone
from tsssm.encoding import ChartEncoder, PanelEncoder
from tsssm.estimators._callbacks import FitReport
from tsssm.estimators._checks import check_validation, errors_about, seed_of
from tsssm.estimators._parameters import steps_of
from tsssm.estimators._recipes import dropout_of, least_steps_of, recipe_of, training_options
from tsssm.persistence import Fields
from tsssm.training import (
    Batches,
    Committee,
    TrainingOptions,
    check_moments,
    isolated_rng,
    members_of,
    train,
)

# Parameters, and arguments of a Trainer besides those that are names or paths, that say where a fit writes.
_WHERE = ("checkpoint_dir", "resume_from")
_WRITING = ("default_root_dir", "enable_checkpointing", "logger")

#: What a model file holds of a trained network.
HOLDS = {
    "targets": "NetworkClasses or NetworkNumbers, along time NumbersAlongTime: what is known of y",
    "encoder_": "PanelEncoder or ChartEncoder: how series become inputs",
    "net_": "Backbone, or Committee of several; null for a single class",
    "optimizer_state": "dict: step, exp_avg and exp_avg_sq of AdamW, by the number of a parameter, or null",
    "n_iter_": "number of epochs",
    "loss_curve_": "list: mean training loss of each epoch",
    "validation_scores_": "list: score on held-out series after each epoch, or null",
    "best_validation_score_": "the largest of them, or null",
}

#: The smallest initial step, as a share of the typical duration of a series, and the largest in time units.
SLOWEST, FASTEST_EVER = 0.5, 0.5


class Fit(NamedTuple):
    """What a fit learns from, and how.

    Attributes
    ----------
    data, held_out : Labelled or Recordings
        Series to train on, and those to validate with, if any.
    seed, run_seed : int
        Of the network, and of the order of series, which is not that of the epochs before.
    continued : bool
        Whether the network is that of an earlier fit.
    weighted : bool
        Whether a user has given weights.
    incremental : bool
        Whether this is one epoch of ``partial_fit``.
    """

    data: Any
    held_out: Any
    seed: int
    run_seed: int
    continued: bool
    weighted: bool
    incremental: bool = False


class Shape(NamedTuple):
    """What a network is made for, besides the parameters of an estimator.

    ``steps`` are the smallest and the largest initial Delta, for all layers or, in tuples, for each.
    """

    bidirectional: bool
    pooling: str
    steps: tuple[Any, Any]
    n_members: int = 1


def fit_network(
    estimator: Any, X: Any, y: Any, sample_weight: Any, groups: Any, validation: tuple[Any, Any, Any]
) -> None:
    """Fit to series, and validate with others (X, y, weights) or a part: ``fit`` of the estimators."""
    continued = estimator._is_fitted and estimator._starts_warm()
    with estimator._fitting(reset=not continued):
        check_validation(*validation, groups, bool(estimator.early_stopping))
        seed = seed_of(estimator.random_state)
        data = estimator._labelled(X, y, sample_weight, groups, reset=not continued)
        if continued:
            estimator._get_used_to(data.panel)
        held_out = None
        if validation[0] is not None:
            with errors_about("X_val, y_val and sample_weight_val"):
                held_out = estimator._labelled(*validation, reset=False)
        elif estimator.early_stopping:
            data, held_out = estimator._split(data, seed)
        run_seed = _seed_of_run(estimator, seed, continued)
        estimator._train(Fit(data, held_out, seed, run_seed, continued, sample_weight is not None))


def fit_part(estimator: Any, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> None:
    """Train for one epoch of these series, at a constant learning rate; ``partial_fit`` of the estimators."""
    if estimator.early_stopping:
        raise ValueError("partial_fit holds no series out: it needs early_stopping=False.")
    continued = estimator._is_fitted
    with estimator._fitting(reset=not continued):
        seed = seed_of(estimator.random_state)
        data = estimator._labelled(X, y, sample_weight, reset=not continued, classes=classes)
        if continued:
            estimator._get_used_to(data.panel)
        run_seed = _seed_of_run(estimator, seed, continued)
        weighted = sample_weight is not None
        estimator._train(Fit(data, None, seed, run_seed, continued, weighted, incremental=True))


def _seed_of_run(estimator: Any, seed: int, continued: bool) -> int:
    if not continued:
        return seed
    return int(np.random.SeedSequence((seed, estimator.n_iter_)).generate_state(1)[0])


def fit_single_class(estimator: Any, fit: Fit, what: str) -> None:
    """With one class there is nothing to learn: predict it for every ``what`` that comes."""
    estimator._targets.warn_of_one(estimator, what)
    panel = fit.data.panel
    estimator.net_ = None
    encoder = PanelEncoder(estimator.time_scale, estimator.scale, estimator.categorical or ())
    estimator.encoder_ = encoder.fit(panel)
    estimator.time_scale_ = encoder.time_scale_
    estimator.n_iter_ = 0
    estimator.loss_curve_ = []
    estimator.validation_scores_ = estimator.best_validation_score_ = None
    FitReport(estimator, panel, fit.data.y, {}, 0, lambda: {"_is_fitted": True}).ends()


def options_of(estimator: Any, fit: Fit, n_members: int, batch_size: int) -> TrainingOptions:
    """Options of a run in batches of a size."""
    recipe = recipe_of(estimator.encoder_, estimator)
    options = training_options(
        estimator,
        fit.run_seed,
        max_steps=estimator.max_steps,
        weight_decay=recipe.weight_decay,
        changed=dropout_of(estimator.encoder_),
        batch_size=batch_size,
        least_steps=least_steps_of(n_members),
    )
    if not fit.incremental:
        return options
    alone: dict[str, Any] = {"max_steps": None, "checkpoint_dir": None, "resume_from": None}
    return replace(options, max_epochs=1, incremental=True, **alone)


def run(
    estimator: Any,
    fit: Fit,
    shape: Shape,
    batches: Batches,
    validation: Batches | None,
    options: TrainingOptions,
) -> tuple[Backbone | Committee, FitReport]:
    """Train a network, a new one unless ``fit.continued``, and set the fitted attributes.

    The report of the run is still to be ended.
    """
    continued, targets = fit.continued, estimator._targets
    recipe = recipe_of(estimator.encoder_, estimator)
    epochs_before = estimator.n_iter_ if continued else 0
    rule = _rule(estimator, fit)
    net = _new_network(estimator, shape, rule, fit.seed)
    if continued:
        _adopt_weights(estimator, net)

    def fitted() -> dict[str, Any]:
        current = _new_network(estimator, shape, rule, fit.seed)
        current.load_state_dict(net.state_dict())
        return {"net_": current.eval(), "_is_fitted": True}

    n_epochs = -(-options.total_steps(len(batches)) // len(batches))
    metadata = {"sample_weight": fit.data.weight} if fit.weighted else {}
    report = FitReport(estimator, fit.data.panel, fit.data.y, metadata, n_epochs, fitted)
    moments = estimator.__dict__.get("_optimizer_state") if options.incremental else None
    result = train(
        net,
        lambda outputs, target: targets.loss_of(outputs, target, recipe),
        batches,
        options,
        validation,
        observer=report,
        optimizer_state=moments,
    )
    scores = result.validation_scores
    scores_before = (estimator.validation_scores_ or []) if continued else []
    estimator.net_ = net
    estimator.n_iter_ = epochs_before + result.n_iter
    estimator.loss_curve_ = [*(estimator.loss_curve_ if continued else []), *result.loss_curve]
    estimator.validation_scores_ = None if scores is None else [*scores_before, *scores]
    estimator.best_validation_score_ = result.best_validation_score
    estimator._optimizer_state = result.optimizer_state
    return net, report


def _rule(estimator: Any, fit: Fit) -> str | float | None:
    """The discretisation; by default that of the network which is trained further, or one for the gaps."""
    if estimator.discretization is not None:
        return estimator.discretization
    if fit.continued:
        config = members_of(estimator.net_)[0].config
        # The rule of another backbone may be none of this one; that it cannot go on is told by its weights.
        return config["discretization"] if config["backbone"] == estimator.backbone else None
    choice = BACKBONES.get(estimator.backbone)
    if choice is None or choice.on_grid is None or not estimator.encoder_.regular(fit.data.panel):
        return None
    return choice.on_grid


def _new_network(estimator: Any, shape: Shape, rule: str | float | None, seed: int) -> Backbone | Committee:
    recipe = recipe_of(estimator.encoder_, estimator)
    with isolated_rng(seed):
        members = [
            Backbone(
                estimator.encoder_.n_inputs,
                estimator._targets.n_outputs,
                backbone=estimator.backbone,
                n_layers=recipe.n_layers,
                d_model=estimator.d_model,
                d_state=estimator.d_state,
                bidirectional=shape.bidirectional,
                dropout=recipe.dropout,
                norm=estimator.norm,
                pooling=shape.pooling,
                discretization=rule,
                n_readouts=estimator.n_readouts,
                dt_min=shape.steps[0],
                dt_max=shape.steps[1],
            ).float()  # whatever torch.set_default_dtype says
            for _ in range(shape.n_members)
        ]
    return members[0] if shape.n_members == 1 else Committee(members)


def _adopt_weights(estimator: Any, net: Backbone | Committee) -> None:
    """Give the weights of the fitted network to one that is made of today's parameters."""
    try:
        net.load_state_dict(estimator.net_.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True cannot continue the previous fit, because a parameter that sets the shape "
            "of the network has changed (backbone, n_members, n_layers, d_model, d_state, n_readouts, "
            "bidirectional, norm, loss or quantiles). Restore it, or fit with warm_start=False."
        ) from error


def named_steps(estimator: Any) -> tuple[Any, Any]:
    """Smallest and largest initial Delta, in 1 / (unit of elapsed time), where ``timescales`` says them."""
    n_layers = recipe_of(estimator.encoder_, estimator).n_layers
    return steps_of(estimator.timescales, estimator.time_scale_, n_layers)


def parameters_of_a_model(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says where a fit writes: a file that came from elsewhere must not."""
    kept = {name: value for name, value in parameters.items() if name not in _WHERE}
    options = kept.get("trainer_kwargs")
    if isinstance(options, Mapping):
        kept["trainer_kwargs"] = {
            name: value
            for name, value in options.items()
            if name not in _WRITING and not isinstance(value, (str, os.PathLike))
        }
    return kept


def restore_network(estimator: Any, fields: Fields) -> None:
    """As `PanelEstimator._restore`: what a fit sets, besides what is beside the network."""
    targets = estimator._restore_targets(fields)
    encoder: Any = fields.instance("encoder_", PanelEncoder, ChartEncoder)
    estimator.encoder_ = encoder
    estimator.time_scale_ = encoder.time_scale_
    estimator._restore_panel(fields, encoder)
    net: Any = None
    moments = None
    if targets.single:
        fields.exactly("net_", None)
    else:
        net = fields.instance("net_", Backbone, Committee)
        for member in members_of(net):
            sizes, wanted = (member.config["d_in"], member.config["n_outputs"]), targets.n_outputs
            if sizes != (encoder.n_inputs, wanted):
                raise fields.refuse("net_", f"for {encoder.n_inputs} inputs and {wanted} outputs", sizes)
    if fields.given("optimizer_state"):
        moments = fields.take("optimizer_state")
        groups = [] if net is None else net.parameter_groups(0.0, 0.0, 0.0)
        check_moments(moments, [one for group in groups for one in group["params"]])
    estimator.net_, estimator._optimizer_state = net, moments
    estimator.n_iter_ = fields.count("n_iter_")
    estimator.loss_curve_ = fields.numbers("loss_curve_")
    estimator.validation_scores_ = estimator.best_validation_score_ = None
    if fields.given("validation_scores_"):
        estimator.validation_scores_ = fields.numbers("validation_scores_")
        if fields.given("best_validation_score_"):
            estimator.best_validation_score_ = fields.number("best_validation_score_")
    else:
        fields.exactly("best_validation_score_", None)
