"""
A forecast with its intervals
=============================

`ForecastDisplay` draws the end of a history, the forecast, and an 80 % interval.
"""

from sktime.datasets import load_airline

from tsssm import SSMFeaturesForecaster
from tsssm.plotting import ForecastDisplay

y = load_airline()
forecaster = SSMFeaturesForecaster().fit(y[:-24], fh=range(1, 25))
ForecastDisplay.from_estimator(forecaster, y[:-24], fh=range(1, 25), actual=y[-24:], last=60)
