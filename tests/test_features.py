"""Closed-form features: functions of time, systems, pooled features, ridge and calibration."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV
from sklearn.metrics import log_loss

from tsssm.features import (
    ALPHAS,
    StateSpaceFeatures,
    Timeline,
    _ridge,
    fit_ridge,
    fit_slope,
    predict_ridge,
)
from tsssm.features._systems import draw_systems
from tsssm.ops import readout_scan
from tsssm.panel import Panel

# Features are float32 sums; a share moves by a sample's weight where a readout is at a threshold.
FLOAT32 = 2e-5


def extractor(normalize: str | None = "auto", **change: object) -> StateSpaceFeatures:
    options = {
        "n_features": 512,
        "basis": "diagonal",
        "n_scales": 4,
        "pooling": ("ppv", "competition"),
        "normalize": normalize,
        "seed": 0,
    }
    return StateSpaceFeatures(**{**options, **change})


def smooth_panel(n: int = 12, length: int = 200, channels: int = 1, seed: int = 0) -> Panel:
    """Sums of slow sines on a regular grid, with the sample number as time."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    turns, phase = rng.uniform(1, 5, (n, channels, 3, 1)), rng.uniform(0, 2 * np.pi, (n, channels, 3, 1))
    X = np.sin(2 * np.pi * turns * t / length + phase).sum(axis=2)
    return Panel.from_numpy(X, times=np.arange(length) * 0.5)


# Functions of time


def test_a_regular_grid_is_sampled_as_it_is():
    X = np.random.default_rng(0).normal(size=(5, 2, 30)) + 3
    sampled = Timeline("series", "series").fit(Panel.from_numpy(X)).sample(Panel.from_numpy(X))
    scaled = (X - X.mean(-1, keepdims=True)) / X.std(-1, keepdims=True)
    np.testing.assert_allclose(sampled.values.reshape(2, 5, 30), scaled.swapaxes(0, 1), atol=1e-5)
    np.testing.assert_array_equal(sampled.steps, [1.0])
    np.testing.assert_allclose(sampled.weight, np.float32(1 / 30))
    slopes = np.diff(scaled, axis=-1, prepend=scaled[..., :1])
    slopes /= np.sqrt(np.square(slopes).mean(-1, keepdims=True))
    np.testing.assert_allclose(sampled.slopes.reshape(2, 5, 30), slopes.swapaxes(0, 1), atol=1e-5)


def test_missing_values_are_gaps_of_their_channel_and_not_zeros():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4, 2, 25))
    X[0, 0, 5:9] = np.nan
    X[1, 1, :3] = np.nan
    X[2, 0, 20:] = np.nan
    X[3, 1, :] = np.nan
    timeline = Timeline(None, "global").fit(Panel.from_numpy(X))
    values = timeline.sample(Panel.from_numpy(X)).values.reshape(2, 4, 25)
    k = np.arange(25)
    for series, channel in ((0, 0), (1, 1), (2, 0)):
        seen = ~np.isnan(X[series, channel])
        expected = np.interp(k, k[seen], X[series, channel, seen])
        np.testing.assert_allclose(values[channel, series], expected, atol=1e-6)
    np.testing.assert_array_equal(values[1, 3], 0.0)


def test_instants_between_samples_lie_on_the_line_and_share_the_time():
    times = np.array([0.0, 1.0, 1.5, 6.0, 6.25])
    x = np.array([1.0, -2.0, 0.5, 4.0, 3.0])
    regular = Panel.from_numpy(np.random.default_rng(0).normal(size=(3, 40)), times=np.arange(40.0))
    timeline = Timeline(None, "global").fit(regular)
    assert timeline.unit == timeline.resolution == 1.0
    sampled = timeline.sample(Panel.from_arrays([x], [times]))
    steps = sampled.steps[sampled.which]
    instants = np.cumsum(steps) - steps[0]
    assert steps.max() <= 1.0 and set(times) <= set(instants)
    np.testing.assert_allclose(sampled.values[0], np.interp(instants, times, x), atol=1e-6)
    np.testing.assert_allclose(sampled.weight.sum(), 1.0, atol=1e-6)
    # Trapezia with the last step repeated beyond each end.
    gaps = np.diff(instants)
    around = np.concatenate([gaps[:1], gaps, gaps[-1:]])
    time = (around[1:] + around[:-1]) / 2
    np.testing.assert_allclose(sampled.weight, time / time.sum(), atol=1e-6)
    slope = np.diff(x) / np.diff(times)
    expected = slope[np.searchsorted(times, instants[1:]) - 1] / timeline.slope_scale[0]
    np.testing.assert_allclose(sampled.slopes[0, 1:], expected, rtol=1e-5)


def test_a_sample_that_is_missing_in_all_channels_was_never_there():
    X = np.random.default_rng(0).normal(size=(3, 2, 20))
    X[:, :, 7] = np.nan
    X[1, :, 15:] = np.nan
    dropped = Panel.from_arrays(
        [x[:, ~np.isnan(x[0])] for x in X], [np.flatnonzero(~np.isnan(x[0])).astype(float) for x in X]
    )
    timeline = Timeline("global", "global").fit(Panel.from_numpy(X))
    for ours, theirs in zip(timeline.sample(Panel.from_numpy(X)), timeline.sample(dropped), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_samples_at_the_same_time_are_averaged():
    timeline = Timeline(None, "global").fit(Panel.from_numpy(np.zeros((2, 9)), times=np.arange(9.0)))
    twice = Panel.from_arrays([[[1.0, 2.0, 4.0, 5.0], [3.0, np.nan, 9.0, 1.0]]], [[0.0, 1.0, 1.0, 2.0]])
    np.testing.assert_array_equal(timeline.sample(twice).values, [[1.0, 3.0, 5.0], [3.0, 9.0, 1.0]])


def test_a_long_gap_costs_no_more_than_a_bounded_number_of_instants():
    timeline = Timeline("series", "series").fit(Panel.from_numpy(np.ones((2, 9)), times=np.arange(9.0)))
    sampled = timeline.sample(Panel.from_arrays([[0.0, 1.0]], [[0.0, 1e9]]))
    assert sampled.offsets[-1] == 65
    assert np.isfinite(sampled.values).all() and np.isfinite(sampled.slopes).all()


def test_the_units_of_times_are_converted_and_compared():
    seconds = Panel.from_numpy(np.random.default_rng(0).normal(size=(3, 20)), np.arange(20.0), time_unit="s")
    minutes = seconds.convert_times("min")
    features = extractor().fit(seconds)
    np.testing.assert_allclose(features.transform(minutes), features.transform(seconds), atol=FLOAT32)
    with pytest.raises(ValueError, match="cannot be compared"):
        features.transform(Panel(seconds.values, seconds.offsets, seconds.times))


# Systems


@pytest.mark.parametrize("basis", ["diagonal", "legt", "legs"])
def test_kernels_have_norm_one_and_most_do_not_see_the_level(basis):
    systems = draw_systems(basis, 4, 16, 2, 1.0, 50.0, 1, np.random.default_rng(0))
    as_tensor = {name: torch.as_tensor(getattr(systems, name)) for name in "ABCD"}
    # The response to an impulse, of a grid of unit steps: what readout_scan makes of it.
    impulse = torch.zeros(1, 52, dtype=torch.float64)
    impulse[0, 1] = 1.0
    kernel = readout_scan(
        u=impulse,
        held=torch.zeros(0, 52, dtype=torch.float64),
        offsets=torch.tensor([0, 52]),
        steps=torch.ones(1, dtype=torch.float64),
        index=torch.zeros(52, dtype=torch.int64),
        mix_u=torch.ones(4, 1, dtype=torch.float64),
        mix_held=torch.zeros(4, 0, dtype=torch.float64),
        **as_tensor,
    )
    np.testing.assert_allclose(kernel.square().sum(-1), 1.0, rtol=1e-9)  # float64
    blind = kernel.sum(-1).abs() < 1e-9
    assert blind.sum(1).tolist() == [12] * 4


def test_irregular_samples_have_no_slopes_and_slower_systems():
    def systems(resolution):
        return draw_systems("diagonal", 8, 8, 8, resolution, 400.0, 3, np.random.default_rng(0))

    regular, irregular = systems(1.0), systems(5.0)
    assert (regular.mix[:, 1] != 0).any() and not irregular.mix[:, 1].any()
    np.testing.assert_allclose(np.square(irregular.mix).sum((1, 2)), 1.0)
    # The fastest decay: of 4 gaps in place of 4 units; the slowest is the same.
    ratio = regular.A.real / irregular.A.real
    np.testing.assert_allclose(ratio[0], 5.0)
    np.testing.assert_allclose(ratio[-1], 1.0)


def test_mixtures_are_unit_vectors_of_few_channels():
    rng = np.random.default_rng(0)
    mix = draw_systems("diagonal", 64, 8, 4, 1.0, 100.0, 30, rng).mix.reshape(64, 60)
    np.testing.assert_allclose((mix**2).sum(1), 1.0)
    used = (mix != 0).sum(1)
    assert used.min() == 1 and 4 < used.max() <= 10


# Features


@pytest.mark.parametrize("basis", ["diagonal", "legt", "legs"])
def test_shape_names_and_repeatability(basis):
    panel = smooth_panel(channels=2)
    features = extractor(basis=basis).fit(panel)
    F = features.transform(panel)
    assert F.shape == (12, 512) and F.dtype == np.float32 and np.isfinite(F).all()
    assert len(set(features.names())) == 512
    np.testing.assert_array_equal(extractor(basis=basis).fit(panel).transform(panel), F)
    assert not np.array_equal(extractor(basis=basis, seed=1).fit(panel).transform(panel), F)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(features)).transform(panel), F)


def test_features_depend_neither_on_threads_nor_on_other_series():
    panel = smooth_panel()
    features = extractor().fit(panel)
    F = features.transform(panel)
    np.testing.assert_array_equal(features.transform(panel, n_threads=3), F)
    np.testing.assert_array_equal(features.transform(panel[[7, 2]]), F[[7, 2]])
    # No kernels are compiled for it; it could not hold a result either.
    np.testing.assert_array_equal(features.transform(panel, device=torch.device("meta")), F)


def test_shares_of_time_are_those_of_the_training_series():
    panel = smooth_panel(n=40)
    features = extractor(pooling=("ppv",), n_features=512).fit(panel)
    F = features.transform(panel)
    assert features.n_features_out == 512 and F.min() >= 0 and F.max() <= 1 + 1e-6
    low, high = F.reshape(40, features.n_groups, 2, -1).swapaxes(1, 2).reshape(40, 2, -1).swapaxes(0, 1)
    assert (low >= high).all()
    # Thresholds are quantiles between 5 and 95 %, of about uniform level.
    assert 0.35 < F.mean() < 0.65


@pytest.mark.parametrize("normalize", ["series", "global", None])
def test_what_normalisation_forgets(normalize):
    panel = smooth_panel(n=10, channels=2)
    shifted = Panel(3 * panel.values + 7, panel.offsets, panel.times)
    F = extractor(normalize).fit(panel).transform(panel)
    same = extractor(normalize).fit(panel).transform(shifted)
    both = extractor(normalize).fit(shifted).transform(shifted)
    assert np.allclose(same, F, atol=0.02) == (normalize == "series")
    assert np.allclose(both, F, atol=0.02) == (normalize in ("series", "global"))


def test_automatic_normalisation():
    one, several = (extractor("auto").fit(smooth_panel(channels=channels)).timeline for channels in (1, 2))
    assert (one.normalize, one.normalize_slopes) == ("global", "series")
    assert (several.normalize, several.normalize_slopes) == ("global", "global")


def difference(F: np.ndarray, G: np.ndarray) -> float:
    """Root mean square over series and features, in units of what tells one series from another."""
    apart = F - np.roll(F, 1, axis=0)
    return float(np.sqrt(np.mean((F - G) ** 2) / np.mean(apart**2)))


def subsampled(panel: Panel, share: float, seed: int = 3) -> Panel:
    """Each series with a random share of its samples."""
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.choice(n, round(share * n), replace=False)) for n in panel.lengths]
    pairs = [(one.values[r].T, one.times[r]) for one, r in zip(panel, rows, strict=True)]
    return Panel.from_arrays(*zip(*pairs, strict=True))


def test_half_of_the_samples_tell_a_series_from_others():
    panel = smooth_panel(n=20)
    features = extractor().fit(panel)
    F = features.transform(panel)
    assert difference(F, features.transform(subsampled(panel, 0.5))) < 1.0
    assert difference(F, features.transform(subsampled(panel, 0.95))) < 0.5


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_series(length):
    X = np.random.default_rng(0).normal(size=(6, length))
    panel = Panel.from_numpy(X)
    assert np.isfinite(extractor().fit(panel).transform(panel)).all()


def test_constant_and_empty_channels():
    X = np.ones((5, 3, 20))
    X[:, 1] = np.nan
    X[:, 2] = np.random.default_rng(0).normal(size=(5, 20))
    for normalize in ("series", "global", None):
        panel = Panel.from_numpy(X)
        assert np.isfinite(extractor(normalize).fit(panel).transform(panel)).all()


def test_too_few_features():
    with pytest.raises(ValueError, match="n_features must be at least 128"):
        extractor(n_features=127)


# Ridge


def problem(n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(n, 4)) @ rng.normal(size=(4, d)) + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    X[:, 1] = 2.0
    Y = X[:, :2] - X[:, 2:4] + 0.1 * rng.normal(size=(n, 2))
    return X, Y.astype(np.float64), rng.uniform(0.2, 2.0, n)


def standardised(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    # By hand: scikit-learn 1.9 takes the root of a negative variance where a weighted column is constant.
    mean = np.average(X.astype(np.float64), axis=0, weights=weight)
    std = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    return (X - mean) / np.where(std > 1e-9, std, np.inf)


@pytest.mark.parametrize("n, d", [(30, 120), (90, 20), (40, 40)])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_is_that_of_scikit_learn(n, d, weighted):
    X, Y, weight = problem(n, d)
    weight = weight if weighted else np.ones(n)
    ridge = fit_ridge(X, Y, weight)
    Z = standardised(X, weight)
    peer = RidgeCV(alphas=ALPHAS).fit(Z, Y, sample_weight=weight)
    assert ridge.alpha == peer.alpha_
    # float64; the peer solves by another decomposition
    np.testing.assert_allclose(predict_ridge(X, ridge.coef, ridge.intercept), peer.predict(Z), atol=1e-6)
    for i in (0, n - 1):
        others = np.arange(n) != i
        alone = SklearnRidge(alpha=ridge.alpha).fit(Z[others], Y[others], sample_weight=weight[others])
        np.testing.assert_allclose(ridge.left_out[i], alone.predict(Z[i : i + 1])[0], atol=1e-6)


def test_duplicated_series_and_features():
    X, Y, weight = problem(20, 60)
    X, Y, weight = np.concatenate([X, X]), np.concatenate([Y, Y]), np.concatenate([weight, weight])
    Z = standardised(X, weight)
    ridge = fit_ridge(np.concatenate([X, X], axis=1), Y, weight)
    peer = RidgeCV(alphas=ALPHAS).fit(np.concatenate([Z, Z], axis=1), Y, sample_weight=weight)
    assert ridge.alpha == peer.alpha_


@pytest.mark.parametrize("n, d", [(1, 9), (9, 1)])
def test_constant_features(n, d):
    ridge = fit_ridge(np.ones((n, d), np.float32), np.full((n, 1), 3.0), np.ones(n))
    np.testing.assert_array_equal(ridge.coef, 0.0)
    assert ridge.intercept == 3.0 and np.isfinite(ridge.left_out).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_of_many_series_goes_by_pieces_of_rows(monkeypatch, weighted):
    X, Y, weight = problem(90, 20)
    weight = weight if weighted else np.ones(90)
    whole = fit_ridge(X, Y, weight)
    monkeypatch.setattr(_ridge, "_LEAST_ROWS", 7)
    monkeypatch.setattr(_ridge, "_VALUES", 0)
    pieces = fit_ridge(X, Y, weight)
    assert (
        pieces.alpha == whole.alpha == RidgeCV(alphas=ALPHAS).fit(standardised(X, weight), Y, weight).alpha_
    )
    for one, other in zip(pieces, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_memory_of_a_ridge_of_many_series(monkeypatch):
    """That of its features does not multiply: beside them there are a few squares of their number."""
    monkeypatch.setattr(_ridge, "_VALUES", 2**14)
    n, d = 40_000, 16
    X = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    tracemalloc.start()
    fit_ridge(X, X[:, :1].astype(np.float64), np.ones(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    outputs = (len(ALPHAS) + 12) * 8 * n  # left-out residuals for every penalty, and vectors of series
    assert peak < outputs + X.nbytes / 2


def test_another_solver_steps_in(monkeypatch):
    X, Y, weight = problem(30, 120)
    expected = fit_ridge(X, Y, weight)

    def fails(matrix):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(np.linalg, "eigh", fails)
    ridge = fit_ridge(X, Y, weight)
    assert ridge.alpha == expected.alpha
    np.testing.assert_allclose(ridge.coef, expected.coef, atol=1e-9)


# Calibration


def test_slope_minimises_the_log_loss():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 4000)
    decision = rng.normal(size=(4000, 3)) + np.eye(3)[codes]
    weight = rng.uniform(0.5, 1.5, 4000)

    def loss(slope):
        return log_loss(codes, softmax(slope * decision, axis=1), sample_weight=weight)

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x
    assert fit_slope(decision, codes, weight) == pytest.approx(best, rel=0.01)  # smoothed targets: 1 in 1300


def test_slope_is_finite_where_every_series_is_right():
    codes = np.array([0, 0, 1, 1])
    slope = fit_slope(np.where(codes[:, None] == [0, 1], 1.0, -1.0), codes, np.ones(4))
    # The smoothed target is 4/5 and half of the rest, 9/10: odds of 9 at a distance of 2.
    assert slope == pytest.approx(np.log(9) / 2, rel=1e-3)


def test_slope_of_many_classes_of_few_series_is_not_too_cautious():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(40), 5)
    decision = rng.normal(size=(200, 40)) + 3 * np.eye(40)[codes]  # four of five are right

    def loss(slope):
        return log_loss(codes, softmax(slope * decision, axis=1))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded").fun
    assert loss(fit_slope(decision, codes, np.ones(200))) < 1.1 * best
