"""Prediction intervals: how many new targets they hold, of new series and of new groups."""

from __future__ import annotations

import numpy as np
import pytest
from mapie.classification import CrossConformalClassifier
from scipy.stats import norm
from sklearn.model_selection import GroupKFold

from tsssm import SSMClassifier, SSMFeaturesClassifier, SSMFeaturesRegressor, SSMRegressor, load
from tsssm.estimators._left_out import Errors

SMALL = {"n_features": 384, "random_state": 0}
NETWORK = {"n_members": 3, "n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 20}


def problem(n: int, seed: int, noise: float = 0.3, group: float = 0.0, size: int = 5):
    """Series whose frequency is told with an error, a part of which all series of a group share."""
    rng = np.random.default_rng(seed)
    rate = rng.uniform(1, 3, size=n)
    X = np.sin(rate[:, None] * np.linspace(0, 10, 40) + rng.uniform(0, 6, size=(n, 1)))
    groups = np.arange(n) // size
    y = rate + noise * rng.normal(size=n) + group * rng.normal(size=n)[groups]
    return X, y, groups


def share_inside(intervals, y) -> float:
    return float(np.mean((intervals[..., 0] <= y) & (y <= intervals[..., 1])))


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_features_cover_new_series(coverage):
    X, y, _ = problem(200, seed=0)
    reg = SSMFeaturesRegressor(**SMALL).fit(X, y)
    others, expected, _ = problem(400, seed=1)
    inside = share_inside(reg.predict_interval(others, coverage), expected)
    assert inside == pytest.approx(coverage, abs=0.06)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", "quantile"])
def test_networks_cover_new_series(loss):
    X, y, _ = problem(150, seed=0)
    reg = SSMRegressor(**SMALL, **NETWORK, loss=loss).fit(X, y)
    others, expected, _ = problem(400, seed=1)
    intervals = reg.predict_interval(others, 0.8)
    assert intervals.shape == (400, 2) and share_inside(intervals, expected) == pytest.approx(0.8, abs=0.08)
    widths = np.ptp(intervals, axis=1)
    assert (np.ptp(widths) > 1e-6) == (loss == "gaussian")
    centre = reg.predict(others)
    np.testing.assert_allclose(intervals.mean(axis=1), centre, rtol=1e-6)


def test_groups_widen_intervals_to_what_new_groups_need():
    X, y, groups = problem(200, seed=0, noise=0.1, group=0.5, size=10)
    others, expected, _ = problem(400, seed=1, noise=0.1, group=0.5, size=1)
    for reg in (SSMFeaturesRegressor(**SMALL), SSMRegressor(**SMALL, **NETWORK)):
        alone = share_inside(reg.fit(X, y).predict_interval(others, 0.9), expected)
        by_group = share_inside(reg.fit(X, y, groups=groups).predict_interval(others, 0.9), expected)
        assert by_group >= 0.8 and by_group > alone + 0.03


@pytest.mark.parametrize("n_groups", [12, 21, 60])
@pytest.mark.parametrize("size", [1, 3, 25])
def test_new_groups_are_covered_as_often_as_asked(n_groups, size):
    """Errors of groups of unequal sizes and spread, over many draws; the share of new ones by closed form."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        groups = np.repeat(np.arange(n_groups), rng.integers(max(1, size // 2), size * 3 // 2 + 1, n_groups))
        spread = np.exp(0.5 * rng.normal(size=n_groups))[groups]
        errors = Errors.of((spread * rng.normal(size=len(groups)))[:, None], groups)
        covered.append(2 * norm.cdf(errors.reach(0.9) / np.exp(0.5 * rng.normal(size=400))).mean() - 1)
    # A single series a group is covered a little too often, as there is no part of a series.
    assert -0.015 <= np.mean(covered) - 0.9 <= (1 / (n_groups + 1) if size == 1 else 0.02)


def test_the_quantile_is_that_of_weighted_scores():
    """By hand: three groups of 1, 2 and 1 series; each group counts alike, and 3/16 are beyond."""
    errors = Errors.of(np.array([[4.0], [1.0], [-2.0], [3.0]]), np.array(["a", "b", "b", "c"]))
    group = 13 / 48
    for coverage, reach in (
        (0.1, 1.0),
        (group / 2, 1.0),
        (0.14, 2.0),
        (group, 2.0),
        (0.3, 3.0),
        (2 * group, 3.0),
        (0.75, 4.0),
    ):
        assert errors.reach(coverage).tolist() == [reach]
    with pytest.raises(ValueError, match="coverage=0.8 needs 4 left-out series.* fit had 3; .* at most 0.75"):
        errors.reach(0.8)


def test_several_targets_have_intervals_each_and_come_back_from_files(tmp_path):
    X, y, groups = problem(60, seed=0)
    both = np.stack([y, 100 * y + np.random.default_rng(2).normal(size=60) * 50], axis=1)
    for reg in (SSMFeaturesRegressor(**SMALL), SSMRegressor(**SMALL, **NETWORK)):
        intervals = reg.fit(X, both, groups=groups).predict_interval(X)
        assert intervals.shape == (60, 2, 2) and (intervals[..., 0] < intervals[..., 1]).all()
        assert (np.ptp(intervals, axis=2)[:, 1] > 20 * np.ptp(intervals, axis=2)[:, 0]).all()
        reg.save(tmp_path / "model.safetensors")
        again = load(tmp_path / "model.safetensors").predict_interval(X)
        np.testing.assert_array_equal(again, intervals)


def test_without_left_out_series_there_is_an_error_and_predictions_stay():
    X, y, _ = problem(30, seed=0)
    single = SSMRegressor(**{**NETWORK, "n_members": 1}, n_features=0, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="n_members of at least 2"):
        single.predict_interval(X)
    assert np.isfinite(single.predict(X)).all()
    reg = SSMFeaturesRegressor(**SMALL)
    with pytest.raises(ValueError, match="not been fitted"):
        reg.predict_interval(X)
    reg.fit(X, y)
    for coverage in (0, 1, 1.5, -0.1, np.nan, "most", None, True):
        with pytest.raises(ValueError, match=r"coverage must be a number in \(0, 1\)"):
            reg.predict_interval(X, coverage)
    with pytest.raises(ValueError, match="groups"):
        reg.fit(X, y, groups=np.arange(29))
    assert reg.predict_interval(X).shape == (30, 2)  # of the fit before


def test_groups_make_probabilities_of_features_honest_about_new_groups():
    """Labels that a group shares are told by its other series, unless these are left out with it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    X = rng.normal(size=(40, 30))[groups] + 0.1 * rng.normal(size=(200, 30))
    y = rng.integers(2, size=40)[groups]
    sure = SSMFeaturesClassifier(**SMALL).fit(X, y).predict_proba(rng.normal(size=(50, 30))).max(axis=1)
    honest = SSMFeaturesClassifier(**SMALL).fit(X, y, groups=groups)
    assert honest.predict_proba(rng.normal(size=(50, 30))).max(axis=1).mean() < sure.mean() - 0.05
    # Where a class is that of a single group, leaving it out would leave one class alone.
    lonely = np.where(groups == 0, "a", "b")
    assert SSMFeaturesClassifier(**SMALL).fit(X, lonely, groups=groups).predict(X).tolist() == lonely.tolist()
    assert not hasattr(SSMClassifier, "predict_interval")


def test_sets_of_classes_for_new_groups_by_mapie():
    rng = np.random.default_rng(0)
    groups = np.arange(160) // 8
    y = rng.integers(3, size=160)
    # What a group adds is as large as what tells the classes apart.
    X = rng.normal(size=(160, 1, 30)) + (y - 1 + 0.5 * rng.normal(size=20)[groups])[:, None, None]
    known = groups < 12
    sets = CrossConformalClassifier(
        SSMFeaturesClassifier(**SMALL), confidence_level=0.9, cv=GroupKFold(4)
    ).fit_conformalize(X[known], y[known], groups=groups[known])
    held = sets.predict_set(X[~known])[1][..., 0]
    inside = held[np.arange((~known).sum()), y[~known]]
    assert inside.mean() >= 0.8 and held.sum(axis=1).mean() < 2.5
