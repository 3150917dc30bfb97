"""Estimators with one prediction per series: their series, folds, closed form and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tsssm.backbone import Backbone
from tsssm.encoding import ChartEncoder, Encoded, EncodedOnDemand, PanelEncoder
from tsssm.estimators import _blending, _trained
from tsssm.estimators._augmenting import augmentation_of, check_augment, targets_in_training
from tsssm.estimators._base import PanelEstimator
from tsssm.estimators._callbacks import CallbackSupportMixin, with_callbacks
from tsssm.estimators._checks import FloatArray, IntArray, check_finite
from tsssm.estimators._closed_form import ClosedForm
from tsssm.estimators._parameters import RULES, Rule
from tsssm.estimators._recipes import batch_size_of, fitted_encoder, recipe_of
from tsssm.estimators._splits import Labelled, labelled, split
from tsssm.estimators._trained import FASTEST_EVER, SLOWEST, Fit, Shape
from tsssm.persistence import Fields
from tsssm.training import Batches, Committee, predict, predict_left_out, prediction_device

Estimator = TypeVar("Estimator", bound="NetworkEstimator")

# The largest initial step, as a share of the typical duration of a series.
_FASTEST = 50.0


class NetworkEstimator(PanelEstimator, CallbackSupportMixin):
    """Base of the estimators with one prediction per series, by networks and a closed form beside them."""

    encoder_: PanelEncoder
    time_scale_: float
    net_: Backbone | Committee | None
    closed_form_: ClosedForm | None
    blend_: FloatArray | None
    _targets: _blending.NetworkTargets

    rules: dict[str, Rule] = RULES
    _holds = {
        **_trained.HOLDS,
        "closed_form_": "ClosedForm or null: what is beside the network",
        "blend_": "array (columns of y, 2): weights of the closed form and of the network, or null",
    }

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
            groups, so that the validation loss is that of unseen groups.
        X_val, y_val : as X and y, optional
            Validation set of ``early_stopping``, in place of a part of X. Nothing else is learned from it. In
            a `Pipeline`, name X_val in ``transform_input``.
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
            could not be written to ``checkpoint_dir``, or the same fit is running with it in another process.
        """
        _trained.fit_network(self, X, y, sample_weight, groups, (X_val, y_val, sample_weight_val))
        return self

    def _check_own(self) -> None:
        super()._check_own()
        assert self._kind_of_targets is not None
        check_augment(self.augment, numbers=not self._kind_of_targets.are_classes)

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
        return labelled(self, X, y, sample_weight, groups, reset=reset, classes=classes)

    def _split(self, data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
        """Return what to train on, and what to validate with."""
        classes = self._targets.are_classes and data.y.ndim == 1
        return split(data, self._targets.strata(data.y), self.validation_fraction, seed, classes=classes)

    def _train(self, fit: Fit) -> None:
        """Train networks, new ones unless it goes on with some, and set the fitted attributes."""
        targets = self._targets
        if targets.single:
            self.closed_form_ = self.blend_ = None
            return _trained.fit_single_class(self, fit, "series")
        training = fit.data.weighted(targets.weights(fit.data.y, fit.data.y))
        if not fit.continued:
            targets.fit(*targets_in_training(self.augment, training.y, training.weight))
            self.encoder_ = fitted_encoder(
                training.panel, self.time_scale, self.scale, self.categorical, whole=bool(self.bidirectional)
            )
            self.time_scale_ = self.encoder_.time_scale_
        changed = augmentation_of(self.augment, self.encoder_, targets.origin()) if self.augment else None
        encoded = self.encoder_.encode(training.panel)
        n_members, n_features = _blending.sizes_of(
            self,
            encoded,
            self.net_ if fit.continued else None,
            incremental=fit.incremental,
            charts=isinstance(self.encoder_, ChartEncoder),
        )
        fold = None if fit.incremental else _blending.folds_of(targets, training, n_members, fit.seed)
        learning, learned, beside = training, encoded, None
        # What one network goes on with may have seen any of the series, and keeps its weight.
        before = self.blend_ if fit.continued and n_members == 1 else None
        if n_features and n_members == 1 and not fit.continued and isinstance(encoded, Encoded):
            fold = _blending.tenth_of(targets, training, fit.seed)
            if fold is not None:
                learning = training[np.flatnonzero(fold < 0)]
                learned = self.encoder_.encode(learning.panel)
        if not fit.incremental or not fit.continued:
            self.closed_form_ = self.blend_ = None
        if n_features:
            beside = _blending.fit_beside(self, targets, training, n_features, fold, fit.seed)
            self.closed_form_ = beside.closed_form
            alike = targets.weigh(beside.left_out, None, training.y, training.weight)
            self.blend_ = alike if before is None else before
        length = float(learned.lengths.double().mean())
        recipe = recipe_of(self.encoder_, self)
        batch_size = batch_size_of(recipe, self.batch_size, len(learning), length)
        options = _trained.options_of(self, fit, n_members, batch_size)
        if changed is not None:
            options = replace(options, changed=changed)
        shuffler = torch.Generator().manual_seed(fit.run_seed)
        own = fold if n_members > 1 else None
        batches = self._batches(learning, learned, options.batch_size, shuffler, own)
        validation = None
        if fit.held_out is not None:
            held_out = fit.held_out.weighted(targets.weights(fit.held_out.y, fit.data.y))
            validation = self._batches(held_out, self.encoder_.encode(held_out.panel), options.batch_size)
        shape = Shape(
            bool(self.bidirectional),
            recipe.pooling,
            self._initial_steps(encoded),
            n_members,
        )
        net, report = _trained.run(self, fit, shape, batches, validation, options)
        if fold is not None:
            device = prediction_device(self.accelerator)
            unseen = predict_left_out(net, encoded, torch.as_tensor(fold), device).numpy().astype(np.float64)
            blend = _blending.weigh(targets, training, unseen, beside)
            self.blend_ = self.blend_ if blend is None else blend
        report.ends()

    def _initial_steps(self, data: Encoded | EncodedOnDemand) -> tuple[Any, Any]:
        """Smallest and largest initial Delta, in 1 / (unit of elapsed time), for all layers or for each."""
        if self.timescales != "auto":
            return _trained.named_steps(self)
        duration = max(1.0, float(data.durations().median()))
        return SLOWEST / duration, min(_FASTEST / duration, FASTEST_EVER)

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
            self._targets.encoded(data.y),
            None if uniform else torch.as_tensor(weight / weight.mean()).float(),
            batch_size=batch_size,
            generator=generator,
            fold=None if fold is None else torch.as_tensor(fold),
        )

    def _outputs(self, X: Any) -> FloatArray:
        """Outputs (n, n_outputs) of the fitted network, and of the closed form beside it."""
        assert self.net_ is not None  # a single class is not asked
        panel = self._panel(X, reset=False)
        data, device = self.encoder_.encode(panel), prediction_device(self.accelerator)
        outputs = predict(self.net_, data, device).numpy().astype(np.float64)
        if self.closed_form_ is not None and self.blend_ is not None:
            outputs = self._targets.blended(self.closed_form_.predict(panel, device), outputs, self.blend_)
        return check_finite(outputs, panel, "outputs")

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return _trained.parameters_of_a_model(parameters)

    def _restore(self, fields: Fields) -> None:
        _trained.restore_network(self, fields)
        self.closed_form_, self.blend_ = _blending.restore_blend(self, self._targets, fields)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        tiny = {"n_layers": 1, "d_model": 4, "d_state": 4, "batch_size": 8, "random_state": 0}
        return [
            {**tiny, "n_members": 2, "n_features": 384, "max_steps": 10},
            {**tiny, "backbone": "s4d", "bidirectional": False, "norm": "layer", "max_epochs": 2},
        ]
