"""Series as they were measured."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from tsssm.panel import Panel, as_panel
from tsssm.plotting._axes import axes_for, chosen, time_label

_KINDS = ("lines", "raster")


class PanelDisplay:
    """Series of a panel over time, or what of them was measured when.

    Parameters
    ----------
    panel : Panel
        The series to draw, with the channels to draw.

    Attributes
    ----------
    panel : Panel
        What is drawn, as numbers; ``panel.to_long()`` is a table of it.
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        One a channel for lines, one for a raster.

    See Also
    --------
    Panel.describe : The same as a table.
    """

    figure_: Any
    axes_: list[Any]

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    @classmethod
    def from_panel(
        cls,
        X: Any,
        *,
        series: int | Sequence[int] | None = None,
        channels: Hashable | Sequence[Hashable] | None = None,
        kind: str = "lines",
        ax: Any = None,
    ) -> PanelDisplay:
        """Choose series and channels, and draw them.

        Parameters
        ----------
        X : Panel, or whatever estimators take as X
        series : int or sequence of int, optional
            Which series; by default the first three.
        channels : str, int or sequence of them, optional
            Which channels, by name or position; by default the first eight for lines, all for a raster.
        kind : {"lines", "raster"}, default="lines"
            As in `plot`.
        ax : matplotlib Axes or sequence of them, optional
            As in `plot`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        IndexError, TypeError, ValueError
            For X, series, channels or axes that are not as above.
        """
        panel = X if isinstance(X, Panel) else as_panel(X)
        if channels is None:
            channels = chosen(None, panel.n_channels, 8 if kind == "lines" else panel.n_channels, "channels")
        taken = panel[chosen(series, len(panel), 3, "series")].select(channels)
        return cls(taken).plot(kind=kind, ax=ax)

    def plot(self, *, kind: str = "lines", ax: Any = None) -> PanelDisplay:
        """Draw.

        Parameters
        ----------
        kind : {"lines", "raster"}, default="lines"
            Values over time, each sample a dot, a line from one measured value of a channel to its next; or a
            row for each channel of each series with a mark where it was measured.
        ax : matplotlib Axes or sequence of them, optional
            One a channel for lines, one for a raster; by default a new figure.

        Returns
        -------
        PanelDisplay
            Itself.
        """
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}; got {kind!r}.")
        rows = self.panel.n_channels if kind == "lines" else 1
        many = len(self.panel) * self.panel.n_channels
        height = 1.8 if kind == "lines" else 1.5 + 0.2 * many
        self.figure_, self.axes_ = axes_for(ax, rows, height)
        (self._lines if kind == "lines" else self._raster)()
        self.axes_[-1].set_xlabel(time_label(self.panel.time_unit, self.panel.has_times))
        return self

    @property
    def _names(self) -> list[str]:
        return list(self.panel.channel_names or (f"channel {j}" for j in range(self.panel.n_channels)))

    @property
    def _labels(self) -> list[str]:
        ids = self.panel.ids
        return [str(label) for label in (ids if ids is not None else range(len(self.panel)))]

    def _measured(self, row: int, channel: int) -> tuple[Any, Any]:
        """Times and values of one channel of one series, without the missing ones."""
        one = self.panel[row]
        values = one.values[:, channel]
        times = np.arange(len(values), dtype=np.float64) if one.times is None else one.times
        known = ~np.isnan(values)
        return times[known], values[known]

    def _lines(self) -> None:
        for channel, (axes, name) in enumerate(zip(self.axes_, self._names, strict=True)):
            for row, label in enumerate(self._labels):
                axes.plot(*self._measured(row, channel), ".-", linewidth=0.8, markersize=4, label=label)
            axes.set_ylabel(name)
        if len(self.panel) > 1:
            self.axes_[0].legend(title="series", loc="upper right")

    def _raster(self) -> None:
        (axes,), names = self.axes_, self._names
        ticks: list[str] = []
        for row, label in enumerate(self._labels):
            for channel, name in enumerate(names):
                times, _ = self._measured(row, channel)
                axes.plot(times, np.full(len(times), len(ticks)), "|", color=f"C{row % 10}")
                ticks.append(f"{label}, {name}" if len(self.panel) > 1 else name)
        axes.set_yticks(range(len(ticks)), ticks)
        axes.set_ylim(len(ticks) - 0.5, -0.5)
        axes.set_title("what was measured when")
