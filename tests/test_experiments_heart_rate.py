"""The experiment on heart rates: its own functions, on synthetic recordings with known rates."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.utils import Bunch

from tsssm.datasets import make_vitals

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"


def recordings(n: int, seed: int) -> Bunch:
    """Windows of 32 s of n patients, in the form of `fetch_bidmc`."""
    found = make_vitals(n, sampling_rate=62.5, random_state=seed)
    patients = np.array([f"{i:02d}" for i in range(n)])
    return Bunch(data=found.data[:, [0, 2]], target=found.target[:, 0], groups=patients)


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("heart_rate")


@pytest.mark.parametrize("name", ["peaks of PLETH", "peaks of the ECG"])
def test_counting_finds_known_rates(experiment, name):
    found = recordings(30, 3)
    error = experiment.COUNTS[name](found.data) - found.target
    assert np.sqrt(np.mean(error**2)) < 1.0  # beats a minute; half a beat in 32 s


def test_signals_without_peaks_get_the_mean_rate_of_the_others(experiment):
    t = np.arange(2000) / 62.5
    signal = np.stack([np.sin(2 * np.pi * t), np.zeros(2000), np.sin(2 * np.pi * 2 * t)])
    np.testing.assert_allclose(experiment.counted(signal, np.mean), [60, 90, 120], rtol=0.01)


def test_surer_and_earlier_answers_count_more(experiment):
    said = np.concatenate([[[[78.0, 80.0, 82.0]]] * 7, [[[46.0, 50.0, 54.0]]] * 7])
    assert experiment.averaged(said) == pytest.approx((2 * 80 + 50) / 3)  # widths of 4 and 8
    said = np.arange(14)[:, None, None] % 7 + np.array([-1.0, 0.0, 1.0])
    assert 0 < experiment.averaged(said)[0] < 3


def test_networks_are_taught_at_many_speeds(experiment, monkeypatch):
    taught = []

    class Said:
        """In place of a network that reads the speed from the series."""

        def __init__(self, **settings: Any) -> None:
            assert settings["loss"] == "quantile"

        def fit(self, X: np.ndarray, y: np.ndarray) -> Any:
            taught.extend(zip(X[:, 0, 0], y, strict=True))
            assert X.shape[1:] == (1, experiment.SHORTEST)
            return self

        def predict_quantiles(self, X: np.ndarray) -> np.ndarray:
            assert X.shape[2] == experiment.PIECE
            return X[:, 0, :1] * 7 + np.array([-1.0, 0.0, 1.0])

    monkeypatch.setattr(experiment, "SSMRegressor", Said)
    heard = {s: np.full((3, 1, 4000 // s), s, np.float32) for s in experiment.SPEEDS}
    y = np.array([60.0, 120.0, 70.0])
    said = experiment.network(heard, y, np.array([0, 1]), np.array([2]))
    assert said.shape == (7, 1, 3) and said[..., 1] == pytest.approx(70)
    assert sorted({y for _, y in taught})[0] > 45 and max(y for _, y in taught) < 140
    assert {speed for speed, _ in taught} == set(experiment.SPEEDS)
    assert all(rate in (6 * speed, 12 * speed) for speed, rate in taught)


def test_report(experiment, monkeypatch, tmp_path):
    """Eight patients, and networks of two training steps."""
    data = recordings(8, 1)
    quick = {"n_layers": 1, "d_model": 4, "d_state": 4, "batch_size": 4}
    monkeypatch.setattr(experiment, "SETTINGS", {**experiment.SETTINGS, **quick})
    monkeypatch.setattr(experiment, "fetch_bidmc", lambda *arguments, **options: data)
    path = tmp_path / "results.json"
    experiment.main(
        ["--settings", '{"max_steps": 2}', "--seeds", "0", "1", "--json", str(path), "--note", "a test"]
    )
    report = json.loads(path.read_text())
    results = report["results"]
    assert report["windows"] == report["patients"] == 8 and report["note"] == "a test"
    assert {"SSMRegressor", "SSMRegressor, ECG alone", "peaks of PLETH"} < results.keys()
    assert len(set(results["SSMRegressor"]["rmse"]["each"])) == 2
    mean = results["training mean"]
    off = np.array(list(mean["bias of patients"].values()))  # each patient has one window
    assert mean["rmse"]["mean"] == pytest.approx(np.sqrt(np.mean(off**2)), abs=1e-3)
    assert mean["worst"] == pytest.approx(np.abs(off).max(), abs=1e-3)
    assert results["SSMRegressor"]["core seconds of the last seed"] > 0
