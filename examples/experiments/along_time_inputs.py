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


def unlike(signals: Array, beats: Array) -> Array:
    """How each beat differs from the usual one of its recording: (7, m), of whatever polarity and leads.

    The usual beat is the median of those two fifths that are most alike, among beats that come in time. There
    are logarithms of the distance from it, over that of the usual beats, in the QRS complex, after and before
    it; one minus the correlation with it; and the width, roughness and height of the QRS complex.
    """
    padded = np.pad(signals, ((0, 0), (70, 70)))
    windows = np.stack([padded[:, k + 25 : k + 140] for k in beats])  # the beat is at sample 45
    own, early = windows[:, :, 15:105], np.abs(rhythm(beats)).max(axis=0)
    usual = early <= np.median(early)
    for _ in range(4):
        distance = ((own - np.median(own[usual], axis=0)) ** 2).mean(axis=(1, 2))
        usual = distance <= np.quantile(distance, 0.4)

    def over_usual(values: Array) -> Array:
        return np.log((values + 1e-6) / (np.median(values[usual]) + 1e-6))

    found = []
    for part in (slice(35, 58), slice(58, 105), slice(15, 35)):
        there = windows[:, :, part]
        error = there - np.median(there[usual], axis=0)
        found.append(over_usual(np.sqrt((error**2).mean(axis=(1, 2)))))
    qrs = windows[:, :, 33:60]
    mean, energy = np.median(qrs[usual], axis=0), (qrs**2).sum(axis=(1, 2)) + 1e-9
    found.append(3 * (1 - (qrs * mean).sum(axis=(1, 2)) / np.sqrt(energy * (mean**2).sum() + 1e-9)))
    found.append(2 * over_usual(np.abs(qrs).sum(axis=(1, 2)) ** 2 / energy))
    found.append(2 * over_usual(np.sqrt((np.diff(qrs, axis=2) ** 2).sum(axis=(1, 2)) / energy)))
    found.append(2 * over_usual(np.sqrt(energy)))
    return np.clip(np.stack(found), -4, 4)


def tempo(beats: Array) -> Array:
    """How early each beat is by other measures than `rhythm`: (7, m).

    Logarithms of the interval before it over the median of its recording, and over the interval before
    that, and of the interval after over it; how irregular the 31 intervals around are; the logarithm over the
    median of the 32 before; and those over the median around, and of the recording, in units of that
    irregularity: an interval that is early in a regular rhythm is usual in atrial fibrillation.
    """
    interval = np.diff(beats, prepend=beats[0] - np.median(np.diff(beats))).astype(float)
    following, previous = np.append(interval[1:], interval[-1]), np.append(interval[0], interval[:-1])
    usual = np.median(interval)
    before = [np.median(interval[max(0, i - 32) : i]) if i > 3 else usual for i in range(len(interval))]
    local = [np.median(interval[max(0, i - 10) : i + 11]) for i in range(len(interval))]
    changes = np.pad(np.abs(np.log(interval / previous)), 15, mode="edge")
    uneven = np.median(np.lib.stride_tricks.sliding_window_view(changes, 31), axis=1)
    ratios = [interval / usual, interval / previous, following / interval, interval / np.array(before)]
    found = [4 * np.clip(np.log(ratio), -1, 1) for ratio in ratios]
    found.insert(3, np.log(uneven + 0.01) + 3)
    for middle in (np.array(local), usual):
        found.append(np.clip(np.log(interval / middle) / (uneven + 0.02), -6, 6) / 1.5)
    return np.stack(found)


def beat_series(signals: Array, beats: Array) -> Array:
    """One sample a beat: `rhythm`, `unlike` and `tempo`, (16, m)."""
    return np.concatenate([4 * rhythm(beats), unlike(signals, beats), tempo(beats)]).astype(np.float32)


def with_neighbours(series: Array, count: int = 2) -> Array:
    """A series (c, m), and beside each sample so many before and after it: ((2 count + 1) c, m)."""
    at = np.arange(series.shape[1])
    shifts = [0, *(sign * k for k in range(1, count + 1) for sign in (1, -1))]
    return np.concatenate([series[:, np.clip(at + shift, 0, at[-1])] for shift in shifts])


def varied(series: Array, rng: np.random.Generator) -> Array:
    """A series (c, m) as of another person: shifted, stretched and noisy, without some of its channels."""
    factor, shift = np.exp(0.1 * rng.normal(size=(len(series), 1))), 0.2 * rng.normal(size=(len(series), 1))
    other = series * factor + shift + 0.2 * rng.normal(size=series.shape)
    lost = rng.random((len(series), 1)) < 0.1
    return np.where(lost, series.mean(axis=1, keepdims=True), other).astype(np.float32)


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
