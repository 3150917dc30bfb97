"""Channels whose numbers are names, such as codes of events, symbols or bytes: one input for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel

IntArray = npt.NDArray[np.int64]

# More of them are measurements, or names of the series.
_MOST = 4096


class Categories:
    """What values some channels take, and their numbers among all inputs of categories.

    Parameters
    ----------
    channels : sequence of int
        Numbers of the channels.
    values : sequence of array
        Distinct values of each, increasing.
    """

    def __init__(self, channels: Sequence[int], values: Sequence[npt.NDArray[np.float64]]) -> None:
        self.channels = tuple(channels)
        self.values = tuple(values)
        #: How many inputs there are: one for each value of each channel.
        self.size = sum(map(len, values))

    @classmethod
    def of(cls, panel: Panel, channels: Sequence[int | str]) -> Categories:
        """Learn the values of channels, named or numbered, of the training panel.

        Raises
        ------
        TypeError, ValueError
            For channels that are not there or twice, without any value, or with more than 4,096.
        """
        numbers = [_number(channel, panel) for channel in channels]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"categorical must name each channel once; got {list(channels)!r}.")
        values = []
        for number, name in zip(numbers, channels, strict=True):
            column = panel.values[:, number]
            found = np.unique(column[~np.isnan(column)]).astype(np.float64)
            if not 0 < len(found) <= _MOST:
                raise ValueError(
                    f"categorical names channel {name!r}, which has {len(found)} distinct values; a "
                    f"categorical channel may have 1 to {_MOST}."
                )
            values.append(found)
        order = np.argsort(numbers).tolist()
        return cls([numbers[i] for i in order], [values[i] for i in order])

    def codes(self, values: npt.NDArray[np.floating[Any]]) -> IntArray:
        """Numbers (..., c) of the inputs that are 1 for samples (..., d); `size` for a value not known."""
        found = np.full((*values.shape[:-1], len(self.channels)), self.size, dtype=np.int64)
        start = 0
        for j, (channel, known) in enumerate(zip(self.channels, self.values, strict=True)):
            column = values[..., channel]
            place = np.minimum(np.searchsorted(known, column), len(known) - 1)
            found[..., j] = np.where(known[place] == column, start + place, self.size)
            start += len(known)
        return found


def _number(channel: Any, panel: Panel) -> int:
    names = panel.channel_names
    if isinstance(channel, str):
        if names is None or names.count(channel) != 1:
            raise ValueError(
                f"categorical names channel {channel!r}; X has "
                f"{'no names' if names is None else f'the channels {list(names)}'}."
            )
        return names.index(channel)
    if isinstance(channel, bool) or not isinstance(channel, Integral):
        raise TypeError(f"categorical must hold names or numbers of channels; got {channel!r}.")
    if not 0 <= int(channel) < panel.n_channels:
        raise ValueError(f"categorical names channel {channel}, but X has {panel.n_channels} channel(s).")
    return int(channel)
