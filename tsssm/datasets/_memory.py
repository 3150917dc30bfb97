"""Memory tasks: what was shown, or what a signal was, a while ago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsssm.datasets._bunch import checked_count, checked_number, generator, result


def make_copy(
    n_samples: int = 1000,
    *,
    n_symbols: int = 8,
    n_items: int = 1,
    delay: int = 100,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make sequences that show symbols, then nothing for a while; the target is what was shown.

    The copying problem with the recall at the end of the series: the chance level is ``1 / n_symbols``, and
    any model that reads only the last ``delay`` samples stays there.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of series.
    n_symbols : int, default=8
        Number of symbols, each of the same probability.
    n_items : int, default=1
        Number of symbols shown, one per sample.
    delay : int, default=100
        Number of samples without a symbol after them.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data`` (n, n_symbols, n_items + delay) float32, 1 in the channel of a symbol while it is shown and 0
        otherwise; ``target`` int64 (n,), or (n, n_items) for several items, in the order shown;
        ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range.

    References
    ----------
    Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; Arjovsky et al., arXiv 1511.06464, 2016,
    section 5.1.
    """
    checked_count(n_samples, "n_samples")
    checked_count(n_symbols, "n_symbols", 2)
    checked_count(n_items, "n_items")
    checked_count(delay, "delay", 0)
    shown = generator(random_state).integers(n_symbols, size=(n_samples, n_items))
    data = np.zeros((n_samples, n_symbols, n_items + delay), dtype=np.float32)
    data[np.arange(n_samples)[:, np.newaxis], shown, np.arange(n_items)] = 1
    return result(
        "memory",
        data,
        shown[:, 0] if n_items == 1 else shown,
        return_X_y=return_X_y,
        feature_names=[f"symbol {i}" for i in range(n_symbols)],
    )


def make_delay(
    n_samples: int = 1000,
    *,
    length: int = 200,
    delays: Sequence[int] = (50, 100, 150),
    bandwidth: float = 0.05,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make band-limited noise; the targets are its values some samples before the end.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of series.
    length : int, default=200
        Samples of a series.
    delays : sequence of int, default=(50, 100, 150)
        Distances from the last sample, each less than ``length``; 0 is the last sample itself.
    bandwidth : float, default=0.05
        Highest frequency in cycles a sample, at most 0.5: with ``length`` it sets how many independent
        numbers the state has to hold, about 2 x bandwidth x length.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data`` (n, 1, length) float32 with variance 1 across series at every sample; ``target`` (n,
        len(delays)) float64, whose variance is therefore the error of a constant answer; ``feature_names``;
        ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range, and a bandwidth too low for one cycle in twice the length.

    References
    ----------
    Voelker, Kajić, Eliasmith, Legendre memory units, NeurIPS 2019; Gu et al., HiPPO, arXiv 2008.07669.
    """
    checked_count(n_samples, "n_samples")
    checked_count(length, "length", 2)
    lags = [checked_count(delay, "delays", 0) for delay in delays]
    if not lags or max(lags) >= length:
        raise ValueError(f"delays must be whole numbers below length={length}, at least one; got {delays!r}.")
    checked_number(bandwidth, "bandwidth", 0, 0.5, open_low=True)
    # Noise of twice the length is periodic; a half of it has no seam.
    period = 2 * length
    highest = int(bandwidth * period)
    if highest < 1:
        raise ValueError(f"bandwidth must be at least 1 / (2 length) = {1 / period:g}, got {bandwidth:g}.")
    rng = generator(random_state)
    spectrum = np.zeros((n_samples, length + 1), dtype=np.complex128)
    size = (n_samples, highest)
    spectrum[:, 1 : highest + 1] = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    if highest == length:
        spectrum[:, length] = (
            0  # the Nyquist frequency has no phase; without it all samples have one variance
        )
        highest -= 1
    noise = np.fft.irfft(spectrum, period) * period / np.sqrt(4 * highest)
    noise = noise[:, :length]
    return result(
        "memory",
        noise[:, np.newaxis].astype(np.float32),
        noise[:, [length - 1 - lag for lag in lags]],
        return_X_y=return_X_y,
        feature_names=["noise"],
    )
