"""Predictions while another thread fits anew: by the fit before, or an error that says so."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from tsssm import SSMClassifier, SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor, SSMRegressor
from tsssm.estimators import _trained

X = np.random.default_rng(0).normal(size=(8, 2, 10))
Y = np.arange(8) % 2
NETWORK = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
FEATURES = {"n_features": 64, "n_scales": 2, "random_state": 0}


class Meanwhile:
    """An array, at the sight of which another fit begins."""

    shape, ndim = X.shape, 3

    def __init__(self, model):
        self.model = model

    def __array__(self, dtype=None, copy=None):
        self.model.reset()
        return X


@pytest.mark.parametrize(
    ("model", "methods"),
    [
        (SSMClassifier(**NETWORK), ["predict", "predict_proba"]),
        (SSMRegressor(**NETWORK, loss="gaussian"), ["predict", "predict_quantiles"]),
        (SSMFeaturesClassifier(**FEATURES), ["predict", "predict_proba", "decision_function"]),
        (SSMFeaturesRegressor(**FEATURES), ["predict"]),
        (SSMFeatures(**FEATURES), ["transform"]),
    ],
)
def test_a_fit_that_begins_meanwhile(model, methods):
    for name in methods:
        options = [[0.1, 0.9]] if name == "predict_quantiles" else []
        expected = getattr(model.fit(X, Y), name)(X, *options)
        ask = getattr(model, name)
        np.testing.assert_array_equal(ask(Meanwhile(model), *options), expected)
        with pytest.raises(NotFittedError, match="has not been fitted yet, or `fit` is still running"):
            ask(X, *options)


def test_an_estimator_in_the_middle_of_its_reset_is_not_fitted(monkeypatch):
    model = SSMRegressor(**NETWORK).fit(X, Y)
    seen = []
    init = SSMRegressor.__init__

    def asked_meanwhile(self, *args, **kwargs):
        with pytest.raises(NotFittedError):
            self.predict(X)
        seen.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(SSMRegressor, "__init__", asked_meanwhile)
    model.reset()
    assert seen == [model]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_intervals_outlast_a_fit_that_is_broken_off(stop, monkeypatch):
    """A fit that goes on works on a copy of what is known of y."""
    reg = SSMRegressor(**NETWORK, n_members=2, n_features=384, warm_start=True).fit(X, np.arange(8.0))
    expected = reg.predict_interval(X, coverage=0.5)

    def broken(*args, **kwargs):
        raise stop

    monkeypatch.setattr(_trained, "train", broken)
    with pytest.raises(stop):
        reg.fit(X, np.arange(8.0))
    np.testing.assert_array_equal(reg.predict_interval(X, coverage=0.5), expected)


@pytest.mark.parametrize(("before", "after"), [("s4", "s4d"), ("lssl", "s4")])
def test_another_backbone_does_not_go_on(before, after):
    """Whose default rule of discretisation, here 0.75 or bilinear, may be none of its own."""
    clf = SSMClassifier(**NETWORK, n_members=1, n_features=0, backbone=before, warm_start=True).fit(X, Y)
    expected = clf.predict_proba(X)
    with pytest.raises(ValueError, match=r"warm_start=True cannot continue .* \(backbone, "):
        clf.set_params(backbone=after).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
