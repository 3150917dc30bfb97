"""What the estimators around a network share: training it, going on with it, and its outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand, PanelEncoder
from tsssm.estimators._alignment import aligned
from tsssm.estimators._blending import Blending
from tsssm.estimators._callbacks import CallbackSupportMixin, FitReport, with_callbacks
from tsssm.estimators._checks import (
    FloatArray,
    IntArray,
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
from tsssm.training import (
    Batches,
    Committee,
    TrainingOptions,
    isolated_rng,
    predict,
    prediction_device,
    train,
)

Estimator = TypeVar("Estimator", bound="SSMEstimator")

# Small sets are learned by heart within 150 steps; 600 change nothing in what a committee says of others.
_STEPS, _STEPS_OF_A_MEMBER = 600, 200
_AUTO_BATCHES, _AUTO_BATCH_SIZE = 10, (8, 64)

# Initial timescales, as shares of the typical duration of a series, and the largest one in time units.
_SLOWEST, _FASTEST, _FASTEST_EVER = 0.5, 50.0, 0.5


class SSMEstimator(CallbackSupportMixin, Blending):
    """Mixin of the estimators that train a `Backbone`, in front of an sktime base.

    A subclass takes the parameters below, and says what its `Targets` are.
    """

    backbone: str
    n_layers: int
    d_model: int
    d_state: int
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
    devices: int | Sequence[int] | str
    precision: str
    callbacks: Sequence[Any] | None
    trainer_kwargs: Mapping[str, Any] | None
    checkpoint_dir: str | os.PathLike[str] | None
    resume_from: str | os.PathLike[str] | None
    random_state: int | np.random.RandomState | None
    verbose: int

    rules: dict[str, Rule] = RULES

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
        KeyboardInterrupt
            At Ctrl-C inside a tool that fits again and again, such as a search or a cross-validation.
        SystemExit
            With status 143 at SIGTERM, after the checkpoint was written, unless there is another handler.

        Warns
        -----
        UserWarning
            If Ctrl-C ended a single fit early; the estimator is fitted with what it had learned. If the state
            could not be written to ``checkpoint_dir``, or the very same fit is running with it elsewhere.
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
        encoded = self.encoder_.encode(training.panel)
        n_members, n_features = self._sizes(encoded, continued=continued, incremental=incremental)
        options = self._training_options(len(training), n_members, run_seed)
        fold = None if incremental else self._folds(training, n_members, seed)
        if not incremental or not continued:
            self._fit_closed_form(training, n_features, fold, seed)
        if incremental:
            options = replace(
                options,
                max_epochs=1,
                max_steps=None,
                incremental=True,
                checkpoint_dir=None,
                resume_from=None,
            )
        shuffler = torch.Generator().manual_seed(run_seed)
        batches = self._batches(training, encoded, options.batch_size, shuffler, fold)
        validation = None
        if held_out is not None:
            judged = self.encoder_.encode(held_out.panel)
            validation = self._batches(held_out, judged, options.batch_size)
        net = self._new_network(encoded, n_members, seed)
        if continued:
            self._adopt_weights(net)

        def fitted() -> dict[str, Any]:
            current = self._new_network(encoded, n_members, seed)
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
        self._weigh(training, encoded, net, fold)
        report.ends()

    def _batches(
        self,
        data: Labelled,
        encoded: Encoded | EncodedOnDemand,
        batch_size: int,
        generator: torch.Generator | None = None,
        fold: IntArray | None = None,
    ) -> Batches:
        weight = data.weight
        uniform = bool((weight == weight[0]).all())
        return Batches(
            encoded,
            self._encoded_targets(data.y),
            None if uniform else torch.as_tensor(weight / weight.mean()).float(),
            batch_size=batch_size,
            generator=generator,
            fold=None if fold is None else torch.as_tensor(fold),
        )

    def _new_network(
        self, data: Encoded | EncodedOnDemand, n_members: int, seed: int
    ) -> Backbone | Committee:
        slowest, fastest = self._initial_steps(data)
        with isolated_rng(seed):
            members = [
                Backbone(
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
                ).float()  # whatever torch.set_default_dtype says
                for _ in range(n_members)
            ]
        return members[0] if n_members == 1 else Committee(members)

    def _initial_steps(self, data: Encoded | EncodedOnDemand) -> tuple[Any, Any]:
        """Smallest and largest initial Delta, in 1 / (unit of elapsed time), for all layers or for each."""
        if self.timescales == "auto":
            duration = max(1.0, float(data.durations().median()))
            return _SLOWEST / duration, min(_FASTEST / duration, _FASTEST_EVER)
        return steps_of(self.timescales, self.time_scale_, self.n_layers)

    def _adopt_weights(self, net: Backbone | Committee) -> None:
        """Give the weights of the fitted network to one that is made of today's parameters."""
        assert self.net_ is not None  # a single class is not trained
        try:
            net.load_state_dict(self.net_.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "The network of the previous fit cannot go on, for what shapes it has changed: backbone, "
                "n_members, n_layers, d_model, d_state, n_readouts, bidirectional, norm, loss, quantiles. "
                "Set it back, or fit with warm_start=False."
            ) from error

    def _identity(self) -> dict[str, str]:
        """The parameters that a fit depends on, in words; a checkpoint has to agree with them."""
        parameters = self.get_params(deep=False)
        free = ("checkpoint_dir", "resume_from", "verbose", "callbacks", "trainer_kwargs", "random_state")
        named = {name: repr(value) for name, value in parameters.items() if name not in free}
        return {"estimator": type(self).__name__, **named}

    def _training_options(self, n: int, n_members: int, seed: int) -> TrainingOptions:
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
            least_steps=_STEPS if n_members == 1 else _STEPS_OF_A_MEMBER,
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
        """Outputs (n, n_outputs) of the fitted network, and of the closed form beside it."""
        assert self.net_ is not None  # a single class is not asked
        panel = self._panel(X, reset=False)
        data, device = self.encoder_.encode(panel), prediction_device(self.accelerator)
        outputs = predict(self.net_, data, device).numpy().astype(np.float64)
        return check_finite(self._with_closed_form(panel, outputs), panel, "outputs")
