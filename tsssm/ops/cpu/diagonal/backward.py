"""The adjoint pass over a block of W channels: chunk by chunk backwards, mode by mode within a chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tsssm.ops.cpu.blocks import (
    CHUNK,
    collect_table,
    feed_through_adjoint,
    fill_chunk,
    fill_table,
    gather_feedthrough,
    gather_readout,
    gather_system,
    load_mode,
    load_state,
    pull_chunk,
    read,
    store_state,
    write,
)
from tsssm.ops.cpu.diagonal.liquid import adjoint_liquid, advance_liquid
from tsssm.ops.cpu.diagonal.nodes import states_nodes
from tsssm.ops.cpu.diagonal.plain import adjoint_rows, collect_sums, states_rows, weigh
from tsssm.ops.cpu.diagonal.recurrence import adjoint, adjoint_constant, advance, advance_constant
from tsssm.ops.cpu.nodes import TERMS, fill_chunk_nodes, fill_nodes, lay_out, locate, node_starts, series
from tsssm.ops.cpu.readout import read_out_adjoint
from tsssm.ops.cpu.rows import FOH, GBT, N_FIELDS, accumulate, conj_times, get, times
from tsssm.ops.cpu.rows import A as A_ROW
from tsssm.ops.cpu.rows import B as B_ROW
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import HOLD, N_SUMS, ONE, TABLE, collect_hold, is_slow


@njit(nogil=True, cache=True)
def backward_pass(
    u: Any,
    v: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    step: Any,
    gaps: Any,
    index: Any,
    dt: Any,
    longest: float,
    typical: float,
    saved: Any,
    gy: Any,
    gx: Any,
    at_rest: bool,
    kind: int,
    alpha: float,
    liquid: bool,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    gu: Any,
    gv: Any,
    gA: Any,
    gB: Any,
    gC: Any,
    gD: Any,
    gstep: Any,
) -> None:
    """Adjoint of `forward_pass`; ``typical`` is a gap by which modes are told slow ones from others.

    ``gx`` (batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first one,
    unless that was ``at_rest``. The others are written, those of the system for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    directions, readouts, modes = C.shape[0], C.shape[1], A.shape[1]
    foh = kind == FOH
    chunks = (length + CHUNK - 1) // CHUNK
    # One row more, so that the fields of a row do not compete for the same lines of the cache.
    plane = ((modes * gaps.size if gaps.size > 0 else CHUNK) + 1) * width
    rows = np.empty(2 * N_FIELDS * plane, u.dtype)
    grads = np.empty(6 * plane, u.dtype)
    ub = np.zeros(CHUNK * width, u.dtype)
    vb = np.zeros(CHUNK * width, u.dtype)
    gub = np.empty(CHUNK * width, u.dtype)
    gvb = np.empty(CHUNK * width, u.dtype)
    gyb = np.zeros(readouts * CHUNK * width, u.dtype)
    X = np.empty(4 * (CHUNK + 1) * width, u.dtype)
    G = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    F = np.empty(3 * CHUNK * width, u.dtype)
    imag = (CHUNK + 1) * width
    delta = np.empty(CHUNK, u.dtype)
    # Which row a sample uses: its own, unless rows are shared.
    which = np.arange(CHUNK) if gaps.size == 0 else np.zeros(CHUNK, np.int64)
    nearest = np.empty(CHUNK, np.int64)
    powers = np.empty((TERMS, CHUNK), u.dtype)
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        g_system = np.zeros((modes, 4, width), u.dtype)
        g_feedthrough = np.zeros((readouts, width), u.dtype)
        g_steps = np.zeros(width, u.dtype)
        grads[:] = 0
        slow = np.zeros(modes, np.bool_)
        for n in range(modes):
            slow[n] = is_slow(system, steps, n, width, typical)
        layout = lay_out(system, steps, width, longest)
        table = fill_nodes(system, steps, width, layout)
        if gaps.size > 0:
            fill_table(rows, plane, gaps, system, steps, width, kind, alpha, True)
        for d in range(directions):
            backwards = reverse != (d == 1)
            plain = not foh and not liquid and readouts == 1 and (at_rest or d == 1)
            constant = plain and gaps.size == 1
            readout = gather_readout(C[d], h0, width)
            g_readout = np.zeros((readouts, modes, 2, width), u.dtype)
            weights = weigh(system, readout, width)
            sums = np.zeros((modes, N_SUMS, 2, width), u.dtype)
            for b in range(b0, b1):
                carry = np.zeros((modes, 2, width), u.dtype)
                if d == 0:
                    load_state(gx, b, h0, width, carry)
                for c in range(chunks - 1, -1, -1):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0, width)
                    if foh:
                        read(v[d], b, h0, span, vb, 0, width)
                        gvb[:] = 0
                    for m in range(readouts):
                        read(gy[m], b, h0, span, gyb, m * CHUNK * width, width)
                    if d == 0:
                        gub[:] = 0
                        for m in range(readouts):
                            feed_through_adjoint(
                                ub, gyb, m * CHUNK * width, feedthrough, g_feedthrough, m, gub, count, width
                            )
                    else:
                        read(gu, b, h0, span, gub, 0, width)
                    origin = (
                        (((d * saved.shape[1] + b) * saved.shape[2] + block) * chunks + c) * modes * 2 * width
                    )
                    for k in range(count if gaps.size != 1 else 0):
                        t = length - 1 - start - k if backwards else start + k
                        delta[k] = dt[d, b, t]
                        if gaps.size > 1:
                            which[k] = index[d, b, t]
                    if constant:
                        for n in range(modes):
                            at = 2 * n * width
                            if n % 2 == 0:
                                advance_constant(X, ub, saved, origin, rows, plane, n, modes, count, width)
                            half = n % 2 * 2 * imag
                            ar, ai = get(rows, plane, A_ROW, n * width)
                            br, bi = get(rows, plane, B_ROW, n * width)
                            wr, wi = times(load(readout, at), load(readout, at + width), br, bi)
                            hr, hi = load(carry, at), load(carry, at + width)
                            if c == chunks - 1 and d == 0:
                                # The state that the pass returned is Bbar times the last one here.
                                xr, xi = load(X, half + count * width), load(X, half + imag + count * width)
                                gbr, gbi = conj_times(xr, xi, hr, hi)
                                accumulate(grads, plane, B_ROW, n * width, gbr, gbi)
                                hr, hi = conj_times(br, bi, hr, hi)
                            (hr, hi), (gar, gai), (gwr, gwi) = adjoint_constant(
                                X, half, gyb, gub, ar, ai, wr, wi, count, width, (hr, hi)
                            )
                            accumulate(grads, plane, A_ROW, n * width, gar, gai)
                            store(g_readout, at, load(g_readout, at) + gwr)
                            store(g_readout, at + width, load(g_readout, at + width) + gwi)
                            store(carry, at, hr)
                            store(carry, at + width, hi)
                    else:
                        for n in range(modes):
                            at = 2 * n * width
                            base = n * gaps.size * width
                            mode = load_mode(system, n, width)
                            in_table = gaps.size == 0 and layout[1][n // 2] > 0
                            by_nodes = in_table and not slow[n]
                            if gaps.size == 0 and not by_nodes:
                                fill_chunk(
                                    rows,
                                    plane,
                                    0,
                                    dt[d, b],
                                    span,
                                    steps,
                                    width,
                                    kind,
                                    alpha,
                                    True,
                                    mode,
                                )
                            x = load(saved, origin + at), load(saved, origin + at + width)
                            if in_table and n % 2 == 0:
                                locate(delta, count, layout[0][n // 2], nearest, powers)
                            if by_nodes and not plain:
                                fill_chunk_nodes(
                                    rows,
                                    plane,
                                    table,
                                    node_starts(layout, n // 2, width)[n % 2],
                                    nearest,
                                    powers,
                                    mode,
                                    load(steps, 0),
                                    count,
                                    width,
                                )
                            elif by_nodes:
                                states_nodes(
                                    X,
                                    ub,
                                    x,
                                    rows,
                                    plane,
                                    table,
                                    node_starts(layout, n // 2, width)[n % 2],
                                    nearest,
                                    powers,
                                    series(mode, load(steps, 0)),
                                    count,
                                    width,
                                )
                            elif plain:
                                states_rows(X, ub, x, rows, plane, base, which, count, width)
                            if plain:
                                h = load(carry, at), load(carry, at + width)
                                if c == chunks - 1 and d == 0:
                                    # The state that the pass returned is B times the last one here.
                                    xr, xi = load(X, count * width), load(X, imag + count * width)
                                    gbr, gbi = conj_times(xr, xi, h[0], h[1])
                                    to = (4 * n + 2) * width
                                    store(g_system, to, load(g_system, to) + gbr)
                                    store(g_system, to + width, load(g_system, to + width) + gbi)
                                    h = conj_times(mode[2], mode[3], h[0], h[1])
                                weight = load(weights, at), load(weights, at + width)
                                hr, hi = adjoint_rows(
                                    X,
                                    gyb,
                                    gub,
                                    ub,
                                    rows,
                                    plane,
                                    base,
                                    which,
                                    delta,
                                    weight,
                                    h,
                                    sums,
                                    n,
                                    count,
                                    width,
                                    kind != GBT,
                                    slow[n],
                                )
                                store(carry, at, hr)
                                store(carry, at + width, hi)
                                continue
                            store(X, 0, x[0])
                            store(X, imag, x[1])
                            way = HOLD if by_nodes else ONE if gaps.size == 1 else TABLE
                            if liquid:
                                advance_liquid(X, F, ub, rows, plane, base, which, count, width, True)
                            else:
                                advance(X, ub, vb, rows, plane, base, which, count, width, foh)
                            G[:] = 0
                            for m in range(readouts):
                                at_c = (m * modes + n) * 2 * width
                                offset = m * CHUNK * width
                                read_out_adjoint(
                                    X, width, G, imag, readout, g_readout, at_c, gyb, offset, count, width
                                )
                            h = load(carry, at), load(carry, at + width)
                            place = n, base, plane, count, width
                            if liquid and way == ONE:
                                # With one row the loop keeps everything in registers.
                                hr, hi = adjoint_liquid(
                                    X, F, G, ub, gub, rows, grads, which, delta, sums, place, ONE, h
                                )
                            elif liquid:
                                hr, hi = adjoint_liquid(
                                    X, F, G, ub, gub, rows, grads, which, delta, sums, place, way, h
                                )
                            else:
                                hr, hi = adjoint(
                                    X,
                                    G,
                                    ub,
                                    vb,
                                    gub,
                                    gvb,
                                    rows,
                                    grads,
                                    plane,
                                    base,
                                    which,
                                    delta,
                                    sums,
                                    n,
                                    way,
                                    count,
                                    width,
                                    foh,
                                    h,
                                )
                            store(carry, at, hr)
                            store(carry, at + width, hi)
                            if gaps.size == 0 and not by_nodes:
                                pull_chunk(
                                    rows,
                                    grads,
                                    plane,
                                    dt[d, b],
                                    span,
                                    steps,
                                    width,
                                    kind,
                                    mode,
                                    g_system,
                                    g_steps,
                                    n,
                                )
                    write(gu, b, h0, span, gub, 0, width)
                    if foh:
                        write(gv[d], b, h0, span, gvb, 0, width)
                if d == 0:
                    store_state(gx, b, h0, width, carry)
            if not plain:
                collect_hold(sums, system, steps, g_system, g_steps, width)
            if plain and not constant:
                collect_sums(
                    sums, system, steps, readout, g_system, g_steps, g_readout, width, kind != GBT, typical
                )
            for n in range(modes if constant else 0):
                # What was read out is W = C Bbar.
                at = 2 * n * width
                gwr, gwi = load(g_readout, at), load(g_readout, at + width)
                gbr, gbi = conj_times(load(readout, at), load(readout, at + width), gwr, gwi)
                accumulate(grads, plane, B_ROW, n * width, gbr, gbi)
                br, bi = get(rows, plane, B_ROW, n * width)
                gcr, gci = conj_times(br, bi, gwr, gwi)
                store(g_readout, at, gcr)
                store(g_readout, at + width, gci)
            for w in range(lanes):
                for m in range(readouts):
                    for n in range(modes):
                        gC[d, m, h0 + w, n, 0] = g_readout[m, n, 0, w]
                        gC[d, m, h0 + w, n, 1] = g_readout[m, n, 1, w]
        collect_table(rows, grads, plane, gaps, system, steps, width, kind, g_system, g_steps)
        for w in range(lanes):
            gstep[h0 + w] = g_steps[w]
            for m in range(gD.shape[0]):
                gD[m, h0 + w] = g_feedthrough[m, w]
            for n in range(modes):
                gA[h0 + w, n, 0] = g_system[n, 0, w]
                gA[h0 + w, n, 1] = g_system[n, 1, w]
                gB[h0 + w, n, 0] = g_system[n, 2, w]
                gB[h0 + w, n, 1] = g_system[n, 3, w]
