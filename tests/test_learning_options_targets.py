"""Targets of every kind: labels in one column or several, numbers with and without their uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.metrics import mean_pinball_loss, roc_auc_score
from sklearn.model_selection import cross_val_score
from torch.nn import functional as F

from tsssm import SSMClassifier, SSMRegressor
from tsssm.estimators._numbers import LOSSES

QUANTILES = (0.05, 0.5, 0.9)


@pytest.fixture
def quick(tiny):
    return {**tiny, "max_epochs": 30, "learning_rate": 0.02}


@pytest.fixture
def two_channels():
    """X (60, 2, 10), and for each channel whether its level is high."""
    rng = np.random.default_rng(0)
    high = rng.integers(0, 2, size=(60, 2))
    return rng.normal(size=(60, 2, 10)) + 2.5 * high[:, :, None], high


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(pd.Categorical(["b", "a"] * 12, categories=["b", "a", "unused"])),
        pd.Categorical(["b", "a"] * 12, categories=["b", "a", "unused"]),
        pd.Series(["b", "a"] * 12, dtype="string"),
        pd.Series(["b", "a"] * 12).array,
        pd.DataFrame({"label": pd.Categorical(["b", "a"] * 12)}),
        ["b", "a"] * 12,
    ],
    ids=["series", "categorical", "string", "array", "frame", "list"],
)
def test_categories_and_strings_are_labels(labelled, tiny, labels):
    X, _ = labelled
    clf = SSMClassifier(**{**tiny, "max_epochs": 1}).fit(X, labels)
    assert clf.classes_.tolist() == ["a", "b"]
    assert set(clf.predict(X)) <= {"a", "b"}
    expected = SSMClassifier(**{**tiny, "max_epochs": 1}).fit(X, np.array(["b", "a"] * 12))
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))


def test_several_labels_at_once(two_channels, quick):
    X, y = two_channels
    clf = SSMClassifier(**quick).fit(X[:40], y[:40])
    assert [c.tolist() for c in clf.classes_] == [[0, 1], [0, 1]] and clf.n_classes_ == [2, 2]
    proba = clf.predict_proba(X)
    assert isinstance(proba, list) and [p.shape for p in proba] == [(60, 2)] * 2
    np.testing.assert_allclose(np.sum(proba, axis=2), 1.0, rtol=1e-14)
    predicted = clf.predict(X)
    assert predicted.shape == y.shape and predicted.dtype == y.dtype
    for j in range(2):
        np.testing.assert_array_equal(predicted[:, j], proba[j].argmax(axis=1))
        assert roc_auc_score(y[40:, j], proba[j][40:, 1]) > 0.9
    # Right is what is right in every column.
    assert clf.score(X[40:], y[40:]) == (predicted[40:] == y[40:]).all(axis=1).mean() > 0.6
    weight = np.arange(60.0)
    expected = np.average((predicted == y).all(axis=1), weights=weight)
    assert clf.score(X, y, sample_weight=weight) == pytest.approx(expected)


def test_several_labels_in_cross_validation(two_channels, quick):
    X, y = two_channels
    scores = cross_val_score(SSMClassifier(**quick), X, y, cv=3, scoring="roc_auc")
    assert scores.mean() > 0.9


def test_the_loss_of_several_labels_is_the_mean_of_their_losses(two_channels, tiny):
    X, y = two_channels
    settings = {**tiny, "max_epochs": 1, "early_stopping": True, "label_smoothing": 0.0}
    clf = SSMClassifier(**settings).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
    proba = clf.predict_proba(X[40:])
    losses = [-np.log(p[np.arange(20), y[40:, j]]) for j, p in enumerate(proba)]
    assert -clf.best_validation_score_ == pytest.approx(np.mean(losses), rel=1e-5)  # float32


def test_a_label_that_never_occurs_is_not_predicted(two_channels, quick):
    X, y = two_channels
    y = np.column_stack([y[:, 0], np.zeros(60, dtype=int)])
    clf = SSMClassifier(**quick).fit(X, y)
    assert clf.classes_[1].tolist() == [0, 1]
    assert (clf.predict_proba(X)[1][:, 1] < 0.5).all()


def test_columns_of_different_kinds_of_labels(two_channels, quick):
    X, high = two_channels
    frame = pd.DataFrame({"state": np.where(high[:, 0] == 1, "up", "down"), "count": high[:, 0] + high[:, 1]})
    clf = SSMClassifier(**quick).fit(X, frame)
    assert [c.tolist() for c in clf.classes_] == [["down", "up"], [0, 1, 2]]
    predicted = clf.predict(X)
    assert list(predicted.columns) == ["state", "count"]
    assert predicted["count"].dtype.kind == "i" and (predicted["state"] == frame["state"]).mean() > 0.9
    assert clf.score(X, frame) > 0.6
    as_objects = SSMClassifier(**quick).fit(X, frame.to_numpy())
    assert as_objects.predict(X).dtype == object
    assert as_objects.predict(X).tolist() == predicted.to_numpy().tolist()


def test_class_weights_of_several_columns(two_channels, tiny):
    X, y = two_channels
    by_class = SSMClassifier(**tiny, class_weight=[{0: 1.0, 1: 3.0}, {0: 2.0, 1: 1.0}]).fit(X, y)
    weight = np.where(y[:, 0], 3.0, 1.0) * np.where(y[:, 1], 1.0, 2.0)
    by_sample = SSMClassifier(**tiny).fit(X, y, sample_weight=weight)
    for one, other in zip(by_class.predict_proba(X), by_sample.predict_proba(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert SSMClassifier(**tiny, class_weight="balanced").fit(X, y).n_iter_ == 3


def test_several_labels_go_on(two_channels, tiny):
    X, y = two_channels
    clf = SSMClassifier(**tiny, warm_start=True).fit(X, y).fit(X, y)
    assert clf.n_iter_ == 6
    part = SSMClassifier(**tiny).partial_fit(X[:5], y[:5], classes=[[0, 1], [0, 1]]).partial_fit(X, y)
    assert [c.tolist() for c in part.classes_] == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="list of 2 arrays"):
        SSMClassifier(**tiny).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"2 column\(s\).*with 1"):
        clone(clf).fit(X, y[:, 0]).fit(X, y)


def test_a_held_out_part_of_several_labels(two_channels, tiny):
    X, y = two_channels
    clf = SSMClassifier(**tiny, early_stopping=True, validation_fraction=0.3).fit(X, y)
    assert len(clf.validation_scores_) == clf.n_iter_


def test_sparse_labels_are_refused(two_channels, tiny):
    X, y = two_channels
    with pytest.raises(TypeError, match=r"y must be dense.*\(60, 2\).*toarray"):
        SSMClassifier(**tiny).fit(X, csr_matrix(y))


@pytest.mark.parametrize("missing", [None, np.nan])
def test_missing_labels_in_a_column_are_located(two_channels, tiny, missing):
    X, y = two_channels
    y = y.astype(object)
    y[7, 1] = missing
    for labels in (y.tolist(), y, pd.DataFrame(y)):
        with pytest.raises(ValueError, match="1 missing label.*position 7"):
            SSMClassifier(**tiny).fit(X, labels)


# Losses of numbers


@pytest.fixture
def outputs():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2))


def test_losses_are_those_of_their_names(outputs):
    z, t = outputs
    tensors = torch.as_tensor(z), torch.as_tensor(t)
    spread = np.sqrt(np.log1p(np.exp(z[..., 1])) + 1e-6)
    constant = 0.5 * np.log(2 * np.pi)
    error = np.abs(z[..., 0] - t)
    expected = {
        "squared_error": error**2,
        "absolute_error": error,
        "huber": np.where(error < 1, 0.5 * error**2, error - 0.5),
        "gaussian": -stats.norm(z[..., 0], spread).logpdf(t) - constant,
        "quantile": np.mean(
            [
                np.vectorize(lambda a, b, q=q: mean_pinball_loss([a], [b], alpha=q))(t, z[..., i])
                for i, q in enumerate(QUANTILES)
            ],
            axis=0,
        ),
    }
    assert set(expected) == set(LOSSES)
    for name, loss in LOSSES.items():
        found = loss(*tensors, QUANTILES).numpy()
        np.testing.assert_allclose(found, expected[name], rtol=1e-10, err_msg=name)  # float64


@pytest.fixture
def noisy():
    """Series of three levels, and a target whose spread the level tells."""
    rng = np.random.default_rng(0)
    level = np.resize([-1.0, 0.0, 1.0], 600)
    X = level[:, None, None] + 0.05 * rng.normal(size=(600, 1, 6))
    return X, 500 + 5 * level + np.where(level > 0, 8.0, 2.0) * rng.normal(size=600), level


def test_the_gaussian_loss_learns_mean_and_spread(noisy, quick):
    X, y, level = noisy
    reg = SSMRegressor(**quick, loss="gaussian").fit(X, y)
    mean, std = reg.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, reg.predict(X))
    assert mean.shape == std.shape == (600,) and (std > 0).all()
    for value, spread in ((-1.0, 2.0), (0.0, 2.0), (1.0, 8.0)):
        assert np.mean(mean[level == value]) == pytest.approx(500 + 5 * value, abs=1.5)
        assert np.mean(std[level == value]) == pytest.approx(spread, rel=0.3)
    low, high = reg.predict_quantiles(X, [0.1, 0.9]).T
    np.testing.assert_allclose(high, mean + stats.norm.ppf(0.9) * std, rtol=1e-12)
    assert 0.7 < np.mean((low < y) & (y < high)) < 0.9


def test_quantiles_cover_what_they_say(noisy, quick):
    X, y, level = noisy
    reg = SSMRegressor(**quick, loss="quantile", quantiles=QUANTILES).fit(X, y)
    values = reg.predict_quantiles(X)
    assert values.shape == (600, 3) and (np.diff(values, axis=1) >= 0).all()
    for i, quantile in enumerate(QUANTILES):
        assert np.mean(y < values[:, i]) == pytest.approx(quantile, abs=0.06)
    np.testing.assert_array_equal(reg.predict(X), values[:, 1])
    np.testing.assert_array_equal(reg.predict_quantiles(X, [0.9, 0.05]), values[:, [2, 0]])
    width = values[:, 2] - values[:, 0]
    assert width[level == 1].mean() > 2 * width[level < 1].mean()


def test_the_absolute_error_is_not_moved_by_outliers(quick):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 1, 5)), rng.normal(size=100)
    y[::10] += 300.0
    settings = {**quick, "max_epochs": 60, "batch_size": 100}
    median = SSMRegressor(**settings, loss="absolute_error").fit(X, y).predict(X)
    mean = SSMRegressor(**settings).fit(X, y).predict(X)
    assert np.median(median) < 10 < 20 < mean.mean()


@pytest.mark.parametrize("loss", ["gaussian", "quantile"])
def test_several_targets_of_different_scale_have_their_own_spread(noisy, quick, loss):
    X, y, level = noisy
    both = pd.DataFrame({"a": y, "b": -1000 * y})
    reg = SSMRegressor(**quick, loss=loss).fit(X, both)
    values = reg.predict_quantiles(X)
    assert values.shape == (600, 2, 3)
    width = (values[..., 2] - values[..., 0])[level == 1].mean(axis=0)
    assert width[1] == pytest.approx(1000 * width[0], rel=0.3)
    assert list(reg.predict(X).columns) == ["a", "b"] and reg.score(X, both) > 0.3
    column = SSMRegressor(**{**quick, "max_epochs": 1}, loss=loss).fit(X, y[:, None])
    assert column.predict_quantiles(X[:4]).shape == (4, 1, 3)
    if loss == "gaussian":
        mean, std = reg.predict(X, return_std=True)
        assert list(std.columns) == ["a", "b"] and mean.equals(reg.predict(X))


def test_uncertainty_needs_a_loss_that_has_it(noisy, tiny):
    X, y, _ = noisy
    reg = SSMRegressor(**{**tiny, "max_steps": 1}).fit(X[:6], y[:6])
    with pytest.raises(ValueError, match="return_std=True needs loss='gaussian'; it is 'squared_error'"):
        reg.predict(X, return_std=True)
    with pytest.raises(ValueError, match="predict_quantiles needs loss='quantile' or 'gaussian'"):
        reg.predict_quantiles(X)
    reg = SSMRegressor(**{**tiny, "max_steps": 1}, loss="quantile").fit(X[:6], y[:6])
    with pytest.raises(ValueError, match=r"among those that were trained, \[0.1, 0.5, 0.9\]; got \[0.2\]"):
        reg.predict_quantiles(X, [0.2, 0.5])
    for bad in ([], [0.0], [1.5], 0.5):
        with pytest.raises(ValueError, match="numbers in .0, 1."):
            reg.predict_quantiles(X, bad)


@pytest.mark.parametrize("bad", [(), (0.1, 0.9), (0.5, 0.1), (0.5, 0.5), (0.0, 0.5), ("0.5",)])
def test_bad_levels_are_named(noisy, tiny, bad):
    X, y, _ = noisy
    with pytest.raises(ValueError, match="quantiles must be"):
        SSMRegressor(**tiny, quantiles=bad).fit(X, y)


def test_a_constant_target_has_little_spread(quick):
    X = np.random.default_rng(0).normal(size=(20, 1, 5))
    reg = SSMRegressor(**{**quick, "max_epochs": 60}, loss="gaussian").fit(X, np.full(20, 3.0))
    mean, std = reg.predict(X, return_std=True)
    np.testing.assert_allclose(mean, 3.0, atol=0.5)
    assert (std < 0.5).all()


def test_one_output_losses_are_those_of_torch_in_training(noisy, tiny):
    X, y, _ = noisy
    X, y = X[:20], y[:20]
    for name, loss in (("huber", F.huber_loss), ("absolute_error", F.l1_loss)):
        settings = {**tiny, "max_epochs": 1, "early_stopping": True}
        reg = SSMRegressor(**settings, loss=name).fit(X, y, X_val=X, y_val=y)
        scale, predicted = float(y.std()), reg.predict(X)
        expected = loss(torch.as_tensor(predicted) / scale, torch.as_tensor(y) / scale)
        assert -reg.best_validation_score_ == pytest.approx(float(expected), rel=1e-4)  # float32
