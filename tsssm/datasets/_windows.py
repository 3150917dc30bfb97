"""Windows over long recordings, and lower sampling rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._formats import FloatArray


def windows(samples: npt.NDArray[Any], length: int, stride: int) -> npt.NDArray[Any]:
    """Return views (n, ..., length) of windows over the first axis."""
    if len(samples) < length:
        return np.empty((0, *samples.shape[1:], length), dtype=samples.dtype)
    return np.lib.stride_tricks.sliding_window_view(samples, length, axis=0)[::stride]


def decimated(X: FloatArray, factor: int) -> FloatArray:
    """Return X (..., length) with every ``factor``-th sample, filtered against aliases.

    The zero-phase FIR of :func:`scipy.signal.decimate`, each series on its own, extended at both ends by odd
    reflection.
    """
    if factor == 1:
        return np.ascontiguousarray(X)
    from scipy.signal import decimate

    # The filter reaches 10 * factor samples to each side and takes what lies outside for zero; reflected
    # samples keep the level of the signal instead.
    reach = 10
    width = ((0, 0),) * (X.ndim - 1) + ((reach * factor,) * 2,)
    padded = np.pad(X, width, mode="reflect", reflect_type="odd")
    filtered = decimate(padded, factor, ftype="fir", axis=-1, zero_phase=True)
    return np.ascontiguousarray(filtered[..., reach:-reach], dtype=np.float32)
