"""Targets, weights and groups follow the ids of the series, and channels their names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import cross_val_score

from tsssm import (
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    load,
)
from tsssm.inspection import channel_importance

N = 12
RNG = np.random.default_rng(0)
ORDER = RNG.permutation(N)
LABELS = np.repeat(["sick", "well"], N // 2)
X = RNG.normal(size=(N, 2, 8)) + (LABELS == "well")[:, None, None]
IDS = pd.Index([f"stay {i}" for i in range(N)], name="stay")
FRAME = pd.concat({i: pd.DataFrame(x.T, columns=["hr", "rr"]) for i, x in zip(IDS, X, strict=True)})
PANEL = Panel.from_multiindex(FRAME)
NESTED = pd.DataFrame({"hr": list(X[:, 0]), "rr": list(X[:, 1])}, index=IDS)
NETWORK = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 3, "batch_size": 4, "random_state": 0}
FEATURES = {"n_features": 64, "n_scales": 2, "random_state": 0}
MODELS = [
    SSMClassifier(**NETWORK),
    SSMRegressor(**NETWORK),
    SSMFeaturesClassifier(**FEATURES),
    SSMFeaturesRegressor(**FEATURES),
]


def targets(model):
    return LABELS if hasattr(model, "predict_proba") else np.linspace(0.0, 1.0, N)


@pytest.mark.parametrize("model", MODELS)
def test_targets_and_weights_follow_the_ids(model):
    y, weight = pd.Series(targets(model), index=IDS), pd.Series(np.arange(1.0, N + 1), index=IDS)
    expected = model.fit(PANEL, y.to_numpy(), weight.to_numpy()).predict(PANEL)
    shuffled = y.iloc[ORDER], weight.iloc[ORDER]
    for given in (PANEL, FRAME, NESTED):
        np.testing.assert_array_equal(model.fit(given, *shuffled).predict(PANEL), expected)
    assert model.score(PANEL, *shuffled) == model.score(PANEL, y.to_numpy(), weight.to_numpy())
    frame = y.to_frame("bpm").iloc[ORDER]
    np.testing.assert_array_equal(np.ravel(model.fit(PANEL, frame, weight).predict(PANEL)), expected)


def test_groups_and_validation_series_follow_the_ids():
    fits = []
    groups = pd.Series(np.arange(N) // 2, index=IDS)
    for g in (groups.to_numpy(), groups.iloc[ORDER]):
        model = SSMClassifier(**NETWORK, early_stopping=True, validation_fraction=0.3)
        fits.append(model.fit(PANEL, LABELS, groups=g).validation_scores_)
    y = pd.Series(LABELS, index=IDS).iloc[ORDER]
    for y_val in (LABELS, y):
        model = SSMClassifier(**NETWORK, early_stopping=True)
        fits.append(model.fit(PANEL, LABELS, X_val=PANEL, y_val=y_val).validation_scores_)
    assert fits[0] == fits[1] and fits[2] == fits[3]


def test_what_has_no_ids_is_in_the_order_of_the_series():
    model = SSMFeaturesClassifier(**FEATURES)
    expected = model.fit(PANEL, LABELS).predict_proba(PANEL)
    unnamed = Panel(PANEL.values, PANEL.offsets, channel_names=PANEL.channel_names)
    for given, y in (
        (PANEL, list(LABELS)),
        (PANEL, pd.Series(LABELS)),  # 0, 1, 2, ... as pandas writes it unasked
        (PANEL.select([0, 1]), pd.DataFrame(LABELS)[0]),
        (unnamed, pd.Series(LABELS, index=IDS[ORDER])),
    ):
        np.testing.assert_array_equal(model.fit(given, y).predict_proba(PANEL), expected)


def test_tensors():
    x, y = torch.tensor(X, requires_grad=True), torch.arange(float(N), requires_grad=True)
    reg = SSMRegressor(**NETWORK)
    np.testing.assert_array_equal(reg.fit(x, y).predict(x), reg.fit(X, np.arange(float(N))).predict(X))


def test_rows_of_a_flat_table_go_by_position_as_in_scikit_learn():
    table = pd.DataFrame(X[:, 0], index=IDS)
    y = pd.Series(LABELS, index=IDS[::-1])
    model = SSMFeaturesClassifier(**FEATURES)
    np.testing.assert_array_equal(model.fit(table, y).predict(table), model.fit(table, LABELS).predict(table))


Y = pd.Series(LABELS, index=IDS)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y.rename({"stay 3": "stay 99"}), "it lacks 'stay 3', X lacks 'stay 99'"),
        (Y.iloc[:-2], "it lacks 'stay 10' and 1 more. If y is .* pass y.to_numpy"),
        (pd.concat([Y, pd.Series(["well"], index=["stay 12"])]), "X lacks 'stay 12'"),
        (pd.concat([Y, Y.iloc[:1]]), "once each: some occur twice"),
        (Y.set_axis(range(5, N + 5)), "it lacks 'stay 0' and 11 more, X lacks 5 and 11 more"),
    ],
)
@pytest.mark.parametrize("model", [MODELS[0], MODELS[2]])
def test_other_ids_are_an_error_that_names_the_first(model, y, message):
    with pytest.raises(ValueError, match=f"The index of y must hold the ids of X.*{message}"):
        model.fit(PANEL, y)


@pytest.mark.parametrize("argument", ["sample_weight", "groups"])
def test_the_error_names_the_argument(argument):
    given = pd.Series(np.ones(N), index=IDS).iloc[1:]
    with pytest.raises(ValueError, match=f"The index of {argument} must .* it lacks 'stay 0'"):
        SSMClassifier(**NETWORK).fit(PANEL, LABELS, **{argument: given})


def test_cross_validation_of_targets_in_another_order_is_refused():
    """Splits go by position, so that it could not be right."""
    scores = cross_val_score(SSMFeaturesClassifier(**FEATURES), PANEL, Y, cv=2)
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match="The index of y must hold the ids of X"):
        cross_val_score(SSMFeaturesClassifier(**FEATURES), PANEL, Y.iloc[ORDER], cv=2, error_score="raise")


@pytest.mark.parametrize("model", [*MODELS, SSMFeatures(**FEATURES)])
def test_channels_follow_their_names(model, tmp_path):
    model.fit(PANEL, targets(model))
    assert model.feature_names_in_.tolist() == ["hr", "rr"] and model.n_features_in_ == 2
    model.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.feature_names_in_, model.feature_names_in_)
    swapped = PANEL.select(["rr", "hr"])
    ask = "transform" if isinstance(model, SSMFeatures) else "predict"
    expected = getattr(model, ask)(PANEL)
    for given in (swapped, swapped.to_multiindex(), swapped.to_dataframes()):
        np.testing.assert_array_equal(getattr(loaded, ask)(given), expected)
    nameless = Panel(PANEL.values, PANEL.offsets)
    np.testing.assert_array_equal(getattr(model, ask)(nameless), expected)
    model.fit(nameless, targets(model))
    assert not hasattr(model, "feature_names_in_")


def test_importances_follow_the_ids():
    model = SSMFeaturesClassifier(**FEATURES).fit(PANEL, LABELS)
    found = [
        channel_importance(model, PANEL, y, scoring="accuracy", n_repeats=2, random_state=0).importances
        for y in (LABELS, Y.iloc[ORDER])
    ]
    np.testing.assert_array_equal(*found)


def test_other_channels_are_listed():
    model = SSMFeaturesClassifier(**FEATURES).fit(PANEL, LABELS)
    wide = Panel(np.zeros((4, 3)), [0, 4], channel_names=["hr", "spo2", "bp"])
    with pytest.raises(
        ValueError, match=r"3 channel\(s\), .* with 2: it lacks \['rr'\], unknown are \['spo2', 'bp'\]"
    ):
        model.predict(wide)
    twice = Panel(np.zeros((4, 2)), [0, 4], channel_names=["hr", "hr"])
    with pytest.raises(ValueError, match=r"names that they had in fit, \['hr', 'rr'\]; it lacks \['rr'\]"):
        model.predict(twice)
    with pytest.raises(ValueError, match=r"1 channel\(s\), .* was fitted with 2: \['hr', 'rr'\]"):
        model.predict(np.zeros((3, 1, 8)))
