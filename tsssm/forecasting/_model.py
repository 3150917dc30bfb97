"""Forecasts in closed form: candidates from fixed systems, chosen on held-out windows, and their mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.forecasting._choice import mixture
from tsssm.forecasting._conformal import Errors, evenest, tempered
from tsssm.forecasting._inputs import Inputs, Rows, lag_choices, last_states, states
from tsssm.forecasting._prepare import fill, find_season, step_size
from tsssm.forecasting._smoothing import smooth_all
from tsssm.forecasting._trials import SMOOTH, Candidate, Trial
from tsssm.forecasting._windows import Kept, Plan, Scale, Series, blocks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: What a window's forecast falls back to: "none" is the mean of the series so far.
SCALINGS = ("last", "mean", "robust", "none")
TRANSFORMS = ("none", "log")
CLOSED_LOSSES = ABSOLUTE, SQUARED = "absolute_error", "squared_error"
#: Every system of the bank holds a season of each series.
LONGEST_SEASON = 100_000
_DEFAULT_HORIZON = 12


class Part(NamedTuple):
    """A linear forecast of z: ``smooth`` times the bank, ``last`` times the last value, size F coef."""

    transform: str
    weight: float
    smooth: float
    last: float
    coef: FloatArray


class Forecast(NamedTuple):
    """Values (n, H), the spread (n,) that errors are measured in, and missing samples at the end (n,)."""

    values: FloatArray
    spread: FloatArray
    late: IntArray


class ForecastModel(NamedTuple):
    """A fitted mixture; it holds nothing of the series that it was fitted to.

    Attributes
    ----------
    horizon, season : int
        Steps ahead that it was fitted for, and samples per season.
    lags : tuple of int
        Lengths of windows that were tried.
    parts : tuple of Part
        One for each transform that takes part.
    errors : Errors
        What is known of its errors.
    candidates : tuple of Candidate
        Those with a positive weight.
    weights : array (len(candidates),)
    loss : {"absolute_error", "squared_error"}
    """

    horizon: int
    season: int
    lags: tuple[int, ...]
    parts: tuple[Part, ...]
    errors: Errors
    candidates: tuple[Candidate, ...]
    weights: FloatArray
    loss: str = ABSOLUTE

    def forecast(self, series: Sequence[FloatArray], phases: Sequence[int], horizon: int) -> Forecast:
        """Forecast ``horizon`` steps ahead of the end of every series.

        Parameters
        ----------
        series : sequence of n arrays (T_i,)
            NaN is missing, but not everywhere.
        phases : sequence of n int
            Number of the first sample of each on the grid that the seasons are counted on.
        horizon : int
            Beyond the model's own, forecasts are taken for values and the model continues from them.
        """
        given = [np.asarray(y, dtype=np.float64) for y in series]
        # What is missing at the end is forecast as well, from the last value.
        late = np.array([int(np.argmax(np.isfinite(y[::-1]))) for y in given])
        whole = [y[: len(y) - gone] for y, gone in zip(given, late, strict=True)]
        first = self._ahead(whole, phases)
        values = first.values
        while values.shape[1] < horizon + late.max():
            grown = [np.concatenate([y, f]) for y, f in zip(whole, values, strict=True)]
            values = np.concatenate([values, self._ahead(grown, phases).values], axis=1)
        rows = np.arange(len(values))[:, None], late[:, None] + np.arange(horizon)
        return Forecast(values[rows], first.spread, late)

    def quantiles(self, forecast: Forecast, levels: Sequence[float]) -> FloatArray:
        """Quantiles (n, H, Q) of a forecast."""
        horizon, late = forecast.values.shape[1], forecast.late
        around = self.errors.quantiles(np.asarray(levels, dtype=np.float64), horizon + int(late.max()))
        around = around[late[:, None] + np.arange(horizon)]
        return forecast.values[:, :, None] + forecast.spread[:, None, None] * around

    def windows(self, y: FloatArray, phase: int, origins: IntArray) -> FloatArray:
        """Forecasts (N, H) of one series from each of ``origins``, numbers of samples, increasing.

        Each is made of the samples up to its origin; only the unit of the series and what stands in for
        missing values is taken from all.
        """
        return self.backtest([y], [phase], [origins])[0]

    def backtest(
        self, series: Sequence[FloatArray], phases: Sequence[int], origins: Sequence[IntArray]
    ) -> list[FloatArray]:
        """As `windows` of every series, from origins of its own; values should be there at the origins."""
        prepared = prepared_series(series, phases, self.season)
        inputs = Inputs(self.lags, self.season, self.loss == SQUARED)
        # Counted from the first value.
        places = [
            np.maximum(own - int(np.argmax(np.isfinite(y))), 0)
            for y, own in zip(series, origins, strict=True)
        ]
        total = [np.zeros((len(own), self.horizon)) for own in places]
        for part in self.parts:
            for found, values in zip(total, self._part(part, prepared, inputs, places)[0], strict=True):
                found += part.weight * values
        return total

    def _ahead(self, series: Sequence[FloatArray], phases: Sequence[int]) -> Forecast:
        prepared = prepared_series(series, phases, self.season)
        inputs = Inputs(self.lags, self.season, self.loss == SQUARED)
        ends = [np.array([len(s.y) - 1]) for s in prepared]
        values = np.zeros((len(series), self.horizon))
        for part in self.parts:
            found, spread = self._part(part, prepared, inputs, ends)
            values += part.weight * np.concatenate(found)
            if part.transform == "none":
                spreads = spread
        return Forecast(values, spreads, np.zeros(len(series), dtype=np.int64))

    def _part(
        self, part: Part, series: Sequence[Series], inputs: Inputs, origins: Sequence[IntArray]
    ) -> tuple[list[FloatArray], FloatArray]:
        """Forecasts (N_i, H) of each series in the units of y, and spreads (n,) at the last origin."""
        scales = [Scale.of(s.y, part.transform == "log", inputs.even) for s in series]
        values, spread = [np.zeros((len(own), self.horizon)) for own in origins], np.zeros(len(series))
        lengths = [len(s.y) for s in series]
        ends = all(len(own) == 1 and own[0] == n - 1 for own, n in zip(origins, lengths, strict=True))
        for numbers in blocks(lengths, len(inputs.systems.gain)):
            own_z = [scales[i].forward(series[i].y) for i in numbers]
            rows, phases = Rows.of(own_z), np.array([series[i].phase for i in numbers])
            counts = [len(origins[i]) for i in numbers]
            which = np.repeat(np.arange(len(numbers)), counts)
            places = np.concatenate([origins[i] for i in numbers]) + rows.start[which]
            if ends:
                readouts = last_states(rows.z, rows.start, inputs.systems)
            else:
                readouts = states(rows.z, rows.start, inputs.systems)[which, places]
            at = inputs.at(rows, readouts, phases, which, places)
            path = at.size[:, None] * (at.inputs @ part.coef) + part.last * at.last[:, None]
            stops = np.cumsum(counts)
            if part.smooth > 0 or part.transform == "none":
                bank = smooth_all(own_z, self.season, self.horizon, [origins[i] for i in numbers])
                path = path + part.smooth * bank.paths
            for i, stop, count in zip(numbers, stops, counts, strict=True):
                values[i] = scales[i].back(path[stop - count : stop])
                if count and part.transform == "none":
                    spread[i] = scales[i].unit * tempered(bank.spreads[stop - 1], self.errors.power)
        return values, spread


def prepared_series(series: Sequence[FloatArray], phases: Sequence[int], season: int) -> list[Series]:
    """Fill gaps; what is missing before the first value is cut off."""
    found = []
    for y, phase in zip(series, phases, strict=True):
        known = np.isfinite(y)
        cut = int(np.argmax(known))
        found.append(Series(fill(y[cut:], season), known[cut:], phase + cut))
    return found


def fit_model(
    series: Sequence[FloatArray],
    phases: Sequence[int],
    horizon: int | None = None,
    season: int | None = None,
    season_candidates: Sequence[int] = (),
    lags: tuple[int, ...] | None = None,
    scalings: Sequence[str] = SCALINGS,
    transforms: Sequence[str] = TRANSFORMS,
    loss: str = ABSOLUTE,
) -> ForecastModel:
    """Fit a mixture to series.

    Parameters
    ----------
    series : sequence of n arrays (T_i,)
        NaN is missing, but not everywhere.
    phases : sequence of n int
        Number of the first sample of each on the grid that the seasons are counted on.
    horizon : int, optional
        Steps ahead, by default two seasons. It is at most a third of the length of the series, beyond which
        forecasts are recursive.
    season : int, optional
        Samples per season, 1 for none; found from the series if None.
    season_candidates : sequence of int
        Where to look first.
    lags : tuple of int, optional
        Lengths of windows to try, increasing; by default from the lengths of the series.
    scalings, transforms : sequences of str
        Of `SCALINGS` and `TRANSFORMS`, those to choose from.
    loss : {"absolute_error", "squared_error"}
        What the mixture is chosen by. With the former windows count in units of their mean step, so that no
        volatile one dominates, with the latter all alike.
    """
    if season is None:
        season = find_season([fill(y, 1) for y in series], season_candidates)
    prepared = prepared_series(series, phases, season)
    lengths = [len(s.y) for s in prepared]
    if season > max(lengths):
        season = 1  # of which nothing is known
    if horizon is None:
        horizon = max(2 * season, _DEFAULT_HORIZON)
    horizon = int(min(horizon, max(1, np.median(lengths) // 3)))
    inputs = Inputs(lags or lag_choices(lengths, season, horizon, loss == SQUARED), season, loss == SQUARED)
    plan = Plan.of(lengths, horizon, season)
    share_positive = np.mean([s.y.min() > 0 for s in prepared])
    # The trial without a transform always runs, because intervals are in units of its errors.
    usable = ["none", "log"] if "log" in transforms and share_positive >= 0.5 else ["none"]
    competing = [name for name in usable if name in transforms] or usable
    trials = [Trial(name, prepared, inputs, plan, scalings, name in competing) for name in usable]
    return _mixed(trials, prepared, inputs, plan)


def _mixed(trials: Sequence[Trial], series: Sequence[Series], inputs: Inputs, plan: Plan) -> ForecastModel:
    kept = trials[0].found.kept
    rows = [candidate for trial in trials for candidate in trial.candidates()]
    # In units of each series, so that all count alike and none is too large for float32.
    units = _error_units(series, inputs)[kept.owner]
    forecasts = np.empty((len(rows), *kept.targets.shape), dtype=np.float32)
    place = 0
    for trial in trials:
        wanted = trial.candidates()
        trial.forecasts(wanted, units, forecasts[place : place + len(wanted)])
        place += len(wanted)
    units = units[:, None]
    prior = np.array([float(row.base == SMOOTH and row.lags == 0) for row in rows]) * 2
    spans = float(plan.held_out.max() - plan.horizon) / plan.horizon
    power = 2 if inputs.even else 1
    weights = mixture(forecasts, kept.targets / units, kept.known.astype(np.float64), prior, spans, power)
    chosen = [k for k in range(len(rows)) if weights[k] > 0]
    blend = np.sum([weights[k] * forecasts[k] for k in chosen], axis=0) * units
    errors = _errors_of(trials[0], kept, blend)
    parts = []
    for trial in trials:
        own = [k for k in chosen if rows[k].transform == trial.transform]
        total = float(sum(weights[k] for k in own))
        coef = np.zeros((inputs.width, plan.horizon))
        smooth_share = sum(weights[k] for k in own if rows[k].base == SMOOTH) / max(total, 1e-300)
        for (_, solution), k in zip(trial.solved([rows[k] for k in own], early=False), own, strict=True):
            coef += weights[k] / total * solution
        parts.append(Part(trial.transform, total, float(smooth_share), float(1 - smooth_share), coef))
    # The part without a transform also has the spread of errors, and stays if its weight is 0.
    parts = [part for part in parts if part.weight > 0 or part.transform == "none"]
    return ForecastModel(
        plan.horizon,
        inputs.season,
        inputs.lags,
        tuple(parts),
        errors,
        tuple(rows[k] for k in chosen),
        weights[chosen],
        SQUARED if inputs.even else ABSOLUTE,
    )


def _error_units(series: Sequence[Series], inputs: Inputs) -> FloatArray:
    """About the mean absolute seasonal difference (n,) of each series, what MASE divides by.

    Where all windows count alike, the unit that the series are in.
    """
    if inputs.even:
        return np.array([Scale.of(s.y, False, True).unit for s in series])
    found, season = [], inputs.season
    for s in series:
        difference = np.abs(s.y[season:] - s.y[:-season]) if len(s.y) > season else np.zeros(0)
        size = float(difference.mean()) if len(difference) else 0.0
        # A series that hardly moves but for one leap would otherwise decide for all.
        found.append(max(size, step_size(s.y), 1e-3 * float(np.abs(s.y).mean())))
    return np.array(found)


def _errors_of(trial: Trial, kept: Kept, blend: FloatArray) -> Errors:
    """What is known of the errors of the mixture, in units of the spread of each window."""
    miss = kept.targets - blend
    units = np.array([scale.unit for scale in trial.scales])[kept.owner]
    size = np.where(kept.known, np.abs(miss), 0.0).sum(axis=1) / np.maximum(kept.known.sum(axis=1), 1)
    power = evenest(size / np.maximum(units, 1e-300), kept.spread, kept.owner)
    spread = np.maximum(units * tempered(kept.spread, power), 1e-300)
    return Errors.of(miss / spread[:, None], kept.known, power)
