"""The two passes over a block of W channels: chunk by chunk in time, mode by mode within a chunk.

States live in registers and in buffers of one chunk. The forward pass leaves the state before each chunk
behind (``saved``), from which the backward pass recomputes the others, so that no array of size
(batch, L, H, N) ever exists. A call handles blocks ``first`` to ``last`` of the channels and series ``b0``
to ``b1`` of the batch; calls on different ranges may run at the same time.

K directions (one or two, the second opposite to the first and always from rest) have readouts of their own
and add up. Complex arrays arrive as real ones with a last axis of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tsssm.ops.cpu.blocks import (
    collect_table,
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
from tsssm.ops.cpu.diagonal.recurrence import (
    CHUNK,
    accumulate,
    adjoint,
    adjoint_constant,
    advance,
    advance_constant,
    feed_through,
    feed_through_adjoint,
    read_out,
    read_out_adjoint,
    run_constant,
)
from tsssm.ops.cpu.rows import FOH, N_FIELDS, conj_times, get, times
from tsssm.ops.cpu.rows import A as A_ROW
from tsssm.ops.cpu.rows import B as B_ROW
from tsssm.ops.cpu.simd import load, store


@njit(nogil=True, cache=True)
def forward_pass(
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
    x: Any,
    at_rest: bool,
    kind: int,
    alpha: float,
    liquid: bool,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    y: Any,
    saved: Any,
) -> None:
    """Outputs ``y`` (M, batch, L, H), states ``x`` (batch, H, N, 2) renewed, states ``saved``.

    ``v`` (K, batch, L, H) is used by first-order hold alone. ``gaps`` are the distinct gaps and ``index``
    (K, batch, L) says which one a sample has; if ``gaps`` is empty, ``dt`` (K, batch, L) holds the gap of
    every sample. ``x`` belongs to the first direction; ``at_rest`` says that it arrives as zeros.
    ``saved`` is empty or (K, batch, blocks, chunks, N, 2, W).
    """
    width = 64 // u.itemsize
    length = u.shape[1]
    directions, readouts, modes = C.shape[0], C.shape[1], A.shape[1]
    foh = kind == FOH
    chunks = (length + CHUNK - 1) // CHUNK
    plane = (modes * gaps.size if gaps.size > 0 else CHUNK) * width
    rows = np.empty(2 * N_FIELDS * plane, u.dtype)
    ub = np.zeros(CHUNK * width, u.dtype)
    vb = np.zeros(CHUNK * width, u.dtype)
    yb = np.empty(readouts * CHUNK * width, u.dtype)
    X = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    imag = (CHUNK + 1) * width
    which = np.arange(CHUNK)
    for block in range(first, last):
        h0 = block * width
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        if gaps.size > 0:
            fill_table(rows, plane, gaps, system, steps, width, kind, alpha, False)
        for d in range(directions):
            backwards = reverse != (d == 1)
            plain = gaps.size == 1 and not foh and not liquid and readouts == 1 and (at_rest or d == 1)
            readout = gather_readout(C[d], h0, width)
            for b in range(b0, b1):
                state = np.zeros((modes + 1, 2, width), u.dtype)
                if d == 0 and not at_rest:
                    load_state(x, b, h0, width, state)
                for c in range(chunks):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0, width)
                    if foh:
                        read(v[d], b, h0, span, vb, 0, width)
                    for m in range(readouts):
                        if d == 0:
                            feed_through(ub, feedthrough, m, yb, m * CHUNK * width, count, width)
                        else:
                            read(y[m], b, h0, span, yb, m * CHUNK * width, width)
                    if saved.size > 0:
                        to = ((d * saved.shape[1] + b) * saved.shape[2] + block) * chunks + c
                        for n in range(2 * modes):
                            store(saved, (2 * modes * to + n) * width, load(state, n * width))
                    if plain:
                        for n in range(0, modes, 2):
                            run_constant(ub, yb, rows, plane, readout, state, n, modes, count, width)
                    else:
                        if gaps.size > 1:
                            for k in range(count):
                                which[k] = index[d, b, length - 1 - start - k if backwards else start + k]
                        elif gaps.size == 1:
                            which[:] = 0
                        for n in range(modes):
                            at = 2 * n * width
                            if gaps.size == 0:
                                mode = load_mode(system, n, width)
                                fill_chunk(
                                    rows,
                                    plane,
                                    dt[d, b],
                                    span,
                                    steps,
                                    width,
                                    kind,
                                    alpha,
                                    False,
                                    mode,
                                )
                            store(X, 0, load(state, at))
                            store(X, imag, load(state, at + width))
                            base = n * gaps.size * width
                            advance(X, ub, vb, rows, plane, base, which, count, width, foh, liquid)
                            for m in range(readouts):
                                at_c = (m * modes + n) * 2 * width
                                cr, ci = load(readout, at_c), load(readout, at_c + width)
                                read_out(X, cr, ci, yb, m * CHUNK * width, count, width)
                            store(state, at, load(X, count * width))
                            store(state, at + width, load(X, imag + count * width))
                    for m in range(readouts):
                        write(y[m], b, h0, span, yb, m * CHUNK * width, width)
                if d == 0:
                    for n in range(modes if plain else 0):
                        at = 2 * n * width
                        br, bi = get(rows, plane, B_ROW, n * width)
                        xr, xi = times(load(state, at), load(state, at + width), br, bi)
                        store(state, at, xr)
                        store(state, at + width, xi)
                    store_state(x, b, h0, width, state)


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
    """Adjoint of `forward_pass`.

    ``gx`` (batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first one,
    unless that was ``at_rest``. The others are written, those of the system for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    directions, readouts, modes = C.shape[0], C.shape[1], A.shape[1]
    foh = kind == FOH
    chunks = (length + CHUNK - 1) // CHUNK
    plane = (modes * gaps.size if gaps.size > 0 else CHUNK) * width
    rows = np.empty(2 * N_FIELDS * plane, u.dtype)
    grads = np.empty(6 * plane, u.dtype)
    ub = np.zeros(CHUNK * width, u.dtype)
    vb = np.zeros(CHUNK * width, u.dtype)
    gub = np.empty(CHUNK * width, u.dtype)
    gvb = np.empty(CHUNK * width, u.dtype)
    gyb = np.zeros(readouts * CHUNK * width, u.dtype)
    X = np.empty(4 * (CHUNK + 1) * width, u.dtype)
    G = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    imag = (CHUNK + 1) * width
    which = np.arange(CHUNK)
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        g_system = np.zeros((modes, 4, width), u.dtype)
        g_feedthrough = np.zeros((readouts, width), u.dtype)
        g_steps = np.zeros(width, u.dtype)
        grads[:] = 0
        if gaps.size > 0:
            fill_table(rows, plane, gaps, system, steps, width, kind, alpha, True)
        for d in range(directions):
            backwards = reverse != (d == 1)
            plain = gaps.size == 1 and not foh and not liquid and readouts == 1 and (at_rest or d == 1)
            readout = gather_readout(C[d], h0, width)
            g_readout = np.zeros((readouts, modes, 2, width), u.dtype)
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
                    if plain:
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
                        if gaps.size > 1:
                            for k in range(count):
                                which[k] = index[d, b, length - 1 - start - k if backwards else start + k]
                        elif gaps.size == 1:
                            which[:] = 0
                        for n in range(modes):
                            at = 2 * n * width
                            base = n * gaps.size * width
                            mode = load_mode(system, n, width)
                            if gaps.size == 0:
                                fill_chunk(
                                    rows,
                                    plane,
                                    dt[d, b],
                                    span,
                                    steps,
                                    width,
                                    kind,
                                    alpha,
                                    True,
                                    mode,
                                )
                            store(X, 0, load(saved, origin + at))
                            store(X, imag, load(saved, origin + at + width))
                            advance(X, ub, vb, rows, plane, base, which, count, width, foh, liquid)
                            G[:] = 0
                            for m in range(readouts):
                                at_c = (m * modes + n) * 2 * width
                                read_out_adjoint(
                                    X, G, readout, g_readout, at_c, gyb, m * CHUNK * width, count, width
                                )
                            h = load(carry, at), load(carry, at + width)
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
                                count,
                                width,
                                foh,
                                liquid,
                                h,
                            )
                            store(carry, at, hr)
                            store(carry, at + width, hi)
                            if gaps.size == 0:
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
            for n in range(modes if plain else 0):
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
