"""The estimators end to end on one thread and on several, more than there are cores among them.

Tests elsewhere run on whatever threads PyTorch takes. Here every call is cut into as many tasks as there are
threads, and two threads are seen to work on it at the same time.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.model_selection import cross_val_predict
from teams import team, threaded_functions
from torch import Tensor

import tsssm
from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier, SSMRegressor, Stream
from tsssm.backbone import BACKBONES, DropoutNoise
from tsssm.ops import causal_conv

SIZES = {"n_members": 1, "n_features": 0, "n_layers": 1, "d_model": 32, "d_state": 8, "random_state": 0}
COUNTS = (2, 4, (os.cpu_count() or 1) + 3)
# float32, of numbers of about 1: sums over threads are rounded in another order.
ROUNDING = {"rtol": 0, "atol": 1e-5}
BFLOAT16 = {"rtol": 0, "atol": 2e-2}

LABELS = np.arange(20) % 2


@lru_cache
def series(kind: str) -> Any:
    """Twenty series of 2 channels: regular, or ragged at random times with missing values."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2, 40)) + LABELS[:, None, None]
    if kind == "regular":
        return X
    X[rng.random(X.shape) < 0.2] = np.nan
    lengths = rng.integers(20, 41, size=20)
    times = [np.cumsum(rng.exponential(size=length)) for length in lengths]
    return Panel.from_arrays([x[:, :length] for x, length in zip(X, lengths, strict=True)], times)


def samples(X: Any) -> Iterator[tuple[Any, ...]]:
    """Those of the last series, as a stream takes them."""
    if isinstance(X, Panel):
        return zip(X.values[X.offsets[-2] :], X.times[X.offsets[-2] :], strict=True)
    return ((sample,) for sample in X[-1].T)


def classifier(name: str) -> Any:
    if name == "features":
        return SSMFeaturesClassifier(
            n_features=256, n_scales=2, n_jobs=torch.get_num_threads(), random_state=0
        )
    return SSMClassifier(**SIZES, backbone=name, max_steps=2)


@lru_cache
def fitted(name: str, kind: str) -> tuple[Any, Any]:
    """On one thread: a classifier and, of networks, a regressor in one direction."""
    X = series(kind)
    with team(1):
        clf = classifier(name).fit(X, LABELS)
        options = {**SIZES, "backbone": name, "bidirectional": False, "max_steps": 2}
        reg = None if name == "features" else SSMRegressor(**options).fit(X, LABELS * 1.0)
    return clf, reg


def gradients(network: Any, gaps: Tensor | None) -> dict[str, Tensor]:
    """Of a loss of the network in training, without dropout.

    Divided by the largest of all: batch normalisation makes some of them zero but for rounding.
    """
    network = copy.deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, DropoutNoise):
            module.p = 0.0
    random = torch.Generator().manual_seed(0)
    u = torch.randn(5, 40, network.encoder.in_features, generator=random)
    network(u, gaps).square().sum().backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    largest = max(float(g.abs().max()) for g in found.values())
    return {f"gradient of {name}": g / largest for name, g in found.items()}


class Answers(NamedTuple):
    """What came out, and the functions that two threads worked for."""

    arrays: dict[str, Any]
    score: float
    used: set[str]


@lru_cache
def answers(name: str, kind: str, count: int) -> Answers:
    """Predictions of one and the same model, its gradients, and a whole fit, on so many threads."""
    X, (clf, reg) = series(kind), fitted(name, kind)
    arrays: dict[str, Any] = {}
    with team(count) as used:
        if name == "features":
            clf.n_jobs = count  # set_params would forget the fit
        arrays["proba"], score = clf.predict_proba(X), clf.score(X, LABELS)
        if reg is not None:
            stream = Stream(reg)
            arrays["rate"] = reg.predict(X)
            arrays["streamed"] = [stream.push(*sample) for sample in samples(X)][-1]
            gaps = (
                None if kind == "regular" else torch.rand(5, 40, generator=torch.Generator().manual_seed(1))
            )
            arrays |= gradients(clf.net_, gaps)
        refitted = classifier(name).fit(X, LABELS)
        assert np.isfinite(refitted.predict_proba(X)).all()
    return Answers(arrays, score, used)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["regular", "irregular"])
@pytest.mark.parametrize("name", [*BACKBONES, "features"])
def test_threads_change_nothing_but_rounding(name: str, kind: str, count: int) -> None:
    alone, together = answers(name, kind, 1), answers(name, kind, count)
    assert not alone.used and together.used & threaded_functions()
    for key, expected in alone.arrays.items():
        np.testing.assert_allclose(together.arrays[key], expected, **ROUNDING, err_msg=key)
    assert together.score == alone.score


def test_every_threaded_path_was_run_by_two_threads() -> None:
    """A function of the engine that hands work to threads, and that nothing here calls, fails this."""
    with team(2) as used:
        u = torch.randn(4, 40, 32).requires_grad_()
        causal_conv(u, torch.randn(1, 40, 32)).sum().backward()
    for name in (*BACKBONES, "features"):
        for kind in ("regular", "irregular"):
            used |= answers(name, kind, 2).used
    assert len(threaded_functions()) >= 13
    assert not threaded_functions() - used


@pytest.mark.parametrize("count", [2, 8])
def test_a_prediction_large_enough_for_a_second_thread(count: int) -> None:
    """Sizes as they are: inference and training on tasks that the calls themselves cut."""
    X = np.random.default_rng(0).normal(size=(100, 2, 100))
    y = np.arange(100) % 2
    clf = SSMClassifier(max_steps=2, random_state=0).fit(X, y)
    with team(1):
        expected = clf.predict_proba(X)
    with team(count, small_calls_too=False) as used:
        np.testing.assert_allclose(clf.predict_proba(X), expected, **ROUNDING)
        assert clf.score(X, y) == np.mean(clf.classes_[expected.argmax(1)] == y)
    assert "tsssm.ops.cpu.gating.gate.gated_mix" in used


def test_a_small_fit_takes_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    with team(2, small_calls_too=False) as used:
        SSMClassifier(**SIZES, max_steps=2).fit(series("regular"), LABELS)
        assert torch.get_num_threads() == 2
    assert not used and torch.get_num_threads() == before


@pytest.mark.parametrize("mode", ["inference", "no_grad", "autocast", "deterministic"])
def test_modes_of_pytorch_reach_or_spare_every_thread(mode: str) -> None:
    """Modes are of a thread; what two threads compute in one does not depend on which of them does it."""
    X = torch.randn(6, 50, 2, generator=torch.Generator().manual_seed(0))
    contexts = {
        "inference": torch.inference_mode(),
        "no_grad": torch.no_grad(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
        "deterministic": torch.no_grad(),
    }
    network = SSMClassifier(**SIZES, max_steps=1).fit(series("regular"), LABELS).net_
    gaps = torch.rand(6, 50, generator=torch.Generator().manual_seed(1)) + 0.5
    d_in = network.encoder.in_features
    u = torch.cat([X] * d_in, dim=-1)[..., :d_in]
    try:
        torch.use_deterministic_algorithms(mode == "deterministic")
        with contexts[mode]:
            for dt in (None, gaps):
                with team(1):
                    alone = network(u, dt)
                with team(2) as used:
                    together = network(u, dt)
                assert used & threaded_functions()
                torch.testing.assert_close(together, alone, **(ROUNDING if mode != "autocast" else BFLOAT16))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_model_files_do_not_depend_on_threads(tmp_path: Any) -> None:
    X = series("irregular")
    with team(2):
        clf = SSMClassifier(**SIZES, max_steps=2).fit(X, LABELS)
        expected = clf.predict_proba(X)
        clf.save(tmp_path / "model.safetensors")
    with team(4) as used:
        found = tsssm.load(tmp_path / "model.safetensors").predict_proba(X)
    assert used & threaded_functions()
    np.testing.assert_allclose(found, expected, **ROUNDING)


# In threads scikit-learn sets the warning filters of the whole process anew for every task, under a fit that
# silences Lightning: which of the two counts is left to chance, and its warning is one of PyTorch's own.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_cross_validation_in_processes_and_threads(backend: str) -> None:
    """Workers of loky take as many threads as joblib leaves them; those of the threads two each."""
    X, clf = series("irregular"), SSMClassifier(**SIZES, max_steps=2)
    with team(1):
        expected = cross_val_predict(clf, X, LABELS, cv=2, method="predict_proba")
    with team(2) as used, parallel_config(backend, n_jobs=2):
        found = cross_val_predict(clf, X, LABELS, cv=2, method="predict_proba")
    assert backend == "loky" or used & threaded_functions()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)  # two steps of Adam on rounded gradients
