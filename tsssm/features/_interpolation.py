r"""The course of a channel between its samples: straight lines, bent as far as its training series are.

Through samples x_i at times t_i goes the piecewise cubic whose slope at a sample is that of the parabola
through it and its two neighbours. On the interval from t_i, of length h, at t_i + s h,

.. math::
    x(s) = (1 - s) x_i + s x_{i+1} - b h^2 s (1 - s) [(1 - s) q_i + s q_{i+1}]

with b = 1 and the second divided differences q; at the ends of a series q is that of the next sample. Smooth
signals are much closer to it than to straight lines, which is b = 0, and noisy ones are further from it. The
*bend* b is the least-squares coefficient, between 0 and 1, with which samples that are left out are predicted
from the others. Where the gap g on the other side of a sample is much shorter than h, two close samples would
say what happens far from them: that q counts with h min(h, 27 g / 4) in place of h^2, which takes the curve
no further from the line than g times the difference of the slopes before and after the sample.

Symbols and shapes: n series, d channels, ``total`` samples, one series after another::

    values   (d, total)   NaN where missing
    ticks    (total,)     integer times, increasing within a series
    offsets  (n + 1,)     series i holds the samples offsets[i] to offsets[i + 1]
    bend     (d,)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# In gaps on the other side of a sample. The largest value of s (1 - s)^2 is 4 / 27.
_LONGEST = 27 / 4
# A smaller bend is not told from none, which costs less.
_LEAST_BEND = 0.1
# Values are float32: what is left of a series beside a straight line may be the rounding alone.
_ROUNDING = 1e-6


def interpolated(
    values: FloatArray,
    ticks: IntArray,
    offsets: IntArray,
    instants: IntArray,
    refined: IntArray,
    bend: FloatArray,
) -> FloatArray:
    """Values (d, total') at instants, which run through the same series; NaN where a series has none.

    Constant before the first value of a channel and after the last.

    Parameters
    ----------
    values, ticks, offsets, bend : array
        As above.
    instants : array (total',)
        Increasing within a series, every tick of its samples among them: the next sample at or after an
        instant is found by counting.
    refined : array (n + 1,)
        Offsets of the instants.
    """
    samples = np.arange(len(ticks))
    length, pieces = np.diff(offsets), np.diff(refined)
    series = np.repeat(np.arange(len(length)), length)
    first, last = np.repeat(offsets[:-1], pieces), np.repeat(offsets[1:] - 1, pieces)
    if len(instants) == len(ticks):
        at = samples
    else:
        # Times of a series start from zero: shifted, all series together have increasing times.
        start = np.concatenate([[0], np.cumsum(ticks[offsets[1:] - 1] + 1)])[:-1]
        at = np.searchsorted(ticks + np.repeat(start, length), instants + np.repeat(start, pieces))
    result = np.empty((len(values), len(instants)))
    for channel, row in enumerate(values):
        seen = ~np.isnan(row)
        before = np.maximum.accumulate(np.where(seen, samples, -1))
        after = np.minimum.accumulate(np.where(seen, samples, len(samples))[::-1])[::-1]
        right = after[at]
        exact = ticks[at] == instants
        left = np.where(exact, before[at], before[np.maximum(at - 1, 0)])
        known_left, known_right = left >= first, right <= last
        left = np.where(known_left, left, np.where(known_right, right, first))
        right = np.where(known_right, right, left)
        span = ticks[right] - ticks[left]
        share = np.where(span > 0, (instants - ticks[left]) / np.maximum(span, 1), 0.0)
        result[channel] = row[left] + share * (row[right] - row[left])
        if bend[channel] > 0:
            q, gap_before, gap_after = _curvatures(row, ticks, series)
            sag = _sag(span, share, q[left], q[right], gap_before[left], gap_after[right])
            result[channel] -= bend[channel] * sag
    return result


def bend_of(told: FloatArray) -> FloatArray:
    """The bend (d,) from the sums of `left_out` over all training series."""
    product, square = told
    bend = np.clip(product / np.where(square > 0, square, 1.0), 0.0, 1.0)
    return np.where(bend < _LEAST_BEND, 0.0, bend)


def left_out(values: FloatArray, ticks: IntArray, offsets: IntArray) -> FloatArray:
    """What left-out samples tell of the bend (2, d): sums over series of products and squares.

    Each sample of a channel with two others on either side is predicted from these four, by the straight line
    and by the cubic. The sums are of (cubic - line) (sample - line) and (cubic - line)^2, and those of a
    series are divided by its sum of (sample - line)^2 + (cubic - line)^2, so that no series counts more than
    others.
    """
    series = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    told = np.zeros((2, len(values)))
    for channel, row in enumerate(values):
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen) < 5:
            continue
        of, time, value = series[seen], ticks[seen].astype(np.float64), row[seen]
        rows = np.flatnonzero(of[4:] == of[:-4])
        t, x = (np.stack([part[rows + k] for k in range(5)]) for part in (time, value))
        gaps, slopes = (np.diff(part[[0, 1, 3, 4]], axis=0) for part in (t, x))
        slopes /= gaps
        q = np.diff(slopes, axis=0) / (gaps[1:] + gaps[:-1])
        share = (t[2] - t[1]) / gaps[1]
        cubic = -_sag(gaps[1], share, q[0], q[1], gaps[0], gaps[2])
        beside = x[2] - (x[1] + share * (x[3] - x[1]))
        product, square, rest, size = (
            np.bincount(of[rows], part, len(offsets) - 1)
            for part in (cubic * beside, cubic**2, beside**2, x[2] ** 2)
        )
        varies = square + rest > _ROUNDING**2 * size
        weight = np.where(varies, 1.0 / np.where(varies, square + rest, 1.0), 0.0)
        told[:, channel] = weight @ product, weight @ square
    return told


def _curvatures(
    row: FloatArray, ticks: IntArray, series: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each sample (total,) of a channel: q, in 1 / ticks^2, and the gaps before and after it, in ticks."""
    q, gap_before, gap_after = np.zeros((3, len(row)))
    seen = np.flatnonzero(~np.isnan(row))
    if len(seen) < 3:
        return q, gap_before, gap_after
    same = np.diff(series[seen]) == 0
    # From the end of a series to the start of the next one, time does not go on.
    gaps = np.where(same, np.diff(ticks[seen]), 1).astype(np.float64)
    slopes = np.diff(row[seen]) / gaps
    inner = np.zeros(len(seen), dtype=bool)
    inner[1:-1] = same[1:] & same[:-1]
    of, before, after = np.zeros((3, len(seen)))
    before[1:], after[:-1] = gaps, gaps
    of[1:-1] = np.where(inner[1:-1], np.diff(slopes) / (gaps[1:] + gaps[:-1]), 0.0)
    first = np.flatnonzero(~inner[:-1] & inner[1:] & same)
    last = np.flatnonzero(inner[:-1] & ~inner[1:] & same) + 1
    of[first], of[last] = of[first + 1], of[last - 1]
    before[first], after[last] = after[first + 1], before[last - 1]
    q[seen], gap_before[seen], gap_after[seen] = of, before, after
    return q, gap_before, gap_after


def _sag(
    span: npt.NDArray[Any],
    share: FloatArray,
    q: FloatArray,
    next_q: FloatArray,
    gap_before: FloatArray,
    gap_after: FloatArray,
) -> FloatArray:
    """How far the cubic lies below the straight line on intervals of length ``span``, between two gaps."""
    left = np.minimum(span, _LONGEST * gap_before) * q
    right = np.minimum(span, _LONGEST * gap_after) * next_q
    return span * share * (1 - share) * ((1 - share) * left + share * right)
