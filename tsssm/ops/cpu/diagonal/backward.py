"""The adjoint pass over a block of W channels: chunk by chunk backwards, mode by mode within a chunk."""

from __future__ import annotations

from typing import Any

import numpy as np

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
from tsssm.ops.cpu.bounds import gather_bounds
from tsssm.ops.cpu.compiling import kernel
from tsssm.ops.cpu.diagonal.irregular_liquid import adjoint_coupled, advance_coupled, collect_coupled
from tsssm.ops.cpu.diagonal.liquid import adjoint_liquid, advance_liquid
from tsssm.ops.cpu.diagonal.plain import (
    adjoint_moves,
    advance_moves,
    collect_moves,
    quick_groups,
    scale_final,
    scale_states,
    weigh,
)
from tsssm.ops.cpu.diagonal.recurrence import adjoint, advance
from tsssm.ops.cpu.diagonal.regular_liquid import (
    adjoint_driven,
    advance_driven,
    collect_driven,
    gather_constants,
    scale_by_input,
)
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.moves import (
    GROUP,
    chunk_moves,
    fill_chunk_nodes,
    fill_nodes,
    lay_out,
    locate,
    move_base,
    node_start,
    shared_moves,
)
from tsssm.ops.cpu.readout import read_out_adjoint
from tsssm.ops.cpu.rows import FOH, GBT, N_FIELDS, ZOH
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import HOLD, N_SUMS, ONE, TABLE, collect_hold, is_slow


@kernel
def backward_pass(
    u: Any,
    v: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    step: Any,
    bound: Any,
    gaps: Any,
    index: Any,
    dt: Any,
    reach: float,
    typical: float,
    duration: float,
    saved: Any,
    gy: Any,
    gx: Any,
    at_rest: Any,
    kind: int,
    alpha: float,
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
    g_bound: Any,
) -> None:
    """Adjoint of `forward_pass`; ``typical`` is a gap by which rows are told slow ones from others.

    ``gx`` (batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first one,
    unless that was ``at_rest``. The others are written, those of the system for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    directions, readouts, modes = C.shape[0], C.shape[1], A.shape[1]
    # Written one by one, or Numba does not see that they are constants.
    liquid = bound is not None
    own = dt is not None
    by_rows = at_rest is not None
    foh = kind == FOH
    chunks = (length + CHUNK - 1) // CHUNK
    # One row more, so that the fields of a row do not compete for the same lines of the cache.
    plane = ((CHUNK if own else modes * gaps.size) + 1) * width
    ub = zeros((CHUNK * width,), u)
    vb = zeros((CHUNK * width,), u)
    gub = zeros((CHUNK * width,), u)
    gvb = zeros((CHUNK * width,), u)
    gyb = zeros((readouts * CHUNK * width,), u)
    X = zeros((4 * (CHUNK + 1) * width,), u)
    G = zeros((2 * (CHUNK + 1) * width,), u)
    F = zeros((3 * CHUNK * width,), u)
    imag = (CHUNK + 1) * width
    delta = np.empty(CHUNK, u.dtype)
    if gaps.size == 1:
        delta[:] = gaps[0]
    # Which row a sample uses: its own, unless rows are shared.
    which = np.arange(CHUNK) if own else np.zeros(CHUNK, np.int64)
    if own:
        nearest, rest = np.empty(CHUNK, np.int64), np.empty(CHUNK, u.dtype)
    simple = not foh and readouts == 1 and (not liquid or kind == ZOH)
    regular = simple and liquid and gaps.size == 1
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        g_system = zeros((modes, 4, width), u)
        g_feedthrough = zeros((readouts, width), u)
        g_steps = zeros((width,), u)
        if own:
            slow = np.zeros(modes, np.bool_)
            for n in range(modes):
                slow[n] = is_slow(system, steps, n, width, typical)
            layout = lay_out(system, steps, width, reach)
            table = fill_nodes(system, steps, width, layout)
            nodes = layout, table, nearest, rest
        scale = scale_states(system, width)
        quick = quick_groups(system, steps, width, duration)
        moves = shared_moves(gaps, kind, alpha, system, steps, width)
        if liquid:
            bounds, g_bounds = gather_bounds(bound, h0, width), zeros((modes, width), u)
            constants = gather_constants(moves, scale, bounds, width) if regular else scale
            if regular:
                scale_by_input(scale, constants, width)
                quick[:] = True
        g_scale = zeros((modes, 2, width), u)
        plain = True
        if by_rows:
            # Quick groups do without, but for the gradients of a liquid transition on a grid.
            needed = regular or not (simple and at_rest and quick.all())
            rows = zeros((2 * N_FIELDS * plane if needed else 0,), u)
            grads = zeros((6 * plane if needed else 0,), u)
            if not own and needed:
                fill_table(rows, plane, gaps, system, steps, width, kind, alpha, True)
        else:
            quick[:] = True
        for d in range(directions):
            backwards = reverse != (d == 1)
            if by_rows:
                plain = simple and (at_rest or d == 1)
            readout = gather_readout(C[d], h0, width)
            g_readout = zeros((readouts, modes, 2, width), u)
            weights = weigh(scale, readout, width)
            sums = zeros((modes + GROUP - 1, N_SUMS, 2, width), u)
            if by_rows:
                tables = rows, grads, which, delta, sums
            for b in range(b0, b1):
                carry = zeros((modes + GROUP - 1, 2, width), u)
                memory = weights, carry, sums
                if d == 0:
                    load_state(gx, b, h0, width, carry)
                for c in range(chunks - 1, -1, -1):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0, width)
                    if by_rows and foh:
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
                        if own:
                            delta[k] = dt[d, b, t]
                        else:
                            which[k] = index[d, b, t]
                            delta[k] = gaps[which[k]]
                    for n in range(modes):
                        at = 2 * n * width
                        second = min(n + 1, modes - 1)
                        if not by_rows or (plain and quick[n // GROUP]):
                            if n % 2 == 1:
                                continue
                            origins = origin + at, origin + 2 * second * width
                            ends = 2 if second > n else 1
                            last_chunk = c == chunks - 1 and d == 0
                            if liquid and regular:
                                advance_driven(X, ub, saved, origins, constants, n, count, width)
                                for i in range(ends if last_chunk else 0):
                                    scale_final(X, 2 * i * imag, carry, scale, g_scale, n + i, count, width)
                                for i in range(ends):
                                    half = 2 * i * imag
                                    adjoint_driven(
                                        X, half, gyb, gub, ub, constants, memory, n + i, count, width
                                    )
                                continue
                            if own and n % GROUP == 0:
                                chunk_moves(
                                    moves, n // GROUP, delta, count, kind, alpha, system, steps, nodes, width
                                )
                            bases = (
                                move_base(n, modes, gaps, width),
                                move_base(n + 1, modes, gaps, width),
                            )
                            if liquid:
                                advance_coupled(
                                    X, ub, saved, origins, moves, bases, which, scale, bounds, n, count, width
                                )
                            else:
                                advance_moves(X, ub, saved, origins, moves, bases, which, count, width)
                            for i in range(ends if last_chunk else 0):
                                scale_final(X, 2 * i * imag, carry, scale, g_scale, n + i, count, width)
                            if liquid:
                                for i in range(ends):
                                    half, base = 2 * i * imag, bases[i]
                                    adjoint_coupled(
                                        X,
                                        half,
                                        gyb,
                                        gub,
                                        ub,
                                        moves,
                                        base,
                                        which,
                                        delta,
                                        scale,
                                        bounds,
                                        memory,
                                        n + i,
                                        count,
                                        width,
                                    )
                                continue
                            adjoint_moves(
                                X,
                                gyb,
                                gub,
                                ub,
                                moves,
                                bases,
                                which,
                                delta,
                                weights,
                                carry,
                                sums,
                                n,
                                kind != GBT,
                                alpha,
                                count,
                                width,
                            )
                            continue
                        base = n * gaps.size * width
                        mode = load_mode(system, n, width)
                        way = ONE if gaps.size == 1 else TABLE
                        if own:
                            in_table = layout[1][n // GROUP] > 0
                            if in_table and n % GROUP == 0:
                                locate(delta, count, layout, n // GROUP, nearest, rest)
                            if in_table and not slow[n] and not plain:
                                way = HOLD
                                first_node = node_start(layout, n, width)
                                fill_chunk_nodes(
                                    rows,
                                    plane,
                                    table,
                                    first_node,
                                    nearest,
                                    rest,
                                    mode,
                                    load(steps, 0),
                                    count,
                                    width,
                                )
                            else:
                                fill_chunk(
                                    rows, plane, 0, dt[d, b], span, steps, width, kind, alpha, True, mode
                                )
                        store(X, 0, load(saved, origin + at))
                        store(X, imag, load(saved, origin + at + width))
                        if liquid:
                            limit = load(bounds, n * width)
                            advance_liquid(
                                X, F, ub, limit, rows, plane, base, which, count, width, kind == GBT, True
                            )
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
                        if liquid:
                            hr, hi = adjoint_liquid(
                                X, F, G, ub, limit, gub, g_bounds, tables, place, way, kind == GBT, h
                            )
                        else:
                            hr, hi = adjoint(X, G, ub, vb, gub, gvb, tables, place, way, foh, h)
                        store(carry, at, hr)
                        store(carry, at + width, hi)
                        if own and way != HOLD:
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
                    if by_rows and foh:
                        write(gv[d], b, h0, span, gvb, 0, width)
                if d == 0:
                    store_state(gx, b, h0, width, carry)
            if liquid and plain and regular:
                collect_driven(sums, g_scale, scale, readout, grads, plane, g_readout, g_bounds, width)
                g_scale[:] = 0
            elif plain:
                if liquid:
                    collect_coupled(sums, g_scale, g_bounds, width)
                collect_moves(
                    sums, g_scale, quick, scale, system, steps, readout, g_system, g_steps, g_readout, width
                )
                g_scale[:] = 0
            elif own and by_rows:
                collect_hold(sums, system, steps, g_system, g_steps, width)
            for w in range(lanes):
                for m in range(readouts):
                    for n in range(modes):
                        gC[d, m, h0 + w, n, 0] = g_readout[m, n, 0, w]
                        gC[d, m, h0 + w, n, 1] = g_readout[m, n, 1, w]
        if by_rows and not own and needed:
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
                if liquid:
                    g_bound[h0 + w, n] = g_bounds[n, w]
