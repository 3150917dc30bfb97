"""Recordings that were repacked as differences of integers in a compressed archive of arrays."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


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
        raise ValueError(f"{path} is no archive of arrays as it should be: {error}") from error


def summed(differences: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return the integers (..., L) whose first differences these are; they wrap around as they were made."""
    return np.cumsum(differences, axis=-1, dtype=np.int16)
