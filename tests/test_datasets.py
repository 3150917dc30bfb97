"""Fetchers of public data sets: on tiny files in the publishers' formats, and on the data itself."""

import gzip
import io
import lzma
import os
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from tsssm import datasets
from tsssm.datasets import (
    _lra,
    _physionet2019,
    fetch_bidmc,
    fetch_cifar10,
    fetch_ett,
    fetch_fsdd,
    fetch_lra,
    fetch_mnist,
    fetch_physionet2012,
    fetch_physionet2019,
    fetch_speech_commands,
    fetch_tser,
    fetch_ucr,
    fetch_uea,
)
from tsssm.datasets._registry import registry
from tsssm.panel import Panel

NAN = np.nan
RATE, WINDOW, STRIDE = 125, 32, 3  # Hz, s, s
TEST_RECORDS = ["08", "18", "27", "38", "49", "53"]


def write_tar(path, files):
    """A gzipped archive of files, by name and content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def wav(samples, rate=8000, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((channels, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.array(samples, dtype="<i2").tobytes())
    return file.getvalue()


def unpacked(bunch):
    return bunch.data, bunch.target, bunch.groups


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
        X, y, groups = unpacked(fetch_bidmc(records=["02"]))
        assert (X.dtype, y.dtype) == (np.float32, np.float64)
        starts = range(0, 50 - WINDOW + 1, STRIDE)
        assert len(starts) == 7 and X.shape == (7, 2, 4000) and groups.tolist() == ["02"] * 7
        for i, start in enumerate(starts):
            np.testing.assert_array_equal(X[i], signals[start * RATE : (start + WINDOW) * RATE, :2].T)
            # float64 mean of whole numbers: exact to one rounding.
            assert y[i] == pytest.approx(numerics[start : start + WINDOW, 0].mean(dtype=float), rel=1e-15)

    @pytest.mark.parametrize(("target", "column"), [("HR", 0), ("PULSE", 1), ("RR", 2), ("SpO2", 3)])
    def test_choice_of_target_and_channels(self, folder, target, column):
        signals, numerics = bidmc_arrays(32)
        write_repacked(folder, {"02": (signals, numerics)})
        X, y, _ = unpacked(fetch_bidmc(target, channels=["RESP", "PLETH"], records=["02"]))
        np.testing.assert_array_equal(X[0], signals[:4000, [2, 0]].T)
        assert y == pytest.approx([numerics[:WINDOW, column].mean(dtype=float)], rel=1e-15)

    def test_windows_with_a_missing_numeric_are_left_out(self, folder):
        signals, numerics = bidmc_arrays(50)
        numerics[[33, 50], 0] = NAN  # second 33 lies in the windows that start at 3, 6, ..., 18
        write_repacked(folder, {"02": (signals, numerics)})
        X, y, groups = unpacked(fetch_bidmc(records=["02"]))
        assert len(X) == len(y) == len(groups) == 1
        np.testing.assert_array_equal(X[0], signals[:4000, :2].T)
        assert len(fetch_bidmc("PULSE", records=["02"]).target) == 7

    def test_publishers_files_equal_the_repacked(self, folder):
        arrays = bidmc_arrays(40)
        arrays[1][39, 2] = NAN
        write_repacked(folder, {"02": arrays})
        write_csv(folder, "04", *arrays)
        for target in ("HR", "RR"):
            X, y, groups = unpacked(fetch_bidmc(target, records=["02", "04"]))
            half = len(X) // 2
            assert half and groups.tolist() == ["02"] * half + ["04"] * half
            np.testing.assert_array_equal(X[:half], X[half:])
            np.testing.assert_array_equal(y[:half], y[half:])
        assert (fetch_bidmc(channels=["V"], records=["04"]).data == 1).all()
        with pytest.raises(
            ValueError,
            match=r"of record 04 must be among \['II', 'PLETH', 'RESP', 'V'\]; got \['MCL'\]",
        ):
            fetch_bidmc(channels=["MCL"], records=["04"])

    def test_whole_recordings_with_numerics_at_their_own_times(self, folder):
        arrays = bidmc_arrays(40)
        arrays[1][3, 0] = NAN
        write_repacked(folder, {"02": arrays, "08": bidmc_arrays(33, 1)})
        found = fetch_bidmc(records=["02", "08"], along_time=True)
        np.testing.assert_array_equal(found.data[0].values, arrays[0][:, :2])
        np.testing.assert_array_equal(found.data[0].times, np.arange(5001) / RATE)
        times, rates = found.target[0]
        np.testing.assert_array_equal(times, np.arange(41))
        np.testing.assert_array_equal(rates, arrays[1][:, 0])
        assert found.part.tolist() == ["train", "test"] and found.data.time_unit == "s"
        thinned = fetch_bidmc(records=["02"], along_time=True, decimate=2)
        assert thinned.data.lengths.tolist() == [2501] and thinned.sampling_rate == 62.5
        with pytest.raises(ValueError, match='split must be "subject"'):
            fetch_bidmc(records=["02"], along_time=True, split="window")

    def test_split_by_subject(self, folder):
        listed = registry()["bidmc"]["splits"]
        everyone = listed["train"] + listed["test"]
        write_repacked(folder, {record: bidmc_arrays(32, int(record)) for record in everyone})
        assert fetch_bidmc(part="test").groups.tolist() == TEST_RECORDS
        train = fetch_bidmc(part="train").groups.tolist()
        assert len(train) == 22 and not set(train) & set(TEST_RECORDS)
        both = fetch_bidmc()
        assert both.groups.tolist() == sorted(train + TEST_RECORDS)
        assert set(both.groups[both.part == "test"]) == set(TEST_RECORDS)
        X, y = fetch_bidmc(part="test", return_X_y=True)
        np.testing.assert_array_equal(X, both.data[both.part == "test"])
        np.testing.assert_array_equal(y, both.target[both.part == "test"])
        with pytest.raises(ValueError, match=r"none of the records \['01'\] is in part 'test'"):
            fetch_bidmc(part="test", records=["01"])

    def test_split_by_window_mixes_the_windows_of_a_record(self, folder):
        write_repacked(folder, {record: bidmc_arrays(90, int(record)) for record in ("02", "08")})
        windows = fetch_bidmc(split="window", records=["02", "08"], decimate=40)
        counts = {part: int((windows.part == part).sum()) for part in ("train", "validation", "test")}
        assert counts == {"train": 28, "validation": 6, "test": 6}  # 70, 15 and 15 % of 40
        assert set(windows.groups[windows.part == "train"]) == {"02", "08"}
        some = fetch_bidmc(split="window", part="validation", records=["02", "08"], decimate=40)
        np.testing.assert_array_equal(some.data, windows.data[windows.part == "validation"])

    @pytest.mark.parametrize("factor", [2, 5, 8])
    def test_decimation(self, folder, factor):
        t = np.arange(40 * RATE + 1) / RATE
        new_nyquist = RATE / factor / 2
        slow, fast = np.sin(2 * np.pi * 1.3 * t), np.sin(2 * np.pi * 1.5 * new_nyquist * t)
        signals = np.stack([5 + slow, 5 + slow + fast, t], axis=1).astype(np.float32)
        write_repacked(folder, {"02": (signals, bidmc_arrays(40)[1])})
        X, _, _ = unpacked(fetch_bidmc(channels=["PLETH", "II", "RESP"], records=["02"], decimate=factor))
        full, _, _ = unpacked(fetch_bidmc(channels=["PLETH", "II", "RESP"], records=["02"]))
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
            ({"records": "train"}, "sequence of numbers"),
            ({"part": "validation"}, "part must be one of .* got 'validation'"),
            ({"split": "record"}, "split must be one of 'subject', 'window'; got 'record'"),
            ({"split": "window", "part": "dev"}, '"all", "train", "validation", "test"; got'),
            ({"records": ["02", "54"]}, "'01' to '53'"),
            ({"records": []}, "'01' to '53'"),
            ({"decimate": 3}, "divide 4000.* got 3"),
            ({"decimate": 0}, "decimate must be a whole number of at least 1, got 0"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            fetch_bidmc(**arguments, data_home="nowhere")


class TestPhysionet2012:
    STAYS = {
        140: "00:00,RecordID,140\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:00,ICUType,4\n"
        "00:00,Weight,-1\n00:07,GCS,15\n00:07,HR,73\n47:37,HR,80.5\n47:37,Weight,81\n47:37,pH,7.4\n",
        139: "00:00,RecordID,139\n00:00,Age,31\n00:00,Gender,-1\n00:00,Height,170.2\n00:00,ICUType,3\n"
        "00:00,Weight,-1\n",
    }

    @pytest.fixture(autouse=True)
    def archive(self, folder):
        """The publisher's layout: a text file a stay in a folder, and a table of outcomes."""
        stays = {f"set-a/{n}.txt": f"Time,Parameter,Value\n{text}".encode() for n, text in self.STAYS.items()}
        write_tar(folder / "physionet2012" / "set-a.tar.gz", stays)
        header = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"
        (folder / "physionet2012" / "Outcomes-a.txt").write_text(
            header + "139,6,1,5,-1,0\n140,16,8,8,2,1\n141,1,1,1,1,1\n"
        )
        stay = {"set-b/7.txt": b"Time,Parameter,Value\n00:00,RecordID,7\n00:00,Age,60\n01:30,HR,90\n"}
        write_tar(folder / "physionet2012" / "set-b.tar.gz", stay)
        (folder / "physionet2012" / "Outcomes-b.txt").write_text(header + "7,1,2,3,4,0\n")

    def test_irregular_panel(self):
        stays = fetch_physionet2012()
        panel = stays.data
        assert isinstance(panel, Panel) and panel.shape == (2, 41) and panel.time_unit == "h"
        assert panel.channel_names == tuple(stays.feature_names) and len(set(stays.feature_names)) == 41
        assert panel.ids.tolist() == [139, 140] and stays.target.tolist() == [0, 1]
        assert stays.groups.tolist() == ["a", "a"] and stays.outcomes["SOFA"].tolist() == [1, 8]

        def row(*, Age, ICUType, Gender=NAN, Height=NAN, **more):
            values = {"Age": Age, "Gender": Gender, "Height": Height, "ICUType": ICUType, **more}
            return [values.get(name, NAN) for name in stays.feature_names]

        # A stay without measurements is one sample; one that is not known, -1, is missing.
        np.testing.assert_array_equal(panel[0].values, np.float32([row(Age=31, ICUType=3, Height=170.2)]))
        patient = {"Age": 54, "Gender": 0, "ICUType": 4}
        expected = [row(**patient, GCS=15, HR=73), row(**patient, HR=80.5, Weight=81, pH=7.4)]
        np.testing.assert_array_equal(panel[1].values, np.float32(expected))
        np.testing.assert_allclose(panel[1].times, [7 / 60, 47 + 37 / 60], rtol=1e-15)

    def test_several_sets(self):
        X, y = fetch_physionet2012(("b", "a"), return_X_y=True)
        assert X.ids.tolist() == [7, 139, 140] and y.tolist() == [0, 0, 1]
        assert fetch_physionet2012("b").groups.tolist() == ["b"]

    @pytest.mark.parametrize("sets", [(), ("d",), ("a", "a"), "ab"])
    def test_bad_sets(self, sets):
        with pytest.raises(ValueError, match="sets must be some of"):
            fetch_physionet2012(sets)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"<html>", r"140.txt in .*set-a.tar.gz must start with 'Time,Parameter,Value'"),
            (b"Time,Parameter,Value\nnoon,HR,80\n", "times in .*set-a.tar.gz must be HH:MM, such as 07:30"),
            (b"Time,Parameter,Value\n00:00,Age,80\n", "1 stays have no outcome, the first of them 150"),
        ],
    )
    def test_bad_files(self, folder, content, message):
        number = 150 if b"Age" in content else 140
        write_tar(folder / "physionet2012" / "set-a.tar.gz", {f"set-a/{number}.txt": content})
        with pytest.raises(ValueError, match=message):
            fetch_physionet2012()

    def test_bad_outcomes(self, folder):
        (folder / "physionet2012" / "Outcomes-a.txt").write_text("<html>\n")
        with pytest.raises(ValueError, match=r"must have the columns RecordID .* got \['<html>'\]"):
            fetch_physionet2012()
        write_tar(folder / "physionet2012" / "set-a.tar.gz", {"set-a/README.txt": b"about"})
        with pytest.raises(ValueError, match="set-a.tar.gz holds no stays"):
            fetch_physionet2012()


class TestPhysioNet2019:
    HEADER = "|".join([*_physionet2019.SERIES, *_physionet2019.STATIC, "ICULOS", "SepsisLabel"])

    def record(self, rows):
        """A file of the publisher's: pairs of a heart rate and a label, hour by hour."""
        lines = [
            "|".join([str(rate), *["NaN"] * 33, "61.5", "1", "NaN", "NaN", "-0.03", str(hour), str(label)])
            for hour, (rate, label) in enumerate(rows, start=1)
        ]
        return "\n".join([self.HEADER, *lines, ""]).encode()

    @pytest.fixture(autouse=True)
    def archives(self, folder):
        records = {
            "training_setB/p100002.psv": self.record([("NaN", 0), (90, 1), (95, 1)]),
            "training_setB/p100001.psv": self.record([(80, 0), (81, 0)]),
        }
        (folder / "physionet2019").mkdir()
        with tarfile.open(folder / "physionet2019" / "training_setB_some.tar.xz", "w:xz") as tar:
            for name, content in records.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        with zipfile.ZipFile(folder / "physionet2019" / "training_setA.zip", "w") as archive:
            archive.writestr("training/p000001.psv", self.record([(70, 0)]))

    def test_panel_and_labels(self):
        records = fetch_physionet2019()
        panel = records.data
        assert panel.shape == (3, 39) and panel.time_unit == "h"
        assert panel.ids.tolist() == ["p000001", "p100001", "p100002"]
        assert records.target.tolist() == [0, 0, 1] and records.labels.tolist() == [0, 0, 0, 0, 1, 1]
        assert records.groups.tolist() == ["a", "b", "b"] and panel.lengths.tolist() == [1, 2, 3]
        assert panel.channel_names == tuple(records.feature_names)
        np.testing.assert_array_equal(panel[2].values[:, 0], np.float32([NAN, 90, 95]))
        np.testing.assert_array_equal(panel[2].values[0, 34:], np.float32([61.5, 1, NAN, NAN, -0.03]))
        assert panel[2].times.tolist() == [1, 2, 3]
        X, y = fetch_physionet2019("b", return_X_y=True)
        assert len(X) == 2 and y.tolist() == [0, 1]

    def test_bad_arguments_and_files(self, folder):
        with pytest.raises(ValueError, match="sets must be some of"):
            fetch_physionet2019("c")
        archive = folder / "physionet2019" / "training_setA.zip"
        for name, message in (("p1.psv", "must have the header 'HR"), ("readme.txt", "holds no records")):
            with zipfile.ZipFile(archive, "w") as file:
                file.writestr(name, "HR|Temp\n80|37\n")
            with pytest.raises(ValueError, match=message):
                fetch_physionet2019("a")
        archive.write_bytes(b"PK")
        with pytest.raises(ValueError, match="truncated or damaged"):
            fetch_physionet2019("a")


class TestFsdd:
    RECORDINGS = {
        "7_ann_3": [0, 16384, -32768],
        "0_bob_12": [1, 2, 3, 4],
        "7_ann_40": [5],
        "1_bob_0": [0] * 200,
    }

    @pytest.fixture(autouse=True, params=["recordings", "free-spoken-digit-dataset-master/recordings"])
    def archive(self, folder, request):
        """The publisher's layout: a folder of mono 16-bit files named by digit, speaker and index."""
        files = {f"{request.param}/{name}.wav": wav(samples) for name, samples in self.RECORDINGS.items()}
        name = "recordings.tar.gz" if request.param == "recordings" else "master.tar.gz"
        write_tar(folder / "fsdd" / name, files | {"README.md": b"", "utils/9_x_9.wav": b""})

    def test_published_split(self):
        digits = fetch_fsdd(part="test")
        assert digits.target.tolist() == [1, 7] and digits.groups.tolist() == ["bob", "ann"]
        assert digits.data[1].values.ravel().tolist() == [0, 0.5, -1] and digits.sampling_rate == 8000
        np.testing.assert_array_equal(digits.data[1].times, [0, 0.125, 0.25])  # ms, exact in binary
        digits = fetch_fsdd(part="train")
        assert digits.target.tolist() == [0, 7] and digits.groups.tolist() == ["bob", "ann"]
        np.testing.assert_array_equal(digits.data[0].values.ravel(), np.array([1, 2, 3, 4]) / 32768)
        digits = fetch_fsdd()
        assert digits.target.tolist() == [0, 1, 7, 7]
        assert digits.part.tolist() == ["train", "test", "test", "train"]

    def test_decimation_keeps_the_time(self):
        digits = fetch_fsdd(part="test", decimate=4)
        assert digits.data.lengths.tolist() == [50, 1] and digits.sampling_rate == 2000
        np.testing.assert_array_equal(digits.data[0].times, np.arange(50) * 0.5)

    def test_bad_arguments(self):
        for decimate in (0, 1.5, True, "2"):
            with pytest.raises(ValueError, match=f"decimate must be a whole number .* got {decimate!r}"):
                fetch_fsdd(decimate=decimate)
        with pytest.raises(ValueError, match='"all", "train", "test"; got \'dev\''):
            fetch_fsdd(part="dev")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"RIFF", "is not a wav file"),
            (wav([1], rate=16000), "at 8000 Hz, got 1 of 2 at 16000 Hz"),
            (wav([1, 2], channels=2), "must have 1 channel of 2 bytes"),
        ],
    )
    def test_bad_sound(self, tmp_path, content, message):
        write_tar(tmp_path / "other" / "fsdd" / "recordings.tar.gz", {"recordings/1_a_1.wav": content})
        with pytest.raises(ValueError, match=f"recordings/1_a_1.wav.*{message}"):
            fetch_fsdd(data_home=tmp_path / "other")


class TestSpeechCommands:
    @pytest.fixture(autouse=True)
    def archive(self, folder):
        long, short = np.arange(16000), np.arange(10)
        sounds = {
            "./yes/a1_nohash_0.wav": long,
            "./yes/b2_nohash_1.wav": long + 1,
            "./go/c3_nohash_0.wav": short,
            "./go/d4_nohash_0.wav": long + 2,
            "./cat/a1_nohash_0.wav": short,
            "./_background_noise_/noise.wav": short,
        }
        files = {name: wav(samples, 16000) for name, samples in sounds.items()}
        files["./validation_list.txt"] = b"yes/b2_nohash_1.wav\n"
        files["./testing_list.txt"] = b"go/d4_nohash_0.wav\ncat/a1_nohash_0.wav\n"
        write_tar(folder / "speech_commands" / "speech_commands_v0.02.tar.gz", files)

    def test_ten_words(self):
        words = fetch_speech_commands()
        assert words.data.shape == (3, 1, 16000) and words.data.dtype == np.float32
        assert words.target.tolist() == ["go", "yes", "yes"] and words.groups.tolist() == ["d4", "a1", "b2"]
        assert words.part.tolist() == ["test", "train", "validation"]
        np.testing.assert_array_equal(words.data[1, 0], np.arange(16000) / 32768)
        X, y = fetch_speech_commands(part="validation", decimate=4, return_X_y=True)
        assert X.shape == (1, 1, 4000) and y.tolist() == ["yes"]

    def test_all_words(self):
        words = fetch_speech_commands("sc35", part="test")
        assert words.target.tolist() == ["cat", "go"]
        np.testing.assert_array_equal(words.data[0, 0] * 32768, np.pad(np.arange(10), (0, 15990)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"subset": "sc12"}, "subset must be one of 'sc10', 'sc35'; got 'sc12'"),
            ({"part": "dev"}, "part must be one of"),
            ({"decimate": 3}, "decimate must divide 16000"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            fetch_speech_commands(**arguments)

    def test_archive_without_lists(self, folder):
        write_tar(folder / "speech_commands" / "speech_commands_v0.02.tar.gz", {"validation_list.txt": b""})
        with pytest.raises(ValueError, match="lacks testing_list.txt"):
            fetch_speech_commands()


def idx(array):
    """The idx format: two zeros, type of element, number of dimensions, sizes as big-endian words, data."""
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype("u1").tobytes()
    )


class TestImages:
    PIXELS = np.random.default_rng(0).integers(256, size=(5, 28, 28))

    @pytest.fixture(autouse=True)
    def files(self, folder):
        (folder / "mnist").mkdir()
        for name, rows in (("train", slice(3)), ("t10k", slice(3, 5))):
            images, labels = idx(self.PIXELS[rows]), idx(np.arange(5)[rows])
            (folder / "mnist" / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
            (folder / "mnist" / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))

    def test_mnist(self):
        digits = fetch_mnist()
        assert digits.data.shape == (5, 1, 784) and digits.data.dtype == np.float32
        np.testing.assert_array_equal(
            digits.data[:, 0], np.float32(self.PIXELS.reshape(5, -1)) / np.float32(255)
        )
        assert (
            digits.target.tolist() == [0, 1, 2, 3, 4] and digits.part.tolist() == ["train"] * 3 + ["test"] * 2
        )
        X, y = fetch_mnist(part="test", return_X_y=True)
        np.testing.assert_array_equal(X, digits.data[3:])
        assert y.tolist() == [3, 4]

    def test_permuted_mnist_has_one_order(self):
        plain, permuted = fetch_mnist(), fetch_mnist(permuted=True)
        assert (
            sorted(permuted.permutation) == list(range(784))
            and (permuted.permutation != np.arange(784)).any()
        )
        np.testing.assert_array_equal(permuted.data, plain.data[:, :, permuted.permutation])
        part = fetch_mnist(permuted=True, part="test")
        np.testing.assert_array_equal(part.data, permuted.data[3:])
        assert len(part.permutation) == 784

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"<html>", "not a complete gzip file"),
            (gzip.compress(idx(PIXELS))[:100], "not a complete gzip file"),
            (gzip.compress(b"\0\0\x0d\1"), "not an idx file of bytes: it starts with 00 00 0d 01"),
            (gzip.compress(idx(PIXELS)[:-1]), r"holds 3919 bytes of data, its header says \(5, 28, 28\)"),
            (gzip.compress(idx(PIXELS)), r"images \(5, 28, 28\), but there are labels \(3,\)"),
        ],
        ids=["a page", "cut off", "another type", "too short", "labels of others"],
    )
    def test_bad_idx(self, folder, content, message):
        (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            fetch_mnist()

    def test_cifar10(self, folder):
        """The binary version: batches of records of a label and the red, the green and the blue pixels."""
        rows = np.random.default_rng(0).integers(256, size=(12, 3073))
        rows[:, 0] = np.arange(12) % 10
        names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
        batches = {
            f"cifar-10-batches-bin/{name}": rows[2 * i : 2 * i + 2].astype("u1").tobytes()
            for i, name in enumerate(names)
        }
        path = folder / "cifar10" / "cifar-10-binary.tar.gz"
        write_tar(path, batches)
        images = fetch_cifar10()
        assert images.data.shape == (12, 3, 1024) and images.part.tolist() == ["train"] * 10 + ["test"] * 2
        np.testing.assert_array_equal(images.data[7, 1], np.float32(rows[7, 1025:2049]) / np.float32(255))
        assert images.target.tolist() == rows[:, 0].tolist() and images.target_names[0] == "airplane"
        grey = fetch_cifar10(grayscale=True, part="test").data
        expected = (rows[10:, 1:].reshape(2, 3, 1024) * [[0.299], [0.587], [0.114]]).sum(axis=1) / 255
        np.testing.assert_allclose(grey[:, 0], expected, rtol=1e-5)  # float32
        X, y = fetch_lra("image", part="test", return_X_y=True)
        np.testing.assert_array_equal(X, grey)
        assert y.tolist() == [0, 1]
        batches["cifar-10-batches-bin/test_batch.bin"] = b"12"
        write_tar(path, batches)
        with pytest.raises(ValueError, match="test_batch.bin must hold records of 3073 bytes, got 2 bytes"):
            fetch_cifar10()
        del batches["cifar-10-batches-bin/data_batch_3.bin"]
        write_tar(path, batches)
        with pytest.raises(ValueError, match="lacks data_batch_3.bin"):
            fetch_cifar10(part="train")


class TestUcr:
    def write(self, folder, text, part="TRAIN"):
        path = folder / "ucr" / "Toy"
        path.mkdir(parents=True, exist_ok=True)
        (path / f"Toy_{part}.tsv").write_text(text)

    def test_values_and_labels(self, folder):
        self.write(folder, "2\t0.5\t-1e-3\t3\n-1\t1\t2\tNaN\n")
        self.write(folder, "1\t7\t8\t9\n", "TEST")
        X, y = fetch_ucr("Toy", part="train", return_X_y=True)
        assert X.dtype == np.float32 and y.dtype == np.int64
        np.testing.assert_array_equal(X, np.array([[[0.5, -1e-3, 3]], [[1, 2, NAN]]], dtype=np.float32))
        assert y.tolist() == [2, -1]
        assert fetch_ucr("Toy", part="test").data.tolist() == [[[7, 8, 9]]]
        both = fetch_ucr("Toy")
        assert isinstance(both, Bunch) and both.DESCR.startswith("# ") and both.groups is None
        assert both.target.tolist() == [2, -1, 1] and both.part.tolist() == ["train", "train", "test"]

    @pytest.mark.parametrize("fetch", [fetch_ucr, fetch_uea, fetch_tser])
    def test_arguments_are_checked(self, fetch):
        with pytest.raises(ValueError, match='"all", "train", "test"; got \'TRAIN\''):
            fetch("Toy", part="TRAIN")
        for name in ("../Toy", "", "https://x.org/Toy"):
            with pytest.raises(ValueError, match="name must be the name of a data set, not a path"):
                fetch(name)
        with pytest.raises(TypeError, match="name must be a str .* got int"):
            fetch(3)


class TestTs:
    HEADER = "# Fran\xe7ois\n%note\n@problemName Toy\n@timeStamps {stamps}\n@{labels}\n@data\n"

    def text(self, lines, stamps="false", labels="classLabel true a b"):
        return (self.HEADER.format(stamps=stamps, labels=labels) + "\n".join(lines) + "\n\n").encode(
            "latin-1"
        )

    def write(self, folder, lines, collection="uea", part="TRAIN", **header):
        path = folder / collection / "Toy" / f"Toy_{part}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.text(lines, **header))

    def test_equal_length(self, folder):
        self.write(folder, ["1,2,3:4,5,?:b", "-1,0,1e2:0,0,0:a"])
        toy = fetch_uea("Toy", part="train")
        assert toy.data.dtype == np.float32 and toy.target.tolist() == ["b", "a"]
        np.testing.assert_array_equal(toy.data, [[[1, 2, 3], [4, 5, NAN]], [[-1, 0, 100], [0, 0, 0]]])
        assert toy.feature_names == ["channel 0", "channel 1"]

    def test_unequal_length_makes_a_panel(self, folder):
        self.write(folder, ["1,2,3:4,5,6:1.0", "1:2:2.0"])
        self.write(folder, ["7,8:9,0:2"], part="TEST")
        toy = fetch_uea("Toy")
        assert toy.data.lengths.tolist() == [3, 1, 2] and toy.target.dtype == np.int64
        assert toy.data[2].values.tolist() == [[7, 9], [8, 0]] and toy.part.tolist()[2] == "test"
        assert fetch_uea("Toy", part="test").data.tolist() == [[[7, 8], [9, 0]]]

    @pytest.mark.parametrize(
        ("lines", "header", "message"),
        [
            (["(0,1),(1,2):1"], {"stamps": "true"}, "Toy_TRAIN.ts has time stamps"),
            (["1,2"], {"labels": "classLabel false"}, "lacks labels"),
            (["1,2:1,2,3:a"], {}, r"line 7: the channels of a series must have one length, got \[2, 3\]"),
            (["1,2:a", "1,x:a"], {}, "line 8: could not convert string to float: 'x'"),
            ([], {}, "holds no series"),
            (["1:2:a", "1:a"], {}, r"one number of channels, got \[1, 2\]"),
        ],
    )
    def test_bad_files(self, folder, lines, header, message):
        self.write(folder, lines, **header)
        with pytest.raises(ValueError, match=message):
            fetch_uea("Toy", part="train")

    def test_the_publishers_archive(self, folder):
        (folder / "ucr").mkdir()
        with zipfile.ZipFile(folder / "ucr" / "Toy.zip", "w") as archive:
            archive.writestr("Toy_TRAIN.ts", self.text(["1,2:b"]))
            archive.writestr("Toy_TEST.ts", self.text(["3,4:a"]))
            archive.writestr("Toy.txt", "about")
        toy = fetch_ucr("Toy")
        assert toy.data.tolist() == [[[1, 2]], [[3, 4]]] and toy.target.tolist() == ["b", "a"]
        with zipfile.ZipFile(folder / "ucr" / "Toy.zip", "w") as archive:
            archive.writestr("Toy_TRAIN.arff", "")
        with pytest.raises(ValueError, match="lacks Toy_TRAIN.ts"):
            fetch_ucr("Toy")

    def test_regression(self, folder):
        for part, value in (("TRAIN", "19.25"), ("TEST", "-3")):
            self.write(folder, [f"1,?,3:4,5,6:{value}"], "tser", part, labels="targetLabel true")
        toy = fetch_tser("Toy")
        assert toy.target.tolist() == [19.25, -3] and toy.target.dtype == np.float64
        np.testing.assert_array_equal(toy.data[0], [[1, NAN, 3], [4, 5, 6]])
        self.write(folder, ["1:high"], "tser", labels="targetLabel true")
        with pytest.raises(ValueError, match="targets of Toy must be numbers"):
            fetch_tser("Toy", part="train")
        with pytest.raises(FileNotFoundError, match="no address is known for 'Other'.*AppliancesEnergy"):
            fetch_tser("Other")

    def test_repacked(self, folder):
        (folder / "uea").mkdir()
        (folder / "tser").mkdir()
        arrays = {
            "X_train": np.ones((3, 2, 4)),
            "y_train": [1, 2, 3],
            "X_test": np.zeros((1, 2, 4)),
            "y_test": [3],
        }
        np.savez(folder / "uea" / "uea_Toy.npz", **arrays)
        np.savez(folder / "tser" / "Toy.npz", **arrays)
        assert fetch_tser("Toy", part="train").target.tolist() == [1.0, 2.0, 3.0]
        toy = fetch_uea("Toy")
        assert (
            toy.data.dtype == np.float32
            and toy.data.shape == (4, 2, 4)
            and toy.target.tolist() == [1, 2, 3, 3]
        )
        arrays["X_train"][0, :, 2:] = np.nan  # a series of two samples
        np.savez(folder / "uea" / "Ragged.npz", **arrays)
        assert fetch_uea("Ragged", part="train").data.lengths.tolist() == [2, 4, 4]


class TestLra:
    def test_listops_as_released(self, folder):
        path = folder / "lra" / "listops-1000"
        path.mkdir(parents=True)
        for name in ("train", "val", "test"):
            (path / f"basic_{name}.tsv").write_text(
                "Source\tTarget\n( ( ( [MAX 4 ) ( ( [SM 3 ) 9 ) ) ] )\t4\n"
            )
        expressions = fetch_lra("listops")
        assert expressions.target.tolist() == [4, 4, 4]
        assert expressions.part.tolist() == ["train", "validation", "test"]
        words = [expressions.vocabulary[int(token)] for token in expressions.data[0].values[:, 0]]
        assert " ".join(words) == "[MAX 4 [SM 3 9 ]"
        one_hot = fetch_lra("listops", part="test", one_hot=True).data
        assert one_hot.channel_names == tuple(expressions.vocabulary)
        np.testing.assert_array_equal(one_hot.values.argmax(axis=1), expressions.data[2].values[:, 0])
        for text, message in (
            ("Source,Target\n", "must start with"),
            ("Source\tTarget\n[SUB 1 ]\t1\n", "line 2 is"),
        ):
            (path / "basic_train.tsv").write_text(text)
            with pytest.raises(ValueError, match=message):
                fetch_lra("listops", part="train")

    def test_text_repacked(self, folder):
        (folder / "lra").mkdir()
        lines = b"train\tpos\t0_9\tgood\ntrain\tneg\t1_1\tbad\tly\ntest\tneg\t0_2\tso so\n"
        (folder / "lra" / "imdb50k.tsv.xz").write_bytes(lzma.compress(lines))
        text = fetch_lra("text", part="train")
        assert text.target.tolist() == [1, 0] and text.data.lengths.tolist() == [4, 6]
        assert text.data[1].values[:, 0].astype(np.uint8).tobytes() == b"bad\tly"

    def test_listops_is_made_once(self, folder, monkeypatch):
        monkeypatch.setattr(_lra, "_LISTOPS_SIZES", {"train": 3, "validation": 1, "test": 2})
        monkeypatch.setattr("pooch.os_cache", lambda name: folder / "cache" / name)
        made = fetch_lra("listops")
        assert made.part.tolist() == ["train"] * 3 + ["validation"] + ["test"] * 2
        assert all(500 <= length <= 2000 for length in made.data.lengths)
        monkeypatch.setattr(_lra, "expressions", None)
        again = fetch_lra("listops")
        assert again.data == made.data and again.target.tolist() == made.target.tolist()

    def test_text(self, folder):
        reviews = {
            "aclImdb/train/pos/1_9.txt": "gut \xe4".encode(),
            "aclImdb/train/neg/0_1.txt": b"bad" * 2000,
            "aclImdb/train/unsup/2_0.txt": b"?",
            "aclImdb/test/pos/0_8.txt": b"ok",
            "aclImdb/train/urls_pos.txt": b"http",
        }
        write_tar(folder / "imdb" / "aclImdb_v1.tar.gz", reviews)
        text = fetch_lra("text")
        assert text.target.tolist() == [0, 1, 1] and text.part.tolist() == ["train", "train", "test"]
        assert text.data.lengths.tolist() == [4096, 6, 2]
        assert bytes(text.data[1].values[:, 0].astype("u1")).decode() == "gut \xe4"
        with pytest.raises(ValueError, match='"all", "train", "test"; got \'validation\''):
            fetch_lra("text", part="validation")

    def test_retrieval(self, folder):
        path = folder / "lra" / "tsv_data"
        path.mkdir(parents=True)
        (path / "new_aan_pairs.eval.tsv").write_bytes(
            b"1.0\tA1\tB2\tab\tc\n0.0\tA1\tC3\tab\t" + b"x" * 5000 + b"\n"
        )
        pairs = fetch_lra("retrieval", part="validation")
        assert pairs.target.tolist() == [1, 0] and pairs.data.lengths.tolist() == [4, 4003]
        assert pairs.data[0].values[:, 0].tolist() == [97, 98, 256, 99]
        assert pairs.vocabulary[256] == "separator"
        (path / "new_aan_pairs.eval.tsv").write_bytes(b"1.0\tab\tc\n")
        with pytest.raises(ValueError, match="line 1 must have 5 fields, got 3"):
            fetch_lra("retrieval", part="validation")

    def test_unknown_task(self):
        with pytest.raises(ValueError, match="task must be one of 'listops', 'text'.* got 'pathfinder'"):
            fetch_lra("pathfinder")


class TestEtt:
    def write(self, folder, hours, columns="date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"):
        stamps = pd.date_range("2016-07-01", periods=hours, freq="h")
        table = pd.DataFrame(
            {"date": stamps, **{name: np.arange(hours) + i for i, name in enumerate("abcdefg")}}
        )
        (folder / "ett").mkdir(exist_ok=True)
        table.to_csv(folder / "ett" / "ETTh1.csv", index=False, header=columns.split(","))

    def test_published_split(self, folder):
        self.write(folder, 14_500)
        ett = fetch_ett()
        assert ett.data.shape == (14_500, 6) and ett.target.name == "OT" and ett.target.iloc[3] == 9
        parts, counts = np.unique(ett.part, return_counts=True)
        assert dict(zip(parts, counts, strict=True)) == {
            "train": 8640,
            "validation": 2880,
            "test": 2880,
            "rest": 100,
        }
        test = fetch_ett(part="test")
        assert test.target.index[0] == pd.Timestamp("2016-07-01") + pd.Timedelta(hours=11520)
        assert list(test.frame.columns) == [*test.feature_names, "OT"] and len(test.frame) == 2880
        X, y = fetch_ett(part="validation", return_X_y=True)
        assert X.index.equals(y.index) and len(y) == 2880

    def test_bad_input(self, folder):
        self.write(folder, 3, "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,temperature")
        with pytest.raises(ValueError, match="must have the columns date, .* OT; got .*'temperature'"):
            fetch_ett()
        with pytest.raises(ValueError, match="name must be one of 'ETTh1', .* got 'ETTh3'"):
            fetch_ett("ETTh3")


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
class TestRealData:
    def test_bidmc(self):
        X, y, groups = unpacked(fetch_bidmc(decimate=5))
        assert X.shape[1:] == (2, 800) and np.isfinite(X).all()
        assert len(set(groups)) == 28 and len(X) == len(y) == len(groups)
        # 150 windows a record; only record 27 has seconds without a heart rate.
        counts = dict(zip(*np.unique(groups, return_counts=True), strict=True))
        assert all(count == 150 for record, count in counts.items() if record != "27")
        assert 100 < counts["27"] < 150
        assert 40 < y.min() and y.max() < 160

    def test_bidmc_heart_rate_is_in_the_ecg(self):
        X, y = fetch_bidmc(channels=["II"], records=["02"], return_X_y=True)
        spectrum = np.abs(np.fft.rfft(X[:, 0] - X[:, 0].mean(axis=1, keepdims=True), n=32768))
        beats_a_minute = np.fft.rfftfreq(32768, 1 / RATE) * 60
        band = (beats_a_minute > 40) & (beats_a_minute < 160)
        estimate = beats_a_minute[band][spectrum[:, band].argmax(axis=1)]
        assert np.median(np.abs(estimate - y)) < 2  # beats a minute

    def test_bidmc_publishers_files(self, tmp_path, monkeypatch):
        repacked = fetch_bidmc("RR", records=["03"])
        (tmp_path / "bidmc").mkdir()
        (tmp_path / "bidmc" / "bidmc_csv").symlink_to(
            Path(os.environ["TSSSM_DATA"], "bidmc", "bidmc_csv").resolve()
        )
        monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
        published = fetch_bidmc("RR", records=["03"])
        np.testing.assert_allclose(
            repacked.data, published.data, rtol=0, atol=1e-7
        )  # float32, values under 1
        np.testing.assert_array_equal(repacked.target, published.target)

    def test_physionet2012(self):
        stays = fetch_physionet2012()
        panel = stays.data
        assert panel.shape == (4000, 41) and stays.target.sum() == 554  # as the challenge states for set A
        assert panel.times.min() >= 0 and panel.times.max() <= 48
        heart_rate = panel.values[:, stays.feature_names.index("HR")]
        assert 80 < np.nanmean(heart_rate) < 95
        constant = panel[10].values[:, : stays.feature_names.index("ALP")]
        np.testing.assert_array_equal(constant, np.repeat(constant[:1], len(constant), axis=0))

    def test_fsdd(self):
        sizes = {}
        digits = fetch_fsdd()
        for split in ("train", "test"):
            chosen = digits.part == split
            sizes[split] = int(chosen.sum())
            pairs, counts = np.unique(
                np.stack([digits.target[chosen].astype(str), digits.groups[chosen]]),
                axis=1,
                return_counts=True,
            )
            assert pairs.shape[1] == 60 and (counts == sizes[split] / 60).all()
        assert sizes == {"train": 2700, "test": 300} and np.abs(digits.data.values).max() <= 1
        assert (digits.data.lengths.min(), digits.data.lengths.max()) == (1148, 18262)

    def test_mnist(self):
        digits = fetch_mnist()
        assert digits.data.shape == (70_000, 1, 784) and (digits.part == "test").sum() == 10_000
        assert np.bincount(digits.target[digits.part == "test"]).tolist()[:3] == [980, 1135, 1032]
        assert digits.data[0].reshape(28, 28)[14].max() > 0.5 and digits.data[0].reshape(28, 28)[0].max() == 0

    def test_ett(self):
        ett = fetch_ett()
        assert ett.frame.shape == (17_420, 7) and np.isfinite(ett.frame.to_numpy()).all()
        assert (np.diff(ett.frame.index) == pd.Timedelta("1h")).all() and (ett.part == "rest").sum() == 3020

    def test_every_ucr_set(self):
        names = sorted(path.name for path in Path(os.environ["TSSSM_DATA"], "ucr").iterdir())
        assert len(names) == 24
        for name in names:
            both = fetch_ucr(name)
            assert both.data.ndim == 3 and len(both.data) == len(both.target) == len(both.part)
            train, test = (set(both.target[both.part == part]) for part in ("train", "test"))
            assert test <= train and len(train) > 1, name
        assert fetch_ucr("GunPoint", part="train").data.shape == (50, 1, 150)
        assert fetch_ucr("GunPoint", part="test").data.shape == (150, 1, 150)

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
        X, y = fetch_uea(name, part="train", return_X_y=True)
        assert X.shape == train and len(y) == train[0] and len(set(y.tolist())) == classes
        X, y = fetch_uea(name, part="test", return_X_y=True)
        assert X.shape == (test, *train[1:]) and len(y) == test and len(set(y.tolist())) == classes
        assert y.dtype == np.int64


def test_every_public_name_is_documented():
    for name in datasets.__all__:
        text = getattr(datasets, name).__doc__
        for section in ("Parameters", "Returns", "Raises", "``DESCR``", "return_X_y"):
            assert section in text, (name, section)
