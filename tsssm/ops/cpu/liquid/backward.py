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
from tsssm.ops.cpu.liquid.chain import chain_adjoint, run_chain
from tsssm.ops.cpu.liquid.chunk import EXACT, look_up
from tsssm.ops.cpu.liquid.correlation import correlation_adjoint, load_past, run_correlation, store_past
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.moves import GROUP, fill_chunk_nodes, fill_nodes, lay_out, locate, node_start
from tsssm.ops.cpu.readout import read_out_adjoint
from tsssm.ops.cpu.rows import N_FIELDS
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import HOLD, N_SUMS, ONE, TABLE, collect_hold, is_slow


@kernel
def backward_pass(
    u: Any,
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
    saved: Any,
    gy: Any,
    gx: Any,
    kernel: int,
    kind: int,
    alpha: float,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    gu: Any,
    gA: Any,
    gB: Any,
    gC: Any,
    gD: Any,
    gstep: Any,
    g_bound: Any,
) -> None:
    """Adjoint of `forward_pass`; ``typical`` is a gap by which modes are told slow ones from others.

    ``gx`` (order, batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first
    one. The others are written, those of the system for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    directions, readouts, modes, order = C.shape[0], C.shape[1], A.shape[1], gx.shape[0]
    chunks = (length + CHUNK - 1) // CHUNK
    imag, half = (CHUNK + 1) * width, CHUNK * width
    plane = (modes * gaps.size if gaps.size > 0 else CHUNK) * width
    rows = zeros((2 * N_FIELDS * plane,), u)
    grads = zeros((6 * plane,), u)
    ub, gub = zeros((half,), u), zeros((half,), u)
    gyb = zeros((readouts * half,), u)
    X = zeros((2 * (order if kernel == EXACT else 1) * imag,), u)
    R, GR, G = zeros((2 * half,), u), zeros((2 * half,), u), zeros((2 * half,), u)
    H, GA, GG = zeros((2 * half,), u), zeros((2 * half,), u), zeros((2 * half,), u)
    past = zeros((2 * (order - 1 + CHUNK) * width,), u)
    gpast = zeros((2 * (order - 1 + CHUNK) * width,), u)
    M = zeros((2 * order * width,), u)
    which, seen = np.zeros(CHUNK, np.int64), np.zeros(CHUNK + 1, np.int64)
    delta = np.empty(CHUNK, u.dtype)
    nearest, rest = np.empty(CHUNK, np.int64), np.empty(CHUNK, u.dtype)
    before = zeros((order, modes, 2, width), u)
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        bounds = gather_bounds(bound, h0, width)
        g_system = zeros((modes, 4, width), u)
        g_feedthrough = zeros((readouts, width), u)
        g_steps, g_bounds = zeros((width,), u), zeros((modes, width), u)
        sums = zeros((modes, N_SUMS, 2, width), u)
        grads[:] = 0
        slow = np.zeros(modes, np.bool_)
        for n in range(modes):
            slow[n] = is_slow(system, steps, n, width, typical)
        layout = lay_out(system, steps, width, reach)
        table = fill_nodes(system, steps, width, layout)
        if gaps.size > 0:
            fill_table(rows, plane, gaps, system, steps, width, kind, alpha, True)
        for d in range(directions):
            backwards = reverse != (d == 1)
            readout = gather_readout(C[d], h0, width)
            g_readout = zeros((readouts, modes, 2, width), u)
            for b in range(b0, b1):
                carry = zeros((order, modes, 2, width), u)
                for q in range(order if d == 0 else 0):
                    load_state(gx[q], b, h0, width, carry[q])
                for c in range(chunks - 1, -1, -1):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0, width)
                    for m in range(readouts):
                        read(gy[m], b, h0, span, gyb, m * half, width)
                    if d == 0:
                        gub[:] = 0
                        for m in range(readouts):
                            feed_through_adjoint(
                                ub, gyb, m * half, feedthrough, g_feedthrough, m, gub, count, width
                            )
                    else:
                        read(gu, b, h0, span, gub, 0, width)
                    origin = (((d * saved.shape[1] + b) * saved.shape[2] + block) * chunks + c) * before.size
                    for at in range(0, before.size, width):
                        store(before, at, load(saved, origin + at))
                    look_up(gaps, index, dt, d, b, span, length, which, delta, seen)
                    for n in range(modes):
                        at = 2 * n * width
                        base = n * gaps.size * width
                        mode = load_mode(system, n, width)
                        in_table = gaps.size == 0 and layout[1][n // GROUP] > 0
                        by_nodes = in_table and not slow[n]
                        way = HOLD if by_nodes else ONE if gaps.size == 1 else TABLE
                        if in_table and n % GROUP == 0:
                            locate(delta, count, layout, n // GROUP, nearest, rest)
                        if by_nodes:
                            fill_chunk_nodes(
                                rows,
                                plane,
                                table,
                                node_start(layout, n, width),
                                nearest,
                                rest,
                                mode,
                                load(steps, 0),
                                count,
                                width,
                            )
                        elif gaps.size == 0:
                            fill_chunk(rows, plane, 0, dt[d, b], span, steps, width, kind, alpha, True, mode)
                        for q in range(order if kernel == EXACT else 1):
                            store(X, 2 * q * imag, load(before, 2 * q * modes * width + at))
                            store(X, 2 * q * imag + imag, load(before, 2 * q * modes * width + at + width))
                        if kernel == EXACT:
                            limit = load(bounds, n * width)
                            run_chain(X, R, G, ub, limit, rows, plane, base, which, kind, order, count, width)
                        else:
                            load_past(past, before, n, order, 0, width)
                            run_correlation(
                                X, R, past, seen, ub, rows, plane, base, which, kernel, order, count, width
                            )
                        GR[:] = 0
                        for m in range(readouts):
                            at_c = (m * modes + n) * 2 * width
                            read_out_adjoint(
                                R, 0, GR, half, readout, g_readout, at_c, gyb, m * half, count, width
                            )
                        if kernel == EXACT:
                            chain_adjoint(
                                X,
                                GR,
                                G,
                                H,
                                GA,
                                GG,
                                ub,
                                gub,
                                limit,
                                g_bounds,
                                rows,
                                grads,
                                plane,
                                base,
                                which,
                                delta,
                                sums,
                                way,
                                carry,
                                n,
                                kind,
                                order,
                                count,
                                width,
                            )
                        else:
                            gpast[:] = 0
                            load_past(gpast, carry, n, order, seen[count], width)
                            h = load(carry, at), load(carry, at + width)
                            hr, hi = correlation_adjoint(
                                X,
                                GR,
                                past,
                                gpast,
                                M,
                                seen,
                                ub,
                                gub,
                                rows,
                                grads,
                                plane,
                                base,
                                which,
                                delta,
                                sums,
                                n,
                                way,
                                kernel,
                                order,
                                count,
                                width,
                                h,
                            )
                            store(carry, at, hr)
                            store(carry, at + width, hi)
                            store_past(gpast, carry, n, order, 0, width)
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
                for q in range(order if d == 0 else 0):
                    store_state(gx[q], b, h0, width, carry[q])
            for w in range(lanes):
                for m in range(readouts):
                    for n in range(modes):
                        gC[d, m, h0 + w, n, 0] = g_readout[m, n, 0, w]
                        gC[d, m, h0 + w, n, 1] = g_readout[m, n, 1, w]
        collect_hold(sums, system, steps, g_system, g_steps, width)
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
                if kernel == EXACT:
                    g_bound[h0 + w, n] = g_bounds[n, w]
