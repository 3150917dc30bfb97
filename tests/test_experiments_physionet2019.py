"""The experiment on PhysioNet 2019: its own functions, on synthetic records with known contents."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch

from tsssm import Panel
from tsssm.datasets._physionet2019 import SERIES, STATIC

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"


def records(n: int = 40) -> Bunch:
    """Records of 5 to 30 hours; the heart rate is high in the last third of those who get sepsis."""
    rng = np.random.default_rng(0)
    target = (np.arange(n) % 3 == 0).astype(np.int64)
    lengths = rng.integers(5, 31, size=n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    times = np.concatenate([np.arange(1.0, length + 1) for length in lengths])
    labels = (np.repeat(target, lengths) * (times > np.repeat(2 * lengths / 3, lengths))).astype(np.int64)
    values = rng.normal(size=(offsets[-1], 39))
    values[:, 0] += 3 * labels
    values[:, :34][rng.uniform(size=(offsets[-1], 34)) < 0.7] = np.nan
    values[:, 34:] = np.repeat(rng.normal(size=(n, 5)), lengths, axis=0)
    names = [*SERIES, *STATIC]
    panel = Panel(values, offsets, times, names, ids=[f"p{i}" for i in range(n)], time_unit="h")
    return Bunch(data=panel, target=target, labels=labels, feature_names=names)


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The experiment, on 40 synthetic records."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    for shared in ("experiment", "physionet2012_inputs", "risks"):
        monkeypatch.delitem(sys.modules, shared, raising=False)
    spec = importlib.util.spec_from_file_location("experiment_2019", EXPERIMENTS / "physionet2019.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "fetch_physionet2019", lambda sets: records())
    monkeypatch.setitem(sys.modules["risks"].SEARCHED, "max_iter", [5])
    count = torch.get_num_threads()
    yield module
    torch.set_num_threads(count)  # gradient boosting brings an OpenMP of its own


def test_charts_hold_what_is_known_at_their_hour(experiment):
    found = records()
    charts, y, patient = experiment.so_far(found, 6)
    assert len(charts) == len(y) == len(patient) == (found.data.lengths // 6).sum()
    assert charts.n_channels == 40 and charts.channel_names[:2] == ("hours", "Age")
    for row in range(len(charts)):
        own = found.data[patient[row]]
        length = charts.lengths[row]
        assert length % 6 == 0 and (charts[row].values[:, 0] == length).all()
        np.testing.assert_array_equal(charts[row].times, own.times[:length])
        np.testing.assert_array_equal(charts[row].values[:, 1:6], own.values[:length, 34:])
        np.testing.assert_array_equal(charts[row].values[:, 6:], own.values[:length, :34])
        assert y[row] == found.labels[found.data.offsets[patient[row]] + length - 1]


def test_report(experiment, tmp_path, capsys):
    path = tmp_path / "physionet2019.json"
    quick = ["--max-steps", "4", "--draws", "1", "--folds", "1", "--every", "5"]
    experiment.main([*quick, "--json", str(path)])
    report, printed = json.loads(path.read_text()), capsys.readouterr().out
    risks = sys.modules["risks"]
    assert report["patients"] == 40 and report["charts"] == (records().data.lengths // 5).sum()
    assert "by patient" in report["folds"] and "of 40 patients" in printed
    for name in (risks.NETWORKS, risks.CLOSED_FORM, risks.SUMMARIES):
        assert len(report["results"][name]["AUROC"]["each"]) == 1
    assert report["results"][risks.CLOSED_FORM]["AUROC"]["mean"] > 0.6
