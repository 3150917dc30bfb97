"""The two passes over a block of W channels: chunk by chunk in time, mode by mode within a chunk.

States live in registers and in buffers of one chunk. The forward pass leaves the state before each chunk
behind (``saved``), from which the backward pass recomputes the others, so that no array of size
(batch, L, H, N) ever exists. A call handles blocks ``first`` to ``last`` of the channels and series ``b0``
to ``b1`` of the batch; calls on different ranges may run at the same time.

Complex arrays arrive as real ones with a last axis of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tsssm.ops.cpu.recurrence import (
    CHUNK,
    adjoint,
    adjoint_constant,
    advance,
    advance_constant,
    read_out,
    read_out_adjoint,
)
from tsssm.ops.cpu.rows import FOH, N_FIELDS, fill, pull_back
from tsssm.ops.cpu.simd import load, splat, store


@njit(forceinline=True)
def _gather_system(A: Any, B: Any, step: Any, h0: int, width: int) -> Any:
    """(A, B) of a block as flat registers: Re A, Im A, Re B, Im B of each mode, and the steps."""
    channels, modes = A.shape[0], A.shape[1]
    system = np.zeros((modes, 4, width), A.dtype)
    system[:, 0] = -1.0  # lanes without a channel: any stable system will do
    steps = np.ones(width, A.dtype)
    for w in range(min(width, channels - h0)):
        steps[w] = step[h0 + w]
        for n in range(modes):
            system[n, 0, w] = A[h0 + w, n, 0]
            system[n, 1, w] = A[h0 + w, n, 1]
            if A[h0 + w, n, 0] == 0 and A[h0 + w, n, 1] == 0:
                # An integrator. Far below rounding, and 1/A stays finite.
                system[n, 0, w] = -1e-20
            system[n, 2, w] = B[h0 + w, n, 0]
            system[n, 3, w] = B[h0 + w, n, 1]
    return system, steps


@njit(forceinline=True)
def _gather_readout(C: Any, h0: int, width: int) -> Any:
    readouts, channels, modes = C.shape[0], C.shape[1], C.shape[2]
    out = np.zeros((readouts, modes, 2, width), C.dtype)
    for m in range(readouts):
        for w in range(min(width, channels - h0)):
            for n in range(modes):
                out[m, n, 0, w] = C[m, h0 + w, n, 0]
                out[m, n, 1, w] = C[m, h0 + w, n, 1]
    return out


@njit(forceinline=True)
def _mode(system: Any, n: int, width: int) -> Any:
    at = 4 * n * width
    return (
        load(system, at),
        load(system, at + width),
        load(system, at + 2 * width),
        load(system, at + 3 * width),
    )


@njit(forceinline=True)
def _fill_table(
    rows: Any,
    plane: int,
    gaps: Any,
    system: Any,
    steps: Any,
    width: int,
    kind: int,
    alpha: float,
    gradient: bool,
) -> None:
    for n in range(system.shape[0]):
        for r in range(gaps.size):
            s = load(steps, 0) * splat(gaps[r], steps)
            fill(
                rows,
                plane,
                (n * gaps.size + r) * width,
                width,
                kind,
                alpha,
                gradient,
                _mode(system, n, width),
                s,
            )


@njit(forceinline=True)
def _read(
    source: Any, b: int, start: int, count: int, h0: int, reverse: bool, out: Any, offset: int, width: int
) -> None:
    """Copy a chunk of (batch, L, H) into a buffer, in the order of the scan."""
    length, channels = source.shape[1], source.shape[2]
    lanes = min(width, channels - h0)
    for k in range(count):
        t = length - 1 - start - k if reverse else start + k
        if lanes == width:
            store(out, offset + k * width, load(source, (b * length + t) * channels + h0))
        else:
            for w in range(lanes):
                out[offset + k * width + w] = source[b, t, h0 + w]


@njit(forceinline=True)
def _write(
    target: Any, b: int, start: int, count: int, h0: int, reverse: bool, values: Any, offset: int, width: int
) -> None:
    length, channels = target.shape[1], target.shape[2]
    lanes = min(width, channels - h0)
    for k in range(count):
        t = length - 1 - start - k if reverse else start + k
        if lanes == width:
            store(target, (b * length + t) * channels + h0, load(values, offset + k * width))
        else:
            for w in range(lanes):
                target[b, t, h0 + w] = values[offset + k * width + w]


@njit(nogil=True, cache=True)
def forward_pass(
    u: Any,
    v: Any,
    A: Any,
    B: Any,
    C: Any,
    step: Any,
    gaps: Any,
    index: Any,
    dt: Any,
    x: Any,
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
    """Outputs ``y`` (M, batch, L, H), states ``x`` (batch, H, N, 2) renewed in place, states ``saved``.

    ``gaps`` are the distinct gaps and ``index`` (batch, L) says which one a sample has; if ``gaps`` is empty,
    ``dt`` (batch, L) holds the gap of every sample. ``saved`` is empty or (batch, blocks, chunks, N, 2, W).
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    modes, readouts = A.shape[1], C.shape[0]
    table, constant, foh = gaps.size > 0, gaps.size == 1, kind == FOH
    here = np.arange(CHUNK)
    where_row = np.zeros(CHUNK, np.int64)
    chunks = (length + CHUNK - 1) // CHUNK
    plane = (modes * gaps.size if table else CHUNK) * width
    rows = np.empty(2 * N_FIELDS * plane, u.dtype)
    ub = np.zeros(CHUNK * width, u.dtype)
    vb = np.zeros(CHUNK * width, u.dtype)
    yb = np.empty(readouts * CHUNK * width, u.dtype)
    X = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    imag = (CHUNK + 1) * width
    state = np.zeros((modes, 2, width), u.dtype)
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system, steps = _gather_system(A, B, step, h0, width)
        readout = _gather_readout(C, h0, width)
        if table:
            _fill_table(rows, plane, gaps, system, steps, width, kind, alpha, False)
        for b in range(b0, b1):
            for n in range(modes):
                for w in range(lanes):
                    state[n, 0, w] = x[b, h0 + w, n, 0]
                    state[n, 1, w] = x[b, h0 + w, n, 1]
            for c in range(chunks):
                start = c * CHUNK
                count = min(CHUNK, length - start)
                _read(u, b, start, count, h0, reverse, ub, 0, width)
                if foh:
                    _read(v, b, start, count, h0, reverse, vb, 0, width)
                if table and not constant:
                    for k in range(count):
                        where_row[k] = index[b, length - 1 - start - k if reverse else start + k]
                yb[:] = 0
                for n in range(modes):
                    at = 2 * n * width
                    store(X, 0, load(state, at))
                    store(X, imag, load(state, at + width))
                    if saved.size > 0:
                        to = (((b * saved.shape[1] + block) * chunks + c) * modes + n) * 2 * width
                        store(saved, to, load(state, at))
                        store(saved, to + width, load(state, at + width))
                    base = n * gaps.size * width
                    if not table:
                        for k in range(count):
                            gap = dt[b, length - 1 - start - k if reverse else start + k]
                            s = load(steps, 0) * splat(gap, steps)
                            fill(
                                rows,
                                plane,
                                k * width,
                                width,
                                kind,
                                alpha,
                                False,
                                _mode(system, n, width),
                                s,
                            )
                    if constant and not foh and not liquid:
                        advance_constant(X, ub, rows, plane, base, count, width)
                    else:
                        which = where_row if table else here
                        advance(X, ub, vb, rows, plane, base, which, count, width, foh, liquid)
                    for m in range(readouts):
                        at_c = (m * modes + n) * 2 * width
                        cr, ci = load(readout, at_c), load(readout, at_c + width)
                        read_out(X, cr, ci, yb, m * CHUNK * width, count, width)
                    store(state, at, load(X, count * width))
                    store(state, at + width, load(X, imag + count * width))
                for m in range(readouts):
                    _write(y[m], b, start, count, h0, reverse, yb, m * CHUNK * width, width)
            for n in range(modes):
                for w in range(lanes):
                    x[b, h0 + w, n, 0] = state[n, 0, w]
                    x[b, h0 + w, n, 1] = state[n, 1, w]


@njit(nogil=True, cache=True)
def backward_pass(
    u: Any,
    v: Any,
    A: Any,
    B: Any,
    C: Any,
    step: Any,
    gaps: Any,
    index: Any,
    dt: Any,
    saved: Any,
    gy: Any,
    gx: Any,
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
    gstep: Any,
) -> None:
    """Adjoint of `forward_pass`.

    ``gx`` (batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first one;
    ``gu``, ``gv`` are written, the gradients of the system are written for this range of series.
    """
    width = 64 // u.itemsize
    length, channels = u.shape[1], u.shape[2]
    modes, readouts = A.shape[1], C.shape[0]
    table, constant, foh = gaps.size > 0, gaps.size == 1, kind == FOH
    here = np.arange(CHUNK)
    where_row = np.zeros(CHUNK, np.int64)
    chunks = (length + CHUNK - 1) // CHUNK
    plane = (modes * gaps.size if table else CHUNK) * width
    rows = np.empty(2 * N_FIELDS * plane, u.dtype)
    grads = np.empty(6 * plane, u.dtype)
    ub = np.zeros(CHUNK * width, u.dtype)
    vb = np.zeros(CHUNK * width, u.dtype)
    gub = np.empty(CHUNK * width, u.dtype)
    gvb = np.empty(CHUNK * width, u.dtype)
    gyb = np.zeros(readouts * CHUNK * width, u.dtype)
    X = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    G = np.empty(2 * (CHUNK + 1) * width, u.dtype)
    imag = (CHUNK + 1) * width
    carry = np.zeros((modes, 2, width), u.dtype)
    for block in range(first, last):
        h0 = block * width
        lanes = min(width, channels - h0)
        system, steps = _gather_system(A, B, step, h0, width)
        readout = _gather_readout(C, h0, width)
        g_system = np.zeros((modes, 4, width), u.dtype)
        g_readout = np.zeros((readouts, modes, 2, width), u.dtype)
        g_steps = np.zeros(width, u.dtype)
        grads[:] = 0
        if table:
            _fill_table(rows, plane, gaps, system, steps, width, kind, alpha, True)
        for b in range(b0, b1):
            for n in range(modes):
                for w in range(lanes):
                    carry[n, 0, w] = gx[b, h0 + w, n, 0]
                    carry[n, 1, w] = gx[b, h0 + w, n, 1]
            for c in range(chunks - 1, -1, -1):
                start = c * CHUNK
                count = min(CHUNK, length - start)
                _read(u, b, start, count, h0, reverse, ub, 0, width)
                if foh:
                    _read(v, b, start, count, h0, reverse, vb, 0, width)
                    gvb[:] = 0
                for m in range(readouts):
                    _read(gy[m], b, start, count, h0, reverse, gyb, m * CHUNK * width, width)
                if table and not constant:
                    for k in range(count):
                        where_row[k] = index[b, length - 1 - start - k if reverse else start + k]
                gub[:] = 0
                for n in range(modes):
                    at = 2 * n * width
                    base = n * gaps.size * width
                    mode = _mode(system, n, width)
                    if not table:
                        for k in range(count):
                            gap = dt[b, length - 1 - start - k if reverse else start + k]
                            s = load(steps, 0) * splat(gap, steps)
                            fill(rows, plane, k * width, width, kind, alpha, True, mode, s)
                    origin = (((b * saved.shape[1] + block) * chunks + c) * modes + n) * 2 * width
                    store(X, 0, load(saved, origin))
                    store(X, imag, load(saved, origin + width))
                    which = where_row if table else here
                    if constant and not foh and not liquid:
                        advance_constant(X, ub, rows, plane, base, count, width)
                    else:
                        advance(X, ub, vb, rows, plane, base, which, count, width, foh, liquid)
                    G[:] = 0
                    for m in range(readouts):
                        at_c = (m * modes + n) * 2 * width
                        gcr, gci = read_out_adjoint(
                            X,
                            G,
                            load(readout, at_c),
                            load(readout, at_c + width),
                            gyb,
                            m * CHUNK * width,
                            count,
                            width,
                            load(g_readout, at_c),
                            load(g_readout, at_c + width),
                        )
                        store(g_readout, at_c, gcr)
                        store(g_readout, at_c + width, gci)
                    hr, hi = load(carry, at), load(carry, at + width)
                    if constant and not foh and not liquid:
                        hr, hi = adjoint_constant(
                            X, G, ub, gub, rows, grads, plane, base, count, width, hr, hi
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
                            count,
                            width,
                            foh,
                            liquid,
                            hr,
                            hi,
                        )
                    store(carry, at, hr)
                    store(carry, at + width, hi)
                    if not table:
                        for k in range(count):
                            gap = dt[b, length - 1 - start - k if reverse else start + k]
                            _collect(
                                rows,
                                grads,
                                plane,
                                k * width,
                                kind,
                                mode,
                                steps,
                                gap,
                                g_system,
                                g_steps,
                                n,
                                width,
                            )
                _write(gu, b, start, count, h0, reverse, gub, 0, width)
                if foh:
                    _write(gv, b, start, count, h0, reverse, gvb, 0, width)
            for n in range(modes):
                for w in range(lanes):
                    gx[b, h0 + w, n, 0] = carry[n, 0, w]
                    gx[b, h0 + w, n, 1] = carry[n, 1, w]
        if table:
            for n in range(modes):
                mode = _mode(system, n, width)
                for r in range(gaps.size):
                    at = (n * gaps.size + r) * width
                    _collect(
                        rows,
                        grads,
                        plane,
                        at,
                        kind,
                        mode,
                        steps,
                        gaps[r],
                        g_system,
                        g_steps,
                        n,
                        width,
                    )
        for w in range(lanes):
            gstep[h0 + w] = g_steps[w]
            for n in range(modes):
                gA[h0 + w, n, 0] = g_system[n, 0, w]
                gA[h0 + w, n, 1] = g_system[n, 1, w]
                gB[h0 + w, n, 0] = g_system[n, 2, w]
                gB[h0 + w, n, 1] = g_system[n, 3, w]
                for m in range(readouts):
                    gC[m, h0 + w, n, 0] = g_readout[m, n, 0, w]
                    gC[m, h0 + w, n, 1] = g_readout[m, n, 1, w]


@njit(forceinline=True)
def _collect(
    rows: Any,
    grads: Any,
    plane: int,
    at: int,
    kind: int,
    mode: Any,
    steps: Any,
    gap: float,
    g_system: Any,
    g_steps: Any,
    n: int,
    width: int,
) -> None:
    """Send the gradients of one row to the system and clear them."""
    delta = splat(gap, steps)
    glr, gli, gbr, gbi, gs = pull_back(rows, grads, plane, at, kind, mode, load(steps, 0) * delta)
    to = 4 * n * width
    store(g_system, to, load(g_system, to) + glr)
    store(g_system, to + width, load(g_system, to + width) + gli)
    store(g_system, to + 2 * width, load(g_system, to + 2 * width) + gbr)
    store(g_system, to + 3 * width, load(g_system, to + 3 * width) + gbi)
    store(g_steps, 0, load(g_steps, 0) + delta * gs)
