r"""Coefficients where no two gaps need be equal: from a table of nodes, or one by one.

A hold then has an exponential for every sample, mode and channel, which is several times the work of the
recurrence. Instead the moves of gaps that lie on a grid are computed once a call, with their derivatives by
the gap, and a sample takes the nearest of them: with e the rest of its gap,

.. math:: m = m_j + m'_j\,\Bigl(e + \frac{z}{2} e^2 + \frac{z^2}{6} e^3 + \frac{z^3}{24} e^4\Bigr).

A gap beyond the grid, of which there are few, has its exponential computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tsssm.ops.cpu.blocks import CHUNK, GROUP
from tsssm.ops.cpu.coefficients import ZOH, A, B, P, Rule, fill, inverse, load_mode, move, put
from tsssm.ops.cpu.compiling import Choice, inline, maker, routine
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import load, pair, plus, splat, store, width_of

# Largest |z e|: the series then leaves an error of 1e-7 of Abar.
_REACH = 0.1
# A mode's table, within the second-level cache together with those of the others.
_MOST_NODES = 1024
# Registers of a node.
_NODE = 4
# Nodes between two that are computed by an exponential; those between are products.
_STRIDE = 16


class Nodes(NamedTuple):
    """The table of a block: of each group of modes the spacing, how many nodes, and which is the first.

    ``nearest`` and ``rest`` are room for what `locate` finds.
    """

    spacing: Any
    count: Any
    first: Any
    table: Any
    nearest: Any
    rest: Any


@maker
def make_nodes(system: Any, steps: Any, reach: float) -> Any:
    """Nodes for gaps up to ``reach`` if possible; none, if that is infinite."""
    modes, width = system.shape[0], width_of(system)
    groups = modes // GROUP
    spacing = zeros((groups,), np.float64)
    count, first = zeros((groups,), np.int64), zeros((groups + 1,), np.int64)
    for g in range(groups):
        fastest = 1e-6
        for n in range(g * GROUP, g * GROUP + GROUP):
            for w in range(width):
                fastest = max(fastest, steps[w] * np.hypot(system[n, 0, w], system[n, 1, w]))
        spacing[g] = 2 * _REACH / fastest
        if reach < np.inf:
            count[g] = int(min(reach / spacing[g] + 2, _MOST_NODES))
        first[g + 1] = first[g] + GROUP * count[g]
    table = zeros((max(1, first[-1]) * _NODE * width,), system)
    nodes = Nodes(spacing, count, first, table, zeros((CHUNK,), np.int64), zeros((CHUNK,), system))
    for n in range(modes):
        _fill_nodes(nodes, system, steps, n)
    return nodes


@inline
def _fill_nodes(nodes: Any, system: Any, steps: Any, n: int) -> None:
    """The moves and their derivatives of one mode."""
    table, width = nodes.table, width_of(system)
    eigenvalue, _ = load_mode(system, n)
    start, one = _start(nodes, n, width), constant(load(steps, 0), "one")
    for j in range(nodes.count[n // GROUP]):
        at, rest = start + j * _NODE * width, j % _STRIDE
        if rest == 0 or j < _STRIDE:
            gap = splat(j * nodes.spacing[n // GROUP], steps)
            m = move(Rule(ZOH, 0.0), eigenvalue, load(steps, 0) * gap)
        else:
            low, high = pair(table, start + rest * _NODE * width), pair(table, at - rest * _NODE * width)
            m = high + low + high * low
        store(table, at, m)
        store(table, at + 2 * width, (one + m) * (load(steps, 0) * eigenvalue))


@inline
def _start(nodes: Any, n: int, width: int) -> int:
    """Where the nodes of mode ``n`` start."""
    g = n // GROUP
    return (nodes.first[g] + n % GROUP * nodes.count[g]) * _NODE * width


@routine
def locate(nodes: Any, g: int, delta: Any, count: int) -> None:
    """The node nearest to each gap of a chunk, and the rest of the gap; -1 and all of it beyond the grid."""
    spacing, most = nodes.spacing[g], nodes.count[g]
    inverse_spacing = 1 / spacing
    for k in range(count):
        j = np.rint(delta[k] * inverse_spacing)
        inside = j < most
        nodes.nearest[k] = int(j) if inside else -1
        nodes.rest[k] = delta[k] - j * spacing if inside else delta[k]


@inline
def _series(eigenvalue: Any, s: Any) -> Any:
    """Coefficients z/2, z^2/6 and z^3/24."""
    z = s * eigenvalue
    a = splat(0.5, s) * z
    b = a * (splat(1 / 3, s) * z)
    return a, b, b * (splat(0.25, s) * z)


@inline
def _located(table: Any, start: int, node: int, rest: float, eigenvalue: Any, step: Any, series: Any) -> Any:
    """The move of a mode, whose nodes start at ``start``, over a gap as `locate` describes it."""
    a, b, c = series
    e = splat(rest, step)
    if node < 0:
        return move(Rule(ZOH, 0.0), eigenvalue, step * e)
    width = width_of(table)
    at = start + node * _NODE * width
    q = plus(e, e * e, plus(a, e, plus(b, e, c)))
    return plus(pair(table, at), pair(table, at + 2 * width), q)


@routine
def _moves_from_nodes(moves: Any, to: int, nodes: Any, n: int, system: Any, steps: Any, count: int) -> None:
    width, step = width_of(moves), load(steps, 0)
    start, (eigenvalue, _) = _start(nodes, n, width), load_mode(system, n)
    series = _series(eigenvalue, step)
    for k in range(count):
        m = _located(nodes.table, start, nodes.nearest[k], nodes.rest[k], eigenvalue, step, series)
        store(moves, to + 2 * k * width, m)


@routine
def fill_moves(
    moves: Any, to: int, gaps: Any, rule: Any, system: Any, steps: Any, n: int, count: int
) -> None:
    """Moves of mode ``n`` over so many ``gaps``, one after the other from ``to`` on."""
    width, (eigenvalue, _) = width_of(moves), load_mode(system, n)
    for k in range(count):
        s = load(steps, 0) * splat(gaps[k], steps)
        store(moves, to + 2 * k * width, move(rule, eigenvalue, s))


@Choice
def chunk_moves(
    nodes: Any, moves: Any, g: int, delta: Any, count: int, rule: Any, system: Any, steps: Any
) -> None:
    """Moves of a group of modes over the gaps ``delta`` of a chunk; without nodes they stand there
    already."""


@chunk_moves.of(Nodes)
@routine
def _chunk_moves(
    nodes: Any, moves: Any, g: int, delta: Any, count: int, rule: Any, system: Any, steps: Any
) -> None:
    by_nodes = nodes.count[g] > 0
    if by_nodes:
        locate(nodes, g, delta, count)
    for i in range(GROUP):
        to = 2 * i * CHUNK * width_of(moves)
        if by_nodes:
            _moves_from_nodes(moves, to, nodes, g * GROUP + i, system, steps, count)
        else:
            fill_moves(moves, to, delta, rule, system, steps, g * GROUP + i, count)


@inline
def chunk_rows(
    rows: Any, n: int, delta: Any, count: int, rule: Any, system: Any, steps: Any, gradient: bool
) -> None:
    """Rows of one mode for the samples of a chunk, with what their gradients need if asked."""
    for k in range(count):
        s = load(steps, 0) * splat(delta[k], steps)
        fill(rows, 2 * k * width_of(system), rule, gradient, load_mode(system, n), s)


@inline
def chunk_rows_from_nodes(nodes: Any, rows: Any, n: int, count: int, system: Any, steps: Any) -> None:
    """Abar, P and Bbar of one mode for the samples of a chunk that `locate` has seen."""
    width, step = width_of(system), load(steps, 0)
    start, (eigenvalue, b) = _start(nodes, n, width), load_mode(system, n)
    series, reciprocal = _series(eigenvalue, step), inverse(eigenvalue)
    for k in range(count):
        at = 2 * k * width
        m = _located(nodes.table, start, nodes.nearest[k], nodes.rest[k], eigenvalue, step, series)
        put(rows, A, at, constant(step, "one") + m)
        put(rows, P, at, m * reciprocal)
        put(rows, B, at, (m * reciprocal) * b)
