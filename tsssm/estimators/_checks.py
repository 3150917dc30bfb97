"""What fit is given besides series and targets: tables, weights, seeds, and the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_scalar
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def is_table(X: Any) -> bool:
    """Whether X has one row a series and one column a sample.

    That is an array (n, length), a frame of numbers, or a list of n lists of as many numbers.
    """
    if isinstance(X, pd.DataFrame):
        return not isinstance(X.index, pd.MultiIndex) and is_scalar(X.iat[0, 0])
    if isinstance(X, (list, tuple)):
        rows = all(isinstance(row, (list, tuple)) and is_scalar(row[0]) for row in X)
        return rows and len({len(row) for row in X}) == 1
    return not isinstance(X, Panel) and np.asarray(X).ndim == 2


def checked_weights(sample_weight: npt.ArrayLike | None, panel: Panel) -> FloatArray:
    """Return the weights (n,) as float64, ones by default.

    Raises
    ------
    ValueError
        For weights of another shape, negative or not finite.
    """
    if sample_weight is None:
        return np.ones(len(panel))
    return _check_sample_weight(sample_weight, panel, dtype=np.float64, ensure_non_negative=True)


def checked_labels(y: Any) -> npt.NDArray[Any]:
    """Return class labels (n,), nullable pandas columns in their NumPy dtype.

    Raises
    ------
    ValueError
        For labels that are missing, infinite, continuous or not one a series.
    """
    # sktime passes one-column frames as a matter of course; scikit-learn warns about column vectors.
    warn = not isinstance(y, pd.DataFrame)
    if isinstance(y, pd.DataFrame) and y.shape[1] == 1:
        y = y.iloc[:, 0]
    # As objects: next to strings NumPy would turn NaN into the label "nan".
    missing = pd.isna(y if hasattr(y, "dtype") else np.asarray(y, dtype=object))
    if missing.any():
        raise ValueError(
            f"Input y contains NaN: {int(missing.sum())} missing label(s), the first at position "
            f"{int(np.argmax(missing))}. Leave these series out of X and y."
        )
    if isinstance(y, pd.Series) and hasattr(y.dtype, "numpy_dtype"):
        y = y.to_numpy(dtype=y.dtype.numpy_dtype)
    y = column_or_1d(y, warn=warn)
    assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    return y


def class_weights(class_weight: str | Mapping[Any, float], y: npt.NDArray[Any]) -> FloatArray:
    """Return the weight of the class of each series (n,); ValueError if negative or not finite."""
    weight = compute_sample_weight(class_weight, y)
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(f"class_weight must hold finite weights of at least 0; got {class_weight!r}.")
    return weight


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


def split(
    rows: IntArray, strata: npt.NDArray[Any], fraction: float, seed: int, *, classes: bool
) -> tuple[IntArray, IntArray]:
    """Split rows into a training and a validation part that both cover the strata evenly.

    The rows are put in order of their stratum, at random within it, and every (1 / fraction)-th is held out;
    so classes, or small and large targets, keep their shares. Of ``classes``, one row each stays in training.
    """
    rng = np.random.RandomState(seed)
    order = rows[rng.permutation(len(rows))]
    order = order[np.argsort(strata[order], kind="stable")]
    if classes:
        order = np.delete(order, np.unique(strata[order], return_index=True)[1])
    count = max(1, round(fraction * len(rows)))
    if count >= len(rows) or len(order) < count:
        raise ValueError(
            f"early_stopping needs more series: validation_fraction={fraction} of {len(rows)} series leaves "
            f"nothing {'of some class ' if classes else ''}to train on."
        )
    picks = np.floor((np.arange(count) + rng.uniform()) * len(order) / count).astype(np.int64)
    held_out = order[picks]
    return np.setdiff1d(rows, held_out), np.sort(held_out)
