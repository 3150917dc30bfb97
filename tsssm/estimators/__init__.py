"""Estimators for scikit-learn and sktime: one class for each task, for both libraries.

``_base`` reads panels, ``_targets`` is what y means, ``_network``, ``_sequence`` and ``_ridge_base`` are the
kinds of models, ``_trained`` the course of training, ``_forecaster_*`` all of forecasting. ``_parameters``
checks what users ask for, ``_model_state`` and ``_*parts`` what files say.
"""

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
