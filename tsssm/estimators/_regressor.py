"""Time series regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array
from sktime.regression.base import BaseRegressor
from torch import Tensor
from torch.nn import functional as F

from tsssm.estimators._base import SSMEstimator
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._parameters import RULES, one_of
from tsssm.panel import Panel

#: Training losses, elementwise on standardised targets.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "squared_error": F.mse_loss,
    "absolute_error": F.l1_loss,
    "huber": F.huber_loss,
}


class SSMRegressor(SSMEstimator, BaseRegressor, RegressorMixin, BaseEstimator):
    """Deep state-space regression of one or several numbers on time series, for scikit-learn and sktime.

    Series may differ in length, be sampled irregularly and have missing values. Their times are taken from
    the index of a frame or from a `Panel` and reach every layer, so that a model trained at one sampling
    rate predicts at another. Targets are standardised in training.

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
    loss : {"squared_error", "absolute_error", "huber"}, default="squared_error"
        Training loss, of standardised targets; "huber" is linear beyond one standard deviation.
    early_stopping : bool, default=False
        Hold out a part of the training series, of small and large targets alike, stop when the loss on it no
        longer falls, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the series held out by ``early_stopping``.
    n_iter_no_change : int, default=20
        Epochs without improvement after which ``early_stopping`` stops.
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
    n_features_in_ : int
        Channels of X; for a two-dimensional X its columns, as scikit-learn counts.
    n_iter_ : int
        Epochs trained.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Minus the validation loss after each epoch; None without ``early_stopping``.
    best_validation_score_ : float or None
        The largest of them.
    time_scale_ : float
        The unit of elapsed time.
    net_ : Module
        The network, on the CPU in evaluation mode.
    encoder_ : PanelEncoder
        What turns series into the network's inputs; documents how missing values and times are treated.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMRegressor
    >>> rng = np.random.default_rng(0)
    >>> rate = rng.uniform(0.5, 3.0, size=40)
    >>> X = np.sin(rate[:, None] * np.linspace(0.0, 10.0, 50))  # 40 series of 50 samples
    >>> reg = SSMRegressor(n_layers=1, d_model=8, max_epochs=20, random_state=0).fit(X, rate)
    >>> reg.predict(X).shape
    (40,)
    """

    _tags = {
        "authors": ["tsssm developers"],
        "maintainers": ["tsssm developers"],
        "python_dependencies": ["torch", "lightning"],
        "X_inner_mtype": ["pd-multiindex", "df-list", "numpy3D"],
        "y_inner_mtype": "numpy2D",
        "capability:multioutput": True,
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": True,
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
        loss: str = "squared_error",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
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
        self.loss = loss
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.accelerator = accelerator
        self.devices = devices
        self.precision = precision
        self.callbacks = callbacks
        self.trainer_kwargs = trainer_kwargs
        self.random_state = random_state
        self.verbose = verbose
        super().__init__()

    def _fit_panel(self, panel: Panel, y: Any, weight: FloatArray) -> None:
        values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if values.ndim > 2:
            raise ValueError(f"y must have shape (n,) or (n, n_outputs); got {values.shape}.")
        # sktime's rule: a frame with several columns comes back as such a frame, with one column as an array.
        self._y_columns = y.columns if isinstance(y, pd.DataFrame) and values.shape[1] > 1 else None
        self._y_ndim = 1 if isinstance(y, pd.DataFrame) and self._y_columns is None else values.ndim
        values = values.reshape(len(values), -1)
        self._y_mean = np.average(values, axis=0, weights=weight)
        deviation, used = values - self._y_mean, weight > 0
        # Scaled to 1, so that squares neither overflow nor vanish.
        scale = np.abs(deviation[used]).max(axis=0, initial=0.0)
        scale = np.where(np.ptp(values[used], axis=0) > 0, scale, 1.0)
        rms = np.sqrt(np.average((deviation[used] / scale) ** 2, axis=0, weights=weight[used]))
        self._y_std = np.where(np.ptp(values[used], axis=0) > 0, scale * rms, 1.0)
        standardised = deviation / self._y_std
        target = torch.as_tensor(standardised, dtype=torch.float32)
        self._fit_network(panel, target, weight, values.shape[1], self._error, standardised.mean(axis=1))

    def _error(self, outputs: Tensor, target: Tensor) -> Tensor:
        return LOSSES[self.loss](outputs, target, reduction="none").mean(dim=1)

    def predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        """Return the predicted targets.

        Parameters
        ----------
        X : as in ``fit``
            n series.

        Returns
        -------
        array of shape (n,) or (n, n_outputs), float64, or DataFrame
            In the shape that y had in ``fit``; a frame if that was one with several columns.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, and for X that is not as documented.
        """
        self.check_is_fitted()
        return self._predict(X)

    def _predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        values = self._outputs(X) * self._y_std + self._y_mean
        if self._y_columns is not None:
            return pd.DataFrame(values, columns=self._y_columns)
        return values if self._y_ndim == 2 else values[:, 0]

    def score(
        self,
        X: Any,
        y: Any,
        sample_weight: npt.ArrayLike | None = None,
        multioutput: str | npt.ArrayLike | None = "uniform_average",
    ) -> float:
        """Return R-squared of ``predict(X)``, optionally weighted.

        ``multioutput`` says how several outputs are averaged, as in `sklearn.metrics.r2_score`.
        """
        return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput=multioutput)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # A table whose columns have no order in time is not what the network is for.
        tags.regressor_tags.poor_score = True
        return tags

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        tiny = {"n_layers": 1, "d_model": 4, "d_state": 4, "batch_size": 8, "random_state": 0}
        return [
            {**tiny, "max_steps": 10},
            {**tiny, "backbone": "s4d", "bidirectional": False, "norm": "layer", "max_epochs": 2},
        ]
