"""The benchmarks of the closed-form features run, on little data and without peers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"


def load_benchmark(name: str) -> ModuleType:
    """Import examples/benchmarks/NAME.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def waves():
    """The loader of a small set: (n, 1, 40) and two classes."""

    def fetch(name: str, *, part: str, return_X_y: bool) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng({"train": 0, "test": 1}[part])
        y = np.repeat([1, 2], 10)
        t = np.linspace(0, 1, 40) + rng.uniform(size=(20, 1))
        X = np.sin(2 * np.pi * 3 * y[:, None] * t) + 0.1 * rng.normal(size=(20, 40))
        return X[:, None].astype(np.float32), y

    return fetch


def test_classification(waves, monkeypatch, tmp_path, capsys):
    benchmark = load_benchmark("features_classification")
    monkeypatch.setattr(benchmark, "fetch_ucr", waves)
    path = tmp_path / "results.json"
    options = ["--sets", "Beef", "CBF", "--seeds", "0", "1", "--n-features", "768", "--json", str(path)]
    benchmark.main([*options, "--peers"])
    report = json.loads(path.read_text())
    ours = report["summary"]["UCR"]["SSMFeaturesClassifier"]
    assert ours["accuracy"] == 1.0 and ours["mean rank"] == 1.0
    assert set(report["results"]) == {"Beef|0", "CBF|0", "Beef|1", "CBF|1"}
    capsys.readouterr()
    benchmark.main([*options, "--peers"])  # finds every fit done
    assert json.loads(path.read_text()) == report and "Beef 0" not in capsys.readouterr().out


def test_ranks_share_ties():
    benchmark = load_benchmark("features_classification")
    cell = {"seconds": 1.0}
    results = {
        "Beef|0": {
            "SSMFeaturesClassifier": {"accuracy": 0.9, **cell},
            "a": {"accuracy": 0.9, **cell},
            "b": {"accuracy": 0.8, "seconds": 4.0},
        }
    }
    table = benchmark.summary(results)["UCR"]
    assert [table[name]["mean rank"] for name in ("SSMFeaturesClassifier", "a", "b")] == [1.5, 1.5, 3.0]
    assert table["b"]["time, ours = 1"] == 4.0


def test_irregular(waves, monkeypatch, tmp_path):
    benchmark = load_benchmark("features_irregular")
    monkeypatch.setattr(benchmark, "fetch_ucr", waves)
    path = tmp_path / "results.json"
    benchmark.main(["--sets", "CBF", "--drop", "0.3", "--seeds", "0", "--no-peer", "--json", str(path)])
    result = json.loads(path.read_text())["summary"]["30% dropped"]
    assert result["SSMFeaturesClassifier"] > 0.8 and 0 < result["movement"] < 3


def test_masks_leave_what_they_keep():
    benchmark = load_benchmark("features_irregular")
    X = np.random.default_rng(0).normal(size=(3, 20))
    panel, filled = benchmark.masked(X, 0.5, 0)
    for one, x, line in zip(panel, X, filled, strict=True):
        rows = one.times.astype(int)
        assert len(rows) == 10
        np.testing.assert_allclose(one.values[:, 0], x[rows], rtol=1e-6)  # float32
        np.testing.assert_allclose(line[rows], x[rows])


def test_regression(monkeypatch, tmp_path):
    benchmark = load_benchmark("features_regression")
    path = tmp_path / "results.json"
    benchmark.main(["--sets", "Tecator", "--seeds", "0", "--no-peers", "--json", str(path)])
    result = json.loads(path.read_text())["results"]["Tecator"]
    assert result["SSMFeaturesRegressor"]["rmse"] < result["training mean"]["rmse"]


def test_scaling():
    benchmark = load_benchmark("features_scaling")
    result = benchmark.measure(100, 40, 2)
    assert result["seconds"] > 0 and result["of which features MiB"] == 5
    assert benchmark.exponent([1, 2, 4], [3.0, 6.0, 12.0]) == 1.0
