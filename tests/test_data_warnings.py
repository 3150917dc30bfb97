"""Warnings about data that are read as they are: each fires where it should, and clean data are silent."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from tsssm import (
    DataWarning,
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesRegressor,
    SSMRegressor,
    SSMSequenceClassifier,
    load,
)

NETWORK = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0, "n_features": 0}
ALONG = {key: value for key, value in NETWORK.items() if key != "n_features"}
FEATURES = {"n_features": 64, "n_scales": 2, "random_state": 0}
NAMES = ("HR", "Temp")


def panel_of(values, offsets, times, names=NAMES, unit="min"):
    return Panel(values, offsets, times=times, channel_names=names, time_unit=unit)


def vitals(seed=0, n=12, length=30, step=1.0, unit="min"):
    """Heart rates and temperatures at uneven times."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n * length, 2)) * [10.0, 0.5] + [80.0, 37.0]
    times = step * np.cumsum(rng.uniform(0.5, 1.5, size=(n, length)), axis=1)
    return panel_of(values, np.arange(n + 1) * length, times.ravel(), unit=unit)


def changed(panel, change):
    """The panel with other values."""
    values = panel.values.copy()
    change(values)
    return panel_of(values, panel.offsets, panel.times)


def fahrenheit(panel):
    def change(values):
        values[:, 1] = values[:, 1] * 9 / 5 + 32

    return changed(panel, change)


def without_temperature(panel):
    def change(values):
        values[:, 1] = np.nan

    return changed(panel, change)


def slower(panel, factor):
    return panel_of(panel.values, panel.offsets, panel.times * factor, unit=None)


@pytest.fixture(scope="module")
def rate():
    return np.arange(12.0)


@pytest.fixture(scope="module")
def fitted(rate):
    return SSMFeaturesRegressor(**FEATURES).fit(vitals(), rate)


def long_table(**series):
    rows = [
        {"id": name, "time": t, "variable": variable, "value": float(t)}
        for name, variables in series.items()
        for variable in variables
        for t in range(3)
    ]
    return pd.DataFrame(rows)


class TestVariables:
    def test_another_name_for_a_variable_is_told_and_the_nearest_named(self):
        table = long_table(a=["HeartRate", "Temp"])
        with pytest.warns(
            DataWarning, match=r"no variable 'Heart rate'.*most similar other name is 'HeartRate'"
        ) as caught:
            panel = Panel.from_long(table, variables=["Heart rate", "Temp"])
        assert caught[0].filename == __file__, "at the line of the user"
        assert np.isnan(panel.values[:, 0]).all()

    def test_all_of_another_kind(self):
        with pytest.warns(
            DataWarning, match=r"no variable 'x', nor 1 other\(s\).*Other variables are \['HR'\]"
        ):
            Panel.from_long(long_table(a=["HR"]), variables=["x", "yy"])

    def test_a_few_series_more_need_not_have_all(self):
        panel = Panel.from_long(long_table(a=["HR"]), variables=["HR", "Lactate"])
        assert panel.channel_names == ("HR", "Lactate")


class TestTraining:
    def test_a_channel_without_values(self):
        empty = without_temperature(vitals())
        with pytest.warns(DataWarning, match="no value in channel 'Temp'"):
            SSMFeatures(**FEATURES).fit(empty)

    def test_samples_before_channels(self):
        X = np.random.default_rng(0).normal(size=(6, 40, 2))  # 40 samples of 2 channels, as Keras has them
        with pytest.warns(
            DataWarning, match=r"shape \(6, 40, 2\): 40 channels of 2 sample.*transpose\(0, 2, 1\)"
        ):
            SSMFeatures(**FEATURES).fit(X)
        SSMFeatures(**FEATURES).fit(Panel.from_numpy(X))  # which leaves no doubt
        SSMFeatures(**FEATURES).fit(X.transpose(0, 2, 1))


class TestLater:
    def test_clean_data_are_silent(self, fitted):
        for seed in range(1, 6):
            fitted.predict(vitals(seed))
        fitted.predict(vitals(9, step=1 / 60, unit="h"))

    @pytest.mark.parametrize(
        ("model", "y"),
        [
            (SSMClassifier(**NETWORK), np.arange(12) % 2),
            (SSMRegressor(**NETWORK), np.arange(12.0)),
            (SSMSequenceClassifier(**ALONG), [np.arange(30) % 2] * 12),
        ],
        ids=["classifier", "regressor", "sequence"],
    )
    def test_another_unit_of_values(self, model, y):
        model.fit(vitals(), y)
        with pytest.warns(DataWarning, match=r"360 of the 360 of channel 'Temp' lie outside.*same unit"):
            model.predict(fahrenheit(vitals()))

    def test_one_absurd_value(self, fitted):
        def change(values):
            values[7, 0] = 1e12

        with pytest.warns(DataWarning, match="1 of the 360 of channel 'HR'"):
            fitted.predict(changed(vitals(1), change))

    def test_one_in_training_does_not_make_others_usual(self, rate):
        def change(values):
            values[7, 1] = 1e12

        model = SSMFeaturesRegressor(**FEATURES).fit(changed(vitals(), change), rate)
        with pytest.warns(DataWarning, match="360 of the 360 of channel 'Temp'"):
            model.predict(fahrenheit(vitals()))

    @pytest.mark.parametrize(
        ("factor", "told"),
        [(1000, "times as long as the longest"), (0.001, "less than 0.05 times the median")],
    )
    def test_another_unit_of_times(self, rate, factor, told):
        model = SSMFeaturesRegressor(**FEATURES).fit(slower(vitals(), 1), rate)
        with pytest.warns(DataWarning, match=f"348.* {told}"):
            model.predict(slower(vitals(1), factor))
        model.predict(slower(vitals(1), 3))

    def test_a_few_values_in_training_say_nothing(self, rate):
        X = np.zeros((4, 1, 4))
        X[:, 0, 0] = np.arange(4)
        SSMFeatures(**FEATURES).fit(X).transform(1000 * X)

    def test_more_training_makes_more_familiar(self):
        model = SSMRegressor(**NETWORK).fit(vitals(), np.arange(12.0))
        other = fahrenheit(vitals(1))
        with pytest.warns(DataWarning):
            model.partial_fit(other, np.arange(12.0))
        model.predict(other)

    def test_saved_with_the_model(self, fitted, tmp_path):
        fitted.save(tmp_path / "model.safetensors")
        again = load(tmp_path / "model.safetensors")
        with pytest.warns(DataWarning, match="lie outside"):
            again.predict(fahrenheit(vitals()))


class TestMissingChannels:
    @pytest.mark.parametrize(
        "model",
        [
            SSMFeaturesRegressor(**FEATURES, missing_channels="nan"),
            SSMRegressor(**NETWORK, missing_channels="nan"),
        ],
        ids=["features", "network"],
    )
    def test_as_missing_values(self, model, rate, tmp_path):
        model.fit(vitals(), rate)
        panel = vitals(1)
        expected = model.predict(without_temperature(panel))
        np.testing.assert_array_equal(model.predict(panel.select(["HR"])), expected)
        model.save(tmp_path / "model.safetensors")
        again = load(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(again.predict(panel.select(["HR"])), expected)

    def test_an_error_by_default_that_names_them(self, fitted):
        with pytest.raises(ValueError, match=r"1 channel\(s\).*it lacks \['Temp'\].*missing_channels='nan'"):
            fitted.predict(vitals(1).select(["HR"]))

    def test_others_are_an_error_in_any_case(self, rate):
        model = SSMFeaturesRegressor(**FEATURES, missing_channels="nan").fit(vitals(), rate)
        panel = vitals(1).select(["HR"])
        other = Panel(
            panel.values, panel.offsets, times=panel.times, channel_names=("SpO2",), time_unit="min"
        )
        with pytest.raises(ValueError, match=r"it lacks \['HR', 'Temp'\], unknown are \['SpO2'\]"):
            model.predict(other)
        with pytest.raises(ValueError, match="missing_channels must be one of 'error', 'nan'; got 'mean'"):
            SSMFeatures(**FEATURES, missing_channels="mean").fit(vitals())


def test_only_this_warning_is_silenced(fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        fitted.predict(fahrenheit(vitals()))
