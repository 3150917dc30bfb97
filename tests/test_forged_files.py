"""Model files that somebody wrote by hand: refused by what is wrong with them, before any harm is done."""

from __future__ import annotations

import copy
import tracemalloc
from typing import Any

import numpy as np
import pytest
from forging import OLD, Saved, attack, field, opened, problem, saved, write

from tsssm import SSMClassifier, SSMFeaturesClassifier, Stream, load
from tsssm.backbone import Backbone
from tsssm.ops.cpu import stream as compiled
from tsssm.ops.cpu.features import ResumedScan
from tsssm.persistence import ModelFileError
from tsssm.streaming._compiled import CompiledNetwork

TINY = {"backbone": "s4d", "n_layers": 1, "d_model": 4, "d_state": 4, "bidirectional": False, "max_epochs": 1}
ENCODER, NET, FEATURES, LISTED = ("encoder_",), ("net_",), ("features_",), ("targets", "listed", 0)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Saved:
    """The file of a classifier of irregular series with missing values, after one ``partial_fit``."""
    panel, y = problem(True, True)
    clf = SSMClassifier(**TINY, random_state=0).partial_fit(panel, y, classes=["high", "low"])
    return saved(clf, tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Saved:
    """The file of a classifier on features."""
    panel, y = problem(True, True)
    clf = SSMFeaturesClassifier(64, n_scales=2, normalize="global", random_state=0).fit(panel, y)
    return saved(clf, tmp_path_factory.mktemp("features"))


def changed(content: Saved, place: tuple[Any, ...], value: Any) -> Saved:
    """A file with another value at a place; a function changes the array that stands there."""
    tree, arrays = copy.deepcopy(content.tree), dict(content.arrays)
    parent, key = field(tree, *place)
    if callable(value):
        node = parent[key]
        while "array" not in node:  # a tensor, or a complex array in one
            node = next(iter(node.values()))
            node = node[0] if isinstance(node, list) else node
        arrays[node["array"]] = value(arrays[node["array"]])
    else:
        parent[key] = value
    return Saved(content.metadata, tree, arrays)


NETWORK_FORGERIES = [
    # The first of these once wrote past the state of the compiled step.
    ((*ENCODER, "std"), lambda a: np.ones((5000, 2)), "std must be an array .2. of float64"),
    ((*ENCODER, "std"), lambda a: -a, "std must be finite, from"),
    ((*ENCODER, "mean"), lambda a: a.astype(np.float32), "mean must be an array"),
    ((*ENCODER, "mean"), lambda a: a + 1e30, "mean must be no more than"),
    ((*ENCODER, "missing"), False, "n_inputs must be 2; got 6"),
    ((*ENCODER, "n_channels"), 3, "mean must be an array .3."),
    ((*ENCODER, "time_scale_"), {"float": "nan"}, "time_scale_ must be a finite number"),
    ((*ENCODER, "more"), 1, "has 'more', which this version"),
    ((*NET, "config", "n_layers"), 10**6, "n_layers must be 1; got 1000000"),
    ((*NET, "config", "d_model"), 10**6, "d_model must be 4; got 1000000"),
    ((*NET, "config", "d_state"), 10**6, "d_state must be an integer from 1 to"),
    ((*NET, "config", "bidirectional"), True, r"blocks\.0\.layer\.C must be a tensor"),
    ((*NET, "weights", "blocks.0.layer.log_dt"), lambda a: a * 0 + 1e3, "logarithms beyond 60"),
    ((*NET, "weights", "head.bias"), lambda a: a * np.nan, "head.bias must be finite"),
    ((*NET, "weights", "blocks.0.norm.norm.running_var"), lambda a: -a, "negative variance"),
    (LISTED, {"text array": ["<U4", [2], ["low", "high"]]}, "listed must be sorted"),
    (LISTED, {"text array": ["<U1", [3], ["a", "b", "c"]]}, "net_ must be for 6 inputs and 3 outputs"),
    (("optimizer_state", 0), 1, "optimiser for parameter 0 must be"),
    (("fit_time_",), -1, "fit_time_ must be an integer from 0"),
    (("parameters", "accelerator"), 3, "accelerator must be"),
]
FEATURES_FORGERIES = [
    ((*FEATURES, "thresholds"), lambda a: a[:, :, :4], "thresholds must be a tensor .2, 2, 8."),
    ((*FEATURES, "readouts", "C"), lambda a: a[:, :, :4], "C must be a tensor"),
    ((*FEATURES, "readouts", "C"), lambda a: a * np.inf, "C must be finite"),
    ((*FEATURES, "systems", "A"), lambda a: -a, "A must be stable"),
    ((*FEATURES, "systems", "B"), lambda a: a[:1], "B must be a tensor"),
    ((*FEATURES, "systems", "mix_u"), lambda a: np.concatenate([a, a], 1), "mix_u must be a tensor .2, 2."),
    ((*FEATURES, "n_readouts"), 16, "n_features_out must be 128"),
    ((*FEATURES, "timeline", "bend"), lambda a: a + 3, "bend must be finite, from 0 to 1"),
    ((*FEATURES, "timeline", "unit"), 1e-30, "unit must be a finite number"),
    ((*FEATURES, "timeline", "normalize"), "series", "timeline must be normalised"),
    ((*FEATURES, "pooling"), {"tuple": ["ppv", "ppv"]}, "pooling must be a tuple"),
    (("coef_",), lambda a: a[:10], "coef_ must be an array"),
    (("targets", "slopes"), [-1.0], "slopes must be positive"),
    (("parameters", "n_jobs"), 10**9, "more threads than any machine"),
]


def refused(content: Saved, message: str, tmp_path) -> None:
    path = tmp_path / "forged.safetensors"
    write(path, content)
    with pytest.raises(ModelFileError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("place", "value", "message"), NETWORK_FORGERIES, ids=lambda x: "changed" if callable(x) else str(x)[:40]
)
def test_a_forged_network_is_refused_by_field(place, value, message, network, tmp_path):
    refused(changed(network, place, value), message, tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"), FEATURES_FORGERIES, ids=lambda x: "changed" if callable(x) else str(x)[:40]
)
def test_forged_features_are_refused_by_field(place, value, message, features, tmp_path):
    refused(changed(features, place, value), message, tmp_path)


def test_what_would_hide_a_method_is_refused(network, tmp_path):
    content = Saved(network.metadata, copy.deepcopy(network.tree), network.arrays)
    content.tree["object"][2]["predict"] = 1
    refused(content, "has 'predict', which this version", tmp_path)


def test_a_field_that_is_missing_is_named(network, tmp_path):
    for place in ((*ENCODER, "std"), ("n_iter_",), (*NET, "weights", "blocks.0.mix.weight")):
        content = Saved(network.metadata, copy.deepcopy(network.tree), network.arrays)
        parent, key = field(content.tree, *place)
        if isinstance(parent, dict):
            del parent[key]
        else:  # a pair of a dict
            parent[0] = "elsewhere"
        refused(content, f"has no '{place[-1]}'", tmp_path)


def test_many_files_forged_at_random(tmp_path):
    _, broken, _ = attack(300, seed=1, every=False, folder=tmp_path)
    assert broken == []


@pytest.mark.slow
def test_thousands_of_files_forged_at_random(tmp_path):
    ends, broken, _ = attack(5000, seed=0, every=True, folder=tmp_path)
    assert broken == []
    assert ends["refused"] > 1000 and ends["answers"] > 100


# Memory


@pytest.mark.parametrize(
    "tree",
    [
        {"text array": ["<U500000000", [1], ["x"]]},
        {"text array": ["<U500000000", [0], []]},
        {"text array": ["<U1000000000000", [1], ["x"]]},
        {"tuple": [{"text array": ["<U200000", [1], ["x"]]} for _ in range(1000)]},
        {"tuple": [{"array": "numbers"} for _ in range(1000)]},
        {"object array": ["O", [2**30], [1]]},
    ],
    ids=["wide", "wide and empty", "too wide", "many", "an array again and again", "objects"],
)
def test_a_small_file_does_not_fill_the_memory(tree, network, tmp_path):
    path = tmp_path / "bomb.safetensors"
    arrays = {"numbers": np.zeros(250_000, np.float32)}
    write(path, Saved(network.metadata, tree, arrays))
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"bomb\.safetensors"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**21 + 70 * size
    finally:
        tracemalloc.stop()


def test_text_as_wide_as_its_longest_may_be_read(tmp_path):
    panel, y = problem(False, False)
    label = {"high": "x" * 300, "low": "y"}
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, np.array([label[one] for one in y]))
    clf.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").classes_.dtype == clf.classes_.dtype


# What a file must not bring about


def test_a_file_does_not_say_where_later_fits_write(network, tmp_path):
    options = {"dict": [["logger", True], ["default_root_dir", str(tmp_path)], ["detect_anomaly", True]]}
    options["dict"].append(["enable_checkpointing", True])
    content = changed(network, ("parameters", "trainer_kwargs"), options)
    parent, key = field(content.tree, "parameters")
    for name in ("checkpoint_dir", "resume_from"):
        parent[key]["dict"].append([name, str(tmp_path / name)])
    write(tmp_path / "forged.safetensors", content)
    loaded = load(tmp_path / "forged.safetensors")
    assert (loaded.checkpoint_dir, loaded.resume_from) == (None, None)
    assert loaded.trainer_kwargs == {"detect_anomaly": True}
    panel, y = problem(True, True)
    loaded.fit(panel, y)
    assert [path.name for path in tmp_path.iterdir()] == ["forged.safetensors"]


def test_a_file_does_not_say_where_its_fit_wrote(tmp_path):
    panel, y = problem(False, False)
    SSMClassifier(**TINY, random_state=0, checkpoint_dir=tmp_path / "state").fit(panel, y).save(
        tmp_path / "model.safetensors"
    )
    assert b"state/" not in (tmp_path / "model.safetensors").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "model.safetensors").read_bytes()


def test_files_of_earlier_versions_are_read(tmp_path):
    """They held what sktime keeps on its instances as well; what nobody knows is refused there, too."""
    content = opened(OLD / "sequence_classifier.safetensors")
    fitted = content.tree["object"][1]["fitted"]["dict"]
    fitted += [["_tags_dynamic", {"dict": []}], ["_class_dictionary", {"dict": [["high", 0]]}]]
    write(tmp_path / "old.safetensors", content)
    assert load(tmp_path / "old.safetensors")._class_dictionary == {0: 0, 1: 1}
    fitted.append(["predict", 1])
    refused(content, "has 'predict', which this version", tmp_path)


# The compiled code itself


def test_the_compiled_network_checks_its_operands():
    net = Backbone(3, 2, n_layers=2, d_model=8, d_state=4, bidirectional=False).eval()
    network = CompiledNetwork(net)
    state = network.initial_state(2)
    u, dt, y = np.zeros((4, 2, 3), np.float32), np.ones((4, 2), np.float32), np.empty((4, 2, 2))
    network.advance(state, u, dt, y)
    for name, call in {
        "u": (state, np.zeros((4, 2, 15000), np.float32), dt, y),
        "dt": (state, u, dt[:1], y),
        "y": (state, u, dt, y[:1]),
        "x": (state._replace(x=state.x[:1]), u, dt, y),
        "kept": (state._replace(kept=state.kept[:, :1]), u, dt, y),
        "clock": (state._replace(clock=state.clock.astype(np.float32)), u, dt, y),
    }.items():
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            network.advance(*call)


@pytest.mark.parametrize("backbone", ["s4d", "s5", "liquid-s4"])
def test_the_weights_of_a_compiled_network_have_to_fit(backbone):
    net = Backbone(3, 2, backbone=backbone, n_layers=2, d_model=8, d_state=4, bidirectional=False).eval()
    network = CompiledNetwork(net)
    encoder, norms, _, *others = network._weights
    operands = [encoder, norms, *others, network._rows, network._gap_of_rows]
    names = "encoder norms system steps readout inputs outputs D bounds mix head rows gap_of_rows".split()
    options = network._options[:3]
    compiled.check_weights(*operands, *options)
    for number, name in enumerate(names):
        if operands[number].size:
            spoiled = [*operands]
            # Any number of outputs will do, but not of channels.
            part = slice(-1) if name == "head" else (..., slice(-1))
            spoiled[number] = operands[number][part].copy()
            with pytest.raises(ValueError, match="must"):
                compiled.check_weights(*spoiled, *options)
                raise AssertionError(name)
    with pytest.raises(ValueError, match="channels must fill"):
        compiled.check_weights(*operands, 100, *options[1:])


def test_the_resumed_scan_checks_its_operands(features, tmp_path):
    write(tmp_path / "whole.safetensors", features)
    fitted = load(tmp_path / "whole.safetensors").features_
    parts = {**fitted._systems, **fitted._readouts, "thresholds": fitted._thresholds}
    for name, value in (
        ("thresholds", fitted._thresholds[:, :, :4]),
        ("C", fitted._readouts["C"][..., :4]),
        ("B", fitted._systems["B"][:1]),
        ("mix_u", fitted._systems["mix_u"][:1]),
        ("D", fitted._readouts["D"].double()),
    ):
        with pytest.raises(ValueError, match="must be"):
            ResumedScan(**{**parts, name: value}, shares=True, competition=True)
    scan = ResumedScan(**parts, shares=True, competition=True)
    u, out = np.zeros((2, 3), np.float32), np.zeros(scan.shape, np.float32)
    whole = {"state": scan.initial_state(), "u": u, "held": u, "weight": u[0], "out": out}
    scan.advance(steps=np.ones(3), at_rest=True, **whole)
    for name, array in whole.items():
        with pytest.raises(ValueError, match=f"{name} must be"):
            scan.advance(steps=np.ones(3), at_rest=True, **{**whole, name: array[:1].copy()})
    with pytest.raises(ValueError, match="steps must be one a sample"):
        scan.advance(steps=np.ones(2), at_rest=True, **whole)


def test_a_stream_refuses_what_predict_refuses():
    """Whatever is done to a fitted estimator in memory, the compiled step does not leave its arrays."""
    panel, y = problem(False, False)
    clf = SSMClassifier(**TINY, random_state=0).fit(panel, y)
    clf.encoder_.std = np.ones((5000, 2))
    stream = Stream(clf)
    with pytest.raises(ValueError):
        stream.push(panel[0].values[0])


def test_moments_of_other_shapes_are_refused(network, tmp_path):
    parent, key = field(network.tree, "optimizer_state", 3)
    node = parent[key]["dict"]
    (name,) = [value["tensor"][0]["array"] for key, value in node if key == "exp_avg"]
    arrays = {**network.arrays, name: np.zeros(1, np.float32)}
    refused(Saved(network.metadata, network.tree, arrays), "optimiser for parameter 3", tmp_path)
