"""SSMFeatures, SSMFeaturesClassifier and SSMFeaturesRegressor in scikit-learn and in sktime."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from scipy.special import softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sktime.transformations.series.difference import Differencer

from tsssm import Panel, SSMClassifier, SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor, load
from tsssm.features import ALPHAS, StateSpaceFeatures

SMALL = {"n_features": 256, "n_scales": 4, "random_state": 0}
CLASSES = (SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor)


@pytest.fixture
def waves() -> tuple[np.ndarray, np.ndarray]:
    """X (40, 1, 80): noisy sines of two frequencies."""
    rng = np.random.default_rng(0)
    y = np.repeat(["fast", "slow"], 20)
    rate = np.where(y == "fast", 6.0, 4.0)[:, None]
    t = np.linspace(0, 1, 80) + rng.uniform(size=(40, 1))
    return (np.sin(2 * np.pi * rate * t) + 0.5 * rng.normal(size=(40, 80)))[:, None], y


@pytest.fixture
def irregular(waves) -> tuple[Panel, np.ndarray]:
    """Two thirds of the samples of the waves, with their times in seconds."""
    X, y = waves
    rng = np.random.default_rng(1)
    rows = [np.sort(rng.choice(80, 54, replace=False)) for _ in X]
    return Panel.from_arrays([x[:, r] for x, r in zip(X, rows, strict=True)], [r / 10 for r in rows]), y


# Features


def test_output_containers(waves):
    X, _ = waves
    trafo = SSMFeatures(**SMALL).fit(X)
    F = trafo.transform(X)
    assert F.shape == (40, trafo.n_features_out_) and F.dtype == np.float32
    frame = clone(trafo).set_output(transform="pandas").fit_transform(X)
    np.testing.assert_array_equal(frame, F)
    assert list(frame.columns) == trafo.get_feature_names_out().tolist()
    np.testing.assert_array_equal(trafo.transform(Panel.from_numpy(X)), F)
    np.testing.assert_array_equal(trafo.transform(list(X)), F)
    np.testing.assert_array_equal(trafo.transform(X[:, 0]), F)


def test_one_series_of_sktime_is_one_row(waves):
    X, _ = waves
    trafo = SSMFeatures(**SMALL).fit(X)
    dates = pd.date_range("2026-01-01", periods=80, freq="s")
    with pytest.raises(ValueError, match="cannot be compared"):
        trafo.transform(pd.Series(X[0, 0], index=dates))
    one = trafo.transform(pd.Series(X[0, 0]))
    assert one.shape == (1, trafo.n_features_out_)
    np.testing.assert_array_equal(one.to_numpy(), trafo.transform(X[:1]))


def test_threads_change_nothing(waves):
    X, _ = waves
    F = SSMFeatures(**SMALL).fit_transform(X)
    np.testing.assert_array_equal(SSMFeatures(**SMALL, n_jobs=3).fit_transform(X), F)
    with parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(SSMFeatures(**SMALL).fit_transform(X), F)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"n_features": 0}, ValueError, "n_features must be an integer of at least 1; got 0"),
        ({"n_features": 100}, ValueError, "n_features must be at least 128 for n_scales=4"),
        ({"n_scales": 2.0}, TypeError, "n_scales must be an integer"),
        ({"basis": "fourier"}, ValueError, "basis must be one of 'diagonal', 'legt', 'legs'"),
        ({"pooling": "ppv"}, ValueError, "pooling must be 'auto', 'charts' or a tuple"),
        ({"pooling": ("ppv", "mean")}, ValueError, "pooling must be .* a tuple"),
        ({"pooling": ()}, ValueError, "pooling must be .* a tuple"),
        ({"normalize": "both"}, ValueError, "normalize must be 'auto', 'series', 'global' or None"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be None or an integer other than 0"),
        ({"accelerator": "mps"}, ValueError, "accelerator must be one of 'auto', 'cpu', 'gpu', 'cuda'"),
        ({"random_state": "a"}, ValueError, "random_state must be None"),
    ],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_bad_parameters(cls, change, error, message, waves):
    X, y = waves
    with pytest.raises(error, match=message):
        cls(**{**SMALL, **change}).fit(X, np.arange(40) % 2)


@pytest.mark.parametrize("cls", CLASSES[1:])
def test_what_does_not_belong_to_the_series_is_named(cls, waves):
    X, _ = waves
    for y, error, message in (
        (np.zeros(39), ValueError, r"X has 40 series, y has shape \(39,\)"),
        ([0.0, 1.0], ValueError, r"y has shape \(2,\)"),
        (1.0, TypeError, "y must be an array, list or frame with one entry for each of the 40 series"),
        (X[:, 0].ravel(), ValueError, "not one for each of its samples"),
    ):
        with pytest.raises(error, match=message):
            cls(**SMALL).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a CUDA device")
@pytest.mark.parametrize("cls", [*CLASSES, SSMClassifier])
def test_a_gpu_that_is_not_there(cls, waves):
    X, y = waves
    with pytest.raises(ValueError, match="accelerator='gpu' needs a CUDA device"):
        cls(accelerator="gpu", random_state=0).fit(X, np.arange(40) % 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a CUDA device")
def test_fitted_on_a_gpu_and_used_where_there_is_none(waves):
    X, _ = waves
    trafo = SSMFeatures(**SMALL).fit(X)
    expected = trafo.transform(X)
    trafo.accelerator = "gpu"
    np.testing.assert_array_equal(trafo.transform(X), expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_accelerator_is_where_features_are_computed(cls, waves, monkeypatch):
    X, y = waves
    asked, transform = [], StateSpaceFeatures.transform

    def watched(self, panel, n_threads, device):
        asked.append(device.type)
        return transform(self, panel, n_threads)

    monkeypatch.setattr(StateSpaceFeatures, "transform", watched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for accelerator, device in (("auto", "cuda"), ("gpu", "cuda"), ("cpu", "cpu")):
        fitted = cls(**SMALL, accelerator=accelerator).fit(X, np.arange(40) % 2)
        fitted.transform(X) if cls is SSMFeatures else fitted.predict(X)
        assert set(asked) == {device}
        asked.clear()


# Classification


def test_it_tells_the_waves_apart(waves, irregular):
    assert cross_val_score(SSMFeaturesClassifier(**SMALL), *waves, cv=4).mean() > 0.9
    assert cross_val_score(SSMFeaturesClassifier(**SMALL), *irregular, cv=4).mean() > 0.9


def test_times_reach_the_features(irregular):
    panel, y = irregular
    clf, cv = SSMFeaturesClassifier(**SMALL), StratifiedKFold(4)
    proba = cross_val_predict(clf, panel, y, cv=cv, method="predict_proba")
    untimed = cross_val_predict(clf, Panel(panel.values, panel.offsets), y, cv=cv, method="predict_proba")
    truth = (y == "slow").astype(int)
    assert log_loss(truth, proba) < log_loss(truth, untimed)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_head_is_that_of_scikit_learn(n_classes, waves):
    X, _ = waves
    y = np.arange(40) % n_classes
    clf = SSMFeaturesClassifier(**SMALL, class_weight={0: 2.0}).fit(X, y)
    F = SSMFeatures(**SMALL).fit_transform(X).astype(np.float64)
    weight = np.where(y == 0, 2.0, 1.0)
    mean = np.average(F, axis=0, weights=weight)
    std = np.sqrt(np.average((F - mean) ** 2, axis=0, weights=weight))
    Z = (F - mean) / np.where(std > 1e-6, std, np.inf)
    # Weights have mean 1 here, and in scikit-learn they count as they are.
    peer = RidgeClassifierCV(alphas=ALPHAS).fit(Z, y, sample_weight=weight / weight.mean())
    assert clf.alpha_ == peer.alpha_
    np.testing.assert_allclose(clf.decision_function(X), peer.decision_function(Z), atol=1e-6)  # float64
    np.testing.assert_array_equal(clf.predict(X), peer.predict(Z))


def test_probabilities(waves):
    X, y = waves
    rng = np.random.default_rng(0)
    many = np.concatenate([X + 0.5 * rng.normal(size=X.shape) for _ in range(5)])
    truth = np.tile(y == "slow", 5).astype(int)
    wrong = rng.choice(200, 40, replace=False)
    truth[wrong] = 1 - truth[wrong]
    proba = cross_val_predict(SSMFeaturesClassifier(**SMALL), many, truth, cv=4, method="predict_proba")
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    # Sharper or flatter by a factor of three is worse: the slope is about right for series out of the fit.
    logits = np.log(proba)
    for factor in (1 / 3, 3.0):
        assert log_loss(truth, proba) < log_loss(truth, softmax(factor * logits, axis=1))
    clf = SSMFeaturesClassifier(**SMALL).fit(X, y)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[clf.predict_proba(X).argmax(axis=1)])


def test_weights_and_class_weights(waves):
    X, y = waves
    clf = SSMFeaturesClassifier(**SMALL)
    few = np.r_[0:20, 20:24]
    balanced = clone(clf).set_params(class_weight="balanced").fit(X[few], y[few])
    by_hand = clone(clf).fit(X[few], y[few], sample_weight=np.where(y[few] == "slow", 3.0, 0.6))
    np.testing.assert_allclose(by_hand.predict_proba(X), balanced.predict_proba(X), atol=1e-9)  # float64
    out = np.r_[np.ones(30), np.zeros(10)]
    np.testing.assert_array_equal(
        clone(clf).fit(X, y, sample_weight=out).predict_proba(X),
        clone(clf).fit(X[:30], y[:30]).predict_proba(X),
    )
    # Where the series do not tell, the heavier class is the likelier one.
    noise, label = np.random.default_rng(0).normal(size=(60, 20)), np.arange(60) % 2
    heavy = clone(clf).set_params(class_weight={0: 1.0, 1: 10.0}).fit(noise, label)
    assert heavy.predict_proba(noise[::-1] + 1)[:, 1].mean() > 0.7


def test_several_columns(waves):
    X, y = waves
    both = pd.DataFrame({"speed": y, "third": np.arange(40) % 3})
    clf = SSMFeaturesClassifier(**SMALL).fit(X, both)
    predicted = clf.predict(X)
    assert list(predicted.columns) == ["speed", "third"]
    assert [p.shape for p in clf.predict_proba(X)] == [(40, 2), (40, 3)]
    assert (predicted["speed"] == y).mean() > 0.9
    assert not hasattr(clf, "decision_function") and 0 <= clf.score(X, both) <= 1


def test_a_single_class_is_predicted(waves):
    X, _ = waves
    with pytest.warns(UserWarning, match="only single label"):
        clf = SSMFeaturesClassifier(**SMALL).fit(X, ["a"] * 40)
    assert set(clf.predict(X)) == {"a"}
    np.testing.assert_array_equal(clf.predict_proba(X), 1.0)


# Regression


def test_regression_of_one_and_several_numbers(waves):
    rng = np.random.default_rng(0)
    rate = rng.uniform(2, 8, 120)
    X = np.sin(2 * np.pi * rate[:, None] * (np.linspace(0, 1, 80) + rng.uniform(size=(120, 1))))
    reg = SSMFeaturesRegressor(**SMALL).fit(X[:80], rate[:80])
    assert reg.score(X[80:], rate[80:]) > 0.9
    both = pd.DataFrame({"rate": rate, "period": 1e6 / rate})
    several = clone(reg).fit(X[:80], both[:80])
    predicted = several.predict(X[80:])
    assert list(predicted.columns) == ["rate", "period"] and several.score(X[80:], both[80:]) > 0.8
    # The unit of a target changes nothing but the unit of its prediction.
    scaled = clone(reg).fit(X[:80], 1000 * rate[:80] - 7)
    np.testing.assert_allclose(scaled.predict(X), 1000 * reg.predict(X) - 7, rtol=1e-7)  # float64


# Machinery


@pytest.mark.parametrize("cls", CLASSES)
def test_clone_pickle_and_model_files(cls, irregular, tmp_path):
    panel, y = irregular
    target = np.arange(40.0) if cls is SSMFeaturesRegressor else y
    estimator = cls(**SMALL).fit(panel, target)
    method = "transform" if cls is SSMFeatures else "predict"
    expected = getattr(estimator, method)(panel)
    assert clone(estimator).get_params() == estimator.get_params()
    np.testing.assert_array_equal(getattr(pickle.loads(pickle.dumps(estimator)), method)(panel), expected)
    estimator.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(getattr(load(tmp_path / "model.safetensors"), method)(panel), expected)
    with pytest.raises(NotFittedError, match=cls.__name__):
        getattr(clone(estimator), method)(panel)


def test_searches_pipelines_and_calibration(irregular):
    panel, y = irregular
    grid = {"pooling": [("ppv",), ("ppv", "competition")]}
    with parallel_config("threading"):
        search = GridSearchCV(SSMFeaturesClassifier(**SMALL), grid, cv=2, n_jobs=2).fit(panel, y)
    assert search.predict(panel).shape == (40,)
    pipe = make_pipeline(SSMFeatures(**SMALL), StandardScaler(), RidgeClassifierCV(ALPHAS)).fit(panel, y)
    agreement = pipe.predict(panel) == SSMFeaturesClassifier(**SMALL).fit(panel, y).predict(panel)
    assert agreement.all()
    calibrated = CalibratedClassifierCV(SSMFeaturesClassifier(**SMALL), cv=2).fit(panel, y)
    assert calibrated.predict_proba(panel).shape == (40, 2)


def test_pipelines_of_sktime(waves):
    X, y = waves
    pipe = Differencer() * SSMFeaturesClassifier(**SMALL)
    assert np.mean(pipe.fit(X, y).predict(X) == y) > 0.9
    features = SSMFeatures(**SMALL) * RidgeClassifierCV(ALPHAS)
    assert np.mean(features.fit(X, y).predict(X) == y) > 0.9


def test_channels_have_to_be_those_of_fit(irregular):
    panel, y = irregular
    clf = SSMFeaturesClassifier(**SMALL).fit(panel, y)
    with pytest.raises(ValueError, match="X has 2 channel"):
        clf.predict(np.zeros((3, 2, 80)))


def test_neither_noise_nor_global_state(tmp_path):
    code = (
        "import numpy as np, torch; from tsssm import SSMFeaturesClassifier;"
        "before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist();"
        "X = np.random.default_rng(0).normal(size=(12, 1, 9));"
        "SSMFeaturesClassifier(n_features=384).fit(X, np.arange(12) % 2).predict(X);"
        "assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
