"""Groups of modes by the cells of ``cells`` over a chunk of samples, and what goes before and
comes after it."""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK, GROUP
from tsssm.ops.cpu.coefficients import A, B, add_gradient, collect_table, fill_table, inverse, load_mode
from tsssm.ops.cpu.compiling import Choice, inline, maker, routine
from tsssm.ops.cpu.diagonal.block import N_SUMS, add_to_mode
from tsssm.ops.cpu.diagonal.cells import (
    AsCoupled,
    AsDriven,
    AsPlain,
    Coupled,
    Driven,
    Plain,
    modes_again,
    modes_ahead,
    modes_back,
    move_at,
    step,
    step_adjoint,
)
from tsssm.ops.cpu.memory import piece, zeros
from tsssm.ops.cpu.nodes import chunk_moves, fill_moves
from tsssm.ops.cpu.simd import (
    all_modes,
    conj,
    count_of,
    load,
    loads,
    nothing,
    pair,
    pairs,
    plus,
    plus_real,
    real,
    splat,
    store,
    stores,
    width_of,
)


@routine
def run_modes(cell: Any, u: Any, y: Any, which: Any, first: int, state: Any, n: int, count: int) -> int:
    """Modes from ``n`` on over a chunk, read out into ``y``; returns how many. Moves of n start at
    ``first``."""
    width = width_of(u)
    at, step_of = 2 * n * width, 2 * width
    modes = modes_ahead(cell, n, at, step_of)
    x = pairs(state, at, step_of, modes.w)
    for k in range(count):
        uk = load(u, k * width)
        m = move_at(modes, cell.moves, first + step_of * which[k], cell.stride)
        x = step(modes, m, x, uk)
        store(y, k * width, plus_real(load(y, k * width), modes.w, x))
    stores(state, at, x, step_of)
    return count_of(x)


@routine
def _run_again(cell: Any, room: Any, first: int, before: Any, n: int, count: int) -> int:
    """States of modes from ``n`` on, from those ``before`` the chunk, into ``cell.X``; returns how many."""
    width = width_of(room.u)
    at, two = 2 * n * width, 2 * width
    modes = modes_again(cell, n, at, two)
    x = pairs(before, at, two, modes.w)
    for k in range(count):
        stores(cell.X, k * two * count_of(x), x, two)
        m = move_at(modes, cell.moves, first + two * room.which[k], cell.stride)
        x = step(modes, m, x, load(room.u, k * width))
    stores(cell.X, count * two * count_of(x), x, two)
    return count_of(x)


@routine
def retreat_modes(
    cell: Any, room: Any, first: int, again: Any, carry: Any, sums: Any, n: int, count: int, final: bool
) -> int:
    """Adjoint of `run_modes`; returns how many modes it was for.

    ``again`` says how many modes have their states in ``cell.X``, and which among them is ``n``.
    """
    u, gy, gu, X, which, width = room.u, room.y, room.gu, cell.X, room.which, width_of(room.u)
    at, two = 2 * n * width, 2 * width
    modes, (among, i) = modes_back(cell, n, at, two), again
    to_x, room_of = i * two, among * two
    x, h = pairs(X, to_x + count * room_of, two, modes.w), pairs(carry, at, two, modes.w)
    if final:
        # What comes back to the final state goes to the scale and to the scaled state.
        stores(cell.g_scale, at, plus(pairs(cell.g_scale, at, two, x), conj(x), h), two)
        h = conj(pairs(cell.scale, at, two, x)) * h
    g_weight, held = nothing(x), (nothing(x), nothing(x), nothing(real(x)))
    for k in range(count - 1, -1, -1):
        g, uk = load(gy, k * width), load(u, k * width)
        g_weight, h = plus(g_weight, g, conj(x)), plus(h, g, conj(modes.w))
        x = pairs(X, to_x + k * room_of, two, modes.w)
        m = move_at(modes, cell.moves, first + two * which[k], cell.stride)
        h, back, held = step_adjoint(modes, m, x, h, uk, splat(room.delta[k], uk), held)
        store(gu, k * width, load(gu, k * width) + all_modes(back))
    stores(carry, at, h, two)
    t, s, total = held
    to, apart = 2 * N_SUMS * n * width, 2 * N_SUMS * width
    stores(sums, to, pairs(sums, to, apart, x) + t, apart)
    stores(sums, to + two, pairs(sums, to + two, apart, x) + g_weight, apart)
    stores(sums, to + 2 * two, pairs(sums, to + 2 * two, apart, x) + s, apart)
    stores(sums, to + 3 * two, loads(sums, to + 3 * two, apart, x) + total, apart)
    return count_of(x)


@inline
def _renew(cell: Any, block: Any, g: int, room: Any, count: int) -> int:
    """Have the moves of a group ready for a chunk, and say where they start."""
    chunk_moves(block.nodes, cell.moves, g, room.delta, count, cell.rule, block.system, block.steps)
    return 0 if block.distinct == 0 else g * GROUP * cell.stride


@Choice
def advance_group(cell: Any, block: Any, room: Any, state: Any, g: int, count: int) -> None:
    """A group of modes over a chunk."""


@advance_group.of(Plain, Coupled, Driven)
@inline
def _(cell: Any, block: Any, room: Any, state: Any, g: int, count: int) -> None:
    first, i = _renew(cell, block, g, room, count), 0
    while i < GROUP and g * GROUP + i < block.modes:
        start = first + i * cell.stride
        i += run_modes(cell, room.u, room.y, room.which, start, state, g * GROUP + i, count)


@Choice
def retreat_group(
    cell: Any, block: Any, room: Any, before: Any, carry: Any, g: int, count: int, final: bool
) -> None:
    """Adjoint of `advance_group`."""


@retreat_group.of(Plain, Coupled, Driven)
@inline
def _(cell: Any, block: Any, room: Any, before: Any, carry: Any, g: int, count: int, final: bool) -> None:
    first, i = _renew(cell, block, g, room, count), 0
    while i < GROUP and g * GROUP + i < block.modes:
        among, j = _run_again(cell, room, first + i * cell.stride, before, g * GROUP + i, count), 0
        while j < among:
            n, start = g * GROUP + i + j, first + (i + j) * cell.stride
            j += retreat_modes(cell, room, start, (among, j), carry, block.sums, n, count, final)
        i += among


@maker
def _make(system: Any, steps: Any, gaps: Any, rule: Any, gradient: bool) -> Any:
    """Moves of all modes over the distinct gaps, or room for those of a group; their stride; K = B / lambda;
    weights and, for gradients, those of K and states, all empty."""
    width, size, count = width_of(system), gaps.size, system.shape[0]
    stride = 2 * width * (size if size > 0 else CHUNK)
    moves = zeros((stride * (count if size > 0 else GROUP),), system)
    part = 2 * count * width
    three = zeros(((3 if gradient else 2) * part,), system)
    scale, weights = piece(three, 0, (count, 2, width)), piece(three, part, (count, 2, width))
    g_scale = piece(three, 2 * part if gradient else part, (count, 2, width))
    for n in range(count):
        eigenvalue, b = load_mode(system, n)
        store(scale, 2 * n * width, b * inverse(eigenvalue))
        if size > 0:
            fill_moves(moves, n * stride, gaps, rule, system, steps, n, size)
    X = zeros((4 * (CHUNK + 1) * width if gradient else 0,), system)
    return moves, stride, scale, weights, g_scale, X


@Choice
def open_modes(form: Any, system: Any, steps: Any, bounds: Any, gaps: Any, rule: Any, gradient: bool) -> Any:
    """The cell of a block; what only gradients need is empty or another's without them."""


@open_modes.of(AsPlain)
@maker
def _(form: Any, system: Any, steps: Any, bounds: Any, gaps: Any, rule: Any, gradient: bool) -> Any:
    moves, stride, scale, weights, g_scale, X = _make(system, steps, gaps, rule, gradient)
    return Plain(moves, stride, scale, weights, g_scale, bounds, rule, X)


@open_modes.of(AsCoupled)
@maker
def _(form: Any, system: Any, steps: Any, bounds: Any, gaps: Any, rule: Any, gradient: bool) -> Any:
    moves, stride, scale, weights, g_scale, X = _make(system, steps, gaps, rule, gradient)
    return Coupled(moves, stride, scale, weights, g_scale, bounds, rule, X)


@open_modes.of(AsDriven)
@maker
def _(form: Any, system: Any, steps: Any, bounds: Any, gaps: Any, rule: Any, gradient: bool) -> Any:
    moves, stride, scale, weights, g_scale, X = _make(system, steps, gaps, rule, gradient)
    for at in range(0, scale.size, stride):
        store(scale, at, pair(moves, at) * pair(scale, at))
    return Driven(moves, stride, scale, weights, g_scale, bounds, rule, X)


@Choice
def weigh(cell: Any, block: Any) -> None:
    """Make the weights of the readout of a direction."""


@weigh.of(Plain, Coupled, Driven)
@routine
def _(cell: Any, block: Any) -> None:
    for at in range(0, cell.scale.size, 2 * width_of(cell.scale)):
        store(cell.weights, at, pair(block.C, at) * pair(cell.scale, at))


@Choice
def rescale(cell: Any, block: Any, state: Any) -> None:
    """Multiply the states of quick groups by what they were divided by."""


@rescale.of(Plain, Coupled, Driven)
@routine
def _(cell: Any, block: Any, state: Any) -> None:
    for n in range(block.modes):
        if block.quick[n // GROUP]:
            at = 2 * n * width_of(cell.scale)
            store(state, at, pair(state, at) * pair(cell.scale, at))


@Choice
def settle(cell: Any, block: Any) -> None:
    """Send the sums of the quick groups, gathered in one direction, to the gradients of block and readout."""


@inline
def _of_scale(cell: Any, block: Any, n: int) -> Any:
    """Sum of z or m, and gradient of K; that of the readout and of the bound are sent where they belong."""
    width = width_of(block.sums)
    at, of = 2 * n * width, 2 * N_SUMS * n * width
    g_weight, s = pair(block.sums, of + 2 * width), pair(block.sums, of + 4 * width)
    store(block.gC, at, conj(pair(cell.scale, at)) * g_weight)
    if block.g_bounds.size > 0:
        total = load(block.g_bounds, n * width) + load(block.sums, of + 6 * width)
        store(block.g_bounds, n * width, total)
    g = plus(pair(cell.g_scale, at) + s, conj(pair(block.C, at)), g_weight)
    store(cell.g_scale, at, nothing(g))  # no other direction has a final state
    return pair(block.sums, of), g


@settle.of(Plain, Coupled)
@routine
def _(cell: Any, block: Any) -> None:
    s = load(block.steps, 0)
    for n in range(block.modes):
        if block.quick[n // GROUP]:
            t, g = _of_scale(cell, block, n)
            eigenvalue, _ = load_mode(block.system, n)
            # The scale is B / lambda.
            g = conj(inverse(eigenvalue)) * g
            g_scale = conj(pair(cell.scale, 2 * n * width_of(block.sums))) * g
            add_to_mode(block, n, s * t - g_scale, g, real(conj(eigenvalue) * t))


@settle.of(Driven)
@routine
def _(cell: Any, block: Any) -> None:
    fill_table(block.rows, block.gaps, block.rule, True, block.system, block.steps)
    for n in range(block.modes):
        m, g = _of_scale(cell, block, n)
        add_gradient(block.rows, A, 2 * n * width_of(block.sums), m)
        add_gradient(block.rows, B, 2 * n * width_of(block.sums), g)
    collect_table(
        block.rows, block.gaps, block.rule.kind, block.system, block.steps, block.g_system, block.g_steps
    )
