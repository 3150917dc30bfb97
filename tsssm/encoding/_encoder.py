"""What a network sees of a panel: standardised values, what is missing, and elapsed time.

Symbols and shapes: ``total`` samples in all series, d channels, d_in inputs::

    values  (total, d)     samples of the panel, NaN where missing
    u       (total, d_in)  inputs of the network
    dt      (total,)       elapsed time since the previous sample of the series, in units of time_scale

Time and value inputs of missing data follow Che, Purushotham, Cho, Sontag, Liu, *Recurrent Neural Networks
for Multivariate Time Series with Missing Values*, arXiv 1606.01865, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tsssm.encoding._categories import Categories
from tsssm.encoding._encoded import Encoded, EncodedOnDemand, pieces
from tsssm.encoding._errors import SCALES, beyond, error_limits, middle, unlimited
from tsssm.encoding._limits import GAP_ROUNDING, GAP_TOLERANCE, limited, unit_gaps
from tsssm.panel import Panel, panel_like

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


# A shorter unit of time would overflow as a divisor of times, which are no larger than 1e200.
_LEAST_SCALE = 1e-100


class PanelEncoder:
    """Turns panels into network inputs, with everything learned from the training panel.

    Parameters
    ----------
    time_scale : "median" or float
        Unit of elapsed time. "median" is the median positive gap between samples of the training panel.
    scale : {"auto", "standard", "robust"}
        Mean and standard deviation of the values that are no faults ("auto") or of all of them ("standard");
        or the median and 0.74 times the interquartile range of those that are no faults ("robust"), but the
        standard deviation where that is 0. These take the place of mean and standard deviation everywhere.
    categorical : sequence of str or int, default=()
        Channels, by name or number, whose values are codes.

    Attributes
    ----------
    n_channels : int
        Channels d of the training panel.
    mean, std : array (d,), float64
        Per channel, missing values left out; a constant channel has std 1, a channel without values mean 0.
    has_times : bool
        Whether the training panel had times.
    time_unit : str or None
        Unit of the times of the training panel, None if it had none or did not know it.
    time_scale_ : float
        The unit of elapsed time, in the unit of the training panel's times; 1.0 for "median" if it has none.
    step : float
        Step of the regular grid that a panel without times is taken to lie on, in units of ``time_scale_``:
        the median gap of the training panel, or 1.0 if that has no times.
    limits : array (2, d)
        Beyond which values count as missing.
    missing : bool
        Whether the training panel had missing values in samples that are not missing altogether, in channels
        that are not categorical.
    categories : Categories
        The values of the categorical channels.
    numeric : array (d - c,), int64
        Numbers of the other channels.
    n_inputs : int
        Inputs d_in: d, or 3 d if ``missing``, of the channels that are not categorical, and one for each
        value of each that is.

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

    *Categories.* The input of a value is 1 where the channel has it, else 0: the first map of the network
    then holds a vector for each value, its embedding. All inputs of a channel are 0 where it is missing, and
    for a value that training did not have.

    *Times.* A panel without times lies on the regular grid of the training panel (``step``). Times in another
    unit than the training panel's are converted. Times in a known unit, such as stamps, and times without one
    cannot be compared: the one in training and the other later is an error. If the training panel had no
    times, the times of later panels must be without a unit, and are read in units of its samples; if
    ``time_scale`` is a number, they are in any unit and read in units of it. Samples with the same time stamp
    have a gap of 0, which leaves the state of the layers untouched: the forward direction of a layer uses the
    first of them, the backward direction the last.

    *Faults.* One value of 1e12 must not set the scale of a channel. A value further from those of training
    than 100 times the range of their middle 99.6 % counts as missing, in training and later: that is a fault.
    In a channel where training values are that far off side by side, with fewer than 100 of them, or with
    ``scale="standard"`` every value counts (`error_limits`).

    *Limits.* So that every output is finite, no standardised value counts for more than 10^6, that is a
    million standard deviations of the training panel, and no gap for more than 10^9 units of elapsed time.
    """

    def __init__(
        self,
        time_scale: str | float = "median",
        scale: str = "auto",
        categorical: Sequence[str | int] = (),
    ) -> None:
        if isinstance(time_scale, str):
            if time_scale != "median":
                raise ValueError(f"time_scale must be 'median' or a positive number; got {time_scale!r}.")
        elif isinstance(time_scale, bool) or not isinstance(time_scale, Real):
            raise TypeError(f"time_scale must be 'median' or a positive number; got {time_scale!r}.")
        elif not 0 < time_scale < np.inf:
            raise ValueError(f"time_scale must be positive and finite; got {time_scale!r}.")
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}; got {scale!r}.")
        self.time_scale, self.scale = time_scale, scale
        self.categorical = tuple(categorical)

    def fit(self, panel: Panel) -> PanelEncoder:
        """Learn scales and units from the training panel; returns self.

        Raises
        ------
        ValueError
            If every value of the panel is missing.
        """
        has_times = self.has_times = panel.has_times
        self.time_unit = panel.time_unit
        self.n_channels = panel.n_channels
        self.mean, self.std, observed, total, extent = _moments(panel)
        plain = self.scale == "standard"
        self.limits = unlimited(self.n_channels) if plain else error_limits(panel, extent)
        if beyond(extent, self.limits).any():
            self.mean, self.std, *_ = _moments(panel, self.limits)
        if self.scale == "robust":
            self.mean, self.std = middle(panel, self.limits, self.mean, self.std)
        if not observed.any():
            raise ValueError(
                f"All values of X, {len(panel)} series of {self.n_channels} channel(s), are missing (NaN); "
                "at least one value is needed."
            )
        self.set_categories(Categories.of(panel, self.categorical))
        names = list(self.categories.channels)
        self.mean[names], self.std[names] = 0.0, 1.0
        self.limits[:, names] = unlimited(len(names))
        self.missing = bool((observed < total)[self.numeric].any())
        self.n_inputs = len(self.numeric) * (3 if self.missing else 1) + self.categories.size
        median_gap = _median_positive_gap(panel) if has_times else None
        time_scale = (median_gap or 1.0) if self.time_scale == "median" else float(self.time_scale)
        self.time_scale_ = max(time_scale, _LEAST_SCALE)
        self.step = 1.0 if median_gap is None else median_gap / self.time_scale_
        return self

    def set_categories(self, categories: Categories) -> None:
        """Take what is known of the categorical channels."""
        self.categories = categories
        self.numeric = np.setdiff1d(np.arange(self.n_channels), categories.channels)

    def encode(self, panel: Panel) -> Encoded | EncodedOnDemand:
        """Return the inputs of the network for a panel; on demand if its values are memory-mapped.

        Raises
        ------
        ValueError
            If the panel is empty or has another number of channels than the training panel, or if the units
            of its times and of the training panel's cannot be compared.
        """
        self._check(panel)
        panel = self.in_training_unit(panel)
        return EncodedOnDemand(self.encode_all, panel) if _is_mapped(panel.values) else self.encode_all(panel)

    def encode_all(self, panel: Panel) -> Encoded:
        """As `encode`, and in memory in any case."""
        self._check(panel)
        panel = self.without_errors(self.in_training_unit(panel))
        has_times = panel.has_times
        panel = panel.drop_missing_rows()
        dt = self._steps(panel, has_times)
        codes = None
        if self.categories.size:
            codes = torch.from_numpy(self.categories.codes(panel.values))
        values = limited(self.standardised(panel.values))
        seen = ~np.isnan(values)
        if self.missing:
            u = with_mask(values, seen, _time_since_seen(seen, dt, panel.offsets))
        else:
            first = np.repeat(panel.offsets[:-1], panel.lengths)
            u = (values if seen.all() else _forward_filled(values, seen, first)).astype(np.float32)
        return Encoded(
            torch.from_numpy(u),
            torch.from_numpy(dt.astype(np.float32)),
            torch.from_numpy(panel.offsets.copy()),
            codes,
            self.categories.size,
        )

    def standardised(self, values: npt.NDArray[Any]) -> FloatArray:
        """Values (..., d) of the channels that are not categorical, without their mean and scale."""
        if not self.categories.size:  # a stream asks for one sample after the other
            return (values - self.mean) / self.std
        return (values[..., self.numeric] - self.mean[self.numeric]) / self.std[self.numeric]

    def elapsed(self, gaps: FloatArray, times: npt.NDArray[Any] | None) -> FloatArray:
        """Gaps in units of the time scale, given those of samples at times, or of numbers of samples."""
        if times is None:
            return unit_gaps(gaps * self.step, 0.0)
        return unit_gaps(gaps / self.time_scale_, np.abs(times) / self.time_scale_)

    def _steps(self, panel: Panel, has_times: bool) -> FloatArray:
        """Gaps before the samples in units of the time scale, 1 before the first of a series."""
        dt = self.elapsed(panel.gaps(), panel.times if has_times else None)
        dt[panel.offsets[:-1]] = 1.0
        return dt

    def _check(self, panel: Panel) -> None:
        if len(panel) == 0:
            raise ValueError("X holds no series; at least one is needed.")
        if panel.n_channels != self.n_channels:
            raise ValueError(
                f"X has {panel.n_channels} channel(s), but the training data had {self.n_channels}."
            )

    def regular(self, panel: Panel) -> bool:
        """Whether all gaps between samples of the training panel, or of one like it, are equal.

        But for rounding, and whatever the unit: with a ``time_scale`` of the user's own they need not be 1.
        """
        gaps = np.delete(self._steps(panel, panel.has_times), panel.offsets[:-1])
        if gaps.size == 0:
            return True
        latest = 0.0 if panel.times is None else np.abs(panel.times).max() / self.time_scale_
        return bool(np.ptp(gaps) <= 2 * (GAP_TOLERANCE * gaps.max() + GAP_ROUNDING * latest))

    def in_training_unit(self, panel: Panel) -> Panel:
        """Return the panel with its times, if any, in the unit of the training panel."""
        if not panel.has_times or panel.time_unit == self.time_unit:
            return panel
        if not self.has_times and not isinstance(self.time_scale, str):
            return panel
        if self.time_unit is not None and panel.time_unit is not None:
            return panel.convert_times(self.time_unit)
        given = _described(True, panel.time_unit)
        raise ValueError(
            f"X has {given}, but the training data had {_described(self.has_times, self.time_unit)}: their "
            "steps cannot be compared. Pass time_unit to the method that makes the Panel, or, if the samples "
            "have the regular step of the training data, pass an array without times."
        )

    def without_errors(self, panel: Panel) -> Panel:
        """Return the panel with values beyond the limits missing; itself if there are none."""
        wrong = beyond(panel.values, self.limits)
        if not wrong.any():
            return panel
        return panel_like(panel, np.where(wrong, np.nan, panel.values))


def with_mask(z: FloatArray, seen: npt.NDArray[np.bool_], since: FloatArray) -> npt.NDArray[np.float32]:
    """Inputs (total, 3 d) of channels with missing values.

    Standardised values (total, d), 0 where they are missing; whether they are there; and the logarithm of the
    time since the channel was seen before.
    """
    return np.concatenate([np.where(seen, z, 0.0), seen, np.log1p(since)], axis=1, dtype=np.float32)


def _is_mapped(array: npt.NDArray[Any] | None) -> bool:
    """Whether the memory of an array is a file."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def _described(has_times: bool, unit: str | None) -> str:
    if not has_times:
        return "no times"
    return "times that are numbers without a unit" if unit is None else f"times in {unit!r}"


def _moments(
    panel: Panel, limits: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, IntArray, int, FloatArray]:
    """Mean, standard deviation and number of the values of each channel (d,); samples; extent (2, d).

    With ``limits`` no value beyond them counts.
    """
    observed, total = np.zeros(panel.n_channels, dtype=np.int64), 0
    sums = np.zeros(panel.n_channels)
    low, high = np.full(panel.n_channels, np.nan), np.full(panel.n_channels, np.nan)

    def counted(piece: Panel) -> npt.NDArray[np.floating[Any]]:
        values = piece.values
        return values if limits is None else np.where(beyond(values, limits), np.nan, values)

    for piece in pieces(panel):
        values = counted(piece)
        seen = ~np.isnan(values)
        observed += seen.sum(axis=0)
        total += len(values)
        sums += np.sum(values, axis=0, dtype=np.float64, where=seen)
        low = np.fmin(low, np.fmin.reduce(values, axis=0))
        high = np.fmax(high, np.fmax.reduce(values, axis=0))
    count = np.maximum(observed, 1)
    mean = sums / count
    squares = np.zeros(panel.n_channels)
    for piece in pieces(panel):
        values = counted(piece)
        deviation = np.where(np.isnan(values), 0.0, values - mean)
        squares += np.einsum("td,td->d", deviation, deviation)
    std = np.where(high > low, np.sqrt(squares / count), 1.0)
    return mean, std, observed, total, np.stack([low, high]).astype(np.float64)


def _median_positive_gap(panel: Panel) -> float | None:
    """Median of the positive gaps, None if there is none; the NaN at the start of a series compare false."""
    positive = np.concatenate([gaps[gaps > 0] for gaps in (piece.gaps() for piece in pieces(panel))])
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


def _time_since_seen(seen: npt.NDArray[np.bool_], dt: FloatArray, offsets: IntArray) -> FloatArray:
    """Time (total, d) since an earlier sample saw the channel, or since the start of the series."""
    clock = _clock(dt, offsets)
    earlier = np.roll(_last_seen(seen), 1, axis=0)
    earlier[0] = 0
    # Before the first sighting count from the first sample of the series.
    earlier = np.maximum(earlier, np.repeat(offsets[:-1], np.diff(offsets))[:, None])
    return clock[:, None] - clock[earlier]


def _clock(dt: FloatArray, offsets: IntArray) -> FloatArray:
    """Sums (total,) of the gaps of each series up to each sample.

    Series by series: a sum over all of them would round the gaps of one to the digits of another.
    """
    lengths = np.diff(offsets)
    if (lengths == lengths[0]).all():
        return np.cumsum(dt.reshape(len(lengths), -1), axis=1).reshape(-1)
    clock = np.empty_like(dt)
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        np.cumsum(dt[start:stop], out=clock[start:stop])
    return clock
