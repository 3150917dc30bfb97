"""What the experiments along time make of recordings, and what their peers see of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[Any]

BEATS_HERTZ = 120


def rotated(signals: Array, degrees: float, rng: np.random.Generator) -> Array:
    """Signals (6, L) of a phone that is worn a little differently: another person, for all it knows."""
    turn = Rotation.from_rotvec(rng.normal(size=3) * np.deg2rad(degrees)).as_matrix().astype(np.float32)
    return np.concatenate([turn @ signals[:3], turn @ signals[3:]])


def movement_windows(signals: Array, centres: Array, half: int) -> Array:
    """Hand-made features (m, f) of windows around samples: moments, ranges and spectra of eight channels."""
    size = np.linalg.norm(signals.reshape(2, 3, -1), axis=1)
    channels = np.concatenate([signals, size])
    padded = np.pad(channels, ((0, 0), (half, half)), mode="edge")
    cut = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=1)[:, centres]
    power = np.abs(np.fft.rfft(cut - cut.mean(axis=-1, keepdims=True), axis=-1)) ** 2
    bands = np.stack([band.sum(axis=-1) for band in np.array_split(power[..., 1:], 6, axis=-1)], axis=-1)
    features = [
        cut.mean(axis=-1),
        cut.std(axis=-1),
        cut.min(axis=-1),
        cut.max(axis=-1),
        np.abs(np.diff(cut, axis=-1)).mean(axis=-1),
        cut[..., -half:].mean(axis=-1) - cut[..., :half].mean(axis=-1),
        *np.moveaxis(np.log(bands + 1e-9), -1, 0),
    ]
    return np.concatenate(features).T


def ecg(signals: Array, beats: Array) -> Array:
    """Two leads (2, L) without baseline wander, in units of the height of their beats."""
    clean = sosfiltfilt(butter(2, 0.5, "high", fs=BEATS_HERTZ, output="sos"), signals.astype(float), axis=1)
    heights = [np.abs(clean[:, max(0, k - 6) : k + 7]).max(axis=1) for k in beats]
    return np.clip(clean / np.median(heights, axis=0)[:, None], -4, 4).astype(np.float32)


def rhythm(beats: Array) -> Array:
    """Logarithms (2, m) of the interval before and after each beat, over the median of the 20 around."""
    interval = np.diff(beats, prepend=beats[0] - np.median(np.diff(beats)))
    following = np.append(interval[1:], interval[-1])
    local = np.array([np.median(interval[max(0, i - 10) : i + 11]) for i in range(len(interval))])
    return np.clip(np.log(np.stack([interval, following]) / local), -1, 1)


def with_beats(signals: Array, beats: Array) -> Array:
    """The leads, marks of beats, and the rhythm of each while it is the nearest one: (5, L)."""
    marks = np.zeros((1, signals.shape[1]), dtype=np.float32)
    marks[0, beats] = 3.0
    bounds = np.concatenate([[0], (beats[:-1] + beats[1:]) // 2, [signals.shape[1]]])
    held = np.repeat(4 * rhythm(beats), np.diff(bounds), axis=1).astype(np.float32)
    return np.concatenate([signals, marks, held])


def played(signals: Array, beats: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """The same beats faster or slower, higher or lower: leads, and samples of the beats."""
    speed = rng.uniform(0.75, 1.3)
    length = int(signals.shape[1] * speed)
    old = np.arange(length) / speed
    leads = [np.interp(old, np.arange(signals.shape[1]), lead) for lead in signals]
    height = rng.uniform(0.6, 1.5, size=(2, 1))
    return (np.stack(leads) * height).astype(np.float32), np.minimum(
        np.round(beats * speed), length - 1
    ).astype(int)


def beat_features(signals: Array, beats: Array) -> Array:
    """Hand-made features (m, f) of beats: intervals, their ratios, and the shape in both leads."""
    interval = np.diff(beats, prepend=beats[0] - np.median(np.diff(beats))) / BEATS_HERTZ
    following = np.append(interval[1:], interval[-1])
    before = np.append(interval[0], interval[:-1])
    local = np.array([np.mean(interval[max(0, i - 10) : i + 11]) for i in range(len(interval))])
    usual = np.median(interval)
    times = [interval, following, interval / local, following / local, interval / following]
    times += [interval / usual, following / usual, interval / before]
    padded = np.pad(signals, ((0, 0), (60, 60)))
    shape = np.stack([padded[:, k + 24 : k + 120 : 3].ravel() for k in beats])
    return np.column_stack([np.stack(times, axis=1), shape])


def bounds(waves: Array, kind: int) -> tuple[Array, Array]:
    """First and last sample of each run of one wave."""
    inside = np.diff((waves == kind).astype(int), prepend=0, append=0)
    return np.flatnonzero(inside == 1), np.flatnonzero(inside == -1) - 1


def delineated(signal: Array, hertz: float) -> Array:
    """Waves (L,) of one lead by NeuroKit2's wavelets, 0 where there is none; all 0 where it gives up."""
    import neurokit2 as nk

    waves = np.zeros(len(signal), dtype=int)
    try:
        clean = nk.ecg_clean(signal, sampling_rate=hertz)
        peaks = nk.ecg_peaks(clean, sampling_rate=hertz)[1]["ECG_R_Peaks"]
        found = nk.ecg_delineate(clean, peaks, sampling_rate=hertz, method="dwt")[1]
    except (ValueError, IndexError, KeyError, ZeroDivisionError):  # of leads in which it finds no beats
        return waves
    for kind, name in ((1, "P"), (3, "T"), (2, "R")):
        for first, last in zip(found[f"ECG_{name}_Onsets"], found[f"ECG_{name}_Offsets"], strict=True):
            if np.isfinite(first) and np.isfinite(last):
                waves[int(first) : int(last) + 1] = kind
    return waves


def folds_of(groups: Array, count: int) -> Iterator[tuple[Array, Array]]:
    """Rows to train on and to judge by, group by group, in order of the groups."""
    names = np.unique(groups)
    for part in np.array_split(names, count):
        held = np.isin(groups, part)
        yield np.flatnonzero(~held), np.flatnonzero(held)
