"""The two passes over a block of W channels: chunk by chunk in time, two series at once, sample by sample.

The forward pass leaves the state before each chunk behind (``saved``), from which the backward pass
recomputes the others, so that no array of size (batch, L, H, N) ever exists. A call handles blocks ``first``
to ``last`` of the channels and series ``b0`` to ``b1`` of the batch; calls on different ranges may run at the
same time. Of an odd number of series the last one is its own partner: it is computed twice and counted once.

K directions (one or two, the second opposite to the first and always from rest) have readouts of their own
and add up. The system is A = V T^{-1} with V and T tridiagonal and the timescale within V and B, so that
the step of a sample is its gap. ``gaps`` are the distinct gaps and ``index`` (K, batch, L) says which one a
sample has; if ``gaps`` is empty, ``dt`` (K, batch, L) holds the gap of every sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.blocks import read, write
from tsssm.ops.cpu.compiling import inline, kernel
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.tridiagonal.bands import (
    factor,
    factor_table,
    gather_gaps,
    gather_readout,
    gather_system,
    load_state,
    stiffness,
    store_state,
)
from tsssm.ops.cpu.tridiagonal.recurrence import (
    CHUNK,
    PART,
    advance,
    collect,
    collect_readout,
    read_out,
    retreat,
    send_readout,
)


@inline
def _plane(modes: int, width: int) -> int:
    """Numbers that a buffer of pairs holds a sample: an odd number of pairs, which spreads them over the
    sets of the cache."""
    return ((modes + 2) | 1) * 2 * width


@kernel
def forward_pass(
    u: Any,
    T: Any,
    V: Any,
    B: Any,
    C: Any,
    gaps: Any,
    index: Any,
    dt: Any,
    x: Any,
    alpha: float,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    y: Any,
    saved: Any,
) -> None:
    """Outputs ``y`` (M, batch, L, H), states ``x`` (batch, H, N) renewed, states ``saved``.

    ``x`` belongs to the first direction. ``saved`` is empty or (K, batch, blocks, chunks, N, W).
    """
    width = 64 // u.itemsize
    length = u.shape[1]
    directions, readouts, modes = C.shape[0], C.shape[1], B.shape[1]
    chunks = (length + CHUNK - 1) // CHUNK
    entry = 3 * (modes + 2) * width
    rows = zeros((max(2, gaps.size) * entry,), u)
    ub = zeros((2 * CHUNK * width,), u)
    yb = zeros((2 * readouts * CHUNK * width,), u)
    Z = zeros((_plane(modes, width),), u)
    gap = np.ones((2, CHUNK), u.dtype)
    which = np.zeros((2, CHUNK), np.int64)
    for block in range(first, last):
        h0 = block * width
        matrix, system = gather_system(T, V, B, h0, width)
        bound = stiffness(matrix, system, alpha, width)
        stiffest = np.max(bound)
        factor_table(rows, matrix, system, gaps, alpha, modes, width)
        for d in range(directions):
            backwards = reverse != (d == 1)
            readout = gather_readout(C[d], h0, width)
            for b in range(b0, b1, 2):
                series = (b, min(b + 1, b1 - 1))
                X = zeros((_plane(modes, width),), u)
                if d == 0:
                    load_state(x, series[0], h0, X, 0)
                    load_state(x, series[1], h0, X, width)
                for c in range(chunks):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    for row in range(2):
                        s = series[row]
                        read(u, s, h0, span, ub, row * CHUNK * width)
                        gather_gaps(gaps, index, dt, d, s, length, span, row, gap, which)
                        for m in range(readouts if d > 0 else 0):
                            read(y[m], s, h0, span, yb, (2 * m + row) * CHUNK * width)
                        if saved.size > 0:
                            to = ((d * saved.shape[1] + s) * saved.shape[2] + block) * chunks + c
                            for n in range(modes):
                                state = load(X, (2 * (n + 1) + row) * width)
                                store(saved, (to * modes + n) * width, state)
                    if d == 0:
                        yb[:] = 0
                    for k in range(count):
                        at_a, at_b = which[0, k] * entry, which[1, k] * entry
                        if gaps.size == 0:
                            factor(
                                rows, at_a, at_b, matrix, system, gap[0, k], gap[1, k], alpha, modes, width
                            )
                        to = k * width
                        ya, yc = advance(
                            X,
                            0,
                            0,
                            Z,
                            Z,
                            -1,
                            matrix,
                            system,
                            bound,
                            max(gap[0, k], gap[1, k]) * stiffest > 1,
                            readout,
                            rows,
                            at_a,
                            at_b,
                            load(ub, to),
                            load(ub, to + CHUNK * width),
                            gap[0, k],
                            gap[1, k],
                            alpha,
                            modes,
                            width,
                        )
                        for m in range(readouts):
                            if m > 0:
                                ya, yc = read_out(X, 0, readout, m, modes, width)
                            to = (2 * m * CHUNK + k) * width
                            store(yb, to, load(yb, to) + ya)
                            to += CHUNK * width
                            store(yb, to, load(yb, to) + yc)
                    for row in range(2):
                        for m in range(readouts):
                            write(y[m], series[row], h0, span, yb, (2 * m + row) * CHUNK * width)
                if d == 0:
                    store_state(x, series[0], h0, X, 0)
                    store_state(x, series[1], h0, X, width)


@kernel
def backward_pass(
    u: Any,
    T: Any,
    V: Any,
    B: Any,
    C: Any,
    gaps: Any,
    index: Any,
    dt: Any,
    saved: Any,
    gy: Any,
    gx: Any,
    alpha: float,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    gu: Any,
    gT: Any,
    gV: Any,
    gB: Any,
    gC: Any,
) -> None:
    """Adjoint of `forward_pass`.

    ``gx`` (batch, H, N) holds the gradient of the final state and is renewed to that of the first one. The
    others are written, those of the system for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    directions, readouts, modes = C.shape[0], C.shape[1], B.shape[1]
    chunks = (length + CHUNK - 1) // CHUNK
    entry = 3 * (modes + 2) * width
    plane = _plane(modes, width)
    half = CHUNK * width
    rows = zeros((max(2, gaps.size) * entry,), u)
    ub = zeros((2 * half,), u)
    gub = zeros((2 * half,), u)
    gyb = zeros((2 * readouts * half,), u)
    Z = zeros((plane,), u)
    X = zeros(((CHUNK + 1) * plane,), u)
    zeta = zeros((CHUNK * plane,), u)
    E = zeros((PART * plane,), u)
    L = zeros((PART * plane,), u)
    G = zeros((plane,), u)
    gap = np.ones((2, CHUNK), u.dtype)
    which = np.zeros((2, CHUNK), np.int64)
    for block in range(first, last):
        h0 = block * width
        matrix, system = gather_system(T, V, B, h0, width)
        bound = stiffness(matrix, system, alpha, width)
        stiffest = np.max(bound)
        factor_table(rows, matrix, system, gaps, alpha, modes, width)
        g_matrix = zeros(matrix.shape, matrix)
        g_system = zeros(system.shape, system)
        for d in range(directions):
            backwards = reverse != (d == 1)
            readout = gather_readout(C[d], h0, width)
            g_readout = zeros(readout.shape, readout)
            for b in range(b0, b1, 2):
                series = (b, min(b + 1, b1 - 1))
                # A series without a partner is beside itself, where all gradients stay zero.
                counted = min(2, b1 - b)
                G[:] = 0
                gyb[:] = 0
                for row in range(counted if d == 0 else 0):
                    load_state(gx, series[row], h0, G, row * width)
                for c in range(chunks - 1, -1, -1):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    gub[:] = 0
                    for row in range(2):
                        s = series[row]
                        read(u, s, h0, span, ub, row * half)
                        gather_gaps(gaps, index, dt, d, s, length, span, row, gap, which)
                        origin = ((d * saved.shape[1] + s) * saved.shape[2] + block) * chunks + c
                        for n in range(modes):
                            state = load(saved, (origin * modes + n) * width)
                            store(X, (2 * (n + 1) + row) * width, state)
                    for row in range(counted):
                        for m in range(readouts):
                            read(gy[m], series[row], h0, span, gyb, (2 * m + row) * half)
                        if d > 0:
                            read(gu, series[row], h0, span, gub, row * half)
                    for k in range(count):
                        at_a, at_b = which[0, k] * entry, which[1, k] * entry
                        if gaps.size == 0:
                            factor(
                                rows, at_a, at_b, matrix, system, gap[0, k], gap[1, k], alpha, modes, width
                            )
                        advance(
                            X,
                            k * plane,
                            (k + 1) * plane,
                            Z,
                            zeta,
                            k * plane,
                            matrix,
                            system,
                            bound,
                            max(gap[0, k], gap[1, k]) * stiffest > 1,
                            readout,
                            rows,
                            at_a,
                            at_b,
                            load(ub, k * width),
                            load(ub, half + k * width),
                            gap[0, k],
                            gap[1, k],
                            alpha,
                            modes,
                            width,
                        )
                    for m in range(readouts):
                        collect_readout(X, plane, gyb, g_readout, m, count, modes, width)
                    for begin in range((count - 1) // PART * PART, -1, -PART):
                        end = min(begin + PART, count)
                        for k in range(end - 1, begin - 1, -1):
                            at_a, at_b = which[0, k] * entry, which[1, k] * entry
                            if gaps.size == 0:
                                factor(
                                    rows,
                                    at_a,
                                    at_b,
                                    matrix,
                                    system,
                                    gap[0, k],
                                    gap[1, k],
                                    alpha,
                                    modes,
                                    width,
                                )
                            now = (k - begin) * plane
                            to = k * width
                            for m in range(1, readouts):
                                ga, gc = load(gyb, to + 2 * m * half), load(gyb, to + (2 * m + 1) * half)
                                send_readout(G, readout, m, ga, gc, modes, width)
                            gua, guc = retreat(
                                G,
                                E,
                                L,
                                now,
                                matrix,
                                system,
                                bound,
                                max(gap[0, k], gap[1, k]) * stiffest > 1,
                                readout,
                                rows,
                                at_a,
                                at_b,
                                load(gyb, to),
                                load(gyb, to + half),
                                gap[0, k],
                                gap[1, k],
                                alpha,
                                modes,
                                width,
                            )
                            store(gub, to, load(gub, to) + gua)
                            store(gub, to + half, load(gub, to + half) + guc)
                        collect(E, L, zeta, plane, ub, begin, end, g_matrix, g_system, modes, width)
                    for row in range(counted):
                        write(gu, series[row], h0, span, gub, row * half)
                for row in range(counted if d == 0 else 0):
                    store_state(gx, series[row], h0, G, row * width)
            for w in range(min(width, channels - h0)):
                for m in range(readouts):
                    for n in range(modes):
                        gC[d, m, h0 + w, n] = g_readout[m, n + 1, w]
        for w in range(min(width, channels - h0)):
            for n in range(modes):
                gB[h0 + w, n] = g_system[n + 1, 3, w]
                for i in range(3):
                    gT[i, h0 + w, n] = g_matrix[n + 1, i, w]
                    gV[i, h0 + w, n] = g_system[n + 1, i, w]
