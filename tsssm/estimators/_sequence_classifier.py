"""Classification along time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score

from tsssm.estimators import _class_methods
from tsssm.estimators._along_answers import arranged
from tsssm.estimators._base import of_one_fit
from tsssm.estimators._classes import NetworkClasses
from tsssm.estimators._parameters import one_of
from tsssm.estimators._sequence import SequenceEstimator


class SSMSequenceClassifier(SequenceEstimator, BaseEstimator):
    """Deep state-space classifier with a label for every sample, or for times of their own.

    As `SSMClassifier`, but the classes are those of moments, not of series: which beat is ectopic, where a
    wave begins, when somebody falls. The network is the same; its head reads the features of a sample, where
    that of `SSMClassifier` reads their summary.

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
    rare_classes : float, default=0
        Share of the crops that are drawn by class, all classes equally often, so that training sees rare ones
        often. They count less in turn: probabilities stay those of the data. For another
        balance take ``class_weight``.
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
    label_smoothing : float, default=0
        Share of each label that is spread over all classes in training.
    loss : {"cross_entropy"}, default="cross_entropy"
        Training loss, the mean over labels.
    ignore_label : label, optional
        A value in y that is no label, besides NaN and None: such as 0 for "not annotated".
    early_stopping : bool, default=False
        Hold out a part of the series, or whole ``groups``, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the series held out by ``early_stopping``.
    n_iter_no_change : int, default=20
        Epochs without improvement after which ``early_stopping`` stops.
    class_weight : None, "balanced", dict or list of dict, default=None
        Weights of the classes in the loss, as in scikit-learn.
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
    classes_ : array (n_classes,), or list of arrays
        Class labels, sorted; with several columns in y a list, one array per column.
    n_classes_ : int, or list of int
        Number of them.
    net_ : Module
        The network, on the CPU in evaluation mode; None if y had a single class.
    encoder_ : PanelEncoder
        Turns series into the network's inputs; documents how missing values and times are treated.
    n_features_in_, n_iter_, loss_curve_, validation_scores_, best_validation_score_, time_scale_
        As of `SSMClassifier`.

    Notes
    -----
    *Between samples* nothing new is known: the prediction for a time is that of the last sample at or before
    it; with ``lookahead`` d that of the last sample at or before the time plus d, or of the last sample of
    the series. Before the first value it is that of a series without values. Samples that are missing in
    every channel change nothing.

    *Long recordings* are predicted piece by piece, with the states carried on in both directions, to the same
    result: memory besides X, its encoded copy and the predictions does not grow with the length. With
    ``lookahead=None`` features between two layers are kept up to 256 MiB; for longer recordings they are
    computed again.

    *One network* predicts, without the committee and the closed form of `SSMClassifier`. For a committee,
    average ``predict_proba`` of several estimators with different ``random_state``.

    *Cross-validation.* By its tags the estimator is not a scikit-learn classifier, because splitters and
    scorers there take one label per row: ``cv=5`` is an unstratified split of the series, and ``GroupKFold``
    one of patients. ``cross_val_predict`` returns an object array with one array per series where X is a list
    or a Panel.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMSequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 1, 100))
    >>> y = np.where(np.cumsum(X[:, 0], axis=1) > 0, "up", "down")  # a label for every sample
    >>> clf = SSMSequenceClassifier(lookahead=0, n_layers=1, max_steps=60, random_state=0).fit(X, y)
    >>> clf.predict(X).shape
    (20, 100)
    """

    rules = {**SequenceEstimator.rules, "loss": one_of(("cross_entropy",))}

    _kind_of_targets = NetworkClasses
    _targets: NetworkClasses

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
        rare_classes: float = 0.0,
        max_epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int | str = "auto",
        learning_rate: float = 4e-3,
        ssm_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.0,
        loss: str = "cross_entropy",
        ignore_label: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        class_weight: str | Mapping[Any, float] | list[Mapping[Any, float]] | None = None,
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
        self.rare_classes = rare_classes
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ssm_learning_rate = ssm_learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.loss = loss
        self.ignore_label = ignore_label
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
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

    partial_fit = _class_methods.partial_fit

    def _are_labels(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        missing = np.asarray(pd.isna(values))
        if self.ignore_label is not None:
            missing = missing | np.asarray(values == self.ignore_label)
        return np.asarray(~missing if values.ndim == 1 else ~missing.any(axis=1))

    def _proba(self, panel: Any, at: Any, name: str = "times") -> list[npt.NDArray[np.float64]]:
        """Probabilities (m, n_classes) at times, for each column of y."""
        if self.net_ is None:
            return [np.ones((len(at.values), 1))]
        answers = self._targets.answers(self._outputs_at(panel, at, name))
        return answers if isinstance(answers, list) else [answers]

    @of_one_fit
    def predict_proba(self, X: Any, times: Any = None) -> Any:
        """Return the probability of each class along time.

        Parameters
        ----------
        X : as in ``fit``
            n series.
        times : array (m,), array (n, m), or list of n arrays, optional
            Times to predict at: the same for all series, or some for each, as the times of y in ``fit``;
            by default at each sample.

        Returns
        -------
        array (n, length, n_classes), DataFrame, or object array of n arrays (length_i, n_classes)
            In the form of X: one array where X is one; a frame with its index for a frame with an
            index (series, time); otherwise an object array with one array per series, or a frame where X has
            frames. The classes are in the order of ``classes_``. A list of these where y had several columns.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, for X that is not as documented, and for times outside of those of a series.
        """
        self.check_is_fitted()
        panel, at, array = self._question(X, times)
        names = self._targets.listed
        answers = [
            arranged(proba, X, at, array=array, columns=classes)
            for proba, classes in zip(self._proba(panel, at), names, strict=True)
        ]
        return answers if isinstance(self.classes_, list) else answers[0]

    @of_one_fit
    def predict(self, X: Any, times: Any = None) -> Any:
        """Return the most probable class along time.

        Parameters and errors as in `predict_proba`.

        Returns
        -------
        array (n, length), Series, or object array of n arrays (length_i,)
            In the form of X, as `predict_proba`; several columns of y are an axis before time in
            arrays, and columns in frames.
        """
        self.check_is_fitted()
        panel, at, array = self._question(X, times)
        labels = np.asarray(self._targets.most_likely(self._proba(panel, at)))
        return arranged(labels, X, at, array=array, columns=self._targets.columns, swap=True)

    @of_one_fit
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of ``predict`` over all labels, optionally weighted.

        ``y`` and ``sample_weight`` as in ``fit``; missing labels do not count. With several columns a
        prediction is right if it is right in all of them.
        """
        self.check_is_fitted()
        panel, at, known, labels, weight = self._read(X, y, sample_weight)
        predicted = np.asarray(self._targets.most_likely(self._proba(panel, at, "y")))[known]
        if labels.shape != predicted.shape:
            raise ValueError(f"y must have {predicted.shape[1:] or 'one'} columns; got {labels.shape[1:]}.")
        right = np.asarray(labels == predicted)
        right = right if right.ndim == 1 else np.asarray(right.all(axis=1))
        return float(accuracy_score(np.ones_like(right), right, sample_weight=weight))
