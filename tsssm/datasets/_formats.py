"""Publishers' file formats into arrays: ``.ts``, ``.tsv``, idx, CIFAR binary, wav."""

from __future__ import annotations

import gzip
import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.datasets._files import BROKEN

FloatArray = npt.NDArray[np.float32]
Series = list[FloatArray]  # n arrays of shape (channels, length_i)

_IDX_BYTES = 0x08  # code of unsigned bytes, the one element type of the MNIST files


def read_ts(content: bytes, name: str) -> tuple[Series, list[str]]:
    """Read a ``.ts`` file into series and labels or target values as text.

    Channels are parted by colons and values by commas; the label comes last; "?" is a missing value.

    Raises
    ------
    ValueError
        For files with time stamps, without labels or with channels of unequal length within a series, and for
        text that is no number.
    """
    header: dict[str, str] = {}
    series: Series = []
    labels: list[str] = []
    for number, line in enumerate(content.decode("latin-1").splitlines(), 1):  # comments are not always UTF-8
        if line.startswith("@"):
            key, _, value = line[1:].strip().partition(" ")
            header[key.lower()] = value.strip().lower()
            if key.lower() == "data":
                _check_header(header, name)
        elif line.strip() and line[0] not in "#%":
            *channels, label = line.strip().split(":")
            try:
                values = [np.array(c.replace("?", "nan").split(","), dtype=np.float32) for c in channels]
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: {error}.") from error
            lengths = {len(channel) for channel in values}
            if len(lengths) != 1:
                raise ValueError(
                    f"{name}, line {number}: the channels of a series must have one length, got "
                    f"{sorted(lengths)}."
                )
            series.append(np.stack(values))
            labels.append(label.strip())
    if not series:
        raise ValueError(f"{name} holds no series.")
    return series, labels


def _check_header(header: dict[str, str], name: str) -> None:
    labelled = header.get("classlabel", header.get("targetlabel", "true"))
    if header.get("timestamps") == "true" or labelled.startswith("false"):
        raise ValueError(f"{name} has time stamps, or lacks labels; such files cannot be read.")


def read_tsv(path: Path) -> tuple[Series, list[Any]]:
    """Read a file of the UCR archive of 2018: a line per series, the label first."""
    table = pd.read_csv(path, sep="\t", header=None)
    X = table.iloc[:, 1:].to_numpy(dtype=np.float32)
    return list(X[:, np.newaxis, :]), table[0].tolist()


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes.

    Raises
    ------
    ValueError
        For a file that is no such file, or is shorter or longer than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except BROKEN as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}).") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_BYTES:
        raise ValueError(f"{path} is not an idx file of bytes: it starts with {content[:4].hex(' ')}.")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").tolist())
    if len(content) - start != int(np.prod(shape)):
        raise ValueError(f"{path} holds {len(content) - start} bytes of data, its header says {shape}.")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_cifar(content: bytes, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read a batch of CIFAR-10's binary version into images (n, 3, 1024) and labels (n,).

    Raises
    ------
    ValueError
        For content that is not made of records of a label and 3,072 pixels.
    """
    record = 1 + 3 * 1024
    if not content or len(content) % record:
        raise ValueError(f"{name} must hold records of {record} bytes, got {len(content)} bytes.")
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    return rows[:, 1:].reshape(-1, 3, 1024), rows[:, 0].astype(np.int64)


def read_wav(content: bytes, name: str, rate: int) -> FloatArray:
    """Read a mono 16-bit wav file in units of the largest pressure that the format holds, (samples,).

    Raises
    ------
    ValueError
        For another kind of file or another sampling rate than ``rate`` in Hz.
    """
    try:
        with wave.open(io.BytesIO(content)) as sound:
            kind = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            samples = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{name} is not a wav file ({error}).") from error
    if kind != (1, 2, rate):
        raise ValueError(
            f"{name} must have 1 channel of 2 bytes at {rate} Hz, got {kind[0]} of {kind[1]} at {kind[2]} Hz."
        )
    return np.frombuffer(samples, dtype="<i2").astype(np.float32) / np.float32(32768)


def class_labels(labels: Sequence[Any]) -> npt.NDArray[Any]:
    """Return labels as int64 where all are whole numbers ("3", "3.0" or 3), else as text."""
    try:
        numbers = np.asarray(labels, dtype=np.float64)
    except ValueError:
        return np.asarray(labels, dtype=np.str_)
    whole = np.isfinite(numbers) & (numbers == np.round(numbers))
    return numbers.astype(np.int64) if whole.all() else np.asarray(labels, dtype=np.str_)
