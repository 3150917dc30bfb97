"""A chunk of samples with a gap each, sample after sample, with the states in the first-level cache.

At every sample the coefficients of all modes are computed anew, the coupling is closed (``feedback``), and
the states are corrected for it. The adjoint goes backwards in the same manner for the gradients of the
states, which need no states; it leaves what the gradients of the system need, which are collected mode by
mode with the states in registers: the resolvents ``work.G`` and the gradients ``work.F`` = g^* h of the
forcing, (N, ROW, 2, W).
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.dplr.feedback import Inverse, close, close_adjoint, invert
from tsssm.ops.cpu.dplr.regular import add_first, at_sample, collect_others, forcing, readout
from tsssm.ops.cpu.dplr.system import FIRST, INPUT, LAMBDA, add_real, resolvent, term
from tsssm.ops.cpu.simd import conj, load, nothing, pair, plus, plus_real, real, splat, store, width_of

# One sample more than a chunk has: at a distance of a power of two, the entries of all modes for one sample
# would compete for the same few places of the cache.
ROW = CHUNK + 1


@inline
def _resolvent(cell: Any, n: int, delta: Any, k: int) -> Any:
    gap, weighted = splat(delta[k], cell.C), splat(cell.alpha * delta[k], cell.C)
    return resolvent(term(cell.system, n, LAMBDA), gap, weighted)


@routine
def advance(cell: Any, state: Any, delta: Any, u: Any, y: Any, count: int) -> None:
    """Renews the states and adds the readouts to ``y``; leaves v and the inverses behind.

    ``work.w`` is the coupling before the chunk; ``work.drive`` (N, R, 2, W) is room for g P of a sample.
    """
    system, work, width = cell.system, cell.work, width_of(u)
    rank, drive = system.rank, work.drive
    zero = splat(0.0, u)
    for k in range(count):
        uk = load(u, k * width)
        for i in range(rank * rank):
            store(work.M, i * width, zero)
        for r in range(1, rank):
            store(work.q, (r * CHUNK + k) * width, zero)
        # Sums of the first of the rank, which is often the only one, stay in registers.
        q_0, m_0 = zero, zero
        for n in range(system.modes):
            x, g = pair(state, 2 * n * width), _resolvent(cell, n, delta, k)
            x = plus(x, g, plus(term(system, n, INPUT) * uk, term(system, n, LAMBDA), x))
            store(state, 2 * n * width, x)
            p, q = g * term(system, n, FIRST), conj(term(system, n, FIRST + rank))
            store(drive, 2 * n * rank * width, p)
            m_0, q_0 = plus_real(m_0, q, p), plus_real(q_0, q, x)
            if rank > 1:
                _couple_others(cell, n, k, g, x)
        store(work.M, 0, m_0)
        store(work.q, k * width, q_0)
        inverse = Inverse(work.inverses, k, CHUNK)
        invert(work.M, cell.alpha, rank, inverse)
        close(work, k, work.M, inverse, cell.alpha, rank)
        v_0, y_0 = load(work.v, k * width), load(y, k * width)
        for n in range(system.modes):
            x = pair(state, 2 * n * width) - pair(drive, 2 * n * rank * width) * v_0
            for r in range(1, rank):
                x = x - pair(drive, 2 * (n * rank + r) * width) * at_sample(work.v, r, k)
            store(state, 2 * n * width, x)
            y_0 = plus_real(y_0, readout(cell, 0, n), x)
            for m in range(1, cell.readouts):
                add_real(y, m * CHUNK + k, readout(cell, m, n), x)
        store(y, k * width, y_0)


@inline
def _couple_others(cell: Any, n: int, k: int, g: Any, x: Any) -> None:
    """What mode n adds to M and q, but for their first entries; and its g P, but for the first."""
    system, work, width = cell.system, cell.work, width_of(cell.C)
    rank = system.rank
    for c in range(rank):
        p = g * term(system, n, FIRST + c)
        store(work.drive, 2 * (n * rank + c) * width, p)
        for r in range(0 if c > 0 else 1, rank):
            add_real(work.M, r * rank + c, conj(term(system, n, FIRST + rank + r)), p)
    for r in range(1, rank):
        add_real(work.q, r * CHUNK + k, conj(term(system, n, FIRST + rank + r)), x)


@routine
def advance_adjoint(cell: Any, carry: Any, delta: Any, gy: Any, gu: Any, count: int) -> None:
    """Adjoint of `advance`: renews ``carry`` and ``work.gv``, adds to ``gu``, leaves ``gw``, ``G``, ``F``."""
    system, work, width = cell.system, cell.work, width_of(gy)
    rank, t, gv = system.rank, work.t, work.gv
    after, before = splat(cell.alpha, gv), splat(1.0 - cell.alpha, gv)
    for k in range(count - 1, -1, -1):
        for r in range(1, rank):
            store(t, (r * CHUNK + k) * width, splat(0.0, t))
        t_0, gy_0, gw_0 = splat(0.0, t), load(gy, k * width), before * load(gv, 0)
        for n in range(system.modes):
            g, to = _resolvent(cell, n, delta, k), 2 * (n * ROW + k) * width
            h = plus(pair(carry, 2 * n * width), gy_0, conj(readout(cell, 0, n)))
            h = plus(h, gw_0, term(system, n, FIRST + rank))
            for m in range(1, cell.readouts):
                h = plus(h, at_sample(gy, m, k), conj(readout(cell, m, n)))
            for r in range(1, rank):
                h = plus(h, before * load(gv, r * width), term(system, n, FIRST + rank + r))
            store(work.G, to, g)
            store(carry, 2 * n * width, h)
            f = conj(g) * h
            t_0 = t_0 + real(conj(term(system, n, FIRST)) * f)
            for r in range(1, rank):
                add_real(t, r * CHUNK + k, conj(term(system, n, FIRST + r)), f)
        store(t, k * width, t_0)
        close_adjoint(work, k, Inverse(work.inverses, k, CHUNK), cell.alpha, rank)
        gu_k, gw_0 = load(gu, k * width), after * load(gv, 0)
        for n in range(system.modes):
            to = 2 * (n * ROW + k) * width
            h = plus(pair(carry, 2 * n * width), gw_0, term(system, n, FIRST + rank))
            for r in range(1, rank):
                h = plus(h, after * load(gv, r * width), term(system, n, FIRST + rank + r))
            f = conj(pair(work.G, to)) * h
            store(work.F, to, f)
            gu_k = plus_real(gu_k, conj(term(system, n, INPUT)), f)
            store(carry, 2 * n * width, plus(h, conj(term(system, n, LAMBDA)), f))
        store(gu, k * width, gu_k)


@routine
def collect(cell: Any, before: Any, n: int, u: Any, gy: Any, count: int) -> None:
    """`regular.collect` for a mode on an irregular grid.

    A step forces the state by g (Lambda x + B u - P v), and the derivative of g by Lambda is alpha g^2: both
    together make Lambda act on the state alpha of the way through the step.
    """
    system, work, width = cell.system, cell.work, width_of(u)
    eigenvalue, b, p = term(system, n, LAMBDA), term(system, n, INPUT), term(system, n, FIRST)
    x, weight = pair(before, 2 * n * width), splat(cell.alpha, u)
    gl, gb, gp, gq, gc = nothing(x), nothing(x), nothing(x), nothing(x), nothing(x)
    first, others = 2 * n * ROW * width, system.rank > 1 or cell.readouts > 1
    for k in range(count):
        f, g = pair(work.F, first + 2 * k * width), pair(work.G, first + 2 * k * width)
        gb = plus(gb, load(u, k * width), f)
        gp = gp - f * load(work.v, k * width)
        step = g * plus(forcing(cell, system, n, u, k, b, p), eigenvalue, x)
        gl = plus(gl, conj(plus(x, weight, step)), f)
        x = x + step
        gq, gc = plus(gq, load(work.gw, k * width), x), plus(gc, load(gy, k * width), conj(x))
        if others:
            store(work.X, 2 * k * width, x)
    add_first(cell, n, gl, gb, gp, gq, gc)
    if others:
        collect_others(cell, n, work.F, first, gy, count)
