"""The public causal convolution: arguments are checked and the backend is chosen here."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops import operands, reference
from tsssm.ops.operands import check_input


def causal_conv(u: Tensor, kernel: Tensor) -> Tensor:
    r"""Causal convolution of every channel with its own kernels.

    .. math:: y_{b,m,k,h} = \sum_{j=0}^{k} K_{m,j,h}\, u_{b,k-j,h}

    Parameters
    ----------
    u : Tensor (batch, L, H), real
    kernel : Tensor (M, L', H), real
        Only the first L lags are used.

    Returns
    -------
    y : Tensor (batch, M, L, H)

    Raises
    ------
    ValueError
        If shapes disagree or an argument is not real floating point.

    Notes
    -----
    Compiled on a CPU, with products in the time domain for a short kernel; elsewhere by PyTorch's FFT.
    """
    channels = check_input(u)[2]
    if kernel.ndim != 3 or kernel.shape[2] != channels or not kernel.is_floating_point():
        raise ValueError(
            f"kernel must be real floating point (M, L', {channels}) for u {tuple(u.shape)}; "
            f"got {kernel.dtype} {tuple(kernel.shape)}."
        )
    kernel = kernel[:, : u.shape[1]]
    real = torch.promote_types(kernel.dtype, torch.float32)
    inputs, kernel = u.to(real), kernel.to(real)
    if operands.runs_compiled(inputs):
        from tsssm.ops.autograd import convolution as compiled

        return compiled.causal_conv(inputs, kernel).to(u.dtype)
    convolve = reference.causal_conv if inputs.device.type == "cpu" else _by_transforms
    return convolve(inputs, kernel).to(u.dtype)


def _by_transforms(u: Tensor, kernel: Tensor) -> Tensor:
    """The convolution by products of spectra, for devices where each step of a loop would be a launch."""
    length = u.shape[1]
    size = length + kernel.shape[1]
    spectrum = torch.fft.rfft(u, n=size, dim=1)[:, None] * torch.fft.rfft(kernel, n=size, dim=1)
    return torch.fft.irfft(spectrum, n=size, dim=2)[:, :, :length]
