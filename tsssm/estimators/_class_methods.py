"""Methods that classifiers share: functions, which each of them takes into its body by name."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import accuracy_score

from tsssm.estimators._base import PanelEstimator, of_one_fit
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._trained import fit_part

Estimator = TypeVar("Estimator", bound=PanelEstimator)


@of_one_fit
def predict_proba(self: PanelEstimator, X: Any) -> FloatArray | list[FloatArray]:
    """Return the probability of each class.

    Parameters
    ----------
    X : as in ``fit``
        n series.

    Returns
    -------
    array of shape (n, n_classes), float64, or a list of one such array for each column of y
        In the order of ``classes_``; rows sum to 1. For a y of several columns this is what
        scikit-learn's forests return; the probability of label k of a multi-label y is
        ``predict_proba(X)[k][:, 1]``.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        Before ``fit``, and for X that is not as documented.
    """
    self.check_is_fitted()
    return self._predict_proba(X)


@of_one_fit
def predict(self: PanelEstimator, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
    """Return the most probable class of each series.

    Parameters and errors as in `predict_proba`.

    Returns
    -------
    array of shape (n,) or (n, n_outputs), or DataFrame
        In the shape that y had in ``fit``; a frame if that was one with several columns.
    """
    self.check_is_fitted()
    return self._predict(X)


def score(self: PanelEstimator, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> float:
    """Return the accuracy of ``predict(X)``, optionally weighted.

    With several columns in y a prediction is right if it is right in all of them, as in scikit-learn.
    """
    y, sample_weight = self._for_score(X, y, sample_weight)
    predicted, y = self.predict(X), np.asarray(y)
    if np.ndim(predicted) == 1:
        return accuracy_score(y, predicted, sample_weight=sample_weight)
    if y.shape != predicted.shape:
        raise ValueError(f"y must have shape {predicted.shape}; got {y.shape}.")
    right = (y == np.asarray(predicted)).all(axis=1)
    return float(accuracy_score(np.ones_like(right), right, sample_weight=sample_weight))


def partial_fit(self: Estimator, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Estimator:
    """Train for one epoch of these series, continuing from what was learned before.

    The learning rate is constant, ``learning_rate`` and ``ssm_learning_rate``; ``max_epochs``,
    ``max_steps`` and ``warm_start`` are ignored. The first call learns the scales of values and time
    from its series, so give it a representative part of the data.

    Parameters
    ----------
    X, y, sample_weight : as in ``fit``
        Some of the series.
    classes : array (n_classes,), or a list of one for each column of y
        All classes that may occur; needed in the first call and the same, if given, in later ones.

    Returns
    -------
    self

    Raises
    ------
    TypeError, ValueError
        For arguments that are not as documented, labels that are not among the classes, and with
        ``early_stopping`` or ``class_weight="balanced"``, which need all series at once.
    """
    if isinstance(self.class_weight, str):
        raise ValueError(
            "class_weight='balanced' needs the labels of all series at once; for partial_fit give the "
            "weights as a dict."
        )
    if classes is None and not self._is_fitted:
        raise ValueError("classes must be passed on the first call to partial_fit.")
    fit_part(self, X, y, sample_weight, classes)
    return self
