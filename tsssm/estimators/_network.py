"""What the estimators around a network share: training it, going on with it, and its outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand, PanelEncoder
from tsssm.estimators._alignment import aligned
from tsssm.estimators._base import PanelEstimator
from tsssm.estimators._callbacks import CallbackSupportMixin, FitReport, with_callbacks
from tsssm.estimators._checks import (
    FloatArray,
    check_finite,
    check_one_each,
    check_validation,
    checked_groups,
    checked_weights,
    errors_about,
    seed_of,
)
from tsssm.estimators._parameters import RULES, Rule, steps_of
from tsssm.estimators._splits import Labelled, split
from tsssm.training import Batches, TrainingOptions, isolated_rng, predict, prediction_device, train

Estimator = TypeVar("Estimator", bound="SSMEstimator")

_AUTO_BATCHES = 10
_AUTO_BATCH_SIZE = (8, 64)

# Initial timescales, as shares of the typical duration of a series, and the largest one in time units.
_SLOWEST, _FASTEST, _FASTEST_EVER = 0.5, 50.0, 0.5


class SSMEstimator(CallbackSupportMixin, PanelEstimator):
    """Mixin of the estimators that train a `Backbone`, in front of an sktime base.

    A subclass takes the parameters below, and says what its targets are to the network:
    ``_checked_targets``, ``_fit_targets``, ``_encoded_targets``, ``_strata``, ``_n_outputs`` and ``_loss``.
    """

    backbone: str
    n_layers: int
    d_model: int
    d_state: int
    bidirectional: bool
    dropout: float
    norm: str
    pooling: str
    discretization: str | float | None
    n_readouts: int
    time_scale: str | float
    timescales: str | tuple[float, float] | Sequence[tuple[float, float]]
    max_epochs: int | None
    max_steps: int | None
    batch_size: int | str
    learning_rate: float
    ssm_learning_rate: float
    weight_decay: float
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

    n_iter_: int
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    time_scale_: float
    net_: Backbone | None
    encoder_: PanelEncoder
    _optimizer_state: dict[int, Any] | None

    rules: dict[str, Rule] = RULES
    # Whether the targets are classes, every one of which the network has to see.
    _targets_are_classes: bool

    @with_callbacks
    def fit(
        self: Estimator,
        X: Any,
        y: Any,
        sample_weight: npt.ArrayLike | None = None,
        *,
        groups: npt.ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: npt.ArrayLike | None = None,
    ) -> Estimator:
        """Fit the network to labelled series.

        Parameters
        ----------
        X : Panel, array (n, length) or (n, channels, length), list of arrays or frames, or DataFrame
            n series, in any container that `tsssm.panel.as_panel` takes, among them sktime's. NaN is missing.
        y : array or DataFrame of shape (n,) or (n, n_outputs)
            Targets. Where X has ids, a pandas object whose index holds them is brought into their order, as
            are weights and groups; arrays, lists, and an index 0, 1, 2, ... are in the order of the series.
        sample_weight : array of shape (n,), optional
            Weight of each series in the training loss and, if it is held out, in the validation loss; not
            negative. A series of weight 0 is left out.
        groups : array of shape (n,), optional
            Which series belong together, such as those of one patient. ``early_stopping`` holds out whole
            groups, so that it judges on groups that the network has not seen.
        X_val, y_val : as X and y, optional
            Series to judge by in ``early_stopping``, in place of a part of X. Nothing else is learned from
            them. In a `Pipeline`, name X_val in ``transform_input``.
        sample_weight_val : array, optional
            Weight of each series of X_val in the validation loss.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters, X, y, weights or groups that are not as documented.
        FloatingPointError
            If training diverges in spite of a smaller and smaller learning rate.

        Warns
        -----
        UserWarning
            If Ctrl-C ended training early; the estimator is fitted with what it had learned.
        """
        continued = self._is_fitted and self._starts_warm()
        with self._fitting(reset=not continued):
            check_validation(X_val, y_val, sample_weight_val, groups, bool(self.early_stopping))
            seed = seed_of(self.random_state)
            data = self._labelled(X, y, sample_weight, groups, reset=not continued)
            held_out = None
            if X_val is not None:
                with errors_about("X_val, y_val and sample_weight_val"):
                    held_out = self._labelled(X_val, y_val, sample_weight_val, reset=False)
            elif self.early_stopping:
                classes = self._targets_are_classes and data.y.ndim == 1
                strata = self._strata(data.y)
                data, held_out = split(data, strata, self.validation_fraction, seed, classes=classes)
            weighted = sample_weight is not None
            self._train(data, held_out, seed, continued=continued, weighted=weighted)
        return self

    def _fit(self: Estimator, X: Any, y: Any) -> Estimator:
        """Fit without weights: what sktime's machinery calls."""
        return self.fit(X, y)

    def _partial_fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None, classes: Any = None) -> None:
        """Train for one epoch of these series, at a constant learning rate."""
        if self.early_stopping:
            raise ValueError("partial_fit holds no series out; set early_stopping=False to use it.")
        continued = self._is_fitted
        with self._fitting(reset=not continued):
            seed = seed_of(self.random_state)
            data = self._labelled(X, y, sample_weight, reset=not continued, classes=classes)
            weighted = sample_weight is not None
            self._train(data, None, seed, continued=continued, weighted=weighted, incremental=True)

    def _labelled(
        self,
        X: Any,
        y: Any,
        sample_weight: npt.ArrayLike | None,
        groups: npt.ArrayLike | None = None,
        *,
        reset: bool,
        classes: Any = None,
    ) -> Labelled:
        """Return checked series and what belongs to them, without those of weight 0.

        With ``reset``, learn what later series and targets must be like.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        panel = self._panel(X, reset=reset)
        y = aligned(y, panel, X, "y")
        sample_weight = aligned(sample_weight, panel, X, "sample_weight")
        groups = aligned(groups, panel, X, "groups")
        check_one_each(y, panel)
        y = self._checked_targets(y, classes, reset=reset)
        data = Labelled(panel, y, checked_weights(sample_weight, panel), checked_groups(groups, panel))
        return data.weighted(np.ones(len(panel)))

    def _train(
        self,
        data: Labelled,
        held_out: Labelled | None,
        seed: int,
        *,
        continued: bool,
        weighted: bool,
        incremental: bool = False,
    ) -> None:
        """Train a network, a new one unless ``continued``, and set the fitted attributes."""
        training = data.weighted(self._class_weights(data.y, data.y))
        if held_out is not None:
            held_out = held_out.weighted(self._class_weights(held_out.y, data.y))
        if not continued:
            self._fit_targets(training.y, training.weight)
            self.encoder_ = PanelEncoder(self.time_scale).fit(training.panel)
            self.time_scale_ = self.encoder_.time_scale_
        epochs_before = self.n_iter_ if continued else 0
        run_seed = seed
        if continued:  # not the order of series that the epochs before had
            run_seed = int(np.random.SeedSequence((seed, epochs_before)).generate_state(1)[0])
        options = self._training_options(len(training), run_seed)
        if incremental:
            options = replace(
                options,
                max_epochs=1,
                max_steps=None,
                incremental=True,
                checkpoint_dir=None,
                resume_from=None,
            )
        batches = self._batches(training, options.batch_size, torch.Generator().manual_seed(run_seed))
        validation = None if held_out is None else self._batches(held_out, options.batch_size, None)
        net = self._new_network(batches.data, seed)
        if continued:
            self._adopt_weights(net)

        def fitted() -> dict[str, Any]:
            current = self._new_network(batches.data, seed)
            current.load_state_dict(net.state_dict())
            return {"net_": current.eval(), "_is_fitted": True}

        n_epochs = -(-options.total_steps(len(batches)) // len(batches))
        metadata = {"sample_weight": data.weight} if weighted else {}
        report = FitReport(self, data.panel, data.y, metadata, n_epochs, fitted)
        moments = self.__dict__.get("_optimizer_state") if incremental else None
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
        report.ends()

    def _batches(self, data: Labelled, batch_size: int, generator: torch.Generator | None) -> Batches:
        weight = data.weight
        uniform = bool((weight == weight[0]).all())
        return Batches(
            self.encoder_.encode(data.panel),
            self._encoded_targets(data.y),
            None if uniform else torch.as_tensor(weight / weight.mean()).float(),
            batch_size=batch_size,
            generator=generator,
        )

    def _new_network(self, data: Encoded | EncodedOnDemand, seed: int) -> Backbone:
        slowest, fastest = self._initial_steps(data)
        with isolated_rng(seed):
            net = Backbone(
                self.encoder_.n_inputs,
                self._n_outputs(),
                backbone=self.backbone,
                n_layers=self.n_layers,
                d_model=self.d_model,
                d_state=self.d_state,
                bidirectional=bool(self.bidirectional),
                dropout=self.dropout,
                norm=self.norm,
                pooling=self.pooling,
                discretization=self.discretization,
                n_readouts=self.n_readouts,
                dt_min=slowest,
                dt_max=fastest,
            )
        return net.float()  # whatever torch.set_default_dtype says

    def _initial_steps(self, data: Encoded | EncodedOnDemand) -> tuple[Any, Any]:
        """Smallest and largest initial Delta, in 1 / (unit of elapsed time), for all layers or for each."""
        if self.timescales == "auto":
            duration = max(1.0, float(data.durations().median()))
            return _SLOWEST / duration, min(_FASTEST / duration, _FASTEST_EVER)
        return steps_of(self.timescales, self.time_scale_, self.n_layers)

    def _adopt_weights(self, net: Backbone) -> None:
        """Give the weights of the fitted network to one that is made of today's parameters."""
        assert self.net_ is not None  # a single class is not trained
        try:
            net.load_state_dict(self.net_.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "The network of the previous fit cannot go on: a parameter that shapes it has changed, one "
                "of backbone, n_layers, d_model, d_state, n_readouts, bidirectional, norm, loss and "
                "quantiles. Set it back, or fit with warm_start=False."
            ) from error

    def _identity(self) -> dict[str, str]:
        """The parameters that a fit depends on, in words; a checkpoint has to agree with them."""
        parameters = self.get_params(deep=False)
        free = ("checkpoint_dir", "resume_from", "verbose", "callbacks", "trainer_kwargs", "random_state")
        named = {name: repr(value) for name, value in parameters.items() if name not in free}
        return {"estimator": type(self).__name__, **named}

    def _training_options(self, n: int, seed: int) -> TrainingOptions:
        if (self.checkpoint_dir, self.resume_from) != (None, None) and self.random_state is None:
            raise ValueError(
                "checkpoint_dir and resume_from need a random_state, so that a fit that goes on draws what "
                "it would have drawn; got random_state=None."
            )
        batch_size = self.batch_size
        if isinstance(batch_size, str):
            batch_size = int(np.clip(n // _AUTO_BATCHES, *_AUTO_BATCH_SIZE))
        return TrainingOptions(
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            ssm_learning_rate=self.ssm_learning_rate,
            weight_decay=self.weight_decay,
            patience=self.n_iter_no_change,
            accelerator=self.accelerator,
            devices=self.devices,
            precision=self.precision,
            callbacks=self.callbacks or (),
            trainer_kwargs=self.trainer_kwargs,
            checkpoint_dir=self.checkpoint_dir,
            resume_from=self.resume_from,
            identity=self._identity(),
            seed=seed,
            verbose=self.verbose,
        )

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

    def _outputs(self, X: Any) -> FloatArray:
        """Outputs (n, n_outputs) of the fitted network."""
        panel = self._panel(X, reset=False)
        data = self.encoder_.encode(panel)
        assert self.net_ is not None  # a single class is not asked
        outputs = predict(self.net_, data, prediction_device(self.accelerator)).numpy().astype(np.float64)
        check_finite(outputs, panel, "outputs")
        return outputs

    # What a subclass says about its targets.

    def _checked_targets(self, y: Any, classes: Any, *, reset: bool) -> npt.NDArray[Any]:
        """Return targets (n,) or (n, n_columns); with ``reset`` learn what is expected of later ones."""
        raise NotImplementedError

    def _class_weights(self, y: npt.NDArray[Any], y_train: npt.NDArray[Any]) -> FloatArray:
        """Return factors (n,) on the weights of series with targets y, learned from y_train."""
        return np.ones(len(y))

    def _fit_targets(self, y: npt.NDArray[Any], weight: FloatArray) -> None:
        """Learn from the targets to train on how to encode targets."""

    def _encoded_targets(self, y: npt.NDArray[Any]) -> Tensor:
        """Return the targets (n, ...) of the loss."""
        raise NotImplementedError

    def _strata(self, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what a validation split should cover evenly, (n,)."""
        raise NotImplementedError

    def _n_outputs(self) -> int:
        """Return the number of outputs of the network."""
        raise NotImplementedError

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each series (batch,)."""
        raise NotImplementedError
