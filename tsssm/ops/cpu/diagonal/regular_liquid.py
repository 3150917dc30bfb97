"""The liquid recurrence on a regular grid: a hold, one readout, from rest.

With one gap for all samples the states can be divided by Bbar, which the readout W = C Bbar takes over. With
the move m = Abar - 1 (``tsssm.ops.cpu.moves``) and the clipped input v of a sample (``tsssm.ops.cpu.bounds``)
that leaves

    x_k = x_{k-1} + u_k + (m + Bbar v_k) x_{k-1},        y_k = Re W x_k,

with no transition outside the unit disc. ``constants`` (N, 5, W) holds m, Bbar and the bound of each mode;
buffers are those of ``recurrence``.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.bounds import clipped, clipped_adjoint
from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.diagonal.plain import load_two, store_two
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.rows import A, B, accumulate, conj_times, times
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import N_SUMS


@maker
def gather_constants(moves: Any, scale: Any, bounds: Any, width: int) -> Any:
    """The constants: of moves over the one gap, of ``scale`` = B / lambda (N, 2, W) and of bounds (N, W)."""
    constants = zeros((scale.shape[0], 5, width), scale)
    for n in range(scale.shape[0]):
        at, to = 2 * n * width, 5 * n * width
        mr, mi = load(moves, at), load(moves, at + width)
        br, bi = times(mr, mi, load(scale, at), load(scale, at + width))
        store(constants, to, mr)
        store(constants, to + width, mi)
        store(constants, to + 2 * width, br)
        store(constants, to + 3 * width, bi)
        store(constants, to + 4 * width, load(bounds, n * width))
    return constants


@routine
def scale_by_input(scale: Any, constants: Any, width: int) -> None:
    """Make ``scale`` (N, 2, W) what states are divided by here, Bbar."""
    for n in range(scale.shape[0]):
        store(scale, 2 * n * width, load(constants, (5 * n + 2) * width))
        store(scale, (2 * n + 1) * width, load(constants, (5 * n + 3) * width))


@inline
def _constants(constants: Any, n: int, width: int) -> Any:
    """m, Bbar and the bound of mode ``n``; behind the last mode, those of the last."""
    at = 5 * min(n, constants.shape[0] - 1) * width
    return (
        load(constants, at),
        load(constants, at + width),
        load(constants, at + 2 * width),
        load(constants, at + 3 * width),
        load(constants, at + 4 * width),
    )


@inline
def _driven(mode: Any, x: Any, u: Any) -> Any:
    """The state after a sample."""
    mr, mi, br, bi, bound = mode
    xr, xi = x
    v = clipped(u, bound)
    gr, gi = mr + br * v, mi + bi * v
    return (xr + u) + gr * xr - gi * xi, xi + gr * xi + gi * xr


@routine
def run_liquid(
    u: Any, y: Any, constants: Any, weights: Any, state: Any, n: int, count: int, width: int
) -> None:
    """Four modes from ``n`` on over a chunk, read out into ``y``.

    Behind the last mode weights and state have room for more, which count for nothing.
    """
    at, two = 2 * n * width, 2 * width
    c0, c1 = _constants(constants, n, width), _constants(constants, n + 1, width)
    c2, c3 = _constants(constants, n + 2, width), _constants(constants, n + 3, width)
    w0r, w0i = load(weights, at), load(weights, at + width)
    w1r, w1i = load(weights, at + two), load(weights, at + two + width)
    w2r, w2i = load(weights, at + 2 * two), load(weights, at + 2 * two + width)
    w3r, w3i = load(weights, at + 3 * two), load(weights, at + 3 * two + width)
    x0 = load(state, at), load(state, at + width)
    x1 = load(state, at + two), load(state, at + two + width)
    x2 = load(state, at + 2 * two), load(state, at + 2 * two + width)
    x3 = load(state, at + 3 * two), load(state, at + 3 * two + width)
    for k in range(count):
        uk = load(u, k * width)
        x0, x1 = _driven(c0, x0, uk), _driven(c1, x1, uk)
        x2, x3 = _driven(c2, x2, uk), _driven(c3, x3, uk)
        yk = load(y, k * width) + w0r * x0[0] - w0i * x0[1] + w1r * x1[0] - w1i * x1[1]
        store(y, k * width, yk + (w2r * x2[0] - w2i * x2[1] + w3r * x3[0] - w3i * x3[1]))
    for i, x in enumerate((x0, x1, x2, x3)):
        store(state, at + i * two, x[0])
        store(state, at + i * two + width, x[1])


@routine
def advance_driven(
    X: Any, u: Any, saved: Any, origins: Any, constants: Any, n: int, count: int, width: int
) -> None:
    """States of modes ``n`` and ``n`` + 1 over a chunk, into the first and the second half of ``X``.

    ``origins`` are where the states before the chunk stand in ``saved``.
    """
    c, c_2 = _constants(constants, n, width), _constants(constants, n + 1, width)
    x, z = load_two(saved, origins, width)
    for k in range(count):
        store_two(X, k, width, x, z)
        uk = load(u, k * width)
        x, z = _driven(c, x, uk), _driven(c_2, z, uk)
    store_two(X, count, width, x, z)


@routine
def adjoint_driven(
    X: Any,
    half: int,
    gy: Any,
    gu: Any,
    u: Any,
    constants: Any,
    memory: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """Adjoint of `run_liquid` for one mode, whose states stand from ``half`` on in ``X``.

    ``memory`` is the weights, what later samples send back, (N + 3, 2, W), and the sums; the last two are
    renewed. The sums of a mode are the gradients of m and of Bbar in the transition, of the weights and of
    the bound. Two modes at once, as in `advance_driven`, would need more registers than there are.
    """
    weights, carry, sums = memory
    imag = (CHUNK + 1) * width
    at, to, last = 2 * n * width, 2 * N_SUMS * n * width, half + count * width
    mr, mi, br, bi, bound = _constants(constants, n, width)
    wr, wi = load(weights, at), load(weights, at + width)
    hr, hi = load(carry, at), load(carry, at + width)
    ar, ai, tr, ti, gr, gi, total = _load_sums(sums, to, width)
    xr, xi = load(X, last), load(X, imag + last)
    for k in range(count - 1, -1, -1):
        back = k * width
        g, uk = load(gy, back), load(u, back)
        gr, gi = gr + g * xr, gi - g * xi
        hr, hi = hr + g * wr, hi - g * wi
        xr, xi = load(X, half + back), load(X, half + imag + back)
        # Gradient of the transition, and what it sends to the clipped input.
        fr, fi = conj_times(xr, xi, hr, hi)
        v = clipped(uk, bound)
        inside, outside = clipped_adjoint(uk, v, br * fr + bi * fi)
        total = total + outside
        store(gu, back, load(gu, back) + (hr + inside))
        ar, ai, tr, ti = ar + fr, ai + fi, tr + v * fr, ti + v * fi
        cr, ci = mr + br * v, mi + bi * v
        hr, hi = hr + cr * hr + ci * hi, hi + cr * hi - ci * hr
    store(carry, at, hr)
    store(carry, at + width, hi)
    for i, value in enumerate((ar, ai, tr, ti, gr, gi, total)):
        store(sums, to + i * width, value)


@inline
def _load_sums(sums: Any, at: int, width: int) -> Any:
    return (
        load(sums, at),
        load(sums, at + width),
        load(sums, at + 2 * width),
        load(sums, at + 3 * width),
        load(sums, at + 4 * width),
        load(sums, at + 5 * width),
        load(sums, at + 6 * width),
    )


@routine
def collect_driven(
    sums: Any,
    g_scale: Any,
    scale: Any,
    readout: Any,
    grads: Any,
    plane: int,
    g_readout: Any,
    g_bounds: Any,
    width: int,
) -> None:
    """Send the sums of all modes to the gradients of readout, bounds and, in ``grads``, of Abar and Bbar.

    ``g_scale`` (N, 2, W) is the gradient of the scale, Bbar, that came by way of the final state.
    """
    for n in range(scale.shape[0]):
        at, of = 2 * n * width, 2 * N_SUMS * n * width
        ar, ai, br, bi, wr, wi, total = _load_sums(sums, of, width)
        gr, gi = conj_times(load(scale, at), load(scale, at + width), wr, wi)
        store(g_readout, at, gr)
        store(g_readout, at + width, gi)
        gr, gi = conj_times(load(readout, at), load(readout, at + width), wr, wi)
        br, bi = br + gr + load(g_scale, at), bi + gi + load(g_scale, at + width)
        accumulate(grads, plane, A, n * width, ar, ai)
        accumulate(grads, plane, B, n * width, br, bi)
        store(g_bounds, n * width, load(g_bounds, n * width) + total)
