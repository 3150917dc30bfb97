from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from tsssm import Panel, SSMClassifier, SSMRegressor, load
from tsssm.backbone import BACKBONES
from tsssm.encoding import PanelEncoder
from tsssm.estimators._recipes import batch_size_of, recipe_of


@pytest.fixture
def numbers():
    """X (30, 1, 15), and the level of each series as target."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=30)
    return level[:, None, None] + 0.1 * rng.normal(size=(30, 1, 15)), level


def proba(estimator, X):
    return estimator.predict_proba(X)


# Learning


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_learns_levels(labelled, tiny, backbone):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "backbone": backbone, "max_epochs": 60}).fit(X, y)
    assert clf.score(X, y) > 0.9
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


def test_probabilities_are_in_the_order_of_the_classes(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "max_epochs": 30}).fit(X, y)
    assert clf.classes_.tolist() == ["high", "low", "mid"] and clf.n_classes_ == 3
    p = proba(clf, X)
    assert p.shape == (24, 3) and p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-14)
    assert (clf.classes_[p.argmax(axis=1)] == clf.predict(X)).all()


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], [True, False], [-1.0, 1.0], np.array(["a", "b"], dtype=object), [10**12, 5]],
    ids=["int", "bool", "float", "object", "large"],
)
def test_labels_come_back_as_they_went_in(labelled, tiny, labels):
    X, _ = labelled
    y = np.resize(np.asarray(labels), 24)
    predicted = SSMClassifier(**{**tiny, "max_epochs": 1}).fit(X, y).predict(X)
    assert predicted.dtype == y.dtype and set(predicted) <= set(y)


def test_regression_undoes_the_standardisation(numbers, tiny):
    X, level = numbers
    y = 1e6 + 100 * level
    reg = SSMRegressor(**{**tiny, "max_epochs": 60}).fit(X, y)
    assert reg.score(X, y) > 0.9
    assert reg.predict(X).shape == (30,) and reg.predict(X).dtype == np.float64


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_each_loss_learns_several_outputs_of_different_scale(numbers, tiny, loss):
    X, level = numbers
    y = np.column_stack([level, 1000 - 50 * level, np.full(30, 7.0)])
    reg = SSMRegressor(**{**tiny, "max_epochs": 60}, loss=loss).fit(X, y)
    predicted = reg.predict(X)
    assert predicted.shape == (30, 3)
    assert reg.score(X[:, :], y, multioutput="raw_values")[:2].min() > 0.9
    np.testing.assert_allclose(predicted[:, 2], 7.0, atol=0.5)


def test_the_shape_of_y_comes_back(numbers, tiny):
    X, level = numbers
    fit = SSMRegressor(**{**tiny, "max_epochs": 1}).fit
    assert fit(X, level[:, None]).predict(X).shape == (30, 1)
    assert fit(X, pd.Series(level)).predict(X).shape == (30,)
    assert fit(X, pd.DataFrame({"bpm": level})).predict(X).shape == (30,)
    frame = fit(X, pd.DataFrame({"bpm": level, "spo2": -level})).predict(X)
    assert list(frame.columns) == ["bpm", "spo2"] and frame.shape == (30, 2)


def test_a_constant_target_is_predicted(numbers, tiny):
    X, _ = numbers
    reg = SSMRegressor(**{**tiny, "max_epochs": 40}).fit(X, np.full(30, -3.0))
    np.testing.assert_allclose(reg.predict(X), -3.0, atol=0.2)


def test_a_single_class_is_predicted_without_training(labelled, tiny):
    X, _ = labelled
    with pytest.warns(UserWarning, match="only single label"):
        clf = SSMClassifier(**tiny).fit(X, ["yes"] * 24)
    assert clf.predict(X[:2]).tolist() == ["yes", "yes"]
    assert proba(clf, X[:2]).tolist() == [[1.0], [1.0]]
    assert clf.n_iter_ == 0
    with pytest.raises(ValueError, match="channel"):
        clf.predict(X[:, :1])


@pytest.mark.parametrize("scale", [1e-200, 1e200], ids=["tiny", "huge"])
def test_targets_of_any_scale_are_standardised(numbers, tiny, scale):
    X, level = numbers
    expected = SSMRegressor(**tiny).fit(X, level).predict(X)
    predicted = SSMRegressor(**tiny).fit(X, scale * level).predict(X) / scale
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-5)  # float32


def test_targets_that_differ_only_where_the_weight_is_zero_are_constant(numbers, tiny):
    X, _ = numbers
    weight, y = np.ones(30), np.full(30, 2.0)
    weight[4], y[4] = 0.0, 100.0
    reg = SSMRegressor(**{**tiny, "max_epochs": 40}).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(reg.predict(X), 2.0, atol=0.2)


@pytest.mark.parametrize(("dtype", "labels"), [("Int64", [1, 2]), ("boolean", [True, False])])
@pytest.mark.parametrize("frame", [False, True])
def test_nullable_labels_come_back_in_their_numpy_dtype(labelled, tiny, dtype, labels, frame):
    X, _ = labelled
    y = pd.Series(labels * 12, dtype=dtype)
    clf = SSMClassifier(**{**tiny, "max_epochs": 1}).fit(X, y.to_frame() if frame else y)
    assert clf.classes_.dtype == np.asarray(labels).dtype
    assert clf.classes_.tolist() == sorted(labels)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_counted_and_located(labelled, tiny, missing):
    X, y = labelled
    y = [*y[:5], missing, *y[6:]]
    for labels in (y, np.array(y, dtype=object), pd.Series(y, dtype=object)):
        with pytest.raises(ValueError, match="1 missing label.*position 5"):
            SSMClassifier(**tiny).fit(X, labels)


# Weights


def test_a_weight_of_zero_leaves_a_series_out(labelled, tiny):
    X, y = labelled
    weight = np.ones(24)
    weight[[3, 11, 20]] = 0
    clf = SSMClassifier(**tiny, batch_size=6).fit(X, y, sample_weight=weight)
    without = SSMClassifier(**tiny, batch_size=6).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_array_equal(proba(clf, X), proba(without, X))


def test_only_the_ratio_of_weights_matters(labelled, tiny):
    X, y = labelled
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=24)
    one, ten = (SSMClassifier(**tiny).fit(X, y, sample_weight=c * weight) for c in (1.0, 8.0))
    np.testing.assert_allclose(proba(one, X), proba(ten, X), rtol=1e-5)
    assert not np.allclose(proba(one, X), proba(SSMClassifier(**tiny).fit(X, y), X), rtol=1e-3)


def test_class_weights_shift_predictions_to_the_heavy_class(tiny):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 1, 8)), np.repeat([0, 1], 20)  # nothing to learn but the weights
    clf = SSMClassifier(**{**tiny, "max_epochs": 20}, class_weight={0: 1.0, 1: 50.0}).fit(X, y)
    assert (clf.predict(X) == 1).all()


def test_balanced_class_weights_are_sample_weights(labelled, tiny):
    X, y = labelled
    X, y = X[:20], y[:20]  # 8, 8 and 4
    by_class = SSMClassifier(**tiny, class_weight="balanced").fit(X, y)
    counts = dict(zip(*np.unique(y, return_counts=True), strict=True))
    weights = [20 / (3 * counts[label]) for label in y]
    by_sample = SSMClassifier(**tiny).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(proba(by_class, X), proba(by_sample, X), rtol=1e-5)


def test_class_weights_that_leave_nothing_are_refused(labelled, tiny):
    X, y = labelled
    with pytest.raises(ValueError, match="weights of all series are zero"):
        SSMClassifier(**tiny, class_weight=dict.fromkeys(y, 0.0)).fit(X, y)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_class_weights_must_be_finite_and_not_negative(labelled, tiny, value):
    X, y = labelled
    with pytest.raises(ValueError, match="class_weight must hold finite weights"):
        SSMClassifier(**tiny, class_weight={"low": value}).fit(X, y)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_trains_and_leaves_a_float32_network(labelled, tiny, precision):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "max_epochs": 60}, precision=precision).fit(X, y)
    assert clf.score(X, y) > 0.9
    assert {p.dtype for p in clf.net_.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("weight", "message"),
    [(np.zeros(24), "zero"), (-np.ones(24), "[Nn]egative"), (np.ones(23), "sample_weight")],
)
def test_bad_weights_are_refused(labelled, tiny, weight, message):
    X, y = labelled
    with pytest.raises(ValueError, match=message):
        SSMClassifier(**tiny).fit(X, y, sample_weight=weight)


# Early stopping


def test_early_stopping_reports_validation_scores(labelled, tiny):
    X, y = labelled
    settings = {**tiny, "max_epochs": 40, "n_iter_no_change": 3, "learning_rate": 0.05}
    clf = SSMClassifier(**settings, early_stopping=True, validation_fraction=0.25).fit(X, y)
    assert len(clf.validation_scores_) == clf.n_iter_ == len(clf.loss_curve_)
    assert clf.best_validation_score_ == max(clf.validation_scores_)
    reg = SSMRegressor(**settings, early_stopping=True).fit(X, X.mean(axis=(1, 2)))
    assert reg.best_validation_score_ == max(reg.validation_scores_)
    assert SSMClassifier(**tiny).fit(X, y).validation_scores_ is None


def test_the_validation_split_is_stratified():
    from tsssm.estimators._splits import stratified_split as split

    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [60, 30, 9, 1]))
    for seed in range(20):
        rows, held_out = split(np.arange(100), codes, 0.2, seed, classes=True)
        assert sorted([*rows, *held_out]) == list(range(100))
        counts = np.bincount(codes[held_out], minlength=4)
        assert abs(counts - [12, 6, 2, 0]).max() <= 1 and counts[3] == 0 and len(held_out) == 20
    for fraction in (0.5, 0.8, 0.9):  # every class keeps a series to train on
        rows, _ = split(np.arange(100), codes, fraction, 0, classes=True)
        assert set(codes[rows]) == {0, 1, 2, 3}


def test_early_stopping_with_too_few_series_says_so(labelled, tiny):
    X, y = labelled
    with pytest.raises(ValueError, match="validation_fraction"):
        SSMClassifier(**tiny, early_stopping=True).fit(X[[0, 8]], y[[0, 8]])


# Containers and times


def containers(X, times):
    """The same irregular series in each container that carries times."""
    frames = [pd.DataFrame(x.T, index=t) for x, t in zip(X, times, strict=True)]
    seconds = [frame.set_axis(pd.to_timedelta(frame.index, unit="s")) for frame in frames]
    nested = pd.DataFrame([[frame[c] for c in frame] for frame in frames])
    return {
        "panel": Panel.from_numpy(X, times),
        "df-list": frames,
        "timedelta df-list": seconds,
        "pd-multiindex": pd.concat(dict(enumerate(frames))),
        "nested": nested,
    }


def test_containers_with_times_give_one_and_the_same_model(labelled, tiny):
    X, y = labelled
    times = np.cumsum(np.random.default_rng(0).integers(1, 4, size=(24, 12)), axis=1).astype(float)
    fitted = {name: SSMClassifier(**tiny).fit(Z, y) for name, Z in containers(X, times).items()}
    Z = containers(X, times)
    expected = proba(fitted["panel"], Z["panel"])
    for name, clf in fitted.items():
        np.testing.assert_array_equal(proba(clf, Z[name]), expected, err_msg=name)
    untimed = SSMClassifier(**tiny).fit(X, y)
    assert not np.allclose(proba(untimed, X), expected, atol=1e-4)


def test_containers_without_times_give_one_and_the_same_model(labelled, tiny):
    X, y = labelled
    frames = [pd.DataFrame(x.T) for x in X]
    expected = proba(SSMClassifier(**tiny).fit(X, y), X)
    for Z in (list(X), frames, pd.concat(dict(enumerate(frames))), Panel.from_numpy(X), torch.tensor(X)):
        np.testing.assert_array_equal(proba(SSMClassifier(**tiny).fit(Z, list(y)), Z), expected)


def test_a_regular_grid_of_times_is_no_times(labelled, tiny):
    X, y = labelled
    timed = Panel.from_numpy(X, 0.008 * np.arange(12))
    clf = SSMClassifier(**tiny).fit(timed, y)
    assert clf.time_scale_ == pytest.approx(0.008)
    np.testing.assert_array_equal(proba(clf, timed), proba(SSMClassifier(**tiny).fit(X, y), X))
    np.testing.assert_array_equal(proba(clf, timed), proba(clf, X))


def test_predictions_change_with_the_times_of_the_series(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    slow = proba(clf, Panel.from_numpy(X, 3.0 * np.arange(12)))
    assert np.abs(slow - proba(clf, X)).max() > 1e-3
    scaled = SSMClassifier(**tiny, time_scale=3.0).fit(X, y)
    np.testing.assert_array_equal(proba(scaled, Panel.from_numpy(X, 3.0 * np.arange(12))), proba(clf, X))


def test_half_of_the_samples_with_their_times_say_almost_the_same(tiny):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 10, 101)
    rate = np.repeat([0.5, 1.5], 20)
    X = np.sin(rate[:, None] * t + rng.uniform(0, 2 * np.pi, size=(40, 1)))
    panel = Panel.from_numpy(X[:, None], t)
    y = np.where(rate > 1, "fast", "slow")
    clf = SSMClassifier(**{**tiny, "max_epochs": 150}).fit(panel, y)
    full = proba(clf, panel)
    half = proba(clf, Panel.from_numpy(X[:, None, ::2], t[::2]))
    blind = proba(clf, X[:, None, ::2])
    assert clf.score(panel, y) == 1.0
    assert np.abs(half - full).mean() < 0.5 * np.abs(blind - full).mean()


def test_missing_values_are_inputs(tiny):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2, 20))
    y = np.repeat([0, 1], 20)
    # Only what is missing tells the classes apart.
    X[y == 1, 1, 5:15] = np.nan
    clf = SSMClassifier(**{**tiny, "max_epochs": 40}).fit(X, y)
    assert clf.score(X, y) > 0.95 and clf.encoder_.missing
    assert np.isfinite(proba(SSMClassifier(**tiny).fit(X[:, :, 15:], y), X)).all()


def test_unequal_lengths(labelled, tiny):
    X, y = labelled
    Z = [x[:, : 4 + i % 7] for i, x in enumerate(X)]
    clf = SSMClassifier(**{**tiny, "max_epochs": 30}).fit(Z, y)
    assert clf.score(Z, y) > 0.8
    alone = np.concatenate([proba(clf, [z]) for z in Z])
    np.testing.assert_allclose(proba(clf, Z), alone, rtol=1e-5, atol=1e-6)  # float32


def test_channels_go_by_their_names(labelled, tiny):
    X, y = labelled
    frames = [pd.DataFrame(x.T, columns=["hr", "spo2"]) for x in X]
    clf = SSMClassifier(**tiny).fit(frames, y)
    swapped = [frame[["spo2", "hr"]] for frame in frames]
    renamed = [frame.rename(columns={"spo2": "rr"}) for frame in frames]
    np.testing.assert_array_equal(proba(clf, swapped), proba(clf, frames))
    with pytest.raises(ValueError, match=r"lacks \['spo2'\], unknown are \['rr'\]"):
        clf.predict(renamed)
    np.testing.assert_array_equal(proba(clf, X), proba(clf, frames))  # arrays have no names


@pytest.mark.parametrize("batch_size", ["auto", 1])
def test_a_batch_may_be_a_single_sample(tiny, batch_size):
    X = np.arange(4.0)[:, None, None]
    for n in (1, 4):
        reg = SSMRegressor(**{**tiny, "batch_size": batch_size}).fit(X[:n], np.arange(float(n)))
        assert np.isfinite(reg.predict(X)).all()


def test_automatic_batches_grow_with_the_series_and_not_beyond_so_many_samples():
    recipe = recipe_of(PanelEncoder(), SSMClassifier())
    for n, length, size in ((30, 100, 8), (400, 100, 40), (800, 100, 64), (800, 3000, 21), (800, 50_000, 8)):
        assert batch_size_of(recipe, "auto", n, length) == size
    assert batch_size_of(recipe, 50, 800, 3000) == 50


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_default_dtype_of_torch_does_not_matter(labelled, tiny, backbone):
    X, y = labelled
    torch.set_default_dtype(torch.float64)
    try:
        clf = SSMClassifier(**{**tiny, "backbone": backbone}).fit(X, y)
        in_double = proba(clf, X)
    finally:
        torch.set_default_dtype(torch.float32)
    in_single = proba(SSMClassifier(**{**tiny, "backbone": backbone}).fit(X, y), X)
    np.testing.assert_array_equal(in_double, in_single)
    assert {p.dtype for p in clf.net_.parameters() if p.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("backbone", ["lssl", "lssl-fixed"])
def test_an_lssl_has_as_many_readouts_as_asked_for(labelled, tiny, backbone, tmp_path):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "backbone": backbone, "n_readouts": 3, "max_epochs": 1}).fit(X, y)
    layer = clf.net_.blocks[0].layer
    assert layer.C.shape[1] == 3 and layer.mix.in_features == 3 * layer.mix.out_features
    clf.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(proba(load(tmp_path / "model.safetensors"), X), proba(clf, X))


def test_the_default_rule_of_an_lssl_is_that_of_its_paper_where_the_grid_is_regular(labelled, tiny):
    X, y = labelled
    uneven = np.cumsum(np.r_[1.0, np.full(X.shape[2] - 2, 1.0), 2.5])

    def fitted(times, **other):
        panel = X if times is None else Panel.from_arrays(list(X), [times] * len(X), time_unit="s")
        return SSMClassifier(**{**tiny, "backbone": "lssl", "max_epochs": 1, **other}).fit(panel, y)

    for times, rule in ((None, "bilinear"), (0.1 * np.arange(X.shape[2]), "bilinear"), (uneven, 0.75)):
        assert fitted(times).net_.blocks[0].layer.method == rule
        assert fitted(times, backbone="s4").net_.blocks[0].layer.method == 0.75
        assert fitted(times, discretization="zoh").net_.blocks[0].layer.method == "zoh"
    for start in (0.0, 1.7e9):  # seconds since 1970, rounded
        times = start + 0.1 * np.arange(X.shape[2])
        assert fitted(times, time_scale=0.03).net_.blocks[0].layer.method == "bilinear"
    warm = fitted(uneven, warm_start=True)
    warm.fit(Panel.from_arrays(list(X), [np.arange(X.shape[2])] * len(X), time_unit="s"), y)
    assert warm.net_.blocks[0].layer.method == 0.75  # it goes on as it began


def test_n_features_in(labelled, tiny):
    X, y = labelled
    assert SSMClassifier(**tiny).fit(X, y).n_features_in_ == 2
    assert SSMClassifier(**tiny).fit(Panel.from_numpy(X), y).n_features_in_ == 2
    table = SSMClassifier(**tiny).fit(X[:, 0], y)
    assert table.n_features_in_ == 12  # scikit-learn counts columns
    with pytest.raises(ValueError, match="X has 6 features, but SSMClassifier is expecting 12 features"):
        table.predict(X[:, 0, :6])
    assert table.predict(X[:, :1, :6]).shape == (24,)
    np.testing.assert_array_equal(proba(table, X[:, :1]), proba(table, X[:, 0]))
    np.testing.assert_array_equal(proba(table, pd.DataFrame(X[:, 0])), proba(table, X[:, 0].tolist()))


# Manners


def test_the_seed_decides_everything(labelled, tiny):
    X, y = labelled
    first = proba(SSMClassifier(**tiny).fit(X, y), X)
    np.random.seed(1)
    torch.manual_seed(1)
    np.testing.assert_array_equal(proba(SSMClassifier(**tiny).fit(X, y), X), first)
    other = SSMClassifier(**{**tiny, "random_state": 1}).fit(X, y)
    assert not np.allclose(proba(other, X), first)
    fresh = [proba(SSMClassifier(**{**tiny, "random_state": None}).fit(X, y), X) for _ in range(2)]
    assert not np.allclose(*fresh)
    drawn = np.random.RandomState(0)
    with_state = [proba(SSMClassifier(**{**tiny, "random_state": drawn}).fit(X, y), X) for _ in range(2)]
    np.testing.assert_array_equal(with_state[0], first)
    assert not np.allclose(*with_state)


def test_fit_and_predict_leave_their_arguments_alone(labelled, tiny):
    X, y = labelled
    X[0, 0, 3] = np.nan
    copies = X.copy(), y.copy()
    clf = SSMClassifier(**tiny)
    parameters = clf.get_params()
    clf.fit(X, y).predict(X)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(y, copies[1])
    assert clf.get_params() == parameters


def test_only_what_predict_needs_is_kept(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**{**tiny, "early_stopping": True}).fit(X, y)
    assert isinstance(clf.net_, torch.nn.Module) and not clf.net_.training
    assert {p.device.type for p in clf.net_.parameters()} == {"cpu"}
    data = pickle.dumps(clf)
    assert b"lightning" not in data and b"Generator" not in data
    assert len(data) < 50_000
    np.testing.assert_array_equal(proba(pickle.loads(data), X), proba(clf, X))


def test_a_failed_predict_leaves_the_estimator_as_it_was(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    expected = proba(clf, X)
    for bad in (X[:, :1], X[0, 0], "text", np.full_like(X, np.inf), []):
        with pytest.raises((TypeError, ValueError)):
            clf.predict(bad)
    np.testing.assert_array_equal(proba(clf, X), expected)


def test_fit_works_after_a_fit_that_failed(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    expected = proba(clf, X)
    with pytest.raises(ValueError, match="inconsistent"):
        clf.fit(X, y[:-1])
    np.testing.assert_array_equal(proba(clf.fit(X, y), X), expected)


@pytest.mark.parametrize("bad", ["X", "y", "parameter", "weight"])
def test_a_fit_that_fails_leaves_the_fitted_estimator_as_it_was(labelled, tiny, bad):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    before, attributes = proba(clf, X), set(vars(clf))
    weight = None
    if bad == "X":
        X_bad, y_bad = np.full_like(X, np.inf), y
    else:
        X_bad, y_bad = X, y[:-1] if bad == "y" else y
        weight = np.full(len(y), -1.0) if bad == "weight" else None
    if bad == "parameter":
        clf.n_layers = 0  # set_params would reset, by the rule of sktime
    with pytest.raises(ValueError):
        clf.fit(X_bad, y_bad, sample_weight=weight)
    assert set(vars(clf)) == attributes
    np.testing.assert_array_equal(proba(clf, X), before)


def test_refit_on_other_data_starts_afresh(labelled, tiny):
    X, y = labelled
    expected = proba(SSMClassifier(**tiny).fit(X, y), X)
    clf = SSMClassifier(**tiny).fit(X[:, :1, :5], np.resize([1, 2], 24))
    np.testing.assert_array_equal(proba(clf.fit(X, y), X), expected)


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("backbone", "transformer", ValueError),
        ("backbone", None, TypeError),
        ("n_layers", 0, ValueError),
        ("n_layers", 2.0, TypeError),
        ("n_layers", True, TypeError),
        ("n_readouts", 0, ValueError),
        ("n_readouts", 2, ValueError),
        ("d_model", -1, ValueError),
        ("d_state", 3, ValueError),
        ("bidirectional", "yes", TypeError),
        ("dropout", 1.0, ValueError),
        ("norm", "group", ValueError),
        ("pooling", "min", ValueError),
        ("discretization", "magic", ValueError),
        ("time_scale", -1.0, ValueError),
        ("time_scale", None, TypeError),
        ("timescales", "fast", ValueError),
        ("timescales", 3.0, TypeError),
        ("timescales", (0.0, 1.0), ValueError),
        ("timescales", (2.0, 1.0), ValueError),
        ("timescales", (1.0, np.inf), ValueError),
        ("timescales", (1.0, True), ValueError),
        ("timescales", [], ValueError),
        ("timescales", [(1.0, 2.0)] * 7, ValueError),
        ("max_epochs", 0, ValueError),
        ("max_steps", 1.5, TypeError),
        ("batch_size", "large", ValueError),
        ("batch_size", 0, ValueError),
        ("learning_rate", 0.0, ValueError),
        ("learning_rate", np.nan, ValueError),
        ("ssm_learning_rate", "small", TypeError),
        ("weight_decay", -0.1, ValueError),
        ("label_smoothing", 1.0, ValueError),
        ("loss", "hinge", ValueError),
        ("early_stopping", 1, TypeError),
        ("validation_fraction", 0.0, ValueError),
        ("n_iter_no_change", 0, ValueError),
        ("class_weight", "heavy", ValueError),
        ("warm_start", "yes", TypeError),
        ("accelerator", "abacus", ValueError),
        ("devices", 0, ValueError),
        ("precision", "8", ValueError),
        ("callbacks", 3, TypeError),
        ("callbacks", ["early_stopping"], TypeError),
        ("trainer_kwargs", {"max_epochs": 3}, ValueError),
        ("trainer_kwargs", ["logger"], TypeError),
        ("random_state", "seed", ValueError),
        ("random_state", -1, ValueError),
        ("verbose", -1, ValueError),
    ],
)
def test_bad_parameters_are_named(labelled, tiny, parameter, value, error):
    X, y = labelled
    with pytest.raises(error, match=parameter):
        SSMClassifier(**{**tiny, parameter: value}).fit(X, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (np.linspace(0, 1, 24), "Unknown label type"),
        ([np.nan] * 24, "NaN"),
        (np.zeros((24, 2, 2)), r"shape \(n,\).*\(24, 2, 2\)"),
    ],
)
def test_bad_labels_are_refused(labelled, tiny, y, message):
    with pytest.raises(ValueError, match=message):
        SSMClassifier(**tiny).fit(labelled[0], y)


@pytest.mark.parametrize(
    "y", [None, ["a"] * 24, np.full(24, np.nan), np.full(24, np.inf), np.zeros((24, 2, 2)), np.zeros(5)]
)
def test_bad_targets_are_refused(labelled, tiny, y):
    with pytest.raises(ValueError):
        SSMRegressor(**tiny).fit(labelled[0], y)


def initial_timescales(estimator):
    """Those of the layers of an estimator that has hardly learnt, in the unit of the times of X."""
    return [
        estimator.time_scale_ * np.exp(-block.layer.log_dt.detach().double().numpy())
        for block in estimator.net_.blocks
    ]


@pytest.mark.parametrize("cls", [SSMClassifier, SSMRegressor])
def test_layers_start_from_the_timescales_that_are_asked_for(cls):
    """Whatever the unit of elapsed time inside; the seed draws the same places in the ranges."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.1, 0.4, (12, 30)), axis=1)
    X, y = Panel.from_numpy(rng.normal(size=(12, 1, 30)), times=times), np.arange(12) % 2
    start = {
        "n_members": 1,
        "n_layers": 3,
        "d_model": 8,
        "d_state": 4,
        "max_steps": 1,
        "ssm_learning_rate": 1e-9,
    }
    plain = initial_timescales(cls(**start, random_state=0).fit(X, y))
    assert 0.2 * 29 / 50 < np.min(plain) and np.max(plain) < 4 * 0.3 * 30  # "auto", as documented
    for timescales in ((0.7, 0.9), [(0.01, 0.02), (1, 2), (30, 50)]):
        for time_scale in ("median", 5.0):
            model = cls(**start, timescales=timescales, time_scale=time_scale, random_state=0).fit(X, y)
            pairs = timescales if isinstance(timescales, list) else [timescales] * 3
            for found, (low, high), before in zip(initial_timescales(model), pairs, plain, strict=True):
                assert low * 0.999 < found.min() < found.max() < high * 1.001
                assert found.argsort().tolist() == before.argsort().tolist()


def test_timescales_survive_a_file(labelled, tiny, tmp_path):
    X, y = labelled
    timescales = [(1.0, 2.0)] * SSMClassifier(**tiny).n_layers
    model = SSMClassifier(**{**tiny, "timescales": timescales}).fit(X, y)
    model.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.get_params()["timescales"] == timescales
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_both_estimators_share_their_parameters():
    classifier, regressor = SSMClassifier().get_params(), SSMRegressor().get_params()
    assert set(classifier) - set(regressor) == {"label_smoothing", "class_weight"}
    assert set(regressor) - set(classifier) == {"quantiles"}
    shared = set(regressor) - {"loss", "quantiles"}
    assert {name: classifier[name] for name in shared} == {name: regressor[name] for name in shared}
    for cls in (SSMClassifier, SSMRegressor):
        documented = cls.__doc__
        assert [name for name in cls().get_params() if f"{name} : " not in documented] in (
            ["max_epochs", "max_steps"],
            ["max_steps"],
            ["max_epochs"],
        )
