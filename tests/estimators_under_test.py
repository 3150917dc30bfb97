"""The public estimators, small enough to be fitted hundreds of times: one list for all conformance tests."""

from __future__ import annotations

from typing import Any

from tsssm import SSMClassifier, SSMRegressor

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

_BATCHES = (
    "training goes through shuffled batches of a given size, so that repeating a series is not weighting it"
)

#: Instances for scikit-learn's check suite.
ESTIMATORS = [
    SSMClassifier(**_NETWORK, max_steps=60),
    SSMRegressor(**_NETWORK, max_steps=20),
]

#: Checks of scikit-learn that an estimator fails, at most one each, and why.
EXPECTED_FAILURES: dict[type, dict[str, str]] = {
    SSMClassifier: {"check_sample_weight_equivalence_on_dense_data": _BATCHES},
    SSMRegressor: {"check_sample_weight_equivalence_on_dense_data": _BATCHES},
}


def expected_failures(estimator: Any) -> dict[str, str]:
    """What scikit-learn's suite asks for: name of the check to reason."""
    return EXPECTED_FAILURES.get(type(estimator), {})
