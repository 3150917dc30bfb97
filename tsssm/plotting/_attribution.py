"""What led to the prediction for one series: attribution over time and channel, above the signal."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.inspection import Attribution, attribute
from tsssm.plotting._axes import axes_for, chosen
from tsssm.plotting._panel import PanelDisplay

# Grey in the middle, so that it is seen on light and on dark ground.
_COLOURS = "coolwarm"
_STRIP = (1.03, 1.18)  # above the axes of the signal, in their height


class AttributionDisplay:
    """The channels of one series, and above each its contribution to the prediction, in spans of time.

    Parameters
    ----------
    attribution : Attribution
        Of one series.
    spans : int or array, default=48
        As of `Attribution.by_span`.
    channels : list of names or positions, optional
        Which to draw, in this order; by default the six that did most.

    Attributes
    ----------
    table : DataFrame (channels, spans)
        What each channel added in each span: its values and what was missing.
    edges : array (spans + 1,)
        In the unit of the times, or numbers of samples.
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        One a channel.
    """

    figure_: Any
    axes_: list[Any]

    def __init__(
        self,
        attribution: Attribution,
        spans: int | npt.ArrayLike = 48,
        channels: Hashable | Sequence[Hashable] | None = None,
    ) -> None:
        panel = attribution.panel
        if len(panel) != 1:
            raise ValueError(f"attribution must be of one series; got {len(panel)}. Explain panel[i] alone.")
        self.attribution = attribution
        table = attribution.by_span(spans)
        table.index = pd.Index(attribution.channels, name="channel")
        numbers = np.argsort(-np.abs(table.to_numpy().sum(axis=1)), kind="stable")[:6]
        if channels is not None:
            numbers = panel_positions(attribution, channels)
        self.panel = panel.select([int(number) for number in numbers])
        self.table = table.iloc[numbers]
        if np.ndim(spans):
            self.edges = np.asarray(spans, dtype=np.float64)
        else:
            times = panel.times if panel.times is not None else np.arange(panel.lengths[0], dtype=np.float64)
            self.edges = np.linspace(times[0], times[-1], self.table.shape[1] + 1)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        spans: int | npt.ArrayLike = 48,
        channels: Hashable | Sequence[Hashable] | None = None,
        ax: Any = None,
        **options: Any,
    ) -> AttributionDisplay:
        """Attribute the answer of a fitted estimator for one series, and draw.

        Parameters
        ----------
        estimator, X
            As of `tsssm.inspection.attribute`; X holds one series.
        spans, channels
            As above. Where attributions are of spans themselves ("occlusion", "shapley"), they are of 12
            spans of equal time if a number is given here, else of these.
        ax : sequence of matplotlib Axes, optional
            One a channel; by default a new figure.
        **options
            Further arguments of `tsssm.inspection.attribute`, such as ``target`` and ``method``.

        Raises
        ------
        ImportError
            If matplotlib or Captum is not installed.
        NotFittedError, TypeError, ValueError
            As `tsssm.inspection.attribute`, and for several series.
        """
        if np.ndim(spans):
            options["spans"] = spans
        found = attribute(estimator, X, **options)
        if found.method != "integrated_gradients" and not np.ndim(spans):
            spans = 12
        return cls(found, spans, channels).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> AttributionDisplay:
        """Draw a row per channel on ``ax`` or on a new figure; returns itself."""
        self.figure_, self.axes_ = axes_for(ax, len(self.table), 1.7)
        PanelDisplay(self.panel).plot(ax=self.axes_)
        largest = float(np.abs(self.table.to_numpy()).max()) or 1.0
        sums = self.table.sum(axis=1)
        strip: Any = None
        for axes, (name, row) in zip(self.axes_, self.table.iterrows(), strict=True):
            limits = axes.get_ylim()
            strip = axes.pcolormesh(
                self.edges,
                _STRIP,
                row.to_numpy()[None],
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                cmap=_COLOURS,
                vmin=-largest,
                vmax=largest,
            )
            axes.set_ylim(limits)
            label = name if self.panel.channel_names is not None else f"channel {name}"
            axes.set_ylabel(f"{label}\n{sums[name]:+.2f}")
        found = self.attribution
        answer, start = float(found.output[0]), float(found.baseline[0])
        self.axes_[0].set_title(f"{found.quantity}: {answer:.2f}, from a baseline of {start:.2f}", pad=24)
        bar = self.figure_.colorbar(strip, ax=self.axes_, aspect=40, pad=0.02)
        bar.set_label(f"added to the {found.quantity}")
        return self


def panel_positions(attribution: Attribution, channels: Hashable | Sequence[Hashable]) -> npt.NDArray[Any]:
    """Positions of channels that are given by name or position."""
    wanted: list[Any] = [channels] if isinstance(channels, (str, int)) else list(channels)  # type: ignore[call-overload]
    names = attribution.channels
    return np.array(
        [names.index(one) if one in names else chosen(one, len(names), 1, "channels")[0] for one in wanted]
    )
