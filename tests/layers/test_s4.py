"""S4: the layer contract, and what is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute_force import dense_system
from contract import BATCH, CHANNELS, LENGTH, N_STATE, LayerContract, close, gaps, maker, signal
from module_contract import ModuleContract
from torch import Tensor

from tsssm import hippo
from tsssm.layers import LSSL, S4, S4D, s4

LAYERS = [
    maker(S4),
    maker(S4, measure="legt", method="backward-euler"),
    maker(S4, measure="fourier", method=0.7, real_part="softplus"),
    maker(S4, measure="lagt", method=0.3),
]
# The kernel of an impulse that is scanned, and that of the generating function.
KERNELS = pytest.mark.parametrize("scanned", [True, False], ids=["scanned", "generating function"])


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    pass


@pytest.mark.parametrize("make", LAYERS[:1])
class TestModule(ModuleContract):
    pass


def force(monkeypatch: pytest.MonkeyPatch, *, convolve: bool, scanned: bool = True) -> None:
    monkeypatch.setattr(s4, "prefers_convolution", lambda *_: convolve)
    monkeypatch.setattr(s4, "runs_compiled", lambda *_: scanned)


def exact(measure: str, **options: object) -> S4:
    """A layer in float64 whose system is that of HiPPO to rounding; P, B and Lambda were kept in float32."""
    layer, form = S4(CHANNELS, N_STATE, measure=measure, **options).double(), hippo.nplr(measure, N_STATE)
    half = hippo.conjugate_half(form)
    with torch.no_grad():
        layer.A_real.copy_(torch.log(torch.as_tensor(np.maximum(-half.Lambda.real, 1e-3))))
        layer.A_imag.copy_(torch.as_tensor(half.Lambda.imag))
        layer.B.copy_(torch.view_as_real(torch.as_tensor(half.B)))
        layer.P.copy_(torch.view_as_real(torch.as_tensor(half.P))[:, None])
    return layer


@KERNELS
@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("length", [1, 2, 17, LENGTH])
def test_kernel_is_the_impulse_response(
    make: object, length: int, scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(True)
    force(monkeypatch, convolve=True, scanned=scanned)
    found = layer.kernel(length)
    assert found.shape == (2, length, CHANNELS)
    for h in range(CHANNELS):
        system = dense_system(layer, h)
        n = len(system.B)
        left, right = (np.eye(n) + c * system.step * system.A for c in (-layer.alpha, 1 - layer.alpha))
        x = np.linalg.solve(left, system.step * system.B)
        for k in range(length):
            close(found[:, k, h], torch.as_tensor((system.C @ x).real), 1e-9)
            x = np.linalg.solve(left, right @ x)


@KERNELS
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("make", LAYERS)
def test_convolution_equals_scan(
    make: object, bidirectional: bool, scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, u = make(bidirectional), signal().requires_grad_()
    outputs, gradients = [], []
    for convolve in (True, False):
        force(monkeypatch, convolve=convolve, scanned=scanned)
        y, state = layer(u, need_state=False)
        assert state is None
        outputs.append(y)
        gradients.append(torch.autograd.grad(y.square().sum(), [u, *layer.parameters()]))
    close(*outputs)
    for by_convolution, by_scan in zip(*gradients, strict=True):
        close(by_convolution, by_scan, 1e-9)


def test_convolution_is_not_taken_for_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, u = S4(CHANNELS, N_STATE).double(), signal()
    start = torch.randn(BATCH, CHANNELS, N_STATE // 2, dtype=torch.complex128)
    calls = [
        lambda: layer(u, gaps(), need_state=False)[0],
        lambda: layer(u, None, start, need_state=False)[0],
        lambda: layer(u)[1],
    ]
    force(monkeypatch, convolve=False)
    expected = [call() for call in calls]
    force(monkeypatch, convolve=True)
    for call, value in zip(calls, expected, strict=True):
        assert torch.equal(call(), value)


@KERNELS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_convolution_in_half_precision_and_under_autocast(
    dtype: torch.dtype, scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, convolve=True, scanned=scanned)
    layer, u = S4(CHANNELS, N_STATE, bidirectional=True), signal().to(dtype)
    expected = layer(u.float(), need_state=False)[0]
    y = layer(u, need_state=False)[0]
    assert y.dtype == dtype
    close(y.float(), expected, torch.finfo(dtype).eps)
    with torch.autocast("cpu", torch.bfloat16):
        close(layer(u.float(), need_state=False)[0], expected, 1e-6)


@KERNELS
def test_convolution_compiles(scanned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, convolve=True, scanned=scanned)
    torch.compiler.reset()
    layer, u = S4(CHANNELS, N_STATE, bidirectional=True).double(), signal(4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    close(compiled(u, need_state=False)[0], layer(u, need_state=False)[0], 1e-12)


@pytest.mark.parametrize("dt", [None, gaps()], ids=["regular", "irregular"])
@pytest.mark.parametrize("need_state", [True, False])
def test_rank_one_legs_is_the_fixed_lssl(dt: Tensor | None, need_state: bool) -> None:
    torch.manual_seed(0)
    fixed = LSSL(CHANNELS, N_STATE, train_A=False, train_B=False, train_dt=False, bidirectional=True).double()
    layer, u = exact("legs", bidirectional=True), signal()
    V = torch.as_tensor(hippo.conjugate_half(hippo.nplr("legs", N_STATE)).V)
    with torch.no_grad():
        layer.log_dt.copy_(fixed.log_dt)
        layer.C.copy_(torch.view_as_real(fixed.C[:, 0].to(V.dtype) @ V))
        layer.D.copy_(fixed.D[0])
    y, state = layer(u, dt, need_state=need_state)
    expected, end = fixed(u, dt, need_state=need_state)
    close(y, expected, 1e-8)
    if need_state:
        close(2 * (state @ V.T).real, end, 1e-8)


@pytest.mark.parametrize("dt", [None, gaps()], ids=["regular", "irregular"])
def test_without_the_low_rank_term_it_is_s4d(dt: Tensor | None) -> None:
    torch.manual_seed(0)
    layer, diagonal = exact("legs"), S4D(CHANNELS, N_STATE, method="bilinear").double()
    with torch.no_grad():
        layer.P.zero_()
        for name in ("A_real", "A_imag", "B", "C", "D", "log_dt"):
            getattr(diagonal, name).copy_(getattr(layer, name))
    y, state = layer(signal(), dt)
    expected, end = diagonal(signal(), dt)
    close(y, expected)
    close(torch.view_as_real(state), torch.view_as_real(end.x))


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_it_starts_as_hippo(measure: str) -> None:
    """But for the decay of 1e-3 of the measures whose normal part has none."""
    layer, (A, B) = exact(measure), hippo.transition(measure, N_STATE)
    V = hippo.nplr(measure, N_STATE).V
    shift = 0 if measure == "legs" else 1e-3
    system = dense_system(layer, 0)
    np.testing.assert_allclose((V @ system.A @ V.conj().T).real, A - shift * np.eye(N_STATE), atol=1e-10)
    np.testing.assert_allclose((V @ system.B).real, B, atol=1e-12)


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_no_state_grows_whatever_is_trained(measure: str) -> None:
    torch.manual_seed(0)
    for scale in (1.0, 10.0):
        layer = S4(CHANNELS, N_STATE, measure=measure).double()
        with torch.no_grad():
            for parameter in layer.system_parameters():
                parameter += scale * torch.randn_like(parameter)
        for h in range(CHANNELS):
            A = dense_system(layer, h).A
            assert np.linalg.eigvals(A).real.max() <= 1e-12 * np.abs(A).max()


def test_a_long_kernel_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generating function to 1e-5 of the largest entry of the kernel, at four thousand lags."""
    torch.manual_seed(0)
    layer = S4(CHANNELS, 64)
    force(monkeypatch, convolve=True, scanned=False)
    single = layer.kernel(4096)
    assert single.dtype == torch.float32
    force(monkeypatch, convolve=True, scanned=True)
    close(single.double(), layer.double().kernel(4096), 1e-5)


def test_state_of_another_size_is_refused() -> None:
    layer = S4(CHANNELS, N_STATE)
    with pytest.raises(ValueError, match=r"^state must be \(3, 5, 3\); got \(3, 5, 6\)"):
        layer(signal().float(), gaps().float(), torch.zeros(BATCH, CHANNELS, N_STATE, dtype=torch.complex64))


def test_parameter_counts() -> None:
    """As the docstring states them: a channel has N numbers for Lambda, B, each C and each rank, and two."""
    for measure, rank in (("legs", 1), ("legt", 2)):
        for bidirectional in (False, True):
            layer = S4(CHANNELS, N_STATE, measure=measure, bidirectional=bidirectional)
            count = sum(parameter.numel() for parameter in layer.parameters())
            assert count == CHANNELS * ((3 + bidirectional + rank) * N_STATE + 2)
    assert {"P", "A_real"} < set(layer.system_names)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"measure": "fout"}, "measure"),
        ({"method": "zoh"}, "method"),
        ({"method": "foh"}, "method"),
        ({"method": 1.5}, "method"),
        ({"real_part": "relu"}, "real_part"),
        ({"d_state": 0}, "d_state"),
        ({"d_state": 5}, "d_state"),
        ({"d_model": 0}, "d_model"),
        ({"dt_min": -1.0}, "dt_min"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        S4(**{"d_model": CHANNELS, "d_state": N_STATE} | options)


def test_a_kernel_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length must be at least 1; got 0"):
        S4(CHANNELS, N_STATE).kernel(0)
