"""The estimators inside the pipelines, searches and evaluation of sktime."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from packaging.version import parse
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sktime.classification.compose import ClassifierPipeline, MultiplexClassifier
from sktime.classification.dummy import DummyClassifier
from sktime.classification.model_selection import TSCGridSearchCV
from sktime.forecasting.compose import make_reduction
from sktime.regression.compose import RegressorPipeline
from sktime.transformations.series.difference import Differencer
from sktime.transformations.series.exponent import ExponentTransformer

from tsssm import SSMClassifier, SSMFeaturesRegressor, SSMRegressor


@pytest.fixture
def frame():
    """A frame (series, time) of 24 irregular series, and two classes that differ in level."""
    rng = np.random.default_rng(0)
    y = np.resize(["high", "low"], 24)
    times = np.cumsum(rng.integers(1, 5, size=(24, 10)), axis=1)
    values = rng.normal(size=(24, 10)) + np.where(y == "high", 1.5, -1.5)[:, None]
    index = pd.MultiIndex.from_arrays(
        [np.repeat(np.arange(24), 10), pd.to_timedelta(times.ravel(), unit="s")], names=["series", "time"]
    )
    return pd.DataFrame({"a": values.ravel()}, index=index), y


@pytest.fixture
def quick(tiny):
    return {**tiny, "max_epochs": 20, "learning_rate": 0.02}


def series(frame, rows):
    return frame.loc[list(rows)]


def test_a_pipeline_of_transformers_keeps_the_times(frame, quick):
    X, y = frame
    clf = SSMClassifier(**quick)
    pipe = ClassifierPipeline(clf, [ExponentTransformer(1.0), Differencer()]).fit(X, y)
    differences = Differencer().fit_transform(X)
    expected = clone(clf).fit(differences, y)
    assert pipe.classifier_.time_scale_ == expected.time_scale_ != 1.0
    np.testing.assert_allclose(pipe.predict_proba(X), expected.predict_proba(differences), rtol=1e-5)


def test_a_regressor_pipeline(frame, quick):
    X, y = frame
    level = np.where(y == "high", 3.0, -3.0)
    reg = SSMRegressor(**quick)
    pipe = RegressorPipeline(reg, [ExponentTransformer(1.0, offset=0.0)]).fit(X, level)
    np.testing.assert_allclose(
        np.ravel(pipe.predict(X)), clone(reg).fit(X, level).predict(X), rtol=1e-5, atol=1e-5
    )


def test_grid_search_gives_the_scores_of_its_folds(frame, quick):
    X, y = frame
    clf, cv = SSMClassifier(**quick), KFold(2)
    search = TSCGridSearchCV(clf, {"max_epochs": [1, 20]}, cv=cv).fit(X, y)
    for fold, (train, test) in enumerate(cv.split(np.arange(24))):
        scores = [
            accuracy_score(y[test], short.fit(series(X, train), y[train]).predict(series(X, test)))
            for short in (SSMClassifier(**{**quick, "max_epochs": n}) for n in (1, 20))
        ]
        np.testing.assert_allclose(search.cv_results_[f"split{fold}_test_score"], scores)
    np.testing.assert_array_equal(
        search.predict(X), clone(clf).set_params(**search.best_params_).fit(X, y).predict(X)
    )


def test_a_multiplexer_chooses(frame, quick):
    X, y = frame
    choice = MultiplexClassifier([("ours", SSMClassifier(**quick)), ("dummy", DummyClassifier())])
    ours = choice.set_params(selected_classifier="ours").fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(ours, SSMClassifier(**quick).fit(X, y).predict_proba(X))
    dummy = choice.set_params(selected_classifier="dummy").fit(X, y).predict(X)
    assert accuracy_score(y, dummy) < accuracy_score(y, choice.classes_[ours.argmax(axis=1)])


def test_evaluation_gives_the_scores_of_its_folds(frame, quick):
    module = pytest.importorskip("sktime.classification.model_evaluation", reason="needs a later sktime")
    X, y = frame
    clf, cv = SSMClassifier(**quick), KFold(2)
    results = module.evaluate(clf, cv, X, y, scoring=accuracy_score, error_score="raise")
    scores = []
    for train, test in cv.split(np.arange(24)):
        fitted = clone(clf).fit(series(X, train), y[train])
        scores.append(accuracy_score(y[test], fitted.predict(series(X, test))))
    np.testing.assert_allclose(results["test_accuracy_score"], scores)
    assert np.mean(scores) > 0.9


@pytest.mark.filterwarnings("ignore:The default of config:FutureWarning")  # of sktime's own forecasters
def test_a_forecaster_of_a_regressor():
    index = pd.period_range("2020-01", periods=80, freq="M")
    y = pd.Series(np.sin(np.arange(80) / 4), index=index)
    regressor = SSMFeaturesRegressor(n_features=384, random_state=0)
    forecaster = make_reduction(
        regressor, strategy="direct", window_length=24, scitype="time-series-regressor"
    )
    found = forecaster.fit(y[:-3], fh=[1, 2, 3]).predict()
    assert found.index.equals(index[-3:])
    np.testing.assert_allclose(found, y[-3:], atol=0.15)


@pytest.mark.skipif(parse(sklearn.__version__) < parse("1.9"), reason="keeps nothing on a step")
def test_scikit_learn_has_no_pipelines_of_transformers_of_sktime_yet(quick):
    # Where this fails, the two have come to terms, and the guide can say so.
    pipeline = make_pipeline(ExponentTransformer(2), SSMClassifier(**quick))
    with pytest.raises(AttributeError, match="_parent_callback_ctx"):
        pipeline.fit(np.random.default_rng(0).normal(size=(8, 1, 12)), np.arange(8) % 2)
