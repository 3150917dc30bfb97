"""The benchmarks run and write the tables that they promise, on sizes that say nothing about speed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.scripts

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a benchmark as its own folder sees it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_layers(load, tmp_path, capsys):
    benchmark = load("layers")
    path = tmp_path / "layers.json"
    size = ["--batch", "2", "--length", "8", "--channels", "4", "--state", "4", "--repeats", "1"]
    benchmark.main([*size, "--layers", "s4d", "lssl", "--json", str(path)])
    rows = json.loads(path.read_text())["layers"]
    assert rows.keys() == {"s4d", "lssl"}
    for row in rows.values():
        assert row["milliseconds"].keys() == set(benchmark.GRIDS) and min(row["milliseconds"].values()) > 0
    assert rows["s4d"]["parameters"] == 4 * (3 * 4 + 2)
    assert "random times" in capsys.readouterr().out


def test_engine(load, tmp_path, capsys, monkeypatch):
    benchmark = load("engine")
    monkeypatch.setattr(benchmark, "SHAPES", [(2, 16, 4, 4)])
    path = tmp_path / "engine.json"
    benchmark.main(["--repeats", "3", "--longest", "256", "--json", str(path)])
    report = json.loads(path.read_text())
    blocks = report["shapes"][0]["blocks"]
    assert {"ours", "ours, random times", "ours, liquid", "fft", "gru", "lstm"} <= blocks.keys()
    for row in blocks.values():
        assert row["forward"]["milliseconds"] > 0 and row["forward and backward"]["over ours"] > 0
    assert blocks["ours"]["forward"]["over ours"] == 1
    layers = report["shapes"][0]["layers alone"]
    assert layers.keys() == {"ours", "ours, half missing", "ours, random times", "ours, liquid"}
    assert report["faster than fft"]["geometric mean"] > 0
    assert report["growth"]["lengths"] == [128, 256]
    assert "geometric mean" in capsys.readouterr().out


def test_engine_with_chosen_blocks(load, monkeypatch):
    benchmark = load("engine")
    assert benchmark.make_blocks((2, 16, 4, 4), None, ["gru"]).keys() == {"ours", "fft", "gru"}
    with pytest.raises(SystemExit, match="blocks must be among .*; got gro"):
        benchmark.make_blocks((2, 16, 4, 4), None, ["gro"])


def test_the_fft_block_of_the_engine_computes_what_ours_does(load):
    """Otherwise the comparison would mean nothing."""
    benchmark = load("engine")
    torch.manual_seed(0)
    ours, fft = benchmark.OurBlock(benchmark.S4D(4, 8)).double(), benchmark.FFTBlock(4, 8).double()
    layer = ours.layer
    with torch.no_grad():
        fft.log_dt.copy_(layer.log_dt)
        fft.log_decay.copy_((-layer.eigenvalues().real).log())
        fft.frequency.copy_(layer.eigenvalues().imag)
        # Ours has an input vector as well; only the product counts.
        product = torch.view_as_complex(layer.B) * layer.readout()[0, 0] / 2
        fft.C.copy_(torch.view_as_real(product.reshape(4, 4)))
        fft.D.copy_(layer.D)
        fft.mix.load_state_dict(ours.mix.state_dict())
        u = torch.randn(2, 20, 4, dtype=torch.float64)
        torch.testing.assert_close(fft(u), ours(u), rtol=1e-6, atol=1e-9)


def test_streaming(load, tmp_path, capsys):
    benchmark = load("streaming")
    path = tmp_path / "streaming.json"
    size = ["--layers", "1", "--channels", "4", "--state", "4", "--inputs", "2", "--samples", "12"]
    benchmark.main([*size, "--backbones", "s4d", "lssl", "--json", str(path)])
    rows = json.loads(path.read_text())["backbones"]
    assert rows["s4d"]["compiled"] and not rows["lssl"]["compiled"]
    for row in rows.values():
        for grid in ("regular", "random times", "step by step"):
            assert row[grid]["median"] >= row[grid]["minimum"] > 0
        assert row["push_many, a sample"] > 0
    assert "s4d, compiled" in capsys.readouterr().out


def test_ucr_backbones(load, tmp_path, monkeypatch):
    benchmark = load("ucr_backbones")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 1, 30)), np.tile(["a", "b"], 6)
    monkeypatch.setattr(benchmark, "fetch_ucr", lambda name, part, return_X_y: (X, y))
    path = tmp_path / "backbones.json"
    what = ["--sets", "Made", "--sampling", "all", "bursts", "--backbones", "liquid-s4", "s4:bilinear"]
    benchmark.main(
        [*what, "--seeds", "0", "--layers", "1", "--max-steps", "2", "--test", "--json", str(path)]
    )
    report = json.loads(path.read_text())
    assert report["summary"].keys() == {"all", "bursts"}
    for sampling, found in report["summary"].items():
        assert found["backbones"].keys() == {"liquid-s4", "s4:bilinear"}
        for name, row in found["backbones"].items():
            assert 0 <= row["cross-validation"] <= 1 and 1 <= row["mean rank"] <= 2
            assert ("test" in row) == (sampling == "all")
            assert ("bounded at the start" in row) == (name == "liquid-s4")
    clipped = report["results"]["Made (all)|liquid-s4|0"]["bounded"]
    assert 0 <= clipped[0] < 0.01
    kept = benchmark.thinned(X, "half")
    assert kept.lengths.tolist() == [15] * 12 and np.diff(kept.times[:15]).max() > 1


def test_training_step(load, tmp_path):
    path = tmp_path / "step.json"
    load("training_step").main(["--series", "4", "--length", "20", "--repeats", "3", "--json", str(path)])
    report = json.loads(path.read_text())
    assert report["largest_relative_difference"] < 1e-4
    assert report["scan_over_fft"] > 0
    assert sum(report["shares"].values()) == pytest.approx(1, abs=0.01)
    assert min(report["shares"].values()) > 0


def test_network_study(load, tmp_path, monkeypatch):
    study, rng = load("network_study"), np.random.default_rng(0)
    y = np.repeat(["a", "b"], 10)
    X = rng.normal(size=(20, 1, 16)) + np.where(y == "b", 1.0, -1.0)[:, None, None]
    monkeypatch.setattr(study, "fetch_ucr", lambda name, part, return_X_y: (X, y))
    path = tmp_path / "study.json"
    arguments = ["--sets", "some", "--max-steps", "2", "--json", str(path)]
    study.main(arguments)
    report = json.loads(path.read_text())
    assert report["results"].keys() == {"some|0", "some|1"}  # a small set, whose halves both count
    rows = report["summary"]
    assert rows.keys() >= {*study.ALONE, "closed form", "members", "blend, pull 1"}
    assert all(0 <= row["accuracy"] <= 1 and row["log loss"] > 0 for row in rows.values())
    assert rows["closed form"]["accuracy"] > 0.8
    monkeypatch.setattr(study, "evaluate", None)
    study.main(arguments)  # all is there
    with pytest.raises(SystemExit):
        study.main([*arguments[:-3], "3", *arguments[-2:]])


def test_cold_start(load, tmp_path, capsys, monkeypatch):
    benchmark = load("cold_start")
    seconds = iter([5.0, 2.0, 9.0, 2.5])

    def measure(checkout: Path, case: str, cache: str, steps: int) -> dict[str, float]:
        assert (checkout / "tsssm").is_dir() and not list(Path(cache).iterdir())
        return {"import": 1.0, "fit": next(seconds)}

    monkeypatch.setattr(benchmark, "measure", measure)
    path = tmp_path / "cold_start.json"
    benchmark.main(["--cases", "times", "--against", str(BENCHMARKS.parents[1]), "--json", str(path)])
    rows = json.loads(path.read_text())["processor seconds"]["times"]
    assert rows["this"] == {"import": 1.0, "first": 5.0, "second": 2.0, "compiler": 3.0}
    assert rows["against"]["compiler"] == 6.5
    assert "allowed" in capsys.readouterr().out


@pytest.mark.slow
def test_cold_start_compiles_the_first_time_only(load, tmp_path):
    benchmark = load("cold_start")
    row = benchmark.cold_and_warm(BENCHMARKS.parents[1], "features", 0)
    assert row["first"] > 2 * row["second"]


def test_along_time(load):
    benchmark = load("along_time")
    threads = torch.get_num_threads()
    row = benchmark.labelled(None, 0.1)
    torch.set_num_threads(threads)
    assert row["processor seconds"] > 0 and row["megabytes of the signal"] == pytest.approx(0.0165, rel=0.01)
    assert min(benchmark.pushed(20).values()) > 0
