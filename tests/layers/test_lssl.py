"""LSSL: the layer contract, and what is its own."""

from __future__ import annotations

import copy

import pytest
import torch
from contract import CHANNELS, N_STATE, LayerContract, close, gaps, maker, signal

from tsssm.hippo import transition
from tsssm.layers import LSSL

LAYERS = [
    maker(LSSL),
    maker(LSSL, measure="legt", method="backward-euler"),
    maker(LSSL, measure="lagt", method=0.3),
]


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    @staticmethod
    def _options(layer: LSSL) -> dict[str, object]:
        # The measure is in the buffers, which a state dict restores.
        ranks = {2: "legt", 1: "legs"}
        return {"method": layer.alpha, "measure": ranks[layer.low_rank.shape[0]]}


def test_convolution_equals_recurrence_for_a_long_series_and_a_large_state() -> None:
    """Where the non-normal LegS makes powers of its matrix grow before they decay."""
    torch.manual_seed(0)
    layer = LSSL(3, 64).double()
    u = torch.randn(1, 300, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    by_convolution, state = layer(u)
    by_recurrence, same = layer(u, torch.ones(1, 300, dtype=u.dtype))
    close(by_convolution, by_recurrence, 1e-9)
    close(state, same, 1e-9)
    # And in float32, in which only the readout and the signal are rounded.
    single, _ = copy.deepcopy(layer).float()(u.float())
    close(single.double(), by_convolution, 1e-5)


def test_system_is_fixed_and_keeps_its_precision() -> None:
    layer = LSSL(CHANNELS, N_STATE)
    assert {name for name, _ in layer.named_parameters()} == {"C", "D"}
    assert list(layer.system_parameters()) == []
    for convert in (torch.nn.Module.half, torch.nn.Module.float, lambda m: m.to(torch.float32)):
        converted = convert(copy.deepcopy(layer))
        for name, buffer in layer.named_buffers():
            assert torch.equal(converted.get_buffer(name), buffer), name
    A, B = transition("legs", N_STATE)
    assert torch.equal(layer.A, torch.as_tensor(A)) and torch.equal(layer.B, torch.as_tensor(B))


def test_timescales_are_spread_geometrically() -> None:
    layer = LSSL(CHANNELS, N_STATE, dt_min=1e-3, dt_max=1e-1)
    expected = torch.tensor([10.0 ** (-3 + k / 2) for k in range(5)], dtype=torch.float64)
    torch.testing.assert_close(layer.log_dt.exp(), expected)


def test_long_kernel_takes_the_transforms() -> None:
    """Beyond the longest direct convolution, the first outputs are those of a shorter series."""
    layer = LSSL(2, 4).double()
    u = torch.randn(1, 1500, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    close(layer(u)[0][:, :40], layer(u[:, :40])[0])


def test_state_of_another_size_is_refused() -> None:
    layer = LSSL(CHANNELS, N_STATE)
    with pytest.raises(ValueError, match=r"^state must be \(3, 5, 6\); got \(3, 5, 7\)"):
        layer(signal().float(), gaps().float(), torch.zeros(3, CHANNELS, N_STATE + 1))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"measure": "fourier"}, "measure"),
        ({"method": "zoh"}, "method"),
        ({"method": "foh"}, "method"),
        ({"method": -0.5}, "method"),
        ({"d_state": 0}, "d_state"),
        ({"d_model": 2.5}, "d_model"),
        ({"dt_min": -1.0}, "dt_min"),
        ({"dt_max": 1e-4}, "dt_max"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LSSL(**{"d_model": CHANNELS, "d_state": N_STATE} | options)
