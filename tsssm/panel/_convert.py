"""The converter that every estimator calls on X."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tsssm.panel._checks import Parts
from tsssm.panel._numbers import reject_sparse
from tsssm.panel._panel import Panel
from tsssm.panel._sources import (
    parts_from_arrays,
    parts_from_dataframes,
    parts_from_multiindex,
    parts_from_nested,
    parts_from_numpy,
    parts_from_table,
)
from tsssm.panel._times import Reading


def as_panel(X: Any, *, name: str = "X", counting_is_time: bool = False) -> Panel:
    """Return X as a :class:`Panel`, whatever container it came in.

    Parameters
    ----------
    X : one of
        - :class:`Panel`: returned as it is;
        - array (n, length): n series of one channel, or (n, channels, length); also anything with
          ``__array__`` such as a torch tensor; sktime calls the 3-D array ``numpy3D``;
        - list, tuple or object array of arrays (channels, length_i), or (length_i,) for one channel;
        - list, tuple or object array of DataFrames (length_i, channels) with a time index (``df-list``), or
          of pandas Series for one channel;
        - DataFrame with a two-level index (series, time), sktime's ``pd-multiindex``;
        - DataFrame (n, channels) whose cells are pandas Series or 1-D arrays, sktime's ``nested_univ``;
        - DataFrame (n, length) of numbers: one row per series of one channel, as scikit-learn users pass it.
    name : str, default="X"
        What error messages call the argument.
    counting_is_time : bool, default=False
        Whether an index that counts 0, 1, 2, ... in every series holds times. Estimators that were fitted
        with times say so in ``predict``, so that a series is read alike whatever the other series are.

    Returns
    -------
    Panel
        Shares memory with X where X is already C-contiguous float32 in the panel's layout; X is never
        written.

    Raises
    ------
    TypeError
        For sparse matrices, strings, dates among the values, objects that are not numbers, containers that
        are not listed above, and a time index of strings or categories.
    ValueError
        For 0-D, 1-D and more than 3-D arrays, complex numbers, infinity and values too large for float32,
        0 series, 0 channels, a series of length 0, series with different channels, and times that are missing
        or decrease within a series.

    Notes
    -----
    NaN means missing. Trailing NaN in a rectangular array are missing samples; they do not shorten a series.

    Times: an index of dates or periods becomes seconds since the first stamp of its series, an index of time
    differences becomes seconds; an index of numbers is taken as it is, in an unknown unit; where every series
    counts 0, 1, 2, ... there are no times, unless ``counting_is_time``, and samples lie on a regular grid.

    Labels of the series (the first level of a two-level index, the index of a nested or numeric frame unless
    it counts 0, 1, 2, ...) become ``ids`` of the panel.

    Examples
    --------
    >>> import numpy as np
    >>> as_panel([np.zeros((2, 5)), np.ones((2, 3))])
    Panel(2 series, 2 channels, length 3-4-5 (min-median-max), 0 % missing, no times)
    """
    if isinstance(X, Panel):
        if len(X) == 0:
            raise ValueError(f"Found {name} with 0 sample(s) while a minimum of 1 is required.")
        return X
    return Panel._from_parts(_parts(X, Reading(counting_is_time=counting_is_time), name), name)


def _parts(X: Any, reading: Reading, name: str) -> Parts:
    if isinstance(X, pd.DataFrame):
        return _parts_of_frame(X, reading, name)
    reject_sparse(X, name)  # before the next line: SciPy's dok_matrix is a dict
    if isinstance(X, (str, bytes, dict, set, frozenset)) or X is None or hasattr(X, "__next__"):
        raise TypeError(
            f"{name} must be a Panel, an array (n, length) or (n, channels, length), a list of arrays or "
            f"DataFrames, or a DataFrame; got {type(X).__name__}."
        )
    if hasattr(X, "data_vars"):
        raise TypeError(
            f"{name} is an xarray Dataset, whose variables have no order; pass an array: "
            f"{name}.to_dataarray().transpose(series, 'variable', time)."
        )
    if isinstance(X, (list, tuple)) and len(X) == 0:
        raise ValueError(f"Found {name} with 0 sample(s) while a minimum of 1 is required.")
    if isinstance(X, (list, tuple)) or _is_object_array(X):
        items = list(X)
        if isinstance(items[0], (pd.DataFrame, pd.Series)):
            return parts_from_dataframes(items, reading, name)
        if not np.isscalar(items[0]) and items[0] is not None:
            return parts_from_arrays(items, None, None, name)
    return parts_from_numpy(X, None, None, name)


def _parts_of_frame(df: pd.DataFrame, reading: Reading, name: str) -> Parts:
    if df.index.nlevels == 2:
        return parts_from_multiindex(df, reading, name)
    if df.index.nlevels > 2:
        raise ValueError(
            f"{name} has a {df.index.nlevels}-level index; two levels (series, time) are expected. Join the "
            "outer levels into one label per series first."
        )
    if len(df) and any(
        _is_series(df.iloc[0, j]) for j in np.flatnonzero([dtype.kind == "O" for dtype in df.dtypes])
    ):
        return parts_from_nested(df, reading, name)
    return parts_from_table(df, name)


def _is_object_array(X: Any) -> bool:
    return isinstance(X, (np.ndarray, pd.Series)) and X.dtype.kind == "O" and X.ndim == 1 and len(X) > 0


def _is_series(cell: Any) -> bool:
    return isinstance(cell, (pd.Series, np.ndarray, list, tuple))
