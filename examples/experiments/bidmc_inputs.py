"""What networks of heart rates are given of a monitor's recordings (BIDMC): pulses, and QRS complexes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, find_peaks, sosfiltfilt

Array = npt.NDArray[Any]

HERTZ = 62.5  # of the recordings here, every second sample of those published
KEPT = 5  # one sample in so many of the filtered signals: 12.5 Hz
QRS = (8.0, 20.0)  # Hz, where the ECG of a beat is and its T wave is not
SMOOTHEST = 3.0  # Hz, the fastest that is kept of the filtered signals


def band(X: Array, low: float | None, high: float) -> Array:
    """Frequencies from ``low`` (None is 0) to ``high`` Hz, without a shift in time."""
    edges, kind = (high, "lowpass") if low is None else ((low, high), "bandpass")
    return sosfiltfilt(butter(2, edges, kind, fs=HERTZ, output="sos"), X)


def standardised(X: Array) -> Array:
    """Every channel of every series with mean 0 and variance 1, or 0 where it is constant."""
    X = X - X.mean(axis=-1, keepdims=True)
    std = X.std(axis=-1, keepdims=True)
    return X / np.where(std > 0, std, 1)


def peaks(x: Array) -> Array:
    """Times in s of the beats in a standardised signal (length,)."""
    return find_peaks(x, distance=0.35 * HERTZ, prominence=0.5)[0] / HERTZ


def beats(X: Array) -> Array:
    """Smooth pulses of PLETH, and how strong the QRS complex is, (n, 2, length) at 12.5 Hz."""
    complexes = np.abs(band(X[:, 1], *QRS))
    signals = np.stack([band(X[:, 0], 0.5, SMOOTHEST), band(complexes, None, SMOOTHEST)], axis=1)
    return np.clip(standardised(signals)[:, :, ::KEPT], -4, 4).astype(np.float32)
