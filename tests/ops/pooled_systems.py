"""Random systems and ragged series for the pooled scan, and what rounding may change of its result."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsssm.hippo import transition
from tsssm.ops import reference

Operands = dict[str, Tensor]

# Sums of up to a thousand products of numbers near one.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def operands(
    lengths: tuple[int, ...] = (40, 1, 23),
    *,
    dense: bool = False,
    modes: int = 5,
    groups: int = 3,
    readouts: int = 16,
    channels: int = 2,
    held: int = 2,
    dtype: torch.dtype = torch.float64,
) -> Operands:
    """Arguments of `pooled_scan`, in its order: four distinct steps, and weights that sum to 1."""
    rng = np.random.default_rng(0)
    total = sum(lengths)

    def normal(*shape: int) -> Tensor:
        return torch.as_tensor(rng.normal(size=shape), dtype=dtype)

    if dense:
        A, B = (torch.as_tensor(part).expand(groups, *part.shape) for part in transition("legt", modes))
        scale = torch.linspace(0.05, 0.4, groups, dtype=torch.float64)
        A, B = A * scale[:, None, None], B * scale[:, None]
        C = torch.as_tensor(rng.normal(size=(groups, readouts, modes)))
    else:
        A = torch.as_tensor(
            -rng.uniform(0.01, 1.0, (groups, modes)) + 1j * rng.uniform(0, 3, (groups, modes))
        )
        B = torch.ones_like(A)
        C = torch.as_tensor(rng.normal(size=(groups, readouts, modes, 2))).view(torch.complex128)[..., 0]
    weight = torch.as_tensor(np.concatenate([rng.dirichlet(np.ones(n)) for n in lengths]), dtype=dtype)
    return {
        "u": normal(channels, total),
        "held": normal(held, total),
        "offsets": torch.as_tensor(np.concatenate([[0], np.cumsum(lengths)])),
        "steps": torch.tensor([1.0, 0.25, 0.0, 3.5], dtype=torch.float64),
        "index": torch.as_tensor(rng.integers(0, 4, total)),
        "weight": weight,
        "A": A,
        "B": B,
        "mix_u": normal(groups, channels),
        "mix_held": normal(groups, held),
        "C": C,
        "D": normal(groups, readouts),
        "thresholds": normal(groups, 2, readouts),
    }


def in_float64(given: Operands) -> Operands:
    """The same numbers, of which real ones have twice the digits."""
    return {name: t.double() if t.dtype == torch.float32 else t for name, t in given.items()}


def assert_pooled(found: Tensor, given: Operands, shares: bool = True, competition: bool = True) -> None:
    """Compare a result in float32 with the specification in float64.

    Where a readout is closer to a threshold or to the first of its block than rounding tells, the sample may
    count for either side; nearly all results have no such sample.
    """
    exact = in_float64(given)
    expected = reference.pooled_scan(*exact.values(), 8, shares, competition)
    y = reference.readout_scan(**{k: t for k, t in exact.items() if k not in ("weight", "thresholds")})
    # Shares are sums of weights; what is relative to the largest readout are readouts and their sums.
    share = TOLERANCE[torch.float32]
    near = share * max(1.0, float(y.abs().max()))
    allowed = [share] * (2 * shares) + [near, share] * competition
    unclear: list[Any] = []
    if shares:
        unclear += [(y - level[..., None]).abs() < near for level in exact["thresholds"].unbind(1)]
    if competition:
        block = y.unflatten(1, (-1, 8))
        for first in (block.amax(2, keepdim=True), block.amin(2, keepdim=True)):
            among = (block - first).abs() < near
            unclear.append((among & (among.sum(2, keepdim=True) > 1)).flatten(1, 2))
        unclear[-2] = unclear[-2] * y.abs()
    moved = torch.stack([part.double() for part in unclear], dim=1) * exact["weight"]
    slack = torch.stack([part.sum(-1) for part in moved.split(given["offsets"].diff().tolist(), dim=-1)])
    assert (slack == 0).double().mean() > 0.9
    assert found.shape == expected.shape and found.dtype == torch.float32
    excess = (found.cpu().double() - expected).abs() - slack
    assert (excess.amax((0, 1, 3)) <= torch.tensor(allowed)).all(), excess.amax((0, 1, 3))
