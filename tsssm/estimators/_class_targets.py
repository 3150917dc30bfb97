"""Classes as targets of a network: codes, cross-entropy, weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor
from torch.nn import functional as F

from tsssm.encoding import PanelEncoder
from tsssm.estimators._base import of_one_fit
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._closed_form import ALIKE, logit_weights
from tsssm.estimators._labels import (
    are_classes,
    as_columns,
    check_known,
    check_same_classes,
    checked_labels,
    class_weights,
    column_classes,
    listed_classes,
    side_by_side,
)
from tsssm.estimators._recipes import recipe_of
from tsssm.features import fit_slope
from tsssm.persistence import Fields


class ClassTargets:
    """Mixin in front of `SSMEstimator` for targets that are classes, in one column or several.

    The network has one output per class, and every column its own softmax.
    """

    class_weight: str | Mapping[Any, float] | list[Mapping[Any, float]] | None
    label_smoothing: float | str
    encoder_: PanelEncoder

    classes_: Any
    n_classes_: Any
    _y_columns: list[Any] | None
    blend_: Any
    _slopes: list[float]
    _targets_are_classes = True

    def _checked_targets(self, y: Any, classes: Any, *, reset: bool) -> npt.NDArray[Any]:
        labels = checked_labels(y)
        columns = as_columns(labels)
        if reset:
            self._set_classes(column_classes(labels) if classes is None else listed_classes(classes, columns))
            several = isinstance(y, pd.DataFrame) and len(columns) > 1
            self._y_columns = list(y.columns) if several else None
        elif classes is not None:
            check_same_classes(listed_classes(classes, columns), self._column_classes())
        check_known(columns, self._column_classes())
        return labels

    def _set_classes(self, classes: list[npt.NDArray[Any]]) -> None:
        if len(classes) == 1:
            self.classes_, self.n_classes_ = classes[0], len(classes[0])
            self._class_dictionary = {label: code for code, label in enumerate(classes[0])}
        else:
            self.classes_, self.n_classes_ = classes, [len(labels) for labels in classes]

    def _restore(self, fields: Fields) -> None:
        classes, columns = fields.take("classes_"), fields.take("_y_columns")
        listed = classes if isinstance(classes, list) and len(classes) > 1 else [classes]
        if not all(are_classes(labels) for labels in listed):
            raise fields.refuse("classes_", "sorted arrays of labels, one for each column of y", classes)
        self._set_classes(listed)
        fields.exactly("n_classes_", self.n_classes_)
        if columns is not None and (
            type(columns) is not list or len(listed) == 1 or len(columns) != len(listed)
        ):
            raise fields.refuse("_y_columns", f"None or the names of {len(listed)} columns", columns)
        self._y_columns = columns
        super()._restore(fields)  # type: ignore[misc]

    def _restore_slopes(self, fields: Fields) -> None:
        self._slopes = fields.numbers("_slopes", self._n_columns())
        if not all(0 < slope < np.inf for slope in self._slopes):
            raise fields.refuse("_slopes", "positive and finite", self._slopes)

    def _n_columns(self) -> int:
        return len(self._column_classes())

    def _n_ridge_outputs(self) -> int:
        return sum(_width(len(classes)) for classes in self._column_classes())

    def _column_classes(self) -> list[npt.NDArray[Any]]:
        return self.classes_ if isinstance(self.classes_, list) else [self.classes_]

    def _class_weights(self, y: npt.NDArray[Any], y_train: npt.NDArray[Any]) -> FloatArray:
        if self.class_weight is None:
            return np.ones(len(y))
        return class_weights(self.class_weight, y, y_train)

    def _encoded_targets(self, y: npt.NDArray[Any]) -> Tensor:
        codes = [np.searchsorted(*pair) for pair in zip(self._column_classes(), as_columns(y), strict=True)]
        return torch.as_tensor(np.stack(codes, axis=1))

    def _ridge_targets(self, y: npt.NDArray[Any]) -> FloatArray:
        """Targets (n, m) of a ridge regression: +1 for a class and -1 for the others."""
        codes = self._encoded_targets(y).numpy().T
        columns = zip(codes, self._column_classes(), strict=True)
        return np.concatenate([_signs(column, len(classes)) for column, classes in columns], axis=1)

    def _by_class(self, outputs: FloatArray) -> list[FloatArray]:
        """Split outputs (n, m) of a ridge regression into decision values (n, n_classes) a column of y."""
        sizes = [_width(len(classes)) for classes in self._column_classes()]
        parts = np.split(outputs, np.cumsum(sizes)[:-1], axis=1)
        return [
            np.concatenate([-part, part], axis=1) if len(classes) == 2 else part
            for part, classes in zip(parts, self._column_classes(), strict=True)
        ]

    def _fit_slopes(self, left_out: FloatArray, y: npt.NDArray[Any], weight: FloatArray) -> None:
        """Learn from outputs (n, m) of fits without a series how much decision values say, a column of y."""
        columns = zip(self._by_class(left_out), self._encoded_targets(y).numpy().T, strict=True)
        self._slopes = [fit_slope(decision, codes, weight) for decision, codes in columns]

    def _weights_of(
        self,
        left_out: FloatArray,
        outputs: FloatArray | None,
        y: npt.NDArray[Any],
        weight: FloatArray,
        *pull: Any,
    ) -> FloatArray:
        self._fit_slopes(left_out, y, weight)
        if outputs is None:
            return np.tile(ALIKE, (len(self._column_classes()), 1))
        codes = self._encoded_targets(y).numpy().T
        columns = zip(self._starts(left_out), self._by_column(outputs), codes, strict=True)
        return np.array([logit_weights(start, own, column, weight, *pull) for start, own, column in columns])

    def _starts(self, outputs: FloatArray) -> list[FloatArray]:
        """Logits (n, n_classes) that outputs (n, m) of a ridge regression stand for, a column of y."""
        decisions = zip(self._by_class(outputs), self._slopes, strict=True)
        return [slope * decision for decision, slope in decisions]

    def _by_column(self, outputs: FloatArray) -> list[FloatArray]:
        """Split outputs (n, n_outputs) of the network into logits (n, n_classes) for each column of y."""
        sizes = [len(classes) for classes in self._column_classes()]
        return np.split(outputs, np.cumsum(sizes)[:-1], axis=1)

    def _blended(self, closed_form: FloatArray, outputs: FloatArray) -> FloatArray:
        columns = zip(self._starts(closed_form), self._by_column(outputs), self.blend_, strict=True)
        return np.concatenate([a * start + b * logits for start, logits, (a, b) in columns], axis=1)

    def _strata(self, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        codes = self._encoded_targets(y).numpy()
        return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)

    def _n_outputs(self) -> int:
        return sum(map(len, self._column_classes()))

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each series, the mean over the columns of y."""
        sizes = [len(classes) for classes in self._column_classes()]
        smoothing = recipe_of(self.encoder_, self).label_smoothing
        losses = [
            F.cross_entropy(logits, codes, reduction="none", label_smoothing=smoothing)
            for logits, codes in zip(outputs.split(sizes, dim=1), target.unbind(dim=1), strict=True)
        ]
        return torch.stack(losses).mean(dim=0)

    def _most_likely(self, columns: list[FloatArray]) -> npt.NDArray[Any] | pd.DataFrame:
        """Labels of the largest score, of scores (n, n_classes) for each column of y, in the shape of y."""
        chosen = [
            classes[scores.argmax(axis=1)]
            for classes, scores in zip(self._column_classes(), columns, strict=True)
        ]
        if not isinstance(self.classes_, list):
            return chosen[0]
        if self._y_columns is not None:
            return pd.DataFrame(dict(enumerate(chosen))).set_axis(self._y_columns, axis=1)
        return side_by_side(chosen)

    @of_one_fit
    def predict_proba(self, X: Any) -> FloatArray | list[FloatArray]:
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
        self.check_is_fitted()  # type: ignore[attr-defined]
        return self._predict_proba(X)  # type: ignore[attr-defined]

    @of_one_fit
    def predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        """Return the most probable class of each series.

        Parameters and errors as in `predict_proba`.

        Returns
        -------
        array of shape (n,) or (n, n_outputs), or DataFrame
            In the shape that y had in ``fit``; a frame if that was one with several columns.
        """
        self.check_is_fitted()  # type: ignore[attr-defined]
        return self._predict(X)  # type: ignore[attr-defined]

    def score(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the accuracy of ``predict(X)``, optionally weighted.

        With several columns in y a prediction is right if it is right in all of them, as in scikit-learn.
        """
        y, sample_weight = self._for_score(X, y, sample_weight)  # type: ignore[attr-defined]
        predicted, y = self.predict(X), np.asarray(y)
        if np.ndim(predicted) == 1:
            return accuracy_score(y, predicted, sample_weight=sample_weight)
        if y.shape != predicted.shape:
            raise ValueError(f"y must have shape {predicted.shape}; got {y.shape}.")
        right = (y == np.asarray(predicted)).all(axis=1)
        return float(accuracy_score(np.ones_like(right), right, sample_weight=sample_weight))

    def _answers(self, outputs: FloatArray) -> FloatArray | list[FloatArray]:
        """Probabilities that outputs (n, n_outputs) of the network stand for."""
        columns = [_softmax(logits) for logits in self._by_column(outputs)]
        return columns if isinstance(self.classes_, list) else columns[0]


def _softmax(logits: FloatArray) -> FloatArray:
    """Probabilities (n, n_classes); SciPy's takes longer than a streaming step of the network."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _width(n_classes: int) -> int:
    """Outputs of a ridge regression for so many classes: one tells two classes apart."""
    return 1 if n_classes == 2 else n_classes


def _signs(codes: npt.NDArray[np.int64], n_classes: int) -> FloatArray:
    """Targets +1 for the class and -1 for the others; for two classes only those of the second."""
    signs = np.where(codes[:, None] == np.arange(n_classes), 1.0, -1.0)
    return signs[:, 1:] if n_classes == 2 else signs
