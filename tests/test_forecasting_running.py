"""Forecasts of series that come sample by sample: equal to those of the histories so far."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tsssm.forecasting import RunningForecast, fit_model


def waves(length, sp=12, seed=0, level=20.0):
    rng = np.random.default_rng(seed)
    return level + 3 * np.sin(2 * np.pi * np.arange(length) / sp) + 0.1 * np.cumsum(rng.normal(size=length))


@pytest.mark.parametrize("loss", ["absolute_error", "squared_error"])
@pytest.mark.parametrize("season", [1, 12])
def test_after_every_sample_it_is_the_forecast_of_the_history(season, loss):
    model = fit_model([waves(150, seed=s) for s in range(4)], [3] * 4, 8, season, loss=loss)
    y, running = waves(90, seed=9), RunningForecast(model, 3)
    for t, value in enumerate(y):
        running.take(value)
        if t % 7 in (0, 3) or t < 5:
            history = model.forecast([y[: t + 1]], [3], 8)
            assert_allclose(running.forecast(8), history.values[0], rtol=1e-8)
            assert_allclose(
                running.forecast(8, [0.1, 0.9]), model.quantiles(history, [0.1, 0.9])[0], rtol=1e-8
            )
    # Beyond the horizon of the model it goes on from its forecasts, and is not changed by that.
    assert_allclose(running.forecast(20), model.forecast([y], [3], 20).values[0], rtol=1e-8)
    assert_allclose(running.forecast(8), model.forecast([y], [3], 8).values[0], rtol=1e-8)


def test_missing_samples_are_forecast_at_first_and_filled_later():
    model = fit_model([waves(150, 1, seed=s) for s in range(4)], [0] * 4, 6, 1)
    y, running = waves(60, 1, seed=5), RunningForecast(model)
    y[[0, 1, 10, 11, 30, 57, 58, 59]] = np.nan
    for t, value in enumerate(y):
        running.take(value)
        if t >= 2 and t % 3 == 0 or t > 55:
            assert_allclose(running.forecast(6), model.forecast([y[: t + 1]], [0], 6).values[0], rtol=1e-8)
    assert running.missing == 3


def test_logarithms_end_with_the_first_value_that_has_none():
    series = [np.exp(waves(120, seed=s) / 10) for s in range(4)]
    model = fit_model(series, [0] * 4, 6, 12, transforms=("log",))
    running, y = RunningForecast(model), np.concatenate([series[0][:40], [0.0], series[0][41:60]])
    for t, value in enumerate(y):
        running.take(value)
        if t in (20, 39, 40, 59):
            assert_allclose(running.forecast(6), model.forecast([y[: t + 1]], [0], 6).values[0], rtol=1e-8)


def test_copies_go_their_own_ways():
    model = fit_model([waves(120)], [0], 6, 12)
    one = RunningForecast(model)
    for value in waves(50, seed=1):
        one.take(value)
    before, other = one.forecast(6), one.copy()
    other.take(100.0)
    assert_allclose(one.forecast(6), before, rtol=0)
    assert np.abs(other.forecast(6) - before).max() > 1
