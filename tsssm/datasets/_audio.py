"""Spoken words as raw audio: Free Spoken Digit Dataset and Speech Commands."""

from __future__ import annotations

from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_choice, checked_count, checked_part, result
from tsssm.datasets._files import Store, members
from tsssm.datasets._formats import FloatArray, read_wav
from tsssm.datasets._windows import decimated
from tsssm.panel import Panel

_FSDD_RATE = 8000  # Hz
_FSDD_TEST = 5  # recordings of a digit and speaker

_COMMANDS_RATE = 16000  # Hz, and samples of a recording: 1 s
_SC10 = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def fetch_fsdd(
    *,
    part: str = "all",
    decimate: int = 1,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch the Free Spoken Digit Dataset: raw audio of ten digits by six speakers at 8 kHz.

    Parameters
    ----------
    part : {"all", "train", "test"}, default="all"
        The published split: the first five recordings of each digit and speaker are the test part (300), the
        other 45 the training part (2,700).
    decimate : int, default=1
        Keep every so many samples, after a filter against aliases.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data``, a Panel of n series of one channel: sound pressure in units of the largest that the format
        holds, 1,148 to 18,262 samples at 8 kHz, with times in ms, so that a model trained at one rate reads
        another. ``target`` (n,) int64, the digit; ``groups`` (n,), the speaker; ``part`` (n,);
        ``feature_names``; ``sampling_rate`` in Hz; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown part, a factor that is no positive whole number, and a damaged archive.
    FileNotFoundError, ConnectionError
        Where the archive is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    Jackson et al., Free Spoken Digit Dataset, doi 10.5281/zenodo.1342401.
    """
    checked_part(part)
    checked_count(decimate, "decimate")
    store = Store(data_home, download_if_missing)
    path = store.find("fsdd", "recordings.tar.gz") or store.get("fsdd", "master.tar.gz")
    recordings = {}
    # The publisher's archive may have other sounds in other folders.
    for name, content in members(path, lambda name: name.match("recordings/[0-9]_*_*.wav")):
        digit, speaker, index = name.stem.split("_")
        which = "test" if int(index) < _FSDD_TEST else "train"
        if part in ("all", which):
            samples = read_wav(content, str(name), _FSDD_RATE)
            recordings[digit, speaker, int(index), which] = decimated(samples, decimate)
    if not recordings:
        raise ValueError(f"{path} holds no recordings.")
    keys = sorted(recordings)
    digits, speakers, _, parts = (np.array(column) for column in zip(*keys, strict=True))
    step = 1000 * decimate / _FSDD_RATE  # ms
    series = [recordings[key] for key in keys]
    panel = Panel(
        np.concatenate(series)[:, np.newaxis],
        np.cumsum([0, *map(len, series)]),
        np.concatenate([np.arange(len(x)) * step for x in series]),
        ("audio",),
        time_unit="ms",
    )
    return result(
        "fsdd",
        panel,
        digits.astype(np.int64),
        return_X_y=return_X_y,
        feature_names=["audio"],
        groups=speakers,
        parts=parts,
        sampling_rate=_FSDD_RATE / decimate,
    )


def fetch_speech_commands(
    subset: str = "sc10",
    *,
    part: str = "all",
    decimate: int = 1,
    return_X_y: bool = False,
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Any:
    """Fetch Speech Commands, version 0.02: raw audio of single words, 1 s at 16 kHz.

    The archive has 2.3 GB. At the full rate the ten words take 2.2 GB of memory and the 35 words 6.8 GB,
    twice that for a moment; ``part`` and ``decimate`` reduce it.

    Parameters
    ----------
    subset : {"sc10", "sc35"}, default="sc10"
        The ten words yes, no, up, down, left, right, on, off, stop and go, without recordings shorter than
        1 s; or all 35 words, the shorter recordings filled with zeros.
    part : {"all", "train", "validation", "test"}, default="all"
        The publisher's lists, which keep speakers apart.
    decimate : int, default=1
        Keep every so many samples, after a filter against aliases; must divide 16,000.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    data_home : path, optional
        Folder to look in and download to; by default that of the variable TSSSM_DATA, then the user's cache.
    download_if_missing : bool, default=True
        Whether to download files that are not on this machine.

    Returns
    -------
    Bunch
        ``data`` (n, 1, 16000 / decimate) float32, sound pressure in units of the largest that the format
        holds; ``target`` (n,) str, the word; ``groups`` (n,), the speaker; ``part`` (n,); ``feature_names``;
        ``sampling_rate`` in Hz; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For an unknown subset or part, a factor that does not divide 16,000, and a damaged archive.
    FileNotFoundError, ConnectionError
        Where the archive is missing and cannot be downloaded; says where to get it and where to put it.

    References
    ----------
    Warden, arXiv 1804.03209, 2018. The ten words: Kidger et al., arXiv 2005.08926, 2020.
    """
    checked_choice(subset, "subset", ("sc10", "sc35"))
    checked_part(part, ("train", "validation", "test"))
    if _COMMANDS_RATE % checked_count(decimate, "decimate"):
        raise ValueError(
            f"decimate must divide {_COMMANDS_RATE}, the samples of a recording; got {decimate}."
        )
    store = Store(data_home, download_if_missing)
    path = store.get("speech_commands", "speech_commands_v0.02.tar.gz")
    listed = _listed_parts(path)
    recordings: dict[tuple[str, str], FloatArray] = {}

    def wanted(name: PurePosixPath) -> bool:
        word = name.parent.name
        if name.suffix != ".wav" or word.startswith("_") or (subset == "sc10" and word not in _SC10):
            return False  # "_background_noise_" holds no words
        return part in ("all", listed.get((word, name.name), "train"))

    for name, content in members(path, wanted):
        samples = read_wav(content, str(name), _COMMANDS_RATE)[:_COMMANDS_RATE]
        if len(samples) < _COMMANDS_RATE:
            if subset == "sc10":
                continue
            samples = np.pad(samples, (0, _COMMANDS_RATE - len(samples)))
        recordings[name.parent.name, name.name] = decimated(samples, decimate)
    if not recordings:
        raise ValueError(f"{path} holds no recordings of this part.")
    keys = sorted(recordings)
    data = np.stack([recordings.pop(key) for key in keys])[:, np.newaxis]
    parts: npt.NDArray[np.str_] = np.array([listed.get(key, "train") for key in keys])
    return result(
        "speech_commands",
        data,
        np.array([word for word, _ in keys]),
        return_X_y=return_X_y,
        feature_names=["audio"],
        groups=np.array([file.partition("_nohash_")[0] for _, file in keys]),
        parts=parts,
        sampling_rate=_COMMANDS_RATE / decimate,
    )


def _listed_parts(path: Path) -> dict[tuple[str, str], str]:
    """Part of each recording, by word and file name, that is not in the training part."""
    lists = {"validation_list.txt": "validation", "testing_list.txt": "test"}
    listed: dict[tuple[str, str], str] = {}
    for name, content in members(path, lambda name: name.name in lists):
        part = lists.pop(name.name)
        for line in content.decode("ascii").split():
            word, _, file = line.partition("/")
            listed[word, file] = part
        if not lists:
            return listed
    raise ValueError(f"{path} lacks {' and '.join(lists)}.")
