"""LUDB: ten seconds of 12-lead ECG with the bounds of P waves, QRS complexes and T waves."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_count, checked_part, result
from tsssm.datasets._files import Store
from tsssm.datasets._formats import FloatArray
from tsssm.datasets._registry import registry
from tsssm.datasets._repacked import arrays_of, summed
from tsssm.datasets._wfdb import reader, stem
from tsssm.datasets._windows import decimated

_RATE, _LENGTH = 500, 5000
_REPACKED = "ludb150.npz.xz"
_LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")
_WAVES = {"p": 1, "N": 2, "t": 3}


def fetch_ludb(
    *,
    part: str = "all",
    leads: Sequence[str] = _LEADS,
    records: Sequence[int] | None = None,
    decimate: int = 1,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch single leads of ECGs of ten seconds, with the wave that each sample belongs to.

    Parameters
    ----------
    part : {"all", "train", "test"}, default="all"
        Records 1 to 120 train; those from 121 on are the test part.
    leads : sequence of str, default=all 12
        Such as "ii" and "v1"; each is a series of its own, as their waves are annotated one by one.
    records : sequence of int, optional
        Numbers from 1 to 200; by default 1 to 150, which the project's figures refer to.
    decimate : int, default=1
        Keep every decimate-th sample after an anti-alias filter; must divide 500.
    return_X_y, data_home, download_if_missing
        As of `fetch_bidmc`. The publisher's files need the package ``wfdb``.

    Returns
    -------
    Bunch
        ``data`` (n, 1, 5000 / decimate) float32 in mV, ``target`` (n, 5000 / decimate) int8: 0 no wave, 1 P,
        2 QRS, 3 T, and -1 before the first and after the last annotated wave, where nothing was annotated
        (give it as ``ignore_label``); ``groups`` (n,) the record, ``lead`` (n,), ``part`` (n,),
        ``target_names``, ``feature_names``, ``sampling_rate`` in Hz, ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown part, lead or record, and a decimate that does not divide 500.
    ImportError, FileNotFoundError, ConnectionError
        As of `fetch_mitbih`.

    References
    ----------
    Kalyakulina et al., *LUDB: a new open-access validation tool for electrocardiogram delineation
    algorithms*, IEEE Access 8, 2020, doi 10.1109/ACCESS.2020.3029211.
    """
    checked_part(part)
    if _RATE % checked_count(decimate, "decimate"):
        raise ValueError(f"decimate must divide {_RATE}, the samples of a second; got {decimate}.")
    chosen_leads = [] if isinstance(leads, str) else [lead for lead in leads if lead in _LEADS]
    if not chosen_leads or len(chosen_leads) < len(leads):
        raise ValueError(f"leads must be some of {', '.join(_LEADS)}; got {leads!r}.")
    first = int(registry()["ludb"]["splits"]["first of test"])
    numbers = list(range(1, 151)) if records is None else list(records)
    if not numbers or any(number not in range(1, 201) for number in numbers):
        raise ValueError(f"records must be numbers from 1 to 200; got {records!r}.")
    numbers = [number for number in numbers if part == "all" or (number >= first) == (part == "test")]
    if not numbers:
        raise ValueError(f"none of the records {list(records or ())} is in part {part!r}.")
    store = Store(data_home, download_if_missing)
    path = store.find("ludb", _REPACKED)
    repacked = arrays_of(path) if path is not None else {}
    columns = [_LEADS.index(lead) for lead in chosen_leads]
    X, y = [], []
    for number in numbers:
        if number <= len(repacked.get("d", ())):
            signals, waves = _repacked(repacked, number - 1, columns)
        else:
            signals, waves = _published(store, number, chosen_leads)
        X.append(decimated(signals[:, None], decimate))
        y.append(np.stack([_annotated(wave) for wave in waves])[:, ::decimate])
    groups = np.repeat(numbers, len(columns))
    return result(
        "ludb",
        np.concatenate(X),
        np.concatenate(y),
        return_X_y=return_X_y,
        feature_names=("ECG",),
        groups=groups,
        of_series={
            "part": np.where(groups >= first, "test", "train"),
            "lead": np.tile(chosen_leads, len(numbers)),
        },
        target_names=["none", "P", "QRS", "T"],
        sampling_rate=_RATE / decimate,
    )


def _repacked(arrays: dict[str, Any], i: int, columns: list[int]) -> tuple[FloatArray, npt.NDArray[np.uint8]]:
    """Signals (leads, L) in mV and waves (leads, L) of a record."""
    numbers = summed(arrays["d"][i, columns]).astype(np.float32)
    gain, baseline = arrays["gain"][i, columns, None], arrays["baseline"][i, columns, None]
    return (numbers - baseline) / gain, arrays["label"][i, columns]


def _published(store: Store, number: int, leads: list[str]) -> tuple[FloatArray, npt.NDArray[np.uint8]]:
    wfdb = reader()
    header = store.get("ludb", f"data/{number}.hea")
    store.get("ludb", f"data/{number}.dat")
    read = wfdb.rdrecord(stem(header))
    names = [name.lower() for name in read.sig_name]
    signals = np.asarray(read.p_signal, dtype=np.float32).T[[names.index(lead) for lead in leads]]
    waves = np.zeros(signals.shape, dtype=np.uint8)
    for wave, lead in zip(waves, leads, strict=True):
        store.get("ludb", f"data/{number}.{lead}")
        marks = wfdb.rdann(stem(header), lead)
        samples, symbols = np.asarray(marks.sample), np.asarray(marks.symbol)
        for k in np.flatnonzero(np.isin(symbols, list(_WAVES))):
            if 0 < k < len(symbols) - 1 and symbols[k - 1] == "(" and symbols[k + 1] == ")":
                wave[samples[k - 1] : samples[k + 1] + 1] = _WAVES[symbols[k]]
    return signals, waves


def _annotated(wave: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Waves (L,), -1 before the first and after the last."""
    found = np.flatnonzero(wave)
    result = wave.astype(np.int8)
    result[: found[0] if len(found) else None] = -1
    if len(found):
        result[found[-1] + 1 :] = -1
    return result
