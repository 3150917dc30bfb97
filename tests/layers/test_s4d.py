"""S4D: the layer contract, and what is its own."""

from __future__ import annotations

import math

import pytest
import torch
from contract import BATCH, CHANNELS, N_STATE, LayerContract, close, gaps, maker, signal

from tsssm.hippo import diagonal
from tsssm.layers import S4D

LAYERS = [
    maker(S4D),
    maker(S4D, init="lin", method="foh"),
    maker(S4D, init="inv", method="bilinear"),
    maker(S4D, init="legs", method="backward-euler"),
    maker(S4D, init="lin", method=0.3),
    maker(S4D, init="legs", method="euler", dt_max=0.01),
]


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    pass


def test_zero_order_hold_may_be_refined() -> None:
    """One step over d1 + d2 equals two steps, over d1 and d2, with the input held."""
    layer = maker(S4D, method="zoh").values[0](False)
    u, dt = signal(), gaps()
    y, state = layer(u, dt)
    part = torch.rand(dt.shape, generator=torch.Generator().manual_seed(5), dtype=dt.dtype)
    finer = torch.stack([part * dt, (1 - part) * dt], dim=2).flatten(1)
    fine, fine_state = layer(u.repeat_interleave(2, dim=1), finer)
    close(fine[:, 1::2], y)
    close(fine_state.x, state.x)


def test_first_order_hold_may_be_refined() -> None:
    """A point on the line between two samples changes nothing."""
    layer = maker(S4D, method="foh").values[0](False)
    u, dt = signal(), gaps()
    _, state = layer(u, dt)
    before = torch.cat([torch.zeros_like(u[:, :1]), u[:, :-1]], dim=1)
    part = torch.rand(dt.shape, generator=torch.Generator().manual_seed(5), dtype=dt.dtype)
    between = before + part[..., None] * (u - before)
    finer = torch.stack([part * dt, (1 - part) * dt], dim=2).flatten(1)
    _, fine_state = layer(torch.stack([between, u], dim=2).flatten(1, 2), finer)
    close(fine_state.x, state.x)


@pytest.mark.parametrize("init", ["legs", "lin", "inv"])
def test_initial_system(init: str) -> None:
    torch.manual_seed(0)
    layer = S4D(400, N_STATE, init=init, dt_min=0.01, dt_max=0.1)
    eigenvalues, B = diagonal(init, N_STATE)
    A = layer.eigenvalues()
    for h in (0, 399):
        torch.testing.assert_close(A[h], torch.as_tensor(eigenvalues, dtype=A.dtype))
        torch.testing.assert_close(torch.view_as_complex(layer.B)[h], torch.as_tensor(B, dtype=A.dtype))
    step = layer.log_dt.exp()
    assert 0.01 <= step.min() < 0.011 and 0.09 < step.max() <= 0.1
    # Log-uniform: half of the timescales lie below the geometric mean; 6 standard errors.
    assert abs((step < math.sqrt(0.001)).float().mean().item() - 0.5) < 0.15
    assert sum(p.numel() for p in layer.parameters()) == 400 * (3 * N_STATE + 2)


def test_state_for_a_layer_of_another_precision_is_refused() -> None:
    layer = S4D(CHANNELS, N_STATE)
    with pytest.raises(ValueError, match=r"^state.x must be torch.complex64"):
        layer(signal().float(), None, S4D(CHANNELS, N_STATE).double().initial_state(BATCH))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"d_state": 5}, "d_state"),
        ({"d_state": 0}, "d_state"),
        ({"d_state": 4.0}, "d_state"),
        ({"d_model": 0}, "d_model"),
        ({"d_model": True}, "d_model"),
        ({"init": "hippo"}, "init"),
        ({"method": "tustin"}, "method"),
        ({"method": 1.5}, "method"),
        ({"dt_min": 0.0}, "dt_min"),
        ({"dt_min": 0.2, "dt_max": 0.1}, "dt_min"),
        ({"dt_max": math.inf}, "dt_max"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        S4D(**{"d_model": CHANNELS, "d_state": N_STATE} | options)
