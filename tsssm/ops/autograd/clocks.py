"""The scan of runs of measurements as a node of autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.cpu import clocks as cpu


class ClockScan(torch.autograd.Function):
    """`tsssm.ops.reference.clock_scan`, compiled; the gaps get no gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gaps: Tensor, offsets: Tensor, rates: Tensor) -> Tensor:
        states = cpu.clock_scan(values, gaps, offsets, rates)
        ctx.save_for_backward(gaps, offsets, rates, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gaps, offsets, rates, states = ctx.saved_tensors
        gvalues, grates = cpu.clock_scan_adjoint(g, gaps, offsets, rates, states)
        return gvalues, None, None, grates
