"""Loaders: on tiny files in the real layouts, over a local HTTP server, and on the data itself."""

import functools
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsssm import datasets
from tsssm.datasets import load_bidmc, load_fsdd, load_ucr, load_uea
from tsssm.panel import as_panel

NAN = np.nan
RATE, WINDOW, STRIDE = 125, 32, 3  # Hz, s, s
TEST_RECORDS = ["08", "18", "27", "38", "49", "53"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
    return tmp_path


def bidmc_arrays(seconds=50, seed=0):
    """Signals PLETH, II, RESP (samples, 3) and numerics HR, PULSE, RESP, SpO2 (seconds + 1, 4)."""
    rng = np.random.default_rng(seed)
    signals = rng.standard_normal((seconds * RATE + 1, 3)).astype(np.float32)
    return signals, rng.integers(60, 100, (seconds + 1, 4)).astype(np.float32)


def write_repacked(folder, records):
    path = folder / "bidmc" / "bidmc28_125hz.npz"
    path.parent.mkdir(exist_ok=True)
    arrays = {"records": np.array(list(records))}
    for record, (signals, numerics) in records.items():
        arrays |= {f"sig_{record}": signals, f"num_{record}": numerics}
    np.savez(path, **arrays)


def write_csv(folder, record, signals, numerics):
    """The publisher's layout: a space after the commas of the header, channels in any order, NaN as text."""
    path = folder / "bidmc" / "bidmc_csv"
    path.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(signals[:, [1, 0, 2]], columns=[" II", " PLETH", " RESP"])
    table.insert(0, "Time [s]", np.arange(len(signals)) / RATE)
    table[" V"] = 1.0
    table.to_csv(path / f"bidmc_{record}_Signals.csv", index=False)
    table = pd.DataFrame(numerics, columns=[" HR", " PULSE", " RESP", " SpO2"])
    table.insert(0, "Time [s]", np.arange(len(numerics)))
    table.to_csv(path / f"bidmc_{record}_Numerics.csv", index=False, na_rep="NaN")


class TestBidmc:
    def test_windows_and_targets(self, folder):
        signals, numerics = bidmc_arrays(50)
        write_repacked(folder, {"02": (signals, numerics)})
        X, y, groups = load_bidmc(records=["02"])
        assert (X.dtype, y.dtype) == (np.float32, np.float64)
        starts = range(0, 50 - WINDOW + 1, STRIDE)
        assert len(starts) == 7 and X.shape == (7, 2, 4000) and groups.tolist() == ["02"] * 7
        for i, start in enumerate(starts):
            np.testing.assert_array_equal(X[i], signals[start * RATE : (start + WINDOW) * RATE, :2].T)
            # float64 mean of whole numbers: exact to one rounding.
            assert y[i] == pytest.approx(numerics[start : start + WINDOW, 0].mean(dtype=float), rel=1e-15)

    @pytest.mark.parametrize(("target", "column"), [("HR", 0), ("PULSE", 1), ("RESP", 2), ("SpO2", 3)])
    def test_choice_of_target_and_channels(self, folder, target, column):
        signals, numerics = bidmc_arrays(32)
        write_repacked(folder, {"02": (signals, numerics)})
        X, y, _ = load_bidmc(target, channels=["RESP", "PLETH"], records=["02"])
        np.testing.assert_array_equal(X[0], signals[:4000, [2, 0]].T)
        assert y == pytest.approx([numerics[:WINDOW, column].mean(dtype=float)], rel=1e-15)

    def test_windows_with_a_missing_numeric_are_left_out(self, folder):
        signals, numerics = bidmc_arrays(50)
        numerics[[33, 50], 0] = NAN  # second 33 lies in the windows that start at 3, 6, ..., 18
        write_repacked(folder, {"02": (signals, numerics)})
        X, y, groups = load_bidmc(records=["02"])
        assert len(X) == len(y) == len(groups) == 1
        np.testing.assert_array_equal(X[0], signals[:4000, :2].T)
        assert len(load_bidmc("PULSE", records=["02"])[1]) == 7

    def test_publishers_files_equal_the_repacked(self, folder):
        arrays = bidmc_arrays(40)
        arrays[1][39, 2] = NAN
        write_repacked(folder, {"02": arrays})
        write_csv(folder, "04", *arrays)
        for target in ("HR", "RESP"):
            X, y, groups = load_bidmc(target, records=["02", "04"])
            half = len(X) // 2
            assert half and groups.tolist() == ["02"] * half + ["04"] * half
            np.testing.assert_array_equal(X[:half], X[half:])
            np.testing.assert_array_equal(y[:half], y[half:])
        assert (load_bidmc(channels=["V"], records=["04"])[0] == 1).all()
        with pytest.raises(
            ValueError, match=r"record 04 has signals \['II', 'PLETH', 'RESP', 'V'\], got \['MCL'\]"
        ):
            load_bidmc(channels=["MCL"], records=["04"])

    def test_splits_by_subject(self, folder):
        registry = datasets._registry()["bidmc"]["splits"]
        everyone = registry["train"] + registry["test"]
        write_repacked(folder, {record: bidmc_arrays(32, int(record)) for record in everyone})
        assert load_bidmc(records="test")[2].tolist() == TEST_RECORDS
        train = load_bidmc(records="train")[2].tolist()
        assert len(train) == 22 and not set(train) & set(TEST_RECORDS)
        assert load_bidmc()[2].tolist() == sorted(train + TEST_RECORDS)

    @pytest.mark.parametrize("factor", [2, 5, 8])
    def test_decimation(self, folder, factor):
        t = np.arange(40 * RATE + 1) / RATE
        new_nyquist = RATE / factor / 2
        slow, fast = np.sin(2 * np.pi * 1.3 * t), np.sin(2 * np.pi * 1.5 * new_nyquist * t)
        signals = np.stack([5 + slow, 5 + slow + fast, t], axis=1).astype(np.float32)
        write_repacked(folder, {"02": (signals, bidmc_arrays(40)[1])})
        X, _, _ = load_bidmc(channels=["PLETH", "II", "RESP"], records=["02"], decimate=factor)
        full, _, _ = load_bidmc(channels=["PLETH", "II", "RESP"], records=["02"])
        assert X.shape == (3, 3, 4000 // factor) and X.dtype == np.float32
        # Zero phase: a heart beat and a drift stay in place. Pass band of the FIR: ripple under 0.5 %; the
        # ends, where the signal is extended by reflection, are off by at most a tenth of the amplitude.
        np.testing.assert_allclose(X[:, 0, 10:-10], full[:, 0, ::factor][:, 10:-10], atol=5e-3)
        np.testing.assert_allclose(X[:, 0], full[:, 0, ::factor], atol=0.1)
        np.testing.assert_allclose(X[:, 2], full[:, 2, ::factor], rtol=1e-3, atol=5e-3)
        # Stop band: what plain subsampling would fold onto the beat is down by 46 dB.
        assert np.abs(X[:, 1, 10:-10] - X[:, 0, 10:-10]).max() < 5e-3
        assert np.abs(full[:, 1, ::factor] - full[:, 0, ::factor]).max() > 0.9

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"target": "BP"}, "target must be one of .* got 'BP'"),
            ({"channels": "PLETH"}, "non-empty sequence of names"),
            ({"channels": []}, "non-empty sequence of names"),
            ({"records": "validation"}, "'all', 'train', 'test' or a sequence"),
            ({"records": ["02", "54"]}, "'01' to '53'"),
            ({"records": []}, "'01' to '53'"),
            ({"decimate": 3}, "divide 4000.* got 3"),
            ({"decimate": 0}, "divide 4000.* got 0"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            load_bidmc(**arguments)


class TestFsdd:
    RECORDINGS = {
        "7_ann_3": [0, 16384, -32768],
        "0_bob_12": [1, 2, 3, 4],
        "7_ann_40": [5],
        "1_bob_0": [0] * 200,
    }

    @pytest.fixture(autouse=True)
    def archive(self, folder):
        """The publisher's layout: a folder of mono 16-bit files named by digit, speaker and index."""
        (folder / "fsdd").mkdir(parents=True)
        with tarfile.open(folder / "fsdd" / "recordings.tar.gz", "w:gz") as archive:
            for name, samples in self.RECORDINGS.items():
                file = io.BytesIO()
                with wave.open(file, "wb") as sound:
                    sound.setparams((1, 2, 8000, 0, "NONE", ""))
                    sound.writeframes(np.array(samples, dtype="<i2").tobytes())
                member = tarfile.TarInfo(f"recordings/{name}.wav")
                member.size = len(file.getvalue())
                archive.addfile(member, io.BytesIO(file.getvalue()))
            archive.addfile(tarfile.TarInfo("recordings/README.md"))

    def test_published_split(self):
        X, y, speakers = load_fsdd("test")
        assert y.tolist() == [1, 7] and speakers.tolist() == ["bob", "ann"]
        assert X[1].tolist() == [[0, 0.5, -1]] and X[1].dtype == np.float32
        X, y, speakers = load_fsdd("train")
        assert y.tolist() == [0, 7] and speakers.tolist() == ["bob", "ann"]
        np.testing.assert_array_equal(X[0], np.array([[1, 2, 3, 4]]) / 32768)

    def test_decimation(self):
        X, _, _ = load_fsdd("test", decimate=4)
        assert X[0].shape == (1, 50) and X[0].dtype == np.float32

    @pytest.mark.parametrize("decimate", [0, 1.5, True, "2"])
    def test_bad_arguments(self, decimate):
        with pytest.raises(ValueError, match=f"decimate must be a positive whole number, got {decimate!r}"):
            load_fsdd("test", decimate=decimate)
        with pytest.raises(ValueError, match='"train" or "test", got \'all\''):
            load_fsdd("all")


class TestUcr:
    def write(self, folder, text, part="TRAIN"):
        path = folder / "ucr" / "Toy"
        path.mkdir(parents=True, exist_ok=True)
        (path / f"Toy_{part}.tsv").write_text(text)

    def test_values_and_labels(self, folder):
        self.write(folder, "2\t0.5\t-1e-3\t3\n-1\t1\t2\tNaN\n")
        self.write(folder, "1\t7\t8\t9\n", "TEST")
        X, y = load_ucr("Toy", "train")
        assert X.dtype == np.float32 and y.dtype == np.int64
        np.testing.assert_array_equal(X, np.array([[[0.5, -1e-3, 3]], [[1, 2, NAN]]], dtype=np.float32))
        assert y.tolist() == [2, -1]
        assert load_ucr("Toy", "test")[0].tolist() == [[[7, 8, 9]]]

    @pytest.mark.parametrize("load", [load_ucr, load_uea])
    def test_split_is_checked(self, load, folder):
        with pytest.raises(ValueError, match='"train" or "test", got \'TRAIN\''):
            load("Toy", "TRAIN")


class TestUea:
    HEADER = "# Fran\xe7ois\n%note\n@problemName Toy\n@timeStamps {stamps}\n@classLabel true a b\n@data\n"

    def write(self, folder, lines, stamps="false"):
        path = folder / "uea" / "Toy"
        path.mkdir(parents=True)
        text = self.HEADER.format(stamps=stamps) + "\n".join(lines) + "\n\n"
        (path / "Toy_TRAIN.ts").write_bytes(text.encode("latin-1"))

    def test_ts(self, folder):
        self.write(folder, ["1,2,3:4,5,?:b", "-1,0,1e2:0,0,0:a"])
        X, y = load_uea("Toy", "train")
        assert X.dtype == np.float32
        np.testing.assert_array_equal(X, [[[1, 2, 3], [4, 5, NAN]], [[-1, 0, 100], [0, 0, 0]]])
        assert y.tolist() == ["b", "a"]

    def test_ts_of_unequal_length(self, folder):
        self.write(folder, ["1,2,3:4,5,6:1.0", "1:2:2.0"])
        X, y = load_uea("Toy", "train")
        assert [series.shape for series in X] == [(2, 3), (2, 1)]
        assert y.dtype == np.int64 and y.tolist() == [1, 2]
        assert as_panel(X).lengths.tolist() == [3, 1]

    def test_ts_with_time_stamps(self, folder):
        self.write(folder, ["(0,1),(1,2):1"], stamps="true")
        with pytest.raises(ValueError, match=r"Toy_TRAIN.ts has time stamps"):
            load_uea("Toy", "train")

    def test_repacked(self, folder):
        (folder / "uea").mkdir()
        arrays = {
            "X_train": np.ones((3, 2, 4)),
            "y_train": [1, 2, 3],
            "X_test": np.zeros((1, 2, 4)),
            "y_test": [3],
        }
        np.savez(folder / "uea" / "uea_Toy.npz", **arrays)
        X, y = load_uea("Toy", "train")
        assert X.dtype == np.float32 and X.shape == (3, 2, 4) and y.tolist() == [1, 2, 3]
        assert load_uea("Toy", "test")[1].tolist() == [3]


class TestWhereFilesComeFrom:
    @pytest.mark.parametrize(
        ("load", "path", "source"),
        [
            (lambda: load_fsdd("test"), "fsdd/recordings.tar.gz", "github.com"),
            (lambda: load_ucr("GunPoint", "test"), "ucr/GunPoint/GunPoint_TEST.tsv", "www.cs.ucr.edu"),
            (
                lambda: load_uea("NATOPS", "train"),
                "uea/NATOPS/NATOPS_TRAIN.ts",
                "timeseriesclassification.com",
            ),
            (lambda: load_bidmc(records=["04"]), "bidmc/bidmc_csv/bidmc_04_Signals.csv", "physionet.org"),
        ],
    )
    def test_local_only_says_how_to_place_the_file(self, load, path, source, monkeypatch, tmp_path):
        for value, state in ((None, "it is not set"), (str(tmp_path), f"it is set to {str(tmp_path)!r}")):
            monkeypatch.delenv("TSSSM_DATA", raising=False)
            if value:
                monkeypatch.setenv("TSSSM_DATA", value)
            with pytest.raises(FileNotFoundError) as error:
                load()
            for part in (path, f"FOLDER/{path}", source, "TSSSM_DATA names FOLDER", state):
                assert part in str(error.value)

    @pytest.fixture
    def publisher(self, tmp_path, monkeypatch):
        """BIDMC files behind a local HTTP server; yields (registry entry, requested paths, cache folder)."""
        write_csv(tmp_path, "02", *bidmc_arrays(32))
        requests = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                requests.append(self.path)

        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        entry = json.loads(json.dumps(datasets._registry()["bidmc"]))
        for file in entry["files"]:
            if "_02_" in file["path"]:
                file["url"] = f"http://127.0.0.1:{server.server_port}/{file['path']}"
                file["sha256"] = hashlib.sha256((tmp_path / file["path"]).read_bytes()).hexdigest()
        monkeypatch.setattr(datasets, "_registry", lambda: {"bidmc": entry})
        monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
        monkeypatch.delenv("TSSSM_DATA", raising=False)
        yield entry, requests, tmp_path / "cache" / "tsssm"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_download_once(self, publisher):
        _, requests, cache = publisher
        X, y, _ = load_bidmc(records=["02"])
        np.testing.assert_array_equal(X[0], bidmc_arrays(32)[0][:4000, :2].T)
        assert sorted(path.name for path in cache.rglob("*.csv")) == [
            "bidmc_02_Numerics.csv",
            "bidmc_02_Signals.csv",
        ]
        assert len(requests) == 2
        np.testing.assert_array_equal(load_bidmc(records=["02"])[1], y)
        assert len(requests) == 2, "the second call reads the cache"

    def test_wrong_checksum_is_refused(self, publisher):
        entry, _, cache = publisher
        for file in entry["files"]:
            file["sha256"] = "0" * 64
        with pytest.raises(ValueError, match="SHA256 hash"):
            load_bidmc(records=["02"])
        assert not list(cache.rglob("*.csv"))

    def test_local_copy_comes_first(self, publisher, monkeypatch, tmp_path):
        monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
        load_bidmc(records=["02"])
        assert publisher[1] == []


class TestRegistry:
    def test_entries_are_complete(self):
        for entry in datasets._registry().values():
            assert set(entry) == {"title", "source", "doi", "licence", "citation", "splits", "files"}
            assert entry["source"].startswith("https://") and entry["citation"]
            for file in entry["files"]:
                assert set(file) == {"path", "bytes", "sha256", "url"}
                assert len(file["sha256"]) == 64 and int(file["sha256"], 16) and file["bytes"] > 0
                assert not Path(file["path"]).is_absolute()
                assert file["url"] is None or file["url"].startswith(
                    "https://physionet.org/files/bidmc/1.0.0/"
                )

    def test_found_inside_an_installed_package(self, tmp_path, monkeypatch):
        inside = tmp_path / "tsssm" / "_datasets_registry"
        inside.mkdir(parents=True)
        (inside / "registry.json").write_text('{"from": "wheel"}')
        monkeypatch.setattr(datasets, "__file__", str(tmp_path / "tsssm" / "datasets.py"))
        assert datasets._registry.__wrapped__() == {"from": "wheel"}


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
class TestRealData:
    def test_files_are_the_registered_ones(self):
        root = Path(os.environ["TSSSM_DATA"])
        for entry in datasets._registry().values():
            for file in entry["files"]:
                content = (root / file["path"]).read_bytes()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])

    def test_bidmc(self):
        X, y, groups = load_bidmc(decimate=5)
        assert X.shape[1:] == (2, 800) and np.isfinite(X).all()
        assert len(set(groups)) == 28 and len(X) == len(y) == len(groups)
        # 150 windows a record; only record 27 has seconds without a heart rate.
        counts = dict(zip(*np.unique(groups, return_counts=True), strict=True))
        assert all(count == 150 for record, count in counts.items() if record != "27")
        assert 100 < counts["27"] < 150
        assert 40 < y.min() and y.max() < 160

    def test_bidmc_heart_rate_is_in_the_ecg(self):
        X, y, _ = load_bidmc(channels=["II"], records=["02"])
        spectrum = np.abs(np.fft.rfft(X[:, 0] - X[:, 0].mean(axis=1, keepdims=True), n=32768))
        beats_a_minute = np.fft.rfftfreq(32768, 1 / RATE) * 60
        band = (beats_a_minute > 40) & (beats_a_minute < 160)
        estimate = beats_a_minute[band][spectrum[:, band].argmax(axis=1)]
        assert np.median(np.abs(estimate - y)) < 2  # beats a minute

    def test_bidmc_publishers_files(self, tmp_path, monkeypatch):
        repacked = load_bidmc("RESP", records=["03"])
        (tmp_path / "bidmc").mkdir()
        (tmp_path / "bidmc" / "bidmc_csv").symlink_to(
            Path(os.environ["TSSSM_DATA"], "bidmc", "bidmc_csv").resolve()
        )
        monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
        published = load_bidmc("RESP", records=["03"])
        np.testing.assert_allclose(repacked[0], published[0], rtol=0, atol=1e-7)  # float32 of values under 1
        np.testing.assert_array_equal(repacked[1], published[1])

    def test_fsdd(self):
        sizes = {}
        for split in ("train", "test"):
            X, y, speakers = load_fsdd(split)
            sizes[split] = len(X)
            pairs, counts = np.unique(np.stack([y.astype(str), speakers]), axis=1, return_counts=True)
            assert pairs.shape[1] == 60 and (counts == len(X) / 60).all()
            assert all(x.shape[0] == 1 and np.abs(x).max() <= 1 for x in X)
        assert sizes == {"train": 2700, "test": 300}

    def test_every_ucr_set(self):
        names = {Path(file["path"]).parts[1] for file in datasets._registry()["ucr"]["files"]}
        assert len(names) == 24
        for name in names:
            (X, y), (X_test, y_test) = load_ucr(name, "train"), load_ucr(name, "test")
            assert X.ndim == 3 and X.shape[1:] == X_test.shape[1:] and len(y_test) == len(X_test)
            assert set(y_test) <= set(y) and len(set(y)) > 1, name
        assert load_ucr("GunPoint", "train")[0].shape == (50, 1, 150)
        assert load_ucr("GunPoint", "test")[0].shape == (150, 1, 150)

    @pytest.mark.parametrize(
        ("name", "train", "test", "classes"),
        [
            ("RacketSports", (151, 6, 30), 152, 4),
            ("Epilepsy", (137, 3, 206), 138, 4),
            ("ERing", (30, 4, 65), 270, 6),
            ("NATOPS", (180, 24, 51), 180, 6),
        ],
    )
    def test_every_uea_set(self, name, train, test, classes):
        X, y = load_uea(name, "train")
        assert X.shape == train and len(y) == train[0] and len(set(y.tolist())) == classes
        X, y = load_uea(name, "test")
        assert X.shape == (test, *train[1:]) and len(y) == test and len(set(y.tolist())) == classes
        assert y.dtype == np.int64
