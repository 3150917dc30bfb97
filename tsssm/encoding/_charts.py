"""What a network sees of a chart: every variable at its own times, read off at the instants of a coarse grid.

Symbols and shapes: n series, d channels of which c vary, s numbers of the static ones, L instants in all
series, d_in = s + 3 c inputs::

    u   (L, d_in)   static numbers; value carried on; value on its way to the mean; whether it was measured
    dt  (L,)        elapsed time since the previous instant of the series, in units of time_scale
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tsssm.encoding._encoded import Encoded
from tsssm.encoding._encoder import PanelEncoder
from tsssm.encoding._errors import unlimited
from tsssm.encoding._limits import LONGEST_GAP, unit_gaps
from tsssm.encoding._measurements import Measurements
from tsssm.encoding._scores import NormalScores
from tsssm.encoding._static import StaticScores
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Of a typical series: the line has so many spans, and a value is forgotten after so many of them.
_SPANS, _FORGOTTEN = 48, 6.0


class ChartLine(NamedTuple):
    """Measurements (m,) of n charts and the L instants of all of them, of c channels that vary.

    Attributes
    ----------
    measured : Measurements
    score : array (m,)
        Normal scores of the measurements.
    instant : array (m,)
        Whose span each measurement lies in.
    number : array (L,)
        Of the span of each instant, from the beginning of the series.
    offsets : array (n + 1,)
        Instants of series i are ``offsets[i]:offsets[i + 1]``.
    counts : array (L, c)
        Measurements of each channel in the span.
    latest : array (L, c)
        The latest instant up to this one whose span has a measurement of the channel, -1 without any.
    carried, kept : array (L, c)
        Mean score of that span, 0 without any, and the share of it that is left on its way to 0.
    """

    measured: Measurements
    score: FloatArray
    instant: IntArray
    number: IntArray
    offsets: IntArray
    counts: IntArray
    latest: IntArray
    carried: FloatArray
    kept: FloatArray


class ChartEncoder(PanelEncoder):
    r"""Turns charts into network inputs, with everything learned from the training panel.

    Time is cut into spans, of which a typical series has 48; spans of a series without a measurement are left
    out. At the end of each of the others stand, of every channel that varies and in normal scores of the
    training values: the mean of its latest span with a measurement, that mean on its way to 0, which is the
    median of the training values,

    .. math:: \dot x = -x / \tau, \qquad x(t_k) = z_k,

    a scalar system that every measurement sets anew and that moves by the gaps of its own channel, with tau
    six spans; and 1 where the span has a measurement of it, else 0. Static channels are normal scores and
    indicators of categories, the same at every instant. Before its first measurement a channel is 0.

    Parameters
    ----------
    time_scale : "median" or float
        Unit of elapsed time; "median" is a span.

    Attributes
    ----------
    scores : NormalScores
    static : StaticScores
    channels : array (c,)
        Which channels vary.
    grid, span : float
        Time between the samples of a panel without times, and of a span, in the unit of the training panel.
    n_inputs : int
        And those of `PanelEncoder`.

    References
    ----------
    Values that are carried on and decay: Che, Purushotham, Cho, Sontag, Liu, arXiv 1606.01865, section 2.3.
    """

    scores: NormalScores
    static: StaticScores
    channels: IntArray
    grid: float
    span: float

    def fit(self, panel: Panel) -> ChartEncoder:
        """As `PanelEncoder.fit`."""
        super().fit(panel)
        # Scores have limits of their own.
        self.limits = unlimited(panel.n_channels)
        # Between the samples of a panel without times, in the unit of the training panel's times.
        self.grid = self.step * self.time_scale_
        self.static = StaticScores().fit(panel)
        self.channels = np.setdiff1d(np.arange(panel.n_channels), self.static.channels)
        measured = Measurements.of(panel, self.channels, self.grid)
        self.scores = NormalScores().fit(measured)
        lasting = measured.end - measured.begin
        self.span = (float(np.median(lasting)) or float(lasting.max()) or 1.0) / _SPANS
        if self.time_scale == "median":
            self.time_scale_ = self.span
            self.step = self.grid / self.span
        self.n_inputs = self.static.n_outputs + 3 * len(self.channels)
        return self

    def line(self, panel: Panel) -> ChartLine:
        """Return the measurements of the channels that vary, and the instants that they are read off at."""
        panel = self.in_training_unit(panel)
        measured = Measurements.of(panel, self.channels, self.grid)
        since = (measured.time - measured.begin[measured.series]) / self.span
        span = np.minimum(since, LONGEST_GAP).astype(np.int64)
        # A series without any measurement has one instant, at its beginning.
        series = np.concatenate([measured.series, np.arange(len(panel))])
        numbers = np.concatenate([span, np.zeros(len(panel), np.int64)])
        without = np.bincount(measured.series, minlength=len(panel)) == 0
        counts = np.append(np.ones(len(span), dtype=bool), without)
        key = series[counts] * (int(LONGEST_GAP) + 1) + numbers[counts]
        instants, instant = np.unique(key, return_inverse=True)
        of_series, number = np.divmod(instants, int(LONGEST_GAP) + 1)
        offsets = np.searchsorted(of_series, np.arange(len(panel) + 1))
        return self._carried(measured, instant[: len(span)], number, offsets)

    def encode_all(self, panel: Panel) -> Encoded:
        """As `PanelEncoder.encode_all`."""
        self._check(panel)
        line = self.line(panel)
        parts = [
            np.repeat(self.static.transform(panel), np.diff(line.offsets), axis=0),
            line.carried,
            line.carried * line.kept,
            line.counts > 0,
        ]
        dt = np.diff(line.number, prepend=0) * (self.span / self.time_scale_)
        dt[line.offsets[:-1]] = 1.0
        return Encoded(
            torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32)),
            torch.from_numpy(unit_gaps(dt, 0.0).astype(np.float32)),
            torch.from_numpy(line.offsets.astype(np.int64)),
        )

    def regular(self, panel: Panel) -> bool:
        """No: spans without a measurement are left out."""
        return False

    def _carried(
        self, measured: Measurements, instant: IntArray, number: IntArray, offsets: IntArray
    ) -> ChartLine:
        """What is carried on to the instants of the spans ``number`` (L,)."""
        shape = len(number), len(self.channels)
        where = instant * shape[1] + measured.channel
        score = self.scores.transform(measured)
        count = np.bincount(where, minlength=shape[0] * shape[1]).reshape(shape)
        total = np.bincount(where, score, shape[0] * shape[1]).reshape(shape)
        latest = np.maximum.accumulate(np.where(count > 0, np.arange(shape[0])[:, None], -1), axis=0)
        known = latest >= np.repeat(offsets[:-1], np.diff(offsets))[:, None]
        at = np.maximum(latest, 0)
        carried = np.where(known, np.take_along_axis(total / np.maximum(count, 1), at, axis=0), 0.0)
        age = (number[:, None] - number[at]).astype(np.float64)
        kept = np.exp(-age / _FORGOTTEN)
        return ChartLine(
            measured, score, instant, number, offsets, count, np.where(known, latest, -1), carried, kept
        )
