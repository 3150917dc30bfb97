"""Values that are no measurements: they count as missing, and leave the others as they are."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier, SSMSequenceClassifier, Stream, load
from tsssm.encoding import PanelEncoder, unlimited
from tsssm.estimators._earlier_files import upgrade
from tsssm.persistence._kinds import kinds

# What they are told of: values far from those of training.
pytestmark = pytest.mark.filterwarnings("ignore::tsssm.DataWarning")

N, LENGTH = 24, 40
SMALL = {"d_model": 4, "d_state": 4, "n_layers": 1, "max_steps": 4, "random_state": 0}


def panel_of(n_channels=2, seed=0, timed=True):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(N * LENGTH, n_channels))
    times = np.tile(np.arange(LENGTH) * 2.0, N) if timed else None
    return Panel(values, np.arange(N + 1) * LENGTH, times)


def changed(panel, value, rows=(7, 133), channel=0):
    values = panel.values.copy()
    values[list(rows), channel] = value
    return Panel(values, panel.offsets, panel.times)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("timed", [True, False])
def test_a_fault_counts_as_missing(n_channels, timed):
    panel = panel_of(n_channels, timed=timed)
    faulty, without = changed(panel, 1e12), changed(panel, np.nan)
    encoders = [PanelEncoder().fit(X) for X in (panel, faulty)]
    for clean, found in zip(_moments(encoders[0]), _moments(encoders[1]), strict=True):
        np.testing.assert_allclose(found, clean, atol=0.05)
    assert not encoders[1].missing and encoders[1].n_inputs == n_channels
    encoded = [encoders[1].encode(X) for X in (faulty, without)]
    for name in ("u", "dt", "offsets"):
        np.testing.assert_array_equal(*(getattr(one, name).numpy() for one in encoded))
    features = SSMFeaturesClassifier(n_features=64, n_scales=2, random_state=0)
    y = np.arange(N) % 2
    features.fit(faulty, y)
    np.testing.assert_array_equal(features.predict_proba(faulty), features.predict_proba(without))


def _moments(encoder):
    return encoder.mean, encoder.std


def test_what_is_ordinary_or_lasts_or_is_common_is_no_fault():
    panel = panel_of()
    plain = PanelEncoder().fit(panel)
    assert plain.without_errors(panel) is panel and (np.abs(plain.limits) < 2000).all()
    lasting = changed(panel, 1e12, rows=(7, 8))
    np.testing.assert_array_equal(PanelEncoder().fit(lasting).limits[:, 0], unlimited(1)[:, 0])
    common = changed(panel, 1e12, rows=range(0, N * LENGTH, 100))
    assert PanelEncoder().fit(common).without_errors(common) is common
    constant = Panel(np.zeros((200, 1)), [0, 100, 200])
    np.testing.assert_array_equal(PanelEncoder().fit(changed(constant, 5.0, (3,))).limits, unlimited(1))
    few = Panel(np.append(np.arange(30.0), 1e12)[:, None], [0, 31])
    np.testing.assert_array_equal(PanelEncoder().fit(few).limits, unlimited(1))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_streams_and_models_along_time_know_faults(offset, tmp_path):
    panel, y = panel_of(), np.arange(N) % 2
    panel = Panel(panel.values + offset, panel.offsets, panel.times)
    for clf in (
        SSMClassifier(**SMALL, bidirectional=False, n_members=1, n_features=0),
        SSMFeaturesClassifier(n_features=64, n_scales=2, normalize="global", random_state=0),
    ):
        clf.fit(panel, y)
        for value in (1e12, -5e5):
            faulty = changed(panel, value, rows=(5, 20))[0]
            expected = clf.predict_proba(changed(panel, np.nan, rows=(5, 20))[0])[0]
            np.testing.assert_array_equal(clf.predict_proba(faulty)[0], expected)
            answers = Stream(clf).push_many(faulty.values, faulty.times)
            np.testing.assert_allclose(answers[-1], expected, atol=1e-5)
        clf.save(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict_proba(faulty)[0], expected)
    along = SSMSequenceClassifier(**SMALL, lookahead=0)
    single = panel.select([0])
    along.fit(single, [np.arange(LENGTH) // 20] * N)
    spoilt = [changed(single, value, rows=(5,))[:2] for value in (1e12, np.nan)]
    for found, expected in zip(*(along.predict_proba(X) for X in spoilt), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_encoders_of_the_first_model_files_have_no_limits():
    kind = kinds["PanelEncoder"]
    state = kind.state(PanelEncoder().fit(panel_of()))
    del state["limits"], state["categories"]
    restored = kind.made_of(upgrade(kind, 0, state))
    np.testing.assert_array_equal(restored.limits, unlimited(2))


@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_the_scale_is_that_which_is_asked_for(scale, tmp_path):
    panel, y = changed(panel_of(), 1e9), np.arange(N) % 2
    encoder = PanelEncoder(scale=scale).fit(panel)
    values = panel.values[:, 0]
    if scale == "standard":
        np.testing.assert_allclose((encoder.mean[0], encoder.std[0]), (values.mean(), values.std()))
        np.testing.assert_array_equal(encoder.limits, unlimited(2))
    else:
        low, median, high = np.quantile(values[values < 1e6], (0.25, 0.5, 0.75))
        np.testing.assert_allclose((encoder.mean[0], encoder.std[0]), (median, (high - low) / 1.34898), 1e-4)
    assert (PanelEncoder(scale="robust").fit(Panel(np.eye(200), [0, 200])).std == np.eye(200).std(0)).all()
    for model in (
        SSMClassifier(**SMALL, n_members=2, n_features=384, scale=scale),
        SSMFeaturesClassifier(n_features=64, n_scales=2, random_state=0, scale=scale),
    ):
        model.fit(panel, y).save(tmp_path / "model.safetensors")
        restored = load(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(restored.predict_proba(panel), model.predict_proba(panel))
        known = getattr(restored, "encoder_", None) or restored.features_.encoder
        assert known.scale == scale and known.std[0] == encoder.std[0]
    assert model.features_.encoder.scale == scale
    with pytest.raises(ValueError, match="scale must be one of 'auto', 'standard', 'robust'; got 'normal'"):
        SSMFeaturesClassifier(scale="normal").fit(panel, y)


def test_the_benchmark_of_faults(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples" / "benchmarks")
    benchmark = importlib.import_module("faults")
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        benchmark, "fetch_ucr", lambda *_, **__: (rng.normal(size=(20, 1, 100)), np.arange(20) % 2)
    )
    arguments = ["--sets", "GunPoint", "--estimators", "SSMFeaturesClassifier", "--json"]
    benchmark.main([*arguments, str(tmp_path / "faults.json")])
    report = json.loads((tmp_path / "faults.json").read_text())
    row = report["sets"]["GunPoint"]
    assert row["faults"] > 0 and row["faults found in the clean set"] == 0
    assert report["mean"]["SSMFeaturesClassifier"] == row["SSMFeaturesClassifier"]


def test_an_onnx_model_knows_faults():
    pytest.importorskip("onnxruntime")
    from test_exporting import run

    from tsssm.exporting import to_onnx

    panel, y = panel_of(), np.arange(N) % 2
    clf = SSMClassifier(**SMALL, n_members=1, n_features=0).fit(panel, y)
    model = to_onnx(clf)
    faulty = changed(panel, -1e12, rows=(0, 5, 45))
    found = run(model, faulty)
    expected = run(model, changed(panel, np.nan, rows=(0, 5, 45)))
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])
    assert any(np.allclose(values, clf.predict_proba(faulty), atol=1e-5) for values in found.values())
