"""Random and fixed systems with many readouts.

Symbols and shapes: G groups, one system each; N states, R readouts, d channels, S timescales::

    A, B          (G, N[, N]), (G, N)    x' = A x + B v, in units of time; complex diagonal or real dense
    mix           (G, 2, d)              v from the values and the slopes of the channels
    C, D          (G, R, N), (G, R)      y = Re(C x) + D v
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tsssm.discretize import discretize_dense, discretize_diagonal
from tsssm.hippo import transition

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]  # real for dense systems, complex for diagonal ones

BASES = ("diagonal", "legt", "legs")

_MODES = 8  # complex
_DENSE_STATES = 16
# Decay per timescale of a mode: median, and standard deviation of its logarithm.
_DECAY, _DECAY_SPREAD = 4.5, 0.5
# Largest angle per timescale of a mode; nor is one faster than half a turn in a unit of time.
_ANGLE = 8 * np.pi
_FASTEST_SCALE = 4.0
_REGULAR_BELOW, _LEAST_SLOWING = 1.5, 4.0  # units of mean gap
_MOST_CHANNELS = 9
_BALANCED = 0.75


class Systems(NamedTuple):
    """Systems and readouts; shapes as above."""

    A: Array
    B: Array
    mix: FloatArray
    C: Array
    D: FloatArray


def draw_systems(
    basis: str,
    groups: int,
    readouts: int,
    n_scales: int,
    resolution: float,
    duration: float,
    channels: int,
    rng: np.random.Generator,
) -> Systems:
    """Draw systems whose timescales run from a few gaps between samples to the duration of a series.

    The readouts are normal and scaled such that their convolution kernel, on a grid of unit steps, has norm
    1. Three quarters of them have a feedthrough that makes the sum of the kernel zero: they do not see the
    level of the input.

    Parameters
    ----------
    basis : {"diagonal", "legt", "legs"}
        Diagonal systems with random decays and frequencies, or the HiPPO systems of 16 states.
    groups, readouts, n_scales : int
    resolution : float
        Mean gap between samples, in units. Where it is well above one, most instants lie between samples, and
        slopes say how the samples happen to lie: then the inputs are mixed of values alone, and the fastest
        timescale is 4 mean gaps and at least 16 units, in place of 4 units.
    duration : float
        Longest timescale and length of the kernels, in units.
    channels : int
    rng : Generator
    """
    regular = resolution < _REGULAR_BELOW
    scale = timescales(groups, n_scales, resolution, duration)
    if basis == "diagonal":
        A, B = _diagonal(scale, rng)
        C = _complex_normal((groups, readouts, A.shape[1]), rng)
    else:
        dense, vector = transition(basis, _DENSE_STATES)
        A, B = dense / scale[:, None, None], vector / scale[:, None]
        C = rng.normal(size=(groups, readouts, _DENSE_STATES))
    D = rng.normal(size=(groups, readouts))
    balanced = rng.permuted(np.tile(np.arange(readouts) < _BALANCED * readouts, (groups, 1)), axis=1)
    now, before, transitions = _discretised(A, B)
    lag_0 = np.einsum("grn,gn->gr", C, now).real
    total, energy = _later_lags(C, transitions, before, now, max(1, round(duration)))
    D = np.where(balanced, -(lag_0 + total), D)
    norm = np.sqrt(energy + (lag_0 + D) ** 2)
    return Systems(A, B, _mixtures(groups, channels, regular, rng), C / norm[..., None], D / norm)


def timescales(groups: int, n_scales: int, resolution: float, duration: float) -> FloatArray:
    """Timescale (G,) of each system, in units; arguments as of `draw_systems`."""
    regular = resolution < _REGULAR_BELOW
    fastest = _FASTEST_SCALE * (1.0 if regular else max(resolution, _LEAST_SLOWING))
    scales = np.geomspace(fastest, max(duration, fastest), n_scales)
    return scales[np.arange(groups) % n_scales]


def _diagonal(scale: FloatArray, rng: np.random.Generator) -> tuple[Array, Array]:
    shape = (len(scale), _MODES)
    decay = _DECAY * np.exp(_DECAY_SPREAD * rng.normal(size=shape))
    angle = np.minimum(_ANGLE, np.pi * scale)[:, None] * rng.uniform(size=shape)
    A = (-decay + 1j * angle) / scale[:, None]
    # Unit gain of a step at the frequency of each mode: a hold weakens the fast ones.
    now, before, _ = _discretised(A, np.ones_like(A))
    return A, (1 / np.abs(now + before * np.exp(-1j * A.imag))).astype(np.complex128)


def _complex_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def _discretised(A: Array, B: Array) -> tuple[Array, Array, Array]:
    """B_bar, B_prev and A_bar of a unit step, A_bar as (G, N) or (G, N, N)."""
    rule = discretize_diagonal if A.ndim == 2 else discretize_dense
    step = torch.ones(1, dtype=torch.float64)
    A_bar, now, before = rule(torch.as_tensor(A), torch.as_tensor(B), step, "foh")
    assert before is not None
    return now.numpy(), before.numpy(), A_bar.numpy()


def _later_lags(
    C: Array, A_bar: Array, before: Array, now: Array, count: int
) -> tuple[FloatArray, FloatArray]:
    """Sum and sum of squares (G, R) of the kernel from lag 1 to lag ``count``.

    The state that an impulse leaves behind after l steps is A_bar^(l - 1) w with w = A_bar now + before.
    """
    if A_bar.ndim == 2:
        w = A_bar * now + before
        total = np.einsum("grn,gn->gr", C, w * _geometric(A_bar, count)).real
        pairs = _outer(w, w) * _geometric(_outer(A_bar, A_bar), count)
        mixed = _outer(w, w.conj()) * _geometric(_outer(A_bar, A_bar.conj()), count)
        # Re(z)^2 = (Re(z^2) + |z|^2) / 2
        energy = _form(C, pairs, C).real + _form(C, mixed, C.conj()).real
        return total, np.maximum(energy / 2, 0.0)
    x = np.einsum("gnm,gm->gn", A_bar, now) + before
    total, gram = np.zeros_like(x), np.zeros_like(A_bar)
    for _ in range(count):
        total += x
        gram += _outer(x, x)
        x = np.einsum("gnm,gm->gn", A_bar, x)
    return np.einsum("grn,gn->gr", C, total), np.maximum(_form(C, gram, C), 0.0)


def _outer(left: Array, right: Array) -> Array:
    """The products (G, N, N) of the entries of each row of left and right."""
    return left[:, :, None] * right[:, None]


def _form(left: Array, matrix: Array, right: Array) -> Array:
    """The bilinear forms (G, R) of each row of left and right."""
    return ((left @ matrix) * right).sum(-1)


def _geometric(ratio: Array, count: int) -> Array:
    """1 + r + ... + r^(count - 1), |r| < 1."""
    return (1 - ratio**count) / (1 - ratio)


def _mixtures(groups: int, channels: int, slopes: bool, rng: np.random.Generator) -> FloatArray:
    """Unit vectors (G, 2, d) with few entries: of a random number of channels, small numbers more often."""
    available = 2 * channels if slopes else channels
    mix = np.zeros((groups, 2 * channels))
    for row in mix:
        count = int(2 ** rng.uniform(0, np.log2(min(available, _MOST_CHANNELS) + 1)))
        weight = rng.normal(size=count)
        row[rng.choice(available, count, replace=False)] = weight / np.linalg.norm(weight)
    return mix.reshape(groups, 2, channels)
