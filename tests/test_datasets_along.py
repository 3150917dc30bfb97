"""Loaders of recordings with labels along time: of repacked files, and of publishers' made up here."""

from __future__ import annotations

import io
import lzma
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tsssm.datasets import fetch_hapt, fetch_ludb, fetch_mitbih


def pack(path: Path, **arrays: Any) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(content.getvalue()))


def steps(numbers: np.ndarray) -> np.ndarray:
    return np.diff(numbers, axis=-1, prepend=0).astype(np.int16)


@pytest.fixture
def mitbih(tmp_path: Path) -> Path:
    arrays: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for record, leads in (("101", ["MLII", "V1"]), ("114", ["V5", "MLII"]), ("118", ["MLII", "V1"])):
        numbers = rng.integers(-30_000, 30_000, size=(2, 720))  # so far that differences wrap around
        numbers[leads.index("MLII")] = 1024 + np.arange(720) % 200
        arrays[f"{record}_d"] = steps(numbers)
        arrays[f"{record}_leads"] = np.array(leads)
        arrays[f"{record}_ann_sample"] = np.array([5, 90, 180, 270, 360, 450], dtype=np.int32)
        arrays[f"{record}_ann_symbol"] = np.array(["+", "N", "a", "V", "F", "/"], dtype="S1")
    pack(tmp_path / "mitbih" / "mitbih_ds1.npz.xz", records=np.array(["101", "114", "118"]), **arrays)
    return tmp_path


def test_beats_of_mitbih(mitbih: Path) -> None:
    found = fetch_mitbih(records=["118", "101", "114"], data_home=mitbih)
    assert found.data.ids.tolist() == ["101", "114", "118"] and found.part.tolist() == [
        "train",
        "train",
        "test",
    ]
    expected = (np.arange(720) % 200) / 200
    for series in found.data:  # MLII comes first
        np.testing.assert_allclose(series.values[:, 0], expected, atol=1e-6)
    times, classes = found.target[0]
    np.testing.assert_allclose(times, [0.25, 0.5, 0.75, 1.0, 1.25])
    assert classes.tolist() == ["N", "S", "V", "F", "Q"] and found.symbols[1].tolist() == list("NaVF/")
    X, y = fetch_mitbih(records=["118", "101"], part="test", decimate=3, return_X_y=True, data_home=mitbih)
    assert len(X) == len(y) == 1 and X.lengths[0] == 240
    assert X.times[1] == pytest.approx(1 / 120) and X.time_unit == "s"


def test_published_records_are_read_by_wfdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for record in ("100", "101"):
        for ending in ("hea", "dat", "atr"):
            place = tmp_path / "mitbih" / f"{record}.{ending}"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(b"x")
    monkeypatch.setenv("TSSSM_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(ImportError, match=r"tsssm\[wfdb\]"):
        fetch_mitbih(records=["101"])
    signal = np.stack([np.arange(8.0), -np.arange(8.0)], axis=1)
    stub = SimpleNamespace(
        rdrecord=lambda stem: SimpleNamespace(p_signal=signal, sig_name=["V5", "MLII"]),
        rdann=lambda stem, ending: SimpleNamespace(sample=[2, 4], symbol=["N", "~"]),
    )
    monkeypatch.setitem(sys.modules, "wfdb", stub)
    found = fetch_mitbih(split="inter-patient", records=["100", "101"])
    assert found.part.tolist() == ["test", "train"]
    np.testing.assert_array_equal(found.data[0].values[:, 0], -np.arange(8.0))
    assert found.target[0][1].tolist() == ["N"]


def test_waves_of_ludb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-500, 500, size=(2, 12, 5000))
    label = np.zeros((2, 12, 5000), dtype=np.uint8)
    label[:, :, 100:150], label[:, :, 200:220], label[:, :, 300:380] = 1, 2, 3
    label[1, 1] = 0
    gain, baseline = np.full((2, 12), 200.0, dtype=np.float32), np.full((2, 12), 7, dtype=np.int16)
    pack(tmp_path / "ludb" / "ludb150.npz.xz", d=steps(numbers), label=label, gain=gain, baseline=baseline)
    found = fetch_ludb(records=[1, 2], leads=["ii", "v6"], data_home=tmp_path)
    assert found.data.shape == (4, 1, 5000) and found.target.shape == (4, 5000)
    np.testing.assert_allclose(found.data[3, 0], (numbers[1, 11] - 7) / 200, rtol=1e-6)
    assert found.groups.tolist() == [1, 1, 2, 2] and found.lead.tolist() == ["ii", "v6"] * 2
    np.testing.assert_array_equal(found.target[0, 100:380], label[0, 1, 100:380])
    assert (found.target[0, :100] == -1).all() and (found.target[0, 380:] == -1).all()
    assert (found.target[2] == -1).all()
    assert fetch_ludb(records=[1], decimate=2, data_home=tmp_path).target.shape == (12, 2500)

    for ending in ("hea", "dat", "ii"):
        place = tmp_path / "published" / "ludb" / "data" / f"151.{ending}"
        place.parent.mkdir(exist_ok=True, parents=True)
        place.write_bytes(b"x")
    monkeypatch.setenv("TSSSM_DATA", str(tmp_path / "published"))
    marks = [(10, "("), (12, "p"), (20, ")"), (30, "("), (33, "N"), (40, ")"), (50, "t"), (60, ")")]
    stub = SimpleNamespace(
        rdrecord=lambda stem: SimpleNamespace(p_signal=np.ones((5000, 2)), sig_name=["I", "II"]),
        rdann=lambda stem, lead: SimpleNamespace(sample=[k for k, _ in marks], symbol=[s for _, s in marks]),
    )
    monkeypatch.setitem(sys.modules, "wfdb", stub)
    waves = fetch_ludb(records=[151], leads=["ii"]).target[0]
    assert [int((waves == wave).sum()) for wave in (1, 2, 3)] == [11, 11, 0]
    assert (waves[21:30] == 0).all() and (waves[41:] == -1).all()


def test_people_of_hapt(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"acc_scale_g": np.array(0.5), "gyro_scale_rad_s": np.array(0.25)}
    numbers = np.arange(60).reshape(3, 20)
    for name, length in (("e01_u01", 20), ("e36_u18", 14)):
        arrays[f"{name}_acc_diff"] = arrays[f"{name}_gyro_diff"] = steps(numbers[:, :length])
        arrays[f"{name}_y"] = np.arange(length, dtype=np.uint8) % 13
    pack(tmp_path / "hapt" / "hapt_u01_u21.npz.xz", **arrays)
    found = fetch_hapt(data_home=tmp_path)
    assert found.groups.tolist() == [1, 18] and found.part.tolist() == ["train", "test"]
    np.testing.assert_allclose(found.data[0].values.T, np.concatenate([numbers * 0.5, numbers * 0.25]))
    assert found.target[1].tolist() == [*range(13), 0] and len(found.target_names) == 13
    assert len(fetch_hapt(part="test", data_home=tmp_path).data) == 1

    with zipfile.ZipFile(tmp_path / "hapt" / "HAPT Data Set.zip", "w") as archive:
        for kind, scale in (("acc", 0.5), ("gyro", 0.25)):
            text = "\n".join(" ".join(map(str, row)) for row in (numbers * scale).T)
            archive.writestr(f"HAPT Data Set/RawData/{kind}_exp01_user29.txt", text)
        archive.writestr("HAPT Data Set/RawData/labels.txt", "1 29 5 3 6\n1 29 8 7 8\n2 30 1 1 4\n")
        archive.writestr("HAPT Data Set/README.txt", "no data")
    published = fetch_hapt(people="all", data_home=tmp_path)
    np.testing.assert_allclose(published.data.values.T, found.data[0].values.T)
    assert published.target[0].tolist() == [
        0,
        0,
        5,
        5,
        5,
        5,
        8,
        8,
        *[0] * 12,
    ] and published.groups.tolist() == [29]


def test_arguments_are_checked(mitbih: Path) -> None:
    for wrong in ({"split": "beat"}, {"part": "validation"}, {"decimate": 7}, {"records": ["100"]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fetch_mitbih(data_home=mitbih, **wrong)
    for wrong in ({"leads": "ii"}, {"leads": ["x"]}, {"records": [0]}, {"decimate": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fetch_ludb(data_home=mitbih, **wrong)
    with pytest.raises(ValueError, match="people"):
        fetch_hapt(people="some", data_home=mitbih)
    with pytest.raises(FileNotFoundError, match="hapt"):
        fetch_hapt(data_home=mitbih, download_if_missing=False)
    (mitbih / "mitbih" / "mitbih_ds1.npz.xz").write_bytes(b"broken")
    with pytest.raises(ValueError, match="not a readable archive of arrays"):
        fetch_mitbih(records=["101"], data_home=mitbih)


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
def test_the_sets_at_hand() -> None:
    assert len(fetch_hapt(part="test").data) == 12
    beats = fetch_mitbih(part="test", decimate=4)
    assert len(beats.data) == 6 and sum((classes == "V").sum() for _, classes in beats.target) == 1168
    assert fetch_ludb(part="test", leads=["ii"], decimate=2).data.shape == (30, 1, 2500)
