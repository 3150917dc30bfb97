"""Systems of the tridiagonal scan, and the dense ones that they stand for."""

from __future__ import annotations

from typing import Any

import torch
from scans import Operands, convert, results_of
from systems import make_gaps
from torch import Tensor

from tsssm.ops import tridiagonal_scan

ALPHAS = (0.0, 0.3, 0.5, 1.0)
KINDS = ("legs", "legt", "random")


def system(kind: str, modes: int, copies: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """T (3, copies, N), shift and scale (copies, N) in float64.

    For legs and legt diag(scale) (diag(shift) + T^{-1}) is the HiPPO matrix up to a diagonal similarity; a
    random T is diagonally dominant, with all three diagonals and a sign such that the system decays.
    """
    n = torch.arange(modes, dtype=torch.float64)
    scale, shift = 2 * n + 1, torch.zeros_like(n)
    T = torch.zeros(3, modes, dtype=torch.float64)
    if kind == "legs":
        T[0, 1:], T[1], shift = 1, -1, n / (2 * n + 1)
    elif kind == "legt":
        # Inverse of -M with M_nk = 1 for n >= k, else (-1)^(n - k).
        M = torch.where(n[:, None] >= n, 1.0, (-1.0) ** (n[:, None] - n))
        inverse = -torch.linalg.inv(M)
        T[1] = inverse.diagonal()
        T[0, 1:], T[2, :-1] = inverse.diagonal(-1), inverse.diagonal(1)
        assert (torch.triu(inverse, 2) == 0).all() and (torch.tril(inverse, -2) == 0).all()
    else:
        T = torch.rand(3, copies, modes, generator=random, dtype=torch.float64) - 0.5
        T[1] = T[1] - 2
        shift = 0.1 * torch.randn(copies, modes, generator=random, dtype=torch.float64)
        scale = 0.5 + torch.rand(copies, modes, generator=random, dtype=torch.float64)
        return T, shift, scale
    return T[:, None].repeat(1, copies, 1), shift.repeat(copies, 1), scale.repeat(copies, 1)


def arguments(
    *,
    kind: str = "legs",
    batch: int = 2,
    length: int = 9,
    channels: int = 3,
    modes: int = 5,
    readouts: int = 2,
    directions: int = 1,
    shared: bool = False,
    feedthrough: bool = True,
    state: bool = True,
    gaps: str = "regular",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Operands:
    """Arguments of `tridiagonal_scan`, drawn in float64 and rounded to ``dtype``."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    copies = 1 if shared else channels
    T, shift, scale = system(kind, modes, copies, random)
    given = {
        "u": normal(batch, length, channels),
        "T": T,
        "shift": shift,
        "scale": scale,
        "B": normal(copies, modes),
        "C": normal(directions, readouts, channels, modes),
        "step": 0.01 + 0.1 * torch.rand(channels, generator=random, dtype=torch.float64),
        "dt": make_gaps(gaps, batch, length, random),
        "x0": normal(batch, channels, modes) if state else None,
        "D": normal(readouts, channels) if feedthrough else None,
    }
    return convert(given, dtype)


def dense(given: Operands) -> Tensor:
    """A = diag(scale) (diag(shift) + T^{-1}), dense, of each channel."""
    below, main, above = given["T"][0, :, 1:], given["T"][1], given["T"][2, :, :-1]
    T = torch.diag_embed(below, -1) + torch.diag_embed(main) + torch.diag_embed(above, 1)
    A = given["scale"][..., None] * (torch.diag_embed(given["shift"]) + torch.linalg.inv(T))
    return A.expand(given["u"].shape[2], -1, -1)


def results(given: Operands, **options: Any) -> dict[str, Tensor]:
    """Those of `tridiagonal_scan`, as `results_of` names them."""
    return results_of(tridiagonal_scan, given, **options)
