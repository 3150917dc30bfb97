"""What all displays share: matplotlib on first use, axes to draw on, and labels with units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsssm.backbone import Backbone
from tsssm.training import members_of


def axes_for(ax: Any, rows: int, height: float) -> tuple[Any, list[Any]]:
    """A figure and ``rows`` axes one above the other that share their time axis: those given, or new ones.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If ``ax`` holds another number of axes.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("tsssm.plotting needs matplotlib: pip install 'tsssm[plot]'") from error
    if ax is None:
        size = (8.0, height * rows)
        figure, new = plt.subplots(rows, 1, sharex=True, figsize=size, layout="constrained", squeeze=False)
        return figure, list(new[:, 0])
    given = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(given) != rows:
        raise ValueError(f"ax must hold {rows} axes, one for each row that is drawn; got {len(given)}.")
    return given[0].figure, given


def networks_of(estimator: Any, display: str) -> list[Backbone]:
    """The networks of a fitted estimator, all of one shape.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it trains no network.
    ValueError
        If it saw a single class, and so trained none.
    """
    if not hasattr(estimator, "backbone"):
        raise TypeError(f"{display} is for estimators that train a network; got {type(estimator).__name__}.")
    estimator.check_is_fitted()
    if estimator.net_ is None:
        raise ValueError("the estimator saw a single class in fit, and has no network.")
    return members_of(estimator.net_)


def time_label(unit: str | None, has_times: bool = True) -> str:
    """Label of an axis of time."""
    if not has_times:
        return "sample"
    return f"time ({unit})" if unit else "time"


def unit_of(estimator: Any) -> str:
    """Unit in which an estimator counts time: that of the training series, or samples."""
    encoder = estimator.encoder_
    if not encoder.has_times:
        return "samples"
    return encoder.time_unit or "units of time"


def chosen(wanted: int | Sequence[int] | None, n: int, most: int, name: str) -> list[int]:
    """Numbers below ``n``: those wanted, or the first ``most``.

    Raises
    ------
    IndexError
        For a number that is out of range.
    """
    numbers = list(range(min(n, most))) if wanted is None else np.atleast_1d(wanted).tolist()
    for number in numbers:
        if not -n <= number < n:
            raise IndexError(f"{name}={number} is out of range for {n}.")
    return [number % n for number in numbers]
