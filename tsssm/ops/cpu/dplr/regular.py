"""A chunk of samples on a regular grid, mode after mode, with the states in registers.

The modes run twice over a chunk: once without the coupling, to find out what they would read, and, when
``feedback`` has turned that into the coupling v, once with it. v is kept for the adjoint, where the states
are therefore an ordinary recurrence with known inputs. The adjoint has the same two sweeps backwards.

Coefficients are those of `system.discretise`. Modes go in pairs, since each waits for its own last product.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK, clear
from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.dplr.system import FIRST, INPUT, LAMBDA, add_real, add_term, term, two
from tsssm.ops.cpu.simd import conj, load, nothing, pair, pairs, plus, store, stores, width_of


@inline
def readout(cell: Any, m: int, n: int) -> Any:
    """Readout ``m`` of mode ``n``."""
    return pair(cell.C, 2 * (m * cell.system.modes + n) * width_of(cell.C))


@inline
def two_readouts(cell: Any, m: int, n: int) -> Any:
    """Readout ``m`` of modes ``n`` and ``n`` + 1."""
    width = width_of(cell.C)
    return pairs(cell.C, 2 * (m * cell.system.modes + n) * width, 2 * width, 2)


@inline
def at_sample(buffer: Any, row: int, k: int) -> Any:
    """What one of the rows of a buffer (rows, CHUNK, W) holds of sample ``k``."""
    return load(buffer, (row * CHUNK + k) * width_of(buffer))


@routine
def run_open(cell: Any, state: Any, u: Any, count: int) -> None:
    """q = Re(Q^* x) of a chunk in which the modes do not feel each other."""
    fixed, rank, q, width = cell.fixed, cell.fixed.rank, cell.work.q, width_of(u)
    clear(q, rank * CHUNK)
    for n in range(0, fixed.modes, 2):
        e, b, s = two(fixed, n, LAMBDA), two(fixed, n, INPUT), conj(two(fixed, n, FIRST + rank))
        x = pairs(state, 2 * n * width, 2 * width, 2)
        for k in range(count):
            x = plus(b * load(u, k * width), e, x)
            add_real(q, k, s, x)
            for r in range(1, rank):
                add_real(q, r * CHUNK + k, conj(two(fixed, n, FIRST + rank + r)), x)


@routine
def run_closed(cell: Any, state: Any, u: Any, y: Any, count: int) -> None:
    """The chunk with the coupling v: renews the states and adds the readouts to ``y``."""
    fixed, v, width = cell.fixed, cell.work.v, width_of(u)
    for n in range(0, fixed.modes, 2):
        e, b, p = two(fixed, n, LAMBDA), two(fixed, n, INPUT), two(fixed, n, FIRST)
        x, c = pairs(state, 2 * n * width, 2 * width, 2), two_readouts(cell, 0, n)
        for k in range(count):
            driven = b * load(u, k * width) - p * load(v, k * width)
            for r in range(1, fixed.rank):
                driven = driven - two(fixed, n, FIRST + r) * at_sample(v, r, k)
            x = plus(driven, e, x)
            add_real(y, k, c, x)
            for m in range(1, cell.readouts):
                add_real(y, m * CHUNK + k, two_readouts(cell, m, n), x)
        stores(state, 2 * n * width, x, 2 * width)


@routine
def run_open_adjoint(cell: Any, carry: Any, gy: Any, count: int) -> None:
    """t = Re((g P)^* h) of a chunk whose gradients h of the states do not feel the coupling.

    ``carry`` is what samples after the chunk send back to its last state.
    """
    fixed, t, width = cell.fixed, cell.work.t, width_of(gy)
    clear(t, fixed.rank * CHUNK)
    for n in range(0, fixed.modes, 2):
        e, p, c = conj(two(fixed, n, LAMBDA)), conj(two(fixed, n, FIRST)), conj(two_readouts(cell, 0, n))
        h = pairs(carry, 2 * n * width, 2 * width, 2)
        for k in range(count - 1, -1, -1):
            h = plus(h, load(gy, k * width), c)
            for m in range(1, cell.readouts):
                h = plus(h, at_sample(gy, m, k), conj(two_readouts(cell, m, n)))
            add_real(t, k, p, h)
            for r in range(1, fixed.rank):
                add_real(t, r * CHUNK + k, conj(two(fixed, n, FIRST + r)), h)
            h = e * h


@routine
def run_closed_adjoint(cell: Any, carry: Any, n: int, gy: Any, gu: Any, count: int) -> None:
    """Gradients h of the states of mode n, with the coupling, into ``work.G``; adds to ``gu``."""
    fixed, rank, work, width = cell.fixed, cell.fixed.rank, cell.work, width_of(gy)
    e, b, q = conj(term(fixed, n, LAMBDA)), conj(term(fixed, n, INPUT)), term(fixed, n, FIRST + rank)
    h, c = pair(carry, 2 * n * width), conj(readout(cell, 0, n))
    for k in range(count - 1, -1, -1):
        s = plus(c * load(gy, k * width), load(work.gw, k * width), q)
        for m in range(1, cell.readouts):
            s = plus(s, at_sample(gy, m, k), conj(readout(cell, m, n)))
        for r in range(1, rank):
            s = plus(s, at_sample(work.gw, r, k), term(fixed, n, FIRST + rank + r))
        h = s + h
        store(work.G, 2 * k * width, h)
        add_real(gu, k, b, h)
        h = e * h
    store(carry, 2 * n * width, h)


@inline
def forcing(cell: Any, system: Any, n: int, u: Any, k: int, b: Any, p: Any) -> Any:
    """What drives mode n at sample k: B u - P v, given B and the first P."""
    v = cell.work.v
    driven = b * load(u, k * width_of(u)) - p * load(v, k * width_of(u))
    for r in range(1, system.rank):
        driven = driven - term(system, n, FIRST + r) * at_sample(v, r, k)
    return driven


@routine
def collect(cell: Any, before: Any, n: int, u: Any, gy: Any, count: int) -> None:
    """Gradients of the coefficients and readouts of mode n, whose h are in ``work.G``.

    Its states are computed again from that ``before`` the chunk, and left in ``work.X`` (CHUNK, 2, W).
    """
    fixed, rank, work, width = cell.fixed, cell.fixed.rank, cell.work, width_of(u)
    e, b, p = term(fixed, n, LAMBDA), term(fixed, n, INPUT), term(fixed, n, FIRST)
    x = pair(before, 2 * n * width)
    ge, gb, gp, gq, gc = nothing(x), nothing(x), nothing(x), nothing(x), nothing(x)
    others = rank > 1 or cell.readouts > 1
    for k in range(count):
        h = pair(work.G, 2 * k * width)
        ge = plus(ge, conj(x), h)
        gb = plus(gb, load(u, k * width), h)
        gp = gp - h * load(work.v, k * width)
        x = plus(forcing(cell, fixed, n, u, k, b, p), e, x)
        gq, gc = plus(gq, load(work.gw, k * width), x), plus(gc, load(gy, k * width), conj(x))
        if others:
            store(work.X, 2 * k * width, x)
    add_first(cell, n, ge, gb, gp, gq, gc)
    if others:
        collect_others(cell, n, work.G, 0, gy, count)


@inline
def add_first(cell: Any, n: int, g_lambda: Any, gb: Any, gp: Any, gq: Any, gc: Any) -> None:
    """Add to the gradients of Lambda or E, of B, and of the first P, Q and C of mode n."""
    gradient, at = cell.gradient, 2 * n * width_of(cell.gC)
    add_term(gradient, n, LAMBDA, g_lambda)
    add_term(gradient, n, INPUT, gb)
    add_term(gradient, n, FIRST, gp)
    add_term(gradient, n, FIRST + gradient.rank, gq)
    store(cell.gC, at, pair(cell.gC, at) + gc)


@inline
def collect_others(cell: Any, n: int, G: Any, first: int, gy: Any, count: int) -> None:
    """Gradients of the other P, of which -v was the input, and of the other Q and C, which read ``work.X``.

    Those of the inputs stand in ``G`` from ``first`` on.
    """
    gradient, work, width = cell.gradient, cell.work, width_of(gy)
    for r in range(1, gradient.rank):
        for k in range(count):
            h, x = pair(G, first + 2 * k * width), pair(work.X, 2 * k * width)
            add_term(gradient, n, FIRST + r, -(h * at_sample(work.v, r, k)))
            add_term(gradient, n, FIRST + gradient.rank + r, x * at_sample(work.gw, r, k))
    for m in range(1, cell.readouts):
        to = 2 * (m * gradient.modes + n) * width
        total = pair(cell.gC, to)
        for k in range(count):
            total = plus(total, at_sample(gy, m, k), conj(pair(work.X, 2 * k * width)))
        store(cell.gC, to, total)
