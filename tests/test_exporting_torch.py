"""Models as programs of `torch.export`: they answer as `predict` does, for series of any length.

An export takes a second or more: two stay with the quick tests.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_exporting import TINY, padded, series

from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier, SSMRegressor
from tsssm.backbone import BACKBONES
from tsssm.exporting import ExportError, load_torch_export, to_torch_export

CLOSE = 1e-5


def run(program, panel: Panel) -> dict[str, np.ndarray]:
    with torch.no_grad():
        answers = program(*map(torch.from_numpy, padded(panel).values()))
    return {name: answer.numpy() for name, answer in answers.items()}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_answers_as_predict_does(backbone):
    panel, y = series(times=True, missing=True)
    clf = SSMClassifier(backbone=backbone, **{**TINY, "n_layers": 1}, random_state=0).fit(panel, y)
    program = to_torch_export(clf).module()
    np.testing.assert_allclose(
        run(program, panel)["probabilities"], clf.predict_proba(panel), atol=CLOSE, rtol=0
    )
    one = panel[3]  # another number of series, and another length
    np.testing.assert_allclose(run(program, one)["probabilities"], clf.predict_proba(one), atol=CLOSE, rtol=0)


def test_no_path_is_taken_by_the_size_of_the_example():
    panel, y = series(times=False, missing=False)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    program = to_torch_export(clf).module()
    for shape in ((1, 2, 1), (64, 2, 400)):
        X = np.random.default_rng(0).normal(size=shape)
        found = run(program, Panel.from_numpy(X))["probabilities"]
        np.testing.assert_allclose(found, clf.predict_proba(X), atol=CLOSE, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "missing", "pooling"), [(True, False, "last"), (False, True, "max"), (False, False, "mean")]
)
def test_poolings_times_and_missing_values(times, missing, pooling):
    panel, y = series(times, missing)
    options = {**TINY, "n_members": 2, "bidirectional": missing, "pooling": pooling}
    clf = SSMClassifier(**options, random_state=0).fit(panel, y)
    program = to_torch_export(clf).module()
    others = series(times, True, seed=1)[0]  # with values missing where training had none
    np.testing.assert_allclose(
        run(program, others)["probabilities"], clf.predict_proba(others), atol=CLOSE, rtol=0
    )
    nothing = np.full((1, 2, 4), np.nan)
    empty = Panel.from_numpy(nothing, np.arange(4.0)[None] if times else None, time_unit=panel.time_unit)
    np.testing.assert_allclose(
        run(program, empty)["probabilities"], clf.predict_proba(empty), atol=CLOSE, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["gaussian", "quantile"])
def test_numbers(loss):
    panel, _ = series(times=False, missing=False)
    y = np.linspace(50, 90, 16)[:, None] * [[1.0, -3.0]]
    reg = SSMRegressor(loss=loss, **TINY, random_state=0).fit(panel, y)
    found = run(to_torch_export(reg).module(), panel)
    np.testing.assert_allclose(found["prediction"], reg.predict(panel), rtol=1e-5)
    if loss == "gaussian":
        spread = reg.predict(panel, return_std=True)[1]
        np.testing.assert_allclose(found["standard_deviation"], spread, rtol=1e-4)
    else:
        assert found["quantiles"].shape == (16, 2, 3) and (np.diff(found["quantiles"]) >= 0).all()


def test_a_file_has_the_program_and_its_notes(tmp_path):
    panel, y = series(times=True, missing=True)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    path = tmp_path / "model.pt2"
    to_torch_export(clf, path)
    program, notes = load_torch_export(path)
    assert notes == {"channels": 2, "time_unit": "h", "classes": ["high", "low"]}
    expected = clf.predict_proba(panel)
    np.testing.assert_allclose(run(program, panel)["probabilities"], expected, atol=CLOSE, rtol=0)


@pytest.mark.slow
def test_a_file_runs_in_another_process(tmp_path, as_a_user):
    panel, y = series(times=True, missing=True)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    path, expected = tmp_path / "model.pt2", clf.predict_proba(panel)
    to_torch_export(clf, path)
    np.savez(tmp_path / "series.npz", **padded(panel))
    script = (
        "import sys, numpy as np, torch; from tsssm.exporting import load_torch_export;"
        "program, _ = load_torch_export(sys.argv[1]); arrays = np.load(sys.argv[2]);"
        "answer = program(torch.tensor(arrays['values']), torch.tensor(arrays['times']));"
        "print(answer['probabilities'][0, 0].item())"
    )
    done = as_a_user("-W", "ignore", "-c", script, path, tmp_path / "series.npz")
    assert float(done.stdout) == pytest.approx(expected[0, 0], abs=CLOSE)


def test_what_cannot_be_exported(labelled, tmp_path):
    X, y = labelled
    with pytest.raises(TypeError, match="fitted SSMClassifier or SSMRegressor; got SSMFeaturesClassifier"):
        to_torch_export(SSMFeaturesClassifier())
    with pytest.raises(ValueError, match="not been fitted"):
        to_torch_export(SSMClassifier())
    with pytest.raises(ValueError, match=r"path must end in '.pt2'; got 'model.onnx'"):
        to_torch_export(SSMClassifier(), "model.onnx")
    clf = SSMClassifier(**{**TINY, "n_features": 384}, random_state=0).fit(X, y)
    with pytest.raises(ExportError, match="closed form beside the networks cannot be exported"):
        to_torch_export(clf)
