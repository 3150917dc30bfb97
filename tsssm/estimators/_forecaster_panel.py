"""Forecasts of panels: series with times of their own, asked at any time ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.estimators._forecaster_time import FloatArray, grid_step, to_grid
from tsssm.forecasting import Track
from tsssm.panel import Panel


class PanelGrid(NamedTuple):
    """Grid step in the unit of the times, that unit, whether there are times, and the channels."""

    step: float
    unit: str | None
    has_times: bool
    n_channels: int
    names: tuple[str, ...] | None

    @classmethod
    def of(cls, panel: Panel) -> PanelGrid:
        """The grid that a panel is learned on."""
        if len(panel) == 0:
            raise ValueError("the panel must hold at least one series, got none.")
        step = 1.0 if panel.times is None else _typical_step(panel)
        return cls(step, panel.time_unit, panel.has_times, panel.n_channels, panel.channel_names)

    def steps(self, ahead: Any) -> int:
        """Grid steps to a time ahead."""
        if not isinstance(ahead, Real) or isinstance(ahead, bool) or not 0 < float(ahead) < math.inf:
            raise ValueError(
                f"With a Panel, fh must be a positive finite number, the time ahead; got {ahead!r}."
            )
        return max(1, math.ceil(float(ahead) / self.step - 1e-6))

    def channels(self, panel: Panel, together: bool) -> list[list[Track]]:
        """Series of each channel that have a value, with the others beside them if read ``together``."""
        each = []
        for channel in range(panel.n_channels):
            tracks = list(self._gridded(panel, channel, together).values())
            if not tracks:
                name = channel if panel.channel_names is None else repr(panel.channel_names[channel])
                raise ValueError(f"channel {name} of the panel has no value in any series.")
            each.append(tracks)
        return each

    def _gridded(self, panel: Panel, channel: int, together: bool) -> dict[int, Track]:
        """A channel on the grid that ends with each series, by the number of the series."""
        found = {}
        for i in range(len(panel)):
            rows = slice(int(panel.offsets[i]), int(panel.offsets[i + 1]))
            if not np.isfinite(panel.values[rows, channel]).any():
                continue
            columns = slice(None) if together else slice(channel, channel + 1)
            values = panel.values[rows, columns].astype(np.float64)
            shift = np.zeros(len(values))
            if panel.times is not None:
                places = (panel.times[rows] - panel.times[rows][-1]) / self.step
                _, values, shift = to_grid(places, values, f"series {i} of the panel")
            own, others = values[:, channel if together else 0], values if together else None
            found[i] = Track(channel, own, 0, shift, np.zeros((len(own), 0)), others)
        return found

    def forecasts(
        self,
        panel: Panel,
        times: Any,
        levels: Sequence[float] | None,
        paths: Callable[[int, list[Track], list[FloatArray]], Sequence[FloatArray]],
        together: bool,
        who: str,
    ) -> Panel:
        """Forecasts, or their quantiles, of a panel at times ahead of its series.

        ``paths`` says them (k_i, levels or 1) for a channel at steps (k_i,) after the end of some series.
        """
        panel = _checked_panel(panel, self, who)
        ahead = _checked_times(times, len(panel))
        if levels is not None and not (levels and all(0 < level < 1 for level in levels)):
            raise ValueError(f"alpha must hold levels in (0, 1); got {list(levels)}.")
        width = 1 if levels is None else len(levels)
        values = [np.full((self.n_channels * width, len(own)), np.nan) for own in ahead]
        for channel in range(self.n_channels):
            given = self._gridded(panel, channel, together)
            if given:
                steps = [ahead[i] / self.step for i in given]
                for i, path in zip(given, paths(channel, list(given.values()), steps), strict=True):
                    values[i][channel * width : (channel + 1) * width] = path.T
        return _as_panel(panel, values, ahead, self, levels)


def _typical_step(panel: Panel) -> float:
    """Grid step for all series: the median of the steps of each."""
    assert panel.times is not None
    starts = panel.offsets
    steps = [
        grid_step(panel.times[a:b])
        for a, b in zip(starts[:-1], starts[1:], strict=True)
        if len(np.unique(panel.times[a:b])) > 1
    ]
    return float(np.median(steps)) if steps else 1.0


def _checked_panel(panel: Panel, grid: PanelGrid, who: str) -> Panel:
    if len(panel) == 0:
        raise ValueError("the panel must hold at least one series, got none.")
    if panel.n_channels != grid.n_channels:
        raise ValueError(
            f"the panel has {panel.n_channels} channel(s), but {who} was fitted with {grid.n_channels}."
        )
    if panel.channel_names is not None and grid.names is not None and panel.channel_names != grid.names:
        raise ValueError(
            f"the channels must have the names and the order that they had in fit, {list(grid.names)}; got "
            f"{list(panel.channel_names)}."
        )
    if panel.has_times != grid.has_times:
        raise ValueError(
            f"{who} was fitted to series {'with' if grid.has_times else 'without'} times; got a panel "
            f"{'with' if panel.has_times else 'without'}."
        )
    if (panel.time_unit is None) != (grid.unit is None):
        raise ValueError(
            f"the times of the panel are in {panel.time_unit or 'no known unit'}, those in fit were in "
            f"{grid.unit or 'none'}; pass time_unit when the panel is made."
        )
    return panel if grid.unit is None else panel.convert_times(grid.unit)


def _checked_times(times: Any, n: int) -> list[FloatArray]:
    """Times ahead (k_i,) of each series, not decreasing."""
    if times is None:
        raise ValueError("predict(panel, times) needs times: how far ahead of the end of each series.")
    ragged = isinstance(times, (list, tuple)) and any(np.ndim(own) > 0 for own in times)
    rows: list[npt.NDArray[Any]] = [np.asarray(own) for own in times] if ragged else [np.asarray(times)] * n
    if len(rows) != n:
        raise ValueError(f"times must be one array for all series, or {n}, one each; got {len(rows)}.")
    found = []
    for own in rows:
        if own.dtype.kind not in "iuf":
            raise TypeError(f"times must be numbers, the time ahead of each series; got dtype {own.dtype}.")
        own = np.atleast_1d(own).astype(np.float64)
        if own.ndim != 1 or own.size == 0 or not np.isfinite(own).all() or own.min() <= 0:
            raise ValueError(f"times must be positive finite numbers of shape (k,); got {own}.")
        if (np.diff(own) < 0).any():
            raise ValueError(f"times must not decrease; got {own}.")
        found.append(own)
    return found


def _as_panel(
    panel: Panel,
    values: Sequence[FloatArray],
    ahead: Sequence[FloatArray],
    grid: PanelGrid,
    levels: Sequence[float] | None,
) -> Panel:
    ends = [0.0 if panel.times is None else float(panel.times[stop - 1]) for stop in panel.offsets[1:]]
    lasts = ends if panel.has_times else [float(length - 1) for length in panel.lengths]
    names = grid.names
    if levels is not None:
        base = names or tuple(map(str, range(grid.n_channels)))
        names = tuple(f"{name} {level:g}" for name in base for level in levels)
    return Panel(
        np.concatenate([own.T for own in values]),
        np.cumsum([0, *map(len, ahead)]),
        np.concatenate([last + own for last, own in zip(lasts, ahead, strict=True)]),
        names,
        ids=panel.ids,
        time_unit=panel.time_unit,
    )
