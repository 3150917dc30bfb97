"""S4D: the layer contract, and what is its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from contract import BATCH, BOTH, CHANNELS, LENGTH, N_STATE, LayerContract, Make, close, gaps, maker, signal
from module_contract import ModuleContract

from tsssm.hippo import diagonal
from tsssm.layers import S4D, s4d
from tsssm.ops import causal_conv, vandermonde

LAYERS = [
    maker(S4D),
    maker(S4D, init="lin", method="foh"),
    maker(S4D, init="inv", method="bilinear"),
    maker(S4D, init="legs", method="backward-euler"),
    maker(S4D, init="lin", method=0.3),
    maker(S4D, init="legs", method="euler", dt_max=0.01),
    maker(S4D, real_part="softplus"),
]


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    pass


@pytest.mark.parametrize("make", LAYERS[:1])
class TestModule(ModuleContract):
    pass


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("length", [1, 2, LENGTH, LENGTH + 3])
def test_kernel_is_the_impulse_response_of_each_direction(make: Make, length: int) -> None:
    layer = make(True)
    impulses = torch.zeros(2, length, CHANNELS, dtype=torch.float64)
    impulses[0, 0] = impulses[1, -1] = 1
    y, _ = layer(impulses)
    forward, backward = layer.kernel(length)
    # What reads backwards answers to the first sample at that sample alone, and the other way round.
    (at_forward, at_backward), D = layer.kernel(1)[:, 0], layer.D
    forward, backward = forward.clone(), backward.clone()
    forward[0] += at_backward + D
    backward[0] += at_forward + D
    close(y[0], forward)
    close(y[1].flip(0), backward)


def test_kernel_where_a_step_forgets_everything() -> None:
    """The bilinear step of two time constants has A_bar = 0, which has no logarithm."""
    by_scan, by_kernel = (S4D(1, 2, init="lin", method="bilinear").double() for _ in range(2))
    for layer in (by_scan, by_kernel):
        with torch.no_grad():
            layer.A_real.zero_()  # A = -1
            layer.log_dt.fill_(math.log(2))
            layer.C.fill_(1)
            layer.D.zero_()
    impulse = torch.zeros(1, 4, 1, dtype=torch.float64)
    impulse[0, 0] = 1
    response, kernel = by_scan(impulse)[0][0], by_kernel.kernel(4)[0]
    assert (response[1:] == 0).all() and response[0] != 0
    close(kernel, response)
    for output in (kernel, response):
        output.sum().backward()
    for name, parameter in by_kernel.named_parameters():
        if name != "D":
            close(parameter.grad, by_scan.get_parameter(name).grad)


@pytest.mark.parametrize("make", LAYERS)
def test_convolution_with_the_kernel_equals_the_scan(make: Make) -> None:
    """Values and gradients."""
    u = signal()
    by_scan, by_kernel = make(False), make(False)
    expected, _ = by_scan(u)
    y = causal_conv(u, by_kernel.kernel(LENGTH))[:, 0] + by_kernel.D * u
    close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, p), q in zip(by_kernel.named_parameters(), by_scan.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-9 * q.grad.abs().max().item(), msg=name)


@BOTH
@pytest.mark.parametrize("method", ["zoh", "foh"])
def test_convolution_is_taken_where_it_is_preferred(
    bidirectional: bool, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a regular grid from rest, when no final state is asked for; nothing else changes."""
    layer, u, dt = maker(S4D, method=method).values[0](bidirectional), signal(), gaps()
    arguments = [(u,), (u, dt)] + ([] if bidirectional else [(u, None, layer.initial_state(BATCH))])
    expected = [layer(*given)[0] for given in arguments]
    single = layer(u.float().bfloat16())[0]
    calls = []
    monkeypatch.setattr(s4d, "prefers_convolution", lambda *_: True)
    monkeypatch.setattr(s4d, "vandermonde", lambda *given: calls.append(1) or vandermonde(*given))
    for given, y in zip(arguments, expected, strict=True):
        assert layer(*given)[1] is not None
        close(layer(*given)[0], y)
    assert not calls
    for given, y in zip(arguments, expected, strict=True):
        found, state = layer(*given, need_state=False)
        close(found, y)
        assert state is None
    assert len(calls) == (1 if method == "zoh" else 2)
    found = layer(u.float().bfloat16(), need_state=False)[0]
    assert found.dtype == torch.bfloat16
    close(found.float(), single.float(), 2 * torch.finfo(torch.bfloat16).eps)
    layer = layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(u.float(), need_state=False)[0]
    close(found.double(), expected[0], 1e-5)


@pytest.mark.parametrize("method", ["zoh", "bilinear", 0.7])
def test_kernel_in_single_precision_at_large_lags(method: str | float) -> None:
    """Within 2e-5 of the largest entry over 8,192 steps of modes that turn often and hardly decay."""
    torch.manual_seed(0)
    layer = S4D(CHANNELS, 16, method=method, dt_min=1e-4, dt_max=1e-3)
    with torch.no_grad():
        layer.A_real.fill_(math.log(0.2))
    found = layer.kernel(8192)
    close(found.double(), layer.double().kernel(8192), 2e-5)


def test_kernel_of_no_lag_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^length must be at least 1; got 0"):
        S4D(CHANNELS, N_STATE).kernel(0)


@pytest.mark.parametrize("real_part", ["exp", "softplus"])
@pytest.mark.parametrize("init", ["legs", "lin", "inv"])
def test_initial_system(init: str, real_part: str) -> None:
    torch.manual_seed(0)
    layer = S4D(400, N_STATE, init=init, real_part=real_part, dt_min=0.01, dt_max=0.1)
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


@pytest.mark.parametrize(
    ("real_part", "decay"), [("exp", math.exp), ("softplus", lambda a: math.log1p(math.exp(a)))]
)
def test_real_part_is_negative_whatever_is_learned(real_part: str, decay: Callable[[float], float]) -> None:
    layer = S4D(1, 6, real_part=real_part).double()
    learned = (-30.0, 0.25, 30.0)
    with torch.no_grad():
        layer.A_real.copy_(torch.tensor([learned]))
    expected = torch.tensor([[-decay(a) for a in learned]], dtype=torch.float64)
    torch.testing.assert_close(layer.eigenvalues().real, expected, rtol=1e-12, atol=0)


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
        ({"real_part": "relu"}, "real_part"),
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
