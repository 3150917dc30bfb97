"""The examples run: their own functions, on little data and few training steps."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch

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


def test_quickstart(tmp_path, as_a_user):
    figure, scores = tmp_path / "curves" / "quickstart.png", tmp_path / "scores.json"
    options = ["--seeds", "1", "--max-steps", "3", "--figure", figure, "--json", scores]
    printed = as_a_user(EXAMPLES / "quickstart.py", *options).stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    result = json.loads(scores.read_text())
    assert result["seeds"] == [1] and result["means"] == result["scores"][0]
    assert set(result["means"]["JapaneseVowels"]) == {"test", "half with times", "half without times"}
    assert f"{result['means']['BasicMotions']['test']:.3f}" in printed and str(figure) in printed


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
def test_timescale_transfer_reports_every_rate(monkeypatch, tmp_path, capsys):
    """On a few training recordings, so that the test part rests."""
    example = load_example("timescale_transfer")
    fetch_fsdd = example.fetch_fsdd

    def fetch_few(*, part, decimate):
        digits, step = fetch_fsdd(part="train", decimate=decimate), 50 if part == "train" else 45
        return Bunch(data=digits.data[::step], target=digits.target[::step])

    monkeypatch.setattr(example, "fetch_fsdd", fetch_few)
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
    one = {"n_members": 1, "n_features": 0}
    classifier = example.SSMClassifier(**one, n_layers=1, max_steps=120, random_state=0)
    scores = example.transfer([x[:, ::2] for x in series[:40]], y[:40], tests, y[40:], classifier)
    assert scores["rate x 1"] == scores["rate x 0.5"] == 1
    assert scores["rate x 0.5, times withheld"] < 0.7  # half the rate is taken for twice the frequency


@pytest.mark.scripts
class TestBenchmarkSktime:
    """Ours, MiniRocket's place taken by a dummy, whose compilation alone takes half a minute."""

    pytestmark = pytest.mark.filterwarnings("ignore")  # of dask, and of sktime's estimators

    @pytest.fixture
    def benchmark(self, monkeypatch):
        pytest.importorskip("sktime", minversion="1.2")
        example = load_example("benchmark_sktime")
        every = example.estimators

        def quick_ones(*arguments, **options):
            found = every(*arguments, **options)
            return {name: found[name] for name in ("tsssm", "dummy")}

        monkeypatch.setattr(example, "estimators", quick_ones)
        return example

    def test_report(self, benchmark, tmp_path, capsys):
        benchmark.main(["--quick", "--output", str(tmp_path)])
        printed = capsys.readouterr().out
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["scores"].keys() == {"ItalyPowerDemand", "BasicMotions"}
        for name, scores in report["scores"].items():
            assert 0 < scores["tsssm"] <= 1 and f"{scores['dummy']:.3f}" in printed
            assert report["seconds"][name]["tsssm"] > 0
        assert sum(report["mean_rank"].values()) == pytest.approx(3)
        assert (tmp_path / "critical_difference.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=pytest.mark.slow)])
    def test_processes_and_a_cluster_find_what_one_process_finds(self, benchmark, backend, tmp_path):
        if backend == "dask":
            pytest.importorskip("distributed")
        options = ["--quick", "--task", "regression", "--sets", "Covid3Month"]
        torch.set_num_threads(1)  # as in the workers: sums over threads are rounded in another order
        benchmark.main([*options, "--output", str(tmp_path / "one")])
        benchmark.main([*options, "--backend", backend, "--output", str(tmp_path / "many")])
        one, many = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "many"))
        for name, score in one["scores"]["Covid3Month"].items():
            assert many["scores"]["Covid3Month"][name] == pytest.approx(score, rel=1e-5)  # float32

    def test_a_killed_benchmark_goes_on(self, benchmark, tmp_path, as_a_user, monkeypatch):
        script = (
            "import importlib.util, os, signal, sys\n"
            "spec = importlib.util.spec_from_file_location('example', sys.argv[1])\n"
            "example = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(example)\n"
            "every, load = example.estimators, example.load\n"
            "example.estimators = lambda *a, **k: {n: every(*a, **k)[n] for n in ('tsssm', 'dummy')}\n"
            "def load_or_die(name):\n"
            "    return load(name) if name == 'BasicMotions' else os.kill(os.getpid(), signal.SIGKILL)\n"
            "example.load = load_or_die\n"
            "example.main(sys.argv[2:])\n"
        )
        sets = ["--sets", "BasicMotions", "ItalyPowerDemand"]
        options = ["--quick", *sets, "--output", str(tmp_path)]
        as_a_user("-c", script, EXAMPLES / "benchmark_sktime.py", *options, code=-signal.SIGKILL)
        assert not (tmp_path / "report.json").exists()
        loaded = []
        load = benchmark.load
        monkeypatch.setattr(benchmark, "load", lambda name: (loaded.append(name), load(name))[1])
        benchmark.main(options)
        assert set(loaded) == {"ItalyPowerDemand"}
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["scores"].keys() == {"BasicMotions", "ItalyPowerDemand"}

    def test_a_failure_is_not_passed_over(self, benchmark, tmp_path, monkeypatch):
        ours = benchmark.SSMClassifier(d_model=-1)
        monkeypatch.setattr(benchmark, "estimators", lambda *a, **k: {"tsssm": ours})
        with pytest.raises(RuntimeError, match="BasicMotions.*d_model must be"):
            benchmark.main(["--quick", "--sets", "BasicMotions", "--output", str(tmp_path)])

    def test_ranks_are_those_of_demsar(self, benchmark):
        # His example: 4 classifiers, 14 sets, critical difference 2.569 * sqrt(4 * 5 / (6 * 14)) = 1.25.
        quality = np.random.default_rng(0).normal(size=(14, 4)) + [0.0, 5.0, 0.0, 10.0]
        found = benchmark.ranks(quality)
        assert found.critical_difference == pytest.approx(1.2535, abs=5e-4)
        assert found.means[1] == 2 and found.means[3] == 1 and found.means[[0, 2]].sum() == 7
        assert found.p < 1e-6

    def test_cliques_are_the_widest_runs(self, benchmark):
        means = np.array([1.0, 1.5, 2.4, 2.6, 4.0])
        assert benchmark.cliques(means, 1.2) == [(1.0, 1.5), (1.5, 2.6)]
        assert benchmark.cliques(means, 0.1) == []
        assert benchmark.cliques(means, 9.0) == [(1.0, 4.0)]


@pytest.mark.scripts
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_distributed(tmp_path, as_a_user):
    """Two processes find what one finds, and 150 MB of memory take a panel of 300 MB."""
    size = ["--max-epochs", "4", "--megabytes", "300", "--limit", "150"]
    done = as_a_user(EXAMPLES / "distributed.py", "--output", tmp_path, *size)
    difference = re.search(r"largest difference of a probability: (\S+)", done.stdout)[1]
    assert float(difference) < 1e-5  # float32, four epochs
    assert "150 MB do not take the panel of 300 MB" in done.stdout
    assert "fitted 18750 series" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["shared.safetensors"]


@pytest.mark.slow
def test_deploying(tmp_path, as_a_user):
    options = ["--folder", tmp_path, "--steps", "2", "--json", tmp_path / "costs.json"]
    printed = as_a_user(EXAMPLES / "deploying.py", *options).stdout
    costs = json.loads((tmp_path / "costs.json").read_text())
    for name in ("series.onnx", "samples.onnx", "series.pt2"):
        assert costs[name]["difference"] < 1e-4
    assert all(row["microseconds_per_sample"] > 0 for name, row in costs.items() if name != "backbone")
    assert "series.onnx answers as predict_proba does" in printed


def test_along_time(tmp_path, capsys):
    figure = tmp_path / "figures" / "along.png"
    load_example("along_time").main(["--figure", str(figure), "--max-steps", "20", "--patients", "4"])
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert 0.3 < float(re.search(r"accuracy of a sample (\S+)", printed)[1]) <= 1
    assert float(re.search(r"differ by (\S+)", printed)[1]) < 1e-5
    assert "heart rate: mean error" in printed


@pytest.mark.slow
def test_explaining(tmp_path, capsys):
    pytest.importorskip("captum")
    figure = tmp_path / "figures" / "explaining.png"
    load_example("explaining").main(["--figure", str(figure), "--max-steps", "4", "--stays", "40"])
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert 0.6 < float(re.search(r"AUROC of other stays: (\S+)", printed)[1]) <= 1
    assert "log-odds of 1" in printed and "Lactate" in printed and "42 h" in printed


def test_forecasting(tmp_path, capsys):
    figure = tmp_path / "figures" / "forecasting.png"
    load_example("forecasting").main(["--figure", str(figure), "--steps", "50"])
    assert figure.read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    passengers, pulse, network = (
        [float(number) for number in row[-3:]] for row in rows if row[0] in ("airline", "pulse,")
    )
    for forecast, naive, covered in (passengers, pulse, network):
        assert forecast < naive
        assert covered >= 60
