"""The experiments on archives, memory and ListOps: their tables, on little data and few training steps."""

from __future__ import annotations

import importlib
import json
import lzma
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tsssm import SSMClassifier, SSMRegressor, hippo
from tsssm.layers import S4D

pytestmark = pytest.mark.scripts

SMALL = {"n_members": 2, "n_features": 384, "n_layers": 1, "d_model": 8, "d_state": 4}
EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"


@pytest.fixture
def load(monkeypatch):
    """Import an experiment as its own folder sees it."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module


class Nearest:
    """Stands for MiniRocket, which takes half a minute to compile: the label of the nearest series."""

    def fit(self, X, y):
        self.X, self.y = X, y
        return self

    def predict(self, X):
        assert X.ndim == 3 and X.shape[1:] == self.X.shape[1:]
        return self.y[((X[:, None] - self.X[None]) ** 2).sum((2, 3)).argmin(1)]


class TestArchives:
    @pytest.fixture
    def waves(self):
        """Loader of sets that differ in frequency and, beyond the training's, in length."""
        asked = []

        def fetch(name, part):
            asked.append((name, part))
            rng = np.random.default_rng({"train": 0, "test": 1}[part])
            y = np.array(["fast", "slow"] * 10)
            lengths = rng.integers(20, 30 if part == "train" else 40, size=20)
            frequency = np.where(y == "fast", 0.2, 0.05)
            series = [
                np.sin(2 * np.pi * f * np.arange(length))[None] + 0.1 * rng.normal(size=(2, length))
                for f, length in zip(frequency, lengths, strict=True)
            ]
            return [x.astype(np.float32) for x in series], y

        fetch.asked = asked
        return fetch

    @pytest.fixture
    def ucr(self, load, monkeypatch):
        module = load("ucr")
        monkeypatch.setitem(module.PEERS, "MiniRocket", lambda seed: Nearest())
        monkeypatch.setitem(module.PEERS, "InceptionTime", lambda seed: Nearest())
        monkeypatch.setattr(module, "SSMClassifier", partial(SSMClassifier, **SMALL))
        return module

    def test_report_and_what_a_second_call_does(self, ucr, waves, tmp_path, capsys):
        path = tmp_path / "ucr.json"
        options = ["--settings", '{"max_steps": 3}', "--json", str(path), "--seeds", "0", "1"]
        ucr.run("some", ["Beef", "CBF"], waves, "Doc.", [*options, "--sets", "Beef"])
        first = json.loads(path.read_text())
        assert waves.asked == [("Beef", "train"), ("Beef", "test")]
        beef = first["results"]["sets"]["Beef"]
        assert beef["train, test"] == [20, 20] and beef["channels"] == beef["classes"] == 2
        assert beef["length"] == max(x.shape[1] for x in waves("Beef", "train")[0])
        assert beef["seeds"] == [0, 1] and len(beef["accuracy"]["SSMClassifier"]["each"]) == 2
        assert min(beef["seconds"].values()) >= 0 and beef["parameters"] > 100
        assert first["model"]["max_steps"] == 3 and first["model"]["learning_rate"] == 4e-3

        waves.asked.clear()
        capsys.readouterr()
        ucr.run("some", ["Beef", "CBF"], waves, "Doc.", options)
        assert {name for name, _ in waves.asked} == {"CBF"}
        both = json.loads(path.read_text())["results"]
        assert both["sets"].keys() == {"Beef", "CBF"} and both["sets"]["Beef"] == beef
        assert both["summary"]["sets"] == 2 and both["summary"]["seeds a set"] == [2]
        printed = capsys.readouterr().out
        assert f"{beef['accuracy']['MiniRocket']['mean']:.3f}" in printed

        waves.asked.clear()
        ucr.run("some", ["Beef"], waves, "Doc.", [*options, "2"])  # one more seed
        assert waves.asked and json.loads(path.read_text())["results"]["sets"]["Beef"]["seeds"] == [0, 1, 2]

        with pytest.raises(ValueError, match="other max_steps; name another file"):
            ucr.run("some", ["Beef"], waves, "Doc.", [*options, "--settings", '{"max_steps": 4}'])
        with pytest.raises(ValueError, match="no figures of InceptionTime; name another file"):
            ucr.run("some", ["Beef"], waves, "Doc.", [*options, "--peer", "InceptionTime"])

    def test_accuracies_are_those_of_the_estimators(self, ucr, waves):
        train, test = waves("Beef", "train"), waves("Beef", "test")
        found = ucr.measure(train, test, [0, 1], {"max_steps": 40})["accuracy"]
        models = [SSMClassifier(max_steps=40, random_state=seed, **SMALL).fit(*train) for seed in (0, 1)]
        each = [model.score(*test) for model in models]
        assert found["SSMClassifier"]["each"] == each
        mean = np.mean([model.predict_proba(test[0]) for model in models], axis=0)
        averaged = np.mean(models[0].classes_[mean.argmax(axis=1)] == test[1])
        assert found["average of its seeds"]["mean"] == averaged
        assert max(each) > 0.8

    def test_summary_counts_wins_and_shares_ties(self, ucr):
        def row(ours, average, peer):
            names = ("SSMClassifier", "average of its seeds", "MiniRocket")
            accuracy = dict(zip(names, ({"mean": mean} for mean in (ours, average, peer)), strict=True))
            return {"accuracy": accuracy, "seeds": [0], "seconds": {"SSMClassifier": 2.0, "MiniRocket": 1.0}}

        table = {"a": row(0.9, 0.9, 0.8), "b": row(0.5, 0.7, 0.7), "c": row(0.4, 0.6, 0.7)}
        found = ucr.summary(table)
        assert found["accuracy"] == {
            "SSMClassifier": 0.6,
            "average of its seeds": 0.7333,
            "MiniRocket": 0.7333,
        }
        against = found["against MiniRocket"]
        assert against["SSMClassifier"]["wins, ties, losses"] == [1, 0, 2]
        assert against["SSMClassifier"]["mean rank"] == pytest.approx(5 / 3, abs=1e-3)
        assert against["average of its seeds"]["wins, ties, losses"] == [1, 1, 1]
        assert against["average of its seeds"]["mean rank"] == 1.5
        assert ucr.summary({"a": row(1.0, 1.0, 1.0)})["against MiniRocket"]["SSMClassifier"]["p"] == 1

    def test_rectangular_cuts_and_fills(self, ucr):
        series = [np.ones((2, 3), dtype=np.float32), np.ones((2, 6), dtype=np.float32)]
        found = ucr.rectangular(series, 4)
        assert found.shape == (2, 2, 4) and found[0, :, 3].tolist() == [0, 0] and (found[1] == 1).all()

    @pytest.mark.data
    @pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
    @pytest.mark.parametrize("archive", ["ucr", "uea"])
    def test_the_sets_can_be_read(self, load, archive):
        module = load(archive)
        for name in module.SETS:
            X, y = module.load(name, "train")
            assert len(X) == len(y) and all(x.ndim == 2 and x.dtype == np.float32 for x in X)
            assert len({len(x) for x in X}) == 1 and (len(X[0]) == 1) == (archive == "ucr")

    def test_uea_has_ragged_series_as_they_are(self, load, monkeypatch, tmp_path):
        uea = load("uea")
        X, y = uea.load("JapaneseVowels", "train")
        assert len(X) == 270 and {len(x) for x in X} == {12} and len(set(y)) == 9
        assert min(x.shape[1] for x in X) == 7 and max(x.shape[1] for x in X) == 26
        ucr = importlib.import_module("ucr")
        monkeypatch.setitem(ucr.PEERS, "MiniRocket", lambda seed: Nearest())
        monkeypatch.setattr(ucr, "SSMClassifier", partial(SSMClassifier, **SMALL))
        path = tmp_path / "uea.json"
        arguments = [
            "--sets",
            "BasicMotions",
            "--seeds",
            "0",
            "--settings",
            '{"max_steps": 2}',
            "--json",
            str(path),
        ]
        uea.main(arguments)
        assert json.loads(path.read_text())["results"]["sets"]["BasicMotions"]["channels"] == 6


class TestCinc:
    def test_report(self, load, monkeypatch, tmp_path):
        """Recordings are read back from their differences, and folds are judged by three of the classes."""
        rng = np.random.default_rng(0)
        labels = np.array(list("NNNNNAAAAAOOOOO~~~~~"))
        level = np.array(["NAO~".index(label) for label in labels])
        recordings = [
            np.round(1000 * k + rng.normal(size=rng.integers(30, 60))).astype(np.int16) for k in level
        ]
        folder = tmp_path / "cinc2017"
        folder.mkdir()
        with lzma.open(folder / "cinc2017_100hz_first.npz.xz", "wb") as file:
            np.savez(
                file,
                diff=np.concatenate([np.diff(x, prepend=np.int16(0)) for x in recordings]),
                length=np.array([len(x) for x in recordings], dtype=np.int32),
                label_v3=labels,
            )
        monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
        cinc = load("cinc2017")
        X, y = cinc.load(None)
        assert y.tolist() == labels.tolist()
        for x, own in zip(X, recordings, strict=True):
            assert_allclose(1000 * x[0], own, atol=1e-3)
        assert len(cinc.load(7)[0]) == 7 and cinc.load(7)[0][6].shape == X[6].shape

        monkeypatch.setattr(cinc, "minirocket", lambda seed: Nearest())
        path = tmp_path / "results.json"
        cinc.main(["--models", "MiniRocket", "--folds", "2", "--json", str(path)])
        report = json.loads(path.read_text())
        found = report["results"]["MiniRocket"]
        assert found["F1"].keys() == {"N", "A", "O"} and len(found["mean F1 of N, A, O"]["each"]) == 2
        assert found["mean F1 of N, A, O"]["mean"] == pytest.approx(
            np.mean(list(found["F1"].values())), abs=1e-4
        )
        assert report["recordings"] == 20 and report["folds"] == 2


class TestMemory:
    def test_report(self, load, tmp_path, capsys):
        memory = load("memory")
        path, figure = tmp_path / "memory.json", tmp_path / "figures" / "memory.png"
        size = ["--length", "40", "--delays", "4", "20", "--bandwidth", "0.05", "--waits", "6", "9"]
        network = ["--layers", "1", "--channels", "4", "--state", "4", "--max-steps", "2", "--series", "60"]
        output = ["--json", str(path), "--figure", str(figure)]
        memory.main([*size, *network, "--items", "2", "--seeds", "0", "1", *output])
        report = json.loads(path.read_text())
        results = report["results"]
        assert results["delay"].keys() == results["copy"].keys() == memory.STARTS.keys()
        assert {"LegT", "LegS", "S4D-Inv", "random matrix"} <= results["held"].keys()
        for name, row in results["delay"].items():
            assert row["error by delay"].keys() == {"4", "20"} and len(row["error"]["each"]) == 2
            assert row["error"]["mean"] == pytest.approx(np.mean(list(row["error by delay"].values())))
            assert row["parameters"] == results["delay"]["S4D-Lin"]["parameters"]
            assert results["copy"][name].keys() == {"6", "9"}
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert "S4D-LegS" in capsys.readouterr().out and report["seeds"] == [0, 1]

    def test_a_network_starts_from_the_system_named(self, load):
        """The first three are options of the layer itself; the callback writes the same numbers."""
        memory = load("memory")
        options = SimpleNamespace(layers=2, channels=4, state=8, max_steps=1, device="cpu", verbose=0)
        X = np.random.default_rng(0).normal(size=(4, 1, 20))
        for name, init in {"S4D-LegS": "legs", "S4D-Lin": "lin", "S4D-Inv": "inv"}.items():
            assert init in hippo.DIAGONAL_INITS
            made = S4D(4, 8, init=init)
            model = memory.network(SSMRegressor, memory.STARTS[name], 0, options)
            model.set_params(learning_rate=1e-9, ssm_learning_rate=1e-9).fit(X, X[:, 0, 0])
            for block in model.net_.blocks:
                layer = block.layer
                assert not layer.bidirectional
                torch.testing.assert_close(layer.eigenvalues(), made.eigenvalues(), rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(layer.B, made.B, rtol=1e-5, atol=1e-5)
                assert layer.log_dt.std() > 0.1
        start = memory.STARTS["S4D-Lin, one timescale"]
        model = memory.network(SSMRegressor, start, 0, options)
        model.set_params(ssm_learning_rate=1e-9).fit(X, X[:, 0, 0])
        assert model.net_.blocks[0].layer.log_dt.std() < 1e-5

    @pytest.mark.parametrize("name", ["random frequencies", "random matrix", "S4D-Real"])
    def test_other_systems_decay_and_have_as_many_modes(self, load, name):
        memory = load("memory")
        for seed in range(20):
            eigenvalues, B = memory.STARTS[name].system(16, np.random.default_rng(seed))
            assert eigenvalues.shape == B.shape == (8,) and (eigenvalues.real < 0).all()
            again, _ = memory.STARTS[name].system(16, np.random.default_rng(seed))
            assert (eigenvalues == again).all()

    def test_responses_are_those_of_the_layer(self, load):
        memory = load("memory")
        layer = S4D(1, 8, init="lin")
        with torch.no_grad():
            layer.log_dt.fill_(np.log(0.1))
            kernel = layer.kernel(30)[0, :, 0].double().numpy()
            C = torch.view_as_complex(layer.C)[0, 0].numpy()
        found = memory.responses(hippo.diagonal("lin", 8), 0.1, 30)
        # y = 2 Re(C x)
        readout = 2 * np.concatenate([C.real, -C.imag])
        assert_allclose(found @ readout, kernel, rtol=1e-4, atol=1e-5)  # the layer has float32

    def test_what_a_state_holds(self, load):
        """A system whose state is the input five samples ago gives that one back, and no other."""
        memory = load("memory")
        kernel = np.zeros((10, 2))
        kernel[5, 0] = 1.0
        rng = np.random.default_rng(0)
        train, test = rng.normal(size=(2, 4000, 10))
        error = memory.held(kernel, train, test, [4, 5], noise=0.1)
        assert error[1] == pytest.approx(0.01, rel=0.1)  # the noise on the state, little shrunk
        assert error[0] == pytest.approx(1.0, rel=0.1)

    def test_legendre_states_hold_their_window(self, load):
        """LegT with the window in its memory keeps slow noise; a matrix at random keeps less."""
        memory = load("memory")
        options = SimpleNamespace(seeds=[0, 1, 2], bandwidth=0.02, noise=0.01)
        table = memory.held_table(16, 100, [10, 50, 90], options)
        assert max(table["LegT"]) < 0.01
        assert table["random matrix"][2] > 20 * table["LegT"][2]


class TestListOps:
    def test_report(self, load, tmp_path, capsys):
        listops = load("listops")
        path = tmp_path / "listops.json"
        size = ["--train", "300", "--test", "120", "--max-length", "40", "--max-steps", "4"]
        network = ["--layers", "1", "--channels", "8", "--state", "4", "--backbones", "s4d"]
        listops.main([*size, *network, "--seeds", "0", "1", "--json", str(path)])
        report = json.loads(path.read_text())
        model = report["results"]["models"]["s4d"]
        assert len(model["accuracy"]["each"]) == 2 and model["parameters"] > 0
        assert report["expressions"]["train"] == 300
        assert report["expressions"]["length, smallest, median, largest"][2] <= 40
        assert report["paper"]["Liquid-S4"] == 0.6275 and "cannot be compared" in report["what differs"]
        printed = capsys.readouterr().out
        assert f"accuracy {report['results']['baselines']['majority class']['accuracy']:.3f}" in printed

    def test_what_is_known_of_an_expression(self, load, monkeypatch):
        listops = load("listops")
        symbols = list("0123456789") + ["[MIN", "[MAX", "[MED", "[SM", "]"]
        texts = ["[MAX 2 [MIN 4 7 ] [SM 1 [MED 1 2 3 ] ] ]", "[SM 9 9 ]"]
        codes = [[symbols.index(word) for word in text.split()] for text in texts]
        X = listops.Panel.from_arrays([np.eye(15, dtype=np.float32)[code].T for code in codes])
        part = listops.described(X, np.array([4, 8]))
        assert part.operator.tolist() == [1, 3] and part.depth.tolist() == [3, 1]
        assert part.counts[1].tolist() == [0] * 9 + [2, 0, 0, 0, 1, 1]
        assert part.counts.sum(axis=1).tolist() == [len(code) for code in codes]

    def test_baselines(self, load):
        listops = load("listops")
        options = SimpleNamespace(lra=False, train=2000, test=1000, min_length=4, max_length=60)
        train, test = listops.load(options, "train"), listops.load(options, "test")
        found = listops.baselines(train, test)
        most = np.bincount(train.y).argmax()
        assert found["majority class"]["accuracy"] == np.mean(test.y == most)
        by_operator = found["majority class of the outermost operator"]
        # Minima pile up at 0, maxima at 9.
        modes = [np.bincount(train.y[train.operator == number]).argmax() for number in range(4)]
        assert modes[:2] == [0, 9]
        assert by_operator["accuracy"] == np.mean(test.y == np.array(modes)[test.operator])
        assert by_operator["loss"] < found["majority class"]["loss"] < 2.31
        named = "gradient boosting on the counts of the symbols and the outermost operator"
        assert found[named]["accuracy"] > by_operator["accuracy"]
        shares = np.bincount(test.operator, minlength=4) / len(test.y)
        assert np.dot(shares, list(by_operator["by operator"].values())) == pytest.approx(
            by_operator["accuracy"]
        )

    def test_long_range_arena_is_read_where_it_lies(self, load, monkeypatch, tmp_path):
        folder = tmp_path / "lra" / "listops-1000"
        folder.mkdir(parents=True)
        for part in ("train", "test"):
            (folder / f"basic_{part}.tsv").write_text(
                "Source\tTarget\n[MAX 2 9 ]\t9\n[MIN 2 [SM 1 4 ] ]\t2\n"
            )
        monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
        listops = load("listops")
        part = listops.load(SimpleNamespace(lra=True), "test")
        assert part.y.tolist() == [9, 2] and part.depth.tolist() == [1, 2]
        assert "larger" in listops._differs(True)
