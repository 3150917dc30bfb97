r"""What the ridge looks at: last values, states of fixed systems, means and the phase of the season.

Every input but the phase is a difference to the last value, in units of the mean step of the window, so that
a forecast follows when a series is shifted or scaled. Symbols and shapes: T samples, N origins, p lags::

    z     (T,)        one series, in units of its own, without gaps
    F     (N, d)      inputs at the origins
    last  (N,)        z at the origins
    size  (N,)        mean step of the window
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tsssm.hippo import diagonal
from tsssm.ops import diagonal_scan

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_HARMONICS = 3
_LEGS_MODES = 8
_SMALLEST_STEP = 0.1
_MOST_LAGS = 512
_PIECE = 8192  # samples that are looked at together


class Window(NamedTuple):
    """Inputs F (N, d), last values (N,) and mean steps (N,)."""

    inputs: FloatArray
    last: FloatArray
    size: FloatArray


class Rows(NamedTuple):
    """Series z (n, T) that end together, each at rest at its first value before its start (n,).

    ``way`` (n, T) is how far each has gone in all, up and down, and ``total`` (n, T) the sum of its values.
    """

    z: FloatArray
    start: IntArray
    way: FloatArray
    total: FloatArray

    @classmethod
    def of(cls, series: Sequence[FloatArray]) -> Rows:
        """Put series (T_i,) into rows."""
        length = max(map(len, series))
        start = np.array([length - len(values) for values in series], dtype=np.int64)
        z, total = np.empty((len(series), length)), np.zeros((len(series), length))
        for i, values in enumerate(series):
            z[i, : start[i]] = values[0]
            z[i, start[i] :] = values
            np.cumsum(values, out=total[i, start[i] :])
        way = np.zeros_like(z)
        np.cumsum(np.abs(np.diff(z, axis=1)), axis=1, out=way[:, 1:])
        return cls(z, start, way, total)


class Systems(NamedTuple):
    """Modes A (N,), input vector B (N,), readouts C (M, N), and what each gives for a constant input (M,)."""

    A: npt.NDArray[np.complex128]
    B: npt.NDArray[np.complex128]
    C: npt.NDArray[np.complex128]
    gain: FloatArray

    @property
    def drive(self) -> npt.NDArray[np.complex128]:
        """What a step adds for an input of one, held: (exp(A) - 1) / A B, (N,)."""
        return np.expm1(self.A) / self.A * self.B


def fixed_systems(season: int, lags: int) -> Systems:
    """Decaying means, HiPPO modes (S4D-LegS) over the lags, and oscillators at the harmonics of the season.

    A mean of time constant tau is ẋ = (u - x) / tau. An oscillator forgets within four seasons and is
    driven and read at both phases.
    """
    taus = np.unique(np.geomspace(1.0, max(2.0 * lags, 8.0), 6).round(1))
    modes = [-1 / taus + 0j]
    inputs = [1 / taus + 0j]
    legs, drive = diagonal("legs", _LEGS_MODES)
    modes.append(legs / max(lags, 4))
    inputs.append(2 * drive / max(lags, 4))
    turns = np.arange(1, min(_HARMONICS, (season - 1) // 2) + 1) if season > 2 else np.zeros(0)
    modes.append(-1 / (4.0 * season) + 2j * np.pi * turns / season)
    inputs.append(np.full(len(turns), 1 / (2.0 * season), dtype=np.complex128))
    A, B = np.concatenate(modes), np.concatenate(inputs)
    rotating = np.arange(len(A)) >= len(taus)
    C = np.concatenate([np.eye(len(A)), -1j * np.eye(len(A))[rotating]])
    return Systems(A, B, C, (C @ (-B / A)).real)


def states(z: FloatArray, start: IntArray, systems: Systems) -> npt.NDArray[np.float64]:
    """Readouts (n, T, M) of the systems over series (n, T), each at rest at its first value until it starts.

    ``start`` has the first sample of each series; z before it is ignored.
    """
    n, length = z.shape
    first = z[np.arange(n), start]
    u = np.where(np.arange(length) >= start[:, None], z - first[:, None], 0.0)
    A, B = torch.as_tensor(systems.A)[None], torch.as_tensor(systems.B)[None]
    C = torch.as_tensor(systems.C, dtype=torch.complex128)[:, None]
    y, _ = diagonal_scan(torch.as_tensor(u)[:, :, None], A, B, C, torch.ones(1, dtype=torch.float64))
    return y[..., 0].numpy().transpose(0, 2, 1) + first[:, None, None] * systems.gain


def last_states(z: FloatArray, start: IntArray, systems: Systems) -> FloatArray:
    """Readouts (n, M) at the end of series (n, T), as `states` has them in its last column."""
    A = systems.A
    n, length = z.shape
    first = z[np.arange(n), start]
    u = np.where(np.arange(length) >= start[:, None], z - first[:, None], 0.0)
    # What an input of so many steps ago has left, the last row for that of now.
    left = np.exp(A * np.arange(min(length, _PIECE) - 1, -1, -1)[:, None]) * systems.drive
    table = np.concatenate([left.real, left.imag], axis=1)
    x = np.zeros((n, len(A)), dtype=np.complex128)
    for begin in range(0, length, _PIECE):
        part = u[:, begin : begin + _PIECE]
        real, imaginary = np.split(part @ table[len(table) - part.shape[1] :], 2, axis=1)
        x = np.exp(A * part.shape[1]) * x + real + 1j * imaginary
    return (x @ systems.C.T).real + first[:, None] * systems.gain


def lag_choices(lengths: Sequence[int], season: int, horizon: int, far: bool = False) -> tuple[int, ...]:
    """Lengths of windows to try: about a season, two, and fourteen where the series are long enough.

    ``far`` lets them reach farther back.
    """
    median = int(np.median(lengths))
    windows = sum(max(length - horizon, 0) for length in lengths)
    most = max(2, min(median // 2, median - horizon - 1, _MOST_LAGS))
    base = max(8, season + season // 4 + 1) if season > 1 else 12
    wanted = [base, max(2 * season + 1, 24), 14 * season if season > 1 else 96]
    if far:
        wanted = [base, max(4 * season, 96), _MOST_LAGS]
    # A ridge takes more inputs than windows, but hardly gains by them.
    fits = [min(lags, most) for lags in wanted if lags <= max(base, windows // 20)]
    return tuple(sorted(set(fits)))


class Inputs:
    """Columns of F for a number of lags and a season.

    Parameters
    ----------
    lags : tuple of int
        Increasing; the last is p, the others say which shorter windows are tried.
    season : int
        Samples per season, 1 for none.
    even : bool
        Whether all windows are in the unit of their series, in place of their mean step.
    """

    def __init__(self, lags: tuple[int, ...], season: int, even: bool = False) -> None:
        self.lags = lags
        self.season = season
        self.even = even
        self.systems = fixed_systems(season, lags[0])
        self.harmonics = min(_HARMONICS, season // 2) if season > 1 else 0
        self.n_lags = lags[-1]
        # Columns: lags 1 to p - 1, median, mean of the series so far, states, phase.
        self.median = self.n_lags - 1
        self.mean = self.n_lags
        self.width = self.n_lags + 1 + len(self.systems.gain) + 2 * self.harmonics

    def columns(self, lags: int) -> IntArray:
        """Columns that a window of so many lags has."""
        return np.concatenate([np.arange(lags - 1), np.arange(self.n_lags - 1, self.width)])

    def at(
        self, rows: Rows, readouts: FloatArray, phases: IntArray, which: IntArray, places: IntArray
    ) -> Window:
        """Inputs at origins: column ``places`` (N,) of row ``which`` (N,), with readouts (N, M).

        ``phases`` (n,) has the number of the first sample of each series.
        """
        p, short = self.n_lags, self.lags[0]
        rest = np.concatenate([np.repeat(rows.z[:, :1], p, axis=1), rows.z], axis=1)
        lagged = np.lib.stride_tricks.sliding_window_view(rest, p, axis=1)[which, places + 1, ::-1]
        start = rows.start[which]
        before = np.maximum(places - short, start)
        size = (rows.way[which, places] - rows.way[which, before]) / np.maximum(places - before, 1)
        mean = rows.total[which, places] / (places - start + 1)
        return self.of(lagged, size, mean, readouts, places - start + phases[which])

    def of(
        self, lagged: FloatArray, step: FloatArray, mean: FloatArray, readouts: FloatArray, places: IntArray
    ) -> Window:
        """Inputs (N, d) of windows.

        ``lagged`` (N, p) are their last values, the latest first, ``step`` (N,) the mean step of the shortest
        window, ``mean`` (N,) that of the series so far, ``places`` (N,) the numbers of the origins.
        """
        p, last = self.n_lags, lagged[:, :1]
        size = np.ones(len(lagged)) if self.even else np.maximum(step, _SMALLEST_STEP)
        F = np.empty((len(lagged), self.width))
        F[:, : p - 1] = lagged[:, 1:] - last
        F[:, self.median] = np.median(lagged[:, : self.lags[0]], axis=1) - last[:, 0]
        F[:, self.mean] = mean - last[:, 0]
        end = p + 1 + readouts.shape[1]
        F[:, p + 1 : end] = readouts - last * self.systems.gain
        F[:, :end] /= size[:, None]
        if self.harmonics:
            turns = np.arange(1, self.harmonics + 1) / self.season
            angle = 2 * np.pi * places[:, None] * turns
            F[:, end:] = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        return Window(F, last[:, 0], size)

    def bases(self, horizon: int) -> dict[str, FloatArray]:
        """What a forecast falls back to: for each name a matrix (d, H) with base = last + size F G."""
        zero = np.zeros((self.width, horizon))
        found = {"last": zero}
        window = self.lags[0]
        found["mean"] = zero.copy()
        found["mean"][: window - 1] = 1 / window
        for name, column in (("robust", self.median), ("none", self.mean)):
            found[name] = zero.copy()
            found[name][column] = 1.0
        if 1 < self.season <= self.n_lags:
            back = self.season - 1 - np.arange(horizon) % self.season
            found["season"] = zero.copy()
            steps = np.flatnonzero(back)
            found["season"][back[steps] - 1, steps] = 1.0
        return found
