"""Regression along time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.metrics import r2_score

from tsssm.estimators import _number_methods
from tsssm.estimators._along_answers import arranged
from tsssm.estimators._along_numbers import NumbersAlongTime, as_numbers
from tsssm.estimators._base import of_one_fit
from tsssm.estimators._numbers import LOSSES
from tsssm.estimators._parameters import LEVELS, one_of
from tsssm.estimators._sequence import SequenceEstimator


class SSMSequenceRegressor(SequenceEstimator, BaseEstimator):
    """Deep state-space regression of numbers at every sample, or at times of their own.

    As `SSMRegressor`, but the targets are those of moments, not of series: the heart rate now, from a signal;
    the force while a machine runs. Several targets at once may each be missing at some times.

    Parameters
    ----------
    lookahead : float or None, default=None
        How far after a time its prediction may look, in the unit of the times of X, or in samples where it
        has none. None: at the whole series, with bidirectional layers. 0: not at all; a positive number: so
        far, and the prediction is given that much later. With a number the layers have one direction, and
        `tsssm.Stream` gives the same predictions live.
    backbone : str, default="s4d"
        State-space layer, as of `SSMClassifier`: "s4d", "dss", "s5", "linoss", "liquid-s4", "liquid-s4-kb",
        "liquid-s4-pb", "s4", "lssl" or "lssl-fixed".
    n_layers : int, default=4
        State-space layers.
    d_model : int, default=32
        Channels between the layers.
    d_state : int, default=16
        Real dimensions of the state of each channel; even, except for "lssl" and "lssl-fixed".
    dropout : float, default=0.1
        Share of features dropped in training.
    norm : {"batch", "layer", "none"}, default="batch"
        Normalisation before every layer.
    discretization : str or float, optional
        As of `SSMClassifier`.
    n_readouts : int, default=1
        Outputs of the system of each channel; only of "lssl" and "lssl-fixed".
    time_scale : "median" or float, default="median"
        Unit of elapsed time, as of `SSMClassifier`.
    timescales : "auto", (float, float), or a sequence of those, default="auto"
        Shortest and longest timescale that the systems of the layers start from, in the unit of the times of
        X; a sequence has one pair per layer. "auto" is two units of ``time_scale`` to twice the duration of a
        crop.
    crop_length : int or "auto", default="auto"
        Most samples of a crop in training; longer series are cut at other samples in every epoch. "auto" is
        2,048.
    warm_up : int or "auto", default="auto"
        Samples at the beginning of a crop (and at its end with ``lookahead=None``) whose labels are ignored,
        because the states have seen too few samples. "auto" is a quarter of ``crop_length``.
    max_epochs, max_steps : int, optional
        Length of training; whichever is reached first. With neither, 10 epochs, but at least 600 steps.
    batch_size : int or "auto", default="auto"
        Most crops in a step; "auto" is a tenth of them, between 8 and 64, with at most 65,536 samples.
    learning_rate : float, default=4e-3
        Peak learning rate of AdamW, reached after a linear warm-up and followed by a cosine decay.
    ssm_learning_rate : float, default=1e-3
        The same for the systems (A, B, Delta) of the layers.
    weight_decay : float, default=0.01
        Decay of the weights; none for systems, biases and norms.
    loss : {"squared_error", "absolute_error", "huber", "quantile", "gaussian"}, default="squared_error"
        Training loss of standardised targets, the mean over labels, as of `SSMRegressor`. "quantile" and
        "gaussian" also give the uncertainty: `predict_quantiles`, ``predict(X, return_std=True)``.
    quantiles : sequence of float, default=(0.1, 0.5, 0.9)
        Levels that the loss "quantile" trains, increasing and with 0.5 among them, which ``predict`` returns.
    early_stopping : bool, default=False
        Hold out a part of the series, or whole ``groups``, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the series held out by ``early_stopping``.
    n_iter_no_change : int, default=20
        Epochs without improvement after which ``early_stopping`` stops.
    warm_start : bool, default=False
        Whether another ``fit`` continues from the weights of the last one.
    accelerator : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where to train and predict.
    devices : int, list of int or "auto", default=1
        Devices to train on.
    precision : {"32-true", "16-mixed", "bf16-mixed"}, default="32-true"
        Arithmetic in training.
    callbacks : list of `lightning.Callback`, optional
        Take part in training.
    trainer_kwargs : dict, optional
        Further arguments of `lightning.Trainer`.
    checkpoint_dir, resume_from : path, optional
        As of `SSMClassifier`: a fit that was killed is resumed.
    random_state : int or RandomState, optional
        Seed; a fit is reproducible bit for bit with the same seed, machine and number of threads.
    verbose : int, default=0
        0 prints nothing, 1 shows a progress bar, 2 adds the model summary.
    scale : {"auto", "standard", "robust"}, default="auto"
        Scale of a channel: mean and standard deviation without ("auto") or with ("standard") faults (over 100
        ranges off); median and interquartile range without faults ("robust"). Not for charts.
    missing_channels : {"error", "nan"}, default="error"
        Whether a named channel of ``fit`` that later series lack is an error, or missing values.
    categorical : sequence of str or int, optional
        Channels, by name or number, whose values are codes: events, symbols, bytes. The network learns an
        embedding for each value in training; others count as missing.

    Attributes
    ----------
    net_ : Module
        The network, on the CPU in evaluation mode.
    encoder_ : PanelEncoder
        Turns series into the network's inputs; documents how missing values and times are treated.
    n_features_in_, n_iter_, loss_curve_, validation_scores_, best_validation_score_, time_scale_
        As of `SSMRegressor`.

    Notes
    -----
    As of `SSMSequenceClassifier`: what is known between samples, long recordings, and cross-validation.
    Only `SSMRegressor.predict_interval` gives intervals of nominal coverage, from errors of left-out series:
    errors along time are not exchangeable.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMSequenceRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 1, 100))
    >>> y = np.cumsum(X[:, 0], axis=1)  # a target for every sample
    >>> reg = SSMSequenceRegressor(lookahead=0, n_layers=1, max_steps=60, random_state=0).fit(X, y)
    >>> reg.predict(X).shape
    (20, 100)
    """

    rules = {**SequenceEstimator.rules, "loss": one_of(LOSSES), "quantiles": LEVELS}

    _kind_of_targets = NumbersAlongTime
    _targets: NumbersAlongTime

    def __init__(
        self,
        lookahead: float | None = None,
        backbone: str = "s4d",
        n_layers: int = 4,
        d_model: int = 32,
        d_state: int = 16,
        dropout: float = 0.1,
        norm: str = "batch",
        discretization: str | float | None = None,
        n_readouts: int = 1,
        time_scale: str | float = "median",
        timescales: str | tuple[float, float] | Sequence[tuple[float, float]] = "auto",
        crop_length: int | str = "auto",
        warm_up: int | str = "auto",
        max_epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int | str = "auto",
        learning_rate: float = 4e-3,
        ssm_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        loss: str = "squared_error",
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        warm_start: bool = False,
        accelerator: str = "auto",
        devices: int | Sequence[int] | str = 1,
        precision: str = "32-true",
        callbacks: Sequence[Any] | None = None,
        trainer_kwargs: Mapping[str, Any] | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume_from: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        scale: str = "auto",
        missing_channels: str = "error",
        categorical: Sequence[str | int] | None = None,
    ) -> None:
        self.lookahead = lookahead
        self.backbone = backbone
        self.n_layers = n_layers
        self.d_model = d_model
        self.d_state = d_state
        self.dropout = dropout
        self.norm = norm
        self.discretization = discretization
        self.n_readouts = n_readouts
        self.time_scale = time_scale
        self.timescales = timescales
        self.crop_length = crop_length
        self.warm_up = warm_up
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ssm_learning_rate = ssm_learning_rate
        self.weight_decay = weight_decay
        self.loss = loss
        self.quantiles = quantiles
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.accelerator = accelerator
        self.devices = devices
        self.precision = precision
        self.callbacks = callbacks
        self.trainer_kwargs = trainer_kwargs
        self.checkpoint_dir = checkpoint_dir
        self.resume_from = resume_from
        self.random_state = random_state
        self.verbose = verbose
        self.scale = scale
        self.missing_channels = missing_channels
        self.categorical = categorical
        super().__init__()

    partial_fit = _number_methods.partial_fit

    def _are_labels(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        missing = np.isnan(as_numbers(values))
        return np.asarray(~missing if values.ndim == 1 else ~missing.all(axis=1))

    @of_one_fit
    def predict(self, X: Any, times: Any = None, return_std: bool = False) -> Any:
        """Return the predicted targets along time.

        Parameters
        ----------
        X : as in ``fit``
            n series.
        times : array (m,), array (n, m), or list of n arrays, optional
            Times to predict at: the same for all series, or some for each, as the times of y in ``fit``;
            by default at each sample.
        return_std : bool, default=False
            Whether to return the standard deviation of each target beside its mean; needs
            ``loss="gaussian"``.

        Returns
        -------
        array (n, length) or (n, n_targets, length), pandas object, or object array of n arrays
            In the form of X, as `SSMSequenceClassifier.predict`. With ``return_std`` a pair.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, for X that is not as documented, for times outside of those of a series, and for
            ``return_std`` with another loss.
        """
        self.check_is_fitted()
        targets = self._targets
        if return_std:
            targets.check_std()
        panel, at, array = self._question(X, times)
        outputs = self._outputs_at(panel, at, "times")
        parts = [targets.centre(outputs), *([targets.spread(outputs)] if return_std else [])]
        names = None if targets.columns is None else list(targets.columns)
        answers = [
            arranged(part if targets.ndim == 2 else part[:, 0], X, at, array=array, columns=names, swap=True)
            for part in parts
        ]
        return tuple(answers) if return_std else answers[0]

    @of_one_fit
    def predict_quantiles(self, X: Any, quantiles: Sequence[float] | None = None, times: Any = None) -> Any:
        """Return quantiles of the targets along time; needs ``loss="quantile"`` or ``loss="gaussian"``.

        Parameters
        ----------
        X, times : as in ``predict``
        quantiles : sequence of float, optional
            Levels, as in `SSMRegressor.predict_quantiles`.

        Returns
        -------
        array (n, length, n_quantiles) or (n, n_targets, length, n_quantiles), pandas object, or object array
            In the form of X, as ``predict``; frames have a column per level, or per pair of
            target and level.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As `predict`, for levels that were not trained, and for a loss without quantiles.
        """
        self.check_is_fitted()
        targets = self._targets
        levels = targets.check_levels(quantiles)
        panel, at, array = self._question(X, times)
        values = targets.quantile_values(self._outputs_at(panel, at, "times"), levels)
        if targets.ndim == 1:
            return arranged(values[:, 0], X, at, array=array, columns=list(levels))
        names: Any = range(values.shape[1]) if targets.columns is None else targets.columns
        pairs = pd.MultiIndex.from_product([names, levels])
        return arranged(values, X, at, array=array, columns=pairs, swap=True)

    @of_one_fit
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R-squared of ``predict`` over all labels, the mean over the targets, optionally weighted.

        ``y`` and ``sample_weight`` as in ``fit``; missing targets do not count.
        """
        self.check_is_fitted()
        panel, at, known, labels, weight = self._read(X, y, sample_weight)
        truth = as_numbers(labels).reshape(len(labels), -1)
        predicted = self._targets.centre(self._outputs_at(panel, at, "y"))[known]
        if truth.shape != predicted.shape:
            raise ValueError(f"y must have {predicted.shape[1]} target(s); got {truth.shape[1]}.")
        scores = []
        for target, own in zip(truth.T, predicted.T, strict=True):
            there = np.isfinite(target)
            if there.any():
                scores.append(r2_score(target[there], own[there], sample_weight=weight[there]))
        return float(np.mean(scores))
