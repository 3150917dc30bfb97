"""The estimators inside scikit-learn's and sktime's own machinery."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sktime.classification.dummy import DummyClassifier
from sktime.exceptions import NotFittedError as SktimeNotFittedError
from sktime.transformations.series.difference import Differencer

from tsssm import Panel, SSMClassifier, SSMRegressor


@pytest.fixture
def irregular(labelled):
    """The labelled series with random times."""
    X, y = labelled
    rng = np.random.default_rng(1)
    return Panel.from_numpy(X, np.cumsum(rng.uniform(0.5, 2.0, size=(24, 12)), axis=1)), y


# scikit-learn


def test_cross_validation_of_an_array(labelled, tiny):
    X, y = labelled
    scores = cross_val_score(SSMClassifier(**{**tiny, "max_epochs": 30}), X, y)
    assert scores.shape == (5,) and scores.mean() > 0.7
    assert cross_val_score(SSMRegressor(**tiny), X, X.mean(axis=(1, 2)), cv=2).shape == (2,)


def test_cross_validation_of_a_panel_keeps_its_times(irregular, tiny):
    panel, y = irregular
    clf, cv = SSMClassifier(**tiny), StratifiedKFold(2)
    proba = cross_val_predict(clf, panel, y, cv=cv, method="predict_proba")
    expected = np.empty_like(proba)
    for train, test in cv.split(panel, y):
        fitted = clone(clf).fit(panel[train], y[train])
        expected[test] = fitted.predict_proba(panel[test])
    np.testing.assert_array_equal(proba, expected)
    untimed = Panel(panel.values, panel.offsets)
    assert not np.allclose(
        proba, cross_val_predict(clf, untimed, y, cv=cv, method="predict_proba"), atol=1e-4
    )


def test_pipeline(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny)
    pipe = make_pipeline(FunctionTransformer(np.tanh), clf).fit(X, y)
    expected = clone(clf).fit(np.tanh(X), y).predict_proba(np.tanh(X))
    np.testing.assert_array_equal(pipe.predict_proba(X), expected)


def test_grid_search_with_two_processes(irregular, tiny):
    panel, y = irregular
    grid = {"pooling": ["mean", "max"]}
    search = GridSearchCV(SSMClassifier(**tiny), grid, cv=2, n_jobs=2).fit(panel, y)
    alone = GridSearchCV(SSMClassifier(**tiny), grid, cv=2).fit(panel, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert search.predict(panel).shape == (24,)


def test_threads_give_what_one_thread_gives(irregular, tiny):
    panel, y = irregular
    clf = SSMClassifier(**tiny, dropout=0.5)
    expected = clone(clf).fit(panel, y).predict_proba(panel)
    state = torch.get_rng_state()
    for fitted in Parallel(3, backend="threading")(delayed(clone(clf).fit)(panel, y) for _ in range(6)):
        np.testing.assert_array_equal(fitted.predict_proba(panel), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_calibration_and_voting(irregular, tiny):
    panel, y = irregular
    clf = SSMClassifier(**tiny)
    assert CalibratedClassifierCV(clf, cv=2).fit(panel, y).predict_proba(panel).shape == (24, 3)
    voting = VotingClassifier([("a", clf), ("b", clone(clf).set_params(random_state=1))], voting="soft")
    np.testing.assert_allclose(voting.fit(panel, y).predict_proba(panel).sum(axis=1), 1.0)


def test_metadata_routing_hands_on_the_weights(labelled, tiny):
    X, y = labelled
    weight = np.where(y == "low", 20.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = SSMClassifier(**tiny).set_fit_request(sample_weight=True)
        pipe = make_pipeline(clone(clf)).fit(X, y, sample_weight=weight)
        requests = clf.fit(X, y).get_metadata_routing().fit.requests
        assert {name for name, asked in requests.items() if asked} == {"sample_weight"}
    np.testing.assert_array_equal(
        pipe.predict_proba(X), clone(clf).fit(X, y, sample_weight=weight).predict_proba(X)
    )


def test_weights_reach_the_estimator_and_its_score(labelled, tiny):
    X, y = labelled
    weight = np.where(y == "low", 1.0, 0.0)
    clf = SSMClassifier(**tiny).fit(X, y)
    expected = np.mean(clf.predict(X[y == "low"]) == "low")
    assert clf.score(X, y, sample_weight=weight) == pytest.approx(expected)


def test_clone_and_pickle(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    copy = clone(clf)
    assert copy.get_params() == clf.get_params() and not hasattr(copy, "net_")
    restored = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(restored.predict_proba(X), clf.predict_proba(X))
    assert restored.fit(X, y).n_iter_ == 3


def test_both_libraries_know_what_the_estimators_are(tiny):
    assert is_classifier(SSMClassifier()) and is_regressor(SSMRegressor())
    assert SSMClassifier().get_tag("object_type") == "classifier"
    assert not hasattr(SSMClassifier(), "classes_")
    assert len({SSMClassifier(), SSMClassifier()}) == 2
    for error in (NotFittedError, SktimeNotFittedError):
        with pytest.raises(error, match="SSMClassifier has not been fitted"):
            SSMClassifier().predict(np.zeros((3, 1, 5)))


# sktime


def test_sktime_pipeline_keeps_the_times(irregular, tiny):
    panel, y = irregular
    index = [(i, pd.Timedelta(t, unit="s")) for i, series in enumerate(panel) for t in series.times]
    frame = pd.DataFrame(panel.values, index=pd.MultiIndex.from_tuples(index), columns=["a", "b"])
    clf = SSMClassifier(**tiny)
    pipe = Differencer() * clf
    predicted = pipe.fit(frame, y).predict_proba(frame)
    difference = Panel.from_multiindex(Differencer().fit_transform(frame))
    np.testing.assert_allclose(difference.gaps(), panel.gaps(), atol=1e-8)
    np.testing.assert_allclose(predicted, clone(clf).fit(difference, y).predict_proba(difference), rtol=1e-5)


def test_sktime_pipeline_of_an_array(labelled, tiny):
    X, y = labelled
    pipe = Differencer() * SSMClassifier(**tiny)
    assert set(pipe.fit(X, y).predict(X)) <= set(y)


def test_sktime_multioutput_classification(labelled, tiny):
    X, y = labelled
    both = pd.DataFrame({"a": y, "b": y[::-1]})
    clf = SSMClassifier(**tiny).fit(X, both)
    predicted = clf.predict(X)
    assert list(predicted.columns) == ["a", "b"]
    assert set(predicted["a"]) | set(predicted["b"]) <= set(y)


def test_sktime_composition_and_saving(labelled, tiny, tmp_path):
    from sktime.base import load

    X, y = labelled
    assert (SSMClassifier(**tiny) | DummyClassifier()).fit(X, y).predict(X).shape == (24,)
    clf = SSMClassifier(**tiny).fit(X, y)
    clf.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model.zip").predict_proba(X), clf.predict_proba(X))
    assert clf.get_fitted_params()["n_iter"] == 3


# Neither must notice


def test_fit_and_predict_are_silent_and_leave_no_trace(irregular, tiny, capfd, tmp_path, monkeypatch):
    panel, y = irregular
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for seed in (0, None):
        SSMClassifier(**{**tiny, "random_state": seed, "early_stopping": True}).fit(panel, y).predict(panel)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_process_shows_no_warning_either(tmp_path):
    # pytest's own warning filters must not be what keeps the output clean.
    code = (
        "import numpy as np; from tsssm import SSMClassifier;"
        "X = np.random.default_rng(0).normal(size=(12, 1, 9));"
        "SSMClassifier(n_layers=1, d_model=4, d_state=4, max_epochs=2).fit(X, np.arange(12) % 2).predict(X)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ)
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_a_fitted_estimator(labelled, tiny):
    import lightning.pytorch as pl

    class Interrupt(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    X, y = labelled
    clf = SSMClassifier(**{**tiny, "max_epochs": 50}, callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="interrupted"):
        clf.fit(X, y)
    assert clf.n_iter_ == 2
    assert np.isfinite(clf.predict_proba(X)).all()
