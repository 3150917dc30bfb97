"""MIT-BIH Arrhythmia: half hours of two-lead ECG with the class of every beat."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_choice, checked_count, checked_part, result
from tsssm.datasets._files import Store
from tsssm.datasets._formats import FloatArray
from tsssm.datasets._registry import registry
from tsssm.datasets._repacked import arrays_of, panel_of, summed
from tsssm.datasets._wfdb import reader, stem
from tsssm.datasets._windows import decimated

_RATE = 360  # Hz
_REPACKED = "mitbih_ds1.npz.xz"
_GAIN, _BASELINE = 200.0, 1024  # of every record
#: Classes of beats by ANSI/AAMI EC57, and the annotations that they hold.
_CLASSES = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
_OF_SYMBOL = {symbol: name for name, symbols in _CLASSES.items() for symbol in symbols}

Beats = tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]


def fetch_mitbih(
    *,
    split: str = "ds1",
    part: str = "all",
    records: Sequence[str] | None = None,
    decimate: int = 1,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch half hours of two-lead ECG with the time and the class of every beat.

    Parameters
    ----------
    split : {"ds1", "inter-patient"}, default="ds1"
        How records are assigned to parts. "ds1": the 22 records DS1 of de Chazal 2004, of which 118, 119,
        205, 215, 220 and 223 are the test part and the others train. "inter-patient": DS1 trains and DS2 is
        the test part, as in publications; the four records with paced beats are in neither.
    part : {"all", "train", "test"}, default="all"
        Only records of this part.
    records : sequence of str, optional
        Only these, such as "100".
    decimate : int, default=1
        Keep every decimate-th sample after an anti-alias filter; must divide 360.
    return_X_y, data_home, download_if_missing
        As of `fetch_bidmc`. The publisher's files need the package ``wfdb``.

    Returns
    -------
    Bunch
        ``data`` a Panel of n records of two channels in mV, MLII first, with times in s; ``target`` an object
        array of n pairs, times of beats in s and their classes "N", "S", "V", "F" or "Q", as the estimators
        along time take it; ``groups`` (n,) the record, ``part`` (n,), ``symbols`` an object array with the
        annotations of the same beats, ``feature_names``, ``sampling_rate`` in Hz, ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown split, part or record, and a decimate that does not divide 360.
    ImportError
        Where the publisher's files have to be read and ``wfdb`` is not installed.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded.

    References
    ----------
    Moody, Mark, *The impact of the MIT-BIH Arrhythmia Database*, IEEE Engineering in Medicine and Biology
    20(3), 2001. The split: de Chazal, O'Dwyer, Reilly, IEEE Transactions on Biomedical Engineering 51(7),
    2004, doi 10.1109/TBME.2004.827359.
    """
    checked_choice(split, "split", ("ds1", "inter-patient"))
    checked_part(part)
    if _RATE % checked_count(decimate, "decimate"):
        raise ValueError(f"decimate must divide {_RATE}, the samples of a second; got {decimate}.")
    splits: dict[str, list[str]] = registry()["mitbih"]["splits"]
    known = splits["train"] + splits["test"]
    test = splits["test"]
    if split == "inter-patient":
        known, test = known + splits["ds2"], splits["ds2"]
    if records is not None:
        unknown = isinstance(records, str) or not len(records) or [one for one in records if one not in known]
        if unknown:
            raise ValueError(f"records must be some of {', '.join(sorted(known))}; got {records!r}.")
        known = list(records)
    chosen = [one for one in sorted(known) if part == "all" or (one in test) == (part == "test")]
    if not chosen:
        raise ValueError(f"none of the records {list(records or ())} is in part {part!r}.")
    store = Store(data_home, download_if_missing)
    path = store.find("mitbih", _REPACKED)
    repacked = arrays_of(path) if path is not None else {}
    signals, targets, symbols = [], np.empty(len(chosen), object), np.empty(len(chosen), object)
    for i, record in enumerate(chosen):
        local = f"{record}_d" in repacked
        values, samples, marks = _repacked(repacked, record) if local else _published(store, record)
        beats = np.isin(marks, list(_OF_SYMBOL))
        names = np.array([_OF_SYMBOL[mark] for mark in marks[beats].tolist()], dtype="<U1")
        targets[i], symbols[i] = (samples[beats] / _RATE, names), marks[beats]
        signals.append(decimated(values, decimate))
    rate = _RATE / decimate
    return result(
        "mitbih",
        panel_of(signals, rate, ("MLII", "other"), ids=chosen),
        targets,
        return_X_y=return_X_y,
        feature_names=("MLII", "other"),
        groups=np.array(chosen),
        of_series={"part": np.where(np.isin(chosen, test), "test", "train"), "symbols": symbols},
        sampling_rate=rate,
    )


def _repacked(arrays: dict[str, Any], record: str) -> tuple[FloatArray, Any, Any]:
    """Signals (2, L) in mV, and samples and symbols of all annotations."""
    signals = (summed(arrays[f"{record}_d"]).astype(np.float32) - _BASELINE) / _GAIN
    marks = np.char.decode(arrays[f"{record}_ann_symbol"])
    return _ordered(signals, arrays[f"{record}_leads"].tolist()), arrays[f"{record}_ann_sample"], marks


def _published(store: Store, record: str) -> tuple[FloatArray, Any, Any]:
    wfdb = reader()
    paths = [store.get("mitbih", f"{record}.{ending}") for ending in ("hea", "dat", "atr")]
    read = wfdb.rdrecord(stem(paths[0]))
    marks = wfdb.rdann(stem(paths[2]), "atr")
    signals = np.asarray(read.p_signal, dtype=np.float32).T
    return _ordered(signals, list(read.sig_name)), np.asarray(marks.sample), np.asarray(marks.symbol)


def _ordered(signals: FloatArray, leads: list[str]) -> FloatArray:
    """The channels with MLII first, where there is one."""
    return signals[::-1] if leads[1] == "MLII" else signals
