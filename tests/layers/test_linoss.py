"""LinOSS: the layer contract, and what is its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contract import CHANNELS, N_STATE, LayerContract, close, maker
from module_contract import ModuleContract
from scipy.linalg import expm
from test_s5 import SharedConvolution

from tsssm.layers import LinOSS

LAYERS = [
    maker(LinOSS),
    maker(LinOSS, n_blocks=2, method="foh"),
    maker(LinOSS, n_blocks=2, method=0.7),
]


@pytest.mark.parametrize("make", LAYERS)
class TestContract(SharedConvolution, LayerContract):
    pass


@pytest.mark.parametrize("make", LAYERS[1:2])
class TestModule(ModuleContract):
    pass


@pytest.mark.parametrize("log_frequency", [-20.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("gap", [1e-3, 1.0, 700.0])
def test_a_gap_is_exact_for_any_damping(log_frequency: float, gap: float) -> None:
    """Position and velocity after a gap, by the dense exponential, up to nearly critical damping."""
    torch.manual_seed(0)
    layer = LinOSS(1, 2).double()
    with torch.no_grad():
        layer.log_dt.fill_(math.log(0.5))
        layer.log_decay.fill_(math.log(0.5))
        layer.log_frequency.fill_(log_frequency)
        layer.C.fill_(1)
        layer.D.zero_()
    a, omega = 0.5, math.exp(log_frequency)
    u, dt = (
        torch.tensor([[[1.0], [0.0]]], dtype=torch.float64),
        torch.tensor([[2.0, gap]], dtype=torch.float64),
    )
    with torch.no_grad():
        y, _ = layer(u, dt)
    drive = math.hypot(a, omega) * layer.B.item()
    A = np.array([[0.0, 1.0, 0.0], [-(a**2 + omega**2), -2 * a, drive], [0.0, 0.0, 0.0]])
    held = expm(0.5 * 2.0 * A)[:2, 2]
    after = expm(0.5 * gap * A[:2, :2]) @ held
    close(y[0, :, 0], torch.tensor([held[0], after[0]]), 1e-12)


def test_an_oscillator_left_alone_loses_energy_in_every_step() -> None:
    torch.manual_seed(0)
    layer = LinOSS(CHANNELS, N_STATE, n_blocks=3, dt_min=0.1, dt_max=10.0)
    _, state = layer(torch.randn(2, 10, CHANNELS))
    sizes = [state.x.abs()]
    for gap in (1e-3, 0.1, 10.0, 1e4):
        _, state = layer.step(torch.zeros(2, CHANNELS), state, torch.full((2,), gap))
        sizes.append(state.x.abs())
    assert all((after < before).all() for before, after in zip(sizes, sizes[1:], strict=False))
    assert sizes[-1].max() < 1e-30


def test_number_of_parameters() -> None:
    for directions in (1, 2):
        layer = LinOSS(CHANNELS, N_STATE, n_blocks=4, bidirectional=directions == 2)
        P = 4 * N_STATE // 2
        numbers = sum(parameter.numel() for parameter in layer.parameters())
        assert numbers == 3 * P + P * CHANNELS * (1 + directions) + CHANNELS


@pytest.mark.parametrize(
    ("options", "name"),
    [({"d_state": 3}, "d_state"), ({"n_blocks": 0}, "n_blocks"), ({"method": "tustin"}, "method")],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        LinOSS(**{"d_model": CHANNELS, "d_state": N_STATE} | options)
