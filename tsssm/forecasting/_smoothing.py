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

from collections.abc import Sequence
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
    """Forecasts from W origins of some series: averaged paths (W, H), sizes of past errors (W,)."""

    paths: FloatArray
    spreads: FloatArray

    def of(self, chosen: npt.NDArray[Any]) -> Smoothed:
        """Forecasts from some of the origins."""
        return Smoothed(self.paths[chosen], self.spreads[chosen])


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
    assert len(table) % 4 == 0  # the kernel adds four systems at a time
    gains = []
    for alpha, trend, gamma in table:
        beta, phi = (0.0, 1.0) if isinstance(trend, str) else trend
        gains.append([alpha, alpha * beta, phi, (gamma or 0.0) * (1 - alpha), float(trend == "drift")])
    return _Systems(np.array(gains).T.copy(), np.array([gamma is not None for *_, gamma in table]))


def first_samples(m: int) -> int:
    """Samples that the first states are read off."""
    return max(2 * m, 8)


class Start(NamedTuple):
    """What is read off the first samples: their mean, a line from ``ground``, and a season (m,)."""

    flat: float
    ground: float
    rise: float
    wave: FloatArray

    @classmethod
    def of(cls, first: FloatArray, m: int) -> Start:
        """Read the first samples (min(T, first_samples(m)),) of a series with m samples per season."""
        return _starts([first], m)[0]

    def states(self, systems: _Systems) -> FloatArray:
        """States (2 + m, K) before the first sample."""
        found = np.empty((2 + len(self.wave), len(systems.phi)))
        found[0] = np.where(systems.phi > 0, self.ground, self.flat)
        found[1] = np.where(systems.drift | (systems.phi == 0), 0.0, self.rise)
        np.multiply.outer(self.wave, systems.seasonal, out=found[2:])
        return found


class Bank:
    """The bank on one series, to which samples are given piece by piece.

    Parameters
    ----------
    start : Start
        What the first states are.
    m, horizon : int
        Samples per season, and steps ahead.
    unit : float
        Of the series, by which numbers are told from rounding.
    """

    def __init__(self, start: Start, m: int, horizon: int, unit: float = 1.0) -> None:
        self._table = _table(m, horizon)
        gains = self._table.systems.gains
        self.x = start.states(self._table.systems)
        slots = _slots(horizon, self._table.least)
        self.sums = np.zeros(gains.shape[1] + _kernel().SUMS + slots)
        self.ring = np.zeros((slots, int(self._table.mark.max()) + 1, gains.shape[1]))
        self.looked = np.array([*[-1] * slots, 0, self._table.least])
        self.set_unit(unit)

    def set_unit(self, unit: float) -> None:
        """Say by what numbers are told from rounding."""
        K, kernel = self.x.shape[1], _kernel()
        self.sums[K + kernel.LEAST], self.sums[K + kernel.UNKNOWN] = _LEAST_ERROR * unit, unit

    def run(self, z: FloatArray, origins: IntArray, found: Smoothed | None = None) -> Smoothed:
        """Take samples (T,) in; forecast from the origins (W,) among them, increasing, from 0.

        The forecasts are written into ``found``, if it is given.
        """
        table = self._table
        if found is None:
            found = Smoothed(np.empty((len(origins), table.reach.shape[1])), np.empty(len(origins)))
        _kernel().bank_pass(
            np.ascontiguousarray(z),
            table.systems.gains,
            table.kind,
            table.reach,
            table.mark,
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
    """As `smooth_all` of one series."""
    return smooth_all([z], m, horizon, [origins], [len(z) if known is None else known])


def smooth_all(
    series: Sequence[FloatArray],
    m: int,
    horizon: int,
    origins: Sequence[IntArray],
    known: Sequence[int] | IntArray | None = None,
) -> Smoothed:
    """Run the bank over series (T_i,) in units of their own; forecast from ``origins`` of each, increasing.

    First states are read off no more than ``known`` samples, so that origins behind them tell how well a
    future is forecast that was not seen.
    """
    counts = [len(own) for own in origins]
    paths, spreads = np.empty((sum(counts), horizon)), np.empty(sum(counts))
    firsts = [z[: first_samples(m)] for z in series]
    if known is not None:
        firsts = [first[: int(own)] for first, own in zip(firsts, known, strict=True)]
    stop = 0
    for z, start, own in zip(series, _starts(firsts, m), origins, strict=True):
        if len(own):
            found = Smoothed(paths[stop : stop + len(own)], spreads[stop : stop + len(own)])
            Bank(start, m, horizon).run(z, own, found)
            stop += len(own)
    return Smoothed(paths, spreads)


def _kernel() -> Any:
    # Numba and the kernel are loaded by the first bank.
    from tsssm.ops.cpu import bank

    return bank


class _Table(NamedTuple):
    """What the systems of a season and a horizon have in common."""

    systems: _Systems
    kind: IntArray
    reach: FloatArray
    mark: IntArray
    least: int


@lru_cache(maxsize=32)
def _table(m: int, horizon: int) -> _Table:
    systems = _systems(m)
    dampings, kind = np.unique(systems.phi, return_inverse=True)
    reach = np.cumsum(dampings[:, None] ** np.arange(1, horizon + 1), axis=1)
    # Errors are looked at for a few of the horizons.
    marks = np.unique(np.linspace(0, horizon - 1, min(horizon, _MARKS)).round().astype(np.int64))
    mark = np.full(horizon, -1)
    mark[marks] = np.arange(len(marks))
    return _Table(systems, kind.astype(np.int64), reach, mark, -(-horizon // _MOST_WAITING))


def _slots(horizon: int, least: int) -> int:
    """Origins within a horizon, the least distance apart."""
    return horizon // least + 1


def _starts(firsts: Sequence[FloatArray], m: int) -> list[Start]:
    """What is read off the first samples (L_i,) of series: a line and a mean season through them."""
    lengths = np.array([len(first) for first in firsts])
    found: list[Start | None] = [None] * len(firsts)
    for length in np.unique(lengths):
        numbers = np.flatnonzero(lengths == length)
        same = [first for first in firsts if len(first) == length]
        for i, *start in zip(numbers.tolist(), *_lines(np.array(same), m), strict=True):
            found[i] = Start(*start)
    return [start for start in found if start is not None]


def _lines(first: FloatArray, m: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Fields (n, ...) of `Start` from first samples (n, L)."""
    n, length = first.shape
    flat, ground, rise, wave = first[:, :m].mean(axis=1), first[:, 0], np.zeros(n), np.zeros((n, m))
    x = np.arange(length) - (length - 1) / 2
    if m > 1 and length >= 2 * m:
        # Least squares by a line and m means: the line is that through deviations from the means.
        phase = np.arange(length) % m
        count = np.bincount(phase, minlength=m)
        place = np.bincount(phase, weights=x, minlength=m) / count
        total = np.zeros((n, m))
        for begin in range(0, length, m):
            part = first[:, begin : begin + m]
            total[:, : part.shape[1]] += part
        rest = x - place[phase]
        rise = first @ rest / (rest @ rest)
        wave = total / count - rise[:, None] * place
        middle = wave.mean(axis=1)
        ground = middle - rise * (length - 1) / 2
        wave = wave - middle[:, None]
    elif length >= 4:
        rise = first @ x / (x @ x)
        ground = first.mean(axis=1) - rise * (length - 1) / 2
    return flat, ground, rise, wave
