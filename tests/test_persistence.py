"""Model files: what goes in comes out, and what is not a model file stays out."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sktime.base import load as sktime_load

import tsssm.estimators
from tsssm import (
    SSMClassifier,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    load,
    persistence,
)
from tsssm.backbone import BACKBONES, Backbone
from tsssm.encoding import Categories
from tsssm.estimators._earlier_files import _OF_TARGETS, upgrade
from tsssm.persistence import ModelFileError, UnsavableError, read, register, write
from tsssm.persistence._kinds import kinds


class Box:
    """Anything that is to go through a file."""

    def __init__(self, content: Any) -> None:
        self.content = content


register("Box", Box, {"content": "anything"})(lambda fields: Box(fields.take("content")))


def through_a_file(content: Any, tmp_path: Path) -> Any:
    path = tmp_path / "box.safetensors"
    write(path, Box(content))
    return read(path).content


def same(found: Any, expected: Any) -> bool:
    """Equal in value and in type, NaN equal to NaN."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, np.ndarray):
        equal_nan = expected.dtype.kind in "fmM"
        return (found.dtype, found.shape) == (expected.dtype, expected.shape) and (
            np.array_equal(found, expected, equal_nan=equal_nan)
        )
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, pd.Index):
        return found.equals(expected) and found.names == expected.names
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, Categories):
        return same(vars(found), vars(expected))
    if isinstance(expected, dict):
        return same(list(found.items()), list(expected.items()))
    if isinstance(expected, (float, np.floating)) and math.isnan(expected):
        return math.isnan(found)
    return found == expected


# What a file holds


@pytest.mark.parametrize(
    "content",
    [
        None,
        True,
        10**30,
        0.1,
        -0.0,
        math.nan,
        -math.inf,
        "naïve \N{SNOWMAN} \ud800",
        [1, [2.5, "x"], ()],
        (1, (2, None)),
        {"a": 1, 2: "b", (3, "c"): {}, None: [math.nan], np.str_("label"): 0},
        np.float64(0.1),
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
        np.str_("text"),
        np.datetime64("2020-01-02T03:04:05", "s"),
        np.array(3.5),
        np.zeros((0, 3), dtype=np.float16),
        np.arange(6, dtype=np.uint16).reshape(2, 3).T,
        np.array([1.5, math.nan, -math.inf]),
        np.array([1, 2], dtype=">i4").astype("<i4"),
        np.array([True, False]),
        np.array([complex(-0.0, 1.5), complex(math.inf, 0.0)]),
        np.ones((2, 3), dtype=np.complex64).T * 1j,
        np.complex128(1 - 2j),
        np.array(["a", "longer"], dtype="<U9"),
        np.array([["a"], ["b"]], dtype=object),
        np.array([1, "one", None, 2.5, True], dtype=object),
        np.array(["2020-01-01", "NaT"], dtype="datetime64[us]"),
        np.array([5, -5], dtype="timedelta64[s]"),
        torch.arange(4.0).reshape(2, 2).T,
        torch.tensor(7),
        pd.Index(["a", "b"], name="columns"),
        pd.Index([2, 0]),
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(content, tmp_path):
    assert same(through_a_file(content, tmp_path), content)


def test_big_endian_numbers_keep_their_values(tmp_path):
    found = through_a_file(np.array([1, 2], dtype=">i4"), tmp_path)
    assert found.tolist() == [1, 2] and found.dtype == np.dtype("int32")


def test_a_random_state_goes_on_where_it_was(tmp_path):
    state = np.random.RandomState(3)
    state.normal(size=5)
    found = through_a_file(state, tmp_path)
    np.testing.assert_array_equal(found.normal(size=7), state.normal(size=7))


def test_what_is_read_can_be_written_to(tmp_path):
    array, tensor = through_a_file([np.zeros(3), torch.zeros(3)], tmp_path)
    array += 1
    tensor += 1
    assert array.tolist() == tensor.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (print, r"Box\.content is of type builtin_function_or_method"),
        ({"a": [object()]}, r"Box\.content\['a'\] is of type object"),
        (np.zeros(2, dtype="V3"), r"Box\.content is an array of \|V3"),
        (np.zeros(2, dtype="S3"), r"Box\.content is an array of \|S3"),
        (np.array([print]), r"Box\.content is of type builtin"),
        (math.pi * 1j, r"Box\.content is of type complex"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_by_name(content, where, tmp_path):
    with pytest.raises(UnsavableError, match=where):
        write(tmp_path / "box.safetensors", Box(content))
    assert list(tmp_path.iterdir()) == []


# How a file is written


def test_a_file_is_plain_safetensors(tmp_path):
    path = tmp_path / "box.safetensors"
    write(path, Box({"weights": torch.ones(2, 3), "name": "x"}))
    ((name, array),) = safetensors.numpy.load_file(path).items()
    assert "weights" in name and array.tolist() == np.ones((2, 3)).tolist()
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "tsssm" and metadata["format_version"] == str(persistence.FORMAT_VERSION)
    assert json.loads(metadata["versions"]).keys() >= {"tsssm", "torch", "numpy"}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "box.safetensors"
    write(path, Box(1))

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(path, Box(2))
    assert read(path).content == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "box.safetensors"
    write(path, Box(np.zeros(20_000)))
    done = threading.Event()

    def rewrite() -> None:
        for number in range(30):
            write(path, Box(np.full(20_000, float(number))))
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    while not done.is_set():
        assert len(np.unique(read(path).content)) == 1
    writer.join()


# What is no model file


def model_file(tmp_path: Path, **changes: str) -> Path:
    """A file with other metadata than `write` gives it, and the right digest."""
    path = tmp_path / "box.safetensors"
    write(path, Box([np.arange(3.0), "text"]))
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = safetensors.numpy.load_file(path)
    metadata.update(changes)
    metadata["digest"] = changes.get("digest", persistence._files._digest(metadata["state"], arrays))
    path.write_bytes(safetensors.numpy.save(arrays, metadata))
    return path


def test_foreign_files_are_refused_by_name(tmp_path):
    foreign = {
        "empty": b"",
        "text": b"hello, world, this is no model",
        "pickle": pickle.dumps({"a": 1}),
        "safetensors": safetensors.numpy.save({"a": np.zeros(3)}),
        "of others": safetensors.numpy.save({"a": np.zeros(3)}, {"format": "pt"}),
        "huge header": (2**62).to_bytes(8, "little") + b"{}",
    }
    for name, content in foreign.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=rf"{name}\.safetensors is .*no model file"):
            read(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read(tmp_path / "missing.safetensors")


def test_a_zip_of_pickles_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_obj", b"")
    with pytest.raises(ModelFileError, match=r"model\.zip is a zip archive.*sktime\.base\.load"):
        read(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    path = model_file(tmp_path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match=r"box\.safetensors"):
            read(path)


def test_a_changed_bit_is_noticed_anywhere(tmp_path):
    path = model_file(tmp_path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    with safetensors.safe_open(path, "numpy") as file:
        state = file.metadata()["state"].encode()
    escaped = json.dumps(state.decode()).encode()[1:-1]
    for first, size in ((content.index(escaped), len(escaped)), (start, len(content) - start)):
        for place in range(first, first + size):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(ModelFileError, match=r"box\.safetensors"):
                read(path)


def test_a_newer_format_is_refused(tmp_path):
    path = model_file(tmp_path, format_version=str(persistence.FORMAT_VERSION + 1))
    with pytest.raises(ModelFileError, match=r"box.safetensors has format 3, .* up to 2.*update tsssm"):
        read(path)
    path = model_file(tmp_path, state='{"object": ["Box", 2, {"content": 1}]}')
    with pytest.raises(ModelFileError, match=r"a 'Box' of version 2, .* up to 1: update tsssm"):
        read(path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path):
    """States that an attacker might write, with a digest that fits."""
    sprung = tmp_path / "sprung"
    call = ["os.system", {"command": f"touch {sprung}"}]
    states: list[Any] = [
        {"object": call},
        {"object": ["builtins.eval", 1, {"content": f"open({str(sprung)!r}, 'w')"}]},
        {"object": ["Box", 1, {"content": {"object": call}}]},
        {"object": ["Box", 1, {"unknown": 1}]},
        {"object": ["Box", 1, {"content": 1, "unknown": 1}]},
        {"object": ["Box", 0, {"content": 1}]},
        {"object": ["Box", {"content": 1}]},
        {"object": ["Box", "1", {"content": 1}]},
        {"object": ["Box"]},
        {"object": [["Box"], 1, {}]},
        {"pickle": pickle.dumps(Trap(sprung)).hex()},
        {"__reduce__": call},
        {"array": "../../etc/passwd"},
        {"array": ["unhashable"]},
        {"text array": ["O", [1], ["x"]]},
        {"object array": ["O", [2**40], [1]]},
        {"time array": ["O", {"array": "Box.content#0"}]},
        {"time array": ["V8", {"array": "Box.content#0"}]},
        {"float": "__import__('os')"},
        {"random state": ["MT19937", 1]},
        {"random state": ["MT19937", 1, 2, 3, 4]},
        {"random state": ["PCG64", {"array": "Box.content#0"}, 1, 0, 0.0]},
        {"random state": ["MT19937", {"array": "Box.content#0"}, 10**6, 0, 0.0]},
        {"dict": [[[], 1]]},
        {"tensor": []},
        {"two": 1, "keys": 2},
        {},
    ]
    for state in states:
        with pytest.raises(ModelFileError, match=r"box\.safetensors (cannot be read|holds no valid model)"):
            content = read(model_file(tmp_path, state=json.dumps(state))).content
            raise AssertionError(content)
    for state in ("[" * 100_000 + "]" * 100_000, "not json", "", '{"float": NaN'):
        with pytest.raises(ModelFileError, match=r"box\.safetensors holds no valid model"):
            read(model_file(tmp_path, state=state))
    for trap in (pickle.dumps(Trap(sprung)), pickle.dumps(Trap(sprung), 0)):
        path = tmp_path / "trap.safetensors"
        path.write_bytes(trap)
        with pytest.raises(ModelFileError):
            read(path)
    assert not sprung.exists()


# Estimators


@pytest.fixture
def classifier(labelled, tiny) -> SSMClassifier:
    X, y = labelled
    return SSMClassifier(**tiny).fit(X, y)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_comes_back(backbone, tmp_path):
    net = Backbone(3, 2, backbone=backbone, n_layers=2, d_model=4, d_state=6, dt_min=0.01, dt_max=0.3).eval()
    write(tmp_path / "net.safetensors", net)
    state = torch.get_rng_state()
    found = read(tmp_path / "net.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert found.config == net.config and not found.training
    expected = dict([*net.named_parameters(), *net.named_buffers()])
    tensors = dict([*found.named_parameters(), *found.named_buffers()])
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name
        assert (tensor.dtype, tensor.requires_grad) == (expected[name].dtype, expected[name].requires_grad)


@pytest.mark.parametrize("backbone", ["s4", "lssl", "lssl-fixed", "s4d", "liquid-s4"])
def test_a_network_of_the_first_files_computes_what_it_did(backbone):
    """They name no rule of discretisation, have no number of readouts, and no scale of the liquid term."""
    rule = {"s4d": "zoh", "liquid-s4": "zoh"}.get(backbone, "bilinear")
    sizes = {"n_layers": 2, "d_model": 4, "d_state": 6, "dt_min": 0.01, "dt_max": 0.3}
    net = Backbone(3, 2, backbone=backbone, discretization=rule, **sizes).eval()
    for block in net.blocks:
        if backbone == "liquid-s4":
            block.layer.scale.fill_(1)
    config = {name: value for name, value in net.config.items() if name != "n_readouts"}
    weights = {name: value for name, value in net.state_dict().items() if not name.endswith("scale")}
    state = {"config": {**config, "discretization": None}, "weights": weights}
    kind = kinds["Backbone"]
    u, dt = torch.randn(2, 9, 3), torch.rand(2, 9) + 0.1
    assert torch.equal(kind.made_of(upgrade(kind, 0, state))(u, dt), net(u, dt))


def test_a_classifier_comes_back(classifier, labelled, tmp_path):
    X, _ = labelled
    classifier.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        load(tmp_path / "model.safetensors").predict_proba(X), classifier.predict_proba(X)
    )


def test_everything_that_fit_has_set_comes_back(labelled, tiny, tmp_path):
    X, y = labelled
    X = X.copy()
    X[::3, 0, 2:5] = np.nan
    frame = pd.concat({i: pd.DataFrame(x.T, columns=["a", "b"]) for i, x in enumerate(X)})
    options = {"early_stopping": True, "class_weight": {"high": 2.0, "low": 1.0, "mid": 1.0}}
    clf = SSMClassifier(**tiny, **options, norm="layer", pooling="last", time_scale=0.5).fit(frame, y)
    clf.save(str(tmp_path / "model.safetensors"))
    loaded = SSMClassifier.load(str(tmp_path / "model.safetensors"))
    assert loaded.get_params() == clf.get_params()
    assert vars(loaded).keys() == vars(clf).keys()
    for name, value in vars(clf).items():
        if name in ("encoder_", "_familiar", "_targets"):
            assert same(dict(sorted(vars(getattr(loaded, name)).items())), dict(sorted(vars(value).items())))
        elif name not in ("net_", "_config_dynamic"):  # the latter is sktime's
            assert same(getattr(loaded, name), value), name
    np.testing.assert_array_equal(loaded.predict_proba(frame), clf.predict_proba(frame))
    with pytest.raises(ValueError, match=r"must have the names .*lacks \['a'\], unknown are \['c'\]"):
        loaded.predict(frame.rename(columns={"a": "c"}))
    # It is an estimator like any other.
    assert clone(loaded).get_params() == clf.get_params()
    refitted = loaded.fit(frame, y)
    np.testing.assert_array_equal(refitted.predict_proba(frame), clf.predict_proba(frame))
    pickled = pickle.loads(pickle.dumps(load(tmp_path / "model.safetensors")))
    np.testing.assert_array_equal(pickled.predict_proba(frame), clf.predict_proba(frame))


@pytest.mark.parametrize("kind", [SSMFeaturesClassifier, SSMFeaturesRegressor])
def test_what_a_file_would_leave_out_is_not_saved(kind, labelled, tmp_path):
    X, y = labelled
    model = kind(n_features=64, n_scales=2, random_state=0).fit(X, np.arange(len(y)) % 2)
    for owner in (model, model._targets):
        owner.forgotten = 1.0
        with pytest.raises(UnsavableError, match="forgotten"):
            model.save(tmp_path / "model.safetensors")
        del owner.forgotten
    model.save(tmp_path / "model.safetensors")


def test_a_regressor_keeps_the_scale_and_the_columns_of_its_targets(labelled, tiny, tmp_path):
    X, _ = labelled
    y = pd.DataFrame({"level": 100 + 9 * X.mean(axis=(1, 2)), "spread": X.std(axis=(1, 2))})
    for target in (y, y.to_numpy(), y["level"].to_numpy()):
        reg = SSMRegressor(**tiny).fit(X, target)
        reg.save(tmp_path / "model.safetensors")
        found, expected = load(tmp_path / "model.safetensors").predict(X), reg.predict(X)
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected)
        if isinstance(expected, pd.DataFrame):
            assert list(found.columns) == ["level", "spread"]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, 1]),
        np.array([True, False]),
        np.array(["b", "a"], dtype=object),
        pd.Series(["b", "a"], dtype="string"),
        pd.Series(["b", "a"], dtype="category"),
        np.array([1.0, 0.0]),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_keep_their_type(labels, labelled, tiny, tmp_path):
    X, _ = labelled
    y = labels[np.arange(24) % 2]
    if isinstance(y, pd.Series):
        y = y.reset_index(drop=True)
    clf = SSMClassifier(**tiny).fit(X, y)
    clf.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert same(loaded.classes_, clf.classes_)
    assert same(loaded.predict(X), clf.predict(X))


def every_prediction(estimator, X) -> dict[str, Any]:
    """What every method returns that takes X alone."""
    names = ("predict", "predict_proba", "transform", "decision_function")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


@pytest.mark.parametrize(
    "name", [name for name in tsssm.estimators.__all__ if not name.endswith(("load", "save", "Forecaster"))]
)
def test_every_estimator_comes_back(name, labelled, tmp_path):
    X, y = labelled
    estimator = getattr(tsssm.estimators, name)
    fitted = estimator(**estimator.get_test_params()[0])
    targets = X.mean(axis=(1, 2)) if "Regressor" in name else y
    fitted.fit(X, np.repeat(targets[:, None], X.shape[2], axis=1) if "Sequence" in name else targets)
    fitted.save(tmp_path / "model.safetensors")
    found, expected = every_prediction(load(tmp_path / "model.safetensors"), X), every_prediction(fitted, X)
    assert found.keys() == expected.keys() and found
    for method, values in expected.items():
        np.testing.assert_array_equal(np.asarray(found[method]), np.asarray(values), err_msg=method)


def test_a_header_of_any_length_is_read(tmp_path):
    """That of 0x4b50 bytes begins like a zip archive."""
    path = tmp_path / "model.safetensors"
    write(path, Box(""))
    missing = 0x4B50 - int.from_bytes(path.read_bytes()[:8], "little")
    write(path, Box("x" * missing))
    assert path.read_bytes()[:4] == b"PK\0\0"
    assert read(path).content == "x" * missing


def test_several_targets_and_spreads_come_back(labelled, tiny, tmp_path):
    X, y = labelled
    path = tmp_path / "model.safetensors"
    for labels in (np.stack([y, y[::-1]], axis=1), pd.DataFrame({"a": y, "b": y[::-1]})):
        clf = SSMClassifier(**tiny).fit(X, labels)
        clf.save(path)
        found, expected = load(path).predict(X), clf.predict(X)
        assert type(found) is type(expected)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    reg = SSMRegressor(**tiny, loss="gaussian").fit(X, X.mean(axis=(1, 2)))
    reg.save(path)
    for found, expected in zip(
        load(path).predict(X, return_std=True), reg.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_partial_fit_goes_on_from_a_file(labelled, tiny, tmp_path):
    X, y = labelled
    clf = SSMClassifier(**tiny).partial_fit(X, y, classes=np.unique(y))
    clf.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    # The moments of the optimiser come with it.
    expected = clf.partial_fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(loaded.partial_fit(X, y).predict_proba(X), expected)


def test_a_single_class_comes_back(labelled, tiny, tmp_path):
    X, _ = labelled
    with pytest.warns(UserWarning, match="single label"):
        clf = SSMClassifier(**tiny).fit(X, ["only"] * 24)
    clf.save(tmp_path / "model.safetensors")
    assert set(load(tmp_path / "model.safetensors").predict(X)) == {"only"}


def test_a_random_state_and_what_no_file_holds(labelled, tiny, tmp_path):
    from lightning.pytorch.callbacks import EarlyStopping

    X, y = labelled
    options = {"callbacks": [EarlyStopping("train_loss")], "trainer_kwargs": {"detect_anomaly": True}}
    clf = SSMClassifier(**{**tiny, **options, "random_state": np.random.RandomState(5)}).fit(X, y)
    with pytest.warns(UserWarning, match="leaves out callbacks, .* loaded SSMClassifier has the default"):
        clf.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.callbacks is None and len(clf.callbacks) == 1
    assert loaded.trainer_kwargs == {"detect_anomaly": True}
    np.testing.assert_array_equal(loaded.random_state.normal(size=3), clf.random_state.normal(size=3))


def test_a_class_of_the_user_comes_back_where_it_is_known(labelled, tiny, tmp_path, monkeypatch):
    class Patched(SSMClassifier):
        pass

    X, y = labelled
    clf = Patched(**tiny).fit(X, y)
    clf.remark_ = "mine"
    clf.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert type(loaded) is Patched and loaded.remark_ == "mine"
    kind = kinds[f"{__name__}.{Patched.__qualname__}"]
    for name in ("predict", "d_model", "net_", "_targets", "_is_fitted"):
        with pytest.raises(ModelFileError, match=f"Patched would override {name} of the class"):
            kind.made_of({**kind.state(clf), "others": {name: 1}})
    monkeypatch.delitem(persistence._kinds.kinds, f"{__name__}.{Patched.__qualname__}")
    with pytest.raises(ModelFileError, match="Patched', which is not known here. Import the module"):
        load(tmp_path / "model.safetensors")


def test_the_wrong_kind_of_model_is_refused(classifier, tmp_path):
    path = tmp_path / "model.safetensors"
    classifier.save(path)
    with pytest.raises(ModelFileError, match="holds a SSMClassifier, not a SSMRegressor"):
        SSMRegressor.load(path)
    write(path, classifier.encoder_)
    with pytest.raises(ModelFileError, match="holds a PanelEncoder, which is not an estimator"):
        load(path)


def test_only_fitted_estimators_are_saved(tmp_path):
    with pytest.raises(NotFittedError, match="SSMClassifier has not been fitted"):
        SSMClassifier().save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_would_not_be_read_again_is_not_written(classifier, tmp_path):
    classifier.net_.config["d_model"] = 4
    with pytest.raises(UnsavableError, match="not be loaded again: its Backbone.config.d_model must be 8"):
        classifier.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_sktime_saves_as_ever(classifier, labelled, tmp_path):
    X, _ = labelled
    expected = classifier.predict_proba(X)
    classifier.save(tmp_path / "plain")
    for serial in (classifier.save(), tmp_path / "plain.zip", str(tmp_path / "plain")):
        np.testing.assert_array_equal(sktime_load(serial).predict_proba(X), expected)
    with pytest.raises(ModelFileError, match=r"sktime\.base\.load"):
        load(tmp_path / "plain.zip")
    with pytest.raises(
        FileNotFoundError, match="plain.zip', which save wrote .* because the name had no ending"
    ):
        load(tmp_path / "plain")
    for name in ("model.pt", "model.pkl", "model.joblib", "model.safetensor"):
        with pytest.raises(
            ValueError, match=r"path must end in '\.safetensors', .* got '\.\w+' in .*joblib.dump"
        ):
            classifier.save(tmp_path / name)
    with pytest.raises(ValueError, match="serialization_format must be the default .*; got 'cloudpickle'"):
        classifier.save(tmp_path / "model.safetensors", serialization_format="cloudpickle")


def test_joblib_and_pickle_files_hold_tensors_of_the_cpu(classifier, labelled, tmp_path):
    X, _ = labelled
    joblib.dump(classifier, tmp_path / "model.joblib")
    for loaded in (joblib.load(tmp_path / "model.joblib"), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
        assert {tensor.device.type for tensor in loaded.net_.state_dict().values()} == {"cpu"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a CUDA device")
def test_a_model_of_a_gpu_predicts_where_there_is_none(classifier, labelled, tmp_path):
    X, _ = labelled
    expected = classifier.predict_proba(X)
    classifier.accelerator = "gpu"
    classifier.save(tmp_path / "model.safetensors")
    for loaded in (load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(classifier))):
        assert loaded.accelerator == "gpu"
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)


SERVING = """
import sys
import numpy as np

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "pytorch_lightning", "torchmetrics", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
import tsssm
import tsssm.estimators

events = []
watching = True
def watch(event, args):
    if watching and event in ("pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen"):
        events.append((event, args))
sys.addaudithook(watch)
model = tsssm.load("model.safetensors")
watching = False
X = np.load("X.npy")
np.testing.assert_array_equal(model.predict_proba(X), np.load("proba.npy"))
print(events)
"""


def test_a_model_serves_without_lightning_and_runs_nothing(classifier, labelled, tmp_path):
    # sktime refuses to construct what names a package that is absent.
    assert "lightning" not in classifier.get_class_tag("python_dependencies")
    X, _ = labelled
    classifier.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "proba.npy", classifier.predict_proba(X))
    done = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_pickles_of_version_0_1_0_are_read(labelled, tiny):
    """There, estimators had among their own attributes what they know of y."""
    X, y = labelled
    features = {"n_features": 64, "n_scales": 2, "random_state": 0}
    for model, targets in (
        (SSMClassifier(**{**tiny, "n_features": 384}), y),
        (SSMClassifier(**tiny), np.stack([y, y], axis=1)),
        (SSMFeaturesClassifier(**features), y),
        (SSMFeaturesRegressor(**features), np.arange(float(len(y)))),
    ):
        state = dict(model.fit(X, targets).__getstate__())
        known = state.pop("_targets").learned()
        errors = known.pop("errors", None)
        if errors is not None:
            known |= {"_scores": errors.scores, "_score_share": errors.share}
        known.pop("listed", None)  # classes_ has them
        names = {name: old for old, name in _OF_TARGETS.items()}
        state.update({names.get(name, name): value for name, value in known.items()})
        assert {"_y_columns", "_is_fitted"} <= set(state)
        state.pop("missing_channels")  # as if it were a parameter that came later
        old = object.__new__(type(model))
        old.__setstate__(state)
        np.testing.assert_array_equal(old.predict(X), model.predict(X))
        if isinstance(model, SSMFeaturesRegressor):
            np.testing.assert_array_equal(old.predict_interval(X), model.predict_interval(X))
