"""The forward pass over a block of W channels: chunk by chunk in time, mode by mode within a chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tsssm.ops.cpu.blocks import (
    CHUNK,
    feed_through,
    fill_chunk,
    fill_table,
    gather_feedthrough,
    gather_readout,
    gather_system,
    load_mode,
    load_state,
    read,
    store_state,
    write,
)
from tsssm.ops.cpu.diagonal.liquid import advance_liquid
from tsssm.ops.cpu.diagonal.nodes import run_nodes
from tsssm.ops.cpu.diagonal.plain import run_rows, weigh
from tsssm.ops.cpu.diagonal.recurrence import advance, run_constant
from tsssm.ops.cpu.nodes import TERMS, fill_chunk_nodes, fill_nodes, lay_out, locate, node_starts, series
from tsssm.ops.cpu.readout import read_out
from tsssm.ops.cpu.rows import FOH, N_FIELDS, get, times
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
    longest: float,
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
    every sample, the largest of which is ``longest``; that is infinite where no table of nodes is wanted.
    ``x`` belongs to the first direction; ``at_rest`` says that it arrives as zeros.
    ``saved`` is empty or (K, batch, blocks, chunks, N, 2, W).
    """
    width = 64 // u.itemsize
    length = u.shape[1]
    directions, readouts, modes = C.shape[0], C.shape[1], A.shape[1]
    foh = kind == FOH
    chunks = (length + CHUNK - 1) // CHUNK
    # One row more, so that the fields of a row do not compete for the same lines of the cache.
    plane = ((modes * gaps.size if gaps.size > 0 else 2 * CHUNK) + 1) * width
    rows = np.empty(2 * N_FIELDS * plane, u.dtype)
    ub = np.zeros(CHUNK * width, u.dtype)
    vb = np.zeros(CHUNK * width, u.dtype)
    yb = np.empty(readouts * CHUNK * width, u.dtype)
    X = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    imag = (CHUNK + 1) * width
    # Which row a sample uses: its own, unless rows are shared.
    which = np.arange(CHUNK) if gaps.size == 0 else np.zeros(CHUNK, np.int64)
    delta = np.empty(CHUNK, u.dtype)
    nearest = np.empty(CHUNK, np.int64)
    powers = np.empty((TERMS, CHUNK), u.dtype)
    for block in range(first, last):
        h0 = block * width
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        layout = lay_out(system, steps, width, longest)
        table = fill_nodes(system, steps, width, layout)
        if gaps.size > 0:
            fill_table(rows, plane, gaps, system, steps, width, kind, alpha, False)
        for d in range(directions):
            backwards = reverse != (d == 1)
            plain = not foh and not liquid and readouts == 1 and (at_rest or d == 1)
            readout = gather_readout(C[d], h0, width)
            weights = weigh(system, readout, width)
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
                    for k in range(count if gaps.size != 1 else 0):
                        t = length - 1 - start - k if backwards else start + k
                        delta[k] = dt[d, b, t]
                        if gaps.size > 1:
                            which[k] = index[d, b, t]
                    if plain and gaps.size == 1:
                        for n in range(0, modes, 2):
                            run_constant(ub, yb, rows, plane, readout, state, n, modes, count, width)
                    elif plain:
                        for n in range(0, modes, 2):
                            second = min(n + 1, modes - 1)
                            if gaps.size == 0 and layout[1][n // 2] > 0:
                                locate(delta, count, layout[0][n // 2], nearest, powers)
                                run_nodes(
                                    ub,
                                    yb,
                                    table,
                                    node_starts(layout, n // 2, width),
                                    nearest,
                                    powers,
                                    (
                                        series(load_mode(system, n, width), load(steps, 0)),
                                        series(load_mode(system, second, width), load(steps, 0)),
                                    ),
                                    weights,
                                    state,
                                    n,
                                    count,
                                    width,
                                )
                                continue
                            bases = n * gaps.size * width, second * gaps.size * width
                            if gaps.size == 0:
                                bases = 0, CHUNK * width
                                for i in range(2):
                                    fill_chunk(
                                        rows,
                                        plane,
                                        bases[i],
                                        dt[d, b],
                                        span,
                                        steps,
                                        width,
                                        kind,
                                        alpha,
                                        False,
                                        load_mode(system, min(n + i, modes - 1), width),
                                    )
                            run_rows(ub, yb, rows, plane, bases, which, weights, state, n, count, width)
                    else:
                        for n in range(modes):
                            at = 2 * n * width
                            mode = load_mode(system, n, width)
                            by_nodes = gaps.size == 0 and layout[1][n // 2] > 0
                            if by_nodes and n % 2 == 0:
                                locate(delta, count, layout[0][n // 2], nearest, powers)
                            if by_nodes:
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
                            elif gaps.size == 0:
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
                                    False,
                                    mode,
                                )
                            store(X, 0, load(state, at))
                            store(X, imag, load(state, at + width))
                            base = n * gaps.size * width
                            if liquid:
                                advance_liquid(X, X, ub, rows, plane, base, which, count, width, False)
                            else:
                                advance(X, ub, vb, rows, plane, base, which, count, width, foh)
                            for m in range(readouts):
                                at_c = (m * modes + n) * 2 * width
                                read_out(X, width, imag, readout, at_c, yb, m * CHUNK * width, count, width)
                            store(state, at, load(X, count * width))
                            store(state, at + width, load(X, imag + count * width))
                    for m in range(readouts):
                        write(y[m], b, h0, span, yb, m * CHUNK * width, width)
                if d == 0:
                    for n in range(modes if plain else 0):
                        # What the states were divided by.
                        at = 2 * n * width
                        _, _, br, bi = load_mode(system, n, width)
                        if gaps.size == 1:
                            br, bi = get(rows, plane, B_ROW, n * width)
                        xr, xi = times(load(state, at), load(state, at + width), br, bi)
                        store(state, at, xr)
                        store(state, at + width, xi)
                    store_state(x, b, h0, width, state)
