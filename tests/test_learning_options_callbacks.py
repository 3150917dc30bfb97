"""Callbacks of scikit-learn, which has them since 1.9."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tsssm import SSMClassifier, SSMRegressor

callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")


class Record:
    """Keeps what it is told, and stops after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.told = []
        self.fitted = []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(f"{context.task_name} begins")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.told.append(f"{context.task_name} ends")
        self.fitted.append((X, y, metadata, fitted_estimator))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


class Everywhere(Record):
    """Also goes to the estimators inside of others."""

    max_propagation_depth = None


def test_callbacks_are_told_of_the_run_and_its_epochs(labelled, tiny):
    X, y = labelled
    record = Record()
    clf = SSMClassifier(**tiny).set_callbacks(record).fit(X, y)
    epoch = ["epoch begins", "epoch ends"]
    assert record.told == ["setup", "fit begins", *3 * epoch, "fit ends", "teardown"]
    assert not [name for name in vars(clf) if "callback_fit_ctx" in name or "teardown" in name]
    clf.fit(X, y)
    assert record.told.count("setup") == record.told.count("teardown") == 2
    np.testing.assert_array_equal(clf.predict_proba(X), SSMClassifier(**tiny).fit(X, y).predict_proba(X))


def test_a_callback_may_end_training(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "max_epochs": 50}).set_callbacks(Record(stop_after=4)).fit(X, y)
    assert clf.n_iter_ == 4
    assert clone(clf).fit(X, y).n_iter_ == 4  # callbacks go with a clone


@pytest.mark.parametrize("weighted", [False, True])
def test_callbacks_see_the_estimator_as_it_is(labelled, tiny, weighted):
    X, y = labelled
    weight = np.arange(1.0, 25.0) if weighted else None
    record = Record()
    reg = SSMRegressor(**tiny).set_callbacks(record).fit(X, X.mean(axis=(1, 2)), sample_weight=weight)
    predictions = []
    for panel, target, metadata, fitted in record.fitted:
        np.testing.assert_array_equal(panel.values, np.concatenate(X.astype(np.float32).transpose(0, 2, 1)))
        assert len(target) == 24
        if weighted:
            np.testing.assert_array_equal(metadata["sample_weight"], weight)
        else:
            assert not metadata
        predictions.append(fitted.predict(X))
    assert len(predictions) == 4  # three epochs and the whole run
    assert not np.allclose(predictions[0], predictions[1])
    np.testing.assert_array_equal(predictions[3], reg.predict(X))
    np.testing.assert_array_equal(predictions[2], reg.predict(X))


def test_a_fit_that_fails_tears_its_callbacks_down(labelled, tiny):
    class Broken(Record):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch":
                raise RuntimeError("broken")

    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    before = clf.predict_proba(X)
    broken = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        clf.set_callbacks(broken).fit(X, y)
    assert broken.told == ["setup", "teardown"]
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.set_callbacks().fit(X, y).n_iter_ == 3


def test_callbacks_reach_into_searches_and_pipelines(labelled, tiny):
    X, y = labelled
    record = Everywhere()
    pipe = make_pipeline(StandardScaler(), SSMClassifier(**tiny)).set_callbacks(record).fit(X[:, 0], y)
    assert record.told.count("epoch ends") == 3 and pipe[-1].n_iter_ == 3
    record = Everywhere()
    search = GridSearchCV(SSMClassifier(**tiny), {"pooling": ["mean", "max"]}, cv=2)
    search.set_callbacks(record).fit(X, y)
    assert record.told.count("epoch ends") == 3 * 5  # two candidates in two folds, and the refit


def test_the_monitor_of_scikit_learn_scores_every_epoch(labelled, tiny):
    X, y = labelled
    monitor = callback.ScoringMonitor(scoring="neg_log_loss")
    clf = SSMClassifier(**{**tiny, "max_epochs": 6}).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data
    scores = [row["neg_log_loss"] for row in log if row["task_name"] == "epoch"]
    assert len(scores) == 6 and scores[-1] > scores[0]
    from sklearn.metrics import log_loss

    assert scores[-1] == pytest.approx(-log_loss(y, clf.predict_proba(X)))


def test_a_single_class_is_reported_too(labelled, tiny):
    X, _ = labelled
    record = Record()
    with pytest.warns(UserWarning, match="only single label"):
        SSMClassifier(**tiny).set_callbacks(record).fit(X, ["yes"] * 24)
    assert record.told == ["setup", "fit begins", "fit ends", "teardown"]
