"""Long recordings: repacked as differences of integers in a compressed archive of arrays, and as a panel."""

from __future__ import annotations

import io
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel


def arrays_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an ``.npz.xz``, without pickles.

    Raises
    ------
    ValueError
        For a file that is none, or is damaged.
    """
    try:
        with lzma.open(path) as file:
            content = file.read()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (lzma.LZMAError, EOFError, ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a readable archive of arrays: {error}") from error


def summed(differences: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return the integers (..., L) whose first differences these are; they wrap around as they were made."""
    return np.cumsum(differences, axis=-1, dtype=np.int16)


def panel_of(
    signals: Sequence[npt.NDArray[Any]], rate: float, names: Sequence[str], ids: Sequence[str] | None = None
) -> Panel:
    """Return recordings (channels, L_i) of one sampling rate in Hz as a panel with times in seconds."""
    lengths = [one.shape[1] for one in signals]
    return Panel(
        np.concatenate(signals, axis=1).T,
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([np.arange(length) / rate for length in lengths]),
        names,
        ids=ids,
        time_unit="s",
    )
