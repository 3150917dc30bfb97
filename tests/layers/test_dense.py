"""The scan by dense matrices, through the layer that uses it, in float64."""

from __future__ import annotations

import pytest
import torch
from contract import BATCH, CHANNELS, N_STATE, close, gaps, signal

from tsssm.layers import LSSL, _dense


def test_zero_order_hold_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same output and gradients however few matrices may exist at a time."""
    results = []
    # Of 120 samples 70 gaps are distinct: one block; two blocks with all matrices; four samples a block; one.
    for matrices in (1000, 100, 4 * BATCH, 0):
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
