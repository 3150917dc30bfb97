"""Time series classification."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sktime.classification.base import BaseClassifier
from torch import Tensor
from torch.nn import functional as F

from tsssm.encoding import PanelEncoder
from tsssm.estimators._base import SSMEstimator
from tsssm.estimators._checks import FloatArray, checked_labels, class_weights
from tsssm.estimators._parameters import RULES, one_of
from tsssm.panel import Panel

LOSSES = ("cross_entropy",)


class SSMClassifier(SSMEstimator, BaseClassifier, ClassifierMixin, BaseEstimator):
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
        "liquid-s4", "liquid-s4-kb", "liquid-s4-pb"       Liquid-S4 (arXiv 2209.12951): the recurrence itself,
                                                          or its K-B or P-B kernel
        "s4"                                              diagonal plus low rank (2111.00396)
        "lssl", "lssl-fixed"                              LSSL (2110.13985), its system trained or fixed
        ================================================  ====================================================

        All but the LSSLs are equally accurate on 24 UCR sets within their noise, and "s4d" is the quickest.
    n_layers : int, default=4
        State-space layers.
    d_model : int, default=32
        Channels between the layers.
    d_state : int, default=16
        Real dimensions of the state of each channel; even, except for "lssl" and "lssl-fixed". With "s5" the
        channels share four blocks of this size.
    bidirectional : bool, default=True
        Whether every layer also runs from the last sample to the first.
    dropout : float, default=0.1
        Share of features dropped in training.
    norm : {"batch", "layer", "none"}, default="batch"
        Normalisation before every layer.
    pooling : {"mean", "max", "last"}, default="mean"
        Summary over time before the head. The mean weighs each sample by the time it stands for.
    discretization : str, optional
        "zoh", "foh" (only "s4d", "dss", "s5"), "bilinear" or "backward-euler". By default "zoh", and
        "bilinear" for "s4", which takes no hold, and for "lssl", whose hold is slow on irregular grids.
    time_scale : "median" or float, default="median"
        Unit of elapsed time, in the unit of the times of X. "median" is the median gap between the samples
        of the training series. Without times in X, a sample is one unit.
    max_epochs, max_steps : int, optional
        Length of training; whichever is reached first. With neither, 600 steps or 10 epochs, whichever is
        more.
    batch_size : int or "auto", default="auto"
        Most series in a step; "auto" is a tenth of the training series, between 8 and 64.
    learning_rate : float, default=4e-3
        Peak learning rate of AdamW, reached after a linear warm-up and followed by a cosine decay.
    ssm_learning_rate : float, default=1e-3
        The same for the systems (A, B, Delta) of the layers.
    weight_decay : float, default=0.01
        Decay of the weights; none for systems, biases and norms.
    label_smoothing : float, default=0.1
        Share of each label that is spread over all classes in training.
    loss : {"cross_entropy"}, default="cross_entropy"
        Training loss.
    early_stopping : bool, default=False
        Hold out a stratified part of the training series, stop when the loss on it no longer falls, and keep
        the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the series held out by ``early_stopping``.
    n_iter_no_change : int, default=20
        Epochs without improvement after which ``early_stopping`` stops.
    class_weight : None, "balanced" or dict, default=None
        Weights of the classes in the loss, as in scikit-learn.
    accelerator : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where to train and predict; "gpu" is CUDA, "auto" is CUDA where there is one, else the CPU.
    devices : int, list of int or "auto", default=1
        Devices to train on, as `lightning.Trainer` takes them.
    precision : {"32-true", "16-mixed", "bf16-mixed"}, default="32-true"
        Arithmetic in training.
    callbacks : list of `lightning.Callback`, optional
        Take part in training; copied, so that a second ``fit`` finds them as they were. ``train_loss`` and,
        with ``early_stopping``, ``val_loss`` are logged for them after each epoch.
    trainer_kwargs : dict, optional
        Further arguments of `lightning.Trainer`, such as ``logger``.
    random_state : int or RandomState, optional
        Seed; the same data, seed and number of torch threads give the same predictions on the same machine.
        None is a fresh seed.
        NumPy's and torch's global generators are neither used nor changed.
    verbose : int, default=0
        0 prints nothing, 1 shows a progress bar, 2 adds the model summary and Lightning's messages.

    Attributes
    ----------
    classes_ : array (n_classes,)
        Class labels, sorted.
    n_features_in_ : int
        Channels of X; for a two-dimensional X its columns, as scikit-learn counts.
    n_iter_ : int
        Epochs trained; 0 if there was only one class, in which case nothing is trained.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Minus the validation loss after each epoch; None without ``early_stopping``.
    best_validation_score_ : float or None
        The largest of them.
    time_scale_ : float
        The unit of elapsed time.
    net_ : Module or None
        The network, on the CPU in evaluation mode; None if there was only one class.
    encoder_ : PanelEncoder
        What turns series into the network's inputs; documents how missing values and times are treated.

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

    _tags = {
        "authors": ["tsssm developers"],
        "maintainers": ["tsssm developers"],
        "python_dependencies": ["torch", "lightning"],
        "X_inner_mtype": ["pd-multiindex", "df-list", "numpy3D"],
        "y_inner_mtype": "numpy1D",
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": True,
        "capability:predict_proba": True,
        "capability:class_weight": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
    }
    rules = {**RULES, "loss": one_of(LOSSES)}

    def __init__(
        self,
        backbone: str = "s4d",
        n_layers: int = 4,
        d_model: int = 32,
        d_state: int = 16,
        bidirectional: bool = True,
        dropout: float = 0.1,
        norm: str = "batch",
        pooling: str = "mean",
        discretization: str | None = None,
        time_scale: str | float = "median",
        max_epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int | str = "auto",
        learning_rate: float = 4e-3,
        ssm_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.1,
        loss: str = "cross_entropy",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        class_weight: str | Mapping[Any, float] | None = None,
        accelerator: str = "auto",
        devices: int | Sequence[int] | str = 1,
        precision: str = "32-true",
        callbacks: Sequence[Any] | None = None,
        trainer_kwargs: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.n_layers = n_layers
        self.d_model = d_model
        self.d_state = d_state
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.norm = norm
        self.pooling = pooling
        self.discretization = discretization
        self.time_scale = time_scale
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
        self.accelerator = accelerator
        self.devices = devices
        self.precision = precision
        self.callbacks = callbacks
        self.trainer_kwargs = trainer_kwargs
        self.random_state = random_state
        self.verbose = verbose
        super().__init__()

    def fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> SSMClassifier:
        """Fit the classifier; see `SSMEstimator.fit` for the containers.

        A ``y`` with several columns fits one classifier for each, as sktime's classifiers do.
        """
        shape = np.asarray(y).shape
        if len(shape) == 2 and shape[1] > 1:
            if sample_weight is not None:
                raise ValueError(f"sample_weight needs a y of shape (n,); got {shape}.")
            return BaseClassifier.fit(self, X, y)
        return super().fit(X, y, sample_weight)

    def _fit_panel(self, panel: Panel, y: Any, weight: FloatArray) -> None:
        y = checked_labels(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_classes_ = len(self.classes_)
        self._class_dictionary = {label: code for code, label in enumerate(self.classes_)}
        if self.class_weight is not None:
            weight = weight * class_weights(self.class_weight, y)
        if self.n_classes_ == 1:
            self._fit_single_class(panel)
            return
        self._fit_network(panel, torch.as_tensor(codes), weight, self.n_classes_, self._cross_entropy, codes)

    def _fit_single_class(self, panel: Panel) -> None:
        """With one class there is nothing to learn: predict it for whatever comes."""
        warnings.warn(
            f"only single label seen in y passed to fit of classifier {type(self).__name__}; it will be "
            "predicted for every series.",
            UserWarning,
            stacklevel=4,
        )
        self.net_ = None
        self.encoder_ = PanelEncoder(self.time_scale).fit(panel)
        self.time_scale_ = self.encoder_.time_scale_
        self.n_iter_ = 0
        self.loss_curve_ = []
        self.validation_scores_ = self.best_validation_score_ = None

    def _cross_entropy(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(outputs, target, reduction="none", label_smoothing=self.label_smoothing)

    def predict_proba(self, X: Any) -> FloatArray:
        """Return the probability of each class.

        Parameters
        ----------
        X : as in ``fit``
            n series.

        Returns
        -------
        array of shape (n, n_classes), float64
            In the order of ``classes_``; rows sum to 1.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, and for X that is not as documented.
        """
        self.check_is_fitted()
        return super().predict_proba(X) if self._is_vectorized else self._predict_proba(X)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most probable class of each series, (n,).

        Parameters and errors as in `predict_proba`.
        """
        self.check_is_fitted()
        return super().predict(X) if self._is_vectorized else self._predict(X)

    def _predict_proba(self, X: Any) -> FloatArray:
        if self.net_ is None:
            return np.ones((len(self._panel(X, reset=False)), 1))
        outputs = self._outputs(X)
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _predict(self, X: Any) -> npt.NDArray[Any]:
        return self.classes_[self._predict_proba(X).argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy of ``predict(X)``, optionally weighted."""
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        tiny = {"n_layers": 1, "d_model": 4, "d_state": 4, "batch_size": 8, "random_state": 0}
        return [
            {**tiny, "max_steps": 10},
            {**tiny, "backbone": "s4d", "bidirectional": False, "norm": "layer", "max_epochs": 2},
        ]
