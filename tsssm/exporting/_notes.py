"""What a user of an exported file has to know."""

from __future__ import annotations

from typing import Any

from tsssm.estimators._class_targets import ClassTargets


def notes_of(estimator: Any) -> dict[str, Any]:
    """Metadata: what a user of the file has to know."""
    features = getattr(estimator, "features_", None)
    encoder = estimator.encoder_ if features is None else features.encoder
    notes: dict[str, Any] = {"channels": encoder.n_channels, "time_unit": encoder.time_unit}
    if hasattr(estimator, "feature_names_in_") and not estimator._fitted_on_table:
        notes["channel_names"] = list(map(str, estimator.feature_names_in_))
    if isinstance(estimator, ClassTargets):
        several = isinstance(estimator.classes_, list)
        columns = estimator.classes_ if several else [estimator.classes_]
        labels = [column.tolist() for column in columns]
        notes["classes"] = labels if several else labels[0]
    elif getattr(estimator, "loss", None) == "quantile":
        notes["quantiles"] = list(map(float, estimator.quantiles))
    return notes
