r"""The coefficients of a block of W channels, and where the gradients of Abar and Bbar at its samples go.

Rows that samples share get sums of their own (`TABLE`), in registers where there is just one (`ONE`). Where
each sample has a row (`HOLD`: zero-order hold at gaps that are all different, and a mode that is not
`is_slow`), three sums over all samples are enough, with delta the gap of a sample,

.. math::
    T = \sum \delta \bar A^* g_{\bar A}, \qquad
    I = \sum \delta \bar A^* g_{\bar B}, \qquad
    S = \sum P^* g_{\bar B},

from which `collect_hold` has the gradients of the system: a row each would cost more than the recurrence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tsssm.ops.cpu.blocks import CHUNK, GROUP, gather_rows, gather_system
from tsssm.ops.cpu.buffers import arrays
from tsssm.ops.cpu.coefficients import (
    A,
    B,
    P,
    add_gradient,
    collect,
    get,
    inverse,
    load_mode,
    make_rows,
)
from tsssm.ops.cpu.compiling import Choice, inline, kernel, maker, routine
from tsssm.ops.cpu.memory import piece, zeros
from tsssm.ops.cpu.nodes import chunk_rows, chunk_rows_from_nodes, locate, make_nodes
from tsssm.ops.cpu.simd import conj, load, nothing, pair, plus, real, splat, store, width_of

TABLE, ONE, HOLD = range(3)
# Complex registers of a mode.
N_SUMS = 4
# Below this |z| the derivative of phi1 is not taken as a difference.
_SLOW = 0.01


class System(NamedTuple):
    """Operands (H, N, 2), C (K, M, H, N, 2), D (M or 0, H), steps (H,) and bounds (H, N) or none, or
    gradients."""

    A: Any
    B: Any
    C: Any
    D: Any
    step: Any
    bound: Any


class Block(NamedTuple):
    """What cells share: coefficients, gradients, and ``sums`` (N, `N_SUMS`, 2, W) over samples.

    ``modes`` are those of the system, of which arrays hold ``count``, maybe more (`GROUP`). ``nodes`` are
    None unless samples have gaps of their own. ``slow`` says of which modes rows, ``quick`` of which groups
    no rows are needed; ``plain`` (1,), whether the direction at hand can do without.
    """

    modes: Any
    count: Any
    readouts: Any
    rule: Any
    distinct: Any
    gaps: Any
    system: Any
    steps: Any
    nodes: Any
    rows: Any
    slow: Any
    quick: Any
    plain: Any
    C: Any
    bounds: Any
    g_system: Any
    g_steps: Any
    gC: Any
    g_bounds: Any
    sums: Any


@routine
def is_slow(system: Any, steps: Any, n: int, typical: float) -> bool:
    """Whether a ``typical`` gap moves a mode so little, in some channel, that phi1' needs its series.

    Otherwise phi1'(z) = (exp(z) - phi1(z)) / z, with an error of the rounding unit divided by z.
    """
    for w in range(steps.size):
        if typical * steps[w] * max(abs(system[n, 0, w]), abs(system[n, 1, w])) < _SLOW:
            return True
    return False


@kernel
def any_slow(A: Any, step: Any, like: Any, duration: float) -> bool:
    """Whether some mode of the system (H, N) `is_slow` in a series of this ``duration``."""
    A, step = arrays(A, like), arrays(step, like)
    for h in range(A.shape[0]):
        for n in range(A.shape[1]):
            if duration * step[h] * max(abs(A[h, n, 0]), abs(A[h, n, 1])) < _SLOW:
                return True
    return False


@Choice
def _open_nodes(dt: Any, system: Any, steps: Any, reach: float) -> Any:
    """Nodes where samples have gaps of their own."""


@_open_nodes.of(np.ndarray)
@maker
def _(dt: Any, system: Any, steps: Any, reach: float) -> Any:
    return make_nodes(system, steps, reach)


@maker
def open_block(form: Any, operands: Any, times: Any, dt: Any, h0: int, gradient: bool) -> Any:
    """Gather a block; what only gradients need is empty without them."""
    system, steps = gather_system(operands.A, operands.B, operands.step, h0)
    count, width, modes = system.shape[0], width_of(system), operands.A.shape[1]
    groups = count // GROUP
    flags = zeros((count + groups + 1,), np.bool_)
    slow, quick = piece(flags, 0, (count,)), piece(flags, count, (groups,))
    for g in range(groups):
        quick[g] = True
    # Nothing cancels in modes that are driven; and where no rows are wanted, no mode is slow.
    all_quick = form.rows is None or (operands.bound.size > 0 and times.gaps.size == 1)
    for n in range(modes):
        if gradient and times.gaps.size == 0:
            slow[n] = is_slow(system, steps, n, times.typical)
        if form.modes is None or (not all_quick and is_slow(system, steps, n, times.duration)):
            quick[n // GROUP] = False
    readouts, bounded = operands.C.shape[1], count if operands.bound.size > 0 else 0
    rows = CHUNK if times.gaps.size == 0 else count * times.gaps.size
    # Gradients in one piece: system, readouts, bounds, sums and steps.
    counted = count if gradient else 0
    to_C = 4 * counted
    to_bounds = to_C + 2 * counted * readouts
    to_sums = to_bounds + min(counted, bounded)
    to_steps = to_sums + 2 * N_SUMS * counted
    room = zeros(((to_steps + 1) * width,), system)
    return Block(
        modes,
        count,
        readouts,
        form.rule,
        times.gaps.size,
        times.gaps,
        system,
        steps,
        _open_nodes(dt, system, steps, times.reach),
        make_rows(rows if form.rows is not None or (gradient and times.gaps.size == 1) else 0, system),
        slow,
        quick,
        piece(flags, count + groups, (1,)),
        zeros((readouts, count, 2, width), system),
        gather_rows(operands.bound, bounded, True, h0),
        piece(room, 0, (counted, 4, width)),
        piece(room, to_steps * width, (width,)),
        piece(room, to_C * width, (readouts, counted, 2, width)),
        piece(room, to_bounds * width, (to_sums - to_bounds, width)),
        piece(room, to_sums * width, (counted, N_SUMS, 2, width)),
    )


@inline
def prepare(nodes: Any, block: Any, room: Any, n: int, count: int, gradient: bool) -> Any:
    """Where the rows of mode ``n`` start, and where their gradients go; own rows are computed here."""
    own = nodes is not None
    if own:
        delta, in_table = room.delta, nodes.count[n // GROUP] > 0
        if in_table and n % GROUP == 0:
            locate(nodes, n // GROUP, delta, count)
        if in_table and not (gradient and (block.slow[n] or block.plain[0])):
            chunk_rows_from_nodes(nodes, block.rows, n, count, block.system, block.steps)
            return 0, HOLD
        chunk_rows(block.rows, n, delta, count, block.rule, block.system, block.steps, gradient)
        return 0, TABLE
    size = block.distinct
    return 2 * n * size * width_of(block.system), ONE if size == 1 else TABLE


@inline
def give_back(nodes: Any, block: Any, room: Any, n: int, count: int, way: int) -> None:
    """Send the gradients of rows that `prepare` has computed for a chunk to the system."""
    own = nodes is not None
    if own:
        for k in range(count if way != HOLD else 0):
            at, gap = 2 * k * width_of(block.system), room.delta[k]
            collect(
                block.rows,
                at,
                block.rule.kind,
                block.system,
                block.steps,
                gap,
                block.g_system,
                block.g_steps,
                n,
            )


@inline
def no_sums(like: Any) -> Any:
    """T, I and S of a chunk, to begin with."""
    return nothing(like), nothing(like), nothing(like)


@inline
def add_to_sums(held: Any, way: int, rows: Any, row: int, gap: float, g_transition: Any, g_input: Any) -> Any:
    """Add the gradients of Abar and of Bbar at one sample, which has the row at ``row``."""
    t, i, s = held
    if way == TABLE:
        add_gradient(rows, A, row, g_transition)
        add_gradient(rows, B, row, g_input)
        return t, i, s
    if way == ONE:
        return t + g_transition, i + g_input, s
    # Sums of products on their own, so that each is a chain of fused operations.
    a = splat(gap, t) * conj(get(rows, A, row))
    return plus(t, a, g_transition), plus(i, a, g_input), plus(s, conj(get(rows, P, row)), g_input)


@inline
def close_sums(held: Any, way: int, block: Any, n: int, base: int) -> None:
    """Add the sums of a chunk to those before."""
    t, i, s = held
    if way == HOLD:
        width = width_of(block.sums)
        at = 2 * N_SUMS * n * width
        store(block.sums, at, pair(block.sums, at) + t)
        store(block.sums, at + 2 * width, pair(block.sums, at + 2 * width) + i)
        store(block.sums, at + 4 * width, pair(block.sums, at + 4 * width) + s)
    elif way == ONE:
        add_gradient(block.rows, A, base, t)
        add_gradient(block.rows, B, base, i)


@inline
def add_to_mode(block: Any, n: int, g_eigenvalue: Any, g_b: Any, g_step: Any) -> None:
    """Add to the gradients of a mode's eigenvalue and input vector and of the steps."""
    width, g_system = width_of(block.system), block.g_system
    to = 4 * n * width
    store(g_system, to, pair(g_system, to) + g_eigenvalue)
    store(g_system, to + 2 * width, pair(g_system, to + 2 * width) + g_b)
    store(block.g_steps, 0, load(block.g_steps, 0) + g_step)


@routine
def collect_hold(block: Any) -> None:
    """Send the sums of the way `HOLD` to the gradients of the system and of the steps."""
    step, width = load(block.steps, 0), width_of(block.steps)
    for n in range(block.modes):
        eigenvalue, b = load_mode(block.system, n)
        at = 2 * N_SUMS * n * width
        t, s = pair(block.sums, at), pair(block.sums, at + 4 * width)
        # Sums of Bbar lack the input vector, which P does not have.
        i, g = conj(b) * pair(block.sums, at + 2 * width), conj(b) * s
        slope = conj(inverse(eigenvalue)) * (step * i - g)
        add_to_mode(block, n, step * t + slope, s, real(conj(eigenvalue) * t) + real(i))
