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
from tsssm.ops.cpu.diagonal.irregular_liquid import run_coupled
from tsssm.ops.cpu.diagonal.liquid import advance_liquid
from tsssm.ops.cpu.diagonal.plain import quick_groups, run_moves, scale_states, weigh
from tsssm.ops.cpu.diagonal.recurrence import advance
from tsssm.ops.cpu.diagonal.regular_liquid import gather_constants, run_liquid, scale_by_input
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
from tsssm.ops.cpu.readout import read_out
from tsssm.ops.cpu.rows import FOH, GBT, N_FIELDS, ZOH, times
from tsssm.ops.cpu.simd import load, store


@kernel
def forward_pass(
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
    duration: float,
    x: Any,
    at_rest: Any,
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
    """Outputs ``y`` (M, batch, L, H), states ``x`` (batch, H, N, 2) renewed, states ``saved``.

    ``v`` (K, batch, L, H) is used by first-order hold alone, and ``bound`` (H, N) is None unless the
    transition is liquid. ``gaps`` are the distinct gaps, ``index`` (K, batch, L) says which one a sample has,
    and ``dt`` is None; or ``gaps`` is empty, ``dt`` (K, batch, L) holds the gap of every sample, and a table
    of nodes goes up to the gap ``reach``, unless that is infinite. What an operand that is None stands for is
    not compiled. ``duration`` is that of a series, by which slow modes are told from others.
    ``x`` belongs to the first direction; ``at_rest`` says that it arrives as zeros, and is None if moreover
    the call is a plain one and `any_slow` finds nothing, so that no mode needs rows.
    ``saved`` is empty or (K, batch, blocks, chunks, N, 2, W).
    """
    width = 64 // u.itemsize
    length = u.shape[1]
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
    yb = zeros((readouts * CHUNK * width,), u)
    X = zeros((2 * (CHUNK + 1) * width,), u)
    imag = (CHUNK + 1) * width
    # Which row a sample uses: its own, unless rows are shared.
    which = np.arange(CHUNK) if own else np.zeros(CHUNK, np.int64)
    delta = np.empty(CHUNK, u.dtype)
    if own:
        nearest, rest = np.empty(CHUNK, np.int64), np.empty(CHUNK, u.dtype)
    simple = not foh and readouts == 1 and (not liquid or kind == ZOH)
    regular = simple and liquid and gaps.size == 1
    for block in range(first, last):
        h0 = block * width
        system, steps = gather_system(A, B, step, h0, width)
        feedthrough = gather_feedthrough(D, readouts, h0, width)
        if own:
            layout = lay_out(system, steps, width, reach)
            table = fill_nodes(system, steps, width, layout)
            nodes = layout, table, nearest, rest
        scale = scale_states(system, width)
        quick = quick_groups(system, steps, width, duration)
        moves = shared_moves(gaps, kind, alpha, system, steps, width)
        if liquid:
            bounds = gather_bounds(bound, h0, width)
            constants = gather_constants(moves, scale, bounds, width) if regular else scale
            if regular:
                scale_by_input(scale, constants, width)
                quick[:] = True
        plain = True
        if by_rows:
            # Quick groups do without.
            needed = not (simple and at_rest and quick.all())
            rows = zeros((2 * N_FIELDS * plane if needed else 0,), u)
            if not own and needed:
                fill_table(rows, plane, gaps, system, steps, width, kind, alpha, False)
        else:
            quick[:] = True
        for d in range(directions):
            backwards = reverse != (d == 1)
            if by_rows:
                plain = simple and (at_rest or d == 1)
            readout = gather_readout(C[d], h0, width)
            weights = weigh(scale, readout, width)
            for b in range(b0, b1):
                state = zeros((modes + GROUP - 1, 2, width), u)
                if by_rows and d == 0 and not at_rest:
                    load_state(x, b, h0, width, state)
                for c in range(chunks):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0, width)
                    if by_rows and foh:
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
                        if own:
                            delta[k] = dt[d, b, t]
                        else:
                            which[k] = index[d, b, t]
                    for n in range(modes):
                        at = 2 * n * width
                        if not by_rows or (plain and quick[n // GROUP]):
                            if liquid and regular:
                                if n % GROUP == 0:
                                    run_liquid(ub, yb, constants, weights, state, n, count, width)
                            elif n % 2 == 0:
                                if own and n % GROUP == 0:
                                    chunk_moves(
                                        moves,
                                        n // GROUP,
                                        delta,
                                        count,
                                        kind,
                                        alpha,
                                        system,
                                        steps,
                                        nodes,
                                        width,
                                    )
                                bases = (
                                    move_base(n, modes, gaps, width),
                                    move_base(n + 1, modes, gaps, width),
                                    move_base(n + 2, modes, gaps, width),
                                    move_base(n + 3, modes, gaps, width),
                                )
                                if liquid:
                                    run_coupled(
                                        ub,
                                        yb,
                                        moves,
                                        bases,
                                        which,
                                        scale,
                                        bounds,
                                        weights,
                                        state,
                                        n,
                                        count,
                                        width,
                                    )
                                elif n % GROUP == 0:
                                    run_moves(ub, yb, moves, bases, which, weights, state, n, count, width)
                            continue
                        mode = load_mode(system, n, width)
                        if own:
                            by_nodes = layout[1][n // GROUP] > 0
                            if by_nodes and n % GROUP == 0:
                                locate(delta, count, layout, n // GROUP, nearest, rest)
                            if by_nodes:
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
                                    rows, plane, 0, dt[d, b], span, steps, width, kind, alpha, False, mode
                                )
                        store(X, 0, load(state, at))
                        store(X, imag, load(state, at + width))
                        base = n * gaps.size * width
                        if liquid:
                            advance_liquid(
                                X,
                                X,
                                ub,
                                load(bounds, n * width),
                                rows,
                                plane,
                                base,
                                which,
                                count,
                                width,
                                kind == GBT,
                                False,
                            )
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
                    for n in range(modes):
                        if plain and quick[n // GROUP]:
                            # What the states were divided by.
                            at = 2 * n * width
                            kr, ki = load(scale, at), load(scale, at + width)
                            xr, xi = times(load(state, at), load(state, at + width), kr, ki)
                            store(state, at, xr)
                            store(state, at + width, xi)
                    store_state(x, b, h0, width, state)
