r"""The move of a mode over a gap, m = Abar - 1: at once, or from a table of nodes.

With a hold m = exp(z) - 1, with a transform m = z / (1 - alpha z), where z = lambda Delta delta. Both have
Bbar = m B / lambda, so that one complex number says all about a sample, and it keeps its relative precision
where the gap is short.

Where all gaps of a batch are different, a hold has an exponential for every sample, mode and channel, which
is several times the work of the recurrence. Instead the moves of gaps that lie on a grid are computed once a
call, with their derivatives by the gap, and a sample takes the nearest of them: with e the rest of its gap,

.. math:: m = m_j + m'_j\,\Bigl(e + \frac{z}{2} e^2 + \frac{z^2}{6} e^3 + \frac{z^3}{24} e^4\Bigr).

A gap beyond the grid, of which there are few, has its exponential computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.blocks import CHUNK, load_mode
from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.elementary import exp_expm1, sin_cos_cosm1
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.rows import GBT, ZOH, A, B, P, inverse, put, times
from tsssm.ops.cpu.simd import constant, load, splat, store

# Largest |z e|: the series then leaves an error of 1e-7 of Abar.
_REACH = 0.1
# Modes that are computed together.
GROUP = 4
# A mode's table, within the second-level cache together with those of the others.
_MOST_NODES = 1024
# Registers of a node.
_NODE = 4
# Nodes between two that are computed by an exponential; those between are products.
_STRIDE = 16


@inline
def move(kind: int, alpha: float, mode: Any, s: Any) -> Any:
    """The move of one mode over the steps ``s`` of W channels."""
    zr, zi = s * mode[0], s * mode[1]
    if kind == GBT:
        a = splat(alpha, s)
        ir, ii = inverse(constant(s, "one") - a * zr, -(a * zi))
        return times(zr, zi, ir, ii)
    e, m = exp_expm1(zr)
    sin, cos, cosm1 = sin_cos_cosm1(zi)
    return m * cos + cosm1, e * sin


@maker
def lay_out(system: Any, steps: Any, width: int, reach: float) -> Any:
    """Spacing, nodes of a mode and first node of each group of modes, for gaps up to ``reach`` if possible.

    No nodes, if ``reach`` is infinite.
    """
    modes = system.shape[0]
    groups = (modes + GROUP - 1) // GROUP
    spacing, count, first = np.empty(groups), np.zeros(groups, np.int64), np.zeros(groups + 1, np.int64)
    for g in range(groups):
        fastest = 1e-6
        for n in range(g * GROUP, min(g * GROUP + GROUP, modes)):
            for w in range(width):
                fastest = max(fastest, steps[w] * np.hypot(system[n, 0, w], system[n, 1, w]))
        spacing[g] = 2 * _REACH / fastest
        if reach < np.inf:
            count[g] = int(min(reach / spacing[g] + 2, _MOST_NODES))
        first[g + 1] = first[g] + GROUP * count[g]
    return spacing, count, first


@maker
def fill_nodes(system: Any, steps: Any, width: int, layout: Any) -> Any:
    """The table: one mode after the other, each with the nodes of its group, a move and its derivative."""
    spacing, count, first = layout
    table = zeros((max(1, first[-1]) * _NODE * width,), system)
    for n in range(system.shape[0]):
        mode, start = load_mode(system, n, width), node_start(layout, n, width)
        zr, zi = load(steps, 0) * mode[0], load(steps, 0) * mode[1]
        for j in range(count[n // GROUP]):
            at = start + j * _NODE * width
            rest = j % _STRIDE
            if rest == 0 or j < _STRIDE:
                gap = splat(j * spacing[n // GROUP], steps)
                mr, mi = move(ZOH, 0.0, mode, load(steps, 0) * gap)
            else:
                low, high = start + rest * _NODE * width, at - rest * _NODE * width
                ar, ai = load(table, low), load(table, low + width)
                mr, mi = load(table, high), load(table, high + width)
                mr, mi = mr + ar + (mr * ar - mi * ai), mi + ai + (mr * ai + mi * ar)
            store(table, at, mr)
            store(table, at + width, mi)
            dr, di = times(constant(mr, "one") + mr, mi, zr, zi)
            store(table, at + 2 * width, dr)
            store(table, at + 3 * width, di)
    return table


@inline
def node_start(layout: Any, n: int, width: int) -> int:
    """Where the nodes of mode ``n`` start."""
    _, count, first = layout
    return (first[n // GROUP] + n % GROUP * count[n // GROUP]) * _NODE * width


@routine
def locate(delta: Any, count: int, layout: Any, group: int, nearest: Any, rest: Any) -> None:
    """The node nearest to each gap of a chunk, and the rest of the gap; -1 and all of it beyond the grid."""
    spacing, nodes = layout[0][group], layout[1][group]
    inverse_spacing = 1 / spacing
    for k in range(count):
        j = np.rint(delta[k] * inverse_spacing)
        inside = j < nodes
        nearest[k] = int(j) if inside else -1
        rest[k] = delta[k] - j * spacing if inside else delta[k]


@inline
def _series(mode: Any, s: Any) -> Any:
    """Coefficients z/2, z^2/6 and z^3/24."""
    half, third, quarter = splat(0.5, s), splat(1 / 3, s), splat(0.25, s)
    zr, zi = s * mode[0], s * mode[1]
    ar, ai = half * zr, half * zi
    br, bi = times(ar, ai, third * zr, third * zi)
    cr, ci = times(br, bi, quarter * zr, quarter * zi)
    return ar, ai, br, bi, cr, ci


@inline
def _located(
    table: Any, start: int, width: int, node: int, rest: float, mode: Any, step: Any, series: Any
) -> Any:
    """The move of a mode, whose nodes start at ``start``, over a gap as `locate` describes it."""
    ar, ai, br, bi, cr, ci = series
    e = splat(rest, ar)
    if node < 0:
        return move(ZOH, 0.0, mode, step * e)
    at = start + node * _NODE * width
    square = e * e
    qr, qi = e + square * (ar + e * (br + e * cr)), square * (ai + e * (bi + e * ci))
    mr, mi = load(table, at), load(table, at + width)
    dr, di = load(table, at + 2 * width), load(table, at + 3 * width)
    return mr + dr * qr - di * qi, mi + dr * qi + di * qr


@routine
def _fill_from_nodes(
    moves: Any,
    to: int,
    table: Any,
    start: int,
    nearest: Any,
    rest: Any,
    mode: Any,
    step: Any,
    count: int,
    width: int,
) -> None:
    series = _series(mode, step)
    for k in range(count):
        mr, mi = _located(table, start, width, nearest[k], rest[k], mode, step, series)
        store(moves, to + 2 * k * width, mr)
        store(moves, to + (2 * k + 1) * width, mi)


@routine
def _fill(
    moves: Any, to: int, gaps: Any, kind: int, alpha: float, mode: Any, step: Any, count: int, width: int
) -> None:
    for k in range(count):
        mr, mi = move(kind, alpha, mode, step * splat(gaps[k], step))
        store(moves, to + 2 * k * width, mr)
        store(moves, to + (2 * k + 1) * width, mi)


@maker
def shared_moves(gaps: Any, kind: int, alpha: float, system: Any, steps: Any, width: int) -> Any:
    """Moves of all modes over the distinct ``gaps``; where there are none, room for `chunk_moves`.

    The real and the imaginary part of a move stand side by side.
    """
    modes = system.shape[0]
    moves = zeros((2 * width * (modes * gaps.size if gaps.size > 0 else GROUP * CHUNK),), system)
    for n in range(modes if gaps.size > 0 else 0):
        to = 2 * n * gaps.size * width
        _fill(moves, to, gaps, kind, alpha, load_mode(system, n, width), load(steps, 0), gaps.size, width)
    return moves


@routine
def chunk_moves(
    moves: Any,
    group: int,
    delta: Any,
    count: int,
    kind: int,
    alpha: float,
    system: Any,
    steps: Any,
    nodes: Any,
    width: int,
) -> None:
    """Moves of a group of modes over the gaps ``delta`` of a chunk, one mode after the other.

    ``nodes`` are a layout and its table, and buffers for what `locate` finds.
    """
    layout, table, nearest, rest = nodes
    by_nodes = layout[1][group] > 0
    if by_nodes:
        locate(delta, count, layout, group, nearest, rest)
    for i in range(min(GROUP, system.shape[0] - group * GROUP)):
        n, to = group * GROUP + i, 2 * i * CHUNK * width
        mode, step = load_mode(system, n, width), load(steps, 0)
        if by_nodes:
            start = node_start(layout, n, width)
            _fill_from_nodes(moves, to, table, start, nearest, rest, mode, step, count, width)
        else:
            _fill(moves, to, delta, kind, alpha, mode, step, count, width)


@inline
def move_base(n: int, modes: int, gaps: Any, width: int) -> int:
    """Where the moves of mode ``n`` start; behind the last mode, those of the last."""
    n = min(n, modes - 1)
    return 2 * n * gaps.size * width if gaps.size > 0 else 2 * (n % GROUP) * CHUNK * width


@inline
def fill_chunk_nodes(
    rows: Any,
    plane: int,
    table: Any,
    start: int,
    nearest: Any,
    rest: Any,
    mode: Any,
    step: Any,
    count: int,
    width: int,
) -> None:
    """Abar, P and Bbar of one mode for the samples of a chunk."""
    series = _series(mode, step)
    ir, ii = inverse(mode[0], mode[1])
    for k in range(count):
        at = k * width
        mr, mi = _located(table, start, width, nearest[k], rest[k], mode, step, series)
        put(rows, plane, A, at, constant(mr, "one") + mr, mi)
        pr, pi = times(mr, mi, ir, ii)
        put(rows, plane, P, at, pr, pi)
        br, bi = times(pr, pi, mode[2], mode[3])
        put(rows, plane, B, at, br, bi)
