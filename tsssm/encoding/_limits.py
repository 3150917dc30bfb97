"""How far values and gaps count: what is beyond would overflow in float32 on its way through a model."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Floating = TypeVar("Floating", bound=np.floating[Any])

#: Largest standardised value: so many standard deviations of the training panel from its mean. A value of the
#: training panel itself is never further than the square root of their number.
LARGEST_VALUE = 1e6
#: Longest gap, in units of elapsed time: a system that is slow enough to tell it from a longer one would not
#: have moved in the whole of a training series.
LONGEST_GAP = 1e9

#: Gaps are float64 differences of float64 times: so many roundings of the time are "the same gap".
#: As arrays, with which NumPy is faster than with numbers.
GAP_ROUNDING = np.array(4 * np.finfo(np.float64).eps)
GAP_TOLERANCE = np.array(1e-6)


def limited(
    z: npt.NDArray[Floating],
    low: FloatArray | float = -LARGEST_VALUE,
    high: FloatArray | float = LARGEST_VALUE,
) -> npt.NDArray[Floating]:
    """Return standardised values with those beyond the limits set to them, in place; NaN stays."""
    np.maximum(z, low, out=z)
    return np.minimum(z, high, out=z)


def unit_gaps(dt: FloatArray, time: FloatArray | float) -> FloatArray:
    """Return gaps with those that are 1 but for rounding set to 1, and none beyond `LONGEST_GAP`; in place.

    ``time`` is the absolute time at the end of each gap, in the same unit. It is that of each gap and not the
    largest, so that no series depends on another one.
    """
    dt[np.abs(dt - 1.0) <= GAP_TOLERANCE + GAP_ROUNDING * time] = 1.0
    # A stream asks for one gap after the other.
    longest = dt.item() if dt.size == 1 else np.fmax.reduce(dt)
    return np.minimum(dt, LONGEST_GAP, out=dt) if longest > LONGEST_GAP else dt
