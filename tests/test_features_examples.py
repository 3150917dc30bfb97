"""The benchmarks of the closed-form features run, on little data and without peers."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from tsssm import SSMRegressor

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
    assert report["summary"]["UCR"]["seeds timed"] == 2
    capsys.readouterr()
    benchmark.main([*options, "--peers"])  # finds every fit done
    assert json.loads(path.read_text()) == report and "Beef 0" not in capsys.readouterr().out


def test_accuracy_without_times(waves, monkeypatch, tmp_path):
    benchmark = load_benchmark("features_classification")
    monkeypatch.setattr(benchmark, "fetch_ucr", waves)
    path = tmp_path / "results.json"
    options = ["--sets", "CBF", "--n-features", "768", "--json", str(path), "--peers"]
    benchmark.main([*options, "--seeds", "0"])
    seconds = json.loads(path.read_text())["summary"]["UCR"]["SSMFeaturesClassifier"]["seconds"]
    benchmark.main([*options, "--seeds", "0", "1", "--no-times"])
    table = json.loads(path.read_text())["summary"]["UCR"]
    assert (table["seeds"], table["seeds timed"]) == (2, 1)
    assert table["SSMFeaturesClassifier"]["seconds"] == seconds
    assert len(table["SSMFeaturesClassifier"]["accuracy of seeds"]) == 2


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
    assert result["SSMFeaturesClassifier"]["mean"] > 0.8


def test_the_difference_of_models_on_the_same_masks():
    benchmark = load_benchmark("features_irregular")
    ours, peer = [0.9, 0.8, 0.7], [0.8, 0.8, 0.75]
    results = {
        f"{name}|0.5|{mask}": {benchmark.OURS: ours[mask] + shift, benchmark.PEER: peer[mask] + shift}
        for mask in range(3)
        for name, shift in (("CBF", 0.0), ("Trace", 0.1))
    }
    results["CBF|0.5|3"] = results["CBF|0.5|0"]  # a mask that is not done yet
    table = benchmark.summary(results, 0.5)
    assert table["masks"] == 3 and table[benchmark.OURS]["mean"] == 0.85
    gain = np.subtract(ours, peer)
    assert table["ahead of the peer"]["mean"] == pytest.approx(gain.mean(), abs=1e-4)
    expected = gain.std(ddof=1) / np.sqrt(3)
    assert table["ahead of the peer"]["standard error over masks"] == pytest.approx(expected, abs=1e-4)


def test_hybrid(waves, monkeypatch, tmp_path, capsys):
    benchmark = load_benchmark("features_hybrid")
    monkeypatch.setattr(benchmark, "fetch_ucr", waves)
    path = tmp_path / "results.json"
    options = ["--sets", "Trace", "CBF", "--folds", "2", "--max-steps", "2", "--json", str(path)]
    benchmark.main(options)
    report = json.loads(path.read_text())
    both = np.array([report["results"][name]["mean of both"]["accuracy"] for name in ("Trace", "CBF")])
    assert both.shape == (2, 2) and report["summary"]["mean of both"]["accuracy"] == both.mean()
    gain = report["summary"]["gain over SSMFeaturesClassifier"]
    assert sum(gain["sets won, tied, lost"]) == 2 and gain["mean"] <= 0
    capsys.readouterr()
    benchmark.main(options)  # finds every set done
    assert json.loads(path.read_text()) == report and "Trace {" not in capsys.readouterr().out


def test_hybrid_is_compared_with_the_better_model_of_each_set():
    benchmark = load_benchmark("features_hybrid")

    def scores(*accuracies: list[float]) -> dict[str, dict[str, list[float]]]:
        return {
            model: {"accuracy": each, "log loss": each}
            for model, each in zip(benchmark.MODELS, accuracies, strict=True)
        }

    table = benchmark.summary(
        {"a": scores([0.9, 0.9], [0.5, 0.7], [0.8, 1.0]), "b": scores([0.1, 0.2], [0.6, 0.6], [0.7, 0.7])}
    )
    assert table["gain over SSMFeaturesClassifier"]["mean"] == pytest.approx(0.2)
    gain = table["gain over the better of the two on each set"]
    assert gain["mean"] == pytest.approx(0.05) and gain["sets won, tied, lost"] == [1, 1, 0]


def test_masks_leave_what_they_keep():
    benchmark = load_benchmark("features_irregular")
    X = np.random.default_rng(0).normal(size=(3, 20))
    panel, filled = benchmark.masked(X, 0.5, 0)
    for one, x, line in zip(panel, X, filled, strict=True):
        rows = one.times.astype(int)
        assert len(rows) == 10
        np.testing.assert_allclose(one.values[:, 0], x[rows], rtol=1e-6)  # float32
        np.testing.assert_allclose(line[rows], x[rows])


def test_invariance(waves, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)  # the masks are those of another benchmark
    benchmark = load_benchmark("features_invariance")
    monkeypatch.setattr(benchmark, "fetch_ucr", waves)
    path = tmp_path / "results.json"
    options = ["--seeds", "0", "--n-features", "384", "--json", str(path)]
    benchmark.main(["--sets", "CBF", benchmark.SIMULATED, *options])
    report = json.loads(path.read_text())
    simulated, noisy = report["results"][benchmark.SIMULATED], report["results"]["CBF"]
    assert simulated["smooth"] and not noisy["smooth"]
    full, lines, thinned = (simulated["movement"][0][kind] for kind in benchmark.KINDS)
    assert thinned < full < 1 < lines
    row = report["summary"]["smooth"][benchmark.KINDS[1]]
    assert row == {"mean": round(lines, 3), "largest": round(lines, 3), "sets below 1": 0}


def test_the_statistic_of_invariance(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = load_benchmark("features_invariance")
    rng = np.random.default_rng(0)
    y = np.array([0, 1, 0, 1, 1])
    F = np.column_stack([rng.normal(size=(5, 3)) * [1.0, 10.0, 100.0], np.full(5, 2.0)])
    moved = F + 0.3 * F.std(axis=0)
    pairs = F[[0, 2, 1, 3, 4]] - F[[2, 0, 3, 4, 1]]
    apart = np.mean((pairs[:, :3] / F[:, :3].std(axis=0)) ** 2)
    assert benchmark.distance(F, moved, y) == pytest.approx(0.3 / np.sqrt(apart))
    assert benchmark.distance(F, F, y) == 0.0
    t = np.arange(400.0)
    slow, fast = np.sin(0.1 * t), np.sin(1.5 * t)  # below and above a quarter of pi a sample
    assert benchmark.fast_share(np.stack([slow, slow, fast])) < 1e-6
    assert benchmark.fast_share(np.stack([slow, fast, fast])) > 0.99
    assert benchmark.fast_share((slow + fast)[None]) == pytest.approx(0.5, abs=0.01)


def test_regression(monkeypatch, tmp_path):
    benchmark = load_benchmark("regression")
    quick = {"n_members": 1, "n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2}
    models = {
        "SSMRegressor": lambda seed: SSMRegressor(**quick, random_state=seed),
        "SSMFeaturesRegressor": benchmark.MODELS["SSMFeaturesRegressor"],
        "MiniRocket": lambda seed: DummyRegressor(),
    }
    monkeypatch.setattr(benchmark, "MODELS", models)
    path = tmp_path / "results.json"
    benchmark.main(["--sets", "Tecator", "--seeds", "0", "--json", str(path)])
    report = json.loads(path.read_text())
    result = report["results"]["Tecator"]
    mean = result["training mean"]
    assert result["SSMFeaturesRegressor"]["rmse"] < mean == result["MiniRocket"]["rmse"]
    assert report["ranks"]["ahead of MiniRocket"] == {"SSMRegressor": 1, "SSMFeaturesRegressor": 1}
    assert report["ranks"]["mean rank"]["MiniRocket"] == 3


def test_windows_of_engines(monkeypatch, tmp_path):
    """Training engines give windows up to their failure, test engines one, and targets have a ceiling."""
    benchmark = load_benchmark("regression")
    (tmp_path / "tser").mkdir()
    lives = {"train": {1: 45, 2: 170}, "test": {1: 31, 2: 60}}
    texts = {"RUL": "7\n130\n"}
    for split, engines in lives.items():
        texts[split] = "header\n" * (split == "train") + "".join(
            " ".join(map(str, [engine, cycle, 0, 0, 0, *[cycle] * 21])) + " \n"
            for engine, last in engines.items()
            for cycle in range(1, last + 1)
        )
    with tarfile.open(tmp_path / "tser" / "cmapss.tar.xz", "w:xz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"cmapss/{name}_FD001.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
    X, y = benchmark.load("C-MAPSS FD001", "train")
    assert X.shape == (2 + 15, 21, 30) and y[:2].tolist() == [0, 10] and y.max() == 125
    assert (X[0, 3] == np.arange(16, 46)).all()
    X, y = benchmark.load("C-MAPSS FD001", "test")
    assert y.tolist() == [7, 125] and X[:, 0, -1].tolist() == [31, 60]


def test_streaming(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)  # the benchmarks share their timing
    benchmark = load_benchmark("features_streaming")
    path = tmp_path / "results.json"
    benchmark.main(["--n-features", "384", "--samples", "60", "--json", str(path)])
    rows = json.loads(path.read_text())["microseconds a sample"]
    assert set(rows) == set(benchmark.KINDS)
    for row in rows.values():
        assert 0 < row["minimum"] <= row["median"] and row["difference to predict_proba"] < 1e-5


def test_scaling():
    benchmark = load_benchmark("features_scaling")
    result = benchmark.measure(100, 40, 2)
    assert result["seconds"] > 0 and result["of which features MiB"] == 5
    assert benchmark.exponent([1, 2, 4], [3.0, 6.0, 12.0]) == 1.0
