"""From the inputs of a network back to the measurements that they are made of.

Symbols and shapes: total samples of a panel with d channels, L encoded samples of all series, d_in inputs::

    weight  (L, d_in)  what an input adds for each unit that it is above its baseline
    b       (d_in,)    the baselines

What an input adds, weight (u - b), is linear in it, and so is an input in the standardised values that it is
made of. It therefore goes back without a rest: to the value that an input stands for, carried on or not, or,
of indicators and times since, and where there is no value, to "missing".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsssm.encoding import ChartEncoder, ChartLine, PanelEncoder
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def spread_series(
    encoder: PanelEncoder, panel: Panel, weight: FloatArray, b: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Attributions to values and to what is missing, (total, d) each, of inputs of a `PanelEncoder`.

    A value that is carried on, as nothing was missing in training, is attributed to its measurement.
    """
    panel = encoder.without_errors(panel)
    u = encoder.encode_all(panel).u.numpy().astype(np.float64)
    added, kept = weight * (u - b), _kept(panel)
    values, missing = np.zeros(panel.values.shape), np.zeros(panel.values.shape)
    seen = np.asarray(~np.isnan(panel.values[kept]))
    if encoder.missing:
        own, whether, since = np.split(added, 3, axis=1)
        values[kept] = np.where(seen, own, 0.0)
        missing[kept] = np.where(seen, 0.0, own) + whether + since
        return values, missing
    first = np.searchsorted(kept, panel.offsets)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(kept))[:, None], -1), axis=0)
    known = last >= np.repeat(first[:-1], np.diff(first))[:, None]
    row, channel = np.nonzero(known)
    np.add.at(values, (kept[last[row, channel]], channel), added[row, channel])
    missing[kept] = np.where(known, 0.0, added)
    return values, missing


def spread_chart(
    encoder: ChartEncoder, panel: Panel, weight: FloatArray, b: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """As `spread_series`, of inputs of a `ChartEncoder`.

    The mean score of a span is attributed to its measurements. What it adds that a span has measurements goes
    to them, and that it has none, evenly to the samples of the span.
    """
    line = encoder.line(panel)
    values, missing = np.zeros(panel.values.shape), np.zeros(panel.values.shape)
    n_static, c = encoder.static.n_outputs, len(encoder.channels)
    _spread_static(encoder, panel, line, weight[:, :n_static], b[:n_static], values, missing)
    carried, decayed, seen = (slice(n_static + k * c, n_static + (k + 1) * c) for k in range(3))
    # What a unit of the mean score of each span adds at all instants it is carried to, and the baselines.
    per_score = weight[:, carried] + weight[:, decayed] * line.kept
    below = weight[:, carried] * b[carried] + weight[:, decayed] * b[decayed]
    known = line.latest >= 0
    unit, base = np.zeros(below.shape), np.zeros(below.shape)
    row, channel = np.nonzero(known)
    at = line.latest[row, channel], channel
    np.add.at(unit, at, per_score[row, channel])
    np.add.at(base, at, below[row, channel])
    whether = weight[:, seen] * ((line.counts > 0) - b[seen])
    measured = line.measured
    place = line.instant, measured.channel
    count = line.counts[place]
    where = measured.row, encoder.channels[measured.channel]
    np.add.at(values, where, (unit[place] * line.score - base[place]) / count)
    np.add.at(missing, where, whether[place] / count)
    absent = np.where(known, 0.0, -below) + np.where(line.counts > 0, 0.0, whether)
    # The samples of each instant, once each, or the first one of a series without any measurement.
    pairs = np.unique(np.stack([line.instant, measured.row]), axis=1)
    empty = np.setdiff1d(np.arange(len(line.number)), line.instant)
    series = np.searchsorted(line.offsets, empty, side="right") - 1
    instant = np.concatenate([pairs[0], empty])
    sample = np.concatenate([pairs[1], panel.offsets[series]])
    per_sample = absent / np.maximum(np.bincount(instant, minlength=len(absent)), 1)[:, None]
    np.add.at(missing, (sample[:, None], encoder.channels[None]), per_sample[instant])
    return values, missing


def _spread_static(
    encoder: ChartEncoder,
    panel: Panel,
    line: ChartLine,
    weight: FloatArray,
    b: FloatArray,
    values: FloatArray,
    missing: FloatArray,
) -> None:
    """Add what static numbers, the same at all instants, did: to the first value of their channel."""
    static = encoder.static
    if static.n_outputs == 0:
        return
    numbers = static.transform(panel)
    added = np.add.reduceat(weight, line.offsets[:-1], axis=0) * (numbers - b)
    of_channel = list(range(len(static.channels)))
    of_channel += [k for k, found in enumerate(static.categories) for _ in found]
    for number, k in enumerate(of_channel):
        channel = int(static.channels[k])
        seen = np.asarray(~np.isnan(panel.values[:, channel]))
        rows = np.where(seen, np.arange(len(seen)), len(seen))
        first = np.minimum.reduceat(rows, panel.offsets[:-1])
        known = first < len(seen)
        values[first[known], channel] += added[known, number]
        missing[panel.offsets[:-1][~known], channel] += added[~known, number]


def _kept(panel: Panel) -> IntArray:
    """Rows of a panel that `Panel.drop_missing_rows` keeps."""
    seen = np.asarray(~np.isnan(panel.values).all(axis=1))
    starts = panel.offsets[:-1]
    seen[starts[np.logical_or.reduceat(seen, starts) == 0]] = True
    return np.flatnonzero(seen)
