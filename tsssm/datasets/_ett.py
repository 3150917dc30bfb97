"""Electricity transformer temperature: forecasting of two years of load and oil temperature."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from tsssm.datasets._bunch import checked_choice, checked_part, result
from tsssm.datasets._files import Store

_PER_HOUR = {"ETTh1": 1, "ETTh2": 1, "ETTm1": 4, "ETTm2": 4}
_DAYS = {"train": 12 * 30, "validation": 4 * 30, "test": 4 * 30}  # months of 30 days, as in the paper's code
_LOADS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL"]


def fetch_ett(
    name: str = "ETTh1",
    *,
    part: str = "all",
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch oil temperature and loads of an electricity transformer over two years.

    Parameters
    ----------
    name : {"ETTh1", "ETTh2", "ETTm1", "ETTm2"}, default="ETTh1"
        Two transformers, every hour or every 15 minutes.
    part : {"all", "train", "validation", "test"}, default="all"
        The split that published figures use: 12, 4 and 4 months of 30 days, one after another. The rest,
        which they leave out, is in "all" only.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data``, a frame (length, 6) of the useful and useless loads with a DatetimeIndex; ``target``, a
        Series (length,) of the oil temperature in degrees Celsius; ``frame``, both; ``part`` (length,),
        "rest" after the 20 months; ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown name or part, and a file with other columns.
    FileNotFoundError, ConnectionError
        Where the file is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    Zhou et al., Informer, AAAI 2021, arXiv 2012.07436.
    """
    checked_choice(name, "name", tuple(_PER_HOUR))
    checked_part(part, tuple(_DAYS))
    path = Store(data_home, download_if_missing).get("ett", f"{name}.csv")
    frame = pd.read_csv(path)
    if list(frame.columns) != ["date", *_LOADS, "OT"]:
        raise ValueError(
            f"{path} must have the columns date, {', '.join(_LOADS)}, OT; got {list(frame.columns)}."
        )
    frame = frame.assign(date=pd.to_datetime(frame["date"])).set_index("date")
    parts = np.full(len(frame), "rest", dtype="<U10")
    start = 0
    for which, days in _DAYS.items():
        end = start + days * 24 * _PER_HOUR[name]
        parts[start:end] = which
        start = end
    return result(
        "ett",
        frame[_LOADS],
        frame["OT"],
        return_X_y=return_X_y,
        feature_names=_LOADS,
        parts=parts,
        part=part,
        of_series={"frame": frame},
    )
