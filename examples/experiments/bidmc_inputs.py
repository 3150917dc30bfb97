"""What the networks of the experiment on BIDMC are given: pulses, at many speeds and in random pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, resample_poly, sosfiltfilt

Array = npt.NDArray[Any]
Played = dict[int, Array]  # inputs (n, 2, length) of windows by the speed, in tenths

HERTZ = 62.5  # of the recordings here, every second sample of those published
KEPT = 5  # one sample in so many of the filtered signals: 12.5 Hz
QRS = (8.0, 20.0)  # Hz, where the ECG of a beat is and its T wave is not
SMOOTHEST = 3.0  # Hz, the fastest that is kept of the filtered signals
BREATH = (0.1, 1.0)  # Hz
SLOWLY_KEPT = 12  # the same for signals that move with the breath: 5.2 Hz
HASTE = 0.5  # s over which the speed of a piece with an irregular heart changes


class Recipe(NamedTuple):
    """How networks are trained and asked.

    ``inputs`` turns recordings into inputs, and each of ``heard`` names the channels that a network is given.
    ``speeds`` and ``asked`` are the speeds, in tenths, at which windows are played in training and
    prediction; in training, targets stay within ``between``, for extreme rates would cost most, and the speed
    of a piece has a spread of up to ``irregular``. Training takes ``pieces`` random pieces of ``piece``
    samples, once; ``networks`` networks for each of ``heard``, with ``settings`` of `SSMRegressor`, answer as
    `answers` says, with ``tilt`` and ``middle``.
    """

    inputs: Callable[[Array], Array]
    heard: Sequence[Sequence[int]]
    speeds: Sequence[int]
    asked: Sequence[int]
    tilt: float
    middle: float | None
    between: tuple[float, float]
    irregular: float
    piece: int
    pieces: int
    networks: int
    settings: Mapping[str, Any]


def band(X: Array, low: float | None, high: float) -> Array:
    """Frequencies from ``low`` (None is 0) to ``high`` Hz, without a shift in time."""
    edges, kind = (high, "lowpass") if low is None else ((low, high), "bandpass")
    return sosfiltfilt(butter(2, edges, kind, fs=HERTZ, output="sos"), X)


def standardised(X: Array) -> Array:
    """Every channel of every series with mean 0 and variance 1, or 0 where it is constant."""
    X = X - X.mean(axis=-1, keepdims=True)
    std = X.std(axis=-1, keepdims=True)
    return X / np.where(std > 0, std, 1)


def sampled(signals: Sequence[Array], step: int) -> Array:
    """Every ``step``-th sample of filtered signals, each (n, length), as standardised channels."""
    return np.clip(standardised(np.stack(signals, axis=1))[:, :, ::step], -4, 4).astype(np.float32)


def beats(X: Array) -> Array:
    """Smooth pulses of PLETH, and how strong the QRS complex is.

    The filters come after the change of speed, so that the pulse of a beat is as wide at every rate.
    """
    return sampled([band(X[:, 0], 0.5, SMOOTHEST), band(np.abs(band(X[:, 1], *QRS)), None, SMOOTHEST)], KEPT)


def breaths(X: Array) -> Array:
    """What a breath moves: the baseline of PLETH, the height of its pulses, and the strength of the QRS."""
    pulses, complexes = np.abs(band(X[:, 0], 0.5, 5.0)), np.abs(band(X[:, 1], *QRS))
    return sampled([band(each, *BREATH) for each in (X[:, 0], pulses, complexes)], SLOWLY_KEPT)


def chest(X: Array) -> Array:
    """The breath itself, from a recording of RESP alone."""
    return sampled([band(X[:, 0], *BREATH)], SLOWLY_KEPT)


def levels(X: Array) -> Array:
    """The recordings as they are: level and height, by which patients differ, at every fourth sample."""
    return band(X, None, 6.0)[:, :, ::4].astype(np.float32)


def played(X: Array, recipe: Recipe, speeds: Iterable[int]) -> Played:
    """Inputs of recordings X (n, 2, length) played at each speed, 12 being 1.2 times as fast."""
    return {
        speed: recipe.inputs(X if speed == 10 else resample_poly(X, 10, speed, axis=2, padtype="line"))
        for speed in sorted(speeds)
    }


def pieces(train: Played, y: Array, recipe: Recipe, rng: np.random.Generator) -> tuple[Array, Array]:
    """Random pieces of the training windows at random speeds, and their targets at these speeds.

    Speeds at which the target is out of the recipe's range are left out, unless all are. Within a piece the
    speed varies, as that of an irregular heart does. The strength of signals varies from piece to piece,
    noise is added, and where there are several channels six pieces in a hundred lack one.
    """
    n = recipe.pieces
    rows = rng.integers(len(y), size=n)
    speeds = np.array(recipe.speeds)
    rates = np.outer(y, speeds / 10)
    low, high = recipe.between
    # The largest of random numbers: each speed that is allowed is as likely as the others.
    drawn = rng.uniform(size=(n, len(speeds))) * ((rates >= low) & (rates <= high))[rows]
    tenths = speeds[drawn.argmax(axis=1)]
    # Noise smoothed to variance 1 for the logarithm of steps in time.
    width = HASTE * HERTZ / KEPT
    noise = gaussian_filter1d(rng.standard_normal((n, recipe.piece)), width, axis=1, mode="wrap")
    uneven = recipe.irregular * np.sqrt(2 * np.sqrt(np.pi) * width) * rng.uniform(size=(n, 1)) * noise
    time_ = np.cumsum(np.exp(uneven), axis=1)
    time_ -= time_[:, :1]
    X = np.empty((n, train[10].shape[1], recipe.piece), np.float32)
    faster = np.empty(n)
    for speed in recipe.speeds:
        here = np.flatnonzero(tenths == speed)
        last = train[speed].shape[2] - 1
        at = time_[here] * np.minimum(1, last / time_[here, -1:])
        faster[here] = speed / 10 * at[:, -1] / (recipe.piece - 1)
        at += rng.uniform(size=(len(here), 1)) * (last - at[:, -1:])
        before = np.minimum(at.astype(int), last - 1)
        part = (at - before)[:, None].astype(np.float32)
        left, right = (train[speed][rows[here, None], :, k].swapaxes(1, 2) for k in (before, before + 1))
        X[here] = left + part * (right - left)
    scale = X.std(axis=(0, 2), keepdims=True)
    n, channels, _ = X.shape
    X *= np.exp(0.2 * rng.standard_normal((n, channels, 1)))
    X += 0.1 * scale * rng.uniform(size=(n, channels, 1)) * rng.standard_normal(X.shape)
    if channels > 1:
        off = np.flatnonzero(rng.uniform(size=n) < 0.06)
        X[off, rng.integers(channels, size=len(off))] = 0
    return X, y[rows] * faster
