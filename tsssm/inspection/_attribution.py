"""Attributions of answers to measurements, as panels and as tables."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.inspection._clock import sample_times, span_numbers
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """Contributions of measured and of missing values of some series to the predictions of an estimator.

    Attributes
    ----------
    panel : Panel
        The n series that are explained.
    values : Panel
        With the ids, times and channels of ``panel``: what the value of each channel at each sample added to
        the answer, 0 where there is none.
    missing : Panel
        As ``values``: the contribution of whether a channel was measured, and of the time since it was.
    baseline, output : array (n,)
        The prediction for the baseline of the method, and that for each series.
    delta : array (n,)
        The part of ``output - baseline`` that attributions do not explain: rounding for Shapley values, the
        error of an integral for integrated gradients, and for occlusion, of ``values`` alone, joint effects
        of several measurements.
    quantity : str
        Name of the predicted quantity, such as ``"log-odds of 1"``.
    method : {"integrated_gradients", "occlusion", "shapley"}
    """

    panel: Panel
    values: Panel
    missing: Panel
    baseline: FloatArray
    output: FloatArray
    delta: FloatArray
    quantity: str
    method: str

    @property
    def channels(self) -> list[Hashable]:
        """Names of the channels, or their numbers."""
        names = self.panel.channel_names
        return list(range(self.panel.n_channels)) if names is None else list(names)

    @property
    def ids(self) -> pd.Index:
        """Ids of the series, or their numbers."""
        return pd.RangeIndex(len(self.panel)) if self.panel.ids is None else self.panel.ids

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each measurement, and for what was not measured and matters.

        Columns are "id", "time" (numbers in the unit of the panel, or of samples), "channel", "measured" (the
        value, NaN without), "value" and "missing" (the two attributions). Rows where a channel was not
        measured are there if their attribution is not zero.
        """
        known: npt.NDArray[np.bool_] = ~np.isnan(self.panel.values)
        sample, channel = np.nonzero(known | (self.values.values != 0) | (self.missing.values != 0))
        series = np.repeat(np.arange(len(self.panel)), self.panel.lengths)[sample]
        return pd.DataFrame(
            {
                "id": self.ids[series],
                "time": sample_times(self.panel)[sample],
                "channel": pd.Index(self.channels)[channel],
                "measured": self.panel.values[sample, channel],
                "value": self.values.values[sample, channel],
                "missing": self.missing.values[sample, channel],
            }
        )

    def by_channel(self) -> pd.DataFrame:
        """Return what each channel added to each answer, (n, channels): its values and what was missing."""
        total = self._total()
        sums = np.add.reduceat(total, self.panel.offsets[:-1], axis=0)
        return pd.DataFrame(sums, index=self.ids, columns=self.channels)

    def by_span(self, spans: int | npt.ArrayLike = 12) -> pd.DataFrame:
        """Return what each channel added in each span of time, with rows (id, channel).

        Parameters
        ----------
        spans : int or array
            As of `attribute`. Columns are the numbers of the spans, or their beginnings where edges are
            given.
        """
        numbers, edges = span_numbers(self.panel, spans)
        count, d = int(numbers.max(initial=0)) + 1, self.panel.n_channels
        if edges is not None:
            count = len(edges) - 1
        series = np.repeat(np.arange(len(self.panel)), self.panel.lengths)
        table = np.zeros((len(self.panel), count, d))
        np.add.at(table, (series, numbers), self._total())
        index = pd.MultiIndex.from_product([self.ids, self.channels], names=["id", "channel"])
        columns = pd.RangeIndex(count) if edges is None else pd.Index(edges[:-1])
        return pd.DataFrame(
            table.transpose(0, 2, 1).reshape(-1, count), index=index, columns=columns.rename("span")
        )

    def summary(self) -> pd.DataFrame:
        """Return a table with a row per channel, the most influential first.

        Columns are the means over the series of what its values added ("value"), of what it added that they
        were measured or not ("missing"), and of the size of both together ("size").
        """
        starts = self.panel.offsets[:-1]
        value, missing = (
            np.add.reduceat(part.values.astype(np.float64), starts, axis=0)
            for part in (self.values, self.missing)
        )
        table = {
            "value": value.mean(axis=0),
            "missing": missing.mean(axis=0),
            "size": np.abs(value + missing).mean(axis=0),
        }
        frame = pd.DataFrame(table, index=pd.Index(self.channels, name="channel"))
        return frame.sort_values("size", ascending=False, kind="stable")

    def _total(self) -> FloatArray:
        return self.values.values.astype(np.float64) + self.missing.values
