"""PhysioNet/CinC Challenge 2019: sepsis, six hours ahead, from hourly intensive-care records."""

from __future__ import annotations

import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsssm.datasets._bunch import result
from tsssm.datasets._files import Store, members
from tsssm.panel import Panel

SETS = ("a", "b")
SERIES = (
    "HR O2Sat Temp SBP MAP DBP Resp EtCO2 BaseExcess HCO3 FiO2 pH PaCO2 SaO2 AST BUN Alkalinephos Calcium "
    "Chloride Creatinine Bilirubin_direct Glucose Lactate Magnesium Phosphate Potassium Bilirubin_total "
    "TroponinI Hct Hgb PTT WBC Fibrinogen Platelets"
).split()
STATIC = "Age Gender Unit1 Unit2 HospAdmTime".split()
_TIME, _LABEL = "ICULOS", "SepsisLabel"
_HEADER = "|".join([*SERIES, *STATIC, _TIME, _LABEL]).encode()


def fetch_physionet2019(
    sets: Sequence[str] = ("a", "b"),
    *,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch hourly records of intensive-care patients, and in which hours sepsis is six hours away or nearer.

    Set A holds 20,336 patients of one hospital system and set B 20,000 of another one. Every hour has 8 vital
    signs and 26 laboratory values, most of them missing.

    Parameters
    ----------
    sets : sequence of {"a", "b"}, default=("a", "b")
        Training sets of the challenge; those that it scored on are not public.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data``, a Panel of one series a patient with times in hours since admission to the unit and 39
        channels: the 34 variables in their charted units, then age (years), gender (0 female, 1 male), two
        indicators of the unit and the hours from admission to the hospital to that to the unit (negative),
        which are constant. ``data.ids`` are the names of the records. ``target`` (n,) int64, 1 for a patient
        who has sepsis at some time of the record; ``labels`` (total,) int64, for each sample whether sepsis
        sets in within the next six hours or has done so; ``groups`` (n,) the set of each patient;
        ``feature_names``; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For unknown or repeated sets, and files that are damaged or not of the challenge.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded; says where to get it and where to put it.

    Notes
    -----
    A copy of the user's own may be a part of a set: beside ``training_setA.zip``, any archive whose name
    begins with ``training_setA`` and ends in ``.zip``, ``.tar.gz`` or ``.tar.xz`` is taken, in its place.

    References
    ----------
    Reyna et al., Early prediction of sepsis from clinical data: the PhysioNet/Computing in Cardiology
    Challenge 2019, Critical Care Medicine 48, 2020, doi 10.1097/CCM.0000000000004145.
    """
    chosen = [sets] if isinstance(sets, str) else list(sets)
    if not chosen or not set(chosen) <= set(SETS) or len(set(chosen)) < len(chosen):
        raise ValueError(f"sets must be some of {SETS}, each once; got {sets!r}.")
    store = Store(data_home, download_if_missing)
    records = [_read_records(_archive(store, name)) for name in chosen]
    table = pd.concat([table for table, _ in records], ignore_index=True)
    names = [name for _, some in records for name in some]
    lengths = np.concatenate([list(some.values()) for _, some in records])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    features = [*SERIES, *STATIC]
    panel = Panel(
        table[features].to_numpy(dtype=np.float32),
        offsets,
        table[_TIME].to_numpy(dtype=np.float64),
        features,
        ids=names,
        time_unit="h",
    )
    labels = table[_LABEL].to_numpy(dtype=np.int64)
    return result(
        "physionet2019",
        panel,
        np.maximum.reduceat(labels, offsets[:-1]),
        return_X_y=return_X_y,
        feature_names=features,
        groups=np.repeat(chosen, [len(some) for _, some in records]),
        labels=labels,
    )


def _archive(store: Store, name: str) -> Path:
    """The archive of a set: the user's own copy, of a part of it perhaps, or the publisher's."""
    stem = f"training_set{name.upper()}"
    for pattern in (f"{stem}.zip", f"{stem}*.zip", f"{stem}*.tar.gz", f"{stem}*.tar.xz"):
        found = store.matching("physionet2019", pattern)
        if found:
            return found[0]
    return store.get("physionet2019", f"{stem}.zip")


def _read_records(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Samples of the records of an archive, in the order of their names, and how many each has."""
    texts = {}
    for member, content in members(path, lambda name: name.suffix == ".psv"):
        header, _, rest = content.partition(b"\n")
        if header.strip() != _HEADER or not rest.strip():
            raise ValueError(
                f"{member} in {path} must have the header {_HEADER[:20].decode()!r}... and a row for each "
                f"hour; got {content[:40]!r}."
            )
        texts[member.stem] = rest.strip() + b"\n"
    if not texts:
        raise ValueError(f"{path} holds no records, which are files .psv.")
    names = sorted(texts)
    # Parsed in one piece: a call for each of thousands of files takes twenty times as long.
    joined = io.BytesIO(b"".join(texts[name] for name in names))
    table = pd.read_csv(joined, sep="|", names=_HEADER.decode().split("|"))
    return table, {name: texts[name].count(b"\n") for name in names}
