"""The folds that members leave out, the closed form beside them, and how the two are blended."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

import tsssm
from tsssm import Panel, SSMClassifier, SSMRegressor, Stream
from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.estimators import _blending, _network
from tsssm.estimators._blending import sizes_of
from tsssm.estimators._closed_form import fit_closed_form, logit_weights, number_weights
from tsssm.estimators._splits import Labelled, folds
from tsssm.features import StateSpaceFeatures, fit_ridge, predict_ridge, smoothed_labels
from tsssm.training import predict, predict_left_out

CPU = torch.device("cpu")


@pytest.fixture
def several(tiny):
    return {**tiny, "n_members": 3, "n_features": 384, "max_epochs": 2}


@pytest.fixture
def irregular():
    """24 series of 8 to 14 samples at random times, some values missing, two classes that differ in level."""
    rng = np.random.default_rng(0)
    y = np.tile(["calm", "wild"], 12)
    series = [rng.normal(size=(2, rng.integers(8, 15))) + (label == "wild") for label in y]
    series[3][0, 2] = series[7][1, 1] = np.nan
    times = [np.cumsum(rng.uniform(0.5, 2.0, size=x.shape[1])) for x in series]
    return Panel.from_arrays(series, times), y, np.array([np.nanmean(x) for x in series])


# Folds


def labelled_rows(y, groups=None):
    return Labelled(Panel.from_numpy(np.zeros((len(y), 1, 2))), y, np.ones(len(y)), groups)


def test_folds_cover_every_class_evenly_and_leave_no_class_out_of_training():
    y = np.repeat([0, 1, 2], [20, 9, 1])
    fold = folds(labelled_rows(y), y, 4, 0, classes=True)
    assert fold[-1] == -1  # the only one of its class
    assert sorted(np.bincount(fold[:29])) == [7, 7, 7, 8]
    for label, count in ((0, 20), (1, 9)):
        sizes = np.bincount(fold[y == label], minlength=4)
        assert sizes.sum() == count and np.ptp(sizes) <= 1


def test_folds_hold_whole_groups():
    groups = np.random.default_rng(0).integers(7, size=60)
    fold = folds(labelled_rows(np.arange(60.0), groups), np.arange(60.0), 3, 0, classes=False)
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    assert set(fold) == {0, 1, 2}
    alone = labelled_rows(np.arange(60.0), np.zeros(60))
    assert folds(alone, np.arange(60.0), 3, 0, classes=False) is None


# Weights


def test_weights_of_logits_are_those_of_a_search():
    rng = np.random.default_rng(0)
    codes, weight = rng.integers(3, size=30), rng.uniform(0.5, 2.0, size=30)
    truth = np.eye(3)[codes]
    start, outputs = (scale * truth + rng.normal(size=(30, 3)) for scale in (1.5, 1.0))
    target, share = smoothed_labels(codes, 3), weight / weight.mean()

    def loss(a, b):
        terms = (target * log_softmax(a * start + b * outputs, axis=1)).sum(axis=1)
        return -share @ terms + (a - 1) ** 2 + b**2

    found = logit_weights(start, outputs, codes, weight)
    grid = np.linspace(0.0, 2.0, 101)
    best = min(loss(a, b) for a in grid for b in grid)
    assert loss(*found) <= best + 1e-6
    # What says nothing of the classes has no part, however often it is asked.
    noise = np.tile(rng.normal(size=(30, 3)), (20, 1))
    alone = logit_weights(noise, np.tile(outputs, (20, 1)), np.tile(codes, 20), np.ones(600))
    assert alone[1] > 5 * alone[0]


def test_weights_of_numbers_solve_the_least_squares():
    rng = np.random.default_rng(0)
    start, outputs, noise = rng.normal(size=(3, 50))
    target, weight = 0.7 * start + 0.4 * outputs + 0.1 * noise, rng.uniform(0.5, 2.0, size=50)
    X, share = np.stack([start, outputs], axis=1), weight / weight.mean()
    expected = np.linalg.solve((X.T * share) @ X + np.eye(2), (X.T * share) @ target + np.array([1.0, 0.0]))
    np.testing.assert_allclose(number_weights(start, outputs, target, weight), expected, rtol=1e-10)
    assert number_weights(start, outputs, start - outputs, weight)[1] == 0.0


# Estimators


def test_with_groups_the_closed_form_leaves_out_what_the_members_do():
    rng = np.random.default_rng(0)
    panel = Panel.from_numpy(rng.normal(size=(20, 1, 15)))
    y, weight, fold = rng.normal(size=(20, 1)), rng.uniform(0.5, 2.0, size=20), np.arange(20) % 3
    options = {"n_features": 384, "normalize": "global", "seed": 0, "device": CPU}
    closed_form, left_out = fit_closed_form(panel, y, weight, fold, **options)
    features = StateSpaceFeatures(384, "diagonal", 12, ("ppv", "competition"), "global", 0).fit(panel)
    values = features.transform(panel)
    np.testing.assert_array_equal(closed_form.coef, fit_ridge(values, y, weight / weight.mean()).coef)
    seen = fold != 1
    ridge = fit_ridge(values[seen], y[seen], weight[seen] / weight.mean())
    expected = predict_ridge(values[~seen], ridge.coef, ridge.intercept)
    np.testing.assert_allclose(left_out[~seen], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", "quantile"])
def test_a_regressor_blends_the_centre_and_keeps_the_spread(several, irregular, loss):
    panel, _, level = irregular
    reg = SSMRegressor(**several, loss=loss).fit(panel, level)
    assert reg.blend_.shape == (1, 2) and (reg.blend_ >= 0).all()
    net = predict(reg.net_, reg.encoder_.encode(panel), CPU).numpy().astype(np.float64)
    z = reg._outputs(panel)
    centre = {"quantile": 1}.get(loss, 0)
    own = np.sort(net, axis=1)[:, centre]
    a, b = reg.blend_[0]
    blend = a * reg.closed_form_.predict(panel, CPU)[:, 0] + b * own
    np.testing.assert_allclose(np.sort(z, axis=1)[:, centre] if centre else z[:, 0], blend, atol=1e-6)
    np.testing.assert_allclose(reg.predict(panel), blend * reg._targets.std + reg._targets.mean, atol=1e-6)
    if loss == "gaussian":
        np.testing.assert_array_equal(z[:, 1], net[:, 1])
    if loss == "quantile":
        np.testing.assert_allclose(np.diff(z, axis=1), np.diff(net, axis=1), atol=1e-6)


@pytest.mark.parametrize("several_columns", [False, True])
def test_a_classifier_is_saved_and_streamed_whole(several, irregular, several_columns, tmp_path):
    panel, y, level = irregular
    if several_columns:
        y = np.stack([y, np.where(level > 0.5, "high", "low")], axis=1)
    clf = SSMClassifier(**several, bidirectional=False).fit(panel, y)
    assert len(clf.net_.members) == 3 and clf.blend_.shape == (1 + several_columns, 2)
    clf.blend_ = np.full_like(clf.blend_, 0.6)  # so that both have a part
    clf.save(tmp_path / "model.safetensors")
    loaded = tsssm.load(tmp_path / "model.safetensors")
    expected = clf.predict_proba(panel)
    np.testing.assert_array_equal(loaded.predict_proba(panel), expected)
    stream = Stream(loaded)
    for i in (3, 7):  # with missing values
        stream.reset()
        x, t = panel[[i]].values, panel[[i]].times
        answers = stream.push_many(x[:4], t[:4])
        stream = stream.copy()
        answers = stream.push_many(x[4:], t[4:])
        found, proba = (answers, expected) if several_columns else ([answers], [expected])
        for column, truth in zip(found, proba, strict=True):
            np.testing.assert_allclose(column[-1], truth[i], atol=2e-5)


def test_sizes_follow_the_data_and_the_direction(tiny, labelled):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "n_members": "auto", "n_features": "auto"})
    for n, sizes in ((2000, (4, 12288)), (2001, (1, 12288)), (5001, (1, 0))):
        panel = Panel(np.arange(float(n))[:, None], np.arange(n + 1))
        data = PanelEncoder().fit(panel).encode(panel)
        assert sizes_of(clf, data) == sizes
        assert sizes_of(clf, data, incremental=True) == (1, 0)
    clf.set_params(bidirectional=False).fit(X, y)
    assert isinstance(clf.net_, Backbone) and clf.closed_form_ is None and clf.blend_ is None
    few = SSMClassifier(**{**tiny, "n_members": 4, "n_features": 384}).fit(X[::8], y[::8])
    np.testing.assert_array_equal(few.blend_, [[0.5, 0.5]])  # each is the only one of its class


def test_one_network_of_many_series_is_weighed_by_a_tenth_that_it_has_not_seen(tiny, labelled, monkeypatch):
    X, y = labelled
    told = {}

    def left_out(net, data, fold, device):
        told["net"], told["fold"], told["outputs"] = net, fold, predict_left_out(net, data, fold, device)
        return told["outputs"]

    def beside(*args):
        told["beside"] = fit_beside(*args)
        return told["beside"]

    def run(estimator, fit, shape, batches, *rest):
        told["u"] = batches.data.u
        return trained(estimator, fit, shape, batches, *rest)

    fit_beside, trained = _blending.fit_beside, _network._trained.run
    monkeypatch.setattr(_blending, "_FEW", 20)
    monkeypatch.setattr(_blending, "fit_beside", beside)
    monkeypatch.setattr(_network._trained, "run", run)
    monkeypatch.setattr(_network, "predict_left_out", left_out)
    clf = SSMClassifier(**{**tiny, "n_members": "auto", "n_features": 384}).fit(X, y)
    unseen = (told["fold"] == 0).numpy()
    assert isinstance(clf.net_, Backbone) and told["net"] is clf.net_ and unseen.sum() == 2
    np.testing.assert_array_equal(np.isfinite(told["outputs"].numpy()).all(axis=1), unseen)
    assert torch.equal(told["u"], clf.encoder_.encode(Panel.from_numpy(X[~unseen])).u)
    codes = np.unique(y, return_inverse=True)[1][unseen]
    outputs = told["outputs"].numpy().astype(np.float64)[unseen]
    start = clf._targets.starts(told["beside"].left_out[unseen])[0]
    expected = logit_weights(start, outputs, codes, np.ones(len(codes)))
    np.testing.assert_allclose(clf.blend_[0], expected, atol=1e-6)
    # What goes on may have seen them all: it keeps its weight, and has no closed form if it had none.
    clf.set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(clf.blend_[0], expected, atol=1e-6)
    assert len(told["u"]) == X.shape[0] * X.shape[2]
    data = clf.set_params(n_features="auto").encoder_.encode(Panel.from_numpy(X))
    assert sizes_of(clf, data, clf.net_) == (1, 12288)
    clf.closed_form_ = None
    assert sizes_of(clf, data, clf.net_) == (1, 0)


def test_what_one_network_leaves_out_spares_classes_and_large_groups(tiny, monkeypatch):
    monkeypatch.setattr(_blending, "_FEW", 20)
    panel, y = Panel.from_numpy(np.zeros((40, 1, 3))), np.arange(40) // 4 % 2
    targets = SSMClassifier(**tiny).fit(np.random.default_rng(0).normal(size=(40, 1, 5)), y)._targets

    def left_out(groups, y=y):
        fold = _blending.tenth_of(targets, Labelled(panel, y, np.ones(40), groups), 0)
        return None if fold is None else np.flatnonzero(fold == 0)

    assert len(left_out(None)) == 4
    tens = left_out(np.arange(40) // 8)  # both classes in groups of 8
    assert len(tens) == 8 and len(set(tens // 8)) == 1
    assert left_out(np.arange(40) // 20) is None  # it would miss half of the series
    assert left_out(np.arange(40) // 20, y=np.arange(40) // 20) is None  # or a class


def test_one_member_beside_a_closed_form_counts_as_much(tiny, labelled):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "n_features": 384}).fit(X, y)
    np.testing.assert_array_equal(clf.blend_, [[0.5, 0.5]])
    start = clf._targets.starts(clf.closed_form_.predict(Panel.from_numpy(X), CPU))[0]
    outputs = predict(clf.net_, clf.encoder_.encode(Panel.from_numpy(X)), CPU).numpy()
    expected = np.exp(log_softmax(0.5 * start + 0.5 * outputs, axis=1))
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-5)


def test_warm_starts_and_parts_keep_the_members(several, labelled):
    X, y = labelled
    clf = SSMClassifier(**several, warm_start=True).fit(X, y)
    blend = clf.blend_.copy()
    assert clf.fit(X, y).n_iter_ == 4 and len(clf.net_.members) == 3
    assert not np.array_equal(clf.blend_, blend)
    with pytest.raises(ValueError, match="n_members"):
        clf.set_params(n_members=2).fit(X, y)
    clf.set_params(n_members=3)
    blend = clf.blend_.copy()
    np.testing.assert_array_equal(clf.partial_fit(X, y).blend_, blend)
    fresh = SSMClassifier(**several).partial_fit(X, y, classes=np.unique(y))
    assert fresh.closed_form_ is None and len(fresh.net_.members) == 3


@pytest.mark.parametrize(("name", "value"), [("n_members", 0), ("n_features", 100), ("n_features", "many")])
def test_wrong_sizes_are_refused(tiny, labelled, name, value):
    with pytest.raises(ValueError, match=name):
        SSMClassifier(**{**tiny, name: value}).fit(*labelled)
