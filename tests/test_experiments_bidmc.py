"""The experiment on BIDMC: its own functions, on synthetic recordings with known rates."""

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
from sklearn.utils import Bunch

from tsssm.datasets import make_vitals

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"
HERTZ = 62.5


@pytest.fixture(autouse=True)
def thread_count_as_before():
    """MiniRocket's compiled threads leave OpenMP, and with it torch, set to every core for tests to come."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def recordings(n: int, seed: int) -> Bunch:
    """Windows of 32 s of n patients with PLETH and ECG, in the form of `fetch_bidmc`."""
    found = make_vitals(n, sampling_rate=HERTZ, random_state=seed)
    patients = np.array([f"{seed}{i:02d}" for i in range(n)])
    return Bunch(data=found.data[:, [0, 2]], target=found.target[:, 0], groups=patients)


class QuietGenerator(np.random.Generator):
    """Draws zeros in place of normal numbers, so that neither noise nor strength changes anything."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))

    def standard_normal(self, size: Any = None, *rest: Any, **options: Any) -> np.ndarray:
        return np.zeros(size)


@pytest.fixture
def bidmc(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The experiment, on six synthetic patients in training and four in the test part."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.delitem(sys.modules, "experiment", raising=False)
    spec = importlib.util.spec_from_file_location("experiment_bidmc", EXPERIMENTS / "bidmc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def fetch(target: str, *, split: str, part: str, decimate: int) -> Bunch:
        assert target in module.UNITS and split in module.RECIPES and decimate == 125 / HERTZ
        return {"train": recordings(6, 1), "test": recordings(4, 2)}[part]

    monkeypatch.setattr(module, "fetch_bidmc", fetch)
    return module


@pytest.fixture
def run(bidmc: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run it with two training steps and without MiniRocket, whose compilation alone takes half a minute."""
    monkeypatch.setattr(bidmc, "rocket", lambda train, y, test, records, seed: np.full(len(test[10]), 80.0))
    for split, recipes in bidmc.RECIPES.items():
        quick = {"n_layers": 1, "d_model": 4, "d_state": 4, "batch_size": 8, "max_steps": 2}
        small = {
            target: recipe._replace(settings={**recipe.settings, **quick}, pieces=16)
            for target, recipe in recipes.items()
        }
        monkeypatch.setitem(bidmc.RECIPES, split, small)

    def report(*options: str) -> dict[str, Any]:
        path = tmp_path / "bidmc.json"
        bidmc.main(["--methods", "network", "simple", "rocket", "--json", str(path), *options])
        return json.loads(path.read_text())

    return report


def test_report(run, bidmc, capsys):
    report = run("--seeds", "0", "1", "--targets", "HR", "--splits", "subject", "--note", "a test")
    found = report["results"]["by subject"]["HR"]
    for result in found.values():
        assert result["windows"] == {"train": 6, "test": 4} and result["note"] == "a test"
        assert result["records"]["test"] == ["200", "201", "202", "203"]
    train, test = recordings(6, 1), recordings(4, 2)
    off = train.target.mean() - test.target
    mean = found["training mean"]
    assert mean["rmse"]["mean"] == pytest.approx(np.sqrt((off**2).mean()))
    assert mean["mae"]["each"] == [pytest.approx(np.abs(off).mean())]
    assert mean["rmse of records"]["203"] == pytest.approx(abs(off[3]))
    ours = found[bidmc.OURS]
    assert len(set(ours["rmse"]["each"])) == 2 and ours["parameters"] > 0
    assert ours["seeds"] == [0, 1] and ours["recipe"]["settings"]["max_steps"] == 2
    assert found.keys() == {bidmc.OURS, "training mean", "MiniRocket + ridge", *bidmc.SIGNAL_PROCESSING}
    assert f"training mean             seed 0{mean['rmse']['mean']:8.3f}" in capsys.readouterr().out
    assert report["paper"]["Liquid-S4 (2209.12951), RMSE"]["HR"] == 0.303


def test_a_later_run_adds_to_the_figures(run):
    first = run("--seeds", "0", "--targets", "SpO2", "--splits", "window")
    both = run("--seeds", "0", "--targets", "RR", "--splits", "window", "subject")
    assert both["results"]["by window"]["SpO2"] == first["results"]["by window"]["SpO2"]
    assert both["results"]["by window"].keys() == {"SpO2", "RR"}
    assert both["results"]["by subject"].keys() == {"RR"}
    assert "peaks of the ECG" not in both["results"]["by window"]["RR"]


def test_a_fold_leaves_the_test_part_alone(run, bidmc):
    found = run("--seeds", "0", "--targets", "RR", "--splits", "subject", "--fold", "2")
    records = found["results"]["by subject"]["RR"][bidmc.OURS]["records"]
    assert sorted(records["train"] + records["test"]) == recordings(6, 1).groups.tolist()
    assert len(records["test"]) == 2
    held_out = [bidmc.parts("RR", "subject", fold)[1].record for fold in range(3)]
    assert sorted(np.concatenate(held_out)) == recordings(6, 1).groups.tolist()


@pytest.mark.parametrize("name", ["spectral peak of PLETH", "peaks of PLETH", "peaks of the ECG"])
def test_signal_processing_finds_known_rates(bidmc, name):
    found = recordings(30, 3)
    error = bidmc.SIGNAL_PROCESSING[name](found.data) - found.target
    assert np.sqrt(np.mean(error**2)) < 1.0  # beats a minute; half a beat in 32 s


def test_signals_without_peaks_get_the_mean_rate_of_the_others(bidmc):
    t = np.arange(2000) / HERTZ
    signal = np.stack([np.sin(2 * np.pi * t), np.zeros(2000), np.sin(2 * np.pi * 2 * t)])
    np.testing.assert_allclose(bidmc.counted_peaks(signal, np.mean), [60, 90, 120], rtol=0.01)


@pytest.mark.parametrize("inputs", ["beats", "breaths", "levels"])
def test_played_faster_is_a_faster_heart(bidmc, inputs):
    """The pulse of 72 beats a minute at 1.2 times the speed is one of 86.4, and lasts as much shorter."""
    recipe = bidmc.RATE._replace(inputs=getattr(bidmc, inputs))
    step = {"levels": 4}.get(inputs, bidmc.KEPT)
    pleth = np.sin(2 * np.pi * 1.2 * np.arange(2000) / HERTZ)
    X = np.stack([pleth, np.random.default_rng(0).normal(size=2000)])[None]
    for speed, input_ in bidmc.played(X, recipe, {8, 10, 12}).items():
        assert input_.dtype == np.float32
        assert input_.shape[2] == pytest.approx(2000 / step * 10 / speed, abs=1)
        spectrum = np.abs(np.fft.rfft(input_[0, 0] * np.hanning(input_.shape[2]), 8192))
        frequency = np.fft.rfftfreq(8192, step / HERTZ)[spectrum.argmax()]
        assert frequency == pytest.approx(1.2 * speed / 10, rel=0.01)


def test_pieces_have_the_rate_of_their_speed(bidmc):
    recipe = bidmc.RATE._replace(speeds=(8, 10, 12), between=(45.0, 140.0), piece=5, pieces=400)
    # Every window at every speed has a level of its own in one channel, and rises in the other.
    level = {(r, s): 3.0 ** (r + 3 * i) for r in range(3) for i, s in enumerate(recipe.speeds)}
    train = {
        s: np.stack([[np.full(9, level[r, s]), np.arange(9.0)] for r in range(3)]).astype(np.float32)
        for s in recipe.speeds
    }
    rate = np.array([50.0, 61.0, 74.0])
    X, y = bidmc.pieces(train, rate, recipe, QuietGenerator(0))
    assert X.shape == (400, 2, 5)
    lacking = (X == 0).all(axis=2)
    assert 0.02 < lacking.any(axis=1).mean() < 0.12 and not lacking.all(axis=1).any()
    expected = {round(value, 3): rate[r] * s / 10 for (r, s), value in level.items()}
    whole = ~lacking.any(axis=1)
    assert [expected[round(float(x), 3)] for x in X[whole, 0, 0]] == pytest.approx(y[whole])
    # 50 played at 8 tenths is out of the range.
    assert set(np.round(y, 3)) == {50.0, 60.0, 48.8, 61.0, 73.2, 59.2, 74.0, 88.8}
    np.testing.assert_array_equal(np.diff(X[whole, 1], axis=1), 1)
    assert set(X[whole, 1, 0]) == {0, 1, 2, 3, 4}
    noisy, _ = bidmc.pieces(train, rate, recipe, np.random.default_rng(0))
    assert np.unique(noisy[:, 1, 0]).size > 300


def test_answers_cover_the_window_and_undo_the_speed(bidmc):
    recipe = bidmc.RATE._replace(asked=(8, 10, 16), piece=100)
    test = {s: np.tile(np.arange(4000 // s, dtype=float), (2, 1, 1)) for s in (8, 10, 16)}
    seen: dict[int, list[np.ndarray]] = {}

    def predict(X: np.ndarray) -> np.ndarray:
        """Rates of 60 and 90, as fast as the window is played."""
        speed = 8 if len(seen.get(8, [])) < 9 else 10 if len(seen.get(10, [])) < 7 else 16
        seen.setdefault(speed, []).append(X[0, 0])
        return np.array([60.0, 90.0]) * speed / 10

    np.testing.assert_allclose(bidmc.answers(predict, test, recipe), [60, 90])
    for speed, parts in seen.items():
        assert all(len(part) == 100 for part in parts)
        assert set(np.concatenate(parts)) == set(range(4000 // speed))


def test_early_pieces_weigh_more_where_the_monitor_lags(bidmc):
    recipe = bidmc.RATE._replace(asked=(10,), piece=100, tilt=0.5)
    test = {10: np.tile(np.arange(200.0), (1, 1, 1))}  # pieces begin at 0, 50 and 100
    found = bidmc.answers(lambda X: X[:, 0, 0], test, recipe)
    assert found == pytest.approx([(1.5 * 0 + 1.0 * 50 + 0.5 * 100) / 3])


def test_the_network_learns_the_rate(bidmc):
    """On clean synthetic patients, far better than their mean, of which the errors are 17 beats a minute."""
    train, test = recordings(40, 4), recordings(20, 5)
    settings = {**bidmc.RATE.settings, "n_layers": 2, "d_model": 16, "max_steps": 150, "batch_size": 32}
    recipe = bidmc.RATE._replace(pieces=4800, networks=1, asked=(10,), settings=settings)
    heard = bidmc.played(train.data, recipe, recipe.speeds)
    asked = bidmc.played(test.data, recipe, {10})
    options = Bunch(device="cpu", verbose=0)
    predicted, parameters = bidmc.networks(heard, train.target, asked, recipe, options, 0)
    assert np.sqrt(np.mean((predicted - test.target) ** 2)) < 0.3 * test.target.std()
    assert 0 < parameters < 10_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of sktime's estimators
def test_peers(bidmc):
    train, test = recordings(12, 6), recordings(4, 7)
    recipe = bidmc.RATE._replace(pieces=16, asked=(10,))
    heard, asked = (bidmc.played(part.data, recipe, recipe.speeds) for part in (train, test))
    for predicted in (
        bidmc.rocket(heard, train.target, asked, train.groups, 0),
        bidmc.rocket(heard, train.target, asked, None, 0),
        bidmc.inception(heard, train.target, asked, recipe, 1, 0),
    ):
        assert predicted.shape == (4,) and np.abs(predicted - train.target.mean()).max() < 100
