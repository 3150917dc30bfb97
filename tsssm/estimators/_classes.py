"""Classes as targets: signs for a ridge regression; codes and cross-entropy for a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional as F

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
from tsssm.estimators._recipes import Recipe
from tsssm.estimators._targets import Targets
from tsssm.features import fit_slope
from tsssm.panel import warn_of_data
from tsssm.persistence import Fields

Self = TypeVar("Self", bound="Classes")


class Classes(Targets):
    """Classes in one column of y or several, for a ridge regression.

    Attributes
    ----------
    listed : list of array (n_classes,)
        The classes of each column, sorted.
    columns : list or None
        Names of the columns, if y was a frame of several.
    slopes : list of float
        How much the decision values of each column say.
    """

    are_classes = True
    parameters = ("class_weight",)
    holds = {
        "listed": "list of arrays: the classes of each column of y, sorted",
        "columns": "list of the names of several columns of a frame, or null",
        "slopes": "list of numbers, with a ridge regression: its decision values of a column, multiplied by "
        "this, are logits",
    }

    class_weight: str | Mapping[Any, float] | list[Mapping[Any, float]] | None
    listed: list[npt.NDArray[Any]]
    columns: list[Any] | None
    slopes: list[float]

    @classmethod
    def read(cls: type[Self], fields: Fields) -> Self:
        targets = cls()
        listed, columns = fields.take("listed"), fields.take("columns")
        if type(listed) is not list or not listed or not all(are_classes(labels) for labels in listed):
            raise fields.refuse("listed", "sorted arrays of labels, one for each column of y", listed)
        if columns is not None and (
            type(columns) is not list or len(listed) == 1 or len(columns) != len(listed)
        ):
            raise fields.refuse("columns", f"None or the names of {len(listed)} columns", columns)
        targets.listed, targets.columns = listed, columns
        if fields.given("slopes"):
            targets.slopes = fields.numbers("slopes", len(listed))
            if not all(0 < slope < np.inf for slope in targets.slopes):
                raise fields.refuse("slopes", "positive and finite", targets.slopes)
        return targets

    @property
    def calibrated(self) -> bool:
        return hasattr(self, "slopes")

    def shown(self) -> dict[str, Any]:
        """``classes_`` and ``n_classes_``, as scikit-learn has them, and what sktime needs of them."""
        if self.several:
            return {"classes_": self.listed, "n_classes_": [len(labels) for labels in self.listed]}
        (classes,) = self.listed
        dictionary = {label: code for code, label in enumerate(classes)}
        return {"classes_": classes, "n_classes_": len(classes), "_class_dictionary": dictionary}

    @property
    def several(self) -> bool:
        """Whether y has several columns."""
        return len(self.listed) > 1

    @property
    def n_columns(self) -> int:
        """Number of columns of y."""
        return len(self.listed)

    @property
    def single(self) -> bool:
        return sum(map(len, self.listed)) == 1

    @property
    def n_ridge(self) -> int:
        """Number m of outputs of a ridge regression."""
        return sum(_width(len(classes)) for classes in self.listed)

    def check(self, y: Any, classes: Any = None, *, reset: bool) -> npt.NDArray[Any]:
        labels = checked_labels(y)
        columns = as_columns(labels)
        if reset:
            self.listed = column_classes(labels) if classes is None else listed_classes(classes, columns)
            several = isinstance(y, pd.DataFrame) and len(columns) > 1
            self.columns = list(y.columns) if several else None
        elif classes is not None:
            check_same_classes(listed_classes(classes, columns), self.listed)
        check_known(columns, self.listed)
        return labels

    def warn_of_one(self, estimator: Any, what: str) -> None:
        if self.single:
            warn_of_data(
                f"only single label seen in y passed to fit of classifier {type(estimator).__name__}; it "
                f"will be predicted for every {what}.",
                UserWarning,
            )

    def weights(self, y: npt.NDArray[Any], y_train: npt.NDArray[Any]) -> FloatArray:
        if self.class_weight is None:
            return np.ones(len(y))
        return class_weights(self.class_weight, y, y_train)

    def codes(self, y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Numbers (n, n_columns) of the classes."""
        codes = [np.searchsorted(*pair) for pair in zip(self.listed, as_columns(y), strict=True)]
        return np.stack(codes, axis=1)

    def ridge(self, y: npt.NDArray[Any]) -> FloatArray:
        """Targets (n, m) of a ridge regression: +1 for a class and -1 for the others."""
        columns = zip(self.codes(y).T, self.listed, strict=True)
        return np.concatenate([_signs(codes, len(classes)) for codes, classes in columns], axis=1)

    def by_class(self, outputs: FloatArray) -> list[FloatArray]:
        """Split outputs (n, m) of a ridge regression into decision values (n, n_classes) a column of y."""
        sizes = [_width(len(classes)) for classes in self.listed]
        parts = np.split(outputs, np.cumsum(sizes)[:-1], axis=1)
        return [
            np.concatenate([-part, part], axis=1) if len(classes) == 2 else part
            for part, classes in zip(parts, self.listed, strict=True)
        ]

    def starts(self, outputs: FloatArray) -> list[FloatArray]:
        """Logits (n, n_classes) that outputs (n, m) of a ridge regression stand for, a column of y."""
        decisions = zip(self.by_class(outputs), self.slopes, strict=True)
        return [slope * decision for decision, slope in decisions]

    def calibrate(self, left_out: FloatArray, y: npt.NDArray[Any], weight: FloatArray) -> None:
        """Learn from outputs (n, m) of fits without a series how much decision values say, a column of y."""
        columns = zip(self.by_class(left_out), self.codes(y).T, strict=True)
        self.slopes = [fit_slope(decision, codes, weight) for decision, codes in columns]

    def answers(self, outputs: FloatArray) -> FloatArray | list[FloatArray]:
        """Probabilities (n, n_classes) that outputs stand for, a list of them for several columns."""
        columns = [softmax(logits, axis=1) for logits in self.starts(outputs)]
        return columns if self.several else columns[0]

    def most_likely(self, scores: list[FloatArray]) -> npt.NDArray[Any] | pd.DataFrame:
        """Labels of the largest score, of scores (n, n_classes) for each column of y, in the shape of y."""
        chosen = [classes[column.argmax(axis=1)] for classes, column in zip(self.listed, scores, strict=True)]
        if not self.several:
            return chosen[0]
        if self.columns is not None:
            return pd.DataFrame(dict(enumerate(chosen))).set_axis(self.columns, axis=1)
        return side_by_side(chosen)


class NetworkClasses(Classes):
    """Classes for a network, which has one output for each, and a softmax for every column of y."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network."""
        return sum(map(len, self.listed))

    def encoded(self, y: npt.NDArray[Any]) -> Tensor:
        """Targets (n, n_columns) of the loss."""
        return torch.as_tensor(self.codes(y))

    def strata(self, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What a validation split should cover evenly (n,): the combinations of classes."""
        return np.unique(self.codes(y), axis=0, return_inverse=True)[1].reshape(-1)

    def loss_of(self, outputs: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
        """Cross-entropy (batch,), the mean over the columns of y."""
        sizes = [len(classes) for classes in self.listed]
        losses = [
            F.cross_entropy(logits, codes, reduction="none", label_smoothing=recipe.label_smoothing)
            for logits, codes in zip(outputs.split(sizes, dim=1), target.unbind(dim=1), strict=True)
        ]
        return torch.stack(losses).mean(dim=0)

    def by_column(self, outputs: FloatArray) -> list[FloatArray]:
        """Split outputs (n, n_outputs) of the network into logits (n, n_classes) for each column of y."""
        sizes = [len(classes) for classes in self.listed]
        return np.split(outputs, np.cumsum(sizes)[:-1], axis=1)

    def weigh(
        self,
        left_out: FloatArray,
        outputs: FloatArray | None,
        y: npt.NDArray[Any],
        weight: FloatArray,
        *pull: Any,
    ) -> FloatArray:
        """Weights (n_columns, 2) of a ridge regression and of the network.

        From what each says of series that it has not seen: ``left_out`` (n, m) of the ridge and ``outputs``
        (n, n_outputs) of the network; without the latter, both count alike. ``pull`` is that of `pull_of`.
        """
        self.calibrate(left_out, y, weight)
        if outputs is None:
            return np.tile(ALIKE, (self.n_columns, 1))
        columns = zip(self.starts(left_out), self.by_column(outputs), self.codes(y).T, strict=True)
        return np.array([logit_weights(start, own, codes, weight, *pull) for start, own, codes in columns])

    def blended(self, closed_form: FloatArray, outputs: FloatArray, blend: FloatArray) -> FloatArray:
        """Outputs (n, n_outputs) of both, from those (n, m) of the ridge and those of the network."""
        columns = zip(self.starts(closed_form), self.by_column(outputs), blend, strict=True)
        return np.concatenate([a * start + b * logits for start, logits, (a, b) in columns], axis=1)

    def answers(self, outputs: FloatArray) -> FloatArray | list[FloatArray]:
        columns = [_softmax(logits) for logits in self.by_column(outputs)]
        return columns if self.several else columns[0]


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
