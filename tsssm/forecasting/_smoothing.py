r"""A bank of fixed level, trend and season systems, averaged by how well each has forecast so far.

Exponential smoothing is a linear state-space model with fixed gains (Hyndman, Koehler, Ord, Snyder,
*Forecasting with Exponential Smoothing*, 2008, section 2.5, additive, damped trend). Here the gains are not
estimated: every row of a table of gains runs, and forecasts are averaged with weights that fall with the
errors made so far, each as soon as it is known, so that the whole runs from sample to sample. Symbols
and shapes, K rows, m samples per season, H steps ahead::

    z    (T,)         a series
    l, b (K,)         level and slope
    s    (m, K)       season, by the number of the sample modulo m

    e = z - (l + phi b + s)
    l <- l + phi b + alpha e,   b <- phi b + alpha beta e,   s <- s + gamma (1 - alpha) e
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_LEVEL_GAINS = (0.1, 0.3, 0.6, 0.95)
# Gain of the slope and its damping; the drift is half of the slope of a line, as in the theta method.
_TRENDS = ((0.0, 0.0), "drift", (0.1, 0.9), (0.3, 0.9), (0.1, 0.98), (0.1, 1.0))
_SEASON_GAINS = (None, 0.05, 0.15, 0.4)
# Distances at which errors are looked at, and origins at most that wait for them at one time.
_MARKS, _MOST_WAITING = 12, 64
_LEAST_ERROR = 1e-6


class Smoothed(NamedTuple):
    """Forecasts of one series from W origins: averaged paths (W, H), sizes of past errors (W,)."""

    paths: FloatArray
    spreads: FloatArray


class _Systems(NamedTuple):
    """Gains (5, K) as the kernel takes them, damping (K,), and which rows have a season (K,)."""

    gains: FloatArray
    seasonal: npt.NDArray[np.bool_]

    @property
    def phi(self) -> FloatArray:
        return self.gains[2]

    @property
    def drift(self) -> npt.NDArray[np.bool_]:
        return self.gains[4] > 0


def _systems(m: int) -> _Systems:
    table = [
        (alpha, trend, gamma)
        for alpha in _LEVEL_GAINS
        for trend in _TRENDS
        for gamma in (_SEASON_GAINS if m > 1 else (None,))
    ]
    gains = []
    for alpha, trend, gamma in table:
        beta, phi = (0.0, 1.0) if isinstance(trend, str) else trend
        gains.append([alpha, alpha * beta, phi, (gamma or 0.0) * (1 - alpha), float(trend == "drift")])
    return _Systems(np.array(gains).T.copy(), np.array([gamma is not None for *_, gamma in table]))


def first_samples(m: int) -> int:
    """Samples that the first states are read off."""
    return max(2 * m, 8)


class Bank:
    """The bank on one series, to which samples are given piece by piece.

    Parameters
    ----------
    first : array (min(T, first_samples(m)),)
        The first samples of the series, which the first states are read off.
    m, horizon : int
        Samples per season, and steps ahead.
    unit : float
        Of the series, by which numbers are told from rounding.
    """

    def __init__(self, first: FloatArray, m: int, horizon: int, unit: float = 1.0) -> None:
        self._table = _table(m, horizon)
        gains = self._table.systems.gains
        self.x = _first_states(first, m, self._table.systems)
        slots = _slots(horizon, self._table.least)
        self.sums = np.zeros(gains.shape[1] + _kernel().SUMS + slots)
        self.ring = np.zeros((slots, len(self._table.share), gains.shape[1]))
        self.looked = np.array([*[-1] * slots, 0, self._table.least])
        self.set_unit(unit)

    def set_unit(self, unit: float) -> None:
        """Say by what numbers are told from rounding."""
        K, kernel = self.x.shape[1], _kernel()
        self.sums[K + kernel.LEAST], self.sums[K + kernel.UNKNOWN] = _LEAST_ERROR * unit, unit

    def run(self, z: FloatArray, origins: IntArray) -> Smoothed:
        """Take samples (T,) in; forecast from the origins (W,) among them, increasing, from 0."""
        table = self._table
        horizon = table.reach.shape[1]
        found = Smoothed(np.empty((len(origins), horizon)), np.empty(len(origins)))
        _kernel().bank_pass(
            np.ascontiguousarray(z),
            table.systems.gains,
            table.reach,
            table.mark,
            table.share,
            self.x,
            self.sums,
            self.ring,
            self.looked,
            np.asarray(origins, dtype=np.int64),
            found.paths,
            found.spreads,
        )
        return found

    def forecast(self) -> Smoothed:
        """Forecasts (1, H) from the last sample so far."""
        return self.run(np.zeros(0), self.looked[-2:-1] - 1)

    def copy(self) -> Bank:
        """An independent copy."""
        other = object.__new__(Bank)
        other._table = self._table
        for name in ("x", "sums", "ring", "looked"):
            setattr(other, name, getattr(self, name).copy())
        return other


def smooth(z: FloatArray, m: int, horizon: int, origins: IntArray, known: int | None = None) -> Smoothed:
    """Run the bank over a series (T,) in units of its own, and forecast from each of ``origins``, increasing.

    First states are read off no more than ``known`` samples, so that origins behind them tell how well a
    future is forecast that was not seen.
    """
    return Bank(z[: first_samples(m)][:known], m, horizon).run(z, origins)


def _kernel() -> Any:
    # Numba and the kernel are loaded by the first bank.
    from tsssm.ops.cpu import bank

    return bank


class _Table(NamedTuple):
    """What the systems of a season and a horizon have in common."""

    systems: _Systems
    reach: FloatArray
    mark: IntArray
    share: FloatArray
    least: int


@lru_cache(maxsize=32)
def _table(m: int, horizon: int) -> _Table:
    systems = _systems(m)
    reach = np.cumsum(systems.phi[:, None] ** np.arange(1, horizon + 1), axis=1)
    # Errors are looked at for a few of the horizons.
    marks = np.unique(np.linspace(0, horizon - 1, min(horizon, _MARKS)).round().astype(np.int64))
    mark = np.full(horizon, -1)
    mark[marks] = np.arange(len(marks))
    return _Table(systems, reach, mark, np.ones(len(marks)), -(-horizon // _MOST_WAITING))


def _slots(horizon: int, least: int) -> int:
    """Origins within a horizon, the least distance apart."""
    return horizon // least + 1


def _first_states(first: FloatArray, m: int, systems: _Systems) -> FloatArray:
    """States (2 + m, K) before the first sample: a line and a mean season through the first samples."""
    flat, ground, rise, wave = float(first[:m].mean()), float(first[0]), 0.0, np.zeros(m)
    if m > 1 and len(first) >= 2 * m:
        # Least squares by a line and m means: the line is that through deviations from the means.
        x = np.arange(len(first)) - (len(first) - 1) / 2
        phase = np.arange(len(first)) % m
        count = np.bincount(phase, minlength=m)
        place, mean = (np.bincount(phase, weights=values, minlength=m) / count for values in (x, first))
        rise = float((x - place[phase]) @ first / ((x - place[phase]) ** 2).sum())
        wave = mean - rise * place
        ground = float(wave.mean()) - rise * (len(first) - 1) / 2
        wave -= wave.mean()
    elif len(first) >= 4:
        x = np.arange(len(first)) - (len(first) - 1) / 2
        rise = float(x @ first / (x @ x))
        ground = float(first.mean()) - rise * (len(first) - 1) / 2
    states = np.zeros((2 + m, len(systems.phi)))
    states[0] = np.where(systems.phi > 0, ground, flat)
    states[1] = np.where(systems.drift | (systems.phi == 0), 0.0, rise)
    states[2:] = np.where(systems.seasonal, wave[:, None], 0.0)
    return states
