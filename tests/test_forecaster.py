"""SSMFeaturesForecaster as its users meet it: indices, panels, covariates, updates, files, sktime's tools."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sktime.forecasting.base import ForecastingHorizon
from sktime.split import SlidingWindowSplitter

from tsssm import Panel, SSMFeaturesForecaster, load
from tsssm.estimators._forecaster_series import read_histories

# sktime warns of its own future, and that it counts in periods, which have no time zone.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Converting to Period:UserWarning"),
]

SP, LENGTH = 6, 60


def wave(length=LENGTH, phase=0, noise=0.1, seed=0):
    t = np.arange(length) + phase
    return 10 + 2 * np.sin(2 * np.pi * t / SP) + noise * np.random.default_rng(seed).normal(size=length)


def truth(ahead):
    return 10 + 2 * np.sin(2 * np.pi * (LENGTH - 1 + np.asarray(ahead)) / SP)


def quick(**parameters):
    return SSMFeaturesForecaster(**{"sp": SP, "transform": "none", **parameters})


def instances(count=3, length=LENGTH):
    frames = {f"s{i}": pd.DataFrame({"y": wave(length, i, seed=i)}) for i in range(count)}
    return pd.concat(frames, names=["series", "time"])


INDICES = {
    "range": pd.RangeIndex(LENGTH),
    "integers from 100": pd.Index(np.arange(100, 100 + LENGTH)),
    "every second integer": pd.Index(np.arange(0, 2 * LENGTH, 2)),
    "months": pd.period_range("2015-01", periods=LENGTH, freq="M"),
    "quarters": pd.period_range("1990Q1", periods=LENGTH, freq="Q"),
    "month starts": pd.date_range("2015-01-01", periods=LENGTH, freq="MS"),
    "month ends": pd.date_range("2015-01-31", periods=LENGTH, freq="ME"),
    "working days": pd.date_range("2024-01-01", periods=LENGTH, freq="B"),
    "weeks": pd.date_range("2020-01-05", periods=LENGTH, freq="W"),
    "hours": pd.date_range("2024-01-01", periods=LENGTH, freq="h"),
    "quarters of an hour": pd.date_range("2024-01-01", periods=LENGTH, freq="15min"),
    "hours as clocks change": pd.date_range("2024-03-30", periods=LENGTH, freq="h", tz="Europe/Berlin"),
    "differences": pd.timedelta_range("5h", periods=LENGTH, freq="30min"),
    "differences without frequency": pd.TimedeltaIndex(np.arange(LENGTH) * np.timedelta64(250, "ms")),
    "days as clocks change": pd.date_range("2024-02-10", periods=LENGTH, freq="D", tz="America/New_York"),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_every_index_has_the_same_forecast_and_comes_back_from_a_file(index, tmp_path):
    y = pd.Series(wave(), index=index, name="load")
    step = 2 if index.equals(INDICES["every second integer"]) else 1
    fh = [1 * step, 2 * step, 5 * step]
    forecaster = quick().fit(y, fh=fh)
    found = forecaster.predict()
    assert found.name == "load" and len(found) == 3
    assert_allclose(found, truth([1, 2, 5]), atol=0.4)
    reference = quick().fit(pd.Series(wave()), fh=[1, 2, 5]).predict()
    assert_allclose(found, reference, rtol=1e-6)
    if not isinstance(index, pd.TimedeltaIndex):  # differences are relative to sktime
        absolute = forecaster.predict(fh=ForecastingHorizon(found.index, is_relative=False))
        pd.testing.assert_series_equal(absolute, found, check_freq=False)
    forecaster.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    pd.testing.assert_series_equal(loaded.predict(), found)
    pd.testing.assert_frame_equal(loaded.predict_quantiles(), forecaster.predict_quantiles())


def test_dates_without_frequency_lie_on_a_grid_with_gaps():
    index = pd.date_range("2024-01-01", periods=LENGTH, freq="h")
    keep = np.sort(np.random.default_rng(1).choice(LENGTH, 40, replace=False))
    keep[-1] = LENGTH - 1
    y = pd.Series(wave(), index=index).iloc[np.unique(keep)]
    forecaster = quick().fit(y)
    relative = forecaster.predict(fh=[1, 2, 3])
    assert_allclose(relative, truth([1, 2, 3]), atol=0.7)
    assert (relative.index == index[-1] + pd.to_timedelta([1, 2, 3], unit="h")).all()
    between = forecaster.predict(fh=pd.DatetimeIndex(index[-1] + pd.to_timedelta([90], unit="min")))
    assert_allclose(between, relative.iloc[:2].mean(), rtol=1e-6)
    with pytest.raises(NotImplementedError, match="fh must lie after the end of y"):
        forecaster.predict(fh=pd.DatetimeIndex([index[3]]))


def test_missing_values_are_rows_left_out():
    y = pd.Series(wave())
    y.iloc[[3, 17, 18, 40]] = np.nan
    one, two = quick().fit(y).predict(fh=[1, 4]), quick().fit(y.dropna()).predict(fh=[1, 4])
    assert_allclose(one, two, rtol=1e-9)


@pytest.mark.parametrize("fh", [1, [3], [2, 5], np.arange(1, 40)], ids=str)
def test_any_future_horizon_after_any_fit(fh):
    forecaster = quick().fit(pd.Series(wave()), fh=[1, 2, 3])
    found = forecaster.predict(fh=fh)
    ahead = np.atleast_1d(fh)
    assert (found.index == LENGTH - 1 + ahead).all()
    assert_allclose(found, truth(ahead), atol=0.5)


def test_the_past_is_not_forecast():
    forecaster = quick().fit(pd.Series(wave()))
    assert not forecaster.get_tag("capability:insample")
    with pytest.raises(NotImplementedError, match="in-sample"):
        forecaster.predict(fh=[-3, -2])


def test_quantiles_are_in_order_and_around_the_forecast():
    forecaster = quick().fit(instances(5), fh=[1, 2, 3])
    found = forecaster.predict_quantiles(alpha=[0.05, 0.5, 0.95])
    assert (np.diff(found.to_numpy(), axis=1) > 0).all()
    assert_allclose(found[("y", 0.5)], forecaster.predict()["y"], atol=0.2)
    wide = forecaster.predict_interval(coverage=0.9)
    assert_allclose(wide.to_numpy(), found[[("y", 0.05), ("y", 0.95)]].to_numpy())


def test_targets_have_models_of_their_own():
    y = pd.DataFrame({"a": wave(), "b": 100 * wave(seed=1) + np.arange(LENGTH)})
    found = quick().fit(y).predict(fh=[1, 2])
    assert list(found.columns) == ["a", "b"]
    for name in y:
        alone = quick().fit(y[[name]]).predict(fh=[1, 2])
        assert_allclose(found[name], alone[name], rtol=1e-9)


def test_a_panel_shares_a_model_and_keeps_its_index():
    y = instances()
    forecaster = quick().fit(y)
    found = forecaster.predict(fh=[1, 2])
    assert found.index.names == ["series", "time"] and list(found.index.levels[0]) == ["s0", "s1", "s2"]
    assert len(forecaster.targets_) == 1
    for i in range(3):
        expected = 10 + 2 * np.sin(2 * np.pi * (LENGTH + np.arange(2) + i) / SP)
        assert_allclose(found.loc[f"s{i}", "y"], expected, atol=0.4)


@pytest.mark.parametrize("kind", ["integer", "period", "dates", "zone"])
def test_panels_are_asked_as_their_series_are(kind):
    """Rows in any order of series; series that end together, and at times of their own."""
    stamps = {
        "integer": pd.RangeIndex(60),
        "period": pd.period_range("2020-01", periods=60, freq="M"),
        "dates": pd.date_range("2020-01-31", periods=60, freq="ME"),
        "zone": pd.date_range("2020-01-01", periods=60, freq="h", tz="Europe/Berlin"),
    }[kind]
    series = {key: pd.Series(wave(n), index=stamps[:n]) for key, n in {"b": 60, "a": 55, "c": 60}.items()}
    y = pd.concat({key: own.to_frame("y") for key, own in series.items()}, names=["who", "when"])
    mixed = y.sort_index(level="when", sort_remaining=False, kind="stable")
    histories, expected = read_histories(mixed, None, None), read_histories(y, None, None)
    fh = ForecastingHorizon([1, 2, 5], freq=getattr(stamps, "freq", None))
    for found in (histories, expected):
        due = found.due(fh)
        for history, (places, absolute) in zip(found.each, due, strict=True):
            own = series[history.key]
            assert_allclose(history.y[:, 0], own)
            assert_allclose(places, [1, 2, 5])
            assert (absolute == fh.to_absolute_index(own.index[[-1]])).all()
        index = found.index_of([absolute for _, absolute in due])
        rows = [(h.key, stamp) for h, (_, own) in zip(found.each, due, strict=True) for stamp in own]
        assert index.equals(pd.MultiIndex.from_tuples(rows, names=["who", "when"]))
        assert index.names == ["who", "when"]


def test_series_of_a_panel_end_when_they_end():
    y = pd.concat(
        {"a": pd.DataFrame({"y": wave()}), "b": pd.DataFrame({"y": wave(40)})}, names=["series", "time"]
    )
    forecaster = quick().fit(y)
    assert forecaster.predict(fh=[1]).index.tolist() == [("a", LENGTH), ("b", 40)]


def test_a_hierarchy():
    y = pd.concat({"north": instances(2), "south": instances(2)}, names=["region"])
    found = quick().fit(y).predict(fh=[1, 3])
    assert found.index.names == ["region", "series", "time"] and len(found) == 8


def test_what_is_known_of_the_future_helps():
    rng = np.random.default_rng(2)
    X = pd.DataFrame({"price": rng.normal(size=LENGTH + 4), "noise": rng.normal(size=LENGTH + 4)})
    y = pd.Series(wave() + 5 * X["price"].iloc[:LENGTH])
    forecaster = quick().fit(y, X=X.iloc[:LENGTH], fh=[1, 2, 3, 4])
    effect = forecaster.targets_[0].effect
    assert_allclose(effect.coef, [5.0, 0.0], atol=0.1)
    known = forecaster.predict(X=X.iloc[LENGTH:])
    assert_allclose(known, truth([1, 2, 3, 4]) + 5 * X["price"].iloc[LENGTH:], atol=0.5)
    # X that predict is not given is done without.
    alone = quick().fit(y, fh=[1, 2, 3, 4])
    assert_allclose(forecaster.predict(), alone.predict(), rtol=1e-9)


def test_variables_that_do_not_help_are_left_alone():
    X = pd.DataFrame({"noise": np.random.default_rng(3).normal(size=LENGTH + 2)})
    y = pd.Series(wave(noise=0.5))
    forecaster = quick().fit(y, X=X.iloc[:LENGTH])
    alone = quick().fit(y).predict(fh=[1, 2])
    assert forecaster.targets_[0].effect is None
    assert_allclose(forecaster.predict(fh=[1, 2], X=X.iloc[LENGTH:]), alone, rtol=1e-9)


@pytest.mark.parametrize("update_params", [True, False])
def test_update_goes_on_from_new_samples(update_params):
    whole = pd.Series(wave())
    forecaster = quick().fit(whole.iloc[:48], fh=[1, 2])
    before = forecaster.targets_[0].alone
    forecaster.update(whole.iloc[48:], update_params=update_params)
    assert (forecaster.targets_[0].alone is before) != update_params
    assert forecaster.cutoff[0] == LENGTH - 1
    found = forecaster.predict()
    assert_allclose(found, truth([1, 2]), atol=0.5)
    if update_params:
        assert_allclose(found, quick().fit(whole, fh=[1, 2]).predict(), rtol=1e-9)


def test_update_predict_walks_through_the_series():
    whole = pd.Series(wave())
    forecaster = quick().fit(whole.iloc[:48], fh=[1])
    found = forecaster.update_predict(
        whole.iloc[48:], cv=SlidingWindowSplitter(fh=[1], window_length=1), update_params=False
    )
    assert_allclose(found, whole.loc[found.index], atol=0.8)


needs_pretrain = pytest.mark.skipif(
    not hasattr(SSMFeaturesForecaster, "pretrain"), reason="this sktime has no pretrain"
)


@needs_pretrain
def test_a_pretrained_model_forecasts_series_that_it_has_not_seen(tmp_path):
    forecaster = quick(horizon=4).pretrain(instances(5))
    model = forecaster.pretrained_targets_[0].alone
    short = pd.Series(wave(20))
    copy = forecaster.clone().fit(short)
    assert copy.targets_[0].alone.weights.tolist() == model.weights.tolist()
    found = copy.predict(fh=[1, 2])
    assert_allclose(found, 10 + 2 * np.sin(2 * np.pi * (20 + np.arange(2)) / SP), atol=0.5)
    copy.update(pd.Series(wave()[20:24], index=np.arange(20, 24)))
    assert copy.targets_[0].alone.weights.tolist() == model.weights.tolist()
    copy.save(tmp_path / "model.safetensors")
    pd.testing.assert_series_equal(load(tmp_path / "model.safetensors").predict([1]), copy.predict([1]))


@needs_pretrain
def test_a_model_of_one_target_serves_several():
    forecaster = quick(horizon=4).pretrain(instances(5))
    y = pd.DataFrame({"a": wave(30), "b": 3 * wave(30, 5)})
    found = forecaster.clone().fit(y).predict([1, 2])
    for name in y:
        pd.testing.assert_series_equal(found[name], forecaster.clone().fit(y[name]).predict([1, 2]))
    assert len(forecaster.pretrained_targets_) == 1
    X = instances(5).rename(columns=str) * 0 + np.arange(len(instances(5)))[:, None] % 7
    effects = quick(horizon=4).pretrain(instances(5) + X.to_numpy(), X)
    assert effects.pretrained_targets_[0].effect is not None
    with pytest.raises(ValueError, match="X has 2 column.s., but this .* pretrained with 1"):
        effects.fit(y["a"], y)


def test_a_season_longer_than_every_series_is_none():
    y = pd.Series(wave(20))
    forecaster = quick(sp=50_000).fit(y, fh=[1])
    assert forecaster.targets_[0].alone.season == 1
    pd.testing.assert_series_equal(forecaster.predict(), quick(sp=1).fit(y, fh=[1]).predict())


# Panels


def panel(count=4, channels=2, times=True):
    series = [np.stack([wave(40 + i, i, seed=i), -wave(40 + i, i, seed=i)])[:channels] for i in range(count)]
    clocks = [7.0 + 0.5 * np.arange(40 + i) for i in range(count)]
    return Panel.from_arrays(series, clocks if times else None, time_unit="h" if times else None)


def test_a_panel_is_asked_at_times_ahead(tmp_path):
    X = panel()
    forecaster = quick().fit(X)
    found = forecaster.predict(X, [0.5, 0.75, 1.0, 30.0])
    assert isinstance(found, Panel) and found.lengths.tolist() == [4] * 4 and found.time_unit == "h"
    ends = X.times[X.offsets[1:] - 1]
    assert_allclose(found.times, np.repeat(ends, 4) + np.tile([0.5, 0.75, 1.0, 30.0], 4))
    values = found.values.reshape(4, 4, 2)
    expected = 10 + 2 * np.sin(2 * np.pi * (40 + 2 * np.arange(4)) / SP)  # one step ahead of the end
    assert_allclose(values[:, 0], np.stack([expected, -expected], axis=1), atol=0.5)
    assert_allclose(values[:, 1], (values[:, 0] + values[:, 2]) / 2, rtol=1e-5)
    quantiles = forecaster.predict_quantiles(X, [0.5, 1.0], [0.1, 0.9])
    assert quantiles.channel_names == ("0 0.1", "0 0.9", "1 0.1", "1 0.9")
    assert (quantiles.values[:, 0] < quantiles.values[:, 1]).all()
    forecaster.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").predict(X, [0.5, 0.75, 1.0, 30.0]) == found
    minutes = X.convert_times("min")
    again = forecaster.predict(minutes, [0.5])  # ahead in the unit of fit
    assert_allclose(again.values, found.values[::4], rtol=1e-6)


def test_a_panel_without_times_counts_samples():
    X = panel(times=False)
    found = quick().fit(X, fh=3).predict(X, [1, 2])
    assert found.times.tolist() == [v for n in X.lengths for v in (n, n + 1.0)]


def test_a_channel_without_values_has_no_forecast():
    X = panel()
    empty = X.values.copy()
    empty[: X.offsets[1], 1] = np.nan
    gone = Panel(empty, X.offsets, X.times, time_unit="h")
    found = quick().fit(gone).predict(gone, [0.5])
    assert np.isnan(found.values[0, 1]) and np.isfinite(np.delete(found.values.ravel(), 1)).all()


def test_times_may_differ_by_series():
    X = panel()
    forecaster = quick().fit(X)
    found = forecaster.predict(X, [[0.5], [0.5, 1.0], [1.0], [2.0]])
    assert found.lengths.tolist() == [1, 2, 1, 1]
    assert_allclose(found.values[1:3], forecaster.predict(X[1], [0.5, 1.0]).values, rtol=1e-6)


# Tools of both libraries


def test_differences_may_be_asked_for_by_the_time_ahead():
    y = pd.Series(wave(), index=INDICES["differences"])
    forecaster = quick().fit(y)
    found = forecaster.predict(fh=pd.to_timedelta([30, 60], unit="min"))
    pd.testing.assert_series_equal(
        found, forecaster.predict(fh=[1, 2]), check_freq=False, check_index_type=False
    )
    assert found.index[0] == y.index[-1] + pd.Timedelta("30min")


def test_pickles_from_before_a_parameter_was_added_have_its_default():
    forecaster = quick().fit(pd.Series(wave()), fh=[1, 2])
    state = dict(vars(forecaster))
    del state["loss"]
    old = object.__new__(SSMFeaturesForecaster)
    old.__setstate__(state)
    assert old.get_params() == forecaster.get_params()
    pd.testing.assert_series_equal(old.predict(), forecaster.predict())


def test_clones_and_repeated_fits_are_equal():
    y = pd.Series(wave())
    forecaster = quick().fit(y)
    again = clone(forecaster)
    assert not again.is_fitted
    assert_allclose(again.fit(y).predict([1, 2]), forecaster.predict([1, 2]), rtol=0)


def test_a_failed_fit_leaves_the_forecaster_as_it_was():
    forecaster = quick().fit(pd.Series(wave()))
    before = forecaster.predict([1, 2])
    with pytest.raises(ValueError, match="infinity"):
        forecaster.fit(pd.Series([1.0, np.inf, 2.0]))
    pd.testing.assert_series_equal(forecaster.predict([1, 2]), before)


@pytest.mark.parametrize("scaling", ["last", "mean", "robust", "none"])
@pytest.mark.parametrize("transform", ["none", "log"])
def test_every_scaling_and_transform_is_undone(scaling, transform):
    found = quick(scaling=scaling, transform=transform, lags=(3, 8)).fit(pd.Series(wave())).predict([1, 2, 3])
    assert_allclose(found, truth([1, 2, 3]), atol=0.5)


def test_a_season_is_taken_from_the_calendar():
    index = pd.date_range("2024-01-01", periods=14 * 24, freq="h")
    y = pd.Series(np.sin(2 * np.pi * index.hour / 24), index=index)
    forecaster = SSMFeaturesForecaster().fit(y)
    assert forecaster.targets_[0].alone.season == 24
    assert_allclose(forecaster.predict([6]), 1.0, atol=0.05)
