"""What must hold where there is a CUDA device; on other machines these tests say that they did not run."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch

from tsssm.backbone import BACKBONES
from tsssm.layers import DSS, LSSL, S4, S4D, S5, LiquidS4
from tsssm.ops import causal_conv, diagonal_scan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Largest error relative to the largest entry.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


LAYERS = [S4D, DSS, S5, S4, LSSL, LiquidS4]
LAYERS += [partial(LiquidS4, kernel=kernel, order=3) for kernel in ("exact", "kb", "pb")]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("need_state", [True, False])
@pytest.mark.parametrize("regular", [True, False])
def test_a_layer_computes_the_same_on_both_devices(layer, regular, need_state):
    torch.manual_seed(0)
    on_cpu = layer(6, 8, bidirectional=True)
    u = torch.randn(3, 40, 6)
    dt = None if regular else torch.rand(3, 40) + 0.1
    results = {}
    for device in ("cpu", "cuda"):
        net = pickle.loads(pickle.dumps(on_cpu)).to(device)
        inputs = u.to(device).requires_grad_()
        y, _ = net(inputs, None if dt is None else dt.to(device), need_state=need_state)
        y.square().sum().backward()
        results[device] = [y.detach(), inputs.grad, *(p.grad for p in net.parameters())]
    for found, expected in zip(results["cuda"], results["cpu"], strict=True):
        assert found.device.type == "cuda"
        assert relative_error(found, expected) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("regular", [True, False])
def test_autocast_leaves_the_system_alone(layer, regular):
    torch.manual_seed(0)
    net = layer(6, 8).cuda()
    u, dt = torch.randn(3, 40, 6, device="cuda"), None if regular else torch.rand(3, 40, device="cuda")
    expected = net(u, dt)[0].detach()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        y, _ = net(u, dt)
        half, _ = net(u.bfloat16(), dt)
    assert y.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert relative_error(y, expected.cpu()) < TOLERANCE[torch.float32]
    # Eight bits of the input and of the output, and the products of the two that liquid layers take.
    assert relative_error(half.float(), expected.cpu()) < 0.05


def test_operations_in_double_precision_are_the_same_on_both_devices():
    random = torch.Generator().manual_seed(0)
    u = torch.randn(2, 30, 4, generator=random, dtype=torch.float64)
    kernel = torch.randn(2, 30, 4, generator=random, dtype=torch.float64)
    A = torch.complex(-torch.rand(4, 3, generator=random) - 0.1, torch.randn(4, 3, generator=random)).to(
        torch.complex128
    )
    C = torch.randn(1, 4, 3, generator=random, dtype=torch.complex128)
    step = torch.rand(4, generator=random, dtype=torch.float64)
    dt = torch.rand(2, 30, generator=random, dtype=torch.float64)
    scan = [u, A, torch.ones_like(A), C, step, dt]
    for operation, operands in ((diagonal_scan, scan), (causal_conv, [u, kernel])):
        expected, found = operation(*operands), operation(*(t.cuda() for t in operands))
        if operation is diagonal_scan:
            expected, found = expected[0], found[0]
        assert relative_error(found, expected) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_classifier_learns_on_the_gpu_and_predicts_on_the_cpu(backbone):
    pytest.importorskip("sktime")
    from tsssm import SSMClassifier

    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = rng.normal(size=(24, 2, 12)) + y[:, None, None]
    settings = {"n_layers": 2, "d_model": 8, "d_state": 4, "max_epochs": 15, "random_state": 0}
    clf = SSMClassifier(backbone=backbone, accelerator="gpu", **settings).fit(X, y)
    assert all(p.device.type == "cpu" for p in clf.net_.parameters())
    on_gpu = clf.predict_proba(X)
    assert clf.score(X, y) > 0.9
    elsewhere = pickle.loads(pickle.dumps(clf))
    elsewhere.accelerator = "cpu"
    np.testing.assert_allclose(elsewhere.predict_proba(X), on_gpu, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains(precision):
    pytest.importorskip("sktime")
    from tsssm import SSMRegressor

    rng = np.random.default_rng(0)
    level = rng.normal(size=30)
    X = level[:, None, None] + 0.1 * rng.normal(size=(30, 1, 15))
    reg = SSMRegressor(
        n_layers=1,
        d_model=8,
        d_state=4,
        max_epochs=40,
        accelerator="gpu",
        precision=precision,
        random_state=0,
    )
    assert reg.fit(X, level).score(X, level) > 0.5


@pytest.mark.parametrize("basis", ["diagonal", "legt"])
@pytest.mark.parametrize("irregular", [False, True])
def test_closed_form_features_are_the_same_on_both_devices(basis, irregular):
    pytest.importorskip("sktime")
    from tsssm import Panel, SSMFeatures

    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 200, size=40)
    series = [rng.normal(size=(3, length)) for length in lengths]
    for values in series[::3]:
        values[rng.random(values.shape) < 0.3] = np.nan
    times = [np.sort(rng.uniform(0, length, length)) for length in lengths]
    X = Panel.from_arrays(series, times if irregular else None)
    trafo = SSMFeatures(basis=basis, accelerator="cpu", random_state=0).fit(X)
    expected = trafo.transform(X)
    found = trafo.set_params(accelerator="gpu").fit(X).transform(X)
    # Half of the features are roots, which magnify what is small. In float32 a readout close to a threshold
    # may be on either side of it, and then a sample counts or not: that is rare, and little of a series.
    error = np.abs(found**2 - expected**2)[lengths > 50]
    assert np.quantile(error, 0.999) < 1e-4 and error.max() < 0.1
    np.testing.assert_array_equal(trafo.transform(X), found)


def test_a_ridge_on_features_of_the_gpu_predicts_on_the_cpu():
    pytest.importorskip("sktime")
    from tsssm import SSMFeaturesClassifier

    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = np.sin((y + 2)[:, None] * np.linspace(0, 10, 120) + rng.uniform(0, 6, size=(60, 1)))
    X += 0.3 * rng.normal(size=X.shape)
    clf = SSMFeaturesClassifier(accelerator="gpu", random_state=0).fit(X[:30], y[:30])
    on_gpu = clf.predict_proba(X[30:])
    assert clf.score(X[30:], y[30:]) > 0.9
    elsewhere = pickle.loads(pickle.dumps(clf))
    elsewhere.accelerator = "cpu"
    # A few samples on the other side of thresholds move probabilities by less than this.
    np.testing.assert_allclose(elsewhere.predict_proba(X[30:]), on_gpu, atol=0.02)
