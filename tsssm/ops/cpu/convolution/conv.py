"""`tsssm.ops.reference.causal_conv` and its adjoint on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.convolution.convolve import convolve, convolve_adjoint
from tsssm.ops.cpu.layout import as_array, block_count, for_each, ranges

# Kernel lags up to which products in the time domain beat the transforms, measured by
# examples/benchmarks/convolution.py.
LONGEST_DIRECT = 1024


def causal_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """Outputs (batch, M, L, H)."""
    if kernel.shape[1] > LONGEST_DIRECT:
        size = u.shape[1] + kernel.shape[1]
        spectrum = _transform(u, size)[:, None] * _transform(kernel, size)
        # The strides of the other path: an operator promises one layout.
        return _inverse(spectrum, size, u.shape[1]).transpose(0, 1).contiguous().transpose(0, 1)
    y = empty((kernel.shape[0], *u.shape), u.dtype)
    arrays = [as_array(t) for t in (u, kernel)]
    target = as_array(y)
    for_each(ranges(u, _work(u, kernel)), lambda part, *where: convolve(*arrays, *where, target))
    return y.transpose(0, 1)


def causal_conv_adjoint(gy: Tensor, u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the input and of the kernel."""
    if kernel.shape[1] > LONGEST_DIRECT:
        size = u.shape[1] + kernel.shape[1]
        g = _transform(gy, size)
        # Inside an operator the lazy ``conj`` is not always resolved: below the dispatcher nothing does it.
        by_kernel = g * torch.conj_physical(_transform(kernel, size))
        by_input = g * torch.conj_physical(_transform(u, size))[:, None]
        gu = _inverse(by_kernel.sum(1), size, u.shape[1])
        gkernel = _inverse(by_input.sum(0), size, kernel.shape[1])
        return gu.contiguous(), gkernel.contiguous()
    cut = ranges(u, 2 * _work(u, kernel))
    gu = empty_like(u)
    gkernel = kernel.new_zeros(len(cut.series), *kernel.shape)
    arrays = [as_array(t) for t in (gy.transpose(0, 1), u, kernel)]
    target, by_part = as_array(gu), as_array(gkernel)
    for_each(cut, lambda part, *where: convolve_adjoint(*arrays, *where, target, by_part[part]))
    return gu, gkernel.sum(0)


def _work(u: Tensor, kernel: Tensor) -> int:
    products = u.shape[0] * u.shape[1] * kernel.shape[0] * kernel.shape[1] // 2
    return products * block_count(u.shape[2], u.dtype)


def _transform(x: Tensor, size: int) -> Tensor:
    return torch.fft.rfft(x, n=size, dim=-2)


def _inverse(spectrum: Tensor, size: int, length: int) -> Tensor:
    return torch.fft.irfft(spectrum, n=size, dim=-2)[..., :length, :]
