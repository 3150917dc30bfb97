"""Estimators for scikit-learn and sktime: one class for each task, for both libraries."""

from tsssm.estimators._classifier import SSMClassifier
from tsssm.estimators._features import SSMFeatures
from tsssm.estimators._forecaster import SSMFeaturesForecaster
from tsssm.estimators._forecaster_trained import SSMForecaster
from tsssm.estimators._persistence import load, save
from tsssm.estimators._regressor import SSMRegressor
from tsssm.estimators._ridge import SSMFeaturesClassifier, SSMFeaturesRegressor
from tsssm.estimators._sequence_classifier import SSMSequenceClassifier
from tsssm.estimators._sequence_regressor import SSMSequenceRegressor

__all__ = [
    "SSMClassifier",
    "SSMFeatures",
    "SSMFeaturesClassifier",
    "SSMFeaturesForecaster",
    "SSMFeaturesRegressor",
    "SSMForecaster",
    "SSMRegressor",
    "SSMSequenceClassifier",
    "SSMSequenceRegressor",
    "load",
    "save",
]
