"""Archives of many small sets with published splits: UCR, UEA and time series extrinsic regression."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_part, result
from tsssm.datasets._files import Store, members
from tsssm.datasets._formats import FloatArray, Series, class_labels, read_ts, read_tsv
from tsssm.datasets._registry import registry
from tsssm.panel import Panel

_PARTS = ("train", "test")


def fetch_ucr(
    name: str,
    *,
    part: str = "all",
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch a univariate set of the UCR archive, with the published split.

    Parameters
    ----------
    name : str
        Name in the archive, such as "GunPoint".
    part : {"all", "train", "test"}, default="all"
        Published part.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, 1, length) float32 as published (most sets are z-normalised), or a Panel where lengths
        differ; from the archive's own ``.tsv`` files, shorter series end in NaN instead. ``target`` (n,),
        int64 where all labels are whole numbers, else str; ``part`` (n,); ``feature_names``; ``groups`` None;
        ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    TypeError, ValueError
        For a name that is no text or a path, an unknown part, and files that cannot be read.
    FileNotFoundError, ConnectionError
        Where there is no such set; says where files come from and where to put them.

    References
    ----------
    Dau et al., IEEE/CAA Journal of Automatica Sinica 6(6), 2019, doi 10.1109/JAS.2019.1911747.
    """
    return _classification("ucr", name, part, return_X_y, Store(data_home, download_if_missing))


def fetch_uea(
    name: str,
    *,
    part: str = "all",
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch a multivariate set of the UEA archive, with the published split.

    Parameters
    ----------
    name : str
        Name in the archive, such as "NATOPS".
    part : {"all", "train", "test"}, default="all"
        Published part.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, channels, length) float32 as published, or a Panel where lengths differ; ``target`` (n,),
        int64 where all labels are whole numbers, else str; ``part`` (n,); ``feature_names``; ``groups`` None;
        ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    TypeError, ValueError
        For a name that is no text or a path, an unknown part, and ``.ts`` files with time stamps, without
        labels or with channels of unequal length within a series.
    FileNotFoundError, ConnectionError
        Where there is no such set; says where files come from and where to put them.

    References
    ----------
    Bagnall et al., arXiv 1811.00075, 2018.
    """
    return _classification("uea", name, part, return_X_y, Store(data_home, download_if_missing))


def fetch_tser(
    name: str,
    *,
    part: str = "all",
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch a set of the Monash, UEA and UCR archive of time series extrinsic regression.

    Parameters
    ----------
    name : str
        Name in the archive, such as "AppliancesEnergy".
    part : {"all", "train", "test"}, default="all"
        Published part.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, channels, length) float32 as published, NaN where missing, or a Panel where lengths
        differ; ``target`` (n,) float64; ``part`` (n,); ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    TypeError, ValueError
        As :func:`fetch_uea`, and for targets that are not numbers.
    FileNotFoundError, ConnectionError
        Where there is no such set; says where files come from and where to put them.

    References
    ----------
    Tan et al., Data Mining and Knowledge Discovery 35, 2021, doi 10.1007/s10618-021-00745-9.
    """
    _check_name(name)
    checked_part(part)
    records: dict[str, int] = registry()["tser"]["records"]
    store = Store(data_home, download_if_missing)
    read = {}
    for which in _wanted(part):
        repacked = _repacked("tser", name, which, store)
        if repacked is not None:
            read[which] = repacked
            continue
        file = f"{name}/{name}_{which.upper()}.ts"
        path = store.find("tser", file)
        if path is None:
            if name not in records:
                raise FileNotFoundError(
                    f"tser/{file} is not on this machine and no address is known for {name!r}; those with "
                    f"one are {', '.join(sorted(records))}. Put the file at FOLDER/tser/{file}, where the "
                    "environment variable TSSSM_DATA names FOLDER."
                )
            path = store.get("tser", file, record=records[name], base=f"{name}_{which.upper()}.ts")
        read[which] = read_ts(path.read_bytes(), str(path))
    labels = [label for _, values in read.values() for label in values]
    try:
        target = np.array(labels, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"the targets of {name} must be numbers: {error}.") from error
    return _assembled("tser", {which: series for which, (series, _) in read.items()}, target, return_X_y)


def _classification(collection: str, name: str, part: str, return_X_y: bool, store: Store) -> Any:
    _check_name(name)
    checked_part(part)
    read = {which: _read_part(collection, name, which, store) for which in _wanted(part)}
    labels = [label for _, values in read.values() for label in values]
    series = {which: values for which, (values, _) in read.items()}
    return _assembled(collection, series, class_labels(labels), return_X_y)


def _read_part(collection: str, name: str, part: str, store: Store) -> tuple[Series, list[Any]]:
    """Series and labels of one part, from the user's files in any layout or the publisher's archive."""
    repacked = _repacked(collection, name, part, store)
    if repacked is not None:
        return repacked
    stem = f"{name}_{part.upper()}"
    table = store.find(collection, f"{name}/{stem}.tsv")
    if table is not None:
        return read_tsv(table)
    text = store.find(collection, f"{name}/{stem}.ts")
    if text is not None:
        return read_ts(text.read_bytes(), str(text))
    path = store.get(collection, f"{name}.zip")
    for member, content in members(path, lambda member: member.name == f"{stem}.ts"):
        return read_ts(content, f"{member} in {path}")
    raise ValueError(f"{path} lacks {stem}.ts.")


def _repacked(collection: str, name: str, part: str, store: Store) -> tuple[Series, list[Any]] | None:
    """Series and labels of one part from arrays in one file, if the user has it."""
    path = store.find(collection, f"{collection}_{name}.npz") or store.find(collection, f"{name}.npz")
    if path is None:
        return None
    with np.load(path) as arrays:
        X, y = arrays[f"X_{part}"].astype(np.float32), arrays[f"y_{part}"].tolist()
    return [_without_end(x) for x in X], y


def _without_end(x: FloatArray) -> FloatArray:
    """A series (channels, length) without the samples at its end that are missing altogether."""
    seen = np.flatnonzero(~np.isnan(x).all(axis=0))
    return x[:, : seen[-1] + 1] if len(seen) else x


def _assembled(collection: str, series: dict[str, Series], target: npt.NDArray[Any], return_X_y: bool) -> Any:
    every = [x for values in series.values() for x in values]
    channels = {len(x) for x in every}
    if len(channels) != 1:
        raise ValueError(f"the series of a set must have one number of channels, got {sorted(channels)}.")
    equal = len({x.shape for x in every}) == 1
    data: FloatArray | Panel = np.stack(every) if equal else Panel.from_arrays(every)
    return result(
        collection,
        data,
        target,
        return_X_y=return_X_y,
        feature_names=[f"channel {i}" for i in range(len(every[0]))],
        parts=np.repeat(list(series), [len(values) for values in series.values()]),
    )


def _wanted(part: str) -> tuple[str, ...]:
    return _PARTS if part == "all" else (part,)


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str such as 'GunPoint', got {type(name).__name__}.")
    if not name or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"name must be the name of a data set, not a path or URL; got {name!r}.")
