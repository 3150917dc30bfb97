"""What belongs to series by their ids, and to channels by their names, whatever order it comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tsssm.estimators._checks import is_table
from tsssm.panel import Panel, panel_like, plain


def aligned(values: Any, panel: Panel, X: Any, name: str) -> Any:
    """Return targets, weights or groups in the order of the series, by the ids that their index holds.

    Parameters
    ----------
    values : anything
        What has no index, and what is indexed by 0, 1, 2, ... as pandas does unasked, is in the order of the
        series already, unless the ids are these numbers. Tensors become arrays.
    panel : Panel
        The series; without ids, everything is in their order.
    X : anything
        What the panel was made of. The rows of a flat table go by their position, as in scikit-learn.
    name : str
        What error messages call the values.

    Raises
    ------
    ValueError
        If the index holds some of the ids, others, or one more than once.
    """
    values = plain(values, name)
    ids = panel.ids
    if ids is None or not isinstance(values, (pd.Series, pd.DataFrame)) or is_table(X):
        return values
    index = values.index
    if index.nlevels > 1 or index.equals(ids):
        return values
    found = index.get_indexer(ids) if index.is_unique else None
    if found is not None and len(index) == len(ids) and ids.is_unique and (found >= 0).all():
        return values.iloc[found]
    if index.equals(pd.RangeIndex(len(index))):
        return values
    missing, other = ids[~ids.isin(index)], index[~index.isin(ids)]
    told = [
        f"{what} {labels[:1].tolist()[0]!r}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''}"
        for what, labels in (("it lacks", missing), ("X lacks", other))
        if len(labels)
    ]
    raise ValueError(
        f"The index of {name} must hold the ids of X, once each: {', '.join(told) or 'some occur twice'}. If "
        f"{name} is in the order of the series, pass {name}.to_numpy()."
    )


def matched(
    panel: Panel, fitted: tuple[str, ...] | None, n_channels: int, estimator: str, *, lacking: str = "error"
) -> Panel:
    """Return the panel with its channels in the order of ``fit``, by name where both have names.

    Parameters
    ----------
    panel : Panel
    fitted : tuple of str or None
        Names of the channels in ``fit``.
    n_channels : int
        Number of them.
    estimator : str
        What error messages call the model.
    lacking : {"error", "nan"}
        What a channel is that the panel lacks, if it has some of them and no others: an error, or missing.

    Raises
    ------
    ValueError
        If there are others, fewer or more, or if names that occur twice are in another order.
    """
    given = panel.channel_names
    named = given is not None and fitted is not None
    if panel.n_channels == n_channels and (not named or given == fitted):
        return panel
    if given is None or fitted is None:
        raise ValueError(
            f"X has {panel.n_channels} channel(s), but {estimator} was fitted with {n_channels}"
            f"{'' if fitted is None else f': {list(fitted)}'}."
        )
    absent, unknown = [c for c in fitted if c not in given], [c for c in given if c not in fitted]
    unique = len(set(fitted)) == len(fitted) and len(set(given)) == len(given)
    if not absent and not unknown and unique:
        return panel.select(fitted)
    if lacking == "nan" and len(absent) < len(fitted) and not unknown and unique:
        return _with_missing(panel, fitted)
    told = [f"{text} {names}" for text, names in (("it lacks", absent), ("unknown are", unknown)) if names]
    what = ", ".join(told) or f"got {list(given)}"
    if panel.n_channels != n_channels:
        hint = "" if unknown else " missing_channels='nan' reads them as missing values."
        count = f"X has {panel.n_channels} channel(s), but {estimator} was fitted with {n_channels}"
        raise ValueError(f"{count}: {what}.{hint}")
    raise ValueError(f"The channels of X must have the names that they had in fit, {list(fitted)}; {what}.")


def _with_missing(panel: Panel, names: tuple[str, ...]) -> Panel:
    """Return the panel with channels of these names, NaN where it has none."""
    values = np.full((len(panel.values), len(names)), np.nan, dtype=panel.values.dtype)
    values[:, [names.index(name) for name in panel.channel_names or ()]] = panel.values
    return panel_like(panel, values, names)
