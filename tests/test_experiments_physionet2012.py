"""The experiment on PhysioNet 2012: its own functions, on synthetic charts with known contents."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tsssm import Panel

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
    monkeypatch.setitem(module.SEARCHED, "max_iter", [5])
    return module


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    for shared in ("experiment", "physionet2012_inputs"):
        monkeypatch.delitem(sys.modules, shared, raising=False)
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_stay(values: Any, times: Any) -> Panel:
    """A stay with one variable that is measured, the first; scores as `NormalScores` returns them."""
    chart = np.full((len(times), 7 + 37), np.nan)
    chart[:, :7] = 0.5
    chart[:, 7] = values
    return Panel(chart, [0, len(times)], times, time_unit="h")


def test_report(physionet, tmp_path, capsys):
    path, figure = tmp_path / "physionet2012.json", tmp_path / "figures" / "calibration.png"
    quick = ["--seeds", "0", "1", "--max-epochs", "2", "--max-iter", "5", "--draws", "1", "--folds", "2"]
    physionet.main([*quick, "--json", str(path), "--figure", str(figure), "--note", "a test"])
    report, printed = json.loads(path.read_text()), capsys.readouterr().out
    results = report["results"]
    assert report["folds"].startswith("first 2 of") and report["seeds"] == [0, 1]
    assert report["stays"] == 60 and report["died"] == 0.25 and report["note"] == "a test"
    assert all(note["parameters"] > 0 and note["boosting on summaries"] for note in report["found"])
    members = [physionet.NETWORKS, physionet.LOGISTIC, physionet.STATES]
    assert results.keys() >= {*members, physionet.OURS, physionet.SUMMARIES, physionet.BOTH}
    for name, result in results.items():
        assert len(result["AUROC"]["each"]) == 2 and result["seconds"]["mean"] > 0, name
        assert sum(part["stays"] for part in result["reliability"]) == 24, name
        assert f"{name:42}{result['AUROC']['mean']:7.3f}" in printed
    # The label shows in the level of a variable: logistic regression on states of it must find some of it.
    assert results[physionet.LOGISTIC]["AUROC"]["mean"] > 0.7
    ours, theirs = results[physionet.OURS]["AUPRC"], results[physionet.SUMMARIES]["AUPRC"]
    difference = np.subtract(ours["each"], theirs["each"])
    assert report["ours_less_theirs"][physionet.SUMMARIES]["AUPRC"]["each"] == pytest.approx(list(difference))
    assert figure.read_bytes().startswith(b"\x89PNG")
    if importlib.util.find_spec("pypots") is None:
        assert "PyPOTS is not installed" in printed and physionet.GRUD in report["not_run"][0]


def test_ours_is_the_mean_of_its_members(physionet):
    clock = physionet.Clock()
    clock.add("a", lambda: np.array([0.1, 0.5]))
    clock.add("b", lambda: np.array([0.3, 0.9]))
    clock.mean("both", ["a", "b"])
    np.testing.assert_allclose(clock.risks["both"], [0.2, 0.7])
    assert clock.seconds["both"] == clock.seconds["a"] + clock.seconds["b"]


def test_calibration(physionet):
    y = np.tile([0, 0, 0, 1], 100)
    p = np.full(400, 0.25)
    assert physionet.calibration_error(y, p) == pytest.approx(0)
    assert physionet.calibration_error(y, p + 0.1) == pytest.approx(0.1)
    rising = np.linspace(0, 1, 400)
    table = physionet.reliability((rising > 0.5).astype(int), rising, bins=4)
    assert table["died"].tolist() == [0, 0, 1, 1] and table["stays"].tolist() == [100] * 4
    assert table["predicted"].tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.002)


def test_normal_scores(inputs):
    X, _ = charts(40)
    transformer = inputs.NormalScores().fit(X)
    scores = transformer.transform(X)
    assert scores.n_channels == 44 and np.array_equal(scores.times, X.times)
    np.testing.assert_array_equal(scores.values[:, 3:7].argmax(axis=1) + 1, X.values[:, 3])
    assert (scores.values[:, 3:7].sum(axis=1) == 1).all()
    np.testing.assert_array_equal(np.isnan(scores.values[:, 7:]), np.isnan(X.values[:, 4:]))
    one, score = X.values[:, 4], scores.values[:, 7]
    seen = ~np.isnan(one)
    assert (np.diff(score[seen][np.argsort(one[seen])]) >= 0).all() and np.nanmax(np.abs(score)) <= 3
    assert abs(np.median(score[seen])) < 0.1
    wild = inputs.with_values(X, np.where(np.isnan(X.values), np.nan, 1e6))
    assert np.nanmax(transformer.transform(wild).values) <= 3


def test_last_scores_are_carried_within_their_stay(inputs):
    X = Panel.concatenate([one_stay([np.nan, 2, np.nan], [0, 1, 5]), one_stay([np.nan, 1], [0, 9])])
    carried = inputs.Carried().fit_transform(X).values
    assert carried.shape == (5, 7 + 37 + 37) and not np.isnan(carried).any()
    assert carried[:, 7].tolist() == [0, 2, 2, 0, 1] and carried[:, 44].tolist() == [0, 1, 0, 0, 1]
    assert (carried[:, 8:44] == 0).all() and (carried[:, 45:] == 0).all()


def test_states_are_those_of_the_system(inputs):
    """One state, integrated step by step, and the statistics that an infinite time constant gives."""
    values, times = np.array([0.5, np.nan, -1.5, 2.0]), np.array([1.0, 3.0, 7.5, 40.0])
    found = inputs.States().transform(one_stay(values, times))
    assert found.shape == (1, 7 + (3 * 9 + 2) * 37)
    by_variable = found[0, 7:].reshape(-1, 37)
    kinds = 9  # log count, mean, standard deviation, four shares, two soft extremes
    x, count, clock = 0.0, 0.0, 0.0
    for value, time in [*zip(values, times, strict=True), (np.nan, 48.0)]:
        decay = np.exp(-(time - clock) / inputs.States.constants[0])
        x, count, clock = x * decay, count * decay, time
        if not np.isnan(value):
            x, count = x + value, count + 1
    recent, whole = by_variable[:kinds, 0], by_variable[2 * kinds : 3 * kinds, 0]
    assert recent[0] == pytest.approx(np.log(count + 0.01)) and recent[1] == pytest.approx(x / count)
    seen = values[~np.isnan(values)]
    assert whole[1] == pytest.approx(seen.mean()) and whole[2] == pytest.approx(seen.std())
    assert whole[3:7].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    assert whole[7] == pytest.approx(seen.min(), abs=1e-3) and whole[8] == pytest.approx(seen.max(), abs=1e-3)
    assert by_variable[3 * kinds, 0] == pytest.approx(recent[1] - whole[1])
    # What was never measured: a count of none, and no statistic.
    assert (by_variable[[0, kinds, 2 * kinds], 1:] == np.log(0.01)).all()
    assert np.isnan(np.delete(by_variable, [0, kinds, 2 * kinds], axis=0)[:, 1:]).all()


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
