"""Models as ONNX files, run by onnxruntime: they answer as `predict` and `Stream` do."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from forging import charts

from tsssm import (
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    Stream,
)
from tsssm.backbone import BACKBONES
from tsssm.exporting import ExportError, to_onnx

onnxruntime = pytest.importorskip("onnxruntime")

TINY = {"n_layers": 2, "d_model": 6, "d_state": 4, "n_features": 0, "n_members": 1, "max_epochs": 1}
CLOSE = 1e-5  # a tenth of what is promised


def series(times: bool, missing: bool, seed: int = 0) -> tuple[Panel, np.ndarray]:
    """16 ragged series of 2 channels and two classes; samples without any value are among the missing."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["high", "low"], 8)
    values = [rng.normal(size=(2, 10 + i % 5)) + 0.5 * (label == "high") for i, label in enumerate(y)]
    if missing:
        for x in values[::3]:
            x[0, 2:5] = np.nan
            x[:, [0, 6]] = np.nan
    stamps = [7.0 + np.cumsum(rng.choice([0.0, 0.5, 1.0, 3.0], size=x.shape[1])) for x in values]
    return Panel.from_arrays(values, stamps if times else None, time_unit="h" if times else None), y


def padded(panel: Panel) -> dict[str, np.ndarray]:
    """The inputs of a model: rectangular, NaN after the end of a series."""
    shape = len(panel), int(panel.lengths.max())
    values, times = np.full((*shape, panel.n_channels), np.nan, np.float32), np.zeros(shape)
    for i, one in enumerate(panel):
        values[i, : one.lengths[0]] = one.values
        if one.times is not None:
            times[i, : one.lengths[0]] = one.times
    return {"values": values, "times": times} if panel.has_times else {"values": values}


def run(model, panel: Panel) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, padded(panel)), strict=True))


def streamed(model, panel: Panel) -> list[dict[str, np.ndarray]]:
    """The answers of a model of samples after each sample of one series."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    state = {
        one.name: np.zeros([1, *one.shape[1:]], dtypes[one.type])
        for one in session.get_inputs()
        if one.name.startswith("state_")
    }
    answers = []
    for k in range(panel.lengths[0]):
        inputs = {"values": panel.values[k : k + 1].astype(np.float32), **state}
        if panel.times is not None:
            inputs["time"] = panel.times[k : k + 1, None]
        answers.append(dict(zip(names, session.run(None, inputs), strict=True)))
        state = {name: answers[-1][f"{name}_after"] for name in state}
    return answers


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_answers_as_predict_does(backbone):
    panel, y = series(times=True, missing=True)
    clf = SSMClassifier(backbone=backbone, **TINY, random_state=0).fit(panel, y)
    found = run(to_onnx(clf), panel)["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(panel), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_streams_as_stream_does(backbone):
    panel, y = series(times=False, missing=False)
    pooling = {"s4d": "max", "s4": "last"}.get(backbone, "mean")
    options = {**TINY, "bidirectional": False, "norm": "layer", "pooling": pooling}
    clf = SSMClassifier(backbone=backbone, **options, random_state=0).fit(panel, y)
    with_gaps = series(times=False, missing=True)[0][3]
    found = [answer["probabilities"][0] for answer in streamed(to_onnx(clf, streaming=True), with_gaps)]
    expected = [np.ravel(Stream(clf).push_many(with_gaps.values)[k]) for k in range(with_gaps.lengths[0])]
    np.testing.assert_allclose(found, expected, atol=CLOSE, rtol=0)
    whole = run(to_onnx(clf), with_gaps)["probabilities"][0]
    np.testing.assert_allclose(whole, clf.predict_proba(with_gaps)[0], atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("times", "missing", "pooling"),
    [(True, True, "mean"), (True, False, "last"), (False, True, "max"), (True, True, "max")],
)
def test_poolings_times_and_missing_values(times, missing, pooling):
    panel, y = series(times, missing)
    options = {**TINY, "n_members": 2, "bidirectional": False, "pooling": pooling}
    clf = SSMClassifier(backbone="s5", **options, random_state=0).fit(panel, y)
    others = series(times, True, seed=1)[0]  # with values missing where training had none
    found = run(to_onnx(clf), others)["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(others), atol=CLOSE, rtol=0)
    model, stream = to_onnx(clf, streaming=True), Stream(clf)
    for one in others[:3]:
        stream.reset()
        expected = stream.push_many(one.values, one.times)
        answers = [answer["probabilities"][0] for answer in streamed(model, one)]
        np.testing.assert_allclose(answers, expected.reshape(len(answers), -1), atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("backbone", "method"), [("s4d", "backward-euler"), ("liquid-s4", "bilinear"), ("linoss", "bilinear")]
)
def test_rules_of_discretisation(backbone, method):
    panel, y = series(times=True, missing=False)
    options = {**TINY, "discretization": method, "timescales": (0.01, 0.1)}
    clf = SSMClassifier(backbone=backbone, **options, random_state=0).fit(panel, y)
    found = run(to_onnx(clf), panel)["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(panel), atol=CLOSE, rtol=0)


def test_several_readouts_and_a_state_of_two_ranks():
    from tsssm.exporting._cells import LowRankCell
    from tsssm.exporting._layers import cells_of
    from tsssm.layers import S4

    panel, y = series(times=True, missing=False)
    clf = SSMClassifier(backbone="lssl-fixed", n_readouts=3, **TINY, random_state=0).fit(panel, y)
    found = run(to_onnx(clf), panel)["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(panel), atol=CLOSE, rtol=0)
    # Estimators have no measure of rank 2: the layer stands in for that of the network.
    layer = S4(6, 4, measure="legt", bidirectional=True, dt_min=0.01, dt_max=0.1)
    clf = SSMClassifier(backbone="s4", **TINY, random_state=0).fit(panel, y)
    clf.net_.blocks[0].layer = layer
    cell = cells_of(layer)[0]
    assert isinstance(cell, LowRankCell) and len(cell.P) == 2
    found = run(to_onnx(clf), panel)["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(panel), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", "quantile"])
@pytest.mark.parametrize("columns", [1, 2])
def test_numbers(loss, columns):
    panel, _ = series(times=False, missing=False)
    y = np.linspace(50, 90, 16)[:, None] * [[1.0, -3.0]][0][:columns]
    reg = SSMRegressor(loss=loss, **TINY, random_state=0).fit(panel, y)
    found = run(to_onnx(reg), panel)
    np.testing.assert_allclose(found["prediction"], reg.predict(panel).reshape(16, columns), rtol=1e-4)
    if loss == "gaussian":
        _, spread = reg.predict(panel, return_std=True)
        np.testing.assert_allclose(found["standard_deviation"], spread.reshape(16, columns), rtol=1e-4)
    if loss == "quantile":
        quantiles = reg.predict_quantiles(panel).reshape(16, columns, 3)
        np.testing.assert_allclose(found["quantiles"], quantiles, rtol=1e-4)


def test_several_columns_of_classes_and_the_metadata(tmp_path):
    panel, y = series(times=True, missing=False)
    labels = np.stack([np.unique(y, return_inverse=True)[1], np.arange(16) % 3], axis=1)
    panel = Panel(panel.values, panel.offsets, panel.times, ("pulse", "flow"), time_unit="h")
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, labels)
    model = to_onnx(clf, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == model.SerializeToString()
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    notes = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert notes == {
        "channels": 2,
        "time_unit": "h",
        "channel_names": ["pulse", "flow"],
        "classes": [[0, 1], [0, 1, 2]],
    }
    found = run(model, panel)
    for k, expected in enumerate(clf.predict_proba(panel)):
        np.testing.assert_allclose(found[f"probabilities_{k}"], expected, atol=CLOSE, rtol=0)


def test_one_file_serves_any_length_batch_and_emptiness():
    panel, y = series(times=False, missing=True)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    model = to_onnx(clf)
    rng = np.random.default_rng(1)
    for lengths in ([1], [300], [2, 90, 1]):
        values = [rng.normal(size=(2, length)) for length in lengths]
        values[0][:] = np.nan if lengths == [1] else values[0]
        others = Panel.from_arrays(values)
        found = run(model, others)["probabilities"]
        np.testing.assert_allclose(found, clf.predict_proba(others), atol=CLOSE, rtol=0)


def test_small_steps_keep_their_digits():
    """e^z - 1 of a slow system: in float32 a difference would have lost all of it."""
    panel, y = series(times=True, missing=False)
    clf = SSMClassifier(timescales=(1e6, 1e8), **TINY, random_state=0).fit(panel, y)
    with torch.no_grad():
        for block in clf.net_.blocks:
            block.layer.B.mul_(1e6)  # so that something is seen of it
    found = run(to_onnx(clf), panel)["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(panel), atol=1e-4, rtol=0)


class TestClosedForm:
    """Readouts at a threshold may fall on its other side by a rounding, by which an answer moves a little."""

    CLOSE = 1e-4

    @pytest.mark.parametrize(
        ("channels", "options"),
        [
            (1, {}),
            (1, {"normalize": None, "basis": "legs", "pooling": ("ppv",)}),
            (2, {"normalize": "series", "pooling": ("competition",)}),
            (2, {"basis": "legt"}),
        ],
    )
    def test_it_answers_as_predict_does(self, channels, options):
        rng = np.random.default_rng(0)
        X = [rng.normal(3.0, 2.0, size=(channels, length)).cumsum(axis=1) for length in range(30, 48)]
        X[0] = X[0][:, :1]  # a single sample
        panel, y = Panel.from_arrays(X), np.arange(1, 18) % 3
        clf = SSMFeaturesClassifier(n_features=768, n_scales=4, random_state=0, **options).fit(panel[1:], y)
        model = to_onnx(clf)
        found = run(model, panel)["probabilities"]
        np.testing.assert_allclose(found, clf.predict_proba(panel), atol=self.CLOSE, rtol=0)
        assert {prop.key: json.loads(prop.value) for prop in model.metadata_props}["classes"] == [0, 1, 2]

    def test_numbers_and_a_value_missing_before_the_end(self):
        X = np.random.default_rng(0).normal(size=(20, 1, 40))
        y = np.stack([X.mean(axis=(1, 2)), 100 * X[:, 0, 0]], axis=1)
        reg = SSMFeaturesRegressor(n_features=384, random_state=0).fit(X, y)
        X[3, 0, 5] = np.nan
        X[4, 0, 30:] = np.nan
        found = run(to_onnx(reg), Panel.from_numpy(X))["prediction"]
        assert np.isnan(found[3]).all()
        others = np.arange(20) != 3
        apart = np.abs(found - reg.predict(X))[others] / y.std(axis=0)
        assert apart.max() < self.CLOSE

    @pytest.mark.parametrize("loss", ["gaussian", "quantile"])
    def test_beside_networks_of_a_regressor(self, loss):
        panel, _ = series(times=False, missing=False)
        y = np.linspace(50, 90, 16)[:, None] * [[1.0, -3.0]]
        options = {**TINY, "n_features": 384, "n_members": 2}
        reg = SSMRegressor(loss=loss, **options, random_state=0).fit(panel, y)
        found = run(to_onnx(reg), panel)
        apart = np.abs(found["prediction"] - reg.predict(panel)) / y.std(axis=0)
        assert apart.max() < self.CLOSE
        if loss == "gaussian":
            spread = reg.predict(panel, return_std=True)[1]
            np.testing.assert_allclose(found["standard_deviation"], spread, rtol=1e-3)
        else:
            quantiles = reg.predict_quantiles(panel)
            np.testing.assert_allclose(found["quantiles"].ravel(), np.ravel(quantiles), atol=0.05)

    def test_beside_networks_of_a_classifier(self):
        panel, y = series(times=False, missing=False)
        both = np.stack([y, np.resize(["a", "b", "c"], 16)], axis=1)
        options = {**TINY, "n_features": 384, "n_members": 2}
        clf = SSMClassifier(**options, random_state=0).fit(panel, both)
        found = run(to_onnx(clf), panel)
        for k, expected in enumerate(clf.predict_proba(panel)):
            np.testing.assert_allclose(found[f"probabilities_{k}"], expected, atol=self.CLOSE, rtol=0)


def test_what_cannot_be_exported_says_why(tmp_path):
    panel, y = series(times=False, missing=False)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="bidirectional=False"):
        to_onnx(clf, path, streaming=True)
    with pytest.raises(ValueError, match="must end in '.onnx'"):
        to_onnx(clf, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="has not been fitted"):
        to_onnx(SSMClassifier(), path)
    with pytest.raises(TypeError, match="got SSMFeatures"):
        to_onnx(SSMFeatures(), path)
    blended = SSMClassifier(**{**TINY, "n_features": 384}, random_state=0).fit(panel, y)
    with pytest.raises(ExportError, match="n_features=0"):
        to_onnx(blended, path, streaming=True)
    with pytest.raises(ValueError, match="has not been fitted"):
        to_onnx(SSMFeaturesClassifier(), path)
    for options, what in (((True, False), "times"), ((False, True), "missing values")):
        closed = SSMFeaturesClassifier(n_features=384, random_state=0).fit(*series(*options))
        with pytest.raises(ExportError, match=f"where training series had {what}.*n_features=0"):
            to_onnx(closed, path)
    closed = SSMFeaturesClassifier(random_state=0).fit(charts(), np.arange(24) % 2)
    with pytest.raises(ExportError, match="closed form of clinical charts"):
        to_onnx(closed, path)
    with pytest.raises(ExportError, match="streaming=True"):
        to_onnx(closed, path, streaming=True)
    charted = SSMClassifier(**TINY, random_state=0).fit(charts(), np.arange(24) % 2)
    with pytest.raises(ExportError, match="clinical chart.* cannot be exported"):
        to_onnx(charted, path)
    for options, message in (
        ({"discretization": "foh"}, "'foh' cannot"),
        ({"backbone": "lssl", "discretization": "zoh"}, "LSSL with discretization='zoh'"),
    ):
        other = SSMClassifier(**TINY, **options, random_state=0).fit(panel, y)
        with pytest.raises(ExportError, match=message):
            to_onnx(other, path)
    with pytest.warns(UserWarning, match="single label"):
        single = SSMClassifier(**TINY, random_state=0).fit(panel, ["only"] * 16)
    with pytest.raises(ExportError, match="single class"):
        to_onnx(single, path)
    with pytest.raises(OSError):
        to_onnx(clf, tmp_path / "nowhere" / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    panel, y = series(times=False, missing=False)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"tsssm\[onnx\]"):
        to_onnx(clf)
