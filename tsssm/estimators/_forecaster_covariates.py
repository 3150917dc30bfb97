"""What known future variables explain of a target, taken away before forecasting and added afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_PENALTY = 1e-3
_HELD_OUT = 0.2
_LEAST_GAIN = 0.01


class Effect(NamedTuple):
    """Centre (k,) of the variables, which also stands in for missing values, and coefficients (k,)."""

    centre: FloatArray
    coef: FloatArray

    def of(self, X: FloatArray) -> FloatArray:
        """What variables X (T, k) add to the target (T,)."""
        return np.where(np.isfinite(X), X - self.centre, 0.0) @ self.coef


class Target(NamedTuple):
    """Models of one target: by itself, and with what known future variables add, if they add anything."""

    alone: Any
    effect: Effect | None
    beside: Any


def fit_target(
    learn: Callable[[Sequence[FloatArray]], Any],
    series: Sequence[FloatArray],
    variables: Sequence[FloatArray] | None,
) -> Target:
    """Fit the models of a target to series (T_i,), with variables (T_i, k) if there are any."""
    alone = learn(series)
    effect = None if variables is None else fit_effect(series, variables, alone.season)
    if effect is None or variables is None:
        return Target(alone, None, None)
    return Target(alone, effect, learn([y - effect.of(X) for y, X in zip(series, variables, strict=True)]))


def fit_effect(targets: Sequence[FloatArray], variables: Sequence[FloatArray], season: int) -> Effect | None:
    """Fit one effect to all series, or none where it would not help.

    Targets (T_i,) are regressed on variables (T_i, k) in differences from one sample to the next, or from one
    season to the next; the kind that explains more of the last fifth of the differences is taken, and fitted
    to all of them. None if neither explains a hundredth of their variance, and clearly more than chance.
    """
    together = np.concatenate(variables)
    with np.errstate(invalid="ignore"):
        count = np.maximum(np.isfinite(together).sum(axis=0), 1)
    centre = np.where(np.isfinite(together), together, 0.0).sum(axis=0) / count
    best, effect = 0.0, None
    for lag in sorted({1, season}):
        early, late = [], []
        for y, X in zip(targets, variables, strict=True):
            if len(y) <= lag + 2:
                continue
            filled = np.where(np.isfinite(X), X, centre)
            dX, dy = filled[lag:] - filled[:-lag], y[lag:] - y[:-lag]
            unit = float(np.nanmean(np.abs(dy))) if np.isfinite(dy).any() else 0.0
            known = np.isfinite(dy)
            if unit == 0.0:
                continue
            dX, dy = dX[known], dy[known]
            cut = int(len(dy) * (1 - _HELD_OUT))
            early.append((dX[:cut], dy[:cut]))
            late.append((dX[cut:], dy[cut:]))
        if not early:
            continue
        coef = _ridge(early)
        held_X, held_y = (np.concatenate(part) for part in zip(*late, strict=True))
        total = float((held_y**2).sum())
        gain = 1 - float(((held_y - held_X @ coef) ** 2).sum()) / total if total > 0 else 0.0
        # Of chance, k variables explain about k of n differences.
        if gain > max(best, _LEAST_GAIN, 3 * held_X.shape[1] / max(len(held_y), 1)):
            best, effect = gain, Effect(centre, _ridge(early + late))
    return effect


def _ridge(parts: Sequence[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Coefficients (k,) with a small penalty in units of the variance of each variable."""
    A = sum(X.T @ X for X, _ in parts)
    b = sum(X.T @ y for X, y in parts)
    unit = np.sqrt(np.where(np.diag(A) > 0, np.diag(A), np.inf))
    scaled = A / unit[:, None] / unit
    return np.linalg.solve(scaled + _PENALTY * np.eye(len(unit)), b / unit) / unit
