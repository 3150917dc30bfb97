"""The public estimators, small enough to be fitted hundreds of times: one list for all conformance tests."""

from __future__ import annotations

from typing import Any

from tsssm import SSMClassifier, SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor, SSMRegressor

# Enough steps at a high rate for the accuracy that scikit-learn's checks ask of a classifier.
_NETWORK: dict[str, Any] = {
    "backbone": "s4d",
    "n_layers": 1,
    "d_model": 4,
    "d_state": 4,
    "bidirectional": False,
    "norm": "none",
    "dropout": 0.0,
    "learning_rate": 0.05,
    "random_state": 0,
}

_FEATURES: dict[str, Any] = {"n_features": 64, "n_scales": 2, "random_state": 0}

_BATCHES = (
    "training goes through shuffled batches of a given size, so that repeating a series is not weighting it"
)

_LEFT_OUT = "leaving one of several equal series out is not leaving out a series of that weight"

#: Instances for scikit-learn's check suite.
ESTIMATORS = [
    SSMClassifier(**_NETWORK, max_steps=60),
    SSMRegressor(**_NETWORK, max_steps=20),
    SSMFeatures(**_FEATURES),
    SSMFeaturesClassifier(**_FEATURES),
    SSMFeaturesRegressor(**_FEATURES),
]

#: Checks of scikit-learn that an estimator fails, at most one each, and why.
EXPECTED_FAILURES: dict[type, dict[str, str]] = {
    SSMClassifier: {"check_sample_weight_equivalence_on_dense_data": _BATCHES},
    SSMRegressor: {"check_sample_weight_equivalence_on_dense_data": _BATCHES},
    SSMFeaturesClassifier: {"check_sample_weight_equivalence_on_dense_data": _LEFT_OUT},
    SSMFeaturesRegressor: {"check_sample_weight_equivalence_on_dense_data": _LEFT_OUT},
}


def expected_failures(estimator: Any) -> dict[str, str]:
    """What scikit-learn's suite asks for: name of the check to reason."""
    return EXPECTED_FAILURES.get(type(estimator), {})
