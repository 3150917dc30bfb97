"""What can be exported, and what is told of what cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tsssm.backbone import Backbone
from tsssm.encoding import ChartEncoder
from tsssm.estimators import SSMClassifier, SSMRegressor
from tsssm.training import Committee


class ExportError(ValueError):
    """Raised for a model that has no form of the kind that is asked for."""


def check_exportable(
    estimator: Any, path: str | os.PathLike[str] | None, ending: str, what: str
) -> Backbone | Committee:
    """Return the networks of an estimator, if they alone answer and read every sample; check the path, too.

    Raises
    ------
    ExportError, NotFittedError, TypeError, ValueError
    """
    if not isinstance(estimator, (SSMClassifier, SSMRegressor)):
        raise TypeError(
            f"estimator must be a fitted SSMClassifier or SSMRegressor; got {type(estimator).__name__}. Of a "
            "pipeline, pass the last step."
        )
    if path is not None and Path(path).suffix != ending:
        raise ValueError(f"path must end in {ending!r}; got {os.fspath(path)!r}.")
    estimator.check_is_fitted(what)
    net = estimator.net_
    if net is None:
        raise ExportError("The estimator saw a single class in fit and has no network to export.")
    if estimator.closed_form_ is not None:
        raise ExportError("The closed form beside the networks cannot be exported: fit with n_features=0.")
    if isinstance(estimator.encoder_, ChartEncoder):
        raise ExportError(
            "What a network reads of a clinical chart, spans of time in normal scores, cannot be exported: "
            "fit with bidirectional=False, which reads every sample."
        )
    return net
