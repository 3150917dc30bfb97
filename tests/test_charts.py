"""Charts: scores, features of every variable on its own clock, logistic regression, and the estimators."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.preprocessing import QuantileTransformer

from tsssm import (
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    Stream,
    load,
)
from tsssm.encoding import (
    ChartEncoder,
    Measurements,
    NormalScores,
    PanelEncoder,
    StaticScores,
    is_chart,
    scores_of,
)
from tsssm.estimators._recipes import dropout_of, fitted_encoder, recipe_of
from tsssm.features import ChartFeatures, StateSpaceFeatures, fit_logistic, predict_ridge
from tsssm.features._charts import CONSTANTS


def charts(n=40, seed=0, timed=True):
    """Stays of 1 to 25 samples: age, type of unit, then 4 variables that are rarely measured."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3 == 0
    lengths = rng.integers(1, 26, size=n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.normal(size=(offsets[-1], 6)) ** 3
    values[:, 2] += 2.0 * np.repeat(y, lengths)
    values[rng.uniform(size=values.shape) < 0.7] = np.nan
    values[:, :2] = np.repeat(np.column_stack([rng.normal(60, 9, n), rng.integers(1, 5, n)]), lengths, axis=0)
    values[offsets[5] : offsets[6], 0] = np.nan
    values[offsets[7] : offsets[8], 2:] = np.nan
    times = np.concatenate([np.sort(rng.uniform(3, 51, size=length)) for length in lengths])
    return Panel(values, offsets, times if timed else None, time_unit="h" if timed else None), y


@pytest.fixture
def panel():
    return charts()[0]


# What is a chart


def test_a_chart_is_told_from_series_with_gaps(panel):
    assert is_chart(panel)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10, 3, 40))
    assert not is_chart(Panel.from_numpy(X))
    X[rng.uniform(size=X.shape) < 0.4] = np.nan
    assert not is_chart(Panel.from_numpy(X))  # most is there
    X[:, :, 20:] = np.nan
    assert not is_chart(Panel.from_numpy(X))  # what is missing altogether does not count
    apart = rng.normal(size=(10, 4, 100))
    apart[:, ::2, ::2] = apart[:, 1::2, 1::2] = np.nan
    assert not is_chart(Panel.from_numpy(apart))  # 50 values of each
    assert is_chart(Panel.from_numpy(apart[:, :, :20]))
    assert not is_chart(Panel.from_numpy(apart[:, :3, :20]))
    assert not is_chart(panel.select([0, 1, 2, 3, 4]))  # three variables


def test_features_of_series_that_are_no_charts_are_as_they_were():
    X = np.random.default_rng(0).normal(size=(12, 2, 30))
    auto, named = (
        SSMFeatures(n_features=384, random_state=0, pooling=pooling).fit(X)
        for pooling in ("auto", ("ppv", "competition"))
    )
    assert type(auto.features_) is StateSpaceFeatures
    np.testing.assert_array_equal(auto.transform(X), named.transform(X))


# Scores


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.exponential(size=300), np.repeat([0.5, 1.0], 50)])
    panel = Panel(np.stack([values, -values], axis=1), [0, 150, 400])
    measured = Measurements.of(panel, np.arange(2))
    scores = NormalScores().fit(measured).transform(measured)
    reference = QuantileTransformer(n_quantiles=400, output_distribution="normal", subsample=None)
    expected = np.clip(reference.fit_transform(panel.values.astype(np.float64)), -3, 3)
    rows = np.argsort(measured.series * 2 + measured.channel, kind="stable")
    assert (rows == np.arange(len(rows))).all()
    found = np.concatenate([scores[measured.channel == 0], scores[measured.channel == 1]])
    np.testing.assert_allclose(found, np.concatenate(expected.T), atol=0.1)
    # Equal values have the middle of their shares.
    share = (np.mean(values < 1.0) + np.mean(values <= 1.0)) / 2
    tied = found[:400][values == 1.0]
    assert np.ptp(tied) == 0
    np.testing.assert_allclose(expit(1.702 * tied[0]), share, atol=0.02)


def test_scores_know_no_extremes():
    knots = np.array([1.0, 2.0, 3.0])
    assert scores_of(np.array([-1e300, 1e300]), knots).tolist() == [-3.0, 3.0]
    assert scores_of(np.array([2.0]), knots).tolist() == [0.0]
    assert scores_of(np.array([5.0, 7.0]), np.full(3, 5.0)).tolist() == [0.0, 0.0]


def test_static_channels_are_found_with_their_categories(panel):
    static = StaticScores().fit(panel)
    assert static.channels.tolist() == [0, 1]
    assert [values.tolist() for values in static.categories] == [[], [1.0, 2.0, 3.0, 4.0]]
    numbers = static.transform(panel)
    assert numbers.shape == (40, 6) and numbers[5, 0] == 0.0
    unit = panel.values[panel.offsets[:-1], 1]
    np.testing.assert_array_equal(numbers[:, 2:], unit[:, None] == [1, 2, 3, 4])
    assert static.names(list("abcdef"))[:3] == ["a_value", "b_value", "b_is_1"]
    other = Panel(np.tile([[50.0, 9.0]], (3, 1)), [0, 3])
    assert static.transform(other)[0, 2:].tolist() == [0.0] * 4  # a unit that training never saw


# Features


def features_by_hand(features, panel, row, channel):
    """Recency-weighted statistics of one channel of one series, measurement by measurement."""
    series = panel[row]
    samples = [
        (t, float(scores_of(np.array([v]), features.scores.knots[channel])[0]))
        for t, v in zip(series.times, series.values[:, features.channels[channel]].astype(float), strict=True)
        if not np.isnan(v)
    ]
    begin, end, D = series.times[0], series.times[-1], features.duration
    if not samples:
        return features.missing_features()
    t, z = np.array(samples).T
    recent, shares, soft, change = [], [], [], []
    for constant in CONSTANTS:
        w = np.exp(-(end - t) / (constant * D))
        mean = np.average(z, weights=w)
        recent += [np.log(w.sum() + 0.01), mean, np.sqrt(np.average((z - mean) ** 2, weights=w))]
        shares += [np.average(z > level, weights=w) for level in (-1.7, -1.0, 1.0, 1.7)]
        soft += [np.log(np.sum(w * np.exp(s * z))) / s for s in (-8.0, 8.0)]
        change.append(mean)
    u = (t - begin) / D
    slope = np.mean((u - u.mean()) * (z - z.mean())) / (u.var() + (2 / 48) ** 2)
    rest = [z[0], z[-1], z.min(), z.max(), np.log1p(48 * (end - t[-1]) / D), slope]
    return np.array([*recent, *shares, *soft, change[0] - change[2], change[1] - change[2], *rest])


def test_features_are_those_of_a_loop_over_measurements(panel):
    features = ChartFeatures().fit(panel)
    raw = features._raw(panel)
    size = len(features.missing_features())
    table = raw[:, : 4 * size].reshape(len(panel), 4, size)
    for row in range(len(panel)):
        for channel in range(4):
            expected = features_by_hand(features, panel, row, channel)
            np.testing.assert_allclose(table[row, channel], expected, rtol=1e-9, atol=2e-7)
    values = features.transform(panel)
    assert values.shape == (40, features.n_features_out) == (40, len(features.names()))
    assert np.isfinite(values).all() and np.abs(values).max() <= 4.0
    assert np.abs(values.mean(axis=0)).max() < 0.3


def test_features_do_not_depend_on_other_series_or_on_the_unit_of_time(panel):
    features = ChartFeatures().fit(panel)
    whole = features.transform(panel)
    np.testing.assert_allclose(features.transform(panel[[9, 3]]), whole[[9, 3]], rtol=1e-6)
    np.testing.assert_allclose(features.transform(panel.convert_times("min")), whole, rtol=1e-5, atol=1e-6)
    minutes = ChartFeatures().fit(panel.convert_times("min"))
    np.testing.assert_allclose(minutes.transform(panel), whole, rtol=1e-5, atol=1e-6)


def test_hostile_charts_have_finite_features(panel):
    features = ChartFeatures().fit(panel)
    values = np.full((4, 6), np.nan)
    values[1, 2], values[3, 3] = 3e38, -3e38
    hostile = Panel(values, [0, 1, 4], [0.0, 0.0, 1.0, 1e200], time_unit="h")
    assert np.isfinite(features.transform(hostile)).all()
    assert np.isfinite(ChartFeatures().fit(hostile).transform(hostile)).all()
    empty = np.full((5, 3), np.nan)
    empty[0] = 1.0
    assert np.isfinite(ChartFeatures().fit(Panel(empty, [0, 2, 5])).transform(Panel(empty, [0, 2, 5]))).all()


# The logistic regression


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)])
def test_the_logistic_regression_is_that_of_a_general_minimiser(shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape).astype(np.float32)
    sign = np.where(rng.uniform(size=shape[0]) < expit(2 * X[:, 0] - 1), 1.0, -1.0)
    weight = rng.uniform(0.5, 2.0, size=shape[0])
    weight /= weight.mean()
    found = fit_logistic(X, sign[:, None], weight)

    def fitted(rows):
        def loss(b):
            odds = X[rows] @ b[1:] + b[0]
            return weight[rows] @ np.logaddexp(0, -sign[rows] * odds) + found.alpha * b[1:] @ b[1:] / 2

        return minimize(loss, np.zeros(shape[1] + 1), method="BFGS", options={"gtol": 1e-7}).x

    everyone = np.arange(shape[0])
    expected = fitted(everyone)
    np.testing.assert_allclose(2 * found.coef[:, 0], expected[1:], atol=2e-3)
    np.testing.assert_allclose(2 * found.intercept[0], expected[0], atol=2e-3)
    for row in range(0, shape[0], 10):
        b = fitted(np.delete(everyone, row))
        np.testing.assert_allclose(2 * found.left_out[row, 0], X[row] @ b[1:] + b[0], atol=0.08)


def test_many_directions_are_cut_to_those_of_large_variance(monkeypatch):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(80, 60)) * np.append(np.ones(12), np.full(48, 1e-4))).astype(np.float32)
    sign = np.where(X[:, :1] + 0.3 * rng.normal(size=(80, 1)) > 0, 1.0, -1.0)
    whole = fit_logistic(X, sign, np.ones(80))
    for rows in (slice(None), slice(50)):
        monkeypatch.setattr("tsssm.features._logistic._DIRECTIONS", 60)
        whole = fit_logistic(X[rows], sign[rows], np.ones(len(X[rows])))
        monkeypatch.setattr("tsssm.features._logistic._DIRECTIONS", 12)
        cut = fit_logistic(X[rows], sign[rows], np.ones(len(X[rows])))
        parts = (whole.coef, whole.intercept), (cut.coef, cut.intercept)
        np.testing.assert_allclose(*(predict_ridge(X, *part) for part in parts), atol=1e-2)


@pytest.mark.parametrize("positive", [0, 1, 30])
def test_the_logistic_regression_survives_rare_and_separated_classes(positive):
    X = np.linspace(-1, 1, 30, dtype=np.float32)[:, None]
    sign = np.where(np.arange(30) >= 30 - positive, 1.0, -1.0)[:, None]
    found = fit_logistic(X, sign, np.ones(30))
    assert all(np.isfinite(part).all() for part in found)
    rows = np.arange(30) < 15
    separated = fit_logistic(X, np.where(rows, 1.0, -1.0)[:, None], np.ones(30))
    assert ((predict_ridge(X, separated.coef, separated.intercept)[:, 0] > 0) == rows).all()


# Estimators


def test_estimators_take_charts_as_they_come(tmp_path):
    panel, y = charts(60)
    clf = SSMFeaturesClassifier(random_state=0).fit(panel, y)
    assert type(clf.features_) is ChartFeatures and clf.coef_.shape == (clf.features_.n_features_out, 1)
    risk = clf.predict_proba(panel)[:, 1]
    assert risk[y].mean() > risk[~y].mean() + 0.2 and abs(risk.mean() - y.mean()) < 0.05
    clf.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict_proba(panel)[:, 1], risk)
    reg = SSMFeaturesRegressor(random_state=0).fit(panel, y.astype(float))
    assert np.corrcoef(reg.predict(panel), y)[0, 1] > 0.5
    several = np.stack([y, np.arange(60) % 4 == 0], axis=1).astype(int)
    assert len(SSMFeaturesClassifier(random_state=0).fit(panel, several).predict_proba(panel)) == 2
    three = SSMFeaturesClassifier(random_state=0).fit(panel, np.arange(60) % 3)
    np.testing.assert_allclose(three.predict_proba(panel).sum(axis=1), 1.0)
    plain = SSMFeatures(pooling="charts").fit(panel)
    assert plain.transform(panel).shape == (60, len(plain.get_feature_names_out()))


@pytest.mark.parametrize("timed", [True, False])
def test_a_stream_of_charts_ends_in_what_the_whole_gives(timed):
    panel, y = charts(30, timed=timed)
    clf = SSMFeaturesClassifier(pooling="charts", random_state=0).fit(panel, y)
    expected = clf.predict_proba(panel)
    for row in (0, 7, 11):
        stream, series = Stream(clf), panel[row]
        for k in range(len(series.values)):
            answer = stream.push(series.values[k], None if series.times is None else series.times[k])
        np.testing.assert_allclose(np.ravel(answer), expected[row], atol=1e-6)


# What networks read


def encoded_by_hand(encoder, panel, row):
    """Inputs of one series, span by span."""
    series, c = panel[row], len(encoder.channels)
    span = ((series.times - series.times[0]) / encoder.span).astype(int)
    values = series.values[:, encoder.channels].astype(float)
    static = encoder.static.transform(series)[0]
    rows, gaps, before = [], [], None
    carried, when = np.zeros(c), np.zeros(c)
    for number in sorted(set(span[~np.isnan(values).all(axis=1)])) or [0]:
        seen = np.zeros(c)
        for j in range(c):
            found = values[span == number, j]
            found = found[~np.isnan(found)]
            if len(found):
                seen[j], when[j] = 1, number
                carried[j] = scores_of(found, encoder.scores.knots[j]).mean()
        rows.append(np.concatenate([static, carried, carried * np.exp(-(number - when) / 6), seen]))
        gaps.append(1.0 if before is None else number - before)
        before = number
    return np.array(rows), np.array(gaps)


def test_a_network_reads_every_variable_on_its_own_clock(panel):
    encoder = ChartEncoder().fit(panel)
    encoded = encoder.encode(panel)
    assert encoded.u.shape[1] == encoder.n_inputs == 6 + 3 * 4 and len(encoded) == len(panel)
    for row in range(len(panel)):
        samples = slice(encoded.offsets[row], encoded.offsets[row + 1])
        u, dt = encoded_by_hand(encoder, panel, row)
        np.testing.assert_allclose(encoded.u[samples], u, atol=1e-6)
        np.testing.assert_allclose(encoded.dt[samples], dt, rtol=1e-6)
    minutes = encoder.encode(panel.convert_times("min"))
    np.testing.assert_allclose(minutes.u, encoded.u, atol=1e-5)
    hours = ChartEncoder(2.0).fit(panel).encode(panel)
    np.testing.assert_allclose(hours.dt[1:3] / encoded.dt[1:3], encoder.span / 2, rtol=1e-5)


def test_hostile_charts_have_finite_inputs(panel):
    values = np.full((4, 6), np.nan)
    values[1, 2], values[3, 3] = 3e38, -3e38
    hostile = Panel(values, [0, 1, 4], [0.0, 0.0, 1.0, 1e200], time_unit="h")
    for fitted in (ChartEncoder().fit(panel), ChartEncoder().fit(hostile)):
        encoded = fitted.encode(hostile)
        assert np.isfinite(encoded.u.numpy()).all() and np.isfinite(encoded.dt.numpy()).all()
        assert len(encoded) == 2


@pytest.mark.parametrize("timed", [True, False])
def test_a_network_on_charts_is_blended_and_saved(timed, tmp_path):
    panel, y = charts(60, timed=timed)
    clf = SSMClassifier(d_model=4, d_state=4, n_members=2, max_steps=6, random_state=0).fit(panel, y)
    assert type(clf.encoder_) is ChartEncoder and type(clf.closed_form_.features) is ChartFeatures
    assert [len(net.blocks) for net in clf.net_.members] == [1, 1] and clf.net_.members[0].pooling == "last"
    risk = clf.predict_proba(panel)
    clf.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict_proba(panel), risk)
    np.testing.assert_allclose(clf.predict_proba(panel[[11]]), risk[[11]], atol=1e-6)
    reg = SSMRegressor(d_model=4, d_state=4, n_members=2, max_steps=6, random_state=0).fit(panel, y * 2.0)
    assert np.isfinite(reg.predict(panel)).all()


def test_networks_of_other_series_know_nothing_of_charts():
    """Their inputs, layers and training are those of the time before there were recipes of charts."""
    rng = np.random.default_rng(0)
    padded = rng.normal(size=(8, 5, 12))
    padded[::2, :, 7:] = np.nan
    for X in (rng.normal(size=(8, 3, 30)), padded):
        encoder = fitted_encoder(Panel.from_numpy(X), "median", "auto", whole=True)
        assert type(encoder) is PanelEncoder and dropout_of(encoder) is None
        assert recipe_of(encoder, SSMClassifier()) == (4, 0.1, "mean", 0.01, 0.1, 64)


def test_a_network_that_streams_reads_every_sample_of_a_chart():
    panel, y = charts(30)
    clf = SSMClassifier(d_model=4, d_state=4, max_steps=4, bidirectional=False, random_state=0).fit(panel, y)
    assert type(clf.encoder_) is PanelEncoder and len(clf.net_.blocks) == 4
