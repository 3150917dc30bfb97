"""The experiment on asynchronous variables: what its series are, and that its report is written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    spec = importlib.util.spec_from_file_location("experiment_async", EXPERIMENTS / "asynchronous.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    count = torch.get_num_threads()
    yield module
    torch.set_num_threads(count)  # gradient boosting brings an OpenMP of its own


def test_the_class_shows_only_in_the_phase(experiment):
    panel, y = experiment.make(400, 30, (0.0, 0.25), seed=0)
    seen = ~np.isnan(panel.values)
    assert (seen.sum(axis=1) == 1).all() and (panel.lengths == 60).all()
    of_series = np.repeat(y, 60)
    for j in range(2):
        one, other = (panel.values[seen[:, j] & (of_series == label), j] for label in (0, 1))
        assert abs(one.mean() - other.mean()) < 0.05 and abs(one.std() - other.std()) < 0.02
    # At the true frequency and phase, the second variable is known from the first and the class.
    table = experiment.carried(panel)
    assert table.shape == (400, 2 * experiment.GRID) and np.isfinite(table).all()
    last = panel[3].values[:, 0][~np.isnan(panel[3].values[:, 0])][-1]
    assert table[3, experiment.GRID - 1] == pytest.approx(last)


@pytest.mark.slow
def test_report(experiment, tmp_path):
    experiment.TREES = 2
    path = tmp_path / "asynchronous.json"
    experiment.main(["--series", "16", "--values", "6", "--max-steps", "1", "--json", str(path)])
    results = json.loads(path.read_text())["results"]
    assert list(results) == list(experiment.QUESTIONS)
    assert all(
        len(one["accuracy"]["each"]) == 1 for question in results.values() for one in question.values()
    )
