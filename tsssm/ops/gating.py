"""What stands between state-space layers: activation, gate, dropout and the residual sum, in two operations.

A block maps the output y of its layer to h + dropout(glu(W dropout(gelu(y)) + b)). All but the product with W
is element by element, and in separate steps each of them reads and writes the memory once: together they took
longer than the layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops import reference
from tsssm.ops.operands import fills_registers

_LEVELS = 2**16


def dropout_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sixteen random bits for each entry of ``like``, int16: a quarter of what PyTorch's dropout draws.

    On a CPU they are expanded from one draw of the generator, elsewhere all of them are drawn.

    Parameters
    ----------
    like : Tensor
        Says the shape and the device.
    generator : torch.Generator, optional
        By default torch's global one.
    """
    if like.device.type == "cpu" and not torch.compiler.is_compiling():
        from tsssm.ops.cpu import gating as compiled

        return compiled.noise(like.shape, generator)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: like.numel()].view(like.shape)


def dropout_level(p: float) -> int:
    """How many of the 2^16 values of the noise drop an entry: a share p of them, but never all."""
    return min(round(p * _LEVELS), _LEVELS - 1)


def gelu(y: Tensor, noise: Tensor | None = None, p: float = 0.0) -> Tensor:
    r"""Gaussian error linear unit and dropout: m y Phi(y), with Phi the normal distribution function.

    Parameters
    ----------
    y : Tensor, floating point
    noise : Tensor of the shape of y, int16, optional
        From `dropout_noise`; m is 0 for a share ``p`` of its values and 1 / (1 - p) for the others. Without
        it m = 1.
    p : float in [0, 1]
        Share of dropped entries, rounded to a multiple of 2^-16.

    Returns
    -------
    Tensor like y

    Raises
    ------
    ValueError
        If the noise has another shape or dtype.
    """
    _check_noise("y", y, noise)
    level = dropout_level(p)
    if fills_registers(y):
        # Numba is imported, and its kernels are loaded, when the first CPU tensor arrives.
        from tsssm.ops.autograd import gating as compiled

        return compiled.Gelu.apply(y, noise, level)
    return reference.gelu(y, noise, level)


def gated_sum(h: Tensor, z: Tensor, bias: Tensor, noise: Tensor | None = None, p: float = 0.0) -> Tensor:
    r"""Gated linear unit, dropout and residual sum: h + m (a sigmoid(b)), with (a, b) = z + bias.

    Parameters
    ----------
    h : Tensor (..., H), floating point
    z : Tensor (..., 2 H)
        a and b beside each other.
    bias : Tensor (2 H,)
    noise, p
        As in `gelu`, of the shape of h.

    Returns
    -------
    Tensor like h

    Raises
    ------
    ValueError
        If shapes disagree, or the noise has another dtype.
    """
    channels = h.shape[-1] if h.ndim else 0
    if z.shape != (*h.shape[:-1], 2 * channels) or bias.shape != (2 * channels,):
        raise ValueError(
            f"z must be (..., 2 H) and bias (2 H,) for h (..., H) = {tuple(h.shape)}; "
            f"got {tuple(z.shape)} and {tuple(bias.shape)}."
        )
    _check_noise("h", h, noise)
    level = dropout_level(p)
    if fills_registers(h, z, bias):
        from tsssm.ops.autograd import gating as compiled

        return compiled.GatedSum.apply(h, z, bias, noise, level)
    return reference.gated_sum(h, z, bias, noise, level)


def _check_noise(name: str, like: Tensor, noise: Tensor | None) -> None:
    if noise is not None and (noise.shape != like.shape or noise.dtype != torch.int16):
        raise ValueError(
            f"noise must be int16 of the shape of {name}, {tuple(like.shape)}; "
            f"got {noise.dtype} {tuple(noise.shape)}."
        )
