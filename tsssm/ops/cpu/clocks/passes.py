"""The recurrence of runs of measurements and its adjoint.

Symbols and shapes: values (m, F), gaps (m,), offsets (r + 1,), rates (r, K), states x (m, K, F). With g the
gradient of the states, and a the decay from one measurement to the next, the adjoint is

    l_j = g_j + a_{j+1} l_{j+1},   dv_j = sum_K l_j,   drate = -sum_j gap_j a_j sum_F l_j x_{j-1}.
"""

from __future__ import annotations

import math
from typing import Any

from tsssm.ops.cpu.compiling import kernel


@kernel
def forward_pass(values: Any, gaps: Any, offsets: Any, rates: Any, last: bool, states: Any) -> None:
    """States after every measurement, or after the last one of each run."""
    inputs, systems = values.shape[1], rates.shape[1]
    for run in range(offsets.size - 1):
        for j in range(offsets[run], offsets[run + 1]):
            row = run if last else j
            before = run if last else j - 1
            for k in range(systems):
                if j == offsets[run]:
                    for f in range(inputs):
                        states[row, k, f] = values[j, f]
                else:
                    decay = math.exp(-rates[run, k] * gaps[j])
                    for f in range(inputs):
                        states[row, k, f] = decay * states[before, k, f] + values[j, f]


@kernel
def backward_pass(
    g: Any, gaps: Any, offsets: Any, rates: Any, states: Any, gvalues: Any, grates: Any
) -> None:
    """Gradients of values and rates, which begin as zeros; ``g`` is written over."""
    inputs, systems = gvalues.shape[1], rates.shape[1]
    for run in range(offsets.size - 1):
        start = offsets[run]
        for back in range(offsets[run + 1] - start):
            j = offsets[run + 1] - 1 - back
            for k in range(systems):
                for f in range(inputs):
                    gvalues[j, f] += g[j, k, f]
                if j > start:
                    decay = math.exp(-rates[run, k] * gaps[j])
                    total = 0.0
                    for f in range(inputs):
                        total += g[j, k, f] * states[j - 1, k, f]
                        g[j - 1, k, f] += decay * g[j, k, f]
                    grates[run, k] -= gaps[j] * decay * total
