"""The two passes over a block of W channels, chunk by chunk in time.

The forward pass leaves the state before each chunk behind (``saved``) and the coupling ``v`` of every sample,
from which the backward pass recomputes the other states, so that no array of size (batch, L, H, N) ever
exists. A call handles blocks ``first`` to ``last`` of the channels and series ``b0`` to ``b1`` of the batch;
calls on different ranges may run at the same time.

K directions (one or two, the second opposite to the first and always from rest) have readouts of their own
and add up. Complex arrays arrive as real ones with a last axis of two. ``dt`` (K, batch, L) is empty for a
regular grid of gap 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.blocks import (
    feed_through,
    feed_through_adjoint,
    gather_rows,
    load_state,
    read,
    store_state,
    write,
)
from tsssm.ops.cpu.compiling import inline, kernel
from tsssm.ops.cpu.dplr import irregular, regular
from tsssm.ops.cpu.dplr.feedback import CHUNK, close_chunk, close_chunk_adjoint, invert, measure
from tsssm.ops.cpu.dplr.system import (
    discretise,
    discretise_adjoint,
    gather_readout,
    gather_system,
    impulse_response,
    pair,
    put_pair,
    scatter_system,
)
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import load, splat, store


@inline
def _read_gaps(dt: Any, span: Any, gaps: Any) -> None:
    """Gaps of a chunk, of which ``dt`` (L,) has all."""
    start, count, backwards = span
    for k in range(count):
        gaps[k] = dt[dt.size - 1 - start - k if backwards else start + k]


@kernel
def forward_pass(
    u: Any,
    Lambda: Any,
    P: Any,
    Q: Any,
    B: Any,
    C: Any,
    D: Any,
    dt: Any,
    x: Any,
    at_rest: bool,
    alpha: float,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    y: Any,
    saved: Any,
    v: Any,
    inverses: Any,
) -> None:
    """Outputs ``y`` (M, batch, L, H), states ``x`` (batch, H, N, 2) renewed, and what the adjoint needs.

    That is ``saved`` (K, batch, blocks, chunks, N, 2, W), ``v`` (K, R, batch, L, H) and on an irregular grid
    ``inverses`` (K, R^2, batch, L, H) of the systems that close the coupling; all empty if not wanted.
    ``x`` belongs to the first direction; ``at_rest`` says that it arrives as zeros.
    """
    width = 64 // u.itemsize
    length = u.shape[1]
    directions, readouts, rank, modes = C.shape[0], C.shape[1], P.shape[0], P.shape[2]
    even = dt.size == 0
    chunks = (length + CHUNK - 1) // CHUNK
    ub = zeros((CHUNK * width,), u)
    yb = zeros((readouts * CHUNK * width,), u)
    qb = zeros((rank * CHUNK * width,), u)
    vb = zeros((rank * CHUNK * width,), u)
    wb = zeros((rank * width,), u)
    Mb = zeros((rank * rank * width,), u)
    ib = zeros((rank * rank * CHUNK * width,), u)
    drive = zeros((modes, rank, 2, width), u)
    gaps = np.ones(CHUNK, u.dtype)
    for block in range(first, last):
        h0 = block * width
        system = gather_system(Lambda, P, Q, B, h0, width)
        feedthrough = gather_rows(D, readouts, h0)
        coefficients, _ = discretise(system, alpha, width)
        response = impulse_response(coefficients, CHUNK if even else 1, width)
        if even:
            invert(response, alpha, rank, ib, 0, width, width)
        for d in range(directions):
            backwards = reverse != (d == 1)
            readout = gather_readout(C[d], system.shape[0], h0, width)
            for b in range(b0, b1):
                state = zeros((system.shape[0], 2, width), u)
                if d == 0 and not at_rest:
                    load_state(x, b, h0, state)
                for c in range(chunks):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0)
                    for m in range(readouts):
                        if d == 0:
                            feed_through(ub, feedthrough, m, yb, m * CHUNK * width, count)
                        else:
                            read(y[m], b, h0, span, yb, m * CHUNK * width)
                    if saved.size > 0:
                        to = ((d * saved.shape[1] + b) * saved.shape[2] + block) * chunks + c
                        for n in range(2 * modes):
                            store(saved, (2 * modes * to + n) * width, load(state, n * width))
                    measure(system, state, wb, width)
                    if even:
                        regular.run_open(coefficients, state, ub, qb, count, width)
                        close_chunk(qb, wb, response, ib, alpha, count, vb, width)
                        regular.run_closed(coefficients, readout, state, ub, vb, yb, count, width)
                    else:
                        _read_gaps(dt[d, b], span, gaps)
                        irregular.advance(
                            system,
                            readout,
                            state,
                            gaps,
                            alpha,
                            ub,
                            wb,
                            qb,
                            Mb,
                            drive,
                            vb,
                            ib,
                            yb,
                            count,
                            width,
                        )
                    for m in range(readouts):
                        write(y[m], b, h0, span, yb, m * CHUNK * width)
                    if v.size > 0:
                        for r in range(rank):
                            write(v[d, r], b, h0, span, vb, r * CHUNK * width)
                    if inverses.size > 0:
                        for r in range(rank * rank):
                            write(inverses[d, r], b, h0, span, ib, r * CHUNK * width)
                if d == 0:
                    store_state(x, b, h0, state)


@kernel
def backward_pass(
    u: Any,
    Lambda: Any,
    P: Any,
    Q: Any,
    B: Any,
    C: Any,
    D: Any,
    dt: Any,
    saved: Any,
    v: Any,
    inverses: Any,
    gy: Any,
    gx: Any,
    alpha: float,
    reverse: bool,
    first: int,
    last: int,
    b0: int,
    b1: int,
    gu: Any,
    gLambda: Any,
    gP: Any,
    gQ: Any,
    gB: Any,
    gC: Any,
    gD: Any,
) -> None:
    """Adjoint of `forward_pass`.

    ``gx`` (batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first one.
    The others are written, those of the system for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    directions, readouts, rank, modes = C.shape[0], C.shape[1], P.shape[0], P.shape[2]
    even = dt.size == 0
    chunks = (length + CHUNK - 1) // CHUNK
    ub = zeros((CHUNK * width,), u)
    gub = zeros((CHUNK * width,), u)
    gyb = zeros((readouts * CHUNK * width,), u)
    vb = zeros((rank * CHUNK * width,), u)
    tb = zeros((rank * CHUNK * width,), u)
    gwb = zeros((rank * CHUNK * width,), u)
    gvb = zeros((rank * width,), u)
    ib = zeros((rank * rank * CHUNK * width,), u)
    X = zeros((CHUNK, 2, width), u)
    G = zeros((1 if even else modes, irregular.ROW, 2, width), u)
    F = zeros((0 if even else modes, irregular.ROW, 2, width), u)
    gaps = np.ones(CHUNK, u.dtype)
    before = splat(1.0 - alpha, u)
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system = gather_system(Lambda, P, Q, B, h0, width)
        feedthrough = gather_rows(D, readouts, h0)
        g_feedthrough = zeros((readouts, width), u)
        gradient = zeros(system.shape, u)
        coefficients, resolvents = discretise(system, alpha, width)
        response = impulse_response(coefficients, CHUNK if even else 1, width)
        if even:
            invert(response, alpha, rank, ib, 0, width, width)
        fields = system.shape[1]
        for d in range(directions):
            backwards = reverse != (d == 1)
            readout = gather_readout(C[d], system.shape[0], h0, width)
            g_readout = zeros(readout.shape, u)
            for b in range(b0, b1):
                carry = zeros((system.shape[0], 2, width), u)
                gvb[:] = 0
                if d == 0:
                    load_state(gx, b, h0, carry)
                for c in range(chunks - 1, -1, -1):
                    start = c * CHUNK
                    count = min(CHUNK, length - start)
                    span = (start, count, backwards)
                    read(u, b, h0, span, ub, 0)
                    for r in range(rank):
                        read(v[d, r], b, h0, span, vb, r * CHUNK * width)
                    for m in range(readouts):
                        read(gy[m], b, h0, span, gyb, m * CHUNK * width)
                    if d == 0:
                        gub[:] = 0
                        for m in range(readouts):
                            feed_through_adjoint(
                                ub, gyb, m * CHUNK * width, feedthrough, g_feedthrough, m, gub, count
                            )
                    else:
                        read(gu, b, h0, span, gub, 0)
                    origin = 2 * modes * (((d * saved.shape[1] + b) * saved.shape[2] + block) * chunks + c)
                    if even:
                        regular.run_open_adjoint(coefficients, readout, carry, gyb, tb, count, width)
                        close_chunk_adjoint(tb, gvb, response, ib, alpha, count, gwb, width)
                        for n in range(modes):
                            regular.run_closed_adjoint(
                                coefficients, readout, carry, n, gyb, gwb, gub, G, count, width
                            )
                            regular.collect(
                                coefficients,
                                gradient,
                                saved,
                                (origin + 2 * n) * width,
                                n,
                                ub,
                                vb,
                                gwb,
                                gyb,
                                G,
                                X,
                                g_readout,
                                count,
                                width,
                            )
                    else:
                        _read_gaps(dt[d, b], span, gaps)
                        for r in range(rank * rank):
                            read(inverses[d, r], b, h0, span, ib, r * CHUNK * width)
                        irregular.advance_adjoint(
                            system,
                            readout,
                            carry,
                            gaps,
                            alpha,
                            gyb,
                            gvb,
                            tb,
                            ib,
                            gwb,
                            gub,
                            G,
                            F,
                            count,
                            width,
                        )
                        for n in range(modes):
                            irregular.collect(
                                system,
                                gradient,
                                saved,
                                (origin + 2 * n) * width,
                                n,
                                alpha,
                                ub,
                                vb,
                                gwb,
                                gyb,
                                G[n],
                                F[n],
                                X,
                                g_readout,
                                count,
                                width,
                            )
                    write(gu, b, h0, span, gub, 0)
                if d == 0:
                    # The first v reads the state that the scan starts from, too.
                    for n in range(modes):
                        hr, hi = pair(carry, 2 * n * width, width)
                        xr, xi = pair(saved, (origin + 2 * n) * width, width)
                        for r in range(rank):
                            g = before * load(gvb, r * width)
                            at = (2 * n * fields + 4 + 2 * rank + 2 * r) * width
                            qr, qi = pair(system, at, width)
                            hr, hi = hr + g * qr, hi + g * qi
                            qr, qi = pair(gradient, at, width)
                            put_pair(gradient, at, width, qr + g * xr, qi + g * xi)
                        put_pair(carry, 2 * n * width, width, hr, hi)
                    store_state(gx, b, h0, carry)
            for w in range(lanes):
                for m in range(readouts):
                    for n in range(modes):
                        gC[d, m, h0 + w, n, 0] = g_readout[m, n, 0, w]
                        gC[d, m, h0 + w, n, 1] = g_readout[m, n, 1, w]
        if even:
            discretise_adjoint(system, resolvents, gradient, alpha, width)
        scatter_system(gradient, gLambda, gP, gQ, gB, h0, width)
        for w in range(lanes):
            for m in range(gD.shape[0]):
                gD[m, h0 + w] = g_feedthrough[m, w]
