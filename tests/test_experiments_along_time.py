"""The experiments along time run: their own functions, on little made-up data and few training steps."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.utils import Bunch

from tsssm import Panel

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"


@pytest.fixture
def along(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    for shared in ("experiment", "along_time_inputs", "along_time_peers", "along_time_rates", "bidmc_inputs"):
        monkeypatch.delitem(sys.modules, shared, raising=False)
    spec = importlib.util.spec_from_file_location("experiment_along_time", EXPERIMENTS / "along_time.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("HAPT", "MITBIH", "LUDB"):
        small = {"n_layers": 1, "d_model": 4, "d_state": 4, "crop_length": 100, "warm_up": 10}
        monkeypatch.setitem(vars(module), name, {**vars(module)[name], **small})
    return module


def panel_of(arrays: list[np.ndarray], rate: float) -> Panel:
    return Panel.from_arrays(arrays, [np.arange(a.shape[1]) / rate for a in arrays], time_unit="s")


def people(**options: Any) -> Bunch:
    rng = np.random.default_rng(0)
    target = np.empty(5, dtype=object)
    target[:] = [np.repeat(np.arange(13), 12) for _ in range(5)]
    data = panel_of([rng.normal(size=(6, 156)) + own % 4 for own in target], 25.0)
    names = [f"code {k}" for k in range(13)]
    part = np.array(["train"] * 3 + ["test"] * 2)
    return Bunch(
        data=data, target=target, groups=np.arange(5), part=part, target_names=names, sampling_rate=25.0
    )


def records(**options: Any) -> Bunch:
    rng = np.random.default_rng(0)
    target = np.empty(6, dtype=object)
    target[:] = [(np.arange(20) * 0.8 + 0.5, np.array(list("NNSNVNNFNNQNNVNNSNNN"))) for _ in range(6)]
    data = panel_of([rng.normal(size=(2, 2000)) for _ in range(6)], 120.0)
    part = np.array(["train"] * 4 + ["test"] * 2)
    return Bunch(data=data, target=target, part=part, groups=np.arange(6))


def leads(**options: Any) -> Bunch:
    rng = np.random.default_rng(0)
    target = np.tile(np.repeat([-1, 0, 1, 0, 2, 0, 3, -1], 40), (4, 1))
    part = np.array(["train"] * 2 + ["test"] * 2)
    data = rng.normal(size=(4, 1, 320))
    return Bunch(data=data, target=target, part=part, groups=np.arange(4), sampling_rate=250.0)


def monitors(**options: Any) -> Bunch:
    """Four minutes-long recordings whose pulses come at the rate that the monitor shows."""
    assert options == {"decimate": 2, "along_time": True}
    at = np.arange(3751) / 62.5
    shown = np.arange(61.0)
    rates = [60.0, 70.0, 80.0, 100.0]
    pulses = [np.maximum(0, np.cos(2 * np.pi * rate / 60 * at)) ** 8 for rate in rates]
    target = np.empty(4, dtype=object)
    target[:] = [(shown, np.where(shown == 30, np.nan, rate)) for rate in rates]
    data = panel_of([np.stack([one, np.gradient(one)]) for one in pulses], 62.5)
    return Bunch(data=data, target=target, groups=np.array(list("abcd")))


def test_heart_rates_along_time(along: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules["along_time_rates"], "fetch_bidmc", monitors)
    path = tmp_path / "figures.json"
    along.main(["--sets", "bidmc", "--max-steps", "2", "--json", str(path)])
    found = json.loads(path.read_text())["results"]["bidmc"]
    for delay in (0, 5, 15):
        assert len(found[f"network, delay {delay}"]["by patient"]) == 4
        assert found[f"peaks of PLETH, delay {delay}"]["MAE"] < 0.5


def test_what_the_networks_of_rates_are_given_is_causal(along: ModuleType) -> None:
    live = sys.modules["along_time_rates"].live
    signals = np.random.default_rng(0).normal(size=(2, 3000))
    np.testing.assert_allclose(live(signals)[:, :2000], live(signals[:, :2000]), atol=1e-9)


def test_oddity_says_which_beats_are_unlike_the_others(along: ModuleType) -> None:
    rng = np.random.default_rng(0)
    beats = np.arange(100, 5000, 100)
    shape = np.exp(-0.5 * (np.arange(-12, 13) / 3) ** 2)
    signals = 0.02 * rng.normal(size=(2, 5100))
    odd = np.arange(len(beats)) % 5 == 2
    for beat, other in zip(beats, odd, strict=True):
        signals[:, beat - 12 : beat + 13] += -np.roll(shape, 4) if other else shape
    for polarity in (1, -1):
        found = sys.modules["along_time_inputs"].unlike(polarity * signals, beats)
        assert found.shape == (7, len(beats))
        assert found[0, odd].min() > 2 > 0.5 > np.abs(found[0, ~odd]).max()


def test_every_set_has_its_figures(
    along: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, made in (("hapt", people), ("mitbih", records), ("ludb", leads)):
        monkeypatch.setattr(along, f"fetch_{name}", made)
    monkeypatch.setitem(along.COPIES, "hapt", 2)
    monkeypatch.setattr(along, "NETWORKS", 2)
    for name, samples in (("CROP", 64), ("REACH", 8)):
        monkeypatch.setattr(sys.modules["along_time_peers"], name, samples)
    monkeypatch.setattr(along, "TREES", {"boosting": 1, "forest": 3})
    path = tmp_path / "figures.json"
    along.main(["--sets", "hapt", "--folds", "1", "--max-steps", "2", "--json", str(path)])
    along.main(["--sets", "mitbih", "ludb", "--folds", "1", "--max-steps", "2", "--json", str(path)])
    found = json.loads(path.read_text())["results"]
    assert set(found) == {"hapt", "mitbih", "ludb"}
    for name in ("network", "network, smoothed", "boosting on windows", "cross-validation"):
        assert 0 <= found["hapt"][name]["accuracy"] <= 1
        assert found["hapt"][name]["any transition, within 2 s"]["n_true"] == (3 if "cross" in name else 2)
    peers = ("forest on intervals and shape", "forest on rhythm and oddity", "convolutions")
    for name in ("network", *peers):
        assert found["mitbih"][name]["classes"]["S"]["n"] == 4
    assert set(found["ludb"]["network"]) == {
        f"{w} {b}" for w in ("P", "QRS", "T") for b in ("onset", "offset")
    }


def test_rhythm_says_how_early_a_beat_is(along: ModuleType) -> None:
    beats = np.cumsum([0, 100, 100, 100, 60, 140, 100, 100, 100])
    before, after = sys.modules["along_time_inputs"].rhythm(beats)
    assert before[4] == pytest.approx(np.log(0.6)) and after[4] == pytest.approx(np.log(1.4))
    assert before[1] == after[1] == 0


def test_tempo_takes_an_early_beat_for_usual_where_all_are_uneven(along: ModuleType) -> None:
    tempo = sys.modules["along_time_inputs"].tempo
    beats = np.cumsum(np.r_[0, np.full(40, 100), 60, 140, np.full(40, 100)])
    regular = tempo(beats)
    assert regular.shape == (7, len(beats))
    early = 4 * np.log(0.6)
    np.testing.assert_allclose(regular[[0, 1, 4], 41], early)
    assert regular[2, 41] == pytest.approx(4 * np.log(140 / 60))
    assert regular[5, 41] == regular[6, 41] == -4
    np.testing.assert_allclose(regular[[0, 1, 2, 4, 5, 6], 20], 0)
    uneven = tempo(np.cumsum(np.r_[0, np.tile([80, 130, 100, 60, 120], 17)]))
    assert uneven[3, 15:].min() > regular[3].max() + 2 and np.abs(uneven[5, 15:]).max() < 1.5
