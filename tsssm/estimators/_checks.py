"""What fit is given besides series and targets: tables, weights, groups and seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_scalar
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight

from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def is_table(X: Any) -> bool:
    """Whether X has one row per series and one column per sample.

    That is an array (n, length), a frame of numbers, or a list of n lists of as many numbers.
    """
    if isinstance(X, pd.DataFrame):
        return not isinstance(X.index, pd.MultiIndex) and is_scalar(X.iat[0, 0])
    if isinstance(X, (list, tuple)):
        rows = all(isinstance(row, (list, tuple)) and is_scalar(row[0]) for row in X)
        return rows and len({len(row) for row in X}) == 1
    # Tensors with a gradient do not become arrays unasked.
    return not isinstance(X, Panel) and (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) == 2


def check_there(y: Any, estimator: str) -> None:
    """Raise ValueError, in the words of scikit-learn, where there are no targets."""
    if y is None:
        raise ValueError(f"This {estimator} estimator requires y to be passed, but the target y is None.")


def check_one_each(y: Any, panel: Panel) -> None:
    """Check that y has one entry, or one row, for each series.

    Raises
    ------
    TypeError
        If y is a single value or no container at all.
    ValueError
        If it has another length than the panel.
    """
    shape = tuple(y.shape if hasattr(y, "shape") else np.asarray(y, dtype=object).shape)
    if not shape:
        raise TypeError(
            f"y must be an array, list or frame with one entry for each of the {len(panel)} series of X; got "
            f"{type(y).__name__}."
        )
    if shape[0] != len(panel):
        each = len(panel.values) > len(panel) and shape[0] == len(panel.values)
        hint = " y takes one entry for each series, not one for each of its samples." if each else ""
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {len(panel)} series, y has "
            f"shape {shape}.{hint}"
        )


def checked_weights(sample_weight: npt.ArrayLike | None, panel: Panel) -> FloatArray:
    """Return the weights (n,) as float64, ones by default.

    Raises
    ------
    TypeError
        For weights that are not numbers.
    ValueError
        For weights of another shape, negative, not finite, or zero for every series.
    """
    if sample_weight is None:
        return np.ones(len(panel))
    given = np.asarray(sample_weight)
    if given.dtype.kind not in "fiubO":
        raise TypeError(f"sample_weight must hold real numbers, got dtype {given.dtype}.")
    if given.ndim > 1:
        raise ValueError(f"sample_weight must have shape ({len(panel)},), got {given.shape}.")
    if not given.astype(bool).any():
        raise ValueError(f"sample_weight is zero for all of the {len(panel)} series; one has to be positive.")
    return _check_sample_weight(sample_weight, panel, dtype=np.float64, ensure_non_negative=True)


def checked_groups(groups: npt.ArrayLike | None, panel: Panel) -> npt.NDArray[Any] | None:
    """Return the groups (n,), None if there are none.

    Raises
    ------
    ValueError
        For groups that are not one per series, or missing.
    """
    if groups is None:
        return None
    labels: npt.NDArray[Any] = column_or_1d(groups)
    if len(labels) != len(panel):
        raise ValueError(f"groups must have one entry for each of {len(panel)} series; got {len(labels)}.")
    missing = np.asarray(pd.isna(labels))
    if missing.any():
        raise ValueError(
            f"groups has {int(missing.sum())} missing entries, the first at position "
            f"{int(np.argmax(missing))}."
        )
    return labels


def check_finite(outputs: npt.NDArray[Any], panel: Panel, what: str) -> npt.NDArray[Any]:
    """Return outputs (n, m) that are all finite, or raise FloatingPointError, which names the first series.

    Inputs are limited so that none should be; this is what tells if one is nevertheless.
    """
    if np.isfinite(outputs).all():
        return outputs
    rows = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    first = int(rows[0])
    label = "" if panel.ids is None else f", {panel.ids[[first]].tolist()[0]!r}"
    largest = np.nanmax(np.abs(panel[first].values), initial=0.0)
    raise FloatingPointError(
        f"The {what} of {len(rows)} of {len(panel)} series are NaN or infinite, first those of series {first}"
        f"{label}, whose values reach {largest:g}. Check it, and the training series, for extreme values."
    )


def check_validation(
    X_val: Any, y_val: Any, sample_weight_val: Any, groups: Any, early_stopping: bool
) -> None:
    """Raise ValueError for arguments of ``fit`` that contradict each other."""
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val must be given together; got only one of them.")
    if X_val is None and sample_weight_val is not None:
        raise ValueError("sample_weight_val was given, but X_val and y_val were not.")
    if X_val is not None and not early_stopping:
        raise ValueError("X_val and y_val need early_stopping=True; got False.")
    if X_val is not None and groups is not None:
        raise ValueError("groups must be None with X_val, because then no series of X are held out.")


@contextmanager
def errors_about(arguments: str) -> Iterator[None]:
    """Let errors of checks that speak of X and y say which other arguments they were made of."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"In {arguments}: {error}") from error


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Return a seed; None takes fresh entropy instead of NumPy's global generator.

    Raises
    ------
    ValueError
        For anything but None, an integer and a RandomState.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if not 0 <= random_state < 2**32:
            raise ValueError(f"random_state must be between 0 and 2**32 - 1; got {random_state!r}.")
        return int(np.random.RandomState(random_state).randint(2**31))
    raise ValueError(f"random_state must be None, an integer or a numpy RandomState; got {random_state!r}.")
