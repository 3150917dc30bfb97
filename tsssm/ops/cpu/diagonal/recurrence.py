"""The recurrence of one mode over a chunk of samples, and its adjoint, for W channels in registers.

Buffers of a chunk are flat and hold W numbers a sample, in the order of the scan: ``u`` and ``v`` (input
and previous input), ``X`` the states (real plane, then imaginary; entry 0 is the state before the chunk),
``G`` the gradient that the outputs of each sample send to its state. ``index`` is the row of each sample.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.rows import A, B, P, Q, accumulate, conj_times, get, times
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import add_to_sums, load_sums, store_sums


@njit(forceinline=True)
def _pair(n: int, modes: int) -> int:
    """The mode that is computed together with mode ``n``: the next one, or itself at the end."""
    return min(n + 1, modes - 1)


@njit(nogil=True)
def advance_constant(
    X: Any, u: Any, saved: Any, origin: int, rows: Any, plane: int, n: int, modes: int, count: int, width: int
) -> None:
    """States of modes n and n + 1 over a chunk of a regular grid, into the first and second half of ``X``.

    The input coefficient is 1: from rest the states are divided by Bbar, which the readout takes over. That
    saves a quarter of the arithmetic. Two modes at once, because each waits for its own last product.
    """
    imag = (CHUNK + 1) * width
    second = _pair(n, modes)
    ar, ai = get(rows, plane, A, n * width)
    cr, ci = get(rows, plane, A, second * width)
    at = origin + 2 * n * width
    xr, xi = load(saved, at), load(saved, at + width)
    at = origin + 2 * second * width
    zr, zi = load(saved, at), load(saved, at + width)
    for k in range(count):
        at = k * width
        store(X, at, xr)
        store(X, imag + at, xi)
        store(X, 2 * imag + at, zr)
        store(X, 3 * imag + at, zi)
        uk = load(u, at)
        xr, xi = uk + ar * xr - ai * xi, ar * xi + ai * xr
        zr, zi = uk + cr * zr - ci * zi, cr * zi + ci * zr
    at = count * width
    store(X, at, xr)
    store(X, imag + at, xi)
    store(X, 2 * imag + at, zr)
    store(X, 3 * imag + at, zi)


@njit(nogil=True)
def run_constant(
    u: Any,
    y: Any,
    rows: Any,
    plane: int,
    readout: Any,
    state: Any,
    n: int,
    modes: int,
    count: int,
    width: int,
) -> None:
    """`advance_constant` and a single readout in one sweep, keeping only the last states in ``state``."""
    second = _pair(n, modes)
    at, at_2 = 2 * n * width, 2 * (n + 1) * width
    ar, ai = get(rows, plane, A, n * width)
    cr, ci = get(rows, plane, A, second * width)
    br, bi = get(rows, plane, B, n * width)
    wr, wi = times(load(readout, at), load(readout, at + width), br, bi)
    br, bi = get(rows, plane, B, second * width)
    vr, vi = times(load(readout, 2 * second * width), load(readout, (2 * second + 1) * width), br, bi)
    if second == n:
        vr, vi = vr - vr, vi - vi
    xr, xi = load(state, at), load(state, at + width)
    zr, zi = load(state, at_2), load(state, at_2 + width)
    for k in range(count):
        uk = load(u, k * width)
        xr, xi = uk + ar * xr - ai * xi, ar * xi + ai * xr
        zr, zi = uk + cr * zr - ci * zi, cr * zi + ci * zr
        store(y, k * width, load(y, k * width) + wr * xr - wi * xi + vr * zr - vi * zi)
    store(state, at, xr)
    store(state, at + width, xi)
    store(state, at_2, zr)
    store(state, at_2 + width, zi)


@njit(forceinline=True)
def advance(
    X: Any,
    u: Any,
    v: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    count: int,
    width: int,
    foh: bool,
) -> None:
    """States of a chunk whose samples use a row each."""
    imag = (CHUNK + 1) * width
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        br, bi = br * uk, bi * uk
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            br, bi = br + qr * vk, bi + qi * vk
        xr, xi = br + ar * xr - ai * xi, bi + ar * xi + ai * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@njit(forceinline=True)
def adjoint_constant(
    X: Any, half: int, gy: Any, gu: Any, ar: Any, ai: Any, wr: Any, wi: Any, count: int, width: int, h: Any
) -> Any:
    """Adjoint of `run_constant` for the mode whose states start at ``half``.

    ``h`` is what later samples send back to the state; it is returned renewed, followed by the gradients of
    the transition and of the readout that this chunk adds.
    """
    imag = half + (CHUNK + 1) * width
    hr, hi = h
    zero = hr - hr
    gar, gai, gwr, gwi = zero, zero, zero, zero
    xr, xi = load(X, half + count * width), load(X, imag + count * width)
    for k in range(count - 1, -1, -1):
        at = k * width
        g = load(gy, at)
        gwr, gwi = gwr + g * xr, gwi - g * xi
        hr, hi = hr + g * wr, hi - g * wi
        xr, xi = load(X, half + at), load(X, imag + at)
        gar, gai = gar + xr * hr + xi * hi, gai + xr * hi - xi * hr
        store(gu, at, load(gu, at) + hr)
        hr, hi = conj_times(ar, ai, hr, hi)
    return (hr, hi), (gar, gai), (gwr, gwi)


@njit(forceinline=True)
def adjoint(
    X: Any,
    G: Any,
    u: Any,
    v: Any,
    gu: Any,
    gv: Any,
    rows: Any,
    grads: Any,
    plane: int,
    base: int,
    index: Any,
    delta: Any,
    sums: Any,
    n: int,
    way: int,
    count: int,
    width: int,
    foh: bool,
    h: Any,
) -> Any:
    """Adjoint of `advance`; ``h`` is what later samples send back, and is returned renewed.

    ``way`` is where the gradients of the rows go, one of those of ``tsssm.ops.cpu.sums``.
    """
    imag = (CHUNK + 1) * width
    hr, hi = h
    held = load_sums(way, grads, plane, base, sums, n, width)
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base + index[k] * width
        hr, hi = hr + load(G, at), hi + load(G, imag + at)
        xr, xi = load(X, at), load(X, imag + at)
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        held = add_to_sums(
            held,
            way,
            grads,
            plane,
            row,
            delta[k],
            (ar, ai),
            get(rows, plane, P, row),
            conj_times(xr, xi, hr, hi),
            (uk * hr, uk * hi),
        )
        store(gu, at, load(gu, at) + br * hr + bi * hi)
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            accumulate(grads, plane, Q, row, vk * hr, vk * hi)
            store(gv, at, load(gv, at) + qr * hr + qi * hi)
        hr, hi = conj_times(ar, ai, hr, hi)
    store_sums(held, way, grads, plane, base, sums, n, width)
    return hr, hi
