"""Oscillators seen at random times: the frequency is in the times as much as in the values."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.datasets._bunch import checked_count, checked_number, generator, result
from tsssm.panel import Panel


def make_irregular(
    n_samples: int = 200,
    *,
    n_classes: int = 2,
    n_channels: int = 1,
    duration: float = 10.0,
    base_frequency: float = 0.5,
    ratio: float = 1.5,
    rate: float = 6.0,
    noise: float = 0.1,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make sinusoids of a few frequencies, each seen at random times; the class is the frequency.

    Class c has the frequency ``base_frequency * ratio**c``. A series is seen at the points of a Poisson
    process whose rate is drawn for it between half of ``rate`` and one and a half times it, whatever its
    class: without the times, or with the samples taken for evenly spaced, the frequency is blurred by that
    factor of three. At each time, every channel but one chosen at random is missing with probability 1/2.

    Parameters
    ----------
    n_samples : int, default=200
        Number of series.
    n_classes : int, default=2
        Number of frequencies.
    n_channels : int, default=1
        Channels: the same oscillation, each with its own phase and amplitude.
    duration : float, default=10.0
        Length of a series in s.
    base_frequency : float, default=0.5
        Lowest frequency in Hz.
    ratio : float, default=1.5
        Each frequency divided by the next lower one, above 1.
    rate : float, default=6.0
        Mean number of samples a second.
    noise : float, default=0.1
        Standard deviation of white noise; amplitudes lie between 0.5 and 1.5.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data``, a Panel with times in s; ``target`` (n,) int64, the class; ``frequency`` (n,) in Hz;
        ``phase`` and ``amplitude`` (n, n_channels), of ``amplitude * sin(2 pi frequency t + phase)``;
        ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range.
    """
    checked_count(n_samples, "n_samples")
    checked_count(n_classes, "n_classes")
    checked_count(n_channels, "n_channels")
    for name, value in (("duration", duration), ("base_frequency", base_frequency), ("rate", rate)):
        checked_number(value, name, 0, open_low=True)
    checked_number(ratio, "ratio", 1, open_low=True)
    checked_number(noise, "noise", 0)
    rng = generator(random_state)
    target = rng.permutation(np.arange(n_samples) % n_classes)
    frequency = base_frequency * ratio**target
    phase = rng.uniform(0, 2 * np.pi, (n_samples, n_channels))
    amplitude = rng.uniform(0.5, 1.5, (n_samples, n_channels))
    # Two samples are the fewest that have a time between them.
    lengths = np.maximum(rng.poisson(duration * rate * rng.uniform(0.5, 1.5, n_samples)), 2)
    offsets = np.cumsum([0, *lengths])
    series = np.repeat(np.arange(n_samples), lengths)
    times = rng.uniform(0, duration, len(series))
    times = times[np.lexsort((times, series))]
    angle = 2 * np.pi * (frequency[series] * times)[:, np.newaxis] + phase[series]
    values = amplitude[series] * np.sin(angle) + noise * rng.standard_normal(angle.shape)
    seen = rng.random(values.shape) < 0.5
    seen[np.arange(len(seen)), rng.integers(n_channels, size=len(seen))] = True
    names = [f"channel {i}" for i in range(n_channels)]
    return result(
        "irregular",
        Panel(np.where(seen, values, np.nan), offsets, times, names, time_unit="s"),
        target,
        return_X_y=return_X_y,
        feature_names=names,
        frequency=frequency,
        phase=phase,
        amplitude=amplitude,
    )
