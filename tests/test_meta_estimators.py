"""The estimators inside the meta-estimators of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tsssm import Panel, SSMClassifier, SSMRegressor


@pytest.fixture
def levels():
    """A panel (40 series, irregular, ragged) of two classes that differ in level, and the level."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 14, size=40)
    level = np.repeat([-1.0, 1.0], 20) + 0.3 * rng.normal(size=40)
    series = [rng.normal(level[i], 0.5, size=(2, n)) for i, n in enumerate(lengths)]
    times = [np.cumsum(rng.uniform(0.5, 2.0, size=n)) for n in lengths]
    order = rng.permutation(40)
    panel = Panel.from_arrays(series, times)[order]
    return panel, np.where(level > 0, "high", "low")[order], level[order]


@pytest.fixture
def quick(tiny):
    return {**tiny, "max_epochs": 20, "learning_rate": 0.02}


def test_random_search_finds_the_parameter_that_learns(levels, quick):
    panel, y, _ = levels
    rates = {"learning_rate": [1e-6, 0.02]}
    search = RandomizedSearchCV(SSMClassifier(**quick), rates, n_iter=2, cv=3, random_state=0).fit(panel, y)
    assert search.best_params_ == {"learning_rate": 0.02} and search.best_score_ > 0.9
    expected = clone(search.best_estimator_).fit(panel, y).predict_proba(panel)
    np.testing.assert_array_equal(search.predict_proba(panel), expected)


def test_halving_search_takes_more_and_more_series(levels, quick):
    panel, y, _ = levels
    rates = {"learning_rate": [1e-7, 1e-6, 1e-5, 0.02]}
    search = HalvingGridSearchCV(
        SSMClassifier(**quick), rates, cv=2, factor=2, min_resources=10, random_state=0
    ).fit(panel, y)
    assert search.n_resources_ == [10, 20, 40][: search.n_iterations_] and search.n_iterations_ > 1
    assert search.best_params_ == {"learning_rate": 0.02}
    epochs = HalvingGridSearchCV(
        SSMClassifier(**quick), {"dropout": [0.0, 0.5]}, cv=2, resource="max_epochs", max_resources=8
    ).fit(panel, y)
    assert epochs.best_estimator_.n_iter_ == epochs.n_resources_[-1] == 8


def test_calibration_voting_and_stacking_of_a_panel_are_accurate(levels, quick):
    panel, y, _ = levels
    clf, other = SSMClassifier(**quick), SSMClassifier(**{**quick, "random_state": 1})
    both = [("a", clf), ("b", other)]
    metas = [
        CalibratedClassifierCV(clf, cv=2),
        VotingClassifier(both, voting="soft"),
        StackingClassifier(both, LogisticRegression(), cv=2),
    ]
    for meta in metas:
        fitted = meta.fit(panel[:30], y[:30])
        assert fitted.score(panel[30:], y[30:]) >= 0.9, meta
    mean = (
        clone(clf).fit(panel, y).predict_proba(panel) + clone(other).fit(panel, y).predict_proba(panel)
    ) / 2
    np.testing.assert_allclose(metas[1].fit(panel, y).predict_proba(panel), mean, rtol=1e-12)


def test_one_against_the_rest_is_a_classifier_for_each_class(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny)
    rest = OneVsRestClassifier(clf).fit(X, y)
    for label, fitted in zip(rest.classes_, rest.estimators_, strict=True):
        expected = clone(clf).fit(X, (y == label).astype(int)).predict_proba(X)
        np.testing.assert_array_equal(fitted.predict_proba(X), expected)


def test_a_tuned_threshold_finds_the_rare_class(quick):
    rng = np.random.default_rng(0)
    y = (np.arange(60) % 6 == 0).astype(int)
    X = rng.normal(size=(60, 1, 8)) + 0.7 * y[:, None, None]
    clf = SSMClassifier(**quick)
    tuned = TunedThresholdClassifierCV(clf, scoring="balanced_accuracy", cv=3, random_state=0).fit(X, y)
    plain = clone(clf).fit(X, y)
    assert tuned.best_threshold_ < 0.5
    assert tuned.predict(X).sum() > plain.predict(X).sum()
    np.testing.assert_array_equal(tuned.estimator_.predict_proba(X), plain.predict_proba(X))


def test_bagging_of_a_table(labelled, quick):
    X, y = labelled
    X = X[:, 0]
    bag = BaggingClassifier(SSMClassifier(**quick), n_estimators=3, random_state=0).fit(X, y)
    assert bag.score(X, y) > 0.6
    mean = np.mean([clf.predict_proba(X) for clf in bag.estimators_], axis=0)
    np.testing.assert_allclose(bag.predict_proba(X), mean, rtol=1e-12)


def test_one_regressor_a_target_is_each_alone(levels, quick):
    panel, _, level = levels
    y = np.column_stack([level, 100 - level])
    reg = SSMRegressor(**quick)
    predicted = MultiOutputRegressor(reg).fit(panel, y).predict(panel)
    for j in range(2):
        np.testing.assert_array_equal(predicted[:, j], clone(reg).fit(panel, y[:, j]).predict(panel))


def test_transformed_targets_come_back(levels, quick):
    panel, _, level = levels
    y = np.exp(level)
    reg = SSMRegressor(**quick)
    transformed = TransformedTargetRegressor(reg, func=np.log, inverse_func=np.exp).fit(panel, y)
    expected = np.exp(clone(reg).fit(panel, np.log(y)).predict(panel))
    np.testing.assert_allclose(transformed.predict(panel), expected, rtol=1e-12)
    assert transformed.score(panel, y) > 0.5


def test_learning_curve_rises(levels, quick):
    panel, y, _ = levels
    clf = SSMClassifier(**{**quick, "max_epochs": None, "max_steps": 40})
    sizes, _, scores = learning_curve(clf, panel, y, train_sizes=[6, 24], cv=3, shuffle=True, random_state=0)
    assert sizes.tolist() == [6, 24]
    assert scores.mean(axis=1)[1] >= 0.9 and scores.mean(axis=1)[1] >= scores.mean(axis=1)[0]


def test_frames_as_output_of_the_steps_before(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny)
    pipe = make_pipeline(StandardScaler(), clf).set_output(transform="pandas").fit(X[:, 0], y)
    scaled = StandardScaler().fit_transform(X[:, 0])
    np.testing.assert_array_equal(
        pipe.predict_proba(X[:, 0]), clone(clf).fit(scaled, y).predict_proba(scaled)
    )
    assert clf.feature_names_in_.tolist() == [f"x{i}" for i in range(12)]


# Metadata


def test_weights_are_routed_through_cross_validation(levels, tiny):
    panel, y, _ = levels
    weight = np.where(y == "high", 30.0, 1.0)
    cv = GroupKFold(2)
    groups = np.arange(40) % 4
    with sklearn.config_context(enable_metadata_routing=True):
        clf = SSMClassifier(**tiny).set_score_request(sample_weight=True)
        clf.set_fit_request(sample_weight=True, groups=False)
        results = cross_validate(
            clf,
            panel,
            y,
            cv=cv,
            params={"sample_weight": weight, "groups": groups},
            return_estimator=True,
        )
    for (train, test), fitted, score in zip(
        cv.split(panel, y, groups), results["estimator"], results["test_score"], strict=True
    ):
        alone = SSMClassifier(**tiny).fit(panel[train], y[train], sample_weight=weight[train])
        np.testing.assert_array_equal(fitted.predict_proba(panel), alone.predict_proba(panel))
        assert score == alone.score(panel[test], y[test], sample_weight=weight[test])


def test_groups_are_routed_to_early_stopping(levels, tiny):
    panel, y, _ = levels
    groups = np.arange(40) % 8
    settings = {**tiny, "early_stopping": True, "validation_fraction": 0.25}
    with sklearn.config_context(enable_metadata_routing=True):
        clf = SSMClassifier(**settings).set_fit_request(groups=True)
        results = cross_validate(
            make_pipeline(clf), panel, y, cv=GroupKFold(2), params={"groups": groups}, return_estimator=True
        )
    for (train, _), fitted in zip(GroupKFold(2).split(panel, y, groups), results["estimator"], strict=True):
        alone = SSMClassifier(**settings).fit(panel[train], y[train], groups=groups[train])
        np.testing.assert_array_equal(fitted.predict_proba(panel), alone.predict_proba(panel))


def test_a_pipeline_transforms_the_series_to_judge_by(labelled, tiny):
    X, y = labelled
    settings = {**tiny, "early_stopping": True}
    with sklearn.config_context(enable_metadata_routing=True):
        clf = SSMClassifier(**settings).set_fit_request(X_val=True, y_val=True)
        pipe = Pipeline([("scale", StandardScaler()), ("clf", clf)], transform_input=["X_val"])
        pipe.fit(X[::2, 0], y[::2], X_val=X[1::2, 0], y_val=y[1::2])
    scaler = StandardScaler().fit(X[::2, 0])
    train, judge = scaler.transform(X[::2, 0]), scaler.transform(X[1::2, 0])
    alone = SSMClassifier(**settings).fit(train, y[::2], X_val=judge, y_val=y[1::2])
    assert clf.validation_scores_ == alone.validation_scores_


def test_cross_validation_by_groups(levels, quick):
    panel, y, _ = levels
    scores = cross_val_score(SSMClassifier(**quick), panel, y, cv=GroupKFold(4), groups=np.arange(40) // 2)
    assert scores.shape == (4,) and scores.mean() > 0.9
