"""Causal convolution in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def causal_conv(u: Tensor, kernel: Tensor) -> Tensor:
    r"""Causal convolution of every channel with its own kernels.

    .. math:: y_{b,m,k,h} = \sum_{j=0}^{k} K_{m,j,h}\, u_{b,k-j,h}

    ``u`` (B, L, H), ``kernel`` (M, L', H) with L' <= L, result (B, M, L, H).
    """
    length = u.shape[1]
    ys = []
    for k in range(length):
        lags = min(k + 1, kernel.shape[1])
        past = u[:, k - lags + 1 : k + 1].flip(1)
        ys.append(torch.einsum("mjh,bjh->bmh", kernel[:, :lags], past))
    return torch.stack(ys, dim=2)
