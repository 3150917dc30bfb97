"""Forecasting in closed form: ridge regressions and smoothing with fixed systems, mixed by validation.

``_prepare`` fills gaps and finds seasons, ``_smoothing`` is a bank of level, trend and season systems,
``_inputs`` the lags and states that a window has, ``_windows`` and ``_ridge`` turn series into sums and these
into coefficients, ``_choice`` mixes candidates, ``_conformal`` makes intervals, ``_model`` joins them.
Arrays in, arrays out; the classes for scikit-learn and sktime are in ``tsssm.estimators``.
"""

from tsssm.forecasting._conformal import Errors
from tsssm.forecasting._inputs import Inputs
from tsssm.forecasting._model import (
    LONGEST_SEASON,
    SCALINGS,
    TRANSFORMS,
    Candidate,
    Forecast,
    ForecastModel,
    Part,
    fit_model,
)

__all__ = [
    "LONGEST_SEASON",
    "SCALINGS",
    "TRANSFORMS",
    "Candidate",
    "Errors",
    "Forecast",
    "ForecastModel",
    "Inputs",
    "Part",
    "fit_model",
]
