"""Forged model files: every field of every kind of saved estimator, spoiled, under a digest that is right.

A file that somebody wrote by hand is refused with `ModelFileError`, or it holds a model: one that predicts
finite numbers, or says why not, and whose stream says the same. ``python tests/forging.py 5000`` tries so
many forgeries and prints what became of them.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors
import safetensors.numpy
from model_files import irregular

from tsssm import (
    DataWarning,
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesForecaster,
    SSMFeaturesRegressor,
    SSMForecaster,
    SSMRegressor,
    Stream,
    load,
)
from tsssm.backbone import Backbone
from tsssm.persistence import ModelFileError
from tsssm.persistence._files import _digest
from tsssm.streaming._layerwise import LayerwiseNetwork

Arrays = dict[str, np.ndarray]

OLD = Path(__file__).parent / "files" / "0.1.0"

# float32, relative to the largest output, and in roundings of the model itself where that amplifies them.
TOLERANCE, ROUNDINGS = 1e-4, 100.0


class Saved(NamedTuple):
    """What a model file holds: its metadata, its tree, its arrays."""

    metadata: dict[str, str]
    tree: Any
    arrays: Arrays


def problem(times: bool, missing: bool) -> tuple[Panel, np.ndarray]:
    """24 series of 2 channels and two classes, on a grid or irregular in time."""
    rng = np.random.default_rng(0)
    y = np.repeat(["high", "low"], 12)
    series = [rng.normal(size=(2, 10)) + (1.0 if label == "high" else -1.0) for label in y]
    if missing:
        for x in series[::3]:
            x[0, 2:5] = np.nan
    stamps = [np.cumsum(rng.uniform(0.5, 2.0, size=10)) for _ in y] if times else None
    return Panel.from_arrays(series, stamps, time_unit="s" if times else None), y


def seasonal(columns: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ten years of quarters of so many targets, and a variable that one of them follows."""
    index = pd.period_range("2010Q1", periods=40, freq="Q")
    rng = np.random.default_rng(columns)
    X = pd.DataFrame({"x": rng.normal(size=40)}, index=index)
    wave = np.sin(np.arange(40) * np.pi / 2)[:, None] + 0.1 * rng.normal(size=(40, columns))
    wave[:, 0] += X["x"]
    return pd.DataFrame(wave, index=index, columns=[f"y{k}" for k in range(columns)]), X


def charts() -> Panel:
    """24 charts of 4 variables that are rarely measured, a type of unit, and an age."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(24 * 6, 6))
    values[:, :4][rng.uniform(size=(24 * 6, 4)) < 0.6] = np.nan
    values[:, 4], values[:, 5] = np.repeat(np.arange(24) % 3, 6), np.repeat(rng.normal(size=24), 6)
    times = np.cumsum(rng.uniform(0.5, 2.0, size=24 * 6))
    return Panel(values, np.arange(0, 24 * 6 + 1, 6), times, time_unit="h")


def fitted(every: bool) -> Iterator[tuple[Any, Panel | None]]:
    """Fitted estimators and series for them: some, or one of every kind."""
    tiny = {
        "n_layers": 2,
        "d_model": 4,
        "d_state": 4,
        "max_epochs": 1,
        "random_state": 0,
        "bidirectional": False,
    }
    small = {"n_features": 64, "n_scales": 2, "random_state": 0, "normalize": "global"}
    regular, y = problem(False, False)
    timed, _ = problem(True, True)
    number = np.where(y == "high", 3.0, 1.0) + np.linspace(0, 1, 24)
    yield SSMClassifier(backbone="s4d", **tiny).partial_fit(timed, y, classes=["high", "low"]), timed
    yield SSMRegressor(backbone="s4d", loss="gaussian", **tiny).fit(regular, number), regular
    yield SSMFeaturesClassifier(**small).fit(timed, y), timed
    yield SSMFeaturesClassifier(random_state=0).fit(charts(), y), charts()
    yield SSMFeaturesForecaster(sp=4).fit(*seasonal(2)), None
    if not every:
        return
    yield SSMFeaturesForecaster(sp=1, lags=3).fit(timed, fh=3.0), timed
    together = pd.concat({"a": seasonal(1)[0], "b": seasonal(1)[0] + 1.0}, names=["site"])
    yield SSMFeaturesForecaster().fit(together), None
    if hasattr(SSMFeaturesForecaster, "pretrain"):
        yield SSMFeaturesForecaster().pretrain(together).fit(seasonal(3)[0]), None
    quick = {**SSMForecaster.get_test_params()[0], "max_steps": 1}
    yield SSMForecaster(**quick).fit(*seasonal(2)), None
    yield SSMForecaster(**{**quick, "loss": "student_t"}).fit(timed, fh=3.0), timed
    blended = {**tiny, "n_members": 2, "n_features": 384}
    yield SSMClassifier(backbone="s4d", **blended).fit(timed, y), timed
    yield SSMRegressor(backbone="s4d", **blended).fit(regular, number), regular
    networks = {**tiny, "bidirectional": True, "n_members": 2}
    yield SSMClassifier(**networks).fit(charts(), y), charts()
    yield SSMRegressor(time_scale=2.0, **networks).fit(charts(), number), charts()
    for backbone, norm, pooling in (
        ("linoss", "batch", "mean"),
        ("liquid-s4", "layer", "max"),
        ("s5", "none", "last"),
        ("dss", "batch", "mean"),
        ("s4", "layer", "mean"),
        ("lssl", "batch", "max"),
        ("lssl-fixed", "none", "mean"),
        ("liquid-s4-kb", "batch", "last"),
    ):
        options = {**tiny, "norm": norm, "pooling": pooling}
        yield SSMClassifier(backbone=backbone, **options).fit(timed, y), timed
    yield SSMClassifier(backbone="s4d", **tiny).fit(regular, np.stack([y, y[::-1]], axis=1)), regular
    quantiles = SSMRegressor(backbone="s5", loss="quantile", early_stopping=True, time_scale=2.0, **tiny)
    yield quantiles.fit(timed, np.stack([number, -number], axis=1)), timed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield SSMClassifier(backbone="s4d", **tiny).fit(regular, ["only"] * 24), regular
    yield (
        SSMFeaturesRegressor(**{**small, "basis": "legt"}).fit(timed, np.stack([number, -number], axis=1)),
        timed,
    )
    yield SSMFeaturesClassifier(**{**small, "basis": "legs", "pooling": ("ppv",)}).fit(regular, y), regular
    yield SSMFeatures(**{**small, "normalize": None, "pooling": ("competition",)}).fit(timed), timed


def saved(estimator: Any, folder: Path) -> Saved:
    """What `save` writes of an estimator."""
    path = folder / "whole.safetensors"
    estimator.save(path)
    return opened(path)


def opened(path: Path) -> Saved:
    """What is in a file."""
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    return Saved(metadata, json.loads(metadata["state"]), safetensors.numpy.load_file(path))


def write(path: Path, content: Saved) -> None:
    """Write a file with the right digest, whatever it holds."""
    state = json.dumps(content.tree)
    arrays = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in content.arrays.items()
    }
    metadata = {**content.metadata, "state": state, "digest": _digest(state, arrays)}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


# Forgeries


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a tree below its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in items:
        yield (*above, key)
        yield from places(part, (*above, key))


def at(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def field(tree: Any, *names: Any) -> tuple[Any, Any]:
    """The container and the key of a field, by the names that it and those around it have in Python."""
    parent, key = {"root": tree}, "root"
    for name in names:
        node = parent[key]
        if isinstance(node, list):
            parent, key = node, name
        elif "object" in node:
            parent, key = node["object"][2], name
        else:
            parent, key = next(pair for pair in node["dict"] if pair[0] == name), 1
    return parent, key


_OTHERS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**6, 2**62, 10**30, 0.5, -2.5, 1e-30, 1e30, 1e308, {"float": "nan"},
    {"float": "inf"}, "", "median", "s", "series", "global", "high", "5", [], [[]], [0, 1], {"dict": []},
    {"tuple": []}, {"tuple": ["ppv"]}, {"text array": ["<U4", [2], ["a", "b"]]}, {"unknown": 1},
)  # fmt: skip


def forge(content: Saved, rng: np.random.Generator) -> tuple[Saved, str]:
    """A file with one thing in it changed, and in words what."""
    tree, arrays = copy.deepcopy(content.tree), dict(content.arrays)
    # Arrays first, every second time: there are fewer of them.
    if arrays and rng.random() < 0.5:
        name = sorted(arrays)[rng.integers(len(arrays))]
        arrays[name], how = spoiled(arrays[name], rng)
        return Saved(content.metadata, tree, arrays), f"{name} {how}"
    every = list(places(tree))
    place = every[rng.integers(len(every))]
    parent, key = at(tree, place[:-1]), place[-1]
    kind = rng.integers(4)
    if kind == 0:
        del parent[key]
        how = "missing"
    elif kind == 1:
        other = every[rng.integers(len(every))]
        parent[key] = copy.deepcopy(at(tree, other))
        how = f"as {other}"
    elif kind == 2 and isinstance(parent[key], (int, float)):
        parent[key] = [-parent[key], 2 * parent[key], parent[key] + 1, float(parent[key]), 1e-20][
            rng.integers(5)
        ]
        how = f"{parent[key]}"
    else:
        parent[key] = copy.deepcopy(_OTHERS[rng.integers(len(_OTHERS))])
        how = f"{parent[key]}"
    return Saved(content.metadata, tree, arrays), f"{place} {how}"


def spoiled(array: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """An array of another shape or dtype, or with other values."""
    shapes = {
        "transposed": array.T,
        "flat": array.reshape(-1),
        "without its end": array[..., :-1] if array.ndim else array.reshape(1),
        "without its start": array[1:] if array.ndim else array.reshape(1),
        "empty": array[..., :0] if array.ndim else np.zeros(0, array.dtype),
        "twice": np.concatenate([array, array]) if array.ndim else np.stack([array, array]),
        "5,000 times": np.broadcast_to(array, (5000, *array.shape)),
        "with an axis more": array[None],
    }
    kind = rng.integers(3)
    if kind == 0:
        how = list(shapes)[rng.integers(len(shapes))]
        return shapes[how], how
    if kind == 1:
        dtype = ["f8", "f4", "f2", "i8", "i4", "u1", "?"][rng.integers(7)]
        with np.errstate(all="ignore"):
            return array.astype(dtype), f"as {dtype}"
    values, where = array.copy(), rng.random(array.shape) < rng.choice([0.05, 0.5, 1.0])
    value = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-20, 1e5, 1e20, -1e20, 1e38, 50.0, -50.0])
    if array.ndim and rng.random() < 0.3:
        return rng.permuted(values), "shuffled"
    with np.errstate(all="ignore"):
        values[where] = np.asarray(value).astype(values.dtype)
    return values, f"{value} in {int(where.sum())}"


# What becomes of them


class Broken(AssertionError):
    """A forgery that was neither refused nor is a model."""


def outcome(path: Path, panel: Panel | None) -> str:
    """What becomes of a file: "refused", "refuses the series", "cannot be streamed" or "answers".

    Raises
    ------
    Broken
        If it is anything else.
    """
    try:
        model = load(path)
    except ModelFileError:
        return "refused"
    if isinstance(model, (SSMFeaturesForecaster, SSMForecaster)):
        return forecasts(model, panel)
    try:
        expected = answers(model, panel)
    except FloatingPointError:
        return "refuses the series"
    except ValueError as error:
        return "refuses the series" if _is_ours(error) else _broken("predict", error)
    if not all(np.isfinite(part).all() for part in expected):
        return _broken("predict", "not finite")
    try:
        stream = Stream(model)
    except ValueError as error:
        return "cannot be streamed" if _is_ours(error) else _broken("Stream", error)
    encoder = stream._samples.encoder
    if panel.has_times and encoder.time_unit is not None:
        panel = panel.convert_times(encoder.time_unit)
    for i, one in enumerate([panel[0], panel[1]]):
        stream.reset()
        pushed = stream.push_many(one.values, one.times)
        found = [part[-1] for part in (pushed if isinstance(pushed, list) else [pushed])]
        if not all(np.isfinite(part).all() for part in found):
            return _broken("Stream", "not finite")
        exact = exactly(model, stream, one)
        for k, part in enumerate(found):
            whole = expected[k][i]
            allowed = TOLERANCE * max(1.0, np.abs(whole).max())
            if exact is not None:
                allowed += ROUNDINGS * np.abs(exact[k] - whole).max()
            worst = np.abs(part - whole).max()
            if worst > allowed:
                return _broken("Stream", f"differs by {worst} of {np.abs(whole).max()}")
    return "answers"


def forecasts(model: SSMFeaturesForecaster | SSMForecaster, panel: Panel | None) -> str:
    """What becomes of a forecaster; what index a forged calendar leads to is for pandas to say."""
    try:
        if panel is None:
            frames = [model.predict(fh=[1, 2, 5]), model.predict_quantiles(fh=[3], alpha=[0.1, 0.9])]
            found = [frame.to_numpy() for frame in frames]
        else:
            found = [model.predict(panel, [1.0, 4.0]).values]
    except (ValueError, TypeError, OverflowError, FloatingPointError, NotImplementedError):
        return "refuses the series"
    return "answers" if all(np.isfinite(part).all() for part in found) else _broken("predict", "not finite")


def answers(model: Any, panel: Panel) -> list[np.ndarray]:
    """What a model says of series, as numbers."""
    method = next(name for name in ("predict_proba", "transform", "predict") if hasattr(model, name))
    found = getattr(model, method)(panel)
    model.predict(panel) if hasattr(model, "predict") else None
    return [np.asarray(part) for part in (found if isinstance(found, list) else [found])]


def exactly(model: Any, stream: Stream, panel: Panel) -> list[np.ndarray] | None:
    """What the network says of one series in float64, None where there is none, or several."""
    if not isinstance(getattr(model, "net_", None), Backbone):
        return None
    encoded = model.encoder_.encode_all(panel)
    network = LayerwiseNetwork(copy.deepcopy(model.net_).double())
    y = np.empty((len(encoded.u), 1, model.net_.head.out_features))
    network.advance(network.initial_state(1), encoded.u.numpy()[:, None], encoded.dt.numpy()[:, None], y)
    said = model._targets.answers(y[-1])
    return [np.asarray(part)[0] for part in (said if isinstance(said, list) else [said])]


def _is_ours(error: ValueError) -> bool:
    """Whether a message was written for users, and does not come from inside NumPy or PyTorch."""
    starts = ("X ", "The channels of X", "X has", "model", "the features were fitted", "The outputs")
    return type(error).__name__ == "ValueError" and str(error).startswith(starts)


def _broken(what: str, error: Any) -> str:
    raise Broken(f"{what}: {type(error).__name__}: {error}")


def attack(count: int, seed: int, every: bool, folder: Path) -> tuple[Counter[str], list[str], float]:
    """Try forgeries: how many came to which end, those that are broken, and the longest time of one in s."""
    models = [(saved(model, folder), panel) for model, panel in fitted(every)]
    models += [
        (opened(OLD / f"{name}.safetensors"), irregular(1)) for name in ("liquid", "features_regressor")
    ]
    rng = np.random.default_rng(seed)
    ends: Counter[str] = Counter()
    broken, longest, path = [], 0.0, folder / "forged.safetensors"
    for content, panel in models:  # as they are; this also compiles what they need
        write(path, content)
        end = outcome(path, panel)
        if end == "refused":
            broken.append(f"whole: {end}")
    for number in range(count):
        content, panel = models[number % len(models)]
        forged, how = forge(content, rng)
        write(path, forged)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                # What training saw may be forged as well as anything.
                warnings.simplefilter("ignore", DataWarning)
                ends[outcome(path, panel)] += 1
        except Exception as error:
            broken.append(f"model {number % len(models)}, {how}: {type(error).__name__}: {error}")
        longest = max(longest, time.perf_counter() - started)
    return ends, broken, longest


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
        ends, broken, longest = attack(int(sys.argv[1]), seed, every=True, folder=Path(place))
    print(dict(ends), f"{len(broken)} broken, the longest {longest:.2f} s", *broken, sep="\n")
    raise SystemExit(bool(broken))
