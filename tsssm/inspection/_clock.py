"""When samples were taken, and which span of time each of them lies in."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def sample_times(panel: Panel) -> FloatArray:
    """Times (total,) of the samples of a panel; their numbers in their series where it has none."""
    if panel.times is not None:
        return panel.times
    first = np.repeat(panel.offsets[:-1], panel.lengths)
    return (np.arange(len(panel.values)) - first).astype(np.float64)


def span_numbers(panel: Panel, spans: int | npt.ArrayLike) -> tuple[IntArray, FloatArray | None]:
    """Return the number (total,) of the span that each sample lies in, and the edges if they were given.

    Parameters
    ----------
    panel : Panel
    spans : int or array (k + 1,)
        So many spans of equal time in each series; or edges of spans in the unit of its times (numbers of
        samples without times). What is outside belongs to the first or to the last one.

    Raises
    ------
    TypeError, ValueError
        For a number below 1, and for edges that are not two or more finite, increasing numbers.
    """
    times = sample_times(panel)
    if isinstance(spans, bool) or isinstance(spans, str):
        raise TypeError(f"spans must be a number of spans or an array of edges; got {spans!r}.")
    if isinstance(spans, Integral):
        if spans < 1:
            raise ValueError(f"spans must be at least 1; got {spans!r}.")
        start = np.repeat(times[panel.offsets[:-1]], panel.lengths)
        lasting = np.repeat(times[panel.offsets[1:] - 1], panel.lengths) - start
        share = (times - start) / np.where(lasting > 0, lasting, 1.0)
        return np.minimum((share * int(spans)).astype(np.int64), int(spans) - 1), None
    edges = np.asarray(spans, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges of spans must be two or more finite, increasing numbers; got {spans!r}.")
    number = np.searchsorted(edges, times, side="right") - 1
    return np.clip(number, 0, len(edges) - 2).astype(np.int64), edges
