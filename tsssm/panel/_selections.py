"""Methods of a panel that pick channels, series by id, stretches of time and windows, or resample."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from tsssm.panel._checks import Parts
from tsssm.panel._cutting import between, channel_numbers, duration, rows_of_ids, windows
from tsssm.panel._resampling import described, resampled
from tsssm.panel._rows import take_series

Made = TypeVar("Made", bound="Selections")

#: Numbers are in the unit of the panel's times, or samples where it has none.
Duration = float | str | timedelta | np.timedelta64


class Selections:
    """Selections that return a panel: its series follow in the same order, and keep their ids."""

    _parts: Parts

    def _restored(self: Made, parts: Parts) -> Made:
        raise NotImplementedError

    @property
    def loc(self: Made) -> ById[Made]:
        """Series by id: ``panel.loc[id]``, ``panel.loc[[id, id]]``, in the order asked for.

        Every series with that id is taken, so that windows of one patient come together.

        Raises
        ------
        KeyError
            For an id that no series has.
        ValueError
            If the panel has no ids.
        """
        return ById(self)

    def select(self: Made, channels: Hashable | Sequence[Hashable]) -> Made:
        """Return the panel with some of its channels, in the order asked for.

        Parameters
        ----------
        channels : str, int or sequence of them
            Names, or positions that count from 0, from the end where negative.

        Raises
        ------
        KeyError, IndexError
            For a name or a position that the panel does not have, and for a name that several channels have.
        ValueError
            For a channel that is asked for twice, and for none.

        Examples
        --------
        >>> import numpy as np
        >>> from tsssm import Panel
        >>> panel = Panel(np.zeros((3, 2)), [0, 3], channel_names=["HR", "SpO2"])
        >>> panel.select("SpO2").channel_names
        ('SpO2',)
        """
        parts = self._parts
        numbers = channel_numbers(channels, parts)
        names = parts.channel_names and tuple(parts.channel_names[j] for j in numbers)
        values = np.ascontiguousarray(parts.values[:, numbers])
        return self._restored(parts._replace(values=values, channel_names=names))

    def between(
        self: Made,
        start: Duration | None = None,
        stop: Duration | None = None,
        *,
        inclusive: str = "left",
    ) -> Made:
        """Return the samples of each series from one time to another.

        A series without a sample there stays, so that labels keep their rows: it has a single sample, missing
        in every channel, at the time of the stretch nearest to its first sample.

        Parameters
        ----------
        start, stop : number, str, timedelta or numpy.timedelta64, optional
            As `times` of the panel: numbers in its unit, or time differences such as "24h". Without times,
            numbers of samples from 0 on. None is the beginning, or the end, of each series.
        inclusive : {"left", "both", "right", "neither"}, default="left"
            Whether samples at ``start`` and ``stop`` themselves belong to the stretch.

        Raises
        ------
        TypeError
            For something that is neither a number nor a time difference.
        ValueError
            If ``stop`` is before ``start``, and for a time difference where the panel knows no unit.
        """
        return self._restored(between(self._parts, start, stop, inclusive))

    def window(
        self: Made, length: Duration, stride: Duration | None = None, *, partial: bool = False
    ) -> Made:
        """Cut each series into windows, which become the series of a new panel.

        Window k of a series holds its samples from ``k * stride`` to ``k * stride + length`` after its first
        one, the end not included. Windows without any sample are left out. The ids of the new panel are those
        of the series that a window is from (its number where there are none): ``y.loc[windows.ids]`` gives
        labels, and ``groups=windows.ids`` keeps the windows of one series together in a split.

        Parameters
        ----------
        length : number, str, timedelta or numpy.timedelta64
            Positive; as in `between`.
        stride : number, str, timedelta or numpy.timedelta64, optional
            From one window to the next; positive, ``length`` by default.
        partial : bool, default=False
            Whether to keep windows that a series does not fill to their end. The last sample of a series
            lasts for its median gap.

        Raises
        ------
        TypeError, ValueError
            As `between`; for a length or stride that is not positive; and if no series fills a window.
        """
        return self._restored(windows(self._parts, length, stride, partial))

    def resample(self: Made, step: Duration, how: str = "mean") -> Made:
        """Return the panel on a regular grid: times 0, step, 2 step, ... after the first sample of a series.

        Parameters
        ----------
        step : number, str, timedelta or numpy.timedelta64
            Positive; as in `between`.
        how : {"mean", "median", "min", "max", "sum", "first", "last", "linear", "hold"}, default="mean"
            "linear" interpolates between the measured values of a channel at each time of the grid and "hold"
            takes the last one up to it. The others summarise the values from one time of the grid to the
            next, that one not included; without a value there, the channel is missing.

        Raises
        ------
        TypeError, ValueError
            As `between`; for a step that is not positive, an unknown ``how``, and for a grid of more values
            than the memory of a machine is likely to hold (2**31).
        """
        return self._restored(resampled(self._parts, duration(step, self._parts, "step", positive=True), how))

    def describe(self) -> pd.DataFrame:
        """Return a summary of the channels, one row for each.

        Columns are those of pandas' own ``describe`` (count, mean, std, min, quartiles, max), the share
        missing, the number of series with any value, and "gap", the median time between two values of the
        channel in a series, in the unit of the times (in samples without times).
        """
        return described(self._parts)


class ById(Generic[Made]):
    """Reads series of a panel by their ids."""

    def __init__(self, panel: Made) -> None:
        self._panel = panel

    def __getitem__(self, ids: Any) -> Made:
        parts = self._panel._parts
        return self._panel._restored(take_series(parts, rows_of_ids(ids, parts)))
