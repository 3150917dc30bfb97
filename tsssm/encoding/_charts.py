"""What a network sees of a chart: every variable on its own clock, read off at the instants of a coarse line.

Symbols and shapes: n series, d channels of which c vary, s numbers of the static ones, L instants in all
series, d_in = s + 3 c inputs::

    u   (L, d_in)   static numbers; value carried on; value on its way to the mean; whether it was measured
    dt  (L,)        elapsed time since the previous instant of the series, in units of time_scale
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tsssm.encoding._encoded import Encoded
from tsssm.encoding._encoder import PanelEncoder
from tsssm.encoding._limits import LONGEST_GAP, unit_gaps
from tsssm.encoding._measurements import Measurements
from tsssm.encoding._scores import NormalScores
from tsssm.encoding._static import StaticScores
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Of a typical series: the line has so many spans, and a value is forgotten after so many of them.
_SPANS, _FORGOTTEN = 48, 6.0


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

    def encode_all(self, panel: Panel) -> Encoded:
        """As `PanelEncoder.encode_all`."""
        self._check(panel)
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
        instants, row = np.unique(key, return_inverse=True)
        of_series, number = np.divmod(instants, int(LONGEST_GAP) + 1)
        offsets = np.searchsorted(of_series, np.arange(len(panel) + 1))
        carried, age, seen = self._carried(measured, row[: len(span)], number, offsets)
        parts = [
            np.repeat(self.static.transform(panel), np.diff(offsets), axis=0),
            carried,
            carried * np.exp(-age / _FORGOTTEN),
            seen,
        ]
        dt = np.diff(number, prepend=0) * (self.span / self.time_scale_)
        dt[offsets[:-1]] = 1.0
        return Encoded(
            torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32)),
            torch.from_numpy(unit_gaps(dt, 0.0).astype(np.float32)),
            torch.from_numpy(offsets.astype(np.int64)),
        )

    def _carried(
        self, measured: Measurements, row: IntArray, number: IntArray, offsets: IntArray
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
        """Value carried on, its age in spans, and whether it was measured there, (L, c) each.

        ``row`` (m,) is the instant of each measurement, ``number`` (L,) the number of its span.
        """
        shape = len(number), len(self.channels)
        where = row * shape[1] + measured.channel
        count = np.bincount(where, minlength=shape[0] * shape[1]).reshape(shape)
        total = np.bincount(where, self.scores.transform(measured), shape[0] * shape[1]).reshape(shape)
        seen = count > 0
        latest = np.maximum.accumulate(np.where(seen, np.arange(shape[0])[:, None], -1), axis=0)
        known = latest >= np.repeat(offsets[:-1], np.diff(offsets))[:, None]
        latest = np.maximum(latest, 0)
        mean = np.take_along_axis(total / np.maximum(count, 1), latest, axis=0)
        return np.where(known, mean, 0.0), (number[:, None] - number[latest]).astype(np.float64), seen
