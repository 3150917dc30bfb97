"""The benchmark of the GPU runs, on tiny sizes and on the CPU, and says so where it cannot."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

PATH = Path(__file__).parents[2] / "examples" / "benchmarks" / "gpu.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PATH.parent)
    spec = importlib.util.spec_from_file_location("benchmark_gpu", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_report(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TSSSM_DATA", raising=False)
    path = tmp_path / "results" / "gpu.json"
    assert benchmark.main(["--small", "--repeats", "1", "--json", str(path)], device="cpu") == 0
    report = json.loads(path.read_text())
    assert report["copy GB/s"] > 0 and report["environment"]["torch"] == torch.__version__
    assert [row["input"] for row in report["scans"]] == ["float32", "bfloat16"]
    for name in benchmark.VARIANTS:
        assert report["scans"][0][name]["forward and backward ms"] > 0
    assert all("ms" in figures for name, figures in report["layers"][0].items() if name != "shape")
    for name in ("diagonal", "dplr", "tridiagonal"):
        figures = report["coupled scans"][0][name]
        assert figures["forward ms"] > 0 and figures["PyTorch alone"]["forward and backward ms"] > 0
    assert [row["backbone"] for row in report["long training step"]] == ["s4d", "liquid-s4", "s4", "lssl"]
    assert report["mamba-ssm's selective scan"]
    (row,) = report["training step"]
    assert row["eager"]["ms"] > 0 and "no CUDA graphs" in row["CUDA graph"]["error"]
    losses = [row[way]["loss after ten steps"] for way in ("eager", "torch.compile")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # float32
    for name in ("regular", "irregular", "dense"):
        figures = report["pooled scans"][0][name]
        assert figures["readouts a second"] > 0 and figures["CPU, one thread, ratio to device"] > 0


def test_epochs_of_data_sets(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of stand-ins for them, as the sets are not there."""
    from tsssm import Panel, datasets

    def fetched(**options: object) -> tuple[Panel, np.ndarray]:
        X = Panel.from_arrays([np.random.default_rng(i).normal(size=(2, 9 + i % 3)) for i in range(12)])
        return X, np.arange(12) % 2

    for name, file in sys.modules["gpu_training"].DATA.items():
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
        monkeypatch.setattr(datasets, {"FSDD": "fetch_fsdd"}.get(name, "fetch_physionet2012"), fetched)
    monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
    path = tmp_path / "gpu.json"
    arguments = ["--small", "--epochs", "2", "--parts", "FSDD", "PhysioNet 2012", "--json", str(path)]
    assert benchmark.main(arguments, device="cpu") == 0
    report = json.loads(path.read_text())
    for name in ("FSDD", "PhysioNet 2012"):
        assert report[name]["series"] == 12 and len(report[name]["seconds of each epoch"]) == 2
    assert "layers" not in report and "copy GB/s" not in report


def test_the_fft_peer_computes_the_same(benchmark: ModuleType) -> None:
    layer, u = benchmark.S4D(4, 8), torch.randn(2, 30, 4)
    torch.testing.assert_close(benchmark.FFTS4D(layer)(u), layer(u)[0], rtol=1e-4, atol=1e-4)  # float32


def test_a_part_that_fails_leaves_its_error(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> float:
        raise RuntimeError("no such thing")

    monkeypatch.delenv("TSSSM_DATA", raising=False)
    monkeypatch.setattr(benchmark, "copy_bandwidth", fails)
    for name in ("coupled", "long_step", "pooled", "scans", "training_steps"):
        monkeypatch.setattr(benchmark, name, lambda *_: {})
    path = tmp_path / "gpu.json"
    assert benchmark.main(["--small", "--repeats", "1", "--json", str(path)], device="cpu") == 1
    report = json.loads(path.read_text())
    assert "no such thing" in report["copy GB/s, error"] and report["layers"]


def test_parts_that_come_too_late_are_left_out(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TSSSM_DATA", raising=False)
    path = tmp_path / "gpu.json"
    assert benchmark.main(["--small", "--minutes", "0", "--json", str(path)], device="cpu") == 0
    report = json.loads(path.read_text())
    assert "layers, left out" in report and "layers" not in report


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main([]) == 1
    assert "no CUDA device" in capsys.readouterr().out
