"""The full recurrence of Liquid-S4 truncated at an order: the chain of states of one mode over a chunk.

``X`` holds the states of all orders one after the other, ``seen`` their sum, and ``coupling`` that of
neighbours in the chain. The input drives the first order; clipped to the bound of the mode, it couples. Only
by a transform does that need the unit disc as well, which is what ``project`` asks for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import CHUNK, clear
from tsssm.ops.cpu.bounds import clipped, clipped_adjoint, is_outside, to_disc, to_disc_adjoint
from tsssm.ops.cpu.coefficients import A, B, get
from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.diagonal.block import add_to_sums, close_sums, no_sums
from tsssm.ops.cpu.diagonal.rows import (
    advance_by_rows,
    advance_mode,
    make_states,
    open_rows,
    retreat_by_rows,
    retreat_chunk,
    retreat_mode,
    run_chunk,
)
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import conj, load, nothing, pair, plus, real, store, where, width_of


class AsChain(NamedTuple):
    """Says that a call is computed by `Chain`."""

    order: int
    project: bool


class Chain(NamedTuple):
    """Cell of the chain; gradients of a chunk: ``H`` of the states of the order above,
    ``g_transition`` and ``g_coupling``."""

    block: Any
    X: Any
    seen: Any
    G: Any
    coupling: Any
    H: Any
    g_transition: Any
    g_coupling: Any
    order: Any
    project: Any


@open_rows.of(AsChain)
@maker
def _(form: Any, block: Any) -> Any:
    X, G = make_states(block, form.order)
    size = (2 * CHUNK * width_of(X),)
    seen, coupling, H = zeros(size, X), zeros(size, X), zeros(size, X)
    return Chain(block, X, seen, G, coupling, H, zeros(size, X), zeros(size, X), form.order, form.project)


advance_mode.of(Chain)(advance_by_rows)
retreat_mode.of(Chain)(retreat_by_rows)


@inline
def _slot(cell: Any, q: int) -> int:
    """Where the states of an order start in ``X``."""
    return 2 * q * (CHUNK + 1) * width_of(cell.X)


@run_chunk.of(Chain)
@routine
def _(cell: Any, room: Any, state: Any, n: int, base: int, count: int) -> None:
    width = width_of(cell.X)
    for q in range(cell.order):
        at, to = 2 * (q * cell.block.count + n) * width, _slot(cell, q)
        store(cell.X, to, pair(state, at))
        if q == 0:
            _first_order(cell, room, n, base, count)
        else:
            _next_order(cell, room, q, base, count)
        store(state, at, pair(cell.X, to + 2 * count * width))


@inline
def _first_order(cell: Any, room: Any, n: int, base: int, count: int) -> None:
    rows, width = cell.block.rows, width_of(cell.X)
    x, bound = pair(cell.X, 0), load(cell.block.bounds, n * width)
    for k in range(count):
        at, row, uk = 2 * k * width, base + 2 * room.which[k] * width, load(room.u, k * width)
        a, b = get(rows, A, row), get(rows, B, row)
        g = b * clipped(uk, bound)
        if cell.project:
            p, factor = to_disc(a + g)
            # Inside the disc the coupling is kept; the difference would cancel for a small one.
            g = where(is_outside(factor), p - a, g)
        store(cell.coupling, at, g)
        x = plus(b * uk, a, x)
        store(cell.X, at + 2 * width, x)
        store(cell.seen, at, x)


@inline
def _next_order(cell: Any, room: Any, q: int, base: int, count: int) -> None:
    rows, X, width = cell.block.rows, cell.X, width_of(cell.X)
    same, lower = _slot(cell, q), _slot(cell, q - 1)
    x = pair(X, same)
    for k in range(count):
        at, row = 2 * k * width, base + 2 * room.which[k] * width
        x = plus(pair(cell.coupling, at) * pair(X, lower + at), get(rows, A, row), x)
        store(X, same + at + 2 * width, x)
        store(cell.seen, at, pair(cell.seen, at) + x)


@retreat_chunk.of(Chain)
@routine
def _(cell: Any, room: Any, carry: Any, n: int, base: int, way: int, count: int) -> None:
    for gradients in (cell.H, cell.g_transition, cell.g_coupling):
        clear(gradients, 2 * CHUNK)
    for q in range(cell.order - 1, -1, -1):
        at = 2 * (q * cell.block.count + n) * width_of(carry)
        h = pair(carry, at)
        if q == 0:
            h = _first_order_adjoint(cell, room, n, base, way, h, count)
        else:
            h = _next_order_adjoint(cell, room, q, base, h, count)
        store(carry, at, h)


@inline
def _next_order_adjoint(cell: Any, room: Any, q: int, base: int, h: Any, count: int) -> Any:
    rows, X, H, width = cell.block.rows, cell.X, cell.H, width_of(cell.X)
    same, lower = _slot(cell, q), _slot(cell, q - 1)
    for k in range(count - 1, -1, -1):
        at, row = 2 * k * width, base + 2 * room.which[k] * width
        # Of the order above, at the same sample; then of this one, which stands there for the order below.
        above = pair(H, at)
        h = h + pair(cell.G, at)
        store(H, at, h)
        store(cell.g_transition, at, plus(pair(cell.g_transition, at), conj(pair(X, same + at)), h))
        store(cell.g_coupling, at, plus(pair(cell.g_coupling, at), conj(pair(X, lower + at)), h))
        h = plus(conj(pair(cell.coupling, at)) * above, conj(get(rows, A, row)), h)
    return h


@inline
def _first_order_adjoint(cell: Any, room: Any, n: int, base: int, way: int, h: Any, count: int) -> Any:
    block, width = cell.block, width_of(cell.X)
    rows, bound, total = block.rows, load(block.bounds, n * width), load(block.g_bounds, n * width)
    held = no_sums(h)
    for k in range(count - 1, -1, -1):
        at, row, uk = 2 * k * width, base + 2 * room.which[k] * width, load(room.u, k * width)
        v, a, b = clipped(uk, bound), get(rows, A, row), get(rows, B, row)
        h = h + pair(cell.G, at)
        ga = plus(pair(cell.g_transition, at), conj(pair(cell.X, at)), h)
        gg = pair(cell.g_coupling, at)
        if cell.project:
            p, factor = to_disc(plus(a, v, b))
            # The coupling is Pi(A + B v) - A outside the disc, and B v inside.
            t = to_disc_adjoint(p, factor, gg)
            ga = ga + where(is_outside(factor), t - gg, nothing(t))
            gg = t
        held = add_to_sums(held, way, rows, row, room.delta[k], ga, plus(uk * h, v, gg))
        inside, outside = clipped_adjoint(uk, v, real(conj(b) * gg))
        gu = load(room.gu, k * width) + real(conj(b) * h)
        store(room.gu, k * width, gu + inside)
        total = total + outside
        h = plus(conj(pair(cell.coupling, at)) * pair(cell.H, at), conj(a), h)
    close_sums(held, way, block, n, base)
    store(block.g_bounds, n * width, total)
    return h
