r"""One pass over samples of a series: recurrences, errors of earlier forecasts, forecasts where asked.

Symbols and shapes: K systems, a multiple of four, m samples a season, H steps ahead, J of these at which
errors are looked at, S origins whose forecasts are kept until what they forecast has come::

    gains  (5, K)      alpha, alpha beta, phi, gamma (1 - alpha), and 1 where the slope is half of a line's
    kind   (K,)        number of the damping phi of a system among those that there are
    reach  (P, H)      phi + phi^2 + ... + phi^h of each of these
    x      (2 + m, K)  level, slope, season by the number of the sample modulo m
    sums   (K+7+S,)    see below
    ring   (S, J, K)   forecasts of the origins in ``looked``
    looked (S + 2,)    numbers of these origins, -1 for none; samples seen so far; least distance of origins
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.compiling import inline, kernel

#: Weights are exp(-SHARPNESS (error / smallest - 1)); an origin counts DISCOUNT times the one after it.
SHARPNESS, DISCOUNT = 20.0, 0.95
#: Origins up to this one are all looked at; up to twice as far every second one, and so on.
LOOKS = 100
#: What follows the K sums of errors: their weight; a line's means of place and value, its sums of squares and
#: products; the smallest error that counts, and the error where none is known; how much each origin counts.
WEIGHT, X, Z, XX, XZ, LEAST, UNKNOWN = range(7)
SUMS = 7
_FEWEST = 4  # samples that a line goes through
_SMALL = 1e-9


@kernel
def bank_pass(
    z: Any,
    gains: Any,
    kind: Any,
    reach: Any,
    mark: Any,
    x: Any,
    sums: Any,
    ring: Any,
    looked: Any,
    origins: Any,
    paths: Any,
    spreads: Any,
) -> None:
    """Take samples z (T,) in; forecasts (W, H) and sizes of errors (W,) after each of ``origins`` (W,).

    ``mark`` (H,) numbers the steps ahead at which errors are looked at, -1 elsewhere. Origins rise, are
    numbered like the samples, and lie within z; where z is empty, the only one is the last sample so far.
    """
    K, m, S = gains.shape[1], x.shape[0] - 2, ring.shape[0]
    H, slopes = reach.shape[1], np.zeros(reach.shape[0])
    level, slope, counts = x[0], x[1], sums[K + SUMS :]
    w, wanted = np.zeros(K), 0
    rises = np.zeros((ring.shape[1], K))
    for h in range(H):
        for k in range(K if mark[h] >= 0 else 0):
            rises[mark[h], k] = reach[kind[k], h]
    for place in range(z.shape[0]):
        t, value = looked[S], z[place]
        look = t % _stride(t, looked[S + 1]) == 0
        if look:
            for k in range(K + 1):
                sums[k] *= DISCOUNT
            counts *= DISCOUNT
        for slot in range(S):
            ahead = t - looked[slot] - 1
            if looked[slot] >= 0 and ahead < H and mark[ahead] >= 0:
                made, count = ring[slot, mark[ahead]], counts[slot]
                for k in range(K):
                    sums[k] += count * abs(value - made[k])
                sums[K + WEIGHT] += count
        rise = _rise(sums[K:], t, value)
        season = x[2 + t % m]
        for k in range(K):
            damped = gains[2, k] * slope[k]
            ahead_of = level[k] + damped
            miss = value - ahead_of - season[k]
            level[k] = ahead_of + gains[0, k] * miss
            slope[k] = rise if gains[4, k] > 0 else damped + gains[1, k] * miss
            season[k] += gains[3, k] * miss
        if look and t > 0:
            oldest = 0
            for slot in range(1, S):
                if looked[slot] < looked[oldest]:
                    oldest = slot
            looked[oldest], counts[oldest] = t, 1.0
            for h in range(H):
                if mark[h] >= 0:
                    made, later, run = ring[oldest, mark[h]], x[2 + (t + 1 + h) % m], rises[mark[h]]
                    for k in range(K):
                        made[k] = level[k] + slope[k] * run[k] + later[k]
        if wanted < origins.shape[0] and origins[wanted] == t:
            spreads[wanted] = _weigh(sums, w)
            _forecast(x, kind, reach, w, slopes, t, paths[wanted])
            wanted += 1
        looked[S] = t + 1
    if z.shape[0] == 0 and origins.shape[0] == 1:
        spreads[0] = _weigh(sums, w)
        _forecast(x, kind, reach, w, slopes, origins[0], paths[0])


@inline
def _stride(t: int, least: int) -> int:
    """Distance between origins that are looked at around the t-th sample."""
    stride = 1
    while t >= 2 * LOOKS * stride:
        stride *= 2
    return max(stride, least)


@inline
def _rise(line: Any, t: int, value: float) -> float:
    """Half of the slope of the least-squares line through all samples so far; updates are Welford's."""
    dx, dz = t - line[X], value - line[Z]
    line[X] += dx / (t + 1)
    line[Z] += dz / (t + 1)
    line[XX] += dx * (t - line[X])
    line[XZ] += dx * (value - line[Z])
    return 0.5 * line[XZ] / max(line[XX], _SMALL) if t + 1 >= _FEWEST else 0.0


@inline
def _weigh(sums: Any, w: Any) -> float:
    """Weights w (K,) of the systems, and the size of errors of their mean."""
    K = w.shape[0]
    weight = sums[K + WEIGHT]
    if not weight > 0:
        w[:] = 1 / K
        return float(sums[K + UNKNOWN])
    smallest = sums[0]
    for k in range(1, K):
        smallest = min(smallest, sums[k])
    floor = max(smallest / weight, sums[K + LEAST])
    total = 0.0
    for k in range(K):
        w[k] = np.exp(-SHARPNESS * min(sums[k] / weight / floor - 1, 30.0))
        total += w[k]
    for k in range(K):
        w[k] /= total
    return _dot(w, sums) / weight


@inline
def _dot(w: Any, values: Any) -> float:
    """Sum of products with the first K values, four sums at a time so that none waits for another."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(0, w.shape[0], 4):
        a += w[k] * values[k]
        b += w[k + 1] * values[k + 1]
        c += w[k + 2] * values[k + 2]
        d += w[k + 3] * values[k + 3]
    return (a + b) + (c + d)


@inline
def _forecast(x: Any, kind: Any, reach: Any, w: Any, slopes: Any, t: int, path: Any) -> None:
    """Weighted mean (H,) of the forecasts of all systems after the t-th sample, by way of ``slopes`` (P,)."""
    K, m = w.shape[0], x.shape[0] - 2
    level = _dot(w, x[0])
    for h in range(path.shape[0]):
        path[h] = level + _dot(w, x[2 + (t + 1 + h) % m]) if h < m else path[h - m]
    # Systems of the same damping go on alike.
    slopes[:] = 0.0
    for k in range(K):
        slopes[kind[k]] += w[k] * x[1, k]
    for p in range(slopes.shape[0]):
        for h in range(path.shape[0]):
            path[h] += slopes[p] * reach[p, h]
