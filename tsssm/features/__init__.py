"""Closed-form features and models of time series: fixed state-space systems, pooled over time, and a ridge.

``_timeline`` turns a panel into functions of time, ``_systems`` draws the systems, ``_features`` pools their
readouts, and ``_running`` does so sample by sample. Charts have features of their own, in ``_charts`` and
``_running_charts``; ``_choice`` says which a panel gets. ``_ridge``, ``_logistic`` and ``_calibration`` make
predictions of them.
Panels and arrays in, arrays out; the classes for scikit-learn and sktime are in ``tsssm.estimators``.
"""

from tsssm.features._calibration import fit_slope, smoothed_labels
from tsssm.features._charts import ChartFeatures
from tsssm.features._choice import KINDS, Features, fit_features, fit_on_top
from tsssm.features._features import POOLINGS, StateSpaceFeatures
from tsssm.features._logistic import fit_logistic
from tsssm.features._ramps import Ramps
from tsssm.features._ridge import ALPHAS, Ridge, fit_ridge, predict_ridge
from tsssm.features._running import Running, RunningFeatures
from tsssm.features._running_charts import RunningChart, RunningCharts
from tsssm.features._systems import BASES
from tsssm.features._timeline import Timeline

__all__ = [
    "ALPHAS",
    "BASES",
    "KINDS",
    "POOLINGS",
    "ChartFeatures",
    "Features",
    "Ramps",
    "Ridge",
    "Running",
    "RunningChart",
    "RunningCharts",
    "RunningFeatures",
    "StateSpaceFeatures",
    "Timeline",
    "fit_features",
    "fit_logistic",
    "fit_on_top",
    "fit_ridge",
    "fit_slope",
    "predict_ridge",
    "smoothed_labels",
]
