"""The liquid recurrence where a sample has a move of its own: a hold, one readout, from rest.

As in ``plain`` the states are divided by the scale K = B / lambda, which the readout W = C K takes over. With
the move m of a sample and its clipped input v (``tsssm.ops.cpu.bounds``) that leaves

    x_k = x_{k-1} + m_k (c_k x_{k-1} + u_k),        c_k = 1 + K v_k,        y_k = Re W x_k,

with no transition outside the unit disc. Buffers and `bases` are those of ``plain``.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.bounds import clipped, clipped_adjoint
from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.diagonal.plain import load_two, store_two
from tsssm.ops.cpu.rows import conj_times
from tsssm.ops.cpu.simd import constant, load, splat, store
from tsssm.ops.cpu.sums import N_SUMS


@inline
def _mode(scale: Any, bounds: Any, n: int, width: int) -> Any:
    """K and the bound of mode ``n``; behind the last mode, those of the last."""
    n = min(n, bounds.shape[0] - 1)
    return load(scale, 2 * n * width), load(scale, (2 * n + 1) * width), load(bounds, n * width)


@inline
def _coupling(mode: Any, u: Any) -> Any:
    """The clipped input, and c."""
    kr, ki, bound = mode
    v = clipped(u, bound)
    return v, constant(v, "one") + kr * v, ki * v


@inline
def _moved(mode: Any, moves: Any, at: int, width: int, x: Any, u: Any) -> Any:
    """The state after a sample."""
    xr, xi = x
    _, cr, ci = _coupling(mode, u)
    pr, pi = u + cr * xr - ci * xi, cr * xi + ci * xr
    mr, mi = load(moves, at), load(moves, at + width)
    return xr + mr * pr - mi * pi, xi + mr * pi + mi * pr


@routine
def run_coupled(
    u: Any,
    y: Any,
    moves: Any,
    bases: Any,
    index: Any,
    scale: Any,
    bounds: Any,
    weights: Any,
    state: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """Modes ``n`` and ``n`` + 1 over a chunk, read out into ``y``; their moves start at ``bases``."""
    at, two = 2 * n * width, 2 * width
    c, c_2 = _mode(scale, bounds, n, width), _mode(scale, bounds, n + 1, width)
    wr, wi = load(weights, at), load(weights, at + width)
    vr, vi = load(weights, at + two), load(weights, at + two + width)
    x = load(state, at), load(state, at + width)
    z = load(state, at + two), load(state, at + two + width)
    for k in range(count):
        row, uk = two * index[k], load(u, k * width)
        x = _moved(c, moves, bases[0] + row, width, x, uk)
        z = _moved(c_2, moves, bases[1] + row, width, z, uk)
        yk = load(y, k * width) + wr * x[0] - wi * x[1]
        store(y, k * width, yk + (vr * z[0] - vi * z[1]))
    store(state, at, x[0])
    store(state, at + width, x[1])
    store(state, at + two, z[0])
    store(state, at + two + width, z[1])


@routine
def advance_coupled(
    X: Any,
    u: Any,
    saved: Any,
    origins: Any,
    moves: Any,
    bases: Any,
    index: Any,
    scale: Any,
    bounds: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """States of modes ``n`` and ``n`` + 1 over a chunk, into the first and the second half of ``X``.

    ``origins`` are where the states before the chunk stand in ``saved``.
    """
    c, c_2 = _mode(scale, bounds, n, width), _mode(scale, bounds, n + 1, width)
    x, z = load_two(saved, origins, width)
    for k in range(count):
        store_two(X, k, width, x, z)
        row, uk = 2 * index[k] * width, load(u, k * width)
        x = _moved(c, moves, bases[0] + row, width, x, uk)
        z = _moved(c_2, moves, bases[1] + row, width, z, uk)
    store_two(X, count, width, x, z)


@routine
def adjoint_coupled(
    X: Any,
    half: int,
    gy: Any,
    gu: Any,
    u: Any,
    moves: Any,
    base: int,
    index: Any,
    delta: Any,
    scale: Any,
    bounds: Any,
    memory: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """Adjoint of `run_coupled` for one mode, whose states stand from ``half`` on in ``X``.

    ``memory`` is that of `adjoint_driven`. The sums of a mode are T and that of the weights, as in ``plain``,
    and the gradients of K in c and of the bound.
    """
    weights, carry, sums = memory
    imag = (CHUNK + 1) * width
    at, to, last = 2 * n * width, 2 * N_SUMS * n * width, half + count * width
    mode = _mode(scale, bounds, n, width)
    wr, wi = load(weights, at), load(weights, at + width)
    hr, hi = load(carry, at), load(carry, at + width)
    tr, ti, gr, gi = (
        load(sums, to),
        load(sums, to + width),
        load(sums, to + 2 * width),
        load(sums, to + 3 * width),
    )
    sr, si, total = load(sums, to + 4 * width), load(sums, to + 5 * width), load(sums, to + 6 * width)
    xr, xi = load(X, last), load(X, imag + last)
    for k in range(count - 1, -1, -1):
        back, row = k * width, base + 2 * index[k] * width
        g, uk, d = load(gy, back), load(u, back), splat(delta[k], wr)
        gr, gi = gr + g * xr, gi - g * xi
        hr, hi = hr + g * wr, hi - g * wi
        xr, xi = load(X, half + back), load(X, half + imag + back)
        v, cr, ci = _coupling(mode, uk)
        # What is moved, and its gradient q.
        pr, pi = uk + cr * xr - ci * xi, cr * xi + ci * xr
        qr, qi = conj_times(load(moves, row), load(moves, row + width), hr, hi)
        # The derivative of m by z is 1 + m.
        er, ei = d * (hr + qr), d * (hi + qi)
        tr, ti = tr + er * pr + ei * pi, ti + ei * pr - er * pi
        fr, fi = conj_times(xr, xi, qr, qi)
        sr, si = sr + v * fr, si + v * fi
        inside, outside = clipped_adjoint(uk, v, mode[0] * fr + mode[1] * fi)
        total = total + outside
        store(gu, back, load(gu, back) + (qr + inside))
        hr, hi = hr + cr * qr + ci * qi, hi + cr * qi - ci * qr
    store(carry, at, hr)
    store(carry, at + width, hi)
    for i, value in enumerate((tr, ti, gr, gi, sr, si, total)):
        store(sums, to + i * width, value)


@routine
def collect_coupled(sums: Any, g_scale: Any, g_bounds: Any, width: int) -> None:
    """Send the sums that ``plain.collect_moves`` does not know to the gradients of K and of the bounds."""
    for n in range(g_bounds.shape[0]):
        at, of = 2 * n * width, 2 * N_SUMS * n * width
        store(g_scale, at, load(g_scale, at) + load(sums, of + 4 * width))
        store(g_scale, at + width, load(g_scale, at + width) + load(sums, of + 5 * width))
        store(g_bounds, n * width, load(g_bounds, n * width) + load(sums, of + 6 * width))
