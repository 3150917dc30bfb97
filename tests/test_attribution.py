"""Attributions against brute force, what they must sum to, and what they must find."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tsssm import (
    DataWarning,
    Panel,
    SSMClassifier,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    SSMSequenceClassifier,
    SSMSequenceRegressor,
)
from tsssm.datasets import make_icu
from tsssm.inspection import attribute, feature_contributions

pytest.importorskip("captum")

TINY = {"n_layers": 1, "d_model": 8, "d_state": 4, "random_state": 0}
ALONE = {**TINY, "n_members": 1, "n_features": 0}


class Linear(nn.Module):
    """The sum of all inputs, each with a weight of its own: attributions are known in closed form."""

    def __init__(self, d_in):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(1000, d_in, generator=generator) / 100)

    def forward(self, u, dt=None):
        answer = (u * self.weight[: u.shape[1]]).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(answer), answer], dim=1)


def irregular(n=12, missing=0.3, seed=0, channels=2):
    """Ragged series at irregular times, some of their values missing, one sample missing altogether."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 15, size=n)
    values = rng.normal(size=(lengths.sum(), channels))
    values[rng.random(values.shape) < missing] = np.nan
    if missing:
        values[3] = np.nan
    times = np.concatenate([np.cumsum(rng.exponential(size=k)) for k in lengths])
    names = ["HR", "Temp", "Lactate", "WBC"][:channels]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Panel(values, offsets, times, names, ids=[f"p{i}" for i in range(n)], time_unit="h")


def log_odds(estimator, X):
    p = np.asarray(estimator.predict_proba(X))
    return np.log(p[:, 1] / p[:, 0])


def sums(attribution):
    total = attribution.values.values.astype(np.float64) + attribution.missing.values
    return np.add.reduceat(total.sum(axis=1), attribution.panel.offsets[:-1])


@pytest.fixture(scope="module")
def panel():
    return irregular()


@pytest.fixture(scope="module")
def clf(panel):
    return SSMClassifier(**ALONE, max_epochs=10).fit(panel, np.arange(12) % 2)


@pytest.fixture(scope="module")
def icu():
    data = make_icu(60, random_state=0)
    return data.data, data.target


@pytest.fixture(scope="module")
def chart_clf(icu):
    return SSMClassifier(**ALONE, max_epochs=5).fit(*icu)


@pytest.fixture(scope="module")
def planted():
    """Two classes that differ in the second of three channels, from sample 8 to 12."""
    X, y = np.random.default_rng(0).normal(size=(60, 3, 24)), np.arange(60) % 2
    X[y == 1, 1, 8:13] += 2.0
    return X, y, SSMClassifier(**ALONE, max_epochs=30).fit(X, y)


class TestCompleteness:
    @pytest.mark.parametrize("with_background", [False, True])
    def test_integrated_gradients_sum_to_the_answer(self, clf, panel, with_background):
        few = panel[:2]
        found = attribute(clf, few, background=panel if with_background else None)
        assert found.method == "integrated_gradients" and found.quantity == "log-odds of 1"
        np.testing.assert_allclose(found.output, log_odds(clf, few), atol=1e-5)
        np.testing.assert_allclose(found.delta, 0.0, atol=1e-5)
        np.testing.assert_allclose(sums(found), found.output - found.baseline, atol=1e-4)

    @pytest.mark.parametrize("backbone", ["liquid-s4", pytest.param("lssl", marks=pytest.mark.slow)])
    def test_every_kind_of_layer(self, backbone, panel):
        clf = SSMClassifier(**ALONE, backbone=backbone, max_steps=3).fit(panel, np.arange(12) % 2)
        assert np.abs(attribute(clf, panel[:2], background=panel).delta).max() < 1e-3

    def test_charts(self, chart_clf, icu):
        found = attribute(chart_clf, icu[0][:2], background=icu[0])
        np.testing.assert_allclose(found.output, log_odds(chart_clf, icu[0][:2]), atol=1e-5)
        np.testing.assert_allclose(sums(found), found.output - found.baseline, atol=1e-4)

    def test_a_wild_network_takes_more_points(self, clf, panel):
        wild = copy.copy(clf)
        wild.net_ = copy.deepcopy(clf.net_)
        with torch.no_grad():
            wild.net_.encoder.weight *= 30.0
        few, more = attribute(wild, panel[:2], n_steps=4), attribute(wild, panel[:2])
        change = np.abs(more.output - more.baseline)
        assert np.abs(few.delta).max() > 1e-2
        assert (np.abs(more.delta) < 1e-3 * (change + 1.0)).all()

    def test_networks_with_a_closed_form_beside_them(self, icu):
        X, y = icu
        clf = SSMClassifier(**TINY, n_members=2, max_steps=3).fit(X, y)
        found = attribute(clf, X[:2], n_permutations=2, spans=3)
        assert found.method == "shapley" and not found.missing.values.any()
        np.testing.assert_allclose(found.output, log_odds(clf, X[:2]), atol=1e-5)
        np.testing.assert_allclose(found.delta, 0.0, atol=1e-6)  # float32
        with pytest.raises(ValueError, match="A closed form has no gradients: use method='shapley'"):
            attribute(clf, X, method="integrated_gradients")


class TestBruteForce:
    """With a linear network, setting a value to the baseline changes the answer by its attribution."""

    def changed(self, estimator, panel, row, channel, value):
        values = panel.values.copy()
        values[row, channel] = value
        other = Panel(values, panel.offsets, panel.times, panel.channel_names, time_unit="h")
        return (log_odds(estimator, panel) - log_odds(estimator, other)).sum()

    def with_linear_network(self, estimator):
        estimator = copy.copy(estimator)
        estimator.net_ = Linear(estimator.encoder_.n_inputs)
        return estimator

    def test_series(self, clf, panel):
        model = self.with_linear_network(clf)
        found = attribute(model, panel)
        for row, channel in np.argwhere(~np.isnan(panel.values))[::7]:
            expected = self.changed(model, panel, row, channel, clf.encoder_.mean[channel])
            assert found.values.values[row, channel] == pytest.approx(expected, abs=1e-5)
        never = np.isnan(panel.values)
        assert (found.values.values[never] == 0).all()
        assert not found.missing.values[3].any()  # a sample that is missing altogether is none
        # At the first sample nothing has been missing for any time yet, as in the baseline.
        never[panel.offsets[:-1]] = False
        assert (found.missing.values[never & ~never.all(axis=1, keepdims=True)] != 0).all()

    def test_charts(self, chart_clf, icu):
        panel, encoder = icu[0][:6], chart_clf.encoder_
        model = self.with_linear_network(chart_clf)
        found = attribute(model, panel)
        medians = encoder.scores.knots[:, encoder.scores.knots.shape[1] // 2]
        rng = np.random.default_rng(0)
        for number, channel in enumerate(encoder.channels):
            row = rng.choice(np.flatnonzero(~np.isnan(panel.values[:, channel])))
            expected = self.changed(model, panel, row, channel, medians[number])
            assert found.values.values[row, channel] == pytest.approx(expected, abs=1e-5)
        ages = found.by_channel()["Age"]
        older = Panel(
            np.where(np.arange(9) == 0, medians[0] * 0 + encoder.static.knots[0, 256], panel.values),
            panel.offsets,
            panel.times,
            panel.channel_names,
            time_unit="h",
        )
        np.testing.assert_allclose(ages, log_odds(model, panel) - log_odds(model, older), atol=1e-5)

    def test_a_chart_without_some_channels_against_a_background(self, chart_clf, icu):
        model, panel = self.with_linear_network(chart_clf), icu[0][:3]
        values = panel.values.copy()
        values[:, [0, 6]] = np.nan  # neither age nor lactate, and of the last patient nothing at all
        values[panel.offsets[2] :] = np.nan
        sparse = Panel(values, panel.offsets, panel.times, panel.channel_names, time_unit="h")
        found = attribute(model, sparse, background=icu[0])
        np.testing.assert_allclose(sums(found), found.output - found.baseline, atol=1e-4)
        assert not found.values.values[:, [0, 6]].any()
        absent = np.add.reduceat(found.missing.values[:, [0, 6]], panel.offsets[:-1])
        assert (absent != 0).all()

    def test_what_is_carried_on_counts_where_it_was_measured(self):
        whole = irregular(missing=0.0)
        clf = SSMClassifier(**ALONE, max_epochs=1).fit(whole, np.arange(12) % 2)
        model, values = self.with_linear_network(clf), whole[:1].values.copy()
        values[:2, 0] = np.nan
        values[4:, 0] = np.nan
        one = Panel(values, whole[:1].offsets, whole[:1].times, whole.channel_names, time_unit="h")
        found = attribute(model, one)
        assert set(np.flatnonzero(found.values.values[:, 0])) == {2, 3} and not found.missing.values.any()
        for row in (2, 3):
            expected = self.changed(model, one, row, 0, clf.encoder_.mean[0])
            assert found.values.values[row, 0] == pytest.approx(expected, abs=1e-5)
        against = attribute(model, one, background=whole)
        assert against.missing.values[:2, 0].all() and not against.missing.values[2:].any()
        np.testing.assert_allclose(sums(against), against.output - against.baseline, atol=1e-5)

    def test_occlusion_asks_again(self, clf, panel):
        one, spans = panel[2:3], [0.0, 2.0, 4.0, 100.0]
        found = attribute(clf, one, method="occlusion", spans=spans)
        numbers = np.searchsorted(spans, one.times, side="right") - 1
        for k in range(3):
            for channel in range(2):
                cell = (numbers == k) & ~np.isnan(one.values[:, channel])
                got = found.values.values[cell, channel].sum()
                expected = self.changed(clf, one, cell, channel, np.nan)
                assert got == pytest.approx(expected, abs=1e-5)
        assert not found.missing.values.any()
        values = np.where([False, True], np.nan, one.values)  # of a channel without any value
        never = Panel(values, one.offsets, one.times, one.channel_names, time_unit="h")
        absent = attribute(clf, never, method="occlusion", spans=spans)
        expected = self.changed(clf, never, len(values) // 2, 1, clf.encoder_.mean[1])
        assert absent.missing.values[:, 1].sum() == pytest.approx(expected, abs=1e-5)
        assert absent.delta == pytest.approx(absent.output - absent.baseline - absent.values.values.sum())
        table = found.by_span(spans)
        assert table.columns.tolist() == spans[:-1] and table.index.names == ["id", "channel"]
        assert table.to_numpy().sum() == pytest.approx(sums(found)[0], abs=1e-5)

    def test_what_is_taken_out_is_no_reason_to_warn(self):
        rng = np.random.default_rng(0)
        times, values = np.cumsum(rng.exponential(size=(6, 200)), axis=1), rng.normal(size=(6, 1, 200))
        values[:, :, ::9] = np.nan
        panel = Panel.from_numpy(values, times)
        clf = SSMClassifier(**ALONE, max_steps=1).fit(panel, np.arange(6) % 2)
        with pytest.warns(DataWarning):  # the same as a series of its own
            clf.predict(Panel.from_numpy(values[:1, :, [1, 2, 197]], times[:1, [1, 2, 197]]))
        attribute(clf, panel[0], method="occlusion", spans=[0.0, times[0, 3], times[0, 195], 1e3])

    def test_shapley_values_are_means_over_orders(self, clf, panel):
        one = panel[2:3]
        found = attribute(clf, one, method="shapley", spans=1, n_permutations=2)
        # Two players: each added first, and each added last.
        nothing, first, second = (
            log_odds(clf, Panel(np.where(kept, one.values, np.nan), one.offsets, one.times, time_unit="h"))[0]
            for kept in ([False, False], [True, False], [False, True])
        )
        both = log_odds(clf, one)[0]
        expected = np.array([first - nothing + both - second, second - nothing + both - first]) / 2
        np.testing.assert_allclose(found.by_channel().to_numpy()[0], expected, atol=1e-5)
        assert found.baseline[0] == pytest.approx(nothing, abs=1e-5)
        again = attribute(clf, one, method="shapley", spans=1, n_permutations=2)
        np.testing.assert_array_equal(found.values.values, again.values.values)


class TestSanity:
    @pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "shapley"])
    def test_a_planted_signal_is_found(self, planted, method):
        X, y, clf = planted
        options = {"spans": [0, 8, 13, 24], "n_permutations": 4}
        found = attribute(clf, X[:4], method=method, **options)
        size = np.abs(found.by_span(options["spans"]).groupby("channel").mean())
        assert size.to_numpy().argmax() == 4  # the second channel, the second span
        assert size.loc[1, 8] > 0.4 * size.to_numpy().sum()
        assert found.summary().index[0] == 1

    def test_another_model_has_other_attributions(self, planted):
        X, _, clf = planted
        other = copy.copy(clf)
        other.net_ = copy.deepcopy(clf.net_)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in (*other.net_.encoder.parameters(), *other.net_.head.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        ours, theirs = (np.abs(attribute(one, X[:4]).values.to_numpy()) for one in (clf, other))
        there, elsewhere = (part[:, 1, 8:13].sum() / part.sum() for part in (ours, theirs))
        assert there > 2 * elsewhere

    def test_padding_and_other_series_change_nothing(self, clf, panel):
        found = attribute(clf, panel[:3])
        for i in (0, 2):
            alone = attribute(clf, panel[i])
            part = slice(panel.offsets[i], panel.offsets[i + 1])
            np.testing.assert_allclose(found.values.values[part], alone.values.values, atol=1e-6)
            np.testing.assert_allclose(found.missing.values[part], alone.missing.values, atol=1e-6)
        X = np.random.default_rng(0).normal(size=(6, 2, 9))
        flat = SSMClassifier(**ALONE, max_epochs=2).fit(X, np.arange(6) % 2)
        padded = np.concatenate([X, np.full((6, 2, 4), np.nan)], axis=2)
        plain, longer = attribute(flat, X[:2]), attribute(flat, padded[:2])
        by_series = longer.values.to_numpy()
        np.testing.assert_allclose(by_series[:, :, :9], plain.values.to_numpy(), atol=1e-6)
        assert not by_series[:, :, 9:].any() and not longer.missing.values.any()


@pytest.fixture(scope="module")
def steps():
    X = np.random.default_rng(0).normal(size=(8, 2, 20))
    return X, (np.cumsum(X[:, 0], axis=1) > 0).astype(int)


class TestAlongTime:
    def test_the_future_has_no_part_in_an_answer(self, steps):
        X, y = steps
        clf = SSMSequenceClassifier(**TINY, lookahead=0, max_steps=20).fit(X, y)
        for method in ("auto", "occlusion", "shapley"):
            found = attribute(clf, X[:1], time=9, method=method, spans=20, n_permutations=1)
            arrays = found.values.to_numpy()
            assert np.abs(arrays[:, :, 10:]).max() < 1e-6 and (np.abs(arrays[:, :, :10]) > 1e-6).all()
            p = clf.predict_proba(X[:1], times=[9])[:, 0]
            np.testing.assert_allclose(found.output, np.log(p[:, 1] / p[:, 0]), atol=1e-5)
        assert np.abs(attribute(clf, X[:3], time=[3, 9, 19]).delta).max() < 1e-4
        last = attribute(clf, X[:1])
        np.testing.assert_allclose(last.output, attribute(clf, X[:1], time=19).output)
        with pytest.raises(ValueError, match="time must be one for all series, or one for each of the 3"):
            attribute(clf, X[:3], time=[1, 2])

    def test_a_regressor_in_units_of_y(self, steps):
        X, _ = steps
        reg = SSMSequenceRegressor(**TINY, max_steps=5).fit(X, 100.0 * np.cumsum(X[:, 0], axis=1))
        found = attribute(reg, X[:2], time=[4, 12])
        expected = [reg.predict(X[:2])[i, t] for i, t in enumerate((4, 12))]
        np.testing.assert_allclose(found.output, expected, rtol=1e-4)
        np.testing.assert_allclose(sums(found), found.output - found.baseline, rtol=1e-3, atol=0.1)

    def test_before_the_first_value(self, steps):
        X, y = steps
        clf = SSMSequenceClassifier(**TINY, lookahead=0, max_steps=2).fit(X, y)
        late = X[:1].copy()
        late[:, :, :5] = np.nan
        found = attribute(clf, late, time=2)
        assert not found.values.values.any() and found.output == found.baseline


class TestTargets:
    def test_quantiles_and_columns(self):
        X, y = np.random.default_rng(0).normal(size=(12, 1, 9)), np.arange(12.0)
        reg = SSMRegressor(**ALONE, loss="quantile", max_steps=2).fit(X, np.stack([y, -y], axis=1))
        low, high = (attribute(reg, X[:2], target=1, quantile=q) for q in (0.1, 0.9))
        assert high.quantity == "prediction of 1, quantile 0.9" and (low.output <= high.output).all()
        middle = attribute(reg, X[:2], target=0)
        np.testing.assert_allclose(middle.output, reg.predict(X[:2])[:, 0], rtol=1e-5)
        with pytest.raises(ValueError, match="y had 2 columns: target must name one of them"):
            attribute(reg, X)
        with pytest.raises(ValueError, match="quantile must be a trained level.*it has"):
            attribute(reg, X, target=0, quantile=0.3)

    def test_one_of_three_classes_against_the_others(self, labelled):
        X, y = labelled
        clf = SSMClassifier(**ALONE, max_steps=3).fit(X, y)
        p = clf.predict_proba(X[:2])[:, 2]
        found = attribute(clf, X[:2], target="mid")
        np.testing.assert_allclose(found.output, np.log(p / (1 - p)), atol=1e-5)
        with pytest.raises(
            ValueError, match="target must be one of the classes 'high', 'low', 'mid'; got None"
        ):
            attribute(clf, X)

    def test_several_columns_of_classes(self, labelled):
        X, y = labelled
        Y = pd.DataFrame({"level": y, "odd": np.arange(24) % 2})
        clf = SSMClassifier(**ALONE, max_steps=3).fit(X, Y)
        p = clf.predict_proba(X[:2])[1]
        found = attribute(clf, X[:2], target=("odd", 1))
        np.testing.assert_allclose(found.output, np.log(p[:, 1] / p[:, 0]), atol=1e-5)
        with pytest.raises(ValueError, match=r"target must be a pair \(column, class\)"):
            attribute(clf, X, target=1)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"method": "lime"}, "method must be one of 'auto'"),
            ({"spans": 0, "method": "occlusion"}, "spans must be at least 1"),
            ({"spans": [3, 2], "method": "occlusion"}, "edges of spans must be two or more"),
            ({"n_steps": 0}, "n_steps must be an integer of at least 1; got 0"),
            ({"time": 3.0}, "time must be None, except for SSMSequence"),
            ({"quantile": 0.5}, "quantile must be None"),
            ({"target": 2}, "target must be one of the classes 0, 1; got 2"),
            ({"background": irregular(3), "method": "shapley"}, "background needs method"),
        ],
    )
    def test_what_is_refused(self, clf, panel, options, message):
        with pytest.raises(ValueError, match=message):
            attribute(clf, panel, **options)

    def test_which_estimators(self, panel):
        with pytest.raises(ValueError, match="not been fitted"):
            attribute(SSMClassifier(), panel)
        with pytest.raises(TypeError, match="estimator must be one of SSMClassifier, .*; got int"):
            attribute(3, panel)

    def test_without_captum_the_extra_is_named(self, clf, panel, monkeypatch):
        monkeypatch.setitem(sys.modules, "captum.attr", None)
        with pytest.raises(ImportError, match=r"pip install 'tsssm\[explain\]'"):
            attribute(clf, panel)


def test_tables(clf, panel):
    panel = panel[:2]
    found = attribute(clf, panel)
    table = found.to_frame()
    assert list(table) == ["id", "time", "channel", "measured", "value", "missing"]
    measured = table.dropna()
    assert len(measured) == np.count_nonzero(~np.isnan(panel.values))
    assert (table.loc[table["measured"].isna(), "missing"] != 0).all()
    by_id = table.groupby("id", sort=False)[["value", "missing"]].sum().sum(axis=1)
    np.testing.assert_allclose(by_id, found.output - found.baseline, atol=1e-4)
    np.testing.assert_allclose(found.by_channel().sum(axis=1), by_id, atol=1e-6)
    assert found.by_span(4).shape == (4, 4) and found.by_channel().index.tolist() == panel.ids.tolist()
    assert set(found.summary().index) == {"HR", "Temp"} and found.values.time_unit == "h"


@pytest.fixture(scope="module")
def model():
    X, y = np.random.default_rng(0).normal(size=(24, 2, 20)), np.arange(24) % 3
    return X, SSMFeaturesClassifier(n_features=768, n_scales=4, random_state=0).fit(X, y)


class TestLinear:
    def test_contributions_sum_to_the_answer(self, model):
        X, clf = model
        for background in (None, X):
            opened = feature_contributions(clf, X, target=2, background=background)
            np.testing.assert_allclose(opened.delta, 0.0, atol=1e-9)
            expected = clf._targets.slopes[0] * clf.decision_function(X)[:, 2]
            np.testing.assert_allclose(opened.output, expected)
            for what in ("system", "timescale", "pooling", "channel", ["timescale", "pooling"]):
                sums = opened.by(what).sum(axis=1)
                np.testing.assert_allclose(sums, opened.output - opened.baseline, atol=1e-9)
        assert opened.quantity == "decision value of 2"
        assert opened.baseline[0] == pytest.approx(opened.output.mean())
        assert opened.by("timescale").shape == (24, 4)
        assert set(opened.by("pooling")) == {"low", "high", "max", "min"}
        with pytest.raises(ValueError, match="what must be 'channel', or of 'system'"):
            opened.by("readout")

    def test_timescales_are_those_of_the_systems(self, model):
        features = model[1].features_
        A = features._systems["A"].numpy()  # decays are drawn around 4.5 over the timescale
        found = -A.real.mean(axis=1) * features.timescales()
        assert (found > 2.5).all() and (found < 8).all()

    def test_shares_of_channels_are_those_of_the_mixtures(self, model):
        features, opened = model[1].features_, feature_contributions(model[1], model[0][:1], target=0)
        mix = np.abs(features._systems["mix_u"].numpy()) + np.abs(features._systems["mix_held"].numpy())
        np.testing.assert_allclose(opened.shares.sum(axis=1), 1.0)
        assert ((features.shares() > 0) == (mix > 0)).all()

    def test_of_charts_each_channel_has_its_own(self, icu):
        X, y = icu
        clf = SSMFeaturesClassifier(random_state=0).fit(X, y)
        opened = feature_contributions(clf, X[:4])
        np.testing.assert_allclose(opened.output, log_odds(clf, X[:4]), atol=1e-6)
        np.testing.assert_allclose(opened.by("channel").sum(axis=1), opened.output - opened.baseline)
        values = X[:4].values.copy()
        values[:, 2] = np.where(np.isnan(values[:, 2]), np.nan, 120.0)
        other = Panel(values, X[:4].offsets, X[:4].times, X.channel_names, time_unit="h")
        apart = (
            (opened.by("channel").to_numpy() - feature_contributions(clf, other).by("channel")).abs().max()
        )
        assert apart["SBP"] > 1e-3 and apart.drop("SBP").max() < 1e-12
        constants = opened.features.set_index("name")["timescale"]
        duration = clf.features_.duration
        assert constants["channel1_mean0"] == 0.125 * duration and np.isinf(constants["channel1_std2"])
        assert np.isnan(constants["channel1_first"]) and np.isnan(constants["duration"])

    def test_a_regressor_and_occlusion_in_time(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(40, 1, 30))
        y = X[:, 0, 10:20].mean(axis=1)
        reg = SSMFeaturesRegressor(n_features=384, n_scales=4, random_state=0).fit(X, y)
        opened = feature_contributions(reg, X[:3], background=X)
        np.testing.assert_allclose(opened.output, reg.predict(X[:3]))
        found = attribute(reg, X[:3], method="occlusion", spans=3)
        np.testing.assert_allclose(found.output, reg.predict(X[:3]))
        assert attribute(reg, X[:1], n_permutations=2).delta == pytest.approx(0, abs=1e-6)
