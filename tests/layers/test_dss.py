"""DSS: the layer contract, and what is its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contract import BOTH, CHANNELS, LENGTH, N_STATE, LayerContract, Make, close, gaps, maker, signal
from module_contract import ModuleContract
from numpy.typing import NDArray

from tsssm.hippo import diagonal
from tsssm.layers import DSS, S4D

LAYERS = [
    maker(DSS, form="exp"),
    maker(DSS, form="softmax"),
    maker(DSS, form="softmax", method="foh", horizon=37.5),
]


def double(form: str, horizon: float = LENGTH, **options: object) -> DSS:
    return maker(DSS, form=form, horizon=horizon, **options).values[0](False)


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    @BOTH
    @pytest.mark.parametrize("c", [0.5, 3.0])
    def test_constant_gap_is_another_timescale(self, make: Make, bidirectional: bool, c: float) -> None:
        """The horizon is a time as well: on a grid of another step it has another number of samples."""
        layer, u = make(bidirectional), signal()
        by_gap, _ = layer(u, torch.full(u.shape[:2], c, dtype=u.dtype))
        with torch.no_grad():
            layer.log_dt += math.log(c)
        layer.horizon /= c
        close(by_gap, layer(u)[0])


@pytest.mark.parametrize("make", LAYERS[1:2])
class TestModule(ModuleContract):
    pass


@pytest.mark.parametrize("form", ["exp", "softmax"])
def test_is_s4d_with_another_readout(form: str) -> None:
    """On any grid; and the exponential form is S4D with B = 1 in its own parameters."""
    layer, other = double(form), S4D(CHANNELS, N_STATE).double()
    with torch.no_grad():
        for name in ("log_dt", "A_real", "A_imag", "C", "D"):
            getattr(other, name).copy_(getattr(layer, name))
        other.B.copy_(torch.tensor([1.0, 0.0]).expand_as(other.B))
        if form == "softmax":
            other.C.copy_(torch.view_as_real(layer.readout()[:, 0] / 2))
    for dt in (None, gaps()):
        close(other(signal(), dt)[0], layer(signal(), dt)[0])


def paper_kernel(layer: DSS, horizon: int) -> NDArray[np.float64]:
    """2203.14343, Proposition 1, (a) as a sum over modes and (b) by a softmax over the row of each mode."""
    p = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    kernel = np.empty((horizon, CHANNELS))
    for h in range(CHANNELS):
        Lambda = -np.exp(p["A_real"][h]) + 1j * p["A_imag"][h]
        w = p["C"][0, h, :, 0] + 1j * p["C"][0, h, :, 1]
        step = np.exp(p["log_dt"][h])
        rows = np.exp(np.outer(Lambda * step, np.arange(horizon)))
        if layer.form == "softmax":
            rows /= rows.sum(axis=1, keepdims=True)
            weights = w / Lambda
        else:
            weights = w * (np.exp(Lambda * step) - 1) / Lambda
        kernel[:, h] = 2 * (weights @ rows).real
    return kernel


@pytest.mark.parametrize("form", ["exp", "softmax"])
def test_impulse_response_and_kernel_are_those_of_the_paper(form: str) -> None:
    layer = double(form, dt_min=0.05, dt_max=0.2)
    impulse = torch.zeros(1, LENGTH, CHANNELS, dtype=torch.float64)
    impulse[:, 0] = 1
    with torch.no_grad():
        layer.D.zero_()
    found = layer(impulse)[0][0]
    expected = paper_kernel(layer, LENGTH)
    # The regularised reciprocal differs from 1 / x by a share epsilon / |x|^2, and |x| > 0.3 here.
    x = torch.expm1(layer.eigenvalues() * layer.log_dt.exp()[:, None] * LENGTH)
    assert x.abs().min() > 0.3
    close(found, torch.as_tensor(expected), 1e-10 if form == "exp" else 1e-7 / 0.3**2)
    close(layer.kernel(LENGTH)[0], found)


def test_kernel_holds_beyond_the_horizon_and_does_not_see_the_length() -> None:
    layer = double("softmax", horizon=8)
    u = signal()
    close(layer(u)[0][:, :20], layer(u[:, :20])[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_decay", [-30.0, -8.0])
def test_vanishing_denominator_stays_finite(log_decay: float, dtype: torch.dtype) -> None:
    """z T near 0 and near 2 pi i, where the sum over the horizon of the softmax is 0 or its inverse grows."""
    layer = DSS(CHANNELS, N_STATE, form="softmax", horizon=100).to(dtype)
    with torch.no_grad():
        layer.log_dt.fill_(math.log(0.01))
        layer.A_real.fill_(log_decay)
        layer.A_imag.copy_(2 * math.pi * torch.arange(N_STATE // 2).expand_as(layer.A_imag))
    y, _ = layer(signal().to(dtype))
    assert y.isfinite().all()
    # |conj(x) / (|x|^2 + epsilon)| is at most 1 / (2 sqrt(epsilon)).
    assert (layer.readout().abs() <= 2 * torch.view_as_complex(layer.C).abs() / (2 * 1e-7**0.5) + 1e-6).all()
    y.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_initial_system() -> None:
    torch.manual_seed(0)
    layer = DSS(400, N_STATE)
    expected = torch.as_tensor(diagonal("legs", N_STATE)[0], dtype=torch.complex64)
    torch.testing.assert_close(layer.eigenvalues(), expected.expand(400, -1))
    assert torch.equal(torch.view_as_complex(layer.B), torch.ones_like(expected).expand(400, -1))
    assert layer.log_dt.exp().min() >= 1e-3 and layer.log_dt.exp().max() <= 0.1
    assert sum(p.numel() for p in layer.parameters()) == 400 * (2 * N_STATE + 2)
    assert sum(p.numel() for p in DSS(7, 4, bidirectional=True).parameters()) == 7 * (3 * 4 + 2)
    assert set(layer.state_dict()) == {"log_dt", "A_real", "A_imag", "C", "D"}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"form": "cauchy"}, "form"),
        ({"form": None}, "form"),
        ({"horizon": 0}, "horizon"),
        ({"horizon": -1.0}, "horizon"),
        ({"horizon": math.inf}, "horizon"),
        ({"horizon": math.nan}, "horizon"),
        ({"horizon": "1024"}, "horizon"),
        ({"horizon": True}, "horizon"),
        ({"d_state": 5}, "d_state"),
        ({"d_model": 0}, "d_model"),
        ({"method": "tustin"}, "method"),
        ({"dt_min": 0.0}, "dt_min"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        DSS(**{"d_model": CHANNELS, "d_state": N_STATE} | options)
