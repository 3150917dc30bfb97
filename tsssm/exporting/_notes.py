"""What a user of an exported file has to know."""

from __future__ import annotations

from typing import Any

from tsssm.estimators._classes import Classes
from tsssm.estimators._numbers import NetworkNumbers


def notes_of(estimator: Any) -> dict[str, Any]:
    """Metadata: what a user of the file has to know."""
    features = getattr(estimator, "features_", None)
    encoder = estimator.encoder_ if features is None else features.encoder
    notes: dict[str, Any] = {"channels": encoder.n_channels, "time_unit": encoder.time_unit}
    if hasattr(estimator, "feature_names_in_") and not estimator._fitted_on_table:
        notes["channel_names"] = list(map(str, estimator.feature_names_in_))
    targets = estimator._targets
    if isinstance(targets, Classes):
        labels = [column.tolist() for column in targets.listed]
        notes["classes"] = labels if targets.several else labels[0]
    elif isinstance(targets, NetworkNumbers) and targets.loss == "quantile":
        notes["quantiles"] = list(map(float, targets.quantiles))
    return notes
