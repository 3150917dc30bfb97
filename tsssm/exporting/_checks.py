"""What can be exported, and the errors about what cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tsssm.backbone import Backbone
from tsssm.encoding import ChartEncoder
from tsssm.estimators import SSMClassifier, SSMFeaturesClassifier, SSMFeaturesRegressor, SSMRegressor
from tsssm.training import Committee

#: Estimators that are a linear model on features.
CLOSED_FORMS = (SSMFeaturesClassifier, SSMFeaturesRegressor)


class ExportError(ValueError):
    """Raised for a model that cannot be exported to the requested format."""


def check_common(estimator: Any, path: str | os.PathLike[str] | None, ending: str, what: str) -> None:
    """Check where an estimator is to go, and that it is fitted."""
    if path is not None and Path(path).suffix != ending:
        raise ValueError(f"path must end in {ending!r}; got {os.fspath(path)!r}.")
    estimator.check_is_fitted(what)


def check_exportable(
    estimator: Any,
    path: str | os.PathLike[str] | None,
    ending: str,
    what: str,
    *,
    closed_form: bool = False,
) -> Backbone | Committee:
    """Return the networks of an estimator, if they read every sample and answer alone, or may not do so.

    Raises
    ------
    ExportError, NotFittedError, TypeError, ValueError
    """
    if not isinstance(estimator, (SSMClassifier, SSMRegressor)):
        raise TypeError(
            f"estimator must be a fitted SSMClassifier or SSMRegressor; got {type(estimator).__name__}. Of a "
            "pipeline, pass the last step."
        )
    check_common(estimator, path, ending, what)
    net = estimator.net_
    if net is None:
        raise ExportError("The estimator saw a single class in fit and has no network to export.")
    if isinstance(estimator.encoder_, ChartEncoder):
        raise ExportError(
            "A bidirectional network of clinical charts cannot be exported: fit with bidirectional=False, "
            "whose network reads every sample."
        )
    if estimator.encoder_.categories.size:
        raise ExportError("Categorical channels cannot be exported: give one channel for each value.")
    if estimator.closed_form_ is not None and not closed_form:
        raise ExportError("The closed form beside the networks cannot be exported: fit with n_features=0.")
    return net
