"""Displays: what is drawn (lines, labels, units) against the numbers that it stands for."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier, SSMRegressor  # noqa: E402
from tsssm.plotting import (  # noqa: E402
    ImpulseResponseDisplay,
    PanelDisplay,
    PredictionDisplay,
    TimescaleDisplay,
    TrainingDisplay,
)


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def panel():
    """Twelve series of two named channels, in hours, a fifth of the values missing."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 15, size=12)
    values = rng.normal(size=(lengths.sum(), 2))
    values[rng.random(values.shape) < 0.2] = np.nan
    times = np.concatenate([np.cumsum(rng.exponential(size=n)) for n in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Panel(values, offsets, times, ["HR", "Temp"], ids=[f"p{i}" for i in range(12)], time_unit="h")


@pytest.fixture(scope="module")
def clf(panel):
    options = {"n_layers": 2, "d_model": 8, "d_state": 4, "max_epochs": 3, "random_state": 0}
    y = np.repeat(["sick", "well"], 6)
    return SSMClassifier(bidirectional=False, early_stopping=True, validation_fraction=0.3, **options).fit(
        panel, y
    )


def drawn(axes):
    return [line.get_xydata() for line in axes.lines]


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


class TestPanel:
    def test_lines_are_the_measured_values(self, panel):
        display = PanelDisplay.from_panel(panel, series=[0, 3])
        assert [axes.get_ylabel() for axes in display.axes_] == ["HR", "Temp"]
        assert display.axes_[-1].get_xlabel() == "time (h)" and texts(display.axes_[0]) == ["p0", "p3"]
        for channel, axes in enumerate(display.axes_):
            for row, line in zip((0, 3), drawn(axes), strict=True):
                known = ~np.isnan(panel[row].values[:, channel])
                np.testing.assert_array_equal(line[:, 0], panel[row].times[known])
                np.testing.assert_array_equal(line[:, 1], panel[row].values[known, channel])
        assert display.panel == panel[[0, 3]]

    def test_a_raster_has_a_mark_for_each_measured_value(self, panel):
        display = PanelDisplay.from_panel(panel, series=[1, 2], kind="raster")
        (axes,) = display.axes_
        named = [tick.get_text() for tick in axes.get_yticklabels()]
        assert named == ["p1, HR", "p1, Temp", "p2, HR", "p2, Temp"]
        assert sum(map(len, drawn(axes))) == np.count_nonzero(~np.isnan(display.panel.values))

    def test_arrays_without_times_count_samples(self):
        display = PanelDisplay.from_panel(np.zeros((5, 1, 7)), channels=[0])
        (axes,) = display.axes_
        assert len(drawn(axes)) == 3 and axes.get_xlabel() == "sample" and axes.get_ylabel() == "channel 0"
        np.testing.assert_array_equal(drawn(axes)[0][:, 0], np.arange(7))

    def test_axes_of_the_caller(self, panel):
        figure, axes = plt.subplots(2, 1)
        assert PanelDisplay.from_panel(panel, ax=axes).figure_ is figure
        with pytest.raises(ValueError, match="ax must hold 2 axes, one for each row that is drawn; got 1"):
            PanelDisplay.from_panel(panel, ax=axes[0])

    def test_what_is_refused(self, panel):
        with pytest.raises(ValueError, match="kind must be one of 'lines', 'raster'; got 'bars'"):
            PanelDisplay.from_panel(panel, kind="bars")
        with pytest.raises(IndexError, match="series=12 is out of range for 12"):
            PanelDisplay.from_panel(panel, series=12)
        with pytest.raises(KeyError, match="no channel 'hr'.*Did you mean 'HR'"):
            PanelDisplay.from_panel(panel, channels="hr")


class TestNetworks:
    def test_learning_curve(self, clf):
        display = TrainingDisplay.from_estimator(clf, label="a")
        loss, validation, best = drawn(display.ax_)
        np.testing.assert_array_equal(loss, np.column_stack([[1, 2, 3], clf.loss_curve_]))
        np.testing.assert_array_equal(validation[:, 1], -np.array(clf.validation_scores_))
        assert best.tolist() == [[display.best_epoch, -clf.best_validation_score_]]
        assert texts(display.ax_) == ["a, training", "a, validation", "a, best"]
        alone = TrainingDisplay([2.0, 1.0]).plot(ax=display.ax_)
        assert alone.best_epoch is None and len(drawn(display.ax_)) == 4
        assert TrainingDisplay([1.0], [np.nan]).plot().best_epoch is None

    def test_timescales_are_those_of_the_layers(self, clf):
        display = TimescaleDisplay.from_estimator(clf)
        assert display.unit == "h" and "(h)" in display.ax_.get_ylabel()
        for layer, found in zip(clf.net_.blocks, display.timescales, strict=True):
            delta = np.exp(layer.layer.log_dt.detach().numpy())
            np.testing.assert_allclose(found, clf.time_scale_ / delta, rtol=1e-5)
        (low, high), config = display.initial[0], clf.net_.config
        assert low == pytest.approx(clf.time_scale_ / np.max(config["dt_max"]))
        assert high == pytest.approx(clf.time_scale_ / np.min(config["dt_min"]))
        ends = np.concatenate([line[:, 1] for line in drawn(display.ax_)])
        assert ends.min() == pytest.approx(min(map(np.min, display.timescales)))

    def test_all_networks_of_a_committee(self):
        X, y = np.random.default_rng(0).normal(size=(12, 1, 20)), np.arange(12.0)
        options = {"n_layers": 2, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
        reg = SSMRegressor(n_members=2, n_features=384, **options).fit(X, y)
        first, second = reg.net_.members
        for number, found in enumerate(TimescaleDisplay.from_estimator(reg).timescales):
            deltas = [torch.exp(net.blocks[number].layer.log_dt).detach() for net in (first, second)]
            np.testing.assert_allclose(found, 1 / torch.cat(deltas).numpy(), rtol=1e-5)
        assert len(TrainingDisplay.from_estimator(reg).loss) == reg.n_iter_

    @pytest.mark.parametrize("backbone", ["s4d", "s5", "lssl"])
    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_impulse_responses_are_answers_of_the_layer(self, backbone, bidirectional):
        options = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 1, "random_state": 0}
        options |= {"n_members": 1, "n_features": 0}
        X, y = np.random.default_rng(0).normal(size=(8, 1, 20)), np.arange(8.0)
        reg = SSMRegressor(backbone=backbone, bidirectional=bidirectional, **options).fit(X, y)
        display = ImpulseResponseDisplay.from_estimator(reg, channels=[2, 0], length=10)
        layer = reg.net_.blocks[0].layer
        assert display.unit == "samples" and display.time[-1] == 9
        assert display.time[0] == (-10 if bidirectional else 0)
        assert len(drawn(display.ax_)) == 2
        if backbone == "s4d":
            kernel = layer.kernel(10).detach().numpy()  # (directions, lags, channels)
            after = display.responses[:, -9:]
            np.testing.assert_allclose(after, kernel[0, 1:, [2, 0]], atol=1e-5)
        assert ImpulseResponseDisplay.from_estimator(reg).responses.shape[0] == 4
        with pytest.raises(IndexError, match="layer=1 is out of range for 1"):
            ImpulseResponseDisplay.from_estimator(reg, layer=1)

    @pytest.mark.parametrize("display", [TrainingDisplay, TimescaleDisplay, ImpulseResponseDisplay])
    def test_what_has_no_network_is_named(self, display):
        with pytest.raises(TypeError, match=f"{display.__name__} is for estimators that train a network"):
            display.from_estimator(SSMFeaturesClassifier())
        with pytest.raises(ValueError, match="not been fitted"):
            display.from_estimator(SSMClassifier())


def test_predictions_while_a_series_comes_in(panel, clf):
    display = PredictionDisplay.from_estimator(clf, panel[4])
    assert [axes.get_ylabel() for axes in display.axes_] == ["HR", "Temp", "probability"]
    assert display.axes_[-1].get_xlabel() == "time (h)" and texts(display.axes_[-1]) == ["sick", "well"]
    np.testing.assert_allclose(display.answers[-1], clf.predict_proba(panel[4])[0], atol=1e-5)
    for line, answer in zip(drawn(display.axes_[-1]), display.answers.T, strict=True):
        np.testing.assert_array_equal(line, np.column_stack([panel[4].times, answer]))
    with pytest.raises(ValueError, match="X must hold one series; got 2"):
        PredictionDisplay.from_estimator(clf, panel[:2])


def test_without_matplotlib_the_extra_is_named(monkeypatch, panel):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'tsssm\[plot\]'"):
        PanelDisplay.from_panel(panel)
