"""Candidates by how they did on held-out windows, and their mixture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_TRIED = 12
_MOST_PICKS = 24


def losses(forecasts: FloatArray, targets: FloatArray, weight: FloatArray, power: int = 1) -> FloatArray:
    """Sums of absolute errors, or their squares, (C,) of forecasts (C, N, H), targets and weights (N, H)."""
    return np.array([float((np.abs(f - targets) ** power * weight).sum()) for f in forecasts])


def mixture(
    forecasts: FloatArray,
    targets: FloatArray,
    weight: FloatArray,
    prior: FloatArray,
    spans: float,
    power: int = 1,
) -> FloatArray:
    """Weights (C,) of a mixture that forward selection finds (Caruana et al., ICML 2004).

    Candidates are picked with replacement, each time that which makes the mean of all picks best. ``prior``
    (C,) are picks made before. Series of one time have their surprises in common, so that it is by ``spans``,
    the number of horizons that follow each other in the held-out part, that the prior fades.
    """
    counts = prior * max(0.0, 1 - spans / 10)
    if targets.size == 0:
        return prior / prior.sum()
    order = np.argsort(losses(forecasts, targets, weight, power), kind="stable")[:_TRIED]
    running = np.tensordot(counts, forecasts, axes=1)
    for _ in range(int(np.clip(2 + 2 * spans, 4, _MOST_PICKS))):
        n = counts.sum() + 1
        pick = order[int(np.argmin(losses((running + forecasts[order]) / n, targets, weight, power)))]
        counts[pick] += 1
        running = running + forecasts[pick]
    return counts / counts.sum()
