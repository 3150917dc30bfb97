"""A stream of closed-form features is, after every sample, what the batch makes of the series so far."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from tsssm import Panel, SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor, Stream

N, LENGTH = 12, 24
SMALL = {"n_features": 256, "n_scales": 4, "random_state": 0, "normalize": "global"}
# float32 sums of up to some hundred shares; a readout beyond a threshold for one of them and not for the
# other would show as a hundredth.
TOLERANCE = 5e-6
LABELS = np.tile(["a", "b", "c"], N // 3)


def recordings(times: str, missing: str, channels: int = 3) -> Panel:
    """Series of unequal length: samples on a grid or in time, with values that are missing or not."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(LENGTH // 2, LENGTH, size=N)
    values = [rng.normal(size=(channels, n)).cumsum(axis=1) + 2.0 for n in lengths]
    for i, series in enumerate(values):
        if missing != "no":
            series[:, rng.random(series.shape[1]) < 0.2] = np.nan  # samples without any value
        if missing == "some":
            series[rng.random(series.shape) < 0.4] = np.nan
        if missing == "much":
            series[:2, 3:-3] = np.nan
        if missing != "no" and i % 2 == 0:
            series[:, 0] = np.nan
    if times == "no":
        return Panel.from_arrays(values)
    # The same time again, less and much more than a unit, and differences that rounding makes zero.
    gaps = [0.0, 1e-6, 0.3, 1.0, 1.0, 1.0, 2.7, 90.0] if times == "irregular" else [1.0]
    stamps = [100.0 + 60.0 * np.cumsum(rng.choice(gaps, size=n)) for n in lengths]
    return Panel.from_arrays(values, stamps)


def one(panel: Panel, i: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples (length, channels) and times of a series."""
    rows = slice(panel.offsets[i], panel.offsets[i + 1])
    return panel.values[rows], None if panel.times is None else panel.times[rows]


def prefix(values: np.ndarray, times: np.ndarray | None, k: int) -> Panel:
    """The first k samples of a series."""
    return Panel(values[:k], [0, k], None if times is None else times[:k])


def assert_close(got: Any, expected: Any) -> None:
    assert np.shape(got) == np.shape(expected) and np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("missing", ["no", "whole", "some", "much"])
@pytest.mark.parametrize("times", ["no", "regular", "irregular"])
def test_features_after_every_sample(times: str, missing: str) -> None:
    panel = recordings(times, missing)
    features = SSMFeatures(**SMALL).fit(panel)
    stream = Stream(features)
    for i in (0, 1):
        values, stamps = one(panel, i)
        stream.reset()
        many = Stream(features).push_many(values, stamps)
        assert many.dtype == np.float32
        for k in range(len(values)):
            row = stream.push(values[k], None if stamps is None else stamps[k])
            assert_close(row, features.transform(prefix(values, stamps, k + 1))[0])
            np.testing.assert_array_equal(many[k], row)


@pytest.mark.parametrize(
    "change",
    [
        {"basis": "legt"},
        {"basis": "legs", "pooling": ("ppv",)},
        {"pooling": ("competition",), "normalize": None},
        {"normalize": "auto"},
    ],
)
@pytest.mark.parametrize("times", ["no", "irregular"])
def test_every_kind_of_features(change: dict[str, Any], times: str) -> None:
    panel = recordings(times, "some")
    features = SSMFeatures(**{**SMALL, **change}).fit(panel)
    values, stamps = one(panel, 4)
    many = Stream(features).push_many(values, stamps)
    for k in (0, 5, len(values) - 1):
        assert_close(many[k], features.transform(prefix(values, stamps, k + 1))[0])


@pytest.mark.parametrize("missing", ["no", "some"])
@pytest.mark.parametrize("times", ["no", "regular", "irregular"])
def test_channels_that_are_bent_between_samples(times: str, missing: str) -> None:
    panel = recordings(times, missing)
    k = np.concatenate([np.arange(n) for n in panel.lengths])
    place = k if panel.times is None else panel.times / 60.0
    smooth = np.stack([np.sin(0.2 * place), np.cos(0.3 * place), np.sin(0.1 * place) ** 2], axis=1)
    smooth[:, 1] += np.random.default_rng(0).normal(size=len(smooth))
    panel = Panel(np.where(np.isnan(panel.values), np.nan, smooth), panel.offsets, panel.times)
    features = SSMFeatures(**SMALL).fit(panel)
    bend = features.features_.timeline.bend
    assert bend[0] > 0 and bend[2] > 0
    for i in (0, 1):
        values, stamps = one(panel, i)
        many = Stream(features).push_many(values, stamps)
        for n in range(1, len(values) + 1):
            assert_close(many[n - 1], features.transform(prefix(values, stamps, n))[0])


@pytest.mark.parametrize("columns", [1, 2])
def test_a_classifier(columns: int) -> None:
    panel = recordings("irregular", "some")
    y = LABELS if columns == 1 else np.stack([LABELS, np.tile(["x", "y"], N // 2)], axis=1)
    clf = SSMFeaturesClassifier(**SMALL).fit(panel, y)
    expected = clf.predict_proba(panel)
    values, stamps = one(panel, 3)
    stream = Stream(clf)
    many = stream.push_many(values[:-1], stamps[:-1])
    last = stream.push(values[-1], stamps[-1])
    assert stream.compiled
    for got, column in zip(*(([x] if columns == 1 else x) for x in (last, expected)), strict=True):
        assert_close(got, column[3])
    first = (many if columns == 1 else many[1])[0]
    whole = clf.predict_proba(prefix(values, stamps, 1))
    assert_close(first, (whole if columns == 1 else whole[1])[0])


@pytest.mark.parametrize("targets", [1, 2])
def test_a_regressor(targets: int) -> None:
    panel = recordings("no", "no")
    y = np.linspace(500.0, 900.0, N)
    y = y if targets == 1 else np.stack([y, y[::-1] / 100], axis=1)
    reg = SSMFeaturesRegressor(**SMALL).fit(panel, y)
    values, _ = one(panel, 3)
    assert_close(Stream(reg).push_many(values)[-1], reg.predict(panel)[3])


def test_series_in_lockstep() -> None:
    panel = recordings("irregular", "some")
    clf = SSMFeaturesClassifier(**SMALL).fit(panel, LABELS)
    length = int(panel.lengths.min())
    pairs = [one(panel, i) for i in range(N)]
    values = np.stack([v[:length] for v, _ in pairs], axis=1)
    stamps = np.stack([t[:length] for _, t in pairs], axis=1)
    proba = Stream(clf, n_series=N).push_many(values, stamps)
    assert proba.shape == (length, N, 3)
    cut = Panel(values.swapaxes(0, 1).reshape(-1, 3), np.arange(N + 1) * length, stamps.T.reshape(-1))
    assert_close(proba[-1], clf.predict_proba(cut))


def test_one_channel_and_times_for_a_model_that_was_fitted_without() -> None:
    X = np.random.default_rng(0).normal(size=(N, 15)).cumsum(axis=1)
    features = SSMFeatures(**SMALL).fit(X)
    assert_close(Stream(features).push_many(X[0])[-1], features.transform(X[:1])[0])
    stamps = np.cumsum(np.random.default_rng(1).exponential(2.0, size=15))
    expected = features.transform(Panel(X[0][:, None], [0, 15], stamps))[0]
    assert_close(Stream(features).push_many(X[0], stamps)[-1], expected)


def test_before_the_first_value_it_is_a_series_without_values() -> None:
    panel = recordings("no", "some")
    clf = SSMFeaturesClassifier(**SMALL).fit(panel, LABELS)
    nothing = np.full((2, 3), np.nan)
    expected = clf.predict_proba(Panel(nothing, [0, 2]))[0]
    assert_close(Stream(clf).push_many(nothing)[-1], expected)


def test_forks_states_and_threads() -> None:
    panel = recordings("irregular", "some")
    features = SSMFeatures(**SMALL).fit(panel)
    (values, stamps), (others, _) = one(panel, 1), one(panel, 2)
    n, half = min(len(values), len(others)), 6
    values, stamps = values[:n], stamps[:n]
    other = np.concatenate([values[:half], others[half:n]])
    expected = [features.transform(prefix(v, stamps, n))[0] for v in (values, other)]

    stream = Stream(features)
    stream.push_many(values[:half], stamps[:half])
    fork, state = stream.copy(), pickle.loads(pickle.dumps(stream.state))
    assert_close(stream.push_many(values[half:], stamps[half:])[-1], expected[0])
    assert_close(fork.push_many(other[half:], stamps[half:])[-1], expected[1])
    newcomer = pickle.loads(pickle.dumps(Stream(features)))
    for _ in range(2):  # a state can be used again
        newcomer.state = state
        assert_close(newcomer.push_many(other[half:], stamps[half:])[-1], expected[1])
    with ThreadPoolExecutor(4) as pool:
        streams = [Stream(features).copy() for _ in range(6)]
        for row in pool.map(lambda each: each.push_many(values, stamps)[-1], streams):
            assert_close(row, expected[0])
    smaller = SSMFeatures(**{**SMALL, "n_features": 128}).fit(panel)
    for another in (Stream(features, n_series=2), Stream(smaller)):
        with pytest.raises(ValueError, match="the same model"):
            stream.state = another.state


def test_a_stream_outlives_another_fit() -> None:
    panel = recordings("no", "no")
    clf = SSMFeaturesClassifier(**SMALL).fit(panel, LABELS)
    expected = clf.predict_proba(panel)[0]
    stream = Stream(clf)
    clf.fit(panel, np.tile([0, 1], N // 2))
    assert_close(stream.push_many(one(panel, 0)[0])[-1], expected)


def test_memory_does_not_grow_and_sums_do_not_drift() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 2, 40))
    features = SSMFeatures(**{**SMALL, "n_features": 64, "n_scales": 2}).fit(X)
    stream = Stream(features)
    u = rng.normal(size=(2_000, 2))
    stream.push_many(u[:10])
    before = len(pickle.dumps(stream.state))
    last = stream.push_many(u[10:])[-1]
    assert len(pickle.dumps(stream.state)) < before + 10  # larger counts
    assert_close(last, features.transform(u.T[None])[0])


def test_what_is_pending_goes_when_every_channel_is_seen() -> None:
    X = np.random.default_rng(0).normal(size=(N, 2, 40))
    features = SSMFeatures(**SMALL).fit(X)
    sizes, stream = [], Stream(features)
    for k in range(30):
        stream.push([1.0, np.nan if 5 < k < 20 else 2.0])
        sizes.append(len(pickle.dumps(stream.state)))
    assert sizes[5] == sizes[20] == sizes[29] < sizes[10] < sizes[19]


def test_what_is_pending_of_bent_channels_goes_with_the_next_sample() -> None:
    t = np.arange(40.0)
    X = np.sin(0.3 * t + np.arange(2 * N).reshape(N, 2, 1))
    features = SSMFeatures(**SMALL).fit(Panel.from_numpy(X, times=t))
    sizes, stream = [], Stream(features)
    for k in range(200):
        # Gaps in which there are instants, and gaps in which there are none.
        stream.push(X[0, :, k % 40], k * (3.0 if k // 20 % 2 else 1.0) + 1000.0 * (k // 20))
        sizes.append(len(pickle.dumps(stream.state)))
    assert max(sizes[150:]) <= max(sizes[:50]) + 10  # larger counts
    assert sizes[19] < sizes[39]


# What is refused


def test_normalisation_of_each_series_is_refused() -> None:
    flat = np.random.default_rng(0).normal(size=(N, 15))
    for normalize in ("series", "auto"):
        features = SSMFeatures(**{**SMALL, "normalize": normalize}).fit(flat)
        with pytest.raises(ValueError, match=f"normalize='{normalize}'.*fit with normalize='global'"):
            Stream(features)
    with pytest.raises(ValueError, match="normalize='series'"):
        Stream(SSMFeatures(**{**SMALL, "normalize": "series"}).fit(recordings("no", "no")))
    # Irregular samples have no slopes, which is what "auto" normalises by series.
    rng = np.random.default_rng(0)
    irregular = Panel.from_arrays(list(flat), list(rng.exponential(size=flat.shape).cumsum(axis=1)))
    features = SSMFeatures(**{**SMALL, "normalize": "auto"}).fit(irregular)
    values, stamps = one(irregular, 0)
    assert_close(Stream(features).push_many(values, stamps)[-1], features.transform(irregular)[0])


def test_bad_samples_leave_the_stream_as_it_was() -> None:
    panel = recordings("irregular", "no")
    features = SSMFeatures(**SMALL).fit(panel)
    values, stamps = one(panel, 0)
    stream = Stream(features)
    stream.push_many(values[:-1], stamps[:-1])
    bad = [
        (values[-1, :2], stamps[-1], "values must have shape"),
        ([np.inf, 0, 0], stamps[-1], "finite"),
        (values[-1], None, "time is missing: the training series had times"),
        (values[-1], 0.0, "must not decrease"),
    ]
    for sample, time, message in bad:
        with pytest.raises(ValueError, match=message):
            stream.push(sample, time)
    assert_close(stream.push(values[-1], stamps[-1]), features.transform(panel)[0])


@pytest.mark.parametrize("cls", [SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor])
def test_before_fit(cls: type) -> None:
    with pytest.raises(NotFittedError, match=cls.__name__):
        Stream(cls())
