"""Tridiagonal matrices of a block of W channels, and their factors for the step of one sample.

In the buffers of a block entry n + 1 belongs to mode n; the entries before the first and after the last mode
are zero, so that no sweep has to treat its ends apart. Two series go side by side: a buffer of pairs holds
for each mode a register of the first, then one of the second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.simd import beside, load, loads, nothing, splat, store, stores, where, width_of

# A step s is stiff if alpha s |V| > STIFF |T|, by the largest entries.
STIFF = 64.0


class Operands(NamedTuple):
    """Operands T and V (3, H, N), B (H, N) and C (K, M, H, N), or gradients."""

    T: Any
    V: Any
    B: Any
    C: Any


class Bands(NamedTuple):
    """A block: bands (N + 2, 3, W) of T, and (N + 2, 4, W), those of V and then B.

    ``C`` (M, N + 2, W) are readouts; ``factors`` have ``entry`` numbers a step; ``bound`` is that of
    `stiffness`, of which ``stiffest`` is the largest; ``Z`` is room for a pair of states.
    """

    matrix: Any
    system: Any
    C: Any
    factors: Any
    entry: Any
    bound: Any
    stiffest: Any
    alpha: Any
    modes: Any
    readouts: Any
    Z: Any


@inline
def both(pairs: Any, at: int) -> Any:
    """What two series have at flat position ``at`` of a buffer of pairs."""
    return loads(pairs, at, width_of(pairs), 2)


@inline
def put_both(pairs: Any, at: int, value: Any) -> None:
    """The way back of `both`."""
    stores(pairs, at, value, width_of(pairs))


@inline
def triple(bands: Any, at: int) -> Any:
    """Three registers, one after the other."""
    width = width_of(bands)
    return load(bands, at), load(bands, at + width), load(bands, at + 2 * width)


@inline
def plane_of(modes: int, width: int) -> int:
    """Numbers that a buffer of pairs holds a sample: an odd number of pairs, which spreads them over the
    sets of the cache."""
    return ((modes + 2) | 1) * 2 * width


@maker
def open_bands(operands: Any, gaps: Any, alpha: float, h0: int) -> Any:
    """A block, with the factors of ``gaps``, or room for those of two steps; readouts are still zero."""
    T, V, B, width = operands.T, operands.V, operands.B, width_of(operands.B)
    channels, modes = B.shape
    matrix, system = zeros((modes + 2, 3, width), B), zeros((modes + 2, 4, width), B)
    for n in range(modes + 2):  # lanes without a channel: any regular matrix will do
        store(matrix, (3 * n + 1) * width, splat(1.0, matrix))
    for w in range(min(width, channels - h0)):
        for n in range(modes):
            for i in range(3):
                inside = 0 <= n + i - 1 < modes
                matrix[n + 1, i, w] = T[i, h0 + w, n] if inside else 0.0
                system[n + 1, i, w] = V[i, h0 + w, n] if inside else 0.0
            system[n + 1, 3, w] = B[h0 + w, n]
    bound, entry, readouts = _stiffness(matrix, system, alpha), 3 * (modes + 2) * width, operands.C.shape[1]
    C, factors = zeros((readouts, modes + 2, width), B), zeros((max(2, gaps.size) * entry,), B)
    Z = zeros((plane_of(modes, width),), B)
    stiffest = bound[0]
    for w in range(1, width):
        stiffest = max(stiffest, bound[w])
    bands = Bands(matrix, system, C, factors, entry, bound, stiffest, alpha, modes, readouts, Z)
    for i in range(0, gaps.size, 2):
        j = min(i + 1, gaps.size - 1)
        factor(bands, i * entry, (j - i) * entry, gaps[i], gaps[j])
    return bands


@routine
def scatter_bands(g_matrix: Any, g_system: Any, gradients: Any, h0: int) -> None:
    """Gradients of T, V and B to where they belong."""
    for w in range(min(width_of(g_matrix), gradients.B.shape[0] - h0)):
        for n in range(gradients.B.shape[1]):
            gradients.B[h0 + w, n] = g_system[n + 1, 3, w]
            for i in range(3):
                gradients.T[i, h0 + w, n] = g_matrix[n + 1, i, w]
                gradients.V[i, h0 + w, n] = g_system[n + 1, i, w]


@maker
def _stiffness(matrix: Any, system: Any, alpha: float) -> Any:
    """For each channel (W,) the inverse of the step from which on it is stiff (see `recurrence.advance`)."""
    out = zeros((width_of(matrix),), matrix)
    for w in range(out.size):
        of_T, of_V = 0.0, 0.0
        for n in range(matrix.shape[0]):
            for i in range(3):
                of_T, of_V = max(of_T, abs(matrix[n, i, w])), max(of_V, abs(system[n, i, w]))
        out[w] = alpha * of_V / (STIFF * of_T) if of_T > 0 else 0.0
    return out


@routine
def gather_readout(C: Any, d: int, h0: int, out: Any) -> None:
    """Readouts (K, M, H, N) of a direction into those (M, N + 2, W) of a block."""
    for m in range(C.shape[1]):
        for w in range(min(width_of(C), C.shape[2] - h0)):
            for n in range(C.shape[3]):
                out[m, n + 1, w] = C[d, m, h0 + w, n]


@routine
def scatter_readout(g_readout: Any, gC: Any, d: int, h0: int) -> None:
    """The way back of `gather_readout`; clears what it was given."""
    for m in range(gC.shape[1]):
        for w in range(min(width_of(gC), gC.shape[2] - h0)):
            for n in range(gC.shape[3]):
                gC[d, m, h0 + w, n] = g_readout[m, n + 1, w]
    wipe(g_readout)


@routine
def load_state(x: Any, b: int, h0: int, state: Any, row: int) -> None:
    """Copy the states (batch, H, N) of one series into its half of a buffer of pairs."""
    width = width_of(x)
    for n in range(x.shape[2]):
        for w in range(min(width, x.shape[1] - h0)):
            state[(2 * (n + 1) + row) * width + w] = x[b, h0 + w, n]


@routine
def store_state(x: Any, b: int, h0: int, state: Any, row: int) -> None:
    """The way back of `load_state`."""
    width = width_of(x)
    for n in range(x.shape[2]):
        for w in range(min(width, x.shape[1] - h0)):
            x[b, h0 + w, n] = state[(2 * (n + 1) + row) * width + w]


@inline
def factor(bands: Any, at: int, apart: int, gap_a: float, gap_b: float) -> None:
    r"""Eliminate W = T - alpha s V without pivoting, for two steps s at once: each waits for its divisions.

    With the bands l, m, p of W and the pivots q the factors written at ``at``, and ``apart`` numbers further
    for the second step, are, for each mode, f_n = l_n / q_{n-1}, 1 / q_n and p_n / q_n. They are zero for a
    step of zero, whatever T is.
    """
    factors, width = bands.factors, width_of(bands.factors)
    gap = beside(splat(gap_a, factors), splat(gap_b, factors))
    s, zero, one = splat(bands.alpha, factors) * gap, splat(0.0, factors), splat(1.0, factors)
    on = zero < gap
    r, p = nothing(gap), nothing(gap)
    for n in range(1, bands.modes + 1):
        to = at + 3 * n * width
        t0, t1, t2 = triple(bands.matrix, 3 * n * width)
        v0, v1, v2 = triple(bands.system, 4 * n * width)
        f = (t0 - s * v0) * r
        q = t1 - s * v1 - f * p
        p = t2 - s * v2
        r = where(on, one / q, nothing(q))
        stores(factors, to, f, apart)
        stores(factors, to + width, r, apart)
        stores(factors, to + 2 * width, p * r, apart)
