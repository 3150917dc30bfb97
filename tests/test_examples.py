"""The examples run: their own functions, on little data and few training steps."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name: str) -> ModuleType:
    """Import examples/NAME.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def thread_count_as_before():
    """MiniRocket's compiled threads leave OpenMP, and with it torch, set to every core for tests to come."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
class TestBIDMC:
    @pytest.fixture
    def bidmc(self, monkeypatch):
        """The example on every tenth window of a few training records, so that the test records rest."""
        example = load_example("bidmc")
        load_bidmc = example.load_bidmc

        def load_few(target, *, channels, records, decimate):
            few = {"train": ["02", "15", "45"], "test": ["03", "50"]}[records]
            arrays = load_bidmc(target, channels=channels, records=few, decimate=decimate)
            return tuple(array[::10] for array in arrays)

        monkeypatch.setattr(example, "load_bidmc", load_few)
        return example

    def test_report(self, bidmc, tmp_path, capsys):
        path = tmp_path / "bidmc.json"
        options = ["--decimate", "16", "--seeds", "0", "1", "--max-steps", "2", "--json", str(path)]
        bidmc.main(options)
        printed = capsys.readouterr().out
        report = json.loads(path.read_text())
        train, test = bidmc.load_windows("train", 16), bidmc.load_windows("test", 16)
        assert report["split"]["train"] == {"records": ["02", "15", "45"], "windows": 45}
        assert report["split"]["test"] == {"records": ["03", "50"], "windows": 30}
        assert report["hertz"] == 125 / 16 and report["regressor"]["max_steps"] == 2

        mean = report["results"]["training mean"]
        assert mean["rmse"] == pytest.approx(np.sqrt(((test.y - train.y.mean()) ** 2).mean()))
        assert mean["mae"] == pytest.approx(np.abs(test.y - train.y.mean()).mean())
        for name, result in report["results"].items():
            # Fifteen windows of either record.
            squares = np.square(list(result["records"].values()))
            assert squares.mean() == pytest.approx(np.square(result["rmse_of_seeds"]).mean()), name
            assert 0 < result["mae"] <= result["rmse"] < 40 and result["seconds"] > 0, name
            assert f"{name:22}{result['rmse']:7.2f}" in printed
        assert len(set(report["results"]["SSMRegressor"]["rmse_of_seeds"])) == 2

    def test_windows_are_standardised(self, bidmc):
        X, y, record = bidmc.load_windows("test", 16)
        assert X.shape == (30, 2, 250) and X.dtype == np.float32 and y.shape == record.shape == (30,)
        np.testing.assert_allclose(X.mean(axis=2), 0, atol=1e-5)  # float32
        np.testing.assert_allclose(X.std(axis=2), 1, rtol=1e-5)

    def test_a_subject_in_both_parts_is_refused(self, bidmc):
        train = bidmc.load_windows("train", 16)
        with pytest.raises(ValueError, match=r"records \['02', '15', '45'\] are in train and in test"):
            bidmc.compare(train, train, [0], 2)


def test_quickstart(tmp_path, capsys):
    figure, scores = tmp_path / "curves" / "quickstart.png", tmp_path / "scores.json"
    arguments = ["--seeds", "1", "--max-steps", "3", "--figure", str(figure), "--json", str(scores)]
    load_example("quickstart").main(arguments)
    assert figure.read_bytes().startswith(b"\x89PNG")
    result = json.loads(scores.read_text())
    assert result["seeds"] == [1] and result["means"] == result["scores"][0]
    assert set(result["means"]["JapaneseVowels"]) == {"test", "half with times", "half without times"}
    printed = capsys.readouterr().out
    assert f"{result['means']['BasicMotions']['test']:.3f}" in printed and str(figure) in printed


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
def test_timescale_transfer_reports_every_rate(monkeypatch, tmp_path, capsys):
    """On a few training recordings, so that the test part rests."""
    example = load_example("timescale_transfer")
    load_fsdd = example.load_fsdd

    def load_few(split, *, decimate):
        return tuple(
            values[:: 50 if split == "train" else 45] for values in load_fsdd("train", decimate=decimate)
        )

    monkeypatch.setattr(example, "load_fsdd", load_few)
    path = tmp_path / "transfer.json"
    options = ["--backbones", "s4d", "--max-steps", "2", "--rate", "500", "--json", str(path)]
    example.main(options)
    printed = capsys.readouterr().out
    accuracy = json.loads(path.read_text())["accuracy"]["s4d"]
    rates = {f"rate x {rate:g}{withheld}" for rate in (0.5, 2) for withheld in ("", ", times withheld")}
    for name in ("JapaneseVowels", "spoken digits"):
        assert accuracy[name].keys() == {"rate x 1"} | rates
        for rate, score in accuracy[name].items():
            assert 0 <= score <= 1 and f"{rate:<36} {score:.3f}" in printed


def test_transfer_by_times_alone():
    """What the example claims, where it is certain: half the samples of a smooth series say the same."""
    example = load_example("timescale_transfer")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    series = [np.sin((0.1 + 0.1 * label) * np.arange(120) + rng.uniform(0, 6))[None] for label in y]
    tests = {1.0: [x[:, ::2] for x in series[40:]], 0.5: [x[:, ::4] for x in series[40:]]}
    classifier = example.SSMClassifier(backbone="s4d", n_layers=1, max_steps=120, random_state=0)
    scores = example.transfer([x[:, ::2] for x in series[:40]], y[:40], tests, y[40:], classifier)
    assert scores["rate x 1"] == scores["rate x 0.5"] == 1
    assert scores["rate x 0.5, times withheld"] < 0.7  # half the rate is taken for twice the frequency
