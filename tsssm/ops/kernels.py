"""Convolution kernels of time-invariant systems."""

from __future__ import annotations

import torch
from torch import Tensor


def krylov(A_bar: Tensor, B_bar: Tensor, length: int) -> Tensor:
    r"""The vectors :math:`\bar A^i \bar B` for i = 0 .. length - 1, by repeated squaring.

    With a readout they are the convolution kernel :math:`(C \bar A^i \bar B)_i` (LSSL, arXiv 2110.13985,
    eq. 6), and without one the states that an impulse leaves behind.

    Parameters
    ----------
    A_bar : Tensor (..., N, N)
    B_bar : Tensor (..., N)
    length : int
        At least 1.

    Returns
    -------
    Tensor (..., N, length)

    Raises
    ------
    ValueError
        If ``length`` is below 1, or ``A_bar`` is not (..., N, N) with the N of ``B_bar``.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1; got {length}.")
    if A_bar.ndim < 2 or B_bar.ndim < 1 or A_bar.shape[-2:] != (B_bar.shape[-1], B_bar.shape[-1]):
        got = f"{tuple(A_bar.shape)} and {tuple(B_bar.shape)}"
        raise ValueError(f"A_bar must be (..., N, N) and B_bar (..., N); got {got}.")
    vectors, power = B_bar[..., None], A_bar
    while vectors.shape[-1] < length:
        missing = length - vectors.shape[-1]
        vectors = torch.cat([vectors, power @ vectors[..., :missing]], dim=-1)
        power = power @ power
    return vectors
