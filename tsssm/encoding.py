"""What a network sees of a panel: standardised values, what is missing, and elapsed time.

Symbols and shapes: ``total`` samples in all series, d channels, d_in inputs::

    values  (total, d)     samples of the panel, NaN where missing
    u       (total, d_in)  inputs of the network
    dt      (total,)       elapsed time since the previous sample of the series, in units of time_scale

Time and value inputs of missing data follow Che, Purushotham, Cho, Sontag, Liu, *Recurrent Neural Networks
for Multivariate Time Series with Missing Values*, arXiv 1606.01865, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.panel import Panel

__all__ = ["Batch", "Encoded", "PanelEncoder"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Gaps are float64 differences of float64 times: so many roundings of the largest time are "the same gap".
_GAP_ROUNDINGS = 4
_GAP_TOLERANCE = 1e-6


class Batch(NamedTuple):
    """Some series as rectangular tensors, zero padded at the end.

    Attributes
    ----------
    u : Tensor (batch, L, d_in)
    dt : Tensor (batch, L) or None
        Elapsed time since the previous sample, 0 on padding. None where the series have one length and every
        gap is 1: the layers then take their constant-step path.
    """

    u: Tensor
    dt: Tensor | None


@dataclass(frozen=True)
class Encoded:
    """The encoded series of a panel, one after another.

    Attributes
    ----------
    u : Tensor (total, d_in), float32
        Inputs of the network.
    dt : Tensor (total,), float32
        Elapsed time since the previous sample in units of the time scale; 1 at the first sample of a series.
    offsets : Tensor (n + 1,), int64
        Series i is ``u[offsets[i]:offsets[i + 1]]``.
    """

    u: Tensor
    dt: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """Samples of each series, int64 (n,)."""
        return self.offsets.diff()

    @cached_property
    def _steady(self) -> Tensor:
        """Whether every gap of a series is 1, bool (n,)."""
        return torch.as_tensor(np.logical_and.reduceat((self.dt == 1).numpy(), self.offsets[:-1].numpy()))

    @property
    def regular(self) -> bool:
        """Whether every gap of every series is 1."""
        return bool(self._steady.all())

    def durations(self) -> Tensor:
        """Time that each series covers, the first sample counted as one unit; float64 (n,)."""
        elapsed = np.add.reduceat(self.dt.numpy(), self.offsets[:-1].numpy(), dtype=np.float64)
        return torch.as_tensor(elapsed)

    def batch(self, rows: Tensor) -> Batch:
        """Return the series ``rows`` (integers, in that order) as one padded batch."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        longest = int(lengths.max())
        position = torch.arange(longest)
        if bool((lengths == longest).all()):
            samples = starts[:, None] + position
            steady = bool(self._steady[rows].all())
            return Batch(self.u[samples], None if steady else self.dt[samples])
        valid = position < lengths[:, None]
        samples = torch.where(valid, starts[:, None] + position, 0)
        return Batch(self.u[samples] * valid[..., None], self.dt[samples] * valid)


class PanelEncoder:
    """Turns panels into network inputs, with everything learned from the training panel.

    Parameters
    ----------
    time_scale : "median" or float
        Unit of elapsed time. "median" is the median positive gap between samples of the training panel.

    Attributes
    ----------
    n_channels : int
        Channels d of the training panel.
    mean, std : array (d,), float64
        Per channel, missing values left out; a constant channel has std 1, a channel without values mean 0.
    time_scale_ : float
        The unit, in the unit of the panel's times; 1.0 for "median" if the training panel has no times.
    step : float
        Step of the regular grid that a panel without times is taken to lie on, in units of ``time_scale_``:
        the median gap of the training panel, or 1.0 if that has no times.
    missing : bool
        Whether the training panel had missing values in samples that are not missing altogether.
    n_inputs : int
        Inputs d_in: d, or 3 d if ``missing``.

    Raises
    ------
    ValueError, TypeError
        If ``time_scale`` is neither "median" nor a positive number.

    Notes
    -----
    *Missing values.* A sample that is missing in every channel is dropped: the next gap is longer by its gap.
    If values are missing beyond that in the training panel, the inputs are the standardised values with 0
    (the training mean) where missing, a mask (1 where seen), and log(1 + the time since the channel was seen
    in an earlier sample), counted from the start of the series before the first sighting. If nothing was
    missing in the training panel but a value is missing later, the channel keeps its last seen value, or the
    training mean before the first: inputs the network never saw in training would do harm.

    *Times.* A panel without times lies on the regular grid of the training panel (``step``). If the training
    panel had no times, the times of later panels are read in units of its samples, or of ``time_scale`` if
    given. Samples with the same time stamp have a gap of 0, which leaves the state of the layers untouched:
    the forward direction of a layer uses the first of them, the backward direction the last.
    """

    def __init__(self, time_scale: str | float = "median") -> None:
        if isinstance(time_scale, str):
            if time_scale != "median":
                raise ValueError(f"time_scale must be 'median' or a positive number; got {time_scale!r}.")
        elif isinstance(time_scale, bool) or not isinstance(time_scale, Real):
            raise TypeError(f"time_scale must be 'median' or a positive number; got {time_scale!r}.")
        elif not 0 < time_scale < np.inf:
            raise ValueError(f"time_scale must be positive and finite; got {time_scale!r}.")
        self.time_scale = time_scale

    def fit(self, panel: Panel) -> PanelEncoder:
        """Learn scales and units from the training panel; returns self."""
        has_times = panel.has_times
        panel = panel.drop_missing_rows()
        self.n_channels = panel.n_channels
        self.mean, self.std, observed = _moments(panel.values)
        self.missing = bool((observed < len(panel.values)).any())
        self.n_inputs = self.n_channels * (3 if self.missing else 1)
        median_gap = _median_positive(panel.gaps()) if has_times else None
        if self.time_scale == "median":
            self.time_scale_ = median_gap or 1.0
        else:
            self.time_scale_ = float(self.time_scale)
        self.step = 1.0 if median_gap is None else median_gap / self.time_scale_
        return self

    def encode(self, panel: Panel) -> Encoded:
        """Return the inputs of the network for a panel.

        Raises
        ------
        ValueError
            If the panel is empty or has another number of channels than the training panel.
        """
        if len(panel) == 0:
            raise ValueError("X holds no series; at least one is needed.")
        if panel.n_channels != self.n_channels:
            raise ValueError(
                f"X has {panel.n_channels} channel(s), but the training data had {self.n_channels}."
            )
        has_times = panel.has_times
        panel = panel.drop_missing_rows()
        dt = self._gaps(panel, has_times)
        values = (panel.values - self.mean) / self.std
        seen = ~np.isnan(values)
        first = np.repeat(panel.offsets[:-1], panel.lengths)
        if self.missing:
            since = _time_since_seen(seen, dt, first)
            inputs = [np.where(seen, values, 0.0), seen, np.log1p(since)]
            u = np.concatenate([part.astype(np.float32) for part in inputs], axis=1)
        else:
            u = (values if seen.all() else _forward_filled(values, seen, first)).astype(np.float32)
        return Encoded(
            torch.from_numpy(u),
            torch.from_numpy(dt.astype(np.float32)),
            torch.from_numpy(panel.offsets.copy()),
        )

    def _gaps(self, panel: Panel, has_times: bool) -> FloatArray:
        """Gaps (total,) in units of the time scale, 1 at the first sample of a series."""
        dt = panel.gaps()
        dt = dt / self.time_scale_ if has_times else dt * self.step
        dt[panel.offsets[:-1]] = 1.0
        rounding = _GAP_TOLERANCE
        if panel.times is not None and has_times:
            largest = float(np.abs(panel.times).max()) / self.time_scale_
            rounding += _GAP_ROUNDINGS * np.finfo(np.float64).eps * largest
        dt[np.abs(dt - 1.0) <= rounding] = 1.0
        return dt


def _moments(values: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, IntArray]:
    """Mean, standard deviation and number of the values seen of each channel, (d,) each, in float64."""
    seen = ~np.isnan(values)
    observed = seen.sum(axis=0)
    count = np.maximum(observed, 1)
    mean = np.sum(values, axis=0, dtype=np.float64, where=seen) / count
    deviation = np.where(seen, values - mean, 0.0)
    std = np.sqrt(np.einsum("td,td->d", deviation, deviation) / count)
    varies = np.fmax.reduce(values, axis=0) > np.fmin.reduce(values, axis=0)
    return mean, np.where(varies, std, 1.0), observed


def _median_positive(gaps: FloatArray) -> float | None:
    """Median of the positive gaps, None if there is none; the NaN at the start of a series compare false."""
    positive = gaps[gaps > 0]
    return float(np.median(positive)) if positive.size else None


def _last_seen(seen: npt.NDArray[np.bool_]) -> IntArray:
    """Row of the latest sighting of each channel up to each sample, (total, d).

    A row before the series' own first one says that the channel has not been seen yet.
    """
    return np.maximum.accumulate(np.where(seen, np.arange(len(seen))[:, None], -1), axis=0)


def _forward_filled(values: FloatArray, seen: npt.NDArray[np.bool_], first: IntArray) -> FloatArray:
    """Standardised values (total, d) with the last seen value, or 0, in place of the missing ones."""
    last = _last_seen(seen)
    filled = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= first[:, None], filled, 0.0)


def _time_since_seen(seen: npt.NDArray[np.bool_], dt: FloatArray, first: IntArray) -> FloatArray:
    """Time (total, d) since an earlier sample saw the channel, or since the start of the series."""
    clock = np.cumsum(dt)
    earlier = np.roll(_last_seen(seen), 1, axis=0)
    earlier[0] = 0
    # Before the first sighting count from the first sample of the series.
    earlier = np.maximum(earlier, first[:, None])
    return clock[:, None] - clock[earlier]
