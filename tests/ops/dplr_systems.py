"""Systems of the diagonal plus low-rank scan: HiPPO in full, and random ones as half of conjugate pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scans import Operands, convert, results_of
from systems import make_gaps
from torch import Tensor

from tsssm.hippo import nplr
from tsssm.ops import dplr_scan

#: States, channels and readouts of `hippo_arguments`.
N, H, M = 6, 3, 2
STEPS = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)


def hippo_arguments(measure: str, shared: bool = True, gaps: str = "regular", length: int = 9) -> Operands:
    """A HiPPO system in its normal plus low-rank form, one for all channels or one copy each."""
    random = torch.Generator().manual_seed(1)
    form = nplr(measure, N)
    copies = 1 if shared else H

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    V = torch.as_tensor(form.V)
    return {
        "u": real(2, length, H),
        "Lambda": torch.as_tensor(form.Lambda).repeat(copies, 1),
        "P": torch.as_tensor(form.P)[:, None].repeat(1, copies, 1),
        "Q": torch.as_tensor(form.P)[:, None].repeat(1, copies, 1),
        "B": torch.as_tensor(form.B).repeat(copies, 1),
        "C": real(M, H, N).to(V.dtype) @ V,
        "step": STEPS,
        "dt": make_gaps(gaps, 2, length, random),
        "x0": real(2, H, N).to(V.dtype) @ V.conj(),
    }


def random_arguments(
    *,
    batch: int = 2,
    length: int = 9,
    channels: int = 3,
    modes: int = 3,
    rank: int = 1,
    readouts: int = 1,
    directions: int = 1,
    gaps: str = "regular",
    shared: bool = False,
    feedthrough: bool = True,
    state: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Operands:
    """A system about normal plus low rank, with eigenvalues and timescales as the layers have them."""
    random = torch.Generator().manual_seed(seed)

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.complex(real(*shape), real(*shape))

    copies = 1 if shared else channels
    frequency = np.pi * torch.arange(modes) * (1 + 0.1 * real(copies, modes))
    P = normal(rank, copies, modes)
    p = {
        "u": real(batch, length, channels),
        "Lambda": torch.complex(-torch.exp(0.5 * real(copies, modes)), frequency),
        "P": P,
        "Q": 2 * P + 0.1 * normal(rank, copies, modes),
        "B": normal(copies, modes),
        "C": normal(directions, readouts, channels, modes),
        # Small enough that no explicit step (alpha = 0) of the largest gap makes the system unstable.
        "step": 10 ** (-2.5 + torch.rand(channels, generator=random, dtype=torch.float64)),
        "dt": make_gaps(gaps, batch, length, random),
        "x0": normal(batch, channels, modes) if state else None,
        "D": real(readouts, channels) if feedthrough else None,
    }
    return convert(p, dtype)


def results(given: Operands, **options: Any) -> dict[str, Tensor]:
    """Those of `dplr_scan`, as `results_of` names them."""
    return results_of(dplr_scan, given, **options)
