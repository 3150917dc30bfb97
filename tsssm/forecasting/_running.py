"""Forecasts in closed form of one series that comes sample by sample, in constant time and memory.

Everything that a forecast needs is updated with each sample: the states of fixed systems, the bank, the
last values, sums for means and units. It is kept in the units of y, and of log y while all values are
positive, because the unit of a series changes with every sample.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tsssm.forecasting._conformal import tempered
from tsssm.forecasting._inputs import Inputs
from tsssm.forecasting._model import SQUARED, ForecastModel, Part
from tsssm.forecasting._prepare import unit_of
from tsssm.forecasting._smoothing import Bank, Start, first_samples
from tsssm.forecasting._windows import Scale

FloatArray = npt.NDArray[np.float64]


class RunningForecast:
    """One series, of which a model forecasts after each sample.

    Parameters
    ----------
    model : ForecastModel
    phase : int
        Number of the first sample on the grid that the seasons are counted on.
    """

    def __init__(self, model: ForecastModel, phase: int = 0) -> None:
        self.model, self.place = model, phase
        inputs = Inputs(model.lags, model.season, model.loss == SQUARED)
        self.plain = _Past(inputs, model.horizon)
        has_log = any(part.transform == "log" for part in model.parts)
        self.log: _Past | None = _Past(inputs, model.horizon) if has_log else None
        self.missing = 0

    def copy(self) -> RunningForecast:
        """An independent copy."""
        other = copy.copy(self)
        other.plain = self.plain.copy()
        other.log = None if self.log is None else self.log.copy()
        return other

    @property
    def has_value(self) -> bool:
        """Whether a value has come."""
        return self.plain.count > 0

    def take(self, value: float) -> None:
        """Take the next sample in; NaN is missing, and filled by a straight line once a value comes."""
        if not np.isfinite(value):
            # What is missing before the first value only counts.
            self.missing += self.has_value
            self.place += not self.has_value
            return
        if self.missing:
            last = self.plain.values[0]
            for share in np.arange(1, self.missing + 1) / (self.missing + 1):
                self._take(float(last + share * (value - last)))
            self.missing = 0
        self._take(value)

    def _take(self, value: float) -> None:
        self.plain.take(value)
        if self.log is not None and value > 0:
            self.log.take(float(np.log(value)))
        else:
            self.log = None  # as in a model of the whole series
        self.place += 1

    def forecast(self, horizon: int, levels: Sequence[float] | None = None) -> FloatArray:
        """Forecasts (horizon,), or their quantiles (horizon, Q), of the samples that come next."""
        reach = horizon + self.missing
        values, spread = self._ahead()
        grown = self
        while len(values) < reach:
            grown = grown.copy()
            grown.missing = 0
            for value in values[-self.model.horizon :]:
                grown._take(float(value))
            values = np.concatenate([values, grown._ahead()[0]])
        ahead = slice(self.missing, reach)
        if levels is None:
            return values[ahead]
        around = self.model.errors.quantiles(np.asarray(levels, dtype=np.float64), reach)
        return values[ahead, None] + spread * around[ahead]

    def _ahead(self) -> tuple[FloatArray, float]:
        values, spread = np.zeros(self.model.horizon), 0.0
        for part in self.model.parts:
            logs = self.log if part.transform == "log" else None
            past, power = logs or self.plain, self.model.errors.power
            path, error = past.forecast(part, logs is not None, self.place - 1, power)
            values += part.weight * path
            if part.transform == "none":
                spread = error
        return values, spread


class _Past:
    """What is kept of a series, or of its logarithms."""

    def __init__(self, inputs: Inputs, horizon: int) -> None:
        self.inputs, self.horizon = inputs, horizon
        self._moves, self._drive = np.exp(inputs.systems.A), inputs.systems.drive
        self.x = np.zeros(len(self._moves), dtype=np.complex128)
        self.values = np.zeros(inputs.n_lags)  # the latest first
        self.steps = np.zeros(inputs.lags[0])
        self.first, self.count = 0.0, 0
        # Of values, steps and sizes: sums, the largest, and the sum of squares around the mean.
        self.total, self.moved, self.largest, self.top, self.squares = 0.0, 0.0, 0.0, -np.inf, 0.0
        self._start: list[float] = []
        self._bank: Bank | None = None

    def copy(self) -> _Past:
        other = copy.copy(self)
        other.x, other.values, other.steps = self.x.copy(), self.values.copy(), self.steps.copy()
        other._start = self._start.copy()
        other._bank = None if self._bank is None else self._bank.copy()
        return other

    def take(self, value: float) -> None:
        if self.count == 0:
            self.first, self.values[:] = value, value
        step = abs(value - self.values[0])
        self.x = self._moves * self.x + self._drive * (value - self.first)
        self.values[1:] = self.values[:-1].copy()
        self.values[0] = value
        self.steps[1:] = self.steps[:-1].copy()
        self.steps[0] = step
        before = self.total / max(self.count, 1)
        self.count += 1
        self.total += value
        self.squares += (value - before) * (value - self.total / self.count) if self.count > 1 else 0.0
        self.moved += step
        self.largest, self.top = max(self.largest, abs(value)), max(self.top, value)
        if self._bank is not None:
            self._bank.run(np.array([value]), np.zeros(0, dtype=np.int64))
            return
        self._start.append(value)
        if self.count == first_samples(self.inputs.season):
            self._bank = self._begun()
            self._start = []

    def mean_step(self, known: int) -> float:
        """Mean step from one value to the next, of so many that were not filled in."""
        return unit_of(self.moved / max(known - 1, 1), self.largest)

    def _begun(self) -> Bank:
        z = np.array(self._start)
        bank = Bank(Start.of(z, self.inputs.season), self.inputs.season, self.horizon)
        bank.run(z, np.zeros(0, dtype=np.int64))
        return bank

    def forecast(self, part: Part, log: bool, place: int, power: float) -> tuple[FloatArray, float]:
        """Forecasts (H,) of a part of the model, and the spread, both in the units of y."""
        inputs = self.inputs
        deviation = float(np.sqrt(self.squares / self.count)) if inputs.even else None
        scale = Scale.of_parts(self.mean_step(self.count), deviation, self.top, log)
        unit = scale.unit
        readouts = (inputs.systems.C @ self.x).real + self.first * inputs.systems.gain
        step = self.steps.sum() / max(min(self.count - 1, len(self.steps)), 1)
        at = inputs.of(
            self.values[None] / unit,
            np.array([step / unit]),
            np.array([self.total / self.count / unit]),
            readouts[None] / unit,
            np.array([place]),
        )
        bank = self._begun() if self._bank is None else self._bank
        bank.set_unit(unit)
        found = bank.forecast()
        path = at.size[0] * (at.inputs[0] @ part.coef) + part.last * at.last[0]
        path = path + part.smooth * found.paths[0] / unit
        return scale.back(path), unit * float(tempered(found.spreads[0] / unit, power))
