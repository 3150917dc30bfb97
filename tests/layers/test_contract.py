"""The contract itself: every layer is under it, and it would notice."""

from __future__ import annotations

import importlib

import pytest
import torch
from contract import CHANNELS, N_STATE, LayerContract, maker, signal
from module_contract import ModuleContract
from torch import Tensor

from tsssm import layers
from tsssm.layers import S4D, SSMLayer

MODULES = {
    "DSS": "test_dss",
    "LSSL": "test_lssl",
    "LinOSS": "test_linoss",
    "LiquidS4": "test_liquid_s4",
    "S4": "test_s4",
    "S4D": "test_s4d",
    "S5": "test_s5",
}


def test_every_layer_is_under_the_contract() -> None:
    public = {name for name in layers.__all__ if name != "SSMLayer"}
    assert public == MODULES.keys()
    for name, module in MODULES.items():
        tests = importlib.import_module(module)
        assert issubclass(tests.TestContract, LayerContract)
        assert issubclass(tests.TestModule, ModuleContract)
        built = [parameter.values[0](False) for parameter in tests.LAYERS]
        assert {type(layer).__name__ for layer in built} == {name}


@pytest.mark.parametrize("name", MODULES)
def test_the_default_dtype_of_torch_is_that_of_a_layer(name: str) -> None:
    variants: list[dict[str, object]] = [{}, {"bidirectional": True}]
    if name == "LiquidS4":
        variants.append({"system": "dplr"})
    torch.set_default_dtype(torch.float64)
    try:
        built = [getattr(layers, name)(CHANNELS, N_STATE, **options) for options in variants]
        for layer in built:
            assert all(parameter.dtype == torch.float64 for parameter in layer.parameters())
            y, _ = layer(signal())
            assert y.dtype == torch.float64 and y.isfinite().all()
    finally:
        torch.set_default_dtype(torch.float32)


class Leaking(S4D):
    """Adds the mean of the whole series, the future included."""

    def forward(
        self, u: Tensor, dt: Tensor | None = None, state: object = None, **options: bool
    ) -> tuple[Tensor, object]:
        y, end = super().forward(u, dt, state)
        return y + u.mean(1, keepdim=True), end


class Forgetful(S4D):
    """Drops the state that it is given."""

    def forward(
        self, u: Tensor, dt: Tensor | None = None, state: object = None, **options: bool
    ) -> tuple[Tensor, object]:
        return super().forward(u, dt)


class Timeless(S4D):
    """Takes every grid for a regular one."""

    def forward(
        self, u: Tensor, dt: Tensor | None = None, state: object = None, **options: bool
    ) -> tuple[Tensor, object]:
        return super().forward(u, None, state)


@pytest.mark.parametrize(
    ("layer", "broken"),
    [
        (Leaking, lambda c, make: c.test_a_later_input_changes_nothing_before(make, 20, False)),
        (Leaking, lambda c, make: c.test_sequence_equals_steps(make, False)),
        (Forgetful, lambda c, make: c.test_state_is_carried_over_a_cut(make, 7, False)),
        (Forgetful, lambda c, make: c.test_sequence_equals_steps(make, True)),
        (Timeless, lambda c, make: c.test_constant_gap_is_another_timescale(make, False, 3.0)),
        (Timeless, lambda c, make: c.test_padding_changes_nothing(make, True)),
        (Timeless, lambda c, make: c.test_equals_brute_force(make, False, False)),
        (Timeless, lambda c, make: c.test_a_hold_may_be_refined(make)),
        (Timeless, lambda c, make: c.test_two_random_grids_converge(make)),
    ],
)
def test_contract_notices(layer: type[SSMLayer], broken: object) -> None:
    with pytest.raises(AssertionError):
        broken(LayerContract(), maker(layer).values[0])


def test_base_alone_is_no_layer() -> None:
    layer = SSMLayer(CHANNELS, N_STATE)
    with pytest.raises(NotImplementedError):
        layer(signal())
    with pytest.raises(NotImplementedError):
        layer.initial_state(2)
    assert list(layer.system_parameters()) == []
    assert isinstance(layer, torch.nn.Module)
