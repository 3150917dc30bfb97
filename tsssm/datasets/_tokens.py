"""Sequences of symbols as series: one channel of numbers, or one channel a symbol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel

Tokens = npt.NDArray[np.uint16]


def token_panel(sequences: Sequence[Tokens], vocabulary: Sequence[str], one_hot: bool) -> Panel:
    """Panel of n series: the number of each symbol, or a channel of 0 and 1 for each of the vocabulary."""
    offsets = np.cumsum([0, *map(len, sequences)])
    tokens = np.concatenate(sequences)
    if not one_hot:
        return Panel(tokens[:, np.newaxis], offsets, channel_names=("token",))
    values = np.zeros((len(tokens), len(vocabulary)), dtype=np.float32)
    values[np.arange(len(tokens)), tokens] = 1
    return Panel(values, offsets, channel_names=tuple(vocabulary))


def token_features(vocabulary: Sequence[str], one_hot: bool) -> list[str]:
    """Names of the channels of :func:`token_panel`."""
    return list(vocabulary) if one_hot else ["token"]
