"""Pipelines and other estimators of scikit-learn with ours inside, in model files without pickles."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tsssm import SSMClassifier, SSMFeatures, SSMFeaturesClassifier, load, save
from tsssm.estimators import _composites
from tsssm.persistence import ModelFileError, UnsavableError, kinds, write

FEATURES = {"n_features": 64, "n_scales": 2, "random_state": 0}
NETWORK = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    y = np.repeat(["low", "high"], 12)
    return np.random.default_rng(0).normal(size=(24, 2, 30)) + (y == "high")[:, None, None], y


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(SSMFeatures(**FEATURES), StandardScaler(), LogisticRegression()),
        make_pipeline(FunctionTransformer(np.abs), SSMFeaturesClassifier(**FEATURES)),
        CalibratedClassifierCV(SSMFeaturesClassifier(**FEATURES), cv=2),
        GridSearchCV(SSMFeaturesClassifier(**FEATURES), {"normalize": ["auto", "global"]}, cv=GroupKFold(2)),
        VotingClassifier(
            [("a", SSMClassifier(**NETWORK)), ("b", SSMFeaturesClassifier(**FEATURES))], voting="soft"
        ),
    ],
    ids=["scaled", "function", "calibrated", "search", "voting"],
)
def test_there_and_back(model, data, tmp_path):
    X, y = data
    model.fit(X, y, **({"groups": np.arange(24) % 4} if isinstance(model, GridSearchCV) else {}))
    expected, before = model.predict_proba(X), str(model.get_params())
    save(model, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert type(loaded) is type(model) and loaded is not model
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    assert str(model.get_params()) == before, "saving changes nothing"
    assert str(loaded.get_params()) == before
    loaded.fit(X, y, **({"groups": np.arange(24) % 4} if isinstance(model, GridSearchCV) else {}))
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def test_ours_alone_is_saved_as_by_its_method(data, tmp_path):
    model = SSMFeaturesClassifier(**FEATURES).fit(*data)
    save(model, tmp_path / "model.safetensors")
    loaded = SSMFeaturesClassifier.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(data[0]), model.predict_proba(data[0]))


@pytest.mark.parametrize(
    ("model", "error", "told"),
    [
        (make_pipeline(SSMFeatures(**FEATURES), Ridge()), NotFittedError, "Pipeline instance is not fitted"),
        (LogisticRegression(), NotFittedError, "not fitted"),
        (SSMFeatures(**FEATURES), NotFittedError, "not been fitted"),
    ],
    ids=["pipeline", "of scikit-learn", "ours"],
)
def test_before_fit(model, error, told, tmp_path):
    with pytest.raises(error, match=told):
        save(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved(data, tmp_path, monkeypatch):
    X, y = data
    path = tmp_path / "model.safetensors"
    features = SSMFeatures(**FEATURES)
    trees = make_pipeline(features, RandomForestClassifier(2)).fit(X, y)
    with pytest.raises(
        UnsavableError, match=r"A file of this Pipeline could not be loaded again: Untrusted.*_tree\.Tree"
    ):
        save(trees, path)
    mine = make_pipeline(FunctionTransformer(lambda X: X), SSMFeaturesClassifier(**FEATURES)).fit(X, y)
    with pytest.raises(UnsavableError, match="Untrusted.*lambda"):
        save(mine, path)
    other = LogisticRegression().fit(X[:, 0], y)
    with pytest.raises(UnsavableError, match="LogisticRegression holds no estimator of tsssm; save it"):
        save(other, path)
    model = make_pipeline(features, LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match=r"path must end in '\.safetensors'; got"):
        save(model, tmp_path / "model")
    monkeypatch.setattr(_composites, "_skops", lambda: None)
    with pytest.raises(UnsavableError, match=r"needs skops: pip install 'tsssm\[skops\]'"):
        save(model, path)
    assert list(tmp_path.iterdir()) == []


def test_forged_files_are_refused(data, tmp_path, monkeypatch):
    X, y = data
    path = tmp_path / "model.safetensors"
    pipeline = make_pipeline(SSMFeatures(**FEATURES), StandardScaler(), LogisticRegression()).fit(X, y)
    save(pipeline, path)
    whole = _composites._state(_composites.Composite(pipeline))

    def forged(**change):
        with monkeypatch.context() as patch:
            patch.setattr(_composites.Composite, "forged", {**whole, **change}, raising=False)
            kind = kinds["Composite"]._replace(to_state=lambda composite: composite.forged)
            patch.setitem(kinds, "Composite", kind)
            # What it writes it also reads; a forger does not look.
            patch.setattr("tsssm.persistence._files.TreeReader.read", lambda self, tree: None)
            write(path, object.__new__(_composites.Composite))
        return load(path)

    bytes_of = whole["outside"].tobytes()
    with zipfile.ZipFile(io.BytesIO(bytes_of)) as parts:
        contents = {part: parts.read(part) for part in parts.namelist()}

    def archive(change, compression=zipfile.ZIP_STORED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as written:
            for name, content in contents.items():
                written.writestr(name, change(content))
        return np.frombuffer(stream.getvalue(), np.uint8)

    np.testing.assert_array_equal(forged().predict(X), pipeline.predict(X))
    for change in (
        {"outside": whole["outside"][:-200]},
        {"outside": np.zeros(100, np.uint8)},
        {"outside": archive(lambda content: content, zipfile.ZIP_DEFLATED)},
        {"outside": archive(lambda content: content.replace(b"StandardScaler", b"FunctionSpoiler"))},
        {"outside": archive(lambda content: content.replace(b"sklearn.preprocessing._data", b"subprocess"))},
        {"models": ()},
        {"models": []},
    ):
        with pytest.raises(ModelFileError):
            forged(**change)
