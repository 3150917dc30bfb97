"""Class labels, in one column or several: what they may be, and which classes there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from tsssm.estimators._checks import FloatArray

Labels = npt.NDArray[Any]


def checked_labels(y: Any) -> npt.NDArray[Any]:
    """Return class labels (n,), nullable pandas columns in their NumPy dtype; (n, n_outputs) for several.

    Raises
    ------
    TypeError
        For sparse matrices.
    ValueError
        For labels that are missing, infinite, continuous, or neither one nor a fixed number per series.
    """
    if issparse(y):
        raise TypeError(f"y must be dense; got a sparse matrix of shape {y.shape}. Pass y.toarray().")
    if isinstance(y, pd.DataFrame):
        if y.shape[1] == 0:
            raise ValueError(f"y must have at least one column; got shape {y.shape}.")
        _refuse_missing(y.isna().to_numpy())
        # sktime passes one-column frames as a matter of course.
        columns = [_column_of_labels(y.iloc[:, j]) for j in range(y.shape[1])]
        return columns[0] if len(columns) == 1 else side_by_side(columns)
    if not isinstance(y, pd.Series) and not hasattr(y, "dtype"):
        # As objects: next to strings NumPy would turn NaN into the label "nan".
        _refuse_missing(pd.isna(np.asarray(y, dtype=object)))
        y = np.asarray(y)
    if len(np.shape(y)) > 2:
        raise ValueError(f"y must have shape (n,) or (n, n_outputs); got {np.shape(y)}.")
    if len(np.shape(y)) == 2 and np.shape(y)[1] > 1:
        y = np.asarray(y)
        _refuse_missing(pd.isna(y))
        return side_by_side([_column_of_labels(column) for column in as_columns(y)])
    return _column_of_labels(y)


def _column_of_labels(y: Any) -> npt.NDArray[Any]:
    _refuse_missing(np.asarray(pd.isna(y)))
    if isinstance(y, pd.Series) and hasattr(y.dtype, "numpy_dtype"):
        y = y.to_numpy(dtype=y.dtype.numpy_dtype)
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y")
    try:
        check_classification_targets(y)
    except ValueError as error:
        raise ValueError(f"y must hold class labels, got dtype {y.dtype}. {error}") from error
    return y


def side_by_side(columns: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return columns (n,) as an array (n, n_columns), of objects unless they have one kind of label."""
    one_kind = len({column.dtype.kind for column in columns}) == 1
    return np.stack(columns if one_kind else [column.astype(object) for column in columns], axis=1)


def _refuse_missing(missing: npt.NDArray[np.bool_]) -> None:
    if missing.any():
        first = int(np.argmax(missing.reshape(len(missing), -1).any(axis=1)))
        raise ValueError(
            f"Input y contains NaN: {int(missing.sum())} missing label(s), the first at position {first}. "
            "Leave these series out of X and y."
        )


def class_weights(class_weight: Any, y: npt.NDArray[Any], y_train: npt.NDArray[Any]) -> FloatArray:
    """Return the weight (n,) that the class of each of y has among y_train.

    Raises
    ------
    ValueError
        For weights that are negative or not finite.
    """
    rows = np.arange(len(y_train))
    both = np.concatenate([y_train, y])
    weight = compute_sample_weight(class_weight, both, indices=rows if class_weight == "balanced" else None)
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(f"class_weight must hold finite weights of at least 0; got {class_weight!r}.")
    return weight[len(y_train) :]


def as_columns(y: Labels) -> list[Labels]:
    """Return the columns (n,) of labels (n,) or (n, n_columns), those of objects in a type of their own."""
    if y.ndim == 1:
        return [y]
    return [np.array(column.tolist()) if column.dtype == object else column for column in y.T]


def column_classes(y: Labels) -> list[Labels]:
    """Return the sorted classes of each column.

    Every column of a multi-label indicator has both of its values, whether they occur in it or not.
    """
    numbers = y.ndim == 2 and y.dtype.kind in "biuf"
    if numbers and type_of_target(y) == "multilabel-indicator" and len(np.unique(y)) == 2:
        return [np.unique(y)] * y.shape[1]
    return [np.unique(column) for column in as_columns(y)]


def listed_classes(classes: Any, columns: list[Labels]) -> list[Labels]:
    """Return the classes that the user lists for columns of labels, sorted.

    Raises
    ------
    ValueError
        If they are not one array, or one for each of several columns.
    """
    if len(columns) == 1:
        return [np.unique(checked_labels(classes))]
    if not isinstance(classes, (list, tuple)) or len(classes) != len(columns):
        raise ValueError(
            f"classes must be a list of {len(columns)} arrays, one for each column of y; got {classes!r}."
        )
    return [np.unique(checked_labels(labels)) for labels in classes]


def are_classes(labels: Any) -> bool:
    """Whether this is an array of sorted and different labels, such as `column_classes` makes."""
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.size == 0:
        return False
    if labels.dtype.kind not in "biufUO":
        return False
    try:
        return bool(pd.notna(labels).all()) and bool((labels[:-1] < labels[1:]).all())
    except TypeError:  # labels that cannot be compared
        return False


def check_same_classes(given: list[Labels], fitted: list[Labels]) -> None:
    """Raise ValueError unless the classes are those of the first fit."""
    if [labels.tolist() for labels in given] != [labels.tolist() for labels in fitted]:
        raise ValueError(
            f"classes must be those of the first call, {[labels.tolist() for labels in fitted]}; got "
            f"{[labels.tolist() for labels in given]}."
        )


def check_known(columns: list[Labels], classes: list[Labels]) -> None:
    """Raise ValueError for another number of columns, and for labels that are not among the classes."""
    if len(columns) != len(classes):
        raise ValueError(f"y has {len(columns)} column(s), but the estimator was fitted with {len(classes)}.")
    for labels, known in zip(columns, classes, strict=True):
        unknown = np.setdiff1d(labels, known)
        if unknown.size:
            raise ValueError(
                f"y has labels that are not among the classes {known.tolist()}: {unknown.tolist()[:5]}."
            )
