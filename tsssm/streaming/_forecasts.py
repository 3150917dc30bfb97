"""Forecasters that are fed sample by sample: the closed form is updated, a network reads the last window."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.estimators import SSMFeaturesForecaster, SSMForecaster
from tsssm.forecasting import Correction, RunningForecast, Track
from tsssm.streaming._samples import Memory, Samples, as_array

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
Forecaster = SSMFeaturesForecaster | SSMForecaster

_LARGEST = 1e300


class Paths:
    """Forecasts from the outputs of `ForecastingModel`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def answers(self, outputs: Array) -> Array:
        """Forecasts (n, ...) that outputs (n, n_outputs) are."""
        return outputs.reshape(len(outputs), *self._shape)


class ForecastSamples(Samples):
    """Samples in double precision, one after the other on the grid of the forecaster."""

    def __init__(self, n_channels: int) -> None:
        super().__init__(None, n_channels)

    def checked_values(self, values: Any, shape: tuple[int | None, ...]) -> Any:
        """As `Samples.checked_values`; NaN is missing."""
        array = as_array(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"values must be real numbers; got dtype {array.dtype}.")
        full = self._shaped(array, shape).astype(np.float64)
        large = full[np.abs(full) > _LARGEST]
        if large.size:
            raise ValueError(
                f"values must be finite, up to {_LARGEST:g} in magnitude, or NaN where missing; got "
                f"{large[0]:g}."
            )
        return full

    def checked_times(self, times: Any, memory: Memory, shape: tuple[int, int], alone: bool) -> None:
        """There are none."""
        if times is not None:
            raise ValueError(
                "time must be None: samples of a forecaster follow each other on the grid of fit; push NaN "
                "where one is missing."
            )


@dataclass
class ForecastState:
    """What is kept of the targets of each series."""

    series: list[list[_One]]

    @property
    def shape(self) -> tuple[int, int]:
        """What it has in common with the states that can take its place."""
        return len(self.series), len(self.series[0])

    def copy(self) -> ForecastState:
        """A state that shares no memory with this one."""
        return ForecastState([[one.copy() for one in own] for own in self.series])


class _One:
    """One target of one series; with a network also the last window, and what its unit depends on."""

    def __init__(self, running: RunningForecast, number: int, look_back: int) -> None:
        self.running, self.number, self.look_back = running, number, look_back
        self.cells: list[tuple[float, float]] = []  # values and shifts, up to the last value
        self.known = 0

    def copy(self) -> _One:
        other = copy.copy(self)
        other.running, other.cells = self.running.copy(), self.cells.copy()
        return other

    def take(self, value: float, shift: float = 0.0) -> None:
        gap = self.running.missing
        self.running.take(value)
        if not self.look_back or np.isnan(value):
            return
        self.known += 1
        self.cells += [(np.nan, 0.0)] * min(gap, self.look_back) + [(value, shift)]
        del self.cells[: -self.look_back]

    def track(self) -> Track:
        """The end of the series, as the network reads it."""
        y, shift = np.array(self.cells).T
        phase = self.running.place - len(y)
        step = self.running.plain.mean_step(self.known)
        return Track(self.number, y, phase, shift, np.zeros((len(y), 0)), None, step)


class ForecastingModel:
    """A fitted forecaster: after each sample the forecasts of the next ones, for every target."""

    dtype: type = np.float64

    def __init__(self, forecaster: Forecaster, levels: Sequence[float] | None) -> None:
        forecaster.check_is_fitted()
        grid, histories = forecaster._panel_grid, getattr(forecaster, "_histories", None)
        who = type(forecaster).__name__
        if grid is not None and grid.has_times:
            raise ValueError(
                f"this {who} was fitted to series with times, which are moved to a grid that ends with the "
                "last sample of each: fit it to series on a grid to stream it."
            )
        self._correction: Correction | None = None
        if isinstance(forecaster, SSMForecaster):
            self._correction = forecaster._correction()
        if self._correction is not None and len(self._correction.view.centre):
            raise ValueError(
                f"the network of this {who} also reads X, or the other targets with together=True, "
                "which is not streamed: fit it without them to stream it."
            )
        if histories is not None and grid is None:
            self._models = [target.alone for target in forecaster.targets_]
            self._each = histories.each
            horizon = forecaster._steps_asked(forecaster._fh)
        else:
            self._models, self._each, horizon = list(forecaster.channels_), None, None
        self._forecaster, self._levels = forecaster, levels
        self._horizon = horizon or min(model.horizon for model in self._models)
        self._steps = np.arange(1.0, self._horizon + 1)
        self.compiled = self._correction is None
        self.samples = ForecastSamples(len(self._models))
        one_target = () if len(self._models) == 1 else (len(self._models),)
        self.shape = (self._horizon, *one_target, *(() if levels is None else (len(levels),)))
        self.n_outputs = int(np.prod(self.shape))

    def initial_state(self, batch: int) -> ForecastState:
        """The state after the histories of ``batch`` series, if the forecaster has some."""
        if self._each is not None and batch != len(self._each):
            raise ValueError(
                f"n_series must be {len(self._each)}, the number of series in fit, which the stream "
                f"continues; got {batch}."
            )
        series = []
        for b in range(batch):
            own = []
            for column, model in enumerate(self._models):
                look_back, number = 0, column
                if self._correction is not None:
                    look_back = self._correction.view.look_back
                    number = min(column, len(self._correction.shares) - 1)
                history = None if self._each is None else self._each[b]
                one = _One(RunningForecast(model, 0 if history is None else history.first), number, look_back)
                if history is not None:
                    for value, shift in zip(history.y[:, column], history.shift, strict=True):
                        one.take(float(value), float(shift))
                own.append(one)
            series.append(own)
        return ForecastState(series)

    def fork(self) -> ForecastingModel:
        """The model itself, which several streams may use at the same time."""
        return self

    def advance(self, state: Any, memory: Memory, values: Array, times: Array | None, outputs: Array) -> None:
        """Take samples in and write the forecasts after each of them."""
        first = values[0].reshape(*state.shape)
        for b, own in enumerate(state.series):
            for column, one in enumerate(own):
                if not one.running.has_value and np.isnan(first[b, column]):
                    raise ValueError("the first sample must have a value for every target; got NaN.")
        for k, sample in enumerate(values):
            for b, own in enumerate(state.series):
                found = []
                for column, one in enumerate(own):
                    one.take(float(sample[b, column]))
                    found.append(self._forecast(one))
                # Quantiles, if there are any, come last, targets before them.
                outputs[k, b] = np.stack(found, axis=1).ravel()

    def _forecast(self, one: _One) -> FloatArray:
        """Forecasts (horizon,) or their quantiles (horizon, Q)."""
        correction, levels = self._correction, self._levels
        if correction is None:
            return one.running.forecast(self._horizon, levels)
        path = one.running.forecast(self._horizon)
        rest = None
        if levels is not None and correction.weight < 1:
            rest = one.running.forecast(self._horizon, levels)
        steps = self._steps + one.running.missing
        assert isinstance(self._forecaster, SSMForecaster)
        (found,) = self._forecaster._beside(correction, [one.track()], [path], [rest], [steps], None, levels)
        return found[:, 0] if levels is None else found
