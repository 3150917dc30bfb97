"""What estimators around a trained network share, whatever they predict: making it, its run, continuing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand
from tsssm.estimators._callbacks import CallbackSupportMixin, FitReport
from tsssm.estimators._checks import seed_of
from tsssm.estimators._parameters import RULES, Rule, steps_of
from tsssm.estimators._recipes import dropout_of, recipe_of, schedule_of, training_options
from tsssm.estimators._saved_network import SavedNetwork
from tsssm.training import (
    Augmentation,
    Batches,
    Committee,
    TrainingOptions,
    VariableDropout,
    isolated_rng,
    train,
)

Estimator = TypeVar("Estimator", bound="TrainedNetwork")

_AUTO_BATCHES, _AUTO_BATCH_SIZE = 10, (8, 64)

# Initial timescales, as shares of the typical duration of a series, and the largest one in time units.
_SLOWEST, _FASTEST, FASTEST_EVER = 0.5, 50.0, 0.5


class TrainedNetwork(CallbackSupportMixin, SavedNetwork):
    """Mixin of the estimators that train a `Backbone`, in front of an sktime base.

    A subclass takes the parameters below, and says what its `Targets` are.
    """

    backbone: str
    n_layers: int | str
    d_model: int
    d_state: int
    dropout: float | str
    norm: str
    discretization: str | float | None
    n_readouts: int
    time_scale: str | float
    scale: str
    timescales: str | tuple[float, float] | Sequence[tuple[float, float]]
    max_epochs: int | None
    max_steps: int | None
    batch_size: int | str
    learning_rate: float
    ssm_learning_rate: float
    weight_decay: float | str
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    accelerator: str
    devices: int | Sequence[int] | str
    precision: str
    callbacks: Sequence[Any] | None
    trainer_kwargs: Mapping[str, Any] | None
    checkpoint_dir: str | os.PathLike[str] | None
    resume_from: str | os.PathLike[str] | None
    random_state: int | np.random.RandomState | None
    verbose: int

    rules: dict[str, Rule] = RULES

    def _looks_ahead(self) -> bool:
        """Whether the layers also run from the last sample to the first."""
        raise NotImplementedError

    def _summary(self) -> str:
        """The pooling of the network."""
        raise NotImplementedError

    def _labelled(self, *args: Any, **kwargs: Any) -> Any:
        """Return checked series, as ``panel``, and what belongs to them."""
        raise NotImplementedError

    def _train(self, *args: Any, **kwargs: Any) -> None:
        """Train a network, a new one unless ``continued``, and set the fitted attributes."""
        raise NotImplementedError

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> None:
        """Train for one epoch of these series, at a constant learning rate."""
        if self.early_stopping:
            raise ValueError("partial_fit holds no series out: it needs early_stopping=False.")
        continued = self._is_fitted
        with self._fitting(reset=not continued):
            seed = seed_of(self.random_state)
            data = self._labelled(X, y, sample_weight, reset=not continued, classes=classes)
            if continued:
                self._get_used_to(data.panel)
            weighted = sample_weight is not None
            self._train(data, None, seed, continued=continued, weighted=weighted, incremental=True)

    def _run(
        self,
        encoded: Encoded | EncodedOnDemand,
        batches: Batches,
        validation: Batches | None,
        options: TrainingOptions,
        told: tuple[Any, Any, dict[str, Any]],
        *,
        n_members: int,
        seed: int,
        continued: bool,
    ) -> tuple[Backbone | Committee, FitReport]:
        """Train a network, a new one unless ``continued``, and set the fitted attributes.

        ``told`` are the series, targets and metadata that callbacks are told of. The report of the run is
        still to be ended.
        """
        epochs_before = self.n_iter_ if continued else 0
        net = self._new_network(encoded, n_members, seed)
        if continued:
            self._adopt_weights(net)

        def fitted() -> dict[str, Any]:
            current = self._new_network(encoded, n_members, seed)
            current.load_state_dict(net.state_dict())
            return {"net_": current.eval(), "_is_fitted": True}

        n_epochs = -(-options.total_steps(len(batches)) // len(batches))
        report = FitReport(self, *told, n_epochs, fitted)
        moments = self.__dict__.get("_optimizer_state") if options.incremental else None
        result = train(
            net, self._loss, batches, options, validation, observer=report, optimizer_state=moments
        )
        scores = result.validation_scores
        scores_before = (self.validation_scores_ or []) if continued else []
        self.net_ = net
        self.n_iter_ = epochs_before + result.n_iter
        self.loss_curve_ = [*(self.loss_curve_ if continued else []), *result.loss_curve]
        self.validation_scores_ = None if scores is None else [*scores_before, *scores]
        self.best_validation_score_ = result.best_validation_score
        self._optimizer_state = result.optimizer_state
        return net, report

    def _seed_of_run(self, seed: int, *, continued: bool) -> int:
        """A seed for the order of series, which is not that of the epochs before."""
        if not continued:
            return seed
        return int(np.random.SeedSequence((seed, self.n_iter_)).generate_state(1)[0])

    def _new_network(
        self, data: Encoded | EncodedOnDemand, n_members: int, seed: int
    ) -> Backbone | Committee:
        slowest, fastest = self._initial_steps(data)
        recipe = recipe_of(self.encoder_, self)
        with isolated_rng(seed):
            members = [
                Backbone(
                    self.encoder_.n_inputs,
                    self._n_outputs(),
                    backbone=self.backbone,
                    n_layers=recipe.n_layers,
                    d_model=self.d_model,
                    d_state=self.d_state,
                    bidirectional=self._looks_ahead(),
                    dropout=recipe.dropout,
                    norm=self.norm,
                    pooling=self._summary(),
                    discretization=self.discretization,
                    n_readouts=self.n_readouts,
                    dt_min=slowest,
                    dt_max=fastest,
                ).float()  # whatever torch.set_default_dtype says
                for _ in range(n_members)
            ]
        return members[0] if n_members == 1 else Committee(members)

    def _initial_steps(self, data: Encoded | EncodedOnDemand) -> tuple[Any, Any]:
        """Smallest and largest initial Delta, in 1 / (unit of elapsed time), for all layers or for each."""
        if self.timescales == "auto":
            duration = max(1.0, float(data.durations().median()))
            return _SLOWEST / duration, min(_FASTEST / duration, FASTEST_EVER)
        return steps_of(self.timescales, self.time_scale_, recipe_of(self.encoder_, self).n_layers)

    def _adopt_weights(self, net: Backbone | Committee) -> None:
        """Give the weights of the fitted network to one that is made of today's parameters."""
        assert self.net_ is not None  # a single class is not trained
        try:
            net.load_state_dict(self.net_.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "warm_start=True cannot continue the previous fit, because a parameter that sets the shape "
                "of the network has changed (backbone, n_members, n_layers, d_model, d_state, n_readouts, "
                "bidirectional, norm, loss or quantiles). Restore it, or fit with warm_start=False."
            ) from error

    def _identity(self) -> dict[str, str]:
        """The parameters that a fit depends on, in words; a checkpoint has to agree with them."""
        parameters = self.get_params(deep=False)
        free = ("checkpoint_dir", "resume_from", "verbose", "callbacks", "trainer_kwargs", "random_state")
        named = {name: repr(value) for name, value in parameters.items() if name not in free}
        return {"estimator": type(self).__name__, **named}

    def _training_options(self, n: int, n_members: int, seed: int) -> TrainingOptions:
        recipe = recipe_of(self.encoder_, self)
        return training_options(
            self,
            self._identity(),
            seed,
            max_steps=self.max_steps,
            weight_decay=recipe.weight_decay,
            changed=self._changes(),
            **schedule_of(recipe, self, n, n_members),
        )

    def _changes(self) -> Augmentation | VariableDropout | None:
        """How series are changed at random in training."""
        return dropout_of(self.encoder_)

    def set_params(self: Estimator, **params: Any) -> Estimator:
        """Set parameters, by the rules of both libraries.

        sktime returns the estimator to the state before ``fit``; with ``warm_start``, what was learned stays.
        """
        names = self.get_params(deep=False)
        learned = {name: value for name, value in vars(self).items() if name not in names}
        super().set_params(**params)
        if self._starts_warm():
            self.__dict__.update(learned)
        return self

    def _starts_warm(self) -> bool:
        # Before the parameters are checked, which is in fit.
        return isinstance(self.warm_start, (bool, np.bool_)) and bool(self.warm_start)


def of_one_epoch(options: TrainingOptions) -> TrainingOptions:
    """Options of a call of ``partial_fit``."""
    return replace(
        options, max_epochs=1, max_steps=None, incremental=True, checkpoint_dir=None, resume_from=None
    )


def auto_batch_size(n: int) -> int:
    """Series in a step of training with n of them."""
    return int(np.clip(n // _AUTO_BATCHES, *_AUTO_BATCH_SIZE))
