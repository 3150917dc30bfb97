"""Accuracy of the elementary functions of the kernels against extended precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from tsssm.ops.cpu.elementary import exp_expm1, sin_cos_cosm1
from tsssm.ops.cpu.simd import load, store

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EXTENDED = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


@njit
def _exponentials(x: Any, exp: Any, expm1: Any) -> None:
    width = 64 // x.itemsize
    for at in range(0, x.size, width):
        e, m = exp_expm1(load(x, at))
        store(exp, at, e)
        store(expm1, at, m)


@njit
def _circular(x: Any, sin: Any, cos: Any, cosm1: Any) -> None:
    width = 64 // x.itemsize
    for at in range(0, x.size, width):
        s, c, d = sin_cos_cosm1(load(x, at))
        store(sin, at, s)
        store(cos, at, c)
        store(cosm1, at, d)


def evaluate(kernel: Any, x: NDArray[Any], count: int) -> list[NDArray[Any]]:
    assert x.size % 16 == 0
    out = [np.empty_like(x) for _ in range(count)]
    kernel(x, *out)
    return out


def ulps(found: NDArray[Any], exact: NDArray[np.longdouble], floor: float = 0.0) -> float:
    """Largest error in units in the last place of the result, or of ``floor`` where that is larger."""
    if found.dtype == np.float64 and not EXTENDED:
        pytest.skip("long double is no wider than double here")
    spacing = np.spacing(np.maximum(np.abs(exact), floor).astype(found.dtype)).astype(np.longdouble)
    return float(np.max(np.abs(found.astype(np.longdouble) - exact) / spacing))


def samples(dtype: type, low: float, high: float, tiny: float) -> NDArray[Any]:
    """Evenly and, on both sides of zero, logarithmically spaced arguments."""
    even = np.linspace(low, high, 40_000)
    small = np.geomspace(tiny, min(-low, high), 4_000)
    return np.concatenate([even, small, -small]).astype(dtype)


@BOTH
def test_exponentials(dtype: type) -> None:
    x = samples(dtype, -80, 5, 1e-30)
    exp, expm1 = evaluate(_exponentials, x, 2)
    wide = x.astype(np.longdouble)
    assert ulps(exp, np.exp(wide)) <= 2
    assert ulps(expm1[x <= 0], np.expm1(wide[x <= 0])) <= 2
    assert ulps(expm1[x > 0], np.expm1(wide[x > 0])) <= 3


@BOTH
def test_exponentials_at_the_ends(dtype: type) -> None:
    x = np.array([0.0, -0.0, -1e3, -1e30, -np.inf, np.nan] + [0.0] * 10, dtype)
    exp, expm1 = evaluate(_exponentials, x, 2)
    assert np.all(exp[:2] == 1) and np.all(expm1[:2] == 0)
    assert np.all(exp[2:5] >= 0) and np.all(exp[2:5] < np.finfo(dtype).tiny * 4)
    assert np.all(expm1[2:5] == -1)
    assert np.isnan(exp[5]) and np.isnan(expm1[5])


@BOTH
def test_sine_and_cosine(dtype: type) -> None:
    x = samples(dtype, -1e4, 1e4, 1e-30)
    sin, cos, cosm1 = evaluate(_circular, x, 3)
    wide = x.astype(np.longdouble)
    # In units in the last place of 1: near a zero of its own the error is absolute.
    assert ulps(sin, np.sin(wide), floor=1.0) <= 2
    assert ulps(cos, np.cos(wide), floor=1.0) <= 2
    assert ulps(cosm1, -2 * np.sin(wide / 2) ** 2, floor=1.0) <= 2


@BOTH
def test_sine_and_cosine_minus_one_of_small_angles(dtype: type) -> None:
    x = samples(dtype, -0.75, 0.75, 1e-15)
    sin, _, cosm1 = evaluate(_circular, x, 3)
    wide = x.astype(np.longdouble)
    assert ulps(sin, np.sin(wide)) <= 2
    assert ulps(cosm1, -2 * np.sin(wide / 2) ** 2) <= 2


@BOTH
def test_cosine_minus_one_after_whole_turns(dtype: type) -> None:
    """1 - cos does not cancel where the angle is close to a multiple of 2 pi."""
    turns = 2 * np.pi * np.arange(1, 17).astype(np.longdouble)
    x = (turns + 0.01).astype(dtype)
    cosm1 = evaluate(_circular, x, 3)[2]
    exact = -2 * np.sin(x.astype(np.longdouble) / 2) ** 2
    # The plain difference is wrong by 1e-3 in float32 here; what remains is the reduction of the angle.
    assert np.max(np.abs(cosm1 / exact - 1)) <= 64 * np.finfo(dtype).eps


@BOTH
def test_angle_beyond_reduction_stays_on_the_circle(dtype: type) -> None:
    x = np.geomspace(1e3, np.finfo(dtype).max / 10, 32).astype(dtype)
    sin, cos, cosm1 = evaluate(_circular, np.concatenate([x, -x]), 3)
    assert np.all(np.abs(sin) <= 1 + 1e-6) and np.all(np.abs(cos) <= 1 + 1e-6)
    assert np.all(cosm1 <= 0) and np.all(cosm1 >= -2 - 1e-6)
