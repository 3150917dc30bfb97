"""Every parameter of every estimator, with what it cannot be: an error names it, and nothing is fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tsssm import (
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesForecaster,
    SSMFeaturesRegressor,
    SSMForecaster,
    SSMRegressor,
    SSMSequenceClassifier,
    SSMSequenceRegressor,
)

ESTIMATORS = (
    SSMClassifier,
    SSMRegressor,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesForecaster,
    SSMFeaturesRegressor,
    SSMForecaster,
    SSMSequenceClassifier,
    SSMSequenceRegressor,
)
X = np.random.default_rng(0).normal(size=(6, 1, 8))
WRONG = {"another type": object(), "not a number": math.nan}


def fit(estimator):
    name = type(estimator).__name__
    if name.endswith("Forecaster"):
        return estimator.fit(X[0, 0], fh=[1])
    y = np.arange(6.0) if name.endswith("Regressor") else np.arange(6) % 2
    return estimator.fit(X, np.repeat(y[:, None], 8, axis=1) if "Sequence" in name else y)


CASES = [
    pytest.param(cls, name, wrong, id=f"{cls.__name__}-{name}-{wrong}")
    for cls in ESTIMATORS
    for name in cls.get_param_names()
    if name != "ignore_label"  # which may be anything that a label may be
    for wrong in WRONG
]


@pytest.mark.parametrize(("cls", "name", "wrong"), CASES)
def test_refused(cls, name, wrong):
    estimator = cls(**{**cls.get_test_params()[0], name: WRONG[wrong]})
    before = dict(vars(estimator))
    with pytest.raises((TypeError, ValueError), match=rf"^{name}\b"):
        fit(estimator)
    assert vars(estimator) == before
