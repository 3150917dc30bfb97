"""Bedside signals with known vital signs: photoplethysmogram at two wavelengths, ECG and respiration.

Symbols and shapes, n series of L samples::

    t      (n, L)  time in s
    theta  (n, L)  phase of the heart in rad: a beat a turn
    rho    (n, L)  phase of the breath in rad
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_count, checked_number, generator, result
from tsssm.panel import Panel

Array = npt.NDArray[np.float64]

CHANNELS = ("PPG_IR", "PPG_RED", "ECG", "RESP")
TARGETS = ("HR", "RR", "SpO2")

# Waves P, Q, R, S, T of the ECG: angle in rad, height in mV, width in rad. The angles and widths are those of
# McSharry et al. 2003, table 1.
_ECG_WAVES = (
    (-np.pi / 3, 0.15, 0.25),
    (-np.pi / 12, -0.10, 0.10),
    (0.0, 1.00, 0.10),
    (np.pi / 12, -0.20, 0.10),
    (np.pi / 2, 0.30, 0.40),
)
# Systolic and dicrotic wave of the pulse, which reaches the finger after the R wave.
_PULSE_WAVES = ((2.0, 1.0, 0.60), (3.8, 0.4, 0.80))
_DROPOUT = 2.0  # s that a sensor is off at a time
_ARTEFACT = (1.0, 4.0)  # s
_APNOEA = (10.0, 20.0)  # s, as in sleep; a breath takes _EDGE s to fade
_EDGE = 0.5


def make_vitals(
    n_samples: int = 100,
    *,
    duration: float = 32.0,
    sampling_rate: float = 125.0,
    irregular: bool = False,
    heart_rate: tuple[float, float] = (45.0, 130.0),
    respiratory_rate: tuple[float, float] = (8.0, 30.0),
    spo2: tuple[float, float] = (85.0, 100.0),
    noise: float = 0.02,
    artefacts: float = 0.0,
    apnoeas: float = 0.0,
    dropout: float = 0.0,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make photoplethysmogram, ECG and respiration with known heart rate, respiratory rate and SpO2.

    Each beat is a turn of a phase, drawn as a sum of waves: the heart speeds up and slows down with the
    breath, which also changes the strength of the pulse and moves its baseline. Red and infrared light differ
    by the ratio of ratios R, with SpO2 = 110 - 25 R, the usual linear calibration of pulse oximeters.

    Parameters
    ----------
    n_samples : int, default=100
        Number of series, each of one patient.
    duration : float, default=32.0
        Length of a series in s.
    sampling_rate : float, default=125.0
        Samples a second.
    irregular : bool, default=False
        Sample at random times, uniform over the duration, instead of on a regular grid.
    heart_rate, respiratory_rate : (float, float), default=(45.0, 130.0), (8.0, 30.0)
        Ranges, in beats and breaths a minute, that rates are drawn from uniformly.
    spo2 : (float, float), default=(85.0, 100.0)
        Range of oxygen saturation in %, at most 100.
    noise : float, default=0.02
        Standard deviation of white noise in units of the height of a wave.
    artefacts : float, default=0.0
        Movements a minute, each 1 to 4 s of strong, slow disturbance in all channels.
    apnoeas : float, default=0.0
        Pauses of breathing a minute, each 10 to 20 s without what the breath does to the channels.
    dropout : float, default=0.0
        Expected share of each channel that is missing, in gaps of 2 s; below 1.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data`` (n, 4, length) float32 with NaN in gaps, or a Panel with times in s where ``irregular``: the
        channels PPG_IR and PPG_RED in units of the constant light, ECG in mV, RESP in units of a breath.
        ``target`` (n, 3) float64: mean heart rate over the series in beats a minute, respiratory rate in
        breaths a minute, SpO2 in %. ``times`` (n, length) in s; ``artefact`` (n, length) bool, where a
        movement disturbs; ``apnoea`` (n, length) bool, where breathing pauses; ``beat`` (n, length) bool, the
        first sample at or after the R wave of each beat; ``feature_names``; ``target_names``; ``groups``
        (n,), the number of the patient; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range, and fewer than two samples per series.

    References
    ----------
    ECG: McSharry et al., IEEE Transactions on Biomedical Engineering 50(3), 2003, doi
    10.1109/TBME.2003.808805.
    """
    checked_count(n_samples, "n_samples")
    checked_number(duration, "duration", 0, open_low=True)
    checked_number(sampling_rate, "sampling_rate", 0, open_low=True)
    checked_number(noise, "noise", 0)
    checked_number(artefacts, "artefacts", 0)
    checked_number(apnoeas, "apnoeas", 0)
    checked_number(dropout, "dropout", 0, 0.999)
    length = round(duration * sampling_rate)
    if length < 2:
        raise ValueError(f"duration x sampling_rate must be at least 2 samples, got {length}.")
    rng = generator(random_state)
    bpm = _drawn(rng, heart_rate, "heart_rate", n_samples, 300)
    breaths = _drawn(rng, respiratory_rate, "respiratory_rate", n_samples, 150)
    saturation = _drawn(rng, spo2, "spo2", n_samples, 100)
    t = np.broadcast_to(np.arange(length) / sampling_rate, (n_samples, length))
    if irregular:
        t = np.sort(rng.uniform(0, duration, (n_samples, length)), axis=1)

    phase = rng.uniform(0, 2 * np.pi, (n_samples, 2))
    swing = rng.uniform(0.01, 0.05, n_samples)  # of the heart rate with the breath
    rho = _breath(t, breaths, phase[:, 0])
    theta = _heart(t, bpm, breaths, swing, phase)
    ends = np.broadcast_to(np.array([0.0, duration]), (n_samples, 2))
    turns = np.diff(_heart(ends, bpm, breaths, swing, phase))[:, 0] / (2 * np.pi)

    quiet, apnoea = _pauses(rng, t, duration, apnoeas)
    signals = _signals(rng, theta, rho, noise, 1 - quiet)
    beat = np.diff(np.floor(theta / (2 * np.pi)), axis=1, prepend=np.inf) > 0
    disturbance, artefact = _movements(rng, t, duration, artefacts)
    signals += disturbance
    perfusion = rng.uniform(0.01, 0.04, (n_samples, 1))  # height of a pulse in units of the constant light
    ratio = (110 - saturation[:, np.newaxis]) / 25
    data = np.stack(
        [1 + perfusion * signals[0], 1 + perfusion * ratio * signals[1], signals[2], signals[3]], axis=1
    )
    data[_gaps(rng, t, duration, dropout)] = np.nan
    X: npt.NDArray[np.float32] | Panel = data.astype(np.float32)
    if irregular:
        X = Panel(
            np.swapaxes(data, 1, 2).reshape(-1, len(CHANNELS)),
            np.arange(n_samples + 1) * length,
            t.ravel(),
            CHANNELS,
            time_unit="s",
        )
    return result(
        "vitals",
        X,
        np.stack([60 * turns / duration, breaths, saturation], axis=1),
        return_X_y=return_X_y,
        feature_names=CHANNELS,
        groups=np.arange(n_samples),
        target_names=list(TARGETS),
        times=t,
        artefact=artefact,
        apnoea=apnoea,
        beat=beat,
    )


def _drawn(rng: np.random.Generator, bounds: tuple[float, float], name: str, n: int, high: float) -> Array:
    """Draw n values from a range that the user gave."""
    try:
        low, top = bounds
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, the ends of a range; got {bounds!r}.") from None
    checked_number(low, name, 0, high, open_low=True)
    checked_number(top, name, low, high)
    return rng.uniform(low, top, n)


def _breath(t: Array, breaths: Array, phase: Array) -> Array:
    return 2 * np.pi * breaths[:, np.newaxis] / 60 * t + phase[:, np.newaxis]


def _heart(t: Array, bpm: Array, breaths: Array, swing: Array, phase: Array) -> Array:
    """Integral of the heart rate, ``bpm (1 + swing sin(rho))``, in rad."""
    rate, omega = 2 * np.pi * bpm / 60, 2 * np.pi * breaths / 60
    moved = np.cos(phase[:, :1]) - np.cos(_breath(t, breaths, phase[:, 0]))
    return phase[:, 1:] + rate[:, np.newaxis] * (t + (swing / omega)[:, np.newaxis] * moved)


def _waves(theta: Array, waves: tuple[tuple[float, float, float], ...]) -> Array:
    total = np.zeros_like(theta)
    for angle, height, width in waves:
        distance = np.mod(theta - angle + np.pi, 2 * np.pi) - np.pi
        total += height * np.exp(-0.5 * (distance / width) ** 2)
    return total


def _signals(rng: np.random.Generator, theta: Array, rho: Array, noise: float, depth: Array) -> Array:
    """Infrared and red pulse, ECG and respiration, (4, n, L), in units of their height.

    ``depth`` (n, L) is that of the breath, 1 unless it pauses.
    """
    swing = depth * np.sin(rho)
    pulse = _waves(theta, _PULSE_WAVES) * (1 + 0.1 * swing) + 0.3 * depth * np.sin(rho - 0.5)
    ecg = _waves(theta, _ECG_WAVES) * (1 + 0.05 * swing) + 0.05 * swing
    breath = depth * (np.sin(rho) + 0.2 * np.sin(2 * rho + 0.5))
    signals = np.stack([pulse, pulse, ecg, breath])
    return signals + noise * rng.standard_normal(signals.shape)


def _pauses(
    rng: np.random.Generator, t: Array, duration: float, per_minute: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """How far breathing has stopped, (n, L) from 0 to 1, and where it pauses, (n, L)."""
    quiet, paused = np.zeros(t.shape), np.zeros(t.shape, dtype=bool)
    for i, count in enumerate(rng.poisson(per_minute * duration / 60, len(t))):
        for _ in range(count):
            span, start = rng.uniform(*_APNOEA), rng.uniform(0, duration)
            paused[i] |= (t[i] >= start) & (t[i] < start + span)
            edges = np.minimum(t[i] - start, start + span - t[i]) / _EDGE
            quiet[i] = np.maximum(quiet[i], np.clip(edges, 0, 1))
    return quiet, paused


def _movements(
    rng: np.random.Generator, t: Array, duration: float, per_minute: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """What movements add to the signals, (4, n, L), and where, (n, L)."""
    added = np.zeros((len(CHANNELS), *t.shape))
    disturbed = np.zeros(t.shape, dtype=bool)
    for i, count in enumerate(rng.poisson(per_minute * duration / 60, len(t))):
        for _ in range(count):
            span = rng.uniform(*_ARTEFACT)
            since = (t[i] - rng.uniform(0, duration)) / span
            inside = (since >= 0) & (since < 1)
            disturbed[i] |= inside
            frequency = rng.uniform(0.5, 5, (5, 1))  # Hz, where the pulse is too
            angle = 2 * np.pi * frequency * t[i, inside] + rng.uniform(0, 2 * np.pi, (len(CHANNELS), 5, 1))
            height = rng.normal(0, 1.5, (len(CHANNELS), 5, 1))
            added[:, i, inside] += (height * np.sin(angle)).sum(axis=1) * np.sin(np.pi * since[inside]) ** 2
    return added, disturbed


def _gaps(rng: np.random.Generator, t: Array, duration: float, share: float) -> npt.NDArray[np.bool_]:
    """Where each channel is missing, (n, 4, L)."""
    missing = np.zeros((len(t), len(CHANNELS), t.shape[1]), dtype=bool)
    # Gaps that begin at a Poisson process of this rate cover the share at every moment, the first included.
    rate = -np.log1p(-share) / _DROPOUT
    for i, k in np.ndindex(*missing.shape[:2]):
        starts = rng.uniform(-_DROPOUT, duration, rng.poisson(rate * (duration + _DROPOUT)))
        for start in starts:
            missing[i, k] |= (t[i] >= start) & (t[i] < start + _DROPOUT)
    return missing
