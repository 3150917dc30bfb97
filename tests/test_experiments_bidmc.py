"""The experiment on BIDMC: its own functions, on synthetic recordings with known rates."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch

from tsssm.datasets import make_vitals

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"
HERTZ = 62.5
KEPT = 5  # one sample in so many


@pytest.fixture(autouse=True)
def thread_count_as_before():
    """MiniRocket's compiled threads leave OpenMP, and with it torch, set to every core for tests to come."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def recordings(n: int, seed: int, channels: Sequence[str] = ("PLETH", "II")) -> Bunch:
    """Windows of 32 s of n patients, in the form of `fetch_bidmc`."""
    found = make_vitals(n, sampling_rate=HERTZ, random_state=seed)
    patients = np.array([f"{seed}{i:02d}" for i in range(n)])
    data = found.data[:, [{"PLETH": 0, "II": 2, "RESP": 3}[channel] for channel in channels]]
    return Bunch(data=data, target=found.target[:, 0], groups=patients)


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
    for shared in ("experiment", "bidmc_inputs"):
        monkeypatch.delitem(sys.modules, shared, raising=False)
    spec = importlib.util.spec_from_file_location("experiment_bidmc", EXPERIMENTS / "bidmc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def fetch(target: str, *, split: str, part: str, channels: Sequence[str], decimate: int) -> Bunch:
        assert target in module.UNITS and split in module.RECIPES and decimate == 125 / HERTZ
        return recordings(*{"train": (6, 1), "test": (4, 2)}[part], channels)

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


def test_a_later_run_adds_to_the_figures(run, bidmc):
    first = run("--seeds", "0", "--targets", "SpO2", "--splits", "window")
    both = run("--seeds", "0", "--targets", "RR", "--splits", "window", "subject")
    assert both["results"]["by window"]["SpO2"] == first["results"]["by window"]["SpO2"]
    assert both["results"]["by window"].keys() == {"SpO2", "RR"}
    assert both["results"]["by subject"].keys() == {"RR"}
    rows = both["results"]["by subject"]["RR"]
    assert rows[bidmc.WITH_RESP]["recipe"]["inputs"] == "chest"
    assert rows[bidmc.WITH_RESP]["parameters"] != rows[bidmc.OURS]["parameters"]  # one channel, not three
    assert bidmc.WITH_RESP not in both["results"]["by window"]["RR"]
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


@pytest.mark.parametrize(
    ("inputs", "step", "own"),
    [("beats", KEPT, 1.2), ("levels", 4, 1.2), ("breaths", 12, 0.3), ("chest", 12, 0.3)],
)
def test_played_faster_is_a_faster_heart(bidmc, inputs, step, own):
    """The pulse of 72 beats a minute at 1.2 times the speed is one of 86.4, and lasts as much shorter."""
    recipe = bidmc.RATE._replace(inputs=getattr(bidmc, inputs))
    pleth = np.sin(2 * np.pi * own * np.arange(2000) / HERTZ)
    X = np.stack([pleth, np.random.default_rng(0).normal(size=2000)])[None]
    for speed, input_ in bidmc.played(X, recipe, {8, 10, 12}).items():
        assert input_.dtype == np.float32
        assert input_.shape[2] == pytest.approx(2000 / step * 10 / speed, abs=1)
        spectrum = np.abs(np.fft.rfft(input_[0, 0] * np.hanning(input_.shape[2]), 8192))
        frequency = np.fft.rfftfreq(8192, step / HERTZ)[spectrum.argmax()]
        assert frequency == pytest.approx(own * speed / 10, rel=0.03)


def test_pieces_have_the_rate_of_their_speed(bidmc):
    """QuietGenerator leaves the hearts regular."""
    recipe = bidmc.RATE._replace(speeds=(8, 10, 12), between=(45.0, 140.0), piece=5, pieces=400)
    # Every window at every speed has a level of its own in one channel, and rises in the other.
    level = {(r, s): 3.0 ** (r + 3 * i) for r in range(3) for i, s in enumerate(recipe.speeds)}
    rise = np.arange(9.0)
    train = {
        s: np.stack([[np.full(9, level[r, s]), rise] for r in range(3)]).astype(np.float32)
        for s in recipe.speeds
    }
    rate = np.array([50.0, 61.0, 74.0])
    X, y = bidmc.pieces(train, rate, recipe, QuietGenerator(0))
    assert X.shape == (400, 2, 5)
    lacking = (X == 0).all(axis=2)
    assert 0.02 < lacking.any(axis=1).mean() < 0.12 and not lacking.all(axis=1).any()
    whole = ~lacking.any(axis=1)
    expected = {r + 3 * i: rate[r] * s / 10 for r in range(3) for i, s in enumerate(recipe.speeds)}
    powers = np.log(X[whole, 0, 0]) / np.log(3)
    assert [expected[power] for power in powers.round()] == pytest.approx(y[whole])
    # 50 played at 8 tenths is out of the range.
    assert set(np.round(y, 3)) == {50.0, 60.0, 48.8, 61.0, 73.2, 59.2, 74.0, 88.8}
    np.testing.assert_allclose(np.diff(X[whole, 1], axis=1), 1, rtol=1e-5)
    start = X[whole, 1, 0]
    assert 0 <= start.min() < 0.2 and 3.8 < start.max() <= 4
    noisy, _ = bidmc.pieces(train, rate, recipe, np.random.default_rng(0))
    assert np.diff(noisy[:, 0]).std() > 0.1
    one, _ = bidmc.pieces({s: X[:, :1] for s, X in train.items()}, rate, recipe, QuietGenerator(0))
    assert (one != 0).all()  # there is no other channel


@pytest.mark.parametrize("irregular", [0.0, 0.3])
def test_pieces_of_an_irregular_heart_have_the_rate_of_their_beats(bidmc, monkeypatch, irregular):
    """In a channel that counts beats, as many as the target says pass between first and last sample."""
    piece, seconds = 100, KEPT / HERTZ
    recipe = bidmc.RATE._replace(irregular=irregular, piece=piece, pieces=300)
    rate = np.array([60.0, 90.0, 110.0])
    samples = {s: 4000 // s for s in {10, *recipe.speeds}}
    train = {s: np.array([[r * s / 600 * seconds * np.arange(n)] for r in rate]) for s, n in samples.items()}
    draw = np.random.Generator.standard_normal

    class NoNoise(np.random.Generator):
        """Draws normal numbers for the speed, which come first, and zeros after that."""

        drawn = False

        def standard_normal(self, size: Any) -> np.ndarray:
            first, self.drawn = not self.drawn, True
            return draw(self, size) if first else np.zeros(size)

    X, y = bidmc.pieces(train, rate, recipe, NoNoise(np.random.PCG64(0)))
    beats = X[:, 0, -1] - X[:, 0, 0]
    np.testing.assert_allclose(60 * beats / ((piece - 1) * seconds), y, rtol=1e-4)
    steps = np.diff(X[:, 0], axis=1)
    uneven = (steps.std(axis=1) / steps.mean(axis=1)).mean()  # of 0.3, 0.15 on average
    assert uneven < 1e-3 if irregular == 0 else 0.1 < uneven < 0.2
    assert (steps > 0).all()


def test_answers_cover_the_window_and_undo_the_speed(bidmc):
    recipe = bidmc.RATE._replace(asked=(8, 10, 16), middle=None, piece=100)
    test = {s: np.tile(np.arange(4000 // s, dtype=float), (2, 1, 1)) for s in (8, 10, 16)}
    seen: dict[int, list[np.ndarray]] = {}

    def ask(X: np.ndarray) -> np.ndarray:
        """Rates of 60 and 90, and widths of 3, as fast as the window is played."""
        speed = 8 if len(seen.get(8, [])) < 9 else 10 if len(seen.get(10, [])) < 7 else 16
        seen.setdefault(speed, []).append(X[0, 0])
        return np.array([[60.0, 90.0], [3.0, 3.0]]) * speed / 10

    np.testing.assert_allclose(bidmc.answers(ask, test, recipe), [[60, 90], [3, 3]])
    for speed, parts in seen.items():
        assert all(len(part) == 100 for part in parts)
        assert set(np.concatenate(parts)) == set(range(4000 // speed))


def test_early_pieces_weigh_more_where_the_monitor_lags(bidmc):
    recipe = bidmc.RATE._replace(asked=(10,), middle=None, piece=100, tilt=0.5)
    test = {10: np.tile(np.arange(200.0), (1, 1, 1))}  # pieces begin at 0, 50 and 100
    found, _ = bidmc.answers(lambda X: np.stack([X[:, 0, 0], X[:, 0, 0]]), test, recipe)
    assert found == pytest.approx([(1.5 * 0 + 1.0 * 50 + 0.5 * 100) / 3])


def test_speeds_at_which_the_rate_is_ordinary_count(bidmc):
    """A network that knows rates from 70 to 130 alone, and says one of these to all others, is right."""
    recipe = bidmc.RATE._replace(piece=100)
    rate = np.array([62.0, 88.0, 130.0])
    test = {s: np.full((3, 1, 4000 // s), s) * rate[:, None, None] / 10 for s in recipe.asked}

    def ask(X: np.ndarray) -> np.ndarray:
        return np.stack([np.clip(X[:, 0, 0], 70, 130), np.ones(3)])

    found, _ = bidmc.answers(ask, test, recipe)
    np.testing.assert_allclose(found, rate, atol=1.0)
    alike, _ = bidmc.answers(ask, test, recipe._replace(middle=None))
    assert abs(alike - rate).max() > 10


def test_the_surer_network_counts(bidmc, monkeypatch):
    """Of two signals the one with the narrower answer; each network hears its own alone."""
    heard = []
    told = {1.0: [80.0, 1.0], 2.0: [50.0, 3.0]}  # by the channel

    class Said:
        """In place of a network."""

        def __init__(self, **settings: Any) -> None:
            self.loss = settings["loss"]

        def fit(self, X: np.ndarray, y: np.ndarray) -> None:
            heard.append(X.shape[1])

        def predict_quantiles(self, X: np.ndarray) -> np.ndarray:
            value, width = told[X[0, 0, 0]]
            return np.tile([value - width / 2, value, value + width / 2], (len(X), 1))

    monkeypatch.setattr(bidmc, "SSMRegressor", Said)
    monkeypatch.setattr(bidmc, "parameter_count", lambda model: 7)
    recipe = bidmc.RATE._replace(heard=((0,), (1,)), asked=(10,), middle=None, networks=2, pieces=4)
    inputs = {s: np.ones((3, 2, 4000 // s)) * [[[1.0], [2.0]]] for s in {10, *recipe.speeds}}
    options = Bunch(device="cpu", verbose=0)
    found, parameters = bidmc.networks(inputs, np.full(3, 80.0), inputs, recipe, options, 0)
    np.testing.assert_allclose(found, (80 + 50 / 3**bidmc.SURER) / (1 + 1 / 3**bidmc.SURER))
    assert heard == [1, 1, 1, 1] and parameters == 4 * 7


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
    assert 0 < parameters < 12_000


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
