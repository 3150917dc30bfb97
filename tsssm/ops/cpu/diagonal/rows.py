"""Modes whose samples have rows: any rule, state and number of readouts, one mode after the other.

What a mode does over a chunk is said by its cell: `Linear`, `Liquid` (the transition is Abar + Bbar v with
the clipped input v, shortened to the closed unit disc if ``project``), and those of ``chain`` and
``correlation``. All have a ``block``; ``X``, the states, of which entry 0 is the one before the chunk;
``seen``, what readouts see of sample 0 on; and ``G``, the gradients of what they see.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import CHUNK, clear, read_out, read_out_adjoint
from tsssm.ops.cpu.bounds import clipped, clipped_adjoint, to_disc, to_disc_adjoint
from tsssm.ops.cpu.coefficients import A, B, Q, add_gradient, get
from tsssm.ops.cpu.compiling import Choice, inline, maker, routine
from tsssm.ops.cpu.diagonal.block import add_to_sums, close_sums, give_back, no_sums, prepare
from tsssm.ops.cpu.memory import piece, zeros
from tsssm.ops.cpu.simd import conj, load, pair, plus, real, store, width_of


class AsLinear(NamedTuple):
    """Says that a call is computed by `Linear`."""

    foh: bool


class AsLiquid(NamedTuple):
    """Says that a call is computed by `Liquid`."""

    project: bool


class Linear(NamedTuple):
    """Cell of the linear recurrence, by first-order hold if ``foh``."""

    block: Any
    X: Any
    seen: Any
    G: Any
    foh: Any


class Liquid(NamedTuple):
    """Cell of the liquid recurrence; ``F`` holds transitions and, behind them, what they were
    shortened by."""

    block: Any
    X: Any
    seen: Any
    G: Any
    F: Any
    project: Any


@Choice
def open_rows(form: Any, block: Any) -> Any:
    """The cell of a block."""


@open_rows.of(AsLinear)
@maker
def _(form: Any, block: Any) -> Any:
    X, G = make_states(block, 1)
    return Linear(block, X, _after_first(X), G, form.foh)


@open_rows.of(AsLiquid)
@maker
def _(form: Any, block: Any) -> Any:
    X, G = make_states(block, 1)
    F = zeros((3 * CHUNK * width_of(X),), X)
    return Liquid(block, X, _after_first(X), G, F, form.project)


@maker
def _after_first(X: Any) -> Any:
    """States from sample 0 on."""
    return piece(X, 2 * width_of(X), (2 * CHUNK * width_of(X),))


@maker
def make_states(block: Any, slots: int) -> Any:
    """Room for the states of some slots over a chunk, and for the gradients of what readouts see."""
    width = width_of(block.system)
    size = 2 * (CHUNK + 1) * width
    return zeros((slots * size,), block.system), zeros((size,), block.system)


@Choice
def run_chunk(cell: Any, room: Any, state: Any, n: int, base: int, count: int) -> None:
    """Mode ``n``, whose rows start at ``base``, over a chunk; renews the state (slots, N, 2, W)."""


@Choice
def retreat_chunk(cell: Any, room: Any, carry: Any, n: int, base: int, way: int, count: int) -> None:
    """Adjoint of `run_chunk`, whose buffers are as it left them; ``way`` is where gradients of rows go."""


@inline
def _advance(cell: Any, block: Any, room: Any, state: Any, n: int, count: int, gradient: bool) -> Any:
    base, way = prepare(block.nodes, block, room, n, count, gradient)
    run_chunk(cell, room, state, n, base, count)
    return base, way


@Choice
def advance_mode(cell: Any, room: Any, state: Any, n: int, count: int) -> None:
    """A mode over a chunk, with its readouts."""


@Choice
def retreat_mode(cell: Any, room: Any, before: Any, carry: Any, n: int, count: int) -> None:
    """Adjoint of `advance_mode`."""


@inline
def advance_by_rows(cell: Any, room: Any, state: Any, n: int, count: int) -> None:
    """The part of `advance_mode` for all cells."""
    block, C = cell.block, cell.block.C
    _advance(cell, block, room, state, n, count, False)
    for m in range(block.readouts):
        at_c = 2 * (m * block.count + n) * width_of(C)
        read_out(cell.seen, 0, C, at_c, room.y, m * CHUNK * width_of(C), count)


@inline
def retreat_by_rows(cell: Any, room: Any, before: Any, carry: Any, n: int, count: int) -> None:
    """The part of `retreat_mode` for all cells."""
    block, C = cell.block, cell.block.C
    base, way = _advance(cell, block, room, before, n, count, True)
    clear(cell.G, 2 * CHUNK)
    for m in range(block.readouts):
        at_c, offset = 2 * (m * block.count + n) * width_of(C), m * CHUNK * width_of(C)
        read_out_adjoint(cell.seen, 0, cell.G, C, block.gC, at_c, room.y, offset, count)
    retreat_chunk(cell, room, carry, n, base, way, count)
    give_back(block.nodes, block, room, n, count, way)


advance_mode.of(Linear, Liquid)(advance_by_rows)
retreat_mode.of(Linear, Liquid)(retreat_by_rows)


@run_chunk.of(Linear)
@routine
def _(cell: Any, room: Any, state: Any, n: int, base: int, count: int) -> None:
    rows, X, width = cell.block.rows, cell.X, width_of(cell.X)
    x = pair(state, 2 * n * width)
    store(X, 0, x)
    for k in range(count):
        row = base + 2 * room.which[k] * width
        driven = get(rows, B, row) * load(room.u, k * width)
        if cell.foh:
            driven = plus(driven, load(room.v, k * width), get(rows, Q, row))
        x = plus(driven, get(rows, A, row), x)
        store(X, 2 * (k + 1) * width, x)
    store(state, 2 * n * width, x)


@retreat_chunk.of(Linear)
@routine
def _(cell: Any, room: Any, carry: Any, n: int, base: int, way: int, count: int) -> None:
    rows, width = cell.block.rows, width_of(cell.X)
    h = pair(carry, 2 * n * width)
    held = no_sums(h)
    for k in range(count - 1, -1, -1):
        at, row = k * width, base + 2 * room.which[k] * width
        h = h + pair(cell.G, 2 * at)
        uk, x = load(room.u, at), pair(cell.X, 2 * at)
        held = add_to_sums(held, way, rows, row, room.delta[k], conj(x) * h, uk * h)
        store(room.gu, at, load(room.gu, at) + real(conj(get(rows, B, row)) * h))
        if cell.foh:
            add_gradient(rows, Q, row, load(room.v, at) * h)
            store(room.gv, at, load(room.gv, at) + real(conj(get(rows, Q, row)) * h))
        h = conj(get(rows, A, row)) * h
    store(carry, 2 * n * width, h)
    close_sums(held, way, cell.block, n, base)


@run_chunk.of(Liquid)
@routine
def _(cell: Any, room: Any, state: Any, n: int, base: int, count: int) -> None:
    rows, X, F, width = cell.block.rows, cell.X, cell.F, width_of(cell.X)
    x, bound = pair(state, 2 * n * width), load(cell.block.bounds, n * width)
    store(X, 0, x)
    for k in range(count):
        row, uk = base + 2 * room.which[k] * width, load(room.u, k * width)
        b = get(rows, B, row)
        f = plus(get(rows, A, row), clipped(uk, bound), b)
        if cell.project:
            f, factor = to_disc(f)
            store(F, (2 * CHUNK + k) * width, factor)
        store(F, 2 * k * width, f)
        x = plus(b * uk, f, x)
        store(X, 2 * (k + 1) * width, x)
    store(state, 2 * n * width, x)


@retreat_chunk.of(Liquid)
@routine
def _(cell: Any, room: Any, carry: Any, n: int, base: int, way: int, count: int) -> None:
    block, F, width = cell.block, cell.F, width_of(cell.X)
    rows, bound, total = block.rows, load(block.bounds, n * width), load(block.g_bounds, n * width)
    h = pair(carry, 2 * n * width)
    held = no_sums(h)
    for k in range(count - 1, -1, -1):
        at, row, uk = k * width, base + 2 * room.which[k] * width, load(room.u, k * width)
        v, f, b = clipped(uk, bound), pair(F, 2 * at), get(rows, B, row)
        h = h + pair(cell.G, 2 * at)
        # Gradient of the transition, then of what the transition is made of.
        t = conj(pair(cell.X, 2 * at)) * h
        if cell.project:
            t = to_disc_adjoint(f, load(F, (2 * CHUNK + k) * width), t)
        held = add_to_sums(held, way, rows, row, room.delta[k], t, plus(uk * h, v, t))
        inside, outside = clipped_adjoint(uk, v, real(conj(b) * t))
        total = total + outside
        store(room.gu, at, load(room.gu, at) + (real(conj(b) * h) + inside))
        h = conj(f) * h
    store(carry, 2 * n * width, h)
    store(block.g_bounds, n * width, total)
    close_sums(held, way, block, n, base)
