"""Occlusion and Shapley values of spans of time, for any estimator: what if this had not been measured?

Symbols: a cell is a channel in a span of time of one series, or a static channel as a whole. Players are the
cells with measurements, and their coalitions series in which only those were measured. A series without what
was taken out is asked about as it would have come: samples without any value left are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.encoding import ChartEncoder, PanelEncoder
from tsssm.features import ChartFeatures
from tsssm.inspection._answers import Answer
from tsssm.inspection._captum import captum_attr
from tsssm.inspection._clock import span_numbers
from tsssm.inspection._gradients import Found
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: From a panel to the outputs (n, n_outputs) of an estimator; the number of the series it is made of.
Ask = Callable[[Panel, int], FloatArray]

# Values of the series that are asked about at a time, and the most of such series.
_VALUES, _MOST = 400_000, 256


class _Series:
    """One series, its cells, and the answers for it without some of them."""

    def __init__(
        self,
        panel: Panel,
        spans: IntArray,
        reading: Reading,
        ask: Callable[[Panel], FloatArray],
        answer: Answer,
    ) -> None:
        self.panel, self.ask, self.answer = panel, ask, answer
        seen = np.asarray(~np.isnan(panel.values))
        d = panel.n_channels
        # A number for each pair of span and channel; those of static channels are of span 0.
        key = np.where(reading.static, 0, spans[:, None]) * d + np.arange(d)
        self.seen = seen
        found, inverse = np.unique(key, return_inverse=True)
        inverse = inverse.reshape(key.shape)
        measured = np.zeros(len(found), dtype=bool)
        measured[inverse[seen]] = True
        number = np.cumsum(measured) - 1
        self.n_measured = int(measured.sum())
        self.cell = np.where(seen, number[inverse], -1)
        #: Channels of which nothing was measured in the whole series.
        self.absent = np.flatnonzero(~seen.any(axis=0)) if reading.missing else np.empty(0, np.int64)
        self.typical = reading.typical
        self.replaced = np.nan if reading.missing else np.broadcast_to(reading.typical, panel.values.shape)

    @property
    def at_once(self) -> int:
        """How many variants are asked about at a time."""
        return int(np.clip(_VALUES // self.panel.values.size, 1, _MOST))

    def answers(self, present: Tensor) -> Tensor:
        """Answers (k,) with the cells where ``present`` (k, cells) is 1 as they are, and the others turned.

        Turned, what was measured is not, and a channel that never was has a typical value in the middle.
        """
        kept = present.detach().numpy() > 0.5
        original = self.panel.values.astype(np.float64)
        k, (length, d) = len(kept), original.shape
        away = np.where(self.cell >= 0, ~kept[:, self.cell], False)
        values = np.where(away, self.replaced, original)
        for number, channel in enumerate(self.absent[: kept.shape[1] - self.n_measured]):
            values[~kept[:, self.n_measured + number], length // 2, channel] = self.typical[channel]
        variants = Panel(
            values.reshape(-1, d),
            np.arange(k + 1) * length,
            None if self.panel.times is None else np.tile(self.panel.times, k),
            self.panel.channel_names,
            time_unit=self.panel.time_unit,
        )
        return self.answer.of(torch.from_numpy(self.ask(variants)))

    def spread(self, added: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Attributions of cells as those of samples, (length, d) each: evenly over each cell's own."""
        values, missing = np.zeros(self.panel.values.shape), np.zeros(self.panel.values.shape)
        count = np.bincount(self.cell[self.seen], minlength=self.n_measured)
        values[self.seen] = (added[: self.n_measured] / np.maximum(count, 1))[self.cell[self.seen]]
        for one, channel in zip(added[self.n_measured :], self.absent, strict=False):
            missing[:, channel] = one / len(missing)
        return values, missing


class Reading:
    """How an estimator reads series: whether it knows missing values, and what is typical of a channel.

    Attributes
    ----------
    missing : bool
        Whether values were missing in training. Where not, the training mean stands for what is taken out.
    typical : array (d,)
        The training mean of each channel, of charts the median.
    static : array (d,), bool
    """

    def __init__(self, estimator: Any) -> None:
        features = getattr(estimator, "features_", None)
        encoder: PanelEncoder = estimator.encoder_ if features is None else features.encoder
        self.missing = bool(encoder.missing)
        self.typical = encoder.mean.copy()
        self.static = np.zeros(encoder.n_channels, dtype=bool)
        chart = encoder if features is None else features
        if isinstance(chart, (ChartEncoder, ChartFeatures)):
            self.static[chart.static.channels] = True
            for channels, knots in (
                (chart.channels, chart.scores.knots),
                (chart.static.channels, chart.static.knots),
            ):
                self.typical[channels] = knots[:, knots.shape[1] // 2]


def occlusion(estimator: Any, panel: Panel, answer: Answer, ask: Ask, spans: Any) -> Found:
    """What each cell adds: the answer less that without it; of absent channels, less that with a value."""

    def method(series: _Series) -> FloatArray:
        cells = series.n_measured + len(series.absent)
        if cells == 0:
            return np.zeros(0)
        ablation = captum_attr().FeatureAblation(series.answers)
        return ablation.attribute(
            torch.ones(1, cells, dtype=torch.float64), perturbations_per_eval=series.at_once
        )[0].numpy()

    return _each(estimator, panel, answer, ask, spans, method)


def shapley(
    estimator: Any, panel: Panel, answer: Answer, ask: Ask, spans: Any, n_permutations: int, seed: int
) -> Found:
    """What each cell adds, on the average over orders in which they might have been measured.

    Shapley, 1953; by random orders: Castro, Gomez, Tejada, Computers & Operations Research 36 (2009). Each
    order, and so their mean, sums to the answer less the baseline.
    """

    def method(series: _Series) -> FloatArray:
        if series.n_measured == 0:
            return np.zeros(0)
        sampling = captum_attr().ShapleyValueSampling(series.answers)
        sampling.permutation_generator = _Orders(seed)
        return sampling.attribute(
            torch.ones(1, series.n_measured, dtype=torch.float64),
            n_samples=n_permutations,
            perturbations_per_eval=series.at_once,
        )[0].numpy()

    return _each(estimator, panel, answer, ask, spans, method)


class _Orders:
    """Random orders of players, in place of Captum's, which torch's global generator draws.

    Every second one is that before it backwards.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, n_players: int, n_orders: int) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(n_players)
        for number in range(n_orders):
            if number and number % 2 == 0:
                order = rng.permutation(n_players)
            yield order[:: -1 if number % 2 else 1].tolist()


def _each(
    estimator: Any,
    panel: Panel,
    answer: Answer,
    ask: Ask,
    spans: Any,
    method: Callable[[_Series], FloatArray],
) -> Found:
    numbers, _ = span_numbers(panel, spans)
    reading = Reading(estimator)
    values, missing = np.zeros(panel.values.shape), np.zeros(panel.values.shape)
    baseline, output = np.empty(len(panel)), np.empty(len(panel))
    for i in range(len(panel)):
        part = slice(int(panel.offsets[i]), int(panel.offsets[i + 1]))

        def own(variants: Panel, i: int = i) -> FloatArray:
            return ask(variants, i)

        series = _Series(panel[i], numbers[part], reading, own, answer)
        ends = torch.tensor([[0.0] * series.n_measured, [1.0] * series.n_measured])
        baseline[i], output[i] = series.answers(ends).tolist()
        values[part], missing[part] = series.spread(method(series))
    return Found(values, missing, baseline, output)
