"""Candidates by how they did on held-out windows, and their mixture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_TRIED = 12
_MOST_PICKS = 24


def losses(forecasts: FloatArray, targets: FloatArray, weight: FloatArray, power: int = 1) -> FloatArray:
    """Sums of absolute errors, or their squares, (C,) of forecasts (C, N, H), targets and weights (N, H)."""
    share = weight ** (1 / power)
    rest, found = np.empty_like(targets), []
    for forecast in forecasts:
        np.subtract(forecast, targets, out=rest)
        found.append(_size(rest * share, power))
    return np.array(found)


def _size(rest: FloatArray, power: int) -> float:
    """Sum of absolute values, or of squares."""
    flat = rest.ravel()
    return float(flat @ flat if power == 2 else np.abs(flat).sum())


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
    share = weight ** (1 / power)
    rest = [(forecasts[k] - targets) * share for k in order]
    running = np.sum([(counts[k] * share) * (forecasts[k] - targets) for k in np.flatnonzero(counts)], axis=0)
    for _ in range(int(np.clip(2 + 2 * spans, 4, _MOST_PICKS))):
        # The same number of picks for all, so that sums say what means do.
        pick = int(np.argmin([_size(running + own, power) for own in rest]))
        counts[order[pick]] += 1
        running = running + rest[pick]
    return counts / counts.sum()
