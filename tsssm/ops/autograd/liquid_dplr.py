"""Liquid-S4 over a diagonal plus low-rank system on a CPU: coefficients by PyTorch, states by a kernel."""

from __future__ import annotations

from functools import partial

from tsssm.ops.chunked import liquid_dplr_scan
from tsssm.ops.cpu.low_rank import low_rank_states

#: `tsssm.ops.reference.liquid_dplr_scan`.
scan = partial(liquid_dplr_scan, kernel_of_states=low_rank_states)
