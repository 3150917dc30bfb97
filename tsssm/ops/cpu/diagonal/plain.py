"""The recurrence of a plain scan with a row for every sample: one readout, a hold or a transform, from rest.

Most calls are plain, and they are spared some arithmetic. The states are divided by the input vector, which
the readout W = C B takes over, and the gradients of a mode are collected in a few sums instead of a row for
every distinct gap. Buffers are those of ``recurrence``; ``delta`` holds the gaps of a chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.rows import A, D, E, P, conj_times, get, times
from tsssm.ops.cpu.simd import constant, load, splat, store
from tsssm.ops.cpu.sums import N_SUMS, is_slow


@njit(nogil=True)
def weigh(system: Any, readout: Any, width: int) -> Any:
    """The first readout times the input vector, W = C B, of all modes: (N, 2, W)."""
    weights = np.empty(readout.shape[1:], readout.dtype)
    for n in range(system.shape[0]):
        at, to = 2 * n * width, (4 * n + 2) * width
        wr, wi = times(
            load(readout, at), load(readout, at + width), load(system, to), load(system, to + width)
        )
        store(weights, at, wr)
        store(weights, at + width, wi)
    return weights


@njit(nogil=True)
def run_rows(
    u: Any,
    y: Any,
    rows: Any,
    plane: int,
    bases: Any,
    index: Any,
    weights: Any,
    state: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """Modes n and n + 1 over a chunk, read out into ``y``; ``bases`` are where the rows of each start.

    Two modes at once, because each waits for its own last product. Behind the last mode the state has room
    for one more, which is computed like the last one and counts for nothing.
    """
    at, at_2 = 2 * n * width, 2 * (n + 1) * width
    wr, wi = load(weights, at), load(weights, at + width)
    vr, vi = wr - wr, wi - wi
    if n + 1 < weights.shape[0]:
        vr, vi = load(weights, at_2), load(weights, at_2 + width)
    xr, xi = load(state, at), load(state, at + width)
    zr, zi = load(state, at_2), load(state, at_2 + width)
    for k in range(count):
        row = index[k] * width
        uk = load(u, k * width)
        ar, ai = get(rows, plane, A, bases[0] + row)
        pr, pi = get(rows, plane, P, bases[0] + row)
        xr, xi = pr * uk + ar * xr - ai * xi, pi * uk + ar * xi + ai * xr
        ar, ai = get(rows, plane, A, bases[1] + row)
        pr, pi = get(rows, plane, P, bases[1] + row)
        zr, zi = pr * uk + ar * zr - ai * zi, pi * uk + ar * zi + ai * zr
        store(y, k * width, load(y, k * width) + wr * xr - wi * xi + vr * zr - vi * zi)
    store(state, at, xr)
    store(state, at + width, xi)
    store(state, at_2, zr)
    store(state, at_2 + width, zi)


@njit(forceinline=True)
def states_rows(
    X: Any, u: Any, x: Any, rows: Any, plane: int, base: int, index: Any, count: int, width: int
) -> None:
    """States of one mode over a chunk, from ``x`` on."""
    imag = (CHUNK + 1) * width
    xr, xi = x
    store(X, 0, xr)
    store(X, imag, xi)
    for k in range(count):
        row = base + index[k] * width
        uk = load(u, k * width)
        ar, ai = get(rows, plane, A, row)
        pr, pi = get(rows, plane, P, row)
        xr, xi = pr * uk + ar * xr - ai * xi, pi * uk + ar * xi + ai * xr
        store(X, (k + 1) * width, xr)
        store(X, imag + (k + 1) * width, xi)


@njit(forceinline=True)
def adjoint_rows(
    X: Any,
    gy: Any,
    gu: Any,
    u: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    delta: Any,
    w: Any,
    h: Any,
    sums: Any,
    n: int,
    count: int,
    width: int,
    hold: bool,
    slow: bool,
) -> Any:
    """Adjoint of `run_rows` for one mode; ``h`` is what later samples send back, and is returned renewed.

    With a hold the transition is its own derivative; with a transform that is a field of the rows. The
    derivative of the input coefficient follows from the same sums, unless the mode `is_slow`.
    """
    imag = (CHUNK + 1) * width
    at = 2 * N_SUMS * n * width
    tr, ti = load(sums, at), load(sums, at + width)
    ir, ii = load(sums, at + 2 * width), load(sums, at + 3 * width)
    sr, si = load(sums, at + 4 * width), load(sums, at + 5 * width)
    gr, gi = load(sums, at + 6 * width), load(sums, at + 7 * width)
    wr, wi = w
    hr, hi = h
    xr, xi = load(X, count * width), load(X, imag + count * width)
    for k in range(count - 1, -1, -1):
        row = base + index[k] * width
        g = load(gy, k * width)
        uk = load(u, k * width)
        gr, gi = gr + g * xr, gi - g * xi
        hr, hi = hr + g * wr, hi - g * wi
        xr, xi = load(X, k * width), load(X, imag + k * width)
        pr, pi = get(rows, plane, P, row)
        pr, pi = conj_times(pr, pi, hr, hi)
        store(gu, k * width, load(gu, k * width) + pr)
        ar, ai = get(rows, plane, A, row)
        ar, ai = conj_times(ar, ai, hr, hi)
        if slow or not hold:
            dr, di = get(rows, plane, D, row)
            pr, pi = conj_times(dr, di, hr, hi)
        sr, si = sr + uk * pr, si + uk * pi
        er, ei = ar, ai
        if not hold:
            er, ei = get(rows, plane, E, row)
            er, ei = conj_times(er, ei, hr, hi)
        d = splat(delta[k], g)
        er, ei = d * er, d * ei
        tr, ti = tr + er * xr + ei * xi, ti + ei * xr - er * xi
        ir, ii = ir + uk * er, ii + uk * ei
        hr, hi = ar, ai
    store(sums, at, tr)
    store(sums, at + width, ti)
    store(sums, at + 2 * width, ir)
    store(sums, at + 3 * width, ii)
    store(sums, at + 4 * width, sr)
    store(sums, at + 5 * width, si)
    store(sums, at + 6 * width, gr)
    store(sums, at + 7 * width, gi)
    return hr, hi


@njit(nogil=True)
def collect_sums(
    sums: Any,
    system: Any,
    steps: Any,
    readout: Any,
    g_system: Any,
    g_steps: Any,
    g_readout: Any,
    width: int,
    hold: bool,
    typical: float,
) -> None:
    """Send the sums of all modes to the gradients of the system, of the steps and of the readout."""
    s = load(steps, 0)
    one = constant(s, "one")
    for n in range(system.shape[0]):
        at, to = 2 * N_SUMS * n * width, 4 * n * width
        lr, li = load(system, to), load(system, to + width)
        br, bi = load(system, to + 2 * width), load(system, to + 3 * width)
        tr, ti = load(sums, at), load(sums, at + width)
        sr, si = load(sums, at + 4 * width), load(sums, at + 5 * width)
        if hold and not is_slow(system, steps, n, width, typical):
            # What was summed is phi1, and this is the rest of its derivative.
            scale = one / (lr * lr + li * li)
            sr, si = s * load(sums, at + 2 * width) - sr, s * load(sums, at + 3 * width) - si
            sr, si = times(lr * scale, li * scale, sr, si)
        store(g_system, to, load(g_system, to) + s * tr + sr)
        store(g_system, to + width, load(g_system, to + width) + s * ti + si)
        store(g_steps, 0, load(g_steps, 0) + lr * tr + li * ti + load(sums, at + 2 * width))
        # The readout was W = C B.
        wr, wi = load(sums, at + 6 * width), load(sums, at + 7 * width)
        cr, ci = load(readout, 2 * n * width), load(readout, (2 * n + 1) * width)
        gr, gi = conj_times(cr, ci, wr, wi)
        store(g_system, to + 2 * width, load(g_system, to + 2 * width) + gr)
        store(g_system, to + 3 * width, load(g_system, to + 3 * width) + gi)
        gr, gi = conj_times(br, bi, wr, wi)
        store(g_readout, 2 * n * width, gr)
        store(g_readout, (2 * n + 1) * width, gi)
