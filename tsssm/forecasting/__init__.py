"""Forecasting in closed form: ridge regressions and smoothing with fixed systems, mixed by validation.

``_prepare`` fills gaps and finds seasons, ``_smoothing`` is a bank of level, trend and season systems,
``_inputs`` the lags and states that a window has, ``_windows`` and ``_ridge`` turn series into sums and these
into coefficients, ``_trials`` has the candidates, ``_choice`` mixes them, ``_conformal`` makes intervals,
``_model`` joins them, ``_running`` updates forecasts with each sample.
``_network``, ``_tracks``, ``_answers`` and ``_correction`` are what a trained network adds to that.
Arrays in, arrays out; the classes for scikit-learn and sktime are in ``tsssm.estimators``.
"""

from tsssm.forecasting._answers import LOSSES, n_answers
from tsssm.forecasting._answers import loss_of as answer_loss
from tsssm.forecasting._conformal import Errors
from tsssm.forecasting._correction import LARGEST_TARGET, Correction, calibrated
from tsssm.forecasting._inputs import Inputs
from tsssm.forecasting._model import (
    CLOSED_LOSSES,
    LONGEST_SEASON,
    SCALINGS,
    TRANSFORMS,
    Forecast,
    ForecastModel,
    Part,
    fit_model,
)
from tsssm.forecasting._network import ForecastNetwork
from tsssm.forecasting._running import RunningForecast
from tsssm.forecasting._tracks import Track, Tracks, View
from tsssm.forecasting._trials import SMOOTH, Candidate

__all__ = [
    "CLOSED_LOSSES",
    "LARGEST_TARGET",
    "LONGEST_SEASON",
    "LOSSES",
    "SCALINGS",
    "SMOOTH",
    "TRANSFORMS",
    "Candidate",
    "Correction",
    "Errors",
    "Forecast",
    "ForecastModel",
    "ForecastNetwork",
    "Inputs",
    "Part",
    "RunningForecast",
    "Track",
    "Tracks",
    "View",
    "answer_loss",
    "calibrated",
    "fit_model",
    "n_answers",
]
