"""Displays: what is drawn (lines, labels, units) against the numbers that it stands for."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import RocCurveDisplay, roc_auc_score

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from tsssm import (  # noqa: E402
    Panel,
    SSMClassifier,
    SSMFeaturesClassifier,
    SSMFeaturesForecaster,
    SSMRegressor,
)
from tsssm.plotting import (  # noqa: E402
    AttributionDisplay,
    ForecastDisplay,
    ImpulseResponseDisplay,
    PanelDisplay,
    PoleDisplay,
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
        for number, (start, end) in enumerate(zip(display.before, display.timescales, strict=True)):
            *lines, before, after = drawn(display.ax_)[10 * number : 10 * number + 10]
            assert len(lines) == 8 and (before[:, 0] < after[:, 0]).all()
            np.testing.assert_array_equal(before[:, 1], start)
            np.testing.assert_array_equal(after[:, 1], end)
            assert (start >= low * 0.999).all() and (start <= high * 1.001).all()
            # Three epochs at a rate of 0.001 a step move no timescale far.
            assert np.abs(np.log(end / start)).max() < 0.02
        assert texts(display.ax_) == ["range before training", "before training", "after training"]
        boxes = TimescaleDisplay(display.timescales, display.initial, "h").plot()
        ends = np.concatenate([line[:, 1] for line in drawn(boxes.ax_)])
        assert ends.min() == pytest.approx(min(map(np.min, display.timescales)))

    def test_timescales_leave_axes_beside_theirs_as_wide(self, clf):
        figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        for ax in axes[1:]:
            TimescaleDisplay.from_estimator(clf, ax=ax)
        figure.canvas.draw()
        widths = [ax.get_window_extent().width for ax in axes]
        assert min(widths) > 0.9 * max(widths) > 0.2 * figure.bbox.width
        for ax in axes[1:]:
            legend = ax.get_legend().get_window_extent()
            assert legend.x0 >= ax.get_window_extent().x0 and legend.x1 <= ax.get_window_extent().x1

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

    @pytest.mark.parametrize("backbone", ["s4d", "s4", "linoss", "lssl"])
    def test_poles_are_those_of_a_step(self, panel, backbone):
        """A step without input multiplies a mode by a function of its pole, which is undone here."""
        options = {"n_layers": 1, "d_model": 3, "d_state": 4, "max_steps": 1, "random_state": 0}
        clf = SSMClassifier(n_members=1, n_features=0, backbone=backbone, **options)
        clf.fit(panel, np.arange(12) % 2)
        display = PoleDisplay.from_estimator(clf)
        layer = clf.net_.blocks[0].layer.double()
        layer.bidirectional = False
        found = poles_by_stepping(layer) / clf.time_scale_
        found = found[found.imag > -1e-9]
        assert len(display.poles) == len(found)
        for pole in display.poles:
            assert np.abs(found - pole).min() < 1e-4 * abs(pole)
        (dots,) = drawn(display.ax_)
        np.testing.assert_array_equal(dots, np.column_stack([display.decay_times, display.frequencies]))
        np.testing.assert_allclose(display.decay_times, -1 / display.poles.real)
        np.testing.assert_allclose(2 * np.pi * display.frequencies, np.abs(display.poles.imag))
        assert display.ax_.get_xlabel() == "memory −1/Re s (h)"
        assert display.ax_.get_ylabel() == "frequency |Im s|/2π (cycles / h)"

    @pytest.mark.parametrize(
        "display", [TrainingDisplay, TimescaleDisplay, ImpulseResponseDisplay, PoleDisplay]
    )
    def test_what_has_no_network_is_named(self, display):
        with pytest.raises(TypeError, match=f"{display.__name__} is for estimators that train a network"):
            display.from_estimator(SSMFeaturesClassifier())
        with pytest.raises(ValueError, match="not been fitted"):
            display.from_estimator(SSMClassifier())


def poles_by_stepping(layer):
    """Eigenvalues of the system of a layer, from steps of real unit states without input."""
    zero = layer.initial_state(1)
    start = zero if isinstance(zero, torch.Tensor) else zero.x
    complex_modes = start.is_complex()
    flat = torch.view_as_real(start).flatten() if complex_modes else start.flatten()
    columns = []
    for unit in torch.eye(len(flat), dtype=torch.float64):
        x = torch.view_as_complex(unit.view(*start.shape, 2)) if complex_modes else unit.view(start.shape)
        state = x if isinstance(zero, torch.Tensor) else zero._replace(x=x)
        _, after = layer.step(
            torch.zeros(1, layer.d_model, dtype=torch.float64), state, torch.ones(1).double()
        )
        after = after if isinstance(zero, torch.Tensor) else after.x
        columns.append((torch.view_as_real(after) if complex_modes else after).flatten())
    grown = np.linalg.eigvals(torch.stack(columns, dim=1).detach().numpy())
    alpha = getattr(layer, "alpha", None)
    return np.log(grown) if alpha is None else (grown - 1) / (1 - alpha + alpha * grown)


class TestAttribution:
    pytestmark = pytest.mark.filterwarnings("error")

    @pytest.fixture(autouse=True)
    def captum(self):
        pytest.importorskip("captum")

    def test_strips_are_the_attributions_of_spans(self, panel, clf):
        options = {"n_features": 0, "n_members": 1, "n_layers": 1, "d_model": 8, "d_state": 4}
        net = SSMClassifier(**options, max_epochs=3, random_state=0).fit(
            panel, np.repeat(["sick", "well"], 6)
        )
        display = AttributionDisplay.from_estimator(net, panel[2], spans=[0, 2, 4, 20], background=panel)
        found = display.attribution
        assert display.table.shape == (2, 3) and display.edges.tolist() == [0, 2, 4, 20]
        np.testing.assert_allclose(display.table.sum(axis=1).abs().is_monotonic_decreasing, True)
        total = display.table.to_numpy().sum()
        assert total == pytest.approx(found.output[0] - found.baseline[0], abs=1e-4)
        for axes, (name, row) in zip(display.axes_, display.table.iterrows(), strict=True):
            (strip,) = axes.collections
            np.testing.assert_array_equal(strip.get_array().ravel(), row)
            assert axes.get_ylabel() == f"{name}\n{row.sum():+.2f}"
            signal = panel[2].select(name)
            known = ~np.isnan(signal.values[:, 0])
            np.testing.assert_array_equal(
                drawn(axes)[0], np.column_stack([signal.times[known], signal.values[known, 0]])
            )
            low, high = axes.get_ylim()
            assert low < np.nanmin(signal.values) and high > np.nanmax(signal.values)
        assert display.axes_[0].get_title().startswith("log-odds of well: ")
        assert display.axes_[-1].get_xlabel() == "time (h)"
        assert display.figure_.axes[-1].get_ylabel() == "added to the log-odds of well"
        one = AttributionDisplay(found, 5, channels="Temp").plot()
        assert one.table.shape == (1, 5) and one.edges[-1] == panel[2].times[-1]
        with pytest.raises(ValueError, match="attribution must be of one series; got 2"):
            AttributionDisplay.from_estimator(net, panel[:2])
        with pytest.raises(IndexError, match="channels=2 is out of range for 2"):
            AttributionDisplay(found, channels=[2])

    def test_attributions_of_spans(self, panel):
        X = np.random.default_rng(0).normal(size=(12, 1, 20))
        clf = SSMFeaturesClassifier(n_features=384, random_state=0).fit(X, np.arange(12) % 2)
        display = AttributionDisplay.from_estimator(clf, X[:1], n_permutations=1)
        assert display.table.shape == (1, 12) and display.axes_[0].get_xlabel() == "sample"
        assert display.axes_[0].get_ylabel().startswith("channel 0\n")


class TestForecast:
    def test_a_series(self):
        index = pd.period_range("2020-01", periods=48, freq="M")
        y = pd.Series(10 + np.sin(np.arange(48) * np.pi / 6), index=index, name="beds")
        forecaster = SSMFeaturesForecaster(sp=12).fit(y[:42])
        options = {"fh": range(1, 7), "coverage": 0.9, "actual": y[42:]}
        display = ForecastDisplay.from_estimator(forecaster, y[:42], last=24, **options)
        history, forecast, actual = drawn(display.ax_)
        np.testing.assert_array_equal(history[:, 1], y[18:42])
        np.testing.assert_array_equal(forecast[:, 1], forecaster.predict(fh=range(1, 7)))
        np.testing.assert_array_equal(actual[:, 1], y[42:])
        assert texts(display.ax_) == ["history", "forecast", "90 % interval", "what came"]
        assert (display.ax_.get_ylabel(), display.ax_.get_xlabel()) == ("beds", "time")
        interval = forecaster.predict_interval(range(1, 7), coverage=0.9).to_numpy()
        np.testing.assert_array_equal(display.forecast[["lower", "upper"]], interval)
        (band,) = display.ax_.collections
        ends = band.get_paths()[0].vertices[:, 1]
        assert (ends.min(), ends.max()) == pytest.approx((interval.min(), interval.max()))
        with pytest.raises(ValueError, match="coverage must be between 0 and 1; got 90"):
            ForecastDisplay.from_estimator(forecaster, y, coverage=90)
        with pytest.raises(TypeError, match="must be a Series, a DataFrame or a Panel; got list"):
            ForecastDisplay.from_estimator(forecaster, [1.0], fh=1)

    def test_a_series_of_a_panel(self):
        times = np.tile(np.arange(30.0), 4)
        values = np.sin(times / 3)[:, None] * [1.0, 2.0]
        panel = Panel(values, np.arange(5) * 30, times, ["HR", "Temp"], time_unit="h")
        forecaster = SSMFeaturesForecaster().fit(panel, fh=4)
        display = ForecastDisplay.from_estimator(forecaster, panel[1], [1.0, 2.5, 4.0], column="Temp")
        history, forecast = drawn(display.ax_)
        np.testing.assert_array_equal(history, np.column_stack([times[:30], panel[1].values[:, 1]]))
        assert forecast[:, 0].tolist() == [30.0, 31.5, 33.0]
        point = forecaster.predict(panel[1], [1.0, 2.5, 4.0])
        np.testing.assert_array_equal(forecast[:, 1], point.values[:, 1])
        quantiles = forecaster.predict_quantiles(panel[1], [1.0, 2.5, 4.0], [0.1, 0.9])
        np.testing.assert_array_equal(display.forecast[["lower", "upper"]], quantiles.values[:, 2:])
        assert (display.ax_.get_ylabel(), display.ax_.get_xlabel()) == ("Temp", "time (h)")
        with pytest.raises(ValueError, match="y must hold one series; got 4"):
            ForecastDisplay.from_estimator(forecaster, panel, [1.0])
        with pytest.raises(ValueError, match=r"column must be one of \['HR', 'Temp'\]; got 'SpO2'"):
            ForecastDisplay.from_estimator(forecaster, panel[1], [1.0], column="SpO2")


def test_displays_of_scikit_learn_take_our_estimators(panel, clf):
    y = np.repeat(["sick", "well"], 6)
    curve = RocCurveDisplay.from_estimator(clf, panel, y, pos_label="well")
    expected = roc_auc_score(y == "well", clf.predict_proba(panel)[:, 1])
    assert curve.roc_auc == pytest.approx(expected)
    reliability = CalibrationDisplay.from_estimator(clf, panel, y, n_bins=3, pos_label="well")
    np.testing.assert_array_equal(reliability.y_prob, clf.predict_proba(panel)[:, 1])
    assert len(reliability.line_.get_xdata()) <= 3


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
