"""A chunk of samples on a regular grid, mode after mode, with the states in registers.

The modes run twice over a chunk: once without the coupling, to find out what they would read, and, when
``feedback`` has turned that into the coupling v, once with it. v is kept for the adjoint, where the states
are therefore an ordinary recurrence with known inputs. The adjoint has the same two sweeps backwards.

Coefficients are those of `system.discretise`. Buffers of a chunk hold W numbers a sample: ``u`` and ``gu``
(CHUNK, W); ``y`` and ``gy`` (M, CHUNK, W); ``q``, ``v``, ``t`` and ``gw`` (R, CHUNK, W).
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.dplr.feedback import CHUNK
from tsssm.ops.cpu.dplr.system import conj_times, pair, put_pair
from tsssm.ops.cpu.simd import load, store


@routine
def run_open(coefficients: Any, state: Any, u: Any, q: Any, count: int, width: int) -> None:
    """q = Re(Q^* x) of a chunk in which the modes do not feel each other. Modes go in pairs."""
    modes, fields = coefficients.shape[0], coefficients.shape[1]
    rank = fields // 2 - 1
    q[:] = 0
    for n in range(0, modes, 2):
        at = 2 * n * fields * width
        to = at + 2 * fields * width
        er, ei = pair(coefficients, at, width)
        br, bi = pair(coefficients, at + 2 * width, width)
        qr, qi = pair(coefficients, at + (4 + 2 * rank) * width, width)
        xr, xi = pair(state, 2 * n * width, width)
        fr, fi = pair(coefficients, to, width)
        cr, ci = pair(coefficients, to + 2 * width, width)
        pr, pi = pair(coefficients, to + (4 + 2 * rank) * width, width)
        zr, zi = pair(state, 2 * (n + 1) * width, width)
        for k in range(count):
            uk = load(u, k * width)
            xr, xi = br * uk + er * xr - ei * xi, bi * uk + er * xi + ei * xr
            zr, zi = cr * uk + fr * zr - fi * zi, ci * uk + fr * zi + fi * zr
            store(q, k * width, load(q, k * width) + (qr * xr + qi * xi) + (pr * zr + pi * zi))
            for r in range(1, rank):
                sr, si = pair(coefficients, at + (4 + 2 * rank + 2 * r) * width, width)
                tr, ti = pair(coefficients, to + (4 + 2 * rank + 2 * r) * width, width)
                where = (r * CHUNK + k) * width
                store(q, where, load(q, where) + (sr * xr + si * xi) + (tr * zr + ti * zi))


@routine
def run_closed(
    coefficients: Any, readout: Any, state: Any, u: Any, v: Any, y: Any, count: int, width: int
) -> None:
    """The chunk with the coupling v: renews the states and adds the readouts to ``y``."""
    modes, fields = coefficients.shape[0], coefficients.shape[1]
    rank, readouts = fields // 2 - 1, readout.shape[0]
    for n in range(0, modes, 2):
        at = 2 * n * fields * width
        to = at + 2 * fields * width
        er, ei = pair(coefficients, at, width)
        br, bi = pair(coefficients, at + 2 * width, width)
        pr, pi = pair(coefficients, at + 4 * width, width)
        cr, ci = pair(readout, 2 * n * width, width)
        xr, xi = pair(state, 2 * n * width, width)
        fr, fi = pair(coefficients, to, width)
        dr, di = pair(coefficients, to + 2 * width, width)
        qr, qi = pair(coefficients, to + 4 * width, width)
        sr, si = pair(readout, 2 * (n + 1) * width, width)
        zr, zi = pair(state, 2 * (n + 1) * width, width)
        for k in range(count):
            uk, vk = load(u, k * width), load(v, k * width)
            ir, ii = br * uk - pr * vk, bi * uk - pi * vk
            jr, ji = dr * uk - qr * vk, di * uk - qi * vk
            for r in range(1, rank):
                vk = load(v, (r * CHUNK + k) * width)
                ar, ai = pair(coefficients, at + (4 + 2 * r) * width, width)
                ir, ii = ir - ar * vk, ii - ai * vk
                ar, ai = pair(coefficients, to + (4 + 2 * r) * width, width)
                jr, ji = jr - ar * vk, ji - ai * vk
            xr, xi = ir + er * xr - ei * xi, ii + er * xi + ei * xr
            zr, zi = jr + fr * zr - fi * zi, ji + fr * zi + fi * zr
            store(y, k * width, load(y, k * width) + (cr * xr - ci * xi) + (sr * zr - si * zi))
            for m in range(1, readouts):
                ar, ai = pair(readout, 2 * (m * modes + n) * width, width)
                gr, gi = pair(readout, 2 * (m * modes + n + 1) * width, width)
                where = (m * CHUNK + k) * width
                store(y, where, load(y, where) + (ar * xr - ai * xi) + (gr * zr - gi * zi))
        put_pair(state, 2 * n * width, width, xr, xi)
        put_pair(state, 2 * (n + 1) * width, width, zr, zi)


@routine
def run_open_adjoint(
    coefficients: Any, readout: Any, carry: Any, gy: Any, t: Any, count: int, width: int
) -> None:
    """t = Re((g P)^* h) of a chunk whose gradients h of the states do not feel the coupling.

    ``carry`` is what samples after the chunk send back to its last state.
    """
    modes, fields = coefficients.shape[0], coefficients.shape[1]
    rank, readouts = fields // 2 - 1, readout.shape[0]
    t[:] = 0
    for n in range(0, modes, 2):
        at = 2 * n * fields * width
        to = at + 2 * fields * width
        er, ei = pair(coefficients, at, width)
        pr, pi = pair(coefficients, at + 4 * width, width)
        cr, ci = pair(readout, 2 * n * width, width)
        hr, hi = pair(carry, 2 * n * width, width)
        fr, fi = pair(coefficients, to, width)
        qr, qi = pair(coefficients, to + 4 * width, width)
        sr, si = pair(readout, 2 * (n + 1) * width, width)
        zr, zi = pair(carry, 2 * (n + 1) * width, width)
        for k in range(count - 1, -1, -1):
            g = load(gy, k * width)
            hr, hi = hr + g * cr, hi - g * ci
            zr, zi = zr + g * sr, zi - g * si
            for m in range(1, readouts):
                g = load(gy, (m * CHUNK + k) * width)
                ar, ai = pair(readout, 2 * (m * modes + n) * width, width)
                hr, hi = hr + g * ar, hi - g * ai
                ar, ai = pair(readout, 2 * (m * modes + n + 1) * width, width)
                zr, zi = zr + g * ar, zi - g * ai
            store(t, k * width, load(t, k * width) + (pr * hr + pi * hi) + (qr * zr + qi * zi))
            for r in range(1, rank):
                ar, ai = pair(coefficients, at + (4 + 2 * r) * width, width)
                br, bi = pair(coefficients, to + (4 + 2 * r) * width, width)
                where = (r * CHUNK + k) * width
                store(t, where, load(t, where) + (ar * hr + ai * hi) + (br * zr + bi * zi))
            hr, hi = conj_times(er, ei, hr, hi)
            zr, zi = conj_times(fr, fi, zr, zi)


@routine
def run_closed_adjoint(
    coefficients: Any,
    readout: Any,
    carry: Any,
    n: int,
    gy: Any,
    gw: Any,
    gu: Any,
    G: Any,
    count: int,
    width: int,
) -> None:
    """Gradients h of the states of mode n, with the coupling, into ``G`` (CHUNK, 2, W); adds to ``gu``."""
    modes, fields = coefficients.shape[0], coefficients.shape[1]
    rank, readouts = fields // 2 - 1, readout.shape[0]
    at = 2 * n * fields * width
    er, ei = pair(coefficients, at, width)
    br, bi = pair(coefficients, at + 2 * width, width)
    qr, qi = pair(coefficients, at + (4 + 2 * rank) * width, width)
    cr, ci = pair(readout, 2 * n * width, width)
    hr, hi = pair(carry, 2 * n * width, width)
    for k in range(count - 1, -1, -1):
        g, c = load(gy, k * width), load(gw, k * width)
        sr, si = g * cr + c * qr, c * qi - g * ci
        for m in range(1, readouts):
            g = load(gy, (m * CHUNK + k) * width)
            ar, ai = pair(readout, 2 * (m * modes + n) * width, width)
            sr, si = sr + g * ar, si - g * ai
        for r in range(1, rank):
            c = load(gw, (r * CHUNK + k) * width)
            ar, ai = pair(coefficients, at + (4 + 2 * rank + 2 * r) * width, width)
            sr, si = sr + c * ar, si + c * ai
        hr, hi = sr + hr, si + hi
        put_pair(G, 2 * k * width, width, hr, hi)
        store(gu, k * width, load(gu, k * width) + (br * hr + bi * hi))
        hr, hi = conj_times(er, ei, hr, hi)
    put_pair(carry, 2 * n * width, width, hr, hi)


@routine
def collect(
    coefficients: Any,
    gradient: Any,
    state: Any,
    origin: int,
    n: int,
    u: Any,
    v: Any,
    gw: Any,
    gy: Any,
    G: Any,
    X: Any,
    g_readout: Any,
    count: int,
    width: int,
) -> None:
    """Gradients of the coefficients and readouts of mode n, whose h are in ``G``.

    Its states are computed again from the one before the chunk, at flat position ``origin`` of ``state``,
    and left in ``X`` (CHUNK, 2, W).
    """
    fields = coefficients.shape[1]
    rank = fields // 2 - 1
    at = 2 * n * fields * width
    er, ei = pair(coefficients, at, width)
    br, bi = pair(coefficients, at + 2 * width, width)
    pr, pi = pair(coefficients, at + 4 * width, width)
    xr, xi = pair(state, origin, width)
    ger, gei = pair(gradient, at, width)
    gbr, gbi = pair(gradient, at + 2 * width, width)
    gpr, gpi = pair(gradient, at + 4 * width, width)
    gqr, gqi = pair(gradient, at + (4 + 2 * rank) * width, width)
    gcr, gci = pair(g_readout, 2 * n * width, width)
    others = rank > 1 or g_readout.shape[0] > 1
    for k in range(count):
        hr, hi = pair(G, 2 * k * width, width)
        ger, gei = ger + xr * hr + xi * hi, gei + xr * hi - xi * hr
        uk, vk = load(u, k * width), load(v, k * width)
        gbr, gbi = gbr + uk * hr, gbi + uk * hi
        gpr, gpi = gpr - vk * hr, gpi - vk * hi
        ir, ii = br * uk - pr * vk, bi * uk - pi * vk
        for r in range(1, rank):
            vk = load(v, (r * CHUNK + k) * width)
            ar, ai = pair(coefficients, at + (4 + 2 * r) * width, width)
            ir, ii = ir - ar * vk, ii - ai * vk
        xr, xi = ir + er * xr - ei * xi, ii + er * xi + ei * xr
        g, c = load(gy, k * width), load(gw, k * width)
        gqr, gqi = gqr + c * xr, gqi + c * xi
        gcr, gci = gcr + g * xr, gci - g * xi
        if others:
            put_pair(X, 2 * k * width, width, xr, xi)
    put_pair(gradient, at, width, ger, gei)
    put_pair(gradient, at + 2 * width, width, gbr, gbi)
    put_pair(gradient, at + 4 * width, width, gpr, gpi)
    put_pair(gradient, at + (4 + 2 * rank) * width, width, gqr, gqi)
    put_pair(g_readout, 2 * n * width, width, gcr, gci)
    if others:
        collect_others(gradient, n, v, gw, gy, G, X, g_readout, count, width)


@inline
def collect_others(
    gradient: Any,
    n: int,
    v: Any,
    gw: Any,
    gy: Any,
    G: Any,
    X: Any,
    g_readout: Any,
    count: int,
    width: int,
) -> None:
    """Gradients of the other P, of which -v was the input, and of the other Q and C, which read ``X``."""
    modes, fields = gradient.shape[0], gradient.shape[1]
    rank, readouts = fields // 2 - 1, g_readout.shape[0]
    at = 2 * n * fields * width
    for r in range(1, rank):
        to_p, to_q = at + (4 + 2 * r) * width, at + (4 + 2 * rank + 2 * r) * width
        pr, pi = pair(gradient, to_p, width)
        qr, qi = pair(gradient, to_q, width)
        for k in range(count):
            vk, g = load(v, (r * CHUNK + k) * width), load(gw, (r * CHUNK + k) * width)
            hr, hi = pair(G, 2 * k * width, width)
            xr, xi = pair(X, 2 * k * width, width)
            pr, pi = pr - vk * hr, pi - vk * hi
            qr, qi = qr + g * xr, qi + g * xi
        put_pair(gradient, to_p, width, pr, pi)
        put_pair(gradient, to_q, width, qr, qi)
    for m in range(1, readouts):
        to = 2 * (m * modes + n) * width
        cr, ci = pair(g_readout, to, width)
        for k in range(count):
            g = load(gy, (m * CHUNK + k) * width)
            xr, xi = pair(X, 2 * k * width, width)
            cr, ci = cr + g * xr, ci - g * xi
        put_pair(g_readout, to, width, cr, ci)
