r"""A bank of fixed level, trend and season systems, averaged by how well each has forecast so far.

Exponential smoothing is a linear state-space model with fixed gains (Hyndman, Koehler, Ord, Snyder,
*Forecasting with Exponential Smoothing*, 2008, section 2.5, additive, damped trend). Here the gains are not
estimated: every row of a table of gains runs, and forecasts are averaged with weights that fall with the
errors made so far. Symbols and shapes, n series, K rows, m samples a season, H steps ahead::

    z    (n, T)       series that end together, NaN before their start
    l, b (n, K)       level and slope
    s    (n, K, m)    season, by the number of the sample modulo m

    e = z - (l + phi b + s)
    l <- l + phi b + alpha e,   b <- phi b + alpha beta e,   s <- s + gamma (1 - alpha) e
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_LEVEL_GAINS = (0.1, 0.3, 0.6, 0.95)
# Gain of the slope and its damping; the drift is half of the slope of a line, as in the theta method.
_TRENDS = ((0.0, 0.0), "drift", (0.1, 0.9), (0.3, 0.9), (0.1, 0.98), (0.1, 1.0))
_SEASON_GAINS = (None, 0.05, 0.15, 0.4)
# Weights are exp(-SHARPNESS (error / smallest - 1)); an error counts DISCOUNT times the one after it.
_SHARPNESS = 20.0
_DISCOUNT = 0.95
_MAX_ORIGINS = 150
_MARKS = 12
_SMALL = 1e-9


class Smoothed(NamedTuple):
    """Forecasts from one origin: the averaged path (n, H), the size of past errors (n,)."""

    origin: int
    path: FloatArray
    spread: FloatArray


class _Rows(NamedTuple):
    """Gains, one entry a system (K,)."""

    alpha: FloatArray
    beta: FloatArray
    phi: FloatArray
    gamma: FloatArray
    drift: npt.NDArray[np.bool_]
    seasonal: npt.NDArray[np.bool_]


def _rows(m: int) -> _Rows:
    table = [
        (alpha, trend, gamma)
        for alpha in _LEVEL_GAINS
        for trend in _TRENDS
        for gamma in (_SEASON_GAINS if m > 1 else (None,))
    ]
    slopes = [(0.0, 1.0) if trend == "drift" else trend for _, trend, _ in table]
    return _Rows(
        np.array([row[0] for row in table]),
        np.array([float(slope[0]) for slope in slopes]),
        np.array([float(slope[1]) for slope in slopes]),
        np.array([row[2] or 0.0 for row in table]),
        np.array([row[1] == "drift" for row in table]),
        np.array([row[2] is not None for row in table]),
    )


def coarse_stride(length: int) -> int:
    """Distance between the origins whose errors are looked at, for series of this length."""
    return max(1, length // _MAX_ORIGINS)


def smooth(z: FloatArray, m: int, horizon: int, origins: IntArray) -> Iterator[Smoothed]:
    """Run the bank over series and yield its forecasts from each of ``origins`` (increasing)."""
    n, length = z.shape
    rows = _rows(m)
    start = np.argmax(np.isfinite(z), axis=1)
    level, slope, season = _first_states(z, start, m, rows)
    ahead = np.arange(1, horizon + 1)
    reach = np.cumsum(rows.phi[:, None] ** ahead, axis=1)
    line = _RunningLine(n)
    # Errors are looked at for a few of the horizons.
    marks = np.unique(np.linspace(0, horizon - 1, min(horizon, _MARKS)).round().astype(np.int64))
    stride, wanted = coarse_stride(length), set(origins.tolist())
    error, count = np.zeros((n, len(rows.alpha))), np.zeros((n, 1))
    waiting: deque[tuple[int, FloatArray, FloatArray]] = deque()
    slope_gain, season_gain = rows.alpha * rows.beta, rows.gamma * (1 - rows.alpha)
    drifting, begun = np.flatnonzero(rows.drift), int(start.max())
    for t in range(length):
        known = np.isfinite(z[:, t : t + 1])
        before = season[:, :, t % m]
        damped = rows.phi * slope
        ahead_of = level + damped
        miss = z[:, t : t + 1] - ahead_of - before
        line.add(z[:, t], known[:, 0])
        if t < begun:
            miss = np.where(known, miss, 0.0)
            ahead_of, damped = np.where(known, ahead_of, level), np.where(known, damped, slope)
        level = ahead_of + rows.alpha * miss
        slope = damped + slope_gain * miss
        slope[:, drifting] = 0.5 * line.slope()[:, None]
        season[:, :, t % m] = before + season_gain * miss
        looked_at = (length - 1 - t) % stride == 0
        if not looked_at and t not in wanted:
            continue
        while waiting and waiting[0][0] <= t:
            _, new, share = waiting.popleft()
            error, count = _DISCOUNT * error + new, _DISCOUNT * count + share
        phase = (t + ahead) % m
        if t in wanted:
            mean = error / np.maximum(count, _SMALL)
            excess = mean / np.maximum(mean.min(axis=1, keepdims=True), 1e-6) - 1
            weight = np.where(count > 0, np.exp(-_SHARPNESS * np.minimum(excess, 30.0)), 1.0)
            weight /= weight.sum(axis=1, keepdims=True)
            path = (weight * level).sum(axis=1)[:, None] + (weight * slope) @ reach
            path += np.einsum("nk,nkm->nm", weight, season)[:, phase]
            spread = np.where(count[:, 0] > 0, (weight * mean).sum(axis=1), 1.0)
            yield Smoothed(t, path, spread)
        seen = marks[marks < length - 1 - t]
        if looked_at and len(seen):
            new = np.zeros_like(level)
            for h in seen:
                new += np.abs(z[:, t + 1 + h, None] - level - slope * reach[:, h] - season[:, :, phase[h]])
            counts = known & (t > start[:, None])
            share = counts * (len(seen) / len(marks))
            new = np.where(counts, new / len(marks), 0.0)
            waiting.append((t + 1 + int(seen[-1]), new, share))


class _RunningLine:
    """Slope of the least-squares line through all samples so far, of n series at once."""

    def __init__(self, n: int) -> None:
        self._count, self._x, self._z = np.zeros(n), np.zeros(n), np.zeros(n)
        self._xx, self._xz = np.zeros(n), np.zeros(n)

    def add(self, z: FloatArray, known: npt.NDArray[np.bool_]) -> None:
        """Take the next sample of each series; updates are those of Welford."""
        z = np.where(known, z, 0.0)
        x = self._count.copy()
        self._count = self._count + known
        total = np.maximum(self._count, 1)
        dx, dz = np.where(known, x - self._x, 0.0), np.where(known, z - self._z, 0.0)
        self._x = self._x + dx / total
        self._z = self._z + dz / total
        self._xx = self._xx + dx * np.where(known, x - self._x, 0.0)
        self._xz = self._xz + dx * np.where(known, z - self._z, 0.0)

    def slope(self) -> FloatArray:
        """Slopes (n,); 0 before the fourth sample."""
        return np.where(self._count >= 4, self._xz / np.maximum(self._xx, _SMALL), 0.0)


def _first_states(
    z: FloatArray, start: IntArray, m: int, rows: _Rows
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """States before the first sample: a line and a mean season through the first three seasons."""
    n, length = z.shape
    level, slope = np.zeros((n, len(rows.alpha))), np.zeros((n, len(rows.alpha)))
    season = np.zeros((n, len(rows.alpha), m))
    for i in range(n):
        first = z[i, start[i] : start[i] + max(3 * m, 8)]
        x = np.arange(len(first), dtype=np.float64)
        rise, wave = 0.0, np.zeros(m)
        if m > 1 and len(first) >= 2 * m:
            design = np.column_stack([np.eye(m)[np.arange(len(first)) % m], x - x.mean()])
            fit = np.linalg.lstsq(design, first, rcond=None)[0]
            rise, wave = float(fit[m]), fit[:m] - fit[:m].mean()
            ground = float(fit[:m].mean()) - rise * float(x.mean())
        elif len(first) >= 4:
            rise = float(np.polyfit(x, first, 1)[0])
            ground = float(first.mean()) - rise * float(x.mean())
        else:
            ground = float(first[0])
        flat = float(first[:m].mean())
        level[i] = np.where(rows.phi > 0, ground, flat)
        slope[i] = np.where(rows.drift | (rows.phi == 0), 0.0, rise)
        season[i] = np.where(rows.seasonal[:, None], wave[(np.arange(m) - start[i]) % m], 0.0)
    return level, slope, season
