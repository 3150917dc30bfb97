"""PhysioNet/CinC Challenge 2012: in-hospital death from two days of an intensive-care chart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from tsssm.datasets._bunch import result
from tsssm.datasets._files import Store, members
from tsssm.panel import Panel

SETS = ("a", "b", "c")
STATIC = ("Age", "Gender", "Height", "ICUType")
SERIES = (
    "ALP ALT AST Albumin BUN Bilirubin Cholesterol Creatinine DiasABP FiO2 GCS Glucose HCO3 HCT HR K Lactate "
    "MAP MechVent Mg NIDiasABP NIMAP NISysABP Na PaCO2 PaO2 Platelets RespRate SaO2 SysABP Temp TroponinI "
    "TroponinT Urine WBC Weight pH"
).split()
_NOT_KNOWN = -1.0  # how the general descriptors, and weight, say that they were not recorded
_HEADER = b"Time,Parameter,Value"
_OUTCOME = "In-hospital_death"


def fetch_physionet2012(
    sets: Sequence[str] = ("a",),
    *,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch the first 48 hours of intensive-care stays and whether the patient died in hospital.

    A set holds 4,000 stays of adults. Each is a list of times, variables and values, as charted: 37 variables
    at times of their own, from every few minutes (heart rate, pressures) to once or never (laboratory), and
    four descriptors of the patient.

    Parameters
    ----------
    sets : sequence of {"a", "b", "c"}, default=("a",)
        Sets of the challenge: "a" was given for training, "b" and "c" for its two rounds of scoring.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data``, a Panel of one series a stay with times in hours since admission and 41 channels: age
        (years), gender (0 female, 1 male), height (cm) and type of unit (1 coronary, 2 cardiac surgery, 3
        medical, 4 surgical), which are constant, then the 37 variables in their charted units; NaN where
        nothing was charted. ``data.ids`` are the record numbers. ``target`` (n,) int64, 1 for a death in
        hospital; ``groups`` (n,) the set of each stay; ``outcomes``, a frame of n rows with the publisher's
        other outcomes and scores; ``feature_names``; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For unknown or repeated sets, a damaged archive, and stays without an outcome.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    Silva et al., Predicting in-hospital mortality of ICU patients: the PhysioNet/Computing in Cardiology
    Challenge 2012, Computing in Cardiology 39, 2012.
    """
    chosen = [sets] if isinstance(sets, str) else list(sets)
    if not chosen or not set(chosen) <= set(SETS) or len(set(chosen)) < len(chosen):
        raise ValueError(f"sets must be some of {SETS}, each once; got {sets!r}.")
    store = Store(data_home, download_if_missing)
    tables, outcomes = [], []
    for name in chosen:
        tables.append(_read_stays(store, name))
        path = store.get("physionet2012", f"Outcomes-{name}.txt")
        some = pd.read_csv(path)
        if not {"RecordID", _OUTCOME} <= set(some.columns):
            raise ValueError(
                f"{path} must have the columns RecordID and {_OUTCOME}, got {list(some.columns)}."
            )
        outcomes.append(some.set_index("RecordID").assign(set=name))
    table = pd.concat(tables, ignore_index=True)
    # Other rows, such as the number of the stay, say nothing but that there is such a stay.
    table.loc[~table["variable"].isin([*STATIC, *SERIES]), ["variable", "value"]] = STATIC[0], np.nan
    outcome = pd.concat(outcomes)
    panel = Panel.from_long(
        table, id="RecordID", time="hours", variables=[*STATIC, *SERIES], static=STATIC, time_unit="h"
    )
    missing = panel.ids.difference(outcome.index) if panel.ids is not None else outcome.index
    if len(missing):
        raise ValueError(f"{len(missing)} stays have no outcome, the first of them {missing[0]}.")
    outcome = outcome.loc[panel.ids]
    return result(
        "physionet2012",
        panel,
        outcome[_OUTCOME].to_numpy(dtype=np.int64),
        return_X_y=return_X_y,
        feature_names=[*STATIC, *SERIES],
        groups=outcome["set"].to_numpy(dtype=np.str_),
        outcomes=outcome.drop(columns=["set", _OUTCOME]),
    )


def _read_stays(store: Store, name: str) -> pd.DataFrame:
    """Table RecordID, hours, variable, value of all stays of a set, by record number."""
    path = store.get("physionet2012", f"set-{name}.tar.gz")
    stays = {}
    for member, content in members(path, lambda name: name.suffix == ".txt" and name.stem.isdigit()):
        if not content.startswith(_HEADER):
            raise ValueError(
                f"{member} in {path} must start with {_HEADER.decode()!r}, got {content[:40]!r}."
            )
        stays[int(member.stem)] = content[len(_HEADER) :].strip() + b"\n"
    if not stays:
        raise ValueError(f"{path} holds no stays.")
    numbers = sorted(stays)
    # Parsed in one piece: a call for each of thousands of files takes twenty times as long.
    table = pd.read_csv(
        io.BytesIO(b"".join(stays[number] for number in numbers)), names=["time", "variable", "value"]
    )
    table["RecordID"] = np.repeat(numbers, [stays[number].count(b"\n") for number in numbers])
    clock, stamps = pd.factorize(table.pop("time"))  # at most a stamp a minute of two days
    try:
        parts = [(int(hour), int(minute)) for hour, minute in (stamp.split(":") for stamp in stamps)]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"times in {path} must be HH:MM, such as 07:30: {error}.") from error
    table["hours"] = np.array([hour + minute / 60 for hour, minute in parts])[clock]
    unknown = table["variable"].isin([*STATIC, "Weight"]) & (table["value"] == _NOT_KNOWN)
    table.loc[unknown, "value"] = np.nan
    return table
