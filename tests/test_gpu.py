"""What must hold where there is a CUDA device; on other machines these tests say that they did not run."""

from __future__ import annotations

import pickle

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


@pytest.mark.parametrize("layer", [S4D, DSS, S5, S4, LiquidS4, LSSL])
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
