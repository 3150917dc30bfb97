"""The forward pass over a block of W channels: chunk by chunk in time, mode by mode within a chunk."""

from __future__ import annotations

from typing import Any

import numpy as np

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
from tsssm.ops.cpu.bounds import gather_bounds
from tsssm.ops.cpu.compiling import kernel
from tsssm.ops.cpu.liquid.chain import run_chain
from tsssm.ops.cpu.liquid.chunk import EXACT, look_up
from tsssm.ops.cpu.liquid.correlation import load_past, run_correlation, store_past
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.moves import GROUP, fill_chunk_nodes, fill_nodes, lay_out, locate, node_start
from tsssm.ops.cpu.readout import read_out
from tsssm.ops.cpu.rows import N_FIELDS
from tsssm.ops.cpu.simd import load, store


@kernel
def forward_pass(
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
    x: Any,
    kernel: int,
    kind: int,
    alpha: float,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    y: Any,
    saved: Any,
) -> None:
    """Outputs ``y`` (M, batch, L, H), states ``x`` (order, batch, H, N, 2) renewed, states ``saved``.

    ``bound`` (H, N) clips the input that couples the chain; it is empty for the other kernels. ``gaps`` are
    the distinct gaps and ``index`` (K, batch, L) says which one a sample has; if ``gaps`` is empty, ``dt``
    (K, batch, L) holds the gap of every sample, and a table of nodes goes up to the gap ``reach``, unless
    that is infinite. ``x`` belongs to the first direction.
    ``saved`` is empty or (K, batch, blocks, chunks, order, N, 2, W).
    """
    width = 64 // u.itemsize
    length = u.shape[1]
    directions, readouts, modes, order = C.shape[0], C.shape[1], A.shape[1], x.shape[0]
    chunks = (length + CHUNK - 1) // CHUNK
    imag, half = (CHUNK + 1) * width, CHUNK * width
    plane = (modes * gaps.size if gaps.size > 0 else CHUNK) * width
    rows = zeros((2 * N_FIELDS * plane,), u)
    ub = zeros((half,), u)
    yb = zeros((readouts * half,), u)
    X = zeros((2 * (order if kernel == EXACT else 1) * imag,), u)
    R = zeros((2 * half,), u)
    G = zeros((2 * half,), u)
    past = zeros((2 * (order - 1 + CHUNK) * width,), u)
    which, seen = np.zeros(CHUNK, np.int64), np.zeros(CHUNK + 1, np.int64)
    delta = np.empty(CHUNK, u.dtype)
    nearest, rest = np.empty(CHUNK, np.int64), np.empty(CHUNK, u.dtype)
    for block in range(first, last):
        h0 = block * width
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        bounds = gather_bounds(bound, h0, width)
        layout = lay_out(system, steps, width, reach)
        table = fill_nodes(system, steps, width, layout)
        if gaps.size > 0:
            fill_table(rows, plane, gaps, system, steps, width, kind, alpha, False)
        for d in range(directions):
            backwards = reverse != (d == 1)
            readout = gather_readout(C[d], h0, width)
            for b in range(b0, b1):
                state = zeros((order, modes, 2, width), u)
                for q in range(order if d == 0 else 0):
                    load_state(x[q], b, h0, width, state[q])
                for c in range(chunks):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0, width)
                    for m in range(readouts):
                        if d == 0:
                            feed_through(ub, feedthrough, m, yb, m * half, count, width)
                        else:
                            read(y[m], b, h0, span, yb, m * half, width)
                    if saved.size > 0:
                        to = (((d * saved.shape[1] + b) * saved.shape[2] + block) * chunks + c) * state.size
                        for at in range(0, state.size, width):
                            store(saved, to + at, load(state, at))
                    look_up(gaps, index, dt, d, b, span, length, which, delta, seen)
                    for n in range(modes):
                        at = 2 * n * width
                        base = n * gaps.size * width
                        mode = load_mode(system, n, width)
                        by_nodes = gaps.size == 0 and layout[1][n // GROUP] > 0
                        if by_nodes and n % GROUP == 0:
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
                            fill_chunk(rows, plane, 0, dt[d, b], span, steps, width, kind, alpha, False, mode)
                        for q in range(order if kernel == EXACT else 1):
                            store(X, 2 * q * imag, load(state, 2 * q * modes * width + at))
                            store(X, 2 * q * imag + imag, load(state, 2 * q * modes * width + at + width))
                        if kernel == EXACT:
                            limit = load(bounds, n * width)
                            run_chain(X, R, G, ub, limit, rows, plane, base, which, kind, order, count, width)
                        else:
                            load_past(past, state, n, order, 0, width)
                            run_correlation(
                                X, R, past, seen, ub, rows, plane, base, which, kernel, order, count, width
                            )
                            store_past(past, state, n, order, seen[count], width)
                        for m in range(readouts):
                            at_c = (m * modes + n) * 2 * width
                            read_out(R, 0, half, readout, at_c, yb, m * half, count, width)
                        for q in range(order if kernel == EXACT else 1):
                            end = 2 * q * imag + count * width
                            store(state, 2 * q * modes * width + at, load(X, end))
                            store(state, 2 * q * modes * width + at + width, load(X, end + imag))
                    for m in range(readouts):
                        write(y[m], b, h0, span, yb, m * half, width)
                for q in range(order if d == 0 else 0):
                    store_state(x[q], b, h0, width, state[q])
