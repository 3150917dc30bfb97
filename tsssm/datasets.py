"""Loaders for public data sets with the splits that published figures use.

A file is looked for under the folder that the environment variable ``TSSSM_DATA`` names, laid out as the
paths in ``datasets/registry.json`` say. Where it is not there it is downloaded from its publisher into the
user's cache, and its SHA-256 is checked. Files without a download in the registry have to be placed by hand:
the error says where to get them and where to put them. ``datasets/README.md`` describes the sets, their
sources and licences.
"""

from __future__ import annotations

import functools
import json
import os
import tarfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["load_bidmc", "load_fsdd", "load_ucr", "load_uea"]

FloatArray = npt.NDArray[np.float32]

_FSDD_TEST = 5  # recordings of a digit and speaker

_BIDMC_RATE = 125  # Hz
_BIDMC_WINDOW = 32  # s
_BIDMC_STRIDE = 3  # s
_BIDMC_REPACKED = "bidmc/bidmc28_125hz.npz"
_BIDMC_REPACKED_CHANNELS = ("PLETH", "II", "RESP")
_BIDMC_TARGETS = ("HR", "PULSE", "RESP", "SpO2")


def load_bidmc(
    target: str = "HR",
    *,
    channels: Sequence[str] = ("PLETH", "II"),
    records: str | Sequence[str] = "all",
    decimate: int = 1,
) -> tuple[FloatArray, npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """Load windows of ICU recordings and the vital sign that the monitor showed over each.

    BIDMC holds 8 minutes of photoplethysmogram, ECG and respiration at 125 Hz from each of 53 critically ill
    adults, with numerics at 1 Hz. Windows of 32 s (4,000 samples) start every 3 s; the target is the mean of
    the 32 numerics in the window. Windows in which the numeric is missing at any second are left out; zeros,
    which record 13 has in RESP for minutes, stay as published.

    Parameters
    ----------
    target : {"HR", "PULSE", "RESP", "SpO2"}, default="HR"
        Heart rate from the ECG and pulse rate from the photoplethysmogram in beats a minute, respiratory rate
        in breaths a minute, oxygen saturation in %.
    channels : sequence of str, default=("PLETH", "II")
        Signals in this order: "PLETH" (photoplethysmogram), "II" (ECG lead II), "RESP" (impedance), or any
        other column of the publisher's CSV files.
    records : {"all", "train", "test"} or sequence of str, default="all"
        Record numbers such as ["02", "03"], or the 28 records of the registry, or their split by subject: 22
        to train and validate on, and 6 to test on.
    decimate : int, default=1
        Keep every decimate-th sample after an anti-alias filter, 4,000 / decimate samples a window: the
        zero-phase FIR of :func:`scipy.signal.decimate`, each window on its own, extended at both ends by odd
        reflection. Must divide 4,000.

    Returns
    -------
    X : ndarray of shape (n, channels, length), float32
        Windows in the publisher's units.
    y : ndarray of shape (n,), float64
        Target of each window.
    groups : ndarray of shape (n,), str
        Record number of each window: one subject each. Windows of a record overlap, so a split must keep
        groups together.

    Raises
    ------
    ValueError
        For an unknown target, channel, record or split, and a decimate that does not divide 4,000.
    FileNotFoundError
        Where a record is neither under TSSSM_DATA nor to be downloaded; says where to put its files.

    References
    ----------
    Pimentel et al., IEEE Transactions on Biomedical Engineering 64(8), 2017, doi 10.1109/TBME.2016.2613124.
    """
    length = _BIDMC_WINDOW * _BIDMC_RATE
    if target not in _BIDMC_TARGETS:
        raise ValueError(f"target must be one of {_BIDMC_TARGETS}, got {target!r}.")
    if isinstance(channels, str) or not channels:
        raise ValueError(
            f"channels must be a non-empty sequence of names such as ('PLETH',), got {channels!r}."
        )
    if decimate < 1 or length % decimate:
        raise ValueError(f"decimate must divide {length}, the samples of a window; got {decimate}.")
    X, y, groups = [], [], []
    for record in _bidmc_records(records):
        signals, numeric = _bidmc_record(record, target, channels)
        windows = _windows(signals, length, _BIDMC_STRIDE * _BIDMC_RATE)
        means = _windows(numeric, _BIDMC_WINDOW, _BIDMC_STRIDE).mean(axis=-1)
        n = min(len(windows), len(means))
        present = np.isfinite(means[:n])
        X.append(_decimated(windows[:n][present], decimate))
        y.append(means[:n][present])
        groups.append(np.full(int(present.sum()), record))
    return np.concatenate(X), np.concatenate(y), np.concatenate(groups)


def load_fsdd(
    split: str, *, decimate: int = 1
) -> tuple[list[FloatArray], npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Load the Free Spoken Digit Dataset: raw audio of ten digits by six speakers at 8 kHz.

    Parameters
    ----------
    split : {"train", "test"}
        The published split: the first five recordings of each digit and speaker are the test part (300), the
        other 45 the training part (2,700).
    decimate : int, default=1
        Keep every so many samples, after a filter against aliases.

    Returns
    -------
    X : list of n arrays of shape (1, length_i), float32
        Sound pressure in units of the largest that the format holds; 1,148 to 18,262 samples at 8 kHz.
    y : ndarray of shape (n,), int64
        Digits.
    speakers : ndarray of shape (n,)
        Names of the speakers, as groups for a split by speaker.

    Raises
    ------
    ValueError
        For a split that is neither "train" nor "test", or a factor that is no positive whole number.
    FileNotFoundError
        Where ``fsdd/recordings.tar.gz`` is not under TSSSM_DATA; there is no automatic download.

    References
    ----------
    Jackson et al., Free Spoken Digit Dataset, doi 10.5281/zenodo.1342401.
    """
    test = _part(split) == "TEST"
    if isinstance(decimate, bool) or not isinstance(decimate, (int, np.integer)) or decimate < 1:
        raise ValueError(f"decimate must be a positive whole number, got {decimate!r}.")
    recordings = {}
    with tarfile.open(_path("fsdd", "fsdd/recordings.tar.gz")) as archive:
        for member in archive:
            name = Path(member.name)
            file = archive.extractfile(member) if name.suffix == ".wav" else None
            if file is None:
                continue
            digit, speaker, index = name.stem.split("_")
            if (int(index) < _FSDD_TEST) == test:
                with wave.open(file) as sound:
                    samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
                recordings[digit, speaker, int(index)] = samples.astype(np.float32) / np.float32(32768)
    keys = sorted(recordings)
    X = [_decimated(recordings[key][None, None], decimate)[0] for key in keys]
    return X, np.array([int(key[0]) for key in keys]), np.array([key[1] for key in keys])


def load_ucr(name: str, split: str) -> tuple[FloatArray, npt.NDArray[Any]]:
    """Load one part of a univariate set of the UCR archive, with the published split.

    Parameters
    ----------
    name : str
        Name in the archive, such as "GunPoint".
    split : {"train", "test"}
        Published part.

    Returns
    -------
    X : ndarray of shape (n, 1, length), float32
        Series as published (most sets are z-normalised). Shorter series of a set of unequal length end in
        NaN.
    y : ndarray of shape (n,), int64
        Published labels.

    Raises
    ------
    ValueError
        For a split that is neither "train" nor "test".
    FileNotFoundError
        Where the file ``ucr/NAME/NAME_TRAIN.tsv`` (or ``_TEST``) is not under TSSSM_DATA; the archive cannot
        be downloaded automatically.

    References
    ----------
    Dau et al., IEEE/CAA Journal of Automatica Sinica 6(6), 2019, doi 10.1109/JAS.2019.1911747.
    """
    path = _path("ucr", f"ucr/{name}/{name}_{_part(split)}.tsv")
    table = pd.read_csv(path, sep="\t", header=None)
    X = table.iloc[:, 1:].to_numpy(dtype=np.float32)
    return X[:, np.newaxis, :], _labels(table[0].tolist())


def load_uea(name: str, split: str) -> tuple[FloatArray | list[FloatArray], npt.NDArray[Any]]:
    """Load one part of a multivariate set of the UEA archive, with the published split.

    Parameters
    ----------
    name : str
        Name in the archive, such as "NATOPS".
    split : {"train", "test"}
        Published part.

    Returns
    -------
    X : ndarray of shape (n, channels, length), float32, or list of n arrays of shape (channels, length_i)
        Series as published; a list where their lengths differ.
    y : ndarray of shape (n,)
        Labels: int64 where all are whole numbers, else str.

    Raises
    ------
    ValueError
        For a split that is neither "train" nor "test", and for ``.ts`` files with time stamps or without
        labels.
    FileNotFoundError
        Where neither ``uea/uea_NAME.npz`` nor ``uea/NAME/NAME_TRAIN.ts`` (or ``_TEST``) is under TSSSM_DATA;
        the archive cannot be downloaded automatically.

    References
    ----------
    Bagnall et al., arXiv 1811.00075, 2018.
    """
    part = _part(split)
    repacked = _local(f"uea/uea_{name}.npz")
    if repacked is None:
        return _read_ts(_path("uea", f"uea/{name}/{name}_{part}.ts"))
    with np.load(repacked) as arrays:
        return arrays[f"X_{split}"].astype(np.float32), _labels(arrays[f"y_{split}"].tolist())


@functools.cache
def _registry() -> dict[str, Any]:
    # In a wheel the registry lies inside the package; in the source tree it is the folder beside it.
    here = Path(__file__).resolve().parent
    inside, beside = here / "_datasets_registry" / "registry.json", here.parent / "datasets" / "registry.json"
    return json.loads((inside if inside.exists() else beside).read_text(encoding="utf-8"))


def _local(path: str) -> Path | None:
    folder = os.environ.get("TSSSM_DATA")
    candidate = Path(folder, path) if folder else None
    return candidate if candidate is not None and candidate.exists() else None


def _path(collection: str, path: str) -> Path:
    """Return where the file lies on this machine, after downloading it if need be."""
    local = _local(path)
    if local is not None:
        return local
    entry = _registry()[collection]
    file = next((file for file in entry["files"] if file["path"] == path), None)
    if file is None or file["url"] is None:
        folder = os.environ.get("TSSSM_DATA")
        raise FileNotFoundError(
            f"{path} of the {entry['title']} is not on this machine and cannot be downloaded automatically. "
            f"Get it from {entry['source']} and put it at FOLDER/{path}, where the environment variable "
            f"TSSSM_DATA names FOLDER; it is {f'set to {folder!r}' if folder else 'not set'}."
        )
    import pooch

    target = Path(path)
    folder = pooch.os_cache("tsssm") / target.parent
    return Path(pooch.retrieve(file["url"], f"sha256:{file['sha256']}", fname=target.name, path=folder))


def _part(split: str) -> str:
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}.')
    return split.upper()


def _labels(labels: Sequence[Any]) -> npt.NDArray[Any]:
    """Return labels as int64 where all are whole numbers ("3", "3.0" or 3), else as text."""
    try:
        numbers = np.asarray(labels, dtype=np.float64)
    except ValueError:
        return np.asarray(labels, dtype=np.str_)
    whole = np.isfinite(numbers) & (numbers == np.round(numbers))
    return numbers.astype(np.int64) if whole.all() else np.asarray(labels, dtype=np.str_)


def _bidmc_records(records: str | Sequence[str]) -> list[str]:
    splits: dict[str, list[str]] = _registry()["bidmc"]["splits"]
    if isinstance(records, str):
        if records not in ("all", *splits):
            raise ValueError(
                f"records must be 'all', 'train', 'test' or a sequence of numbers, got {records!r}."
            )
        return sorted(splits["train"] + splits["test"]) if records == "all" else list(splits[records])
    published = [f"{number:02d}" for number in range(1, 54)]
    unknown = [record for record in records if record not in published]
    if unknown or not len(records):
        raise ValueError(f"records must be numbers such as '02', from '01' to '53'; got {list(records)!r}.")
    return list(records)


def _bidmc_record(
    record: str, target: str, channels: Sequence[str]
) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Return the signals (samples, channels) at 125 Hz and the numeric (seconds,) at 1 Hz of one record."""
    repacked = _local(_BIDMC_REPACKED)
    if repacked is not None and set(channels) <= set(_BIDMC_REPACKED_CHANNELS):
        with np.load(repacked) as arrays:
            if record in arrays["records"]:
                signals = arrays[f"sig_{record}"][:, [_BIDMC_REPACKED_CHANNELS.index(c) for c in channels]]
                return signals, arrays[f"num_{record}"][:, _BIDMC_TARGETS.index(target)].astype(np.float64)
    tables = []
    for kind, columns in (("Signals", list(channels)), ("Numerics", [target])):
        path = _path("bidmc", f"bidmc/bidmc_csv/bidmc_{record}_{kind}.csv")
        table = pd.read_csv(path, skipinitialspace=True)
        if not set(columns) <= set(table.columns):
            raise ValueError(f"record {record} has {kind.lower()} {list(table.columns[1:])}, got {columns}.")
        tables.append(table[columns])
    return tables[0].to_numpy(dtype=np.float32), tables[1].to_numpy(dtype=np.float64)[:, 0]


def _windows(samples: npt.NDArray[Any], length: int, stride: int) -> npt.NDArray[Any]:
    """Return views (n, ..., length) of windows over the first axis."""
    return np.lib.stride_tricks.sliding_window_view(samples, length, axis=0)[::stride]


def _decimated(X: FloatArray, factor: int) -> FloatArray:
    """Return X (n, channels, length / factor) at a lower rate, filtered against aliases."""
    if factor == 1:
        return np.ascontiguousarray(X)
    from scipy.signal import decimate

    # The filter reaches 10 * factor samples to each side and takes what lies outside for zero; reflected
    # samples keep the level of the signal instead.
    reach = 10
    padded = np.pad(X, ((0, 0), (0, 0), (reach * factor,) * 2), mode="reflect", reflect_type="odd")
    filtered = decimate(padded, factor, ftype="fir", axis=-1, zero_phase=True)
    return np.ascontiguousarray(filtered[..., reach:-reach], dtype=np.float32)


def _read_ts(path: Path) -> tuple[FloatArray | list[FloatArray], npt.NDArray[Any]]:
    """Read a ``.ts`` file: channels parted by colons, values by commas, the label last, "?" for missing."""
    header: dict[str, str] = {}
    series: list[FloatArray] = []
    labels: list[str] = []
    for line in path.read_text(encoding="latin-1").splitlines():  # comments hold bytes that are not UTF-8
        if line.startswith("@"):
            key, _, value = line[1:].partition(" ")
            header[key.strip().lower()] = value.strip().lower()
            no_labels = header.get("classlabel", "").startswith("false")
            if "data" in header and (no_labels or header.get("timestamps") == "true"):
                raise ValueError(f"{path} has time stamps or no class labels; neither can be read.")
        elif line.strip() and line[0] not in "#%":
            *channels, label = line.strip().split(":")
            labels.append(label)
            values = [
                np.array(channel.replace("?", "nan").split(","), dtype=np.float32) for channel in channels
            ]
            series.append(np.stack(values))
    equal = len({array.shape for array in series}) == 1
    return np.stack(series) if equal else series, _labels(labels)
