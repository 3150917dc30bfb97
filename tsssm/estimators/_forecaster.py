"""Forecasts in closed form, for sktime and for panels."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from sktime.forecasting.base import BaseForecaster

from tsssm.estimators._base import declared_tags
from tsssm.estimators._forecaster_base import FORECASTER_TAGS, PRETRAIN_TAGS, ForecasterBase
from tsssm.estimators._forecaster_time import FloatArray
from tsssm.estimators._parameters import forecast_rules, one_of
from tsssm.forecasting import CLOSED_LOSSES, SCALINGS, TRANSFORMS, ForecastModel, fit_model


class SSMFeaturesForecaster(ForecasterBase):
    """Forecasts in closed form from states of fixed systems, for sktime and for panels.

    A window is described by its last values and by the states of fixed state-space systems (decaying means,
    HiPPO modes, oscillators at the season); one ridge regression for all horizons predicts from these, and a
    bank of level, trend and season systems forecasts beside it. They are mixed by their errors on the end
    of the series, held out. Nothing is trained by gradients, and nothing is random: the same data give the
    same forecasts.

    Parameters
    ----------
    sp : int or "auto", default="auto"
        Samples per season, 1 for none, at most 100,000. "auto" tries what the calendar makes likely and then
        the peaks of the autocorrelation.
    horizon : int, optional
        Steps ahead that forecasts are fitted for at least; by default as far as ``fh`` in ``fit`` reaches, or
        two seasons. Beyond it forecasts are recursive.
    lags : int, tuple of int or "auto", default="auto"
        Number of last values in a window; several, increasing, are mixed by validation. "auto" takes about
        one, two and fourteen seasons, as far as the series are long enough.
    scaling : {"auto", "last", "mean", "robust", "none"}, default="auto"
        Baseline of a window, from which the forecast deviates: last value, mean, median, or mean of the
        series so far ("none"). "auto" mixes by validation; differences to the season before always take part.
    transform : {"auto", "none", "log"}, default="auto"
        Whether logarithms of positive series are forecast; "auto" mixes by validation.

    loss : {"absolute_error", "squared_error"}, default="absolute_error"
        What the mixture is chosen by. With "absolute_error" windows are in units of their mean step, so that
        volatile ones do not dominate; with "squared_error" all windows of a series count alike.

    Attributes
    ----------
    targets_ : tuple
        For every target its model, the effect of X (None if X does not help), and the model beside that.
    channels_ : tuple
        For every channel its model, after ``fit(panel)``.

    Notes
    -----
    The series of a panel share a model for each target, which is more accurate for many short series;
    ``pretrain(y_panel)`` and then ``fit(y)`` uses it for unseen series (from sktime 1.0 on).
    ``fit`` in a loop gives each series a model of its own.

    Intervals come from errors of windows that were held out (split conformal), scaled by the mean step and
    earlier errors of each series. Forecasts of the past are not made: ``fh`` lies after the end of y.
    A variable X must be known in the future; without it in ``predict`` the forecast ignores it.

    Dates without frequency, and times that fit on no grid, are moved to the nearest step of a grid of the
    shortest or median gap, where cells without a sample count as missing; between steps of the grid forecasts
    are straight lines.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from tsssm import SSMFeaturesForecaster
    >>> index = pd.period_range("2020-01", periods=48, freq="M")
    >>> y = pd.Series(10 + np.sin(np.arange(48) * np.pi / 6), index=index)
    >>> forecaster = SSMFeaturesForecaster(sp=12).fit(y)
    >>> forecaster.predict(fh=[1, 2, 3]).round(1).tolist()
    [10.0, 10.5, 10.9]
    """

    _tags = {**declared_tags(BaseForecaster, FORECASTER_TAGS), **PRETRAIN_TAGS}
    rules = {
        **forecast_rules(),
        "scaling": one_of(("auto", *SCALINGS)),
        "transform": one_of(("auto", *TRANSFORMS)),
        "loss": one_of(CLOSED_LOSSES),
    }

    def __init__(
        self,
        sp: int | str = "auto",
        horizon: int | None = None,
        lags: int | Sequence[int] | str = "auto",
        scaling: str = "auto",
        transform: str = "auto",
        loss: str = "absolute_error",
    ) -> None:
        self.sp = sp
        self.horizon = horizon
        self.lags = lags
        self.scaling = scaling
        self.transform = transform
        self.loss = loss
        super().__init__()

    def _learn(
        self,
        series: Sequence[FloatArray],
        phases: Sequence[int],
        horizon: int | None,
        seasons: Sequence[int],
    ) -> ForecastModel:
        lags: Any = self.lags
        if lags != "auto":
            lags = tuple(int(lag) for lag in ([lags] if isinstance(lags, Integral) else lags))
        return fit_model(
            series,
            phases,
            horizon,
            None if self.sp == "auto" else int(self.sp),
            seasons,
            None if lags == "auto" else lags,
            SCALINGS if self.scaling == "auto" else (self.scaling,),
            TRANSFORMS if self.transform == "auto" else (self.transform,),
            self.loss,
        )

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        return [{"sp": 1, "lags": 3, "transform": "none"}, {"sp": 4, "lags": (2, 5), "scaling": "mean"}]
