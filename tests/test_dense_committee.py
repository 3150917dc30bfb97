"""Dense networks beside the linear model of charts, and variables that are dropped in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_charts import charts

from tsssm import SSMClassifier, SSMRegressor, load
from tsssm.features import ChartFeatures, Ramps
from tsssm.persistence import UnsavableError
from tsssm.training import DenseCommittee, LabelledBatch, VariableDropout, fit_dense


def task(n=120, size=12, classes=True, seed=0):
    """Features, of which two tell the class; and their variables."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, size)).astype(np.float32)
    value = x[:, 0] + np.abs(x[:, 3]) - 0.8
    targets = np.where(value > 0, 1.0, -1.0) if classes else value / value.std()
    return x, targets[:, None], np.arange(size) // 3 - 1


def outputs_by_hand(committee, x):
    """The mean of the outputs of the members, number by number."""
    w = {name: tensor.numpy().astype(np.float64) for name, tensor in committee.weights.items()}
    x = x.astype(np.float64) / committee.unit
    members = [
        x @ w["S"][k] + w["c"][k] + np.maximum(x @ w["W"][k] + w["b"][k], 0.0) @ w["V"][k]
        for k in range(len(w["W"]))
    ]
    return np.array(members)


@pytest.mark.parametrize("classes", [True, False])
def test_members_of_a_committee_learn_from_all_series_but_those_of_their_fold(classes):
    n = 90
    x, targets, variable = task(n, classes=classes)
    fold = np.arange(n) % 3
    options = {"classes": classes, "n_members": 3, "seed": 0}
    fit = fit_dense(x, targets, np.ones(n), fold, variable, **options)
    each = outputs_by_hand(fit.committee, x)
    np.testing.assert_allclose(fit.committee.predict(x), each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(fit.left_out, each[fold, np.arange(n)], atol=1e-5)
    assert np.corrcoef(fit.left_out[:, 0], targets[:, 0])[0, 1] > 0.3
    again = fit_dense(x, targets, np.ones(n), fold, variable, **options)
    np.testing.assert_array_equal(again.left_out, fit.left_out)
    # What a member says of a series that it leaves out does not depend on that series' target.
    other = targets.copy()
    other[fold == 1] *= -1.0
    changed = fit_dense(x, other, np.ones(n), fold, variable, **options)
    np.testing.assert_allclose(changed.left_out[fold == 1], fit.left_out[fold == 1], atol=1e-6)


def test_a_committee_without_folds_or_with_one_class_has_finite_outputs():
    x, targets, variable = task(30)
    fit = fit_dense(
        x, np.ones((30, 1)), np.ones(30), None, variable, classes=True, n_members=2, seed=1, max_steps=3
    )
    assert np.isfinite(fit.committee.predict(x)).all() and np.isnan(fit.left_out).all()
    nothing = np.zeros((30, 4), np.float32)
    none = np.full(4, -1)
    fit = fit_dense(nothing, targets, np.ones(30), None, none, classes=True, n_members=2, seed=1, max_steps=3)
    assert np.isfinite(fit.committee.predict(nothing)).all()


def test_variables_are_dropped_at_all_samples_of_a_series():
    batch = LabelledBatch(torch.ones(400, 5, 2 + 3 * 4), None, torch.zeros(400), None)
    dropped = VariableDropout(2, 4, 0.25)(batch, torch.Generator().manual_seed(0)).u
    assert bool((dropped[..., :2] == 1).all())
    own = dropped[..., 2:].unflatten(-1, (3, 4))
    assert bool((own == own[:, :1, :1]).all()) and set(own.unique().tolist()) == {
        0.0,
        float(np.float32(4 / 3)),
    }
    assert abs(float(own.mean()) - 1.0) < 0.05


def test_models_of_charts_keep_their_dense_networks(tmp_path):
    panel, y = charts(40)
    few = {"d_model": 4, "d_state": 4, "n_members": 2, "max_steps": 2, "random_state": 0}
    reg = SSMRegressor(**few).fit(panel, y * 2.0)
    assert type(reg.closed_form_.dense) is DenseCommittee
    reg.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(panel), reg.predict(panel))
    assert len(reg.closed_form_.ramps.feature) == reg.closed_form_.dense.n_inputs
    ramps = reg.closed_form_.ramps
    for name, wrong in (("feature", ramps.feature + 999), ("width", -ramps.width), ("mean", ramps.mean[1:])):
        object.__setattr__(reg.closed_form_, "ramps", ramps._replace(**{name: wrong}))
        with pytest.raises(UnsavableError, match="ramps|Ramps"):
            reg.save(tmp_path / "broken.safetensors")
    object.__setattr__(reg.closed_form_, "ramps", ramps)
    reg.closed_form_.dense.weights["V"] = reg.closed_form_.dense.weights["V"][:, :-1]
    with pytest.raises(UnsavableError, match="DenseCommittee"):
        reg.save(tmp_path / "broken.safetensors")
    streaming = SSMClassifier(**few, bidirectional=False, n_features=384).fit(panel, y)
    assert streaming.closed_form_.dense is None


def test_ramps_are_those_of_a_loop_over_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    values[:100, 1] = 0.0  # missing
    values[:, 2] = np.where(values[:, 2] > 0, 1.0, -0.5)  # two values
    values[:285, 3] = 0.0  # too rare
    ramps = Ramps.fit(values, np.arange(4))
    assert np.bincount(ramps.feature, minlength=4).tolist() == [8, 8, 1, 0]
    found = ramps.transform(values)
    for j in range(3):
        own = found[:, ramps.feature == j].astype(np.float64)
        x = values[:, j].astype(np.float64)
        known = x != 0
        knots = np.unique(np.quantile(x[known], np.arange(9) / 8))
        expected = [[np.interp(one, [a, b], [0, 1]) for a, b in zip(knots, knots[1:])] for one in x]  # noqa: B905
        centred = np.array(expected) - np.mean(np.array(expected)[known], axis=0)
        centred *= np.sqrt(known.mean()) / np.array(expected)[known].std()
        np.testing.assert_allclose(own[known], centred[known], atol=1e-5)
        assert (own[~known] == 0).all()
    far = np.array([[1e30, -1e30, 1e30, 1.0]], np.float32)
    assert np.isfinite(ramps.transform(far)).all() and np.abs(ramps.transform(far)).max() < 9


def test_ramps_are_of_some_statistics_of_each_channel_and_of_what_is_static():
    features = ChartFeatures().fit(charts(40)[0])
    names = features.names()
    chosen = [names[j] for j in features.in_ramps()]
    assert chosen == sorted(chosen, key=names.index) and len(set(chosen)) == len(chosen)
    static = ["channel0_value", "channel1_value", *(f"channel1_is_{k}" for k in range(1, 5)), "duration"]
    assert chosen[-7:] == static
    assert len(chosen) == 7 + 4 * 10 and {"channel2_mean0", "channel5_since"} < set(chosen)
