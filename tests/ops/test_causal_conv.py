"""Causal convolution: the reference against NumPy, and both compiled paths against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from systems import by_reference, weighted_sum
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.ops import causal_conv, convolution
from tsssm.ops.autograd import convolution as compiled
from tsssm.ops.cpu import layout
from tsssm.ops.cpu.convolution import conv

# Relative to the largest entry. The transforms mix all samples, hence the wider one in float32.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float64", "float32"])
SIZES = [
    # batch, length, lags, channels, readouts
    (1, 1, 1, 1, 1),
    (2, 3, 3, 5, 2),
    (1, 4, 2, 16, 1),
    (3, 5, 5, 17, 3),
    (2, 33, 33, 8, 1),
    (2, 33, 7, 9, 2),
    (1, 6, 20, 3, 2),
]


@pytest.fixture(params=["direct", "transforms"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(conv, "LONGEST_DIRECT", 10**9 if request.param == "direct" else 0)
    return request.param


def operands(
    batch: int, length: int, lags: int, channels: int, readouts: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(length + lags)
    u = torch.randn(batch, length, channels, generator=random, dtype=torch.float64)
    kernel = torch.randn(readouts, lags, channels, generator=random, dtype=torch.float64)
    return u.to(dtype), kernel.to(dtype)


def with_gradients(u: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
    u, kernel = u.clone().requires_grad_(), kernel.clone().requires_grad_()
    y = causal_conv(u, kernel)
    return y.detach(), *torch.autograd.grad(weighted_sum(y), (u, kernel))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_reference_is_numpy_convolve(sizes: tuple[int, ...]) -> None:
    u, kernel = operands(*sizes)
    with by_reference():
        y = causal_conv(u, kernel)
    batch, length, _, channels, readouts = sizes
    for b in range(batch):
        for m in range(readouts):
            for h in range(channels):
                expected = np.convolve(u[b, :, h], kernel[m, :, h])[:length]
                np.testing.assert_allclose(y[b, m, :, h], expected, rtol=1e-12, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_compiled_equals_reference(path: str, sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    u, kernel = operands(*sizes, dtype=dtype)
    with by_reference():
        expected = with_gradients(u.double(), kernel.double())
    for found, value in zip(with_gradients(u, kernel), expected, strict=True):
        assert found.shape == value.shape and found.dtype == dtype
        error = (found.double() - value).abs().max() / value.abs().max()
        assert error <= TOLERANCE[dtype]


def test_gradcheck(path: str) -> None:
    u, kernel = operands(2, 6, 4, 3, 2)
    assert gradcheck(causal_conv, (u.requires_grad_(), kernel.requires_grad_()))


def test_paths_meet_at_the_threshold() -> None:
    """The two paths agree where the operation itself changes from one to the other."""
    u, kernel = operands(1, conv.LONGEST_DIRECT + 1, conv.LONGEST_DIRECT + 1, 2, 1)
    y = causal_conv(u, kernel)
    shorter = causal_conv(u[:, :-1], kernel)
    torch.testing.assert_close(y[:, :, :-1], shorter, rtol=0, atol=1e-11)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    u, kernel = operands(5, 33, 33, 9, 2)
    alone = with_gradients(u, kernel)
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = with_gradients(u, kernel)
    finally:
        torch.set_num_threads(before)
    for found, value in zip(together, alone, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_by_transforms_as_on_other_devices(sizes: tuple[int, ...]) -> None:
    """Without an operator of ours, and with the gradients of PyTorch."""
    u, kernel = operands(*sizes)
    with by_reference():
        expected = with_gradients(u, kernel)
    u, kernel = u.requires_grad_(), kernel.requires_grad_()
    y = convolution._by_transforms(u, kernel[:, : u.shape[1]])
    found = (y, *torch.autograd.grad(weighted_sum(y), (u, kernel)))
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-12)


def test_no_loop_over_time_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution.reference, "causal_conv", None)
    u, kernel = torch.empty(2, 9, 3, device="meta").half(), torch.empty(2, 5, 3, device="meta")
    y = causal_conv(u, kernel)
    assert y.shape == (2, 2, 9, 3) and y.dtype == torch.float16 and y.device.type == "meta"


def test_half_precision_input(path: str) -> None:
    u, kernel = operands(2, 9, 9, 3, 1, dtype=torch.float32)
    half = u.to(torch.bfloat16)
    y = causal_conv(half, kernel)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, causal_conv(half.float(), kernel).to(torch.bfloat16))


def test_memory_layout_does_not_matter(path: str) -> None:
    u, kernel = operands(3, 9, 9, 4, 2)
    u = u[:1].repeat(3, 1, 1)
    expected = causal_conv(u, kernel)
    odd_u = u[:1].transpose(1, 2).contiguous().transpose(1, 2).expand(3, -1, -1)
    odd_kernel = kernel.transpose(0, 2).contiguous().transpose(0, 2)
    assert not odd_u.is_contiguous() and not odd_kernel.is_contiguous()
    assert torch.equal(causal_conv(odd_u, odd_kernel), expected)


def test_second_derivative_is_refused(path: str) -> None:
    u, kernel = operands(1, 5, 5, 2, 1)
    u.requires_grad_()
    kernel.requires_grad_()
    (first,) = torch.autograd.grad(causal_conv(u, kernel).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="causal_conv_adjoint|twice"):
        first.square().sum().backward()


def test_operator_is_well_formed(path: str) -> None:
    u, kernel = operands(2, 9, 5, 3, 2)
    strided = u.transpose(0, 1).contiguous().transpose(0, 1)
    for x in (u, strided):
        args = (x.requires_grad_(), kernel.requires_grad_())
        torch.library.opcheck(compiled.causal_conv, args)
    gy = torch.ones(2, 2, 9, 3, dtype=u.dtype)
    torch.library.opcheck(compiled._causal_conv_adjoint, (gy, strided.detach(), kernel.detach()))


def test_compile(path: str) -> None:
    u, kernel = operands(2, 9, 5, 3, 2)
    compiled = torch.compile(causal_conv, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(u, kernel), causal_conv(u, kernel))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda u, k: (u[0], k)),
        ("u", lambda u, k: (u[:, :0], k)),
        ("u", lambda u, k: (u.long(), k)),
        ("kernel", lambda u, k: (u, k[0])),
        ("kernel", lambda u, k: (u, k[..., :2])),
        ("kernel", lambda u, k: (u, k + 0j)),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        causal_conv(*spoil(*operands(2, 9, 9, 3, 1)))
