"""A stream answers as the model does for the series up to the sample that came last."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from tsssm import Panel, SSMClassifier, SSMRegressor, Stream
from tsssm.backbone import BACKBONES, NORMS, POOLINGS, Backbone

LENGTH = 10
COMPILED = ("s4d", "dss", "s5", "linoss", "liquid-s4")
# float32, relative to the largest output; the series as a whole may take the path of a convolution.
TOLERANCE = 2e-5


def network(seed: int = 0, **options: Any) -> Backbone:
    """A network in one direction whose norms do something, in evaluation mode."""
    config = {"n_layers": 2, "d_model": 20, "d_state": 6, "bidirectional": False, **options}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Backbone(3, 4, **config)
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return net.eval()


def samples(length: int = LENGTH, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (length, 3) and rising times (length,), two of them the same, also at the end."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(size=length)
    gaps[[length // 2, -1]] = 0.0
    return rng.normal(size=(length, 3)).astype(np.float32), 100.0 + np.cumsum(gaps)


def whole(net: Backbone, u: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """Outputs of a network for a series."""
    dt = None
    if times is not None:
        gaps = np.diff(times, prepend=times[0] - 1.0)
        dt = torch.as_tensor(gaps, dtype=net.head.weight.dtype)[None]
    with torch.no_grad():
        return net(torch.as_tensor(u, dtype=net.head.weight.dtype)[None], dt)[0].numpy()


def assert_close(got: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


# Every combination where one compiled kernel does it all, each norm and each pooling elsewhere.
NETWORKS = [
    (backbone, norm, pooling)
    for backbone in BACKBONES
    for norm, pooling in (
        product(NORMS, POOLINGS) if backbone in COMPILED else zip(NORMS, POOLINGS, strict=True)
    )
]


@pytest.mark.parametrize("backbone, norm, pooling", NETWORKS)
def test_every_network_on_every_grid(backbone: str, norm: str, pooling: str) -> None:
    net = network(backbone=backbone, norm=norm, pooling=pooling)
    u, irregular = samples()
    for times in (None, irregular):
        stream = Stream(net)
        assert stream.compiled == (backbone in COMPILED)
        answers = stream.push_many(u[:7], None if times is None else times[:7])
        rest = [stream.push(u[k], None if times is None else times[k]) for k in range(7, LENGTH)]
        for k in (1, 6):
            assert_close(answers[k - 1], whole(net, u[:k], None if times is None else times[:k]))
        assert_close(rest[-1], whole(net, u, times))


@pytest.mark.parametrize(
    "backbone, method", [(name, method) for name, row in BACKBONES.items() for method in row.methods[1:]]
)
def test_every_discretisation(backbone: str, method: str) -> None:
    net = network(backbone=backbone, discretization=method)
    u, times = samples()
    assert_close(Stream(net).push_many(u, times)[-1], whole(net, u, times))
    assert_close(Stream(net).push_many(u)[-1], whole(net, u, None))


@pytest.mark.parametrize("backbone", ["s4d", "lssl"])
def test_a_network_in_double_precision(backbone: str) -> None:
    net = network(backbone=backbone).double()
    stream = Stream(net)
    assert not stream.compiled
    u, times = samples()
    # float64; the gaps are float32 as in fit, which their own rounding shows.
    assert_close(stream.push_many(u)[-1], whole(net, u, None), 1e-10)
    assert_close(Stream(net).push_many(u, times)[-1], whole(net, u, times), 1e-6)


def test_memory_does_not_grow_and_means_do_not_drift() -> None:
    net = network(d_state=4, d_model=5)
    stream = Stream(net)
    u = np.tile(samples(500)[0], (20, 1))
    before = len(pickle.dumps(stream.state))
    stream.push_many(u)
    assert len(pickle.dumps(stream.state)) == before
    assert_close(stream.push(u[0]), whole(net, np.concatenate([u, u[:1]]), None))


@pytest.mark.parametrize("backbone", ["s4d", "s5", "s4"])
def test_series_in_lockstep(backbone: str) -> None:
    net = network(backbone=backbone)
    series = [samples(seed=seed) for seed in range(3)]
    u = np.stack([values for values, _ in series], axis=1)
    times = np.stack([times for _, times in series], axis=1)
    stream = Stream(net, n_series=3)
    many = stream.push_many(u[:-1], times[:-1])
    assert many.shape == (LENGTH - 1, 3, 4)
    last = stream.push(u[-1], times[-1])
    for b, (values, each) in enumerate(series):
        assert_close(many[4, b], whole(net, values[:5], each[:5]))
        assert_close(last[b], whole(net, values, each))
    # One time for all series.
    stream.reset()
    shared = stream.push_many(u, times[:, 0])[-1]
    assert_close(shared[2], whole(net, series[2][0], times[:, 0]))


def test_forks_go_their_own_ways() -> None:
    net, (u, _) = network(backbone="liquid-s4"), samples()
    stream = Stream(net)
    stream.push_many(u[:5])
    fork, state = stream.copy(), pickle.loads(pickle.dumps(stream.state))
    assert_close(stream.push_many(u[5:])[-1], whole(net, u, None))
    other = np.concatenate([u[:5], -u[5:]])
    assert_close(fork.push_many(other[5:])[-1], whole(net, other, None))
    newcomer = Stream(net)
    for _ in range(2):  # a state can be used again
        newcomer.state = state
        assert_close(newcomer.push_many(other[5:])[-1], whole(net, other, None))
    stream.reset()
    assert_close(stream.push_many(other)[-1], whole(net, other, None))


@pytest.mark.parametrize("backbone", ["s4d", "s4"])
def test_a_stream_does_not_follow_its_model_nor_change_it(backbone: str) -> None:
    net, (u, _) = network(backbone=backbone), samples()
    weights = copy.deepcopy(net.state_dict())
    expected = whole(net, u, None)
    stream = Stream(net.train())
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert_close(stream.push_many(u)[-1], expected)
    assert pickle.loads(pickle.dumps(stream)).push(u[0]).shape == expected.shape


def test_forks_in_several_threads() -> None:
    net, first = network(backbone="s4d"), Stream(network(backbone="s4d"))
    series = [samples(60, seed) for seed in range(6)]
    streams = [first.copy() for _ in series]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda stream, pair: stream.push_many(*pair)[-1], streams, series))
    for answer, (u, times) in zip(answers, series, strict=True):
        assert_close(answer, whole(net, u, times))


# Estimators


def recordings(missing: bool, n: int = 12) -> tuple[Panel, Panel]:
    """Series of two channels with times in minutes, and the same without times; some values missing."""
    rng = np.random.default_rng(1)
    values = [3.0 + 2.0 * rng.normal(size=(2, length)) for length in rng.integers(9, 16, size=n)]
    for i, series in enumerate(values):
        series[:, rng.random(series.shape[1]) < 0.2] = np.nan  # samples without any value
        if missing:
            series[rng.random(series.shape) < 0.3] = np.nan
        if i % 3 == 0:
            series[:, 0] = np.nan
    times = [np.cumsum(rng.choice([0.0, 2.0, 2.0, 2.0 + 1e-9, 5.5], size=v.shape[1])) for v in values]
    frames = [
        pd.DataFrame(v.T, index=pd.to_timedelta(t, unit="min")) for v, t in zip(values, times, strict=True)
    ]
    timed = Panel.from_dataframes(frames, time_unit="min")
    return timed, Panel.from_dataframes([frame.reset_index(drop=True) for frame in frames])


def fit(estimator: type, X: Any, y: Any, **options: Any) -> Any:
    tiny = {"n_layers": 1, "d_model": 8, "d_state": 4, "bidirectional": False, "max_steps": 1}
    return estimator(**{**tiny, **options}, batch_size=4, accelerator="cpu", random_state=0).fit(X, y)


def one(panel: Panel, i: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples (length, channels) and times of a series."""
    rows = slice(panel.offsets[i], panel.offsets[i + 1])
    return panel.values[rows], None if panel.times is None else panel.times[rows]


LABELS = np.tile(["a", "b", "c"], 4)


@pytest.mark.parametrize("pooling, backbone", [("mean", "s4d"), ("max", "lssl"), ("last", "liquid-s4-kb")])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("missing", [True, False])
def test_an_estimator_after_every_sample(missing: bool, timed: bool, pooling: str, backbone: str) -> None:
    panel = recordings(missing)[0 if timed else 1]
    clf = fit(SSMClassifier, panel, LABELS, pooling=pooling, backbone=backbone)
    assert clf.encoder_.missing == missing
    # Values that are missing now and then, whether or not that happened in training.
    later = recordings(True)[0 if timed else 1]
    stream = Stream(clf)
    for i in (0, 1):
        values, times = one(later, i)
        many = Stream(clf).push_many(values, times)
        stream.reset()
        for k in range(len(values)):
            proba = stream.push(values[k], None if times is None else times[k])
            if k % 4 not in (0, len(values) % 4):
                continue
            known = None if times is None else times[: k + 1]
            expected = clf.predict_proba(
                Panel(values[: k + 1], [0, k + 1], known, time_unit=panel.time_unit)
            )[0]
            assert_close(proba, expected)
            assert_close(many[k], expected)


@pytest.mark.parametrize("backbone", ["s4d", "s4"])
def test_series_that_miss_different_samples(backbone: str) -> None:
    panel = recordings(True)[0]
    clf = fit(SSMClassifier, panel, LABELS, backbone=backbone)
    length = int(panel.lengths.min())
    pairs = [one(panel, i) for i in range(12)]
    values = np.stack([v[:length] for v, _ in pairs], axis=1)
    times = np.stack([t[:length] for _, t in pairs], axis=1)
    proba = Stream(clf, n_series=12).push_many(values, times)[-1]
    offsets = np.arange(13) * length
    cut = Panel(values.swapaxes(0, 1).reshape(-1, 2), offsets, times.T.reshape(-1), time_unit=panel.time_unit)
    assert_close(proba, clf.predict_proba(cut))


def test_times_for_a_model_that_was_fitted_without() -> None:
    panel = recordings(False)[1]
    for time_scale in ("median", 0.5):
        clf = fit(SSMClassifier, panel, LABELS, time_scale=time_scale)
        values = one(panel, 1)[0]
        times = np.cumsum(np.random.default_rng(0).exponential(size=len(values)))
        expected = clf.predict_proba(Panel(values, [0, len(values)], times))[0]
        assert_close(Stream(clf).push_many(values, times)[-1], expected)


TARGETS = {
    "one": np.linspace(-3.0, 40.0, 12),
    "two": np.stack([np.linspace(0.0, 1.0, 12), np.linspace(500.0, 100.0, 12)], axis=1),
    "frame": pd.DataFrame({"p": np.linspace(0.0, 1.0, 12), "q": np.linspace(500.0, 100.0, 12)}),
}


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", "quantile"])
@pytest.mark.parametrize("targets", TARGETS)
def test_regression(targets: str, loss: str) -> None:
    panel = recordings(True)[1]
    reg = fit(SSMRegressor, panel, TARGETS[targets], loss=loss)
    values = one(panel, 4)[0]
    expected = np.asarray(reg.predict(panel))[4]
    stream = Stream(reg)
    many = stream.push_many(values[:-1])
    assert many.shape == (len(values) - 1, *expected.shape)
    assert_close(stream.push(values[-1]), expected)


def test_several_columns_of_labels() -> None:
    panel = recordings(False)[1]
    y = np.stack([LABELS, np.tile(["x", "y"], 6)], axis=1)
    clf = fit(SSMClassifier, panel, y)
    expected = clf.predict_proba(panel)
    stream = Stream(clf, n_series=2)
    values = one(panel, 3)[0]
    proba = stream.push_many(np.stack([values, -values], axis=1))
    assert [part.shape for part in proba] == [(len(values), 2, 3), (len(values), 2, 2)]
    for got, column in zip(proba, expected, strict=True):
        assert_close(got[-1, 0], column[3])


def test_one_channel_needs_no_axis() -> None:
    X = np.random.default_rng(0).normal(size=(12, 10))
    clf = fit(SSMClassifier, X, LABELS)
    expected = clf.predict_proba(X[:2])
    assert_close(Stream(clf).push_many(X[0])[-1], expected[0])
    stream = Stream(clf)
    answers = [stream.push(value) for value in X[0].tolist()]
    assert_close(answers[-1], expected[0])
    assert_close(Stream(clf, n_series=2).push_many(X[:2].T)[-1], expected)


def test_a_stream_outlives_another_fit() -> None:
    X = np.random.default_rng(0).normal(size=(12, 10))
    clf = fit(SSMClassifier, X, LABELS)
    expected = clf.predict_proba(X[:1])[0]
    stream = Stream(clf)
    clf.fit(X, np.tile([0, 1], 6))
    assert_close(stream.push_many(X[0])[-1], expected)


# What is refused


def test_models_that_cannot_stream() -> None:
    X = np.random.default_rng(0).normal(size=(12, 10))
    with pytest.raises(NotFittedError, match="SSMClassifier"):
        Stream(SSMClassifier(bidirectional=False))
    with pytest.raises(ValueError, match="bidirectional=False"):
        Stream(fit(SSMClassifier, X, LABELS, bidirectional=True))
    with pytest.raises(ValueError, match="bidirectional=False"):
        Stream(Backbone(3, 4))
    with pytest.raises(TypeError, match="got Linear. Of a pipeline, stream the last step"):
        Stream(nn.Linear(3, 4))
    with pytest.warns(UserWarning, match="single label"):
        single = fit(SSMClassifier, X, np.zeros(12))
    with pytest.raises(ValueError, match="single class"):
        Stream(single)


@pytest.mark.parametrize(
    "n_series, error", [(0, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)]
)
def test_numbers_of_series(n_series: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="n_series must be None or a positive int"):
        Stream(network(), n_series=n_series)


VALUES = [
    ([1.0, 2.0], ValueError, r"shape \(3\).*3 channel\(s\) last; got shape \(2,\)"),
    (1.0, ValueError, r"got shape \(\)"),
    (np.zeros((1, 3)), ValueError, r"got shape \(1, 3\)"),
    (["a", "b", "c"], TypeError, "real numbers; got dtype <U1"),
    ([1j, 0, 0], TypeError, "complex128"),
    ([np.inf, 0, 0], ValueError, "finite"),
    ([1e300, 0, 0], ValueError, "float32"),
    ([np.nan, 0, 0], ValueError, "inputs of a network"),
]


@pytest.mark.parametrize("values, error, message", VALUES)
def test_values_that_are_refused_leave_the_stream_as_it_was(
    values: Any, error: type[Exception], message: str
) -> None:
    net, (u, times) = network(), samples()
    stream = Stream(net)
    stream.push_many(u[:-1], times[:-1])
    with pytest.raises(error, match=message):
        stream.push(values, times[-1])
    assert_close(stream.push(u[-1], times[-1]), whole(net, u, times))


def test_shapes_of_many_values() -> None:
    with pytest.raises(ValueError, match=r"\(any, 3\).*\(3,\)"):
        Stream(network()).push_many(np.zeros(3))
    with pytest.raises(ValueError, match=r"\(any, 2, 3\).*\(5, 3\)"):
        Stream(network(), n_series=2).push_many(np.zeros((5, 3)))
    assert Stream(network()).push_many(np.zeros((0, 3))).shape == (0, 4)


TIMES = [
    (None, ValueError, "time is missing: the samples before had one"),
    (4.0, ValueError, "must not decrease; got 4.0 after 5.0"),
    (np.nan, ValueError, "finite"),
    ("noon", TypeError, "time must be a number; got dtype <U4"),
    ([6.0, 7.0], ValueError, r"shape \(1,\), one number for each sample; got \(1, 2\)"),
]


@pytest.mark.parametrize("time, error, message", TIMES)
def test_times_that_are_refused(time: Any, error: type[Exception], message: str) -> None:
    stream = Stream(network())
    stream.push(np.zeros(3), 5.0)
    with pytest.raises(error, match=message):
        stream.push(np.zeros(3), time)
    stream.push(np.zeros(3), 5.0)  # at the same time


def test_times_are_given_from_the_first_sample_on_or_never() -> None:
    stream = Stream(network())
    stream.push(np.zeros(3))
    with pytest.raises(ValueError, match="time was given, but the samples before had none"):
        stream.push(np.zeros(3), 1.0)
    with pytest.raises(ValueError, match="must not decrease; got 1.0 after 2.0"):
        Stream(network()).push_many(np.zeros((3, 3)), [0.0, 2.0, 1.0])
    clf = fit(SSMClassifier, recordings(False)[0], LABELS)
    with pytest.raises(ValueError, match="time is missing: the training series had times in 'min'"):
        Stream(clf).push(np.zeros(2))
    with pytest.raises(TypeError, match="time must be a number of 'min'"):
        Stream(clf).push(np.zeros(2), pd.Timestamp("2024-01-01"))


def test_states_of_other_streams() -> None:
    stream = Stream(network())
    with pytest.raises(TypeError, match="got dict"):
        stream.state = {}
    for other in (Stream(network(), n_series=2), Stream(network(d_model=8)), Stream(network(backbone="s4"))):
        with pytest.raises(ValueError, match="the same model"):
            stream.state = other.state
