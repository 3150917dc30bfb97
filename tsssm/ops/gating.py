"""What stands between state-space layers: activation, gated linear map, dropout and residual sum, in one.

In separate steps each of them reads and writes memory once, and all but the matrix product do little else:
together they took longer than the layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops import reference
from tsssm.ops.operands import fills_registers
from tsssm.ops.paths import is_exporting

_LEVELS = 2**16
# Numbers below which, without noise, the calls for a block cost more than what they save.
_SMALL = 2**17


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


def gated_mix(
    h: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    noises: tuple[Tensor, Tensor] | None = None,
    p: float = 0.0,
) -> Tensor:
    r"""Activation, gated linear map and residual sum: what maps the output of a layer to that of its block.

    .. math:: h + m' \, a \, \sigma(b), \qquad (a, b) = W \, (m \, y \, \Phi(y)) + \beta,

    with the normal distribution function Phi (GELU) and the logistic function sigma (GLU). m and m' are 0 for
    dropped entries and 1 / (1 - p) for the others.

    Parameters
    ----------
    h, y : Tensor (..., H), floating point
    weight : Tensor (2 H, H)
        W; its first half makes a, its second b.
    bias : Tensor (2 H,)
    noises : tuple of two Tensors of the shape of h, int16, optional
        From `dropout_noise`: of the values of the first a share ``p`` drops entries of the activation, of the
        second, entries of what is added to h. Without them nothing is dropped.
    p : float in [0, 1]
        Share of dropped entries, rounded to a multiple of 2^-16.

    Returns
    -------
    Tensor like h

    Raises
    ------
    ValueError
        If shapes disagree, or noise has another dtype.
    """
    channels = h.shape[-1] if h.ndim else 0
    if y.shape != h.shape or weight.shape != (2 * channels, channels) or bias.shape != (2 * channels,):
        raise ValueError(
            f"y must be of the shape of h (..., H) = {tuple(h.shape)}, weight (2 H, H) and bias (2 H,); "
            f"got {tuple(y.shape)}, {tuple(weight.shape)} and {tuple(bias.shape)}."
        )
    for noise in noises or ():
        if noise.shape != h.shape or noise.dtype != torch.int16:
            raise ValueError(
                f"noises must be int16 of the shape of h, {tuple(h.shape)}; "
                f"got {noise.dtype} {tuple(noise.shape)}."
            )
    inner, outer = noises or (None, None)
    level = dropout_level(p)
    # A program of torch.export is to hold for any size, and is not trained.
    if not is_exporting() and (noises or h.numel() >= _SMALL) and fills_registers(h, y, weight, bias):
        # Numba is imported, and its kernels are loaded, when the first CPU tensor arrives.
        from tsssm.ops.autograd import gating as compiled

        return compiled.GatedMix.apply(h, y, weight, bias, inner, outer, level)
    return reference.gated_mix(h, y, weight, bias, inner, outer, level)
