"""Liquid-S4: the layer contract, and what is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import BOTH, CHANNELS, N_STATE, LayerContract, Make, close, gaps, maker, signal

from tsssm.layers import LSSL, S4D, LiquidS4

LAYERS = [
    maker(LiquidS4),
    maker(LiquidS4, init="inv", method="bilinear"),
    maker(LiquidS4, init="lin", method=0.7),
]


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    test_sequence_equals_convolution = None  # its response depends on the input

    @BOTH
    @pytest.mark.parametrize("irregular", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_finite_for_large_inputs(
        self, make: Make, bidirectional: bool, irregular: bool, dtype: torch.dtype
    ) -> None:
        layer = make(bidirectional).to(dtype)
        u = 1e6 * torch.sign(signal(200)).to(dtype)
        for held in (u, u.abs(), -u.abs()):
            y, state = layer(held, gaps(200).to(dtype) if irregular else None)
            assert y.isfinite().all() and state.x.isfinite().all()
            y.sum().backward()
            assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_transition_depends_on_the_input() -> None:
    """Superposition holds for S4D with the same parameters and fails here."""
    liquid, linear = LiquidS4(CHANNELS, N_STATE).double(), S4D(CHANNELS, N_STATE).double()
    linear.load_state_dict(liquid.state_dict())
    u, v = signal(), signal(seed=9)
    for layer, superposes in ((linear, True), (liquid, False)):
        difference = layer(u + v)[0] - layer(u)[0] - layer(v)[0]
        assert (difference.abs().max() < 1e-10) == superposes


def test_small_inputs_approach_the_linear_layer() -> None:
    """The liquid term is of second order in the input."""
    liquid, linear = LiquidS4(CHANNELS, N_STATE).double(), S4D(CHANNELS, N_STATE).double()
    linear.load_state_dict(liquid.state_dict())
    u = signal()
    gap = [(liquid(scale * u)[0] - linear(scale * u)[0]).abs().max().item() / scale for scale in (1e-4, 1e-6)]
    assert gap[0] / gap[1] == pytest.approx(100, rel=0.05)


def test_gap_of_zero_leaves_the_state_alone() -> None:
    layer = LiquidS4(CHANNELS, N_STATE).double()
    u, dt = signal(), gaps()
    _, state = layer(u, dt)
    _, same = layer(1e6 * u, torch.zeros_like(dt), state)
    close(same.x, state.x, 0.0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "foh"}, "method"),
        ({"method": "tustin"}, "method"),
        ({"kernel": "kb"}, "kernel"),
        ({"d_state": 3}, "d_state"),
        ({"init": "hippo"}, "init"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        LiquidS4(**{"d_model": CHANNELS, "d_state": N_STATE} | options)


@pytest.mark.parametrize("size", [1e15, 1e20, 1e30])
def test_inputs_whose_squares_overflow(size: float) -> None:
    torch.manual_seed(0)
    layer = LiquidS4(4, 8)
    u = size * torch.sign(torch.randn(1, 50, 4))
    for dt in (None, torch.rand(1, 50)):
        y, state = layer(u, dt)
        assert y.isfinite().all() and state.x.isfinite().all()


@pytest.mark.parametrize("layer", [S4D, LiquidS4, LSSL])
def test_sizes_may_be_numpy_integers(layer: type) -> None:
    u = torch.randn(1, 5, 4)
    assert layer(np.int64(4), np.int32(8))(u)[0].shape == u.shape
