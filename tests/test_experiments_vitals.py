"""The experiment on vital signs: what is asked and by whom it is answered, on made charts."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.utils import Bunch

from tsssm import Panel, SSMForecaster

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"

pytestmark = pytest.mark.scripts


def made(n=15, seed=0):
    """Stays of two days, every sign measured at half of the times; two stays begin late."""
    rng = np.random.default_rng(seed)
    series, times = [], []
    for i in range(n):
        own = np.sort(np.round(rng.uniform(44 if i in (3, 7) else 0, 47.9, 40), 2))
        own = np.unique(own)
        values = (
            70 + 8 * np.sin(2 * np.pi * (own[:, None] + np.arange(8)) / 24) + rng.normal(size=(len(own), 8))
        )
        values[rng.random(values.shape) < 0.5] = np.nan
        series.append(values.T)
        times.append(own)
    return series, times


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = importlib.import_module("forecasting_vitals")
    series, times = made()
    offsets = np.cumsum([0, *map(len, times)])
    values = np.concatenate([own.T for own in series])
    panel = Panel(values, offsets, np.concatenate(times), ("Age", *module.SIGNS), time_unit="h")
    monkeypatch.setattr(module, "fetch_physionet2012", lambda: Bunch(data=panel))
    tiny = {**SSMForecaster.get_test_params()[0], "accelerator": "cpu"}
    monkeypatch.setattr(module, "SSMForecaster", lambda **options: SSMForecaster(**tiny))
    return module


def test_what_is_asked_is_what_came_after_hour_42(experiment):
    charts = experiment.usable(experiment.fetch_physionet2012().data)
    assert len(charts) == 13 and charts.n_channels == 7
    due = experiment.asked(charts)
    expected = [
        (i, c, t, chart.values[k, c])
        for i, chart in enumerate(charts)
        for c in range(7)
        for k, t in enumerate(chart.times)
        if t >= 42 and np.isfinite(chart.values[k, c])
    ]
    assert_allclose(np.array(due).T, expected)
    naive = experiment.last_values(charts, due)
    for k in (0, len(naive) - 1):
        chart, c = charts[due.stay[k]], due.sign[k]
        there = (chart.times < 42) & np.isfinite(chart.values[:, c])
        assert naive[k] == chart.values[there, c][-1]


def test_figures_of_all_methods(experiment, tmp_path, capsys):
    path = tmp_path / "vitals.json"
    experiment.main(["--stays", "15", "--json", str(path)])
    rows = json.loads(path.read_text())["results"]
    assert rows["last value"]["relative"] == pytest.approx(1.0)
    assert rows["SSMFeaturesForecaster"]["relative"] < 0.9
    assert rows["boosting"].keys() == {"MAE", "relative", "seconds"}
    assert 40 < rows["SSMForecaster, seed 0"]["covered of 80 %"] <= 100
    assert "asked" in capsys.readouterr().out
