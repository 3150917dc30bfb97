from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tsssm import Panel, SSMClassifier
from tsssm.inspection import channel_importance, span_importance
from tsssm.panel import as_panel


class Known(RegressorMixin, BaseEstimator):
    """Predicts the mean of one channel, and keeps what it was asked about."""

    def __init__(self, channel=0):
        self.channel = channel

    def fit(self, X, y):
        self.fitted_ = True
        self.seen_ = []
        return self

    def predict(self, X):
        self.seen_.append(X)
        panel = as_panel(X)
        return np.add.reduceat(panel.values[:, self.channel], panel.offsets[:-1]) / panel.lengths


error = make_scorer(mean_absolute_error, greater_is_better=False)


@pytest.fixture
def ragged():
    rng = np.random.default_rng(0)
    lengths = [3, 5, 2, 4]
    series = [rng.normal(size=(2, n)) for n in lengths]
    times = [np.cumsum(rng.uniform(1, 2, size=n)) for n in lengths]
    return Panel.from_arrays(series, times)


def test_the_importance_of_a_channel_is_known(ragged):
    # The estimator knows channel 1 alone: its error after an exchange is the difference of two means.
    est = Known(1).fit(None, None)
    target = est.predict(ragged)
    result = channel_importance(est, ragged, target, scoring=error, n_repeats=3, random_state=0)
    rng = np.random.RandomState(0)
    values = ragged.values[:, 1].astype(np.float64)
    expected = []
    for _ in range(3):
        donors = rng.permutation(4)
        means = [
            np.resize(values[ragged.offsets[j] : ragged.offsets[j + 1]], ragged.lengths[i]).mean()
            for i, j in enumerate(donors)
        ]
        expected.append(np.abs(means - target).mean())
    np.testing.assert_array_equal(result.importances[0], 0.0)
    np.testing.assert_allclose(result.importances[1], expected, rtol=1e-5)  # float32
    np.testing.assert_allclose(result.importances_mean, [0.0, np.mean(expected)], rtol=1e-5)
    np.testing.assert_allclose(result.importances_std, [0.0, np.std(expected)], rtol=1e-5)
    assert result.channel_names == [0, 1]


def test_times_and_other_channels_stay(ragged):
    est = Known().fit(None, None)
    channel_importance(est, ragged, np.zeros(4), scoring=error, n_repeats=2, random_state=1)
    baseline, *exchanged = est.seen_
    assert baseline is ragged and len(exchanged) == 4
    for k, panel in enumerate(exchanged):
        changed, kept = (0, 1) if k < 2 else (1, 0)
        np.testing.assert_array_equal(panel.times, ragged.times)
        np.testing.assert_array_equal(panel.values[:, kept], ragged.values[:, kept])
        assert not np.array_equal(panel.values[:, changed], ragged.values[:, changed])


def test_an_array_stays_an_array_and_is_permuted_as_it_is():
    X = np.random.default_rng(0).normal(size=(5, 2, 4))
    before = X.copy()
    est = Known().fit(None, None)
    channel_importance(est, X, np.zeros(5), scoring=error, n_repeats=1, random_state=0)
    donors = np.random.RandomState(0).permutation(5)
    _, first, second = est.seen_
    np.testing.assert_array_equal(first, np.stack([X[donors, 0], X[:, 1]], axis=1))
    np.testing.assert_array_equal(second, np.stack([X[:, 0], X[donors, 1]], axis=1))
    np.testing.assert_array_equal(X, before)
    timed = channel_importance(est, Panel.from_numpy(X), np.zeros(5), scoring=error, random_state=0)
    plain = channel_importance(est, X, np.zeros(5), scoring=error, random_state=0)
    np.testing.assert_allclose(timed.importances, plain.importances, rtol=1e-5)


def test_an_index_that_counts_is_read_as_the_estimator_reads_it(tiny):
    rng = np.random.default_rng(0)
    stretched = [pd.DataFrame(rng.normal(size=(9, 2)), index=np.arange(9) * 3.0) for _ in range(8)]
    counting = [frame.set_axis(np.arange(9), axis=0) for frame in stretched]
    y = np.arange(8) % 2
    clf = SSMClassifier(**tiny).fit(stretched, y)
    given = Panel.from_arrays([f.to_numpy().T for f in counting], [f.index.to_numpy(float) for f in counting])
    by_frames, by_panel = (
        channel_importance(clf, X, y, scoring="neg_log_loss", n_repeats=2, random_state=0)
        for X in (counting, given)
    )
    assert by_panel.importances.any()
    np.testing.assert_array_equal(by_frames.importances, by_panel.importances)


def test_the_channel_that_tells_the_classes_apart_is_found(tiny):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3, 12)), np.resize(["a", "b"], 60)
    X[y == "b", 2] += 2.0
    frames = [pd.DataFrame(x.T, columns=["hr", "rr", "spo2"]) for x in X]
    clf = SSMClassifier(**{**tiny, "max_epochs": 30}).fit(frames[:30], y[:30])
    result = channel_importance(clf, frames[30:], y[30:], n_repeats=10, random_state=0)
    assert result.channel_names == ["hr", "rr", "spo2"]
    assert result.importances_mean[2] > 0.35 and np.abs(result.importances_mean[:2]).max() < 0.1
    again = channel_importance(clf, frames[30:], y[30:], n_repeats=10, random_state=0)
    np.testing.assert_array_equal(result.importances, again.importances)
    pipe = make_pipeline(FunctionTransformer(np.tanh), SSMClassifier(**tiny)).fit(X, y)
    assert channel_importance(pipe, X, y, scoring="neg_log_loss").importances.shape == (3, 5)


@pytest.mark.parametrize("n_repeats", [0, 2.0, True])
def test_a_bad_number_of_repeats_is_named(ragged, n_repeats):
    with pytest.raises(ValueError, match="n_repeats"):
        channel_importance(Known().fit(None, None), ragged, np.zeros(4), n_repeats=n_repeats)


def test_bad_arguments_are_refused(ragged, tiny):
    with pytest.raises(NotFittedError):
        channel_importance(SSMClassifier(**tiny), ragged, np.zeros(4))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[4, 3\]"):
        channel_importance(Known().fit(None, None), ragged, np.zeros(3))


def test_the_importance_of_a_span_is_known():
    # The estimator knows the mean of a series: an exchange of a span changes it by that of the difference.
    X = np.random.default_rng(0).normal(size=(5, 1, 12))
    est = Known().fit(None, None)
    result = span_importance(
        est, X, X[:, 0].mean(axis=1), [0, 3, 12], scoring=error, n_repeats=2, random_state=0
    )
    rng = np.random.RandomState(0)
    for repeat in range(2):
        donors = rng.permutation(5)
        for k, part in enumerate((slice(0, 3), slice(3, 12))):
            change = (X[donors, 0, part] - X[:, 0, part]).sum(axis=1) / 12
            assert result.importances[k, repeat] == pytest.approx(np.abs(change).mean(), rel=1e-5)
    assert result.edges.tolist() == [0, 3, 12] and result.importances_mean.shape == (2,)


def test_samples_of_a_span_come_from_the_same_span(ragged):
    est = Known().fit(None, None)
    result = span_importance(est, ragged, np.zeros(4), 2, scoring=error, n_repeats=1, random_state=1)
    donors = np.random.RandomState(1).permutation(4)
    _, first, second = est.seen_
    np.testing.assert_array_equal(result.edges, [0.0, 0.5, 1.0])
    for panel, early in ((first, True), (second, False)):
        np.testing.assert_array_equal(panel.times, ragged.times)
        for i, donor in enumerate(donors):
            here, there = ((part[i].times, part[i].values) for part in (panel, ragged))
            given = ragged[donor]
            inside, within = (
                ((time - time[0]) / np.ptp(time) < 0.5) == early for time in (here[0], given.times)
            )
            np.testing.assert_array_equal(here[1][~inside], there[1][~inside])
            expected = np.resize(given.values[within], (inside.sum(), 2))
            np.testing.assert_array_equal(here[1][inside], expected)


def test_the_span_that_tells_the_classes_apart_is_found(tiny):
    X, y = np.random.default_rng(0).normal(size=(60, 1, 12)), np.arange(60) % 2
    X[y == 1, 0, 6:9] += 3.0
    clf = SSMClassifier(**{**tiny, "max_epochs": 30}).fit(X[:30], y[:30])
    result = span_importance(clf, X[30:], y[30:], 4, n_repeats=5, random_state=0)
    assert result.importances_mean.argmax() == 2
    with pytest.raises(ValueError, match="n_repeats must be"):
        span_importance(clf, X, y, n_repeats=0)
    with pytest.raises(TypeError, match="spans must be a number of spans"):
        span_importance(clf, X, y, "all")
