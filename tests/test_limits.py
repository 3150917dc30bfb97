"""Values and times far from those of training: answers are finite, and no series depends on its company."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from tsssm import (
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    Stream,
)
from tsssm.encoding import LARGEST_VALUE, LONGEST_GAP, PanelEncoder, unlimited
from tsssm.features import Timeline, _timeline
from tsssm.features._timeline import LONGEST_TICKS, _ticks_of

# These are the data that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore::tsssm.DataWarning")

NETWORK: dict[str, Any] = {"n_layers": 2, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
FEATURES: dict[str, Any] = {"n_features": 64, "n_scales": 2, "random_state": 0}
Y = np.repeat([0, 1], 8)


def series(seed: int = 0, n: int = 16, length: int = 20) -> Panel:
    """Two channels at irregular times in seconds."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2, length)) + (np.arange(n) >= n // 2)[:, None, None]
    return Panel.from_numpy(values, np.cumsum(rng.exponential(size=(n, length)), axis=1))


def changed(panel: Panel, value: float | None = None, gap: float | None = None) -> Panel:
    """One value of the first series, or one of its gaps, is another."""
    values, times = panel.values.astype(np.float64), panel.times.copy()
    if value is not None:
        values[5, 0] = value
    if gap is not None:
        times[5 : panel.offsets[1]] += gap
    return Panel(values, panel.offsets, times)


EXTREMES = {
    "value": {"value": -3e38},
    "gap": {"gap": 1e45},
    "longest": {"gap": 1e200},
    "both": {"value": 1e25, "gap": 1e9},
}


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize(("backbone", "norm"), [("s4d", "batch"), ("s4", "layer"), ("lssl", "none")])
def test_networks_answer_what_is_extreme(backbone: str, norm: str, extreme: str) -> None:
    reg = SSMRegressor(**NETWORK, backbone=backbone, norm=norm, bidirectional=False).fit(series(), Y)
    panel = changed(series(1), **EXTREMES[extreme])
    predicted = reg.predict(panel)
    assert np.isfinite(predicted).all()
    last = Stream(reg).push_many(panel[0].values, panel[0].times)[-1]
    np.testing.assert_allclose(last, predicted[0], rtol=1e-3)


@pytest.mark.parametrize("normalize", ["global", "series", None])
@pytest.mark.parametrize("extreme", EXTREMES)
def test_features_answer_what_is_extreme(normalize: str | None, extreme: str) -> None:
    features = SSMFeatures(**FEATURES, normalize=normalize).fit(series())
    panel = changed(series(1), **EXTREMES[extreme])
    got = features.transform(panel)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[1:], features.transform(series(1))[1:])
    if normalize != "series":
        stream = Stream(features)
        np.testing.assert_allclose(
            stream.push_many(panel[0].values, panel[0].times)[-1], got[0], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("cls", [SSMFeaturesClassifier, SSMFeaturesRegressor])
def test_nanoseconds_after_seconds(cls: type) -> None:
    """Numbers without a unit, some of them a billion times as far apart."""
    model = cls(**FEATURES, normalize="global").fit(series(), Y)
    panel = Panel(series(1).values, series(1).offsets, series(1).times * 1e9)
    assert np.isfinite(model.predict(panel)).all()
    stream = Stream(model)
    stream.push([0.0, 0.0], 0.0)
    stream.push([1.0, 0.0], 5e16)  # a year and a half
    assert np.isfinite(stream.push([1.0, 0.0], 5e16 + 1)).all()


def test_extremes_in_training() -> None:
    panel = changed(series(), value=1e30, gap=1e45)
    for model in (
        SSMClassifier(**NETWORK),
        SSMFeaturesClassifier(**FEATURES),
        SSMFeaturesRegressor(**FEATURES),
    ):
        assert np.isfinite(model.fit(panel, Y).predict(panel)).all()


def test_inputs_are_limited() -> None:
    encoder = PanelEncoder().fit(series())
    encoder.limits = unlimited(2)
    encoded = encoder.encode(changed(series(1), value=1e30, gap=1e45))
    assert encoded.u.max() == LARGEST_VALUE and encoded.dt.max() == np.float32(LONGEST_GAP)
    ordinary, others = encoder.encode(series(1)), slice(20, None)
    assert torch.equal(encoded.u[others], ordinary.u[others])
    assert torch.equal(encoded.dt[others], ordinary.dt[others])


def test_ticks_by_hand() -> None:
    """Counted one by one in whole numbers, with the gaps that are too long cut."""
    rng = np.random.default_rng(0)
    offsets = np.array([0, 1, 40, 70, 100])
    gaps = rng.integers(0, 300, size=100) * rng.choice([1, 10**6, 10**10], size=100, p=[0.8, 0.1, 0.1])
    times = np.concatenate([np.cumsum(gaps[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)])
    expected = []
    for a, b in zip(offsets[:-1], offsets[1:], strict=True):
        expected.append(0)
        for gap in gaps[a + 1 : b].tolist():
            expected.append(expected[-1] + min(64 * gap, LONGEST_TICKS))
    np.testing.assert_array_equal(_ticks_of(times.astype(np.float64), offsets, 1.0), expected)


def test_a_partner_does_not_change_a_series() -> None:
    """Neither by the size of its times, which say what is rounding, nor by the sum of its gaps."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 2, 30))
    values[rng.random(values.shape) < 0.3] = np.nan
    times = np.cumsum(rng.uniform(0.9, 1.1, size=(3, 30)), axis=1)
    far = np.stack([times[0] + 1e15, times[1], np.cumsum(rng.exponential(1e14, size=30))])
    encoder = PanelEncoder(time_scale=1.0).fit(Panel.from_numpy(values, times))
    lists = list(values), [values[0, :, :20], values[1], values[2]]
    for x in lists:  # of one length, and of several
        together = encoder.encode(
            Panel.from_arrays(x, [t[: len(one.T)] for t, one in zip(far, x, strict=True)])
        )
        alone = encoder.encode(Panel.from_arrays([x[1]], [times[1]]))
        part = slice(int(together.offsets[1]), int(together.offsets[2]))
        assert torch.equal(together.u[part], alone.u) and torch.equal(together.dt[part], alone.dt)


@pytest.mark.parametrize("normalize", ["global", "auto", "series"])
def test_features_under_a_large_offset(normalize: str) -> None:
    panel = series()
    there = Panel(panel.values.astype(np.float64) + 1e8, panel.offsets, panel.times)
    near, far = (SSMFeatures(**FEATURES, normalize=normalize).fit(X).transform(X) for X in (panel, there))
    # A value may fall on the other side of a threshold.
    assert np.abs(near - far).mean() < 1e-3


def test_features_that_are_not_normalised_under_a_large_offset() -> None:
    panel = series()
    there = Panel(panel.values.astype(np.float64) + 1e8, panel.offsets, panel.times)
    model = SSMFeaturesClassifier(**{**FEATURES, "n_features": 512}, normalize=None)
    assert model.fit(there[::2], Y[::2]).score(there[1::2], Y[1::2]) == 1.0


def test_networks_under_a_large_offset() -> None:
    panel = series()
    there = Panel(panel.values.astype(np.float64) + 1e8, panel.offsets, panel.times)
    near, far = PanelEncoder().fit(panel), PanelEncoder().fit(there)
    np.testing.assert_allclose(far.encode(there).u, near.encode(panel).u, atol=1e-6)
    models = [SSMRegressor(**NETWORK, bidirectional=False).fit(X, Y) for X in (panel, there)]
    np.testing.assert_allclose(
        *(m.predict(X) for m, X in zip(models, (panel, there), strict=True)), atol=5e-3
    )
    streamed = Stream(models[1]).push_many(there[0].values, there[0].times)[-1]
    np.testing.assert_allclose(streamed, models[1].predict(there)[0], rtol=1e-5)


@pytest.mark.parametrize("power", [-100, 64, 100])
def test_features_that_are_not_normalised_do_not_depend_on_the_unit_of_values(power: int) -> None:
    """By a power of two, so that nothing is rounded otherwise."""
    panel = series()
    scaled = Panel(panel.values.astype(np.float64) * 2.0**power, panel.offsets, panel.times)
    size = math.log2(float(np.abs(panel.values).max()))
    assert size < 20
    features = [SSMFeatures(**FEATURES, normalize=None).fit(X).transform(X) for X in (panel, scaled)]
    np.testing.assert_allclose(features[1], features[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model", [SSMRegressor(**NETWORK, bidirectional=False), SSMFeaturesRegressor(**FEATURES)]
)
def test_what_is_not_finite_in_spite_of_the_limits_is_an_error(model: Any) -> None:
    panel = Panel(series().values, series().offsets, series().times, ids=[f"stay {i}" for i in range(16)])
    model.fit(panel, Y)
    if isinstance(model, SSMRegressor):
        with torch.no_grad():
            model.net_.head.bias.fill_(np.nan)
    else:
        model.features_._readouts["C"].fill_(np.nan)
        model.features_._readouts["D"].fill_(np.nan)
    with pytest.raises(
        FloatingPointError, match=r"of 3 of 3 series are NaN.*series 0, 'stay 4', whose values reach"
    ):
        model.predict(panel[4:7])
    if isinstance(model, SSMRegressor):
        with pytest.raises(FloatingPointError, match=r"call reset.* reach 2\.$"):
            Stream(model).push([1.0, -2.0], 0.0)


@pytest.mark.parametrize(("channels", "stretch"), [(1, 1.0), (256, 1.0), (1, 1e6)])
def test_parts_count_values(monkeypatch: pytest.MonkeyPatch, channels: int, stretch: float) -> None:
    """Of many channels, and of gaps that are looked at many times, fewer series are in memory at once."""
    rng = np.random.default_rng(0)
    gaps = rng.exponential(size=(12, 30))
    X = Panel.from_numpy(rng.normal(size=(12, channels, 30)).astype(np.float32), np.cumsum(gaps, axis=1))
    timeline = Timeline("global", "global").fit(X)
    monkeypatch.setattr(_timeline, "_INSTANTS", 512)
    asked = Panel(X.values, X.offsets, X.times * stretch)
    sizes = [timeline.sample(asked[part]).values.size for part in timeline.parts(asked)]
    longest = max(timeline.sample(asked[i]).values.size for i in range(12))
    assert max(sizes) <= 512 * 8 + longest


def test_memory_of_features_of_many_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    times = [np.cumsum(rng.exponential(size=60)) for _ in range(24)]
    X = Panel.from_arrays([rng.normal(size=(200, 60)).astype(np.float32) for _ in times], times)
    features = SSMFeatures(**FEATURES).fit(X)
    monkeypatch.setattr(_timeline, "_INSTANTS", 2**12)
    features.transform(X[:1])
    peaks = []
    for n in (6, 24):
        tracemalloc.start()
        features.transform(X[:n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], "what is at work at a time is one series"
