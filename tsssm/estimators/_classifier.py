"""Time series classification."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sktime.classification.base import BaseClassifier

from tsssm.estimators import _class_methods
from tsssm.estimators._base import PANEL_TAGS, declared_tags
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._classes import NetworkClasses
from tsssm.estimators._network import NetworkEstimator
from tsssm.estimators._parameters import RULES, one_of

LOSSES = ("cross_entropy",)


class SSMClassifier(NetworkEstimator, BaseClassifier, ClassifierMixin, BaseEstimator):
    """Deep state-space classifier of time series, for scikit-learn and sktime.

    Series may differ in length, be sampled irregularly and have missing values. Their times are taken from
    the index of a frame or from a `Panel` and reach every layer, so that a model trained at one sampling
    rate predicts at another.

    Parameters
    ----------
    backbone : str, default="s4d"
        State-space layer:

        ================================================  ====================================================
        "s4d", "dss", "s5"                                diagonal (2206.11893, 2203.14343, 2208.04933)
        "linoss"                                          damped oscillators (D-LinOSS, 2505.12171)
        "liquid-s4", "liquid-s4-kb", "liquid-s4-pb"       Liquid-S4 (arXiv 2209.12951): the recurrence itself,
                                                          or its K-B or P-B kernel
        "s4"                                              diagonal plus low rank (2111.00396)
        "lssl", "lssl-fixed"                              LSSL (2110.13985), its system trained or fixed
        ================================================  ====================================================

        In cross-validation on 24 UCR sets "s4d" and "liquid-s4" are equally accurate within their noise,
        "lssl" is 0.007 ± 0.007 ahead, "linoss" 0.024 behind, and "s4d" is the quickest
        (``examples/benchmarks/ucr_backbones.py``).
    n_members : int or "auto", default="auto"
        Networks whose outputs are averaged. Each is trained without a fold of the series, or of the
        ``groups``; the out-of-fold predictions set the weight of the networks beside the closed form. "auto"
        is 4, for clinical charts 6, and 1 with ``bidirectional=False``, for more than 2,000 series that are
        no charts, and for series on disk. One network beside a closed form leaves about a tenth of more than
        2,000 series out, for its weight, and none of fewer.
    n_features : int or "auto", default="auto"
        Features of a ridge regression, the closed form of `SSMFeaturesClassifier`, that is fitted beside the
        networks and blended with them (``blend_``); 0 is none, else at least 384. "auto" is 12,288, and 0
        with ``bidirectional=False``, which keeps a stream fast, with ``categorical``, for more than 5,000
        series that are no charts, for series on disk, and where ``warm_start`` goes on without. Why both:
        ``examples/benchmarks/network_study.py``.
    n_layers : int or "auto", default="auto"
        State-space layers; "auto" is 4, and 1 for clinical charts (Notes).
    d_model : int, default=32
        Channels between the layers.
    d_state : int, default=16
        Real dimensions of the state of each channel; even, except for "lssl" and "lssl-fixed". With "s5" and
        "linoss" the channels share four blocks of this size.
    bidirectional : bool, default=True
        Whether every layer also runs from the last sample to the first.
    dropout : float or "auto", default="auto"
        Share of features dropped in training; "auto" is 0.1, and 0.5 for charts.
    norm : {"batch", "layer", "none"}, default="batch"
        Normalisation before every layer.
    pooling : {"auto", "mean", "max", "last"}, default="auto"
        Summary over time before the head. The mean weights each sample by the time around it. "auto" is
        "mean", and "last" for charts.
    discretization : str or float, optional
        "zoh", "foh" ("s4d", "dss", "s5", "linoss"), "bilinear" or "backward-euler". By default "zoh"; for
        "s4" and "lssl" 0.75, half way from "bilinear", which never forgets, to "backward-euler", but for
        "lssl" on a regular grid "bilinear".
    n_readouts : int, default=1
        Outputs of the system of each channel (M of the LSSL paper); only of "lssl" and "lssl-fixed".
    time_scale : "median" or float, default="median"
        Unit of elapsed time, in the unit of the times of X. "median" is the median gap between the samples
        of the training series. Without times in X, a sample is one unit.
    timescales : "auto", (float, float), or a sequence of those, default="auto"
        Shortest and longest timescale (1 / Delta) that the systems of the layers start from, in the unit of
        the times of X: how far back they remember before training. A sequence has one pair for each layer,
        from the input on. "auto" is, for all layers, a 50th of the typical duration of a series, but at least
        two units of ``time_scale``, to twice that duration; audio, whose sounds are much shorter than a
        recording, needs shorter ones in the first layers.
    max_epochs, max_steps : int, optional
        Length of training; whichever is reached first. With neither, 10 epochs, but at least
        600 steps, or 200 for each of several members.
    batch_size : int or "auto", default="auto"
        Most series in a step; "auto" is a tenth of the training series, between 8 and 64, but
        beyond 8 no more than have 65,536 samples, with series of mean length.
    learning_rate : float, default=4e-3
        Peak learning rate of AdamW, reached after a linear warm-up and followed by a cosine decay.
    ssm_learning_rate : float, default=1e-3
        The same for the systems (A, B, Delta) of the layers.
    weight_decay : float or "auto", default="auto"
        Decay of the weights; none for systems, biases and norms. "auto" is 0.01, and 3 for charts.
    label_smoothing : float or "auto", default="auto"
        Share of each label that is spread over all classes in training; "auto" is 0.1, and 0 for charts.
    loss : {"cross_entropy"}, default="cross_entropy"
        Training loss.
    early_stopping : bool, default=False
        Hold out a stratified part of the training series, or whole groups if ``fit`` is given ``groups``;
        stop when the loss on it no longer falls, and keep the weights of the best epoch. Nothing is learned
        from the part held out, neither scales nor weights. ``fit`` also takes a validation set, ``X_val`` and
        ``y_val``. It helps from some hundred series on.
    validation_fraction : float, default=0.1
        Share of the series held out by ``early_stopping``.
    n_iter_no_change : int, default=20
        Epochs without improvement after which ``early_stopping`` stops.
    class_weight : None, "balanced", dict or list of dict, default=None
        Weights of the classes in the loss, as in scikit-learn; with several columns in y a list, one dict per
        column, whose weights are multiplied. "balanced" gives all classes the same total weight: for rare
        classes that must not be missed.
    warm_start : bool, default=False
        Whether another ``fit`` continues from the weights of the last one, for as many epochs again, in place
        of new ones; also after ``set_params``, which otherwise resets the estimator. Classes and scales of
        values and time stay those of the first fit. Use it to prolong a fit, or to adapt a model to new data.
    accelerator : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where to train and predict; "gpu" is CUDA, "auto" is CUDA where there is one, else the CPU. Where
        there is no CUDA device, a model that was fitted on one predicts on the CPU.
    devices : int, list of int or "auto", default=1
        Devices to train on, as `lightning.Trainer` takes them. With several, each has a process, which takes
        its share of every batch; call ``fit`` in all of them, as ``torchrun`` does, with an integer
        ``random_state``. The model is that of one process, save for rounding, dropout and the statistics of
        ``norm="batch"``, which are those of the share.
    precision : {"32-true", "16-mixed", "bf16-mixed"}, default="32-true"
        Arithmetic in training.
    callbacks : list of `lightning.Callback`, optional
        Called in training; copied, so that a second ``fit`` finds them unchanged. ``train_loss`` and, with
        ``early_stopping``, ``val_loss`` are logged for them after each epoch.
    trainer_kwargs : dict, optional
        Further arguments of `lightning.Trainer`, such as ``logger``.
    checkpoint_dir : path, optional
        Folder where ``fit`` keeps its state while it trains, written at the ends of epochs in at most a
        fiftieth of the time and removed at the end. A fit of the same data and parameters that was killed
        continues from there and gives the same model; other fits, such as those of a search, keep files of
        their own. Needs a ``random_state``.
    resume_from : path, optional
        One of these files to continue from; an error if it is of other data or parameters.
    random_state : int or RandomState, optional
        Seed. A fit is reproducible bit for bit with the same data, seed, machine and
        ``torch.get_num_threads()``; another number of threads rounds sums differently. None is a fresh seed.
        NumPy's and torch's global generators are neither used nor changed.
    verbose : int, default=0
        0 prints nothing, 1 shows a progress bar, 2 adds the model summary and Lightning's messages.
    scale : {"auto", "standard", "robust"}, default="auto"
        Scale of a channel: mean and standard deviation without ("auto") or with ("standard") faults (over 100
        ranges off); median and interquartile range without faults ("robust"). Not for charts.
    missing_channels : {"error", "nan"}, default="error"
        Whether a named channel of ``fit`` that later series lack is an error, or missing values.
    augment : dict, optional
        How training series are changed at random, anew in every step: "crop", the share of each that is left,
        as one stretch; "drop_samples" and "drop_channels", what share of samples at most, and with which
        probability a channel, is missing; "speed", the slowest and the fastest speed of playing; "gain", the
        spread of the logarithm of factors on channels; "noise", in standard deviations of a channel. Times
        go along. The closed form sees series as they are. Not for charts.
    categorical : sequence of str or int, optional
        Channels, by name or number, whose values are codes: events, symbols, bytes. The networks learn an
        embedding for each value in training; others count as missing. There is then no closed form.

    Attributes
    ----------
    classes_ : array (n_classes,), or list of arrays
        Class labels, sorted; with several columns in y a list, one array per column.
    n_classes_ : int, or list of int
        Number of them.
    n_features_in_ : int
        Channels of X; for a two-dimensional X its columns, as scikit-learn counts.
    n_iter_ : int
        Epochs trained, with ``warm_start`` and ``partial_fit`` in all; 0 if there was only one class, in
        which case nothing is trained.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Minus the validation loss after each epoch; None without ``early_stopping``.
    best_validation_score_ : float or None
        The largest of them in the last fit, that of the weights which are kept.
    time_scale_ : float
        The unit of elapsed time.
    net_ : Module or None
        The network, or a committee with its ``members``, on the CPU in evaluation mode; None if there was
        only one class.
    closed_form_ : ClosedForm or None
        The ridge regression beside the networks, with charts a logistic one; and dense networks then.
    blend_ : array (n_columns, 2) or None
        Weights of the closed form and of the networks for each column of y, in logits: those with the
        smallest loss on out-of-fold predictions, shrunk towards the closed form alone with the weight of one
        series. With one member that has seen all series they are equal, and where it goes on they stay as
        they are. None without a closed form.
    encoder_ : PanelEncoder or ChartEncoder
        Turns series into the network's inputs; documents how missing values and times are treated.

    Notes
    -----
    *Charts.* A panel is a clinical chart where at least four channels vary, at least half of their values are
    missing, in the samples that have any, and half of them have fewer than 16 values per series. The closed
    form is then that of `SSMFeatures` with ``pooling="charts"``, whatever ``n_features`` if that is not 0. A
    bidirectional network reads `ChartEncoder`: normal scores of the training values on a grid of 48 spans of
    a typical series, and static channels separately; it is small, and with some thousand series a batch has
    32. A network with ``bidirectional=False`` reads every sample, as it has to for a stream, and is not
    small. With a bidirectional one, the closed form has eight dense networks on a piecewise-linear encoding
    of its features. The weights of the blend are shrunk towards 2/3 and 1/3, without these towards equal
    ones, with the weight of 200 series. How this was chosen: ``examples/experiments/physionet2012.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 2, 30))  # 20 series, 2 channels, 30 samples
    >>> y = np.repeat(["rest", "walk"], 10)
    >>> X[y == "walk"] += 1.0
    >>> clf = SSMClassifier(n_layers=1, d_model=8, max_epochs=20, random_state=0).fit(X, y)
    >>> clf.predict(X[[0, -1]])
    array(['rest', 'walk'], dtype='<U4')
    """

    _tags = declared_tags(
        BaseClassifier,
        {
            **PANEL_TAGS,
            "y_inner_mtype": "numpy2D",
            "capability:multioutput": True,
            "capability:predict_proba": True,
            "capability:class_weight": True,
        },
    )
    rules = {**RULES, "loss": one_of(LOSSES)}

    _kind_of_targets = NetworkClasses
    _targets: NetworkClasses

    def __init__(
        self,
        backbone: str = "s4d",
        n_members: int | str = "auto",
        n_features: int | str = "auto",
        n_layers: int | str = "auto",
        d_model: int = 32,
        d_state: int = 16,
        bidirectional: bool = True,
        dropout: float | str = "auto",
        norm: str = "batch",
        pooling: str = "auto",
        discretization: str | float | None = None,
        n_readouts: int = 1,
        time_scale: str | float = "median",
        timescales: str | tuple[float, float] | Sequence[tuple[float, float]] = "auto",
        max_epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int | str = "auto",
        learning_rate: float = 4e-3,
        ssm_learning_rate: float = 1e-3,
        weight_decay: float | str = "auto",
        label_smoothing: float | str = "auto",
        loss: str = "cross_entropy",
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
        augment: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.n_members = n_members
        self.n_features = n_features
        self.n_layers = n_layers
        self.d_model = d_model
        self.d_state = d_state
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.norm = norm
        self.pooling = pooling
        self.discretization = discretization
        self.n_readouts = n_readouts
        self.time_scale = time_scale
        self.timescales = timescales
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ssm_learning_rate = ssm_learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.loss = loss
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
        self.augment = augment
        super().__init__()

    partial_fit = _class_methods.partial_fit
    predict_proba = _class_methods.predict_proba
    predict = _class_methods.predict
    score = _class_methods.score

    def _predict_proba(self, X: Any) -> FloatArray | list[FloatArray]:
        if self.net_ is None:
            return np.ones((len(self._panel(X, reset=False)), 1))
        return self._targets.answers(self._outputs(X))

    def _predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        proba = self._predict_proba(X)
        return self._targets.most_likely(proba if isinstance(proba, list) else [proba])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags
