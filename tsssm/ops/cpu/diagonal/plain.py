"""The recurrence of a plain scan: a hold or a transform, one readout, from rest.

Most calls are plain, and they are spared much arithmetic. States are divided by the scale B / lambda, which
the readout W = C B / lambda takes over; with the move m = Abar - 1 of a sample (``tsssm.ops.cpu.moves``) that
leaves

    x_k = x_{k-1} + m_k (x_{k-1} + u_k),        y_k = Re W x_k,

and the gradients of a mode need two sums, however many gaps there are. Not for a mode that `is_slow`: the
two parts that the gradient of its lambda has cancel. Buffers are those of ``recurrence``; ``moves`` holds
the real and the imaginary part of a sample side by side, ``delta`` the gaps of a chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.blocks import CHUNK, load_mode
from tsssm.ops.cpu.compiling import inline, kernel, maker, routine
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.moves import GROUP
from tsssm.ops.cpu.rows import conj_times, inverse, times
from tsssm.ops.cpu.simd import load, splat, store
from tsssm.ops.cpu.sums import N_SUMS, SLOW, is_slow


@kernel
def any_slow(A: Any, step: Any, duration: float) -> bool:
    """Whether some mode of the system (H, N, 2) `is_slow` in a series of this ``duration``."""
    for h in range(A.shape[0]):
        for n in range(A.shape[1]):
            if duration * step[h] * max(abs(A[h, n, 0]), abs(A[h, n, 1])) < SLOW:
                return True
    return False


@maker
def quick_groups(system: Any, steps: Any, width: int, duration: float) -> Any:
    """Which groups of modes can be computed here, given the ``duration`` of a series."""
    modes = system.shape[0]
    quick = np.ones((modes + GROUP - 1) // GROUP, np.bool_)
    for n in range(modes):
        if is_slow(system, steps, n, width, duration):
            quick[n // GROUP] = False
    return quick


@maker
def scale_states(system: Any, width: int) -> Any:
    """B / lambda of all modes: (N, 2, W)."""
    scale = zeros((system.shape[0], 2, width), system)
    for n in range(system.shape[0]):
        lr, li, br, bi = load_mode(system, n, width)
        ir, ii = inverse(lr, li)
        sr, si = times(br, bi, ir, ii)
        store(scale, 2 * n * width, sr)
        store(scale, (2 * n + 1) * width, si)
    return scale


@maker
def weigh(scale: Any, readout: Any, width: int) -> Any:
    """The first readout of the scaled states, with room behind the last mode: (N + GROUP - 1, 2, W)."""
    weights = zeros((scale.shape[0] + GROUP - 1, 2, width), scale)
    for at in range(0, scale.size, 2 * width):
        wr, wi = times(load(readout, at), load(readout, at + width), load(scale, at), load(scale, at + width))
        store(weights, at, wr)
        store(weights, at + width, wi)
    return weights


@inline
def _moved(moves: Any, at: int, width: int, xr: Any, xi: Any, u: Any) -> Any:
    """The state x after a move."""
    mr, mi = load(moves, at), load(moves, at + width)
    sr = xr + u
    return xr + mr * sr - mi * xi, xi + mr * xi + mi * sr


@routine
def run_moves(
    u: Any,
    y: Any,
    moves: Any,
    bases: Any,
    index: Any,
    weights: Any,
    state: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """A group of modes from ``n`` on over a chunk, read out into ``y``; their moves start at ``bases``.

    Four modes at once, because each waits for its own last product. Behind the last mode weights and state
    have room for more, which count for nothing.
    """
    at, two, line = 2 * n * width, 2 * width, width
    w0r, w0i = load(weights, at), load(weights, at + line)
    w1r, w1i = load(weights, at + two), load(weights, at + two + line)
    w2r, w2i = load(weights, at + 2 * two), load(weights, at + 2 * two + line)
    w3r, w3i = load(weights, at + 3 * two), load(weights, at + 3 * two + line)
    x0r, x0i = load(state, at), load(state, at + line)
    x1r, x1i = load(state, at + two), load(state, at + two + line)
    x2r, x2i = load(state, at + 2 * two), load(state, at + 2 * two + line)
    x3r, x3i = load(state, at + 3 * two), load(state, at + 3 * two + line)
    for k in range(count):
        row = two * index[k]
        uk = load(u, k * width)
        x0r, x0i = _moved(moves, bases[0] + row, width, x0r, x0i, uk)
        x1r, x1i = _moved(moves, bases[1] + row, width, x1r, x1i, uk)
        x2r, x2i = _moved(moves, bases[2] + row, width, x2r, x2i, uk)
        x3r, x3i = _moved(moves, bases[3] + row, width, x3r, x3i, uk)
        yk = load(y, k * width) + w0r * x0r - w0i * x0i + w1r * x1r - w1i * x1i
        store(y, k * width, yk + (w2r * x2r - w2i * x2i + w3r * x3r - w3i * x3i))
    store(state, at, x0r)
    store(state, at + line, x0i)
    store(state, at + two, x1r)
    store(state, at + two + line, x1i)
    store(state, at + 2 * two, x2r)
    store(state, at + 2 * two + line, x2i)
    store(state, at + 3 * two, x3r)
    store(state, at + 3 * two + line, x3i)


@inline
def load_two(saved: Any, origins: Any, width: int) -> Any:
    """The states of two modes that stand at ``origins`` in ``saved``."""
    return (
        (load(saved, origins[0]), load(saved, origins[0] + width)),
        (load(saved, origins[1]), load(saved, origins[1] + width)),
    )


@inline
def store_two(X: Any, k: int, width: int, x: Any, z: Any) -> None:
    """Write the states of two modes to entry ``k`` of the first and of the second half of ``X``."""
    at, imag = k * width, (CHUNK + 1) * width
    store(X, at, x[0])
    store(X, imag + at, x[1])
    store(X, 2 * imag + at, z[0])
    store(X, 3 * imag + at, z[1])


@routine
def advance_moves(
    X: Any, u: Any, saved: Any, origins: Any, moves: Any, bases: Any, index: Any, count: int, width: int
) -> None:
    """States of two modes over a chunk, into the first and the second half of ``X``.

    ``origins`` are where the states before the chunk stand in ``saved``.
    """
    x, z = load_two(saved, origins, width)
    for k in range(count):
        store_two(X, k, width, x, z)
        row, uk = 2 * index[k] * width, load(u, k * width)
        x = _moved(moves, bases[0] + row, width, x[0], x[1], uk)
        z = _moved(moves, bases[1] + row, width, z[0], z[1], uk)
    store_two(X, count, width, x, z)


@inline
def _adjoint_step(
    m: Any, x: Any, next_x: Any, w: Any, h: Any, sums: Any, g: Any, uk: Any, d: Any, a: Any, hold: bool
) -> Any:
    """One sample of `adjoint_moves`: h renewed, what goes back to the input, and the sums renewed."""
    (mr, mi), (xr, xi), (nr, ni) = m, x, next_x
    tr, ti, gr, gi = sums
    gr, gi = gr + g * nr, gi - g * ni
    hr, hi = h[0] + g * w[0], h[1] - g * w[1]
    qr, qi = conj_times(mr, mi, hr, hi)
    if hold:
        # The derivative of m by z is 1 + m.
        hr, hi = hr + qr, hi + qi
        er, ei = d * hr, d * hi
    else:
        # It is (1 + alpha m)^2.
        er, ei = hr + a * qr, hi + a * qi
        pr, pi = conj_times(mr, mi, er, ei)
        er, ei = d * (er + a * pr), d * (ei + a * pi)
        hr, hi = hr + qr, hi + qi
    sr = xr + uk
    return (hr, hi), qr, (tr + er * sr + ei * xi, ti + ei * sr - er * xi, gr, gi)


@routine
def adjoint_moves(
    X: Any,
    gy: Any,
    gu: Any,
    u: Any,
    moves: Any,
    bases: Any,
    index: Any,
    delta: Any,
    weights: Any,
    carry: Any,
    sums: Any,
    n: int,
    hold: bool,
    alpha: float,
    count: int,
    width: int,
) -> None:
    """Adjoint of `run_moves`; ``carry`` (N + GROUP - 1, 2, W), what later samples send back, is renewed.

    The sums of a mode are T, from which `collect_moves` has the gradient of lambda, and that of the weights.
    """
    imag = (CHUNK + 1) * width
    at, at_2 = 2 * n * width, 2 * (n + 1) * width
    to, to_2 = 2 * N_SUMS * n * width, 2 * N_SUMS * (n + 1) * width
    w, w_2 = (
        (load(weights, at), load(weights, at + width)),
        (load(weights, at_2), load(weights, at_2 + width)),
    )
    h, h_2 = (load(carry, at), load(carry, at + width)), (load(carry, at_2), load(carry, at_2 + width))
    held = load(sums, to), load(sums, to + width), load(sums, to + 2 * width), load(sums, to + 3 * width)
    held_2 = (
        load(sums, to_2),
        load(sums, to_2 + width),
        load(sums, to_2 + 2 * width),
        load(sums, to_2 + 3 * width),
    )
    a = splat(alpha, w[0])
    last = count * width
    x, z = (load(X, last), load(X, imag + last)), (load(X, 2 * imag + last), load(X, 3 * imag + last))
    for k in range(count - 1, -1, -1):
        back = k * width
        row = 2 * index[k] * width
        g, uk, d = load(gy, back), load(u, back), splat(delta[k], a)
        m = load(moves, bases[0] + row), load(moves, bases[0] + row + width)
        before = load(X, back), load(X, imag + back)
        h, q, held = _adjoint_step(m, before, x, w, h, held, g, uk, d, a, hold)
        x = before
        m = load(moves, bases[1] + row), load(moves, bases[1] + row + width)
        before = load(X, 2 * imag + back), load(X, 3 * imag + back)
        h_2, q_2, held_2 = _adjoint_step(m, before, z, w_2, h_2, held_2, g, uk, d, a, hold)
        z = before
        store(gu, back, load(gu, back) + q + q_2)
    store(carry, at, h[0])
    store(carry, at + width, h[1])
    store(carry, at_2, h_2[0])
    store(carry, at_2 + width, h_2[1])
    for i in range(4):
        store(sums, to + i * width, held[i])
        store(sums, to_2 + i * width, held_2[i])


@routine
def scale_final(
    X: Any, half: int, carry: Any, scale: Any, g_scale: Any, n: int, count: int, width: int
) -> None:
    """What comes back to the final state of mode ``n`` goes to the scale and to the scaled state."""
    at, last = 2 * n * width, half + count * width
    hr, hi = load(carry, at), load(carry, at + width)
    gr, gi = conj_times(load(X, last), load(X, last + (CHUNK + 1) * width), hr, hi)
    store(g_scale, at, load(g_scale, at) + gr)
    store(g_scale, at + width, load(g_scale, at + width) + gi)
    hr, hi = conj_times(load(scale, at), load(scale, at + width), hr, hi)
    store(carry, at, hr)
    store(carry, at + width, hi)


@routine
def collect_moves(
    sums: Any,
    g_scale: Any,
    quick: Any,
    scale: Any,
    system: Any,
    steps: Any,
    readout: Any,
    g_system: Any,
    g_steps: Any,
    g_readout: Any,
    width: int,
) -> None:
    """Send the sums of all modes to the gradients of the system, of the steps and of the readout.

    ``g_scale`` (N, 2, W) is the gradient of the scale that came by way of the final state.
    """
    s = load(steps, 0)
    for n in range(system.shape[0]):
        if not quick[n // GROUP]:
            continue
        at, to, of = 2 * n * width, 4 * n * width, 2 * N_SUMS * n * width
        lr, li = load(system, to), load(system, to + width)
        tr, ti = load(sums, of), load(sums, of + width)
        wr, wi = load(sums, of + 2 * width), load(sums, of + 3 * width)
        kr, ki = load(scale, at), load(scale, at + width)
        gr, gi = conj_times(kr, ki, wr, wi)
        store(g_readout, at, gr)
        store(g_readout, at + width, gi)
        gr, gi = conj_times(load(readout, at), load(readout, at + width), wr, wi)
        gr, gi = gr + load(g_scale, at), gi + load(g_scale, at + width)
        # The scale is B / lambda.
        ir, ii = inverse(lr, li)
        gr, gi = conj_times(ir, ii, gr, gi)
        store(g_system, to + 2 * width, load(g_system, to + 2 * width) + gr)
        store(g_system, to + 3 * width, load(g_system, to + 3 * width) + gi)
        gr, gi = conj_times(kr, ki, gr, gi)
        store(g_system, to, load(g_system, to) + s * tr - gr)
        store(g_system, to + width, load(g_system, to + width) + s * ti - gi)
        store(g_steps, 0, load(g_steps, 0) + lr * tr + li * ti)
