"""HAPT: activities and the transitions between them, from a smartphone at the waist."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.datasets._bunch import checked_choice, checked_count, checked_part, result
from tsssm.datasets._files import Store, members
from tsssm.datasets._registry import registry
from tsssm.datasets._repacked import arrays_of, panel_of, summed
from tsssm.datasets._windows import decimated

_RATE = 50  # Hz
_REPACKED, _PUBLISHED = "hapt_u01_u21.npz.xz", "HAPT Data Set.zip"
_CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
_NAMES = (
    "none",
    "walking",
    "walking upstairs",
    "walking downstairs",
    "sitting",
    "standing",
    "lying",
    "stand to sit",
    "sit to stand",
    "sit to lie",
    "lie to sit",
    "stand to lie",
    "lie to stand",
)

Recording = tuple[int, npt.NDArray[np.float32], npt.NDArray[np.int64]]


def fetch_hapt(
    *,
    part: str = "all",
    people: str = "first 21",
    decimate: int = 1,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch recordings of a waist-worn accelerometer and gyroscope with the activity at every sample.

    Parameters
    ----------
    part : {"all", "train", "test"}, default="all"
        People 1 to 15 train; those from 16 on are the test part.
    people : {"first 21", "all"}, default="first 21"
        Whose recordings: the 21 people that the project's figures refer to, or all 30 of the publisher.
    decimate : int, default=1
        Keep every decimate-th sample after an anti-alias filter.
    return_X_y, data_home, download_if_missing
        As of `fetch_bidmc`.

    Returns
    -------
    Bunch
        ``data`` a Panel of n recordings of six channels, acceleration in g and angular rate in rad / s, with
        times in s; ``target`` an object array of n arrays of codes, 0 where there is no label (give it as
        ``ignore_label``), 1 to 6 activities, 7 to 12 transitions; ``groups`` (n,) the person, ``part`` (n,),
        ``target_names`` of the codes, ``feature_names``, ``sampling_rate`` in Hz, ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown part or people.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded.

    References
    ----------
    Reyes-Ortiz, Oneto, Sama, Parra, Anguita, *Transition-Aware Human Activity Recognition Using
    Smartphones*, Neurocomputing 171, 2016, doi 10.1016/j.neucom.2015.07.085.
    """
    checked_part(part)
    checked_choice(people, "people", ("first 21", "all"))
    checked_count(decimate, "decimate")
    store = Store(data_home, download_if_missing)
    first = int(registry()["hapt"]["splits"]["first of test"])
    path = store.find("hapt", _REPACKED) if people == "first 21" else None
    read = _published(store) if path is None else _repacked(arrays_of(path))
    recordings = [
        (person, decimated(signals, decimate), codes[::decimate])
        for person, signals, codes in read
        if (people == "all" or person <= 21) and (part == "all" or (person >= first) == (part == "test"))
    ]
    target = np.empty(len(recordings), dtype=object)
    target[:] = [codes for _, _, codes in recordings]
    rate = _RATE / decimate
    groups = np.array([person for person, _, _ in recordings])
    return result(
        "hapt",
        panel_of([signals for _, signals, _ in recordings], rate, _CHANNELS),
        target,
        return_X_y=return_X_y,
        feature_names=_CHANNELS,
        groups=groups,
        of_series={"part": np.where(groups >= first, "test", "train")},
        target_names=list(_NAMES),
        sampling_rate=rate,
    )


def _repacked(arrays: dict[str, Any]) -> list[Recording]:
    names = sorted(name[:-2] for name in arrays if name.endswith("_y"))
    scales = {"acc": arrays["acc_scale_g"], "gyro": arrays["gyro_scale_rad_s"]}
    found = []
    for name in names:
        parts = [summed(arrays[f"{name}_{kind}_diff"]) * scale for kind, scale in scales.items()]
        signals = np.concatenate(parts).astype(np.float32)
        found.append((int(name[-2:]), signals, arrays[f"{name}_y"].astype(np.int64)))
    return found


def _published(store: Store) -> list[Recording]:
    """Recordings of the publisher's archive: text files of samples, and a table of labelled stretches."""
    texts = {path.name: content for path, content in members(store.get("hapt", _PUBLISHED), _is_raw)}
    table = np.loadtxt(io.BytesIO(texts["labels.txt"]), dtype=np.int64, ndmin=2)
    found = []
    for name in sorted(texts):
        if not name.startswith("acc_"):
            continue
        experiment, person = int(name[7:9]), int(name[14:16])
        parts = [
            pd.read_csv(io.BytesIO(texts[kind]), sep=r"\s+", header=None).to_numpy(np.float32)
            for kind in (name, name.replace("acc_", "gyro_"))
        ]
        signals = np.concatenate(parts, axis=1).T
        codes = np.zeros(signals.shape[1], dtype=np.int64)
        for _, _, code, start, stop in table[table[:, 0] == experiment]:
            codes[start - 1 : stop] = code
        found.append((person, signals, codes))
    return found


def _is_raw(path: PurePosixPath) -> bool:
    return "RawData" in path.parts and path.suffix == ".txt" and "__MACOSX" not in path.parts
