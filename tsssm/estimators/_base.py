"""What classifier and regressor share: containers in, fitted network out, manners in both libraries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils.validation import check_consistent_length, validate_data
from sktime.exceptions import NotFittedError as SktimeNotFittedError
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, PanelEncoder
from tsssm.estimators._checks import FloatArray, IntArray, checked_weights, is_table, seed_of, split
from tsssm.estimators._parameters import RULES, Rule, check_parameters
from tsssm.panel import Panel, as_panel
from tsssm.training import Batches, TrainingOptions, isolated_rng, predict, resolve_device, train

Estimator = TypeVar("Estimator", bound="SSMEstimator")

# Attributes that scikit-learn keeps on an estimator across fit, and that sktime's reset would delete.
_SKLEARN_STATE = ("_metadata_request", "_parent_callback_ctx", "_skl_callbacks")

_AUTO_BATCHES = 10
_AUTO_BATCH_SIZE = (8, 64)

# Initial timescales, as shares of the typical duration of a series, and the largest one in time units.
_SLOWEST, _FASTEST, _FASTEST_EVER = 0.5, 50.0, 0.5


class NotFittedError(SklearnNotFittedError, SktimeNotFittedError):
    """Raised when an estimator is asked to predict before it was fitted; known to both libraries."""


class SSMEstimator:
    """Mixin in front of an sktime base, with scikit-learn's mixins behind it.

    scikit-learn calls ``fit`` with arrays, lists and panels, sktime with its own containers; all of them
    become a `Panel` here, so that sktime's conversion, which drops times on some paths, is never needed.
    A subclass takes the parameters below and encodes its targets in ``_fit_panel``.
    """

    backbone: str
    n_layers: int
    d_model: int
    d_state: int
    bidirectional: bool
    dropout: float
    norm: str
    pooling: str
    discretization: str | None
    time_scale: str | float
    max_epochs: int | None
    max_steps: int | None
    batch_size: int | str
    learning_rate: float
    ssm_learning_rate: float
    weight_decay: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    accelerator: str
    devices: int | Sequence[int] | str
    precision: str
    callbacks: Sequence[Any] | None
    trainer_kwargs: Mapping[str, Any] | None
    random_state: int | np.random.RandomState | None
    verbose: int

    n_features_in_: int
    n_iter_: int
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    time_scale_: float
    net_: Backbone | None
    encoder_: PanelEncoder
    _fitted_on_table: bool
    _channel_names: tuple[str, ...] | None

    rules: dict[str, Rule] = RULES
    # sktime compares estimators by their parameters and thereby makes them unhashable, which breaks
    # scikit-learn's bookkeeping; parameters can change, so identity is all that a hash can rest on.
    __hash__ = object.__hash__

    def __init__(self) -> None:
        super().__init__()
        # sktime announces these before fit; to scikit-learn they say that the estimator is fitted.
        for name in ("classes_", "n_classes_", "fit_time_"):
            self.__dict__.pop(name, None)

    def reset(self: Estimator) -> Estimator:
        """Return to the state after construction, keeping what scikit-learn has attached."""
        kept = {name: self.__dict__[name] for name in _SKLEARN_STATE if name in self.__dict__}
        super().reset()  # type: ignore[misc]
        self.__dict__.update(kept)
        return self

    def fit(self: Estimator, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> Estimator:
        """Fit the network to labelled series.

        Parameters
        ----------
        X : Panel, array (n, length) or (n, channels, length), list of arrays or frames, or DataFrame
            n series, in any container that `tsssm.panel.as_panel` takes, among them sktime's. NaN is missing.
        y : array of shape (n,), or (n, n_outputs) where the estimator supports it
            Targets.
        sample_weight : array of shape (n,), optional
            Weight of each series in the loss, not negative; a series of weight 0 is left out.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters, X, y or weights that are not as documented.
        FloatingPointError
            If training diverges in spite of a smaller and smaller learning rate.

        Warns
        -----
        UserWarning
            If Ctrl-C ended training early; the estimator is fitted with what it had learned.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        started = time.perf_counter()
        before = dict(self.__dict__)
        try:
            self.reset()
            check_parameters(self.get_params(deep=False), self.rules)  # type: ignore[attr-defined]
            panel = self._panel(X, reset=True)
            check_consistent_length(panel, y)
            self._fit_panel(panel, y, checked_weights(sample_weight, panel))
        except BaseException:
            # A fit that fails leaves an estimator that was fitted before as it was.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self.fit_time_ = round(1000 * (time.perf_counter() - started))
        self._is_fitted = True
        return self

    def _fit(self: Estimator, X: Any, y: Any) -> Estimator:
        """Fit without weights: what sktime's machinery calls."""
        return self.fit(X, y)

    def _fit_panel(self, panel: Panel, y: Any, weight: FloatArray) -> None:
        raise NotImplementedError

    def check_is_fitted(self, method_name: str | None = None) -> None:
        """Raise `NotFittedError` unless the estimator is fitted."""
        if not self._is_fitted:
            raise NotFittedError(
                f"This instance of {type(self).__name__} has not been fitted yet; please call `fit` first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _panel(self, X: Any, *, reset: bool) -> Panel:
        """Return X as a panel, and set or check the number of features."""
        panel = as_panel(X)
        table = is_table(X)
        if table:
            # scikit-learn's rule for an array (n, length): columns are features, and their number is fixed. A
            # 3-D array (n, 1, length) holds the same series and may change its length.
            if reset or self._fitted_on_table:
                validate_data(self, X, reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_in_ = panel.n_channels
        if reset:
            self._fitted_on_table = table
            self._channel_names = panel.channel_names
        elif panel.n_channels != self.encoder_.n_channels:
            raise ValueError(
                f"X has {panel.n_channels} channel(s), but {type(self).__name__} was fitted with "
                f"{self.encoder_.n_channels}."
            )
        else:
            given, fitted = panel.channel_names, self._channel_names
            if given is not None and fitted is not None and given != fitted:
                raise ValueError(
                    "The channels of X must have the names and the order that they had in fit, "
                    f"{list(fitted)}; got {list(given)}."
                )
        return panel

    def _fit_network(
        self,
        panel: Panel,
        target: Tensor,
        weight: FloatArray,
        n_outputs: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        strata: npt.NDArray[Any],
    ) -> None:
        """Train a network on targets (n, ...) and set the fitted attributes.

        ``strata`` (n,) is what a validation split should represent evenly: classes or targets.
        """
        seed = seed_of(self.random_state)
        encoder = PanelEncoder(self.time_scale)
        rows = np.flatnonzero(weight > 0)
        if rows.size == 0:
            raise ValueError("The weights of all series are zero; at least one must be positive.")
        held_out = np.empty(0, dtype=np.int64)
        if self.early_stopping:
            classes = not target.is_floating_point()
            rows, held_out = split(rows, strata, self.validation_fraction, seed, classes=classes)
        encoder.fit(panel[rows])
        options = self._training_options(len(rows), seed)

        def batches(rows: IntArray, generator: torch.Generator | None) -> Batches:
            uniform = bool((weight[rows] == weight[rows[0]]).all())
            scaled = None if uniform else torch.as_tensor(weight[rows] / weight[rows].mean()).float()
            return Batches(
                encoder.encode(panel[rows]),
                target[rows],
                scaled,
                batch_size=options.batch_size,
                generator=generator,
            )

        training = batches(rows, torch.Generator().manual_seed(seed))
        validation = batches(held_out, None) if held_out.size else None
        with isolated_rng(seed):
            net = self._network(encoder, training.data, n_outputs)
        result = train(net, loss, training, options, validation)
        self.net_ = net
        self.encoder_ = encoder
        self.time_scale_ = encoder.time_scale_
        self.n_iter_ = result.n_iter
        self.loss_curve_ = result.loss_curve
        self.validation_scores_ = result.validation_scores
        self.best_validation_score_ = result.best_validation_score

    def _network(self, encoder: PanelEncoder, data: Encoded, n_outputs: int) -> Backbone:
        duration = max(1.0, float(data.durations().median()))
        return Backbone(
            encoder.n_inputs,
            n_outputs,
            backbone=self.backbone,
            n_layers=self.n_layers,
            d_model=self.d_model,
            d_state=self.d_state,
            bidirectional=bool(self.bidirectional),
            dropout=self.dropout,
            norm=self.norm,
            pooling=self.pooling,
            discretization=self.discretization,
            dt_min=_SLOWEST / duration,
            dt_max=min(_FASTEST / duration, _FASTEST_EVER),
        ).float()  # whatever torch.set_default_dtype says

    def _training_options(self, n: int, seed: int) -> TrainingOptions:
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
            seed=seed,
            verbose=self.verbose,
        )

    def _outputs(self, X: Any) -> FloatArray:
        """Outputs (n, n_outputs) of the fitted network."""
        data = self.encoder_.encode(self._panel(X, reset=False))
        assert self.net_ is not None  # a single class is not asked
        return predict(self.net_, data, resolve_device(self.accelerator)).numpy().astype(np.float64)
