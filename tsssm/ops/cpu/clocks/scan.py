"""`tsssm.ops.reference.clock_scan` and its adjoint on CPU tensors."""

from __future__ import annotations

from torch import Tensor

from tsssm.ops.cpu.clocks.passes import backward_pass, forward_pass
from tsssm.ops.cpu.layout import as_array


def clock_scan(values: Tensor, gaps: Tensor, offsets: Tensor, rates: Tensor, *, last: bool = False) -> Tensor:
    """States (m, K, F), or (r, K, F) after the last measurement of each run."""
    rows = len(rates) if last else len(values)
    states = values.new_empty(rows, rates.shape[1], values.shape[1])
    operands = [as_array(t.detach()) for t in (values, gaps, offsets, rates)]
    forward_pass(*operands, last, as_array(states))
    return states


def clock_scan_adjoint(
    g: Tensor, gaps: Tensor, offsets: Tensor, rates: Tensor, states: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the values and of the rates."""
    gvalues, grates = g.new_zeros(len(g), g.shape[2]), rates.new_zeros(rates.shape)
    operands = [as_array(t.detach()) for t in (gaps, offsets, rates, states)]
    backward_pass(as_array(g.clone()), *operands, as_array(gvalues), as_array(grates))
    return gvalues, grates
