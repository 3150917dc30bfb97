"""Deep state-space models for time series, as scikit-learn and sktime estimators.

Importing the package loads nothing heavy; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tsssm._version import __version__

if TYPE_CHECKING:
    from tsssm.estimators import (
        SSMClassifier,
        SSMFeatures,
        SSMFeaturesClassifier,
        SSMFeaturesForecaster,
        SSMFeaturesRegressor,
        SSMForecaster,
        SSMRegressor,
        SSMSequenceClassifier,
        SSMSequenceRegressor,
        load,
        save,
    )
    from tsssm.panel import DataWarning, Panel
    from tsssm.streaming import Stream

__all__ = [
    "DataWarning",
    "Panel",
    "SSMClassifier",
    "SSMFeatures",
    "SSMFeaturesClassifier",
    "SSMFeaturesForecaster",
    "SSMFeaturesRegressor",
    "SSMForecaster",
    "SSMRegressor",
    "SSMSequenceClassifier",
    "SSMSequenceRegressor",
    "Stream",
    "__version__",
    "load",
    "save",
]

_SOURCES = {
    "DataWarning": "tsssm.panel",
    "Panel": "tsssm.panel",
    "SSMClassifier": "tsssm.estimators",
    "SSMFeatures": "tsssm.estimators",
    "SSMFeaturesClassifier": "tsssm.estimators",
    "SSMFeaturesForecaster": "tsssm.estimators",
    "SSMFeaturesRegressor": "tsssm.estimators",
    "SSMForecaster": "tsssm.estimators",
    "SSMRegressor": "tsssm.estimators",
    "SSMSequenceClassifier": "tsssm.estimators",
    "SSMSequenceRegressor": "tsssm.estimators",
    "Stream": "tsssm.streaming",
    "load": "tsssm.estimators",
    "save": "tsssm.estimators",
}
_SUBMODULES = (
    "backbone",
    "datasets",
    "discretize",
    "encoding",
    "estimators",
    "events",
    "exporting",
    "features",
    "forecasting",
    "hippo",
    "inspection",
    "layers",
    "ops",
    "panel",
    "persistence",
    "plotting",
    "streaming",
    "training",
)


def __getattr__(name: str) -> Any:
    if name in _SOURCES:
        value = getattr(importlib.import_module(_SOURCES[name]), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"tsssm.{name}")
    raise AttributeError(f"module 'tsssm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
