"""The kernels K-B and P-B of Liquid-S4: one mode over a chunk, and its adjoint.

With w = Bbar u and the past inputs bounded, :math:`m_k = p_1 (1 + p_2 (1 + ...))` of the last order - 1 ones,
newest first, each sample adds z = w m beside w: to the state (K-B) or to what the readout sees (P-B).

``past`` holds the bounded inputs, oldest first: the order - 1 before the chunk, then those of the chunk.
Samples of zero gap are left out, so that sample k finds its newest predecessor at order - 2 + ``seen[k]``,
where ``room.seen`` counts the samples before k that are there. In a state they stand newest first, behind x.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import CHUNK, clear
from tsssm.ops.cpu.bounds import to_disc, to_disc_adjoint
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
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import conj, load, nothing, pair, plus, real, store, width_of


class AsCorrelation(NamedTuple):
    """Says that a call is computed by `Correlation`."""

    order: int
    kb: bool


class Correlation(NamedTuple):
    """Cell of K-B, if ``kb``, or P-B; ``M`` is room for the factors of a sample."""

    block: Any
    X: Any
    seen: Any
    G: Any
    past: Any
    g_past: Any
    M: Any
    order: Any
    kb: Any


@open_rows.of(AsCorrelation)
@maker
def _(form: Any, block: Any) -> Any:
    (X, G), order = make_states(block, 1), form.order
    width = width_of(X)
    past, g_past = (
        zeros((2 * (order - 1 + CHUNK) * width,), X),
        zeros((2 * (order - 1 + CHUNK) * width,), X),
    )
    seen, M = zeros((2 * CHUNK * width,), X), zeros((2 * order * width,), X)
    return Correlation(block, X, seen, G, past, g_past, M, order, form.kb)


advance_mode.of(Correlation)(advance_by_rows)
retreat_mode.of(Correlation)(retreat_by_rows)


@inline
def _load_past(cell: Any, past: Any, state: Any, n: int, seen: int) -> None:
    """Put the slots 1 to order - 1 of a state (order, N, 2, W) where they stand after ``seen`` samples."""
    width, order = width_of(past), cell.order
    for q in range(1, order):
        store(past, 2 * (order - 1 - q + seen) * width, pair(state, 2 * (q * cell.block.count + n) * width))


@inline
def _store_past(cell: Any, past: Any, state: Any, n: int, seen: int) -> None:
    """The way back of `_load_past`."""
    width, order = width_of(past), cell.order
    for q in range(1, order):
        store(state, 2 * (q * cell.block.count + n) * width, pair(past, 2 * (order - 1 - q + seen) * width))


@run_chunk.of(Correlation)
@routine
def _(cell: Any, room: Any, state: Any, n: int, base: int, count: int) -> None:
    rows, X, past, order, width = cell.block.rows, cell.X, cell.past, cell.order, width_of(cell.X)
    x = pair(state, 2 * n * width)
    one = constant(x, "one")
    store(X, 0, x)
    _load_past(cell, past, state, n, 0)
    for k in range(count):
        at, row = 2 * k * width, base + 2 * room.which[k] * width
        w, oldest = get(rows, B, row) * load(room.u, k * width), 2 * room.seen[k] * width
        m = pair(past, oldest)
        for q in range(1, order - 1):
            m = pair(past, oldest + 2 * q * width) * (one + m)
        z = w * m
        x = plus(w + z if cell.kb else w, get(rows, A, row), x)
        store(X, at + 2 * width, x)
        store(cell.seen, at, x if cell.kb else x + z)
        if room.seen[k + 1] > room.seen[k]:
            p, _ = to_disc(w)
            store(past, oldest + 2 * (order - 1) * width, p)
    store(state, 2 * n * width, x)
    _store_past(cell, past, state, n, room.seen[count])


@retreat_chunk.of(Correlation)
@routine
def _(cell: Any, room: Any, carry: Any, n: int, base: int, way: int, count: int) -> None:
    rows, past, g_past, M, order = cell.block.rows, cell.past, cell.g_past, cell.M, cell.order
    width, h = width_of(M), pair(carry, 2 * n * width_of(M))
    one, held = constant(h, "one"), no_sums(h)
    # Arrives with the gradients of the bounded inputs that the next chunk finds in front.
    clear(g_past, 2 * (order - 1 + CHUNK))
    _load_past(cell, g_past, carry, n, room.seen[count])
    for k in range(count - 1, -1, -1):
        at, row, uk = 2 * k * width, base + 2 * room.which[k] * width, load(room.u, k * width)
        b, oldest = get(rows, B, row), 2 * room.seen[k] * width
        w = b * uk
        # The factors 1 + p (1 + ...) of the inputs from the oldest on, which has 1.
        m = nothing(h)
        for q in range(order - 1):
            store(M, 2 * q * width, one + m)
            m = pair(past, oldest + 2 * q * width) * (one + m)
        g = pair(cell.G, at)
        h = h + g
        if cell.kb:
            g = h
        # Of w in w m, and of m.
        gw, gm = conj(m) * g, conj(w) * g
        for q in range(order - 2, -1, -1):
            to = oldest + 2 * q * width
            store(g_past, to, plus(pair(g_past, to), conj(pair(M, 2 * q * width)), gm))
            gm = conj(pair(past, to)) * gm
        gw = gw + h
        if room.seen[k + 1] > room.seen[k]:
            # All samples that look back on this one have added their part.
            p, factor = to_disc(w)
            gw = gw + to_disc_adjoint(p, factor, pair(g_past, oldest + 2 * (order - 1) * width))
        ga = conj(pair(cell.X, at)) * h
        held = add_to_sums(held, way, rows, row, room.delta[k], ga, uk * gw)
        store(room.gu, k * width, load(room.gu, k * width) + real(conj(b) * gw))
        h = conj(get(rows, A, row)) * h
    close_sums(held, way, cell.block, n, base)
    store(carry, 2 * n * width, h)
    _store_past(cell, g_past, carry, n, 0)
