"""The scan by dense matrices, through the layer that uses it, in float64."""

from __future__ import annotations

import pytest
import torch
from contract import BATCH, CHANNELS, N_STATE, close, gaps, signal

from tsssm.layers import LSSL, _dense


def test_zero_order_hold_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same output and gradients however few matrices may exist at a time."""
    results = []
    # Of 120 samples 70 gaps are distinct: one block; two blocks with all matrices; four samples a block; one;
    # and blocks of 64 by products of matrices, as on a device where each step of a loop is a launch.
    for matrices, folds in ((1000, False), (100, False), (4 * BATCH, False), (0, False), (0, True)):
        monkeypatch.setattr(_dense, "_folds", lambda _, folds=folds: folds)
        monkeypatch.setattr(_dense, "MATRIX_ENTRIES", matrices * CHANNELS * N_STATE**2)
        torch.manual_seed(0)
        layer = LSSL(CHANNELS, N_STATE, method="zoh", bidirectional=True).double()
        dt = gaps()
        dt[:, 3:20] = 0.5
        y, state = layer(signal(), dt)
        results.append([y, state, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            close(found, expected, 1e-12)


def test_gaps_have_a_gradient_by_zero_order_hold() -> None:
    layer, u = LSSL(2, 3, method="zoh").double(), signal(4)[:1, :, :2]
    dt = gaps(4)[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda d: layer(u, d)[0], (dt,), atol=1e-6)
