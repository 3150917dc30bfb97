"""The experiment on forecasting: its scores against loops, and its tables on little data."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tsssm import SSMForecaster

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.scripts]


@pytest.fixture
def experiment(monkeypatch):
    """The script, with two small sets of waves and without the peers that may not be installed."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = importlib.import_module("forecasting")
    rng = np.random.default_rng(0)

    def load(name):
        t = np.arange(60)
        return [20 + 3 * np.sin(2 * np.pi * (t + i) / 4) + rng.normal(size=60) for i in range(6)]

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(module, "of_statsforecast", lambda name: None)
    monkeypatch.setattr(module, "of_mlforecast", lambda: None)
    parameters = {**SSMForecaster.get_test_params()[0], "sp": 4}
    monkeypatch.setattr(module, "SSMForecaster", lambda **options: SSMForecaster(**parameters))
    return module


def test_a_tsf_file(experiment):
    text = "# about\n@relation x\n@horizon 8\n@data\nT1:1979-01-01 00-00-00:1.5,?,3\nT2:1980-01-01:4,5\n"
    first, second = experiment.read_tsf(text)
    assert_allclose(first, [1.5, np.nan, 3])
    assert_allclose(second, [4, 5])


def test_scores_are_those_of_a_loop(experiment):
    rng = np.random.default_rng(1)
    history, truth = [rng.normal(size=20) + 5 for _ in range(3)], rng.normal(size=(3, 4)) + 5
    values, quantiles = truth + 1, np.sort(rng.normal(size=(3, 4, 9)) + 5, axis=-1)
    wide = np.stack([truth - 1, truth + [[1], [-2], [1]]], axis=-1)
    found = experiment.scores(experiment.Answer(values, quantiles, wide, 0.0), truth, history, 4)
    scale = [np.mean([abs(y[t] - y[t - 4]) for t in range(4, 20)]) for y in history]
    losses = [
        np.mean(
            [
                2 * max(level * (y - q), (level - 1) * (y - q))
                for y, row in zip(truth[i], quantiles[i], strict=True)
                for level, q in zip(experiment.LEVELS, row, strict=True)
            ]
        )
        / scale[i]
        for i in range(3)
    ]
    assert found["MASE"] == pytest.approx(np.mean([1 / size for size in scale]))
    assert found["sMAPE"] == pytest.approx(np.mean(200 / (np.abs(values) + np.abs(truth))))
    assert found["scaled quantile loss"] == pytest.approx(np.mean(losses))
    assert found["covered of 95 %"] == pytest.approx(100 * 2 / 3)


def test_tables_of_whole_and_thinned_histories(experiment, tmp_path, capsys):
    path = tmp_path / "forecasting.json"
    experiment.main(
        ["--parts", "monash", "irregular", "--sets", "m3_quarterly", "--json", str(path), "--seeds", "0", "1"]
    )
    found = json.loads(path.read_text())["results"]
    tables = [found["monash"], *found["irregular"].values()]
    others = {f"{experiment.TRAINED}, seed 1", "seasonal naive"}
    for table in tables:
        rows = table["sets"]["m3_quarterly"]
        assert rows.keys() == {experiment.OURS, experiment.TRAINED, *others}
        assert rows[experiment.OURS]["MASE"] < rows["seasonal naive"]["MASE"]
        ratio = rows[experiment.OURS]["MASE"] / rows["seasonal naive"]["MASE"]
        assert table["MASE relative to seasonal naive"][experiment.OURS] == pytest.approx(ratio)
    assert "m3_quarterly" in capsys.readouterr().out


def test_coverage_after_several_ends(experiment, monkeypatch):
    rng = np.random.default_rng(2)
    panel = [20 + rng.normal(size=60) for _ in range(30)]
    monkeypatch.setattr(experiment, "load", lambda name: panel if name == "m3_quarterly" else panel[:1])
    monkeypatch.setitem(experiment.SETS, "sunspot", ("", 4, 5))
    found = experiment.ends(["m3_quarterly", "sunspot"], None)
    assert found["m3_quarterly"]["ends"] == 4 and found["sunspot"]["ends"] == 3
    assert 70 < found["m3_quarterly"]["covered of 80 %"] < 90
    assert found["sunspot"]["deviation of one end"] > 0


def test_thinning_keeps_the_first_and_one_more(experiment):
    y = np.arange(400.0)
    thin = experiment.thinned(y, 0.5, 3)
    known = np.isfinite(thin)
    assert known[0] and 150 < known.sum() < 250
    assert_allclose(experiment.joined(thin)[: np.flatnonzero(known)[-1]], y[: np.flatnonzero(known)[-1]])
    assert np.isfinite(experiment.thinned(y[:2], 0.99, 0)).all()


def test_what_a_network_adds_to_forecasts_from_origins_is_what_it_adds_in_predict(experiment):
    y = np.sin(np.arange(90) * np.pi / 3) + 0.2 * np.random.default_rng(0).normal(size=90)
    parameters = {**SSMForecaster.get_test_params()[0], "sp": 6, "max_steps": 20, "learning_rate": 0.01}
    model = SSMForecaster(**parameters).fit(experiment.as_frame([y[:80]]), fh=[1, 2, 3])
    added = []
    for share in (1.0, 0.0):
        model.network_ = model.network_._replace(shares=np.array([share]))
        errors = experiment.errors_from(model, y[:, None], np.array([79, 85]), 3)
        added.append([errors[0, 0], model.predict(fh=[1, 2, 3]).to_numpy()[:, 0]])
    (from_origin, predicted), (plain, closed) = added
    assert np.abs(predicted - closed).max() > 0.01
    # The closed form takes the unit of the series from all of it, which the network is told.
    assert_allclose(from_origin - plain, predicted - closed, atol=5e-3)


@pytest.mark.parametrize("kind", ["NLinear", "DLinear"])
def test_a_linear_map_learns_to_go_on_with_waves(experiment, kind):
    t = np.arange(900)
    values = np.stack([np.sin(2 * np.pi * t / 24), 3 + np.cos(2 * np.pi * t / 24)], axis=1)
    mse, mae = experiment.linear(values, 600, 150, 4, 0, kind, look_back=48)
    assert mse < 0.02 and mae < 0.1
