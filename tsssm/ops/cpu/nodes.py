r"""Zero-order hold at gaps that are all different: from the nearest node of a table, by a short polynomial.

An exponential a sample, channel and mode costs several times the recurrence. But within a call a mode meets
thousands of gaps between zero and the longest one, so Abar and P = s phi1(s lambda) are computed at equally
spaced gaps, and moved from the nearest node over the small rest e:

.. math::
    \bar A = \bar A_j (1 + z w), \qquad P = P_j + \Delta \bar A_j w, \qquad
    w = (e^{z e} - 1) / z = e\,(1 + z e / 2 + (z e)^2 / 6 + \dots), \qquad z = \Delta \lambda.

The powers of e are numbers, not registers, so that w takes two products a term. The first node is a gap of
zero, so that short gaps lose nothing: P is then w. In float32 alone: float64 would need many more nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tsssm.ops.cpu.blocks import load_mode
from tsssm.ops.cpu.rows import N_FIELDS, ZOH, A, B, P, fill, get, put, times
from tsssm.ops.cpu.simd import load, splat, store

# Largest |z e|: five terms then leave an error of 1e-7 of Abar.
_REACH = 0.2
TERMS = 5
# A table beyond this is slower to read than the exponential is to compute.
_MOST_NODES = 1024
# Registers of a node: Abar and P.
NODE = 4


@njit(nogil=True)
def lay_out(system: Any, steps: Any, width: int, longest: float) -> Any:
    """Spacing, number of nodes and first node of each pair of modes; no nodes where they do not pay."""
    modes = system.shape[0]
    pairs = (modes + 1) // 2
    spacing, count, first = np.empty(pairs), np.zeros(pairs, np.int64), np.zeros(pairs + 1, np.int64)
    for p in range(pairs):
        fastest = 1e-6
        for n in range(2 * p, min(2 * p + 2, modes)):
            for w in range(width):
                fastest = max(fastest, steps[w] * np.hypot(system[n, 0, w], system[n, 1, w]))
        spacing[p] = 2 * _REACH / fastest
        if longest < (_MOST_NODES - 1) * spacing[p]:
            count[p] = int(longest / spacing[p]) + 2
        first[p + 1] = first[p] + 2 * count[p]
    return spacing, count, first


@njit(nogil=True)
def fill_nodes(system: Any, steps: Any, width: int, layout: Any) -> Any:
    """The table: for each pair of modes the nodes of the first, then of the second."""
    spacing, count, first = layout
    table = np.empty(max(1, first[-1]) * NODE * width, system.dtype)
    rows = np.empty(2 * N_FIELDS * width, system.dtype)
    for n in range(2 * count.size):
        p = n // 2
        mode = load_mode(system, min(n, system.shape[0] - 1), width)
        for j in range(count[p]):
            s = load(steps, 0) * splat(j * spacing[p], steps)
            fill(rows, width, 0, width, ZOH, 0.0, False, mode, s)
            at = (first[p] + n % 2 * count[p] + j) * NODE * width
            ar, ai = get(rows, width, A, 0)
            pr, pi = get(rows, width, P, 0)
            store(table, at, ar)
            store(table, at + width, ai)
            store(table, at + 2 * width, pr)
            store(table, at + 3 * width, pi)
    return table


@njit(forceinline=True)
def node_starts(layout: Any, pair: int, width: int) -> Any:
    """Where the nodes of the two modes of a pair start."""
    start = layout[2][pair] * NODE * width
    return start, start + layout[1][pair] * NODE * width


@njit(nogil=True)
def locate(delta: Any, count: int, spacing: float, nearest: Any, powers: Any) -> None:
    """The node nearest to each gap of a chunk, and the powers of the rest."""
    inverse = 1 / spacing
    for k in range(count):
        j = np.rint(delta[k] * inverse)
        e = delta[k] - j * spacing
        nearest[k] = int(j)
        powers[0, k] = e
        powers[1, k] = e * e
        powers[2, k] = e * e * e
        powers[3, k] = e * e * e * e
        powers[4, k] = e * e * e * e * e


@njit(forceinline=True)
def series(mode: Any, s: Any) -> Any:
    """z and the coefficients z/2, z^2/6, z^3/24, z^4/120 of w, and Delta."""
    zr, zi = s * mode[0], s * mode[1]
    half, third, quarter, fifth = splat(0.5, s), splat(1 / 3, s), splat(0.25, s), splat(0.2, s)
    ar, ai = half * zr, half * zi
    br, bi = times(ar, ai, third * zr, third * zi)
    cr, ci = times(br, bi, quarter * zr, quarter * zi)
    dr, di = times(cr, ci, fifth * zr, fifth * zi)
    return zr, zi, ar, ai, br, bi, cr, ci, dr, di, s


@njit(forceinline=True)
def move(table: Any, at: int, width: int, powers: Any, k: int, series: Any) -> Any:
    """Abar and P of one sample from the node at ``at``."""
    zr, zi, ar, ai, br, bi, cr, ci, dr, di, s = series
    e, e2, e3 = splat(powers[0, k], s), splat(powers[1, k], s), splat(powers[2, k], s)
    e4, e5 = splat(powers[3, k], s), splat(powers[4, k], s)
    wr = e + e2 * ar + e3 * br + (e4 * cr + e5 * dr)
    wi = e2 * ai + e3 * bi + (e4 * ci + e5 * di)
    tr, ti = load(table, at), load(table, at + width)
    gr, gi = times(tr, ti, wr, wi)
    pr, pi = load(table, at + 2 * width) + s * gr, load(table, at + 3 * width) + s * gi
    return tr + zr * gr - zi * gi, ti + zr * gi + zi * gr, pr, pi


@njit(forceinline=True)
def fill_chunk_nodes(
    rows: Any,
    plane: int,
    table: Any,
    start: int,
    nearest: Any,
    powers: Any,
    mode: Any,
    step: Any,
    count: int,
    width: int,
) -> None:
    """Abar, P and Bbar of one mode for the samples of a chunk."""
    moved = series(mode, step)
    for k in range(count):
        at = k * width
        ar, ai, pr, pi = move(table, start + nearest[k] * NODE * width, width, powers, k, moved)
        put(rows, plane, A, at, ar, ai)
        put(rows, plane, P, at, pr, pi)
        br, bi = times(pr, pi, mode[2], mode[3])
        put(rows, plane, B, at, br, bi)
