"""BIDMC: heart rate, respiratory rate and oxygen saturation from 32 s of an intensive-care monitor."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.datasets._bunch import checked_choice, checked_count, checked_part, result
from tsssm.datasets._files import Store
from tsssm.datasets._formats import FloatArray
from tsssm.datasets._registry import registry
from tsssm.datasets._repacked import panel_of
from tsssm.datasets._windows import decimated, windows

_RATE = 125  # Hz
_WINDOW = 32  # s
_STRIDE = 3  # s
_REPACKED = "bidmc28_125hz.npz"
_REPACKED_SIGNALS = ("PLETH", "II", "RESP")
_REPACKED_NUMERICS = ("HR", "PULSE", "RESP", "SpO2")
_NUMERICS = {"HR": "HR", "PULSE": "PULSE", "RR": "RESP", "SpO2": "SpO2"}  # the publisher's columns
_SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def fetch_bidmc(
    target: str = "HR",
    *,
    split: str = "subject",
    part: str = "all",
    channels: Sequence[str] = ("PLETH", "II"),
    records: Sequence[str] | None = None,
    decimate: int = 1,
    along_time: bool = False,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch windows of intensive-care recordings and the vital sign that the monitor showed over each.

    BIDMC holds 8 minutes of photoplethysmogram, ECG and respiration at 125 Hz from each of 53 critically ill
    adults, with numerics at 1 Hz. Windows of 32 s (4,000 samples) start every 3 s; the target is the mean of
    the 32 numerics in the window. Windows in which the numeric is missing at any second are left out; zeros,
    which record 13 has in the respiratory rate for minutes, stay as published.

    Parameters
    ----------
    target : {"HR", "RR", "SpO2", "PULSE"}, default="HR"
        Heart rate from the ECG in beats a minute, respiratory rate in breaths a minute, oxygen saturation in
        %, or pulse rate from the photoplethysmogram in beats a minute.
    split : {"subject", "window"}, default="subject"
        How windows are assigned to parts. By subject: the records 08, 18, 27, 38, 49 and 53 are the test
        part, the others train. By window, as in papers: windows of all records are shuffled (seed 0) and
        split 70 to 15 to 15; this puts windows that overlap by up to 29 s into training and test, and
        measures how well patients are remembered rather than how well a new one is read.
    part : {"all", "train", "test", "validation"}, default="all"
        Only windows of this part; "validation" only in a split by window.
    channels : sequence of str, default=("PLETH", "II")
        Signals in this order: "PLETH" (photoplethysmogram), "II" (ECG lead II), "RESP" (impedance), or any
        other column of the publisher's CSV files.
    records : sequence of str, optional
        Numbers from "01" to "53"; by default the 28 of the registry, which the project's figures refer to.
    decimate : int, default=1
        Keep every decimate-th sample after an anti-alias filter; must divide 4,000.
    along_time : bool, default=False
        Whether to return whole recordings with the numeric at its own times, as `SSMSequenceRegressor` takes,
        in place of windows; needs ``split="subject"``.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, channels, 4000 / decimate) float32 in the publisher's units, ``target`` (n,) float64,
        ``groups`` (n,) the record of each window, ``part`` (n,), ``feature_names``, ``sampling_rate`` in Hz,
        ``DESCR``. With ``along_time``, ``data`` is a `Panel` of recordings with times in seconds, and
        ``target`` an object array of pairs: seconds, and the numeric at each, NaN where it is missing.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown target, split, part, channel or record, and a decimate that does not divide 4,000.
    FileNotFoundError, ConnectionError
        Where a file is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    Pimentel et al., IEEE Transactions on Biomedical Engineering 64(8), 2017, doi 10.1109/TBME.2016.2613124.
    """
    checked_choice(target, "target", tuple(_NUMERICS))
    checked_choice(split, "split", ("subject", "window"))
    checked_part(part, ("train", "test") if split == "subject" else tuple(_SHARES))
    length = _WINDOW * _RATE
    if isinstance(channels, str) or not len(channels):
        raise ValueError(
            f"channels must be a non-empty sequence of names such as ('PLETH',), got {channels!r}."
        )
    if length % checked_count(decimate, "decimate"):
        raise ValueError(f"decimate must divide {length}, the samples of a window; got {decimate}.")
    if along_time and split == "window":
        raise ValueError('split must be "subject" with along_time=True, which has no windows; got "window".')
    store = Store(data_home, download_if_missing)
    splits: dict[str, list[str]] = registry()["bidmc"]["splits"]
    chosen = _checked_records(records, splits)
    if split == "subject" and part != "all":
        # No need to fetch and filter recordings of the other part.
        chosen = [record for record in chosen if (record in splits["test"]) == (part == "test")]
        if not chosen:
            raise ValueError(f"none of the records {list(records or ())} is in part {part!r}.")
    if along_time:
        recordings, pairs = [], np.empty(len(chosen), dtype=object)
        for i, record in enumerate(chosen):
            signals, numeric = _read_record(store, record, target, list(channels))
            recordings.append(decimated(signals.T, decimate))
            seconds = np.arange(len(numeric), dtype=np.float64)
            shown = seconds <= (recordings[-1].shape[1] - 1) * decimate / _RATE
            pairs[i] = seconds[shown], numeric[shown]
        return result(
            "bidmc",
            panel_of(recordings, _RATE / decimate, channels, ids=chosen),
            pairs,
            return_X_y=return_X_y,
            feature_names=channels,
            groups=np.array(chosen),
            of_series={"part": np.where(np.isin(chosen, splits["test"]), "test", "train")},
            sampling_rate=_RATE / decimate,
        )
    X, y, groups = [], [], []
    for record in chosen:
        signals, numeric = _read_record(store, record, target, list(channels))
        cut = windows(signals, length, _STRIDE * _RATE)
        means = windows(numeric, _WINDOW, _STRIDE).mean(axis=-1)
        n = min(len(cut), len(means))
        present = np.isfinite(means[:n])
        X.append(decimated(cut[:n][present], decimate))
        y.append(means[:n][present])
        groups.append(np.full(int(present.sum()), record))
    group = np.concatenate(groups)
    parts = np.where(np.isin(group, splits["test"]), "test", "train")
    if split == "window":
        parts = _shuffled_parts(len(group))
    return result(
        "bidmc",
        np.concatenate(X),
        np.concatenate(y),
        return_X_y=return_X_y,
        feature_names=channels,
        groups=group,
        parts=parts,
        part=part,
        sampling_rate=_RATE / decimate,
    )


def _checked_records(records: Sequence[str] | None, splits: dict[str, list[str]]) -> list[str]:
    if records is None:
        return sorted(splits["train"] + splits["test"])
    published = [f"{number:02d}" for number in range(1, 54)]
    unknown = isinstance(records, str) or [record for record in records if record not in published]
    if unknown or not len(records):
        raise ValueError(
            f"records must be a sequence of numbers such as '02', from '01' to '53'; got {records!r}."
        )
    return list(records)


def _shuffled_parts(n: int) -> npt.NDArray[np.str_]:
    """Parts of n windows without regard to the record they are of."""
    ends = np.round(np.cumsum(list(_SHARES.values())) * n).astype(int)
    parts = np.empty(n, dtype="<U10")
    order = np.random.default_rng(0).permutation(n)
    for name, start, end in zip(_SHARES, [0, *ends[:-1]], ends, strict=True):
        parts[order[start:end]] = name
    return parts


def _read_record(
    store: Store, record: str, target: str, channels: list[str]
) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Return the signals (samples, channels) at 125 Hz and the numeric (seconds,) at 1 Hz of one record."""
    repacked = store.find("bidmc", _REPACKED)
    if repacked is not None and set(channels) <= set(_REPACKED_SIGNALS):
        with np.load(repacked) as arrays:
            if record in arrays["records"]:
                signals = arrays[f"sig_{record}"][:, [_REPACKED_SIGNALS.index(c) for c in channels]]
                numerics = arrays[f"num_{record}"][:, _REPACKED_NUMERICS.index(_NUMERICS[target])]
                return signals, numerics.astype(np.float64)
    tables = []
    for kind, columns in (("Signals", channels), ("Numerics", [_NUMERICS[target]])):
        path = store.get("bidmc", f"bidmc_csv/bidmc_{record}_{kind}.csv")
        table = pd.read_csv(path, skipinitialspace=True)
        if not set(columns) <= set(table.columns):
            raise ValueError(
                f"{kind.lower()} of record {record} must be among {list(table.columns[1:])}; got {columns}."
            )
        tables.append(table[columns])
    return tables[0].to_numpy(dtype=np.float32), tables[1].to_numpy(dtype=np.float64)[:, 0]
