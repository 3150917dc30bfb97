"""Times of the samples of series, and the samples that predictions at other times are read from."""

from __future__ import annotations

import numpy as np

from tsssm.encoding import Encoded, PanelEncoder
from tsssm.estimators._along_labels import AlongTime
from tsssm.estimators._checks import FloatArray, IntArray
from tsssm.panel import Panel
from tsssm.panel._checks import UNITS

# Times that differ by less are the same, in units of the time scale; as for the gaps of the encoding.
_TOLERANCE, _ROUNDING = 1e-6, 8 * np.finfo(np.float64).eps


class Clock:
    """The encoded series of a panel and their times.

    Parameters
    ----------
    panel : Panel
    encoder : PanelEncoder
        Fitted.

    Attributes
    ----------
    data : Encoded
        Samples that are missing in every channel are not among them.
    """

    def __init__(self, panel: Panel, encoder: PanelEncoder) -> None:
        panel = encoder.without_errors(panel)
        own = encoder.in_training_unit(panel)
        self._panel = panel
        self._scale = encoder.step  # of a number of samples, in units of the time scale
        if panel.has_times:
            self._scale = 1 / encoder.time_scale_
            if panel.time_unit is not None and encoder.time_unit is not None:
                self._scale *= UNITS[panel.time_unit] / UNITS[encoder.time_unit]
        self.data: Encoded = encoder.encode_all(own)
        seen = np.asarray(~np.isnan(panel.values).all(axis=1))
        starts = panel.offsets[:-1]
        empty = np.logical_or.reduceat(seen, starts) == 0
        seen[starts[empty]] = True
        self._kept = np.cumsum(seen)
        dt = self.data.dt.numpy()
        # What has the time of an earlier sample leaves the state of the layers as it is.
        self._moving = None
        if (dt == 0).any():
            self._moving = np.maximum.accumulate(np.where(dt > 0, np.arange(len(dt)), 0))

    def times(self, i: int) -> FloatArray:
        """Times of the samples of a series, in units of the time scale."""
        start, stop = self._panel.offsets[i], self._panel.offsets[i + 1]
        if self._panel.times is None:
            return np.arange(stop - start) * self._scale
        return self._panel.times[start:stop] * self._scale

    def rows(self, at: AlongTime, lookahead: float, name: str) -> tuple[IntArray, IntArray]:
        """Where the answers for times are read.

        Parameters
        ----------
        at : AlongTime
            m times; its values do not count.
        lookahead : float
            In units of the time scale.
        name : str
            What error messages call them.

        Returns
        -------
        rows : array (m,)
            The last encoded sample at or before each time plus ``lookahead``, or that of the end of the
            series if it is earlier; -1 before the first sample with a value.
        late : array (m,), bool
            Whether a series ends before all is known that ``lookahead`` asks for.

        Raises
        ------
        ValueError
            For times outside of those of the samples of the series.
        """
        if at.times is None and lookahead == 0:
            samples = np.arange(len(at.values))
            late = np.zeros(len(samples), dtype=bool)
        else:
            samples, late = self._samples(at, lookahead, name)
        row = self._kept[samples] - 1
        before = row < self.data.offsets.numpy()[at.series]
        if self._moving is not None:
            row = self._moving[np.maximum(row, 0)]
        return np.where(before, -1, row), late

    def _samples(self, at: AlongTime, lookahead: float, name: str) -> tuple[IntArray, IntArray]:
        samples = np.empty(at.offsets[-1], dtype=np.int64)
        late = np.zeros(len(samples), dtype=bool)
        for i, (start, stop) in enumerate(
            zip(at.offsets[:-1].tolist(), at.offsets[1:].tolist(), strict=True)
        ):
            if start == stop:
                continue
            own = self.times(i)
            time = own if at.times is None else at.times[start:stop] * self._scale
            slack = _TOLERANCE + _ROUNDING * max(abs(own[0]), abs(own[-1]))
            outside = (time < own[0] - slack) | (time > own[-1] + slack)
            if outside.any():
                k = int(np.argmax(outside))
                raise ValueError(
                    f"{name} has {int(outside.sum())} times outside of those of series {i} of X, "
                    f"{own[0] / self._scale:g} to {own[-1] / self._scale:g}; the first is "
                    f"{time[k] / self._scale:g}."
                )
            known = time + lookahead
            late[start:stop] = known > own[-1] + slack
            first = self._panel.offsets[i]
            found = np.searchsorted(own, known + slack, side="right") - 1
            samples[start:stop] = first + np.maximum(found, 0)
        return samples, late
