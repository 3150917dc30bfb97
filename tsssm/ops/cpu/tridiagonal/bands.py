"""Tridiagonal matrices of a block of W channels, and their factors for the step of one sample.

In the buffers of a block entry n + 1 belongs to mode n; the entries before the first and after the last mode
are zero, so that no sweep has to treat its ends apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.compiling import inline, maker
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import load, splat, store, where, width_of

# A step s is stiff if alpha s |V| > STIFF |T|, by the largest entries.
STIFF = 64.0


@maker
def gather_system(T: Any, V: Any, B: Any, h0: int, width: int) -> Any:
    """Bands (N + 2, 3, W) of T, and (N + 2, 4, W): those of V, then B."""
    channels, modes = B.shape
    matrix = zeros((modes + 2, 3, width), B)
    system = zeros((modes + 2, 4, width), B)
    matrix[:, 1] = 1.0  # lanes without a channel: any regular matrix will do
    for w in range(min(width, channels - h0)):
        for n in range(modes):
            for i in range(3):
                inside = 0 <= n + i - 1 < modes
                matrix[n + 1, i, w] = T[i, h0 + w, n] if inside else 0.0
                system[n + 1, i, w] = V[i, h0 + w, n] if inside else 0.0
            system[n + 1, 3, w] = B[h0 + w, n]
    return matrix, system


@maker
def stiffness(matrix: Any, system: Any, alpha: float, width: int) -> Any:
    """For each channel (W,) the inverse of the step from which on it is stiff (see `recurrence.advance`)."""
    out = zeros((width,), matrix)
    for w in range(width):
        of_T = np.max(np.abs(matrix[:, :, w]))
        out[w] = alpha * np.max(np.abs(system[:, :3, w])) / (STIFF * of_T) if of_T > 0 else 0.0
    return out


@maker
def gather_readout(C: Any, h0: int, width: int) -> Any:
    """Readouts (M, N + 2, W) of a block."""
    readouts, channels, modes = C.shape
    out = zeros((readouts, modes + 2, width), C)
    for m in range(readouts):
        for w in range(min(width, channels - h0)):
            for n in range(modes):
                out[m, n + 1, w] = C[m, h0 + w, n]
    return out


@inline
def gather_gaps(
    gaps: Any, index: Any, dt: Any, d: int, b: int, length: int, span: Any, row: int, gap: Any, which: Any
) -> None:
    """Gap and entry in the table of factors of each sample of a chunk, for one series of the pair.

    Without a table the entry is that of the series.
    """
    start, count, backwards = span
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if gaps.size == 0:
            gap[row, k] = dt[d, b, t]
            which[row, k] = row
        else:
            which[row, k] = index[d, b, t] if gaps.size > 1 else 0
            gap[row, k] = gaps[which[row, k]]


@inline
def load_state(x: Any, b: int, h0: int, state: Any, at: int) -> None:
    """Copy the states (batch, H, N) of one series into its half of a buffer of pairs."""
    width = width_of(x)
    for n in range(x.shape[2]):
        for w in range(min(width, x.shape[1] - h0)):
            state[at + 2 * (n + 1) * width + w] = x[b, h0 + w, n]


@inline
def store_state(x: Any, b: int, h0: int, state: Any, at: int) -> None:
    """The way back of `load_state`."""
    width = width_of(x)
    for n in range(x.shape[2]):
        for w in range(min(width, x.shape[1] - h0)):
            x[b, h0 + w, n] = state[at + 2 * (n + 1) * width + w]


@inline
def factor(
    rows: Any,
    at_a: int,
    at_b: int,
    matrix: Any,
    system: Any,
    gap_a: float,
    gap_b: float,
    alpha: float,
    modes: int,
    width: int,
) -> None:
    r"""Eliminate W = T - alpha s V without pivoting, for two steps s at once: each waits for its divisions.

    With the bands l, m, p of W and the pivots q the factors written at ``at_a`` and ``at_b`` are, for each
    mode, f_n = l_n / q_{n-1}, 1 / q_n and p_n / q_n. They are zero for a step of zero, whatever T is.
    """
    zero, one = splat(0.0, rows), splat(1.0, rows)
    sa, sb = splat(alpha * gap_a, rows), splat(alpha * gap_b, rows)
    on_a, on_b = zero < splat(gap_a, rows), zero < splat(gap_b, rows)
    ra, rb, pa, pb = zero, zero, zero, zero
    for n in range(1, modes + 1):
        t, v = 3 * n * width, 4 * n * width
        t0, t1, t2 = load(matrix, t), load(matrix, t + width), load(matrix, t + 2 * width)
        v0, v1, v2 = load(system, v), load(system, v + width), load(system, v + 2 * width)
        fa, fb = (t0 - sa * v0) * ra, (t0 - sb * v0) * rb
        qa, qb = t1 - sa * v1 - fa * pa, t1 - sb * v1 - fb * pb
        pa, pb = t2 - sa * v2, t2 - sb * v2
        ra, rb = where(on_a, one / qa, zero), where(on_b, one / qb, zero)
        store(rows, at_a + t, fa)
        store(rows, at_b + t, fb)
        store(rows, at_a + t + width, ra)
        store(rows, at_b + t + width, rb)
        store(rows, at_a + t + 2 * width, pa * ra)
        store(rows, at_b + t + 2 * width, pb * rb)


@inline
def factor_table(
    rows: Any, matrix: Any, system: Any, gaps: Any, alpha: float, modes: int, width: int
) -> None:
    """The factors of each of ``gaps``, one entry after the other."""
    entry = 3 * (modes + 2) * width
    for i in range(0, gaps.size, 2):
        j = min(i + 1, gaps.size - 1)
        factor(rows, i * entry, j * entry, matrix, system, gaps[i], gaps[j], alpha, modes, width)
