"""Predictions along time in the form of X."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.estimators._along_labels import AlongTime
from tsssm.panel import Panel


def arranged(
    values: npt.NDArray[Any], X: Any, at: AlongTime, *, array: bool, columns: Any = None, swap: bool = False
) -> Any:
    """Return predictions (m,), (m, k) or (m, k, q) in the form of X.

    Parameters
    ----------
    values : array (m,), (m, k) or (m, k, q)
    X : anything
        The series that they are for.
    at : AlongTime
        The times that were asked for.
    array : bool
        Whether series are the rows of one array.
    columns : list, optional
        Names of the k columns, or of k times q, for frames.
    swap : bool
        Whether arrays have the k columns before time, as channels of X.

    Returns
    -------
    array, Series, DataFrame or object array
        An array (n, length, ...) for one X; for a frame with an index (series, time) one with this index,
        else an object array with one array per series, or one pandas object where X has them.
    """
    if isinstance(X, pd.DataFrame) and X.index.nlevels == 2 and at.times is None:
        return _framed(values, X.index, columns)
    n = len(at.offsets) - 1
    swap = swap and values.ndim >= 2
    if array:
        stacked = values.reshape(n, -1, *values.shape[1:])
        return stacked.swapaxes(1, 2) if swap else stacked
    pieces = np.empty(n, dtype=object)
    for i in range(n):
        own = values[at.offsets[i] : at.offsets[i + 1]]
        frame = at.times is None and not isinstance(X, (Panel, pd.DataFrame)) and X[i]
        if isinstance(frame, (pd.Series, pd.DataFrame)):
            pieces[i] = _framed(own, frame.index, columns)
        else:
            pieces[i] = own.swapaxes(0, 1) if swap else own
    return pieces


def _framed(values: npt.NDArray[Any], index: pd.Index, columns: Any) -> Any:
    if values.ndim == 1:
        return pd.Series(values, index=index)
    return pd.DataFrame(values.reshape(len(values), -1), index=index, columns=columns)
