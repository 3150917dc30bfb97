"""A chunk of samples with a gap each, sample after sample, with the states in the first-level cache.

At every sample the coefficients of all modes are computed anew, the coupling is closed (``feedback``), and
the states are corrected for it. The adjoint goes backwards in the same manner for the gradients of the
states, which need no states; it leaves what the gradients of the system need, which are collected mode by
mode with the states in registers.

Buffers are those of ``regular``, and the resolvents ``G`` and the gradients ``F`` = g^* h of the forcing,
(N, ROW, 2, W).
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.dplr.feedback import CHUNK, close, close_adjoint, invert
from tsssm.ops.cpu.dplr.regular import collect_others
from tsssm.ops.cpu.dplr.system import conj_times, pair, put_pair, resolvent, times
from tsssm.ops.cpu.simd import load, splat, store

# One sample more than a chunk has: at a distance of a power of two, the entries of all modes for one sample
# would compete for the same few places of the cache.
ROW = CHUNK + 1


@routine
def advance(
    system: Any,
    readout: Any,
    state: Any,
    gaps: Any,
    alpha: float,
    u: Any,
    w: Any,
    q: Any,
    M: Any,
    drive: Any,
    v: Any,
    inverses: Any,
    y: Any,
    count: int,
    width: int,
) -> None:
    """Renews the states and adds the readouts to ``y``; leaves v and the inverses (R, R, CHUNK, W) behind.

    ``w`` is the coupling before the chunk; ``drive`` (N, R, 2, W) is a buffer for g P of a sample.
    """
    modes, fields = drive.shape[0], system.shape[1]
    rank, readouts, padded = fields // 2 - 1, readout.shape[0], readout.shape[1]
    for k in range(count):
        gap, weighted = splat(gaps[k], system), splat(alpha * gaps[k], system)
        uk = load(u, k * width)
        M[:] = 0
        for r in range(1, rank):
            store(q, (r * CHUNK + k) * width, splat(0.0, q))
        # Sums of the first of the rank, which is often the only one, stay in registers.
        q_0, m_0 = splat(0.0, q), splat(0.0, q)
        for n in range(modes):
            at = 2 * n * fields * width
            lr, li = pair(system, at, width)
            br, bi = pair(system, at + 2 * width, width)
            xr, xi = pair(state, 2 * n * width, width)
            gr, gi = resolvent(lr, li, gap, weighted)
            ir, ii = br * uk + lr * xr - li * xi, bi * uk + lr * xi + li * xr
            xr, xi = xr + gr * ir - gi * ii, xi + gr * ii + gi * ir
            put_pair(state, 2 * n * width, width, xr, xi)
            pr, pi = pair(system, at + 4 * width, width)
            pr, pi = times(gr, gi, pr, pi)
            put_pair(drive, 2 * n * rank * width, width, pr, pi)
            sr, si = pair(system, at + (4 + 2 * rank) * width, width)
            m_0 = m_0 + (sr * pr + si * pi)
            q_0 = q_0 + (sr * xr + si * xi)
            if rank > 1:
                _couple_others(system, drive, n, k, gr, gi, xr, xi, M, q, width)
        store(M, 0, m_0)
        store(q, k * width, q_0)
        invert(M, alpha, rank, inverses, k * width, CHUNK * width, width)
        close(q, k, w, M, inverses, k * width, CHUNK * width, alpha, rank, v, width)
        v_0, y_0 = load(v, k * width), load(y, k * width)
        for n in range(modes):
            xr, xi = pair(state, 2 * n * width, width)
            pr, pi = pair(drive, 2 * n * rank * width, width)
            xr, xi = xr - pr * v_0, xi - pi * v_0
            for r in range(1, rank):
                vk = load(v, (r * CHUNK + k) * width)
                pr, pi = pair(drive, 2 * (n * rank + r) * width, width)
                xr, xi = xr - pr * vk, xi - pi * vk
            put_pair(state, 2 * n * width, width, xr, xi)
            cr, ci = pair(readout, 2 * n * width, width)
            y_0 = y_0 + (cr * xr - ci * xi)
            for m in range(1, readouts):
                cr, ci = pair(readout, 2 * (m * padded + n) * width, width)
                to = (m * CHUNK + k) * width
                store(y, to, load(y, to) + (cr * xr - ci * xi))
        store(y, k * width, y_0)


@inline
def _couple_others(
    system: Any,
    drive: Any,
    n: int,
    k: int,
    gr: Any,
    gi: Any,
    xr: Any,
    xi: Any,
    M: Any,
    q: Any,
    width: int,
) -> None:
    """What mode n adds to M and q, but for their first entries; and its g P, but for the first."""
    fields, rank = system.shape[1], drive.shape[1]
    to_p = (2 * n * fields + 4) * width
    to_q = to_p + 2 * rank * width
    for c in range(rank):
        pr, pi = pair(system, to_p + 2 * c * width, width)
        pr, pi = times(gr, gi, pr, pi)
        put_pair(drive, 2 * (n * rank + c) * width, width, pr, pi)
        for r in range(0 if c > 0 else 1, rank):
            qr, qi = pair(system, to_q + 2 * r * width, width)
            to = (r * rank + c) * width
            store(M, to, load(M, to) + (qr * pr + qi * pi))
    for r in range(1, rank):
        qr, qi = pair(system, to_q + 2 * r * width, width)
        to = (r * CHUNK + k) * width
        store(q, to, load(q, to) + (qr * xr + qi * xi))


@routine
def advance_adjoint(
    system: Any,
    readout: Any,
    carry: Any,
    gaps: Any,
    alpha: float,
    gy: Any,
    gv: Any,
    t: Any,
    inverses: Any,
    gw: Any,
    gu: Any,
    G: Any,
    F: Any,
    count: int,
    width: int,
) -> None:
    """Adjoint of `advance`: renews ``carry`` and ``gv``, adds to ``gu``, leaves ``gw``, ``G`` and ``F``."""
    modes, fields = F.shape[0], system.shape[1]
    rank, readouts, padded = fields // 2 - 1, readout.shape[0], readout.shape[1]
    after, before = splat(alpha, gv), splat(1.0 - alpha, gv)
    for k in range(count - 1, -1, -1):
        gap, weighted = splat(gaps[k], system), splat(alpha * gaps[k], system)
        for r in range(1, rank):
            store(t, (r * CHUNK + k) * width, splat(0.0, t))
        t_0, gy_0, gw_0 = splat(0.0, t), load(gy, k * width), before * load(gv, 0)
        for n in range(modes):
            at = 2 * n * fields * width
            lr, li = pair(system, at, width)
            gr, gi = resolvent(lr, li, gap, weighted)
            hr, hi = pair(carry, 2 * n * width, width)
            cr, ci = pair(readout, 2 * n * width, width)
            qr, qi = pair(system, at + (4 + 2 * rank) * width, width)
            hr, hi = hr + gy_0 * cr + gw_0 * qr, hi - gy_0 * ci + gw_0 * qi
            for m in range(1, readouts):
                g = load(gy, (m * CHUNK + k) * width)
                cr, ci = pair(readout, 2 * (m * padded + n) * width, width)
                hr, hi = hr + g * cr, hi - g * ci
            for r in range(1, rank):
                g = before * load(gv, r * width)
                qr, qi = pair(system, at + (4 + 2 * rank + 2 * r) * width, width)
                hr, hi = hr + g * qr, hi + g * qi
            put_pair(G, 2 * (n * ROW + k) * width, width, gr, gi)
            put_pair(carry, 2 * n * width, width, hr, hi)
            fr, fi = conj_times(gr, gi, hr, hi)
            pr, pi = pair(system, at + 4 * width, width)
            t_0 = t_0 + (pr * fr + pi * fi)
            for r in range(1, rank):
                pr, pi = pair(system, at + (4 + 2 * r) * width, width)
                to = (r * CHUNK + k) * width
                store(t, to, load(t, to) + (pr * fr + pi * fi))
        store(t, k * width, t_0)
        close_adjoint(t, k, gv, inverses, k * width, CHUNK * width, alpha, rank, gw, width)
        gu_k, gw_0 = load(gu, k * width), after * load(gv, 0)
        for n in range(modes):
            at = 2 * n * fields * width
            hr, hi = pair(carry, 2 * n * width, width)
            qr, qi = pair(system, at + (4 + 2 * rank) * width, width)
            hr, hi = hr + gw_0 * qr, hi + gw_0 * qi
            for r in range(1, rank):
                g = after * load(gv, r * width)
                qr, qi = pair(system, at + (4 + 2 * rank + 2 * r) * width, width)
                hr, hi = hr + g * qr, hi + g * qi
            gr, gi = pair(G, 2 * (n * ROW + k) * width, width)
            fr, fi = conj_times(gr, gi, hr, hi)
            put_pair(F, 2 * (n * ROW + k) * width, width, fr, fi)
            br, bi = pair(system, at + 2 * width, width)
            gu_k = gu_k + (br * fr + bi * fi)
            lr, li = pair(system, at, width)
            dr, di = conj_times(lr, li, fr, fi)
            put_pair(carry, 2 * n * width, width, hr + dr, hi + di)
        store(gu, k * width, gu_k)


@routine
def collect(
    system: Any,
    gradient: Any,
    state: Any,
    origin: int,
    n: int,
    alpha: float,
    u: Any,
    v: Any,
    gw: Any,
    gy: Any,
    G: Any,
    F: Any,
    X: Any,
    g_readout: Any,
    count: int,
    width: int,
) -> None:
    """`regular.collect` for a mode with resolvents ``G`` and gradients ``F`` of the forcing, (ROW, 2, W).

    A step forces the state by g (Lambda x + B u - P v), and the derivative of g by Lambda is alpha g^2: both
    together make Lambda act on the state alpha of the way through the step.
    """
    fields = system.shape[1]
    rank = fields // 2 - 1
    at = 2 * n * fields * width
    lr, li = pair(system, at, width)
    br, bi = pair(system, at + 2 * width, width)
    pr, pi = pair(system, at + 4 * width, width)
    xr, xi = pair(state, origin, width)
    glr, gli = pair(gradient, at, width)
    gbr, gbi = pair(gradient, at + 2 * width, width)
    gpr, gpi = pair(gradient, at + 4 * width, width)
    gqr, gqi = pair(gradient, at + (4 + 2 * rank) * width, width)
    gcr, gci = pair(g_readout, 2 * n * width, width)
    weight = splat(alpha, gradient)
    others = rank > 1 or g_readout.shape[0] > 1
    for k in range(count):
        fr, fi = pair(F, 2 * k * width, width)
        gr, gi = pair(G, 2 * k * width, width)
        uk, vk = load(u, k * width), load(v, k * width)
        gbr, gbi = gbr + uk * fr, gbi + uk * fi
        gpr, gpi = gpr - vk * fr, gpi - vk * fi
        ir, ii = br * uk - pr * vk, bi * uk - pi * vk
        for r in range(1, rank):
            vk = load(v, (r * CHUNK + k) * width)
            ar, ai = pair(system, at + (4 + 2 * r) * width, width)
            ir, ii = ir - ar * vk, ii - ai * vk
        dr, di = times(gr, gi, ir + lr * xr - li * xi, ii + lr * xi + li * xr)
        sr, si = xr + weight * dr, xi + weight * di
        glr, gli = glr + sr * fr + si * fi, gli + sr * fi - si * fr
        xr, xi = xr + dr, xi + di
        g, c = load(gy, k * width), load(gw, k * width)
        gqr, gqi = gqr + c * xr, gqi + c * xi
        gcr, gci = gcr + g * xr, gci - g * xi
        if others:
            put_pair(X, 2 * k * width, width, xr, xi)
    put_pair(gradient, at, width, glr, gli)
    put_pair(gradient, at + 2 * width, width, gbr, gbi)
    put_pair(gradient, at + 4 * width, width, gpr, gpi)
    put_pair(gradient, at + (4 + 2 * rank) * width, width, gqr, gqi)
    put_pair(g_readout, 2 * n * width, width, gcr, gci)
    if others:
        collect_others(gradient, n, v, gw, gy, F, X, g_readout, count, width)
