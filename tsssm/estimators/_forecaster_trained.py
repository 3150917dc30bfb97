"""Forecasts by a trained network, for sktime and for panels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from tsssm.estimators._base import declared_tags
from tsssm.estimators._checks import seed_of
from tsssm.estimators._forecaster_base import FORECASTER_TAGS, PRETRAIN_TAGS, ForecasterBase
from tsssm.estimators._forecaster_covariates import Target, fit_target
from tsssm.estimators._forecaster_network_files import HOLDS, restore_network
from tsssm.estimators._forecaster_recipe import new_network, options_of, steps_back
from tsssm.estimators._forecaster_series import Histories
from tsssm.estimators._forecaster_time import FloatArray
from tsssm.estimators._forecaster_tracks import tracks_of
from tsssm.estimators._forecaster_training import boundaries, corrected, early, trained_correction
from tsssm.estimators._parameters import RULES, Rule, forecast_rules
from tsssm.estimators._trained import parameters_of_a_model
from tsssm.forecasting import (
    CLOSED_LOSSES,
    Correction,
    ForecastModel,
    Track,
    View,
    fit_model,
)
from tsssm.persistence import Fields

_NOTHING = Track(0, np.zeros(2), 0, np.zeros(2), np.zeros((2, 0)))
# In place of levels: location, scale and degrees of freedom of a distribution.
_PARAMETERS: Any = "location, scale and freedom"
_ONE_SIGMA = (0.1586552539, 0.8413447461)


class SSMForecaster(ForecasterBase):
    """Forecasts by a trained network on top of those in closed form, for sktime and for panels.

    The network reads the history up to its end: a stack of state-space layers, with the true time between
    samples. Its last state runs on without input and is read out at the times that are asked for, between
    steps and at any distance, exactly. It learns the residuals of `SSMFeaturesForecaster`; how much of its
    output is used is chosen on the end of the series, held out in training. Untrained, or where there is
    nothing to learn, it equals the closed form.

    Parameters
    ----------
    loss : {"quantile", "gaussian", "student_t", "absolute_error", "squared_error"}, default="quantile"
        What is minimised: the pinball loss of ``quantiles``, the likelihood of a normal or Student's t
        distribution, or the error of a single value. With the latter two intervals come from errors on the
        held-out end.
    quantiles : sequence of float
        Levels that are learned with ``loss="quantile"``, increasing, with 0.5. Others are interpolated.
    sp : int or "auto", default="auto"
        Samples per season, as in `SSMFeaturesForecaster`.
    horizon : int, optional
        Steps ahead that are learned, at least; by default as far as ``fh`` in ``fit`` reaches, or two
        seasons. Later times are read as those of the same phase of the season before.
    look_back : int or "auto", default="auto"
        Steps of history that the network reads. "auto" is the longest of two seasons and three horizons,
        from 24 to 512.
    scaling : {"last", "mean", "robust", "none"}, default="last"
        Centre and unit of each window: its last value, mean or median, and its spread; "none" has those of
        all series.
    together : bool, default=False
        Whether the forecast of a target, or channel, reads the past of the others as well.
    backbone : str, default="s4d"
        State-space layer, a key of `tsssm.backbone.BACKBONES`.
    n_layers, d_model, d_state : int, default=2, 32, 16
        Layers, channels between them, states of a channel.
    dropout : float, default=0.1
    norm : {"batch", "layer", "none"}, default="layer"
    discretization : str or float, optional
        How layers step through time, by default the rule of the backbone.
    max_epochs, max_steps : int, optional
        Whichever comes first ends training; by default after 600 steps. An epoch has 50 steps.
    batch_size : int or "auto", default="auto"
        Windows in a step.
    learning_rate, ssm_learning_rate : float, default=2e-3, 1e-3
        Of AdamW, and of the systems of the layers.
    weight_decay : float, default=0.01
    n_iter_no_change : int, default=6
        Epochs without a better loss on the held-out windows after which training stops.
    accelerator, devices, precision, callbacks, trainer_kwargs
        As in `SSMClassifier`.
    checkpoint_dir, resume_from : path, optional
        Folder for the state of an unfinished fit, and a file to resume from. They need a ``random_state``.
    random_state : int or RandomState, optional
    verbose : int, default=0
        0 prints nothing, 1 shows a progress bar, 2 adds the model summary.

    Attributes
    ----------
    targets_, channels_ : tuple
        The models in closed form, as in `SSMFeaturesForecaster`.
    network_ : Correction or None
        The network, ``network_.shares`` how much of it is used for each target, ``network_.loss_curve``.
        None where the series are too short to train and to hold out windows; ``network_.weight`` says how
        much weight the held-out windows have.

    Notes
    -----
    One network serves all series and all targets, with the target as an input. ``update`` fits the
    closed form anew; the network stays as it is until the next ``fit``. ``pretrain(y_panel)`` and then
    ``fit(y)`` uses network and closed form for unseen series (from sktime 1.0 on).

    Variables X may be known in the future or not: in training the network sees them ahead in half of the
    windows. What ``predict`` is given is used, columns that it is not given count as known of the past alone.
    Variables that never change within a series need not be given ahead.

    Forecasts of the past are not made: ``fh`` lies after the end of y.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from tsssm import SSMForecaster
    >>> y = pd.Series(10 + np.sin(np.arange(120) * np.pi / 6))
    >>> forecaster = SSMForecaster(sp=12, max_steps=20, random_state=0).fit(y, fh=[1, 2, 3])
    >>> forecaster.predict().round(1).tolist()
    [10.0, 10.5, 10.9]
    """

    _tags = {
        **declared_tags(BaseForecaster, {**FORECASTER_TAGS, "capability:random_state": True}),
        **PRETRAIN_TAGS,
    }
    rules: dict[str, Rule] = {**RULES, **forecast_rules()}
    _holds = HOLDS
    _pretrained = ("pretrained_clock_", "pretrained_network_", "pretrained_targets_")

    network_: Correction | None
    pretrained_network_: Correction | None

    def __init__(
        self,
        loss: str = "quantile",
        quantiles: Sequence[float] = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975),
        sp: int | str = "auto",
        horizon: int | None = None,
        look_back: int | str = "auto",
        scaling: str = "last",
        together: bool = False,
        backbone: str = "s4d",
        n_layers: int = 2,
        d_model: int = 32,
        d_state: int = 16,
        dropout: float = 0.1,
        norm: str = "layer",
        discretization: str | float | None = None,
        max_epochs: int | None = None,
        max_steps: int | None = None,
        batch_size: int | str = "auto",
        learning_rate: float = 2e-3,
        ssm_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        n_iter_no_change: int = 6,
        accelerator: str = "auto",
        devices: int | Sequence[int] | str = 1,
        precision: str = "32-true",
        callbacks: Sequence[Any] | None = None,
        trainer_kwargs: Mapping[str, Any] | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume_from: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.loss = loss
        self.quantiles = quantiles
        self.sp = sp
        self.horizon = horizon
        self.look_back = look_back
        self.scaling = scaling
        self.together = together
        self.backbone = backbone
        self.n_layers = n_layers
        self.d_model = d_model
        self.d_state = d_state
        self.dropout = dropout
        self.norm = norm
        self.discretization = discretization
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ssm_learning_rate = ssm_learning_rate
        self.weight_decay = weight_decay
        self.n_iter_no_change = n_iter_no_change
        self.accelerator = accelerator
        self.devices = devices
        self.precision = precision
        self.callbacks = callbacks
        self.trainer_kwargs = trainer_kwargs
        self.checkpoint_dir = checkpoint_dir
        self.resume_from = resume_from
        self.random_state = random_state
        self.verbose = verbose
        super().__init__()

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return parameters_of_a_model(parameters)

    def _restore(self, fields: Fields) -> None:
        restore_network(self, fields)
        super()._restore(fields)

    # Learning

    def _check_own(self) -> None:
        super()._check_own()
        # What the network and its training refuse, before anything is learned.
        if not isinstance(self.random_state, np.random.RandomState):  # which would draw
            seed_of(self.random_state)
        options_of(self, 1, 0)
        new_network(self, View.of([_NOTHING], 2, 1, 1, self.scaling))

    def _learn(
        self,
        series: Sequence[FloatArray],
        phases: Sequence[int],
        horizon: int | None,
        seasons: Sequence[int],
        season: int | None = None,
    ) -> ForecastModel:
        if season is None and self.sp != "auto":
            season = int(self.sp)
        closed = self.loss if self.loss in CLOSED_LOSSES else CLOSED_LOSSES[0]
        return fit_model(series, phases, horizon, season, seasons, loss=closed)

    def _reads_together(self) -> bool:
        return bool(self.together)

    def _learned(self, histories: Histories, horizon: int | None) -> dict[str, Any]:
        targets = self._learned_targets(histories, horizon)
        tracks = [tracks_of(histories, column, self._reads_together()) for column in range(len(targets))]
        return {"targets_": targets, "network_": self._learned_network(tracks, targets)}

    def _learned_channels(self, each: Sequence[Sequence[Track]], horizon: int | None) -> dict[str, Any]:
        found = super()._learned_channels(each, horizon)
        targets = [Target(model, None, None) for model in found["channels_"]]
        return {**found, "network_": self._learned_network(each, targets)}

    def _learned_network(
        self, each: Sequence[Sequence[Track]], targets: Sequence[Target]
    ) -> Correction | None:
        """Train the network on the series of each target; None where they are too short."""
        horizon = min(target.alone.horizon for target in targets)
        tracks = [track for own in each for track in own]
        bounds = boundaries(tracks, horizon)
        models, place = [], 0
        for own, target in zip(each, targets, strict=True):
            pairs = zip(own, bounds[place : place + len(own)], strict=True)
            before = [cut for track, bound in pairs if (cut := early(track, int(bound))) is not None]
            place += len(own)
            if not before:
                return None
            models.append(self._early_target(before, target.alone.season, horizon))
        horizon = min(m.horizon for model in models for m in (model.alone, model.beside) if m is not None)
        season = targets[0].alone.season
        view = View.of(tracks, steps_back(self, tracks, horizon, season), horizon, season, self.scaling)
        levels = tuple(float(level) for level in self.quantiles) if self.loss == "quantile" else ()
        seed = seed_of(self.random_state)
        return trained_correction(
            tracks,
            models,
            bounds,
            view,
            lambda view: new_network(self, view),
            self.loss,
            levels,
            lambda n: options_of(self, n, seed),
        )

    def _early_target(self, tracks: Sequence[Track], season: int, horizon: int) -> Target:
        phases = [track.phase for track in tracks]
        return fit_target(
            lambda series: self._learn(series, phases, horizon, (), season),
            [track.y for track in tracks],
            [track.X for track in tracks] if tracks[0].X.shape[1] else None,
        )

    # Forecasts

    def _correction(self) -> Correction | None:
        if hasattr(self, "pretrained_network_"):
            return self.pretrained_network_
        return self.network_

    def _paths(
        self,
        target: Target,
        tracks: Sequence[Track],
        steps: Sequence[FloatArray],
        future: Sequence[FloatArray] | None,
        levels: Sequence[float] | None,
    ) -> list[FloatArray]:
        correction = self._correction()
        if correction is None:
            return super()._paths(target, tracks, steps, future, levels)
        base = [path[:, 0] for path in super()._paths(target, tracks, steps, future, None)]
        rest: Sequence[FloatArray | None] = [None] * len(base)
        if levels is not None and correction.weight < 1:
            asked = _ONE_SIGMA if levels is _PARAMETERS else levels
            rest = super()._paths(target, tracks, steps, future, asked)
        return self._beside(correction, tracks, base, rest, steps, future, levels)

    def _beside(
        self,
        correction: Correction,
        tracks: Sequence[Track],
        base: Sequence[FloatArray],
        rest: Sequence[FloatArray | None],
        steps: Sequence[FloatArray],
        future: Sequence[FloatArray] | None,
        levels: Sequence[float] | None,
    ) -> list[FloatArray]:
        """Forecasts beside those in closed form, ``base`` (k_i,), and their quantiles, ``rest``."""
        number = min(tracks[0].target, len(correction.shares) - 1)
        answers = corrected(correction, tracks, base, steps, future)
        found = []
        for path, (z, scale, tau), closed in zip(base, answers, rest, strict=True):
            forecast = (path + scale * correction.middle(z, number))[:, None]
            if levels is _PARAMETERS:
                sigma, freedom = correction.parameters(z, number, tau)
                width = None if closed is None else np.ptp(closed, axis=1) / 2
                sigma = _mixed(scale * sigma, width, correction.weight)
                forecast = np.concatenate([forecast, sigma[:, None], freedom[:, None]], axis=1)
            elif levels is not None:
                band = None if closed is None else closed - path[:, None]
                around = scale * correction.quantiles(z, number, tau, levels)
                forecast = forecast + _mixed(around, band, correction.weight)
            found.append(forecast)
        return found

    def _predict_proba(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None = None, marginal: bool = True
    ) -> Any:
        """Normal or Student's t distributions of skpro, as the loss says; else as sktime does."""
        try:
            from skpro.distributions import Normal, TDistribution
        except ImportError:  # then sktime has a normal distribution of its own
            return super()._predict_proba(fh=fh, X=X, marginal=marginal)
        if not self._tells_a_distribution():
            return super()._predict_proba(fh=fh, X=X, marginal=marginal)
        found, index = self._forecasts(fh, X, _PARAMETERS)
        mean, scale, freedom = found.transpose(2, 0, 1)
        columns = pd.Index(self._histories.targets)
        if self.loss == "gaussian":
            return Normal(mean, scale, index=index, columns=columns)
        return TDistribution(mean, scale, freedom, index=index, columns=columns)

    def _predict_var(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None = None, cov: bool = False
    ) -> pd.DataFrame:
        if self._tells_a_distribution():
            found, index = self._forecasts(fh, X, _PARAMETERS)
            _, scale, freedom = found.transpose(2, 0, 1)
            finite = np.isfinite(freedom)
            variance = scale**2 * np.where(finite, freedom / np.where(finite, freedom - 2, 1.0), 1.0)
        else:
            found, index = self._forecasts(fh, X, _ONE_SIGMA)
            variance = (np.ptp(found, axis=2) / 2) ** 2
        return pd.DataFrame(variance, index=index, columns=self._histories.targets)

    def _tells_a_distribution(self) -> bool:
        return self._correction() is not None and self.loss in ("gaussian", "student_t")

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        quick = {"sp": 1, "max_steps": 2, "d_model": 8, "d_state": 4, "n_layers": 1, "random_state": 0}
        return [quick, {**quick, "loss": "gaussian", "scaling": "mean", "look_back": 4}]


def _mixed(own: FloatArray, closed: FloatArray | None, weight: float) -> FloatArray:
    """What the network says, as far as it is to be trusted, and what the closed form says."""
    return own if closed is None else weight * own + (1 - weight) * closed
