"""The experiment on PhysioNet 2012: its own functions, on synthetic charts with known contents."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tsssm import Panel

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"
N_CHANNELS = 41


def charts(n: int, seed: int = 0) -> tuple[Panel, np.ndarray]:
    """Stays of 3 to 12 samples; the first variable after the descriptors is high in those who die."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 4 == 0).astype(np.int64)
    lengths = rng.integers(3, 13, size=n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    times = np.concatenate([np.sort(rng.uniform(0, 48, size=length)) for length in lengths])
    values = rng.normal(size=(offsets[-1], N_CHANNELS))
    values[:, 4] += 3 * np.repeat(y, lengths)
    values[rng.uniform(size=values.shape) < 0.6] = np.nan
    descriptors = np.column_stack([rng.normal(60, 9, n), rng.integers(0, 2, n), rng.normal(170, 9, n)])
    values[:, :4] = np.repeat(np.column_stack([descriptors, rng.integers(1, 5, n)]), lengths, axis=0)
    return Panel(values, offsets, times, time_unit="h"), y


@pytest.fixture(autouse=True)
def thread_count_as_before():
    """Gradient boosting brings an OpenMP of its own; torch's threads are to stay for tests to come."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("physionet2012_inputs", monkeypatch)


@pytest.fixture
def physionet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The experiment, on 60 synthetic stays."""
    module = load("physionet2012", monkeypatch)
    monkeypatch.setattr(module, "fetch_physionet2012", lambda *, return_X_y: charts(60))
    monkeypatch.setitem(sys.modules["risks"].SEARCHED, "max_iter", [5])
    return module


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    for shared in ("experiment", "physionet2012_inputs", "risks"):
        monkeypatch.delitem(sys.modules, shared, raising=False)
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_report(physionet, tmp_path, capsys):
    path, figure = tmp_path / "physionet2012.json", tmp_path / "figures" / "calibration.png"
    quick = ["--max-steps", "4", "--draws", "1", "--folds", "2"]
    physionet.main([*quick, "--json", str(path), "--figure", str(figure), "--note", "a test"])
    report, printed = json.loads(path.read_text()), capsys.readouterr().out
    results = report["results"]
    risks = sys.modules["risks"]
    assert report["folds"].startswith("first 2 of") and report["seeds"] == [0]
    assert report["stays"] == 60 and report["died"] == 0.25 and report["note"] == "a test"
    assert all(note["parameters"] > 0 and note[risks.SUMMARIES] for note in report["found"])
    assert results.keys() >= {risks.NETWORKS, risks.CLOSED_FORM, risks.SUMMARIES}
    for name, result in results.items():
        assert len(result["AUROC"]["each"]) == 2 and result["seconds"]["mean"] > 0, name
        assert sum(part["charts"] for part in result["reliability"]) == 24, name
        assert f"{name:42}{result['AUROC']['mean']:7.3f}" in printed
    # The label shows in the level of a variable: a linear model of its states must find some of it.
    assert results[risks.CLOSED_FORM]["AUROC"]["mean"] > 0.7
    ours, theirs = (results[name]["AUPRC"] for name in (risks.NETWORKS, risks.SUMMARIES))
    difference = np.subtract(ours["each"], theirs["each"])
    assert report["less_boosting"][risks.NETWORKS]["AUPRC"]["each"] == pytest.approx(list(difference))
    assert figure.read_bytes().startswith(b"\x89PNG")
    if importlib.util.find_spec("pypots") is None:
        assert "PyPOTS is not installed" in printed and risks.GRUD in report["not_run"][0]


def test_calibration(physionet):
    risks = sys.modules["risks"]
    y = np.tile([0, 0, 0, 1], 100)
    p = np.full(400, 0.25)
    assert risks.calibration_error(y, p) == pytest.approx(0)
    assert risks.calibration_error(y, p + 0.1) == pytest.approx(0.1)
    rising = np.linspace(0, 1, 400)
    table = risks.reliability((rising > 0.5).astype(int), rising, bins=4)
    assert table["had it"].tolist() == [0, 0, 1, 1] and table["charts"].tolist() == [100] * 4
    assert table["predicted"].tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.002)


def test_measurements_are_removed_from_what_varies(physionet):
    X, _ = charts(40)
    half = sys.modules["risks"].thinned(X, 0.5, range(4), seed=0)
    np.testing.assert_array_equal(half.values[:, :4], X.values[:, :4])
    seen, left = ~np.isnan(X.values[:, 4:]), ~np.isnan(half.values[:, 4:])
    assert not (left & ~seen).any() and abs(left.sum() / seen.sum() - 0.5) < 0.03
    np.testing.assert_array_equal(half.values[:, 4:][left], X.values[:, 4:][left])


def test_summaries(inputs):
    X, _ = charts(30)
    transformer = inputs.Summaries().fit(X)
    table = transformer.transform(X)
    assert table.shape == (30, 4 + 8 * 37)
    low, high = np.nanpercentile(X.values[:, 9], [0.1, 99.9])
    for stay, row in zip(X, table, strict=True):
        values, times = np.clip(stay.values[:, 9], low, high), stay.times
        seen = ~np.isnan(values)
        mean, least, most, first, last, count, std, slope = row[4 + 8 * 5 : 4 + 8 * 6]
        assert count == seen.sum()
        if count == 0:
            assert np.isnan([mean, least, most, first, last, std, slope]).all()
            continue
        of_stay = values[seen]
        assert [mean, first, last] == pytest.approx([of_stay.mean(), of_stay[0], of_stay[-1]], rel=1e-5)
        assert [least, most] == pytest.approx([of_stay.min(), of_stay.max()], rel=1e-5)
        if count > 1:
            assert std == pytest.approx(of_stay.std(ddof=1), rel=1e-5)
            assert slope == pytest.approx(np.polyfit(times[seen], of_stay, 1)[0], rel=1e-4, abs=1e-6)
        else:
            assert np.isnan([std, slope]).all()


def test_hourly_means(inputs, physionet):
    panel = Panel([[1.0], [3.0], [np.nan], [7.0]], [0, 3, 4], [0.2, 0.9, 5.0, 48.0], time_unit="h")
    binned = inputs.Binned().transform(panel)
    assert binned == Panel([[2.0], [np.nan], [7.0]], [0, 2, 3], [0.0, 5.0, 47.0], time_unit="h")
    assert inputs.Binned(hours=6).transform(panel).times.tolist() == [0, 42]
    array = physionet.on_grid(binned)
    assert array.shape == (2, 48, 1) and array[0, 0, 0] == 2 and array[1, 47, 0] == 7
    assert np.isnan(array).sum() == 2 * 48 - 2
