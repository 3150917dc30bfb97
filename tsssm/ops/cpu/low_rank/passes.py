r"""The recurrence of diagonal plus low-rank steps, also with the length of its transition bounded.

Symbols and shapes, complex numbers as a last axis of two: d (K, T, H, N), rows and columns
(K, T, H, rank, N), with K of 1 or the batch and T of 1 or the length, drive b (B, L, H, N), first state x
(B, H, N):

    x_k = S(M_k x_{k-1}) + b_k,   M_k x = d_k x - sum_r c_kr Re(r_kr x),

where S leaves the vector as it is, or M has b_k added to d_k and S shortens it to the length of x_{k-1}.
"""

from __future__ import annotations

import math
from typing import Any

from tsssm.ops.cpu.compiling import kernel, routine


@kernel
def states_pass(d: Any, rows: Any, columns: Any, drive: Any, x: Any, liquid: bool, states: Any) -> None:
    """All states (B, L, H, N)."""
    batch, length, channels = drive.shape[:3]
    one = x.dtype.type(1)
    for b in range(batch):
        row = b if d.shape[0] > 1 else 0
        for k in range(length):
            at = k if d.shape[1] > 1 else 0
            for h in range(channels):
                before = x[b, h] if k == 0 else states[b, k - 1, h]
                if liquid:
                    size, limit = size_and_length(before)
                    step(d[row, at, h], rows[row, at, h], columns[row, at, h], before, size, states[b, k, h])
                    for n in range(before.shape[0]):
                        pr, pi = before[n, 0] / size, before[n, 1] / size
                        wr, wi = drive[b, k, h, n, 0], drive[b, k, h, n, 1]
                        states[b, k, h, n, 0] += wr * pr - wi * pi
                        states[b, k, h, n, 1] += wr * pi + wi * pr
                    _, found = size_and_length(states[b, k, h])
                    factor = size
                    if found > limit / size:
                        factor = size * (limit / size / found)
                else:
                    factor = one
                    step(d[row, at, h], rows[row, at, h], columns[row, at, h], before, one, states[b, k, h])
                for n in range(before.shape[0]):
                    states[b, k, h, n, 0] = factor * states[b, k, h, n, 0] + drive[b, k, h, n, 0]
                    states[b, k, h, n, 1] = factor * states[b, k, h, n, 1] + drive[b, k, h, n, 1]


@routine
def step(d: Any, rows: Any, columns: Any, x: Any, size: Any, out: Any) -> None:
    """M x / size."""
    modes = x.shape[0]
    for n in range(modes):
        pr, pi = x[n, 0] / size, x[n, 1] / size
        out[n, 0] = d[n, 0] * pr - d[n, 1] * pi
        out[n, 1] = d[n, 0] * pi + d[n, 1] * pr
    for r in range(rows.shape[0]):
        total = x[0, 0] * 0
        for n in range(modes):
            total += rows[r, n, 0] * (x[n, 0] / size) - rows[r, n, 1] * (x[n, 1] / size)
        for n in range(modes):
            out[n, 0] -= columns[r, n, 0] * total
            out[n, 1] -= columns[r, n, 1] * total


@routine
def size_and_length(x: Any) -> Any:
    """The size of the largest part of a state, or 1 if that is zero, and the state's length.

    The size is rounded to a power of two, so that a division by it changes no digit; squares of what it
    leaves cannot overflow.
    """
    largest = x[0, 0] * 0
    for n in range(x.shape[0]):
        largest = max(largest, abs(x[n, 0]), abs(x[n, 1]))
    total = x[0, 0] * 0
    if not 0 < largest < math.inf:
        return total + 1, largest
    size = x.dtype.type(math.ldexp(1.0, math.frexp(largest)[1] - 1))
    for n in range(x.shape[0]):
        total += (x[n, 0] / size) ** 2 + (x[n, 1] / size) ** 2
    return size, size * math.sqrt(total)
