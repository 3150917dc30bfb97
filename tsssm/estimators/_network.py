"""What estimators with one prediction per series share: their series, folds, closed form and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tsssm.encoding import ChartEncoder, Encoded, EncodedOnDemand
from tsssm.estimators._alignment import aligned
from tsssm.estimators._augmenting import augmentation_of, check_augment, targets_in_training
from tsssm.estimators._blending import Blending
from tsssm.estimators._callbacks import with_callbacks
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
from tsssm.estimators._recipes import fitted_encoder, recipe_of
from tsssm.estimators._splits import Labelled, split
from tsssm.estimators._trained import TrainedNetwork, of_one_epoch
from tsssm.training import Augmentation, Batches, VariableDropout, predict, prediction_device

Estimator = TypeVar("Estimator", bound="SSMEstimator")


class SSMEstimator(TrainedNetwork, Blending):
    """Mixin of the estimators with one prediction per series, in front of an sktime base."""

    pooling: str
    augment: Mapping[str, Any] | None

    def _looks_ahead(self) -> bool:
        return bool(self.bidirectional)

    def _changes(self) -> Augmentation | VariableDropout | None:
        if not self.augment:
            return super()._changes()
        return augmentation_of(self.augment, self.encoder_, self._origin())

    def _summary(self) -> str:
        return recipe_of(self.encoder_, self).pooling

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
        continued = self._is_fitted and self._starts_warm()
        with self._fitting(reset=not continued):
            check_validation(X_val, y_val, sample_weight_val, groups, bool(self.early_stopping))
            seed = seed_of(self.random_state)
            data = self._labelled(X, y, sample_weight, groups, reset=not continued)
            if continued:
                self._get_used_to(data.panel)
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
        check_augment(self.augment, numbers=not self._targets_are_classes)
        training = data.weighted(self._class_weights(data.y, data.y))
        if held_out is not None:
            held_out = held_out.weighted(self._class_weights(held_out.y, data.y))
        if not continued:
            self._fit_targets(*targets_in_training(self.augment, training.y, training.weight))
            whole = bool(self.bidirectional)
            self.encoder_ = fitted_encoder(
                training.panel, self.time_scale, self.scale, self.categorical, whole=whole
            )
            self.time_scale_ = self.encoder_.time_scale_
        run_seed = self._seed_of_run(seed, continued=continued)
        encoded = self.encoder_.encode(training.panel)
        charts = isinstance(self.encoder_, ChartEncoder)
        n_members, n_features = self._sizes(
            encoded, continued=continued, incremental=incremental, charts=charts
        )
        options = self._training_options(len(training), n_members, run_seed)
        fold = None if incremental else self._folds(training, n_members, seed)
        if not incremental or not continued:
            self._fit_closed_form(training, n_features, fold, seed)
        if incremental:
            options = of_one_epoch(options)
        shuffler = torch.Generator().manual_seed(run_seed)
        batches = self._batches(training, encoded, options.batch_size, shuffler, fold)
        validation = None
        if held_out is not None:
            judged = self.encoder_.encode(held_out.panel)
            validation = self._batches(held_out, judged, options.batch_size)
        metadata = {"sample_weight": data.weight} if weighted else {}
        net, report = self._run(
            encoded,
            batches,
            validation,
            options,
            (data.panel, data.y, metadata),
            n_members=n_members,
            seed=seed,
            continued=continued,
        )
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

    def _outputs(self, X: Any) -> FloatArray:
        """Outputs (n, n_outputs) of the fitted network, and of the closed form beside it."""
        assert self.net_ is not None  # a single class is not asked
        panel = self._panel(X, reset=False)
        data, device = self.encoder_.encode(panel), prediction_device(self.accelerator)
        outputs = predict(self.net_, data, device).numpy().astype(np.float64)
        return check_finite(self._with_closed_form(panel, outputs), panel, "outputs")
