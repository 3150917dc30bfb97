"""The experiments on long sequences run, on tiny files in the publishers' formats."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import lzma
import struct
import sys
import tarfile
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tsssm import Panel, SSMClassifier

pytestmark = pytest.mark.scripts

EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"
TINY = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_epochs": None, "max_steps": 2, "batch_size": 8}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import examples/experiments/NAME.py, which finds what the experiments share beside it."""

    def load_experiment(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(EXPERIMENTS))
        monkeypatch.delitem(sys.modules, "experiment", raising=False)
        spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_experiment


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the data, empty."""
    monkeypatch.setenv("TSSSM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def run(load: Callable[[str], ModuleType], tmp_path: Path) -> Run:
    """Run an experiment with a tiny network and return what it wrote."""

    def report(name: str, *options: str) -> dict[str, Any]:
        path = tmp_path / "report.json"
        settings = {**TINY, "timescales": [[1.0, 100.0]]} if name == "speech" else TINY
        load(name).main(["--settings", json.dumps(settings), "--json", str(path), *options])
        return json.loads(path.read_text())

    return report


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def wav(samples: npt.NDArray[Any], rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def tone(digit: int, seed: int, length: int, loudness: float = 3000.0) -> npt.NDArray[Any]:
    """A noisy tone of 100 or 300 Hz at 8 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / 8000
    return loudness * np.sin(2 * np.pi * (100 + 200 * digit) * t + rng.uniform(0, 6)) + rng.normal(
        0, 50, length
    )


@pytest.fixture
def digits(folder: Path) -> None:
    """FSDD with two digits, two speakers and recordings 0 to 14 of each, 120 to 148 samples."""
    files = {
        f"recordings/{digit}_{speaker}_{index}.wav": wav(
            tone(digit, 10 * index + digit, 120 + 2 * index), 8000
        )
        for digit in (0, 1)
        for speaker in ("ann", "bob")
        for index in range(15)
    }
    write_tar(folder / "fsdd" / "recordings.tar.gz", files)


def write_mnist(folder: Path, train: int, test: int) -> None:
    (folder / "mnist").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 2).astype("u1")
        images = rng.integers(0, 100, size=(count, 4, 4), dtype="u1") + 100 * labels[:, None, None]
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path = folder / "mnist" / f"{prefix}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.astype("u1").tobytes()))


class TestSpeech:
    def test_digits_at_every_rate(self, run: Run, digits: None, capsys: pytest.CaptureFixture[str]) -> None:
        report = run("speech", "--seeds", "0", "1")
        printed = capsys.readouterr().out
        assert report["recordings"] == {"train": 40, "test": 20} and report["hertz"] == 8000
        assert report["parts"] == {"train": "train", "test": "test"}
        accuracy = report["results"]["accuracy"]
        assert list(accuracy) == [
            "full rate",
            "half rate",
            "half rate, times withheld",
            "half rate, filtered first",
        ]
        for rate, scores in accuracy.items():
            assert len(scores["each"]) == 2 and 0 <= scores["mean"] <= 1
            assert f"{rate} {scores['each'][1]:.4f}" in printed
        assert report["results"]["parameters"] > 0 and report["paper"] == {}

    def test_times_alone_tell_the_rate(self, load: Callable[[str], ModuleType], digits: None) -> None:
        """Two pure tones an octave and more apart: half the samples say the same if their times are known."""
        speech = load("speech")
        options = speech.parser("").parse_args(["--seeds", "0"])
        recipe = {"n_layers": 1, "d_model": 8, "d_state": 8, "max_steps": 100, "dropout": 0.0}
        train = speech.load("fsdd", "train")["full rate"]
        found = speech.accuracies(recipe, train, speech.load("fsdd", "test"), options)["accuracy"]
        for rate in ("full rate", "half rate", "half rate, filtered first"):
            assert found[rate]["mean"] == 1, rate
        assert found["half rate, times withheld"]["mean"] < 1  # 100 Hz looks like 200 Hz

    def test_validation_has_the_first_recordings_left(
        self, load: Callable[[str], ModuleType], digits: None
    ) -> None:
        speech = load("speech")
        everything, targets = speech.fsdd("train")
        parts = {part: speech.fsdd(part) for part in ("choice", "validation")}
        assert {part: len(y) for part, (_, y) in parts.items()} == {"choice": 20, "validation": 20}
        # Recording i has 120 + 2 i samples; 0 to 4 are the test part.
        lengths = {part: set(((X.lengths - 120) // 2).tolist()) for part, (X, _) in parts.items()}
        assert lengths == {"choice": {10, 11, 12, 13, 14}, "validation": {5, 6, 7, 8, 9}}
        assert parts["validation"][1].tolist() == [0] * 10 + [1] * 10
        joined = sorted([*parts["choice"][0].values.sum(axis=1), *parts["validation"][0].values.sum(axis=1)])
        assert joined == sorted(everything.values.sum(axis=1)) and len(targets) == 40

    def test_every_second_sample_keeps_its_time(self, load: Callable[[str], ModuleType]) -> None:
        speech = load("speech")
        times = [0.0, 1.0, 2.0, 3.0, 4.0, 0.5, 1.5, 2.5, 3.5]
        panel = Panel(np.arange(9.0)[:, None], [0, 5, 9], times, time_unit="ms")
        half = speech.every_second_sample(panel)
        assert half.values.ravel().tolist() == [0, 2, 4, 5, 7] and half.offsets.tolist() == [0, 3, 5]
        assert half.times.tolist() == [0, 2, 4, 0.5, 2.5] and half.time_unit == "ms"

    def test_recordings_are_levelled(self, load: Callable[[str], ModuleType]) -> None:
        x = np.array([1.0, 3.0, 5.0, 5.0, 5.0])
        levelled = load("speech").levelled(Panel(x[:, None], [0, 2, 5], np.arange(5.0), time_unit="ms"))
        np.testing.assert_allclose(levelled.values.ravel(), [-1, 1, 0, 0, 0])  # a constant one stays finite

    def test_speech_commands(self, run: Run, folder: Path) -> None:
        lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
        files = {}
        for digit, word in enumerate(("yes", "no")):
            for index in range(6):
                name = f"{word}/{index:08x}_nohash_0.wav"
                files[name] = wav(tone(digit, 10 * index + digit, 16000), 16000)
                if index < 4:
                    lists[list(lists)[index % 2]].append(name)
        files = {name: "\n".join(names).encode() for name, names in lists.items()} | files
        write_tar(folder / "speech_commands" / "speech_commands_v0.02.tar.gz", files)
        report = run("speech", "--set", "sc10", "--seeds", "0", "--validation")
        assert report["recordings"] == {"train": 4, "test": 4} and report["hertz"] == 16000
        assert report["samples"] == {"least": 16000, "most": 16000}
        assert list(report["results"]["accuracy"]) == ["full rate", "half rate", "half rate, times withheld"]
        assert report["paper"]["S4 (2111.00396)"]["half rate"] == 0.963


class TestImages:
    @pytest.mark.parametrize("options", [(), ("--permuted",), ("--preset", "gpu")])
    def test_mnist(self, run: Run, folder: Path, options: tuple[str, ...]) -> None:
        write_mnist(folder, 20, 10)
        report = run("smnist", *options)
        assert (
            report["images"] == {"train": 20, "test": 10}
            and len(report["results"]["accuracy"]["test"]["each"]) == 1
        )
        assert report["paper"]["LSSL (2110.13985)"] == (0.9876 if "--permuted" in options else 0.9953)
        assert report["recipe"]["max_steps"] == 2 and report["machine"]["threads"] > 0

    def test_mnist_validation(
        self, load: Callable[[str], ModuleType], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        write_mnist(folder, 20, 10)
        (folder / "mnist" / "t10k-images-idx3-ubyte.gz").unlink()  # which a choice must not look at
        smnist = load("smnist")
        monkeypatch.setattr(smnist, "VALIDATION", 6)
        path = tmp_path / "report.json"
        smnist.main(["--validation", "--settings", json.dumps(TINY), "--json", str(path)])
        assert json.loads(path.read_text())["images"] == {"train": 14, "validation": 6}

    @pytest.mark.parametrize("grayscale", [False, True])
    def test_cifar(self, run: Run, folder: Path, grayscale: bool) -> None:
        rows = np.random.default_rng(0).integers(256, size=(12, 3073)).astype("u1")
        rows[:, 0] = np.arange(12) % 10
        names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
        batches = {
            f"cifar-10-batches-bin/{name}": rows[2 * i : 2 * i + 2].tobytes() for i, name in enumerate(names)
        }
        write_tar(folder / "cifar10" / "cifar-10-binary.tar.gz", batches)
        report = run("scifar", "--seeds", "0", *(["--grayscale"] if grayscale else []))
        assert report["images"] == {"train": 10, "test": 2}
        assert ("LSSL (2110.13985)" in report["paper"]) != grayscale

    def test_presets_are_known_to_the_estimator(self, load: Callable[[str], ModuleType]) -> None:
        recipes = [*load("smnist").PRESETS.values(), load("scifar").RECIPE, *load("speech").RECIPES.values()]
        for recipe in recipes:
            assert SSMClassifier(**recipe).get_params().items() >= recipe.items()


class TestSmallBudgets:
    """Scripts whose network and data are small enough as they are."""

    @pytest.fixture
    def short(self, load, tmp_path) -> Run:
        def report(name: str, *options: str) -> dict[str, Any]:
            path = tmp_path / f"{name}.json"
            load(name).main([*options, "--json", str(path)])
            return json.loads(path.read_text())["results"]

        return report

    def test_text(self, short, folder):
        (folder / "lra").mkdir(parents=True)
        words = {"pos": "a good film", "neg": "a bad one"}
        lines = [
            f"{part}\t{which}\t{i}\t{text} {i}"
            for part in ("train", "test")
            for which, text in words.items()
            for i in range(8)
        ]
        (folder / "lra" / "imdb50k.tsv.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
        tiny = json.dumps({**TINY, "max_steps": 2})
        found = short("lra_text", "--train", "12", "--test", "10", "--length", "6", "--settings", tiny)
        assert found["logistic regression on words"] == 1.0 and "test" in found["network"]["accuracy"]

    def test_retrieval(self, short, load):
        module = load("lra_retrieval")
        texts, y = module.made(40, 30, seed=0)
        letters = texts.values.reshape(40, 2, 30).astype(int)
        for (first, second), together in zip(letters, y, strict=True):
            passages = [{tuple(text[i : i + 12]) for i in range(19)} for text in (first, second)]
            assert bool(passages[0] & passages[1]) == bool(together)
        tiny = ["--layers", "1", "--channels", "4", "--state", "4", "--steps", "2", "--batch-size", "4"]
        found = short("lra_retrieval", "--train", "20", "--test", "10", "--length", "20", *tiny)
        assert 0 <= found["accuracy"]["test"]["mean"] <= 1

    def test_pathfinder(self, short):
        tiny = json.dumps(TINY)
        found = short("pathfinder", "--train", "30", "--test", "10", "--settings", tiny)
        assert {"network", "boosting on where the dots are", "majority"} == set(found)

    def test_convergence(self, short, folder, tmp_path):
        write_mnist(folder, train=40, test=5)
        tiny = ["--layers", "1", "--channels", "4", "--state", "4", "--steps", "2", "--batch-size", "4"]
        figure = tmp_path / "figures" / "convergence.png"
        found = short("convergence", *tiny, "--images", "20", "--figure", str(figure))
        assert set(found["layers"]) == {"LSSL", "LSSL, fixed", "S4D", "GRU"} and len(found["liquid"]) == 8
        assert all(set(row["accuracy"]) == {"1", "2"} for row in found["liquid"].values())
        assert figure.stat().st_size > 1000

    def test_rates(self, short, folder):
        rng = np.random.default_rng(0)
        (folder / "uea").mkdir(parents=True)
        y = np.arange(8) % 2
        X = np.sin(np.arange(24) * (0.2 + 0.3 * y[:, None])) + 0.1 * rng.normal(size=(8, 24))
        arrays = {"X_train": X[:, None], "y_train": y, "X_test": X[:, None], "y_test": y}
        np.savez(folder / "uea" / "CharacterTrajectories.npz", **arrays)
        small = json.dumps({"n_features": 384})
        tiny = json.dumps({**TINY, "n_members": 1, "n_features": 0})
        found = short("rates", "--settings", tiny, "--features", small)
        rates = found["SSMFeaturesClassifier"]["accuracy"]
        assert len(rates) == 11 and rates["as trained"]["mean"] == 1.0 and rates["twice"]["mean"] == 1.0
