"""Estimators for scikit-learn and sktime: one class a task, good in both worlds."""

from tsssm.estimators._classifier import SSMClassifier
from tsssm.estimators._regressor import SSMRegressor

__all__ = ["SSMClassifier", "SSMRegressor"]
